"""A proxy before PostgreSQL that loses the answer to a COMMIT: what was done is done, nobody hears it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

__all__ = ["CommitEater"]


class CommitEater:
    """Listens where a server could be, and passes everything on until it is told to be hungry."""

    def __init__(self, uri: str) -> None:
        """Args:
        uri: of the database, on a Unix socket.
        """
        parts = urlsplit(uri)
        query = parse_qs(parts.query)
        self._port = query["port"][0]
        self._server = f"{query['host'][0]}/.s.PGSQL.{self._port}"
        self._parts = parts
        self._folder = ""
        self.hungry = 0  # COMMITs whose answer will be lost
        self.eaten = 0

    @property
    def uri(self) -> str:
        """Address of the same database through the proxy."""
        return self._parts._replace(query=f"host={self._folder}&port={self._port}").geturl()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[CommitEater]:
        with tempfile.TemporaryDirectory(prefix="byodpp-cut-") as folder:
            self._folder = folder
            path = Path(folder) / f".s.PGSQL.{self._port}"
            server = await asyncio.start_unix_server(self._serve, path)
            try:
                yield self
            finally:
                server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._server)
        eating = asyncio.Event()
        back = asyncio.create_task(self._back(server_reader, writer, eating))
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self.hungry and b"commit\0" in data:
                    self.hungry -= 1
                    eating.set()
                server_writer.write(data)
                await server_writer.drain()
        server_writer.close()
        await back

    async def _back(
        self, server_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, eating: asyncio.Event
    ) -> None:
        with suppress(ConnectionError):
            while data := await server_reader.read(65_536):
                if eating.is_set():
                    self.eaten += 1  # the server has answered, so it has committed
                    break
                writer.write(data)
                await writer.drain()
        writer.close()
