"""A small world to query: resources of every scope, two tenants, nulls everywhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from byodpp.database import SessionContext
from byodpp.embedded import RunningServer
from byodpp.manifest import load_manifest
from byodpp.registry import Registry
from byodpp.row_security import FUNCTIONS, grants, policies
from byodpp.sql_text import quote
from byodpp.statements.parameters import Compiled
from byodpp.tables import Tables
from byodpp.tables.roles import provision_database

YES = {"filterable": True}

#: Numbers that are kept as text; only a cost has as many digits as its precision says.
COUNT = {"type": "bigint", "asString": True}
COST = {"type": "decimal", "precision": 8, "scale": 2, "asString": True}
RATE = {"type": "decimal", "asString": True}
SIZE = {"label": {"type": "string"}, "depth": {"type": "float"}, "count": COUNT, "cost": COST, "rate": RATE}
LINE = {"sku": {"type": "string"}, "qty": {"type": "integer"}, "cost": COST}

MANIFEST: list[dict[str, Any]] = [
    {
        "name": "Categories",
        "fields": {
            "name": {"type": "string", **YES},
            "rank": {"type": "integer", **YES},
            "parentId": {"references": "Categories", "as": "parent"},
        },
        "relations": {"products": {"resource": "Products", "foreignField": "categoryId"}},
    },
    {
        "name": "Products",
        "fields": {
            "name": {"type": "string", **YES},
            "description": {"type": "text", **YES},
            "price": {"type": "decimal", "precision": 12, "scale": 2, **YES},
            "weight": {"type": "float", **YES},
            "amount": {"type": "integer", **YES},
            "isFeatured": {"type": "boolean", **YES},
            "releasedOn": {"type": "date", **YES},
            "checkedAt": {"type": "datetime", **YES},
            "code": {"type": "uuid", **YES},
            "status": {"type": "string", "enum": ["draft", "published", "retired"], **YES},
            "tags": {"type": "array", "items": {"type": "string"}, **YES},
            "metadata": {"type": "json", **YES},
            "size": {"type": "object", "properties": SIZE, **YES},
            "lines": {"type": "array", "items": {"type": "object", "properties": LINE}, **YES},
            "grid": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}, **YES},
            "counts": {"type": "array", "items": COUNT, **YES},
            "rates": {"type": "array", "items": RATE, **YES},
            "costs": {"type": "array", "items": COST, **YES},
            "secret": {"type": "string", "writeOnly": True},
            "remark": {"type": "string", "filterable": False},
            "categoryId": {"references": "Categories"},
        },
        "relations": {"dpps": {"resource": "Dpps", "foreignField": "productId"}},
        "search": ["name", "description"],
        "versioned": True,
        "softDelete": True,
    },
    {
        "name": "Dpps",
        "fields": {
            "status": {"type": "string", **YES},
            "score": {"type": "integer", **YES},
            "productId": {"references": "Products"},
        },
        "relations": {"sections": {"resource": "Sections", "foreignField": "dppId"}},
    },
    {
        "name": "Sections",
        "fields": {
            "title": {"type": "string", **YES},
            "dppId": {"references": "Dpps"},
            "unitId": {"references": "Units"},
            "countryId": {"references": "Countries"},
        },
    },
    {"name": "Units", "scope": "library", "fields": {"symbol": {"type": "string", **YES}}},
    {"name": "Countries", "scope": "shared", "fields": {"name": {"type": "string", **YES}}},
    {"name": "Notes", "scope": "user", "fields": {"body": {"type": "string", **YES}}},
]


@dataclass(slots=True, kw_only=True)
class World:
    """The resources, their tables, and connections as owner and as the app role."""

    registry: Registry
    tables: Tables
    owner: asyncpg.Connection[Any]
    app: asyncpg.Connection[Any]

    async def add(self, resource: str, **columns: Any) -> None:
        """Insert a row, past row-level security; json columns take Python values."""
        table = self.tables[self.registry.get(resource)]
        values = [json.dumps(v) if isinstance(v, dict | list) else v for v in columns.values()]
        places = ", ".join(f"${i}" for i in range(1, len(values) + 1))
        names = ", ".join(map(quote, columns))
        await self.owner.execute(f"insert into {quote(table.name)} ({names}) values ({places})", *values)

    async def run(
        self,
        compiled: Compiled,
        values: Any = (),
        variables: Any = None,
        caller: SessionContext | None = None,
        **options: Any,
    ) -> asyncpg.Record:
        """Run a statement as the app role in one trip."""
        arguments = compiled.arguments(values, variables, caller or SessionContext(tenant_id=1), **options)
        row = await self.app.fetchrow(compiled.sql, *arguments)
        assert row is not None
        return row


def build_registry(folder: Path, manifest: Any = None) -> Registry:
    """Load the world's manifest, or another."""
    (folder / "resources.json").write_text(json.dumps({"resources": manifest or MANIFEST}))
    return load_manifest(folder)


async def create_world(server: RunningServer, folder: Path, database: str) -> World:
    """Make a database with the world's tables and policies."""
    registry = build_registry(folder)
    tables = Tables.build(registry)
    admin = await asyncpg.connect(server.uri("postgres"))
    await admin.execute(
        f"create database {quote(database)} template template0 lc_collate 'C' lc_ctype 'C.UTF-8'"
    )
    await admin.close()
    owner = await asyncpg.connect(server.uri("postgres", database))
    await provision_database(owner)
    for function in FUNCTIONS:
        await owner.execute(function.create())
    for statement in _ddl(tables):
        await owner.execute(statement)
    return World(
        registry=registry,
        tables=tables,
        owner=owner,
        app=await asyncpg.connect(server.uri("byodpp_app", database)),
    )


def _ddl(tables: Tables) -> list[str]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    ours = {one.table: one for one in tables.stored if one.resources}
    made = [table for table in tables.metadata.sorted_tables if table in ours]
    found = [str(CreateTable(table).compile(dialect=dialect)) for table in made]
    for table in made:
        found += [str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes]
        name = quote(table.name)
        found.append(
            f"alter table {name} enable row level security; alter table {name} force row level security"
        )
        found += [policy.create(name) for policy in policies(ours[table], lambda resource: None)]
        found += [f"grant {grant.privilege} on {name} to {grant.role}" for grant in grants(ours[table])]
    return found
