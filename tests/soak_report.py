"""The report of `make soak`: what was run on which machine, what was counted, how it ended.

A test marked `soak` counts with pytest's `record_property`; its name is its sentence. A run of some of
them (`make soak PYTEST_ARGS=tests/test_crash.py`) renews their lines and leaves the others; each line
names the commit that it was seen on. A run of all drops the lines of tests that are gone.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from byodpp.embedded.programs import find_programs

__all__ = ["SoakReport", "machine"]

REPORT = Path(__file__).resolve().parent.parent / "docs" / "soak.md"

_INTRODUCTION = """\
# Soak

The full counts of tests that the usual run (`make test`) repeats only a few times. `make soak` runs them
and writes this page; each line names the commit that it was seen on.
"""
_LINE = re.compile(r"^\| (?P<name>[^|\n]+) \|[^|\n]*\| *\d+ \| \w+ \| [0-9a-f]+\+? \|$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """One test that has ended."""

    name: str
    outcome: str
    seconds: float
    counts: tuple[tuple[str, object], ...]

    def line(self, commit: str) -> str:
        counted = ", ".join(f"{name}: {count}" for name, count in self.counts)
        return f"| {self.name} | {counted} | {self.seconds:.0f} | {self.outcome} | {commit} |"


class SoakReport:
    """Listens to a run with `--soak-report` and writes the page at its end."""

    def __init__(self, config: pytest.Config) -> None:
        whole = config.args_source in (config.ArgsSource.TESTPATHS, config.ArgsSource.INVOCATION_DIR)
        is_worker = hasattr(config, "workerinput")
        self._writes = config.getoption("soak_report") and not is_worker and not config.option.collectonly
        self._keeps = not whole or bool(config.option.keyword)
        self._ended: dict[str, _Ended] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "soak" in report.keywords and (report.when == "call" or report.outcome != "passed"):
            counts = tuple(report.user_properties)
            name = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
            self._ended[name] = _Ended(
                name=name, outcome=report.outcome, seconds=report.duration, counts=counts
            )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._writes and self._ended:
            before = REPORT.read_text(encoding="utf-8") if self._keeps and REPORT.exists() else ""
            REPORT.write_text(_text(before, self._ended), encoding="utf-8")
            terminalreporter.write_line(f"wrote docs/{REPORT.name}")


def _text(before: str, ended: dict[str, _Ended]) -> str:
    lines = {found["name"]: found[0] for found in _LINE.finditer(before)}
    commit = _commit()
    lines |= {name: one.line(commit) for name, one in ended.items()}
    failed = sum("| failed |" in line for line in lines.values())
    return "\n".join(
        [
            _INTRODUCTION,
            f"Machine: {machine()}.",
            "",
            f"{len(lines)} tests, {failed} failed.",
            "",
            "| test | counted | seconds | result | commit |",
            "|---|---|---|---|---|",
            *(lines[name] for name in sorted(lines)),
            "",
        ]
    )


def _commit() -> str:
    """Return the short name of the commit, `unknown` outside a checkout; `+` marks changes beside it.

    This page itself is no change: each part of a run that is done in parts writes it.
    """
    name = _git("rev-parse", "--short", "HEAD")
    changed = _git(
        "status", "--porcelain", "--untracked-files=no", "--", ":/", f":(exclude,top)docs/{REPORT.name}"
    )
    return f"{name}+" if changed else name or "unknown"


def _git(*words: str) -> str:
    told = subprocess.run(
        ["git", *words], cwd=REPORT.parent, capture_output=True, text=True, timeout=30, check=False
    )
    return told.stdout.strip()


def machine() -> str:
    """Return what a reader must know of the machine to compare numbers."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB, "
        f"Python {platform.python_version()}, PostgreSQL {find_programs(None).major}"
    )
