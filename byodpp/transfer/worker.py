"""A process that reads one file and judges its records: `python -m byodpp.transfer.worker`.

In: a line of JSON on standard input (the application's folder, the number of the open file, and how it
is read). Out: chunks on standard output, as `messages` writes them. It has no connection and no secret,
and no more memory than a bound; a file that is made to exhaust its reader takes nobody else with it. It
ends when the file does, or when nobody listens any more.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Final

from byodpp.manifest import load_manifest
from byodpp.schemas import SchemaMap, load_schema_overrides
from byodpp.transfer.judging import Judge
from byodpp.transfer.messages import message_of, reading_of

__all__ = ["main"]

#: Address space; an ordinary file needs a quarter of it.
_MOST_BYTES: Final = 1 << 30
_BUFFER_BYTES: Final = 1 << 18


def main() -> None:
    """Judge one file."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    job = json.loads(sys.stdin.buffer.readline())
    folder, reading = Path(job["folder"]), reading_of(job["reading"])
    registry = load_manifest(folder)
    schemas = SchemaMap.build(registry, load_schema_overrides(folder))
    judge = Judge(registry.get(reading.resource, reading.version), schemas, reading)
    with os.fdopen(job["file"], "rb", buffering=_BUFFER_BYTES) as file:
        file.seek(0)
        try:
            for chunk in judge.chunks(file):
                sys.stdout.buffer.write(message_of(chunk))
                sys.stdout.buffer.flush()
        except BrokenPipeError:
            os._exit(0)  # nobody waits for the rest; what is in the buffer goes nowhere


if __name__ == "__main__":
    main()
