"""Result templates: how one operation of a batch uses what an earlier one returned.

A string that is exactly `{{result[0].id}}` is replaced by that value, with its type, before the
operation is validated; one that is meant to be a template and is not well-formed is refused, never
stored as a text. What one operation takes is bounded, because results hold what earlier ones took.
`{"$literal": "{{result[0].id}}"}` stands for the text itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Any, Final

from byodpp import wire
from byodpp.exceptions import Detail, ValidationFailed

__all__ = ["MAX_TAKEN", "refers", "resolve"]

#: Characters that the templates of one operation may stand for.
MAX_TAKEN: Final = 1_000_000

_TEMPLATE = re.compile(r"\{\{\s*result\[(\d{1,6})\]\.([A-Za-z0-9_.]{1,500})\s*\}\}\Z")
#: What is meant to be one, whether it is well-formed or not.
_MEANT = re.compile(r"\{\{\s*result\s*\[.*\}\}\Z", re.DOTALL)
_LITERAL = "$literal"


def resolve(value: Any, results: Sequence[Any], field: str = "") -> Any:
    """Return `value` with its templates replaced, however deep they lie.

    Args:
        value: JSON value of an operation.
        results: JSON values that the earlier operations returned, in order.
        field: dotted path of `value`, for messages.

    Raises:
        ValidationFailed: a template is not well-formed, or points at a later or missing result, or at no
            value in it, or the templates stand for too much.
    """
    resolving = _Resolving(results)
    resolved = resolving.resolve(value, field)
    if resolving.faults:
        raise ValidationFailed(details=resolving.faults[:100])
    return resolved


def refers(value: Any) -> bool:
    """Tell whether there is a template somewhere in a JSON value."""
    if isinstance(value, str):
        return _MEANT.match(value) is not None
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(refers, parts))


@dataclass(slots=True)
class _Resolving:
    """Replaces the templates of one operation and notes what is wrong with them."""

    results: Sequence[Any]
    faults: list[Detail] = attribute(default_factory=list)
    left: int = MAX_TAKEN  # characters that may still be taken

    def resolve(self, value: Any, field: str) -> Any:
        if isinstance(value, str):
            if not _MEANT.match(value):
                return value
            match = _TEMPLATE.match(value)
            if match is None:
                told = (
                    "a template names a result and a path in it: {{result[0].id}}, {{result[0].items.0.id}}"
                )
                return self._fault(field, f"{told}; a text that looks like one is sent as $literal")
            return self._look_up(match, field)
        if isinstance(value, list):
            return [self.resolve(one, f"{field}.{i}".lstrip(".")) for i, one in enumerate(value)]
        if isinstance(value, dict):
            if len(value) == 1 and _LITERAL in value:
                return value[_LITERAL]
            return {name: self.resolve(one, f"{field}.{name}".lstrip(".")) for name, one in value.items()}
        return value

    def _look_up(self, match: re.Match[str], field: str) -> Any:
        index, path = int(match[1]), match[2]
        if index >= len(self.results):
            came = len(self.results)
            return self._fault(field, f"result[{index}] does not exist yet: {came} operations came before")
        found = self.results[index]
        for step in path.split("."):
            if isinstance(found, dict) and step in found:
                found = found[step]
            elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
                found = found[int(step)]
            else:
                return self._fault(field, f"result[{index}] has no {path!r}")
        self.left -= wire.weight(found, self.left) if self.left >= 0 else 0
        if self.left < 0:
            return self._fault(field, f"The templates stand for more than {MAX_TAKEN} characters.")
        return found

    def _fault(self, field: str, message: str) -> None:
        self.faults.append(Detail(field, "template", message))
