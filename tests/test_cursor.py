"""Cursors: every row once, in order, whatever is written meanwhile, and at the cost of the first page."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.conditions import Lookup, Query, Visibility
from byodpp.embedded import EmbeddedPostgres
from byodpp.exceptions import InvalidQuery
from byodpp.query import cursors
from byodpp.query.cursors import LIFETIME_SECONDS, Cursors
from byodpp.query.reader import QueryReader
from byodpp.statements import Statements
from byodpp.testing import Bench, TestedApplication
from tests.query_world import World, create_world
from tests.worlds import SHOP, build

CATEGORIES = "/api/v1/categories"
SECRET = b"0" * 32


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("cursors")
    async with EmbeddedPostgres(folder, durable=False).running() as server:
        world = await create_world(server, folder, "cursors")
        names = [None, "a", "a", "b", "b", None, "c", "ä", "", "a"]
        ranks = [1, 1, 2, None, 2, None, 1, 3, 3, None]
        for number, (name, rank) in enumerate(zip(names, ranks, strict=True), start=1):
            for tenant in (1, 2):
                parent = number - 1 if number % 3 == 0 else None
                await world.add(
                    "Categories", id=number, tenant_id=tenant, name=name, rank=rank, parent_id=parent
                )
        yield world
        await world.app.close()
        await world.owner.close()


class Walker:
    """Walks through a list by its cursors."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.statements = Statements(world.registry, world.tables)
        self.reader = QueryReader(world.registry, Cursors(SECRET))

    async def page(self, query: Query, lookup: Lookup | None = None) -> tuple[list[Any], str | None]:
        resource = self.world.registry[query.shape.touched[0]]
        record = await self.world.run(self.statements.page(resource, query, lookup), query.values)
        last = record["next"]
        rows = json.loads(record["data"])
        if not last or last[-1] is None:
            return rows, None
        return rows, self.reader.cursors.issue(query, 1, last, position=query.offset + len(rows))

    async def walk(self, name: str = "Categories", **asked: Any) -> list[Any]:
        """Return the ids of all rows, in the order in which the pages bring them."""
        resource = self.world.registry.get(name)
        found: list[Any] = []
        cursor = None
        for _ in range(30):
            more: dict[str, Any] = {} if cursor is None else {"cursor": cursor}
            query = self.reader.read_json({**asked, **more}, resource, None, "list", 1)
            rows, cursor = await self.page(query)
            found += [row["id"] for row in rows]
            if cursor is None:
                return found
        raise AssertionError("the pages never end")


@pytest.fixture
def walker(world: World) -> Walker:
    return Walker(world)


# --- walking ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sort",
    [
        *("id", "-id", "name", "-name", "name:nullsFirst", "name:desc:nullsLast", "rank,name", "-rank,name"),
        *(
            "rank,-name",
            "rank:nullsFirst,-name:nullsLast",
            "-rank:nullsLast,name:nullsFirst",
            "-rank,-name,-id",
        ),
        *("parent.name", "-parent.name,rank", "parent.rank:nullsFirst,-id", "rank,id,name"),
    ],
)
@pytest.mark.parametrize("limit", [1, 3, 4])
async def test_pages_by_cursor_bring_every_row_once_in_the_order_of_one_long_page(
    walker: Walker, sort: str, limit: int
) -> None:
    resource = walker.world.registry.get("Categories")
    whole = walker.reader.read_json({"sort": sort, "limit": 1000}, resource, None, "list", 1)
    rows, cursor = await walker.page(whole)
    assert (len(rows), cursor) == (10, None)
    assert await walker.walk(sort=sort, limit=limit, fields="id") == [row["id"] for row in rows]


async def test_a_cursor_keeps_filter_and_values(walker: Walker) -> None:
    found = await walker.walk(filter={"rank": {"in": [1, 3]}}, sort="-rank", limit=2, fields="id")
    assert found == [8, 9, 1, 2, 7]


async def test_a_row_written_before_the_cursor_moves_nothing_and_one_behind_it_appears(world: World) -> None:
    walker = Walker(world)
    resource = world.registry.get("Countries")
    for number in (10, 20, 30, 40):
        await world.add("Countries", id=number, name=f"c{number}")
    first, cursor = await walker.page(
        walker.reader.read_json({"limit": 2, "sort": "name"}, resource, None, "list", 1)
    )
    await world.add("Countries", id=5, name="c05")
    await world.add("Countries", id=35, name="c35")
    await world.owner.execute("delete from countries where id = 20")
    query = walker.reader.read_json({"limit": 2, "sort": "name", "cursor": cursor}, resource, None, "list", 1)
    second, _ = await walker.page(query)
    assert [row["id"] for row in (*first, *second)] == [10, 20, 30, 35]
    assert (query.offset, query.page) == (2, 2)


async def test_the_last_row_is_told_though_its_fields_are_not_shown(walker: Walker) -> None:
    assert await walker.walk(sort="rank,-name", fields="id", limit=3) == await walker.walk(
        sort="rank,-name", limit=3
    )


# --- the same cost ------------------------------------------------------------------------


async def blocks_read(walker: Walker, query: Query) -> int:
    """Return how many blocks PostgreSQL looked at for a page."""
    resource = walker.world.registry[query.shape.touched[0]]
    compiled = walker.statements.page(resource, query, None)
    explained = replace(compiled, sql="explain (analyze, buffers, format json) " + compiled.sql)
    row = await walker.world.run(explained, query.values)
    plan = json.loads(row[0])[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize(
    ("sort", "at"),
    [
        ("", ["95000"]),
        ("-id", ["5000"]),
        ("score", ["950", "95000"]),
        ("-score,-id", ["50", "5000"]),
        ("score,-id", ["950", "95000"]),
        ("score", [None, "95995"]),
    ],
)
async def test_a_page_far_behind_costs_what_the_first_one_does(
    world: World, sort: str, at: list[str | None]
) -> None:
    await many_dpps(world)
    walker = Walker(world)
    asked: dict[str, Any] = {"limit": 20, "count": "none", **({"sort": sort} if sort else {})}
    query = walker.reader.read_json(asked, world.registry.get("Dpps"), None, "list", 1)
    cursor = walker.reader.cursors.issue(query, 1, at, position=95_000)
    far = walker.reader.cursors.resume(query, 1, cursor)
    rows, _ = await walker.page(far)
    assert rows
    first, behind = await blocks_read(walker, query), await blocks_read(walker, far)
    # No index has rising scores with falling ids: PostgreSQL sorts the rows of one score, here a hundred.
    ties = 200 if sort == "score,-id" else 0
    assert behind <= 2 * first + 30 + ties, f"{sort}: {behind} blocks, {first} for the first page"


async def many_dpps(world: World) -> None:
    """Make 100,000 rows with an index on their score, of which a hundredth have none."""
    if await world.owner.fetchval("select count(*) from dpps"):
        return
    await world.owner.execute("set session_replication_role = replica")
    await world.owner.execute(
        "insert into dpps (id, tenant_id, status, score)"
        " select i, 1, 's', case when i % 1000 <> 995 then i / 100 end from generate_series(1, 100000) i"
    )
    await world.owner.execute("create index on dpps (tenant_id, score, id)")
    await world.owner.execute("vacuum analyze dpps")


# --- what is refused ----------------------------------------------------------------------


def reader_of(world: World, **options: Any) -> QueryReader:
    return QueryReader(world.registry, Cursors(options.pop("secret", SECRET), **options))


def refusal(reader: QueryReader, asked: dict[str, Any], resource: Any, tenant: int = 1) -> tuple[str, str]:
    with pytest.raises(InvalidQuery) as caught:
        reader.read_json(asked, resource, None, "list", tenant)
    (detail,) = caught.value.details
    return detail.field, detail.code


def test_a_cursor_is_good_for_one_list_of_one_tenant_for_one_day(world: World) -> None:
    now = [1_000_000.0]
    reader = reader_of(world, clock=lambda: now[0])
    resource = world.registry.get("Categories")
    asked = {"filter": {"rank": 1}, "sort": "-name"}
    query = reader.read_json(asked, resource, None, "list", 1)
    cursor = reader.cursors.issue(query, 1, ["a", "2"], position=20)
    assert reader.read_json({**asked, "cursor": cursor}, resource, None, "list", 1).offset == 20
    assert reader.read_json({**asked, "limit": 7, "cursor": cursor}, resource, None, "list", 1).limit == 7
    foreign = ("cursor", "cursor")
    for changed in (
        {"filter": {"rank": 2}},
        {"filter": {"rank": {"ne": 1}}},
        {"sort": "name"},
        {"sort": "rank"},
    ):
        assert refusal(reader, {**asked, **changed, "cursor": cursor}, resource) == foreign
    assert refusal(reader, {**asked, "cursor": cursor}, resource, tenant=2) == foreign
    assert refusal(reader, {"cursor": cursor}, resource) == foreign
    assert refusal(reader, {"cursor": cursor}, world.registry.get("Products")) == foreign
    assert refusal(reader_of(world, secret=b"1" * 32), {**asked, "cursor": cursor}, resource) == foreign
    now[0] += LIFETIME_SECONDS + 1
    assert refusal(reader, {**asked, "cursor": cursor}, resource) == ("cursor", "expired")


def test_pages_behind_cursors_of_one_list_have_one_shape_and_shapes_are_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, resource = reader_of(world), world.registry.get("Categories")
    seen = Visibility(None, dict.fromkeys(resource.fields))

    def lookup(resource: Any) -> Visibility:
        return seen

    def page(values: list[str | None], limit: int = 5) -> Query:
        query = reader.read(f"sort=name&limit={limit}".encode(), resource, lookup, "list", 1)
        cursor = reader.cursors.issue(query, 1, values, position=20)
        asked = f"sort=name&limit={limit}&cursor={cursor}".encode()
        return reader.read(asked, resource, lookup, "list", 1)

    first, second, null = page(["a", "2"]), page(["b", "3"]), page([None, "3"])
    assert first.shape is second.shape and first.values[-2:] == ("a", "2") and second.values[-1] == "3"
    assert null.shape is not first.shape and null.values[-1] == "3"
    monkeypatch.setattr(cursors, "_MOST_SHAPES", 3)
    for limit in range(6, 12):
        page(["a", "2"], limit)
    assert len(reader.cursors._shapes) == 3


def test_a_forged_cursor_is_refused_in_every_character(world: World) -> None:
    reader, resource = reader_of(world), world.registry.get("Categories")
    query = reader.read_json({}, resource, None, "list", 1)
    cursor = reader.cursors.issue(query, 1, ["7"], position=20)
    assert cursor is not None
    others = [cursor[:i] + ("A" if cursor[i] != "A" else "B") + cursor[i + 1 :] for i in range(len(cursor))]
    payload = base64.urlsafe_b64encode(b"x" * 16 + b'[0,0,["1 or true"]]').decode()
    broken = ["", "x", "=", cursor + "=", cursor + "A", cursor[:-1], "é" * 9, "%00", payload, 7, None, ["a"]]
    for text in [*others, *broken]:
        with pytest.raises(InvalidQuery):
            reader.cursors.resume(query, 1, text)


def test_a_cursor_excludes_other_ways_to_a_page(world: World) -> None:
    reader, resource = reader_of(world), world.registry.get("Categories")
    for more in ({"page": 2}, {"offset": 20}, {"aggregate": "count"}):
        field, code = refusal(reader, {"cursor": "x", **more}, resource)
        assert (field, code) == (next(iter(more)) if "aggregate" not in more else "cursor", "conflict")


def test_a_cursor_that_would_not_fit_into_an_address_is_not_given(world: World) -> None:
    reader, resource = reader_of(world), world.registry.get("Categories")
    query = reader.read_json({"sort": "name"}, resource, None, "list", 1)
    assert reader.cursors.issue(query, 1, ["x" * 10_000, "1"], position=1) is None


# --- over HTTP ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("shop"), SHOP)


@pytest_asyncio.fixture(loop_scope="session")
async def shop(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


async def test_a_list_tells_where_it_goes_on_as_long_as_there_may_be_more(shop: TestedApplication) -> None:
    client = shop.client()
    await client.post(f"{CATEGORIES}/batch", json=[{"name": f"C{number}"} for number in range(6)])
    found, address = [], f"{CATEGORIES}?sort=-name&limit=2&filter[name][startsWith]=C"
    following = ""
    for page in (1, 2, 3):
        body = (await client.get(address + following)).json()
        found += [row["name"] for row in body["data"]]
        assert (body["pagination"]["page"], body["count"]) == (page, 6)
        following = f"&cursor={body['pagination'].get('next')}"
    assert found == ["C5", "C4", "C3", "C2", "C1", "C0"]
    empty = (await client.get(address + following)).json()
    assert (empty["data"], "next" in empty["pagination"]) == ([], False)
    assert "next" not in (await client.get(f"{CATEGORIES}?limit=6")).json()["pagination"]
    assert "next" in (await client.get(f"{CATEGORIES}?limit=6&count=none")).json()["pagination"]


async def test_a_cursor_of_one_tenant_opens_nothing_in_another(shop: TestedApplication) -> None:
    acme, beta = shop.client(), shop.client(tenant="beta")
    for client in (acme, beta):
        await client.post(f"{CATEGORIES}/batch", json=[{"name": f"C{number}"} for number in range(3)])
    cursor = (await acme.get(f"{CATEGORIES}?limit=2")).json()["pagination"]["next"]
    refused = await beta.get(f"{CATEGORIES}?limit=2&cursor={cursor}")
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_query"
    assert refused.json()["error"]["details"][0]["field"] == "cursor"
    assert (await acme.get(f"{CATEGORIES}?limit=2&cursor={cursor}")).status_code == 200
