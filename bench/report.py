"""Writes what was measured as Markdown. Decides nothing: verdicts come from `figures`."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.comparison import PROMISED_AT, Found, Plan
from bench.contestants import CONTESTANTS, OTHERS
from bench.figures import ratio, verdict
from bench.growth import Growth, Scale
from bench.turns import Sample
from bench.works import WORKS
from bench.world import Size
from byodpp.embedded.programs import find_programs

__all__ = ["comparison_report", "growth_report", "growth_rounds", "machine", "rounds_report"]

OURS = "byodpp"
_PACKAGES = ("asyncpg", "starlette", "uvicorn", "uvloop", "httptools", "marshmallow", "sqlalchemy")
_OTHER_PACKAGES = (
    *("fastapi", "pydantic", "pyjwt", "sqlalchemy", "asyncpg", "uvicorn", "uvloop", "httptools"),
    *("fastcrud", "django", "djangorestframework", "gunicorn", "psycopg"),
)


def machine() -> str:
    """Return a sentence about what it was measured on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{platform.system()} {platform.machine()}, {model}, {os.cpu_count()} cores, which servers, load "
        f"generator, and PostgreSQL share; Python {platform.python_version()}, "
        f"PostgreSQL {find_programs(None).major}, {versions}; {_others()}{datetime.now(UTC):%Y-%m-%d}, "
        f"load average at the end {os.getloadavg()[0]:.1f}."
    )


def _others() -> str:
    """Return what the competitors run on, as far as they are installed."""
    if not OTHERS.exists():
        return ""
    program = (
        f"from importlib.metadata import version\nfor name in {_OTHER_PACKAGES}: print(name, version(name))"
    )
    done = subprocess.run(
        [str(OTHERS), "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    return f"the others: {', '.join(done.stdout.splitlines())}; "


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def comparison_report(found: Found, plan: Plan, size: Size) -> list[str]:
    """Return the section about the comparison."""
    others = [name for name in plan.contestants if name != OURS]
    products = size.tenants * size.products
    busiest = max(
        one.generator for samples in found.samples.values() for ones in samples.values() for one in ones
    )
    lines = [
        "## The same work, done by others",
        "",
        f"{products:,} products in {size.tenants} tenants, {size.tenants * size.categories:,} categories, "
        f"{products * size.parts:,} parts; "
        f"{plan.rounds} interleaved rounds of {plan.seconds:g} s at {PROMISED_AT} connections and of "
        f"{min(plan.seconds, plan.beside_seconds):g} s at others, one worker process each, one PostgreSQL. "
        f"The load generator took at most {busiest:.2f} of a core.",
        "",
        *(f"- **{name}**: {CONTESTANTS[name].title}" for name in plan.contestants),
        "",
    ]
    if OURS in plan.contestants and others:
        lines += _ratios(found, plan, others)
    lines += _figures(found, plan)
    lines += _memory(found, plan)
    return lines


def _ratios(found: Found, plan: Plan, others: Sequence[str]) -> Iterator[str]:
    """Yield the table of ratios: how many times the throughput of each other one BYO DPP has."""
    yield "Throughput of BYO DPP as a multiple of the others': median of the rounds, 95 % interval, and"
    yield f"at {PROMISED_AT} connections the promised least, where one is promised."
    yield ""
    yield f"| work | connections | {' | '.join(f'to {name}' for name in others)} |"
    yield "|---|---|" + "---|" * len(others)
    for (name, connections), samples in found.samples.items():
        cells = []
        for other in others:
            one = ratio(_rates(samples[OURS]), _rates(samples[other]))
            cell = f"**{one.median:.2f}** ({one.low:.2f} to {one.high:.2f})"
            target = WORKS[name].targets.get(other)
            if target is not None and connections == PROMISED_AT:
                cell += f"; at least {target:g}: {verdict(one, target)}"
            cells.append(cell)
        yield f"| {WORKS[name].title} | {connections} | {' | '.join(cells)} |"
    yield ""


def _figures(found: Found, plan: Plan) -> Iterator[str]:
    """Yield the table of medians."""
    yield "Medians: answers per second, microseconds of computing per answer in the server and in PostgreSQL,"
    yield "milliseconds of latency at the middle and at the 99th of a hundred."
    yield ""
    yield "| work | connections | who | per second | server µs | PostgreSQL µs | p50 ms | p99 ms |"
    yield "|---|---|---|---|---|---|---|---|"
    for (name, connections), samples in found.samples.items():
        for contestant in plan.contestants:
            yield f"| {name} | {connections} | {contestant} | {_medians(samples[contestant])} |"
    yield ""


def _memory(found: Found, plan: Plan) -> Iterator[str]:
    yield "| who | memory of the worker after all of it | first answer after |"
    yield "|---|---|---|"
    for name in plan.contestants:
        yield f"| {name} | {found.memory[name] / 2**20:,.0f} MiB | {found.start[name]:.2f} s |"
    yield ""


def rounds_report(found: Found, plan: Plan) -> Iterator[str]:
    """Yield every round: answers per second, and in parentheses microseconds computed by the server."""
    for (name, connections), samples in found.samples.items():
        yield ""
        yield f"### {WORKS[name].title}, {connections} connections"
        yield ""
        yield "| round | " + " | ".join(plan.contestants) + " |"
        yield "|---|" + "---|" * len(plan.contestants)
        for number in range(plan.rounds):
            cells = (
                f"{samples[one][number].rate:,.0f} ({samples[one][number].cost:,.0f})"
                for one in plan.contestants
            )
            yield f"| {number + 1} | {' | '.join(cells)} |"
    yield ""


def growth_report(growths: Sequence[Growth], scale: Scale) -> Iterator[str]:
    """Yield the section about growth, every round included."""
    yield "## BYO DPP when there is more"
    yield ""
    yield f"{scale.rounds} interleaved rounds of {scale.seconds:g} s, {scale.connections} connections, one"
    yield "worker process. Throughput as a multiple of that of the first line: median of the rounds, 95 %"
    yield "interval; and the least that is promised for the last line."
    for growth in growths:
        base = next(iter(growth.samples))
        yield from ("", f"### {growth.title[0].upper()}{growth.title[1:]}", "")
        yield "| | per second | multiple | server µs | PostgreSQL µs | p50 ms | p99 ms |"
        yield "|---|---|---|---|---|---|---|"
        for size, ones in growth.samples.items():
            cell = "1"
            if size != base:
                one = ratio(_rates(ones), _rates(growth.samples[base]))
                cell = f"**{one.median:.3f}** ({one.low:.3f} to {one.high:.3f})"
                if growth.target is not None and size == list(growth.samples)[-1]:
                    cell += f"; at least {growth.target:.3g}: {verdict(one, growth.target)}"
            yield f"| {size} | {_medians(ones, cell)} |"
        if growth.remark:
            yield from ("", growth.remark)
    yield ""


def growth_rounds(growths: Sequence[Growth]) -> Iterator[str]:
    """Yield every round of the growths."""
    for growth in growths:
        yield from ("", f"### {growth.title[0].upper()}{growth.title[1:]}", "")
        yield "| round | " + " | ".join(growth.samples) + " |"
        yield "|---|" + "---|" * len(growth.samples)
        for number, ones in enumerate(zip(*growth.samples.values(), strict=True), 1):
            yield f"| {number} | " + " | ".join(f"{one.rate:,.0f} ({one.cost:,.0f})" for one in ones) + " |"
    yield ""


def _medians(samples: Sequence[Sample], multiple: str = "") -> str:
    """Return the cells of the medians: rate, the multiple if there is one, costs, latencies."""
    rate, cost, database, p50, p99 = (
        statistics.median(getattr(one, figure) for one in samples)
        for figure in ("rate", "cost", "database", "p50", "p99")
    )
    cells = [f"{rate:,.0f}", *([multiple] if multiple else []), f"{cost:,.0f}", f"{database:,.0f}"]
    return " | ".join([*cells, f"{p50:.2f}", f"{p99:.2f}"])


def _rates(samples: Sequence[Sample]) -> list[float]:
    return [sample.rate for sample in samples]
