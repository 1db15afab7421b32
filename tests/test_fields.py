"""The field types: strict on the way in, and the same bytes on the way out as PostgreSQL writes."""

from __future__ import annotations

import datetime
import json
import math
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import asyncpg
import jsonschema
import marshmallow
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from byodpp import wire
from byodpp.definitions import FieldDefinition, Within
from byodpp.embedded import EmbeddedPostgres
from byodpp.fields import FIELD_TYPES, FieldFault
from byodpp.fields.formats import FORMATS
from byodpp.fields.moments import CALENDAR_CODECS
from byodpp.fields.pattern import compile_pattern, pattern_problem
from byodpp.fields.strict_field import StrictField, count_faults
from byodpp.schemas.faults import details_of, refuse
from tests.computing import computing

UTC = datetime.UTC


def field(kind: str, **options: Any) -> FieldDefinition:
    constraints = {key: options.pop(key) for key in list(options) if key not in FieldDefinition.__slots__}
    return FieldDefinition(name="f", column="f", type=FIELD_TYPES[kind], constraints=constraints, **options)


def accept(definition: FieldDefinition, value: Any) -> Any:
    return definition.type.schema_field(definition).deserialize(value)


def codes(definition: FieldDefinition, value: Any) -> list[str]:
    with pytest.raises(marshmallow.ValidationError) as caught:
        accept(definition, value)
    return list(_codes(caught.value.messages))


def _codes(messages: Any) -> list[str]:
    if isinstance(messages, dict):
        return [code for inner in messages.values() for code in _codes(inner)]
    return [message.code for message in messages]


# --- strict on the way in -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "value", "result"),
    [
        ("integer", {}, 1, 1),
        ("integer", {}, Decimal("1.0"), 1),
        ("integer", {}, Decimal("1E+2"), 100),
        ("integer", {}, -(2**31), -(2**31)),
        ("bigint", {}, 2**63 - 1, 2**63 - 1),
        ("bigint", {}, 2**53 + 1, 2**53 + 1),
        ("bigint", {"asString": True}, "-9223372036854775808", -(2**63)),
        ("decimal", {"precision": 5, "scale": 2}, 1, Decimal("1.00")),
        ("decimal", {"precision": 5, "scale": 2}, Decimal("1.500"), Decimal("1.50")),
        ("decimal", {"precision": 5, "scale": 2}, Decimal("-999.99"), Decimal("-999.99")),
        ("decimal", {"precision": 5, "scale": 2}, Decimal("-0.000"), Decimal("0.00")),
        ("decimal", {"precision": 3}, Decimal("1E+2"), Decimal("100")),
        ("decimal", {"asString": True}, "12.500", Decimal("12.500")),
        ("float", {}, 1, 1.0),
        ("float", {}, Decimal("1e308"), 1e308),
        ("boolean", {}, False, False),
        ("string", {}, "", ""),
        ("string", {"maxLength": 2}, "😀é", "😀é"),
        ("date", {}, "2024-02-29", datetime.date(2024, 2, 29)),
        ("time", {}, "23:59:59.5", datetime.time(23, 59, 59, 500_000)),
        ("datetime", {}, "2025-01-31T09:00:00+01:00", datetime.datetime(2025, 1, 31, 8, tzinfo=UTC)),
        (
            "datetime",
            {},
            "2025-01-31t08:00:00.123456000z",
            datetime.datetime(2025, 1, 31, 8, 0, 0, 123456, UTC),
        ),
        (
            "uuid",
            {},
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ),
        ("ulid", {}, "01arz3ndektsv4rrffq69g5fav", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ("json", {}, [1, {"a": None}], [1, {"a": None}]),
    ],
)
def test_a_value_of_the_field_becomes_its_python_value(
    kind: str, options: Any, value: Any, result: Any
) -> None:
    found = accept(field(kind, **options), value)
    assert found == result
    assert type(found) is type(result)
    assert str(found) == str(result)


@settings(max_examples=400, deadline=None)
@given(
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-2_000, max_value=2_000, places=4)
    | st.integers(-2_000, 2_000)
    | st.decimals(allow_nan=True, allow_infinity=True),
    st.sampled_from([None, -50, Decimal("-0.5"), 0, 7]),
    st.sampled_from([None, 0, 999, Decimal("12.34")]),
    st.sampled_from([None, None, 3]),
)
def test_numbers_are_judged_by_type_precision_and_bounds_alike_whichever_way_they_take(
    value: Any, low: Any, high: Any, step: Any
) -> None:
    bounds = {"minimum": low, "maximum": high, "multipleOf": step}
    options = {key: bound for key, bound in bounds.items() if bound is not None}
    number = Decimal(value)
    within = number.is_finite() and not (
        (low is not None and number < low) or (high is not None and number > high)
    )
    exact = Fraction(number) if within and abs(number) < 2**31 else None
    if step is not None and exact is not None and exact % step:
        exact = None
    whole = exact is not None and exact.denominator == 1
    places = exact is not None and abs(exact) < 1_000 and (exact * 100).denominator == 1
    for kind, more, fits in (("integer", {}, whole), ("decimal", {"precision": 5, "scale": 2}, places)):
        definition = field(kind, **options, **more)
        if fits:
            found = accept(definition, value)
            assert found == number
            assert type(found) is int if kind == "integer" else Decimal(found).as_tuple().exponent == -2
        else:
            assert codes(definition, value), (kind, value, options)


def test_defaults_and_constraints_written_in_the_manifest_are_python_values_too() -> None:
    definition = field("decimal", precision=4, scale=1)
    assert definition.type.default_value(2, definition) == Decimal("2.0")
    with pytest.raises(ValueError, match="decimal places"):
        definition.type.default_value(Decimal("2.05"), definition)
    definition = field("array", items=field("integer"))
    with pytest.raises(ValueError, match="integer"):
        definition.type.default_value(["x"], definition)


NOT_INTEGERS = [Decimal("1.5"), "1", True, None, [], {}, "1_000", "\uff11\uff12", " 7 "]


@pytest.mark.parametrize(
    ("kind", "options", "value", "code"),
    [
        *[("integer", {}, value, "null" if value is None else "type") for value in NOT_INTEGERS],
        ("integer", {}, 2**31, "out_of_range"),
        ("integer", {}, Decimal("1E+300"), "out_of_range"),
        ("bigint", {}, 2**63, "out_of_range"),
        ("bigint", {}, -(2**63) - 1, "out_of_range"),
        ("bigint", {}, 10**399, "out_of_range"),
        ("bigint", {"asString": True}, 5, "type"),
        ("bigint", {"asString": True}, "05", "type"),
        ("bigint", {"asString": True}, "9223372036854775808", "out_of_range"),
        ("decimal", {"precision": 5, "scale": 2}, Decimal("1.005"), "out_of_range"),
        ("decimal", {"precision": 5, "scale": 2}, 1_000, "out_of_range"),
        ("decimal", {"precision": 5, "scale": 2}, Decimal("1E+131072"), "out_of_range"),
        ("decimal", {}, Decimal("1E+1000000"), "out_of_range"),
        ("decimal", {}, Decimal("1E-131072"), "out_of_range"),
        ("decimal", {}, "1.5", "type"),
        ("decimal", {}, True, "type"),
        ("decimal", {"asString": True}, Decimal("1.5"), "type"),
        ("decimal", {"asString": True}, "1_0", "type"),
        ("decimal", {"asString": True}, "1e131072", "out_of_range"),
        ("decimal", {"asString": True}, "NaN", "type"),
        ("float", {}, 10**309, "out_of_range"),
        ("float", {}, Decimal("1E-399"), "out_of_range"),
        ("float", {}, "1.5", "type"),
        ("float", {}, math.nan, "out_of_range"),
        *[("boolean", {}, value, "type") for value in (1, 0, Decimal("1.0"), "on", "YES", "t", "true", "")],
        ("string", {}, 1, "type"),
        ("string", {}, "a\x00b", "format"),
        ("string", {}, "\ud800", "format"),
        ("string", {}, "x" * 256, "too_long"),
        ("text", {}, "x" * 1_000_001, "too_long"),
        ("text", {}, "\udfff", "format"),
        ("string", {"minLength": 1}, "", "too_short"),
        ("string", {"pattern": "^[A-Z]+$"}, "a", "pattern"),
        ("string", {"pattern": "^[A-Z]+$"}, "A\n", "pattern"),
        ("string", {"enum": ("a", "b")}, "c", "enum"),
        ("string", {"index": True, "maxLength": 2000}, "é" * 1_301, "too_long"),
        ("integer", {"minimum": 1}, 0, "out_of_range"),
        ("integer", {"exclusiveMaximum": 5}, 5, "out_of_range"),
        ("integer", {"multipleOf": 3}, 4, "multiple_of"),
        ("decimal", {"multipleOf": Decimal("0.05")}, Decimal("0.07"), "multiple_of"),
        ("float", {"maximum": Decimal("0.1")}, Decimal("0.2"), "out_of_range"),
        ("date", {}, "2025-02-29", "format"),
        ("date", {}, "2025-1-1", "format"),
        ("date", {}, "20250101", "format"),
        ("date", {}, "0000-01-01", "format"),
        ("date", {}, "infinity", "format"),
        ("date", {}, 5, "type"),
        ("date", {}, datetime.datetime(2025, 1, 1), "type"),
        ("time", {}, "24:00:00", "format"),
        ("time", {}, "08:00", "format"),
        ("time", {}, "08:00:00Z", "format"),
        ("datetime", {}, "2025-01-31T08:00:00", "format"),
        ("datetime", {}, "2025-01-31 08:00:00Z", "format"),
        ("datetime", {}, "2025-02-30T08:00:00Z", "format"),
        ("datetime", {}, "2025-01-31T08:00:60Z", "format"),
        ("datetime", {}, "2025-01-31T08:00:00.1234567Z", "format"),
        ("datetime", {}, "0001-01-01T00:00:00+00:01", "out_of_range"),
        ("datetime", {}, "9999-12-31T23:59:59-00:01", "out_of_range"),
        ("datetime", {}, "infinity", "format"),
        ("datetime", {}, datetime.datetime(2025, 1, 1), "type"),
        ("uuid", {}, "a0eebc999c0b4ef8bb6d6bb9bd380a11", "format"),
        ("uuid", {}, "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "format"),
        ("uuid", {}, 5, "type"),
        ("ulid", {}, "81ARZ3NDEKTSV4RRFFQ69G5FAV", "format"),
        ("ulid", {}, "01ARZ3NDEKTSV4RRFFQ69G5FAU", "format"),
        ("ulid", {}, "01ARZ3NDEKTSV4RRFFQ69G5FA\u0131", "format"),
        ("json", {}, {"a": ["\x00"]}, "format"),
        ("json", {}, {"a\x00": 1}, "format"),
        ("json", {}, ["\ud800"], "format"),
        ("json", {}, {"a": datetime.date(2025, 1, 1)}, "type"),
        ("json", {}, [math.inf], "out_of_range"),
        ("json", {}, [Decimal("1E+308")] * 400, "too_long"),
        ("json", {}, json.loads("[" * 33 + "]" * 33), "too_deep"),
        ("array", {}, "abc", "type"),
        ("array", {}, [1] * 1_001, "too_many"),
        ("array", {"minItems": 1}, [], "too_few"),
        ("array", {"uniqueItems": True}, [1, True, Decimal("1.0")], "unique_items"),
        ("array", {}, [None], "null"),
        ("object", {}, [], "type"),
        ("object", {"maxProperties": 1, "additional_properties": True}, {"a": 1, "b": 1}, "too_many"),
        ("object", {"minProperties": 1}, {}, "too_few"),
    ],
)
def test_what_is_not_a_value_of_the_field_is_refused(kind: str, options: Any, value: Any, code: str) -> None:
    assert codes(field(kind, **options), value) == [code]


def test_true_and_one_are_different_items() -> None:
    assert accept(field("array", uniqueItems=True), [1, True, "1", [1], {"a": 1}, {"a": True}])


ADDRESS = field(
    "object",
    properties={
        "street": FieldDefinition(
            name="street", column="", type=FIELD_TYPES["string"], required=True, nullable=False
        ),
        "since": FieldDefinition(name="since", column="", type=FIELD_TYPES["datetime"]),
        "country": FieldDefinition(name="country", column="", type=FIELD_TYPES["string"], default="SE"),
        "tags": field("array", items=field("decimal", precision=4, scale=2)),
    },
)


def test_an_object_is_judged_property_by_property() -> None:
    assert accept(ADDRESS, {"street": "x", "since": "2025-01-31T09:00:00+01:00"}) == {
        "street": "x",
        "since": datetime.datetime(2025, 1, 31, 8, tzinfo=UTC),
        "country": "SE",
    }
    with pytest.raises(marshmallow.ValidationError) as caught:
        accept(ADDRESS, {"since": "x", "contry": 1, "country": 5, "tags": [1, Decimal("1.005"), None]})
    messages: Any = caught.value.messages
    assert {name: _codes(inner) for name, inner in messages.items()} == {
        "street": ["required"],
        "since": ["format"],
        "country": ["type"],
        "tags": ["out_of_range", "null"],
        "contry": ["unknown_field"],
    }
    assert list(messages["tags"]) == [1, 2]
    assert "Did you mean 'country'?" in messages["contry"][0]


def test_of_very_many_faults_in_one_value_the_first_are_told_and_all_are_counted() -> None:
    tags = field("array", items=field("integer"), maxItems=10_000)
    with pytest.raises(marshmallow.ValidationError) as caught:
        accept(tags, [1, *("x" for _ in range(5_000)), None])
    messages: Any = caught.value.messages
    assert len(messages) == 101 and count_faults(messages) == 5_001
    refusal = refuse(details_of({"f": messages}, "", ["f"], []))
    assert [detail.field for detail in refusal.details] == [f"f.{place}" for place in range(1, 101)]
    assert "5001 faults, of which the first 100 are listed" in refusal.message
    with pytest.raises(marshmallow.ValidationError) as caught:
        accept(ADDRESS, {"street": 1, **{f"x{n}": n for n in range(5_000)}})
    messages = caught.value.messages
    assert len(messages) == 102 and count_faults(messages) == 5_001
    rows = field("array", items=ADDRESS, maxItems=1_000)
    with pytest.raises(marshmallow.ValidationError) as caught:
        accept(rows, [{"x": 1, "y": 2}] * 200)  # and no street
    assert count_faults(caught.value.messages) == 600


def test_an_open_object_keeps_what_it_does_not_name_but_nothing_jsonb_cannot_hold() -> None:
    definition = field("object", additional_properties=True)
    assert accept(definition, {"a": [1]}) == {"a": [1]}
    assert codes(definition, {"a": "\x00"}) == ["format"]


def test_a_default_is_not_shared_between_values() -> None:
    definition = field(
        "object",
        properties={"list": FieldDefinition(name="list", column="", type=FIELD_TYPES["json"], default=[])},
    )
    accept(definition, {})["list"].append(1)
    assert accept(definition, {}) == {"list": []}


def test_marshmallows_own_hooks_work_on_a_strict_field() -> None:
    strict = StrictField(
        str.strip,
        validate=marshmallow.validate.Length(max=2),
        allow_none=True,
        post_load=lambda value: value or "-",
    )
    assert strict.deserialize(" ab ") == "ab"
    assert strict.deserialize("") == "-"
    assert strict.deserialize(None) is None
    for options in ({"required": True}, {}):
        value = marshmallow.missing if options else None
        with pytest.raises(marshmallow.ValidationError):
            StrictField(str.strip, post_load=str, **options).deserialize(value)


# --- query parameters ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "text", "value"),
    [
        (field("integer"), "-5", -5),
        (field("bigint"), "0", 0),
        (field("decimal", precision=4, scale=2), "5.1234", Decimal("5.1234")),
        (field("decimal"), "-0.0", Decimal("0.0")),
        (field("float"), "1e3", 1000.0),
        (field("boolean"), "true", True),
        (field("string", maxLength=1), "as long as it likes", "as long as it likes"),
        (field("date"), "2025-01-31", datetime.date(2025, 1, 31)),
        (field("time"), "08:00:00", datetime.time(8)),
        (field("datetime"), "2025-01-31T08:00:00Z", datetime.datetime(2025, 1, 31, 8, tzinfo=UTC)),
        (field("json"), "5", 5),
        (field("json"), "red", "red"),
        (field("json"), '"5"', "5"),
    ],
)
def test_a_parameter_is_read_by_the_fields_type(definition: FieldDefinition, text: str, value: Any) -> None:
    found = definition.type.from_text(text, definition)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "definition", [field("array", items=field("integer")), field("array"), field("object")]
)
def test_no_text_is_an_array_or_an_object(definition: FieldDefinition) -> None:
    with pytest.raises(FieldFault) as refused:
        definition.type.from_text("5", definition)
    assert refused.value.code == "type"


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (
            "integer",
            ["", "+1", "1.0", "1e2", "01", " 1", "1_0", "\uff11", "true", "99999999999", "9" * 5_000],
        ),
        ("bigint", ["9223372036854775808", "x", "-"]),
        ("decimal", ["", ".5", "1.", "1e5", "NaN", "Infinity", "1_0", "9" * 900, "\uff11"]),
        ("float", ["", "nan", "inf", "1e400", "0x1", "1_0", ".5", "9" * 100_000, "1e-400"]),
        ("boolean", ["", "1", "True", "yes", "on"]),
        ("string", ["\x00", "\ud800"]),
        ("date", ["", "today", "2025-13-01"]),
        ("time", ["", "25:00:00", "08:00:00+01:00"]),
        ("datetime", ["", "2025-01-31", "now"]),
        ("uuid", ["", "x"]),
        ("ulid", ["", "x"]),
        ("json", ["null", "\x00", "\ud800", '"\\u0000"']),
        ("object", ["\x00"]),
    ],
)
def test_a_parameter_that_is_no_value_is_refused_with_a_message(kind: str, texts: list[str]) -> None:
    definition = field(kind)
    for text in texts:
        with pytest.raises(ValueError) as caught:
            definition.type.from_text(text, definition)
        assert isinstance(caught.value, FieldFault)
        assert len(str(caught.value)) < 200


# --- formats, patterns, checks ------------------------------------------------------------

GOOD_AND_BAD = {
    "color": (["#fff", "#A0B1C2"], ["fff", "#ff", "#ggg"]),
    "date": (["2025-01-31"], ["2025-02-30"]),
    "date-time": (["2025-01-31T08:00:00Z"], ["2025-01-31T08:00:00"]),
    "email": (
        ["a@b.se", "a.b+c@x-y.example.com"],
        ["a", "@b.se", "a@b", "a@b.se.", "a..b@c.se", ".a@b.se", "a@-b.se", "é@b.se"],
    ),
    "hostname": (["a", "a-b.example.com", "a.b."], ["", "-a", "a..b", "a_b", "x" * 64]),
    "ipv4": (["192.0.2.1"], ["192.0.2", "256.0.0.1", "0x7f.1", "01.2.3.4"]),
    "ipv6": (["::1", "2001:db8::1"], ["::g", "1::2::3", "fe80::1%eth0", "192.0.2.1"]),
    "language": (["en", "sv-SE", "zh-Hant-TW"], ["e", "en_US", ""]),
    "slug": (["a", "a-b-1"], ["A", "a--b", "-a", "a_b"]),
    "time": (["08:00:00"], ["8:00"]),
    "uri": (
        ["https://example.com/a?b=c#d", "urn:isbn:0451450523"],
        ["/a", "a b:c", "http:", "https://[", "http://é", "%zz:"],
    ),
    "uri-reference": (["/a", "../b", "https://example.com", ""], ["a b", "\\a", "%g", "http://["]),
    "uuid": (["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"], ["a0eebc999c0b4ef8bb6d6bb9bd380a11", "x" * 36]),
}  # fmt: skip


@pytest.mark.parametrize("word", sorted(FORMATS))
def test_a_format_word_knows_good_from_bad(word: str) -> None:
    good, bad = GOOD_AND_BAD[word]
    assert [text for text in good if not FORMATS[word](text)] == []
    assert [text for text in bad if FORMATS[word](text)] == []


@pytest.mark.parametrize(
    "text", ["a" * 100_000, "a@" * 50_000, "@" * 100_000, "." * 100_000, "::" * 50_000, "%" * 99_999]
)
def test_formats_and_patterns_judge_hostile_text_quickly(text: str) -> None:
    pattern = compile_pattern(r"^[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}$")
    with computing() as taken:
        for check in FORMATS.values():
            check(text)
        pattern(text)
    assert taken.seconds < 0.6


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a*)*",
        "([a-z]+)*x",
        "((a+)b?)+",
        r"(\w+\s?)*",
        "(?:a+){2,}",
        "(a",
        "(?=a)b",
        r"(a)\1",
        "a{9999999}",
    ],
)
def test_a_pattern_that_can_run_away_or_is_none_is_refused(pattern: str) -> None:
    assert pattern_problem(pattern) is not None
    assert field("string", pattern=pattern).type.check(field("string", pattern=pattern))
    with pytest.raises(ValueError, match="pattern"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["^[A-Z][A-Z0-9_]{2,49}$", "(foo|bar)+", r"^\d+(\.\d+)?$", "^(a+b)?[+*]+$", r"(\(a+\))b+"]
)
def test_an_ordinary_pattern_is_usable(pattern: str) -> None:
    assert pattern_problem(pattern) is None


def test_a_pattern_is_searched_for_as_json_schema_says() -> None:
    assert accept(field("string", pattern="b"), "abc") == "abc"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("string", {"minLength": 5, "maxLength": 4}),
        ("string", {"minLength": 300}),
        ("string", {"maxLength": 0}),
        ("string", {"maxLength": True}),
        ("string", {"maxLength": 2_001, "index": True}),
        ("string", {"format": "e-mail"}),
        ("text", {"unique": Within.SCOPE}),
        ("integer", {"minimum": 5, "maximum": 4}),
        ("integer", {"minimum": "1"}),
        ("integer", {"minimum": 2**31}),
        ("integer", {"exclusiveMinimum": 5, "maximum": 5}),
        ("integer", {"multipleOf": 0}),
        ("decimal", {"scale": 2}),
        ("decimal", {"precision": 2, "scale": 3}),
        ("decimal", {"precision": 1_001}),
        ("array", {"minItems": 2, "maxItems": 1}),
        ("array", {"minItems": -1}),
        ("array", {"items": field("string", maxLength=0)}),
        ("object", {"minProperties": "x"}),
        ("object", {"properties": {"a": field("integer", minimum=2, maximum=1)}}),
    ],
)
def test_constraints_that_cannot_hold_are_reported(kind: str, options: Any) -> None:
    definition = field(kind, **options)
    assert definition.type.check(definition)


# --- documentation ------------------------------------------------------------------------

DOCUMENTED = [
    *[field(kind) for kind in FIELD_TYPES],
    field("integer", minimum=3, multipleOf=5),
    field("integer", maximum=-3),
    field("integer", exclusiveMinimum=10),
    field("bigint", asString=True),
    field("decimal", precision=6, scale=2, minimum=Decimal("0.5")),
    field("decimal", precision=6, scale=2, asString=True),
    field("float", exclusiveMinimum=Decimal("0.5")),
    field("string", minLength=20),
    field("array", items=field("integer", minimum=7), minItems=2),
    ADDRESS,
    *[field("string", format=word) for word in sorted(FORMATS)],
]


@pytest.mark.parametrize("definition", DOCUMENTED, ids=lambda one: f"{one.type.name} {dict(one.constraints)}")
def test_the_example_fits_the_schema_and_is_accepted(definition: FieldDefinition) -> None:
    kind = definition.type
    assert kind.check(definition) == []
    example = wire.loads(wire.dumps(kind.example(definition)))
    accept(definition, example)
    plain = json.loads(wire.dumps(example))
    jsonschema.Draft202012Validator(json.loads(wire.dumps(kind.json_schema(definition)))).validate(plain)
    assert set(kind.constraints_schema()) == set(kind.constraint_keys)


# --- the same bytes as PostgreSQL ---------------------------------------------------------


@pytest.fixture(scope="module")
async def connection(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[asyncpg.Connection]:
    folder: Path = tmp_path_factory.mktemp("fields")
    async with EmbeddedPostgres(folder, durable=False).running() as server:
        connected = await asyncpg.connect(server.uri("postgres", "postgres"), statement_cache_size=0)
        for name, (encoder, decoder) in CALENDAR_CODECS.items():
            await connected.set_type_codec(
                name, schema="pg_catalog", encoder=encoder, decoder=decoder, format="tuple"
            )
        yield connected
        await connected.close()


async def stored(connection: asyncpg.Connection, definition: FieldDefinition, values: list[Any]) -> list[str]:
    """Store Python values in a column of the field's type; return what `row_to_json` shows."""
    kind = definition.type
    table = sa.Table(
        "t", sa.MetaData(), sa.Column("o", sa.Integer), sa.Column("f", kind.column_type(definition))
    )
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    await connection.execute("drop table if exists t")
    await connection.execute(str(sa.schema.CreateTable(table).compile(dialect=dialect)))
    rows = [(position, kind.bind(value, definition)) for position, value in enumerate(values)]
    await connection.executemany("insert into t values ($1, $2)", rows)
    shown = kind.json_expression(table.c.f, definition).label("f")
    inner = sa.select(shown).order_by(table.c.o).compile(dialect=dialect)
    found = await connection.fetch(f"select row_to_json(x)::text as j from ({inner}) x")
    return [row["j"] for row in found]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False).filter(
    lambda number: abs(number.adjusted()) < 300
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False) | st.builds(
    math.ldexp, st.integers(-(2**20), 2**20).map(float), st.integers(-80, 80)
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
MOMENTS = st.datetimes(timezones=st.just(UTC)) | st.sampled_from(
    [datetime.datetime.max.replace(tzinfo=UTC), datetime.datetime.min.replace(tzinfo=UTC)]
)
SAMPLES: dict[str, tuple[FieldDefinition, st.SearchStrategy[Any]]] = {
    "string": (field("string"), TEXTS),
    "text": (field("text"), TEXTS),
    "integer": (field("integer"), st.integers(-(2**31), 2**31 - 1)),
    "bigint": (field("bigint"), st.integers(-(2**63), 2**63 - 1)),
    "bigint as string": (field("bigint", asString=True), st.integers(-(2**63), 2**63 - 1).map(str)),
    "decimal": (field("decimal"), NUMBERS),
    "decimal(12,2)": (
        field("decimal", precision=12, scale=2),
        st.decimals(-9999999999, 9999999999, places=2) | st.integers(-9999999999, 9999999999),
    ),
    "decimal as string": (
        field("decimal", precision=30, scale=10, asString=True),
        st.decimals(-(10**19), 10**19, places=9).map(lambda number: format(number, "f")),
    ),
    "float": (field("float"), FLOATS.map(lambda number: Decimal(repr(number)))),
    "boolean": (field("boolean"), st.booleans()),
    "date": (field("date"), (st.dates() | st.sampled_from([datetime.date.max, datetime.date.min])).map(str)),
    "time": (field("time"), st.times().map(lambda value: value.isoformat())),
    "datetime": (field("datetime"), MOMENTS.map(lambda value: value.isoformat())),
    "uuid": (field("uuid"), st.uuids().map(lambda value: str(value).upper())),
    "ulid": (
        field("ulid"),
        st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=25, max_size=25).map("7".__add__),
    ),
    "json": (field("json"), DOCUMENTS.filter(lambda value: value is not None)),
    "array": (
        field("array", items=field("datetime")),
        st.lists(MOMENTS.map(lambda value: value.isoformat())),
    ),
    "object": (
        ADDRESS,
        st.fixed_dictionaries(
            {"street": TEXTS},
            optional={"since": MOMENTS.map(lambda value: value.isoformat()), "country": st.none() | TEXTS},
        ),
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
async def test_both_writers_show_the_same_bytes_and_what_was_accepted_comes_back(
    name: str, connection: asyncpg.Connection
) -> None:
    definition, values = SAMPLES[name]
    batches: list[list[Any]] = []

    @settings(
        max_examples=12,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(values, min_size=8, max_size=25))
    def collect(batch: list[Any]) -> None:
        batches.append(batch)

    collect()
    sent = [value for batch in batches for value in batch]
    accepted = [accept(definition, wire.loads(wire.dumps(value))) for value in sent]
    shown = await stored(connection, definition, accepted)
    written = [wire.dump_row({"f": value}, {"f": definition}).decode() for value in accepted]
    assert written == shown
    for text, value in zip(shown, accepted, strict=True):
        found = definition.type.from_json(wire.loads(text.encode())["f"], definition)
        assert found == value
        assert accept(definition, wire.loads(text.encode())["f"]) == value, "what was read can be put back"


async def test_floats_have_postgresqls_digits_where_pythons_differ(connection: asyncpg.Connection) -> None:
    numbers = [
        math.ldexp(1 + step / 2**20, power) for power in range(50, 62) for step in range(0, 2**20, 4_001)
    ]
    numbers += [math.ldexp(1, power) for power in range(-1074, 1024)] + [
        2.612958441690948e17,
        -3.070750624916741e16,
    ]
    definition = field("float")
    shown = await stored(connection, definition, numbers)
    assert [wire.dump_row({"f": number}, {"f": definition}).decode() for number in numbers] == shown


async def test_the_first_and_the_last_day_are_stored_as_days_and_not_as_infinity(
    connection: asyncpg.Connection,
) -> None:
    days = field("date")
    assert await stored(connection, days, [datetime.date.max, datetime.date.min]) == [
        '{"f":"9999-12-31"}',
        '{"f":"0001-01-01"}',
    ]
    moments = field("datetime")
    ends = [datetime.datetime.max.replace(tzinfo=UTC), datetime.datetime.min.replace(tzinfo=UTC)]
    assert await stored(connection, moments, ends) == [
        '{"f":"9999-12-31T23:59:59.999999Z"}',
        '{"f":"0001-01-01T00:00:00.000000Z"}',
    ]
    assert await connection.fetch("select f from t") == [(end,) for end in ends]


async def test_null_is_null_for_every_type(connection: asyncpg.Connection) -> None:
    for kind in FIELD_TYPES:
        definition = field(kind)
        assert await stored(connection, definition, [None]) == ['{"f":null}']
        assert wire.dump_row({"f": None}, {"f": definition}) == b'{"f":null}'


async def test_an_indexed_text_of_the_greatest_length_fits_its_index(connection: asyncpg.Connection) -> None:
    definition = field("string", index=True, maxLength=2_000)
    assert definition.type.check(definition) == []
    noise = "".join(chr(0x10000 + (position * 7_919) % 60_000) for position in range(650))
    await stored(connection, definition, [accept(definition, noise)])
    await connection.execute("create index on t (o, f)")
    assert codes(definition, noise + noise) == ["too_long"]


@pytest.mark.parametrize(
    ("kind", "options", "value", "told"),
    [
        ("datetime", {}, "2025-01-31T08:00:00.1234567Z", "at most six digits of seconds"),
        ("datetime", {}, "2025-02-30T08:00:00Z", "a day of the calendar"),
        ("decimal", {"asString": True}, "1e2", "without an exponent, in at most 800 characters"),
        ("decimal", {"asString": True}, "1" * 801, "without an exponent, in at most 800 characters"),
        ("float", {"exclusiveMaximum": 1e300}, 1e301, "Must be below 1E+300."),
        ("integer", {"minimum": 1_000_000}, 1, "Must be at least 1000000."),
    ],
)
def test_a_refusal_says_what_was_expected(kind: str, options: dict[str, Any], value: Any, told: str) -> None:
    with pytest.raises(marshmallow.ValidationError) as caught:
        accept(field(kind, **options), value)
    assert told in str(caught.value)
