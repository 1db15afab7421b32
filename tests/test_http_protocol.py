"""Answers on the wire: one piece each, and nothing that a header could smuggle in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from byodpp.header_lines import HeaderLines, StandingHeaders, header_line
from byodpp.http_protocol import HttpProtocol
from byodpp.server import listen

App = Callable[[Scope, Receive, Send], Awaitable[None]]


def test_a_header_is_written_once_and_read_as_pairs() -> None:
    headers = HeaderLines(header_line("ETag", '"a: b"') + header_line("X-Note", "ü"), content_length=3)
    assert list(headers) == [(b"etag", b'"a: b"'), (b"x-note", b"\xfc")]
    assert (len(headers), headers[0], headers[1:]) == (2, (b"etag", b'"a: b"'), [(b"x-note", b"\xfc")])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "a\r\nSet-Cookie: b"),
        ("X", "a\nb"),
        ("X", "a\0"),
        ("X: y", "a"),
        ("X\r\n", "a"),
        ("", "a"),
        ("ü", "a"),
    ],
)
def test_nobodys_data_become_a_header(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="header"):
        header_line(name, value)


def test_an_answers_own_header_takes_the_place_of_a_standing_one() -> None:
    standing = StandingHeaders([(b"a", b"1"), (b"b", b"2")])
    assert standing.lines(frozenset()) == b"a: 1\r\nb: 2\r\n"
    for _ in range(2):  # the second time it is remembered
        assert standing.lines({b"b", b"c"}) == b"a: 1\r\n"
    assert standing.lines({b"a", b"b"}) == b""


@asynccontextmanager
async def served(app: App) -> AsyncIterator[Callable[[bytes], Awaitable[bytes]]]:
    """Serve an application; yield what sends bytes on a new connection and reads to its end."""
    config = uvicorn.Config(
        app, http=HttpProtocol, ws="none", lifespan="off", log_config=None, date_header=False
    )
    config.server_header = False
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        running = asyncio.create_task(server.serve(sockets=[listener]))

        async def exchange(sent: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(sent)
            try:
                return await asyncio.wait_for(reader.read(), 5)
            finally:
                writer.close()

        try:
            yield exchange
        finally:
            server.should_exit = True
            await running


def answering(status: int, headers: HeaderLines, *bodies: bytes) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, body in enumerate(bodies, 1):
            await send({"type": "http.response.body", "body": body, "more_body": number < len(bodies)})

    return app


def request(method: str = "GET", version: str = "1.1") -> bytes:
    return f"{method} /%C3%BC?a=1 HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n".encode()


def lines(length: int, *more: bytes, **options: Any) -> HeaderLines:
    return HeaderLines(b"content-length: %d\r\n" % length + b"".join(more), content_length=length, **options)


async def test_head_and_body_are_written_at_once_or_in_parts_alike() -> None:
    expected = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nabcdef"
    for bodies in ((b"abcdef",), (b"abc", b"def"), (b"", b"abcdef"), (b"abcdef", b"")):
        async with served(answering(200, lines(6), *bodies)) as exchange:
            assert await exchange(request()) == expected
            assert await exchange(request(version="1.0")) == expected
            assert await exchange(request("HEAD")) == expected[:-6]


async def test_a_large_body_arrives_whole() -> None:
    body = b"0123456789" * 200_000
    async with served(answering(200, lines(len(body)), body)) as exchange:
        head, _, received = (await exchange(request())).partition(b"\r\n\r\n")
    assert received == body and b"content-length: 2000000" in head


async def test_an_answer_without_a_body_has_no_length() -> None:
    async with served(answering(204, HeaderLines(b"x: y\r\n"), b"")) as exchange:
        assert await exchange(request()) == b"HTTP/1.1 204 No Content\r\nx: y\r\nconnection: close\r\n\r\n"


async def test_what_has_no_length_is_sent_in_chunks() -> None:
    async with served(answering(200, HeaderLines(b"x: y\r\n"), b"ab", b"c", b"")) as exchange:
        answer = await exchange(request())
    assert answer.endswith(b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")


async def test_headers_of_others_are_taken_as_ever() -> None:
    async with served(answering(200, [(b"X-Other", b"1"), (b"content-length", b"1")], b"a")) as exchange:  # type: ignore[arg-type]
        assert b"x-other: 1\r\n" in (answer := await exchange(request())) and answer.endswith(b"\r\n\r\na")


@pytest.mark.parametrize("bodies", [(b"abc",), (b"abcde", b"fgh")], ids=["shorter", "longer"])
async def test_a_body_of_another_length_than_announced_is_cut(bodies: tuple[bytes, ...]) -> None:
    async with served(answering(200, lines(6), *bodies)) as exchange:
        _, _, body = (await exchange(request())).partition(b"\r\n\r\n")
    assert len(body) < 6


async def test_an_answer_may_end_the_connection_and_pipelined_requests_are_answered_in_order() -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["path"])
        await asyncio.sleep(0.01 if scope["path"] == "/1" else 0)
        more = (b"connection: close\r\n",) if scope["path"] == "/3" else ()
        body = scope["path"].encode()
        await answering(200, lines(2, *more, closes=bool(more)), body)(scope, receive, send)

    sent = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in (1, 2, 3))
    async with served(app) as exchange:
        answer = await exchange(sent)
    assert [answer.find(b"\r\n\r\n/%d" % number) > 0 for number in (1, 2, 3)] == [True] * 3
    assert seen == ["/1", "/2", "/3"] and answer.count(b"connection: close") == 1


async def test_an_application_that_stops_between_head_and_body_breaks_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": lines(3)})

    async with served(app) as exchange:
        assert await exchange(request()) == b""
