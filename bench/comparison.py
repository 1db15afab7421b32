"""The comparison: every contestant does the same work, side by side, on one database.

Comes in: a world and who takes part. Goes out: a sample per contestant and round. Nothing is
measured before all have answered alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.contestants import CONTESTANTS, started
from bench.processes import Generator, Request, Server, ask
from bench.sameness import compare
from bench.turns import Sample, Side, alternate
from bench.works import WORKS, Work, requests_of
from bench.world import World

__all__ = ["PROMISED_AT", "Found", "Plan", "greet", "measure"]

#: Connections at which least ratios are promised.
PROMISED_AT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured, and how long."""

    contestants: tuple[str, ...]
    works: tuple[str, ...]
    connections: tuple[int, ...] = (1, 16, 64)
    rounds: int = 7
    seconds: float = 1.0
    #: Of a turn at other numbers of connections than the one at which something is promised.
    beside_seconds: float = 0.5

    def seconds_at(self, connections: int) -> float:
        """Return the length of a turn at so many connections."""
        return self.seconds if connections == PROMISED_AT else min(self.seconds, self.beside_seconds)

    def steps(self) -> Iterator[tuple[Work, int]]:
        """Yield each work with each number of connections that it is measured at."""
        for name in self.works:
            work = WORKS[name]
            once = work.connections if work.connections in self.connections else self.connections[0]
            for connections in self.connections if work.connections is None else (once,):
                yield work, connections


@dataclass(slots=True, kw_only=True)
class Found:
    """Everything that was measured."""

    #: Work and number of connections -> contestant -> a sample per round.
    samples: dict[tuple[str, int], dict[str, list[Sample]]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)  # bytes of a worker, after all of it
    start: dict[str, float] = field(default_factory=dict)  # seconds until the first answer


def measure(world: World, plan: Plan, tell: Callable[[str], None] = lambda line: None) -> Found:
    """Start the contestants, check that they answer alike, and measure.

    Args:
        world: what they work on.
        plan: what to do.
        tell: gets a line for each step.

    Raises:
        Different: they do not answer alike; nothing was measured.
        RuntimeError: an answer was not as expected.
    """
    found = Found()
    with ExitStack() as stack:
        servers = {name: stack.enter_context(started(CONTESTANTS[name], world)) for name in plan.contestants}
        found.start = {name: server.seconds for name, server in servers.items()}
        tell("comparing answers")
        compare(world, servers, [WORKS[name] for name in plan.works])
        for name, server in servers.items():
            greet(server, requests_of(WORKS["read"], CONTESTANTS[name].addresses["read"], world))
        generator = stack.enter_context(Generator())
        for work, connections in plan.steps():
            sides = {name: _side(world, name, server, work) for name, server in servers.items()}
            samples = alternate(
                generator,
                sides,
                rounds=plan.rounds,
                seconds=plan.seconds_at(connections),
                connections=connections,
            )
            found.samples[work.name, connections] = samples
            last = ", ".join(f"{name} {ones[-1].rate:,.0f}/s" for name, ones in samples.items())
            tell(f"{work.name}, {connections} connections: {last}")
            if work.method != "GET":
                world.tidy()
        found.memory = {name: server.resident() for name, server in servers.items()}
    return found


def greet(server: Server, requests: list[Request]) -> None:
    """Send a request of each tenant: its first one looks up what the second knows."""
    for request in {request.tenant: request for request in requests}.values():
        ask(server.port, request)


def _side(world: World, contestant: str, server: Server, work: Work) -> Side:
    address = CONTESTANTS[contestant].addresses[work.address]
    texts = [request.text() for request in requests_of(work, address, world)]
    return Side(server=server, requests=texts, database=world.server.pid, status=work.status)
