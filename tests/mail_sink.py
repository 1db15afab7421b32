"""A mail server that keeps what it gets, in just as much SMTP as a sender needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default

__all__ = ["MailSink", "mail_sink"]


@dataclass
class MailSink:
    """Where it listens, and what came."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    refuses: bool = False
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    async def mail(self, address: str, seconds: float = 30) -> EmailMessage:
        """Return the last mail to an address, once there is one."""
        async with asyncio.timeout(seconds):
            while not (found := [mail for mail in self.mails if address in str(mail["To"])]):
                self._came.clear()
                await self._came.wait()
        return found[-1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(line: str) -> None:
            writer.write(line.encode() + b"\r\n")

        say("220 sink")
        while line := (await reader.readline()).decode().strip():
            match line.split()[0].upper():
                case "EHLO" | "HELO":
                    say("250 sink")
                case "MAIL" if self.refuses:
                    say("451 not now")
                case "DATA":
                    say("354 go on")
                    lines = await reader.readuntil(b"\r\n.\r\n")
                    sent = lines.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
                    self.mails.append(BytesParser(EmailMessage, policy=default).parsebytes(sent))
                    self._came.set()
                    say("250 kept")
                case "QUIT":
                    say("221 bye")
                    return
                case _:
                    say("250 ok")


@asynccontextmanager
async def mail_sink() -> AsyncIterator[MailSink]:
    """Yield a server on loopback."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await sink.serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    sink = MailSink(server.sockets[0].getsockname()[1])
    async with server:
        yield sink
