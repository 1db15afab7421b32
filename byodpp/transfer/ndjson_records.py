"""NDJSON: one JSON object per line.

A line that is no JSON is refused alone. A byte order mark is passed over, empty lines too. The file
may close with `{"$end": {"rows": 12}}`, as an export does; then nothing may follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from byodpp import wire
from byodpp.exceptions import ApiError, InvalidEncoding, MalformedJson
from byodpp.transfer.records import END, Record, Unreadable, lines, not_whole, too_long

__all__ = ["NdjsonReader"]

_MARK = b"\xef\xbb\xbf"
_CLOSING = b'{"$end":'


class NdjsonReader:
    """Reads NDJSON."""

    def __init__(self, *, most_bytes: int, max_depth: int) -> None:
        """Args:
        most_bytes: of a line.
        max_depth: arrays and objects that may lie in each other.
        """
        self._most = most_bytes
        self._depth = max_depth

    def records(self, file: BinaryIO) -> Iterator[Record]:
        """Yield a record per line that holds something."""
        found, closed = 0, False
        for line in lines(file, self._most):
            text = line.text
            if line.number == 1:
                text = _without_mark(text)
            if not text or text.isspace():
                continue
            if closed:
                raise Unreadable(MalformedJson("Nothing may follow the closing record."), line.number)
            if not line.long and text.startswith(_CLOSING):
                self._check_end(text, found, line.number)
                closed = True
                continue
            found += 1
            yield Record(line.number, text, fault=too_long(self._most) if line.long else None)

    def value(self, record: Record) -> Any:
        """Return the JSON value of a line."""
        return wire.loads(record.content, max_depth=self._depth)

    def _check_end(self, text: bytes, found: int, number: int) -> None:
        try:
            end = wire.loads(text, max_depth=self._depth)[END]
        except ApiError as error:
            raise Unreadable(error, number) from None
        wrong = not_whole(end.get("rows") if isinstance(end, dict) else None, found)
        if wrong is not None:
            raise Unreadable(wrong, number)


def _without_mark(text: bytes) -> bytes:
    if text.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in text[:4]:
        raise Unreadable(InvalidEncoding("The file must be UTF-8."), 1)
    return text.removeprefix(_MARK)
