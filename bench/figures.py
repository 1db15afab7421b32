"""The arithmetic of the reports: medians, intervals, ratios by rounds, verdicts.

Comes in: a value per round. Goes out: figures that are ready to print. Nothing is rounded here.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Ratio", "interval", "ratio", "verdict"]

_RESAMPLED = 5_000
#: With fewer, even the least and the greatest value enclose the median less often than 95 times of 100.
LEAST_ROUNDS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How one series stands to another, measured side by side."""

    median: float
    low: float  # of the 95 % interval
    high: float
    rounds: int


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median; the same for the same values."""
    chance = random.Random(1)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(_RESAMPLED))
    return medians[_RESAMPLED // 40], medians[_RESAMPLED - _RESAMPLED // 40 - 1]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Return the median of the ratios of the rounds; each round's two values belong together.

    Raises:
        ValueError: the series are not of the same length, empty, or hold a zero to divide by.
    """
    if not ours or any(value <= 0 for value in theirs):
        raise ValueError("there is nothing to compare with")
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    low, high = interval(ratios)
    return Ratio(median=statistics.median(ratios), low=low, high=high, rounds=len(ratios))


def verdict(found: Ratio, target: float, *, most: bool = False) -> str:
    """Return `met`, `missed`, or `not shown`, when the interval holds the target or rounds are too few.

    Args:
        found: what was measured.
        target: least ratio that is wanted.
        most: the target is the greatest ratio instead.
    """
    if found.rounds < LEAST_ROUNDS:
        return "not shown"
    low, high = (1 / found.high, 1 / found.low) if most else (found.low, found.high)
    wanted = 1 / target if most else target
    return "met" if low >= wanted else "missed" if high < wanted else "not shown"
