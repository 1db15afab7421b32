"""``async with`` of a transaction: begins it, and commits or rolls back whatever happens meanwhile.

Made by `Database`. Commit and rollback run in tasks of their own, so that a request that is cancelled
leaves no open transaction and no lost connection.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import asyncpg

from byodpp.database.context import SessionContext
from byodpp.database.deadline import Deadline
from byodpp.database.pool import Connection, ConnectionPool
from byodpp.database.sqlstate import is_connection_loss, translate
from byodpp.database.transaction import DRIVER_ERRORS, Transaction
from byodpp.exceptions import InternalError

if TYPE_CHECKING:
    from types import TracebackType

    from byodpp.database.transactions import Confirm, Database

__all__ = ["RELEASE_TIMEOUT_SECONDS", "TransactionScope", "cut", "release"]

_log = logging.getLogger(__name__)

#: How long a connection may take to come to rest.
RELEASE_TIMEOUT_SECONDS: Final = 5.0


class TransactionScope:
    """``async with`` of one transaction: commits, or rolls back when the block raises."""

    __slots__ = ("_begin", "_confirm", "_context", "_database", "_deadline", "_pool", "_transaction")

    def __init__(
        self,
        database: Database,
        pool: ConnectionPool,
        begin: str,
        context: SessionContext,
        confirm: Confirm | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self._database = database
        self._pool = pool
        self._begin = begin
        self._context = context
        self._confirm = confirm
        self._deadline = deadline
        self._transaction: Transaction | None = None

    async def __aenter__(self) -> Transaction:
        try:
            connection = await self._begun()
        except DRIVER_ERRORS as error:
            if not is_connection_loss(error):
                raise translate(error) from error
            # Nothing has happened yet. Where one idle connection died the others mostly did, too
            # (a restart), so the second try gets a new one.
            await self._pool.expire_connections()
            try:
                connection = await self._begun()
            except DRIVER_ERRORS as again:
                raise translate(again) from again
        self._transaction = Transaction(connection, self._context, self._deadline)
        return self._transaction

    async def _acquired(self) -> Connection:
        holder = self._context.tenant_id
        return self._pool.take(holder) or await self._database.acquire(self._pool, holder)

    async def _begun(self) -> Connection:
        connection = await self._acquired()
        try:
            await connection.execute(self._begin)
        except BaseException:
            await self._database.finish(self._roll_back(connection))
            raise
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        transaction = self._transaction
        assert transaction is not None
        if self._confirm is not None and error is None and transaction.failure is None:
            try:
                await self._confirm(transaction)
            except BaseException:
                await self._database.finish(self._roll_back(transaction.end()))
                raise
        connection, failure = transaction.end(), transaction.taken_failure()
        if error is None and failure is None:
            await self._database.finish(self._commit(transaction, connection))
            return
        await self._database.finish(self._roll_back(connection))
        if error is None and failure is not None:
            raise failure  # it was caught without a savepoint around what had failed
        if isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
            # Raised by somebody who used `transaction.connection` directly.
            raise translate(error) from error

    async def _commit(self, transaction: Transaction, connection: Connection) -> None:
        try:
            done = await connection.execute("commit")
        except BaseException as error:
            await release(self._pool, connection, self._context.tenant_id)
            if isinstance(error, DRIVER_ERRORS):
                raise translate(error, committing=True) from error
            raise
        self._pool.give_back(
            connection, self._context.tenant_id
        )  # committed or rolled back: no transaction is open
        if done != "COMMIT":
            # A statement had failed and its error was swallowed: PostgreSQL rolled back instead.
            raise transaction.failure or InternalError()
        await transaction.run_callbacks()

    async def _roll_back(self, connection: Connection) -> None:
        try:
            # Sent even when the driver sees no transaction: a `begin` that was cut short may have begun.
            await connection.execute("rollback", timeout=RELEASE_TIMEOUT_SECONDS)
        except DRIVER_ERRORS as error:
            _log.debug("rollback not sent: %s", type(error).__name__)
            cut(connection)
        finally:
            await release(self._pool, connection, self._context.tenant_id)


def cut(connection: Connection) -> None:
    """Close a connection at once."""
    with suppress(asyncpg.InterfaceError):  # the pool has noticed its end and taken it back
        connection.terminate()


async def release(pool: ConnectionPool, connection: Connection, holder: int) -> None:
    """Give back a connection of which nothing is known."""
    try:
        await pool.discard(connection, RELEASE_TIMEOUT_SECONDS, holder)
    except DRIVER_ERRORS as error:
        # asyncpg has cut the connection by then; the next one to ask gets a new one.
        _log.debug("connection not returned: %s", type(error).__name__)
