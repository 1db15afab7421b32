"""Row-level security does not keep PostgreSQL from its indexes: plans, seen as the app role.

The framework's own statements are explained, in the form in which a request runs them. Where a
resource cannot declare an index yet (json, full text), the test makes the one that serves.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from byodpp.conditions import Visibility
from byodpp.database import SessionContext
from byodpp.embedded import SUPERUSER, EmbeddedPostgres
from byodpp.query import judge, parse
from byodpp.row_security import mark_leakproof
from byodpp.statements import Statements
from byodpp.statements.writes import Change, WriteStatements
from byodpp.tables.roles import DATABASE
from tests.query_world import World, create_world

TENANTS = 4
ROWS = 20_000

FILL = f"""
insert into products (tenant_id, name, description, price, amount, metadata, tags)
    select i % {TENANTS}, 'name ' || i, 'words number' || i, i, i,
           jsonb_build_object('k' || i, i), jsonb_build_array('t' || i)
    from generate_series(1, {ROWS}) i;
create index on products (tenant_id, name, id);
create index on products (tenant_id, price, id);
create index on products (tenant_id, amount, id);
create index metadata_idx on products using gin (metadata);
create index tags_idx on products using gin (tags);
alter table products add column words tsvector
    generated always as (to_tsvector('simple', coalesce(description, ''))) stored;
create index words_idx on products using gin (words);
analyze products;
"""


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("indexes")
    async with EmbeddedPostgres(folder, durable=False).running() as server:
        world = await create_world(server, folder, "indexes")
        await mark_leakproof(world.owner)
        await world.owner.execute(FILL)
        yield world
        await world.app.close()
        await world.owner.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


async def explained(world: World, text: str, *, key: int | None = None) -> list[dict[str, Any]]:
    """Return the nodes of the plan that PostgreSQL makes for a request of the app role."""
    statements = Statements(world.registry, world.tables)
    resource = world.registry.get("Products")
    query = judge(parse(text), resource, world.registry, None, mode="list" if key is None else "read")
    named = {} if key is None else {"id": key}
    make = statements.page if key is None else statements.row
    compiled = make(resource, query, None, context_in_statement=False)
    arguments = compiled.arguments(query.values, None, SessionContext(tenant_id=1), named=named)
    return await plan_of(world, compiled.sql, *arguments, key=key)


async def plan_of(world: World, sql: str, *arguments: Any, key: int | None = None) -> list[dict[str, Any]]:
    async with world.app.transaction():
        await world.app.execute(
            "set local byodpp.tenant = '1'; set local plan_cache_mode = force_custom_plan"
        )
        if key is None:
            # Else so small a table is read in the order of the page, and the rows are judged one by one.
            await world.app.execute("set local enable_seqscan = off; set local enable_indexscan = off")
        found = await world.app.fetchval(f"explain (format json) {sql}", *arguments)
    return list(nodes(json.loads(found)[0]["Plan"]))


@pytest.mark.parametrize(
    ("text", "index", "condition"),
    [
        ("filter[name][like]=name 21%25&count=none", None, "(name)::text >="),
        ("filter[name]=name 21&count=none", None, "(name)::text ="),
        ("filter[price][gte]=19990&count=none", None, "price >="),
        ("filter[price]=21&count=none", None, "price ="),
        ("filter[amount][gte]=19990&count=none", None, "amount >="),
        ("filter[metadata][has]=k21&count=none", "metadata_idx", "metadata ?"),
        ("filter[tags][has]=t21&count=none", "tags_idx", "tags @>"),
    ],
)
async def test_a_filter_uses_its_index(world: World, text: str, index: str | None, condition: str) -> None:
    plan = await explained(world, text)
    conditions = {node.get("Index Name"): node.get("Index Cond", "") for node in plan}
    assert any(condition in found and index in (None, name) for name, found in conditions.items()), (
        json.dumps(plan, indent=1)
    )
    assert not any(node["Node Type"] == "Seq Scan" for node in plan)


async def test_full_text_uses_its_index(world: World) -> None:
    """Over a stored column: PostgreSQL takes every COALESCE over a column for one that may leak."""
    sql = "select id from products where tenant_id = 1 and words @@ websearch_to_tsquery('simple', $1)"
    plan = await plan_of(world, sql, "number21")
    assert "words_idx" in {node.get("Index Name") for node in plan}


async def test_a_read_by_key_uses_the_primary_key(world: World) -> None:
    plan = await explained(world, "", key=21)
    used = [node for node in plan if node.get("Relation Name") == "products"]
    assert used
    for node in used:
        assert node["Node Type"] == "Index Scan"
        assert "pkey" in node["Index Name"] and "id = " in node["Index Cond"]


@pytest.mark.parametrize(
    "planner",
    [
        "enable_seqscan = on",
        "enable_nestloop = off",
        "enable_nestloop = off; set local enable_hashjoin = off",
        "enable_indexscan = off; set local enable_bitmapscan = off",
        "enable_material = off; set local plan_cache_mode = force_generic_plan",
        "from_collapse_limit = 1; set local join_collapse_limit = 1",
    ],
)
async def test_a_change_by_itself_sets_its_context_before_it_looks_for_its_row(
    world: World, planner: str
) -> None:
    resource = world.registry.get("Products")
    writes = WriteStatements(world.registry, world.tables, Statements(world.registry, world.tables))
    seen = Visibility(None, dict.fromkeys(resource.fields))
    change = Change(kind="update", columns=("amount",), visibility=seen)
    compiled = writes.change(resource, change, context_in_statement=True)
    named = dict.fromkeys(compiled.names) | {"v_amount": 7}
    async with world.app.transaction():
        await world.app.execute(f"set local {planner}")
        for tenant, key, found in ((1, 21, True), (2, 21, None), (1, ROWS + 1, None), (2, 22, True)):
            context = SessionContext(tenant_id=tenant)
            arguments = compiled.arguments((), None, context, named=named | {"id": key})
            await world.app.execute(
                "select set_config('byodpp.tenant', '', true)"
            )  # else raises: nothing is set
            plan = json.loads(await world.app.fetchval(f"explain (format json) {compiled.sql}", *arguments))
            record = await world.app.fetchrow(compiled.sql, *arguments)
            assert (record["permitted"], record["changed"]) == (found, found)
            # The one row comes from what sets the context; all else is asked for when that is there.
            root = plan[0]["Plan"]
            first = [part for part in root["Plans"] if part["Parent Relationship"] != "InitPlan"]
            assert root["Node Type"] == "Subquery Scan", plan
            assert [(part["Node Type"], part.get("Plans")) for part in first] == [("Result", None)], plan


async def test_the_embedded_server_trusts_the_operators_from_its_start(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with EmbeddedPostgres(tmp_path_factory.mktemp("marked"), durable=False).running() as server:
        connection = await asyncpg.connect(server.uri(SUPERUSER, DATABASE))
        try:
            assert not await mark_leakproof(connection), "all were marked before"
        finally:
            await connection.close()
