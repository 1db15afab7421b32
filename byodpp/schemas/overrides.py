"""The schema classes that an application drops into `schemas/`, each at its place.

In: the application's folder and the registry. Out: a class per version, resource and operation.
Refused, all at once: files that cannot be imported, and classes that fit nowhere or fit twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import marshmallow

from byodpp.exceptions import ExtensionError, Problem
from byodpp.extensions import Found, find_classes, unknown_resource
from byodpp.registry import Registry
from byodpp.suggestion import nearest

__all__ = ["SCHEMA_OPERATIONS", "Overrides", "SchemaKey", "load_schema_overrides", "place_overrides"]

#: Operations whose body has a schema; `batch` uses theirs.
SCHEMA_OPERATIONS: Final = ("create", "update", "patch")

#: Version, name of the resource, operation.
SchemaKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """The schema classes of an application, and what was wrong with their files."""

    found: tuple[Found[marshmallow.Schema], ...] = ()
    problems: tuple[Problem, ...] = ()


def load_schema_overrides(app_dir: Path) -> Overrides:
    """Import every file below `app_dir/schemas`.

    A class with an attribute `resource` replaces the generated schema of its `operation`
    (`create`, `update`, `patch`, or several of them in a tuple), or adds its fields to it with
    `extends = True`. `version` is the attribute, else the folder's, else `v1`. A class without
    `resource` is left alone: it is a part of another.
    """
    found, problems = find_classes(app_dir, "schemas", (marshmallow.Schema,))
    return Overrides(
        found=tuple(one for one in found if getattr(one.cls, "resource", None) is not None),
        problems=tuple(problems),
    )


def place_overrides(overrides: Overrides, registry: Registry) -> dict[SchemaKey, type[marshmallow.Schema]]:
    """Find the place of every class; raise all mistakes at once."""
    problems = list(overrides.problems)
    places: dict[SchemaKey, Found[marshmallow.Schema]] = {}
    for one in overrides.found:
        name, version = (
            getattr(one.cls, "resource", None),
            getattr(one.cls, "version", None) or one.version or "v1",
        )
        resource = registry.resources.get((version, str(name)))
        if resource is None:
            problems.append(unknown_resource(registry, str(name), version, one.place))
            continue
        for operation in _operations(one.cls):
            if operation not in SCHEMA_OPERATIONS:
                reason = f"there is no schema for the operation {operation!r}"
                problems.append(Problem(one.place, reason, nearest(str(operation), SCHEMA_OPERATIONS)))
            elif (other := places.setdefault((version, str(name), operation), one)) is not one:
                reason = f"{name} {operation} ({version}) has a schema already: {other.place}"
                problems.append(Problem(one.place, reason, "Keep one of the two."))
        if not _operations(one.cls):
            problems.append(
                Problem(one.place, "the class names no operation", 'Add e.g. operation = "create".')
            )
    if problems:
        raise ExtensionError(problems)
    return {key: one.cls for key, one in places.items()}


def _operations(cls: type[marshmallow.Schema]) -> tuple[str, ...]:
    operation = getattr(cls, "operation", ())
    return (operation,) if isinstance(operation, str) else tuple(operation)
