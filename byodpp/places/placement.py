"""Which tables a place has, and what a place is called. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from byodpp.definitions import Scope
from byodpp.sql_text import quote_text
from byodpp.tables import StoredTable, Tables
from byodpp.tables.framework import CONTROL_PLANE_ROUTE

__all__ = [
    "BEHIND",
    "EVERYWHERE",
    "LOCATED",
    "PLATFORM_WIDE",
    "Located",
    "State",
    "Tier",
    "carried",
    "dedicated",
    "place_name",
    "staying",
]

#: Schema of views that show the rows of all places together, for readers without a tenant.
EVERYWHERE: Final = "byodpp_everywhere"
_PREFIX: Final = "byodpp_t"

Tier = Literal["shared", "schema", "database"]
State = Literal["served", "moving", "settling", "gone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A row of `byodpp.tenant_places`: where a tenant's rows are."""

    tenant_id: int
    tier: Tier  # where the tenant is served
    place: str | None  # its schema, or the name of its database, while there is one
    state: State
    behind: bool = False  # its place lacks what the shared tables have got

    @property
    def schema(self) -> str | None:
        """Its schema, in the database that all share."""
        return self.place if self.place is not None and self.place.startswith(_PREFIX) else None

    @property
    def database(self) -> str | None:
        """The name of its database."""
        return None if self.schema is not None else self.place

    @property
    def shut_out(self) -> bool:
        """Whether the tenant may not write into the shared tables that schemas have."""
        return self.tier != "shared" or self.state != "served"

    @property
    def shut_out_of_all(self) -> bool:
        """Whether the tenant may not write into any shared table."""
        return self.shut_out and (self.database is not None or self.state == "gone")

    @property
    def held(self) -> bool:
        """Whether nobody may write into its schema for now."""
        return self.tier == "schema" and self.state != "served"


#: Asks the system role for every tenant's `Located`, but of who was deleted longer ago than a request lasts.
LOCATED: Final = """
    select tenant_id, tier, place, state, tier = 'schema' and fingerprint is distinct from (
        select fingerprint from byodpp.schema_state order by applied_at desc, revision desc limit 1
    ) as behind
    from byodpp.tenant_places
    where tenant_id >= 0 and (state <> 'gone' or place is not null or changed_at > now() - interval '1 day')
    order by tenant_id
"""
#: Asks the system role for the slugs of tenants whose schema lacks what the shared tables have got.
BEHIND: Final = """
    select t.slug from byodpp.tenant_places p join tenants t on t.id = p.tenant_id
    where p.tier = 'schema' and p.state <> 'gone' and p.fingerprint is distinct from (
        select fingerprint from byodpp.schema_state order by applied_at desc, revision desc limit 1
    )
    order by t.slug
"""


def place_name(tenant_id: int) -> str:
    """Return the schema of a tenant that has one; a name that needs no quotes."""
    return f"{_PREFIX}{tenant_id:d}"


def dedicated(tables: Tables) -> tuple[StoredTable, ...]:
    """Return the tables that a place has, in declared order.

    Those are the application's own, of the scopes whose rows belong to one tenant. What the framework's
    parts need of all tenants stays shared, and so does whatever a table that stays refers to.
    """
    staying = {one.table.key for one in tables.stored if not _movable(one)}
    found = {one.table.key: one for one in tables.stored if one.table.key not in staying}
    referred = True
    while referred:
        referred = False
        for table in tables.metadata.tables.values():
            if table.key not in found:
                for reference in table.foreign_key_constraints:
                    referred |= found.pop(reference.referred_table.key, None) is not None
    return tuple(found.values())


#: Tables with a column for the tenant whose rows are about places, or stay where they were written.
_LEFT: Final = frozenset(
    {
        "tenant_places",
        "platform_keys",
        "tenant_storage",
        "directory_changes",
        "audit_logs",
        "audit_seals",
        "audit_heads",
    }
)
#: Tables whose ids are given in two databases at a time, for one tenant.
PLATFORM_WIDE: Final = frozenset({"audit_logs"})


def carried(tables: Tables) -> tuple[StoredTable, ...]:
    """Return the tables whose rows a tenant takes into a database of its own: all that have its rows.

    Those that say how often rules have changed come last: who sees a new number reads the rules.
    """
    found = [one for one in tables.stored if "tenant_id" in one.table.c and one.table.name not in _LEFT]
    return tuple(sorted(found, key=lambda one: one.table.name == "access_versions"))


def staying(tables: Tables) -> Mapping[str, str]:
    """Return which rows of tables that are carried stay in the shared database, wherever their tenant is.

    Those are what the framework keeps of the tenant's writes to the control plane, which has its rows there.

    Returns:
        By full name of the table, a condition in SQL, never null, in which `{row}` stands before a column.
    """
    controlled = [stored for stored in tables.stored if any(one.control_plane for one in stored.resources)]
    resources = sorted({quote_text(one.name) for stored in controlled for one in stored.resources})
    names = sorted({quote_text(stored.table.name) for stored in controlled})
    found = {"byodpp.idempotency_keys": f"starts_with({{row}}route, {quote_text(CONTROL_PLANE_ROUTE)})"}
    if controlled:
        found["byodpp.outbox"] = f"coalesce({{row}}resource, '') in ({', '.join(resources)})"
        found["byodpp.history"] = f"{{row}}resource in ({', '.join(names)})"
    return found


def _movable(stored: StoredTable) -> bool:
    return bool(stored.resources) and all(
        one.part is None and one.scope in (Scope.TENANT, Scope.USER) for one in stored.resources
    )
