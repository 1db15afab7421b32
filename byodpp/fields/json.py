"""Any JSON value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from byodpp import wire
from byodpp.exceptions import ApiError
from byodpp.fields.document import DocumentType, check_json
from byodpp.fields.field_type import FieldFault
from byodpp.fields.string import check_text

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["JsonType"]


class JsonType(DocumentType):
    """`json`: any JSON value but null, which is the field's null; 32 levels deep at most.

    What comes back is equal as a JSON value: the order of keys and the exponents of numbers are
    not kept, the digits are.
    """

    name = "json"

    def from_json(self, value: Any, definition: FieldDefinition) -> Any:
        """Take any JSON value that jsonb can hold."""
        check_json(value)
        return value

    def from_text(self, text: str, definition: FieldDefinition) -> Any:
        """Take JSON where the text is JSON, else the text itself: `5` is a number, `red` a word,
        `"5"` a word again.
        """
        try:
            value = wire.loads(text.encode("utf-8", "surrogatepass"))
        except ApiError:
            check_text(text)
            return text
        if value is None:
            raise FieldFault("null", "Must not be null; isNull asks for that.")
        return self.from_json(value, definition)

    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return the schema of anything, or of anything but null."""
        kinds = ["object", "array", "string", "number", "boolean"]
        return {} if definition.nullable else {"type": kinds}

    def example(self, definition: FieldDefinition) -> Any:
        """Return an object."""
        return {"key": "value"}
