"""The watch over the event loop: it sees what keeps the loop, and nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.loop_watch import LoopWatch


async def test_a_loop_that_is_kept_by_work_or_by_waiting_is_seen() -> None:
    for keep in (busy, time.sleep):
        watch = LoopWatch()
        async with watch.watching():
            keep(0.3)
            await asyncio.sleep(0.02)
        assert 0.25 < watch.longest_seconds, keep


async def test_a_thread_that_does_not_give_the_interpreter_away_is_seen() -> None:
    numbers = list(range(6_000_000, 0, -1)) * 4
    watch = LoopWatch()
    async with watch.watching():
        begun = time.thread_time()
        await asyncio.to_thread(lambda: sorted(numbers, key=None))  # one call of C
        assert time.thread_time() - begun < 1
    assert watch.longest_seconds > 0.15


@pytest.fixture
def busy_programs() -> Iterator[None]:
    """More of them than there are processors, perhaps."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    yield
    for one in others:
        one.kill()
        one.wait(timeout=30)


@pytest.mark.usefixtures("busy_programs")
async def test_threads_that_take_turns_and_programs_beside_them_are_not_seen() -> None:
    watch = LoopWatch()
    async with watch.watching():
        await asyncio.gather(*(asyncio.to_thread(busy, 0.5) for _ in range(3)))
    assert watch.longest_seconds < 0.25


def busy(seconds: float) -> None:
    """Work, by the clock of the processor."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
