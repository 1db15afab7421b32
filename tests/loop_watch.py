"""Watches an event loop: how long it was kept from its next turn by what ran in its process.

Time in which a thread of the process was ready to run, but other programs had the processor, does not
count: the kernel tells it where there is a /proc. Not only the loop's own thread, for it also waits while
another one holds the interpreter. A call that waits in the loop's thread itself counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["LoopWatch"]

_THREADS = Path("/proc/self/task")
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
            started, before = time.perf_counter(), _waited()
            await asyncio.sleep(_BEAT_SECONDS)
            # One thread at a time keeps the others from running: the one that waited longest.
            waited = max(
                (seconds - before.get(thread, 0.0) for thread, seconds in _waited().items()), default=0.0
            )
            blocked = time.perf_counter() - started - waited - _BEAT_SECONDS
            self.longest_seconds = max(self.longest_seconds, blocked)


def _waited() -> dict[str, float]:
    """Return, by thread, the seconds in which it could have run and did not get to."""
    found = {}
    for thread in _THREADS.iterdir() if _THREADS.is_dir() else ():
        try:
            found[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
        except (OSError, IndexError):
            continue  # it has just ended, or this kernel does not count
    return found
