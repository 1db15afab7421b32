"""Users of a tenant that may have only so many are written one request after the other.

Comes in: whose users are to be written. Goes out: the turn, which holds no connection while it is waited for.
May reject: Unavailable, when others take long.
"""

from __future__ import annotations

import asyncio
from typing import Final
from weakref import WeakValueDictionary

from byodpp.exceptions import Unavailable

__all__ = ["PATIENCE_SECONDS", "TAKES_LONG", "Turns"]

#: How long who writes users waits for others of the tenant who do.
PATIENCE_SECONDS: Final = 5.0
#: What he is told then.
TAKES_LONG: Final = "Users of your organisation are being written; try again."


class Turns:
    """The turns of one place of a process where users are written."""

    def __init__(self) -> None:
        #: Of each tenant whose users are being written.
        self._taken: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    def of(self, tenant_id: int) -> asyncio.Lock:
        """Return the turn of a tenant, which may be taken."""
        return self._taken.setdefault(tenant_id, asyncio.Lock())

    async def take(self, tenant_id: int) -> asyncio.Lock:
        """Return the turn of a tenant, taken; who has it releases it.

        Raises:
            Unavailable: others keep it for long.
        """
        turn = self.of(tenant_id)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await turn.acquire()
        except TimeoutError as error:
            raise Unavailable(TAKES_LONG) from error
        return turn
