"""Several server processes, or one that starts anew when a file changes.

In: a listening socket and the factory of the application. Out: processes that share the
socket; one that dies is replaced, and all end with this one, even if it is killed. May
reject: StartError when a process cannot start at all.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType
from typing import Final

from byodpp.exceptions import StartError
from byodpp.logs import configure_logging
from byodpp.out_of_service import out_of_service
from byodpp.server import Factory, address, listen, serve
from byodpp.settings import Settings

__all__ = ["run", "supervise"]

#: Exit status of a process whose application could not start: another try would end the same way.
_CANNOT_START: Final = 3
#: How often signals, dead processes and changed files are looked for.
_TICK_SECONDS: Final = 0.25
#: A process that lived shorter than this is replaced more and more slowly.
_SHORT_LIFE_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 5.0
#: What the children get beyond the grace before they are killed.
_MERCY_SECONDS: Final = 1.0
_WATCHED: Final = (
    "*.json",
    "resources/**/*.json",
    "logics/**/*.py",
    "schemas/**/*.py",
    "config/*.yaml",
    "migrations/*.py",
)

_log: Final = logging.getLogger("byodpp.workers")


def run(
    settings: Settings,
    factory: Factory,
    *,
    reload: bool = False,
    on_listening: Callable[[str], object] | None = None,
) -> None:
    """Serve until a signal ends it.

    Args:
        settings: host, port, workers and grace are read here.
        factory: called once in each process.
        reload: one process, started anew whenever a file of the application changes.
        on_listening: called once with the address, as soon as connections are accepted.

    Raises:
        StartError: the address is taken, or the application cannot start.
    """
    listener = listen(settings.host, settings.port)
    with listener:
        if on_listening is not None:
            on_listening(address(listener))
        if reload or settings.workers > 1:
            supervise(settings, factory, listener, reload=reload)
        else:
            serve(settings, factory, listener)


def supervise(
    settings: Settings,
    factory: Factory,
    listener: socket.socket,
    *,
    reload: bool,
    on_ready: Callable[[], object] | None = None,
) -> None:
    """Serve in child processes until a signal ends it.

    Args:
        settings: number of processes, grace, and the folder that `reload` watches.
        factory: picklable; called in each process.
        listener: accepts already.
        reload: one process, replaced when a file changes.
        on_ready: called here once the first of the processes answers requests.

    Raises:
        StartError: a process cannot start; why it cannot was written to stderr by itself.
    """
    configure_logging(settings.log_level)
    _Supervisor(settings, factory, listener, reload=reload, on_ready=on_ready).run()


class _Supervisor:
    """Keeps the processes."""

    def __init__(
        self,
        settings: Settings,
        factory: Factory,
        listener: socket.socket,
        *,
        reload: bool,
        on_ready: Callable[[], object] | None,
    ) -> None:
        self._settings = settings
        self._factory = factory
        self._listener = listener
        self._reload = reload
        self._count = 1 if reload else settings.workers
        self._context = multiprocessing.get_context("spawn")
        # Nothing is ever sent: its end tells the children that this process has ended.
        self._child_end, self._parent_end = self._context.Pipe(duplex=False)
        self._on_ready = on_ready
        self._ready = self._context.Event()  # set by the first process that answers
        self._processes: dict[BaseProcess, float] = {}  # -> when it started
        self._signals = 0
        self._pause = 0.0
        self._failed = False

    def run(self) -> None:
        before = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            self._keep_running()
        finally:
            self._stop()
            self._parent_end.close()
            self._child_end.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._failed:
            raise StartError("a server process could not start; its report stands above")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _keep_running(self) -> None:
        seen = _fingerprint(self._settings.app_dir) if self._reload else ()
        self._fill()
        while not self._signals:
            multiprocessing.connection.wait([process.sentinel for process in self._processes], _TICK_SECONDS)
            if self._on_ready is not None and self._ready.is_set():
                self._on_ready()
                self._on_ready = None
            if self._reload:
                if (now := _fingerprint(self._settings.app_dir)) != seen:
                    seen = now
                    _log.info("files have changed: starting anew")
                    self._stop()
                    self._fill()
            self._replace_dead()
            if self._failed:
                return

    def _fill(self) -> None:
        self._failed = False
        while len(self._processes) < self._count:
            process = self._context.Process(
                target=_work,
                args=(self._settings, self._factory, self._listener, self._child_end, self._ready),
                kwargs={"stays": self._reload},
            )
            process.start()
            self._processes[process] = time.monotonic()

    def _replace_dead(self) -> None:
        for process, started in list(self._processes.items()):
            if process.is_alive():
                continue
            del self._processes[process]
            process.join()
            if process.exitcode == _CANNOT_START:
                self._failed = True
            elif not self._signals:
                short = time.monotonic() - started < _SHORT_LIFE_SECONDS
                self._pause = min(max(self._pause * 2, 0.1), _LONGEST_PAUSE_SECONDS) if short else 0.0
                _log.warning("a server process ended with %s and is replaced", process.exitcode)
                time.sleep(self._pause)
                self._fill()

    def _stop(self) -> None:
        """End all processes, hurrying them when signals go on coming, killing them in the end."""
        for process in self._processes:
            process.terminate()
        told = self._signals
        deadline = time.monotonic() + self._settings.shutdown_grace_seconds + _MERCY_SECONDS
        while any(process.is_alive() for process in self._processes) and time.monotonic() < deadline:
            if self._signals > max(told, 1):
                told = self._signals
                deadline = min(deadline, time.monotonic() + _MERCY_SECONDS)
                for process in self._processes:
                    process.terminate()
            time.sleep(0.05)
        for process in self._processes:
            if process.is_alive():
                process.kill()
            process.join()
        self._processes.clear()


def _work(
    settings: Settings,
    factory: Factory,
    listener: socket.socket,
    parent: Connection,
    ready: Event,
    *,
    stays: bool,
) -> None:
    """Serve in a child process.

    Args:
        settings: of the application.
        factory: makes it.
        listener: accepts already: who connects waits until somebody answers.
        parent: ends when the parent does.
        ready: is set when requests are answered.
        stays: whether one that cannot start answers 503 until it is ended, for somebody is about to mend it.
    """
    # A group of its own: Ctrl-C reaches the parent only, which tells us in its order.
    os.setpgrp()
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    try:
        serve(settings, factory, listener, on_ready=ready.set)
    except StartError as failure:
        sys.stderr.write(f"{failure}\n")
        sys.stderr.flush()
        if not stays:
            sys.exit(_CANNOT_START)
        _log.warning("nothing is served until a file changes again: every request is answered with 503")
        serve(settings, partial(out_of_service, settings), listener)


def _follow(parent: Connection) -> None:
    """End this process when the parent has ended."""
    try:
        parent.recv_bytes()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)


def _fingerprint(app_dir: Path) -> tuple[tuple[str, int, int], ...]:
    return tuple(sorted(_stamps(app_dir)))


def _stamps(app_dir: Path) -> Iterator[tuple[str, int, int]]:
    for pattern in _WATCHED:
        for path in app_dir.glob(pattern):
            try:
                stamp = path.stat()
            except OSError:  # it went while we looked
                continue
            yield str(path), stamp.st_mtime_ns, stamp.st_size
