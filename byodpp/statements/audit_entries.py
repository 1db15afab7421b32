"""The audit entry of a change, as a part of the statement that makes it.

In: the rows that are written, as they were and as they are. Out: an insert into AuditLogs. What an
entry tells of a row leaves out secrets and personal data; of those it says only that they have
changed. An entry is an event as well, where the change is one and a row is left. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSON, array

from byodpp.conditions import Visibility
from byodpp.definitions import FieldDefinition, ResourceDefinition
from byodpp.sql_text import quote_text
from byodpp.statements.reads import Statements
from byodpp.tables.framework import CORRELATION, EVENT, EVENT_NUMBER

__all__ = ["audit_entry", "compared", "former_values", "recorded"]

#: What a column of the row before is called in the statement, where an entry compares it.
_FORMER = "former_"
_NULL: sa.ColumnElement[Any] = sa.literal_column("null")


def recorded(resource: ResourceDefinition) -> Visibility:
    """What audit entries and events hold of a row: no secret, no personal datum."""
    names = [name for name, one in resource.fields.items() if not one.redacted]
    return Visibility(None, dict.fromkeys(names))


def former_values(resource: ResourceDefinition, table: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    """Return the values of the row before that no entry tells, for `audit_entry` to compare."""
    return [table.c[one.column].label(_FORMER + one.column) for one in _secrets(resource)]


def compared(resource: ResourceDefinition) -> list[str]:
    """Return the columns of a written row that `audit_entry` compares with those before."""
    return [one.column for one in _secrets(resource)]


def audit_entry(
    statements: Statements,
    entries: sa.Table,
    resource: ResourceDefinition,
    row: sa.CTE,
    after: sa.ColumnElement[Any],
    old: sa.CTE | None,
    *,
    deleted: bool,
    event: bool,
) -> sa.CTE:
    """Return the part of a writing statement that writes its audit entries.

    Args:
        statements: whose session is told.
        entries: table of AuditLogs.
        resource: of the rows.
        row: of the rows as they were written, key and `compared`.
        after: of each, what is `recorded`, as JSON.
        old: the same before, with `recorded` and `former_values`; None where there was none.
        deleted: whether there is none afterwards.
        event: whether each entry is an event, whose data is the row afterwards.
    """
    told = {"before": None if old is None else old.c.recorded, "after": None if deleted else after}
    secrets = _secrets(resource)
    changes = _with_redacted(told, secrets, row, old, deleted=deleted) if secrets else _document(told)
    values: dict[str, sa.ColumnElement[Any]] = {
        "tenant_id": statements.session_tenant(),
        "action": _told("audit_action"),
        "resource_type": _text(resource.name),
        "resource_id": sa.cast(row.c.id, sa.Text()),
        "user_id": statements.user(),
        "actor_tenant_id": sa.bindparam("actor_tenant_id", type_=sa.BigInteger()),
        "key_id": _told("key_id"),
        "changes": changes,
        "ip_address": _told("client_ip"),
        "user_agent": _told("user_agent"),
        "result": _text("success"),
        "request_id": _told("request_id"),
    }
    if event:
        values |= {
            EVENT: _told("event_name"),
            EVENT_NUMBER: sa.select(sa.func.byodpp.event_number(type_=sa.BigInteger())).scalar_subquery(),
            CORRELATION: sa.func.nullif(_told("correlation_id"), _told("request_id")),
        }
    source = sa.select(*values.values()).select_from(
        row if old is None else sa.join(row, old, row.c.id == old.c.id)
    )
    return sa.insert(entries).from_select(list(values), source).cte("_audited")


def _document(told: Mapping[str, sa.ColumnElement[Any] | None]) -> sa.ColumnElement[Any]:
    """Return one document of others, which PostgreSQL copies and does not read."""
    null = sa.literal_column("null::json", JSON())
    pairs = [(_text(name), null if value is None else value) for name, value in told.items()]
    return sa.func.json_build_object(*(part for pair in pairs for part in pair), type_=JSON())


def _text(value: str) -> sa.ColumnElement[str]:
    return sa.literal_column(quote_text(value), sa.Text())


def _told(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=sa.Text())


def _secrets(resource: ResourceDefinition) -> list[FieldDefinition]:
    return [one for one in resource.fields.values() if one.redacted and not one.implied]


def _with_redacted(
    told: Mapping[str, sa.ColumnElement[Any] | None],
    secrets: Sequence[FieldDefinition],
    row: sa.CTE,
    old: sa.CTE | None,
    *,
    deleted: bool,
) -> sa.ColumnElement[Any]:
    """Return the document with the names of the fields that have changed and whose values are not told."""
    names = []
    for one in secrets:
        was: sa.ColumnElement[Any] = old.c[_FORMER + one.column] if old is not None else _NULL
        now: sa.ColumnElement[Any] = _NULL if deleted else row.c[one.column]
        names.append(sa.case((was.is_distinct_from(now), sa.literal(one.name, sa.Text()))))
    changed = sa.func.array_remove(sa.cast(array(names), ARRAY(sa.Text())), None)
    return sa.case(
        (sa.func.cardinality(changed) == sa.literal_column("0"), _document(told)),
        else_=_document({**told, "redacted": sa.func.array_to_json(changed, type_=JSON())}),
    )
