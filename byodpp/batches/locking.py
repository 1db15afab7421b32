"""Locking the rows that a request names, before it writes the first of them.

By table and key, whatever the order in which the request says them and however deep they lie: two
requests with the same rows then wait for each other, and never in a circle. Rows that are found on the
way, by a template or because others are replaced, are locked when they are written. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from byodpp.aside import others
from byodpp.calls import Call
from byodpp.definitions import Kind, ResourceDefinition
from byodpp.schemas import SchemaMap

if TYPE_CHECKING:
    from byodpp.service.units import Unit, UnitParts

__all__ = ["Named", "leaves_keys", "lock_in_order", "named_by", "named_inside"]

#: A row that is to be changed: of which resource, by which operation or action, its key, and the fields
#: that are written; None: it may be any.
Named: TypeAlias = tuple[ResourceDefinition, str, Any, Collection[str] | None]


async def lock_in_order(unit: Unit, rows: Iterable[Named]) -> None:
    """Lock rows; a single one needs none before it is written.

    Args:
        unit: of the request.
        rows: those that the caller may not write, and keys that are none, are nobody's to lock.
    """
    store, may = unit.parts.store, dict[tuple[str, str, str], bool]()
    found: dict[str, tuple[ResourceDefinition, dict[Any, None]]] = {}
    weak = True  # of all rows alike: who locks some harder than others waits for them in another order
    for place, (resource, operation, named, fields) in enumerate(rows):
        await others(place)
        right = (*resource.id, operation)
        if right not in may:
            decided = unit.parts.authorizer.decide(unit.principal, resource, operation)
            may[right] = resource.kind is Kind.DATABASE and decided.allowed
        key = store.key(resource, named) if may[right] and named is not None else None
        if key is not None:
            weak = weak and leaves_keys(unit.parts, resource, operation, fields)
            found.setdefault(resource.table, (resource, {}))[1][key] = None
    if sum(len(keys) for _, keys in found.values()) < 2:
        return
    for _, (resource, keys) in sorted(found.items(), key=lambda one: one[0]):
        await unit.repositories(resource.version)[resource.name].lock_all(list(keys), leaves_keys=weak)


def leaves_keys(
    parts: UnitParts, resource: ResourceDefinition, operation: str, fields: Collection[str] | None = None
) -> bool:
    """Whether others may come to refer to a row while an operation is done to it.

    They may where it is neither deleted nor brought back, no unique key of it is written, and no class has a
    word in it. It must be known before the row is locked: whoever locks it harder later on waits for those
    who refer to it by then, and they for him.

    Args:
        parts: of the application.
        resource: of the row.
        operation: on it, or the key of an action.
        fields: that are written; None: it may be any.
    """
    action = next((one for one in resource.actions if one.key == operation), None)
    changes = operation in ("update", "patch") or (action is not None and action.transition is not None)
    if not changes or parts.logics.get(resource, operation) is not None:
        return False
    return parts.store.keys.leaves_keys(resource, fields if operation == "patch" else None)


def named_by(call: Call, schemas: SchemaMap) -> Iterator[Named]:
    """Yield the row of a call, and those inside its body that are there already."""
    yield call.resource, call.operation, call.params.get("id"), None
    for nested in call.nested:
        for item in nested.items:
            if item.key is not None:
                yield nested.target, item.operation, item.key, None
                yield from named_inside(schemas, nested.target, item.operation, item.document)


def named_inside(
    schemas: SchemaMap, resource: ResourceDefinition, operation: str, document: Any
) -> Iterator[Named]:
    """Yield the rows inside a body that are there already."""
    for target, one, key in schemas.named_inside(resource, operation, document):
        yield target, one, key, None
