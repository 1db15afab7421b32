"""What a write returns of the rows that it has written.

In: the rows, as a part of the statement that writes them. Out: a select over them, with all that follows
from the write beside it. Rejects nothing.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.sql.elements import quoted_name

from byodpp.conditions import Condition, Visibility
from byodpp.definitions import ResourceDefinition
from byodpp.registry import Registry
from byodpp.statements.consequences import Consequences, is_shown_as_told, told_json
from byodpp.statements.intended import asks_of
from byodpp.statements.reads import Statements

__all__ = ["Answers"]

#: A column that no field can have: the JSON of a written row as its writer sees it.
_SHOWN: Final = quoted_name("#shown", True)


class Answers:
    """Answers about written rows."""

    def __init__(self, registry: Registry, statements: Statements, consequences: Consequences) -> None:
        self._registry = registry
        self._statements = statements
        self._consequences = consequences

    def returned(
        self,
        resource: ResourceDefinition,
        table: sa.Table,
        visibility: Visibility,
        permitted: Condition | None,
        *,
        event: bool,
    ) -> list[sa.ColumnElement[Any]]:
        """Return what a write has to give back of its rows.

        That is whole rows only where something is asked about them afterwards: each column that goes from
        one part of a statement to the next costs, at its start and for each row. So the JSON is written
        where the row is.
        """
        if resource.history:
            return [*table.c]
        told = self._consequences.returned(resource, table, event=event)
        if permitted is not None or visibility.rows is not None or self._asks_of_others(resource, visibility):
            return [*table.c, *told[-1:]]  # with the JSON, which is the last; the others are there
        if told and is_shown_as_told(resource, visibility):
            return told
        own = [table.c.id, *([table.c.version] if resource.versioned else [])]
        return [*(told or own), self._statements.row_json(resource, table, visibility).label(_SHOWN)]

    def _asks_of_others(self, resource: ResourceDefinition, visibility: Visibility) -> bool:
        """Whether what is shown depends on related rows, which nothing inside of RETURNING looks for.

        There a sub-select takes the table's name for all of its rows, and not for the one that is written.
        """
        rules = (one for one in visibility.fields.values() if one is not None)
        return any(asks_of(self._registry, resource, rule) for rule in rules)

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
        """Return the answer about rows that were written with `returned`.

        Args:
            resource: of the rows.
            row: as they were written.
            told: the same with what entry and event hold of them; None where there are none.
            visibility: what the caller sees of them.
            permitted: what is to be judged of them now.
            heard: whether what an event holds is wanted where the caller sees something else.
        """
        judged = permitted is not None or visibility.rows is not None
        same = (told is row or not judged) and is_shown_as_told(resource, visibility)
        event: sa.ColumnElement[Any] = sa.null()
        if told is not None and (same or heard):
            row = told  # nothing else of the row is asked, or all of it is there
        if told is not None and heard and (not same or visibility.rows is not None):
            event = told_json(told)
        data: sa.ColumnElement[Any] = sa.cast(
            self._json(resource, row, visibility, told if same else None), sa.Text()
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

    def _json(
        self, resource: ResourceDefinition, row: sa.CTE, visibility: Visibility, told: sa.CTE | None
    ) -> sa.ColumnElement[Any]:
        """Return the JSON of rows as the caller sees it, from where it has been written already if it was."""
        if told is not None:
            return told_json(told)
        shown = row.c.get(_SHOWN)
        return self._statements.row_json(resource, row, visibility) if shown is None else shown
