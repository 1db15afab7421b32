"""Modifiers as SQL: the new value of a column, and whether it is one of the field's.

In: a table, a field and a kind of modifier; the operand is the parameter `v_<column>`. Out:
expressions over the row as it is. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from byodpp.definitions import FieldDefinition
from byodpp.fields.integer import IntegerType
from byodpp.fields.numbers import exact
from byodpp.schemas.modifiers import ModifierKind

__all__ = ["TWICE", "modified", "unfit"]

#: Behind the name of a field of which some item would occur twice.
TWICE: Final = ":unique_items"

#: Beyond it a sum of doubles is no double any more.
_LARGEST_DOUBLE: Final = "1.79e308"
#: What a numeric column without precision takes, as in `fields.decimal`.
_LARGEST_DECIMAL: Final = "1e400"
_MOST_ITEMS: Final = 1_000
_EMPTY: Final = "'[]'::jsonb"


def modified(table: sa.FromClause, definition: FieldDefinition, kind: ModifierKind) -> sa.ColumnElement[Any]:
    """Return the new value of a field."""
    column = table.c[definition.column]
    if kind == "increment":
        return sa.cast(_sum(column, definition), column.type)
    return _appended(column) if kind == "append" else _removed(column)


def unfit(
    table: sa.FromClause, modifiers: Sequence[tuple[FieldDefinition, ModifierKind]]
) -> sa.ColumnElement[Any]:
    """Return the names of the fields whose new value is none of theirs, as an array of text.

    The name of an array that would hold an item twice has `TWICE` behind it.
    """
    names = []
    for definition, kind in modifiers:
        column = table.c[definition.column]
        fits = sa.and_(*_conditions(column, definition, kind))
        faults = [(sa.not_(sa.func.coalesce(fits, sa.false())), definition.name)]
        if kind == "append" and definition.constraints.get("uniqueItems"):
            faults.append((sa.not_(_different(_appended(column))), definition.name + TWICE))
        names.append(sa.case(*((wrong, sa.literal(told, sa.Text())) for wrong, told in faults)))
    return sa.func.array_remove(sa.cast(postgresql.array(names), postgresql.ARRAY(sa.Text())), sa.null())


def _conditions(
    column: sa.ColumnElement[Any], definition: FieldDefinition, kind: ModifierKind
) -> Iterator[sa.ColumnElement[Any]]:
    if kind == "increment":
        yield column.is_not(None)
        yield from _numeric(column, definition)
        return
    words = definition.constraints
    new = _appended(column) if kind == "append" else _removed(column)
    length = sa.func.jsonb_array_length(sa.func.coalesce(new, sa.literal_column(_EMPTY)))
    if kind == "append":
        yield length <= _number(words.get("maxItems", _MOST_ITEMS))
    # What was null stays null when something is removed, whatever the least number is.
    enough = length >= _number(words.get("minItems", 0))
    yield sa.or_(new.is_(None), enough) if kind == "remove" else enough


def _different(array: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Tell whether no item of an array occurs twice."""
    item = _items(array)
    different = sa.select(sa.func.count(sa.distinct(item.c.value))).select_from(item)
    return different.scalar_subquery() == sa.func.jsonb_array_length(array)


# --- numbers ------------------------------------------------------------------------------


def _is_float(column: sa.ColumnElement[Any]) -> bool:
    return isinstance(column.type, sa.Double)


def _sum(column: sa.ColumnElement[Any], definition: FieldDefinition) -> sa.ColumnElement[Any]:
    if _is_float(column):
        return column + sa.bindparam(f"v_{definition.column}", type_=sa.Double())
    # As numeric it cannot overflow before it is judged.
    return sa.cast(column, sa.Numeric()) + sa.bindparam(f"v_{definition.column}", type_=sa.Numeric())


def _numeric(column: sa.ColumnElement[Any], definition: FieldDefinition) -> Iterator[sa.ColumnElement[Any]]:
    """Yield what the type and the constraints ask of the sum."""
    new, words, kind = _sum(column, definition), definition.constraints, definition.type
    if isinstance(kind, IntegerType):
        yield new.between(_number(kind.lowest), _number(kind.highest))
    elif _is_float(column):
        operand: sa.BindParameter[Any] = sa.bindparam(f"v_{definition.column}", type_=sa.Double())
        wide = sa.cast(column, sa.Numeric()) + sa.cast(operand, sa.Numeric())
        finite = sa.func.abs(wide) < sa.literal_column(f"{_LARGEST_DOUBLE}::numeric")
        # Only a sum that is finite may be computed at all.
        yield sa.case((finite, sa.and_(sa.true(), *_bounds(new, words))), else_=sa.false())
        return
    elif words.get("precision") is None:
        yield sa.func.abs(new) < sa.literal_column(f"{_LARGEST_DECIMAL}::numeric")
    else:
        digits = int(words["precision"]) - int(words.get("scale") or 0)
        yield sa.func.abs(new) < sa.literal_column(f"1e{digits}::numeric")
    yield from _bounds(new, words)


def _bounds(new: sa.ColumnElement[Any], words: Any) -> Iterator[sa.ColumnElement[Any]]:
    if (low := words.get("minimum")) is not None:
        yield new >= _number(low)
    if (high := words.get("maximum")) is not None:
        yield new <= _number(high)
    if (above := words.get("exclusiveMinimum")) is not None:
        yield new > _number(above)
    if (below := words.get("exclusiveMaximum")) is not None:
        yield new < _number(below)
    if (step := words.get("multipleOf")) is not None:
        yield sa.func.mod(sa.cast(new, sa.Numeric()), _number(step)) == _number(0)


def _number(number: Any) -> sa.ColumnElement[Any]:
    """Return a number of the manifest as a literal."""
    return sa.literal_column(f"({format(exact(number), 'f')})")


# --- arrays -------------------------------------------------------------------------------


def _operand(column: sa.ColumnElement[Any]) -> sa.BindParameter[Any]:
    return sa.bindparam(f"v_{column.name}", type_=postgresql.JSONB())


def _appended(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(column, sa.literal_column(_EMPTY)).op("||")(_operand(column))


def _removed(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return the array without the items that equal one of the operand's."""
    item, gone = _items(column), _items(_operand(column))
    named = sa.exists(sa.select(gone.c.value).select_from(gone).where(gone.c.value == item.c.value))
    left = postgresql.aggregate_order_by(item.c.value, item.c.place)
    rest = sa.select(sa.func.coalesce(sa.func.jsonb_agg(left), sa.literal_column(_EMPTY)))
    kept = rest.select_from(item).where(sa.not_(named)).scalar_subquery()
    return sa.case((column.is_not(None), kept), else_=sa.null())


def _items(array: sa.ColumnElement[Any]) -> sa.TableValuedAlias:
    return (
        sa.func.jsonb_array_elements(array)
        .table_valued(sa.column("value", postgresql.JSONB()), with_ordinality="place")
        .render_derived()
    )
