"""Every resource of an application, framework parts included: immutable and cross-checked.

Made by `manifest`, which has refused every mistake; nothing here can fail but a look-up of a name
that does not exist. Later stages build tables, schemas, statements and routes from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

from byodpp.definitions import (
    MISSING,
    FieldDefinition,
    ReferenceDefinition,
    RelationDefinition,
    ResourceDefinition,
)

__all__ = ["Registry", "version_number"]

#: Attributes that explain or locate a definition without changing what it means.
_WITHOUT_MEANING: Final = frozenset({"path", "title", "description", "examples", "summary", "columns"})


def version_number(version: str) -> int:
    """Return 2 for `v2`: versions are ordered by their number, not by their spelling."""
    return int(version[1:])


class Registry:
    """The resources of all versions, in the order in which the manifest declares them."""

    def __init__(
        self,
        resources: Iterable[ResourceDefinition],
        *,
        title: str = "",
        description: str = "",
        services: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Args:
        resources: checked definitions, no two with the same version and name.
        title: of the API in its documentation; empty where the manifest has none.
        description: likewise.
        services: descriptions of services by name, of those that have one.
        """
        self.title, self.description = title, description
        self.services = MappingProxyType(dict(services))
        self._resources = MappingProxyType({resource.id: resource for resource in resources})
        self._versions_of: dict[str, list[ResourceDefinition]] = {}
        for resource in sorted(self._resources.values(), key=lambda one: -version_number(one.version)):
            self._versions_of.setdefault(resource.name, []).append(resource)

    @property
    def resources(self) -> Mapping[tuple[str, str], ResourceDefinition]:
        """(version, name) -> resource: exactly what is declared."""
        return self._resources

    @cached_property
    def versions(self) -> tuple[str, ...]:
        """The API versions that have a routed resource, oldest first."""
        found = {resource.version for resource in self if resource.routed}
        return tuple(sorted(found, key=version_number)) or ("v1",)

    def find(self, name: str, version: str = "v1") -> ResourceDefinition | None:
        """Return what a name means inside a version, None when it means nothing.

        A version declares only what it changes: a name it does not declare means the resource of
        the nearest lower version, else the framework part's.
        """
        exact = self._resources.get((version, name))
        if exact is not None:
            return exact
        number = version_number(version)
        candidates = self._versions_of.get(name, [])
        lower = (one for one in candidates if version_number(one.version) < number or one.part is not None)
        return next(lower, None)

    def get(self, name: str, version: str = "v1") -> ResourceDefinition:
        """Return what a name means inside a version (see `find`).

        Raises:
            KeyError: the name means nothing there.
        """
        found = self.find(name, version)
        if found is None:
            raise KeyError(f"there is no resource {name!r} in {version}")
        return found

    def named(self, name: str) -> tuple[ResourceDefinition, ...]:
        """Return what a name means in any version, newest first; nothing when no version declares it."""
        return tuple(self._versions_of.get(name, ()))

    def target(
        self, resource: ResourceDefinition, way: ReferenceDefinition | RelationDefinition
    ) -> ResourceDefinition:
        """Return the resource to which a reference or relation of `resource` leads."""
        return self.get(way.resource, resource.version)

    def referencing(
        self, resource: ResourceDefinition
    ) -> tuple[tuple[ResourceDefinition, FieldDefinition], ...]:
        """Return every field, of any resource, that holds keys of this resource's table."""
        return self._references.get(resource.table, ())

    def references(self, resource: ResourceDefinition) -> tuple[tuple[str, ResourceDefinition], ...]:
        """Return the fields of a resource that hold keys of others, each with its target."""
        return self._targets[resource.id]

    @cached_property
    def _targets(self) -> Mapping[tuple[str, str], tuple[tuple[str, ResourceDefinition], ...]]:
        return {
            resource.id: tuple(
                (name, self.target(resource, one.references))
                for name, one in resource.fields.items()
                if one.references is not None
            )
            for resource in self
        }

    @cached_property
    def _references(self) -> Mapping[str, tuple[tuple[ResourceDefinition, FieldDefinition], ...]]:
        found: dict[str, list[tuple[ResourceDefinition, FieldDefinition]]] = {}
        for resource in self:
            for field in resource.fields.values():
                if field.references is not None:
                    table = self.target(resource, field.references).table
                    found.setdefault(table, []).append((resource, field))
        return {table: tuple(pairs) for table, pairs in found.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what the manifest means: spelling, order of keys, paths and prose do not count."""
        meaning = json.dumps([_meaning(resource) for resource in self], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(meaning.encode()).hexdigest()

    def __iter__(self) -> Iterator[ResourceDefinition]:
        return iter(self._resources.values())

    def __len__(self) -> int:
        return len(self._resources)

    def __contains__(self, key: object) -> bool:
        return key in self._resources

    def __getitem__(self, key: tuple[str, str]) -> ResourceDefinition:
        return self._resources[key]

    def __repr__(self) -> str:
        return f"Registry({len(self)} resources, {', '.join(self.versions)})"


def _meaning(value: Any) -> Any:
    """Turn a definition into JSON values, leaving out what equals its default."""
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _meaning(found)
            for field in fields(value)
            if field.name not in _WITHOUT_MEANING
            and ((found := getattr(value, field.name)) != field.default or field.default is NO_DEFAULT)
        }
    if isinstance(value, Mapping):
        return {str(key): _meaning(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(str(_meaning(item)) for item in value)
    if isinstance(value, list | tuple):
        return [_meaning(item) for item in value]
    if value is MISSING:
        return {"missing": True}
    # A field type is its word; every other leaf (Decimal, datetime, UUID) is its exact text.
    return getattr(value, "name", None) or str(value)
