"""How many bytes an answer may have: what PostgreSQL has made of rows, before anybody copies it.

Statements that put several rows together give an empty text in place of one that passes the bound, so
that it never leaves the database; rows that come one by one are counted here. May raise QueryTooComplex
and PayloadTooLarge.
"""

from __future__ import annotations

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

    def __init__(self) -> None:
        self._bytes = 0

    def count(self, result: Any, resource: ResourceDefinition) -> Any:
        """Return a result after counting it; what a logic class has made is not counted.

        Args:
            result: of one operation.
            resource: whose bound holds.

        Raises:
            PayloadTooLarge: all together have more bytes than an answer may have.
        """
        if isinstance(result, Row | Rows | Page):
            size = result.size
            most = resource.bounds.max_answer_bytes
            if self._bytes + size > most:
                told = f"The answer would have more than {most:,} bytes: send fewer operations at a time."
                raise PayloadTooLarge(told)
            self._bytes += size
        return result
