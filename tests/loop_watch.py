"""Watches an event loop: how long it was kept from its next turn by what ran in it.

Time in which the thread was ready to run, but other programs had the processor, does not count: the
kernel tells it where there is a /proc. A call that waits in the thread itself does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["LoopWatch"]

_DELAYS = Path("/proc/thread-self/schedstat")
_BEAT_SECONDS = 0.005


class LoopWatch:
    """Keeps the longest turn."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        beating = asyncio.create_task(self._beat())
        try:
            await asyncio.sleep(2 * _BEAT_SECONDS)
            yield
            await asyncio.sleep(2 * _BEAT_SECONDS)
        finally:
            beating.cancel()

    async def _beat(self) -> None:
        while True:
            started, waited = time.perf_counter(), _waited()
            await asyncio.sleep(_BEAT_SECONDS)
            blocked = time.perf_counter() - started - (_waited() - waited) - _BEAT_SECONDS
            self.longest_seconds = max(self.longest_seconds, blocked)


def _waited() -> float:
    """Return the seconds in which this thread could have run and did not get to."""
    try:
        return int(_DELAYS.read_text().split()[1]) / 1e9
    except (FileNotFoundError, IndexError):
        return 0.0
