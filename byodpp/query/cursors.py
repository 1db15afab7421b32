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
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic_core import from_json, to_json

from byodpp.conditions import After, Query, Shape
from byodpp.exceptions import Detail, InvalidQuery

__all__ = ["LIFETIME_SECONDS", "Cursors"]

#: How long a cursor is good for.
LIFETIME_SECONDS: Final = 24 * 3600
#: Longest cursor, in characters: it must fit into an address. Rows with longer values get none.
MAX_LENGTH: Final = 6_000

_MAC_BYTES: Final = 16
#: Shapes of pages that are kept; the oldest leaves when there are too many.
_MOST_SHAPES: Final = 2_000
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
        key = hmac.digest(secret, _PURPOSE, hashlib.sha256)
        self._signing = hashlib.blake2b(key=key, digest_size=_MAC_BYTES)  # to be copied
        self._shapes: OrderedDict[tuple[Shape, int, tuple[bool, ...]], Shape] = OrderedDict()
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
        present = tuple([value for value in values if value is not None])
        nulls = tuple([value is None for value in values])
        return Query(
            shape=self._following(query, nulls),
            values=query.values + present,
            limit=query.limit,
            offset=position,
            page=position // query.limit + 1,
            fingerprint=query.fingerprint,
        )

    def _following(self, query: Query, nulls: tuple[bool, ...]) -> Shape:
        """Return the shape of pages behind rows that have nulls in these terms of the order.

        The same object each time: it is looked up, and to make and compare one costs more than all else here.
        """
        key = (query.shape, len(query.values), nulls)
        shape = self._shapes.get(key)
        if shape is None:
            places = iter(range(len(query.values), len(query.values) + len(nulls)))
            after = After(tuple([None if null else next(places) for null in nulls]))
            shape = self._shapes[key] = replace(query.shape, after=after)
            if len(self._shapes) > _MOST_SHAPES:
                self._shapes.popitem(last=False)
        return shape

    def _opened(self, query: Query, tenant_id: int, text: Any) -> tuple[int, int, list[str | None]]:
        if not isinstance(text, str) or not text.isascii() or len(text) > MAX_LENGTH or "=" in text:
            raise _foreign()
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            raise _foreign() from None
        mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        known = query.fingerprint and hmac.compare_digest(mac, self._signed(payload, query, tenant_id))
        # Several texts stand for the same bytes; only the one that was given out is taken.
        if not known or urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
            raise _foreign()
        issued_at, position, values = from_json(payload)
        return issued_at, position, values

    def _signed(self, payload: bytes, query: Query, tenant_id: int) -> bytes:
        bound = b"%d:%b:%b" % (tenant_id, query.fingerprint, payload)
        # Every list that goes on has a cursor: this is a third of the time of HMAC, and as strong.
        signing = self._signing.copy()
        signing.update(bound)
        return signing.digest()


def _foreign() -> InvalidQuery:
    return InvalidQuery(details=[Detail("cursor", "cursor", _FOREIGN)])
