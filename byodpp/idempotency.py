"""Idempotency keys: the answer of a write, stored with its effect, so that a retry changes nothing.

In: a key with what it stands for (who, method, route, a hash of what was sent) and a transaction.
Out: the answer that was kept, or nothing when the work is still to be done. May reject:
InvalidHeader, IdempotencyInProgress, IdempotencyKeyReused.

The row is claimed before the work and filled after it, in the work's own transaction: it exists
exactly when the effect does, and a request that is refused leaves nothing. While it runs an
advisory lock stands for the claim, so that a twin is told at once instead of waiting.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from byodpp.database import Database, Transaction
from byodpp.encryption import EncryptionKeys, Unreadable, bound_to
from byodpp.exceptions import (
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InternalError,
    InvalidHeader,
    TenantMoving,
)
from byodpp.tables.framework import CONTROL_PLANE_ROUTE

__all__ = [
    "KEYED_METHODS",
    "IdempotencyKey",
    "IdempotencyKeys",
    "KeptAnswer",
    "Reading",
    "Right",
    "fingerprint",
    "read_key",
    "route_name",
]

_log: Final = logging.getLogger(__name__)

#: Methods whose retries would do more than the first try.
KEYED_METHODS: Final = frozenset({"POST", "PATCH"})
#: API version, resource, and operation or action key.
Right = tuple[str, str, str]
#: Of controlled fields: operation, API version, resource, key of the row if it is one, and what the audit
#: entry says of it, as JSON.
Reading = tuple[str, str, str, str | None, str]
#: Stands among the headers; none can be named so.
_RIGHTS: Final = ":rights"
#: The same: what was read.
_READ: Final = ":read"
#: The same: id of the key that has sealed the body.
_SEALED: Final = ":sealed"
_LONGEST_KEY: Final = 255
#: A longer address is stored as its hash: an index entry holds no more.
_LONGEST_ROUTE: Final = 500
_PURGE_SECONDS: Final = 60.0
_PURGED_ROWS: Final = 1_000

# The conflict clause sees what a twin has just committed, whatever this statement's snapshot is.
_CLAIM: Final = """
with lock as materialized (select pg_try_advisory_xact_lock(hashtextextended($7, 0)) as taken)
insert into byodpp.idempotency_keys as kept (tenant_id, user_id, method, route, key, request_hash)
select $1::bigint, $2::bigint, $3::text, $4::text, $5::text, $6::text from lock where taken
on conflict (tenant_id, user_id, method, route, key) do update set
    request_hash = case when kept.created_at > now() - interval '24 hours'
                        then kept.request_hash else excluded.request_hash end,
    status = case when kept.created_at > now() - interval '24 hours' then kept.status end,
    created_at = case when kept.created_at > now() - interval '24 hours'
                      then kept.created_at else excluded.created_at end
returning request_hash, status, headers, body
"""
_KEEP: Final = """
update byodpp.idempotency_keys set status = $6, headers = $7, body = $8
where tenant_id = $1 and user_id = $2 and method = $3 and route = $4 and key = $5
"""
_PURGE: Final = f"""
delete from byodpp.idempotency_keys where ctid = any(array(
    select ctid from byodpp.idempotency_keys where created_at < now() - interval '24 hours'
    -- Those of a tenant that is being moved stay as they were copied.
    and tenant_id not in (select tenant_id from byodpp.tenant_places where state <> 'served')
    limit {_PURGED_ROWS} for update skip locked))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A key and what it stands for; the same key for anything else is another one."""

    tenant_id: int  # of the session: row-level security decides by it
    user_id: int  # 0: nobody signed in
    method: str  # upper case
    route: str  # see `route_name`
    key: str
    request_hash: str  # of everything that must be the same in a retry

    @property
    def scope(self) -> tuple[int, int, str, str, str]:
        """The columns of the primary key."""
        return (self.tenant_id, self.user_id, self.method, self.route, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """What was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    rights: tuple[Right, ...] = ()  # that were asked for beside the route's own
    readings: tuple[Reading, ...] = ()  # of controlled fields that it shows


def read_key(header: str | None) -> str | None:
    """Return the value of an Idempotency-Key header, None when none was sent.

    Raises:
        InvalidHeader: it is not 1 to 255 characters of printable ASCII.
    """
    if header is None:
        return None
    if not 1 <= len(header) <= _LONGEST_KEY or not all(" " <= character <= "~" for character in header):
        raise InvalidHeader(f"Idempotency-Key must be 1 to {_LONGEST_KEY} printable ASCII characters.")
    return header


def fingerprint(parts: Iterable[bytes]) -> str:
    """Return a hash that differs when one of the parts does."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def route_name(
    pattern: str, params: Mapping[str, str], apart: str = "", *, control_plane: bool = False
) -> str:
    """Return the route of a key.

    Args:
        pattern: of the address.
        params: of the address.
        apart: what tells the caller from others of the same session and number.
        control_plane: whether what is written has its place there, wherever the tenant's rows are.
    """
    found = pattern if not params else f"{pattern} {json.dumps(dict(sorted(params.items())))}"
    if apart:
        found = f"{apart} {found}"
    name = found if len(found) <= _LONGEST_ROUTE else fingerprint([found.encode()])
    return f"{CONTROL_PLANE_ROUTE}{name}" if control_plane else name


class IdempotencyKeys:
    """The table of keys. Old ones are removed now and then, by whoever comes by."""

    def __init__(
        self,
        database: Database,
        *,
        encryption: EncryptionKeys | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        database: for removing old keys of every tenant.
        encryption: seals the answers that are kept, where rows have encrypted fields; None leaves them.
        clock: monotonic seconds.
        """
        self._database = database
        self._encryption = encryption
        self._clock = clock
        self._next_purge = 0.0

    async def claim(self, transaction: Transaction, key: IdempotencyKey) -> KeptAnswer | None:
        """Take a key for the work of this transaction.

        Returns:
            The answer that was kept under it; None when the work is still to be done.

        Raises:
            IdempotencyInProgress: another request has taken it and is running.
            IdempotencyKeyReused: it was used for another request.
        """
        lock = "\n".join(map(str, key.scope))
        row = await transaction.fetchrow(_CLAIM, *key.scope, key.request_hash, lock)
        if row is None:
            raise IdempotencyInProgress(headers={"Retry-After": "1"})
        if row["request_hash"] != key.request_hash:
            raise IdempotencyKeyReused
        if row["status"] is None:
            return None
        try:
            return self._kept(key, row)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            _log.error("an answer kept for retries is none: %s", error)
            raise InternalError from error

    def _kept(self, key: IdempotencyKey, row: Any) -> KeptAnswer:
        headers = json.loads(row["headers"])
        rights = tuple((version, name, operation) for version, name, operation in headers.pop(_RIGHTS, ()))
        readings = tuple(_reading(*one) for one in headers.pop(_READ, ()))
        body = self._opened(key, headers.pop(_SEALED, None), row["body"])
        told = all(isinstance(one, str) for one in headers.values())
        if not told or body is None or not 200 <= row["status"] <= 599:
            raise ValueError("its status, headers, or body are none")
        return KeptAnswer(status=row["status"], headers=headers, body=body, rights=rights, readings=readings)

    async def keep(self, transaction: Transaction, key: IdempotencyKey, answer: KeptAnswer) -> None:
        """Store the answer of the work; the last thing before the commit."""
        headers: dict[str, Any] = {**answer.headers}
        if answer.rights:
            headers[_RIGHTS] = answer.rights
        if answer.readings:
            headers[_READ] = answer.readings
        body = answer.body
        if self._encryption is not None:
            headers[_SEALED] = self._encryption.current
            body = self._encryption.seal(body.decode("latin-1"), _associated(key))
        await transaction.execute(_KEEP, *key.scope, answer.status, json.dumps(headers), body)
        if self._clock() >= self._next_purge:
            self._next_purge = self._clock() + _PURGE_SECONDS
            transaction.after_commit(partial(self.purge, transaction.context.database))

    def _opened(self, key: IdempotencyKey, sealed_by: str | None, body: bytes) -> bytes:
        if sealed_by is None:
            return body
        try:
            if self._encryption is None:
                raise Unreadable("the application has no encrypted fields any more, and no keys here")
            return self._encryption.open(sealed_by, body, _associated(key)).encode("latin-1")
        except Unreadable as error:
            _log.error("an answer kept for retries cannot be read: %s", error)
            raise InternalError from error

    async def purge(self, place: str | None = None) -> int:
        """Remove keys that are older than a day, a bounded number of them; return how many.

        Args:
            place: name of the database to remove them from; None: the one that all tenants share.
        """
        try:
            async with self._database.at(place).system() as transaction:
                done = await transaction.execute(_PURGE)
        except TenantMoving:  # out of that very place
            return 0
        return int(done.rpartition(" ")[2])


def _reading(operation: str, version: str, resource: str, key: str | None, changes: str) -> Reading:
    return operation, version, resource, key, changes


def _associated(key: IdempotencyKey) -> bytes:
    return bound_to("byodpp answer", *key.scope)
