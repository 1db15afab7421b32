"""Result templates: how one operation of a batch uses what an earlier one returned.

A string that is exactly `{{result[0].id}}` is replaced by that value, with its type, before the
operation is validated. `{"$literal": "{{result[0].id}}"}` stands for the text itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from byodpp.exceptions import Detail, ValidationFailed

__all__ = ["resolve"]

_TEMPLATE = re.compile(r"\{\{\s*result\[(\d{1,6})\]\.([A-Za-z0-9_.]{1,500})\s*\}\}\Z")
_LITERAL = "$literal"


def resolve(value: Any, results: Sequence[Any], field: str = "") -> Any:
    """Return `value` with its templates replaced, however deep they lie.

    Args:
        value: JSON value of an operation.
        results: JSON values that the earlier operations returned, in order.
        field: dotted path of `value`, for messages.

    Raises:
        ValidationFailed: a template points at a later or missing result, or at no value in it.
    """
    faults: list[Detail] = []
    resolved = _resolve(value, results, field, faults)
    if faults:
        raise ValidationFailed(details=faults)
    return resolved


def _resolve(value: Any, results: Sequence[Any], field: str, faults: list[Detail]) -> Any:
    if isinstance(value, str):
        match = _TEMPLATE.match(value)
        return _look_up(match, results, field, faults) if match else value
    if isinstance(value, list):
        return [_resolve(one, results, f"{field}.{i}".lstrip("."), faults) for i, one in enumerate(value)]
    if isinstance(value, dict):
        if len(value) == 1 and _LITERAL in value:
            return value[_LITERAL]
        return {
            name: _resolve(one, results, f"{field}.{name}".lstrip("."), faults) for name, one in value.items()
        }
    return value


def _look_up(match: re.Match[str], results: Sequence[Any], field: str, faults: list[Detail]) -> Any:
    index, path = int(match[1]), match[2]
    if index >= len(results):
        faults.append(
            Detail(
                field,
                "template",
                f"result[{index}] does not exist yet: {len(results)} operations came before",
            )
        )
        return None
    found = results[index]
    for step in path.split("."):
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            faults.append(Detail(field, "template", f"result[{index}] has no {path!r}"))
            return None
    return found
