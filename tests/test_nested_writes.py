"""Related rows that are written together with a row: whose rights, which faults, what stays."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from byodpp.testing import TestedApplication

SHELVES = "/api/v1/shelves"
ITEMS = "/api/v1/items"
PARTS = "/api/v1/parts"


def details(response: Any) -> dict[str, str]:
    return {one["field"]: one["code"] for one in response.json()["error"]["details"]}


async def rows(store: TestedApplication) -> list[tuple[Any, ...]]:
    """Every row with its version: what a refused request must not change."""
    async with store.connected.database.system() as transaction:
        return [
            tuple(row)
            for table in ("shelves", "items", "parts")
            for row in await transaction.fetch(f"select xmin::text, t.*::text from {table} t order by 2")
        ]


async def a_shelf(client: Any, *names: str, **values: Any) -> dict[str, Any]:
    body = {"name": "s", "items": [{"name": name} for name in names], **values}
    response = await client.post(SHELVES, json=body)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()["data"]
    return found


async def items_of(client: Any, shelf: dict[str, Any]) -> list[str]:
    listed = await client.get(ITEMS, params={"filter[shelfId]": shelf["id"], "sort": "name"})
    return [row["name"] for row in listed.json()["data"]]


async def test_a_row_and_its_rows_are_made_together_three_deep(store: TestedApplication) -> None:
    client = store.client()
    body = {
        "name": "top",
        "items": [
            {"name": "a", "stock": 3, "parts": [{"name": "a1"}, {"name": "a2"}]},
            {"name": "b", "parts": []},
        ],
    }
    response = await client.post(SHELVES, json=body)
    assert response.status_code == 201, response.text
    shelf = response.json()["data"]
    assert [(one["name"], one["shelfId"], one["stock"]) for one in shelf["items"]] == [
        ("a", shelf["id"], 3),
        ("b", shelf["id"], 0),
    ]
    assert [part["itemId"] for part in shelf["items"][0]["parts"]] == [shelf["items"][0]["id"]] * 2
    assert shelf["items"][1]["parts"] == []
    assert response.headers["etag"] == '"1"'
    read = await client.get(f"{SHELVES}/{shelf['id']}?include=items.parts")
    assert read.json()["data"] == shelf
    names = [event.name for event in await store.events()]
    assert sorted(names) == ["items.created", "items.created", "shelves.created"]
    async with store.connected.database.system() as transaction:
        assert await transaction.fetchval("select count(*) from audit_logs") == 3


async def test_a_patch_changes_rows_with_an_id_makes_others_and_deletes_none(
    store: TestedApplication,
) -> None:
    client = store.client()
    shelf = await a_shelf(client, "a", "b", "c")
    first = shelf["items"][0]
    patch = {"place": "left", "items": [{"name": "d"}, {"id": first["id"], "stock": 7}]}
    response = await client.patch(f"{SHELVES}/{shelf['id']}", json=patch)
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert (data["place"], data["version"]) == ("left", 2)
    assert [(one["name"], one["stock"]) for one in data["items"]] == [("d", 0), ("a", 7)]
    assert await items_of(client, shelf) == ["a", "b", "c", "d"]


async def test_a_patch_names_the_versions_of_the_rows_inside(store: TestedApplication) -> None:
    client = store.client()
    shelf = await a_shelf(client, "a")
    url, first = f"{SHELVES}/{shelf['id']}", shelf["items"][0]
    assert first["version"] == 1
    named = {"items": [{"id": first["id"], "version": 1, "stock": 4}]}
    changed = await client.patch(url, json=named)
    assert changed.status_code == 200, changed.text
    assert [(one["stock"], one["version"]) for one in changed.json()["data"]["items"]] == [(4, 2)]
    before = await rows(store)
    late = await client.patch(url, json={"place": "gone", **named})
    assert (late.status_code, late.json()["error"]["code"]) == (412, "precondition_failed")
    faulty = {"2": "type", True: "type", 1.5: "type", -1: "out_of_range", 2**63: "out_of_range"}
    for version, code in faulty.items():
        refused = await client.patch(url, json={"items": [{"id": first["id"], "version": version}]})
        assert (refused.status_code, details(refused)) == (422, {"items.0.version": code})
    new = await client.patch(url, json={"items": [{"name": "n", "version": 1}]})
    assert (new.status_code, details(new)) == (422, {"items.0.version": "read_only"})
    assert await rows(store) == before
    anyone = await client.patch(url, json={"items": [{"id": first["id"], "version": None, "stock": 5}]})
    assert anyone.status_code == 200, anyone.text


async def test_a_request_holds_only_so_many_rows_inside_rows(store: TestedApplication) -> None:
    client = store.client()
    shelf = await a_shelf(client, "a")
    before = await rows(store)

    def inside(items: int, parts: int) -> list[dict[str, Any]]:
        return [{"name": f"i{n}", "parts": [{"name": "p"}] * parts} for n in range(items)]

    url, many = f"{SHELVES}/{shelf['id']}", {"name": "s", "items": inside(20, 500)}
    for refused in (
        await client.post(SHELVES, json=many),
        await client.put(url, json=many),
        await client.patch(url, json={"items": {"$replace": inside(20, 500)}}),
        await client.patch(
            url,
            json=[{"op": "add", "path": "/items", "value": inside(20, 500)}],
            headers={"content-type": "application/json-patch+json"},
        ),
    ):
        assert (refused.status_code, details(refused)) == (422, {"": "too_many"})
    half = {"name": "s", "items": inside(10, 501)}
    whole = {"operation": "patch", "items": [{"id": shelf["id"], "items": inside(20, 500)}]}
    for address, body in (
        (f"{SHELVES}/batch", [half, half]),
        (f"{SHELVES}/batch", whole),
        ("/api/v1/batch", [{"operation": "create", "resource": "Shelves", "data": half}] * 2),
    ):
        refused = await client.post(address, json=body)
        assert refused.status_code in (413, 422), refused.text
        assert "at most 10,000 rows" in refused.text
    assert await rows(store) == before


async def test_what_get_returned_with_its_rows_can_be_put_back(store: TestedApplication) -> None:
    client = store.client()
    shelf = await a_shelf(client, "a", "b")
    url = f"{SHELVES}/{shelf['id']}"
    await client.patch(f"{ITEMS}/{shelf['items'][0]['id']}", json={"stock": 5, "tags": ["x"]})
    row = (await client.get(f"{url}?include=items")).json()["data"]
    row["items"][1]["name"] = "z"
    put = await client.put(url, json=row)
    assert put.status_code == 200, put.text
    assert [(one["name"], one["stock"], one["tags"]) for one in put.json()["data"]["items"]] == [
        ("a", 5, ["x"]),
        ("z", 0, None),
    ]
    # An update of the row is an update of its rows: what is left out takes its default.
    named = [{"id": one["id"], "name": one["name"]} for one in row["items"]]
    put = await client.put(url, json={"name": "s", "items": named})
    assert [(one["stock"], one["tags"]) for one in put.json()["data"]["items"]] == [(0, None), (0, None)]


async def test_replace_deletes_the_rows_that_are_not_named(store: TestedApplication) -> None:
    client, editor = store.client(), store.client(role="Editor")
    shelf, other = await a_shelf(client, "a", "b", "c"), await a_shelf(client, "x")
    url = f"{SHELVES}/{shelf['id']}"
    kept = shelf["items"][1]
    whole = {"items": {"$replace": [{"id": kept["id"], "stock": 1}, {"name": "d"}]}}
    before = await rows(store)
    assert (await editor.patch(url, json=whole)).status_code == 403  # he may not delete items
    assert await rows(store) == before
    response = await client.patch(url, json=whole)
    assert response.status_code == 200, response.text
    assert [one["name"] for one in response.json()["data"]["items"]] == ["b", "d"]
    assert await items_of(client, shelf) == ["b", "d"]
    assert await items_of(client, other) == ["x"]
    assert (await client.patch(url, json={"items": {"$replace": []}})).status_code == 200
    assert await items_of(client, shelf) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"items": [{}, {"name": 1}]},
            {"name": "required", "items.0.name": "required", "items.1.name": "type"},
        ),
        ({"name": "s", "items": [{"name": "a", "x": 1}]}, {"items.0.x": "unknown_field"}),
        ({"name": "s", "items": [{"name": "a", "seen": 1}]}, {"items.0.seen": "read_only"}),
        ({"name": "s", "items": [{"name": "a", "id": 1}]}, {"items.0.id": "read_only"}),
        ({"name": "s", "items": [{"name": "a", "shelfId": 1}]}, {"items.0.shelfId": "read_only"}),
        ({"name": "s", "items": ["a"]}, {"items.0": "type"}),
        ({"name": "s", "items": {"name": "a"}}, {"items": "type"}),
        ({"name": "s", "items": None}, {"items": "type"}),
        ({"name": "s", "items": {"$replace": 1}}, {"items": "type"}),
        ({"name": "s", "items": [{"name": "a"}] * 1001}, {"items": "too_many"}),
        (
            {"name": "s", "items": [{"name": "a", "parts": [{"name": "b"}, {"nam": "b"}]}]},
            {"items.0.parts.1.name": "required", "items.0.parts.1.nam": "unknown_field"},
        ),
        (
            {"name": "s", "items": [{"name": "a", "shelf": {"name": "other"}}]},
            {"items.0.shelf": "unknown_field"},
        ),
    ],
)
async def test_faults_of_all_rows_are_told_at_once_with_their_paths(
    shared: TestedApplication, body: dict[str, Any], expected: dict[str, str]
) -> None:
    client = shared.client()
    before = await rows(shared)
    response = await client.post(SHELVES, json=body)
    assert (response.status_code, details(response)) == (422, expected)
    several = await client.post(f"{SHELVES}/batch", json=[{"name": "ok"}, body])
    assert details(several) == {f"1.{field}": code for field, code in expected.items()}
    step = {"operation": "create", "resource": "Shelves", "data": body}
    in_steps = await client.post("/api/v1/batch", json=[step])
    assert details(in_steps) == {f"0.{field}": code for field, code in expected.items()}
    assert await rows(shared) == before


async def test_a_clash_below_undoes_everything_and_tells_where(store: TestedApplication) -> None:
    client = store.client()
    await client.post(ITEMS, json={"name": "x", "sku": "taken"})
    before = await rows(store)
    body = {"name": "s", "items": [{"name": "a"}, {"name": "b", "sku": "taken"}]}
    refused = await client.post(SHELVES, json=body)
    assert (refused.status_code, details(refused)) == (409, {"items.1.sku": "unique"})
    many = await client.post(f"{SHELVES}/batch", json=[{"name": "t"}, body])
    assert (many.status_code, details(many)) == (409, {"1.items.1.sku": "unique"})
    assert await rows(store) == before
    apart = {"operation": "create", "items": [body, {"name": "t", "items": [{"name": "c"}]}], "atomic": False}
    outcomes = (await client.post(f"{SHELVES}/batch", json=apart)).json()["data"]
    assert [one["success"] for one in outcomes] == [False, True]
    assert outcomes[1]["data"]["items"][0]["name"] == "c"
    assert (await client.get(SHELVES)).json()["count"] == 1


async def test_only_rows_of_this_row_can_be_named(store: TestedApplication) -> None:
    admin, editor, beta = store.client(), store.client(role="Editor"), store.client(tenant="beta")
    mine, other = await a_shelf(admin, "a"), await a_shelf(admin, "b")
    foreign = await a_shelf(beta, *(f"f{n}" for n in range(5)))
    hidden = await admin.patch(f"{ITEMS}/{mine['items'][0]['id']}", json={"cost": 5})
    assert hidden.status_code == 200
    before = await rows(store)
    url = f"{SHELVES}/{mine['id']}"
    strangers: list[Any] = [other["items"][0]["id"], foreign["items"][4]["id"], 999999, "x"]
    for key in strangers:
        for method, extra in (("PATCH", {}), ("PUT", {"name": "s"})):
            body = {**extra, "items": [{"name": "new"}, {"id": key, "name": "mine"}]}
            refused = await admin.request(method, url, json=body)
            assert (refused.status_code, details(refused)) == (422, {"items.1.id": "reference"}), key
    # What the editor may not read is not there for him.
    unseen = await editor.patch(url, json={"items": [{"id": mine["items"][0]["id"], "name": "x"}]})
    assert (unseen.status_code, details(unseen)) == (422, {"items.0.id": "reference"})
    moved = {"items": [{"id": mine["items"][0]["id"], "shelfId": other["id"]}]}
    refused = await admin.patch(url, json=moved)
    assert (refused.status_code, details(refused)) == (422, {"items.0.shelfId": "read_only"})
    twice = {"items": [{"id": mine["items"][0]["id"]}, {"id": str(mine["items"][0]["id"])}]}
    assert details(await admin.patch(url, json=twice)) == {"items.1.id": "duplicate"}
    for wrong in (True, [1]):
        assert details(await admin.patch(url, json={"items": [{"id": wrong}]})) == {"items.0.id": "type"}
    assert await rows(store) == before


async def test_each_row_needs_the_right_that_it_would_need_alone(store: TestedApplication) -> None:
    admin, editor, viewer = store.client(), store.client(role="Editor"), store.client(role="Viewer")
    shelf = await a_shelf(admin, "a")
    url, key = f"{SHELVES}/{shelf['id']}", shelf["items"][0]["id"]
    assert (await editor.patch(url, json={"items": [{"name": "ok"}, {"id": key, "stock": 99}]})).is_success
    before = await rows(store)
    for body, fault in (
        ({"items": [{"name": "x", "cost": 1}]}, {"items.0.cost": "forbidden"}),
        ({"items": [{"id": key, "price": 1}]}, {"items.0.price": "forbidden"}),
        ({"items": [{"id": key, "stock": 500}]}, {"items.0": "forbidden"}),
        ({"items": [{"name": "x", "parts": [{"name": "p"}]}]}, {"items.0.parts": "forbidden"}),
    ):
        refused = await editor.patch(url, json=body)
        assert (refused.status_code, details(refused)) == (403, fault), refused.text
    assert (await viewer.patch(url, json={"items": [{"name": "x"}]})).status_code == 403
    assert await rows(store) == before


async def test_a_patch_merges_objects_of_related_rows_and_keeps_to_its_precondition(
    store: TestedApplication,
) -> None:
    client = store.client()
    shelf = await a_shelf(client, items=[{"name": "a", "extra": {"a": 1, "b": 2}}])
    url = f"{SHELVES}/{shelf['id']}"
    body = {"items": [{"id": shelf["items"][0]["id"], "extra": {"b": None, "c": 3}}]}
    stale = await client.patch(url, json=body, headers={"If-Match": '"7"'})
    assert stale.status_code == 412
    done = await client.patch(url, json=body, headers={"If-Match": '"1"'})
    assert done.json()["data"]["items"][0]["extra"] == {"a": 1, "c": 3}
    listed = await client.get(f"{ITEMS}?filter[name]=a")
    assert listed.json()["data"][0]["extra"] == {"a": 1, "c": 3}


async def test_logic_classes_have_their_say_on_every_level(store: TestedApplication) -> None:
    client, boxes = store.client(), "/api/v1/boxes"
    made = await client.post(boxes, json={"name": "a", "lids": [{"name": "x"}, {"name": "y"}]})
    assert made.status_code == 201, made.text
    row = made.json()["data"]
    assert row["name"] == "a!"
    assert [lid["name"] for lid in row["lids"]] == [f"x of {row['id']}", f"y of {row['id']}"]
    refused = await client.post(boxes, json={"name": "b", "lids": [{"name": "x"}, {"name": "refused"}]})
    assert (refused.status_code, details(refused)) == (409, {"lids.1": "conflict"})
    # A class that goes its own way would lose them without a word.
    lost = await client.post(boxes, json={"name": "own way", "lids": [{"name": "x"}]})
    assert (lost.status_code, details(lost)) == (422, {"lids": "unknown_field"})
    assert (await client.post(boxes, json={"name": "own way"})).status_code == 201
    assert [box["name"] for box in (await client.get(f"{boxes}?sort=id")).json()["data"]] == ["a!", "own way"]


async def test_more_rows_inside_than_a_request_may_hold_are_refused_before_any_is_locked(
    store: TestedApplication,
) -> None:
    client = store.client()
    shelf = await a_shelf(client, "a")
    item = shelf["items"][0]["id"]
    most = 1_000  # of one list
    bodies = [
        {"items": [{"id": item, "parts": [{"id": n * most + one} for one in range(most)]}]} for n in range(11)
    ]
    operations = [
        {"operation": "patch", "resource": "Shelves", "id": shelf["id"], "data": body} for body in bodies
    ]
    steps = [{"op": "add", "path": "/items", "value": [bodies[0]["items"][0]] * 11}]
    url, kind = f"{SHELVES}/{shelf['id']}", {"content-type": "application/json-patch+json"}
    async with store.connected.database.system() as transaction:
        await transaction.execute("select from items where id = $1 for update", item)
        async with asyncio.timeout(20):
            refused = await client.post("/api/v1/batch", json=operations)
            patched = await client.patch(url, json=steps, headers=kind)
            nowhere = await client.patch(f"{SHELVES}/99", json=steps, headers=kind)
    assert (patched.status_code, details(patched)) == (422, {"": "too_many"})
    assert nowhere.status_code == 404
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "payload_too_large"), refused.text
