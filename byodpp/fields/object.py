"""Objects with named properties."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import marshmallow

from byodpp.fields.document import DocumentType, check_json, count_problems, counts_schema
from byodpp.fields.field_type import FieldFault
from byodpp.fields.strict_field import MOST_TOLD, Fault, counted, kind_of
from byodpp.suggestion import nearest

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["ObjectType", "unknown_faults"]

#: Unknown names that get a suggestion; looking for more would cost more than it tells.
_SUGGESTED: Final = 5


class ObjectType(DocumentType):
    """`object`: properties that are fields themselves, kept together as jsonb.

    Unknown keys are refused unless `additionalProperties` is true. An absent optional property
    stays absent, or takes its default.
    """

    name = "object"
    constraint_keys = frozenset({"minProperties", "maxProperties"})

    def from_json(self, value: Any, definition: FieldDefinition) -> dict[str, Any]:
        """Turn every known property into a Python value; others stay as they are."""
        if not isinstance(value, Mapping):
            raise FieldFault("type", f"Must be an object, not {kind_of(value)}.")
        return {
            key: known.type.from_json(item, known)
            if item is not None and (known := definition.properties.get(key)) is not None
            else item
            for key, item in value.items()
        }

    def from_text(self, text: str, definition: FieldDefinition) -> Any:
        """Refuse: an object is asked for by path, or by a key it has.

        Raises:
            FieldFault: always.
        """
        raise FieldFault("type", "Must be an object, not a text.")

    def loader(
        self, definition: FieldDefinition, *, from_wire: bool = True, max_bytes: int | None = None
    ) -> Callable[[Any], Any]:
        """Return the loader; all faults of all properties are raised at once."""
        known = {
            name: (prop, prop.type.loader(prop, from_wire=from_wire))
            for name, prop in definition.properties.items()
        }
        words, open_ended = definition.constraints, definition.additional_properties
        fewest, most = words.get("minProperties", 0), words.get("maxProperties")

        def load(value: Any) -> dict[str, Any]:
            if not isinstance(value, Mapping):
                raise FieldFault("type", f"Must be an object, not {kind_of(value)}.")
            if len(value) < fewest:
                raise FieldFault(
                    "too_few", f"Must have at least {counted(fewest, 'property', 'properties')}."
                )
            if most is not None and len(value) > most:
                raise FieldFault("too_many", f"Must have at most {counted(most, 'property', 'properties')}.")
            found, faults = _load_known(value, known)
            extra = [key for key in value if key not in known]
            if extra and not open_ended:
                faults.update(unknown_faults(extra, known))
            elif extra:
                check_json({key: value[key] for key in extra})
                found.update({key: value[key] for key in extra})
            if faults:
                raise marshmallow.ValidationError(faults)
            return found

        return load

    def to_json(self, value: Any, definition: FieldDefinition) -> Any:
        """Turn every known property into its JSON value."""
        return {
            key: known.type.to_json(item, known)
            if item is not None and (known := definition.properties.get(key)) is not None
            else item
            for key, item in value.items()
        }

    def check(self, definition: FieldDefinition) -> list[str]:
        """Return what is wrong with the counts, and with each property."""
        problems = count_problems(definition, "minProperties", "maxProperties")
        for name, prop in definition.properties.items():
            problems.extend(f"property {name}: {problem}" for problem in prop.type.check(prop))
        return problems

    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return an object's schema."""
        schema: dict[str, Any] = {"type": "object", "additionalProperties": definition.additional_properties}
        schema["properties"] = {name: _property_schema(prop) for name, prop in definition.properties.items()}
        if required := [name for name, prop in definition.properties.items() if prop.required]:
            schema["required"] = required
        return schema | {
            key: definition.constraints[key]
            for key in ("minProperties", "maxProperties")
            if key in definition.constraints
        }

    def example(self, definition: FieldDefinition) -> Any:
        """Return an object with every property."""
        return {name: _example(prop) for name, prop in definition.properties.items()}

    def constraints_schema(self) -> Mapping[str, Any]:
        """Return the schema of the counts."""
        return counts_schema("minProperties", "maxProperties")


def unknown_faults(unknown: Sequence[str], known: Iterable[str]) -> dict[str, list[Fault]]:
    """Return a fault per unknown name, the first ones with what was probably meant."""
    names = sorted(known)
    faults = {
        str(name): [Fault("unknown_field", f"Is not known here. {nearest(str(name), names)}".strip())]
        if position < _SUGGESTED
        else [Fault("unknown_field", "Is not known here.")]
        for position, name in enumerate(unknown[:MOST_TOLD])
    }
    if more := unknown[MOST_TOLD:]:
        faults[str(more[0])] = [Fault("unknown_field", "Is not known here.", times=len(more))]
    return faults


def _load_known(
    value: Mapping[str, Any], known: Mapping[str, tuple[FieldDefinition, Callable[[Any], Any]]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Judge the known properties; return the values and the faults by name."""
    found: dict[str, Any] = {}
    faults: dict[str, Any] = {}
    for name, (prop, load) in known.items():
        if name not in value:
            if prop.has_default:
                found[name] = copy.deepcopy(prop.default)
            elif prop.required:
                faults[name] = [Fault("required", "A value is required.")]
            continue
        item = value[name]
        if item is None:
            if prop.nullable:
                found[name] = None
            else:
                faults[name] = [Fault("null", "Must not be null.")]
            continue
        try:
            found[name] = load(item)
        except FieldFault as fault:
            faults[name] = [Fault(fault.code, str(fault))]
        except marshmallow.ValidationError as error:
            faults[name] = error.messages
    return found, faults


def _property_schema(prop: FieldDefinition) -> dict[str, Any]:
    schema = prop.type.json_schema(prop)
    if prop.enum is not None:
        schema["enum"] = [prop.type.to_json(prop.type.from_json(value, prop), prop) for value in prop.enum]
    if prop.nullable and "type" in schema:
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    for key in ("title", "description"):
        if (words := getattr(prop, key)) is not None:
            schema[key] = words
    return schema


def _example(prop: FieldDefinition) -> Any:
    if prop.examples:
        return prop.examples[0]
    return (
        prop.type.to_json(prop.type.from_json(prop.enum[0], prop), prop)
        if prop.enum
        else prop.type.example(prop)
    )
