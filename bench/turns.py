"""Measuring side by side: in each round every side has its turn, in another order than the round before.

So whatever else happens on the machine meets all of them alike, and the two values of a round
belong together. Comes in: sides that are ready. Goes out: a `Sample` per side and round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.processes import Generator, Server, computed, families

__all__ = ["Sample", "Side", "alternate", "turned"]

_WARMING_SECONDS = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A server and what it is asked."""

    server: Server
    requests: Sequence[str]  # as they go over the wire, sent in turn
    database: int  # pid of its PostgreSQL
    status: int = 200  # of a good answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One side's turn."""

    rate: float  # answers per second
    cost: float  # microseconds that the server computed per answer
    database: float  # the same of PostgreSQL
    p50: float  # milliseconds
    p99: float
    generator: float  # part of a core that the load generator took


def alternate(
    generator: Generator, sides: Mapping[str, Side], *, rounds: int, seconds: float, connections: int
) -> dict[str, list[Sample]]:
    """Measure all rounds, after a turn of each side that does not count.

    Raises:
        RuntimeError: an answer was not as expected.
    """
    names = list(sides)
    for name in names:  # statements are prepared, tokens remembered, pages read
        _turn(generator, sides[name], min(_WARMING_SECONDS, seconds), connections)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(rounds):
        for name in turned(names, number):
            samples[name].append(_turn(generator, sides[name], seconds, connections))
    return samples


def turned(names: Sequence[str], number: int) -> Iterable[str]:
    """Return the names, beginning with another one in each round, and every other round backwards."""
    first = number % len(names)
    ordered = [*names[first:], *names[:first]]
    return reversed(ordered) if number % 2 else ordered


def _turn(generator: Generator, side: Side, seconds: float, connections: int) -> Sample:
    before = _computed(generator, side)
    measured = generator.run(
        side.server.port, side.requests, connections=connections, seconds=seconds, status=side.status
    )
    own, database, generated = (
        after - earlier for after, earlier in zip(_computed(generator, side), before, strict=True)
    )
    answers = max(measured["answers"], 1)
    return Sample(
        rate=measured["perSecond"],
        cost=own / answers * 1e6,
        database=database / answers * 1e6,
        p50=measured["p50Ms"],
        p99=measured["p99Ms"],
        generator=generated * measured["perSecond"] / answers,
    )


def _computed(generator: Generator, side: Side) -> tuple[float, float, float]:
    """Return the seconds that the server, its PostgreSQL, and the load generator have computed so far."""
    family = families()  # looked at once: it takes as long as some requests
    server = side.server.computed(family, without=side.database)
    return server, computed(side.database, family), generator.computed(family)
