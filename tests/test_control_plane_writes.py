"""What a tenant writes to its own record, which all tenants have in one database: it stays there, whole."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.exceptions import TenantMoving
from byodpp.places.placement import Tier
from byodpp.testing import Bench
from tests.test_tiers import FOLDERS, LOGIC, MANIFEST, World, made
from tests.worlds import build

KEYED = {"Idempotency-Key": "rename once"}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    manifest: dict[str, Any] = copy.deepcopy(MANIFEST)
    own = {
        "name": "Tenants",
        "extends": "byodpp:tenancy/Tenants",
        **{"history": True, "events": True, "audit": False},
        "fields": {"motto": {"type": "string", "maxLength": 80}, "visits": {"type": "integer", "default": 0}},
    }
    manifest["resources"].append(own)
    return build(tmp_path_factory.mktemp("control"), manifest, LOGIC)


@pytest_asyncio.fixture(loop_scope="session")
async def world(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[World]:
    settings: dict[str, Any] = {"places": ("north@eu", "south@us"), "tenant_settle_seconds": 0}
    async with byodpp_bench.application(blueprint, **settings) as tested:
        yield World(tested)


async def counted(world: World, tenant: int) -> dict[str, int]:
    """How much the framework keeps of a tenant's writes to its record."""
    which = {
        "idempotency_keys": "starts_with(route, 'control plane ')",
        "outbox": "resource = 'Tenants'",
        "history": "resource = 'tenants'",
    }
    sql = "select count(*) from byodpp.{} where tenant_id = $1 and {}"
    return {table: await world.value(sql.format(table, rows), tenant) for table, rows in which.items()}


@pytest.mark.parametrize("tier", ["shared", "schema", "database"])
async def test_a_tenant_of_every_tier_changes_its_record_once_for_all_retries(
    world: World, tier: Tier
) -> None:
    await world.fill("acme", 1)
    if tier != "shared":
        await world.life.move("acme", tier)
    acme, client = await world.application.tenant("acme"), world.client()
    url, body = f"/api/v1/tenants/{acme.id}", {"motto": "On and on", "visits": {"$increment": 1}}
    answers = [await client.patch(url, json=body, headers=KEYED) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 200], answers[0].text
    assert {one.json()["data"]["visits"] for one in answers} == {1}
    assert len({one.text for one in answers}) == 1
    other = await client.patch(url, json={"motto": "Another"}, headers=KEYED)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert await counted(world, acme.id) == {"idempotency_keys": 1, "outbox": 1, "history": 1}


async def test_what_is_kept_of_such_a_write_stays_wherever_the_tenant_goes(world: World) -> None:
    await world.fill("acme", 1)
    acme, client = await world.application.tenant("acme"), world.client()
    url, body = f"/api/v1/tenants/{acme.id}", {"visits": {"$increment": 1}}
    first = await client.patch(url, json=body, headers=KEYED)
    assert first.status_code == 200, first.text
    moves: list[Tier] = ["database", "schema", "database", "shared"]
    for number, tier in enumerate(moves, 1):
        await world.life.move("acme", tier)
        again = await client.patch(url, json=body, headers=KEYED)
        assert (again.status_code, again.text) == (200, first.text), tier
        more = await client.patch(url, json=body, headers={"Idempotency-Key": tier + str(number)})
        assert more.json()["data"]["visits"] == number + 1, more.text
        kept = number + 1
        assert await counted(world, acme.id) == {"idempotency_keys": kept, "outbox": kept, "history": kept}
        told = await client.get(f"{url}/history")
        assert told.json()["count"] == kept, told.text
        await made(client, FOLDERS, name=f"goes on {number}")
    assert (await world.life.list())[1].under_way is None


@pytest.mark.parametrize("to", ["shared", "database"])
async def test_what_an_older_program_has_taken_along_comes_back_with_the_next_move(
    world: World, to: Tier
) -> None:
    await world.fill("acme", 1)
    acme, client = await world.application.tenant("acme"), world.client()
    url = f"/api/v1/tenants/{acme.id}"
    for number in (1, 2):
        assert (await client.patch(url, json={"motto": f"No. {number}"})).status_code == 200
    database = world.application.connected.database
    there = {table: await world.rows(f"select * from byodpp.{table}") for table in ("outbox", "history")}
    await world.life.move("acme", "database")
    [row] = await world.rows("select place from byodpp.tenant_places where tenant_id = $1", acme.id)
    which = {"outbox": "resource = 'Tenants'", "history": "resource = 'tenants'"}
    for table, rows in which.items():  # as that program left them
        async with database.system() as shared, database.at(row["place"]).system() as place:
            for transaction in (shared, place):
                await transaction.execute("set local byodpp.moving = 'on'")
            taken = await shared.fetchval(
                f"with gone as (delete from byodpp.{table} where tenant_id = $1 and {rows} returning *)"
                " select json_agg(row_to_json(gone))::text from gone",
                acme.id,
            )
            await place.execute(
                f"insert into byodpp.{table} select *"
                f" from json_populate_recordset(null::byodpp.{table}, $1::json)",
                taken,
            )
    assert (await client.patch(url, json={"motto": "No. 3"})).status_code == 200
    assert (await client.get(f"{url}/history")).json()["count"] == 1
    await world.life.move("acme", to)
    assert await counted(world, acme.id) == {"idempotency_keys": 0, "outbox": 3, "history": 3}
    told = await client.get(f"{url}/history")
    assert [one["row"]["motto"] for one in told.json()["data"]] == ["No. 3", "No. 2", "No. 1"], told.text
    for table, kept in there.items():
        now = {row["id"]: row for row in await world.rows(f"select * from byodpp.{table}")}
        local = {"_event_number", "dispatched_at"}
        for row in kept:
            if row["tenant_id"] == acme.id and row["resource"] in ("Tenants", "tenants"):
                same = {k: v for k, v in dict(row).items() if k not in local}
                assert same.items() <= dict(now[row["id"]]).items()


async def test_no_row_of_the_tenants_own_is_taken_where_it_is_not(world: World) -> None:
    await world.fill("acme", 1)
    acme = (await world.application.tenant("acme")).id
    await world.life.move("acme", "database")
    for sql in (
        "insert into byodpp.idempotency_keys (tenant_id, user_id, method, route, key, request_hash)"
        f" values ({acme}, 1, 'POST', '/api/v1/folders', 'k', 'h')",
        f"insert into byodpp.outbox (tenant_id, name, data, resource) values ({acme}, 'n', '1', 'Folders')",
        f"insert into byodpp.outbox (tenant_id, name, data) values ({acme}, 'n', '1')",
    ):
        with pytest.raises(TenantMoving):
            await world.rows(sql)


@pytest.mark.parametrize("tier", ["shared", "database"])
async def test_nothing_of_it_is_taken_of_a_tenant_that_is_no_more(
    world: World, tmp_path: Any, tier: Tier
) -> None:
    await world.fill("acme", 1)
    acme = (await world.application.tenant("acme")).id
    beta = (await world.application.tenant("beta")).id
    if tier != "shared":
        await world.life.move("acme", tier)
    await world.life.delete("acme", tmp_path)
    for sql in (  # as a request does that has not heard of it
        "insert into byodpp.idempotency_keys (tenant_id, user_id, method, route, key, request_hash)"
        " values ({}, 1, 'PATCH', 'control plane /api/v1/tenants', 'k', 'h')",
        "insert into byodpp.outbox (tenant_id, name, data, resource) values ({}, 'n', '1', 'Tenants')",
        "insert into byodpp.history (tenant_id, resource, resource_id, operation, at, row)"
        " values ({}, 'tenants', '1', 'update', now(), '{{}}')",
    ):
        await world.rows(sql.format(beta))
        with pytest.raises(TenantMoving):
            await world.rows(sql.format(acme))


async def test_nothing_of_it_outlives_the_tenant(world: World, tmp_path: Any) -> None:
    await world.fill("acme", 1)
    acme, client = await world.application.tenant("acme"), world.client()
    await world.life.move("acme", "database")
    url = f"/api/v1/tenants/{acme.id}"
    assert (await client.patch(url, json={"motto": "Bye"}, headers=KEYED)).status_code == 200
    await world.life.delete("acme", tmp_path)
    assert await counted(world, acme.id) == {"idempotency_keys": 0, "outbox": 0, "history": 0}
