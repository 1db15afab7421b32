"""Presets: what a rule gives to a created row where its body says nothing.

In: what a decision presets (JSON values and variables), and whose variables they are. Out: JSON
values, to be judged by the schema like those that were sent. A variable without a value gives
nothing: the row then lacks what it must have, and is refused with the right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from byodpp.definitions import FieldDefinition, ResourceDefinition

__all__ = ["Presets", "preset_values"]

#: Returns what a caller's creation of a resource gets: field -> JSON value.
Presets = Callable[[ResourceDefinition], Mapping[str, Any]]


def preset_values(
    presets: Mapping[str, Any], resource: ResourceDefinition, variables: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the JSON values that a created row gets.

    Args:
        presets: of a `Decision`.
        resource: what is created.
        variables: of the caller.
    """
    found = {}
    for name, value in presets.items():
        if isinstance(value, str) and value.startswith("$$"):
            value = value[1:]
        elif isinstance(value, str) and value.startswith("$"):
            value = _variable(value, resource.fields[name], variables)
            if value is None:
                continue
        found[name] = value
    return found


def _variable(word: str, definition: FieldDefinition, variables: Mapping[str, Any]) -> Any:
    """Return the value of a variable as JSON; None: it has none, or none that the field could take."""
    name = "user.id" if word == "$user" else word[1:]
    value = variables[name] if name in variables else None
    if value is None or isinstance(value, list):
        return None
    kind = definition.type
    try:
        if kind.name == "date" and hasattr(value, "date"):
            value = value.date()
        return kind.to_json(kind.from_json(value, definition), definition)
    except (ValueError, TypeError, ArithmeticError):
        return None
