"""Giving up: a move is first noted not to go on, then the tenant writes where it is again.

What gives it up may be cut off anywhere, and what it does to tables is committed before its note. So a move
that is being given up goes on nowhere but here: its copies may be behind what the tenant has written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from byodpp.authentication.tenants import Tenant
from byodpp.database import Transaction
from byodpp.exceptions import Conflict
from byodpp.service.units import Unit
from byodpp.tenant_life.acting import for_platform
from byodpp.tenant_life.procedures import GIVING_UP, Step

__all__ = ["begun_of", "end_stopped", "end_stopped_of", "is_free", "marking"]

_DONE: Final = "select done from byodpp.tenant_procedures where id = $1"
#: A slug tells only of whom something is that knows no tenant yet: another one may have had it.
_FREE: Final = (
    "select not exists (select from byodpp.tenant_procedures where finished_at is null"
    " and coalesce(given->>'tenant', done->'tenant'->>'id', case when slug = $1 then $2::text end)"
    " = $2::text)"
)
_BY_SLUG: Final = "select id from tenants where slug = $1"
#: One of which a step is being taken at this moment has not stopped.
_END_STOPPED: Final = """
    update byodpp.tenant_procedures set finished_at = now(), changed_at = now() where id in
        (select id from byodpp.tenant_procedures
         where finished_at is null and failure is not null and kind = any($2::text[])
         and coalesce(given->>'tenant', done->'tenant'->>'id') = $1 for update skip locked)
"""


def marking(tenant: Tenant, procedure: int) -> Step:
    """Return the step that keeps a move from going on, unless it has switched the tenant over."""
    return replace(for_platform(GIVING_UP, partial(_mark, tenant, procedure)), gives_up=True, silent=True)


async def _mark(tenant: Tenant, procedure: int, unit: Unit, results: Mapping[str, Any]) -> Any:
    """See that a move can be given up.

    Raises:
        Conflict: it has switched the tenant over.
    """
    done = json.loads(await unit.transaction.fetchval(_DONE, procedure))
    if "begin" not in done or "switch" in done:
        raise Conflict(f"The move of tenant {tenant.slug!r} has switched it over: finish it")
    return {}


async def begun_of(transaction: Transaction, procedure: int) -> Mapping[str, Any]:
    """Return what a move has noted when it began."""
    found: Mapping[str, Any] = json.loads(await transaction.fetchval(_DONE, procedure))["begin"]
    return found


async def is_free(transaction: Transaction, tenant: Tenant) -> bool:
    """Whether nothing is under way with a tenant."""
    return bool(await transaction.fetchval(_FREE, tenant.slug, str(tenant.id)))


async def end_stopped(transaction: Transaction, tenant: int, *kinds: str) -> None:
    """Leave what has stopped as it is, where it would keep a tenant from what is asked for now.

    Args:
        transaction: of the system role.
        tenant: whose.
        kinds: of procedures that are begun again by whoever still wants them.
    """
    await transaction.execute(_END_STOPPED, str(tenant), list(kinds))


async def end_stopped_of(transaction: Transaction, slug: str, *kinds: str) -> None:
    """The same of a tenant that may not be there yet."""
    tenant = await transaction.fetchval(_BY_SLUG, slug)
    if tenant is not None:
        await end_stopped(transaction, tenant, *kinds)
