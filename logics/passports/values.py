"""Whether a value is what its data point asks for: one small judge per data type."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from .identifiers import is_cas, is_gtin

__all__ = ["fault_of", "is_number"]

_YEAR_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])", re.ASCII)
_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII)
_URL = re.compile(r"https?://[^\s]{1,2000}")


def fault_of(field: Mapping[str, Any], value: Any) -> str | None:
    """Return what is wrong with a value, None when nothing is.

    Args:
        field: a row of TemplateFields; with its `unit` included, the unit of a quantity is judged too.
        value: JSON value.
    """
    kind = field["dataType"]
    if kind == "enum":
        return None if value in _allowed(field) else f"Must be one of {', '.join(_allowed(field))}."
    if kind == "multiEnum":
        listed = isinstance(value, list) and all(one in _allowed(field) for one in value)
        return None if listed else f"Must be a list of some of {', '.join(_allowed(field))}."
    if kind == "quantity":
        return _quantity_fault(field, value)
    judge, told = _JUDGES[kind]
    return None if judge(value) else told


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _allowed(field: Mapping[str, Any]) -> list[str]:
    return field["enumValues"] or []


def _quantity_fault(field: Mapping[str, Any], value: Any) -> str | None:
    if not (isinstance(value, Mapping) and set(value) == {"value", "unit"} and is_number(value["value"])):
        return 'Must be an object such as {"value": 48, "unit": "VLT"}.'
    unit = field.get("unit")
    if unit is not None and value["unit"] != unit["code"]:
        return f"Must be in {unit['name']}, code {unit['code']}."
    return None


def _is_text(most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and 0 < len(value) <= most


def _is_text_that(check: Callable[[str], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and check(value)


def _is_integer(value: Any) -> bool:
    # Not int(value): the digits of 1e100000 would all be made.
    return is_number(value) and (
        isinstance(value, int) or Decimal(value) == Decimal(value).to_integral_value()
    )


def _is_date(value: Any) -> bool:
    return _parses(datetime.date.fromisoformat, value) and len(value) == 10


def _is_moment(value: Any) -> bool:
    return (
        _parses(datetime.datetime.fromisoformat, value)
        and datetime.datetime.fromisoformat(value).tzinfo is not None
    )


def _parses(parse: Callable[[str], Any], value: Any) -> bool:
    try:
        parse(value)
    except (TypeError, ValueError):
        return False
    return True


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_translated(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(one, Mapping) and set(one) == {"value", "language"} for one in value)
        and all(isinstance(one["value"], str) and isinstance(one["language"], str) for one in value)
    )


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and set(value) == {"minimum", "maximum"}
        and all(map(is_number, value.values()))
        and value["minimum"] <= value["maximum"]
    )


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, Mapping) for row in value)


_JUDGES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "string": (_is_text(1_000), "Must be a text of 1 to 1000 characters."),
    "text": (_is_text(100_000), "Must be a text of 1 to 100000 characters."),
    "integer": (_is_integer, "Must be a whole number."),
    "decimal": (is_number, "Must be a number."),
    "boolean": (lambda value: isinstance(value, bool), "Must be true or false."),
    "date": (_is_date, "Must be a day such as 2026-02-18."),
    "datetime": (_is_moment, "Must be a moment with its offset, such as 2026-02-18T08:00:00Z."),
    "yearMonth": (_matches(_YEAR_MONTH), "Must be a month such as 2026-02."),
    "url": (_matches(_URL), "Must be an address that begins with https:// or http://."),
    "country": (_matches(_COUNTRY), "Must be a country's two capital letters, such as PL."),
    "gtin": (_is_text_that(is_gtin), "Must be a GTIN with a right check digit."),
    "cas": (_is_text_that(is_cas), "Must be a CAS number with a right check digit."),
    "i18nText": (_is_translated, 'Must be a list such as [{"value": "Lamp", "language": "en"}].'),
    "range": (_is_range, 'Must be an object such as {"minimum": -20, "maximum": 60}.'),
    "table": (_is_table, "Must be a list of objects."),
}  # fmt: skip
