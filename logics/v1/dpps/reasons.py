"""Steps that want a reason: it is kept in the passport and shown to the public where that is told."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, validate

from byodpp.logics import Logic

__all__ = ["DppsArchive", "DppsEnd", "DppsReject", "DppsSuspend", "DppsWithdraw"]


class ReasonSchema(Schema):
    """Why."""

    reason = fields.String(required=True, validate=validate.Length(1, 1000))


class _WithReason(Logic):
    input = ReasonSchema

    async def execute(self) -> Any:
        """Take the step and keep the reason."""
        await self.default()
        key = self.request.params["id"]
        await self.system["Dpps"].patch(key, {"statusReason": self.request.body["reason"]})
        await self.audit(self.action.partition(":")[0].upper(), key, {"reason": self.request.body["reason"]})
        return await self.repository.read(key)


class DppsReject(_WithReason):
    """POST /api/v1/dpps/{id}/reject."""

    resource, action = "Dpps", "reject:post"


class DppsSuspend(_WithReason):
    """POST /api/v1/dpps/{id}/suspend."""

    resource, action = "Dpps", "suspend:post"


class DppsArchive(_WithReason):
    """POST /api/v1/dpps/{id}/archive."""

    resource, action = "Dpps", "archive:post"


class DppsWithdraw(_WithReason):
    """POST /api/v1/dpps/{id}/withdraw."""

    resource, action = "Dpps", "withdraw:post"


class DppsEnd(_WithReason):
    """POST /api/v1/dpps/{id}/end."""

    resource, action = "Dpps", "end:post"
