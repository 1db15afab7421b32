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
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import asyncpg

from byodpp.database.connections import PoolOptions, check_app_role, check_system_role, open_pool
from byodpp.database.context import NOBODY, PLATFORM_TENANT, SessionContext
from byodpp.database.deadline import Deadline
from byodpp.database.lone import LoneScope
from byodpp.database.pool import Connection, ConnectionPool
from byodpp.database.scopes import RELEASE_TIMEOUT_SECONDS, TransactionScope, cut, release
from byodpp.database.sqlstate import is_connection_loss, is_retryable, translate
from byodpp.database.transaction import DRIVER_ERRORS, Transaction
from byodpp.exceptions import ApiError, DatabaseStartError, PlaceUnavailable, Unavailable

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

#: What is asked before a commit.
Confirm: TypeAlias = Callable[[Transaction], Awaitable[object]]

Isolation = Literal["read committed", "repeatable read", "serializable"]


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
        transaction_timeout_seconds: float = 60.0,
        start_timeout_seconds: float | None = None,
        shares: Mapping[int, int] | None = None,
        places: Mapping[str, Database] | None = None,
        confirm: Confirm | None = None,
    ) -> None:
        """Args:
        app_uri: address as the app role.
        system_uri: address as the system role; without it `system` refuses.
        pool_min_connections: opened by `open`.
        pool_max_connections: most connections of the app's pool.
        system_pool_max_connections: most connections of the system's pool.
        pool_acquire_timeout_seconds: longest wait for a connection; then Unavailable.
        statement_timeout_seconds: enforced by the server, and one second later by us.
        transaction_timeout_seconds: of a `deadline`; no statement takes longer either.
        start_timeout_seconds: how long `open` waits for a server that is away; None: without end.
        shares: tenant to the most connections of the app's pool that it has at a time; read each time.
            places: databases of tenants that have one for themselves, by name.
            confirm: called before each commit of the app role, which it may refuse; who writes rows of
                tenants as the system role calls it himself.
        """
        self.places: Mapping[str, Database] = {} if places is None else places
        self.confirm = confirm
        #: Why nobody is served from here for now; None: requests are. Of a place only.
        self.refusal: ApiError | None = None
        self._shares: Mapping[int, int] = {} if shares is None else shares
        self._app_uri = app_uri
        self.system_uri = system_uri
        self._acquire_timeout = pool_acquire_timeout_seconds
        self._options = PoolOptions(
            min_connections=pool_min_connections,
            max_connections=pool_max_connections,
            connect_timeout_seconds=pool_acquire_timeout_seconds,
            statement_timeout_seconds=min(statement_timeout_seconds, transaction_timeout_seconds),
            start_timeout_seconds=start_timeout_seconds,
        )
        self._transaction_seconds = transaction_timeout_seconds
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
            if self.system_uri is not None:
                options = self._options.replace(min_connections=0, max_connections=self._system_max)
                system = await open_pool(self.system_uri, options)
                self._system = ConnectionPool(system, options.max_connections)
                await check_system_role(system)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let what is being committed end, then close every connection. Harmless when not open."""
        if self._finishing:
            await asyncio.wait(self._finishing, timeout=RELEASE_TIMEOUT_SECONDS)
        pools = [pool for pool in (self._app, self._system) if pool is not None]
        self._app = self._system = None
        for pool in pools:
            try:
                async with asyncio.timeout(RELEASE_TIMEOUT_SECONDS):
                    await pool.close()
            except TimeoutError:
                _log.warning("connections were still in use and are cut")
                pool.terminate()

    def at(self, name: str | None) -> Database:
        """Return the database of a place that serves; of None, this one.

        Raises:
            Unavailable: this process has no such place, or it is away, or lacks a revision.
        """
        if name is None:
            return self
        place = self.places.get(name)
        if place is None:
            _log.error("a tenant is in the place %r, which `places` does not name", name)
            raise PlaceUnavailable
        if place.refusal is not None:
            refusal = place.refusal
            raise type(refusal)(refusal.message)
        return place

    def everywhere(self) -> list[Database]:
        """Return this database and those of all places.

        Raises:
            Unavailable: one of them does not serve.
        """
        return [self, *(self.at(name) for name in self.places)]

    def serving(self) -> list[tuple[str | None, Database]]:
        """Return this database and those of places that serve, with their names."""
        places = ((name, one) for name, one in self.places.items() if one.refusal is None)
        return [(None, self), *places]

    def deadline(self) -> Deadline:
        """Return the moment by which the statements of a request that begins now must have ended."""
        return Deadline(self._transaction_seconds, self._options.statement_timeout_seconds)

    def transaction(
        self,
        context: SessionContext,
        *,
        read_only: bool = False,
        isolation: Isolation = "read committed",
        deadline: Deadline | None = None,
    ) -> TransactionScope:
        """Return ``async with`` for a transaction of the app role.

        Args:
            context: for whom; its settings travel with ``begin`` in one trip.
            read_only: PostgreSQL refuses every change.
            isolation: with the stricter ones errors may be `is_retryable`.
            deadline: of its statements together.
        """
        home = self if context.database is None else self.at(context.database)
        pool = home._pool(home._app)
        return home.scope(pool, context, read_only=read_only, isolation=isolation, deadline=deadline)

    def scope(
        self,
        pool: ConnectionPool,
        context: SessionContext,
        *,
        read_only: bool,
        isolation: Isolation,
        deadline: Deadline | None = None,
    ) -> TransactionScope:
        """Return ``async with`` for a transaction on a pool; for `transaction` and `Sessions` only."""
        begin = f"begin isolation level {isolation}{' read only' if read_only else ''}; {context.commands}"
        return TransactionScope(self, pool, begin, context, None if read_only else self.confirm, deadline)

    async def pool_of_one(self) -> ConnectionPool:
        """Open a pool of one connection of the app role; for `Sessions` only.

        Raises:
            Unavailable: the database is away.
        """
        self._pool(self._app)  # refuses when nothing is open
        options = self._options.replace(min_connections=0, max_connections=1, start_timeout_seconds=0.0)
        try:
            return ConnectionPool(await open_pool(self._app_uri, options), 1)
        except DatabaseStartError as error:
            raise Unavailable("The database is not available for the moment.") from error

    def lone(self, context: SessionContext) -> TransactionScope:
        """Return ``async with`` for a transaction of one statement; see `lone`."""
        if context.database is not None:
            home = self.at(context.database)
            return home._lone(context) if home.confirm is None else self.transaction(context)
        if context.place is not None:  # tables are found before the statement could say where
            return self.transaction(context)
        return self._lone(context)

    def _lone(self, context: SessionContext) -> TransactionScope:
        begin = f"begin isolation level read committed; {context.commands}"
        return LoneScope(self, self._pool(self._app), begin, context)

    def system(self, context: SessionContext | None = None) -> TransactionScope:
        """Return ``async with`` for a transaction that passes row-level security.

        Args:
            context: set as in `transaction`, for triggers and defaults; the platform's when omitted.
        """
        context = context or SessionContext(tenant_id=PLATFORM_TENANT)
        if context.database is not None:
            return self.at(context.database).system(replace(context, database=None))
        if self.system_uri is None:
            raise DatabaseStartError("POSTGRES_SYSTEM_URI is not set, and this needs the system role.")
        begin = f"begin isolation level read committed; {context.commands}"
        return TransactionScope(self, self._pool(self._system), begin, context)

    def read(
        self,
        sql: str,
        args: Sequence[Any],
        tenant_id: int = NOBODY,
        *,
        place: str | None = None,
        database: str | None = None,
    ) -> Coroutine[Any, Any, asyncpg.Record | None]:
        """Run one reading statement in one trip and return its only row.

        The statement sets its own context: ``select (select ...) from (select
        set_config('byodpp.tenant', $1, true), ...) s``. Tried again once when the connection was
        dead or the table has changed; nothing can have happened twice.

        Args:
            sql: reads.
            args: of the statement.
            tenant_id: for whom, as the pool counts connections.
            place: where its tables are looked for first. Names are looked up before the statement could
                say where, so that this takes a transaction: three trips.
            database: name of the place in whose database they are.
        """
        if database is not None:
            return self.at(database).read(sql, args, tenant_id)
        if place is not None:
            return self._read_placed(sql, args, SessionContext(tenant_id=tenant_id, place=place))
        return self._read_here(sql, args, tenant_id)

    async def _read_here(self, sql: str, args: Sequence[Any], tenant_id: int) -> asyncpg.Record | None:
        """Read, with another connection where the first one was dead."""
        again = True
        while True:
            pool, connection = self._pool(self._app), None
            try:
                connection = pool.take(tenant_id) or await self.acquire(pool, tenant_id)
                record = await connection.fetchrow(sql, *args)
            except BaseException as error:
                refused = isinstance(error, DRIVER_ERRORS)
                lost = refused and is_connection_loss(error)
                if connection is not None:
                    if lost:
                        cut(connection)  # else the next one would get it again
                    await release(pool, connection, tenant_id)
                if not refused:
                    raise
                if not again or not (lost or is_retryable(error)):
                    raise translate(error) from error
            else:
                pool.give_back(connection, tenant_id)
                return record
            again = False
            await self._pool(self._app).expire_connections()

    async def _read_placed(
        self, sql: str, args: Sequence[Any], context: SessionContext
    ) -> asyncpg.Record | None:
        try:
            async with self.transaction(context, read_only=True) as transaction:
                return await transaction.fetchrow(sql, *args)
        except ApiError as error:
            if not is_retryable(error):
                raise
        async with self.transaction(context, read_only=True) as transaction:
            return await transaction.fetchrow(sql, *args)

    async def ping(self) -> None:
        """Ask the server for an answer.

        Raises:
            Unavailable: there is none in time.
        """
        await self.read("select 1", ())

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
            return await pool.acquire(tenant_id, seconds=self._acquire_timeout)
        except TimeoutError as error:
            raise Unavailable("The database is busy; try again.") from error

    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end even if the request is cancelled meanwhile."""
        task = asyncio.create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        await asyncio.shield(task)
