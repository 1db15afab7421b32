"""Lists for operators: the tenants with what is under way, and the databases with whose they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from byodpp.authentication.tenants import PLATFORM_REALM
from byodpp.database import PLATFORM_TENANT, Database
from byodpp.tenant_life.choosing import PlaceChoice
from byodpp.tenant_life.procedures import Procedure, Procedures

__all__ = ["PlaceLine", "TenantLine", "place_lines", "tenant_lines"]

_LIST: Final = """
    select t.id, t.ulid, t.slug, t.name, t.status, coalesce(p.tier, 'shared') as tier, a.slug as parent,
        case when p.tier = 'database' then p.place end as place,
        p.tier = 'schema' and p.fingerprint is distinct from (
            select fingerprint from byodpp.schema_state order by applied_at desc, revision desc limit 1
        ) as behind
    from tenants t left join byodpp.tenant_places p on p.tenant_id = t.id
        left join tenants a on a.id = t.parent_id
    order by t.id
"""

_PLACES: Final = (
    "select p.place, coalesce(t.slug, '') as slug from byodpp.tenant_places p"
    " left join tenants t on t.id = p.tenant_id where p.place is not null"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLine:
    """A tenant, and what is under way with it."""

    slug: str
    name: str
    status: str
    realm: str  # its name, which is the tenant's ULID; empty: there is none yet
    tier: str  # where its rows are: shared, schema, database
    place: str  # name of its database; empty where it has none
    parent: str  # slug of the tenant above it; empty: there is none
    behind: bool  # its schema lacks what the shared tables have got: it is not served
    under_way: Procedure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceLine:
    """A database that a tenant can have for itself."""

    name: str
    region: str
    state: str  # serves, or why it does not
    tenant: str  # slug of whose it is; empty while it is free


async def tenant_lines(database: Database, procedures: Procedures) -> list[TenantLine]:
    """Return every tenant, the platform's first, and those that are not there yet, or not any more.

    Args:
        database: open, with its system role.
        procedures: that are under way.
    """
    unfinished = await procedures.unfinished()
    under_way = {one.slug if one.tenant is None else one.tenant: one for one in unfinished}
    async with database.system() as transaction:
        rows = await transaction.fetch(_LIST)
    lines = [
        TenantLine(
            slug=row["slug"],
            name=row["name"],
            status=row["status"],
            realm=PLATFORM_REALM if row["id"] == PLATFORM_TENANT else row["ulid"],
            tier=row["tier"],
            place=row["place"] or "",
            parent=row["parent"] or "",
            behind=bool(row["behind"]),
            under_way=under_way.pop(row["id"], None) or under_way.pop(row["slug"], None),
        )
        for row in rows
    ]
    return [*lines, *(_without_row(one) for one in under_way.values())]


def _without_row(procedure: Procedure) -> TenantLine:
    return TenantLine(
        slug=procedure.slug,
        name="",
        status="",
        realm=str(procedure.given.get("ulid", "")),
        tier="",
        place="",
        parent="",
        behind=False,
        under_way=procedure,
    )


async def place_lines(database: Database, choice: PlaceChoice) -> list[PlaceLine]:
    """Return the databases that a tenant can have for itself, in the order of the configuration.

    Args:
        database: open, with its system role.
        choice: knows them.
    """
    async with database.system() as transaction:
        rows = await transaction.fetch(_PLACES)
    tenants = {row["place"]: row["slug"] for row in rows}
    return [
        PlaceLine(name=one.name, region=one.region, state=state, tenant=tenants.get(one.name, ""))
        for one, state in choice.states()
    ]
