"""Logic class of the part `byodpp:grants`: opening a row to another tenant.

To revoke is to delete, which needs no class. May reject: ValidationFailed, Conflict, Forbidden.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from byodpp.definitions import Kind, ResourceDefinition, Scope
from byodpp.exceptions import Conflict, Detail, Forbidden, NotFound, ValidationFailed
from byodpp.logics import Logic

__all__ = ["GRANT_LOGICS"]

#: Grants of one tenant to another: row-level security reads them all where it meets foreign rows.
_MOST_GRANTS: Final = 1_000
#: An id is unique within its tenant and user, so that a row of this scope is no one row.
_SCOPES: Final = frozenset({Scope.TENANT})


class GrantsCreate(Logic):
    """Opens a row of the caller's tenant to another tenant's readers."""

    resource, operation = "Grants", "create"

    async def execute(self) -> Any:
        """Judge what is named, then write it.

        Raises:
            ValidationFailed: resource, row, tenant, or time cannot be meant; an unreadable row is unknown.
            Conflict: the other tenant has as many as may be, or the caller's has a database of its own.
            Forbidden: the caller is a guest, or does not read the row with all its fields.
        """
        body, user = self.request.body, self.request.user
        if user.anonymous or user.guest:
            raise Forbidden("Rows are opened by their own tenant.")
        if user.session.database is not None:
            told = "Rows of a tenant with a database of its own cannot be opened to another tenant."
            raise Conflict(told)
        target = self._target(body["object"])
        await self._require_row(target, body["rowId"])
        await self._require_fields(target, body["rowId"])
        grantee = await self.tenants.by_name(body["grantee"])
        if grantee is None or grantee.id == user.tenant_id:
            told = "There is no such other tenant."
            raise ValidationFailed(details=[Detail("grantee", "reference", told)])
        if body.get("expiresAt") is not None and body["expiresAt"] <= datetime.now(UTC):
            raise ValidationFailed(details=[Detail("expiresAt", "out_of_range", "Must lie in the future.")])
        if await self.system["Grants"].count({"granteeId": grantee.id}) >= _MOST_GRANTS:
            told = f"A tenant opens at most {_MOST_GRANTS} rows to another one: revoke some first."
            raise Conflict(told)
        told_by_us = {"grantee": grantee.ulid, "granteeId": grantee.id, "table": target.table}
        return await self.system["Grants"].create({**body, **told_by_us})

    def _target(self, name: str) -> ResourceDefinition:
        target = self.repositories[name].resource if name in self.repositories else None
        if target is None or target.kind is not Kind.DATABASE:
            told = f"There is no resource {name!r} with rows."
        elif target.part is not None or target.scope not in _SCOPES:
            told = f"Rows of {name} cannot be opened: only those of a tenant's own resources can."
        else:
            return target
        raise ValidationFailed(details=[Detail("object", "unknown_resource", told)])

    async def _require_row(self, target: ResourceDefinition, key: str) -> None:
        try:
            row = await self.repositories[target.name].read(key)
        except (NotFound, Forbidden) as error:
            told = f"{target.name} {key[:64]!r} does not exist."
            raise ValidationFailed(details=[Detail("rowId", "reference", told)]) from error
        if str(row["id"]) != key:
            raise ValidationFailed(details=[Detail("rowId", "format", f"Is written {str(row['id'])!r}.")])

    async def _require_fields(self, target: ResourceDefinition, key: str) -> None:
        """See that nobody opens what he does not read: others have roles that may be shown every field."""
        if names := await self.access.withheld(self.transaction, self.request.user, target, key):
            told = f"You do not read {', '.join(names[:5])} of this row: who has another role would."
            raise Forbidden("Nobody opens what he cannot read.", details=[Detail("rowId", "forbidden", told)])


GRANT_LOGICS: Final[tuple[type[Logic], ...]] = (GrantsCreate,)
