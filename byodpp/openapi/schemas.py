"""JSON Schemas (2020-12) of rows and bodies, for the OpenAPI document.

In: resources with their field definitions, and marshmallow schemas of the application. Out:
plain JSON values, and examples that the same schemas accept. Rejects nothing: a marshmallow
field that it does not know is described as "any value".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

import marshmallow
from marshmallow import fields as mf
from marshmallow import validate

from byodpp.definitions import FieldDefinition, Kind, ResourceDefinition
from byodpp.exceptions import ValidationFailed
from byodpp.fields.strict_field import FieldFault, ReadOnlyField, StrictField
from byodpp.registry import Registry
from byodpp.schemas import SchemaMap
from byodpp.schemas.modifiers import modifiers_of, operand_of

__all__ = [
    "body_example",
    "body_schema",
    "component",
    "field_example",
    "field_schema",
    "key_schema",
    "marshmallow_schema",
    "nullable",
    "plain",
    "row_example",
    "row_schema",
]

#: marshmallow field -> its schema; the first class that fits wins, so narrow ones come first.
_KINDS: Final[tuple[tuple[type[Any], Mapping[str, Any]], ...]] = (
    (mf.UUID, {"type": "string", "format": "uuid"}),
    (mf.Email, {"type": "string", "format": "email"}),
    (mf.URL, {"type": "string", "format": "uri"}),
    (mf.String, {"type": "string"}),
    (mf.Integer, {"type": "integer"}),
    (mf.Number, {"type": "number"}),
    (mf.Boolean, {"type": "boolean"}),
    (mf.Date, {"type": "string", "format": "date"}),
    (mf.Time, {"type": "string"}),
    (mf.DateTime, {"type": "string", "format": "date-time"}),
    (mf.Dict, {"type": "object"}),
)


def component(resource: ResourceDefinition, suffix: str = "") -> str:
    """Return the name of a resource's schema: `Products`, and `ProductsV2` beside it."""
    version = "" if resource.version == "v1" else resource.version.upper()
    return f"{resource.name}{version}{suffix}"


def plain(value: Any) -> Any:
    """Return a JSON value with numbers that every JSON writer knows."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict | MappingProxyType):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of the same values or null."""
    found = dict(schema)
    if "type" in found:
        kinds = found["type"] if isinstance(found["type"], list) else [found["type"]]
        found["type"] = [*kinds, "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
        return found
    return {"anyOf": [found, {"type": "null"}]} if found else found


# --- fields of the manifest ---------------------------------------------------------------


def value_schema(definition: FieldDefinition) -> dict[str, Any]:
    """Return the schema of a field's values, without null."""
    schema = dict(plain(definition.type.json_schema(definition)))
    if definition.enum is not None:
        schema["enum"] = [_wire(value, definition) for value in definition.enum if value is not None]
    return schema


def field_schema(definition: FieldDefinition) -> dict[str, Any]:
    """Return the schema of a field's values, with null and everything that is said about it."""
    schema = value_schema(definition)
    if definition.nullable:
        schema = nullable(schema)
    told = [definition.description] if definition.description else []
    if definition.references is not None:
        told.append(f"Key of a row of {definition.references.resource}.")
    if definition.encrypted:
        told.append("Stored encrypted; not for filter, sort, or search.")
    if definition.title:
        schema["title"] = definition.title
    if told:
        schema["description"] = " ".join(told)
    if definition.examples:
        schema["examples"] = plain(list(definition.examples))
    for key, word in (("x-unit", definition.unit), ("x-term", definition.term)):
        if word:
            schema[key] = word
    return schema


def field_example(definition: FieldDefinition) -> Any:
    """Return a JSON value that the field accepts; None when none is found."""
    if definition.examples:
        return plain(definition.examples[0])
    if definition.enum:
        return _wire(definition.enum[0], definition)
    candidate = definition.type.example(definition)
    if "pattern" in definition.constraints:
        accepts = definition.type.loader(definition)
        found = next((one for one in (candidate, *_texts()) if _accepted(accepts, one)), None)
        return None if found is None else plain(found)
    return plain(candidate)


def _texts() -> Iterator[str]:
    """Yield texts that simple patterns accept: codes, numbers, words with a separator."""
    yield from ("A1", "a-1", "1.0", "/a", "#336699", "https://example.com/a")
    for character in "A1a0":
        yield from (character * length for length in range(1, 33))


def _accepted(load: Callable[[Any], Any], value: Any) -> bool:
    try:
        load(value)
    except (FieldFault, marshmallow.ValidationError):
        return False
    return True


def _wire(value: Any, definition: FieldDefinition) -> Any:
    """Return the JSON value of a word of the manifest, which may be a JSON or a Python value."""
    if value is None:
        return None
    return plain(definition.type.to_json(definition.type.from_json(value, definition), definition))


def key_schema(resource: ResourceDefinition) -> dict[str, Any]:
    """Return the schema of a key in a request; in the row it is read-only."""
    definition = resource.fields["id"]
    found: dict[str, Any] = plain(definition.type.json_schema(definition))
    return found


# --- rows ---------------------------------------------------------------------------------


def row_schema(resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    """Return the schema of a row as answers show it.

    No property is required: `fields` chooses among them, and rights may hide some.
    """
    properties = {
        name: field_schema(definition) | ({"readOnly": True} if definition.read_only else {})
        for name, definition in resource.fields.items()
        if not definition.write_only
    }
    for name, relation in resource.relations.items():
        target = registry.target(resource, relation)
        if target.kind is Kind.LOGIC or not target.routed:
            continue
        row = {"$ref": f"#/components/schemas/{component(target)}"}
        one = {"anyOf": [row, {"type": "null"}]}
        told = f"Only with `include={name}`."
        properties[name] = {
            **({"type": "array", "items": row} if relation.many else one),
            "readOnly": True,
            "description": told,
        }
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if resource.kind is not Kind.LOGIC:
        hidden = any(not registry.target(resource, one).routed for one in resource.relations.values())
        schema["additionalProperties"] = hidden
    return schema | _words(resource)


def row_example(resource: ResourceDefinition) -> dict[str, Any]:
    """Return a row."""
    found = {
        name: field_example(definition)
        for name, definition in resource.fields.items()
        if not definition.write_only
    }
    if resource.states is not None:
        found[resource.states.field] = resource.states.initial
    return found


def _words(resource: ResourceDefinition) -> dict[str, Any]:
    words = {"title": resource.title, "description": resource.description}
    return {key: word for key, word in words.items() if word}


#: Words of JSON Schema that hold for an object as a whole, not for the part that a patch changes.
_OF_WHOLE_OBJECTS: Final = frozenset({"required", "minProperties", "maxProperties"})


# --- bodies -------------------------------------------------------------------------------


def body_schema(resource: ResourceDefinition, operation: str, schemas: SchemaMap) -> dict[str, Any]:
    """Return the schema of the body of `create`, `update` or `patch`."""
    own = schemas.overridden().get((*resource.id, operation))
    if own is None:
        return _generated(resource, operation)
    judge = schemas.schema(resource, operation)
    if not getattr(own, "extends", False):
        return marshmallow_schema(judge)
    generated = _generated(resource, operation)
    for name in generated["properties"].keys() - judge.fields.keys():
        del generated["properties"][name]  # left out by the class
    for name, field in judge.fields.items():
        if isinstance(field, StrictField | ReadOnlyField):
            continue
        key = field.data_key or name
        known = generated["properties"].get(key, {})
        words = {word: known[word] for word in ("title", "description", "examples") if word in known}
        generated["properties"][key] = words | _field(field)
        required = [one for one in generated.get("required", []) if one != key]
        generated["required"] = [*required, key] if field.required else required
    if not generated.get("required"):
        generated.pop("required", None)
    return generated


def _generated(resource: ResourceDefinition, operation: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required = []
    for name, definition in resource.fields.items():
        if definition.read_only and (operation != "update" or definition.write_only):
            continue
        schema = field_schema(definition)
        if definition.read_only:
            schema["readOnly"] = True
        if definition.write_only:
            schema["writeOnly"] = True
        if operation == "patch":
            schema = _modifiable(_merged(schema), definition)
        elif not definition.read_only:
            if definition.has_default:
                default = _wire(definition.default, definition)
                if _is_multiple_as_double(default, schema.get("multipleOf")):
                    schema["default"] = default
            elif definition.required and not (operation == "update" and definition.write_only):
                required.append(name)
        properties[name] = schema
    found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return found | ({"required": required} if required else {})


def _merged(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of what a patch merges into a stored object: any part of it (RFC 7396)."""
    found = {key: value for key, value in schema.items() if key not in _OF_WHOLE_OBJECTS}
    if "properties" in found:
        found["properties"] = {name: _merged(one) for name, one in found["properties"].items()}
    if "anyOf" in found:
        found["anyOf"] = [_merged(one) for one in found["anyOf"]]
    return found


def _modifiable(schema: dict[str, Any], definition: FieldDefinition) -> dict[str, Any]:
    """Return the schema of a field's value in a patch, or of a change of the value that is there."""
    kinds = modifiers_of(definition)
    if not kinds:
        return schema
    operand = plain(definition.type.json_schema(operand_of(definition)))
    changes = [
        {
            "type": "object",
            "properties": {f"${kind}": operand},
            "required": [f"${kind}"],
            "additionalProperties": False,
        }
        for kind in kinds
    ]
    found: dict[str, Any] = {"anyOf": [schema, *changes]}
    found |= {key: schema.pop(key) for key in ("title", "description", "writeOnly") if key in schema}
    return found


def body_example(resource: ResourceDefinition, operation: str, schemas: SchemaMap) -> dict[str, Any] | None:
    """Return a body that the schema of the operation accepts; None when none is known."""
    chosen = {name: definition for name, definition in resource.fields.items() if not definition.read_only}
    if operation == "patch":
        chosen = dict(list(chosen.items())[:2])
    example = {name: field_example(definition) for name, definition in chosen.items()}
    unknown = [name for name, value in example.items() if value is None and not chosen[name].nullable]
    if any(chosen[name].required for name in unknown):
        return None
    example = {name: value for name, value in example.items() if name not in unknown}
    if (*resource.id, operation) not in schemas.overridden():
        return example
    judge = schemas.schema(resource, operation)
    for name, field in judge.fields.items():
        told = field.metadata.get("example")
        if told is not None:
            example[field.data_key or name] = plain(told)
    if not getattr(type(judge), "extends", False):
        example = {name: value for name, value in example.items() if name in judge.fields}
    try:
        schemas.load(resource, operation, example)
    except ValidationFailed:
        return None
    return example


# --- marshmallow --------------------------------------------------------------------------


#: Words of JSON Schema that a field's `metadata` may say where its class alone knows what it accepts.
_TOLD: Final = (
    *("type", "format", "enum", "const", "pattern", "minLength", "maxLength"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
)


def marshmallow_schema(
    schema: marshmallow.Schema | type[marshmallow.Schema], seen: tuple[type[Any], ...] = ()
) -> dict[str, Any]:
    """Return the JSON Schema of a marshmallow schema.

    Args:
        schema: class or instance.
        seen: classes around this one; a class inside itself is described as any object.
    """
    judge = schema() if isinstance(schema, type) else schema
    if type(judge) in seen:
        return {"type": "object"}
    around = (*seen, type(judge))
    properties = {
        field.data_key or name: _field(field, around)
        for name, field in judge.fields.items()
        if not field.dump_only and not isinstance(field, ReadOnlyField)
    }
    required = [
        field.data_key or name
        for name, field in judge.fields.items()
        if field.required and not field.dump_only
    ]
    found: dict[str, Any] = {"type": "object", "properties": properties}
    if required and not judge.partial:
        found["required"] = required
    found["additionalProperties"] = judge.unknown != marshmallow.RAISE
    return found


def _field(field: mf.Field[Any], seen: tuple[type[Any], ...] = ()) -> dict[str, Any]:
    schema = _kind(field, seen)
    for check in _checks(field.validate):
        schema |= _constraint(check, schema)
    words = field.metadata
    schema |= {word: plain(words[word]) for word in _TOLD if word in words}
    if field.allow_none:
        schema = nullable(schema)
    if field.load_default is not marshmallow.missing and not callable(field.load_default):
        default = plain(field.load_default)
        if default is None or isinstance(default, bool | int | float | str | list | dict):
            schema["default"] = default
    for word in ("title", "description"):
        if words.get(word):
            schema[word] = str(words[word])
    if words.get("example") is not None:
        schema["examples"] = [plain(words["example"])]
    return schema


def _kind(field: mf.Field[Any], seen: tuple[type[Any], ...]) -> dict[str, Any]:
    if isinstance(field, mf.Pluck | mf.Nested):
        inner = marshmallow_schema(field.schema, seen)
        return {"type": "array", "items": inner} if field.many else inner
    if isinstance(field, mf.List):
        return {"type": "array", "items": _field(field.inner, seen)}
    if isinstance(field, mf.Enum):
        names = [one.value if field.by_value else one.name for one in field.enum]
        return {"enum": plain(names)}
    if isinstance(field, mf.Constant):
        return {"const": plain(field.constant)}
    return next((dict(schema) for kind, schema in _KINDS if isinstance(field, kind)), {})


def _checks(found: Any) -> list[Any]:
    if found is None:
        return []
    checks = list(found) if isinstance(found, list | tuple) else [found]
    return [inner for one in checks for inner in _checks(getattr(one, "validators", None)) or [one]]


def _constraint(check: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if isinstance(check, validate.Length):
        low, high = {"array": ("minItems", "maxItems"), "object": ("minProperties", "maxProperties")}.get(
            str(schema.get("type")), ("minLength", "maxLength")
        )
        equal = check.equal
        found = {low: check.min if equal is None else equal, high: check.max if equal is None else equal}
    elif isinstance(check, validate.Range):
        low = "minimum" if check.min_inclusive else "exclusiveMinimum"
        high = "maximum" if check.max_inclusive else "exclusiveMaximum"
        found = {low: check.min, high: check.max}
    elif isinstance(check, validate.OneOf):
        found = {"enum": list(check.choices)}
    elif isinstance(check, validate.Regexp):
        pattern = str(check.regex.pattern)
        # `match` of marshmallow looks at the beginning only.
        found = {"pattern": pattern if pattern.startswith("^") else f"^(?:{pattern})"}
    elif isinstance(check, validate.Equal):
        found = {"const": check.comparable}
    return {key: plain(value) for key, value in found.items() if value is not None}


def _is_multiple_as_double(value: Any, step: Any) -> bool:
    """Whether tools that calculate with doubles see a multiple; to them 18.4 is none of 0.01."""
    if step is None or isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return True
    return (float(value) / float(step)).is_integer()
