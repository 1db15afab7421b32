"""Moves and deletions of tenants amid what goes wrong: slow tables, readers, other processes, older ones."""

from __future__ import annotations

import asyncio
import copy
import json
import socket
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from byodpp import migrations
from byodpp.authentication.keys import KeyDirectory
from byodpp.authentication.revocations import BUMP
from byodpp.authentication.tenants import TenantDirectory
from byodpp.bootstrap import Blueprint
from byodpp.cli.place_plans import _of_databases
from byodpp.database import Database
from byodpp.exceptions import Conflict, MigrationError, PlaceUnavailable, StorageFull, Unauthenticated
from byodpp.identity import RealmPlan
from byodpp.places import building, place_name
from byodpp.places.databases import PlaceDatabases
from byodpp.settings.places import place_addresses
from byodpp.tenant_life import Wanted
from byodpp.testing import Bench
from tests.commands import operated
from tests.patience import answered, soon
from tests.test_browser_sessions import HERE, begun
from tests.test_databases_of_tenants import PLACES, chains, in_place
from tests.test_tiers import (
    ALL,
    FOLDERS,
    LOGIC,
    MANIFEST,
    NAME,
    Cut,
    World,
    changed,
    cutting,
    made,
    migrated,
)
from tests.worlds import build

KEYS = "/api/v1/api-keys"
AT_ONCE: dict[str, Any] = {"tenant_settle_seconds": 0, "place_refresh_seconds": 0.2}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("trouble"), MANIFEST, LOGIC)


@pytest_asyncio.fixture(loop_scope="session")
async def world(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[World]:
    async with byodpp_bench.application(blueprint, places=PLACES, **AT_ONCE) as tested:
        yield World(tested)


async def owner_of(world: World) -> asyncpg.Connection[Any]:
    return await asyncpg.connect(str(world.application.settings.postgres_admin_uri), timeout=30)


async def as_owner(world: World, sql: str) -> Any:
    owner = await owner_of(world)
    try:
        return await owner.fetchval(sql)
    finally:
        await owner.close()


SLOW = """
create function public.slow() returns trigger language plpgsql as
    $$ begin perform pg_sleep(1.8); return null; end $$;
create trigger zz_slow before delete on public.sheets for each statement execute function public.slow()
"""


async def test_rows_are_deleted_for_longer_than_a_request_may_take(
    byodpp_bench: Bench, blueprint: Blueprint, tmp_path: Path
) -> None:
    patience = {**AT_ONCE, "statement_timeout_seconds": 1}
    async with byodpp_bench.application(blueprint, places=PLACES, **patience) as tested:
        world = World(tested)
        await world.fill("acme", 2)
        owner = await owner_of(world)
        await owner.execute(SLOW)
        await owner.close()
        await world.life.move("acme", "database")
        await world.fill("acme", 1, first=5)
        assert await in_place(world, "north", "select count(*) from folders") == 3
        await world.life.delete("acme", tmp_path)
        assert [line.slug for line in await world.life.list() if line.slug == "acme"] == []


async def test_tables_are_waited_for_longer_than_an_autovacuum_takes_to_give_way(
    world: World, blueprint: Blueprint
) -> None:
    """The server looks after `deadlock_timeout` who is in the way; before that it asks nobody to yield."""
    settings = world.application.settings
    builder = world.life._moves._builder
    databases = PlaceDatabases(blueprint.tables, place_addresses(settings))
    for connected in (builder.connected, lambda: databases.connected("north")):
        async with connected() as owner:
            [wait] = await owner.fetch(
                "select name, setting::int as ms from pg_settings where name = 'lock_timeout'"
            )
            looks = await owner.fetchval(
                "select setting::int from pg_settings where name = 'deadlock_timeout'"
            )
            assert wait["ms"] == looks + 500


async def test_a_process_amid_a_move_that_another_has_put_back_goes_no_further(world: World) -> None:
    await world.fill("acme", 2)
    await world.fill("beta", 1)
    with pytest.raises(Cut):
        await world.life.move("acme", "database", told=cutting("place"))
    life = world.life
    [procedure] = await life._procedures.unfinished()
    acme, beta = await world.application.tenant("acme"), await world.application.tenant("beta")
    tenant = await life._finder.find("acme", "move")
    steps = life._moves.databases.moving(tenant, "database", Wanted())
    opened = (
        'insert into grants (tenant_id, id, grantee_id, object, row_id, grantee, "table")'
        " values ($1, 99, $2, 'Folders', '1', 'beta', 'folders')"
    )
    async with world.application.connected.database.system() as transaction:
        await transaction.execute(opened, acme.id, beta.id)
    with pytest.raises(Conflict, match="has opened rows"):
        await world.life.move("acme", "database")
    async with world.application.connected.database.system() as transaction:
        await transaction.execute("delete from grants where tenant_id = $1", acme.id)
    for step in steps[2:]:
        with pytest.raises(Conflict, match="given up"):
            await life._procedures.take(procedure, step, procedure.done)
    await made(world.client(), FOLDERS, name="acme goes on")
    assert await in_place(world, "north", "select count(*) from folders") == 0
    await world.life.move("acme", "database")
    assert await in_place(world, "north", "select count(*) from folders") == 3


async def test_a_tenant_whose_schema_is_behind_is_exported_and_deleted(world: World, tmp_path: Path) -> None:
    for slug in ("acme", "beta"):
        await world.fill(slug, 2)
        await world.life.move(slug, "schema")
    await made(world.client(), FOLDERS, name="acme 1")  # a name that is there: it cannot be made unique
    manifest = changed(name={**NAME, "unique": True}, color={"type": "string"})
    notes = {"name": "Notes", "fields": {"name": NAME}, "access": ALL}
    manifest = {**manifest, "resources": [*manifest["resources"], notes]}
    async with migrated(world, tmp_path, manifest) as (newer, followed):
        assert [one.failure is None for one in await followed()] == [False, True]
        newer.application.connected.authenticator.forget()
        id = (await newer.application.tenant("acme")).id
        path = await newer.life.delete("acme", tmp_path)
        with zipfile.ZipFile(path) as archive:
            rows = [json.loads(line) for line in archive.read("data/Folders.ndjson").splitlines()]
        assert sorted(row["name"] for row in rows) == ["acme 0", "acme 1", "acme 1"]
        assert await newer.value("select to_regnamespace($1) is null", place_name(id))
        await newer.life.move("beta", "shared")
        await made(newer.client("beta"), FOLDERS, name="beta goes on")


async def test_an_export_holds_every_table_and_every_field_of_all_versions(
    byodpp_bench: Bench, tmp_path: Path
) -> None:
    goods: dict[str, Any] = {"name": "Goods", "fields": {"name": NAME}, "access": ALL}
    more = copy.deepcopy(goods)
    more["fields"] |= {"color": {"type": "string"}, "pin": {"type": "string", "encrypted": True}}
    things = {"name": "Things", "fields": {"name": NAME}, "access": ALL}
    services = [
        {"name": "one", "version": "v1", "resources": [things, goods]},
        {"name": "two", "version": "v2", "resources": [{**things, "table": "things_two"}, more]},
    ]
    manifest = {
        "services": services,
        "include": ["byodpp:tenancy", "byodpp:access", "byodpp:audit", "byodpp:keys", "byodpp:grants"],
    }
    application = build(tmp_path / "application", manifest)
    async with byodpp_bench.application(application, tenant_settle_seconds=0) as tested:
        world = World(tested)
        client = world.client()
        await made(client, "/api/v1/things", name="first")
        await made(client, "/api/v2/things", name="second")
        await made(client, "/api/v2/goods", name="third", color="red", pin="1234")
        with zipfile.ZipFile(await world.life.export("acme", tmp_path)) as archive:
            names = archive.namelist()
            assert len(names) == len(set(names))

            def rows(name: str) -> list[dict[str, Any]]:
                return [json.loads(line) for line in archive.read(f"data/{name}.ndjson").splitlines()]

            assert [row["name"] for row in rows("Things")] == ["first"]
            assert [row["name"] for row in rows("Things.v2")] == ["second"]
            [good] = rows("Goods")
            assert (good["name"], good["color"], good["pin"]) == ("third", "red", "1234")
            counted = json.loads(archive.read("manifest.json"))["rows"]
        assert (counted["Things"], counted["Things.v2"], counted["Goods"]) == (1, 1, 1)


async def test_a_schema_move_begun_by_an_older_program_ends_by_this_one(world: World) -> None:
    """There `open` came before `clean`: a move may have the one behind it, and not the other."""
    await world.fill("acme", 2)
    await world.fill("beta", 1)
    id = (await world.application.tenant("acme")).id
    await world.life.move("acme", "schema")
    with pytest.raises(Cut):
        await world.life.move("acme", "shared", told=cutting("settle"))
    async with world.application.connected.database.system() as transaction:
        await transaction.execute("update byodpp.tenant_places set state = 'served' where tenant_id = $1", id)
        await transaction.execute(
            "update byodpp.tenant_procedures set done = done || '{\"open\": {}}' where finished_at is null"
        )
    await world.life.move("acme", "shared")
    [row] = await world.rows("select tier, place, state from byodpp.tenant_places where tenant_id = $1", id)
    assert tuple(row) == ("shared", None, "served")
    await world.life.move("beta", "schema")  # makes every gate anew
    await made(world.client(), FOLDERS, name="acme goes on")


@pytest.mark.parametrize("read", ["own place", "shared, others", "shared, without ids"])
async def test_readers_do_not_keep_a_tenant_from_writing_again(
    world: World, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    monkeypatch.setattr(building, "_PATIENCE_SECONDS", 2.0)
    await world.fill("acme", 2)
    await world.fill("beta", 1)
    place = place_name((await world.application.tenant("acme")).id)
    await world.life.move("acme", "schema")
    table = {"own place": f"{place}.folders", "shared, others": "public.folders"}.get(read, "public.sheets")
    async with world.application.connected.database.system() as transaction:
        await transaction.fetch(f"select * from {table}")
        if read == "own place":
            with pytest.raises(MigrationError, match="in use"):
                await world.life.move("acme", "shared")
            [line] = [line for line in await world.life.list() if line.slug == "acme"]
            assert line.under_way is not None and "drop: " in str(line.under_way.failure)
        else:
            await world.life.move("acme", "shared")
        assert (await made(world.client(), FOLDERS, name="acme writes"))["id"] == 4
        assert (await made(world.client("beta"), FOLDERS, name="beta writes"))["id"] == 5
    if read == "own place":
        await world.life.move("acme", "shared")
    assert await world.value("select to_regnamespace($1) is null", place)


async def test_a_move_that_is_given_up_leaves_no_claim_and_no_record(world: World) -> None:
    await world.fill("acme", 2)
    id = (await world.application.tenant("acme")).id
    with pytest.raises(Cut):
        await world.life.move("acme", "database", told=cutting("compare"))
    claims = "select count(*) from byodpp.platform_keys where tenant_id = $1"
    record = "select count(*) from tenants where id = $1"
    assert await in_place(world, "north", claims, id) > 0 and await in_place(world, "north", record, id) == 1
    assert await world.life.abandon("acme") == {"abandon": {"left": ""}}
    assert await in_place(world, "north", claims, id) == await in_place(world, "north", record, id) == 0
    assert await world.value(claims, id) > 0, "it keeps them where it is"


async def test_whoever_signs_out_while_the_tenant_moves_is_signed_out(
    byodpp_bench: Bench, blueprint: Blueprint
) -> None:
    settings: dict[str, Any] = {**AT_ONCE, "places": PLACES, "public_url": HERE}
    async with byodpp_bench.application(blueprint, **settings) as tested:
        world, browser = World(tested), await begun(tested)
        with pytest.raises(Cut):
            await world.life.move("acme", "database", told=cutting("hold"))
        answer = await browser.client.delete("/session", headers=browser.headers())
        assert answer.status_code == 204, answer.text
        assert "Max-Age=0" in answer.headers["set-cookie"]
        await world.life.move("acme", "database")

        async def status() -> object:
            return (await browser.client.get(FOLDERS, headers=browser.headers())).status_code

        await soon(status, 401)


async def test_cookies_end_also_when_nothing_can_be_revoked(
    byodpp_bench: Bench, blueprint: Blueprint, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {**AT_ONCE, "places": PLACES, "public_url": HERE}
    async with byodpp_bench.application(blueprint, **settings) as tested:
        world, browser = World(tested), await begun(tested)
        with pytest.raises(Cut):  # its tables refuse it, and this process has not heard of it
            await world.life.delete("acme", tmp_path, told=cutting("hold"))
        async with tested.connected.database.system() as transaction:
            await transaction.execute("update tenants set status = 'activated' where slug = 'acme'")
        tested.connected.authenticator.forget()
        answer = await browser.client.delete("/session", headers=browser.headers())
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "tenant_moving")
        assert "Max-Age=0" in answer.headers["set-cookie"]


@pytest.mark.parametrize("source", ["shared", "north"])
async def test_whoever_is_revoked_while_a_tenant_moves_stays_so(world: World, source: str) -> None:
    await world.fill("acme", 1)
    goal: Any = "database" if source == "shared" else "shared"
    if source == "north":
        await world.life.move("acme", "database")
    admin, clerk, third = world.client(), world.client(user="clerk"), world.client(user="third")
    for client in (clerk, third):
        assert (await client.get(FOLDERS)).status_code == 200
    id = (await world.application.tenant("acme")).id
    users = (await admin.get("/api/v1/users?sort=id")).json()["data"]
    [clerks] = [one["id"] for one in users if "clerk" in str(one["userName"])]
    with pytest.raises(Cut):
        await world.life.move("acme", goal, told=cutting("copy revocations"))
    await made(admin, "/api/v1/revocations", kind="user", subject=str(clerks))
    await soon(answered(clerk, FOLDERS), 401)
    with pytest.raises(Cut):
        await world.life.move("acme", goal, told=cutting("settle"))
    assert (await third.post("/api/v1/revocations/own")).status_code == 204
    database = world.application.connected.database
    home, place = database, database.places["north"]
    late = (
        "insert into revocations (tenant_id, kind, subject, expires_at)"
        " values ($1, 'token', 'late', now() + interval '1 day')"
    )
    before, after = (home, place) if source == "shared" else (place, home)
    async with before.system() as transaction:  # by who has not heard of the switch
        await transaction.execute(late, id)
        await transaction.execute(BUMP)
    await world.life.move("acme", goal)
    count = "select count(*) from revocations where tenant_id = $1"
    async with before.system() as there, after.system() as here:
        assert (await there.fetchval(count, id), await here.fetchval(count, id)) == (0, 3)
        assert await here.fetchval(f"{count} and _number is null", id) == 0
    assert (await clerk.get(FOLDERS)).status_code == (await third.get(FOLDERS)).status_code == 401
    await made(admin, FOLDERS, name="goes on")


@pytest.mark.parametrize("source", ["shared", "north"])
async def test_a_key_is_revoked_while_its_tenant_moves_and_says_so_afterwards(
    world: World, source: str
) -> None:
    goal: Any = "database" if source == "shared" else "shared"
    if source == "north":
        await world.life.move("acme", "database")
    admin, robots = world.client(), {}
    for name in ("one", "other"):
        key = await made(admin, KEYS, name=name, roles=["Admin"])
        client = world.application.client(role=None, headers={"Authorization": f"Bearer {key['key']}"})
        robots[name] = (key["id"], client)
        assert (await client.get(FOLDERS)).status_code == 200
    with pytest.raises(Cut):
        await world.life.move("acme", goal, told=cutting("hold"))
    id, robot = robots["one"]
    answer = await admin.post(f"{KEYS}/{id}/revoke")
    assert answer.status_code == 200 and answer.json()["data"]["revokedAt"], answer.text
    await soon(answered(robot, FOLDERS), 401)
    assert (await robots["other"][1].get(FOLDERS)).status_code == 200
    assert (await admin.post(f"{KEYS}/{id}/revoke")).status_code == 200, "once more is no harm"
    await world.life.move("acme", goal)
    assert (await robot.get(FOLDERS)).status_code == 401
    told = {one["name"]: one["revokedAt"] for one in (await admin.get(KEYS)).json()["data"]}
    assert told["one"] is not None and told["other"] is None
    assert (await admin.post(f"{KEYS}/{robots['other'][0]}/revoke")).status_code == 200
    assert (await robots["other"][1].get(FOLDERS)).status_code == 401


async def test_a_key_that_was_revoked_stays_so_when_the_move_is_given_up(world: World) -> None:
    admin = world.client()
    key = await made(admin, KEYS, name="one", roles=["Admin"])
    robot = world.application.client(role=None, headers={"Authorization": f"Bearer {key['key']}"})
    with pytest.raises(Cut):
        await world.life.move("acme", "database", told=cutting("compare"))
    assert (await admin.post(f"{KEYS}/{key['id']}/revoke")).status_code == 200
    await world.life.abandon("acme")
    assert (await admin.get(f"{KEYS}/{key['id']}")).json()["data"]["revokedAt"] is not None
    assert (await robot.get(FOLDERS)).status_code == 401


@pytest.mark.parametrize("after", ["hold", "compare", "settle"])
async def test_a_tenant_is_suspended_while_it_moves_and_the_move_goes_on(world: World, after: str) -> None:
    await world.fill("acme", 1)
    realms = world.application.connected.issuer.administration
    assert realms is not None
    await realms.put_realm(
        RealmPlan(name=(await world.application.tenant("acme")).realm, display_name="acme")
    )
    clerk = world.client(user="clerk")
    assert (await clerk.get(FOLDERS)).status_code == 200
    with pytest.raises(Cut):
        await world.life.move("acme", "database", told=cutting(after))
    steps: dict[str, bool] = {}
    await world.life.suspend("acme", "security", told=steps.__setitem__)
    told = ("status", "reason security", "realm", "sessions", "revocation", "mail")
    assert steps == dict.fromkeys(told, True)
    assert (await clerk.get(FOLDERS)).status_code == 401
    await world.life.suspend("acme", "security", told=steps.__setitem__)  # as if it had been cut off
    with pytest.raises(Conflict, match="Something else"):
        await world.life.reactivate("acme")
    await world.life.move("acme", "database")
    assert (await clerk.get(FOLDERS)).status_code == 401
    with pytest.raises(Conflict):
        await world.life.suspend("acme", "security")
    await world.life.reactivate("acme")
    await asyncio.sleep(1.1)  # a token of the second of the revocation is refused as well
    assert (await world.client(user="clerk").get(FOLDERS)).status_code == 200
    rows = await world.rows("select action from audit_logs where tenant_id = 0 and action like 'tenant.%'")
    assert [row["action"] for row in rows if "moved" not in row["action"]].count("tenant.suspended") == 1


async def test_uses_of_keys_are_written_though_another_tenants_tables_refuse_it(world: World) -> None:
    robots = {}
    for slug in ("acme", "beta"):
        key = await made(world.client(slug), "/api/v1/api-keys", name="robot", roles=["Admin"])
        robots[slug] = world.application.client(role=None, headers={"Authorization": f"Bearer {key['key']}"})
    with pytest.raises(Cut):
        await world.life.move("acme", "database", told=cutting("hold"))
    async with world.application.connected.database.system() as transaction:  # as before it is noted
        await transaction.execute("update byodpp.tenant_places set state = 'served'")
    for robot in robots.values():
        assert (await robot.get(FOLDERS)).status_code == 200
    await world.application.connected.revocation_watch._keys.write_uses()
    found = await world.rows(
        "select t.slug from api_keys k join tenants t on t.id = k.tenant_id where k.last_used_at is not null"
    )
    assert [row["slug"] for row in found] == ["beta"]


async def test_uses_of_keys_are_written_though_one_database_refuses_them(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await world.fill("acme", 1)
    await world.life.move("acme", "database")
    key = await made(world.client(), "/api/v1/api-keys", name="robot", roles=["Admin"])
    robot = world.application.client(role=None, headers={"Authorization": f"Bearer {key['key']}"})
    assert (await robot.get(FOLDERS)).status_code == 200
    owner = await owner_of(world)  # the shared database, which comes first, refuses every such statement
    try:
        await owner.execute("revoke update on api_keys from byodpp_system")
        await world.application.connected.revocation_watch._keys.write_uses()
    finally:
        await owner.execute("grant update on api_keys to byodpp_system")
        await owner.close()
    assert "when keys were used is not written in the shared database" in caplog.text
    count = "select count(*) from api_keys where last_used_at is not null"
    assert await in_place(world, "north", count) == 1


async def test_a_deletion_that_is_taken_up_deletes_no_row_without_its_export(
    world: World, tmp_path: Path
) -> None:
    for slug, tier in (("acme", "shared"), ("beta", "database")):
        await world.fill(slug, 2)
        if tier == "database":
            await world.life.move(slug, "database")
        folder = tmp_path / slug
        with pytest.raises(Cut):
            await world.life.delete(slug, folder, told=cutting("realm"))
        [lost] = folder.glob("*.zip")
        lost.unlink()
        with pytest.raises(Conflict, match=rf"export .*{lost.name} is not on this machine"):
            await world.life.delete(slug, folder)
        path = await world.life.delete(slug, folder)
        assert path != lost
        with zipfile.ZipFile(path) as archive:
            assert len(archive.read("data/Folders.ndjson").splitlines()) == 2
        assert await world.value("select count(*) from tenants where slug = $1", slug) == 0
    assert await in_place(world, "north", "select count(*) from folders") == 0


async def test_grants_that_have_ended_keep_no_tenant_where_it_is(world: World) -> None:
    await world.fill("acme", 1)
    acme, beta = await world.application.tenant("acme"), await world.application.tenant("beta")
    ended = (
        'insert into grants (tenant_id, id, grantee_id, object, row_id, grantee, "table", expires_at)'
        " values ($1, 99, $2, 'Folders', '1', 'beta', 'folders', now() - interval '1 minute')"
    )
    async with world.application.connected.database.system() as transaction:
        await transaction.execute(ended, acme.id, beta.id)
    await world.life.move("acme", "database")
    assert await in_place(world, "north", "select count(*) from folders") == 1


async def test_a_plan_waits_seconds_for_a_place_that_is_silent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_CONNECT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections, and answers nothing
        port = server.getsockname()[1]
        uris = (f"north=postgresql://a:b@127.0.0.1:{port}/c",)
        settings = replace(world.application.settings, places=("north@eu",), place_admin_uris=uris)
        async with asyncio.timeout(20):
            registry = world.application.blueprint.registry
            found = [one async for one in _of_databases(settings, registry)]
    assert [(one.name, one.trouble) for one in found] == [("place north", "is away: TimeoutError")]


FULL = """
create function public.full_up() returns trigger language plpgsql as
    $$ begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$;
create trigger zz_full before insert on {table} for each row execute function public.full_up()
"""


@pytest.mark.parametrize(("table", "step"), [("folders", "copy folders"), ("audit_logs", "trail")])
async def test_a_move_into_a_full_database_says_which_one_is_and_goes_on_when_there_is_room(
    world: World, table: str, step: str
) -> None:
    await world.fill("acme")
    before, settings = await world.seen("acme"), world.application.settings
    there = {one.name: one for one in place_addresses(settings)}["north"]
    owner = await asyncpg.connect(str(there.admin_uri), timeout=30)
    try:
        await owner.execute(FULL.format(table=table))
        with pytest.raises(StorageFull, match="no room left in the place north"):
            await world.life.move("acme", "database", wanted=Wanted(place="north"))
        [begun] = [line.under_way for line in await world.life.list() if line.slug == "acme"]
        assert begun is not None and (begun.failure or "").startswith(step)
        answer = await world.client().post(FOLDERS, json={"name": "z"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "tenant_moving")
        uris = {"PLACE_DB_URIS": there.app_uri, "PLACE_SYSTEM_URIS": there.system_uri}
        known = {name: f"north={uri}" for name, uri in (uris | {"PLACE_ADMIN_URIS": there.admin_uri}).items()}
        admin = {"POSTGRES_ADMIN_URI": str(settings.postgres_admin_uri)}
        told = await operated(
            world.application, "tenants", "migrate", "acme", BYODPP_PLACES="north@eu", **known, **admin
        )
        assert told.returncode and "no room left in the place north" in told.stderr, told
        stopped = "acme is read, and its writes are refused (503) until the same command has gone on"
        assert stopped in told.stderr and ("--abandon" in told.stderr) == (step != "trail"), told
        strange = await operated(world.application, "tenants", "migrate", "acme", BYODPP_PLACES="", **admin)
        assert strange.returncode and "knows no place 'north'" in strange.stderr, strange
        assert "Traceback" not in told.stderr + strange.stderr
        await owner.execute("drop function public.full_up() cascade")
    finally:
        await owner.close()
    await world.life.move("acme", None)
    assert (await world.seen("acme"))[:-1] == before[:-1]
    assert all(verdict.intact for verdict in await chains(world))


FULL_OF_ALL = (
    FULL.partition("create trigger")[0]
    + """
create trigger zz_full before insert or update on byodpp.tenant_places for each row
    when (new.state = '{state}') execute function public.full_up()
"""
)


@pytest.mark.parametrize(("state", "step"), [("settling", "switch"), ("served", "open")])
async def test_a_move_that_finds_the_database_of_all_full_does_not_blame_the_place(
    world: World, state: str, step: str
) -> None:
    await world.fill("acme")
    before = await world.seen("acme")
    owner = await asyncpg.connect(str(world.application.settings.postgres_admin_uri), timeout=30)
    try:
        await owner.execute(FULL_OF_ALL.format(state=state))
        with pytest.raises(StorageFull, match="no room left in the database that tenants share"):
            await world.life.move("acme", "database", wanted=Wanted(place="north"))
        [begun] = [line.under_way for line in await world.life.list() if line.slug == "acme"]
        assert begun is not None and (begun.failure or "").startswith(step)
        await owner.execute("drop function public.full_up() cascade")
    finally:
        await owner.close()
    await world.life.move("acme", None)
    assert (await world.seen("acme"))[:-1] == before[:-1]


async def test_a_process_that_knows_no_place_does_not_say_of_a_key_there_that_there_is_none(
    world: World,
) -> None:
    settings = world.application.settings
    key = (await world.client().post(KEYS, json={"name": "k"})).json()["data"]["key"]
    database = Database(app_uri=str(settings.postgres_db_uri), system_uri=str(settings.postgres_system_uri))
    await database.open()
    try:
        assert await KeyDirectory(database).resolve(key)
        await world.life.move("acme", "database")
        with pytest.raises(PlaceUnavailable):
            await KeyDirectory(database).resolve(key)
        await world.life.move("acme", "shared")
        assert await KeyDirectory(database).resolve(key)
        with pytest.raises(Unauthenticated):
            await KeyDirectory(database).resolve(f"{key[:-1]}{'a' if key[-1] != 'a' else 'b'}")
    finally:
        await database.close()


async def test_a_process_that_knows_no_place_says_that_a_list_of_all_tenants_is_not_whole(
    world: World,
) -> None:
    settings = world.application.settings
    database = Database(app_uri=str(settings.postgres_db_uri), system_uri=str(settings.postgres_system_uri))
    await database.open()
    try:
        directory = TenantDirectory(database, seconds=0)
        assert not await directory.dispersed()
        await world.life.move("acme", "database")
        assert await directory.dispersed()
    finally:
        await database.close()
