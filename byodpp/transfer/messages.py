"""How a worker tells its chunks: a length, a head in JSON, and the rows as they are.

In: chunks. Out: bytes, and chunks again. What comes from a worker is taken for data, never for code.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Final

from byodpp import wire
from byodpp.statements.staging import StagedRows
from byodpp.transfer.formats import Format
from byodpp.transfer.judging import Chunk, Reading, Reject

__all__ = ["message_of", "read_message", "reading_of", "told_reading"]

_LENGTH: Final = struct.Struct(">I")


def message_of(chunk: Chunk) -> bytes:
    """Write a chunk."""
    rows, parts = None, list[bytes]()
    if chunk.rows is not None:
        parts = [text.encode() for text in (chunk.rows.lines, *chunk.rows.columns.values())]
        rows = {
            "records": list(chunk.rows.records),
            "sent": sorted(chunk.rows.sent),
            "columns": list(chunk.rows.columns),
            "sizes": [len(part) for part in parts],
        }
    head = wire.dumps(
        {
            "records": chunk.records,
            "line": chunk.line,
            "position": chunk.position,
            "rows": rows,
            "documents": [list(one) for one in chunk.documents],
            "rejects": [one.told() for one in chunk.rejects],
            "end": chunk.end,
            "fault": None if chunk.fault is None else chunk.fault.told(),
        }
    )
    return b"".join((_LENGTH.pack(len(head)), head, *parts))


async def read_message(read: Callable[[int], Awaitable[bytes]]) -> Chunk:
    """Read a chunk.

    Args:
        read: returns so many bytes, and raises EOFError where there are fewer.
    """
    [length] = _LENGTH.unpack(await read(_LENGTH.size))
    head = wire.loads(await read(length), max_depth=200)
    return Chunk(
        records=head["records"],
        line=head["line"],
        position=head["position"],
        rows=None if head["rows"] is None else await _rows(head["rows"], read),
        documents=[(record, line, value) for record, line, value in head["documents"]],
        rejects=[Reject(**one) for one in head["rejects"]],
        end=head["end"],
        fault=None if head["fault"] is None else Reject(**head["fault"]),
    )


async def _rows(head: dict[str, Any], read: Callable[[int], Awaitable[bytes]]) -> StagedRows:
    lines, *columns = [(await read(size)).decode() for size in head["sizes"]]
    return StagedRows(
        records=tuple(head["records"]),
        lines=lines,
        columns=dict(zip(head["columns"], columns, strict=True)),
        sent=frozenset(head["sent"]),
    )


def told_reading(reading: Reading) -> dict[str, Any]:
    """Return how a file is read, as JSON."""
    return asdict(reading)


def reading_of(told: dict[str, Any]) -> Reading:
    """Return what `told_reading` has told."""
    lists = {name: tuple(told[name]) for name in ("ignored", "barred", "preset")}
    return Reading(**{**told, **lists, "format": Format(told["format"])})
