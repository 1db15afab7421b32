"""Encrypted fields: written as bytes that only the application reads, opened again in rows on their way out.

In: Python values to store, and JSON rows as PostgreSQL wrote them. Out: bytes for the column, and the
same rows in wire format with the values in them. What is sealed begins with the length of its key's id
and the id, and is bound to tenant, table, and column: moved to another tenant's row it opens nowhere.
May raise InternalError (a value cannot be opened); a log line says which.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from byodpp import wire
from byodpp.aside import LARGE_BYTES, aside
from byodpp.definitions import FieldDefinition, ResourceDefinition, Scope
from byodpp.encryption import EncryptionKeys, Unreadable, bound_to
from byodpp.exceptions import InternalError
from byodpp.registry import Registry
from byodpp.rows import python_row, row_json

__all__ = ["SealedFields", "Sealing", "key_prefix", "sealed_columns"]

_log: Final = logging.getLogger(__name__)

#: Turns a field's value, not None, into what its column holds.
Sealing = Callable[[FieldDefinition, Any], bytes]


def key_prefix(id: str) -> bytes:
    """Return what everything that a key has sealed begins with."""
    return bytes([len(id)]) + id.encode()


def sealed_columns(registry: Registry) -> dict[str, tuple[ResourceDefinition, tuple[str, ...]]]:
    """Return the tables that hold encrypted values: name -> a resource of it, and the columns."""
    found: dict[str, tuple[ResourceDefinition, dict[str, None]]] = {}
    for resource in registry:
        for field in resource.fields.values():
            if field.encrypted:
                found.setdefault(resource.table, (resource, {}))[1][field.column] = None
    return {table: (resource, tuple(columns)) for table, (resource, columns) in found.items()}


class SealedFields:
    """Writes and reads the encrypted fields of an application."""

    def __init__(self, registry: Registry, keys: EncryptionKeys) -> None:
        """Args:
        registry: whose resources have them.
        keys: that seal and open.
        """
        self._registry = registry
        self._keys = keys
        named = {
            resource.id: tuple(name for name, field in resource.fields.items() if field.encrypted)
            for resource in registry
        }
        self._names = {id: names for id, names in named.items() if names}

    @property
    def any(self) -> bool:
        """Whether the application has encrypted fields at all."""
        return bool(self._names)

    def concern(self, resource: ResourceDefinition, touched: Iterable[tuple[str, str]] = ()) -> bool:
        """Whether rows of a resource, with what is included, hold such values; most do not."""
        names = self._names
        return bool(names) and (resource.id in names or any(id in names for id in touched))

    # --- in ---------------------------------------------------------------------------

    def sealing(self, resource: ResourceDefinition, tenant_id: int) -> Sealing | None:
        """Return what seals the values of a tenant's rows; None where there is nothing to seal."""
        if resource.id not in self._names:
            return None
        whose = 0 if resource.scope in (Scope.SHARED, Scope.SELF) else tenant_id
        return partial(self._seal, resource.table, whose)

    def _seal(self, table: str, tenant_id: int, definition: FieldDefinition, value: Any) -> bytes:
        text = definition.type.write(value, definition)
        return self._sealed(text, _associated(tenant_id, table, definition.column))

    def _sealed(self, text: str, associated: bytes) -> bytes:
        return key_prefix(self._keys.current) + self._keys.seal(text, associated)

    def anew(self, sealed: bytes, tenant_id: int, table: str, column: str) -> bytes:
        """Return a stored value sealed with the current key.

        Raises:
            Unreadable: it cannot be opened.
        """
        associated = _associated(tenant_id, table, column)
        return self._sealed(self._open(sealed, associated), associated)

    # --- out --------------------------------------------------------------------------

    async def row(
        self, json: bytes, resource: ResourceDefinition, touched: Iterable[tuple[str, str]] = ()
    ) -> bytes:
        """Return a row with its values opened; rows that hold none come back as they are."""
        if not self.concern(resource, touched):
            return json
        work = partial(self.opened_whole, json, resource)
        return await aside(work) if len(json) > LARGE_BYTES else work()

    async def page(
        self, json: bytes, resource: ResourceDefinition, touched: Iterable[tuple[str, str]] = ()
    ) -> bytes:
        """Return an array of rows with their values opened."""
        if not self.concern(resource, touched):
            return json
        work = partial(self._array, json, resource)
        return await aside(work) if len(json) > LARGE_BYTES else work()

    async def versions(self, json: bytes, resource: ResourceDefinition) -> bytes:
        """Return an array of kept versions with the values of their rows opened."""
        if not self.concern(resource):
            return json
        work = partial(self._versions, json, resource)
        return await aside(work) if len(json) > LARGE_BYTES else work()

    def _versions(self, json: bytes, resource: ResourceDefinition) -> bytes:
        members = []
        for version in wire.loads(json):
            row = row_json(self.values(version.pop("row"), resource), resource, self._registry)
            members.append(wire.dumps(version)[:-1] + b',"row":' + row + b"}")
        return b"[" + b",".join(members) + b"]"

    def opened_whole(self, json: bytes, resource: ResourceDefinition) -> bytes:
        """Return one row with its values and those of included rows opened."""
        return row_json(self.values(wire.loads(json), resource), resource, self._registry)

    def opened_values(self, json: bytes, resource: ResourceDefinition) -> bytes:
        """Return an object of columns as PostgreSQL holds them, its encrypted ones opened."""
        if resource.id not in self._names:
            return json
        return wire.dumps(self._plain(wire.loads(json), resource))

    def values(self, row: Mapping[str, Any], resource: ResourceDefinition) -> dict[str, Any]:
        """Return the Python values of a row of JSON values, included rows too."""
        return python_row(self._plain(row, resource), resource, self._registry)

    def _array(self, json: bytes, resource: ResourceDefinition) -> bytes:
        rows = (row_json(self.values(row, resource), resource, self._registry) for row in wire.loads(json))
        return b"[" + b",".join(rows) + b"]"

    def _plain(self, row: Mapping[str, Any], resource: ResourceDefinition) -> dict[str, Any]:
        names = self._names.get(resource.id, ())
        found: dict[str, Any] = {}
        for name, value in row.items():
            if value is None or name in resource.fields:
                sealed = value is not None and name in names
                found[name] = self._value(value, resource, name) if sealed else value
                continue
            relation = resource.relations.get(name)
            if relation is None:
                found[name] = value
                continue
            target = self._registry.target(resource, relation)
            found[name] = (
                [self._plain(one, target) for one in value] if relation.many else self._plain(value, target)
            )
        return found

    def _value(self, told: str, resource: ResourceDefinition, name: str) -> Any:
        """Return the JSON value of what a statement tells of a column: its tenant, a blank, hexadecimals."""
        tenant, _, digits = told.partition(" ")
        associated = _associated(int(tenant), resource.table, resource.columns[name])
        try:
            return wire.loads(self._open(bytes.fromhex(digits), associated).encode())
        except Unreadable as error:
            _log.error(
                "an encrypted field cannot be read: %s", error,
                extra={"resource": resource.name, "field": name, "tenant_id": int(tenant)},
            )  # fmt: skip
            raise InternalError from error

    def _open(self, sealed: bytes, associated: bytes) -> str:
        if not sealed or len(sealed) <= sealed[0]:
            raise Unreadable("it is not what was sealed")
        end = 1 + sealed[0]
        return self._keys.open(sealed[1:end].decode("ascii", "replace"), sealed[end:], associated)


def _associated(tenant_id: int, table: str, column: str) -> bytes:
    return bound_to("byodpp field", tenant_id, table, column)
