"""Encrypted fields under another key: every stored value sealed anew, some rows at a time.

In: an open database, and the fields' keys. Out: how many values were sealed anew, and why others were not.
A value that somebody changes meanwhile is left to them: their write has used the current key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from byodpp.database import Database, Transaction
from byodpp.encryption import EncryptionKeys, Unreadable
from byodpp.places import dedicated
from byodpp.registry import Registry
from byodpp.sealed_fields import SealedFields, key_prefix, sealed_columns
from byodpp.sql_text import quote, quote_text
from byodpp.tables import Tables, whose_columns

__all__ = ["FieldRotation"]

#: Values of one transaction: a rotation that is broken off has lost nothing, and the next one goes on.
_BATCH: Final = 200
_SCHEMAS: Final = (
    "select place from byodpp.tenant_places where tenant_id >= 0 and tier = 'schema' order by tenant_id"
)
_HISTORY: Final = "byodpp.history"
_TOLD: Final = (
    "insert into audit_logs (tenant_id, action, resource_type, result, changes)"
    " values ($1, 'ROTATE', $2, 'success',"
    " json_build_object('values', $3::int, 'field', $4::text, 'key', $5::text))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """One column of encrypted values, of a table or of the rows that its history keeps."""

    resource: str
    field: str
    table: str
    column: str
    stored: str  # table that holds it
    key: str  # columns that order it, each row once
    tenant: str  # whose a value is
    value: str  # its bytes
    only: str = "true"  # which rows of `stored` may hold one
    change: str  # makes $1 the value of the row `where`
    where: str  # with the row's key from $3 on, and $2 as what it holds still

    def select(self, after: tuple[Any, ...]) -> str:
        """Return the statement of the next rows: those under another key than the prefix $1."""
        places = ", ".join(f"${number}" for number, _ in enumerate(after, start=2))
        behind = f" and ({self.key}) > ({places})" if after else ""
        return (
            f"select {self.tenant} as tenant, {self.value} as value, {self.key} from {self.stored}"
            f" where {self.only} and {self.value} is not null"
            f" and not starts_with(encode({self.value}, 'hex'), $1){behind}"
            f" order by {self.key} limit {_BATCH}"
        )


class FieldRotation:
    """Seals the encrypted fields of an application anew."""

    def __init__(self, registry: Registry, keys: EncryptionKeys) -> None:
        """Args:
        registry: whose fields.
        keys: the current one seals.
        """
        self._places = tuple(_places(registry))
        self._dedicated = frozenset(one.table.name for one in dedicated(Tables.build(registry)))
        self._sealed = SealedFields(registry, keys)
        self._current = keys.current
        self.unread = Counter[str]()

    async def run(self, database: Database) -> int:
        """Seal anew what is not under the current key; return how many values.

        Raises:
            TenantMoving: a tenant is being moved from one schema to another.
        """
        shared = [one for one in self._places if one.stored != _HISTORY]
        done = 0
        for place in shared:
            done += await self._run(database, place)
        # Only now: whoever has left the shared tables meanwhile has taken along what is sealed anew.
        async with database.system() as transaction:
            schemas = [row["place"] for row in await transaction.fetch(_SCHEMAS)]
        for schema in schemas:
            for place in shared:
                if place.table in self._dedicated:
                    own = replace(place, stored=f"{quote(schema)}.{quote(place.table)}")
                    done += await self._run(database, own)
        # Last: a row that was changed meanwhile has left its former value there.
        for place in self._places:
            if place.stored == _HISTORY:
                done += await self._run(database, place)
        return done

    async def _run(self, database: Database, place: _Place) -> int:
        done = 0
        after: tuple[Any, ...] = ()
        while True:
            async with database.system() as transaction:
                prefix = key_prefix(self._current).hex()
                rows = await transaction.fetch(place.select(after), prefix, *after)
                if not rows:
                    return done
                after = tuple(rows[-1])[2:]
                done += await self._seal_anew(transaction, place, rows)

    async def _seal_anew(self, transaction: Transaction, place: _Place, rows: list[Any]) -> int:
        tenants: Counter[int] = Counter()
        for tenant, value, *key in rows:
            try:
                sealed = self._sealed.anew(value, tenant, place.table, place.column)
            except Unreadable as error:
                self.unread[f"{place.resource}.{place.field}: {error}"] += 1
                continue
            changed = await transaction.execute(
                f"update {place.stored} set {place.change} where {place.where}", sealed, value, *key
            )
            tenants[tenant] += int(changed.rpartition(" ")[2])
        for tenant, number in tenants.items():
            await transaction.execute(_TOLD, tenant, place.resource, number, place.field, self._current)
        return tenants.total()


def _places(registry: Registry) -> Iterator[_Place]:
    for table, (resource, columns) in sealed_columns(registry).items():
        names = {column: name for name, column in resource.columns.items()}
        bound = "tenant_id" in whose_columns(resource)
        key = ("tenant_id", "id") if bound else ("id",)
        for column in columns:
            known = {"resource": resource.name, "field": names[column], "table": table, "column": column}
            yield _Place(
                **known,
                stored=quote(table),
                key=", ".join(key),
                tenant="tenant_id" if bound else "0::bigint",
                value=quote(column),
                change=f"{quote(column)} = $1",
                where=" and ".join(
                    (f"{quote(column)} = $2", *(f"{one} = ${place}" for place, one in enumerate(key, 3)))
                ),
            )
            if not resource.history:
                continue
            kept = f"(row ->> {quote_text(column)})::bytea"
            yield _Place(
                **known,
                stored=_HISTORY,
                only=f"resource = {quote_text(table)}",
                key="id",
                tenant="coalesce((row ->> 'tenant_id')::bigint, 0)",
                value=kept,
                change=f"row = jsonb_set(row, array[{quote_text(column)}], to_jsonb($1::bytea))",
                where=f"{kept} = $2 and id = $3",
            )
