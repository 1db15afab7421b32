"""Policies: the manifest's `access` and the rows of `Policies` in, a set that answers "which hold?" out.

Casbin selects: with the tenant as domain, exact equality of resource and operation, and role
inheritance. What a selected policy means for rows and fields is `authorization`'s affair.
Refuses at start what names nothing (StartError); a faulty row grants nothing and, if it
denies, denies everything it can reach. Rule text is data: nothing of it is ever evaluated.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from byodpp import wire
from byodpp.authorization.selection import PolicySelection
from byodpp.conditions import Condition, all_of, with_constants
from byodpp.definitions import OPERATIONS, READ_OPERATIONS, AccessRule, ResourceDefinition
from byodpp.exceptions import ApiError, ManifestError, Problem
from byodpp.query import condition_from_json
from byodpp.registry import Registry
from byodpp.suggestion import nearest

__all__ = [
    "ADMIN",
    "EVERY",
    "EVERYWHERE",
    "OWNER",
    "PUBLIC",
    "READS",
    "WRITES",
    "Policy",
    "PolicyRow",
    "PolicySet",
    "RoleLink",
    "base_policies",
    "fitted",
    "operation_keys",
    "preset_condition",
    "row_policies",
    "rules_of",
    "subject_of",
]

_log = logging.getLogger(__name__)

#: What Casbin is told for the words of a row that mean several things; no operation is called so.
EVERY: Final = "<every>"
READS: Final = "<read>"
WRITES: Final = "<write>"
_WORDS: Final = {"*": EVERY, "read": READS, "write": WRITES}

#: Role that may do what no rule of the manifest speaks of.
ADMIN: Final = "Admin"
#: Role that everybody has, signed in or not.
PUBLIC: Final = "public"
#: Audience of a field: who is signed in at the tenant to which the row belongs.
OWNER: Final = "owner"
#: Domain of the manifest's rules, which hold for every tenant.
EVERYWHERE: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Policy:
    """One rule, for one subject, one domain, one resource and one operation."""

    subject: str  # `role:Admin`, `role:*`, `role:public`, `user:7`
    domain: str  # a tenant's id, or EVERYWHERE
    resource: tuple[str, str] | None  # version and name; None is every resource
    operation: str  # one of the seven, an action's key, or one of the words for several
    deny: bool = False
    rows: Condition | None = None  # None is every row
    row: PolicyRow | None = None  # of a policy for every resource: what is compiled for each
    fields: frozenset[str] | None = None  # None is every field
    presets: Mapping[str, Any] = field(default_factory=dict)  # field -> JSON value that a create gets
    preset_rows: Condition | None = None  # a created row must have these values
    filter: Any = None  # `rows` as it was written: JSON of the query language
    source: str = ""  # where it is written: a JSON path, or `Policies 7`


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    """A row of `Policies` as it is stored."""

    id: int
    tenant_id: int
    role: str | None = None  # a role's name, or `*`; None when it is about one user
    user_id: int | None = None
    resource: str  # name, in every version that has it; `*` is all
    operation: str  # one of the seven, an action's key, `read`, `write`, or `*`
    deny: bool = False
    filter: Mapping[str, Any] | str | None = None  # JSON, or its text; None is every row
    fields: Sequence[str] | None = None  # None is every field
    presets: Mapping[str, Any] | str | None = None  # JSON, or its text; None presets nothing

    @property
    def subject(self) -> str:
        """Who it is about, typed: a role called `user:7` is never the user 7."""
        return _typed(self.role, self.user_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleLink:
    """Inside a tenant, who holds `role` (or is the user) holds the role `inherits` too."""

    tenant_id: int
    role: str | None = None  # None when it is about one user
    user_id: int | None = None
    inherits: str

    @property
    def subject(self) -> str:
        """Who it is about, typed."""
        return _typed(self.role, self.user_id)

    @property
    def inherited(self) -> str:
        """What is held too, typed."""
        return subject_of(self.inherits)


class PolicySet:
    """Policies that do not change. A change makes another set, which takes this one's place."""

    def __init__(
        self,
        policies: Iterable[Policy],
        links: Iterable[tuple[str, str, str]] = (),
        *,
        registry: Registry,
        former: PolicySet | None = None,
    ) -> None:
        """Args:
        policies: what may be selected.
        links: role inheritance: a subject, what it holds too, and the domain.
        registry: for filters of policies that hold for every resource.
        former: whose policies, where they are here too, are not compiled anew for its resources.
        """
        self._policies = tuple(policies)
        self._registry = registry
        self._fitted: dict[tuple[Policy, tuple[str, str]], Policy | None] = {}
        if former is not None:
            kept = frozenset(self._policies)
            # A copy at once: another thread may be adding to it.
            self._fitted = {key: one for key, one in dict(former._fitted).items() if key[0] in kept}
        self._selection = PolicySelection(
            (
                (policy.subject, policy.domain, _key(policy.resource), policy.operation, policy.deny)
                for policy in self._policies
            ),
            links,
        )

    def select(
        self, subjects: Sequence[str], domain: str, resource: ResourceDefinition, operation: str
    ) -> tuple[Policy, ...]:
        """Return the policies that hold for any of the subjects, in the order they were given."""
        if operation not in operation_keys(resource):
            return ()
        group = READS if operation in READ_OPERATIONS else WRITES
        resources, operations = (_key(resource.id), _key(None)), (operation, group, EVERY)
        numbers = self._selection.select(subjects, domain, resources, operations)
        found = (self._fit(number, resource) for number in numbers)
        return tuple(policy for policy in found if policy is not None)

    def _fit(self, number: int, resource: ResourceDefinition) -> Policy | None:
        """Return a policy as it holds for this resource; None: it grants nothing there."""
        policy = self._policies[number]
        if policy.row is None:
            return policy
        key = (policy, resource.id)
        if key not in self._fitted:
            self._fitted[key] = fitted(policy, resource, self._registry)
        return self._fitted[key]

    def inherited(self, subjects: Iterable[str], domain: str) -> frozenset[str]:
        """Return the subjects and all whose rights they have in the domain."""
        return self._selection.inherited(subjects, domain)

    def __iter__(self) -> Iterator[Policy]:
        return iter(self._policies)

    def __len__(self) -> int:
        return len(self._policies)


def _typed(role: str | None, user_id: int | None) -> str:
    return f"user:{user_id or 0}" if role is None else subject_of(role)


def subject_of(name: str) -> str:
    """Return the typed form of a role's name."""
    return f"role:{name}"


def operation_keys(resource: ResourceDefinition) -> tuple[str, ...]:
    """Return everything that can be asked of a resource."""
    return (*OPERATIONS, *(action.key for action in resource.actions if action.key not in OPERATIONS))


class _Compiled(NamedTuple):
    """What a rule of the manifest means for its resource."""

    rows: Condition | None
    fields: frozenset[str] | None
    preset_rows: Condition | None


def base_policies(registry: Registry) -> list[Policy]:
    """Turn the `access` of every resource into policies that hold everywhere.

    Raises:
        ManifestError: all filters and fields that make no sense, with their JSON paths.
    """
    policies: list[Policy] = []
    problems: list[Problem] = []
    for resource in registry:
        compiled: dict[int, _Compiled] = {}
        for operation in operation_keys(resource):
            for rule in rules_of(resource, operation):
                if id(rule) not in compiled:
                    compiled[id(rule)] = _compiled(rule, resource, registry, problems)
                found = compiled[id(rule)]
                policies += (
                    Policy(
                        subject=subject_of(role),
                        domain=EVERYWHERE,
                        resource=resource.id,
                        operation=operation,
                        rows=found.rows,
                        fields=found.fields,
                        presets=rule.preset,
                        preset_rows=found.preset_rows,
                        filter=rule.filter,
                        source=rule.path or resource.path,
                    )
                    for role in dict.fromkeys(rule.roles)
                )
    if problems:
        raise ManifestError(problems)
    return policies


def rules_of(resource: ResourceDefinition, operation: str) -> Sequence[AccessRule]:
    """Return the manifest's rules for one operation: its own, else `read` or `write`, else Admin only."""
    action = next((one for one in resource.actions if one.key == operation), None)
    steps = () if action is None or action.transition is None else action.transition.roles
    by_step = (AccessRule(roles=steps, path=action.path),) if action is not None and steps else ()
    if operation in resource.access:
        return (*resource.access[operation], *by_step)
    if by_step:
        return by_step
    if action is not None and action.public:
        return (AccessRule(roles=(PUBLIC,), path=action.path),)
    group = "read" if operation in READ_OPERATIONS else "write"
    return resource.access.get(group, (AccessRule(roles=(ADMIN,), path=resource.path),))


def _compiled(
    rule: AccessRule, resource: ResourceDefinition, registry: Registry, problems: list[Problem]
) -> _Compiled:
    rows: Condition | None = None
    preset_rows: Condition | None = None
    with _collecting(problems, f"{rule.path}.filter"):
        rows = _condition(rule.filter, resource, registry) if rule.filter is not None else None
    with _collecting(problems, f"{rule.path}.preset"):
        preset_rows = preset_condition(rule.preset, resource, registry)
    for name in rule.fields or ():
        if name not in resource.fields:
            reason = f"{resource.name} has no field {name!r}"
            problems.append(Problem(f"{rule.path}.fields", reason, nearest(name, resource.fields)))
    return _Compiled(rows, None if rule.fields is None else frozenset(rule.fields), preset_rows)


@contextmanager
def _collecting(problems: list[Problem], path: str) -> Iterator[None]:
    """Note what is wrong with a part of a rule, and go on."""
    try:
        yield
    except ApiError as error:
        details = error.details or (None,)
        problems += (
            Problem(path, f"{detail.field}: {detail.message}" if detail else error.message)
            for detail in details
        )


def _condition(tree: Mapping[str, Any], resource: ResourceDefinition, registry: Registry) -> Condition:
    condition, values = condition_from_json(tree, resource, registry, None)
    return with_constants(condition, values)


def row_policies(rows: Iterable[PolicyRow], registry: Registry) -> list[Policy]:
    """Turn the rows of `Policies` into policies of their tenants.

    A row that cannot be understood grants nothing; if it denies, its filter counts as matching
    every row. Either way it is logged.
    """
    policies: list[Policy] = []
    for row in rows:
        if row.operation in _WORDS.values():
            continue  # our own marks are no words of a row
        named = tuple(registry) if row.resource == "*" else registry.named(row.resource)
        every = _with_known_fields(_unfitted(row), named)
        if every is None:
            continue
        if row.resource == "*":
            policies.append(every)
            continue
        if not named:
            _log.error("%s names no resource: %r", every.source, row.resource)
        found = (fitted(every, resource, registry) for resource in named)
        policies += (policy for policy in found if policy is not None)
    return policies


def _unfitted(row: PolicyRow) -> Policy:
    """Return the policy of a row before it is compiled for a resource."""
    return Policy(
        subject=row.subject,
        domain=str(row.tenant_id),
        resource=None,
        operation=_WORDS.get(row.operation, row.operation),
        deny=row.deny,
        # A deny of no field at all was meant to deny something: it denies every field.
        fields=None if row.fields is None or (row.deny and not row.fields) else frozenset(row.fields),
        row=row,
        source=f"Policies {row.id} of tenant {row.tenant_id}",
    )


def _with_known_fields(policy: Policy, resources: Sequence[ResourceDefinition]) -> Policy | None:
    """Return a policy with those of its fields that there are in some of its resources.

    Where it names others, a deny denies every field: nobody knows any more what it was to hide. An allow
    of no other fields grants nothing: None.
    """
    if not policy.fields or not resources:
        return policy
    known = frozenset(name for name in policy.fields if any(name in one.fields for one in resources))
    if known == policy.fields:
        return policy
    _log.error("%s names no field: %s", policy.source, ", ".join(sorted(policy.fields - known))[:200])
    if policy.deny:
        return replace(policy, fields=None)
    return replace(policy, fields=known) if known else None


def fitted(policy: Policy, resource: ResourceDefinition, registry: Registry) -> Policy | None:
    """Return a policy as it holds for a resource; None: it grants nothing there."""
    row = policy.row
    if row is None:
        return policy
    made = replace(policy, resource=None if row.resource == "*" else resource.id, row=None)
    try:
        tree = _tree(row.filter)
        rows = _condition(tree, resource, registry) if tree is not None else None
        presets = _presets(_tree(row.presets))
        preset_rows = preset_condition(presets, resource, registry)
        return replace(made, rows=rows, filter=tree, presets=presets, preset_rows=preset_rows)
    except (ApiError, ValueError, TypeError, RecursionError) as error:
        _log.error("%s does not fit %s: %s", policy.source, resource.name, error)
        return made if row.deny else None


def preset_condition(
    presets: Mapping[str, Any], resource: ResourceDefinition, registry: Registry
) -> Condition | None:
    """Return that a row has the values of a preset; None when nothing is preset.

    Raises:
        ApiError: a value that no row could have.
    """
    if not presets:
        return None
    trees = ({name: {"isNull": True} if value is None else {"eq": value}} for name, value in presets.items())
    return all_of([_condition(tree, resource, registry) for tree in trees])


def _presets(tree: Any) -> Mapping[str, Any]:
    """Return what a rule presets.

    Raises:
        TypeError: something is said there that is nothing to preset.
    """
    if tree is None:
        return {}
    if not isinstance(tree, Mapping) or not tree:
        raise TypeError("its presets are no fields and values")
    return tree


def _tree(value: Any) -> Any:
    return wire.loads(value.encode()) if isinstance(value, str) else value


def _key(resource: tuple[str, str] | None) -> str:
    return EVERY if resource is None else "/".join(resource)
