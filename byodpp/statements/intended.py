"""Rows as a write would leave them, judged before it is tried.

Who may not have a row is told so before the database looks whether it is taken: else he would learn by
trying which rows there are that he may not read. In: the values of new rows, or of a change, and a rule.
Out: the same as a part of the statement that writes. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.sql.elements import quoted_name

from byodpp.conditions import (
    EVERYTHING,
    NOTHING,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Negation,
    Opened,
    Refusal,
    Search,
)
from byodpp.definitions import Kind, ResourceDefinition
from byodpp.registry import Registry
from byodpp.statements.reads import Statements

__all__ = ["FITS", "asks_of", "asks_of_its_own", "changed_rows", "foreseen", "new_rows"]

#: A column that no field can have: whether the caller may have the row.
FITS: Final = quoted_name("#fits", True)
#: What a view shows may be of any table.
_ANY: Final = "*"


def foreseen(resource: ResourceDefinition, condition: Condition, *, wanted: bool = True) -> Condition:
    """Return what is known of a rule before a new row is there: the rule will not hold where this does not.

    The number of the row is known only once it is there: what is asked of it is taken for what is wanted.
    What follows a relation from the row asks for others that refer to it, and there are none yet.

    Args:
        resource: of the row.
        condition: the rule; where nothing of it is about the number, it comes back as it is.
        wanted: what makes the rule hold; another one below a negation.
    """
    match condition:
        case Comparison(path=(), field="id") if resource.key == "bigint":
            return EVERYTHING if wanted else NOTHING
        case Opened():
            return EVERYTHING if wanted else NOTHING
        case AllOf(parts) | AnyOf(parts):
            return type(condition)(tuple(foreseen(resource, part, wanted=wanted) for part in parts))
        case Negation(part) | Refusal(part):
            return replace(condition, part=foreseen(resource, part, wanted=not wanted))
        case _:
            return condition


def asks_of_its_own(registry: Registry, resource: ResourceDefinition, condition: Condition) -> bool:
    """Whether a rule asks about related rows that may be of the resource's own table, or made of these.

    Rows that the same statement writes are to it what they were before.
    """
    return not asks_of(registry, resource, condition).isdisjoint((resource.table, _ANY))


def asks_of(registry: Registry, resource: ResourceDefinition, condition: Condition) -> frozenset[str]:
    """Return the tables of the related rows that a rule asks about."""
    match condition:
        case Search() | Opened():
            return frozenset()
        case AllOf(parts) | AnyOf(parts):
            return frozenset[str]().union(*(asks_of(registry, resource, part) for part in parts))
    tables, target = set[str](), resource
    for name in getattr(condition, "path", ()):
        target = registry.target(target, target.relations[name])
        tables.add(_ANY if target.kind is Kind.VIEW else target.table)
    inner = (
        frozenset[str]() if isinstance(condition, Comparison) else asks_of(registry, target, condition.part)
    )
    return frozenset(tables) | inner


def new_rows(
    statements: Statements,
    resource: ResourceDefinition,
    table: sa.Table,
    names: Sequence[str],
    source: sa.Select[Any],
    permitted: Condition,
    *,
    beside: Sequence[str] = (),
) -> sa.CTE:
    """Return new rows with `FITS`, in their order.

    Args:
        statements: whose rules are meant.
        resource: of the rows.
        table: of the same.
        names: columns that the source gives, in its order.
        source: the values.
        permitted: which rows the caller may have.
        beside: columns that it gives behind them, and that are no column of the table.
    """
    chosen = (*names, *beside)
    labelled = [column.label(name) for name, column in zip(chosen, source.selected_columns, strict=True)]
    given = source.with_only_columns(*labelled, maintain_column_froms=True).cte("_given")
    columns = [
        _alike(given.c[column.name], column).label(column.name)
        if column.name in names
        else _filled_in(column).label(column.name)
        for column in table.columns
    ]
    row = sa.select(*columns, *(given.c[name] for name in beside)).select_from(given).subquery("_new")
    fits = sa.func.coalesce(statements.condition(resource, permitted, row), sa.false()).label(FITS)
    return sa.select(*(row.c[name] for name in chosen), fits).select_from(row).cte("_intended")


def changed_rows(table: sa.Table, values: Mapping[str, sa.ColumnElement[Any]]) -> sa.FromClause:
    """Return, beside each row of a table, the same as a change leaves it.

    Args:
        table: of the rows.
        values: by column; the others stay as they are.
    """
    columns = [
        _alike(values[column.name], column).label(column.name) if column.name in values else column
        for column in table.columns
    ]
    return sa.select(*columns).correlate(table).lateral("_new")


def _alike(value: sa.ColumnElement[Any], column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """Return a value that is compared as in its column."""
    kind = column.type
    if isinstance(kind, sa.String) and kind.collation is not None:
        return sa.collate(sa.type_coerce(value, kind), kind.collation)
    return sa.type_coerce(value, kind)


def _filled_in(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """Return what PostgreSQL puts into a column that a new row does not give."""
    default = column.server_default
    if isinstance(default, sa.DefaultClause):
        return sa.cast(sa.literal_column(str(default.arg)), column.type)
    return sa.cast(sa.null(), column.type)
