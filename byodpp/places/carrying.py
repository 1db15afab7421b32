"""Carrying a tenant's rows from one database to another: copied whole, compared, and taken away.

Rows travel as PostgreSQL's own binary copies, from connection to connection, so that a table of any size
takes a bounded memory. In: databases, each used with its system role, which passes row-level security and
the fences. Everything may be done again: a copy begins by emptying its table of the tenant. May reject:
InternalError, when what arrived is not what was sent; Conflict, when the audit trail there is another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.dialects import postgresql

from byodpp.database import Database, Transaction, translate
from byodpp.database.transaction import DRIVER_ERRORS
from byodpp.exceptions import Conflict, InternalError
from byodpp.places.fences import takes_moving
from byodpp.places.moving import require_rows
from byodpp.places.placement import carried, staying
from byodpp.places.portions import PORTION_ROWS, portions
from byodpp.sql_text import quote
from byodpp.tables import Tables
from byodpp.tables.framework import ARRIVAL, NUMBER, UNHASHED
from byodpp.tables.order import ordered

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["Carrier"]

#: For one table's rows.
_LONGEST_SECONDS: Final = 3_600
_MARK: Final = (
    "update api_keys k set revoked_at = r.created_at from revocations r where k.tenant_id = $1"
    " and r.tenant_id = k.tenant_id and r.kind = 'token' and r.subject = k.id and k.revoked_at is null"
)
_PASS: Final = "set local byodpp.moving = 'on'"
_TYPES: Final = (
    "select array_agg(attname || ' ' || atttypid::regtype order by attname)::text from pg_attribute"
    " where attrelid = $1::text::regclass and attnum > 0 and not attisdropped"
)
#: Portions of a copy that may wait between the two connections.
_WAITING: Final = 16
_AT_ONCE: Final = 2_000
#: Columns that mean something in one database only: an event is listed where it arose, and only there.
_LOCAL: Final = frozenset({*UNHASHED, NUMBER})


class Carrier:
    """Carries rows of all tables that a tenant has."""

    def __init__(self, tables: Tables, *, shared: Database, renumber: str) -> None:
        """Args:
        tables: of the application.
        shared: the database of all tenants, and of the control plane.
        renumber: gives numbers of a database to rows that have come without one.
        """
        self._shared = shared
        self._renumber = renumber
        self._staying = staying(tables)
        stored = carried(tables)
        order, circular = ordered(one.table for one in stored)
        last = stored[-1].table  # says that rules have changed; nothing refers to it
        self._order = [last, *(one for one in order if one is not last)]
        self._circular: dict[str, list[str]] = {}
        for reference in circular:
            names = [str(column.name) for column in reference.columns if column.nullable]
            self._circular.setdefault(reference.table.fullname, []).extend(names)
        self._trail = next((one.table for one in tables.stored if one.table.name == "audit_logs"), None)

    @property
    def names(self) -> list[str]:
        """Names of the tables in the order in which rows can arrive: those referred to first."""
        return [table.fullname for table in reversed(self._order)]

    def _carried(self, table: sa.Table, tenant: str = "$1") -> str:
        """Return what holds of the rows of a tenant that are where it is."""
        stays = self._staying.get(table.fullname)
        return f"tenant_id = {tenant}" + ("" if stays is None else f" and not {stays.format(row='')}")

    def _here(self, table: sa.Table, database: Database) -> str:
        """Return what holds of the rows that are taken away with a tenant: of a place, all."""
        return self._carried(table) if database is self._shared else "tenant_id = $1"

    async def any_rows(self, database: Database, tenant: int) -> bool:
        """Whether a tenant has rows of any kind in a database."""
        async with _passing(database) as transaction:
            for table in self._order:
                sql = f"select exists (select from {_address(table)} where {self._carried(table)})"
                if await transaction.fetchval(sql, tenant):
                    return True
        return False

    async def others(self, database: Database, tenant: int) -> list[int]:
        """Return other tenants that have rows in a database, but for the platform's copies."""
        found = set[int]()
        async with _passing(database) as transaction:
            for table in self._order:
                sql = f"select distinct tenant_id from {_address(table)} where tenant_id not in (0, $1)"
                found |= {row["tenant_id"] for row in await transaction.fetch(sql, tenant)}
        return sorted(found)

    async def copy(self, name: str, tenant: int, source: Database, target: Database) -> int:
        """Copy a table's rows of a tenant; what its copy had before is replaced. Return how many there are.

        References that close circles stay empty until `close`.
        """
        table = next(one for one in self._order if one.fullname == name)
        empty = self._circular.get(name, ())
        columns = [str(one.name) for one in table.c if one.computed is None and one.name not in _LOCAL]
        taken = ", ".join(f"null::{_type(table, one)}" if one in empty else quote(one) for one in columns)
        sql = f"select {taken} from {_address(table)} where {self._carried(table, f'{tenant:d}')}"
        async with _passing(source) as reading, _passing(target) as writing:
            await writing.execute(f"delete from {_address(table)} where {self._here(table, target)}", tenant)
            done = await _piped(reading, sql, writing, table, columns)
            if NUMBER in table.c:
                await writing.execute(self._renumber)
        if name in self._staying and source is not self._shared:
            await self._bring_back(table, tenant, source)
        return done

    async def _bring_back(self, table: sa.Table, tenant: int, place: Database) -> None:
        """Add to the shared database what an older program let a tenant take from there; may be repeated."""
        columns = ", ".join(
            quote(one.name) for one in table.c if one.computed is None and one.name not in _LOCAL
        )
        stays = self._staying[table.fullname].format(row="")
        async with _passing(place) as reading, _passing(self._shared) as writing:
            cursor = await reading.connection.cursor(
                f"select row_to_json(s)::text as row from (select {columns} from {_address(table)}"
                f" where tenant_id = $1 and {stays}) s",
                tenant,
                timeout=_LONGEST_SECONDS,
            )
            while rows := await cursor.fetch(_AT_ONCE, timeout=_LONGEST_SECONDS):
                await writing.execute(
                    f"insert into {_address(table)} ({columns}) select {columns}"
                    f" from json_populate_recordset(null::{_address(table)}, $1::json)"
                    " on conflict do nothing",
                    f"[{','.join(row['row'] for row in rows)}]",
                )
            if NUMBER in table.c:
                await writing.execute(self._renumber)

    async def close(self, tenant: int, source: Database, target: Database) -> None:
        """Fill in the references that close circles."""
        async with _passing(source) as reading, _passing(target) as writing:
            for table in self._order:
                for column in self._circular.get(table.fullname, ()):
                    await _fill(reading, writing, table, column, tenant)

    async def compare(self, tenant: int, source: Database, target: Database) -> Mapping[str, list[str]]:
        """Return rows and checksums by table, when they are the same in both databases.

        Revocations are not compared: some may have been written since they were copied.

        Raises:
            InternalError: they differ.
        """
        found = {}
        async with _passing(source) as here, _passing(target) as there:
            for table in reversed([one for one in self._order if not takes_moving(one)]):
                found[table.fullname] = await _digest(here, table, self._carried(table), tenant)
                if found[table.fullname] != await _digest(there, table, self._carried(table), tenant):
                    raise InternalError(
                        f"{table.fullname} differs between the databases: nothing was switched"
                    )
        return found

    async def require_held(
        self, tenant: int, database: Database, compared: Mapping[str, Sequence[str]]
    ) -> None:
        """See that a database holds the rows that were compared, before they are deleted elsewhere.

        Raises:
            Conflict: rows are missing.
        """
        async with _passing(database) as transaction:
            for table in self._order:
                if not takes_moving(table):
                    sql = f"select count(*) from {_address(table)} where {self._carried(table)}"
                    found = await transaction.connection.fetchval(sql, tenant, timeout=_LONGEST_SECONDS)
                    require_rows(table.fullname, found, compared.get(table.fullname, ("0",)))

    async def bring_revocations(self, tenant: int, source: Database, target: Database) -> int:
        """Move the revocations that were written where a tenant was; return how many were not there yet.

        Their ids may be given by now: they get new ones, and are told apart by what they say, and when.
        """
        table = next((one for one in self._order if takes_moving(one)), None)
        if table is None:
            return 0
        names = (str(one.name) for one in table.c if one.computed is None)
        columns = ", ".join(quote(one) for one in names if one != "id" and one not in _LOCAL)
        # What is entered last ends first: they are committed there before they are gone here.
        async with _passing(source) as reading, _passing(target) as writing:
            brought = 0
            while rows := await reading.fetchval(
                f"with gone as (delete from {_address(table)} where (tenant_id, id) in"
                f" (select tenant_id, id from {_address(table)} where tenant_id = $1 limit {PORTION_ROWS})"
                f" returning {columns}) select json_agg(row_to_json(gone))::text from gone",
                tenant,
            ):
                done = await writing.execute(
                    f"insert into {_address(table)} ({columns}) select {columns}"
                    f" from json_populate_recordset(null::{_address(table)}, $1::json) s where not exists"
                    f" (select from {_address(table)} t where t.tenant_id = s.tenant_id and t.kind = s.kind"
                    " and t.subject is not distinct from s.subject and t.created_at = s.created_at)",
                    rows,
                )
                brought += int(str(done).rpartition(" ")[2] or 0)
            await writing.execute(self._renumber)
        return brought

    async def mark_keys(self, tenant: int, database: Database) -> None:
        """Write into the rows of API keys that they were revoked while those rows took no writes."""
        async with _passing(database) as transaction:
            await transaction.execute(_MARK, tenant)

    async def remove(self, tenant: int, database: Database) -> int:
        """Delete a tenant's rows from a database, and return how many there were.

        Its audit trail is left, and in the shared database what is kept of its writes to the control plane.
        """
        removed = 0
        async with _passing(database) as transaction:
            for table in self._order:
                if columns := self._circular.get(table.fullname):
                    values = ", ".join(f"{quote(one)} = null" for one in columns)
                    await transaction.execute(
                        f"update {_address(table)} set {values} where tenant_id = $1", tenant
                    )
            for table in self._order:
                sql = f"delete from {_address(table)} where {self._here(table, database)}"
                done = await transaction.execute(sql, tenant)
                removed += int(str(done).rpartition(" ")[2] or 0)
        return removed

    async def claimed(
        self, tenant: int, names: Sequence[str], keys: Sequence[str], database: Database
    ) -> None:
        """Note in a tenant's own database which values it has claimed in the shared one, and no others."""
        async with _passing(database) as transaction:
            await transaction.execute("delete from byodpp.platform_keys where tenant_id = $1", tenant)
            await transaction.execute(
                "insert into byodpp.platform_keys (name, key, tenant_id, confirmed)"
                " select n, k, $3, true from unnest($1::text[], $2::text[]) as u(n, k)",
                list(names),
                list(keys),
                tenant,
            )

    async def bring_trail(
        self,
        tenant: int,
        source: Database,
        target: Database,
        seal: Callable[[Transaction, int], Awaitable[int]],
    ) -> int:
        """Add the entries of the audit trail that another database has and this one has not.

        Args:
            tenant: whose.
            source: has them.
            target: gets them.
            seal: puts them into the chain there; they arrive without the mark of their transaction, so that
                the sealer leaves them alone.

        Raises:
            Conflict: an entry is there already, and another one.
        """
        brought = 0
        if self._trail is not None:
            trail = _Trail(self._trail, tenant)
            async with _passing(source) as reading, _passing(target) as writing:
                async for entries in trail.of(reading, whole=True):
                    brought += await trail.added(writing, entries)
                    await trail.require_same(writing, entries)
                await seal(writing, tenant)
        return brought

    async def require_alike(self, source: Database, target: Database) -> None:
        """See that two databases keep audit entries in the same types: entries are sealed as their texts.

        Raises:
            Conflict: one of them lacks a revision, which may wait otherwise.
        """
        if self._trail is not None:
            found = []
            for database in (source, target):
                async with _passing(database) as transaction:
                    found.append(await transaction.fetchval(_TYPES, _address(self._trail)))
            if found[0] != found[1]:
                raise Conflict(
                    "One of the two databases lacks a revision of the audit trail, whose entries would not "
                    "be what was sealed: run `byodpp migrate apply` first"
                )

    async def require_one_trail(self, tenant: int, source: Database, target: Database) -> None:
        """See that what two databases have of a tenant's audit trail is the same.

        Raises:
            Conflict: an entry is another one there.
        """
        if self._trail is not None:
            trail = _Trail(self._trail, tenant)
            async with _passing(source) as here, _passing(target) as there:
                async for entries in trail.of(here, whole=False):
                    await trail.require_same(there, entries)


class _Trail:
    """The audit trail of one tenant, some entries at a time."""

    def __init__(self, table: sa.Table, tenant: int) -> None:
        self._table = _address(table)
        self._tenant = tenant
        self._columns = [quote(one.name) for one in table.c if one.name not in _LOCAL]

    async def of(self, transaction: Transaction, *, whole: bool) -> AsyncIterator[Any]:
        """Yield entries in the order of their ids, with ids and hashes.

        Args:
            transaction: reads them.
            whole: whether as JSON, too; as a text, for jsonb holds no array of 256 MB. Then there are as many
                at a time as make a few MB.
        """
        rows = "json_agg(row_to_json(s))::text" if whole else "null"
        sql = (
            f"select {rows} as rows, array_agg(s.id) as ids,"
            " array_agg(hashtextextended(s::text, 0)) as hashes"
            f" from (select {', '.join(self._columns)} from {self._table}"
            " where tenant_id = $1 and id between $2 and $3 order by id) s"
        )
        seen, before = 0, -1
        while seen != before:  # until nobody has added any
            before = seen
            async for first, last in self._portions(transaction, seen, sized=whole):
                yield await transaction.fetchrow(sql, self._tenant, first, last)
                seen = last

    async def _portions(
        self, transaction: Transaction, after: int, *, sized: bool
    ) -> AsyncIterator[tuple[int, int]]:
        """Yield the first and the last id of entries that fit into memory together."""
        size = "octet_length(s::text)" if sized else "0"
        cursor = await transaction.connection.cursor(
            f"select s.id, {size} as size from (select {', '.join(self._columns)} from {self._table}"
            " where tenant_id = $1 and id > $2 order by id) s",
            self._tenant,
            after,
            timeout=_LONGEST_SECONDS,
        )
        while rows := await cursor.fetch(_AT_ONCE, timeout=_LONGEST_SECONDS):
            for ids in portions((row["id"], row["size"]) for row in rows):
                yield ids[0], ids[-1]

    async def added(self, transaction: Transaction, entries: Any) -> int:
        """Add those that are not there; return how many."""
        columns = ", ".join(self._columns)
        done = await transaction.execute(
            f"insert into {self._table} ({columns}, {quote(ARRIVAL)}) overriding system value"
            f" select {columns}, null::xid8"
            f" from json_populate_recordset(null::{self._table}, $1::json) on conflict do nothing",
            entries["rows"],
        )
        return int(str(done).rpartition(" ")[2] or 0)

    async def require_same(self, transaction: Transaction, entries: Any) -> None:
        """See that those which are there are these.

        Raises:
            Conflict: one is another one.
        """
        row = ", ".join(f"t.{one}" for one in self._columns)
        other = await transaction.fetchval(
            f"select t.id from {self._table} t join unnest($2::bigint[], $3::bigint[]) as s (id, hash)"
            f" on t.id = s.id where t.tenant_id = $1 and hashtextextended(row({row})::text, 0) <> s.hash"
            " order by t.id limit 1",
            self._tenant,
            entries["ids"],
            entries["hashes"],
        )
        if other is not None:
            raise Conflict(
                f"Entry {other} of the audit trail is another one in the other database, so that nothing was "
                "brought there. `byodpp audit verify` tells where it was changed: put it back there, as the "
                "owner, and take the move up; or give it up with --abandon, unless it has switched"
            )


@asynccontextmanager
async def _passing(database: Database) -> AsyncIterator[Transaction]:
    async with database.system() as transaction:
        await transaction.be_patient(_LONGEST_SECONDS)
        await transaction.execute(_PASS)
        yield transaction


async def _piped(
    reading: Transaction, sql: str, writing: Transaction, table: sa.Table, columns: Sequence[str]
) -> int:
    """Let rows flow from one connection into the other; return how many arrived."""
    portions: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)

    async def arriving() -> AsyncIterator[bytes]:
        while (portion := await portions.get()) is not None:
            yield portion

    async def sent() -> None:
        await reading.connection.copy_from_query(
            sql, output=portions.put, format="binary", timeout=_LONGEST_SECONDS
        )
        await portions.put(None)

    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(sent())
            done = both.create_task(
                writing.connection.copy_to_table(
                    table.name,
                    schema_name=table.schema or "public",
                    source=arriving(),
                    columns=list(columns),
                    format="binary",
                    timeout=_LONGEST_SECONDS,
                )
            )
    except* DRIVER_ERRORS as errors:
        raise translate(errors.exceptions[0]) from errors
    return int(str(done.result()).rpartition(" ")[2] or 0)


async def _fill(
    reading: Transaction, writing: Transaction, table: sa.Table, column: str, tenant: int
) -> None:
    id, kind = _type(table, "id"), _type(table, column)
    sql = (
        f"select id::text as id, {quote(column)}::text as value from {_address(table)}"
        f" where tenant_id = {tenant:d} and {quote(column)} is not null"
    )
    update = (
        f"update {_address(table)} t set {quote(column)} = s.value::{kind}"
        f" from unnest($1::text[], $2::text[]) as s(id, value) where t.tenant_id = {tenant:d}"
        f" and t.id = s.id::{id}"
    )
    cursor = await reading.connection.cursor(sql, timeout=_LONGEST_SECONDS)
    while rows := await cursor.fetch(_AT_ONCE, timeout=_LONGEST_SECONDS):
        await writing.execute(update, [row["id"] for row in rows], [row["value"] for row in rows])


async def _digest(transaction: Transaction, table: sa.Table, which: str, tenant: int) -> list[str]:
    columns = ", ".join(f"t.{quote(one.name)}" for one in table.c if one.name not in _LOCAL)
    row = await transaction.connection.fetchrow(
        "select count(*)::text as rows,"
        " coalesce(sum(hashtextextended(r, 0)::numeric), 0)::text as first,"
        " coalesce(sum(hashtextextended(r, 1)::numeric), 0)::text as second"
        f" from (select row({columns})::text as r from {_address(table)} t where {which}) s",
        tenant,
        timeout=_LONGEST_SECONDS,
    )
    assert row is not None
    return [row["rows"], row["first"], row["second"]]


def _type(table: sa.Table, column: str) -> str:
    kind = table.c[column].type.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
    return str(kind).split(" COLLATE")[0]


def _address(table: sa.Table) -> str:
    return f"{quote(table.schema or 'public')}.{quote(table.name)}"
