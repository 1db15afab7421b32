"""For whom the steps of procedures act, and how they tell what they did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from byodpp.authentication import Principal
from byodpp.authentication.tenants import ACTIVE, PLATFORM_SLUG, Tenant
from byodpp.database import PLATFORM_TENANT
from byodpp.repository import Repositories
from byodpp.service.units import Unit
from byodpp.tenant_life.procedures import Step

__all__ = ["ADMINISTRATOR", "for_known", "for_platform", "for_tenant", "system", "tell"]

#: Role of whoever acts here.
ADMINISTRATOR: Final = "Admin"
_VERSION: Final = "v1"


async def tell(unit: Unit, event: str, tenant: int, changes: Mapping[str, Any]) -> None:
    """Write into the platform's audit trail, and tell the platform's handlers."""
    repositories = system(unit)
    await repositories["AuditLogs"].insert(
        {
            "action": event,
            "resourceType": "Tenants",
            "resourceId": str(tenant),
            "changes": dict(changes),
            "userAgent": unit.origin.user_agent,
            "result": "success",
            "requestId": unit.origin.request_id,
        }
    )
    repositories["Tenants"].emit(event, {"tenantId": tenant, **changes}, str(tenant))


def system(unit: Unit) -> Repositories:
    """Return the repositories of whom the unit acts for, past the rules of any caller."""
    return unit.repositories(_VERSION, system=True)


def for_platform(name: str, work: Any, at: Tenant | None = None) -> Step:
    """Return a step that acts for the platform, where the rows of a tenant are if it is about those."""
    place, database = (None, None) if at is None else (at.place, at.database)
    return Step(
        name=name,
        principal=lambda results: _acting(PLATFORM_TENANT, PLATFORM_SLUG, place, database),
        work=work,
    )


def for_tenant(name: str, work: Any, at: Tenant | None = None) -> Step:
    """Return a step that acts for the tenant that the step `tenant` has found, or made."""

    def principal(results: Mapping[str, Any]) -> Principal:
        found = results.get("place", {})
        place, database = found.get("place"), found.get("database")
        if at is not None and place is None and database is None:
            place, database = at.place, at.database
        return _acting(results["tenant"]["id"], "", place, database)

    return Step(name=name, principal=principal, work=work)


def for_known(name: str, work: Any, tenant: Tenant) -> Step:
    """Return a step that acts for a tenant that is there."""
    return Step(
        name=name, principal=lambda results: _acting(tenant.id, "", tenant.place, tenant.database), work=work
    )


def _acting(tenant: int, slug: str, place: str | None, database: str | None) -> Principal:
    """Return who acts: the system, for one tenant."""
    return Principal(
        tenant_id=tenant,
        session_tenant_id=tenant,
        home_tenant_id=tenant,
        roles=frozenset({ADMINISTRATOR}),
        anonymous=False,
        platform=tenant == PLATFORM_TENANT,
        tenant=Tenant(id=tenant, ulid="", slug=slug, status=ACTIVE, place=place, database=database),
    )
