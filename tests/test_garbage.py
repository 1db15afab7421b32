"""Requests leave no cycles behind: what they made is gone when they are, without a pass of the collector.

Passes are put off while large bodies are alive (byodpp/heap.py); what only they could take away would stay
as long, and bring a long pass afterwards.
"""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.plain_client import PlainClient, Reply

ITEMS, SHELVES, PAPERS, HINTS = "/api/v1/items", "/api/v1/shelves", "/api/v1/papers", "/api/v1/hints"
#: Containers with cycles that one request may leave: those of a connection that an import opens and closes.
FEW = 20


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def filled(byodpp_bench: Bench, writes: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(writes, rate_limit_enabled=False) as tested:
        client = tested.client()
        shelf = {"name": "s", "items": [{"name": f"n{n}", "sku": f"k{n}"} for n in range(20)]}
        assert (await client.post(SHELVES, json=shelf)).status_code == 201
        papers = [{"title": f"p{n}"} for n in range(5)]
        assert (await client.post(f"{PAPERS}/batch", json=papers)).status_code == 201
        assert (await client.post(HINTS, json={"text": "h"})).status_code == 201
        yield tested


def faulty(count: int) -> list[Any]:
    return [{"name": "", "stock": -1, "price": "x", "unknown": n, "tags": [1]} for n in range(count)]


def unknown(count: int) -> list[Any]:
    return [{"name": "many", **{f"x{n}": n for n in range(300)}} for _ in range(count)]


def rows(count: int) -> list[Any]:
    return [{"name": f"h{n}", "tags": ["a", "b"], "extra": {"n": [n] * 20}} for n in range(count)]


def lines(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def mixed(operation: str, items: list[Any]) -> dict[str, Any]:
    return {"operation": operation, "atomic": False, "items": items}


LINES = {"content-type": "application/x-ndjson"}
STEPS = {"content-type": "application/json-patch+json"}
#: By what it is: method, address, headers, what makes the body, and the status of the answer.
REQUESTS: dict[str, tuple[str, str, dict[str, str], Callable[[], Any], int]] = {
    "a read": ("GET", f"{ITEMS}/1", {}, lambda: None, 200),
    "a read of an unknown row": ("GET", f"{ITEMS}/999999", {}, lambda: None, 404),
    "a read that has not changed": ("GET", f"{SHELVES}/1", {"if-none-match": '"1"'}, lambda: None, 304),
    "a list": ("GET", f"{ITEMS}?include=shelf,parts&limit=20", {}, lambda: None, 200),
    "a list by an unknown field": ("GET", f"{ITEMS}?filter[nope][eq]=1", {}, lambda: None, 400),
    "a list by a value of another type": ("GET", f"{ITEMS}?filter[stock][eq]=x", {}, lambda: None, 400),
    "a query": ("POST", f"{ITEMS}/query", {}, lambda: {"filter": {"stock": {"gte": 0}}}, 200),
    "a query that is refused": ("POST", f"{ITEMS}/query", {}, lambda: {"filter": {"x": 1}}, 400),
    "an aggregate": ("GET", f"{ITEMS}?aggregate=count,sum:stock&group=shelfId", {}, lambda: None, 200),
    "an unknown address": ("GET", "/api/v1/nothing", {}, lambda: None, 404),
    "a method that is not there": ("PUT", ITEMS, {}, lambda: {}, 405),
    "a false token": ("GET", ITEMS, {"authorization": "Bearer x.y.z"}, lambda: None, 401),
    "no JSON": ("POST", ITEMS, {}, lambda: b"{", 400),
    "another media type": ("POST", ITEMS, {"content-type": "text/plain"}, lambda: b"x", 415),
    "a creation": ("POST", ITEMS, {}, lambda: {"name": "new"}, 201),
    "a creation that is refused": ("POST", ITEMS, {}, lambda: faulty(1)[0], 422),
    "a creation with many unknown names": ("POST", ITEMS, {}, lambda: unknown(1)[0], 422),
    "a creation of what is there": ("POST", ITEMS, {}, lambda: {"name": "x", "sku": "k1"}, 409),
    "a creation with related rows": ("POST", SHELVES, {}, lambda: {"name": "t", "items": rows(100)}, 201),
    "faulty related rows": ("POST", SHELVES, {}, lambda: {"name": "t", "items": faulty(100)}, 422),
    "an update": ("PUT", f"{ITEMS}/2", {}, lambda: {"name": "n1"}, 200),
    "an update of an unknown row": ("PUT", f"{ITEMS}/999999", {}, lambda: {"name": "x"}, 404),
    "a change": ("PATCH", f"{ITEMS}/2", {}, lambda: {"stock": 3}, 200),
    "a change that is refused": ("PATCH", f"{ITEMS}/2", {}, lambda: {"stock": -3}, 422),
    "a change of another version": ("PATCH", f"{ITEMS}/2", {"if-match": '"77"'}, lambda: {"stock": 3}, 412),
    "a change without its version": ("PATCH", f"{HINTS}/1", {}, lambda: {"text": "x"}, 428),
    "a merge into what is stored": ("PATCH", f"{PAPERS}/1", {}, lambda: {"meta": {"a": 1}}, 200),
    "steps": ("PATCH", f"{ITEMS}/3", STEPS, lambda: [{"op": "add", "path": "/cost", "value": 1}], 200),
    "a step that fails": ("PATCH", f"{ITEMS}/3", STEPS, lambda: [{"op": "remove", "path": "/tags/9"}], 422),
    "a deletion of an unknown row": ("DELETE", f"{ITEMS}/999999", {}, lambda: None, 404),
    "a deletion of what is referred to": ("DELETE", f"{SHELVES}/1", {}, lambda: None, 409),
    "an illegal transition": ("POST", f"{ITEMS}/999999/publish", {}, lambda: None, 404),
    "a batch": ("POST", f"{ITEMS}/batch", {}, lambda: rows(1_000), 201),
    "a batch of faulty rows": ("POST", f"{ITEMS}/batch", {}, lambda: faulty(1_000), 422),
    "a batch of many unknown names": ("POST", f"{ITEMS}/batch", {}, lambda: unknown(1_000), 422),
    "a batch of which each row has its result": (
        "POST",
        f"{ITEMS}/batch",
        {},
        lambda: mixed("create", [*faulty(50), *rows(50)]),
        200,
    ),
    "a batch of changes, half of them of unknown rows": (
        "POST",
        f"{ITEMS}/batch",
        {},
        lambda: mixed("patch", [{"id": n if n % 2 else 900_000 + n, "cost": 1} for n in range(3, 20)]),
        200,
    ),
    "a batch with rows that are there": (
        "POST",
        f"{ITEMS}/batch",
        {},
        lambda: mixed("create", [{"name": f"y{n}", "sku": f"k{n}"} for n in range(20)]),
        200,
    ),
    "an atomic batch with a row that is there": (
        "POST",
        f"{ITEMS}/batch",
        {},
        lambda: [{"name": f"y{n}", "sku": f"k{n}"} for n in range(20)],
        409,
    ),
    "an update or creation by a key": (
        "POST",
        f"{ITEMS}/batch",
        {},
        lambda: {
            "operation": "upsert",
            "on": ["sku"],
            "items": [{"name": f"z{n}", "sku": f"z{n}"} for n in range(20)],
        },
        200,
    ),
    "a batch that is none": ("POST", f"{ITEMS}/batch", {}, lambda: {"operation": "x"}, 422),
    "operations": (
        "POST",
        "/api/v1/batch",
        {},
        lambda: [{"operation": "create", "resource": "Items", "data": row} for row in rows(20)],
        200,
    ),
    "operations of which one fails": (
        "POST",
        "/api/v1/batch",
        {},
        lambda: [{"operation": "create", "resource": "Items", "data": row} for row in [*rows(5), *faulty(1)]],
        422,
    ),
    "an import": ("POST", f"{ITEMS}/import", LINES, lambda: lines(*rows(200)), 200),
    "an import of faulty rows": ("POST", f"{ITEMS}/import", LINES, lambda: lines(*faulty(500)), 200),
    "the document": ("GET", "/openapi.json", {}, lambda: None, 200),
}


async def send(tested: TestedApplication, name: str) -> Reply:
    method, target, headers, make, _ = REQUESTS[name]
    body = make()
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    told = {"content-type": "application/json", **headers} if content else headers
    token = None if "authorization" in headers else tested.token()
    return await PlainClient(tested.asgi)(method, target, token=token, headers=told, body=content)


@pytest.mark.parametrize("name", list(REQUESTS))
async def test_a_request_leaves_hardly_any_cycles_behind(filled: TestedApplication, name: str) -> None:
    status = REQUESTS[name][-1]
    for _ in range(2):  # what is made once is made, also of what has happened already
        reply = await send(filled, name)
        assert reply.status == status, reply.body[:500]
    del reply
    await filled.events()
    for _ in range(3):  # what happens now and then, beside it, is not what it leaves each time
        gc.collect()
        gc.disable()
        try:
            assert (await send(filled, name)).status == status
            await asyncio.sleep(0.05)  # what ends after the answer
            left = gc.collect()
        finally:
            gc.enable()
        if left < FEW:
            break
    assert left < FEW, f"{left} containers"


class Served:
    """What a server has of a request: the scope, and the functions by which it is answered, as one object."""

    def __init__(self, target: str, token: str) -> None:
        self.status = 0
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "path": target,
            "raw_path": target.encode(),
            "query_string": b"",
            "headers": [(b"host", b"testserver"), (b"authorization", f"Bearer {token}".encode())],
            "client": ("127.0.0.1", 1234),
            "server": ("127.0.0.1", 80),
            "scheme": "http",
            "root_path": "",
        }

    async def receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Any) -> None:
        self.status = message.get("status", self.status)


async def test_what_a_server_has_of_a_request_is_gone_as_soon_as_the_server_lets_go_of_it(
    filled: TestedApplication,
) -> None:
    token = filled.token()
    for _ in range(2):  # what is made once is made
        served = Served(f"{ITEMS}/1", token)
        gone = weakref.ref(served)
        gc.disable()
        try:
            await filled.asgi(served.scope, served.receive, served.send)
            assert served.status == 200
            del served
            left = gone()
        finally:
            gc.enable()
    assert left is None
