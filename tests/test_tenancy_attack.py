"""Another tenant's ids on every route, in every place of a request, in every tier: as good as nobody's."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from byodpp.database import Database, SessionContext
from byodpp.testing import Bench
from tests.tenancy_attack import Attack
from tests.tenancy_world import LOGIC, TABLES, Populated, World, populated
from tests.worlds import TWELVE, build

SEED = int(os.environ.get("BYODPP_TEST_SEED", "1"))
#: Requests of the full count, for each of the setups.
REQUESTS = int(os.environ.get("BYODPP_ATTACK_REQUESTS", "100000"))
STORM = int(os.environ.get("BYODPP_STORM_REQUESTS", "10000"))
#: Whether statements name the tenant themselves, who has a schema of its own, and who has a database.
SETUPS = {
    "shared": (True, (), ()),
    "shared-row-level-security-alone": (False, (), ()),
    "in-schemas": (True, ("acme", "beta"), ()),
    "in-schemas-row-level-security-alone": (False, ("acme", "beta"), ()),
    "the-other-in-a-schema": (True, ("beta",), ()),
    "the-attacker-in-a-schema-row-level-security-alone": (False, ("acme",), ()),
    "in-databases": (True, (), ("acme", "beta")),
    "in-databases-row-level-security-alone": (False, (), ("acme", "beta")),
    "the-other-in-a-database-row-level-security-alone": (False, (), ("beta",)),
    "the-attacker-in-a-database": (True, (), ("acme",)),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=list(SETUPS.values()), ids=list(SETUPS))
async def origin(
    request: pytest.FixtureRequest, byodpp_bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Populated]:
    enforce_scope, in_schemas, in_databases = request.param
    blueprint = build(tmp_path_factory.mktemp("twelve"), TWELVE, LOGIC, enforce_scope=enforce_scope)
    async with populated(byodpp_bench, blueprint, in_schemas, in_databases) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def world(byodpp_bench: Bench, origin: Populated) -> AsyncIterator[World]:
    async with origin.copied(byodpp_bench) as made:
        yield made


async def rows_of(world: World, tenant: str) -> dict[str, list[Any]]:
    """Every row of a tenant with its version in the database."""
    id = (await world.application.tenant(tenant)).id
    found = {}
    for table in sorted(set(TABLES) - {"countries", "tenant_classes"}):
        whose = "id" if table == "tenants" else "tenant_id"
        rows = await world.rows(table, "f.xmin::text, f::text", where=f"f.{whose} = {id}")
        found[table] = sorted(tuple(row) for row in rows)
    return found


async def attacked(world: World, requests: int, told: Callable[[str], object]) -> Attack:
    attack = Attack(world, SEED)
    await attack.prepare()
    before = await rows_of(world, "beta")
    assert sum(map(len, before.values())) > 40
    portion = 2_500
    for done in range(0, requests // 2, portion):
        for _ in range(min(portion, requests // 2 - done)):
            await attack.strike()
        assert await rows_of(world, "beta") == before, "a row of the other tenant has changed"
        told(f"{2 * attack.count} of {requests} requests, {attack.slower():.3f} times as long")
    return attack


async def test_random_requests_with_another_tenants_ids_read_and_change_nothing(world: World) -> None:
    attack = await attacked(world, 300, lambda text: None)
    assert len(attack.kinds) > 8 and len(attack.covered) > 40, (attack.kinds, len(attack.covered))
    assert attack.slower() < 2, "an id of another tenant's is not told apart by the time it takes"


def _told(progress: str) -> None:
    sys.stderr.write(progress + "\n")
    sys.stderr.flush()


@pytest.mark.soak
async def test_100000_random_requests_with_another_tenants_ids_read_and_change_nothing(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    attack = await attacked(world, REQUESTS, _told)
    routes = {(route.method, route.pattern) for route in attack.routes}
    assert attack.covered == routes, routes - attack.covered
    assert 0.9 < attack.slower() < 1.1
    record_property("requests", 2 * attack.count)
    record_property("routes", len(routes))
    record_property("rows of the other read or changed", 0)
    record_property("times as long as for an unknown id", round(attack.slower(), 3))


async def storm(world: World, requests: int) -> dict[str, int]:
    """Send requests of mixed tenants, a fifth of them cancelled at some moment."""
    application, dice = world.application, random.Random(SEED)
    slugs = ("acme", "beta", "gamma")
    await application.add_tenant("gamma")
    clients = {slug: application.client(tenant=slug, user=f"admin-{slug}") for slug in slugs}
    outcomes = {"done": 0, "cancelled": 0}

    async def one(number: int) -> None:
        slug = dice.choice(slugs)
        client, kind = clients[slug], dice.random()
        if kind < 0.5:
            work = client.get("/api/v1/folders?limit=50&sort=-id&include=parent")
        elif kind < 0.8:
            work = client.post("/api/v1/folders", json={"title": f"{slug} storm {number}"})
        else:
            work = client.post("/api/v1/folders/batch", json=[{"title": f"{slug} {number}"}] * 5)
        task = asyncio.create_task(work)
        if dice.random() < 0.2:
            await asyncio.sleep(dice.random() * 0.03)
            task.cancel()
        try:
            answer = await task
        except asyncio.CancelledError:
            outcomes["cancelled"] += 1
            return
        outcomes["done"] += 1
        assert answer.status_code in (200, 201), answer.text
        data = answer.json()["data"]
        for row in data if isinstance(data, list) else [data]:
            assert row["title"].startswith(slug), (slug, row)

    for start in range(0, requests, 25):
        await asyncio.gather(*(one(number) for number in range(start, start + 25)))
    await _at_rest(world)
    return outcomes


async def _at_rest(world: World) -> None:
    """Every connection is free, out of any transaction, without a tenant, and looks into no schema of one."""
    for database in world.application.connected.database.everywhere():
        await _rests(database)
    for row in await world.rows("folders", "t.slug, f.title"):
        assert row["title"].startswith(row["slug"]), tuple(row)


async def _rests(database: Database) -> None:
    # The watches have short transactions all the time; one that was left open stays.
    for _ in range(50):
        async with database.system() as transaction:
            open_ones = await transaction.fetchval(
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid() and backend_type = 'client backend' and state <> 'idle'"
            )
        if open_ones == 0:
            break
        await asyncio.sleep(0.1)
    assert open_ones == 0
    scopes = [database.transaction(SessionContext(tenant_id=0)) for _ in range(5)]
    for scope in scopes:
        transaction = await scope.__aenter__()
        await transaction.execute("commit")
        left = await transaction.fetchrow(
            "select coalesce(current_setting('byodpp.tenant', true), '') as tenant,"
            " current_setting('search_path') as path"
        )
        assert left is not None and (left["tenant"], left["path"]) == ("", '"$user", public')
        await transaction.execute("begin")
    for scope in scopes:
        await scope.__aexit__(None, None, None)


async def test_cancelled_requests_of_mixed_tenants_leave_no_context_behind(world: World) -> None:
    outcomes = await storm(world, 100)
    assert outcomes["cancelled"] > 3 and outcomes["done"] > 50, outcomes


@pytest.mark.soak
async def test_10000_requests_of_mixed_tenants_a_fifth_cancelled_leave_no_context_behind(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    outcomes = await storm(world, STORM)
    record_property("requests", STORM)
    record_property("cancelled", outcomes["cancelled"])
    record_property("foreign contexts", 0)
