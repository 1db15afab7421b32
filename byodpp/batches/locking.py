"""Locking the rows that a request names, before it writes the first of them.

By table and key, whatever the order in which the request says them and however deep they lie: two
requests with the same rows then wait for each other, and never in a circle. Rows that are found on the
way, by a template or because others are replaced, are locked when they are written. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from byodpp.aside import others
from byodpp.calls import Call
from byodpp.definitions import Kind, ResourceDefinition
from byodpp.schemas import SchemaMap

if TYPE_CHECKING:
    from byodpp.service.units import Unit

__all__ = ["Named", "lock_in_order", "named_by"]

#: A row that is to be changed: of which resource, by which operation or action, and its key.
Named: TypeAlias = tuple[ResourceDefinition, str, Any]


async def lock_in_order(unit: Unit, rows: Iterable[Named]) -> None:
    """Lock rows; a single one needs none before it is written.

    Args:
        unit: of the request.
        rows: those that the caller may not write, and keys that are none, are nobody's to lock.
    """
    store, may = unit.parts.store, dict[tuple[str, str, str], bool]()
    found: dict[str, tuple[ResourceDefinition, dict[Any, None]]] = {}
    for place, (resource, operation, named) in enumerate(rows):
        await others(place)
        right = (*resource.id, operation)
        if right not in may:
            decided = unit.parts.authorizer.decide(unit.principal, resource, operation)
            may[right] = resource.kind is Kind.DATABASE and decided.allowed
        key = store.key(resource, named) if may[right] and named is not None else None
        if key is not None:
            found.setdefault(resource.table, (resource, {}))[1][key] = None
    if sum(len(keys) for _, keys in found.values()) < 2:
        return
    for _, (resource, keys) in sorted(found.items(), key=lambda one: one[0]):
        await unit.repositories(resource.version)[resource.name].lock_all(list(keys))


def named_by(call: Call, schemas: SchemaMap) -> Iterator[Named]:
    """Yield the row of a call, and those inside its body that are there already."""
    yield call.resource, call.operation, call.params.get("id")
    for nested in call.nested:
        for item in nested.items:
            if item.key is not None:
                yield nested.target, item.operation, item.key
                yield from schemas.named_inside(nested.target, item.operation, item.document)
