"""Sessions: a connection for one long piece of work, beside the pools that serve requests.

An import or export holds its connection for minutes; out of the pool it would starve requests. Their
number is bounded, per process. May reject: Unavailable, when there are as many as may be, or the
database is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from byodpp.database.context import SessionContext
from byodpp.database.pool import ConnectionPool
from byodpp.database.transactions import Database, Isolation, TransactionScope
from byodpp.exceptions import Unavailable

__all__ = ["Session", "Sessions"]

_CLOSING_SECONDS: Final = 5.0


class Session:
    """A connection whose transactions follow each other.

    What belongs to a session of PostgreSQL (temporary tables, advisory locks) lasts until its end, or
    until the connection is lost: the next transaction then has a new one.
    """

    def __init__(self, database: Database, pool: ConnectionPool) -> None:
        self._database = database
        self._pool = pool

    def transaction(
        self, context: SessionContext, *, read_only: bool = False, isolation: Isolation = "read committed"
    ) -> TransactionScope:
        """Return ``async with`` for a transaction; arguments are those of `Database.transaction`."""
        return self._database.scope(self._pool, context, read_only=read_only, isolation=isolation)


class Sessions:
    """Opens sessions, a bounded number at a time."""

    def __init__(self, database: Database, *, most: int, patience_seconds: float) -> None:
        """Args:
        database: open, when a session is asked for.
        most: sessions at a time.
        patience_seconds: longest wait for another one's end.
        """
        self._database = database
        self._turns = asyncio.Semaphore(most)
        self._patience = patience_seconds

    @asynccontextmanager
    async def open(self, place: str | None = None) -> AsyncIterator[Session]:
        """Yield a session.

        Args:
            place: name of the database it is in; None: the one that all tenants share.

        Raises:
            Unavailable: there are as many as may be, or the database is away.
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError as error:
            told = "Other imports and exports are running; try again."
            raise Unavailable(told, retry_after_seconds=5) from error
        try:
            database = self._database.at(place)
            pool = await database.pool_of_one()
            try:
                yield Session(database, pool)
            finally:
                await database.finish(_closed(pool))
        finally:
            self._turns.release()


async def _closed(pool: ConnectionPool) -> None:
    try:
        async with asyncio.timeout(_CLOSING_SECONDS):
            await pool.close()
    except TimeoutError:
        pool.terminate()
