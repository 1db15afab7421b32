"""Does a request cost more when there are more resources? Reading by id with one and with 1,000.

`make bench` runs it. Two servers, one worker each, on one embedded PostgreSQL; rounds are
interleaved, and every round is printed. The claim is that the throughput with 1,000 resources is
at least 0.95 of that with one; a miss counts when the whole 95 % interval lies below.
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
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SIZES = (1, 1_000)
BAR = 0.95


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
def served(folder: Path, resources: int) -> Iterator[tuple[int, float]]:
    """Serve a manifest of that size; yield port and seconds from start to readiness."""
    folder.mkdir()
    (folder / "resources.json").write_text(json.dumps(manifest(resources)))
    environ = {**os.environ, "BYODPP_RATE_LIMIT_ENABLED": "false", "LOG_LEVEL": "warning"}
    program = [sys.executable, "-m", "byodpp", "--app", str(folder)]
    subprocess.run([*program, "migrate", "new"], env=environ, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*program, "migrate", "apply"], env=environ, check=True, stdout=subprocess.DEVNULL)
    port = 20_000 + os.getpid() % 20_000 + resources % 97
    started = time.perf_counter()
    server = subprocess.Popen(
        [*program, "serve", "--port", str(port), "--no-demo"], env=environ, stdout=subprocess.DEVNULL
    )
    try:
        asyncio.run(ready(port))
        yield port, time.perf_counter() - started
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(15)


async def ready(port: int, patience_seconds: float = 60.0) -> None:
    """Return when the server says that it is ready."""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
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
        [sys.executable, str(HERE / "load.py")], input=json.dumps(asked), check=True, capture_output=True, text=True
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
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="byodpp-bench-"))
    try:
        report(place, options)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def report(place: Path, options: argparse.Namespace) -> None:
    """Run all rounds and print them."""
    rates: dict[int, list[float]] = {size: [] for size in SIZES}
    small, large = SIZES
    with (
        served(place / "small", small) as (small_port, small_start),
        served(place / "large", large) as (large_port, large_start),
    ):
        ports = {small: small_port, large: large_port}
        requests = {
            small: reads(place / "small", small_port, small),
            large: reads(place / "large", large_port, large),
        }
        for size in SIZES:  # warm: statements prepared, tokens remembered
            load(ports[size], requests[size], connections=options.connections, seconds=1.0)
        for number in range(options.rounds):
            for size in SIZES if number % 2 else reversed(SIZES):
                measured = load(
                    ports[size], requests[size], connections=options.connections, seconds=options.seconds
                )
                rates[size].append(measured["perSecond"])
    ratios = [big / one for big, one in zip(rates[large], rates[small], strict=True)]
    low, high = interval(ratios)
    print(f"Reading by id, {options.connections} connections, one worker, {options.seconds:g} s a round")
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores\n")
    print("| round | 1 resource, requests/s | 1,000 resources, requests/s | ratio |\n|---|---|---|---|")
    for number, (one, big, ratio) in enumerate(zip(rates[small], rates[large], ratios, strict=True), 1):
        print(f"| {number} | {one:,.0f} | {big:,.0f} | {ratio:.3f} |")
    print(f"\nmedian ratio {statistics.median(ratios):.3f}, 95 % interval {low:.3f} to {high:.3f} (bar {BAR})")
    print(f"start to ready: {small_start:.2f} s with 1, {large_start:.2f} s with 1,000 resources")
    if high < BAR:
        sys.exit(1)


if __name__ == "__main__":
    main()
