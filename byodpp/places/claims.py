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

#: `age` counts from this transaction's id: only its own rows, and those of its savepoints, are not older.
#: What was written by SQL around this stage stays unconfirmed, and refuses nobody's next write.
_NEW: Final = (
    "update byodpp.platform_keys set confirmed = true where not confirmed and age(xmin) <= 0"
    " returning name, key, tenant_id"
)
_CLAIM: Final = (
    "insert into byodpp.platform_keys (name, key, tenant_id)"
    " select n, k, t from unnest($1::text[], $2::text[], $3::bigint[]) as u(n, k, t) on conflict do nothing"
)
_TAKEN: Final = (
    "select p.name from byodpp.platform_keys p join unnest($1::text[], $2::text[], $3::bigint[])"
    " as u(n, k, t) on p.name = u.n and p.key = u.k where p.tenant_id <> u.t limit 1"
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
        rows = await transaction.fetch(_NEW) if transaction.context.tenant_id >= 0 else []
        if not rows:
            return
        claimed = [[row[column] for row in rows] for column in ("name", "key", "tenant_id")]
        async with self._shared.system() as claiming:
            await claiming.execute(_CLAIM, *claimed)
        async with self._shared.system() as looking:
            taken = await looking.fetchval(_TAKEN, *claimed)
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
