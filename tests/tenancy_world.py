"""Two tenants with a row of everything, each in the shared tables or in a schema of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from byodpp.bootstrap import Blueprint
from byodpp.database import Database
from byodpp.places import dedicated
from byodpp.routes import ListedRoute
from byodpp.testing import Bench, TestedApplication

__all__ = [
    "LOGIC", "SHARED_BY_ALL", "TABLES", "World", "body_for", "fill", "key_of", "populated", "post",
    "routes_with_a_row",
]  # fmt: skip

LOGIC = {
    "logics/v1/documents/stamp.py": """
from byodpp.logics import Logic

class Stamp(Logic):
    resource, action = "Documents", "stamp:post"

    async def execute(self):
        row = await self.repository.read(self.request.params["id"])
        return await self.repository.patch(row["id"], {"title": row["title"] + "!"})
"""
}
TABLES = (
    "folders", "documents", "pages", "labels", "markers", "links", "drafts", "countries", "units",
    "bulletins", "chapters", "counters", "policies", "roles", "tenants", "tenant_classes", "audit_logs",
    "user_roles", "byodpp.outbox",
)  # fmt: skip
#: Resources whose rows another tenant may see by their scope: Tenants show themselves to the platform.
SHARED_BY_ALL = {"Countries", "TenantClasses"}


@dataclass
class World:
    """Two tenants with a row of everything, beta's with higher ids."""

    application: TestedApplication
    beta_ids: dict[str, str] = field(default_factory=dict)  # by resource
    acme_ids: dict[str, str] = field(default_factory=dict)

    async def state(self) -> dict[str, list[Any]]:
        """Every row of every table with its version in the database, but the traces of refusals."""
        traces = {"audit_logs": "where result = 'success'"}
        found: dict[str, list[Any]] = {}
        for table in TABLES:
            found[table] = []
            for database, schema in await self._places(table):
                async with database.system() as transaction:
                    found[table] += [
                        tuple(row)
                        for row in await transaction.fetch(
                            f"select xmin::text, t::text from {schema}{table} t"
                            f" {traces.get(table, '')} order by 2"
                        )
                    ]
        return found

    async def _places(self, table: str) -> list[tuple[Database, str]]:
        """Where a table is: in the shared database and its schemas, and in those of tenants that have one."""
        shared = self.application.connected.database
        found = [(shared, schema) for schema in await self._schemas(table)]
        return [*found, *((one, "") for one in shared.places.values())]

    async def _schemas(self, table: str) -> list[str]:
        """Where a table is: the shared one, and those of tenants that have it for themselves."""
        if table not in {one.table.name for one in dedicated(self.application.blueprint.tables)}:
            return [""]
        async with self.application.connected.database.system() as transaction:
            rows = await transaction.fetch(
                "select place from byodpp.tenant_places where tier = 'schema' order by place"
            )
        return ["public.", *(f"{row['place']}." for row in rows)]

    async def rows(self, table: str, columns: str, *, where: str = "true") -> list[Any]:
        """Columns of every row of a table, wherever it lies, as `f`, with its tenant, as `t`."""
        found: list[Any] = []
        whose = "f.id" if table == "tenants" else "f.tenant_id"
        for database, schema in await self._places(table):
            async with database.system() as transaction:
                found += await transaction.fetch(
                    f"select {columns} from {schema}{table} f join tenants t on t.id = {whose} where {where}"
                )
        return found

    async def refused(self) -> set[str]:
        """The tenants in whose audit trail a refusal stands."""
        await self.application.connected.trail.drain()
        found = set()
        for database in self.application.connected.database.everywhere():
            async with database.system() as transaction:
                rows = await transaction.fetch(
                    "select distinct t.slug from audit_logs a join tenants t on t.id = a.tenant_id"
                    " where a.result <> 'success'"
                )
            found |= {row["slug"] for row in rows}
        return found


@dataclass(frozen=True)
class Populated:
    """A database with the world on it, to be copied."""

    blueprint: Blueprint
    database: str
    acme_ids: dict[str, str]
    beta_ids: dict[str, str]
    in_databases: tuple[str, ...] = ()  # tenants that have a database of their own, in each copy

    @asynccontextmanager
    async def copied(self, bench: Bench) -> AsyncIterator[World]:
        """Yield the world on a database of its own."""
        places = tuple(f"place-{number}@eu" for number, _ in enumerate(self.in_databases))
        more: dict[str, Any] = {"places": places, "place_refresh_seconds": 3600, "tenant_settle_seconds": 0}
        async with bench.application(self.blueprint, origin=self.database, **more) as tested:
            for tenant in self.in_databases:
                await tested.connected.tenant_life().move(tenant, "database")
            yield World(tested, beta_ids=dict(self.beta_ids), acme_ids=dict(self.acme_ids))


@asynccontextmanager
async def populated(
    bench: Bench, blueprint: Blueprint, in_schemas: Sequence[str], in_databases: Sequence[str] = ()
) -> AsyncIterator[Populated]:
    """Yield a database on which the world was made.

    Args:
        bench: makes the database.
        blueprint: of `TWELVE`.
        in_schemas: tenants that have a schema of their own.
        in_databases: tenants that have a database of their own.
    """

    async def populate(tested: TestedApplication) -> World:
        made = World(tested)
        operator = tested.client(tenant="platform", user="root")
        await post(operator, "countries", title="Utopia")
        await post(operator, "units", title="metre")
        await post(operator, "tenant-classes", name="gold")
        # Beta's rows come after several of acme's, so that their ids name nothing of acme's.
        made.acme_ids = await fill(tested, "acme", 1)
        for round_ in range(3):
            made.beta_ids = await fill(tested, "beta", round_)
        for tenant in in_schemas:
            await tested.connected.tenant_life().move(tenant, "schema")
        return made

    async with bench.prepared(blueprint, populate, tenant_settle_seconds=0) as (database, made):
        yield Populated(
            blueprint,
            database,
            acme_ids=made.acme_ids,
            beta_ids=made.beta_ids,
            in_databases=tuple(in_databases),
        )


async def post(client: Any, segment: str, **values: Any) -> str:
    response = await client.post(f"/api/v1/{segment}", json=values)
    assert response.status_code == 201, (segment, response.text)
    return str(response.json()["data"]["id"])


async def fill(tested: TestedApplication, tenant: str, number: int) -> dict[str, str]:
    client = tested.client(tenant=tenant, user=f"admin-{tenant}")
    title = f"{tenant} {number}"
    ids: dict[str, str] = {}
    ids["Folders"] = await post(client, "folders", title=title)
    ids["Documents"] = await post(
        client, "documents", title=title, folderId=int(ids["Folders"]), secret=f"hidden {title}"
    )
    ids["Pages"] = await post(client, "pages", title=title, documentId=int(ids["Documents"]))
    ids["Labels"] = await post(client, "labels", title=title)
    ids["Markers"] = await post(client, "markers", title=title)
    ids["Links"] = await post(
        client, "links", title=title, labelId=ids["Labels"], documentId=int(ids["Documents"])
    )
    ids["Drafts"] = await post(client, "drafts", title=title)
    ids["Units"] = await post(client, "units", title=title)
    ids["Bulletins"] = await post(client, "bulletins", title=title, status="draft")
    ids["Chapters"] = await post(
        client, "chapters", title=title, bulletinId=int(ids["Bulletins"]), status="draft"
    )
    ids["Counters"] = await post(client, "counters", title=title)
    ids["Policies"] = await post(client, "policies", subject="Viewer", object="Pages", action="read")
    ids["Roles"] = await post(client, "roles", name=title)
    users = (await client.get("/api/v1/users")).json()["data"]
    ids["Users"] = str(users[-1]["id"])
    ids["UserRoles"] = await post(client, "user-roles", userId=users[-1]["id"], roleId=int(ids["Roles"]))
    ids["AuditLogs"] = str((await client.get("/api/v1/audit-logs?sort=-id&limit=1")).json()["data"][0]["id"])
    ids["Tenants"] = str((await tested.tenant(tenant)).id)
    return ids


def body_for(resource: str, ids: dict[str, str]) -> dict[str, Any]:
    """A body that is valid but for the row it is about."""
    bodies: dict[str, dict[str, Any]] = {
        "Pages": {"title": "x", "documentId": int(ids["Documents"])},
        "Chapters": {"title": "x", "bulletinId": int(ids["Bulletins"])},
        "Policies": {"subject": "Viewer", "object": "Pages"},
        "Roles": {"name": "x"},
        "UserRoles": {"userId": int(ids["Users"]), "roleId": int(ids["Roles"])},
        "Users": {"name": "x"},
        "Tenants": {"name": "x", "slug": "x"},
        "TenantClasses": {"name": "x"},
    }
    return bodies.get(resource, {"title": "x"})


def key_of(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def routes_with_a_row(application: TestedApplication) -> list[ListedRoute]:
    table = application.asgi.state.table
    return [route for route in table.listing() if "{id}" in route.pattern and route.resource]
