"""Bringing copied rows into a tenant's own database, also those that have exchanged unique values.

In: transactions of the system role in both databases, and ids of rows. May reject: what the place rejects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

import sqlalchemy as sa

from byodpp.database import Transaction
from byodpp.places.copied import Copied
from byodpp.places.portions import portions
from byodpp.sql_text import quote

__all__ = ["bring", "exchangeable"]

#: Whether rows that refer to a table would go, or lose their reference, with what they refer to.
_TAKES_ALONG: Final = (
    "select exists (select from pg_constraint where contype = 'f' and confrelid = $1::regclass"
    " and confdeltype in ('c', 'n', 'd'))"
)


async def bring(
    source: Transaction, target: Transaction, one: Copied, ids: Sequence[str], *, anew: bool = False
) -> None:
    """Write rows that are new or have changed.

    Args:
        source: reads them.
        target: writes them.
        one: their table.
        ids: of the rows.
        anew: no two of them are to be in each other's way. The copies are deleted and made again within one
            statement, at whose end it is looked at what refers to them; where that would go along, they give
            up their unique values first.
    """
    some = await _portions(source, one, ids)
    if anew and (len(some) > 1 or await target.fetchval(_TAKES_ALONG, f"public.{one.name}")):
        await _park(target, one, ids)
        anew = False
    columns = ", ".join(map(quote, one.columns))
    values = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in one.columns if name != "id")
    rows = f"select {columns} from json_populate_recordset(null::{one.name}, $1::json)"
    if anew:
        which = f"id = any($2::text[]::{one.key_type}[])"
        await target.execute(
            f"with gone as (delete from {one.name} where {which} returning id)"
            f" insert into {one.name} ({columns}) overriding system value {rows}"
            " where (select count(*) from gone) >= 0",
            await _rows(source, one, ids, one.values()),
            list(ids),
        )
        return
    for portion in some:
        await target.execute(
            f"insert into {one.name} ({columns}) overriding system value {rows}"
            f" on conflict (id) do update set {values}",
            await _rows(source, one, portion, one.values()),
        )


async def exchangeable(
    source: Transaction, target: Transaction, one: Copied, ids: Sequence[str]
) -> list[str]:
    """Return the rows, of some that do not fit one by one, that fit together.

    Those are the rows whose new unique values are held by others of them, or by nobody.
    """
    if not ids:
        return []
    unique, holders = list(_unique(one)), dict[str, set[str]]()
    found = await _rows(source, one, ids, ", ".join(dict.fromkeys(["id", *chain.from_iterable(unique)])))
    for columns in unique:
        same = " and ".join(f"t.{name} = n.{name}" for name in columns)
        rows = await target.fetch(
            "select n.id::text as id, t.id::text as holder"
            f" from json_populate_recordset(null::{one.name}, $1::json) n"
            f" join {one.name} t on {same} and t.id <> n.id",
            found,
        )
        for row in rows:
            holders.setdefault(row["id"], set()).add(row["holder"])
    together = set(ids)
    while stuck := {id for id in together if not holders.get(id, set()) <= together}:
        together -= stuck
    return [id for id in ids if id in together]


async def _park(target: Transaction, one: Copied, ids: Sequence[str]) -> None:
    """Let copies give up their unique values, for nothing or for values of chance."""
    parked = {}
    for columns in (index.columns for index in one.table.indexes if index.unique):
        column = next(column for column in columns if column.name != "tenant_id")
        parked[quote(column.name)] = "null" if column.nullable else _by_chance(column)
    values = ", ".join(f"{name} = {value}" for name, value in parked.items())
    await target.execute(
        f"update {one.name} set {values} where id = any($1::text[]::{one.key_type}[])", list(ids)
    )


def _by_chance(column: sa.Column[Any]) -> str:
    """Return, as SQL, a value that no other row has; its own, where the type has none of chance."""
    if isinstance(column.type, sa.String):
        return f"left(md5(random()::text || id::text), {column.type.length or 32})"
    if isinstance(column.type, sa.Uuid):
        return "gen_random_uuid()"
    if isinstance(column.type, sa.Integer):
        return "(random() * 2147483647)::int"
    return quote(column.name)


def _unique(one: Copied) -> Iterator[list[str]]:
    """Yield the columns of each unique key but the primary one, as SQL."""
    for index in one.table.indexes:
        if index.unique:
            yield [quote(column.name) for column in index.columns]


async def _portions(source: Transaction, one: Copied, ids: Sequence[str]) -> list[list[str]]:
    """Return ids of rows in the order of the rows, as many at a time as fit into memory."""
    rows = await source.fetch(
        f"select s.id::text as id, octet_length(row_to_json(s)::text) as size from (select {one.values()}"
        f" from {one.name} where id = any($1::text[]::{one.key_type}[]) order by id) s",
        list(ids),
    )
    return list(portions((row["id"], row["size"]) for row in rows))


async def _rows(source: Transaction, one: Copied, ids: Sequence[str], values: str) -> Any:
    """Return rows as a JSON array: as a text, for jsonb holds none of 256 MB."""
    return await source.fetchval(
        f"select json_agg(row_to_json(s))::text from (select {values} from {one.name}"
        f" where id = any($1::text[]::{one.key_type}[])) s",
        list(ids),
    )
