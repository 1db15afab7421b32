"""Where tenants are: read and written in `byodpp.tenant_places`, by the steps of procedures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from byodpp.database import Database, Transaction
from byodpp.exceptions import Conflict, MigrationError
from byodpp.places import Located
from byodpp.places.placement import BEHIND, LOCATED

__all__ = ["is_settling", "located", "put_located", "require_followed", "require_moving", "used_by"]

#: How many are named.
_NAMED: Final = 10

_PUT: Final = """
    insert into byodpp.tenant_places (tenant_id, tier, place, state, fingerprint)
    values ($1, $2, $3, $4,
        (select fingerprint from byodpp.schema_state order by applied_at desc, revision desc limit 1))
    on conflict (tenant_id) do update set
        tier = excluded.tier, place = excluded.place, state = excluded.state,
        fingerprint = excluded.fingerprint, changed_at = now()
"""


async def located(transaction: Transaction) -> list[Located]:
    """Return where the tenants are that have, or had, a place of their own.

    Args:
        transaction: of the system role.
    """
    return [Located(**dict(row)) for row in await transaction.fetch(LOCATED)]


async def require_followed(database: Database) -> None:
    """See that every tenant's schema has what the shared tables have got.

    Args:
        database: open, with its system role.

    Raises:
        MigrationError: naming tenants that are refused meanwhile.
    """
    async with database.system() as transaction:
        behind = [row["slug"] for row in await transaction.fetch(BEHIND)]
    if behind:
        more = f" and {len(behind) - _NAMED} more" if len(behind) > _NAMED else ""
        told = f"schemas of tenants are behind, which are refused: {', '.join(behind[:_NAMED])}{more}"
        raise MigrationError(f"{told}. Run `byodpp migrate apply`, which says why")


def require_moving(there: Iterable[Located], tenant: int) -> None:
    """See that a tenant is still on its way.

    Raises:
        Conflict: its move was put back, or given up.
    """
    if not any(one.tenant_id == tenant and one.state == "moving" for one in there):
        raise Conflict(f"Tenant {tenant} is not on its way any more: its move was given up")


def is_settling(there: Iterable[Located], tenant: int) -> bool:
    """Whether a tenant has been switched over, and nothing of it could be written since."""
    return any(one.tenant_id == tenant and one.state == "settling" for one in there)


async def put_located(
    transaction: Transaction, tenant: int, tier: str, place: str | None, state: str
) -> None:
    """Write where a tenant is."""
    await transaction.execute(_PUT, tenant, tier, place, state)


def used_by(there: Iterable[Located], tenant: int) -> set[str | None]:
    """Return the databases in which a tenant is, or goes to; None is the one that all share."""
    for one in there:
        if one.tenant_id == tenant:
            return {one.database} if one.tier == "database" else {one.database, None}
    return {None}
