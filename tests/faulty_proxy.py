"""A way to another server that can be cut, slowed, or taken over by somebody who answers rubbish."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

__all__ = ["FaultyProxy", "faulty_proxy"]


@dataclass
class FaultyProxy:
    """What happens to a connection is decided when it is opened, and when a request comes."""

    port: int
    connections: int = 0
    requests: list[str] = field(default_factory=list)  # first lines, as far as they were read
    delay: float = 0.0  # before a request is passed on
    refuse: bool = False  # close every connection at once
    answer: bytes | None = None  # sent instead of passing the request on
    answers: dict[str, bytes] = field(default_factory=dict)  # the same, by a part of the first line
    cut_at: int = 0  # number of the connection that is cut, the first one being 1
    cut_after: bool = False  # whether its request is passed on, and only the answer lost
    endless: bytes | None = None  # sent again and again after `answer`

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int) -> None:
        """Serve the one request of a connection; the answer says that it is the last."""
        self.connections += 1
        try:
            cut = self.connections == self.cut_at
            if self.refuse or (cut and not self.cut_after):
                return
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1]) if length else 0)
            self.requests.append(head.split(b"\r\n", 1)[0].decode())
            await asyncio.sleep(self.delay)
            answer = next(
                (one for part, one in self.answers.items() if part in self.requests[-1]), self.answer
            )
            if answer is None:
                await self._pass_on(head, body, None if cut else writer, target)
            else:
                await self._answer(answer, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, answer: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        while self.endless is not None:
            writer.write(self.endless)
            await writer.drain()
            await asyncio.sleep(0)

    async def _pass_on(
        self, head: bytes, body: bytes, writer: asyncio.StreamWriter | None, target: int
    ) -> None:
        """Pass on one request, and everything that is answered; without a writer the answer is lost."""
        there, back = await asyncio.open_connection("127.0.0.1", target)
        try:
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            back.write(b"\r\n".join([lines[0], b"Connection: close", *lines[1:]]) + body)
            while data := await there.read(65_536):
                if writer is not None:
                    writer.write(data)
                    await writer.drain()
        finally:
            back.close()
            with contextlib.suppress(OSError):
                await back.wait_closed()


@asynccontextmanager
async def faulty_proxy(target: int) -> AsyncIterator[FaultyProxy]:
    """Yield a proxy for HTTP in front of a port of this machine."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await proxy.serve(reader, writer, target)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side is gone, which is what such a proxy is for; or the test has ended
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy = FaultyProxy(server.sockets[0].getsockname()[1])
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
