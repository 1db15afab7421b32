"""Tells all faults of a body at once, those that only the database knows as well.

In: a request whose body may refer to rows. Out: the same. What a schema refuses never reaches the database,
and that tells of one reference at a time: when the body is refused, its other references are looked for. A
request that is in order costs nothing here.
"""

from __future__ import annotations

from byodpp.exceptions import ValidationFailed
from byodpp.reference_faults import Complete
from byodpp.requests import Request

__all__ = ["MissingReferences"]


class MissingReferences:
    """Stage of routes that take rows with references."""

    def __init__(self, complete: Complete) -> None:
        self._complete = complete

    def __call__(self, request: Request) -> None:
        """Let through."""

    async def refused(self, request: Request, error: Exception) -> None:
        """Look for the references of a body that is refused."""
        if isinstance(error, ValidationFailed) and error.code == ValidationFailed.code:
            await self._complete(request, error)
