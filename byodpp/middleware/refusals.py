"""Notes in the audit trail that a request was refused for want of rights, or its credentials.

In: a request. Out: the same, and whatever the stages behind this one answer or raise; nothing waits for
the trail. Rejects nothing.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from byodpp.answering import origin_of
from byodpp.audit.notes import About
from byodpp.exceptions import ApiError, Forbidden, NotFound, Unauthenticated
from byodpp.requests import Request

__all__ = ["Refusals", "Trail"]

_NOTED: Final = (Unauthenticated, Forbidden, NotFound)


class Trail(Protocol):
    """Takes what is to be written into the audit trail, and never waits."""

    def refused(self, error: ApiError, caller: Any, origin: Any, about: About) -> None:
        """Note that a signed-in caller was refused."""
        ...

    def sign_in_failed(self, error: ApiError, authorization: str, origin: Any, about: About) -> None:
        """Note that credentials were refused."""
        ...

    def sign_in_blocked(self, reason: str, authorization: str | None, origin: Any, about: About) -> None:
        """Note that somebody was shut out, who failed too often."""
        ...


class Refusals:
    """First stage of every guarded route, so that it sees what all others refuse."""

    def __init__(self, trail: Trail) -> None:
        """Args:
        trail: takes the notes.
        """
        self._trail = trail

    def __call__(self, request: Request) -> None:
        """Let through."""

    async def refused(self, request: Request, error: Exception) -> None:
        """Note a refusal."""
        if isinstance(error, _NOTED):
            self._note(request, error)

    def _note(self, request: Request, error: Unauthenticated | Forbidden | NotFound) -> None:
        operation, resource, key = error.about or (
            request.operation,
            request.resource,
            request.params.get("id"),
        )
        about = About(operation=operation, resource=resource, key=key)
        if request.principal is not None:
            if not isinstance(error, Unauthenticated):
                self._trail.refused(error, request.principal, origin_of(request), about)
            return
        authorization = request.header(b"authorization") or request.credentials
        if authorization is not None:
            self._trail.sign_in_failed(error, authorization, origin_of(request), about)
