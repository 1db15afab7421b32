"""One statement that is a transaction by itself: one trip in place of three.

A statement that PostgreSQL receives outside a transaction begins, commits, or is undone on its own,
together with everything that it does. Where a write is one statement that says for whom it runs, neither
`begin` nor `commit` has to be sent. What it cannot have is a second thought: nothing can be undone once
the statement has succeeded, so whoever asks for it must need none.

In: as for a transaction. Out: a `Transaction` that takes one statement. May reject: as a transaction,
and with OutcomeUnknown when the connection is lost meanwhile, as at a commit.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from byodpp.database.context import SessionContext
from byodpp.database.scopes import TransactionScope
from byodpp.database.sqlstate import is_connection_loss, translate
from byodpp.database.transaction import DRIVER_ERRORS, Transaction
from byodpp.exceptions import ApiError, InternalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from byodpp.database.pool import Connection

__all__ = ["LoneScope", "LoneTransaction", "NeedsTransaction"]

_log = logging.getLogger(__name__)

#: A connection that has rested for longer may have died without a word. `begin` would find out and
#: could be sent again; a statement that changes something could not.
_FRESH_SECONDS: Final = 5.0


class NeedsTransaction(Exception):
    """What is to be done takes more than one statement, or may have to be undone; nothing was done yet."""


class LoneTransaction(Transaction):
    """A transaction of one statement, which sets its own context."""

    __slots__ = ("idle", "sent")

    sets_context = False

    def __init__(self, connection: Connection, context: SessionContext) -> None:
        super().__init__(connection, context)
        self.sent = False
        #: Whether the connection waits for a statement: the one there was has ended, well or not.
        self.idle = True

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Run the statement."""
        self._send(sql)
        rows = await super().fetch(sql, *args)
        self.idle = True
        return rows

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """Run the statement, for its first row."""
        self._send(sql)
        row = await super().fetchrow(sql, *args)
        self.idle = True
        return row

    async def fetchval(self, sql: str, *args: Any, column: int = 0) -> Any:
        """Refuse: who asks for a value alone asks again."""
        raise self._refused(sql)

    async def execute(self, sql: str, *args: Any) -> str:
        """Refuse: what has no result sets no context either."""
        raise self._refused(sql)

    async def executemany(self, sql: str, args: Iterable[Sequence[Any]]) -> None:
        """Refuse: several runs are several transactions."""
        raise self._refused(sql)

    def needs_more(self) -> None:
        """Refuse: the rules have changed since the work was taken for a lone statement."""
        raise NeedsTransaction

    def refuse_commit(self, error: ApiError) -> ApiError:
        """Tell that it is too late: the change is there already."""
        _log.error("a lone statement was to be undone for %s", error.error_code, stack_info=True)
        return InternalError()

    def _send(self, sql: str) -> None:
        if self.sent:
            raise self._refused(sql)
        self.sent = True
        self.idle = False

    def _refused(self, sql: str) -> ApiError:
        _log.error("a lone statement was followed by another: %.100s", sql, stack_info=True)
        return InternalError()

    def _translated(self, error: BaseException, sql: str) -> ApiError:
        lost = is_connection_loss(error)
        self.idle = isinstance(error, asyncpg.PostgresError) and not lost
        if lost or isinstance(error, TimeoutError):
            return translate(error, committing=True)
        return super()._translated(error, sql)


class LoneScope(TransactionScope):
    """``async with`` of a lone statement; of a transaction where the connection has rested for long."""

    __slots__ = ()

    async def __aenter__(self) -> Transaction:
        try:
            connection = await self._acquired()
        except DRIVER_ERRORS:
            return await super().__aenter__()  # which tries again, and tells what is wrong
        if self._pool.rested_seconds > _FRESH_SECONDS:
            self._pool.put_back(connection, self._context.tenant_id)
            return await super().__aenter__()
        self._transaction = LoneTransaction(connection, self._context)
        return self._transaction

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        transaction = self._transaction
        if not isinstance(transaction, LoneTransaction):
            await super().__aexit__(kind, error, trace)
            return
        connection, failure = transaction.end(), transaction.taken_failure()
        if transaction.idle:
            self._pool.give_back(connection, self._context.tenant_id)
        else:
            await self._database.finish(self._roll_back(connection))
        if error is None:
            if failure is not None:
                raise failure
            await transaction.run_callbacks()
