"""Connections at hand: taken at once, given back in order, and never lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from byodpp.database.pool import Connection, ConnectionPool, _is_gone
from byodpp.embedded import SUPERUSER
from byodpp.testing import Bench
from tests.patience import soon

LIMIT = 2


@pytest.fixture
async def pool(byodpp_bench: Bench) -> AsyncIterator[ConnectionPool]:
    inner: asyncpg.Pool[Any] = await asyncpg.create_pool(
        byodpp_bench.server.uri(SUPERUSER, "postgres"), min_size=0, max_size=LIMIT
    )
    made = ConnectionPool(inner, LIMIT)
    yield made
    await made.close()


async def end(connection: Connection, byodpp_bench: Bench) -> None:
    """End a connection at rest from the server's side and wait until the client has noticed."""
    admin = await asyncpg.connect(byodpp_bench.server.uri(SUPERUSER, "postgres"))
    await admin.execute("select pg_terminate_backend($1)", connection.get_server_pid())
    await admin.close()

    async def noticed() -> object:
        return _is_gone(connection)

    await soon(noticed, True, 10.0)


async def test_a_connection_that_came_back_is_at_hand(pool: ConnectionPool) -> None:
    assert pool.take() is None
    connection = await pool.acquire()
    pool.give_back(connection)
    assert pool.take() is connection
    pool.give_back(connection)


async def test_connections_that_died_at_rest_cost_no_place(pool: ConnectionPool, byodpp_bench: Bench) -> None:
    for _ in range(LIMIT * 3):
        connection = await pool.acquire()
        pool.give_back(connection)
        await end(connection, byodpp_bench)
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


async def test_a_wait_that_takes_too_long_ends_and_loses_no_connection(pool: ConnectionPool) -> None:
    held = [await pool.acquire() for _ in range(LIMIT)]
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        await pool.acquire(seconds=0.05)
    assert 0.04 < time.monotonic() - started < 5
    for _ in range(20):
        waiting = asyncio.create_task(pool.acquire(seconds=0.005))
        await asyncio.sleep(0.005)  # its turn comes and its time ends at the same moment
        pool.give_back(held.pop())
        try:
            held.append(await waiting)
        except TimeoutError:
            async with asyncio.timeout(5):
                held.append(await pool.acquire())
    for connection in held:
        pool.give_back(connection)


async def test_many_waits_that_end_one_by_one_are_looked_at_a_few_times(
    pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, look = list[float](), ConnectionPool._end_waits

    def noting(self: ConnectionPool, loop: asyncio.AbstractEventLoop) -> None:
        looks.append(loop.time())
        look(self, loop)

    monkeypatch.setattr(ConnectionPool, "_end_waits", noting)
    both = [await pool.acquire() for _ in range(LIMIT)]
    begun = time.monotonic()
    waits = [pool.acquire(seconds=0.2 + number / 800) for number in range(800)]
    async with asyncio.timeout(20):
        ended = await asyncio.gather(*waits, return_exceptions=True)
    took = time.monotonic() - begun
    for connection in both:  # before anything fails: the pool ends when they are back
        pool.give_back(connection)
    assert {type(one) for one in ended} == {TimeoutError}
    assert 2 <= len(looks) <= took / 0.02 + 2
    assert pool._timer is None and not pool._waiting


async def test_holders_who_wait_are_served_in_turns(pool: ConnectionPool) -> None:
    held = [await pool.acquire(1) for _ in range(LIMIT)]
    served: list[int] = []

    async def use(holder: int) -> None:
        connection = await pool.acquire(holder)
        served.append(holder)
        await asyncio.sleep(0)
        pool.give_back(connection, holder)

    tasks = [asyncio.create_task(use(holder)) for holder in (1, 1, 1, 1, 1, 1, 2, 2, 3)]
    await asyncio.sleep(0.05)
    for connection in held:
        pool.give_back(connection, 1)
    await asyncio.gather(*tasks)
    assert sorted(served) == [1] * 6 + [2] * 2 + [3]
    assert set(served[:3]) == {1, 2, 3}, "one of each before anybody has a second"


async def test_a_holder_never_has_more_than_its_share(byodpp_bench: Bench) -> None:
    shares = {1: 1}
    inner: asyncpg.Pool[Any] = await asyncpg.create_pool(
        byodpp_bench.server.uri(SUPERUSER, "postgres"), min_size=0, max_size=3
    )
    pool = ConnectionPool(inner, 3, shares)
    first = await pool.acquire(1)
    waiting = asyncio.create_task(pool.acquire(1))
    await asyncio.sleep(0.05)
    assert not waiting.done() and pool.take(1) is None
    others = [await pool.acquire(2), await pool.acquire(3)]
    pool.give_back(others[0], 2)
    await asyncio.sleep(0.05)
    assert not waiting.done(), "a free connection is not for whoever has its share"
    again = pool.take(2)
    assert again is others[0]
    pool.give_back(first, 1)
    assert await waiting is first
    pool.give_back(again, 2)
    shares[1] = 2
    assert pool.take(1) is again, "a share that has grown counts at once"
    for connection, holder in ((first, 1), (again, 1), (others[1], 3)):
        pool.give_back(connection, holder)
    await pool.close()


async def test_no_connection_is_lost_whoever_waits_gives_up_or_throws_away(pool: ConnectionPool) -> None:
    async def use(number: int) -> None:
        holder = number % 5
        seconds = 0.01 if number % 11 == 0 else None
        try:
            connection = pool.take(holder) or await pool.acquire(holder, seconds=seconds)
        except TimeoutError:
            return
        try:
            await asyncio.sleep(random.random() / 500)
        except asyncio.CancelledError:
            await pool.discard(connection, 1.0, holder)
            raise
        if number % 7 == 0:
            await pool.discard(connection, 1.0, holder)
        else:
            pool.give_back(connection, holder)

    tasks = []
    for number in range(600):
        tasks.append(asyncio.create_task(use(number)))
        if number % 3 == 0:
            random.choice(tasks).cancel()
            await asyncio.sleep(random.random() / 1000)
    async with asyncio.timeout(30):
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(one is None or isinstance(one, asyncio.CancelledError) for one in ended)
    async with asyncio.timeout(5):
        all_of_them = [await pool.acquire(9) for _ in range(LIMIT)]
    for connection in all_of_them:
        pool.give_back(connection, 9)
