"""Filters inside objects and arrays over HTTP: items that are documents, numbers kept as text, paths."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.openapi.filters import filter_schema
from byodpp.testing import Bench, TestedApplication
from tests.loop_watch import LoopWatch
from tests.worlds import build

ORDERS = "/api/v1/orders"
LINE = {
    "type": "object",
    "properties": {
        "sku": {"type": "string"},
        "qty": {"type": "integer"},
        "price": {"type": "decimal", "precision": 8, "scale": 2, "asString": True},
    },
}
NUMBERS = {
    "big": {"type": "bigint", "asString": True},
    "exact": {"type": "decimal", "precision": 8, "scale": 2, "asString": True},
    "free": {"type": "decimal", "asString": True},
    "ratio": {"type": "float"},
    "at": {"type": "datetime"},
    "deep": {"type": "object", "properties": {"lines": {"type": "array", "items": LINE}}},
}
YES = {"filterable": True}
FIELDS: dict[str, Any] = {
    "name": {"type": "string", **YES},
    "lines": {"type": "array", "items": LINE, **YES},
    "grid": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}, **YES},
    "numbers": {"type": "object", "properties": NUMBERS, **YES},
    "bigs": {"type": "array", "items": NUMBERS["big"], **YES},
    "exacts": {"type": "array", "items": NUMBERS["exact"], **YES},
    "frees": {"type": "array", "items": NUMBERS["free"], **YES},
    "note": {"type": "json", **YES},
}
MANIFEST = {
    "resources": [
        {
            "name": "Orders",
            "fields": FIELDS,
            "routes": {"crud": ["list", "create", "read"]},
            "access": {
                "read": ["Admin", {"roles": ["Viewer"], "filter": {"numbers.big": {"gte": "10"}}}],
                "write": ["Admin"],
            },
        }
    ]
}
ROWS: list[dict[str, Any]] = [
    {
        "name": "a",
        "lines": [{"sku": "a", "qty": 1, "price": "1.50"}, {"sku": "b", "qty": 2}],
        "grid": [[1, 2], [3]],
        "numbers": {"big": "7", "exact": "7", "free": "1.5", "ratio": 0.1, "deep": {"lines": [{"sku": "a"}]}},
        "bigs": ["7", "20"],
        "exacts": ["1.5"],
        "frees": ["1.50", "30"],
        "note": {"list": ["x", "y"], "-1": "key"},
    },
    {
        "name": "b",
        "lines": [{"sku": "b", "qty": 1}],
        "grid": [[3]],
        "numbers": {"big": "100", "exact": "100", "free": "1.50", "ratio": 2.0},
        "bigs": ["100"],
        "exacts": ["20"],
        "frees": ["4"],
    },
    {
        "name": "c",
        "lines": [],
        "numbers": {"big": "20", "exact": "-20", "free": "20", "at": "2026-01-01T00:00:00Z"},
    },
    {"name": "d", "numbers": {"big": "3", "exact": "3.25", "deep": {"lines": []}}},
    {"name": "e"},
]


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("inside"), MANIFEST)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """One database for all: nothing here writes but this."""
    async with byodpp_bench.application(blueprint) as tested:
        admin = tested.client()
        for row in ROWS:
            answer = await admin.post(ORDERS, json=row)
            assert answer.status_code == 201, answer.text
        yield tested


async def names(world: TestedApplication, query: str, role: str = "Admin") -> str:
    """Return the names of the rows that a query finds, as one word."""
    answer = await world.client(role=role).get(f"{ORDERS}?{query}&sort=name&fields=name")
    assert answer.status_code == 200, answer.text
    return "".join(row["name"] for row in answer.json()["data"])


def in_json(tree: Any) -> str:
    return f"filter={quote(json.dumps(tree))}"


# --- items that are objects or arrays ---------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "found"),
    [
        ({"lines": {"has": {"sku": "a"}}}, "a"),
        ({"lines": {"has": {"sku": "b"}}}, "ab"),
        ({"lines": {"has": {"sku": "b", "qty": 1}}}, "b"),
        ({"lines": {"has": {"price": "1.5"}}}, "a"),
        ({"lines": {"hasAny": [{"sku": "a"}, {"qty": 1}]}}, "ab"),
        ({"lines": {"hasAll": [{"sku": "a"}, {"qty": 2}]}}, "a"),
        ({"grid": {"has": [3]}}, "ab"),
        ({"grid": {"has": [1, 2]}}, "a"),
        ({"numbers.deep.lines": {"has": {"sku": "a"}}}, "a"),
    ],
)
async def test_an_array_of_documents_has_what_holds_the_given_one(
    world: TestedApplication, tree: Any, found: str
) -> None:
    assert await names(world, in_json(tree)) == found
    ((field, asked),) = tree.items()
    ((word, value),) = asked.items()
    spelled = [value] if word == "has" else value
    places = [""] if word == "has" else [f"[{index}]" for index in range(len(spelled))]
    brackets = [
        f"filter[{field}][{word}]{place}={quote(json.dumps(one))}"
        for place, one in zip(places, spelled, strict=True)
    ]
    assert await names(world, "&".join(brackets)) == found


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("filter[lines][has]=a", "type"),
        ("filter[lines][has]=5", "type"),
        ("filter[lines][has]={", "type"),
        ('filter[lines][has]={"qty":"x"}', "type"),
        ('filter[lines][has]={"sku":"a","sku":"b"}', "type"),
        ('filter[lines][has]={"sku":"\\u0000"}', "format"),
        ('filter[lines][has]={"zz":1}', "unknown_field"),
        ("filter[lines][has]=null", "type"),
        ("filter[lines][has][sku]=a", "type"),
        ("filter[lines][hasAny]=a,b", "type"),
        ("filter[lines][hasAny][0][sku]=a", "type"),
        ("filter[note.k][eq][x]=a", "type"),
        ("filter[note.k][nin][0][x]=a", "type"),
        ("filter[lines.0][ne][sku]=a", "type"),
        ("filter[grid][has]=1", "type"),
        ("filter[grid][has]=[[1]]", "type"),
        ("filter[numbers.deep.lines][has]=a", "type"),
        ('filter={"lines":{"has":"a"}}', "type"),
        ('filter={"lines":{"has":[]}}', "type"),
        ('filter={"lines":{"has":null}}', "type"),
        ('filter={"grid":{"has":{"a":1}}}', "type"),
        ('filter={"bigs":{"has":["7"]}}', "type"),
    ],
)
async def test_what_is_no_such_item_is_refused(world: TestedApplication, query: str, code: str) -> None:
    name, _, value = query.partition("=")
    for address in (ORDERS, f"{ORDERS}/export"):
        answer = await world.client().get(f"{address}?{name}={quote(value)}")
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["details"][0]["code"] == code, answer.text


# --- numbers that travel as text -------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("filter[numbers.big][gt]=10", "bc"),
        ("filter[numbers.big][lt]=20", "ad"),
        ("filter[numbers.big][between]=3,20", "acd"),
        ("filter[numbers.big]=7", "a"),
        ("filter[numbers.big][in]=7,100", "ab"),
        ("filter[numbers.big][nin]=7,100", "cde"),
        ("filter[numbers.big][ne]=7", "bcde"),
        ("filter[numbers.exact][gt]=3.3", "ab"),
        ("filter[numbers.exact][lte]=3.25", "cd"),
        ("filter[numbers.exact]=7", "a"),
        ("filter[numbers.exact]=7.0", "a"),
        ("filter[numbers.exact]=7.001", ""),
        ("filter[numbers.exact][in]=7.000,100", "ab"),
        ("filter[numbers.free]=1.500", "ab"),
        ("filter[numbers.free][gte]=2", "c"),
        ("filter[numbers.ratio][gte]=0.1", "ab"),
        ("filter[numbers.ratio][lte]=0.1", "a"),
        ("filter[numbers.ratio]=0.1", "a"),
        ("filter[numbers.at][gt]=2025-12-31T23:00:00-00:30", "c"),
        ("filter[bigs][has]=7", "a"),
        ("filter[bigs][hasAny]=7,100", "ab"),
        ("filter[exacts][has]=1.5", "a"),
        ("filter[exacts][has]=1.50", "a"),
        ("filter[exacts][has]=20", "b"),
        ("filter[frees][has]=1.5", "a"),
        ("filter[frees][hasAny]=30.0,4.00", "ab"),
        ("filter[frees][hasAll]=30,1.500", "a"),
        ("filter[bigs.0][gt]=8", "b"),
        ("filter[lines.0.price]=1.5", "a"),
        (in_json({"numbers.big": {"gt": 10}}), "bc"),
        (in_json({"numbers.big": {"gt": "10"}}), "bc"),
        (in_json({"numbers.exact": {"in": ["7", 100]}}), "ab"),
    ],
)
async def test_numbers_kept_as_text_are_compared_as_numbers(
    world: TestedApplication, query: str, found: str
) -> None:
    assert await names(world, query) == found


async def test_a_row_filter_compares_numbers_kept_as_text_as_numbers(world: TestedApplication) -> None:
    assert await names(world, "limit=20", role="Viewer") == "bc"


async def test_what_is_no_number_is_passed_over(world: TestedApplication) -> None:
    """Rows may be older than the declaration: text of any kind lies where a number is due."""
    stored = ['{"big": "x"}', '{"big": "1e3"}', '{"big": true}', '{"big": [1]}', '{"big": 20}', '{"big": ""}']
    stored.append(json.dumps({"big": "9" * 200_000}))
    rows = world.client()
    made = [
        (await rows.post(ORDERS, json={"name": f"x{n}"})).json()["data"]["id"] for n in range(len(stored))
    ]
    owner = await asyncpg.connect(world.settings.postgres_admin_uri)
    try:
        await owner.execute("alter table orders disable row level security")
        await owner.executemany(
            "update orders set numbers = $1::jsonb where id = $2", list(zip(stored, made, strict=True))
        )
        await owner.execute("alter table orders enable row level security")
    finally:
        await owner.close()
    assert await names(world, "filter[numbers.big][gt]=10&filter[name][startsWith]=x") == "x4"
    assert await names(world, "filter[numbers.big]=20&filter[name][startsWith]=x") == "x4"
    assert await names(world, "filter[numbers.big][ne]=20&filter[name][startsWith]=x") == "x0x1x2x3x5x6"


# --- paths ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("filter[grid.0.0]=1", "a"),
        ("filter[grid][0][0]=1", "a"),
        ("filter[grid.0][has]=2", "a"),
        ("filter[lines.0.sku]=a", "a"),
        ("filter[lines][0][sku][in]=a,b", "ab"),
        ("filter[lines.0.qty][gte]=1", "ab"),
        ("filter[lines.1.sku]=b", "a"),
        ("filter[lines.5.sku][isNull]=true&filter[name][in]=a,b,c,d,e", "abcde"),
        ("filter[lines.-1.sku]=b", "ab"),
        ("filter[note.list.-1]=y", "a"),
        ("filter[note.-1]=key", "a"),
        ("filter[numbers.deep.lines.0.sku]=a", "a"),
        (in_json({"lines": {"0": {"sku": "a"}}}), "a"),
        (in_json({"lines.0.qty": {"lt": 5}}), "ab"),
    ],
)
async def test_an_index_leads_into_an_array(world: TestedApplication, query: str, found: str) -> None:
    assert await names(world, query) == found


@pytest.mark.parametrize(
    "path",
    [
        "lines.x", "lines.01", "lines.+1", "lines.1e1", "lines.0.zz", "lines.0.sku.x", "lines.99999999999",
        "numbers.zz", "numbers.big.x", "numbers.deep.zz", "numbers.deep.lines.zz", "grid.0.0.0", "name.x",
    ],
)  # fmt: skip
async def test_what_cannot_lie_there_is_an_unknown_field(world: TestedApplication, path: str) -> None:
    for end in ("=1", "[isNull]=true", "[like]=a", "[gt]=1", "[has]=1"):
        answer = await world.client().get(f"{ORDERS}?filter[{quote(path)}]{end}")
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["details"][0]["code"] == "unknown_field", answer.text


async def test_a_property_that_is_not_there_is_told_with_what_was_meant(world: TestedApplication) -> None:
    answer = await world.client().get(f"{ORDERS}?filter[numbers.exakt]=1")
    assert "Did you mean 'exact'?" in answer.json()["error"]["details"][0]["message"]


@pytest.mark.parametrize(
    "query",
    [
        "sort=numbers.big", "sort=-lines.0.sku", "fields=numbers.big", "fields=id,note.list",
        "aggregate=count&group=numbers.big", "aggregate=count&group=month(numbers.at)",
        "aggregate=sum:numbers.ratio", "aggregate=max:lines.0.qty",
    ],
)  # fmt: skip
async def test_orders_groups_and_choices_do_not_lead_into_fields_and_say_so(
    world: TestedApplication, query: str
) -> None:
    answer = await world.client().get(f"{ORDERS}?{query}")
    assert answer.status_code == 400
    (detail,) = answer.json()["error"]["details"]
    assert detail["code"] == "unknown_field"
    assert detail["message"].startswith("Values inside"), detail
    name = await world.client().get(f"{ORDERS}?sort=name.x")
    assert name.json()["error"]["details"][0]["message"] == "'name' has no values inside it."


def test_openapi_shows_what_an_array_may_have_and_where_its_paths_lead(blueprint: Blueprint) -> None:
    registry = blueprint.registry
    shown = filter_schema(registry.get("Orders"), registry)["properties"]
    lines = shown["lines"]["anyOf"][0]
    assert set(lines["properties"]["has"]["properties"]) == {"sku", "qty", "price"}
    assert lines["properties"]["hasAny"]["items"] == lines["properties"]["has"]
    (item,) = lines["patternProperties"].values()
    assert "sku" in item["anyOf"][0]["properties"]
    assert shown["grid"]["anyOf"][0]["properties"]["has"]["items"]["type"] == "integer"
    assert lines["additionalProperties"] is False


async def test_what_an_item_must_hold_is_bounded(world: TestedApplication) -> None:
    client = world.client()
    for field, item in (("grid", [1] * 1_001), ("lines", {"sku": ["x"] * 1_001})):
        filter = {field: {"has": item}}
        refused = await client.post(f"{ORDERS}/query", json={"filter": filter})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "query_too_complex"), field
    found = await client.post(f"{ORDERS}/query", json={"filter": {"grid": {"has": [1] * 1_000}}})
    assert [row["name"] for row in found.json()["data"]] == ["a"]


async def test_a_query_of_many_values_keeps_nobody_waiting(world: TestedApplication) -> None:
    moments = {"numbers": {"at": {"in": ["2026-01-01T00:00:00Z"] * 1_000}}}
    sent = json.dumps({"filter": {"or": [moments] * 90}}).encode()
    together = json.dumps(
        [{"operation": "list", "resource": "Orders", "data": {"filter": {"or": [moments] * 90}}}]
    ).encode()
    client = world.client(headers={"Content-Type": "application/json"})
    await client.post(f"{ORDERS}/query", content=json.dumps({"filter": moments}).encode())
    for url, body in ((f"{ORDERS}/query", sent), ("/api/v1/batch", together)):
        watch = LoopWatch()
        async with watch.watching():
            answer = await client.post(url, content=body)
        assert answer.status_code == 200, answer.text[:1_000]
        assert watch.longest_seconds < 0.25, url
