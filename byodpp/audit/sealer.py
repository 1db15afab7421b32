"""Seals audit entries into the chain of their tenant, a second after their commit.

Ids of entries say nothing about the order of commits: one with a lower id may be committed
later. So the sealer goes by transactions. Each entry carries the id of the transaction that
wrote it; what is committed and not in the last *snapshot* (PostgreSQL's own record of what was
committed at a moment) has arrived since. Nothing is skipped, and nothing waits for a gap.

One process seals at a time, under an advisory lock; a pass is one transaction, so that a crash
leaves nothing half done and the next pass, of whichever process, goes on. Rejects nothing: while
the database is away there is nothing to seal.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from byodpp.array_text import array_text
from byodpp.audit.arrivals import (
    BY_ARRIVAL,
    IS_SEALED,
    Arrivals,
    again_sql,
    arrived_sql,
    come_ids_sql,
    come_sql,
    last_of,
)
from byodpp.audit.entries import SESSION
from byodpp.audit.reach import CHANGED, Reach, keep_reach, stored_reach
from byodpp.audit.seals import Head, Seal, SealKey
from byodpp.database import Database, Transaction
from byodpp.exceptions import ApiError
from byodpp.recurring import Recurring
from byodpp.registry import Registry
from byodpp.settings import Settings
from byodpp.settings.secret_key import application_secret
from byodpp.sql_text import quote
from byodpp.tables import Tables
from byodpp.tables.framework import ARRIVAL

__all__ = ["SEALING", "Sealer"]

_log: Final = logging.getLogger(__name__)

#: Entries of one pass, which is one transaction; more are sealed by the next, at once. Those that write
#: meanwhile are disturbed the less the shorter it is: measured in bench/PROFILE.md.
_ENTRIES: Final = 1_000
#: What is left after so many passes is a backlog. Its passes are larger, for each looks anew through the
#: whole of a transaction of which it seals a part.
_PASSES: Final = 10
_MOST_ENTRIES: Final = 5_000
#: Chains whose end is remembered, to notice at once when somebody has cut one back.
_MOST_REMEMBERED: Final = 10_000
#: The end of a chain is logged this often, so that a copy of it lies where the logs are kept.
_TOLD_SECONDS: Final = 600.0

#: The snapshot before everything: it shows no transaction at all.
_NOTHING: Final = "3:3:"
_FIRST_TRANSACTION: Final = "0"

#: The advisory lock that a process holds while it seals, as SQL.
SEALING: Final = "hashtextextended('byodpp audit sealer', 0)"
_LOCK: Final = f"select pg_try_advisory_xact_lock({SEALING})"
_WAIT: Final = f"select pg_advisory_xact_lock({SEALING})"
_NOW: Final = "select pg_current_snapshot()::text as snapshot, clock_timestamp() as moment"
#: When a seal was made last, at a time that can be, and how many there are.
_LAST: Final = (
    "select max(sealed_at) filter (where sealed_at between '0001-01-02' and clock_timestamp()) as last,"
    " count(*) as number from byodpp.audit_seals"
)
#: Numbers that a seal can have, with room for those that follow.
_COUNTED: Final = "between 0 and 4611686018427387904"
#: Where chains end: as is stored, and by their last seals, which SQL may have made to differ.
_HEADS: Final = (
    "select t.id as tenant_id, h.number, h.total, h.hash,"
    " s.number as last_number, s.total as last_total, s.hash as last_hash from unnest($1::bigint[]) t (id)"
    " left join byodpp.audit_heads h on h.tenant_id = t.id"
    f" and h.number {_COUNTED} and h.total {_COUNTED} and h.hash is not null"
    f" left join lateral (select s.number, case when s.total {_COUNTED} then s.total else 0 end as total,"
    " coalesce(s.hash, '') as hash from byodpp.audit_seals s"
    f" where s.tenant_id = t.id and s.number {_COUNTED} order by s.number desc limit 1) s on true"
)
_KEEP_HEADS: Final = (
    "insert into byodpp.audit_heads (tenant_id, number, total, hash)"
    " select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[])"
    " on conflict (tenant_id) do update"
    " set number = excluded.number, total = excluded.total, hash = excluded.hash"
)
_INSERT: Final = (
    "insert into byodpp.audit_seals (tenant_id, number, since, sealed_at, total, entries, digests, previous,"
    " hash, mac, key_id) values ($1, $2, $3, $4, $5, $6::text::bigint[], $7, $8, $9, $10, $11)"
)


class Sealer:
    """Makes the seals of all tenants of one database."""

    def __init__(self, database: Database, entries: sa.Table, key: SealKey, *, seconds: float = 1.0) -> None:
        """Args:
        database: sealed with its system role.
        entries: table of AuditLogs.
        key: makes the macs.
        seconds: between two passes.
        """
        self._database = database
        self._key = key
        self._arrived = arrived_sql(entries)
        self._come, self._come_ids = come_sql(entries), come_ids_sql(entries)
        self._again = again_sql(entries)
        self._table = quote(str(entries.name))
        self._ends: OrderedDict[int, int] = OrderedDict()  # tenant -> number of its last seal
        self._told: OrderedDict[int, float] = OrderedDict()  # tenant -> when its head was logged
        self.passes = Recurring(
            self._seal_all, seconds=seconds, log=_log, trouble="audit entries cannot be sealed for the moment"
        )

    @classmethod
    def of(cls, settings: Settings, registry: Registry, tables: Tables, database: Database) -> Sealer:
        """Return the sealer of an application, with a key that is derived from its secret."""
        key = SealKey.derived(application_secret(settings))
        return cls(database, tables[registry.get("AuditLogs")], key)

    async def start(self) -> None:
        """Seal from now on until `stop`."""
        self.passes.start()

    async def stop(self) -> None:
        """Seal what is there, then no more. Harmless when not started."""
        if await self.passes.stop():
            try:
                await self.seal()
            except ApiError as error:
                _log.warning("the last audit entries were left to the next start to seal: %s", error.message)

    async def seal(self, most: int | None = None) -> int:
        """Make one pass and return how many entries it sealed; 0 too while another process seals.

        Args:
            most: entries of the pass; None: as many as a pass ever seals.

        Raises:
            ApiError: the database could not do it; nothing was sealed then.
        """
        most = most or _MOST_ENTRIES
        async with self._database.system() as transaction:
            if not await transaction.fetchval(_LOCK):
                return 0
            reach = await stored_reach(transaction) or await self._first_reach(transaction)
            await transaction.execute(f"{SESSION}; {BY_ARRIVAL}")
            under_way = reach.target is not None
            if not under_way:
                now: Any = await transaction.fetchrow(_NOW)
                reach = replace(reach, target=now["snapshot"], target_at=now["moment"])
            found = await self._arrivals(transaction, reach, most)
            if found and await self._has_come_further(transaction, reach, found):
                await self._first_reach(transaction)
                return 0  # the next pass seals
            heads = await self._sealed(transaction, reach, found) if found else []
            if found or under_way:
                await keep_reach(transaction, _next(reach, found, most))
        self._note(heads)
        return _count(found)

    async def take_in(self, transaction: Transaction, tenant_id: int) -> int:
        """Seal entries of a tenant that came from another database; return how many.

        They are older than what was sealed here last, and their seals say so: they bear no earliest time.

        Args:
            transaction: of the system role.
            tenant_id: whose entries have come, without the mark of a transaction.
        """
        await transaction.execute(_WAIT)
        await transaction.execute(SESSION)
        taken, nothing = 0, Reach(sealed=_NOTHING, sealed_at=None)
        portions = transaction.stream(self._come_ids, tenant_id, _MOST_ENTRIES, first=1, bytes_at_once=1)
        async with aclosing(portions):
            async for [ids] in portions:
                records = await transaction.fetch(self._come, tenant_id, ids)
                found = [Arrivals.of(record) for record in records]
                self._note(await self._sealed(transaction, nothing, found))
                taken += _count(found)
        return taken

    async def _seal_all(self) -> None:
        for passes in itertools.count():
            most = _ENTRIES if passes < _PASSES else _MOST_ENTRIES
            if await self.seal(most) < most:
                return

    # --- what has arrived -----------------------------------------------------------------

    async def _arrivals(self, transaction: Transaction, reach: Reach, most: int) -> list[Arrivals]:
        """Return the next entries between both snapshots, in the order of their transactions."""
        after = _after(reach)
        records = await transaction.fetch(self._arrived, reach.sealed, reach.target, *after, most)
        return [Arrivals.of(record) for record in records]

    async def _has_come_further(
        self, transaction: Transaction, reach: Reach, found: Sequence[Arrivals]
    ) -> bool:
        """Tell, and say so, whether seals hold what is to be sealed only now: SQL has put the reach back."""
        tenants = [one.tenant_id for one in found]
        tenant = await transaction.fetchval(self._again, tenants, reach.sealed, *_after(reach))
        if tenant is not None:
            _log.error(CHANGED, extra={"sealed": reach.sealed, "target": reach.target, "tenant_id": tenant})
        return tenant is not None

    async def _first_reach(self, transaction: Transaction) -> Reach:
        """Begin: in a new database, in one that was restored into another cluster, or that was spoilt.

        In the other cluster the transaction ids of restored entries mean nothing: those that are sealed
        lose it, the others get this transaction's. The snapshot is taken before, so that nothing falls
        between.
        """
        now: Any = await transaction.fetchrow(_NOW)
        seals: Any = await transaction.fetchrow(_LAST)
        last = seals["last"]
        if not seals["number"]:
            sealed = _NOTHING
            await transaction.execute(
                f"update {self._table} set {ARRIVAL} = pg_current_xact_id()"
                f" where {ARRIVAL} is null or {ARRIVAL} > pg_current_xact_id()"
            )
        else:
            sealed = now["snapshot"]
            await transaction.execute(
                f"update {self._table} e set {ARRIVAL} = null"
                f" where {ARRIVAL} >= pg_snapshot_xmin($1::text::pg_snapshot) and {IS_SEALED}",
                sealed,
            )
            await transaction.execute(
                f"update {self._table} e set {ARRIVAL} = pg_current_xact_id() where not {IS_SEALED}"
            )
        await transaction.execute("delete from byodpp.audit_arrivals")
        await transaction.execute(
            "insert into byodpp.audit_arrivals (cluster, sealed, sealed_at)"
            " select system_identifier::text, $1, $2 from pg_control_system()",
            sealed,
            last,
        )
        return Reach(sealed=sealed, sealed_at=last)

    # --- seals ------------------------------------------------------------------------------

    async def _sealed(self, transaction: Transaction, reach: Reach, found: Sequence[Arrivals]) -> list[Head]:
        """Write a seal for each tenant that has entries; return the new ends of their chains."""
        records = await transaction.fetch(_HEADS, [one.tenant_id for one in found])
        heads = {record["tenant_id"]: _end(record) for record in records}
        self._compare(heads.values())
        now = await transaction.fetchval("select clock_timestamp()")
        ends, rows = [], []
        for one in found:
            head = heads[one.tenant_id]
            seal = Seal.after(head, one.entries, one.digests, since=reach.sealed_at, sealed_at=now)
            end = seal.head()
            ends.append(end)
            rows.append(
                (
                    seal.tenant_id, seal.number, seal.since, seal.sealed_at, seal.total,
                    array_text(seal.entries), seal.digests, seal.previous,
                    end.hash, self._key.mac(end.hash), self._key.id,
                )
            )  # fmt: skip
        await transaction.executemany(_INSERT, rows)
        columns = zip(*((end.tenant_id, end.number, end.total, end.hash) for end in ends), strict=True)
        await transaction.execute(_KEEP_HEADS, *map(list, columns))
        return ends

    def _compare(self, heads: Any) -> None:
        """Tell when a chain is shorter than it was."""
        for head in heads:
            known = self._ends.get(head.tenant_id, 0)
            if head.number < known:
                fields = {"tenant_id": head.tenant_id, "sealed": known, "found": head.number}
                _log.error("an audit chain was cut back: run `byodpp audit verify`", extra=fields)

    def _note(self, heads: Sequence[Head]) -> None:
        """Remember where chains end, and log it now and then."""
        now = time.monotonic()
        for head in heads:
            _remember(self._ends, head.tenant_id, head.number)
            if now - self._told.get(head.tenant_id, -_TOLD_SECONDS) >= _TOLD_SECONDS:
                _remember(self._told, head.tenant_id, now)
                fields = {"tenant_id": head.tenant_id, "number": head.number, "hash": head.hash.hex()}
                _log.info("audit chain", extra=fields)


def _end(record: Mapping[str, Any]) -> Head:
    """Return where a chain ends: as is stored, or with its last seal where that is something else.

    An end that is beyond the last seal stays: it tells that seals were taken out.
    """
    tenant, number = record["tenant_id"], record["number"]
    stored, last = (
        Head(tenant_id=tenant, **{name: record[f"{of}{name}"] for name in ("number", "total", "hash")})
        if record[f"{of}number"] is not None
        else Head(tenant_id=tenant)
        for of in ("", "last_")
    )
    if stored == last or stored.number > last.number:
        return stored
    fields = {"tenant_id": tenant, "sealed": last.number, "found": number}
    _log.error("byodpp.audit_heads was changed: run `byodpp audit verify`", extra=fields)
    return last


def _after(reach: Reach) -> tuple[str, int, int]:
    return reach.after_arrival or _FIRST_TRANSACTION, reach.after_tenant or 0, reach.after_entry or 0


def _count(found: Sequence[Arrivals]) -> int:
    return sum(len(one.entries) for one in found)


def _next(reach: Reach, found: Sequence[Arrivals], most: int) -> Reach:
    """Return the reach after some entries: at the target when there are no more of them."""
    if _count(found) < most:
        assert reach.target is not None
        return Reach(sealed=reach.target, sealed_at=reach.target_at)
    arrival, tenant, entry = last_of(found)
    return replace(reach, after_arrival=arrival, after_tenant=tenant, after_entry=entry)


def _remember(known: OrderedDict[int, Any], tenant: int, value: Any) -> None:
    known[tenant] = value
    known.move_to_end(tenant)
    if len(known) > _MOST_REMEMBERED:
        known.popitem(last=False)
