"""How many rows lie inside the rows of a body: each takes statements of its own, in one transaction.

In: JSON values that nobody has judged yet. Out: a number. Rejects nothing: who asks compares it with
`MOST_INSIDE`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from byodpp.definitions import ResourceDefinition

__all__ = ["MOST_INSIDE", "rows_inside"]

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
    for name, target in nestable(resource).items():
        value = data.get(name)
        if isinstance(value, dict) and len(value) == 1:
            [value] = value.values()  # all related rows, not some
        if isinstance(value, list):
            found += len(value)
            found += sum(rows_inside(target, one, nestable, levels - 1) for one in value)
    return found
