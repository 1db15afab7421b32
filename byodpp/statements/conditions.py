"""Conditions, rows and fields as SQL, as one caller may see them.

A `View` answers, for any table that a statement touches: which rows exist for the caller
(scope, soft deletion, row rules), what a field shows (its own rule), how a relation is
followed. Whatever the path that leads to a table, it is the same view that looks at it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from byodpp.conditions import (
    NOTHING,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Constant,
    Lookup,
    Negation,
    Opened,
    Quantified,
    Refusal,
    Search,
    Variable,
    Visibility,
)
from byodpp.definitions import FieldDefinition, Kind, RelationDefinition, ResourceDefinition, Scope
from byodpp.registry import Registry
from byodpp.sql_text import quote_text
from byodpp.statements.history import Past, past_rows
from byodpp.statements.operators import POSITIVE, compare, operand_parameter
from byodpp.statements.parameters import bound, operand_key, operand_source
from byodpp.tables import Tables
from byodpp.tables.search_text import search_document, search_words

__all__ = ["View", "scope_tenant", "scope_user"]


def scope_tenant() -> sa.BindParameter[Any]:
    """Return the parameter that says whose rows are meant."""
    return bound(lambda sources: sources.scope_tenant_id, sa.BigInteger(), "scope_tenant")


def scope_user() -> sa.BindParameter[Any]:
    """Return the parameter that says which user's rows are meant."""
    return bound(
        lambda sources: sources.context.owner_id if sources.context else 0, sa.BigInteger(), "scope_user"
    )


@dataclass(frozen=True, slots=True)
class _Lean:
    """What an unknown comparison counts as, so that it never allows and, in a deny, denies."""

    unknown: bool = False  # what a variable without value makes of a comparison
    strict: bool = False  # inside a refusal: fields that are null count as unknown too

    def flipped(self) -> _Lean:
        """The same below a negation."""
        return _Lean(not self.unknown, self.strict)


@dataclass(frozen=True, slots=True)
class View:
    """The database as one caller may see it."""

    registry: Registry
    tables: Tables
    lookup: Lookup | None = None  # None: all rows of the scope, all fields
    enforce_scope: bool = True  # False leaves tenancy to row-level security alone
    past: Past | None = None  # a resource whose rows are those of another time

    def trusted(self) -> View:
        """The view in which rules are evaluated: a rule may ask what its subject may not."""
        return self if self.lookup is None else View(self.registry, self.tables, None, self.enforce_scope)

    def visibility(self, resource: ResourceDefinition) -> Visibility | None:
        """Return the rules for a resource; None is "no rules"."""
        if self.lookup is None:
            return None
        return self.lookup(resource) or Visibility(NOTHING, {})

    # --- rows ---

    def rows(self, resource: ResourceDefinition, table: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        """Return what makes a row exist for the caller."""
        found = self.scope(resource, table) if self.enforce_scope else []
        if resource.soft_delete:
            found.append(table.c[resource.columns["deletedAt"]].is_(None))
        visibility = self.visibility(resource)
        if visibility is not None and visibility.rows is not None:
            found.append(self.trusted().condition(resource, table, visibility.rows))
        return found

    def scope(
        self, resource: ResourceDefinition, table: sa.FromClause, *, writing: bool = False
    ) -> list[sa.ColumnElement[Any]]:
        """Return the tenancy of a resource as conditions; writing reaches a tenant's own rows only."""
        if resource.scope is Scope.SHARED:
            return []
        if resource.scope is Scope.SELF:
            return [sa.or_(table.c.id == scope_tenant(), scope_tenant() == sa.literal_column("0"))]
        if resource.scope is Scope.LIBRARY and not writing:
            return [sa.or_(table.c.tenant_id == scope_tenant(), table.c.tenant_id == sa.literal_column("0"))]
        own: list[sa.ColumnElement[Any]] = [table.c.tenant_id == scope_tenant()]
        if resource.scope is Scope.USER:
            own.append(table.c.owner_id == scope_user())
        return own

    def link(
        self,
        resource: ResourceDefinition,
        table: sa.FromClause,
        relation: RelationDefinition,
        target: ResourceDefinition,
        other: sa.FromClause,
    ) -> list[sa.ColumnElement[Any]]:
        """Return what joins a row to its related rows; a reference counts only where it is visible."""
        near = self.value(resource, table, resource.fields[relation.local_field])
        far = self.value(target, other, target.fields[relation.foreign_field])
        joined = [far == near]
        if resource.tenant_bound and target.tenant_bound:
            joined.append(other.c.tenant_id == table.c.tenant_id)
        return joined

    def source(self, resource: ResourceDefinition) -> sa.FromClause:
        """Return a fresh name for a resource's table."""
        if self.past is not None and self.past.resource == resource.id:
            return past_rows(self.tables, resource, self.past)
        return self.tables[resource].alias()

    # --- fields ---

    def value(
        self, resource: ResourceDefinition, table: sa.FromClause, field: FieldDefinition
    ) -> sa.ColumnElement[Any]:
        """Return a field's column, null where a rule hides it. The key is never hidden from a join."""
        column: sa.ColumnElement[Any] = table.c[field.column]
        if resource.kind is Kind.VIEW and isinstance(column.type, sa.String):
            column = sa.collate(column, column.type.collation or "C")
        visibility = self.visibility(resource)
        if visibility is None or field.name == "id":
            return column
        if field.name not in visibility.fields:
            return sa.cast(sa.null(), column.type)
        rule = visibility.fields[field.name]
        if rule is None:
            return column
        return sa.case((self.trusted().condition(resource, table, rule), column))

    def value_at(
        self, resource: ResourceDefinition, table: sa.FromClause, path: tuple[str, ...], field: str
    ) -> sa.ColumnElement[Any]:
        """Return a field at the end of to-one relations, null when there is no row."""
        if not path:
            return self.value(resource, table, resource.fields[field])
        relation = resource.relations[path[0]]
        target = self.registry.target(resource, relation)
        other = self.source(target)
        value = self.value_at(target, other, path[1:], field)
        joined = (*self.link(resource, table, relation, target, other), *self.rows(target, other))
        return sa.select(value).select_from(other).where(*joined).correlate(table).scalar_subquery()

    # --- conditions ---

    def condition(
        self, resource: ResourceDefinition, table: sa.FromClause, condition: Condition
    ) -> sa.ColumnElement[Any]:
        """Return a condition over the rows of a table; null counts as false."""
        return self._condition(resource, table, condition, _Lean())

    def _condition(
        self, resource: ResourceDefinition, table: sa.FromClause, condition: Condition, lean: _Lean
    ) -> sa.ColumnElement[Any]:
        match condition:
            case Comparison():
                return self._comparison(resource, table, condition, lean)
            case AllOf(parts):
                return sa.and_(sa.true(), *(self._condition(resource, table, part, lean) for part in parts))
            case AnyOf(parts):
                return sa.or_(sa.false(), *(self._condition(resource, table, part, lean) for part in parts))
            case Negation(part):
                return _complement(self._condition(resource, table, part, lean.flipped()))
            case Refusal(part):
                refused = self._condition(resource, table, part, _Lean(unknown=not lean.unknown, strict=True))
                return _complement(refused)
            case Quantified():
                return self._quantified(resource, table, condition, lean)
            case Search():
                return self._search(resource, table, condition)
            case Opened():
                return self._opened(resource, table)

    def _through(
        self,
        resource: ResourceDefinition,
        table: sa.FromClause,
        path: tuple[str, ...],
        test: Callable[[ResourceDefinition, sa.FromClause], sa.ColumnElement[Any]],
    ) -> sa.ColumnElement[Any]:
        """Return whether a related row, as the caller sees it, passes a test."""
        if not path:
            return test(resource, table)
        relation = resource.relations[path[0]]
        target = self.registry.target(resource, relation)
        other = self.source(target)
        found = (
            *self.link(resource, table, relation, target, other),
            *self.rows(target, other),
            self._through(target, other, path[1:], test),
        )
        one: sa.ColumnElement[int] = sa.literal_column("1")
        return sa.select(one).select_from(other).where(*found).correlate(table).exists()

    def _quantified(
        self, resource: ResourceDefinition, table: sa.FromClause, condition: Quantified, lean: _Lean
    ) -> sa.ColumnElement[Any]:
        def test(target: ResourceDefinition, other: sa.FromClause) -> sa.ColumnElement[Any]:
            if condition.quantifier == "every":
                return _complement(self._condition(target, other, condition.part, lean))
            inner = lean if condition.quantifier == "some" else lean.flipped()
            return self._condition(target, other, condition.part, inner)

        found = self._through(resource, table, condition.path, test)
        return found if condition.quantifier == "some" else sa.not_(found)

    def _comparison(
        self, resource: ResourceDefinition, table: sa.FromClause, comparison: Comparison, lean: _Lean
    ) -> sa.ColumnElement[Any]:
        operator = POSITIVE.get(comparison.operator, comparison.operator)
        negative = operator != comparison.operator
        absent = operator == "isNull" and comparison.operand == Constant(True)
        if lean.strict:
            test = self._strict(resource, table, comparison, operator, lean.unknown != negative)
        elif comparison.path and absent:
            present = Comparison(
                comparison.path,
                comparison.field,
                "isNull",
                Constant(False),
                comparison.inside,
                comparison.kind,
            )
            test = sa.not_(self._plain(resource, table, present, operator))
        else:
            test = self._plain(resource, table, comparison, operator)
        if negative:
            test = _complement(test)
        return self._guarded(test, resource, comparison, lean)

    def _plain(
        self, resource: ResourceDefinition, table: sa.FromClause, comparison: Comparison, operator: str
    ) -> sa.ColumnElement[Any]:
        def test(target: ResourceDefinition, other: sa.FromClause) -> sa.ColumnElement[Any]:
            field = target.fields[comparison.field]
            value = self.value(target, other, field)
            return compare(value, other.c[field.column].type, field, comparison, operator)

        return self._through(resource, table, comparison.path, test)

    def _strict(
        self,
        resource: ResourceDefinition,
        table: sa.FromClause,
        comparison: Comparison,
        operator: str,
        unknown: bool,
    ) -> sa.ColumnElement[Any]:
        """Return a comparison in which null, of the field or on the way to it, is `unknown`."""
        field = self._field_at(resource, comparison)
        value = self.value_at(resource, table, comparison.path, comparison.field)
        test = compare(value, value.type, field, comparison, operator)
        if (comparison.inside or comparison.kind) and operator != "isNull":
            # Inside json, what is not there or is its null may compare as false.
            present = replace(comparison, operator="isNull", operand=Constant(False))
            test = sa.case((compare(value, value.type, field, present, "isNull"), test))
        return sa.func.coalesce(test, sa.true() if unknown else sa.false())

    def _guarded(
        self, test: sa.ColumnElement[Any], resource: ResourceDefinition, comparison: Comparison, lean: _Lean
    ) -> sa.ColumnElement[Any]:
        """Make a comparison with a variable that has no value what an unknown one counts as."""
        operand = comparison.operand
        if not isinstance(operand, Variable):
            return test
        field = self._field_at(resource, comparison)
        column = field.type.column_type(field)
        given = operand_parameter(operand, field, column, many=comparison.operator in ("in", "nin"))
        return sa.or_(given.is_(None), test) if lean.unknown else sa.and_(given.is_not(None), test)

    def _field_at(self, resource: ResourceDefinition, comparison: Comparison) -> FieldDefinition:
        for name in comparison.path:
            resource = self.registry.target(resource, resource.relations[name])
        return resource.fields[comparison.field]

    def _search(
        self, resource: ResourceDefinition, table: sa.FromClause, search: Search
    ) -> sa.ColumnElement[Any]:
        words, document = self._searched(resource, table, search)
        return document.bool_op("@@")(words)

    def _opened(self, resource: ResourceDefinition, table: sa.FromClause) -> sa.ColumnElement[Any]:
        """Return whether a grant names the row, in the words of row-level security."""
        if resource.scope in (Scope.SHARED, Scope.SELF):
            return sa.true()
        parts: tuple[sa.ColumnElement[Any], ...] = (
            sa.literal_column(quote_text(f"{resource.table}:")),
            sa.cast(table.c.tenant_id, sa.Text()),
            sa.literal_column("':'"),
            sa.cast(table.c.id, sa.Text()),
        )
        row: Any = functools.reduce(lambda left, right: left.op("||")(right), parts)
        granted: sa.ColumnElement[Any] = sa.literal_column("(SELECT byodpp.grants())::text[]")
        opened: sa.ColumnElement[Any] = row == sa.any_(granted)
        if resource.scope is Scope.LIBRARY:
            return sa.or_(table.c.tenant_id == sa.literal_column("0"), opened)
        return opened

    def relevance(
        self, resource: ResourceDefinition, table: sa.FromClause, search: Search
    ) -> sa.ColumnElement[Any]:
        """Return how well a row fits a search: a number, greater where it fits better."""
        words, document = self._searched(resource, table, search)
        return sa.func.ts_rank(document, words, type_=sa.REAL())

    def _searched(
        self, resource: ResourceDefinition, table: sa.FromClause, search: Search
    ) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
        """Return what is searched for, and the words of the row as the caller sees it."""
        columns = [self.value(resource, table, resource.fields[name]) for name in search.fields]
        field, operand = resource.fields[search.fields[0]], search.operand
        source = operand_source(operand, field, sa.Text(), many=False)
        words = bound(source, sa.Text(), operand_key(operand, sa.Text()))
        return search_words(words), search_document(columns)


def _complement(test: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return the boolean complement: true where the test is false or null."""
    return sa.not_(sa.func.coalesce(test, sa.false()))
