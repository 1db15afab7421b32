"""What BYO DPP's requests cost when there is more: resources, tenants, rows, pages.

Each growth is measured side by side with the smallest of its kind. Comes in: how large. Goes out:
a `Growth` with a sample per side and round.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.comparison import greet
from bench.contestants import CONTESTANTS, UNLIMITED, started
from bench.processes import Generator, Request, Server, ask, clean_environment, serving
from bench.turns import Sample, Side, alternate
from bench.world import Size, Tenant, World, made
from scripts.ports import free_port

__all__ = ["GROWTHS", "Growth", "Scale", "measure"]

HERE = Path(__file__).parent
_CHANCE = 20261120
_LIST = "/api/v1/products?limit=20"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How far it goes, and how long it is measured; the smallest comes first."""

    resources: tuple[int, ...] = (1, 100, 1_000)
    tenants: tuple[int, ...] = (1, 50, 1_000)
    rows: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    rounds: int = 15
    seconds: float = 0.7
    connections: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One kind of request on all sizes."""

    title: str
    #: Least part of the first one's throughput that the last one must have; None where nothing is promised.
    target: float | None
    samples: dict[str, list[Sample]]  # size, as it is told, smallest first
    remark: str = ""


def measure(place: Path, scale: Scale, kinds: Sequence[str], tell: Callable[[str], None]) -> list[Growth]:
    """Measure the growths of these kinds; folders are made in `place`."""
    found = []
    with Generator() as generator:
        for kind in kinds:
            for growth in GROWTHS[kind](place, scale, generator):
                found.append(growth)
                told = ", ".join(f"{size} {ones[-1].rate:,.0f}/s" for size, ones in growth.samples.items())
                tell(f"{growth.title}: {told}")
    return found


def _alternate(generator: Generator, scale: Scale, sides: dict[str, Side]) -> dict[str, list[Sample]]:
    return alternate(
        generator, sides, rounds=scale.rounds, seconds=scale.seconds, connections=scale.connections
    )


# --- resources --------------------------------------------------------------------------


def by_resources(place: Path, scale: Scale, generator: Generator) -> Iterator[Growth]:
    """Read by id in applications of so many resources, each on a PostgreSQL of its own."""
    with ExitStack() as stack:
        sides, starts = {}, []
        for number in scale.resources:
            side = stack.enter_context(_application(place / f"resources-{number}", number))
            sides[f"{number:,}"] = side
            starts.append(f"{side.server.seconds:.2f} s with {number:,}")
        yield Growth(
            title="read by id, by the number of resources",
            target=0.95,
            samples=_alternate(generator, scale, sides),
            remark=f"From the start of the process to readiness: {', '.join(starts)}.",
        )


def manifest(resources: int) -> dict[str, Any]:
    """Return a manifest with so many resources of eight fields."""
    fields = {
        "name": {"type": "string", "required": True, "index": True},
        "amount": {"type": "integer"},
        "price": {"type": "decimal", "precision": 12, "scale": 2},
        "isActive": {"type": "boolean", "default": True},
        "checkedAt": {"type": "datetime"},
        "madeOn": {"type": "date"},
        "metadata": {"type": "json", "default": {}},
        "remark": {"type": "text"},
    }
    return {"resources": [{"name": f"Things{i}", "fields": fields} for i in range(resources)]}


@contextmanager
def _application(folder: Path, resources: int) -> Iterator[Side]:
    folder.mkdir()
    (folder / "resources.json").write_text(json.dumps(manifest(resources)))
    environment = clean_environment(**UNLIMITED, PYTHONPATH=str(HERE.parent))
    program = [sys.executable, "-m", "byodpp", "--app", str(folder)]
    for step in ("new", "apply"):
        subprocess.run([*program, "migrate", step], env=environment, check=True, stdout=subprocess.DEVNULL)
    port = free_port()
    command = [*program, "serve", "--port", str(port), "--no-demo"]
    probe = Request(method="GET", path="/health/ready")
    with serving(command, environment, port, probe, folder / "serve.log") as server:
        words = [*program, "token", "--tenant", "acme"]
        done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
        pid = json.loads((folder / ".byodpp" / "postgres.json").read_text())["pid"]
        yield Side(server=server, requests=_reads_of(port, resources, done.stdout.strip()), database=pid)


def _reads_of(port: int, resources: int, token: str) -> list[str]:
    """Make a row in some of the resources and return the requests that read them."""
    found = []
    for number in sorted({0, resources // 2, resources - 1}):
        path = f"/api/v1/things{number}"
        body = {"name": "one", "price": 1.5}
        status, answer = ask(port, Request(method="POST", path=path, token=token, body=body))
        if status != 201:
            raise RuntimeError(f"no row could be made: {status} {answer}")
        found.append(Request(method="GET", path=f"{path}/{answer['data']['id']}", token=token).text())
    return found


# --- tenants ----------------------------------------------------------------------------


def by_tenants(place: Path, scale: Scale, generator: Generator) -> Iterator[Growth]:
    """Let all of so many tenants ask in turn; together they have as many rows, however many they are.

    The bare limit does the same beside it: what so many tokens and rows cost any server, and whoever asks.
    """
    rows = max(scale.tenants) * 20
    with ExitStack() as stack:
        reads, lists, bare = {}, {}, {}
        for number in scale.tenants:
            size = Size(tenants=number, categories=5, products=rows // number, parts=0)
            world = stack.enter_context(made(place / f"tenants-{number}", size))
            server = stack.enter_context(started(CONTESTANTS["byodpp"], world))
            requests = _spread_reads(world, 4_000)
            greet(server, requests)
            reads[f"{number:,}"] = _side(world, server, requests)
            pages = [_get(tenant, f"{_LIST}&count=none") for tenant in world.tenants]
            lists[f"{number:,}"] = _side(world, server, pages)
            limit = stack.enter_context(started(CONTESTANTS["bare"], world))
            greet(limit, requests)
            bare[f"{number:,}"] = _side(world, limit, requests)
        works = (
            ("read by id", reads, 0.95),
            ("list of 20, no count", lists, 0.95),
            ("read by id at the bare limit", bare, None),
        )
        for title, sides, target in works:
            yield Growth(
                title=f"{title}, by the number of tenants that ask",
                target=target,
                samples=_alternate(generator, scale, sides),
            )


def _spread_reads(world: World, number: int) -> list[Request]:
    """Return so many reads, all tenants in turn, of rows by chance."""
    chance = random.Random(_CHANCE)
    found = []
    for index in range(number):
        tenant = world.tenants[index % len(world.tenants)]
        found.append(_get(tenant, f"/api/v1/products/{chance.choice(world.products(tenant))}"))
    return found


def _get(tenant: Tenant, path: str) -> Request:
    return Request(method="GET", path=path, token=tenant.token, tenant=tenant.id)


def _side(world: World, server: Server, requests: Sequence[Request]) -> Side:
    return Side(server=server, requests=[request.text() for request in requests], database=world.server.pid)


# --- rows and pages ---------------------------------------------------------------------


def by_rows(place: Path, scale: Scale, generator: Generator) -> Iterator[Growth]:
    """Ask in tenants of so many rows, all in one table; then page through the largest."""
    size = Size(categories=20, parts=0, uneven=scale.rows)
    with made(place / "rows", size) as world, started(CONTESTANTS["byodpp"], world) as server:
        greet(server, [_get(tenant, _LIST) for tenant in world.tenants])
        works = (
            ("read by id", _reads, 0.95),
            ("list of 20, no count", [f"{_LIST}&count=none"], 0.95),
            ("the dearest 20 below a price, no count", _BELOW, 0.95),
            ("list of 20, exact count", [_LIST], None),
        )
        for title, asked, target in works:
            sides = {}
            for tenant, rows in zip(world.tenants, scale.rows, strict=True):
                paths = asked(world, tenant) if callable(asked) else asked
                sides[f"{rows:,}"] = _side(world, server, [_get(tenant, path) for path in paths])
            yield Growth(
                title=f"{title}, by the rows of the tenant",
                target=target,
                samples=_alternate(generator, scale, sides),
                remark="" if target else "PostgreSQL counts the rows one by one.",
            )
        yield from _by_pages(world, server, scale, generator)


_BELOW = [f"{_LIST}&count=none&filter[price][lte]={price}&sort=-price" for price in range(50, 1000, 50)]


def _reads(world: World, tenant: Tenant) -> list[str]:
    chance = random.Random(_CHANCE)
    ids = world.products(tenant)
    return [f"/api/v1/products/{chance.choice(ids)}" for _ in range(1_000)]


def _by_pages(world: World, server: Server, scale: Scale, generator: Generator) -> Iterator[Growth]:
    """Read the first page, and the one behind nine tenths of all rows by its cursor."""
    tenant = world.tenants[-1]
    behind = scale.rows[-1] * 9 // 10
    for title, order in (("by key", ""), ("by price, descending", "&sort=-price")):
        first = f"{_LIST}&count=none{order}"
        status, answer = ask(server.port, _get(tenant, f"{first}&offset={behind - 20}"))
        if status != 200:
            raise RuntimeError(f"the page before the measured one: {status} {answer}")
        cursor = answer["pagination"]["next"]
        pages = {"the first": first, f"behind row {behind:,}": f"{first}&cursor={cursor}"}
        sides = {name: _side(world, server, [_get(tenant, path)]) for name, path in pages.items()}
        yield Growth(
            title=f"a page of 20 through a cursor, {title}",
            target=1 / 1.2,
            samples=_alternate(generator, scale, sides),
        )


GROWTHS: dict[str, Callable[[Path, Scale, Generator], Iterator[Growth]]] = {
    "resources": by_resources,
    "tenants": by_tenants,
    "rows": by_rows,
}
