"""XML: a root of any name, an element of any name per record, and in it an element per field.

What stands in an element is read like a cell of CSV; an element without text is a text of no length, one
with `xsi:nil="true"` is null, and `encoding="json"` says that the text is a JSON string, for characters
that XML cannot hold. Any other attribute of a record is its fault: nothing would be made of what it says.
Document types, and with them entities, are refused; so is whatever does not fit this shape, record by
record where the rest can still be read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, BinaryIO, Final
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from byodpp import wire
from byodpp.exceptions import ApiError, Detail, DuplicateKey, Malformed, ValidationFailed
from byodpp.transfer.records import Record, Unreadable, too_long

__all__ = ["NIL", "XSI", "XmlReader"]

#: Namespace of the attribute that tells null.
XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
NIL: Final = f"{{{XSI}}}nil"
#: Of attributes that XML itself knows: `xml:space`, `xml:lang`.
_XML: Final = "{http://www.w3.org/XML/1998/namespace}"
_PART_BYTES: Final = 1 << 16


class XmlReader:
    """Reads XML. What a record's content is: text, or None for null, by the field's name."""

    def __init__(self, *, most_bytes: int) -> None:
        """Args:
        most_bytes: of a record, and of anything that cannot be read in parts.
        """
        self._most = most_bytes

    def records(self, file: BinaryIO) -> Iterator[Record]:
        """Yield a record per child of the root."""
        target = _Target(self._most)
        parser = DefusedXMLParser(target=target, forbid_dtd=True)
        target.expat = parser.parser
        fed = 0
        try:
            while part := file.read(_PART_BYTES):
                parser.feed(part)
                fed += len(part)
                if fed - parser.parser.CurrentByteIndex > self._most + _PART_BYTES:
                    raise Unreadable(too_long(self._most), parser.parser.CurrentLineNumber)
                yield from target.taken()
            parser.close()
        except Unreadable:
            yield from target.taken()  # what came before it
            raise
        except DefusedXmlException:
            told = "Document types and entities are not accepted."
            raise Unreadable(Malformed(told), parser.parser.CurrentLineNumber) from None
        except (ParseError, ValueError, LookupError) as error:
            line = getattr(error, "position", (parser.parser.CurrentLineNumber, 0))[0]
            yield from target.taken()
            raise Unreadable(Malformed(f"The file is not well-formed XML: {error}."), line) from None
        yield from target.taken()

    def value(self, record: Record) -> Any:
        """Return the texts of a record by the names of its fields."""
        return record.content


class _Target:
    """Hears what the parser finds, and puts records together."""

    def __init__(self, most_bytes: int) -> None:
        self.expat: Any = None
        self._most = most_bytes
        self._found: deque[Record] = deque()
        self._depth = 0
        self._record = Record(0, {})
        self._size = 0
        self._parts: list[str] = []
        self._attributes: dict[str, str] = {}

    def taken(self) -> Iterator[Record]:
        """Yield the records that are complete."""
        while self._found:
            yield self._found.popleft()

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Hear that an element begins."""
        self._depth += 1
        if self._depth == 2:
            self._record, self._size = Record(self.expat.CurrentLineNumber, {}), 0
            self._refuse(attributes, "")
        elif self._depth == 3:
            self._parts, self._attributes = [], attributes
            self._refuse(attributes, tag.rpartition("}")[2])
        elif self._depth > 3:
            self._fault(ValidationFailed(details=[Detail("", "type", "A field holds text, not elements.")]))
        self._grow(16 + len(tag) + sum(len(name) + len(value) for name, value in attributes.items()))

    def data(self, text: str) -> None:
        """Hear a piece of text."""
        self._grow(len(text))
        if self._depth == 3:
            self._parts.append(text)
        elif self._depth == 2 and not text.isspace():
            self._fault(ValidationFailed(details=[Detail("", "type", "A record holds elements, not text.")]))
        elif self._depth == 1 and not text.isspace():
            told = "Text stands between the records, and belongs to none of them."
            raise Unreadable(Malformed(told), self.expat.CurrentLineNumber)

    def end(self, tag: str) -> None:
        """Hear that an element ends."""
        if self._depth == 3:
            self._field(tag.rpartition("}")[2])
        elif self._depth == 2:
            self._found.append(self._record)
        self._depth -= 1

    def comment(self, text: str) -> None:
        """Hear a comment; its end is that of what the parser had to keep."""

    def close(self) -> None:
        """Hear that the document ends."""

    def _field(self, name: str) -> None:
        fields = self._record.content
        if not isinstance(fields, dict):
            return
        text: Any = "".join(self._parts)
        if name in fields:
            self._fault(DuplicateKey(f"The record has the field {name[:100]!r} twice."))
            return
        if self._attributes.get(NIL) in ("true", "1"):
            text = None
        elif self._attributes.get("encoding") == "json":
            try:
                text = wire.loads(text.encode())
            except ApiError as error:
                self._fault(error)
                return
            if not isinstance(text, str):
                self._fault(
                    ValidationFailed(details=[Detail(name[:100], "format", "Must hold a JSON string.")])
                )
                return
        fields[name] = text

    def _refuse(self, attributes: dict[str, str], field: str) -> None:
        """Refuse attributes of a record, or of a field, that say something which nobody reads."""
        for name in attributes:
            if name.startswith(f"{{{XSI}}}") or name.startswith(_XML):
                continue
            if field and name == "encoding":
                if attributes[name] != "json":
                    told = "An element has the encoding json, or none."
                    self._fault(ValidationFailed(details=[Detail(f"{field[:100]}.encoding", "enum", told)]))
                continue
            short = name.rpartition("}")[2][:100]
            path = f"{field[:100]}.{short}" if field else short
            told = "Values stand in elements, not in attributes."
            self._fault(ValidationFailed(details=[Detail(path, "unknown_field", told)]))

    def _fault(self, error: ApiError) -> None:
        self._record.fault = self._record.fault or error
        self._record.content = None

    def _grow(self, size: int) -> None:
        self._size += size
        if self._depth >= 2 and self._size > self._most:
            raise Unreadable(too_long(self._most), self.expat.CurrentLineNumber)
