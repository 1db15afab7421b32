"""How much each tenant stores: measured now and then, compared with what its class allows at each write.

In: tables, and a tenant that writes. Out: nothing. May reject: QuotaExceeded. What counts are the bytes of
the rows in the application's own resources, as PostgreSQL keeps them; not indexes, and not what no tenant
can delete: the audit trail, former versions, and what the framework notes. Of a table that is large a part
is read, and the rest reckoned from it. One process of all measures; the others read what it found.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from byodpp.authentication.tenants import Tenant
from byodpp.database import Database, Transaction
from byodpp.exceptions import QuotaExceeded
from byodpp.limits.classes import ClassDirectory
from byodpp.recurring import Recurring
from byodpp.settings import Settings
from byodpp.sql_text import quote
from byodpp.tables import Tables

__all__ = ["StorageMeter", "StorageQuota"]

_log: Final = logging.getLogger(__name__)

_LOCK: Final = "select pg_try_advisory_xact_lock(hashtextextended('byodpp storage meter', 0))"
_DUE: Final = (
    "select exists (select from tenant_classes where max_storage_bytes is not null or analytics)"
    " and coalesce((select max(measured_at) < now() - make_interval(secs => $1)"
    " from byodpp.tenant_storage), true)"
)
_OWN: Final = (
    "select p.place, c.relname as name from byodpp.tenant_places p join pg_namespace n on n.nspname = p.place"
    " join pg_class c on c.relnamespace = n.oid and c.relkind = 'r' and c.relname = any($1::text[])"
    " where p.tier = 'schema'"
)
_PAGES: Final = "select greatest(relpages, 1) from pg_class where oid = to_regclass($1)"
_SUM: Final = "select tenant_id, sum(pg_column_size(t)) * $1::float8 as bytes from {table} t{part} group by 1"
_KEEP: Final = (
    "with gone as (delete from byodpp.tenant_storage where not tenant_id = any($1::bigint[]))"
    " insert into byodpp.tenant_storage (tenant_id, bytes, measured_at)"
    " select *, now() from unnest($1::bigint[], $2::bigint[])"
    " on conflict (tenant_id) do update set bytes = excluded.bytes, measured_at = excluded.measured_at"
)
_PRESENT: Final = (
    "select id from tenants t where id > 0 and not exists"
    " (select from byodpp.tenant_places p where p.tenant_id = t.id and p.tier = 'database')"
)
_MEASURED: Final = "select max(measured_at) from byodpp.tenant_storage"
_USED: Final = "select tenant_id, bytes from byodpp.tenant_storage"


def measured_tables(tables: Tables) -> tuple[str, ...]:
    """Return the tables whose rows count: of the application's own, where rows have a tenant."""
    return tuple(
        stored.table.name
        for stored in tables.stored
        if stored.resources and stored.resource.part is None and "tenant_id" in stored.table.c
    )


class StorageMeter:
    """Measures what every tenant stores."""

    def __init__(
        self, database: Database, tables: Sequence[str], *, seconds: float, most_pages: int = 8_192
    ) -> None:
        """Args:
        database: read with its system role.
        tables: whose rows count.
        seconds: between two measurements, whichever process makes them.
        most_pages: of 8 KiB, that are read of one table.
        """
        self._database = database
        self._tables = tables
        self._seconds = seconds
        self._most_pages = most_pages

    async def measure(self, *, now: bool = False) -> bool:
        """Measure, if it is time and nobody else does; tell whether it was done.

        Args:
            now: whether it is time in any case.

        Raises:
            ApiError: the database could not do it.
        """
        async with self._database.system() as transaction:
            if not await transaction.fetchval(_DUE, 0.0 if now else self._seconds):
                return False
            if not await transaction.fetchval(_LOCK):
                return False
            # Who stores nothing was measured, too: without its zero, a sum would be those of the others.
            found = {row["id"]: 0.0 for row in await transaction.fetch(_PRESENT)}
            for table in await self._addresses(transaction):
                for tenant, size in await self._sizes(transaction, table):
                    found[tenant] = found.get(tenant, 0.0) + size
            await transaction.execute(_KEEP, list(found), [round(size) for size in found.values()])
        return True

    async def _addresses(self, transaction: Transaction) -> list[str]:
        """Return the tables as SQL: those of all tenants together, and those of tenants with a place."""
        own = await transaction.fetch(_OWN, list(self._tables))
        return [*map(quote, self._tables), *(f"{quote(row['place'])}.{quote(row['name'])}" for row in own)]

    async def _sizes(self, transaction: Transaction, table: str) -> list[tuple[int, float]]:
        pages: int = await transaction.fetchval(_PAGES, table)
        part, factor = "", 1.0
        if pages > self._most_pages:
            factor = pages / self._most_pages
            part = f" tablesample system ({100 / factor:.6f})"
        sql = _SUM.format(table=table, part=part)
        return [(row["tenant_id"], row["bytes"]) for row in await transaction.fetch(sql, factor)]


class StorageQuota:
    """Refuses what would make a tenant's rows more when they are too many already."""

    def __init__(
        self,
        database: Database,
        classes: ClassDirectory,
        meter: StorageMeter,
        *,
        seconds: float = 5.0,
        places: Mapping[str, StorageQuota] | None = None,
    ) -> None:
        """Args:
        database: read with its system role.
        classes: tell what a tenant may store.
        meter: measures, in whichever process is first.
        seconds: between two looks at what was measured.
            places: quotas of the databases that tenants have for themselves.
        """
        self._places: Mapping[str, StorageQuota] = {} if places is None else places
        self._database = database
        self._classes = classes
        self.meter = meter
        self._used: Mapping[int, int] = {}
        self._measured: datetime | None = None
        self.looks = Recurring(
            self.look,
            seconds=seconds,
            log=_log,
            trouble="what tenants store cannot be measured for the moment",
            at_once=True,
        )

    @classmethod
    def of(
        cls,
        settings: Settings,
        tables: Tables,
        database: Database,
        classes: ClassDirectory,
        places: Mapping[str, StorageQuota] | None = None,
    ) -> StorageQuota:
        """Return the quota of an application, with a meter of its tables."""
        meter = StorageMeter(database, measured_tables(tables), seconds=settings.storage_seconds)
        return cls(database, classes, meter, places=places)

    async def refuse_full(self, tenant: Tenant | None) -> None:
        """Refuse another row, or a longer one, of a tenant that stores what it may.

        Raises:
            QuotaExceeded: it stores as much as its class allows, or more.
        """
        place = None if tenant is None or tenant.database is None else self._places.get(tenant.database)
        if place is not None:
            await place.refuse_full(tenant)
            return
        used = self._used
        if tenant is None or not used or tenant.id not in used:
            return
        most = (await self._classes.limits_of(tenant)).storage_bytes
        if most is not None and used[tenant.id] >= most:
            stored = used[tenant.id]
            raise QuotaExceeded(f"Your organisation stores {stored} bytes of {most}: delete some rows.")

    async def start(self) -> None:
        """Look from now on until `stop`."""
        self.looks.start()

    async def stop(self) -> None:
        """Look no more. Harmless when not started."""
        await self.looks.stop()

    async def refresh(self) -> None:
        """Read what was measured, if that is news."""
        async with self._database.system() as transaction:
            measured = await transaction.fetchval(_MEASURED)
            if measured != self._measured:
                rows = await transaction.fetch(_USED)
                self._used = {row["tenant_id"]: row["bytes"] for row in rows}
                self._measured = measured

    async def look(self) -> None:
        """Measure if it is time, and read what was measured.

        Raises:
            ApiError: the database could not do it.
        """
        began = time.monotonic()
        if await self.meter.measure():
            _log.info("what tenants store was measured in %.1f s", time.monotonic() - began)
        await self.refresh()
