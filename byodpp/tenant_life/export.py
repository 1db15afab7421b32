"""Everything that belongs to a tenant, in one zip file: a file of JSON lines per table.

In: an open transaction that passes row-level security. Out: the path of a file that is whole:
it gets its name when its last byte is on the disk. A table that several versions share has one file, with the
fields of all of them; what a place that is behind lacks is left out. Values are written as PostgreSQL holds
them, under the names of the API, encrypted ones opened; what is never shown to a client is left out.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import zipfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from byodpp.authentication.tenants import Tenant
from byodpp.database import Transaction
from byodpp.definitions import Kind, ResourceDefinition
from byodpp.exceptions import Conflict
from byodpp.places.portions import portions
from byodpp.registry import Registry
from byodpp.sealed_fields import SealedFields
from byodpp.sql_text import quote
from byodpp.tables import Tables
from byodpp.tenant_life.present import present_columns

if TYPE_CHECKING:
    import asyncpg
    import sqlalchemy as sa

__all__ = ["TenantExport"]

_AT_ONCE: Final = 1000
#: For one table's rows.
_LONGEST_SECONDS: Final = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """One file of the archive: a table, and what each version shows of it."""

    name: str  # of the first resource that lives in it
    table: sa.Table
    parts: tuple[tuple[ResourceDefinition, Mapping[str, str]], ...]  # name to column, each column once


class TenantExport:
    """Writes the rows of one tenant after the other."""

    def __init__(self, registry: Registry, tables: Tables, sealed: SealedFields) -> None:
        self._registry = registry
        self._tables = tables
        self._sealed = sealed

    async def write(self, transaction: Transaction, tenant: Tenant, folder: Path) -> Path:
        """Write the file, readable by its owner only, and return its path.

        Raises:
            Conflict: it cannot be written there.
        """
        try:
            return await self._written(transaction, tenant, folder)
        except OSError as error:
            told = f"The export cannot be written into {folder}: {error.strerror or error}"
            raise Conflict(f"{told}. Name another folder with --to, or make room there") from error

    async def _written(self, transaction: Transaction, tenant: Tenant, folder: Path) -> Path:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        await transaction.be_patient(_LONGEST_SECONDS)
        path = folder / f"tenant-{tenant.id}-{time.time_ns() // 1_000_000}.zip"
        unfinished = path.with_suffix(".part")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                    await self._everything(transaction, tenant, archive)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            await asyncio.to_thread(_named, unfinished, path)
        except BaseException:  # nobody asks for half of it, and it holds names and addresses of people
            unfinished.unlink(missing_ok=True)
            raise
        return path

    async def _everything(self, transaction: Transaction, tenant: Tenant, archive: zipfile.ZipFile) -> None:
        counts = {}
        for member in self._members():
            counts[member.name] = await self._rows(transaction, member, tenant, archive)
        about = {"tenant": tenant.slug, "ulid": tenant.ulid, "rows": counts}
        archive.writestr("manifest.json", json.dumps(about, indent=1))

    def _members(self) -> Iterator[_Member]:
        """Yield tables with a tenant, and Tenants; of two with one name the later has its version in it."""
        found: dict[str, list[ResourceDefinition]] = {}
        for resource in self._registry:
            if resource.kind is Kind.DATABASE:
                table = self._tables[resource]
                if "tenant_id" in table.c or resource.name == "Tenants":
                    found.setdefault(table.name, []).append(resource)
        taken = set[str]()
        for resources in found.values():
            first = resources[0]
            name = first.name if first.name not in taken else f"{first.name}.{first.version}"
            taken.add(name)
            table = self._tables[first]
            yield _Member(name=name, table=table, parts=tuple(_parts(resources, table)))

    async def _rows(
        self, transaction: Transaction, member: _Member, tenant: Tenant, archive: zipfile.ZipFile
    ) -> int:
        table = member.table
        whose = "tenant_id" if "tenant_id" in table.c else "id"
        present = await present_columns(transaction, quote(table.name))
        objects = [_object(resource, shown, whose, present) for resource, shown in member.parts]
        rows = f"from {quote(table.name)} t where {quote(whose)} = {tenant.id:d} order by t.id"
        count = 0
        file = zipfile.ZipInfo(f"data/{member.name}.ndjson", time.localtime()[:6])  # else of the year 1980
        file.compress_type, file.external_attr = archive.compression, 0o600 << 16
        with archive.open(file, "w", force_zip64=True) as lines:
            async for row in _some_at_a_time(transaction, objects, rows):
                opened = (
                    self._sealed.opened_values(text.encode(), resource)
                    for text, (resource, _) in zip(row, member.parts, strict=True)
                )
                lines.write(_joined(opened) + b"\n")
                count += 1
        return count


async def _some_at_a_time(
    transaction: Transaction, objects: Sequence[str], rows: str
) -> AsyncIterator[asyncpg.Record]:
    """Yield rows, of which a few MB are held at a time: they are asked for by their sizes.

    Args:
        transaction: reads them.
        objects: SQL of the texts of a row.
        rows: SQL from its `from` on.
    """
    size = " + ".join(f"octet_length({one})" for one in objects)
    cursors = [
        await transaction.connection.cursor(f"select {sql} {rows}", timeout=_LONGEST_SECONDS)
        for sql in (f"{size} as size", ", ".join(objects))
    ]
    while sizes := await cursors[0].fetch(_AT_ONCE, timeout=_LONGEST_SECONDS):
        for portion in portions((None, row["size"]) for row in sizes):
            for row in await cursors[1].fetch(len(portion), timeout=_LONGEST_SECONDS):
                yield row
    # What has come between the two statements.
    while some := await cursors[1].fetch(1, timeout=_LONGEST_SECONDS):
        yield some[0]


def _parts(
    resources: Sequence[ResourceDefinition], table: Any
) -> Iterator[tuple[ResourceDefinition, Mapping[str, str]]]:
    """Yield, of each version, the columns that none before it shows; a taken name gets the version."""
    columns, names = set[str](), set[str]()
    for resource in resources:
        shown = {}
        for name, column in resource.columns.items():
            if column not in columns and column in table.c and not resource.fields[name].write_only:
                shown[name if name not in names else f"{name}.{resource.version}"] = column
        columns.update(shown.values())
        names.update(shown)
        if shown:
            yield resource, shown


def _object(
    resource: ResourceDefinition, shown: Mapping[str, str], whose: str, present: frozenset[str]
) -> str:
    """Return, as SQL, an object of what is shown of a row of `t`, as far as its table has it."""
    bound = f"t.{quote(whose)}" if whose == "tenant_id" else "'0'"
    encrypted = {one.column for one in resource.fields.values() if one.encrypted}
    pairs = ", ".join(
        f"{bound} || ' ' || encode(t.{quote(column)}, 'hex') as {quote(name)}"
        if column in encrypted
        else f"t.{quote(column)} as {quote(name)}"
        for name, column in shown.items()
        if column in present
    )
    return f"(select to_jsonb(s)::text from (select {pairs}) s)"


def _joined(objects: Iterable[bytes]) -> bytes:
    """Return one object with the members of all; each is written without blanks around it."""
    return b"{" + b", ".join(inside for one in objects if (inside := one[1:-1])) + b"}"


def _named(unfinished: Path, path: Path) -> None:
    """Give a file its name, for good: rows are deleted after that."""
    unfinished.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
