"""A small application for the tests of the server, started as a program of its own.

`python -m tests.served_application '{"port": 0}'` prints its address when it listens.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from byodpp.application import Parts, create_application
from byodpp.exceptions import Problem, StartError
from byodpp.health import Health, Lifecycle
from byodpp.requests import Request
from byodpp.responses import Answer, success
from byodpp.routes import Body, Endpoint, Route
from byodpp.settings import Settings
from byodpp.workers import run
from tests.plain_client import Tokens


async def pid(request: Request) -> Answer:
    return success(request, {"pid": os.getpid(), "params": dict(request.params), "body": len(request.body)})


async def slow(app_dir: Path, request: Request) -> Answer:
    (app_dir / "begun").touch()
    await asyncio.sleep(float(request.params["seconds"]))
    return success(request, "done")


async def block(app_dir: Path, request: Request) -> Answer:
    (app_dir / "begun").touch()
    time.sleep(float(request.params["seconds"]))  # noqa: ASYNC251 - what must not keep the process alive
    return success(request, "done")


async def forever(request: Request) -> Answer:
    async def ticks() -> AsyncIterator[bytes]:
        while True:
            yield b"tick\n"
            await asyncio.sleep(0.05)

    return Answer(body=ticks(), media_type="text/event-stream")


@asynccontextmanager
async def lifespan(app_dir: Path) -> AsyncIterator[None]:
    if (app_dir / "broken.json").exists():
        raise StartError([Problem("broken.json", "is there", "Remove it.")])
    yield
    (app_dir / f"closed-{os.getpid()}").touch()


def make(settings: Settings) -> Starlette:
    lifecycle = Lifecycle()
    handlers: dict[str, Any] = {"/pid": pid, "/echo/{text}": pid, "/forever": forever}
    handlers |= {"/slow/{seconds}": partial(slow, settings.app_dir)}
    handlers |= {"/block/{seconds}": partial(block, settings.app_dir)}
    routes = [
        Route(pattern=pattern, methods={"GET": Endpoint(handler=handler, guarded=False, produces=())})
        for pattern, handler in handlers.items()
    ]
    routes.append(
        Route(pattern="/body", methods={"POST": Endpoint(handler=pid, guarded=False, body=Body.REQUIRED)})
    )
    tokens = Tokens()
    parts = Parts(
        settings=settings,
        routes=[*routes, *Health(lifecycle).routes()],
        authenticator=tokens,
        authorizer=tokens,
        lifespan=partial(lifespan, settings.app_dir),
        lifecycle=lifecycle,
    )
    return create_application(parts)


def main() -> None:
    options = json.loads(sys.argv[1])
    reload = options.pop("reload", False)
    app_dir = Path(options.pop("app_dir"))
    settings = Settings(app_dir=app_dir, **options)
    try:
        run(settings, partial(make, settings), reload=reload, on_listening=partial(print, flush=True))
    except StartError as failure:
        sys.exit(f"{failure}")


if __name__ == "__main__":
    # Spawned processes must find the factory under its importable name, not under `__main__`.
    from tests.served_application import main as importable

    importable()
