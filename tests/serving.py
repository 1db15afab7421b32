"""A real `byodpp serve`, in a process of its own, on a folder that a test has written."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from byodpp.embedded_process import is_running

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
        patience_seconds: float = 60.0,
        **environment: str,
    ) -> None:
        """Args:
        app_dir: the application's folder.
        words: further words for `serve`.
        command: another command to start instead, in that folder.
        patience_seconds: how long the start may take.
        environment: variables; those of the framework that the test runs with are not inherited.
        """
        self.app_dir = app_dir
        self._output = app_dir / "serve.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("BYODPP_", "POSTGRES_"))}
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
        try:
            self._wait(begun + patience_seconds)
        except BaseException:
            self.end(signal.SIGKILL)
            raise
        self.seconds_to_ready = time.monotonic() - begun
        banner = self.output
        self.address = re.findall(r"address +(\S+)", banner)[0]
        self.token = (re.findall(r"Bearer ([\w.-]+)", banner) or [""])[0]

    @property
    def output(self) -> str:
        """Everything that was printed so far."""
        return self._output.read_text(errors="replace")

    def _wait(self, deadline: float) -> None:
        """Wait until it serves."""
        while True:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"it did not start in time:\n{self.output}"
            if _BANNER_END in self.output:
                url = re.findall(r"address +(\S+)", self.output)[0] + "/health/ready"
                try:
                    with urllib.request.urlopen(url, timeout=5):
                        return
                except (urllib.error.URLError, OSError):
                    pass
            time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM, *, group: bool = False, within: float = 20.0) -> int:
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
        self.kill()
        if pid is not None and is_running(pid):
            os.kill(pid, signal.SIGQUIT)
