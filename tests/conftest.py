"""Every test runs on real PostgreSQL, by the testing kit that extension developers get.

`random` begins each test at a state that BYODPP_TEST_SEED and the test's name determine, so that
a failure repeats with the printed value, alone or among others. A whole run of `make soak`
writes its counts into docs/soak.md.
"""

from __future__ import annotations

import gc
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from byodpp.bootstrap import Blueprint
from tests.memory import MemoryFolder, folder_in_memory
from tests.order import long_ones_first
from tests.soak_report import SoakReport
from tests.worlds import build
from tests.write_world import LOGICS, WRITES

if TYPE_CHECKING:
    from byodpp.testing import Bench, TestedApplication  # a plugin: pytest imports it itself, below

pytest_plugins = ["byodpp.testing", "tests.browser", "tests.keycloak_server"]

_SEED = "BYODPP_TEST_SEED"
#: Young containers that bring a pass of the garbage collector.
_YOUNG = 10_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak-report", action="store_true", help="write what is marked soak to docs/soak.md")


def pytest_xdist_auto_num_workers() -> int:
    """Return one worker more than there are cores: a test that waits leaves its core to another."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SoakReport(config), "soak-report")
    # How long an example takes tells of the machine, and of what else it does, not of the product.
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")
    if not hasattr(config, "workerinput"):
        memory = MemoryFolder()
        memory.decide(config)
        config.pluginmanager.register(memory, "memory")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A run in a shell's background inherits deafness to Ctrl-C, and would pass it on to the servers
        # whose end by Ctrl-C is tested. A signal that is handled begins anew in a child.
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without passes of the garbage collector, which then leaves alone what was collected.

    All of it stays until the end, and walking over it took a sixth of the tests' computing. Later passes come
    more rarely than usual.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(_YOUNG)
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Full counts may take hours, and the first test with Keycloak fetches and builds it."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes > 1:
        items[:] = long_ones_first(items, processes)
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


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def byodpp_bench(pytestconfig: pytest.Config) -> AsyncIterator[Bench]:
    """The server that all tests of the run share: the kit's own, or one in memory."""
    from byodpp.testing import Bench  # a plugin, which pytest imports itself

    memory = folder_in_memory(pytestconfig)
    if memory is None:
        bench = Bench(pytestconfig.rootpath / ".byodpp" / "testing")
    else:
        bench = Bench(memory / "testing", strategy="file_copy")
    await bench.start()
    yield bench
    await bench.stop()


# --- the store of tests/write_world.py --------------------------------------------------


@pytest.fixture(scope="module")
def writes(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    """The application of everything that can be written."""
    return build(tmp_path_factory.mktemp("writes"), WRITES, LOGICS)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(byodpp_bench: Bench, writes: Blueprint) -> AsyncIterator[TestedApplication]:
    """It, for what leaves nothing behind that another test of the file would notice."""
    async with byodpp_bench.application(writes) as tested:
        yield tested


@pytest_asyncio.fixture(loop_scope="session")
async def store(byodpp_bench: Bench, writes: Blueprint) -> AsyncIterator[TestedApplication]:
    """It, on a database of the test's own."""
    async with byodpp_bench.application(writes) as tested:
        yield tested
