"""The `format` words of text fields, each a function that says yes or no in linear time."""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from byodpp.fields.moments import parse_date, parse_datetime, parse_time

__all__ = ["FORMATS", "FORMAT_PATTERNS"]

_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}", re.ASCII)
_URI: Final = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:", re.ASCII)
_COLOR: Final = re.compile(r"#(?:[0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})", re.ASCII)
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*", re.ASCII)
_SLUG: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
#: Longest text that any of these words can mean.
_LONGEST: Final = 2_048


def _hostname(text: str) -> bool:
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.removesuffix(".").split("."))


def _email(text: str) -> bool:
    local, at, domain = text.rpartition("@")
    if not at or not _LOCAL.fullmatch(local) or ".." in local or local[0] == "." or local[-1] == ".":
        return False
    return "." in domain and not domain.endswith(".") and _hostname(domain)


def _uri(text: str) -> bool:
    return _SCHEME.match(text) is not None and _uri_reference(text) and len(text.partition(":")[2]) > 0


def _uri_reference(text: str) -> bool:
    return _URI.fullmatch(text) is not None and _accepted_by(urlsplit)(text)


def _accepted_by(parse: Callable[[str], object]) -> Callable[[str], bool]:
    """Return whether a parser takes the text without complaint."""

    def check(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return check


def _uuid(text: str) -> bool:
    return len(text) == 36 and _accepted_by(uuid.UUID)(text) and text.count("-") == 4


def _bounded(check: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: len(text) <= _LONGEST and check(text)


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


#: Word of the manifest -> whether a text has that form.
FORMATS: Final[Mapping[str, Callable[[str], bool]]] = MappingProxyType(
    {
        word: _bounded(check)
        for word, check in {
            "color": _matches(_COLOR),
            "date": _accepted_by(parse_date),
            "date-time": _accepted_by(parse_datetime),
            "email": _email,
            "hostname": _hostname,
            "ipv4": _accepted_by(ipaddress.IPv4Address),
            "ipv6": lambda text: "%" not in text and _accepted_by(ipaddress.IPv6Address)(text),
            "language": _matches(_LANGUAGE),
            "slug": _matches(_SLUG),
            "time": _accepted_by(parse_time),
            "uri": _uri,
            "uri-reference": _uri_reference,
            "uuid": _uuid,
        }.items()
    }
)
#: Words that JSON Schema does not know -> what they mean, as a pattern that it does.
FORMAT_PATTERNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        word: f"^{pattern.pattern}$"
        for word, pattern in {"color": _COLOR, "language": _LANGUAGE, "slug": _SLUG}.items()
    }
)
