"""Cursors: where the next page begins, as an opaque text that only this application can write.

A cursor holds the values that the last row of a page had in the terms of the order, so that the
next page begins behind them whatever was written meanwhile, and costs what the first one did. It
is signed together with tenant, resource, filter and order, and is good for nothing else. In: a
judged Query and those values, or a text. Out: a text, or the Query of the next page. May refuse:
InvalidQuery for a text that is not ours, was made for another list, or is too old.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic_core import to_json

from byodpp.conditions import After, Query
from byodpp.exceptions import Detail, InvalidQuery

__all__ = ["LIFETIME_SECONDS", "Cursors"]

#: How long a cursor is good for.
LIFETIME_SECONDS: Final = 24 * 3600
#: Longest cursor, in characters: it must fit into an address. Rows with longer values get none.
MAX_LENGTH: Final = 6_000

_MAC_BYTES: Final = 16
#: Changes when the same values would mean something else.
_PURPOSE: Final = b"byodpp cursor 1"
_FOREIGN: Final = "This cursor was not made for this list: ask for the first page without one."
_EXPIRED: Final = "This cursor is too old: ask for the first page without one."


class Cursors:
    """Writes and reads cursors."""

    def __init__(
        self,
        secret: bytes,
        *,
        lifetime_seconds: int = LIFETIME_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Args:
        secret: of the application; the same in every process that serves it.
        lifetime_seconds: age at which a cursor is refused.
        clock: seconds since 1970.
        """
        self._key = hmac.digest(secret, _PURPOSE, hashlib.sha256)
        self._lifetime = lifetime_seconds
        self._clock = clock

    def issue(
        self, query: Query, tenant_id: int, values: Sequence[str | None], *, position: int
    ) -> str | None:
        """Return the cursor of the page that follows; None when it would be too long.

        Args:
            query: of this page.
            tenant_id: whose rows.
            values: of the last row in each term of the order, as PostgreSQL writes them as text.
            position: rows up to and including the last one, as far as was counted.
        """
        payload = to_json([int(self._clock()), position, values])
        text = urlsafe_b64encode(self._signed(payload, query, tenant_id) + payload).rstrip(b"=").decode()
        return text if len(text) <= MAX_LENGTH else None

    def resume(self, query: Query, tenant_id: int, text: Any) -> Query:
        """Return the query of the page behind a cursor.

        Args:
            query: judged, without the cursor.
            tenant_id: whose rows.
            text: what the client sent.

        Raises:
            InvalidQuery: it is no cursor of this list, or too old.
        """
        issued_at, position, values = self._opened(query, tenant_id, text)
        if not 0 <= self._clock() - issued_at + 60 <= self._lifetime + 60:
            raise InvalidQuery(details=[Detail("cursor", "expired", _EXPIRED)])
        first = len(query.values)
        present = [value for value in values if value is not None]
        found = iter(range(first, first + len(present)))
        places = tuple(None if value is None else next(found) for value in values)
        return replace(
            query,
            shape=replace(query.shape, after=After(places)),
            values=(*query.values, *present),
            offset=position,
            page=position // query.limit + 1,
        )

    def _opened(self, query: Query, tenant_id: int, text: Any) -> tuple[int, int, list[str | None]]:
        refused = InvalidQuery(details=[Detail("cursor", "cursor", _FOREIGN)])
        if not isinstance(text, str) or not text.isascii() or len(text) > MAX_LENGTH or "=" in text:
            raise refused
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            raise refused from None
        mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        known = query.fingerprint and hmac.compare_digest(mac, self._signed(payload, query, tenant_id))
        # Several texts stand for the same bytes; only the one that was given out is taken.
        if not known or urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
            raise refused
        issued_at, position, values = json.loads(payload)
        return issued_at, position, values

    def _signed(self, payload: bytes, query: Query, tenant_id: int) -> bytes:
        bound = b"%d:%b:%b" % (tenant_id, query.fingerprint, payload)
        # Every list that goes on has a cursor: this is a third of the time of HMAC, and as strong.
        return hashlib.blake2b(bound, key=self._key, digest_size=_MAC_BYTES).digest()
