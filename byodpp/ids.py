"""Identifiers made in Python: UUID version 7 and ULID, both sortable by time."""

from __future__ import annotations

import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from ulid import ULID

from byodpp.definitions import ResourceDefinition

__all__ = ["Ids", "chance_of_requests", "request_id"]

#: The last 60 bits of a request's id.
_LAST: Final = (1 << 60) - 1


def request_id(chance: int) -> str:
    """Return an id for a request: the 32 hex digits of a UUID version 7.

    Ids of one moment begin alike, so that an index of them is written at its end and not all over.

    Args:
        chance: 72 bits. Nobody may do more for knowing an id, so that they need not be fit for secrets: to
            ask the system for those would be a call of it for each request.
    """
    stamp = time.time_ns() // 1_000_000 << 80
    value = stamp | 0x7 << 76 | chance >> 60 << 64 | 0x8 << 60 | chance & _LAST
    return value.to_bytes(16).hex()


def chance_of_requests() -> Callable[[], int]:
    """Return what gives the 72 bits of each `request_id`.

    It is a source of its own: what an application does with the one of the process must not repeat ids.
    Nor must a server that forks after loading: each process that it makes begins anew.
    """
    source = Random()
    known = weakref.ref(source)

    def begin_anew() -> None:
        here = known()
        if here is not None:
            here.seed()

    os.register_at_fork(after_in_child=begin_anew)
    return partial(source.getrandbits, 72)


class Ids:
    """Makes identifiers. Those of one instance ascend, also within a millisecond."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0  # 48 bits of milliseconds, then 12 bits of counter

    def uuid7(self) -> uuid.UUID:
        """Return a UUID version 7 (RFC 9562): 48 bits of milliseconds, 74 of counter and chance."""
        with self._lock:
            stamp = time.time_ns() // 1_000_000 << 12
            # A full counter, or a clock set back, borrows from the next millisecond.
            self._last = max(stamp, self._last + 1)
            stamp = self._last
        chance = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
        value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | chance
        return uuid.UUID(int=value)

    def ulid(self) -> str:
        """Return a ULID: 26 characters of Crockford's base 32."""
        with self._lock:
            stamp = time.time_ns() // 1_000_000 << 12
            self._last = max(stamp, self._last + 1)
            stamp = self._last
        chance = int.from_bytes(os.urandom(9)) & ((1 << 68) - 1)
        return str(ULID.from_int((stamp >> 12) << 80 | (stamp & 0xFFF) << 68 | chance))

    def for_resource(self, resource: ResourceDefinition) -> uuid.UUID | str | None:
        """Return a new key for a row; None where PostgreSQL counts (bigint)."""
        if resource.key == "uuid7":
            return self.uuid7()
        if resource.key == "ulid":
            return self.ulid()
        return None
