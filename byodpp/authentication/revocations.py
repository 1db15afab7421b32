"""Tokens and keys that are no longer good: kept in memory, followed in every process.

Whoever writes rows of `Revocations`, or of `ApiKeys`, counts `byodpp.revocation_version` up in the
same transaction (`BUMP`); a process that sees another version than its own reads the rows that came
since and forgets what it believes of keys and callers. One such transaction at a time comes to its end, so
that no key outlives the revocation of what it was made by. An entry is dropped when the tokens it is
about have ended by themselves. With the same look go the `changes` of tenants and users. Rejects
nothing but the first reading.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from byodpp.authentication.changes import DirectoryChanges, Forget
from byodpp.authentication.keys import KeyDirectory
from byodpp.database import Database
from byodpp.exceptions import ApiError
from byodpp.recurring import Recurring

__all__ = [
    "BUMP",
    "GONE",
    "KEEP_GONE",
    "OUTLAST",
    "REVOKED_SINCE",
    "SUBJECT",
    "WENT_SINCE",
    "RevocationWatch",
    "Revocations",
]

_log: Final = logging.getLogger(__name__)

#: Counts a change and numbers the rows of this transaction; the row's lock makes the order of the numbers
#: that of the commits, so that whoever has seen a number has seen all before it.
BUMP: Final = (
    "with counted as (update byodpp.revocation_version set version = version + 1 returning version)"
    " update revocations set _number = (select version from counted) where _number is null"
)
#: After it: an API key may have been made since the transaction began, and the revocation counts from then.
#: One that is younger even so was made when the clock was ahead, or so says a row that SQL has written: it is
#: revoked by its id.
OUTLAST: Final = (
    "with outlasting as"
    " (update revocations r set created_at = clock_timestamp(), updated_at = clock_timestamp()"
    " where kind in ('user', 'tenant')"
    " and _number = (select max(version) from byodpp.revocation_version) and exists"
    " (select from api_keys k where k.tenant_id = r.tenant_id and k.created_at > r.created_at) returning *)"
    " insert into revocations (tenant_id, kind, subject, expires_at, reason, _number)"
    " select k.tenant_id, 'token', k.id, coalesce(k.expires_at, r.expires_at),"
    " 'the key was made in the future', r._number from outlasting r"
    " join api_keys k on k.tenant_id = r.tenant_id and k.created_at > r.created_at"
    " and (r.kind = 'tenant' or k.user_id::text = ltrim(r.subject, '0'))"
)
_LIVE: Final = "(expires_at > now() or expires_at is null)"
#: Whether a revocation is about a user whose id is $4, as `_user` reads it: who names nobody means everybody.
_ABOUT: Final = (
    "(kind <> 'user' or subject is null or subject !~ '^[0-9]{1,19}$'"
    " or coalesce(nullif(ltrim(subject, '0'), ''), '0') = $4)"
)
#: After it, where a key has been made: whether that by which it was made was revoked, and nobody here has
#: heard of it. By its own time the key would be younger than the revocation, and good.
REVOKED_SINCE: Final = (
    f"select exists (select from revocations where tenant_id = $1 and {_LIVE}"
    " and (kind = 'token' and subject = any($2::text[])"
    f" or kind <> 'token' and created_at >= to_timestamp($3::float8) and {_ABOUT}))"
)
#: A user whose row is deleted gets another one with the next token: by the row alone what he had would be
#: good again. So his subject is written down as if it were one token's id.
GONE: Final = "sub:"
_LONGEST_SUBJECT: Final = 255 - len(GONE)
SUBJECT: Final = "select subject from users where tenant_id = $1 and id = $2"
KEEP_GONE: Final = (
    "insert into revocations (tenant_id, kind, subject, expires_at, reason)"
    f" select $1, 'token', '{GONE}' || left($3, {_LONGEST_SUBJECT}), now() + interval '366 days',"
    " 'the user was deleted' where not exists (select from users where tenant_id = $1 and id = $2)"
    " returning 1"
)
#: Whether the user of a token was deleted after it was made: asked where another row would be written for it.
#: Entries that have ended stay in the table, one of each sign-out: their index passes over them.
WENT_SINCE: Final = (
    f"select exists (select from revocations where tenant_id = $1 and {_LIVE} and kind = 'token'"
    f" and subject = '{GONE}' || left($2, {_LONGEST_SUBJECT}) and created_at >= to_timestamp($3::float8))"
)
_FIRST: Final = (
    "insert into byodpp.revocation_version (version)"
    " select 0 where not exists (select from byodpp.revocation_version) on conflict do nothing"
)
_VERSION: Final = "select coalesce(max(version), 0) from byodpp.revocation_version"
#: Seconds since the epoch: a time without end, or before all years, is none that Python has.
_SINCE: Final = (
    "select id, tenant_id, kind, subject, extract(epoch from created_at)::float8 as made,"
    " coalesce(extract(epoch from expires_at), 'infinity')::float8 as ends from revocations"
    " where _number > $1 and _number <= $2 and (expires_at > now() or expires_at is null)"
)
#: An id of a row has fewer digits.
_DIGITS: Final = 20
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
        self._gone: dict[tuple[int, str], tuple[float, float]] = {}  # the same of subjects without a row
        self._tenants: set[int] = set()  # of which any of them knows anything

    def concern(self, tenant_id: int) -> bool:
        """Whether anything of a tenant is revoked."""
        return tenant_id in self._tenants

    def refuses(
        self,
        tenant_id: int,
        user_id: int,
        issued_at: float,
        token_id: str | None = None,
        subject: str | None = None,
    ) -> bool:
        """Whether a token or key is revoked: by itself, with its user, or with its tenant.

        Args:
            tenant_id: the caller's own.
            user_id: row of Users; 0: not known.
            issued_at: when it was made, in seconds since the epoch.
            token_id: `jti`.
            subject: `sub`.
        """
        if self._gone and subject is not None:
            until = self._gone.get((tenant_id, subject[:_LONGEST_SUBJECT]))
            if until is not None and issued_at <= until[0]:
                return True
        if self._before:
            for whose in ((tenant_id, user_id), (tenant_id, 0)):
                until = self._before.get(whose)
                if until is not None and issued_at <= until[0]:
                    return True
        return token_id is not None and (tenant_id, token_id) in self._tokens

    def add(self, rows: Iterable[Any]) -> None:
        """Take rows of Revocations in force."""
        for row in rows:
            tenant, made, end, subject = row["tenant_id"], row["made"], row["ends"], row["subject"]
            self._tenants.add(tenant)
            if row["kind"] != "token":
                _note(self._before, (tenant, _user(row) if row["kind"] == "user" else 0), made, end)
            elif subject is not None and subject.startswith(GONE):
                _note(self._gone, (tenant, subject.removeprefix(GONE)), made, end)
            else:
                self._tokens[tenant, subject] = end

    def sweep(self) -> None:
        """Drop what concerns only tokens that have ended by themselves."""
        now = self._clock()
        self._tokens = {key: end for key, end in self._tokens.items() if end > now}
        self._before = {key: until for key, until in self._before.items() if until[1] > now}
        self._gone = {key: until for key, until in self._gone.items() if until[1] > now}
        self._tenants = {tenant for tenant, _ in (*self._tokens, *self._before, *self._gone)}

    def __len__(self) -> int:
        return len(self._tokens) + len(self._before) + len(self._gone)


def _user(row: Any) -> int:
    """Return whose tokens are revoked; 0 is everybody's, also where a row names nobody who could be."""
    subject = row["subject"]
    if subject is not None and subject.isascii() and subject.isdigit() and len(subject) < _DIGITS:
        return int(subject)
    told = "Revocations %s of tenant %s names no user, and counts for all of the tenant"
    _log.error(told, row["id"], row["tenant_id"])
    return 0


_Key = TypeVar("_Key")


def _note(known: dict[_Key, tuple[float, float]], key: _Key, made: float, end: float) -> None:
    until, known_end = known.get(key, (0.0, 0.0))
    known[key] = (max(until, made), max(known_end, end))


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
