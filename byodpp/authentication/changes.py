"""Changes of tenants, users, grants, and places, as every process learns of them.

Whoever changes one writes a row with the tenant's id in the same transaction (`record_change`); each
process reads, now and then, the rows that have been committed since its last look (by PostgreSQL's
snapshots, so that nobody waits for anybody and none is missed) and forgets what it believes of those
tenants. While it looks often enough, what was found otherwise is believed for long (`followed`).
Rejects nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final, TypeAlias

from byodpp.database import PLATFORM_TENANT, Transaction

__all__ = ["FOLLOWED_SECONDS", "UNFOLLOWED_SECONDS", "DirectoryChanges", "Forget", "record_change"]

#: How long an answer is believed while changes are followed. It ends at all for those who change rows
#: by SQL of their own and record nothing.
FOLLOWED_SECONDS: Final = 300.0
#: How long an answer is believed while nobody follows.
UNFOLLOWED_SECONDS: Final = 1.0
#: A look that is older follows nothing any more.
_LOOK_SECONDS: Final = 1.0
#: Between two snapshots: rows that the one before the last has seen are deleted. A process that has not
#: looked for almost as long cannot know what it has missed.
_KEEP_SECONDS: Final = 60.0
_MISSED_SECONDS: Final = 50.0

_RECORD: Final = "insert into byodpp.directory_changes (tenant_id) values ($1) on conflict do nothing"
#: Tenants come as texts: the driver would look up what an array of numbers is, once for each connection.
_NOW: Final = "select pg_current_snapshot()::text as now, '{}'::text[] as tenants"
_SINCE: Final = """
    select pg_current_snapshot()::text as now, array(
        select distinct tenant_id::text from byodpp.directory_changes
        where arrival >= pg_snapshot_xmin($1::text::pg_snapshot)
            and arrival < pg_snapshot_xmax(pg_current_snapshot())
            and not pg_visible_in_snapshot(arrival, $1::text::pg_snapshot)) as tenants
"""
#: What arrives in the future is of another server, out of a backup: it would be news at every look.
_SWEEP: Final = (
    "delete from byodpp.directory_changes where pg_visible_in_snapshot(arrival, $1::text::pg_snapshot)"
    " or arrival >= pg_snapshot_xmax(pg_current_snapshot())"
)


#: Drops what is remembered of these tenants; None: of all.
Forget: TypeAlias = Callable[[Collection[int] | None], object]


async def record_change(transaction: Transaction, tenant_id: int) -> None:
    """Record that a tenant, or what is known of its users, grants, or place, is another after the commit.

    Args:
        transaction: of the change; as the app role, the tenant must be the session's.
        tenant_id: whose; the platform's stands for every tenant.
    """
    await transaction.execute(_RECORD, tenant_id)


class DirectoryChanges:
    """What of this has reached one process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        clock: monotonic seconds.
        """
        self._clock = clock
        self._seen: str | None = None  # snapshot of the last look
        self._looked_at = float("-inf")
        self._kept: str | None = None  # snapshot of the last sweep
        self._swept_at = float("-inf")

    def followed(self) -> bool:
        """Whether whatever was committed more than a moment ago is known here."""
        return self._clock() - self._looked_at <= _LOOK_SECONDS

    async def look(self, transaction: Transaction, forget: Forget) -> None:
        """Read what has come since the last look, and forget what it is about.

        Args:
            transaction: of the system role, read committed.
            forget: told what has changed.
        """
        began = self._clock()
        missed = self._seen is None or began - self._looked_at > _MISSED_SECONDS
        [row] = await transaction.fetch(_NOW) if missed else await transaction.fetch(_SINCE, self._seen)
        tenants = frozenset(map(int, row["tenants"]))
        if missed or PLATFORM_TENANT in tenants:
            forget(None)
        elif tenants:
            forget(tenants)
        self._seen, self._looked_at = row["now"], began

    def lose(self) -> None:
        """Know no more where the last look was: the next one forgets everything.

        After a look that failed perhaps another server answers, which gives ids of transactions anew.
        """
        self._seen = self._kept = None

    async def sweep(self, transaction: Transaction) -> None:
        """Delete what every process that looks has seen.

        Args:
            transaction: of the system role.
        """
        now = self._clock()
        if self._seen is None or now - self._swept_at < _KEEP_SECONDS:
            return
        if self._kept is not None:
            await transaction.execute(_SWEEP, self._kept)
        self._kept, self._swept_at = self._seen, now
