"""Which media type an answer has: the `Accept` header against what a route can send.

In: the header's text. Out: a media type, an API version, or whether errors are wanted as
RFC 9457. May reject: `Negotiator.choose` (NotAcceptable), `Negotiator.version`
(UnsupportedVersion). A range that cannot be read counts as not sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from byodpp.exceptions import NotAcceptable, UnsupportedVersion

__all__ = ["JSON", "PROBLEM", "Negotiator", "body_type", "wants_problem"]

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
#: More distinct headers than this are judged anew each time instead of being remembered.
_REMEMBERED: Final = 256
_VERSION: Final = re.compile(r"application/vnd\.byo-dpp\.(v\d{1,4})\+json")
_QUALITY: Final = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


@dataclass(frozen=True, slots=True)
class _Range:
    """One element of an Accept header."""

    media_type: str  # in lower case, perhaps `text/*` or `*/*`
    quality: float  # 0 to 1


def _ranges(accept: str) -> list[_Range]:
    found = []
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality: float | None = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                quality = float(value) if _QUALITY.fullmatch(value := value.strip()) else None
        if media_type.count("/") == 1 and quality is not None:
            found.append(_Range(media_type, quality))
    return found


def _quality(media_type: str, ranges: Sequence[_Range]) -> float:
    """How much a type is wanted; the most precise range that covers it decides."""
    family = media_type.partition("/")[0] + "/*"
    for wanted in (media_type, family, "*/*"):
        matching = [entry.quality for entry in ranges if entry.media_type == wanted]
        if matching:
            return max(matching)
    return 0.0


def wants_problem(accept: str | None) -> bool:
    """Whether errors are to be sent as application/problem+json: it is named, and not below JSON."""
    if accept is None or "problem+json" not in accept.lower():
        return False
    ranges = _ranges(accept)
    named = max((entry.quality for entry in ranges if entry.media_type == PROBLEM), default=0.0)
    return 0 < named >= max((entry.quality for entry in ranges if entry.media_type == JSON), default=0.0)


class Negotiator:
    """Chooses media types and versions, remembering its answers to the headers it has seen."""

    __slots__ = ("_remembered", "_versions")

    def __init__(self, versions: Sequence[str]) -> None:
        """Args:
        versions: of the API, in order; the first is the default.
        """
        self._versions = tuple(versions)
        self._remembered: dict[tuple[str, tuple[str, ...], str], str | None] = {}

    def choose(self, accept: str | None, produces: tuple[str, ...], version: str) -> str:
        """Return the type to answer with.

        Args:
            accept: the header; None accepts everything.
            produces: what the route can send, best first.
            version: of the route; JSON is also known as `application/vnd.byo-dpp.<version>+json`.

        Raises:
            NotAcceptable: none of them is accepted.
        """
        if accept is None or accept in ("*/*", produces[0]):
            return produces[0]
        key = (accept, produces, version)
        if key in self._remembered:
            chosen = self._remembered[key]
        else:
            chosen = _choose(accept, produces, version)
            if len(self._remembered) < _REMEMBERED and len(accept) < _REMEMBERED:
                self._remembered[key] = chosen
        if chosen is None:
            raise NotAcceptable(f"This route answers with {', '.join(produces)} only.")
        return chosen

    def version(self, accept: str | None) -> str:
        """Return the version that an address without one means.

        Raises:
            UnsupportedVersion: versions are named and none of them is served.
        """
        wanted = [
            (-entry.quality, match[1])
            for entry in _ranges(accept or "")
            if entry.quality and (match := _VERSION.fullmatch(entry.media_type))
        ]
        for _, version in sorted(wanted, key=lambda pair: pair[0]):
            if version in self._versions:
                return version
        if wanted:
            known = ", ".join(self._versions)
            raise UnsupportedVersion(f"API version {wanted[0][1]} is not supported; there are {known}.")
        return self._versions[0] if self._versions else "v1"


def _choose(accept: str, produces: tuple[str, ...], version: str) -> str | None:
    ranges = _ranges(accept)
    offered = produces
    if JSON in produces and version:
        offered = (*produces, f"application/vnd.byo-dpp.{version}+json")
    best = max(offered, key=lambda media_type: _quality(media_type, ranges))  # the first of equals
    if _quality(best, ranges) > 0:
        return best
    # Who names only the form of errors has no quarrel with JSON.
    return JSON if JSON in produces and _quality(PROBLEM, ranges) > 0 else None


def body_type(header: str | None) -> str:
    """Return the media type that a Content-Type names, in lower case.

    It is empty when there is none, or another charset than UTF-8.
    """
    if header is None:
        return ""
    media_type, *parameters = header.split(";")
    charsets = []
    for parameter in parameters:
        name, equals, value = parameter.strip().partition("=")
        if not equals or not value:
            return ""
        if name.lower() == "charset":
            charsets.append(value.strip('"').lower())
    if len(charsets) > 1 or any(charset not in ("utf-8", "utf8") for charset in charsets):
        return ""
    return media_type.strip().lower()
