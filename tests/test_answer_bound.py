"""How many bytes an answer may have: refused in the database, or before anything is committed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.patience import blocked
from tests.worlds import build

BOXES, NOTES = "/api/v1/boxes", "/api/v1/notes"
MOST: Final = 5_000
_TEXT: Final = "x" * 1_000
_OPEN: Final = {"read": ["Admin"], "write": ["Admin"]}
_WORLD: Final[dict[str, Any]] = {
    "resources": [
        {
            "name": "Boxes",
            "fields": {
                "name": {"type": "string"},
                "code": {"type": "string", "unique": True},
                "text": {"type": "text"},
            },
            "relations": {"notes": {"resource": "Notes", "foreignField": "boxId"}},
            "bounds": {"maxAnswerBytes": MOST},
            "access": _OPEN,
        },
        {
            "name": "Notes",
            "history": True,
            "filterable": True,
            "fields": {
                "boxId": {"references": "Boxes"},
                "text": {"type": "text"},
                "level": {"type": "integer"},
                "code": {"type": "string", "unique": True},
            },
            "bounds": {"maxAnswerBytes": MOST},
            "access": _OPEN,
        },
        {"name": "Books", "fields": {"text": {"type": "text"}}, "access": _OPEN},
    ]
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("boxes"), _WORLD)


@pytest_asyncio.fixture(loop_scope="session")
async def boxes(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


async def filled(client: Any, number: int = 6) -> list[int]:
    """Make a box with notes of which fewer than five are one answer; return their keys."""
    box = (await client.post(BOXES, json={"name": "b"})).json()["data"]["id"]
    made = [await client.post(NOTES, json={"boxId": box, "text": _TEXT}) for _ in range(number)]
    return [one.json()["data"]["id"] for one in made]


def told(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize(
    "query",
    [
        "", "?limit=5", "?count=none", "?sort=-level&limit=5", "?asOf=2999-01-01T00:00:00Z",
        "?aggregate=count&group=text,id",
    ],
)  # fmt: skip
async def test_a_list_of_more_bytes_is_refused(boxes: TestedApplication, query: str) -> None:
    client = boxes.client()
    await filled(client)
    refused = await client.get(f"{NOTES}{query}")
    assert told(refused) == (400, "query_too_complex")
    assert "5,000 bytes" in refused.json()["error"]["message"]
    assert len(refused.content) < 1_000


async def test_what_is_less_comes_whole(boxes: TestedApplication) -> None:
    client = boxes.client()
    keys = await filled(client)
    assert [row["text"] for row in (await client.get(f"{NOTES}?limit=4")).json()["data"]] == [_TEXT] * 4
    assert len((await client.get(f"{NOTES}?fields=id,level")).json()["data"]) == len(keys)
    exported = await client.get(f"{NOTES}/export")
    assert exported.text.count(_TEXT) == len(keys)


async def test_a_row_with_what_it_includes_and_its_history_are_bounded(boxes: TestedApplication) -> None:
    client = boxes.client()
    keys = await filled(client)
    box = (await client.get(f"{NOTES}/{keys[0]}?fields=boxId")).json()["data"]["boxId"]
    assert told(await client.get(f"{BOXES}/{box}?include=notes")) == (400, "query_too_complex")
    assert (await client.get(f"{BOXES}/{box}?include=notes&include[notes][limit]=3")).status_code == 200
    assert told(await client.get(f"{BOXES}/999999?include=notes")) == (404, "not_found")
    for level in range(5):
        assert (await client.patch(f"{NOTES}/{keys[0]}", json={"level": level})).status_code == 200
    assert told(await client.get(f"{NOTES}/{keys[0]}/history")) == (400, "query_too_complex")
    assert len((await client.get(f"{NOTES}/{keys[0]}/history?limit=3")).json()["data"]) == 3


async def test_writes_that_would_be_answered_with_more_do_nothing(boxes: TestedApplication) -> None:
    client = boxes.client()
    keys = await filled(client)
    items = [{"id": key, "level": 7} for key in keys]
    step = {"operation": "patch", "resource": "Notes", "data": {"level": 7}}
    for url, body in (
        (f"{NOTES}/batch", {"operation": "patch", "items": items}),
        (
            f"{NOTES}/batch",
            {"operation": "patch", "filter": {"id": {"gt": 0}}, "data": {"level": 7}, "max": 9},
        ),
        ("/api/v1/batch", [{**step, "id": key} for key in keys]),
        ("/api/v1/batch", [{"operation": "read", "resource": "Notes", "id": key} for key in keys]),
    ):
        refused = await client.post(url, json=body)
        assert told(refused) == (413, "payload_too_large"), url
        assert "fewer operations" in refused.json()["error"]["message"]
    box = (await client.get(f"{NOTES}/{keys[0]}?fields=boxId")).json()["data"]["boxId"]
    assert told(await client.patch(f"{BOXES}/{box}", json={"notes": items})) == (413, "payload_too_large")
    levels = (await client.get(f"{NOTES}?fields=level")).json()["data"]
    assert levels == [{"level": None}] * len(keys)
    some = await client.post(f"{NOTES}/batch", json={"operation": "patch", "items": items, "atomic": False})
    assert [one["success"] for one in some.json()["data"]] == [True] * 4 + [False] * 2
    levels = (await client.get(f"{NOTES}?fields=level&sort=id")).json()["data"]
    assert [one["level"] for one in levels] == [7] * 4 + [None] * 2


async def test_rows_of_another_resource_have_its_bound(boxes: TestedApplication) -> None:
    client = boxes.client()
    large = {"operation": "create", "resource": "Books", "data": {"text": "x" * MOST}}
    small = {"operation": "create", "resource": "Notes", "data": {"text": _TEXT}}
    done = await client.post("/api/v1/batch", json=[large, *[small] * 3, large])
    assert done.status_code == 200, done.text
    assert len(done.json()["data"]) == 5
    refused = await client.post("/api/v1/batch", json=[large, *[small] * 5])
    assert told(refused) == (413, "payload_too_large")
    assert f"{MOST:,} bytes" in refused.json()["error"]["message"]


async def test_rows_inside_a_row_are_counted_once(boxes: TestedApplication) -> None:
    client = boxes.client()
    keys = await filled(client, 3)
    box = (await client.get(f"{NOTES}/{keys[0]}?fields=boxId")).json()["data"]["boxId"]
    data = {"notes": [{"id": key, "level": 1} for key in keys]}
    batch = {"operation": "patch", "items": [{"id": box, **data}]}
    step = {"operation": "patch", "resource": "Boxes", "id": box, "data": data}
    for url, body in ((f"{BOXES}/batch", batch), ("/api/v1/batch", [step])):
        done = await client.post(url, json=body)
        assert done.status_code == 200, done.text
        assert [len(one["notes"]) for one in done.json()["data"]] == [3]
    assert told(await client.post("/api/v1/batch", json=[step, step])) == (413, "payload_too_large")


async def test_an_import_is_answered_with_numbers_and_has_no_such_bound(boxes: TestedApplication) -> None:
    client, url = boxes.client(), f"{NOTES}/import?operation=upsert&on=code"
    records = [{"code": f"n{number}", "text": _TEXT, "level": 1} for number in range(12)]
    wrong = {"code": "wrong", "level": "x"}  # for its sake all others are done one by one
    for level, numbers in ((1, (12, 0, 1)), (2, (0, 12, 1))):
        lines = [json.dumps({**one, "level": level}) for one in records] + [json.dumps(wrong)]
        done = await client.post(
            url, content="\n".join(lines), headers={"Content-Type": "application/x-ndjson"}
        )
        found = done.json()["data"]
        assert (found["created"], found["updated"], found["rejected"]) == numbers, done.text


MINIMAL: Final = {"Prefer": "return=minimal"}


async def test_rows_that_nobody_is_answered_with_have_no_such_bound(boxes: TestedApplication) -> None:
    client = boxes.client()
    keys = await filled(client)
    items = [{"id": key, "level": 7} for key in keys]
    box = (await client.get(f"{NOTES}/{keys[0]}?fields=boxId")).json()["data"]["boxId"]
    steps = [{"operation": "patch", "resource": "Notes", "id": key, "data": {"level": 7}} for key in keys]
    every = {"operation": "patch", "filter": {"id": {"gt": 0}}, "data": {"level": 7}, "max": 9}
    for method, url, body in (
        ("POST", f"{NOTES}/batch", {"operation": "patch", "items": items}),
        ("POST", f"{NOTES}/batch", every),
        ("POST", "/api/v1/batch", steps),
        ("PATCH", f"{BOXES}/{box}", {"notes": items}),
    ):
        assert told(await client.request(method, url, json=body)) == (413, "payload_too_large"), url
        done = await client.request(method, url, json=body, headers=MINIMAL)
        assert (done.status_code, done.content) == (204, b""), (url, done.text)
        rows = (await client.get(f"{NOTES}?fields=level,text&limit=4")).json()["data"]
        assert rows == [{"level": 7, "text": _TEXT}] * 4
        undone = {"operation": "patch", "filter": {"id": {"gt": 0}}, "data": {"level": None}, "max": 9}
        assert (await client.post(f"{NOTES}/batch", json=undone, headers=MINIMAL)).status_code == 204


async def test_what_a_template_may_refer_to_is_counted(boxes: TestedApplication) -> None:
    client = boxes.client()
    keys = await filled(client)
    steps: list[dict[str, Any]] = [
        {"operation": "patch", "resource": "Notes", "id": key, "data": {"level": 7}} for key in keys[:4]
    ]
    last = {"operation": "create", "resource": "Notes", "data": {"level": "{{result[3].level}}"}}
    done = await client.post("/api/v1/batch", json=[*steps, last], headers=MINIMAL)
    assert (done.status_code, done.content) == (204, b"")
    assert (await client.get(f"{NOTES}?filter[level]=7")).json()["count"] == 5
    refused = await client.post("/api/v1/batch", json=[*steps, steps[0], last], headers=MINIMAL)
    assert told(refused) == (413, "payload_too_large")


async def test_a_batch_that_is_not_atomic_tells_each_outcome_without_its_row(
    boxes: TestedApplication,
) -> None:
    client = boxes.client()
    keys = await filled(client)
    items = [*({"id": key, "level": 7} for key in keys), {"id": 999_999, "level": 7}]
    batch = {"operation": "patch", "items": items, "atomic": False}
    done = await client.post(f"{NOTES}/batch", json=batch, headers=MINIMAL)
    assert done.status_code == 200
    assert done.headers["preference-applied"] == "return=minimal"
    outcomes = done.json()["data"]
    assert outcomes[:6] == [{"index": index, "success": True, "data": None} for index in range(6)]
    assert (outcomes[6]["success"], outcomes[6]["error"]["code"]) == (False, "not_found")


async def test_related_rows_are_replaced_however_many_keys_they_have(
    byodpp_bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    boxes, notes, books = _WORLD["resources"]
    small = {"bounds": {"maxAnswerBytes": 1_024}}
    world = {"resources": [{**boxes, **small}, {**notes, **small, "id": "uuid7"}, books]}
    many = [{"level": 1}] * 100
    async with byodpp_bench.application(build(tmp_path_factory.mktemp("small"), world)) as small_boxes:
        client = small_boxes.client()
        box = (await client.post(BOXES, json={"name": "b"})).json()["data"]["id"]
        made = await client.patch(f"{BOXES}/{box}", json={"notes": many}, headers=MINIMAL)
        assert made.status_code == 204, made.text
        done = await client.patch(f"{BOXES}/{box}", json={"notes": {"$replace": [{"level": 2}]}})
        assert done.status_code == 200, done.text
        assert [one["level"] for one in done.json()["data"]["notes"]] == [2]
        await client.patch(f"{BOXES}/{box}", json={"notes": many}, headers=MINIMAL)
        gone = {"operation": "delete", "filter": {"level": 1}, "max": 200}
        assert (await client.post(f"{NOTES}/batch", json=gone)).status_code == 200
        assert (await client.get(NOTES)).json()["count"] == 1


async def test_an_upsert_that_looks_again_is_counted_anew(boxes: TestedApplication) -> None:
    client = boxes.client()
    tenant = (await boxes.tenant("acme")).id
    large = {"code": "a", "text": "x" * 3_000, "notes": [{"level": 1}]}  # with a related row it is made alone
    batch = {"operation": "upsert", "on": ["code"], "items": [large, {"code": "b", "notes": []}]}
    async with boxes.connected.database.system() as transaction:
        await transaction.execute("insert into boxes (tenant_id, code) values ($1, 'b')", tenant)
        waiting = asyncio.create_task(client.post(f"{BOXES}/batch", json=batch))
        await blocked(transaction)  # the first is made, and the second is in the way of another request
    async with asyncio.timeout(30):
        done = await waiting
    assert done.status_code == 200, done.text
    assert [one["code"] for one in done.json()["data"]] == ["a", "b"]
    assert (await client.get(f"{BOXES}?fields=code")).json()["count"] == 2
