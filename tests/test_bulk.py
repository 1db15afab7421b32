"""Batches by filter: every row that matches, up to a number, each under its own rules."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from byodpp.testing import Bench, TestedApplication
from tests.patience import blocked
from tests.worlds import build

ITEMS = "/api/v1/items"
BATCH = "/api/v1/items/batch"


def code(response: Any) -> str:
    found: str = response.json()["error"]["code"]
    return found


def details(response: Any) -> dict[str, str]:
    return {one["field"]: one["code"] for one in response.json()["error"]["details"]}


async def rows(store: TestedApplication) -> list[tuple[Any, ...]]:
    async with store.connected.database.system() as transaction:
        return [
            tuple(row)
            for row in await transaction.fetch("select xmin::text, t.*::text from items t order by 2")
        ]


async def ten_items(client: Any) -> list[int]:
    items = [{"name": f"n{n}", "stock": n} for n in range(10)]
    made = await client.post(BATCH, json=items)
    assert made.status_code == 201, made.text
    return [row["id"] for row in made.json()["data"]]


async def test_a_patch_by_filter_changes_every_row_that_matches_and_tells_of_each(
    store: TestedApplication,
) -> None:
    client = store.client()
    keys = await ten_items(client)
    body = {
        "operation": "patch",
        "filter": {"stock": {"gte": 6}},
        "data": {"name": "much", "stock": {"$increment": 10}, "extra": {"a": 1}},
        "max": 4,
    }
    done = await client.post(BATCH, json=body)
    assert done.status_code == 200, done.text
    assert [(row["id"], row["stock"], row["extra"]) for row in done.json()["data"]] == [
        (key, 16 + place, {"a": 1}) for place, key in enumerate(keys[6:])
    ]
    assert (await client.get(f"{ITEMS}?filter[name]=much")).json()["count"] == 4
    names = [event.name for event in await store.events()]
    assert names.count("items.updated") == 4
    async with store.connected.database.system() as transaction:
        assert await transaction.fetchval("select count(*) from audit_logs where action = 'PATCH'") == 4
    none = await client.post(BATCH, json={**body, "filter": {"stock": 99}})
    assert (none.status_code, none.json()["data"]) == (200, [])


async def test_a_delete_by_filter_returns_the_keys(store: TestedApplication) -> None:
    client = store.client()
    keys = await ten_items(client)
    body = {
        "operation": "delete",
        "filter": {"or": [{"stock": 1}, {"name": {"in": ["n3", "n5"]}}]},
        "max": 100,
    }
    done = await client.post(BATCH, json=body)
    assert done.json()["data"] == [{"id": keys[1]}, {"id": keys[3]}, {"id": keys[5]}]
    assert (await client.get(ITEMS)).json()["count"] == 7


async def test_more_rows_than_the_maximum_are_a_conflict_and_none_is_changed(
    store: TestedApplication,
) -> None:
    client = store.client()
    await ten_items(client)
    whole = {"operation": "patch", "filter": {"stock": {"gte": 9}}, "data": {"stock": 9}, "max": 3.0}
    assert (await client.post(BATCH, json=whole)).status_code == 200  # 3.0 is 3
    before = await rows(store)
    for operation, more in (("patch", {"data": {"stock": 1}}), ("delete", {})):
        body = {"operation": operation, "filter": {"stock": {"gte": 6}}, "max": 3, **more}
        refused = await client.post(BATCH, json=body)
        assert (refused.status_code, details(refused)) == (409, {"max": "too_many"})
    one_of_them = {"operation": "patch", "filter": {"stock": {"gte": 6}}, "max": 5}
    refused = await client.post(BATCH, json={**one_of_them, "data": {"stock": {"$increment": -8}}})
    assert (refused.status_code, details(refused)) == (409, {"data.stock": "out_of_range"})
    refused = await client.post(BATCH, json={**one_of_them, "data": {"sku": "same"}})
    assert (refused.status_code, details(refused)) == (409, {"data.sku": "unique"})
    assert await rows(store) == before


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"operation": "patch", "data": {"stock": 1}}, {"max": "required"}),
        ({"operation": "patch", "max": 5}, {"data": "required"}),
        ({"operation": "patch", "data": {"stock": 1}, "max": 0}, {"max": "out_of_range"}),
        ({"operation": "patch", "data": {"stock": 1}, "max": 1001}, {"max": "out_of_range"}),
        ({"operation": "patch", "data": {"stock": 1}, "max": "5"}, {"max": "type"}),
        ({"operation": "patch", "data": {"stock": 1}, "max": True}, {"max": "type"}),
        (
            {"operation": "patch", "data": {"stock": "x", "y": 1}, "max": 5},
            {"data.stock": "type", "data.y": "unknown_field"},
        ),
        ({"operation": "patch", "data": {"seen": 1}, "max": 5}, {"data.seen": "read_only"}),
        ({"operation": "patch", "data": [], "max": 5}, {"data": "type"}),
        ({"operation": "patch", "data": {"stock": 1}, "max": 5, "items": []}, {"items": "unknown_field"}),
        ({"operation": "delete", "max": 5, "data": {}}, {"data": "unknown_field"}),
        ({"operation": "delete", "max": 5, "atomic": False}, {"atomic": "unknown_field"}),
        ({"operation": "delete", "max": 5, "filter": {}}, {"filter": "type"}),
        ({"operation": "delete", "max": 5, "filter": None}, {"filter": "type"}),
        (
            {"operation": "update", "max": 5, "data": {}},
            {"filter": "unknown_field", "max": "unknown_field", "data": "unknown_field", "items": "required"},
        ),
    ],
)
async def test_a_batch_by_filter_that_is_none_is_refused(
    shared: TestedApplication, body: dict[str, Any], expected: dict[str, str]
) -> None:
    response = await shared.client().post(BATCH, json={"filter": {"stock": 1}, **body})
    assert (response.status_code, details(response)) == (422, expected), response.text


async def test_a_filter_asks_no_more_than_a_list_may(store: TestedApplication) -> None:
    admin, editor = store.client(), store.client(role="Editor")
    keys = await ten_items(admin)
    await admin.patch(f"{ITEMS}/{keys[0]}", json={"cost": 5})
    before = await rows(store)
    for condition in ({"nothing": 1}, {"name": {"foo": 1}}, {"stock": "x"}):
        body = {"operation": "patch", "filter": condition, "data": {"name": "x"}, "max": 50}
        refused = await admin.post(BATCH, json=body)
        assert (refused.status_code, code(refused)) == (400, "invalid_query"), refused.text
    assert await rows(store) == before
    # The row with costs is not there for him, and is not counted.
    body = {"operation": "patch", "filter": {"stock": {"lt": 3}}, "data": {"name": "seen"}, "max": 2}
    done = await editor.post(BATCH, json=body)
    assert [row["id"] for row in done.json()["data"]] == keys[1:3]


async def test_rights_and_row_rules_hold_for_each_row(store: TestedApplication) -> None:
    admin, editor, viewer = store.client(), store.client(role="Editor"), store.client(role="Viewer")
    keys = await ten_items(admin)
    await admin.patch(f"{ITEMS}/{keys[9]}", json={"stock": 500})
    before = await rows(store)
    everything = {"filter": {"stock": {"gte": 0}}, "max": 50}
    patch = {"operation": "patch", "data": {"name": "x"}, **everything}
    assert (await viewer.post(BATCH, json=patch)).status_code == 403
    assert (await editor.post(BATCH, json=patch)).status_code == 403  # one of them has too large a stock
    field = await editor.post(BATCH, json={**patch, "data": {"total": 1}})
    assert (field.status_code, details(field)) == (403, {"data.total": "forbidden"})
    assert (await editor.post(BATCH, json={"operation": "delete", **everything})).status_code == 403
    assert (await store.client(tenant="beta").post(BATCH, json=patch)).json()["data"] == []
    assert await rows(store) == before
    made = await admin.post("/api/v1/plain", json={"name": "x"})
    required = {"operation": "delete", "filter": {"id": made.json()["data"]["id"]}, "max": 5}
    assert (await admin.post("/api/v1/plain/batch", json=required)).status_code == 428


async def test_a_row_that_others_change_meanwhile_is_looked_at_again(store: TestedApplication) -> None:
    client = store.client()
    keys = await ten_items(client)
    async with store.connected.database.system() as transaction:
        await transaction.execute("update items set stock = 100 where id = $1", keys[8])
        body = {
            "operation": "patch",
            "filter": {"stock": {"between": [7, 9]}},
            "data": {"name": "x"},
            "max": 9,
        }
        waiting = asyncio.create_task(client.post(BATCH, json=body))
        await blocked(transaction)
        assert not waiting.done()
    assert [row["id"] for row in (await waiting).json()["data"]] == [keys[7], keys[9]]


async def test_many_patches_by_filter_at_once_lose_nothing(store: TestedApplication) -> None:
    client = store.client()
    await ten_items(client)
    body = {
        "operation": "patch",
        "filter": {"stock": {"gte": 0}},
        "data": {"total": {"$increment": 1}},
        "max": 10,
    }
    answers = await asyncio.gather(*(client.post(BATCH, json=body) for _ in range(12)))
    assert {one.status_code for one in answers} == {200}, [one.text for one in answers]
    assert {row["total"] for row in (await client.get(ITEMS)).json()["data"]} == {12}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"nonsense": 1}, {"data.nonsense": "unknown_field"}),
        ({"name": 5}, {"data.name": "type"}),
        (
            {"size": {"height": "tall", "depth": 1}},
            {"data.size.depth": "unknown_field", "data.size.height": "type"},
        ),
        ({"size": {}, "marks": []}, {"data.marks": "too_few"}),
        ({"parts": {"$replace": [{"id": 2**63, "name": "a"}]}}, {"data.parts.0.id": "reference"}),
        (
            {"size": {"width": 1}, "parts": [{"nom": "a"}]},
            {"data.parts.0.name": "required", "data.parts.0.nom": "unknown_field"},
        ),
        (
            {"parts": {"$replace": [{"id": 1, "form": {"deep": "x", "wide": 1}, "nom": 1}]}},
            {
                "data.parts.0.form.deep": "type",
                "data.parts.0.form.wide": "unknown_field",
                "data.parts.0.nom": "unknown_field",
            },
        ),
        ({"parts": [{"id": 1, "form": {}}]}, {}),
        ({"size": {"width": 1}}, {}),
        ({"size": {"height": None}}, {"data.size.height": "required"}),
        ({"size": {"width": 1}, "parts": [{"name": "a"}]}, {}),
        ({"size": None, "name": "b"}, {}),
    ],
)
async def test_a_patch_that_no_row_could_take_is_refused_though_none_matches(
    byodpp_bench: Bench, tmp_path: Path, data: dict[str, Any], expected: dict[str, str]
) -> None:
    number, size = {"type": "integer"}, {"height": {"type": "integer", "required": True}}
    things = {
        "name": "Things",
        "fields": {
            "name": {"type": "string", "index": True},
            "marks": {"type": "array", "items": number, "minItems": 1},
            "size": {"type": "object", "properties": {**size, "width": number}},
        },
        "relations": {"parts": {"resource": "Parts", "foreignField": "thingId"}},
    }
    parts = {
        "name": "Parts",
        "fields": {
            "name": {"type": "string", "required": True},
            "form": {"type": "object", "properties": {"deep": {"type": "integer", "required": True}}},
            "thingId": {"references": "Things", "required": True},
        },
    }
    async with byodpp_bench.application(build(tmp_path, {"resources": [things, parts]})) as tested:
        client = tested.client()
        body = {"operation": "patch", "filter": {"name": "nobody's"}, "data": data, "max": 5}
        answer = await client.post("/api/v1/things/batch", json=body)
        assert answer.status_code == (422 if expected else 200), answer.text
        assert (details(answer) if expected else {}) == expected


OWN_CLASS = """
from marshmallow import Schema, ValidationError, validates_schema


class Patch(Schema):
    resource, operation, extends = "Things", "patch", True

    @validates_schema
    def width_needs_height(self, data, **kwargs):
        if "height" not in data.get("size", {}):
            raise ValidationError({"size": {"width": ["Needs a height."]}})
"""


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"nonsense": 1}, 422),
        ({"size": {"width": -1}}, 422),
        ({"name": "much too long"}, 422),
        ({"size": {"width": 1}, "amount": {"$increment": "x"}}, 422),
        ({"name": "b"}, 200),
    ],
    ids=["unknown", "beyond", "long", "modifier", "valid"],
)
async def test_what_a_class_of_the_application_may_see_in_stored_values_waits_for_a_row(
    byodpp_bench: Bench, tmp_path: Path, more: dict[str, Any], status: int
) -> None:
    number = {"type": "integer", "minimum": 0}
    fields = {
        "name": {"type": "string", "index": True, "maxLength": 8},
        "amount": number,
        "size": {"type": "object", "properties": {"height": number, "width": number}},
    }
    manifest = {"resources": [{"name": "Things", "fields": fields}]}
    blueprint = build(tmp_path, manifest, {"schemas/things.py": OWN_CLASS})
    async with byodpp_bench.application(blueprint) as tested:
        client = tested.client()
        data = {"size": {"width": 1}, **more}
        body = {"operation": "patch", "filter": {"name": "a"}, "data": data, "max": 5}
        answer = await client.post("/api/v1/things/batch", json=body)
        assert answer.status_code == status, answer.text
        for size, expected in (({"height": 2}, status), ({}, 422)):
            made = await client.post("/api/v1/things", json={"name": "a", "size": size})
            assert made.status_code == 201, made.text
            answer = await client.post("/api/v1/things/batch", json=body)
            assert answer.status_code == expected, answer.text


FIELD_CLASS = """
from marshmallow import Schema, ValidationError, fields, validate, validates

from byodpp.schemas import Fault


class Patch(Schema):
    resource, operation, extends = "Things", "patch", True
    amount = fields.Integer(validate=validate.Range(max=9))

    @validates("name")
    def is_not_odd(self, value, data_key):
        if value == "odd":
            raise ValidationError([Fault("odd", "Is odd.")])

    @validates("size")
    def has_height(self, value, data_key):
        if "height" not in value:
            raise ValidationError([Fault("flat", "Has no height.")])
"""


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"name": "odd"}, {"data.name": "odd"}),
        ({"amount": 11}, {"data.amount": "out_of_range"}),
        ({"size": {"width": -1}, "name": "odd"}, {"data.name": "odd", "data.size.width": "out_of_range"}),
        ({"parts": [{"amount": -1, "name": "a"}]}, {"data.parts.0.amount": "out_of_range"}),
        ({}, {}),
    ],
)
async def test_what_a_class_says_of_one_field_needs_no_row_unless_the_field_is_merged(
    byodpp_bench: Bench, tmp_path: Path, more: dict[str, Any], expected: dict[str, str]
) -> None:
    number = {"type": "integer", "minimum": 0}
    things = {
        "name": "Things",
        "fields": {
            "name": {"type": "string", "index": True},
            "amount": number,
            "size": {"type": "object", "properties": {"height": number, "width": number}},
        },
        "relations": {"parts": {"resource": "Parts", "foreignField": "thingId"}},
    }
    parts = {
        "name": "Parts",
        "fields": {
            "name": {"type": "string", "required": True},
            "amount": number,
            "thingId": {"references": "Things", "required": True},
        },
    }
    blueprint = build(tmp_path, {"resources": [things, parts]}, {"schemas/things.py": FIELD_CLASS})
    async with byodpp_bench.application(blueprint) as tested:
        client = tested.client()
        data = {"size": {"width": 1}, **more}
        body = {"operation": "patch", "filter": {"name": "nobody's"}, "data": data, "max": 5}
        answer = await client.post("/api/v1/things/batch", json=body)
        assert answer.status_code == (422 if expected else 200), answer.text
        assert (details(answer) if expected else {}) == expected
