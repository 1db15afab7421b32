"""HTTP/1.1 as uvicorn speaks it, with five things of our own.

What the parser cannot read is handed to the application, so that the refusal is worded and logged
like any other. Whoever has asked is answered, though he has shut his side of the connection, or sent
something behind it that nobody can read. A client that is slow, or never comes to an end, costs a
bounded time and a bounded memory: the head of a request has a size and a deadline, fields after the
body are thrown away, a body that goes on long after its answer ends the connection, and so does a client
that reads nothing of a long answer. A stop does not close a connection over a request that is just
arriving. And an answer whose headers are `HeaderLines` goes out in one piece: uvicorn would look at
every header once more, and write head and body by a system call each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from byodpp.exceptions import ApiError, Malformed
from byodpp.header_lines import HeaderLines
from byodpp.requests import WHOLE_ANSWER, WHOLE_BODY

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveEvent, ASGISendEvent

__all__ = ["LARGE_HEAD", "SLOW_HEAD", "UNREADABLE", "HttpProtocol"]

#: A larger body is not copied behind its head.
_COPIED_BYTES: Final = 65_536
#: The parser of addresses counts in 16 bits; what is longer is refused by its length alone.
_PARSED_URL_BYTES: Final = 65_000
#: The data that complete a head may hold the requests behind it, too.
_READ_BYTES: Final = 262_144
#: How long a head may take from its first byte to its last.
_HEAD_SECONDS: Final = 30.0
#: How long a body may go on after its answer; many clients read nothing before they have sent all.
_PATIENCE_SECONDS: Final = 2.0
#: How long a client may read nothing of an answer of which there is more.
_STALLED_SECONDS: Final = 60.0
#: How long a stream may send nothing to a client that has shut its side, and may have gone.
_SILENT_SECONDS: Final = 60.0
#: How long a connection is kept at a stop on which nothing has been asked, or not to the end.
_LAST_LOOK_SECONDS: Final = 0.25
#: In place of a version of HTTP: why the application gets a request that was not read.
UNREADABLE, LARGE_HEAD, SLOW_HEAD = "unreadable", "large head", "slow head"


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _refused = False  # nothing more is read: what comes is unreadable, or nothing will come
    _answering: _Cycle | None = None  # the request whose turn it is
    _in_head = False  # a request has begun, and its headers have not ended
    _head_bytes = 0  # of it so far, with what came before it in the same piece
    _head_deadline: asyncio.TimerHandle | None = None
    _idle_since: float | None = None  # None: a request is being read or answered

    def __init__(
        self,
        *args: Any,
        max_head_bytes: int = 49_152,
        stopping: Callable[[], bool] = lambda: False,
        **options: Any,
    ) -> None:
        """Args:
        args: uvicorn's.
        max_head_bytes: address and headers together; what is larger is not kept to its end.
        stopping: whether the end of the server has been announced: each connection then gets one more answer.
        options: uvicorn's.
        """
        super().__init__(*args, **options)
        self._most_head_bytes = max_head_bytes + _READ_BYTES
        self._stopping = stopping

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request no longer than for another one."""
        super().connection_made(transport)
        self._await_request()
        if self._stopping():
            self.shutdown()  # accepted before the listener was closed, and told of here too late for that

    def shutdown(self) -> None:
        """Close after what has been asked, or is being asked at this moment, has been answered.

        To close a connection with data that nobody has read resets it, and its client cannot know whether
        its request has been carried out. So nothing is closed before what is on its way has had time to come.
        """
        self._stopping = _always
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(_LAST_LOOK_SECONDS, self._look_last)

    def _look_last(self) -> None:
        if self._in_head:
            self._refuse(SLOW_HEAD)
        elif self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline; tell the request that is being answered, though others wait behind it."""
        self._end_head()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        answering = self._answering
        super().connection_lost(exc)
        if answering is not None and not answering.response_complete:
            answering.disconnected = True
            answering.message_event.set()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection for the answers to what was asked before its other side was shut.

        A client that does so may still read. Whether it has gone altogether shows when something is sent;
        a stream that sends nothing for long takes it for gone.

        Returns:
            Whether there is anything to answer.
        """
        self._refused = True
        self._end_head()
        cycle = self.cycle
        if cycle is None or self.transport.is_closing():
            return False
        if self.pipeline and self.pipeline[0][0] is cycle and cycle.more_body:
            self.pipeline.popleft()  # will never be complete; those before it are
        elif cycle.response_complete or cycle.more_body:
            return False
        else:
            cycle.keep_alive = False
        self._watch_silence()
        return True

    def _watch_silence(self, cycle: _Cycle | None = None, sent: int = 0) -> None:
        """Break with a client that has shut its side when a stream has sent it nothing for long."""
        now = self._answering
        if now is None or self.transport.is_closing():
            return
        if now is cycle and now.response_started and now.sent == sent:
            self.transport.abort()
        else:
            self.loop.call_later(_SILENT_SECONDS, self._watch_silence, now, now.sent)

    def data_received(self, data: bytes) -> None:
        """Read on, unless what came before could not be read."""
        if self._refused:
            return
        super().data_received(data)
        if self._in_head and not self._refused:
            self._head_bytes += len(data)
            if self._head_bytes > self._most_head_bytes:
                self._refuse(LARGE_HEAD)
            elif self._head_deadline is None:
                self._head_deadline = self.loop.call_later(_HEAD_SECONDS, self._refuse, SLOW_HEAD)
        elif self.headers:
            self.headers.clear()  # fields after a body: a proxy in front has not looked at them
        elif self.cycle is None or self.cycle.response_complete:
            self._await_request()  # nothing but line ends, or the rest of a body

    def send_400_response(self, msg: str) -> None:
        """Let whoever reads the body find out; where there is none, refuse a request of no known version."""
        cycle = self.cycle
        if cycle is None or self._in_head or not cycle.more_body:
            self._refuse(UNREADABLE)
        elif cycle.response_complete:
            self._refused = True
            self.transport.close()
        else:
            self._refused = True
            cycle.keep_alive = False
            cycle.broken = True  # type: ignore[attr-defined]
            cycle.message_event.set()

    def _refuse(self, why: str) -> None:
        """Let the application answer a request that was not read, and read nothing more."""
        self._refused = True
        self._end_head()
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False  # sent behind a request that is still being answered
            return
        self.on_message_begin()
        unread = {"method": "?", "path": "/", "raw_path": b"/", "query_string": b"", "http_version": why}
        self.scope.update(unread)  # type: ignore[typeddict-item]
        self.cycle = self._cycle(keep_alive=False)
        self.cycle.more_body = False
        self._start_asgi_task(self.cycle, self.app)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        assert isinstance(cycle, _Cycle)
        self._answering = cycle
        cycle.tasks = self.tasks
        # By one name for all: one with a number would be written for each.
        cycle.task = task = self.loop.create_task(cycle.run_asgi(app), name="request")
        self.tasks.add(task)

    def _await_request(self) -> None:
        """Close the connection when nothing comes.

        There is one timer for the whole life of a connection, which looks since when nothing has come:
        to make and cancel one for each request costs more than to read its headers.
        """
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self._look_for_idle)

    def _look_for_idle(self) -> None:
        self.timeout_keep_alive_task = None
        since = self._idle_since
        if since is None or self.transport.is_closing():
            return  # the end of the answer begins anew
        left = since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self._look_for_idle)
        else:
            self.timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def _end_head(self) -> None:
        self._in_head = False
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header as uvicorn does, but for the blanks behind its value, which the parser leaves."""
        name, value = name.lower(), value.rstrip(b" \t")
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_message_complete(self) -> None:
        """Note that a request has been received, be it answered already or not."""
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Go on to the next request; a body that has no end is waited for a little."""
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            else:
                self._await_request()
        if self._refused and self._answering is not None and self._answering.response_complete:
            self.transport.close()  # nothing waits behind it
        elif self.cycle.more_body:
            self.loop.call_later(_PATIENCE_SECONDS, self._cut, self.cycle)

    def _cut(self, cycle: RequestResponseCycle) -> None:
        if self.cycle is cycle and cycle.more_body and not self.transport.is_closing():
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Start the application; as uvicorn does, but for what is never set here."""
        self._in_head = False
        if self._head_deadline is not None:
            self._end_head()
        self.headers = []  # the request has its own: those that follow are no part of it
        parser, scope = self.parser, self.scope
        http_version = parser.get_http_version()
        scope["method"] = parser.get_method().decode("ascii")
        if http_version != "1.1":
            scope["http_version"] = http_version
        if len(self.url) > _PARSED_URL_BYTES:
            scope["raw_path"], scope["path"], scope["query_string"] = self.url, "/", b""
        else:
            url = httptools.parse_url(self.url)
            raw_path: bytes = url.path
            scope["raw_path"] = raw_path
            path = raw_path.decode("ascii")
            scope["path"] = unquote(path) if "%" in path else path
            scope["query_string"] = url.query or b""
        before = self.cycle
        self.cycle = self._cycle(keep_alive=http_version != "1.0" and parser.should_keep_alive())
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            # Sent without waiting for the answer to the request before.
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _cycle(self, *, keep_alive: bool) -> RequestResponseCycle:
        cycle = _Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        if self._stopping():
            cycle.keep_alive = False
        self.scope[WHOLE_BODY] = cycle.whole_body  # type: ignore[typeddict-unknown-key]
        self.scope[WHOLE_ANSWER] = cycle.whole_answer  # type: ignore[typeddict-unknown-key]
        return cycle


def _always() -> bool:
    return True


def _done() -> None:
    """Stand in for what is told the end of an answer, once it has been told."""


class _Cycle(RequestResponseCycle):
    """One request and its answer."""

    _head = b""  # of the answer, until its body is there
    broken = False  # the rest of the body cannot be read
    sent = 0  # parts of the answer
    task: asyncio.Task[None] | None = None  # that answers
    tasks: set[asyncio.Task[None]]  # of the server

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Run the application. It answers its failures itself: what still leaves it breaks the connection."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            pass  # the server stops, which it has told; nobody waits for this task's result
        except ApiError as refusal:  # expected, as the end of a stream whose caller was locked out
            if not self.disconnected:
                self.logger.info("an answer was broken off: %s", refusal.message)
        except Exception as error:
            if not self.disconnected:
                self.logger.error("an answer was broken off", exc_info=error)
        else:
            if not self.response_complete and not self.disconnected:
                self.logger.error("a request was not answered")
        finally:
            if not self.response_complete and not self.disconnected:
                self.transport.close()
            self.on_response = _done
            if self.task is not None:
                self.tasks.discard(self.task)

    async def receive(self) -> ASGIReceiveEvent:
        """Receive a part of the body.

        Raises:
            Malformed: what follows is no chunk of it.
        """
        message = await super().receive()
        if self.broken and message["type"] == "http.request":
            told = "The body ends in the middle: what follows is no chunk of it."
            raise Malformed(told, headers={"Connection": "close"})
        return message

    def whole_body(self) -> bytes | None:
        """Return the body if all of it is there and nobody has had any of it; `receive` gives it no more."""
        waits = self.more_body or self.broken or self.waiting_for_100_continue
        if waits or self.disconnected or self.response_complete:
            return None
        self.flow.resume_reading()
        self.message_event.clear()
        body, self.body = bytes(self.body), bytearray()
        return body

    async def send(self, message: ASGISendEvent) -> None:
        """Send a part of the answer; nothing to a client that has gone."""
        if self.transport.is_closing():
            self.disconnected = True  # which is told in the next turn of the event loop
        self.sent += 1
        if self.flow.write_paused and not self.disconnected:
            await self._await_reader()
        if self._head:
            await self._send_body(message)
            return
        headers = message.get("headers")
        if type(headers) is HeaderLines and not self.response_started:
            length = headers.content_length
            if length is not None or message["status"] in (204, 304):  # type: ignore[typeddict-item]
                self._start(message["status"], headers, length or 0)  # type: ignore[typeddict-item]
                return
        await super().send(message)

    def whole_answer(self, status: int, headers: HeaderLines, body: bytes) -> bool:
        """Send an answer at once, where nothing is in the way; whether it was sent.

        Args:
            status: of the answer.
            headers: with the length of the body, unless the status has none.
            body: all of it.
        """
        if self.response_started or self.disconnected or self.flow.write_paused:
            return False
        if self.transport.is_closing():
            return False
        self.sent += 1
        self._start(status, headers, headers.content_length or 0)
        self._write_body(body, more=False)
        return True

    async def _await_reader(self) -> None:
        """Wait until the client has read of what was sent; break with one that does not."""
        try:
            async with asyncio.timeout(_STALLED_SECONDS):
                await self.flow.drain()
        except TimeoutError:
            self.disconnected = True
            self.transport.abort()

    def _start(self, status: int, headers: HeaderLines, length: int) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        self.chunked_encoding = False
        self.expected_content_length = 0 if self.scope["method"] == "HEAD" else length
        if headers.closes:
            self.keep_alive = False
        parts = [STATUS_LINE[status]]
        parts += [b"%b: %b\r\n" % pair for pair in self.default_headers]
        parts.append(headers.lines)
        parts.append(b"\r\n" if self.keep_alive or headers.closes else b"connection: close\r\n\r\n")
        self._head = b"".join(parts)

    async def _send_body(self, message: ASGISendEvent) -> None:
        """Send the head with the first part of the body."""
        if self.disconnected:
            self._head = b""
            return
        if message["type"] != "http.response.body":
            raise RuntimeError(f"Expected the body of an answer, but got {message['type']!r}.")
        body = b"" if self.scope["method"] == "HEAD" else message.get("body", b"")
        self._write_body(body, more=message.get("more_body", False))

    def _write_body(self, body: bytes, *, more: bool) -> None:
        head, self._head = self._head, b""
        self.expected_content_length -= len(body)
        if self.expected_content_length < 0:
            raise RuntimeError("The body of an answer is longer than its Content-Length.")
        if len(body) > _COPIED_BYTES:
            self.transport.writelines((head, body))
        else:
            self.transport.write(head + body)
        if not more:
            if self.expected_content_length:
                raise RuntimeError("The body of an answer is shorter than its Content-Length.")
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()
