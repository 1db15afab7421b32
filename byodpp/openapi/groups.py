"""Orders and aggregates as OpenAPI parameters: `sort`, `aggregate`, `group`, `having`.

In: resources. Out: parameters. Rejects nothing. They stand together because the words of one are
those of the other: groups are sorted by figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, Final

from byodpp.conditions import Aggregate
from byodpp.definitions import ResourceDefinition
from byodpp.openapi.filters import condition_on, filterable, relations, some_of
from byodpp.openapi.schemas import component
from byodpp.openapi.shapes import words
from byodpp.query.aggregates import MAX_AGGREGATES, MAX_GROUPS, functions_of, periods_of, result_field
from byodpp.query.judge import RELEVANCE
from byodpp.registry import Registry

__all__ = ["aggregate", "group", "having", "having_schema", "sort", "sort_of_include"]

#: What every group fulfils.
_HAVING_EXAMPLE: Final = MappingProxyType({"count": {"gt": 0}})
_MODIFIERS: Final = "(:nulls(First|Last))?"


def sort(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    """Return the order of a list: of rows, and where `aggregate` is given, of groups."""
    names = _sortable(resource)
    either = [*names, *_behind(resource, registry), "count", *_figures(resource), *_periods(resource)]
    told = (
        "Order of the rows: `name`, `-name`, `name:asc`, `name:desc`, each with `:nullsFirst` or "
        "`:nullsLast`; several are separated by commas, each field once. The key comes last by itself. "
        f"Sortable: {', '.join(f'`{name}`' for name in names)}, and fields of relations to one row."
    )
    if resource.search and RELEVANCE not in names:
        either.append(RELEVANCE)
        told += " With `search`: `relevance`, the best fit first."
    return _terms(f"{told} With `aggregate`: its words and those of `group`.", either, resource)


def sort_of_include(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    """Return the order of the rows of an included relation: fields only."""
    told = "Order of the related rows."
    return _terms(told, [*_sortable(resource), *_behind(resource, registry)], resource)


def _terms(told: str, names: list[str], resource: ResourceDefinition) -> dict[str, Any]:
    either = "|".join(names)
    pattern = f"^(-?({either})|({either}):(asc|desc)){_MODIFIERS}$"
    found = words("sort", told, {"type": "string", "pattern": pattern}, example=["-id"])
    found["schema"]["maxItems"] = resource.bounds.max_sorts
    return found


def _sortable(resource: ResourceDefinition) -> list[str]:
    return [name for name, one in filterable(resource).items() if one.type.sortable]


def _behind(resource: ResourceDefinition, registry: Registry) -> Iterator[str]:
    """Yield patterns of fields behind one reference."""
    for step, target, many in relations(resource, registry):
        if not many and (names := _sortable(target)):
            yield f"{step}\\.({'|'.join(names)})"


def _figures(resource: ResourceDefinition) -> Iterator[str]:
    """Yield patterns of the words of aggregates, by function."""
    by_function: dict[str, list[str]] = {}
    for name, definition in filterable(resource).items():
        for function in functions_of(definition):
            by_function.setdefault(function, []).append(name)
    for function, names in by_function.items():
        yield f"{function}:({'|'.join(names)})"


def _periods(resource: ResourceDefinition) -> Iterator[str]:
    """Yield patterns of the words of periods, by field."""
    for name, definition in filterable(resource).items():
        if found := periods_of(definition):
            yield f"({'|'.join(found)})\\({name}\\)"


def _periods_behind(resource: ResourceDefinition, registry: Registry) -> Iterator[str]:
    """Yield patterns of the words of periods of fields behind one reference."""
    for step, target, many in relations(resource, registry):
        if not many:
            for name, definition in filterable(target).items():
                if found := periods_of(definition):
                    yield f"({'|'.join(found)})\\({step}\\.{name}\\)"


def aggregate(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    """Return the figures that can be asked for."""
    figures = [one.word for one in _aggregates(resource)]
    told = (
        "Figures instead of rows, separated by commas: `count`, `sum:field`, … The answer has one row per "
        'group: `{"group": {…}, "count": 12, "sum": {"field": 99.50}}`. Not together with `fields`, '
        "`include` or `cursor`; `sort` then takes these words and those of `group`."
    )
    found = words("aggregate", told, {"type": "string", "enum": figures})
    found["schema"]["maxItems"] = MAX_AGGREGATES
    return found


def _aggregates(resource: ResourceDefinition) -> list[Aggregate]:
    found = [Aggregate("count")]
    for name, definition in filterable(resource).items():
        found += (Aggregate(function, name) for function in functions_of(definition))
    return found


def group(resource: ResourceDefinition, registry: Registry) -> dict[str, Any] | None:
    """Return what groups can be made of; None where a class serves what has no fields."""
    names = _sortable(resource)
    known = [*names, *_behind(resource, registry), *_periods(resource)]
    known += _periods_behind(resource, registry)
    if not known:
        return None
    told = (
        "What makes a group of `aggregate`: fields, also behind references, and periods of moments in UTC "
        "such as `month(createdAt)`."
    )
    schema = {"type": "string", "pattern": f"^({'|'.join(known)})$"}
    found = words("group", told, schema, **({"example": names[:1]} if names else {}))
    found["schema"]["maxItems"] = MAX_GROUPS
    return found


def having(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    """Return the filter of groups."""
    told = (
        'Which groups: a filter whose names are words of aggregates, `having={"count": {"gt": 5}}` or '
        "`having[count][gt]=5`; needs `aggregate`."
    )
    content = {"application/json": {"schema": _having_of(resource), "example": dict(_HAVING_EXAMPLE)}}
    return {"name": "having", "in": "query", "description": told, "content": content}


def _having_of(resource: ResourceDefinition) -> dict[str, Any]:
    reference = f"#/components/schemas/{component(resource, 'Having')}"
    return {"$ref": reference, "examples": [dict(_HAVING_EXAMPLE)]}


def having_schema(resource: ResourceDefinition) -> dict[str, Any]:
    """Return the schema of `having` for groups of a resource's rows."""
    by_type: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for one in _aggregates(resource):
        source = resource.fields.get(one.field)
        least = source is not None and one.function in ("min", "max")  # a value of the field
        result = source if source is not None and least else result_field(one, resource)
        condition = condition_on(result, resource.bounds)
        by_type.setdefault(str(condition), (condition, []))[1].append(one.word)
    own = _having_of(resource)
    several = some_of(own, resource.bounds.max_filter_terms)
    return {
        "type": "object",
        "minProperties": 1,
        "properties": {"and": several, "or": several, "not": own},
        "patternProperties": {f"^({'|'.join(names)})$": shape for shape, names in by_type.values()},
        "additionalProperties": False,
        "description": f"Conditions on groups of {resource.name}, by words of aggregates.",
    }
