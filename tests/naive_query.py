"""The query language evaluated slowly and obviously, over rows in memory: what answers are held against."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

PATTERNS = ("like", "ilike", "contains", "startsWith", "endsWith")
#: resource -> relation -> target, whether to-many, local field, foreign field
RELATIONS: dict[str, dict[str, tuple[str, bool, str, str]]] = {
    "Categories": {
        "parent": ("Categories", False, "parentId", "id"),
        "products": ("Products", True, "id", "categoryId"),
    },
    "Products": {
        "category": ("Categories", False, "categoryId", "id"),
        "dpps": ("Dpps", True, "id", "productId"),
    },
    "Dpps": {
        "product": ("Products", False, "productId", "id"),
        "sections": ("Sections", True, "id", "dppId"),
    },
    "Sections": {"dpp": ("Dpps", False, "dppId", "id"), "unit": ("Units", False, "unitId", "id")},
    "Units": {},
}
Rows = dict[str, list[dict[str, Any]]]
#: Documents of Products that declare what lies in them, and which of that are numbers kept as text.
DOCUMENTS = ("size", "lines", "grid", "counts", "rates", "costs")
DIGITS = ("counts", "rates", "costs", "count", "rate", "cost")


class Naive:
    """Evaluates queries over rows in memory, one row at a time."""

    def __init__(self, rows: Rows) -> None:
        self.rows = {name: [row for row in found if not row.get("deleted")] for name, found in rows.items()}

    def related(self, name: str, row: dict[str, Any], relation: str) -> list[dict[str, Any]]:
        target, _, local, foreign = RELATIONS[name][relation]
        return [one for one in self.rows[target] if row[local] is not None and one[foreign] == row[local]]

    def holds(self, name: str, row: dict[str, Any] | None, tree: dict[str, Any]) -> bool:
        return all(self.entry(name, row, key, value) for key, value in tree.items())

    def entry(self, name: str, row: dict[str, Any] | None, key: str, value: Any) -> bool:
        if key == "and":
            return all(self.holds(name, row, one) for one in value)
        if key == "or":
            return any(self.holds(name, row, one) for one in value)
        if key == "not":
            return not self.holds(name, row, value)
        first, _, rest = key.partition(".")
        if first in RELATIONS[name]:
            target, many, *_ = RELATIONS[name][first]
            found = [] if row is None else self.related(name, row, first)
            if many:
                return all(self.quantified(target, found, word, tree) for word, tree in value.items())
            return self.entry(target, found[0] if found else None, rest, value)
        steps = rest.split(".") if rest else []
        stored = None if row is None else row[first]
        for step in steps:
            stored = part(stored, step)
        if first not in DOCUMENTS:
            return all(operation(stored, word, operand, bool(rest)) for word, operand in value.items())
        last = next(step for step in [*reversed(steps), first] if not is_index(step))
        return all(
            operation(numbers(stored, last), word, numbers(operand, last), bool(rest))
            for word, operand in value.items()
        )

    def quantified(self, target: str, found: list[dict[str, Any]], word: str, tree: dict[str, Any]) -> bool:
        matches = [self.holds(target, one, tree) for one in found]
        return {"some": any(matches), "every": all(matches), "none": not any(matches)}[word]

    def value(self, name: str, row: dict[str, Any] | None, path: str) -> Any:
        first, _, rest = path.partition(".")
        if row is None or not rest:
            return None if row is None else row[first]
        found = self.related(name, row, first)
        return self.value(RELATIONS[name][first][0], found[0] if found else None, rest)

    def ordered(
        self, name: str, rows: list[dict[str, Any]], sorts: list[tuple[str, bool, bool | None]]
    ) -> list[Any]:
        rows = sorted(rows, key=lambda row: row["id"])
        for path, descending, nulls_first in reversed(sorts):
            first = descending if nulls_first is None else nulls_first
            present = [row for row in rows if self.value(name, row, path) is not None]
            absent = [row for row in rows if self.value(name, row, path) is None]
            # `reverse` keeps equal rows in their former order.
            present.sort(key=lambda row: self.value(name, row, path), reverse=descending)
            rows = absent + present if first else present + absent
        return rows


def is_index(step: str) -> bool:
    return step.removeprefix("-").isdigit()


def part(stored: Any, step: str) -> Any:
    """Return what lies at one step of a path; an index below 0 counts from the end."""
    if isinstance(stored, list) and is_index(step):
        return stored[int(step)] if -len(stored) <= int(step) < len(stored) else None
    return stored.get(step) if isinstance(stored, dict) else None


def numbers(value: Any, name: str) -> Any:
    """Return a value or an operand in which what is a number kept as text is a number."""
    if isinstance(value, dict):
        return {key: numbers(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [numbers(inner, name) for inner in value]
    return Decimal(value) if name in DIGITS and isinstance(value, str) else value


def same(one: Any, other: Any) -> bool:
    """Compare as JSON values: true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def operation(stored: Any, word: str, operand: Any, inside: bool) -> bool:
    if word == "isNull":
        return bool((stored is None) == operand)
    if word in ("ne", "nin"):
        return not operation(stored, {"ne": "eq", "nin": "in"}[word], operand, inside)
    if word == "in":
        return any(operation(stored, "eq", one, inside) for one in operand)
    if word == "eq" and operand is None:
        return stored is None
    if stored is None:
        return False
    if word == "eq":
        return same(stored, operand)
    if word in PATTERNS:
        return isinstance(stored, str) and matches(stored, word, operand)
    if word in ("has", "hasAny", "hasAll"):
        wanted = [operand] if word == "has" else operand
        return (all if word == "hasAll" else any)(has(stored, one) for one in wanted)
    if inside:
        numbers = is_number(operand[0] if word == "between" else operand)
        if is_number(stored) != numbers or not (numbers or isinstance(stored, str)):
            return False
    if word == "between":
        return bool(operand[0] <= stored <= operand[1])
    return bool(
        {"gt": stored > operand, "gte": stored >= operand, "lt": stored < operand, "lte": stored <= operand}[
            word
        ]
    )


def has(stored: Any, wanted: Any) -> bool:
    if isinstance(stored, dict):
        return isinstance(wanted, str) and wanted in stored
    return isinstance(stored, list) and any(holds(one, wanted) for one in stored)


def holds(stored: Any, wanted: Any) -> bool:
    """Whether a document holds another: every property, every item, wherever it stands."""
    if isinstance(wanted, dict):
        return isinstance(stored, dict) and all(
            key in stored and holds(stored[key], inner) for key, inner in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(stored, list) and all(any(holds(one, each) for one in stored) for each in wanted)
    return not isinstance(stored, dict | list) and same(stored, wanted)


def matches(stored: str, word: str, operand: str) -> bool:
    if word in ("contains", "startsWith", "endsWith"):
        return {
            "contains": operand in stored,
            "startsWith": stored.startswith(operand),
            "endsWith": stored.endswith(operand),
        }[word]
    if word == "ilike":
        stored, operand = stored.lower(), operand.lower()
    if "%" not in operand and "_" not in operand:
        return operand in stored
    pattern, escape = "", False
    for character in operand:
        if escape or character not in "\\%_":
            pattern, escape = pattern + re.escape(character), False
        elif character == "\\":
            escape = True
        else:
            pattern += ".*" if character == "%" else "."
    return re.fullmatch(pattern, stored, re.DOTALL) is not None
