"""Rate limits: how many requests an address or a user may make in a sliding window.

In: any request. Out: the same, with `RateLimit` and `RateLimit-Policy` prepared. May reject:
TooManyRequests with `Retry-After`. The counting lies behind `RateLimiter`, so that several
processes can share one; `SlidingWindows` counts in this process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from byodpp.exceptions import TooManyRequests
from byodpp.requests import Request
from byodpp.responses import Answer
from byodpp.routes import Handler

__all__ = [
    "AddressRateLimit",
    "Budget",
    "RateLimiter",
    "RouteRateLimit",
    "SlidingWindows",
    "Usage",
    "UserRateLimit",
]

#: Paths that are asked by machines that watch us, often all from one address.
_EXEMPT: Final = b"/health"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """So many requests in so many seconds."""

    name: str  # of the policy in the headers: letters and hyphens
    limit: int  # requests, at least 1
    window_seconds: int  # at least 1
    #: The name as headers have it, and the header that tells all this: the same for every request.
    quoted: bytes = field(init=False, repr=False, compare=False)
    header: tuple[bytes, bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Write both once."""
        quoted = b'"%b"' % self.name.encode("ascii")
        told = b"%b;q=%d;w=%d" % (quoted, self.limit, self.window_seconds)
        object.__setattr__(self, "quoted", quoted)
        object.__setattr__(self, "header", (b"ratelimit-policy", told))


class Usage(NamedTuple):
    """How a budget stands after a request."""

    allowed: bool
    remaining: int  # requests that would be allowed now
    reset_seconds: float  # until there is room again (refused), or until the window ends (allowed)


class RateLimiter(Protocol):
    """Counts requests."""

    async def hit(self, key: str, budget: Budget) -> Usage:
        """Count one request of `key` if the budget allows it."""
        ...


class SlidingWindows:
    """Counts in memory: two numbers per key, whatever the budget.

    The window slides by weighting the count of the fixed window before with the part of it
    that still lies inside. At most `max_keys` keys are held; when more are busy at once, the
    new ones share counters, so that a flood of addresses neither fills the memory nor
    escapes the limit.
    """

    _SHARED: Final = 1_024

    def __init__(self, *, max_keys: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        max_keys: keys held at once, the shared ones not counted.
        clock: seconds that never go back.
        """
        self._max_keys = max_keys
        self._clock = clock
        self._counts: dict[
            tuple[str, str], list[float]
        ] = {}  # (budget, key) -> window, count, count before, expiry
        self._next_sweep = 0.0

    def __len__(self) -> int:
        return len(self._counts)

    async def hit(self, key: str, budget: Budget) -> Usage:
        """Count one request of `key` if the budget allows it."""
        now = self._clock()
        window, past = divmod(now, budget.window_seconds)
        entry = self._entry((budget.name, key), now)
        if entry[0] != window:
            entry[2] = entry[1] if entry[0] == window - 1 else 0
            entry[0], entry[1] = window, 0
        entry[3] = now + 2 * budget.window_seconds
        used = entry[1] + entry[2] * (1 - past / budget.window_seconds)
        if used + 1 > budget.limit:
            return Usage(False, 0, _wait(entry[1], entry[2], past, budget))
        entry[1] += 1
        return Usage(True, int(budget.limit - used - 1), budget.window_seconds - past)

    def _entry(self, key: tuple[str, str], now: float) -> list[float]:
        entry = self._counts.get(key)
        if entry is None:
            if len(self._counts) >= self._max_keys and now >= self._next_sweep:
                self._next_sweep = now + 1.0
                self._counts = {held: counts for held, counts in self._counts.items() if counts[3] > now}
            if len(self._counts) >= self._max_keys:
                key = (key[0], f"shared {hash(key[1]) % self._SHARED}")
            entry = self._counts.setdefault(key, [0.0, 0.0, 0.0, 0.0])
        return entry


def _wait(current: float, before: float, past: float, budget: Budget) -> float:
    """Seconds until one more request fits."""
    length = budget.window_seconds
    if current + 1 <= budget.limit and before:
        return max((1 - (budget.limit - 1 - current) / before) * length - past, 0.0)
    return (length - past) + max((1 - (budget.limit - 1) / current) * length, 0.0)


async def _count(limiter: RateLimiter, key: str, budget: Budget, request: Request) -> None:
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
            await _count(self._limiter, _address_key(request.client_ip), self._budget, request)


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
            await _count(
                self._limiter, f"{principal.home_tenant_id}/{principal.user_id}", self._budget, request
            )
        return await proceed(request)


class RouteRateLimit:
    """Counts the calls of one address to certain routes, such as sign-in."""

    def __init__(self, limiter: RateLimiter, budget: Budget) -> None:
        """Args:
        limiter: counts.
        budget: of one address.
        """
        self._limiter = limiter
        self._budget = budget

    async def __call__(self, request: Request, proceed: Handler) -> Answer:
        """Count, then let through."""
        await _count(self._limiter, _address_key(request.client_ip), self._budget, request)
        return await proceed(request)
