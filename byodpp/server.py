"""Runs the application on uvicorn, in this process; `workers` does it in several.

In: settings and a factory of the application. Out: nothing until the end; then normally, or
StartError (address taken, or what the application's start raised).

A stop (SIGTERM, SIGINT) goes so: readiness answers 503 at once, and each connection is closed after its
next answer; in stage and prod a fifth of the grace goes by in which load balancers notice it; no new
connections; running requests finish, those that are just arriving among them; the application closes.
All of it stays within the grace of the settings. A second signal ends it within a second.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from types import FrameType
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette

from byodpp.exceptions import Problem, StartError
from byodpp.http_protocol import HttpProtocol
from byodpp.logs import configure_logging
from byodpp.settings import Settings

__all__ = ["Factory", "address", "listen", "serve"]

#: Makes the application inside the process that serves it; several processes need it to be picklable.
Factory = Callable[[], Starlette]

#: How long a stop may take after a second signal.
_FORCED_SECONDS: Final = 0.9
#: Part of the grace that is kept for closing the application when requests do not finish.
_CLOSING_SECONDS: Final = 2.0
_BACKLOG: Final = 2048

_log: Final = logging.getLogger("byodpp.server")


def listen(host: str, port: int) -> socket.socket:
    """Take an address.

    Args:
        host: name or address.
        port: 0 takes a free one.

    Raises:
        StartError: it is taken, not ours, or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Listening at once is what makes a second server fail here and not halfway through its start.
        listener.listen(_BACKLOG)
    except OSError as failure:
        listener.close()
        raise StartError([_explained(failure, host, port)]) from None
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener


def _explained(failure: OSError, host: str, port: int) -> Problem:
    if failure.errno == errno.EADDRINUSE:
        advice = f"Stop the other one, or choose another port: PORT={port + 1 if port < 65535 else 3000}."
        return Problem("port", f"another program already listens on {host}:{port}", advice)
    if failure.errno == errno.EACCES:
        return Problem("port", f"port {port} needs privileges", "Choose one above 1023.")
    return Problem(
        "host", f"cannot listen on {host}:{port}: {failure.strerror or failure}", "Is it this machine's?"
    )


def address(listener: socket.socket) -> str:
    """Return the URL under which a listening socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{reachable}:{port}"


def serve(
    settings: Settings,
    factory: Factory,
    listener: socket.socket,
    *,
    on_ready: Callable[[], object] | None = None,
) -> None:
    """Serve in this process until a signal ends it.

    Args:
        settings: as for `workers.run`.
        factory: as for `workers.run`.
        listener: is closed at the end.
        on_ready: called once the application has opened and requests are answered.

    Raises:
        StartError: the application cannot start.
    """
    configure_logging(settings.log_level)
    application = factory()
    grace = settings.shutdown_grace_seconds
    drain = grace / 5 if settings.environment in ("stage", "prod") else 0.0
    head_bytes = settings.max_url_bytes + settings.max_header_bytes
    stopping = application.state.lifecycle.stopping.is_set
    # uvicorn only ever calls it
    protocol: Any = partial(HttpProtocol, max_head_bytes=head_bytes, stopping=stopping)
    config = uvicorn.Config(
        application,
        loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
        http=protocol,
        ws="none",
        lifespan="off",  # opened and closed by _Server, so that a StartError arrives as one
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(int(grace - drain - _CLOSING_SECONDS), 1),
    )
    server = _Server(config, application, grace_seconds=grace, drain_seconds=drain, on_ready=on_ready)
    try:
        server.run(sockets=[listener])
    finally:
        server.disarm()
    if server.failure is not None:
        raise server.failure


class _Server(uvicorn.Server):
    """uvicorn's server with our order of starting and stopping."""

    def __init__(
        self,
        config: uvicorn.Config,
        application: Starlette,
        *,
        grace_seconds: float,
        drain_seconds: float,
        on_ready: Callable[[], object] | None,
    ) -> None:
        super().__init__(config)
        self._application = application
        self._on_ready = on_ready
        self._grace_seconds = grace_seconds
        self._drain_seconds = drain_seconds
        self._stopping = False
        self._opened = AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timers: list[threading.Timer] = []
        self.failure: StartError | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the application, then accept."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._opened.enter_async_context(
                self._application.router.lifespan_context(self._application)
            )
        except StartError as failure:
            self.failure = failure
            self.should_exit = True
            return
        if self.should_exit:  # a signal came while it was opening
            await self._opened.aclose()
            return
        await super().startup(sockets)
        if self._on_ready is not None:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests finish, then close the application."""
        await super().shutdown(sockets)
        try:
            async with asyncio.timeout(_FORCED_SECONDS / 2 if self.force_exit else _CLOSING_SECONDS):
                await self._opened.aclose()
        except TimeoutError:
            _log.error("the application did not close in time")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin a stop at the first signal, hurry at the second."""
        if self._stopping:
            self.should_exit = self.force_exit = True
            self._end_process_after(_FORCED_SECONDS)
            return
        self._stopping = True
        self._end_process_after(self._grace_seconds)
        if self._loop is None or not self.started:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._drain, self._loop)

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        self._application.state.lifecycle.stop()
        loop.call_later(self._drain_seconds, self._exit)

    def _exit(self) -> None:
        self.should_exit = True

    def _end_process_after(self, seconds: float) -> None:
        """End the process whatever happens: code that never yields must not keep it alive."""
        timer = threading.Timer(seconds, os._exit, args=(1,))
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def disarm(self) -> None:
        """Let the process live on: serving has ended in time."""
        for timer in self._timers:
            timer.cancel()
