"""Whose a row is, and the tenant's own record: what a write may not decide about them.

In: a write to a row that belongs to a tenant or user, or to a resource of the scope `self`, which is Tenants.
Out: the values, with what a new tenant is given; or nothing. May raise ValidationFailed and Forbidden,
naming the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from byodpp.definitions import ResourceDefinition, Scope
from byodpp.exceptions import Detail, Forbidden, ValidationFailed
from byodpp.ids import Ids
from byodpp.repository.acting import Acting
from byodpp.tables import whose_columns

__all__ = ["STANDING", "decides", "refuse_standing", "registered", "without_whose"]

#: Who finds a tenant, whom it belongs to, and how much it may use.
STANDING: Final = ("slug", "domain", "parentId", "tenantClassId")
_TOLD: Final = "Only the platform's operators may change this."


def without_whose(resource: ResourceDefinition, values: Mapping[str, Any], acting: Acting) -> dict[str, Any]:
    """Return the values without those that say whose the row is: it is the caller's.

    Args:
        resource: of the row.
        values: that a logic class writes, by field.
        acting: for whom.

    Raises:
        ValidationFailed: it would be somebody else's.
    """
    session = acting.transaction.context
    own = {"tenant_id": session.tenant_id, "owner_id": session.owner_id}
    whose = whose_columns(resource)
    named = {name: own[one] for name in values if (one := resource.columns.get(name, "")) in whose}
    told = "Is the caller's, who cannot write rows of another: leave it out."
    if faults := [Detail(name, "read_only", told) for name, one in named.items() if values[name] != one]:
        raise ValidationFailed(details=faults)
    return {name: value for name, value in values.items() if name not in named}


def decides(resource: ResourceDefinition, acting: Acting) -> bool:
    """Whether the caller may decide about the standing of a row."""
    return resource.scope is not Scope.SELF or acting.system or acting.principal.platform


def registered(resource: ResourceDefinition, values: Mapping[str, Any], ids: Ids) -> Mapping[str, Any]:
    """Return the values of a new row; a new tenant gets the ULID that its realm is named by."""
    if resource.scope is not Scope.SELF or values.get("ulid") is not None:
        return values
    return {**values, "ulid": ids.ulid()}


def refuse_standing(values: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Refuse a change of what the tenant does not decide about itself.

    Args:
        values: to be written, by field.
        stored: the row as the caller may read it.

    Raises:
        Forbidden: naming each such field.
    """
    faults = [
        Detail(name, "forbidden", _TOLD)
        for name in STANDING
        if name in values and values[name] != stored.get(name)
    ]
    if faults:
        raise Forbidden(_TOLD, details=faults)
