"""The statement of an export: one text per row, written by PostgreSQL in the format of the file.

In: a judged query and what the caller may see, as for a page. Out: a select of one column of texts, in
the order that was asked for; without limit, for a cursor. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import sqlalchemy as sa

from byodpp.conditions import Shape
from byodpp.definitions import FieldDefinition, ResourceDefinition
from byodpp.sql_text import quote_text
from byodpp.statements.conditions import View
from byodpp.statements.json import RowJson, row_columns
from byodpp.statements.order import order_by, terms

__all__ = ["DANGEROUS", "RowForm", "export_select", "exported_names"]

RowForm = Literal["json", "csv", "xml", "xlsx"]

#: What a text must not begin with in a spreadsheet, which would take it for a formula; the last four
#: are how full-width keyboards write it. Such texts get an apostrophe in front, and so do those that
#: begin with one, so that reading takes off exactly what was put there.
DANGEROUS: Final = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_TEXTS: Final = frozenset({"string", "text"})
_DOCUMENTS: Final = frozenset({"json", "object", "array"})
_NUMBERS: Final = frozenset({"integer", "bigint", "decimal", "float"})
#: Characters that no document of XML can hold, as PostgreSQL's expressions write them.
_NOT_XML: Final = r"[\u0001-\u0008\u000B\u000C\u000E-\u001F\uFFFE\uFFFF]"
_BEYOND_XML: Final = {"\ufffe": r"\ufffe", "\uffff": r"\uffff"}
#: Digits of a number that a spreadsheet keeps, and characters of a cell.
_XLSX_DIGITS: Final = 15
_XLSX_LONGEST: Final = 32_767
_XLSX_CUT: Final = 32_700

Columns = Mapping[str, sa.ColumnElement[Any]]
Fields = Mapping[str, FieldDefinition]


def exported_names(view: View, resource: ResourceDefinition, shape: Shape) -> tuple[str, ...]:
    """Return the names of the columns that a row has."""
    return tuple(row_columns(view, resource, view.source(resource), shape.fields))


def export_select(view: View, resource: ResourceDefinition, shape: Shape, form: RowForm) -> sa.Select[Any]:
    """Return the rows as texts."""
    table = view.source(resource)
    columns = row_columns(view, resource, table, shape.fields, shape.includes)
    conditions = view.rows(resource, table)
    if shape.filter is not None:
        conditions.append(view.condition(resource, table, shape.filter))
    text = _FORMS[form](columns, resource.fields)
    rows = sa.select(text.label("row")).select_from(table).where(*conditions)
    return rows.order_by(*order_by(terms(view, resource, table, shape.sort)))


# --- JSON ---------------------------------------------------------------------------------


def _json_row(columns: Columns, fields: Fields) -> sa.ColumnElement[str]:
    return sa.cast(RowJson(columns), sa.Text())


# --- CSV ----------------------------------------------------------------------------------


def _csv_row(columns: Columns, fields: Fields) -> sa.ColumnElement[str]:
    return _joined([_csv_cell(column, fields[name]) for name, column in columns.items()], ",")


def _csv_cell(column: sa.ColumnElement[Any], definition: FieldDefinition) -> sa.ColumnElement[str]:
    """Return a cell: text and documents in quotes, so that nothing is not the same as no text."""
    text: sa.ColumnElement[str] = sa.cast(column, sa.Text())
    kind = definition.type.name
    if kind in _TEXTS:
        text = _harmless(text)
    if kind in _TEXTS or kind in _DOCUMENTS:
        text = _text('"').concat(sa.func.replace(text, _text('"'), _text('""'))).concat(_text('"'))
    return sa.func.coalesce(text, _text(""))


def _harmless(text: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    first = sa.func.left(text, sa.literal_column("1"))
    escaped = first.in_([_text(one) for one in (*DANGEROUS, "'")])
    return sa.case((escaped, _text("'").concat(text)), else_=text)


# --- XML ----------------------------------------------------------------------------------


def _xml_row(columns: Columns, fields: Fields) -> sa.ColumnElement[str]:
    cells = [_xml_element(name, column, fields[name]) for name, column in columns.items()]
    return _joined([_text("<row>"), *cells, _text("</row>")], "")


def _xml_element(
    name: str, column: sa.ColumnElement[Any], definition: FieldDefinition
) -> sa.ColumnElement[str]:
    """Return an element; a text that XML cannot hold is a JSON string in it."""
    text: sa.ColumnElement[str] = sa.cast(column, sa.Text())
    written = _text(f"<{name}>").concat(_xml_escaped(text))
    if definition.type.name in _TEXTS or definition.type.name in _DOCUMENTS:
        as_json: sa.ColumnElement[str] = sa.cast(sa.func.to_json(text), sa.Text())
        # to_json leaves the two characters above U+FFFD as they are.
        for character, escape in _BEYOND_XML.items():
            as_json = sa.func.replace(as_json, _text(character), _text(escape))
        other = _text(f'<{name} encoding="json">').concat(_xml_escaped(as_json))
        written = sa.case((text.bool_op("~")(_text(_NOT_XML)), other), else_=written)
    return sa.func.coalesce(written.concat(_text(f"</{name}>")), _text(f'<{name} xsi:nil="true"/>'))


def _xml_escaped(text: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    for character, escape in {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}.items():
        text = sa.func.replace(text, _text(character), _text(escape))
    return text


# --- XLSX ---------------------------------------------------------------------------------


def _xlsx_row(columns: Columns, fields: Fields) -> sa.ColumnElement[str]:
    cells = [_xlsx_cell(column, fields[name]) for name, column in columns.items()]
    return _joined([_text("<row>"), *cells, _text("</row>")], "")


def _xlsx_cell(column: sa.ColumnElement[Any], definition: FieldDefinition) -> sa.ColumnElement[str]:
    """Return a cell: a number where a spreadsheet holds all its digits, else a text."""
    text: sa.ColumnElement[str] = sa.cast(column, sa.Text())
    kind = definition.type.name
    if kind == "boolean":
        for word, digit in (("true", "1"), ("false", "0")):
            text = sa.func.replace(text, _text(word), _text(digit))
        return sa.func.coalesce(_text('<c t="b"><v>').concat(text).concat(_text("</v></c>")), _text("<c/>"))
    shown = _xml_escaped(_xlsx_text(text)) if kind in _TEXTS or kind in _DOCUMENTS else text
    inline = (
        _text('<c t="inlineStr"><is><t xml:space="preserve">').concat(shown).concat(_text("</t></is></c>"))
    )
    if kind in _NUMBERS and not definition.constraints.get("asString"):
        digits = sa.func.length(sa.func.regexp_replace(text, _text("[^0-9]"), _text(""), _text("g")))
        number = _text("<c><v>").concat(text).concat(_text("</v></c>"))
        inline = sa.case((digits <= _number(_XLSX_DIGITS), number), else_=inline)
    return sa.func.coalesce(inline, _text("<c/>"))


def _xlsx_text(text: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Return a text that a cell can hold: what XML cannot is shown as U+FFFD, what is too long is cut."""
    length = sa.func.length(text)
    cut = sa.func.left(text, _number(_XLSX_CUT)).concat(_text("… (")).concat(sa.cast(length, sa.Text()))
    text = sa.case((length > _number(_XLSX_LONGEST), cut.concat(_text(" characters)"))), else_=text)
    shown = sa.func.regexp_replace(text, _text(_NOT_XML), _text("\ufffd"), _text("g"))
    return sa.case((text.bool_op("~")(_text(_NOT_XML)), shown), else_=text)


_FORMS: Final[Mapping[RowForm, Callable[[Columns, Fields], sa.ColumnElement[str]]]] = {
    "json": _json_row,
    "csv": _csv_row,
    "xml": _xml_row,
    "xlsx": _xlsx_row,
}


def _number(value: int) -> sa.ColumnElement[int]:
    return sa.literal_column(str(value), sa.Integer())


def _joined(parts: Sequence[sa.ColumnElement[str]], separator: str) -> sa.ColumnElement[str]:
    if not parts:
        return _text("")
    found = parts[0]
    for part in parts[1:]:
        found = found.concat(_text(separator)).concat(part)
    return found


def _text(value: str) -> sa.ColumnElement[str]:
    """Return a text of ours as it stands in the statement."""
    return sa.literal_column(quote_text(value), sa.Text())
