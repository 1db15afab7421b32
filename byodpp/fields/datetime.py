"""Moments."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from byodpp import wire
from byodpp.fields.field_type import EQUALITY, ORDER, FieldFault, FieldType
from byodpp.fields.moments import parse_datetime, to_utc
from byodpp.fields.strict_field import kind_of

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["DatetimeType"]


class DatetimeType(FieldType):
    """`datetime`: a moment to the microsecond; an offset is demanded, UTC is emitted."""

    name = "datetime"
    operators = EQUALITY | ORDER
    aggregates = frozenset({"min", "max"})

    def column_type(self, definition: FieldDefinition) -> sa.types.TypeEngine[Any]:
        """Return timestamptz."""
        return sa.DateTime(timezone=True)

    def from_json(self, value: Any, definition: FieldDefinition) -> datetime.datetime:
        """Take a datetime of RFC 3339, or an aware datetime; the result is in UTC."""
        if isinstance(value, str):
            return parse_datetime(value)
        if isinstance(value, datetime.datetime) and value.utcoffset() is not None:
            return to_utc(value)
        if isinstance(value, datetime.datetime):
            raise FieldFault("type", "Must be a datetime with an offset.")
        raise FieldFault("type", f"Must be a string with a datetime, not {kind_of(value)}.")

    def from_text(self, text: str, definition: FieldDefinition) -> datetime.datetime:
        """Take a datetime of RFC 3339."""
        return parse_datetime(text)

    def to_json(self, value: Any, definition: FieldDefinition) -> Any:
        """Return the moment in UTC with `Z` and six digits of seconds."""
        return wire.datetime_text(value)

    def json_expression(
        self, column: sa.ColumnElement[Any], definition: FieldDefinition
    ) -> sa.ColumnElement[Any]:
        """Return the moment in UTC with `Z` and six digits of seconds."""
        in_utc = sa.func.timezone(sa.literal_column("'UTC'"), column)
        form: sa.ColumnElement[Any] = sa.literal_column("""'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'""")
        return sa.func.to_char(in_utc, form, type_=sa.Text())

    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return a datetime's schema."""
        return {"type": "string", "format": "date-time"}

    def example(self, definition: FieldDefinition) -> Any:
        """Return a moment."""
        return "2025-01-31T08:00:00.000000Z"
