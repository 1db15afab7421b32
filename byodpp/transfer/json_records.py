"""JSON: an array of objects, or an object whose member `data` is one, as an export writes it.

The array is taken apart while it is read: no more of it is in memory than its largest record may be,
twice. A record that is JSON and not acceptable (a key twice, a number out of bounds, not UTF-8) is
refused alone; what is no JSON ends the file. The member `count`, before or behind `data`, says how many
there are.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from byodpp import wire
from byodpp.exceptions import ApiError, DuplicateKey, InvalidEncoding, MalformedJson
from byodpp.transfer.records import Record, Unreadable, not_whole, too_long

__all__ = ["COUNT", "DATA", "JsonReader"]

#: Members of an object that holds records.
DATA: Final = "data"
COUNT: Final = "count"
_BLANKS: Final = re.compile(r"[ \t\n\r]*")
_NOT_UTF_8: Final = re.compile("[\udc80-\udcff]")
_PART_BYTES: Final = 1 << 18
#: Finds the end of a value that is JSON, whatever we think of it.
_LENIENT: Final = json.JSONDecoder()


class JsonReader:
    """Reads a JSON document of records."""

    def __init__(self, *, most_bytes: int, max_depth: int) -> None:
        """Args:
        most_bytes: of a record, about.
        max_depth: arrays and objects that may lie in each other, in a record.
        """
        self._most = most_bytes
        self._depth = max_depth

    def records(self, file: BinaryIO) -> Iterator[Record]:
        """Yield the elements of the array."""
        text = _Text(file, self._most)
        opening = text.next()
        if opening == "[":
            yield from self._elements(text, [0])
        elif opening == "{":
            yield from self._members(text)
        else:
            told = "The file must hold an array of objects, or an object with such an array in `data`."
            raise Unreadable(MalformedJson(told), text.line)
        if text.next():
            raise Unreadable(MalformedJson("Something follows the end of the document."), text.line)

    def value(self, record: Record) -> Any:
        """Return the value of an element."""
        return record.content

    def _members(self, text: _Text) -> Iterator[Record]:
        """Read an object up to its end; yield the elements of its `data`."""
        text.skip()
        count: Any = None
        found: list[int] | None = None
        separator, seen = ",", set[str]()
        while separator == ",":
            if text.next() == "}" and found is None:
                break
            name = self._plain(text, str)
            if name in seen:
                # Which of two arrays holds the rows nobody can know.
                raise Unreadable(DuplicateKey(f"The object has the member {name[:100]!r} twice."), text.line)
            if name in (DATA, COUNT):
                seen.add(name)
            self._expect(text, ":")
            if name == DATA:
                if text.next() != "[":
                    raise Unreadable(MalformedJson("`data` must be an array."), text.line)
                found = [0]
                yield from self._elements(text, found)
            else:
                value = self._plain(text, object)
                count = value if name == COUNT else count
            separator = self._expect(text, ",}")
        if found is None:
            raise Unreadable(MalformedJson("The object has no member `data`."), text.line)
        if count is not None and (wrong := not_whole(count, found[0])) is not None:
            raise Unreadable(wrong, text.line)

    def _elements(self, text: _Text, found: list[int]) -> Iterator[Record]:
        """Yield the elements of the array that begins here, and count them."""
        text.skip()
        if text.next() == "]":
            text.skip()
            return
        while True:
            found[0] += 1
            text.next()
            yield self._element(text)
            if self._expect(text, ",]") == "]":
                return

    def _element(self, text: _Text) -> Record:
        line = text.line
        try:
            value, end = self._decoded(text)
            fault = None
        except ApiError as error:
            value, fault = None, error
            try:
                _, end = _LENIENT.raw_decode(text.buffer, text.position)
            except (ValueError, RecursionError):
                raise Unreadable(error, line) from None
        if _NOT_UTF_8.search(text.buffer, text.position, end):
            value, fault = None, InvalidEncoding("The record is not valid UTF-8.")
        text.move_to(end)
        return Record(line, value, fault=fault)

    def _decoded(self, text: _Text) -> tuple[Any, int]:
        """Return the value that begins here, and where it ends."""
        if not text.buffer[text.position :]:
            raise Unreadable(MalformedJson("The document ends too early."), text.line)
        try:
            value, end = wire.loads_part(text.buffer, text.position, max_depth=self._depth)
        except json.JSONDecodeError as error:
            cut = error.pos >= len(text.buffer) - 1 or error.msg.startswith("Unterminated string")
            if cut and not text.ended:
                raise Unreadable(too_long(self._most), text.line) from None
            if text.ended and cut:
                raise Unreadable(MalformedJson("The document ends too early."), text.line) from None
            told = f"The document is not well-formed JSON: {error.msg[:1].lower()}{error.msg[1:]}."
            raise Unreadable(MalformedJson(told), text.line_of(error.pos)) from None
        if (end >= len(text.buffer) and not text.ended) or end - text.position > self._most:
            raise Unreadable(too_long(self._most), text.line)
        return value, end

    def _plain(self, text: _Text, kind: type[Any]) -> Any:
        """Read a name, or a member that is none of the records."""
        text.next()
        try:
            value, end = self._decoded(text)
        except ApiError as error:
            raise Unreadable(error, text.line) from None
        if not isinstance(value, kind):
            raise Unreadable(MalformedJson("The document is not well-formed JSON: a name is due."), text.line)
        text.move_to(end)
        return value

    def _expect(self, text: _Text, marks: str) -> str:
        """Read one of some marks and return it."""
        found = text.next()
        if not found:
            raise Unreadable(MalformedJson("The document ends too early."), text.line)
        if found not in marks:
            words = " or ".join(f"`{mark}`" for mark in marks)
            raise Unreadable(
                MalformedJson(f"The document is not well-formed JSON: {words} is due."), text.line
            )
        text.skip()
        return found


class _Text:
    """A file as text; of what lies ahead there is always more at hand than a record may have."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file = file
        self._least = most + 16
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._counted = 0  # line ends before this place of the buffer are in `line`
        self.buffer = ""
        self.position = 0
        self.line = 1  # of the position
        self.ended = False  # the buffer reaches to the end of the file
        head = file.read(_PART_BYTES)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in head[:4]:
            raise Unreadable(InvalidEncoding("The file must be UTF-8."), 1)
        self._take(head.removeprefix(b"\xef\xbb\xbf"))

    def next(self) -> str:
        """Pass over blanks and return the next character; nothing at the end."""
        while True:
            match = _BLANKS.match(self.buffer, self.position)
            assert match is not None
            self.move_to(match.end())
            if self.position < len(self.buffer) or self.ended:
                return self.buffer[self.position : self.position + 1]

    def skip(self) -> None:
        """Pass over one character."""
        self.move_to(self.position + 1)

    def move_to(self, place: int) -> None:
        """Go on to a later place of the buffer, and see to it that enough follows."""
        self.position = place
        self.line += self.buffer.count("\n", self._counted, place)
        self._counted = place
        if not self.ended and len(self.buffer) - place < self._least:
            self._fill()

    def line_of(self, place: int) -> int:
        """Return the line of a place that lies ahead."""
        return self.line + self.buffer.count("\n", self._counted, place)

    def _fill(self) -> None:
        parts, size = [self.buffer[self.position :]], len(self.buffer) - self.position
        while size < 2 * self._least and not self.ended:
            part = self._decoded(self._file.read(_PART_BYTES))
            parts.append(part)
            size += len(part)
        self.buffer = "".join(parts)
        self.position = self._counted = 0

    def _take(self, part: bytes) -> None:
        self.buffer += self._decoded(part)
        if not self.ended and len(self.buffer) < self._least:
            self._fill()

    def _decoded(self, part: bytes) -> str:
        self.ended = not part
        return self._decoder.decode(part, final=self.ended)
