"""Seeds judged without a database: whatever of their mistakes the files themselves and the manifest show.

In: the files below `seeds/`, the registry, and the schemas that judge bodies of requests. Out: problems, each
with file, step, row, and field. What only the database knows, such as whether a `$find` finds something, is
told when they are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from byodpp import wire
from byodpp.authentication.tenants import PLATFORM_SLUG
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import ApiError, Detail, Problem
from byodpp.query import OPERATORS
from byodpp.query.judge import judge
from byodpp.query.text import parse_json
from byodpp.registry import Registry
from byodpp.schemas import SchemaMap
from byodpp.schemas.unseen import certain_of_own
from byodpp.seeding import STEP_KEYS
from byodpp.suggestion import nearest

__all__ = ["check_seeds"]

_KEYS: Final = ("tenants", "steps")
_FIND_KEYS: Final = frozenset({"resource", "filter"})
_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
#: In place of a value that stands for another.
_LATER: Final = object()
#: A file with more mistakes than these has one that repeats itself.
_MOST: Final = 50


def check_seeds(
    app_dir: Path, registry: Registry, schemas: SchemaMap, given: Collection[str]
) -> list[Problem]:
    """Return what is wrong in the files of demo data, and in those that tenants begin with.

    Args:
        app_dir: the application's folder.
        registry: its resources.
        schemas: judge rows.
        given: names that `$given` may stand for, in files that tenants begin with.
    """
    folder = app_dir / "seeds"
    files = [(path, None) for path in sorted(folder.glob("*.json"))]
    begun = [*folder.glob("tenants/*.json"), *folder.glob("tenants/*/*.json")]
    found: list[Problem] = []
    for path, names in [*files, *((path, frozenset(given)) for path in sorted(begun))]:
        judged = _File(str(path.relative_to(app_dir)), registry, schemas, names)
        judged.check(path)
        found += judged.problems[:_MOST]
        if (left := len(judged.problems) - _MOST) > 0:
            found.append(Problem(judged.place, f"has {left} mistakes more"))
    return found


@dataclass(slots=True)
class _File:
    """One file, and what was found in it."""

    place: str
    registry: Registry
    schemas: SchemaMap
    given: frozenset[str] | None  # None: a file that names its tenants
    version: str = "v1"  # of the resource of the step that is looked at
    problems: list[Problem] = field(default_factory=list)

    def _tell(self, at: str, reason: str, advice: str = "") -> None:
        self.problems.append(Problem(f"{self.place}: {at}" if at else self.place, reason, advice))

    def check(self, path: Path) -> None:
        """Judge all of it."""
        try:
            document = wire.loads(path.read_bytes())
        except ApiError as error:
            self._tell("", error.message)
            return
        if not isinstance(document, dict):
            self._tell("", "must be an object with `tenants` and `steps`")
            return
        for key in document.keys() - set(_KEYS):
            if advice := nearest(key, _KEYS, list_up_to=0):  # others say something to people
                self._tell(f"$.{key}", "is no key of such a file", advice)
        slugs = {PLATFORM_SLUG, *self._slugs(document.get("tenants", []))}
        for at, step in self._items("$.steps", document.get("steps", [])):
            self._step(at, step, slugs)

    def _items(self, at: str, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the objects of a list, each with its path."""
        if not isinstance(value, list):
            self._tell(at, "must be a list")
            return
        for index, one in enumerate(value):
            if isinstance(one, dict):
                yield f"{at}[{index}]", one
            else:
                self._tell(f"{at}[{index}]", "must be an object")

    def _slugs(self, tenants: Any) -> Iterator[str]:
        if self.given is not None and tenants:
            self._tell("$.tenants", "names tenants, in a file that is for every one")
            return
        for at, one in self._items("$.tenants", tenants):
            slug = one.get("slug")
            if isinstance(slug, str) and _SLUG.fullmatch(slug):
                yield slug
            else:
                self._tell(f"{at}.slug", "must be lower-case letters, digits and hyphens, at most 63")

    # --- steps ------------------------------------------------------------------------

    def _step(self, at: str, step: dict[str, Any], slugs: Collection[str]) -> None:
        for key in sorted(step.keys() - STEP_KEYS):
            self._tell(f"{at}.{key}", "is no key of a step", nearest(key, sorted(STEP_KEYS)))
        self._tenant(at, step, slugs)
        resource = self._resource(at, step.get("resource"), step.get("version", "v1"))
        if resource is None:
            return
        self.version = resource.version
        for place, row in self._items(f"{at}.rows", step.get("rows", [])):
            self._values(place, resource, "create", row)
        if "action" in step:
            self._action(at, resource, step)
        if step.get("where") is not None:
            self._filter(f"{at}.where", resource, step["where"])

    def _tenant(self, at: str, step: Mapping[str, Any], slugs: Collection[str]) -> None:
        if self.given is not None:
            if "tenant" in step:
                self._tell(f"{at}.tenant", "names a tenant, in a file that is for every one")
        elif (slug := step.get("tenant", "")) not in slugs:
            self._tell(
                f"{at}.tenant", f"{slug!r} is not listed in `tenants`", nearest(str(slug), sorted(slugs))
            )

    def _resource(self, at: str, name: Any, version: Any) -> ResourceDefinition | None:
        if not isinstance(name, str) or not isinstance(version, str):
            self._tell(f"{at}.resource", "must be the name of a resource")
            return None
        found = self.registry.find(name, version)
        if found is None:
            names = [one.name for one in self.registry if one.version == version]
            self._tell(f"{at}.resource", f"there is no resource {name!r}", nearest(name, names))
        return found

    def _action(self, at: str, resource: ResourceDefinition, step: Mapping[str, Any]) -> None:
        action, keys = step["action"], [one.key for one in resource.actions]
        known = [*(one for one in resource.operations if one != "batch"), *keys]
        if action not in known:
            advice = nearest(str(action), known)
            self._tell(f"{at}.action", f"{resource.name} has no {action!r}", advice)
        elif action in ("create", "update", "patch") and isinstance(step.get("body"), dict):
            self._values(f"{at}.body", resource, action, step["body"])
        else:
            self._placeholders(f"{at}.body", step.get("body"))

    # --- values -----------------------------------------------------------------------

    def _values(self, at: str, resource: ResourceDefinition, operation: str, row: dict[str, Any]) -> None:
        """Judge a row as a request's body is judged, but for what is only known when it is loaded."""
        later = frozenset(name for name, value in row.items() if _holds_placeholder(value))
        for name in sorted(later):
            self._later(f"{at}.{name}", resource, name, row[name])
        now = {name: value for name, value in row.items() if name not in later}
        if operation == "create" and ("create" not in resource.operations or not resource.routed):
            for name in sorted(now.keys() - resource.fields.keys()):
                self._tell(f"{at}.{name}", "Unknown field.", nearest(name, resource.fields))
            return
        rules = (rule for rules in resource.access.values() for rule in rules)
        filled = later.union(*(rule.preset for rule in rules)) if operation == "create" else later
        for one in self._faults(resource, operation, now, filled):
            self._tell(f"{at}.{one.field}" if one.field else at, one.message)

    def _faults(
        self, resource: ResourceDefinition, operation: str, now: dict[str, Any], filled: frozenset[str]
    ) -> list[Detail]:
        """Return what is wrong in a row of which some fields are filled in later, whatever is in them."""
        missing = filled - now.keys()
        own = bool(missing) and (*resource.id, operation) in self.schemas.overridden()
        try:
            if operation == "patch":
                self.schemas.judge_unseen(resource, now, None, partial=filled)
            else:
                self.schemas.load(resource, operation, now, partial=filled)
        except ApiError as error:
            found = [*error.details] or [Detail("", error.error_code, error.message)]
            return self._lasting(resource, operation, found, missing) if own else found
        except Exception:
            if not own:
                raise  # it would also fail in a request
            # The class reads what is not there yet. What it says of the row is told when that is loaded.
        return []

    def _lasting(
        self, resource: ResourceDefinition, operation: str, found: list[Detail], missing: frozenset[str]
    ) -> list[Detail]:
        """Return the faults that an application's class finds in a row, whatever its missing fields hold."""
        schema, nested = self.schemas.schema(resource, operation), self.schemas.nestable(resource, operation)
        kept = certain_of_own(found, schema, "", missing, nested)
        return [one for one in kept if one.field and one.field.partition(".")[0] not in missing]

    def _later(self, at: str, resource: ResourceDefinition, name: str, value: Any) -> None:
        """Judge a field with something in it that stands for another value."""
        definition = resource.fields.get(name)
        if definition is None and name not in resource.relations:
            self._tell(at, "Unknown field.", nearest(name, resource.fields))
        self._placeholders(at, value)
        if definition is not None and definition.references is not None and _is(value, "$find"):
            wanted, target = value["$find"], definition.references.resource
            if isinstance(wanted, dict) and wanted.get("resource") not in (None, target):
                self._tell(at, f"refers to {target}, and $find looks in {wanted['resource']!r}")

    def _placeholders(self, at: str, value: Any) -> None:
        for one in _placeholders_in(value):
            if "$given" in one:
                self._given(at, one["$given"])
            else:
                self._find(at, one["$find"])

    def _given(self, at: str, name: Any) -> None:
        if self.given is None:
            self._tell(at, "$given stands for something in seeds/tenants/ only")
        elif name not in self.given:
            self._tell(at, f"$given has no {name!r}", nearest(str(name), sorted(self.given), list_up_to=30))

    def _find(self, at: str, wanted: Any) -> None:
        if not isinstance(wanted, dict) or wanted.keys() != _FIND_KEYS:
            self._tell(at, "$find must be an object with `resource` and `filter`")
            return
        target = self._resource(f"{at}.$find", wanted["resource"], self.version)
        if target is not None:
            self._filter(f"{at}.$find.filter", target, wanted["filter"])

    def _filter(self, at: str, resource: ResourceDefinition, tree: Any) -> None:
        if _is(tree, "$find") or _is(tree, "$given"):
            self._tell(at, "must be an object of fields, not what stands for a value")
            return
        self._placeholders(at, tree)
        try:
            judge(parse_json({"filter": _known(tree)}), resource, self.registry, None, "list")
        except ApiError as error:
            for one in error.details:
                self._tell(at, f"{one.field}: {one.message}" if one.field else one.message)
            if not error.details:
                self._tell(at, error.message)


def _is(value: Any, name: str) -> bool:
    return isinstance(value, dict) and value.keys() == {name}


def _known(tree: Any) -> Any:
    """Return a filter in which fields stand without the values that are only known later.

    What a field is compared with counts as given: whether it is of the field's type is seen when it is known.
    """
    if _is(tree, "$find") or _is(tree, "$given"):
        return _LATER
    if isinstance(tree, list):
        left = [one for one in map(_known, tree) if one is not _LATER]
        return left or (_LATER if tree else tree)
    if not isinstance(tree, dict):
        return tree
    known: dict[str, Any] = {}
    for name, value in tree.items():
        left = _known(value)
        if name == "between" and isinstance(left, list) and len(left) < len(value):
            left = left * 2
        if left is not _LATER:
            known[name] = left
        elif name in OPERATORS:
            known.setdefault("isNull", True)  # every field knows it
        else:
            known[name] = {"isNull": True}
    return known


def _placeholders_in(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield each `{"$find": …}` and `{"$given": …}` in a value, but for those within another."""
    if _is(value, "$find") or _is(value, "$given"):
        yield value
        return
    inside: Iterable[Any] = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    for one in inside:
        yield from _placeholders_in(one)


def _holds_placeholder(value: Any) -> bool:
    return next(_placeholders_in(value), None) is not None
