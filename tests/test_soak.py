"""What must hold for years: memory stays flat however queries vary, and nobody blocks the event loop."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import resource
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.loop_watch import LoopWatch
from tests.plain_client import PlainClient

SEED = int(os.environ.get("BYODPP_TEST_SEED", "1"))
ITEMS, PAPERS = "/api/v1/items", "/api/v1/papers"
FIELDS = (
    "id",
    "name",
    "sku",
    "shelfId",
    "stock",
    "total",
    "price",
    "pairs",
    "ratio",
    "digits",
    "tags",
    "seen",
    "cost",
)
NUMBERS = ("id", "shelfId", "stock", "total", "pairs", "seen", "cost")
LONGEST_SECONDS = 0.25


def forget(line: str) -> None:
    """Take a line of the access log; kept, they would be the growth that is sought."""


@pytest.fixture(scope="module", autouse=True)
def frozen_again() -> Iterator[None]:
    """Leave what earlier tests have made out of the collector's way, as it was before."""
    yield
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def filled(bench: Bench, writes: Blueprint) -> AsyncIterator[TestedApplication]:
    async with bench.application(writes, write_access_line=forget, rate_limit_enabled=False) as tested:
        client = tested.client()
        body = {"name": "s", "items": [{"name": f"n{n}", "stock": n, "cost": n % 7} for n in range(50)]}
        assert (await client.post("/api/v1/shelves", json=body)).status_code == 201
        papers = [{"title": f"p{n}"} for n in range(5)]
        assert (await client.post(f"{PAPERS}/batch", json=papers)).status_code == 201
        gc.collect()
        gc.freeze()  # as the server does: what stays is no garbage
        yield tested
        gc.unfreeze()


@pytest_asyncio.fixture(loop_scope="session")
async def store(byodpp_bench: Bench, writes: Blueprint) -> AsyncIterator[TestedApplication]:
    async with filled(byodpp_bench, writes) as tested:
        yield tested


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def busy(byodpp_bench: Bench, writes: Blueprint) -> AsyncIterator[TestedApplication]:
    """It, for one heavy request after the other, as a server gets them."""
    async with filled(byodpp_bench, writes) as tested:
        yield tested


def random_query(chance: random.Random) -> str:
    """Return a query that has hardly been asked before."""
    parts = []
    if chance.random() < 0.8:
        parts.append("fields=" + ",".join(chance.sample(FIELDS, chance.randint(1, len(FIELDS)))))
    for name in chance.sample(NUMBERS, chance.randint(0, 3)):
        operator = chance.choice(["eq", "ne", "gt", "gte", "lt", "lte", "in", "isNull"])
        value = {"in": "1,2,3", "isNull": "true"}.get(operator, "VALUE")
        parts.append(f"filter[{name}][{operator}]={value}")
    if chance.random() < 0.5:
        parts.append(
            "sort=" + ",".join(f"{chance.choice(['', '-'])}{name}" for name in chance.sample(NUMBERS, 2))
        )
    if chance.random() < 0.2:
        parts.append("include=" + ",".join(chance.sample(["shelf", "parts"], chance.randint(1, 2))))
    parts.append(f"limit={chance.randint(1, 30)}&count={chance.choice(['exact', 'none', 'estimated'])}")
    return quote("&".join(parts), safe="=&[],-")


# --- memory -----------------------------------------------------------------------------


class Asking:
    """Asks one random query after the other, some at a time."""

    def __init__(self, store: TestedApplication, *, known: int) -> None:
        """Args:
        store: is asked.
        known: shapes of queries of which most requests are; the rest are new ones.
        """
        self.client = PlainClient(store.asgi)
        self.token = store.token()
        self.chance = random.Random(SEED)
        self.known = [random_query(self.chance) for _ in range(known)]
        self.statuses: Counter[int] = Counter()

    async def __call__(self, requests: int, new: float) -> None:
        """Send so many requests, a part of them of a shape that was never seen."""

        async def some() -> None:
            for _ in range(requests // 8):
                is_new = not self.known or self.chance.random() < new
                query = random_query(self.chance) if is_new else self.chance.choice(self.known)
                query = query.replace("VALUE", str(self.chance.randint(0, 10**6)))
                reply = await self.client("GET", f"{ITEMS}?{query}", token=self.token)
                self.statuses[reply.status] += 1

        await asyncio.gather(*(some() for _ in range(8)))


@pytest_asyncio.fixture(loop_scope="session")
async def forgetful(
    byodpp_bench: Bench, writes: Blueprint, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TestedApplication]:
    """An application that remembers little, so that its bounds are reached soon."""
    monkeypatch.setattr("byodpp.database.connections._CACHED_STATEMENTS", 20)
    monkeypatch.setattr(writes.statements, "_max_statements", 50)
    async with byodpp_bench.application(writes, write_access_line=forget, rate_limit_enabled=False) as tested:
        monkeypatch.setattr(tested.connected.service.parts.store.reader, "_max_remembered", 50)
        yield tested


async def test_what_is_remembered_of_queries_is_bounded(forgetful: TestedApplication) -> None:
    ask = Asking(forgetful, known=0)
    await ask(200, new=1.0)
    tracemalloc.start()
    try:
        await ask(80, new=1.0)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        await ask(80, new=1.0)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    statements, reader = forgetful.blueprint.statements, forgetful.connected.service.parts.store.reader
    assert len(statements) <= 50 and len(reader) <= 50
    assert ask.statuses == {200: 360}
    assert grown < 500_000, f"{grown} bytes more"


@pytest.mark.soak
async def test_memory_stays_flat_over_two_hundred_thousand_queries(
    store: TestedApplication, record_property: Callable[[str, object], None]
) -> None:
    ask = Asking(store, known=500)
    megabytes = []
    for _ in range(10):
        await ask(20_000, new=0.1)
        gc.collect()
        megabytes.append(resident_megabytes())
    assert ask.statuses == {200: 200_000}
    record_property("requests", sum(ask.statuses.values()))
    record_property("of shapes never seen before", "a tenth")
    record_property("megabytes after each 20,000", ", ".join(f"{one:.0f}" for one in megabytes))
    # Until then the caches fill.
    assert megabytes[-1] - megabytes[2] < 0.05 * megabytes[2]


def resident_megabytes() -> float:
    """Return what this process holds in memory; where no kernel tells it, the most it ever held."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


# --- the event loop ---------------------------------------------------------------------


#: By what it is, the heaviest that a client may send: method, address, and what makes the body.
HEAVY: dict[str, tuple[str, str, Callable[[], Any]]] = {
    "a batch of 1,000 rows": ("POST", f"{ITEMS}/batch", lambda: thousand_rows()),
    "a batch of 1,000 faulty rows": (
        "POST",
        f"{ITEMS}/batch",
        lambda: [{"name": "", "stock": -1, "price": "x", "unknown": n, "tags": [1]} for n in range(1_000)],
    ),
    "a row of 9 MB": ("POST", ITEMS, lambda: large()),
    "a change of 9 MB": ("PATCH", f"{PAPERS}/1", lambda: {"meta": large()["extra"]}),
    "a batch of one row of 9 MB": ("POST", f"{ITEMS}/batch", lambda: [large()]),
    "9 MB for a row each": (
        "POST",
        f"{PAPERS}/batch",
        lambda: {
            "operation": "patch",
            "atomic": False,
            "items": [{"id": n, "meta": large()["extra"][:30_000]} for n in range(1, 6)],
        },
    ),
    "an operation with 9 MB": (
        "POST",
        "/api/v1/batch",
        lambda: [{"operation": "create", "resource": "Items", "data": large()}],
    ),
    "a row of many unknown names": ("POST", ITEMS, lambda: {"name": "many", **names()}),
    "a batch of 1,000 rows of many unknown names": (
        "POST",
        f"{ITEMS}/batch",
        lambda: [{"name": "many", **names(300)} for _ in range(1_000)],
    ),
    "an object of many names": ("PATCH", f"{PAPERS}/2", lambda: {"meta": names()}),
    "a batch of rows with many faulty items": (
        "POST",
        f"{PAPERS}/batch",
        lambda: [{"title": "many", "tags": list(range(1_000))} for _ in range(400)],
    ),
    "a filter of many unknown names": ("POST", f"{ITEMS}/query", lambda: {"filter": names()}),
    "a query of many unknown names": ("POST", f"{ITEMS}/query", lambda: names()),
    "an operation of many unknown names": (
        "POST",
        "/api/v1/batch",
        lambda: [{"operation": "read", "resource": "Items", "id": 1, **names()}],
    ),
    "an operation with many parameters": (
        "POST",
        "/api/v1/batch",
        lambda: [{"operation": "read", "resource": "Items", "id": 1, "params": names()}],
    ),
    "9 MB of numbers": ("POST", f"{ITEMS}/batch", lambda: [1] * 3_000_000),
    "9 MB that are no JSON": (
        "POST",
        ITEMS,
        lambda: b'{"name":"x","extra":' + b"[" * 30 + b"1," * 4_500_000,
    ),
    "9 MB of brackets": ("POST", ITEMS, lambda: b"[" * 9_000_000),
    "a patch of 1,000 steps": (
        "PATCH",
        f"{ITEMS}/1",
        lambda: [{"op": "add", "path": "/tags/-", "value": "x"}, {"op": "remove", "path": "/tags/0"}] * 500,
    ),
    "a row with 1,000 related rows": (
        "POST",
        "/api/v1/shelves",
        lambda: {"name": "h", "items": thousand_rows()},
    ),
    "a page of 1,000 rows with all related": (
        "GET",
        f"{ITEMS}?limit=1000&include=shelf.items,parts",
        lambda: None,
    ),
    "a deep query": ("POST", f"{ITEMS}/query", lambda: deep_query()),
    "a long list in a filter": (
        "GET",
        f"{ITEMS}?filter[id][in]={','.join(map(str, range(900)))}",
        lambda: None,
    ),
    "the document": ("GET", "/openapi.json", lambda: None),
    "a page of the documentation": ("GET", "/docs/v1/items", lambda: None),
}


def thousand_rows() -> list[Any]:
    return [{"name": f"h{n}", "tags": ["a", "b"], "extra": {"n": [n] * 20}} for n in range(1_000)]


def large() -> dict[str, Any]:
    return {"name": "large", "extra": [{"a": n, "b": ["x" * 20, n / 8]} for n in range(150_000)]}


def names(count: int = 200_000) -> dict[str, int]:
    return {f"{n * 7919 % 400_009:06}": n for n in range(count)}


def deep_query() -> dict[str, Any]:
    deep: Any = {"stock": {"gt": 1}}
    for _ in range(4):
        deep = {"or": [deep, {"name": {"like": "%a%b%c%"}}, {"id": {"in": list(range(100))}}]}
    return {"filter": deep, "limit": 100}


async def heaviest(store: TestedApplication, name: str, watch: LoopWatch) -> int:
    """Send one heavy request beside light ones, and return its status."""
    client, token = PlainClient(store.asgi), store.token()
    method, target, make = HEAVY[name]
    body = make()
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    steps = method == "PATCH" and isinstance(body, list)
    del body
    headers = (
        {"content-type": "application/json-patch+json" if steps else "application/json"} if content else {}
    )
    ended = asyncio.Event()

    async def light() -> None:
        while not ended.is_set():
            assert (await client("GET", f"{ITEMS}/2", token=token)).status == 200
            await asyncio.sleep(0.005)  # the heavy one has most of the processor

    async with watch.watching():
        lights = [asyncio.create_task(light()) for _ in range(3)]
        try:
            reply = await client(method, target, token=token, headers=headers, body=content)
        finally:
            ended.set()
            await asyncio.gather(*lights)
    return reply.status


async def let_go(tested: TestedApplication) -> None:
    """Forget what the kit keeps of what handlers hear: megabytes of each row that nobody would hold."""
    await tested.events()
    tested.recorder.heard.clear()


@pytest.mark.parametrize("name", list(HEAVY))
async def test_no_request_keeps_the_others_waiting(busy: TestedApplication, name: str) -> None:
    watch = LoopWatch()
    assert await heaviest(busy, name, watch) in (200, 201, 400, 409, 413, 422)
    assert watch.longest_seconds < LONGEST_SECONDS
    await let_go(busy)


@pytest.mark.soak
async def test_nobody_blocks_the_event_loop_for_a_quarter_of_a_second(
    store: TestedApplication, record_property: Callable[[str, object], None]
) -> None:
    rounds, longest = 10, dict.fromkeys(HEAVY, 0.0)
    for name in list(longest) * rounds:
        watch = LoopWatch()
        await heaviest(store, name, watch)
        longest[name] = max(longest[name], watch.longest_seconds)
        await let_go(store)
    record_property("heavy requests", rounds * len(longest))
    worst = sorted(longest, key=lambda name: -longest[name])[:3]
    record_property(
        "longest in milliseconds", "; ".join(f"{round(longest[name] * 1000)} ({name})" for name in worst)
    )
    assert longest[worst[0]] < LONGEST_SECONDS, longest
