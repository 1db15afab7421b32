"""A load generator: so many connections, each sending the next request when the answer is there.

Runs as a program of its own, so that it does not share the server's process:
`python bench/load.py` takes the Load as JSON from its standard input and prints one JSON line.
Speaks just enough HTTP/1.1 for a server that answers with Content-Length.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import cast

import uvloop


@dataclass(slots=True, kw_only=True)
class Load:
    """What to send, and how."""

    host: str
    port: int
    requests: list[bytes]  # sent in turn, complete with head and body
    connections: int
    seconds: float
    status: int = 200  # of a good answer


@dataclass(slots=True)
class Tally:
    """What came back."""

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
        self.transport: asyncio.Transport | None = None
        self.sent_at = 0.0

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
        self.transport.write(requests[self.next % len(requests)])
        self.next += self.load.connections

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer = self.buffer + data if self.buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(buffer) < end + 4 + length:
            return
        if buffer.startswith(self.expected):
            self.tally.answers += 1
            self.tally.latencies.append(time.perf_counter() - self.sent_at)
        else:
            self.tally.failures += 1
            self.tally.refusal = buffer[:500].decode("latin-1")
        self.buffer = b""
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if self.sent_at < self.deadline:  # not closed by us, and an answer is missing
            self.tally.failures += 1
            self.tally.refusal = f"the connection was closed: {error}"
        if not self.done.done():
            self.done.set_result(None)


async def run(load: Load) -> dict[str, float | str]:
    """Send until the time is up; return requests per second and latencies in milliseconds."""
    tally = Tally()
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
    await asyncio.wait_for(asyncio.gather(*(protocol.done for _, protocol in made)), load.seconds + 30)
    elapsed = time.perf_counter() - started
    ordered = sorted(tally.latencies) or [0.0]
    return {
        "answers": tally.answers,
        "perSecond": tally.answers / elapsed,
        "failures": tally.failures,
        "refusal": tally.refusal,
        "p50Ms": ordered[len(ordered) // 2] * 1000,
        "p99Ms": ordered[int(len(ordered) * 0.99)] * 1000,
    }


def main() -> None:
    """Read the load from standard input, print the result."""
    asked = json.load(sys.stdin)
    asked["requests"] = [text.encode() for text in asked["requests"]]
    print(json.dumps(uvloop.run(run(Load(**asked)))))


if __name__ == "__main__":
    main()
