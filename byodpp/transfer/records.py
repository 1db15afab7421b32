"""Records: the rows of a file, found one after the other in bounded memory.

In: a file that can be read from its beginning. Out: `Record`s, each with its place and what lies in
it; a record that cannot be read carries its refusal, and the next one follows. A file that cannot be
read on raises Unreadable. A closing record (`$end`) tells whether the file is whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Protocol

from byodpp.exceptions import ApiError, FileNotWhole, PayloadTooLarge

__all__ = ["END", "Line", "Reader", "Record", "Unreadable", "lines", "not_whole", "too_long"]

#: Key of the record that closes an export: `{"$end": {"rows": 12}}`.
END: Final = "$end"


class Unreadable(Exception):
    """The rest of a file cannot be read."""

    def __init__(self, error: ApiError, line: int) -> None:
        """Args:
        error: why.
        line: where, from 1.
        """
        super().__init__(error.message)
        self.error = error
        self.line = line


@dataclass(slots=True)
class Record:
    """One record. `content` is what the reader that found it makes a JSON value of."""

    line: int  # where it begins, from 1
    content: Any
    fault: ApiError | None = None  # it cannot be read; the content is nothing


class Reader(Protocol):
    """One format's way of reading."""

    def records(self, file: BinaryIO) -> Iterator[Record]:
        """Yield the records of a file, from its beginning.

        Raises:
            Unreadable: where it cannot be read on.
        """
        ...

    def value(self, record: Record) -> Any:
        """Return the JSON value of a record without fault.

        Raises:
            ApiError: there is none.
        """
        ...


@dataclass(slots=True)
class Line:
    """One physical line."""

    number: int  # from 1
    text: bytes  # without its end
    end: bytes  # how it ended; nothing where the file did
    long: bool = False  # longer than may be; the text is its beginning


def lines(file: BinaryIO, most_bytes: int) -> Iterator[Line]:
    r"""Yield the lines of a file, whether they end in `\n` or `\r\n`; never more than a bound at once."""
    number = 0
    while text := file.readline(most_bytes + 2):
        number += 1
        end = b"\r\n" if text.endswith(b"\r\n") else b"\n" if text.endswith(b"\n") else b""
        if end:
            text = text[: -len(end)]
        long = len(text) > most_bytes
        if long and not end:
            _skip_line(file)
        yield Line(number, text[:most_bytes], end, long)


def _skip_line(file: BinaryIO) -> None:
    """Pass over the rest of a line."""
    while (text := file.readline(1 << 20)) and not text.endswith(b"\n"):
        pass


def too_long(most_bytes: int) -> ApiError:
    """Return the refusal of a record that is longer than may be."""
    return PayloadTooLarge(f"A record of a file has at most {most_bytes} bytes.")


def not_whole(told: Any, found: int) -> FileNotWhole | None:
    """Return what is wrong with the number of rows that a closing record tells, None when it is right."""
    if isinstance(told, bool) or not isinstance(told, int):
        return FileNotWhole("The closing record of the file does not tell a number of rows.")
    if told != found:
        return FileNotWhole(f"The closing record of the file tells {told} rows, and there are {found}.")
    return None
