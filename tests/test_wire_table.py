"""Bad input on every way in: nothing is stored that was refused, and what was acknowledged is stored.

The rows are those of the reliability guide's table of bad input; each test names its rows.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from byodpp import wire
from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.computing import computing
from tests.worlds import WIRE, build

VALUES = "/api/v1/values"
JSON = {"Content-Type": "application/json"}
SERVED = ("GET", "HEAD", "QUERY", "POST")
WIDE = "123456789012345678901234567890.12345678901234567890"
WIDEST = 10**40
TYPED = [name for name in WIRE["services"][0]["resources"][0]["fields"] if name not in ("text", "unique")]


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("wire"), WIRE)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """One database for all: every test looks at what it has made itself, or that nothing was made."""
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


@pytest.fixture
def client(world: TestedApplication) -> Any:
    return world.client()


async def count(world: TestedApplication) -> int:
    async with world.connected.database.system() as transaction:
        found: int = await transaction.fetchval('select count(*) from "values"')
    return found


def _judged(response: Any, statuses: tuple[int, ...], started: float) -> dict[str, Any]:
    text = response.text
    assert response.status_code in statuses, text[:500]
    assert time.perf_counter() - started < 10
    for secret in ("Traceback", "asyncpg", "SELECT", "psycopg", "/byodpp/", "sqlalchemy"):
        assert secret not in text
    body: dict[str, Any] = response.json()["error"]
    return body


async def refused(
    world: TestedApplication,
    content: bytes | str,
    statuses: tuple[int, ...],
    *codes: str,
    headers: dict[str, str] = JSON,
) -> None:
    """Send a body to every route that takes one: each refuses it, and nothing is stored."""
    client = world.client()
    made = await client.post(VALUES, json={"string": "target"})
    key = made.json()["data"]["id"]
    before = await count(world)
    for method, url in (("POST", VALUES), ("PUT", f"{VALUES}/{key}"), ("PATCH", f"{VALUES}/{key}")):
        started = time.perf_counter()
        error = _judged(
            await client.request(method, url, content=content, headers=headers), statuses, started
        )
        found = {error["code"], *(one["code"] for one in error["details"])}
        assert not codes or found & set(codes), error
    assert await count(world) == before
    assert (await client.get(f"{VALUES}/{key}")).json()["data"]["version"] == 1


# --- bodies that are no JSON ------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b'{"string": "x"',
        b'{"string": "x",}',
        b"{}x",
        b"{'string': 'x'}",
        b"",
        b"// x\n{}",
        b'{"string": "\t"}',
        b"{]",
        b"nul",
        b"\x0b{}",
    ],
)
async def test_b1_what_is_no_json_is_400(world: TestedApplication, content: bytes) -> None:
    await refused(world, content, (400,), "malformed_json")


@pytest.mark.parametrize("content", [b'"text"', b"1", b"null", b"[]", b"true", b"[[]]"])
async def test_b2_a_body_that_is_no_object_is_422(world: TestedApplication, content: bytes) -> None:
    client = world.client()
    key = (await client.post(VALUES, json={})).json()["data"]["id"]
    before = await count(world)
    for method, url in (("POST", VALUES), ("PUT", f"{VALUES}/{key}"), ("PATCH", f"{VALUES}/{key}")):
        response = await client.request(method, url, content=content, headers=JSON)
        assert response.status_code == 422, response.text
        assert response.json()["error"]["details"][0]["code"] == "type"
    assert await count(world) == before


@pytest.mark.parametrize("depth", [33, 1_500, 100_000])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
async def test_b3_deep_nesting_is_400(
    world: TestedApplication, depth: int, brackets: tuple[str, str]
) -> None:
    opened, closed = brackets
    inner = opened * depth + "1" + closed * depth
    await refused(world, f'{{"json": {inner}}}', (400,), "too_deep")
    await refused(world, opened * depth, (400,), "too_deep")


async def test_b3_nesting_up_to_the_bound_is_stored(client: Any) -> None:
    value: Any = 1
    for _ in range(31):
        value = [value]
    made = await client.post(VALUES, json={"json": value})
    assert made.status_code == 201
    assert made.json()["data"]["json"] == value


async def test_b4_a_body_over_the_limit_is_413_and_a_compressed_one_415(world: TestedApplication) -> None:
    client = world.client()
    before = await count(world)
    large = b'{"text": "' + b"x" * 10_485_760 + b'"}'
    assert (await client.post(VALUES, content=large, headers=JSON)).status_code == 413

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield b" " * 1_048_576

    assert (await client.post(VALUES, content=chunks(), headers=JSON)).status_code == 413
    for coding in ("gzip", "br", "zstd", "deflate"):
        packed = await client.post(VALUES, content=b"x", headers={**JSON, "Content-Encoding": coding})
        assert packed.status_code == 415
    assert await count(world) == before


async def test_b5_many_keys_and_long_texts_are_422(world: TestedApplication) -> None:
    await refused(world, json.dumps({f"k{n}": 1 for n in range(10_000)}), (422,), "unknown_field")
    await refused(world, json.dumps({"string": "x" * 1_000_000}), (422,), "too_long")
    await refused(world, json.dumps({"array": list(range(100_000))}), (422,), "too_many")
    answer = await world.client().post(
        VALUES, json={"array": ["x"] * 50, **{f"k{n}": 1 for n in range(5_000)}}
    )
    assert len(answer.content) < 65_536
    assert len(answer.json()["error"]["details"]) <= 100


async def test_b6_batches_are_bounded_and_all_or_nothing(world: TestedApplication) -> None:
    client = world.client()
    before = await count(world)
    for body, statuses in (
        ([{}] * 201, (413,)),
        ([], (422,)),
        ([[{}]], (422,)),
        ([{"string": "x"}] * 199 + [{"integer": "bad"}], (422,)),
        ([{"unique": "same"}] * 2, (409,)),
    ):
        started = time.perf_counter()
        _judged(await client.post(f"{VALUES}/batch", json=body), statuses, started)
    assert await count(world) == before
    assert (await client.post(f"{VALUES}/batch", json=[{}] * 200)).status_code == 201


@pytest.mark.parametrize(
    "content",
    [
        '{"string": "a", "string": "b"}',
        '{"string": "a", "\\u0073tring": "b"}',
        '{"json": {"a": 1, "a": 2}}',
        '{"json": [{"a": {"b": 1, "b": 1}}]}',
    ],
)
async def test_b7_a_key_named_twice_is_400(world: TestedApplication, content: str) -> None:
    await refused(world, content, (400,), "duplicate_key")


@pytest.mark.parametrize(
    "number",
    ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "01", "1.", ".5", "+1", "0x10", "1e999999999"],
)
@pytest.mark.parametrize("name", ["integer", "float", "json", "decimal"])
async def test_b8_what_is_no_number_is_400(world: TestedApplication, number: str, name: str) -> None:
    await refused(world, f'{{"{name}": {number}}}', (400,), "malformed_json")


# --- numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("integer", str(2**31)), ("integer", str(-(2**31) - 1)), ("integer", str(2**63)),
        ("integer", "9" * 300),
        ("bigint", str(2**63)), ("bigint", str(-(2**63) - 1)), ("bigint", "1" + "0" * 399),
        ("bigtext", f'"{2**63}"'), ("integer", "1e300"),
        ("decimal", "1e131072"), ("decimal", "12345678901"), ("decimal", "1.234"), ("decimal", "1e300"),
        ("decimal", "-10000000000"), ("wide", "1e131072"), ("dectext", '"1.1234567"'),
        ("dectext", '"123456789012345"'),
        ("float", "1e308000"),
    ],
)  # fmt: skip
async def test_b9_b11_numbers_out_of_range_are_refused_never_changed(
    world: TestedApplication, name: str, number: str
) -> None:
    await refused(
        world, f'{{"{name}": {number}}}', (400, 422), "out_of_range", "multiple_of", "malformed_json"
    )


@pytest.mark.parametrize("digits", [401, 5_000, 100_000])
async def test_b9_numbers_of_thousands_of_digits_are_refused(world: TestedApplication, digits: int) -> None:
    for name in ("integer", "bigint", "wide", "json", "float"):
        await refused(world, f'{{"{name}": {"9" * digits}}}', (400, 422))


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("integer", "1.0", "1"), ("integer", "1e3", "1000"), ("integer", "-0", "0"),
        ("integer", str(2**31 - 1), str(2**31 - 1)),
        ("bigint", str(2**53 + 1), str(2**53 + 1)), ("bigint", str(2**63 - 1), str(2**63 - 1)),
        ("bigint", str(-(2**63)), str(-(2**63))), ("bigtext", f'"{2**63 - 1}"', f'"{2**63 - 1}"'),
        ("decimal", "1.5", "1.50"), ("decimal", "9999999999.99", "9999999999.99"),
        ("decimal", "1.500", "1.50"),
        ("decimal", "0.00", "0.00"), ("wide", "1.2300", "1.2300"),
        ("wide", "1e-20", "0.00000000000000000001"),
        ("wide", WIDE, WIDE),
        ("dectext", '"12345678901234.123456"', '"12345678901234.123456"'),
        ("float", "0.1", "0.1"), ("float", "1e308", "1e+308"), ("float", "5e-324", "5e-324"),
        ("float", "1", "1"),
        ("json", "12345678901234567890.123", "12345678901234567890.123"),
        ("json", '{"b": 1.10, "a": [1e2]}', '{"a": [100], "b": 1.10}'),
    ],
)  # fmt: skip
async def test_b9_b11_numbers_in_range_come_back_with_every_digit(
    client: Any, name: str, value: str, stored: str
) -> None:
    made = await client.post(VALUES, content=f'{{"{name}": {value}}}', headers=JSON)
    assert made.status_code == 201, made.text
    assert f'"{name}":{stored}' in made.text
    read = await client.get(made.headers["location"])
    assert read.content.partition(b',"meta"')[0] == made.content.partition(b',"meta"')[0]


@pytest.mark.parametrize("value", [1.9, True, "1", "1_000", "\uff11\uff12", " 7 ", "", [1], {}, "0x1", False])
async def test_b10_what_is_no_integer_is_422(world: TestedApplication, value: Any) -> None:
    for name in ("integer", "bigint"):
        await refused(world, json.dumps({name: value}), (422,), "type", "multiple_of", "format")
    if not isinstance(value, float):
        for name in ("decimal", "float", "wide"):
            await refused(world, json.dumps({name: value}), (422,), "type")


@pytest.mark.parametrize(
    "value",
    ["1e131072", "1e1000000", "1_0", "NaN", "Infinity", " 1", "1e2", "\uff11", "+1", "", "--1", "1.2.3"],
)
async def test_b11_texts_that_are_no_decimal_are_422(world: TestedApplication, value: str) -> None:
    await refused(world, json.dumps({"dectext": value}), (422,))
    await refused(world, json.dumps({"bigtext": value}), (422,))
    await refused(world, json.dumps({"decimal": value}), (422,))


# --- types ------------------------------------------------------------------------------


#: Values that no field of the type takes.
WRONG: dict[str, tuple[Any, ...]] = {
    "boolean": ("on", "YES", "t", 1, 1.0, 0, "true", [], {}),
    "string": (1, True, [], {}, 1.5),
    "text": (1, True, []),
    "date": (
        "2024-13-01",
        "2024-02-30",
        "20240101",
        "2024-1-1",
        "2024-01-01T00:00:00Z",
        20240101,
        "0000-01-01",
        "infinity",
        "now",
        "2024-W01-1",
    ),
    "time": ("24:00:00", "1:00", "12:60:00", "noon", 12, "12:00:00+02:00"),
    "datetime": (
        "2024-01-01",
        "2024-01-01T00:00:00",
        "2024-01-01T25:00:00Z",
        1704067200,
        "now",
        "infinity",
        "2024-01-01 00:00",
        "99999-01-01T00:00:00Z",
        "2024-02-30T00:00:00Z",
    ),
    "uuid": (
        "x",
        1,
        "00000000-0000-0000-0000-00000000000",
        "{00000000-0000-0000-0000-000000000000",
    ),
    "ulid": ("x", 1, "8" + "Z" * 25, "0" * 25, "U" * 26),
    "choice": ("c", "A", "", 1),
    "object": (
        [],
        "x",
        1,
        {"count": "1"},
        {"count": 1.5},
        {"name": "x" * 11},
        {"other": 1},
        {"price": 1.234},
    ),
    "array": ({}, "x", [1.5], ["1"], [None], [[1]], list(range(51))),
    "objects": ([{}], [1], [{"name": None}], [{"name": "x", "y": 1}]),
    "code": ("ab1", "AB", "AB1\n", " AB1", "AB\uff11"),
    "email": ("x", "@", "a@", "a b@c.de"),
    "url": ("x", "java script:x", "//a", "http://a b"),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
async def test_b12_a_value_of_another_kind_is_422(world: TestedApplication, name: str, value: Any) -> None:
    await refused(world, json.dumps({name: value}), (422,))


async def test_b12_null_and_absent_are_refused_where_something_is_required(world: TestedApplication) -> None:
    client = world.client()
    for body, codes in (
        ({}, {"name": "required", "count": "required"}),
        ({"name": None, "count": None}, {"name": "null", "count": "null"}),
        ({"name": "", "count": 0}, {"name": "too_short", "count": "out_of_range"}),
        ({"name": "x" * 101, "count": 6}, {"name": "too_long", "count": "out_of_range"}),
    ):
        response = await client.post("/api/v1/required", json=body)
        assert response.status_code == 422
        assert {one["field"]: one["code"] for one in response.json()["error"]["details"]} == codes


@pytest.mark.parametrize(
    "name",
    [
        "__proto__",
        "constructor",
        "STRING",
        "String",
        "string ",
        "",
        "strin\u0261",
        "a.b",
        "$literal",
        "x\u0000",
        "\ud800",
    ],
)
async def test_b14_an_unknown_field_is_422(world: TestedApplication, name: str) -> None:
    await refused(world, json.dumps({name: 1}), (422,), "unknown_field")
    await refused(world, json.dumps({"object": {name: 1}}), (422,), "unknown_field")


@pytest.mark.parametrize(
    "name",
    [
        "id",
        "tenantId",
        "tenant_id",
        "createdAt",
        "updatedAt",
        "createdBy",
        "version",
        "ownerId",
        "deletedAt",
        "_sa_instance_state",
    ],
)
async def test_b15_what_the_server_owns_is_not_written(world: TestedApplication, name: str) -> None:
    client = world.client()
    made = (await client.post(VALUES, json={})).json()["data"]
    before = await count(world)
    url = f"{VALUES}/{made['id']}"
    for method, path, body in (
        ("POST", VALUES, {name: 5}),
        ("PUT", url, {name: 5}),
        ("PATCH", url, {name: 5}),
        ("POST", f"{VALUES}/batch", [{name: 5}]),
        ("POST", "/api/v1/batch", [{"operation": "create", "resource": "Values", "data": {name: 5}}]),
    ):
        response = await client.request(method, path, json=body)
        assert response.status_code == 422, (method, path, response.text)
        codes = {one["code"] for one in response.json()["error"]["details"]}
        assert codes & {"read_only", "unknown_field", "type", "format"}
    assert await count(world) == before
    assert (await client.get(url)).json()["data"] == made


async def test_b16_a_tenant_named_anywhere_but_in_the_token_moves_nothing(world: TestedApplication) -> None:
    beta = await world.tenant("beta")
    theirs = await world.client(tenant="beta").post(VALUES, json={"string": "theirs"})
    assert theirs.status_code == 201
    client = world.client()
    own = {row["string"] for row in (await client.get(VALUES, params={"limit": 1000})).json()["data"]}
    assert "theirs" not in own
    for query in (
        f"tenantId={beta.id}",
        f"tenant_id={beta.id}",
        f"filter[tenantId]={beta.id}",
        f"filter[tenant_id]={beta.id}",
        "include=tenant",
        f"X-Tenant={beta.slug}",
    ):
        assert (await client.get(f"{VALUES}?{query}")).status_code == 400, query
    for headers in (
        {"X-Tenant-Id": str(beta.id)},
        {"Cookie": f"tenantId={beta.id}"},
        {"X-Forwarded-Host": "beta"},
        {"Forwarded": "host=beta"},
    ):
        rows = (await client.get(f"{VALUES}?limit=1000", headers=headers)).json()["data"]
        assert "theirs" not in {row["string"] for row in rows}
    assert (await client.get(VALUES, headers={"X-Tenant": "beta"})).status_code == 403
    assert (await client.get(VALUES, headers={"X-Tenant": "nowhere"})).status_code == 403
    assert (await client.get(VALUES, headers={"X-Tenant": "acme"})).status_code == 200


# --- text -------------------------------------------------------------------------------


async def test_b18_u0000_is_refused_wherever_it_stands(world: TestedApplication) -> None:
    for body in (
        {"string": "a\0b"},
        {"text": "\0"},
        {"json": {"a": "\0"}},
        {"json": {"\0": 1}},
        {"object": {"name": "\0"}},
        {"indexed": "\0"},
    ):
        await refused(world, json.dumps(body), (422,))
    client = world.client()
    for path in (
        f"{VALUES}/%00",
        f"{VALUES}?filter[string]=%00",
        f"{VALUES}?sort=%00",
        f"{VALUES}?search=%00",
        f"{VALUES}?%00=1",
    ):
        assert (await client.get(path)).status_code in (400, 404), path


@pytest.mark.parametrize("value", ["\\ud800", "\\udc00x", "a\\ud83d"])
async def test_b18_a_lone_surrogate_is_no_text(world: TestedApplication, value: str) -> None:
    for name in ("string", "text", "json", "indexed"):
        await refused(world, f'{{"{name}": "{value}"}}', (422,))
    await refused(world, f'{{"json": {{"{value}": 1}}}}', (422,))


@pytest.mark.parametrize(
    "content",
    [
        b'{"string": "\xff"}', b'{"string": "\xc0\xaf"}', b'{"string": "\xed\xa0\x80"}',
        b'{"string": "\xf4\x90\x80\x80"}',
        '{"string": "x"}'.encode("utf-16"), '{"string": "x"}'.encode("utf-16-le"),
        '{"string": "x"}'.encode("utf-32"),
        b'\xef\xbb\xbf{"string": "x"}',
    ],
)  # fmt: skip
async def test_b20_what_is_not_utf_8_is_400(world: TestedApplication, content: bytes) -> None:
    await refused(world, content, (400,), "invalid_encoding")


async def test_b22_texts_longer_than_a_column_or_an_index_are_422(world: TestedApplication) -> None:
    noise = "".join(random.Random(1).choices([chr(code) for code in range(0x4E00, 0x9FFF)], k=9_000))
    await refused(world, json.dumps({"string": "x" * 21}), (422,), "too_long")
    for name in ("indexed", "unique"):
        await refused(world, json.dumps({name: noise}), (422,), "too_long")
    await refused(world, json.dumps({"string": "\u0301" * 21}), (422,), "too_long")
    assert (await world.client().post(VALUES, json={"string": "😀" * 20, "text": noise})).status_code == 201


async def test_b23_a_unique_value_clashes_within_its_tenant_only(world: TestedApplication) -> None:
    client, beta = world.client(), world.client(tenant="beta")
    assert (await client.post(VALUES, json={"unique": "once"})).status_code == 201
    clash = await client.post(VALUES, json={"unique": "once"})
    assert (clash.status_code, clash.json()["error"]["code"]) == (409, "unique_conflict")
    assert (await beta.post(VALUES, json={"unique": "once"})).status_code == 201
    assert [
        one.status_code for one in await asyncio.gather(*(client.post(VALUES, json={}) for _ in range(3)))
    ] == [201] * 3
    raced = await asyncio.gather(*(client.post(VALUES, json={"unique": "race"}) for _ in range(8)))
    assert sorted(one.status_code for one in raced) == [201] + [409] * 7


async def test_b24_long_input_to_patterns_and_formats_is_refused_quickly(world: TestedApplication) -> None:
    client = world.client()
    for name, value in (
        ("code", "AA" + "1" * 100_000 + "!"),
        ("email", "a@" + "a." * 50_000),
        ("url", "http://" + "a" * 100_000),
        ("email", "a" * 100_000 + "@"),
        ("uuid", "0" * 100_000),
        ("datetime", "2" * 100_000),
    ):
        with computing() as taken:
            response = await client.post(VALUES, json={name: value})
        assert response.status_code == 422, (name, response.text[:300])
        assert taken.seconds < 2, name


# --- queries ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "' OR 1=1--",
        "x'; DROP TABLE values;--",
        "$1",
        ":x",
        "%(x)s",
        "\\",
        "\\\\'",
        "{{7*7}}",
        '"',
        "()",
        "%",
        "_",
        "\u202e",
        "x" * 5_000,
        "😀",
        "\r\nSet-Cookie: a=b",
        "\x1b[31m",
        "${jndi:ldap://x}",
    ],
)
async def test_b30_b47_a_text_in_a_query_is_a_text(client: Any, text: str) -> None:
    made = await client.post(VALUES, json={"indexed": text[:600]})
    assert made.status_code == 201
    key = made.json()["data"]["id"]
    for operator in ("eq", "in", "startsWith"):
        sent = text[:600].replace("\\", "\\\\").replace(",", "\\,") if operator == "in" else text[:600]
        response = await client.get(VALUES, params={f"filter[indexed][{operator}]": sent, "limit": "1000"})
        assert response.status_code == 200, response.text
        assert key in {row["id"] for row in response.json()["data"]}
        assert all(
            row["indexed"] is not None and row["indexed"].startswith(text[:600])
            for row in response.json()["data"]
        )
    for query in (
        {"sort": text},
        {"fields": text},
        {"include": text},
        {f"filter[{text}]": "1"},
        {text: "1"},
        {"filter": text},
        {"limit": text},
        {"count": text},
    ):
        response = await client.get(VALUES, params=query)
        assert response.status_code == 400, (query, response.text[:300])
        assert "set-cookie" not in response.headers


async def test_b32_filters_of_too_many_terms_or_levels_are_400(client: Any) -> None:
    many = "&".join(f"filter[or][{n}][integer]={n}" for n in range(201))
    deep: Any = {"integer": 1}
    for _ in range(33):
        deep = {"not": deep}
    for query in (
        many,
        f"filter={json.dumps(deep)}",
        "filter" + "[not]" * 60 + "[integer]=1",
        "&".join(f"x{n}=1" for n in range(5_000)),
    ):
        started = time.perf_counter()
        error = _judged(await client.get(f"{VALUES}?{query.replace(' ', '')}"), (400, 414), started)
        assert error["code"] in ("query_too_complex", "invalid_query", "uri_too_long")


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "1" + "0" * 30, "10;", "1e2", "", "1.0", "٣", " 1"])
async def test_b34_a_limit_that_is_none_is_400(client: Any, limit: str) -> None:
    response = await client.get(VALUES, params={"limit": limit})
    assert response.status_code == 400
    assert response.json()["error"]["details"][0]["field"] == "limit"


async def test_b34_offsets_are_bounded_and_a_deep_one_is_an_empty_page(client: Any) -> None:
    for query in (
        "offset=-1",
        f"offset={2**62}",
        "offset=x",
        "page=0",
        "page=-1",
        f"page={2**62}",
        "page=1&offset=1",
    ):
        assert (await client.get(f"{VALUES}?{query}")).status_code == 400, query
    assert (await client.get(f"{VALUES}?offset=1000000000")).json()["data"] == []


@pytest.mark.parametrize(
    "sort",
    [
        "nothing",
        "json",
        "-",
        "",
        ",",
        "integer,",
        "object",
        "integer:up",
        "--integer",
        "integer,integer",
        "array",
        "tenantId",
        "id.id",
    ],
)
async def test_b36_a_sort_that_makes_no_sense_is_400(client: Any, sort: str) -> None:
    assert (await client.get(VALUES, params={"sort": sort})).status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        "limit=1&limit=2",
        "filter[integer]=1&filter.integer=2",
        "unknown=1",
        "filter[integer]=1&filter[integer]=2",
        "filter[integer]=1&filter={}",
        "filter[integer=1",
        "filter]=1",
        "limit[]=1",
        "sort=integer&sort=-integer",
        "filter[integer][eq][x]=1",
        "filter=1",
        "filter=[]",
        "filter[]=1",
    ],
)
async def test_b37_repeated_conflicting_and_unknown_parameters_are_400(client: Any, query: str) -> None:
    response = await client.get(f"{VALUES}?{query}")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_query"), response.text


# --- the envelope of HTTP ---------------------------------------------------------------


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "FOO", "get", "PROPFIND"])
async def test_b38_an_unknown_method_is_405_and_no_header_overrides_one(client: Any, method: str) -> None:
    response = await client.request(method, VALUES)
    assert response.status_code in (405, 200) if method == "get" else response.status_code == 405
    if response.status_code == 405:
        assert response.headers["allow"] == "GET, HEAD, QUERY, POST, OPTIONS"
    made = (await client.post(VALUES, json={})).headers["location"]
    await client.get(
        made,
        headers={
            "X-HTTP-Method-Override": "DELETE",
            "X-HTTP-Method": "DELETE",
            "X-Method-Override": "DELETE",
        },
    )
    assert (await client.get(made)).status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/xml",
        "",
        "application/json, text/plain",
        "application/jsonx",
        "*/*",
    ],
)
async def test_b39_c25_a_body_of_another_type_is_415(world: TestedApplication, content_type: str) -> None:
    await refused(
        world, b'{"string": "x"}', (415,), "unsupported_media_type", headers={"Content-Type": content_type}
    )


async def test_b39_an_answer_of_another_type_is_406(client: Any) -> None:
    assert (await client.get(VALUES, headers={"Accept": "text/html"})).status_code == 406
    assert (await client.get(VALUES, headers={"Accept": "application/json;q=0"})).status_code == 406
    for accepted in (
        "*/*",
        "application/*",
        "text/html, */*;q=0.1",
        "application/json; charset=utf-8",
        "garbage, application/json",
    ):
        assert (await client.get(VALUES, headers={"Accept": accepted})).status_code == 200, accepted
    for content_type in (
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        'application/json; charset="UTF-8"',
    ):
        assert (
            await client.post(VALUES, content=b"{}", headers={"Content-Type": content_type})
        ).status_code == 201


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic YTpi",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer a b",
        "Token x",
        "Bearer " + "x" * 7_000,
        "Bearer a.b.c",
        "bearer \u00ff",
        "Bearer null",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
    ],
)
async def test_b45_a_token_that_is_none_is_401(world: TestedApplication, authorization: str) -> None:
    nobody = world.client(role=None)
    response = await nobody.get(VALUES, headers=[(b"Authorization", authorization.encode("latin-1"))])
    assert response.status_code == 401, response.text
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_b45_tokens_travel_in_one_header_only(world: TestedApplication) -> None:
    nobody, token = world.client(role=None), world.token()
    assert (await nobody.get(VALUES)).status_code == 401
    assert (await nobody.get(f"{VALUES}?access_token={token}")).status_code == 401
    assert (await nobody.get(VALUES, headers={"Cookie": f"access_token={token}"})).status_code == 401
    twice = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    assert (await nobody.get(VALUES, headers=twice)).status_code == 401
    assert (await nobody.get(VALUES, headers={"Authorization": "Bearer " + "x" * 100_000})).status_code in (
        401,
        431,
    )


async def test_b46_preconditions_that_make_no_sense_are_refused(client: Any) -> None:
    made = (await client.post(VALUES, json={})).headers["location"]
    for tag, statuses in (
        ("x", (400,)),
        ('"', (400,)),
        ("", (400, 412)),
        ('"2"', (412,)),
        ('W/"1"', (412,)),
        ('"' + "1" * 10_000 + '"', (400, 412, 431)),
        ('"x"', (412,)),
        ('"1";', (400,)),
    ):
        response = await client.patch(made, json={"integer": 1}, headers={"If-Match": tag})
        assert response.status_code in statuses, (tag, response.text)
    unchanged = (await client.get(made)).json()["data"]
    assert unchanged["version"] == 1


async def test_b47_what_a_client_sends_stays_inside_one_log_line(world: TestedApplication) -> None:
    client = world.client()
    del world.access_lines[:]
    for path in ("%0d%0aX", "%1b[2J", "%e2%80%a8", "${jndi:ldap:x}", "%25s", "%00"):
        await client.get(f"{VALUES}/{path}", headers={"User-Agent": "a\x1b[2J%s"})
    assert len(world.access_lines) == 6
    for line in world.access_lines:
        assert line.rstrip("\n").isprintable()
        json.loads(line)
        assert client.headers["authorization"].split()[1] not in line


# --- round trips: acknowledged is stored, bit for bit -----------------------------------


_TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=30)
_JSON_TEXT = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=12)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)
_MOMENTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC))
_OBJECTS = st.fixed_dictionaries(
    {}, optional={"name": _TEXTS.map(lambda text: text[:10]), "count": st.integers(-9, 9)}
)
_ROWS = st.fixed_dictionaries(
    {},
    optional={
        "string": st.none() | _TEXTS.map(lambda text: text[:20]),
        "text": _TEXTS,
        "integer": st.integers(-(2**31), 2**31 - 1),
        "bigint": st.integers(-(2**63), 2**63 - 1),
        "bigtext": st.integers(-(2**63), 2**63 - 1).map(str),
        "decimal": st.integers(-(10**12) + 1, 10**12 - 1).map(lambda cents: Decimal(cents).scaleb(-2)),
        "wide": st.decimals(-WIDEST, WIDEST, allow_nan=False, allow_infinity=False, places=20),
        "float": st.floats(allow_nan=False, allow_infinity=False),
        "boolean": st.booleans(),
        "date": st.dates().map(str),
        "time": st.times().map(lambda time: time.isoformat("microseconds")),
        "datetime": _MOMENTS.map(lambda moment: moment.isoformat("T", "microseconds")),
        "uuid": st.uuids().map(str),
        "json": _JSON_TEXT,
        "object": st.none() | _OBJECTS,
        "array": st.none() | st.lists(st.integers(-(2**31), 2**31 - 1), max_size=50),
        "choice": st.sampled_from(["a", "b", None]),
        "indexed": _TEXTS,
    },
)  # fmt: skip


def _comparable(value: Any) -> Any:
    """A JSON value in which numbers are exact and moments are moments."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, dict):
        return {name: _comparable(inner) for name, inner in value.items()}
    return [_comparable(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(_ROWS, min_size=1, max_size=6))
async def test_what_was_acknowledged_is_what_is_stored_and_what_was_sent(
    world: TestedApplication, rows: list[dict[str, Any]]
) -> None:
    client = world.client()
    for batch in (rows[:1], rows):
        sent = [wire.dumps(row) for row in batch]
        alone = len(batch) == 1
        body = sent[0] if alone else b"[" + b",".join(sent) + b"]"
        made = await client.post(VALUES if alone else f"{VALUES}/batch", content=body, headers=JSON)
        assert made.status_code == 201, made.text
        shown = wire.loads(made.content)["data"]
        for row, answer in zip(batch, [shown] if alone else shown, strict=True):
            read = await client.get(f"{VALUES}/{answer['id']}")
            stored = wire.loads(read.content)["data"]
            assert stored == answer
            for name, value in row.items():
                _assert_same(name, value, stored[name])
        if alone:
            url = f"{VALUES}/{shown['id']}"
            put = await client.put(
                url, content=wire.dumps(wire.loads((await client.get(url)).content)["data"]), headers=JSON
            )
            assert put.status_code == 200, put.text
            again = wire.loads(put.content)["data"]
            for name in (*_ROWS_NAMES,):
                assert again[name] == shown[name], name


_ROWS_NAMES = ("string", "text", "bigint", "decimal", "wide", "float", "datetime", "json", "object", "array")


def _assert_same(name: str, sent: Any, stored: Any) -> None:
    if name == "float":
        assert float(stored) == float(sent)
    elif name == "datetime" and sent is not None:
        assert datetime.fromisoformat(stored) == datetime.fromisoformat(sent)
    else:
        assert _comparable(stored) == _comparable(sent), name


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(TYPED),
    value=st.one_of(_JSON_TEXT, st.floats(), st.text(max_size=60), st.integers().map(lambda n: n * 10**50)),
)  # fmt: skip
async def test_no_value_at_all_makes_the_server_fail(world: TestedApplication, name: str, value: Any) -> None:
    client = world.client()
    content = json.dumps({name: value}, default=str)
    made = await client.post(VALUES, content=content.encode("utf-8", "surrogatepass"), headers=JSON)
    assert made.status_code in (201, 400, 422), made.text
    if made.status_code == 201:
        read = await client.get(made.headers["location"])
        assert wire.loads(read.content)["data"] == wire.loads(made.content)["data"]
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    for operator in ("eq", "gt", "in", "like", "has", "isNull", "contains"):
        found = await client.get(
            VALUES, params={f"filter[{name}][{operator}]": text.encode("utf-8", "replace").decode()}
        )
        assert found.status_code in (200, 400, 414), found.text


async def test_every_key_shape_in_a_path_is_answered(client: Any) -> None:
    for key in (
        str(uuid.uuid4()),
        "9" * 19,
        str(2**63),
        str(-(2**63)),
        "..",
        "%2e%2e",
        "%2F",
        "a%2Fb",
        "%ff",
        "%",
        "%zz",
        ";",
        "~",
        "{id}",
    ):
        for method in ("GET", "DELETE"):
            response = await client.request(method, f"{VALUES}/{key}")
            assert response.status_code in (400, 404, 405), (method, key, response.text)
