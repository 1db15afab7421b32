"""What lies inside json, objects, and arrays: what a path leads to, and what may be compared with it.

In: a field, the steps of a path, and operands. Out: the definition there, and values as they are
stored. Refused are steps that lead nowhere, and values that no item can be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from byodpp import wire
from byodpp.definitions import FieldDefinition
from byodpp.exceptions import ApiError
from byodpp.fields.numbers import exact
from byodpp.query.text import Brackets, Text
from byodpp.query.values import Rejected, python_value, scalar_json
from byodpp.suggestion import nearest

__all__ = ["INDEX", "definition_inside", "has_digits", "member", "number"]

#: A place in an array; below 0 counted from its end, as PostgreSQL does.
INDEX: Final = "(0|-?[1-9][0-9]{0,5})"
_INDEX: Final = re.compile(INDEX, re.ASCII)


def definition_inside(field: FieldDefinition, path: tuple[str, ...]) -> FieldDefinition | None:
    """Return what is declared at the end of a path, None where anything may lie.

    Raises:
        Rejected: `unknown_field`, nothing can lie there.
    """
    found: FieldDefinition | None = field
    for step in path:
        if found is None:
            return None
        found = _next(found, step)
    return found


def _next(definition: FieldDefinition, step: str) -> FieldDefinition | None:
    kind = definition.type
    if not kind.document:
        raise Rejected(f"{definition.name!r} has no values inside it.", "unknown_field")
    if kind.name == "array":
        if not _INDEX.fullmatch(step):
            told = f"Expected the index of an item, such as 0, or -1 for the last one, not {step[:100]!r}."
            raise Rejected(told, "unknown_field")
        return definition.items
    if kind.name != "object":
        return None
    known = definition.properties
    if step not in known and not definition.additional_properties:
        told = f"There is no property {step[:100]!r} here. {nearest(step, known)}"
        raise Rejected(told.rstrip(), "unknown_field")
    return known.get(step)


def has_digits(definition: FieldDefinition | None) -> bool:
    """Whether the values there are numbers that are kept as text."""
    return definition is not None and definition.type.digits(definition)


def number(raw: Any, definition: FieldDefinition) -> Decimal:
    """Return an operand of a number that is kept as text.

    Raises:
        Rejected: the type refuses it.
    """
    return exact(python_value(raw, definition))


def member(raw: Any, item: FieldDefinition) -> Any:
    """Return an item as JSON has it; of an object or array, what it must hold at least.

    Raises:
        Rejected: no item can be that.
    """
    composed = isinstance(raw, list | Mapping)
    if raw is None or isinstance(raw, Brackets) or (composed and not item.type.document):
        raise Rejected("Expected a single value.")
    if not item.type.document or item.type.name == "json":
        return scalar_json(raw, item)
    value = _parsed(raw, item) if isinstance(raw, Text) else raw
    _check_names(value, item)
    return scalar_json(value, item)


def _parsed(raw: Text, item: FieldDefinition) -> Any:
    """Return the document that a text spells."""
    try:
        value = wire.loads(raw.text.encode("utf-8", "surrogatepass"))
    except ApiError:
        value = None
    if not isinstance(value, list | Mapping):
        raise Rejected(f"Expected an {item.type.name} in JSON.")
    return value


def _check_names(value: Any, definition: FieldDefinition) -> None:
    """Refuse properties that no item has, however deep."""
    if isinstance(value, Mapping) and definition.type.name == "object":
        for name, inner in value.items():
            below = _next(definition, name)
            if below is not None:
                _check_names(inner, below)
    elif isinstance(value, list) and definition.items is not None:
        for inner in value:
            _check_names(inner, definition.items)
