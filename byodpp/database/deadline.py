"""The moment by which the statements of one request must have ended, together.

Comes from `service`, once for all tries of a request's transaction; goes to its statements. May reject:
QueryTimeout, for a statement that would begin after it.
"""

from __future__ import annotations

import time

from byodpp.exceptions import QueryTimeout

__all__ = ["Deadline"]


class Deadline:
    """How long a request's statements may still take."""

    __slots__ = ("_moment", "_statement_seconds")

    def __init__(self, seconds: float, statement_seconds: float) -> None:
        """Args:
        seconds: from now on, for all statements and what lies between them.
        statement_seconds: what bounds each statement anyway.
        """
        self._moment = time.monotonic() + seconds
        self._statement_seconds = statement_seconds

    def left(self) -> float | None:
        """Return the seconds that a statement has; None: as many as any.

        Raises:
            QueryTimeout: there are none left.
        """
        seconds = self._moment - time.monotonic()
        if seconds <= 0:
            raise QueryTimeout("The database took too long for all of this request; send less at a time.")
        return seconds if seconds < self._statement_seconds else None
