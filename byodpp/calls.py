"""A call: one operation asked of one resource, free of HTTP.

`controller` makes it from a request that is authenticated, authorised and validated; a batch
makes several from one body. `service` runs it; logic classes see it as `self.request`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from byodpp.definitions import ActionDefinition, ResourceDefinition

if TYPE_CHECKING:
    from byodpp.authentication import Principal
    from byodpp.authorization import Decision
    from byodpp.query import Query
    from byodpp.schemas.nested import NestedRows

__all__ = ["Call", "Origin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a call came from: what audit entries and events remember of the request."""

    request_id: str
    correlation_id: str
    client_ip: str = ""
    user_agent: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)  # lower-case names


@dataclass(slots=True, kw_only=True)
class Call:
    """One operation with everything that decides its outcome."""

    resource: ResourceDefinition
    operation: str  # one of the seven, or an action's key
    principal: Principal
    decision: Decision
    origin: Origin
    params: Mapping[str, str] = field(default_factory=dict)  # of the path, percent-decoded
    query: Query | None = None  # judged; None where the operation takes none
    parameters: Mapping[str, Any] = field(default_factory=dict)  # an action's own, as its class judges them
    body: Any = (
        None  # validated: field names to Python values, a list of such for a batch, or an action's input
    )
    sent: frozenset[str] = (
        frozenset()
    )  # fields that the caller wants written; the rest of `body` was filled in
    read_only: Mapping[str, Any] = field(default_factory=dict)  # what a PUT sent along and may not change
    nested: tuple[NestedRows, ...] = ()  # related rows, written by the generic operation after the row
    expected_version: int | None = None  # of If-Match; None when any version will do
    or_versions: tuple[int, ...] = ()  # others that will do as well as the expected one
    action: ActionDefinition | None = None
    system: bool = False  # for the tenant, without the caller's row and field rules

    @property
    def user(self) -> Principal:
        """Who calls."""
        return self.principal

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the request, names in lower case."""
        return self.origin.headers

    def having(self, **changes: Any) -> Call:
        """Return a copy with some attributes changed."""
        # By hand: `dataclasses.replace` takes three times as long, and every write needs some.
        copy = Call(
            resource=self.resource,
            operation=self.operation,
            principal=self.principal,
            decision=self.decision,
            origin=self.origin,
            params=self.params,
            query=self.query,
            parameters=self.parameters,
            body=self.body,
            sent=self.sent,
            read_only=self.read_only,
            nested=self.nested,
            expected_version=self.expected_version,
            or_versions=self.or_versions,
            action=self.action,
            system=self.system,
        )
        for name, value in changes.items():
            setattr(copy, name, value)
        return copy
