"""How a text becomes a setting: the types, their bounds, and their names for people.

In: a raw value from a variable, a YAML file or the command line, and the annotation of its
field. Out: the value. May reject: `convert`, with ValueError(reason, suggestion).
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from byodpp.suggestion import nearest

__all__ = ["Declaration", "Declarations", "Setting", "convert", "declarations", "type_name"]

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_TYPE_NAMES: Final = {int: "integer", float: "number", bool: "boolean", str: "text", Path: "path"}


@dataclass(frozen=True, slots=True)
class Setting:
    """What stands beside the type of a setting: its documentation and its bounds."""

    doc: str  # one line for the configuration page, with the unit
    env: str = ""  # a classic environment variable that works beside BYODPP_<NAME>
    low: float = -math.inf  # smallest number allowed
    high: float = math.inf  # largest number allowed
    secret: bool = False  # kept out of every representation and message
    relaxed: Any = None  # default in dev and test, where it is another one than in earnest


class Declaration(NamedTuple):
    """A field's type and what is said about it."""

    type: Any
    setting: Setting


Declarations = Mapping[str, Declaration]


@cache
def declarations(owner: type) -> Declarations:
    """Return every annotated setting of the dataclass `owner`, in order."""
    hints = get_type_hints(owner, include_extras=True)
    return {name: Declaration(*get_args(hint)) for name, hint in hints.items()}


def convert(raw: Any, hint: Any, setting: Setting) -> Any:
    """Turn a raw value into the field's type.

    Args:
        raw: text, or what YAML made of it.
        hint: type of the field.
        setting: gives the bounds.

    Raises:
        ValueError: with a reason and, where there is one, a suggestion.
    """
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return None if raw is None else convert(raw, _without_none(hint), setting)
    if origin is Literal:
        return _convert_word(raw, get_args(hint))
    if origin is tuple:
        return _convert_list(raw)
    if hint is bool:
        return _convert_bool(raw)
    if hint in (int, float):
        return _convert_number(raw, hint, setting)
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise ValueError("must be text")
    return raw


def type_name(hint: Any) -> str:
    """Name a type for people."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return type_name(_without_none(hint))
    if origin is Literal:
        return "one of " + ", ".join(get_args(hint))
    return "list" if origin is tuple else _TYPE_NAMES[hint]


def _without_none(hint: Any) -> Any:
    return next(part for part in get_args(hint) if part is not type(None))


def _convert_word(raw: Any, allowed: tuple[str, ...]) -> str:
    word = raw.lower() if isinstance(raw, str) else raw
    if word in allowed:
        return str(word)
    raise ValueError(f"must be one of {', '.join(allowed)}", nearest(str(raw), allowed, list_up_to=0))


def _convert_list(raw: Any) -> tuple[str, ...]:
    parts = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise ValueError("must be a list of texts (in a variable: separated by commas)")
    return tuple(part.strip() for part in parts if part.strip())


def _convert_bool(raw: Any) -> bool:
    word = str(raw).lower()
    if isinstance(raw, (bool, str)) and word in _TRUE | _FALSE:
        return word in _TRUE
    raise ValueError("must be true or false")


def _convert_number(raw: Any, kind: type[int] | type[float], setting: Setting) -> int | float:
    reason = f"must be {'a whole number' if kind is int else 'a number'}"
    if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
        raise ValueError(reason)
    try:
        number = kind(str(raw))
    except ValueError:
        raise ValueError(reason) from None
    if not math.isfinite(number):
        raise ValueError(reason)
    if not setting.low <= number <= setting.high:
        raise ValueError(f"must lie between {setting.low} and {setting.high}")
    return number
