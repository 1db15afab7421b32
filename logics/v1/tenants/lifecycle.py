"""What is noted when the platform's operators let a tenant in or lock it out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, fields, validate

from byodpp.logics import Logic

__all__ = ["SuspensionSchema", "TenantsActivate", "TenantsDeactivate"]


class TenantsActivate(Logic):
    """POST /api/v1/tenants/{id}/activate."""

    resource, action = "Tenants", "activate:post"

    async def execute(self) -> Any:
        """Let the tenant's users in."""
        tenant = await self.default()
        noted = {"reactivatedAt": datetime.now(UTC).isoformat()}
        return await self.system["Tenants"].patch(tenant["id"], {"metadata": {**_metadata(tenant), **noted}})


class SuspensionSchema(Schema):
    """Why a tenant is locked out."""

    reason = fields.String(required=True, validate=validate.OneOf(["payment", "policy", "admin", "security"]))


class TenantsDeactivate(Logic):
    """POST /api/v1/tenants/{id}/deactivate."""

    resource, action = "Tenants", "deactivate:post"
    input = SuspensionSchema

    async def execute(self) -> Any:
        """Lock the tenant's users out; their tokens are refused from then on."""
        tenant = await self.default()
        noted = {
            "suspensionReason": self.request.body["reason"],
            "suspendedAt": datetime.now(UTC).isoformat(),
            "suspendedBy": self.request.user.user_id,
        }
        return await self.system["Tenants"].patch(tenant["id"], {"metadata": {**_metadata(tenant), **noted}})


def _metadata(tenant: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tenant's metadata as an object: its own Admins may have written anything there."""
    found = tenant["metadata"]
    if isinstance(found, dict):
        return found
    return {} if found is None else {"metadata": found}
