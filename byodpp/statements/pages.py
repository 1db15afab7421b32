"""A page as SQL: its rows as JSON, and where the next page begins.

One scalar sub-select gives an array of texts: the JSON of the page, then the values of its last
row in each term of the order, of which the last is null when the page is not full. Where keys are
asked for (`Shape.keyed`), a JSON array of them is the last text of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, array

from byodpp.conditions import Shape
from byodpp.definitions import ResourceDefinition
from byodpp.statements.conditions import View
from byodpp.statements.json import (
    HIDDEN,
    RowJson,
    count_of,
    json_array,
    row_columns,
    rows_text,
    select_columns,
)
from byodpp.statements.order import Term, behind, order_by, terms

__all__ = ["page_texts"]


def page_texts(view: View, resource: ResourceDefinition, shape: Shape) -> sa.ColumnElement[Any]:
    """Return a page as an array of texts.

    Args:
        view: the database as the caller may see it.
        resource: whose rows.
        shape: what is asked of them; without a limit, or where rows have no key, no next page is told.
    """
    table, conditions = _source(view, resource, shape)
    found = terms(view, resource, table, shape.sort)
    columns = row_columns(view, resource, table, shape.fields, shape.includes)
    follows = shape.limit is not None and "id" in resource.fields
    hidden = _hidden(found, columns) if follows else {}
    rows = select_columns({**columns, **hidden}, table)
    rows = rows.where(*conditions).order_by(*order_by(found))
    if shape.limit is not None:
        rows = rows.limit(count_of(shape.limit))
    if shape.offset is not None:
        rows = rows.offset(count_of(shape.offset))
    if not follows:
        keys = [sa.cast(sa.null(), sa.Text())] if shape.keyed else []
        return sa.cast(array([rows_text(rows), *keys]), ARRAY(sa.Text()))
    return _with_last(rows, list(columns), found, shape)


def _conditions(
    view: View, resource: ResourceDefinition, table: sa.FromClause, shape: Shape
) -> list[sa.ColumnElement[Any]]:
    conditions = view.rows(resource, table)
    if shape.filter is not None:
        conditions.append(view.condition(resource, table, shape.filter))
    return conditions


def _source(
    view: View, resource: ResourceDefinition, shape: Shape
) -> tuple[sa.FromClause, list[sa.ColumnElement[Any]]]:
    """Return the rows of which the page is the beginning, and what they must fulfil.

    What lies behind a cursor is one range of the table, or several, each of which is selected by itself.
    """
    table = view.source(resource)
    conditions = _conditions(view, resource, table, shape)
    if shape.after is None:
        return table, conditions
    ranges = behind(terms(view, resource, table, shape.sort), shape.after.places)
    if len(ranges) == 1:
        return table, [*conditions, ranges[0]]
    parts = [_range(view, resource, shape, index) for index in range(len(ranges))]
    return sa.union_all(*parts).subquery("p"), []


def _range(view: View, resource: ResourceDefinition, shape: Shape, index: int) -> sa.Select[Any]:
    """Return the first rows of one range behind a cursor; each begins in the middle of an index."""
    table = view.source(resource)
    found = terms(view, resource, table, shape.sort)
    assert shape.after is not None
    rows = sa.select(*table.c).select_from(table)
    rows = rows.where(*_conditions(view, resource, table, shape))
    rows = rows.where(behind(found, shape.after.places)[index])
    return rows.order_by(*order_by(found)).limit(count_of(shape.limit))


def _hidden(found: Sequence[Term], columns: dict[str, Any]) -> dict[str, sa.ColumnElement[Any]]:
    """Return the values of terms that the page does not show anyway."""
    return {f"{HIDDEN}{index}": term.value for index, term in enumerate(found) if term.shown not in columns}


def _with_last(
    rows: sa.Select[Any], shown: list[str], found: Sequence[Term], shape: Shape
) -> sa.ColumnElement[Any]:
    inner = rows.subquery()
    if len(inner.c) == len(shown):
        row: sa.ColumnElement[Any] = sa.func.row_to_json(inner.table_valued())
    else:
        row = RowJson({name: inner.c[name] for name in shown})
    last = []
    for index, term in enumerate(found):
        column = inner.c[term.shown if term.shown in shown else f"{HIDDEN}{index}"]
        values = sa.func.array_agg(column, type_=ARRAY(column.type))
        last.append(sa.cast(values[count_of(shape.limit)], sa.Text()))
    texts = array([json_array(row), *last, *(_keys(inner, shown, found) if shape.keyed else ())])
    return sa.select(texts).select_from(inner).scalar_subquery()


def _keys(inner: sa.Subquery, shown: list[str], found: Sequence[Term]) -> list[sa.ColumnElement[Any]]:
    """Return the keys of a page's rows, in their order."""
    place = next(index for index, term in enumerate(found) if term.shown == "id")
    column = inner.c["id" if "id" in shown else f"{HIDDEN}{place}"]
    return [sa.cast(sa.func.json_agg(column), sa.Text())]
