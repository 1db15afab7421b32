"""What authorization and tenancy cost a read by id, and whether many policies and tenants are felt.

Three servers of the same application take turns, each on a PostgreSQL of its own: without authorization
(`rivals/unguarded.py`, row-level security switched off), with everything on, and with everything on where
1,000 tenants have stored 10,000 policies. All are asked by as many tenants, of as many rows.
`python -m bench.authorization` prints the medians and whether the promises are kept.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from bench.comparison import greet
from bench.contestants import CONNECTIONS, CONTESTANTS, UNLIMITED, started
from bench.figures import ratio, verdict
from bench.processes import Generator, Request, Server, serving
from bench.turns import Sample, Side, alternate
from bench.world import Size, World, made
from byodpp.embedded import SUPERUSER
from scripts.ports import free_port

__all__ = ["GUARDED", "MANY", "PROMISES", "UNGUARDED", "Scale", "measure"]

UNGUARDED, GUARDED, MANY = "without", "with everything on", "and policies of many tenants"
#: Which side must have at least which part of another's throughput.
PROMISES = ((GUARDED, UNGUARDED, 0.85), (MANY, GUARDED, 0.95))
_CHANCE = 20261120
_READS = 2_000
_POLICIES = """
insert into policies (tenant_id, ptype, subject, object, action, effect, condition, fields)
select t.id, 'p', case when n = 0 then 'Admin' else 'Role' || n end,
    case when n % 4 = 3 then '*' else 'Products' end,
    (array['read', 'write', 'list', 'create', '*'])[1 + n % 5],
    case when n % 7 = 6 then 'deny' else 'allow' end,
    case when n % 2 = 1 then '{"stock": {"gt": 1}}'::jsonb end,
    case when n % 3 = 2 then '["name", "price"]'::jsonb end
from tenants t, generate_series(0, $1::integer - 1) n where t.id > 0"""
_VERSIONS = (
    "insert into byodpp.access_versions (tenant_id, version) select id, 1 from tenants where id > 0"
    " on conflict (tenant_id) do nothing"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much there is, and how long it is measured."""

    asking: int = 20  # tenants that ask
    products: int = 20_000  # of all that ask together
    tenants: int = 1_000  # with policies
    policies: int = 10  # of each of them
    rounds: int = 15
    seconds: float = 1.0
    connections: int = 16


def measure(place: Path, scale: Scale) -> dict[str, list[Sample]]:
    """Return the samples of the three sides; folders are made in `place`."""
    small = Size(tenants=scale.asking, categories=5, products=scale.products // scale.asking, parts=0)
    others = scale.tenants - scale.asking
    uneven = (scale.products // scale.asking,) * scale.asking + (1,) * others
    large = Size(categories=5, parts=0, uneven=uneven)
    with Generator() as generator, ExitStack() as stack:
        worlds = {
            UNGUARDED: stack.enter_context(made(place / "unguarded", small)),
            GUARDED: stack.enter_context(made(place / "guarded", small)),
            MANY: stack.enter_context(made(place / "many", large)),
        }
        _prepare(worlds, scale)
        sides = {}
        for name, world in worlds.items():
            begin = _unguarded(world) if name == UNGUARDED else started(CONTESTANTS["byodpp"], world)
            server = stack.enter_context(begin)
            requests = _requests(world, scale)
            greet(server, requests)
            sides[name] = Side(
                server=server, requests=[one.text() for one in requests], database=world.server.pid
            )
        return alternate(
            generator, sides, rounds=scale.rounds, seconds=scale.seconds, connections=scale.connections
        )


def _prepare(worlds: dict[str, World], scale: Scale) -> None:
    many = worlds[MANY]
    many.fetch(_POLICIES, scale.policies)
    many.fetch(_VERSIONS)
    stored = many.fetch("select count(*) from policies")[0][0]
    if stored != scale.policies * scale.tenants:
        raise RuntimeError(f"{stored} policies are stored")
    asyncio.run(_open(worlds[UNGUARDED]))


async def _open(world: World) -> None:
    """Switch row-level security off in a database."""
    connection = await asyncpg.connect(world.uri(SUPERUSER))
    try:
        for table in ("products", "categories"):
            await connection.execute(f"alter table {table} no force row level security")
            await connection.execute(f"alter table {table} disable row level security")
    finally:
        await connection.close()


@contextmanager
def _unguarded(world: World) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "bench.rivals.unguarded", str(world.folder), str(port)]
    switches = {**UNLIMITED, "BYODPP_POOL_MAX_CONNECTIONS": str(CONNECTIONS)}
    probe = Request(method="GET", path="/health/ready")
    with serving(
        command, {**world.environment(), **switches}, port, probe, world.folder / "unguarded.log"
    ) as server:
        yield server


def _requests(world: World, scale: Scale) -> list[Request]:
    """Return reads of rows by chance, all tenants in turn."""
    chance = random.Random(_CHANCE)
    found = []
    for index in range(_READS):
        tenant = world.tenants[index % scale.asking]
        path = f"/api/v1/products/{chance.choice(world.products(tenant))}"
        found.append(Request(method="GET", path=path, token=tenant.token))
    return found


def report(samples: dict[str, list[Sample]]) -> Iterator[str]:
    """Yield the lines that are printed."""
    yield f"{'read by id':32}{'per second':>11}{'server us':>11}{'PostgreSQL us':>15}"
    for name, found in samples.items():
        rate, cost, database = (
            statistics.median(values)
            for values in (
                [one.rate for one in found],
                [one.cost for one in found],
                [one.database for one in found],
            )
        )
        yield f"{name:32}{rate:11,.0f}{cost:11.0f}{database:15.0f}"
    for one, other, least in PROMISES:
        for word, told in (
            (
                "answers",
                ratio([found.rate for found in samples[one]], [found.rate for found in samples[other]]),
            ),
            # Depends little on what else the machine does: the inverse of what an answer makes it compute.
            ("by computing", ratio(_computed(samples[other]), _computed(samples[one]))),
        ):
            yield (
                f"{one} / {other}, {word}: {told.median:.3f} ({told.low:.3f} to {told.high:.3f},"
                f" {told.rounds} rounds), promised {least}: {verdict(told, least)}"
            )
        # Other work only adds to what an answer makes a core compute: the least round has least of it.
        part = min(_computed(samples[other])) / min(_computed(samples[one]))
        yield f"{one} / {other}, by the least computing of all rounds: {part:.3f}"


def _computed(samples: list[Sample]) -> list[float]:
    """Return what server and PostgreSQL computed per answer, of each round."""
    return [one.cost + one.database for one in samples]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.authorization", description=__doc__.split("\n")[0])
    usual = Scale()
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="length of each turn")
    parser.add_argument("--connections", type=int, default=usual.connections)
    parser.add_argument("--tenants", type=int, default=usual.tenants, help="with ten policies each")
    options = parser.parse_args()
    scale = Scale(
        rounds=options.rounds,
        seconds=options.seconds,
        connections=options.connections,
        tenants=options.tenants,
    )
    with tempfile.TemporaryDirectory(prefix="byodpp-bench-") as place:
        for line in report(measure(Path(place), scale)):
            print(line)


if __name__ == "__main__":
    main()
