"""The end of a real `byodpp serve`: what runs is finished, what was started is stopped, exit code 0."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from byodpp.embedded.process import is_running
from tests.serving import ROOT, Serving, postgres_pid

MANIFEST = {
    "services": [
        {
            "name": "Work",
            "resources": [
                {
                    "name": "Tasks",
                    "fields": {"title": {"type": "string", "required": True}, "done": {"type": "boolean"}},
                    "routes": {
                        "actions": [
                            {"url": "/api/v1/tasks/{id}/finish", "method": "post"},
                            {"url": "/api/v1/tasks/{id}/toil", "method": "post"},
                        ]
                    },
                    "access": {"read": ["Admin"], "write": ["Admin"]},
                }
            ],
        }
    ]
}
#: Holds its transaction open, and needs the database once more after the stop was asked for.
SLOW = """
import asyncio
from pathlib import Path
from byodpp.logics import Logic

BEGUN = Path(__file__).parents[3] / "begun"


class FinishTask(Logic):
    resource, action = "Tasks", "finish:post"

    async def execute(self):
        (BEGUN / str(self.request.params["id"])).touch()
        await asyncio.sleep(0.2)
        changed = await self.repository.patch(self.request.params["id"], {"done": True})
        await asyncio.sleep(1)
        await self.repository.count()
        return changed


class Toil(Logic):
    resource, action = "Tasks", "toil:post"

    async def execute(self):
        changed = await self.repository.patch(self.request.params["id"], {"done": True})
        (BEGUN / str(self.request.params["id"])).touch()
        await asyncio.sleep(60)
        return changed
"""
Serve = Callable[..., Serving]


@pytest.fixture(scope="module")
def app_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stop") / "an app"
    folder.mkdir()
    (folder / "resources.json").write_text(json.dumps(MANIFEST))
    logic = folder / "logics" / "v1" / "tasks" / "finish.py"
    logic.parent.mkdir(parents=True)
    logic.write_text(SLOW)
    (folder / "begun").mkdir()
    return folder


@pytest.fixture
def serve(app_dir: Path) -> Iterator[Serve]:
    started: list[Serving] = []

    def start(*words: str, **options: Any) -> Serving:
        started.append(Serving(app_dir, *words, BYODPP_EMBEDDED_DURABLE="false", **options))
        return started[-1]

    yield start
    for serving in started:
        serving.clear_away()


def client(serving: Serving) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {serving.token}"}
    return httpx2.AsyncClient(base_url=serving.address, headers=headers, timeout=20)


async def begun(app_dir: Path, ids: list[int]) -> None:
    """Wait until the actions on these rows are being done."""
    folder = app_dir / "begun"
    async with asyncio.timeout(20):
        while not all((folder / str(one)).exists() for one in ids):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    for one in ids:
        (folder / str(one)).unlink()


async def tasks(caller: httpx2.AsyncClient, count: int) -> list[int]:
    titles = [{"title": f"task {number}"} for number in range(count)]
    answer = await caller.post("/api/v1/tasks/batch", json=titles)
    assert answer.status_code == 201, answer.text
    return [row["id"] for row in answer.json()["data"]]


@pytest.mark.parametrize("words", [(), ("--workers", "2")], ids=["one process", "two processes"])
async def test_a_stop_lets_requests_finish_and_leaves_nothing_running(
    serve: Serve, app_dir: Path, words: tuple[str, ...]
) -> None:
    serving = serve(*words)
    server = postgres_pid(app_dir)
    assert server is not None
    async with client(serving) as caller:
        ids = await tasks(caller, 6)
        running = [asyncio.create_task(caller.post(f"/api/v1/tasks/{one}/finish")) for one in ids]
        await begun(app_dir, ids)
        end = asyncio.create_task(asyncio.to_thread(serving.end, signal.SIGTERM))
        answers = await asyncio.gather(*running)
    assert [answer.status_code for answer in answers] == [200] * 6, answers[0].text
    assert await end == 0
    assert not is_running(server) and postgres_pid(app_dir) is None
    assert "Traceback" not in serving.output

    again = serve()
    async with client(again) as caller:
        stored = [(await caller.get(f"/api/v1/tasks/{one}")).json()["data"]["done"] for one in ids]
    assert stored == [True] * 6, "what was answered was committed"
    assert again.end() == 0


@pytest.mark.parametrize("signals", [1, 2], ids=["after the grace", "at a second signal"])
async def test_a_request_that_does_not_end_is_cut_and_undone(
    serve: Serve, app_dir: Path, signals: int
) -> None:
    serving = serve(BYODPP_SHUTDOWN_GRACE_SECONDS="3.9")
    server = postgres_pid(app_dir)
    assert server is not None
    async with client(serving) as caller:
        (one,) = await tasks(caller, 1)
        running = asyncio.create_task(caller.post(f"/api/v1/tasks/{one}/toil"))
        await begun(app_dir, [one])
        for _ in range(signals - 1):
            serving.process.send_signal(signal.SIGINT)
            await asyncio.sleep(0.2)
        end = asyncio.create_task(asyncio.to_thread(serving.end, signal.SIGINT))
        answered = (await asyncio.gather(running, return_exceptions=True))[0]
        assert await end == 0
    assert isinstance(answered, httpx2.Response), answered
    assert (answered.status_code, answered.json()["error"]["code"]) == (503, "outcome_unknown")
    assert not is_running(server) and postgres_pid(app_dir) is None

    again = serve()
    async with client(again) as caller:
        assert (await caller.get(f"/api/v1/tasks/{one}")).json()["data"]["done"] is None
    assert again.end() == 0


@pytest.mark.parametrize("before_it_serves", [True, False], ids=["while it starts", "while it serves"])
def test_ctrl_c_in_make_run_leaves_no_postgres(serve: Serve, app_dir: Path, before_it_serves: bool) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    # The environment is this one, and need not be made.
    command = [
        make,
        "-f",
        str(ROOT / "Makefile"),
        "-o",
        "environment",
        "run",
        f"PY={shlex.quote(sys.executable)}",
        "PORT=0",
    ]
    serving = serve(command=command, ready=not before_it_serves)
    if before_it_serves:
        serving.wait_for(lambda: postgres_pid(app_dir) is not None)
    server = postgres_pid(app_dir)
    assert server is not None and is_running(server)
    serving.end(signal.SIGINT, group=True)
    assert not is_running(server) and postgres_pid(app_dir) is None
    assert "Traceback" not in serving.output, serving.output
