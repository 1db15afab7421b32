"""Runs revisions: Alembic on its own engine, one transaction each, one process at a time.

A revision, its line in `byodpp.schema_state` and Alembic's own mark commit together, so a
process that is killed has done a revision wholly or not at all, and running again goes on
where it ended. A lock on a table is waited for a second and a half (half a second longer
than the server's `deadlock_timeout`), then everything steps back for the readers that queued behind it, and
tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from byodpp.exceptions import MigrationError, Problem
from byodpp.migrations.catalog import FORESEE_TENANTS, LOCK_TIMEOUT, SEAL_POLICIES
from byodpp.migrations.revisions import Revision, read_revisions, revisions_folder, unknown_revision
from byodpp.tables.roles import FRAMEWORK_SCHEMA

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

__all__ = ["APPLY_LOCK", "Told", "apply"]

#: Hears of a revision that was run.
Told = Callable[[Revision], None]

_log = logging.getLogger("byodpp.migrations")

#: Advisory lock that one applier holds per database.
APPLY_LOCK: Final = 0x62796F647070
#: `alembic.op` is one for the whole process: two runs at a time would write into each other's database.
_OP_IN_USE: Final = threading.Lock()
_LOCK_NOT_AVAILABLE: Final = frozenset({"55P03", "40P01"})  # timeout, deadlock
_UNDONE: Final = "The revision was undone and nothing is lost. "
_NO_VALUE: Final = "Rows hold values that the new type cannot: change them, or drop the field and add another"
_HOW: Final = "(requests, or SQL in the revision)"
_AGAIN: Final = ", and apply it again; or delete its file, and take the change in resources.json back."
#: What may be done about rows, or other things, that stand in the way of a revision; by SQLSTATE.
_ADVICE: Final = {
    "22P02": _NO_VALUE,
    "22007": _NO_VALUE,
    "22008": _NO_VALUE,
    "42846": "PostgreSQL does not know how: write in the revision how, or drop the field and add another",
    "22001": f"Rows hold longer values: shorten them {_HOW}",
    "22003": f"Rows hold greater values: change them {_HOW}",
    "23502": f"Rows have no value here: give them one {_HOW}",
    "23503": f"Rows refer to what is not there: change or empty their references {_HOW}",
    "23505": f"Rows hold the same values: make them differ {_HOW}",
    "23514": f"Rows hold values that are no longer allowed: change them {_HOW}",
    "2BP01": "Something of your own needs it, such as a view: drop that first and create it anew, in this revision",
    "55P03": "Others use the table all the time: try when it is quieter",
}
_VERSION_TABLE: Final = f"""
create table if not exists {FRAMEWORK_SCHEMA}.alembic_version
    (version_num varchar(255) not null constraint alembic_version_pkc primary key);
alter table {FRAMEWORK_SCHEMA}.alembic_version enable row level security
"""
_RECORD: Final = f"""
insert into {FRAMEWORK_SCHEMA}.schema_state (revision, kind, fingerprint)
values (:revision, :kind, :fingerprint)
"""


async def apply(
    app_dir: Path,
    uri: str,
    *,
    allow_destructive: bool = False,
    patience_seconds: float = 60.0,
    told: Told | None = None,
) -> tuple[Revision, ...]:
    """Run the revisions that the database lacks.

    Args:
        app_dir: the application's folder.
        uri: of the owner role, `postgresql://…`.
        allow_destructive: whether revisions that lose data may run; without it those before the first
            such one are run. A fresh database has no data to lose.
        patience_seconds: how long to try for locks, another applier's included.
        told: hears of each revision that was run, also when a later one is refused.

    Returns:
        The revisions that were run, oldest first.

    Raises:
        MigrationError: the database has revisions of its own, the next one loses data, a lock was
            not to be had, or PostgreSQL refused a statement.
    """
    revisions = read_revisions(app_dir)
    if not revisions:
        return ()
    script = _script(app_dir)
    engine = create_async_engine("postgresql+asyncpg" + uri[uri.index("://") :], poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await _lock(connection, patience_seconds)
            pending = await _pending(connection, revisions, allow_destructive)
            for revision in pending:
                await _run_patiently(connection, script, revision, patience_seconds)
                _log.info("applied %s", revision.revision)
                if told is not None:
                    told(revision)
            return pending
    finally:
        # Ending the session gives the advisory lock back.
        await engine.dispose()


def _script(app_dir: Path) -> ScriptDirectory:
    # Alembic takes a third of a second to import, and serving needs none of it.
    from alembic.script import ScriptDirectory

    folder = str(revisions_folder(app_dir))
    return ScriptDirectory(folder, version_locations=[folder])


async def _lock(connection: AsyncConnection, patience_seconds: float) -> None:
    """Become the only applier, and prepare what Alembic writes to."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_seconds
    while not await connection.scalar(sa.text(f"select pg_try_advisory_lock({APPLY_LOCK})")):
        if loop.time() > deadline:
            raise MigrationError("another process is applying migrations to this database")
        await asyncio.sleep(0.2)
    await connection.commit()
    if not await connection.scalar(sa.text(f"select to_regnamespace('{FRAMEWORK_SCHEMA}') is not null")):
        await connection.exec_driver_sql(f"create schema {FRAMEWORK_SCHEMA}")
    for statement in _VERSION_TABLE.split(";"):
        await connection.exec_driver_sql(statement)
    await connection.commit()


async def _pending(
    connection: AsyncConnection, revisions: Sequence[Revision], allow_destructive: bool
) -> tuple[Revision, ...]:
    """Return what the database lacks and may be given now."""
    table = f"{FRAMEWORK_SCHEMA}.alembic_version"
    newest = await connection.scalar(sa.text(f"select version_num from {table}"))
    await connection.commit()
    names = [revision.revision for revision in revisions]
    if newest is not None and newest not in names:
        raise MigrationError([unknown_revision(newest)])
    pending = tuple(revisions[names.index(newest) + 1 :] if newest is not None else revisions)
    if newest is None or allow_destructive:
        return pending
    # What loses nothing goes ahead: a new program is served by the expands alone.
    safe = tuple(itertools.takewhile(lambda revision: not revision.destructive, pending))
    if pending and not safe:
        raise MigrationError(
            Problem(str(one.path), "loses data", "Run with --allow-destructive once it may.")
            for one in pending
            if one.destructive
        )
    return safe


async def _run_patiently(
    connection: AsyncConnection, script: ScriptDirectory, revision: Revision, patience_seconds: float
) -> None:
    """Run one revision; step back and try again while a table is in use."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_seconds
    pause = 0.1
    while True:
        try:
            async with _turn_of_op(), connection.begin():
                await _run(connection, script, revision)
            return
        except sa.exc.DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            if state not in _LOCK_NOT_AVAILABLE or loop.time() > deadline:
                reason = f"PostgreSQL refused it ({state}): {_words(error)}"
                advice = f"{_UNDONE}{_ADVICE.get(state or '', 'Change the revision')}{_AGAIN}"
                raise MigrationError([Problem(str(revision.path), reason, advice)]) from error
        # Readers that queued behind the lock go first; the wait grows, with chance in it.
        await asyncio.sleep(pause * (1 + random.random()))
        pause = min(pause * 2, 2.0)


@contextlib.asynccontextmanager
async def _turn_of_op() -> AsyncIterator[None]:
    """Wait until no other run in this process uses `alembic.op`."""
    while not _OP_IN_USE.acquire(blocking=False):  # noqa: ASYNC110 - runs of several loops share it
        await asyncio.sleep(0.02)
    try:
        yield
    finally:
        _OP_IN_USE.release()


def _words(error: sa.exc.DBAPIError) -> str:
    """Return PostgreSQL's message and the statement's first line."""
    message = str(error.orig).rpartition(">: ")[2]
    statement = " ".join((error.statement or "").split())[:200]
    return f"{message} in: {statement}" if statement else message


async def _run(connection: AsyncConnection, script: ScriptDirectory, revision: Revision) -> None:
    await connection.exec_driver_sql(LOCK_TIMEOUT.format(local="true"))
    await connection.exec_driver_sql("set local statement_timeout = 0")
    await connection.run_sync(_upgrade, script, revision)
    values = {"revision": revision.revision, "kind": revision.kind, "fingerprint": revision.fingerprint}
    await connection.execute(sa.text(_RECORD), values)
    await connection.exec_driver_sql(SEAL_POLICIES)
    await connection.exec_driver_sql(FORESEE_TENANTS)


def _upgrade(connection: sa.Connection, script: ScriptDirectory, revision: Revision) -> None:
    """Let Alembic run one revision inside the open transaction."""
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    def steps(at: Any, _context: MigrationContext) -> Any:
        return script._upgrade_revs(revision.revision, at)

    function: Callable[[Any, MigrationContext], Any] = steps
    context = MigrationContext.configure(
        connection,
        opts={"fn": function, "script": script, "version_table_schema": FRAMEWORK_SCHEMA},
    )
    with Operations.context(context):
        context.run_migrations()
