"""Measures what something computes, for promises that are times."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Computing", "computing", "least_seconds"]


@dataclass(slots=True)
class Computing:
    """What a block has computed, once it has ended."""

    seconds: float = 0.0


@contextmanager
def computing() -> Iterator[Computing]:
    """Measure the processor's seconds that a block takes, whatever else the machine does.

    Without passes of the garbage collector, which walk over everything that earlier tests have left: one
    that happens to come in the block would take longer than most blocks.
    """
    found, enabled = Computing(), gc.isenabled()
    gc.disable()
    begun = time.process_time()
    try:
        yield found
    finally:
        found.seconds = time.process_time() - begun
        if enabled:
            gc.enable()


def least_seconds(work: Callable[[], object], enough: float, rounds: int = 3) -> float:
    """Return the least that something computes in some rounds: a busy machine's processor is slower, too.

    Args:
        work: what is measured.
        enough: seconds below which no other round is needed.
        rounds: at most.
    """
    least = float("inf")
    for _ in range(rounds):
        with computing() as taken:
            work()
        least = min(least, taken.seconds)
        if least < enough:
            break
    return least
