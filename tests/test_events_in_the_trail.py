"""Events that are audit entries: each told once, in order, with the data that handlers get."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from byodpp import wire
from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

MANIFEST = {
    "include": ["byodpp:audit"],
    "resources": [
        {
            "name": "Items",
            "audit": True,
            "versioned": True,
            "softDelete": True,
            "fields": {
                "name": {"type": "string", "required": True, "unique": True},
                "pin": {"type": "string", "writeOnly": True},
                "status": {"type": "string", "enum": ["new", "sold"]},
            },
            "states": {
                "field": "status",
                "initial": "new",
                "transitions": {"sell": {"from": ["new"], "to": "sold", "event": "item.sold"}},
            },
            "events": ["create", "update", "patch", "delete"],
        },
        {
            "name": "Boxes",
            "fields": {"name": {"type": "string", "required": True}},
            "events": ["create", "update", "patch", "delete"],
        },
        {
            "name": "Bags",
            "audit": True,
            "fields": {"name": {"type": "string", "required": True}},
            "events": ["create", "delete"],
        },
    ],
}
ITEMS, BOXES, BAGS = "/api/v1/items", "/api/v1/boxes", "/api/v1/bags"
TOLD = "select * from byodpp.events()"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("events"), MANIFEST)


@pytest_asyncio.fixture(loop_scope="session")
async def store(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint, audit_sealer=False) as tested:
        yield tested


async def rows(store: TestedApplication, sql: str = TOLD, *arguments: Any) -> list[asyncpg.Record]:
    async with store.connected.database.system() as transaction:
        found: list[asyncpg.Record] = await transaction.fetch(sql, *arguments)
        return found


def told(found: list[asyncpg.Record]) -> list[tuple[str, str]]:
    return [(row["name"], row["resource_id"]) for row in found]


async def test_every_change_is_one_event_in_the_order_in_which_it_was_made(store: TestedApplication) -> None:
    client = store.client()
    items = [{"name": name} for name in "abc"]
    made = (await client.post(f"{ITEMS}/batch", json=items)).json()["data"]
    a, b, c = (str(row["id"]) for row in made)
    operations = [
        {"resource": "Boxes", "operation": "create", "data": {"name": "box"}},
        {"resource": "Items", "operation": "create", "data": {"name": "d"}},
        {"resource": "Boxes", "operation": "patch", "id": "{{result[0].id}}", "data": {"name": "better"}},
        {"resource": "Bags", "operation": "create", "data": {"name": "bag"}},
    ]
    await store.events()  # handlers of one request need not wait for another's
    done = await client.post("/api/v1/batch", json=operations)
    assert done.status_code == 200, done.text
    await store.events()
    assert (await client.patch(f"{ITEMS}/{a}", json={"name": "a2"})).status_code == 200
    assert (await client.post(f"{ITEMS}/{b}/sell")).status_code == 200
    assert (await client.delete(f"{ITEMS}/{c}")).status_code == 204
    assert (await client.delete(f"{BAGS}/1")).status_code == 204
    found = await rows(store)
    assert told(found) == [
        ("items.created", a), ("items.created", b), ("items.created", c),
        ("boxes.created", "1"), ("items.created", "4"), ("boxes.updated", "1"), ("bags.created", "1"),
        ("items.updated", a), ("item.sold", b), ("items.deleted", c), ("bags.deleted", "1"),
    ]  # fmt: skip
    places = [(row["number"], row["place"]) for row in found]
    assert places == sorted(set(places))
    assert [event.name for event in await store.events()] == [row["name"] for row in found]


async def test_an_event_holds_what_handlers_get(store: TestedApplication) -> None:
    client = store.client(headers={"X-Correlation-ID": "a-longer-story"})
    made = (await client.post(ITEMS, json={"name": "a", "pin": "open-sesame"})).json()["data"]
    await client.patch(f"{ITEMS}/{made['id']}", json={"name": "b"})
    await client.delete(f"{ITEMS}/{made['id']}")
    found = await rows(store)
    handled = await store.events()
    for row, event in zip(found, handled, strict=True):
        assert json.loads(row["data"]) == json.loads(wire.dumps(event.data)), row["name"]
        assert (row["name"], row["resource"], row["resource_id"]) == (
            event.name,
            event.resource,
            event.resource_id,
        )
        assert (row["request_id"], row["correlation_id"]) == (event.request_id, event.correlation_id)
        assert (row["tenant_id"], row["actor_id"]) == (event.tenant_id, event.actor_id)
        assert row["correlation_id"] == "a-longer-story" != row["request_id"]
    assert [json.loads(row["data"])["name"] for row in found] == ["a", "b", "b"]
    assert [json.loads(row["data"])["version"] for row in found] == [1, 2, 3]
    assert "open-sesame" not in str(found)
    plain = (await store.client().post(ITEMS, json={"name": "c"})).headers
    last = (await rows(store))[-1]
    assert (last["request_id"], last["correlation_id"]) == (plain["x-request-id"], plain["x-correlation-id"])


async def test_what_is_refused_or_undone_is_no_event(store: TestedApplication) -> None:
    client = store.client()
    await client.post(ITEMS, json={"name": "taken"})
    mixed = [{"name": "good"}, {"name": "taken"}, {"name": "fine"}, {"name": "better"}]
    body = {"operation": "create", "items": mixed, "atomic": False}
    done = await client.post(f"{ITEMS}/batch", json=body)
    assert [one["success"] for one in done.json()["data"]] == [True, False, True, True], done.text
    assert (await client.post(f"{ITEMS}/batch", json=[{"name": "x"}, {"name": "taken"}])).status_code == 409
    assert (await client.post(f"{ITEMS}/batch", json=[{"name": "y"}, {"name": 1}])).status_code == 422
    tried = await client.post(ITEMS, json={"name": "z"}, headers={"Prefer": "tx=rollback"})
    assert tried.status_code == 201
    names = [json.loads(row["data"])["name"] for row in await rows(store)]
    live = [row["name"] for row in (await client.get(f"{ITEMS}?sort=id")).json()["data"]]
    assert names == live and names[:1] == ["taken"] and "good" in names and "better" in names


async def test_only_what_no_entry_tells_lies_in_the_outbox(store: TestedApplication) -> None:
    client = store.client()
    for url, name in ((ITEMS, "a"), (BOXES, "b"), (BAGS, "c")):
        id = (await client.post(url, json={"name": name})).json()["data"]["id"]
        await client.delete(f"{url}/{id}")
    outbox = await rows(store, "select name from byodpp.outbox order by id")
    assert [row["name"] for row in outbox] == [
        "items.deleted", "boxes.created", "boxes.deleted", "bags.deleted"
    ]  # fmt: skip
    assert len(await rows(store)) == 6


async def test_events_of_an_older_program_are_in_order_among_the_others(store: TestedApplication) -> None:
    """While both run, and of before: that one writes an entry without marks, and a row of the outbox."""
    client = store.client()
    await client.post(ITEMS, json={"name": "before"})
    tenant = (await store.tenant("acme")).id
    async with store.connected.database.system() as transaction:
        await transaction.execute(
            "insert into audit_logs (tenant_id, action, resource_type, resource_id, changes)"
            """ values ($1, 'CREATE', 'Items', '77', '{"before": null, "after": {"name": "older"}}')""",
            tenant,
        )
        await transaction.execute(
            "insert into byodpp.outbox (tenant_id, name, data, resource, resource_id)"
            """ values ($1, 'items.created', '{"name": "older"}', 'Items', '77')""",
            tenant,
        )
    await client.post(ITEMS, json={"name": "after"})
    names = [json.loads(row["data"])["name"] for row in await rows(store)]
    assert names == ["before", "older", "after"]


async def test_the_marks_of_an_event_are_in_no_answer_and_no_hash(store: TestedApplication) -> None:
    client = store.client()
    await client.post(ITEMS, json={"name": "a"})
    (entry,) = (await client.get("/api/v1/audit-logs")).json()["data"]
    assert not [name for name in entry if name.startswith("_") or "event" in name.lower()]
    assert (await client.get("/api/v1/audit-logs?filter[_event]=x")).status_code == 400
    async with store.connected.database.system() as transaction:
        await transaction.execute("set local timezone = 'UTC'")
        columns = await transaction.fetch(
            "select attname from pg_attribute where attrelid = 'audit_logs'::regclass and attnum > 0"
            " and attname <> all('{_arrival,_correlation,_event,_event_number}')"
            ' order by attname::text collate "C"'
        )
        text = b""
        for name in (row["attname"] for row in columns):
            value = await transaction.fetchval(f'select "{name}"::text from audit_logs')
            text += b"" if value is None else f"{name}={len(value.encode())}:{value}\n".encode()
        assert await transaction.fetchval("select _event from audit_logs") == "items.created"
    await store.connected.sealer.seal()
    (seal,) = await rows(store, "select digests from byodpp.audit_seals")
    assert seal["digests"] == sha256(text).digest()


async def test_a_tenant_lists_its_own_events_and_nobody_lists_them_without_one(
    store: TestedApplication,
) -> None:
    for tenant in ("acme", "beta"):
        await store.client(tenant=tenant).post(ITEMS, json={"name": f"of {tenant}"})
        await store.client(tenant=tenant).post(BOXES, json={"name": f"of {tenant}"})
    assert len(await rows(store)) == 4
    acme = (await store.tenant("acme")).id
    connection = await asyncpg.connect(store.connected.settings.postgres_db_uri)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(TOLD)
        async with connection.transaction():
            await connection.execute("select set_config('byodpp.tenant', $1, true)", str(acme))
            own = await connection.fetch(TOLD)
        assert [json.loads(row["data"])["name"] for row in own] == ["of acme", "of acme"]
    finally:
        await connection.close()
