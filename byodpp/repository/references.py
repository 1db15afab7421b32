"""References: whether a row may refer to another, and whether one is still referred to.

The foreign keys decide most of it; here is what they cannot know: which rows the caller may
read, and which are deleted softly. What a row refers to already, as its reader sees, may stay.
May raise ValidationFailed and ReferencedConflict.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from byodpp.conditions import Comparison, Parameter, Query, Shape, Visibility
from byodpp.definitions import OnDelete, ResourceDefinition, Scope
from byodpp.exceptions import Detail, ReferencedConflict, ValidationFailed
from byodpp.registry import Registry
from byodpp.repository.acting import Acting
from byodpp.repository.stores import Store
from byodpp.schemas.keys import REFERENCE

__all__ = ["check_references", "missing_references", "needs_look", "references_of", "refuse_referenced"]


async def check_references(
    store: Store,
    acting: Acting,
    resource: ResourceDefinition,
    items: Sequence[Mapping[str, Any]],
    *,
    standing: Callable[[], Awaitable[Mapping[str, Any]]] | None = None,
) -> None:
    """Refuse references to rows that the caller may not read, worded as for unknown ids.

    Targets of which every row of the tenant is readable are left to the foreign key.

    Args:
        store: looks.
        acting: who refers.
        resource: of the rows.
        items: their values.
        standing: of a change, locks its one row and returns it as the caller sees it: a reference that he
            sees there may stay, whatever has become of its target since. What he does not see he cannot
            repeat either, so that nobody learns by trying what it is.

    Raises:
        ValidationFailed: naming each such field.
    """
    faults: list[Detail] = []
    stored: Mapping[str, Any] | None = None
    for name, target in references_of(store.registry, resource, items):
        if not needs_look(acting.lookup(target), target):
            continue
        acting.transaction.needs_more()
        wanted = {index: item[name] for index, item in enumerate(items) if item.get(name) is not None}
        held = target.soft_delete and target.tenant_bound  # of others, some may only be read
        seen = await store.keys.visible_keys(acting, target, set(wanted.values()), held=held)
        if standing is not None and not seen.issuperset(wanted.values()):
            stored = await standing() if stored is None else stored
            if (kept := stored.get(name)) is not None:
                seen |= {key for key in wanted.values() if store.key(target, key) == store.key(target, kept)}
        faults.extend(
            Detail(name if len(items) == 1 else f"{index}.{name}", "reference", REFERENCE)
            for index, key in wanted.items()
            if key not in seen
        )
    if faults:
        raise ValidationFailed(details=faults[:100])


async def missing_references(
    store: Store,
    acting: Acting,
    resource: ResourceDefinition,
    items: Sequence[Mapping[str, Any]],
    standing: Mapping[str, Any] | None = None,
) -> list[tuple[int, str]]:
    """Return the place and the field of each reference that `check_references` or a foreign key would refuse.

    Args:
        store: looks.
        acting: who refers.
        resource: of the rows.
        items: JSON values of references that no schema refuses, by field.
        standing: the row to be changed, as the caller sees it.
    """
    missing: list[tuple[int, str]] = []
    for name, target in references_of(store.registry, resource, items):
        keys = {place: store.key(target, item[name]) for place, item in enumerate(items) if name in item}
        wanted = {key for key in keys.values() if key is not None}
        seen = await store.keys.visible_keys(acting, target, wanted) if wanted else set()
        if standing is not None and standing.get(name) is not None:
            seen |= {store.key(target, standing[name])}
        missing.extend((place, name) for place, key in keys.items() if key is not None and key not in seen)
    return missing


def references_of(
    registry: Registry, resource: ResourceDefinition, items: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, ResourceDefinition]]:
    """Yield the reference fields that have a value in some of the items, each with its target."""
    for name, target in registry.references(resource):
        if any(item.get(name) is not None for item in items):
            yield name, target


def needs_look(visibility: Visibility | None, target: ResourceDefinition) -> bool:
    """Whether a foreign key does not decide alone which rows of a target may be referred to.

    Args:
        visibility: what the caller may read of the target; None is nothing.
        target: of the reference.
    """
    return (
        visibility is None
        or visibility.rows is not None
        or target.soft_delete
        or target.scope in (Scope.LIBRARY, Scope.USER, Scope.SELF)
    )


async def refuse_referenced(store: Store, acting: Acting, resource: ResourceDefinition, key: Any) -> None:
    """Refuse to delete softly what living rows refer to; no foreign key would.

    Raises:
        ReferencedConflict: naming the resources that refer to it.
    """
    system = replace(acting, system=True)
    id = store.key(resource, key)
    names = []
    for other, field_ in store.registry.referencing(resource):
        if id is None or field_.references is None or field_.references.on_delete is not OnDelete.RESTRICT:
            continue
        shape = Shape(fields=("id",), filter=Comparison((), field_.name, "eq", Parameter(0)), limit=1)
        if len(await store.page(system, other, Query(shape=shape, values=(id,)))) > 0:
            names.append(other.name)
    if names:
        raise ReferencedConflict(f"{resource.name} {key} is referred to by {', '.join(sorted(set(names)))}.")
