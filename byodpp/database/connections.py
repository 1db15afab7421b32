"""How connections are made: pools, their settings, and the roles they may have.

In: an address and sizes. Out: an open asyncpg pool. May reject: DatabaseStartError, for what no
waiting mends; a server that is away is waited for.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from byodpp.database.sqlstate import is_connection_loss
from byodpp.exceptions import DatabaseAway, DatabaseStartError, Problem
from byodpp.fields.moments import CALENDAR_CODECS

__all__ = ["PoolOptions", "check_app_role", "check_system_role", "open_pool"]

_log = logging.getLogger(__name__)

_OLDEST: Final = 15
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
#: A forgotten transaction holds locks and keeps VACUUM from its work; the server ends it.
_IDLE_IN_TRANSACTION_MILLISECONDS: Final = 60_000
#: A statement whose process was killed ends then, and lets go of what it has locked. No platform has to be
#: able to look, so that this cannot be one of the settings with which a connection begins.
_LOOK_FOR_US: Final = "set client_connection_check_interval = 2000"
# Statement shapes are many (fields times includes times roles); each costs memory on both sides.
_CACHED_STATEMENTS: Final = 500
_LARGEST_CACHED_STATEMENT_CHARACTERS: Final = 200_000

_RIGHTS: Final = """
select current_user::text as name, r.rolsuper as super, r.rolbypassrls as bypass,
  exists (select from pg_roles g where (g.rolsuper or g.rolbypassrls) and g.oid <> r.oid
            and pg_has_role(r.oid, g.oid, 'member')) as member,
  exists (select from pg_database d where d.datname = current_database()
            and pg_has_role(r.oid, d.datdba, 'member')) as owns_database,
  (select min(o.relname) from (
      select c.relowner, min(c.relname) as relname from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
       where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname !~ '^pg_'
         and n.nspname <> 'information_schema'
       group by c.relowner) o where pg_has_role(r.oid, o.relowner, 'member')) as owned_table
from pg_roles r where r.rolname = current_user
"""
_BYPASSES: Final = """
select rolname::text as name, rolsuper or rolbypassrls as bypasses from pg_roles where rolname = current_user
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """Sizes and times of one pool."""

    min_connections: int
    max_connections: int
    connect_timeout_seconds: float
    statement_timeout_seconds: float
    start_timeout_seconds: float | None  # None: wait for the server without end

    def replace(self, **changes: Any) -> PoolOptions:
        """Return a copy with other values."""
        return dataclasses.replace(self, **changes)


async def open_pool(uri: str, options: PoolOptions) -> asyncpg.Pool[Any]:
    """Open a pool; waits with back-off while the server is away.

    Raises:
        DatabaseStartError: wrong password or database, or not there in time.
    """
    started = time.monotonic()
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return await _open_once(uri, options)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
            if not _passes(error):
                raise DatabaseStartError(_reason(error)) from error
            limit = options.start_timeout_seconds
            if limit is not None and time.monotonic() - started + pause > limit:
                raise DatabaseAway(f"The database is not there: {_reason(error)}") from error
            # The address may hold a password, so it is not logged.
            _log.warning("the database is not there (%s); next try in %.1f s", type(error).__name__, pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


async def _open_once(uri: str, options: PoolOptions) -> asyncpg.Pool[Any]:
    milliseconds = str(max(1, round(options.statement_timeout_seconds * 1000)))
    pool = asyncpg.create_pool(
        uri,
        min_size=options.min_connections,
        max_size=options.max_connections,
        timeout=options.connect_timeout_seconds,
        # For a link that is dead without a word; a server that lives answers first.
        command_timeout=options.statement_timeout_seconds + 1.0,
        statement_cache_size=_CACHED_STATEMENTS,
        max_cached_statement_lifetime=0,
        max_cacheable_statement_size=_LARGEST_CACHED_STATEMENT_CHARACTERS,
        reset=_nothing_to_reset,
        init=_prepare,
        server_settings={
            "application_name": "byodpp",
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": str(_IDLE_IN_TRANSACTION_MILLISECONDS),
            # PostgreSQL writes the JSON of answers, so these are part of the API.
            "timezone": "UTC",
            "datestyle": "ISO, YMD",
            "intervalstyle": "iso_8601",
            "bytea_output": "hex",
            "standard_conforming_strings": "on",
            "jit": "off",  # costs more than any of our statements runs
        },
    )
    async with asyncio.timeout(options.connect_timeout_seconds * 2):
        try:
            await pool
            if not options.min_connections:
                async with pool.acquire():
                    pass
        except BaseException:
            pool.terminate()
            raise
    return pool


async def _prepare(connection: asyncpg.Connection[Any]) -> None:
    """Let a new connection have what its address cannot say."""
    await _use_calendar_codecs(connection)
    try:
        await connection.execute(_LOOK_FOR_US)
    except asyncpg.InvalidParameterValueError:
        _log.debug("the database's platform cannot tell whether we are still there")


async def _use_calendar_codecs(connection: asyncpg.Connection[Any]) -> None:
    """Store the first and the last day as days: asyncpg takes them for infinities."""
    for name, (encoder, decoder) in CALENDAR_CODECS.items():
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=encoder, decoder=decoder, format="tuple"
        )


async def _nothing_to_reset(connection: asyncpg.Connection[Any]) -> None:
    """Save the trip of RESET ALL: nothing here outlives a transaction."""


def _passes(error: BaseException) -> bool:
    """Tell whether waiting may help."""
    state = getattr(error, "sqlstate", None) or ""
    return isinstance(error, OSError) or is_connection_loss(error) or state.startswith("53")


def _reason(error: BaseException) -> str:
    if isinstance(error, (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)):
        return f"The database refuses the sign-in: {error}"
    return f"The database cannot be used: {str(error) or type(error).__name__}"


async def check_app_role(pool: asyncpg.Pool[Any]) -> None:
    """Refuse a role that row-level security would not bind, and a PostgreSQL that is too old.

    Raises:
        DatabaseStartError: with everything that is wrong.
    """
    async with pool.acquire() as connection:
        row = await connection.fetchrow(_RIGHTS)
        version = connection.get_server_version()
    if version.major < _OLDEST:
        raise DatabaseStartError(f"PostgreSQL {version.major} is too old; {_OLDEST} or newer is needed.")
    faults = [
        (row["super"], "is a superuser"),
        (row["bypass"], "has BYPASSRLS"),
        (row["member"], "is a member of a role with SUPERUSER or BYPASSRLS"),
        (row["owns_database"], "owns the database"),
        (row["owned_table"] is not None, f"owns tables ({row['owned_table']})"),
    ]
    advice = "Point POSTGRES_DB_URI to the app role (byodpp_app); the owner's address is POSTGRES_ADMIN_URI."
    problems = [
        Problem("POSTGRES_DB_URI", f"the role {row['name']} {what}", advice)
        for is_so, what in faults
        if is_so
    ]
    if problems:
        raise DatabaseStartError(problems)


async def check_system_role(pool: asyncpg.Pool[Any]) -> None:
    """Refuse a role that row-level security would bind.

    Raises:
        DatabaseStartError: it lacks BYPASSRLS.
    """
    async with pool.acquire() as connection:
        row = await connection.fetchrow(_BYPASSES)
    if not row["bypasses"]:
        reason = f"the role {row['name']} has no BYPASSRLS and would see nothing"
        raise DatabaseStartError([Problem("POSTGRES_SYSTEM_URI", reason)])
