"""Decimal numbers with exact digits, as JSON numbers or, by `asString`, as JSON strings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from byodpp import wire
from byodpp.fields.field_type import EQUALITY, ORDER, Check, FieldFault, FieldType
from byodpp.fields.numbers import (
    EXACT,
    NUMBER_KEYS,
    NUMBER_SCHEMA,
    exact,
    number_checks,
    number_problems,
    number_words,
    within_bounds,
)
from byodpp.fields.strict_field import kind_of

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["DecimalType"]

#: Digits before and after the point where the field names no precision.
_WIDEST: Final = 400
#: PostgreSQL's bound on a declared precision.
_MAX_PRECISION: Final = 1_000
_TEXT: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", re.ASCII)


class DecimalType(FieldType):
    """`decimal`: numeric(precision, scale), or numeric of any width without a precision.

    What does not fit is refused, never rounded; 1.500 fits two decimal places because it is
    1.50. With a precision the Python value has exactly `scale` places, as the stored row has.
    """

    name = "decimal"
    operators = EQUALITY | ORDER
    aggregates = frozenset({"sum", "avg", "min", "max"})
    constraint_keys = NUMBER_KEYS | {"precision", "scale", "asString"}

    def column_type(self, definition: FieldDefinition) -> sa.types.TypeEngine[Any]:
        """Return numeric with the field's precision."""
        words = definition.constraints
        if words.get("precision") is None:
            return sa.Numeric()
        return sa.Numeric(int(words["precision"]), int(words.get("scale") or 0))

    def from_json(self, value: Any, definition: FieldDefinition) -> Decimal:
        """Take a number or, where the field travels as text, its digits."""
        if type(value) is Decimal:
            number = value
        elif isinstance(value, str) and definition.constraints.get("asString"):
            return self.from_text(value, definition)
        elif isinstance(value, bool) or not isinstance(value, Decimal | int | float):
            raise FieldFault("type", f"Must be a decimal number, not {kind_of(value)}.")
        else:
            number = exact(value)
        if not number.is_finite():
            raise FieldFault("out_of_range", "Must be finite.")
        exponent = number.as_tuple().exponent
        if number.adjusted() >= _WIDEST or not isinstance(exponent, int) or exponent < -2 * _WIDEST:
            raise FieldFault("out_of_range", "Has more digits than can be stored.")
        return number if number else number.copy_abs()

    def from_text(self, text: str, definition: FieldDefinition) -> Decimal:
        """Take ASCII digits with an optional minus and point; no exponent."""
        if len(text) > 2 * _WIDEST or not _TEXT.fullmatch(text):
            if _exponent_form(text):
                told = f"Must be written without an exponent, in at most {2 * _WIDEST} characters."
                raise FieldFault("out_of_range", told)
            raise FieldFault("type", "Must be a decimal number, written without an exponent.")
        number = Decimal(text)
        return number if number else number.copy_abs()

    def loader(
        self, definition: FieldDefinition, *, from_wire: bool = True, max_bytes: int | None = None
    ) -> Callable[[Any], Any]:
        """Return the loader; a body must use the one form that answers use."""
        load = super().loader(definition, from_wire=from_wire, max_bytes=max_bytes)
        if not (from_wire and definition.constraints.get("asString")):
            return _shortened(_fitting(load, definition), definition)

        def load_text(value: Any) -> Any:
            if not isinstance(value, str):
                raise FieldFault("type", f"Must be a string of digits, not {kind_of(value)}.")
            return load(value)

        return _fitting(load_text, definition)

    def checks(self, definition: FieldDefinition) -> list[Check]:
        """Return the bounds; precision and scale are judged by the loader."""
        return number_checks(definition)

    def to_json(self, value: Any, definition: FieldDefinition) -> Any:
        """Return the number or its digits, of which there are `scale` behind the point, as a row has them."""
        if not definition.constraints.get("asString"):
            return value
        return wire.number_text(_stored(value, definition))

    def write(self, value: Any, definition: FieldDefinition) -> str:
        """Write the digits, quoted by `asString`."""
        digits = wire.number_text(value)
        return f'"{digits}"' if definition.constraints.get("asString") else digits

    def json_expression(
        self, column: sa.ColumnElement[Any], definition: FieldDefinition
    ) -> sa.ColumnElement[Any]:
        """Return the column, cast to text by `asString`."""
        return sa.cast(column, sa.Text()) if definition.constraints.get("asString") else column

    def digits(self, definition: FieldDefinition) -> bool:
        """Return `asString`."""
        return bool(definition.constraints.get("asString"))

    def canonical(self, definition: FieldDefinition) -> bool:
        """Return whether a precision says how many digits there are; else `1.5` and `1.50` are both kept."""
        return not self.digits(definition) or definition.constraints.get("precision") is not None

    def check(self, definition: FieldDefinition) -> list[str]:
        """Return what is wrong with precision, scale and bounds."""
        problems = number_problems(definition)
        precision, scale = definition.constraints.get("precision"), definition.constraints.get("scale")
        if scale is not None and precision is None:
            problems.append("scale needs a precision")
        if precision is not None and not _is_count(precision, 1):
            problems.append(f"precision must be an integer from 1 to {_MAX_PRECISION}")
        elif scale is not None and precision is not None and not _is_count(scale, 0, precision):
            problems.append("scale must be an integer from 0 to precision")
        return problems

    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return a number's schema, or a digit string's."""
        words = definition.constraints
        if words.get("asString"):
            return {"type": "string", "format": "decimal", "pattern": "^-?(0|[1-9][0-9]*)(\\.[0-9]+)?$"}
        schema: dict[str, Any] = {"type": "number", "format": "decimal"}
        if words.get("precision") is not None:
            scale = int(words.get("scale") or 0)
            limit = (Decimal(10) ** (int(words["precision"]) - scale)).copy_abs()
            schema["exclusiveMinimum"], schema["exclusiveMaximum"] = -limit, limit
            schema["multipleOf"] = Decimal(1).scaleb(-scale)
        return schema | number_words(definition)

    def example(self, definition: FieldDefinition) -> Any:
        """Return a number near the lower bound, or its digits."""
        words = definition.constraints
        scale = int(words.get("scale") or 0)
        unit = Decimal(1).scaleb(-scale)
        step = exact(words["multipleOf"]) if "multipleOf" in words else unit
        low = words.get("minimum", words.get("exclusiveMinimum"))
        high = words.get("maximum", words.get("exclusiveMaximum"))
        start = exact(low) if low is not None else exact(high) if high is not None and high < 1 else unit
        number = -(-start // step) * step
        if "exclusiveMinimum" in words and number <= words["exclusiveMinimum"]:
            number += step
        elif low is None and "exclusiveMaximum" in words and number >= words["exclusiveMaximum"]:
            number -= step
        return self.to_json(number.quantize(unit, context=EXACT) if scale else number, definition)

    def constraints_schema(self) -> Mapping[str, Any]:
        """Return the schema of the bounds, the width and the switch."""
        return {
            **NUMBER_SCHEMA,
            "precision": {"type": "integer", "minimum": 1, "maximum": _MAX_PRECISION},
            "scale": {"type": "integer", "minimum": 0, "maximum": _MAX_PRECISION},
            "asString": {"type": "boolean", "default": False},
        }


def _stored(value: Any, definition: FieldDefinition) -> Any:
    """Return a number as its column would have it, or as it is where it does not fit."""
    if definition.constraints.get("precision") is None or not isinstance(value, Decimal):
        return value
    try:
        stored = value.quantize(
            Decimal(1).scaleb(-int(definition.constraints.get("scale") or 0)), context=EXACT
        )
    except InvalidOperation:
        return value
    return stored if stored == value else value


def _is_count(value: Any, lowest: int, highest: int = _MAX_PRECISION) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _exponent_form(text: str) -> bool:
    """Whether the text is a number all the same, only too long or with an exponent."""
    return re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", text[:2_000], re.ASCII) is not None


def _fitting(load: Callable[[Any], Any], definition: FieldDefinition) -> Callable[[Any], Any]:
    """Wrap a loader: what passes it must also fit numeric(precision, scale)."""
    if definition.constraints.get("precision") is None:
        return load
    precision = int(definition.constraints["precision"])
    scale = int(definition.constraints.get("scale") or 0)
    unit, digits = Decimal(1).scaleb(-scale), precision - scale

    def fit(value: Any) -> Decimal:
        number: Decimal = load(value)
        if number and number.adjusted() >= digits:
            raise FieldFault("out_of_range", f"Has more than {digits} digits before the decimal point.")
        stored = number.quantize(unit, context=EXACT)
        if stored != number:
            raise FieldFault("out_of_range", f"Has more than {scale} decimal places.")
        return stored

    return fit


def _shortened(judge: Callable[[Any], Any], definition: FieldDefinition) -> Callable[[Any], Any]:
    """Put a short way before a loader, for decimals that fit and lie within the field's bounds."""
    if definition.constraints.get("precision") is None:
        return judge
    precision = int(definition.constraints["precision"])
    scale = int(definition.constraints.get("scale") or 0)
    unit = Decimal(1).scaleb(-scale)
    most = EXACT.subtract(Decimal(1).scaleb(precision - scale), unit)
    bounds = within_bounds(definition, most.copy_negate(), most)
    if bounds is None:
        return judge
    lowest, highest = bounds

    def load(value: Any) -> Any:
        if type(value) is Decimal:
            try:
                stored = value.quantize(unit, context=EXACT)
            except InvalidOperation:
                return judge(value)
            if stored and stored == value and lowest <= stored <= highest:
                return stored
        return judge(value)

    return load
