"""From a manifest and a database to a plan."""

from __future__ import annotations

import re
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from byodpp.migrations.catalog import read
from byodpp.migrations.difference import difference
from byodpp.migrations.plan import Plan
from byodpp.migrations.snapshot import ColumnState, Snapshot

if TYPE_CHECKING:
    import asyncpg

__all__ = ["newest_revision", "plan_for"]

#: Defaults that may be evaluated to compare them: literals with casts, never calls.
_CONSTANT: Final = re.compile(r"""(?:'(?:[^']|'')*'|-?\d+(?:\.\d+)?|true|false)(?:::[\w ."()\[\],]+)?""")


async def plan_for(
    wanted: Snapshot, connection: asyncpg.Connection[Any], *, framework: bool = True
) -> Plan:
    """Return the steps from the database as it is to the wanted one; nothing is changed.

    Args:
        wanted: made by `describe`.
        connection: of the owner role; its search path names the application's schema.
        framework: False compares the tables of that schema alone.
    """
    found = await read(connection, wanted.tables.keys())
    if not framework:
        here = {key: table for key, table in found.tables.items() if table.schema is None}
        found = replace(
            found,
            tables=MappingProxyType(here),
            functions=wanted.functions,
            collations=wanted.collations,
            usage=True,
        )
    found = await _with_equal_defaults(wanted, found, connection)
    return Plan(
        steps=difference(wanted, found),
        fingerprint=wanted.fingerprint,
        revision=await newest_revision(connection),
    )


async def newest_revision(connection: asyncpg.Connection[Any]) -> str | None:
    """Return the revision that Alembic has recorded, None for a fresh database."""
    if await connection.fetchval("select to_regclass('byodpp.alembic_version')") is None:
        return None
    found: str | None = await connection.fetchval("select version_num from byodpp.alembic_version")
    return found


async def _with_equal_defaults(
    wanted: Snapshot, found: Snapshot, connection: asyncpg.Connection[Any]
) -> Snapshot:
    """Return `found` with our own words for those defaults that mean the same."""
    pairs = [
        (key, column, old)
        for key, table in wanted.tables.items()
        if key in found.tables
        for name, column in table.columns.items()
        if (old := found.tables[key].columns.get(name)) is not None
        if column.default is not None and old.default is not None and column.default != old.default
        if _CONSTANT.fullmatch(old.default) and _CONSTANT.fullmatch(column.default)
    ]
    unequal = [pair for pair in pairs if not _same_literal(pair[1], pair[2])]
    same = dict.fromkeys((key, column.name) for key, column, _ in pairs)
    for (key, column, _), equal in zip(unequal, await _evaluated(unequal, connection), strict=True):
        if not equal:
            del same[key, column.name]
    tables = dict(found.tables)
    for key, name in same:
        columns = dict(tables[key].columns)
        columns[name] = replace(columns[name], default=wanted.tables[key].columns[name].default)
        tables[key] = replace(tables[key], columns=MappingProxyType(columns))
    return replace(found, tables=MappingProxyType(tables))


def _same_literal(column: ColumnState, old: ColumnState) -> bool:
    """Whether the database has only added a cast."""
    return column.default is not None and str(old.default).startswith(f"{column.default}::")


async def _evaluated(
    pairs: list[tuple[str, ColumnState, ColumnState]], connection: asyncpg.Connection[Any]
) -> list[bool]:
    """Let PostgreSQL say which defaults are the same value of the column's type."""
    if not pairs:
        return []
    terms = (
        f"(({column.default})::{column.type})::text"
        f" is not distinct from (({old.default})::{column.type})::text"
        if column.type == old.type
        else "false"
        for _, column, old in pairs
    )
    found: list[bool] = await connection.fetchval(f"select array[{', '.join(terms)}]")
    return found
