"""Validated values as the driver takes them; what takes long to write or to seal is done in a thread.

In: values by field, modifiers too. Out: values by column. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from byodpp.aside import LARGE_BYTES, aside, is_large
from byodpp.definitions import ResourceDefinition
from byodpp.fields import FieldType
from byodpp.schemas.modifiers import Modifier
from byodpp.sealed_fields import Sealing

__all__ = ["bind", "bind_rows", "bound"]


async def bind_rows(
    resource: ResourceDefinition,
    items: Sequence[Mapping[str, Any]],
    keys: Sequence[Any] = (),
    *,
    seal: Sealing | None = None,
) -> dict[str, list[Any]]:
    """Return the values of new rows by column, None where a row has none; aside where there is much to write.

    Args:
        resource: whose.
        items: the rows' values by field; what is no field is left out.
        keys: one per row, for those without an `id`; none where PostgreSQL counts.
        seal: encrypts; needed where a field of the resource is encrypted.
    """
    work = partial(_columns, resource, items, keys, seal)
    fields = resource.fields.items()
    # To seal a value takes about as long as to write some of a document.
    slow = [name for name, one in fields if one.type.document or one.encrypted]
    values = [one for item in items for name in slow if (one := item.get(name))]
    large = values and (is_large(values) or (seal is not None and any(map(_is_long, values))))
    return await aside(work) if large else work()


def _columns(
    resource: ResourceDefinition,
    items: Sequence[Mapping[str, Any]],
    keys: Sequence[Any],
    seal: Sealing | None,
) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name in _names(items):
        if (definition := resource.fields.get(name)) is None:
            continue
        kind, values = definition.type, [item.get(name) for item in items]
        if Modifier in set(map(type, values)):
            values = [one.operand if isinstance(one, Modifier) else one for one in values]
        if seal is not None and definition.encrypted:
            values = [None if value is None else seal(definition, value) for value in values]
        elif type(kind).bind is not FieldType.bind:
            values = [None if value is None else kind.bind(value, definition) for value in values]
        found[definition.column] = values
    if keys:
        definition = resource.fields["id"]
        given = found.get(definition.column) or [None] * len(items)
        found[definition.column] = [
            definition.type.bind(key, definition) if value is None else value
            for value, key in zip(given, keys, strict=True)
        ]
    return found


def _names(items: Iterable[Mapping[str, Any]]) -> dict[str, None]:
    """Return the names that any of the items has; those of most batches are the same."""
    names: dict[str, None] = {}
    for item in items:
        if item.keys() != names.keys():
            names |= dict.fromkeys(item)
    return names


async def bind(
    resource: ResourceDefinition, values: Mapping[str, Any], key: Any = None, *, seal: Sealing | None = None
) -> dict[str, Any]:
    """Return what `bound` returns, aside where there is much to write."""
    for value in values.values():
        if (isinstance(value, dict | list) and is_large(value)) or (seal is not None and _is_long(value)):
            return await aside(partial(bound, resource, values, key, seal=seal))
    return bound(resource, values, key, seal=seal)


def _is_long(value: Any) -> bool:
    """Whether a text is worth a thread when it is sealed."""
    return isinstance(value, str) and len(value) > LARGE_BYTES


def bound(
    resource: ResourceDefinition, values: Mapping[str, Any], key: Any = None, *, seal: Sealing | None = None
) -> dict[str, Any]:
    """Return values by column.

    Args:
        resource: whose.
        values: by field; what is no field is left out.
        key: of a new row, unless the values hold one; None where PostgreSQL counts.
        seal: encrypts; needed where a field of the resource is encrypted.
    """
    found: dict[str, Any] = {}
    fields = resource.fields
    for name, value in values.items():
        if (definition := fields.get(name)) is None:
            continue
        if isinstance(value, Modifier):
            value = value.operand
        if value is None:
            found[definition.column] = None
        elif seal is not None and definition.encrypted:
            found[definition.column] = seal(definition, value)
        else:
            found[definition.column] = definition.type.bind(value, definition)
    if key is not None:
        definition = resource.fields["id"]
        found.setdefault(definition.column, definition.type.bind(key, definition))
    return found
