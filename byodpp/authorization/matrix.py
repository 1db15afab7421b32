"""The permission matrix: which role may do what, on which rows, with which fields.

Rules of one tenant in, a cell per role, resource and operation out. Each cell is the decision that a
request of somebody with this role alone gets, so that the matrix cannot say something else than what
happens. Nothing is refused here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from byodpp.authentication import Principal
from byodpp.authorization.algebra import Caller, Decision, decided
from byodpp.authorization.decisions import caller_of
from byodpp.authorization.explanation import fields_json, rows_json
from byodpp.authorization.in_force import TenantRules
from byodpp.authorization.policies import PUBLIC, Policy, operation_keys, subject_of
from byodpp.database import PLATFORM_TENANT
from byodpp.definitions import ResourceDefinition

__all__ = ["EVERYBODY", "Cell", "matrix", "matrix_json", "matrix_table", "roles_of"]

#: Columns that are no role: everybody, and everybody who is signed in.
EVERYBODY: Final = (PUBLIC, "*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What holders of one role, and of nothing else, may do."""

    role: str  # or one of EVERYBODY
    resource: ResourceDefinition
    operation: str
    decision: Decision

    @property
    def word(self) -> str:
        """`no`, `yes`, or by what it is bounded: `rows`, `fields`, `rows, fields`."""
        if not self.decision.allowed:
            return "no"
        bounds = ["rows"] if self.decision.rows is not None else []
        if self.decision.fields is not None and self.operation != "delete":
            bounds.append("fields")
        return ", ".join(bounds) or "yes"

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        decision = self.decision
        if not decision.allowed:
            return {"may": "no", "reason": decision.reason}
        found: dict[str, Any] = {
            "may": self.word,
            "rows": rows_json(decision),
            "fields": fields_json(decision, self.resource, self.operation),
            "rules": list(dict.fromkeys(rule.source for rule in decision.rules)),
        }
        if decision.presets:
            found["preset"] = dict(decision.presets)
        return found


def roles_of(rules: TenantRules, known: Iterable[str] = ()) -> list[str]:
    """Return EVERYBODY, and after them, sorted, every role that rules or links name.

    Args:
        rules: of a tenant.
        known: further roles.
    """
    subjects = {policy.subject for policy in rules.policies()}
    subjects |= {word for link in rules.links for word in (link.subject, link.inherited)}
    named = {subject.removeprefix("role:") for subject in subjects if subject.startswith("role:")}
    return [*EVERYBODY, *sorted({*named, *known}.difference(EVERYBODY))]


def matrix(
    rules: TenantRules, tenant_id: int, roles: Sequence[str], resources: Iterable[ResourceDefinition]
) -> Iterator[Cell]:
    """Yield the cells: resource by resource, operation by operation, in the order of the roles.

    Args:
        rules: of the tenant.
        tenant_id: the tenant, at which the holders of the roles are at home.
        roles: of `roles_of`.
        resources: the lines of the matrix.
    """
    callers = {role: caller_of(rules, _holder(tenant_id, role)) for role in roles}
    policies = list(rules.policies())
    for resource in resources:
        alike = _alike(callers, resource, policies)
        for operation in operation_keys(resource):
            known: dict[Caller, Decision] = {}
            for role, caller in callers.items():
                first = alike[role]
                if first not in known:
                    known[first] = decided(rules, caller, resource, operation)
                yield Cell(role=role, resource=resource, operation=operation, decision=known[first])


def _alike(
    callers: Mapping[str, Caller], resource: ResourceDefinition, policies: Iterable[Policy]
) -> dict[str, Caller]:
    """Return each caller without what nothing about the resource asks for.

    Who is the same then gets the same decisions: what a caller holds includes all that it inherits, and
    rules and audiences compare it with their own words.
    """
    asked = {policy.subject for policy in policies if policy.resource in (None, resource.id)}
    asked |= {subject_of(word) for field in resource.fields.values() for word in field.audience}
    return {role: replace(caller, held=caller.held & asked) for role, caller in callers.items()}


def _holder(tenant_id: int, role: str) -> Principal:
    """Return somebody of the tenant who has this role only."""
    if role == PUBLIC:
        return Principal(tenant_id=tenant_id)
    return Principal(
        tenant_id=tenant_id,
        session_tenant_id=tenant_id,
        home_tenant_id=tenant_id,
        roles=frozenset({role}) - {"*"},
        anonymous=False,
        platform=tenant_id == PLATFORM_TENANT,
    )


def matrix_json(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Return an object per resource: its operations, and of each what every role may do."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in cells:
        resource = cell.resource
        usual = {"resource": resource.name, "version": resource.version, "operations": {}}
        operations = found.setdefault(resource.id, usual)["operations"]
        operations.setdefault(cell.operation, {})[cell.role] = cell.as_json()
    return list(found.values())


def matrix_table(cells: Iterable[Cell]) -> tuple[list[str], list[list[str]]]:
    """Return headings, and a line per resource and operation; `-` is no."""
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for cell in cells:
        key = (cell.resource.name, cell.resource.version, cell.operation)
        lines.setdefault(key, {})[cell.role] = "-" if cell.word == "no" else cell.word
    roles = list(next(iter(lines.values()), {}))
    return ["RESOURCE", "VERSION", "OPERATION", *roles], [
        [*key, *(words[role] for role in roles)] for key, words in lines.items()
    ]
