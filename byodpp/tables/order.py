"""The order in which rows of several tables can go, and come back the other way round. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

__all__ = ["ordered"]


def ordered(tables: Iterable[sa.Table]) -> tuple[list[sa.Table], list[sa.ForeignKeyConstraint]]:
    """Return the tables, those that refer before those referred to, and what closes circles.

    A circle is cut at a reference that may be empty; one that has none could never have got a row.
    """
    wanted = {table.key: table for table in tables}
    references = [
        one
        for table in wanted.values()
        for one in sorted(table.foreign_key_constraints, key=lambda each: str(each.name))
        if one.referred_table.key in wanted and one.referred_table.key != table.key
    ]
    leads: dict[str, set[str]] = {key: set() for key in wanted}
    circular = []
    for reference in sorted(references, key=_may_be_empty):  # those that may not come first
        source, target = reference.table.key, reference.referred_table.key
        if _may_be_empty(reference) and _reaches(leads, target, source):
            circular.append(reference)
        else:
            leads[source].add(target)
    order: list[sa.Table] = []
    seen: set[str] = set()

    def visit(key: str) -> None:
        seen.add(key)
        for target in sorted(leads[key] - seen):
            if target not in seen:
                visit(target)
        order.append(wanted[key])

    for key in wanted:
        if key not in seen:
            visit(key)
    return order[::-1], circular


def _may_be_empty(reference: sa.ForeignKeyConstraint) -> bool:
    return any(column.nullable for column in reference.columns)


def _reaches(leads: dict[str, set[str]], start: str, goal: str) -> bool:
    waiting, seen = [start], {start}
    while waiting:
        key = waiting.pop()
        if key == goal:
            return True
        waiting += leads[key] - seen
        seen |= leads[key]
    return False
