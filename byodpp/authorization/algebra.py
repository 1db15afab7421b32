"""The algebra: rules, a caller, a resource and an operation in, a Decision out.

(row, field, operation) is allowed iff some allow policy of a held role matches row and field
and no deny does. The answer is a condition over rows and one per field, which `statements`
compiles into the SQL of every read and `repository` into that of every write. Pure: it keeps
nothing, and asks nobody but the rules it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from byodpp.authorization.in_force import TenantRules
from byodpp.authorization.policies import OWNER, PUBLIC, Policy, subject_of
from byodpp.conditions import NOTHING, Comparison, Condition, Refusal, Variable, all_of, any_of
from byodpp.definitions import (
    READ_OPERATIONS,
    ActionDefinition,
    FieldDefinition,
    ResourceDefinition,
    Scope,
)

__all__ = ["Caller", "Decision", "decided", "left_by_scope", "meant_for", "out_of_place", "within"]

_NO_PRESETS: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether an operation may be done at all, and on which rows and fields."""

    allowed: bool  # on some row at least; False is 403
    reason: str  # for logs and `explain`, never for the client
    rows: Condition | None = None  # None is every row of the caller's scope
    fields: Mapping[str, Condition | None] | None = None  # None is every field; else field -> when
    rules: tuple[Policy, ...] = ()  # that hold for the caller, in the order in which they are written
    presets: Mapping[str, Any] = field(
        default_factory=lambda: _NO_PRESETS
    )  # of a create: field -> JSON value where the body has none

    def permits(self, name: str) -> bool:
        """Whether the field may be used on some row."""
        return self.fields is None or name in self.fields


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Caller:
    """Of a principal, all that a decision depends on. Compared by identity: what is decided is kept by it."""

    held: frozenset[str]  # typed names of who it is and of every role it has
    barred: frozenset[str] = frozenset()  # the same of which only the denies hold: an API key's maker
    anonymous: bool = False
    at_home: bool = True  # signed in at the tenant whose rows are asked for
    on_platform: bool = False  # an operator who acts for the platform itself
    state: object = field(default=None, repr=False)  # of the rules by which this was found out


def decided(
    rules: TenantRules,
    caller: Caller,
    resource: ResourceDefinition,
    operation: str,
    *,
    audiences: bool = True,
) -> Decision:
    """Decide.

    Args:
        rules: of the tenant whose rows are meant.
        caller: who asks.
        resource: what of.
        operation: one of the seven, or an action's key.
        audiences: False passes over whom fields are meant for.
    """
    action = next((one for one in resource.actions if one.key == operation), None)
    if (reason := out_of_place(caller, resource, operation, action)) is not None:
        return Decision(allowed=False, reason=reason)
    selected = rules.select(sorted(caller.held | caller.barred), resource, operation)
    if caller.barred:
        selected = tuple(one for one in selected if one.deny or one.subject in caller.held)
    return _combined(selected, caller if audiences else None, resource, operation)


def out_of_place(
    caller: Caller, resource: ResourceDefinition, operation: str, action: ActionDefinition | None
) -> str | None:
    """Say why no policy at all could allow this here; None when one could."""
    if resource.scope is Scope.USER and not (caller.at_home or caller.anonymous or _open(action)):
        return "rows of users are their own, and this user is another tenant's"
    reads = operation in READ_OPERATIONS or (action is not None and action.method in ("GET", "HEAD"))
    if reads:
        return None
    if caller.anonymous and action is None:
        return "anonymous callers only read"
    if resource.scope is Scope.SHARED and not caller.on_platform and not _open(action):
        return "rows that all tenants share are written from the platform only"
    creates = resource.scope is Scope.SELF and operation in ("create", "delete")
    if creates and not caller.on_platform:
        return "tenants are made and deleted from the platform only"
    return None


def left_by_scope(resource: ResourceDefinition, operation: str) -> Condition | None:
    """Return on which of the rows that are read an operation can be done at all; None is each.

    Of a library a tenant changes its own rows; what an action does is its class's affair.
    """
    action = next((one for one in resource.actions if one.key == operation), None)
    changes = operation in ("update", "patch", "delete") or (action is not None and action.transition)
    if resource.scope is Scope.LIBRARY and changes:
        return Comparison((), "tenantId", "eq", Variable("tenant"))
    return None


def within(operations: frozenset[str], resource: ResourceDefinition, operation: str) -> bool:
    """Whether an operation is among those of an API key: `Resource:operation`, with `*`, `read`, `write`."""
    action = next((one for one in resource.actions if one.key == operation), None)
    reads = operation in READ_OPERATIONS or (action is not None and action.method in ("GET", "HEAD"))
    words = (operation, "read" if reads else "write", "*")
    return any(f"{name}:{word}" in operations for name in (resource.name, "*") for word in words)


def _open(action: ActionDefinition | None) -> bool:
    return action is not None and action.public


def _combined(
    policies: Sequence[Policy], caller: Caller | None, resource: ResourceDefinition, operation: str
) -> Decision:
    """Apply the algebra to the policies that hold."""
    allows = [policy for policy in policies if not policy.deny]
    denies = [policy for policy in policies if policy.deny]
    rules = tuple(policies)
    if not allows:
        return Decision(allowed=False, reason="no policy of a held role allows it", rules=rules)
    barred = [policy.rows for policy in denies if policy.fields is None]
    if None in barred:
        source = next(policy.source for policy in denies if policy.fields is None and policy.rows is None)
        return Decision(allowed=False, reason=f"denied by {source}", rules=rules)
    rows = all_of([_granted(allows, operation), *_refusals(barred)])
    fields = _fields(allows, denies, caller, resource, operation)
    everything = len(fields) == len(resource.fields) and not any(fields.values())
    return Decision(
        allowed=True,
        reason=f"allowed by {', '.join(dict.fromkeys(policy.source for policy in allows))}",
        rows=rows,
        fields=None if everything else fields,
        rules=rules,
        presets=_presets(allows) if operation == "create" else _NO_PRESETS,
    )


def _rows(policy: Policy, operation: str) -> Condition | None:
    """Return the rows of an allow; what it presets, a created row must have."""
    return all_of([policy.rows, policy.preset_rows]) if operation == "create" else policy.rows


def _granted(policies: Sequence[Policy], operation: str) -> Condition | None:
    return any_of(list(dict.fromkeys(_rows(policy, operation) for policy in policies)))


def _refusals(conditions: Iterable[Condition | None]) -> list[Condition]:
    return [Refusal(condition) for condition in dict.fromkeys(conditions) if condition is not None]


def _presets(policies: Sequence[Policy]) -> Mapping[str, Any]:
    """Return what a create gets: of a field that several preset, the first one's value."""
    found: dict[str, Any] = {}
    for policy in policies:
        for name, value in policy.presets.items():
            found.setdefault(name, value)
    return MappingProxyType(found) if found else _NO_PRESETS


def _fields(
    allows: Sequence[Policy],
    denies: Sequence[Policy],
    caller: Caller | None,
    resource: ResourceDefinition,
    operation: str,
) -> Mapping[str, Condition | None]:
    """Return each usable field and, on the rows that are allowed at all, the condition for it."""
    usable: dict[str, Condition | None] = {}
    for name, definition in resource.fields.items():
        meant = None
        if caller is not None and definition.audience and operation in READ_OPERATIONS:
            meant = meant_for(definition, resource, caller)
        granting = [policy for policy in allows if _grants(policy, name, operation)]
        barred = [policy.rows for policy in denies if policy.fields is not None and name in policy.fields]
        if meant is NOTHING or not granting or None in barred:
            continue
        # Granted by all that grant rows: the row's own condition says it already.
        granted = None if len(granting) == len(allows) else _granted(granting, operation)
        if name == "id" and operation in READ_OPERATIONS:
            barred = []  # whoever sees a row is answered with its key, as long as he may see keys at all
        usable[name] = all_of([granted, meant, *_refusals(barred)])
    return MappingProxyType(usable)


def _grants(policy: Policy, name: str, operation: str) -> bool:
    """Whether an allow is about a field."""
    if policy.fields is None or name in policy.fields:
        return True
    # Whoever may see a row may know its key: order, cursor and address are made of it.
    if operation in READ_OPERATIONS:
        return name == "id"
    return operation == "create" and name in policy.presets


def meant_for(definition: FieldDefinition, resource: ResourceDefinition, caller: Caller) -> Condition | None:
    """Return on which rows a caller belongs to those whom a field is meant for; NOTHING is on none."""
    words = definition.audience
    # `owner` is no role: one that is called so, by another tenant's realm for example, makes nobody one.
    if PUBLIC in words or any(subject_of(word) in caller.held for word in words if word != OWNER):
        return None
    if OWNER not in words or not caller.at_home:
        return NOTHING
    if resource.scope is Scope.SHARED:
        return None if caller.on_platform else NOTHING
    if resource.scope is Scope.LIBRARY:
        return Comparison((), "tenantId", "eq", Variable("tenant"))
    if resource.scope is Scope.SELF and caller.on_platform:
        return Comparison((), "id", "eq", Variable("tenant"))
    return None
