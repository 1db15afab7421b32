"""Watches an event loop: how long it was kept from its next turn by what ran in its process.

Time in which a thread of the process was ready to run, but other programs had the processor, does not
count: the kernel tells it where there is a /proc. Not only the loop's own thread, for it also waits while
another one holds the interpreter. A call that waits in the loop's thread itself counts.

A process of its own reads what the kernel tells (this file, run as a program): read here, each look would
give the interpreter away, for milliseconds where there are many threads.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

__all__ = ["LoopWatch"]

_BEAT_SECONDS = 0.005
#: Turns that are looked at closely; shorter ones matter to nobody.
_LONG_SECONDS = 0.05
_END_SECONDS = 30


class LoopWatch:
    """Keeps the longest turn."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0
        self._turns: list[tuple[float, float]] = []  # begin and end of long ones, of a clock that all share

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        with _notes_of_waiting() as notes:
            beating = asyncio.create_task(self._beat())
            try:
                await asyncio.sleep(2 * _BEAT_SECONDS)
                yield
                await asyncio.sleep(2 * _BEAT_SECONDS)
            finally:
                beating.cancel()
        blocked = (end - begin - _BEAT_SECONDS - _waited(notes, begin, end) for begin, end in self._turns)
        self.longest_seconds = max([self.longest_seconds, *blocked])
        self._turns.clear()

    async def _beat(self) -> None:
        while True:
            begin = time.monotonic()
            await asyncio.sleep(_BEAT_SECONDS)
            if (end := time.monotonic()) - begin > _LONG_SECONDS:
                self._turns.append((begin, end))


#: A moment, and by thread the seconds in which it could have run until then and did not get to.
_Note = tuple[float, dict[str, float]]


def _waited(notes: list[_Note], begin: float, end: float) -> float:
    """Return how long other programs kept the process from running in that time.

    One thread at a time keeps the others from running: the one that waited longest counts.
    """
    before = next((waited for moment, waited in reversed(notes) if moment <= begin), {})
    after = next((waited for moment, waited in notes if moment >= end), notes[-1][1] if notes else {})
    return max((seconds - before.get(thread, 0.0) for thread, seconds in after.items()), default=0.0)


@contextmanager
def _notes_of_waiting() -> Iterator[list[_Note]]:
    """Have a process watch this one; at the end of the block its notes are in the list."""
    notes: list[_Note] = []
    if not Path("/proc/self/task").is_dir():
        yield notes
        return
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as watcher:
        try:
            assert watcher.stdin is not None and watcher.stdout is not None
            assert watcher.stdout.readline() == b"watching\n"
            yield notes
            told, _ = watcher.communicate(timeout=_END_SECONDS)
            notes += ((moment, waited) for moment, waited in json.loads(told))
        finally:
            watcher.kill()


def _watch(process: str) -> None:
    """Note how long the threads of a process wait for a processor, until standard input is closed."""
    notes: list[_Note] = []
    with suppress(PermissionError):  # for those who may: what is noted late tells of other turns as well
        os.nice(-10)
    while True:
        notes.append((time.monotonic(), _waiting(process)))
        if len(notes) == 1:
            sys.stdout.write("watching\n")
            sys.stdout.flush()
        if select.select([sys.stdin], [], [], _BEAT_SECONDS)[0]:
            break
    notes.append((time.monotonic(), _waiting(process)))
    json.dump(notes, sys.stdout)


def _waiting(process: str) -> dict[str, float]:
    found = {}
    for thread in os.listdir(f"/proc/{process}/task"):
        try:
            with open(f"/proc/{process}/task/{thread}/schedstat") as file:
                found[thread] = int(file.read().split()[1]) / 1e9
        except (OSError, IndexError):
            continue  # it has just ended, or this kernel does not count
    return found


if __name__ == "__main__":
    _watch(sys.argv[1])
