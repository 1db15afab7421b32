"""Connections at hand: a free list before asyncpg's pool.

asyncpg's pool opens, checks and closes connections; taking one from it and giving it back costs
about as much as reading a row by its key, most of it in a task per return. Connections that came
back in order stay here, so that the usual way is one `pop` and one `append`. A connection that may
not be in order goes through asyncpg's own release, which waits, cleans, or closes it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import asyncpg

__all__ = ["Connection", "ConnectionPool"]

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[Any]"
#: Somebody's wait, and until when it may take; None: without end.
_Turn: TypeAlias = "tuple[asyncio.Future[Connection | None], float | None]"

#: Between two looks for waits that take too long: each is a walk over all of them, and where a database
#: hangs thousands wait whose times end one by one.
_LOOKS_APART_SECONDS: Final = 0.02

_NO_SHARES: Final[Mapping[int, int]] = MappingProxyType({})


class ConnectionPool:
    """Hands out connections to holders: tenants, mostly.

    Who waits is served holder by holder in turns, and in order within one, so that a holder with a
    hundred requests does not make one with a single request wait for all of them. A holder with a
    share never has more connections than that.
    """

    def __init__(
        self, pool: asyncpg.Pool[Any], max_connections: int, shares: Mapping[int, int] = _NO_SHARES
    ) -> None:
        """Args:
        pool: open.
        max_connections: most that are out at a time; the pool's own limit.
        shares: most that a holder has at a time, read anew each time; all, where it is not named.
        """
        self.pool = pool
        self._max = max_connections
        self._shares = shares
        self._out = 0  # taken from asyncpg's pool: free here or in use
        self._free: list[tuple[Connection, float]] = []  # with the time at which each came back
        #: How long the connection that was handed out last had rested; to be read at once.
        self.rested_seconds = 0.0
        self._used: dict[int, int] = {}  # connections in use, by holder
        #: Those who wait, by holder; the holder whose turn is next comes first. A turn brings a
        #: connection, or None when there is room to open one.
        self._waiting: dict[int, deque[_Turn]] = {}
        self._timer: asyncio.TimerHandle | None = None  # looks for waits that take too long
        self._looks_at = 0.0  # when it does so next, by the clock of the event loop

    def take(self, holder: int = 0) -> Connection | None:
        """Return a free connection at once; None when there is none that the holder may have."""
        # Whoever waits could not use it: what comes back goes to them first.
        if self._free and not (self._shares and self._is_full(holder)):
            connection, since = self._free.pop()
            if not _is_gone(connection):
                self._enter(holder)
                self.rested_seconds = time.monotonic() - since
                return connection
            self._free.append((connection, since))  # `acquire` disposes of it
        return None

    async def acquire(self, holder: int = 0, *, seconds: float | None = None) -> Connection:
        """Return a connection, as soon as there is one. A wait that is given up loses none.

        Args:
            holder: who wants it.
            seconds: how long it may take; None: without end.

        Raises:
            TimeoutError: there was none in time.
        """
        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        while True:
            connection, rested = None, 0.0
            if self._is_full(holder) or not (self._free or self._out < self._max):
                connection = await self._turn(holder, deadline)
            elif self._free:
                connection, since = self._free.pop()
                rested = time.monotonic() - since
                self._enter(holder)
            else:
                async with asyncio.timeout_at(deadline):
                    connection = await self._open(holder)
                self.rested_seconds = 0.0
                return connection
            if connection is None:
                continue
            if not _is_gone(connection):
                self.rested_seconds = rested
                return connection
            self._leave(holder)
            async with asyncio.timeout_at(deadline):
                await self._dispose(connection, None)

    def give_back(self, connection: Connection, holder: int = 0) -> None:
        """Take back a connection that is in order: idle, outside any transaction."""
        self._leave(holder)
        waiting = self._next() if self._waiting else None
        if waiting is None:
            self._free.append((connection, time.monotonic()))
        else:
            following, turn = waiting
            self._enter(following)
            turn.set_result(connection)

    def put_back(self, connection: Connection, holder: int = 0) -> None:
        """Take back a connection that was handed out just now and not used: it goes on resting."""
        self._leave(holder)
        self._free.append((connection, time.monotonic() - self.rested_seconds))

    async def discard(self, connection: Connection, timeout_seconds: float, holder: int = 0) -> None:
        """Take back a connection of which nothing is known; asyncpg cleans or closes it."""
        self._leave(holder)
        try:
            await self._dispose(connection, timeout_seconds)
        finally:
            self._wake()

    async def expire_connections(self) -> None:
        """Close every connection, those in use when they come back: the server was restarted."""
        await self.pool.expire_connections()
        while self._free:
            await self._dispose(self._free.pop()[0], None)
            self._wake()

    async def close(self) -> None:
        """Give every free connection back to asyncpg's pool and close it; waits for those in use."""
        while self._free:
            await self._dispose(self._free.pop()[0], None)
        await self.pool.close()

    def terminate(self) -> None:
        """Cut every connection."""
        self.pool.terminate()

    def _is_full(self, holder: int) -> bool:
        share = self._shares.get(holder)
        return share is not None and self._used.get(holder, 0) >= share

    def _enter(self, holder: int) -> None:
        self._used[holder] = self._used.get(holder, 0) + 1

    def _leave(self, holder: int) -> None:
        left = self._used[holder] - 1
        if left:
            self._used[holder] = left
        else:
            del self._used[holder]

    async def _open(self, holder: int) -> Connection:
        self._out += 1
        self._enter(holder)
        try:
            return await self.pool.acquire()
        except BaseException:
            self._out -= 1
            self._leave(holder)
            self._wake()
            raise

    async def _dispose(self, connection: Connection, timeout_seconds: float | None) -> None:
        self._out -= 1
        await self.pool.release(connection, timeout=timeout_seconds)  # nothing, if asyncpg has it already

    async def _turn(self, holder: int, deadline: float | None) -> Connection | None:
        """Wait until there is a connection for the holder, or room to open one."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Connection | None] = loop.create_future()
        queue = self._waiting.get(holder)
        if queue is None:
            queue = self._waiting[holder] = deque()
        queue.append((turn, deadline))
        if deadline is not None and (self._timer is None or deadline < self._looks_at):
            self._look_at(deadline, loop)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # It was our turn, and we are leaving: it is the next one's.
                connection = turn.result()
                if connection is None:
                    self._wake()
                else:
                    self.give_back(connection, holder)
            else:
                self._leave_queue(holder, turn)
            raise

    def _look_at(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        """Look for waits that take too long at a time.

        One timer for all of them: with more requests than connections every other one waits, and a timer
        for each would cost as much as the wait itself.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = when
        self._timer = loop.call_at(when, self._end_waits, loop)

    def _end_waits(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now, left = loop.time(), []
        for turn, deadline in [waiting for queue in self._waiting.values() for waiting in queue]:
            if deadline is None or turn.done():
                continue
            if deadline <= now:
                turn.set_exception(TimeoutError())
            else:
                left.append(deadline)
        if left:
            self._look_at(max(min(left), now + _LOOKS_APART_SECONDS), loop)

    def _leave_queue(self, holder: int, turn: asyncio.Future[Connection | None]) -> None:
        queue = self._waiting.get(holder)
        if queue is None:
            return
        for waiting in queue:
            if waiting[0] is turn:
                queue.remove(waiting)
                break
        if not queue:
            del self._waiting[holder]

    def _wake(self) -> None:
        """There is room to open a connection: let the next one do so."""
        waiting = self._next()
        if waiting is not None:
            waiting[1].set_result(None)

    def _next(self) -> tuple[int, asyncio.Future[Connection | None]] | None:
        """Return whose turn it is and end its waiting; None when nobody waits who may have a connection."""
        for holder in list(self._waiting):
            if self._is_full(holder):
                continue
            queue = self._waiting.pop(holder)
            while queue:
                turn, _ = queue.popleft()
                if not turn.done():  # one whose wait was cancelled has not left the queue yet
                    if queue:
                        self._waiting[holder] = queue  # behind the others
                    return holder, turn
        return None


def _is_gone(connection: Connection) -> bool:
    """Whether the connection is dead, and perhaps back in asyncpg's pool already."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True
