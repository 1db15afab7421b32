"""Which database of their own a tenant gets: named, in a region, or any that is free and serves.

In: where the tenants are, and what the configuration names. May reject: Conflict, when there is none, or it
is another's; PlaceUnavailable, for one that was named and is away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from byodpp.authentication.tenants import Tenant
from byodpp.database import Database, Transaction
from byodpp.exceptions import Conflict, TenantMoving
from byodpp.places.carrying import Carrier
from byodpp.places.databases import PlaceDatabases
from byodpp.settings.places import PlaceAddress
from byodpp.tenant_life.locating import located

__all__ = ["PlaceChoice", "Wanted"]

_REGION: Final = (
    "select c.region from tenants t join tenant_classes c on c.id = t.tenant_class_id where t.id = $1"
)
#: Which database this is, whatever it is called.
_WHICH: Final = (
    "select c.system_identifier, d.oid from pg_control_system() c, pg_database d"
    " where d.datname = current_database()"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which database a tenant shall have."""

    place: str | None = None  # its name; None is any that is free
    region: str | None = None  # where it lies; None is what the class says, or anywhere


class PlaceChoice:
    """Chooses among the places of the configuration."""

    def __init__(self, database: Database, places: PlaceDatabases, carrier: Carrier) -> None:
        """Args:
        database: that all tenants share, with those of the places.
        places: knows the addresses.
        carrier: tells whose rows a place holds.
        """
        self._database = database
        self._places = places
        self._carrier = carrier

    async def require_free(self, tenant: Tenant, wanted: Wanted) -> None:
        """See that there is a database for a tenant.

        Raises:
            Conflict: there is none.
        """
        async with self._database.system() as transaction:
            await self.choose(transaction, tenant.id, wanted)

    def states(self) -> list[tuple[PlaceAddress, str]]:
        """Return the places, and whether each serves, or why not."""
        found = []
        for one in self._places.addresses.values():
            refusal = self._database.places[one.name].refusal
            behind = "lacks a revision" if isinstance(refusal, TenantMoving) else "away"
            found.append((one, "serves" if refusal is None else behind))
        return found

    async def choose(
        self, transaction: Transaction, id: int, wanted: Wanted, *, but: str | None = None
    ) -> str:
        """Return a place that is free, and serves.

        Args:
            transaction: of the system role, in which nobody else changes where tenants are.
            id: of the tenant.
            wanted: which one.
            but: the place where it is.

        Raises:
            Conflict: there is none, or not the one that was named.
            PlaceUnavailable: the one that was named is away, or lacks a revision.
        """
        taken = {one.database: one.tenant_id for one in await located(transaction) if one.tenant_id != id}
        if wanted.place is not None:
            if wanted.place not in self._places.addresses:
                known = ", ".join(self._places.addresses) or "none"
                raise Conflict(f"There is no place {wanted.place!r}; the configuration names {known}")
            if wanted.place == but:
                raise Conflict(f"The tenant is in the place {but} already")
            if wanted.place in taken:
                raise Conflict(f"The place {wanted.place} is the database of tenant {taken[wanted.place]}")
            candidates, region = [wanted.place], None
        else:
            region = wanted.region or await transaction.fetchval(_REGION, id)
            candidates = [
                one.name
                for one in self._places.addresses.values()
                if (region is None or one.region == region)
                and one.name not in taken
                and one.name != but
                and self._database.places[one.name].refusal is None
            ]
        for name in candidates:
            if not await self._carrier.others(self._database.at(name), id):
                return name
        if wanted.place is not None:
            raise Conflict(f"The place {wanted.place} holds rows of another tenant")
        where = "" if region is None else f" in the region {region!r}"
        raise Conflict(f"No place{where} is free and serves: name another in `places`, and migrate it")

    async def require_two(self, source: str | None, target: str | None) -> None:
        """See that two names are not of one database: a move would delete what it has moved.

        Raises:
            Conflict: they are.
        """
        found = []
        for name in (source, target):
            async with self._database.at(name).system() as transaction:
                found.append(tuple(await transaction.fetchrow(_WHICH) or ()))
        if found[0] == found[1]:
            names = " and ".join("that of all tenants" if one is None else one for one in (source, target))
            raise Conflict(f"{names} are one database: correct PLACE_DB_URIS and the addresses beside it")
