"""The pieces of a documentation page: text, tables of schemas, examples, curl lines.

In: parts of the OpenAPI document, whose components a `Resolver` finds. Out: HTML in which
everything that came from outside is escaped. Rejects nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

__all__ = [
    "Resolver",
    "code_block",
    "curl",
    "example_of",
    "filter_table",
    "prose",
    "schema_rows",
    "type_words",
]

_CODE: Final = re.compile(r"`([^`]+)`")
_BOLD: Final = re.compile(r"\*\*([^*]+)\*\*")
#: Tokens of JSON in escaped text: a key, another string, a number, a word.
_TOKENS: Final = re.compile(
    r"(?P<key>&quot;(?:(?!&quot;).)*&quot;)(?=\s*:)|(?P<text>&quot;(?:(?!&quot;).)*&quot;)"
    r"|(?P<word>\b(?:true|false|null)\b)|(?P<number>-?\b\d[\d.eE+-]*)"
)
_DEEPEST: Final = 3
#: Characters of a shell line that fit beside the text.
_LINE: Final = 60
_LISTED: Final = 12


class Resolver:
    """Follows `$ref` inside one document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def __call__(self, value: Any) -> Any:
        """Return what a reference leads to; anything else as it is."""
        while isinstance(value, Mapping) and "$ref" in value:
            found: Any = self._document
            for step in str(value["$ref"]).removeprefix("#/").split("/"):
                found = found[step.replace("~1", "/").replace("~0", "~")]
            value = found
        return value


# --- text ---------------------------------------------------------------------------------


def prose(text: str) -> str:
    """Return paragraphs; backticks are code, double stars are bold."""
    paragraphs = (part.strip() for part in text.split("\n\n"))
    return "".join(f"<p>{inline(part)}</p>" for part in paragraphs if part)


def inline(text: str) -> str:
    """Return one line of text."""
    pieces = _CODE.split(text)
    return "".join(
        f"<code>{escape(piece)}</code>" if index % 2 else _BOLD.sub(r"<strong>\1</strong>", escape(piece))
        for index, piece in enumerate(pieces)
    )


def code_block(text: str, *, language: str, label: str) -> str:
    """Return a block of code with its label; a script adds the button that copies it."""
    shown = _coloured(escape(text)) if language == "json" else escape(text)
    return (
        f'<figure class="code"><figcaption>{escape(label)}</figcaption>'
        f'<pre tabindex="0" aria-label="{escape(label)}"><code class="{language}">{shown}</code></pre>'
        "</figure>"
    )


def _coloured(escaped: str) -> str:
    return _TOKENS.sub(lambda found: f'<i class="{found.lastgroup}">{found[0]}</i>', escaped)


def curl(method: str, path: str, *, body: Any = None, media_type: str = "", token: bool = True) -> str:
    """Return a line for a shell; `$TOKEN` and `$API` are the reader's."""
    parts = ["curl -sS" if method == "get" else f"curl -sS -X {method.upper()}", f'"$API{path}"']
    if token:
        parts.append('-H "Authorization: Bearer $TOKEN"')
    if body is not None:
        text = json.dumps(body, ensure_ascii=False)
        if len(text) > _LINE:
            text = json.dumps(body, ensure_ascii=False, indent=2)
        text = text.replace("'", "'\\''")
        parts += [f'-H "Content-Type: {media_type}"', f"-d '{text}'"]
    line = " ".join(parts)
    return line if len(line) <= _LINE else " \\\n  ".join(parts)


# --- schemas ------------------------------------------------------------------------------


def schema_rows(schema: Any, resolve: Resolver, *, prefix: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the rows of a table: name, type, meaning. Objects inside follow with dotted names."""
    schema = resolve(schema)
    required = schema.get("required", ())
    for name, found in (schema.get("properties") or {}).items():
        one = resolve(found)
        told = dict(one) | {key: value for key, value in found.items() if key != "$ref"}
        yield _row(f"{prefix}{name}", told, resolve, required=name in required)
        inner = _object_inside(one, resolve)
        if inner is not None and depth < _DEEPEST:
            yield from schema_rows(inner, resolve, prefix=f"{prefix}{name}.", depth=depth + 1)


def _row(name: str, schema: Mapping[str, Any], resolve: Resolver, *, required: bool) -> str:
    marks = '<span class="mark must">required</span>' if required else ""
    marks += '<span class="mark">read-only</span>' if schema.get("readOnly") else ""
    marks += '<span class="mark">write-only</span>' if schema.get("writeOnly") else ""
    head, dot, tail = name.rpartition(".")
    shown = f'<span class="path">{escape(head + dot)}</span>{escape(tail)}'
    default = schema.get("default")
    told = f" Default <code>{escape(json.dumps(default))}</code>." if "default" in schema else ""
    return (
        f'<tr><th scope="row"><code>{shown}</code>{marks}</th>'
        f'<td class="type">{type_words(schema, resolve)}</td>'
        f"<td>{inline(str(schema.get('description', '')))}{told}</td></tr>"
    )


def _object_inside(schema: Mapping[str, Any], resolve: Resolver) -> Any:
    """Return the object whose properties are worth listing; a related row is described elsewhere."""
    if "properties" in schema:
        return schema
    items = schema.get("items")
    if isinstance(items, Mapping) and "$ref" not in items and "properties" in items:
        return items
    return None


def type_words(schema: Any, resolve: Resolver) -> str:
    """Return a type as a reader says it: `string, 1 to 255 characters`."""
    if isinstance(schema, Mapping) and "$ref" in schema:
        return f"<span>{escape(str(schema['$ref']).rsplit('/', 1)[-1])}</span>"
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    several = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if several:
        words = " or ".join(dict.fromkeys(type_words(one, resolve) for one in several))
        return words + (_NULL if len(several) < len(schema["anyOf"]) else "")
    kinds = schema.get("type", "any value")
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    null = _NULL if "null" in kinds else ""
    words = " or ".join(kind for kind in kinds if kind != "null")
    if words == "array" and "items" in schema:
        words = f"list of {type_words(schema['items'], resolve)}"
    elif schema.get("format") and schema["format"] not in ("int32", "double", "decimal"):
        words = f"{words}, {escape(schema['format'])}"
    if "enum" in schema:
        shown = [f"<code>{escape(str(one))}</code>" for one in schema["enum"] if one is not None]
        more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
        return f"one of {' '.join(shown[:_LISTED])}{more}{null}"
    return words + _bounds(schema) + null


_NULL: Final = ' <span class="mark">or null</span>'
#: The widest numbers of the types; saying them tells a reader nothing.
_WIDEST: Final = frozenset({-(2**31), 2**31 - 1, -(2**63), 2**63 - 1})


def _bounds(schema: Mapping[str, Any]) -> str:
    told = []
    for low, high, unit in (
        ("minLength", "maxLength", " characters"),
        ("minimum", "maximum", ""),
        ("minItems", "maxItems", " items"),
    ):
        least, most = schema.get(low), schema.get(high)
        least, most = (None if one in _WIDEST else one for one in (least, most))
        if least is not None and most is not None:
            told.append(f"{least} to {most}{unit}")
        elif most is not None:
            told.append(f"at most {most}{unit}")
        elif least is not None:
            told.append(f"at least {least}{unit}")
    told += [
        f"{word} {bound}"
        for word, bound in (
            ("above", schema.get("exclusiveMinimum")),
            ("below", schema.get("exclusiveMaximum")),
        )
        if bound is not None and not _is_width(schema, bound)
    ]
    step = schema.get("multipleOf")
    if step is not None:
        places = round(-math.log10(step)) if step > 0 else 0
        exact = places > 0 and math.isclose(step, 10.0**-places)
        told.append(f"{places} decimal places" if exact else f"in steps of {step}")
    if "pattern" in schema and len(schema["pattern"]) <= 60:
        told.append(f"<code>{escape(schema['pattern'])}</code>")
    return "".join(f", {one}" for one in told)


def _is_width(schema: Mapping[str, Any], bound: float) -> bool:
    """Tell whether a bound is that of a decimal's digits, which its decimal places say already."""
    return schema.get("format") == "decimal" and abs(bound) >= 1 and math.log10(abs(bound)).is_integer()


def filter_table(schema: Mapping[str, Any], resolve: Resolver) -> str:
    """Return which operators each field takes in `filter`."""
    rows = []
    for name, found in schema.get("properties", {}).items():
        if name in ("and", "or", "not"):
            continue
        words = list(_operators(found, resolve))
        shown = " ".join(f"<code>{escape(word)}</code>" for word in words)
        rows.append(f'<tr><th scope="row"><code>{escape(name)}</code></th><td>{shown}</td></tr>')
    return "".join(rows)


def _operators(schema: Mapping[str, Any], resolve: Resolver) -> Iterator[str]:
    if str(schema.get("$ref", "")).endswith("Filter"):
        yield "…"
        return
    schema = resolve(schema)
    for one in (schema, *schema.get("anyOf", ())):
        yield from (resolve(one).get("properties") or {})


# --- examples -----------------------------------------------------------------------------

_PLAIN: Final[Mapping[str, Any]] = {
    "string": "text",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "null": None,
    "object": {},
}
_FORMATS: Final = {
    "date-time": "2025-01-31T08:00:00.000000Z",
    "date": "2025-01-31",
    "uri": "https://example.com/a",
}


def example_of(schema: Any, resolve: Resolver, depth: int = 0) -> Any:
    """Return a value that shows what a schema describes."""
    schema = resolve(schema)
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("anyOf"):
        return example_of(schema["anyOf"][0], resolve, depth)
    kinds = schema.get("type")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    if depth > _DEEPEST * 2:
        return None
    if kind == "array":
        return [example_of(schema.get("items", {}), resolve, depth + 1)]
    if "properties" in schema:
        return {
            name: example_of(one, resolve, depth + 1)
            for name, one in schema["properties"].items()
            if name in schema.get("required", ()) or name not in ("message", "next")
        }
    return _FORMATS.get(str(schema.get("format")), _PLAIN.get(str(kind)))
