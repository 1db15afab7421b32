"""Forms: how the rows of an export become a file, and how its end is told from a cut.

In: rows as texts that PostgreSQL has written in the form `rows`. Out: bytes before, between and behind
them. Each form closes in a way that a file which was cut does not: with a record that tells the number
of rows (NDJSON, CSV), or by being no document at all before its end (JSON, XML, XLSX). Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from byodpp import wire
from byodpp.statements.exports import RowForm
from byodpp.transfer.csv_records import CLOSING
from byodpp.transfer.formats import Format
from byodpp.transfer.json_records import COUNT, DATA
from byodpp.transfer.records import END
from byodpp.transfer.xlsx import Workbook
from byodpp.transfer.xml_records import XSI

__all__ = ["Form", "form_of"]


class Form(Protocol):
    """How the rows of one format become a file."""

    rows: RowForm

    def begin(self) -> bytes:
        """Return what stands before the rows."""
        ...

    def some(self, rows: Sequence[str]) -> bytes:
        """Return rows, not the last ones."""
        ...

    def end(self, count: int) -> bytes:
        """Return what stands behind so many rows."""
        ...


class NdjsonForm:
    """A JSON object per line."""

    rows: RowForm = "json"

    def __init__(self, closing: bool) -> None:
        self._closing = closing

    def begin(self) -> bytes:
        """Return nothing."""
        return b""

    def some(self, rows: Sequence[str]) -> bytes:
        """Return lines."""
        return "\n".join((*rows, "")).encode()

    def end(self, count: int) -> bytes:
        """Return the closing record."""
        return b'{"%b":{"rows":%d}}\n' % (END.encode(), count) if self._closing else b""


class CsvForm:
    """A line of names, and a line per row."""

    rows: RowForm = "csv"

    def __init__(self, names: Sequence[str], closing: bool) -> None:
        self._names = names
        self._closing = closing

    def begin(self) -> bytes:
        """Return the names."""
        return ",".join(self._names).encode() + b"\r\n"

    def some(self, rows: Sequence[str]) -> bytes:
        """Return lines."""
        return "\r\n".join((*rows, "")).encode()

    def end(self, count: int) -> bytes:
        """Return the closing record."""
        return b"%b,%d\r\n" % (CLOSING.encode(), count) if self._closing else b""


class JsonForm:
    """An object that tells of what the rows are, and holds them."""

    rows: RowForm = "json"

    def __init__(self, resource: str) -> None:
        self._resource = resource
        self._any = False

    def begin(self) -> bytes:
        """Return what comes before the rows."""
        moment = wire.datetime_text(datetime.now(UTC))
        head = wire.dumps({"resource": self._resource, "exportDate": moment})
        return head[:-1] + b',"%b":[' % DATA.encode()

    def some(self, rows: Sequence[str]) -> bytes:
        """Return elements of the array."""
        before, self._any = (",\n" if self._any else "\n"), True
        return (before + ",\n".join(rows)).encode()

    def end(self, count: int) -> bytes:
        """Return the end of array and object, and the number of rows."""
        return b'\n],"%b":%d}\n' % (COUNT.encode(), count)


class XmlForm:
    """An element per row, in a root that tells of what they are."""

    rows: RowForm = "xml"

    def __init__(self, resource: str) -> None:
        self._resource = resource

    def begin(self) -> bytes:
        """Return the head, and the begin of the root."""
        root = f'<rows resource="{self._resource}" xmlns:xsi="{XSI}">'
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{root}\n'.encode()

    def some(self, rows: Sequence[str]) -> bytes:
        """Return lines."""
        return "\n".join((*rows, "")).encode()

    def end(self, count: int) -> bytes:
        """Return the end of the root."""
        return b"</rows>\n"


class XlsxForm:
    """A workbook."""

    rows: RowForm = "xlsx"

    def __init__(self, resource: str, names: Sequence[str]) -> None:
        self._workbook = Workbook(names, resource)

    def begin(self) -> bytes:
        """Open the sheet; its first bytes come with the rows."""
        self._workbook.begin()
        return b""

    def some(self, rows: Sequence[str]) -> bytes:
        """Return what of the archive is ready."""
        return self._workbook.add(rows)

    def end(self, count: int) -> bytes:
        """Return the rest of the archive, with its list of contents."""
        return self._workbook.end()


def form_of(format: Format, resource: str, names: Sequence[str], *, closing: bool) -> Form:
    """Return a new form.

    Args:
        format: of the file.
        resource: name of what is exported.
        names: of the columns, where rows have some.
        closing: whether there is to be a closing record, where the format has one.
    """
    match format:
        case Format.CSV:
            return CsvForm(names, closing)
        case Format.JSON:
            return JsonForm(resource)
        case Format.XML:
            return XmlForm(resource)
        case Format.XLSX:
            return XlsxForm(resource, names)
        case _:
            return NdjsonForm(closing)
