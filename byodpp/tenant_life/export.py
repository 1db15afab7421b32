"""Everything that belongs to a tenant, in one zip file: a file of JSON lines per resource.

In: an open transaction that passes row-level security. Out: the path of a file that is whole:
it gets its name when its last byte is written. Values are written as PostgreSQL holds them, under
the names of the API, encrypted ones opened; what is never shown to a client is left out.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from byodpp.authentication.tenants import Tenant
from byodpp.database import Transaction
from byodpp.definitions import Kind, ResourceDefinition
from byodpp.registry import Registry
from byodpp.sealed_fields import SealedFields
from byodpp.sql_text import quote
from byodpp.tables import Tables

__all__ = ["TenantExport"]

_AT_ONCE: Final = 1000


class TenantExport:
    """Writes the rows of one tenant after the other."""

    def __init__(self, registry: Registry, tables: Tables, sealed: SealedFields) -> None:
        self._registry = registry
        self._tables = tables
        self._sealed = sealed

    async def write(self, transaction: Transaction, tenant: Tenant, folder: Path) -> Path:
        """Write the file, readable by its owner only, and return its path."""
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        path = folder / f"tenant-{tenant.id}-{time.time_ns() // 1_000_000}.zip"
        unfinished = path.with_suffix(".part")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        counts = {}
        with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for resource, table in self._exported():
                counts[resource.name] = await self._rows(transaction, resource, table, tenant, archive)
            about = {"tenant": tenant.slug, "ulid": tenant.ulid, "rows": counts}
            archive.writestr("manifest.json", json.dumps(about, indent=1))
        unfinished.rename(path)
        return path

    def _exported(self) -> Iterator[tuple[ResourceDefinition, Any]]:
        """Yield each table with a tenant once, under the first resource that has it, and Tenants."""
        seen = set()
        for resource in self._registry:
            if resource.kind is not Kind.DATABASE:
                continue
            table = self._tables[resource]
            if table.name not in seen and ("tenant_id" in table.c or resource.name == "Tenants"):
                seen.add(table.name)
                yield resource, table

    async def _rows(
        self,
        transaction: Transaction,
        resource: ResourceDefinition,
        table: Any,
        tenant: Tenant,
        archive: zipfile.ZipFile,
    ) -> int:
        shown: Mapping[str, str] = {
            name: column
            for name, column in resource.columns.items()
            if not resource.fields[name].write_only and column in table.c
        }
        whose = "tenant_id" if "tenant_id" in table.c else "id"
        bound = quote(whose) if whose == "tenant_id" else "'0'"
        pairs = ", ".join(
            f"{bound} || ' ' || encode({quote(column)}, 'hex') as {quote(name)}"
            if resource.fields[name].encrypted
            else f"{quote(column)} as {quote(name)}"
            for name, column in shown.items()
        )
        sql = (
            f"select to_jsonb(s)::text from (select {pairs} from {quote(table.name)}"
            f" where {quote(whose)} = {tenant.id:d} order by id) s"
        )
        count = 0
        with archive.open(f"data/{resource.name}.ndjson", "w", force_zip64=True) as lines:
            async for row in transaction.connection.cursor(sql, prefetch=_AT_ONCE):
                lines.write(self._sealed.opened_values(row[0].encode(), resource) + b"\n")
                count += 1
        return count
