"""Tenants are registered, admitted and suspended by the platform's operators alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from marshmallow import Schema, fields, validate

from byodpp.exceptions import Detail, Forbidden
from byodpp.logics import Logic

__all__ = [
    "TenantsAccept",
    "TenantsActivate",
    "TenantsCreate",
    "TenantsDeactivate",
    "TenantsPatch",
    "TenantsReject",
    "TenantsUpdate",
]

#: What an organisation does not decide about itself.
_OPERATORS_FIELDS: Final = ("slug", "domain", "parentId", "tenantClassId")


class _ByOperators(Logic):
    def require_operator(self) -> None:
        """Refuse everybody who is not of the platform."""
        if not self.request.user.platform:
            raise Forbidden("Only the platform's operators may do this.")


class TenantsCreate(_ByOperators):
    """POST /api/v1/tenants."""

    resource, operation = "Tenants", "create"

    async def execute(self) -> Any:
        """Register the tenant under a new ULID, which is also the name of its realm."""
        self.require_operator()
        self.request.body = {**self.request.body, "ulid": self.ids.ulid()}
        return await self.default()


class _Change(_ByOperators):
    async def execute(self) -> Any:
        """Let the organisation change what is its own."""
        if not self.request.user.platform:
            stored = await self.repository.read(self.request.params["id"])
            body = self.request.body
            faults = [
                Detail(name, "forbidden", "Only the platform's operators may change this.")
                for name in _OPERATORS_FIELDS
                if name in body and body[name] != stored[name]
            ]
            if faults:
                raise Forbidden(details=faults)
        return await self.default()


class TenantsUpdate(_Change):
    """PUT /api/v1/tenants/{id}."""

    resource, operation = "Tenants", "update"


class TenantsPatch(_Change):
    """PATCH /api/v1/tenants/{id}."""

    resource, operation = "Tenants", "patch"


class _Step(_ByOperators):
    async def execute(self) -> Any:
        """Take the step."""
        self.require_operator()
        return await self.default()


class TenantsAccept(_Step):
    """POST /api/v1/tenants/{id}/accept."""

    resource, action = "Tenants", "accept:post"


class TenantsReject(_Step):
    """POST /api/v1/tenants/{id}/reject."""

    resource, action = "Tenants", "reject:post"


class TenantsActivate(_ByOperators):
    """POST /api/v1/tenants/{id}/activate."""

    resource, action = "Tenants", "activate:post"

    async def execute(self) -> Any:
        """Let the tenant's users in."""
        self.require_operator()
        tenant = await self.default()
        noted = {"reactivatedAt": datetime.now(UTC).isoformat()}
        return await self.system["Tenants"].patch(
            tenant["id"], {"metadata": {**(tenant["metadata"] or {}), **noted}}
        )


class SuspensionSchema(Schema):
    """Why a tenant is locked out."""

    reason = fields.String(required=True, validate=validate.OneOf(["payment", "policy", "admin", "security"]))


class TenantsDeactivate(_ByOperators):
    """POST /api/v1/tenants/{id}/deactivate."""

    resource, action = "Tenants", "deactivate:post"
    input = SuspensionSchema

    async def execute(self) -> Any:
        """Lock the tenant's users out; their tokens are refused from then on."""
        self.require_operator()
        tenant = await self.default()
        noted = {
            "suspensionReason": self.request.body["reason"],
            "suspendedAt": datetime.now(UTC).isoformat(),
            "suspendedBy": self.request.user.user_id,
        }
        return await self.system["Tenants"].patch(
            tenant["id"], {"metadata": {**(tenant["metadata"] or {}), **noted}}
        )
