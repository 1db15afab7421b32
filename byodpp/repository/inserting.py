"""New rows of which some bring what PostgreSQL fills in for others: a statement for each kind of them.

In: validated values. Out: records as of `WriteStatements.insert`, in the order of the values. Rejects
nothing by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from byodpp.conditions import Condition, Visibility
from byodpp.definitions import ResourceDefinition
from byodpp.repository.acting import Acting
from byodpp.repository.stores import Store

__all__ = ["bringing_alike", "insert_rows"]

#: Fields that PostgreSQL fills in where a new row has none: null in their columns would be another thing.
_FILLED_IN: Final = ("id", "createdAt", "updatedAt")


def bringing_alike(resource: ResourceDefinition, items: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Return the places of new rows, those together that leave the same to PostgreSQL.

    Only the application's own code gives rows their keys and times; everybody else's are all alike.
    """
    filled_in = _FILLED_IN if resource.key == "bigint" else _FILLED_IN[1:]
    groups: dict[tuple[bool, ...], list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(tuple([name in item for name in filled_in]), []).append(place)
    return list(groups.values())


async def insert_rows(
    store: Store,
    acting: Acting,
    resource: ResourceDefinition,
    items: Sequence[Mapping[str, Any]],
    permitted: Condition | None,
    seen: Visibility,
) -> list[Any]:
    """Insert rows; with one statement, unless they do not all bring the same columns.

    There are no records where the caller may not have all of the rows; some may be inserted by then.

    Args:
        store: the application's.
        acting: who does.
        resource: of the rows.
        items: values by field.
        permitted: rows that the caller may have; None is all.
        seen: what the caller sees of them.
    """
    groups = bringing_alike(resource, items)
    if len(groups) == 1:
        return await store.insert(acting, resource, items, permitted, seen)
    acting.transaction.needs_more()
    found: dict[int, Any] = {}
    for places in groups:
        part = [items[place] for place in places]
        records = await store.insert(acting, resource, part, permitted, seen)
        if len(records) < len(part):
            return []
        found.update(zip(places, records, strict=True))
    return [found[place] for place in range(len(items))]
