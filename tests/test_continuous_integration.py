"""What `.ci/run` does with the steps it takes: tried with steps that only say that they were taken."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAKE = """#!/bin/sh
echo "make $1"
case "$1" in check) sleep "$CHECK_SECONDS"; exit "$CHECK" ;; esac
"""
#: Gets Keycloak ready: as Maven does it, by a process of its own.
PREPARE = """#!/bin/sh
(sleep "$PREPARE_SECONDS"; touch was-ready) &
wait
exit "$PREPARED"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the script, and what stands for everything that it calls."""
    programs = dict.fromkeys(("java", "mvn", "chromedriver", "redis-server"), "#!/bin/sh\n")
    scripts = {f"bin/{name}": text for name, text in (programs | {"make": MAKE}).items()}
    for name, text in (scripts | {".venv/bin/python": PREPARE}).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    return tmp_path


def begun(folder: Path, **said: object) -> subprocess.Popen[str]:
    usual = {"CHECK": 0, "CHECK_SECONDS": 0, "PREPARED": 0, "PREPARE_SECONDS": 0}
    environment = {**os.environ, **{name: str(value) for name, value in (usual | said).items()}}
    environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
    return subprocess.Popen(
        [folder / ".ci" / "run"], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_the_tests_begin_when_the_check_is_done_and_keycloak_is_ready(folder: Path) -> None:
    run = begun(folder, PREPARE_SECONDS=1)
    told, faults = run.communicate(timeout=60)
    assert (run.returncode, told.split(), faults) == (0, "make development make check make test".split(), "")
    assert (folder / "was-ready").exists()


def test_a_keycloak_that_cannot_be_got_ready_ends_it_with_a_word(folder: Path) -> None:
    run = begun(folder, PREPARED=3)
    told, faults = run.communicate(timeout=60)
    assert run.returncode == 3 and "make test" not in told
    assert faults == "ci: the tests' Keycloak could not be got ready\n"


@pytest.mark.parametrize("way", ["check", "signal"])
def test_what_gets_keycloak_ready_ends_with_it(folder: Path, way: str) -> None:
    """Whoever reads what it prints waits for the last process that may print."""
    run = begun(folder, PREPARE_SECONDS=300, CHECK=2, CHECK_SECONDS=2)
    assert run.stdout is not None and run.stdout.readline() == "make development\n"
    if way == "signal":
        assert run.stdout.readline() == "make check\n"
        run.send_signal(signal.SIGTERM)
    run.communicate(timeout=60)
    assert run.returncode == (2 if way == "check" else -signal.SIGTERM)
