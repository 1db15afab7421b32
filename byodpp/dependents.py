"""Rows that go, or change, when a row they refer to is deleted, and that somebody follows.

In: registry, and whether a class of the application serves `delete` of a resource. Out: for each
resource, the references through which its deletion reaches such rows. PostgreSQL's own
`ON DELETE` would pass over audit, events, history, versions and classes: the service deletes
and empties these rows itself, before the row that they refer to. Rows of other tenants and users
it cannot see: there the foreign key refuses, and where only a class follows them, the start does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from byodpp.definitions import FieldDefinition, Kind, OnDelete, ResourceDefinition, Scope
from byodpp.exceptions import Problem
from byodpp.registry import Registry

__all__ = ["Dependent", "Dependents", "guarded", "out_of_reach"]

#: Scopes of rows to which rows of several tenants can refer.
_FOR_MANY: Final = frozenset({Scope.SHARED, Scope.LIBRARY, Scope.SELF})


@dataclass(frozen=True, slots=True)
class Dependent:
    """A reference whose rows are deleted or emptied by the service."""

    resource: ResourceDefinition
    field: FieldDefinition
    deletes: bool  # the row; otherwise only the field is emptied


class Dependents:
    """What depends on each resource; looked up once."""

    def __init__(self, registry: Registry, has_delete_class: Callable[[ResourceDefinition], bool]) -> None:
        """Args:
        registry: of the application.
        has_delete_class: whether a logic class serves `delete` of a resource.
        """
        self._registry = registry
        self._has_delete_class = has_delete_class
        self._known: dict[str, tuple[Dependent, ...]] = {}

    def of(self, resource: ResourceDefinition) -> tuple[Dependent, ...]:
        """Return the references that its deletion must follow, those that empty a field first."""
        found = self._known.get(resource.table)
        if found is None:
            found = self._known[resource.table] = self._found(resource, frozenset())
        return found

    def _found(self, resource: ResourceDefinition, around: frozenset[str]) -> tuple[Dependent, ...]:
        """Args:
        resource: that is deleted.
        around: tables whose dependents are being looked for.
        """
        found: dict[tuple[str, str], Dependent] = {}
        for other, field in self._references(resource):
            deletes = field.references is not None and field.references.on_delete is OnDelete.CASCADE
            if self._deletes(other, around | {resource.table}) if deletes else _emptied(other):
                found.setdefault((other.table, field.column), Dependent(other, field, deletes))
        return tuple(sorted(found.values(), key=lambda one: one.deletes))

    def _references(
        self, resource: ResourceDefinition
    ) -> Iterator[tuple[ResourceDefinition, FieldDefinition]]:
        for other, field in self._registry.referencing(resource):
            restricts = field.references is None or field.references.on_delete is OnDelete.RESTRICT
            if other.kind is Kind.DATABASE and not restricts:
                yield other, field

    def _deletes(self, resource: ResourceDefinition, around: frozenset[str]) -> bool:
        """Whether somebody follows the deletion of a row, or of one that goes with it."""
        followed = resource.audit or resource.history or "delete" in resource.events
        if followed or self._has_delete_class(resource):
            return True
        return resource.table not in around and bool(self._found(resource, around))


def _emptied(resource: ResourceDefinition) -> bool:
    """Whether somebody follows that a field of a row is emptied."""
    return resource.audit or resource.history or resource.versioned or "patch" in resource.events


def guarded(registry: Registry) -> frozenset[tuple[str, str]]:
    """Return the references, as table and column, whose `cascade` PostgreSQL must not carry out.

    Rows behind them may be other tenants' or users', which the service cannot see: it deletes those
    that it does, and the foreign key refuses while others are left.
    """
    followed = Dependents(registry, lambda _: False)
    return frozenset((one.resource.table, one.field.column) for _, one in _unseen(registry, followed))


def out_of_reach(registry: Registry, dependents: Dependents) -> list[Problem]:
    """Return the references whose rows would be deleted where their class could not be asked."""
    kept = guarded(registry)
    return [
        Problem(
            one.field.path or one.resource.path,
            f"rows of {one.resource.name} that are other tenants' or users' would be deleted with rows of "
            f"{resource.name} without a word from their class",
            'Write "onDelete": "restrict".',
        )
        for resource, one in _unseen(registry, dependents)
        if (one.resource.table, one.field.column) not in kept
    ]


def _unseen(registry: Registry, dependents: Dependents) -> Iterator[tuple[ResourceDefinition, Dependent]]:
    """Yield the references whose rows are deleted with a row that more than its own tenant refers to."""
    seen: set[str] = set()
    for resource in registry:
        if resource.table in seen:
            continue
        seen.add(resource.table)
        for one in dependents.of(resource):
            if one.deletes and not _reaches(resource.scope, one.resource.scope):
                yield resource, one


def _reaches(scope: Scope, other: Scope) -> bool:
    """Whether who deletes a row of one scope sees every row of another that refers to it."""
    if scope in _FOR_MANY:
        return other is Scope.SHARED
    return other is not Scope.USER or scope is Scope.USER
