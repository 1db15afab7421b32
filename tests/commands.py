"""`byodpp …` in the tests' own process: streams and exit code of a program, without the time of its start."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import threading
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from byodpp.cli import main

if TYPE_CHECKING:
    from byodpp.testing import TestedApplication  # a plugin: pytest imports it itself

__all__ = ["ROOT", "Done", "byodpp", "operated"]

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def byodpp(*words: str | Path, cwd: Path = ROOT, **environment: str) -> Done:
    """Run a command in this process: as fast as a call, with the streams and the exit code of a command."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("BYODPP_", "POSTGRES_"))
    }
    out, err = _stream(), _stream()
    variables = {**clean, "COLUMNS": "110", "NO_COLOR": "1", **environment}
    code = 0
    with (
        mock.patch.dict(os.environ, variables, clear=True),
        redirect_stdout(out),
        redirect_stderr(err),
        chdir(cwd),
    ):
        handlers = _signal_handlers()
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        finally:
            # At its end `serve` is deaf to Ctrl-C; this process goes on, and so do those that it starts.
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Done(code, _written(out), _written(err))


async def operated(tested: TestedApplication, *words: str | Path, **environment: str) -> Done:
    """Run a command on the database of an application that serves meanwhile, as an operator would.

    Raises:
        TimeoutError: it takes longer than a minute.
    """
    variables = {
        **environment,
        "POSTGRES_DB_URI": str(tested.settings.postgres_db_uri),
        "POSTGRES_SYSTEM_URI": str(tested.settings.postgres_system_uri),
        "BYODPP_ENV": "test",
    }
    command = "--app", tested.settings.app_dir, *words
    async with asyncio.timeout(60):  # in a thread, because a command has an event loop of its own
        return await asyncio.to_thread(lambda: byodpp(*command, cwd=ROOT, **variables))


def _signal_handlers() -> dict[signal.Signals, Any]:
    """Return who handles the signals that a command may take; nobody takes any outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="", write_through=True)


def _written(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
