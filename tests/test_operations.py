"""The seven operations, transitions and batches over HTTP: answers, statuses, headers, refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.patience import soon
from tests.worlds import SHOP, build

PRODUCTS = "/api/v1/products"
CATEGORIES = "/api/v1/categories"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("shop"), SHOP)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """It, for what leaves nothing behind that another test would notice."""
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


@pytest_asyncio.fixture(loop_scope="session")
async def shop(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


def code(response: Any) -> str:
    error: str = response.json()["error"]["code"]
    return error


def details(response: Any) -> dict[str, str]:
    """Field -> code of a refusal."""
    return {one["field"]: one["code"] for one in response.json()["error"]["details"]}


async def a_category(client: Any, name: str = "Lamps") -> int:
    response = await client.post(CATEGORIES, json={"name": name})
    assert response.status_code == 201, response.text
    found: int = response.json()["data"]["id"]
    return found


async def a_product(client: Any, **values: Any) -> dict[str, Any]:
    if "categoryId" not in values:
        values["categoryId"] = await a_category(client)
    response = await client.post(PRODUCTS, json={"name": "Arc", **values})
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()["data"]
    return found


async def rows(application: TestedApplication, table: str) -> list[tuple[Any, ...]]:
    """Everything in a table with its row versions: what must not change."""
    async with application.connected.database.system() as transaction:
        found = await transaction.fetch(f"select xmin::text, t.*::text from {table} t order by 2")
    return [tuple(row) for row in found]


# --- create, read, list -----------------------------------------------------------------


async def test_create_answers_201_with_location_etag_and_the_whole_row(shop: TestedApplication) -> None:
    client = shop.client()
    category = await a_category(client)
    response = await client.post(
        PRODUCTS,
        json={
            "name": "Arc",
            "categoryId": category,
            "price": 12.5,
            "size": {"width": 3},
            "pin": "1234",
            "madeAt": "2024-01-01T10:00:00+02:00",
        },
    )
    assert response.status_code == 201
    body = response.json()
    row = body["data"]
    assert body["success"] is True
    assert body["message"] == "Product created"
    assert set(body["meta"]) == {"requestId", "timestamp"}
    assert response.headers["location"] == f"{PRODUCTS}/{row['id']}"
    assert response.headers["etag"] == '"1"'
    assert response.headers["x-request-id"] == body["meta"]["requestId"]
    assert '"price":12.50' in response.text
    assert row["madeAt"] == "2024-01-01T08:00:00.000000Z"
    assert row["size"] == {"width": 3, "unit": "mm"}
    assert row["status"] == "draft"
    assert row["isFeatured"] is False
    assert row["metadata"] == {}
    assert row["tags"] is None
    assert row["version"] == 1
    assert "pin" not in row and "tenantId" not in row
    read = await client.get(response.headers["location"])
    assert read.status_code == 200
    assert read.json()["data"] == row
    assert read.headers["etag"] == '"1"'


async def test_a_list_has_count_and_pagination(shop: TestedApplication) -> None:
    client = shop.client()
    names = [f"C{number}" for number in range(5)]
    created = await client.post(f"{CATEGORIES}/batch", json=[{"name": name} for name in names])
    assert created.status_code == 201
    response = await client.get(f"{CATEGORIES}?limit=2&page=2&sort=-name")
    body = response.json()
    assert [row["name"] for row in body["data"]] == ["C2", "C1"]
    assert body["count"] == 5
    following = body["pagination"].pop("next")
    assert body["pagination"] == {"page": 2, "limit": 2, "total": 5, "totalPages": 3}
    last = (await client.get(f"{CATEGORIES}?limit=2&sort=-name&cursor={following}")).json()
    assert [row["name"] for row in last["data"]] == ["C0"]
    assert last["pagination"] == {"page": 3, "limit": 2, "total": 5, "totalPages": 3}
    uncounted = (await client.get(f"{CATEGORIES}?count=none")).json()
    assert uncounted["count"] is None
    assert uncounted["pagination"]["total"] is None


async def test_a_read_is_answered_with_304_while_the_client_holds_the_version(
    shop: TestedApplication,
) -> None:
    client = shop.client()
    product = await a_product(client)
    url = f"{PRODUCTS}/{product['id']}"
    unchanged = await client.get(url, headers={"If-None-Match": 'W/"1"'})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == '"1"'
    assert (await client.get(url, headers={"If-None-Match": '"2"'})).status_code == 200
    included = await client.get(f"{url}?include=category", headers={"If-None-Match": '"1"'})
    assert included.status_code == 200
    assert "etag" not in included.headers
    head = await client.head(url)
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("tag", ["*", '"1"', '"99"', "no tag"])
async def test_a_write_is_never_done_past_if_none_match(shop: TestedApplication, tag: str) -> None:
    client = shop.client()
    product = await a_product(client)
    for url, status in ((f"{PRODUCTS}/{product['id']}", 412), (f"{PRODUCTS}/999", 404)):
        for method, body in (("PATCH", {"price": 1}), ("PUT", product), ("DELETE", None)):
            answer = await client.request(method, url, json=body, headers={"If-None-Match": tag})
            assert answer.status_code == status, (method, answer.text)
    assert (await client.get(f"{PRODUCTS}/{product['id']}")).json()["data"] == product


@pytest.mark.parametrize(
    "key", ["0", "-1", "999999", "abc", "1.0", "%20", "9" * 40, "1%00", "%D9%A1", "1e0", "+1", "01"]
)
async def test_an_id_that_names_nothing_is_404_for_every_operation(shop: TestedApplication, key: str) -> None:
    client = shop.client()
    await a_product(client)
    category = await a_category(client, "Other")
    body = {"name": "x", "categoryId": category}
    for method, sent in (("GET", None), ("PUT", body), ("PATCH", {"name": "x"}), ("DELETE", None)):
        response = await client.request(method, f"{PRODUCTS}/{key}", json=sent)
        assert response.status_code in ((400, 404) if "%00" in key else (404,)), (method, response.text)
    assert (await client.post(f"{PRODUCTS}/{key}/publish")).status_code in (400, 404)


@pytest.mark.parametrize("segment", ["tickets", "slots"])
async def test_uuid_and_ulid_keys_are_made_here_and_found_again(
    shop: TestedApplication, segment: str
) -> None:
    client = shop.client()
    many = await client.post(f"/api/v1/{segment}/batch", json=[{"title": f"t{n}"} for n in range(3)])
    assert many.status_code == 201, many.text
    keys = [row["id"] for row in many.json()["data"]]
    assert len(set(keys)) == 3 and keys == sorted(keys)
    for key in keys:
        assert (await client.get(f"/api/v1/{segment}/{key}")).json()["data"]["id"] == key
        assert (await client.patch(f"/api/v1/{segment}/{key}", json={"title": "new"})).status_code == 200
    for wrong in ("1", "x", "00000000-0000-0000-0000-000000000000", "0" * 26):
        assert (await client.get(f"/api/v1/{segment}/{wrong}")).status_code == 404
    found = await client.get(f"/api/v1/{segment}", params={"filter[id]": keys[1]})
    assert [row["id"] for row in found.json()["data"]] == [keys[1]]


# --- PUT --------------------------------------------------------------------------------


async def test_what_get_returned_can_be_put_back(shop: TestedApplication) -> None:
    client = shop.client()
    product = await a_product(client, price=3, metadata={"a": [1, 2.50]}, tags=["x"], size={"width": 2})
    url = f"{PRODUCTS}/{product['id']}"
    await client.post(f"{url}/publish")
    row = (await client.get(url)).json()["data"]
    put = await client.put(url, json=row)
    assert put.status_code == 200, put.text
    same = {name: value for name, value in put.json()["data"].items() if name not in ("version", "updatedAt")}
    assert same == {name: value for name, value in row.items() if name not in ("version", "updatedAt")}
    assert put.headers["etag"] == '"3"'


async def test_put_gives_absent_fields_their_default_or_null(shop: TestedApplication) -> None:
    client = shop.client()
    product = await a_product(client, price=3, metadata={"a": 1}, tags=["x"], pin="1")
    url = f"{PRODUCTS}/{product['id']}"
    put = await client.put(url, json={"name": "New", "categoryId": product["categoryId"]})
    row = put.json()["data"]
    assert (row["name"], row["price"], row["metadata"], row["tags"]) == ("New", None, {}, None)
    async with shop.connected.database.system() as transaction:
        assert await transaction.fetchval("select pin from products") == "1"
    missing = await client.put(url, json={"price": 1})
    assert missing.status_code == 422
    assert details(missing) == {"name": "required", "categoryId": "required"}


async def test_put_refuses_read_only_fields_that_differ_from_what_is_stored(shop: TestedApplication) -> None:
    client = shop.client()
    product = await a_product(client)
    url = f"{PRODUCTS}/{product['id']}"
    before = await rows(shop, "products")
    changed = {**product, "id": product["id"] + 1, "isFeatured": True, "status": "published", "version": 7}
    changed["createdAt"] = "2020-01-01T00:00:00Z"
    response = await client.put(url, json=changed)
    assert response.status_code == 422
    assert details(response) == dict.fromkeys(
        ("id", "isFeatured", "status", "version", "createdAt"), "read_only"
    )
    assert await rows(shop, "products") == before
    assert (await client.put(f"{PRODUCTS}/999999", json=product)).status_code == 404


async def test_put_tells_what_must_be_as_stored_before_what_is_taken(shop: TestedApplication) -> None:
    admin, editor = shop.client(), shop.client(role="Editor")
    first = await a_product(admin)
    other = (await admin.post(PRODUCTS, json={"name": "Other", "categoryId": first["categoryId"]})).json()
    url, taken = f"{PRODUCTS}/{other['data']['id']}", {**other["data"], "name": first["name"]}
    for client, wrong, status, code in (
        (admin, {"isFeatured": True}, 422, "read_only"),
        (editor, {"metadata": {"mine": 1}}, 403, "forbidden"),
    ):
        refused = await client.put(url, json={**taken, **wrong})
        assert (refused.status_code, details(refused)) == (status, dict.fromkeys(wrong, code))
        assert (await client.put(url, json=taken)).status_code == 409
    assert (await editor.get(url)).json()["data"] == other["data"]


async def test_put_replaces_the_fields_that_the_caller_may_write_and_no_other(
    shop: TestedApplication,
) -> None:
    admin, editor = shop.client(), shop.client(role="Editor")
    product = await a_product(admin, price=3, metadata={"kept": True}, tags=["kept"])
    url = f"{PRODUCTS}/{product['id']}"
    put = await editor.put(url, json={"name": "Edited", "categoryId": product["categoryId"]})
    assert put.status_code == 200, put.text
    row = put.json()["data"]
    assert (row["name"], row["price"]) == ("Edited", None)
    assert (row["metadata"], row["tags"]) == ({"kept": True}, ["kept"])
    back = await editor.put(url, json=row)
    assert back.status_code == 200, back.text
    refused = await editor.put(url, json={**row, "metadata": {"mine": 1}})
    assert refused.status_code == 403
    assert details(refused) == {"metadata": "forbidden"}


# --- PATCH ------------------------------------------------------------------------------


async def test_a_merge_patch_changes_what_it_names(shop: TestedApplication) -> None:
    client = shop.client()
    product = await a_product(client, price=3, metadata={"a": {"b": 1, "c": 2}, "d": 3}, size={"width": 1})
    url = f"{PRODUCTS}/{product['id']}"
    patched = await client.patch(
        url,
        json={"metadata": {"a": {"b": None, "e": [1]}, "f": "new"}, "price": None, "size": {"width": 2}},
        headers={"Content-Type": "application/merge-patch+json"},
    )
    row = patched.json()["data"]
    assert row["metadata"] == {"a": {"c": 2, "e": [1]}, "d": 3, "f": "new"}
    assert (row["price"], row["name"], row["size"]) == (None, "Arc", {"width": 2, "unit": "mm"})
    assert patched.headers["etag"] == '"2"'
    nothing = await client.patch(url, json={})
    assert nothing.status_code == 200
    for name in ("id", "tenantId", "tenant_id", "createdAt", "version", "status", "isFeatured"):
        refused = await client.patch(url, json={name: 1})
        assert refused.status_code == 422
        assert details(refused)[name] in ("read_only", "unknown_field")


async def test_a_json_patch_applies_its_steps_to_the_row(shop: TestedApplication) -> None:
    client = shop.client()
    product = await a_product(client, price=3, metadata={"a": 1, "gone": 2}, tags=["x", "y"])
    url = f"{PRODUCTS}/{product['id']}"

    async def steps(*sent: Any) -> Any:
        return await client.patch(
            url, content=json.dumps(sent), headers={"Content-Type": "application/json-patch+json"}
        )

    done = await steps(
        {"op": "test", "path": "/name", "value": "Arc"},
        {"op": "replace", "path": "/name", "value": "Zed"},
        {"op": "remove", "path": "/metadata/gone"},
        {"op": "add", "path": "/tags/1", "value": "between"},
        {"op": "copy", "from": "/tags/0", "path": "/tags/-"},
        {"op": "move", "from": "/metadata/a", "path": "/metadata/b~1c"},
        {"op": "remove", "path": "/price"},
    )
    row = done.json()["data"]
    assert done.status_code == 200, done.text
    assert (row["name"], row["metadata"], row["price"]) == ("Zed", {"b/c": 1}, None)
    assert row["tags"] == ["x", "between", "y", "x"]
    before = await rows(shop, "products")
    failed = await steps(
        {"op": "replace", "path": "/name", "value": "No"}, {"op": "test", "path": "/name", "value": "x"}
    )
    assert (failed.status_code, code(failed)) == (409, "conflict")
    for wrong in (
        [{"op": "destroy", "path": "/name"}],
        [{"op": "replace", "path": "name", "value": 1}],
        [{"op": "replace", "path": "/nothing", "value": 1}],
        [{"op": "replace", "path": "/status", "value": "published"}],
        [{"op": "replace", "path": "/id", "value": 5}],
        [{"op": "add", "path": "/tags/9", "value": "x"}],
        [{"op": "add", "path": "/name"}],
        ["x"],
        [{"op": "replace", "path": "/isFeatured", "value": 0}],
        [{"op": "add", "path": "/unknown", "value": 1}],
        [{"op": "add", "path": "/metadata/~2", "value": 1}],
        [{"op": "add", "path": "/metadata/x~", "value": 1}],
        [{"op": "copy", "from": "/metadata/~~0", "path": "/metadata/y"}],
    ):
        refused = await steps(*wrong)
        assert refused.status_code == 422, (wrong, refused.text)
    assert (await steps({"op": "test", "path": "/isFeatured", "value": 0})).status_code == 409
    whole = await client.patch(url, content="{}", headers={"Content-Type": "application/json-patch+json"})
    assert whole.status_code == 422
    assert await rows(shop, "products") == before


async def test_field_rules_hold_for_patch_on_the_rows_they_are_about(shop: TestedApplication) -> None:
    admin, editor, viewer = shop.client(), shop.client(role="Editor"), shop.client(role="Viewer")
    product = await a_product(admin, price=3)
    url = f"{PRODUCTS}/{product['id']}"
    assert (await editor.patch(url, json={"name": "a", "price": 4})).status_code == 200
    refused = await editor.patch(url, json={"name": "b", "tags": ["x"], "pin": "9"})
    assert (refused.status_code, details(refused)) == (403, {"pin": "forbidden", "tags": "forbidden"})
    assert (await viewer.patch(url, json={"name": "c"})).status_code == 403
    assert (await admin.post(f"{url}/publish")).status_code == 200
    before = await rows(shop, "products")
    # The price may be changed while it is a draft only: here it is not.
    assert (await editor.patch(url, json={"price": 5})).status_code == 403
    assert (await editor.patch(url, json={"price": 5, "name": "d"})).status_code == 403
    many = {"operation": "patch", "items": [{"id": product["id"], "price": 5}]}
    assert (await editor.post(f"{PRODUCTS}/batch", json=many)).status_code == 403
    step = {"operation": "patch", "resource": "Products", "id": product["id"], "data": {"price": 5}}
    assert (await editor.post("/api/v1/batch", json=[step])).status_code == 403
    assert await rows(shop, "products") == before
    assert (await editor.patch(url, json={"name": "e"})).status_code == 200


# --- DELETE -----------------------------------------------------------------------------


async def test_delete_answers_204_and_the_row_is_gone(shop: TestedApplication) -> None:
    client = shop.client()
    product = await a_product(client)
    url = f"{PRODUCTS}/{product['id']}"
    gone = await client.delete(url)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await client.get(url)).status_code == 404
    assert (await client.delete(url)).status_code == 404


async def test_a_deletion_passes_over_nothing_that_is_sent(shop: TestedApplication) -> None:
    client = shop.client()
    product = await a_product(client)
    url, step = f"{PRODUCTS}/{product['id']}", {"operation": "delete", "resource": "Products"}
    before = await rows(shop, "products")
    for body, expected in (({"foo": 1}, {"foo": "unknown_field"}), ([1], {"": "type"}), ("x", {"": "type"})):
        refused = await client.request("DELETE", url, json=body)
        assert (refused.status_code, details(refused)) == (422, expected)
        together = await client.post("/api/v1/batch", json=[{**step, "id": product["id"], "data": body}])
        assert together.status_code == 422, together.text
    for content, kind, status in (("{", "application/json", 400), ("x", "text/plain", 415)):
        refused = await client.request("DELETE", url, content=content, headers={"Content-Type": kind})
        assert refused.status_code == status, refused.text
    assert (await client.request("DELETE", f"{PRODUCTS}/99999", json={"foo": 1})).status_code == 404
    viewer = shop.client(role="Viewer")
    assert (await viewer.request("DELETE", url, json={"foo": 1})).status_code == 403
    assert await rows(shop, "products") == before


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"", {"Content-Type": "application/json"}), (b"", {"Content-Type": "text/plain"}),
        (b"", {"Content-Length": "0"}), (b"{}", {"Content-Type": "application/json"}),
        (b"null", {"Content-Type": "application/json"}), ("chunks", {}),
        ("chunks", {"Content-Type": "text/plain"}),
    ],
)  # fmt: skip
async def test_a_deletion_takes_what_holds_nothing(
    shop: TestedApplication, content: Any, headers: dict[str, str]
) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    client = shop.client()
    product = await a_product(client)
    gone = await client.request(
        "DELETE",
        f"{PRODUCTS}/{product['id']}",
        content=nothing() if content == "chunks" else content,
        headers=headers,
    )
    assert gone.status_code == 204, gone.text


async def test_reads_inside_a_batch_take_a_query_or_nothing(shop: TestedApplication) -> None:
    client = shop.client()
    await a_product(client)
    step = {"operation": "list", "resource": "Products"}
    for data in ([1], "x", 5, False):
        refused = await client.post("/api/v1/batch", json=[{**step, "data": data}])
        assert (refused.status_code, details(refused)) == (422, {"0.data": "type"})
    assert (await client.post("/api/v1/batch", json=[{**step, "data": None}, step])).status_code == 200


async def test_what_is_referred_to_is_not_deleted(shop: TestedApplication) -> None:
    client = shop.client()
    product = await a_product(client)
    refused = await client.delete(f"{CATEGORIES}/{product['categoryId']}")
    assert (refused.status_code, code(refused)) == (409, "referenced_conflict")
    assert "constraint" not in refused.text


async def test_soft_deletion_hides_a_row_everywhere_and_frees_its_unique_value(
    shop: TestedApplication,
) -> None:
    client = shop.client()
    note = (await client.post("/api/v1/notes", json={"title": "a"})).json()["data"]
    other = (await client.post("/api/v1/notes", json={"title": "b"})).json()["data"]
    comment = await client.post("/api/v1/comments", json={"text": "x", "noteId": note["id"]})
    refused = await client.delete(f"/api/v1/notes/{note['id']}")
    assert (refused.status_code, code(refused)) == (409, "referenced_conflict")
    assert (await client.delete(f"/api/v1/comments/{comment.json()['data']['id']}")).status_code == 204
    assert (await client.delete(f"/api/v1/notes/{note['id']}")).status_code == 204
    assert (await client.get(f"/api/v1/notes/{note['id']}")).status_code == 404
    assert (await client.patch(f"/api/v1/notes/{note['id']}", json={"title": "z"})).status_code == 404
    assert (await client.delete(f"/api/v1/notes/{note['id']}")).status_code == 404
    listed = (await client.get("/api/v1/notes")).json()
    assert [row["id"] for row in listed["data"]] == [other["id"]]
    assert listed["count"] == 1
    reference = await client.post("/api/v1/comments", json={"text": "x", "noteId": note["id"]})
    assert (reference.status_code, details(reference)) == (422, {"noteId": "reference"})
    assert (await client.post("/api/v1/notes", json={"title": "a"})).status_code == 201
    again = await client.post("/api/v1/notes", json={"title": "a"})
    assert (again.status_code, code(again)) == (409, "unique_conflict")


# --- conflicts and references -----------------------------------------------------------


async def test_a_unique_clash_is_409_and_names_the_fields(shop: TestedApplication) -> None:
    client, beta = shop.client(), shop.client(tenant="beta")
    await a_category(client, "Lamps")
    clash = await client.post(CATEGORIES, json={"name": "Lamps"})
    assert (clash.status_code, code(clash), details(clash)) == (409, "unique_conflict", {"name": "unique"})
    assert (await beta.post(CATEGORIES, json={"name": "Lamps"})).status_code == 201
    product = await a_product(client, categoryId=await a_category(client, "Chairs"))
    twice = await client.post(PRODUCTS, json={"name": "Arc", "categoryId": product["categoryId"]})
    assert details(twice) == {"categoryId": "unique", "name": "unique"}


@pytest.mark.parametrize("key", [999999, 0, -1, 2**63 - 1])
async def test_a_reference_to_nothing_is_422(shop: TestedApplication, key: int) -> None:
    client = shop.client()
    response = await client.post(PRODUCTS, json={"name": "x", "categoryId": key})
    assert (response.status_code, details(response)) == (422, {"categoryId": "reference"})


async def test_a_reference_to_another_tenants_row_is_worded_as_for_an_unknown_id(
    shop: TestedApplication,
) -> None:
    client, beta = shop.client(), shop.client(tenant="beta")
    theirs = await a_category(beta, "Theirs")
    for _ in range(5):
        theirs = await a_category(beta, f"Theirs {theirs}")
    product = await a_product(client)
    known = await client.patch(f"{PRODUCTS}/{product['id']}", json={"categoryId": theirs})
    unknown = await client.patch(f"{PRODUCTS}/{product['id']}", json={"categoryId": 999999})
    assert known.status_code == unknown.status_code == 422
    assert known.json()["error"]["details"] == unknown.json()["error"]["details"]


# --- preconditions ----------------------------------------------------------------------


async def test_if_match_guards_every_write_of_a_versioned_row(shop: TestedApplication) -> None:
    client = shop.client()
    product = await a_product(client)
    url = f"{PRODUCTS}/{product['id']}"
    body = {"name": "n", "categoryId": product["categoryId"]}
    before = await rows(shop, "products")
    for method, path, sent in (
        ("PUT", url, body),
        ("PATCH", url, {"name": "n"}),
        ("PATCH", url, {"metadata": {"x": 1}}),
        ("DELETE", url, None),
        ("POST", f"{url}/publish", None),
    ):
        stale = await client.request(method, path, json=sent, headers={"If-Match": '"9"'})
        assert (stale.status_code, code(stale)) == (412, "precondition_failed"), (method, path)
        weak = await client.request(method, path, json=sent, headers={"If-Match": 'W/"1"'})
        assert weak.status_code == 412
        broken = await client.request(method, path, json=sent, headers={"If-Match": "1"})
        assert broken.status_code == 400
    assert await rows(shop, "products") == before
    assert (await client.patch(url, json={"name": "a"}, headers={"If-Match": '"1"'})).status_code == 200
    assert (await client.patch(url, json={"name": "b"}, headers={"If-Match": "*"})).status_code == 200
    assert (await client.patch(url, json={"name": "c"}, headers={"If-Match": '"3", "x"'})).status_code == 200
    for method, path, sent in (
        ("PATCH", url, {"name": "d"}),
        ("PATCH", url, {"metadata": {"x": 1}}),
        ("PUT", url, body),
        ("POST", f"{url}/publish", None),
    ):
        version = (await client.get(url)).json()["data"]["version"]
        zeros = f'"0{version}"', f'"000{version}", "{version + 1}"'
        for tags in (f'"{version + 1}", "{version + 2}"', f'"1", W/"{version}"', *zeros):
            stale = await client.request(method, path, json=sent, headers={"If-Match": tags})
            assert (stale.status_code, code(stale)) == (412, "precondition_failed"), (method, path, tags)
        any_of = {"If-Match": f'"{version - 1}" , "{version}", "x","{version + 1}"'}
        done = await client.request(method, path, json=sent, headers=any_of)
        assert (done.status_code, done.headers["etag"]) == (200, f'"{version + 1}"'), (method, path)
    assert (
        await client.patch(f"{url}9", json={"name": "c"}, headers={"If-Match": '"3", "4"'})
    ).status_code == 404
    long = await client.patch(url, json={"name": "c"}, headers={"If-Match": '"' + "4" * 10_000 + '"'})
    assert long.status_code in (400, 412)
    version = (await client.get(url)).json()["data"]["version"]
    assert (await client.delete(url, headers={"If-Match": f'"1", "{version}"'})).status_code == 204


async def test_a_resource_may_demand_if_match_on_every_way_to_write(shop: TestedApplication) -> None:
    client = shop.client()
    created = await client.post("/api/v1/contracts", json={"title": "a"})
    key = created.json()["data"]["id"]
    url = f"/api/v1/contracts/{key}"
    before = await rows(shop, "contracts")
    ways = [
        ("PUT", url, {"title": "b"}),
        ("PATCH", url, {"title": "b"}),
        ("DELETE", url, None),
        ("POST", f"{url}/sign", None),
        ("POST", "/api/v1/contracts/batch", {"operation": "patch", "items": [{"id": key, "title": "b"}]}),
        ("POST", "/api/v1/contracts/batch", {"operation": "update", "items": [{"id": key, "title": "b"}]}),
        ("POST", "/api/v1/contracts/batch", {"operation": "delete", "items": [key]}),
        ("POST", "/api/v1/batch", [{"operation": "delete", "resource": "Contracts", "id": key}]),
        ("POST", "/api/v1/batch", [{"operation": "sign:post", "resource": "Contracts", "id": key}]),
        (
            "POST",
            "/api/v1/batch",
            [{"operation": "patch", "resource": "Contracts", "id": key, "data": {"title": "b"}}],
        ),
    ]
    for method, path, body in ways:
        response = await client.request(method, path, json=body)
        assert (response.status_code, code(response)) == (428, "precondition_required"), (method, path, body)
    assert await rows(shop, "contracts") == before
    updated = {"operation": "update", "items": [{"id": key, "title": "b", "version": 1}]}
    assert (await client.post("/api/v1/contracts/batch", json=updated)).status_code == 200
    stale = await client.post("/api/v1/contracts/batch", json=updated)
    assert stale.status_code in (412, 422)
    assert (await client.post(f"{url}/sign", headers={"If-Match": '"2"'})).status_code == 200
    before = await rows(shop, "contracts")
    for method, path, body in ways[:4]:  # `*` would let anybody overwrite what he has never seen
        response = await client.request(method, path, json=body, headers={"If-Match": "*"})
        assert (response.status_code, code(response)) == (428, "precondition_required"), (method, path)
    assert await rows(shop, "contracts") == before
    assert (await client.delete(url, headers={"If-Match": '"3"'})).status_code == 204


async def test_not_found_comes_before_every_precondition(shop: TestedApplication) -> None:
    client = shop.client()
    created = (await client.post("/api/v1/contracts", json={"title": "a"})).json()["data"]
    for tag in ({}, {"If-Match": "*"}, {"If-Match": '"9"'}, {"If-Match": '"none"'}):
        for client_, key in ((client, created["id"] + 1_000), (shop.client(tenant="beta"), created["id"])):
            nowhere = await client_.patch(f"/api/v1/contracts/{key}", json={"title": "b"}, headers=tag)
            assert (nowhere.status_code, code(nowhere)) == (404, "not_found"), tag


async def test_a_write_that_changes_nothing_is_a_write(shop: TestedApplication) -> None:
    client = shop.client()
    contract = (await client.post("/api/v1/contracts", json={"title": "a"})).json()["data"]
    url, before = f"/api/v1/contracts/{contract['id']}", contract
    for method, body in (("PATCH", {}), ("PATCH", {"title": "a"}), ("PUT", {"title": "a"})):
        tag = {"If-Match": f'"{before["version"]}"'}
        written = await client.request(method, url, json=body, headers=tag)
        assert written.status_code == 200, written.text
        after = written.json()["data"]
        assert (after["version"], after["title"]) == (before["version"] + 1, "a")
        assert after["updatedAt"] > before["updatedAt"]
        before = after


async def test_prefer_return_minimal_saves_the_row(shop: TestedApplication) -> None:
    client = shop.client(headers={"Prefer": "return=minimal"})
    created = await client.post(CATEGORIES, json={"name": "a"})
    assert (created.status_code, created.content) == (201, b"")
    assert created.headers["preference-applied"] == "return=minimal"
    patched = await client.patch(created.headers["location"], json={"name": "b"})
    assert (patched.status_code, patched.content) == (204, b"")
    assert (await client.get(created.headers["location"])).json()["data"]["name"] == "b"


async def test_concurrent_increments_with_if_match_lose_nothing(shop: TestedApplication) -> None:
    client = shop.client()
    product = await a_product(client, metadata={"n": 0})
    url = f"{PRODUCTS}/{product['id']}"

    async def increment() -> None:
        while True:
            read = await client.get(url)
            count = read.json()["data"]["metadata"]["n"] + 1
            done = await client.patch(
                url, json={"metadata": {"n": count}}, headers={"If-Match": read.headers["etag"]}
            )
            if done.status_code == 200:
                return
            assert done.status_code in (409, 412), done.text

    await asyncio.gather(*(increment() for _ in range(12)))
    assert (await client.get(url)).json()["data"]["metadata"] == {"n": 12}


# --- transitions ------------------------------------------------------------------------


async def test_only_transitions_change_the_state_and_only_in_order(shop: TestedApplication) -> None:
    client, editor = shop.client(), shop.client(role="Editor")
    product = await a_product(client)
    url = f"{PRODUCTS}/{product['id']}"
    illegal = await client.post(f"{url}/retire")
    assert (illegal.status_code, code(illegal)) == (409, "state_conflict")
    done = await client.post(f"{url}/publish")
    assert (done.status_code, done.json()["data"]["status"], done.headers["etag"]) == (
        200,
        "published",
        '"2"',
    )
    assert (await client.post(f"{url}/publish")).status_code == 409
    assert (await editor.post(f"{url}/retire")).status_code == 403
    assert (await client.post(f"{url}/retire")).json()["data"]["status"] == "retired"
    names = [event.name for event in await shop.events()]
    assert names.count("product.published") == 1
    created = await client.post(
        PRODUCTS, json={"name": "x", "categoryId": product["categoryId"], "status": "published"}
    )
    assert (created.status_code, details(created)) == (422, {"status": "read_only"})


async def test_a_transition_passes_over_nothing_that_is_sent(shop: TestedApplication) -> None:
    client = shop.client()
    product = await a_product(client)
    url, step = f"{PRODUCTS}/{product['id']}/publish", {"operation": "publish:post", "resource": "Products"}
    before = await rows(shop, "products")
    for body, expected in (({"foo": 1, "status": "x"}, {"foo": "unknown_field", "status": "unknown_field"}),
                           ([1], {"": "type"}), ("x", {"": "type"})):  # fmt: skip
        refused = await client.post(url, json=body)
        assert (refused.status_code, details(refused)) == (422, expected)
        together = await client.post("/api/v1/batch", json=[{**step, "id": product["id"], "data": body}])
        assert together.status_code == 422, together.text
    assert (
        await client.post(url, content="{", headers={"Content-Type": "application/json"})
    ).status_code == 400
    assert (await client.post(f"{PRODUCTS}/99999/publish", json={"foo": 1})).status_code == 404
    assert await rows(shop, "products") == before
    assert (await client.post(url, json={})).status_code == 200


async def test_of_two_transitions_at_once_one_wins(shop: TestedApplication) -> None:
    client = shop.client()
    product = await a_product(client)
    url = f"{PRODUCTS}/{product['id']}/publish"
    answers = await asyncio.gather(*(client.post(url) for _ in range(6)))
    assert sorted(one.status_code for one in answers) == [200, 409, 409, 409, 409, 409]


# --- batches ----------------------------------------------------------------------------


async def test_a_batch_creates_in_order_or_not_at_all(shop: TestedApplication) -> None:
    client = shop.client()
    category = await a_category(client)
    items = [{"name": f"P{n}", "categoryId": category, "price": n} for n in range(40)]
    done = await client.post(f"{PRODUCTS}/batch", json=items)
    assert done.status_code == 201
    assert [row["name"] for row in done.json()["data"]] == [item["name"] for item in items]
    before = await rows(shop, "products")
    clash = [{"name": "Q", "categoryId": category}, {"name": "P1", "categoryId": category}]
    refused = await client.post(f"{PRODUCTS}/batch", json=clash)
    assert (refused.status_code, details(refused)) == (409, {"1.categoryId": "unique", "1.name": "unique"})
    invalid = [
        {"name": "R", "categoryId": category},
        {"name": 1},
        {"x": 1, "name": "S", "categoryId": category},
    ]
    faulty = await client.post(f"{PRODUCTS}/batch", json=invalid)
    assert faulty.status_code == 422
    assert details(faulty) == {"1.name": "type", "1.categoryId": "required", "2.x": "unknown_field"}
    lost = await client.post(
        f"{PRODUCTS}/batch", json=[{"name": "T", "categoryId": category}, {"name": "U", "categoryId": 99999}]
    )
    assert (lost.status_code, details(lost)) == (422, {"1.categoryId": "reference"})
    assert await rows(shop, "products") == before


async def test_what_names_no_row_is_given_none(shop: TestedApplication) -> None:
    client, before = shop.client(), await rows(shop, "categories")
    for step in (
        {"operation": "create", "resource": "Categories", "id": 7, "data": {"name": "new"}},
        {"operation": "list", "resource": "Categories", "id": "7"},
    ):
        refused = await client.post("/api/v1/batch", json=[step])
        assert (refused.status_code, details(refused)) == (422, {"0.id": "unsupported"}), refused.text
    assert await rows(shop, "categories") == before


@pytest.mark.parametrize("operation", ["update", "patch", "delete"])
async def test_a_batch_that_names_one_missing_row_changes_nothing(
    shop: TestedApplication, operation: str
) -> None:
    client = shop.client()
    category = await a_category(client)
    made = await client.post(
        f"{PRODUCTS}/batch", json=[{"name": f"P{n}", "categoryId": category} for n in range(9)]
    )
    keys = [row["id"] for row in made.json()["data"]]
    before = await rows(shop, "products")
    value = {} if operation == "delete" else {"name": "new", "categoryId": category}
    items = [{"id": key, **value, **({"name": f"N{key}"} if value else {})} for key in [*keys[:8], 999999]]
    refused = await client.post(f"{PRODUCTS}/batch", json={"operation": operation, "items": items})
    assert (refused.status_code, code(refused)) == (404, "not_found")
    assert list(details(refused)) == ["8"]
    assert await rows(shop, "products") == before
    done = await client.post(f"{PRODUCTS}/batch", json={"operation": operation, "items": items[:8]})
    assert done.status_code == 200, done.text
    assert len(done.json()["data"]) == 8
    left = (await client.get(PRODUCTS)).json()["data"]
    if operation == "delete":
        assert [row["id"] for row in left] == keys[8:]
    else:
        assert {row["name"] for row in left} == {*(f"N{key}" for key in keys[:8]), "P8"}


async def test_a_batch_that_is_not_atomic_has_an_outcome_per_item(shop: TestedApplication) -> None:
    client = shop.client()
    category = await a_category(client)
    items = [
        {"name": "a", "categoryId": category},
        {"name": "a", "categoryId": category},
        {"name": 1},
        {"name": "b", "categoryId": 99999},
        {"name": "c", "categoryId": category},
    ]
    response = await client.post(
        f"{PRODUCTS}/batch", json={"operation": "create", "items": items, "atomic": False}
    )
    assert response.status_code == 200
    outcomes = response.json()["data"]
    assert [one["index"] for one in outcomes] == [0, 1, 2, 3, 4]
    assert [one["success"] for one in outcomes] == [True, False, False, False, True]
    faults = [one["error"] for one in outcomes if not one["success"]]
    assert [one["statusCode"] for one in faults] == [409, 422, 422]
    # Whoever finds the fault: the fields are told by the item's index.
    told = [{fault["field"]: fault["code"] for fault in one["details"]} for one in faults]
    assert told == [
        {"1.categoryId": "unique", "1.name": "unique"},
        {"2.name": "type", "2.categoryId": "required"},
        {"3.categoryId": "reference"},
    ]
    assert len((await client.get(PRODUCTS)).json()["data"]) == 2
    events = [event for event in await shop.events() if event.name == "products.created"]
    assert sorted(event.data["name"] for event in events) == ["a", "c"]
    async with shop.connected.database.system() as transaction:
        assert (
            await transaction.fetchval("select count(*) from byodpp.events() where name = 'products.created'")
            == 2
        )


async def test_a_batch_may_upsert(shop: TestedApplication) -> None:
    client = shop.client()
    product = await a_product(client)
    category = product["categoryId"]
    items = [
        {"id": product["id"], "name": "changed", "categoryId": category},
        {"name": "made", "categoryId": category},
    ]
    done = await client.post(f"{PRODUCTS}/batch", json={"operation": "upsert", "items": items})
    assert done.status_code == 200, done.text
    assert [row["name"] for row in done.json()["data"]] == ["changed", "made"]
    assert done.json()["data"][0]["id"] == product["id"]
    missing = [{"id": 999999, "name": "x", "categoryId": category}]
    refused = await client.post(f"{PRODUCTS}/batch", json={"operation": "upsert", "items": missing})
    assert refused.status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ([], 422),
        ({"operation": "create", "items": []}, 422),
        ({"operation": "delete", "items": []}, 422),
        ({"operation": "explode", "items": [{}]}, 422),
        ({"items": [{}]}, 422),
        ({"operation": "create", "items": {}}, 422),
        ({"operation": "create", "items": [{}], "atomic": "no"}, 422),
        ({"operation": "create", "items": [{}], "more": 1}, 422),
        ([[{"name": "x"}]], 422),
        ("x", 422),
        ({"operation": "patch", "items": [{"name": "x"}]}, 422),
        ({"operation": "patch", "items": [{"id": True, "name": "x"}]}, 422),
        ({"operation": "patch", "items": [{"id": 1}, {"id": 1}]}, 409),
        ({"operation": "patch", "items": [{"id": 1}, {"id": "1"}]}, 409),
        ({"operation": "delete", "items": [1, 1]}, 409),
        ({"operation": "delete", "items": [{"id": 1, "name": "x"}]}, 404),  # there is no row 1
        ([{"name": "x"}] * 1001, 413),
    ],
)
async def test_a_batch_that_is_no_batch_is_refused(shared: TestedApplication, body: Any, status: int) -> None:
    response = await shared.client().post(f"{CATEGORIES}/batch", json=body)
    assert response.status_code == status, response.text


async def test_where_each_item_has_a_result_a_row_named_twice_costs_the_second_its_own(
    shop: TestedApplication,
) -> None:
    client = shop.client()
    a, b = [(await client.post(CATEGORIES, json={"name": name})).json()["data"]["id"] for name in ("a", "b")]

    async def results(operation: str, *items: Any) -> list[Any]:
        sent = {"operation": operation, "atomic": False, "items": items}
        answer = await client.post(f"{CATEGORIES}/batch", json=sent)
        assert answer.status_code == 200, answer.text
        found = answer.json()["data"]
        return [
            one["error"]["details"][0]["code"] if "error" in one else one.get("operation", "done")
            for one in found
        ]

    twice = await results(
        "patch", {"id": a, "name": "x"}, {"id": b, "name": "y"}, {"id": str(a), "name": "z"}
    )
    assert twice == ["done", "done", "duplicate"]
    names = [row["name"] for row in (await client.get(f"{CATEGORIES}?sort=id")).json()["data"]]
    assert names == ["x", "y"]
    assert await results("patch", {"id": a, "name": 5}, {"id": a, "name": "z"}) == ["type", "done"]
    upserts = [{"name": "n"}, {"name": "n"}, {"id": b, "name": "u"}, {"id": b, "name": "v"}]
    assert await results("upsert", *upserts) == ["create", "update", "done", "duplicate"]
    assert await results("delete", a, a, {"id": b}) == ["done", "duplicate", "done"]


async def test_field_rules_hold_in_every_form_of_a_batch(shop: TestedApplication) -> None:
    admin, editor = shop.client(), shop.client(role="Editor")
    product = await a_product(admin)
    category, key = product["categoryId"], product["id"]
    before = await rows(shop, "products")
    forbidden = {"name": "x", "categoryId": category, "tags": ["mine"]}
    bodies: list[tuple[str, Any]] = [
        (f"{PRODUCTS}/batch", [forbidden]),
        (f"{PRODUCTS}/batch", {"operation": "create", "items": [forbidden]}),
        (f"{PRODUCTS}/batch", {"operation": "update", "items": [{"id": key, **forbidden}]}),
        (f"{PRODUCTS}/batch", {"operation": "patch", "items": [{"id": key, "tags": []}]}),
        (f"{PRODUCTS}/batch", {"operation": "patch", "items": [{"id": key, "metadata": {"a": 1}}]}),
        (f"{PRODUCTS}/batch", {"operation": "delete", "items": [key]}),
        ("/api/v1/batch", [{"operation": "create", "resource": "Products", "data": forbidden}]),
        ("/api/v1/batch", [{"operation": "update", "resource": "Products", "id": key, "data": forbidden}]),
        ("/api/v1/batch", [{"operation": "delete", "resource": "Products", "id": key}]),
    ]
    for url, body in bodies:
        response = await editor.post(url, json=body)
        assert response.status_code == 403, (body, response.text)
    partly = {"operation": "patch", "items": [{"id": key, "tags": []}], "atomic": False}
    outcome = (await editor.post(f"{PRODUCTS}/batch", json=partly)).json()["data"][0]
    assert outcome["error"]["statusCode"] == 403
    assert await rows(shop, "products") == before


# --- batches over several resources -----------------------------------------------------


async def test_operations_over_several_resources_share_one_transaction(shop: TestedApplication) -> None:
    client = shop.client()
    steps: list[dict[str, Any]] = [
        {"operation": "create", "resource": "Categories", "data": {"name": "T"}},
        {
            "operation": "create",
            "resource": "Products",
            "data": {"name": "X", "categoryId": "{{result[0].id}}"},
        },
        {"operation": "publish:post", "resource": "Products", "id": "{{result[1].id}}"},
        {
            "operation": "patch",
            "resource": "Products",
            "id": "{{result[1].id}}",
            "data": {"metadata": {"was": "{{result[2].status}}", "t": {"$literal": "{{result[0].id}}"}}},
        },
        {"operation": "read", "resource": "Products", "id": "{{result[1].id}}"},
        {"operation": "list", "resource": "Categories", "data": {"filter": {"name": "T"}}},
    ]
    done = await client.post("/api/v1/batch", json={"operations": steps})
    assert done.status_code == 200, done.text
    results = done.json()["data"]
    assert results[1]["categoryId"] == results[0]["id"]
    assert results[3]["metadata"] == {"was": "published", "t": "{{result[0].id}}"}
    assert results[4]["id"] == results[1]["id"]
    assert [row["name"] for row in results[5]] == ["T"]
    last = {"operation": "delete", "resource": "Products", "id": results[1]["id"]}
    assert (await client.post("/api/v1/batch", json=[last])).json()["data"] == [None]


@pytest.mark.parametrize(
    "text",
    [
        "{{result[0]}}",
        "{{result[0].children[0].id}}",
        '{{ result[0]["id"] }}',
        "{{result[x].id}}",
        "{{result[-1].id}}",
        "{{result[].id}}",
        "{{result [0].id}}",
        "{{result[0].a-b}}",
        "{{result[0].\n}}",
        "{{result[1234567].id}}",
    ],
)
async def test_what_is_nearly_a_template_is_refused_and_not_stored(
    shop: TestedApplication, text: str
) -> None:
    client = shop.client()
    create = {"operation": "create", "resource": "Categories", "data": {"name": "T"}}
    answer = await client.post("/api/v1/batch", json=[create, create | {"data": {"name": text}}])
    assert (answer.status_code, details(answer)) == (422, {"1.data.name": "template"})
    literal = create | {"data": {"name": {"$literal": text}}}
    kept = await client.post("/api/v1/batch", json=[literal, create | {"data": {"name": f"see {text}"}}])
    assert [row["name"] for row in kept.json()["data"]] == [text, f"see {text}"]


async def test_a_template_goes_into_arrays_by_dots(shop: TestedApplication) -> None:
    client = shop.client()
    for name in ("a", "b"):
        await client.post(CATEGORIES, json={"name": name})
    steps = [
        {"operation": "list", "resource": "Categories", "params": {}},
        {
            "operation": "create",
            "resource": "Products",
            "data": {"name": "x", "categoryId": "{{result[0].1.id}}"},
        },
    ]
    answer = await client.post("/api/v1/batch", json=steps)
    listed, product = answer.json()["data"]
    assert product["categoryId"] == listed[1]["id"]


async def test_one_refused_operation_undoes_all(shop: TestedApplication) -> None:
    client, viewer = shop.client(), shop.client(role="Viewer")
    before = await rows(shop, "categories")
    create = {"operation": "create", "resource": "Categories", "data": {"name": "T"}}
    for last, status in (
        ({"operation": "create", "resource": "Categories", "data": {"name": "T"}}, 409),
        ({"operation": "create", "resource": "Categories", "data": {"name": 1}}, 422),
        ({"operation": "read", "resource": "Categories", "id": 999999}, 404),
        (
            {
                "operation": "create",
                "resource": "Products",
                "data": {"name": "x", "categoryId": "{{result[5].id}}"},
            },
            422,
        ),
        (
            {
                "operation": "create",
                "resource": "Products",
                "data": {"name": "x", "categoryId": "{{result[0].nothing}}"},
            },
            422,
        ),
        ({"operation": "create", "resource": "Nothing", "data": {}}, 422),
        ({"operation": "batch", "resource": "Categories", "data": []}, 422),
        ({"operation": "explode", "resource": "Categories"}, 405),
        ({"operation": "create", "resource": "Categories", "data": {"name": "y"}, "more": 1}, 422),
        ({"operation": "patch", "resource": "Categories", "data": {"name": "y"}}, 422),
        ("x", 422),
    ):
        response = await client.post("/api/v1/batch", json=[create, last])
        assert response.status_code == status, (last, response.text)
        assert all(name.startswith("1") for name in details(response)), (last, response.text)
    assert (await viewer.post("/api/v1/batch", json=[create])).status_code == 403
    assert (await shop.client(role=None).post("/api/v1/batch", json=[create])).status_code == 401
    assert (await client.post("/api/v1/batch", json=[create] * 101)).status_code == 413
    assert (await client.post("/api/v1/batch", json=[])).status_code == 422
    assert await rows(shop, "categories") == before


# --- order of refusal -------------------------------------------------------------------


async def test_refusals_come_in_the_order_of_the_contract(shop: TestedApplication) -> None:
    admin, viewer, nobody = shop.client(), shop.client(role="Viewer"), shop.client(role=None)
    product = await a_product(admin)
    url, missing = f"{PRODUCTS}/{product['id']}", f"{PRODUCTS}/999999"
    typed = {"Content-Type": "application/json"}
    for client in (admin, viewer, nobody):
        assert (await client.patch(url, content=b"{", headers=typed)).status_code == 400
    anonymous = await nobody.patch(url, json={"name": 1})
    assert anonymous.status_code == 401
    assert anonymous.headers["www-authenticate"].startswith("Bearer")
    assert (await viewer.patch(missing, json={"name": 1})).status_code == 403
    assert (await admin.patch(missing, json={"name": 1})).status_code == 404
    assert (
        await admin.patch(missing, content=b"x", headers={"Content-Type": "text/plain"})
    ).status_code == 404
    assert (await admin.get(missing, headers={"Accept": "text/html"})).status_code == 404
    assert (await admin.get(url, headers={"Accept": "text/html"})).status_code == 406
    assert (await admin.patch(url, content=b"x", headers={"Content-Type": "text/plain"})).status_code == 415
    assert (await admin.patch(url, json={"name": 1})).status_code == 422
    assert (await admin.patch(missing, json={"name": "x"}, headers={"If-Match": '"1"'})).status_code == 404
    wrong = await admin.post(url, json={})
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"


async def test_a_readable_row_that_may_not_be_written_is_403_and_an_unreadable_one_404(
    shop: TestedApplication,
) -> None:
    admin, editor = shop.client(), shop.client(role="Editor")
    keys = {}
    for status in ("open", "closed", "secret"):
        made = await admin.post("/api/v1/orders", json={"number": status, "status": status})
        keys[status] = f"/api/v1/orders/{made.json()['data']['id']}"
    before = await rows(shop, "orders")
    assert (await editor.get(keys["secret"])).status_code == 404
    assert [row["number"] for row in (await editor.get("/api/v1/orders")).json()["data"]] == [
        "open",
        "closed",
    ]
    assert (await editor.get("/api/v1/orders")).json()["count"] == 2
    assert (await editor.patch(keys["secret"], json={"amount": 1})).status_code == 404
    assert (await editor.patch(keys["closed"], json={"amount": 1})).status_code == 403
    assert (await editor.put(keys["closed"], json={"number": "x"})).status_code == 403
    assert (await editor.delete(keys["open"])).status_code == 403
    # The rule is also about the row as it would be.
    assert (await editor.patch(keys["open"], json={"status": "secret"})).status_code == 403
    assert (await editor.post("/api/v1/orders", json={"number": "n", "status": "closed"})).status_code == 403
    many = {
        "operation": "patch",
        "items": [{"id": int(key.rpartition("/")[2]), "amount": 2} for key in keys.values()],
    }
    batch = await editor.post("/api/v1/orders/batch", json=many)
    assert (batch.status_code, list(details(batch))) == (403, ["1"])
    created = await editor.post(
        "/api/v1/orders/batch", json=[{"number": "a"}, {"number": "b", "status": "closed"}]
    )
    assert (created.status_code, list(details(created))) == (403, ["1"])
    assert await rows(shop, "orders") == before
    assert (await editor.patch(keys["open"], json={"amount": 3})).status_code == 200


async def test_every_answer_carries_the_same_headers_and_shape(shop: TestedApplication) -> None:
    client = shop.client(headers={"X-Request-ID": "mine-1", "X-Correlation-ID": "all-1"})
    for response in (
        await client.get(CATEGORIES),
        await client.get(f"{CATEGORIES}/9"),
        await client.get("/nowhere"),
        await client.post(CATEGORIES, content=b"{"),
        await client.request("TRACE", CATEGORIES),
    ):
        assert response.headers["x-request-id"] == "mine-1"
        assert response.headers["x-correlation-id"] == "all-1"
        assert response.headers["x-content-type-options"] == "nosniff"
        body = response.json()
        if response.status_code >= 400:
            assert body["success"] is False
            assert set(body["error"]) == {
                "statusCode",
                "code",
                "message",
                "details",
                "requestId",
                "timestamp",
            }
            assert body["error"]["statusCode"] == response.status_code
    problem = await client.get(f"{CATEGORIES}/9", headers={"Accept": "application/problem+json"})
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json()["status"] == 404
    injected = await shop.client(headers={"X-Request-ID": "a b\tc"}).get(CATEGORIES)
    assert injected.headers["x-request-id"] != "a b\tc"


async def test_a_change_its_audit_entry_and_its_event_are_one(shop: TestedApplication) -> None:
    client = shop.client()
    product = await a_product(client, pin="open-sesame", price=1)
    url = f"{PRODUCTS}/{product['id']}"
    await client.patch(url, json={"price": 2})
    await client.patch(url, json={"price": -1})
    await client.delete(url)
    async with shop.connected.database.system() as transaction:
        audit = await transaction.fetch(
            "select action, changes::text, user_id, request_id from audit_logs order by id"
        )
        told = await transaction.fetch(
            "select name, data::text, tenant_id from byodpp.events() order by number, place"
        )
    assert [row["action"] for row in audit] == ["CREATE", "PATCH", "DELETE"]
    assert all(row["user_id"] for row in audit)
    assert json.loads(audit[1]["changes"])["before"]["price"] == 1
    assert json.loads(audit[1]["changes"])["after"]["price"] == 2
    assert [row["name"] for row in told] == ["products.created", "products.updated", "products.deleted"]
    assert "open-sesame" not in str([tuple(row) for row in (*audit, *told)])
    assert [event.name for event in await shop.events()] == [row["name"] for row in told]
    logs = (await client.get("/api/v1/audit-logs")).json()["data"]
    assert [row["action"] for row in logs] == ["CREATE", "PATCH", "DELETE"]
    assert (await client.post("/api/v1/audit-logs", json={})).status_code == 405


# --- policies, tenants and users as rows ------------------------------------------------


async def test_a_policy_row_is_in_force_when_its_answer_arrives(shop: TestedApplication) -> None:
    admin, viewer, beta = shop.client(), shop.client(role="Viewer"), shop.client(role="Viewer", tenant="beta")
    assert (await viewer.post(CATEGORIES, json={"name": "a"})).status_code == 403
    policy = await admin.post(
        "/api/v1/policies", json={"subject": "Viewer", "object": "Categories", "action": "create"}
    )
    assert policy.status_code == 201, policy.text
    assert (await viewer.post(CATEGORIES, json={"name": "a"})).status_code == 201
    assert (await beta.post(CATEGORIES, json={"name": "a"})).status_code == 403
    key = policy.json()["data"]["id"]
    assert (await admin.patch(f"/api/v1/policies/{key}", json={"effect": "deny"})).status_code == 200
    assert (await viewer.post(CATEGORIES, json={"name": "b"})).status_code == 403
    assert (await admin.delete(f"/api/v1/policies/{key}")).status_code == 204
    deny = {
        "subject": "Viewer",
        "object": "Categories",
        "action": "read",
        "effect": "deny",
        "condition": {"name": "a"},
    }
    assert (await admin.post("/api/v1/policies", json=deny)).status_code == 201
    assert (await viewer.get(CATEGORIES)).json()["data"] == []
    assert len((await admin.get(CATEGORIES)).json()["data"]) == 1


async def test_another_process_sees_a_policy_within_a_second(
    byodpp_bench: Bench, blueprint: Blueprint
) -> None:
    async with byodpp_bench.application(blueprint) as one:
        uris = {name: getattr(one.settings, name) for name in ("postgres_db_uri", "postgres_system_uri")}
        async with byodpp_bench.application(blueprint, **uris) as other:
            viewer, admin = other.client(role="Viewer"), one.client()
            assert (await viewer.post(CATEGORIES, json={"name": "a"})).status_code == 403
            rule = {"subject": "Viewer", "object": "Categories", "action": "write"}
            assert (await admin.post("/api/v1/policies", json=rule)).status_code == 201

            async def status() -> int:
                return (await viewer.post(CATEGORIES, json={"name": "a"})).status_code

            await soon(status, 201)


async def test_a_deactivated_user_or_tenant_is_refused_at_once(shop: TestedApplication) -> None:
    admin, ada = shop.client(user="root"), shop.client(user="ada")
    operator = shop.client(tenant="platform")
    assert (await ada.get(CATEGORIES)).status_code == 200
    users = (await admin.get("/api/v1/users", params={"filter[userName]": "ada"})).json()["data"]
    assert (
        await admin.patch(f"/api/v1/users/{users[0]['id']}", json={"status": "deactivated"})
    ).status_code == 200
    assert (await ada.get(CATEGORIES)).status_code == 401
    acme = (await shop.tenant("acme")).id
    done = await operator.post(f"/api/v1/tenants/{acme}/deactivate")
    assert done.status_code == 200, done.text
    assert (await admin.get(CATEGORIES)).status_code == 401
