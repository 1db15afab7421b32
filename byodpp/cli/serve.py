"""`serve`: database, migrations, demo data, server; and at the end everything stopped again."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from byodpp.cli.place import place_of
from byodpp.exceptions import Problem, StartError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from byodpp.bootstrap import Blueprint
    from byodpp.settings import Settings

__all__ = ["serve"]


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.", show_default="3000")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes.", show_default="1")] = None,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload",
            help="Start anew when a file changes, apply new revisions then; 503 while it cannot start.",
        ),
    ] = False,
    migrate: Annotated[
        bool | None,
        typer.Option("--migrate/--no-migrate", help="Apply revisions first.", show_default="in dev and test"),
    ] = None,
    demo: Annotated[
        bool | None, typer.Option("--demo/--no-demo", help="Load the demo data once.", show_default="in dev")
    ] = None,
) -> None:
    """Start the application; print where it is and a line to paste.

    Without POSTGRES_DB_URI a PostgreSQL of its own starts with it, and stops with it.

    `byodpp serve --port 8080 --reload`

    `byodpp serve --host 0.0.0.0 --workers 4`
    """
    from byodpp.server import listen

    settings = place_of(context).settings(host=host, port=port, workers=workers)
    if reload and settings.workers > 1:
        raise StartError([Problem("--reload", "works with one process only", "Leave out --workers.")])
    migrate = settings.environment in ("dev", "test") if migrate is None else migrate
    demo = settings.environment == "dev" if demo is None else demo
    # The port comes first: an occupied one is told before a database is started for nothing.
    with listen(settings.host, settings.port) as listener:
        settings = replace(settings, port=listener.getsockname()[1])
        _serve(settings, listener, reload=reload, migrate=migrate, demo=demo)


def _serve(settings: Settings, listener: socket.socket, *, reload: bool, migrate: bool, demo: bool) -> None:
    """Prepare, serve until asked to stop, and stop what the preparation started."""
    from byodpp.cli.preparation import prepare
    from byodpp.server import serve as serve_here
    from byodpp.workers import supervise

    for name in ("SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), _as_interrupt)
    started = AsyncExitStack()
    with asyncio.Runner() as runner:
        try:
            ready = runner.run(prepare(started, settings, migrate=migrate, demo=demo))
            # Told only of what answers: a database that does not fit is refused when it is opened.
            tell = partial(typer.echo, ready.banner)
            if reload or settings.workers > 1:
                # Each process assembles for itself: what it serves is what it has read.
                renew = reload and migrate and ready.settings.postgres_admin_uri is not None
                build = partial(_build, ready.settings, migrate=renew)
                supervise(ready.settings, build, listener, reload=reload, on_ready=tell)
            else:
                serve_here(
                    ready.settings, partial(_build, ready.settings, ready.blueprint), listener, on_ready=tell
                )
        except KeyboardInterrupt:
            pass  # that is how it is meant to end
        finally:
            # A second Ctrl-C must not leave the database running.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            runner.run(started.aclose())


def _build(settings: Settings, blueprint: Blueprint | None = None, *, migrate: bool = False) -> Starlette:
    from byodpp import bootstrap

    if migrate:  # a revision may have come since the last start
        from byodpp.cli.migrate import bring_up_to_date

        blueprint = blueprint or bootstrap.assemble(settings.app_dir)
        asyncio.run(bring_up_to_date(settings, blueprint))
    return bootstrap.build(settings, blueprint)


def _as_interrupt(number: int, frame: object) -> None:
    """Take a request to end as Ctrl-C, so that one way of stopping serves all."""
    signal.raise_signal(signal.SIGINT)
