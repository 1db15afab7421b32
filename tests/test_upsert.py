"""Upserts by a unique key: an item is an update where such a row is there, a creation where not."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest

from byodpp.aside import others
from byodpp.database import is_retryable
from byodpp.exceptions import ApiError
from byodpp.service import transaction
from byodpp.testing import TestedApplication
from tests.patience import blocked

ITEMS = "/api/v1/items"
SETTINGS = "/api/v1/settings"
WORDS = "/api/v1/words"


def details(response: Any) -> dict[str, str]:
    return {one["field"]: one["code"] for one in response.json()["error"]["details"]}


async def upsert(client: Any, url: str, items: list[Any], **more: Any) -> Any:
    return await client.post(f"{url}/batch", json={"operation": "upsert", "items": items, **more})


async def test_items_with_a_known_key_replace_their_rows_and_others_are_made(
    store: TestedApplication,
) -> None:
    client = store.client()
    made = await upsert(client, SETTINGS, [{"key": "a", "value": {"n": 1}}, {"key": "b"}])
    assert made.status_code == 200, made.text
    first, second = made.json()["data"]
    items = [
        {"key": "c", "locale": "en"},
        {"key": "a", "level": 3},
        {"key": "a", "locale": "de"},
        {"id": second["id"], "key": "renamed"},
    ]
    done = await upsert(client, SETTINGS, items, on=["locale", "key"])
    assert done.status_code == 200, done.text
    rows = done.json()["data"]
    assert [(row["key"], row["locale"]) for row in rows] == [
        ("c", "en"),
        ("a", "en"),
        ("a", "de"),
        ("renamed", "en"),
    ]
    # What the item leaves out takes its default, as a PUT would have it.
    assert rows[1] == {**first, "value": {}, "level": 3, "updatedAt": rows[1]["updatedAt"]}
    assert rows[3]["id"] == second["id"]
    listed = (await client.get(f"{SETTINGS}?sort=id")).json()["data"]
    assert len(listed) == 4


async def test_many_items_take_few_statements_and_tell_audit_and_events_what_they_were(
    store: TestedApplication,
) -> None:
    client = store.client()
    half = [{"name": f"n{n}", "sku": f"s{n}"} for n in range(0, 60, 2)]
    assert (await upsert(client, ITEMS, half, on=["sku"])).status_code == 200
    whole = [{"name": f"n{n}", "sku": f"s{n}", "stock": n} for n in range(60)]
    done = await upsert(client, ITEMS, whole, on=["sku"])
    assert [row["stock"] for row in done.json()["data"]] == list(range(60))
    assert [row["version"] for row in done.json()["data"]] == [2, 1] * 30
    names = [event.name for event in await store.events()]
    assert (names.count("items.created"), names.count("items.updated")) == (60, 30)
    async with store.connected.database.system() as transaction:
        rows = await transaction.fetch("select action, count(*) from audit_logs group by 1 order by 1")
    assert [tuple(row) for row in rows] == [("CREATE", 60), ("UPDATE", 30)]


@pytest.mark.parametrize("others", [0, 3])
async def test_of_two_items_that_mean_one_row_the_later_one_has_the_last_word(
    store: TestedApplication, others: int
) -> None:
    client = store.client()
    made = await upsert(client, ITEMS, [{"name": f"n{n}", "sku": f"s{n}"} for n in range(4)], on=["sku"])
    id = made.json()["data"][0]["id"]
    items = [{"id": id, "sku": "s0", "name": "by id"}, {"sku": "s0", "name": "by key"}]
    more = [{"sku": f"s{n + 1}", "name": "other"} for n in range(others)]
    done = await upsert(client, ITEMS, [*items, *more], on=["sku"])
    assert [row["version"] for row in done.json()["data"]] == [2, 3, *[2] * others]
    assert (await client.get(f"{ITEMS}/{id}")).json()["data"]["name"] == "by key"


async def test_while_many_items_are_judged_others_have_their_turn() -> None:
    done: list[int] = []
    turns: list[int] = []

    async def other() -> None:
        while len(done) < 200:
            turns.append(len(done))
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    for index in range(200):
        done.append(index)
        await others(index)
    await asyncio.wait_for(beside, 20)
    assert turns == [50, 100, 150]


async def test_results_per_item_say_what_each_was(store: TestedApplication) -> None:
    client = store.client()
    await upsert(client, ITEMS, [{"name": "x", "sku": "a"}, {"name": "y", "sku": "other"}], on=["sku"])
    items = [
        {"name": "x", "sku": "a"},
        {"name": "z", "sku": "b"},
        {"name": 1, "sku": "c"},
        {"name": "no key"},
        {"name": "w", "sku": "d", "shelfId": 99},
        {"name": "v", "sku": "b"},
    ]
    done = await upsert(client, ITEMS, items, on=["sku"], atomic=False)
    outcomes = done.json()["data"]
    assert [one.get("operation") for one in outcomes] == ["update", "create", None, None, None, "update"]
    faults = [
        {fault["field"]: fault["code"] for fault in one["error"]["details"]}
        for one in outcomes
        if not one["success"]
    ]
    assert faults == [{"2.name": "type"}, {"3.sku": "required"}, {"4.shelfId": "reference"}]


@pytest.mark.parametrize(
    ("url", "body", "expected"),
    [
        (ITEMS, {"items": [{"name": "x"}]}, {"on": "required"}),
        (ITEMS, {"items": [{"name": "x"}], "on": ["name"]}, {"on": "enum"}),
        (ITEMS, {"items": [{"name": "x"}], "on": []}, {"on": "enum"}),
        (ITEMS, {"items": [{"name": "x"}], "on": ["sku", "sku"]}, {"on": "enum"}),
        (ITEMS, {"items": [{"name": "x"}], "on": "sku"}, {"on": "type"}),
        (ITEMS, {"items": [{"name": "x"}], "on": [1]}, {"on": "type"}),
        (ITEMS, {"items": [{"name": "x"}], "on": ["sku"]}, {"0.sku": "required"}),
        (ITEMS, {"items": [{"name": "x", "sku": None}], "on": ["sku"]}, {"0.sku": "required"}),
        (ITEMS, {"items": [{"name": "x", "sku": "a", "seen": 1}], "on": ["sku"]}, {"0.seen": "read_only"}),
        (ITEMS, {"operation": "create", "items": [{"name": "x"}], "on": ["sku"]}, {"on": "unknown_field"}),
        (
            "/api/v1/plain",
            {"items": [{"name": "x"}], "on": ["name"]},
            {"on": "enum"},
        ),
        (SETTINGS, {"items": [{"locale": "x"}, "y"]}, {"0.key": "required", "1": "type"}),
    ],
)
async def test_an_upsert_without_a_usable_key_is_refused(
    shared: TestedApplication, url: str, body: dict[str, Any], expected: dict[str, str]
) -> None:
    response = await shared.client().post(f"{url}/batch", json={"operation": "upsert", **body})
    assert (response.status_code, details(response)) == (422, expected), response.text


async def test_a_key_that_occurs_twice_or_another_unique_value_undoes_all(store: TestedApplication) -> None:
    client = store.client()
    await upsert(client, SETTINGS, [{"key": "a"}])
    twice = await upsert(client, SETTINGS, [{"key": "b"}, {"key": "c"}, {"key": "b"}])
    assert (twice.status_code, details(twice)) == (409, {"2.key": "duplicate"})
    shelf = (await client.post("/api/v1/shelves", json={"name": "s"})).json()["data"]["id"]
    await client.post(ITEMS, json={"name": "x", "shelfId": shelf, "sku": "old"})
    clash = [{"name": "z", "sku": "new1"}, {"name": "x", "shelfId": shelf, "sku": "new2"}]
    refused = await upsert(client, ITEMS, clash, on=["sku"])
    assert (refused.status_code, details(refused)) == (409, {"1.shelfId": "unique", "1.name": "unique"})
    assert (await client.get(ITEMS)).json()["count"] == 1
    assert (await client.get(SETTINGS)).json()["count"] == 1


async def test_a_deleted_row_does_not_count(store: TestedApplication) -> None:
    client = store.client()
    [first] = (await upsert(client, SETTINGS, [{"key": "a"}])).json()["data"]
    assert (await client.delete(f"{SETTINGS}/{first['id']}")).status_code == 204
    [second] = (await upsert(client, SETTINGS, [{"key": "a"}])).json()["data"]
    assert second["id"] != first["id"]


async def test_rights_are_those_of_what_an_item_turns_out_to_be(store: TestedApplication) -> None:
    admin, editor = store.client(), store.client(role="Editor")
    maker, viewer = store.client(role="Maker"), store.client(role="Viewer")
    await upsert(admin, SETTINGS, [{"key": "open"}, {"key": "hidden", "level": 1}])
    done = await upsert(editor, SETTINGS, [{"key": "open", "value": 1}, {"key": "new"}])
    assert done.status_code == 200, done.text
    # The row that he may not see answers as a create would.
    hidden = await upsert(editor, SETTINGS, [{"key": "more"}, {"key": "hidden"}])
    assert (hidden.status_code, details(hidden)) == (409, {"1.key": "unique", "1.locale": "unique"})
    assert (await upsert(maker, SETTINGS, [{"key": "made"}])).status_code == 200
    assert (await upsert(maker, SETTINGS, [{"key": "made"}])).status_code == 403
    assert (await upsert(viewer, SETTINGS, [{"key": "x"}])).status_code == 403
    fields = await upsert(editor, ITEMS, [{"name": "x", "sku": "a", "total": 5}], on=["sku"])
    assert (fields.status_code, details(fields)) == (403, {"0.total": "forbidden"})
    beta = store.client(tenant="beta")
    assert (await upsert(beta, SETTINGS, [{"key": "open"}])).json()["data"][0]["value"] == {}
    listed = (await admin.get(SETTINGS, params={"filter[key]": "open"})).json()["data"]
    assert [row["value"] for row in listed] == [1]


async def test_logic_classes_of_create_and_update_have_their_say(store: TestedApplication) -> None:
    client = store.client()
    first = await upsert(client, WORDS, [{"word": "a"}, {"word": "b"}])
    assert [row["log"] for row in first.json()["data"]] == ["created", "created"]
    second = await upsert(client, WORDS, [{"word": "c"}, {"word": "b", "count": 5}])
    assert [row["log"] for row in second.json()["data"]] == ["created", "updated"]
    alone = await upsert(client, WORDS, [{"word": "d"}, {"word": "c"}], atomic=False)
    assert [row["data"]["log"] for row in alone.json()["data"]] == ["created", "updated"]


@pytest.fixture
def deadlocks(monkeypatch: pytest.MonkeyPatch) -> list[ApiError]:
    """What PostgreSQL broke up; the service tries such a request again after a second."""
    found: list[ApiError] = []

    def noted(error: ApiError) -> bool:
        if getattr(error, "sqlstate", "") == "40P01":
            found.append(error)
        return is_retryable(error)

    monkeypatch.setattr(transaction, "is_retryable", noted)
    return found


@pytest.mark.parametrize("url", [SETTINGS, WORDS])
@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("there", [0, 6, 12], ids=["none there", "half there", "all there"])
async def test_upserts_at_the_same_time_never_clash(
    store: TestedApplication, url: str, atomic: bool, there: int, deadlocks: list[ApiError]
) -> None:
    client = store.client()
    field = "key" if url == SETTINGS else "word"
    names = [f"k{n:02}" for n in range(12)]
    chance = random.Random(there)
    if there:
        known = chance.sample(names, there)
        assert (await upsert(client, url, [{field: name} for name in known])).status_code == 200

    async def send(shift: int) -> Any:
        keys = [names[(n + shift) % 12] for n in range(6)]
        chance.shuffle(keys)  # in whatever order they come
        return await upsert(client, url, [{field: key} for key in keys], atomic=atomic)

    answers = await asyncio.gather(*(send(n) for n in range(24)))
    assert {one.status_code for one in answers} == {200}, [one.text for one in answers]
    if not atomic:
        assert all(item["success"] for one in answers for item in one.json()["data"])
    assert (await client.get(url)).json()["count"] == 12
    assert deadlocks == []


@pytest.mark.parametrize("atomic", [True, False])
async def test_an_upsert_outlasts_others_that_make_its_rows_one_by_one(
    store: TestedApplication, atomic: bool
) -> None:
    client = store.client()
    assert (await upsert(client, WORDS, [{"word": "w"}])).status_code == 200
    alike = "insert into words (tenant_id, word) select tenant_id, $1 from words where word = 'w'"
    names = [f"w{n}" for n in range(8)]
    database = store.connected.database
    async with AsyncExitStack() as first:
        maker = await first.enter_async_context(database.system())
        await maker.execute(alike, names[0])
        sending = asyncio.create_task(
            upsert(client, WORDS, [{"word": name, "count": 3} for name in names], atomic=atomic)
        )
        for name in names[1:]:
            following = AsyncExitStack()
            later = await following.enter_async_context(database.system())
            await later.execute(alike, name)
            await blocked(maker)
            await first.aclose()
            first, maker = following, later
        await blocked(maker)
        await first.aclose()
    answer = await sending
    assert answer.status_code == 200, answer.text
    rows = (await client.get(WORDS, params={"filter[word][ne]": "w"})).json()["data"]
    assert sorted((row["word"], row["count"], row["log"]) for row in rows) == [
        (name, 3, "updated") for name in names
    ]


@pytest.mark.parametrize("atomic", [True, False])
async def test_batches_that_name_the_same_rows_in_any_order_wait_and_do_not_deadlock(
    store: TestedApplication, atomic: bool, deadlocks: list[ApiError]
) -> None:
    client = store.client()
    made = await upsert(client, WORDS, [{"word": f"w{n}"} for n in range(10)])
    ids = [row["id"] for row in made.json()["data"]]
    chance = random.Random(1)

    async def send(number: int) -> Any:
        items: list[dict[str, Any]]
        chance.shuffle(ids)
        if number % 3 == 0:
            words = [f"w{chance.randrange(12)}", f"v{chance.randrange(3)}"]
            return await upsert(client, WORDS, [{"word": word} for word in words], atomic=atomic)
        operation, items = "patch", [{"id": id, "count": {"$increment": 1}} for id in ids[:6]]
        if number % 3 == 2:
            operation, items = "update", [{"id": id, "word": f"again {id}"} for id in ids[:6]]
        body = {"operation": operation, "items": items, "atomic": atomic}
        return await client.post(f"{WORDS}/batch", json=body)

    answers = await asyncio.gather(*(send(n) for n in range(30)))
    assert {one.status_code for one in answers} == {200}, [one.text for one in answers]
    assert deadlocks == []


async def test_operations_that_name_the_same_rows_in_any_order_wait_and_do_not_deadlock(
    store: TestedApplication, deadlocks: list[ApiError]
) -> None:
    client = store.client()
    made = await upsert(client, WORDS, [{"word": f"w{n}", "count": 0} for n in range(4)])
    ids = [row["id"] for row in made.json()["data"]]
    settings = await upsert(client, SETTINGS, [{"key": "a"}, {"key": "b"}])
    keys = [row["id"] for row in settings.json()["data"]]
    chance = random.Random(1)

    async def send(number: int) -> Any:
        step = {"operation": "patch", "data": {"count": {"$increment": 1}}}
        steps = [{**step, "resource": "Words", "id": id} for id in ids]
        value = {"value": {"turn": number}}
        steps += [{"operation": "patch", "resource": "Settings", "id": key, "data": value} for key in keys]
        chance.shuffle(steps)
        return await client.post("/api/v1/batch", json=steps)

    answers = await asyncio.gather(*(send(n) for n in range(30)))
    assert {one.status_code for one in answers} == {200}, [one.text for one in answers]
    assert deadlocks == []
    counts = [row["count"] for row in (await client.get(WORDS)).json()["data"]]
    assert counts == [30] * 4
