"""The user directory: a checked token in, the row of Users out, written at first sight.

A user is (realm, subject). Read and written with the system role, believed as long as `changes` says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from byodpp.authentication.changes import FOLLOWED_SECONDS, UNFOLLOWED_SECONDS
from byodpp.authentication.revocations import WENT_SINCE
from byodpp.authentication.tenants import Tenant
from byodpp.authentication.tokens import Claims
from byodpp.authentication.turns import PATIENCE_SECONDS, TAKES_LONG, Turns
from byodpp.database import Database, Transaction
from byodpp.exceptions import QueryTimeout, QuotaExceeded, Unauthenticated, Unavailable
from byodpp.expiring import Expiring

__all__ = ["REFUSED", "User", "UserDirectory", "UserQuota", "refuse_too_many_users", "take_turn"]

#: Statuses in which a user's tokens are worth nothing, whatever the identity provider says.
REFUSED: Final = frozenset({"deactivated", "deleted", "rejected"})

_SELECT: Final = "select id, status from users where realm = $1 and subject = $2 and tenant_id = $3"
# Without a conflict target: whichever uniqueness the row meets, somebody else has just written it.
_INSERT: Final = (
    "insert into users (tenant_id, realm, subject, name, user_name, email, status) "
    "values ($1, $2, $3, $4, $5, $6, 'activated') on conflict do nothing returning id, status"
)
# Whoever else writes a user of the tenant waits, so that two cannot both be the last one.
_LOCK: Final = "select pg_advisory_xact_lock(hashtextextended('byodpp users ' || $1::bigint::text, 0))"
#: The same of who has a connection, and does not keep it for long from all other tenants.
_LOCK_IN_TIME: Final = (
    "select pg_advisory_xact_lock(hashtextextended('byodpp users ' || $1::bigint::text, 0))"
    " from (select set_config('lock_timeout', $2, true) offset 0) s"
)
_NO_LIMIT: Final = "set local lock_timeout to default"
#: Of who takes his turn among those that write users, and gives it up when one of them takes long.
_BRIEFLY: Final = "set local lock_timeout = '100ms'"
#: Of a new user who waits for others of the tenant to be written: the pause between two looks.
_PAUSE_SECONDS: Final = 0.05
_COUNT: Final = "select count(*) from users where tenant_id = $1 and status <> all($2::text[])"

#: How many users a tenant may have; None is no limit.
UserQuota: TypeAlias = Callable[[Tenant], Awaitable[int | None]]


async def take_turn(transaction: Transaction, tenant_id: int) -> None:
    """Let nobody else write a user of a tenant until the end of the transaction.

    Raises:
        QueryTimeout: somebody else does, for long; or for a moment, and the work can be done again.
    """
    try:
        await transaction.execute(_LOCK_IN_TIME, tenant_id, "100ms" if transaction.brief else "2s")
    except QueryTimeout as error:
        error.turn_of = tenant_id if transaction.brief else None
        raise
    await transaction.execute(_NO_LIMIT)


async def refuse_too_many_users(transaction: Transaction, tenant_id: int, most: int, *, more: int) -> None:
    """Refuse users beyond a tenant's quota, once it is this transaction's turn to write them.

    Args:
        transaction: that sees the tenant's users.
        tenant_id: whose.
        most: users that its class allows; those that are refused anyway do not count.
        more: users that are not written yet.

    Raises:
        QuotaExceeded: there would be more.
    """
    present = await transaction.fetchval(_COUNT, tenant_id, sorted(REFUSED))
    if present + more > most:
        raise QuotaExceeded(f"Your organisation's class allows {most} users.")


async def _no_quota(tenant: Tenant) -> int | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """The row of a user, as far as a request needs it."""

    id: int  # what `ownerId`, `$user.id` and the audit's actor hold
    status: str

    @property
    def active(self) -> bool:
        """Whether the user is let in."""
        return self.status not in REFUSED


class UserDirectory:
    """Finds the row of who signs a request."""

    def __init__(
        self,
        database: Database,
        quota: UserQuota = _no_quota,
        *,
        seconds: float = UNFOLLOWED_SECONDS,
        max_entries: int = 50_000,
        followed: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        database: used with its system role.
        quota: tells how many users a tenant may have.
        seconds: how long a row is believed while changes are not followed.
        max_entries: how many are kept.
        followed: whether changes are followed; rows are believed for long then.
        clock: monotonic seconds.
        """
        self._database = database
        self._quota = quota
        self._turns = Turns()  # one at a time of a tenant looks whether he may be written
        self._found: Expiring[tuple[int, str, str], User] = Expiring(
            seconds=seconds,
            max_entries=max_entries,
            followed_seconds=FOLLOWED_SECONDS,
            followed=followed,
            clock=clock,
        )

    async def resolve(self, claims: Claims, home: Tenant, made_at: float) -> User:
        """Return the user's row, written now when it is the first time.

        Args:
            claims: of a checked token.
            home: the tenant of the token's realm.
            made_at: when the token was made, in seconds since the epoch.

        Raises:
            Unauthenticated: the row belongs to another tenant, or was deleted after that.
            QuotaExceeded: the tenant may not have one more user.
            Unavailable: other users of it are being written for long.
        """
        key = (home.id, claims.realm, claims.subject)
        if (known := self._found.get(key)) is not None:
            return known
        asked = self._found.turn
        database = self._database.at(home.database)
        async with database.system() as transaction:
            row = await transaction.fetchrow(_SELECT, claims.realm, claims.subject, home.id)
        if row is None:
            # Asked with no connection in hand, for it may need one itself.
            most = await self._quota(home)
            if most is not None:
                row = await self._added(database, claims, home, made_at, most)
            else:
                async with database.system() as transaction:
                    row = await _written(transaction, claims, home, made_at)
        if row is None:
            # The row is of another tenant: its realm was given to somebody else.
            raise Unauthenticated("The token's user is not known here", error="invalid_token")
        user = User(id=row["id"], status=row["status"])
        self._found.put(key, user, asked)
        return user

    async def _added(
        self, database: Database, claims: Claims, home: Tenant, made_at: float, most: int
    ) -> Any:
        """Write a user within the tenant's quota, and return the row.

        He waits in line with whoever else writes users of the tenant, but briefly: one of them may take long,
        and none of the few connections is held meanwhile.
        """
        whose = claims.realm, claims.subject, home.id
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._turns.of(home.id):
                while True:
                    with suppress(QueryTimeout):
                        async with database.system() as transaction:
                            await transaction.execute(_BRIEFLY)
                            await transaction.execute(_LOCK, home.id)
                            # Another request of the same user may have come first.
                            if row := await transaction.fetchrow(_SELECT, *whose):
                                return row
                            await refuse_too_many_users(transaction, home.id, most, more=1)
                            return await _written(transaction, claims, home, made_at)
                    await asyncio.sleep(_PAUSE_SECONDS)
        except TimeoutError as error:
            raise Unavailable(TAKES_LONG) from error

    def forget(self, tenants: Collection[int] | None = None) -> None:
        """Look the users of these tenants up anew; None: everybody."""
        self._found.forget(None if tenants is None else lambda key, _: key[0] in tenants)


async def _written(transaction: Transaction, claims: Claims, home: Tenant, made_at: float) -> Any:
    if await transaction.fetchval(WENT_SINCE, home.id, claims.subject, float(made_at)):
        raise Unauthenticated("What was sent to sign in with was revoked", error="invalid_token")
    row = await transaction.fetchrow(_INSERT, home.id, *_columns(claims))
    return row or await transaction.fetchrow(_SELECT, claims.realm, claims.subject, home.id)


def _columns(claims: Claims) -> tuple[str | None, ...]:
    shown = claims.name or claims.user_name or claims.email or claims.subject
    return claims.realm, claims.subject, shown, claims.user_name or claims.subject, claims.email
