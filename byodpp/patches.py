"""JSON Patch (RFC 6902): the steps of a patch against a row, as the fields that change.

In: the JSON of the body and the row's JSON values. Out: a merge patch. May reject:
ValidationFailed (a step that is no step, or leads nowhere; too much is copied), Conflict (a
`test` that fails).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Container, Mapping
from typing import Any, Final

from byodpp import wire
from byodpp.exceptions import ApiError, Conflict, Detail, ValidationFailed

__all__ = ["apply_steps", "fields_told", "fields_written", "put_below"]

_OPERATIONS: Final = ("add", "remove", "replace", "move", "copy", "test")
#: Of RFC 6901, except the empty one: `~` stands before 0 or 1 only.
_POINTER: Final = re.compile(r"(?:/(?:[^/~]|~[01])*+)++", re.DOTALL)
_MAX_STEPS: Final = 200
#: Characters that all copies of a patch may have: each may hold the one before it twice.
_MAX_COPIED: Final = 1_000_000


class _Nowhere(Exception):
    """A pointer leads to nothing."""


def apply_steps(steps: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that the steps change, with their new values; removed ones are null.

    A field that is shown as null may hold what is hidden from the caller: whoever puts null there means it.

    Args:
        steps: the body.
        row: the row as the caller sees it, JSON values.

    Raises:
        ValidationFailed: a step that is no step, or whose path leads nowhere.
        Conflict: a `test` that fails.
    """
    if not isinstance(steps, list):
        raise ValidationFailed(details=[Detail("", "type", "A JSON Patch is an array of steps.")])
    if len(steps) > _MAX_STEPS:
        raise ValidationFailed(
            details=[Detail("", "too_many", f"A JSON Patch has at most {_MAX_STEPS} steps.")]
        )
    document: dict[str, Any] = copy.deepcopy(dict(row))
    left = _MAX_COPIED
    for index, step in enumerate(steps):
        left -= _apply(document, step, index, left)
    changed = {
        name: value for name, value in document.items() if name not in row or not _equal(row[name], value)
    }
    whole = [name for name in map(_put_whole, steps) if name is not None]
    emptied = [name for name in whole if name in row and document.get(name) is None]
    gone = [name for name in row if name not in document]
    return changed | dict.fromkeys((*emptied, *gone))


def fields_told(steps: Any) -> dict[str, None]:
    """Return the fields that steps compare, take elsewhere, or go into, as far as steps can be read.

    Whether a step finds its way inside a value tells what is there.
    """
    read = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    compared = [step.get("path") for step in read if step.get("op") == "test"]
    taken = [step.get("from") for step in read if step.get("op") in ("copy", "move")]
    inside = [path for step in read if isinstance(path := step.get("path"), str) and "/" in path[1:]]
    heads = [one[1:].partition("/")[0] for one in (*compared, *taken, *inside) if isinstance(one, str)]
    return dict.fromkeys(map(_spelled, heads))


def put_below(steps: Any, names: Container[str]) -> dict[str, Any]:
    """Return what the steps put below members that no row shows, such as relations: before there is a row.

    Args:
        steps: the body.
        names: of those members. Steps that bring something there from elsewhere in the row are passed over.

    Returns:
        The members as a merge patch has them; none where the steps cannot be taken, which is told later.
    """
    own = [step for step in steps if _is_below(step, names)] if isinstance(steps, list) else []
    try:
        return apply_steps(own, {})
    except ApiError:
        return {}


def fields_written(steps: Any) -> dict[str, None]:
    """Return the fields that steps would write, or write into, as far as what may be no steps can be read."""
    read = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    pointers = [step.get("path") for step in read if step.get("op") != "test"]
    pointers += [step.get("from") for step in read if step.get("op") == "move"]
    heads = [one[1:].partition("/")[0] for one in pointers if isinstance(one, str)]
    return dict.fromkeys(map(_spelled, heads))


def _put_whole(step: Mapping[str, Any]) -> str | None:
    """Return the field that a step gives a value as a whole; None where it does something else."""
    whole = step["op"] not in ("test", "remove") and "/" not in step["path"][1:]
    return _spelled(step["path"][1:]) if whole else None


def _spelled(part: str) -> str:
    """Return the name that a part of a pointer stands for."""
    return part.replace("~1", "/").replace("~0", "~")


def _is_below(step: Any, names: Container[str]) -> bool:
    if not isinstance(step, dict):
        return False
    pointers = [step[name] for name in ("path", "from") if name in step]
    return all(isinstance(one, str) and one[1:].split("/", 1)[0] in names for one in pointers)


def _apply(document: dict[str, Any], step: Any, index: int, left: int) -> int:
    """Take one step; return how many characters it has copied, of those that are left."""
    copied = 0
    if not isinstance(step, dict) or step.get("op") not in _OPERATIONS:
        words = ", ".join(_OPERATIONS)
        raise ValidationFailed(details=[Detail(f"{index}.op", "enum", f"Must be one of {words}.")])
    operation = step["op"]
    path = _pointer(step, "path", index)
    if operation in ("add", "replace", "test") and "value" not in step:
        raise ValidationFailed(details=[Detail(f"{index}.value", "required", "This step needs a value.")])
    try:
        if operation == "test":
            if not _equal(_get(document, path), step["value"]):
                raise Conflict(
                    "A test of the patch failed.", details=[Detail(str(index), "test", "Not equal.")]
                )
        elif operation == "remove":
            _remove(document, path)
        elif operation == "replace":
            _get(document, path)
            _remove(document, path)
            _add(document, path, copy.deepcopy(step["value"]))
        elif operation == "add":
            _add(document, path, copy.deepcopy(step["value"]))
        else:
            source = _pointer(step, "from", index)
            value = _get(document, source)
            if operation == "move":
                if path[: len(source)] == source and path != source:
                    raise _Nowhere
                _remove(document, source)
            elif (copied := wire.weight(value, left)) > left:
                told = f"A JSON Patch copies at most {_MAX_COPIED} characters."
                raise ValidationFailed(details=[Detail(str(index), "too_long", told)])
            else:
                value = copy.deepcopy(value)
            _add(document, path, value)
    except _Nowhere:
        raise ValidationFailed(
            details=[Detail(f"{index}.path", "pointer", "This path leads nowhere in the row.")]
        ) from None
    return copied


def _pointer(step: Mapping[str, Any], name: str, index: int) -> list[str]:
    pointer = step.get(name)
    if not isinstance(pointer, str) or not _POINTER.fullmatch(pointer) or len(pointer) > 1_000:
        raise ValidationFailed(
            details=[Detail(f"{index}.{name}", "pointer", "Must be a JSON Pointer to a field, e.g. `/name`.")]
        )
    return [_spelled(part) for part in pointer[1:].split("/")]


def _equal(one: Any, other: Any) -> bool:
    """Compare JSON values: numbers by value, and true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def _get(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[_place(document, part)]
    return document


def _place(container: Any, part: str) -> Any:
    if isinstance(container, dict) and part in container:
        return part
    if isinstance(container, list) and _is_index(part) and int(part) < len(container):
        return int(part)
    raise _Nowhere


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdecimal() and len(part) < 7 and (part == "0" or part[0] != "0")


def _remove(document: Any, path: list[str]) -> None:
    container = _get(document, path[:-1])
    del container[_place(container, path[-1])]


def _add(document: Any, path: list[str], value: Any) -> None:
    container, last = _get(document, path[:-1]), path[-1]
    if isinstance(container, dict):
        container[last] = value
    elif isinstance(container, list) and (last == "-" or (_is_index(last) and int(last) <= len(container))):
        container.insert(len(container) if last == "-" else int(last), value)
    else:
        raise _Nowhere
