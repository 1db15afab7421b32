"""The query language as OpenAPI parameters: exactly what `query_judge` accepts.

In: resources. Out: parameters of paths, lists and rows. Rejects nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from byodpp.definitions import ResourceDefinition
from byodpp.openapi.filters import filterable, relations
from byodpp.openapi.schemas import component, plain
from byodpp.query.aggregates import MAX_AGGREGATES, MAX_GROUPS, PERIODS, functions_of
from byodpp.query.judge import PARAMETERS
from byodpp.query.text import FUNCTIONS
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


def path_parameters(pattern: str, resource: ResourceDefinition | None) -> list[dict[str, Any]]:
    """Return the parameters of a path; `{id}` has the type of the resource's key."""
    found = []
    for name in _PARAMETER.findall(pattern):
        schema: dict[str, Any] = {"type": "string", "minLength": 1, "pattern": _SEGMENT}
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
        "asOf": _as_of,
    }
    found = (makers[name](resource, registry) for name in PARAMETERS[mode] if name in makers)
    return [parameter for parameter in found if parameter is not None]


def _parameter(name: str, description: str, schema: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": dict(schema), **more}


def _words(name: str, description: str, items: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    schema = {"type": "array", "items": dict(items), "minItems": 1, "uniqueItems": True}
    return _parameter(name, description, schema, style="form", explode=False, **more)


def _filter(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    names = list(filterable(resource))
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
    names = [name for name, one in filterable(resource).items() if one.type.sortable]
    paths = [
        f"{step}\\.({'|'.join(other for other, one in filterable(target).items() if one.type.sortable)})"
        for step, target, many in relations(resource, registry)
        if not many
    ]
    either = "|".join((*names, *paths))
    either += "|relevance" if resource.search and "relevance" not in names else ""
    pattern = f"^(-?({either})|({either}):(asc|desc))(:nulls(First|Last))?$"
    text = (
        "Order of the rows: `name`, `-name`, `name:desc`, each with `:nullsFirst` or `:nullsLast`; several "
        "are separated by commas, each field once. The key comes last by itself. "
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
    found = _words("include", text, {"type": "string", "enum": paths})
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
            "filter": {"$ref": f"#/components/schemas/{component(target, 'Filter')}"},
            "fields": _fields(target, registry)["schema"],
        }
        if many:
            options |= {
                "limit": _limit(target, registry)["schema"],
                "sort": _sort(target, registry)["schema"],
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


def _as_of(resource: ResourceDefinition, registry: Registry) -> dict[str, Any] | None:
    if not resource.history:
        return None
    text = "A moment in the past: rows as they were then, under today's rules. Not together with `include`."
    return _parameter("asOf", text, {"type": "string", "format": "date-time"})


def _search(resource: ResourceDefinition, registry: Registry) -> dict[str, Any] | None:
    names = [f"`{name}`" for name in resource.search if not resource.fields[name].write_only]
    if not names:
        return None
    text = f"Words to look for in {', '.join(names)}."
    return _parameter("search", text, {"type": "string", "maxLength": 1000, "pattern": "\\S"})


# --- cursors and groups -------------------------------------------------------------------


def _cursor(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    text = (
        "Where to go on: `pagination.next` of the answer before. It belongs to the same filter and order; "
        "not together with `page` or `offset`."
    )
    return _parameter("cursor", text, {"type": "string", "minLength": 1})


def _aggregate(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    words = [
        f"{function}:{name}"
        for name, definition in filterable(resource).items()
        for function in functions_of(definition)
    ]
    text = (
        "Figures instead of rows, separated by commas: `count`, `sum:field`, … The answer has one row per "
        'group: `{"group": {…}, "count": 12, "sum": {"field": 99.50}}`. Not together with `fields`, '
        "`include` or `cursor`; `sort` then takes these words and those of `group`."
    )
    found = _words("aggregate", text, {"type": "string", "enum": ["count", *words]})
    found["schema"]["maxItems"] = MAX_AGGREGATES
    return found


def _group(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    fields = {name: one for name, one in filterable(resource).items() if one.type.sortable}
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
