"""HTTP/1.1 as uvicorn speaks it, with two things of our own.

What the parser cannot read is handed to the application, so that the refusal is worded and logged
like any other. And an answer whose headers are `HeaderLines` goes out in one piece: uvicorn would look
at every header once more, and write head and body by a system call each.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from byodpp.header_lines import HeaderLines

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

__all__ = ["HttpProtocol"]

#: A larger body is not copied behind its head.
_COPIED_BYTES: Final = 65_536


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _refused = False

    def data_received(self, data: bytes) -> None:
        """Read on, unless what came before could not be read."""
        if not self._refused:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Hand the application a request of no known version; it refuses that, and the connection closes."""
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            super().send_400_response(msg)  # the fault lies in a body that is being read
            return
        self.on_message_begin()
        unread = {"method": "?", "path": "/", "raw_path": b"/", "query_string": b"", "http_version": "?"}
        self.scope.update(unread)  # type: ignore[typeddict-item]
        self.headers.clear()
        self.cycle = self._cycle(keep_alive=False)
        self.cycle.more_body = False
        self._start_asgi_task(self.cycle, self.app)

    def on_headers_complete(self) -> None:
        """Start the application; as uvicorn does, but for what is never set here."""
        parser, scope = self.parser, self.scope
        http_version = parser.get_http_version()
        scope["method"] = parser.get_method().decode("ascii")
        if http_version != "1.1":
            scope["http_version"] = http_version
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
        return _Cycle(
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


class _Cycle(RequestResponseCycle):
    """One request and its answer."""

    _head = b""  # of the answer, until its body is there

    async def send(self, message: ASGISendEvent) -> None:
        """Send a part of the answer."""
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
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        head, self._head = self._head, b""
        if self.disconnected:
            return
        if message["type"] != "http.response.body":
            raise RuntimeError(f"Expected the body of an answer, but got {message['type']!r}.")
        body = b"" if self.scope["method"] == "HEAD" else message.get("body", b"")
        self.expected_content_length -= len(body)
        if self.expected_content_length < 0:
            raise RuntimeError("The body of an answer is longer than its Content-Length.")
        if len(body) > _COPIED_BYTES:
            self.transport.writelines((head, body))
        else:
            self.transport.write(head + body)
        if not message.get("more_body", False):
            if self.expected_content_length:
                raise RuntimeError("The body of an answer is shorter than its Content-Length.")
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()
