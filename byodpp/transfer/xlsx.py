"""XLSX: the package around the rows of a sheet, written while the rows come.

In: rows as XML, as `statements.exports` writes them. Out: the bytes of a workbook, piece by piece; a
sheet holds 1,048,576 rows, and what comes after them stands in the next. Nothing is on disk, and no more
in memory than what was given last. Rejects nothing.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import IO, Final
from xml.sax.saxutils import escape

__all__ = ["MOST_ROWS", "Workbook"]

#: Rows of a sheet, the line of names included.
MOST_ROWS: Final = 1_048_576
_HEAD: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS: Final = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_SHEET_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"
_BOOK_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
_PACKAGE_TYPE: Final = "application/vnd.openxmlformats-package.relationships+xml"
#: The moment that every member of the archive bears: the same rows are the same bytes.
_MOMENT: Final = (1980, 1, 1, 0, 0, 0)


class _Sink(io.RawIOBase):
    """Where the archive is written to: it can be emptied, and not gone back in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(data)  # type: ignore[call-overload]
        self._parts.append(part)
        return len(part)

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        found = b"".join(self._parts)
        self._parts.clear()
        return found


class Workbook:
    """A workbook that is being written."""

    def __init__(self, names: Sequence[str], title: str) -> None:
        """Args:
        names: of the columns.
        title: of the sheet.
        """
        cells = "".join(f'<c t="inlineStr"><is><t>{escape(name)}</t></is></c>' for name in names)
        self._names = f"<row>{cells}</row>".encode()
        self._title = title[:24]
        self._sink = _Sink()
        self._archive = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        self._sheets = 0
        self._sheet: IO[bytes] | None = None
        self._rows = 0  # of the sheet

    def begin(self) -> None:
        """Open the first sheet."""
        self._open_sheet()

    def add(self, rows: Sequence[str]) -> bytes:
        """Add rows and return the bytes that are ready."""
        rest = rows
        while rest:
            room = MOST_ROWS - self._rows
            if room == 0:
                self._close_sheet()
                self._open_sheet()
                continue
            assert self._sheet is not None
            self._sheet.write("".join(rest[:room]).encode())
            self._rows += min(room, len(rest))
            rest = rest[room:]
        return self._sink.taken()

    def end(self) -> bytes:
        """Close the workbook and return the last bytes."""
        self._close_sheet()
        for name, content in self._parts().items():
            self._archive.writestr(self._member(name), _HEAD + content)
        self._archive.close()
        return self._sink.taken()

    def _open_sheet(self) -> None:
        self._sheets += 1
        member = self._member(f"xl/worksheets/sheet{self._sheets}.xml")
        self._sheet = self._archive.open(member, "w", force_zip64=True)
        self._sheet.write(f'{_HEAD}<worksheet xmlns="{_MAIN}"><sheetData>'.encode() + self._names)
        self._rows = 1

    def _close_sheet(self) -> None:
        assert self._sheet is not None
        self._sheet.write(b"</sheetData></worksheet>")
        self._sheet.close()

    def _member(self, name: str) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(name, _MOMENT)
        info.compress_type = zipfile.ZIP_DEFLATED
        return info

    def _parts(self) -> dict[str, str]:
        """Return the parts that tell what the sheets are."""
        numbers = range(1, self._sheets + 1)
        sheets = "".join(
            f'<sheet name="{escape(self._title)}{"" if number == 1 else f" {number}"}" sheetId="{number}" '
            f'r:id="rId{number}"/>'
            for number in numbers
        )
        targets = "".join(
            f'<Relationship Id="rId{number}" Type="{_OFFICE}/worksheet" '
            f'Target="worksheets/sheet{number}.xml"/>'
            for number in numbers
        )
        types = "".join(
            f'<Override PartName="/xl/worksheets/sheet{number}.xml" ContentType="{_SHEET_TYPE}"/>'
            for number in numbers
        )
        book = f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/>'
        return {
            "xl/workbook.xml": (
                f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{sheets}</sheets></workbook>'
            ),
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_RELATIONS}">{targets}</Relationships>',
            "_rels/.rels": f'<Relationships xmlns="{_RELATIONS}">{book}</Relationships>',
            "[Content_Types].xml": (
                '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
                f'<Default Extension="rels" ContentType="{_PACKAGE_TYPE}"/>'
                '<Default Extension="xml" ContentType="application/xml"/>'
                f'<Override PartName="/xl/workbook.xml" ContentType="{_BOOK_TYPE}"/>{types}</Types>'
            ),
        }
