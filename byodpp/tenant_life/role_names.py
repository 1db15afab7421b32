"""Names of roles as operators write them: one that looks like a known one, and is none, is a slip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from byodpp.authentication.tenants import Tenant
from byodpp.authorization.policy_check import manifest_roles
from byodpp.database import Database
from byodpp.exceptions import Detail, ValidationFailed
from byodpp.identity.administration import STANDARD_ROLES
from byodpp.registry import Registry
from byodpp.suggestion import nearest

__all__ = ["refuse_slips"]

_ROLES: Final = "select name from roles where tenant_id in (0, $1)"


async def refuse_slips(
    database: Database, registry: Registry, tenant: Tenant, roles: Sequence[str], *, told: str
) -> None:
    """Refuse roles that look like one that a rule or the tenant knows, and are none.

    Others may be the identity provider's affair alone.

    Args:
        database: open, with its system role.
        registry: of the application, whose rules name roles.
        tenant: whose roles they shall be.
        roles: as they were written.
        told: what cannot be done with them.

    Raises:
        ValidationFailed: naming each, with what was probably meant.
    """
    async with database.at(tenant.database).system() as transaction:
        rows = await transaction.fetch(_ROLES, tenant.id)
    known = {*STANDARD_ROLES, *manifest_roles(registry), *(row["name"] for row in rows)}
    hints = {role: nearest(role, sorted(known), list_up_to=0) for role in roles if role not in known}
    faults = [
        Detail("roles", "unknown_role", f"There is no role {role!r}. {hint}")
        for role, hint in hints.items()
        if hint
    ]
    if faults:
        raise ValidationFailed(told, details=faults)
