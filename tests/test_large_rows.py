"""Rows of megabytes, asked for by requests that are small themselves, keep nobody waiting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from byodpp.testing import Bench, TestedApplication
from tests.loop_watch import LoopWatch
from tests.plain_client import PlainClient, Reply
from tests.worlds import build

pytestmark = pytest.mark.slow

LONGEST_SECONDS = 0.25
DOCS, LOOKED = "/api/v1/docs", "/api/v1/looked"
FIELDS: dict[str, Any] = {
    "name": {"type": "string", "maxLength": 100, "required": True, "index": True},
    "meta": {"type": "json"},
    "secret": {"type": "json", "encrypted": True},
}
ACCESS = {"read": ["Admin"], "write": ["Admin"]}
MANIFEST: dict[str, Any] = {
    "resources": [
        {"name": "Docs", "versioned": True, "fields": FIELDS, "access": ACCESS},
        {"name": "Looked", "versioned": True, "fields": FIELDS, "access": ACCESS},
    ],
    "include": ["byodpp:tenancy", "byodpp:access"],
}
CLASSES = """
from byodpp.logics import Logic


class Create(Logic):
    resource, operation = "Looked", "create"

    async def execute(self):
        row = await self.default()
        return row | {"name": f"{len(row['meta'])} in {row['name']}"}


class Read(Logic):
    resource, operation = "Looked", "read"

    async def execute(self):
        row = await self.repository.read(self.request.params["id"])
        return row | {"name": f"{len(row['meta'])} in {row['name']}"}


class List(Logic):
    resource, operation = "Looked", "list"

    async def execute(self):
        return list(await self.default())


class Patch(Logic):
    resource, operation = "Looked", "patch"

    async def execute(self):
        row = await self.repository.patch(self.request.params["id"], {"name": "patched"})
        return {"names": len(row["meta"])}
"""


def large() -> dict[str, Any]:
    """Return what takes some three tenths of a second to be parsed, checked, and written."""
    return {f"k{n}": {"a": n, "b": ["x" * 20, n / 8]} for n in range(30_000)}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def filled(
    byodpp_bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[TestedApplication]:
    blueprint = build(tmp_path_factory.mktemp("large"), MANIFEST, {"logics/v1/looked/all.py": CLASSES})
    async with byodpp_bench.application(blueprint, rate_limit_enabled=False) as tested:
        for address in (DOCS, LOOKED):
            for body in ({"name": "a", "meta": large()}, {"name": "b", "meta": {}, "secret": large()}):
                assert (await send(tested, "POST", address, body)).status == 201
        yield tested


async def send(tested: TestedApplication, method: str, target: str, body: Any = None) -> Reply:
    """Send a request; a body of bytes is JSON already, so that writing it is no part of what is watched."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    kind = "application/json-patch+json" if isinstance(body, list) else "application/json"
    headers = {"content-type": kind} if content else {}
    return await PlainClient(tested.asgi)(method, target, token=tested.token(), headers=headers, body=content)


REQUESTS: dict[str, tuple[str, str, Any]] = {
    "a step": ("PATCH", f"{DOCS}/1", [{"op": "add", "path": "/meta/new", "value": 1}]),
    "a merge": ("PATCH", f"{DOCS}/1", {"meta": {"newer": 1}}),
    "a merge into what is encrypted": ("PATCH", f"{DOCS}/2", {"secret": {"newer": 1}}),
    "a merge in a batch": (
        "POST",
        f"{DOCS}/batch",
        {"operation": "patch", "items": [{"id": 1, "meta": {"newest": 1}}]},
    ),
    "a merge among operations": (
        "POST",
        "/api/v1/batch",
        {"operations": [{"operation": "patch", "resource": "Docs", "id": 1, "data": {"meta": {"last": 1}}}]},
    ),
    "a class that reads": ("GET", f"{LOOKED}/1", None),
    "a class that lists": ("GET", LOOKED, None),
    "a class that patches": ("PATCH", f"{LOOKED}/1", {"name": "x"}),
    "a class that reads for an operation": (
        "POST",
        "/api/v1/batch",
        {"operations": [{"operation": "read", "resource": "Looked", "id": 1}]},
    ),
}


@pytest.mark.parametrize("name", list(REQUESTS))
async def test_a_small_request_for_a_large_row_keeps_nobody_waiting(
    filled: TestedApplication, name: str
) -> None:
    watch = LoopWatch()
    async with watch.watching():
        reply = await send(filled, *REQUESTS[name])
    assert reply.status == 200, reply.body[:300]
    assert watch.longest_seconds < LONGEST_SECONDS


async def test_a_class_that_looks_at_the_large_row_it_has_made_keeps_nobody_waiting(
    filled: TestedApplication,
) -> None:
    watch, meta = LoopWatch(), large()
    body = json.dumps({"name": "new", "meta": meta}).encode()
    async with watch.watching():
        reply = await send(filled, "POST", LOOKED, body)
    assert reply.status == 201
    assert watch.longest_seconds < LONGEST_SECONDS
    data = await asyncio.to_thread(reply.json)
    assert data["data"]["name"] == "30000 in new"
    assert data["data"]["meta"] == meta
