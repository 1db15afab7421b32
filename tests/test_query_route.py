"""A list asked for with a body: POST …/query and the method QUERY, and what the reader remembers."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import uvicorn

from byodpp.bootstrap import Blueprint
from byodpp.conditions import Visibility
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import InvalidQuery
from byodpp.query.cursors import Cursors
from byodpp.query.reader import QueryReader
from byodpp.testing import Bench, TestedApplication
from tests.worlds import SHOP, build

CATEGORIES = "/api/v1/categories"
PRODUCTS = "/api/v1/products"

#: What everybody may read, as far as it is out.
BOARD = {
    "resources": [
        {
            "name": "Bulletins",
            "fields": {
                "title": {"type": "string", "index": True},
                "status": {"type": "string", "index": True},
            },
            "access": {
                "read": [
                    "Editor",
                    {"roles": ["public"], "filter": {"status": "out"}, "fields": ["id", "title"]},
                ],
                "write": ["Editor"],
            },
        }
    ],
    "include": ["byodpp:tenancy", "byodpp:access", "byodpp:audit"],
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("shop"), SHOP)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("board"), BOARD)


async def filled(tested: TestedApplication) -> TestedApplication:
    client = tested.client()
    for number, name in enumerate(("Lamps", "Chairs"), start=1):
        category = (await client.post(CATEGORIES, json={"name": name})).json()["data"]["id"]
        items = [
            {"name": f"{name} {one}", "categoryId": category, "price": number * 10 + one} for one in range(3)
        ]
        assert (await client.post(f"{PRODUCTS}/batch", json=items)).status_code == 201
    return tested


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """It, for what leaves nothing behind that another test would notice."""
    async with byodpp_bench.application(blueprint) as tested:
        yield await filled(tested)


@pytest_asyncio.fixture(loop_scope="session")
async def shop(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield await filled(tested)


def refused(response: Any) -> list[tuple[str, str]]:
    assert response.status_code == 400, response.text
    return [(one["field"], one["code"]) for one in response.json()["error"]["details"]]


# --- the body ---------------------------------------------------------------------------------


async def test_a_query_in_the_body_answers_like_the_same_in_the_address(shop: TestedApplication) -> None:
    client = shop.client()
    body = {
        "filter": {
            "price": {"gte": 11},
            "or": [{"name": {"startsWith": "Lamps"}}, {"category.name": "Chairs"}],
        },
        "sort": ["-price"],
        "fields": ["id", "name", "price"],
        "include": {"category": {"fields": ["name"]}},
        "limit": 3,
        "page": 2,
        "count": "exact",
    }
    posted = await client.post(f"{PRODUCTS}/query", json=body)
    assert posted.status_code == 200
    text = (
        f"{PRODUCTS}?filter[price][gte]=11&filter[or][0][name][startsWith]=Lamps"
        "&filter[or][1][category.name]=Chairs&sort=-price&fields=id,name,price&include=category"
        "&fields[category]=name&limit=3&page=2"
    )
    got = (await client.get(text)).json()
    answer = posted.json()
    assert answer["data"] == got["data"]
    assert (answer["count"], answer["pagination"]) == (got["count"], got["pagination"])
    assert [row["name"] for row in answer["data"]] == ["Lamps 2", "Lamps 1"]
    assert answer["data"][0]["category"] == {"name": "Lamps"}


async def test_includes_lie_in_each_other(shop: TestedApplication) -> None:
    body = {
        "filter": {"name": "Lamps"},
        "fields": "name",
        "include": {
            "products": {
                "filter": {"price": {"gt": 10}},
                "sort": "-price",
                "limit": 1,
                "fields": ["name"],
                "include": {"category": {"fields": "name", "include": ["parent"]}},
            }
        },
    }
    (row,) = (await shop.client().post(f"{CATEGORIES}/query", json=body)).json()["data"]
    assert row == {
        "name": "Lamps",
        "products": [{"name": "Lamps 2", "category": {"name": "Lamps", "parent": None}}],
    }


async def test_the_next_page_is_asked_for_with_a_body_too(shop: TestedApplication) -> None:
    client = shop.client()
    body = {"sort": "-name", "limit": 4}
    first = (await client.post(f"{PRODUCTS}/query", json=body)).json()
    cursor = first["pagination"]["next"]
    second = (await client.post(f"{PRODUCTS}/query", json={**body, "cursor": cursor})).json()
    assert [row["name"] for row in second["data"]] == ["Chairs 1", "Chairs 0"]
    assert (await client.get(f"{PRODUCTS}?sort=-name&limit=4&cursor={cursor}")).json()["data"] == second[
        "data"
    ]


async def test_aggregates_have_the_envelope_of_a_list(shop: TestedApplication) -> None:
    client = shop.client(role="Viewer")
    body = {
        "aggregate": ["count", "max:price"],
        "group": "categoryId",
        "having": {"sum:price": {"gt": 40}},
        "sort": "-count",
    }
    answer = (await client.post(f"{PRODUCTS}/query", json=body)).json()
    (row,) = answer["data"]
    assert (row["count"], row["max"], answer["count"]) == (3, {"price": 22}, 1)
    assert answer["pagination"] == {"page": 1, "limit": 20, "total": 1, "totalPages": 1}


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ([], ("", "type")),
        ("x", ("", "type")),
        ({"colour": 1}, ("colour", "unknown_parameter")),
        ({"filter": []}, ("filter", "type")),
        ({"filter": {"pric": 1}}, ("filter[pric]", "unknown_field")),
        ({"sort": {"name": "asc"}}, ("sort", "type")),
        ({"sort": []}, ("sort", "type")),
        ({"limit": "20"}, ("limit", "type")),
        ({"limit": 0}, ("limit", "out_of_range")),
        ({"include": {"category": {"limit": 1}}}, ("include[category][limit]", "to_one")),
        ({"include": {"category": {"colour": 1}}}, ("include[category][colour]", "unknown_option")),
        ({"include": {"category": {"include": {"x": True}}}}, ("include", "unknown_relation")),
        ({"cursor": 7}, ("cursor", "cursor")),
        ({"search": "x"}, ("search", "unknown_parameter")),
    ],
)
async def test_a_wrong_body_is_refused_with_its_place(
    shared: TestedApplication, body: Any, fault: tuple[str, str]
) -> None:
    assert fault in refused(await shared.client().post(f"{PRODUCTS}/query", json=body))


async def test_a_body_must_be_json_and_stand_alone(shop: TestedApplication) -> None:
    client = shop.client()
    assert (await client.post(f"{PRODUCTS}/query", content=b"{")).status_code in (400, 415)
    assert (await client.post(f"{PRODUCTS}/query")).status_code == 400
    asked = await client.post(f"{PRODUCTS}/query?limit=1", json={})
    assert refused(asked) == [("limit", "unknown_parameter")]
    assert (await client.get(f"{PRODUCTS}/query")).status_code == 405


async def test_it_needs_the_right_to_list(shop: TestedApplication) -> None:
    for method, url in (("POST", f"{PRODUCTS}/query"), ("QUERY", PRODUCTS)):
        nobody = await shop.client(role=None).request(method, url, json={})
        stranger = await shop.client(role="Stranger").request(method, url, json={})
        assert (nobody.status_code, stranger.status_code) == (401, 403)


async def test_anonymous_readers_ask_with_a_body_as_well(byodpp_bench: Bench, board: Blueprint) -> None:
    async with byodpp_bench.application(board) as world:
        editor = world.client(role="Editor")
        for status in ("draft", "out"):
            await editor.post("/api/v1/bulletins", json={"title": status, "status": status})
        nobody = world.client(role=None)
        shown = (await nobody.post("/api/v1/bulletins/query", json={"fields": ["title"]})).json()
        assert shown["data"] == [{"title": "out"}]
        hidden = await nobody.post("/api/v1/bulletins/query", json={"filter": {"status": "draft"}})
        assert refused(hidden) == [("filter[status]", "unknown_field")]


async def test_the_rows_of_all_tenants_are_paged_though_their_keys_repeat(
    byodpp_bench: Bench, board: Blueprint
) -> None:
    async with byodpp_bench.application(board) as world:
        for tenant in ("acme", "beta"):
            editor = world.client(role="Editor", tenant=tenant)
            items = [{"title": f"{tenant} {number}", "status": "out"} for number in range(3)]
            assert (await editor.post("/api/v1/bulletins/batch", json=items)).status_code == 201
        nobody = world.client(role=None)
        whole = (await nobody.get("/api/v1/bulletins")).json()["data"]
        found, more = [], ""
        while True:
            page = (await nobody.get(f"/api/v1/bulletins?limit=1{more}")).json()
            found += page["data"]
            if "next" not in page["pagination"]:
                break
            more = f"&cursor={page['pagination']['next']}"
        assert found == whole
        assert len({row["title"] for row in found}) == 6


# --- the method -------------------------------------------------------------------------------


async def test_the_method_query_asks_the_collection(shop: TestedApplication) -> None:
    client = shop.client()
    asked = await client.request("QUERY", PRODUCTS, json={"sort": "-price", "limit": 1, "fields": "name"})
    assert (asked.status_code, asked.json()["data"]) == (200, [{"name": "Chairs 2"}])
    assert "QUERY" in (await client.options(PRODUCTS)).headers["allow"]


async def test_the_method_query_passes_the_server(shop: TestedApplication) -> None:
    config = uvicorn.Config(shop.asgi, port=0, lifespan="off", log_level="warning", http="httptools")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
            await asyncio.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b'{"limit":1,"fields":"name"}'
        writer.write(
            b"QUERY %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
            % (PRODUCTS.encode(), shop.token().encode(), len(body), body)
        )
        answer = await reader.read()
        writer.close()
    finally:
        server.should_exit = True
        await serving
    head, _, told = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(told)["data"] == [{"name": "Lamps 0"}]


# --- what is remembered -----------------------------------------------------------------------


def seeing(*names: str) -> Any:
    rules = Visibility(None, dict.fromkeys(names))

    def lookup(resource: ResourceDefinition) -> Visibility:
        return rules if resource.name == "Products" else Visibility(None, dict.fromkeys(resource.fields))

    return lookup


def reader_of(blueprint: Blueprint, **options: Any) -> QueryReader:
    return QueryReader(blueprint.registry, Cursors(b"0" * 32), **options)


def test_the_same_question_under_the_same_rules_is_judged_once(blueprint: Blueprint) -> None:
    reader, products = reader_of(blueprint), blueprint.registry.get("Products")
    text = b"filter[name]=x&include=category"
    first = reader.read(text, products, seeing("id", "name", "categoryId"), "list", 1)
    assert reader.read(text, products, seeing("id", "name", "categoryId"), "list", 2) is first
    assert reader.read(b"filter[name]=y", products, seeing("id", "name"), "list", 1) is not first
    assert len(reader) == 2


def test_what_was_judged_for_one_caller_is_not_taken_for_another(blueprint: Blueprint) -> None:
    reader, products = reader_of(blueprint), blueprint.registry.get("Products")
    reader.read(b"sort=price", products, seeing("id", "price"), "list", 1)
    with pytest.raises(InvalidQuery):
        reader.read(b"sort=price", products, seeing("id"), "list", 1)
    with pytest.raises(InvalidQuery):
        reader.read(b"sort=price", products, seeing("id", "price"), "read", 1)

    def blind(resource: ResourceDefinition) -> Visibility | None:
        return None if resource.name == "Categories" else seeing("id", "categoryId")(resource)

    reader.read(b"include=category", products, seeing("id", "categoryId"), "list", 1)
    with pytest.raises(InvalidQuery):
        reader.read(b"include=category", products, blind, "list", 1)


def test_ever_new_questions_do_not_fill_the_memory(blueprint: Blueprint) -> None:
    reader, products = reader_of(blueprint, max_remembered=10), blueprint.registry.get("Products")
    chance, lookup = random.Random(1), seeing("id", "name")
    for _ in range(200):
        reader.read(b"filter[name]=%d" % chance.randrange(10**9), products, lookup, "list", 1)
        reader.read(b"filter[name]=" + b"x" * chance.randrange(2_000, 3_000), products, lookup, "list", 1)
    assert len(reader) == 10
    kept = reader.read(b"", products, lookup, "list", 1)
    for number in range(9):
        reader.read(b"filter[name]=%d" % number, products, lookup, "list", 1)
    assert reader.read(b"", products, lookup, "list", 1) is kept


def test_pages_of_one_list_are_judged_once_whatever_their_cursors(blueprint: Blueprint) -> None:
    reader, products = reader_of(blueprint), blueprint.registry.get("Products")
    lookup = seeing("id", "name")
    first = reader.read(b"sort=name&limit=3", products, lookup, "list", 1)
    cursors = [reader.cursors.issue(first, 1, [name, "7"], position=3) for name in ("a", "b")]
    for place in (
        b"sort=name&limit=3&cursor=%b",
        b"cursor=%b&sort=name&limit=3",
        b"sort=name&cursor=%b&limit=3",
    ):
        for cursor, name in zip(cursors, ("a", "b"), strict=True):
            assert cursor is not None
            page = reader.read(place % cursor.encode(), products, lookup, "list", 1)
            assert (page.values, page.offset, page.limit) == ((3, name, "7"), 3, 3)
            assert page == reader.read_json(
                {"sort": "name", "limit": 3, "cursor": cursor}, products, lookup, "list", 1
            )
    assert len(reader) == 3  # the first page, and the others' rest in two orders


def test_what_is_remembered_of_a_list_refuses_cursors_as_before(blueprint: Blueprint) -> None:
    reader, products = reader_of(blueprint), blueprint.registry.get("Products")
    lookup = seeing("id", "name")
    cursor = reader.cursors.issue(
        reader.read(b"sort=name", products, lookup, "list", 1), 1, ["a", "7"], position=3
    )
    assert cursor is not None
    good = f"sort=name&cursor={cursor}".encode()
    for _ in range(2):  # judged, then remembered
        assert reader.read(good, products, lookup, "list", 1).offset == 3
        for wrong, tenant in (
            (good, 2),
            (good + b"A", 1),
            (b"sort=name&cursor=", 1),
            (b"sort=name&cursor=%41", 1),
            (b"sort=-name&cursor=" + cursor.encode(), 1),
            (good + b"&cursor=" + cursor.encode(), 1),
            (good + b"&page=2", 1),
            (b"offset=3&" + good, 1),
        ):
            with pytest.raises(InvalidQuery):
                reader.read(wrong, products, lookup, "list", tenant)
        with pytest.raises(InvalidQuery):
            reader.read(good, products, seeing("id"), "list", 1)
        with pytest.raises(InvalidQuery):
            reader.read(good, products, lookup, "read", 1)


async def test_a_large_list_is_estimated_by_the_planner(shop: TestedApplication) -> None:
    async with shop.connected.database.system() as transaction:
        tenant = (await shop.tenant("acme")).id
        await transaction.execute("set local byodpp.tenant = '0'")
        await transaction.execute(
            "insert into orders (tenant_id, number, amount)"
            " select $1, 'n' || i, i from generate_series(1, 30000) i",
            tenant,
        )
    client = shop.client()
    before = (await client.get("/api/v1/orders?limit=1&count=estimated")).json()["count"]
    assert before > 10_000
    owner = await asyncpg.connect(shop.settings.postgres_admin_uri)
    await owner.execute("analyze orders")
    await owner.close()
    estimated = (await client.get("/api/v1/orders?limit=1&count=estimated")).json()
    assert 25_000 < estimated["count"] < 35_000
    assert estimated["pagination"]["total"] == estimated["count"]
    assert (await client.get("/api/v1/orders?limit=1&count=exact")).json()["count"] == 30_000
    assert (await client.get("/api/v1/products?limit=1&count=estimated")).json()["count"] == 6
