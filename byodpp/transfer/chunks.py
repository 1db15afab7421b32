"""Where chunks come from: a thread for small files, a process of its own for large ones.

In: an open file and how it is read. Out: its chunks, judged while others are being written. A small
file is not worth the start of a process, which takes half a second; a large one would keep the
interpreter from serving requests. May raise Unavailable: the process has died.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from byodpp.exceptions import Unavailable
from byodpp.registry import Registry
from byodpp.schemas import SchemaMap
from byodpp.transfer.judging import Chunk, Judge, Reading
from byodpp.transfer.messages import read_message, told_reading

__all__ = ["LARGE_BYTES", "Chunks"]

_log = logging.getLogger(__name__)

#: From this size on a file is read by a process of its own.
LARGE_BYTES: Final = 1 << 20
_AHEAD_BYTES: Final = 1 << 20
_MODULE: Final = "byodpp.transfer.worker"


class Chunks:
    """Reads files for one application."""

    def __init__(self, folder: Path, registry: Registry, schemas: SchemaMap) -> None:
        """Args:
        folder: of the application; a process reads its manifest and schemas anew.
        registry: of the same.
        schemas: of the same.
        """
        self._folder = folder
        self._registry = registry
        self._schemas = schemas

    async def of(self, file: BinaryIO, size: int, reading: Reading) -> AsyncGenerator[Chunk, None]:
        """Yield the chunks of a file; close the iterator when you leave it early.

        Args:
            file: open; it has a descriptor.
            size: bytes of it.
            reading: how it is read.
        """
        apart = size >= LARGE_BYTES
        found = self._of_process(file, reading) if apart else self._of_thread(file, reading)
        try:
            async for chunk in found:
                yield chunk
        finally:
            await found.aclose()

    async def _of_thread(self, file: BinaryIO, reading: Reading) -> AsyncGenerator[Chunk, None]:
        resource = self._registry.get(reading.resource, reading.version)
        file.seek(0)
        chunks = Judge(resource, self._schemas, reading).chunks(file)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk

    async def _of_process(self, file: BinaryIO, reading: Reading) -> AsyncGenerator[Chunk, None]:
        descriptor = file.fileno()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _MODULE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(descriptor,),
            env={"PYTHONPATH": os.pathsep.join(sys.path)},  # and nothing that could be a secret
            limit=_AHEAD_BYTES,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            job = {"folder": str(self._folder), "file": descriptor, "reading": told_reading(reading)}
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.close()
            while True:
                chunk = await read_message(process.stdout.readexactly)
                yield chunk
                if chunk.end:
                    return
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            _log.error("the process that reads a file has ended early")
            raise Unavailable("The file could not be read to its end; try again.") from error
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
