"""One operator of the query language as SQL: nulls give null or false, never true.

The two that include nulls, `ne` and `nin`, are `eq` and `in` negated by `statement_conditions`.
Values are always parameters; no text of a client gets into a statement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from byodpp.conditions import Comparison, Constant, Operand
from byodpp.definitions import FieldDefinition
from byodpp.statements.parameters import bound, operand_key, operand_source

__all__ = ["POSITIVE", "compare", "operand_parameter", "value_type"]

#: Operators that include nulls -> those whose complement they are.
POSITIVE: Final[Mapping[str, str]] = MappingProxyType({"ne": "eq", "nin": "in"})

_SYMBOLS: Final[Mapping[str, str]] = MappingProxyType(
    {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "like": "LIKE"}
)
#: Collation "C" folds ASCII only; the database's own character type knows the rest.
_CASE: Final = "default"
_NULL_JSON: Final = "'null'::jsonb"
#: A number as text, which a cast takes if it is not endless.
_NUMBER: Final = "'^-?[0-9]+([.][0-9]+)?$'"
_MOST_DIGITS: Final = 2_000


def operand_parameter(
    operand: Operand, definition: FieldDefinition, column: sa.types.TypeEngine[Any], *, many: bool = False
) -> sa.BindParameter[Any]:
    """Return the parameter for an operand of a field's own type."""
    type_ = ARRAY(value_type(column)) if many else value_type(column)
    return bound(operand_source(operand, definition, column, many=many), type_, operand_key(operand, type_))


def value_type(column: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """Return the type to which a value is cast: without length, precision, or collation."""
    if isinstance(column, sa.String):
        return sa.Text()
    if isinstance(column, sa.SmallInteger | sa.Integer):
        return sa.BigInteger()
    if isinstance(column, sa.Numeric) and not isinstance(column, sa.Float):
        return sa.Numeric()
    return column


def compare(
    value: sa.ColumnElement[Any],
    column: sa.types.TypeEngine[Any],
    definition: FieldDefinition,
    comparison: Comparison,
    operator: str,
) -> sa.ColumnElement[Any]:
    """Return `value <operator> operand`.

    Args:
        value: the field, as the caller may see it.
        column: the column's type.
        definition: the field.
        comparison: the operand, and the way inside json.
        operator: a positive operator; POSITIVE leads from the others to it.
    """
    operand = comparison.operand
    if comparison.inside or comparison.kind:
        return _compare_json(value, definition, comparison, operator)
    if operator == "isNull":
        return value.is_(None) if operand == Constant(True) else value.is_not(None)
    if isinstance(operand, tuple):
        low, high = (operand_parameter(one, definition, column) for one in operand)
        return value.between(low, high)
    if operator == "in":
        return value == sa.any_(operand_parameter(operand, definition, column, many=True))
    if operator == "has":
        return value.bool_op("@>")(operand_parameter(operand, definition, column))
    if operator in ("like", "ilike"):
        pattern = operand_parameter(operand, definition, sa.Text())
        # What LIKE finds does not depend on the collation, but whether an index of trigrams serves it does.
        return _like(sa.collate(value, _CASE) if definition.trigram else value, pattern, operator)
    return value.bool_op(_SYMBOLS[operator])(operand_parameter(operand, definition, column))


def _like(
    value: sa.ColumnElement[Any], pattern: sa.ColumnElement[Any], operator: str
) -> sa.ColumnElement[Any]:
    if operator == "ilike":
        folded = value if isinstance(value, sa.sql.elements.CollationClause) else sa.collate(value, _CASE)
        return folded.bool_op("ILIKE")(pattern)
    return value.bool_op("LIKE")(pattern)


# --- inside json ---


def _compare_json(
    value: sa.ColumnElement[Any], definition: FieldDefinition, comparison: Comparison, operator: str
) -> sa.ColumnElement[Any]:
    # Most columns are jsonb, where the cast does nothing; those that are `kept_as_written` are json.
    document: sa.ColumnElement[Any] = sa.cast(value, JSONB())
    if comparison.inside:
        path = bound(lambda sources: list(comparison.inside), ARRAY(sa.Text()))
        document = document.op("#>", return_type=JSONB())(path)
    if operator == "isNull":
        absent = sa.func.coalesce(document, sa.literal_column(_NULL_JSON)) == sa.literal_column(_NULL_JSON)
        return absent if comparison.operand == Constant(True) else sa.not_(absent)

    def parameter(operand: Operand, type_: sa.types.TypeEngine[Any]) -> sa.BindParameter[Any]:
        many = isinstance(type_, ARRAY)
        return bound(
            operand_source(operand, definition, type_, many=many), type_, operand_key(operand, type_)
        )

    operand = comparison.operand
    if comparison.kind == "digits":
        return _compare_digits(document, operator, operand, parameter)
    if operator == "has":
        assert not isinstance(operand, tuple)
        if comparison.kind == "json":
            return document.bool_op("@>")(parameter(operand, JSONB()))
        return sa.and_(_is(document, "object"), document.bool_op("?")(parameter(operand, sa.Text())))
    if comparison.kind == "json":
        assert not isinstance(operand, tuple)
        return document == sa.any_(parameter(operand, ARRAY(JSONB())))
    kind: sa.types.TypeEngine[Any] = sa.Numeric() if comparison.kind == "number" else sa.Text()
    typed: sa.ColumnElement[Any] = (
        sa.cast(document, sa.Numeric())
        if comparison.kind == "number"
        else sa.collate(document.op("#>>", return_type=sa.Text())(sa.literal_column("'{}'::text[]")), "C")
    )
    if isinstance(operand, tuple):
        low, high = (parameter(one, kind) for one in operand)
        test: sa.ColumnElement[Any] = typed.between(low, high)
    elif operator in ("like", "ilike"):
        test = _like(typed, parameter(operand, kind), operator)
    else:
        test = typed.bool_op(_SYMBOLS[operator])(parameter(operand, kind))
    # CASE, not AND: PostgreSQL may evaluate the parts of AND in any order, and a cast can fail. A value of
    # another type has no place in the order: null, as if there were none.
    return sa.case((_is(document, "number" if comparison.kind == "number" else "string"), test))


def _compare_digits(
    document: sa.ColumnElement[Any],
    operator: str,
    operand: Operand | tuple[Operand, Operand],
    parameter: Callable[[Operand, sa.types.TypeEngine[Any]], sa.BindParameter[Any]],
) -> sa.ColumnElement[Any]:
    """Compare a number that is kept as text; what spells none, in older rows, matches nothing."""
    if operator == "has":
        assert not isinstance(operand, tuple)
        array = sa.case((_is(document, "array"), document), else_=sa.literal_column("'[]'::jsonb"))
        item = sa.func.jsonb_array_elements(array, type_=JSONB()).column_valued("item")
        one: sa.ColumnElement[int] = sa.literal_column("1")
        found = _compare_digits(item, "eq", operand, parameter)
        return sa.select(one).where(found).exists()
    digits = sa.collate(document.op("#>>", return_type=sa.Text())(sa.literal_column("'{}'::text[]")), "C")
    typed = sa.cast(digits, sa.Numeric())
    if isinstance(operand, tuple):
        low, high = (parameter(one, sa.Numeric()) for one in operand)
        test: sa.ColumnElement[Any] = typed.between(low, high)
    elif operator == "in":
        test = typed == sa.any_(parameter(operand, ARRAY(sa.Numeric())))
    else:
        test = typed.bool_op(_SYMBOLS[operator])(parameter(operand, sa.Numeric()))
    spelled = sa.case(
        (sa.func.char_length(digits) <= _MOST_DIGITS, digits.bool_op("~")(sa.literal_column(_NUMBER))),
        else_=sa.false(),
    )
    return sa.case((spelled, test))


def _is(document: sa.ColumnElement[Any], kind: str) -> sa.ColumnElement[Any]:
    return sa.func.jsonb_typeof(document) == sa.literal_column(f"'{kind}'")
