"""Every test runs on real PostgreSQL, by the testing kit that extension developers get.

`random` begins each test at a state that BYODPP_TEST_SEED and the test's name determine, so that
a failure repeats with the printed value, alone or among others. A whole run of `make soak`
writes its counts into docs/soak.md.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.soak_report import SoakReport

pytest_plugins = ["byodpp.testing"]

_SEED = "BYODPP_TEST_SEED"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SoakReport(config), "soak-report")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"repeat with {_SEED}={_seed()}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    random.seed(f"{_seed()} {item.nodeid}")


def _seed() -> str:
    return os.environ.get(_SEED, "1")
