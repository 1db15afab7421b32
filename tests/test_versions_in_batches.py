"""Rows that are written with a version only are written by batches, upserts, and imports, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

CARDS, NOTES, TAGS = "/api/v1/cards", "/api/v1/notes", "/api/v1/tags"
_NAME: Final = {"type": "string", "required": True, "unique": True}
_ALL: Final = {
    "read": ["Admin", "Editor"],
    "write": ["Admin", {"roles": ["Editor"], "fields": ["name", "text"]}],
}
_WORLD: Final[dict[str, Any]] = {
    "services": [
        {
            "name": "Office",
            "resources": [
                {
                    "name": "Cards",
                    "versioned": "required",
                    "fields": {
                        "name": _NAME,
                        "text": {"type": "string"},
                        "level": {"type": "integer"},
                        "boxId": {"references": "Boxes"},
                    },
                    "states": {
                        "initial": "draft",
                        "transitions": {"publish": {"from": "draft", "to": "out"}},
                    },
                    "access": _ALL,
                },
                {
                    "name": "Notes",
                    "versioned": True,
                    "fields": {"name": _NAME, "text": {"type": "string"}},
                    "access": _ALL,
                },
                {
                    "name": "Boxes",
                    "fields": {"name": _NAME},
                    "relations": {
                        "cards": {"resource": "Cards", "foreignField": "boxId"},
                        "lids": {"resource": "Lids", "foreignField": "boxId"},
                    },
                    "access": {"read": ["Admin"], "write": ["Admin"]},
                },
                {
                    "name": "Lids",
                    "id": "ulid",
                    "fields": {"name": _NAME, "boxId": {"references": "Boxes"}, "text": {"type": "string"}},
                    "access": {"read": ["Admin"], "write": ["Admin"]},
                },
                {"name": "Tags", "fields": {"name": _NAME, "text": {"type": "string"}}, "access": _ALL},
            ],
        }
    ]
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("office"), _WORLD)


@pytest_asyncio.fixture(loop_scope="session")
async def office(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


async def made(client: Any, url: str, *names: str) -> list[int]:
    answer = await client.post(f"{url}/batch", json=[{"name": name} for name in names])
    assert answer.status_code == 201, answer.text
    return [row["id"] for row in answer.json()["data"]]


async def stored(client: Any, url: str = CARDS) -> list[tuple[Any, ...]]:
    rows = (await client.get(f"{url}?sort=id")).json()["data"]
    return [(row["name"], row.get("text"), row.get("version")) for row in rows]


def told(answer: Any) -> tuple[int, str | None, dict[str, str]]:
    error = answer.json().get("error", {})
    return (
        answer.status_code,
        error.get("code"),
        {one["field"]: one["code"] for one in error.get("details", ())},
    )


def results(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [one["error"]["statusCode"] if "error" in one else 200 for one in answer.json()["data"]]


@pytest.mark.parametrize("role", ["Admin", "Editor"])
async def test_items_name_the_version_of_their_row(office: TestedApplication, role: str) -> None:
    client = office.client(role=role)
    a, b, c = await made(client, CARDS, "a", "b", "c")
    patch = {
        "operation": "patch",
        "items": [{"id": a, "text": "x", "version": 1}, {"id": b, "text": "y", "version": 1}],
    }
    assert results(await client.post(f"{CARDS}/batch", json=patch)) == [200, 200]
    stale = {**patch, "items": [{"id": c, "text": "z", "version": 1}, {"id": b, "text": "y", "version": 1}]}
    assert told(await client.post(f"{CARDS}/batch", json=stale))[:2] == (412, "precondition_failed")
    assert await stored(client) == [("a", "x", 2), ("b", "y", 2), ("c", None, 1)]
    each = {**stale, "atomic": False, "items": [*stale["items"], {"id": a, "text": "no version"}]}
    assert results(await client.post(f"{CARDS}/batch", json=each)) == [200, 412, 428]
    gone = {
        "operation": "delete",
        "atomic": False,
        "items": [{"id": a, "version": 1}, {"id": b, "version": 2}, c],
    }
    assert results(await client.post(f"{CARDS}/batch", json=gone)) == [412, 200, 428]
    assert await stored(client) == [("a", "x", 2), ("c", "z", 2)]


async def test_a_version_that_is_none_is_refused_where_it_stands(office: TestedApplication) -> None:
    client = office.client()
    [card] = await made(client, CARDS, "a")
    [tag] = await made(client, TAGS, "t")
    for wrong, code in (
        ({"$increment": 1}, "type"),
        (True, "type"),
        ("1", "type"),
        (1.5, "type"),
        (-1, "out_of_range"),
        (2**63, "out_of_range"),
    ):
        for item in ({"operation": "patch", "items": [{"id": card, "text": "x", "version": wrong}]},
                     {"operation": "delete", "items": [{"id": card, "version": wrong}]},
                     {"operation": "upsert", "items": [{"name": "a", "version": wrong}]}):  # fmt: skip
            assert told(await client.post(f"{CARDS}/batch", json=item)) == (
                422, "validation_failed", {"0.version": code}
            )  # fmt: skip
        step = [{"operation": "delete", "resource": "Cards", "id": card, "version": wrong}]
        assert told(await client.post("/api/v1/batch", json=step))[2] == {"0.version": code}
    none = await client.post(
        f"{TAGS}/batch", json={"operation": "delete", "items": [{"id": tag, "version": 1}]}
    )
    assert told(none)[2] == {"0.version": "unknown_field"}
    assert await stored(client) == [("a", None, 1)]


async def test_a_version_holds_where_none_is_demanded(office: TestedApplication) -> None:
    client = office.client()
    a, b = await made(client, NOTES, "a", "b")
    items = [{"id": a, "name": "x", "version": 1}, {"id": b, "name": "y", "version": 7}]
    sent = {"operation": "patch", "atomic": False, "items": items}
    assert results(await client.post(f"{NOTES}/batch", json=sent)) == [200, 412]
    items = [{"name": "x", "version": 2}, {"name": "b", "version": 2}, {"name": "new", "version": 1}]
    sent = {"operation": "upsert", "atomic": False, "items": items}
    assert results(await client.post(f"{NOTES}/batch", json=sent)) == [200, 412, 412]
    several = {"operation": "upsert", "items": [{"name": "x", "version": 3}, {"name": "b", "version": 2}]}
    assert told(await client.post(f"{NOTES}/batch", json=several))[0] == 412
    assert await stored(client, NOTES) == [("x", None, 3), ("b", None, 1)]


async def test_upserts_and_imports_name_versions_of_the_rows_that_are_there(
    office: TestedApplication,
) -> None:
    client = office.client(role="Editor")
    await made(client, CARDS, "a", "b")
    items = [
        {"name": "a", "text": "x", "version": 1},
        {"name": "new"},
        {"name": "b", "version": None, "text": "y"},
    ]
    refused = await client.post(f"{CARDS}/batch", json={"operation": "upsert", "items": items})
    assert told(refused)[:2] == (428, "precondition_required")
    each = await client.post(f"{CARDS}/batch", json={"operation": "upsert", "items": items, "atomic": False})
    assert results(each) == [200, 200, 428]
    assert await stored(client) == [("a", "x", 2), ("b", None, 1), ("new", None, 1)]
    file = "name,text,version\na,imported,2\nb,stale,9\nfresh,t,\nghost,t,4\n"
    address = f"{CARDS}/import?operation=upsert"
    done = await client.post(address, content=file, headers={"Content-Type": "text/csv"})
    data = done.json()["data"]
    assert (data["created"], data["updated"], data["rejected"]) == (1, 1, 2), done.text
    assert {one["record"]: one["error"]["code"] for one in data["errors"]} == {
        2: "precondition_failed", 4: "precondition_failed"
    }  # fmt: skip
    lines = '{"name":"b","text":"line","version":1}\n{"name":"a","text":"none"}\n'
    done = await client.post(address, content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert [one["error"]["code"] for one in done.json()["data"]["errors"]] == ["precondition_required"]
    assert ("b", "line", 2) in await stored(client)
    created = await client.post(f"{CARDS}/import", content=file, headers={"Content-Type": "text/csv"})
    assert created.status_code == 422, "a creation has no version"


async def test_operations_of_a_transaction_name_versions(office: TestedApplication) -> None:
    client = office.client()
    a, b = await made(client, CARDS, "a", "b")
    [tag] = await made(client, TAGS, "t")
    step = {"resource": "Cards", "id": a}
    steps = [
        {**step, "operation": "patch", "version": 1, "data": {"text": "x"}},
        {
            **step,
            "operation": "update",
            "version": "{{result[0].version}}",
            "data": {"name": "a", "text": "y"},
        },
        {**step, "operation": "publish:post", "version": 3},
        {"operation": "delete", "resource": "Cards", "id": b, "version": 1},
    ]
    assert (await client.post("/api/v1/batch", json=steps)).status_code == 200
    assert await stored(client) == [("a", "y", 4)]
    stale = await client.post("/api/v1/batch", json=[steps[0]])
    assert told(stale)[:2] == (412, "precondition_failed")
    read = await client.post("/api/v1/batch", json=[{**step, "operation": "read", "version": 4}])
    assert told(read) == (422, "validation_failed", {"0.version": "unsupported"})
    bare = await client.post(
        "/api/v1/batch", json=[{"operation": "delete", "resource": "Tags", "id": tag, "version": 1}]
    )
    assert told(bare)[:2] == (412, "precondition_failed")


async def test_entity_tags_are_refused_where_several_rows_are_written(office: TestedApplication) -> None:
    client = office.client()
    [a] = await made(client, CARDS, "a")
    item = {"id": a, "version": 1, "text": "x"}
    step = {"operation": "patch", "resource": "Cards", "id": a, "version": 1, "data": {"text": "y"}}
    for url, body in (
        (f"{CARDS}/batch", {"operation": "patch", "items": [item]}),
        (f"{CARDS}/batch", [{"name": "b"}]),
        ("/api/v1/batch", [step]),
    ):
        for tag in ('"1"', '"2"', "1"):
            refused = await client.post(url, json=body, headers={"If-Match": tag})
            assert told(refused)[:2] == (412, "precondition_failed"), refused.text
            assert "`version` beside the `id`" in refused.json()["error"]["message"]
    assert await stored(client) == [("a", None, 1)]
    anyone = await client.post("/api/v1/batch", json=[step], headers={"If-Match": "*"})
    assert anyone.status_code == 200, anyone.text


async def test_entity_tags_are_refused_where_there_is_no_row_yet(office: TestedApplication) -> None:
    client = office.client()
    for url, media_type, content in (
        (CARDS, "application/json", '{"name": "a"}'),
        (NOTES, "application/json", '{"name": "a"}'),
        (TAGS, "application/json", '{"name": "a"}'),
        (f"{CARDS}/import", "text/csv", "name\na\n"),
        (f"{NOTES}/import?operation=upsert&on=name", "text/csv", "name\na\n"),
    ):
        for tag in ('"1"', '"1", "2"', 'W/"1"', "1"):
            headers = {"If-Match": tag, "Content-Type": media_type}
            refused = await client.post(url, content=content, headers=headers)
            assert told(refused)[:2] == (412, "precondition_failed"), refused.text
        headers = {"If-Match": "*", "Content-Type": media_type}
        done = await client.post(url, content=content, headers=headers)
        assert done.status_code in (200, 201), done.text
    faulty = await client.post(CARDS, json={"name": 1}, headers={"If-Match": '"1"'})
    assert told(faulty)[:2] == (422, "validation_failed")
    assert await stored(client) == [("a", None, 1)]


async def test_a_filter_names_no_version_and_says_what_does(office: TestedApplication) -> None:
    client = office.client()
    await made(client, CARDS, "a")
    for form in ({"operation": "delete"}, {"operation": "patch", "data": {"text": "x"}}):
        answer = await client.post(f"{CARDS}/batch", json={**form, "filter": {"name": "a"}, "max": 5})
        assert told(answer)[:2] == (428, "precondition_required")
        assert "`id` and `version` in `items`" in answer.json()["error"]["message"]


async def test_rows_inside_a_row_are_changed_by_the_versions_beside_their_keys(
    office: TestedApplication,
) -> None:
    client = office.client()
    body = {"name": "box", "cards": [{"name": "a"}, {"name": "b"}]}
    box = (await client.post("/api/v1/boxes", json=body)).json()["data"]
    url, (first, second) = f"/api/v1/boxes/{box['id']}", box["cards"]
    bare = await client.patch(url, json={"cards": [{"id": first["id"], "text": "x"}]})
    assert told(bare) == (428, "precondition_required", {"cards.0": "precondition_required"})
    both = [{"id": first["id"], "version": 1, "text": "x"}, {"id": second["id"], "version": 2, "text": "x"}]
    assert told(await client.patch(url, json={"cards": both}))[:2] == (412, "precondition_failed")
    rest = await client.patch(url, json={"cards": {"$replace": both[:1]}})
    assert told(rest)[:2] == (428, "precondition_required")
    assert "rows that are not named have none" in rest.json()["error"]["message"]
    assert await stored(client) == [("a", None, 1), ("b", None, 1)]
    both[1]["version"] = 1
    done = await client.patch(url, json={"cards": {"$replace": both}})
    assert done.status_code == 200, done.text
    assert await stored(client) == [("a", "x", 2), ("b", "x", 2)]


async def test_an_order_by_many_rows_is_told_as_such(office: TestedApplication) -> None:
    client = office.client()
    for query in ("sort=cards.name", "sort=-cards", "aggregate=count&group=cards.name"):
        [detail] = (await client.get(f"/api/v1/boxes?{query}")).json()["error"]["details"]
        assert (detail["code"], detail["message"]) == (
            "unknown_field", "'cards' leads to many rows: here a field of a single row is needed.",
        )  # fmt: skip
    [detail] = (await client.get(f"{CARDS}?sort=box")).json()["error"]["details"]
    assert detail["message"] == "'box' is a relation: name a field of its row, such as box.id."
    editor = office.client(role="Editor")  # who reads no boxes, and hears of none
    [hidden] = (await editor.get(f"{CARDS}?sort=box.name")).json()["error"]["details"]
    assert hidden["message"] == "There is no field 'box' here. Did you mean 'boxId'?"


async def test_a_key_in_other_letters_is_the_same_row(office: TestedApplication) -> None:
    client = office.client()
    body = {"name": "box", "lids": [{"name": "a"}, {"name": "b"}]}
    box = (await client.post("/api/v1/boxes", json=body)).json()["data"]
    first, second = (one["id"] for one in box["lids"])
    assert first.lower() != first
    items = [{"id": first, "text": "x"}, {"id": first.lower(), "text": "y"}]
    for atomic in (True, False):
        twice = await client.post(
            "/api/v1/lids/batch", json={"operation": "patch", "items": items, "atomic": atomic}
        )
        if atomic:
            assert told(twice) == (409, "conflict", {"1.id": "duplicate"})
        else:
            assert [one["success"] for one in twice.json()["data"]] == [True, False]
    inside = await client.patch(f"/api/v1/boxes/{box['id']}", json={"lids": items})
    assert told(inside) == (422, "validation_failed", {"lids.1.id": "duplicate"})
    kept = {"lids": {"$replace": [{"id": first.lower(), "text": "z"}]}}
    done = await client.patch(f"/api/v1/boxes/{box['id']}", json=kept)
    assert done.status_code == 200, done.text
    assert [(one["id"], one["text"]) for one in done.json()["data"]["lids"]] == [(first, "z")]
    assert (await client.get(f"/api/v1/lids/{second}")).status_code == 404
