"""Rows inside a row as JSON Schema: what a create, update or patch may say of related rows.

In: resources and the schema map. Out: properties of bodies, and the components they refer to: one
per kind of row, operation around it, and levels that are left. Rejects nothing. It says what
`schemas.nested` accepts, but for the reference to the outer row, which is filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from byodpp.definitions import ResourceDefinition
from byodpp.openapi.batches import version_schema
from byodpp.openapi.schemas import body_schema, component, key_schema
from byodpp.schemas import SchemaMap
from byodpp.schemas.nested import MAX_NESTING, REPLACE

__all__ = ["NestedSchemas"]


class NestedSchemas:
    """The components of rows inside rows, each made once however many bodies refer to it."""

    def __init__(self, schemas: SchemaMap) -> None:
        self._schemas = schemas
        self.components: dict[str, Any] = {}
        self._depths: dict[tuple[tuple[str, str], int], int] = {}

    def properties(
        self, resource: ResourceDefinition, operation: str, levels: int = MAX_NESTING
    ) -> dict[str, Any]:
        """Return the properties that a body has for related rows.

        Args:
            resource: of the row.
            operation: `create`, `update` or `patch` on it.
            levels: of rows that may lie inside.
        """
        if not levels or not resource.relations:
            return {}
        found = {}
        for name, target in self._schemas.nestable(resource, operation).items():
            foreign = resource.relations[name].foreign_field
            item = self._item(target, foreign, operation, self._depth(target, levels - 1))
            rows = {"type": "array", "items": item, "maxItems": target.bounds.max_batch}
            forms: list[dict[str, Any]] = [rows]
            if "delete" in target.operations:
                forms.append(_only(REPLACE, rows))
            told = f"Rows of {target.name} to create with it"
            told += "." if operation == "create" else ", or with `id` to change."
            if len(forms) > 1:
                told += f" Inside `{REPLACE}` they are all it has: others are deleted."
            found[name] = {"anyOf": forms, "description": told}
        return found

    def _depth(self, resource: ResourceDefinition, levels: int) -> int:
        """Return how many of some levels there are relations for."""
        key = (resource.id, levels)
        if key not in self._depths:
            below = self._schemas.nestable(resource, "create").values() if levels else ()
            self._depths[key] = max((1 + self._depth(one, levels - 1) for one in below), default=0)
        return self._depths[key]

    def _item(self, target: ResourceDefinition, foreign: str, operation: str, levels: int) -> dict[str, Any]:
        """Return a reference to what one related row may look like."""
        cut = "" if levels == self._depth(target, MAX_NESTING) else str(levels)
        words = f"{operation.capitalize()}Under{foreign[:1].upper()}{foreign[1:]}{cut}"
        name = component(target, words)
        if name not in self.components:
            self.components[name] = {}  # for rows that come back to it
            self.components[name] = self._row(target, foreign, operation, levels)
        return {"$ref": f"#/components/schemas/{name}"}

    def _row(self, target: ResourceDefinition, foreign: str, operation: str, levels: int) -> dict[str, Any]:
        if operation == "create":
            return self._body(target, foreign, "create", levels)
        new = self._item(target, foreign, "create", levels)
        if operation not in target.operations:
            return new
        known = self._body(target, foreign, operation, levels)
        key = {"id": key_schema(target)}
        if operation == "patch" and target.versioned:
            key["version"] = version_schema()
        needed = [*key] if target.version_required else ["id"]
        known["properties"] = {**known["properties"], **key}
        known["required"] = [*needed, *(one for one in known.get("required", ()) if one not in needed)]
        return {"anyOf": [known, new]}

    def _body(self, target: ResourceDefinition, foreign: str, operation: str, levels: int) -> dict[str, Any]:
        """Return the body of a row without its reference; fields are described where it stands alone."""
        alone = body_schema(target, operation, self._schemas)
        names = [name for name in alone["properties"] if name != foreign]
        properties: dict[str, Any] = {name: self._field(target, operation, name) for name in names}
        found = {**alone, "properties": properties | self.properties(target, operation, levels)}
        required = [name for name in alone.get("required", ()) if name != foreign]
        found.pop("required", None)
        return found | ({"required": required} if required else {})

    def _field(self, target: ResourceDefinition, operation: str, name: str) -> Mapping[str, Any]:
        pointer = name.replace("~", "~0").replace("/", "~1")
        return {
            "$ref": f"#/components/schemas/{component(target, operation.capitalize())}/properties/{pointer}"
        }


def _only(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with one member."""
    return {
        "type": "object",
        "properties": {name: dict(schema)},
        "required": [name],
        "additionalProperties": False,
    }
