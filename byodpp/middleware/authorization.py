"""Asks whether any policy lets the caller do this at all.

In: a request with its principal. Out: the same with the decision, whose row and field rules
later stages obey. May reject: Forbidden, or Unauthenticated when nobody in particular asks.
"""

from __future__ import annotations

from typing import Any, Protocol

from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import Forbidden, Unauthenticated
from byodpp.requests import Request

__all__ = ["Authorization", "Authorizer", "Decided"]


class Decided(Protocol):
    """What this stage looks at of a decision."""

    @property
    def allowed(self) -> bool:
        """Whether at least one policy permits it on at least some rows."""
        ...


class Authorizer(Protocol):
    """Decides by policies."""

    def decide(self, principal: Any, resource: ResourceDefinition, operation_key: str) -> Decided:
        """Decide whether the principal may do this; does no input or output."""
        ...


class Authorization:
    """Stage of every guarded route of a resource."""

    def __init__(self, authorizer: Authorizer, resource: ResourceDefinition, operation: str) -> None:
        """Args:
        authorizer: decides.
        resource: of the route.
        operation: one of the seven, or an action's key.
        """
        self._authorizer = authorizer
        self._resource = resource
        self._operation = operation

    def __call__(self, request: Request) -> None:
        """Decide."""
        decision = self._authorizer.decide(request.principal, self._resource, self._operation)
        if not decision.allowed:
            if request.principal.anonymous:
                raise Unauthenticated
            raise Forbidden(f"You have no right to {self._operation} {self._resource.name}.")
        request.decision = decision
