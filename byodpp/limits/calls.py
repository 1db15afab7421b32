"""How many requests a tenant has made, as its budgets count them.

In: a tenant. Out: a figure per window. Refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from byodpp.authentication.tenants import Tenant
from byodpp.limits.classes import ClassDirectory
from byodpp.limits.windows import RateLimiter

__all__ = ["CallMeter", "Calls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Requests of a tenant in one sliding window."""

    seconds: int  # length of the window
    used: int
    limit: int


class CallMeter:
    """Asks what limits requests how much it has counted."""

    def __init__(self, limiter: RateLimiter, classes: ClassDirectory, *, counts: bool) -> None:
        """Args:
        limiter: counts the requests.
        classes: knows the windows of every tenant.
        counts: whether requests are counted at all.
        """
        self._limiter = limiter
        self._classes = classes
        self._counts = counts

    async def of(self, tenant: Tenant | None) -> tuple[Calls, ...]:
        """Return the windows of a tenant, the shortest first; none where nothing is counted."""
        if tenant is None or not self._counts:
            return ()
        budgets = (await self._classes.limits_of(tenant)).budgets
        used = [await self._limiter.used(str(tenant.id), one) for one in budgets]
        return tuple(
            Calls(seconds=one.window_seconds, used=number, limit=one.limit)
            for one, number in zip(budgets, used, strict=True)
        )
