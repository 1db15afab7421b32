"""`filter` as JSON Schema: one component per resource, typed field by field and operator by operator.

In: resources. Out: component schemas, and what filters and parameters have in common. Rejects
nothing. It says exactly what `query_filters` accepts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from byodpp.definitions import Bounds, FieldDefinition, Kind, ResourceDefinition
from byodpp.fields import FIELD_TYPES
from byodpp.openapi.schemas import component, nullable, plain
from byodpp.query.documents import INDEX
from byodpp.query.filters import OPERATORS, QUANTIFIERS
from byodpp.registry import Registry

__all__ = [
    "INSIDE_JSON",
    "condition_on",
    "condition_schemas",
    "filter_of",
    "filter_schema",
    "filterable",
    "inside_json_schema",
    "relations",
    "some_of",
]

#: Component of what can be asked of a value inside json.
INSIDE_JSON: Final = "ValueInsideJson"
_TEXTS: Final = frozenset({"like", "ilike", "contains", "startsWith", "endsWith"})
#: A pattern that ends inside an escape is refused; a text without `%` and `_` is none.
_PATTERN: Final = {
    "type": "string",
    "maxLength": 1000,
    "pattern": "^([^%_]*|([^\\\\]|\\\\[\\s\\S])*)$",
}
#: What every row fulfils.
_EXAMPLE: Final = MappingProxyType({"id": {"isNull": False}})
#: Ways over two references that are described with dots.
_MOST_WAYS: Final = 30
#: Constraints of stored values, which do not matter in comparisons.
_STORED_ONLY: Final = ("maxLength", "minLength")


def filter_schema(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    """Return the schema of `filter` in JSON for a resource's rows."""
    own, bounds = filter_of(resource), resource.bounds
    several = some_of(own, bounds.max_filter_terms)
    properties: dict[str, Any] = {
        name: _field_filter(definition, bounds) for name, definition in filterable(resource).items()
    }
    for name, target, many in relations(resource, registry):
        properties[name] = _related(target, many=many)
    return {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {**properties, "and": several, "or": several, "not": own},
        "patternProperties": _dotted(resource, registry),
        "description": f"Conditions on {resource.name}; the entries of an object are ANDed.",
    }


def _related(target: ResourceDefinition, *, many: bool) -> dict[str, Any]:
    """Return what can be asked of the row that a relation leads to, or of its rows."""
    other = filter_of(target)
    if not many:
        return other
    return {
        "type": "object",
        "properties": dict.fromkeys(QUANTIFIERS, other),
        "minProperties": 1,
        "additionalProperties": False,
    }


def _dotted(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    """Return what names with dots may be asked: fields behind one reference or two, and keys inside json.

    Each way needs a pattern of its own, since none describes longer ones without allowing others: of those,
    and of ways behind the first `_MOST_WAYS`, the last steps are nested.
    """
    found = _inside_json(resource, "")
    further: list[tuple[str, ResourceDefinition]] = []
    for step, target, many in relations(resource, registry):
        if many:
            continue
        found |= _behind(target, step)
        for name, other, several in relations(target, registry):
            found[f"^{step}\\.{name}$"] = _related(other, many=several)
            if not several:
                further.append((f"{step}\\.{name}", other))
    for way, target in further[:_MOST_WAYS]:
        found |= _behind(target, way)
    return found


def _behind(target: ResourceDefinition, way: str) -> dict[str, Any]:
    """Return what may be asked of the fields at the end of a way over references, by patterns."""
    by_condition: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for name, definition in filterable(target).items():
        condition = _field_filter(definition, target.bounds)
        by_condition.setdefault(str(condition), (condition, []))[1].append(name)
    found = {f"^{way}\\.({'|'.join(names)})$": condition for condition, names in by_condition.values()}
    return found | _inside_json(target, f"{way}\\.")


def _inside_json(resource: ResourceDefinition, before: str) -> dict[str, Any]:
    return {
        f"^{before}{name}(\\.[^.]+)+$": {"$ref": f"#/components/schemas/{INSIDE_JSON}"}
        for name, definition in filterable(resource).items()
        if definition.type.name == "json"
    }


def filter_of(resource: ResourceDefinition) -> dict[str, Any]:
    """Return a reference to the schema of a filter, with an example beside it.

    Filters lie inside filters: a tool that makes data for such a schema goes astray in it for hours,
    and takes an example where it finds one in its place.
    """
    return {"$ref": f"#/components/schemas/{component(resource, 'Filter')}", "examples": [dict(_EXAMPLE)]}


def some_of(one: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return the schema of a list of filters, whose example holds that of one.

    Args:
        one: the reference to the schema of a filter.
        most: that it may hold.
    """
    shape = {"type": "array", "items": dict(one), "minItems": 1, "maxItems": most}
    return {**shape, "examples": [one["examples"]]}


def filterable(resource: ResourceDefinition) -> dict[str, FieldDefinition]:
    """Return the fields that filters and orders may name."""
    return {
        name: definition
        for name, definition in resource.fields.items()
        if (definition.filterable or name == "id") and not definition.write_only
    }


def relations(
    resource: ResourceDefinition, registry: Registry
) -> Iterator[tuple[str, ResourceDefinition, bool]]:
    """Yield the relations that documentation shows: those to resources with routes and rows."""
    for name, relation in resource.relations.items():
        target = registry.target(resource, relation)
        if target.kind is not Kind.LOGIC and target.routed:
            yield name, target, relation.many


def _operand(definition: FieldDefinition) -> dict[str, Any]:
    """Return the schema of a value to compare with: of the type, whatever may be stored."""
    bare = FieldDefinition(
        name=definition.name,
        column=definition.column,
        type=definition.type,
        constraints={
            key: definition.constraints[key] for key in ("asString",) if key in definition.constraints
        },
    )
    schema = plain(definition.type.json_schema(bare))
    return {key: value for key, value in schema.items() if key not in _STORED_ONLY}


def condition_schemas() -> dict[str, Any]:
    """Return the components of what can be asked of a field, one per type: they are the same everywhere."""
    found = {}
    for kind in FIELD_TYPES.values():
        if kind.document:
            continue
        plain_field = FieldDefinition(name="", column="", type=kind)
        found[_condition_name(plain_field)] = _condition(plain_field, Bounds())
        if "asString" in kind.constraint_keys:
            as_text = FieldDefinition(name="", column="", type=kind, constraints={"asString": True})
            found[_condition_name(as_text)] = _condition(as_text, Bounds())
    return found


def _condition_name(definition: FieldDefinition) -> str:
    tail = "AsString" if definition.constraints.get("asString") else ""
    return f"{definition.type.name.capitalize()}{tail}Condition"


def _field_filter(definition: FieldDefinition, bounds: Bounds) -> dict[str, Any]:
    if definition.type.document:
        return {"anyOf": [_document_filter(definition, bounds), {"type": "null"}]}
    return condition_on(definition, bounds)


def condition_on(definition: FieldDefinition, bounds: Bounds) -> dict[str, Any]:
    """Return what can be asked of a field that is no document."""
    if bounds.max_in_values == Bounds().max_in_values:
        return {"$ref": f"#/components/schemas/{_condition_name(definition)}"}
    return _condition(definition, bounds)


def _condition(definition: FieldDefinition, bounds: Bounds) -> dict[str, Any]:
    """Return what can be asked of a field: a value to equal, null, or operators."""
    value = _operand(definition)
    comparison = {
        "type": "object",
        "properties": _operations(value, definition.type.operators, bounds.max_in_values),
        "minProperties": 1,
        "additionalProperties": False,
    }
    return {"anyOf": [nullable(value), comparison]}


def _operations(value: Mapping[str, Any], operators: frozenset[str], max_values: int) -> dict[str, Any]:
    some = {"type": "array", "items": nullable(value), "minItems": 1, "maxItems": max_values}
    two = {"type": "array", "items": value, "minItems": 2, "maxItems": 2}
    shapes: dict[str, Any] = {"in": some, "nin": some, "between": two, "isNull": {"type": "boolean"}}
    shapes |= {"eq": nullable(value), "ne": nullable(value)}
    shapes |= {word: _PATTERN if "like" in word else {"type": "string", "maxLength": 1000} for word in _TEXTS}
    return {word: shapes.get(word, value) for word in OPERATORS if word in operators}


def _document_filter(definition: FieldDefinition, bounds: Bounds) -> dict[str, Any]:
    items = definition.items
    scalar = {"type": ["string", "number", "boolean"]}
    value = scalar if items is None else _member(items)
    several = {"type": "array", "items": value, "minItems": 1, "maxItems": bounds.max_filter_terms}
    found: dict[str, Any] = {
        "isNull": {"type": "boolean"},
        "has": value,
        "hasAny": several,
        "hasAll": several,
    }
    schema: dict[str, Any] = {"type": "object", "minProperties": 1, "properties": found}
    inside = {"$ref": f"#/components/schemas/{INSIDE_JSON}"}
    if definition.type.name == "array":
        below = inside if items is None else _property_filter(items, bounds)
        schema |= {"patternProperties": {f"^{INDEX}$": below}, "additionalProperties": False}
    elif definition.type.name == "object":
        found |= {name: _property_filter(prop, bounds) for name, prop in definition.properties.items()}
        schema["additionalProperties"] = inside if definition.additional_properties else False
    else:
        schema["additionalProperties"] = inside
    if schema["additionalProperties"]:
        schema["propertyNames"] = _NAMES
    return schema


def _member(items: FieldDefinition) -> dict[str, Any]:
    """Return the schema of what an array may have: an item, or of an object or array a part."""
    if items.type.name == "object":
        inner = {name: nullable(_member(prop)) for name, prop in items.properties.items()}
        return {"type": "object", "properties": inner, "additionalProperties": items.additional_properties}
    if items.type.name == "array":
        return {"type": "array", "items": {} if items.items is None else _member(items.items)}
    if items.type.document:
        return {"type": ["string", "number", "boolean", "object", "array"]}
    return _operand(items)


def _property_filter(prop: FieldDefinition, bounds: Bounds) -> dict[str, Any]:
    """Return what can be asked of a property or an item."""
    if prop.type.document and prop.type.name == "json":
        return {"$ref": f"#/components/schemas/{INSIDE_JSON}"}
    if prop.type.document:
        return {"anyOf": [_document_filter(prop, bounds), {"type": "null"}]}
    value = _operand(prop)
    comparison = {
        "type": "object",
        "properties": _operations(value, prop.type.operators, bounds.max_in_values),
        "minProperties": 1,
        "additionalProperties": False,
    }
    return {"anyOf": [nullable(value), comparison]}


#: Keys inside json: dots separate the steps of a path.
_NAMES: Final = {"pattern": "^[^.]+(\\.[^.]+)*$"}


def inside_json_schema() -> dict[str, Any]:
    """Return the component of what can be asked of a value inside json."""
    any_value: dict[str, Any] = {"type": ["string", "number", "boolean", "null"]}
    scalar = {"type": ["string", "number", "boolean"]}
    ordered = {"type": ["number", "string"]}
    several = {"type": "array", "items": any_value, "minItems": 1}
    members = {"type": "array", "items": scalar, "minItems": 1}
    pairs = [
        {"type": "array", "items": {"type": kind}, "minItems": 2, "maxItems": 2}
        for kind in ("number", "string")
    ]
    shapes: dict[str, Any] = {"in": several, "nin": several, "between": {"anyOf": pairs}, "has": scalar}
    shapes |= {"hasAny": members, "hasAll": members, "isNull": {"type": "boolean"}}
    shapes |= {"eq": any_value, "ne": any_value}
    shapes |= {word: _PATTERN if "like" in word else {"type": "string", "maxLength": 1000} for word in _TEXTS}
    return {
        "description": "A value inside json to equal, operators, or the next key of the path.",
        "anyOf": [
            any_value,
            {
                "type": "object",
                "minProperties": 1,
                "properties": {word: shapes.get(word, ordered) for word in OPERATORS},
                "propertyNames": _NAMES,
                "additionalProperties": {"$ref": f"#/components/schemas/{INSIDE_JSON}"},
            },
        ],
    }
