"""API keys: `byodpp_<id>_<secret>` in, the key's record out; everything else is 401.

The secret is 32 bytes of chance, of which only the SHA-256 is stored. A slow hash makes guessing of
words expensive; of 256 bits of chance nothing can be guessed, and a fast hash costs each request a
microsecond. The id finds the row, whatever its tenant, so that a wrong secret is known to be an
attempt on this key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

from byodpp.authentication.changes import FOLLOWED_SECONDS, UNFOLLOWED_SECONDS
from byodpp.database import Database
from byodpp.exceptions import ApiError, PlaceUnavailable, TenantMoving, Unauthenticated
from byodpp.expiring import Expiring

__all__ = ["KEY_PREFIX", "ApiKey", "KeyDirectory", "claimed_key", "hash_of", "new_secret", "written"]

_log: Final = logging.getLogger(__name__)

KEY_PREFIX: Final = "byodpp_"
_KEY: Final = re.compile(r"byodpp_([0-7][0-9A-HJKMNP-TV-Z]{25})_([A-Za-z0-9_-]{43})")
_SECRET_BYTES: Final = 32

_SELECT: Final = (
    "select h.hash, k.id, k.tenant_id, k.user_id, k.roles, k.maker_roles, k.operations,"
    " coalesce(extract(epoch from k.expires_at), 0)::float8 as ends, k.revoked_at is not null as revoked,"
    " extract(epoch from k.created_at)::float8 as made, k.maker_name, k.maker_user_name, k.maker_email,"
    " u.realm, u.subject, u.status"
    " from byodpp.api_key_hashes h"
    " join api_keys k on k.tenant_id = h.tenant_id and k.id = h.id"
    " join users u on u.tenant_id = k.tenant_id and u.id = k.user_id"
    " where h.id = $1"
)
#: Whether some tenant is in a place that this process does not know, as one that was named later on.
_FURTHER: Final = (
    "select exists (select from byodpp.tenant_places"
    " where tier = 'database' and state <> 'gone' and not place = any($1::text[]))"
)
# The clocks of processes differ, and the last of them to write may not be the last that was used.
_USED: Final = (
    "update api_keys k set last_used_at = greatest(k.last_used_at, date_trunc('minute', u.at))"
    " from unnest($1::text[], $2::timestamptz[]) as u(id, at) join byodpp.api_key_hashes h using (id)"
    " where k.tenant_id = h.tenant_id and k.id = h.id and not exists"
    " (select from byodpp.tenant_places p where p.tenant_id = k.tenant_id and p.state <> 'served')"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ApiKey:
    """A stored key, as far as a request needs it. Compared by identity: looked up anew, it is another."""

    id: str
    hash: bytes
    tenant_id: int
    user_id: int
    roles: frozenset[str]
    maker_roles: frozenset[str] | None  # of the token with which it was made; None: it is from before
    operations: frozenset[str] | None  # `Resource:operation`; None is everything that the roles may
    created_at: float  # seconds since the epoch
    expires_at: float
    revoked: bool
    realm: str
    subject: str
    user_status: str
    name: str | None  # this and what follows: of the token with which it was made
    user_name: str | None
    email: str | None  # verified


def new_secret() -> str:
    """Return a secret of 256 bits as 43 characters."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def hash_of(secret: str) -> bytes:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode("ascii")).digest()


def written(id: str, secret: str) -> str:
    """Return the key as its owner gets it."""
    return f"{KEY_PREFIX}{id}_{secret}"


def claimed_key(text: str) -> str | None:
    """Return the id that a text of the form of a key names; it proves nothing."""
    found = _KEY.fullmatch(text)
    return found[1] if found is not None else None


class KeyDirectory:
    """Finds keys; believes what it found for a while, until it is told that something has changed."""

    def __init__(
        self,
        database: Database,
        *,
        seconds: float = UNFOLLOWED_SECONDS,
        max_entries: int = 10_000,
        followed: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        database: read and written with its system role.
        seconds: how long an answer is believed while changes are not followed.
        max_entries: how many keys are kept, and how many ids of nobody.
        followed: whether changes are followed; keys are believed for long then.
        clock: monotonic seconds.
        """
        self._database = database
        self._found: Expiring[str, ApiKey] = Expiring(
            seconds=seconds,
            max_entries=max_entries,
            followed_seconds=FOLLOWED_SECONDS,
            followed=followed,
            clock=clock,
        )
        self._unknown: Expiring[str, bool] = Expiring(seconds=seconds, max_entries=max_entries, clock=clock)
        self._used: dict[str, tuple[int, datetime]] = {}  # tenant, and when last
        self._max_entries = max_entries

    async def resolve(self, text: str) -> ApiKey:
        """Return the key that a text is.

        Raises:
            Unauthenticated: it is none, or none any more.
        """
        match = _KEY.fullmatch(text)
        key = None if match is None else await self._find(match[1])
        if match is None or key is None or not hmac.compare_digest(hash_of(match[2]), key.hash):
            raise Unauthenticated("The API key is not known here", error="invalid_token", unproven=True)
        if key.revoked:
            raise _invalid("The API key was revoked")
        if time.time() >= key.expires_at:
            raise _invalid("The API key has expired")
        return key

    async def require(self, id: str, hash: bytes | None, *, unexpired: bool = False) -> None:
        """See that a key that was used some time ago is still good.

        Args:
            id: of the key.
            hash: of the secret with which it was used.
            unexpired: refuse it also when it has expired meanwhile.

        Raises:
            Unauthenticated: it was revoked, has expired, or got another secret, or there is none any more.
        """
        key = await self._find(id)
        if key is None or key.revoked:
            raise _invalid("The API key was revoked")
        if key.hash != hash:
            raise _invalid("The API key's secret was exchanged")
        if unexpired and time.time() >= key.expires_at:
            raise _invalid("The API key has expired")

    def used(self, key: ApiKey) -> None:
        """Note that a key was used; written down by `write_uses`."""
        if key.id in self._used or len(self._used) < self._max_entries:
            self._used[key.id] = (key.tenant_id, datetime.now(UTC))

    async def write_uses(self) -> None:
        """Write down when keys were used, all with one statement, unless a tenant of them is on its way."""
        used, self._used = self._used, {}
        if not used:
            return
        for name, database in self._database.serving():  # each knows the keys of its own tenants
            try:
                await _write(database, used)
            except TenantMoving:  # its tables refuse it before that is noted: the others all the same
                for tenant in {tenant for tenant, _ in used.values()}:
                    await self._write_of(tenant, used, name, database)
            except ApiError as error:
                _log.warning("when keys were used is not written in %s: %s", _where(name), error.message)

    async def _write_of(
        self, tenant: int, used: Mapping[str, tuple[int, datetime]], name: str | None, database: Database
    ) -> None:
        try:
            await _write(database, {id: one for id, one in used.items() if one[0] == tenant})
        except TenantMoving:
            where = _where(name)
            _log.info("when keys of tenant %d were used is not written in %s while it moves", tenant, where)
        except ApiError as error:
            told = "when keys of tenant %d were used is not written in %s: %s"
            _log.warning(told, tenant, _where(name), error.message)

    def forget(self, tenants: Collection[int] | None = None) -> None:
        """Look the keys of these tenants up anew, and whatever was not found; None: every key."""
        self._found.forget(None if tenants is None else lambda _, key: key.tenant_id in tenants)
        self._unknown.forget()

    async def _find(self, id: str) -> ApiKey | None:
        known = self._found.get(id)
        if known is not None or self._unknown.get(id):
            return known
        asked, unknown = self._found.turn, self._unknown.turn
        record = await self._record(id)
        key = None if record is None else _readable(record)
        if key is None:
            self._unknown.put(id, True, unknown)
        else:
            self._found.put(id, key, asked)
        return key

    async def _record(self, id: str) -> Any:
        """Look for a key where tenants are; it does not say which one it is of.

        Raises:
            PlaceUnavailable: there is none in the databases that answer, and one does not, or is not known.
        """
        for _, database in self._database.serving():
            async with database.system() as transaction:
                record = await transaction.fetchrow(_SELECT, id)
            if record is not None:
                return record
        for name in self._database.places:
            self._database.at(name)
        async with self._database.system() as transaction:
            if await transaction.fetchval(_FURTHER, list(self._database.places)):
                raise PlaceUnavailable
        return None


def _where(name: str | None) -> str:
    return "the shared database" if name is None else f"the place {name}"


def _readable(record: Any) -> ApiKey | None:
    """Return a key; None where something is stored that the API would not have written."""
    try:
        return _key(record)
    except (ValueError, RecursionError) as error:
        told = "API key %s of tenant %s is refused, for its row cannot be read: %s"
        _log.error(told, record["id"], record["tenant_id"], error)
        return None


def _key(record: Any) -> ApiKey:
    if not (isfinite(record["made"]) and isfinite(record["ends"])):
        raise ValueError("it was made, or ends, at no time")
    return ApiKey(
        id=record["id"],
        hash=record["hash"],
        tenant_id=record["tenant_id"],
        user_id=record["user_id"],
        roles=_words(record, "roles") or frozenset(),
        maker_roles=_words(record, "maker_roles"),
        operations=_words(record, "operations"),
        created_at=record["made"],
        expires_at=record["ends"],
        revoked=record["revoked"],
        realm=record["realm"] or "",
        subject=record["subject"] or "",
        user_status=record["status"],
        name=record["maker_name"],
        user_name=record["maker_user_name"],
        email=record["maker_email"],
    )


def _words(record: Any, column: str) -> frozenset[str] | None:
    """Return a list of words; None where there is none.

    Raises:
        ValueError: it is something else.
    """
    if record[column] is None:
        return None
    found = json.loads(record[column])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{column} is no list of words")
    return frozenset(found)


def _invalid(message: str) -> Unauthenticated:
    return Unauthenticated(message, error="invalid_token")


async def _write(database: Database, used: Mapping[str, tuple[int, datetime]]) -> None:
    async with database.system() as transaction:
        await transaction.execute(_USED, list(used), [at for _, at in used.values()])
