"""What a caller may do: principal, resource and operation in, a Decision out.

(row, field, operation) is allowed iff some allow policy of a held role matches row and field
and no deny does. The answer is a condition over rows and one per field, which `statements`
compiles into the SQL of every read and `repository` into that of every write. Nothing here
raises: what cannot be decided is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

from byodpp.authentication import Principal
from byodpp.authorization.policies import (
    EVERYWHERE,
    PUBLIC,
    Policy,
    PolicyRow,
    PolicySet,
    RoleLink,
    base_policies,
    row_policies,
    subject_of,
)
from byodpp.conditions import Condition, Lookup, Refusal, Visibility, all_of, any_of
from byodpp.definitions import READ_OPERATIONS, ActionDefinition, ResourceDefinition, Scope
from byodpp.registry import Registry

__all__ = ["Authorizer", "Decision", "within"]

_log = logging.getLogger(__name__)

V = TypeVar("V")

_EVERYBODY: Final = subject_of(PUBLIC)
_SIGNED_IN: Final = subject_of("*")
_NO_FIELDS: Final[Mapping[str, Condition | None]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether an operation may be done at all, and on which rows and fields."""

    allowed: bool  # on some row at least; False is 403
    reason: str  # for logs and `explain`, never for the client
    rows: Condition | None = None  # None is every row of the caller's scope
    fields: Mapping[str, Condition | None] | None = None  # None is every field; else field -> when
    policies: tuple[str, ...] = ()  # where the policies that hold are written

    def permits(self, name: str) -> bool:
        """Whether the field may be used on some row."""
        return self.fields is None or name in self.fields


@dataclass(frozen=True, slots=True, eq=False)
class _InForce:
    """What is in force now: replaced as a whole, so no decision mixes two states."""

    version: int
    rows: PolicySet
    decisions: dict[tuple[object, ...], Decision]
    visibilities: dict[tuple[object, ...], Visibility | None]


class Authorizer:
    """Decides. Lives on the event loop; a decision that was taken once is a lookup."""

    def __init__(
        self, registry: Registry, *, base: Sequence[Policy] | None = None, max_decisions: int = 100_000
    ) -> None:
        """Args:
        registry: whose `access` is the base policy of every tenant.
        base: its `base_policies`, where they are known already.
        max_decisions: how many decisions are remembered.

        Raises:
            ManifestError: a filter or field list of `access` that makes no sense.
        """
        self._registry = registry
        self._max_decisions = max_decisions
        self._base = PolicySet(base_policies(registry) if base is None else base, registry=registry)
        self._in_force = _InForce(0, PolicySet((), registry=registry), {}, {})

    @property
    def version(self) -> int:
        """Version of the `Policies` rows in force; 0 before any were loaded."""
        return self._in_force.version

    def load_policies(
        self, rows: Iterable[PolicyRow], links: Iterable[RoleLink] = (), *, version: int
    ) -> None:
        """Put these rows in force, all at once and in place of those before.

        Everything is built before anything is replaced: when this raises, nothing has changed.

        Args:
            rows: all rows of all tenants.
            links: role inheritance of all tenants.
            version: of the rows.
        """
        built = PolicySet(row_policies(rows, self._registry), links, registry=self._registry)
        self._in_force = _InForce(version, built, {}, {})

    def decide(self, principal: Principal, resource: ResourceDefinition, operation_key: str) -> Decision:
        """Return what the caller may do.

        Args:
            principal: who calls.
            resource: what of.
            operation_key: one of the seven, or an action's key.
        """
        if principal.operations is not None and not within(principal.operations, resource, operation_key):
            return Decision(allowed=False, reason="the operations of the API key leave it out")
        state = self._in_force
        key = self._key(state, principal, resource, operation_key)
        decision = state.decisions.get(key)
        if decision is None:
            try:
                decision = self._decided(state, principal, resource, operation_key)
            except Exception:
                _log.exception("no decision on %s of %s: refused", operation_key, resource.name)
                return Decision(allowed=False, reason="the policies could not be evaluated")
            _remember(state.decisions, key, decision, self._max_decisions)
        return decision

    def visibility(
        self, principal: Principal, resource: ResourceDefinition, operation: str = "read"
    ) -> Visibility | None:
        """Return what the caller may read of a resource; None is nothing at all."""
        if principal.operations is not None and not within(principal.operations, resource, operation):
            return None
        state = self._in_force
        key = self._key(state, principal, resource, operation)
        try:
            return state.visibilities[key]
        except KeyError:
            decision = self.decide(principal, resource, operation)
        visible = _visibility(decision, resource) if decision.allowed else None
        _remember(state.visibilities, key, visible, self._max_decisions)
        return visible

    def lookup(self, principal: Principal) -> Lookup:
        """Return `visibility` for one caller, as the query judge and the statements take it."""
        return lambda resource: self.visibility(principal, resource)

    def _key(
        self, state: _InForce, principal: Principal, resource: ResourceDefinition, operation: str
    ) -> tuple[object, ...]:
        """Everything a decision depends on; a tenant without rows of its own shares all others'."""
        domain = str(principal.tenant_id)
        if domain not in state.rows.domains:
            domain = EVERYWHERE
        user = principal.user_id if domain in state.rows.personal_domains else 0
        return (
            domain,
            principal.roles,
            principal.anonymous,
            principal.at_home_on_platform,
            user,
            resource.version,
            resource.name,
            operation,
        )

    def _decided(
        self, state: _InForce, principal: Principal, resource: ResourceDefinition, operation: str
    ) -> Decision:
        action = next((one for one in resource.actions if one.key == operation), None)
        if (reason := _out_of_place(principal, resource, operation, action)) is not None:
            return Decision(allowed=False, reason=reason)
        subjects, domain = _subjects(principal), str(principal.tenant_id)
        held = sorted(state.rows.inherited(subjects, domain))
        selected = list(self._base.select(held, EVERYWHERE, resource, operation))
        if domain in state.rows.domains:
            selected += state.rows.select(held, domain, resource, operation)
        return _combined(selected, resource, operation)


def within(operations: frozenset[str], resource: ResourceDefinition, operation: str) -> bool:
    """Whether an operation is among those of an API key: `Resource:operation`, with `*`, `read`, `write`."""
    action = next((one for one in resource.actions if one.key == operation), None)
    reads = operation in READ_OPERATIONS or (action is not None and action.method in ("GET", "HEAD"))
    words = (operation, "read" if reads else "write", "*")
    return any(f"{name}:{word}" in operations for name in (resource.name, "*") for word in words)


def _subjects(principal: Principal) -> frozenset[str]:
    """Return the typed names a caller answers to."""
    if principal.anonymous:
        return frozenset({_EVERYBODY})
    roles = {subject_of(role) for role in principal.roles}
    return frozenset({*roles, _SIGNED_IN, _EVERYBODY, f"user:{principal.user_id}"})


def _out_of_place(
    principal: Principal, resource: ResourceDefinition, operation: str, action: ActionDefinition | None
) -> str | None:
    """Say why no policy at all could allow this here; None when one could."""
    reads = operation in READ_OPERATIONS or (action is not None and action.method in ("GET", "HEAD"))
    if reads:
        return None
    if principal.anonymous and action is None:
        return "anonymous callers only read"
    if resource.scope is Scope.SHARED and not principal.at_home_on_platform and not _open(action):
        return "rows that all tenants share are written from the platform only"
    creates = resource.scope is Scope.SELF and operation in ("create", "delete")
    if creates and not principal.at_home_on_platform:
        return "tenants are made and deleted from the platform only"
    return None


def _open(action: ActionDefinition | None) -> bool:
    return action is not None and action.public


def _combined(policies: Sequence[Policy], resource: ResourceDefinition, operation: str) -> Decision:
    """Apply the algebra to the policies that hold."""
    allows = [policy for policy in policies if not policy.deny]
    denies = [policy for policy in policies if policy.deny]
    sources = tuple(dict.fromkeys(policy.source for policy in policies))
    if not allows:
        return Decision(allowed=False, reason="no policy of a held role allows it", policies=sources)
    barred = [policy.rows for policy in denies if policy.fields is None]
    if None in barred:
        source = next(policy.source for policy in denies if policy.fields is None and policy.rows is None)
        return Decision(allowed=False, reason=f"denied by {source}", policies=sources)
    rows = all_of([_granted(allows), *_refusals(barred)])
    fields = _fields(allows, denies, resource, reading=operation in READ_OPERATIONS)
    everything = len(fields) == len(resource.fields) and not any(fields.values())
    return Decision(
        allowed=True,
        reason=f"allowed by {', '.join(dict.fromkeys(policy.source for policy in allows))}",
        rows=rows,
        fields=None if everything else fields,
        policies=sources,
    )


def _granted(policies: Sequence[Policy]) -> Condition | None:
    return any_of(list(dict.fromkeys(policy.rows for policy in policies)))


def _refusals(conditions: Iterable[Condition | None]) -> list[Condition]:
    return [Refusal(condition) for condition in dict.fromkeys(conditions) if condition is not None]


def _fields(
    allows: Sequence[Policy], denies: Sequence[Policy], resource: ResourceDefinition, *, reading: bool
) -> Mapping[str, Condition | None]:
    """Return each usable field and, on the rows that are allowed at all, the condition for it."""
    usable: dict[str, Condition | None] = {}
    for name in resource.fields:
        # Whoever may see a row may know its key: order, cursor and address are made of it.
        granting = [
            policy
            for policy in allows
            if policy.fields is None or name in policy.fields or (reading and name == "id")
        ]
        barred = [policy.rows for policy in denies if policy.fields is not None and name in policy.fields]
        if not granting or None in barred:
            continue
        # Granted by all that grant rows: the row's own condition says it already.
        granted = None if len(granting) == len(allows) else _granted(granting)
        usable[name] = all_of([granted, *_refusals(barred)])
    return MappingProxyType(usable)


def _visibility(decision: Decision, resource: ResourceDefinition) -> Visibility:
    fields = dict.fromkeys(resource.fields) if decision.fields is None else decision.fields
    readable = {name: when for name, when in fields.items() if not resource.fields[name].write_only}
    return Visibility(decision.rows, MappingProxyType(readable) if readable else _NO_FIELDS)


def _remember(cache: dict[tuple[object, ...], V], key: tuple[object, ...], value: V, limit: int) -> None:
    if len(cache) >= limit:
        del cache[next(iter(cache))]
    cache[key] = value
