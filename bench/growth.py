"""Does a request cost more when there are more resources? Reading by id with one and with 1,000.

`make bench` runs it and writes the report. Two servers, one worker each, each on an embedded
PostgreSQL of its own; rounds are interleaved, and every round is told. The claim is that the
throughput with 1,000 resources is at least 0.95 of that with one; a miss counts when the whole
95 % interval lies below. The time that the server's process computes per request is told beside
it: other programs on the machine disturb it less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from byodpp.embedded.programs import find_programs

HERE = Path(__file__).parent
SIZES = (1, 1_000)
BAR = 0.95
#: What the result may depend on, beside Python and PostgreSQL.
PACKAGES = ("asyncpg", "starlette", "uvicorn", "uvloop", "httptools")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that is ready."""

    process: subprocess.Popen[bytes]
    port: int
    seconds: float  # from the start of the process to readiness

    def computed(self) -> float:
        """Return the seconds that the process has computed so far; 0 where the system does not tell."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            return 0.0
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


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
def served(folder: Path, resources: int) -> Iterator[Served]:
    """Serve a manifest of that size on an embedded server."""
    folder.mkdir()
    (folder / "resources.json").write_text(json.dumps(manifest(resources)))
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("BYODPP_", "POSTGRES_"))
    }
    environ = {**kept, "BYODPP_RATE_LIMIT_ENABLED": "false", "LOG_LEVEL": "warning"}
    program = [sys.executable, "-m", "byodpp", "--app", str(folder)]
    for step in ("new", "apply"):
        subprocess.run([*program, "migrate", step], env=environ, check=True, stdout=subprocess.DEVNULL)
    port = free_port()
    words = ["serve", "--port", str(port), "--no-demo"]
    started = time.perf_counter()
    process = subprocess.Popen([*program, *words], env=environ, stdout=subprocess.DEVNULL)
    try:
        asyncio.run(ready(port, process))
        yield Served(process=process, port=port, seconds=time.perf_counter() - started)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def ready(
    port: int, process: subprocess.Popen[bytes] | None = None, patience_seconds: float = 120.0
) -> None:
    """Return when the server says that it is ready.

    Raises:
        RuntimeError: it ended; why stands on stderr.
        TimeoutError: it did not get ready.
    """
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            status, _ = await ask(port, "GET", "/health/ready")
            if status == 200:
                return
        except OSError:
            pass
        await asyncio.sleep(0.02)
    raise TimeoutError("the server did not get ready")


async def ask(port: int, method: str, path: str, token: str = "", body: Any = None) -> tuple[int, Any]:
    """Send one request and return status and parsed body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request(method, path, token, body).replace(b"keep-alive", b"close"))
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    return int(head.split(b" ", 2)[1]), json.loads(content) if content else None


def request(method: str, path: str, token: str = "", body: Any = None) -> bytes:
    """Return a request as bytes."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: keep-alive"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if content:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


def load(
    port: int, requests: list[bytes], *, connections: int, seconds: float, status: int = 200
) -> dict[str, float]:
    """Run the load generator and return what it measured."""
    asked = {
        "host": "127.0.0.1",
        "port": port,
        "requests": [one.decode() for one in requests],
        "connections": connections,
        "seconds": seconds,
        "status": status,
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "load.py")],
        input=json.dumps(asked),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    if found["failures"]:
        raise RuntimeError(f"{found['failures']} answers were not as expected, e.g. {found['refusal']}")
    return found


def reads(folder: Path, port: int, resources: int) -> list[bytes]:
    """Make a row in some of the resources and return the requests that read them."""
    program = [sys.executable, "-m", "byodpp", "--app", str(folder), "token", "--tenant", "acme"]
    token = subprocess.run(program, check=True, capture_output=True, text=True).stdout.strip()
    found = []
    for number in sorted({0, resources // 2, resources - 1}):
        path = f"/api/v1/things{number}"
        status, answer = asyncio.run(ask(port, "POST", path, token, {"name": "one", "price": 1.5}))
        if status != 201:
            raise RuntimeError(f"no row could be made: {status} {answer}")
        found.append(request("GET", f"{path}/{answer['data']['id']}", token))
    return found


def interval(ratios: list[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median."""
    chance = random.Random(1)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(5_000))
    return medians[125], medians[4_874]


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
    small, large = SIZES
    with served(place / "small", small) as one, served(place / "large", large) as many:
        servers = {small: one, large: many}
        requests = {
            small: reads(place / "small", one.port, small),
            large: reads(place / "large", many.port, large),
        }
        found = {size: Series(start=server.seconds) for size, server in servers.items()}
        for number in range(-1, options.rounds):
            for size in SIZES if number % 2 else reversed(SIZES):
                server, before = servers[size], servers[size].computed()
                measured = load(
                    server.port, requests[size], connections=options.connections, seconds=options.seconds
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
