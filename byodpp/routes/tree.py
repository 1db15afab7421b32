"""The tree of path segments under the table of routes.

In: patterns, put in segment by segment. Out: what is served at a path, and the raw values of
its parameters; each decoded once. May reject: `decoded` and `check_path` (Malformed,
InvalidEncoding).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from byodpp.exceptions import InvalidEncoding, Malformed

__all__ = ["PARAMETER", "Node", "check_path", "crossing", "decoded"]

T = TypeVar("T")

#: A segment of a pattern that matches anything.
PARAMETER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
#: The byte "%". To look for bytes in bytes is to try them as a number first, and to fail with words.
_PERCENT: Final = 0x25
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")


class Node(Generic[T]):
    """One place in the tree of segments."""

    __slots__ = ("parameter", "served", "statics")

    def __init__(self) -> None:
        self.statics: dict[bytes, Node[T]] = {}
        self.parameter: Node[T] | None = None
        self.served: T | None = None

    def find(self, segments: Sequence[bytes], index: int, values: list[bytes]) -> T | None:
        """Walk down from here; `values` collects what parameters matched."""
        node, length = self, len(segments)
        while index < length and node.parameter is None:  # one way at most
            child = node.statics.get(segments[index])
            if child is None:
                break
            node, index = child, index + 1
        return node._turn(segments, index, values)

    def _turn(self, segments: Sequence[bytes], index: int, values: list[bytes]) -> T | None:
        """Go on where there may be several ways."""
        if index == len(segments):
            return self.served
        segment = segments[index]
        child = self.statics.get(segment)
        if child is None and _PERCENT in segment:
            child = self.statics.get(unquote_to_bytes(segment))
        if child is not None:
            found = child.find(segments, index + 1, values)
            if found is not None:
                return found
        if self.parameter is not None and segment:
            values.append(segment)
            found = self.parameter.find(segments, index + 1, values)
            if found is not None:
                return found
            values.pop()
        return None


def crossing(node: Node[T], parts: Sequence[str], index: int, *, narrower: bool, wider: bool) -> Iterator[T]:
    """Yield routes that match addresses of `parts` and are narrower here and wider there."""
    if index == len(parts):
        if narrower and wider and node.served is not None:
            yield node.served
        return
    part = parts[index]
    following = partial(crossing, parts=parts, index=index + 1)
    if PARAMETER.fullmatch(part):
        for child in node.statics.values():
            yield from following(child, narrower=True, wider=wider)
        if node.parameter is not None:
            yield from following(node.parameter, narrower=narrower, wider=wider)
        return
    if part.encode() in node.statics:
        yield from following(node.statics[part.encode()], narrower=narrower, wider=wider)
    if node.parameter is not None:
        yield from following(node.parameter, narrower=narrower, wider=True)


def decoded(segment: bytes) -> str:
    """Decode a parameter once.

    Raises:
        Malformed: it holds a broken escape, a control character, or is a dot segment.
        InvalidEncoding: it is not UTF-8.
    """
    raw = segment
    if _PERCENT in segment:
        if _BAD_ESCAPE.search(segment):
            raise Malformed("The path holds a % that no two hexadecimal digits follow.")
        raw = unquote_to_bytes(segment)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidEncoding("The path is not valid UTF-8.") from None
    if _CONTROL.search(text):
        raise Malformed("The path holds a control character.")
    if text in (".", ".."):
        raise Malformed("The path holds a dot segment.")
    return text


def check_path(raw_path: bytes) -> None:
    """Raise what `decoded` raises if any segment of a path cannot be read."""
    for segment in raw_path.split(b"/"):
        decoded(segment)
