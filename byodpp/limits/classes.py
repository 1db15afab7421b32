"""What a tenant's class allows: rows of `TenantClasses`, read together and believed for some seconds.

An empty limit of a class is no limit; a tenant without a class has the limits of the settings. Read
with the system role, since no tenant may see what others pay for. Refuses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from byodpp.authentication.tenants import Tenant
from byodpp.database import Database
from byodpp.limits.windows import Budget
from byodpp.settings import Settings

__all__ = ["ClassDirectory", "TenantLimits"]

_log: Final = logging.getLogger(__name__)

_SELECT: Final = (
    "select id, requests_per_minute, requests_per_hour, max_requests_per_day, max_concurrent_requests,"
    " max_connections, max_users, max_storage_bytes from tenant_classes"
)
#: Columns and lengths in seconds of the windows, each a policy of its own in the headers.
_WINDOWS: Final = (
    ("requests_per_minute", "tenant", 60),
    ("requests_per_hour", "tenant-hour", 3_600),
    ("max_requests_per_day", "tenant-day", 86_400),
)


#: Columns, and the least that each may hold.
_LEAST: Final = {
    **{column: 1 for column, _, _ in _WINDOWS},
    "max_concurrent_requests": 1,
    "max_connections": 1,
    "max_users": 0,
    "max_storage_bytes": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """What the users of one tenant may do together."""

    budgets: tuple[Budget, ...] = ()
    concurrent_requests: int | None = None  # in one process at a time; None is no limit
    connections: int | None = None  # of the pool of one process, in use at a time; None is no limit
    users: int | None = None  # rows of Users that are not refused; None is no limit
    storage_bytes: int | None = None  # of the application's rows; None is no limit


class ClassDirectory:
    """Knows the limits of every tenant."""

    def __init__(
        self,
        database: Database,
        default: TenantLimits,
        *,
        shares: MutableMapping[int, int],
        factor: int = 1,
        seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        database: read with its system role.
        default: of a tenant without a class.
        shares: tenant to its connections, kept up to date for the pool, where its class limits them.
        factor: multiplies how many requests the classes allow.
        seconds: how long the classes are believed.
        clock: monotonic seconds.
        """
        self._database = database
        self._default = default
        self._shares = shares
        self._factor = factor
        self._seconds = seconds
        self._clock = clock
        self._classes: dict[int, TenantLimits] = {}
        self._read_until = float("-inf")
        self._was_read = False
        self._first = asyncio.Lock()  # held while they are read for the first time
        self._turn = 0  # counts how often the classes were forgotten

    @classmethod
    def of(cls, settings: Settings, database: Database, shares: MutableMapping[int, int]) -> ClassDirectory:
        """Return the directory of an application; a tenant without a class has the limits of its settings."""
        budget = Budget(
            name="tenant",
            limit=settings.rate_limit_per_tenant,
            window_seconds=settings.rate_limit_window_seconds,
        )
        running = settings.max_concurrent_requests_per_tenant
        default = TenantLimits(budgets=(budget,), concurrent_requests=running)
        return cls(database, default, shares=shares, factor=settings.tenant_limit_factor)

    async def limits_of(self, tenant: Tenant | None) -> TenantLimits:
        """Return what a tenant may do; of no tenant, the limits of one without a class."""
        known = self.known(tenant)
        if known is None:
            await self._read()
            known = self._known(tenant)
        return known

    def known(self, tenant: Tenant | None) -> TenantLimits | None:
        """Return what `limits_of` does; None: the classes are to be read first."""
        if tenant is None or tenant.tenant_class is None:
            return self._default
        return None if self._clock() >= self._read_until else self._known(tenant)

    def _known(self, tenant: Tenant | None) -> TenantLimits:
        if tenant is None or tenant.tenant_class is None:
            return self._default
        limits = self._classes.get(tenant.tenant_class, self._default)
        if limits.connections is not None:
            self._shares[tenant.id] = limits.connections
        elif tenant.id in self._shares:
            del self._shares[tenant.id]
        return limits

    def forget(self) -> None:
        """Read the classes anew: one may have changed."""
        self._read_until = float("-inf")
        self._turn += 1

    async def _read(self) -> None:
        if self._was_read:
            return await self._look()
        async with self._first:  # nothing is known yet: who comes meanwhile waits, and has no other's limits
            if not self._was_read:
                await self._look()

    async def _look(self) -> None:
        turn, until = self._turn, self._clock() + self._seconds
        if self._was_read:  # whoever comes while they are read uses what was known before
            self._read_until = until
        async with self._database.system() as transaction:
            rows = await transaction.fetch(_SELECT)
        found = {row["id"]: _limits(_bounded(row), self._factor) for row in rows}
        for row in rows:
            if self._classes.get(row["id"]) != found[row["id"]]:
                _tell_odd(row)
        self._classes = found
        self._was_read = True
        if turn == self._turn:
            self._read_until = until


def _bounded(row: Any) -> dict[str, Any]:
    """Return a class whose limits are none that the API would refuse: what is less is the least."""
    return {name: None if row[name] is None else max(row[name], least) for name, least in _LEAST.items()}


def _tell_odd(row: Any) -> None:
    for name, least in _LEAST.items():
        if row[name] is not None and row[name] < least:
            _log.error(
                "TenantClasses %s counts as if %s were %d: it is %d", row["id"], name, least, row[name]
            )


def _limits(row: Mapping[str, Any], factor: int) -> TenantLimits:
    running: int | None = row["max_concurrent_requests"]
    return TenantLimits(
        budgets=tuple(
            Budget(name=name, limit=row[column] * factor, window_seconds=seconds)
            for column, name, seconds in _WINDOWS
            if row[column] is not None
        ),
        concurrent_requests=None if running is None else running * factor,
        connections=row["max_connections"],
        users=row["max_users"],
        storage_bytes=row["max_storage_bytes"],
    )
