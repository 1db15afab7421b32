"""The application: the chain around the table of routes, on Starlette.

In: parts that `bootstrap` has built. Out: an ASGI application, whose `state` holds the
Lifecycle. `global_stages` and `route_stages` are the order of the chain, all of it; nothing
elsewhere adds a stage. May reject at start: StartError of the table of routes.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from byodpp.exceptions import InternalError
from byodpp.health import Lifecycle
from byodpp.middleware.access_log import AccessLog
from byodpp.middleware.authentication import Authentication, Authenticator
from byodpp.middleware.authorization import Authorization, Authorizer
from byodpp.middleware.body import FinishBody, ReadSmallBody
from byodpp.middleware.cors import Cors
from byodpp.middleware.error_writer import ErrorWriter
from byodpp.middleware.negotiation import Negotiation
from byodpp.middleware.rate_limit import (
    AddressRateLimit,
    Budget,
    RateLimiter,
    RouteRateLimit,
    SlidingWindows,
    UserRateLimit,
)
from byodpp.middleware.request_context import ClientAddress, RequestContext
from byodpp.middleware.row_probe import RowProbe
from byodpp.middleware.security_headers import SecurityHeaders
from byodpp.middleware.size_limits import SizeLimits
from byodpp.middleware.validation import Validation
from byodpp.negotiation import Negotiator
from byodpp.requests import REQUEST
from byodpp.responses import error, send_answer
from byodpp.routes import Body, Endpoint, Handler, Route, RouteTable, Stage, chain
from byodpp.settings import Settings

__all__ = ["Parts", "create_application", "global_stages", "route_stages"]


def _print_line(line: str) -> None:
    """Write a log line at once: one that waits in a buffer is lost with the process."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an application is made of."""

    settings: Settings
    routes: Sequence[Route]  # in the order in which listings show them
    authenticator: Authenticator
    authorizer: Authorizer
    lifespan: Callable[[], AbstractAsyncContextManager[object]]  # opens what the routes need, and closes it
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    rate_limiter: RateLimiter = field(default_factory=SlidingWindows)
    write_access_line: Callable[[str], object] = _print_line


def global_stages(parts: Parts) -> list[Middleware]:
    """Return what every request goes through, outermost first."""
    settings = parts.settings
    stages = [
        Middleware(
            RequestContext,
            clients=ClientAddress(settings.trusted_proxies),
            max_json_depth=settings.max_json_depth,
        ),
        Middleware(AccessLog, write=parts.write_access_line),
        Middleware(SecurityHeaders),
        Middleware(ErrorWriter),
        Middleware(Cors, origins=settings.cors_origins),
        Middleware(
            SizeLimits, max_url_bytes=settings.max_url_bytes, max_header_bytes=settings.max_header_bytes
        ),
    ]
    if settings.rate_limit_enabled:
        budget = _budget(settings, "address", settings.rate_limit_per_ip)
        stages.append(Middleware(AddressRateLimit, limiter=parts.rate_limiter, budget=budget))
    return stages


def route_stages(parts: Parts, negotiator: Negotiator, endpoint: Endpoint) -> list[Stage]:
    """Return what a request of one endpoint goes through before its handler, outermost first."""
    settings = parts.settings
    takes_json = endpoint.body in (Body.OPTIONAL, Body.REQUIRED)
    stages: list[Stage] = []
    if endpoint.sign_in and settings.rate_limit_enabled:
        sign_in = _budget(settings, "sign-in", settings.rate_limit_sign_in)
        stages.append(RouteRateLimit(parts.rate_limiter, sign_in))
    if takes_json:
        stages.append(ReadSmallBody(endpoint, settings.max_body_bytes))
    if endpoint.guarded:
        stages.append(Authentication(parts.authenticator, public=endpoint.public))
        if settings.rate_limit_enabled:
            user = _budget(settings, "user", settings.rate_limit_per_user)
            stages.append(UserRateLimit(parts.rate_limiter, user))
        if endpoint.resource is not None:
            stages.append(Authorization(parts.authorizer, endpoint.resource, endpoint.operation))
    if endpoint.probe is not None:
        stages.append(RowProbe(endpoint.probe))
    if endpoint.produces:
        stages.append(Negotiation(negotiator, endpoint.produces))
    if takes_json:
        stages.append(FinishBody(endpoint, settings.max_body_bytes))
    if endpoint.load is not None:
        stages.append(Validation(endpoint.load))
    return stages


def create_application(parts: Parts) -> Starlette:
    """Put everything together.

    Raises:
        StartError: the routes do not fit together, or a setting contradicts another.
    """
    # The versions of the table do not matter to the stages, which only choose media types.
    compose = partial(_compose, parts, Negotiator(()))
    table = RouteTable.build(parts.routes, compose)
    application = Starlette(
        middleware=global_stages(parts),
        lifespan=partial(_lifespan, parts),
        exception_handlers={Exception: _last_resort},
    )
    # Starlette's own routes (an application mounted by hand) come first, the table serves the rest.
    application.router.redirect_slashes = False
    application.router.default = _Dispatcher(table)
    application.state.lifecycle = parts.lifecycle
    application.state.table = table
    return application


def _compose(parts: Parts, negotiator: Negotiator, endpoint: Endpoint) -> Handler:
    return chain(route_stages(parts, negotiator, endpoint), endpoint.handler)


def _budget(settings: Settings, name: str, limit: int) -> Budget:
    return Budget(name=name, limit=limit, window_seconds=settings.rate_limit_window_seconds)


class _Dispatcher:
    """Innermost application: finds the route, runs its chain, sends the answer."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        request = scope[REQUEST]
        handler = self._table.resolve(request)
        await send_answer(await handler(request), request, send)


@asynccontextmanager
async def _lifespan(parts: Parts, application: Starlette) -> AsyncIterator[None]:
    async with parts.lifespan():
        parts.lifecycle.ready = True
        try:
            yield
        finally:
            parts.lifecycle.stop()


async def _last_resort(request: StarletteRequest, failure: Exception) -> Response:
    """Answer for a fault in the chain itself, outside the error writer."""
    scope: dict[str, Any] = dict(request.scope)
    if REQUEST not in scope:
        return Response(status_code=500)
    answer = error(InternalError(), scope[REQUEST])
    assert isinstance(answer.body, bytes)
    return Response(answer.body, status_code=answer.status, media_type=answer.media_type)
