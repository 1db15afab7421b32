"""A real PostgreSQL server that needs no installation: for development and tests.

In: the application's folder. Out: a `RunningServer` with the three roles and the database.
May reject: DatabaseStartError, with the end of the server's log.

Everything lies in ``<application>/.byodpp``::

    postgres/         the data (PGDATA)
    postgres.log      the server's own words
    postgres.lock     held while a server is started or stopped
    postgres.users    held shared by every process that uses the server, as long as it lives
    postgres.json     pid and socket folder of the server

but for the socket, whose path must be short: it lies in a private folder (0700) below the
temporary folder and goes with the server. There is no TCP port and no password; who may enter
that folder is who may connect.

All processes of one application share one server, and the last one out stops it. Use is told by
a lock that the kernel takes back from the dead, so a killed process leaves nothing to purge: its
server is found by the next start and used on, or stopped by the next one out. A server that died
with its ``postmaster.pid`` in place is told from a living one by connecting, not by its pid.
Started by root, the server runs as another account: see `embedded_programs`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import asyncpg

from byodpp.embedded.process import FileLock, end_process, is_running, never_interrupts, start_mark
from byodpp.embedded.programs import (
    Account,
    Programs,
    account_name,
    can_reach,
    find_account,
    find_programs,
    make_runtime_folder,
    reachable_programs,
    refuse_foreign,
    same_runtime_folder,
)
from byodpp.exceptions import DatabaseStartError, Problem
from byodpp.row_security import mark_leakproof
from byodpp.tables.roles import APP, DATABASE, OWNER, provision_database, provision_roles

__all__ = ["SUPERUSER", "EmbeddedPostgres", "RunningServer", "provide_database"]

_log = logging.getLogger(__name__)

#: The embedded server's own administrator; tests make databases with it.
SUPERUSER: Final = "postgres"
_CONNECT_SECONDS: Final = 20.0
_PORT: Final = 5432  # part of the socket's name only
_POLL_SECONDS: Final = 0.01
# A stop writes everything to the disk first, after a large migration thousands of files. Cut short,
# it costs the next start a recovery.
_STOP_PATIENCE_SECONDS: Final = 30.0
_LOG_LIMIT_BYTES: Final = 10_000_000
# PostgreSQL keeps paths in 1,024 bytes, and postmaster.pid holds this one in a line.
_LONGEST_DATA_PATH: Final = 900
# A pid that no kernel gives: PostgreSQL then judges a stale postmaster.pid by its memory segment alone.
_NO_PID: Final = 2**31 - 1
_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server that answers."""

    pid: int
    socket_folder: Path
    launched: bool  # by this start; False when another process had started it

    def uri(self, role: str = APP, database: str = DATABASE) -> str:
        """Return the address for asyncpg; SQLAlchemy takes it as ``postgresql+asyncpg://``."""
        folder = quote(os.fspath(self.socket_folder), safe="/")
        return f"postgresql://{quote(role)}@/{quote(database)}?host={folder}&port={_PORT}"


class EmbeddedPostgres:
    """One process's use of the embedded server of one application folder."""

    def __init__(
        self,
        app_dir: Path,
        *,
        durable: bool = True,
        pg_bin: str | None = None,
        start_timeout_seconds: float = 120.0,
    ) -> None:
        """Args:
        app_dir: the application's folder; any path.
        durable: False switches off everything that survives a crash of the machine (for tests);
            a server that runs already keeps what it was started with.
        pg_bin: folder of the programs to use, instead of those found.
        start_timeout_seconds: how long a start may take, waiting for other processes included.
        """
        self._folder = Path(app_dir).absolute() / ".byodpp"
        self._data = self._folder / "postgres"
        self._state_file = self._folder / "postgres.json"
        self._durable = durable
        self._pg_bin = pg_bin
        self._timeout = start_timeout_seconds
        self._turn = FileLock(self._folder / "postgres.lock")
        self._use = FileLock(self._folder / "postgres.users")
        self._server: RunningServer | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[RunningServer]:
        """Start (or join) the server for the length of the block."""
        server = await self.start()
        try:
            yield server
        finally:
            await self.stop()

    async def start(self) -> RunningServer:
        """Start the server, or join the one that runs.

        Raises:
            DatabaseStartError: it cannot be started.
        """
        if self._server is not None:
            return self._server
        starting = asyncio.create_task(self._start())
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A server that is half started cannot be left alone.
            await asyncio.wait([starting])
            if starting.exception() is None:
                await self.stop()
            raise

    async def stop(self) -> None:
        """Leave the server; the last one out stops it. Harmless when it was not started."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.shield(asyncio.create_task(self._stop(server)))

    async def _start(self) -> RunningServer:
        try:
            await asyncio.to_thread(self._take_turn)
            with self._turn:
                server = await asyncio.to_thread(self._join_or_launch)
                if server.launched:
                    await self._provision(server)
                self._use.acquire(shared=True, timeout_seconds=1.0)
                self._server = server
        except PermissionError as error:
            raise DatabaseStartError([_not_permitted(error, self._folder)]) from error
        except (OSError, TimeoutError, subprocess.SubprocessError) as error:
            if isinstance(error, OSError) and error.errno == errno.EROFS:
                raise DatabaseStartError([_read_only(error, self._folder)]) from error
            raise DatabaseStartError(f"The embedded PostgreSQL could not be started: {error}") from error
        return server

    async def _stop(self, server: RunningServer) -> None:
        await asyncio.to_thread(self._take_turn)
        with self._turn:
            try:
                self._use.acquire(timeout_seconds=0)
            except TimeoutError:
                return  # others still use it
            with self._use:
                await asyncio.to_thread(self._shut_down_present, server)

    def _take_turn(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        ignore = self._folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        self._turn.acquire(timeout_seconds=self._timeout)

    # --- a server that runs already -------------------------------------------------------

    def _join_or_launch(self) -> RunningServer:
        deadline = time.monotonic() + self._timeout
        if server := self._find(deadline):
            _log.info("using the embedded PostgreSQL that runs already (pid %d)", server.pid)
            return server
        return self._launch(deadline)

    def _find(self, deadline: float) -> RunningServer | None:
        """Return the server of this data folder, or None when none runs (any more)."""
        while lines := self._pid_file_lines():
            pid, port, folder, status = int(lines[0]), lines[3], Path(lines[4]), lines[-1].strip()
            answers = _answers(folder / f".s.PGSQL.{port}")
            if answers and status == "ready":
                return RunningServer(pid=pid, socket_folder=folder, launched=False)
            if not answers and not self._is_ours(pid):
                return None  # a stale file: its server died, and the pid is gone or somebody else's
            if not answers and status == "ready":
                self._shut_down(pid, folder)  # alive, but its socket was removed: nobody can use it
                return None
            if time.monotonic() > deadline:
                raise TimeoutError(f"a server (pid {pid}) is {status} and does not get ready")
            time.sleep(_POLL_SECONDS)  # it starts or stops at this moment
        return None

    def _pid_file_lines(self) -> list[str]:
        try:
            lines = (self._data / "postmaster.pid").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return lines if len(lines) >= 8 and lines[0].isdigit() else []

    def _is_ours(self, pid: int) -> bool:
        state = self._state()
        return state.get("pid") == pid and is_running(pid) and state.get("started") == start_mark(pid)

    def _state(self) -> dict[str, Any]:
        try:
            state = json.loads(self._state_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def _shut_down_present(self, known: RunningServer) -> None:
        """Stop the server that runs now; another process may have replaced the one we knew."""
        state = self._state()
        pid = int(state.get("pid", known.pid))
        folder = Path(state.get("socket_folder", known.socket_folder))
        if self._is_ours(pid) or self._pid_file_lines()[:1] == [str(pid)]:
            self._shut_down(pid, folder)
        else:  # it has died, and only its traces are left
            _remove_runtime(folder)
            self._state_file.unlink(missing_ok=True)
        if known.pid != pid:
            is_running(known.pid)  # takes note of the end of a child of ours

    def _shut_down(self, pid: int, runtime: Path) -> None:
        if is_running(pid) and not end_process(pid, patience_seconds=_STOP_PATIENCE_SECONDS):
            raise DatabaseStartError(f"The embedded PostgreSQL (pid {pid}) does not stop.")
        _remove_runtime(runtime)
        self._state_file.unlink(missing_ok=True)

    # --- a new server ---------------------------------------------------------------------

    def _launch(self, deadline: float) -> RunningServer:
        old = self._state().get("socket_folder")
        account = find_account()
        version = self._data_version()
        programs = find_programs(self._pg_bin, major=version)
        if version is not None:
            refuse_foreign(self._data, account)
        # Where the last one has died, its users look in its folder for the next.
        runtime = same_runtime_folder(Path(old), account) if old else None
        if old and runtime is None:
            _remove_runtime(Path(old))
        runtime = runtime or make_runtime_folder(account)
        try:
            programs = reachable_programs(programs, account, runtime)
            if version is None:
                self._initialise(programs, account)
            while True:
                pid = self._spawn(programs, account, runtime)
                if self._wait_until_ready(pid, deadline):
                    return RunningServer(pid=pid, socket_folder=runtime, launched=True)
        except BaseException:
            _remove_runtime(runtime)
            raise

    def _data_version(self) -> int | None:
        try:
            return int((self._data / "PG_VERSION").read_text())
        except FileNotFoundError:
            pass
        if self._data.is_dir() and any(self._data.iterdir()):
            raise DatabaseStartError(f"{self._data} is not a PostgreSQL data folder; move it away.")
        return None

    def _initialise(self, programs: Programs, account: Account | None) -> None:
        """Make a new data folder; it appears under its name only when it is whole."""
        _log.info("making a new database with PostgreSQL %d in %s", programs.major, self._data)
        for ctype in ("C.UTF-8", "C"):  # not every system knows the first
            partial = self._folder / "postgres.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(mode=0o700)
            if account is not None:
                os.chown(partial, account.uid, account.gid)
            with _data_argument(partial, account) as (argument, options):
                command = [str(programs.folder / "initdb"), "-D", argument, *_initdb_options(programs.major)]
                command += [f"--lc-ctype={ctype}", *([] if self._durable else ["--no-sync"])]
                done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
            if done.returncode == 0:
                if self._data.exists():
                    self._data.rmdir()
                partial.rename(self._data)
                return
        shutil.rmtree(partial, ignore_errors=True)
        raise DatabaseStartError(f"initdb failed: {done.stderr.strip()}")

    def _spawn(self, programs: Programs, account: Account | None, runtime: Path) -> int:
        self._disown_pid_file()
        settings = {
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_directories": os.fspath(runtime),
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            "log_checkpoints": "off",
            **dict.fromkeys(("timezone", "log_timezone"), "UTC"),
            "jit": "off",  # compiling costs more than any statement of ours takes
            "autovacuum_naptime": "5s" if self._durable else "1min",  # plans of new tables stay until then
        }
        if sys.platform == "linux":
            # After a kill: sync the file system once, instead of thousands of files one by one.
            settings["recovery_init_sync_method"] = "syncfs"
        if not self._durable:
            settings |= dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes"), "off")
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._open_log() as log, _data_argument(self._data, account) as (argument, options):
            process = subprocess.Popen(
                [str(programs.folder / "postgres"), "-D", argument, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; the server is stopped in order
                **options,
            )
        never_interrupts(process.pid)  # where both share processors, the servers wait for each other less
        # Whoever goes last waits for it by pid, perhaps another instance or process than this one.
        process.returncode = 0
        state = {"pid": process.pid, "started": start_mark(process.pid), "socket_folder": os.fspath(runtime)}
        fresh = self._state_file.with_suffix(".new")
        fresh.write_text(json.dumps(state))
        fresh.replace(self._state_file)
        return process.pid

    def _disown_pid_file(self) -> None:
        """Make a stale postmaster.pid name no process.

        PostgreSQL refuses to start while the pid in it exists, be it a zombie or somebody else's.
        Removing the file would also remove the second guard, the memory segment by which it sees
        that processes of the dead server still write; so only the pid is replaced.
        """
        path = self._data / "postmaster.pid"
        try:
            lines = path.read_text(errors="replace").splitlines(keepends=True)
        except FileNotFoundError:
            return
        if lines and lines[0].strip().isdigit():
            with path.open("r+") as file:
                file.write("".join([f"{_NO_PID}\n", *lines[1:]]))
                file.truncate()

    def _open_log(self) -> Any:
        path = self._folder / "postgres.log"
        too_long = path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES
        return path.open("wb" if too_long else "ab")

    def _wait_until_ready(self, pid: int, deadline: float) -> bool:
        """Wait; False means "try again", because processes of a dead server still end."""
        while time.monotonic() < deadline:
            lines = self._pid_file_lines()
            if lines and int(lines[0]) == pid and lines[-1].strip() == "ready":
                return True
            if not is_running(pid):
                end = self._log_end()
                if "pre-existing shared memory block" not in end:
                    raise DatabaseStartError(f"The embedded PostgreSQL ended at its start:\n{end}")
                time.sleep(0.2)
                return False
            time.sleep(_POLL_SECONDS)
        end_process(pid, patience_seconds=_STOP_PATIENCE_SECONDS)
        raise DatabaseStartError(f"The embedded PostgreSQL was not ready in time:\n{self._log_end()}")

    def _log_end(self) -> str:
        text = (self._folder / "postgres.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-8:])

    async def _provision(self, server: RunningServer) -> None:
        try:
            await _provision(server)
        except BaseException:
            await asyncio.to_thread(self._shut_down, server.pid, server.socket_folder)
            raise


async def _provision(server: RunningServer) -> None:
    """Make the roles and the database where they are missing, and let indexes serve in spite of policies."""
    connection = await asyncpg.connect(server.uri(SUPERUSER, "postgres"))
    try:
        await provision_roles(connection)
    finally:
        await connection.close()
    await provide_database(server, DATABASE)


async def provide_database(server: RunningServer, name: str) -> None:
    """Make a database for an application where it is missing.

    Args:
        server: that runs.
        name: of the database; lower-case letters, digits, hyphens, and underscores.
    """
    connection = await asyncpg.connect(server.uri(SUPERUSER, "postgres"), timeout=_CONNECT_SECONDS)
    try:
        if not await connection.fetchval("select true from pg_database where datname = $1", name):
            await connection.execute(f'create database "{name}" owner {OWNER}')
    finally:
        await connection.close()
    connection = await asyncpg.connect(server.uri(SUPERUSER, name), timeout=_CONNECT_SECONDS)
    try:
        await provision_database(connection)
        await mark_leakproof(connection)
    finally:
        await connection.close()


def _initdb_options(major: int) -> list[str]:
    # Text compares by code point; the builtin provider (17) still knows upper and lower case of all letters.
    locale = ["--locale=C"]
    if major >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    access = ["--auth-local=trust", "--auth-host=reject"]
    return [f"--username={SUPERUSER}", "--encoding=UTF8", *locale, *access]


@contextlib.contextmanager
def _data_argument(data: Path, account: Account | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the data folder as the server's processes may call it, and the options to start them."""
    options: dict[str, Any] = {"cwd": "/", "env": _ENVIRONMENT, **(account.options if account else {})}
    path = os.fspath(data)
    if can_reach(account, data) and len(os.fsencode(path)) <= _LONGEST_DATA_PATH and path.isprintable():
        yield path, options
        return
    if not os.path.isdir("/proc/self/fd"):
        raise DatabaseStartError(
            f"PostgreSQL cannot use {path}: an ordinary user's account cannot reach it, or it is too long. "
            "Move the application, start it as an ordinary user, or set POSTGRES_DB_URI."
        )
    descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}", options | {"pass_fds": (descriptor,)}
    finally:
        os.close(descriptor)


def _answers(path: Path) -> bool:
    """Tell whether a server listens on the socket, in a folder that nobody else could have made."""
    try:
        folder = path.parent.lstat()
        if not stat.S_ISDIR(folder.st_mode) or folder.st_mode & 0o077:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(2.0)
            client.connect(os.fspath(path))
            return True
    except PermissionError as error:
        raise DatabaseStartError(
            f"The embedded PostgreSQL runs under another account ({error}). Stop it there first."
        ) from error
    except OSError:
        return False


def _read_only(error: OSError, folder: Path) -> Problem:
    return Problem(
        os.fspath(error.filename or folder),
        "lies in a file system that can only be read.",
        f"The embedded PostgreSQL keeps its data in {folder}: copy the application to where you may write, "
        "or name a server of your own by POSTGRES_DB_URI.",
    )


def _not_permitted(error: PermissionError, folder: Path) -> Problem:
    """Say whose the folder is; the kernel only says that it is not ours."""
    present = folder if folder.exists() else folder.parent
    owner, me = account_name(present.stat().st_uid), account_name(os.geteuid())
    return Problem(
        os.fspath(error.filename or folder),
        f"the account {me} may not write here; {present} belongs to {owner}.",
        f"The embedded PostgreSQL keeps its data in {folder}: start as {owner}, or give the folder to {me}.",
    )


def _remove_runtime(folder: Path) -> None:
    # The name comes from a file, so it is looked at before everything below it is removed.
    if folder.name.startswith("byodpp-") and folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
