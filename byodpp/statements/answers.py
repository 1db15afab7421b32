"""What a write returns of the rows that it has written.

In: the rows, as a part of the statement that writes them. Out: a select over them, with all that follows
from the write beside it. Rejects nothing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from byodpp.conditions import Condition, Visibility
from byodpp.definitions import ResourceDefinition
from byodpp.statements.consequences import Consequences, shown_as_told, told_json
from byodpp.statements.reads import Statements

__all__ = ["Answers"]


class Answers:
    """Answers about written rows."""

    def __init__(self, statements: Statements, consequences: Consequences) -> None:
        self._statements = statements
        self._consequences = consequences

    def answered(
        self,
        resource: ResourceDefinition,
        row: sa.CTE,
        visibility: Visibility,
        permitted: Condition | None,
        *,
        event: bool,
        heard: bool,
    ) -> sa.Select[Any]:
        """Return the answer about rows that are created, with all that follows from it."""
        told, extra = self._consequences.of(resource, row, None, deleted=False, event=event, heard=heard)
        return self.answer(resource, row, told, visibility, permitted, heard=heard).add_cte(*extra)

    def answer(
        self,
        resource: ResourceDefinition,
        row: sa.CTE,
        told: sa.CTE | None,
        visibility: Visibility,
        permitted: Condition | None,
        *,
        heard: bool,
    ) -> sa.Select[Any]:
        json = shown_as_told(resource, told, visibility) if permitted is None else None
        event: sa.ColumnElement[Any] = sa.null()
        if told is not None and (json is not None or heard):
            row = told  # nothing else of the row is asked, or all of it is there
            event = event if json is not None else told_json(told)
        data: sa.ColumnElement[Any] = sa.cast(
            self._statements.row_json(resource, row, visibility) if json is None else json, sa.Text()
        )
        if visibility.rows is not None:
            data = sa.case((self._statements.condition(resource, visibility.rows, row), data))
        allowed: sa.ColumnElement[bool] = sa.true()
        if permitted is not None:
            # A comparison with null is null here, where nothing makes false of it as `where` does.
            allowed = sa.func.coalesce(self._statements.condition(resource, permitted, row), sa.false())
        version = row.c.version if resource.versioned else sa.cast(sa.null(), sa.BigInteger())
        return sa.select(
            data.label("data"),
            allowed.label("permitted"),
            row.c.id.label("id"),
            version.label("new_version"),
            sa.cast(event, sa.Text()).label("told"),
        ).select_from(row)
