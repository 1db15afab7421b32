"""The comparison: every contestant does the same work, in turns, on one database.

Comes in: a world and who takes part. Goes out: a `Sample` for each round. In each round all
contestants have their turn, in another order than in the round before, so that whatever else
happens on the machine meets all of them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.contestants import CONTESTANTS, started
from bench.processes import Generator, Request, Server, ask
from bench.sameness import compare
from bench.works import WORKS, Work, requests_of
from bench.world import World

__all__ = ["Found", "Plan", "Sample", "measure"]

_WARMING_SECONDS = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured, and how long."""

    contestants: tuple[str, ...]
    works: tuple[str, ...]
    connections: tuple[int, ...] = (1, 16, 64)
    rounds: int = 7
    seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One contestant's turn."""

    rate: float  # answers per second
    cost: float  # microseconds that the server computed per answer
    database: float  # the same of PostgreSQL
    p50: float  # milliseconds
    p99: float


@dataclass(slots=True, kw_only=True)
class Found:
    """Everything that was measured."""

    #: Work and number of connections -> contestant -> a sample per round.
    samples: dict[tuple[str, int], dict[str, list[Sample]]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)  # bytes of a worker, after all of it
    start: dict[str, float] = field(default_factory=dict)  # seconds until the first answer
    generator: float = 0.0  # greatest part of a core that the load generator took


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
    works = [WORKS[name] for name in plan.works]
    with ExitStack() as stack:
        servers = {name: stack.enter_context(started(CONTESTANTS[name], world)) for name in plan.contestants}
        found.start = {name: server.seconds for name, server in servers.items()}
        tell("comparing answers")
        compare(world, servers, works)
        for name, server in servers.items():  # a tenant's first request looks up what the second knows
            for request in _one_of_each_tenant(world, name):
                ask(server.port, request)
        generator = stack.enter_context(Generator())
        for work in works:
            texts = {name: _texts(work, name, world) for name in servers}
            for connections in plan.connections:
                turn = Turn(world, servers, generator, work, texts, connections, found)
                found.samples[work.name, connections] = turn.rounds(plan)
                tell(f"{work.name}, {connections} connections: {turn.summary()}")
            if work.method != "GET":
                world.tidy()
        found.memory = {name: server.resident() for name, server in servers.items()}
    return found


def _one_of_each_tenant(world: World, contestant: str) -> list[Request]:
    reads = requests_of(WORKS["read"], CONTESTANTS[contestant].addresses["read"], world)
    return list({request.tenant: request for request in reads}.values())


def _texts(work: Work, contestant: str, world: World) -> list[str]:
    address = CONTESTANTS[contestant].addresses[work.address]
    return [request.text() for request in requests_of(work, address, world)]


@dataclass(slots=True)
class Turn:
    """One work at one number of connections."""

    world: World
    servers: Mapping[str, Server]
    generator: Generator
    work: Work
    texts: Mapping[str, list[str]]
    connections: int
    found: Found
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def rounds(self, plan: Plan) -> dict[str, list[Sample]]:
        """Measure all rounds and return a sample per contestant and round."""
        names = list(self.servers)
        self.samples = {name: [] for name in names}
        for name in names:  # statements are prepared, tokens remembered, pages read
            self.sample(name, min(_WARMING_SECONDS, plan.seconds))
        for number in range(plan.rounds):
            for name in _turned(names, number):
                self.samples[name].append(self.sample(name, plan.seconds))
        return self.samples

    def sample(self, name: str, seconds: float) -> Sample:
        """Let one contestant work."""
        server = self.servers[name]
        own, database, generator = (
            server.computed(),
            self.world.database_computed(),
            self.generator.computed(),
        )
        measured = self.generator.run(
            server.port,
            self.texts[name],
            connections=self.connections,
            seconds=seconds,
            status=self.work.status,
        )
        answers = max(measured["answers"], 1)
        elapsed = answers / measured["perSecond"] if measured["perSecond"] else seconds
        share = (self.generator.computed() - generator) / elapsed
        self.found.generator = max(self.found.generator, share)
        return Sample(
            rate=measured["perSecond"],
            cost=(server.computed() - own) / answers * 1e6,
            database=(self.world.database_computed() - database) / answers * 1e6,
            p50=measured["p50Ms"],
            p99=measured["p99Ms"],
        )

    def summary(self) -> str:
        """Return the rates of the last round."""
        return ", ".join(f"{name} {samples[-1].rate:,.0f}/s" for name, samples in self.samples.items())


def _turned(names: list[str], number: int) -> Iterable[str]:
    """Return the names, beginning with another one in each round and every other round backwards."""
    first = number % len(names)
    turned = names[first:] + names[:first]
    return reversed(turned) if number % 2 else turned
