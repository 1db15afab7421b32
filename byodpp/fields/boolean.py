"""True and false."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from byodpp.fields.field_type import EQUALITY, FieldFault, FieldType
from byodpp.fields.strict_field import kind_of

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["BooleanType"]


class BooleanType(FieldType):
    """`boolean`: true or false; never 1, "on" or "t"."""

    name = "boolean"
    operators = EQUALITY

    def column_type(self, definition: FieldDefinition) -> sa.types.TypeEngine[Any]:
        """Return boolean."""
        return sa.Boolean()

    def from_json(self, value: Any, definition: FieldDefinition) -> bool:
        """Take true or false."""
        if value is True or value is False:
            return value
        raise FieldFault("type", f"Must be true or false, not {kind_of(value)}.")

    def from_text(self, text: str, definition: FieldDefinition) -> bool:
        """Take the words `true` and `false`."""
        if text in ("true", "false"):
            return text == "true"
        raise FieldFault("type", "Must be true or false.")

    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return a boolean's schema."""
        return {"type": "boolean"}

    def example(self, definition: FieldDefinition) -> Any:
        """Return true."""
        return True
