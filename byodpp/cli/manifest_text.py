"""Adding a resource to the text of a manifest without touching what stands in it already.

Comes in: the text of `resources.json` and a resource as JSON. Goes out: the new text, which differs
in the inserted lines only. May refuse a text in which there is no list of resources (ValueError).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from json import JSONDecoder
from typing import Any, Final

__all__ = ["insert_resource"]

_BLANKS: Final = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class _List:
    """Where a JSON array of a text begins and ends, and where its last element ends."""

    start: int  # of `[`
    last: int | None  # just behind the last element; None in an empty array
    first: int | None  # of the first element


def insert_resource(text: str, resource: dict[str, Any]) -> str:
    """Return the manifest's text with a resource added at the end of its first list of resources.

    Args:
        text: JSON in one of the manifest's shapes: a list of services, `{"services": […]}`, or
            `{"resources": […]}`.
        resource: the resource; its keys keep their order.

    Raises:
        ValueError: the text is not JSON, or has no list of resources.
    """
    found = _list_at(text, _path_to_resources(json.loads(text)))
    unit = _unit(text)
    if found.first is None or found.last is None:
        margin = _margin(text, found.start) + unit
        block = _block(resource, unit, margin)
        head, tail = text[: found.start + 1], text[_closing(text, found) :]
        return f"{head}\n{margin}{block}\n{_margin(text, found.start)}{tail}"
    margin = _margin(text, found.first)
    return f"{text[: found.last]},\n{margin}{_block(resource, unit, margin)}{text[found.last :]}"


def _path_to_resources(manifest: Any) -> list[str | int]:
    services: list[str | int] = []
    if isinstance(manifest, dict) and isinstance(manifest.get("resources"), list):
        return ["resources"]
    if isinstance(manifest, dict) and isinstance(manifest.get("services"), list):
        manifest, services = manifest["services"], ["services"]
    if isinstance(manifest, list):
        for number, service in enumerate(manifest):
            if isinstance(service, dict) and isinstance(service.get("resources"), list):
                return [*services, number, "resources"]
    raise ValueError("there is no list of resources to add to")


def _list_at(text: str, path: list[str | int]) -> _List:
    """Walk along `path` and return where the array at its end lies."""
    position = _skip(text, 0)
    for step in path:
        position = _child(text, position, step)
    first = last = None
    for start, end, _ in _children(text, position):
        first = start if first is None else first
        last = end
    return _List(position, last, first)


def _child(text: str, position: int, step: str | int) -> int:
    # The last of equal keys wins, as it does for json.loads.
    return [start for start, _, key in _children(text, position) if key == step][-1]


def _children(text: str, position: int) -> list[tuple[int, int, str | int]]:
    """Return (start, end, key or index) of every value in the object or array at `position`."""
    scan = JSONDecoder().raw_decode
    is_object = text[position] == "{"
    found: list[tuple[int, int, str | int]] = []
    position = _skip(text, position + 1)
    while text[position] not in "]}":
        key: str | int = len(found)
        if is_object:
            key, position = scan(text, position)
            position = _skip(text, _skip(text, position) + 1)
        _, end = scan(text, position)
        found.append((position, end, key))
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    return found


def _skip(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return match.end() if match else position


def _closing(text: str, found: _List) -> int:
    return _skip(text, found.start + 1)


def _margin(text: str, position: int) -> str:
    """Return the white space that begins the line of `position`."""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line[: len(line) - len(line.lstrip())]


def _unit(text: str) -> str:
    """Return what one level is indented by: that of the first indented line, else two blanks."""
    match = re.search(r"\n([ \t]+)\S", text)
    return match.group(1) if match else "  "


def _block(resource: dict[str, Any], unit: str, margin: str) -> str:
    text = json.dumps(resource, ensure_ascii=False, indent=unit)
    # Small objects read better on one line, the way people write fields.
    text = re.sub(r"\{\s*((?:\"[^\"{}\[\]]*\": [^{}\[\]\n]+,?\s*)+)\}", _one_line, text)
    text = re.sub(r"\[\s*((?:\"[^\"]*\",?\s*)+)\]", _one_line, text)
    return text.replace("\n", "\n" + margin)


def _one_line(match: re.Match[str]) -> str:
    """Return an object or array on one line, without blanks inside its brackets."""
    found = match.group()
    return found[0] + " ".join(found[1:-1].split()) + found[-1]
