"""Modifiers: values that are changed without being known, in one statement and within their bounds."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

ITEMS = "/api/v1/items"


def details(response: Any) -> dict[str, str]:
    return {one["field"]: one["code"] for one in response.json()["error"]["details"]}


async def an_item(client: Any, **values: Any) -> str:
    response = await client.post(ITEMS, json={"name": "x", **values})
    assert response.status_code == 201, response.text
    return f"{ITEMS}/{response.json()['data']['id']}"


def exactly(response: Any) -> dict[str, Any]:
    """The row with numbers as they were written."""
    found: dict[str, Any] = json.loads(response.text, parse_float=Decimal)["data"]
    return found


async def test_modifiers_and_values_go_together(store: TestedApplication) -> None:
    client = store.client()
    url = await an_item(client, stock=5, price=1.5, tags=["a"], digits="9007199254740993", ratio=0.5)
    done = await client.patch(
        url,
        json={
            "name": "y",
            "stock": {"$increment": -3},
            "price": {"$increment": 0.05},
            "digits": {"$increment": "2"},
            "ratio": {"$increment": 0.25},
            "tags": {"$append": ["b", "c"]},
            "marks": {"$append": [1, 2, 1]},
            "extra": {"$increment": 1},
        },
    )
    assert done.status_code == 200, done.text
    row = exactly(done)
    assert (row["name"], row["stock"], str(row["price"]), row["ratio"]) == ("y", 2, "1.55", Decimal("0.75"))
    assert (row["digits"], row["tags"], row["marks"]) == ("9007199254740995", ["a", "b", "c"], [1, 2, 1])
    assert row["extra"] == {"$increment": 1}  # in a json field it is data
    assert row["version"] == 2
    again = await client.patch(url, json={"tags": {"$remove": ["b", "z"]}, "marks": {"$remove": [1.0]}})
    assert (again.json()["data"]["tags"], again.json()["data"]["marks"]) == (["a", "c"], [2])
    async with store.connected.database.system() as transaction:
        changes = await transaction.fetchval("select changes from audit_logs order by id desc limit 1")
    assert json.loads(changes)["before"]["tags"] == ["a", "b", "c"]
    assert json.loads(changes)["after"]["tags"] == ["a", "c"]


@pytest.mark.parametrize(
    ("stored", "patch", "faults"),
    [
        ({"stock": 3}, {"stock": {"$increment": -4}}, ["stock"]),
        ({"stock": 999}, {"stock": {"$increment": 2}}, ["stock"]),
        ({"stock": 1}, {"stock": {"$increment": 2_147_483_647}}, ["stock"]),
        ({"total": 2**63 - 1}, {"total": {"$increment": 1}}, ["total"]),
        ({"total": -(2**63)}, {"total": {"$increment": -(2**63)}}, ["total"]),
        ({"price": 499.99}, {"price": {"$increment": 0.01}}, ["price"]),
        ({"price": -999999.99}, {"price": {"$increment": -0.01}}, ["price"]),
        ({"pairs": 2}, {"pairs": {"$increment": 1}}, ["pairs"]),
        ({"ratio": 1e308}, {"ratio": {"$increment": 1e308}}, ["ratio"]),
        ({"ratio": -1}, {"ratio": {"$increment": -0.75}}, ["ratio"]),
        ({"price": None}, {"price": {"$increment": 1}}, ["price"]),
        ({"tags": ["a", "b"]}, {"tags": {"$append": ["a"]}}, ["tags:unique_items"]),
        ({"tags": ["a", "b"]}, {"tags": {"$append": ["c", "c"]}}, ["tags:unique_items"]),
        ({"tags": ["a", "b"]}, {"tags": {"$append": ["c", "d", "e"]}}, ["tags"]),
        ({"tags": ["a", "b"]}, {"tags": {"$append": ["a", "d", "e"]}}, ["tags"]),
        ({"tags": None}, {"tags": {"$append": ["c", "c"]}}, ["tags:unique_items"]),
        ({"marks": [1, 1]}, {"marks": {"$remove": [1]}}, ["marks"]),
        ({"marks": None}, {"marks": {"$append": []}}, ["marks"]),
        (
            {"stock": 0, "tags": ["a"]},
            {"stock": {"$increment": -1}, "tags": {"$append": ["a"]}},
            ["stock", "tags:unique_items"],
        ),
        ({"stock": 0, "total": 0}, {"stock": {"$increment": -1}, "total": {"$increment": 1}}, ["stock"]),
    ],
)
async def test_a_result_that_is_no_value_of_the_field_is_a_conflict_and_changes_nothing(
    shared: TestedApplication, stored: dict[str, Any], patch: dict[str, Any], faults: list[str]
) -> None:
    client = shared.client()
    url = await an_item(client, **stored)
    before = await client.get(url)
    refused = await client.patch(url, json=patch)
    expected = {name: code or "out_of_range" for name, _, code in (one.partition(":") for one in faults)}
    assert (refused.status_code, details(refused)) == (409, expected), refused.text
    assert (await client.get(url)).json()["data"] == before.json()["data"]


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"stock": {"$increment": 1.5}}, {"stock": "type"}),
        ({"stock": {"$increment": "1"}}, {"stock": "type"}),
        ({"stock": {"$increment": True}}, {"stock": "type"}),
        ({"stock": {"$increment": None}}, {"stock": "null"}),
        ({"stock": {"$increment": 2**31}}, {"stock": "out_of_range"}),
        ({"stock": {"$append": [1]}}, {"stock": "modifier"}),
        ({"stock": {"$increment": 1, "$append": [1]}}, {"stock": "modifier"}),
        ({"stock": {"$multiply": 2}}, {"stock": "modifier"}),
        ({"stock": {"increment": 2}}, {"stock": "type"}),
        ({"stock": {}}, {"stock": "type"}),
        ({"price": {"$increment": 0.001}}, {"price": "out_of_range"}),
        ({"digits": {"$increment": 1}}, {"digits": "type"}),
        ({"tags": {"$append": "a"}}, {"tags": "type"}),
        ({"tags": {"$append": ["a", 1]}}, {"tags.1": "type"}),
        ({"tags": {"$append": ["a" * 11]}}, {"tags.0": "too_long"}),
        ({"tags": {"$remove": [None]}}, {"tags.0": "null"}),
        ({"tags": {"$increment": 1}}, {"tags": "modifier"}),
        ({"seen": {"$increment": 1}}, {"seen": "read_only"}),
        ({"version": {"$increment": 1}}, {"version": "read_only"}),
        ({"id": {"$increment": 1}}, {"id": "read_only"}),
        ({"shelfId": {"$increment": 1}}, {"shelfId": "type"}),
        ({"name": {"$append": ["x"]}}, {"name": "type"}),
        ({"nothing": {"$increment": 1}}, {"nothing": "unknown_field"}),
        ({"name": 1, "stock": {"$increment": "x"}}, {"name": "type", "stock": "type"}),
    ],
)
async def test_a_modifier_that_is_none_is_refused(
    shared: TestedApplication, patch: dict[str, Any], expected: dict[str, str]
) -> None:
    client = shared.client()
    url = await an_item(client, tags=["a"])
    refused = await client.patch(url, json=patch)
    assert (refused.status_code, details(refused)) == (422, expected), refused.text
    whole = {"operation": "patch", "items": [{"id": int(url.rpartition("/")[2]), **patch}]}
    if not patch.keys() & {"id", "version"}:  # of an item they say which row is meant
        in_batch = await client.post(f"{ITEMS}/batch", json=whole)
        assert details(in_batch) == {f"0.{field}": code for field, code in expected.items()}


async def test_only_a_patch_modifies(store: TestedApplication) -> None:
    client = store.client()
    url = await an_item(client)
    body = {"name": "x", "stock": {"$increment": 1}}
    for refused in (await client.post(ITEMS, json=body), await client.put(url, json=body)):
        assert (refused.status_code, details(refused)) == (422, {"stock": "type"})


async def test_modifiers_are_written_under_the_rules_of_their_fields_and_rows(
    store: TestedApplication,
) -> None:
    admin, editor, viewer = store.client(), store.client(role="Editor"), store.client(role="Viewer")
    url = await an_item(admin, stock=95)
    assert (await viewer.patch(url, json={"stock": {"$increment": 1}})).status_code == 403
    hidden = await editor.patch(url, json={"total": {"$increment": 1}})
    assert (hidden.status_code, details(hidden)) == (403, {"total": "forbidden"})
    assert (await editor.patch(url, json={"stock": {"$increment": 4}})).status_code == 200
    # He may not bring the stock to where he could not change it any more.
    assert (await editor.patch(url, json={"stock": {"$increment": 1}})).status_code == 403
    assert (await admin.get(url)).json()["data"]["stock"] == 99


async def test_modifiers_work_in_batches_steps_and_related_rows(store: TestedApplication) -> None:
    client = store.client()
    shelf = (await client.post("/api/v1/shelves", json={"name": "s", "items": [{"name": "x"}]})).json()[
        "data"
    ]
    key = shelf["items"][0]["id"]
    more = {"stock": {"$increment": 2}}
    batch = {"operation": "patch", "items": [{"id": key, **more}]}
    assert (await client.post(f"{ITEMS}/batch", json=batch)).status_code == 200
    step = {"operation": "patch", "resource": "Items", "id": key, "data": more}
    assert (await client.post("/api/v1/batch", json=[step, step])).status_code == 200
    nested = await client.patch(f"/api/v1/shelves/{shelf['id']}", json={"items": [{"id": key, **more}]})
    assert nested.json()["data"]["items"][0]["stock"] == 8
    await client.patch(f"{ITEMS}/{key}", json={"extra": {"a": 1}})
    both = await client.patch(f"{ITEMS}/{key}", json={"extra": {"b": 2}, **more})
    assert (both.json()["data"]["extra"], both.json()["data"]["stock"]) == ({"a": 1, "b": 2}, 10)


async def _increments(store: TestedApplication, total: int, clients: int) -> None:
    """Many clients count up, each waiting for its own answer."""
    client = store.client()
    plain, guarded = await an_item(client), await an_item(client, name="y")
    waiting = iter(range(total))

    async def count() -> None:
        for _ in waiting:
            done = await client.patch(plain, json={"total": {"$increment": 1}, "stock": 7})
            assert done.status_code == 200, done.text
            while True:
                tag = (await client.get(guarded)).headers["etag"]
                body = {"total": {"$increment": 1}}
                answer = await client.patch(guarded, json=body, headers={"If-Match": tag})
                if answer.status_code == 200:
                    break
                assert answer.status_code == 412, answer.text

    await asyncio.gather(*(count() for _ in range(clients)))
    for url in (plain, guarded):
        row = (await client.get(url)).json()["data"]
        assert (row["total"], row["version"]) == (total, total + 1)


async def test_increments_of_many_clients_make_the_exact_sum(store: TestedApplication) -> None:
    await _increments(store, 60, 16)


@pytest.mark.soak
async def test_a_thousand_increments_of_sixteen_clients_make_the_exact_sum(store: TestedApplication) -> None:
    await _increments(store, 1_000, 16)


GUARDED = {
    "resources": [
        {
            "name": "Tanks",
            "versioned": True,
            "fields": {
                "level": {"type": "integer", "default": 0, "minimum": 0},
                "price": {"type": "decimal", "precision": 30, "scale": 2},
                "ratio": {"type": "float"},
                "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
                "flags": {"type": "array", "items": {"type": "boolean"}},
                "secret": {"type": "integer", "default": 1},
            },
            "access": {
                "read": ["Admin", {"roles": ["Editor"], "fields": ["level", "tags"]}],
                "write": ["Admin", "Editor"],
            },
        }
    ]
}
GUARD = """
from byodpp.exceptions import Conflict
from byodpp.logics import Logic


class TanksPatch(Logic):
    resource, operation = "Tanks", "patch"

    async def execute(self):
        if self.request.body.get("level", 0) > 10:
            raise Conflict("It would run over")
        return await self.default()
"""


async def test_a_class_of_a_patch_judges_the_results_of_modifiers(
    byodpp_bench: Bench, tmp_path: Path
) -> None:
    blueprint = build(tmp_path, GUARDED, {"logics/v1/tanks.py": GUARD})
    async with byodpp_bench.application(blueprint) as tested:
        client, editor = tested.client(), tested.client(role="Editor")
        made = await client.post(
            "/api/v1/tanks", json={"level": 8, "price": 0.1, "flags": [True], "ratio": 0.5}
        )
        url = f"/api/v1/tanks/{made.json()['data']['id']}"
        changes: dict[str, Any] = {
            "level": {"$increment": 2},
            "price": {"$increment": "LARGE"},
            "ratio": {"$increment": 0.25},
            "tags": {"$append": ["a", "b"]},
            "flags": {"$remove": [False]},
        }
        text = json.dumps(changes).replace('"LARGE"', "1234567890123456789012345678.05")
        done = await client.patch(url, content=text, headers={"Content-Type": "application/json"})
        row = exactly(done)
        assert (row["level"], row["tags"], row["flags"]) == (10, ["a", "b"], [True])
        assert (str(row["price"]), row["ratio"]) == ("1234567890123456789012345678.15", Decimal("0.75"))
        for change, told in (
            ({"level": {"$increment": 1}}, "It would run over"),
            ({"level": {"$increment": -11}}, "The row's present value does not allow this change."),
            ({"tags": {"$append": ["c", "d"]}}, "The row's present value does not allow this change."),
        ):
            refused = await client.patch(url, json=change)
            assert (refused.status_code, refused.json()["error"]["message"]) == (409, told), refused.text
        hidden = await editor.patch(url, json={"secret": {"$increment": 1}})
        assert (hidden.status_code, details(hidden)) == (403, {"secret": "forbidden"})
        body = {"operation": "patch", "items": [{"id": row["id"], "tags": {"$remove": ["a"]}}]}
        assert (await editor.post("/api/v1/tanks/batch", json=body)).json()["data"][0]["tags"] == ["b"]
        await client.patch(url, json={"level": 0})
        answers = await asyncio.gather(
            *(client.patch(url, json={"level": {"$increment": 1}}) for _ in range(20))
        )
        assert sorted(one.status_code for one in answers) == [200] * 10 + [409] * 10
        assert (await client.get(url)).json()["data"]["level"] == 10
