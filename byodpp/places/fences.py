"""What keeps a tenant's rows in one place: triggers that refuse writes elsewhere, and keys unique everywhere.

A process that has not yet heard of a move would write where the tenant is no more. So the tables
themselves refuse it: as long as a tenant is not served by the shared tables, they take no row of it, and
while it moves, neither does its place. Making such a trigger waits for the writers that are under way, so
that what comes after it finds everything they have committed. Values that are unique in the whole platform
are claimed in one table, `byodpp.platform_keys`, from the day on which there is a first place. A fence is
made from where all tenants are, so that whoever makes one, or changes where a tenant is, does it alone.

In: connections of the owner role, and where the tenants are. Everything may be called again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from byodpp.exceptions import MigrationError
from byodpp.places.building import patiently
from byodpp.places.placement import Located
from byodpp.sql_text import quote, quote_text
from byodpp.tables import StoredTable
from byodpp.tables.framework import NUMBER

if TYPE_CHECKING:
    import asyncpg
    import sqlalchemy as sa

    from byodpp.database import Transaction

__all__ = ["be_alone", "be_alone_in", "claim_keys", "hold", "hold_one", "platform_keys", "takes_moving"]

_ALONE: Final = "hashtextextended('byodpp places', 0)"
_PATIENCE_SECONDS: Final = 45.0
_PAUSE_SECONDS: Final = 0.1
_SHARED: Final = "public"
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_GATE: Final = "byodpp_gate"
_CLAIM: Final = "byodpp_claim"
#: Says in a comment what a gate holds, so that one that holds just that is left alone.
_GATES: Final = f"""
    select n.nspname || '.' || c.relname as at, obj_description(t.oid, 'pg_trigger') as holds
    from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
    where t.tgname = '{_GATE}'
"""
_IS_THERE: Final = "select to_regclass($1) is not null"
_CLAIMS: Final = f"""
    select n.nspname || '.' || c.relname as at, t.tgname as name
    from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
    where t.tgname like '{_CLAIM}%'
"""


async def be_alone_in(transaction: Transaction) -> None:
    """Let nobody else change where tenants are, or what their tables refuse, until the transaction ends.

    What is known of the places before may be old: look afterwards.

    Raises:
        MigrationError: somebody else does, all the time.
    """
    await _alone(transaction, f"select pg_try_advisory_xact_lock({_ALONE})")


async def be_alone(connection: asyncpg.Connection[Any]) -> None:
    """The same, until the connection is closed."""
    await _alone(connection, f"select pg_try_advisory_lock({_ALONE})")


async def _alone(asked: Any, sql: str) -> None:
    clock = asyncio.get_running_loop().time
    deadline = clock() + _PATIENCE_SECONDS
    while not await asked.fetchval(sql):
        if clock() > deadline:
            raise MigrationError("Another tenant is being moved, or places are being migrated: try again.")
        await asyncio.sleep(_PAUSE_SECONDS)


async def hold(
    connection: asyncpg.Connection[Any],
    tables: Sequence[StoredTable],
    located: Iterable[Located],
    *,
    further: Sequence[StoredTable] = (),
    spared: Mapping[str, str] = _NOTHING,
) -> None:
    """Let each tenant write where it is served, and nowhere while it moves.

    Args:
        connection: of the owner.
        tables: that schemas of tenants have.
        located: every tenant's.
        further: tables that only databases of tenants have.
        spared: by full name of a table, rows that it takes of everybody who is there (`staying`).
    """
    located = sorted(located, key=lambda one: one.tenant_id)
    away = ",".join(str(one.tenant_id) for one in located if one.shut_out)
    wanted = {(_SHARED, one.table.name): away for one in tables}
    away = ",".join(str(one.tenant_id) for one in located if one.shut_out_of_all)
    gone = ",".join(str(one.tenant_id) for one in located if one.state == "gone")
    wanted |= {_at(one): gone if takes_moving(one.table) else away for one in further}
    if gone:  # of who is no more nothing is taken anywhere: it would be there for good
        living = f"{{row}}tenant_id <> all('{{{{{gone}}}}}'::bigint[])"
        spared = {table: f"({rows} and {living})" for table, rows in spared.items()}
    lacking = set()  # schemas that may lack tables
    for place in located:
        if (
            place.tier == "schema"
            and place.schema is not None
            and (not place.behind or place.state == "gone")
        ):
            if place.behind:
                lacking.add(place.schema)
            held = str(place.tenant_id) if place.held else ""
            wanted |= {(place.schema, one.table.name): held for one in tables}
    await _gates(connection, wanted, lacking, spared)


async def hold_one(
    connection: asyncpg.Connection[Any],
    tables: Sequence[StoredTable],
    tenant: int,
    *,
    held: bool,
    for_good: bool = False,
) -> None:
    """Let tables of a tenant's own database refuse its writes, or take them again.

    Those who have lived there before are refused as they were.

    Args:
        connection: of the owner of that database.
        tables: all that have rows of it.
        tenant: its id.
        held: whether it is refused.
        for_good: it is deleted, and not on its way: then nothing of it is taken.
    """
    present = {row["at"]: row["holds"] or "" for row in await connection.fetch(_GATES)}
    wanted = {}
    for one in tables:
        ids = {int(id) for id in present.get(".".join(_at(one)), "").split(",") if id}
        refused = held and (for_good or not takes_moving(one.table))
        ids = ids | {tenant} if refused else ids - {tenant}
        wanted[_at(one)] = ",".join(map(str, sorted(ids)))
    await _gates(connection, wanted)


def takes_moving(table: sa.Table) -> bool:
    """Whether a table takes rows of a tenant that moves: revocations, which hold wherever they are written.

    Whoever is to be locked out must not have to be waited for. They are brought along before the move ends.
    """
    return NUMBER in table.c


def _at(stored: StoredTable) -> tuple[str, str]:
    """Return schema and name of a table, where all tenants have it."""
    return stored.table.schema or _SHARED, stored.table.name


async def _gates(
    connection: asyncpg.Connection[Any],
    wanted: Mapping[tuple[str, str], str],
    lacking: Collection[str] = (),
    spared: Mapping[str, str] = _NOTHING,
) -> None:
    present = {row["at"]: row["holds"] or "" for row in await connection.fetch(_GATES)}
    for (schema, name), tenants in wanted.items():
        free = spared.get(f"{schema}.{name}") if tenants else None
        holds = tenants if free is None else f"{tenants} but {free}"
        if present.get(f"{schema}.{name}", "") != holds:
            address = f"{schema}.{quote(name)}"
            if schema not in lacking or await connection.fetchval(_IS_THERE, address):
                await _gate(connection, address, tenants, free, holds)


async def _gate(
    connection: asyncpg.Connection[Any], table: str, tenants: str, free: str | None, holds: str
) -> None:
    # A gate that holds nobody any more stays: dropping it would wait for the readers of the table, and keep
    # new ones out, where making it anew waits for writers alone.
    statements = []
    for name, events, row in ((_GATE, "insert or update", "new"), (f"{_GATE}_delete", "delete", "old")):
        but = "" if free is None else f" and not {free.format(row=f'{row}.')}"
        statements.append(
            f"create or replace trigger {name} before {events} on {table} for each row"
            f" when ({row}.tenant_id = any('{{{tenants}}}'::bigint[]){but})"
            " execute function byodpp.refuse_moving()"
        )
    statements.append(f"comment on trigger {_GATE} on {table} is {quote_text(holds)}")

    await patiently(lambda: _all(connection, statements))


async def claim_keys(
    connection: asyncpg.Connection[Any],
    dedicated: Sequence[StoredTable],
    located: Iterable[Located],
    *,
    further: Sequence[StoredTable] = (),
) -> None:
    """Keep unique in all places what is unique in the platform; nothing to do before there is a place.

    Args:
        connection: of the owner.
        dedicated: tables that schemas of tenants have.
        located: every tenant's.
        further: tables that only databases of tenants have.
    """
    located = list(located)
    if not any(one.place is not None for one in located):
        return
    places = [one.schema for one in located if one.schema is not None and not one.behind]
    present = {(row["at"], row["name"]) for row in await connection.fetch(_CLAIMS)}
    for stored in (*dedicated, *further):
        for number, (index, columns, live) in enumerate(platform_keys(stored)):
            name = f"{_CLAIM}_{number}_{index[-8:]}"
            for schema in (_SHARED, *(places if stored in dedicated else ())):
                if (f"{schema}.{stored.table.name}", name) not in present:
                    address = f"{schema}.{quote(stored.table.name)}"
                    statements = list(_claim(address, name, index, columns, live))  # tried more than once
                    await patiently(lambda statements=statements: _all(connection, statements))


async def _all(connection: asyncpg.Connection[Any], statements: Sequence[str]) -> None:
    async with connection.transaction():
        for statement in statements:
            await connection.execute(statement)


def platform_keys(stored: StoredTable) -> Iterator[tuple[str, list[str], bool]]:
    """Yield index, columns, and whether deleted rows are left out, of what is unique whoever has it."""
    for index in sorted(stored.table.indexes, key=lambda one: str(one.name)):
        columns = [str(column.name) for column in index.columns]
        if index.unique and "tenant_id" not in columns:
            where = index.dialect_options["postgresql"]["where"]
            yield str(index.name), columns, where is not None


def _claim(table: str, name: str, index: str, columns: list[str], live: bool) -> Iterator[str]:
    """Yield what lets a table claim its keys: those of its rows, then those of every change."""
    names, word = "{" + ",".join(f'"{one}"' for one in columns) + "}", "live" if live else ""
    key = f"byodpp.platform_key(to_jsonb(t), {quote_text(names)}, {live})"
    yield f"drop trigger if exists {name} on {table}"
    yield (
        f"create trigger {name} after insert or update or delete on {table} for each row"
        f" execute function byodpp.claim_key({quote_text(index)}, {quote_text(names)}, {quote_text(word)})"
    )
    # Forced policies would hide the rows from their owner.
    yield f"alter table {table} no force row level security"
    yield "alter table byodpp.platform_keys no force row level security"
    yield (
        "insert into byodpp.platform_keys (name, key, tenant_id)"
        f" select {quote_text(index)}, {key}, t.tenant_id from {table} t where {key} is not null"
        " on conflict do nothing"
    )
    yield f"alter table {table} force row level security"
    yield "alter table byodpp.platform_keys force row level security"
