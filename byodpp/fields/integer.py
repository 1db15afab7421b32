"""Whole numbers of 32 bits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Final

import sqlalchemy as sa

from byodpp.fields.field_type import EQUALITY, ORDER, Check, FieldFault, FieldType
from byodpp.fields.numbers import (
    NUMBER_KEYS,
    NUMBER_SCHEMA,
    number_checks,
    number_problems,
    number_words,
    within_bounds,
)
from byodpp.fields.strict_field import kind_of

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["IntegerType"]

_TEXT: Final = re.compile(r"-?(?:0|[1-9][0-9]*)", re.ASCII)
#: Characters of the widest type; more are out of range without being read.
_LONGEST: Final = 20


class IntegerType(FieldType):
    """`integer`: int4. 1.0 is 1, as in JSON Schema; 1.5, "1" and true are refused."""

    name = "integer"
    operators = EQUALITY | ORDER
    aggregates = frozenset({"sum", "avg", "min", "max"})
    constraint_keys = NUMBER_KEYS

    lowest: ClassVar[int] = -(2**31)
    highest: ClassVar[int] = 2**31 - 1

    def column_type(self, definition: FieldDefinition) -> sa.types.TypeEngine[Any]:
        """Return int4."""
        return sa.Integer()

    def from_json(self, value: Any, definition: FieldDefinition) -> int:
        """Take an int, or a number without a fraction."""
        if type(value) is not int:
            value = self._whole(value)
        if self.lowest <= value <= self.highest:
            return value  # type: ignore[no-any-return]
        raise FieldFault("out_of_range", f"Must be between {self.lowest} and {self.highest}.")

    def _whole(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | Decimal | float):
            raise FieldFault("type", f"Must be an integer, not {kind_of(value)}.")
        # A huge exponent is out of range without being written out.
        if isinstance(value, Decimal) and value.is_finite() and value and value.adjusted() > 20:
            return self.highest + 1
        try:
            whole = int(value)
        except (ValueError, OverflowError):
            raise FieldFault("type", "Must be an integer.") from None
        if whole != value:
            raise FieldFault("type", "Must be an integer, not a number with a fraction.")
        return whole

    def from_text(self, text: str, definition: FieldDefinition) -> int:
        """Take ASCII digits with an optional minus; no plus, blanks, underscores or leading zeros."""
        if not _TEXT.fullmatch(text):
            raise FieldFault("type", "Must be an integer.")
        return self.from_json(int(text) if len(text) <= _LONGEST else self.highest + 1, definition)

    def loader(
        self, definition: FieldDefinition, *, from_wire: bool = True, max_bytes: int | None = None
    ) -> Callable[[Any], Any]:
        """Return the loader; what is an int within its bounds takes a short way."""
        judge = super().loader(definition, from_wire=from_wire, max_bytes=max_bytes)
        bounds = within_bounds(definition, self.lowest, self.highest)
        if bounds is None:
            return judge
        lowest, highest = bounds

        def load(value: Any) -> Any:
            return value if type(value) is int and lowest <= value <= highest else judge(value)

        return load

    def checks(self, definition: FieldDefinition) -> list[Check]:
        """Return the bounds."""
        return number_checks(definition)

    def check(self, definition: FieldDefinition) -> list[str]:
        """Return what is wrong with the bounds."""
        problems = number_problems(definition)
        for key in ("minimum", "maximum"):
            bound = definition.constraints.get(key)
            if not problems and bound is not None and not self.lowest <= bound <= self.highest:
                problems.append(f"{key} lies outside of {self.name} ({self.lowest} to {self.highest})")
        return problems

    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return the schema; the type's own range is stated where no bound is."""
        bounds: dict[str, Any] = {}
        words = definition.constraints
        if "minimum" not in words and "exclusiveMinimum" not in words:
            bounds["minimum"] = self.lowest
        if "maximum" not in words and "exclusiveMaximum" not in words:
            bounds["maximum"] = self.highest
        return {"type": "integer", "format": "int32"} | bounds | number_words(definition)

    def example(self, definition: FieldDefinition) -> Any:
        """Return a number near the lower bound."""
        return _example(definition)

    def constraints_schema(self) -> Mapping[str, Any]:
        """Return the schema of the bounds."""
        return NUMBER_SCHEMA


def _example(definition: FieldDefinition) -> int:
    words = definition.constraints
    low = words.get("minimum", words.get("exclusiveMinimum", None))
    high = words.get("maximum", words.get("exclusiveMaximum", None))
    step = int(words.get("multipleOf", 1)) or 1
    if low is not None:
        start = int(low) + (1 if "exclusiveMinimum" in words else 0)
    elif high is not None and high < 1:
        start = int(high) - (1 if "exclusiveMaximum" in words else 0)
        return start // step * step
    else:
        start = 1
    return -(-start // step) * step
