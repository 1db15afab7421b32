"""A bounded dictionary whose entries are forgotten after some seconds.

Where somebody follows what changes, entries are believed for longer: what has changed is forgotten then,
and age alone decides as soon as nobody follows any more.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Expiring"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _nobody() -> bool:
    return False


class Expiring(Generic[K, V]):
    """What was looked up a moment ago. The oldest entry leaves when there are too many."""

    __slots__ = ("_clock", "_entries", "_followed", "_followed_seconds", "_max_entries", "_seconds", "turn")

    def __init__(
        self,
        *,
        seconds: float,
        max_entries: int,
        followed_seconds: float = 0.0,
        followed: Callable[[], bool] = _nobody,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        seconds: how long an entry is believed in any case.
        max_entries: how many are kept.
        followed_seconds: how long it is believed while changes are followed.
        followed: whether they are, at this moment.
        clock: monotonic seconds.
        """
        self._seconds = seconds
        self._max_entries = max_entries
        self._followed_seconds = followed_seconds
        self._followed = followed
        self._clock = clock
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        #: Counts how often something was forgotten; see `put`.
        self.turn = 0

    def get(self, key: K) -> V | None:
        """Return the entry, None when there is none or it is too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        age = self._clock() - entry[0]
        if age < self._seconds or (age < self._followed_seconds and self._followed()):
            return entry[1]
        del self._entries[key]
        return None

    def put(self, key: K, value: V, asked: int | None = None) -> None:
        """Remember an entry from now on; None is not a value.

        Args:
            key: of the entry.
            value: of the entry.
            asked: `turn` when the answer was asked for. What was forgotten since then may be this one, and
                the answer old: it is not kept.
        """
        if asked is not None and asked != self.turn:
            return
        self._entries[key] = (self._clock(), value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def forget(self, which: Callable[[K, V], bool] | None = None) -> None:
        """Forget the entries of which this is true; everything, when nothing is asked."""
        self.turn += 1
        if which is None:
            self._entries.clear()
            return
        for key in [key for key, (_, value) in self._entries.items() if which(key, value)]:
            del self._entries[key]

    def __len__(self) -> int:
        return len(self._entries)
