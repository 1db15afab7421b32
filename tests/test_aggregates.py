"""Aggregates: groups, periods, having, order and bounds, under the same rules as rows."""

from __future__ import annotations

import datetime
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from byodpp.conditions import Visibility, with_constants
from byodpp.definitions import ResourceDefinition
from byodpp.embedded import EmbeddedPostgres
from byodpp.exceptions import InvalidQuery, QueryTooComplex
from byodpp.query import condition_from_json, judge, parse, parse_json
from byodpp.statements import Statements
from tests.query_world import World, create_world

UTC = datetime.UTC


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("aggregates")
    async with EmbeddedPostgres(folder, durable=False).running() as server:
        world = await create_world(server, folder, "aggregates")
        await fill(world)
        yield world
        await world.app.close()
        await world.owner.close()


async def fill(world: World) -> None:
    def moment(text: str) -> datetime.datetime:
        return datetime.datetime.fromisoformat(text)

    for tenant in (1, 2):
        add = world.add
        await add("Categories", id=1, tenant_id=tenant, name="Shoes", rank=1)
        await add("Categories", id=2, tenant_id=tenant, name="Boots", rank=None)
        day = datetime.date
        rows: list[dict[str, Any]] = [
            {"name": "a", "price": Decimal("1.50"), "amount": 1, "category_id": 1, "status": "draft",
             "weight": 0.5, "checked_at": moment("2024-01-31T23:30:00-01:00"),
             "released_on": day(2024, 1, 31)},
            {"name": "b", "price": Decimal("2.00"), "amount": 2, "category_id": 1, "status": "draft",
             "weight": 2.0, "checked_at": moment("2024-01-31T23:30:00+00:00"),
             "released_on": day(2024, 2, 1)},
            {"name": "c", "price": None, "amount": 4, "category_id": 2, "status": "published",
             "checked_at": moment("2024-02-29T12:00:00+00:00"), "is_featured": True},
            {"name": "a", "price": Decimal("10.00"), "amount": None, "category_id": None},
        ]  # fmt: skip
        for number, row in enumerate(rows, start=1):
            await add("Products", id=number, tenant_id=tenant, **row)
        await add(
            "Products", id=9, tenant_id=tenant, amount=100, deleted_at=moment("2024-01-01T00:00:00+00:00")
        )


@pytest.fixture
def statements(world: World) -> Statements:
    return Statements(world.registry, world.tables)


async def groups(
    world: World, statements: Statements, text: str | dict[str, Any], lookup: Any = None
) -> tuple[str, Any]:
    products = world.registry.get("Products")
    raw = parse_json(text) if isinstance(text, dict) else parse(text)
    query = judge(raw, products, world.registry, lookup)
    row = await world.run(statements.page(products, query, lookup), query.values)
    return row["data"], row["total"]


async def rows(world: World, statements: Statements, text: str | dict[str, Any], lookup: Any = None) -> Any:
    return json.loads((await groups(world, statements, text, lookup))[0])


# --- what comes out -----------------------------------------------------------------------


async def test_without_groups_all_rows_are_one_group(world: World, statements: Statements) -> None:
    text = "aggregate=count,sum:price,avg:price,min:price,max:amount,countDistinct:name,avg:amount,sum:weight"
    assert await groups(world, statements, text) == (
        '[{"count":4,"countDistinct":{"name":3},"sum":{"price":13.50,"weight":2.5},'
        '"avg":{"price":4.5,"amount":2.3333333333333333},"min":{"price":1.50},"max":{"amount":4}}]',
        1,
    )


async def test_no_rows_at_all_are_one_group_too(world: World, statements: Statements) -> None:
    found = await groups(world, statements, "aggregate=count,sum:price&filter[name]=nobody")
    assert found == ('[{"count":0,"sum":{"price":null}}]', 1)


async def test_groups_come_in_their_order_with_null_as_one_of_them(
    world: World, statements: Statements
) -> None:
    data, total = await groups(world, statements, "aggregate=count,sum:amount&group=categoryId")
    assert data == (
        '[{"group":{"categoryId":1},"count":2,"sum":{"amount":3}},'
        '{"group":{"categoryId":2},"count":1,"sum":{"amount":4}},'
        '{"group":{"categoryId":null},"count":1,"sum":{"amount":null}}]'
    )
    assert total == 3


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (
            "month(checkedAt)",
            [(None, 1), ("2024-01-01T00:00:00.000000Z", 1), ("2024-02-01T00:00:00.000000Z", 2)],
        ),
        ("hour(checkedAt)", [("2024-01-31T23:00:00.000000Z", 1), ("2024-02-01T00:00:00.000000Z", 1)]),
        ("day(checkedAt)", [("2024-01-31T00:00:00.000000Z", 1), ("2024-02-01T00:00:00.000000Z", 1)]),
        ("week(checkedAt)", [("2024-01-29T00:00:00.000000Z", 2), ("2024-02-26T00:00:00.000000Z", 1)]),
        ("quarter(checkedAt)", [("2024-01-01T00:00:00.000000Z", 3)]),
        ("year(checkedAt)", [("2024-01-01T00:00:00.000000Z", 3)]),
        ("month(releasedOn)", [("2024-01-01", 1), ("2024-02-01", 1), (None, 2)]),
        ("week(releasedOn)", [("2024-01-29", 2), (None, 2)]),
        ("category.name", [("Boots", 1), ("Shoes", 2), (None, 1)]),
        ("isFeatured", [(True, 1), (None, 3)]),
    ],
)
async def test_a_period_is_named_by_its_first_moment_in_utc(
    world: World, statements: Statements, word: str, expected: list[tuple[Any, int]]
) -> None:
    found = await rows(world, statements, f"aggregate=count&group={word}")
    counted = {one["group"][word]: one["count"] for one in found}
    assert {key: counted[key] for key, _ in expected} == dict(expected)
    assert sum(counted.values()) == 4


async def test_several_groups_are_ordered_by_an_aggregate_and_paged(
    world: World, statements: Statements
) -> None:
    asked = {"aggregate": ["count", "sum:price"], "group": ["status", "name"], "sort": "-sum:price,status"}
    found = await rows(world, statements, asked)
    assert [one["group"] for one in found] == [
        {"status": "published", "name": "c"},
        {"status": None, "name": "a"},
        {"status": "draft", "name": "b"},
        {"status": "draft", "name": "a"},
    ]
    data, total = await groups(world, statements, {**asked, "limit": 1, "offset": 1})
    assert (json.loads(data)[0]["group"], total) == ({"status": None, "name": "a"}, 4)
    lasting = await rows(world, statements, {**asked, "sort": "sum:price:desc:nullsLast"})
    assert lasting[-1]["group"]["status"] == "published"


async def test_having_asks_for_numbers_that_need_not_be_answered(
    world: World, statements: Statements
) -> None:
    text = "aggregate=count&group=categoryId&having[or][0][sum:price][gte]=10&having[or][1][count][gt]=1"
    data, total = await groups(world, statements, text)
    assert [one["group"]["categoryId"] for one in json.loads(data)] == [1, None]
    assert "sum" not in data
    assert total == 2
    tree = {"max:name": {"in": ["c"]}, "not": {"avg:amount": {"isNull": True}}}
    found = await rows(world, statements, {"aggregate": "count", "group": "status", "having": tree})
    assert [one["group"]["status"] for one in found] == ["published"]
    none = await groups(world, statements, "aggregate=count&having[count][gt]=100")
    assert none == ("[]", 0)


async def test_search_and_filter_choose_the_rows_first(world: World, statements: Statements) -> None:
    found = await rows(world, statements, "aggregate=count&search=a&filter[price][lt]=5")
    assert found == [{"count": 1}]


# --- whose rows ---------------------------------------------------------------------------


def seeing(world: World, rule: Any, fields: dict[str, Any]) -> Any:
    products = world.registry.get("Products")

    def condition(tree: Any) -> Any:
        return (
            None
            if tree is None
            else with_constants(*condition_from_json(tree, products, world.registry, None))
        )

    def lookup(resource: ResourceDefinition) -> Visibility | None:
        if resource.id != products.id:
            return None
        return Visibility(condition(rule), {name: condition(tree) for name, tree in fields.items()})

    return lookup


async def test_row_rules_and_field_rules_hold_for_numbers_too(world: World, statements: Statements) -> None:
    lookup = seeing(world, {"status": "draft"}, {"id": None, "price": {"name": "a"}, "status": None})
    found = await rows(world, statements, "aggregate=count,sum:price,countDistinct:price", lookup)
    assert found == [{"count": 2, "countDistinct": {"price": 1}, "sum": {"price": 1.5}}]
    grouped = await rows(
        world, statements, "aggregate=count&group=price&having[max:price][isNull]=true", lookup
    )
    assert grouped == [{"group": {"price": None}, "count": 1}]


@pytest.mark.parametrize(
    "guess",
    [
        "aggregate=sum:{}",
        "aggregate=countDistinct:{}",
        "aggregate=count&group={}",
        "aggregate=count&group=month({})",
        "aggregate=count&having[max:{}][gt]=1",
        "aggregate=count&sort=sum:{}",
        "aggregate=count&group={}.name",
    ],
)
def test_a_hidden_field_is_refused_like_one_that_never_was(world: World, guess: str) -> None:
    lookup = seeing(world, None, {"id": None, "status": None})
    products = world.registry.get("Products")
    told = []
    for name in ("amount", "amounx"):
        with pytest.raises(InvalidQuery) as caught:
            judge(parse(guess.format(name)), products, world.registry, lookup)
        told.append(repr(caught.value.details).replace(name, "NAME"))
    assert told[0] == told[1]
    assert "amount" not in told[1]


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "field", "code"),
    [
        ("aggregate=median:price", "aggregate", "unknown_function"),
        ("aggregate=sum", "aggregate", "format"),
        ("aggregate=count:price", "aggregate", "format"),
        ("aggregate=sum:pric", "aggregate", "unknown_field"),
        ("aggregate=sum:name", "aggregate", "not_aggregatable"),
        ("aggregate=max:metadata", "aggregate", "not_aggregatable"),
        ("aggregate=max:remark", "aggregate", "not_aggregatable"),
        ("aggregate=sum:secret", "aggregate", "unknown_field"),
        ("aggregate=count,count", "aggregate", "repeated"),
        ("aggregate=", "aggregate", "format"),
        ("aggregate=count&group=metadata", "group", "not_groupable"),
        ("aggregate=count&group=remark", "group", "not_groupable"),
        ("aggregate=count&group=dpps.status", "group", "unknown_field"),
        ("aggregate=count&group=decade(checkedAt)", "group", "unknown_period"),
        ("aggregate=count&group=month(name)", "group", "type"),
        ("aggregate=count&group=hour(releasedOn)", "group", "type"),
        ("aggregate=count&group=month(checkedAt", "group", "unknown_field"),
        ("aggregate=count&sort=price", "sort", "conflict"),
        ("aggregate=count&group=name&sort=month(checkedAt)", "sort", "conflict"),
        ("aggregate=count&sort=prize", "sort", "unknown_field"),
        ("aggregate=count&sort=secret", "sort", "unknown_field"),
        ("aggregate=count&sort=count,-count", "sort", "repeated"),
        ("aggregate=count&having[count][gt]=x", "having[count][gt]", "type"),
        ("aggregate=count&having[count][like]=1", "having[count][like]", "unknown_operator"),
        ("aggregate=count&having[price][gt]=1", "having[price]", "unknown_field"),
        ("aggregate=count&having={}", "having", "type"),
        ("aggregate=count&fields=id", "fields", "conflict"),
        ("aggregate=count&include=dpps", "include", "conflict"),
        ("group=name", "group", "conflict"),
        ("having[count][gt]=1", "having", "conflict"),
        ("sort=sum:price", "sort", "conflict"),
        ("sort=sum:secret", "sort", "conflict"),
        ("sort=-count", "sort", "conflict"),
        ("sort=month(checkedAt)", "sort", "conflict"),
        ("sort=decade(checkedAt)", "sort", "unknown_field"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(
    world: World, text: str, field: str, code: str
) -> None:
    def everything(resource: ResourceDefinition) -> Visibility:
        shown = (name for name, one in resource.fields.items() if not one.write_only)
        return Visibility(None, dict.fromkeys(shown))

    with pytest.raises(InvalidQuery) as caught:
        judge(parse(text), world.registry.get("Products"), world.registry, everything)
    assert (field, code) in [(one.field, one.code) for one in caught.value.details]


@pytest.mark.parametrize(
    ("name", "field", "meant"),
    [
        ("[sum][price][gt]", "having[sum]", "sum:price"),
        ("[sum][price]", "having[sum]", "sum:price"),
        ("[sum.price][gt]", "having[sum.price]", "sum:price"),
        ("[or][0][max][price][lt]", "having[or][0][max]", "max:price"),
        ("[summ][prize][gt]", "having[summ]", "sum:price"),
        ("[sum:prize][gt]", "having[sum:prize]", "sum:price"),
        ("[price][gt]", "having[price]", "sum:price"),
        ("[counts][gt]", "having[counts]", "count"),
    ],
)
def test_a_word_of_having_that_is_parted_is_told_how_it_is_written(
    world: World, name: str, field: str, meant: str
) -> None:
    with pytest.raises(InvalidQuery) as caught:
        judge(
            parse(f"aggregate=count&having{name}=1"),
            world.registry.get("Products"),
            world.registry,
            lambda resource: Visibility(None, dict.fromkeys(resource.fields)),
        )
    [told] = caught.value.details
    assert (told.field, told.code) == (field, "unknown_field")
    assert f"Did you mean '{meant}'?" in told.message, told.message


def test_too_many_aggregates_or_groups_are_refused_at_once(world: World) -> None:
    products = world.registry.get("Products")
    for text in (
        "aggregate=" + ",".join(f"sum:f{number}" for number in range(33)),
        "aggregate=count&group=" + ",".join(f"f{number}" for number in range(9)),
    ):
        with pytest.raises(QueryTooComplex):
            judge(parse(text), products, world.registry, None)
