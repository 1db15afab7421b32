"""The short way through a generated schema says what marshmallow says, and marshmallow is always asked."""

from __future__ import annotations

from typing import Any

import marshmallow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byodpp.bootstrap import Blueprint
from byodpp.registry import Registry
from byodpp.schemas import SchemaMap
from byodpp.schemas.generated import GeneratedSchema
from byodpp.testing import Bench
from tests.test_schemas import PRODUCTS
from tests.worlds import build
from tests.write_world import LOGICS, WRITES

_LEAVES = (
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["draft", "a", "2025-01-31", "x" * 30])
)
_INNER = st.sampled_from(["street", "city", "since", "other"])
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_INNER, inner, max_size=3),
    max_leaves=4,
)
_NAMES = st.sampled_from([*PRODUCTS.fields, "updatedAt", "unknown", "", "a.b"])


class Own(marshmallow.Schema):
    """What an application adds to a generated schema."""

    extends = True
    note = marshmallow.fields.String(required=True, data_key="unknown", attribute="kept.note")
    stock = marshmallow.fields.Integer(load_default=3)

    @marshmallow.validates_schema
    def check(self, data: Any, **options: Any) -> None:
        if data.get("stock") == -1:
            raise marshmallow.ValidationError("Must not be -1.", "stock")


PLAIN = SchemaMap.build(Registry([PRODUCTS]))
EXTENDED = SchemaMap(Registry([PRODUCTS]), {(*PRODUCTS.id, "create"): Own, (*PRODUCTS.id, "patch"): Own})


def outcome(schema: marshmallow.Schema, body: Any) -> Any:
    """Return what a load says: values, or messages with their codes and what was good."""
    try:
        return schema.load(body)
    except marshmallow.ValidationError as error:
        return _codes(error.messages_dict), error.valid_data


def _codes(messages: Any) -> Any:
    if isinstance(messages, dict):
        return {name: _codes(inner) for name, inner in messages.items()}
    return [(getattr(one, "code", None), str(one)) for one in messages]


@pytest.mark.parametrize("schemas", [PLAIN, EXTENDED], ids=["generated", "extended"])
@pytest.mark.parametrize("operation", ["create", "update", "patch"])
@given(body=st.dictionaries(_NAMES, _VALUES, max_size=6))
def test_both_ways_say_the_same(schemas: SchemaMap, operation: str, body: dict[str, Any]) -> None:
    schema = schemas.schema(PRODUCTS, operation)
    assert isinstance(schema, GeneratedSchema)
    short = outcome(schema, body)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(GeneratedSchema, "_deserialize")
        assert short == outcome(schema, body)


@pytest.mark.parametrize("body", [None, [], "x", 1])
def test_what_is_no_object_goes_marshmallows_way(body: Any) -> None:
    assert outcome(PLAIN.schema(PRODUCTS, "create"), body) == (
        {"_schema": [(None, "Invalid input type.")]},
        {},
    )


async def test_marshmallow_loads_every_item_of_a_batch(
    byodpp_bench: Bench, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    blueprint: Blueprint = build(tmp_path, WRITES, LOGICS)
    loaded: list[Any] = []
    load = marshmallow.Schema.load

    def counted(self: marshmallow.Schema, data: Any, **options: Any) -> Any:
        loaded.append(data)
        return load(self, data, **options)

    monkeypatch.setattr(marshmallow.Schema, "load", counted)
    async with byodpp_bench.application(blueprint) as store:
        items = [{"name": f"n{number}"} for number in range(100)]
        answer = await store.client().post("/api/v1/items/batch", json=items)
    assert answer.status_code == 201
    assert loaded == items
