"""Rows that stand outside the bounds of their fields: a manifest has come to ask for more than it did.

In: the resources and a connection of the system role. Out: of each bound, how many living rows are outside
of it. No migration changes them: they are read as before, and refused when they are written. Reads whole
tables, each for a minute at most. A table that cannot be counted says so. May reject: MigrationError, when
there is no connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from byodpp.definitions import FieldDefinition, Kind, ResourceDefinition
from byodpp.exceptions import MigrationError, Problem
from byodpp.fields.numbers import exact
from byodpp.registry import Registry
from byodpp.sql_text import quote

__all__ = ["Outside", "rows_outside"]

#: A bound of the manifest, and the SQL of a column's value that is outside of it.
_BOUNDS: Final = {
    "minimum": "{0} < {1}",
    "maximum": "{0} > {1}",
    "exclusiveMinimum": "{0} <= {1}",
    "exclusiveMaximum": "{0} >= {1}",
    "minLength": "char_length({0}) < {1}",
    "maxLength": "char_length({0}) > {1}",
}
_NUMBERS: Final = frozenset({"integer", "bigint", "decimal", "float"})
_TEXTS: Final = frozenset({"string", "text"})
_PATIENCE: Final = "set statement_timeout = '60s'"
_COLUMNS: Final = "select table_name, column_name from information_schema.columns where table_schema = 'public'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Rows outside of one bound; or a table whose rows nobody has counted."""

    name: str  # `Products.price`, or `Products`
    bound: str = ""  # `minimum 0`
    rows: int = 0
    trouble: str = ""  # why they were not counted

    def __str__(self) -> str:
        """Return it in a sentence."""
        if self.trouble:
            return f"{self.name}: not counted ({self.trouble})"
        many = "1 row is" if self.rows == 1 else f"{self.rows:,} rows are"
        return f"{self.name}: {many} outside of {self.bound}: read as before, and refused when written"


async def rows_outside(registry: Registry, uri: str) -> AsyncIterator[Outside]:
    """Yield what stands outside, resource by resource, in the tables that all tenants share.

    Args:
        registry: the resources.
        uri: of the system role, before which row-level security hides nothing.

    Raises:
        MigrationError: that role cannot be connected.
    """
    try:
        connection = await asyncpg.connect(uri, timeout=10)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = f"the role that sees the rows of all tenants cannot be connected: {str(error) or type(error).__name__}"
        raise MigrationError([Problem("postgres_system_uri", reason, "Look at POSTGRES_SYSTEM_URI.")]) from error
    try:
        await connection.execute(_PATIENCE)
        there = {(row["table_name"], row["column_name"]) for row in await connection.fetch(_COLUMNS)}
        for resource in registry:
            bounds = [one for one in _bounds(resource) if (resource.table, one[0].column) in there]
            if resource.kind is not Kind.DATABASE or not bounds:
                continue
            try:
                numbers: Any = await connection.fetchrow(_counting(resource, bounds))
            except asyncpg.PostgresError as error:
                # A column whose type is still another one, as the plan says; or a table that is too large.
                yield Outside(name=resource.name, trouble=str(error))
                continue
            for (field, word, _), number in zip(bounds, numbers, strict=True):
                if number:
                    bound = f"{word} {field.constraints[word]}"
                    yield Outside(name=f"{resource.name}.{field.name}", bound=bound, rows=number)
    finally:
        await connection.close(timeout=10)


def _bounds(resource: ResourceDefinition) -> Iterator[tuple[FieldDefinition, str, str]]:
    """Yield each bound that SQL can look at: the field, its word, and the condition of being outside."""
    for field in resource.fields.values():
        counted = field.type.name in _NUMBERS or field.type.name in _TEXTS
        if field.implied or field.encrypted or not counted:
            continue
        for word, outside in _BOUNDS.items():
            if (value := field.constraints.get(word)) is not None:
                yield field, word, outside.format(quote(field.column), exact(value))


def _counting(resource: ResourceDefinition, bounds: list[tuple[FieldDefinition, str, str]]) -> str:
    numbers = ", ".join(f"count(*) filter (where {outside})" for _, _, outside in bounds)
    living = " where deleted_at is null" if resource.soft_delete else ""
    return f"select {numbers} from {quote(resource.table)}{living}"
