"""From files to declared resources: strict JSON, the accepted outer shapes, `include`, framework parts.

In goes the text of `resources.json`; out come resources whose form is checked, each with the path
at which it stands, its service and its version. What they mean together is judged later.
"""

from __future__ import annotations

import glob
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from importlib import resources as package_files
from pathlib import Path
from typing import Any, Final, Protocol

from byodpp.grammar.shapes import Checker
from byodpp.grammar.values import BAD, Checked, step
from byodpp.suggestion import nearest

__all__ = ["Declared", "Files", "FolderFiles", "MemoryFiles", "Source", "part_names"]

_MAX_DEPTH: Final = 64  # of nesting, in a manifest
_PART = "byodpp:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A resource as it was written, its form checked."""

    body: Checked
    service: str
    version: str
    part: str | None = None  # the framework part that declares it

    @property
    def path(self) -> str:
        """Where it stands."""
        return self.body.path


class Files(Protocol):
    """The application's folder, as far as the manifest sees it."""

    def matching(self, pattern: str) -> list[str] | None:
        """Return the files that match, sorted; None when there is no such folder or file."""
        ...

    def read(self, name: str) -> bytes: ...


class FolderFiles:
    """Files below a folder; links that lead out of it are not followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def matching(self, pattern: str) -> list[str] | None:
        if not glob.has_magic(pattern):
            return [pattern] if self._inside(self._folder / pattern) else None
        if not (self._folder / re.split(r"[^/]*[*?\[]", pattern, maxsplit=1)[0]).is_dir():
            return None
        found = [path for path in self._folder.glob(pattern) if self._inside(path)]
        return sorted(path.relative_to(self._folder).as_posix() for path in found)

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def _inside(self, path: Path) -> bool:
        return path.is_file() and path.resolve().is_relative_to(self._folder)


class MemoryFiles:
    """Files that exist only as a mapping from name to text."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def matching(self, pattern: str) -> list[str] | None:
        wanted = (
            re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        )
        return sorted(name for name in self._texts if re.fullmatch(wanted, name)) or None

    def read(self, name: str) -> bytes:
        return self._texts[name].encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a document is read: its file, and the service its plain resources belong to."""

    file: str = "resources.json"
    trail: tuple[str, ...] = ()  # files that are being included, outermost first
    service: str = "application"
    version: str = "v1"
    part: str | None = None


@dataclass(slots=True)
class Source:
    """One reading of a manifest with everything that it includes."""

    checker: Checker
    files: Files
    declared: list[Declared] = field(default_factory=list)
    included_parts: set[str] = field(default_factory=set)
    title: str = ""  # of the API, from the outermost object
    description: str = ""
    services: dict[str, str] = field(default_factory=dict)  # name -> description, where there is one
    _seen: set[str] = field(default_factory=set)

    def read(self, document: Any) -> None:
        """Read the outermost document, given as text or as parsed JSON, then the framework's parts."""
        before = len(self.checker.problems)
        self._document(document, "$", _Place(trail=("resources.json",)))
        if not self.declared and not self.included_parts and len(self.checker.problems) == before:
            self.checker.report(
                "$",
                "the manifest declares no resource",
                'Begin with {"resources": [{"name": "Products", "fields": {"name": {"type": "string"}}}]}.',
            )
        for name in part_names():
            text = package_files.files("byodpp").joinpath("parts", f"{name}.json").read_bytes()
            self._document(text, f"{_PART}{name}:$", _Place(file="", service=f"{_PART}{name}", part=name))

    def _document(self, document: Any, path: str, place: _Place) -> None:
        if isinstance(document, str | bytes):
            document = _parse(document, path, self.checker)
        if document is not BAD:
            document = _normal(document, path, self.checker)
        if document is not BAD:
            self._any_shape(document, path, place)

    def _any_shape(self, document: Any, path: str, place: _Place) -> None:
        if isinstance(document, list):
            for index, item in enumerate(document):
                self._list_item(item, step(path, index), place)
        elif isinstance(document, dict):
            self._object(document, path, place)
        else:
            self.checker.report(
                path, "expected a list of services, or an object with `services` or `resources`"
            )

    def _list_item(self, item: Any, path: str, place: _Place) -> None:
        if isinstance(item, dict) and self._is_resource(item):
            self._resource(item, path, place)
        elif isinstance(item, dict) and item.keys() <= {"include", "$comment"}:
            self._object(item, path, place)
        else:
            self._service(item, path, place)

    def _object(self, document: dict[str, Any], path: str, place: _Place) -> None:
        """Read the object form, or a single resource."""
        if self._is_resource(document):
            self._resource(document, path, place)
            return
        outer, lists = self._shallow("manifest", document, path, ("services", "resources"))
        if path == "$":
            self.title, self.description = outer.get("title", ""), outer.get("description", "")
        inner = _Place(
            file=place.file,
            trail=place.trail,
            service=outer.get("name", place.service),
            version=self._version(outer, place.version),
            part=place.part,
        )
        for one, where in lists["services"]:
            self._service(one, where, place)
        for one, where in lists["resources"]:
            self._resource(one, where, inner)
        self._include(outer, inner)

    def _service(self, document: Any, path: str, place: _Place) -> None:
        if not isinstance(document, dict):
            reason = f"expected a service, found {json.dumps(document, default=str)[:40]}"
            self.checker.report(path, reason, 'Example: {"name": "catalogue", "resources": []}')
            return
        service, lists = self._shallow("service", document, path, ("resources",))
        if "resources" not in document and "include" not in document:
            self.checker.report(
                path, "a service needs `resources`", 'Example: {"name": "catalogue", "resources": []}'
            )
        inner = _Place(
            file=place.file,
            trail=place.trail,
            service=service.get("name", place.service),
            version=self._version(service, "v1"),
            part=place.part,
        )
        if told := service.get("description", ""):
            self.services.setdefault(inner.service, told)
        for one, where in lists["resources"]:
            self._resource(one, where, inner)
        self._include(service, inner)

    def _version(self, checked: Checked, otherwise: str) -> str:
        """Return the version; a malformed one is one of its own: nothing then seems declared twice."""
        return "v0" if "version" in checked.broken else checked.get("version", otherwise)

    def _shallow(
        self, level: str, document: dict[str, Any], path: str, inside: tuple[str, ...]
    ) -> tuple[Checked, dict[str, list[tuple[Any, str]]]]:
        """Check a level but for the lists named, which are returned item by item with their paths."""
        emptied = {
            key: [] if key in inside and isinstance(value, list) else value for key, value in document.items()
        }
        checked = self.checker.levels[level].judge(emptied, path, self.checker)
        lists = {
            key: [(one, step(step(path, key), index)) for index, one in enumerate(document[key])]
            if isinstance(document.get(key), list)
            else []
            for key in inside
        }
        return checked, lists

    def _resource(self, document: Any, path: str, place: _Place) -> None:
        if not isinstance(document, dict):
            self.checker.report(
                path, "expected a resource, an object with a `name`", 'Example: {"name": "Products"}'
            )
            return
        body = self.checker.levels["resource"].judge(document, path, self.checker)
        self.declared.append(
            Declared(body=body, service=place.service, version=place.version, part=place.part)
        )

    def _is_resource(self, document: dict[str, Any]) -> bool:
        if document.keys() & {"resources", "services"}:
            return False
        only_here = self.checker.levels["resource"].keys.keys() - self.checker.levels["service"].keys.keys()
        return bool(document.keys() & (only_here - {"title"}))

    def _include(self, checked: Checked, place: _Place) -> None:
        given = checked.get("include", ())
        patterns = [(given, checked.at("include"))] if isinstance(given, str) else _located(given)
        for pattern, path in patterns:
            if pattern.startswith(_PART):
                self._include_part(pattern.removeprefix(_PART), path)
            else:
                self._include_files(pattern, path, place)

    def _include_part(self, name: str, path: str) -> None:
        if name in part_names():
            self.included_parts.add(name)
        else:
            self.checker.report(path, f"the framework has no part {name!r}", nearest(name, part_names()))

    def _include_files(self, pattern: str, path: str, place: _Place) -> None:
        folder = posixpath.dirname(place.file)
        wanted = posixpath.normpath(posixpath.join(glob.escape(folder), pattern)) if pattern else "."
        if posixpath.isabs(pattern) or wanted == "." or wanted.split("/")[0] == ".." or "\\" in pattern:
            self.checker.report(
                path, f"{pattern!r} leads out of the application's folder", "Use a path below it, with /."
            )
            return
        found = self.files.matching(wanted)
        if found is None:
            self.checker.report(
                path, f"nothing is found at {pattern!r}", f"Patterns are relative to {place.file}."
            )
        for name in found or ():
            if name == place.file and glob.has_magic(pattern):
                continue
            if name in place.trail:
                trail = " -> ".join((*place.trail[place.trail.index(name) :], name))
                self.checker.report(
                    path, f"files include each other: {trail}", "Remove one of these includes."
                )
            elif name not in self._seen:
                self._seen.add(name)
                inner = _Place(
                    file=name, trail=(*place.trail, name), service=place.service, version=place.version
                )
                self._document(self.files.read(name), f"{name}:$", inner)


def part_names() -> tuple[str, ...]:
    """Return the names of the framework's parts."""
    found = package_files.files("byodpp").joinpath("parts").iterdir()
    return tuple(sorted(entry.name.removesuffix(".json") for entry in found if entry.name.endswith(".json")))


def _located(items: Any) -> Iterable[tuple[Any, str]]:
    return items.located() if hasattr(items, "located") else ()


class _Repeating(dict[str, Any]):
    """An object in which the same key was written more than once."""

    __slots__ = ("repeated",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.repeated = sorted({name for name in names if names.count(name) > 1})


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    return plain if len(plain) == len(pairs) else _Repeating(pairs)


def _parse(text: str | bytes, path: str, checker: Checker) -> Any:
    """Read JSON strictly: UTF-8, no NaN, exact numbers; say line and column of a mistake."""
    try:
        # Some editors begin a file with a byte order mark; it is no part of the text.
        decoded = (text.decode("utf-8") if isinstance(text, bytes) else text).removeprefix("\ufeff")
        return json.loads(
            decoded, object_pairs_hook=_pairs, parse_float=Decimal, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        line = bytes(text[: error.start]).count(b"\n") + 1 if isinstance(text, bytes) else 1
        checker.report(path, f"line {line}: the file is not UTF-8", "Save it as UTF-8.")
    except json.JSONDecodeError as error:
        shown = decoded.splitlines()[error.lineno - 1].strip()[:80] if decoded.strip() else ""
        reason = f"line {error.lineno}, column {error.colno}: not JSON: {error.msg}"
        advice = f"Near: {shown}" if shown else "The file is empty."
        if _after_comma(decoded[: error.pos]) and decoded[error.pos : error.pos + 1] in ("}", "]"):
            advice = f"Remove the comma before the {decoded[error.pos]}."
        checker.report(path, reason, advice)
    except RecursionError:
        checker.report(path, "the document is nested too deeply")
    except ValueError as error:
        checker.report(path, f"not JSON: {error}")
    return BAD


def _after_comma(text: str) -> bool:
    return text.rstrip().endswith(",")


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON number")


def _normal(value: Any, path: str, checker: Checker, depth: int = 0) -> Any:
    """Return parsed JSON with exact numbers; report repeated keys and text that cannot be stored."""
    if isinstance(value, dict):
        if depth > _MAX_DEPTH:
            checker.report(path, f"nested more than {_MAX_DEPTH} levels deep")
            return BAD
        for name in value.repeated if isinstance(value, _Repeating) else ():
            checker.report(step(path, name), f"the key {name!r} is given twice", "Keep one of them.")
        pairs = ((key, _normal(one, step(path, str(key)), checker, depth + 1)) for key, one in value.items())
        return {key: one for key, one in pairs if one is not BAD}
    if isinstance(value, list | tuple):
        if depth > _MAX_DEPTH:
            checker.report(path, f"nested more than {_MAX_DEPTH} levels deep")
            return BAD
        items = (_normal(one, step(path, index), checker, depth + 1) for index, one in enumerate(value))
        return [one for one in items if one is not BAD]
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, str) and ("\x00" in value or not _encodable(value)):
        checker.report(
            path, "the text holds a character that cannot be stored (NUL or half a surrogate pair)"
        )
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
