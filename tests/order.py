"""The order of tests that several processes run: what is long comes first, so that they end together.

`--dist worksteal` gives each process an equal part of the list, and who has nothing left takes over from
the end of the longest part. So each part begins with its long tests, and what is left at the end is short.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

__all__ = ["long_ones_first"]


def long_ones_first(items: Sequence[pytest.Item], processes: int) -> list[pytest.Item]:
    """Return the tests in that order; those marked `keycloak` stay together, for they share realms.

    Args:
        items: in the order of their files.
        processes: as many equal parts; two at least.
    """
    with_keycloak = [item for item in items if item.get_closest_marker("keycloak")]
    slow = [item for item in items if item.get_closest_marker("slow") and item not in with_keycloak]
    begin = [with_keycloak, *(slow[first :: processes - 1] for first in range(processes - 1))]
    long = {item for part in begin for item in part}
    rest = iter([item for item in items if item not in long])
    found: list[pytest.Item] = []
    for number, part in enumerate(begin, start=1):
        found += part
        wanted = len(items) * number // processes - len(found)
        found += [item for _, item in zip(range(wanted), rest, strict=False)]
    return [*found, *rest]
