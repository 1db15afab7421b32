"""What the parser of HTTP cannot read is refused like everything else: worded, logged, closed."""

from __future__ import annotations

import json
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_server import Served, received

GET = b"GET /pid HTTP/1.1\r\nHost: a\r\n"
LONG_ADDRESS = b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
UNREADABLE = {
    "both lengths": GET + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": GET + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "signed length": GET + b"Content-Length: +4\r\n\r\nabcd",
    "blank before the colon": GET + b"X-A : a\r\n\r\n",
    "folded header": GET + b"X-A: a\r\n b\r\n\r\n",
    "NUL in a header": GET + b"X-A: a\0b\r\n\r\n",
    "unknown method": b"get /pid HTTP/1.1\r\nHost: a\r\n\r\n",
    "a handshake of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/0.9": b"GET /pid\r\n\r\n",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for tests that neither end it nor look into its log."""
    found = Served(tmp_path_factory.mktemp("served"), {})
    yield found
    found.close()


def test_it_is_answered_in_the_envelope_logged_in_one_line_and_closed(tmp_path: Path) -> None:
    served = Served(tmp_path, {})
    try:
        for name, data in UNREADABLE.items():
            reply = served.send(data)
            head, _, body = reply.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 "), name
            assert b"x-content-type-options: nosniff" in head.lower(), name
            assert json.loads(body)["error"]["code"] == "malformed_request", name
        assert served.get("/pid")[0] == 200
    finally:
        served.process.terminate()
        lines = [json.loads(line) for line in served.process.communicate(timeout=60)[0].splitlines()]
    requests = [line["status"] for line in lines if line.get("logger") == "byodpp.access"]
    assert requests == [400] * len(UNREADABLE) + [200]


@pytest.mark.parametrize("tail", [b"XX", b"-1\r\n"])
def test_a_body_that_becomes_unreadable_ends_the_connection(served: Served, tail: bytes) -> None:
    head = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    reply = served.send(head, b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}", tail)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nx-request-id: " in reply and b"\r\nconnection: close\r\n" in reply
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"] == "malformed_request"
    assert served.get("/pid")[0] == 200


def test_a_head_that_is_too_large_is_told_by_its_part(served: Served) -> None:
    for data, status, code in (
        (GET + b"X-A: " + b"a" * 400_000, b"431", "headers_too_large"),
        (LONG_ADDRESS, b"414", "uri_too_long"),
        (b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\n"
         b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"400", "malformed_request"),
    ):  # fmt: skip
        head, _, body = served.send(data).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status), head
        assert json.loads(body)["error"]["code"] == code
    assert served.get("/pid")[0] == 200


def test_a_body_over_the_limit_that_stalls_is_refused_within_seconds(tmp_path: Path) -> None:
    served = Served(tmp_path, {"max_body_bytes": 1000})
    try:
        head = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        before = time.monotonic()
        reply = served.send(head, b"Transfer-Encoding: chunked\r\n\r\n5dc\r\n" + b" " * 1500 + b"\r\n")
        assert reply.startswith(b"HTTP/1.1 413 ") and time.monotonic() - before < 6
    finally:
        served.close()


def test_who_has_shut_his_side_is_answered_all_the_same(served: Served) -> None:
    get = b"GET /slow/0.2 HTTP/1.1\r\nHost: a\r\n\r\n"
    post = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{}"
    for sent, answers in (
        (get, 1),
        (post % 2, 1),
        (get + get + post % 2, 3),
        (get + post % 3, 1),  # what is not complete never will be
        (post % 3, 0),
        (get[:-2], 0),
        (b"", 0),
    ):
        with served.connect() as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            assert received(connection).count(b"HTTP/1.1 200 ") == answers, sent


def test_what_nobody_can_read_costs_the_request_before_it_no_answer(served: Served) -> None:
    for head in (b"", b"Transfer-Encoding: chunked\r\n"):
        sent = b"GET /slow/0.2 HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\x00\x01"
        reply = served.send(sent)
        assert reply.count(b"HTTP/1.1 ") == 1 and reply.startswith(b"HTTP/1.1 200 "), reply


def test_a_client_that_goes_while_it_is_answered_leaves_no_trace_but_its_line(tmp_path: Path) -> None:
    served = Served(tmp_path, {})
    try:
        for path in (b"/slow/0.2", b"/forever"):
            for times in (1, 2):
                for abruptly in (False, True):
                    connection = served.connect()
                    connection.sendall(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path * times)
                    if path == b"/forever":
                        assert connection.recv(1), "it has begun"
                    else:
                        assert served.get("/pid")[0] == 200  # who came before is being answered by then
                    if abruptly:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()
        time.sleep(0.5)
        assert served.get("/pid")[0] == 200
    finally:
        served.process.terminate()
        lines = [json.loads(line) for line in served.process.communicate(timeout=60)[0].splitlines()]
    assert {line["logger"] for line in lines} == {"byodpp.access"}, lines
    assert len([line for line in lines if line["path"] == "/forever"]) >= 4, "every one has ended"


def test_a_stop_that_cannot_wait_is_told_in_the_envelope(tmp_path: Path) -> None:
    served = Served(tmp_path, {"shutdown_grace_seconds": 4.9})
    try:
        with served.connect() as connection:
            connection.sendall(b"GET /slow/60 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert served.get("/pid")[0] == 200  # who came before is being answered by then
            served.process.send_signal(signal.SIGTERM)
            head, _, body = received(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ") and b"\r\nretry-after: " in head
        assert json.loads(body)["error"]["code"] == "unavailable"
    finally:
        served.process.terminate()
        output = served.process.communicate(timeout=60)[0]
    assert "Traceback" not in output
