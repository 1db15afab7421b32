"""Revisions that meet rows: of tenants, of those that move, and of copies in a tenant's own database."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from byodpp import migrations
from byodpp.bootstrap import Blueprint
from byodpp.embedded import SUPERUSER
from byodpp.places.copied import is_copied
from byodpp.sql_text import quote
from byodpp.tables.roles import OWNER, provision_database
from byodpp.testing import Bench
from tests.test_databases_of_tenants import PLACES
from tests.test_tiers import LOGIC, MANIFEST, Cut, World, changed, cutting
from tests.worlds import build

_NAME = "revisions_on_rows"
#: Whose rows there are besides the platform's; its tables refuse it, as while it moves.
_TENANT = 7
_TABLES = """
    select n.nspname || '.' || quote_ident(c.relname) as name, c.relname as table from pg_class c
    join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and n.nspname in ('public', 'byodpp')
    and c.relname not in ('alembic_version', 'schema_state') order by c.oid
"""
_COLUMNS = """
    select attname as name, format_type(atttypid, null) as type, attnotnull and not atthasdef as needed
    from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped and attidentity = ''
    and attgenerated = ''
"""
_CHECKS = (
    "select pg_get_constraintdef(oid) from pg_constraint where conrelid = $1::regclass and contype = 'c'"
)
_VALUES = {
    "jsonb": "'{}'", "boolean": "true", "timestamp with time zone": "now()", "date": "current_date",
    "uuid": "gen_random_uuid()", "xid8": "pg_current_xact_id()", "bytea": "'x'",
}  # fmt: skip


async def _filled(inside: asyncpg.Connection[Any]) -> set[str]:
    """Give every table a row of the platform and one of a tenant, if it has none; return those that have."""
    full = set()
    async with inside.transaction():
        # Neither references nor fences are asked, and the superuser passes every policy.
        await inside.execute("set local session_replication_role = replica")
        for table in await inside.fetch(_TABLES):
            name = table["name"]
            words = dict[str, str]()
            for row in await inside.fetch(_CHECKS, name):
                if found := re.search(r"\(\(*\"?(\w+)\"?\)?(?:::text)? = ANY \('\{\"?(\w+)", row[0]):
                    words[found[1]] = f"'{found[2]}'"
            if not await inside.fetchval(f"select exists (select from {name})"):
                for tenant in (0, _TENANT):
                    await _row(inside, name, table["table"], tenant, words)
            if await inside.fetchval(f"select exists (select from {name})"):
                full.add(table["table"])
    return full


async def _row(
    inside: asyncpg.Connection[Any], name: str, table: str, tenant: int, words: dict[str, str]
) -> None:
    values = {}
    for column in await inside.fetch(_COLUMNS, name):
        kind = column["type"]
        if column["name"] == "tenant_id":
            values["tenant_id"] = str(tenant)
        elif column["needed"]:
            number = "1" if kind in ("bigint", "integer", "smallint", "numeric") else None
            other = "'{}'" if kind.endswith("[]") else _VALUES.get(kind, f"'{tenant}x'")
            values[column["name"]] = words.get(column["name"], number or other)
    if table == "tenants":
        values["id"] = str(tenant)
    columns, row = ", ".join(map(quote, values)), ", ".join(values.values())
    given = f"({columns}) overriding system value values ({row})" if values else "default values"
    try:
        async with inside.transaction():
            await inside.execute(f"insert into {name} {given}")
    except asyncpg.IntegrityConstraintViolationError:
        return  # one that holds something special; those that matter are looked for


async def _fenced(inside: asyncpg.Connection[Any], copied: set[str]) -> None:
    """Let tables refuse the tenant, and changes of copies, as in databases with places and in places."""
    for function in ("refuse_moving", "refuse_copy"):
        if await inside.fetchval("select to_regproc($1) is null", f"byodpp.{function}"):
            return
        for table in await inside.fetch(_TABLES):
            columns = [column["name"] for column in await inside.fetch(_COLUMNS, table["name"])]
            if function == "refuse_moving" and "tenant_id" not in columns:
                continue
            if function == "refuse_copy" and table["table"] not in copied:
                continue
            which = f"when (new.tenant_id = {_TENANT})" if function == "refuse_moving" else ""
            await inside.execute(
                f"create or replace trigger zz_{function} before insert or update on {table['name']}"
                f" for each row {which} execute function byodpp.{function}()"
            )


async def test_every_revision_can_be_applied_to_a_database_that_has_rows(
    byodpp_bench: Bench, byodpp_blueprint: Blueprint, tmp_path: Path
) -> None:
    server, app_dir = byodpp_bench.server, byodpp_blueprint.app_dir
    copied = {one.table.name for one in byodpp_blueprint.tables.stored if is_copied(one)}
    outside = await asyncpg.connect(server.uri(SUPERUSER, "postgres"), timeout=30)
    try:
        await outside.execute(f'drop database if exists "{_NAME}" with (force)')
        await outside.execute(f'create database "{_NAME}" owner {OWNER}')
        inside = await asyncpg.connect(server.uri(SUPERUSER, _NAME), timeout=30)
        try:
            await provision_database(inside)
            (tmp_path / "migrations").mkdir()
            full = set[str]()
            for revision in migrations.read_revisions(app_dir):
                shutil.copy(revision.path, tmp_path / "migrations")
                applied = await migrations.apply(tmp_path, server.uri(OWNER, _NAME), allow_destructive=True)
                assert [one.revision for one in applied] == [revision.revision]
                full |= await _filled(inside)
                await _fenced(inside, copied)
            assert full >= {
                "tenants",
                "tenant_classes",
                "users",
                "roles",
                "user_roles",
                "api_keys",
                "products",
            }
            agreed = await inside.fetchval("select count(*) from tenants where analytics")
            assert (await inside.fetchval("select count(*) from tenants"), agreed) == (2, 0)
            forced = "select count(*) from pg_class where relrowsecurity and not relforcerowsecurity"
            assert await inside.fetchval(forced) == 1, "but for Alembic's own table"
            left = await migrations.plan(byodpp_blueprint.registry, server.uri(OWNER, _NAME))
            assert [step.description for step in left] == []
        finally:
            await inside.close()
    finally:
        await outside.execute(f'drop database if exists "{_NAME}" with (force)')
        await outside.close()


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("on_rows"), MANIFEST, LOGIC)


@pytest_asyncio.fixture(loop_scope="session")
async def world(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[World]:
    async with byodpp_bench.application(blueprint, places=PLACES, tenant_settle_seconds=0) as tested:
        yield World(tested)


async def test_rows_get_a_default_also_those_of_who_moves_and_copies(world: World, tmp_path: Path) -> None:
    platform = world.client("platform", user="root")
    assert (await platform.post("/api/v1/countries", json={"name": "Utopia"})).status_code == 201
    for slug in ("acme", "beta"):
        assert (await world.client(slug).post("/api/v1/folders", json={"name": slug})).status_code == 201
    await world.life.move("beta", "database")
    with pytest.raises(Cut):
        await world.life.move("acme", "schema", told=cutting("hold"))
    manifest = changed(code={"type": "string", "maxLength": 20, "required": True, "default": "none"})
    countries = next(one for one in manifest["resources"] if one["name"] == "Countries")
    countries["fields"]["code"] = {"type": "string", "required": True, "default": "XX"}
    registry = build(tmp_path, manifest, LOGIC).registry
    settings = world.application.settings
    addresses = dict(one.split("=", 1) for one in settings.place_admin_uris)
    for uri in (str(settings.postgres_admin_uri), addresses["north"]):
        await migrations.synchronise(registry, uri, allow_destructive=True)
        assert [step.description for step in await migrations.plan(registry, uri)] == []
    places = world.application.connected.database.places
    for database in (world.application.connected.database, places["north"]):
        async with database.system() as transaction:
            assert await transaction.fetchval("select code from countries") == "XX"
            assert await transaction.fetchval("select code from folders") == "none"
