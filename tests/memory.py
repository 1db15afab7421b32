"""The files of a run with several processes lie in memory where there is plenty, and are gone after it.

Every test of an application makes a database, which is a thousand files, and many start servers of their
own: on a disk that costs more than what the tests do. One process alone keeps its files where pytest does.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

import pytest

from byodpp.embedded.process import FileLock, end_process, is_running, start_mark

__all__ = ["MemoryFolder", "folder_in_memory"]

_SHARED: Final = Path("/dev/shm")  # Linux keeps it in memory
_PREFIX: Final = "byodpp-tests-"
_WANTED_BYTES: Final = 6 << 30  # a whole run holds about a third of it
_YOUNG_SECONDS: Final = 60
_INPUT: Final = "byodpp_memory"  # what the processes of a run are told by


class MemoryFolder:
    """A plugin of the process that gives the others their tests, registered when it has decided."""

    def __init__(self, shared: Path = _SHARED) -> None:
        """Args:
        shared: where folders in memory are made.
        """
        self._shared = shared
        self._lock: FileLock | None = None
        self.path: Path | None = None

    def decide(self, config: pytest.Config) -> None:
        """Make the folder where it helps, before pytest asks where the files of tests lie."""
        several = config.getoption("numprocesses", None)
        if several and config.option.basetemp is None and _is_plentiful(self._shared):
            self.begin()
            config.option.basetemp = self.path / "files" if self.path else None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: object) -> None:
        """Tell a process of it."""
        node.workerinput[_INPUT] = self.path and str(self.path)  # type: ignore[attr-defined]  # of pytest-xdist

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Remove the folder, when the other processes have ended."""
        self.end()

    def begin(self) -> None:
        """Make a folder that nobody else has, and remove those of runs that were killed."""
        for left in self._shared.glob(f"{_PREFIX}*"):
            _remove_if_left(left)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._shared))
        self._lock = FileLock(self.path / "lock")
        self._lock.acquire()

    def end(self) -> None:
        """Remove the folder. Harmless when there is none."""
        path, self.path = self.path, None
        if path is not None:
            _remove(path)
        if self._lock is not None:
            self._lock.release()


def folder_in_memory(config: pytest.Config) -> Path | None:
    """Return the folder of this run; None when its files lie on a disk."""
    told = getattr(config, "workerinput", {}).get(_INPUT)
    return Path(told) if told else None


def _is_plentiful(shared: Path) -> bool:
    """Tell whether there is room, from which programs may be started."""
    try:
        there = os.statvfs(shared)
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return False
    available = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), 0)
    room = min(there.f_bavail * there.f_frsize, available)
    return room >= _WANTED_BYTES and not there.f_flag & os.ST_NOEXEC and os.access(shared, os.W_OK)


def _remove_if_left(folder: Path) -> None:
    try:
        found = folder.stat()
        if found.st_uid != os.getuid() or time.time() - found.st_mtime < _YOUNG_SECONDS:
            return  # somebody else's, or about to be locked
        lock = FileLock(folder / "lock")
        lock.acquire()
    except (FileNotFoundError, TimeoutError):
        return  # it has just gone, or its run goes on
    _remove(folder)
    lock.release()


def _remove(folder: Path) -> None:
    """Remove a folder, and end the server of the tests that a killed run has left in it."""
    for state in folder.glob("**/.byodpp/postgres.json"):
        found = json.loads(state.read_text())
        if is_running(found["pid"]) and start_mark(found["pid"]) == found["started"]:
            end_process(found["pid"], patience_seconds=10)
    shutil.rmtree(folder, ignore_errors=True)
