"""Sliding windows: how many requests of a key fit into so many seconds, and keys that are shut out.

`RateLimiter` is what stages ask; `SlidingWindows` counts in this process, `byodpp.limits.shared` in a
store that several processes share. Refuses nothing: it tells how a budget stands.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple, Protocol

__all__ = ["Budget", "RateLimiter", "SlidingWindows", "Usage", "usage_of", "used_of"]

#: Of the requests in one window; beyond that many it counts no further.
_BITS: Final = 32
_MOST: Final = (1 << _BITS) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """So many requests in so many seconds."""

    name: str  # of the policy in the headers: letters and hyphens
    limit: int  # requests, at least 1
    window_seconds: int  # at least 1
    #: Lines of headers that tell all this and how it stands, up to the first of two numbers: what remains.
    lines: str = field(init=False, repr=False, compare=False)
    #: Name and window: budgets that have both in common count together.
    kind: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Write both once."""
        object.__setattr__(self, "kind", f"{self.name} {self.window_seconds}")
        policy = f'ratelimit-policy: "{self.name}";q={self.limit};w={self.window_seconds}\r\n'
        object.__setattr__(self, "lines", f'{policy}ratelimit: "{self.name}";r=')

    def told(self, remaining: int, seconds: int) -> bytes:
        """Return the lines of headers that tell the budget and how it stands.

        Args:
            remaining: requests that would be allowed now.
            seconds: until that changes.
        """
        return f"{self.lines}{remaining};t={seconds}\r\n".encode("ascii")


class Usage(NamedTuple):
    """How a budget stands after a request."""

    allowed: bool
    remaining: int  # requests that would be allowed now
    reset_seconds: float  # until there is room again (refused), or until the window ends (allowed)


#: Makes a Usage of its three values in a quarter of the time that calling it takes.
_usage: Final = partial(tuple.__new__, Usage)


class RateLimiter(Protocol):
    """Counts requests."""

    def count(self, key: str, budget: Budget) -> Usage | None:
        """Count one request of `key` if the budget allows it; None: nothing was counted, ask `hit`."""
        ...

    async def hit(self, key: str, budget: Budget) -> Usage:
        """Count one request of `key` if the budget allows it."""
        ...

    async def used(self, key: str, budget: Budget) -> int:
        """Return how much of a budget is used, and count nothing."""
        ...

    async def block(self, key: str, seconds: int) -> bool:
        """Shut `key` out for so long; False when it is already, and stays so no longer than it was."""
        ...

    async def blocked(self, key: str) -> float:
        """Return for how many seconds `key` is still shut out; 0 when it is not."""
        ...


class _Counts:
    """What budgets of one kind have counted: two numbers of each key, all in one piece of memory.

    As objects, numbers lie wherever there was room when they were made, and whoever puts a new one in the
    place of an old one fetches the memory around that, too: with a thousand tenants, each time.
    """

    __slots__ = ("held", "places", "seconds")

    def __init__(self, seconds: int) -> None:
        """Args:
        seconds: length of the windows.
        """
        self.seconds = seconds
        self.places: dict[str, int] = {}  # of the first number of each key
        #: The last window with a request; then its requests in the lower bits, those of the one before above.
        self.held = array("Q")

    def place(self, key: str) -> int:
        """Return the place of a key, which is made where it has none."""
        place = self.places.get(key)
        if place is None:
            place = self.places[key] = len(self.held)
            self.held.extend((0, 0))
        return place

    def counted(self, place: int, window: int) -> int:
        """Return the second number as it is in a window, which may be a new one."""
        last, counted = self.held[place], self.held[place + 1]
        if last == window:
            return counted
        return (counted & _MOST) << _BITS if last == window - 1 else 0

    def since(self, window: int) -> _Counts:
        """Return a copy that holds only keys of which something was counted in a window, or later."""
        copy = _Counts(self.seconds)
        for key, place in self.places.items():
            if self.held[place] >= window:
                copy.places[key] = len(copy.held)
                copy.held.extend(self.held[place : place + 2])
        return copy


class SlidingWindows:
    """Counts in memory: two numbers per key, whatever the budget.

    The window slides by weighting the count of the fixed window before with the part of it
    that still lies inside. At most `max_keys` keys are held; when more are busy at once, the
    new ones share counters, so that a flood of addresses neither fills the memory nor
    escapes the limit.
    """

    _SHARED: Final = 1_024

    def __init__(self, *, max_keys: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        max_keys: keys held at once, the shared ones not counted.
        clock: seconds that never go back, and begin above zero.
        """
        self._max_keys = max_keys
        self._clock = clock
        self._counts: dict[str, _Counts] = {}  # by kind of budget
        self._next_sweep = 0.0
        self._blocks: dict[str, float] = {}  # key -> end, the oldest first

    def __len__(self) -> int:
        return sum(len(counts.places) for counts in self._counts.values())

    async def hit(self, key: str, budget: Budget) -> Usage:
        """Count one request of `key` if the budget allows it."""
        return self.count(key, budget)

    def count(self, key: str, budget: Budget) -> Usage:
        """Count one request of `key` if the budget allows it."""
        now = self._clock()
        window, past = divmod(now, budget.window_seconds)
        counts = self._counts.get(budget.kind)
        place = None if counts is None else counts.places.get(key)
        if counts is None or place is None:
            counts, place = self._room(key, budget, now)
        held, number = counts.held, int(window)
        if held[place] == number:  # as mostly: something was counted in this window
            counted = held[place + 1]
        else:
            counted = held[place + 1] = counts.counted(place, number)
            held[place] = number
        current = counted & _MOST
        usage = usage_of(current, counted >> _BITS, past, budget)
        if usage[0] and current < _MOST:
            held[place + 1] = counted + 1
        return usage

    async def used(self, key: str, budget: Budget) -> int:
        """Return how much of a budget this process has counted."""
        window, past = divmod(self._clock(), budget.window_seconds)
        counts = self._counts.get(budget.kind)
        place = None if counts is None else counts.places.get(key)
        if counts is None or place is None:
            return 0
        counted = counts.counted(place, int(window))
        return used_of(counted & _MOST, counted >> _BITS, past, budget)

    async def block(self, key: str, seconds: int) -> bool:
        """Shut `key` out for so long; of more than `max_keys` the oldest is let in again."""
        if await self.blocked(key):
            return False
        if len(self._blocks) >= self._max_keys:
            del self._blocks[next(iter(self._blocks))]
        self._blocks[key] = self._clock() + seconds
        return True

    async def blocked(self, key: str) -> float:
        """Return for how many seconds `key` is still shut out."""
        left = self._blocks[key] - self._clock() if key in self._blocks else 0.0
        if left > 0:
            return left
        self._blocks.pop(key, None)
        return 0.0

    def _room(self, key: str, budget: Budget, now: float) -> tuple[_Counts, int]:
        """Return where a new key is counted; one that finds no room shares a place with others."""
        if len(self) >= self._max_keys and now >= self._next_sweep:
            self._next_sweep = now + 1.0
            self._sweep(now)
        counts = self._counts.get(budget.kind)
        if counts is None:
            counts = self._counts[budget.kind] = _Counts(budget.window_seconds)
        shared = len(self) >= self._max_keys
        return counts, counts.place(f"shared {hash(key) % self._SHARED}" if shared else key)

    def _sweep(self, now: float) -> None:
        """Forget the keys whose windows count no more."""
        for kind, counts in self._counts.items():
            self._counts[kind] = counts.since(int(now // counts.seconds) - 1)


def usage_of(current: float, before: float, past: float, budget: Budget) -> Usage:
    """Return how a budget stands after one more request, which is counted if it is allowed.

    Args:
        current: requests that this window has counted.
        before: requests that the window before it has counted.
        past: seconds that have passed of this window.
        budget: the budget.
    """
    used = current + before * (1 - past / budget.window_seconds) if before else current
    if used + 1 > budget.limit:
        return Usage(False, 0, _wait(current, before, past, budget))
    return _usage((True, int(budget.limit - used - 1), budget.window_seconds - past))


def used_of(current: float, before: float, past: float, budget: Budget) -> int:
    """Return how many requests of a sliding window count now; arguments are those of `usage_of`."""
    return min(round(current + before * (1 - past / budget.window_seconds)), budget.limit)


def _wait(current: float, before: float, past: float, budget: Budget) -> float:
    """Seconds until one more request fits."""
    length = budget.window_seconds
    if current + 1 <= budget.limit and before:
        return max((1 - (budget.limit - 1 - current) / before) * length - past, 0.0)
    return (length - past) + max((1 - (budget.limit - 1) / current) * length, 0.0)
