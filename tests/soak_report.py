"""The report of `make soak`: what was run on which machine, what was counted, how it ended.

A test marked `soak` counts with pytest's `record_property`; its name is its sentence. The report
is written at the end of a run of all of them (`-m soak`, no files named), and bears no date.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import pytest

from byodpp.embedded.programs import find_programs

__all__ = ["SoakReport", "machine"]

REPORT = Path(__file__).resolve().parent.parent / "docs" / "soak.md"

_INTRODUCTION = """\
# Soak

The full counts of tests that the usual run (`make test`) repeats only a few times. `make soak` runs them
and writes this page.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """One test that has ended."""

    name: str
    outcome: str
    seconds: float
    counts: tuple[tuple[str, object], ...]


class SoakReport:
    """Listens to a run and writes the report at its end."""

    def __init__(self, config: pytest.Config) -> None:
        whole = config.args_source in (config.ArgsSource.TESTPATHS, config.ArgsSource.INVOCATION_DIR)
        is_worker = hasattr(config, "workerinput")
        chosen = config.option.markexpr == "soak" and not config.option.keyword
        self._writes = whole and chosen and not is_worker and not config.option.collectonly
        self._ended: list[_Ended] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "soak" in report.keywords and (report.when == "call" or report.outcome != "passed"):
            counts = tuple(report.user_properties)
            name = report.nodeid.rpartition("::")[2]
            outcome = _Ended(name=name, outcome=report.outcome, seconds=report.duration, counts=counts)
            self._ended.append(outcome)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._writes and self._ended:
            REPORT.write_text(_text(self._ended), encoding="utf-8")
            terminalreporter.write_line(f"wrote docs/{REPORT.name}")


def _text(ended: list[_Ended]) -> str:
    lines = [_INTRODUCTION, f"Machine: {machine()}.", ""]
    failed = sum(one.outcome != "passed" for one in ended)
    lines += [
        f"{len(ended)} tests, {failed} failed.",
        "",
        "| test | counted | seconds | result |",
        "|---|---|---|---|",
    ]
    for one in sorted(ended, key=lambda one: one.name):
        sentence = one.name.removeprefix("test_").replace("_", " ")
        counted = ", ".join(f"{name}: {count}" for name, count in one.counts)
        lines.append(f"| {sentence} | {counted} | {one.seconds:.0f} | {one.outcome} |")
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Return what a reader must know of the machine to compare numbers."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB, "
        f"Python {platform.python_version()}, PostgreSQL {find_programs(None).major}"
    )
