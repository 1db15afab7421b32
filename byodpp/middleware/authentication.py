"""Finds out who calls.

In: a request. Out: the same with its principal; "nobody" is a principal too. May reject:
Unauthenticated (from the authenticator, or because nobody may not come here), AuthUnavailable.
"""

from __future__ import annotations

from typing import Protocol

from byodpp.exceptions import Unauthenticated
from byodpp.requests import Request
from byodpp.responses import Answer
from byodpp.routes import Handler

__all__ = ["Authentication", "Authenticator", "Caller"]


class Caller(Protocol):
    """What the stages look at of a principal."""

    @property
    def anonymous(self) -> bool:
        """Whether no token was sent."""
        ...


class Authenticator(Protocol):
    """Turns the headers of a request into a principal."""

    async def authenticate(self, authorization: str | None, x_tenant: str | None) -> Caller:
        """Judge a token.

        Args:
            authorization: value of the header; None when there is none.
            x_tenant: tenant that a platform operator names.

        Raises:
            Unauthenticated: the token is not valid.
        """
        ...


class Authentication:
    """Stage of every guarded route."""

    def __init__(self, authenticator: Authenticator, *, public: bool) -> None:
        """Args:
        authenticator: judges tokens.
        public: whether callers without a token may go on.
        """
        self._authenticator = authenticator
        self._public = public

    async def __call__(self, request: Request, proceed: Handler) -> Answer:
        """Authenticate, then let through."""
        principal = await self._authenticator.authenticate(
            request.header(b"authorization"), request.header(b"x-tenant")
        )
        request.principal = principal
        if principal.anonymous and not self._public:
            raise Unauthenticated
        return await proceed(request)
