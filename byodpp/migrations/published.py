"""The public filter of a resource as the SQL of a policy."""

from __future__ import annotations

from byodpp.definitions import ResourceDefinition
from byodpp.query import condition_from_json
from byodpp.registry import Registry
from byodpp.row_security import Published
from byodpp.statements import Statements
from byodpp.tables import Tables

__all__ = ["published_by"]


def published_by(registry: Registry, tables: Tables) -> Published:
    """Return the function that turns a resource's public rules into SQL over its table's columns."""
    statements = Statements(registry, tables)

    def published(resource: ResourceDefinition) -> str | None:
        texts = []
        for rule in resource.public_filter():
            if rule.filter is None:
                return "true"
            condition = condition_from_json(rule.filter, resource, registry, None)
            texts.append(f"({statements.published(resource, condition)})")
        return " OR ".join(dict.fromkeys(texts)) or None

    return published
