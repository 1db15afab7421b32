"""Rows of an export that hold encrypted values: opened, and written in the form of the file.

In: rows as JSON, as a statement gives them. Out: the texts that `statements.exports` would have written,
had the database been able to read the values. Raises InternalError where a value cannot be opened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

from byodpp import wire
from byodpp.definitions import FieldDefinition, ResourceDefinition
from byodpp.sealed_fields import SealedFields
from byodpp.statements.exports import DANGEROUS, RowForm

__all__ = ["OpenedRows"]

_TEXTS: Final = frozenset({"string", "text"})
_QUOTED: Final = frozenset({*_TEXTS, "json", "object", "array"})
_NUMBERS: Final = frozenset({"integer", "bigint", "decimal", "float"})
_NOT_XML: Final = re.compile("[\u0001-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]")
#: As in `statements.exports`: digits of a number, characters of a cell, and where a longer one is cut.
_XLSX_DIGITS: Final = 15
_XLSX_LONGEST: Final = 32_767
_XLSX_CUT: Final = 32_700


class OpenedRows:
    """Writes the rows of one export."""

    def __init__(
        self, sealed: SealedFields, resource: ResourceDefinition, names: Sequence[str], form: RowForm
    ) -> None:
        """Args:
        sealed: opens the values.
        resource: of the rows.
        names: of their columns.
        form: in which they are written.
        """
        self._sealed = sealed
        self._resource = resource
        self._names = names
        self._write: Callable[[Mapping[str, Any]], str] | None = {
            "csv": self._csv,
            "xml": self._xml,
            "xlsx": self._xlsx,
        }.get(form)

    def texts(self, rows: Sequence[str]) -> list[str]:
        """Return the texts of some rows."""
        if self._write is None:
            return [self._sealed.opened_whole(row.encode(), self._resource).decode() for row in rows]
        values = (self._sealed.values(wire.loads(row.encode()), self._resource) for row in rows)
        return [self._write(one) for one in values]

    def _cells(self, values: Mapping[str, Any]) -> list[tuple[str, FieldDefinition, str | None]]:
        """Return name, field, and text of each cell; None for null."""
        fields = self._resource.fields
        return [(name, fields[name], _cell_text(values.get(name), fields[name])) for name in self._names]

    def _csv(self, values: Mapping[str, Any]) -> str:
        return ",".join(_csv(text, definition) for _, definition, text in self._cells(values))

    def _xml(self, values: Mapping[str, Any]) -> str:
        cells = (_xml(name, text) for name, _, text in self._cells(values))
        return f"<row>{''.join(cells)}</row>"

    def _xlsx(self, values: Mapping[str, Any]) -> str:
        cells = (_xlsx(text, definition) for _, definition, text in self._cells(values))
        return f"<row>{''.join(cells)}</row>"


def _cell_text(value: Any, definition: FieldDefinition) -> str | None:
    if value is None:
        return None
    written = definition.type.write(value, definition)
    if written.startswith('"') and definition.type.name not in _QUOTED - _TEXTS:
        return str(wire.loads(written.encode()))
    return written


def _csv(text: str | None, definition: FieldDefinition) -> str:
    if text is None:
        return ""
    kind = definition.type.name
    if kind in _TEXTS and text[:1] and text[0] in DANGEROUS + "'":
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if kind in _QUOTED else text


def _xml(name: str, text: str | None) -> str:
    if text is None:
        return f'<{name} xsi:nil="true"/>'
    if _NOT_XML.search(text):
        as_json = wire.text(text).replace("\ufffe", r"\ufffe").replace("\uffff", r"\uffff")
        return f'<{name} encoding="json">{_escaped(as_json)}</{name}>'
    return f"<{name}>{_escaped(text)}</{name}>"


def _xlsx(text: str | None, definition: FieldDefinition) -> str:
    if text is None:
        return "<c/>"
    kind = definition.type.name
    if kind == "boolean":
        return f'<c t="b"><v>{int(text == "true")}</v></c>'
    digits = sum(character.isdigit() for character in text)
    if kind in _NUMBERS and not definition.constraints.get("asString") and digits <= _XLSX_DIGITS:
        return f"<c><v>{text}</v></c>"
    if len(text) > _XLSX_LONGEST:
        text = f"{text[:_XLSX_CUT]}… ({len(text)} characters)"
    shown = _escaped(_NOT_XML.sub("\ufffd", text))
    return f'<c t="inlineStr"><is><t xml:space="preserve">{shown}</t></is></c>'


def _escaped(text: str) -> str:
    return escape(text, {"\r": "&#13;"})
