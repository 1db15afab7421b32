"""Every key that `resources.json` may hold, in one table: shape, default, meaning, example.

From this table come the strict check of the manifest's form, the published JSON Schema
(`manifest_schema`) and the reference in the documentation (`manifest_reference`), so the three
cannot drift apart. What a well-formed manifest *means* is judged in `manifest`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from byodpp.definitions import MISSING
from byodpp.fields import FIELD_TYPES
from byodpp.grammar.fields import (
    CONSTRAINTS,
    FIELD_HINTS,
    FIELD_KEYS,
    PROPERTY_HINTS,
    PROPERTY_KEYS,
    TYPE_HINTS,
)
from byodpp.grammar.resource import manifest_level, resource_level, service_level
from byodpp.grammar.rules import rule_levels
from byodpp.grammar.shapes import Anything, Key, Level, Text, key

__all__ = ["build_grammar", "manifest_reference", "manifest_schema"]

_SCHEMA_ID: Final = "https://json-schema.org/draft/2020-12/schema"


def build_grammar() -> Mapping[str, Level]:
    """Return every level of the manifest by name, from the outside in."""
    return {level.name: level for level in _levels()}


def _levels() -> Iterator[Level]:
    yield manifest_level()
    yield service_level()
    yield resource_level()
    yield _field_level("field", "a field", "One field of a resource.", FIELD_KEYS, {})
    inside = "One property of an object field, or the items of an array."
    yield _field_level("property", "a property", inside, PROPERTY_KEYS, PROPERTY_HINTS)
    yield from rule_levels()


def _field_level(name: str, called: str, doc: str, keys: tuple[Key, ...], hints: Mapping[str, str]) -> Level:
    """Join the keys that every type has and those that the field types bring."""
    types = Text(tuple(FIELD_TYPES), hints=TYPE_HINTS)
    listed = {
        "type": key(
            "type",
            types,
            "Type of the value; mandatory but for a reference, which takes its target's.",
            example="string",
        )
    }
    listed |= {key.name: key for key in keys}
    for word in sorted({word for kind in FIELD_TYPES.values() for word in kind.constraint_keys}):
        takers = [kind for kind in FIELD_TYPES.values() if word in kind.constraint_keys]
        own = Anything(more=takers[0].constraints_schema().get(word, {}))
        shape, text = CONSTRAINTS.get(word, (own, f"Constraint `{word}`."))
        names = ", ".join(kind.name for kind in takers)
        listed.setdefault(word, key(word, shape, f"{text} For: {names}."))
    hints = {**FIELD_HINTS, **{word: text for word, text in hints.items() if word not in listed}}
    return Level(name=name, called=called, doc=doc, keys=listed, hints=hints)


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the manifest, for editors and other tools."""
    levels = build_grammar()
    service_like = {
        "anyOf": [{"$ref": "#/$defs/service"}, {"$ref": "#/$defs/resource"}, {"$ref": "#/$defs/manifest"}]
    }
    return {
        "$schema": _SCHEMA_ID,
        "title": "resources.json",
        "description": "An application of BYO DPP: its services, resources and included files.",
        "anyOf": [
            {"$ref": "#/$defs/manifest"},
            {"$ref": "#/$defs/resource"},
            {"type": "array", "items": service_like},
        ],
        "$defs": {name: level.schema() for name, level in levels.items()},
    }


def manifest_reference() -> str:
    """Return the reference of all keys as Markdown: one table per level."""
    levels = build_grammar()
    return "\n".join(_section(level, levels) for level in levels.values())


def _section(level: Level, levels: Mapping[str, Level]) -> str:
    title = level.called.split(" ", 1)[1].capitalize()
    rows = [f"## {title}", "", level.doc, "", "| Key | Value | Default | Meaning |", "|---|---|---|---|"]
    for one in level.keys.values():
        default = "" if one.default is MISSING else f"`{json.dumps(one.default)}`"
        default = "mandatory" if one.required else default
        given = "" if one.example is MISSING else json.dumps(one.example, ensure_ascii=False)
        example = f" Example: `{given}`" if given else ""
        words = one.shape.words(levels).replace("|", "\\|")
        rows.append(f"| `{one.name}` | {words} | {default} | {one.doc}{example} |")
    return "\n".join([*rows, ""])
