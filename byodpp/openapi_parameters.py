"""The query language as OpenAPI parameters: exactly what `query_judge` accepts.

In: resources. Out: parameters, and one component schema per resource for `filter`, typed field
by field and operator by operator. Rejects nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from byodpp.definitions import Bounds, FieldDefinition, Kind, ResourceDefinition
from byodpp.fields import EQUALITY, ORDER
from byodpp.openapi_schemas import component, nullable, plain
from byodpp.query_aggregates import MAX_AGGREGATES, MAX_GROUPS, PERIODS, functions_of
from byodpp.query_filters import OPERATORS, QUANTIFIERS, has_paths
from byodpp.query_judge import PARAMETERS
from byodpp.query_text import FUNCTIONS
from byodpp.registry import Registry

__all__ = ["INSIDE_JSON", "filter_schema", "inside_json_schema", "path_parameters", "query_parameters"]

#: Component of what can be asked of a value inside json.
INSIDE_JSON: Final = "ValueInsideJson"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_TEXTS: Final = frozenset({"like", "ilike", "contains", "startsWith", "endsWith"})
#: A pattern that ends inside an escape is refused.
_PATTERN: Final = {"type": "string", "maxLength": 1000, "pattern": "^([^\\\\]|\\\\[^\\n])*$"}
#: Constraints of stored values, which do not matter in comparisons.
_STORED_ONLY: Final = ("maxLength", "minLength")
#: Relation paths of two steps are listed up to this number; deeper ones are described.
_LISTED_PATHS: Final = 40


# --- filter -------------------------------------------------------------------------------


def filter_schema(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    """Return the schema of `filter` in JSON for a resource's rows."""
    own = {"$ref": f"#/components/schemas/{component(resource, 'Filter')}"}
    bounds = resource.bounds
    several = {"type": "array", "items": own, "minItems": 1, "maxItems": bounds.max_filter_terms}
    properties: dict[str, Any] = {
        name: _field_filter(definition, bounds) for name, definition in _filterable(resource).items()
    }
    for name, target, many in _relations(resource, registry):
        other = {"$ref": f"#/components/schemas/{component(target, 'Filter')}"}
        properties[name] = (
            {
                "type": "object",
                "properties": dict.fromkeys(QUANTIFIERS, other),
                "minProperties": 1,
                "additionalProperties": False,
            }
            if many
            else other
        )
    return {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {**properties, "and": several, "or": several, "not": own},
        "description": f"Conditions on {resource.name}; the entries of an object are ANDed.",
    }


def _filterable(resource: ResourceDefinition) -> dict[str, FieldDefinition]:
    return {
        name: definition
        for name, definition in resource.fields.items()
        if (definition.filterable or name == "id") and not definition.write_only
    }


def _relations(
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
    found = {key: value for key, value in schema.items() if key not in _STORED_ONLY}
    if definition.enum:
        found["examples"] = [plain(value) for value in definition.enum]
    return found


def _field_filter(definition: FieldDefinition, bounds: Bounds) -> dict[str, Any]:
    operators = definition.type.operators
    if definition.type.document:
        return {"anyOf": [_document_filter(definition, bounds), {"type": "null"}]}
    value = _operand(definition)
    comparison = {
        "type": "object",
        "properties": _operations(value, operators, bounds.max_in_values),
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
    value = _operand(items) if items is not None and not items.type.document else scalar
    several = {"type": "array", "items": value, "minItems": 1, "maxItems": bounds.max_filter_terms}
    found: dict[str, Any] = {
        "isNull": {"type": "boolean"},
        "has": value,
        "hasAny": several,
        "hasAll": several,
    }
    schema: dict[str, Any] = {"type": "object", "minProperties": 1, "properties": found}
    inside = {"$ref": f"#/components/schemas/{INSIDE_JSON}"}
    if not has_paths(definition):
        schema["additionalProperties"] = False
    elif definition.properties:
        found |= {
            name: _property_filter(prop, bounds.max_in_values) for name, prop in definition.properties.items()
        }
        schema["additionalProperties"] = inside if definition.additional_properties else False
    else:
        schema["additionalProperties"] = inside
    if schema["additionalProperties"]:
        schema["propertyNames"] = _NAMES
    return schema


def _property_filter(prop: FieldDefinition, max_values: int) -> dict[str, Any]:
    if prop.type.document:
        return {"$ref": f"#/components/schemas/{INSIDE_JSON}"}
    value = _operand(prop)
    comparison = {
        "type": "object",
        "properties": _operations(value, prop.type.operators & (EQUALITY | ORDER), max_values),
        "minProperties": 1,
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


# --- parameters ---------------------------------------------------------------------------


def path_parameters(pattern: str, resource: ResourceDefinition | None) -> list[dict[str, Any]]:
    """Return the parameters of a path; `{id}` has the type of the resource's key."""
    found = []
    for name in _PARAMETER.findall(pattern):
        schema: dict[str, Any] = {"type": "string", "minLength": 1}
        told = f"Percent-encoded `{name}`; a `/` in it is written `%2F`."
        if name == "id" and resource is not None and "id" in resource.fields:
            key = resource.fields["id"]
            schema = plain(key.type.json_schema(key))
            told = f"Key of a row of {resource.name}."
        found.append({"name": name, "in": "path", "required": True, "description": told, "schema": schema})
    return found


def query_parameters(resource: ResourceDefinition, registry: Registry, mode: str) -> list[dict[str, Any]]:
    """Return the parameters of a list, or with mode `read` those of one row."""
    makers = {
        "filter": _filter,
        "sort": _sort,
        "fields": _fields,
        "include": _include,
        "limit": _limit,
        "offset": _offset,
        "page": _page,
        "cursor": _cursor,
        "count": _count,
        "search": _search,
        "aggregate": _aggregate,
        "group": _group,
        "having": _having,
    }
    found = (makers[name](resource, registry) for name in PARAMETERS[mode] if name in makers)
    return [parameter for parameter in found if parameter is not None]


def _parameter(name: str, description: str, schema: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": dict(schema), **more}


def _words(name: str, description: str, items: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    schema = {"type": "array", "items": dict(items), "minItems": 1, "uniqueItems": True}
    return _parameter(name, description, schema, style="form", explode=False, **more)


def _filter(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    names = list(_filterable(resource))
    name = next((one for one in names if one not in ("id",)), "id")
    text = (
        f'Which rows, in JSON: `filter={{"{name}": {{"eq": …}}}}`. The bracket form says the same: '
        f"`filter[{name}][eq]=…`, `filter[{name}]=…`, `filter[or][0][{name}][isNull]=true`. "
        "A request uses one of the two forms. Relations are reached by dotted names or by nesting; a "
        "to-many relation needs `some`, `every` or `none`."
    )
    schema = {"$ref": f"#/components/schemas/{component(resource, 'Filter')}"}
    return {
        "name": "filter",
        "in": "query",
        "description": text,
        "content": {"application/json": {"schema": schema, "example": {"id": {"isNull": False}}}},
    }


def _sort(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    names = [name for name, one in _filterable(resource).items() if one.type.sortable]
    paths = [
        f"{step}\\.({'|'.join(other for other, one in _filterable(target).items() if one.type.sortable)})"
        for step, target, many in _relations(resource, registry)
        if not many
    ]
    either = "|".join((*names, *paths))
    either += "|relevance" if resource.search and "relevance" not in names else ""
    pattern = f"^(-?({either})|({either}):(asc|desc))(:nulls(First|Last))?$"
    text = (
        "Order of the rows: `name`, `-name`, `name:desc`, each with `:nullsFirst` or `:nullsLast`; several are "
        "separated by commas, each field once. The key comes last by itself. "
        f"Sortable: {', '.join(f'`{name}`' for name in names)}."
    )
    found = _words("sort", text, {"type": "string", "pattern": pattern}, example=["-id"])
    found["schema"]["maxItems"] = resource.bounds.max_sorts
    return found


def _fields(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    names = [name for name, one in resource.fields.items() if not one.write_only]
    text = "Fields to show, separated by commas. `fields[relation]=…` chooses those of an included relation."
    return _words("fields", text, {"type": "string", "enum": names})


def _include(resource: ResourceDefinition, registry: Registry) -> dict[str, Any] | None:
    relations = list(_relations(resource, registry))
    if not relations:
        return None
    paths = [name for name, _, _ in relations]
    if resource.bounds.max_include_depth > 1:
        paths += _second_steps(resource, registry, relations)
    text = (
        "Related rows to show inside each row, separated by commas; paths have at most "
        f"{resource.bounds.max_include_depth} steps. Options: `include[path][limit]`, `[filter]`, `[sort]`, "
        "`[fields]`."
    )
    found = _words("include", text, {"type": "string", "enum": paths})
    found["schema"]["maxItems"] = resource.bounds.max_includes
    return found


def _second_steps(
    resource: ResourceDefinition,
    registry: Registry,
    relations: list[tuple[str, ResourceDefinition, bool]],
) -> list[str]:
    found = [
        f"{name}.{step}"
        for name, target, _ in relations
        for step, _, _ in _relations(target, registry)
        if target.id != resource.id
    ]
    return found[:_LISTED_PATHS]


def _limit(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    bounds = resource.bounds
    schema = {
        "type": "integer",
        "minimum": 1,
        "maximum": bounds.max_limit,
        "default": min(bounds.limit, bounds.max_limit),
    }
    return _parameter("limit", "Rows of a page.", schema)


def _offset(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 0, "maximum": resource.bounds.max_offset, "default": 0}
    return _parameter("offset", "Rows to skip; not together with `page`.", schema)


def _page(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    most = resource.bounds.max_offset
    text = (
        f"Number of the page, from 1; its first row is at most number {most + 1}. Not together with `offset`."
    )
    return _parameter("page", text, {"type": "integer", "minimum": 1})


def _count(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    text = "How `count` and `pagination.total` are found; `none` leaves them null and is the fastest."
    schema = {"type": "string", "enum": ["exact", "estimated", "none"], "default": "exact"}
    return _parameter("count", text, schema)


def _search(resource: ResourceDefinition, registry: Registry) -> dict[str, Any] | None:
    names = [f"`{name}`" for name in resource.search if not resource.fields[name].write_only]
    if not names:
        return None
    text = f"Words to look for in {', '.join(names)}."
    return _parameter("search", text, {"type": "string", "maxLength": 1000, "pattern": "\\S"})


# --- cursors and groups -------------------------------------------------------------------


def _cursor(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    text = (
        "Where to go on: `pagination.next` of the answer before. It belongs to the same filter and order; not "
        "together with `page` or `offset`."
    )
    return _parameter("cursor", text, {"type": "string", "minLength": 1})


def _aggregate(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    words = [
        f"{function}:{name}"
        for name, definition in _filterable(resource).items()
        for function in functions_of(definition)
    ]
    text = (
        "Figures instead of rows, separated by commas: `count`, `sum:field`, … The answer has one row per group: "
        '`{"group": {…}, "count": 12, "sum": {"field": 99.50}}`. Not together with `fields`, `include` or '
        "`cursor`; `sort` then takes these words and those of `group`."
    )
    found = _words("aggregate", text, {"type": "string", "enum": ["count", *words]})
    found["schema"]["maxItems"] = MAX_AGGREGATES
    return found


def _group(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    fields = {name: one for name, one in _filterable(resource).items() if one.type.sortable}
    moments = [name for name, one in fields.items() if one.type.name == "datetime"]
    days = [name for name, one in fields.items() if one.type.name == "date"]
    words = [f"{period}({name})" for name in moments for period in PERIODS]
    words += [f"{period}({name})" for name in days for period in PERIODS if period != "hour"]
    text = (
        "What makes a group of `aggregate`: fields, and periods of moments in UTC such as `month(createdAt)`."
    )
    found = _words("group", text, {"type": "string", "enum": [*fields, *words]})
    found["schema"]["maxItems"] = MAX_GROUPS
    return found


def _having(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    text = "Which groups: a filter whose names are words of aggregates, `having[count][gt]=5`."
    names = {"pattern": f"^(and|or|not|count|({'|'.join(FUNCTIONS)}):[A-Za-z][A-Za-z0-9_]*)$"}
    schema = {"type": "object", "minProperties": 1, "propertyNames": names}
    content = {"application/json": {"schema": schema, "example": {"count": {"gt": 0}}}}
    return {"name": "having", "in": "query", "description": text, "content": content}
