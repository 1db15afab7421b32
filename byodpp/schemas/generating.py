"""The schema that a manifest asks for: a field for each of the resource's, with its type's own judgement.

In: a resource and an operation. Out: a marshmallow class. What an absent or null value becomes is said
here; what a value may be is the affair of its type. Rejects nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final

import marshmallow

from byodpp.definitions import FieldDefinition, Kind, ResourceDefinition
from byodpp.fields.strict_field import ReadOnlyField
from byodpp.fields.string import MAX_INDEXED_BYTES, StringType
from byodpp.schemas.generated import GeneratedSchema

__all__ = ["generated_schema"]

#: Names the framework owns: refused as read-only also where a resource has no such field.
_OWN_NAMES: Final = frozenset({"id", "tenantId", "ownerId", "createdAt", "updatedAt", "version", "deletedAt"})


def generated_schema(
    resource: ResourceDefinition, operation: str, *, from_wire: bool
) -> type[marshmallow.Schema]:
    """Make the schema class of a resource and operation.

    Args:
        resource: whose bodies it judges.
        operation: `create`, `update` or `patch`.
        from_wire: JSON values, without what is read-only; else what a logic class writes.
    """
    limits = _index_limits(resource)
    fields: dict[str, Any] = {}
    for name, definition in resource.fields.items():
        options = _options(resource, definition, operation)
        if from_wire and definition.read_only and (operation != "update" or definition.write_only):
            options.pop("required", None)
            fields[name] = ReadOnlyField(**options)
        else:
            fields[name] = definition.type.schema_field(
                definition, from_wire=from_wire, max_bytes=limits.get(name), **options
            )
    if from_wire and resource.kind is not Kind.LOGIC:
        fields |= {
            name: ReadOnlyField() for name in sorted(_OWN_NAMES - fields.keys() - resource.relations.keys())
        }
    meta = type("Meta", (GeneratedSchema.Meta,), {"include": fields})
    return type(f"{resource.name}{operation.capitalize()}", (GeneratedSchema,), {"Meta": meta})


def _options(resource: ResourceDefinition, definition: FieldDefinition, operation: str) -> dict[str, Any]:
    """Return what a field does when its value is absent or null.

    A write-only field that an update leaves out stays as it is: no answer ever showed it, so
    what was read could not be put back otherwise.
    """
    default = definition.default
    states = resource.states
    if states is not None and states.field == definition.name and not definition.has_default:
        default = states.initial
    has_default = definition.has_default or default is not definition.default
    options: dict[str, Any] = {"allow_none": definition.nullable}
    if operation == "patch" or (operation == "update" and (definition.read_only or definition.write_only)):
        return options
    if has_default:
        options["load_default"] = _fresh(default)
    elif definition.required and not definition.read_only:
        options["required"] = True
    elif operation == "update":
        options["load_default"] = None
    return options


def _fresh(default: Any) -> Any:
    """Return a default that no two rows share."""
    if not isinstance(default, dict | list):
        return default
    return (lambda: copy.deepcopy(default)) if default else type(default)


def _index_limits(resource: ResourceDefinition) -> dict[str, int]:
    """Return how many bytes the texts of each index may have, so that an entry always fits."""
    keys: list[Sequence[str]] = [key.fields for key in resource.unique]
    keys.extend(resource.indexes)
    keys.extend((one.name,) for one in resource.fields.values() if one.index or one.unique is not None)
    limits: dict[str, int] = {}
    for key in keys:
        texts = [
            name
            for name in key
            if name in resource.fields and isinstance(resource.fields[name].type, StringType)
        ]
        for name in texts:
            limits[name] = min(limits.get(name, MAX_INDEXED_BYTES), MAX_INDEXED_BYTES // len(texts))
    return limits
