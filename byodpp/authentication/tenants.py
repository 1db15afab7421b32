"""The tenant directory: realm, ULID or slug in, the tenant out.

Rows of the part `byodpp:tenancy`, read with the system role (nobody's tenant is known yet) and
believed as long as `changes` says. `authentication` refuses on what it finds; nothing here does.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from byodpp.authentication.changes import FOLLOWED_SECONDS, UNFOLLOWED_SECONDS
from byodpp.database import PLATFORM_TENANT, Database, SessionContext, Transaction
from byodpp.exceptions import StartError
from byodpp.expiring import Expiring
from byodpp.ids import Ids

__all__ = [
    "ACTIVE",
    "PLATFORM_REALM",
    "PLATFORM_SLUG",
    "PLATFORM_ULID",
    "Tenant",
    "TenantDirectory",
    "ensure_platform",
    "find_tenant",
    "register_tenant",
]

_log: Final = logging.getLogger(__name__)

#: Realm of the operators, and slug of the tenant that stands for the platform.
PLATFORM_REALM: Final = "platform"
PLATFORM_SLUG: Final = "platform"
#: The platform's row needs a ULID like every other; no realm bears it.
PLATFORM_ULID: Final = "0" * 26
#: The one status in which a tenant is served.
ACTIVE: Final = "activated"

_ULID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
#: Schemas that tenants have for themselves.
_PLACE: Final = re.compile(r"byodpp_t[0-9]+")
_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

_SELECT: Final = """
    select id, ulid, slug, name, status, tenant_class_id,
        case when p.tier = 'schema' then p.place end as place,
        case when p.tier = 'database' then p.place end as database,
        p.tier = 'schema' and p.fingerprint is distinct from (
            select fingerprint from byodpp.schema_state order by applied_at desc, revision desc limit 1
        ) as behind
    from tenants left join byodpp.tenant_places p on p.tenant_id = tenants.id where """
_EVERYWHERE: Final = (
    "select (select place from byodpp.tenant_places where tenant_id = -1) as place,"
    " exists (select from byodpp.tenant_places where tier = 'database') as dispersed,"
    " (select string_agg(distinct place, ',') from byodpp.tenant_places"
    " where tier = 'database' and state <> 'gone') as places"
)
_OPENED: Final = (
    " and exists (select from grants g where g.tenant_id = tenants.id and g.grantee_id = $2"
    " and (g.expires_at is null or g.expires_at > now()))"
)
_INSERT: Final = (
    "insert into tenants (ulid, slug, name, status) values ($1, $2, $3, $4) on conflict do nothing"
)
_INSERT_PLATFORM: Final = (
    "insert into tenants (id, ulid, slug, name, status) values ($1, $2, $3, $4, $5) on conflict do nothing"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant as the rest of a request needs it."""

    id: int  # of its row: what `tenant_id` columns hold
    ulid: str  # name of its realm
    slug: str  # for people and addresses
    status: str
    tenant_class: int | None = None  # id of its TenantClass; None is the default class
    name: str = ""
    place: str | None = None  # schema of its own tables; None: it has none
    database: str | None = None  # name of the place that is a database of its own; None: it has none
    behind: bool = False  # its schema lacks what the shared tables have got

    @property
    def active(self) -> bool:
        """Whether it is served."""
        return self.status == ACTIVE

    @property
    def realm(self) -> str:
        """Name of the realm whose users are this tenant's."""
        return PLATFORM_REALM if self.id == PLATFORM_TENANT else self.ulid


class TenantDirectory:
    """Finds tenants; knows for a few seconds what it found, and what it did not find."""

    def __init__(
        self,
        database: Database,
        *,
        seconds: float = UNFOLLOWED_SECONDS,
        max_entries: int = 10_000,
        followed: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        database: read with its system role.
        seconds: how long an answer is believed while changes are not followed.
        max_entries: how many answers are kept.
        followed: whether changes are followed; a tenant that was found is believed for long then.
        clock: monotonic seconds.
        """
        self._database = database
        self._found: Expiring[str, Tenant] = Expiring(
            seconds=seconds,
            max_entries=max_entries,
            followed_seconds=FOLLOWED_SECONDS,
            followed=followed,
            clock=clock,
        )
        # "No such tenant" is an answer too, and believed shortly: registrations are many ways' work.
        self._absent: Expiring[str, bool] = Expiring(seconds=seconds, max_entries=max_entries, clock=clock)
        self._everywhere: Expiring[str, tuple[str | None, bool, frozenset[str]]] = Expiring(
            seconds=seconds,
            max_entries=1,
            followed_seconds=FOLLOWED_SECONDS,
            followed=followed,
            clock=clock,
        )

    async def everywhere(self, session: SessionContext | None = None) -> str | None:
        """Return the place where rows of all tenants are found together; None: in the shared tables."""
        if session is not None and session.database is not None:
            return None
        return (await self._of_all())[0]

    async def dispersed(self) -> bool:
        """Whether rows of some tenant are in a database of its own."""
        return (await self._of_all())[1]  # also where this process has no place of it

    async def unreached(self) -> bool:
        """Whether rows of some tenant are in a database that this process was not told of."""
        return not (await self._of_all())[2] <= self._database.places.keys()

    async def _of_all(self) -> tuple[str | None, bool, frozenset[str]]:
        known = self._everywhere.get("")
        if known is None:
            asked = self._everywhere.turn
            async with self._database.system() as transaction:
                [row] = await transaction.fetch(_EVERYWHERE)
            known = (row["place"], row["dispersed"], frozenset((row["places"] or "").split(",")) - {""})
            self._everywhere.put("", known, asked)
        return known

    async def by_realm(self, realm: str) -> Tenant | None:
        """Return the tenant whose users sign in at this realm."""
        if realm == PLATFORM_REALM:
            return await self._find("slug", PLATFORM_SLUG)
        tenant = await self._find("ulid", realm) if _ULID.fullmatch(realm) else None
        return None if tenant is not None and tenant.id == PLATFORM_TENANT else tenant

    async def by_name(self, name: str) -> Tenant | None:
        """Return the tenant with this slug or ULID."""
        if _ULID.fullmatch(name):
            return await self._find("ulid", name)
        return await self._find("slug", name) if _SLUG.fullmatch(name) else None

    async def by_domain(self, domain: str) -> Tenant | None:
        """Return the tenant whose own domain this is; in small letters."""
        return await self._find("domain", domain)

    async def by_id(self, tenant_id: int) -> Tenant | None:
        """Return the tenant whose rows bear this id."""
        return await self._find("id", tenant_id)

    async def host_of(self, guest_id: int, name: str) -> Tenant | None:
        """Return the tenant with this slug or ULID if it has opened a row to another one, the guest.

        Which rows, row-level security finds out with every statement.
        """
        column = "ulid" if _ULID.fullmatch(name) else "slug"
        return await self._find(column, name, guest_id)

    async def serves(self, realm: str) -> bool:
        """Whether the realm belongs to an active tenant."""
        tenant = await self.by_realm(realm)
        return tenant is not None and tenant.active

    def forget(self, tenants: Collection[int] | None = None) -> None:
        """Look these tenants up anew, and whatever was not found; None: everything."""
        self._absent.forget()
        self._everywhere.forget()
        if tenants is None:
            self._found.forget()
        else:
            self._found.forget(lambda _, tenant: tenant.id in tenants)

    async def _find(self, column: str, value: str | int, guest_id: int | None = None) -> Tenant | None:
        key = f"{column}:{value}" if guest_id is None else f"{guest_id}>{column}:{value}"
        known = self._found.get(key)
        if known is None and self._absent.get(key) is None:
            asked, unknown = self._found.turn, self._absent.turn
            opened, guest = ("", ()) if guest_id is None else (_OPENED, (guest_id,))
            async with self._database.system() as transaction:
                row = await transaction.fetchrow(f"{_SELECT}{column} = $1{opened}", value, *guest)
            if row is None:
                self._absent.put(key, True, unknown)
            else:
                known = _tenant(row)
                self._found.put(key, known, asked)
        return known


async def ensure_platform(transaction: Transaction) -> None:
    """Write the platform's own tenant, id 0, unless it is there.

    Args:
        transaction: of the system or owner role.
    """
    # To insert costs a fresh connection far more than to look, and but once there is nothing to insert.
    if await transaction.fetchval("select exists (select from tenants where id = $1)", PLATFORM_TENANT):
        return
    await transaction.execute(
        _INSERT_PLATFORM, PLATFORM_TENANT, PLATFORM_ULID, PLATFORM_SLUG, "Platform", ACTIVE
    )


async def find_tenant(transaction: Transaction, name: str) -> Tenant | None:
    """Return the tenant with this slug or ULID.

    Args:
        transaction: of the system role.
        name: of the tenant.
    """
    column = "ulid" if _ULID.fullmatch(name) else "slug"
    found = await transaction.fetchrow(f"{_SELECT}{column} = $1", name)
    return None if found is None else _tenant(found)


async def register_tenant(
    transaction: Transaction, slug: str, *, name: str | None = None, ids: Ids | None = None
) -> Tenant:
    """Return the tenant with this slug, registered and active when it is new. Not for production.

    Args:
        transaction: of the system role.
        slug: lower-case letters, digits and hyphens, at most 63.
        name: shown name of a new tenant; made from the slug when omitted.
        ids: makes the ULID.

    Raises:
        StartError: the slug cannot be one.
    """
    if not _SLUG.fullmatch(slug):
        allowed = "lower-case letters, digits and hyphens, at most 63 in all"
        raise StartError(f"{slug!r} cannot be a tenant's slug: {allowed}")
    found = await transaction.fetchrow(f"{_SELECT}slug = $1", slug)
    if found is None:
        shown = name or slug.replace("-", " ").title()
        await transaction.execute(_INSERT, (ids or Ids()).ulid(), slug, shown, ACTIVE)
        found = await transaction.fetchrow(f"{_SELECT}slug = $1", slug)
    return _tenant(found)


def _tenant(row: Any) -> Tenant:
    return Tenant(
        id=row["id"],
        ulid=str(row["ulid"]),
        slug=row["slug"],
        name=row["name"] or "",
        status=row["status"],
        tenant_class=row["tenant_class_id"],
        place=row["place"],
        database=row["database"],
        behind=bool(row["behind"]) or _is_nowhere(row),
    )


def _is_nowhere(row: Any) -> bool:
    """Whether a tenant has a schema whose name is none that the program gives."""
    if row["place"] is None or _PLACE.fullmatch(row["place"]) is not None:
        return False
    _log.error("tenant %s is refused: its schema %r is none of ours", row["slug"], row["place"][:64])
    return True
