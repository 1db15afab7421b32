"""The folder in memory of a run: nobody else's, gone after it, and what a killed run has left goes too."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from byodpp.embedded import EmbeddedPostgres
from byodpp.embedded.process import is_running
from byodpp.testing import Bench
from tests.memory import MemoryFolder, folder_in_memory

LONG_AGO = time.time() - 3600


async def test_what_a_killed_run_has_left_is_ended_and_removed(tmp_path: Path) -> None:
    left, running, new = (MemoryFolder(tmp_path) for _ in range(3))
    left.begin()
    assert left.path is not None
    server = await EmbeddedPostgres(left.path / "testing", durable=False).start()
    assert left._lock is not None
    left._lock.release()  # as its end does, however it ends
    running.begin()
    assert running.path is not None
    assert left.path.exists(), "it may be about to be locked"
    for path in (left.path, running.path):
        os.utime(path, (LONG_AGO, LONG_AGO))
    new.begin()
    assert new.path is not None
    assert [path.exists() for path in (left.path, running.path, new.path)] == [False, True, True]
    assert not is_running(server.pid)
    assert new.path.stat().st_mode & 0o777 == 0o700
    for one in (running, new):
        one.end()
    assert os.listdir(tmp_path) == []


def test_all_files_of_a_run_lie_together(
    pytestconfig: pytest.Config, byodpp_bench: Bench, tmp_path: Path
) -> None:
    memory = folder_in_memory(pytestconfig)
    if memory is None:
        assert byodpp_bench._folder == pytestconfig.rootpath / ".byodpp" / "testing"
    else:
        assert tmp_path.is_relative_to(memory)
        assert byodpp_bench._folder.is_relative_to(memory)


def test_a_small_memory_is_not_used(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = MemoryFolder()
    monkeypatch.setattr("tests.memory._WANTED_BYTES", 1 << 60)
    monkeypatch.setattr(pytestconfig.option, "numprocesses", 2, raising=False)
    monkeypatch.setattr(pytestconfig.option, "basetemp", None)
    folder.decide(pytestconfig)
    assert (folder.path, pytestconfig.option.basetemp) == (None, None)
