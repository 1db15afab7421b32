"""Lets what is told of a row win over refusals of the form.

In: a request for one row. Out: the same. When a later stage refuses the body, its fields, the media type
or the precondition, the row is looked for first: a row that the caller may not see answers 404 whatever
was sent, and one that he may not treat so 403. A request that is in order costs nothing here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from byodpp.exceptions import (
    Forbidden,
    NotAcceptable,
    PayloadTooLarge,
    PreconditionFailed,
    PreconditionRequired,
    UnsupportedMediaType,
    ValidationFailed,
)
from byodpp.requests import Request

__all__ = ["RowProbe"]

#: Refusals that rank below what is told of the row.
_LOWER: Final = (
    Forbidden,
    NotAcceptable,
    PayloadTooLarge,
    UnsupportedMediaType,
    ValidationFailed,
    PreconditionFailed,
    PreconditionRequired,
)


class RowProbe:
    """Stage of routes that name a row."""

    def __init__(self, probe: Callable[[Request], Awaitable[object]]) -> None:
        """Args:
        probe: raises NotFound or Forbidden when the caller may not do this to the row.
        """
        self._probe = probe

    def __call__(self, request: Request) -> None:
        """Let through."""

    async def refused(self, request: Request, error: Exception) -> None:
        """Look for the row when a refusal is of lower rank."""
        if isinstance(error, _LOWER):
            await self._probe(request)
