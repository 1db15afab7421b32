"""The caller's secrets, as logic classes get them: `await self.secrets["name"]`.

A secret is a row of `Secrets` (its name) and one of `byodpp.secret_values` (what is sealed, bound to
tenant, user, and name, so that a ciphertext that is moved to another row opens nowhere). Both go with the
user's row. May raise Conflict (there is none, or nobody to have one), InternalError (it cannot be opened),
and Unauthenticated (the user is gone).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from byodpp.encryption import Unreadable, bound_to
from byodpp.exceptions import Conflict, InternalError, Unauthenticated
from byodpp.rows import Row

if TYPE_CHECKING:
    from byodpp.service.units import Unit

__all__ = ["UserSecrets", "associated", "forget_secrets"]

_log: Final = logging.getLogger(__name__)

_SELECT: Final = (
    "select v.key_id, v.sealed from byodpp.secret_values v"
    " join secrets s on s.tenant_id = v.tenant_id and s.id = v.secret_id"
    " where s.tenant_id = $1 and s.owner_id = $2 and s.name = $3"
)
_KEEP: Final = (
    "insert into byodpp.secret_values (tenant_id, secret_id, key_id, sealed) values ($1, $2, $3, $4)"
    " on conflict (tenant_id, secret_id) do update set key_id = excluded.key_id, sealed = excluded.sealed"
)
#: Who deletes the user's row waits until what is stored meanwhile can be found.
_STAND: Final = "select id from users where tenant_id = $1 and id = $2 for key share"
_FORGET: Final = "delete from byodpp.secret_values where tenant_id = $1 and secret_id = $2"
#: Row-level security shows them to nobody but their owner.
_FORGET_ALL: Final = (
    "with gone as (delete from secrets where tenant_id = $1 and owner_id = $2 returning id, name),"
    " emptied as (delete from byodpp.secret_values"
    " where tenant_id = $1 and secret_id in (select id from gone))"
    " select id, name from gone order by id"
)


def associated(tenant_id: int, user_id: int, name: str) -> bytes:
    """Return what a secret is bound to."""
    return bound_to("byodpp secret", tenant_id, user_id, name)


async def forget_secrets(unit: Unit, user_id: int) -> None:
    """Delete the secrets of a user whose row is deleted: nobody else could ever do so."""
    if not any(one.part == "secrets" for one in unit.parts.registry.named("Secrets")):
        return
    transaction = unit.transaction
    async with transaction.for_owner(user_id):
        gone = await transaction.fetch(_FORGET_ALL, transaction.context.tenant_id, user_id)
    for row in gone:
        told = {"before": {"id": row["id"], "ownerId": user_id, "name": row["name"]}, "after": None}
        await unit.audit("Secrets", "DELETE", row["id"], told)


class UserSecrets:
    """The secrets of the user who calls; those of nobody else can be reached."""

    def __init__(self, unit: Unit, version: str) -> None:
        self._unit = unit
        self._version = version

    def __getitem__(self, name: str) -> Awaitable[str]:
        """Return the value of a secret, to be awaited.

        Raises:
            Conflict: the caller has no such secret.
        """
        return self._required(name)

    async def get(self, name: str) -> str | None:
        """Return the value of a secret, None when the caller has none of this name."""
        tenant, user = self._whose()
        record = await self._unit.transaction.fetchrow(_SELECT, tenant, user, name)
        if record is None:
            return None
        try:
            keys = self._unit.parts.encryption
            return keys.open(record["key_id"], record["sealed"], associated(tenant, user, name))
        except Unreadable as error:
            _log.error("a secret cannot be read: %s", error, extra={"tenant_id": tenant, "user_id": user})
            raise InternalError from error

    async def put(self, name: str, value: str) -> Row:
        """Store a value under a name, in place of the one before; return the row of Secrets.

        Raises:
            Unauthenticated: the user was deleted by another process, of which this one has not heard yet.
        """
        tenant, user = self._whose()
        if await self._unit.transaction.fetchval(_STAND, tenant, user) is None:
            raise Unauthenticated("The token's user is not known here any more", error="invalid_token")
        rows = self._unit.repositories(self._version, system=True)["Secrets"]
        known = await rows.find({"name": name})
        stored: dict[str, Any] = {"storedAt": datetime.now(UTC)}
        if known is None:
            row = await rows.create({"name": name, **stored})
        else:
            row = await rows.patch(known["id"], stored)
        keys = self._unit.parts.encryption
        sealed = keys.seal(value, associated(tenant, user, name))
        await self._unit.transaction.execute(_KEEP, tenant, row["id"], keys.current, sealed)
        return row

    async def forget(self, id: str) -> None:
        """Delete the value of a secret whose row is deleted."""
        await self._unit.transaction.execute(_FORGET, self._whose()[0], id)

    async def _required(self, name: str) -> str:
        value = await self.get(name)
        if value is None:
            raise Conflict(f"You have no secret {name[:128]!r}: store it at /api/v1/secrets/<name>/value.")
        return value

    def _whose(self) -> tuple[int, int]:
        """Return tenant and user; an operator who visits has the number of somebody else there."""
        principal = self._unit.principal
        if principal.anonymous or not principal.user_id or principal.visiting_from is not None:
            raise Conflict("Secrets belong to a user at home: sign in, and leave out X-Tenant.")
        return principal.session_tenant_id, principal.user_id
