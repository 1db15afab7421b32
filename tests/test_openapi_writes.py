"""What the OpenAPI document says of writes, held beside what the server does with the same bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint, assemble
from byodpp.openapi import openapi_document
from byodpp.schemas.nested import MAX_NESTING
from byodpp.testing import Bench, TestedApplication
from tests.test_openapi import operations, resolve
from tests.worlds import build
from tests.write_world import LOGICS, WRITES

ITEMS, SHELVES, PAPERS = "/api/v1/items", "/api/v1/shelves", "/api/v1/papers"
SETTINGS, PARTS, WORDS = "/api/v1/settings", "/api/v1/parts", "/api/v1/words"


@pytest.fixture(scope="module")
def document(writes: Blueprint) -> dict[str, Any]:
    return openapi_document(writes.registry, writes.schemas, writes.logics)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def store(byodpp_bench: Bench, writes: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(writes) as tested:
        client = tested.client()
        for url, body in (
            (
                SHELVES,
                {"name": "s", "items": [{"name": "a", "sku": "one", "price": 1, "parts": [{"name": "p"}]}]},
            ),
            (PAPERS, {"title": "p"}),
            (SETTINGS, {"key": "k"}),
        ):
            assert (await client.post(url, json=body)).status_code == 201
        yield tested


def valid(document: dict[str, Any], method: str, path: str, body: Any) -> bool:
    """Return whether the document allows a body."""
    content = document["paths"][path][method]["requestBody"]["content"]["application/json"]
    schema = {"components": document["components"], **content["schema"]}
    return bool(jsonschema.Draft202012Validator(schema).is_valid(body))


def upsert(items: list[Any], **more: Any) -> dict[str, Any]:
    return {"operation": "upsert", "items": items, **more}


def by_filter(operation: str, **more: Any) -> dict[str, Any]:
    return {"operation": operation, "filter": {"name": "nobody"}, "max": 5, **more}


@pytest.mark.parametrize(
    ("path", "body", "allowed"),
    [
        # upserts
        (ITEMS, upsert([{"name": "x", "sku": "x1"}], on=["sku"]), True),
        (ITEMS, upsert([{"name": "x2", "sku": "x2"}]), False),  # two keys: which one?
        (ITEMS, upsert([{"name": "x", "shelfId": 1}], on=["name", "shelfId"]), True),
        (ITEMS, upsert([{"name": "x"}], on=["name", "shelfId"]), False),
        (ITEMS, upsert([{"name": "x", "sku": None}], on=["sku"]), False),
        (ITEMS, upsert([{"name": "x"}], on=["name"]), False),
        (ITEMS, upsert([{"name": "x"}], on=["sku", "sku"]), False),
        (ITEMS, upsert([{"name": "x", "sku": "y", "stock": "1"}], on=["sku"], atomic=False), True),
        (ITEMS, upsert([{"name": "x", "sku": "y"}], on="sku", atomic=False), False),
        (ITEMS, {"operation": "create", "items": [{"name": "x"}], "on": ["sku"]}, False),
        (SETTINGS, upsert([{"key": "new"}]), True),  # `locale` has a default
        (SETTINGS, upsert([{"key": "new"}], on=["key", "locale"]), True),
        (SETTINGS, upsert([{"value": 1}]), False),
        (SETTINGS, upsert([{"id": 1, "key": "new"}]), True),
        (PARTS, upsert([{"name": "x", "itemId": 1}]), True),
        (PARTS, upsert([{"name": "x", "itemId": 1}], on=["name"]), False),
        # by filter
        (ITEMS, by_filter("patch", data={"stock": 1}), True),
        (ITEMS, by_filter("patch", data={"stock": {"$increment": 1}}), True),
        (ITEMS, by_filter("delete"), True),
        (ITEMS, by_filter("patch"), False),
        (ITEMS, by_filter("delete", data={}), False),
        (ITEMS, by_filter("delete", atomic=True), False),
        (ITEMS, {"operation": "delete", "filter": {"name": "nobody"}}, False),
        (ITEMS, by_filter("delete", max=0), False),
        (ITEMS, by_filter("delete", max=1001), False),
        (ITEMS, by_filter("delete", filter={}), False),
        (ITEMS, by_filter("update", data={"name": "x"}), False),
        # others
        (ITEMS, [{"name": "y", "parts": [{"name": "p"}]}], True),
        (ITEMS, {"operation": "patch", "items": [{"id": 1, "stock": {"$increment": 1}}]}, True),
        (ITEMS, {"operation": "patch", "items": [{"stock": 1}]}, False),
        (ITEMS, {"operation": "patch", "items": [{"nonsense": 1}], "atomic": False}, True),
        (ITEMS, {"operation": "merge", "items": [{"id": 1}]}, False),
    ],
)
async def test_a_batch_is_allowed_by_the_document_exactly_when_the_server_takes_it(
    store: TestedApplication, document: dict[str, Any], path: str, body: Any, allowed: bool
) -> None:
    assert valid(document, "post", f"{path}/batch", body) is allowed
    answer = await store.client().post(f"{path}/batch", json=body, headers={"Prefer": "tx=rollback"})
    assert (answer.status_code < 300) is allowed, answer.text
    assert allowed or answer.status_code in (400, 422)


@pytest.mark.parametrize(
    ("method", "path", "body", "allowed"),
    [
        ("post", SHELVES, {"name": "n", "items": [{"name": "x", "parts": [{"name": "y"}]}]}, True),
        ("post", SHELVES, {"name": "n", "items": {"$replace": [{"name": "x"}]}}, True),
        ("post", SHELVES, {"name": "n", "items": {"$replace": []}, "extra": 1}, False),
        ("post", SHELVES, {"name": "n", "items": {"$replace": [], "$more": []}}, False),
        ("post", SHELVES, {"name": "n", "items": [{"id": 1, "name": "x"}]}, False),
        ("post", SHELVES, {"name": "n", "items": [{"sku": "x"}]}, False),
        ("post", SHELVES, {"name": "n", "items": [{"name": "x", "shelfId": 1}]}, False),
        ("post", SHELVES, {"name": "n", "items": {"name": "x"}}, False),
        ("post", SHELVES, {"name": "n", "items": None}, False),
        ("put", SHELVES, {"name": "n", "items": [{"id": 1, "name": "x"}, {"name": "y"}]}, True),
        ("put", SHELVES, {"name": "n", "items": [{"id": 1}]}, False),
        ("patch", SHELVES, {"items": [{"id": 1, "stock": {"$increment": 1}}, {"name": "y"}]}, True),
        ("patch", SHELVES, {"items": [{"id": 1, "stock": {"$append": [1]}}]}, False),
        ("patch", SHELVES, {"items": [{"id": True, "stock": 1}]}, False),
        ("post", PAPERS, {"title": "1", "papers": [{"title": "2", "papers": [{"title": "3"}]}]}, True),
        ("patch", ITEMS, {"tags": {"$append": ["x"]}, "stock": {"$increment": 2}}, True),
        ("patch", ITEMS, {"tags": {"$remove": ["x"]}, "price": {"$increment": 0.5}}, True),
        ("patch", ITEMS, {"digits": {"$increment": "7"}}, True),
        ("patch", ITEMS, {"stock": {"$increment": "7"}}, False),
        ("patch", ITEMS, {"stock": {"$increment": None}}, False),
        ("patch", ITEMS, {"stock": {"$increment": 1, "$more": 1}}, False),
        ("patch", ITEMS, {"name": {"$append": "x"}}, False),
        ("patch", ITEMS, {"shelfId": {"$increment": 1}}, False),
        ("patch", ITEMS, {"seen": {"$increment": 1}}, False),
        ("patch", ITEMS, {"extra": {"$increment": 1}}, True),  # json: there it is data
        ("put", ITEMS, {"name": "x", "stock": {"$increment": 1}}, False),
    ],
)
async def test_a_body_is_allowed_by_the_document_exactly_when_the_server_takes_it(
    store: TestedApplication, document: dict[str, Any], method: str, path: str, body: Any, allowed: bool
) -> None:
    named = path if method == "post" else f"{path}/{{id}}"
    assert valid(document, method, named, body) is allowed
    url, headers = named.replace("{id}", "1"), {"Prefer": "tx=rollback"}
    answer = await store.client().request(method.upper(), url, json=body, headers=headers)
    assert (answer.status_code < 300) is allowed, answer.text
    assert allowed or answer.status_code == 422


async def test_rows_lie_as_deep_inside_each_other_as_the_document_says(
    store: TestedApplication, document: dict[str, Any]
) -> None:
    """A resource that refers to itself has no other end."""
    for levels in range(1, MAX_NESTING + 2):
        body: dict[str, Any] = {"title": f"{levels} at the bottom"}
        for level in range(levels):
            body = {"title": f"{levels} at {level}", "papers": [body]}
        allowed = levels <= MAX_NESTING
        assert valid(document, "post", PAPERS, body) is allowed, levels
        answer = await store.client().post(PAPERS, json=body, headers={"Prefer": "tx=rollback"})
        assert answer.status_code == (201 if allowed else 422), answer.text


def headers_of(document: dict[str, Any], operation: dict[str, Any]) -> set[str]:
    found = (resolve(document, one) for one in operation["parameters"])
    return {one["name"] for one in found if one["in"] == "header"}


def test_writes_name_the_headers_that_they_obey(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        if not path.startswith("/api/") or operation["operationId"].endswith(("_query", "_history")):
            continue
        if path.endswith("/import"):  # its key names the import that is gone on with; nothing is replayed
            continue
        named = headers_of(document, operation)
        place = f"{method} {path}"
        assert ("Prefer" in named) is (method != "get"), place
        assert ("Idempotency-Key" in named) is (method in ("post", "patch")), place
        if "Idempotency-Key" in named:
            codes = {code for status in ("409", "422") for code in codes_of(document, operation, status)}
            assert {"idempotency_in_progress", "idempotency_key_reused"} <= codes, place
        done = next(one for status, one in operation["responses"].items() if status.startswith("2"))
        answered = resolve(document, done)["headers"]
        assert ("Idempotency-Replayed" in answered) is ("Idempotency-Key" in named), place


def codes_of(document: dict[str, Any], operation: dict[str, Any], status: str) -> set[str]:
    answer = resolve(document, operation["responses"].get(status, {}))
    return set(answer.get("content", {}).get("application/json", {}).get("examples", {}))


def test_rows_with_versions_are_read_and_written_under_conditions(document: dict[str, Any]) -> None:
    row = document["paths"][f"{ITEMS}/{{id}}"]
    assert "If-None-Match" in headers_of(document, row["get"]) and "304" in row["get"]["responses"]
    for method in ("put", "patch", "delete"):
        assert "If-Match" in headers_of(document, row[method]) and "412" in row[method]["responses"]
    assert "If-Match" in headers_of(document, document["paths"][f"{ITEMS}/{{id}}/publish"]["post"])
    assert "428" in document["paths"]["/api/v1/plain/{id}"]["patch"]["responses"]


async def test_conflicts_of_rows_inside_a_row_are_described(
    store: TestedApplication, document: dict[str, Any]
) -> None:
    """An item that something refers to cannot be replaced away, and the answer says so."""
    answers = document["paths"][f"{PAPERS}/{{id}}"]["patch"]["responses"]
    client = store.client()
    top = (await client.post(PAPERS, json={"title": "top", "papers": [{"title": "mid"}]})).json()["data"]
    middle = top["papers"][0]["id"]
    await client.post(PAPERS, json={"title": "leaf", "parentId": middle})
    refused = await client.patch(f"{PAPERS}/{top['id']}", json={"papers": {"$replace": []}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "referenced_conflict")
    described = resolve(document, answers["409"])["content"]["application/json"]["schema"]
    schema = {"components": document["components"], **described}
    assert jsonschema.Draft202012Validator(schema).is_valid(refused.json())
    assert "referenced_conflict" in codes_of(document, document["paths"][f"{ITEMS}/{{id}}"]["delete"], "409")


async def test_return_minimal_leaves_out_the_results_of_every_write(store: TestedApplication) -> None:
    client, headers = store.client(), {"Prefer": "return=minimal"}
    steps = [{"operation": "create", "resource": "Words", "data": {"word": "brief"}}]
    done = await client.post("/api/v1/batch", json=steps, headers=headers)
    assert (done.status_code, done.content) == (204, b"")
    assert done.headers["Preference-Applied"] == "return=minimal"
    assert (await client.get(WORDS, params={"filter[word]": "brief"})).json()["count"] == 1


async def test_what_a_patch_schema_leaves_out_cannot_be_modified_either(
    byodpp_bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("closed")
    build(folder, WRITES, LOGICS)
    (folder / "schemas").mkdir()
    (folder / "schemas" / "items.py").write_text(
        "from marshmallow import Schema, fields\n\n\n"
        "class ItemsPatch(Schema):\n"
        '    resource, operation = "Items", "patch"\n\n'
        "    name = fields.String()\n"
    )
    blueprint = assemble(folder)
    document = openapi_document(blueprint.registry, blueprint.schemas, blueprint.logics)
    async with byodpp_bench.application(blueprint) as closed:
        client = closed.client()
        assert (await client.post(ITEMS, json={"name": "a"})).status_code == 201
        for body in ({"stock": 1}, {"stock": {"$increment": 1}}):
            assert not valid(document, "patch", f"{ITEMS}/{{id}}", body)
            refused = await client.patch(f"{ITEMS}/1", json=body)
            assert refused.status_code == 422, refused.text
            assert refused.json()["error"]["details"][0]["code"] == "unknown_field"


async def test_a_patch_may_name_any_part_of_an_object(byodpp_bench: Bench, tmp_path: Path) -> None:
    number = {"type": "integer"}
    size = {"high": {**number, "required": True}, "wide": number}
    outer = {"size": {"type": "object", "properties": size}, "name": {"type": "string", "required": True}}
    things = {"name": "Things", "fields": {"form": {"type": "object", "properties": outer}}}
    blueprint = build(tmp_path, {"resources": [things]})
    document = openapi_document(blueprint.registry, blueprint.schemas, blueprint.logics)
    whole = {"name": "a", "size": {"high": 1}}
    async with byodpp_bench.application(blueprint) as tested:
        client = tested.client()
        made = await client.post("/api/v1/things", json={"form": whole})
        url = f"/api/v1/things/{made.json()['data']['id']}"
        for method, form, allowed in (
            ("patch", {"size": {"wide": 2}}, True),
            ("patch", {"size": {"wide": None}}, True),
            ("patch", {"size": {"deep": 2}}, False),
            ("patch", {"size": {"wide": "2"}}, False),
            ("put", {"name": "b", "size": {"wide": 2}}, False),
            ("put", {"size": {"high": 2}}, False),
            ("put", whole, True),
        ):
            assert valid(document, method, "/api/v1/things/{id}", {"form": form}) is allowed, form
            answer = await client.request(method.upper(), url, json={"form": form})
            assert (answer.status_code == 200) is allowed, (form, answer.text)
