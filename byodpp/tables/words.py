"""Columns that hold one of some words: which words, and the condition that says so.

In: a column and the resources of all versions that have it. Out: SQL for a CHECK, or for the policy of the
table. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from byodpp.array_text import array_text
from byodpp.definitions import ResourceDefinition
from byodpp.sql_text import literal, quote, quote_text

__all__ = ["enumerated", "is_checked_by_policy", "one_of"]


def is_checked_by_policy(resource: ResourceDefinition) -> bool:
    """Whether the words of a table are checked by row-level security instead of a CHECK.

    Those of the audit trail are: no client sends them, and PostgreSQL keeps a policy with the plan of a
    statement, where it reads a CHECK anew each time (`docs/decisions/0056`).
    """
    return (resource.part, resource.name) == ("audit", "AuditLogs")


def one_of(column: sa.Column[Any], values: Sequence[Any]) -> str:
    """Return the condition that a column holds one of some values, or none.

    Texts are one constant: PostgreSQL reads a check anew in each statement that writes to the table, and
    a constant in a third of the time that a list takes it.
    """
    if isinstance(column.type, sa.String):
        return f"{quote(column.name)} = ANY ({quote_text(array_text(values))}::text[])"
    return f"{quote(column.name)} IN ({', '.join(literal(value, array=False) for value in values)})"


def enumerated(column: str, resources: Iterable[ResourceDefinition]) -> list[Any]:
    """Return the values that a column may hold, none when some version leaves it open."""
    found: dict[str, Any] = {}
    for resource in resources:
        for field in resource.fields.values():
            if field.column != column:
                continue
            if field.encrypted:
                return []
            values: Sequence[Any] | None = field.enum
            if values is None and resource.states is not None and resource.states.field == field.name:
                values = resource.states.states
            if not values or any(isinstance(value, dict | list | tuple) for value in values):
                return []
            bound = (field.type.bind(value, field) for value in values if value is not None)
            found.update((literal(value, array=False), value) for value in bound)
    return list(found.values())
