"""Nobody grants what he lacks: what a change of the rules gives, and whether its author has it.

In: the rules of a tenant before and after a change, and who changes them. Out: what the author
lacks, in words. A change gives what a new allow allows; what a deny denied that is gone; and,
with a role that is newly inherited or no longer, what that role's rules allow or denied. All of
it must lie within what the author may do by the rules from before: operations, rows, and fields.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from byodpp.authorization.algebra import Caller, Decision, decided, meant_for, out_of_place, within
from byodpp.authorization.implication import implies
from byodpp.authorization.in_force import TenantRules
from byodpp.authorization.policies import (
    EVERY,
    OWNER,
    READS,
    WRITES,
    Policy,
    fitted,
    operation_keys,
    subject_of,
)
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
from byodpp.definitions import READ_OPERATIONS, FieldDefinition, ResourceDefinition
from byodpp.exceptions import Detail
from byodpp.registry import Registry

__all__ = ["Author", "Rights", "gains", "guesses", "lacking", "shown", "unmeant"]


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


class Rights:
    """What an author may do by the rules from before; each answer is looked for once."""

    def __init__(self, author: Author) -> None:
        """Args:
        author: whose rights they are.
        """
        self._author = author
        self._known: dict[tuple[tuple[str, str], str, bool], Decision] = {}
        self._seen: dict[tuple[tuple[str, str], str, bool], bool] = {}

    def of(self, resource: ResourceDefinition, operation: str, *, audiences: bool = False) -> Decision:
        """Return what he may do, also within the operations of his API key.

        Args:
            resource: what of.
            operation: one of the seven, or an action's key.
            audiences: whether it counts for whom fields are meant.
        """
        key = (resource.id, operation, audiences)
        if key not in self._known:
            self._known[key] = self._decided(resource, operation, audiences)
        return self._known[key]

    def out_of_place(self, resource: ResourceDefinition, operation: str) -> bool:
        """Whether nobody in this tenant may do it, whatever the rules say."""
        action = next((one for one in resource.actions if one.key == operation), None)
        return out_of_place(self._author.caller, resource, operation, action) is not None

    def sees(self, resource: ResourceDefinition, name: str, *, all_rows: bool) -> bool:
        """Whether he reads a field in every row that he reads, or in every row there is."""
        key = (resource.id, name, all_rows)
        if key not in self._seen:
            self._seen[key] = self._reads(resource, name, all_rows)
        return self._seen[key]

    def belongs(self, resource: ResourceDefinition, definition: FieldDefinition) -> bool:
        """Whether he is of those for whom a field is meant, in every row."""
        return meant_for(definition, resource, self._author.caller) is None

    def _decided(self, resource: ResourceDefinition, operation: str, audiences: bool) -> Decision:
        bound = self._author.operations
        if bound is not None and not within(bound, resource, operation):
            return Decision(allowed=False, reason="the operations of the API key leave it out")
        return decided(self._author.rules, self._author.caller, resource, operation, audiences=audiences)

    def _reads(self, resource: ResourceDefinition, name: str, all_rows: bool) -> bool:
        if name == "tenantId":
            return True
        if resource.fields[name].write_only:
            return False
        for operation in READ_OPERATIONS:
            own = self.of(resource, operation, audiences=True)
            if own.allowed and not (all_rows and own.rows is not None):
                if own.fields is None or _usable(own.fields, name, own.rows):
                    return True
        return False


def guesses(
    rights: Rights, before: TenantRules, after: TenantRules, registry: Registry
) -> Iterator[Detail | None]:
    """Yield the comparisons of new and changed rules with what their author cannot read.

    None after every resource, to tell that time passes.
    """
    old = {row.id: row for row in before.rows.policies}
    for row, policies in after.compiled():
        if row.filter is None or old.get(row.id) == row:
            continue
        for policy in policies:
            for resource in registry if policy.resource is None else (registry[policy.resource],):
                found = fitted(policy, resource, registry)
                if found is not None and found.rows is not None:
                    yield from _hidden(rights, found.rows, resource, registry)
                yield None


def _hidden(
    rights: Rights, condition: Condition, resource: ResourceDefinition, registry: Registry
) -> Iterator[Detail]:
    for one in _compared(condition, resource, registry):
        if not rights.sees(one.owner, one.name, all_rows=one.all_rows):
            place = ".".join(("condition", *one.place))
            told = (
                f"You cannot read {one.name!r} in every row of {one.owner.name}: "
                "the rule would tell its values."
            )
            yield Detail(place, "forbidden", told)


class _Compared(NamedTuple):
    """A field whose values decide whether a condition holds."""

    place: tuple[str, ...]  # in the condition: relations, and the field where they lead
    owner: ResourceDefinition
    name: str
    all_rows: bool  # of any row there is, not only of the one that the rule is about


def _compared(
    condition: Condition, resource: ResourceDefinition, registry: Registry, path: tuple[str, ...] = ()
) -> Iterator[_Compared]:
    """Yield what a condition compares, and the references that lead there.

    Args:
        condition: about rows of `resource`.
        resource: where the relations `path` have led.
        registry: knows where relations lead.
        path: from the resource that the rule is about.
    """
    match condition:
        case Comparison():
            owner = yield from _steps(resource, condition.path, registry, path)
            place = (*path, *condition.path)
            yield _Compared((*place, condition.field), owner, condition.field, bool(place))
        case Quantified():
            owner = yield from _steps(resource, condition.path, registry, path)
            yield from _compared(condition.part, owner, registry, (*path, *condition.path))
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _compared(part, resource, registry, path)
        case Negation(part) | Refusal(part):
            yield from _compared(part, resource, registry, path)
        case Search(fields):
            for name in fields:
                yield _Compared((*path, name), resource, name, bool(path))


def _steps(
    resource: ResourceDefinition, names: Iterable[str], registry: Registry, path: tuple[str, ...]
) -> Generator[_Compared, None, ResourceDefinition]:
    """Yield the reference behind each relation, and return the resource to which they lead."""
    for name in names:
        relation = resource.relations[name]
        target = registry.target(resource, relation)
        before, path = path, (*path, name)
        if relation.many:
            yield _Compared(path, target, relation.foreign_field, True)
        else:
            yield _Compared(path, resource, relation.local_field, bool(before))
        resource = target
    return resource


def shown(rights: Rights, resource: ResourceDefinition) -> dict[str, Condition | None]:
    """Return the fields that somebody reads, whomever they are meant for, and in which rows; None is each."""
    own = rights.of(resource, "read")
    if not own.allowed:
        return {}
    return dict.fromkeys(resource.fields) if own.fields is None else dict(own.fields)


def _of_role(rules: TenantRules, role: str, *, deny: bool) -> Iterator[Policy]:
    """Yield what a role, and every role that it inherits, allows or denies."""
    held = rules.held((role,))
    return (policy for policy in rules.policies() if policy.deny is deny and policy.subject in held)


def lacking(rights: Rights, gained: Iterable[Policy], registry: Registry) -> Iterator[Detail | None]:
    """Yield what the author lacks of what he gives; None where he lacks nothing, to tell that time passes."""
    for policy in gained:
        for resource in registry if policy.resource is None else (registry[policy.resource],):
            found = fitted(policy, resource, registry)
            yield None if found is None else _lack(rights, found, resource)


def unmeant(
    rights: Rights, before: TenantRules, after: TenantRules, registry: Registry
) -> Iterator[Detail | None]:
    """Yield the fields that are meant for a role which a change gives to somebody, and not for its author.

    None after every resource, to tell that time passes.
    """
    new = (link.inherited for link in after.links if link not in before.links)
    given = after.held(new)
    for resource in registry if given else ():
        for name, definition in resource.fields.items():
            words = [word for word in definition.audience if word != OWNER and subject_of(word) in given]
            if words and not rights.belongs(resource, definition):
                told = f"{name!r} of {resource.name} is meant for {words[0]}, and not for you."
                yield Detail("", "forbidden", told)
        yield None


def _lack(rights: Rights, policy: Policy, resource: ResourceDefinition) -> Detail | None:
    for operation in operation_keys(resource):
        # What nobody in this tenant may do, whatever the rules say, is not given by them.
        if _covers(policy.operation, operation) and not rights.out_of_place(resource, operation):
            own = rights.of(resource, operation)
            if (found := _beyond(policy, own, resource, operation)) is not None:
                return found
    return None


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
