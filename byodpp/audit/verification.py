"""Verifies a tenant's chain of seals: what is sealed, what is not yet, and the first break.

In: a connection that sees every tenant's rows, in a transaction that sees one state of them. Out:
a Verdict per tenant. Hashes are made here, from the texts of the rows. Rejects nothing: whatever
somebody has done to the rows is a Break.

What is found: an entry changed, deleted, put in later, or dated back; a seal changed, taken out, or
put in; a tail cut off, as far as a later end of the chain is known: from `byodpp.audit_heads`, or
from a copy kept elsewhere.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from byodpp.audit.entries import SESSION, columns_of, digest, texts_sql
from byodpp.audit.reach import is_snapshot
from byodpp.audit.seals import Head, Seal, SealKey
from byodpp.sql_text import quote
from byodpp.tables.framework import ARRIVAL

if TYPE_CHECKING:
    import asyncpg

__all__ = ["Break", "Verdict", "heads", "verify"]

#: No transaction of ours lives that long: an entry that claims to be older than what was sealed before
#: it, by more than this, was dated back.
_LONGEST_TRANSACTION: Final = timedelta(minutes=10)

_UNKNOWN_AFTER: Final = "the seal's key is not known here, though that of the seals before it is"
_TENANTS: Final = (
    "select tenant_id from byodpp.audit_seals union select tenant_id from byodpp.audit_heads"
    " union select tenant_id from {table} order by 1"
)
#: Of a seal, beside its times.
_OF_SEALS: Final = ("tenant_id", "number", "total", "entries", "digests", "previous", "hash", "mac", "key_id")
#: Times that Python can read; PostgreSQL has others, and somebody may have written one.
_READABLE: Final = "{0} between '0001-01-02' and '9999-12-30'"
#: A time as it is; one that cannot be read as `-infinity`, which no seal of ours has.
_TIME: Final = f"case when {{0}} is null or {_READABLE} then {{0}} else '-infinity' end as {{0}}"
_SEALS: Final = (
    f"select {', '.join((*_OF_SEALS, _TIME.format('since'), _TIME.format('sealed_at')))}"
    " from byodpp.audit_seals where tenant_id = $1 order by number"
)
_HEAD: Final = (
    "select tenant_id, coalesce(number, 0) as number, coalesce(total, 0) as total, coalesce(hash, '') as hash"
    " from byodpp.audit_heads where tenant_id = $1"
)
_HEADS: Final = "select tenant_id, number, total, hash from byodpp.audit_heads order by 1"
_SNAPSHOT: Final = (
    "select a.sealed from byodpp.audit_arrivals a, pg_control_system() c"
    " where a.cluster = c.system_identifier::text"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The first thing in a chain that is not as it was sealed."""

    reason: str
    seal: int | None = None  # number
    entry: int | None = None  # id of an AuditLogs row


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is known of one tenant's chain."""

    tenant_id: int
    seals: int = 0  # that hold
    entries: int = 0  # that are sealed by those
    first_sealed_at: datetime | None = None
    last_sealed_at: datetime | None = None
    unsealed: int = 0  # entries that wait for the sealer
    unsealed_since: datetime | None = None  # when the oldest of them was written
    unknown_keys: frozenset[str] = frozenset()  # ids of keys whose macs could not be checked
    broken: Break | None = None

    @property
    def intact(self) -> bool:
        """Whether everything that was sealed is as it was."""
        return self.broken is None


async def heads(connection: asyncpg.Connection[Any]) -> list[Head]:
    """Return where every chain ends, to be kept elsewhere."""
    return [Head(**dict(record)) for record in await connection.fetch(_HEADS)]


async def verify(
    connection: asyncpg.Connection[Any],
    table: sa.Table,
    keys: Iterable[SealKey],
    *,
    tenant_id: int | None = None,
    known: Iterable[Head] = (),
) -> list[Verdict]:
    """Verify the chains of all tenants, or of one.

    Args:
        connection: of the system role, in no transaction.
        table: of AuditLogs.
        keys: whose macs can be checked.
        tenant_id: None is all.
        known: ends of chains that were seen earlier and kept elsewhere.
    """
    ends = {head.tenant_id: head for head in known}
    async with _one_state(connection):
        if tenant_id is not None:
            tenants = [tenant_id]
        else:
            records = await connection.fetch(_TENANTS.format(table=quote(str(table.name))))
            tenants = sorted({record["tenant_id"] for record in records} | set(ends))
        by_id = {key.id: key for key in keys}
        return [
            await _Chain(connection, table, by_id, tenant, ends.get(tenant)).verdict() for tenant in tenants
        ]


@asynccontextmanager
async def _one_state(connection: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(SESSION)
        yield


def _hash_of(seal: Seal) -> bytes | None:
    """Return the hash of a seal; None where it holds a time that no seal of ours has, as `-infinity` is."""
    try:
        return seal.hash()
    except (ValueError, OverflowError):
        return None


class _Broken(Exception):
    def __init__(self, reason: str, *, seal: int | None = None, entry: int | None = None) -> None:
        super().__init__(reason)
        self.found = Break(reason=reason, seal=seal, entry=entry)


class _Chain:
    """One tenant's chain, as far as it has been walked."""

    def __init__(
        self,
        connection: asyncpg.Connection[Any],
        table: sa.Table,
        keys: Mapping[str, SealKey],
        tenant: int,
        known: Head | None,
    ) -> None:
        self._connection = connection
        self._name = quote(str(table.name))
        self._columns = columns_of(table)
        self._keys = keys
        self._tenant = tenant
        self._known = known
        self._verdict = Verdict(tenant_id=tenant)
        self._last = Head(tenant_id=tenant)
        self._proven = False  # whether the mac of a seal was checked

    async def verdict(self) -> Verdict:
        try:
            async for record in self._connection.cursor(_SEALS, self._tenant, prefetch=20):
                await self._check_seal(record)
            await self._check_end()
            await self._look_for_the_unsealed()
        except _Broken as broken:
            return replace(self._verdict, broken=broken.found)
        return self._verdict

    # --- seals ------------------------------------------------------------------------------

    async def _check_seal(self, record: Any) -> None:
        seal, number = Seal.of(record), record["number"]
        expected = self._last.number + 1
        if number != expected:
            raise _Broken(f"seal {expected} is missing", seal=expected)
        if seal.previous != self._last.hash:
            raise _Broken("the seal does not follow the one before it", seal=number)
        if any(record[name] is None for name in _OF_SEALS) or _hash_of(seal) != record["hash"]:
            raise _Broken("the seal was changed", seal=number)
        self._check_mac(record)
        if seal.total != self._last.total + len(seal.entries):
            raise _Broken("the seal's total was changed", seal=number)
        await self._check_entries(seal)
        self._check_known(seal)
        self._last = seal.head()
        self._verdict = replace(
            self._verdict,
            seals=number,
            entries=seal.total,
            first_sealed_at=self._verdict.first_sealed_at or seal.sealed_at,
            last_sealed_at=seal.sealed_at,
        )

    def _check_mac(self, record: Any) -> None:
        key = self._keys.get(record["key_id"])
        if key is None and self._proven:
            # A key is exchanged for another one, and never for one from before.
            raise _Broken(_UNKNOWN_AFTER, seal=record["number"])
        if key is None:
            unknown = self._verdict.unknown_keys | {record["key_id"]}
            self._verdict = replace(self._verdict, unknown_keys=unknown)
        elif not hmac.compare_digest(key.mac(record["hash"]), record["mac"]):
            raise _Broken("the seal was not made by this application", seal=record["number"])
        else:
            self._proven = True

    async def _check_entries(self, seal: Seal) -> None:
        sql = (
            f"select id, created_at < $3::timestamptz as dated_back, {texts_sql(self._columns)} as texts"
            f" from {self._name} where tenant_id = $1 and id = any($2::bigint[])"
        )
        earliest = None if seal.since is None else seal.since - _LONGEST_TRANSACTION
        records = await self._connection.fetch(sql, self._tenant, seal.entries, earliest)
        rows = {record["id"]: record for record in records}
        for place, entry in enumerate(seal.entries):
            row = rows.get(entry)
            if row is None:
                raise _Broken("the entry was deleted", seal=seal.number, entry=entry)
            if digest(self._columns, row["texts"]) != seal.digest_of(place):
                raise _Broken("the entry was changed", seal=seal.number, entry=entry)
            if row["dated_back"]:
                raise _Broken("the entry is dated back", seal=seal.number, entry=entry)

    def _check_known(self, seal: Seal) -> None:
        known = self._known
        if known is not None and known.number == seal.number and known.hash != seal.hash():
            raise _Broken("the chain is another one than was known", seal=seal.number)

    async def _check_end(self) -> None:
        """Compare the end with those that are known: nobody can cut off what somebody remembers."""
        record = await self._connection.fetchrow(_HEAD, self._tenant)
        stored = Head(**dict(record)) if record is not None else Head(tenant_id=self._tenant)
        for head in (self._known, stored):
            if head is not None and head.number > self._last.number:
                missing = head.number - self._last.number
                raise _Broken(f"the last {missing} of {head.number} seals are missing", seal=head.number)
        if stored != self._last:
            raise _Broken("the stored end of the chain is not its end", seal=self._last.number)

    # --- entries without a seal -------------------------------------------------------------

    async def _look_for_the_unsealed(self) -> None:
        snapshot = await self._connection.fetchval(_SNAPSHOT)
        if snapshot is not None and not is_snapshot(snapshot):
            raise _Broken("what tells how far was sealed is no snapshot")
        passed = f"({ARRIVAL} is null or pg_visible_in_snapshot({ARRIVAL}, $2::text::pg_snapshot))"
        sql = (
            f"select count(*) as number,"
            f" min(created_at) filter (where {_READABLE.format('created_at')}) as oldest,"
            f" min(id) filter (where $2::text is not null and {passed}) as stray"
            f" from {self._name} e where tenant_id = $1 and not exists (select from"
            " (select unnest(entries) as id from byodpp.audit_seals where tenant_id = $1) s"
            " where s.id = e.id)"
        )
        found: Any = await self._connection.fetchrow(sql, self._tenant, snapshot)
        self._verdict = replace(self._verdict, unsealed=found["number"], unsealed_since=found["oldest"])
        if found["stray"] is not None:
            raise _Broken("the entry was put in past the sealer", entry=found["stray"])
