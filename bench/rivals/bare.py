"""The bare limit: an ASGI callable, asyncpg, JSON written by PostgreSQL, and nothing else.

No framework, no token, no tenant, no validation beyond parsing: what is left when everything
that a service needs is taken away. Its numbers bound everybody else's.
"""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import parse_qs

import asyncpg

COLUMNS = """p.id, p.name, p.sku, p.description, p.category_id as "categoryId", p.price, p.stock,
  p.is_featured as "isFeatured", p.metadata,
  to_char(p.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "createdAt",
  to_char(p.updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "updatedAt", p.version"""
READ = f"""select row_to_json(r)::text from
  (select {COLUMNS} from products p where p.tenant_id = $1 and p.id = $2) r"""
LIST = f"""select (select coalesce(json_agg(r), '[]')::text from
  (select {COLUMNS} from products p where p.tenant_id = $1 order by p.id limit $2) r),
  (select count(*) from products p where p.tenant_id = $1)"""
CREATE = f"""with p as (insert into products (tenant_id, name, sku, category_id, price)
  values ($1, $2, $3, $4, $5) returning *) select row_to_json(r)::text from (select {COLUMNS} from p) r"""


class Application:
    """The whole service."""

    def __init__(self) -> None:
        self.pool: asyncpg.Pool[Any] | None = None
        self.tenant = int(os.environ["BENCH_TENANT"])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
            return
        assert self.pool is not None
        path: str = scope["path"]
        if scope["method"] == "POST":
            body = json.loads((await receive())["body"])
            values = (self.tenant, body["name"], body["sku"], body["categoryId"], body["price"])
            data = await self.pool.fetchval(CREATE, *values)
            await answer(send, 201, b'{"success":true,"data":' + data.encode() + b"}")
        elif path == "/api/v1/products":
            limit = int(parse_qs(scope["query_string"])[b"limit"][0])
            data, total = await self.pool.fetchrow(LIST, self.tenant, limit)
            await answer(send, 200, b'{"success":true,"data":%b,"count":%d}' % (data.encode(), total))
        else:
            data = await self.pool.fetchval(READ, self.tenant, int(path.rpartition("/")[2]))
            await answer(send, 200, b'{"success":true,"data":' + data.encode() + b"}")

    async def lifespan(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                uri = os.environ["BENCH_OWNER_URI"]
                self.pool = await asyncpg.create_pool(uri, min_size=10, max_size=10, init=as_decimal)
                await send({"type": "lifespan.startup.complete"})
            else:
                assert self.pool is not None
                await self.pool.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


async def as_decimal(connection: Any) -> None:
    """Let numbers of a body be stored as they are."""
    await connection.set_type_codec("numeric", schema="pg_catalog", encoder=str, decoder=str, format="text")


async def answer(send: Any, status: int, body: bytes) -> None:
    """Send a JSON answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


application = Application()
