"""Regular expressions of the manifest: compiled once, matched in linear time.

Python's own engine backtracks and has no time limit, so a pattern is compiled by the linear
engine that pydantic ships (Rust's `regex`): no look-around, no back-references. Clients read
the same pattern in OpenAPI and may run it on an engine that backtracks; therefore one with an
unbounded repetition inside of an unbounded repetition is refused as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from pydantic_core import SchemaError, SchemaValidator, core_schema

__all__ = ["MAX_PATTERN_LENGTH", "compile_pattern", "pattern_problem"]

MAX_PATTERN_LENGTH: Final = 1_000
#: An escape, a character class, the parts of a group, a repetition, or one other character.
_TOKEN: Final = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?[^:)]*:|\?P?<[^>]*>|\?:)?|\)|[*+?][?+]?|\{\d+(?:,\d*)?\}\??|.",
    re.DOTALL,
)
_UNBOUNDED: Final = re.compile(r"[*+]|\{\d+,\}|\{\d{3,}|\{\d+,\d{3,}\}")


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Return the function that finds the pattern anywhere in a text (as JSON Schema says).

    Raises:
        ValueError: the pattern cannot be used; says why.
    """
    if (problem := pattern_problem(pattern)) is not None:
        raise ValueError(problem)
    return _validator(pattern).isinstance_python


def pattern_problem(pattern: object) -> str | None:
    """Return why a pattern cannot be used; None when it can."""
    if not isinstance(pattern, str):
        return "pattern must be a string"
    if len(pattern) > MAX_PATTERN_LENGTH:
        return f"pattern is longer than {MAX_PATTERN_LENGTH} characters"
    try:
        _validator(pattern)
    except SchemaError as error:
        return f"pattern is not usable: {_reason(str(error))}"
    if _nested_repetition(pattern):
        return "pattern repeats what repeats already, which takes some readers for ever"
    return None


def _validator(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))


def _reason(message: str) -> str:
    """Return the line of the engine's message that names the fault."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    found = next((line for line in lines if line.startswith("error:")), lines[-1])
    return found.removeprefix("error:").removeprefix("SchemaError:").strip()


def _nested_repetition(pattern: str) -> bool:
    """Whether an unbounded repetition holds another, as in `(a+)+`."""
    repeats = [False]  # per open group: whether it holds an unbounded repetition
    last_group = False  # whether the group that has just closed does
    for token in _TOKEN.findall(pattern):
        if token.startswith("(") and not token.startswith("\\"):
            repeats.append(False)
            last_group = False
        elif token == ")" and len(repeats) > 1:
            last_group = repeats.pop()
            repeats[-1] = repeats[-1] or last_group
        elif _UNBOUNDED.match(token):
            if last_group:
                return True
            repeats[-1] = True
            last_group = False
        else:
            last_group = False
    return False
