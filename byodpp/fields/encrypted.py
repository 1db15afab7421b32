"""A field that is stored encrypted: another type's values, which the database cannot read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from byodpp.fields.field_type import Check, FieldType

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["EncryptedType"]


class EncryptedType(FieldType):
    """The values of a type, judged as ever, in a column of bytes: nothing can be asked of it but whether
    it is empty. `SealedFields` writes and reads the column; no type can, since that takes keys.
    """

    operators = frozenset({"isNull"})
    sortable = False

    def __init__(self, inner: FieldType) -> None:
        """Args:
        inner: the type whose values they are.
        """
        self.inner = inner
        self.name = inner.name  # type: ignore[misc]  # a class variable of every other type
        self.constraint_keys = inner.constraint_keys  # type: ignore[misc]  # the same

    def column_type(self, definition: FieldDefinition) -> sa.types.TypeEngine[Any]:
        """Return bytea."""
        return sa.LargeBinary()

    def from_text(self, text: str, definition: FieldDefinition) -> Any:
        """Take what the type takes."""
        return self.inner.from_text(text, definition)

    def from_json(self, value: Any, definition: FieldDefinition) -> Any:
        """Take what the type takes."""
        return self.inner.from_json(value, definition)

    def to_json(self, value: Any, definition: FieldDefinition) -> Any:
        """Return the type's JSON value."""
        return self.inner.to_json(value, definition)

    def write(self, value: Any, definition: FieldDefinition) -> str:
        """Write the value as the type would: this is what is encrypted."""
        return self.inner.write(value, definition)

    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return the type's schema."""
        return self.inner.json_schema(definition)

    def example(self, definition: FieldDefinition) -> Any:
        """Return a value of the type."""
        return self.inner.example(definition)

    def checks(self, definition: FieldDefinition) -> list[Check]:
        """Return the type's constraints."""
        return self.inner.checks(definition)

    def check(self, definition: FieldDefinition) -> list[str]:
        """Return what is wrong with the constraints."""
        return self.inner.check(definition)

    def loader(
        self, definition: FieldDefinition, *, from_wire: bool = True, max_bytes: int | None = None
    ) -> Callable[[Any], Any]:
        """Return the type's own judge."""
        return self.inner.loader(definition, from_wire=from_wire, max_bytes=max_bytes)
