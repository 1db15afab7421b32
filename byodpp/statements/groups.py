"""Aggregates as SQL: rows that the caller sees, taken together in groups, as JSON.

Three selects lie in each other: the rows with the values that matter, as the caller sees them;
the groups with their numbers, in columns `g0`, … and `a0`, …; and of those the ones that `having`
lets through, in order, as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, array

from byodpp.conditions import Aggregate, Group, Grouping, Shape
from byodpp.definitions import FieldDefinition, ResourceDefinition
from byodpp.query.aggregates import measured
from byodpp.query.text import FUNCTIONS
from byodpp.statements.conditions import View
from byodpp.statements.json import RowJson, count_of, rows_text, select_columns

__all__ = ["groups_texts", "groups_total"]

_UTC: Final = "'UTC'"


def groups_texts(
    view: View, resource: ResourceDefinition, shape: Shape, grouping: Grouping
) -> sa.ColumnElement[Any]:
    """Return a page of groups as an array of one text: a JSON array."""
    groups = _groups(view, resource, shape, grouping)
    rows = select_columns(_columns(view, resource, groups, grouping), groups)
    rows = rows.where(*_having(view, resource, groups, grouping)).order_by(*_order(groups, grouping))
    if shape.limit is not None:
        rows = rows.limit(count_of(shape.limit))
    if shape.offset is not None:
        rows = rows.offset(count_of(shape.offset))
    return sa.cast(array([rows_text(rows)]), ARRAY(sa.Text()))


def groups_total(
    view: View, resource: ResourceDefinition, shape: Shape, grouping: Grouping
) -> sa.ColumnElement[Any]:
    """Return how many groups there are; exactly also where an estimate would do."""
    if shape.count == "none":
        return sa.cast(sa.null(), sa.BigInteger())
    if not grouping.groups and grouping.having is None:
        return sa.cast(sa.literal_column("1"), sa.BigInteger())
    groups = _groups(view, resource, shape, grouping)
    counted = sa.select(sa.func.count()).select_from(groups)
    return counted.where(*_having(view, resource, groups, grouping)).scalar_subquery()


def _groups(view: View, resource: ResourceDefinition, shape: Shape, grouping: Grouping) -> sa.Subquery:
    """Return the groups with their numbers."""
    table = view.source(resource)
    conditions = view.rows(resource, table)
    if shape.filter is not None:
        conditions.append(view.condition(resource, table, shape.filter))
    values = {
        f"g{index}": _group_value(view, resource, table, group) for index, group in enumerate(grouping.groups)
    }
    for index, one in enumerate(grouping.aggregates):
        if one.field:
            values[f"a{index}"] = view.value(resource, table, resource.fields[one.field])
    # A select has some column, also where nothing but rows is counted.
    rows = select_columns(values or {"one": sa.literal_column("1")}, table).where(*conditions).subquery("v")
    keys = [rows.c[f"g{index}"] for index in range(len(grouping.groups))]
    numbers = {
        f"a{index}": _number(one, rows.c[f"a{index}"] if one.field else None)
        for index, one in enumerate(grouping.aggregates)
    }
    grouped = sa.select(*keys, *(number.label(name) for name, number in numbers.items())).select_from(rows)
    return grouped.group_by(*keys).subquery("g")


def _group_value(
    view: View, resource: ResourceDefinition, table: sa.FromClause, group: Group
) -> sa.ColumnElement[Any]:
    value = view.value_at(resource, table, group.path, group.field)
    if not group.period:
        return value
    period: sa.ColumnElement[str] = sa.literal_column(f"'{group.period}'")
    if isinstance(value.type, sa.Date):
        return sa.cast(sa.func.date_trunc(period, sa.cast(value, sa.DateTime())), sa.Date())
    zone: sa.ColumnElement[str] = sa.literal_column(_UTC)
    return sa.func.date_trunc(period, value, zone, type_=sa.DateTime(timezone=True))


def _number(one: Aggregate, value: sa.ColumnElement[Any] | None) -> sa.ColumnElement[Any]:
    if value is None:
        return sa.func.count()
    if one.function == "countDistinct":
        return sa.func.count(sa.distinct(value))
    made: sa.ColumnElement[Any] = getattr(sa.func, one.function)(value, type_=value.type)
    if one.function not in ("sum", "avg"):
        return made
    if isinstance(value.type, sa.Float):
        return sa.type_coerce(made, sa.Double())
    # The mean of 1 and 2 is 1.5 and not 1.5000000000000000; a sum keeps the places of its parts.
    numeric = sa.cast(made, sa.Numeric())
    return sa.func.trim_scale(numeric, type_=sa.Numeric()) if one.function == "avg" else numeric


def _having(
    view: View, resource: ResourceDefinition, groups: sa.Subquery, grouping: Grouping
) -> list[sa.ColumnElement[Any]]:
    if grouping.having is None:
        return []
    return [view.trusted().condition(measured(resource, grouping.aggregates), groups, grouping.having)]


def _order(groups: sa.Subquery, grouping: Grouping) -> list[sa.ColumnElement[Any]]:
    """Return the order that is asked for; the groups come last, so that every order is total."""
    columns = {group.word: groups.c[f"g{index}"] for index, group in enumerate(grouping.groups)}
    columns |= {one.word: groups.c[f"a{index}"] for index, one in enumerate(grouping.aggregates)}
    found = []
    for sort in grouping.sort:
        term = columns[sort.word].desc() if sort.descending else columns[sort.word].asc()
        first = sort.descending if sort.nulls_first is None else sort.nulls_first
        if first is not sort.descending:
            term = term.nulls_first() if first else term.nulls_last()
        found.append(term)
    return [*found, *(groups.c[f"g{index}"].asc() for index in range(len(grouping.groups)))]


def _columns(
    view: View, resource: ResourceDefinition, groups: sa.Subquery, grouping: Grouping
) -> dict[str, sa.ColumnElement[Any]]:
    """Return the members of an answer's row: `group`, `count`, then each function's by field."""
    columns: dict[str, sa.ColumnElement[Any]] = {}
    if grouping.groups:
        columns["group"] = RowJson(
            {
                group.word: _shown(groups.c[f"g{index}"], _field_at(view, resource, group))
                for index, group in enumerate(grouping.groups)
            }
        )
    fields = measured(resource, grouping.aggregates).fields
    by_function: dict[str, dict[str, sa.ColumnElement[Any]]] = {}
    for index, one in enumerate(grouping.aggregates[: grouping.shown]):
        column = _shown(groups.c[f"a{index}"], fields[one.word])
        by_function.setdefault(one.function, {})[one.field] = column
    for function in FUNCTIONS:
        members: Mapping[str, sa.ColumnElement[Any]] = by_function.get(function, {})
        if members:
            columns[function] = members[""] if function == "count" else RowJson(members)
    return columns


def _field_at(view: View, resource: ResourceDefinition, group: Group) -> FieldDefinition:
    for step in group.path:
        resource = view.registry.target(resource, resource.relations[step])
    return resource.fields[group.field]


def _shown(column: sa.ColumnElement[Any], definition: FieldDefinition) -> sa.ColumnElement[Any]:
    return definition.type.json_expression(column, definition)
