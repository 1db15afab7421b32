"""Which columns a table has where a tenant is: a place that is behind lacks what the manifest has got."""

from __future__ import annotations

from typing import Final

from byodpp.database import Transaction

__all__ = ["present_columns"]

_PRESENT: Final = (
    "select attname from pg_attribute where attrelid = to_regclass($1) and attnum > 0 and not attisdropped"
)


async def present_columns(transaction: Transaction, table: str) -> frozenset[str]:
    """Return the names of a table's columns; empty where there is no such table.

    Args:
        transaction: looks for tables where the tenant is.
        table: its name as SQL.
    """
    return frozenset(row["attname"] for row in await transaction.fetch(_PRESENT, table))
