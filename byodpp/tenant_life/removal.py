"""Every row of one tenant, deleted in an order that foreign keys allow.

In: the tables. Out: how many rows went. Where tables refer to each other in a circle, the
references that may be empty are emptied first.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from byodpp.database import Transaction
from byodpp.sql_text import quote
from byodpp.tables import Tables
from byodpp.tables.order import ordered
from byodpp.tenant_life.present import present_columns

__all__ = ["TenantRemoval"]

#: What stays of a tenant that was deleted: its trail, and that it writes nothing any more.
_KEPT = frozenset({"audit_logs", "audit_seals", "audit_heads", "audit_arrivals", "tenant_places"})
#: For one table's rows.
_LONGEST_SECONDS: Final = 3_600
#: What was said in them holds names and addresses of people.
_FORGET_PROCEDURES: Final = (
    "delete from byodpp.tenant_procedures where finished_at is not null"
    " and coalesce(given->>'tenant', done->'tenant'->>'id') = $1"
)
#: Lets the fences pass this transaction.
_PASS = "set local byodpp.moving = 'on'"


class TenantRemoval:
    """Knows the order, once for all tenants."""

    def __init__(self, tables: Tables) -> None:
        """Args:
        tables: of the application, the framework's own among them.
        """
        whose = [table for table in tables.metadata.tables.values() if "tenant_id" in table.c]
        self._order, self._circular = ordered(table for table in whose if table.name not in _KEPT)

    async def remove(self, transaction: Transaction, tenant: int) -> int:
        """Delete the tenant's rows, and then its own, and return how many there were.

        Args:
            transaction: passes row-level security.
            tenant: id of its row.
        """
        await transaction.be_patient(_LONGEST_SECONDS)
        await transaction.execute(_PASS)
        for reference in self._circular:
            present = await present_columns(transaction, _address(reference.table))
            emptied = [one.name for one in reference.columns if one.nullable and one.name in present]
            if emptied:
                values = ", ".join(f"{quote(name)} = null" for name in emptied)
                await transaction.execute(
                    f"update {_address(reference.table)} set {values} where tenant_id = $1", tenant
                )
        removed = await _delete(transaction, "grants", "grantee_id", tenant)
        for table in self._order:
            removed += await _delete(transaction, _address(table), "tenant_id", tenant)
        await transaction.execute(_FORGET_PROCEDURES, str(tenant))
        return removed + await _delete(transaction, "tenants", "id", tenant)


def _address(table: sa.Table) -> str:
    return quote(table.name) if table.schema is None else f"{quote(table.schema)}.{quote(table.name)}"


async def _delete(transaction: Transaction, table: str, column: str, tenant: int) -> int:
    done = await transaction.execute(f"delete from {table} where {quote(column)} = $1", tenant)
    return int(str(done).rpartition(" ")[2] or 0)
