"""UUIDs."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from byodpp import wire
from byodpp.fields.field_type import EQUALITY, ORDER, FieldFault, FieldType
from byodpp.fields.strict_field import kind_of

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["UuidType"]

_TEXT: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


class UuidType(FieldType):
    """`uuid`: 36 characters with hyphens; emitted in lower case."""

    name = "uuid"
    operators = EQUALITY | ORDER  # version 7 sorts by time

    def column_type(self, definition: FieldDefinition) -> sa.types.TypeEngine[Any]:
        """Return uuid."""
        return sa.Uuid()

    def from_json(self, value: Any, definition: FieldDefinition) -> uuid.UUID:
        """Take the hyphenated form, or a UUID."""
        if isinstance(value, str):
            return self.from_text(value, definition)
        if isinstance(value, uuid.UUID):
            return value
        raise FieldFault("type", f"Must be a string with a UUID, not {kind_of(value)}.")

    def from_text(self, text: str, definition: FieldDefinition) -> uuid.UUID:
        """Take the hyphenated form."""
        if not _TEXT.fullmatch(text):
            raise FieldFault("format", "Must be a UUID, 36 characters with hyphens.")
        return uuid.UUID(text)

    def to_json(self, value: Any, definition: FieldDefinition) -> Any:
        """Return the hyphenated form in lower case."""
        return str(value)

    def write(self, value: Any, definition: FieldDefinition) -> str:
        """Write the hyphenated form in lower case."""
        return wire.text(str(value))

    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return a UUID's schema."""
        return {"type": "string", "format": "uuid"}

    def example(self, definition: FieldDefinition) -> Any:
        """Return a UUID of version 7."""
        return "018f4e2a-7b1c-7000-8000-000000000001"
