"""Tells realms what their tenants are called now, after a name or a domain was changed over the API.

In: transactions that write tenants. Out: nothing; the realm is told once that is committed, beside the
answer. Best effort: an identity provider that is away neither fails nor delays a request, and what it was not
told is a line in the log that says what mends it. A process that has started tells, a minute later, what
another one that was killed may have left untold.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from byodpp.authentication.tenants import PLATFORM_REALM
from byodpp.database import PLATFORM_TENANT, Database, Transaction
from byodpp.exceptions import ApiError, NotFound
from byodpp.identity.administration import IdentityAdministration
from byodpp.recurring import Recurring

__all__ = ["RealmNames"]

_log: Final = logging.getLogger("byodpp.identity")

#: Between two looks when nothing was said.
_IDLE_SECONDS: Final = 60.0
#: How long one realm may take.
_PATIENCE_SECONDS: Final = 20.0
#: How long the end of the process waits for what was not told yet.
_LEAVING_SECONDS: Final = 2.0

_LEFT: Final = (
    "the end came before the realms of the tenants with these ids were told their names and domains: %s. Run"
    " `byodpp identity renew` for each"
)
_CALLED: Final = "select id, name, domain from tenants"
#: Whom a process that was killed lately may not have told of; it is started anew within minutes.
_LATELY: Final = (
    "select id from tenants where updated_at > now() - interval '1 hour' and updated_at > created_at"
    " order by updated_at desc limit 200"
)
_OF: Final = "select ulid, slug, name, domain from tenants where id = $1"


class RealmNames:
    """Notes which tenants are called otherwise, and tells their realms."""

    def __init__(self, administration: IdentityAdministration | None, database: Database) -> None:
        """Args:
        administration: of the identity provider; None: this process may change nothing there.
        database: with its system role.
        """
        self._administration = administration
        self._database = database
        self._waiting: set[int] = set()
        self._doubted: set[int] = set()  # of these, whose realm may have been told by another process
        self._look_at: float | None = None  # when to look for such; None: it was done, or is not begun
        self._woken = asyncio.Event()
        trouble = "realms are not told what their tenants are called"
        self._rounds = Recurring(
            self._tell_all, seconds=_IDLE_SECONDS, log=_log, trouble=trouble, woken=self._woken
        )

    async def start(self) -> None:
        """Begin."""
        if self._administration is not None:
            self._look_at = time.monotonic() + _IDLE_SECONDS
        self._rounds.start()

    async def stop(self) -> None:
        """End; what waits is told first, as long as that takes no longer than a moment.

        What is left then is a line in the log. Harmless when not started.
        """
        if not await self._rounds.stop() or not self._waiting:
            return
        try:
            async with asyncio.timeout(_LEAVING_SECONDS):
                await self._rounds.once()  # a failure is told by it, and hinders no other part's end
        except TimeoutError:
            _log.warning("%s: it takes longer than %.0f seconds", self._rounds.trouble, _LEAVING_SECONDS)
        finally:
            if self._waiting:
                left = ", ".join(str(id) for id in sorted(self._waiting))
                _log.warning(_LEFT, left)

    @asynccontextmanager
    async def around(
        self, transaction: Transaction, rows: Sequence[Any] | None = None
    ) -> AsyncIterator[None]:
        """Note which tenants are called otherwise after the write inside the block, once it is committed.

        Args:
            transaction: of the write.
            rows: ids of all tenants that it may change; None: any.
        """
        before = await _called(transaction, rows)
        yield
        after = await _called(transaction, rows)
        changed = {id for id, one in after.items() if before.get(id, one) != one}
        if changed:
            transaction.after_commit(partial(self._note, changed))

    async def _note(self, changed: Collection[int]) -> None:
        self._waiting.update(changed)
        self._woken.set()

    async def _tell_all(self) -> None:
        if self._look_at is not None and time.monotonic() >= self._look_at:
            async with self._database.system() as transaction:
                found = {row["id"] for row in await transaction.fetch(_LATELY)}
            self._doubted = found - self._waiting
            self._waiting |= found
            self._look_at = None
        while self._waiting:
            id = self._waiting.pop()  # before its row is read: what changes from then on is told again
            try:
                await self._tell(id)
                self._doubted.discard(id)
            except BaseException:  # also when it is cut off: it waits until its realm is told, or it is named
                self._waiting.add(id)
                raise

    async def _tell(self, id: int) -> None:
        async with self._database.system() as transaction:
            row = await transaction.fetchrow(_OF, id)
        if row is None:
            return
        if self._administration is None:
            self._not_told(id, row["slug"], "this process has no right to (keycloak_admin_secret)")
            return
        realm = PLATFORM_REALM if id == PLATFORM_TENANT else str(row["ulid"])
        own = () if row["domain"] is None else (f"https://{row['domain']}",)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._administration.update_realm(realm, display_name=row["name"], addresses=own)
        except NotFound:
            return  # it has no realm, and gets one with today's name
        except ApiError as error:
            self._not_told(id, row["slug"], error.message)
        except TimeoutError:
            self._not_told(id, row["slug"], f"it took longer than {_PATIENCE_SECONDS:.0f} seconds")
        except Exception as error:  # a defect, which keeps no other tenant waiting
            self._not_told(id, row["slug"], f"{type(error).__name__}: {error}", error)
        else:
            # Another process may have told a newer name meanwhile, which this one has then undone.
            async with self._database.system() as transaction:
                if await transaction.fetchrow(_OF, id) != row:
                    self._waiting.add(id)

    def _not_told(self, id: int, slug: str, reason: str, defect: Exception | None = None) -> None:
        has = "may have a" if id in self._doubted else "has the"
        told = "the realm of tenant %s %s former name or domain: %s. Run `byodpp identity renew %s`"
        _log.warning(told, slug, has, reason, slug, exc_info=defect)


async def _called(
    transaction: Transaction, rows: Sequence[Any] | None
) -> Mapping[int, tuple[str, str | None]]:
    """Return what the tenants are called that a transaction may change."""
    tenant = transaction.context.tenant_id
    if tenant != PLATFORM_TENANT:
        rows = [tenant] if rows is None else [one for one in rows if one == tenant]
    if rows is None:
        found = await transaction.fetch(_CALLED)
    else:
        found = [row for id in rows for row in await transaction.fetch(f"{_CALLED} where id = $1", id)]
    return {row["id"]: (row["name"], row["domain"]) for row in found}
