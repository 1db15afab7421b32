"""Tokens and keys that are no longer good: kept in memory, followed in every process.

Whoever writes rows of `Revocations`, or of `ApiKeys`, counts `byodpp.revocation_version` up in the
same transaction (`BUMP`); a process that sees another version than its own reads the rows that came
since and forgets what it believes of keys and callers. An entry is dropped when the tokens it is
about have ended by themselves. With the same look go the `changes` of tenants and users. Rejects
nothing but the first reading.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from byodpp.authentication.changes import DirectoryChanges, Forget
from byodpp.authentication.keys import KeyDirectory
from byodpp.database import Database
from byodpp.exceptions import ApiError
from byodpp.recurring import Recurring

__all__ = ["BUMP", "RevocationWatch", "Revocations"]

_log: Final = logging.getLogger(__name__)

#: Counts a change and numbers the rows of this transaction; the row's lock makes the order of the numbers
#: that of the commits, so that whoever has seen a number has seen all before it.
BUMP: Final = (
    "with counted as (update byodpp.revocation_version set version = version + 1 returning version)"
    " update revocations set _number = (select version from counted) where _number is null"
)
_FIRST: Final = (
    "insert into byodpp.revocation_version (version)"
    " select 0 where not exists (select from byodpp.revocation_version) on conflict do nothing"
)
_VERSION: Final = "select coalesce(max(version), 0) from byodpp.revocation_version"
_SINCE: Final = (
    "select tenant_id, kind, subject, created_at, expires_at from revocations"
    " where _number > $1 and _number <= $2 and expires_at > now()"
)
#: How often keys' uses are written down and ended entries dropped.
_SWEEP_SECONDS: Final = 60.0


class Revocations:
    """What is revoked, of all tenants."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        """Args:
        clock: seconds since the epoch.
        """
        self._clock = clock
        self._tokens: dict[tuple[int, str], float] = {}  # (tenant, jti) -> when it is forgotten
        self._before: dict[
            tuple[int, int], tuple[float, float]
        ] = {}  # (tenant, user) -> made until, forgotten
        self._tenants: set[int] = set()  # of which either knows anything

    def concern(self, tenant_id: int) -> bool:
        """Whether anything of a tenant is revoked."""
        return tenant_id in self._tenants

    def refuses(self, tenant_id: int, user_id: int, issued_at: float, token_id: str | None = None) -> bool:
        """Whether a token or key is revoked: by itself, with its user, or with its tenant.

        Args:
            tenant_id: the caller's own.
            user_id: row of Users.
            issued_at: when it was made, in seconds since the epoch.
            token_id: `jti`.
        """
        if self._before:
            for whose in ((tenant_id, user_id), (tenant_id, 0)):
                until = self._before.get(whose)
                if until is not None and issued_at <= until[0]:
                    return True
        return token_id is not None and (tenant_id, token_id) in self._tokens

    def add(self, rows: Iterable[Any]) -> None:
        """Take rows of Revocations in force."""
        for row in rows:
            tenant, end = row["tenant_id"], row["expires_at"].timestamp()
            self._tenants.add(tenant)
            if row["kind"] == "token":
                self._tokens[tenant, row["subject"]] = end
                continue
            user = int(row["subject"]) if row["kind"] == "user" else 0
            until, known_end = self._before.get((tenant, user), (0.0, 0.0))
            self._before[tenant, user] = (
                max(until, row["created_at"].timestamp()), max(known_end, end)
            )  # fmt: skip

    def sweep(self) -> None:
        """Drop what concerns only tokens that have ended by themselves."""
        now = self._clock()
        self._tokens = {key: end for key, end in self._tokens.items() if end > now}
        self._before = {key: until for key, until in self._before.items() if until[1] > now}
        self._tenants = {tenant for tenant, _ in (*self._tokens, *self._before)}

    def __len__(self) -> int:
        return len(self._tokens) + len(self._before)


class RevocationWatch:
    """Follows what is written, in this process and in every other."""

    def __init__(
        self,
        database: Database,
        revocations: Revocations,
        changes: DirectoryChanges,
        keys: KeyDirectory,
        forget: Forget,
        *,
        seconds: float = 0.4,
        places: Mapping[str, RevocationWatch] | None = None,
    ) -> None:
        """Args:
        database: read with its system role.
        revocations: gets the rows.
        changes: looked at, too.
        keys: writes down when they were used.
        forget: drops tenants, users, keys, and callers that are remembered.
        seconds: between two looks.
            places: watches of the databases that tenants have for themselves.
        """
        self._places: Mapping[str, RevocationWatch] = {} if places is None else places
        self._database = database
        self._revocations = revocations
        self._changes = changes
        self._keys = keys
        self._forget = forget
        self._version = -1
        self.looks = Recurring(
            self._look,
            seconds=seconds,
            log=_log,
            trouble="revocations cannot be looked at, those in force stay",
        )
        self._reading = asyncio.Lock()
        self._next_sweep = time.monotonic() + _SWEEP_SECONDS

    async def start(self) -> None:
        """Read what is in force, then look for more until `stop`.

        Raises:
            ApiError: the revocations cannot be read.
        """
        async with self._database.system() as transaction:
            await transaction.execute(_FIRST)
        await self.refresh()
        self.looks.start()

    async def stop(self) -> None:
        """Look no more; write down the last uses of keys. Harmless when not started."""
        if not await self.looks.stop():
            return
        try:
            await self._keys.write_uses()
        except ApiError as error:
            _log.warning("when keys were used last was not written: %s", error.message)

    async def refresh(self, place: str | None = None) -> None:
        """Read what has come since the last look, if anything has.

        Args:
            place: name of the database to look into; None: the one that all tenants share.
        """
        if place is not None:
            return await self._places[place].refresh()
        async with self._reading:
            try:
                await self._read_news()
            except BaseException:
                self._changes.lose()
                raise

    async def _read_news(self) -> None:
        async with self._database.system() as transaction:
            await self._changes.look(transaction, self._forget)
            version = await transaction.fetchval(_VERSION)
            if version == self._version:
                return
            rows = await transaction.fetch(_SINCE, self._version, version)
            self._revocations.add(rows)
            self._version = version
            self._forget(None)

    async def _look(self) -> None:
        await self.refresh()
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + _SWEEP_SECONDS
            self._revocations.sweep()
            await self._keys.write_uses()
            async with self._database.system() as transaction:
                await self._changes.sweep(transaction)
