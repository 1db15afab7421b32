"""JSON that PostgreSQL writes: rows, pages, and what is included, however deep, in one statement.

`row_to_json` of a sub-select gives compact JSON with keys in the order of the columns; an
included row is a column whose value is such JSON. `json_agg` would put blanks and line
breaks between rows, so that rows are joined as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from byodpp.conditions import Include, Parameter
from byodpp.definitions import RelationDefinition, ResourceDefinition
from byodpp.statements.conditions import View
from byodpp.statements.order import order_by, terms
from byodpp.statements.parameters import bound

__all__ = [
    "HIDDEN",
    "RowJson",
    "count_of",
    "json_array",
    "row_columns",
    "row_text",
    "rows_text",
    "select_columns",
    "split_version",
    "versioned_text",
]

#: Beginning of the names of columns that no client sees; no field's name begins so.
HIDDEN: Final = "#"


class RowJson(sa.ColumnElement[Any]):
    """`row_to_json` of named expressions over tables of the enclosing statement."""

    inherit_cache = False
    type = JSON()

    def __init__(self, columns: Mapping[str, sa.ColumnElement[Any]]) -> None:
        """Args:
        columns: JSON name -> expression, in order.
        """
        self.columns = columns

    @property
    def _from_objects(self) -> list[Any]:
        return [table for column in self.columns.values() for table in column._from_objects]


@compiles(RowJson)  # type: ignore[misc, unused-ignore]
def _write_row_json(element: RowJson, compiler: SQLCompiler, **options: Any) -> str:
    options["within_columns_clause"] = False
    quote = compiler.preparer.quote_identifier
    columns = ", ".join(
        f"{compiler.process(column.self_group(), **options)} AS {quote(name)}"
        for name, column in element.columns.items()
    )
    return f"(SELECT row_to_json(r) FROM (SELECT {columns}) AS r)"


def row_columns(
    view: View,
    resource: ResourceDefinition,
    table: sa.FromClause,
    fields: Sequence[str] | None,
    includes: Sequence[Include] = (),
) -> dict[str, sa.ColumnElement[Any]]:
    """Return JSON name -> expression: fields in the order of definition, then what is included."""
    visibility = view.visibility(resource)
    columns = {}
    for name, definition in resource.fields.items():
        visible = not definition.write_only and (visibility is None or name in visibility.fields)
        if visible and (fields is None or name in fields):
            value = view.value(resource, table, definition)
            columns[name] = (
                _sealed(table, value)
                if definition.encrypted
                else definition.type.json_expression(value, definition)
            )
    for include in includes:
        columns[include.relation] = _included(view, resource, table, include)
    return columns


def _sealed(table: sa.FromClause, value: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """Return what `SealedFields` opens: whose the value is, a blank, and its bytes as hexadecimals."""
    tenant: sa.ColumnElement[Any] = (
        sa.cast(table.c.tenant_id, sa.Text()) if "tenant_id" in table.c else sa.literal_column("'0'")
    )
    return tenant.concat(sa.literal_column("' '")).concat(sa.func.encode(value, sa.literal_column("'hex'")))


def _included(
    view: View, resource: ResourceDefinition, table: sa.FromClause, include: Include
) -> sa.ColumnElement[Any]:
    """Return related rows as one JSON value: an object or null, or an array."""
    relation = resource.relations[include.relation]
    target = view.registry.target(resource, relation)
    other = view.source(target)
    columns = row_columns(view, target, other, include.fields, include.includes)
    rows = select_columns(columns, other).where(
        *_related(view, resource, table, relation, target, other, include)
    )
    rows = rows.correlate(table)
    if not relation.many:
        return row_text(rows, cast=False)
    rows = rows.order_by(*order_by(terms(view, target, other, include.sort)))
    rows = rows.limit(count_of(include.limit))
    return sa.cast(rows_text(rows), JSON())


def _related(
    view: View,
    resource: ResourceDefinition,
    table: sa.FromClause,
    relation: RelationDefinition,
    target: ResourceDefinition,
    other: sa.FromClause,
    include: Include,
) -> list[sa.ColumnElement[Any]]:
    found = [*view.link(resource, table, relation, target, other), *view.rows(target, other)]
    if include.filter is not None:
        found.append(view.condition(target, other, include.filter))
    return found


def select_columns(columns: Mapping[str, sa.ColumnElement[Any]], table: sa.FromClause) -> sa.Select[Any]:
    """Return a select of named expressions over the rows of a table."""
    return sa.select(*(column.label(name) for name, column in columns.items())).select_from(table)


def count_of(number: int | Parameter | None) -> sa.ColumnElement[Any]:
    """Return a number of rows: part of the text when it is part of the shape."""
    if isinstance(number, Parameter):
        index = number.index
        return bound(lambda sources: sources.values[index], sa.BigInteger())
    return sa.literal_column("NULL" if number is None else str(int(number)))


def rows_text(rows: sa.Select[Any]) -> sa.ColumnElement[Any]:
    """Return rows as the text of a JSON array."""
    inner = rows.subquery()
    return (
        sa.select(json_array(sa.func.row_to_json(inner.table_valued()))).select_from(inner).scalar_subquery()
    )


def json_array(row: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """Return an aggregate that joins the JSON of rows, in their order, to the text of an array."""
    joined = sa.func.string_agg(sa.cast(row, sa.Text()), sa.literal_column("','"))
    opened: sa.ColumnElement[str] = sa.literal_column("'['")
    return opened.concat(sa.func.coalesce(joined, sa.literal_column("''"))).concat(sa.literal_column("']'"))


def row_text(rows: sa.Select[Any], *, cast: bool = True) -> sa.ColumnElement[Any]:
    """Return the one row as a JSON object, as text when it is the answer itself."""
    inner = rows.subquery()
    row: sa.ColumnElement[Any] = sa.func.row_to_json(inner.table_valued())
    return sa.select(sa.cast(row, sa.Text()) if cast else row).select_from(inner).scalar_subquery()


def versioned_text(rows: sa.Select[Any]) -> sa.ColumnElement[Any]:
    """Return the one row as the text of its version, a blank, and its JSON; read by `split_version`.

    Both come from one scan: a second one would cost as much again.

    Args:
        rows: whose last column is the version, which is no part of the JSON.
    """
    inner = rows.subquery()
    *shown, version = inner.c
    row = sa.cast(RowJson({column.name: column for column in shown}), sa.Text())
    blank: sa.ColumnElement[str] = sa.literal_column("' '")
    return (
        sa.select(sa.cast(version, sa.Text()).concat(blank).concat(row)).select_from(inner).scalar_subquery()
    )


def split_version(text: str) -> tuple[str, int | None]:
    """Return JSON and version of a row's text; None where the text holds no version."""
    if text[0] == "{":
        return text, None
    version, _, json = text.partition(" ")
    return json, int(version)
