"""Rows as PostgreSQL wrote them: JSON first, Python values on demand.

Comes from `repository`; goes to logic classes (as mappings) and to `controller` (as bytes).
A row that no logic class looks into is never parsed: its bytes go out as they came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

from byodpp import wire
from byodpp.aside import LARGE_BYTES, aside, is_large
from byodpp.definitions import ResourceDefinition
from byodpp.registry import Registry

__all__ = ["GroupPage", "Page", "Row", "Rows", "is_much", "opened", "python_row", "row_json"]

R = TypeVar("R")


def python_row(values: Mapping[str, Any], resource: ResourceDefinition, registry: Registry) -> dict[str, Any]:
    """Turn the JSON values of a row, included rows too, into Python values.

    Args:
        values: field and relation names to JSON values; `values` itself is left alone.
        resource: the row's resource.
        registry: where the targets of its relations are looked up.
    """
    row: dict[str, Any] = {}
    for name, value in values.items():
        if value is not None and (definition := resource.fields.get(name)) is not None:
            row[name] = definition.type.from_json(value, definition)
        elif value is not None and (relation := resource.relations.get(name)) is not None:
            target = registry.get(relation.resource, resource.version)
            row[name] = (
                [python_row(child, target, registry) for child in value]
                if relation.many
                else python_row(value, target, registry)
            )
        else:
            row[name] = value
    return row


def row_json(values: Mapping[str, Any], resource: ResourceDefinition, registry: Registry) -> bytes:
    """Write Python values of a row, included rows too, in wire format."""
    members = []
    for name, value in values.items():
        relation = resource.relations.get(name) if name not in resource.fields else None
        if relation is None or value is None:
            # One member at a time: the braces of the object around it are cut off again.
            members.append(wire.dump_row({name: value}, resource.fields)[1:-1])
            continue
        target = registry.get(relation.resource, resource.version)
        if relation.many:
            written = b"[" + b",".join(row_json(child, target, registry) for child in value) + b"]"
        else:
            written = row_json(value, target, registry)
        members.append(wire.dumps(name) + b":" + written)
    return b"{" + b",".join(members) + b"}"


class Row(Mapping[str, Any]):
    """One row: a read-only mapping of field names to Python values, decoded at first look.

    `row | {"name": "x"}` gives an ordinary dict with the change.
    """

    __slots__ = ("_json", "_registry", "_resource", "_values", "key", "version")

    def __init__(
        self,
        json: bytes | None,
        resource: ResourceDefinition,
        registry: Registry,
        *,
        values: dict[str, Any] | None = None,
        version: int | None = None,
        key: Any = None,
    ) -> None:
        """Args:
        json: the row in wire format; None when `values` are given.
        resource: what it is a row of.
        registry: for decoding included rows.
        values: the row in Python values.
        version: of the row, for its ETag; None when it has none.
        key: its `id`, where it is known without decoding the row.
        """
        self._json = json
        self._resource = resource
        self._registry = registry
        self._values = values
        self.version = version
        self.key = key

    @property
    def json(self) -> bytes:
        """The row in wire format."""
        if self._json is None:
            self._json = row_json(self._decoded(), self._resource, self._registry)
        return self._json

    def _decoded(self) -> dict[str, Any]:
        if self._values is None:
            self._values = python_row(wire.loads(self._json or b"{}"), self._resource, self._registry)
        return self._values

    @property
    def is_closed(self) -> bool:
        """Whether it is large, and nobody has looked at its values yet."""
        return self._values is None and self._json is not None and len(self._json) > LARGE_BYTES

    @property
    def size(self) -> int:
        """Bytes of its JSON; 0 where it has none yet."""
        return 0 if self._json is None else len(self._json)

    @property
    def unwritten(self) -> dict[str, Any] | None:
        """The Python values of a row that has no JSON yet; None when it has."""
        return self._values if self._json is None else None

    def told(self) -> dict[str, Any]:
        """Return what an event holds of the row: no secret, no personal datum."""
        fields = self._resource.fields
        return {
            name: value for name, value in self.items() if name not in fields or not fields[name].redacted
        }

    def __getitem__(self, name: str) -> Any:
        return self._decoded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return self._decoded() | dict(other)

    def __repr__(self) -> str:
        return f"Row({self._resource.name}, {self.json.decode()})"


class Rows(Sequence[Row]):
    """Some rows as one piece of JSON, each decoded at first look."""

    __slots__ = ("_number", "_registry", "_resource", "_rows", "json")

    def __init__(self, json: bytes, resource: ResourceDefinition, registry: Registry, number: int) -> None:
        """Args:
        json: a JSON array of rows in wire format.
        resource: what they are rows of.
        registry: for decoding included rows.
        number: of rows.
        """
        self.json = json
        self._resource = resource
        self._registry = registry
        self._number = number
        self._rows: tuple[Row, ...] | None = None

    @property
    def size(self) -> int:
        """Bytes of their JSON."""
        return len(self.json)

    @property
    def is_closed(self) -> bool:
        """Whether they are large, and nobody has looked at their values yet."""
        return self._rows is None and len(self.json) > LARGE_BYTES

    def _decoded(self) -> tuple[Row, ...]:
        if self._rows is None:
            self._rows = tuple(map(self._row, wire.loads(self.json)))
        return self._rows

    def _row(self, values: Mapping[str, Any]) -> Row:
        row = python_row(values, self._resource, self._registry)
        version = values.get("version") if self._resource.versioned else None
        return Row(None, self._resource, self._registry, values=row, version=version, key=row.get("id"))

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        return self._decoded()[index]

    def __len__(self) -> int:
        return self._number


def _rows_of(json: bytes, resource: ResourceDefinition, registry: Registry) -> tuple[Row, ...]:
    return tuple(
        Row(None, resource, registry, values=python_row(values, resource, registry))
        for values in wire.loads(json)
    )


class Page(Sequence[Row]):
    """Some rows of a list, in its order, and how many there are in all."""

    __slots__ = (
        "_registry", "_resource", "_rows", "json", "keys", "limit", "next_cursor", "offset", "partial",
        "total",
    )  # fmt: skip

    def __init__(
        self,
        json: bytes,
        *,
        resource: ResourceDefinition,
        registry: Registry,
        total: int | None,
        limit: int,
        offset: int,
        next_cursor: str | None = None,
        partial: bool = False,
        keys: Sequence[Any] | None = None,
    ) -> None:
        """Args:
        json: a JSON array of rows in wire format.
        resource: what they are rows of.
        registry: for decoding included rows.
        total: rows that match in all; None when they were not counted.
        limit: rows asked for, at least 1.
        offset: rows skipped, at least 0.
        next_cursor: where the next page begins; None when there is none.
        partial: rows may match in databases in which nobody has looked; `total` does not count them.
        keys: of the rows, as JSON values; None where they were not asked for (`Shape.keyed`).
        """
        self.json = json
        self.keys = keys
        self.partial = partial
        self.total = total
        self.limit = limit
        self.offset = offset
        self.next_cursor = next_cursor
        self._resource = resource
        self._registry = registry
        self._rows: tuple[Row, ...] | None = None

    @property
    def size(self) -> int:
        """Bytes of their JSON."""
        return len(self.json)

    @property
    def is_closed(self) -> bool:
        """Whether they are large, and nobody has looked at their values yet."""
        return self._rows is None and len(self.json) > LARGE_BYTES

    def _decoded(self) -> tuple[Row, ...]:
        if self._rows is None:
            self._rows = _rows_of(self.json, self._resource, self._registry)
        return self._rows

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        return self._decoded()[index]

    def __len__(self) -> int:
        return len(self._decoded())


class GroupPage(Page):
    """Some groups of rows and their numbers; each item is a mapping as the answer has it."""

    __slots__ = ()

    def _decoded(self) -> tuple[Row, ...]:
        if self._rows is None:
            self._rows = tuple(
                Row(wire.dumps(values), self._resource, self._registry, values=values)
                for values in wire.loads(self.json)
            )
        return self._rows


async def opened(result: R) -> R:
    """Return rows decoded, aside where they are large: somebody on the event loop will look at them."""
    if isinstance(result, Row | Rows | Page) and result.is_closed:
        await aside(result._decoded)
    return result


def is_much(result: Any) -> bool:
    """Whether writing what a class has made of rows takes longer than other requests should wait."""
    if isinstance(result, Row):
        return is_large(result.unwritten)
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, list) else ()
    return is_large([one.unwritten if isinstance(one, Row) else one for one in parts])
