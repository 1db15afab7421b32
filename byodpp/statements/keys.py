"""The statements that look for rows by their keys, before something is written.

Like `write_statements`, of which they are a part: compiled once per shape, scope in each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from byodpp.conditions import NOTHING, Condition, Visibility
from byodpp.definitions import ResourceDefinition
from byodpp.statements.history import moment_of_change
from byodpp.statements.intended import changed_rows
from byodpp.statements.reads import Compiled, Statements
from byodpp.tables import Tables

__all__ = ["KeyStatements", "bind_key", "key_columns"]


def bind_key(table: sa.Table) -> sa.BindParameter[Any]:
    """Return the parameter `id`."""
    return sa.bindparam("id", type_=table.c.id.type)


def key_columns(table: sa.Table) -> frozenset[str]:
    """Return the columns of unique keys of which PostgreSQL takes each for one that others may refer by."""
    whole = (
        one for one in table.indexes if one.unique and one.dialect_options["postgresql"]["where"] is None
    )
    return frozenset(name for index in whole for name in index.columns.keys())


class KeyStatements:
    """Locks rows and finds keys."""

    def __init__(self, tables: Tables, statements: Statements) -> None:
        self._tables = tables
        self._statements = statements

    def leaves_keys(self, resource: ResourceDefinition, names: Iterable[str] | None) -> bool:
        """Whether a change lets others refer to the row meanwhile: it writes no unique key of it.

        Args:
            resource: of the row.
            names: fields that are written, and others; None: it may be any.
        """
        columns = resource.columns
        written = columns.values() if names is None else [columns[name] for name in names if name in columns]
        return key_columns(self._tables[resource]).isdisjoint(written)

    def lock(self, resource: ResourceDefinition, seen: Condition | None, *, leaves_keys: bool) -> Compiled:
        """Lock the row with parameter `id`, if it may be read; the result tells whether.

        Args:
            resource: of the row.
            seen: which rows may be read; None is all.
            leaves_keys: others may come to refer to it meanwhile.
        """
        key = ("lock", resource.id, seen, leaves_keys)
        return self._statements.cached(
            key, lambda: self._build_lock(resource, seen, many=False, leaves_keys=leaves_keys)
        )

    def lock_all(
        self, resource: ResourceDefinition, seen: Condition | None, *, leaves_keys: bool
    ) -> Compiled:
        """Lock the rows with the keys in parameter `ids`, in the order of their keys, as `lock` does."""
        key = ("lock all", resource.id, seen, leaves_keys)
        return self._statements.cached(
            key, lambda: self._build_lock(resource, seen, many=True, leaves_keys=leaves_keys)
        )

    def _build_lock(
        self, resource: ResourceDefinition, seen: Condition | None, *, many: bool, leaves_keys: bool
    ) -> sa.Select[Any]:
        table = self._tables[resource]
        wanted = sa.any_(sa.bindparam("ids", type_=ARRAY(table.c.id.type))) if many else bind_key(table)
        rows = [self._statements.scope(resource, table, writing=True), table.c.id == wanted]
        if seen is not None:
            rows.append(self._statements.condition(resource, seen, table))
        found = sa.select(table.c.id).where(*rows)
        if many:
            found = found.order_by(table.c.id)
        return found.with_for_update(of=table, key_share=leaves_keys)

    def visible(
        self,
        resource: ResourceDefinition,
        visibility: Visibility,
        *,
        held: bool = False,
        deleted: bool = False,
    ) -> Compiled:
        """Of the keys in parameter `ids`, those of rows that may be read: one column, `id`.

        Args:
            resource: of the rows.
            visibility: which of them may be read.
            held: nobody deletes them, softly neither, before the transaction ends; others may change them.
            deleted: those that are deleted softly are among them.
        """
        key = ("keys", resource.id, visibility, held, deleted)
        return self._statements.cached(
            key, lambda: self._build_visible(resource, visibility, held=held, deleted=deleted)
        )

    def _build_visible(
        self, resource: ResourceDefinition, visibility: Visibility, *, held: bool, deleted: bool
    ) -> sa.Select[Any]:
        table = self._tables[resource]
        wanted = sa.bindparam("ids", type_=ARRAY(table.c.id.type))
        rows = [self._statements.scope(resource, table), table.c.id == sa.any_(wanted)]
        if resource.soft_delete and not deleted:
            rows.append(table.c.deleted_at.is_(None))
        if visibility.rows is not None:
            rows.append(self._statements.condition(resource, visibility.rows, table))
        found = sa.select(table.c.id).where(*rows)
        if held:
            found = found.order_by(table.c.id).with_for_update(of=table, key_share=True, read=True)
        return found

    def left_by_step(self, resource: ResourceDefinition, rows: Condition) -> Compiled:
        """Find the row with parameter `id` if it fits a rule as a step to parameter `state` leaves it."""
        return self._statements.cached(
            ("left by step", resource.id, rows), lambda: self._build_left_by_step(resource, rows)
        )

    def _build_left_by_step(self, resource: ResourceDefinition, rows: Condition) -> sa.Select[Any]:
        assert resource.states is not None
        table, state = self._tables[resource], resource.columns[resource.states.field]
        values: dict[str, sa.ColumnElement[Any]] = {
            state: sa.bindparam("state", type_=table.c[state].type),
            "updated_at": moment_of_change(resource),
        }
        if resource.versioned:
            values["version"] = table.c.version + 1
        left = changed_rows(table, values)
        meant = (
            self._statements.scope(resource, table, writing=True),
            table.c.id == bind_key(table),
            self._statements.condition(resource, rows, left),
        )
        return sa.select(table.c.id).select_from(table.join(left, sa.true())).where(*meant)

    def matches(
        self, resource: ResourceDefinition, columns: tuple[str, ...], visibility: Visibility
    ) -> Compiled:
        """Find the row for each place of the arrays `v_<column>`, whose values are unique in the scope.

        The result has a row per place, in order: `id` (null when there is no such row), `visible`
        (whether it and these values of it may be read), and `first` (the first place, from 1, with
        the same values).
        """
        key = ("matches", resource.id, columns, visibility)
        return self._statements.cached(key, lambda: self._build_matches(resource, columns, visibility))

    def _build_matches(
        self, resource: ResourceDefinition, columns: tuple[str, ...], visibility: Visibility
    ) -> sa.Select[Any]:
        table = self._tables[resource]
        arrays = [sa.bindparam(f"v_{name}", type_=ARRAY(table.c[name].type)) for name in columns]
        items = (
            sa.func.unnest(*arrays)
            .table_valued(
                *(sa.column(f"c{i}", table.c[name].type) for i, name in enumerate(columns)),
                with_ordinality="place",
            )
            .render_derived()
            .alias("_items")
        )
        wanted = [items.c[f"c{i}"] for i in range(len(columns))]
        joined = [self._statements.scope(resource, table, writing=True)]
        joined += [table.c[name] == value for name, value in zip(columns, wanted, strict=True)]
        if resource.soft_delete:
            joined.append(table.c.deleted_at.is_(None))
        rules = (
            visibility.rows,
            *(visibility.fields.get(name, NOTHING) for name in _names(resource, columns)),
        )
        visible = sa.and_(
            sa.true(),
            *(self._statements.condition(resource, rule, table) for rule in rules if rule is not None),
        )
        return (
            sa.select(
                table.c.id.label("id"),
                visible.label("visible"),
                sa.func.min(items.c.place).over(partition_by=wanted).label("first"),
            )
            .select_from(items.outerjoin(table, sa.and_(*joined)))
            .order_by(items.c.place)
        )


def _names(resource: ResourceDefinition, columns: tuple[str, ...]) -> list[str]:
    """Return the fields that lie in some columns."""
    return [name for name, column in resource.columns.items() if column in columns]
