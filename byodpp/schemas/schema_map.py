"""Marshmallow schemas per resource and operation: generated, then replaced or extended.

In: a registry, the schema classes that an application drops into `schemas/`, and at run time the
body of a request (JSON values) or the data of a logic class (Python values). Out: Python values.
Refused are bodies, with 422 and every fault at once; and, at start, classes that fit nowhere.
Marshmallow's `load` decides on every way in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import marshmallow

from byodpp import wire
from byodpp.definitions import FieldDefinition, ResourceDefinition
from byodpp.exceptions import Detail, ValidationFailed
from byodpp.fields.document import check_json
from byodpp.fields.strict_field import Fault, FieldFault, ReadOnlyField, StrictField, kind_of
from byodpp.registry import Registry
from byodpp.schemas.faults import MAX_DETAILS, details_of, join_path, refuse
from byodpp.schemas.generated import GeneratedSchema
from byodpp.schemas.generating import generated_schema
from byodpp.schemas.inside import MOST_INSIDE, named_inside, rows_inside
from byodpp.schemas.modifiers import Modifier, part_modifiers
from byodpp.schemas.nested import MAX_NESTING, NestedRows, judge_nested, nestable
from byodpp.schemas.overrides import (
    SCHEMA_OPERATIONS,
    Overrides,
    SchemaKey,
    load_schema_overrides,
    place_overrides,
)
from byodpp.schemas.unseen import certain, certain_of_own, keeps_names

__all__ = [
    "MAX_DETAILS",
    "SCHEMA_OPERATIONS",
    "Fault",
    "LoadedBody",
    "Overrides",
    "SchemaMap",
    "load_schema_overrides",
    "refuse",
]


@dataclass(slots=True, kw_only=True)
class LoadedBody:
    """What a valid body says. One for every item of a batch, so it is not frozen: that takes time."""

    values: dict[str, Any]  # field name -> Python value; defaults filled in as the operation asks
    read_only: dict[str, Any] = field(default_factory=dict)  # update only: sent, to be compared with the row
    sent: frozenset[str] = frozenset()  # names that were in the body; the rest of `values` was filled in
    nested: tuple[NestedRows, ...] = ()  # rows of to-many relations that came with the row


# --- the map ------------------------------------------------------------------------------


class SchemaMap:
    """The schema of every resource and operation; made at first use, then kept."""

    def __init__(self, registry: Registry, overrides: Mapping[SchemaKey, type[marshmallow.Schema]]) -> None:
        self._registry = registry
        self._overrides = overrides
        self._schemas: dict[tuple[str, str, str, bool], marshmallow.Schema] = {}
        self._nestables: dict[tuple[str, str, str], Mapping[str, ResourceDefinition]] = {}
        self._actions: dict[type[marshmallow.Schema], marshmallow.Schema] = {}

    @classmethod
    def build(cls, registry: Registry, overrides: Overrides | None = None) -> SchemaMap:
        """Make the map.

        Args:
            registry: the resources.
            overrides: what the application brings.

        Raises:
            ExtensionError: a file cannot be imported, or a class fits nowhere or fits twice.
        """
        return cls(registry, place_overrides(overrides or Overrides(), registry))

    def overridden(self) -> Mapping[SchemaKey, type[marshmallow.Schema]]:
        """(version, resource, operation) -> the application's class."""
        return self._overrides

    def schema(self, resource: ResourceDefinition, operation: str) -> marshmallow.Schema:
        """Return the schema that judges bodies of `create`, `update` or `patch`."""
        return self._schema(resource, operation, from_wire=True)

    def _schema(self, resource: ResourceDefinition, operation: str, *, from_wire: bool) -> marshmallow.Schema:
        key = (*resource.id, operation, from_wire)
        found = self._schemas.get(key)
        if found is None:
            found = self._schemas[key] = self._make(resource, operation, from_wire)
        return found

    def _make(self, resource: ResourceDefinition, operation: str, from_wire: bool) -> marshmallow.Schema:
        generated = generated_schema(resource, operation, from_wire=from_wire)
        own = self._overrides.get((*resource.id, operation))
        if own is None:
            return generated()
        if not getattr(own, "extends", False):
            return own()
        # Without `include` of its own the generated fields are inherited, and those of the class win.
        meta = type("Meta", (own.Meta, GeneratedSchema.Meta), {"include": {}})
        combined: type[marshmallow.Schema] = type(own.__name__, (own, generated), {"Meta": meta})
        return combined()

    def load(
        self,
        resource: ResourceDefinition,
        operation: str,
        data: Any,
        *,
        prefix: str = "",
        stored: Mapping[str, Any] | None = None,
        partial: frozenset[str] = frozenset(),
        presets: Callable[[ResourceDefinition], Mapping[str, Any]] | None = None,
        level: int = 0,
    ) -> LoadedBody:
        """Judge a body, and the related rows in it.

        Args:
            resource: what it is for.
            operation: `create`, `update` or `patch`.
            data: what `wire.loads` returned.
            prefix: path of the body in the request, e.g. `3` in a batch.
            stored: for `patch`, the row as it is (see `needs_stored`): objects in the body are
                merged into its objects (RFC 7396), and the result is judged as a whole. Without
                it they replace what is stored.
            partial: fields that are filled in later, and may be missing.
            presets: JSON values by field that a created row of a resource gets where the body has none.
            level: how many rows lie around this one.

        Raises:
            ValidationFailed: with every fault.
        """
        if not isinstance(data, dict):
            raise refuse([Detail(prefix, "type", f"Must be an object, not {kind_of(data)}.")])
        relations = self.nestable(resource, operation) if resource.relations and level < MAX_NESTING else {}
        if relations.keys().isdisjoint(data):
            return self._load_row(resource, operation, data, prefix, stored, partial, presets)
        if not level:
            self.refuse_many_inside(resource, operation, data, prefix)

        def load(
            target: ResourceDefinition, operation: str, item: Any, path: str, left: frozenset[str]
        ) -> Any:
            if operation == "patch" and self.needs_stored(target, item):
                self.judge_unseen(target, item, presets, prefix=path, partial=left, level=level + 1)
                return None  # judged as a whole when its row is locked
            return self.load(
                target, operation, item, prefix=path, partial=left, presets=presets, level=level + 1
            )

        data, nested, details = judge_nested(resource, relations, operation, data, prefix, load)
        try:
            loaded = self._load_row(resource, operation, data, prefix, stored, partial, presets)
        except ValidationFailed as error:
            raise refuse([*error.details, *details]) from None
        if details:
            raise refuse(details)
        return replace(loaded, nested=nested)

    def creating(
        self, resource: ResourceDefinition, presets: Callable[[ResourceDefinition], Mapping[str, Any]]
    ) -> Callable[[Any, str], LoadedBody]:
        """Return `load` for the creations of one body: what they share is looked up once.

        Args:
            resource: what they are for.
            presets: as for `load`.

        Returns:
            A function from a body and its path to what it says. Marshmallow loads each of them.
        """
        schema = self._schema(resource, "create", from_wire=True)
        own = (*resource.id, "create") in self._overrides
        relations = frozenset(self.nestable(resource, "create") if resource.relations else ())
        filled = presets(resource)

        def load(data: Any, prefix: str) -> LoadedBody:
            if not isinstance(data, dict) or (relations and not relations.isdisjoint(data)):
                return self.load(resource, "create", data, prefix=prefix, presets=presets)
            whole = {**filled, **data} if filled else data
            return LoadedBody(values=_load(schema, whole, prefix, own=own), sent=frozenset(data))

        return load

    def refuse_many_inside(
        self, resource: ResourceDefinition, operation: str, data: Any, prefix: str = ""
    ) -> None:
        """Refuse a body of an operation that holds more rows inside it than a request may bring.

        Raises:
            ValidationFailed: it does.
        """
        if self.rows_inside(resource, operation, data) > MOST_INSIDE:
            told = f"Must hold at most {MOST_INSIDE:,} rows inside it, in all."
            raise refuse([Detail(prefix, "too_many", told)])

    def rows_inside(self, resource: ResourceDefinition, operation: str, data: Any) -> int:
        """Return how many rows lie inside the body of an operation, whatever they are."""
        judged = operation if operation in SCHEMA_OPERATIONS else "create"  # an upsert
        return rows_inside(resource, data, lambda one: self.nestable(one, judged), MAX_NESTING)

    def named_inside(
        self, resource: ResourceDefinition, operation: str, data: Any
    ) -> Iterator[tuple[ResourceDefinition, str, Any]]:
        """Yield the rows inside a body that have an `id`: resource, operation, key."""
        if operation in ("update", "patch"):
            for target, key in named_inside(
                resource, data, lambda one: self.nestable(one, operation), MAX_NESTING
            ):
                yield target, operation, key

    def nestable(self, resource: ResourceDefinition, operation: str) -> Mapping[str, ResourceDefinition]:
        """Return the relations that the body of an operation may hold."""
        key = (*resource.id, operation)
        found = self._nestables.get(key)
        if found is None:
            found = dict(nestable(resource, self._registry))
            if found:
                # What an application's own schema names is its own affair.
                known = self._schema(resource, operation, from_wire=True).fields
                found = {name: target for name, target in found.items() if name not in known}
            self._nestables[key] = found
        return found

    def _load_row(
        self,
        resource: ResourceDefinition,
        operation: str,
        data: dict[str, Any],
        prefix: str,
        stored: Mapping[str, Any] | None,
        partial: frozenset[str],
        presets: Callable[[ResourceDefinition], Mapping[str, Any]] | None,
    ) -> LoadedBody:
        schema = self._schema(resource, operation, from_wire=True)
        sent = frozenset(data)
        if operation == "create" and presets is not None and (filled := presets(resource)):
            data = {**filled, **data}
        if operation == "patch" and stored is not None:
            data = _merged(resource, data, stored)
        own = (*resource.id, operation) in self._overrides
        if operation == "patch":
            return self._load_patch(resource, schema, data, prefix, sent)
        if operation != "update":
            return LoadedBody(values=_load(schema, data, prefix, own=own, partial=partial), sent=sent)
        read_only: dict[str, Any] = {}
        if self._replaced(resource, operation):
            data, read_only = self._part_read_only(resource, schema, data, prefix)
        values = _load(schema, data, prefix, own=own, partial=partial)
        for name, definition in resource.fields.items():
            if definition.read_only and name in values:
                read_only[name] = values.pop(name)
        return LoadedBody(values=values, read_only=read_only, sent=sent)

    def _load_patch(
        self,
        resource: ResourceDefinition,
        schema: marshmallow.Schema,
        data: dict[str, Any],
        prefix: str,
        sent: frozenset[str],
    ) -> LoadedBody:
        """Judge the values of a patch, and what it does to values that it does not know."""
        own = self._overrides.get((*resource.id, "patch"))
        # What a class of the application judges itself, or leaves out, knows no modifiers.
        data, modifiers, details = part_modifiers(
            resource, data, prefix, lambda name: isinstance(schema.fields.get(name), StrictField)
        )
        try:
            values = _load(schema, data, prefix, own=own is not None)
        except ValidationFailed as error:
            raise refuse([*error.details, *details]) from None
        if details:
            raise refuse(details)
        return LoadedBody(values={**values, **modifiers}, sent=sent)

    def _replaced(self, resource: ResourceDefinition, operation: str) -> bool:
        own = self._overrides.get((*resource.id, operation))
        return own is not None and not getattr(own, "extends", False)

    def needs_stored(self, resource: ResourceDefinition, data: Any) -> bool:
        """Whether a patch holds an object that must be merged with the stored one."""
        return isinstance(data, dict) and any(
            isinstance(value, dict) and _mergeable(resource.fields.get(name)) for name, value in data.items()
        )

    def judge_unseen(
        self,
        resource: ResourceDefinition,
        data: Any,
        presets: Callable[[ResourceDefinition], Mapping[str, Any]] | None,
        *,
        prefix: str = "",
        partial: frozenset[str] = frozenset(),
        level: int = 0,
    ) -> None:
        """Refuse a patch that no row could take, before any row is looked at.

        Args:
            resource: what it is for.
            data: what `wire.loads` returned.
            presets: as for `load`, as is what follows.
            prefix: path of the body in the request.
            partial: fields that are filled in later.
            level: how many rows lie around this one.

        Raises:
            ValidationFailed: with every fault; of objects that are merged with stored ones, those that
                depend on nothing stored.
        """

        def load(stored: Mapping[str, Any] | None) -> None:
            self.load(
                resource,
                "patch",
                data,
                prefix=prefix,
                stored=stored,
                partial=partial,
                presets=presets,
                level=level,
            )

        if not self.needs_stored(resource, data):
            load(None)
            return
        merged = frozenset(name for name in data if _mergeable(resource.fields.get(name)))
        own = (*resource.id, "patch") in self._overrides
        found: list[Detail] = []
        try:
            load({})
        except ValidationFailed as error:
            found = certain(error.details, data, prefix, merged)
        if own:
            schema = self.schema(resource, "patch")
            nested = self.nestable(resource, "patch")
            found = certain_of_own(found, schema, prefix, merged, nested)
            known = {(one.field, one.code) for one in found}
            also = certain(self._generated_faults(resource, schema, data, prefix), data, prefix, merged)
            found.extend(one for one in also if (one.field, one.code) not in known)
        if found:
            raise refuse(found)

    def _generated_faults(
        self, resource: ResourceDefinition, schema: marshmallow.Schema, data: dict[str, Any], prefix: str
    ) -> Sequence[Detail]:
        """Return the faults of those fields of a patch that an application's class has left as they were."""
        if not keeps_names(schema):
            return ()
        left = {name: value for name, value in data.items() if type(schema.fields.get(name)) is StrictField}
        try:
            self._load_patch(
                resource,
                self._generated(resource, from_wire=True),
                _merged(resource, left, {}),
                prefix,
                frozenset(),
            )
        except ValidationFailed as error:
            return error.details
        return ()

    def load_python(
        self, resource: ResourceDefinition, operation: str, data: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Judge what a logic class writes: read-only fields and Python values are welcome.

        Raises:
            ValidationFailed: with every fault.
        """
        schema = self._schema(resource, operation, from_wire=False)
        if any(isinstance(value, Modifier) for value in data.values()):
            modifiers = {name: value for name, value in data.items() if isinstance(value, Modifier)}
            rest = {name: value for name, value in data.items() if name not in modifiers}
            return {**self.load_python(resource, operation, rest), **modifiers}
        if not self._replaced(resource, operation):
            return dict(_load(schema, dict(data), "", own=False))
        writable, read_only = self._part_read_only(resource, schema, data, "")
        as_sent = {name: _json_value(resource.fields.get(name), value) for name, value in writable.items()}
        return {**_load(schema, as_sent, "", own=True), **read_only}

    def _part_read_only(
        self, resource: ResourceDefinition, schema: marshmallow.Schema, data: Mapping[str, Any], prefix: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Take out the read-only fields that an application's class does not name, judged as usual."""
        aside = {
            name: value
            for name, value in data.items()
            if name not in schema.fields
            and (definition := resource.fields.get(name)) is not None
            and definition.read_only
        }
        rest = {name: value for name, value in data.items() if name not in aside}
        return rest, _load(self._generated(resource, from_wire=False), aside, prefix, own=False)

    def _generated(self, resource: ResourceDefinition, *, from_wire: bool) -> marshmallow.Schema:
        """Return the schema of a patch as it was generated, whatever the application brings."""
        key = (*resource.id, "", from_wire)
        found = self._schemas.get(key)
        if found is None:
            found = self._schemas[key] = generated_schema(resource, "patch", from_wire=from_wire)()
        return found

    def action(self, schema_class: type[marshmallow.Schema], data: Any, *, prefix: str = "") -> Any:
        """Judge the input of an action by the logic class's own schema.

        Raises:
            ValidationFailed: with every fault.
        """
        if not isinstance(data, dict):
            raise refuse([Detail(prefix, "type", f"Must be an object, not {kind_of(data)}.")])
        schema = self._actions.get(schema_class)
        if schema is None:
            schema = self._actions[schema_class] = schema_class()
        return _load(schema, data, prefix, own=True)


def _load(
    schema: marshmallow.Schema,
    data: dict[str, Any],
    prefix: str,
    *,
    own: bool,
    partial: frozenset[str] = frozenset(),
) -> Any:
    """Load, and turn marshmallow's nested messages into details."""
    more = 0
    if own:
        _refuse_unstorable(data, prefix)
    elif len(data) > len(schema.fields) + MAX_DETAILS:
        data, more = _with_few_unknown(schema, data)
    try:
        return schema.load(data, partial=tuple(partial)) if partial else schema.load(data)
    except marshmallow.ValidationError as error:
        messages = error.messages_dict
        # Marshmallow's frames hold the error by a name: it would hold itself, and all of the body.
        error.__traceback__ = None
    # Not within the block: the refusal would hold the error as its context.
    names = [name for name, one in schema.fields.items() if not isinstance(one, ReadOnlyField)]
    raise refuse(details_of(messages, prefix, list(data), names), more)


def _with_few_unknown(schema: marshmallow.Schema, data: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Leave unknown names out that no answer would list; return the rest, and how many they are.

    There may be hundreds of thousands of them, each with a message of its own.
    """
    known = {name if field.data_key is None else field.data_key for name, field in schema.fields.items()}
    unknown = iter([name for name in data if name not in known])
    listed = frozenset(islice(unknown, MAX_DETAILS))
    kept = {name: value for name, value in data.items() if name in known or name in listed}
    return kept, len(data) - len(kept)


def _refuse_unstorable(data: Mapping[str, Any], prefix: str) -> None:
    """Refuse what no column can hold before an application's own fields see it."""
    details = []
    for name, value in data.items():
        try:
            check_json(value)
        except FieldFault as fault:
            details.append(Detail(join_path(prefix, name), fault.code, str(fault)))
    if details:
        raise refuse(details)


def _json_value(definition: FieldDefinition | None, value: Any) -> Any:
    """Return a Python value in the form that a body has."""
    return value if definition is None or value is None else definition.type.to_json(value, definition)


def _mergeable(definition: FieldDefinition | None) -> bool:
    return definition is not None and definition.type.name in ("json", "object")


def _merged(resource: ResourceDefinition, data: dict[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: wire.merge_patch(stored.get(name), value)
        if isinstance(value, dict) and _mergeable(resource.fields.get(name))
        else value
        for name, value in data.items()
    }
