"""Connections at hand: a free list before asyncpg's pool.

asyncpg's pool opens, checks and closes connections; taking one from it and giving it back costs
about as much as reading a row by its key, most of it in a task per return. Connections that came
back in order stay here, so that the usual way is one `pop` and one `append`. A connection that may
not be in order goes through asyncpg's own release, which waits, cleans, or closes it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, TypeAlias

import asyncpg

__all__ = ["Connection", "ConnectionPool"]

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[Any]"


class ConnectionPool:
    """Hands out connections; who waits is served in order."""

    def __init__(self, pool: asyncpg.Pool[Any], max_connections: int) -> None:
        """Args:
        pool: open.
        max_connections: most that are out at a time; the pool's own limit.
        """
        self.pool = pool
        self._max = max_connections
        self._out = 0  # taken from asyncpg's pool: free here or in use
        self._free: list[Connection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> Connection | None:
        """Return a free connection at once; None when there is none or others wait already."""
        if self._free and not self._waiting:
            connection = self._free.pop()
            if not _is_gone(connection):
                return connection
            self._free.append(connection)  # `acquire` disposes of it
        return None

    async def acquire(self) -> Connection:
        """Return a connection, as soon as there is one. A cancelled wait loses none."""
        while True:
            if self._free:
                connection = self._free.pop()
                if not _is_gone(connection):
                    return connection
                await self._dispose(connection, None)
            elif self._out < self._max:
                return await self._open()
            else:
                await self._turn()

    def give_back(self, connection: Connection) -> None:
        """Take back a connection that is in order: idle, outside any transaction."""
        self._free.append(connection)
        self._wake()

    async def discard(self, connection: Connection, timeout_seconds: float) -> None:
        """Take back a connection of which nothing is known; asyncpg cleans or closes it."""
        try:
            await self._dispose(connection, timeout_seconds)
        finally:
            self._wake()

    async def expire_connections(self) -> None:
        """Close every connection, those in use when they come back: the server was restarted."""
        await self.pool.expire_connections()
        while self._free:
            await self._dispose(self._free.pop(), None)
            self._wake()

    async def close(self) -> None:
        """Give every free connection back to asyncpg's pool and close it; waits for those in use."""
        while self._free:
            await self._dispose(self._free.pop(), None)
        await self.pool.close()

    def terminate(self) -> None:
        """Cut every connection."""
        self.pool.terminate()

    async def _open(self) -> Connection:
        self._out += 1
        try:
            return await self.pool.acquire()
        except BaseException:
            self._out -= 1
            self._wake()
            raise

    async def _dispose(self, connection: Connection, timeout_seconds: float | None) -> None:
        self._out -= 1
        await self.pool.release(connection, timeout=timeout_seconds)  # nothing, if asyncpg has it already

    async def _turn(self) -> None:
        """Wait until something may have become free."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._wake()  # it was our turn, and we are leaving: the next one's
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return


def _is_gone(connection: Connection) -> bool:
    """Whether the connection is dead, and perhaps back in asyncpg's pool already."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True
