"""Values of a manifest on their way through the checks: where they stand, and what of them is well-formed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

__all__ = ["BAD", "Checked", "Items", "json_type", "step"]

BAD: Final = object()  # what a check returns for a value that nothing can be made of

_MOST_DIGITS: Final = 40  # of a whole number that is written with a point or an exponent
_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*\Z")


def step(path: str, key: str | int) -> str:
    """Return the JSON path one step further down: `$.a[0]`, `$.a.b`, `$.a["b:c"]`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if _PLAIN.match(key) else f"{path}[{json.dumps(key, ensure_ascii=False)}]"


def json_type(value: Any) -> str:
    """Return the JSON word for a value's type; `integer` for a number without a fraction."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float | Decimal):
        return "integer" if _is_whole(Decimal(value)) else "number"
    return "array" if isinstance(value, list | tuple) else "object"


def _is_whole(value: Decimal) -> bool:
    # Written out, 1e1000000000 would fill the memory: what is that large is no count of anything.
    return value.is_finite() and value.adjusted() < _MOST_DIGITS and value == value.to_integral_value()


class Checked(dict[str, Any]):
    """An object whose remaining keys are well-formed; `broken` names those that were not."""

    __slots__ = ("broken", "path")

    def __init__(self, values: Mapping[str, Any], path: str, broken: frozenset[str] = frozenset()) -> None:
        super().__init__(values)
        self.path = path
        self.broken = broken

    def at(self, key: str) -> str:
        """Return the JSON path of a key."""
        return step(self.path, key)

    def located(self) -> Iterator[tuple[str, Any, str]]:
        """Yield key, value and JSON path."""
        return ((key, value, step(self.path, key)) for key, value in self.items())


class Items(list[Any]):
    """An array whose remaining items are well-formed and know where they stood."""

    __slots__ = ("path", "positions")

    def __init__(self, values: Iterable[tuple[int, Any]], path: str) -> None:
        pairs = list(values)
        super().__init__(value for _, value in pairs)
        self.positions = tuple(position for position, _ in pairs)
        self.path = path

    def located(self) -> Iterator[tuple[Any, str]]:
        """Yield value and JSON path."""
        return (
            (value, step(self.path, position)) for value, position in zip(self, self.positions, strict=True)
        )
