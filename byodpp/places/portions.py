"""Rows of any size in portions that fit into memory: what is carried as one text is a few MB of it.

In: rows with the bytes that each is as a text. Out: the same in lists, each of at least one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

__all__ = ["PORTION_BYTES", "PORTION_ROWS", "portions"]

#: PostgreSQL puts together no text of 1 GB, and each is held a few times on the way.
PORTION_BYTES: Final = 4 * 1024 * 1024
PORTION_ROWS: Final = 2_000

_Row = TypeVar("_Row")


def portions(
    rows: Iterable[tuple[_Row, int]], *, most_bytes: int = PORTION_BYTES, most_rows: int = PORTION_ROWS
) -> Iterator[list[_Row]]:
    """Yield rows in their order, as many at a time as fit, but never none.

    Args:
        rows: each with its bytes.
        most_bytes: of a portion; a row that has more comes alone.
        most_rows: of a portion.
    """
    portion, size = list[_Row](), 0
    for row, bytes_of_row in rows:
        if portion and (size + bytes_of_row > most_bytes or len(portion) == most_rows):
            yield portion
            portion, size = [], 0
        portion.append(row)
        size += bytes_of_row
    if portion:
        yield portion
