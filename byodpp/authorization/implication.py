"""Whether one condition keeps to another: every row for which the first is true, the second is, too.

Decides what a rule may hand on. It errs on one side only: True is certain, False may mean that
it could not be seen. What depends on who asks (`$user.…`) keeps to nothing: another user's rows
are other rows.
"""

from __future__ import annotations

from typing import Any, Final

from byodpp.conditions import (
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Constant,
    Negation,
    Opened,
    Quantified,
    Refusal,
    Search,
    Variable,
)

__all__ = ["implies"]

#: Operators that a null passes.
_NULLABLE: Final = frozenset({"ne", "nin"})
_RANGES: Final = frozenset({"gt", "gte", "lt", "lte", "between"})


def implies(first: Condition | None, second: Condition | None) -> bool:
    """Tell whether `first` surely keeps to `second`; None is "every row"."""
    if second is None:
        return True
    if first is not None and first == second and not _personal(second):
        return True
    match first:
        case AnyOf(parts):
            return all(implies(part, second) for part in parts)
        case Refusal(AnyOf(parts)):
            return implies(AllOf(tuple(Refusal(part) for part in parts)), second)
    match second:
        case AllOf(parts):
            return all(implies(first, part) for part in parts)
        case AnyOf(parts) if any(implies(first, part) for part in parts):
            return True
        case Refusal(AnyOf(parts)):
            return all(implies(first, Refusal(part)) for part in parts)
        case Refusal(AllOf(parts)) if any(implies(first, Refusal(part)) for part in parts):
            return True
    if isinstance(first, AllOf):
        return any(implies(part, second) for part in first.parts)
    if isinstance(first, Comparison) and isinstance(second, Comparison):
        return _alike(first, second) and _within(first, second)
    if isinstance(first, Comparison) and isinstance(second, Refusal):
        other = second.part
        return isinstance(other, Comparison) and _alike(first, other) and _apart(first, other)
    if isinstance(first, Refusal) and isinstance(second, Refusal):
        mine, other = first.part, second.part
        if isinstance(mine, Comparison) and isinstance(other, Comparison):
            # A null that `mine` is known not to match makes `other` unknown, and so refused.
            return _alike(other, mine) and _knows_null(mine, other) and _within(other, mine)
    return False


def _knows_null(mine: Comparison, other: Comparison) -> bool:
    """Tell whether refusing `mine` leaves no null that refusing `other` would not leave."""
    refuses_null = mine.operator != "isNull" or _value(mine) is True
    return refuses_null or other.operator == "isNull"


def _personal(condition: Condition) -> bool:
    """Tell whether a condition means other rows to another user."""
    match condition:
        case Comparison(operand=operand):
            each = operand if isinstance(operand, tuple) else (operand,)
            return any(isinstance(one, Variable) and one.name.startswith("user.") for one in each)
        case AllOf(parts) | AnyOf(parts):
            return any(_personal(part) for part in parts)
        case Negation(part) | Refusal(part) | Quantified(part=part):
            return _personal(part)
        case Search():
            return False
        case Opened():
            return True


def _alike(first: Comparison, second: Comparison) -> bool:
    """Tell whether both compare the same value with constants, whose order is also PostgreSQL's."""
    same = (first.path, first.field, first.inside, first.kind) == (
        second.path, second.field, second.inside, second.kind
    )  # fmt: skip
    # What lies inside json is of any type, and its comparisons have rules of their own.
    return same and not first.inside and not first.kind and _constant(first) and _constant(second)


def _constant(comparison: Comparison) -> bool:
    operand = comparison.operand
    return all(isinstance(one, Constant) for one in (operand if isinstance(operand, tuple) else (operand,)))


def _within(first: Comparison, second: Comparison) -> bool:
    """Tell whether every value that passes `first` passes `second`."""
    if second.operator == "isNull":
        wanted = _value(second)
        if first.operator == "isNull":
            return bool(_value(first) == wanted)
        return wanted is False and first.operator not in _NULLABLE
    if first.operator in _NULLABLE:
        return second.operator in _NULLABLE and set(_listed(second)) <= set(_listed(first))
    listed = _finite(first)
    if listed is not None:
        return all(_passes(value, second) is True for value in listed)
    if second.operator in _NULLABLE:
        return all(_passes(value, first) is False for value in _listed(second))
    outer, inner = _interval(second), _interval(first)
    return outer is not None and inner is not None and _covers(outer, inner)


def _apart(first: Comparison, second: Comparison) -> bool:
    """Tell whether `first` means a value, not null, and none that passes `second`."""
    if first.operator in _NULLABLE or first.operator == "isNull":
        return False  # a null passes, or may, and to refuse a comparison refuses nulls, too
    if second.operator == "isNull":
        return _value(second) is True
    listed, other = _finite(first), _finite(second)
    if listed is not None:
        return all(_passes(value, second) is False for value in listed)
    if other is not None:
        return all(_passes(value, first) is False for value in other)
    one, two = _interval(first), _interval(second)
    return one is not None and two is not None and _disjoint(one, two)


def _value(comparison: Comparison) -> Any:
    operand = comparison.operand
    return operand.value if isinstance(operand, Constant) else None


def _listed(comparison: Comparison) -> tuple[Any, ...]:
    """Return the values of `eq`, `in`, and their complements."""
    value = _value(comparison)
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _finite(comparison: Comparison) -> tuple[Any, ...] | None:
    """Return the only values that pass; None when they cannot be counted."""
    return _listed(comparison) if comparison.operator in ("eq", "in") else None


def _passes(value: Any, comparison: Comparison) -> bool | None:
    """Tell whether a value passes; None when that cannot be said here."""
    operator = comparison.operator
    if operator in ("eq", "in"):
        return value in _listed(comparison)
    if operator in _NULLABLE:
        return value not in _listed(comparison)
    interval = _interval(comparison)
    return None if interval is None else _covers(interval, (value, True, value, True))


#: Least value, whether it belongs, greatest value, whether it belongs; None is no bound.
_Interval = tuple[Any, bool, Any, bool]


def _interval(comparison: Comparison) -> _Interval | None:
    operand = comparison.operand
    if comparison.operator not in _RANGES:
        return None
    if isinstance(operand, tuple):
        low, high = (one.value if isinstance(one, Constant) else None for one in operand)
        found: _Interval = (low, True, high, True)
    elif comparison.operator in ("gt", "gte"):
        found = (_value(comparison), comparison.operator == "gte", None, False)
    else:
        found = (None, False, _value(comparison), comparison.operator == "lte")
    # Text may be ordered by a locale.
    return None if any(isinstance(one, str) for one in found) else found


def _covers(outer: _Interval, inner: _Interval) -> bool:
    low, with_low, high, with_high = outer
    least, with_least, most, with_most = inner
    above = low is None or (
        least is not None and (least > low or (least == low and (with_low or not with_least)))
    )
    below = high is None or (
        most is not None and (most < high or (most == high and (with_high or not with_most)))
    )
    return bool(above and below)


def _disjoint(one: _Interval, two: _Interval) -> bool:
    def before(first: _Interval, second: _Interval) -> bool:
        most, least = first[2], second[0]
        if most is None or least is None:
            return False
        return bool(most < least or (most == least and not (first[3] and second[1])))

    return before(one, two) or before(two, one)
