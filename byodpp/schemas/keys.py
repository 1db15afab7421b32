"""Keys of rows as a body spells them: a UUID or ULID has two cases, and one row.

In: a JSON value. Out: the key as its row's JSON spells it. Rejects nothing.
"""

from __future__ import annotations

from typing import Final

from byodpp.definitions import ResourceDefinition
from byodpp.fields import FieldFault

__all__ = ["REFERENCE", "is_key", "spelled"]

#: One wording for "does not exist", "cannot exist" and "is not for you".
REFERENCE: Final = "There is nothing with this id."


def spelled(resource: ResourceDefinition, key: int | str) -> int | str:
    """Return a key as JSON has it; a text that can be no key, or one of what has no table, as it came."""
    definition = resource.fields.get("id")
    if definition is None or not isinstance(key, str):
        return key
    try:
        found: int | str = definition.type.to_json(definition.type.from_text(key, definition), definition)
    except FieldFault:
        return key
    return found


def is_key(resource: ResourceDefinition, key: int | str) -> bool:
    """Whether a row of the resource could have this key."""
    definition = resource.fields["id"]
    try:
        if isinstance(key, str):
            definition.type.from_text(key, definition)
        else:
            definition.type.from_json(key, definition)
    except FieldFault:
        return False
    return True
