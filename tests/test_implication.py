"""Whether one condition keeps to another: never said of two where a row shows that it does not."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from typing import Any

import pytest

from byodpp.authorization.implication import implies
from byodpp.conditions import AllOf, AnyOf, Comparison, Condition, Constant, Refusal

VALUES = (None, 0, 1, 2, 3)


def about(word: str, *operands: Any) -> Comparison:
    both = (Constant(operands[0]), Constant(operands[1])) if len(operands) == 2 else Constant(operands[0])
    return Comparison((), "price", word, both)


def comparisons() -> Iterator[Comparison]:
    yield from (about(word, one) for word in ("eq", "ne", "gt", "gte", "lt", "lte") for one in (0, 1, 2))
    yield from (about(word, pair) for word in ("in", "nin") for pair in ((0, 1), (1, 2), ()))
    yield from (about("between", low, high) for low, high in ((0, 1), (1, 2), (2, 1)))
    yield from (about("isNull", one) for one in (True, False))


def truth(condition: Condition, value: int | None, *, strict: bool) -> bool | None:
    """Evaluate plainly: unknown is None, which only a strict reading knows."""
    match condition:
        case AllOf(parts):
            found = [truth(part, value, strict=strict) for part in parts]
            return False if False in found else None if None in found else True
        case AnyOf(parts):
            found = [truth(part, value, strict=strict) for part in parts]
            return True if True in found else None if None in found else False
        case Refusal(part):
            return truth(part, value, strict=True) is False
        case Comparison():
            return compared(condition, value, strict=strict)
    raise AssertionError(condition)


def compared(one: Comparison, value: int | None, *, strict: bool) -> bool | None:
    given: Any = one.operand
    given = tuple(each.value for each in given) if isinstance(given, tuple) else given.value
    if one.operator == "isNull":
        return (value is None) is given
    if value is None:
        return None if strict else one.operator in ("ne", "nin")
    if one.operator in ("in", "nin"):
        return (value in given) is (one.operator == "in")
    if one.operator == "between":
        return bool(given[0] <= value <= given[1])
    return bool(getattr(operator, one.operator.replace("gte", "ge").replace("lte", "le"))(value, given))


def wrong(first: Condition, second: Condition) -> list[int | None]:
    """Return the values that pass the first and not the second."""
    return [
        value
        for value in VALUES
        if truth(first, value, strict=False) is True and truth(second, value, strict=False) is not True
    ]


def test_what_is_said_of_two_comparisons_is_true_of_every_value() -> None:
    simple: list[Condition] = list(comparisons())
    for first, second in itertools.product([*simple, *map(Refusal, simple)], repeat=2):
        if implies(first, second):
            assert not wrong(first, second), (first, second)


def test_what_is_said_of_two_comparisons_against_one_is_true_of_every_value() -> None:
    simple: list[Condition] = list(comparisons())
    wholes: list[Condition] = [*simple, *map(Refusal, simple)]
    said = 0
    for one, other in itertools.combinations(simple, 2):
        for joined in (AllOf((one, other)), AnyOf((one, other))):
            for whole in wholes:
                pairs: list[tuple[Condition, Condition]]
                pairs = [(joined, whole), (whole, joined), (whole, Refusal(joined))]
                for first, second in pairs:
                    if implies(first, second):
                        said += 1
                        assert not wrong(first, second), (first, second)
    assert said > 1000  # it is not that nothing is ever seen


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (about("ne", 0), Refusal(about("isNull", True))),
        (about("nin", (0, 1)), Refusal(about("isNull", True))),
        (Refusal(about("isNull", False)), Refusal(about("gt", 1))),
    ],
    ids=["not equal", "not in", "refused"],
)
def test_a_null_is_no_value_that_keeps_to_anything(first: Condition, second: Condition) -> None:
    assert wrong(first, second) == [None]
    assert not implies(first, second)
