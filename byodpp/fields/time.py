"""Times of day."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from byodpp import wire
from byodpp.fields.field_type import EQUALITY, ORDER, FieldFault, FieldType
from byodpp.fields.moments import parse_time
from byodpp.fields.strict_field import kind_of

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["TimeType"]


class TimeType(FieldType):
    """`time`: a time of day without an offset, emitted with six digits of seconds."""

    name = "time"
    operators = EQUALITY | ORDER
    aggregates = frozenset({"min", "max"})

    def column_type(self, definition: FieldDefinition) -> sa.types.TypeEngine[Any]:
        """Return time without time zone."""
        return sa.Time()

    def from_json(self, value: Any, definition: FieldDefinition) -> datetime.time:
        """Take HH:MM:SS[.ffffff], or a time without an offset."""
        if isinstance(value, str):
            return parse_time(value)
        if isinstance(value, datetime.time):
            if value.tzinfo is not None:
                raise FieldFault("type", "Must be a time without an offset.")
            return value
        raise FieldFault("type", f"Must be a string with a time of day, not {kind_of(value)}.")

    def from_text(self, text: str, definition: FieldDefinition) -> datetime.time:
        """Take HH:MM:SS[.ffffff]."""
        return parse_time(text)

    def to_json(self, value: Any, definition: FieldDefinition) -> Any:
        """Return HH:MM:SS.ffffff."""
        return wire.time_text(value)

    def json_expression(
        self, column: sa.ColumnElement[Any], definition: FieldDefinition
    ) -> sa.ColumnElement[Any]:
        """Return the time with six digits of seconds."""
        return sa.func.to_char(column, sa.literal_column("'HH24:MI:SS.US'"), type_=sa.Text())

    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return a string's schema: the format word `time` would ask for an offset."""
        return {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?$"}

    def example(self, definition: FieldDefinition) -> Any:
        """Return a time."""
        return "08:00:00.000000"
