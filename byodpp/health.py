"""Whether this process lives, is ready, and is well.

In: checks, each a coroutine that raises when its service is away. Out: three routes —
`/health/live` (the process answers), `/health/ready` (send requests here), `/health` (all
checks with their latency). They need no token and tell no version and no reason: that is in
the log. `Lifecycle` knows whether the process starts, serves, or stops.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from byodpp import wire
from byodpp.requests import Request
from byodpp.responses import Answer, timestamp
from byodpp.routes import Endpoint, Route

__all__ = ["Health", "HealthCheck", "Lifecycle"]

_log: Final = logging.getLogger("byodpp.health")


class Lifecycle:
    """Where a process stands between its start and its end."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        clock: seconds that never go back.
        """
        self._clock = clock
        self._started_at = clock()
        self.ready = False  # the application has opened everything it needs
        self.stopping = asyncio.Event()  # long-lived answers end when it is set

    @property
    def uptime_seconds(self) -> float:
        """Seconds since the process started."""
        return self._clock() - self._started_at

    def stop(self) -> None:
        """Announce the end. Called on the event loop's thread."""
        self.ready = False
        self.stopping.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """One service that this process depends on."""

    name: str
    check: Callable[[], Awaitable[object]]  # raises when the service is away
    critical: bool = True  # False: without it the process is degraded, not unready


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    name: str
    healthy: bool
    critical: bool
    latency_ms: float


class Health:
    """Runs the checks and answers for them."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        checks: Sequence[HealthCheck] = (),
        *,
        timeout_seconds: float = 1.0,
        fresh_seconds: float = 0.5,
    ) -> None:
        """Args:
        lifecycle: of this process.
        checks: in the order of the report.
        timeout_seconds: after which a check has failed, and is told so; what it still holds it gives back
            meanwhile, and until then it is not begun again.
        fresh_seconds: how long results are told again, so that nobody can load the services through us.
        """
        self._lifecycle = lifecycle
        self._checks = tuple(checks)
        self._timeout_seconds = timeout_seconds
        self._fresh_seconds = fresh_seconds
        self._results: dict[str, tuple[float, _Result]] = {}  # name -> until when it is told, and what
        self._running: dict[str, asyncio.Task[_Result]] = {}
        self._ending: dict[str, asyncio.Task[object]] = {}  # took too long, and have not ended yet

    def routes(self) -> tuple[Route, ...]:
        """Return the three routes."""
        served = {"/health/live": self.live, "/health/ready": self.ready, "/health": self.report}
        return tuple(
            Route(pattern=pattern, methods={"GET": Endpoint(handler=handler, guarded=False, produces=())})
            for pattern, handler in served.items()
        )

    async def live(self, request: Request) -> Answer:
        """Answer that the process answers."""
        return _answer(200, {"status": "ok", "timestamp": timestamp()})

    async def ready(self, request: Request) -> Answer:
        """Answer whether requests should be sent here."""
        if not self._lifecycle.ready:
            status = "stopping" if self._lifecycle.stopping.is_set() else "starting"
            return _answer(503, {"status": status, "timestamp": timestamp()})
        # Nobody waits here for a service without which requests are answered all the same.
        results = await self._current([check for check in self._checks if check.critical])
        checks = {result.name: result.healthy for result in results}
        well = all(checks.values())
        document = {"status": "ready" if well else "unavailable", "timestamp": timestamp(), "checks": checks}
        return _answer(200 if well else 503, document)

    async def report(self, request: Request) -> Answer:
        """Answer how every service is."""
        results = await self._current(self._checks)
        if not all(result.healthy for result in results if result.critical) or not self._lifecycle.ready:
            status = "unhealthy"
        else:
            status = "healthy" if all(result.healthy for result in results) else "degraded"
        document = {
            "status": status,
            "timestamp": timestamp(),
            "uptimeSeconds": round(self._lifecycle.uptime_seconds, 1),
            "checks": [
                {"name": result.name, "healthy": result.healthy, "latencyMs": result.latency_ms}
                for result in results
            ],
        }
        return _answer(503 if status == "unhealthy" else 200, document)

    async def _current(self, checks: Sequence[HealthCheck]) -> list[_Result]:
        """Return fresh results; who asks while one is being made waits for the same one."""
        return await asyncio.gather(*(self._fresh(check) for check in checks))

    async def _fresh(self, check: HealthCheck) -> _Result:
        valid_until, known = self._results.get(check.name, (0.0, None))
        if known is not None and time.monotonic() < valid_until:
            return known
        if check.name not in self._running:
            task = self._running[check.name] = asyncio.create_task(self._run(check))
            task.add_done_callback(lambda _: self._running.pop(check.name, None))
        return await asyncio.shield(self._running[check.name])

    async def _run(self, check: HealthCheck) -> _Result:
        started = time.perf_counter()
        healthy = True
        try:
            await self._in_time(check)
        except Exception as error:
            healthy = False
            _log.warning("%s is not healthy: %s", check.name, str(error) or type(error).__name__)
        latency = round((time.perf_counter() - started) * 1000, 2)
        result = _Result(name=check.name, healthy=healthy, critical=check.critical, latency_ms=latency)
        self._results[check.name] = (time.monotonic() + self._fresh_seconds, result)
        return result

    async def _in_time(self, check: HealthCheck) -> None:
        """Run a check, but wait no longer than is promised: one of a service that hangs is slow to end, too.

        Raises:
            TimeoutError: it takes too long, or the last one has not even ended.
        """
        if check.name in self._ending:
            raise TimeoutError
        task = asyncio.ensure_future(check.check())
        try:
            await asyncio.wait({task}, timeout=self._timeout_seconds)
        finally:
            if not task.done():
                task.cancel()
                self._ending[check.name] = task
                task.add_done_callback(partial(self._ended, check.name))
        if check.name in self._ending:
            raise TimeoutError
        task.result()

    def _ended(self, name: str, task: asyncio.Task[object]) -> None:
        del self._ending[name]
        if not task.cancelled():
            task.exception()  # told already; else asyncio would tell that nobody has asked


def _answer(status: int, document: dict[str, Any]) -> Answer:
    headers = {"Retry-After": "1"} if status == 503 else {}
    return Answer(status=status, headers=headers, body=wire.dumps(document), media_type="application/json")
