"""The order of rows as SQL, and the condition "behind the row that had these values" in it.

A page by cursor must cost what the first page costs. So the condition is written in a form for
which PostgreSQL starts in the middle of an index: `(a, id) > ($1, $2)` where directions agree,
else `a >= $1 and (a > $1 or …)`. Rows whose first term is null are a range of their own: no
index condition says "behind this or null", so that they come from a select of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from byodpp.conditions import Relevance, Sort
from byodpp.definitions import Kind, ResourceDefinition
from byodpp.statements.conditions import View
from byodpp.statements.operators import value_type
from byodpp.statements.parameters import bound

__all__ = ["Term", "behind", "order_by", "terms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One term of an order over the rows of one table."""

    value: sa.ColumnElement[Any]
    descending: bool
    nulls_first: bool
    nullable: bool
    shown: str = ""  # name of the field that shows the same value; empty when none does


def terms(
    view: View, resource: ResourceDefinition, table: sa.FromClause, sorts: Sequence[Sort | Relevance]
) -> list[Term]:
    """Return the terms of an order; the key comes last, so that every order is total."""
    found: list[Term] = []
    for sort in sorts:
        found.append(_term(view, resource, table, sort))
        if isinstance(sort, Sort) and sort.field == "id" and not sort.path:
            break  # what comes behind the key decides nothing
    else:
        if "id" in resource.fields:
            found.append(_term(view, resource, table, Sort((), "id")))
    if not view.enforce_scope and "tenant_id" in table.c and resource.tenant_bound:
        # An id is unique within its tenant, and here rows of several may be seen.
        found.append(
            Term(value=table.c.tenant_id, descending=False, nulls_first=False, nullable=False, shown="")
        )
    return found


def _term(view: View, resource: ResourceDefinition, table: sa.FromClause, sort: Sort | Relevance) -> Term:
    if isinstance(sort, Relevance):
        value = view.relevance(resource, table, sort.search)
        return Term(value=value, descending=sort.descending, nulls_first=False, nullable=False)
    value = view.value_at(resource, table, sort.path, sort.field)
    field = resource.fields.get(sort.field)
    nullable = True
    if not sort.path and field is not None:
        visibility = view.visibility(resource)
        hidden = visibility is not None and visibility.fields.get(sort.field, ...) is not None
        if field.name == "id":
            nullable = False
        elif not hidden and resource.kind is not Kind.VIEW:
            nullable = bool(view.tables[resource].c[field.column].nullable)
    first = sort.descending if sort.nulls_first is None else sort.nulls_first
    return Term(
        value=value,
        descending=sort.descending,
        nulls_first=first,
        nullable=nullable,
        shown="" if sort.path else sort.field,
    )


def order_by(found: Sequence[Term]) -> list[sa.ColumnElement[Any]]:
    """Return terms as ORDER BY takes them; null placement is said only where it is not the usual one."""
    clauses: list[sa.ColumnElement[Any]] = []
    for term in found:
        clause = term.value.desc() if term.descending else term.value.asc()
        if term.nulls_first is not term.descending:
            clause = clause.nulls_first() if term.nulls_first else clause.nulls_last()
        clauses.append(clause)
    return clauses


def behind(found: Sequence[Term], places: Sequence[int | None]) -> list[sa.ColumnElement[bool]]:
    """Return conditions, no row in two of them, that together mean "behind the row with these values".

    Args:
        found: the terms.
        places: of the values, as text, in the values of the query; None for a null.
    """
    given = [
        None if place is None else _given(place, term) for term, place in zip(found, places, strict=True)
    ]
    return _behind(found, given, 0)


def _given(place: int, term: Term) -> sa.ColumnElement[Any]:
    # As text: what PostgreSQL wrote comes back to it digit for digit.
    text = bound(lambda sources: sources.values[place], sa.Text(), f"after_{place}")
    kind = value_type(term.value.type)
    return text if isinstance(kind, sa.Text) else sa.cast(text, kind)


def _behind(
    found: Sequence[Term], given: Sequence[sa.ColumnElement[Any] | None], start: int
) -> list[sa.ColumnElement[bool]]:
    term, value = found[start], given[start]
    rest = start + 1 < len(found)
    if value is None:
        conditions: list[sa.ColumnElement[bool]] = []
        if rest:
            conditions.append(sa.and_(term.value.is_(None), _either(_behind(found, given, start + 1))))
        if term.nulls_first:
            conditions.append(term.value.is_not(None))
        return conditions
    end = _run(found, given, start)
    ours = [one.value for one in found[start:end]]
    theirs = [one for one in given[start:end] if one is not None]
    beyond = _compare(ours, theirs, "<" if term.descending else ">")
    if end == len(found):
        conditions = [beyond]
    else:
        equal = [our == their for our, their in zip(ours, theirs, strict=True)]
        tied = sa.and_(*equal, _either(_behind(found, given, end)))
        bound_of_range = _compare(ours, theirs, "<=" if term.descending else ">=")
        conditions = [sa.and_(bound_of_range, sa.or_(beyond, tied))]
    if term.nullable and not term.nulls_first:
        conditions.append(term.value.is_(None))
    return conditions


def _run(found: Sequence[Term], given: Sequence[Any], start: int) -> int:
    """Return where the terms end that one row comparison serves: one direction, and no nulls behind."""
    end = start + 1
    while (
        end < len(found)
        and found[end].descending is found[start].descending
        and given[end] is not None
        and not (found[end].nullable and not found[end].nulls_first)
    ):
        end += 1
    return end


def _compare(
    ours: Sequence[sa.ColumnElement[Any]], theirs: Sequence[sa.ColumnElement[Any]], symbol: str
) -> sa.ColumnElement[bool]:
    if len(ours) == 1:
        return ours[0].bool_op(symbol)(theirs[0])
    return sa.tuple_(*ours).bool_op(symbol)(sa.tuple_(*theirs))


def _either(conditions: Sequence[sa.ColumnElement[bool]]) -> sa.ColumnElement[bool]:
    return sa.or_(sa.false(), *conditions)
