r"""CSV as RFC 4180 has it: a line of names, then a row per record.

Cells are separated by a comma, a semicolon or a tab; the first line tells which, unless it is told.
Lines end in `\n`, `\r\n` or, outside of quotes, `\r`. A cell in quotes may hold all of these, and
quotes twice. A quote that is never closed is refused where it was opened, and reading goes on at the
next line. A cell that is empty without quotes is EMPTY, one with quotes is a text of no length. Empty
lines are passed over where there are several columns; of one column, such a line is its empty cell. The
file may close with `#end,12`, as an export does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from byodpp.exceptions import ApiError, Detail, InvalidEncoding, Malformed, ValidationFailed
from byodpp.transfer.records import Line, Record, Unreadable, lines, not_whole, too_long

__all__ = ["CLOSING", "EMPTY", "SEPARATORS", "CsvReader", "split_cells"]

#: First cell of the record that closes an export; not in quotes, as a text that is equal to it would be.
CLOSING: Final = "#end"
_CLOSED: Final = re.compile(rb"#end,([0-9]{1,18})")
#: A cell that is not there: nothing between two separators.
EMPTY: Final = None
_MARK: Final = b"\xef\xbb\xbf"
#: Name -> separator, the likeliest first.
SEPARATORS: Final = {"comma": ",", "semicolon": ";", "tab": "\t"}
#: Separator -> a cell: in quotes or not, and what follows it. Possessive, so that it takes linear time.
_CELL: Final = {
    one: re.compile(rf'(?:"([^"]*+(?:""[^"]*+)*+)"|([^"{one}]*+))({one}|\Z)') for one in SEPARATORS.values()
}


class CsvReader:
    """Reads CSV. What a record's content is: its cells, in the order of `names`."""

    def __init__(self, *, most_bytes: int, known: frozenset[str], separator: str | None = None) -> None:
        """Args:
        most_bytes: of a record.
        known: names that the first line may hold; where the separator is not told they tell it.
        separator: between cells.
        """
        self._most = most_bytes
        self._known = known
        self._separator = separator
        self.names: tuple[str, ...] = ()  # of the columns, once the first line is read

    def records(self, file: BinaryIO) -> Iterator[Record]:
        """Yield a record per row."""
        rows = _Rows(file, self._most)
        first = next(rows, None)
        if first is None:
            raise Unreadable(_no_names("The file is empty."), 1)
        self._read_names(first)
        rows.separator, found = self._separator, 0
        for row in rows:
            if (end := _CLOSED.fullmatch(row.text)) is not None:
                self._check_end(int(end[1]), found, row.number, rows)
                return
            record = self._record(row)
            if record is None:
                continue
            found += 1
            yield record

    def value(self, record: Record) -> Any:
        """Return the cells of a row by their columns' names."""
        return dict(zip(self.names, record.content, strict=True))

    def _read_names(self, first: Line) -> None:
        text = first.text.removeprefix(_MARK)
        if text.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in text[:4]:
            raise Unreadable(InvalidEncoding("The file must be UTF-8; save it as such."), 1)
        if first.long:
            raise Unreadable(too_long(self._most), 1)
        try:
            line = text.decode()
        except UnicodeDecodeError:
            raise Unreadable(InvalidEncoding("The file must be UTF-8; save it as such."), 1) from None
        if self._separator is None:
            self._separator = max(SEPARATORS.values(), key=lambda one: self._fitting(line, one))
        cells = split_cells(line, self._separator)
        if cells is None:
            raise Unreadable(_no_names("The quotes of the first line cannot be read."), 1)
        names = [(cell or "").strip() for cell in cells]
        if not any(name in self._known for name in names):
            raise Unreadable(_no_names("None of the names in the first line is that of a field."), 1)
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            details = [Detail(name[:100], "duplicate", "This column occurs twice.") for name in twice]
            raise Unreadable(ValidationFailed("A column occurs twice.", details=details[:100]), 1)
        self.names = tuple(names)

    def _fitting(self, line: str, separator: str) -> int:
        """Return how many names a separator makes out of the first line."""
        return sum((cell or "").strip() in self._known for cell in split_cells(line, separator) or ())

    def _record(self, row: Line) -> Record | None:
        """Return the record of a row, None when there is nothing in it."""
        if row.long:
            return Record(row.number, None, fault=too_long(self._most))
        if not row.text and len(self.names) > 1:
            return None  # of one column it is the cell that is empty
        assert self._separator is not None
        try:
            cells = split_cells(row.text.decode(), self._separator)
        except UnicodeDecodeError as error:
            fault: ApiError = InvalidEncoding(f"The row is not valid UTF-8 (byte {error.start}).")
            return Record(row.number, None, fault=fault)
        if cells is None:
            return Record(row.number, None, fault=_broken_quotes())
        if len(cells) != len(self.names):
            few = len(cells) < len(self.names)
            told = f"The row has {len(cells)} cells, the first line {len(self.names)}."
            fault = ValidationFailed(details=[Detail("", "too_few" if few else "too_many", told)])
            return Record(row.number, None, fault=fault)
        return Record(row.number, cells)

    def _check_end(self, told: int, found: int, line: int, rows: Iterator[Line]) -> None:
        wrong = not_whole(told, found)
        if wrong is not None:
            raise Unreadable(wrong, line)
        after = next((row for row in rows if row.text), None)
        if after is not None:
            raise Unreadable(Malformed("Nothing may follow the closing record."), after.number)


class _Rows:
    """Joins lines to rows: an odd number of quotes means that one is open."""

    def __init__(self, file: BinaryIO, most_bytes: int) -> None:
        self._lines = _physical(file, most_bytes)
        self._most = most_bytes
        self._back: list[Line] = []  # lines to be read once more, the next one last
        self.separator: str | None = None  # once it is known, rows of several lines are looked at

    def __iter__(self) -> Iterator[Line]:
        return self

    def __next__(self) -> Line:
        first = self._next()
        if first is None:
            raise StopIteration
        if first.long or not first.text.count(b'"') & 1:
            return first
        return self._joined(first)

    def _next(self) -> Line | None:
        return self._back.pop() if self._back else next(self._lines, None)

    def _joined(self, first: Line) -> Line:
        """Return a row of several lines; the first one alone where no such row can be read."""
        parts, size = [first], len(first.text)
        while (line := self._next()) is not None:
            parts.append(line)
            size += len(line.text) + len(line.end)
            if line.long or size > self._most:
                break
            if line.text.count(b'"') & 1:
                text = b"".join(part.text + part.end for part in parts[:-1]) + line.text
                if self._is_row(text):
                    return Line(first.number, text, line.end)
                break
        self._back.extend(reversed(parts[1:]))
        return first

    def _is_row(self, text: bytes) -> bool:
        return self.separator is None or split_cells(text.decode("latin-1"), self.separator) is not None


def _physical(file: BinaryIO, most_bytes: int) -> Iterator[Line]:
    r"""Yield lines that may also end in `\r` alone."""
    number = 0
    for line in lines(file, most_bytes):
        pieces = line.text.split(b"\r") if b"\r" in line.text else (line.text,)
        for piece in pieces[:-1]:
            number += 1
            yield Line(number, piece, b"\r")
        number += 1
        yield Line(number, pieces[-1], line.end, line.long)


def split_cells(line: str, separator: str) -> list[str | None] | None:
    """Return the cells of a row, EMPTY or text; None when its quotes cannot be read."""
    if '"' not in line:
        return [cell or EMPTY for cell in line.split(separator)]
    match, position = _CELL[separator].match, 0
    found: list[str | None] = []
    while (cell := match(line, position)) is not None:
        quoted, plain, more = cell.groups()
        found.append(plain or EMPTY if quoted is None else quoted.replace('""', '"'))
        if not more:
            return found
        position = cell.end()
    return None


def _no_names(told: str) -> ApiError:
    advice = "The first line must name the fields, e.g. name,price."
    return ValidationFailed("The columns are not known.", details=[Detail("", "header", f"{told} {advice}")])


def _broken_quotes() -> ApiError:
    told = "A quote is not closed, or is followed by something else than a separator."
    return ValidationFailed(details=[Detail("", "quotes", told)])
