"""The way to PostgreSQL: two pools, transactions that know their tenant, one-trip reads.

In: SQL text with arguments, and for whom it runs (`SessionContext`). Out: asyncpg records. May
reject: with the answers of `sqlstate.translate`; no stage above sees a driver's error.

What holds here and is tested:

- A transaction costs one trip for ``begin`` with its settings, one per statement, and one for
  ``commit``; `Database.read` is a single trip. Nothing is sent when a connection goes back: only
  ``set local`` is used, which ends with its transaction.
- A cancelled request leaves no open transaction and no lost connection. Commit and rollback run
  in tasks of their own, so a client that hangs up cannot cut them short.
- ``after_commit`` callbacks run when the connection is free again.

json and jsonb travel as text in both directions, which is asyncpg's default: bytes that
PostgreSQL made go out as they are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import asyncpg

from byodpp.containment import contained
from byodpp.database.connections import PoolOptions, check_app_role, check_system_role, open_pool
from byodpp.database.pool import Connection, ConnectionPool
from byodpp.database.sqlstate import is_connection_loss, is_retryable, translate
from byodpp.exceptions import ApiError, DatabaseStartError, InternalError, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = [
    "NOBODY",
    "PLATFORM_TENANT",
    "Database",
    "Isolation",
    "SessionContext",
    "Transaction",
    "TransactionScope",
    "is_retryable",
    "translate",
]

_log = logging.getLogger(__name__)

#: Id of the platform's own tenant row.
PLATFORM_TENANT: Final = 0
#: Tenant of anonymous readers: it owns nothing, so they see published rows only.
NOBODY: Final = -1

Isolation = Literal["read committed", "repeatable read", "serializable"]

_DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # a lost or refused connection; TimeoutError is one, too
    UnicodeError,
    OverflowError,
    RecursionError,
)
_RELEASE_TIMEOUT_SECONDS: Final = 5.0
_FAILED_TRANSACTION: Final = "25P02"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionContext:
    """For whom a transaction runs; row-level security decides by it."""

    tenant_id: int
    user_id: int = 0  # 0: nobody signed in
    grants: tuple[str, ...] = ()  # `table:tenant:id` of rows lent to this caller

    #: The values of byodpp.tenant, byodpp.user and byodpp.grants, for set_config.
    settings: tuple[str, str, str] = field(init=False, repr=False, compare=False)
    #: Statements that set them in an open transaction.
    commands: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Write both once: a caller's context serves all his requests.

        Raises:
            ValueError: a grant holds U+0000.
        """
        settings = (f"{self.tenant_id:d}", f"{self.user_id:d}", _array_literal(self.grants))
        object.__setattr__(self, "settings", settings)
        object.__setattr__(self, "commands", _set_local(*settings))


class Transaction:
    """One open transaction; statements have asyncpg's signatures (without timeout) and our errors."""

    __slots__ = ("_callbacks", "_savepoints", "connection", "context", "ended", "failure")

    def __init__(self, connection: Connection, context: SessionContext) -> None:
        #: The driver's connection, for what must share the transaction (the job queue).
        self.connection = connection
        self.context = context
        #: The first error of a statement; after it PostgreSQL commits nothing any more.
        self.failure: ApiError | None = None
        #: Set by the scope at its end.
        self.ended = False
        self._callbacks: list[Callable[[], Awaitable[object]]] = []
        self._savepoints = 0

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        try:
            rows: list[asyncpg.Record] = await self.connection.fetch(sql, *args)
        except _DRIVER_ERRORS as error:
            raise self._failed(error, sql) from error
        return rows

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        try:
            return await self.connection.fetchrow(sql, *args)
        except _DRIVER_ERRORS as error:
            raise self._failed(error, sql) from error

    async def fetchval(self, sql: str, *args: Any, column: int = 0) -> Any:
        try:
            return await self.connection.fetchval(sql, *args, column=column)
        except _DRIVER_ERRORS as error:
            raise self._failed(error, sql) from error

    async def execute(self, sql: str, *args: Any) -> str:
        try:
            status: str = await self.connection.execute(sql, *args)
        except _DRIVER_ERRORS as error:
            raise self._failed(error, sql) from error
        return status

    async def executemany(self, sql: str, args: Iterable[Sequence[Any]]) -> None:
        try:
            await self.connection.executemany(sql, args)
        except _DRIVER_ERRORS as error:
            raise self._failed(error, sql) from error

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

    async def _back_to(self, name: str, callbacks: int) -> None:
        try:
            await self.connection.execute(f"rollback to savepoint {name}; release savepoint {name}")
        except _DRIVER_ERRORS as error:
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
        answer = translate(error, deleting=sql.lstrip()[:6].lower() == "delete")
        self.failure = self.failure or answer
        return answer


class _NoConnection:
    """Stands where a connection was, once its transaction has ended."""

    def __getattr__(self, name: str) -> Any:
        raise asyncpg.InterfaceError("the transaction has ended")


class Database:
    """The application's database: a pool for requests and one for the framework's own work."""

    def __init__(
        self,
        *,
        app_uri: str,
        system_uri: str | None = None,
        pool_min_connections: int = 1,
        pool_max_connections: int = 10,
        system_pool_max_connections: int = 4,
        pool_acquire_timeout_seconds: float = 5.0,
        statement_timeout_seconds: float = 30.0,
        start_timeout_seconds: float | None = None,
        shares: Mapping[int, int] | None = None,
    ) -> None:
        """Args:
        app_uri: address as the app role.
        system_uri: address as the system role; without it `system` refuses.
        pool_min_connections: opened by `open`.
        pool_max_connections: most connections of the app's pool.
        system_pool_max_connections: most connections of the system's pool.
        pool_acquire_timeout_seconds: longest wait for a connection; then Unavailable.
        statement_timeout_seconds: enforced by the server, and one second later by us.
        start_timeout_seconds: how long `open` waits for a server that is away; None: without end.
        shares: tenant to the most connections of the app's pool that it has at a time; read each time.
        """
        self._shares: Mapping[int, int] = {} if shares is None else shares
        self._app_uri = app_uri
        self._system_uri = system_uri
        self._acquire_timeout = pool_acquire_timeout_seconds
        self._options = PoolOptions(
            min_connections=pool_min_connections,
            max_connections=pool_max_connections,
            connect_timeout_seconds=pool_acquire_timeout_seconds,
            statement_timeout_seconds=statement_timeout_seconds,
            start_timeout_seconds=start_timeout_seconds,
        )
        self._system_max = system_pool_max_connections
        self._app: ConnectionPool | None = None
        self._system: ConnectionPool | None = None
        self._finishing: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Connect; waits with back-off for a server that is away.

        Raises:
            DatabaseStartError: wrong password or database, PostgreSQL too old, the app role may
                do too much or the system role too little.
        """
        try:
            app = await open_pool(self._app_uri, self._options)
            self._app = ConnectionPool(app, self._options.max_connections, self._shares)
            await check_app_role(app)
            if self._system_uri is not None:
                options = self._options.replace(min_connections=0, max_connections=self._system_max)
                system = await open_pool(self._system_uri, options)
                self._system = ConnectionPool(system, options.max_connections)
                await check_system_role(system)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let what is being committed end, then close every connection. Harmless when not open."""
        if self._finishing:
            await asyncio.wait(self._finishing, timeout=_RELEASE_TIMEOUT_SECONDS)
        pools = [pool for pool in (self._app, self._system) if pool is not None]
        self._app = self._system = None
        for pool in pools:
            try:
                async with asyncio.timeout(_RELEASE_TIMEOUT_SECONDS):
                    await pool.close()
            except TimeoutError:
                _log.warning("connections were still in use and are cut")
                pool.terminate()

    def transaction(
        self, context: SessionContext, *, read_only: bool = False, isolation: Isolation = "read committed"
    ) -> TransactionScope:
        """Return ``async with`` for a transaction of the app role.

        Args:
            context: for whom; its settings travel with ``begin`` in one trip.
            read_only: PostgreSQL refuses every change.
            isolation: with the stricter ones errors may be `is_retryable`.
        """
        begin = f"begin isolation level {isolation}{' read only' if read_only else ''}; {context.commands}"
        return TransactionScope(self, self._pool(self._app), begin, context)

    def system(self, context: SessionContext | None = None) -> TransactionScope:
        """Return ``async with`` for a transaction that passes row-level security.

        Args:
            context: set as in `transaction`, for triggers and defaults; the platform's when omitted.
        """
        if self._system_uri is None:
            raise DatabaseStartError("POSTGRES_SYSTEM_URI is not set, and this needs the system role.")
        context = context or SessionContext(tenant_id=PLATFORM_TENANT)
        begin = f"begin isolation level read committed; {context.commands}"
        return TransactionScope(self, self._pool(self._system), begin, context)

    async def read(self, sql: str, args: Sequence[Any], tenant_id: int = NOBODY) -> asyncpg.Record | None:
        """Run one reading statement in one trip and return its only row.

        The statement sets its own context: ``select (select ...) from (select
        set_config('byodpp.tenant', $1, true), ...) s``. Tried again once when the connection was
        dead or the table has changed; nothing can have happened twice.
        """
        try:
            return await self._read_once(sql, args, tenant_id)
        except _DRIVER_ERRORS as error:
            if not (is_connection_loss(error) or is_retryable(error)):
                raise translate(error) from error
            await self._pool(self._app).expire_connections()
        try:
            return await self._read_once(sql, args, tenant_id)
        except _DRIVER_ERRORS as error:
            raise translate(error) from error

    async def ping(self) -> None:
        """Ask the server for an answer.

        Raises:
            Unavailable: there is none in time.
        """
        await self.read("select 1", ())

    async def _read_once(self, sql: str, args: Sequence[Any], tenant_id: int) -> asyncpg.Record | None:
        pool = self._pool(self._app)
        connection = pool.take(tenant_id) or await self.acquire(pool, tenant_id)
        try:
            record = await connection.fetchrow(sql, *args)
        except BaseException as error:
            if isinstance(error, _DRIVER_ERRORS) and is_connection_loss(error):
                _cut(connection)  # else the next one would get it again
            await _release(pool, connection, tenant_id)
            raise
        pool.give_back(connection, tenant_id)
        return record

    @staticmethod
    def _pool(pool: ConnectionPool | None) -> ConnectionPool:
        if pool is None:
            raise Unavailable("The database is not available for the moment.")
        return pool

    async def acquire(self, pool: ConnectionPool, tenant_id: int) -> Connection:
        """Take a connection; for `TransactionScope` only.

        Raises:
            Unavailable: none got free in time.
        """
        try:
            # Not acquire(timeout=...): a timeout in this task cannot lose a connection on its way.
            async with asyncio.timeout(self._acquire_timeout):
                return pool.take(tenant_id) or await pool.acquire(tenant_id)
        except TimeoutError as error:
            raise Unavailable("The database is busy; try again.") from error

    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end even if the request is cancelled meanwhile."""
        task = asyncio.create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        await asyncio.shield(task)


class TransactionScope:
    """``async with`` of one transaction: commits, or rolls back when the block raises."""

    __slots__ = ("_begin", "_context", "_database", "_pool", "_transaction")

    def __init__(self, database: Database, pool: ConnectionPool, begin: str, context: SessionContext) -> None:
        self._database = database
        self._pool = pool
        self._begin = begin
        self._context = context
        self._transaction: Transaction | None = None

    async def __aenter__(self) -> Transaction:
        try:
            connection = await self._begun()
        except _DRIVER_ERRORS as error:
            if not is_connection_loss(error):
                raise translate(error) from error
            # Nothing has happened yet. Where one idle connection died the others mostly did, too
            # (a restart), so the second try gets a new one.
            await self._pool.expire_connections()
            try:
                connection = await self._begun()
            except _DRIVER_ERRORS as again:
                raise translate(again) from again
        self._transaction = Transaction(connection, self._context)
        return self._transaction

    async def _begun(self) -> Connection:
        holder = self._context.tenant_id
        connection = self._pool.take(holder) or await self._database.acquire(self._pool, holder)
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
        connection = transaction.end()
        if error is None and transaction.failure is None:
            await self._database.finish(self._commit(transaction, connection))
            return
        await self._database.finish(self._roll_back(connection))
        if error is None and transaction.failure is not None:
            raise transaction.failure  # it was caught without a savepoint around what had failed
        if isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
            # Raised by somebody who used `transaction.connection` directly.
            raise translate(error) from error

    async def _commit(self, transaction: Transaction, connection: Connection) -> None:
        try:
            done = await connection.execute("commit")
        except BaseException as error:
            await _release(self._pool, connection, self._context.tenant_id)
            if isinstance(error, _DRIVER_ERRORS):
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
            await connection.execute("rollback", timeout=_RELEASE_TIMEOUT_SECONDS)
        except _DRIVER_ERRORS as error:
            _log.debug("rollback not sent: %s", type(error).__name__)
            _cut(connection)
        finally:
            await _release(self._pool, connection, self._context.tenant_id)


def _cut(connection: Connection) -> None:
    with suppress(asyncpg.InterfaceError):  # the pool has noticed its end and taken it back
        connection.terminate()


async def _release(pool: ConnectionPool, connection: Connection, holder: int) -> None:
    try:
        await pool.discard(connection, _RELEASE_TIMEOUT_SECONDS, holder)
    except _DRIVER_ERRORS as error:
        # asyncpg has cut the connection by then; the next one to ask gets a new one.
        _log.debug("connection not returned: %s", type(error).__name__)


def _set_local(tenant: str, user: str, grants: str) -> str:
    lent = "''" if grants == "{}" else _literal(grants)
    own = f"set local byodpp.tenant = '{tenant}'; set local byodpp.\"user\" = '{user}'"
    return f"{own}; set local byodpp.grants = {lent}"


def _literal(text: str) -> str:
    # The pools set standard_conforming_strings, so a backslash is a backslash.
    return "'" + text.replace("'", "''") + "'"


def _array_literal(texts: tuple[str, ...]) -> str:
    for text in texts:
        if "\0" in text:
            raise ValueError("a grant holds U+0000")
    escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in escaped) + "}"
