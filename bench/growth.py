"""Does a request cost more when there are more resources? Reading by id with one and with 1,000.

`make bench` runs it and writes the report. Two servers, one worker each, each on an embedded
PostgreSQL of its own; rounds are interleaved, and every round is told. The claim is that the
throughput with 1,000 resources is at least 0.95 of that with one; a miss counts when the whole
95 % interval lies below. The time that the server's process computes per request is told beside
it: other programs on the machine disturb it less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.figures import interval
from bench.processes import Generator, Request, Server, ask, clean_environment, free_port, serving
from byodpp.embedded.programs import find_programs

HERE = Path(__file__).parent
SIZES = (1, 1_000)
BAR = 0.95
#: What the result may depend on, beside Python and PostgreSQL.
PACKAGES = ("asyncpg", "starlette", "uvicorn", "uvloop", "httptools")


@dataclass(slots=True, kw_only=True)
class Series:
    """What was measured of one server, a value per round."""

    start: float  # seconds
    rates: list[float] = field(default_factory=list)  # requests per second
    costs: list[float] = field(default_factory=list)  # microseconds of computing per request


def manifest(resources: int) -> dict[str, Any]:
    """Return a manifest with so many resources of ten fields."""
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
def served(folder: Path, resources: int) -> Iterator[tuple[Server, list[str]]]:
    """Serve a manifest of that size on an embedded server; yield it with requests that read rows of it."""
    folder.mkdir()
    (folder / "resources.json").write_text(json.dumps(manifest(resources)))
    variables = {
        "BYODPP_RATE_LIMIT_PER_IP": "1000000000",
        "BYODPP_RATE_LIMIT_PER_USER": "1000000000",
        "BYODPP_RATE_LIMIT_PER_TENANT": "1000000000",
        "BYODPP_MAX_CONCURRENT_REQUESTS_PER_TENANT": "100000",
    }
    environment = clean_environment(**variables, PYTHONPATH=str(HERE.parent))
    program = [sys.executable, "-m", "byodpp", "--app", str(folder)]
    for step in ("new", "apply"):
        subprocess.run([*program, "migrate", step], env=environment, check=True, stdout=subprocess.DEVNULL)
    port = free_port()
    command = [*program, "serve", "--port", str(port), "--no-demo"]
    probe = Request(method="GET", path="/health/ready")
    with serving(command, environment, port, probe, folder / "serve.log") as server:
        words = [*program, "token", "--tenant", "acme"]
        done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
        yield server, reads(port, resources, done.stdout.strip())


def reads(port: int, resources: int, token: str) -> list[str]:
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


def main() -> None:
    """Measure, print, and write the report if that is wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--report", type=Path, help="file to write the result into, beside printing it")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="byodpp-bench-"))
    try:
        text, kept = report(measure(place, options), options)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(text)
    if options.report is not None:
        options.report.write_text(text + "\n", encoding="utf-8")
    sys.exit(0 if kept else 1)


def measure(place: Path, options: argparse.Namespace) -> dict[int, Series]:
    """Run all rounds; return what was measured by the number of resources."""
    with ExitStack() as stack:
        servers = {size: stack.enter_context(served(place / str(size), size)) for size in SIZES}
        generator = stack.enter_context(Generator())
        found = {size: Series(start=server.seconds) for size, (server, _) in servers.items()}
        for number in range(-1, options.rounds):
            for size in SIZES if number % 2 else reversed(SIZES):
                server, requests = servers[size]
                before = server.computed()
                measured = generator.run(
                    server.port, requests, connections=options.connections, seconds=options.seconds
                )
                if number >= 0:  # the first one warms: statements prepared, tokens remembered
                    found[size].rates.append(measured["perSecond"])
                    found[size].costs.append((server.computed() - before) / max(measured["answers"], 1) * 1e6)
    return found


def report(found: dict[int, Series], options: argparse.Namespace) -> tuple[str, bool]:
    """Return the result as Markdown, and whether the claim holds."""
    small, large = (found[size] for size in SIZES)
    ratios = [many / one for many, one in zip(large.rates, small.rates, strict=True)]
    costs = [one / many if many else 1.0 for many, one in zip(large.costs, small.costs, strict=True)]
    low, high = interval(ratios)
    kept = high >= BAR
    doubt = "not refuted, and not shown either, because the machine was too busy for a narrow interval"
    verdict = "met" if low >= BAR else doubt if kept else "missed"
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        "# Reading by id, with 1 and with 1,000 resources",
        "",
        f"Claim: with {SIZES[1]:,} resources the throughput is {BAR} or more of that with {SIZES[0]}. "
        f"It is {verdict}: **median ratio {statistics.median(ratios):.3f}**, "
        f"95 % interval {low:.3f} to {high:.3f}, {len(ratios)} interleaved rounds of {options.seconds:g} s, "
        f"{options.connections} connections, one worker. "
        f"Of the computing per request the median ratio is {statistics.median(costs):.3f}. "
        f"From the start of the process to readiness: {small.start:.2f} s with {SIZES[0]}, "
        f"{large.start:.2f} s with {SIZES[1]:,} resources.",
        "",
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        "which load generator and PostgreSQL share; "
        f"Python {platform.python_version()}, PostgreSQL {find_programs(None).major}, {versions}; "
        f"load average at the end {os.getloadavg()[0]:.1f}.",
        "",
        "Repeat it: `make bench`.",
        "",
        "| round | 1: requests/s | 1,000: requests/s | ratio | 1: µs computed | 1,000: µs computed |",
        "|---|---|---|---|---|---|",
    ]
    rows = zip(small.rates, large.rates, ratios, small.costs, large.costs, strict=True)
    for number, (one, many, ratio, cost, price) in enumerate(rows, 1):
        lines.append(f"| {number} | {one:,.0f} | {many:,.0f} | {ratio:.3f} | {cost:,.0f} | {price:,.0f} |")
    return "\n".join(lines), kept


if __name__ == "__main__":
    main()
