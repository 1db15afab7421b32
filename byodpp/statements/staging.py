"""The statements of an import: many rows that travel as texts, and are written at once.

A column of the rows is one parameter: the text of an array of texts. `#record` and `#line` say where in
the file a row was; `low`, `high` and `without` which of them are meant, so that a statement can be asked
again of some of them. A value is cast where it is used, so that one which is none of its column's spoils
no statement about others. Scope is part of each; row-level security stands behind them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.elements import quoted_name

from byodpp.conditions import Condition, Visibility
from byodpp.definitions import ResourceDefinition, Scope
from byodpp.statements.intended import FITS
from byodpp.statements.parameters import array_parameter
from byodpp.statements.reads import Compiled, Statements
from byodpp.statements.writes import WriteStatements
from byodpp.tables import Tables

__all__ = ["StagedRows", "StagingStatements", "staged_fields"]

#: Columns that no field can have: where a row was in its file.
_RECORD: Final = "#record"
_LINE: Final = "#line"
#: Columns that PostgreSQL fills.
_COUNTED: Final = frozenset({"created_at", "updated_at", "deleted_at", "version", "tenant_id", "owner_id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedRows:
    """Rows that wait."""

    records: tuple[int, ...]  # their places in the file, ascending
    lines: str  # array of the lines where they begin
    columns: Mapping[str, str]  # field -> array of texts
    sent: frozenset[str]  # fields that any of them names


def staged_fields(resource: ResourceDefinition) -> tuple[str, ...]:
    """Return the fields whose columns a creation fills, in the order of their definition."""
    return tuple(
        name
        for name, one in resource.fields.items()
        if not (one.implied and (one.column in _COUNTED or (name == "id" and resource.key == "bigint")))
    )


class StagingStatements:
    """Statements over the rows of an import.

    Their parameters: `records`, `lines`, `c_<column>`, `low`, `high`, and `without`.
    """

    def __init__(self, tables: Tables, statements: Statements, writes: WriteStatements) -> None:
        self._tables = tables
        self._statements = statements
        self._writes = writes

    def insert(
        self,
        resource: ResourceDefinition,
        visibility: Visibility,
        permitted: Condition | None,
        *,
        event: bool,
        shown: bool,
    ) -> Compiled:
        """Write the rows; see `WriteStatements.insert_staged`."""
        key = ("insert staged", resource.id, visibility, permitted, event, shown)

        def build() -> sa.Select[Any]:
            columns, _, rows = self._rows(resource)
            return self._writes.insert_selected(
                resource, columns, rows, visibility, permitted, event=event, shown=shown
            )

        return self._statements.cached(key, build)

    def barred(self, resource: ResourceDefinition, permitted: Condition) -> Compiled:
        """Rows that the caller may not have, by what is `foreseen` of a rule: `record` and `line`."""

        def build() -> sa.Select[Any]:
            columns, staged, rows = self._rows(resource)
            where = {_RECORD: _record(staged), _LINE: sa.cast(staged.c[_LINE], sa.BigInteger())}
            found = self._writes.intended(resource, columns, rows, permitted, where)
            places = found.c[_RECORD].label("record"), found.c[_LINE].label("line")
            return sa.select(*places).where(sa.not_(found.c[FITS]))

        return self._statements.cached(("staged barred", resource.id, permitted), build)

    def _rows(self, resource: ResourceDefinition) -> tuple[list[str], sa.TableValuedAlias, sa.Select[Any]]:
        """Return the columns that a creation fills, the rows as texts, and a select of their values."""
        columns = [resource.columns[name] for name in staged_fields(resource)]
        staged, table = self._staged(columns), self._tables[resource]
        values = [_typed(staged.c[name], table.c[name].type) for name in columns]
        rows = sa.select(*values).select_from(staged).where(*_meant(staged)).order_by(_record(staged))
        return columns, staged, rows

    def unseen(
        self, resource: ResourceDefinition, field: str, target: ResourceDefinition, visibility: Visibility
    ) -> Compiled:
        """Rows whose reference leads to nothing that may be read: `record` and `line`."""
        key = ("staged unseen", resource.id, field, target.id, visibility)
        return self._statements.cached(key, lambda: self._build_unseen(resource, field, target, visibility))

    def _build_unseen(
        self, resource: ResourceDefinition, field: str, target: ResourceDefinition, visibility: Visibility
    ) -> sa.Select[Any]:
        column, table = resource.columns[field], self._tables[target]
        staged = self._staged([column])
        value = staged.c[column]
        seen = [self._statements.scope(target, table)]
        if target.soft_delete:
            seen.append(table.c.deleted_at.is_(None))
        if visibility.rows is not None:
            seen.append(self._statements.condition(target, visibility.rows, table))
        wanted = _typed(value, table.c.id.type)
        if target.soft_delete and target.scope in (Scope.TENANT, Scope.USER):
            # Nobody deletes them before the rows are there: as where a single row refers to another.
            texts = array_parameter(_parameter(column), sa.Text())
            held = sa.select(table.c.id).where(
                *seen, table.c.id == sa.any_(sa.cast(texts, ARRAY(table.c.id.type)))
            )
            held = held.order_by(table.c.id).with_for_update(of=table, key_share=True, read=True)
            kept = held.cte("_held")
            found: sa.ColumnElement[bool] = wanted.in_(
                sa.select(kept.c.id)
            )  # hashed: neither side is ever null
        else:
            found = sa.exists(sa.select(table.c.id).where(*seen, table.c.id == wanted).correlate(staged))
        return _places(staged).where(*_meant(staged), value.is_not(None), sa.not_(found))

    def taken(self, resource: ResourceDefinition, columns: Sequence[str]) -> Compiled:
        """Rows whose unique key some row of the scope has already: `record` and `line`."""
        key = ("staged taken", resource.id, tuple(columns))
        return self._statements.cached(key, lambda: self._build_taken(resource, columns))

    def _build_taken(self, resource: ResourceDefinition, columns: Sequence[str]) -> sa.Select[Any]:
        staged, table = self._staged(columns), self._tables[resource]
        same = [self._statements.scope(resource, table, writing=True)]
        same += [table.c[name] == _typed(staged.c[name], table.c[name].type) for name in columns]
        if resource.soft_delete:
            same.append(table.c.deleted_at.is_(None))
        found = sa.exists(sa.select(table.c.id).where(*same).correlate(staged))
        return _places(staged).where(*_meant(staged), found)

    def repeated(self, resource: ResourceDefinition, columns: Sequence[str]) -> Compiled:
        """Rows that share a unique key: `record`, `line`, and `first`, the least record of them."""
        key = ("staged repeated", resource.id, tuple(columns))
        return self._statements.cached(key, lambda: self._build_repeated(resource, columns))

    def _build_repeated(self, resource: ResourceDefinition, columns: Sequence[str]) -> sa.Select[Any]:
        staged, table = self._staged(columns), self._tables[resource]
        wanted = [_typed(staged.c[name], table.c[name].type) for name in columns]
        found = (
            _places(staged)
            .add_columns(
                sa.func.min(_record(staged)).over(partition_by=wanted).label("first"),
                sa.func.count().over(partition_by=wanted).label("among"),
            )
            .where(*_meant(staged), *(staged.c[name].is_not(None) for name in columns))
            .subquery("_same")
        )
        several = found.c.among > sa.literal_column("1")
        return sa.select(found.c.record, found.c.line, found.c.first).where(several).order_by(found.c.record)

    def _staged(self, columns: Sequence[str]) -> sa.TableValuedAlias:
        """Return the rows, as many columns of them as are needed; all values are texts."""
        names = (_RECORD, _LINE, *columns)
        arrays = [array_parameter(_parameter(name), sa.Text()) for name in names]
        return (
            sa.func.unnest(*arrays)
            .table_valued(*(sa.column(quoted_name(name, True), sa.Text()) for name in names))
            .render_derived()
            .alias("_staged")
        )


def _parameter(name: str) -> str:
    return {_RECORD: "records", _LINE: "lines"}.get(name, f"c_{name}")


def _typed(value: sa.ColumnElement[Any], kind: sa.types.TypeEngine[Any]) -> sa.ColumnElement[Any]:
    """Return a text as its column's type. Lengths and scales stay out of it: a cast would cut or round."""
    if isinstance(kind, sa.String):
        return value
    if isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float):
        return sa.cast(value, sa.Numeric())
    return sa.cast(value, kind)


def _record(staged: sa.TableValuedAlias) -> sa.ColumnElement[int]:
    return sa.cast(staged.c[_RECORD], sa.BigInteger())


def _meant(staged: sa.TableValuedAlias) -> list[sa.ColumnElement[bool]]:
    """Return which of the rows are meant."""
    low, high = (sa.bindparam(name, type_=sa.BigInteger()) for name in ("low", "high"))
    without = sa.bindparam("without", type_=ARRAY(sa.BigInteger()))
    record = _record(staged)
    return [record.between(low, high), record != sa.all_(without)]


def _places(staged: sa.TableValuedAlias) -> sa.Select[Any]:
    line = sa.cast(staged.c[_LINE], sa.BigInteger())
    places: list[sa.ColumnElement[Any]] = [_record(staged).label("record"), line.label("line")]
    return sa.select(*places).select_from(staged)
