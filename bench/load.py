"""A load generator: so many connections, each sending the next request when the answer is there.

Runs as a program of its own, so that it does not share a server's process: `python bench/load.py`
takes a Load as JSON from each line of its standard input and answers with one JSON line.
Speaks just enough HTTP/1.1 for a server that answers with Content-Length.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

#: Replaced by a number of the same length that no other request has.
UNIQUE = b"@@@@@@@@@@@@"
#: How long answers to what was sent may be waited for after the time is up.
PATIENCE_SECONDS = 30.0


@dataclass(slots=True, kw_only=True)
class Load:
    """What to send, and how."""

    host: str
    port: int
    requests: list[list[bytes]]  # sent in turn, complete with head and body, cut where UNIQUE stood
    connections: int
    seconds: float
    status: int = 200  # of a good answer
    first: int = 0  # the first number for UNIQUE


@dataclass(slots=True)
class Tally:
    """What came back."""

    number: int  # the next one for UNIQUE
    answers: int = 0
    failures: int = 0
    refusal: str = ""  # the last answer that was not as expected
    latencies: list[float] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One connection of the load."""

    def __init__(self, load: Load, tally: Tally, first: int, deadline: float) -> None:
        self.load = load
        self.tally = tally
        self.next = first
        self.deadline = deadline
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.expected = b"HTTP/1.1 %d " % load.status
        self.buffer = b""
        self.needed = 0  # length of the whole answer; 0 while its head is incomplete
        self.transport: asyncio.Transport | None = None
        self.sent_at = 0.0
        self.waits = False  # for an answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's has the methods, not the class
        self.send()

    def send(self) -> None:
        assert self.transport is not None
        self.sent_at = time.perf_counter()
        if self.sent_at >= self.deadline:
            self.transport.close()
            return
        requests = self.load.requests
        parts = requests[self.next % len(requests)]
        self.next += self.load.connections
        self.waits = True
        self.transport.write(parts[0] if len(parts) == 1 else self._numbered(parts))

    def _numbered(self, parts: list[bytes]) -> bytes:
        number = self.tally.number
        self.tally.number = number + len(parts) - 1
        pieces = [parts[0]]
        for part in parts[1:]:
            pieces += (b"%012d" % number, part)
            number += 1
        return b"".join(pieces)

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer = self.buffer + data if self.buffer else data
        if not self.needed:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = buffer[:end].lower()
            at = head.find(b"content-length:")
            self.needed = end + 4 + (int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0)
        if len(buffer) < self.needed:
            return
        if buffer.startswith(self.expected):
            self.tally.answers += 1
            self.tally.latencies.append(time.perf_counter() - self.sent_at)
        else:
            self.tally.failures += 1
            self.tally.refusal = buffer[:700].decode("latin-1")
        self.buffer, self.needed, self.waits = b"", 0, False
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if self.waits:
            self.tally.failures += 1
            self.tally.refusal = f"the connection was closed: {error}"
        if not self.done.done():
            self.done.set_result(None)


async def run(load: Load) -> dict[str, float | str]:
    """Send until the time is up; return requests per second and latencies in milliseconds."""
    tally = Tally(load.first)
    started = time.perf_counter()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(
            lambda first=first: Connection(load, tally, first, started + load.seconds),  # type: ignore[misc]
            load.host,
            load.port,
        )
        for first in range(load.connections)
    ]
    ended = asyncio.gather(*(protocol.done for _, protocol in made))
    await asyncio.wait_for(ended, load.seconds + PATIENCE_SECONDS)
    elapsed = time.perf_counter() - started
    ordered = sorted(tally.latencies) or [0.0]
    return {
        "answers": tally.answers,
        "perSecond": tally.answers / elapsed,
        "failures": tally.failures,
        "refusal": tally.refusal,
        "next": tally.number,
        "p50Ms": ordered[len(ordered) // 2] * 1000,
        "p99Ms": ordered[int(len(ordered) * 0.99)] * 1000,
    }


def loaded(asked: dict[str, Any]) -> Load:
    """Return a load that was given as JSON, its requests as text."""
    return Load(**asked | {"requests": [text.encode().split(UNIQUE) for text in asked["requests"]]})


def main() -> None:
    """Serve loads until the standard input ends."""
    for line in sys.stdin:
        print(json.dumps(uvloop.run(run(loaded(json.loads(line))))), flush=True)


if __name__ == "__main__":
    main()
