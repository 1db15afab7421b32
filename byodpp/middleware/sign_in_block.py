"""Shuts out who fails to sign in again and again, by address and by the user that was claimed.

In: a request. Out: the same. What counts is what may be anybody's invention: a forged token, an unknown
key, a cookie or refresh token that is none; not what was good once, or a client that forgot to renew its
token would shut itself out. While the block lasts, whatever fails is 429 in place of 401, with the same
words for users who exist and who do not; at the routes that begin sessions nothing is looked at any more.
A good token is let in: nobody guesses one, and others behind the same address have done nothing. May
reject: TooManyRequests with `Retry-After`.
"""

from __future__ import annotations

import math
from typing import Any, Final, Protocol

from byodpp.answering import origin_of
from byodpp.audit.notes import About, claimed_user
from byodpp.browser_sessions import BrowserSessions
from byodpp.exceptions import TooManyRequests, Unauthenticated
from byodpp.limits import Budget, RateLimiter
from byodpp.middleware.rate_limit import address_key
from byodpp.requests import Request

__all__ = ["BlockTrail", "SignInBlock"]

_TOLD: Final = "Signing in has failed too often: try again later."


class BlockTrail(Protocol):
    """Takes the note that somebody was shut out, and never waits."""

    def sign_in_blocked(self, reason: str, authorization: str | None, origin: Any, about: About) -> None:
        """Note the beginning of a block; without credentials, of an address."""
        ...


class SignInBlock:
    """Stage of every route that judges credentials, before the one that does."""

    def __init__(
        self,
        limiter: RateLimiter,
        budget: Budget,
        seconds: int,
        *,
        trail: BlockTrail | None = None,
        sessions: BrowserSessions | None = None,
        begins: bool = False,
    ) -> None:
        """Args:
        limiter: counts and shuts out.
        budget: failures that are borne, of an address and of a user alike.
        seconds: for which somebody is shut out then.
        trail: is told of each block.
        sessions: open the cookie by which a session is renewed; None: the route renews none.
        begins: whether the route begins or renews sessions, and is closed to who is shut out.
        """
        self._limiter = limiter
        self._budget = budget
        self._seconds = seconds
        self._trail = trail
        self._sessions = sessions
        self._begins = begins

    async def _closed(self, request: Request) -> None:
        for key in self._proven(request):
            if left := await self._limiter.blocked(key):
                raise self._refusal(request, left)

    def __call__(self, request: Request) -> Any:
        """Refuse who is shut out, where sessions begin."""
        return self._closed(request) if self._begins else None

    async def refused(self, request: Request, error: Exception) -> None:
        """Count a failure; what it is answered with, while the block lasts.

        Raises:
            TooManyRequests: in place of the refusal.
        """
        if not (isinstance(error, Unauthenticated) and error.unproven):
            return
        address, *others = self._proven(request)
        authorization = request.header(b"authorization") or request.credentials
        claimed = None if authorization is None else claimed_user(authorization)
        # Apart from who is proven: whoever claims to be somebody must not close the renewals of his sessions.
        users = others or ([] if claimed is None else [f"claimed {claimed}"])
        left = await self._counted(request, address, None)
        for user in users:
            left = max(left, await self._counted(request, user, authorization))
        if left:
            raise self._refusal(request, left) from error

    async def _counted(self, request: Request, key: str, authorization: str | None) -> float:
        """Count a failure of `key`; for how many seconds it is shut out, 0 when it is not."""
        left = await self._limiter.blocked(key)
        if left or (await self._limiter.hit(key, self._budget)).allowed:
            return left
        if await self._limiter.block(key, self._seconds) and self._trail is not None:
            budget, whose = self._budget, "user" if authorization is not None else "address"
            reason = (
                f"More than {budget.limit} sign-ins of this {whose} failed within {budget.window_seconds}"
                f" seconds: shut out for {self._seconds} seconds."
            )
            about = About(operation=request.operation, resource=request.resource)
            self._trail.sign_in_blocked(reason, authorization, origin_of(request), about)
        return self._seconds

    def _proven(self, request: Request) -> list[str]:
        """Return what is known of who asks: the address, and whose session is to be renewed."""
        keys = [f"address {address_key(request.client_ip)}"]
        try:
            renewal = None if self._sessions is None else self._sessions.renewal(request)
        except Unauthenticated:
            renewal = None
        return keys if renewal is None else [*keys, f"user {renewal.realm}/{renewal.subject}"]

    def _refusal(self, request: Request, left: float) -> TooManyRequests:
        wait = math.ceil(left)
        request.prepared.append(self._budget.told(0, wait))
        return TooManyRequests(_TOLD, headers={"Retry-After": str(wait)})
