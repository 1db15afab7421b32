"""How many statements each way of asking costs: a fixed number, and one more per row changed alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.tables.roles import APP, SYSTEM
from byodpp.testing import Bench, TestedApplication
from tests.sent_statements import SentStatements, logging_statements
from tests.worlds import build

ITEMS, SHELVES = "/api/v1/items", "/api/v1/shelves"


@dataclass
class Counted:
    """An application that tells what it sends."""

    store: TestedApplication
    sent: SentStatements
    client: Any

    async def __call__(self, method: str, url: str, expected: list[str], **request: Any) -> Any:
        """Send a request; the statements must begin with these words, in this order."""
        await _told()
        with self.sent.heard() as heard:
            answer = await self.client.request(method, url, **request)
            await _told()
        assert answer.status_code < 300, answer.text
        words = [_word(one) for one in heard if "typeinfo" not in one and "'jit'" not in one]
        assert words == expected, (words, heard)
        return answer.json().get("data") if answer.content else None

    async def rows(self, number: int, **values: Any) -> list[Any]:
        """Make some items."""
        body = [{"name": f"{values}{n}", **values} for n in range(number)]
        answer = await self.client.post(f"{ITEMS}/batch", json=body)
        assert answer.status_code == 201, answer.text
        return [row["id"] for row in answer.json()["data"]]


async def _told() -> None:
    """Wait until the driver, which is a turn behind, has told everything."""
    for _ in range(3):
        await asyncio.sleep(0)


def _word(statement: str) -> str:
    """Return what a statement does, in one word."""
    if statement.startswith("WITH _row AS (INSERT"):
        return "insert"
    if statement.startswith("WITH _old AS"):
        return "change"
    return statement.split(" ", 1)[0].lower()


@pytest_asyncio.fixture(loop_scope="session")
async def counted(
    byodpp_bench: Bench, writes: Blueprint, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Counted]:
    sent = logging_statements(monkeypatch)
    async with byodpp_bench.application(writes) as store:
        client = store.client()
        assert (await client.post(SHELVES, json={"name": "first"})).status_code == 201  # looks up its caller
        yield Counted(store, sent, client)


def around(*words: str) -> list[str]:
    return ["begin", *words, "commit"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?include=shelf.items,parts&count=exact&limit=50",
        "?filter[parts][some][id][gt]=0&filter[shelf.name]=first&sort=shelf.name",
        "?aggregate=count,sum:stock&group=shelfId",
        "/1?include=shelf,parts",
    ],
)
async def test_reading_is_one_statement_however_much_is_included(counted: Counted, query: str) -> None:
    shelf = (await counted("POST", SHELVES, ["insert"], json={"name": "s"}))["id"]
    await counted.rows(30, shelfId=shelf)
    await counted("GET", f"{ITEMS}{query}", ["select"])


async def test_creating_and_changing_values_are_one_statement_and_another_change_one_in_a_transaction(
    counted: Counted,
) -> None:
    item = await counted("POST", ITEMS, ["insert"], json={"name": "x", "shelfId": 1})
    url = f"{ITEMS}/{item['id']}"
    await counted("PATCH", url, ["change"], json={"name": "y"})
    await counted("PATCH", url, around("change"), json={"stock": {"$increment": 1}})
    await counted("PUT", url, ["change"], json={"name": "z"})
    await counted("PUT", url, around("change"), json={"name": "z", "id": item["id"]})
    await counted("POST", f"{url}/publish", around("change"))
    await counted("DELETE", url, around("change"))


@pytest.mark.parametrize("number", [1, 100])
async def test_a_batch_of_new_rows_is_one_statement(counted: Counted, number: int) -> None:
    body = [{"name": f"n{n}", "shelfId": 1} for n in range(number)]
    await counted("POST", f"{ITEMS}/batch", ["insert"], json=body)


@pytest.mark.parametrize("number", [1, 20])
async def test_a_batch_of_changes_is_one_statement_each(counted: Counted, number: int) -> None:
    ids = await counted.rows(number)
    locking = ["select"] if number > 1 else []
    for operation, values in (("patch", {"stock": 3}), ("update", {"name": "u"})):
        items = [{"id": id, **values} for id in ids]
        body = {"operation": operation, "items": items}
        await counted("POST", f"{ITEMS}/batch", around(*locking, *["change"] * number), json=body)
    body = {"operation": "delete", "items": ids}
    await counted("POST", f"{ITEMS}/batch", around(*locking, *["change"] * number), json=body)


@pytest.mark.parametrize("number", [1, 20])
async def test_a_batch_by_filter_finds_and_locks_its_rows_at_once(counted: Counted, number: int) -> None:
    await counted.rows(number, cost=7)
    body: dict[str, Any] = {"operation": "patch", "filter": {"cost": 7}, "max": 50, "data": {"stock": 4}}
    found = ["select", "select", "select"]
    await counted("POST", f"{ITEMS}/batch", around(*found, *["change"] * number), json=body)


@pytest.mark.parametrize("number", [1, 20])
async def test_an_upsert_looks_for_all_its_rows_at_once(counted: Counted, number: int) -> None:
    items = [{"name": f"u{n}", "sku": f"u{n}"} for n in range(number)]
    body = {"operation": "upsert", "on": ["sku"], "items": items}
    inserting = ["savepoint", "select", "savepoint", "insert", "release", "release"]
    await counted("POST", f"{ITEMS}/batch", around(*inserting), json=body)
    together = ["select", "savepoint", "change", "release"]
    changing = ["savepoint", "select", "select", *(together if number > 1 else ["change"]), "release"]
    await counted("POST", f"{ITEMS}/batch", around(*changing), json=body)


@pytest.mark.parametrize("number", [1, 20])
async def test_related_rows_are_written_at_once_and_looked_up_at_once(counted: Counted, number: int) -> None:
    inserting = ["savepoint", "insert", "release"]
    body: dict[str, Any] = {"name": "n", "items": [{"name": f"n{n}"} for n in range(number)]}
    shelf = await counted("POST", SHELVES, around("insert", *inserting), json=body)
    changed = [{"id": item["id"], "stock": 5} for item in shelf["items"]]
    body = {"items": [*changed, *({"name": f"new{n}"} for n in range(number))]}
    locking = ["select", "select"]  # the rows of both tables that the body names, before the first is written
    steps = [*locking, "change", "select", "select", "select", *["change"] * number, *inserting]
    await counted("PATCH", f"{SHELVES}/{shelf['id']}", around(*steps), json=body)


async def test_operations_in_one_transaction_are_one_statement_each(counted: Counted) -> None:
    body = [
        {"operation": "create", "resource": "Shelves", "data": {"name": "t"}},
        {"operation": "create", "resource": "Items", "data": {"name": "t", "shelfId": "{{result[0].id}}"}},
        {"operation": "patch", "resource": "Items", "id": "{{result[1].id}}", "data": {"stock": 1}},
        {"operation": "read", "resource": "Items", "id": "{{result[1].id}}"},
    ]
    steps = around("insert", "insert", "change", "select")
    await counted("POST", "/api/v1/batch", steps, json=body)


async def test_references_that_no_key_decides_are_looked_up_at_once(
    byodpp_bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign key finds a row that is softly deleted, too."""
    access = {"read": ["Admin"], "write": ["Admin"]}
    fields = {"targetId": {"references": "Targets"}, "otherId": {"references": "Targets"}}
    manifest = {
        "resources": [
            {"name": "Targets", "softDelete": True, "fields": {}, "access": access},
            {"name": "Things", "fields": fields, "access": access},
        ]
    }
    sent = logging_statements(monkeypatch)
    async with byodpp_bench.application(build(tmp_path, manifest)) as store:
        counted = Counted(store, sent, store.client())
        targets = [(await counted.client.post("/api/v1/targets", json={})).json()["data"]["id"] for _ in "ab"]
        thing = dict(zip(fields, targets, strict=True))
        looks = ["select", "select"]  # one for each field, however many items there are
        await counted("POST", "/api/v1/things", around(*looks, "insert"), json=thing)
        await counted("POST", "/api/v1/things", ["insert"], json={})
        steps = around("savepoint", *looks, "insert", "release")
        await counted("POST", "/api/v1/things/batch", steps, json=[thing] * 20)


async def test_a_key_and_a_try_add_their_own(counted: Counted) -> None:
    key = {"Idempotency-Key": "first"}  # with it, old keys are thrown away
    assert (await counted.client.post(ITEMS, json={"name": "k"}, headers=key)).status_code == 201
    key = {"Idempotency-Key": "second"}
    await counted("POST", ITEMS, around("with", "insert", "update"), json={"name": "l"}, headers=key)
    tried = ["begin", "insert", "set", "rollback"]
    await counted("POST", ITEMS, tried, json={"name": "t"}, headers={"Prefer": "tx=rollback"})


async def test_the_json_of_a_row_is_written_once_for_answer_audit_and_event(counted: Counted) -> None:
    # An Editor sees some rows only: of one that he does not, entry and event must tell all the same.
    for client in (counted.client, counted.store.client(role="Editor")):
        await client.get(ITEMS)  # looks up its caller
        await _told()
        with counted.sent.heard() as heard:
            answer = await client.post(ITEMS, json={"name": "told"})
            await _told()
        assert answer.status_code == 201, answer.text
        inserts = [one for one in heard if _word(one) == "insert"]
        assert [one.count("row_to_json") for one in inserts] == [1]
    database = counted.store.connected.database
    async with database.system() as transaction:
        same = await transaction.fetch(
            "select a.changes::jsonb = jsonb_build_object('before', null, 'after', o.data) as same"
            " from audit_logs a join byodpp.events() o on o.resource_id = a.resource_id"
            " where a.resource_type = 'Items' and o.name = 'items.created'"
        )
    assert [row["same"] for row in same] == [True, True]


async def test_a_start_and_a_first_read_look_up_no_type(
    byodpp_bench: Bench, writes: Blueprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = {role: logging_statements(monkeypatch, role) for role in (SYSTEM, APP)}
    with sent[SYSTEM].heard() as by_system, sent[APP].heard() as by_app:
        async with byodpp_bench.application(writes) as store:
            assert (await store.client().get(ITEMS)).status_code == 200
            await _told()
    assert any("byodpp.access_versions" in one for one in by_system), by_system
    assert any(one.startswith("SELECT") for one in by_app), by_app
    # What the driver asks of types that it does not know costs more than the whole start, per connection.
    assert not [one for one in (*by_system, *by_app) if "typeinfo" in one]
