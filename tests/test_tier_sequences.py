"""What operators and clients do in an order that nobody has planned while a tenant moves between tiers."""

from __future__ import annotations

import asyncio
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.database import SessionContext
from byodpp.exceptions import ApiError, Conflict, PlaceUnavailable, ReadOnlyCopy, TenantMoving
from byodpp.places import PlaceBuilder
from byodpp.places.databases import PlaceDatabases, id_range
from byodpp.places.following import follow, follow_in_database
from byodpp.places.placement import Tier
from byodpp.settings.places import place_addresses
from byodpp.tenant_life import Wanted
from byodpp.testing import Bench
from tests.test_databases_of_tenants import chains, cut_after
from tests.test_tiers import FOLDERS, LOGIC, MANIFEST, Cut, World, made
from tests.worlds import build

PLACES = ("north@eu", "south@us")


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("sequences"), MANIFEST, LOGIC)


@pytest_asyncio.fixture(loop_scope="session")
async def world(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[World]:
    settings: dict[str, Any] = {"places": PLACES, "tenant_settle_seconds": 0, "place_refresh_seconds": 0.2}
    async with byodpp_bench.application(blueprint, **settings) as tested:
        yield World(tested)


async def exported(world: World, folder: Path) -> dict[str, list[Any]]:
    """Return what an export of acme holds, by resource; its trail grows with each move."""
    path = await world.life.export("acme", folder)
    with zipfile.ZipFile(path) as archive:
        found = {
            name: sorted((json.loads(line) for line in archive.read(name).splitlines()), key=json.dumps)
            for name in archive.namelist()
            if name.startswith("data/") and name != "data/AuditLogs.ndjson"
        }
    path.unlink()
    return found


async def test_an_export_holds_the_same_in_every_tier(world: World, tmp_path: Path) -> None:
    await world.fill("acme", 3)
    await made(world.client(), "/api/v1/roles", name="Own")
    shared = await exported(world, tmp_path)
    assert len(shared["data/Folders.ndjson"]) == 3 and len(shared["data/Diaries.ndjson"]) == 3
    route: list[tuple[Tier, str | None]] = [
        ("schema", None), ("database", "north"), ("database", "south"), ("shared", None),
    ]  # fmt: skip
    for tier, place in route:
        await world.life.move("acme", tier, wanted=Wanted(place=place))
        assert await exported(world, tmp_path) == shared, (tier, place)


@pytest.mark.parametrize("tier", ["schema", "database"])
async def test_two_who_move_a_tenant_at_once_go_hand_in_hand(world: World, tier: Tier) -> None:
    await world.fill("acme", 3)
    before = await world.seen("acme")
    async with asyncio.timeout(120):
        done = await asyncio.gather(
            world.life.move("acme", tier), world.life.move("acme", tier), return_exceptions=True
        )
    assert all(isinstance(one, Conflict) or not isinstance(one, BaseException) for one in done), done
    assert (await world.seen("acme"))[:-1] == before[:-1]
    lines = {line.slug: (line.tier, line.under_way) for line in await world.life.list()}
    assert lines["acme"] == (tier, None)
    await made(world.client(), FOLDERS, name="goes on")


async def test_a_move_that_is_given_up_while_it_goes_on_ends_one_way_or_the_other(world: World) -> None:
    await world.fill("acme", 2)
    before = await world.seen("acme")
    moving = asyncio.create_task(world.life.move("acme", "database"))
    refusals = []
    for _ in range(200):
        await asyncio.sleep(0.05)
        try:
            await world.life.abandon("acme")
            break
        except ApiError as error:
            refusals.append(error.message)
        if moving.done():
            break
    results = await asyncio.gather(moving, return_exceptions=True)
    lines = {line.slug: (line.tier, line.under_way) for line in await world.life.list()}
    ended = "shared" if isinstance(results[0], BaseException) else "database"
    assert lines["acme"] == (ended, None), (results, refusals)
    assert (await world.seen("acme"))[0] == before[0]
    await made(world.client(), FOLDERS, name="goes on")
    await world.life.move("acme", "shared" if ended == "database" else "database")
    assert all(verdict.intact for verdict in await chains(world))


async def test_what_changes_about_a_tenant_that_moves_waits_or_holds_afterwards(world: World) -> None:
    operator = world.client("platform", user="root")
    await world.fill("acme", 1)
    acme = await world.application.tenant("acme")
    small = await made(operator, "/api/v1/tenant-classes", name="small", tier="shared")
    with pytest.raises(Cut):
        await world.life.move("acme", "database", told=cut_after("compare"))
    # Its class is of the control plane, and says nothing about a move that has begun.
    changed = await operator.patch(f"/api/v1/tenants/{acme.id}", json={"tenantClassId": small["id"]})
    assert changed.status_code == 200, changed.text
    admin = world.client()
    for url, body in (
        ("/api/v1/api-keys", {"name": "k", "roles": ["Admin"]}),
        ("/api/v1/policies", {"subject": "Viewer", "object": "Sheets"}),
        ("/api/v1/grants", {"object": "Folders", "rowId": "1", "grantee": "beta"}),
    ):
        answer = await admin.post(url, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "tenant_moving"), url
    with pytest.raises(Conflict, match="Something else"):
        await world.life.delete("acme", Path("unused"))
    # Nobody who is to be locked out has to be waited for.
    await made(admin, "/api/v1/revocations", kind="token", subject="stolen")
    assert (await operator.post(f"/api/v1/tenants/{acme.id}/deactivate")).status_code == 200
    assert (await admin.get(FOLDERS)).status_code == 401
    assert (await operator.post(f"/api/v1/tenants/{acme.id}/activate")).status_code == 200
    await world.life.move("acme", None)
    assert (await operator.post(f"/api/v1/tenants/{acme.id}/deactivate")).status_code == 200
    await world.life.move("acme", "shared")  # who is suspended moves as well
    assert (await admin.get(FOLDERS)).status_code == 401
    assert (await operator.post(f"/api/v1/tenants/{acme.id}/activate")).status_code == 200
    assert (await admin.get(FOLDERS)).json()["count"] == 1


@pytest.mark.parametrize("after", ["copy folders", "compare", "switch"])
async def test_a_place_that_goes_away_amid_a_move_is_waited_for(world: World, after: str) -> None:
    await world.fill("acme", 2)
    before = await world.seen("acme")
    with pytest.raises(Cut):
        await world.life.move("acme", "database", wanted=Wanted(place="north"), told=cut_after(after))
    keeper = world.application.connected.keepers[0]
    await keeper.looks.stop()
    place = world.application.connected.database.places["north"]
    place.refusal = PlaceUnavailable("away")
    with pytest.raises(ApiError):
        await world.life.move("acme", None)
    switched = after == "switch"
    answer = await world.client().get(FOLDERS)
    assert answer.status_code == (503 if switched else 200), answer.text
    assert (await world.client("beta").get(FOLDERS)).status_code == 200
    place.refusal = None
    await world.life.move("acme", None)
    assert (await world.seen("acme"))[:-1] == before[:-1]
    await made(world.client(), FOLDERS, name="goes on")


@pytest.mark.parametrize("tier", ["schema", "database"])
async def test_the_planner_knows_of_the_rows_that_have_come(world: World, tier: Tier) -> None:
    await world.fill("acme", 3)
    await world.life.move("acme", tier)
    acme = await world.application.tenant("acme")
    database = world.application.connected.database.at(acme.database)
    async with database.system() as transaction:
        table = f"{acme.place or 'public'}.folders"
        assert (
            await transaction.fetchval(f"select reltuples from pg_class where oid = '{table}'::regclass") == 3
        )


async def test_what_a_migration_brings_is_fenced_where_tenants_are(
    world: World, blueprint: Blueprint
) -> None:
    await world.fill("acme", 1)
    acme = (await world.application.tenant("acme")).id
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    settings = world.application.settings
    places = PlaceDatabases(blueprint.tables, place_addresses(settings))
    builder = PlaceBuilder(blueprint.registry, blueprint.tables, settings.postgres_admin_uri)
    # Tables as a migration makes them: nobody has fenced them yet.
    async with builder.connected() as owner:
        for trigger in ("byodpp_gate", "byodpp_gate_delete"):
            await owner.execute(f"drop trigger {trigger} on units")
    async with places.connected("north") as owner:
        await owner.execute("drop trigger byodpp_copy on units; drop trigger byodpp_copy_delete on units")
        await owner.execute("alter table units alter column id restart with 1")
    assert settings.postgres_system_uri is not None
    await follow(builder, settings.postgres_system_uri, lossy=True)
    await follow_in_database(places, "north", settings.postgres_system_uri)
    database = world.application.connected.database
    with pytest.raises(TenantMoving):
        async with database.transaction(SessionContext(tenant_id=acme)) as transaction:
            await transaction.execute("insert into units (tenant_id, name) values ($1, 'late')", acme)
    with pytest.raises(ReadOnlyCopy):
        async with database.places["north"].system() as transaction:
            await transaction.execute("insert into units (tenant_id, name) values (0, 'x')")
    assert (await made(world.client(), "/api/v1/units", name="own"))["id"] >= id_range("north")
