"""The application: the chain around the table of routes, on Starlette.

In: parts that `bootstrap` has built. Out: an ASGI application, whose `state` holds the
Lifecycle. `global_stages` and `route_stages` are the order of the chain, all of it; nothing
elsewhere adds a stage. May reject at start: StartError of the table of routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from starlette.applications import Starlette
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from byodpp.aside import WORKROOM, Workroom
from byodpp.authentication.turns import Turns
from byodpp.browser_sessions import BrowserSessions
from byodpp.containment import contained
from byodpp.exceptions import OutcomeUnknown, Unavailable
from byodpp.health import Lifecycle
from byodpp.limits import Budget, RateLimiter, SlidingWindows
from byodpp.logs import REQUEST_IDS, LineWriter
from byodpp.middleware.access_log import AccessLog
from byodpp.middleware.authentication import Authentication, Authenticator
from byodpp.middleware.authorization import Authorization, Authorizer
from byodpp.middleware.body import FinishBody, ReadSmallBody
from byodpp.middleware.cors import Cors
from byodpp.middleware.error_writer import ErrorWriter
from byodpp.middleware.negotiation import Negotiation
from byodpp.middleware.rate_limit import AddressRateLimit, RouteRateLimit, SignInRateLimit, UserRateLimit
from byodpp.middleware.references import MissingReferences
from byodpp.middleware.refusals import Refusals, Trail
from byodpp.middleware.request_context import ClientAddress, RequestContext, completing
from byodpp.middleware.row_probe import RowProbe
from byodpp.middleware.security_headers import SecurityHeaders
from byodpp.middleware.sign_in_block import SignInBlock
from byodpp.middleware.size_limits import SizeLimits
from byodpp.middleware.tenant_hosts import TenantHosts
from byodpp.middleware.tenant_limit import RunningRequests, TenantClasses, TenantLimit
from byodpp.middleware.user_turns import UserTurns
from byodpp.middleware.validation import Validation
from byodpp.negotiation import Negotiator
from byodpp.requests import REQUEST, Request
from byodpp.responses import Answer, send_answer
from byodpp.routes import Body, Endpoint, Handler, Route, RouteTable, Stage, chain
from byodpp.settings import Settings

__all__ = ["Parts", "create_application", "global_stages", "route_stages"]


#: Looks at a request: refuses it by raising, answers it, or lets it through by returning None.
Gate = Callable[[Request], Answer | Awaitable[Answer | None] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an application is made of."""

    settings: Settings
    routes: Sequence[Route]  # in the order in which listings show them
    authenticator: Authenticator
    authorizer: Authorizer
    lifespan: Callable[[], AbstractAsyncContextManager[object]]  # opens what the routes need, and closes it
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    browser_sessions: BrowserSessions | None = None  # None: no cookie is looked at
    trail: Trail | None = None  # takes notes of refusals; None: nobody does
    rate_limiter: RateLimiter = field(default_factory=SlidingWindows)
    tenant_classes: TenantClasses | None = None  # None: nobody is limited as a tenant
    workroom: Workroom = field(default_factory=Workroom)  # closed by who made it
    running: RunningRequests = field(default_factory=RunningRequests)
    user_turns: Turns = field(default_factory=Turns)
    write_access_line: Callable[[str], object] = field(default_factory=LineWriter)


def global_stages(parts: Parts) -> list[Gate]:
    """Return what looks at every request before its route is known, in that order.

    Around them lie `RequestContext`, which opens the request, `AccessLog`, and `ErrorWriter`, which
    answers what any of them, or anything behind them, refuses.
    """
    settings = parts.settings
    stages: list[Gate] = [
        SecurityHeaders(),
        Cors(settings.cors_origins),
        SizeLimits(max_url_bytes=settings.max_url_bytes, max_header_bytes=settings.max_header_bytes),
    ]
    if settings.rate_limit_enabled:
        budget = _budget(settings, "address", settings.rate_limit_per_ip)
        stages.append(AddressRateLimit(parts.rate_limiter, budget))
    return stages


def route_stages(parts: Parts, negotiator: Negotiator, endpoint: Endpoint) -> list[Stage]:
    """Return what a request of one endpoint goes through before its handler, outermost first."""
    settings = parts.settings
    takes_json = endpoint.body in (Body.OPTIONAL, Body.REQUIRED)
    stages: list[Stage] = []
    if endpoint.sign_in and settings.rate_limit_enabled:
        sign_in = _budget(settings, "sign-in", settings.rate_limit_sign_in)
        sessions = parts.browser_sessions if endpoint.renews else None
        stages.append(SignInRateLimit(parts.rate_limiter, sign_in, sessions))
    if endpoint.renews and settings.rate_limit_enabled:
        stages.append(_sign_in_block(parts, endpoint))
    if takes_json:
        stages.append(ReadSmallBody(endpoint, settings.max_body_bytes))
    if endpoint.guarded:
        if parts.trail is not None:
            stages.append(Refusals(parts.trail))
        if settings.rate_limit_enabled:
            stages.append(_sign_in_block(parts, endpoint))  # before the trail sees what it is answered with
        stages.append(
            Authentication(
                parts.authenticator,
                public=endpoint.public,
                control_plane=endpoint.resource is not None and endpoint.resource.control_plane,
                sessions=parts.browser_sessions,
                hosts=TenantHosts.of(settings),
                lapsed=endpoint.lapsed,
            )
        )
        if settings.rate_limit_enabled:
            stages += _caller_limits(parts, endpoint)
        if endpoint.resource is not None:
            stages.append(Authorization(parts.authorizer, endpoint.resource, endpoint.operation))
    if endpoint.complete is not None:
        stages.append(MissingReferences(endpoint.complete))  # not of a row that turns out not to be there
    if endpoint.probe is not None:
        stages.append(RowProbe(endpoint.probe))
    if endpoint.produces:
        stages.append(Negotiation(negotiator, endpoint.produces))
    if takes_json:
        stages.append(FinishBody(endpoint, settings.max_body_bytes))
    if endpoint.load is not None:
        stages.append(Validation(endpoint.load))
    if parts.tenant_classes is not None and _writes_users(endpoint):
        stages.append(UserTurns(parts.tenant_classes, parts.user_turns))  # whoever is refused takes none
    return stages


def _writes_users(endpoint: Endpoint) -> bool:
    """Whether a request writes users, and takes no longer than its transaction, as a file would."""
    resource = endpoint.resource
    if resource is None or (resource.part, resource.name) != ("access", "Users"):
        return False
    takes_json = endpoint.body in (Body.OPTIONAL, Body.REQUIRED)
    return endpoint.operation in ("create", "update", "patch", "delete", "batch") and (
        takes_json or endpoint.operation == "delete"
    )


def _sign_in_block(parts: Parts, endpoint: Endpoint) -> SignInBlock:
    settings = parts.settings
    failures = settings.sign_in_failures
    return SignInBlock(
        parts.rate_limiter,
        Budget(name="sign-in-failures", limit=failures, window_seconds=settings.rate_limit_window_seconds),
        settings.sign_in_block_seconds,
        trail=parts.trail,
        sessions=parts.browser_sessions if endpoint.renews else None,
        begins=endpoint.sign_in,
    )


def _caller_limits(parts: Parts, endpoint: Endpoint) -> Iterator[Stage]:
    """Yield what counts a caller who is known by now: as a user, of a route, of a tenant."""
    limiter = parts.rate_limiter
    yield UserRateLimit(limiter, _budget(parts.settings, "user", parts.settings.rate_limit_per_user))
    resource = endpoint.resource
    limit = resource.rate_limits.get(endpoint.operation) if resource else None
    if resource is not None and limit is not None:
        budget = Budget(name="route", limit=limit.requests, window_seconds=limit.seconds)
        yield RouteRateLimit(limiter, budget, f"{resource.version} {resource.name} {endpoint.operation}")
    if parts.tenant_classes is not None:
        yield TenantLimit(limiter, parts.tenant_classes, parts.running)


def create_application(parts: Parts) -> Starlette:
    """Put everything together.

    Raises:
        StartError: the routes do not fit together, or a setting contradicts another.
    """
    # The versions of the table do not matter to the stages, which only choose media types.
    compose = partial(_compose, parts, Negotiator(()))
    table = RouteTable.build(parts.routes, compose)
    application = Starlette(lifespan=partial(_lifespan, parts))
    application.router.redirect_slashes = False
    # What is mounted by hand comes first, the table serves the rest.
    application.router.default = _Dispatcher(parts, table)
    # Starlette's own stages would catch and wrap once more what the edge has in its hands anyway.
    application.middleware_stack = _Edge(parts, table, application.router)
    application.state.lifecycle = parts.lifecycle
    application.state.table = table
    return application


def _compose(parts: Parts, negotiator: Negotiator, endpoint: Endpoint) -> Handler:
    return chain(route_stages(parts, negotiator, endpoint), endpoint.handler)


def _budget(settings: Settings, name: str, limit: int) -> Budget:
    return Budget(name=name, limit=limit, window_seconds=settings.rate_limit_window_seconds)


class _Edge:
    """Where a request comes in and its answer goes out: the stages around everything else."""

    def __init__(self, parts: Parts, table: RouteTable, router: Router) -> None:
        settings = parts.settings
        self._context = RequestContext(
            ClientAddress(settings.trusted_proxies),
            max_json_depth=settings.max_json_depth,
            max_json_values=settings.max_json_values,
        )
        self._log = AccessLog(parts.write_access_line)
        self._errors = ErrorWriter()
        self._workroom = parts.workroom
        self._gates = tuple(global_stages(parts))
        self._table = table
        self._router = router
        self._send = partial(send_answer, standing=parts.authenticator.require_standing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        request = self._context.open(scope, receive)
        token = REQUEST_IDS.set((request.request_id, request.correlation_id))
        room = WORKROOM.set(self._workroom)
        try:
            try:
                with contained():
                    await self._serve(request, scope, receive, send)
            except Exception as failure:
                await self._errors(failure, request, send)
            except asyncio.CancelledError:
                if not request.status:
                    await self._errors(_stopped(request), request, send)
                raise
        finally:
            WORKROOM.reset(room)
            REQUEST_IDS.reset(token)
            if request.turn is not None:
                request.end_turn()
            self._log(request)
            # The request holds the server's functions, and they the scope: with the request in it, all of
            # that would only be freed by the garbage collector.
            scope.pop(REQUEST, None)

    async def _serve(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        for gate in self._gates:
            answer = gate(request)
            if answer is None:
                continue
            if not isinstance(answer, Answer):
                answer = await answer
            if answer is not None:
                await send_answer(answer, request, send)
                return
        if self._router.routes:
            await self._router(scope, receive, completing(send, request))
        else:
            answer = await self._table.resolve(request)(request)
            if request.turn is not None and isinstance(answer.body, bytes):
                request.end_turn()  # before the client takes its time to read
            await self._send(answer, request, send)


def _stopped(request: Request) -> Unavailable:
    """Return what the client is told when the server stops and waits for its request no longer."""
    headers = {"Connection": "close"}
    if request.method in ("GET", "HEAD", "QUERY", "OPTIONS"):
        return Unavailable("The server stops; it did not get to an answer.", headers=headers)
    told = "The server stopped before the request was answered: look what was done before trying again."
    return OutcomeUnknown(told, headers=headers)


class _Dispatcher:
    """Serves what nothing that is mounted serves."""

    def __init__(self, parts: Parts, table: RouteTable) -> None:
        self._table = table
        self._send = partial(send_answer, standing=parts.authenticator.require_standing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        request = scope[REQUEST]
        await self._send(await self._table.resolve(request)(request), request, send)


@asynccontextmanager
async def _lifespan(parts: Parts, application: Starlette) -> AsyncIterator[None]:
    async with parts.lifespan():
        parts.lifecycle.ready = True
        try:
            yield
        finally:
            parts.lifecycle.stop()
