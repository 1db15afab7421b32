"""Cells: the text of a file whose format knows only text, as the JSON value it stands for.

In: a field and the text of a cell. Out: what a body would hold in its place: a number where the field
is one and the text is written as JSON writes numbers, true or false, the JSON in the text of an
array or object; everything else stays text, and the schema judges it. May reject: FieldFault.

A spreadsheet takes a text that begins with `=` for a formula. Exports put an apostrophe before such
texts, and before those that begin with one; here it is taken off again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from byodpp import wire
from byodpp.definitions import FieldDefinition
from byodpp.exceptions import ApiError
from byodpp.fields import FieldFault
from byodpp.statements.exports import DANGEROUS

__all__ = ["CellReader", "cell_reader"]

_ESCAPED: Final = frozenset(DANGEROUS + "'")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*+)(\.[0-9]++)?+([eE][+-]?[0-9]++)?+", re.ASCII)
_WORDS: Final = {"true": True, "false": False, "TRUE": True, "FALSE": False}
_NUMBERS: Final = frozenset({"integer", "bigint", "decimal", "float"})
_DOCUMENTS: Final = frozenset({"json", "object", "array"})
_TEXTS: Final = frozenset({"string", "text"})

#: From the text of a cell to a JSON value.
CellReader = Callable[[str], Any]


def cell_reader(definition: FieldDefinition | None, *, max_depth: int, escaped: bool) -> CellReader | None:
    """Return how the cells of a field are read; None where they are their text.

    Args:
        definition: the field; None for one that only an application's own schema knows.
        max_depth: arrays and objects that may lie in each other.
        escaped: whether an apostrophe may stand before what looks like a formula.
    """
    name = "string" if definition is None else definition.type.name
    if definition is not None and name in _NUMBERS:
        return None if definition.constraints.get("asString") else _number
    if name == "boolean":
        return _boolean
    if name in _DOCUMENTS:
        return lambda text: _document(text, max_depth)
    return _text if escaped and name in _TEXTS else None


def _number(text: str) -> Any:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    if len(text) > wire.MAX_NUMBER_LENGTH:
        raise FieldFault("out_of_range", f"A number has at most {wire.MAX_NUMBER_LENGTH} characters.")
    if match[2] is not None:
        return _document(text, 1)  # an exponent has bounds, too
    return int(text) if match[1] is None else Decimal(text)


def _boolean(text: str) -> Any:
    return _WORDS.get(text, text)


def _document(text: str, max_depth: int) -> Any:
    try:
        return wire.loads(text.encode("utf-8", "surrogatepass"), max_depth=max_depth)
    except ApiError as error:
        raise FieldFault("format", f"Must hold JSON. {error.message}") from None


def _text(text: str) -> str:
    return text[1:] if text[:1] == "'" and text[1:2] in _ESCAPED else text
