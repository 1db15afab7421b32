"""Binary floating-point numbers of 64 bits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from byodpp import wire
from byodpp.fields.decimal import DecimalType
from byodpp.fields.field_type import EQUALITY, ORDER, Check, FieldFault, FieldType
from byodpp.fields.numbers import NUMBER_KEYS, NUMBER_SCHEMA, number_checks, number_problems, number_words
from byodpp.fields.strict_field import kind_of

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["FloatType"]

_TEXT: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,399})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)


class FloatType(FieldType):
    """`float`: float8, finite. The double nearest to the digits sent is what is stored."""

    name = "float"
    operators = EQUALITY | ORDER
    aggregates = frozenset({"sum", "avg", "min", "max"})
    constraint_keys = NUMBER_KEYS

    def column_type(self, definition: FieldDefinition) -> sa.types.TypeEngine[Any]:
        """Return float8."""
        return sa.Double()

    def from_json(self, value: Any, definition: FieldDefinition) -> float:
        """Take a number whose double is finite and, unless it is zero, not zero."""
        if isinstance(value, bool) or not isinstance(value, Decimal | int | float):
            raise FieldFault("type", f"Must be a number, not {kind_of(value)}.")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise FieldFault("out_of_range", "Must be a finite number of double precision.")
        if not number and value:
            raise FieldFault("out_of_range", "Is too close to zero to be stored.")
        return number

    def from_text(self, text: str, definition: FieldDefinition) -> float:
        """Take a JSON number."""
        if not _TEXT.fullmatch(text):
            raise FieldFault("type", "Must be a number.")
        return self.from_json(Decimal(text), definition)

    def checks(self, definition: FieldDefinition) -> list[Check]:
        """Return the bounds."""
        return number_checks(definition)

    def write(self, value: Any, definition: FieldDefinition) -> str:
        """Write the shortest digits."""
        return wire.float_text(float(value))

    def check(self, definition: FieldDefinition) -> list[str]:
        """Return what is wrong with the bounds."""
        return number_problems(definition)

    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return a number's schema."""
        return {"type": "number", "format": "double"} | number_words(definition)

    def example(self, definition: FieldDefinition) -> Any:
        """Return a number near the lower bound."""
        return DecimalType().example(definition) if definition.constraints else Decimal("1.5")

    def constraints_schema(self) -> Mapping[str, Any]:
        """Return the schema of the bounds."""
        return NUMBER_SCHEMA
