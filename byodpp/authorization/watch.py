"""Keeps the policies in force those that are stored: a version per tenant, polled by every process.

Whoever writes rows that decide about access records a new version of the tenant in the same
transaction (`record_change`); a process that finds another version than its own reads that
tenant's rows anew. A notification, sent by the system role once the change is committed, only
shortens the wait: while nobody listens, or the listener's connection is dead, the poll finds
the change. While the database is away the policies that were read last stay in force.
Rejects nothing but the first reading: without policies nothing is served.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from byodpp.authorization.decisions import Authorizer
from byodpp.authorization.rows import read_rows
from byodpp.database import PLATFORM_TENANT, Database, Transaction
from byodpp.database.listening import listen
from byodpp.recurring import Recurring

__all__ = ["CHANNEL", "PolicyWatch", "record_change"]

_log: Final = logging.getLogger(__name__)

#: Channel on which changes are told.
CHANNEL: Final = "byodpp_access"
#: One change at a time in a tenant: what a change is judged by is still so when it commits.
_ALONE: Final = "select pg_advisory_xact_lock(hashtextextended('byodpp access ' || $1::bigint, 0))"
_RECORD: Final = (
    "insert into byodpp.access_versions (tenant_id, version) values ($1, 1)"
    " on conflict (tenant_id) do update set version = access_versions.version + 1"
)
#: A number that changes with them: not their sum, since a tenant may go while another one comes.
_DIGEST: Final = (
    "select count(*), sum(hashint8extended(tenant_id, version))::text from byodpp.access_versions"
)
_VERSIONS: Final = "select tenant_id, version from byodpp.access_versions"
_TELL: Final = f"select pg_notify('{CHANNEL}', '')"


async def begin_change(transaction: Transaction, tenant_id: int) -> None:
    """Let no other transaction change what a tenant has stored about access before this one ends."""
    await transaction.execute(_ALONE, tenant_id)


async def record_change(transaction: Transaction, tenant_id: int) -> None:
    """Record that a tenant's rules have changed; every process will read them anew.

    Args:
        transaction: of the change; as the app role, the tenant must be the session's.
        tenant_id: whose.
    """
    await begin_change(transaction, tenant_id)
    await transaction.execute(_RECORD, tenant_id)


class PolicyWatch:
    """Loads policies at the start and whenever they have changed."""

    def __init__(
        self,
        database: Database,
        authorizer: Authorizer,
        *,
        seconds: float = 0.4,
        places: Mapping[str, PolicyWatch] | None = None,
        of_place: bool = False,
    ) -> None:
        """Args:
        database: read with its system role, so that a busy application does not delay the look.
        authorizer: gets the policies.
        seconds: between two looks.
            places: watches of the databases that tenants have for themselves.
            of_place: whether this is one of them.
        """
        self._places: Mapping[str, PolicyWatch] = {} if places is None else places
        self._of_place = of_place
        self._database = database
        self._authorizer = authorizer
        self._digest: tuple[Any, ...] = ()
        self._versions: Mapping[int, int] = {}
        self._reading = asyncio.Lock()
        self._told = asyncio.Event()
        self.looks = Recurring(
            self.refresh,
            seconds=seconds,
            log=_log,
            trouble="policies cannot be looked at, those in force stay",
            woken=self._told,
        )
        # Only shortens the wait for the next look, so that its end is nothing to worry about.
        self._listening = Recurring(
            self._listen,
            seconds=seconds,
            log=_log,
            trouble="changes of policies are not heard, only looked for",
            level=logging.DEBUG,
            at_once=True,
        )

    async def start(self) -> None:
        """Put the stored policies in force, then look for changes until `stop`.

        Raises:
            ApiError: the policies cannot be read.
        """
        async with self._database.system() as transaction:
            await self._read_all(transaction)
        self.looks.start()
        self._listening.start()

    async def stop(self) -> None:
        """Look no more. Harmless when not started."""
        await self._listening.stop()
        await self.looks.stop()

    async def refresh(self) -> None:
        """Read anew what has changed since the last look."""
        async with self._reading, self._database.system() as transaction:
            digest = tuple(await transaction.fetchrow(_DIGEST) or ())
            if digest != self._digest:
                await self._read_changes(transaction)
                self._digest = digest

    async def announce(self, place: str | None = None) -> None:
        """Put a change that is committed in force here, and tell the other processes to look.

        Args:
            place: name of the database in which it was made; None: the one that all tenants share.
        """
        if place is not None:
            return await self._places[place].announce()
        await self.refresh()
        async with self._database.system() as transaction:
            await transaction.execute(_TELL)

    async def _read_all(self, transaction: Transaction) -> None:
        if self._of_place:  # what others have in force comes from elsewhere
            return await self._read_changes(transaction)
        versions = {one["tenant_id"]: one["version"] for one in await transaction.fetch(_VERSIONS)}
        stored = await read_rows(transaction)
        self._authorizer.load_policies(
            stored.rows, stored.links, platform=stored.platform, version=frozenset(versions.items())
        )
        self._versions = versions

    async def _read_changes(self, transaction: Transaction) -> None:
        """Read the rows of tenants whose version is another; versions come first, so none is missed."""
        versions = {one["tenant_id"]: one["version"] for one in await transaction.fetch(_VERSIONS)}
        known = self._versions
        # A tenant that is here no more is gone, or in another database, whose watch knows its rules.
        left = {} if self._of_place or self._places else known
        changed = [id for id in {**left, **versions} if known.get(id) != versions.get(id)]
        if changed:
            platform = PLATFORM_TENANT in changed and not self._of_place
            stored = await read_rows(transaction, changed)
            self._authorizer.change_policies(
                stored.by_tenant(changed),
                stored.platform if platform else None,
                version=frozenset(versions.items()),
            )
        self._versions = versions

    async def _listen(self) -> None:
        """Wake the look when a change is told, until the connection is lost."""
        if self._database.system_uri is not None:
            await listen(self._database.system_uri, CHANNEL, self._told.set)
