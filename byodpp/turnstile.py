"""The turnstile: large bodies take turns, so that few of them are parsed, judged, and written at a time.

In: how large a body is, and whose. Out: a turn, which ends with the request. May reject: Unavailable with
`Retry-After`, when too much is waiting already, or a turn does not come for long.

A body of ten megabytes becomes a hundred in Python, and holds a connection to the database while it is
written. Where many come at once the later ones wait as bytes, and whoever sends small bodies waits for none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Final

from byodpp.exceptions import Unavailable

__all__ = ["Turn", "Turnstile"]

#: Bytes of bodies that are inside together; a larger one goes in alone.
_INSIDE_BYTES: Final = 20 * 2**20
#: Bytes of bodies that wait, in all and of one tenant; one body may wait however large it is.
_WAITING_BYTES: Final = 256 * 2**20
_WAITING_BYTES_OF_ONE: Final = 128 * 2**20
#: How long a body waits.
_PATIENCE_SECONDS: Final = 30.0


class Turn:
    """Leave to work on one body."""

    __slots__ = ("_size", "_turnstile")

    def __init__(self, turnstile: Turnstile, size: int) -> None:
        """Args:
        turnstile: that gave it.
        size: of the body in bytes.
        """
        self._turnstile: Turnstile | None = turnstile
        self._size = size

    def end(self) -> None:
        """Let the next one in; what was made of the body is gone. Again: nothing happens."""
        turnstile, self._turnstile = self._turnstile, None
        if turnstile is not None:
            turnstile.leave(self._size)


class Turnstile:
    """Gives turns: first come, first served among those of one tenant, tenants by turns."""

    def __init__(self) -> None:
        self._inside = 0  # turns that have not ended
        self._inside_bytes = 0
        self._waiting_bytes = 0
        #: By whose they are, in the order in which they come to their turn: sizes by what is told each.
        self._waiting: dict[Hashable, dict[asyncio.Future[None], int]] = {}
        self._is_shut = False

    @property
    def is_empty(self) -> bool:
        """Whether nobody is inside."""
        return not self._inside

    async def enter(self, size: int, whose: Hashable) -> Turn:
        """Wait for a turn.

        Args:
            size: of the body in bytes.
            whose: tenant or address that it came from.

        Raises:
            Unavailable: it does not come.
        """
        self._refuse_crowd(size, whose)
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(whose, {})[admitted] = size
        self._waiting_bytes += size
        self._admit()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await admitted
        except BaseException as failure:
            if self._waiting.get(whose, {}).get(admitted) is not None:
                self._take(whose, admitted)
            else:
                self.leave(size)  # let in at the very moment of giving up
            if isinstance(failure, TimeoutError):
                raise _busy() from None
            raise
        return Turn(self, size)

    def leave(self, size: int) -> None:
        """End a turn; called by `Turn` alone."""
        self._inside -= 1
        self._inside_bytes -= size
        self._admit()

    def shut(self) -> None:
        """Let nobody in until it is opened."""
        self._is_shut = True

    def open(self) -> None:
        """Let them in again."""
        self._is_shut = False
        self._admit()

    def _refuse_crowd(self, size: int, whose: Hashable) -> None:
        own = sum(self._waiting.get(whose, {}).values())
        if own and own + size > _WAITING_BYTES_OF_ONE:
            raise _busy()
        if self._waiting and self._waiting_bytes + size > _WAITING_BYTES:
            raise _busy()

    def _admit(self) -> None:
        """Let in whose turn it is, while there is room."""
        while self._waiting and not self._is_shut:
            whose, queue = next(iter(self._waiting.items()))
            admitted, size = next(iter(queue.items()))
            if self._inside and self._inside_bytes + size > _INSIDE_BYTES:
                return
            self._take(whose, admitted)
            if queue:
                self._waiting[whose] = self._waiting.pop(whose)  # behind all others
            self._inside += 1
            self._inside_bytes += size
            if not admitted.done():  # else the one who gives up finds that it was let in
                admitted.set_result(None)

    def _take(self, whose: Hashable, admitted: asyncio.Future[None]) -> None:
        """Take one out of those that wait."""
        queue = self._waiting[whose]
        self._waiting_bytes -= queue.pop(admitted)
        if not queue:
            del self._waiting[whose]


def _busy() -> Unavailable:
    return Unavailable("The server is busy with other large bodies; try again.", retry_after_seconds=5)
