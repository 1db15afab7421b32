"""How many bytes an answer may have: what PostgreSQL has made of rows, before anybody copies it.

Statements that put several rows together give an empty text in place of one that passes the bound, so
that it never leaves the database; rows that come one by one are counted here. May raise QueryTooComplex
and PayloadTooLarge.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import Detail, PayloadTooLarge, QueryTooComplex
from byodpp.rows import Page, Row, Rows

__all__ = ["AnswerBound", "within_bound"]


def within_bound(text: str, resource: ResourceDefinition) -> str:
    """Return the JSON of rows as a statement has given it.

    Raises:
        QueryTooComplex: it is more than an answer may have.
    """
    if not text:
        most = resource.bounds.max_answer_bytes
        told = f"The answer would have more than {most:,} bytes: ask for a lower `limit`, or fewer `fields`."
        raise QueryTooComplex(told, details=[Detail("limit", "too_complex", told)])
    return text


class AnswerBound:
    """Counts the rows that one request is answered with, where they come one by one."""

    def __init__(self, *, counts: bool = True, keeps: bool = True) -> None:
        """Args:
        counts: whether rows are answered with at all; an import tells numbers.
        keeps: whether rows are wanted by anybody; where none is sent, each is let go of at once.
        """
        self._counts = counts
        self._keeps = keeps
        self._bytes: dict[tuple[str, str], int] = {}  # by resource
        self._most = 0  # of all together: what the resources met so far allow one of them

    @property
    def keeps(self) -> bool:
        """Whether rows are wanted by anybody."""
        return self._keeps

    def count(self, result: Any, resource: ResourceDefinition) -> Any:
        """Return a result after counting it, None for rows that nobody wants; what a logic class has made is
        not counted.

        Args:
            result: of one operation.
            resource: whose bound holds for its rows; for those of several, the greatest one.

        Raises:
            PayloadTooLarge: its rows, or all together, have more bytes than an answer may have.
        """
        if not isinstance(result, Row | Rows | Page):
            return result
        if not self._keeps:
            return None
        if self._counts:
            own, size = resource.bounds.max_answer_bytes, result.size
            before, most = self._bytes.get(resource.id, 0), max(self._most, own)
            for found, bound in ((before, own), (sum(self._bytes.values()), most)):
                if found + size > bound:
                    told = (
                        f"The answer would have more than {bound:,} bytes: send fewer operations at a time."
                    )
                    raise PayloadTooLarge(told)
            self._bytes[resource.id], self._most = before + size, most
        return result

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep and count rows during the block all the same: a logic class looks at them."""
        if self._keeps:
            yield
            return
        mark, self._keeps = self.mark(), True
        try:
            yield
        finally:
            self._keeps = False
            self.rewind(mark)

    def mark(self) -> tuple[dict[tuple[str, str], int], int]:
        """Return what is counted now, to `rewind` to it."""
        return dict(self._bytes), self._most

    def rewind(self, mark: tuple[dict[tuple[str, str], int], int]) -> None:
        """Forget what was counted since: it is answered inside another row, which is counted in its turn."""
        self._bytes, self._most = dict(mark[0]), mark[1]
