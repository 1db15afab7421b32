"""The bodies of `/batch` as JSON Schema: items of each operation, one by one, or by filter.

In: resources and the schema map. Out: the schema of the body. Rejects nothing. It says exactly
what `batches.reading` accepts.
"""

from __future__ import annotations

from typing import Any

from byodpp.batches import BATCH_OPERATIONS, scoped_keys, upsert_keys
from byodpp.definitions import ResourceDefinition
from byodpp.openapi.filters import filter_of
from byodpp.openapi.schemas import component, key_schema
from byodpp.schemas import LARGEST_VERSION

__all__ = ["batch_schema", "version_schema"]


def batch_schema(resource: ResourceDefinition) -> dict[str, Any]:
    """Return the schema of a batch of a resource with a table."""
    size = {"minItems": 1, "maxItems": resource.bounds.max_batch}
    created = _ref(resource, "Create")
    array = {"type": "array", "title": "rows to create", "items": created, **size}
    keyed = {
        "type": "object",
        "properties": {
            "id": key_schema(resource),
            **({"version": version_schema()} if resource.versioned else {}),
        },
        "required": ["id", *(["version"] if resource.version_required else [])],
        "additionalProperties": False,
    }
    items: dict[str, dict[str, Any]] = {
        "create": created,
        "update": _ref(resource, "UpdateItem"),
        "patch": _ref(resource, "PatchItem"),
        "delete": keyed if resource.version_required else {"anyOf": [key_schema(resource), keyed]},
    }
    several = [_operation(operation, item, size) for operation, item in items.items()]
    forms = [array, *several, *_upserts(resource, size), *_one_by_one(resource, size)]
    if not resource.version_required:  # a filter names no version
        forms += _by_filter(resource)
    return {"anyOf": forms}


def version_schema() -> dict[str, Any]:
    """Return the schema of the version that a row must have."""
    told = "That the row must have (412); null is any."
    return {"type": ["integer", "null"], "minimum": 0, "maximum": LARGEST_VERSION, "description": told}


def _ref(resource: ResourceDefinition, suffix: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{component(resource, suffix)}"}


def _form(title: str, operation: dict[str, Any], required: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return one form of the body: an object with these members and no other."""
    return {
        "type": "object",
        "title": title,
        "required": ["operation", *required],
        "additionalProperties": False,
        "properties": {"operation": operation, **required, **more},
    }


def _operation(
    operation: str, item: dict[str, Any], size: dict[str, int], title: str = "", **more: Any
) -> dict[str, Any]:
    atomic = {"const": True, "default": True, "description": "All or nothing."}
    items = {"items": {"type": "array", "items": item, **size}}
    return _form(title or operation, {"const": operation}, items, atomic=atomic, **more)


# --- upserts ------------------------------------------------------------------------------


def _upserts(resource: ResourceDefinition, size: dict[str, int]) -> list[dict[str, Any]]:
    """Return the upserts: by each unique key, and by `id` alone."""
    known, keys, scoped = _ref(resource, "UpdateItem"), upsert_keys(resource), scoped_keys(resource)
    found = []
    for key in keys:
        item = {"anyOf": [known, _item_by(resource, key)]}
        named = f"upsert by {', '.join(key)}"
        form = _operation("upsert", item, size, named, on=_on(key))
        if scoped != (key,):
            form["required"].append("on")
        found.append(form)
    if not scoped:
        # Whatever has no `id` is new, and has no version.
        fresh = {"allOf": [_ref(resource, "UpsertItem"), {"not": {"required": ["version"]}}]}
        new = fresh if keys and resource.versioned else _ref(resource, "UpsertItem")
        found.append(_operation("upsert", {"anyOf": [known, new]}, size))
    elif len(scoped) > 1:
        found.append(_operation("upsert", known, size, "upsert by id"))
    return found


def _item_by(resource: ResourceDefinition, key: tuple[str, ...]) -> dict[str, Any]:
    """Return an item that is found by a unique key: its fields are not empty."""
    needed = [name for name in key if not resource.fields[name].has_default]
    filled = {
        "type": "object",
        "properties": {name: {"not": {"type": "null"}} for name in key},
        "required": needed,
    }
    return {"allOf": [_ref(resource, "UpsertItem"), filled]}


def _on(key: tuple[str, ...]) -> dict[str, Any]:
    told = "The fields of a unique key by which rows are found; an item whose key is there replaces that row."
    return {
        "type": "array",
        "items": {"enum": list(key)},
        "minItems": len(key),
        "maxItems": len(key),
        "uniqueItems": True,
        "description": told,
    }


# --- other forms --------------------------------------------------------------------------


def _one_by_one(resource: ResourceDefinition, size: dict[str, int]) -> list[dict[str, Any]]:
    """Return the batch in which an item that is not valid is refused alone, with 200 for the whole."""
    told = "Each item has a result of its own, also one that is not valid."
    items = {
        "items": {"type": "array", "items": {}, **size},
        "atomic": {"const": False, "description": told},
    }
    found = []
    keys = upsert_keys(resource)
    plain = [one for one in BATCH_OPERATIONS if one != "upsert" or len(scoped_keys(resource)) < 2]
    found.append(_form("one by one", {"enum": plain}, items))
    if keys:
        on = {"on": {"anyOf": [_on(key) for key in keys]}}
        found.append(_form("upserts one by one", {"const": "upsert"}, {**items, **on}))
    return found


def _by_filter(resource: ResourceDefinition) -> list[dict[str, Any]]:
    """Return the patch and the delete of every row that a filter finds."""
    most = {
        "type": "integer",
        "minimum": 1,
        "maximum": resource.bounds.max_batch,
        "description": "When more rows match, nothing is changed (409).",
    }
    # Nobody's rows should go because somebody tries what the documentation shows.
    filter = {"filter": {**filter_of(resource), "examples": [{"id": {"isNull": True}}]}}
    return [
        _form(
            "patch by filter", {"const": "patch"}, {**filter, "data": _ref(resource, "Patch"), "max": most}
        ),
        _form("delete by filter", {"const": "delete"}, {**filter, "max": most}),
    ]
