"""The pieces of which the manifest's grammar is made: what a value may look like.

A shape judges a JSON value (all mistakes, each with its path), and describes itself as JSON Schema
and in words. `grammar` puts them together; what a value *means* is judged in `manifest`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any, ClassVar

from byodpp.definitions import MISSING
from byodpp.exceptions import Problem
from byodpp.grammar.values import BAD, Checked, Items, json_type, step
from byodpp.suggestion import nearest

__all__ = [
    "Anything",
    "Checker",
    "Flag",
    "Inside",
    "Key",
    "Level",
    "ListOf",
    "MapOf",
    "Number",
    "OneOf",
    "Shape",
    "Text",
    "Whole",
    "key",
    "level",
]


def _none() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(slots=True)
class Checker:
    """One pass over a document: where levels are looked up and mistakes are collected."""

    levels: Mapping[str, Level]
    problems: list[Problem] = field(default_factory=list)

    def report(self, path: str, reason: str, suggestion: str = "") -> None:
        """Note a mistake."""
        self.problems.append(Problem(path, reason, suggestion))


class Shape(ABC):
    """What a value may look like."""

    #: JSON types this shape takes; `number` includes integers.
    accepts: ClassVar[frozenset[str]]

    def takes(self, kind: str, checker: Checker) -> bool:
        """Whether a value of this JSON type can belong here at all."""
        return kind in self.accepts or (kind == "integer" and "number" in self.accepts)

    def check(self, value: Any, path: str, checker: Checker) -> Any:
        """Return the value without its malformed parts, BAD when nothing remains."""
        kind = json_type(value)
        if not self.takes(kind, checker):
            checker.report(
                path, f"expected {self.words(checker.levels)}, found {_shown(value)}", self.remedy(value)
            )
            return BAD
        return self.judge(value, path, checker)

    def judge(self, value: Any, path: str, checker: Checker) -> Any:
        """Judge a value whose JSON type fits."""
        return value

    def remedy(self, value: Any) -> str:
        """Return what to write instead of a value of a wrong type, empty when unknown."""
        return ""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the shape."""

    @abstractmethod
    def words(self, levels: Mapping[str, Level]) -> str:
        """Return the shape in words, for messages and the reference."""


@dataclass(frozen=True, slots=True)
class Text(Shape):
    """A string: one of a few words, or one that matches a pattern."""

    options: tuple[str, ...] = ()
    pattern: str = ""
    called: str = "a text"
    hints: Mapping[str, str] = field(default_factory=_none)  # a wrong word -> what to do
    names: bool = False  # it names something of the manifest: words in camel case may be what was meant
    accepts: ClassVar[frozenset[str]] = frozenset({"string"})

    def judge(self, value: Any, path: str, checker: Checker) -> Any:
        if self.options and value not in self.options:
            return self.refuse(value, self.words(checker.levels), path, checker)
        if self.pattern and not re.fullmatch(self.pattern, value):
            advice = self.hints.get(value.casefold()) or self._fitting(value)
            checker.report(path, f"{value!r} is not {self.called}", advice)
            return BAD
        return value

    def _fitting(self, value: str) -> str:
        """Return advice where only signs between words, or accents, keep a name from being one."""
        if not self.names:
            return ""
        plain = unicodedata.normalize("NFKD", value)
        bare = "".join(sign for sign in plain if not unicodedata.combining(sign))
        first, *others = re.split(r"[\s.-]+", bare.strip()) if bare.isascii() else [""]
        written = first + "".join(word[:1].upper() + word[1:] for word in others)
        return f"Write {written!r}." if re.fullmatch(self.pattern, written) else ""

    def refuse(self, word: str, expected: str, path: str, checker: Checker) -> Any:
        """Report a word that is none of the options."""
        advice = self.hints.get(word.casefold()) or nearest(word, self.options, list_up_to=0)
        checker.report(path, f"unknown word {word!r}; expected {expected}", advice)
        return BAD

    def schema(self) -> dict[str, Any]:
        if self.options:
            return {"enum": list(self.options)}
        return {"type": "string"} | ({"pattern": f"^(?:{self.pattern})$"} if self.pattern else {})

    def words(self, levels: Mapping[str, Level]) -> str:
        return _either(json.dumps(option) for option in self.options) if self.options else self.called


@dataclass(frozen=True, slots=True)
class Flag(Shape):
    """true or false."""

    accepts: ClassVar[frozenset[str]] = frozenset({"boolean"})

    def remedy(self, value: Any) -> str:
        written = str(value).casefold()
        return f"Write {written} without quotes." if written in ("true", "false") else ""

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}

    def words(self, levels: Mapping[str, Level]) -> str:
        return "true or false"


@dataclass(frozen=True, slots=True)
class Whole(Shape):
    """A whole number between two bounds."""

    minimum: int = 0
    maximum: int | None = None
    accepts: ClassVar[frozenset[str]] = frozenset({"integer"})

    def judge(self, value: Any, path: str, checker: Checker) -> Any:
        if value < self.minimum or (self.maximum is not None and value > self.maximum):
            checker.report(path, f"expected {self.words(checker.levels)}, found {value}")
            return BAD
        return int(value)

    def schema(self) -> dict[str, Any]:
        bound = {} if self.maximum is None else {"maximum": self.maximum}
        return {"type": "integer", "minimum": self.minimum, **bound}

    def words(self, levels: Mapping[str, Level]) -> str:
        if self.maximum is None:
            return f"a whole number from {self.minimum}"
        return f"a whole number from {self.minimum} to {self.maximum}"


@dataclass(frozen=True, slots=True)
class Number(Shape):
    """Any number."""

    accepts: ClassVar[frozenset[str]] = frozenset({"number"})

    def remedy(self, value: Any) -> str:
        return (
            "Write it without quotes." if isinstance(value, str) and re.fullmatch(r"-?[0-9.]+", value) else ""
        )

    def schema(self) -> dict[str, Any]:
        return {"type": "number"}

    def words(self, levels: Mapping[str, Level]) -> str:
        return "a number"


@dataclass(frozen=True, slots=True)
class Anything(Shape):
    """Any JSON value; what it means is judged elsewhere."""

    called: str = "any value"
    more: Mapping[str, Any] = field(default_factory=_none)  # JSON Schema, where more is known
    accepts: ClassVar[frozenset[str]] = frozenset(
        {"null", "boolean", "string", "integer", "number", "array", "object"}
    )

    def schema(self) -> dict[str, Any]:
        return dict(self.more)

    def words(self, levels: Mapping[str, Level]) -> str:
        return self.called


@dataclass(frozen=True, slots=True)
class ListOf(Shape):
    """An array of values of one shape."""

    item: Shape
    minimum: int = 0
    distinct: bool = True
    advice: str = ""  # to whoever wrote too few
    accepts: ClassVar[frozenset[str]] = frozenset({"array"})

    def judge(self, value: Any, path: str, checker: Checker) -> Any:
        if len(value) < self.minimum:
            found = "the list is empty" if not value else f"the list has {len(value)}"
            told = f"{found}; expected {self.minimum} or more, each {self.item.words(checker.levels)}"
            checker.report(path, told, self.advice)
            return BAD
        judged = [self.item.check(one, step(path, index), checker) for index, one in enumerate(value)]
        if self.distinct:
            self._report_repeated(value, path, checker)
        kept = [(index, one) for index, one in enumerate(judged) if one is not BAD]
        return Items(kept, path) if kept or not judged else BAD

    def _report_repeated(self, value: Any, path: str, checker: Checker) -> None:
        seen: dict[str, int] = {}
        for index, one in enumerate(value):
            if isinstance(one, str) and seen.setdefault(one, index) != index:
                checker.report(
                    step(path, index), f"{one!r} is listed twice", f"It is at [{seen[one]}] already."
                )

    def schema(self) -> dict[str, Any]:
        bound = {"minItems": self.minimum} if self.minimum else {}
        return {"type": "array", "items": self.item.schema(), **bound}

    def words(self, levels: Mapping[str, Level]) -> str:
        return f"a list, each {self.item.words(levels)}"


@dataclass(frozen=True, slots=True)
class MapOf(Shape):
    """An object with free keys and values of one shape."""

    item: Shape
    key: Text = Text()
    minimum: int = 0
    accepts: ClassVar[frozenset[str]] = frozenset({"object"})

    def judge(self, value: Any, path: str, checker: Checker) -> Any:
        if len(value) < self.minimum:
            told = f"{self.minimum} or more, each {self.item.words(checker.levels)}"
            checker.report(path, f"the object is empty; expected {told}")
            return BAD
        kept: dict[str, Any] = {}
        broken: set[str] = set()
        for name, one in value.items():
            inside = step(path, name)
            named = self.key.check(name, inside, checker)
            judged = self.item.check(one, inside, checker)
            if named is BAD or judged is BAD:
                broken.add(name)
            else:
                kept[name] = judged
        return Checked(kept, path, frozenset(broken))

    def schema(self) -> dict[str, Any]:
        names = {"propertyNames": self.key.schema()} if self.key.pattern or self.key.options else {}
        bound = {"minProperties": self.minimum} if self.minimum else {}
        return {"type": "object", "additionalProperties": self.item.schema(), **bound, **names}

    def words(self, levels: Mapping[str, Level]) -> str:
        return f"an object, each value {self.item.words(levels)}"


@dataclass(frozen=True, slots=True)
class Inside(Shape):
    """An object described by a level of the grammar."""

    level: str
    instead_of_text: str = ""  # what to write instead of a text
    accepts: ClassVar[frozenset[str]] = frozenset({"object"})

    def judge(self, value: Any, path: str, checker: Checker) -> Any:
        return checker.levels[self.level].judge(value, path, checker)

    def remedy(self, value: Any) -> str:
        return self.instead_of_text if isinstance(value, str) else ""

    def schema(self) -> dict[str, Any]:
        return {"$ref": f"#/$defs/{self.level}"}

    def words(self, levels: Mapping[str, Level]) -> str:
        return levels[self.level].called


@dataclass(frozen=True, slots=True)
class OneOf(Shape):
    """One of several shapes, told apart by the value's JSON type."""

    shapes: tuple[Shape, ...]
    accepts: ClassVar[frozenset[str]] = frozenset()

    def takes(self, kind: str, checker: Checker) -> bool:
        return any(shape.takes(kind, checker) for shape in self.shapes)

    def judge(self, value: Any, path: str, checker: Checker) -> Any:
        kind = json_type(value)
        fitting = next(shape for shape in self.shapes if shape.takes(kind, checker))
        if isinstance(fitting, Text) and fitting.options and value not in fitting.options:
            return fitting.refuse(value, self.words(checker.levels), path, checker)
        return fitting.judge(value, path, checker)

    def remedy(self, value: Any) -> str:
        return next((text for shape in self.shapes if (text := shape.remedy(value))), "")

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [shape.schema() for shape in self.shapes]}

    def words(self, levels: Mapping[str, Level]) -> str:
        return _either(shape.words(levels) for shape in self.shapes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of a level."""

    name: str
    shape: Shape
    doc: str
    default: Any = MISSING  # for the reference; MISSING means absent
    example: Any = MISSING
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One kind of object of the manifest and every key it may have."""

    name: str
    called: str  # in messages: `a field`
    doc: str
    keys: Mapping[str, Key]
    hints: Mapping[str, str] = field(default_factory=_none)  # an unknown key -> what to do

    def judge(self, value: Mapping[str, Any], path: str, checker: Checker) -> Checked:
        """Return the known, well-formed keys; report every other and every missing one."""
        kept: dict[str, Any] = {}
        broken: set[str] = set()
        for name, one in value.items():
            if name == "$comment":
                continue
            key = self.keys.get(name)
            if key is None:
                broken |= {name, *self._report_unknown(name, step(path, name), value, checker)}
                continue
            judged = key.shape.check(one, step(path, name), checker)
            if judged is BAD:
                broken.add(name)
            else:
                kept[name] = judged
        for key in self.keys.values():
            if key.required and key.name not in value:
                if key.name not in broken:
                    checker.report(path, f"{key.name!r} is missing", f"{key.doc}{_example(key)}")
                broken.add(key.name)
        return Checked(kept, path, frozenset(broken))

    def _report_unknown(self, name: str, path: str, value: Mapping[str, Any], checker: Checker) -> list[str]:
        """Report a key that is none; return the one that was meant, which must not be reported as missing."""
        hint = self.hints.get(name) or self.hints.get(name.casefold())
        free = [known for known in self.keys if known not in value]
        advice = hint or nearest(name, free)
        checker.report(path, f"unknown key {name!r} in {self.called}", advice)
        return [known for known in free if repr(known) in advice or f"`{known}`" in advice][:1]

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the level, for `$defs`."""
        properties = {key.name: key.shape.schema() | _annotations(key) for key in self.keys.values()}
        required = [key.name for key in self.keys.values() if key.required]
        return {
            "type": "object",
            "description": self.doc,
            "properties": {**properties, "$comment": {"type": "string"}},
            **({"required": required} if required else {}),
            "additionalProperties": False,
        }


def level(name: str, called: str, doc: str, *keys: Key, hints: Mapping[str, str] | None = None) -> Level:
    """Make a level from its keys."""
    return Level(
        name=name,
        called=called,
        doc=doc,
        keys={key.name: key for key in keys},
        hints=hints or MappingProxyType({}),
    )


def key(
    name: str, shape: Shape, doc: str, default: Any = MISSING, example: Any = MISSING, **more: Any
) -> Key:
    """Make a key."""
    return Key(name=name, shape=shape, doc=doc, default=default, example=example, **more)


def _annotations(key: Key) -> dict[str, Any]:
    found: dict[str, Any] = {"description": key.doc}
    if key.default is not MISSING:
        found["default"] = key.default
    if key.example is not MISSING:
        found["examples"] = [key.example]
    return found


def _example(key: Key) -> str:
    return "" if key.example is MISSING else f" Example: {json.dumps(key.example, ensure_ascii=False)}"


def _either(words: Iterable[str]) -> str:
    listed = list(words)
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} or {listed[-1]}"


def _shown(value: Any) -> str:
    """Return a value for a message: scalars as written, containers by their type."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, int | float | Decimal):
        return f"the number {value}"
    return "a list" if isinstance(value, list | tuple) else "an object"
