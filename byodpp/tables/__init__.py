"""Tables: what the manifest means in PostgreSQL.

`building` makes SQLAlchemy tables of the registry, `framework` those that belong to no resource,
`roles` names the three database roles and their rights, `search_text` the text that `search` looks in.
"""

from __future__ import annotations

from byodpp.tables.building import ConstraintUse, StoredTable, Tables, whose_columns

__all__ = ["ConstraintUse", "StoredTable", "Tables", "whose_columns"]
