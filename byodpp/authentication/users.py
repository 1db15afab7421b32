"""The user directory: a checked token in, the row of Users out, written at first sight.

A user is (realm, subject). Read and written with the system role, believed for a few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from byodpp.authentication.tenants import Tenant
from byodpp.authentication.tokens import Claims
from byodpp.database import Database
from byodpp.exceptions import Unauthenticated
from byodpp.expiring import Expiring

__all__ = ["User", "UserDirectory"]

#: Statuses in which a user's tokens are worth nothing, whatever the identity provider says.
_REFUSED: Final = frozenset({"deactivated", "deleted", "rejected"})

_SELECT: Final = "select id, status from users where realm = $1 and subject = $2 and tenant_id = $3"
# Without a conflict target: whichever uniqueness the row meets, somebody else has just written it.
_INSERT: Final = (
    "insert into users (tenant_id, realm, subject, name, user_name, email, status) "
    "values ($1, $2, $3, $4, $5, $6, 'activated') on conflict do nothing returning id, status"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """The row of a user, as far as a request needs it."""

    id: int  # what `ownerId`, `$user.id` and the audit's actor hold
    status: str

    @property
    def active(self) -> bool:
        """Whether the user is let in."""
        return self.status not in _REFUSED


class UserDirectory:
    """Finds the row of who signs a request."""

    def __init__(
        self,
        database: Database,
        *,
        seconds: float = 2.5,
        max_entries: int = 50_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        database: used with its system role.
        seconds: how long a row is believed.
        max_entries: how many are kept.
        clock: monotonic seconds.
        """
        self._database = database
        self._found: Expiring[tuple[str, str], User] = Expiring(
            seconds=seconds, max_entries=max_entries, clock=clock
        )

    async def resolve(self, claims: Claims, home: Tenant) -> User:
        """Return the user's row, written now when it is the first time.

        Args:
            claims: of a checked token.
            home: the tenant of the token's realm.

        Raises:
            Unauthenticated: the row belongs to another tenant.
        """
        key = (claims.realm, claims.subject)
        if (known := self._found.get(key)) is not None:
            return known
        async with self._database.system() as transaction:
            row = await transaction.fetchrow(_SELECT, claims.realm, claims.subject, home.id)
            if row is None:
                row = await transaction.fetchrow(_INSERT, home.id, *_columns(claims))
            if row is None:
                row = await transaction.fetchrow(_SELECT, claims.realm, claims.subject, home.id)
        if row is None:
            # The row is of another tenant: its realm was given to somebody else.
            raise Unauthenticated("The token's user is not known here", error="invalid_token")
        user = User(id=row["id"], status=row["status"])
        self._found.put(key, user)
        return user

    def forget(self) -> None:
        """Look everybody up anew: a user of this process has changed."""
        self._found.forget()


def _columns(claims: Claims) -> tuple[str | None, ...]:
    shown = claims.name or claims.user_name or claims.email or claims.subject
    return claims.realm, claims.subject, shown, claims.user_name or claims.subject, claims.email
