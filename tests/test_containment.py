"""Whatever an application's code raises, one request fails, and the process lives."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from byodpp.containment import contained
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

LOGIC = """
    import asyncio
    from byodpp.events import EventHandler
    from byodpp.logics import Logic, Reply

    class Odd(BaseException):
        pass

    ODD = {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "odd": Odd()}
    ODD["cancel"] = asyncio.CancelledError()

    class Raise(Logic):
        resource, action = "Things", "raise"

        async def execute(self):
            await self.repository.create({"a": "left behind"})
            raise ODD[self.request.params["what"]]

    class After(Logic):
        resource, action = "Things", "after"

        async def execute(self):
            what = self.request.params["what"]

            async def later():
                raise ODD[what]

            self.after_commit(later)
            return await self.repository.create({"a": "after"})

    class Stream(Logic):
        resource, action = "Things", "stream"

        async def execute(self):
            what = self.request.params["what"]

            async def parts():
                yield b"begin"
                raise ODD[what]

            return Reply.file(parts(), name="x", media_type="text/plain")

    class Hear(EventHandler):
        events = ("things.created",)

        async def handle(self, event):
            if event.data["a"] in ODD:
                raise ODD[event.data["a"]]
"""
ACTIONS = [
    {"url": f"/api/v1/things/{name}/{{what}}", "method": "post", "name": name}
    for name in ("raise", "after", "stream")
]
MANIFEST = {
    "resources": [
        {
            "name": "Things",
            "fields": {"a": {"type": "string"}},
            "events": ["create"],
            "routes": {"actions": ACTIONS},
        }
    ]
}
ODD = ["exit", "interrupt", "cancel", "odd"]


@pytest.fixture
async def served(tmp_path: Path, byodpp_bench: Bench) -> AsyncIterator[TestedApplication]:
    files = {"logics/v1/things/all.py": textwrap.dedent(LOGIC)}
    async with byodpp_bench.application(build(tmp_path / "app", MANIFEST, files)) as application:
        yield application


@pytest.mark.parametrize("what", ODD)
async def test_a_class_that_would_end_the_process_fails_its_own_request(
    served: TestedApplication, what: str
) -> None:
    client = served.client()
    failed = await client.post(f"/api/v1/things/raise/{what}")
    assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal_error")
    assert (await client.get("/api/v1/things")).json()["data"] == [], "nothing is left behind"
    assert (await client.post(f"/api/v1/things/after/{what}")).status_code == 200
    assert (await client.get("/api/v1/things")).json()["count"] == 1


@pytest.mark.parametrize("what", ODD)
async def test_a_handler_that_would_end_the_process_is_logged(
    served: TestedApplication, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await served.client().post("/api/v1/things", json={"a": what})).status_code == 201
    assert [event.name for event in await served.events()] == ["things.created"]
    assert "event handler failed" in caplog.text


@pytest.mark.parametrize("what", ODD)
async def test_a_stream_that_would_end_the_process_breaks_off(served: TestedApplication, what: str) -> None:
    client = served.client()
    answer = await client.post(f"/api/v1/things/stream/{what}")
    assert answer.content == b"begin"
    assert (await client.get("/api/v1/things")).status_code == 200


async def test_a_cancellation_that_was_asked_for_goes_through() -> None:
    async def wait() -> None:
        with contained():
            await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
