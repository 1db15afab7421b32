"""Values that are unique in the platform, claimed by a tenant whose rows are in a database of its own.

A trigger there notes what a row claims; before the commit it is claimed in the database that all tenants
share, in a transaction of its own. Who comes second is refused as by an index. A claim whose row was never
committed, or has gone, is given back when it has been without a row for a while.

In: transactions of such a database. Out: nothing. May reject: UniqueConflict, and what the shared database
rejects; nothing was committed then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
_OF: Final = "select name, key from byodpp.platform_keys where tenant_id = $1"
_GIVE_BACK: Final = (
    "delete from byodpp.platform_keys p using unnest($1::text[], $2::text[]) as u(n, k)"
    " where p.name = u.n and p.key = u.k and p.tenant_id = $3"
)
#: No transaction of ours lives that long between its claim and its commit.
_PATIENCE_SECONDS: Final = 600.0


class Claims:
    """Claims for one place."""

    def __init__(
        self,
        tables: Sequence[StoredTable],
        names: Tables,
        shared: Database,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        tables: whose values may be unique in the platform.
        names: tells the fields of a unique index.
        shared: where everybody's claims are.
        clock: monotonic seconds.
        """
        self.any = any(True for stored in tables for _ in platform_keys(stored))
        self._names = names
        self._shared = shared
        self._clock = clock
        self._without_row: dict[tuple[str, str], float] = {}  # since when

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

    async def give_back(self, place: Database, tenant: int) -> int:
        """Give back claims that have had no row for a while; return how many."""
        async with self._shared.system() as transaction:
            claimed = {(row["name"], row["key"]) for row in await transaction.fetch(_OF, tenant)}
        async with place.system() as transaction:
            held = {(row["name"], row["key"]) for row in await transaction.fetch(_OF, tenant)}
        now = self._clock()
        self._without_row = {one: self._without_row.get(one, now) for one in claimed - held}
        ended = [one for one, since in self._without_row.items() if now - since > _PATIENCE_SECONDS]
        if ended:
            async with self._shared.system() as transaction:
                await transaction.execute(
                    _GIVE_BACK, [name for name, _ in ended], [key for _, key in ended], tenant
                )
        return len(ended)

    def _refusal(self, index: str) -> UniqueConflict:
        use = self._names.constraint(index)
        fields = () if use is None else use.fields
        told = " and ".join(fields)
        return UniqueConflict(
            f"A row with this {told} exists already.",
            details=[Detail(name, "unique", f"This {told} exists already.") for name in fields],
        )
