"""Tenants below tenants: no circles, and no more levels than anybody can follow.

Around every write to the part's Tenants, inside its transaction. A parent is a note and gives no right
(decision 48), so that nothing else here asks for it. May reject: ValidationFailed, Forbidden.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from byodpp.database import PLATFORM_TENANT, Transaction
from byodpp.exceptions import ApiError, Detail, Forbidden, ValidationFailed

__all__ = ["MOST_LEVELS", "keep_family"]

#: Tenants in a line, from the one that has no parent to the last child.
MOST_LEVELS: Final = 5

_FIELD: Final = "parentId"
# Whoever else writes a tenant waits, so that two changes cannot close a circle between them.
_LOCK: Final = "select pg_advisory_xact_lock(hashtextextended('byodpp tenant families', 0))"
_OWN: Final = "select parent_id from tenants where id = $1"
_BELOW_PLATFORM: Final = (
    "select exists (select from tenants where parent_id = $1 or id = $1 and parent_id is not null)"
)
_FAULTY: Final = """
    with recursive line (first, above, levels, circle) as (
        select id, parent_id, 2, parent_id = id from tenants where parent_id is not null
        union all
        select line.first, t.parent_id, line.levels + 1, t.parent_id = line.first
        from line join tenants t on t.id = line.above
        where t.parent_id is not null and not line.circle and line.levels <= $1
    )
    select circle from line where circle or levels > $1 order by circle desc limit 1
"""


@asynccontextmanager
async def keep_family(transaction: Transaction) -> AsyncIterator[None]:
    """Judge what the write inside the block made of parents.

    Args:
        transaction: of the write.

    Raises:
        ValidationFailed: tenants would be below themselves, below the platform, or too deep.
        Forbidden: a parent was changed where the other tenants cannot be seen, under X-Tenant.
    """
    tenant = transaction.context.tenant_id
    if tenant != PLATFORM_TENANT:
        before = await transaction.fetchval(_OWN, tenant)
        yield
        if await transaction.fetchval(_OWN, tenant) != before:
            told = "Parents are changed by the platform for itself: leave X-Tenant out."
            refusal = Forbidden(told, details=[Detail(_FIELD, "forbidden", told)])
            raise transaction.refuse_commit(refusal)
        return
    await transaction.execute(_LOCK)
    yield
    if await transaction.fetchval(_BELOW_PLATFORM, PLATFORM_TENANT):
        raise transaction.refuse_commit(
            _fault("reference", "The platform is nobody's parent and nobody's child.")
        )
    circle = await transaction.fetchval(_FAULTY, MOST_LEVELS)
    if circle is not None:
        told = (
            "A tenant would be below itself." if circle else f"At most {MOST_LEVELS} tenants are in a line."
        )
        raise transaction.refuse_commit(_fault("circle" if circle else "too_deep", told))


def _fault(code: str, told: str) -> ApiError:
    return ValidationFailed(details=[Detail(_FIELD, code, told)])
