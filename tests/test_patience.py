"""The tests' own way of waiting."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.patience import soon


async def test_what_comes_in_time_is_seen_and_what_does_not_is_told() -> None:
    came = iter([1, 2, 3])

    async def look() -> int:
        return next(came, 4)

    await soon(look, 3)
    with pytest.raises(AssertionError, match=r"not within 0.1 s: 4 instead of 5"):
        await soon(look, 5, 0.1)


async def test_a_machine_that_is_late_is_given_the_turns_that_were_promised() -> None:
    """Whoever is kept from his turns for longer than the whole time is late, and is not refused for it."""
    done: list[int] = []

    async def work() -> None:
        for number in range(3):
            time.sleep(0.2)  # noqa: ASYNC251 - nobody has a turn meanwhile
            done.append(number)
            await asyncio.sleep(0.01)

    async def look() -> int:
        return len(done)

    working = asyncio.create_task(work())
    await soon(look, 3, 0.3)
    await working
