"""Short text: one line, indexable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import sqlalchemy as sa

from byodpp.fields.field_type import EQUALITY, ORDER, TEXT, Check, FieldFault, FieldType
from byodpp.fields.formats import FORMAT_PATTERNS, FORMATS
from byodpp.fields.pattern import compile_pattern, pattern_problem
from byodpp.fields.strict_field import counted, kind_of
from byodpp.suggestion import nearest

if TYPE_CHECKING:
    from byodpp.definitions import FieldDefinition

__all__ = ["MAX_INDEXED_BYTES", "MAX_INDEXED_LENGTH", "StringType", "check_text", "collation_of"]

#: A B-tree entry of PostgreSQL holds at most 2,704 bytes, key columns beside the text included.
MAX_INDEXED_BYTES: Final = 2_600
#: `maxLength` up to which a text may be indexed; its bytes are judged as well, value by value.
MAX_INDEXED_LENGTH: Final = 2_000

_EXAMPLES: Final[Mapping[str, str]] = {
    "color": "#336699",
    "date": "2025-01-31",
    "date-time": "2025-01-31T08:00:00Z",
    "email": "someone@example.com",
    "hostname": "www.example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "language": "en",
    "slug": "an-example",
    "time": "08:00:00",
    "uri": "https://example.com/a",
    "uri-reference": "/a",
    "uuid": "018f4e2a-7b1c-7000-8000-000000000001",
}


def check_text(value: str) -> None:
    """Refuse what PostgreSQL cannot store: U+0000 and halves of surrogate pairs.

    Raises:
        FieldFault: `format`.
    """
    if "\x00" in value:
        raise FieldFault("format", "Must not contain the character U+0000.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise FieldFault("format", "Must not contain half of a surrogate pair.") from None


class StringType(FieldType):
    """`string`: varchar(maxLength), 255 characters unless the field says otherwise.

    Characters are code points, as PostgreSQL counts them, and compare by code point (collation
    "C") unless the field names a locale. Where the field is part of an index, the bytes of a
    value are bounded too, because an index entry cannot be longer than a third of a page.
    """

    name = "string"
    operators = EQUALITY | ORDER | TEXT
    aggregates = frozenset({"min", "max"})
    constraint_keys = frozenset({"minLength", "maxLength", "pattern", "format"})

    default_max_length: ClassVar[int] = 255
    #: PostgreSQL's own bound on varchar(n).
    highest_max_length: ClassVar[int] = 10_485_760

    def max_length(self, definition: FieldDefinition) -> int:
        """Return the most characters the field holds."""
        declared = definition.constraints.get("maxLength")
        return self.default_max_length if declared is None else int(declared)

    def column_type(self, definition: FieldDefinition) -> sa.types.TypeEngine[Any]:
        """Return varchar(n) with the field's collation."""
        return sa.String(self.max_length(definition), collation=collation_of(definition))

    def from_json(self, value: Any, definition: FieldDefinition) -> str:
        """Take text that PostgreSQL can store."""
        if not isinstance(value, str):
            raise FieldFault("type", f"Must be a string, not {kind_of(value)}.")
        check_text(value)
        return value

    def from_text(self, text: str, definition: FieldDefinition) -> str:
        """Take the text as it is."""
        return self.from_json(text, definition)

    def loader(
        self, definition: FieldDefinition, *, from_wire: bool = True, max_bytes: int | None = None
    ) -> Callable[[Any], Any]:
        """Return the loader; lengths are judged before anything reads the text."""
        highest, lowest = self.max_length(definition), int(definition.constraints.get("minLength") or 0)
        if max_bytes is None and (definition.index or definition.unique is not None):
            max_bytes = MAX_INDEXED_BYTES
        inner = super().loader(definition, from_wire=from_wire, max_bytes=max_bytes)
        bytes_matter = max_bytes is not None and highest * 4 > max_bytes
        is_all = not self.checks(definition) and definition.enum is None

        def load(value: Any) -> Any:
            if isinstance(value, str):
                length = len(value)
                if length > highest:
                    raise FieldFault("too_long", f"Must have at most {counted(highest, 'character')}.")
                if length < lowest:
                    raise FieldFault("too_short", f"Must have at least {counted(lowest, 'character')}.")
            if is_all and type(value) is str:
                check_text(value)
            else:
                value = inner(value)
            if bytes_matter and max_bytes is not None and len(value.encode()) > max_bytes:
                raise FieldFault("too_long", f"Must have at most {max_bytes} bytes of UTF-8.")
            return value

        return load

    def checks(self, definition: FieldDefinition) -> list[Check]:
        """Return the pattern and the format; lengths are judged by the loader."""
        found: list[Check] = []
        if (pattern := definition.constraints.get("pattern")) is not None:
            found.append(_must(compile_pattern(pattern), "pattern", f"Must match the pattern {pattern}"))
        if (word := definition.constraints.get("format")) is not None:
            found.append(_must(FORMATS[word], "format", f"Must have the format {word}."))
        return found

    def check(self, definition: FieldDefinition) -> list[str]:
        """Return what is wrong with lengths, pattern, format and index."""
        words = definition.constraints
        problems = _length_problems(words, self.highest_max_length)
        if "pattern" in words and (problem := pattern_problem(words["pattern"])) is not None:
            problems.append(problem)
        if "format" in words and words["format"] not in FORMATS:
            meant = nearest(str(words["format"]), FORMATS)
            problems.append(f"format {words['format']!r} is not known. {meant}".strip())
        if problems:
            return problems
        lowest, highest = words.get("minLength") or 0, self.max_length(definition)
        if lowest > highest:
            problems.append(f"minLength is above maxLength ({highest} unless declared)")
        if (definition.index or definition.unique is not None) and highest > MAX_INDEXED_LENGTH:
            problems.append(f"an indexed or unique text needs a maxLength of at most {MAX_INDEXED_LENGTH}")
        return problems

    def json_schema(self, definition: FieldDefinition) -> dict[str, Any]:
        """Return a string's schema."""
        words = definition.constraints
        schema: dict[str, Any] = {"type": "string", "maxLength": self.max_length(definition)}
        schema |= {key: words[key] for key in ("minLength", "pattern", "format") if key in words}
        meaning = FORMAT_PATTERNS.get(str(words.get("format")))
        if meaning is not None:
            schema |= {"allOf": [{"pattern": meaning}]} if "pattern" in schema else {"pattern": meaning}
        return schema

    def example(self, definition: FieldDefinition) -> Any:
        """Return a text of the field's format and length."""
        text = _EXAMPLES.get(str(definition.constraints.get("format")), "text")
        text = text.ljust(int(definition.constraints.get("minLength") or 0), "x")
        return text[: self.max_length(definition)]

    def constraints_schema(self) -> Mapping[str, Any]:
        """Return the schema of lengths, pattern and format."""
        return {
            "minLength": {"type": "integer", "minimum": 0},
            "maxLength": {"type": "integer", "minimum": 1, "maximum": self.highest_max_length},
            "pattern": {"type": "string", "maxLength": 1_000},
            "format": {"type": "string", "enum": sorted(FORMATS)},
        }


def collation_of(definition: FieldDefinition) -> str:
    """Return the collation of a text's column: code point order, or that of the field's locale."""
    return f"{definition.locale}-x-icu" if definition.locale else "C"


def _must(holds: Callable[[str], bool], code: str, message: str) -> Check:
    def check(value: Any) -> None:
        if not holds(value):
            raise FieldFault(code, message)

    return check


def _length_problems(words: Mapping[str, Any], highest: int) -> list[str]:
    problems = []
    for key, least in (("minLength", 0), ("maxLength", 1)):
        value = words.get(key)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and least <= value <= highest):
            problems.append(f"{key} must be an integer from {least} to {highest}")
    return problems
