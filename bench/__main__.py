"""Measure BYO DPP beside the alternatives: `python -m bench`.

Everything, as `make bench` does it, takes some twenty minutes. One thing in a minute:

    python -m bench --only read,list --contestants bare,byodpp --connections 16 --rounds 3
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from bench.comparison import Plan, measure
from bench.contestants import CONTESTANTS
from bench.report import comparison_report, machine, rounds_report
from bench.works import WORKS
from bench.world import Size, made


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of a command line, checked."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    works, contestants = ", ".join(WORKS), ", ".join(CONTESTANTS)
    parser.add_argument("--only", type=_some_of(WORKS), default=tuple(WORKS), help=f"some of {works}")
    parser.add_argument(
        "--contestants", type=_some_of(CONTESTANTS), default=tuple(CONTESTANTS), help=f"some of {contestants}"
    )
    parser.add_argument("--connections", type=_numbers, default=(1, 16, 64))
    parser.add_argument("--rounds", type=_positive, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each turn")
    parser.add_argument("--tenants", type=_positive, default=Size().tenants)
    parser.add_argument("--products", type=_positive, default=Size().products, help="of each tenant")
    parser.add_argument("--report", type=Path, help="file to write the result into, beside printing it")
    options = parser.parse_args(words)
    lacking = [name for name in options.contestants if not CONTESTANTS[name].interpreter.exists()]
    if lacking:
        parser.error(f"{', '.join(lacking)} need an environment of their own: sh scripts/environment bench")
    return options


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
    plan = Plan(
        contestants=options.contestants,
        works=options.only,
        connections=options.connections,
        rounds=options.rounds,
        seconds=options.seconds,
    )
    size = Size(tenants=options.tenants, products=options.products)
    place = Path(tempfile.mkdtemp(prefix="byodpp-bench-"))
    try:
        _tell("making tables and rows")
        with made(place / "app", size) as world:
            found = measure(world, plan, _tell)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    lines = comparison_report(found, plan, size)
    print("\n".join([*lines, machine()]))
    if options.report is not None:
        head = ["# Measurements", "", machine(), "", "Repeat them: `make bench`.", ""]
        text = "\n".join([*head, *lines, *rounds_report(found, plan)])
        options.report.write_text(text + "\n", encoding="utf-8")


def _tell(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
