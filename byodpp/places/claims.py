"""Values that are unique in the platform, claimed by a tenant whose rows are in a database of its own.

A trigger there notes what a row claims; before the commit it is claimed in the database that all tenants
share, in a transaction of its own. Who comes second is refused as by an index. A claim whose row was never
committed, or has gone, stays the tenant's until it moves back to where all tenants are.

In: transactions of such a database. Out: nothing. May reject: UniqueConflict, and what the shared database
rejects; nothing was committed then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from byodpp.database import Database, Transaction
from byodpp.exceptions import Detail, UniqueConflict
from byodpp.places.fences import platform_keys
from byodpp.tables import StoredTable, Tables

__all__ = ["Claims"]

_NEW: Final = "update byodpp.platform_keys set confirmed = true where not confirmed returning name, key"
_CLAIM: Final = (
    "insert into byodpp.platform_keys (name, key, tenant_id)"
    " select n, k, $3 from unnest($1::text[], $2::text[]) as u(n, k) on conflict do nothing"
)
_TAKEN: Final = (
    "select p.name from byodpp.platform_keys p join unnest($1::text[], $2::text[]) as u(n, k)"
    " on p.name = u.n and p.key = u.k where p.tenant_id <> $3 limit 1"
)


class Claims:
    """Claims for one place."""

    def __init__(
        self,
        tables: Sequence[StoredTable],
        names: Tables,
        shared: Database,
    ) -> None:
        """Args:
        tables: whose values may be unique in the platform.
        names: tells the fields of a unique index.
        shared: where everybody's claims are.
        """
        self.any = any(True for stored in tables for _ in platform_keys(stored))
        self._names = names
        self._shared = shared

    async def confirm(self, transaction: Transaction) -> None:
        """Claim what a transaction's rows hold, before it commits.

        Raises:
            UniqueConflict: another tenant has one of the values.
        """
        tenant = transaction.context.tenant_id
        rows = await transaction.fetch(_NEW) if tenant >= 0 else []
        if not rows:
            return
        names, keys = [row["name"] for row in rows], [row["key"] for row in rows]
        async with self._shared.system() as claiming:
            await claiming.execute(_CLAIM, names, keys, tenant)
        async with self._shared.system() as looking:
            taken = await looking.fetchval(_TAKEN, names, keys, tenant)
        if taken is not None:
            raise self._refusal(taken)

    def _refusal(self, index: str) -> UniqueConflict:
        use = self._names.constraint(index)
        fields = () if use is None else use.fields
        told = " and ".join(fields)
        return UniqueConflict(
            f"A row with this {told} exists already.",
            details=[Detail(name, "unique", f"This {told} exists already.") for name in fields],
        )
