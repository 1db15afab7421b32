"""The heap: when the garbage collector may walk over it, so that nobody waits for that.

In: blocks that build something large. Out: nothing. Rejects nothing.

A pass of the collector over the half a million values of one large body takes longer than other requests
should wait, and the collector would make several while the body grows, and one more right after. Values
of JSON have no cycles, so that a pass finds nothing in them: it is put off until they are gone. Where one
large body follows the other without a pause, the turnstile makes one.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from byodpp.turnstile import Turnstile

__all__ = ["Heap", "building_to_stay", "no_collection"]

#: Young containers that a pass walks over in a few milliseconds. More are taken for large values.
_FEW: Final = 100_000
#: Young containers with which a pass comes at any rate: more than ten large bodies at a time.
_MOST: Final = 10_000_000
#: How long the collector waits for large values to go; then no further ones are let in for a while.
_PATIENCE_SECONDS: Final = 30.0
#: How long it waits for those that are in to be gone; then a pass comes at any rate.
_LULL_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.1


@contextmanager
def no_collection() -> Iterator[None]:
    """Build without the garbage collector; afterwards it is as it was."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def building_to_stay() -> Iterator[None]:
    """Build what stays as long as the process, and keep the collector from it, also later.

    Where that is much, all that is there at the end is taken out of its passes, with what is garbage in
    cycles just then.
    """
    with no_collection():
        yield
        if gc.get_count()[0] > _FEW:
            gc.freeze()


class Heap:
    """Puts passes of the collector off while large values are alive.

    Bounded in time and in number: a pass comes after some seconds, or when so many containers are young,
    whether large values are gone or not. What is left by then is old, and few passes look at it.
    """

    def __init__(self, turnstile: Turnstile) -> None:
        """Args:
        turnstile: that large bodies come in by.
        """
        self._turnstile = turnstile
        self._works = 0  # that are building something large just now
        self._since: float | None = None  # when passes were put off; None: they are not
        self._looking: tuple[asyncio.AbstractEventLoop, asyncio.TimerHandle] | None = None

    @contextmanager
    def growing(self) -> Iterator[None]:
        """Build something large, on the event loop or awaiting a thread.

        Passes are put off until it is built, and until what was built is gone again.
        """
        self._put_off()
        self._works += 1
        try:
            yield
        finally:
            self._works -= 1

    def restore(self) -> None:
        """Let the collector work as before, at the end of an application."""
        if self._looking is not None:
            self._looking[1].cancel()
        self._since = self._looking = None
        _set_young(_usual())
        self._turnstile.open()

    def _put_off(self) -> None:
        loop = asyncio.get_running_loop()
        if self._looking is None or self._looking[0] is not loop:  # a loop that has ended looks no more
            self._since = loop.time()
            self._look_later(loop)
        # The usual number is kept in the number itself: it is the interpreter's, as is the collector, and
        # other applications in it find it there.
        _set_young(_MOST + _usual())

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking = loop, loop.call_later(_LOOK_SECONDS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the collector work again when it may."""
        assert self._since is not None
        waited = loop.time() - self._since
        # Counts what was made since the last pass, less what is gone: many are a large value, or all that
        # became garbage since.
        gone = not self._works and gc.get_count()[0] < _FEW
        if waited > _PATIENCE_SECONDS:
            self._turnstile.shut()
            gone |= not self._works and self._turnstile.is_empty
        if gone or waited > _PATIENCE_SECONDS + _LULL_SECONDS:
            self.restore()
        else:
            self._look_later(loop)


def _usual() -> int:
    """Return how many young containers bring a pass when nobody puts it off."""
    young = gc.get_threshold()[0]
    return young - _MOST if young >= _MOST else young


def _set_young(number: int) -> None:
    gc.set_threshold(number, *gc.get_threshold()[1:])
