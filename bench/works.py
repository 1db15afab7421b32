"""The work that is measured: which requests each of it sends, and what its answers hold.

A work is the same for every contestant; only the address may be written in the contestant's own
manner, and rows may lie in its own envelope: `contestants` tells both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.processes import Request
from bench.world import Tenant, World

__all__ = ["BATCH", "UNIQUE", "WORKS", "Work", "requests_of"]

#: The load generator puts a number in its place that no other request has.
UNIQUE = "@" * 12
BATCH = 100
_READ_PER_TENANT = 20
_PATCHED_PER_TENANT = 100
_CHANCE = 20261120

Body = Callable[[World, Tenant, int], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One kind of request."""

    name: str
    title: str
    method: str = "GET"
    status: int = 200
    by_id: bool = False  # the address names a row
    body: Body | None = None
    tenants: int | None = None  # how many of the tenants ask; all when None
    connections: int | None = None  # the one number of connections it is measured at; all when None
    targets: Mapping[str, float]  # contestant -> least ratio to it that is promised, at 16 connections
    like: str = ""  # the work whose address it shares; its own name when empty

    @property
    def address(self) -> str:
        """The key of its address among the contestants' addresses."""
        return self.like or self.name


def _product(world: World, tenant: Tenant, number: int) -> dict[str, Any]:
    return {
        "name": f"Made {UNIQUE}",
        "sku": f"S{UNIQUE}",
        "categoryId": world.category(tenant, number),
        "price": 12.5,
        "stock": number % 1_000,
    }


def _batch(world: World, tenant: Tenant, number: int) -> list[dict[str, Any]]:
    return [_product(world, tenant, number + item) for item in range(BATCH)]


def _patch(world: World, tenant: Tenant, number: int) -> dict[str, Any]:
    return {"stock": number % 1_000, "description": f"Changed {UNIQUE}"}


WORKS = {
    work.name: work
    for work in (
        Work(name="read", title="read by id", by_id=True, targets={"bare": 0.70, "fastapi": 4}),
        Work(name="list", title="list of 20, exact count", targets={"bare": 0.75, "fastapi": 4}),
        Work(name="filtered", title="the same, filtered and sorted", targets={}),
        Work(name="include", title="list of 20 with a to-one and a to-many", targets={"fastapi": 4}),
        Work(
            name="create",
            title="create",
            method="POST",
            status=201,
            body=_product,
            targets={"bare": 0.55, "fastapi": 4},
        ),
        Work(
            name="create1",
            title="create, all in one tenant",
            method="POST",
            status=201,
            body=_product,
            tenants=1,
            connections=16,
            like="create",
            targets={},
        ),
        Work(name="patch", title="patch", method="PATCH", by_id=True, body=_patch, targets={"fastapi": 3}),
        Work(
            name="batch",
            title=f"create {BATCH} at once",
            method="POST",
            status=201,
            body=_batch,
            targets={"fastapi": 2},
        ),
    )
}


def requests_of(work: Work, path: str, world: World) -> list[Request]:
    """Return the requests of a work, over all tenants and in an order that repeats.

    Args:
        work: what to do.
        path: the contestant's address for it; `{id}` stands for a row's.
        world: what there is.
    """
    chance = random.Random(_CHANCE)
    found = []
    for tenant in world.tenants[: work.tenants]:
        ids = world.products(tenant)
        wanted = _PATCHED_PER_TENANT if work.method == "PATCH" else _READ_PER_TENANT
        chosen = chance.sample(ids, min(wanted, len(ids))) if work.by_id else [0]
        for number, row in enumerate(chosen):
            body = work.body(world, tenant, number) if work.body else None
            address = path.replace("{id}", str(row))
            found.append(
                Request(method=work.method, path=address, token=tenant.token, tenant=tenant.id, body=body)
            )
    chance.shuffle(found)
    return found
