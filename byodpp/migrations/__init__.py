"""Migrations: what a changed manifest does to a database, as a plan, as revisions, and done.

- `plan` compares the manifest with a database and says every step, its SQL, and what it loses.
- `new` writes the plan as Alembic revisions into the application's `migrations/`: one that
  expands (a running program goes on working) and one that contracts, as needed. `new_empty`
  writes one for SQL of the application's own.
- `apply` runs the revisions that a database lacks.
- `status` says whether this program may serve that database.
- `synchronise` goes the short way for tests: the plan itself is run, without revisions.

A fresh database and one that came through every revision hold the same; a test compares them.
May reject: MigrationError.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import asyncpg

from byodpp.exceptions import DatabaseStartError, MigrationError, Problem
from byodpp.migrations.catalog import FORESEE_TENANTS, SEAL_POLICIES
from byodpp.migrations.locales import NO_LOCALE, fields_with_locales, fields_without_order
from byodpp.migrations.plan import Plan, Step, batches
from byodpp.migrations.planning import plan_for
from byodpp.migrations.published import published_by
from byodpp.migrations.revisions import Revision, new, new_empty, read_revisions
from byodpp.migrations.snapshot import Snapshot, describe
from byodpp.migrations.standing import Outside, rows_outside
from byodpp.migrations.state import SYNCHRONISED, Status, status_of
from byodpp.registry import Registry
from byodpp.row_security import Published, mark_leakproof
from byodpp.tables import Tables

__all__ = [
    "NO_LOCALE",
    "Outside",
    "Plan",
    "Revision",
    "Snapshot",
    "Status",
    "Step",
    "apply",
    "fields_with_locales",
    "fields_without_order",
    "new",
    "new_empty",
    "plan",
    "read_revisions",
    "rows_outside",
    "status",
    "status_of",
    "synchronise",
    "wanted_schema",
    "without_order",
]

#: For making a connection: a server that is away is not waited for any longer.
_CONNECT_SECONDS: Final = 10.0
#: An address, or a connection, which is left open.
Database: TypeAlias = "str | asyncpg.Connection[Any]"


def wanted_schema(
    registry: Registry, *, tables: Tables | None = None, published: Published | None = None
) -> Snapshot:
    """Return what a database of this manifest should hold.

    Args:
        registry: the resources.
        tables: theirs, where they have been built already.
        published: a resource's public filter as SQL; by default what `statements` makes of it.
    """
    tables = tables or Tables.build(registry)
    return describe(tables, published or published_by(registry, tables))


async def plan(registry: Registry, database: Database, *, published: Published | None = None) -> Plan:
    """Return the steps from the database to the manifest; nothing is changed.

    Args:
        registry: the resources.
        database: address of the owner role, or a connection of it.
        published: as for `wanted_schema`.
    """
    wanted = wanted_schema(registry, published=published)
    async with _connected(database) as connection:
        return await plan_for(wanted, connection)


async def apply(
    app_dir: Path,
    uri: str,
    *,
    allow_destructive: bool = False,
    patience_seconds: float = 60.0,
    told: Callable[[Revision], None] | None = None,
) -> tuple[Revision, ...]:
    """Run the revisions that the database lacks; see `runner.apply`.

    Where the role may (it is a superuser), indexes are then let serve in spite of policies.
    """
    # Serving imports this package, and does not need Alembic and an engine.
    from byodpp.migrations import runner

    applied = await runner.apply(
        app_dir, uri, allow_destructive=allow_destructive, patience_seconds=patience_seconds, told=told
    )
    async with _connected(uri) as connection:
        await mark_leakproof(connection)
    return applied


async def status(
    app_dir: Path,
    registry: Registry,
    database: Database,
    *,
    tables: Tables | None = None,
    published: Published | None = None,
    fingerprint: str | None = None,
) -> Status:
    """Say whether the program of this manifest may serve a database.

    Args:
        app_dir: the application's folder.
        registry: its resources.
        database: address or connection, the app role's too.
        tables: as for `wanted_schema`.
        published: as for `wanted_schema`.
        fingerprint: of the wanted schema, where it is known already.
    """
    fingerprint = fingerprint or wanted_schema(registry, tables=tables, published=published).fingerprint
    async with _connected(database) as connection:
        return await status_of(app_dir, fingerprint, connection)


async def without_order(registry: Registry, database: Database) -> list[str]:
    """Return the fields that ask for the order of a locale which a database does not know."""
    if not fields_with_locales(registry):
        return []
    async with _connected(database) as connection:
        return await fields_without_order(registry, connection)


async def synchronise(
    registry: Registry,
    database: Database,
    *,
    published: Published | None = None,
    allow_destructive: bool = False,
) -> Plan:
    """Make the database fit the manifest at once, without revisions.

    For tests and throw-away databases: a database made so cannot go on with revisions. A great
    change takes several transactions; what is broken off is finished by the next call.

    Returns:
        What was done.

    Raises:
        MigrationError: data would be lost, or the database lives by revisions.
    """
    wanted = wanted_schema(registry, published=published)
    async with _connected(database) as connection:
        found = await plan_for(wanted, connection)
        if found.revision is not None:
            raise MigrationError("this database lives by revisions: run `byodpp migrate apply`")
        if found.destructive and not allow_destructive:
            raise MigrationError("the change loses data: " + "; ".join(_lossy(found)))
        for steps in batches(found.steps):
            async with connection.transaction():
                await connection.execute("\n".join(step.sql for step in steps))
                await connection.execute(f"{SEAL_POLICIES}; {FORESEE_TENANTS}")
        await connection.execute(
            "insert into byodpp.schema_state (revision, kind, fingerprint) values ($1, 'expand', $2)"
            " on conflict (revision) do update set fingerprint = excluded.fingerprint, applied_at = now()",
            SYNCHRONISED,
            wanted.fingerprint,
        )
        return found


def _lossy(found: Plan) -> list[str]:
    return [step.description for step in found if step.destructive]


@contextlib.asynccontextmanager
async def _connected(database: Database) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Yield a connection; one that was given is left open.

    Raises:
        DatabaseStartError: there is none to be had.
    """
    if not isinstance(database, str):
        yield database
        return
    try:
        connection = await asyncpg.connect(database, timeout=_CONNECT_SECONDS)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = f"the owner of the tables cannot be connected: {str(error) or type(error).__name__}"
        problem = Problem("postgres_admin_uri", reason, "Is the address right, and the database there?")
        raise DatabaseStartError([problem]) from error
    try:
        yield connection
    finally:
        await connection.close()
