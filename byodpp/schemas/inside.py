"""Rows inside the rows of a body: how many, as each takes statements of its own, and which are there already.

In: JSON values that nobody has judged yet. Out: a number, or keys. Rejects nothing: who asks compares the
number with `MOST_INSIDE`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from byodpp.definitions import ResourceDefinition
from byodpp.wire import whole

__all__ = ["MOST_INSIDE", "named_inside", "rows_inside"]

#: Rows inside rows that one request may bring, however they lie.
MOST_INSIDE: Final = 10_000


def rows_inside(
    resource: ResourceDefinition,
    data: Any,
    nestable: Callable[[ResourceDefinition], Mapping[str, ResourceDefinition]],
    levels: int,
) -> int:
    """Return the number of rows inside one row.

    Args:
        resource: of the row.
        data: its JSON value.
        nestable: the relations of a resource that bodies may hold, and where they lead.
        levels: of rows that are looked into.
    """
    if not levels or not resource.relations or not isinstance(data, dict):
        return 0
    found = 0
    for target, rows in _inside(data, nestable(resource)):
        found += len(rows)
        found += sum(rows_inside(target, one, nestable, levels - 1) for one in rows)
    return found


def named_inside(
    resource: ResourceDefinition,
    data: Any,
    nestable: Callable[[ResourceDefinition], Mapping[str, ResourceDefinition]],
    levels: int,
) -> Iterator[tuple[ResourceDefinition, Any]]:
    """Yield the resource and the key of each row inside one row that has an `id`; arguments as above."""
    if not levels or not resource.relations or not isinstance(data, dict):
        return
    for target, rows in _inside(data, nestable(resource)):
        for one in rows:
            if isinstance(one, dict) and one.get("id") is not None:
                yield target, whole(one["id"])
                yield from named_inside(target, one, nestable, levels - 1)


def _inside(
    data: Mapping[str, Any], relations: Mapping[str, ResourceDefinition]
) -> Iterator[tuple[ResourceDefinition, list[Any]]]:
    for name, target in relations.items():
        value = data.get(name)
        if isinstance(value, dict) and len(value) == 1:
            [value] = value.values()  # all related rows, not some
        if isinstance(value, list):
            yield target, value
