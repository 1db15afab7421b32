"""Work that takes long, done in a thread, so that the event loop goes on meanwhile.

For bodies and rows of megabytes: parsing, judging, writing. Python runs one thread at a time, yet gives
others their turn every few milliseconds: the more threads there are, the longer a turn of the event loop
is in coming. So there are few, and large bodies take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, Final, TypeVar

from byodpp.heap import Heap, no_collection
from byodpp.turnstile import Turn, Turnstile

__all__ = [
    "LARGE_BYTES",
    "WORKROOM",
    "Aside",
    "Workroom",
    "aside",
    "by_size",
    "is_large",
    "others",
    "turn_of",
]

#: Runs something that may take long, in a thread if need be.
Aside = Callable[[Callable[[], Any]], Awaitable[Any]]

#: What is larger is worth a thread.
LARGE_BYTES: Final = 262_144
#: A document of more values takes longer than other requests should wait.
_MANY_VALUES: Final = 5_000

#: Items of a batch, or documents of an import, after which others get their turn on the event loop.
_TURN: Final = 50

#: Threads that work on what is large; one more would only be in the others' way.
_THREADS: Final = 2

T = TypeVar("T")


class Workroom:
    """Where an application works on what is large: its threads, and who lets large bodies in."""

    def __init__(self) -> None:
        self.turnstile = Turnstile()
        self._heap = Heap(self.turnstile)
        self._threads: ThreadPoolExecutor | None = None  # until something is large

    async def run(self, work: Callable[[], T]) -> T:
        """Run something in a thread, with the context of its caller."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="aside")
        run = partial(copy_context().run, work)
        with self._heap.growing():
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    def close(self) -> None:
        """End the threads, and let the garbage collector work as before."""
        self._heap.restore()
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)


#: That of the application which serves the request; None outside of one.
WORKROOM: ContextVar[Workroom | None] = ContextVar("byodpp_workroom", default=None)


async def turn_of(size: int, whose: Hashable) -> Turn | None:
    """Wait until it is a large body's turn to be worked on.

    Args:
        size: of the body in bytes.
        whose: tenant or address that it came from.

    Returns:
        The turn, to be ended; None outside of an application.

    Raises:
        Unavailable: it does not come for long.
    """
    room = WORKROOM.get()
    return None if room is None else await room.turnstile.enter(size, whose)


async def aside(work: Callable[[], T]) -> T:
    """Run something in a thread, and keep the garbage collector from its values.

    It would look at a document of half a million values again and again while that grows, and let
    nobody else in. The work must not touch anything that others use.
    """
    room = WORKROOM.get()
    if room is not None:
        return await room.run(work)
    with no_collection():
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
