"""Bodies of requests: of one row, of a batch, of a query, of an action.

In: resources and the schema map. Out: request bodies and component schemas. Rejects nothing.
"""

from __future__ import annotations

from typing import Any, Final

from byodpp.batches import upsert_keys
from byodpp.definitions import Kind, ResourceDefinition
from byodpp.negotiation import JSON
from byodpp.openapi.batches import batch_schema, version_schema
from byodpp.openapi.nested import NestedSchemas
from byodpp.openapi.parameters import include_options, query_parameters
from byodpp.openapi.schemas import body_example, body_schema, component, key_schema, marshmallow_schema
from byodpp.openapi.shapes import parameter
from byodpp.registry import Registry
from byodpp.schemas import SchemaMap

__all__ = ["action_input", "action_parameters", "item_schema", "query_schema", "request_body", "whole_body"]

_MERGE: Final = "application/merge-patch+json"
_STEPS: Final = "application/json-patch+json"


def request_body(resource: ResourceDefinition, operation: str, schemas: SchemaMap) -> dict[str, Any] | None:
    """Return the body of one of the seven operations; None when it takes none."""
    if operation == "batch":
        return {"required": True, "content": {JSON: _batch(resource, schemas)}}
    if operation not in ("create", "update", "patch"):
        return None
    content: dict[str, Any] = {"schema": _ref(resource, operation.capitalize())}
    example = body_example(resource, operation, schemas)
    if example is not None:
        content["example"] = example
    if operation != "patch":
        return {"required": True, "content": {JSON: content}}
    steps: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/JsonPatch"}}
    for name, value in list((example or {}).items())[:1]:
        steps["example"] = [{"op": "replace", "path": f"/{name}", "value": value}]
    return {"required": True, "content": {JSON: content, _MERGE: content, _STEPS: steps}}


def whole_body(
    resource: ResourceDefinition, operation: str, schemas: SchemaMap, nested: NestedSchemas
) -> dict[str, Any]:
    """Return the schema of a body with the related rows it may hold."""
    found = body_schema(resource, operation, schemas)
    return {**found, "properties": {**found["properties"], **nested.properties(resource, operation)}}


def item_schema(
    resource: ResourceDefinition, operation: str, schemas: SchemaMap, nested: NestedSchemas
) -> dict[str, Any]:
    """Return the schema of one item of a batch: the body, and the key of the row."""
    judged = "create" if operation == "upsert" else operation
    found = whole_body(resource, judged, schemas, nested)
    properties = {name: one for name, one in found["properties"].items() if name != "id"}
    version = {"version": version_schema()} if resource.versioned else {}
    if operation == "upsert":  # a row without a key is new
        version = version if upsert_keys(resource) else {}
        return {**found, "properties": {"id": {"type": "null"}, **properties, **version}}
    if operation != "patch":
        version = {}
    needed = ["version"] if version and resource.version_required else []
    return {
        **found,
        "properties": {"id": key_schema(resource), **properties, **version},
        "required": ["id", *needed, *(name for name in found.get("required", ()) if name != "id")],
    }


def _batch(resource: ResourceDefinition, schemas: SchemaMap) -> dict[str, Any]:
    if resource.kind is Kind.LOGIC:
        return {"schema": {}}
    content: dict[str, Any] = {"schema": batch_schema(resource)}
    example = body_example(resource, "create", schemas)
    if example is not None:
        content["example"] = {"operation": "create", "items": [example], "atomic": True}
    return content


def _ref(resource: ResourceDefinition, suffix: str = "") -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{component(resource, suffix)}"}


def query_schema(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    """Return the schema of a query in a body: the parameters of the list, with options inside includes."""
    properties: dict[str, Any] = {}
    for one in query_parameters(resource, registry, "list"):
        schema = one["schema"] if "schema" in one else one["content"][JSON]["schema"]
        properties[one["name"]] = schema
    if "include" in properties:
        several = properties["include"]
        inside = {
            "type": "object",
            "properties": include_options(resource, registry),
            "propertyNames": {"enum": several["items"]["enum"]},
            "additionalProperties": {"const": True},
        }
        properties["include"] = {"anyOf": [several, inside]}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def action_parameters(schema: Any) -> list[dict[str, Any]]:
    """Return the parameters of an action's own, described by the marshmallow schema of its logic class."""
    described = marshmallow_schema(schema)
    required = described.get("required", ())
    found = []
    for name, one in described["properties"].items():
        words = {key: value for key, value in one.items() if key not in ("description", "examples")}
        shown = parameter(name, one.get("description", ""), words)
        if one.get("examples"):
            shown["example"] = one["examples"][0]
        found.append(shown | ({"required": True} if name in required else {}))
    return found


def action_input(schema: Any) -> dict[str, Any]:
    """Return the body of an action, described by the marshmallow schema of its logic class."""
    described = marshmallow_schema(schema)
    required = described.get("required", ())
    examples = {
        name: one["examples"][0] for name, one in described["properties"].items() if one.get("examples")
    }
    content: dict[str, Any] = {"schema": described}
    if examples and all(name in examples for name in required):
        content["example"] = examples
    return {"required": bool(required), "content": {JSON: content}}
