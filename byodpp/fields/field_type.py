"""What a field type must know; the protocol that every file of this folder implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import marshmallow
import sqlalchemy as sa

from byodpp import wire
from byodpp.fields.strict_field import FieldFault, StrictField

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["EQUALITY", "MEMBERS", "ORDER", "TEXT", "Check", "FieldFault", "FieldType"]

#: Operators that compare for equality.
EQUALITY = frozenset({"eq", "ne", "in", "nin", "isNull"})
#: Operators that need an order.
ORDER = frozenset({"gt", "gte", "lt", "lte", "between"})
#: Operators over text.
TEXT = frozenset({"like", "ilike", "contains", "startsWith", "endsWith"})
#: Operators over what a JSON document or an array holds.
MEMBERS = frozenset({"has", "hasAny", "hasAll", "isNull"})

#: Judges a Python value that has the right type; raises FieldFault.
Check = Callable[[Any], None]


class FieldType(ABC):
    """One type word of the manifest. Stateless: what varies is in the FieldDefinition.

    Three representations are told apart:

    - *JSON value*: what `wire.loads` yields (str, int, Decimal, bool, None, list, dict);
    - *Python value*: what logic classes see (Decimal, datetime, UUID, …);
    - *bound value*: what asyncpg takes for the column.

    Types never coerce: a value is accepted when it is the field's, and refused otherwise.
    """

    name: ClassVar[str]
    #: Filter operators this type understands.
    operators: ClassVar[frozenset[str]]
    #: Whether rows can be sorted by it.
    sortable: ClassVar[bool] = True
    #: Aggregates it allows, of sum, avg, min, max.
    aggregates: ClassVar[frozenset[str]] = frozenset()
    #: Constraint keys of the manifest this type accepts (`minLength`, `maximum`, …).
    constraint_keys: ClassVar[frozenset[str]] = frozenset()
    #: Whether the column is jsonb and so reachable by a path.
    document: ClassVar[bool] = False

    @abstractmethod
    def column_type(self, definition: FieldDefinition) -> sa.types.TypeEngine[Any]:
        """Return the SQLAlchemy type of the column."""

    @abstractmethod
    def from_text(self, text: str, definition: FieldDefinition) -> Any:
        """Turn the text of a query parameter into a Python value; constraints don't matter.

        Raises:
            ValueError: with a message fit for the client.
        """

    @abstractmethod
    def from_json(self, value: Any, definition: FieldDefinition) -> Any:
        """Turn a JSON value (of a filter in JSON, or a row built by PostgreSQL) into a Python value.

        A Python value comes back as it is. Constraints don't matter: a filter may compare with
        what could not be stored, and a row may be older than today's constraints.

        Raises:
            FieldFault: a ValueError with a code and a message fit for the client.
        """

    @abstractmethod
    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of the wire format, without null and default."""

    @abstractmethod
    def example(self, definition: FieldDefinition) -> Any:
        """Return a JSON value that the field accepts, for documentation."""

    def checks(self, definition: FieldDefinition) -> list[Check]:
        """Return the constraints as functions; called once per schema."""
        return []

    def loader(
        self, definition: FieldDefinition, *, from_wire: bool = True, max_bytes: int | None = None
    ) -> Callable[[Any], Any]:
        """Return the function that judges one value completely; made once per schema.

        Args:
            definition: the field.
            from_wire: the value comes from a body; False when a logic class wrote it.
            max_bytes: what the field's indexes can hold; matters for text.

        Returns:
            A function from a value that is not None to a Python value, raising FieldFault, or
            marshmallow's ValidationError where a value has parts.
        """
        convert, checks = self.from_json, tuple(self.checks(definition))
        if definition.enum is not None:
            checks = (*checks, _enum_check(self, definition))
        if not checks:
            return lambda value: convert(value, definition)

        def load(value: Any) -> Any:
            value = convert(value, definition)
            for check in checks:
                check(value)
            return value

        return load

    def schema_field(
        self,
        definition: FieldDefinition,
        *,
        from_wire: bool = True,
        max_bytes: int | None = None,
        **options: Any,
    ) -> marshmallow.fields.Field[Any]:
        """Return a strict marshmallow field: JSON value (or Python value) in, Python value out.

        Args:
            definition: the field.
            from_wire: as for `loader`.
            max_bytes: as for `loader`.
            options: `required`, `allow_none`, `load_default`, … as for marshmallow.
        """
        return StrictField(self.loader(definition, from_wire=from_wire, max_bytes=max_bytes), **options)

    def bind(self, value: Any, definition: FieldDefinition) -> Any:
        """Turn a Python value into what asyncpg takes; the same value unless a type says otherwise."""
        return value

    def to_json(self, value: Any, definition: FieldDefinition) -> Any:
        """Turn a Python value, not None, into the JSON value of the wire format."""
        return value

    def write(self, value: Any, definition: FieldDefinition) -> str:
        """Write a Python value, not None, exactly as `row_to_json` writes the column."""
        return wire.text(value)

    def json_expression(
        self, column: sa.ColumnElement[Any], definition: FieldDefinition
    ) -> sa.ColumnElement[Any]:
        """Return the SQL expression whose `row_to_json` form is the wire format."""
        return column

    def digits(self, definition: FieldDefinition) -> bool:
        """Return whether its JSON value is a number's text, which is compared as the number."""
        return False

    def canonical(self, definition: FieldDefinition) -> bool:
        """Return whether equal values have one JSON value."""
        return True

    def check(self, definition: FieldDefinition) -> list[str]:
        """Return what is wrong with the constraints (`minimum` above `maximum`, …), empty when nothing."""
        return []

    def default_value(self, value: Any, definition: FieldDefinition) -> Any:
        """Turn the manifest's `default` into a Python value.

        Raises:
            ValueError: the default is not a valid value of the field.
        """
        try:
            return self.loader(definition, from_wire=False)(value)
        except marshmallow.ValidationError as error:
            raise ValueError(str(error)) from None

    def constraints_schema(self) -> Mapping[str, Any]:
        """JSON Schema of each constraint key, for the manifest's own schema."""
        return {}


def _enum_check(field_type: FieldType, definition: FieldDefinition) -> Check:
    """Return the check that a value is one of `enum`, whose words may be JSON or Python values."""
    allowed = [field_type.from_json(value, definition) for value in definition.enum or ()]
    shown = ", ".join(wire.text(field_type.to_json(value, definition)) for value in allowed[:20])

    def check(value: Any) -> None:
        if value not in allowed:
            raise FieldFault("enum", f"Must be one of {shown}.")

    return check
