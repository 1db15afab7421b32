"""Making a database ready for a tenant of its own: fences around copies, claims, and numbers of its own.

The database holds everything that the shared one does, by the same revisions. What is special is that its
copies refuse whoever is not their keeper, that values unique in the platform are noted, and that ids which
several databases give at a time come from a range of its own.

In: connections of the owner role there. Everything may be called again. May reject: MigrationError.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from byodpp.database import Database
from byodpp.definitions import Scope
from byodpp.exceptions import MigrationError, PlaceUnavailable, Problem
from byodpp.migrations.catalog import LOCK_TIMEOUT
from byodpp.places.building import count_anew, patiently
from byodpp.places.copied import is_copied
from byodpp.places.counting import continue_from, next_id, restart
from byodpp.places.fences import claim_keys, hold_one
from byodpp.places.placement import PLATFORM_WIDE, Located, carried
from byodpp.settings.places import PlaceAddress
from byodpp.sql_text import quote
from byodpp.tables import StoredTable, Tables

__all__ = ["PlaceDatabases", "fenced", "id_range"]

_COPY: Final = "byodpp_copy"
_COPIES: Final = (
    "select c.relname as name from pg_trigger t join pg_class c on c.oid = t.tgrelid"
    f" where t.tgname = '{_COPY}' and c.relnamespace = 'public'::regnamespace"
)
#: Ids of a range; ranges are as many as fit below 2^53, which every client of JSON can tell apart.
_RANGE: Final = 10**11
#: For the highest id of one table.
_LONGEST_SECONDS: Final = 3_600
_RANGES: Final = 65_536


def id_range(place: str) -> int:
    """Return where the ids begin that a place gives to what is counted in several databases at a time.

    Below the first range are those of the database that all tenants share.
    """
    number = int.from_bytes(hashlib.sha256(place.encode()).digest()[:2])
    return (number + 1) * _RANGE


def fenced(tables: Tables) -> tuple[StoredTable, ...]:
    """Return the tables that refuse a tenant's rows while it is elsewhere, or on its way."""
    return carried(tables)


class PlaceDatabases:
    """Does the owner's work in the databases of tenants."""

    def __init__(self, tables: Tables, addresses: Sequence[PlaceAddress]) -> None:
        """Args:
        tables: of the application.
        addresses: of the places.

        Raises:
            MigrationError: two places would give the same ids.
        """
        self._tables = tables
        self.addresses: Mapping[str, PlaceAddress] = {one.name: one for one in addresses}
        self._fenced = fenced(tables)
        #: Names of the tables whose ids come from a range of the place's own.
        self._ranged = tuple(_address(stored) for stored in tables.stored if _is_ranged(stored))
        ranges: dict[int, str] = {}
        for one in addresses:
            other = ranges.setdefault(id_range(one.name), one.name)
            if other != one.name:
                reason = f"{other!r} and {one.name!r} would give the same ids"
                raise MigrationError([Problem("places", reason, "Give one of them another name.")])

    @asynccontextmanager
    async def connected(self, place: str) -> AsyncIterator[asyncpg.Connection[Any]]:
        """Yield a connection of the owner.

        Raises:
            MigrationError: there is no such place, or this process has no right to change its tables.
            PlaceUnavailable: it is away.
        """
        address = self.addresses.get(place)
        if address is None or address.admin_uri is None:
            reason = f"has no address of {place!r}" if address else f"knows no place {place!r}"
            where = "place_admin_uris" if address else "places"
            raise MigrationError([Problem(where, reason, f"Set PLACE_ADMIN_URIS={place}=postgresql://…")])
        try:
            connection = await asyncpg.connect(address.admin_uri, timeout=10)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise PlaceUnavailable(f"The place {place} is away: {type(error).__name__}") from error
        try:
            await connection.execute(LOCK_TIMEOUT.format(local="false"))
            yield connection
        finally:
            await connection.close()

    async def prepare(self, place: str, tenant: int) -> None:
        """Make a place ready for a tenant."""
        async with self.connected(place) as owner:
            await self._fence_copies(owner)
            there = [Located(tenant_id=tenant, tier="database", place=place, state="served")]
            await claim_keys(owner, (), there, further=claiming(self._tables))
            await patiently(lambda: self._begin_range(owner, place))

    async def begin_after(self, place: str, databases: Sequence[Database]) -> None:
        """Let a place give no id again, were it made anew under the name of one that has given some.

        Args:
            place: that is ready.
            databases: in which rows of all tenants are, or were.
        """
        begin, found = id_range(place), dict[str, int]()
        for database in databases:
            async with database.system() as transaction:
                await transaction.be_patient(_LONGEST_SECONDS)
                for name in self._ranged:
                    sql = f"select max(id) from {name} where id >= $1 and id < $2"
                    highest = await transaction.fetchval(sql, begin, begin + _RANGE)
                    found[name] = max(found.get(name, 0), highest or 0)
        async with self.connected(place) as owner:
            for name, highest in found.items():
                await continue_from(owner, name, highest + 1)

    async def hold(self, place: str, tenant: int, *, held: bool, for_good: bool = False) -> None:
        """Let a place refuse a tenant's writes, or take them; those of revocations only for good."""
        async with self.connected(place) as owner:
            await hold_one(owner, self._fenced, tenant, held=held, for_good=for_good)

    async def continue_counting(
        self, source: asyncpg.Connection[Any], target: asyncpg.Connection[Any]
    ) -> None:
        """Let the ids that are counted per tenant go on where another database is.

        Args:
            source: of its owner.
            target: of the owner where the rows have arrived.
        """
        for stored in carried(self._tables):
            if "id" not in stored.table.c or stored.table.c.id.identity is None or is_platform_wide(stored):
                continue
            name = _address(stored)
            await continue_from(target, name, await next_id(source, name))

    async def count_anew(self, target: asyncpg.Connection[Any]) -> None:
        """Let the planner know how many rows have come.

        Args:
            target: of the owner where they have.
        """
        await count_anew(target, map(_address, carried(self._tables)))

    async def _fence_copies(self, owner: asyncpg.Connection[Any]) -> None:
        present = {row["name"] for row in await owner.fetch(_COPIES)}
        for stored in self._tables.stored:
            if is_copied(stored) and stored.table.name not in present:
                await patiently(lambda stored=stored: _fence_copy(owner, stored))

    async def _begin_range(self, owner: asyncpg.Connection[Any], place: str) -> None:
        begin = id_range(place)
        for name in self._ranged:
            if not begin <= await next_id(owner, name) < begin + _RANGE:
                await restart(owner, name, begin)


def claiming(tables: Tables) -> tuple[StoredTable, ...]:
    """Return the tables whose values may be unique in the platform, wherever their rows are."""
    return tuple(one for one in carried(tables) if one.resources and one.resource.part is None)


def is_platform_wide(stored: StoredTable) -> bool:
    """Whether ids of a table are its key alone, or given in two databases at a time."""
    return "tenant_id" not in stored.table.primary_key.columns or stored.table.name in PLATFORM_WIDE


def _is_ranged(stored: StoredTable) -> bool:
    column = stored.table.c.get("id")
    return column is not None and column.identity is not None and is_platform_wide(stored)


async def _fence_copy(owner: asyncpg.Connection[Any], stored: StoredTable) -> None:
    table = f"public.{quote(stored.table.name)}"
    for event, row in (("insert or update", "new"), ("delete", "old")):
        name = _COPY if event != "delete" else f"{_COPY}_delete"
        which = f" when ({row}.tenant_id = 0)" if stored.resource.scope is Scope.LIBRARY else ""
        await owner.execute(
            f"create or replace trigger {name} before {event} on {table} for each row{which}"
            " execute function byodpp.refuse_copy()"
        )


def _address(stored: StoredTable) -> str:
    return f"{quote(stored.table.schema or 'public')}.{quote(stored.table.name)}"
