"""Every test runs on real PostgreSQL, by the testing kit that extension developers get.

`random` begins each test at a state that BYODPP_TEST_SEED and the test's name determine, so that
a failure repeats with the printed value, alone or among others. A whole run of `make soak`
writes its counts into docs/soak.md.
"""

from __future__ import annotations

import os
import random
import signal

import pytest

from tests.soak_report import SoakReport

pytest_plugins = ["byodpp.testing", "tests.browser", "tests.keycloak_server"]

_SEED = "BYODPP_TEST_SEED"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak-report", action="store_true", help="write what is marked soak to docs/soak.md")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SoakReport(config), "soak-report")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A run in a shell's background inherits deafness to Ctrl-C, and would pass it on to the servers
        # whose end by Ctrl-C is tested. A signal that is handled begins anew in a child.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Full counts may take hours, and the first test with Keycloak fetches and builds it."""
    for item in items:
        for marker, seconds in (("soak", 4 * 3600), ("keycloak", 900)):
            if item.get_closest_marker(marker) and not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(seconds))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"repeat with {_SEED}={_seed()}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    random.seed(f"{_seed()} {item.nodeid}")


def _seed() -> str:
    return os.environ.get(_SEED, "1")
