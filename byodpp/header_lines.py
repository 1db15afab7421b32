"""Headers of an answer as the lines that go out: checked and written once, read as pairs by any server.

In: names and values, or headers that are the same on every answer. Out: `HeaderLines`, which ASGI takes
for a list of pairs and our own server for bytes that need no second look. May reject: `header_line`
(ValueError), so that nobody's data becomes a header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Final, overload

__all__ = ["HeaderLines", "StandingHeaders", "header_line", "header_name"]

Pair = tuple[bytes, bytes]

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: No control character but the tab; a line break would begin another header.
_UNFIT: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
#: Selections of standing headers that are remembered; answers replace few of them, and always the same.
_REMEMBERED: Final = 64


def header_line(name: str, value: str) -> bytes:
    """Return a header as its line, the name in lower case.

    Raises:
        ValueError: the name is none, or the value holds a line break or another control character.
    """
    sent = header_name(name)
    if _UNFIT.search(value):
        raise ValueError(f"header {name} holds a line break or another control character")
    return b"".join((sent, b": ", value.encode("latin-1"), b"\r\n"))


@lru_cache(maxsize=256)
def header_name(name: str) -> bytes:
    """Return the name of a header as it goes out, in lower case.

    Raises:
        ValueError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a header")
    return name.lower().encode("ascii")


class HeaderLines(Sequence[Pair]):
    """All headers of one answer."""

    __slots__ = ("closes", "content_length", "lines")

    def __init__(self, lines: bytes, *, content_length: int | None = None, closes: bool = False) -> None:
        """Args:
        lines: of `header_line`, each with its line end.
        content_length: as one of the lines tells it; None when none does.
        closes: whether one of the lines ends the connection.
        """
        self.lines = lines
        self.content_length = content_length
        self.closes = closes

    def _pairs(self) -> list[Pair]:
        found = []
        for line in self.lines.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b": ")
            found.append((name, value))
        return found

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        return self._pairs()[index]

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs())

    def __len__(self) -> int:
        return self.lines.count(b"\r\n")


class StandingHeaders:
    """Headers that every answer has, unless it brings its own of that name."""

    __slots__ = ("_all", "_names", "_remembered", "pairs")

    def __init__(self, pairs: Iterable[Pair]) -> None:
        """Args:
        pairs: names in lower case.
        """
        self.pairs = tuple(pairs)
        self._names = frozenset(name for name, _ in self.pairs)
        self._all = b"".join(b"%b: %b\r\n" % pair for pair in self.pairs)
        self._remembered: dict[AbstractSet[bytes], bytes] = {}

    def lines(self, own: AbstractSet[bytes]) -> bytes:
        """Return the lines for an answer.

        Args:
            own: names of the answer's own headers, in lower case.
        """
        if self._names.isdisjoint(own):
            return self._all
        replaced = self._names & own
        known = self._remembered.get(replaced)
        if known is None:
            known = b"".join(b"%b: %b\r\n" % pair for pair in self.pairs if pair[0] not in replaced)
            if len(self._remembered) < _REMEMBERED:
                self._remembered[replaced] = known
        return known
