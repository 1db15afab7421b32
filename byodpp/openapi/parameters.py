"""The query language as OpenAPI parameters: exactly what `query_judge` accepts.

In: resources. Out: parameters of paths, lists and rows. Rejects nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from byodpp.definitions import FieldDefinition, ResourceDefinition
from byodpp.openapi.filters import filter_of, filterable, relations
from byodpp.openapi.groups import aggregate, group, having, sort, sort_of_include
from byodpp.openapi.schemas import component, plain, value_schema
from byodpp.openapi.shapes import parameter, words
from byodpp.query.judge import PARAMETERS
from byodpp.registry import Registry

__all__ = [
    "include_options",
    "path_parameters",
    "query_parameters",
    "query_word",
    "referring",
]

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
#: What a segment may hold: no control character.
_SEGMENT: Final = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"
#: Relation paths of two steps are listed up to this number; deeper ones are described.
_LISTED_PATHS: Final = 40


# --- parameters ---------------------------------------------------------------------------


def path_parameters(
    pattern: str, resource: ResourceDefinition, named: Mapping[str, str] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Return the parameters of a path.

    Args:
        pattern: the path.
        resource: whose path it is; `{id}` has the type of its key.
        named: parameter -> the field of the resource whose value it is; any other is a text.
    """
    found = []
    for name in _PARAMETER.findall(pattern):
        field = resource.fields.get(named.get(name, "id" if name == "id" else ""))
        if name == "id" and field is not None and name not in named:
            schema, told = plain(field.type.json_schema(field)), f"Key of a row of {resource.name}."
        else:
            schema, told = _segment(field), f"Percent-encoded `{name}`; a `/` in it is written `%2F`."
            told = f"{field.description} {told}" if field is not None and field.description else told
        found.append({"name": name, "in": "path", "required": True, "description": told, "schema": schema})
    return found


def _segment(field: FieldDefinition | None) -> dict[str, Any]:
    """Return the schema of a segment that is a field's value, or a text of its own."""
    schema = {} if field is None else value_schema(field)
    if schema.get("type", "string") != "string":
        return schema
    text = {"type": "string", "minLength": 1, "pattern": _SEGMENT}
    if schema.get("format") in ("uri", "uri-reference"):
        del schema["format"]  # tools that fill a path do not encode the slashes of an address
    if "pattern" in schema:
        schema["allOf"] = [*schema.get("allOf", ()), {"pattern": _SEGMENT}]
    return text | schema | {"minLength": max(1, schema.get("minLength", 1))}


def query_parameters(resource: ResourceDefinition, registry: Registry, mode: str) -> list[dict[str, Any]]:
    """Return the parameters of a list, or with mode `read` those of one row."""
    makers = {
        "filter": _filter,
        "sort": sort,
        "fields": _fields,
        "include": _include,
        "limit": _limit,
        "offset": _offset,
        "page": _page,
        "cursor": _cursor,
        "count": _count,
        "search": _search,
        "aggregate": aggregate,
        "group": group,
        "having": having,
        "asOf": _as_of,
    }
    found = (makers[name](resource, registry) for name in PARAMETERS[mode] if name in makers)
    return [parameter for parameter in found if parameter is not None]


def _filter(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    names = list(filterable(resource))
    name = next((one for one in names if one not in ("id",)), "id")
    text = (
        f'Which rows, in JSON: `filter={{"{name}": {{"eq": …}}}}`. The bracket form says the same: '
        f"`filter[{name}][eq]=…`, `filter[{name}]=…`, `filter[or][0][{name}][isNull]=true`. "
        "A request uses one of the two forms. Relations are reached by dotted names or by nesting; a "
        "to-many relation needs `some`, `every` or `none`."
    )
    schema = filter_of(resource)
    return {
        "name": "filter",
        "in": "query",
        "description": text,
        "content": {"application/json": {"schema": schema, "example": schema["examples"][0]}},
    }


def _fields(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    names = [name for name, one in resource.fields.items() if not one.write_only]
    text = "Fields to show, separated by commas. `fields[relation]=…` chooses those of an included relation."
    return words("fields", text, {"type": "string", "enum": names})


def _include(resource: ResourceDefinition, registry: Registry) -> dict[str, Any] | None:
    ways = list(relations(resource, registry))
    if not ways:
        return None
    paths = [name for name, _, _ in ways]
    if resource.bounds.max_include_depth > 1:
        paths += _second_steps(resource, registry, ways)
    text = (
        "Related rows to show inside each row, separated by commas; paths have at most "
        f"{resource.bounds.max_include_depth} steps. Options: `include[path][limit]`, `[filter]`, `[sort]`, "
        "`[fields]`."
    )
    found = words("include", text, {"type": "string", "enum": paths})
    found["schema"]["maxItems"] = resource.bounds.max_includes
    return found


def query_word(resource: ResourceDefinition, name: str) -> dict[str, str]:
    """Return a reference to what the component of a query says of one parameter."""
    return {"$ref": f"#/components/schemas/{component(resource, 'Query')}/properties/{name}"}


def referring(parameters: list[dict[str, Any]], resource: ResourceDefinition) -> list[dict[str, Any]]:
    """Return the parameters of a list with references where their schemas are long."""
    long = ("sort", "fields", "aggregate", "group")
    return [
        {**one, "schema": query_word(resource, one["name"])} if one["name"] in long else one
        for one in parameters
    ]


def include_options(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    """Return what may be said of each relation where includes are JSON: `true`, or options."""
    found = {}
    for name, target, many in relations(resource, registry):
        options: dict[str, Any] = {
            "filter": filter_of(target),
            "fields": _fields(target, registry)["schema"],
        }
        if many:
            options |= {
                "limit": _limit(target, registry)["schema"],
                "sort": sort_of_include(target, registry)["schema"],
            }
        one = {"type": "object", "properties": options, "additionalProperties": False}
        found[name] = {"anyOf": [{"const": True}, one]}
    return found


def _second_steps(
    resource: ResourceDefinition,
    registry: Registry,
    ways: list[tuple[str, ResourceDefinition, bool]],
) -> list[str]:
    found = [
        f"{name}.{step}"
        for name, target, _ in ways
        for step, _, _ in relations(target, registry)
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
    return parameter("limit", "Rows of a page.", schema)


def _offset(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 0, "maximum": resource.bounds.max_offset, "default": 0}
    return parameter("offset", "Rows to skip; not together with `page`.", schema)


def _page(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    most = resource.bounds.max_offset
    text = (
        f"Number of the page, from 1; its first row is at most number {most + 1}. Not together with `offset`."
    )
    return parameter("page", text, {"type": "integer", "minimum": 1})


def _count(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    text = "How `count` and `pagination.total` are found; `none` leaves them null and is the fastest."
    schema = {"type": "string", "enum": ["exact", "estimated", "none"], "default": "exact"}
    return parameter("count", text, schema)


def _as_of(resource: ResourceDefinition, registry: Registry) -> dict[str, Any] | None:
    if not resource.history:
        return None
    text = "A moment in the past: rows as they were then, under today's rules. Not together with `include`."
    return parameter("asOf", text, {"type": "string", "format": "date-time"})


def _search(resource: ResourceDefinition, registry: Registry) -> dict[str, Any] | None:
    names = [f"`{name}`" for name in resource.search if not resource.fields[name].write_only]
    if not names:
        return None
    text = f"Words to look for in {', '.join(names)}."
    return parameter("search", text, {"type": "string", "maxLength": 1000, "pattern": "\\S"})


def _cursor(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    text = (
        "Where to go on: `pagination.next` of the answer before. It belongs to the same filter and order; "
        "not together with `page` or `offset`."
    )
    return parameter("cursor", text, {"type": "string", "minLength": 1})
