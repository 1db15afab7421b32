"""What is measured on: one PostgreSQL, one schema, one set of rows, tokens for every tenant.

The embedded server of the project, with its own defaults; the tables are those that BYO DPP makes
of `bench/app/resources.json`, and every contestant uses them. Rows are a function of their
number: two runs hold the same. Tenants share one signing key, so that a thousand of them do not
need an hour of key making; their tokens differ.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from bench.processes import clean_environment, computed
from byodpp.embedded import SUPERUSER, EmbeddedPostgres, RunningServer
from byodpp.identity import LocalIssuer
from byodpp.ids import Ids
from byodpp.tables.roles import APP, SYSTEM

__all__ = ["Size", "Tenant", "World", "made"]

HERE = Path(__file__).parent
#: What BYO DPP takes as its own when nothing is set; other contestants are told.
AUDIENCE = "byodpp-api"
_TOKEN_SECONDS = 12 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much there is; rows are counted per tenant."""

    tenants: int = 50
    categories: int = 20
    products: int = 2_000
    parts: int = 3  # of each product
    #: Products of each tenant, where they are not the same number in all.
    uneven: tuple[int, ...] = ()

    def rows(self) -> tuple[int, ...]:
        """Return the number of products of each tenant."""
        return self.uneven or (self.products,) * self.tenants


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A tenant, and who asks for it."""

    id: int
    realm: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that a contestant needs to be started, and a measurement to be repeated."""

    folder: Path  # of the application
    server: RunningServer
    size: Size
    tenants: tuple[Tenant, ...]

    def uri(self, role: str) -> str:
        """Return the database's address for a role."""
        return self.server.uri(role)

    def environment(self) -> dict[str, str]:
        """Return what a contestant is told, beside what it is written for."""
        keys = json.loads((self.folder / ".byodpp" / "keys" / f"{self.tenants[0].realm}.json").read_text())
        public = {name: keys["keys"][0][name] for name in ("kty", "kid", "alg", "use", "n", "e")}
        return clean_environment(
            BENCH_APP_URI=self.uri(APP),
            BENCH_SYSTEM_URI=self.uri(SYSTEM),
            BENCH_JWKS=json.dumps({"keys": [public]}),
            BENCH_AUDIENCE=AUDIENCE,
            BENCH_TENANTS=json.dumps({tenant.realm: tenant.id for tenant in self.tenants}),
            PYTHONPATH=str(HERE.parent),
        )

    def products(self, tenant: Tenant) -> range:
        """Return the ids of a tenant's products."""
        rows = self.size.rows()
        first = 1 + sum(rows[: tenant.id - 1])
        return range(first, first + rows[tenant.id - 1])

    def category(self, tenant: Tenant, number: int) -> int:
        """Return the id of one of a tenant's categories."""
        return 1 + (tenant.id - 1) * self.size.categories + number % self.size.categories

    def database_computed(self) -> float:
        """Return the seconds that PostgreSQL's processes have computed so far."""
        return computed(self.server.pid)

    def fetch(self, sql: str, *values: Any) -> list[asyncpg.Record]:
        """Run a statement past row-level security and return its rows."""

        async def run() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.uri(SYSTEM))
            try:
                rows: list[asyncpg.Record] = await connection.fetch(sql, *values)
                return rows
            finally:
                await connection.close()

        return asyncio.run(run())

    def tidy(self) -> None:
        """Take away what contestants have written, and let the tables be as they were."""
        self.fetch("delete from products where id > $1", sum(self.size.rows()))
        asyncio.run(
            _as_superuser(self.server, "truncate audit_logs, byodpp.outbox", "vacuum (analyze) products")
        )


@contextmanager
def made(folder: Path, size: Size, manifest: Mapping[str, Any] | None = None) -> Iterator[World]:
    """Start a PostgreSQL with all rows in it; it ends with the block.

    Args:
        folder: does not exist yet; becomes the application's folder.
        size: of the world.
        manifest: other than that of `app/`, with the same tables.
    """
    folder.mkdir(parents=True)
    if manifest is None:
        shutil.copy(HERE / "app" / "resources.json", folder)
    else:
        (folder / "resources.json").write_text(json.dumps(manifest))
    with asyncio.Runner() as runner:
        started = _filled(folder, size)
        world = runner.run(started.__aenter__())
        try:
            yield world
        finally:
            runner.run(started.__aexit__(None, None, None))


@asynccontextmanager
async def _filled(folder: Path, size: Size) -> AsyncIterator[World]:
    async with EmbeddedPostgres(folder).running() as server:
        for step in ("new", "apply"):
            command = [sys.executable, "-m", "byodpp", "--app", str(folder), "migrate", step]
            await asyncio.to_thread(
                subprocess.run, command, env=clean_environment(), check=True, stdout=subprocess.DEVNULL
            )
        tenants = await _fill(server, size)
        issuer = LocalIssuer(state_folder=folder / ".byodpp", audience=AUDIENCE, environment="dev")
        issuer.ensure_realm(tenants[0][1])
        first = folder / ".byodpp" / "keys" / f"{tenants[0][1]}.json"
        for _, realm in tenants[1:]:
            shutil.copy(first, first.with_name(f"{realm}.json"))
        yield World(
            folder=folder,
            server=server,
            size=size,
            tenants=tuple(
                Tenant(
                    id=number,
                    realm=realm,
                    token=issuer.issue(realm, "bench", roles=["Admin"], lifetime_seconds=_TOKEN_SECONDS),
                )
                for number, realm in tenants
            ),
        )


async def _fill(server: RunningServer, size: Size) -> list[tuple[int, str]]:
    """Write all rows and return id and realm of each tenant."""
    ids = Ids()
    tenants = [(number, ids.ulid()) for number in range(1, len(size.rows()) + 1)]
    connection = await asyncpg.connect(server.uri(SYSTEM))
    try:
        await connection.executemany(_TENANT, tenants)
        await connection.execute(_CATEGORIES, len(tenants), size.categories)
        first = 1
        for (tenant, _), rows in zip(tenants, size.rows(), strict=True):
            await connection.execute(_PRODUCTS, tenant, rows, first, size.categories)
            first += rows
        await connection.execute(_PARTS, size.parts)
    finally:
        await connection.close()
    following = (
        f"select setval(pg_get_serial_sequence('{table}', 'id'), (select max(id) from {table}))"
        for table in ("tenants", "categories", "products", "parts")
    )
    await _as_superuser(server, *following)
    await _as_superuser(server, "vacuum (analyze)", "checkpoint")
    return tenants


async def _as_superuser(server: RunningServer, *statements: str) -> None:
    connection = await asyncpg.connect(server.uri(SUPERUSER))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


_TENANT = """
insert into tenants (id, ulid, name, slug, status)
values ($1, $2, 'Tenant ' || $1::bigint, 'tenant-' || $1::bigint, 'activated')"""

_CATEGORIES = """
insert into categories (tenant_id, id, name)
select t, (t - 1) * $2::bigint + c, 'Category ' || lpad(c::text, 4, '0')
from generate_series(1, $1::bigint) t, generate_series(1, $2::bigint) c order by t, c"""

_PRODUCTS = """
insert into products (tenant_id, id, name, sku, description, category_id, price, stock, is_featured, metadata)
select $1, $3::bigint + p - 1, 'Product ' || lpad((p * 7919 % 1000003)::text, 7, '0'),
    'SKU-' || lpad(p::text, 8, '0'),
    repeat('A good product, well described in a text of some length. ', 3),
    ($1::bigint - 1) * $4::bigint + 1 + p % $4::bigint, (p * 104729 % 100000)::numeric / 100,
    p % 500, p % 10 = 0,
    jsonb_build_object('colour', (array['red', 'green', 'blue'])[1 + p % 3], 'weight', p % 100 + 0.5,
                       'tags', jsonb_build_array('new', 'tag-' || p % 20))
from generate_series(1, $2::bigint) p"""

_PARTS = """
insert into parts (tenant_id, id, name, weight, product_id)
select tenant_id, (id - 1) * $1::bigint + n, 'Part ' || n, (id % 1000 + n)::numeric / 8, id
from products, generate_series(1, $1::bigint) n order by tenant_id, id, n"""
