"""Statements on a real PostgreSQL, as the app role under row-level security."""

from __future__ import annotations

import datetime
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from byodpp.conditions import AllOf, AnyOf, Condition, Refusal, Visibility, with_constants
from byodpp.database import SessionContext
from byodpp.definitions import ResourceDefinition
from byodpp.embedded import EmbeddedPostgres
from byodpp.query import Query, condition_from_json, judge, parse
from byodpp.statements import ESTIMATE_LIMIT, Statements, split_version
from byodpp.statements.parameters import bound, compile_statement
from tests.query_world import World, create_world

UTC = datetime.UTC


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("world")
    async with EmbeddedPostgres(folder, durable=False).running() as server:
        world = await create_world(server, folder, "statements")
        await fill(world)
        yield world
        await world.app.close()
        await world.owner.close()


async def fill(world: World) -> None:
    moment = datetime.datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC)
    for number, name in ((1, "Norway"), (2, "Chile")):
        await world.add("Countries", id=number, name=name)
    await world.add("Units", id=1, tenant_id=0, symbol="kg")
    for tenant in (1, 2):
        add = world.add
        await add("Units", id=10 + tenant, tenant_id=tenant, symbol=f"own{tenant}")
        await add("Notes", id=1, tenant_id=tenant, owner_id=7, body="of seven")
        await add("Notes", id=2, tenant_id=tenant, owner_id=8, body="of eight")
        await add("Categories", id=1, tenant_id=tenant, name="Shoes", rank=1)
        await add("Categories", id=2, tenant_id=tenant, name="Boots", rank=None, parent_id=1)
        await add(
            "Products", id=1, tenant_id=tenant, name=f"Ä 50% \"{tenant}\"", price=Decimal("9.90"), amount=3,
            category_id=1, tags=["a", "b"], metadata={"color": "red", "n": 5}, secret="s", checked_at=moment,
            description="A sturdy boot", status="published",
        )  # fmt: skip
        await add("Products", id=2, tenant_id=tenant, name="b", category_id=2, amount=1, status="draft")
        await add("Products", id=3, tenant_id=tenant)
        await add("Products", id=4, tenant_id=tenant, name="deleted", deleted_at=moment)
        for number in range(1, 26):
            await add("Dpps", id=number, tenant_id=tenant, product_id=1, score=number, status="draft")
        await add("Dpps", id=30, tenant_id=tenant, product_id=4)
        await add("Sections", id=1, tenant_id=tenant, dpp_id=1, title=f"S{tenant}", unit_id=1, country_id=2)


@pytest.fixture
def statements(world: World) -> Statements:
    return Statements(world.registry, world.tables)


async def page(
    world: World,
    statements: Statements,
    text: str,
    *,
    resource: str = "Products",
    lookup: Any = None,
    **options: Any,
) -> tuple[Any, int | None]:
    target = world.registry.get(resource)
    query = judge(parse(text), target, world.registry, lookup)
    row = await world.run(statements.page(target, query, lookup), query.values, **options)
    return json.loads(row["data"]), row["total"]


async def ids(world: World, statements: Statements, text: str, **options: Any) -> list[int]:
    rows, _ = await page(world, statements, text, **options)
    return [row["id"] for row in rows]


def rule(world: World, tree: Any, resource: str = "Products") -> Condition:
    return with_constants(*condition_from_json(tree, world.registry.get(resource), world.registry, None))


def seeing(world: World, **rules: Visibility | None) -> Any:
    def lookup(resource: ResourceDefinition) -> Visibility | None:
        if resource.name in rules:
            return rules[resource.name]
        return Visibility(None, dict.fromkeys(resource.fields))

    return lookup


# --- what comes out -------------------------------------------------------------------


async def test_a_page_is_compact_json_in_the_order_of_definition(
    world: World, statements: Statements
) -> None:
    target = world.registry.get("Products")
    query = judge(
        parse("fields=tags,checkedAt,price,id,name&filter[id][lte]=2"), target, world.registry, None
    )
    row = await world.run(statements.page(target, query, None), query.values)
    assert row["data"] == (
        '[{"id":1,"name":"Ä 50% \\"1\\"","price":9.90,"checkedAt":"2024-05-06T07:08:09.000010Z",'
        '"tags":["a", "b"]},'
        '{"id":2,"name":"b","price":null,"checkedAt":null,"tags":null}]'
    )
    assert row["total"] == 2


async def test_an_empty_page_is_an_empty_array(world: World, statements: Statements) -> None:
    assert await page(world, statements, "filter[name]=nobody") == ([], 0)
    assert await page(world, statements, "offset=1000000000") == ([], 3)


async def test_counts_are_exact_estimated_or_left_out(world: World, statements: Statements) -> None:
    assert (await page(world, statements, "limit=1"))[1] == 3
    assert (await page(world, statements, "limit=1&count=estimated"))[1] == 3
    assert (await page(world, statements, "limit=1&count=none"))[1] is None
    assert ESTIMATE_LIMIT == 10_000


async def test_includes_of_any_depth_are_one_statement(world: World, statements: Statements) -> None:
    rows, _ = await page(
        world,
        statements,
        "fields=id&include=category.parent,dpps.sections.unit,dpps.sections.country&fields[category]=name"
        "&fields[category.parent]=name&fields[dpps]=id&fields[dpps.sections]=title&include[dpps][limit]=2"
        "&fields[dpps.sections.unit]=symbol&fields[dpps.sections.country]=name&include[dpps][sort]=score:asc",
    )
    section = {"title": "S1", "unit": {"symbol": "kg"}, "country": {"name": "Chile"}}
    assert rows == [
        {
            "id": 1,
            "category": {"name": "Shoes", "parent": None},
            "dpps": [{"id": 1, "sections": [section]}, {"id": 2, "sections": []}],
        },
        {"id": 2, "category": {"name": "Boots", "parent": {"name": "Shoes"}}, "dpps": []},
        {"id": 3, "category": None, "dpps": []},
    ]


async def test_an_include_has_a_limit_a_filter_and_an_order_of_its_own(
    world: World, statements: Statements
) -> None:
    rows, total = await page(world, statements, "filter[id]=1&fields=id&include=dpps&fields[dpps]=id")
    assert (len(rows[0]["dpps"]), total) == (20, 1)
    text = (
        "filter[id]=1&include[dpps][filter][score][gt]=20&include[dpps][sort]=-score&include[dpps][limit]=3"
    )
    rows, _ = await page(world, statements, text)
    assert [one["score"] for one in rows[0]["dpps"]] == [25, 24, 23]


async def test_a_single_row_brings_its_version(world: World, statements: Statements) -> None:
    target = world.registry.get("Products")
    query = judge(parse("fields=id,name"), target, world.registry, None, "read")
    row = await world.run(statements.row(target, query, None), query.values, named={"id": 2})
    assert split_version(row["data"]) == ('{"id":2,"name":"b"}', 1)
    for number in (4, 99):  # deleted, and never there
        row = await world.run(statements.row(target, query, None), query.values, named={"id": number})
        assert row["data"] is None
    query = judge(parse("include=category"), target, world.registry, None, "read")
    row = await world.run(statements.row(target, query, None), query.values, named={"id": 2})
    assert split_version(row["data"])[1] is None


async def test_a_caller_who_may_read_no_field_gets_empty_objects(
    world: World, statements: Statements
) -> None:
    lookup = seeing(world, Products=Visibility(None, {}))
    rows, total = await page(world, statements, "", lookup=lookup)
    assert (rows, total) == ([{}, {}, {}], 3)


async def test_write_only_fields_never_come_out(world: World, statements: Statements) -> None:
    for lookup in (None, seeing(world)):
        rows, _ = await page(world, statements, "include=dpps.product", lookup=lookup)
        assert "secret" not in json.dumps(rows)


async def test_nulls_come_last_ascending_and_first_descending(world: World, statements: Statements) -> None:
    assert await ids(world, statements, "sort=name") == [2, 1, 3]
    assert await ids(world, statements, "sort=-name") == [3, 1, 2]
    assert await ids(world, statements, "sort=name:asc:nullsFirst") == [3, 2, 1]
    assert await ids(world, statements, "sort=name:desc:nullsLast") == [1, 2, 3]
    assert await ids(world, statements, "sort=-category.name") == [3, 1, 2]


async def test_text_is_data_whatever_it_spells(world: World, statements: Statements) -> None:
    for text in (
        "' OR 1=1--",
        ";DROP TABLE products",
        "%27",
        "$1",
        ":x",
        "\\",
        '"',
        "%(a)s",
        "{0}",
        "x" * 10_000,
    ):
        for operator in ("eq", "contains", "startsWith", "ilike"):
            encoded = "".join(f"%{byte:02x}" for byte in text.encode())
            query = parse(f"filter[name][{operator}]={encoded}")
            target = world.registry.get("Products")
            try:
                judged = judge(query, target, world.registry, None)
            except Exception as error:
                assert getattr(error, "status", None) == 400
                continue
            row = await world.run(statements.page(target, judged, None), judged.values)
            assert row["total"] <= 1


async def test_search_finds_words_of_the_declared_fields(world: World, statements: Statements) -> None:
    assert await ids(world, statements, "search=sturdy+boot") == [1]
    assert await ids(world, statements, "search=sturdy+-boot") == []
    hidden = {name: None for name in world.registry.get("Products").fields if name != "description"}
    for words in ("sturdy", "nonsense"):
        assert (
            await ids(
                world, statements, f"search={words}", lookup=seeing(world, Products=Visibility(None, hidden))
            )
            == []
        )


async def test_keys_that_look_like_sql_stay_keys_of_json(world: World, statements: Statements) -> None:
    for key in ("a'b", 'a"b', "a}b", "a{b", "a,b", "$1", "%s", "a\\b"):
        encoded = "".join(f"%{byte:02x}" for byte in key.encode())
        assert await ids(world, statements, f"filter[metadata][{encoded}]=1") == []


# --- tenancy --------------------------------------------------------------------------


@pytest.mark.parametrize("enforce_scope", [True, False])
async def test_only_rows_of_the_scope_are_read_even_by_row_level_security_alone(
    world: World, enforce_scope: bool
) -> None:
    statements = Statements(world.registry, world.tables, enforce_scope=enforce_scope)
    for tenant in (1, 2):
        caller = SessionContext(tenant_id=tenant, user_id=8)
        rows, total = await page(world, statements, "include=dpps.sections&filter[id]=1", caller=caller)
        assert total == 1
        assert rows[0]["name"].endswith(f'"{tenant}"')
        assert rows[0]["dpps"][0]["sections"][0]["title"] == f"S{tenant}"
        assert await ids(world, statements, "", resource="Units", caller=caller) == [1, 10 + tenant]
        assert await ids(world, statements, "", resource="Notes", caller=caller) == [2]
        assert await ids(world, statements, "", resource="Countries", caller=caller) == [1, 2]
    assert (await page(world, statements, "", caller=SessionContext(tenant_id=-1)))[1] == 0


async def test_whose_rows_are_meant_is_not_whose_session_it_is(world: World, statements: Statements) -> None:
    """An anonymous reader's session is nobody's; grants open single rows of the tenant that is meant."""
    nobody = SessionContext(tenant_id=-1, grants=("products:2:1",))
    assert await ids(world, statements, "", caller=nobody, scope_tenant_id=2) == [1]
    assert await ids(world, statements, "", caller=nobody, scope_tenant_id=1) == []


async def test_inside_a_transaction_the_context_is_the_transactions(
    world: World, statements: Statements
) -> None:
    target = world.registry.get("Products")
    query = judge(parse("fields=id"), target, world.registry, None)
    compiled = statements.page(target, query, None, context_in_statement=False)
    assert "set_config" not in compiled.sql
    arguments = compiled.arguments(query.values, {}, SessionContext(tenant_id=1))
    async with world.app.transaction():
        await world.app.execute("set local byodpp.tenant = '1'")
        row = await world.app.fetchrow(compiled.sql, *arguments)
        assert row["total"] == 3
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await world.app.fetchrow(compiled.sql, *arguments)


async def test_one_trip_sets_before_it_reads_however_often_it_is_prepared(
    world: World, statements: Statements
) -> None:
    target = world.registry.get("Products")
    query = judge(
        parse("filter[dpps][some][score][gt]=3&include=dpps&count=exact"), target, world.registry, None
    )
    compiled = statements.page(target, query, None)
    prepared = await world.app.prepare(compiled.sql)
    for number in range(14):  # past the fifth run PostgreSQL may take a generic plan
        tenant = number % 2 + 1
        row = await prepared.fetchrow(*compiled.arguments(query.values, {}, SessionContext(tenant_id=tenant)))
        assert f'\\"{tenant}\\"' in row["data"]
    assert await world.app.fetchval("select current_setting('byodpp.tenant', true)") in ("", None)


# --- rules ----------------------------------------------------------------------------


async def test_row_rules_hold_on_every_way_to_a_row(world: World, statements: Statements) -> None:
    everything = dict.fromkeys(world.registry.get("Categories").fields)
    lookup = seeing(world, Categories=Visibility(rule(world, {"name": "Boots"}, "Categories"), everything))
    rows, _ = await page(world, statements, "include=category.parent&fields=id", lookup=lookup)
    assert [row["category"] and (row["category"]["name"], row["category"]["parent"]) for row in rows] == [
        None, ("Boots", None), None,
    ]  # fmt: skip
    assert await ids(world, statements, "filter[category.name]=Shoes", lookup=lookup) == []
    assert await ids(world, statements, "filter[category.name][isNull]=true", lookup=lookup) == [1, 3]
    assert await ids(world, statements, "sort=category.name", lookup=lookup) == [2, 1, 3]
    assert await ids(world, statements, "", resource="Categories", lookup=lookup) == [2]


async def test_a_field_rule_hides_the_value_wherever_it_is_used(world: World, statements: Statements) -> None:
    fields: dict[str, Condition | None] = dict.fromkeys(world.registry.get("Products").fields)
    fields["amount"] = rule(world, {"status": "draft"})
    fields["categoryId"] = rule(world, {"status": "published"})
    lookup = seeing(world, Products=Visibility(None, fields))
    rows, _ = await page(world, statements, "fields=amount,categoryId&include=category", lookup=lookup)
    assert [(row["amount"], row["categoryId"], bool(row["category"])) for row in rows] == [
        (None, 1, True), (1, None, False), (None, None, False),
    ]  # fmt: skip
    assert await ids(world, statements, "filter[amount][gte]=0", lookup=lookup) == [2]
    assert await ids(world, statements, "filter[amount]=3", lookup=lookup) == []
    assert await ids(world, statements, "filter[amount][ne]=1", lookup=lookup) == [1, 3]
    assert await ids(world, statements, "sort=amount", lookup=lookup) == [2, 1, 3]
    assert (
        await ids(world, statements, "filter[products][some][id]=2", resource="Categories", lookup=lookup)
        == []
    )


async def test_an_unknown_comparison_never_allows_and_in_a_refusal_refuses(
    world: World, statements: Statements
) -> None:
    fields = dict.fromkeys(world.registry.get("Products").fields)
    by_level = rule(world, {"amount": "$user.id"})

    async def seen(rows: Condition, variables: dict[str, Any]) -> list[int]:
        return await ids(
            world,
            statements,
            "",
            lookup=seeing(world, Products=Visibility(rows, fields)),
            variables=variables,
        )

    not_level = rule(world, {"not": {"amount": "$user.id"}})
    other_level = rule(world, {"amount": {"ne": "$user.id"}})
    outside = rule(world, {"amount": {"nin": "$user.id"}})
    absences: list[dict[str, Any]] = [{}, {"user.id": None}, {"user.id": []}, {"user.id": "x"}]
    for absent in absences:
        for condition in (by_level, not_level, other_level, outside, Refusal(by_level), Refusal(other_level)):
            assert await seen(condition, absent) == []
    three = {"user.id": 3}
    assert await seen(by_level, three) == [1]
    assert await seen(not_level, three) == await seen(other_level, three) == [2, 3]
    assert await seen(outside, {"user.id": [3, 1]}) == [3]
    # The third row's amount is null: a refusal takes it too, except where null is a definite answer.
    assert await seen(Refusal(by_level), three) == [2]
    assert await seen(Refusal(other_level), three) == [1]
    assert await seen(Refusal(rule(world, {"category.name": "Shoes"})), {}) == [2]
    assert await seen(Refusal(AnyOf((rule(world, {"amount": 1}), rule(world, {"id": 1})))), {}) == []
    assert await seen(AllOf((Refusal(rule(world, {"id": 1})), rule(world, {"id": {"gt": 0}}))), {}) == [2, 3]
    assert await seen(Refusal(rule(world, {"dpps": {"some": {"score": 25}}})), {}) == [2, 3]


async def test_variables_take_the_type_of_the_field(world: World, statements: Statements) -> None:
    fields = dict.fromkeys(world.registry.get("Products").fields)
    now = datetime.datetime(2024, 6, 1, tzinfo=UTC)
    for tree, variables, expected in (
        ({"checkedAt": {"lte": "$now"}}, {"now": now}, [1]),
        ({"releasedOn": {"lte": "$now"}}, {"now": now}, []),
        ({"amount": {"in": ["$user.id", 3]}}, {"user.id": 1}, [1, 2]),
        ({"price": {"gt": "$user.id"}}, {"user.id": 9}, [1]),
        ({"id": "$tenant"}, {"tenant": 2}, [2]),
    ):
        lookup = seeing(world, Products=Visibility(rule(world, tree), fields))
        assert await ids(world, statements, "", lookup=lookup, variables=variables) == expected


# --- parts for other statements -------------------------------------------------------


async def test_a_written_row_comes_back_as_json_with_its_rules(world: World, statements: Statements) -> None:
    resource = world.registry.get("Products")
    table = world.tables[resource]
    fields: dict[str, Condition | None] = {
        "id": None,
        "name": None,
        "amount": rule(world, {"category.name": "Shoes"}),
    }
    written = (
        sa.update(table)
        .where(
            statements.scope(resource, table, writing=True),
            table.c.id == sa.bindparam("id", type_=table.c.id.type),
        )
        .values(name=sa.bindparam("v_name", type_=table.c.name.type))
        .returning(*table.c)
        .cte("changed")
    )
    data = sa.cast(statements.row_json(resource, written, Visibility(None, fields)), sa.Text())
    allowed = statements.condition(resource, rule(world, {"name": "new"}), written)
    compiled = statements.cached("key", lambda: sa.select(data.label("data"), allowed.label("allowed")))
    assert set(compiled.names) == {"id", "v_name"}
    caller = SessionContext(tenant_id=1)
    transaction = world.app.transaction()
    await transaction.start()
    await world.app.execute("set local byodpp.tenant = '1'")
    for number, expected in (
        (1, '{"id":1,"name":"new","amount":3}'),
        (2, '{"id":2,"name":"new","amount":null}'),
    ):
        arguments = compiled.arguments((), {}, caller, named={"id": number, "v_name": "new"})
        row = await world.app.fetchrow(compiled.sql, *arguments)
        assert (row["data"], row["allowed"]) == (expected, True)
    await transaction.rollback()


async def test_a_tenant_writes_its_own_library_rows_only(world: World, statements: Statements) -> None:
    resource = world.registry.get("Units")
    table = world.tables[resource]
    for writing, expected in ((False, [1, 11]), (True, [11])):
        select = (
            sa.select(table.c.id)
            .where(statements.scope(resource, table, writing=writing))
            .order_by(table.c.id)
        )
        compiled = compile_statement(select)
        rows = await world.owner.fetch(compiled.sql, *compiled.arguments((), {}, SessionContext(tenant_id=1)))
        assert [row["id"] for row in rows] == expected


async def test_a_public_rule_becomes_the_text_of_a_policy(world: World, statements: Statements) -> None:
    resource = world.registry.get("Products")
    tree = {"name": {"in": ["b", "it's"]}, "checkedAt": {"isNull": True}, "category.name": {"ne": "x'"}}
    text = statements.published(resource, condition_from_json(tree, resource, world.registry, None))
    assert "$" not in text
    assert await world.owner.fetchval(f"select count(*) from products where {text}") == 2
    text = statements.published(
        resource, condition_from_json({"checkedAt": {"lt": "$now"}}, resource, world.registry, None)
    )
    assert await world.owner.fetchval(f"select count(*) from products where {text}") == 2


def test_parameters_with_a_source_keep_it_through_a_statement() -> None:
    compiled = compile_statement(
        sa.select(bound(lambda sources: 5, sa.Integer()), sa.bindparam("x", type_=sa.Text()), sa.literal(7))
    )
    assert compiled.arguments((), {}, None, named={"x": "a"}) == [5, "a", 7]
    assert compiled.names == ("x",)


# --- cache ----------------------------------------------------------------------------


def test_a_shape_is_compiled_once_and_the_cache_is_bounded(world: World) -> None:
    statements = Statements(world.registry, world.tables, max_statements=5)
    target = world.registry.get("Products")

    def ask(text: str, lookup: Any = None) -> Any:
        query: Query = judge(parse(text), target, world.registry, lookup)
        return statements.page(target, query, lookup)

    assert ask("filter[name]=a&limit=33") is ask("filter[name]=b&limit=44")
    assert ask("filter[name]=a") is not ask("filter[name][ne]=a")
    one, same, other = (
        Visibility(None, {"id": None, "name": when}) for when in (None, None, rule(world, {"id": 1}))
    )
    assert ask("", seeing(world, Products=one)) is ask("", seeing(world, Products=same))
    assert ask("", seeing(world, Products=one)) is not ask("", seeing(world, Products=other))
    for number in range(1, 10):
        ask("&".join(f"filter[and][{i}][name]=x" for i in range(number)))
    assert len(statements) == 5
