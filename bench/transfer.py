"""Files of rows: a CSV imported over HTTP beside the same rows by a bare COPY, and exports.

    python -m bench.transfer                      # a million products, three rounds: some ten minutes
    python -m bench.transfer --rows 100000

Both write into the same table with all its indexes, keys, and row-level security, of the same embedded
PostgreSQL, emptied before each turn. The bare COPY is one statement of a role that row-level security
does not bind, from a file that is COPY's own text; nothing looks at the values. The import has everything on:
the file sent over HTTP, the token, the schema, rights, references, progress; once on a table without, and
once with an audit entry and an event per row. A turn ends when the server has answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import asyncpg

from bench.contestants import CONTESTANTS, started
from bench.processes import Server
from bench.report import machine
from bench.world import HERE, Size, World, made
from byodpp.embedded import SUPERUSER
from byodpp.tables.roles import SYSTEM

PROMISE = 6.0
MEMORY_PROMISE = 250  # megabytes of the server and the process that reads the file
_COLUMNS = (
    "tenant_id",
    "name",
    "sku",
    "description",
    "category_id",
    "price",
    "stock",
    "is_featured",
    "metadata",
)
_IMPORT = "/api/v1/products/import"
_EXPORTS = {"NDJSON": "format=ndjson", "CSV": "format=csv"}


@dataclass(slots=True, kw_only=True)
class Found:
    """What was measured on one table, a value per round."""

    copied: list[float] = field(default_factory=list)  # seconds
    imported: list[float] = field(default_factory=list)
    exported: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in _EXPORTS})
    peak: float = 0.0  # megabytes that server and reader held together at most

    def ratio(self) -> float:
        """Return how many times as long as a COPY an import took, in the median of the rounds."""
        return statistics.median(ours / bare for ours, bare in zip(self.imported, self.copied, strict=True))


def write_files(folder: Path, rows: int, world: World) -> tuple[Path, Path]:
    """Write the same rows as CSV, and as COPY's own text."""
    table, text = folder / "products.csv", folder / "products.copy"
    tenant = world.tenants[0]
    with table.open("w") as csv, text.open("w") as copy:
        csv.write("name,sku,description,categoryId,price,stock,isFeatured,metadata\n")
        for row in range(rows):
            cells = (
                f"Product {row * 7919 % 1_000_003:07}, the good one",
                f"IMPORT-{row:08}",
                "A good product, well described in a text of some length. " * 3,
                str(world.category(tenant, row)),
                f"{row * 104_729 % 100_000 / 100:.2f}",
                str(row % 500),
            )
            document = json.dumps({"colour": ("red", "green", "blue")[row % 3], "weight": row % 100 + 0.5})
            quoted = document.replace('"', '""')
            csv.write(f'"{cells[0]}",{cells[1]},"{cells[2]}",{",".join(cells[3:])},false,"{quoted}"\n')
            copy.write("\t".join((str(tenant.id), *cells, "f", document.replace("\\", "\\\\"))) + "\n")
    return table, text


def measure(rows: int, rounds: int, *, told: bool, say: Callable[[str], None]) -> Found:
    """Measure one table.

    Args:
        rows: of the file.
        rounds: turns of each way.
        told: with an audit entry and an event per row.
        say: hears how far it is.
    """
    place, found = Path(tempfile.mkdtemp(prefix="byodpp-bench-")), Found()
    try:
        with made(
            place / "app", Size(tenants=1, categories=100, products=1, parts=1), _manifest(told)
        ) as world:
            table, text = write_files(place, rows, world)
            with started(CONTESTANTS["byodpp"], world) as server:
                for number in range(rounds):
                    _empty(world)
                    found.copied.append(_copied(world, text))
                    _empty(world)
                    with _watched(server, found):
                        found.imported.append(_imported(world, server, table, rows, number))
                    for name, words in _EXPORTS.items():
                        found.exported[name].append(_exported(world, server, words, rows))
                    pair = f"COPY {found.copied[-1]:.1f} s, import {found.imported[-1]:.1f} s"
                    say(f"round {number + 1}: {pair}")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return found


def _manifest(told: bool) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((HERE / "app" / "resources.json").read_text())
    products = next(one for one in manifest["services"][0]["resources"] if one["name"] == "Products")
    if not told:
        del products["audit"], products["events"]
    return manifest


def _empty(world: World) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(world.uri(SUPERUSER))
        try:
            await connection.execute("truncate products, parts, audit_logs, byodpp.outbox")
            await connection.execute("vacuum (analyze) products")
            await connection.execute("checkpoint")
        finally:
            await connection.close()

    asyncio.run(run())


def _copied(world: World, text: Path) -> float:
    async def run() -> float:
        connection = await asyncpg.connect(world.uri(SYSTEM))
        try:
            begun = time.perf_counter()
            await connection.copy_to_table("products", source=text, columns=_COLUMNS, format="text")
            return time.perf_counter() - begun
        finally:
            await connection.close()

    return asyncio.run(run())


def _imported(world: World, server: Server, table: Path, rows: int, number: int) -> float:
    headers = {
        "Authorization": f"Bearer {world.tenants[0].token}",
        "Content-Type": "text/csv",
        "Content-Length": str(table.stat().st_size),
        "Idempotency-Key": f"round {number}",
    }
    begun = time.perf_counter()
    with table.open("rb") as file:
        status, answer = _asked(server.port, "POST", _IMPORT, headers, file)
    seconds = time.perf_counter() - begun
    data = json.loads(answer)["data"] if status == 200 else {}
    if (data.get("created"), data.get("rejected")) != (rows, 0):
        raise RuntimeError(f"the import was answered {status} {answer[:500]!r}")
    return seconds


def _exported(world: World, server: Server, words: str, rows: int) -> float:
    headers = {"Authorization": f"Bearer {world.tenants[0].token}"}
    begun = time.perf_counter()
    status, answer = _asked(server.port, "GET", f"/api/v1/products/export?{words}", headers, None)
    seconds = time.perf_counter() - begun
    if status != 200 or str(rows).encode() not in answer[-40:]:
        raise RuntimeError(f"the export was answered {status} and ended in {answer[-100:]!r}")
    return seconds


def _asked(port: int, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, bytes]:
    """Send a request; return the status and the end of the answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=1_800)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        end = b""
        while part := answer.read(1 << 20):
            end = (end + part)[-100_000:]
        return answer.status, end
    finally:
        connection.close()


@contextmanager
def _watched(server: Server, found: Found) -> Iterator[None]:
    """Look at the server's memory while the block runs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            try:
                found.peak = max(found.peak, server.resident() / 1e6)
            except OSError:
                continue  # a process has just ended

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def report(rows: int, plain: Found, told: Found) -> list[str]:
    """Return the section of a report."""
    lines = [
        "## Files of rows",
        "",
        f"{rows:,} products from a CSV over HTTP, beside a bare `COPY` of the same rows; medians of "
        f"{len(plain.copied)} rounds.",
        "",
        "| Table | `COPY` | Import | Times | Promise | Memory |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in (("plain", plain), ("with audit and event per row", told)):
        met = "met" if found.ratio() <= PROMISE and found.peak <= MEMORY_PROMISE else "missed"
        bare, ours = statistics.median(found.copied), statistics.median(found.imported)
        promise = f"at most {PROMISE:.0f}, {MEMORY_PROMISE} MB: {met}"
        lines.append(
            f"| {name} | {bare:.1f} s | {ours:.1f} s | {found.ratio():.2f} | {promise} "
            f"| {found.peak:.0f} MB |"
        )
    exported = (f"{name} {statistics.median(ones):.1f} s" for name, ones in plain.exported.items())
    lines += ["", f"Exports of the same rows: {', '.join(exported)}.", ""]
    lines += ["Rounds, in seconds (`COPY`, import):", ""]
    for name, found in (("plain", plain), ("with audit and event", told)):
        pairs = zip(found.copied, found.imported, strict=True)
        lines.append(f"- {name}: " + "; ".join(f"{bare:.1f}, {ours:.1f}" for bare, ours in pairs))
    return lines


def main() -> None:
    """Measure, and print the section."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.transfer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", choices=("plain", "told"), help="measure one of the tables, and print its rounds"
    )
    options = parser.parse_args()
    kinds = {"plain": False, "told": True}
    chosen = [options.only] if options.only else list(kinds)
    found = {
        name: measure(
            options.rows, options.rounds, told=kinds[name], say=lambda line: print(line, flush=True)
        )
        for name in chosen
    }
    if options.only:
        one = found[options.only]
        print(f"ratio {one.ratio():.2f}, peak {one.peak:.0f} MB, exports {one.exported}")
        return
    print("\n".join([*report(options.rows, found["plain"], found["told"]), "", machine()]))


if __name__ == "__main__":
    main()
