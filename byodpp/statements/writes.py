"""The statements that change rows, compiled once per shape.

A shape is the resource, the columns written, and what the caller may see; values are always
parameters. Each write is one statement, however much belongs to it: the row is locked and
judged, changed, audited, told to the outbox, and read back as JSON by the same trip. Scope is
part of every statement, and row-level security stands behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from byodpp.conditions import Condition, Visibility
from byodpp.definitions import FieldDefinition, ResourceDefinition, Scope
from byodpp.registry import Registry
from byodpp.schemas.modifiers import ModifierKind
from byodpp.statements.answers import Answers
from byodpp.statements.audit_entries import former_values, recorded
from byodpp.statements.consequences import Consequences
from byodpp.statements.history import moment_of_change
from byodpp.statements.intended import FITS, changed_rows, foreseen, new_rows
from byodpp.statements.json import json_array
from byodpp.statements.keys import KeyStatements, bind_key, key_columns
from byodpp.statements.modifiers import modified, unfit
from byodpp.statements.parameters import array_parameter, as_stored, given_type, written_value
from byodpp.statements.reads import Compiled, Statements, context_setting
from byodpp.tables import Tables

__all__ = ["Change", "WriteStatements"]

#: What the result of a change tells of the row before; `permitted` is null when there is no such row.
_TOLD_OF_OLD: Final = ("permitted", "version", "state", "before", "unfit", "fits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The shape of a statement that changes one row that exists."""

    kind: Literal["update", "delete", "softDelete", "restore"]
    columns: tuple[str, ...] = ()  # written from parameters `v_<column>`
    modifiers: tuple[tuple[str, ModifierKind], ...] = ()  # (field, what is done by `v_<column>` to its value)
    visibility: Visibility  # rows outside are not found; fields outside are not shown
    permitted: Condition | None = None  # rows on which the caller may do this; None is all that are visible
    before: bool = False  # return the row as it was, as the caller sees it
    audited: bool = False
    event: bool = False
    heard: bool = False  # return what the event holds, where that is not what the caller sees
    check_version: bool = False  # compare with parameter `expected_version`
    check_state: bool = False  # the state must be among parameter `states`


class WriteStatements:
    """Builds, compiles and keeps the statements that change rows."""

    def __init__(self, registry: Registry, tables: Tables, statements: Statements) -> None:
        """Args:
        registry: of the application.
        tables: of the same.
        statements: whose tenancy, rules and cache are used here too.
        """
        self._tables = tables
        self._statements = statements
        self._consequences = Consequences(registry, tables, statements)
        self._answers = Answers(registry, statements, self._consequences)
        self.keys = KeyStatements(tables, statements)

    # --- insert -----------------------------------------------------------------------

    def insert(
        self,
        resource: ResourceDefinition,
        columns: tuple[str, ...],
        visibility: Visibility,
        permitted: Condition | None,
        *,
        event: bool,
        heard: bool = False,
        many: bool = False,
        context_in_statement: bool = False,
        joined: bool = False,
    ) -> Compiled:
        """One row from parameters `v_<column>`, or many from texts of arrays (`array_text`) of that name.

        With `context_in_statement` it is a transaction by itself: each row is made from the context that
        is set, so that nothing is judged by row-level security before.

        The result has a row per inserted row, in order: `data` (JSON text; null when the caller
        may not see it), `permitted` (whether the caller may have such a row), `id`, `new_version`, and
        `told`: what the event holds, where it is `heard` and that is not `data`; else null. It is empty
        where nothing was inserted, because the caller may not have some of them.
        With `joined` it is one row, whose `data` is a JSON array: for a caller who may have, and see,
        every row.
        """
        options = (event, heard, many, context_in_statement, joined)
        key = ("insert", resource.id, columns, visibility, permitted, options)

        def build() -> sa.Select[Any]:
            source = (self._many_values if many else self._one_value)(resource, columns)
            if context_in_statement:
                source = source.select_from(context_setting())
            answer = self._build_insert(
                resource, columns, source, visibility, permitted, event=event, heard=heard
            )
            if not joined:
                return answer
            rows = answer.subquery("_answer")
            return sa.select(json_array(rows.c.data).label("data")).select_from(rows)

        return self._statements.cached(key, build)

    def _build_insert(
        self,
        resource: ResourceDefinition,
        columns: tuple[str, ...],
        source: sa.Select[Any],
        visibility: Visibility,
        permitted: Condition | None,
        *,
        event: bool,
        heard: bool,
    ) -> sa.Select[Any]:
        names = [*self._owner_columns(resource), *columns]
        inserted, _, permitted = self._inserted(resource, names, source, visibility, permitted, event=event)
        return self._answers.answered(resource, inserted, visibility, permitted, event=event, heard=heard)

    def _inserted(
        self,
        resource: ResourceDefinition,
        names: Sequence[str],
        source: sa.Select[Any],
        visibility: Visibility,
        permitted: Condition | None,
        *,
        event: bool,
    ) -> tuple[sa.CTE, sa.CTE | None, Condition | None]:
        """Return the rows that a select gives, inserted; the same as intended; and what is left to judge.

        As far as it can be seen before which of them the caller may have, all are inserted or none.
        """
        table, intended = self._tables[resource], None
        if permitted is not None:
            before = foreseen(resource, permitted)
            intended = new_rows(self._statements, resource, table, names, source, before)
            all_fit = sa.select(sa.func.bool_and(intended.c[FITS])).scalar_subquery()
            source = sa.select(*(intended.c[name] for name in names)).where(all_fit)
            permitted = None if before == permitted else permitted
        returned = self._answers.returned(resource, table, visibility, permitted, event=event)
        inserted = sa.insert(table).from_select(names, source).returning(*returned).cte("_row")
        return inserted, intended, permitted

    def insert_selected(
        self,
        resource: ResourceDefinition,
        columns: Sequence[str],
        rows: sa.Select[Any],
        visibility: Visibility,
        permitted: Condition | None,
        *,
        event: bool,
        shown: bool,
    ) -> sa.Select[Any]:
        """Insert what a select finds.

        The result is one row: `created` and `refused`, the numbers of rows that were inserted and of
        those that the caller may not have; and `data` and `ids`, arrays of texts: what the
        events hold, and the keys; both null unless they are to be `shown`.

        Args:
            resource: of the rows.
            columns: that the select gives, in its order.
            rows: the values; whose they are is added.
            visibility: what is shown of them.
            permitted: which of them the caller may have; None is all.
            event: one per row.
            shown: whether somebody hears the events.
        """
        source = rows.add_columns(*self._owner_values(resource))
        names = [*columns, *self._owner_columns(resource)]
        inserted, intended, permitted = self._inserted(
            resource, names, source, visibility, permitted, event=event
        )
        answered = self._answers.answered(resource, inserted, visibility, permitted, event=event, heard=shown)
        answer = answered.subquery("_answer")
        nothing: sa.ColumnElement[Any] = sa.literal_column("null")
        told = sa.func.coalesce(answer.c.told, answer.c.data)
        texts = sa.func.array_agg(told), sa.func.array_agg(sa.cast(answer.c.id, sa.Text()))
        refused: sa.ColumnElement[Any] = sa.func.count().filter(answer.c.permitted.is_not(sa.true()))
        if intended is not None:
            barred = sa.select(sa.func.count()).select_from(intended).where(sa.not_(intended.c[FITS]))
            refused += barred.scalar_subquery()
        return sa.select(
            sa.func.count().label("created"),
            refused.label("refused"),
            (texts[0] if shown else nothing).label("data"),
            (texts[1] if shown else nothing).label("ids"),
        ).select_from(answer)

    def intended(
        self,
        resource: ResourceDefinition,
        columns: Sequence[str],
        rows: sa.Select[Any],
        permitted: Condition,
        beside: Mapping[str, sa.ColumnElement[Any]],
    ) -> sa.CTE:
        """Return what `insert_selected` would insert, with `FITS` and what else is wanted of each row."""
        names = [*columns, *self._owner_columns(resource)]
        source = rows.add_columns(*self._owner_values(resource), *beside.values())
        table = self._tables[resource]
        return new_rows(self._statements, resource, table, names, source, permitted, beside=tuple(beside))

    def _one_value(self, resource: ResourceDefinition, columns: Sequence[str]) -> sa.Select[Any]:
        table = self._tables[resource]
        return sa.select(
            *self._owner_values(resource), *(written_value(table.c[column]) for column in columns)
        )

    def _many_values(self, resource: ResourceDefinition, columns: Sequence[str]) -> sa.Select[Any]:
        table = self._tables[resource]
        # A row that consists of defaults only still needs something that says how many there are.
        types = {f"v_{name}": given_type(table.c[name]) for name in columns} or {"count_only": sa.Integer()}
        arrays = [array_parameter(name, kind) for name, kind in types.items()]
        items = (
            sa.func.unnest(*arrays)
            .table_valued(
                *(sa.column(f"c{i}", kind) for i, kind in enumerate(types.values())),
                with_ordinality="place",
            )
            .render_derived()
            .alias("_items")
        )
        chosen = [as_stored(items.c[f"c{i}"], table.c[name]) for i, name in enumerate(columns)]
        return sa.select(*self._owner_values(resource), *chosen).select_from(items).order_by(items.c.place)

    def _owner_columns(self, resource: ResourceDefinition) -> list[str]:
        if resource.scope is Scope.USER:
            return ["tenant_id", "owner_id"]
        return ["tenant_id"] if resource.scope in (Scope.TENANT, Scope.LIBRARY) else []

    def _owner_values(self, resource: ResourceDefinition) -> list[sa.ColumnElement[Any]]:
        values: list[sa.ColumnElement[Any]] = []
        if resource.scope in (Scope.TENANT, Scope.USER, Scope.LIBRARY):
            values.append(self._statements.tenant())
        if resource.scope is Scope.USER:
            values.append(self._statements.owner())
        return values

    # --- update and delete ------------------------------------------------------------

    def change(
        self, resource: ResourceDefinition, change: Change, *, context_in_statement: bool = False
    ) -> Compiled:
        """Change the row with parameter `id`.

        With `context_in_statement` it is a transaction by itself, and its result is always one row, of
        nulls where there is no such row. Its parts are scalar sub-selects over the one that sets the
        context: PostgreSQL looks for no row before, since what these read is read for a row of that one.

        The result is no row (not found), or one with `permitted`, `version`, `state`, `before` (JSON
        text of the row as the caller saw it, or null), `unfit` (fields whose modified value would be
        none of theirs), `fits` (whether the caller may have what the row becomes; null is yes), `changed`
        (whether the change was made), and of the changed row `data` (JSON text), `new_version`, and `told`
        as of `insert`.
        """
        key = ("change", resource.id, change, context_in_statement)
        return self._statements.cached(
            key, lambda: self._build_change(resource, change, alone=context_in_statement)
        )

    def _build_change(self, resource: ResourceDefinition, change: Change, *, alone: bool) -> sa.Select[Any]:
        table = self._tables[resource]
        old = self._locked(resource, table, change, after=True).cte("_old")
        returned = self._answers.returned(resource, table, change.visibility, None, event=change.event)
        written = self._written(resource, table, old, change).returning(*returned).cte("_row")
        deleted = change.kind in ("delete", "softDelete")
        former = old if change.audited else None
        told, extra = self._consequences.of(
            resource, written, former, deleted=deleted, event=change.event, heard=change.heard
        )
        shown = self._answers.answer(
            resource, written, told, change.visibility, None, heard=change.heard
        ).subquery("_shown")
        found = [_found(old, name, alone=alone) for name in _TOLD_OF_OLD]
        source = context_setting() if alone else old
        return (
            sa.select(
                *found,
                sa.select(sa.literal(True))
                .where(sa.exists(sa.select(written.c.id)))
                .scalar_subquery()
                .label("changed"),
                sa.select(shown.c.data).scalar_subquery().label("data"),
                _of_one(shown.c.new_version if resource.versioned else None, "new_version"),
                _of_one(shown.c.told if change.heard else None, "told"),
            )
            .select_from(source)
            .add_cte(*extra)
        )

    def change_many(self, resource: ResourceDefinition, change: Change) -> Compiled:
        """Update the rows with the keys of parameter `ids` from arrays `v_<column>`, in the keys' order.

        The result has a row per changed row, in no order: `id`, `data` (JSON text), `permitted` (whether the
        caller may have such a row), `new_version`, and `told` as of `insert`. What is not there, or may not
        be changed, is missing.
        """
        key = ("change many", resource.id, change)
        return self._statements.cached(key, lambda: self._build_change_many(resource, change))

    def _build_change_many(self, resource: ResourceDefinition, change: Change) -> sa.Select[Any]:
        table = self._tables[resource]
        ids = sa.bindparam("ids", type_=ARRAY(table.c.id.type))
        old = self._locked(resource, table, change, table.c.id == sa.any_(ids)).cte("_old")
        names = ("id", *change.columns)
        arrays = [ids, *(sa.bindparam(f"v_{name}", type_=ARRAY(table.c[name].type)) for name in names[1:])]
        items = (
            sa.func.unnest(*arrays)
            .table_valued(*(sa.column(f"c{i}", table.c[name].type) for i, name in enumerate(names)))
            .render_derived()
            .alias("_items")
        )
        values = {name: items.c[f"c{i}"] for i, name in enumerate(names) if i}
        update = self._updated(resource, table, old, change, values).where(table.c.id == sa.any_(ids))
        returned = self._answers.returned(
            resource, table, change.visibility, change.permitted, event=change.event
        )
        written = update.where(items.c.c0 == table.c.id).returning(*returned).cte("_row")
        former = old if change.audited else None
        told, extra = self._consequences.of(
            resource, written, former, deleted=False, event=change.event, heard=change.heard
        )
        return self._answers.answer(
            resource, written, told, change.visibility, change.permitted, heard=change.heard
        ).add_cte(*extra)

    def _locked(
        self,
        resource: ResourceDefinition,
        table: sa.Table,
        change: Change,
        which: sa.ColumnElement[bool] | None = None,
        *,
        after: bool = False,
    ) -> sa.Select[Any]:
        """Select the row as it is, locked, with everything that decides whether it may be changed.

        Args:
            resource: of the row.
            table: of the same.
            change: what is to be done.
            which: rows are meant; None is the one with parameter `id`.
            after: what the change leaves is judged, too, from parameters `v_<column>`.
        """
        meant = table.c.id == bind_key(table) if which is None else which
        rows = [self._statements.scope(resource, table), meant]
        if resource.soft_delete:
            deleted = table.c.deleted_at.is_not(None)
            rows.append(deleted if change.kind == "restore" else sa.not_(deleted))
        if change.visibility.rows is not None:
            rows.append(self._statements.condition(resource, change.visibility.rows, table))
        permitted = [sa.true(), *self._own(resource, table)]
        if change.permitted is not None:
            permitted.append(self._statements.condition(resource, change.permitted, table))
        found = {"id": table.c.id, "permitted": sa.and_(*permitted)}
        source: sa.FromClause = table
        if after and change.permitted is not None and change.kind in ("update", "restore"):
            left = changed_rows(table, self._values(resource, table, change, guarded=True))
            source = table.join(left, sa.true())
            # A comparison with null is null here, where nothing makes false of it as `where` does.
            fits = self._statements.condition(resource, change.permitted, left)
            found["fits"] = sa.func.coalesce(fits, sa.false())
        # What nobody asks for is left out: each column costs, in this part and in whatever reads it.
        if change.check_version:
            found["version"] = table.c.version
        if change.check_state and resource.states is not None:
            found["state"] = table.c[resource.columns[resource.states.field]]
        if change.before:
            shown = self._statements.row_json(resource, table, change.visibility)
            found["before"] = sa.cast(shown, sa.Text())
        if change.modifiers:
            found["unfit"] = unfit(table, _modifiers(resource, change))
        if change.audited:
            found["recorded"] = self._statements.row_json(resource, table, recorded(resource))
        return (
            sa.select(
                *(column.label(name) for name, column in found.items()),
                *(former_values(resource, table) if change.audited else ()),
            )
            .select_from(source)
            .where(*rows)
            .with_for_update(of=table, key_share=_leaves_keys(resource, table, change))
        )

    def _own(self, resource: ResourceDefinition, table: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        """A row of the library is readable by all and written by its owner."""
        return [table.c.tenant_id == self._statements.tenant()] if resource.scope is Scope.LIBRARY else []

    def _updated(
        self,
        resource: ResourceDefinition,
        table: sa.Table,
        old: sa.CTE,
        change: Change,
        values: Mapping[str, Any],
    ) -> sa.Update:
        """Return the update of rows that were locked and may be changed."""
        written = {**values, "updated_at": moment_of_change(resource)}
        if resource.versioned:
            written["version"] = table.c.version + 1
        guards = (
            self._statements.scope(resource, table, writing=True),
            table.c.id == old.c.id,
            old.c.permitted,
        )
        return sa.update(table).where(*guards).values(written)

    def _written(self, resource: ResourceDefinition, table: sa.Table, old: sa.CTE, change: Change) -> Any:
        guards = [
            self._statements.scope(resource, table, writing=True),
            table.c.id == old.c.id,
            table.c.id == bind_key(table),  # said again: no plan is to look for the row among all
            old.c.permitted,
            *([old.c.fits] if "fits" in old.c else []),
        ]
        if change.check_version:
            guards.append(old.c.version == sa.bindparam("expected_version", type_=sa.BigInteger()))
        if change.check_state:
            guards.append(old.c.state == sa.any_(sa.bindparam("states", type_=ARRAY(sa.Text()))))
        if change.modifiers:
            guards.append(sa.func.cardinality(old.c.unfit) == sa.literal_column("0"))
        if change.kind == "delete":
            return sa.delete(table).where(*guards)
        return sa.update(table).where(*guards).values(self._values(resource, table, change))

    def _values(
        self, resource: ResourceDefinition, table: sa.Table, change: Change, *, guarded: bool = False
    ) -> dict[str, Any]:
        """Return what a change writes, by column.

        Args:
            resource: of the row.
            table: of the same.
            change: what is to be done.
            guarded: the values are asked for also where a modified one would be none of its field's; it
                is then what it was.
        """
        values: dict[str, Any] = {column: written_value(table.c[column]) for column in change.columns}
        modifiers = _modifiers(resource, change)
        for definition, kind in modifiers:
            new = modified(table, definition, kind)
            if guarded:
                whole = sa.func.cardinality(unfit(table, modifiers)) == sa.literal_column("0")
                new = sa.case((whole, new), else_=table.c[definition.column])
            values[definition.column] = new
        values["updated_at"] = moment_of_change(resource)
        if resource.versioned:
            values["version"] = table.c.version + 1
        if change.kind == "softDelete":
            values["deleted_at"] = moment_of_change(resource)
        if change.kind == "restore":
            values["deleted_at"] = sa.null()
        return values


def _found(old: sa.CTE, name: str, *, alone: bool) -> sa.ColumnElement[Any]:
    """Return what a statement tells of the row that it has locked; null where nobody asks for it."""
    column = old.c.get(name)
    return _of_one(column, name) if alone or column is None else column


def _of_one(column: sa.ColumnElement[Any] | None, name: str) -> sa.ColumnElement[Any]:
    """Return the value of a part of one row, or of none; null without a column."""
    null: sa.ColumnElement[Any] = sa.literal_column("null")
    return (null if column is None else sa.select(column).scalar_subquery()).label(name)


def _modifiers(resource: ResourceDefinition, change: Change) -> list[tuple[FieldDefinition, ModifierKind]]:
    return [(resource.fields[name], kind) for name, kind in change.modifiers]


def _leaves_keys(resource: ResourceDefinition, table: sa.Table, change: Change) -> bool:
    """Whether a change lets others refer to the row meanwhile: it neither ends nor begins to be there.

    PostgreSQL takes the stronger lock by itself for a column of a unique index; taken later than the
    weaker one, it would find those who refer to the row by then, and they it.
    """
    if change.kind != "update":
        return False
    written = {*change.columns, *(definition.column for definition, _ in _modifiers(resource, change))}
    return key_columns(table).isdisjoint(written)
