"""SQL text that no library quotes for us: identifiers, literals of DDL, bounded names.

For statements that PostgreSQL takes no parameters in: defaults, checks, policies. Everything
that comes from a request travels as a parameter and never passes here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["MAX_NAME_BYTES", "bounded_name", "literal", "quote", "quote_text"]

#: Bytes of a name that PostgreSQL keeps.
MAX_NAME_BYTES: Final = 63


def quote(name: str) -> str:
    """Return an identifier as SQL, safe for any word."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(value: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def literal(value: Any, *, array: bool) -> str:
    """Return an SQL literal that PostgreSQL reads as the column's type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple) and array:
        return quote_text("{" + ",".join(map(_member, value)) + "}")
    if isinstance(value, dict | list | tuple):
        return quote_text(json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str))
    if isinstance(value, int):
        return str(value) if value >= 0 else quote_text(str(value))
    return quote_text(value.isoformat() if hasattr(value, "isoformat") else str(value))


def _member(value: Any) -> str:
    """Return a member of an array literal; of all characters, only quotes and backslashes are escaped."""
    if value is None:
        return "NULL"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def bounded_name(stem: Iterable[str], kind: str, meaning: str) -> str:
    """Return a stable name of at most 63 bytes whose tail changes with the meaning.

    Args:
        stem: what a person should read in it, cut where it is too long.
        kind: last word, e.g. `fkey`.
        meaning: everything that makes the named thing what it is.
    """
    tail = f"_{kind}_{hashlib.sha256(meaning.encode()).hexdigest()[:8]}"
    return "_".join(stem).encode()[: MAX_NAME_BYTES - len(tail)].decode(errors="ignore") + tail
