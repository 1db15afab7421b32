"""Connections at hand: taken at once, given back in order, and never lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from byodpp.database.pool import ConnectionPool
from byodpp.embedded import SUPERUSER
from byodpp.testing import Bench

LIMIT = 2


@pytest.fixture
async def pool(byodpp_bench: Bench) -> AsyncIterator[ConnectionPool]:
    inner: asyncpg.Pool[Any] = await asyncpg.create_pool(
        byodpp_bench.server.uri(SUPERUSER, "postgres"), min_size=0, max_size=LIMIT
    )
    made = ConnectionPool(inner, LIMIT)
    yield made
    await made.close()


async def end(pool: ConnectionPool, pid: int, byodpp_bench: Bench) -> None:
    """End a connection from the server's side and wait until the client has noticed."""
    admin = await asyncpg.connect(byodpp_bench.server.uri(SUPERUSER, "postgres"))
    await admin.execute("select pg_terminate_backend($1)", pid)
    await admin.close()
    await asyncio.sleep(0.1)


async def test_a_connection_that_came_back_is_at_hand(pool: ConnectionPool) -> None:
    assert pool.take() is None
    connection = await pool.acquire()
    pool.give_back(connection)
    assert pool.take() is connection
    pool.give_back(connection)


async def test_connections_that_died_at_rest_cost_no_place(pool: ConnectionPool, byodpp_bench: Bench) -> None:
    for _ in range(LIMIT * 3):
        connection = await pool.acquire()
        pid = await connection.fetchval("select pg_backend_pid()")
        pool.give_back(connection)
        await end(pool, pid, byodpp_bench)
    async with asyncio.timeout(5):
        both = [await pool.acquire() for _ in range(LIMIT)]
    for connection in both:
        pool.give_back(connection)


async def test_who_waits_is_served_when_a_connection_comes_back_or_is_thrown_away(
    pool: ConnectionPool,
) -> None:
    held = [await pool.acquire() for _ in range(LIMIT)]
    waiting = [asyncio.create_task(pool.acquire()) for _ in range(LIMIT)]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in waiting)
    pool.give_back(held[0])
    await pool.discard(held[1], 1.0)
    async with asyncio.timeout(5):
        for task in waiting:
            pool.give_back(await task)


async def test_a_wait_that_is_given_up_loses_no_connection(pool: ConnectionPool) -> None:
    held = [await pool.acquire() for _ in range(LIMIT)]
    for _ in range(5):
        waiting = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0.01)
        pool.give_back(held.pop())  # its turn comes and its end at the same time
        waiting.cancel()
        try:
            held.append(await waiting)
        except asyncio.CancelledError:
            async with asyncio.timeout(5):
                held.append(await pool.acquire())
    for connection in held:
        pool.give_back(connection)
