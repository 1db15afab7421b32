"""Rate limits: how many requests an address, a user, a tenant or a route may make.

In: any request. Out: the same, with `RateLimit` and `RateLimit-Policy` prepared. May reject:
TooManyRequests with `Retry-After`. The counting lies behind `RateLimiter` in `byodpp.limits`.
"""

from __future__ import annotations

import math
from typing import Any, Final

from byodpp.exceptions import TooManyRequests
from byodpp.limits import Budget, RateLimiter
from byodpp.requests import Request
from byodpp.responses import Answer
from byodpp.routes import Handler

__all__ = ["AddressRateLimit", "RouteRateLimit", "SignInRateLimit", "UserRateLimit", "count"]

#: Paths that are asked by machines that watch us, often all from one address.
_EXEMPT: Final = b"/health"


async def count(limiter: RateLimiter, key: str, budget: Budget, request: Request) -> None:
    """Count one request and tell how its budget stands.

    Raises:
        TooManyRequests: the budget is spent.
    """
    usage = await limiter.hit(key, budget)
    reset = math.ceil(usage.reset_seconds) or 1
    told = b"%b;r=%d;t=%d" % (budget.quoted, usage.remaining, reset)
    request.response_headers += (budget.header, (b"ratelimit", told))
    if not usage.allowed:
        raise TooManyRequests(headers={"Retry-After": str(reset)})


def _address_key(client_ip: str) -> str:
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

    async def __call__(self, request: Request) -> None:
        """Count one request."""
        if not request.raw_path.startswith(_EXEMPT):
            await count(self._limiter, _address_key(request.client_ip), self._budget, request)


def _caller_key(principal: Any) -> str:
    """Return what a signed-in caller is counted as: a user, or an API key with a budget of its own."""
    if principal.key_id is not None:
        return f"key {principal.key_id}"
    return f"{principal.home_tenant_id}/{principal.user_id}"


class UserRateLimit:
    """Counts by signed-in user; anonymous callers are counted by address only."""

    def __init__(self, limiter: RateLimiter, budget: Budget) -> None:
        """Args:
        limiter: counts.
        budget: of one user.
        """
        self._limiter = limiter
        self._budget = budget

    async def __call__(self, request: Request, proceed: Handler) -> Answer:
        """Count, then let through."""
        principal = request.principal
        if not principal.anonymous:
            await count(self._limiter, _caller_key(principal), self._budget, request)
        return await proceed(request)


class SignInRateLimit:
    """Counts the calls of one address to the routes that give tokens."""

    def __init__(self, limiter: RateLimiter, budget: Budget) -> None:
        """Args:
        limiter: counts.
        budget: of one address.
        """
        self._limiter = limiter
        self._budget = budget

    async def __call__(self, request: Request, proceed: Handler) -> Answer:
        """Count, then let through."""
        await count(self._limiter, _address_key(request.client_ip), self._budget, request)
        return await proceed(request)


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

    async def __call__(self, request: Request, proceed: Handler) -> Answer:
        """Count, then let through."""
        principal = request.principal
        if principal.anonymous:
            caller = _address_key(request.client_ip)
        else:
            caller = _caller_key(principal)
        await count(self._limiter, f"{self._route} {caller}", self._budget, request)
        return await proceed(request)
