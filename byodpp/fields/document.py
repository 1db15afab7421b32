"""What the types kept as jsonb share: json, object and array.

jsonb holds an array rather than an array type of PostgreSQL does: items may be of any type,
objects and arrays included, one family of operators serves all three types, and both writers
show the same bytes.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Hashable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from byodpp import wire
from byodpp.fields.field_type import MEMBERS, FieldFault, FieldType
from byodpp.fields.strict_field import kind_of
from byodpp.fields.string import check_text

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["MAX_DEPTH", "DocumentType", "check_json", "count_problems", "counts_schema", "identity_of"]

#: Arrays and objects in each other; a body is bounded alike, a logic class's value here.
MAX_DEPTH: Final = 32
#: Digits that exponents may stand for in one document: `1e308` is 5 characters, 309 in jsonb.
_MAX_HIDDEN_DIGITS: Final = 100_000


class DocumentType(FieldType, ABC):
    """A type whose column is jsonb."""

    operators = MEMBERS
    sortable = False
    document = True

    def column_type(self, definition: FieldDefinition) -> sa.types.TypeEngine[Any]:
        """Return jsonb; None is SQL's null, never jsonb's."""
        return JSONB(none_as_null=True)

    def bind(self, value: Any, definition: FieldDefinition) -> Any:
        """Return the document's text."""
        return None if value is None else self.write(value, definition)

    def write(self, value: Any, definition: FieldDefinition) -> str:
        """Write the document as jsonb shows it."""
        return wire.jsonb_text(self.to_json(value, definition))


def check_json(value: Any) -> None:
    """Judge that a value can be kept as jsonb and comes back equal.

    Raises:
        FieldFault: `format` for text jsonb cannot hold, `too_deep`, `type` for what is no JSON.
    """
    _check(value, 0, [0])


def _check(value: Any, depth: int, hidden: list[int]) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, int | float | Decimal):
        _check_number(value, hidden)
    elif isinstance(value, Mapping | list | tuple):
        if depth >= MAX_DEPTH:
            raise FieldFault("too_deep", f"Must not be nested more than {MAX_DEPTH} times.")
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise FieldFault("type", "Must have keys of text.")
                check_text(key)
            value = value.values()
        for item in value:
            _check(item, depth + 1, hidden)
    else:
        raise FieldFault("type", f"Must be a JSON value, not {kind_of(value)}.")


def _check_number(value: int | float | Decimal, hidden: list[int]) -> None:
    if isinstance(value, int):
        if abs(value) >= 10**wire.MAX_NUMBER_LENGTH:
            raise FieldFault("out_of_range", "Must not hold a number of so many digits.")
        return
    number = Decimal(repr(value)) if isinstance(value, float) else value
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > 2 * wire.MAX_NUMBER_LENGTH:
        raise FieldFault("out_of_range", "Must hold finite numbers of double precision's range.")
    hidden[0] += max(exponent, -exponent - len(number.as_tuple().digits), 0)
    if hidden[0] > _MAX_HIDDEN_DIGITS:
        raise FieldFault("too_long", "Holds too many numbers with large exponents.")


def identity_of(value: Any) -> Hashable:
    """Return something that is equal exactly when two JSON values are: 1 is 1.0, but not true."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, Mapping):
        return ("object", frozenset((key, identity_of(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return ("array", tuple(identity_of(item) for item in value))
    return value  # type: ignore[no-any-return]


def counts_schema(*keys: str) -> dict[str, Any]:
    """Return the schema of counts such as `minItems`."""
    return {key: {"type": "integer", "minimum": 0} for key in keys}


def count_problems(definition: FieldDefinition, low_key: str, high_key: str) -> list[str]:
    """Return what is wrong with a pair of counts."""
    words = definition.constraints
    problems = [
        f"{key} must be an integer, at least 0"
        for key in (low_key, high_key)
        if key in words
        and (not isinstance(words[key], int) or isinstance(words[key], bool) or words[key] < 0)
    ]
    if not problems and words.get(low_key, 0) > words.get(high_key, words.get(low_key, 0)):
        problems.append(f"{low_key} is above {high_key}")
    return problems
