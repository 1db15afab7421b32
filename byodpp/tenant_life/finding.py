"""Which tenant somebody means who names one: by its slug, or by its ULID, which it never loses."""

from __future__ import annotations

from byodpp.authentication.tenants import Tenant, TenantDirectory
from byodpp.database import PLATFORM_TENANT, Database
from byodpp.exceptions import Conflict, NotFound
from byodpp.tenant_life.procedures import Procedures

__all__ = ["TenantFinder"]


class TenantFinder:
    """Finds tenants by what they are called, those too that are deleted in part."""

    def __init__(self, database: Database, procedures: Procedures) -> None:
        """Args:
        database: open, with its system role.
        procedures: that are under way.
        """
        self._directory = TenantDirectory(database, seconds=0)
        self._procedures = procedures

    async def find(self, name: str, kind: str) -> Tenant:
        """Return a tenant; one whose deletion is under way is taken from what was noted of it.

        Args:
            name: slug or ULID.
            kind: of the procedure that it is for; empty: anything that the platform may go through, too.

        Raises:
            NotFound: there is none.
            Conflict: the platform is to be suspended, moved, or deleted.
        """
        tenant = await self._directory.by_name(name)
        if tenant is None and kind == "delete":
            tenant = await self._half_gone(name)
        if tenant is None:
            raise NotFound(f"There is no tenant {name!r}")
        if kind and tenant.id == PLATFORM_TENANT:
            raise Conflict("The platform itself can be neither suspended, moved, nor deleted")
        return tenant

    async def _half_gone(self, name: str) -> Tenant | None:
        for one in await self._procedures.unfinished():
            if one.kind == "delete" and name in (one.slug, one.given["ulid"]):
                return Tenant(
                    id=one.given["tenant"],
                    ulid=one.given["ulid"],
                    slug=one.slug,
                    status="deactivated",
                    database=one.given.get("database"),
                )
        return None
