"""Processes under measurement: how they are started and ended, what they computed, what they hold.

In: a command. Out: a server that answers, and figures that the kernel keeps about it. May fail:
RuntimeError when it ends, or answers otherwise than expected; TimeoutError when it does not get ready.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeAlias

from byodpp.embedded.process import never_interrupts

__all__ = [
    "Family",
    "Generator",
    "Request",
    "Server",
    "ask",
    "clean_environment",
    "computed",
    "families",
    "serving",
]

#: The pids of processes that have children -> those of the children.
Family: TypeAlias = Mapping[int, Sequence[int]]

HERE = Path(__file__).parent
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, as the load generator and the comparison of answers send it."""

    method: str
    path: str
    token: str = ""
    tenant: int = 0  # told in a header: the bare limit checks no token
    body: Any = None

    def headers(self) -> dict[str, str]:
        """Return its headers, without those that depend on the length."""
        found = {"Host": "127.0.0.1", "Bench-Tenant": str(self.tenant), "Accept": "application/json"}
        if self.token:
            found["Authorization"] = f"Bearer {self.token}"
        if self.body is not None:
            found["Content-Type"] = "application/json"
        return found

    def content(self) -> bytes:
        """Return its body; empty when it has none."""
        return b"" if self.body is None else json.dumps(self.body).encode()

    def text(self) -> str:
        """Return it as it goes over the wire."""
        content = self.content()
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in self.headers().items())]
        if content:
            lines.append(f"Content-Length: {len(content)}")
        return "\r\n".join([*lines, "", content.decode()])


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that is ready."""

    process: subprocess.Popen[bytes]
    port: int
    seconds: float  # from the start of the process to the first good answer
    log: Path  # what it printed

    def said(self) -> str:
        """Return the end of what it printed; what is behind an answer may come after it."""
        time.sleep(0.2)
        return _end_of(self.log)

    def computed(self, family: Family, *, without: int) -> float:
        """Return the seconds that the server and its children have computed so far.

        Args:
            family: of `families`, looked at just now.
            without: pid of its PostgreSQL, which is its child where the server has started it.
        """
        own = computed(self.process.pid, family)
        return own - computed(without, family) if without in tree(self.process.pid, family) else own

    def resident(self) -> int:
        """Return the bytes of memory that the server and its children hold, shared pages by halves.

        The kernel's proportional set size: a page that two processes share counts half in each.
        """
        total = 0
        for pid in tree(self.process.pid):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total


def families() -> Family:
    """Return who has which children just now, of all processes; nothing where there is no /proc."""
    children: dict[int, list[int]] = {}
    if not Path("/proc/self/schedstat").exists():
        return children
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile
            children.setdefault(parent, []).append(int(folder.name))
    return children


def tree(root: int, family: Family | None = None) -> list[int]:
    """Return a process and all that descend from it; nothing where there is no /proc."""
    children = families() if family is None else family
    found = [root] if children else []
    for pid in found:
        found += children.get(pid, [])
    return found


def computed(root: int, family: Family | None = None) -> float:
    """Return the seconds that a process and its children have computed; 0 where no kernel tells."""
    total = 0
    for pid in tree(root, family):
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return total / 1e9


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's variables without those that a contestant would take as settings."""
    own = ("BYODPP_", "POSTGRES_", "BENCH_", "DJANGO_", "PG", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return kept | {"PYTHONUNBUFFERED": "1"} | more


def ask(port: int, request: Request) -> tuple[int, Any]:
    """Send one request; return status and body, parsed if it is JSON, numbers with all their digits."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(
            request.method, request.path, body=request.content() or None, headers=request.headers()
        )
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if "json" not in answer.headers.get("Content-Type", ""):
        return answer.status, content.decode(errors="replace") or None
    return answer.status, json.loads(content, parse_float=str)


@contextmanager
def serving(
    command: Sequence[str], environment: Mapping[str, str], port: int, probe: Request, log: Path
) -> Iterator[Server]:
    """Start a server, yield it as soon as the probe is answered with 200, and end it.

    Args:
        command: the program with its words.
        environment: all its variables.
        port: where it will listen.
        probe: a request that it can answer when it is ready.
        log: takes what it prints.
    """
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait(process, port, probe, log)
        yield Server(process=process, port=port, seconds=time.perf_counter() - started, log=log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, probe: Request, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    said = "nothing"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}:\n{_end_of(log)}")
        try:
            status, answer = ask(port, probe)
            if status == 200:
                return
            said = f"{status} {answer}"
        except (OSError, HTTPException, ValueError) as error:
            said = repr(error)
        time.sleep(0.02)
    raise TimeoutError(f"{probe.path}: the last answer was {said}:\n{_end_of(log)}")


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


class Generator:
    """The load generator, as a program that waits for work."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "load.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        # Clients elsewhere would not take a processor from a server in the middle of a request.
        never_interrupts(self._process.pid)
        self._number = 1

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def computed(self, family: Family) -> float:
        """Return the seconds that it has computed so far."""
        return computed(self._process.pid, family)

    def run(
        self, port: int, requests: Sequence[str], *, connections: int, seconds: float, status: int = 200
    ) -> dict[str, Any]:
        """Send the requests in turn until the time is up, and return what was measured.

        Raises:
            RuntimeError: an answer was not as expected.
        """
        asked = {
            "host": "127.0.0.1",
            "port": port,
            "requests": list(requests),
            "connections": connections,
            "seconds": seconds,
            "status": status,
            "first": self._number,
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator has ended; why stands on stderr")
        found: dict[str, Any] = json.loads(line)
        self._number = found["next"]
        if found["failures"]:
            raise RuntimeError(f"{found['failures']} answers were not as expected, e.g. {found['refusal']}")
        return found
