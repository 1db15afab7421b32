"""Which controlled fields a query shows, or looks at by filtering, sorting and grouping.

In: a judged query, and what the caller may see. Out: names of fields, with the relations on the
way to them: `email`, `owner.email`. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import assert_never

from byodpp.conditions import (
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Include,
    Lookup,
    Negation,
    Opened,
    Quantified,
    Refusal,
    Relevance,
    Search,
    Shape,
)
from byodpp.definitions import ResourceDefinition
from byodpp.registry import Registry

__all__ = ["ControlledFields"]


class ControlledFields:
    """Knows the controlled fields of an application."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        named = {
            resource.id: frozenset(name for name, field in resource.fields.items() if field.controlled)
            for resource in registry
        }
        self._names = {id: names for id, names in named.items() if names}

    def concern(self, resource: ResourceDefinition, shape: Shape) -> bool:
        """Whether a query reads a resource that has controlled fields; most do not, and this is quick."""
        names = self._names
        return bool(names) and (resource.id in names or any(id in names for id in shape.touched))

    def of(self, resource: ResourceDefinition, shape: Shape, lookup: Lookup) -> tuple[str, ...]:
        """Return the names, each once, in the order of the alphabet."""
        found = (
            {*self._shown(resource, shape.fields, shape.includes, lookup, ())}
            if not shape.grouping
            else set()
        )
        return tuple(sorted({*found, *self._used(resource, shape)}))

    def _shown(
        self,
        resource: ResourceDefinition,
        fields: Sequence[str] | None,
        includes: Sequence[Include],
        lookup: Lookup,
        way: tuple[str, ...],
    ) -> Iterator[str]:
        visible = lookup(resource)
        if visible is None:
            return
        for name in self._names.get(resource.id, ()):
            if name in visible.fields and (fields is None or name in fields):
                yield ".".join((*way, name))
        for include in includes:
            target = self._target(resource, include.relation)
            yield from self._shown(target, include.fields, include.includes, lookup, (*way, include.relation))
            yield from self._asked(target, include.filter, (*way, include.relation))

    def _used(self, resource: ResourceDefinition, shape: Shape) -> Iterator[str]:
        yield from self._asked(resource, shape.filter, ())
        for sort in shape.sort:
            if isinstance(sort, Relevance):
                yield from self._asked(resource, sort.search, ())
            else:
                yield from self._named(resource, sort.path, sort.field, ())
        grouping = shape.grouping
        if grouping is not None:
            for group in grouping.groups:
                yield from self._named(resource, group.path, group.field, ())
            for aggregate in grouping.aggregates:
                yield from self._named(resource, (), aggregate.field, ())

    def _asked(
        self, resource: ResourceDefinition, condition: Condition | None, way: tuple[str, ...]
    ) -> Iterator[str]:
        match condition:
            case None | Opened():
                return
            case Comparison():
                yield from self._named(resource, condition.path, condition.field, way)
            case Search():
                for name in condition.fields:
                    yield from self._named(resource, (), name, way)
            case AllOf() | AnyOf():
                for part in condition.parts:
                    yield from self._asked(resource, part, way)
            case Negation() | Refusal():
                yield from self._asked(resource, condition.part, way)
            case Quantified():
                target = self._end(resource, condition.path)
                yield from self._asked(target, condition.part, (*way, *condition.path))
            case _:
                assert_never(condition)

    def _named(
        self, resource: ResourceDefinition, path: Sequence[str], name: str, way: tuple[str, ...]
    ) -> Iterator[str]:
        if name in self._names.get(self._end(resource, path).id, ()):
            yield ".".join((*way, *path, name))

    def _end(self, resource: ResourceDefinition, path: Sequence[str]) -> ResourceDefinition:
        for relation in path:
            resource = self._target(resource, relation)
        return resource

    def _target(self, resource: ResourceDefinition, relation: str) -> ResourceDefinition:
        return self._registry.get(resource.relations[relation].resource, resource.version)
