"""Constraints of numbers: minimum, maximum, their exclusive twins, multipleOf."""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from byodpp.fields.strict_field import FieldFault

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition
    from byodpp.fields.field_type import Check

__all__ = [
    "EXACT",
    "NUMBER_KEYS",
    "NUMBER_SCHEMA",
    "exact",
    "number_checks",
    "number_problems",
    "number_words",
    "within_bounds",
]

NUMBER_KEYS: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
NUMBER_SCHEMA: Final[Mapping[str, Any]] = {
    "minimum": {"type": "number"},
    "maximum": {"type": "number"},
    "exclusiveMinimum": {"type": "number"},
    "exclusiveMaximum": {"type": "number"},
    "multipleOf": {"type": "number", "exclusiveMinimum": 0},
}
#: Wide enough that nothing a body or a numeric column holds is ever rounded.
EXACT: Final = decimal.Context(prec=3_000, Emax=999_999, Emin=-999_999)
#: Characters of a bound in a message; a longer one is written with an exponent.
_LONGEST_SHOWN: Final = 40


def exact(number: int | float | Decimal) -> Decimal:
    """Return a number with its decimal digits; a float with its shortest ones."""
    return Decimal(repr(number)) if isinstance(number, float) else Decimal(number)


def number_checks(definition: FieldDefinition) -> list[Check]:
    """Return the constraints of a number's field."""
    words = definition.constraints
    found: list[Check] = []
    if (low := words.get("minimum")) is not None:
        found.append(_check(lambda value: value >= low, "out_of_range", f"Must be at least {_shown(low)}."))
    if (high := words.get("maximum")) is not None:
        found.append(_check(lambda value: value <= high, "out_of_range", f"Must be at most {_shown(high)}."))
    if (above := words.get("exclusiveMinimum")) is not None:
        found.append(_check(lambda value: value > above, "out_of_range", f"Must be above {_shown(above)}."))
    if (below := words.get("exclusiveMaximum")) is not None:
        found.append(_check(lambda value: value < below, "out_of_range", f"Must be below {_shown(below)}."))
    if (step := words.get("multipleOf")) is not None:
        unit = exact(step)
        found.append(
            _check(
                lambda value: not EXACT.remainder(exact(value), unit),
                "multiple_of",
                f"Must be a multiple of {_shown(step)}.",
            )
        )
    return found


def within_bounds(definition: FieldDefinition, lowest: Any, highest: Any) -> tuple[Any, Any] | None:
    """Return the least and the greatest value of a field; None where more is asked than to lie between them.

    Args:
        definition: the field.
        lowest: least value of its type.
        highest: greatest value of its type.
    """
    words = definition.constraints
    more = NUMBER_KEYS - {"minimum", "maximum"}
    if definition.enum is not None or any(words.get(key) is not None for key in more):
        return None
    low, high = words.get("minimum"), words.get("maximum")
    return lowest if low is None else max(lowest, low), highest if high is None else min(highest, high)


def _check(holds: Any, code: str, message: str) -> Check:
    def check(value: Any) -> None:
        if not holds(value):
            raise FieldFault(code, message)

    return check


def _shown(number: Any) -> str:
    digits = format(exact(number), "f")
    return digits if len(digits) <= _LONGEST_SHOWN else str(exact(number).normalize(EXACT))


def number_problems(definition: FieldDefinition) -> list[str]:
    """Return what is wrong with the constraints of a number's field."""
    words = definition.constraints
    problems = [
        f"{key} must be a number" for key in sorted(NUMBER_KEYS & words.keys()) if not _is_number(words[key])
    ]
    if problems:
        return problems
    if "multipleOf" in words and words["multipleOf"] <= 0:
        problems.append("multipleOf must be above 0")
    low, high = words.get("minimum"), words.get("maximum")
    above, below = words.get("exclusiveMinimum"), words.get("exclusiveMaximum")
    if low is not None and high is not None and low > high:
        problems.append("minimum is above maximum")
    lower = above if above is not None else low
    upper = below if below is not None else high
    if lower is not None and upper is not None and (above, below) != (None, None) and lower >= upper:
        problems.append("the bounds leave no value")
    return problems


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def number_words(definition: FieldDefinition) -> dict[str, Any]:
    """Return the constraints that JSON Schema states in the same words."""
    return {key: definition.constraints[key] for key in sorted(NUMBER_KEYS & definition.constraints.keys())}
