"""Whole numbers of 64 bits, as JSON numbers or, by `asString`, as JSON strings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from byodpp.fields.field_type import FieldFault
from byodpp.fields.integer import IntegerType
from byodpp.fields.numbers import NUMBER_KEYS, NUMBER_SCHEMA
from byodpp.fields.strict_field import kind_of

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["BigintType"]


class BigintType(IntegerType):
    """`bigint`: int8. With `asString` it travels as text, for readers that only know doubles."""

    name = "bigint"
    constraint_keys = NUMBER_KEYS | {"asString"}
    lowest = -(2**63)
    highest = 2**63 - 1

    def column_type(self, definition: FieldDefinition) -> sa.types.TypeEngine[Any]:
        """Return int8."""
        return sa.BigInteger()

    def from_json(self, value: Any, definition: FieldDefinition) -> int:
        """Take a number or, where the field travels as text, its digits."""
        if isinstance(value, str) and definition.constraints.get("asString"):
            return self.from_text(value, definition)
        return super().from_json(value, definition)

    def loader(
        self, definition: FieldDefinition, *, from_wire: bool = True, max_bytes: int | None = None
    ) -> Callable[[Any], Any]:
        """Return the loader; a body must use the one form that answers use."""
        load = super().loader(definition, from_wire=from_wire, max_bytes=max_bytes)
        if not (from_wire and definition.constraints.get("asString")):
            return load

        def load_text(value: Any) -> Any:
            if not isinstance(value, str):
                raise FieldFault("type", f"Must be a string of digits, not {kind_of(value)}.")
            return load(value)

        return load_text

    def to_json(self, value: Any, definition: FieldDefinition) -> Any:
        """Return the number or its digits."""
        return str(value) if definition.constraints.get("asString") else value

    def write(self, value: Any, definition: FieldDefinition) -> str:
        """Write the number, quoted by `asString`."""
        return f'"{int(value)}"' if definition.constraints.get("asString") else str(int(value))

    def json_expression(
        self, column: sa.ColumnElement[Any], definition: FieldDefinition
    ) -> sa.ColumnElement[Any]:
        """Return the column, cast to text by `asString`."""
        return sa.cast(column, sa.Text()) if definition.constraints.get("asString") else column

    def digits(self, definition: FieldDefinition) -> bool:
        """Return `asString`."""
        return bool(definition.constraints.get("asString"))

    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return an integer's schema, or a digit string's."""
        if definition.constraints.get("asString"):
            return {"type": "string", "format": "int64", "pattern": "^-?(0|[1-9][0-9]{0,18})$"}
        return super().json_schema(definition) | {"format": "int64"}

    def example(self, definition: FieldDefinition) -> Any:
        """Return a number near the lower bound, or its digits."""
        return self.to_json(super().example(definition), definition)

    def constraints_schema(self) -> Mapping[str, Any]:
        """Return the schema of the bounds and the switch."""
        return {**NUMBER_SCHEMA, "asString": {"type": "boolean", "default": False}}
