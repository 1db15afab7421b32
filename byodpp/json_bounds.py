"""Bounds of a JSON text, told before it is parsed: how deep it is, and how much it holds.

In: the bytes of a body. Out: nothing. Refused are nesting past a bound, and more values than the
parser, the garbage collector, and those who walk over them should have in one request.

A text is looked at piece by piece: what is done to one is done by C code that lets no other thread in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from byodpp.exceptions import PayloadTooLarge, TooDeep

__all__ = ["check_bounds", "too_deep"]

#: Bytes that are looked at in one go, within a millisecond.
_PIECE_BYTES: Final = 262_144
_BRACKETS: Final = bytes.maketrans(b"[{]}", b"(())")
_OPENING: Final = ord("(")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def check_bounds(body: bytes, *, max_depth: int, max_values: int | None = None) -> None:
    """Refuse a text that is too deep, or holds too much.

    Args:
        body: JSON; what is none is left to the parser.
        max_depth: arrays and objects that may lie in each other.
        max_values: values that it may hold, an array or an object with what it holds; None: any number.

    Raises:
        TooDeep: nested past `max_depth`.
        PayloadTooLarge: it has more values, counting a value before each comma and behind each bracket.
    """
    brackets = body.count(b"[") + body.count(b"{")
    is_much = max_values is not None and brackets + body.count(b",") >= max_values
    if brackets <= max_depth and not is_much:
        return
    found, values = [], 1
    for piece in _outside_strings(body):
        found.append(piece.translate(_BRACKETS, _NOT_BRACKETS))
        values += piece.count(b",") + found[-1].count(b"(")
        if max_values is not None and values > max_values:
            raise PayloadTooLarge(f"The body holds more than {max_values} values.")
    _refuse_deep(b"".join(found), max_depth)


def too_deep(max_depth: int) -> TooDeep:
    """Return the refusal of a body that is nested too deeply."""
    return TooDeep(f"The body is nested too deeply: at most {max_depth} arrays and objects in each other.")


def _outside_strings(body: bytes) -> Iterator[bytes]:
    """Yield what lies outside of strings, piece by piece."""
    start, inside = 0, False
    while start < len(body):
        end = min(start + _PIECE_BYTES, len(body))
        piece = body[start:end]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2 and end < len(body):
            end += 1  # an escape is looked at as a whole
            piece = body[start:end]
        # From the left, so that of a run of backslashes each second one is escaped by the one before.
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        yield b"".join(parts[inside::2])
        inside ^= len(parts) % 2 == 0
        start = end


def _refuse_deep(brackets: bytes, max_depth: int) -> None:
    """Measure the depth before a parser recurses into it.

    Each pass takes away the innermost pairs, so the number of passes is the depth. Everything runs in C
    but the walk over what is left of an unbalanced body, which ends as soon as its depth is known to be
    illegal.
    """
    for _ in range(max_depth):
        inner, brackets = brackets, brackets.replace(b"()", b"")
        if not brackets:
            return
        if len(inner) == len(brackets):
            break
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket == _OPENING else -1
        if depth > max_depth:
            break
        if depth < 0:
            return  # not well-formed; the decoder stops there and says so
    if depth == 0 or depth > max_depth:
        raise too_deep(max_depth)
