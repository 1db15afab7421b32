"""What the audit trail costs sixteen writers of one tenant: without entries, with them, and sealed.

One server on one PostgreSQL, asked in turn; while its writers are measured without sealing, the
measurement holds the lock under which a process seals. What has come meanwhile is sealed before the next
turn, so that each pays for its own. Comes in: how long. Goes out: samples of the three ways of writing.
`python -m bench.audit` prints their medians, and those of the rounds' ratios: of speed, and of what server
and PostgreSQL compute for a write, which decides where both cores are full, and moves less with the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import asyncpg

from bench.contestants import UNLIMITED
from bench.processes import Generator, Request, ask, clean_environment, serving
from bench.turns import Sample, Side, _turn, turned
from byodpp.audit.sealer import SEALING
from byodpp.embedded import RunningServer
from byodpp.tables.roles import SYSTEM
from scripts.ports import free_port

__all__ = ["measure"]

HERE = Path(__file__).parent
_FIELDS = {
    "name": {"type": "string", "required": True, "index": True},
    "amount": {"type": "integer"},
    "price": {"type": "decimal", "precision": 12, "scale": 2},
    "isActive": {"type": "boolean", "default": True},
    "metadata": {"type": "json", "default": {}},
    "remark": {"type": "text"},
}
_BODY = {"name": "lamp @@@@@@@@@@@@", "amount": 5, "price": 12.50, "remark": "made for a measurement"}
_CHANGE = {"name": "lamp @@@@@@@@@@@@", "amount": 6}
#: Rows that are changed in turn, so that no two writers wait for one.
_CHANGED_ROWS: Final = 200
#: Before each turn: so that what waits to be sealed at its beginning is as much as at its end.
_WARMING_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 60.0
_WAITING: Final = (
    "select exists (select from audit_logs where _arrival >= pg_snapshot_xmin(sealed::pg_snapshot)"
    " and not pg_visible_in_snapshot(_arrival, sealed::pg_snapshot)) from byodpp.audit_arrivals"
)
WITHOUT, WITH, SEALED = "without entries", "with entries, not sealed", "with entries, sealed"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sealing:
    """The sealer of the server under measurement, as PostgreSQL's locks let it work or not."""

    loop: asyncio.AbstractEventLoop
    connection: asyncpg.Connection[Any]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nothing be sealed in the block; return once all that came in it is sealed."""
        self._run(f"select pg_advisory_lock({SEALING})")
        try:
            yield
        finally:
            self._run(f"select pg_advisory_unlock({SEALING})")
            self.settle()

    def settle(self) -> None:
        """Return once everything that is committed now is sealed.

        Raises:
            TimeoutError: nobody seals.
        """
        until = time.monotonic() + _PATIENCE_SECONDS
        while self._run(_WAITING) is not False:
            if time.monotonic() > until:
                raise TimeoutError("the entries of a turn were not sealed")
            time.sleep(0.1)

    def _run(self, sql: str, *values: Any) -> Any:
        return self.loop.run_until_complete(self.connection.fetchval(sql, *values, timeout=_PATIENCE_SECONDS))


def measure(
    place: Path,
    *,
    rounds: int,
    seconds: float,
    connections: int,
    events: bool = False,
    patches: bool = False,
) -> dict[str, list[Sample]]:
    """Return the samples of the three ways of writing; with `events` the writes are events as well.

    They create rows, or with `patches` change some.
    """
    with (
        Generator() as generator,
        _application(place, events=events, patches=patches) as (asked, sealing),
    ):
        sides = {WITHOUT: asked["plain"], WITH: asked["audited"], SEALED: asked["audited"]}
        samples: dict[str, list[Sample]] = {name: [] for name in sides}
        for number in range(-1, rounds):  # statements are prepared and tokens remembered before the first
            for name in turned(list(sides), number):
                sample = _sample(generator, sides[name], sealing, name, seconds, connections)
                if number >= 0:
                    samples[name].append(sample)
        return samples


def _sample(
    generator: Generator, side: Side, sealing: _Sealing, name: str, seconds: float, connections: int
) -> Sample:
    """Return the sample of one turn."""
    if name != SEALED:
        with sealing.held():
            _turn(generator, side, _WARMING_SECONDS, connections)
            return _turn(generator, side, seconds, connections)
    _turn(generator, side, _WARMING_SECONDS, connections)
    sample = _turn(generator, side, seconds, connections)
    sealing.settle()
    return sample


@contextmanager
def _application(
    folder: Path, *, events: bool = False, patches: bool = False
) -> Iterator[tuple[Mapping[str, Side], _Sealing]]:
    resources = [
        {"name": name, "fields": _FIELDS, "audit": name == "Audited", "events": events}
        for name in ("Plain", "Audited")
    ]
    (folder / "resources.json").write_text(json.dumps({"resources": resources}))
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
        state = json.loads((folder / ".byodpp" / "postgres.json").read_text())
        sides = {}
        for name in ("plain", "audited"):
            creates = Request(method="POST", path=f"/api/v1/{name}", token=done.stdout.strip(), body=_BODY)
            asked, status = (_changing(port, creates), 200) if patches else ([creates], 201)
            requests = [one.text() for one in asked]
            sides[name] = Side(server=server, requests=requests, database=state["pid"], status=status)
        folder = Path(state["socket_folder"])
        with _connected(RunningServer(pid=state["pid"], socket_folder=folder, launched=False)) as sealing:
            yield sides, sealing


def _changing(port: int, creates: Request) -> list[Request]:
    """Create rows; return the requests that change them."""
    keys = [ask(port, creates)[1]["data"]["id"] for _ in range(_CHANGED_ROWS)]
    return [replace(creates, method="PATCH", path=f"{creates.path}/{key}", body=_CHANGE) for key in keys]


@contextmanager
def _connected(database: RunningServer) -> Iterator[_Sealing]:
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(database.uri(SYSTEM)))
    try:
        yield _Sealing(loop=loop, connection=connection)
    finally:
        loop.run_until_complete(connection.close())
        loop.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="length of each turn; the sealer works each second"
    )
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument(
        "--events",
        action="store_true",
        help="writes are events as well: an entry is one, else a row of the outbox is",
    )
    parser.add_argument(
        "--patches",
        action="store_true",
        help=f"writes change {_CHANGED_ROWS} rows, in place of creating some",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="byodpp-bench-") as place:
        samples = measure(
            Path(place),
            rounds=options.rounds,
            seconds=options.seconds,
            connections=options.connections,
            events=options.events,
            patches=options.patches,
        )
    print(
        f"{'':27}{'per second':>11}{'of the first, quartiles':>26}{'of its computing':>24}{'server us':>11}"
        f"{'PostgreSQL us':>15}"
    )
    for name, found in samples.items():
        pairs = list(zip(found, samples[WITHOUT], strict=True))
        speed = _quartiles([one.rate / other.rate for one, other in pairs])
        thrift = _quartiles(
            [(other.cost + other.database) / (one.cost + one.database) for one, other in pairs]
        )
        rate, own, database = (
            statistics.median(values)
            for values in zip(*((one.rate, one.cost, one.database) for one in found), strict=True)
        )
        print(f"{name:27}{rate:11,.0f}{speed:>26}{thrift:>24}{own:11.0f}{database:15.0f}")


def _quartiles(ratios: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
