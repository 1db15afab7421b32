"""Rows inside a row: what a body says about the rows of a to-many relation.

In: the body of a create, update or patch. Out: the body without its relations, and per relation
what is to be done to which related row. Rejects nothing by itself: faults come as Details with
dotted paths (`items.0.name`), told together with those of the row.

The rule: an item without `id` is created; one with `id` is changed as the row itself is, by
update inside an update, by patch inside a patch; beside the `id` of a patch may stand the `version`
that the row must have, which an update has in its row. Rows that are not named stay as they are,
unless the value is `{"$replace": [...]}`: then they are deleted. The reference to the outer row
is filled in; it may be sent when it says the same. Only to-many relations that the manifest
declares can be written so, three deep, and never a to-one relation: its row is another's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from byodpp.definitions import Kind, RelationDefinition, ResourceDefinition
from byodpp.exceptions import Detail, ValidationFailed
from byodpp.fields.strict_field import counted, kind_of
from byodpp.registry import Registry
from byodpp.schemas.faults import join_path
from byodpp.schemas.keys import REFERENCE, is_key, spelled
from byodpp.schemas.versions import row_version
from byodpp.wire import whole

__all__ = ["MAX_NESTING", "REPLACE", "NestedItem", "NestedRows", "judge_nested", "nestable"]

#: Levels of rows inside rows.
MAX_NESTING: Final = 3
#: Key of an object that stands for all related rows, not for some.
REPLACE: Final = "$replace"

#: Judges a related row: resource, operation, JSON value, path, fields that are filled in later.
Load = Callable[[ResourceDefinition, str, Any, str, frozenset[str]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NestedItem:
    """One related row."""

    index: int  # place in the body
    operation: str  # create, update or patch
    key: Any = None  # JSON value of `id`; None for a creation
    version: int | None = None  # that the row must have; None is any
    document: Any = None  # JSON value without the key
    values: Any = None  # what the schema made of it; None where that depends on the stored row


@dataclass(frozen=True, slots=True, kw_only=True)
class NestedRows:
    """What is to be done to the rows of one relation."""

    relation: RelationDefinition
    target: ResourceDefinition
    items: tuple[NestedItem, ...]
    replace: bool = False  # rows that are not named are deleted


def nestable(resource: ResourceDefinition, registry: Registry) -> Mapping[str, ResourceDefinition]:
    """Return the relations that can be written with a row, and where they lead."""
    found = {}
    for name, relation in resource.relations.items():
        if relation.many and name not in resource.fields:
            target = registry.target(resource, relation)
            if target.kind is Kind.DATABASE and target.routed and "create" in target.operations:
                found[name] = target
    return found


def judge_nested(
    resource: ResourceDefinition,
    relations: Mapping[str, ResourceDefinition],
    operation: str,
    data: Mapping[str, Any],
    prefix: str,
    load: Load,
) -> tuple[dict[str, Any], tuple[NestedRows, ...], list[Detail]]:
    """Part a body.

    Args:
        resource: of the row.
        relations: as `nestable` returns them.
        operation: on the row.
        data: the body.
        prefix: path of the body in the request.
        load: judges one related row.

    Returns:
        The fields of the row, the related rows, and all faults of the latter.
    """
    rest, nested, details = {}, [], list[Detail]()
    for name, value in data.items():
        target = relations.get(name)
        if target is None:
            rest[name] = value
            continue
        judge = _Judge(resource.relations[name], target, operation, join_path(prefix, name), load, details)
        nested.append(judge.rows(value))
    return rest, tuple(nested), details


@dataclass(frozen=True, slots=True)
class _Judge:
    """Judges the rows of one relation."""

    relation: RelationDefinition
    target: ResourceDefinition
    outer: str  # operation on the outer row
    path: str
    load: Load
    details: list[Detail]

    def rows(self, value: Any) -> NestedRows:
        replace = isinstance(value, dict) and set(value) == {REPLACE}
        items = value[REPLACE] if replace else value
        found: list[NestedItem] = []
        most = self.target.bounds.max_batch
        if not isinstance(items, list):
            self._fault("", "type", f"Must be an array of rows, not {kind_of(items)}.")
        elif len(items) > most:
            self._fault("", "too_many", f"Must have at most {counted(most, 'item')}.")
        elif replace and "delete" not in self.target.operations:
            self._fault(REPLACE, "unsupported", f"Rows of {self.target.name} cannot be deleted.")
        else:
            found = [one for index, item in enumerate(items) if (one := self._item(index, item))]
            self._refuse_repeats(found)
        return NestedRows(relation=self.relation, target=self.target, items=tuple(found), replace=replace)

    def _item(self, index: int, item: Any) -> NestedItem | None:
        path, foreign = str(index), self.relation.foreign_field
        keyed = self.outer != "create" and isinstance(item, dict) and item.get("id") is not None
        operation = self.outer if keyed else "create"
        if isinstance(item, dict) and foreign in item and self.outer == "create":
            self._fault(f"{path}.{foreign}", "read_only", "Is filled in: the row is not there yet.")
        if operation not in self.target.operations:
            told = f"Rows of {self.target.name} cannot be changed here."
            self._fault(f"{path}.id", "unsupported", told)
            return None
        key: Any = whole(item["id"]) if keyed else None
        if keyed and (isinstance(key, bool) or not isinstance(key, int | str)):
            self._fault(f"{path}.id", "type", "Must be the key of a row.")
            return None
        if keyed and not is_key(self.target, key):
            self._fault(f"{path}.id", "reference", REFERENCE)
            return None
        key = spelled(self.target, key) if keyed else None
        beside = {"id", "version"} if operation == "patch" and self.target.versioned else {"id"}
        left_out = {foreign, *beside} if keyed else {foreign}
        document = item
        if isinstance(item, dict):
            document = {name: value for name, value in item.items() if name not in left_out}
        place, version = join_path(self.path, path), None
        try:
            if "version" in left_out:
                version = row_version(item.get("version"), join_path(place, "version"))
            values = self.load(self.target, operation, document, place, frozenset({foreign}))
        except ValidationFailed as error:
            self.details.extend(error.details)
            return None
        document = {name: value for name, value in item.items() if name not in beside}
        return NestedItem(
            index=index, operation=operation, key=key, version=version, document=document, values=values
        )

    def _refuse_repeats(self, items: list[NestedItem]) -> None:
        seen: set[str] = set()
        for item in items:
            if item.key is None:
                continue
            if str(item.key) in seen:
                self._fault(f"{item.index}.id", "duplicate", "This row occurs twice.")
            seen.add(str(item.key))

    def _fault(self, path: str, code: str, message: str) -> None:
        self.details.append(Detail(f"{self.path}.{path}".rstrip("."), code, message))
