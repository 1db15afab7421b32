"""A tenant in a database of its own: the same to every client, moved there and back without a loss."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench
from tests.test_tiers import FOLDERS, LOGIC, MANIFEST, SHEETS, World, made
from tests.worlds import build

PLACES = ("north@eu", "south@us")


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("databases"), MANIFEST, LOGIC)


@pytest_asyncio.fixture(loop_scope="session")
async def world(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[World]:
    settings: dict[str, Any] = {"places": PLACES, "tenant_settle_seconds": 0, "place_refresh_seconds": 0.2}
    async with byodpp_bench.application(blueprint, **settings) as tested:
        yield World(tested)


async def in_place(world: World, place: str, sql: str, *arguments: Any) -> Any:
    async with world.application.connected.database.places[place].system() as transaction:
        return await transaction.fetchval(sql, *arguments)


async def test_a_moved_tenant_sees_the_same_and_so_does_everybody_else(world: World) -> None:
    await made(world.client("platform", user="root"), "/api/v1/countries", name="Utopia")
    await made(world.client("platform", user="root"), "/api/v1/units", name="metre")
    await world.fill("acme")
    await world.fill("beta")
    acme, beta = await world.seen("acme"), await world.seen("beta")
    id = (await world.application.tenant("acme")).id
    for tier in ("database", "shared", "database"):
        await world.life.move("acme", tier)  # type: ignore[arg-type]
        seen = await world.seen("acme")
        assert seen[:-1] == acme[:-1], tier
        assert (await world.seen("beta"))[:-1] == beta[:-1], tier
        count = "select count(*) from folders where tenant_id = $1"
        assert await world.value(count, id) == (0 if tier == "database" else 3)
        assert await in_place(world, "north", count, id) == (3 if tier == "database" else 0)
        lines = {line.slug: (line.tier, line.place) for line in await world.life.list()}
        assert lines["acme"] == (tier, "north" if tier == "database" else "")
    await world.fill("acme", 1, first=10)
    assert await in_place(world, "north", "select count(*) from folders") == 4
    audited = await world.client().get("/api/v1/audit-logs?limit=100&count=exact")
    assert audited.json()["count"] == await in_place(
        world, "north", "select count(*) from audit_logs where tenant_id = $1", id
    )
