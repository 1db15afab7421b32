"""The statements of a resource, compiled once per shape and kept in a bounded cache.

Comes from `query` (a judged Query) and `authorization` (what the caller may see); goes to
`repository`, which runs the text with the values of one request. PostgreSQL builds the JSON;
nothing here touches a row, and nothing here can refuse.

Reads outside a transaction set their own context and read in one trip. PostgreSQL may
evaluate a join before a setting, so that only one form is safe: scalar sub-selects over a
derived table that sets (`select (select …) from (select set_config(…)) s`).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from byodpp.conditions import Condition, Lookup, Query, Shape, Visibility
from byodpp.definitions import ResourceDefinition
from byodpp.registry import Registry
from byodpp.sql_text import literal
from byodpp.statements.conditions import View, scope_tenant, scope_user
from byodpp.statements.exports import RowForm, export_select, exported_names
from byodpp.statements.groups import groups_texts, groups_total
from byodpp.statements.history import Past
from byodpp.statements.json import HIDDEN, RowJson, row_columns, row_text, select_columns, versioned_text
from byodpp.statements.pages import page_texts
from byodpp.statements.parameters import Compiled, Context, Source, Sources, SqlText, bound, compile_statement
from byodpp.statements.versions import versions_texts
from byodpp.tables import Tables

__all__ = ["ESTIMATE_LIMIT", "Compiled", "Context", "Statements", "context_setting"]

#: `count=estimated` counts this far; beyond, it takes the planner's word: the cost stays bounded.
ESTIMATE_LIMIT: Final = 10_000
_PLACE = re.compile(r"\$(\d+)")
_ONE: sa.ColumnElement[int] = sa.literal_column("1")
_TWO: sa.ColumnElement[int] = sa.literal_column("2")


class Statements:
    """Builds, compiles and keeps the statements that read."""

    def __init__(
        self, registry: Registry, tables: Tables, *, enforce_scope: bool = True, max_statements: int = 2_000
    ) -> None:
        """Args:
        registry: the resources.
        tables: their tables.
        enforce_scope: False leaves tenancy to row-level security alone; for the test that shows it holds.
        max_statements: compiled statements kept; the least recently used one goes first.
        """
        self._registry = registry
        self._tables = tables
        self._enforce_scope = enforce_scope
        self._max_statements = max_statements
        self._kept: OrderedDict[Hashable, Compiled] = OrderedDict()
        self._trusted = View(registry, tables, None, enforce_scope)

    @property
    def enforces_scope(self) -> bool:
        """Whether the statements name the tenant themselves."""
        return self._enforce_scope

    # --- reads ---

    def page(
        self,
        resource: ResourceDefinition,
        query: Query,
        lookup: Lookup | None,
        *,
        context_in_statement: bool = True,
        anywhere: bool = False,
    ) -> Compiled:
        """Return the statement of a page: one row with `data`, `next` and `total`.

        `data` is a JSON array as text, empty where it is to answer and passes the bound; `next` the texts of
        which a cursor is made, the last of them null or none at all when no page follows; `total` a number
        or null. With `count=estimated` a total above ESTIMATE_LIMIT only says that there are more: then
        `estimate` is to be asked.

        Args:
            resource: whose rows.
            query: what is asked; its values are given to `Compiled.arguments`.
            lookup: what the caller may see; None: everything of the scope.
            context_in_statement: set tenant, user and grants in the statement; False inside a
                transaction that has set them.
            anywhere: rows of every tenant, as far as row-level security shows them: for nobody, who
                owns none and sees what is published.
        """
        key = self._key("page", resource, query.shape, lookup, (context_in_statement, anywhere))

        def build() -> sa.Select[Any]:
            view = self._view(lookup, anywhere=anywhere, past=_past(resource, query.shape))
            return self._page(view, resource, query.shape, context_in_statement)

        return self.cached(key, build)

    def row(
        self,
        resource: ResourceDefinition,
        query: Query,
        lookup: Lookup | None,
        *,
        context_in_statement: bool = True,
        anywhere: bool = False,
    ) -> Compiled:
        """Return the statement of the row with parameter `id`: one row with `data`.

        It is null when there is no such row for the caller, empty where what it includes passes the bound
        of an answer, and else a text for `split_version`, with the version where the resource has one and
        nothing is included. Where rows of every tenant are meant (`anywhere`), it is any one of them, and
        `several` says whether there are more.
        """
        key = self._key("row", resource, query.shape, lookup, (context_in_statement, anywhere))

        def build() -> sa.Select[Any]:
            view = self._view(lookup, anywhere=anywhere, past=_past(resource, query.shape, single=True))
            return self._row(view, resource, query.shape, context_in_statement, several=anywhere)

        return self.cached(key, build)

    def _page(
        self, view: View, resource: ResourceDefinition, shape: Shape, with_context: bool
    ) -> sa.Select[Any]:
        if shape.grouping is None:
            page = page_texts(view, resource, shape)
            total = self._total(view, resource, shape)
        else:
            page = groups_texts(view, resource, shape, shape.grouping)
            total = groups_total(view, resource, shape, shape.grouping)
        # OFFSET 0 keeps PostgreSQL from making two of the page when it is taken apart.
        read = self._answer({"page": page, "total": total}, with_context).offset(sa.literal_column("0"))
        parts = read.subquery("a")
        data: sa.ColumnElement[str] = sa.literal_column('a."page"[1]', sa.Text())
        return sa.select(
            (_bounded(data, resource) if shape.answers else data).label("data"),
            sa.literal_column('a."page"[2:]').label("next"),
            parts.c.total,
        ).select_from(parts)

    def _total(self, view: View, resource: ResourceDefinition, shape: Shape) -> sa.ColumnElement[Any]:
        if shape.count == "none":
            return sa.cast(sa.null(), sa.BigInteger())
        table = view.source(resource)
        rows = sa.select(_ONE).select_from(table).where(*self._counted(view, resource, table, shape))
        if shape.count == "exact":
            counted = rows.with_only_columns(sa.func.count())
            return counted.scalar_subquery()
        first = rows.limit(sa.literal_column(str(ESTIMATE_LIMIT + 1)))
        return sa.select(sa.func.count()).select_from(first.subquery()).scalar_subquery()

    def _counted(
        self, view: View, resource: ResourceDefinition, table: sa.FromClause, shape: Shape
    ) -> list[sa.ColumnElement[Any]]:
        conditions = view.rows(resource, table)
        if shape.filter is not None:
            conditions.append(view.condition(resource, table, shape.filter))
        return conditions

    def estimate(
        self, resource: ResourceDefinition, query: Query, lookup: Lookup | None, *, anywhere: bool = False
    ) -> Compiled:
        """Return the statement that asks the planner how many rows a query finds: its plan as JSON.

        It reads no row, and so needs no context. Arguments are those of `page`.
        """
        # Whatever does not change which rows are meant would only make more statements.
        shape = Shape(filter=query.shape.filter, touched=query.shape.touched, as_of=query.shape.as_of)
        key = self._key("estimate", resource, shape, lookup, (anywhere,))

        def build() -> sa.Select[Any]:
            view = self._view(lookup, anywhere=anywhere, past=_past(resource, shape))
            table = view.source(resource)
            return sa.select(_ONE).select_from(table).where(*self._counted(view, resource, table, shape))

        return self.cached(key, build, prefix="EXPLAIN (FORMAT JSON) ")

    def _row(
        self, view: View, resource: ResourceDefinition, shape: Shape, with_context: bool, *, several: bool
    ) -> sa.Select[Any]:
        table = view.source(resource)
        columns = row_columns(view, resource, table, shape.fields, shape.includes)
        tagged = resource.versioned and not shape.includes
        if tagged:
            columns[HIDDEN] = table.c[resource.columns["version"]]
        rows = select_columns(columns, table)
        rows = rows.where(*self._this_row(table), *view.rows(resource, table))
        if several:
            rows = rows.limit(_ONE)
        parts = {"data": versioned_text(rows) if tagged else row_text(rows)}
        parts |= {"several": self._several(view, resource)} if several else {}
        answer = self._answer(parts, with_context)
        return _bounded_answer(answer, resource) if shape.includes else answer

    def _several(self, view: View, resource: ResourceDefinition) -> sa.ColumnElement[Any]:
        """Return whether more than one row has the key: an id is unique within its tenant only."""
        table = view.source(resource)
        rows = sa.select(table.c.id).where(*self._this_row(table), *view.rows(resource, table)).limit(_TWO)
        return sa.select(sa.func.count() > _ONE).select_from(rows.subquery()).scalar_subquery()

    def _this_row(self, table: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        return [table.c.id == bound(lambda sources: sources.named["id"], table.c.id.type, "id")]

    def _answer(self, parts: dict[str, sa.ColumnElement[Any]], with_context: bool) -> sa.Select[Any]:
        answer = sa.select(*(part.label(name) for name, part in parts.items()))
        return answer.select_from(context_setting()) if with_context else answer

    def _view(self, lookup: Lookup | None, *, anywhere: bool = False, past: Past | None = None) -> View:
        return View(self._registry, self._tables, lookup, self._enforce_scope and not anywhere, past)

    def versions(self, resource: ResourceDefinition, lookup: Lookup) -> Compiled:
        """Return the statement of the kept versions of the row with parameter `id`, newest first.

        One row with `data` (a JSON array) and `total`; the page is told by `limit` and `offset`.
        """
        key = ("versions", resource.id, lookup(resource))
        return self.cached(
            key,
            lambda: _bounded_answer(
                self._answer(versions_texts(self._view(lookup), resource), with_context=True), resource
            ),
        )

    def export(
        self, resource: ResourceDefinition, query: Query, lookup: Lookup | None, form: RowForm
    ) -> Compiled:
        """Return the statement of all rows that a query finds, a text each; for a cursor in a transaction."""
        key = self._key("export", resource, query.shape, lookup, (form,))

        def build() -> sa.Select[Any]:
            view = self._view(lookup, past=_past(resource, query.shape))
            return export_select(view, resource, query.shape, form)

        return self.cached(key, build)

    def exported_names(
        self, resource: ResourceDefinition, query: Query, lookup: Lookup | None
    ) -> tuple[str, ...]:
        """Return the names of the columns of an export, includes left out."""
        return exported_names(self._view(lookup), resource, query.shape)

    # --- parts for statements that others build ---

    def row_json(
        self, resource: ResourceDefinition, table: sa.FromClause, visibility: Visibility
    ) -> sa.ColumnElement[Any]:
        """Return the visible fields of a row of `table` (also a CTE of written rows) as JSON."""
        own = resource.id
        view = self._view(lambda other: visibility if other.id == own else None)
        return RowJson(row_columns(view, resource, table, None))

    def condition(
        self, resource: ResourceDefinition, condition: Condition, table: sa.FromClause
    ) -> sa.ColumnElement[Any]:
        """Return a rule over the rows of `table`: true, false, or null, which counts as false."""
        return self._trusted.condition(resource, table, condition)

    def scope(
        self, resource: ResourceDefinition, table: sa.FromClause, *, writing: bool = False
    ) -> sa.ColumnElement[Any]:
        """Return the tenancy of a resource over the rows of `table`."""
        if not self._enforce_scope:
            return sa.true()
        return sa.and_(sa.true(), *self._trusted.scope(resource, table, writing=writing))

    def everything(self, resource: ResourceDefinition) -> Visibility:
        """Return the visibility of every row and of every field that may ever be shown."""
        shown = (name for name, definition in resource.fields.items() if not definition.write_only)
        return Visibility(None, dict.fromkeys(shown))

    def tenant(self) -> sa.ColumnElement[Any]:
        """Return the parameter that says whose rows are read and written."""
        return scope_tenant()

    def user(self) -> sa.ColumnElement[Any]:
        """Return the parameter with the caller's id, null when anonymous."""
        return bound(_user, sa.BigInteger(), "acting_user")

    def owner(self) -> sa.ColumnElement[Any]:
        """Return the parameter with the user who owns what is written."""
        return scope_user()

    def session_tenant(self) -> sa.ColumnElement[Any]:
        """Return the parameter with the tenant for which row-level security decides."""
        return bound(_session_tenant, sa.BigInteger(), "session_tenant")

    def published(self, resource: ResourceDefinition, rule: tuple[Condition, Sequence[Any]]) -> str:
        """Return a rule as SQL text over the columns of its table, for a policy in the database.

        Args:
            resource: whose table.
            rule: condition and values, as `condition_from_json` returns them. `$now` is the time
                of the transaction; other variables are unknown there.
        """
        condition, rule_values = rule
        table = self._tables[resource]
        # A policy has no scope of its own to add: what it reads is under row-level security too.
        view = View(self._registry, self._tables, None, enforce_scope=False)
        compiled = compile_statement(
            sa.select(view.condition(resource, table, condition).label("rule")).select_from(table)
        )
        clause = compiled.sql.partition("SELECT ")[2].rpartition(" AS rule")[0]
        values = compiled.arguments(rule_values, {"now": SqlText("now()")})
        return _PLACE.sub(lambda match: _sql_literal(values[int(match[1]) - 1]), clause)

    # --- cache ---

    def cached(
        self, key: Hashable, build: Callable[[], sa.sql.expression.Executable], *, prefix: str = ""
    ) -> Compiled:
        """Return the statement kept under a key; built and compiled when there is none.

        Args:
            key: everything the statement's text depends on.
            build: makes the statement.
            prefix: words before its text.
        """
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        compiled = compile_statement(build())
        if prefix:
            compiled = replace(compiled, sql=prefix + compiled.sql)
        self._kept[key] = compiled
        while len(self._kept) > self._max_statements:
            self._kept.popitem(last=False)
        return compiled

    def __len__(self) -> int:
        return len(self._kept)

    def _key(
        self,
        kind: str,
        resource: ResourceDefinition,
        shape: Shape,
        lookup: Lookup | None,
        options: tuple[Hashable, ...],
    ) -> Hashable:
        """Everything a read's text depends on: the rules of every resource it touches."""
        if lookup is None:
            return kind, resource.id, shape, None, options
        rules = (
            tuple(lookup(self._registry[id_]) for id_ in shape.touched)
            if shape.touched
            else (lookup(resource),)
        )
        return kind, resource.id, shape, rules, options


def _bounded(text: sa.ColumnElement[str], resource: ResourceDefinition) -> sa.ColumnElement[str]:
    """Return the JSON of rows, or an empty text where it has more bytes than an answer may have."""
    most: sa.ColumnElement[int] = sa.literal_column(str(resource.bounds.max_answer_bytes))
    empty: sa.ColumnElement[str] = sa.literal_column("''", sa.Text())
    return sa.case((sa.func.octet_length(text) > most, empty), else_=text)


def _bounded_answer(answer: sa.Select[Any], resource: ResourceDefinition) -> sa.Select[Any]:
    """Return an answer whose `data` is empty where it is too large; it is made once."""
    made = answer.offset(sa.literal_column("0")).subquery("a")
    data, *others = made.c
    return sa.select(_bounded(data, resource).label("data"), *others).select_from(made)


def _past(resource: ResourceDefinition, shape: Shape, *, single: bool = False) -> Past | None:
    return None if shape.as_of is None else Past(resource=resource.id, moment=shape.as_of, single=single)


def _session_tenant(sources: Sources) -> int:
    return sources.context.tenant_id if sources.context is not None else sources.scope_tenant_id


def _user(sources: Sources) -> int | None:
    return (sources.context.user_id or None) if sources.context is not None else None


def context_setting() -> sa.Subquery:
    """Return the derived table that sets the context; PostgreSQL runs it before the sub-selects."""
    settings: dict[str, Source] = {
        "tenant": lambda sources: sources.settings[0],
        "user": lambda sources: sources.settings[1],
        "grants": lambda sources: sources.settings[2],
    }
    columns = (
        sa.func.set_config(
            sa.literal_column(f"'byodpp.{name}'"),
            bound(source, sa.Text(), f"session_{name}_text"),
            sa.literal_column("true"),
        ).label(name)
        for name, source in settings.items()
    )
    return sa.select(*columns).subquery("s")


def _sql_literal(value: Any) -> str:
    if isinstance(value, SqlText):
        return str(value)
    return "NULL" if value is None else literal(value, array=isinstance(value, list | tuple))
