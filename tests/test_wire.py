"""The wire format: what is read, what is refused, and which bytes go out."""

from __future__ import annotations

import datetime
import enum
import json
import math
import sys
import time
import uuid
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byodpp import json_bounds, wire
from byodpp.exceptions import ApiError, DuplicateKey, InvalidEncoding, MalformedJson, PayloadTooLarge, TooDeep
from tests.computing import computing

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=6)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"{",
        b"[1,]",
        b'{"a":1,}',
        b"{}x",
        b"{'a':1}",
        b"// no",
        b'{"a" 1}',
        b"[1 2]",
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"tru",
        b'"\x01"',
        b'"\\x"',
        b"]",
        b"[[]]]",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b"-1e309",
        b"1e-9999",
        b"0e-99999",
        b"1" * 401,
        b"0." + b"1" * 400,
        b"1e" + b"9" * 300,
        b"\xc2\xa0{}",
    ],
)
def test_a_body_that_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        wire.loads(body)


@pytest.mark.parametrize(
    "body",
    [b"\xff", b'"\xc0\xaf"', b'"\xed\xa0\x80"', b"\xef\xbb\xbf{}", '{"a":1}'.encode("utf-16"), b'"\xe4"']
    + ['{"a":1}'.encode(name) for name in ("utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")],
)
def test_a_body_that_is_not_plain_utf8_is_an_encoding_fault(body: bytes) -> None:
    with pytest.raises(InvalidEncoding):
        wire.loads(body)


@pytest.mark.parametrize("body", [b'{"a":1,"a":1}', b'{"a":1,"\\u0061":2}', b'[{"b":{"x":1,"a":2,"a":3}}]'])
def test_a_key_that_comes_twice_is_named(body: bytes) -> None:
    with pytest.raises(DuplicateKey, match='"a"'):
        wire.loads(body)


@pytest.mark.parametrize("shape", ["[{}]", '{{"a":{}}}'])
@pytest.mark.parametrize(("depth", "deep"), [(32, False), (33, True), (1_500, True), (100_000, True)])
def test_depth_is_bounded_exactly(shape: str, depth: int, deep: bool) -> None:
    before, after = shape.format("|").split("|") if "{}" in shape else ("", "")
    body = (before * depth + after * depth).encode().replace(b'"a":}', b'"a":1}')
    if deep:
        with pytest.raises(TooDeep):
            wire.loads(body)
    else:
        wire.loads(body)


def test_unfinished_nesting_is_refused_without_recursion() -> None:
    for opening in (b"[", b'{"a":', b'[{"a":'):
        with pytest.raises(TooDeep):
            wire.loads(opening * 100_000)
    with pytest.raises(ApiError):
        wire.loads(b"[" * 40 + b"]" * 20)


def test_brackets_in_strings_do_not_count_as_depth() -> None:
    assert wire.loads(json.dumps(["[" * 1_000, '\\"{' * 1_000]).encode()) == ["[" * 1_000, '\\"{' * 1_000]
    assert len(wire.loads(b"[" + b",".join([b'{"a":[1]}'] * 1_000) + b"]")) == 1_000


@pytest.mark.parametrize("escape", ["", "\\", '"'])
def test_brackets_in_strings_hide_no_depth_either(escape: str) -> None:
    """With and without an escape, which is read in another way."""
    word = json.dumps(f"]}}{escape}]")
    for depth, deep in ((32, False), (33, True)):
        body = (f"[{word}," * (depth - 1) + f"[{word}]" + "]" * (depth - 1)).encode()
        if deep:
            with pytest.raises(TooDeep):
                wire.loads(body)
        else:
            assert wire.loads(body)


_STRINGS = st.lists(st.sampled_from(["\\\\", '\\"', "\\n", "\\u005b", "a", ",", "[", "}"]), max_size=12).map(
    lambda parts: f'"{"".join(parts)}"'
)


@given(
    parts=st.lists(_STRINGS | st.sampled_from(["[", "]", "{", "}", ",", "1"]), max_size=12),
    piece=st.integers(1, 9),
)
def test_what_lies_in_strings_is_passed_over_wherever_pieces_end(parts: list[str], piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("byodpp.json_bounds._PIECE_BYTES", piece)
        found = b"".join(json_bounds._outside_strings("".join(parts).encode()))
    assert found.decode() == "".join(part for part in parts if not part.startswith('"'))


@pytest.mark.parametrize("unit", [b"\\\\", b'\\"', b"\\n", b"\\u005b", b"a", b"[", b'","'], ids=ascii)
def test_the_bounds_of_ten_megabytes_are_told_at_once_in_small_pieces(unit: bytes) -> None:
    body = b"[" * 33 + b'"' + unit * (10_000_000 // len(unit))
    began = time.thread_time()
    pieces = sum(1 for _ in json_bounds._outside_strings(body))
    # Some 0.05; a run that is walked byte by byte takes over a second.
    assert time.thread_time() - began < 0.6
    assert pieces >= len(body) // (json_bounds._PIECE_BYTES + 1)


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b"[]", 2),
        (b"[1,2,3]", 4),
        (b'{"a":[1,{"b":","}]}', 5),
        (b'["' + b'\\",[{' * 100_000 + b'",2]', 3),
        (b'["' + b"\\\\" * 200_000 + b'",2]', 3),
        (b'["' + b"a" * 262_141 + b'\\"",2]', 3),
        (b"[" + b'"[{,",' * 100_000 + b"1]", 100_002),
        (json.dumps([{"a,": ["x" * (number % 50)]} for number in range(20_000)]).encode(), 60_001),
    ],
    ids=lambda one: str(one)[:20],
)
def test_a_body_that_holds_more_values_than_it_may_is_refused(body: bytes, values: int) -> None:
    assert wire.loads(body, max_values=values) == wire.loads(body) == json.loads(body)
    with pytest.raises(PayloadTooLarge, match=f"more than {values - 1} values"):
        wire.loads(body, max_values=values - 1)


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * 1_000_000,
        b"[" * 2_000_000,
        b"[]" * 1_000_000,
        b'{"a":"' * 300_000,
        b"}" * 2_000_000,
        b"[" + b'"[",' * 500_000 + b"1]",
        b"[" * 33 + b"\\" * 1_000_000,
    ],
)
def test_hostile_bodies_are_judged_quickly(body: bytes) -> None:
    with computing() as taken:
        try:
            wire.loads(body)
        except ApiError as error:
            assert error.status == 400
    assert taken.seconds < 1


def test_the_keys_of_a_large_object_are_in_the_order_of_jsonb() -> None:
    value = {f"{'é' * (number % 3)}{number * 7919 % 50_021}": number for number in range(50_000)}
    ordered = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
    assert list(json.loads(wire.jsonb_text(value))) == ordered


def test_numbers_keep_their_digits() -> None:
    found = wire.loads(b"[1, 1.0, 1.50, 1e2, -0, 9007199254740993, 0.1234567890123456789012345, 1e-300]")
    assert [str(number) for number in found] == [
        "1", "1.0", "1.50", "1E+2", "0", "9007199254740993", "0.1234567890123456789012345", "1E-300",
    ]  # fmt: skip
    assert type(found[0]) is int
    assert type(found[1]) is Decimal


def test_long_integers_are_read_and_longer_ones_are_malformed_whatever_the_interpreter_allows() -> None:
    assert wire.loads(b"9" * 400) == 10**400 - 1
    limit = sys.get_int_max_str_digits()
    try:
        for digits in (640, 0):
            sys.set_int_max_str_digits(digits)
            for length in (401, 5_000, 100_000):
                with pytest.raises(MalformedJson):
                    wire.loads(b"-" + b"9" * length)
    finally:
        sys.set_int_max_str_digits(limit)


def test_what_only_postgresql_refuses_is_still_json() -> None:
    assert wire.loads(b'"\\u0000\\ud800"') == "\x00\ud800"


@given(JSON_VALUES)
def test_what_is_written_is_read_back_equal(value: Any) -> None:
    assert wire.loads(wire.dumps(value), max_depth=64) == value
    assert wire.loads(wire.jsonb_text(value).encode(), max_depth=64) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_with_400(body: bytes) -> None:
    try:
        value = wire.loads(body)
    except ApiError as error:
        assert error.status == 400
    else:
        assert wire.loads(wire.dumps(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_reads_back_as_itself(number: float) -> None:
    assert float(wire.float_text(number)) == number


class Colour(enum.StrEnum):
    RED = "red"


def test_every_kind_of_value_has_one_form() -> None:
    moment = datetime.datetime(2025, 1, 31, 9, 0, 0, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
    written = wire.dumps(
        {
            "b": [True, False, None],
            "n": [1, -0.0, 1.0, 1e15, 1.5e15, 1e-5, Decimal("1E+3"), Decimal("-0.00"), Decimal("1E-7")],
            "t": [moment, datetime.date(1, 1, 1), datetime.time(1, 2, 3)],
            "u": uuid.UUID("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
            "s": 'é\x01\x7f"\\/\n\u2028',
            "e": (Colour.RED, {2, 1}, MappingProxyType({})),
        }
    )
    assert written.decode() == (
        '{"b":[true,false,null],"n":[1,-0,1,1e+15,1.5e+15,1e-05,1000,0.00,0.0000001],'
        '"t":["2025-01-31T08:00:00.000005Z","0001-01-01","01:02:03.000000"],'
        '"u":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","s":"é\\u0001\x7f\\"\\\\/\\n\u2028","e":["red",[1,2],{}]}'
    )


def test_half_a_surrogate_pair_goes_out_as_an_escape() -> None:
    assert wire.dumps({"a\ud800": 1}) == b'{"a\\ud800":1}'


@pytest.mark.parametrize("value", [math.nan, math.inf, Decimal("NaN"), datetime.datetime(2025, 1, 1)])
def test_a_value_without_a_form_is_an_error(value: Any) -> None:
    with pytest.raises(ValueError):
        wire.dumps(value)


@pytest.mark.parametrize("value", [object(), {1: 2}, b"x"])
def test_a_type_without_a_form_is_an_error(value: Any) -> None:
    with pytest.raises(TypeError):
        wire.dumps(value)
    with pytest.raises(TypeError):
        wire.jsonb_text(value)


def test_jsonb_orders_keys_by_length_then_bytes() -> None:
    assert (
        wire.jsonb_text({"b": 1, "aa": [], "é": {}, "a": {"x": None}})
        == '{"a": {"x": null}, "b": 1, "aa": [], "é": {}}'
    )


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        (None, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_follows_rfc_7396(target: Any, patch: Any, merged: Any) -> None:
    assert wire.merge_patch(target, patch) == merged
