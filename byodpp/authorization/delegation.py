"""Nobody grants what he lacks: what a change of the rules gives, and whether its author has it.

In: the rules of a tenant before and after a change, and who changes them. Out: what the author
lacks, in words. A change gives what a new allow allows; what a deny denied that is gone; and,
with a role that is newly inherited or no longer, what that role's rules allow or denied. All of
it must lie within what the author may do by the rules from before: operations, rows, and fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from byodpp.authorization.algebra import Caller, Decision, decided, out_of_place, within
from byodpp.authorization.implication import implies
from byodpp.authorization.in_force import TenantRules
from byodpp.authorization.policies import EVERY, READS, WRITES, Policy, fitted, operation_keys
from byodpp.conditions import (
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Negation,
    Quantified,
    Refusal,
    Search,
    all_of,
)
from byodpp.definitions import READ_OPERATIONS, ResourceDefinition
from byodpp.exceptions import Detail
from byodpp.registry import Registry

__all__ = ["Author", "gains", "guesses", "lacking"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who changes rules, and by which rules he is measured."""

    caller: Caller
    rules: TenantRules
    operations: frozenset[str] | None = None  # all that an API key may do; None: no such bound


def gains(before: TenantRules, after: TenantRules) -> Iterator[Policy]:
    """Yield what a change gives to somebody, each as the policy that says or said it."""
    old = {row.id: row for row in before.rows.policies}
    new = {row.id: row for row in after.rows.policies}
    for row, policies in after.compiled():
        if old.get(row.id) != row:
            yield from (policy for policy in policies if not policy.deny)
    for row, policies in before.compiled():
        if new.get(row.id) != row:
            yield from (policy for policy in policies if policy.deny)
    for link in dict.fromkeys(after.links):
        if link not in before.links:
            yield from _of_role(after, link.inherited, deny=False)
    for link in dict.fromkeys(before.links):
        if link not in after.links:
            yield from _of_role(before, link.inherited, deny=True)


def guesses(author: Author, before: TenantRules, after: TenantRules, registry: Registry) -> Iterator[Detail]:
    """Yield the comparisons of new and changed rules with what their author cannot read."""
    old = {row.id: row for row in before.rows.policies}
    for row, policies in after.compiled():
        if row.filter is None or old.get(row.id) == row:
            continue
        for policy in policies:
            for resource in registry if policy.resource is None else (registry[policy.resource],):
                found = fitted(policy, resource, registry)
                if found is not None and found.rows is not None:
                    yield from _hidden(author, found.rows, resource, registry)


def _hidden(
    author: Author, condition: Condition, resource: ResourceDefinition, registry: Registry
) -> Iterator[Detail]:
    for path, owner, name in _compared(condition, resource, registry):
        if not _sees(author, owner, name, all_rows=bool(path)):
            place = ".".join(("condition", *path, name))
            told = f"You cannot read {name!r} in every row of {owner.name}: the rule would tell its values."
            yield Detail(place, "forbidden", told)


def _compared(
    condition: Condition, resource: ResourceDefinition, registry: Registry, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], ResourceDefinition, str]]:
    """Yield what a condition compares: the relations that lead there, the resource, and its field."""
    match condition:
        case Comparison():
            owner = _led_to(resource, condition.path, registry)
            yield (*path, *condition.path), owner, condition.field
        case Quantified():
            owner = _led_to(resource, condition.path, registry)
            yield from _compared(condition.part, owner, registry, (*path, *condition.path))
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _compared(part, resource, registry, path)
        case Negation(part) | Refusal(part):
            yield from _compared(part, resource, registry, path)
        case Search(fields):
            yield from ((path, resource, name) for name in fields)


def _led_to(resource: ResourceDefinition, path: Iterable[str], registry: Registry) -> ResourceDefinition:
    for name in path:
        resource = registry.target(resource, resource.relations[name])
    return resource


def _sees(author: Author, resource: ResourceDefinition, name: str, *, all_rows: bool) -> bool:
    """Whether somebody reads a field in every row that he reads, or in every row there is."""
    if name == "tenantId":
        return True
    if resource.fields[name].write_only:
        return False
    for operation in READ_OPERATIONS:
        own = decided(author.rules, author.caller, resource, operation)
        if own.allowed and not (all_rows and own.rows is not None):
            if own.fields is None or (name in own.fields and own.fields[name] is None):
                return True
    return False


def _of_role(rules: TenantRules, role: str, *, deny: bool) -> Iterator[Policy]:
    """Yield what a role, and every role that it inherits, allows or denies."""
    held = rules.held((role,))
    return (policy for policy in rules.policies() if policy.deny is deny and policy.subject in held)


def lacking(author: Author, gained: Iterable[Policy], registry: Registry) -> Iterator[Detail | None]:
    """Yield what the author lacks of what he gives; None where he lacks nothing, to tell that time passes."""
    for policy in gained:
        for resource in registry if policy.resource is None else (registry[policy.resource],):
            found = fitted(policy, resource, registry)
            if found is not None:
                yield _lack(author, found, resource)


def _lack(author: Author, policy: Policy, resource: ResourceDefinition) -> Detail | None:
    for operation in operation_keys(resource):
        if _covers(policy.operation, operation):
            action = next((one for one in resource.actions if one.key == operation), None)
            # What nobody in this tenant may do, whatever the rules say, is not given by them.
            if out_of_place(author.caller, resource, operation, action) is None:
                own = _own_right(author, resource, operation)
                if (found := _beyond(policy, own, resource, operation)) is not None:
                    return found
    return None


def _own_right(author: Author, resource: ResourceDefinition, operation: str) -> Decision:
    if author.operations is not None and not within(author.operations, resource, operation):
        return Decision(allowed=False, reason="the operations of the API key leave it out")
    return decided(author.rules, author.caller, resource, operation, audiences=False)


def _covers(word: str, operation: str) -> bool:
    reads = operation in READ_OPERATIONS
    return word in (operation, EVERY, READS if reads else WRITES)


def _beyond(policy: Policy, own: Decision, resource: ResourceDefinition, operation: str) -> Detail | None:
    """Return in what a policy goes beyond one's own right."""
    what = f"{operation} {resource.name}"
    if not own.allowed:
        return Detail("action", "forbidden", f"You have no right to {what} yourself.")
    creates = operation == "create"
    rows = all_of([policy.rows, policy.preset_rows]) if creates else policy.rows
    if not implies(rows, own.rows):
        told = f"You may {what} on some rows only, and it cannot be seen that the rule keeps to them."
        return Detail("condition", "forbidden", told)
    if own.fields is None or operation == "delete":
        return None
    names = resource.fields if policy.fields is None else policy.fields
    for name in sorted({*names, *(policy.presets if creates else ())}):
        if not _usable(own.fields, name, rows) and name in resource.fields:
            told = (
                f"You may {what} with some fields only: name those that you may use, on rows where you may."
            )
            return Detail("fields", "forbidden", told)
    return None


def _usable(fields: Mapping[str, Condition | None], name: str, rows: Condition | None) -> bool:
    return name in fields and implies(rows, fields[name])
