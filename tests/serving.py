"""A real `byodpp serve`, in a process of its own, on a folder that a test has written."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from byodpp.embedded.process import is_running

__all__ = ["Serving", "postgres_pid"]

ROOT = Path(__file__).resolve().parent.parent
_BANNER_END = "Ctrl-C stops it."


def postgres_pid(app_dir: Path) -> int | None:
    """Return the pid of the application's embedded server; None when none is known."""
    try:
        found: int = json.loads((app_dir / ".byodpp" / "postgres.json").read_text())["pid"]
    except FileNotFoundError:
        return None
    return found


class Serving:
    """One start of an application's server, and its end."""

    def __init__(
        self,
        app_dir: Path,
        *words: str,
        command: Sequence[str] | None = None,
        ready: bool = True,
        patience_seconds: float = 60.0,
        **environment: str,
    ) -> None:
        """Args:
        app_dir: the application's folder.
        words: further words for `serve`.
        command: another command to start instead, in that folder.
        ready: wait until it serves.
        patience_seconds: how long the start may take.
        environment: variables; those of the framework that the test runs with are not inherited.
        """
        self.app_dir = app_dir
        self._output = app_dir / "serve.log"
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("BYODPP_", "POSTGRES_"))
        }
        variables = {**clean, "PYTHONPATH": str(ROOT), "LOG_LEVEL": "warning", **environment}
        started = [sys.executable, "-m", "byodpp", "--app", str(app_dir), "serve", "--port", "0", "--no-demo"]
        begun = time.monotonic()
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command or [*started, *words],
                cwd=app_dir,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a signal for its group must not reach the tests
            )
        if ready:
            try:
                self.wait_for(self._serves, begun + patience_seconds - time.monotonic())
            except BaseException:
                self.kill()
                raise
        self.seconds_to_ready = time.monotonic() - begun

    @property
    def address(self) -> str:
        """Where it serves, as it says itself; empty before."""
        found = re.findall(r"address +(\S+)", self.output)
        return found[0] if found else ""

    @property
    def token(self) -> str:
        """The token in the line to paste; empty when there is none."""
        found = re.findall(r"Bearer ([\w.-]+)", self.output)
        return found[0] if found else ""

    @property
    def output(self) -> str:
        """Everything that was printed so far."""
        return self._output.read_text(errors="replace")

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait until something holds, and fail when the process ends or the time is over."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"it did not happen in time:\n{self.output}"
            time.sleep(0.01)

    def _serves(self) -> bool:
        if _BANNER_END not in self.output:
            return False
        try:
            with urllib.request.urlopen(self.address + "/health/ready", timeout=5):
                return True
        except (http.client.HTTPException, OSError):  # an answer that was cut, or none
            return False

    def end(self, number: int = signal.SIGTERM, *, group: bool = False, within: float = 60.0) -> int:
        """Send a signal, wait for the end, and return the exit status."""
        if self.process.poll() is None:
            if group:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)
        return self.process.wait(timeout=within)

    def kill(self) -> None:
        """Let the process end at once. Harmless when it has ended."""
        self.process.kill()
        self.process.wait()

    def clear_away(self) -> None:
        """End whatever a failed test left running."""
        pid = postgres_pid(self.app_dir)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.kill()
        if pid is not None and is_running(pid):
            os.kill(pid, signal.SIGQUIT)
