"""Days of the calendar."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from byodpp import wire
from byodpp.fields.field_type import EQUALITY, ORDER, FieldFault, FieldType
from byodpp.fields.moments import parse_date
from byodpp.fields.strict_field import kind_of

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["DateType"]


class DateType(FieldType):
    """`date`: a day from 0001-01-01 to 9999-12-31; never infinity."""

    name = "date"
    operators = EQUALITY | ORDER
    aggregates = frozenset({"min", "max"})

    def column_type(self, definition: FieldDefinition) -> sa.types.TypeEngine[Any]:
        """Return date."""
        return sa.Date()

    def from_json(self, value: Any, definition: FieldDefinition) -> datetime.date:
        """Take YYYY-MM-DD, or a date that is no datetime."""
        if isinstance(value, str):
            return parse_date(value)
        if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
            return value
        raise FieldFault("type", f"Must be a string with a date, not {kind_of(value)}.")

    def from_text(self, text: str, definition: FieldDefinition) -> datetime.date:
        """Take YYYY-MM-DD."""
        return parse_date(text)

    def to_json(self, value: Any, definition: FieldDefinition) -> Any:
        """Return YYYY-MM-DD."""
        return wire.date_text(value)

    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return a date's schema."""
        return {"type": "string", "format": "date"}

    def example(self, definition: FieldDefinition) -> Any:
        """Return a day."""
        return "2025-01-31"
