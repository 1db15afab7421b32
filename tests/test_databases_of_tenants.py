"""A tenant in a database of its own: the same to every client, moved there and back without a loss."""

from __future__ import annotations

import asyncio
import copy
import json
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from byodpp.audit import SealKey, verify
from byodpp.audit.notes import Note
from byodpp.bootstrap import Application, Blueprint
from byodpp.calls import Origin
from byodpp.cli.place_plans import place_plans
from byodpp.database import SessionContext
from byodpp.embedded import SUPERUSER
from byodpp.exceptions import (
    ApiError,
    Conflict,
    DatabaseStartError,
    PlaceUnavailable,
    ReadOnlyCopy,
    SettingsError,
    TenantMoving,
    UniqueConflict,
    ValidationFailed,
)
from byodpp.idempotency import IdempotencyKeys
from byodpp.places import claims
from byodpp.places.databases import PlaceDatabases
from byodpp.places.placement import Tier
from byodpp.settings import load_settings
from byodpp.settings.places import place_addresses
from byodpp.settings.secret_key import application_secret
from byodpp.tables.roles import OWNER, SYSTEM
from byodpp.tenant_life import Guest, Newcomer, Wanted
from byodpp.tenant_life.acting import _acting, system
from byodpp.testing import Bench
from tests.commands import ROOT, byodpp
from tests.patience import answered, blocked, soon, turns
from tests.test_tiers import FOLDERS, LOGIC, MANIFEST, SHEETS, Cut, World, cutting, grown, made, writing
from tests.worlds import build, write_application

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
        await world.life.move("acme", tier)
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


STEPS = [
    "begin", "place", "hold", "empty", "copy users", "copy folders", "copy byodpp.outbox", "circles",
    "references", "compare", "switch", "settle", "trail", "clean", "open", "end",
]  # fmt: skip


@pytest.mark.parametrize("tier", ["database", "shared", "other region"])
async def test_a_move_cut_off_after_every_step_is_taken_up_and_loses_nothing(world: World, tier: str) -> None:
    await world.fill("acme")
    await world.fill("beta", 1)
    wanted = None
    if tier != "database":
        await world.life.move("acme", "database", wanted=Wanted(region="eu"))
    if tier == "other region":
        wanted = Wanted(place="south")
    goal: Any = "shared" if tier == "shared" else "database"
    for number, after in enumerate(STEPS):
        before, taken = await world.seen("acme"), list[str]()

        def told(step: str, now: bool, taken: Any = taken, after: str = after) -> None:
            taken.append(step)
            if step == after:
                raise Cut

        with pytest.raises(Cut):
            await world.life.move("acme", goal, wanted=wanted, told=told)
        assert taken[-1] == after
        assert (await world.seen("acme"))[:-1] == before[:-1], (
            f"cut off after {after}, it is read all the time"
        )
        held = STEPS.index("hold") <= number < STEPS.index("open")
        await _written(world, number, held=held)
        await made(world.client("beta"), FOLDERS, name=f"beta goes on {number}")
        lines = {line.slug: line.under_way for line in await world.life.list()}
        assert lines["acme"] is not None and lines["acme"].kind == "move"
    with pytest.raises(Conflict, match="Something else"):
        await world.life.reactivate("acme")
    before = await world.seen("acme")
    await world.life.move("acme", None)
    assert (await world.seen("acme"))[:-1] == before[:-1]
    assert (await made(world.client(), FOLDERS, name="acme after"))["id"] > 3
    where = {line.slug: (line.tier, line.place, line.under_way) for line in await world.life.list()}["acme"]
    places = {
        "database": ("database", "north"),
        "shared": ("shared", ""),
        "other region": ("database", "south"),
    }
    assert where == (*places[tier], None)
    id = (await world.application.tenant("acme")).id
    for place in {"north", "south"} - {where[1]}:
        for table in ("folders", "users", "byodpp.outbox", "roles"):
            assert await in_place(world, place, f"select count(*) from {table} where tenant_id = $1", id) == 0


async def _written(world: World, number: int, *, held: bool) -> None:
    """Write as a tenant that moves: refused while it is held, and else as always."""
    client = world.client()
    answer = await client.patch(f"{FOLDERS}/1", json={"name": f"acme new {number}"})
    assert answer.status_code == (503 if held else 200), answer.text
    for url in (FOLDERS, "/api/v1/units", "/api/v1/roles", "/api/v1/policies"):
        body = {"subject": "Viewer", "object": "Sheets"} if "policies" in url else {"name": f"x {number}"}
        answer = await client.post(url, json=body)
        assert answer.status_code == (503 if held else 201), (url, answer.text)
        if held:
            assert (
                answer.json()["error"]["code"] == "tenant_moving" and int(answer.headers["Retry-After"]) > 0
            )


async def test_no_write_is_lost_while_a_tenant_moves_between_all_tiers_and_regions(world: World) -> None:
    await world.fill("acme", 1)
    async with writing(world) as (acknowledged, refused):
        route: list[tuple[Tier, str | None]] = [("database", "north"), ("database", "south")]
        route += [("schema", None), ("database", "north"), ("shared", None)]
        for tier, place in route:
            await world.life.move("acme", tier, wanted=Wanted(place=place))
            await grown(acknowledged)
    assert len(acknowledged) > 20 and refused
    rows = await world.rows("select id, name from folders")
    assert {row["name"] for row in rows} - {"acme 0"} == acknowledged
    assert len({row["id"] for row in rows}) == len(rows)
    verdicts = await chains(world)
    assert all(verdict.intact for verdict in verdicts), verdicts


async def chains(world: World) -> list[Any]:
    """Seal what waits, and verify every chain of every database."""
    connected = world.application.connected
    table = connected.blueprint.tables[connected.blueprint.registry.get("AuditLogs")]
    key = SealKey.derived(application_secret(connected.settings))
    found = []
    for following in (connected.following, *connected.of_places.values()):
        await following.sealer.seal()
    for _, database in connected.database.serving():
        connection = await asyncpg.connect(str(database.system_uri), timeout=30)
        try:
            found += await verify(connection, table, [key])
        finally:
            await connection.close()
    return found


def cut_after(name: str) -> Any:
    def told(step: str, now: bool) -> None:
        if step == name:
            raise Cut

    return told


KEPT = "idempotency_keys"
KEY = (
    "insert into byodpp.idempotency_keys (tenant_id, user_id, method, route, key, request_hash, created_at)"
    " values ($1, 1, 'POST', '/x', 'k', 'x', now() - interval '25 hours')"
)
#: As a class emits it: what an entry of the audit trail tells lies there.
TOLD = "insert into byodpp.outbox (tenant_id, name, data) values ($1, 'folder.opened', '{}')"
CHANGES = {
    KEPT: "update byodpp.idempotency_keys set status = 418 where tenant_id = $1",
    "imports": "update byodpp.imports set line = line + 1 where tenant_id = $1",
    "outbox": "update byodpp.outbox set data = '{}' where tenant_id = $1",
    "history": "delete from byodpp.history where tenant_id = $1",
}


@pytest.mark.parametrize("source", ["shared", "north"])
async def test_nothing_of_a_tenant_changes_where_it_is_while_it_moves_whoever_writes(
    world: World, source: str
) -> None:
    await world.fill("acme", 1)
    client, files = world.client(), {"Content-Type": "text/csv"}
    assert (await client.post(f"{FOLDERS}/import", content="name\nx\n", headers=files)).is_success
    id = (await world.application.tenant("acme")).id
    database = world.application.connected.database
    if source == "north":
        await world.life.move("acme", "database", wanted=Wanted(place="north"))
        database = database.places["north"]

    async def done(sql: str, *values: Any) -> str:
        async with database.system() as transaction:
            return str(await transaction.execute(sql, *values))

    await done(KEY, id)
    await done(TOLD, id)
    goal: Tier = "database" if source == "shared" else "shared"
    with pytest.raises(Cut):
        await world.life.move("acme", goal, told=cut_after("hold"))
    purges = IdempotencyKeys(world.application.connected.database).purge
    for step in ("copy byodpp.outbox", "compare", "switch", "settle"):
        with pytest.raises(Cut):
            await world.life.move("acme", None, told=cut_after(step))
        for table, sql in CHANGES.items():
            with pytest.raises(TenantMoving):
                await done(sql, id)
            with pytest.raises(TenantMoving):
                await done(f"delete from byodpp.{table} where tenant_id = $1", id)
        answer = await client.post(f"{FOLDERS}/import", content="name\ny\n", headers=files)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "tenant_moving")
        assert await purges(None if source == "shared" else "north") == 0, "it is old, and is being moved"
    await world.life.move("acme", None)
    there = world.value if source == "north" else partial(in_place, world, "north")
    for table in CHANGES:
        sql = f"select count(*) from byodpp.{table} where tenant_id = $1"
        assert await there(sql, id) > 0, table
    assert await purges("north" if source == "shared" else None) == 1
    await made(client, FOLDERS, name="goes on")


@pytest.mark.parametrize("source", ["shared", "north"])
async def test_rows_opened_after_a_move_has_begun_keep_the_tenant_where_it_is(
    world: World, source: str
) -> None:
    await world.fill("acme", 1)
    id = (await world.application.tenant("acme")).id
    if source == "north":
        await world.life.move("acme", "database", wanted=Wanted(place="north"))
    with pytest.raises(Cut):
        await world.life.move("acme", "database", told=cut_after("place"))
    acme = world.client()
    if source == "shared":
        grant = await made(acme, "/api/v1/grants", object="Folders", rowId="1", grantee="beta")
    else:  # over the API it is refused there
        async with world.application.connected.database.places["north"].system() as transaction:
            await transaction.execute(
                'insert into grants (tenant_id, object, row_id, grantee, grantee_id, "table")'
                " values ($1, 'Folders', '1', 'x', 0, 'folders')",
                id,
            )
    with pytest.raises(Conflict, match=r"since the move began. It writes again where it is: revoke"):
        await world.life.move("acme", None)
    lines = {line.slug: (line.tier, line.under_way) for line in await world.life.list()}
    assert lines["acme"] == ("shared" if source == "shared" else "database", None)
    await made(acme, FOLDERS, name="goes on")
    if source == "north":
        return
    guest = world.client("beta", headers={"X-Tenant": "acme"})
    assert (await guest.get(FOLDERS)).json()["count"] == 1
    with pytest.raises(Conflict, match="revoke its grants first"):
        await world.life.move("acme", "database")
    assert (await acme.delete(f"/api/v1/grants/{grant['id']}")).status_code == 204
    await world.life.move("acme", "database")
    assert (await acme.get(FOLDERS)).json()["count"] == 2


async def test_nobody_moves_into_a_database_that_keeps_entries_otherwise_until_it_has_every_revision(
    world: World,
) -> None:
    """A revision that may wait is applied to one of the two: entries would not be what was sealed."""
    await world.fill("acme", 1)
    await keep_changes_as(world, "jsonb")
    with pytest.raises(Conflict, match="run `byodpp migrate apply` first"):
        await world.life.move("acme", "database")
    await made(world.client(), FOLDERS, name="acme goes on")
    await keep_changes_as(world, "json")
    await world.life.move("acme", "database")
    assert await in_place(world, "north", "select count(*) from folders") == 2


async def test_nobody_is_switched_to_such_a_database_by_a_move_that_began_before(world: World) -> None:
    await world.fill("acme", 1)
    with pytest.raises(Cut):
        await world.life.move("acme", "database", told=cutting("references"))
    await keep_changes_as(world, "jsonb")
    with pytest.raises(Conflict, match="run `byodpp migrate apply` first"):
        await world.life.move("acme", "database")
    assert (await world.client().get(FOLDERS)).json()["count"] == 1, "it is read where it was"
    await keep_changes_as(world, "json")
    await world.life.move("acme", "database")
    await made(world.client(), FOLDERS, name="acme goes on")
    assert await in_place(world, "north", "select count(*) from folders") == 2


async def keep_changes_as(world: World, kind: str) -> None:
    """Let the place north keep what entries say in another type, or in the right one."""
    settings = world.application.settings
    places = PlaceDatabases(world.application.blueprint.tables, place_addresses(settings))
    async with places.connected("north") as owner:
        await owner.execute(f"alter table audit_logs alter column changes type {kind} using changes::{kind}")


async def test_another_entry_under_the_id_of_one_in_the_trail_stops_a_move(world: World) -> None:
    await world.fill("acme", 1)
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    await made(world.client(), FOLDERS, name="of north")
    await world.life.move("acme", "shared")
    id = (await world.application.tenant("acme")).id
    change = "update audit_logs set action = $1 where tenant_id = $2 and id = $3"
    last = await world.value("select max(id) from audit_logs where tenant_id = $1", id)

    async def rewrite(action: str) -> None:
        async with world.application.connected.database.places["north"].system() as transaction:
            await transaction.execute(change, action, id, last)

    had = await world.value("select action from audit_logs where tenant_id = $1 and id = $2", id, last)
    connected = world.application.connected
    for following in (connected.following, *connected.of_places.values()):
        await following.sealer.stop()  # else it may come while the entry is forged, and seal that
    await rewrite("FORGED")
    with pytest.raises(Conflict, match=rf"Entry {last} of the audit trail is another one .* verify"):
        await world.life.move("acme", "database", wanted=Wanted(place="north"))
    assert (await _status(world.client())) == (200, None)
    await world.life.abandon("acme")
    await made(world.client(), FOLDERS, name="goes on")
    await rewrite(had)
    with pytest.raises(Cut):
        await world.life.move("acme", "database", wanted=Wanted(place="north"), told=cut_after("settle"))
    await rewrite("FORGED")
    with pytest.raises(Conflict, match=f"Entry {last} "):
        await world.life.move("acme", None)
    await rewrite(had)
    await world.life.move("acme", None)
    await made(world.client(), FOLDERS, name="is there")
    assert all(verdict.intact for verdict in await chains(world))


async def test_a_move_that_finds_a_difference_copies_again_when_it_is_taken_up(world: World) -> None:
    await world.fill("acme")
    acme = await world.seen("acme")
    with pytest.raises(Cut):
        await world.life.move("acme", "database", told=cut_after("references"))
    async with world.application.connected.database.places["north"].system() as transaction:
        await transaction.execute("set local byodpp.moving = 'on'")
        await transaction.execute("update folders set name = 'another'")
    with pytest.raises(ApiError, match="folders differs"):
        await world.life.move("acme", None)
    assert (await _status(world.client())) == (200, None)
    await world.life.move("acme", None)
    assert (await world.seen("acme"))[:-1] == acme[:-1]


@pytest.mark.parametrize("source, after", [("shared", "hold"), ("shared", "compare"), ("north", "compare")])
async def test_a_move_that_is_given_up_lets_the_tenant_write_where_it_is(
    world: World, source: str, after: str
) -> None:
    await world.fill("acme")
    with pytest.raises(Conflict, match="No move"):
        await world.life.abandon("acme")
    if source == "north":
        await world.life.move("acme", "database", wanted=Wanted(place="north"))
    acme = await world.seen("acme")
    goal, wanted = ("database", None) if source == "shared" else ("shared", None)
    with pytest.raises(Cut):
        await world.life.move("acme", goal, wanted=wanted, told=cut_after(after))  # type: ignore[arg-type]
    assert (await world.client().post(FOLDERS, json={"name": "x"})).status_code == 503
    assert await world.life.abandon("acme") == {"abandon": {"left": ""}}
    await made(world.client(), FOLDERS, name="goes on")
    assert (await world.seen("acme"))[0] != acme[0]
    lines = {line.slug: (line.tier, line.under_way) for line in await world.life.list()}
    assert lines["acme"] == ("shared" if source == "shared" else "database", None)
    await world.life.move("acme", goal)  # type: ignore[arg-type]
    with pytest.raises(Cut):
        await world.life.move(
            "acme", "shared" if source == "shared" else "database", told=cut_after("switch")
        )
    with pytest.raises(Conflict, match="switched"):
        await world.life.abandon("acme")
    await world.life.move("acme", None)
    await made(world.client(), FOLDERS, name="is there")


async def test_nothing_is_found_where_a_tenant_was_once_it_can_write_again(world: World) -> None:
    await world.fill("acme", 2)
    admin, nobody = world.client(), world.application.client(role=None)
    key = await made(admin, "/api/v1/api-keys", name="robot", roles=["Admin"])
    robot = world.application.client(role=None, headers={"Authorization": f"Bearer {key['key']}"})
    out = (await admin.get(f"{FOLDERS}?filter[status]=out")).json()["data"][0]["id"]
    with pytest.raises(Cut):
        await world.life.move("acme", "database", told=cut_after("open"))
    assert (await robot.get(FOLDERS)).status_code == 200
    assert (await admin.patch(f"{FOLDERS}/{out}", json={"status": "draft"})).is_success
    assert (await admin.post(f"/api/v1/api-keys/{key['id']}/revoke")).is_success
    await soon(answered(robot, FOLDERS), 401, 1.5)
    await soon(answered(nobody, f"{FOLDERS}/{out}"), 404, 1.5)
    assert (await nobody.get(FOLDERS)).json()["data"] == []
    await world.life.move("acme", None)


async def test_a_request_that_was_let_in_before_a_move_cannot_write_where_the_tenant_was(
    world: World,
) -> None:
    await world.fill("acme", 1)
    id = (await world.application.tenant("acme")).id
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    await world.life.move("acme", "shared")
    await world.life.move("beta", "database", wanted=Wanted(place="north"))
    await made(world.client("beta"), FOLDERS, name="beta's")
    database = world.application.connected.database
    stale = SessionContext(tenant_id=id, database="north")
    with pytest.raises(TenantMoving):
        async with database.transaction(stale) as transaction:
            await transaction.execute("insert into folders (tenant_id, name) values ($1, 'lost')", id)
    await world.life.move("beta", "shared")
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    await made(world.client(), FOLDERS, name="is back")


async def test_a_place_made_anew_under_its_name_gives_no_id_again(world: World) -> None:
    await world.fill("acme", 1)
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    await world.fill("acme", 2, first=5)
    await made(world.client(), "/api/v1/units", name="of acme")
    await world.life.move("acme", "shared")
    connected = world.application.connected
    places = PlaceDatabases(connected.blueprint.tables, place_addresses(connected.settings))
    async with places.connected("north") as owner:
        for table in ("audit_logs", "byodpp.audit_seals", "byodpp.audit_heads"):
            await owner.execute(f"truncate {table} cascade")
        for table in ("audit_logs", "byodpp.outbox", "byodpp.history", "units"):
            await owner.execute(f"alter table {table} alter column id restart with 1")
    audited = "select count(*) from audit_logs"
    before = await world.value(audited)
    await world.life.move("beta", "database", wanted=Wanted(place="north"))
    await made(world.client("beta"), FOLDERS, name="beta's")
    await world.life.move("beta", "shared")
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    await made(world.client(), FOLDERS, name="after")
    await made(world.client(), "/api/v1/units", name="after")
    await world.life.move("acme", "shared")
    ids = "select count(distinct id) = count(*) and count(*) > $1 from audit_logs"
    assert await world.value(ids, before + 3)


async def test_an_event_is_listed_once_and_in_order_wherever_its_tenant_has_moved(world: World) -> None:
    told = (
        "select array_agg(data->>'name' order by number, place) from byodpp.events()"
        " where name like 'folders.%'"
    )
    await made(world.client(), FOLDERS, name="first")
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    await made(world.client(), FOLDERS, name="there")
    await world.life.move("acme", "shared")
    await made(world.client(), FOLDERS, name="last")
    assert await world.value(told) == ["first", "last"]
    assert await in_place(world, "north", told) == ["there"]


async def test_two_names_of_one_database_move_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.fill("acme", 3)
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    connected = world.application.connected
    places = connected.database.places
    await connected.keepers[1].looks.stop()
    monkeypatch.setitem(places, "south", places["north"])
    with pytest.raises(Conflict, match="north and south are one database"):
        await world.life.move("acme", "database", wanted=Wanted(place="south"))
    assert (await world.client().get(FOLDERS)).json()["count"] == 3
    await made(world.client(), FOLDERS, name="goes on")


async def test_a_deleted_tenant_leaves_its_place_and_nobody_writes_for_it(
    world: World, tmp_path: Path
) -> None:
    operator = world.client("platform", user="root")
    await world.fill("acme", 1)
    await made(world.client(), FOLDERS, name="x", code="mine")
    id = (await world.application.tenant("acme")).id
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    with pytest.raises(Cut):
        await world.life.delete("acme", tmp_path, told=cut_after("export"))
    await turns(1.2)
    assert (await operator.get(FOLDERS, headers={"X-Tenant": "acme"})).status_code == 200
    await world.life.delete("acme", tmp_path)
    await turns(1.2)
    answer = await operator.post(FOLDERS, headers={"X-Tenant": "acme"}, json={"name": "orphan"})
    assert answer.status_code in (403, 404), answer.text
    for sql in ("byodpp.platform_keys where tenant_id", "tenants where id", "folders where tenant_id"):
        assert await in_place(world, "north", f"select count(*) from {sql} = $1", id) == 0, sql
        assert await world.value(f"select count(*) from {sql} = $1", id) == 0, sql
    await world.life.move("beta", "database", wanted=Wanted(place="north"))
    await made(world.client("beta"), FOLDERS, name="y", code="mine")


@pytest.mark.parametrize("tier", ["shared", "schema", "database"])
async def test_nobody_writes_for_a_deleted_tenant_who_has_not_heard_of_it(
    world: World, tmp_path: Path, tier: Tier
) -> None:
    await world.fill("acme", 1)
    if tier != "shared":
        await world.life.move("acme", tier)
    acme = await world.application.tenant("acme")
    stale = SessionContext(tenant_id=acme.id, user_id=1, place=acme.place, database=acme.database)
    database, deleting = world.application.connected.database, None
    insert = "insert into folders (tenant_id, name) values ($1, 'late')"
    async with database.transaction(stale) as transaction:
        await transaction.execute(insert, acme.id)
        deleting = asyncio.create_task(world.life.delete("acme", tmp_path))
        await asyncio.sleep(1)
        assert not deleting.done(), "it waits for who is writing"
    path = await asyncio.wait_for(deleting, 60)
    with zipfile.ZipFile(path) as archive:
        assert b"late" in archive.read("data/Folders.ndjson"), "what was acknowledged is exported"
    shared = SessionContext(tenant_id=acme.id, user_id=1)
    late = [
        "insert into users (tenant_id, name, status) values ($1, 'late', 'invited')",
        "insert into units (tenant_id, name) values ($1, 'late')",
        "insert into byodpp.outbox (tenant_id, name, data) values ($1, 'late', '{}')",
    ]
    for context in (stale, shared):
        for sql in (insert, *late):
            with pytest.raises(TenantMoving):
                async with database.transaction(context) as transaction:
                    await transaction.execute(sql, acme.id)
    # Another move makes the fences anew, and a day later nobody can be as late.
    await world.life.move("beta", "database")
    with pytest.raises(TenantMoving):
        async with database.transaction(shared) as transaction:
            await transaction.execute(late[0], acme.id)
    count = "select count(*) from {} where tenant_id = $1"
    for one in (world.value, partial(in_place, world, "north")):
        for table in ("folders", "users", "units", "byodpp.outbox", "byodpp.idempotency_keys"):
            assert await one(count.format(table), acme.id) == 0, table
    async with database.system() as transaction:
        sql = "update byodpp.tenant_places set changed_at = now() - interval '25 hours' where state = 'gone'"
        await transaction.execute(sql)
    await world.application.add_tenant("gamma")
    await world.life.delete("gamma", tmp_path)
    assert await world.value("select count(*) from byodpp.tenant_places where tenant_id = $1", acme.id) == 0


async def test_a_process_that_has_not_heard_of_a_move_cannot_write_where_the_tenant_was(world: World) -> None:
    await world.fill("acme")
    acme = await world.application.tenant("acme")
    await world.life.move("acme", "database")
    database = world.application.connected.database
    context = SessionContext(tenant_id=acme.id)
    for sql in (
        "insert into folders (tenant_id, name) values ($1, 'lost')",
        "insert into users (tenant_id, name, status) values ($1, 'lost', 'invited')",
        "insert into units (tenant_id, name) values ($1, 'lost')",
    ):
        with pytest.raises(TenantMoving):
            async with database.transaction(context) as transaction:
                await transaction.execute(sql, acme.id)
    await world.life.move("acme", "shared")
    with pytest.raises(ApiError):
        async with database.transaction(replace(context, database="nowhere")) as transaction:
            await transaction.execute("select 1")


async def test_everything_else_a_client_does_works_in_a_database(world: World) -> None:
    operator = world.application.client(tenant="platform", user="root")
    country = await made(operator, "/api/v1/countries", name="Utopia")
    metre = await made(operator, "/api/v1/units", name="metre")
    await world.fill("acme", 2)
    await world.life.move("acme", "database")
    client = world.client()
    key = {"Idempotency-Key": "once"}
    body = {"name": "once", "countryId": country["id"], "unitId": metre["id"]}
    first = await client.post(FOLDERS, json=body, headers=key)
    again = await client.post(FOLDERS, json=body, headers=key)
    assert first.status_code == again.status_code == 201 and first.json()["data"] == again.json()["data"]
    id = first.json()["data"]["id"]
    row = (await client.get(f"{FOLDERS}/{id}?include=unit,country")).json()["data"]
    assert (row["unit"]["name"], row["country"]["name"]) == ("metre", "Utopia")
    work = [
        {"operation": "create", "resource": "Folders", "data": {"name": "both"}},
        {"operation": "create", "resource": "Sheets", "data": {"name": "s", "folderId": "{{result[0].id}}"}},
    ]
    assert (await client.post("/api/v1/batch", json=work)).status_code == 200
    csv = await client.post(
        f"{FOLDERS}/import", content="name,amount\nimported,1.5\n", headers={"Content-Type": "text/csv"}
    )
    assert csv.status_code == 200 and csv.json()["data"]["created"] == 1, csv.text
    assert "imported" in (await client.get(f"{FOLDERS}/export?format=ndjson")).text
    await client.patch(f"{FOLDERS}/{id}", json={"name": "twice"})
    kept = (await client.get(f"{FOLDERS}/{id}/history")).json()
    assert [one["row"]["name"] for one in kept["data"]][:2] == ["twice", "once"], kept
    assert (await client.delete(f"{FOLDERS}/{id}")).status_code == 204
    assert (await client.post(f"{FOLDERS}/{id}/restore")).status_code == 200
    trail = (await client.get("/api/v1/audit-logs?filter[resourceType]=Folders&limit=1000")).json()["data"]
    assert {"CREATE", "PATCH", "DELETE", "RESTORE"} <= {one["action"] for one in trail}
    asked = world.application.client(tenant="platform", headers={"X-Tenant": "acme"})
    assert (await asked.get(FOLDERS)).json()["count"] == (await client.get(FOLDERS)).json()["count"]
    mine = (await client.get("/api/v1/tenants")).json()["data"]
    assert [one["slug"] for one in mine] == ["acme"]
    changed = await client.patch(f"/api/v1/tenants/{mine[0]['id']}", json={"name": "Acme & Sons"})
    assert changed.status_code == 200, changed.text
    assert (await client.get("/api/v1/tenants")).json()["data"][0]["name"] == "Acme & Sons"
    opened = await client.post(
        "/api/v1/grants", json={"object": "Folders", "rowId": str(id), "grantee": "beta"}
    )
    assert opened.status_code == 409 and "database of its own" in opened.text, opened.text
    unknown = await client.get(f"{FOLDERS}/98765")
    assert unknown.status_code == 404


async def test_rules_keys_and_revocations_hold_at_once_in_a_database(world: World) -> None:
    await world.fill("acme", 1)
    await world.life.move("acme", "database")
    admin, clerk = world.client(), world.client(role="Clerk", user="clerk")
    await made(admin, "/api/v1/roles", name="Clerk")
    assert (await clerk.get(SHEETS)).status_code == 403
    policy = await made(admin, "/api/v1/policies", subject="Clerk", object="Sheets", action="read")
    assert (await clerk.get(SHEETS)).status_code == 200
    assert (await admin.delete(f"/api/v1/policies/{policy['id']}")).status_code == 204
    assert (await clerk.get(SHEETS)).status_code == 403
    key = await made(admin, "/api/v1/api-keys", name="robot", roles=["Admin"])
    robot = world.application.client(role=None, headers={"Authorization": f"Bearer {key['key']}"})
    assert (await robot.get(FOLDERS)).status_code == 200
    assert (await admin.post(f"/api/v1/api-keys/{key['id']}/revoke")).status_code in (200, 204)
    assert (await robot.get(FOLDERS)).status_code == 401
    invented = f"Bearer byodpp_{'0' * 26}_{'x' * 43}"
    assert (await admin.get(FOLDERS, headers={"Authorization": invented})).status_code == 401
    await made(admin, "/api/v1/policies", subject="Clerk", object="Sheets", action="read")
    await world.life.move("acme", "shared")
    assert (await clerk.get(SHEETS)).status_code == 200
    assert (await robot.get(FOLDERS)).status_code == 401


async def test_users_are_not_believed_for_long_while_their_database_is_not_followed(world: World) -> None:
    await world.fill("acme", 1)
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    await turns(1.2)  # until then the move is still being told
    clerk = world.client(role="Admin", user="clerk")
    assert (await clerk.get(FOLDERS)).status_code == 200
    await world.application.connected.of_places["north"].revocations.looks.stop()
    async with world.application.connected.database.places["north"].system() as transaction:
        await transaction.execute("update users set status = 'deactivated'")

    async def refused() -> bool:
        return (await clerk.get(FOLDERS)).status_code in (401, 403)

    await soon(refused, True, 2.2)


async def test_what_is_unique_in_the_platform_is_so_in_all_databases(world: World) -> None:
    acme, beta = world.client(), world.client("beta")
    await made(acme, FOLDERS, name="before", code="one")
    await world.life.move("acme", "database")
    await world.life.move("beta", "database")
    await made(beta, FOLDERS, name="beta's", code="two")
    await made(acme, FOLDERS, name="acme's", code="three")
    for client, code in ((beta, "one"), (beta, "three"), (acme, "two"), (acme, "one")):
        answer = await client.post(FOLDERS, json={"name": "again", "code": code})
        assert answer.status_code == 409, (code, answer.text)
        assert answer.json()["error"]["code"] == "unique_conflict"
        assert answer.json()["error"]["details"][0]["field"] == "code"
    both = [{"name": "x", "code": "five"}, {"name": "y", "code": "two"}]
    assert (await acme.post(f"{FOLDERS}/batch", json=both)).status_code == 409
    assert (await acme.get(f"{FOLDERS}?filter[code]=five")).json()["count"] == 0
    await world.life.move("beta", "shared")
    assert (await beta.post(FOLDERS, json={"name": "again", "code": "three"})).status_code == 409
    assert (await acme.post(FOLDERS, json={"name": "again", "code": "two"})).status_code == 409
    await world.life.move("acme", "schema")
    assert (await beta.post(FOLDERS, json={"name": "again", "code": "three"})).status_code == 409


async def test_what_is_written_as_the_system_is_claimed_and_blocks_nobody(world: World) -> None:
    acme, beta = world.client(), world.client("beta")
    await world.fill("acme", 1)
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    connected, tenant = world.application.connected, await world.application.tenant("acme")
    acting = _acting(tenant.id, "", None, "north")

    async def as_system(code: str) -> None:
        async def work(unit: Any) -> None:
            await system(unit)["Folders"].create({"name": "mine", "code": code})

        await connected.service.as_system(acting, Origin(request_id="r", correlation_id="r"), work)

    await as_system("mine")
    assert (await beta.post(FOLDERS, json={"name": "b", "code": "mine"})).status_code == 409
    await made(beta, FOLDERS, name="b", code="theirs")
    with pytest.raises(UniqueConflict):
        await as_system("theirs")
    assert await in_place(world, "north", "select count(*) from folders where code = 'theirs'") == 0
    # SQL of an operator, which nobody claims anything for.
    insert = "insert into folders (name, code, tenant_id) values ('o', 'theirs', $1) returning id"
    assert await in_place(world, "north", insert, tenant.id)
    for name in ("one", "two"):
        await made(acme, FOLDERS, name=name)
    await made(acme, FOLDERS, name="three", code="new")
    assert (await beta.post(FOLDERS, json={"name": "b", "code": "new"})).status_code == 409


async def test_notes_of_a_tenant_are_handed_to_its_database_once_and_no_reading_is_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.fill("acme", 1)
    await world.fill("beta", 1)
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    connected, tenant = world.application.connected, await world.application.tenant("acme")
    shared, there = connected.trail, connected.of_places["north"].trail
    monkeypatch.setattr(there, "_max_of_tenant", 3)

    def note(name: str, result: Any) -> Note:
        return Note(tenant_id=tenant.id, action="READ", result=result, request_id=name)

    async with there._flushing:  # it is slow: nothing is written meanwhile
        for number in range(10):
            await shared._read(note(f"read-{number}", "success"))
        assert len(there._readings) == 10, "its readers wait for it, and nobody else's"
        shared._keep(note("read-10", "success"))  # as while the tenant could not be looked up
        shared._keep(note("read-11", "success"))
        shared._add(note("refused", "denied"))
        shared._add(Note(tenant_id=2**70, action="READ", result="denied", request_id="impossible"))
        while shared._pending:
            assert await shared._flush()
    await connected.trail.drain()
    count = "select count(*) from audit_logs where action = 'READ' and request_id like $1"
    assert await in_place(world, "north", count, "read-%") == 12
    assert await in_place(world, "north", count, "refused") == 1
    assert await world.value(count, "read-%") == 0


async def test_a_commit_in_a_place_does_not_look_at_all_that_was_claimed(world: World) -> None:
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    id = (await world.application.tenant("acme")).id
    database = world.application.connected.database
    async with database.places["north"].system() as transaction:
        await transaction.execute(
            "insert into byodpp.platform_keys (name, key, tenant_id, confirmed)"
            " select 'f', g::text, $1, true from generate_series(1, 20000) g",
            id,
        )
    async with database.transaction(SessionContext(tenant_id=id, database="north")) as transaction:
        plan = await transaction.fetch(f"explain {claims._NEW}")
    assert "platform_keys_new_idx" in "\n".join(line[0] for line in plan), plan


async def test_public_addresses_lead_into_every_database(world: World) -> None:
    await world.fill("acme", 2)
    await world.fill("beta", 2)
    nobody = world.application.client(role=None)
    published = (await world.client().get(f"{FOLDERS}?filter[status]=out")).json()["data"][0]["id"]
    # Rows of several tenants may have the same id: one of them is found, as in the shared tables.
    await made(world.client(), FOLDERS, name="acme later", status="out")
    last = await made(world.client(), FOLDERS, name="acme last", status="out")
    for tier in ("database", "shared"):
        await world.life.move("acme", tier)
        found = await nobody.get(f"{FOLDERS}/{last['id']}")
        assert found.status_code == 200 and found.json()["data"]["name"] == "acme last", found.text
        assert (await nobody.get(f"{FOLDERS}/98765")).status_code == 404
        for key, status in ((last["id"], 406), (98765, 404)):
            refused = await nobody.get(f"{FOLDERS}/{key}", headers={"Accept": "text/plain"})
            assert refused.status_code == status, (tier, refused.text)
        named = await nobody.get(f"{FOLDERS}?fields=name", headers={"X-Tenant": "acme"})
        assert sorted(row["name"] for row in named.json()["data"]) == ["acme 1", "acme last", "acme later"]
    assert published


@pytest.mark.parametrize("known", [(), ("south",)])
async def test_a_process_that_was_not_told_of_a_place_does_not_say_of_public_rows_that_there_are_none(
    world: World, monkeypatch: pytest.MonkeyPatch, known: tuple[str, ...]
) -> None:
    await world.fill("acme", 2)
    last = (await made(world.client(), FOLDERS, name="acme last", status="out"))["id"]
    connected = world.application.connected
    nobody, database = world.application.client(role=None), connected.database
    places = {name: database.places[name] for name in known}
    with monkeypatch.context() as untold:
        untold.setattr(database, "places", places)
        assert await answered(nobody, f"{FOLDERS}/98765")() == 404, "nobody is in a place yet"
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    assert await answered(nobody, f"{FOLDERS}/98765")() == 404
    with monkeypatch.context() as untold:
        untold.setattr(database, "places", places)
        for address in (f"{FOLDERS}/{last}", f"{FOLDERS}/98765"):
            for headers in ({}, {"Accept": "text/csv"}):
                refused = await nobody.get(address, headers=headers)
                assert refused.status_code == 503 and "retry-after" in refused.headers, refused.text
    await world.life.move("acme", "shared")
    with monkeypatch.context() as untold:
        untold.setattr(database, "places", places)
        assert [await answered(nobody, f"{FOLDERS}/{key}")() for key in (last, 98765)] == [200, 404]


async def test_a_list_of_all_tenants_tells_that_some_are_not_in_it(world: World) -> None:
    nobody, operator = world.application.client(role=None), world.client("platform", user="root")
    for slug in ("acme", "beta"):
        await world.fill(slug, 2)
    asked = [f"{FOLDERS}?sort=name", f"{FOLDERS}?aggregate=count", f"{FOLDERS}?aggregate=count&group=status"]

    async def partial_ones(client: Any, urls: list[str]) -> list[Any]:
        answers = [(await client.get(url)).json() for url in urls]
        assert all(answer["success"] for answer in answers), answers
        return [answer["meta"].get("partial") for answer in answers]

    assert await partial_ones(nobody, asked) == [None] * 3
    await world.life.move("acme", "database")
    assert await partial_ones(nobody, asked) == [True] * 3
    names = [row["name"] for row in (await nobody.get(asked[0])).json()["data"]]
    assert names == ["beta 1"]
    found = await nobody.post(f"{FOLDERS}/query", json={"sort": "name"})
    assert found.json()["meta"].get("partial") is True, found.text
    for slug, count in (("acme", 2), ("beta", 2)):  # whoever names a tenant sees all
        assert await partial_ones(world.client(slug), asked) == [None] * 3
        assert (await world.client(slug).get(FOLDERS)).json()["count"] == count
        there = await nobody.get(FOLDERS, headers={"X-Tenant": slug})
        assert there.json()["count"] == 1 and "partial" not in there.json()["meta"]
    assert await partial_ones(operator, ["/api/v1/tenants", "/api/v1/countries"]) == [None] * 2
    await world.life.move("acme", "shared")
    assert await partial_ones(nobody, asked) == [None] * 3
    refused = await world.client().post(
        "/api/v1/grants", json={"object": "Folders", "rowId": "1", "grantee": "beta"}
    )
    assert refused.status_code == 201, "it shares the database again"


async def test_copies_are_fresh_within_their_time_and_nobody_else_writes_them(world: World) -> None:
    operator = world.application.client(tenant="platform", user="root")
    first = await made(operator, "/api/v1/countries", name="Utopia")
    used = await made(operator, "/api/v1/units", name="metre")
    await world.life.move("acme", "database")
    client = world.client()
    await made(client, FOLDERS, name="refers", countryId=first["id"], unitId=used["id"])
    second = await made(operator, "/api/v1/countries", name="Atlantis")
    gone = await made(operator, "/api/v1/countries", name="Lemuria")
    changed = await operator.patch(f"/api/v1/countries/{first['id']}", json={"name": "New Utopia"})
    assert changed.status_code == 200
    assert (await operator.delete(f"/api/v1/countries/{gone['id']}")).status_code == 204
    await _until(lambda: _countries(client), ["New Utopia", "Atlantis"])
    await made(client, FOLDERS, name="refers too", countryId=second["id"])
    # What is referred to stays as a copy, since nothing else can be done about it here.
    assert (await operator.delete(f"/api/v1/countries/{first['id']}")).status_code == 204
    await made(operator, "/api/v1/countries", name="Mu")  # once it is copied, so would the deletion be
    await _until(lambda: _countries(client), ["New Utopia", "Atlantis", "Mu"])
    database = world.application.connected.database.places["north"]
    for sql in (
        "insert into countries (name) values ('x')",
        "update tenants set name = 'x' where id > 0",
        "delete from units where tenant_id = 0",
        "insert into roles (tenant_id, name) values (0, 'x')",
    ):
        with pytest.raises(ReadOnlyCopy):
            async with database.system() as transaction:
                await transaction.execute(sql)
    slugs = "select array_agg(slug order by id) from tenants"
    assert await in_place(world, "north", slugs) == ["platform", "acme"], "no other tenant's record is copied"


async def test_rows_made_again_with_the_same_unique_value_do_not_stop_their_place(world: World) -> None:
    operator = world.client("platform", user="root")
    await world.fill("acme", 1)
    gold = await made(operator, "/api/v1/tenant-classes", name="gold")
    auditor = await made(operator, "/api/v1/roles", name="Auditor")
    await world.life.move("acme", "database")
    client = world.client()
    user = (await client.get("/api/v1/users")).json()["data"][0]["id"]
    held = await made(client, "/api/v1/user-roles", userId=user, roleId=auditor["id"])
    for url, row in (("tenant-classes", gold), ("roles", auditor)):
        assert (await operator.delete(f"/api/v1/{url}/{row['id']}")).status_code == 204
    silver = await made(operator, "/api/v1/tenant-classes", name="gold")
    again = await made(operator, "/api/v1/roles", name="Auditor")
    late = await made(operator, "/api/v1/roles", name="Latecomer")
    ids = "select array_agg(id order by id) from tenant_classes where name = 'gold'"
    await _until(lambda: in_place(world, "north", ids), [silver["id"]])
    roles = "select array_agg(id order by id) from roles where tenant_id = 0 and id >= $1"
    # The one that is held stays, with its name; the others are brought all the same.
    await _until(lambda: in_place(world, "north", roles, auditor["id"]), [auditor["id"], late["id"]])
    for _ in range(5):
        assert (await _status(client)) == (200, None)
        await asyncio.sleep(0.1)
    assert (await client.delete(f"/api/v1/user-roles/{held['id']}")).status_code == 204
    await _until(lambda: in_place(world, "north", roles, auditor["id"]), [again["id"], late["id"]])


async def test_rows_that_exchange_unique_values_do_so_in_the_copies_too(world: World) -> None:
    operator = world.client("platform", user="root")
    await world.fill("acme", 1)
    ids = [
        (await made(operator, "/api/v1/tenant-classes", name=name))["id"]
        for name in ("gold", "silver", "bronze", "held")
    ]
    operator_roles = [
        (await made(operator, "/api/v1/roles", name=name))["id"] for name in ("First", "Second", "Third")
    ]
    countries = [(await made(operator, "/api/v1/countries", name=x, code=x))["id"] for x in ("SE", "NO")]
    await world.life.move("acme", "database")
    await made(world.client(), FOLDERS, name="abroad", countryId=countries[0])
    database = world.application.connected.database
    renamed = "update {} set name = $1 where id = $2"

    async def rename(table: str, rows: list[int], names: list[str]) -> None:
        async with database.system() as transaction:
            for id in rows:
                await transaction.execute(renamed.format(table), f"x{id}", id)
            for id, name in zip(rows, names, strict=True):
                await transaction.execute(renamed.format(table), name, id)

    client = world.client()
    user = (await client.get("/api/v1/users")).json()["data"][0]["id"]
    kept = await made(client, "/api/v1/user-roles", userId=user, roleId=operator_roles[0])
    await rename("tenant_classes", ids[:3], ["silver", "bronze", "gold"])
    await rename("roles", operator_roles, ["Second", "Third", "First"])
    async with database.system() as transaction:  # no other value than these may stand there
        await transaction.execute("update countries set code = null where id = $1", countries[0])
        await transaction.execute("update countries set code = 'SE' where id = $1", countries[1])
        await transaction.execute("update countries set code = 'NO' where id = $1", countries[0])
    names = "select array_agg(name order by id) from {} where id = any($1::bigint[])"
    there = partial(in_place, world, "north")
    wanted = ["silver", "bronze", "gold", "held"]
    await _until(lambda: there(names.format("tenant_classes"), ids), wanted)
    await _until(lambda: there(names.format("roles"), operator_roles), ["Second", "Third", "First"])
    codes = "select array_agg(code order by id) from countries where id = any($1::bigint[])"
    await _until(lambda: there(codes, countries), ["NO", "SE"])
    abroad = (await client.get(f"{FOLDERS}?filter[name]=abroad&include=country")).json()["data"]
    assert [one["country"]["code"] for one in abroad] == ["NO"]
    assert (await client.get(f"/api/v1/user-roles/{kept['id']}")).status_code == 200
    # What stands in the way of one only keeps that one back.
    async with database.system() as transaction:
        await transaction.execute("delete from roles where id = $1", operator_roles[0])
    await rename("roles", operator_roles[1:], ["Second", "Third"])
    again = await made(operator, "/api/v1/roles", name="Fourth")
    await _until(lambda: there("select count(*) from roles where id = $1", again["id"]), 1)
    assert await there(names.format("roles"), operator_roles) == ["Second", "Third", "First"]
    assert (await client.delete(f"/api/v1/user-roles/{kept['id']}")).status_code == 204
    await _until(lambda: there(names.format("roles"), operator_roles), ["Second", "Third"])
    assert (await _status(client)) == (200, None)


async def test_a_place_goes_on_serving_when_its_copies_cannot_be_refreshed(world: World) -> None:
    await world.fill("acme", 1)
    await world.life.move("acme", "database")
    keeper = world.application.connected.keepers[0]
    await keeper.looks.stop()
    database = world.application.connected.database
    async with database.system() as transaction:
        await transaction.execute("lock table countries in access exclusive mode")
        keeper._refreshed = float("-inf")
        look = asyncio.create_task(keeper.look())
        await blocked(transaction)
        assert not look.done() and (await _status(world.client())) == (200, None)
        cancelled = await transaction.fetchval(
            "select count(pg_cancel_backend(pid)) from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        )
        await asyncio.wait_for(look, 30)
    assert cancelled == 1 and keeper._stale, "the refresh has failed"
    assert (await _status(world.client())) == (200, None)
    keeper._refreshed = float("-inf")
    await asyncio.wait_for(keeper.look(), 30)
    assert not keeper._stale


async def _countries(client: Any) -> list[str]:
    return [one["name"] for one in (await client.get("/api/v1/countries?sort=id")).json()["data"]]


async def _until(look: Any, wanted: Any) -> None:
    found = None
    for _ in range(50):
        found = await look()
        if found == wanted:
            return
        await asyncio.sleep(0.1)
    raise AssertionError((found, wanted))


async def test_a_place_that_is_away_is_503_for_its_tenant_alone(world: World, byodpp_bench: Bench) -> None:
    for slug in ("acme", "beta"):
        await world.fill(slug, 1)
    last = await made(world.client("beta"), FOLDERS, name="beta's last", status="out")
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    await world.application.add_tenant("gamma")
    await world.life.move("gamma", "database", wanted=Wanted(place="south"))
    uri = str(world.application.connected.database.places["north"].system_uri)
    name = urlsplit(uri).path.strip("/")
    nobody = world.application.client(role=None)
    try:
        await byodpp_bench._administrate(f'alter database "{name}" allow_connections false')
        await byodpp_bench._administrate(
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        )
        await _until(lambda: _status(world.client()), (503, "place_unavailable"))
        for slug in ("beta", "gamma"):
            assert (await world.client(slug).get(FOLDERS)).status_code == 200
            await made(world.client(slug), FOLDERS, name="goes on")
        assert (await nobody.get(f"{FOLDERS}/{last['id']}")).status_code == 200
        assert (await nobody.get(f"{FOLDERS}/98765")).status_code == 503, "it may be there"
        health = (await nobody.get("/health")).json()
        assert health["status"] == "degraded"
        assert {one["name"]: one["healthy"] for one in health["checks"]}["place north"] is False
        assert (await nobody.get("/health/ready")).status_code == 200
        with pytest.raises(PlaceUnavailable):
            await world.life.move("acme", "shared")
    finally:
        await byodpp_bench._administrate(f'alter database "{name}" allow_connections true')
    await _until(lambda: _status(world.client()), (200, None))
    await made(world.client(), FOLDERS, name="is back")


async def _status(client: Any) -> tuple[int, str | None]:
    answer = await client.get(FOLDERS)
    return answer.status_code, answer.json().get("error", {}).get("code")


async def test_a_place_that_lacks_a_revision_is_refused_and_the_others_are_served(world: World) -> None:
    await world.fill("acme", 1)
    await world.life.move("acme", "database")
    state = "update byodpp.schema_state set fingerprint = $1"
    mark = world.application.blueprint.fingerprint
    for fingerprint, wanted in (("another", (503, "tenant_moving")), (mark, (200, None))):
        async with world.application.connected.database.places["north"].system() as transaction:
            await transaction.execute(state, fingerprint)
        keeper = world.application.connected.keepers[0]
        keeper._looked_at = float("-inf")  # not in five seconds, but now
        await _until(lambda: _status(world.client()), wanted)
        assert (await world.client("beta").get(FOLDERS)).status_code == 200


async def test_a_plan_names_a_place_that_is_away_and_goes_on(world: World) -> None:
    settings, registry = world.application.settings, world.application.blueprint.registry
    _, south = settings.place_admin_uris
    connected = world.application.connected
    places = PlaceDatabases(connected.blueprint.tables, place_addresses(settings))
    async with places.connected("south") as owner:
        await owner.execute("alter table folders drop column about")
    for north, told in (("north=postgresql://x@127.0.0.1:9/x", "is away"), (None, "has no address")):
        uris = (south,) if north is None else (north, south)
        plans = [one async for one in place_plans(replace(settings, place_admin_uris=uris), registry)]
        assert [one.name for one in plans] == ["place north", "place south"]
        assert told in plans[0].trouble and not plans[0].steps
        assert not plans[1].trouble and any("about" in step.description for step in plans[1].steps)


@pytest.mark.parametrize("role", [SUPERUSER, OWNER, SYSTEM])
async def test_a_role_that_row_level_security_would_not_bind_is_refused_at_the_start(
    world: World, byodpp_bench: Bench, role: str
) -> None:
    settings = world.application.settings
    name = urlsplit(settings.place_system_uris[0].partition("=")[2]).path.strip("/")
    wrong = (f"north={byodpp_bench.server.uri(role, name)}", settings.place_db_uris[1])
    connected = Application.connect(replace(settings, place_db_uris=wrong), world.application.blueprint)
    with pytest.raises(DatabaseStartError, match="place north"):
        async with connected.lifespan():
            raise AssertionError("it has started")


async def test_a_region_that_cannot_be_kept_is_refused_and_nothing_is_made(world: World) -> None:
    operator = world.application.client(tenant="platform")
    for name, tier in (("plain", "shared"), ("apart", "schema"), ("enterprise", "database")):
        await made(operator, "/api/v1/tenant-classes", name=name, tier=tier)
    gamma = Newcomer(slug="gamma", name="Gamma", email="g@gamma.example", region="us")
    for kind in (None, "plain", "apart"):
        with pytest.raises(ValidationFailed) as refusal:
            await world.life.onboard(replace(gamma, tenant_class=kind))
        assert [one.field for one in refusal.value.details] == ["region"]
    assert await world.value("select count(*) from tenants where slug = 'gamma'") == 0
    assert all(line.under_way is None for line in await world.life.list())
    gamma = replace(gamma, tenant_class="enterprise")
    with pytest.raises(Conflict, match="No place in the region 'mars'"):
        await world.life.onboard(replace(gamma, region="mars"))
    assert (await world.life.onboard(gamma))["place"] == {"place": None, "database": "south"}
    assert (await world.life.onboard(gamma))["place"] == {"place": None, "database": "south"}
    with pytest.raises(Conflict, match="in the place south, and so not in the region 'eu'"):
        await world.life.onboard(replace(gamma, region="eu"))
    for wanted in (Wanted(region="eu"), Wanted(place="north")):
        for to in (None, "shared", "schema"):
            with pytest.raises(Conflict, match="say --to database"):
                await world.life.move("acme", to, wanted=wanted)


async def test_a_class_gives_a_new_tenant_its_database_and_a_deletion_empties_it(
    world: World, tmp_path: Path
) -> None:
    operator = world.application.client(tenant="platform")
    await made(operator, "/api/v1/tenant-classes", name="enterprise", tier="database", region="us")
    newcomer = Newcomer(slug="gamma", name="Gamma", email="g@gamma.example", tenant_class="enterprise")
    results = await world.life.onboard(newcomer)
    assert results["place"] == {"place": None, "database": "south"}
    assert (await world.life.onboard(newcomer))["place"] == results["place"]
    id = results["tenant"]["id"]
    assert await in_place(world, "south", "select count(*) from users where tenant_id = $1", id) == 1
    assert await world.value("select count(*) from users where tenant_id = $1", id) == 0
    issuer = world.application.connected.issuer
    token = issuer.issue(results["tenant"]["ulid"], "g", roles=["Admin"])  # type: ignore[attr-defined]
    gamma = world.application.client(role=None, headers={"Authorization": f"Bearer {token}"})
    await made(gamma, FOLDERS, name="gamma's", status="out", code="gamma")
    with pytest.raises(Conflict, match="No place in the region 'us'"):
        await world.life.onboard(
            Newcomer(slug="delta", name="Delta", email="d@delta.example", tenant_class="enterprise")
        )
    await world.life.invite("gamma", Guest(email="h@gamma.example", roles=("Viewer",)))
    assert await in_place(world, "south", "select count(*) from users where email = 'h@gamma.example'") == 1
    await world.life.suspend("gamma", "admin")
    assert (await gamma.get(FOLDERS)).status_code == 401
    await world.life.reactivate("gamma")
    assert (await gamma.get(FOLDERS)).json()["count"] == 1
    path = await world.life.delete("gamma", tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert b"gamma's" in archive.read("data/Folders.ndjson")
    assert await in_place(world, "south", "select count(*) from folders") == 0
    assert await world.value("select count(*) from tenants where id = $1", id) == 0
    left = "select array_agg(state) from byodpp.tenant_places where place is not null or tenant_id = $1"
    assert await world.value(left, id) == ["gone"], "its place is free; it writes nothing any more"
    assert await world.value("select count(*) from byodpp.platform_keys where tenant_id = $1", id) == 0
    assert await world.value("select count(*) from audit_logs where tenant_id = $1", id) > 0, (
        "the trail is kept"
    )
    await made(world.client(), FOLDERS, name="free again", code="gamma")
    assert all(verdict.intact for verdict in await chains(world))


async def test_what_makes_no_sense_is_refused(world: World) -> None:
    for wanted, told in (
        (Wanted(place="west"), "no place 'west'"), (Wanted(region="asia"), "region 'asia'"),
    ):  # fmt: skip
        with pytest.raises(Conflict, match=told):
            await world.life.move("acme", "database", wanted=wanted)
    with pytest.raises(Conflict, match="already"):
        await world.life.move("acme", "shared")
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    with pytest.raises(Conflict, match="already"):
        await world.life.move("acme", "database", wanted=Wanted(place="north"))
    with pytest.raises(Conflict, match="is the database of tenant"):
        await world.life.move("beta", "database", wanted=Wanted(place="north"))
    with pytest.raises(Conflict, match="No place in the region 'eu'"):
        await world.life.move("beta", "database", wanted=Wanted(region="eu"))
    with pytest.raises(Conflict, match="platform"):
        await world.life.move("platform", "database")
    row = await made(world.client("beta"), FOLDERS, name="opened")
    await made(world.client("beta"), "/api/v1/grants", object="Folders", rowId=str(row["id"]), grantee="acme")
    guest = world.client(headers={"X-Tenant": "beta"})
    assert [one["name"] for one in (await guest.get(FOLDERS)).json()["data"]] == ["opened"]
    with pytest.raises(Conflict, match="grants"):
        await world.life.move("beta", "database")
    assert all(line.under_way is None for line in await world.life.list())


async def test_what_a_tenant_stores_is_measured_in_its_database(world: World) -> None:
    await world.fill("acme")
    operator = world.application.client(tenant="platform")
    small = await made(operator, "/api/v1/tenant-classes", name="small", maxStorageBytes=1)
    acme = (await world.application.tenant("acme")).id
    await world.life.move("acme", "database")
    await operator.patch(f"/api/v1/tenants/{acme}", json={"tenantClassId": small["id"]})
    await _until(lambda: in_place(world, "north", "select count(*) from tenant_classes"), 1)
    quota = world.application.connected.of_places["north"].quota
    await quota.looks.stop()  # of two who measure at once one does not
    assert await quota.meter.measure(now=True)
    await quota.refresh()
    answer = await world.client().post(FOLDERS, json={"name": "too much"})
    assert answer.status_code == 403 and answer.json()["error"]["code"] == "quota_exceeded", answer.text


def test_databases_on_the_command_line(tmp_path: Path) -> None:
    write_application(tmp_path, MANIFEST, LOGIC)
    own = {"BYODPP_PLACES": "north@eu,south-1@us", "BYODPP_ENV": "test", "BYODPP_TENANT_SETTLE_SECONDS": "0"}

    def ran(*words: str) -> str:
        done = byodpp("--app", tmp_path, *words, cwd=ROOT, **own)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    ran("migrate", "new")
    assert "place north: 0001" in ran("migrate", "apply")
    ran("tenants", "onboard", "gamma", "--email", "ada@gamma.example", "--password")
    told = ran("tenants", "migrate", "gamma", "--to", "database", "--region", "us")
    steps = [line.split(maxsplit=1)[1].strip() for line in told.splitlines() if "done" in line]
    assert [one for one in STEPS if one in steps] == STEPS
    [line] = [one for one in ran("tenants", "list").splitlines() if "gamma" in one]
    assert " database south-1 " in line
    places = [one.split() for one in ran("tenants", "places").splitlines()[1:]]
    assert places == [["north", "eu", "serves"], ["south-1", "us", "serves", "gamma"]]
    manifest = copy.deepcopy(MANIFEST)
    manifest["resources"][2]["fields"]["color"] = {"type": "string"}
    (tmp_path / "resources.json").write_text(json.dumps(manifest), encoding="utf-8")
    told = ran("migrate", "plan")
    assert "add column color" in told and "place north: the same\nplace south-1: the same" in told
    ran("migrate", "new", "-m", "colors")
    told = ran("migrate", "apply")
    assert "place north: 0002" in told and "place south-1: 0002" in told
    assert "gamma at south-1" in ran("audit", "verify")
    assert "rotated" in ran("secrets", "rotate")
    with pytest.raises(AssertionError, match="No move of tenant"):
        ran("tenants", "migrate", "gamma", "--abandon")
    with pytest.raises(AssertionError, match="gives up the move"):
        ran("tenants", "migrate", "gamma", "--abandon", "--to", "shared")


@pytest.mark.parametrize(
    "given, told",
    [
        ({"BYODPP_PLACES": "North!@eu"}, "names no place"),
        ({"BYODPP_PLACES": "north@eu,north@us"}, "twice"),
        ({"BYODPP_PLACES": "north@eu", "PLACE_DB_URIS": "north=postgresql://x"}, "embedded server"),
        ({"BYODPP_PLACES": "north@eu", "POSTGRES_DB_URI": "postgresql://x"}, "has no address of 'north'"),
        ({"POSTGRES_DB_URI": "postgresql://x", "PLACE_DB_URIS": "south=postgresql://secret"}, "'south'"),
        (
            {
                "BYODPP_PLACES": "north@eu",
                "POSTGRES_DB_URI": "postgresql://x:secret@h/x",
                "PLACE_DB_URIS": "north=postgresql://y:secret@h:5432/x",
            },
            "'north' the database of POSTGRES_DB_URI",
        ),
        ({"BYODPP_PLACES": "north@eu", "PLACE_ADMIN_URIS": "north=mysql://secret"}, "is not name="),
    ],
)
def test_places_that_cannot_be_meant_are_told_without_their_secrets(
    tmp_path: Path, given: dict[str, str], told: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(tmp_path, given)
    assert told in str(refused.value) and "secret" not in str(refused.value)
