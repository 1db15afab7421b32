"""The part of the manifest's grammar that describes fields: keys, constraints, and common slips."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from byodpp.grammar.shapes import (
    Anything,
    Flag,
    Inside,
    Key,
    ListOf,
    MapOf,
    Number,
    OneOf,
    Shape,
    Text,
    Whole,
)

__all__ = ["CONSTRAINTS", "FIELD_HINTS", "FIELD_KEYS", "PROPERTY_HINTS", "PROPERTY_KEYS", "TYPE_HINTS"]

_NAME = Text(pattern="[A-Za-z][A-Za-z0-9_]*", called="a name (a letter, then letters, digits or _)")
_PROPERTY = Text(
    pattern=r"[A-Za-z_@$][A-Za-z0-9_@$:-]*", called="a property's name (letters, digits, _ @ $ : -)"
)
_BOUND = OneOf((Number(), Text(called="a text such as a date")))

#: Keys of every field, whatever its type, and of the properties inside an object.
PROPERTY_KEYS: Final[tuple[Key, ...]] = (
    Key(name="required", shape=Flag(), default=False, doc="Must be given on create and replace; never null."),
    Key(
        name="nullable",
        shape=Flag(),
        doc="May be null. Optional fields may, required ones may not, unless this says otherwise.",
    ),
    Key(
        name="default",
        shape=Anything("a value of the field's type"),
        doc="Value of a field that is not given.",
        example="draft",
    ),
    Key(
        name="enum",
        shape=ListOf(Anything("a value of the field's type"), minimum=1),
        doc="The only values allowed.",
        example=["draft", "published"],
    ),
    Key(
        name="properties",
        shape=MapOf(Inside("property"), _PROPERTY),
        doc="The properties of an object by name; at least one, unless `additionalProperties` is true.",
    ),
    Key(
        name="additionalProperties",
        shape=Flag(),
        default=False,
        doc="An object accepts properties it does not name.",
    ),
    Key(name="items", shape=Inside("property"), doc="What an array holds.", example={"type": "string"}),
    Key(name="title", shape=Text(), doc="Short name for people."),
    Key(name="description", shape=Text(), doc="Meaning of the field, for the documentation."),
    Key(
        name="examples", shape=ListOf(Anything(), distinct=False), doc="Valid values, for the documentation."
    ),
    Key(
        name="personal",
        shape=Flag(),
        default=False,
        doc="Personal data: kept out of the audit trail, events and logs, with the whole field it is in.",
    ),
    Key(
        name="term",
        shape=Text(pattern=r"[A-Za-z][A-Za-z0-9+.-]*:\S+", called="an IRI"),
        doc="IRI of the field's meaning.",
        example="https://schema.org/name",
    ),
    Key(
        name="unit",
        shape=Text(
            pattern=r"[A-Z0-9]{1,3}",
            called="a code of UN/CEFACT Recommendation 20 such as KGM (up to three capitals or digits)",
        ),
        doc="Unit of measure, by its UN/CEFACT Recommendation 20 code.",
        example="KGM",
    ),
)

#: Keys of a resource's field: the above, and what concerns its column.
FIELD_KEYS: Final[tuple[Key, ...]] = (
    *PROPERTY_KEYS,
    Key(
        name="audience",
        shape=OneOf((Text(), ListOf(Text(), minimum=1))),
        doc="Classes of readers the value is meant for, no ranking: roles, `public` for everybody, `owner` "
        "for who is signed in at the row's own tenant; every reader when left out. Opens nothing by itself.",
        example=["public", "authority"],
    ),
    Key(
        name="references",
        shape=_NAME,
        doc="Name of the resource whose key this field holds.",
        example="Categories",
    ),
    Key(
        name="as",
        shape=_NAME,
        doc="Name of the relation that a reference makes; the field's name without `Id` when left out.",
        example="category",
    ),
    Key(
        name="onDelete",
        shape=Text(
            ("restrict", "cascade", "setNull"),
            hints={
                "set null": 'Write "setNull".',
                "no action": 'Write "restrict".',
                "noaction": 'Write "restrict".',
                "set_null": 'Write "setNull".',
            },
        ),
        default="restrict",
        doc="What happens here when the row referred to is deleted. Rows that audit, an event, a history or a"
        " class for `delete` follows are deleted, or emptied, one by one like any other.",
    ),
    Key(
        name="unique",
        shape=OneOf((Flag(), Text(("scope", "platform", "ever")))),
        default=False,
        doc="A value occurs once; a word says where it counts, as `within` does.",
    ),
    Key(
        name="within",
        shape=Text(("scope", "platform", "ever")),
        default="scope",
        doc="Where a unique value counts: among the live rows of the scope, among those of all "
        "tenants, or (`ever`) among these and the softly deleted ones. What no row holds any more is free "
        "again: a value that must never come back needs `readOnly`, and `softDelete` or a rule that "
        "forbids to delete.",
    ),
    Key(
        name="index",
        shape=OneOf((Flag(), Text(("trigram",)))),
        default=False,
        doc='Make an index; "trigram" one for parts of a text, where the server has pg_trgm.',
    ),
    Key(
        name="filterable",
        shape=Flag(),
        doc="May be used in filter, sort and aggregates; by default when indexed (index, unique, "
        "reference, search, state).",
    ),
    Key(name="readOnly", shape=Flag(), default=False, doc="Never written by a client; logic classes may."),
    Key(name="writeOnly", shape=Flag(), default=False, doc="Never shown to a client."),
    Key(
        name="encrypted",
        shape=Flag(),
        default=False,
        doc="Stored encrypted, and kept out of the audit trail and events. It cannot be filtered, sorted, or"
        " searched by, is part of no key, and has no default.",
    ),
    Key(
        name="controlled",
        shape=Flag(),
        default=False,
        doc="Reading it, or filtering and sorting by it, is written into the audit trail.",
    ),
    Key(
        name="column",
        shape=Text(
            pattern="[A-Za-z_][A-Za-z0-9_]*",
            called="a column's name (a letter or _, then letters, digits or _)",
        ),
        doc="Name of the column; the field's name in snake_case when left out.",
    ),
    Key(
        name="renamedFrom",
        shape=_NAME,
        doc="Former name of the field: the next migration renames its column and keeps the data.",
    ),
    Key(
        name="locale",
        shape=Text(pattern=r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", called="a locale such as de or sv-SE"),
        doc="Compare and sort the text by the rules of this locale, on a server with ICU; by code point when "
        "left out, and on a server without it, such as the embedded one.",
    ),
)

#: Keys of a field inside an object or array, where there is no column of its own -> what to do.
PROPERTY_HINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{
            key.name.casefold(): "Leave it out: only a field of the resource itself has a column."
            for key in FIELD_KEYS
            if key not in PROPERTY_KEYS
        },
        "audience": "Put it on the field itself, which is shown as a whole or not at all.",
    }
)

#: Constraints by name: shape and meaning. Which type takes which is the field types' word.
CONSTRAINTS: Final[Mapping[str, tuple[Shape, str]]] = MappingProxyType(
    {
        "minLength": (Whole(0, 1 << 30), "Fewest characters."),
        "maxLength": (Whole(0, 1 << 30), "Most characters."),
        "pattern": (Text(), "Regular expression that the text must match somewhere."),
        "format": (Text(), "Format of the text."),
        "minimum": (_BOUND, "Least value."),
        "maximum": (_BOUND, "Greatest value."),
        "exclusiveMinimum": (_BOUND, "The value is greater than this."),
        "exclusiveMaximum": (_BOUND, "The value is less than this."),
        "multipleOf": (Number(), "The value is a multiple of this."),
        "precision": (Whole(1, 1_000), "Digits in all."),
        "scale": (Whole(0, 1_000), "Digits after the point."),
        "minItems": (Whole(0, 1 << 30), "Fewest items."),
        "maxItems": (Whole(0, 1 << 30), "Most items."),
        "uniqueItems": (Flag(), "No item occurs twice."),
        "asString": (Flag(), "The value travels as a JSON string, for clients whose numbers are too small."),
        "minProperties": (Whole(0, 1 << 20), "Fewest properties."),
        "maxProperties": (Whole(0, 1 << 20), "Most properties."),
    }
)

#: Type words of other languages -> what to write.
TYPE_HINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "int": 'Write "integer".',
        "int4": 'Write "integer".',
        "int8": 'Write "bigint".',
        "smallint": 'Write "integer".',
        "long": 'Write "bigint".',
        "number": 'Write "decimal" for exact numbers, "integer" for whole ones, "float" for measured ones.',
        "numeric": 'Write "decimal".',
        "money": 'Write "decimal" with "scale": 2.',
        "double": 'Write "float".',
        "real": 'Write "float".',
        "bool": 'Write "boolean".',
        "str": 'Write "string".',
        "char": 'Write "string".',
        "varchar": 'Write "string" with "maxLength".',
        "timestamp": 'Write "datetime".',
        "timestamptz": 'Write "datetime".',
        "date-time": 'Write "datetime".',
        "jsonb": 'Write "json".',
        "list": 'Write "array" with "items".',
        "dict": 'Write "object" with "properties", or "json".',
        "map": 'Write "json".',
        "enum": 'Write "string" with "enum".',
        "guid": 'Write "uuid".',
        "serial": "Leave the field out: every resource has an id.",
        "reference": 'Write {"references": "<Resource>"}.',
        "file": "Files are not part of this release; a string can hold an address.",
    }
)

#: Keys of other languages -> what to write.
FIELD_HINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "min": "Write `minimum` (a number) or `minLength` (a text).",
        "max": "Write `maximum` (a number) or `maxLength` (a text).",
        "length": "Write `maxLength`.",
        "size": "Write `maxLength`.",
        "null": "Write `nullable`; optional fields are nullable by themselves.",
        "notnull": "Write `required`.",
        "optional": "Leave it out: a field is optional unless it says `required`.",
        "primarykey": "Leave it out: every resource has an id.",
        "foreignkey": "Write `references`.",
        "foreign_key": "Write `references`.",
        "ref": "Write `references`.",
        "values": "Write `enum`.",
        "options": "Write `enum`.",
        "regex": "Write `pattern`.",
        "defaultvalue": "Write `default`.",
        "indexed": "Write `index`.",
        "immutable": "Write `readOnly`.",
        "readonly": "Write `readOnly`.",
    }
)
