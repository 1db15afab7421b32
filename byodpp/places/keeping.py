"""Keeps a tenant's own database in service: opened, compared with the program, its copies fresh.

In: the database of a place, and what follows it (watches, trail, sealer). Out: `Database.refusal`, which is
None while requests are served from there. A place that is away, or lacks a revision, is refused by name and
looked at again; its tenants get 503 meanwhile, and everybody else is served. One whose copies cannot be
refreshed goes on serving, and that is told. May reject, at the start only:
what no waiting mends, like a role that row-level security would not bind.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from byodpp.database import Database
from byodpp.exceptions import (
    ApiError,
    DatabaseAway,
    DatabaseStartError,
    PlaceUnavailable,
    TenantMoving,
)
from byodpp.places.copies import Copies
from byodpp.recurring import Recurring

__all__ = ["Follower", "PlaceKeeper"]

_log: Final = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0
_STATUS_SECONDS: Final = 5.0
#: How long the start waits for it to serve.
_START_SECONDS: Final = 30.0
_AWAY: Final = "The tenant's database is not available for the moment; try again."
_BEHIND: Final = "The tenant's database is being brought up to date; try again."


class Follower(Protocol):
    """What runs while a place is open."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def stop(self) -> None:
        """End; harmless when not started."""
        ...


class PlaceKeeper:
    """Keeps one place."""

    def __init__(
        self,
        name: str,
        database: Database,
        copies: Copies,
        lacking: Callable[[Database], Awaitable[str]],
        followers: Sequence[Follower],
        *,
        refresh_seconds: float,
    ) -> None:
        """Args:
        name: of the place.
        database: its own; not open.
        copies: of it.
        lacking: tells why the program may not serve a database; an empty text when it may.
        followers: started when it serves for the first time, in this order.
        refresh_seconds: between two looks at the copies.
        """
        self.name = name
        self.database = database
        self.copies = copies
        self._lacking = lacking
        self._followers = tuple(followers)
        self._refresh_seconds = refresh_seconds
        self._open = self._following = False
        self._looked_at = self._refreshed = float("-inf")
        self._told = self._stale = ""
        self.looks = Recurring(
            self._look_again,
            seconds=min(_LOOK_SECONDS, refresh_seconds),
            log=_log,
            trouble=f"the place {name} cannot be looked at",
        )
        database.refusal = PlaceUnavailable(_AWAY)

    async def start(self) -> None:
        """Open the place if it is there, and keep it until `stop`.

        Raises:
            DatabaseStartError: naming the place, for what no waiting mends.
        """
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self.look()
        except TimeoutError:
            self._refuse(PlaceUnavailable(_AWAY), "its copies are being made")
        except DatabaseStartError as error:
            raise DatabaseStartError(
                [
                    replace(one, path=f"place {self.name}: {one.path}".removesuffix(": "))
                    for one in error.problems
                ]
            ) from error
        self.looks.start()

    async def stop(self) -> None:
        """Keep it no more, and close it. Harmless when not started."""
        await self.looks.stop()
        self.database.refusal = PlaceUnavailable(_AWAY)
        if self._following:
            for follower in reversed(self._followers):
                await follower.stop()
        self._open = self._following = False
        await self.database.close()

    async def check(self) -> None:
        """Tell for `/health` whether it serves.

        Raises:
            ApiError: it does not.
        """
        if self.database.refusal is not None:
            raise self.database.refusal

    async def look(self) -> None:
        """See how the place is, and let it serve or not.

        Raises:
            DatabaseStartError: it may not be used as it is.
        """
        try:
            async with asyncio.timeout(10 * _LOOK_SECONDS):
                if not await self._fits():
                    return
                if self._following:
                    self._serve()
            await self._refresh()
            if not self._following:
                async with asyncio.timeout(10 * _LOOK_SECONDS):
                    await self._follow()
                self._serve()
        except (DatabaseAway, ApiError, TimeoutError) as error:
            self._refuse(PlaceUnavailable(_AWAY), str(error) or type(error).__name__)

    async def _fits(self) -> bool:
        """Look whether the place is there, and holds what the program needs."""
        if not self._open:
            await self.database.open()
            self._open = True
        await self.database.ping()
        now = time.monotonic()
        if self.database.refusal is not None or now - self._looked_at >= _STATUS_SECONDS:
            if lacking := await self._lacking(self.database):
                self._refuse(TenantMoving(_BEHIND), lacking)
                return False
            self._looked_at = now
        return True

    async def _refresh(self) -> None:
        """Bring the copies up to date, when it is time; however long that takes.

        A place that has served goes on serving when it fails: what it knows is older then, and all there.
        """
        if time.monotonic() - self._refreshed < self._refresh_seconds:
            return
        try:
            await self.copies.refresh()
            self._stale = ""
        except ApiError as error:
            if not self._following:
                raise
            if self._stale != error.message:
                _log.warning("the copies in the place %s are not fresh: %s", self.name, error.message)
            self._stale = error.message
        self._refreshed = time.monotonic()

    async def _follow(self) -> None:
        for follower in self._followers:
            await follower.start()
        self._following = True

    def _serve(self) -> None:
        if self.database.refusal is not None:
            _log.info("the place %s serves", self.name)
        self.database.refusal, self._told = None, ""

    def _refuse(self, refusal: ApiError, reason: str) -> None:
        self.database.refusal = refusal
        if self._told != reason:
            _log.warning("the place %s does not serve: %s", self.name, reason)
        self._told = reason

    async def _look_again(self) -> None:
        try:
            await self.look()
        except DatabaseStartError as error:
            self._refuse(PlaceUnavailable(_AWAY), str(error))
