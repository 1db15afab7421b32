"""Of which tables, rows, and columns a tenant's own database has copies. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import postgresql

from byodpp.definitions import Scope
from byodpp.sql_text import quote
from byodpp.tables import StoredTable, Tables
from byodpp.tables.order import ordered

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["Copied", "copied_tables", "is_copied"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A table of which a place has copies."""

    table: sa.Table
    scope: Scope
    columns: tuple[str, ...]
    emptied: frozenset[str]  # columns that refer to rows of which there is no copy

    @property
    def name(self) -> str:
        """Its name as SQL."""
        return quote(self.table.name)

    @property
    def key_type(self) -> str:
        """The type of its ids as SQL."""
        kind = self.table.c.id.type.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
        return str(kind).split(" COLLATE")[0]

    def rows(self, tenants: Sequence[int]) -> str:
        """Return, as SQL, which of its rows are copied for these tenants."""
        if self.scope is Scope.LIBRARY:
            return "tenant_id = 0"
        if self.scope is Scope.SELF:
            return f"id in ({', '.join(str(int(id)) for id in (0, *tenants))})"
        return "true"

    def values(self) -> str:
        """Return, as SQL, the columns as they are copied."""
        return ", ".join(
            f"null as {quote(one)}" if one in self.emptied else quote(one) for one in self.columns
        )


def is_copied(stored: StoredTable) -> bool:
    """Whether a place has rows of a table that it does not own."""
    return bool(stored.resources) and stored.resource.scope in (Scope.SHARED, Scope.LIBRARY, Scope.SELF)


def copied_tables(tables: Tables) -> tuple[Copied, ...]:
    """Return the tables of which places have copies, those referred to first."""
    stored = {one.table.key: one for one in tables.stored if is_copied(one)}
    order, _ = ordered(one.table for one in stored.values())
    return tuple(_copied(stored[table.key], stored.keys()) for table in reversed(order))


def _copied(stored: StoredTable, present: Any) -> Copied:
    emptied = {
        str(column.name)
        for reference in stored.table.foreign_key_constraints
        if reference.referred_table.key not in present or stored.resource.scope is Scope.SELF
        for column in reference.columns
        if column.nullable and reference.referred_table.key not in (present - {stored.table.key})
    }
    names = tuple(str(column.name) for column in stored.table.c if column.computed is None)
    return Copied(table=stored.table, scope=stored.resource.scope, columns=names, emptied=frozenset(emptied))
