"""Values of a filter: text or JSON becomes what asyncpg takes, or a fault with its reason.

Every conversion asks the field's type. The only knowledge of its own: lists (commas escaped
by a backslash), patterns (`%`, `_`), values inside json, and variables of policies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from byodpp.definitions import FieldDefinition
from byodpp.fields import FieldFault
from byodpp.query.text import Brackets, Text

__all__ = [
    "Rejected",
    "escaped",
    "is_list",
    "items",
    "json_candidates",
    "json_text",
    "pattern",
    "python_value",
    "scalar",
    "scalar_json",
    "text",
    "truth",
]

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_WILDCARDS = re.compile(r"([\\%_])")
_UNESCAPED_END = re.compile(r"(?<!\\)(?:\\\\)*\\\Z")
_JSON_WORDS: Final = {"true": True, "false": False, "null": None}


class Rejected(ValueError):
    """A value that the operator or the field's type does not take."""

    def __init__(self, message: str, code: str = "type") -> None:
        """Args:
        message: for the client.
        code: of the fault.
        """
        self.code = code
        super().__init__(message)


def text(raw: Any) -> str:
    """Return a text operand.

    Raises:
        Rejected: it is not one, or holds what PostgreSQL cannot store.
    """
    value = raw.text if isinstance(raw, Text) else raw
    if not isinstance(value, str):
        raise Rejected("Expected a text.")
    if "\0" in value:
        raise Rejected("U+0000 is not text.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Rejected("A lone surrogate is not text.") from None
    return value


def python_value(raw: Any, definition: FieldDefinition) -> Any:
    """Return the Python value of a field's type.

    Raises:
        Rejected: the type refuses it.
    """
    if isinstance(raw, Text | str):
        text(raw)
    if raw is None:
        raise Rejected("Null has no order; isNull asks for it.", "null")
    kind = definition.type
    try:
        return (
            kind.from_text(raw.text, definition) if isinstance(raw, Text) else kind.from_json(raw, definition)
        )
    except FieldFault as fault:
        raise Rejected(str(fault), fault.code) from None


def scalar(raw: Any, definition: FieldDefinition) -> Any:
    """Return one bound value of a field's type.

    Raises:
        Rejected: the type refuses it.
    """
    return definition.type.bind(python_value(raw, definition), definition)


def scalar_json(raw: Any, definition: FieldDefinition) -> Any:
    """Return one value of a property or an item, as JSON has it.

    Raises:
        Rejected: the type refuses it.
    """
    return definition.type.to_json(python_value(raw, definition), definition)


def truth(raw: Any) -> bool:
    """Return the operand of `isNull`."""
    if isinstance(raw, Text):
        raw = {"true": True, "false": False}.get(raw.text)
    if not isinstance(raw, bool):
        raise Rejected("Expected true or false.")
    return raw


def is_list(raw: Any) -> bool:
    """Return whether a node of the bracket form is a list: `[0]`, `[1]`, …"""
    return (
        isinstance(raw, Mapping)
        and bool(raw)
        and all(key.isascii() and key.isdigit() and len(key) < 6 for key in raw)
    )


def items(raw: Any) -> list[Any]:
    """Return the elements of a list operand: JSON, `[0]=…`, or text split at commas.

    Raises:
        Rejected: it is no list.
    """
    if isinstance(raw, Text):
        return [Text(part) for part in _split(raw.text)]
    if isinstance(raw, list):
        return raw
    if is_list(raw):
        return [raw[key] for key in sorted(raw, key=int)]
    raise Rejected("Expected a list.")


def _split(value: str) -> list[str]:
    r"""Split at commas; `\,` is a comma and `\\` a backslash."""
    parts, current, escape = [], [], False
    for character in value:
        if escape:
            current.append(character if character in ",\\" else "\\" + character)
            escape = False
        elif character == "\\":
            escape = True
        elif character == ",":
            parts.append("".join(current))
            current = []
        else:
            current.append(character)
    if escape:
        current.append("\\")
    return [*parts, "".join(current)]


def escaped(value: str) -> str:
    """Return a pattern that matches exactly this text."""
    return _WILDCARDS.sub(r"\\\1", value)


def pattern(operator: str, raw: Any) -> str:
    r"""Return the complete LIKE pattern of a text operator; `\` escapes inside like and ilike.

    Raises:
        Rejected: no text, or a pattern that ends inside an escape.
    """
    value = text(raw)
    if len(value) > 1_000:
        raise Rejected("A pattern has at most 1000 characters.")
    if operator == "startsWith":
        return escaped(value) + "%"
    if operator == "endsWith":
        return "%" + escaped(value)
    if operator == "contains" or not ("%" in value or "_" in value):
        return f"%{escaped(value)}%"
    if _UNESCAPED_END.search(value):
        raise Rejected("A pattern cannot end with a single backslash.")
    return value


# --- inside json ---


def json_text(value: Any) -> str:
    """Return a JSON value as text; numbers keep their digits."""
    if isinstance(value, Decimal):
        if not value.is_finite() or abs(value.adjusted()) > 1_000:
            raise Rejected("Expected a number of at most 1000 digits.")
        return str(value)
    if isinstance(value, str):
        text(value)
    if isinstance(value, list):
        return f"[{','.join(json_text(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json_text(key)}:{json_text(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def json_candidates(raw: Any) -> list[Any]:
    """Return the JSON values that an operand may mean.

    In a query string `5` may be the number or the text: either matches. In JSON it is what it is.

    Raises:
        Rejected: brackets go on behind the operator, or the text cannot be stored.
    """
    if isinstance(raw, Brackets):
        raise Rejected("Expected a single value.")
    if not isinstance(raw, Text):
        return [raw]
    value = text(raw)
    candidates: list[Any] = [value]
    if value in _JSON_WORDS and value != "null":
        candidates.append(_JSON_WORDS[value])
    elif len(value) < 400 and _NUMBER.fullmatch(value):
        candidates.append(Decimal(value))
    return candidates
