"""Row-level security, tried as the roles that it binds: who sees and writes what, in every scope."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from asyncpg import Connection

from byodpp.embedded import SUPERUSER, EmbeddedPostgres, RunningServer
from byodpp.manifest import read_manifest
from byodpp.migrations import synchronise
from byodpp.registry import Registry
from byodpp.row_security import check_views, mark_leakproof
from byodpp.tables.roles import APP, OWNER, SYSTEM, provision_database

RESOURCES: list[dict[str, Any]] = [
    {"name": "Categories", "fields": {"name": {"type": "string", "index": True}}},
    {
        "name": "Products",
        "softDelete": True,
        "fields": {
            "name": {"type": "string"},
            "status": {"type": "string", "enum": ["draft", "published"], "default": "draft"},
            "categoryId": {"references": "Categories"},
            "kindId": {"references": "Kinds"},
        },
        "access": {"read": {"roles": ["public"], "filter": {"status": "published"}}},
    },
    {"name": "Notes", "scope": "user", "fields": {"text": {"type": "string"}}},
    {"name": "Industries", "scope": "shared", "fields": {"name": {"type": "string"}}},
    {"name": "Kinds", "scope": "library", "fields": {"name": {"type": "string"}}},
]
DENIED = asyncpg.InsufficientPrivilegeError


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    async with EmbeddedPostgres(tmp_path_factory.mktemp("rows"), durable=False).running() as running:
        yield running


@pytest.fixture(scope="module")
def registry() -> Registry:
    return read_manifest({"services": [{"name": "Rows", "resources": RESOURCES}]})


@pytest.fixture(scope="module")
async def database(server: RunningServer, registry: Registry) -> AsyncIterator[str]:
    admin = await asyncpg.connect(server.uri(SUPERUSER, "postgres"))
    await admin.execute("create database rows")
    await admin.close()
    connection = await asyncpg.connect(server.uri(SUPERUSER, "rows"))
    await provision_database(connection)
    await synchronise(registry, server.uri(OWNER, "rows"))
    await connection.execute(SEED)
    await connection.close()
    yield "rows"


SEED = """
insert into categories (tenant_id, name) select 1 + i % 2, 'c' || i from generate_series(0, 3) i;
insert into kinds (tenant_id, name) values (0, 'common'), (1, 'first'), (2, 'second');
insert into industries (name) values ('steel');
insert into notes (tenant_id, owner_id, text) values (1, 10, 'mine'), (1, 11, 'theirs'), (2, 10, 'far');
insert into products (tenant_id, name, status, deleted_at) values
    (1, 'draft 1', 'draft', null), (1, 'public 1', 'published', null),
    (2, 'draft 2', 'draft', null), (2, 'public 2', 'published', null), (2, 'gone 2', 'published', now());
"""


@pytest.fixture
async def app(server: RunningServer, database: str) -> AsyncIterator[Connection[Any]]:
    connection = await asyncpg.connect(server.uri(APP, database))
    yield connection
    await connection.close()


@contextlib.asynccontextmanager
async def acting(
    app: Connection[Any], tenant: int, user: int = 0, grants: str = "{}"
) -> AsyncIterator[Connection[Any]]:
    """Open a transaction of one caller, undone at the end."""
    transaction = app.transaction()
    await transaction.start()
    await app.execute(
        f"set local byodpp.tenant = '{tenant}'; set local byodpp.\"user\" = '{user}';"
        f" set local byodpp.grants = '{grants}'"
    )
    try:
        yield app
    finally:
        await transaction.rollback()


async def column(connection: Connection[Any], sql: str) -> list[Any]:
    return sorted(row[0] for row in await connection.fetch(sql))


@pytest.mark.parametrize("table", ["categories", "products", "notes", "industries", "kinds"])
async def test_without_a_tenant_every_read_raises(app: Connection[Any], table: str) -> None:
    for _ in range(2):
        with pytest.raises(DENIED, match="no tenant"):
            await app.fetch(f"select * from {table}")
        with pytest.raises(DENIED, match="no tenant"):
            await app.fetch(f"select * from {table} where id = 1")
        async with acting(app, 1):  # leaves an empty text behind, which must count as unset
            await app.fetch(f"select * from {table}")


async def test_without_a_tenant_every_write_raises(app: Connection[Any]) -> None:
    with pytest.raises(DENIED):
        await app.execute("insert into categories (tenant_id, name) values (1, 'x')")
    with pytest.raises(DENIED):
        await app.execute("delete from categories where id = 1")
    with pytest.raises(DENIED):
        await app.execute("update categories set name = 'x' where id = 1")


async def test_a_tenant_sees_its_own_and_published_rows(app: Connection[Any]) -> None:
    async with acting(app, 1):
        assert await column(app, "select distinct tenant_id from categories") == [1]
        assert await column(app, "select name from products") == ["draft 1", "public 1", "public 2"]


async def test_nobody_sees_published_rows_only_and_writes_nothing(app: Connection[Any]) -> None:
    async with acting(app, -1):
        assert await column(app, "select name from products") == ["public 1", "public 2"]
        assert await column(app, "select name from categories") == []
        with pytest.raises(DENIED):
            await app.execute("insert into categories (tenant_id, name) values (-1, 'x')")


async def test_a_granted_row_is_seen_and_not_written(app: Connection[Any]) -> None:
    async with acting(app, 2):
        (key,) = await column(app, "select min(id) from categories")
    async with acting(app, 1, grants="{" + f"categories:2:{key},products:1:99" + "}"):
        assert await column(app, "select id from categories where tenant_id = 2") == [key]
        assert await app.execute(f"update categories set name = 'x' where id = {key}") == "UPDATE 0"
        assert await app.execute(f"delete from categories where id = {key}") == "DELETE 0"


async def test_a_user_sees_and_writes_own_rows_only(app: Connection[Any]) -> None:
    async with acting(app, 1, user=10):
        assert await column(app, "select text from notes") == ["mine"]
        assert await app.execute("update notes set text = 'x'") == "UPDATE 1"
        with pytest.raises(DENIED):
            await app.execute("insert into notes (tenant_id, owner_id, text) values (1, 11, 'forged')")


async def test_shared_rows_are_written_from_the_platform_only(app: Connection[Any]) -> None:
    async with acting(app, 1):
        assert await column(app, "select name from industries") == ["steel"]
        assert await app.execute("update industries set name = 'x'") == "UPDATE 0"
        with pytest.raises(DENIED):
            await app.execute("insert into industries (name) values ('x')")
    async with acting(app, 0):
        assert await app.execute("update industries set name = 'x'") == "UPDATE 1"


async def test_library_rows_are_the_platforms_and_the_own(app: Connection[Any]) -> None:
    async with acting(app, 1):
        assert await column(app, "select name from kinds") == ["common", "first"]
        assert await app.execute("update kinds set name = 'x'") == "UPDATE 1"
        with pytest.raises(DENIED):
            await app.execute("insert into kinds (tenant_id, name) values (0, 'x')")


async def test_a_tenant_sees_its_own_record_and_the_platform_all(
    server: RunningServer, database: str, app: Connection[Any]
) -> None:
    admin = await asyncpg.connect(server.uri(SUPERUSER, database))
    needed = [
        row["attname"]
        for row in await admin.fetch(
            "select attname from pg_attribute where attrelid = 'tenants'::regclass and attnum > 0"
            " and attnotnull and not atthasdef and attidentity = ''"
        )
    ]
    for name in needed:
        await admin.execute(f"alter table tenants alter column {name} drop not null")
    await admin.execute("insert into tenants (id) values (0), (1), (2)")
    await admin.close()
    async with acting(app, 1):
        assert await column(app, "select id from tenants") == [1]
        assert await app.execute("delete from tenants") == "DELETE 0"
        with pytest.raises(DENIED):
            await app.execute("insert into tenants default values")
    async with acting(app, 0):
        assert await column(app, "select id from tenants") == [0, 1, 2]


@pytest.mark.parametrize(
    "sql",
    [
        "insert into categories (tenant_id, name) values (2, 'x')",
        "update categories set tenant_id = 2",
        "insert into products (tenant_id, name, status) values (2, 'x', 'published')",
    ],
)
async def test_a_row_cannot_be_put_into_or_moved_to_another_tenant(app: Connection[Any], sql: str) -> None:
    async with acting(app, 1):
        with pytest.raises(DENIED):
            await app.execute(sql)


async def test_other_tenants_rows_cannot_be_changed_or_deleted(app: Connection[Any]) -> None:
    async with acting(app, 1):
        for table in ("categories", "products", "notes"):
            assert await app.execute(f"delete from {table} where tenant_id = 2") == "DELETE 0"
        assert await app.execute("update products set name = 'x' where tenant_id = 2") == "UPDATE 0"


async def test_a_reference_cannot_reach_into_another_tenant(app: Connection[Any]) -> None:
    async with acting(app, 2):
        (category,) = await column(app, "select min(id) from categories")
        (kind,) = await column(app, "select id from kinds where tenant_id = 2")
    async with acting(app, 1):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await app.execute(
                f"insert into products (tenant_id, name, category_id) values (1, 'x', {category})"
            )
    async with acting(app, 1):
        with pytest.raises(DENIED):
            await app.execute(f"insert into products (tenant_id, name, kind_id) values (1, 'x', {kind})")
    async with acting(app, 1):
        await app.execute(
            "insert into products (tenant_id, name, kind_id) select 1, 'x', id from kinds where tenant_id = 0"
        )


async def test_one_trip_reads_set_their_tenant_in_the_statement(app: Connection[Any]) -> None:
    sql = (
        "select (select json_agg(name order by name) from categories where tenant_id = $1::bigint)"
        " from (select set_config('byodpp.tenant', $1::bigint::text, true)) s"
    )
    assert await app.fetchval(sql, 1) == '["c0", "c2"]'
    assert await app.fetchval(sql, 2) == '["c1", "c3"]'
    with pytest.raises(DENIED):
        await app.fetch("select * from categories")


async def test_the_system_role_sees_every_tenant(server: RunningServer, database: str) -> None:
    system = await asyncpg.connect(server.uri(SYSTEM, database))
    assert await column(system, "select distinct tenant_id from categories") == [1, 2]
    await system.close()


async def test_the_owner_is_bound_by_policies_too(server: RunningServer, database: str) -> None:
    owner = await asyncpg.connect(server.uri(OWNER, database))
    with pytest.raises(DENIED):
        await owner.fetch("select * from categories")
    await owner.close()


async def test_audit_rows_are_added_and_read_never_changed(app: Connection[Any]) -> None:
    async with acting(app, 1):
        await app.execute("insert into audit_logs (tenant_id, action) values (1, 'x')")
        assert await column(app, "select action from audit_logs") == ["x"]
        with pytest.raises(DENIED, match="permission denied"):
            await app.execute("update audit_logs set action = 'y'")
    for result in ("success", "denied", "failure"):
        async with acting(app, 1):
            await app.execute(
                "insert into audit_logs (tenant_id, action, result) values (1, 'x', $1)", result
            )
    async with acting(app, 1):
        with pytest.raises(DENIED, match="row-level security"):
            await app.execute("insert into audit_logs (tenant_id, action, result) values (1, 'x', 'granted')")


async def test_the_outbox_takes_events_of_the_own_tenant_only(app: Connection[Any]) -> None:
    async with acting(app, 1):
        await app.execute("insert into byodpp.outbox (tenant_id, name, data) values (1, 'a', '{}')")
        with pytest.raises(DENIED):
            await app.execute("insert into byodpp.outbox (tenant_id, name, data) values (2, 'a', '{}')")


async def test_every_table_forces_row_level_security(server: RunningServer, database: str) -> None:
    admin = await asyncpg.connect(server.uri(SUPERUSER, database))
    open_tables = await column(
        admin,
        "select relname from pg_class c join pg_namespace n on n.oid = relnamespace"
        " where relkind = 'r' and nspname in ('public', 'byodpp')"
        " and not (relrowsecurity and relforcerowsecurity)",
    )
    assert open_tables == []
    await admin.close()


async def test_the_key_and_its_index_serve_a_look_up_as_the_app_role(
    server: RunningServer, database: str, app: Connection[Any]
) -> None:
    admin = await asyncpg.connect(server.uri(SUPERUSER, database))
    await admin.execute(
        "insert into categories (tenant_id, name) select i % 50, 'n' || i from generate_series(1, 20000) i;"
        " analyze categories"
    )
    marked = await mark_leakproof(admin)
    assert any(signature.startswith("textlike") for signature in marked)
    assert await mark_leakproof(admin) == []
    await admin.close()
    async with acting(app, 1):
        for condition in ("id = 77", "name = 'n51'", "name like 'n51%'"):
            rows = await app.fetch(f"explain select * from categories where tenant_id = 1 and {condition}")
            plan = "\n".join(row[0] for row in rows)
            assert "Index" in plan and "Seq Scan" not in plan, plan


async def test_the_app_role_cannot_mark_functions(app: Connection[Any]) -> None:
    assert await mark_leakproof(app) == ()


async def test_a_view_must_be_a_security_invoker(server: RunningServer, database: str) -> None:
    view = {"name": "Names", "type": "view", "table": "names", "fields": {"name": {"type": "string"}}}
    registry = read_manifest({"services": [{"name": "Rows", "resources": [*RESOURCES, view]}]})
    admin = await asyncpg.connect(server.uri(SUPERUSER, database))
    (problem,) = await check_views(admin, registry)
    assert "no such relation" in problem.reason
    await admin.execute("create view names as select tenant_id, id, name from categories")
    (problem,) = await check_views(admin, registry)
    assert "security_invoker" in problem.reason
    await admin.execute("alter view names set (security_invoker = true)")
    await admin.execute("alter view names rename column name to title")
    (problem,) = await check_views(admin, registry)
    assert "it has no column name" in problem.reason
    await admin.execute("alter view names rename column title to name")
    (problem,) = await check_views(admin, registry)
    assert "may not read it" in problem.reason and "GRANT SELECT" in problem.suggestion
    await admin.execute("grant select on names to byodpp_app")
    assert await check_views(admin, registry) == []
    await admin.execute("drop view names; create materialized view names as select 1 as tenant_id")
    (problem,) = await check_views(admin, registry)
    assert "only views and tables" in problem.reason
    await admin.close()
