"""Sliding windows: how many requests of a key fit into so many seconds, and keys that are shut out.

`RateLimiter` is what stages ask; `SlidingWindows` counts in this process, `byodpp.limits.shared` in a
store that several processes share. Refuses nothing: it tells how a budget stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

__all__ = ["Budget", "RateLimiter", "SlidingWindows", "Usage", "usage_of", "used_of"]

#: Of a number of requests in one window.
_BITS: Final = 40
_MOST: Final = (1 << _BITS) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """So many requests in so many seconds."""

    name: str  # of the policy in the headers: letters and hyphens
    limit: int  # requests, at least 1
    window_seconds: int  # at least 1
    #: Lines of headers that tell all this and, by two numbers, how it stands: what remains, and until when.
    lines: bytes = field(init=False, repr=False, compare=False)
    #: Name and window: budgets that have both in common count together.
    kind: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Write both once."""
        object.__setattr__(self, "kind", f"{self.name} {self.window_seconds}")
        name = self.name.encode("ascii")
        policy = b'ratelimit-policy: "%b";q=%d;w=%d\r\n' % (name, self.limit, self.window_seconds)
        object.__setattr__(self, "lines", policy + b'ratelimit: "%b";r=%%d;t=%%d\r\n' % name)


class Usage(NamedTuple):
    """How a budget stands after a request."""

    allowed: bool
    remaining: int  # requests that would be allowed now
    reset_seconds: float  # until there is room again (refused), or until the window ends (allowed)


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


class SlidingWindows:
    """Counts in memory: one number per key, whatever the budget.

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
        #: By kind of budget, what is held of each key: window, requests before it, and in it, in one number.
        #: Three numbers by themselves would lie in three places of memory, to be fetched by every request.
        self._counts: dict[str, dict[str, int]] = {}
        self._seconds: dict[str, int] = {}  # length of the windows, by kind of budget
        self._next_sweep = 0.0
        self._blocks: dict[str, float] = {}  # key -> end, the oldest first

    def __len__(self) -> int:
        return sum(map(len, self._counts.values()))

    async def hit(self, key: str, budget: Budget) -> Usage:
        """Count one request of `key` if the budget allows it."""
        return self.count(key, budget)

    def count(self, key: str, budget: Budget) -> Usage:
        """Count one request of `key` if the budget allows it."""
        now = self._clock()
        window, past = divmod(now, budget.window_seconds)
        counts = self._counts.get(budget.kind)
        held = None if counts is None else counts.get(key)
        if counts is None or held is None:
            counts, key = self._room(key, budget, now)
            held = counts.get(key, 0)
        number = int(window)
        current, before = _in_window(held, number)
        usage = usage_of(current, before, past, budget)
        if usage.allowed:
            current += 1
        counts[key] = (number << 2 * _BITS) + (before << _BITS) + current
        return usage

    async def used(self, key: str, budget: Budget) -> int:
        """Return how much of a budget this process has counted."""
        window, past = divmod(self._clock(), budget.window_seconds)
        held = self._counts.get(budget.kind, {}).get(key, 0)
        current, before = _in_window(held, int(window))
        return used_of(current, before, past, budget)

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

    def _room(self, key: str, budget: Budget, now: float) -> tuple[dict[str, int], str]:
        """Return where a new key is counted, and as which."""
        if len(self) >= self._max_keys and now >= self._next_sweep:
            self._next_sweep = now + 1.0
            self._sweep(now)
        counts = self._counts.setdefault(budget.kind, {})
        self._seconds[budget.kind] = budget.window_seconds
        return counts, f"shared {hash(key) % self._SHARED}" if len(self) >= self._max_keys else key

    def _sweep(self, now: float) -> None:
        """Forget the keys whose windows count no more."""
        for kind, counts in self._counts.items():
            oldest = (int(now // self._seconds[kind]) - 1) << 2 * _BITS
            self._counts[kind] = {key: held for key, held in counts.items() if held >= oldest}


def _in_window(held: int, window: int) -> tuple[int, int]:
    """Return how many requests of a key one window has counted, and the window before it."""
    last, current = held >> 2 * _BITS, held & _MOST
    if last == window:
        return current, held >> _BITS & _MOST
    return 0, current if last == window - 1 else 0


def usage_of(current: float, before: float, past: float, budget: Budget) -> Usage:
    """Return how a budget stands after one more request, which is counted if it is allowed.

    Args:
        current: requests that this window has counted.
        before: requests that the window before it has counted.
        past: seconds that have passed of this window.
        budget: the budget.
    """
    used = current + before * (1 - past / budget.window_seconds)
    if used + 1 > budget.limit:
        return Usage(False, 0, _wait(current, before, past, budget))
    return Usage(True, int(budget.limit - used - 1), budget.window_seconds - past)


def used_of(current: float, before: float, past: float, budget: Budget) -> int:
    """Return how many requests of a sliding window count now; arguments are those of `usage_of`."""
    return min(round(current + before * (1 - past / budget.window_seconds)), budget.limit)


def _wait(current: float, before: float, past: float, budget: Budget) -> float:
    """Seconds until one more request fits."""
    length = budget.window_seconds
    if current + 1 <= budget.limit and before:
        return max((1 - (budget.limit - 1 - current) / before) * length - past, 0.0)
    return (length - past) + max((1 - (budget.limit - 1) / current) * length, 0.0)
