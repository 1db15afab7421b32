"""Fields that ask for the order of a locale where the server knows none.

In: the resources and a connection. Out: the names of the fields. Rejects nothing: such a text is
compared by code point, which is told at `check`, `migrate apply`, and every start.
"""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from byodpp.definitions import FieldDefinition
from byodpp.fields.string import collation_of
from byodpp.registry import Registry

__all__ = ["NO_LOCALE", "fields_with_locales", "fields_without_order"]

#: What is told of such a field.
NO_LOCALE: Final = "is compared by code point and not by its locale: the server was built without ICU"
#: Collations of ours that are those of the C library: what a migration makes where there is no ICU.
_WITHOUT_ICU: Final = """
    select collname::text from pg_collation
    where collprovider = 'c' and collname = any($1::text[])
"""


def fields_with_locales(registry: Registry) -> dict[str, FieldDefinition]:
    """Return the fields that ask for the order of a locale, by `Resource.field`."""
    return {
        f"{one.name}.{field.name}": field
        for one in registry
        for field in one.fields.values()
        if field.locale is not None
    }


async def fields_without_order(registry: Registry, connection: asyncpg.Connection[Any]) -> list[str]:
    """Return the fields whose locale this database does not know; asks it only where there are any."""
    wanted = {name: collation_of(field) for name, field in fields_with_locales(registry).items()}
    if not wanted:
        return []
    rows = await connection.fetch(_WITHOUT_ICU, sorted(set(wanted.values())))
    missing = {row["collname"] for row in rows}
    return [name for name, collation in wanted.items() if collation in missing]
