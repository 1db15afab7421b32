"""The table of routes: from a raw path and a method to the endpoint that serves them.

In: `Route`s, each a pattern with its endpoints by method. Out: `RouteTable`, immutable, which
finds a route in a time that depends on the length of the path and not on the number of routes.
May reject at start: `RouteTable.build` (StartError with every problem). May reject a request:
`RouteTable.resolve` (Malformed, InvalidEncoding, UnsupportedVersion, NotFound, MethodNotAllowed).

Paths are matched as they were sent, before percent-decoding: a parameter may be an encoded
URL with `%2F` in it. A static segment wins over a parameter; a slash at the end is another path.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Protocol

from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import MethodNotAllowed, NotFound, Problem, StartError
from byodpp.negotiation import JSON, Negotiator
from byodpp.reference_faults import Complete
from byodpp.requests import Request
from byodpp.responses import Answer
from byodpp.routes.tree import PARAMETER, Node, check_path, crossing, decoded

__all__ = [
    "JSON_BODY",
    "PATCH_BODY",
    "Body",
    "Endpoint",
    "Handler",
    "ListedRoute",
    "Route",
    "RouteTable",
    "Stage",
    "chain",
]

Handler = Callable[[Request], Awaitable[Answer]]

#: Media types of a body that is plain JSON.
JSON_BODY: Final = ("application/json",)
#: Media types of a PATCH of a row: a merge patch under either name, or a list of steps.
PATCH_BODY: Final = ("application/json", "application/merge-patch+json", "application/json-patch+json")
#: Methods in the order in which `Allow` names them.
_METHODS: Final = ("GET", "HEAD", "QUERY", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_STATIC: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
_VERSION: Final = re.compile(rb"v\d{1,4}")


class Stage(Protocol):
    """One step of a route's chain: looks at a request, fills in what it finds out, refuses by raising.

    It may have a method `refused`, which sees what is refused behind it and may raise something else in
    its place, and a method `leave`, which is called at the end of every request that has passed it.
    """

    def __call__(self, request: Request) -> Awaitable[None] | None:
        """Look at a request; what is returned is waited for."""
        ...


class _Passage:
    """A handler behind its stages, the first one outermost: one coroutine for all of them."""

    __slots__ = ("_handler", "_leaving", "_stages", "_watching")

    def __init__(self, stages: Sequence[Stage], handler: Handler) -> None:
        self._stages = tuple(stages)
        self._handler = handler
        self._watching = self._having("refused")
        self._leaving = self._having("leave")

    def _having(self, name: str) -> tuple[tuple[int, Callable[..., Any]], ...]:
        """Return place and method of the stages that have it, the innermost first."""
        found = [(place, getattr(stage, name, None)) for place, stage in enumerate(self._stages)]
        return tuple((place, method) for place, method in reversed(found) if method is not None)

    async def __call__(self, request: Request) -> Answer:
        passed = 0
        try:
            for stage in self._stages:
                waiting = stage(request)
                if waiting is not None:
                    await waiting
                passed += 1
            return await self._handler(request)
        except Exception as failure:
            await self._tell(request, failure, passed)
            raise
        finally:
            for place, leave in self._leaving:
                if place < passed:
                    leave(request)

    async def _tell(self, request: Request, failure: Exception, passed: int) -> None:
        """Tell those whom the request has passed what was refused behind them.

        Raises:
            Exception: what one of them puts in its place.
        """
        told = failure
        for place, refused in self._watching:
            if place < passed:
                try:
                    await refused(request, told)
                except Exception as other:
                    told = other
        if told is not failure:
            raise told


def chain(stages: Sequence[Stage], handler: Handler) -> Handler:
    """Put stages before a handler, the first one outermost. Done once for each endpoint."""
    return _Passage(stages, handler) if stages else handler


class Body(Enum):
    """What an endpoint does with a request's body."""

    NONE = auto()  # ignores it; it is never read
    OPTIONAL = auto()  # takes JSON, or nothing
    REQUIRED = auto()  # takes JSON
    STREAM = auto()  # reads it itself, through `Request.stream`


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What serves one method of one route, and what its chain has to know."""

    handler: Handler  # answers when every stage has let the request through
    operation: str = ""  # one of the seven, or an action's key; what is authorised
    resource: ResourceDefinition | None = None  # None: no right is asked here, the handler does it
    guarded: bool = True  # False: neither token nor right is asked (health, documentation)
    public: bool = False  # callers without a token get as far as the authorizer
    body: Body = Body.NONE
    media_types: tuple[str, ...] = JSON_BODY  # of the body
    max_body_bytes: int | None = None  # None is the application's limit
    load: Callable[[Any, Any], Any] | None = (
        None  # JSON value and principal -> `request.validated`; None: the handler does it
    )
    produces: tuple[str, ...] = (JSON,)  # media types of the answer; empty: whatever the client accepts
    probe: Callable[[Request], Awaitable[object]] | None = (
        None  # raises NotFound or Forbidden when the caller may not see the row
    )
    complete: Complete | None = None  # raises a refusal of the body anew, with what else is wrong in it
    sign_in: bool = False  # counts against the budget of sign-ins
    renews: bool = False  # that budget is the one of whose session the cookie holds
    lapsed: bool = False  # a session that has ended gets as far as the handler, as nobody
    summary: str = ""  # for listings


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A pattern with its endpoints. Several routes may share a pattern, not a method."""

    pattern: str  # `/api/v1/products/{id}/feature`
    methods: Mapping[str, Endpoint]  # by method, upper case; HEAD and OPTIONS come by themselves
    origin: str = ""  # JSON path of the declaration, for messages


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ListedRoute:
    """One line of `byodpp routes`."""

    pattern: str
    method: str
    resource: str  # name, or empty
    operation: str
    public: bool
    origin: str = field(compare=False)


class _Served:
    """A route as it is served: chains by method, and what goes with every answer."""

    __slots__ = ("_compose", "allow", "chains", "endpoints", "names", "origin", "pattern", "version")

    def __init__(self, route: Route, names: tuple[str, ...]) -> None:
        self.pattern = route.pattern
        self.origin = route.origin
        self.names = names
        self.endpoints: dict[str, Endpoint] = {}
        self.chains: dict[str, Handler] = {}
        self.allow = ""
        self._compose: Callable[[Endpoint], Handler] = _plain
        parts = (part for part in route.pattern.split("/") if part[:1] == "v")
        self.version = next((part for part in parts if _VERSION.fullmatch(part.encode())), "")

    def seal(self, compose: Callable[[Endpoint], Handler]) -> None:
        if "GET" in self.endpoints:
            self.endpoints.setdefault("HEAD", self.endpoints["GET"])
        self._compose = compose
        known = {*self.endpoints, "OPTIONS"}
        self.allow = ", ".join(method for method in _METHODS if method in known)
        if "OPTIONS" not in self.endpoints:
            self.chains["OPTIONS"] = self._options

    def chain(self, method: str) -> Handler:
        """Compose the chain of a method at its first request: with many resources most are never asked for.

        Raises:
            MethodNotAllowed: the route has no such method.
        """
        endpoint = self.endpoints.get(method)
        if endpoint is None:
            told = f"{method[:20]} is not served here, but {self.allow}."
            raise MethodNotAllowed(told, headers={"Allow": self.allow})
        handler = self.chains[method] = self._compose(endpoint)
        return handler

    async def _options(self, request: Request) -> Answer:
        return Answer(status=204, headers={"Allow": self.allow})


def _plain(endpoint: Endpoint) -> Handler:
    return endpoint.handler


class RouteTable:
    """Every route of the application. Built once, never changed."""

    __slots__ = ("_negotiator", "_root", "_served", "versions")

    def __init__(self, root: Node[_Served], served: tuple[_Served, ...], versions: tuple[str, ...]) -> None:
        """Args:
        root: of the tree.
        served: every route, in the order of declaration.
        versions: of the API, the default first.
        """
        self._root = root
        self._served = served
        self._negotiator = Negotiator(versions)
        self.versions = versions

    @classmethod
    def build(cls, routes: Iterable[Route], compose: Callable[[Endpoint], Handler] = _plain) -> RouteTable:
        """Make the table.

        Args:
            routes: in the order in which listings show them.
            compose: puts the per-route stages before an endpoint's handler.

        Raises:
            StartError: with every pattern that is wrong, taken twice, or overlapping.
        """
        builder = _Builder()
        for route in routes:
            builder.add(route)
        builder.check_overlaps()
        if builder.problems:
            raise StartError(builder.problems)
        for served in builder.served:
            served.seal(compose)
        return cls(builder.root, tuple(builder.served), _versions(builder.served))

    def resolve(self, request: Request) -> Handler:
        """Find what serves a request, and write route, parameters and operation into it.

        Raises:
            Malformed: the path cannot be decoded, or holds control characters or dot segments.
            UnsupportedVersion: the address names no version and `Accept` an unknown one.
            NotFound: there is no such route.
            MethodNotAllowed: there is, without this method.
        """
        segments = request.raw_path.split(b"/")
        values: list[bytes] = []
        served = self._root.find(segments, 1, values)
        if served is None:
            served = self._without_version(request, segments, values)
        request.route = served.pattern
        request.version = served.version
        if values:
            request.params = {name: decoded(value) for name, value in zip(served.names, values, strict=True)}
        method = request.method
        handler = served.chains.get(method)
        if handler is None:
            handler = served.chain(method)
        endpoint = served.endpoints.get(method)
        if endpoint is not None:
            request.operation = endpoint.operation
            request.resource = endpoint.resource
        return handler

    def find(self, method: str, path: bytes) -> tuple[Endpoint, dict[str, str]] | None:
        """Return the endpoint of an address, and its parameters decoded; None: there is none.

        Raises:
            Malformed: a parameter cannot be decoded.
        """
        values: list[bytes] = []
        served = self._root.find(path.split(b"/"), 1, values)
        endpoint = None if served is None else served.endpoints.get(method)
        if served is None or endpoint is None:
            return None
        return endpoint, {name: decoded(value) for name, value in zip(served.names, values, strict=True)}

    def _without_version(self, request: Request, segments: list[bytes], values: list[bytes]) -> _Served:
        """Try the path as one that leaves its version to the Accept header."""
        check_path(request.raw_path)
        if len(segments) > 2 and segments[0] == b"" and segments[1] == b"api" and segments[2]:
            if _VERSION.fullmatch(segments[2]) is None:
                version = self._negotiator.version(request.header(b"accept"))
                served = self._root.find([b"", b"api", version.encode(), *segments[2:]], 1, values)
                if served is not None:
                    return served
            elif segments[2].decode() not in self.versions:
                raise NotFound(f"API version {segments[2].decode()} does not exist here.")
        raise NotFound

    def listing(self) -> Iterator[ListedRoute]:
        """Yield every declared route and method."""
        for served in self._served:
            for method in _METHODS:
                endpoint = served.endpoints.get(method)
                if endpoint is None or (method == "HEAD" and endpoint is served.endpoints.get("GET")):
                    continue
                yield ListedRoute(
                    pattern=served.pattern,
                    method=method,
                    resource=endpoint.resource.name if endpoint.resource else "",
                    operation=endpoint.operation,
                    public=endpoint.public or not endpoint.guarded,
                    origin=served.origin,
                )


def _versions(served: Iterable[_Served]) -> tuple[str, ...]:
    found = {
        entry.version
        for entry in served
        if entry.pattern.startswith(f"/api/{entry.version}/") and entry.version
    }
    return tuple(sorted(found, key=lambda version: int(version[1:])))


class _Builder:
    """Grows the tree and notes what is wrong with the patterns."""

    def __init__(self) -> None:
        self.root: Node[_Served] = Node()
        self.served: list[_Served] = []
        self.problems: list[Problem] = []

    def add(self, route: Route) -> None:
        parts = self._parts(route)
        if parts is None:
            return
        node = self.root
        names = []
        for part in parts:
            name = PARAMETER.fullmatch(part)
            if name is None:
                node = node.statics.setdefault(part.encode(), Node())
            else:
                names.append(name[1])
                node.parameter = node = node.parameter or Node()
        if len(set(names)) < len(names):
            self._problem(route, "names two parameters alike")
        if node.served is None:
            node.served = _Served(route, tuple(names))
            self.served.append(node.served)
        elif node.served.names != tuple(names):
            self._problem(
                route, f"is the same address as {node.served.pattern}", "Name its parameters alike."
            )
        self._add_methods(route, node.served)

    def _add_methods(self, route: Route, served: _Served) -> None:
        for method, endpoint in route.methods.items():
            if method not in _METHODS:
                self._problem(route, f"{method} is not a method that can be served")
            elif method in served.endpoints:
                taken = _owner(served.endpoints[method])
                self._problem(route, f"{method} is served by {taken} already", "Choose another address.")
            else:
                served.endpoints[method] = endpoint

    def _parts(self, route: Route) -> list[str] | None:
        pattern = route.pattern
        parts = pattern.split("/")[1:]
        if not pattern.startswith("/"):
            self._problem(route, "must start with a slash")
        elif pattern == "/":
            return parts
        elif pattern.endswith("/"):
            self._problem(route, "must not end with a slash")
        elif wrong := [part for part in parts if not (PARAMETER.fullmatch(part) or _STATIC.fullmatch(part))]:
            hint = "A segment is plain text or one {parameter}."
            self._problem(route, f"segment {wrong[0]!r} cannot be matched", hint)
        elif "." in parts or ".." in parts:
            self._problem(route, "must not hold dot segments")
        else:
            return parts
        return None

    def check_overlaps(self) -> None:
        """Find pairs like `/a/{x}` + `/{y}/b`, of which neither is the more precise one."""
        for served in self.served:
            parts = served.pattern.split("/")[1:]
            for other in crossing(self.root, parts, 0, narrower=False, wider=False):
                if served.pattern < other.pattern:
                    advice = "Give one of them a segment of its own."
                    self.problems.append(
                        Problem(
                            served.origin or served.pattern,
                            f"{served.pattern} and {other.pattern} match the same addresses",
                            advice,
                        )
                    )

    def _problem(self, route: Route, reason: str, suggestion: str = "") -> None:
        self.problems.append(Problem(route.origin or route.pattern, f"{route.pattern}: {reason}", suggestion))


def _owner(endpoint: Endpoint) -> str:
    name = endpoint.resource.name if endpoint.resource else "the framework"
    return f"{name} ({endpoint.operation})" if endpoint.operation else name
