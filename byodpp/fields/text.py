"""Long text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from byodpp.fields.string import StringType, collation_of

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["TextType"]


class TextType(StringType):
    """`text`: text without a length in the database; a million characters unless declared.

    A declared `maxLength` can change without touching the table.
    """

    name = "text"
    default_max_length = 1_000_000
    highest_max_length = 100_000_000

    def column_type(self, definition: FieldDefinition) -> sa.types.TypeEngine[Any]:
        """Return text with the field's collation."""
        return sa.Text(collation=collation_of(definition))
