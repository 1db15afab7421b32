"""From marshmallow's nested messages to the details of one refusal.

In: the messages of a ValidationError, coded (`Fault`) or plain. Out: details with dotted paths, in
the order of the request, and the 422 that carries at most a hundred of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Final

import marshmallow

from byodpp.exceptions import Detail, ValidationFailed
from byodpp.fields.strict_field import MOST_TOLD, Fault
from byodpp.suggestion import nearest

__all__ = ["MAX_DETAILS", "details_of", "join_path", "refuse"]

#: Faults that one answer lists; the message tells how many there are.
MAX_DETAILS: Final = MOST_TOLD

#: Characters of a path that are shown; a key of the body may be a megabyte long.
_SHOWN_PATH: Final = 200
#: How marshmallow's own messages begin -> our code, for fields that an application writes.
_CODES: Final = (
    ("Missing data for required field", "required"),
    ("Field may not be null", "null"),
    ("Unknown field", "unknown_field"),
    ("Not a valid email", "format"),
    ("Not a valid URL", "format"),
    ("Not a valid", "type"),
    ("Invalid input type", "type"),
    ("Longer than maximum length", "too_long"),
    ("Shorter than minimum length", "too_short"),
    ("Must be one of", "enum"),
    ("Must be greater than", "out_of_range"),
    ("Must be less than", "out_of_range"),
    ("String does not match expected pattern", "pattern"),
)


def refuse(details: Sequence[Detail], more: int = 0) -> ValidationFailed:
    """Return the refusal with at most MAX_DETAILS of the faults, and their number.

    Args:
        details: the faults.
        more: faults beside them that nobody has noted.
    """
    count = len(details) + more
    if count <= MAX_DETAILS:
        return ValidationFailed(details=details)
    message = f"The body is not valid: {count} faults, of which the first {MAX_DETAILS} are listed."
    refusal = ValidationFailed(message, details=details[:MAX_DETAILS])
    refusal.unlisted = count - MAX_DETAILS
    return refusal


def details_of(messages: Any, prefix: str, order: list[str], names: list[str]) -> list[Detail]:
    """Flatten marshmallow's messages in the order of the request; what is missing comes last."""
    position = {name: index for index, name in enumerate(order)}
    details: list[Detail] = []
    suggestions = 0
    for name in sorted(messages, key=lambda key: position.get(key, len(position))):
        for detail in _flatten(
            messages[name], prefix if name == marshmallow.exceptions.SCHEMA else join_path(prefix, name)
        ):
            if detail.code == "unknown_field" and detail.message == "Unknown field.":
                meant = nearest(str(name), names) if (suggestions := suggestions + 1) <= 5 else ""
                detail = Detail(detail.field, detail.code, f"Is not known here. {meant}".strip())
            details.append(detail)
    return details


def _flatten(messages: Any, path: str) -> Iterator[Detail]:
    if isinstance(messages, Mapping):
        for name, inner in messages.items():
            yield from _flatten(
                inner, path if name == marshmallow.exceptions.SCHEMA else join_path(path, name)
            )
    elif isinstance(messages, list | tuple):
        for message in messages:
            yield from _flatten(message, path)
    else:
        detail = Detail(path, _code(messages), str(messages))
        yield from repeat(detail, messages.times if isinstance(messages, Fault) else 1)


def join_path(prefix: str, name: object) -> str:
    """Join a path; what cannot be printed or is very long is made harmless."""
    shown = str(name)[:_SHOWN_PATH].encode("utf-8", "backslashreplace").decode()
    return f"{prefix}.{shown}" if prefix else shown


def _code(message: object) -> str:
    if isinstance(message, Fault):
        return message.code
    text = str(message)
    return next((code for beginning, code in _CODES if text.startswith(beginning)), "invalid")
