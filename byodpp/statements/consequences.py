"""What a write leaves behind beside the rows: audit entries, events, kept versions.

In: the rows that a statement has written. Out: further parts of the same statement. What entry and
event hold of a row is written once and used by both, and by the answer where the caller sees just
that: the JSON of a row costs PostgreSQL more than to store it. Where an entry tells all that an event
would, it is the event (`docs/decisions/0055`). Rejects nothing.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import quoted_name

from byodpp.conditions import Visibility
from byodpp.definitions import ResourceDefinition
from byodpp.registry import Registry
from byodpp.statements.audit_entries import audit_entry, compared, recorded
from byodpp.statements.history import history_entry
from byodpp.statements.reads import Statements
from byodpp.tables import Tables

__all__ = ["Consequences", "is_shown_as_told", "told_json"]

#: A column that no field can have: what is told of a row, as PostgreSQL writes it.
_WRITTEN: Final = quoted_name("#written", True)


class Consequences:
    """Makes the parts of a statement that follow from the rows it writes."""

    def __init__(self, registry: Registry, tables: Tables, statements: Statements) -> None:
        """Args:
        registry: of the application.
        tables: of the same.
        statements: whose rows as JSON are used.
        """
        self._tables = tables
        self._statements = statements
        self._audit = tables[registry.get("AuditLogs")]
        self._outbox = tables.framework("outbox")

    def of(
        self,
        resource: ResourceDefinition,
        row: sa.CTE,
        old: sa.CTE | None,
        *,
        deleted: bool,
        event: bool,
        heard: bool = False,
    ) -> tuple[sa.CTE | None, list[sa.CTE]]:
        """Return the rows with what is told of them, None where nothing is; and the parts.

        Args:
            resource: of the rows.
            row: the rows as they were written, with `returned`, or whole.
            old: the same before, as `audit_entry` needs them; None where there was none.
            deleted: whether there is none afterwards.
            event: whether it is one.
            heard: whether what is told is wanted beside what the caller sees: all columns come with it.
        """
        found = []
        told = None
        if resource.audit or event:
            told = row if _WRITTEN in row.c else self._told(resource, row, whole=heard)
        entry_is_event = event and resource.audit and not deleted
        if resource.audit and told is not None:
            entry = audit_entry(
                self._statements, self._audit, resource, told, told_json(told), old,
                deleted=deleted, event=entry_is_event,
            )  # fmt: skip
            found.append(entry)
        if event and told is not None and not entry_is_event:
            found.append(self._event(resource, told))
        if resource.history:
            found.append(history_entry(self._tables, resource, row, self._statements.user(), deleted=deleted))
        return told, found

    def returned(
        self, resource: ResourceDefinition, table: sa.Table, *, event: bool
    ) -> list[sa.ColumnElement[Any]]:
        """Return what a write has to give back of its rows, so that they can be told; empty where none is."""
        if not resource.audit and not event:
            return []
        json = self._statements.row_json(resource, table, recorded(resource))
        return [*(table.c[name] for name in _needed(resource)), json.label(_WRITTEN)]

    def _told(self, resource: ResourceDefinition, row: sa.CTE, *, whole: bool) -> sa.CTE:
        """Return of each row the key, the version, what an entry compares, or all of it; and its JSON."""
        names = list(row.c.keys()) if whole else _needed(resource)
        json = self._statements.row_json(resource, row, recorded(resource))
        # OFFSET 0 keeps PostgreSQL from writing it again wherever it is used.
        written = (
            sa.select(*(row.c[name] for name in names), json.label(_WRITTEN))
            .select_from(row)
            .offset(sa.literal_column("0"))
            .subquery("_written")
        )
        return sa.select(*written.c).cte("_told_rows")

    def _event(self, resource: ResourceDefinition, row: sa.CTE) -> sa.CTE:
        source = sa.select(
            self._statements.session_tenant(),
            sa.bindparam("event_name", type_=sa.Text()),
            sa.cast(told_json(row), JSONB()),
            sa.literal(resource.name, sa.Text()),
            sa.cast(row.c.id, sa.Text()),
            sa.bindparam("request_id", type_=sa.Text()),
            sa.bindparam("correlation_id", type_=sa.Text()),
            self._statements.user(),
        )
        columns = [
            "tenant_id", "name", "data", "resource", "resource_id",
            "request_id", "correlation_id", "actor_id",
        ]  # fmt: skip
        return sa.insert(self._outbox).from_select(columns, source).cte("_told")


def _needed(resource: ResourceDefinition) -> list[str]:
    """Return the columns of a written row that are asked for beside its JSON."""
    return ["id", *(["version"] if resource.versioned else []), *compared(resource)]


def told_json(told: sa.CTE) -> sa.ColumnElement[Any]:
    """Return the JSON of rows that are told."""
    return told.c[_WRITTEN]


def is_shown_as_told(resource: ResourceDefinition, visibility: Visibility) -> bool:
    """Return whether what is told of a row is what the caller sees of it."""
    fields = resource.fields
    shown = {name: when for name, when in visibility.fields.items() if not fields[name].write_only}
    return shown == recorded(resource).fields
