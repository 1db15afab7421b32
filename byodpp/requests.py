"""One HTTP request as a value that travels through the chain.

Comes from the server (an ASGI scope) by way of `middleware.request_context`; every stage
fills in what it alone can know: `routes` the route and its parameters, `authentication` the
principal, `authorization` the decision, `validation` the validated body. Only this module
reads the body. Raises Malformed, PayloadTooLarge, RequestTimeout, ClientGone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from byodpp import wire
from byodpp.aside import LARGE_BYTES, aside, turn_of
from byodpp.exceptions import ApiError, Malformed, PayloadTooLarge, RequestTimeout
from byodpp.header_lines import HeaderLines, StandingHeaders

if TYPE_CHECKING:
    from byodpp.definitions import ResourceDefinition
    from byodpp.turnstile import Turn

__all__ = ["REQUEST", "WHOLE_ANSWER", "WHOLE_BODY", "ClientGone", "Request"]

#: Key of the request in the ASGI scope.
REQUEST: Final = "byodpp.request"
#: Key of a function that returns the body at once if all of it has arrived, else None; a server may give it.
WHOLE_BODY: Final = "byodpp.whole_body"
#: Key of a function that sends status, headers, and body of an answer at once and returns whether it could.
WHOLE_ANSWER: Final = "byodpp.whole_answer"

_UNREAD: Final = object()
_NONE: Final = StandingHeaders(())
_PATIENCE_SECONDS: Final = 2.0

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed the connection before its request was complete; nobody hears an answer."""


class Request:
    """A request: what arrived, and what the stages found out about it.

    The attributes up to `started_at` are fixed when it arrives. The later ones are each
    written by one stage and only read by those after it.
    """

    __slots__ = (
        "_arrived",
        "_complete",
        "_fields",
        "_headers",
        "_json",
        "_length",
        "_receive",
        "_unread",
        "body",
        "body_timeout_seconds",
        "client_ip",
        "correlation_id",
        "credentials",
        "decision",
        "http_version",
        "max_json_depth",
        "max_json_values",
        "media_type",
        "method",
        "operation",
        "params",
        "postponed",
        "prepared",
        "principal",
        "query_string",
        "raw_headers",
        "raw_path",
        "request_id",
        "resource",
        "response_headers",
        "response_type",
        "route",
        "standing_headers",
        "started_at",
        "status",
        "turn",
        "validated",
        "version",
        "whole",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        *,
        request_id: str = "",
        correlation_id: str = "",
        client_ip: str = "",
        started_at: float = 0.0,
        body_timeout_seconds: float = 30.0,
        max_json_depth: int = 32,
        max_json_values: int | None = None,
    ) -> None:
        """Args:
        scope: of an HTTP request.
        receive: of the same request.
        request_id: safe to log and to send back.
        correlation_id: likewise.
        client_ip: of the client itself, not of a trusted proxy; empty when unknown.
        started_at: `time.perf_counter()` at arrival.
        body_timeout_seconds: how long the whole body may take.
        max_json_depth: arrays and objects that may lie in each other.
        max_json_values: values that a body may hold; None: any number.
        """
        self.method: str = scope["method"]
        self.http_version: str = scope.get("http_version", "1.1")
        self.raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.query_string: bytes = scope["query_string"]
        self.raw_headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.request_id = request_id
        self.correlation_id = correlation_id
        self.client_ip = client_ip
        self.started_at = started_at
        self.body_timeout_seconds = body_timeout_seconds
        self.max_json_depth = max_json_depth
        self.max_json_values = max_json_values
        self._receive = receive
        self._arrived: Callable[[], bytes | None] | None = scope.pop(WHOLE_BODY, None)
        #: Sends a whole answer at once, where the server can.
        self.whole: Callable[[int, HeaderLines, bytes], bool] | None = scope.pop(WHOLE_ANSWER, None)
        self._fields: dict[bytes, bytes] | None = None
        self._headers: Headers | None = None
        self._json: Any = _UNREAD
        self._length: Any = _UNREAD
        self._unread = True  # nobody has begun to read the body
        self._complete = False  # the body was read to its end
        # routes
        self.route = ""  # pattern, e.g. `/api/v1/products/{id}`; empty until matched
        self.params: Mapping[str, str] = {}  # of the path, percent-decoded
        self.version = ""  # of the API, e.g. `v1`
        self.resource: ResourceDefinition | None = None
        self.operation = ""  # one of the seven, or an action's key
        # per-route stages
        self.principal: Any = None  # authentication.Principal
        self.credentials: str | None = None  # that came in a cookie, as the header would have them
        self.decision: Any = None  # authorization.Decision
        self.body = b""  # complete once `middleware.body` has run
        self.media_type = ""  # of the body, without parameters
        self.postponed: ApiError | None = None  # a refusal that yields to those of higher rank
        self.response_type = "application/json"  # what the client agreed to receive
        self.validated: Any = None
        # the answer, as far as the stages before it decide; a header is sent unless the answer has its own
        self.response_headers: list[tuple[bytes, bytes]] = []
        self.prepared: list[bytes] = []  # further ones, as lines that go out
        self.standing_headers = _NONE
        self.turn: Turn | None = None  # of a large body, until it is worked off
        self.status = 0  # of the answer; 0 until it started

    def header(self, name: bytes) -> str | None:
        """Return a header's value; several of one name are joined by commas.

        Args:
            name: in lower case.
        """
        fields = self._fields
        if fields is None:
            fields = self._fields = _joined(self.raw_headers)
        value = fields.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def headers(self) -> Headers:
        """All headers, names without regard to case."""
        if self._headers is None:
            self._headers = Headers(raw=self.raw_headers)
        return self._headers

    @property
    def path(self) -> str:
        """The path as it was sent, still percent-encoded."""
        return self.raw_path.decode("latin-1")

    @property
    def json(self) -> Any:
        """The body as JSON values, parsed at first look.

        Raises:
            Malformed: not JSON, or JSON that is not accepted (duplicate keys, NaN, too deep).
            PayloadTooLarge: it holds too many values.
        """
        if self._json is _UNREAD:
            self._json = self._read_json()
        return self._json

    async def parse(self) -> Any:
        """Return `json`; a large body waits for its turn, and is parsed aside.

        Raises:
            Unavailable: its turn does not come.
            ApiError: as of `json`.
        """
        if self._json is _UNREAD:
            if len(self.body) > LARGE_BYTES and self.turn is None:
                principal = self.principal
                known = principal is not None and not principal.anonymous
                whose = principal.home_tenant_id if known else self.client_ip
                self.turn = await turn_of(len(self.body), whose)
            self._json = await self.aside(self._read_json)
        return self._json

    def end_turn(self) -> None:
        """Let go of a large body and what was made of it, and let the next one in."""
        if self.turn is not None:
            self.body = b""
            self._json = self.validated = None
            self.turn.end()

    def _read_json(self) -> Any:
        return wire.loads(self.body, max_depth=self.max_json_depth, max_values=self.max_json_values)

    async def aside(self, work: Callable[[], T]) -> T:
        """Run something whose time grows with the body; in a thread when that is large.

        Other requests then go on meanwhile. The work must not touch anything that they use.
        """
        return await aside(work) if len(self.body) > LARGE_BYTES else work()

    @property
    def has_body(self) -> bool:
        """Whether the client announced a body; it may still turn out empty."""
        return self.header(b"transfer-encoding") is not None or self.header(b"content-length") not in (
            None,
            "0",
        )

    @property
    def has_unread_body(self) -> bool:
        """Whether some of an announced body has not been read."""
        return not self._complete and self.has_body

    @property
    def declared_length(self) -> int | None:
        """Length of the body as announced; None when it comes in chunks.

        Raises:
            Malformed: the length is no number, or the body is announced in both ways, which is how
                one request is smuggled past a proxy inside another.
        """
        if self._length is _UNREAD:
            self._length = self._announced_length()
        length: int | None = self._length
        return length

    def _announced_length(self) -> int | None:
        text, coding = self.header(b"content-length"), self.header(b"transfer-encoding")
        if coding is not None and coding.strip().lower() != "chunked":
            raise Malformed("Transfer-Encoding may be chunked, and nothing else.")
        if text is None:
            return None
        if coding is not None:
            raise Malformed("A body has a Content-Length or comes in chunks, not both.")
        if not (text.isascii() and text.isdigit()):
            raise Malformed("Content-Length is not a number.")
        return int(text)

    async def read(self, limit: int) -> bytes:
        """Read the whole body, once; later calls return the same bytes.

        Args:
            limit: bytes that are accepted.

        Raises:
            PayloadTooLarge: announced as larger (nothing was read then), or larger.
            RequestTimeout: not complete in time.
            ClientGone: the connection was closed.
        """
        if self._unread and not self._has_arrived(limit):
            chunks = [chunk async for chunk in self.stream(limit)]
            self.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return self.body

    def _has_arrived(self, limit: int) -> bool:
        """Take the body if it need not be waited for: most lie behind their head when it is read."""
        if self._arrived is None:
            return False
        length = self.declared_length
        if length is None or length > limit or (body := self._arrived()) is None:
            return False  # which `stream` looks at
        self.body, self._unread, self._complete = body, False, True
        return True

    async def stream(self, limit: int, *, seconds: float | None = None) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, once. Errors are those of `read`.

        Args:
            limit: bytes that are accepted.
            seconds: that the whole body may take when it is to take longer than others; then
                `body_timeout_seconds` is how long it may pause.
        """
        length = self.declared_length
        self._unread = False
        if length is not None and length > limit:
            # A small overrun is heard out after the answer; a large one is cut off.
            raise _too_large(limit, close=length > 4 * limit)
        clock = asyncio.get_running_loop().time
        deadline = clock() + (self.body_timeout_seconds if seconds is None else seconds)
        size, more = 0, True
        while more:
            pause = deadline if seconds is None else min(deadline, clock() + self.body_timeout_seconds)
            chunk, more = await self._receive_chunk(pause)
            size += len(chunk)
            if size > limit:
                await self._discard(limit, deadline, more=more)
            if chunk:
                yield chunk

    async def _receive_chunk(self, deadline: float) -> tuple[bytes, bool]:
        """Wait for the next part of the body; also tells whether more will follow."""
        try:
            async with asyncio.timeout_at(deadline):
                message = await self._receive()
        except TimeoutError:
            raise RequestTimeout(headers={"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._complete = not message.get("more_body", False)
        return message.get("body", b""), not self._complete

    async def _discard(self, limit: int, deadline: float, *, more: bool) -> NoReturn:
        """Take in as much again of a body without a length, for two seconds at most, then refuse it."""
        dropped = 0
        deadline = min(deadline, asyncio.get_running_loop().time() + _PATIENCE_SECONDS)
        with suppress(RequestTimeout):
            while more and dropped <= limit:
                chunk, more = await self._receive_chunk(deadline)
                dropped += len(chunk)
        raise _too_large(limit, close=more)

    async def discard_rest(self) -> None:
        """Throw away what is left of a body that was refused; for two seconds at most."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        with suppress(RequestTimeout, ClientGone, Malformed):
            while self.has_unread_body:
                await self._receive_chunk(deadline)

    async def disconnected(self) -> None:
        """Return when the client has closed the connection. The body must have been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _joined(raw: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    fields = dict(raw)
    if len(fields) != len(raw):
        fields = {}
        for name, value in raw:
            fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


def _too_large(limit: int, *, close: bool) -> PayloadTooLarge:
    headers = {"Connection": "close"} if close else None
    return PayloadTooLarge(
        f"The body is larger than the {limit} bytes that this route accepts.", headers=headers
    )
