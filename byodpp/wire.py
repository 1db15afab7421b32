"""Strict JSON in, canonical JSON out: the only place that reads or writes the wire format.

In: the bytes of a body. Out of `loads`: str, int, Decimal, bool, None, list, dict. Refused with
400 are bytes that are not UTF-8 without a mark, an object that names a key twice, NaN and
numbers no double can hold, and nesting past a bound; with 413 more values than a bound. U+0000
and lone surrogates are JSON, so they pass here and the field types refuse them.

Out: the same bytes that PostgreSQL's `row_to_json` writes for the same row, so that a client
never sees which of the two wrote an answer. What a field's type has to say about its own form
(`to_json`, `write`) is asked of the type.
"""

from __future__ import annotations

import datetime
import heapq
import json
import math
import uuid
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, Final

from byodpp.exceptions import DuplicateKey, InvalidEncoding, MalformedJson
from byodpp.json_bounds import check_bounds, too_deep

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = [
    "MAX_NUMBER_LENGTH",
    "date_text",
    "datetime_text",
    "dump_row",
    "dumps",
    "float_text",
    "jsonb_text",
    "loads",
    "loads_part",
    "merge_patch",
    "number_text",
    "text",
    "time_text",
    "weight",
    "whole",
]

#: Characters of a number in a body; longer ones are refused as malformed. Far above every
#: numeric column, far below what makes `int()` slow or makes it raise.
MAX_NUMBER_LENGTH: Final = 400
#: Power of ten below which a number is refused: doubles end at 1e-324.
_MIN_EXPONENT: Final = -400

_UTC: Final = datetime.UTC
#: Keys that are sorted in one go, in some milliseconds.
_RUN: Final = 20_000


# --- in -------------------------------------------------------------------------------


def loads(body: bytes, *, max_depth: int = 32, max_values: int | None = None) -> Any:
    """Read a body.

    Args:
        body: the whole body, decompressed.
        max_depth: how many arrays and objects may lie in each other; `[1]` is 1.
        max_values: how many values it may hold; None: any number.

    Returns:
        The value; numbers with a point or an exponent are Decimal with the digits as sent.

    Raises:
        InvalidEncoding: not UTF-8, or UTF-8 with a byte order mark.
        DuplicateKey: an object names a key twice, whichever way it is escaped.
        TooDeep: nested past `max_depth`.
        PayloadTooLarge: it holds more than `max_values`.
        MalformedJson: anything else that is not one JSON value, or a number out of bounds.
    """
    text_of_body = _decode(body)
    check_bounds(body, max_depth=max_depth, max_values=max_values)
    try:
        return _DECODER.decode(text_of_body)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise MalformedJson(f"The body is not well-formed JSON: {_reason(error)} ({place}).") from None
    except RecursionError:
        raise too_deep(max_depth) from None


def loads_part(text_of_document: str, start: int, *, max_depth: int = 32) -> tuple[Any, int]:
    """Read one value inside a longer text.

    Args:
        text_of_document: of which more may follow.
        start: where the value begins.
        max_depth: as for `loads`.

    Returns:
        The value, and the place behind it.

    Raises:
        json.JSONDecodeError: there is no value, or it goes on behind the end of the text.
        DuplicateKey, TooDeep, MalformedJson: as for `loads`.
    """
    try:
        value, end = _DECODER.raw_decode(text_of_document, start)
    except RecursionError:
        raise too_deep(max_depth) from None
    if text_of_document.count("[", start, end) + text_of_document.count("{", start, end) > max_depth:
        check_bounds(text_of_document[start:end].encode("utf-8", "surrogatepass"), max_depth=max_depth)
    return value, end


def _decode(body: bytes) -> str:
    """Return the body as text; what looks like UTF-16 or UTF-32 is told from broken JSON."""
    if b"\x00" in body[:4] or body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise InvalidEncoding("The body must be UTF-8 without a byte order mark.")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise InvalidEncoding(f"The body is not valid UTF-8 (byte {error.start}).") from None


def _reason(error: json.JSONDecodeError) -> str:
    """Return what is wrong, in words that do not depend on the interpreter's version."""
    if not error.doc.strip(" \t\n\r"):
        return "it is empty"
    return error.msg[:1].lower() + error.msg[1:]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict, refusing a key that comes twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                shown = encode_basestring(key[:100])
                raise DuplicateKey(f"An object of the body names the key {shown} twice.")
            seen.add(key)
    return found


def _integer(digits: str) -> int:
    """Read an integer; the bound keeps `int()` fast and below the interpreter's own limit."""
    if len(digits) > MAX_NUMBER_LENGTH:
        raise MalformedJson(f"A number has more than {MAX_NUMBER_LENGTH} characters.")
    return int(digits)


def _decimal(digits: str) -> Decimal:
    """Read a number with a point or an exponent, keeping its digits."""
    if len(digits) > 18 or "e" in digits or "E" in digits:
        if len(digits) > MAX_NUMBER_LENGTH:
            raise MalformedJson(f"A number has more than {MAX_NUMBER_LENGTH} characters.")
        if math.isinf(float(digits)):
            raise MalformedJson("A number is too large for JSON's readers.")
        number = Decimal(digits)
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int) or not _MIN_EXPONENT - MAX_NUMBER_LENGTH <= exponent <= 308:
            raise MalformedJson("A number has an exponent out of bounds.")
        if number and number.adjusted() < _MIN_EXPONENT:
            raise MalformedJson("A number has an exponent out of bounds.")
        return number
    return Decimal(digits)


def _constant(word: str) -> Any:
    raise MalformedJson(f"{word} is not JSON.")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_decimal, parse_constant=_constant
)


def whole(value: Any) -> Any:
    """Return a number without a fraction as an int, 5.0 as 5, up to 20 digits; anything else as it is."""
    if isinstance(value, Decimal) and value.adjusted() < 20 and value == value.to_integral_value():
        return int(value)
    return value


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396); neither argument is changed.

    Args:
        target: what is stored; None when nothing is.
        patch: what was sent; a null in an object removes the key.
    """
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def weight(value: Any, most: int) -> int:
    """Return about how many characters a JSON value has; beyond `most` nothing more is counted."""
    found, waiting = 0, [value]
    while waiting and found <= most:
        one = waiting.pop()
        found += 1
        if isinstance(one, str):
            found += len(one)
        elif isinstance(one, Mapping):
            found += sum(map(len, one))
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return found


# --- out ------------------------------------------------------------------------------


def dumps(value: Any) -> bytes:
    """Write a value of Python types compactly, as PostgreSQL writes the same value.

    Raises:
        TypeError: the value holds something that has no form in JSON.
        ValueError: a float is not finite.
    """
    # A lone surrogate has no UTF-8; as `\\udxxx` it is valid JSON and the answer still goes out.
    return text(value).encode("utf-8", "backslashreplace")


def dump_row(row: Mapping[str, Any], fields: Mapping[str, FieldDefinition]) -> bytes:
    """Write a row of Python values, byte for byte as `row_to_json` writes it.

    Args:
        row: field names to Python values, in the order of output; a name that is no field
            (an included relation) is written as `dumps` writes it.
        fields: the resource's fields.
    """
    parts = []
    for name, value in row.items():
        definition = fields.get(name)
        written = (
            "null"
            if value is None
            else text(value)
            if definition is None
            else definition.type.write(value, definition)
        )
        parts.append(f"{encode_basestring(name)}:{written}")
    return ("{" + ",".join(parts) + "}").encode("utf-8", "backslashreplace")


def text(value: Any) -> str:
    """Write a value as `dumps` does, as text."""
    writer = _WRITERS.get(type(value))
    if writer is not None:
        return writer(value)
    for kind, inherited in _WRITERS.items():  # str enums, asyncpg's UUID, Row, …
        if isinstance(value, kind):
            return inherited(value)
    if isinstance(value, Mapping):
        return _write_object(value)
    if isinstance(value, frozenset | set):
        return _write_array(sorted(value))
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def jsonb_text(value: Any) -> str:
    """Write a JSON value as PostgreSQL's jsonb shows it: keys by length, then by bytes; spaced.

    Numbers keep their digits and lose their exponent; a float takes its shortest digits.

    Raises:
        TypeError: the value holds something that is no JSON value.
        ValueError: a float is not finite.
    """
    if not value and isinstance(value, dict):
        return "{}"  # the default of most documents
    if value is None or isinstance(value, bool | str):
        return text(value)
    if isinstance(value, int | Decimal | float):
        return number_text(value)
    if isinstance(value, Mapping):
        keys = _sorted([(len(encoded), encoded, key) for key in value for encoded in (_key_bytes(key),)])
        return "{" + ", ".join(f"{encode_basestring(k)}: {jsonb_text(value[k])}" for *_, k in keys) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(jsonb_text, value)) + "]"
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _sorted(keys: list[tuple[int, bytes, str]]) -> Iterable[tuple[int, bytes, str]]:
    """Sort; very many in runs, since nothing else gets its turn while one is sorted."""
    if len(keys) <= _RUN:
        return sorted(keys)
    return heapq.merge(*(sorted(keys[start : start + _RUN]) for start in range(0, len(keys), _RUN)))


def _key_bytes(key: str) -> bytes:
    if not isinstance(key, str):
        raise TypeError("keys of a JSON object are text")
    return key.encode("utf-8", "surrogatepass")


def number_text(number: int | Decimal | float) -> str:
    """Write a number as PostgreSQL's numeric: every digit, no exponent, no negative zero."""
    if isinstance(number, int):
        return int.__repr__(number)
    if isinstance(number, float):
        if not math.isfinite(number):
            raise ValueError("a number must be finite")
        number = Decimal(repr(number))
    elif not number.is_finite():
        raise ValueError("a number must be finite")
    written = format(number, "f")
    return written if number or written[0] != "-" else written[1:]


def float_text(number: float) -> str:
    """Write a double as PostgreSQL's float8: shortest digits, exponent below 1e-4 and from 1e15.

    PostgreSQL asks that the digits lie strictly inside the interval that reads back as the
    number, Python also takes its ends; in that rare case one digit more is needed.

    Raises:
        ValueError: the number is not finite.
    """
    if not math.isfinite(number):
        raise ValueError("a number must be finite")
    written = repr(number)
    # Only powers of two from 2**53 on, or far below 1, have ends with so few digits.
    if (abs(number) >= 9007199254740992.0 or "e-" in written) and _on_an_end(written, number):
        written = _inner_digits(number)
    if written.endswith(".0"):
        written = written[:-2]
    if 1e15 <= abs(number) < 1e16:
        sign, digits = ("-", written[1:]) if number < 0 else ("", written)
        significant = digits.rstrip("0")
        point = "." if len(significant) > 1 else ""
        return f"{sign}{significant[0]}{point}{significant[1:]}e+15"
    return written


def _on_an_end(written: str, number: float) -> bool:
    """Whether the digits lie exactly between the number and a neighbour."""
    shown, exact = Fraction(written), Fraction(number)
    if shown == exact:
        return False
    other = math.nextafter(number, math.inf if shown > exact else -math.inf)
    return math.isfinite(other) and 2 * shown == exact + Fraction(other)


def _inner_digits(number: float) -> str:
    """Return the fewest digits that lie inside the interval, nearest to the number."""
    for precision in range(17):
        written = f"{number:.{precision}e}"
        if float(written) == number and not _on_an_end(written, number):
            mantissa, _, exponent = written.partition("e")
            return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{exponent}"
    return f"{number:.16e}"


def datetime_text(moment: datetime.datetime) -> str:
    """Write a moment in UTC with six digits of seconds and `Z`.

    Raises:
        ValueError: the moment has no offset.
    """
    if moment.tzinfo is not _UTC:
        if moment.tzinfo is None:
            raise ValueError("a datetime needs an offset")
        moment = moment.astimezone(_UTC)
    return moment.replace(tzinfo=None).isoformat("T", "microseconds") + "Z"


def date_text(day: datetime.date) -> str:
    """Write a date as YYYY-MM-DD."""
    return day.isoformat()


def time_text(time: datetime.time) -> str:
    """Write a time of day with six digits of seconds."""
    return time.replace(tzinfo=None).isoformat("microseconds")


def _write_object(value: Mapping[str, Any]) -> str:
    parts = []
    for key, item in value.items():
        if not isinstance(key, str):
            raise TypeError("keys of a JSON object are text")
        parts.append(f"{encode_basestring(key)}:{text(item)}")
    return "{" + ",".join(parts) + "}"


def _write_array(value: Any) -> str:
    return "[" + ",".join(map(text, value)) + "]"


# Order matters for subclasses: bool before int, datetime before date.
_WRITERS: Final[Mapping[type, Callable[[Any], str]]] = {
    str: encode_basestring,
    type(None): lambda _: "null",
    bool: lambda value: "true" if value else "false",
    int: int.__repr__,
    Decimal: number_text,
    float: float_text,
    dict: _write_object,
    list: _write_array,
    tuple: _write_array,
    datetime.datetime: lambda value: f'"{datetime_text(value)}"',
    datetime.date: lambda value: f'"{date_text(value)}"',
    datetime.time: lambda value: f'"{time_text(value)}"',
    uuid.UUID: lambda value: f'"{uuid.UUID.__str__(value)}"',
}
