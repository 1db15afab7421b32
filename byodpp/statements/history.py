"""Former versions of rows as SQL: how they are kept, and how a table looked at another time.

A version is the row as `to_jsonb` writes it, by column, so that today's table, rules and fields
can be put over it again: `jsonb_populate_record` makes of it a row of the table. Write-only
fields are not kept. In: tables and resources. Out: parts of statements. Rejects nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, array, distinct_on

from byodpp.conditions import Parameter
from byodpp.definitions import ResourceDefinition
from byodpp.sql_text import quote
from byodpp.statements.parameters import Sources, bound
from byodpp.tables import Tables

__all__ = ["Past", "history_entry", "kept_versions", "moment_of_change", "past_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Which rows are looked at as they were, and when."""

    resource: tuple[str, str]  # id of the resource; all others are as they are
    moment: Parameter  # in `Query.values`
    single: bool = False  # only the row with parameter `id` is wanted


def moment_of_change(resource: ResourceDefinition) -> sa.ColumnElement[Any]:
    """Return `updatedAt` of a row that a statement changes, as an expression.

    With history it is not the transaction's beginning: of two writers of a row the later one, who has waited
    for the other's lock, must come later.
    """
    return sa.func.clock_timestamp() if resource.history else sa.func.now()


def history_entry(
    tables: Tables,
    resource: ResourceDefinition,
    row: sa.CTE,
    user: sa.ColumnElement[Any],
    *,
    deleted: bool,
) -> sa.CTE:
    """Return the part of a writing statement that keeps the written rows.

    A version begins at the row's `updatedAt`, so that whoever asks for the row as of that moment gets it.

    Args:
        tables: of the application.
        resource: of the rows.
        row: the written rows, whole.
        user: parameter with the caller's id, null when anonymous.
        deleted: whether there is no row any more for those who read.
    """
    secret = [one.column for one in resource.fields.values() if one.write_only and not one.implied]
    whole: sa.ColumnElement[Any] = sa.cast(sa.func.to_jsonb(row.table_valued()), JSONB())
    if secret:
        whole = whole.op("-")(sa.cast(array([sa.literal(name) for name in secret]), ARRAY(sa.Text())))
    source = sa.select(
        _session_tenant(),
        sa.literal(resource.table, sa.Text()),
        sa.cast(row.c.id, sa.Text()),
        sa.bindparam("operation", type_=sa.Text()),
        _begun(resource, row, deleted=deleted),
        user,
        sa.bindparam("request_id", type_=sa.Text()),
        whole,
    ).select_from(row)
    columns = ["tenant_id", "resource", "resource_id", "operation", "at", "actor_id", "request_id", "row"]
    return sa.insert(tables.framework("history")).from_select(columns, source).cte("_kept")


def _begun(resource: ResourceDefinition, row: sa.CTE, *, deleted: bool) -> sa.ColumnElement[Any]:
    if not deleted:
        return row.c.updated_at
    if resource.soft_delete:  # each of the two asked the clock itself
        return sa.func.least(row.c.updated_at, row.c.deleted_at)
    return sa.func.clock_timestamp()


def past_rows(tables: Tables, resource: ResourceDefinition, past: Past) -> sa.FromClause:
    """Return what stood in a resource's table at a moment, with the table's columns."""
    history = tables.framework("history").alias()
    index = past.moment.index
    moment = bound(lambda sources: sources.values[index], sa.DateTime(timezone=True), f"moment_{index}")
    wanted = [*_of(history, resource), history.c.at <= moment]
    if past.single:
        wanted.append(history.c.resource_id == _key_text(tables, resource))
    last = (
        sa.select(history.c.operation, history.c.row)
        .ext(distinct_on(history.c.resource_id))
        .where(*wanted)
        .order_by(history.c.resource_id, history.c.at.desc(), history.c.id.desc())
        .subquery()
    )
    row = _populated(tables, resource, last.c.row)
    return (
        sa.select(*(row.c[column.name] for column in tables[resource].c))
        .select_from(last, row)
        .where(last.c.operation != sa.literal_column("'delete'"))
        .subquery()
    )


def kept_versions(tables: Tables, resource: ResourceDefinition) -> sa.FromClause:
    """Return all versions of the row with parameter `id`: the table's columns, and what is known of each.

    The latter are `_number` (from 1), `_operation`, `_at`, `_actor` and `_request`.
    """
    history = tables.framework("history").alias()
    row = _populated(tables, resource, history.c.row)
    order = (history.c.at, history.c.id)
    return (
        sa.select(
            *(row.c[column.name] for column in tables[resource].c),
            sa.func.row_number().over(order_by=order).label("_number"),
            history.c.operation.label("_operation"),
            history.c.at.label("_at"),
            history.c.actor_id.label("_actor"),
            history.c.request_id.label("_request"),
        )
        .select_from(history, row)
        .where(*_of(history, resource), history.c.resource_id == _key_text(tables, resource))
        .subquery()
    )


def _of(history: sa.FromClause, resource: ResourceDefinition) -> list[sa.ColumnElement[bool]]:
    return [history.c.tenant_id == _session_tenant(), history.c.resource == sa.literal(resource.table)]


def _populated(
    tables: Tables, resource: ResourceDefinition, row: sa.ColumnElement[Any]
) -> sa.TableValuedAlias:
    table = tables[resource]
    of_table: sa.ColumnElement[Any] = sa.literal_column(f"null::{quote(table.name)}")
    columns = (sa.column(column.name, column.type) for column in table.c)
    return sa.func.jsonb_populate_record(of_table, row).table_valued(*columns)


def _key_text(tables: Tables, resource: ResourceDefinition) -> sa.ColumnElement[Any]:
    kind = tables[resource].c.id.type
    return sa.cast(bound(lambda sources: sources.named["id"], kind, "id"), sa.Text())


def _session_tenant() -> sa.BindParameter[Any]:
    return bound(_tenant, sa.BigInteger(), "session_tenant")


def _tenant(sources: Sources) -> int:
    return sources.context.tenant_id if sources.context is not None else sources.scope_tenant_id
