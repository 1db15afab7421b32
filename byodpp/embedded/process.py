"""What the kernel knows about a process, and one lock file's worth of agreement between processes.

In: a pid or a path. Out: facts. Nothing is rejected; a lock that stays taken is a TimeoutError.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final

__all__ = ["FileLock", "end_process", "is_running", "never_interrupts", "start_mark"]

_POLL_SECONDS: Final = 0.01


def is_running(pid: int) -> bool:
    """Tell whether the process exists and is more than a zombie; our own dead child is reaped."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # A process whose parent never asks for its end (PID 1 of many containers) stays as a zombie.
    return _status(pid)[:1] not in ("Z", "")


def start_mark(pid: int) -> str:
    """Return a text that no other process with this pid ever had, or "" when it is gone."""
    stat = _proc_stat(pid)
    if stat:
        boot = Path("/proc/sys/kernel/random/boot_id")
        return f"{boot.read_text().strip() if boot.exists() else ''}/{stat[19]}"
    return _ps(pid, "lstart")


def never_interrupts(pid: int) -> bool:
    """Have a process, and what it starts from now on, never take a processor from whoever has it.

    It gets its share as before, at the next pause or turn (SCHED_BATCH). False where the kernel has no such
    thing or forbids it, as sandboxes do; then all stays as it was.
    """
    if sys.platform != "linux":
        return False
    try:
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
    except OSError:
        return False
    return True


def end_process(pid: int, *, patience_seconds: float) -> bool:
    """Stop a PostgreSQL server: fast shutdown, then immediate; False when it outlives both."""
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline:
            if not is_running(pid):
                return True
            time.sleep(_POLL_SECONDS)
    return False


def _status(pid: int) -> str:
    stat = _proc_stat(pid)
    return stat[0] if stat else _ps(pid, "stat")


def _proc_stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    # The command, in parentheses, may hold blanks and parentheses itself.
    return text.rpartition(")")[2].split()


def _ps(pid: int, column: str) -> str:
    if os.path.isdir("/proc/self"):
        return ""
    command = ["ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


class FileLock:
    """An advisory lock on a file (flock); the kernel gives it back when the holder dies."""

    def __init__(self, path: Path) -> None:
        """Args:
        path: created when missing; stays when the lock is gone, because removing it would race.
        """
        self._path = path
        self._file: int | None = None

    def acquire(self, *, shared: bool = False, timeout_seconds: float = 0.0) -> None:
        """Take the lock, or change the kind of the one held.

        Args:
            shared: many may hold it at once.
            timeout_seconds: how long to try.

        Raises:
            TimeoutError: others hold it; a lock held before is then lost.
        """
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        how = fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                fcntl.flock(self._file, how)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    self.release()
                    raise TimeoutError(f"{self._path} is locked by another process") from None
                time.sleep(_POLL_SECONDS)

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
