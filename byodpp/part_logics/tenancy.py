"""Logic class of the part `byodpp:tenancy`: how much a tenant uses of what its class allows.

May reject: NotFound (another tenant's record), Forbidden (an operator who has not named the tenant).
"""

from __future__ import annotations

from typing import Any, Final

from marshmallow import Schema, fields

from byodpp.authentication.users import REFUSED
from byodpp.exceptions import Forbidden
from byodpp.logics import Logic

__all__ = ["TENANCY_LOGICS"]

_STORED: Final = "select bytes, measured_at from byodpp.tenant_storage where tenant_id = $1"


class UsersUsage(Schema):
    """Rows of Users that are not refused."""

    used = fields.Integer(required=True)
    limit = fields.Integer(required=True, allow_none=True)


class StorageUsage(Schema):
    """Bytes of rows in the application's own resources, as measured last; null before."""

    used = fields.Integer(required=True, allow_none=True)
    limit = fields.Integer(required=True, allow_none=True)
    measuredAt = fields.DateTime(required=True, allow_none=True)


class UsageAnswer(Schema):
    """What is used, and what the class allows; a limit of null is none."""

    tenantClass = fields.String(required=True, allow_none=True)
    users = fields.Nested(UsersUsage, required=True)
    storageBytes = fields.Nested(StorageUsage, required=True)


class TenantsUsage(Logic):
    """Tells how much a tenant uses of what its class allows."""

    resource, action = "Tenants", "usage:get"
    output = UsageAnswer

    async def execute(self) -> Any:
        """Count, and tell the limits beside.

        Raises:
            NotFound: it is another tenant's record.
            Forbidden: an operator asks without X-Tenant, and so sees no row of the tenant.
        """
        row = await self.repository.read(self.request.params["id"])
        if row["id"] != self.request.user.session_tenant_id:
            raise Forbidden("Name the tenant in X-Tenant: its rows are counted as it sees them.")
        kind = None
        if row["tenantClassId"] is not None:
            kind = await self.system["TenantClasses"].read(row["tenantClassId"])
        users = await self.system["Users"].count({"status": {"nin": sorted(REFUSED)}})
        stored: Any = await self.transaction.fetchrow(_STORED, row["id"])
        return {
            "tenantClass": None if kind is None else kind["name"],
            "users": {"used": users, "limit": None if kind is None else kind["maxUsers"]},
            "storageBytes": {
                "used": None if stored is None else stored["bytes"],
                "limit": None if kind is None else kind["maxStorageBytes"],
                "measuredAt": None if stored is None else stored["measured_at"],
            },
        }


TENANCY_LOGICS: Final[tuple[type[Logic], ...]] = (TenantsUsage,)
