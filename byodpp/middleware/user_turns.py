"""Users of a tenant that may have only so many are written one request after the other.

In: a request that writes users. Out: the same, when its turn has come. The database lets one transaction
at a time write them, or two could both be the last that fits; who waits there holds a connection, and many
would take the pool from every other tenant. So they wait here, before they have one. May reject: Unavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from byodpp.authentication.tenants import Tenant
from byodpp.authentication.turns import Turns
from byodpp.middleware.tenant_limit import TenantClasses
from byodpp.requests import Request

__all__ = ["UserTurns"]


class UserTurns:
    """Stage of routes that write users."""

    def __init__(self, classes: TenantClasses, turns: Turns) -> None:
        """Args:
        classes: tell how many users a tenant may have.
        turns: the same for all routes.
        """
        self._classes = classes
        self._turns = turns
        self._taken: dict[Request, asyncio.Lock] = {}

    def __call__(self, request: Request) -> Awaitable[None] | None:
        """Let a request through when no other one writes users of its tenant."""
        tenant = request.principal.tenant
        if tenant is None:
            return None
        limits = self._classes.known(tenant)
        if limits is not None and limits.users is None:
            return None
        return self._wait(request, tenant)

    def leave(self, request: Request) -> None:
        """One request that was let through has ended."""
        if (turn := self._taken.pop(request, None)) is not None:
            turn.release()

    async def _wait(self, request: Request, tenant: Tenant) -> None:
        if (await self._classes.limits_of(tenant)).users is None:
            return
        self._taken[request] = await self._turns.take(tenant.id)
