"""Rate limits: how many requests an address, a user, a tenant or a route may make.

In: any request. Out: the same, with `RateLimit` and `RateLimit-Policy` prepared. May reject:
TooManyRequests with `Retry-After`. The counting lies behind `RateLimiter` in `byodpp.limits`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import Final

from byodpp.browser_sessions import BrowserSessions
from byodpp.exceptions import TooManyRequests, Unauthenticated
from byodpp.limits import Budget, RateLimiter, Usage
from byodpp.requests import Request

__all__ = ["AddressRateLimit", "RouteRateLimit", "SignInRateLimit", "UserRateLimit", "address_key", "count"]

#: Paths that are asked by machines that watch us, often all from one address.
_EXEMPT: Final = b"/health"


def count(limiter: RateLimiter, key: str, budget: Budget, request: Request) -> Awaitable[None] | None:
    """Count one request and tell how its budget stands; what is returned is to be waited for.

    Raises:
        TooManyRequests: the budget is spent.
    """
    usage = limiter.count(key, budget)
    if usage is None:
        return _asked(limiter, key, budget, request)
    _tell(usage, budget, request)
    return None


async def _asked(limiter: RateLimiter, key: str, budget: Budget, request: Request) -> None:
    _tell(await limiter.hit(key, budget), budget, request)


def _tell(usage: Usage, budget: Budget, request: Request) -> None:
    allowed, remaining, reset_seconds = usage
    reset = math.ceil(reset_seconds) or 1
    request.prepared.append(budget.told(remaining, reset))
    if not allowed:
        told = (
            f"The budget {budget.name!r} of {budget.limit} requests in {budget.window_seconds} seconds"
            f" is spent; go on in {reset} seconds."
        )
        raise TooManyRequests(told, headers={"Retry-After": str(reset)})


def address_key(client_ip: str) -> str:
    """Return what is counted of an address: of IPv6 the half that names a network."""
    if ":" not in client_ip:
        return client_ip
    return ":".join(_expanded(client_ip)[:4])


def _expanded(address: str) -> list[str]:
    head, gap, tail = address.partition("::")
    left = head.split(":") if head else []
    right = tail.split(":") if tail else []
    return left + ["0"] * (8 - len(left) - len(right)) + right if gap else left


class AddressRateLimit:
    """Counts by client address, before anything is looked up."""

    def __init__(self, limiter: RateLimiter, budget: Budget) -> None:
        """Args:
        limiter: counts.
        budget: of one address.
        """
        self._limiter = limiter
        self._budget = budget

    def __call__(self, request: Request) -> Awaitable[None] | None:
        """Count one request."""
        if request.raw_path.startswith(_EXEMPT):
            return None
        return count(self._limiter, address_key(request.client_ip), self._budget, request)


class UserRateLimit:
    """Counts by signed-in user; anonymous callers are counted by address only."""

    def __init__(self, limiter: RateLimiter, budget: Budget) -> None:
        """Args:
        limiter: counts.
        budget: of one user.
        """
        self._limiter = limiter
        self._budget = budget

    def __call__(self, request: Request) -> Awaitable[None] | None:
        """Count one request."""
        principal = request.principal
        if principal.anonymous:
            return None
        return count(self._limiter, principal.counted_as, self._budget, request)


class SignInRateLimit:
    """Counts calls to the routes that give tokens: of one address, or of one user's sessions.

    Many share an address, and who has copied a cookie has many: what renews a session counts as its user's.
    """

    def __init__(self, limiter: RateLimiter, budget: Budget, sessions: BrowserSessions | None = None) -> None:
        """Args:
        limiter: counts.
        budget: of one address, or user.
        sessions: open the cookie by which a session is renewed; None: addresses are counted.
        """
        self._limiter = limiter
        self._budget = budget
        self._sessions = sessions

    def __call__(self, request: Request) -> Awaitable[None] | None:
        """Count one request."""
        key = self._user_key(request) or address_key(request.client_ip)
        return count(self._limiter, key, self._budget, request)

    def _user_key(self, request: Request) -> str | None:
        try:
            renewal = None if self._sessions is None else self._sessions.renewal(request)
        except Unauthenticated:
            return None
        return None if renewal is None else f"{renewal.realm}/{renewal.subject}"


class RouteRateLimit:
    """Counts the calls of one caller to a route that has a budget of its own."""

    def __init__(self, limiter: RateLimiter, budget: Budget, route: str) -> None:
        """Args:
        limiter: counts.
        budget: of one caller.
        route: what tells the route from every other.
        """
        self._limiter = limiter
        self._budget = budget
        self._route = route

    def __call__(self, request: Request) -> Awaitable[None] | None:
        """Count one request."""
        principal = request.principal
        if principal.anonymous:
            caller = address_key(request.client_ip)
        else:
            caller = principal.counted_as
        return count(self._limiter, f"{self._route} {caller}", self._budget, request)
