"""Carrying a tenant's rows from one schema to another: copied whole, compared, and taken away.

In: transactions of the system role, which passes row-level security and the fences. Everything may be done
again: a copy begins by emptying its table of the tenant. May reject: InternalError, when what arrived is
not what was sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from byodpp.database import Transaction
from byodpp.exceptions import Conflict, InternalError
from byodpp.places.counting import continue_from, next_id
from byodpp.sql_text import quote
from byodpp.tables import StoredTable
from byodpp.tables.order import ordered

if TYPE_CHECKING:
    import asyncpg
    import sqlalchemy as sa

__all__ = ["Mover", "continue_counting", "require_rows"]

#: For one table's rows.
_LONGEST_SECONDS: Final = 3_600.0
_PASS: Final = "set local byodpp.moving = 'on'"


class _Seen(Exception):
    """What was to be looked at has been."""


class Mover:
    """Moves rows of the tables that places have."""

    def __init__(self, tables: Sequence[StoredTable]) -> None:
        """Args:
        tables: that places have.
        """
        #: Those that refer before those referred to, and the references that close circles.
        self._order, circular = ordered(one.table for one in tables)
        self._circular: dict[str, list[str]] = {}
        for reference in circular:
            names = [str(column.name) for column in reference.columns if column.nullable]
            self._circular.setdefault(reference.table.name, []).extend(names)

    @property
    def tables(self) -> list[str]:
        """Names in the order in which rows can arrive: those referred to first."""
        return [str(table.name) for table in reversed(self._order)]

    async def copy(self, transaction: Transaction, name: str, tenant: int, source: str, target: str) -> int:
        """Copy a table's rows of a tenant; what its copy had before is replaced. Return how many there are.

        References that close circles stay empty until `close`.
        """
        await _prepare(transaction)
        table = self._table(name)
        columns = [str(column.name) for column in table.c]
        taken = ", ".join("null" if one in self._circular.get(name, ()) else quote(one) for one in columns)
        there = f"{target}.{quote(name)}"
        await _execute(transaction, f"delete from {there} where tenant_id = $1", tenant)
        done = await _execute(
            transaction,
            f"insert into {there} ({', '.join(map(quote, columns))})"
            f" select {taken} from {source}.{quote(name)} where tenant_id = $1",
            tenant,
        )
        return int(str(done).rpartition(" ")[2] or 0)

    async def close(self, transaction: Transaction, tenant: int, source: str, target: str) -> None:
        """Fill in the references that close circles."""
        await _prepare(transaction)
        for name, columns in self._circular.items():
            values = ", ".join(f"{quote(one)} = s.{quote(one)}" for one in columns)
            await _execute(
                transaction,
                f"update {target}.{quote(name)} t set {values} from {source}.{quote(name)} s"
                " where t.tenant_id = $1 and s.tenant_id = $1 and s.id = t.id",
                tenant,
            )

    async def compare(
        self, transaction: Transaction, tenant: int, source: str, target: str
    ) -> Mapping[str, list[str]]:
        """Return rows and checksums by table, when they are the same in both schemas.

        Raises:
            InternalError: they differ.
        """
        found = {}
        for name in self.tables:
            here = await self._digest(transaction, name, tenant, source)
            there = await self._digest(transaction, name, tenant, target)
            if here != there:
                raise InternalError(f"{name} differs between {source} and {target}: nothing was switched")
            found[name] = here
        return found

    async def require_held(
        self, transaction: Transaction, tenant: int, schema: str, compared: Mapping[str, Sequence[str]]
    ) -> None:
        """See that a schema holds the rows that were compared, before they are deleted elsewhere.

        Args:
            transaction: of the system role.
            tenant: whose rows; nothing of it was written since.
            schema: where it is by now.
            compared: rows and checksums by table.

        Raises:
            Conflict: rows are missing.
        """
        await _prepare(transaction)
        for name in self.tables:
            sql = f"select count(*) from {schema}.{quote(name)} where tenant_id = $1"
            found = await transaction.connection.fetchval(sql, tenant, timeout=_LONGEST_SECONDS)
            require_rows(f"{schema}.{name}", found, compared.get(name, ("0",)))

    async def remove(self, transaction: Transaction, tenant: int, schema: str) -> int:
        """Delete a tenant's rows from a schema, and return how many there were."""
        await _prepare(transaction)
        for name, columns in self._circular.items():
            values = ", ".join(f"{quote(one)} = null" for one in columns)
            await _execute(
                transaction, f"update {schema}.{quote(name)} set {values} where tenant_id = $1", tenant
            )
        removed = 0
        for table in self._order:
            done = await _execute(
                transaction, f"delete from {schema}.{quote(table.name)} where tenant_id = $1", tenant
            )
            removed += int(str(done).rpartition(" ")[2] or 0)
        return removed

    async def any_rows(self, transaction: Transaction, tenant: int, schema: str) -> bool:
        """Whether a tenant has rows in a schema; no table is held afterwards, so that it can be changed."""
        found = False
        with suppress(_Seen):
            async with transaction.savepoint():  # undone, for the locks of reading
                for name in self.tables:
                    sql = f"select exists (select from {schema}.{quote(name)} where tenant_id = $1)"
                    found = found or await transaction.fetchval(sql, tenant)
                raise _Seen
        return found

    async def _digest(self, transaction: Transaction, name: str, tenant: int, schema: str) -> list[str]:
        columns = ", ".join(f"t.{quote(column.name)}" for column in self._table(name).c)
        await _prepare(transaction)
        row = await transaction.connection.fetchrow(
            "select count(*)::text as rows,"
            " coalesce(sum(hashtextextended(r, 0)::numeric), 0)::text as first,"
            " coalesce(sum(hashtextextended(r, 1)::numeric), 0)::text as second"
            f" from (select row({columns})::text as r from {schema}.{quote(name)} t where tenant_id = $1) s",
            tenant,
            timeout=_LONGEST_SECONDS,
        )
        assert row is not None
        return [row["rows"], row["first"], row["second"]]

    def _table(self, name: str) -> sa.Table:
        return next(table for table in self._order if table.name == name)


def require_rows(name: str, found: int, compared: Sequence[str]) -> None:
    """See that a table holds as many rows as were compared.

    Raises:
        Conflict: some are missing.
    """
    if found < int(compared[0]):
        raise Conflict(
            f"{name}, to which the tenant was switched, holds {found} of the {compared[0]} rows that were "
            "compared, so that nothing was deleted where they came from: put them there from that table, and "
            "take the move up"
        )


async def _prepare(transaction: Transaction) -> None:
    """Let the fences pass this transaction, and its statements take as long as there are rows."""
    await transaction.execute(f"{_PASS}; set local statement_timeout = '{int(_LONGEST_SECONDS)}s'")


async def _execute(transaction: Transaction, sql: str, *args: Any) -> str:
    done: str = await transaction.connection.execute(sql, *args, timeout=_LONGEST_SECONDS)
    return done


async def continue_counting(
    connection: asyncpg.Connection[Any], tables: Sequence[StoredTable], source: str, target: str
) -> None:
    """Let the ids of a schema go on where those of another one are, so that none is given twice.

    Args:
        connection: of the owner.
        tables: that places have.
        source: schema whose rows have arrived.
        target: schema where they have.
    """
    for stored in tables:
        if stored.table.c.id.identity is None:
            continue
        name = quote(stored.table.name)
        here = await next_id(connection, f"{source}.{name}")
        await continue_from(connection, f"{target}.{name}", here)
