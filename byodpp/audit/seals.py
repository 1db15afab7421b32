"""A seal: many entries of one tenant and the seal before them, under one hash.

The hash is SHA-256 of lines of ASCII, each ended by a line feed:

    byodpp audit seal 1
    tenant <id>
    number <from 1>
    previous <hash of the seal before in hex; 64 zeros for the first>
    since <time or ->
    sealed <time>
    <id of an entry> <its digest in hex>        (one line for each, in the order of arrival)

Times are in UTC with six digits: 2026-01-31T08:00:00.000000Z. Anybody can check the hashes. The
`mac` beside each is HMAC-SHA-256 of the hash with a key that is not in the database: whoever owns
the database can make hashes anew, but no macs.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, Final

from byodpp.audit.entries import DIGEST_BYTES

__all__ = ["NO_SEAL", "Head", "Seal", "SealKey"]

#: Stands for the seal before the first.
NO_SEAL: Final = bytes(DIGEST_BYTES)


@dataclass(frozen=True, slots=True)
class SealKey:
    """A key that makes macs; its id is derived from it and tells nothing of it."""

    key: bytes

    @classmethod
    def derived(cls, secret: bytes) -> SealKey:
        """Return the key that belongs to the application's secret."""
        return cls(hmac.digest(secret, b"byodpp audit seals", "sha256"))

    @property
    def id(self) -> str:
        """Eight hex digits."""
        return hashlib.sha256(b"id\0" + self.key).hexdigest()[:8]

    def mac(self, hash: bytes) -> bytes:
        """Return the mac of a seal's hash."""
        return hmac.digest(self.key, hash, "sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a chain ends."""

    tenant_id: int
    number: int = 0  # of the last seal; 0: there is none
    total: int = 0  # entries sealed
    hash: bytes = NO_SEAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """One row of `byodpp.audit_seals`, without its mac."""

    tenant_id: int
    number: int
    since: datetime | None  # what was committed before is in earlier seals; None: not known
    sealed_at: datetime
    total: int
    entries: Sequence[int]
    digests: bytes
    previous: bytes

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Seal:
        """Return the seal in a row."""
        return cls(**{name: record[name] for name in cls.__dataclass_fields__})

    @classmethod
    def after(
        cls,
        head: Head,
        entries: Sequence[int],
        digests: bytes,
        *,
        since: datetime | None,
        sealed_at: datetime,
    ) -> Seal:
        """Return the next seal of a chain.

        Args:
            head: of the chain so far.
            entries: ids in the order of arrival.
            digests: of these, joined.
            since: when the snapshot was taken that all earlier entries are in.
            sealed_at: now, by the database's clock.
        """
        return cls(
            tenant_id=head.tenant_id,
            number=head.number + 1,
            since=since,
            sealed_at=sealed_at,
            total=head.total + len(entries),
            entries=entries,
            digests=digests,
            previous=head.hash,
        )

    def hash(self) -> bytes:
        """Return what the next seal holds as `previous`."""
        return hashlib.sha256("".join(self._lines()).encode("ascii")).digest()

    def head(self) -> Head:
        """Return where the chain ends with this seal."""
        return Head(tenant_id=self.tenant_id, number=self.number, total=self.total, hash=self.hash())

    def digest_of(self, place: int) -> bytes:
        """Return the digest of an entry by its place."""
        return self.digests[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES]

    def _lines(self) -> Iterator[str]:
        yield "byodpp audit seal 1\n"
        yield f"tenant {self.tenant_id}\nnumber {self.number}\nprevious {self.previous.hex()}\n"
        yield f"since {_time(self.since)}\nsealed {_time(self.sealed_at)}\n"
        digests = self.digests.hex("\n", -DIGEST_BYTES).split("\n")
        # Where somebody has put more into one than into the other, there are more lines, and another hash.
        pairs = zip_longest(self.entries, digests, fillvalue="")
        # All at once, for a seal may have thousands of them, and requests wait while they are written.
        yield "".join([f"{entry} {digest}\n" for entry, digest in pairs])


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
