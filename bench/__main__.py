"""Measure BYO DPP beside the alternatives, and beside itself when there is more: `python -m bench`.

Everything, as `make bench` does it, takes some twenty minutes; `--quick` some three. One thing in a minute:

    python -m bench --only read,list --contestants bare,byodpp --connections 16 --rounds 3
    python -m bench --parts rows --quick
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench import growth
from bench.comparison import Plan, measure
from bench.contestants import CONTESTANTS
from bench.growth import GROWTHS, Scale
from bench.report import comparison_report, growth_report, growth_rounds, machine, rounds_report
from bench.works import WORKS
from bench.world import Size, made

PARTS = ("comparison", *GROWTHS)
QUICK_PLAN = Plan(contestants=(), works=(), connections=(16,), rounds=3, seconds=0.4)
QUICK_SCALE = Scale(resources=(1, 100), tenants=(1, 50), rows=(1_000, 10_000, 100_000), rounds=5, seconds=0.4)


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of a command line, checked."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("--parts", type=_some_of(PARTS), help=f"some of {', '.join(PARTS)}; comparison alone, where "
           "--only or --contestants is given, else all")  # fmt: skip
    option("--only", type=_some_of(WORKS), help=f"works: some of {', '.join(WORKS)}")
    option("--contestants", type=_some_of(CONTESTANTS), help=f"some of {', '.join(CONTESTANTS)}")
    option("--connections", type=_numbers, help="one or several numbers, default 1,16,64")
    option("--rounds", type=_positive, help="default 7, of growth 15")
    option("--seconds", type=float, help="length of each turn, default 1, of growth 0.7; at other numbers "
           "of connections than 16 at most 0.5")  # fmt: skip
    option("--tenants", type=_positive, default=Size().tenants, help="of the comparison")
    option("--products", type=_positive, default=Size().products, help="of each tenant of the comparison")
    option("--quick", action="store_true", help="smaller sizes, fewer and shorter rounds: a look, no proof")
    option("--report", type=Path, help="file to write the result into, beside printing it")
    options = parser.parse_args(words)
    options.parts = options.parts or (("comparison",) if options.only or options.contestants else PARTS)
    options.contestants = options.contestants or tuple(CONTESTANTS)
    lacking = [name for name in options.contestants if not CONTESTANTS[name].interpreter.exists()]
    if lacking and "comparison" in options.parts:
        parser.error(f"{', '.join(lacking)} need an environment of their own: sh scripts/environment bench")
    return options


def plan_of(options: argparse.Namespace) -> Plan:
    """Return what the comparison does."""
    start = QUICK_PLAN if options.quick else Plan(contestants=(), works=())
    return replace(
        start,
        contestants=options.contestants,
        works=options.only or tuple(WORKS),
        connections=options.connections or start.connections,
        rounds=options.rounds or start.rounds,
        seconds=options.seconds or start.seconds,
    )


def scale_of(options: argparse.Namespace) -> Scale:
    """Return how far growth is followed."""
    start = QUICK_SCALE if options.quick else Scale()
    return replace(
        start,
        connections=(options.connections or (start.connections,))[0],
        rounds=options.rounds or start.rounds,
        seconds=options.seconds or start.seconds,
    )


def _some_of(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        for one in chosen:
            if one not in known:
                raise argparse.ArgumentTypeError(f"{one!r} is none of {', '.join(known)}")
        return chosen

    return read


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(_positive(one) for one in text.split(","))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write the report if that is wanted."""
    options = parsed(words)
    # Else nobody would end the servers.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    place = Path(tempfile.mkdtemp(prefix="byodpp-bench-"))
    lines: list[str] = []
    try:
        for lines, rounds in measured(place, options):
            if options.report is not None:
                write(options.report, [*lines, machine()], rounds)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print("\n".join([*lines, machine()]))


def write(report: Path, lines: Sequence[str], rounds: Sequence[str]) -> None:
    """Write what there is so far."""
    head = [
        "# Measurements",
        "",
        "What is measured, and how: [README.md](README.md). Repeat it: `make bench`.",
        "",
    ]
    text = "\n".join([*head, *lines, "", "## Every round", "", *rounds])
    report.write_text(text.rstrip() + "\n", encoding="utf-8")


def measured(place: Path, options: argparse.Namespace) -> Iterator[tuple[list[str], list[str]]]:
    """Measure what is asked for; after each part, yield the lines of the report and those of its rounds.

    Whatever cuts a run off leaves what it has found before.
    """
    lines: list[str] = []
    rounds = ["Answers per second (microseconds of computing per answer in the server)."]
    if "comparison" in options.parts:
        plan, size = plan_of(options), Size(tenants=options.tenants, products=options.products)
        tell("making tables and rows")
        with made(place / "comparison", size) as world:
            found = measure(world, plan, tell)
        lines += comparison_report(found, plan, size)
        rounds += rounds_report(found, plan)
        yield lines, rounds
    scale, growths = scale_of(options), []
    for part in options.parts:
        if part in GROWTHS:
            growths += growth.measure(place, scale, [part], tell)
            yield [*lines, *growth_report(growths, scale)], [*rounds, *growth_rounds(growths)]


def tell(line: str) -> None:
    """Say on stderr what goes on."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
