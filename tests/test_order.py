"""What is long begins, in every process, and no test is lost or run twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.order import long_ones_first


@dataclass(frozen=True)
class Item:
    """As much of a test as its place depends on."""

    name: str
    marks: tuple[str, ...] = ()

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


def ordered(items: list[Item], processes: int) -> list[str]:
    given: Any = items
    return [item.name for item in long_ones_first(given, processes)]


ITEMS = [Item(f"q{n}") for n in range(10)]
ITEMS[2:2] = [Item("k1", ("keycloak",)), Item("s1", ("slow",)), Item("k2", ("keycloak", "slow"))]
ITEMS += [Item("s2", ("slow",)), Item("s3", ("slow",))]


def test_each_part_begins_with_what_is_long_and_what_needs_keycloak_stays_together() -> None:
    found = ordered(ITEMS, 2)
    assert found[:3] == ["k1", "k2", "q0"]
    assert found[len(ITEMS) // 2 :][:4] == ["s1", "s2", "s3", "q5"]
    assert ordered(ITEMS, 3)[5:7] == ["s1", "s3"]


@pytest.mark.parametrize("processes", [2, 3, 7, 40])
@pytest.mark.parametrize("few", [0, 1, 5, 15])
def test_no_test_is_lost_or_run_twice(processes: int, few: int) -> None:
    found = ordered(ITEMS[:few], processes)
    assert sorted(found) == sorted(item.name for item in ITEMS[:few])
