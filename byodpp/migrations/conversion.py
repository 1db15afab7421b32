"""Types of columns: which one takes every value of another, and how values become another type's."""

from __future__ import annotations

import math
import re
from typing import Final

__all__ = ["converted", "is_widening", "keeps_values", "loss"]

_INTEGERS: Final = ("smallint", "integer", "bigint")
#: Types whose values PostgreSQL converts into each other; between all others it goes through text.
_CASTABLE: Final = (
    frozenset({*_INTEGERS, "numeric", "real", "double precision"}),
    frozenset({"boolean", "integer"}),
    frozenset({"date", "timestamp with time zone"}),
)
#: How the API writes values that PostgreSQL writes by the session's settings, or with fewer digits.
_WRITTEN: Final = {
    "timestamp with time zone": """to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""",
    "time without time zone": "to_char({0}, 'HH24:MI:SS.US')",
}


def converted(value: str, old: str, new: str, *, array: bool = False) -> str:
    """Return the SQL of a value in another type; PostgreSQL has a cast for some pairs only.

    Args:
        value: the column, as SQL.
        old: its type, as format_type writes it.
        new: the type it gets.
        array: the new type is jsonb and holds arrays: a value becomes the only item of one.
    """
    if "bytea" in (old, new):
        return f"NULL::{new}"  # encrypted on one side: nothing but the application can turn one into the other
    if old in _WRITTEN and (new == "jsonb" or _is_text(new)):
        value, old = _WRITTEN[old].format(value), "text"
    if new == "jsonb":
        return f"CASE WHEN {value} IS NOT NULL THEN jsonb_build_array({value}) END" if array else f"to_jsonb({value})"
    if (old, new) == ("jsonb", "json"):
        return f"{value}::json"
    if new.startswith("character varying"):
        # Without a cast to its length: that would cut longer values, while storing them refuses. Of spaces at
        # the end it refuses none, and cuts them: behind what is no space they are refused as well.
        text = f"({value} #>> '{{}}')" if old == "jsonb" else f"{value}::text"
        length = _measures(new, "character varying")
        return f"{text} || CASE WHEN char_length({text}) > {length[0]} THEN '.' ELSE '' END" if length else text
    if old == "jsonb":
        return f"({value} #>> '{{}}')::{new}"
    for family in _CASTABLE:
        if old.partition("(")[0] in family and new.partition("(")[0] in family:
            return f"{value}::{new}"
    return f"{value}::text::{new}"


def keeps_values(old: str, new: str) -> bool:
    """Whether no value becomes another one: all fit, or those that do not are refused."""
    return is_widening(old, new) or (_is_text(old) and _is_text(new)) or (old, new) == ("jsonb", "json")


def loss(old: str, new: str) -> str:
    """Return in words what happens to values that the new type cannot hold; an empty text where they are refused."""
    if "bytea" in (old, new):
        return "; its values are lost: only the application can encrypt or decrypt them"
    if _is_text(old) and _is_text(new) and not is_widening(old, new):
        return " (fails while a row holds a longer text)"
    if (old, new) == ("timestamp with time zone", "date"):
        return "; the time of day is lost"
    had, has = _digits(old), _digits(new)
    if had is not None and has is not None and had > has:
        return "; digits beyond are rounded"
    return ""


def _is_text(kind: str) -> bool:
    return kind == "text" or kind.startswith("character varying")


def _digits(kind: str) -> float | None:
    """Return how many digits follow the point, None where there are no numbers."""
    if kind in _INTEGERS:
        return 0
    if kind in ("real", "double precision", "numeric"):
        return math.inf
    measures = _measures(kind, "numeric")
    return float(measures[1] if len(measures) == 2 else 0) if measures else None


def is_widening(old: str, new: str) -> bool:
    """Whether every value of one type is a value of the other, unchanged."""
    if old == new:
        return True  # only the collation differs
    if old in _INTEGERS and new in _INTEGERS:
        return _INTEGERS.index(old) < _INTEGERS.index(new)
    if (old, new) == ("real", "double precision"):
        return True
    had, has = _measures(old, "character varying"), _measures(new, "character varying")
    if had is not None:
        return new in ("text", "character varying") or bool(had and has and has >= had)
    had, has = _measures(old, "numeric"), _measures(new, "numeric")
    if had is not None and has is not None:
        if not has:
            return True
        return len(had) == len(has) == 2 and has[1] >= had[1] and has[0] - has[1] >= had[0] - had[1]
    return False


def _measures(kind: str, word: str) -> tuple[int, ...] | None:
    """Return the numbers in brackets after a type's word, None for another type."""
    found = re.fullmatch(rf"{word}(?:\(([\d,]+)\))?", kind)
    if found is None:
        return None
    return tuple(int(number) for number in found.group(1).split(",")) if found.group(1) else ()
