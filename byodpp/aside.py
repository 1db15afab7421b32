"""Work that takes long, done in a thread, so that the event loop goes on meanwhile.

For bodies and rows of megabytes: parsing, judging, writing. Python runs one thread at a time, yet gives
others their turn every few milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from byodpp.heap import HEAP, no_collection

__all__ = ["LARGE_BYTES", "Aside", "aside", "by_size", "is_large", "others"]

#: Runs something that may take long, in a thread if need be.
Aside = Callable[[Callable[[], Any]], Awaitable[Any]]

#: What is larger is worth a thread.
LARGE_BYTES: Final = 262_144
#: A document of more values takes longer than other requests should wait.
_MANY_VALUES: Final = 5_000

#: Items of a batch, or documents of an import, after which others get their turn on the event loop.
_TURN: Final = 50

T = TypeVar("T")


async def aside(work: Callable[[], T]) -> T:
    """Run something in a thread, and keep the garbage collector from its values.

    It would look at a document of half a million values again and again while that grows, and let
    nobody else in. The work must not touch anything that others use.
    """
    heap = HEAP.get()
    with no_collection() if heap is None else heap.growing():
        return await asyncio.to_thread(work)


async def by_size(work: Callable[[], T], *values: Any) -> T:
    """Run something whose time grows with JSON values; in a thread when those are large."""
    return await aside(work) if any(map(is_large, values)) else work()


async def others(index: int) -> None:
    """Let others have their turn after every fifty of many small things.

    Args:
        index: of the thing just done, from 0.
    """
    if index % _TURN == _TURN - 1:
        await asyncio.sleep(0)


def is_large(value: Any, many: int = _MANY_VALUES) -> bool:
    """Whether a JSON value holds more values than `many`; looks at hardly more than it takes to tell."""
    if not isinstance(value, dict | list):
        return False
    left, waiting = many, [value]
    while waiting:
        inner = waiting.pop()
        left -= len(inner)
        if left < 0:
            return True
        members = inner.values() if isinstance(inner, dict) else inner
        waiting += (one for one in members if isinstance(one, dict | list))
    return False
