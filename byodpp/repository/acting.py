"""Who works on a transaction, and under whose rules: what every repository carries about.

In: a transaction, a principal, and an authorizer. Out: which rows and fields may be read and written. May
reject: Forbidden.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from byodpp.audit.readings import Readings
from byodpp.authentication import Principal
from byodpp.authorization import Authorizer, Decision
from byodpp.calls import Origin
from byodpp.conditions import NOTHING, Condition, Lookup, Visibility, all_of
from byodpp.database import Transaction
from byodpp.definitions import ResourceDefinition
from byodpp.events import Outbox
from byodpp.exceptions import Detail, Forbidden

__all__ = ["Acting", "Asking", "Cascading", "refuse_fields"]


class Asking(Protocol):
    """Somebody who asks, wherever from: what audit entry and event tell of."""

    @property
    def principal(self) -> Principal: ...
    @property
    def origin(self) -> Origin: ...


class Cascading(Protocol):
    """Deletes what belongs to a row before the row itself."""

    def concern(self, resource: ResourceDefinition) -> bool: ...
    async def delete_dependents(self, resource: ResourceDefinition, key: Any) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """Who works on which transaction, and under whose rules."""

    transaction: Transaction
    principal: Principal
    origin: Origin
    outbox: Outbox
    authorizer: Authorizer
    trail: Readings
    system: bool = False  # True: for the tenant, without row and field rules
    resource: ResourceDefinition | None = None  # of the call: its decision stands for what is done to it
    decision: Decision | None = None  # of the call
    cascades: Cascading | None = None  # None: the foreign keys alone decide

    def lookup(self, resource: ResourceDefinition) -> Visibility | None:
        """What may be read of a resource; None is nothing."""
        if self.system:
            return Visibility(None, MappingProxyType(dict.fromkeys(resource.fields)))
        return self.authorizer.visibility(self.principal, resource)

    def listing(self, resource: ResourceDefinition) -> Lookup:
        """Return `lookup` for a list of a resource: the right to list decides over its rows."""
        return self.lookup if self.system else self.authorizer.lookup(self.principal, resource)

    def visibility(self, resource: ResourceDefinition) -> Visibility:
        """The same, where nothing is no row."""
        return self.lookup(resource) or Visibility(NOTHING, {})

    def permitted(
        self, resource: ResourceDefinition, operation: str, fields: Iterable[str] = ()
    ) -> Condition | None:
        """Rows on which an operation may be done; None is all of them.

        Args:
            resource: whose.
            operation: one of the seven, or an action's key.
            fields: what is to be written; each may be so on some rows only.

        Raises:
            Forbidden: it may not be done at all, or not with these fields.
        """
        if self.system:
            return None
        decision = self.decision
        if decision is None or self.resource is None or resource.id != self.resource.id:
            decision = self.authorizer.decide(self.principal, resource, operation)
            if not decision.allowed:
                raise Forbidden(f"You have no right to {operation} {resource.name}.")
        if decision.fields is None:
            return decision.rows
        refuse_fields(decision, fields)
        return all_of([decision.rows, *(decision.fields[name] for name in sorted(set(fields)))])


def refuse_fields(decision: Decision, fields: Iterable[str], prefix: str = "") -> None:
    """Refuse fields that the caller may write on no row.

    Raises:
        Forbidden: naming each of them.
    """
    if decision.fields is None:
        return
    refused = sorted(name for name in fields if not decision.permits(name))
    if refused:
        told = "You may not write this field."
        details = [Detail(f"{prefix}.{name}".strip("."), "forbidden", told) for name in refused]
        raise Forbidden("You may not write these fields.", details=details)
