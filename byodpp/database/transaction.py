"""One open transaction: asyncpg's statements with our errors, savepoints, and what waits for the commit.

Made by `scopes`. May reject: with the answers of `sqlstate.translate`, and with InternalError when a
statement comes too late.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import asyncpg

from byodpp.containment import contained
from byodpp.database.context import SessionContext, search_path
from byodpp.database.deadline import Deadline
from byodpp.database.pool import Connection
from byodpp.database.sqlstate import translate
from byodpp.exceptions import ApiError, InternalError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

__all__ = ["DRIVER_ERRORS", "Transaction"]

_log = logging.getLogger(__name__)

#: Everything that the driver raises.
DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # a lost or refused connection; TimeoutError is one, too
    UnicodeError,
    OverflowError,
    RecursionError,
)
_FAILED_TRANSACTION: Final = "25P02"

#: Rows that a stream takes from the server at once.
_MOST_ROWS_AT_ONCE: Final = 5_000


class Transaction:
    """One open transaction; statements have asyncpg's signatures (without timeout) and our errors."""

    __slots__ = (
        "_callbacks", "_deadline", "_savepoints", "_seconds",
        "brief", "connection", "context", "ended", "failure",
    )  # fmt: skip

    #: Whether tenant, user and grants are set before any statement; else the statement has to do it.
    sets_context: ClassVar[bool] = True

    def __init__(
        self, connection: Connection, context: SessionContext, deadline: Deadline | None = None
    ) -> None:
        #: The driver's connection, for what must share the transaction (the job queue).
        self.connection = connection
        self.context = context
        #: The first error of a statement; after it PostgreSQL commits nothing any more.
        self.failure: ApiError | None = None
        #: Whether its work can be done again later on: it waits for others for a moment only.
        self.brief = False
        #: Set by the scope at its end.
        self.ended = False
        self._callbacks: list[Callable[[], Awaitable[object]]] = []
        self._savepoints = 0
        self._seconds: float | None = None  # of a statement; None: as the connection has it
        self._deadline = deadline  # of all statements; None: they have none

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        try:
            rows: list[asyncpg.Record] = await self.connection.fetch(
                self._placed(sql), *args, timeout=self._time()
            )
        except DRIVER_ERRORS as error:
            raise self._failed(error, sql) from error
        return rows

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        try:
            return await self.connection.fetchrow(self._placed(sql), *args, timeout=self._time())
        except DRIVER_ERRORS as error:
            raise self._failed(error, sql) from error

    async def fetchval(self, sql: str, *args: Any, column: int = 0) -> Any:
        try:
            return await self.connection.fetchval(
                self._placed(sql), *args, column=column, timeout=self._time()
            )
        except DRIVER_ERRORS as error:
            raise self._failed(error, sql) from error

    async def execute(self, sql: str, *args: Any) -> str:
        try:
            status: str = await self.connection.execute(self._placed(sql), *args, timeout=self._time())
        except DRIVER_ERRORS as error:
            raise self._failed(error, sql) from error
        return status

    async def executemany(self, sql: str, args: Iterable[Sequence[Any]]) -> None:
        try:
            await self.connection.executemany(self._placed(sql), args, timeout=self._time())
        except DRIVER_ERRORS as error:
            raise self._failed(error, sql) from error

    async def stream(
        self, sql: str, *args: Any, first: int, bytes_at_once: int
    ) -> AsyncGenerator[list[str], None]:
        """Yield the texts of a one-column statement as a cursor of the server finds them.

        Args:
            sql: reads.
            args: of the statement.
            first: rows of the first portion.
            bytes_at_once: about how large the later ones are; rows that grow make them shorter.
        """
        rows = first
        try:
            cursor = await self.connection.cursor(self._placed(sql), *args)
            while portion := [record[0] for record in await cursor.fetch(rows)]:
                yield portion
                average = sum(map(len, portion)) / len(portion)
                rows = max(1, min(_MOST_ROWS_AT_ONCE, int(bytes_at_once / (average + 1))))
        except DRIVER_ERRORS as error:
            raise self._failed(error, sql) from error

    async def be_patient(self, seconds: float) -> None:
        """Let every statement that follows take as long as this, and the pauses between them.

        The server ends a statement by its own clock and the driver by another one: both are set. There is
        no bound for all of them any more.

        Args:
            seconds: at most, 1 to 86,400.
        """
        milliseconds = round(seconds * 1000)
        await self.execute(
            f"set local statement_timeout = {milliseconds:d};"
            f" set local idle_in_transaction_session_timeout = {milliseconds:d}"
        )
        self._seconds, self._deadline = seconds + 1.0, None

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo only the block when it raises; the exception goes on, the transaction lives."""
        self._savepoints += 1
        name = f"byodpp_{self._savepoints}"
        callbacks = len(self._callbacks)
        await self.execute(f"savepoint {name}")
        try:
            yield
            await self.execute(f"release savepoint {name}")
        except Exception:
            # A cancelled request is not caught: its whole transaction is rolled back.
            await self._back_to(name, callbacks)
            raise

    def needs_more(self) -> None:
        """Be told, before it sends anything, that some work takes more statements or may have to be undone.

        Raises:
            NeedsTransaction: this is one statement alone.
        """

    @asynccontextmanager
    async def elsewhere(self, place: str) -> AsyncIterator[None]:
        """Look for tables in another place first, during the block."""
        own = self.context
        self.context = replace(own, place=place)
        try:
            await self.execute("select" + search_path(place))
            yield
            # After a failure there is nothing to go back to but the end, or a savepoint that does it.
            back = search_path(own.place) or "; set local search_path = default"
            await self.execute("select" + back)
        finally:
            self.context = own

    @asynccontextmanager
    async def for_owner(self, user_id: int) -> AsyncIterator[None]:
        """Let row-level security show the rows of another user of the tenant, during the block."""
        own = self.context.owner_id
        await self.execute(f"set local byodpp.\"user\" = '{user_id:d}'")
        yield
        # After a failure there is nothing to go back to but the end, or a savepoint that does it.
        await self.execute(f"set local byodpp.\"user\" = '{own:d}'")

    def refuse_commit(self, error: ApiError) -> ApiError:
        """Let the transaction end in this error even if it is caught: what it refuses is done already.

        A savepoint around the refused statement undoes both.
        """
        self.failure = self.failure or error
        return error

    def end(self) -> Connection:
        """Take the connection away; called by `TransactionScope` alone. It is soon somebody else's."""
        connection = self.connection
        self.ended = True
        self.connection = cast(Connection, _NoConnection())
        return connection

    def taken_failure(self) -> ApiError | None:
        """Return the failure and forget it: it holds frames that hold the transaction."""
        failure, self.failure = self.failure, None
        return failure

    def after_commit(self, callback: Callable[[], Awaitable[object]]) -> None:
        """Run `callback` once the transaction is committed; its failure is logged, not answered."""
        self._callbacks.append(callback)

    async def run_callbacks(self) -> None:
        """Run what waits for the commit; called by `Database` alone."""
        for callback in self._callbacks:
            try:
                with contained():
                    await callback()
            except Exception:
                _log.exception("an after_commit callback failed")

    def _time(self) -> float | None:
        """Return the seconds that the next statement has; None: as the connection has it.

        Raises:
            QueryTimeout: the time of all statements is over; nothing is committed any more.
        """
        if self._deadline is None:
            return self._seconds
        try:
            return self._deadline.left()
        except ApiError as error:
            raise self.refuse_commit(error) from None

    def _placed(self, sql: str) -> str:
        """Return a statement in words of its own where it means tables of a place.

        A prepared statement is planned anew when it finds other tables under its names. So that those of
        the shared tables never are, the others have their own; one for all places.
        """
        return sql if self.context.place is None else f"/* placed */ {sql}"

    async def _back_to(self, name: str, callbacks: int) -> None:
        try:
            await self.connection.execute(f"rollback to savepoint {name}; release savepoint {name}")
        except DRIVER_ERRORS as error:
            _log.debug("savepoint lost with its connection: %s", type(error).__name__)
            return
        self.failure = None
        del self._callbacks[callbacks:]

    def _failed(self, error: BaseException, sql: str) -> ApiError:
        if self.ended:
            _log.error("a statement was sent after the end of its transaction", stack_info=True)
            return InternalError()
        if getattr(error, "sqlstate", "") == _FAILED_TRANSACTION and self.failure is not None:
            _log.error("a statement was sent after %r was caught without a savepoint", self.failure.code)
            return InternalError()
        answer = self._translated(error, sql)
        self.failure = self.failure or answer
        return answer

    def _translated(self, error: BaseException, sql: str) -> ApiError:
        return translate(error, deleting=sql.lstrip()[:6].lower() == "delete")


class _NoConnection:
    """Stands where a connection was, once its transaction has ended."""

    def __getattr__(self, name: str) -> Any:
        raise asyncpg.InterfaceError("the transaction has ended")
