"""Keeps the policies in force those that are stored: a version row, polled by every process.

Whoever writes rows of `Policies` counts `byodpp.policy_version` up in the same transaction
(`BUMP`); a process that sees another version than its own reads all policies anew. While the
database is away the policies that were read last stay in force. Rejects nothing but the first
reading: without policies nothing is served.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from byodpp.authorization.decisions import Authorizer
from byodpp.authorization.rows import read_policies
from byodpp.database import Database
from byodpp.exceptions import ApiError

__all__ = ["BUMP", "PolicyWatch"]

_log: Final = logging.getLogger(__name__)

#: Counts a change of `Policies`. The row's lock puts concurrent changes in the order of their commits,
#: so that no reader can have seen a version without what belongs to it.
BUMP: Final = "update byodpp.policy_version set version = version + 1"
#: Changes find a row to count in, and there is only one.
_FIRST: Final = (
    "insert into byodpp.policy_version (version)"
    " select 0 where not exists (select from byodpp.policy_version) on conflict do nothing"
)
_VERSION: Final = "select coalesce(max(version), 0) from byodpp.policy_version"


class PolicyWatch:
    """Loads policies at the start and whenever they have changed."""

    def __init__(self, database: Database, authorizer: Authorizer, *, seconds: float = 0.5) -> None:
        """Args:
        database: read with its system role, so that a busy application does not delay the look.
        authorizer: gets the policies.
        seconds: between two looks.
        """
        self._database = database
        self._authorizer = authorizer
        self._seconds = seconds
        self._away = False  # told once per outage
        self._task: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()

    async def start(self) -> None:
        """Put the stored policies in force, then look for changes until `stop`.

        Raises:
            ApiError: the policies cannot be read.
        """
        async with self._database.system() as transaction:
            await transaction.execute(_FIRST)
            stored = await read_policies(transaction)
        self._authorizer.load_policies(stored.rows, stored.links, version=stored.version)
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Look no more. Harmless when not started."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def refresh(self) -> None:
        """Read the policies anew if their version is another than that in force."""
        async with self._reading, self._database.system() as transaction:
            if await transaction.fetchval(_VERSION) == self._authorizer.version:
                return
            stored = await read_policies(transaction)
            self._authorizer.load_policies(stored.rows, stored.links, version=stored.version)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.refresh()
            except ApiError as error:
                if not self._away:
                    _log.warning("policies cannot be looked at, those in force stay: %s", error.message)
                self._away = True
            except Exception:
                # Whatever it is, the next look may succeed; an end of the watch would go unnoticed.
                _log.exception("policies could not be put in force, those before stay")
            else:
                self._away = False
