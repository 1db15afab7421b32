r"""Rows as columns of texts, each the text of an array, as PostgreSQL reads them.

In: Python values that a schema has judged. Out: for each field one text such as `{"a","b",NULL}`. Rejects
nothing: PostgreSQL reads each value as the statement of a single creation would have bound it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from byodpp.array_text import cell_text
from byodpp.definitions import FieldDefinition, ResourceDefinition
from byodpp.fields import FieldType

__all__ = ["Columns"]

_NULL: Final = "NULL"


class Columns:
    """The rows of one resource, collected."""

    def __init__(self, resource: ResourceDefinition, fields: tuple[str, ...]) -> None:
        """Args:
        resource: of the rows.
        fields: that become columns.
        """
        self._cells: list[tuple[str, FieldDefinition, bool, list[str]]] = []
        for name in fields:
            definition = resource.fields[name]
            plain = type(definition.type).bind is FieldType.bind
            self._cells.append((name, definition, plain, []))
        self.size = 0  # characters so far, about

    def add(self, values: Mapping[str, Any]) -> None:
        """Add a row."""
        size = 0
        for name, definition, plain, cells in self._cells:
            value = values.get(name)
            if value is None:
                cells.append(_NULL)
                continue
            if not plain:
                value = definition.type.bind(value, definition)
            text = cell_text(value)
            size += len(text)
            cells.append(text)
        self.size += size

    def taken(self) -> dict[str, str]:
        """Return the columns by their fields, and begin anew."""
        found = {name: "{" + ",".join(cells) + "}" for name, _, _, cells in self._cells}
        for _, _, _, cells in self._cells:
            cells.clear()
        self.size = 0
        return found
