"""Limits of a tenant: what all its users may ask for together, by its class.

In: a request with its principal. Out: the same, counted. May reject: TooManyRequests with
`Retry-After`, when a budget of the tenant is spent or too many of its requests run at this moment.
Callers without a token are counted by address only, or strangers could spend a tenant's budget.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import Any, Protocol

from byodpp.exceptions import TooManyRequests
from byodpp.limits import Budget, RateLimiter, TenantLimits
from byodpp.middleware.rate_limit import count
from byodpp.requests import Request

__all__ = ["RunningRequests", "TenantClasses", "TenantLimit"]


class TenantClasses(Protocol):
    """Knows the limits of every tenant."""

    def known(self, tenant: Any) -> TenantLimits | None:
        """Return the same at once; None: `limits_of` is to be asked."""
        ...

    async def limits_of(self, tenant: Any) -> TenantLimits:
        """Return what a tenant may do; of None, the limits of a tenant without a class."""
        ...


class RunningRequests:
    """How many requests of each tenant run in this process."""

    def __init__(self) -> None:
        self._running: dict[int, int] = {}

    def enter(self, tenant_id: int, limit: int | None) -> bool:
        """Count one more request unless that would be too many; whether it was counted."""
        running = self._running.get(tenant_id, 0)
        if limit is not None and running >= limit:
            return False
        self._running[tenant_id] = running + 1
        return True

    def leave(self, tenant_id: int) -> None:
        """One request has ended."""
        running = self._running[tenant_id] - 1
        if running:
            self._running[tenant_id] = running
        else:
            del self._running[tenant_id]

    def __len__(self) -> int:
        return sum(self._running.values())


class TenantLimit:
    """Stage of every guarded route."""

    def __init__(self, limiter: RateLimiter, classes: TenantClasses, running: RunningRequests) -> None:
        """Args:
        limiter: counts requests.
        classes: knows the limits.
        running: counts what runs; the same for all routes.
        """
        self._limiter = limiter
        self._classes = classes
        self._running = running

    def __call__(self, request: Request) -> Awaitable[None] | None:
        """Count one request."""
        principal = request.principal
        if principal.anonymous:
            return None
        # Everybody spends the budget of the own tenant, whoever they act for or are a guest of.
        home = None if principal.platform else principal.home
        limits = self._classes.known(home)
        if limits is None:
            return self._looked_up(request, home)
        return self._counted(request, limits, iter(limits.budgets))

    def leave(self, request: Request) -> None:
        """One request that was counted has ended."""
        if not request.principal.anonymous:
            self._running.leave(request.principal.home_tenant_id)

    async def _looked_up(self, request: Request, home: Any) -> None:
        limits = await self._classes.limits_of(home)
        waiting = self._counted(request, limits, iter(limits.budgets))
        if waiting is not None:
            await waiting

    def _counted(
        self, request: Request, limits: TenantLimits, budgets: Iterator[Budget]
    ) -> Awaitable[None] | None:
        """Count the request in what is left of the budgets, then as one that runs."""
        principal = request.principal
        for budget in budgets:
            waiting = count(self._limiter, principal.counted_for, budget, request)
            if waiting is not None:
                return self._awaited(waiting, request, limits, budgets)
        if not self._running.enter(principal.home_tenant_id, limits.concurrent_requests):
            told = f"At most {limits.concurrent_requests} requests of an organisation run at a time."
            raise TooManyRequests(told, headers={"Retry-After": "1"})
        return None

    async def _awaited(
        self, waiting: Awaitable[None], request: Request, limits: TenantLimits, budgets: Iterator[Budget]
    ) -> None:
        await waiting
        following = self._counted(request, limits, budgets)
        if following is not None:
            await following
