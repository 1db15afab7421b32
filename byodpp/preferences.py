"""The `Prefer` header (RFC 7240): how a client would like a write to be done and answered.

In: the header's value. Out: which of the preferences that are known here it names, and the
`Preference-Applied` of an answer. Rejects nothing: an unknown preference is ignored, as the
RFC has it.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MINIMAL", "ROLLBACK", "applied", "preferences"]

#: The answer need not show the row.
MINIMAL: Final = "return=minimal"
#: The write is validated, authorised, executed, shown, and undone.
ROLLBACK: Final = "tx=rollback"
_KNOWN: Final = frozenset({MINIMAL, ROLLBACK})
_NONE: Final[frozenset[str]] = frozenset()


def preferences(header: str | None) -> frozenset[str]:
    """Return the preferences that are known here, written as `name=value` without blanks or quotes."""
    if header is None:
        return _NONE
    found = set()
    for part in header.split(","):
        # Parameters of a preference, after a semicolon, mean nothing here.
        name, _, value = part.partition(";")[0].partition("=")
        word = value.strip().strip('"').lower()
        found.add(f"{name.strip().lower()}={word}")
    return _KNOWN & found


def applied(before: str | None, preference: str) -> str:
    """Return the value of `Preference-Applied` with one more preference."""
    return preference if not before else f"{before}, {preference}"
