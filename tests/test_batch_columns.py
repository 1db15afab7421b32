"""A batch stores what single creations store, whatever its values are, and however its rows come back."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, Final

import pytest
import pytest_asyncio

from byodpp.array_text import array_text
from byodpp.bootstrap import Blueprint
from byodpp.database import Transaction
from byodpp.exceptions import UniqueConflict
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

THINGS: Final = "/api/v1/things"
_FIELDS: Final[dict[str, Any]] = {
    "name": {"type": "string", "maxLength": 40, "required": True},
    "remark": {"type": "text"},
    "count": {"type": "integer", "default": 7},
    "large": {"type": "bigint"},
    "price": {"type": "decimal", "precision": 8, "scale": 3},
    "wide": {"type": "decimal"},
    "ratio": {"type": "float"},
    "isNew": {"type": "boolean", "default": True},
    "day": {"type": "date"},
    "hour": {"type": "time"},
    "moment": {"type": "datetime"},
    "mark": {"type": "uuid"},
    "number": {"type": "ulid"},
    "extra": {"type": "json", "default": {}},
    "tags": {"type": "array", "items": {"type": "string"}, "default": ["a"]},
    "place": {"type": "object", "properties": {"city": {"type": "string"}}},
}
_ACCESS: Final = {
    "read": ["Admin", {"roles": ["Some"], "filter": {"count": {"gte": 0}}}],
    "write": ["Admin", "Some"],
    "batch": ["Admin", "Some"],
}
_MANIFEST: Final = {
    "resources": [{"name": "Things", "versioned": True, "fields": _FIELDS, "access": _ACCESS}]
}
_TEXTS: Final = ['"', "\\", '\\"', "{}", "NULL", "null", "", " ", ",", "a,b", '{"a"}', "é☃", "'; --", "\n\t"]
_ITEMS: Final[list[dict[str, Any]]] = [
    *({"name": text, "remark": text * 2, "extra": {text or "k": [text]}, "tags": [text]} for text in _TEXTS),
    {"name": "defaults"},
    {"name": "nulls", "count": None, "isNew": None, "extra": None, "tags": None, "place": None, "day": None},
    {
        "name": "everything",
        "count": -(2**31),
        "large": 2**63 - 1,
        "price": -99999.125,
        "wide": 12345678901234567890.5,
        "ratio": -1.5e-300,
        "isNew": False,
        "day": "0001-01-01",
        "hour": "23:59:59.999999",
        "moment": "2025-01-31T08:00:00.123456+02:00",
        "mark": "018f4e2a-7b1c-7000-8000-000000000001",
        "number": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "extra": {"a": [1, 2.50, None, True, {"b": '\\"{}'}], "": {}},
        "place": {"city": 'a"b\\c'},
    },
    {"name": "zeros", "count": 0, "price": 0, "wide": 0, "ratio": -0.0, "extra": [], "tags": []},
]
_OWN: Final = ("id", "createdAt", "updatedAt")


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("columns"), _MANIFEST)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def store(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


@pytest.mark.parametrize("role", ["Admin", "Some"], ids=["in one piece", "row by row"])
async def test_a_batch_stores_and_answers_what_single_creations_do(
    store: TestedApplication, role: str
) -> None:
    client = store.client(role=role)
    answer = await client.post(f"{THINGS}/batch", json=_ITEMS)
    assert answer.status_code == 201, answer.text
    made = answer.json()["data"]
    assert [row.get("name") for row in made if "name" in row] == [
        item["name"] for item, row in zip(_ITEMS, made, strict=True) if "name" in row
    ]
    for item, row in zip(_ITEMS, made, strict=True):
        single = (await client.post(THINGS, json=item)).json()["data"]
        assert _without_own(row) == _without_own(single)
        # Of a row that the caller may not see, he is told the key alone.
        hidden = role == "Some" and "count" in item and (item["count"] is None or item["count"] < 0)
        assert (set(row) == {"id"}) is hidden
        if not hidden:
            stored = await client.get(f"{THINGS}/{row['id']}")
            assert stored.json()["data"] == row


async def test_the_second_of_two_faulty_items_is_named(store: TestedApplication) -> None:
    items = [{"name": "good"}, {"name": "x", "price": 100000}, {"name": "y" * 41, "unknown": 1}]
    answer = await store.client().post(f"{THINGS}/batch", json=items)
    assert answer.status_code == 422
    found = {one["field"]: one["code"] for one in answer.json()["error"]["details"]}
    assert found == {"1.price": "out_of_range", "2.name": "too_long", "2.unknown": "unknown_field"}


_COLUMNS: Final[dict[str, list[Any]]] = {
    "text": [*_TEXTS, "NULL", None, "x" * 3000],
    "bigint": [0, 1, -1, 2**63 - 1, -(2**63), None],
    "boolean": [True, False, None],
    "numeric": [Decimal("0"), Decimal("-1.50"), Decimal("1E+30"), Decimal("1E-30"), None],
    "float8": [0.0, -1.5, 1e300, 5e-324, 0.1, None],
    "timestamptz": [datetime.datetime(2025, 1, 31, 8, 0, 0, 123456, datetime.UTC), None],
    "date": [datetime.date(1, 1, 1), datetime.date(9999, 12, 31), None],
    "time": [datetime.time(23, 59, 59, 999999), None],
    "bytea": [b"", b"\\x00\x00\xff", bytes(range(256)), None],
    "uuid": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), None],
}


@pytest.mark.parametrize("kind", _COLUMNS)
async def test_the_text_of_an_array_is_read_as_the_array(store: TestedApplication, kind: str) -> None:
    values = _COLUMNS[kind]
    full = [value for value in values if value is not None]
    async with store.connected.database.system() as transaction:
        for column in ([], full, values, full[:1], [None, None]):
            found = await transaction.fetchval(f"select $1::text::{kind}[]", array_text(column))
            assert list(map(_plain, found)) == list(map(_plain, column))


_Word = enum.Enum("_Word", {"FIRST": 'a "word"'}, type=str)  # a StrEnum would write itself as its value


class _Number(int, enum.Enum):
    FIRST = 7


class _Share(float, enum.Enum):
    FIRST = 0.5


class _Price(Decimal, enum.Enum):
    FIRST = "1.50"


@pytest.mark.parametrize(
    ("kind", "member"),
    [("text", _Word.FIRST), ("int4", _Number.FIRST), ("float8", _Share.FIRST), ("numeric", _Price.FIRST)],
)
async def test_a_member_of_an_enumeration_is_its_value(
    store: TestedApplication, kind: str, member: Any
) -> None:
    async with store.connected.database.system() as transaction:
        for column in ([member], [member, None], [member, member.value]):
            found = await transaction.fetchval(f"select $1::text::{kind}[]", array_text(column))
            assert found == [None if one is None else await _alone(transaction, kind, one) for one in column]


async def test_rows_of_which_some_bring_their_keys_and_times_are_stored_in_their_order(
    store: TestedApplication,
) -> None:
    then = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    items: list[dict[str, Any]] = [
        {"name": "plain"},
        {"name": "key", "id": 900_001},
        {"name": "time", "createdAt": then},
        {"name": "both", "id": 900_002, "createdAt": then, "updatedAt": then},
        {"name": "another"},
    ]
    async with store.repositories("acme") as repositories:
        rows = await repositories["Things"].batch(items)
        assert [row["name"] for row in rows] == [item["name"] for item in items]
        for row, item in zip(rows, items, strict=True):
            found = await repositories["Things"].read(row["id"])
            assert {name: found[name] for name in item} == item
            assert found["count"] == 7
        assert rows[0]["createdAt"] > then and rows[0]["id"] < rows[4]["id"] < 900_000
    with pytest.raises(UniqueConflict):
        async with store.repositories("acme") as repositories:
            await repositories["Things"].batch([{"name": "new"}, {"name": "again", "id": 900_001}])


async def _alone(transaction: Transaction, kind: str, value: Any) -> Any:
    return await transaction.fetchval(f"select $1::{kind}", value)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, uuid.UUID) else value


def _without_own(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _OWN}
