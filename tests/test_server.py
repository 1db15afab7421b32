"""The server over real sockets: what reaches the application, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from byodpp.exceptions import StartError
from byodpp.server import address, listen

ROOT = Path(__file__).resolve().parent.parent
Start = Callable[..., "Served"]


class Served:
    """A running server."""

    def __init__(self, app_dir: Path, options: dict[str, Any]) -> None:
        self.app_dir = app_dir
        arguments = {"app_dir": str(app_dir), "port": 0} | options
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.served_application", json.dumps(arguments)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = urlsplit(self.process.stdout.readline().strip()).port or 0

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def send(self, *parts: bytes) -> bytes:
        """Send bytes over a connection of their own and return all that comes back."""
        with self.connect() as connection:
            connection.sendall(b"".join(parts))
            return received(connection)

    def get(self, path: str) -> tuple[int, Any]:
        reply = self.send(b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())
        head, _, body = reply.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)

    def pid(self) -> int:
        return int(self.get("/pid")[1]["data"]["pid"])

    def end(self, *, within: float) -> tuple[int, float]:
        """Wait for the end; return exit status and seconds."""
        start = time.monotonic()
        status = self.process.wait(timeout=within)
        return status, time.monotonic() - start

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=12)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.communicate()


def received(connection: socket.socket) -> bytes:
    """Read until the other side closes."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def until(condition: Callable[[], object], within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def begun(served: Served) -> None:
    """Wait until the request for `/slow` or `/block` runs."""
    until((served.app_dir / "begun").exists)


def refuses(served: Served) -> bool:
    """Whether nobody listens any more; whoever is connected already may still be answered."""
    try:
        served.connect().close()
    except OSError:
        return True
    return False


def seen(served: Served, pids: set[int]) -> set[int]:
    """Ask once more which process answers, and return all that did so far."""
    try:
        pids.add(served.pid())
    except (ConnectionResetError, IndexError):
        pass  # accepted by a process that was killed before it answered
    return pids


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(**options: Any) -> Served:
            served = Served(tmp_path, options)
            stack.callback(served.close)
            return served

        yield started


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("app"), {"max_body_bytes": 1_000_000})
    yield served
    served.close()


END = b"Host: a\r\nConnection: close\r\n\r\n"


# --- what arrives -----------------------------------------------------------------------


def test_it_answers_without_telling_what_it_is(served: Served) -> None:
    reply = served.send(b"GET /pid HTTP/1.1\r\n", END)
    assert reply.startswith(b"HTTP/1.1 200")
    assert b"\r\nserver:" not in reply.lower() and b"uvicorn" not in reply.lower()
    assert reply.lower().count(b"\r\nx-request-id:") == 1


@pytest.mark.parametrize(
    "head",
    [
        b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n{}",
        b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n{}",
        b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5;x\r\n{}\r\n0\r\n\r\n",
        b"GET /pid HTTP/1.1\r\nHost: a\r\nX-A: b\r\n folded\r\n\r\n",
        b"GET /pid HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /pid HTTP/1.1\r\nHost: a\r\nX-A: a\0b\r\n\r\n",
        b"GET /pid HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /pid HTTP/1.1\r\nHost: b\r\n" + END,
        b"GET /echo/a\x00b HTTP/1.1\r\n" + END,
        b"GET /echo/%00 HTTP/1.1\r\n" + END,
        b"FOO /pid HTTP/1.1\r\n" + END,
        b"CONNECT a:1 HTTP/1.1\r\n" + END,
        b"garbage\r\n\r\n",
    ],
)
def test_what_is_not_proper_http_is_refused(served: Served, head: bytes) -> None:
    with served.connect() as connection:
        connection.sendall(head)
        connection.shutdown(socket.SHUT_WR)
        reply = received(connection)
    assert re.match(rb"HTTP/1.1 4(00|05)", reply), reply[:200]
    assert reply.count(b"HTTP/1.1") == 1
    assert served.process.poll() is None


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://other.example/pid", 200),
        (b"*", 404),
        (b"/echo/\xff", 400),
        (b"/echo/\xc3\xa9", 200),
        (b"/echo/%ff", 400),
        (b"/echo/%2e%2e", 400),
        (b"//pid", 404),
        (b"/pid/", 404),
        (b"/pid/../pid", 400),
        (b"/echo/a%2Fb", 200),
        (b"/" + b"a" * 20_000, 414),
    ],
)
def test_strange_targets_get_their_answer_and_never_a_500(served: Served, target: bytes, status: int) -> None:
    reply = served.send(b"GET ", target, b" HTTP/1.1\r\n", END)
    got = int(reply.split()[1])
    # Whether bytes outside ASCII reach us at all is the parser's affair; they may be refused by it.
    assert got == status or (got == 400 and max(target) > 127)


def test_large_and_many_headers_are_refused(served: Served) -> None:
    assert b" 431 " in served.send(b"GET /pid HTTP/1.1\r\nX-Large: ", b"a" * 60_000, b"\r\n", END)[:20]
    assert b" 431 " in served.send(b"GET /pid HTTP/1.1\r\n", b"X: y\r\n" * 400, END)[:20]


def test_a_body_announced_as_too_large_is_refused_before_it_is_sent(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n")
        connection.sendall(b"Content-Length: 9000000\r\n\r\n")
        assert b" 413 " in connection.recv(65_536)[:20]


def test_a_body_slightly_too_large_is_refused_so_that_the_client_hears_it(served: Served) -> None:
    body = b"[" + b"1," * 600_000 + b"1]"
    head = b"POST /body HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    assert b" 413 " in served.send(head, END, body)[:20]
    chunked = b"POST /body HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    pieces = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    assert b" 413 " in served.send(chunked, END, pieces)[:20]


def test_the_log_is_one_json_line_per_request(start: Start) -> None:
    served = start()
    served.send(b"GET /echo/%0d%0a%1b[2J?token=abc HTTP/1.1\r\nX-Request-ID: a b\r\n", END)
    served.get("/pid")
    served.process.terminate()
    output, _ = served.process.communicate(timeout=60)
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["path"] for line in lines] == ["/echo/%0d%0a%1b[2J", "/pid"]
    assert lines[0]["query"] == "token=[REDACTED]" and lines[0]["clientIp"] == "127.0.0.1"


# --- start ------------------------------------------------------------------------------


def test_an_address_in_use_is_explained() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            StartError, match=f"another program already listens on 127.0.0.1:{port}"
        ) as caught:
            listen("127.0.0.1", port)
        assert f"PORT={port + 1}" in str(caught.value)


async def test_no_piece_of_an_answer_waits_until_the_client_confirms_the_one_before() -> None:
    # Without the protocol's number asyncio leaves Nagle's algorithm on: 40 ms for an answer in two pieces.
    made: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    class Noting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            own = transport.get_extra_info("socket")
            made.set_result(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    with listen("127.0.0.1", 0) as listener:
        server = await asyncio.get_running_loop().create_server(Noting, sock=listener)
        async with server, asyncio.timeout(10):
            with socket.create_connection(listener.getsockname()):
                assert await made != 0


def test_an_address_that_is_not_ours_is_explained() -> None:
    with pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1:0"):
        listen("192.0.2.1", 0)
    with listen("0.0.0.0", 0) as everywhere:
        assert address(everywhere).startswith("http://127.0.0.1:")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_application_that_cannot_start_says_why_and_ends(
    start: Start, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "broken.json").touch()
    served = start(workers=workers)
    assert served.end(within=60)[0] == 1
    errors = served.process.stderr
    assert errors is not None
    told = errors.read()
    assert "broken.json: is there" in told and "Traceback" not in told


# --- stop -------------------------------------------------------------------------------


def test_a_stop_lets_running_requests_finish_and_refuses_new_ones(start: Start) -> None:
    served = start()
    with served.connect() as running:
        running.sendall(b"GET /slow/1.5 HTTP/1.1\r\nHost: a\r\n\r\n")
        begun(served)
        served.process.send_signal(signal.SIGTERM)
        until(partial(refuses, served))
        assert b'"done"' in received(running)
    status, _ = served.end(within=30)
    assert status == 0
    assert len(list(served.app_dir.glob("closed-*"))) == 1


def test_in_production_readiness_tells_of_the_stop_before_it_begins(start: Start) -> None:
    served = start(environment="stage", shutdown_grace_seconds=15)  # of which a fifth goes by in readiness
    assert served.get("/health/ready")[0] == 200
    served.process.send_signal(signal.SIGTERM)
    until(lambda: served.get("/health/ready")[0] == 503)
    assert served.get("/pid")[0] == 200
    status, seconds = served.end(within=30)
    assert status == 0 and seconds < 15  # when the grace ends, so does the process, and not with 0


def test_a_stream_without_end_does_not_hold_up_the_stop(start: Start) -> None:
    served = start(shutdown_grace_seconds=3.9)  # it is cut after one second, and the process after these
    with served.connect() as stream:
        stream.sendall(b"GET /forever HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"tick" in stream.recv(65_536) + stream.recv(65_536)
        served.process.send_signal(signal.SIGINT)
        status, seconds = served.end(within=30)
    assert status == 0 and seconds < 3.9
    assert len(list(served.app_dir.glob("closed-*"))) == 1


def ended_by_signal(served: Served) -> bool:
    """Send another signal: of two that come before the first is heard, a process hears one."""
    served.process.send_signal(signal.SIGTERM)
    return served.process.poll() is not None


@pytest.mark.parametrize("path", [b"/slow/30", b"/block/30"])
def test_a_second_signal_ends_it_within_a_second(start: Start, path: bytes) -> None:
    served = start()
    with served.connect() as running:
        running.sendall(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        begun(served)
        served.process.send_signal(signal.SIGTERM)
        since = time.monotonic()
        until(partial(ended_by_signal, served))
    assert time.monotonic() - since < 9  # below the grace of ten, on a busy machine, too; alone it is below 1


# --- several processes ------------------------------------------------------------------


def test_several_processes_share_the_work_and_a_dead_one_is_replaced(start: Start) -> None:
    served = start(workers=2)
    pids: set[int] = set()
    until(lambda: len(seen(served, pids)) == 2)
    victim = min(pids)
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(seen(served, pids)) == 3)
    served.process.send_signal(signal.SIGTERM)
    status, _ = served.end(within=30)
    assert status == 0
    assert not any(alive(pid) for pid in pids)


def test_processes_do_not_outlive_a_parent_that_was_killed(start: Start) -> None:
    served = start(workers=2)
    pids: set[int] = set()
    until(lambda: len(seen(served, pids)) == 2)
    served.process.kill()
    until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.slow
def test_a_changed_file_starts_the_application_anew(start: Start, tmp_path: Path) -> None:
    (tmp_path / "resources.json").write_text("{}")
    (tmp_path / "logics").mkdir()
    served = start(reload=True)
    first = served.pid()
    (tmp_path / "logics" / "new.py").write_text("x = 1")
    until(lambda: served.pid() != first)
    second = served.pid()
    (tmp_path / "broken.json").touch()
    until(lambda: not alive(second))
    time.sleep(1)
    assert served.process.poll() is None, "what cannot start waits for the next change"
    status, told = served.get("/pid")
    assert (status, told["success"], told["error"]["code"]) == (503, False, "unavailable")
    (tmp_path / "broken.json").unlink()
    until(lambda: served.get("/pid")[0] == 200)
    assert served.pid() not in (first, second)
