"""Fields that may be filtered and sorted by though no index serves them: slow in a large table.

In: registry and tables. Out: one Problem for each such field of the application's own resources.
`byodpp check` warns of them; with the setting `strict_indexes` nothing starts before they are gone.
What every resource has by itself (createdAt and its like) and views, whose indexes are not ours,
are left out.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from byodpp.definitions import FieldDefinition, Kind, ResourceDefinition
from byodpp.exceptions import Problem
from byodpp.registry import Registry
from byodpp.tables import Tables

__all__ = ["unindexed"]

#: Columns that stand before the first that counts: every statement says whose rows are meant.
_WHOSE: Final = frozenset({"tenant_id", "owner_id"})


def unindexed(registry: Registry, tables: Tables) -> list[Problem]:
    """Return the fields that a client may filter or sort by and that no index begins with."""
    found = []
    for resource in registry:
        if resource.kind is not Kind.DATABASE or resource.part is not None:
            continue
        served = _served(tables[resource])
        for field in resource.fields.values():
            if _counts(field) and field.column not in served:
                place = field.path or resource.path
                found.append(Problem(place, _reason(resource, field), _advice(resource, field)))
    return found


def _counts(field: FieldDefinition) -> bool:
    return field.filterable and not field.write_only and not field.implied and field.name != "id"


def _advice(resource: ResourceDefinition, field: FieldDefinition) -> str:
    if resource.states is not None and resource.states.field == field.name:
        return f'Give the resource "indexes": [["{field.name}"]].'  # the field itself is not declared
    return 'Give the field "index": true, or "filterable": false.'


def _reason(resource: ResourceDefinition, field: FieldDefinition) -> str:
    told = f"{resource.name}.{field.name} may be filtered by, and no index begins with it"
    if field.name in resource.search:
        return told + " (that of `search` serves words alone)"
    return told


def _served(table: sa.Table) -> set[str]:
    """Return the columns that an index can be entered by; that of trigrams knows equality, too."""
    keys: list[list[Any]] = [list(index.expressions) for index in table.indexes]
    keys.append(list(table.primary_key.columns))
    firsts = (next((part for part in key if getattr(part, "name", None) not in _WHOSE), None) for key in keys)
    return {str(first.name) for first in firsts if isinstance(first, sa.Column)}
