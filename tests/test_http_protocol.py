"""Answers on the wire: one piece each, and nothing that a header could smuggle in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from byodpp.header_lines import HeaderLines, StandingHeaders, header_line
from byodpp.http_protocol import HttpProtocol
from byodpp.requests import WHOLE_ANSWER, WHOLE_BODY
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
async def serving(app: App, **options: Any) -> AsyncIterator[tuple[uvicorn.Server, tuple[str, int]]]:
    """Serve an application; yield the server and its address."""
    protocol: Any = partial(HttpProtocol, **options)  # uvicorn only ever calls it
    config = uvicorn.Config(app, http=protocol, ws="none", lifespan="off", log_config=None, date_header=False)
    config.server_header = False
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield server, listener.getsockname()
        finally:
            server.should_exit = True
            await running


@asynccontextmanager
async def served(app: App) -> AsyncIterator[Callable[[bytes], Awaitable[bytes]]]:
    """Serve an application; yield what sends bytes on a new connection and reads to its end."""
    async with serving(app) as (_, address):

        async def exchange(sent: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(sent)
            try:
                return await asyncio.wait_for(reader.read(), 5)
            finally:
                writer.close()

        yield exchange


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


async def test_a_body_that_lies_behind_its_head_is_there_at_once_and_never_twice() -> None:
    found: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        whole = scope[WHOLE_BODY]
        while True:
            body = whole()
            found.append(body)
            if body is not None:
                break
            message = await receive()
            found.append((message["body"], message["more_body"]))
            if not message["more_body"]:
                break
        again = asyncio.ensure_future(receive())
        await asyncio.sleep(0.05)
        found.append(again.done())
        await answering(200, lines(1), b"a")(scope, receive, send)
        found.append((await again)["type"])

    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n"
    async with served(app) as exchange:
        await exchange(head + b"\r\nabc")
        assert found == [b"abc", False, "http.disconnect"]
        found.clear()
        # Asked for before it is sent: whoever waits for it is told to go on.
        await exchange(head + b"Expect: 100-continue\r\n\r\nabc")
        assert found == [None, (b"abc", False), False, "http.disconnect"]


async def test_a_whole_answer_is_sent_at_once_and_only_as_the_first_and_last_thing() -> None:
    found: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        whole = scope[WHOLE_ANSWER]
        body = b"" if scope["method"] == "HEAD" else b"abcdef"
        found.append(whole(200, lines(6), body))
        found.append(whole(200, lines(6), body))

    expected = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nabcdef"
    async with served(app) as exchange:
        assert await exchange(request()) == expected
        assert await exchange(request("HEAD")) == expected[:-6]
    assert found == [True, False] * 2

    async def started(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": lines(6)})
        found.append(scope[WHOLE_ANSWER](200, lines(1), b"x"))
        await send({"type": "http.response.body", "body": b"abcdef"})

    async with served(started) as exchange:
        assert await exchange(request()) == expected
    assert found[-1] is False

    async def empty(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(scope[WHOLE_ANSWER](204, HeaderLines(b"x: y\r\n"), b""))

    async with served(empty) as exchange:
        assert await exchange(request()) == b"HTTP/1.1 204 No Content\r\nx: y\r\nconnection: close\r\n\r\n"
    assert found[-1] is True


async def test_a_whole_answer_of_another_length_than_announced_breaks_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[WHOLE_ANSWER](200, lines(6), b"abcdefgh")

    async with served(app) as exchange:
        assert await exchange(request()) == b""


async def test_a_connection_is_closed_so_long_after_its_last_answer_however_many_there_were() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1.3 if scope["path"] == "/slow" else 0)
        await answering(200, lines(1), b"a")(scope, receive, send)

    loop = asyncio.get_running_loop()
    async with connected(app) as connect:
        reader, writer = await connect()
        for path in ("/", "/", "/", "/slow", "/"):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\na"), 5), path
            answered = loop.time()
            await asyncio.sleep(0.4)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert 0.9 < loop.time() - answered < 3
        writer.close()


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


# --- clients that are slow, or never come to an end -----------------------------------------


@asynccontextmanager
async def connected(app: App, **limits: Any) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """Serve an application; yield what opens a connection (reader, writer)."""
    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None, timeout_keep_alive=1)
    config.http = partial(HttpProtocol, **limits)  # type: ignore[assignment]
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        running = asyncio.create_task(server.serve(sockets=[listener]))
        writers: list[asyncio.StreamWriter] = []

        async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writers.append(writer)
            return reader, writer

        try:
            yield connect
        finally:
            for writer in writers:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
            server.should_exit = True
            await running


async def telling(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what was understood, without reading a body."""
    told = f"{scope['http_version']} {len(scope['headers'])} {len(scope['raw_path'])}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": lines(len(told))})
    await send({"type": "http.response.body", "body": told})


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def endless(connection: Any, piece: bytes) -> int:
    """Send a piece over and over until the other side ends it; return the bytes that went out."""
    reader, writer = connection
    sent = 0
    answered = asyncio.create_task(reader.read())
    with suppress(ConnectionError):
        while not answered.done() and sent < 200_000_000:
            writer.write(piece)
            await asyncio.sleep(0)
            await writer.drain()
            sent += len(piece)
    answered.cancel()
    return sent


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ", b"a" * 8192),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b"a" * 8192),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X-A: b\r\n" * 1024),
        (b"GET /", b"a" * 8192),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"2000\r\n" + b"a" * 8192 + b"\r\n",
        ),
    ],
    ids=["a header", "a header's name", "headers", "an address", "a body after its answer"],
)
async def test_what_never_ends_is_ended(begin: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byodpp.http_protocol._PATIENCE_SECONDS", 0.2)
    async with connected(telling, max_head_bytes=10_000) as connect:
        connection = await connect()
        connection[1].write(begin)
        async with asyncio.timeout(8):
            assert await endless(connection, piece) < 200_000_000


async def test_a_head_that_is_too_large_or_too_slow_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(telling, max_head_bytes=10_000) as connect:
        for sent, told, seconds in (
            (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 300_000, b"large head", 30.0),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", b"slow head", 0.3),
            (b"get / HTTP/1.1\r\n\r\n", b"unreadable", 30.0),
        ):
            monkeypatch.setattr("byodpp.http_protocol._HEAD_SECONDS", seconds)
            reader, writer = await connect()
            writer.write(sent)
            answer = await asyncio.wait_for(reader.read(), 5)
            assert told in answer and b"connection: close" in answer


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with connected(telling) as connect:
        for said in (b"", b"\r\n\r\n"):
            reader, writer = await connect()
            writer.write(said)
            assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_fields_after_a_body_are_no_headers_of_the_request() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        seen.append(list(scope["headers"]))
        await telling(scope, receive, send)

    head = CHUNKED + b"1\r\na\r\n0\r\n"
    async with connected(app) as connect:
        reader, writer = await connect()
        for _ in range(2):
            writer.write(head + b"Authorization: Bearer x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
            assert b"1.1 2 1" in await asyncio.wait_for(reader.readuntil(b"1.1 2 1"), 5)
    assert seen == [[(b"host", b"a"), (b"transfer-encoding", b"chunked")]] * 2


async def test_blanks_around_the_value_of_a_header_are_no_part_of_it() -> None:
    """RFC 9110, 5.5: a token with a blank behind it, as scripts send it, is that token."""
    seen: list[tuple[bytes, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with served(app) as exchange:
        head = b"GET / HTTP/1.1\r\nHost:x\r\nAuthorization: \t Bearer a  b\t \r\nX-Empty:  \r\n"
        assert b" 204 " in await exchange(head + b"Connection: close\r\n\r\n")
    assert seen[:3] == [(b"host", b"x"), (b"authorization", b"Bearer a  b"), (b"x-empty", b"")]


async def test_an_address_that_the_parser_cannot_take_arrives_whole() -> None:
    async with connected(telling) as connect:
        reader, writer = await connect()
        writer.write(b"GET /" + b"a" * 70_000 + b"?b=c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 5)).endswith(b"1.1 2 70005")


async def test_a_connection_lives_on_after_a_body_that_nobody_read() -> None:
    async with connected(telling) as connect:
        reader, writer = await connect()
        for _ in range(3):
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
            assert b"1.1 2 1" in await asyncio.wait_for(reader.readuntil(b"1.1 2 1"), 5)
            writer.write(b"cd")


async def test_a_client_that_reads_nothing_of_a_long_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byodpp.http_protocol._STALLED_SECONDS", 0.3)
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HeaderLines(b"x: y\r\n")})
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                for _ in range(100):
                    await send({"type": "http.response.body", "body": b"a" * 1_000_000, "more_body": True})
                await receive()
                ended.set_result((await receive())["type"])

    async with connected(endless) as connect:
        _, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await asyncio.wait_for(ended, 8) == "http.disconnect"


async def test_a_stream_that_is_silent_does_not_wait_for_a_client_that_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("byodpp.http_protocol._SILENT_SECONDS", 0.2)
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": HeaderLines(b"x: y\r\n")})
        await send({"type": "http.response.body", "body": b"tick", "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                ended.set_result((await receive())["type"])

    async with connected(silent) as connect:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"tick"), 5)
        writer.close()
        assert await asyncio.wait_for(ended, 8) == "http.disconnect"


# --- stop -------------------------------------------------------------------------------

ASKED = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWERED = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n"


async def connections(server: uvicorn.Server) -> list[HttpProtocol]:
    """Wait until a connection has been accepted."""
    async with asyncio.timeout(5):
        while not server.server_state.connections:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)
    return [protocol for protocol in server.server_state.connections if isinstance(protocol, HttpProtocol)]


@pytest.mark.parametrize("already", [b"", ASKED[:20]], ids=["nothing", "half a head"])
@pytest.mark.parametrize("before", [0, 1])
async def test_a_request_that_arrives_while_the_server_stops_is_answered(already: bytes, before: int) -> None:
    async with serving(answering(200, lines(1), b"a")) as (server, address):
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(before):
            writer.write(ASKED)
            assert await asyncio.wait_for(reader.readexactly(len(ANSWERED) + 3), 5) == ANSWERED + b"\r\na"
        writer.write(already)
        for protocol in await connections(server):
            protocol.shutdown()
        writer.write(ASKED[len(already) :])
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert answer == ANSWERED + b"connection: close\r\n\r\na"


@pytest.mark.parametrize(("sent", "status"), [(b"", b""), (ASKED[:20], b"HTTP/1.1 200 OK")])
async def test_a_connection_that_asks_nothing_does_not_hold_up_a_stop(sent: bytes, status: bytes) -> None:
    """What the application answers to a head without end is its own affair: here 200."""
    async with serving(answering(200, lines(1), b"a")) as (server, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(sent)
        for protocol in await connections(server):
            await asyncio.sleep(0.05)  # what has been sent is read
            protocol.shutdown()
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert answer.startswith(status) and bool(answer) == bool(status)


async def test_a_connection_that_comes_during_a_stop_gets_one_answer() -> None:
    async with serving(answering(200, lines(1), b"a"), stopping=lambda: True) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(ASKED)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        unasked, silent = await asyncio.open_connection(*address)
        assert await asyncio.wait_for(unasked.read(), 5) == b""
        silent.close()
    assert answer == ANSWERED + b"connection: close\r\n\r\na"
