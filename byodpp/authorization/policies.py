"""Policies: the manifest's `access` and the rows of `Policies` in, a set that answers "which hold?" out.

Casbin selects: with the tenant as domain, exact equality of resource and operation, and role
inheritance. What a selected policy means for rows and fields is `authorization`'s affair.
Refuses at start what names nothing (StartError); a faulty row grants nothing and, if it
denies, denies everything it can reach. Rule text is data: nothing of it is ever evaluated.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from byodpp.authorization.selection import PolicySelection
from byodpp.conditions import Condition, with_constants
from byodpp.definitions import OPERATIONS, READ_OPERATIONS, AccessRule, ResourceDefinition
from byodpp.exceptions import ApiError, ManifestError, Problem
from byodpp.query import condition_from_json
from byodpp.registry import Registry
from byodpp.suggestion import nearest

__all__ = [
    "ADMIN",
    "EVERYWHERE",
    "PUBLIC",
    "Policy",
    "PolicyRow",
    "PolicySet",
    "RoleLink",
    "base_policies",
    "operation_keys",
    "policy_condition",
    "row_policies",
    "rules_of",
    "subject_of",
]

_log = logging.getLogger(__name__)

#: What Casbin is told for the words of a row that mean several things; no operation is called so.
_EVERY: Final = "<every>"
_READS: Final = "<read>"
_WRITES: Final = "<write>"
_WORDS: Final = {"*": _EVERY, "read": _READS, "write": _WRITES}

#: Role that may do what no rule of the manifest speaks of.
ADMIN: Final = "Admin"
#: Role that everybody has, signed in or not.
PUBLIC: Final = "public"
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
    filter: Mapping[str, Any] | str | None = None  # of a policy for every resource: compiled for each
    fields: frozenset[str] | None = None  # None is every field
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
    filter: Mapping[str, Any] | str | None = None  # JSON, or its text
    fields: Sequence[str] | None = None

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


class PolicySet:
    """Policies that do not change. A change makes another set, which takes this one's place."""

    def __init__(
        self, policies: Iterable[Policy], links: Iterable[RoleLink] = (), *, registry: Registry
    ) -> None:
        """Args:
        policies: what may be selected.
        links: role inheritance.
        registry: for filters of policies that hold for every resource.
        """
        self._policies = tuple(policies)
        self._registry = registry
        self._fitted: dict[tuple[int, tuple[str, str]], Policy | None] = {}
        links = tuple(links)
        self._selection = PolicySelection(
            (
                (policy.subject, policy.domain, _key(policy.resource), policy.operation, policy.deny)
                for policy in self._policies
            ),
            ((link.subject, subject_of(link.inherits), str(link.tenant_id)) for link in links),
        )
        self.domains = frozenset(policy.domain for policy in self._policies) | self._selection.linked_domains
        personal = {policy.domain for policy in self._policies if policy.subject.startswith("user:")}
        #: Domains in which a single user has policies: decisions there are the user's own.
        self.personal_domains = frozenset(
            personal.union(str(link.tenant_id) for link in links if link.role is None)
        )

    def select(
        self, subjects: Sequence[str], domain: str, resource: ResourceDefinition, operation: str
    ) -> tuple[Policy, ...]:
        """Return the policies that hold for any of the subjects, in the order they were given."""
        if operation not in operation_keys(resource):
            return ()
        group = _READS if operation in READ_OPERATIONS else _WRITES
        resources, operations = (_key(resource.id), _key(None)), (operation, group, _EVERY)
        numbers = self._selection.select(subjects, domain, resources, operations)
        fitted = (self._fit(number, resource) for number in numbers)
        return tuple(policy for policy in fitted if policy is not None)

    def _fit(self, number: int, resource: ResourceDefinition) -> Policy | None:
        """Return a policy as it holds for this resource; None: it grants nothing there."""
        policy = self._policies[number]
        if policy.filter is None:
            return policy
        key = (number, resource.id)
        if key not in self._fitted:
            rows, sound = _row_condition(policy.filter, resource, self._registry, policy.source)
            self._fitted[key] = replace(policy, rows=rows, filter=None) if sound or policy.deny else None
        return self._fitted[key]

    def inherited(self, subjects: Iterable[str], domain: str) -> frozenset[str]:
        """Return the subjects and all whose rights they have in the domain."""
        return self._selection.inherited(subjects, domain)

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


def base_policies(registry: Registry) -> list[Policy]:
    """Turn the `access` of every resource into policies that hold everywhere.

    Raises:
        ManifestError: all filters and fields that make no sense, with their JSON paths.
    """
    policies: list[Policy] = []
    problems: list[Problem] = []
    for resource in registry:
        compiled: dict[int, tuple[Condition | None, frozenset[str] | None]] = {}
        for operation in operation_keys(resource):
            for rule in rules_of(resource, operation):
                if id(rule) not in compiled:
                    compiled[id(rule)] = _compiled(rule, resource, registry, problems)
                rows, fields = compiled[id(rule)]
                policies += (
                    Policy(
                        subject=subject_of(role),
                        domain=EVERYWHERE,
                        resource=resource.id,
                        operation=operation,
                        rows=rows,
                        fields=fields,
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
) -> tuple[Condition | None, frozenset[str] | None]:
    rows: Condition | None = None
    if rule.filter is not None:
        try:
            rows = policy_condition(rule.filter, resource, registry)
        except ApiError as error:
            details = error.details or (None,)
            problems += (
                Problem(
                    f"{rule.path}.filter",
                    f"{detail.field}: {detail.message}" if detail else error.message,
                )
                for detail in details
            )
    for name in rule.fields or ():
        if name not in resource.fields:
            reason = f"{resource.name} has no field {name!r}"
            problems.append(Problem(f"{rule.path}.fields", reason, nearest(name, resource.fields)))
    return rows, None if rule.fields is None else frozenset(rule.fields)


def policy_condition(tree: Mapping[str, Any], resource: ResourceDefinition, registry: Registry) -> Condition:
    """Compile the filter of a rule.

    Raises:
        InvalidQuery: it makes no sense for the resource.
    """
    condition, values = condition_from_json(tree, resource, registry, None)
    return with_constants(condition, values)


def row_policies(rows: Iterable[PolicyRow], registry: Registry) -> list[Policy]:
    """Turn the rows of `Policies` into policies of their tenants.

    A row that cannot be understood grants nothing; if it denies, its filter counts as matching
    every row. Either way it is logged.
    """
    policies: list[Policy] = []
    named: dict[str, list[ResourceDefinition]] = {}
    for resource in registry:
        named.setdefault(resource.name, []).append(resource)
    for row in rows:
        source = f"Policies {row.id} of tenant {row.tenant_id}"
        if row.operation in _WORDS.values():
            continue  # our own marks are no words of a row
        every = Policy(
            subject=row.subject,
            domain=str(row.tenant_id),
            resource=None,
            operation=_WORDS.get(row.operation, row.operation),
            deny=row.deny,
            fields=None if row.fields is None else frozenset(row.fields),
            filter=row.filter,
            source=source,
        )
        if row.resource == "*":
            policies.append(every)
            continue
        if row.resource not in named:
            _log.error("%s names no resource: %r", source, row.resource)
        for resource in named.get(row.resource, ()):
            rows_, sound = _row_condition(row.filter, resource, registry, source)
            if sound or row.deny:
                policies.append(replace(every, resource=resource.id, rows=rows_, filter=None))
    return policies


def _row_condition(
    text: Mapping[str, Any] | str | None, resource: ResourceDefinition, registry: Registry, source: str
) -> tuple[Condition | None, bool]:
    """Return the condition of a row, and whether it could be understood for this resource."""
    if text is None:
        return None, True
    try:
        tree = json.loads(text) if isinstance(text, str) else text
        return policy_condition(tree, resource, registry), True
    except (ApiError, ValueError, TypeError, RecursionError) as error:
        _log.error("the condition of %s does not fit %s: %s", source, resource.name, error)
        return None, False


def _key(resource: tuple[str, str] | None) -> str:
    return _EVERY if resource is None else "/".join(resource)
