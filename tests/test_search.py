"""Full-text search: its words, its order, its index, and long texts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from byodpp.conditions import Relevance, Visibility
from byodpp.database import SessionContext
from byodpp.embedded import EmbeddedPostgres
from byodpp.exceptions import InvalidQuery
from byodpp.query import judge, parse
from byodpp.query.cursors import Cursors
from byodpp.query.reader import QueryReader
from byodpp.row_security import mark_leakproof
from byodpp.statements import Statements
from tests.query_world import World, create_world


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("search")
    async with EmbeddedPostgres(folder, durable=False).running() as server:
        world = await create_world(server, folder, "search")
        texts = [
            ("boot", "A sturdy boot, a boot for all who boot"),
            ("Shoe", "not a boot"),
            ("boot", None),
            ("Zoë's café", "für Größe 42"),
            ("AB-123", "code"),
            (None, None),
        ]
        for number, (name, description) in enumerate(texts, start=1):
            for tenant in (1, 2):
                await world.add("Products", id=number, tenant_id=tenant, name=name, description=description)
        yield world
        await world.app.close()
        await world.owner.close()


@pytest.fixture
def statements(world: World) -> Statements:
    return Statements(world.registry, world.tables)


async def found(world: World, statements: Statements, text: str, lookup: Any = None) -> list[int]:
    products = world.registry.get("Products")
    query = judge(parse(text), products, world.registry, lookup)
    row = await world.run(statements.page(products, query, lookup), query.values)
    return [one["id"] for one in json.loads(row["data"])]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("boot", {1, 2, 3}),
        ("BOOT", {1, 2, 3}),
        ("sturdy boot", {1}),
        ("boot -sturdy", {2, 3}),
        ("%22not a boot%22", {2}),
        ("shoe or sturdy", {1, 2}),
        ("zoë", {4}),
        ("Größe 42", {4}),
        ("AB-123", {5}),
        ("boo", set()),
        ("' ); drop table products; --", set()),
        ("& | ! ( :*", set()),
    ],
)
async def test_words_are_found_in_every_declared_field(
    world: World, statements: Statements, words: str, expected: set[int]
) -> None:
    assert set(await found(world, statements, f"search={words.replace('&', '%26')}")) == expected


async def test_the_best_fit_comes_first_unless_another_order_is_asked_for(
    world: World, statements: Statements
) -> None:
    best = await found(world, statements, "search=boot")
    assert best[0] == 1
    assert await found(world, statements, "search=boot&sort=relevance") == best
    assert await found(world, statements, "search=boot&sort=-id") == [3, 2, 1]
    assert await found(world, statements, "search=boot&sort=name,relevance") == [2, 1, 3]


def test_relevance_is_an_order_only_where_something_is_searched(world: World) -> None:
    products = world.registry.get("Products")
    shape = judge(parse("search=boot&filter[id]=1"), products, world.registry, None).shape
    assert isinstance(shape.sort[0], Relevance)
    for text, code in (
        ("sort=relevance", "conflict"),
        ("aggregate=count&sort=relevance", "conflict"),
        ("search=x&sort=relevance,-relevance", "repeated"),
        ("search=x&include[category][sort]=relevance", "unknown_field"),
    ):
        with pytest.raises(InvalidQuery) as caught:
            judge(parse(text), products, world.registry, None)
        assert code in {one.code for one in caught.value.details}, text
    with pytest.raises(InvalidQuery) as caught:  # nothing can be searched there
        judge(parse("sort=relevance"), world.registry.get("Categories"), world.registry, None)
    assert [one.code for one in caught.value.details] == ["unknown_field"]


async def test_pages_of_a_search_follow_each_other_by_cursor(world: World, statements: Statements) -> None:
    reader = QueryReader(world.registry, Cursors(b"0" * 32))
    products = world.registry.get("Products")
    whole = await found(world, statements, "search=boot")
    seen, cursor = [], None
    while True:
        asked = {"search": "boot", "limit": 1, **({"cursor": cursor} if cursor else {})}
        query = reader.read_json(asked, products, None, "list", 1)
        row = await world.run(statements.page(products, query, None), query.values)
        seen += [one["id"] for one in json.loads(row["data"])]
        if not row["next"] or row["next"][-1] is None:
            break
        cursor = reader.cursors.issue(query, 1, row["next"], position=len(seen))
    assert seen == whole


async def test_what_a_rule_hides_is_not_searched(world: World, statements: Statements) -> None:
    def lookup(resource: Any) -> Visibility:
        return Visibility(None, {"id": None, "name": None})

    assert set(await found(world, statements, "search=boot", lookup)) == {1, 3}


async def test_a_long_text_is_stored_and_searched_in_its_beginning(
    world: World, statements: Statements
) -> None:
    words = " ".join(f"word{number}-part{number}" for number in range(60_000))
    await world.add("Products", id=100, tenant_id=1, name="long", description="needle " + words + " haystack")
    widest = " ".join(
        "\U0001f600" + chr(0x1F600 + number % 50) * 3 + str(number) for number in range(100_000)
    )
    await world.add("Products", id=101, tenant_id=1, name="wide", description=widest)
    assert await found(world, statements, "search=needle+word7-part7") == [100]
    assert await found(world, statements, "search=haystack") == []
    await world.owner.execute("delete from products where id >= 100")


async def test_the_index_serves_a_search_beside_row_level_security(
    world: World, statements: Statements
) -> None:
    await mark_leakproof(world.owner)
    await world.owner.execute(
        "insert into products (id, tenant_id, name, description)"
        " select i, 1, 'name' || i, 'text' || i || ' and more' from generate_series(1000, 20000) i"
    )
    await world.owner.execute("vacuum analyze products")
    products = world.registry.get("Products")
    query = judge(parse("search=text7777&count=none"), products, world.registry, None)
    compiled = statements.page(products, query, None)
    arguments = compiled.arguments(query.values, None, SessionContext(tenant_id=1))
    lines = await world.app.fetch("explain " + compiled.sql, *arguments)
    plan = "\n".join(line[0] for line in lines)
    assert "_search_" in plan, plan
    await world.owner.execute("delete from products where id >= 1000")
