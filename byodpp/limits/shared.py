"""Sliding windows that several processes share, kept in Redis.

One script per hit, atomic and one trip: two numbers per key and the server's clock, so that processes
whose clocks differ agree. When Redis does not answer in time, or is slow again and again, this process
counts alone from then on and a task of its own asks until Redis is back: no request waits for it twice, and
none is let through uncounted. One that comes and goes is asked ever more rarely.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from byodpp.limits.windows import Budget, SlidingWindows, Usage, usage_of, used_of

__all__ = ["SharedWindows"]

_log: Final = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

#: Hits that are on their way at a time, each on a connection of its own.
_CONNECTIONS: Final = 16
#: Slow answers in a row that are as good as none.
_SLOW_ANSWERS: Final = 5
#: Between two questions to one that comes and goes; and how long it has to stay to be asked soon again.
_LONGEST_RETRY_SECONDS: Final = 60.0
#: A hash holds number of the window, its count, and the count of the window before. Returns both counts
#: as they were before the request, and the microseconds that have passed of the window. What is no such
#: hash, as another program has left it, is begun anew: an error would look like a Redis that is away.
_COUNTS: Final = """
local limit, length = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local window = math.floor(now / length)
local past = now - window * length
local kept = redis.pcall('HMGET', KEYS[1], 'w', 'c', 'b')
if kept.err then
  redis.call('DEL', KEYS[1])
  kept = {}
end
local function counted(text)
  local number = tonumber(text or 0)
  return number and number >= 0 and number < 2^53 and math.floor(number) or 0
end
local current, before = counted(kept[2]), counted(kept[3])
local last = tonumber(kept[1] or -1)
if last ~= window then
  before = last == window - 1 and current or 0
  current = 0
end
"""
_HIT: Final = f"""{_COUNTS}local fits = current + before * (1 - past / length) + 1 <= limit
if fits then
  redis.call('HSET', KEYS[1], 'w', string.format('%d', window), 'c', current + 1, 'b', before)
  redis.call('PEXPIRE', KEYS[1], math.ceil(length / 500))
end
return {{current, before, past}}
"""
#: The same, and counts nothing.
_LOOK: Final = f"{_COUNTS}return {{current, before, past}}"


class SharedWindows:
    """Counts in Redis, and in memory while Redis is away."""

    def __init__(
        self,
        uri: str,
        *,
        alone: SlidingWindows | None = None,
        prefix: str = "byodpp:limit:",
        timeout_seconds: float = 0.1,
        retry_seconds: float = 0.5,
    ) -> None:
        """Args:
        uri: `redis://…` or `rediss://…`; nothing is connected before the first hit.
        alone: counts while Redis is away.
        prefix: of every key.
        timeout_seconds: longest wait for a turn, for a connection, and for an answer; an answer for which
            half of it was waited is slow: while this thread itself is at work, it waits for nothing.
        retry_seconds: between two questions whether Redis is back; doubled, up to a minute, each time
            that it has gone again within a minute.
        """
        pool = ConnectionPool.from_url(
            uri,
            max_connections=_CONNECTIONS + 1,  # one to ask whether it is back
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),  # counting alone is the second try
        )
        self._redis: Redis = Redis(connection_pool=pool)
        self._script = self._redis.register_script(_HIT)
        self._looking = self._redis.register_script(_LOOK)
        self._alone = alone or SlidingWindows()
        self._prefix = prefix
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._timeout_seconds = timeout_seconds
        self._first_retry_seconds = self._retry_seconds = retry_seconds
        self._slow = 0  # slow answers in a row
        self._back_at: float | None = None  # when it was back last, by the clock of `_now`
        self._waiting: asyncio.Task[None] | None = None  # until Redis is back

    def is_alone(self) -> bool:
        """Whether this process counts alone at present."""
        return self._waiting is not None

    def count(self, key: str, budget: Budget) -> Usage | None:
        """Count one request of `key` where that needs no Redis; None: `hit` is to be asked."""
        return self._alone.count(key, budget) if self.is_alone() else None

    async def hit(self, key: str, budget: Budget) -> Usage:
        """Count one request of `key` if the budget allows it."""
        counts = await self._together(self._ask, key, budget)
        if counts is None:
            return await self._alone.hit(key, budget)
        current, before, past = counts
        return usage_of(current, before, past / 1_000_000, budget)

    async def used(self, key: str, budget: Budget) -> int:
        """Return how much of a budget is used; while Redis is away, of this process's requests."""
        counts = await self._together(self._look, key, budget)
        if counts is None:
            return await self._alone.used(key, budget)
        current, before, past = counts
        return used_of(current, before, past / 1_000_000, budget)

    async def block(self, key: str, seconds: int) -> bool:
        """Shut `key` out for so long: of every process, and of this one also when Redis goes."""
        begun = await self._alone.block(key, seconds)
        told = await self._together(self._shut_out, key, seconds)
        return begun if told is None else told[0]

    async def blocked(self, key: str) -> float:
        """Return for how many seconds `key` is still shut out."""
        left = await self._together(self._left, key)
        return max(left or 0.0, await self._alone.blocked(key))

    async def _together(self, ask: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Ask Redis something; None when it is away."""
        if self.is_alone() or not await self._has_turn():
            return None
        try:
            if self.is_alone():  # lost while we waited
                return None
            begun = _idle()
            # Its own timeouts, not one around it: a connection that is cut short is closed in there.
            answer = await ask(*args, **kwargs)
        except (RedisError, OSError, TimeoutError) as error:
            self._lost(type(error).__name__)
            return None
        finally:
            self._turns.release()
        self._slow = self._slow + 1 if self._is_slow(begun) else 0
        if self._slow >= _SLOW_ANSWERS:
            self._lost(f"{_SLOW_ANSWERS} answers took longer than {self._timeout_seconds / 2:g} seconds each")
        return answer

    async def _has_turn(self) -> bool:
        """Wait for a turn, which is to be released then; False: it would take too long."""
        if not self._turns.locked():
            return await self._turns.acquire()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_seconds):
                return await self._turns.acquire()
        return False

    def _is_slow(self, begun: float) -> bool:
        return _idle() - begun > self._timeout_seconds / 2

    async def ping(self) -> None:
        """Raise unless Redis answers."""
        await self._redis.ping()

    async def close(self) -> None:
        """Let go of Redis."""
        if self._waiting is not None:
            self._waiting.cancel()
            with suppress(asyncio.CancelledError):
                await self._waiting
        await self._redis.aclose(close_connection_pool=True)

    async def _ask(self, key: str, budget: Budget) -> Any:
        return await self._script(
            keys=[f"{self._prefix}{budget.name}:{key}"], args=[budget.limit, budget.window_seconds]
        )

    async def _look(self, key: str, budget: Budget) -> Any:
        return await self._looking(
            keys=[f"{self._prefix}{budget.name}:{key}"], args=[budget.limit, budget.window_seconds]
        )

    async def _shut_out(self, key: str, seconds: int) -> tuple[bool]:
        return (bool(await self._redis.set(f"{self._prefix}block:{key}", 1, ex=seconds, nx=True)),)

    async def _left(self, key: str) -> float:
        # -1 and -2 of Redis: no end, no such key
        return max(int(await self._redis.pttl(f"{self._prefix}block:{key}")), 0) / 1_000

    def _lost(self, reason: str) -> None:
        if self._waiting is None:
            known = self._back_at is not None and _now() - self._back_at < _LONGEST_RETRY_SECONDS
            wait = self._retry_seconds * 2 if known else self._first_retry_seconds
            self._retry_seconds = min(wait, _LONGEST_RETRY_SECONDS)
            self._slow = 0
            _log.warning("Redis is away (%s): this process counts requests alone until it is back", reason)
            self._waiting = asyncio.create_task(self._return())

    async def _return(self) -> None:
        while True:
            await asyncio.sleep(self._retry_seconds)
            begun = _idle()
            try:
                await self.ping()
            except (RedisError, OSError, TimeoutError):
                continue
            except Exception:
                # Whatever it is, the next question may be answered; an end of the task would go unnoticed.
                _log.exception("Redis could not be asked whether it is back")
                continue
            if self._is_slow(begun):
                continue
            _log.warning("Redis is back: requests are counted together again")
            self._back_at, self._waiting = _now(), None
            return


def _now() -> float:
    return asyncio.get_running_loop().time()


def _idle() -> float:
    """Return seconds since some moment in which this thread was not at work: a busy process blames nobody."""
    return _now() - time.thread_time()
