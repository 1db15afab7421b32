"""Waits for what happens beside the requests: as long as it takes, and no longer than was promised.

A test that sleeps for a second and then looks fails on a machine that is too busy to give everybody a turn
in that second. What is counted here are turns instead: where each takes longer, so does the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

__all__ = ["answered", "blocked", "in_turns", "soon", "turns", "waits"]

T = TypeVar("T")

_TURN_SECONDS: Final = 0.05
#: A bound against hanging; nothing waits that long.
_PATIENCE_SECONDS: Final = 30.0


async def soon(look: Callable[[], Awaitable[object]], wanted: object, seconds: float = 1.0) -> None:
    """Look again and again until something is as it should be.

    Args:
        look: returns how it is.
        wanted: how it should be.
        seconds: the promise, in turns of the event loop that are not kept waiting.

    Raises:
        AssertionError: it is not so in that time.
    """
    async with asyncio.timeout(seconds + _PATIENCE_SECONDS):
        for _ in range(round(seconds / _TURN_SECONDS)):
            if await look() == wanted:
                return
            await asyncio.sleep(_TURN_SECONDS)
        found = await look()
    assert found == wanted, f"not within {seconds} s: {found!r} instead of {wanted!r}"


async def turns(seconds: float) -> None:
    """Let a time pass in turns: for what must not be looked at before it is over."""
    for _ in range(round(seconds / _TURN_SECONDS)):
        await asyncio.sleep(_TURN_SECONDS)


async def in_turns(work: Awaitable[T]) -> tuple[T, float]:
    """Return what work returns, and the seconds it took, in turns of an event loop that is not kept waiting.

    Waiting that is bounded by a clock takes no more turns on a busy machine than on a quiet one.
    """
    passed = 0

    async def count() -> None:
        nonlocal passed
        while True:
            await asyncio.sleep(_TURN_SECONDS)
            passed += 1

    counting = asyncio.create_task(count())
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await work, passed * _TURN_SECONDS
    finally:
        counting.cancel()
        with suppress(asyncio.CancelledError):
            await counting


def answered(client: Any, url: str) -> Callable[[], Awaitable[object]]:
    """Return what asks for an address, and returns the status of the answer: for `soon`."""

    async def look() -> object:
        return (await client.get(url)).status_code

    return look


async def blocked(transaction: Any, count: int = 1) -> None:
    """Wait until so many others wait for what a transaction has locked.

    Args:
        transaction: anything with `fetchval`.
        count: of those who wait for this transaction itself.

    Raises:
        TimeoutError: they do not come.
    """
    waiting = (
        "select count(distinct pid) from pg_locks"
        " where not granted and pg_backend_pid() = any (pg_blocking_pids(pid))"
    )
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while await transaction.fetchval(waiting) < count:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


async def waits(observer: Any, pid: int) -> None:
    """Wait until a backend waits for a lock, whoever holds it.

    Args:
        observer: another connection, anything with `fetchval`.
        pid: of the backend.

    Raises:
        TimeoutError: it does not.
    """
    waiting = "select exists (select from pg_locks where not granted and pid = $1)"
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not await observer.fetchval(waiting, pid):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
