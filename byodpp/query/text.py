"""The query language's syntax: a query string, or the JSON of `/query`, becomes a RawQuery.

Comes from `controller`; goes to `query_judge`. Refuses what cannot be read (encoding,
brackets, repeated parameters, two forms of one filter); knows no resource, so it accepts
every name. A filter stays a tree of dicts and lists; its leaves are JSON values in the JSON
form and `Text` in the bracket form, where the field's type decides what the text means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from byodpp import wire
from byodpp.exceptions import ApiError, Detail, InvalidEncoding, InvalidQuery, QueryTooComplex, TooDeep

__all__ = [
    "FUNCTIONS",
    "Brackets",
    "RawInclude",
    "RawQuery",
    "RawSort",
    "Text",
    "pairs",
    "parse",
    "parse_json",
]

#: Functions of aggregates; `sum:price` is one word, also where a colon means something else.
FUNCTIONS: Final = ("count", "countDistinct", "sum", "avg", "min", "max")

#: More parameters than this are refused before they are read.
MAX_PARAMETERS: Final = 1_000
#: Names of one list.
MAX_NAMES: Final = 1_000
#: Brackets of one parameter.
MAX_SEGMENTS: Final = 64
#: Nesting of a filter in JSON; the resource's own bound is lower.
MAX_JSON_DEPTH: Final = 64

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NAME = re.compile(r"([^\[\]]*)((?:\[[^\[\]]*\])*)")
_SEGMENT = re.compile(r"\[([^\[\]]*)\]")
_SCALARS: Final = frozenset({"limit", "offset", "page", "cursor", "count", "search", "asOf"})
_ORDERS: Final = ("asc", "desc")
_NULLS: Final = ("nullsFirst", "nullsLast")


@dataclass(frozen=True, slots=True)
class Text:
    """A value of the query string, not yet of any type."""

    text: str


@dataclass(frozen=True, slots=True)
class RawSort:
    """One term of `sort`."""

    name: str  # a field, dotted when it lies behind relations, or the word of an aggregate or a group
    descending: bool
    nulls_first: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawInclude:
    """Options of one include path."""

    filter: Any = None
    sort: tuple[RawSort, ...] = ()
    limit: Any = None
    fields: tuple[str, ...] | None = None
    options: tuple[str, ...] = ()  # names of the options given


@dataclass(frozen=True, slots=True, kw_only=True)
class RawQuery:
    """A query that could be read; nothing about it is judged."""

    filter: Any = None  # a tree; None when there is none
    sort: tuple[RawSort, ...] = ()
    fields: tuple[str, ...] | None = None  # None: not restricted
    includes: Mapping[str, RawInclude] = field(default_factory=dict)  # by dotted path, in the order given
    fields_of: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # `fields[category]`, by dotted path
    scalars: Mapping[str, Any] = field(default_factory=dict)  # limit, offset, page, cursor, count, …
    aggregates: tuple[str, ...] = ()  # `sum:price`, …
    groups: tuple[str, ...] = ()  # `categoryId`, `month(createdAt)`, …
    having: Any = None  # a tree over words of aggregates; None when there is none
    unknown: tuple[str, ...] = ()  # parameters that this language does not have
    given: tuple[str, ...] = ()  # known parameters that were given, by their first word


def parse(query_string: bytes | str) -> RawQuery:
    """Read a query string.

    Raises:
        InvalidEncoding: it is not UTF-8.
        InvalidQuery: it cannot be read; all faults at once.
        QueryTooComplex: too many parameters or brackets.
    """
    reader = _Reader()
    for name, value in pairs(query_string):
        reader.take(name, value)
    return reader.finish()


def pairs(query_string: bytes | str) -> list[tuple[str, str]]:
    """Return the parameters of a query string, decoded, in the order in which they were given.

    Raises:
        InvalidEncoding: it is not UTF-8.
        InvalidQuery: it holds broken escapes, or more parameters than are read.
    """
    raw = query_string.encode("utf-8", "surrogateescape") if isinstance(query_string, str) else query_string
    if not raw:
        return []
    if raw.count(b"&") >= MAX_PARAMETERS:
        raise InvalidQuery(details=[Detail("", "too_many", f"At most {MAX_PARAMETERS} parameters are read.")])
    if _BAD_ESCAPE.search(raw):
        raise InvalidQuery(details=[Detail("", "format", "`%` must be followed by two hexadecimal digits.")])
    try:
        return [
            (_decoded(name), _decoded(value))
            for name, _, value in (piece.partition(b"=") for piece in raw.split(b"&") if piece)
        ]
    except UnicodeDecodeError:
        raise InvalidEncoding("The query is not valid UTF-8.") from None


def _decoded(part: bytes) -> str:
    return unquote_to_bytes(part.replace(b"+", b" ")).decode()


def parse_json(body: Any) -> RawQuery:
    """Read the JSON value of `POST …/query`: the same words, the filter as a tree.

    Raises:
        InvalidQuery: it is not an object, or a word has a value of the wrong kind.
    """
    if not isinstance(body, dict):
        raise InvalidQuery(details=[Detail("", "type", "A query is an object.")])
    if len(body) > MAX_PARAMETERS:
        raise InvalidQuery(details=[Detail("", "too_many", f"At most {MAX_PARAMETERS} parameters are read.")])
    reader = _Reader()
    for name, value in body.items():
        reader.take_json(name, value)
    return reader.finish()


@dataclass(slots=True)
class _Reader:
    """Collects parameters; `finish` makes the value or raises everything that was wrong."""

    filter: Any = None
    sort: tuple[RawSort, ...] = ()
    fields: tuple[str, ...] | None = None
    includes: dict[str, dict[str, Any]] = field(default_factory=dict)
    fields_of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    scalars: dict[str, Any] = field(default_factory=dict)
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)  # aggregate and group
    having: Any = None
    unknown: list[str] = field(default_factory=list)
    given: dict[str, None] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    faults: list[Detail] = field(default_factory=list)

    # --- the bracket form ---

    def take(self, name: str, value: str) -> None:
        """Take one parameter of a query string."""
        if "\0" in name or "\0" in value:
            return self._fault(name.replace("\0", ""), "format", "U+0000 is not text.")
        match = _NAME.fullmatch(name)
        if match is None:
            return self._fault(name, "format", "Brackets do not match.")
        segments = _SEGMENT.findall(match[2])
        if len(segments) > MAX_SEGMENTS:
            raise QueryTooComplex(details=[Detail(name[:100], "too_deep", "Too many brackets.")])
        if name in self.seen and not name.endswith("[]"):
            return self._fault(name, "repeated", "Given more than once.")
        self.seen.add(name)
        head = match[1]
        if not self._dispatch(head, segments, name, value):
            self.unknown.append(name)
        else:
            self.given[head] = None

    def _dispatch(self, head: str, segments: list[str], name: str, value: str) -> bool:
        """Return whether the parameter is one of the language's."""
        if head == "filter":
            self.filter = self._grow(self.filter, segments, name, value)
        elif head == "having":
            self.having = self._grow(self.having, segments, name, value)
        elif head == "include":
            self._take_include(segments, name, value)
        elif head == "fields" and len(segments) == 1 and segments[0]:
            self.fields_of[segments[0]] = self._names(name, value)
        elif segments:
            return False
        elif head == "fields":
            self.fields = self._names(name, value)
        elif head == "sort":
            self.sort = self._sorts(name, value)
        elif head in ("aggregate", "group"):
            self.lists[head] = self._names(name, value)
        elif head in _SCALARS:
            self.scalars[head] = Text(value)
        else:
            return False
        return True

    def _take_include(self, segments: list[str], name: str, value: str) -> None:
        if not segments or segments == [""]:
            if ("include" in self.seen) + ("include[]" in self.seen) > 1:
                return self._fault(
                    name, "repeated", "`include` and `include[]` are two forms of one parameter."
                )
            for path in self._names(name, value):
                if "" in self.includes.setdefault(path, {}):
                    self._fault(name, "repeated", f"{path!r} is included twice.")
                self.includes[path][""] = True
            return None
        path, option = segments[0], segments[1] if len(segments) > 1 else ""
        options = self.includes.setdefault(path, {})
        if option == "filter":
            options["filter"] = self._grow(options.get("filter"), segments[2:], name, value)
        elif len(segments) != 2:
            self._fault(name, "format", "Expected `include[relation][limit|filter|sort|fields]`.")
        elif option == "sort":
            options["sort"] = self._sorts(name, value)
        elif option == "fields":
            options["fields"] = self._names(name, value)
        elif option == "limit":
            options["limit"] = Text(value)
        else:
            self._fault(name, "unknown_option", "An include has the options limit, filter, sort, fields.")
        return None

    def _grow(self, tree: Any, segments: list[str], name: str, value: str) -> Any:
        """Return the filter tree with one more leaf, or the tree that `filter=` spells in JSON."""
        if not segments:
            if tree is not None:
                self._fault(name, "mixed", "A filter has one form: brackets or JSON.")
                return tree
            return self._json(name, value)
        if tree is not None and not (isinstance(tree, Brackets)):
            self._fault(name, "mixed", "A filter has one form: brackets or JSON.")
            return tree
        root = node = Brackets() if tree is None else tree
        for position, segment in enumerate(segments):
            key = segment or str(len(node))  # `[]` appends
            last = position == len(segments) - 1
            if last and key not in node:
                node[key] = Text(value)
            elif not last and isinstance(below := node.setdefault(key, Brackets()), Brackets):
                node = below
            else:
                self._fault(name, "conflict", "Another parameter gives this a different value.")
                break
        return root

    def _json(self, name: str, value: str) -> Any:
        try:
            tree = wire.loads(value.encode(), max_depth=MAX_JSON_DEPTH)
        except TooDeep:
            raise QueryTooComplex(
                details=[Detail(name, "too_complex", "The filter is nested too deeply.")]
            ) from None
        except ApiError as error:
            # The words are those for bodies.
            told = error.message.replace("The body", f"`{name}`").replace("of the body", f"of `{name}`")
            self._fault(name, error.error_code, told)
            return None
        if not isinstance(tree, dict):
            self._fault(name, "type", "A filter in JSON is an object.")
            return None
        return tree

    # --- the JSON form ---

    def take_json(self, name: str, value: Any) -> None:
        """Take one word of a query in JSON."""
        if name in ("fields", "include") and isinstance(value, dict) and len(value) > MAX_NAMES:
            self._fault(name, "too_many", f"At most {MAX_NAMES} names are read.")
        elif name in ("filter", "having"):
            if not isinstance(value, Mapping):
                return self._fault(name, "type", "A filter is an object.")
            if name == "filter":
                self.filter = value
            else:
                self.having = value
        elif name in ("aggregate", "group"):
            self.lists[name] = self._names(name, self._words(name, value))
        elif name == "sort":
            self.sort = self._sorts(name, self._words(name, value))
        elif name == "fields" and isinstance(value, dict):
            for path, names in value.items():
                self.fields_of[path] = self._names(f"fields[{path}]", self._words(name, names))
        elif name == "fields":
            self.fields = self._names(name, self._words(name, value))
        elif name == "include" and isinstance(value, dict):
            for path, options in value.items():
                self._take_options(path, options)
        elif name == "include":
            for path in self._names(name, self._words(name, value)):
                self.includes[path] = {"": True}
        elif name in _SCALARS:
            self.scalars[name] = value
        else:
            return self.unknown.append(name)
        self.given[name] = None
        return None

    def _take_options(self, path: str, options: Any) -> None:
        found = self.includes.setdefault(path, {})
        if options is True:
            return None
        if isinstance(options, dict) and len(options) > MAX_NAMES:
            return self._fault(f"include[{path}]", "too_many", f"At most {MAX_NAMES} options are read.")
        for option, value in (options if isinstance(options, dict) else {"": options}).items():
            name = f"include[{path}][{option}]"
            if option in ("limit", "filter"):
                found[option] = value
            elif option == "sort":
                found[option] = self._sorts(name, self._words(name, value))
            elif option == "fields":
                found[option] = self._names(name, self._words(name, value))
            elif option == "include" and isinstance(value, dict):
                for below, inner in value.items():
                    self._take_options(f"{path}.{below}", inner)
            elif option == "include":
                for below in self._names(name, self._words(name, value)):
                    self.includes.setdefault(f"{path}.{below}", {})
            else:
                known = "limit, filter, sort, fields, include"
                self._fault(name, "unknown_option", f"An include has the options {known}.")
        return None

    def _words(self, name: str, value: Any) -> str:
        """Return a list of words as the query string would spell it."""
        if isinstance(value, str):
            return value
        if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
            return ",".join(value)
        self._fault(name, "type", "Expected a text or a list of texts.")
        return "id"

    # --- both ---

    def _names(self, name: str, value: str) -> tuple[str, ...]:
        if value.count(",") >= MAX_NAMES:
            self._fault(name, "too_many", f"At most {MAX_NAMES} names are read.")
            return ()
        names = tuple(word.strip() for word in value.split(","))
        if "" in names:
            self._fault(name, "format", "An empty name.")
        if len(set(names)) != len(names):
            self._fault(name, "repeated", "A name occurs twice.")
        return names

    def _sorts(self, name: str, value: str) -> tuple[RawSort, ...]:
        terms = []
        if value.count(",") >= MAX_NAMES:
            self._fault(name, "too_many", f"At most {MAX_NAMES} names are read.")
            return ()
        for word in value.split(","):
            head, *modifiers = word.strip().split(":")
            descending = head.startswith("-")
            head = head.removeprefix("-")
            if head in FUNCTIONS and modifiers and modifiers[0] not in _ORDERS + _NULLS:
                head = f"{head}:{modifiers.pop(0)}"
            order = [word for word in modifiers if word in _ORDERS]
            nulls = [word for word in modifiers if word in _NULLS]
            if not head:
                self._fault(name, "format", "An empty name.")
            elif (
                len(order) + len(nulls) != len(modifiers)
                or len(order) > 1
                or len(nulls) > 1
                or (order and descending)
            ):
                self._fault(
                    name,
                    "format",
                    f"{word!r}: expected name, -name, name:asc or name:desc, then :nullsFirst or :nullsLast.",
                )
            terms.append(
                RawSort(head, descending or order == ["desc"], nulls == ["nullsFirst"] if nulls else None)
            )
        return tuple(terms)

    def _fault(self, name: str, code: str, message: str) -> None:
        if len(self.faults) < 100:
            self.faults.append(Detail(name[:200], code, message))

    def finish(self) -> RawQuery:
        """Return what was read, or raise every fault."""
        if self.faults:
            raise InvalidQuery(details=self.faults)
        includes = {
            path: RawInclude(options=tuple(filter(None, options)), **{k: v for k, v in options.items() if k})
            for path, options in self.includes.items()
        }
        return RawQuery(
            filter=self.filter,
            sort=self.sort,
            fields=self.fields,
            includes=includes,
            fields_of=self.fields_of,
            scalars=self.scalars,
            aggregates=self.lists.get("aggregate", ()),
            groups=self.lists.get("group", ()),
            having=self.having,
            unknown=tuple(self.unknown),
            given=tuple(self.given),
        )


class Brackets(dict[str, Any]):
    """A node of the bracket form; its own class, so that it is never taken for JSON."""
