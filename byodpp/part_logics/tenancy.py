"""Logic classes of the part `byodpp:tenancy`: what a tenant uses, and all together; none is deleted here.

May reject: NotFound (another tenant's record), Forbidden (an operator who has not named the tenant; of
all together, everybody but an operator who has named none), ReferencedConflict (the deletion of a tenant).
"""

from __future__ import annotations

from typing import Any, Final

from marshmallow import Schema, fields

from byodpp.authentication.users import REFUSED
from byodpp.exceptions import Forbidden, ReferencedConflict
from byodpp.limits import FEWEST
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


class CallsUsage(Schema):
    """Requests of all users together in one sliding window, as the limits count them."""

    seconds = fields.Integer(required=True)
    used = fields.Integer(required=True)
    limit = fields.Integer(required=True)


class Costs(Schema):
    """What the class costs; null where it says nothing."""

    monthlyPrice = fields.Decimal(required=True, allow_none=True)
    currency = fields.String(required=True, allow_none=True)


class UsageAnswer(Schema):
    """What is used, and what the class allows; a limit of null is none."""

    tenantClass = fields.String(required=True, allow_none=True)
    users = fields.Nested(UsersUsage, required=True)
    storageBytes = fields.Nested(StorageUsage, required=True)
    apiCalls = fields.List(fields.Nested(CallsUsage), required=True)
    costs = fields.Nested(Costs, required=True)


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
            "apiCalls": [
                {"seconds": one.seconds, "used": one.used, "limit": one.limit} for one in await self.calls()
            ],
            "costs": {
                "monthlyPrice": None if kind is None else kind["monthlyPrice"],
                "currency": None if kind is None else kind["currency"],
            },
        }


class ClassAnalytics(Schema):
    """The tenants of one class together; null where they are too few to be told apart from one."""

    tenantClass = fields.String(required=True)
    tenants = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": f"Counted tenants; null, and all else with it, below {FEWEST}."},
    )
    averageUsers = fields.Float(required=True, allow_none=True)
    totalStorageBytes = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": f"As measured last; null while fewer than {FEWEST} were."},
    )
    measuredAt = fields.DateTime(
        required=True, allow_none=True, metadata={"description": "The oldest of the measurements."}
    )


class AnalyticsAnswer(Schema):
    """Each class whose tenants may be counted."""

    classes = fields.List(fields.Nested(ClassAnalytics), required=True)
    away = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "Places that did not answer, and whose tenants are not counted."},
    )


class TenantClassesAnalytics(Logic):
    """Tells what the tenants of each class are together, without telling anything of one of them."""

    resource, action = "TenantClasses", "analytics:get"
    output = AnalyticsAnswer

    async def execute(self) -> Any:
        """Ask every database in which tenants live.

        Raises:
            Forbidden: somebody of a tenant asks, or an operator who acts for one.
        """
        if not self.request.user.at_home_on_platform:
            raise Forbidden("Tenants are counted together for the platform's operators, without X-Tenant.")
        found = await self.figures()
        return {
            "classes": [
                {
                    "tenantClass": one.name,
                    "tenants": one.tenants,
                    "averageUsers": one.average_users,
                    "totalStorageBytes": one.stored_bytes,
                    "measuredAt": one.measured_at,
                }
                for one in found.classes
            ],
            "away": list(found.away),
        }


class TenantsDelete(Logic):
    """Deletes no tenant: its rows, its realm, and its place would stay, and nothing would find them."""

    resource, operation = "Tenants", "delete"

    async def execute(self) -> Any:
        """Refuse it to whoever may delete it.

        Raises:
            NotFound: there is no such tenant.
            ReferencedConflict: always else; its rows refer to it.
        """
        row = await self.repository.read(self.request.params["id"])
        told = "A tenant is deleted with its rows and its realm, after an export, by the command line"
        raise ReferencedConflict(f"{told}: `byodpp tenants delete {row['slug']} --confirm {row['slug']}`.")


TENANCY_LOGICS: Final[tuple[type[Logic], ...]] = (TenantsUsage, TenantClassesAnalytics, TenantsDelete)
