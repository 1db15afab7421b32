"""The bare limit: an ASGI callable, asyncpg, JSON written by PostgreSQL, and nothing else.

No framework, no token, no row-level security, no validation beyond parsing, no audit: what is left
when everything that a service needs is taken away. Nor does it ask PostgreSQL to reset a connection
that goes back into the pool, as asyncpg does by itself: that is a round trip. Its numbers bound
everybody else's.
"""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import parse_qs

import asyncpg

CATEGORY = (
    """c.id, c.name, c.is_active as "isActive", c.created_at as "createdAt", c.updated_at as "updatedAt" """
)
PART = """t.id, t.name, t.weight, t.product_id as "productId", t.created_at as "createdAt",
  t.updated_at as "updatedAt" """
COLUMNS = """p.id, p.name, p.sku, p.description, p.category_id as "categoryId", p.price, p.stock,
  p.is_featured as "isFeatured", p.metadata, p.created_at as "createdAt", p.updated_at as "updatedAt",
  p.version"""
INCLUDED = f"""{COLUMNS},
  (select row_to_json(c) from (select {CATEGORY} from categories c
    where c.tenant_id = p.tenant_id and c.id = p.category_id) c) as category,
  (select coalesce(json_agg(t), '[]') from (select {PART} from parts t
    where t.tenant_id = p.tenant_id and t.product_id = p.id order by t.id) t) as parts"""

READ = f"""select row_to_json(r)::text from
  (select {COLUMNS} from products p where p.tenant_id = $1 and p.id = $2) r"""
LIST = f"""select (select coalesce(json_agg(r), '[]')::text from
  (select {COLUMNS} from products p where p.tenant_id = $1 order by p.id limit $2) r),
  (select count(*) from products p where p.tenant_id = $1)"""
FILTERED = f"""select (select coalesce(json_agg(r), '[]')::text from
  (select {COLUMNS} from products p where p.tenant_id = $1 and p.price >= $3
    order by p.price desc, p.id limit $2) r),
  (select count(*) from products p where p.tenant_id = $1 and p.price >= $3)"""
INCLUDE = f"""select (select coalesce(json_agg(r), '[]')::text from
  (select {INCLUDED} from products p where p.tenant_id = $1 order by p.id limit $2) r),
  (select count(*) from products p where p.tenant_id = $1)"""
CREATE = f"""with p as (insert into products (tenant_id, name, sku, category_id, price, stock)
  values ($1, $2, $3, $4, $5, $6) returning *)
  select row_to_json(r)::text from (select {COLUMNS} from p) r"""
BATCH = f"""with p as (insert into products (tenant_id, name, sku, category_id, price, stock)
  select $1, x.name, x.sku, x."categoryId", x.price, x.stock from
  json_to_recordset($2::json) x(name text, sku text, "categoryId" bigint, price numeric, stock int)
  returning *)
  select json_agg(r)::text from (select {COLUMNS} from p) r"""
PATCH = f"""with p as (update products set stock = $3, description = $4, updated_at = now(),
  version = version + 1 where tenant_id = $1 and id = $2 returning *)
  select row_to_json(r)::text from (select {COLUMNS} from p) r"""

PRODUCTS = "/api/v1/products"
TENANT = b"bench-tenant"


class Plain(asyncpg.Connection):
    """A connection that goes back as it is."""

    def get_reset_query(self) -> str:
        return ""


class Application:
    """The whole service."""

    def __init__(self) -> None:
        self.pool: asyncpg.Pool[Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
            return
        assert self.pool is not None
        tenant = next(int(value) for name, value in scope["headers"] if name == TENANT)
        path: str = scope["path"]
        method: str = scope["method"]
        status = 200
        if method == "GET":
            if path == PRODUCTS:
                await answer(send, status, await self.page(tenant, scope["query_string"]))
                return
            data = await self.pool.fetchval(READ, tenant, int(path.rpartition("/")[2]))
        elif method == "PATCH":
            body = json.loads(await read(receive))
            row = int(path.rpartition("/")[2])
            data = await self.pool.fetchval(PATCH, tenant, row, body["stock"], body["description"])
        elif path == PRODUCTS:
            body = json.loads(await read(receive))
            values = (body["name"], body["sku"], body["categoryId"], body["price"], body["stock"])
            data, status = await self.pool.fetchval(CREATE, tenant, *values), 201
        else:
            data, status = await self.pool.fetchval(BATCH, tenant, (await read(receive)).decode()), 201
        await answer(send, status, b'{"success":true,"data":' + data.encode() + b"}")

    async def page(self, tenant: int, query: bytes) -> bytes:
        assert self.pool is not None
        asked = parse_qs(query)
        limit = int(asked[b"limit"][0])
        if b"include" in asked:
            data, total = await self.pool.fetchrow(INCLUDE, tenant, limit)
        elif b"filter[price][gte]" in asked:
            least = asked[b"filter[price][gte]"][0].decode()
            data, total = await self.pool.fetchrow(FILTERED, tenant, limit, least)
        else:
            data, total = await self.pool.fetchrow(LIST, tenant, limit)
        return b'{"success":true,"data":%b,"count":%d}' % (data.encode(), total)

    async def lifespan(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.pool = await asyncpg.create_pool(
                    os.environ["BENCH_SYSTEM_URI"],
                    min_size=int(os.environ["BENCH_CONNECTIONS"]),
                    max_size=int(os.environ["BENCH_CONNECTIONS"]),
                    init=as_decimal,
                    connection_class=Plain,
                )
                await send({"type": "lifespan.startup.complete"})
            else:
                assert self.pool is not None
                await self.pool.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


async def as_decimal(connection: Any) -> None:
    """Let numbers of a body be stored as they are."""
    await connection.set_type_codec("numeric", schema="pg_catalog", encoder=str, decoder=str, format="text")


async def read(receive: Any) -> bytes:
    """Return a whole body."""
    message = await receive()
    body: bytes = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    return body


async def answer(send: Any, status: int, body: bytes) -> None:
    """Send a JSON answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


application = Application()
