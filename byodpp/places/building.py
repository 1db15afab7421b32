"""Building a place: its tables as the manifest wants them, its views, its rights.

In: connections of the owner role. Out: a schema like the shared one, as far as it goes. Everything may be
called again. May reject: MigrationError, when rows stand in the way of what is wanted.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from byodpp.definitions import Kind
from byodpp.exceptions import MigrationError, Problem
from byodpp.migrations import Snapshot, Step, wanted_schema
from byodpp.migrations.catalog import FORESEE_TENANTS, LOCK_TIMEOUT, SEAL_POLICIES
from byodpp.migrations.plan import batches
from byodpp.migrations.planning import plan_for
from byodpp.places.placement import EVERYWHERE, Located, dedicated
from byodpp.registry import Registry
from byodpp.sql_text import quote
from byodpp.tables import Tables
from byodpp.tables.roles import APP, SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PlaceBuilder", "count_anew", "patiently"]

#: How long all is tried that waits for tables.
_PATIENCE_SECONDS: Final = 60.0
_BUSY: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
#: Constraint of each table of a place: the rows of one tenant and no other.
_ONE_TENANT: Final = "byodpp_place"
_SHARED: Final = "public"


class PlaceBuilder:
    """Makes places of one application."""

    def __init__(self, registry: Registry, tables: Tables, owner_uri: str | None) -> None:
        """Args:
        registry: the resources.
        tables: theirs.
        owner_uri: of the role that owns the tables; None: this process makes no places.
        """
        self.registry = registry
        self.tables = tables
        self._owner_uri = owner_uri
        self.dedicated = dedicated(tables)

    @cached_property
    def wanted(self) -> Snapshot:
        """What a place should hold."""
        whole = wanted_schema(self.registry, tables=self.tables)
        ours = {one.table.key: whole.tables[one.table.key] for one in self.dedicated}
        return replace(whole, tables=MappingProxyType(ours))

    @property
    def views(self) -> list[str]:
        """The application's own views in the shared schema, which a place has as well."""
        views = (one.table for one in self.registry if one.kind is Kind.VIEW and one.schema is None)
        return list(dict.fromkeys(views))

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """Yield a connection of the owner.

        Raises:
            MigrationError: this process has no right to make tables, or cannot sign in as who has it.
        """
        try:
            connection = await asyncpg.connect(self.require_owner(), timeout=30)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            reason = f"the owner of the tables cannot be connected: {str(error) or type(error).__name__}"
            advice = "Look at POSTGRES_ADMIN_URI, and call the same again: it goes on where it stopped."
            raise MigrationError([Problem("postgres_admin_uri", reason, advice)]) from error
        try:
            await connection.execute(LOCK_TIMEOUT.format(local="false"))
            yield connection
        finally:
            await connection.close()

    def require_owner(self) -> str:
        """Return the address of the owner.

        Raises:
            MigrationError: this process has no right to make tables.
        """
        if self._owner_uri is None:
            reason = "is needed to move and to delete tenants, and to make their places"
            advice = "Set POSTGRES_ADMIN_URI: the same database as the role that owns the tables."
            raise MigrationError([Problem("postgres_admin_uri", reason, advice)])
        return self._owner_uri

    async def build(
        self,
        connection: asyncpg.Connection[Any],
        place: str,
        tenant_id: int,
        *,
        references: bool = True,
        lossy: bool = True,
    ) -> tuple[Step, ...]:
        """Make a place fit the manifest; return what was done.

        Args:
            connection: of the owner.
            place: name of its schema.
            tenant_id: whose rows it holds.
            references: False leaves out foreign keys, for rows that come in any order.
            lossy: whether what narrows or loses data may be done as well.

        Raises:
            MigrationError: rows do not fit.
        """
        await connection.execute(
            f"create schema if not exists {place}; grant usage on schema {place} to {APP}, {SYSTEM}"
        )
        found = await self.planned(connection, place, references=references)
        steps = tuple(step for step in found if lossy or step.kind == "expand")
        if steps:  # views may stand in their way; where there are none, readers find the views all the time
            await patiently(lambda: self._drop_views(connection, place))
        for some in batches(steps):
            await patiently(lambda some=some: self._run(connection, place, tenant_id, some))
        await self._keep_to(connection, place, tenant_id)
        await patiently(lambda: self._copy_views(connection, place))
        return steps

    async def planned(
        self, connection: asyncpg.Connection[Any], place: str, *, references: bool = True
    ) -> tuple[Step, ...]:
        """Return the steps that would make a place fit the manifest; nothing is changed."""
        wanted = self.wanted if references else _without_references(self.wanted)
        async with _looking_into(connection, place):
            return (await plan_for(wanted, connection, framework=False)).steps

    async def drop(self, connection: asyncpg.Connection[Any], place: str) -> None:
        """Take a place away with everything in it."""
        await patiently(lambda: connection.execute(f"drop schema if exists {place} cascade"))

    async def show_everywhere(self, connection: asyncpg.Connection[Any], located: Iterable[Located]) -> bool:
        """Make the views that show the rows of all places together; return whether there are any.

        Args:
            connection: of the owner.
            located: every tenant's; one whose place is behind is left out, for it is not served.
        """
        there = [one for one in located if one.tier == "schema" and not one.behind]

        async def again() -> None:
            async with connection.transaction():
                await connection.execute(f"drop schema if exists {EVERYWHERE} cascade")
                if there:
                    await connection.execute(
                        f"create schema {EVERYWHERE}; grant usage on schema {EVERYWHERE} to {APP}, {SYSTEM}"
                    )
                    await connection.execute("\n".join(self._union(one, there) for one in self.dedicated))
            if there:
                await self._copy_views(connection, EVERYWHERE)

        await patiently(again)
        return bool(there)

    async def hide_everywhere(self, connection: asyncpg.Connection[Any]) -> None:
        """Drop these views, which would stand in the way of changes to the tables."""
        await patiently(lambda: connection.execute(f"drop schema if exists {EVERYWHERE} cascade"))

    # --- the steps --------------------------------------------------------------------

    def _union(self, stored: Any, there: Sequence[Located]) -> str:
        table, columns = quote(stored.table.name), ", ".join(quote(one.name) for one in stored.table.c)
        away = ", ".join(str(one.tenant_id) for one in there)
        shared = f"select {columns} from public.{table} where tenant_id <> all('{{{away}}}'::bigint[])"
        parts = [shared, *(f"select {columns} from {one.place}.{table}" for one in there)]
        name = f"{EVERYWHERE}.{table}"
        return (
            f"create view {name} with (security_invoker = true) as {' union all '.join(parts)};"
            f" grant select on {name} to {APP}, {SYSTEM};"
        )

    async def _run(
        self, connection: asyncpg.Connection[Any], place: str, tenant_id: int, steps: Sequence[Step]
    ) -> None:
        async with connection.transaction():
            await connection.execute(f"set local search_path = {place}, public")
            # A reference to a table that stays shared is checked against the rows that the tenant sees there:
            # not to force its policies meanwhile would keep everybody's readers out of it.
            await connection.execute(f"set local byodpp.tenant = '{tenant_id:d}'")
            for step in steps:
                try:
                    await connection.execute(step.sql)
                except asyncpg.PostgresError as error:
                    if isinstance(error, _BUSY):
                        raise
                    reason = f"PostgreSQL refused it ({error.sqlstate}): {error}"
                    advice = "Change the rows that stand in its way, and run `byodpp migrate apply` again."
                    raise MigrationError([Problem(f"{place}: {step.description}", reason, advice)]) from error
            await connection.execute(f"{SEAL_POLICIES}; {FORESEE_TENANTS}")

    async def _keep_to(self, connection: asyncpg.Connection[Any], place: str, tenant_id: int) -> None:
        """Let no row of another tenant into a place, whoever writes it."""
        kept = await connection.fetch(
            "select conrelid::regclass::text from pg_constraint"
            " where conname = $1 and connamespace = $2::regnamespace",
            _ONE_TENANT,
            place,
        )
        if len(kept) == len(self.dedicated):
            return
        for stored in self.dedicated:
            table = f"{place}.{quote(stored.table.name)}"
            await connection.execute(
                f"alter table {table} drop constraint if exists {_ONE_TENANT};"
                f" alter table {table} add constraint {_ONE_TENANT} check (tenant_id = {tenant_id:d})"
            )

    async def _drop_views(self, connection: asyncpg.Connection[Any], place: str) -> None:
        for view in reversed(self.views):
            await connection.execute(f"drop view if exists {place}.{quote(view)} cascade")

    async def _copy_views(self, connection: asyncpg.Connection[Any], place: str) -> None:
        """Make the application's views over the tables of a place, from what PostgreSQL knows of them."""
        names = self.views
        if not names:
            return
        rows = await connection.fetch(
            "select c.relname as name, pg_get_viewdef(c.oid) as body, to_regclass($2 || '.' || quote_ident("
            "c.relname)) is null as missing from pg_class c where c.relkind = 'v'"
            " and c.relnamespace = 'public'::regnamespace and c.relname = any($1::text[]) order by c.oid",
            names,
            place,
        )
        async with connection.transaction():
            await self._drop_views(connection, place)
            await connection.execute(f"set local search_path = {place}, public")
            for row in rows:
                name, body = f"{place}.{quote(row['name'])}", row["body"].rstrip().rstrip(";")
                await connection.execute(
                    f"create view {name} with (security_invoker = true) as {body};"
                    f" grant select on {name} to {APP}, {SYSTEM}"
                )
                if row["missing"]:
                    # Who has looked for it meanwhile has found the shared one, and would keep to that: a
                    # prepared statement is planned anew when what it uses changes, not when it is hidden.
                    await connection.execute(
                        f"alter view {_SHARED}.{quote(row['name'])} set (security_invoker = true)"
                    )


async def count_anew(connection: asyncpg.Connection[Any], addresses: Iterable[str]) -> None:
    """Let the planner know how many rows have come: with what it knew of empty tables it looks at each pair.

    Args:
        connection: of the owner.
        addresses: of the tables, as SQL.
    """
    for address in addresses:
        await patiently(lambda address=address: connection.execute(f"analyze {address}"))


async def patiently(work: Any) -> None:
    """Do something that waits for tables; step back and try again while they are in use.

    Raises:
        MigrationError: they are all the time.
    """
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + _PATIENCE_SECONDS, 0.1
    while True:
        try:
            await work()
            return
        except _BUSY as error:
            if loop.time() > deadline:
                raise MigrationError("The tables are in use all the time: try when it is quieter.") from error
        await asyncio.sleep(pause * (1 + random.random()))
        pause = min(pause * 2, 2.0)


def _without_references(wanted: Snapshot) -> Snapshot:
    tables = {
        key: replace(
            table,
            constraints=MappingProxyType(
                {name: rule for name, rule in table.constraints.items() if rule.kind != "f"}
            ),
        )
        for key, table in wanted.tables.items()
    }
    return replace(wanted, tables=MappingProxyType(tables))


@asynccontextmanager
async def _looking_into(connection: asyncpg.Connection[Any], place: str) -> AsyncIterator[None]:
    await connection.execute(f"set search_path = {place}, public")
    try:
        yield
    finally:
        await connection.execute("reset search_path")
