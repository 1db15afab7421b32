"""Work that a process does now and then beside its requests: looks for news, measures, seals.

In: a coroutine function, and how often. Out: nothing. Rejects nothing: a round that fails is told, once
per reason, and the next one tries again, so that no such task ends without a word. What goes on failing
is reported by `require_well`, for `/health`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from byodpp.exceptions import ApiError, Unavailable

__all__ = ["Recurring", "require_well"]

#: A restart of PostgreSQL or a lost connection is no illness.
_PATIENCE_SECONDS: Final = 10.0


class Recurring:
    """One such work, from `start` to `stop`."""

    def __init__(
        self,
        work: Callable[[], Awaitable[object]],
        *,
        seconds: float,
        log: logging.Logger,
        trouble: str,
        level: int = logging.WARNING,
        woken: asyncio.Event | None = None,
        at_once: bool = False,
    ) -> None:
        """Args:
        work: one round. An ApiError says that a service is away; anything else is a defect.
        seconds: between two rounds.
        log: of the stage whose work it is.
        trouble: what a failed round means, as the beginning of a log line.
        level: of the line about a service that is away.
        woken: a round begins sooner when it is set; cleared then.
        at_once: whether the first round begins without a pause.
        """
        self._work = work
        self._seconds = seconds
        self._log = log
        self.trouble = trouble
        self._level = level
        self._woken = woken
        self._at_once = at_once
        self._told: str | None = None  # reason of the last failure that was told; None: all is well
        self._failing_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def failing_seconds(self) -> float:
        """Seconds since the first failure after the last round that succeeded; 0 while all is well."""
        return 0.0 if self._failing_since is None else time.monotonic() - self._failing_since

    def start(self) -> None:
        """Begin rounds, until `stop`."""
        self._task = asyncio.create_task(self._run(), name=self.trouble)

    async def stop(self) -> bool:
        """Begin no more rounds and cut off a running one; tell whether there was anything to stop."""
        if self._task is None:
            return False
        task, self._task = self._task, None
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("%s: the task had ended", self.trouble, exc_info=error)
        return True

    async def once(self) -> bool:
        """Work one round; False when it failed, which is told."""
        try:
            await self._work()
        except ApiError as error:
            if self._is_news(error):
                self._log.log(self._level, "%s: %s", self.trouble, error.message)
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
            # Nobody has asked for our end: a cancellation that escaped from inside is a failure like others.
            if self._is_news(error):
                self._log.exception("%s", self.trouble)
        except Exception as error:
            if self._is_news(error):
                self._log.exception("%s", self.trouble)
        else:
            self._told = self._failing_since = None
            return True
        return False

    def _is_news(self, error: BaseException) -> bool:
        """Note a failure; tell whether it is another one than the last."""
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        reason = f"{type(error).__name__}: {error}"
        known, self._told = self._told, reason
        return reason != known

    async def _run(self) -> None:
        if self._at_once:
            await self.once()
        while True:
            # A wake-up shortens the pause between good rounds; what has failed is not tried at once again.
            await self._pause(None if self._failing_since is not None else self._woken)
            if self._woken is not None:
                self._woken.clear()
            await self.once()

    async def _pause(self, woken: asyncio.Event | None) -> None:
        if woken is None:
            await asyncio.sleep(self._seconds)
            return
        try:
            async with asyncio.timeout(self._seconds):
                await woken.wait()
        except TimeoutError:
            pass  # nobody has told anything: time for a round anyway


async def require_well(works: Iterable[Recurring]) -> None:
    """Raise when one of them has failed for longer than a restart of a service takes.

    Raises:
        Unavailable: naming all of them.
    """
    ill = [work.trouble for work in works if work.failing_seconds > _PATIENCE_SECONDS]
    if ill:
        raise Unavailable("; ".join(ill))
