"""A bounded dictionary whose entries are forgotten after some seconds.

Where somebody follows what changes, entries are believed for longer: what has changed is forgotten then,
and age alone decides as soon as nobody follows any more.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Expiring", "Kept"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _nobody() -> bool:
    return False


class Kept(Generic[V]):
    """An entry. Whoever comes by it again and again keeps it, and asks `Expiring.of` what it is worth."""

    __slots__ = ("since", "value")

    def __init__(self, since: float, value: V) -> None:
        """Args:
        since: when it was looked up, by the clock of its `Expiring`.
        value: that was found.
        """
        self.since = since
        self.value: V | None = value  # None: it was forgotten


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
        self._entries: OrderedDict[K, Kept[V]] = OrderedDict()
        #: Counts how often something was forgotten; see `put`.
        self.turn = 0

    def get(self, key: K) -> V | None:
        """Return the entry, None when there is none or it is too old."""
        kept = self.kept(key)
        return None if kept is None else kept.value

    def kept(self, key: K) -> Kept[V] | None:
        """Return the entry itself; None where `get` returns None."""
        kept = self._entries.get(key)
        if kept is None or self.of(kept) is not None:
            return kept
        self._entries.pop(key).value = None  # whoever has kept it must not find it worth anything again
        return None

    def of(self, kept: Kept[V]) -> V | None:
        """Return what an entry is worth now; None when it was forgotten, or has left, or is too old."""
        if (value := kept.value) is not None:
            age = self._clock() - kept.since
            if age < self._seconds or (age < self._followed_seconds and self._followed()):
                return value
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
        if (former := self._entries.pop(key, None)) is not None:
            former.value = None
        self._entries[key] = Kept(self._clock(), value)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)[1].value = None

    def forget(self, which: Callable[[K, V], bool] | None = None) -> None:
        """Forget the entries of which this is true; everything, when nothing is asked."""
        self.turn += 1
        entries = self._entries.items()
        for key in [
            key
            for key, kept in entries
            if which is None or (kept.value is not None and which(key, kept.value))
        ]:
            self._entries.pop(key).value = None

    def __len__(self) -> int:
        return len(self._entries)
