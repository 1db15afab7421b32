"""Work beside the requests goes on after whatever goes wrong in a round, and nothing of it is silent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from byodpp.exceptions import Unavailable
from byodpp.recurring import Recurring, require_well

LOG = logging.getLogger("tests.recurring")
SOON = 0.01


class Work:
    """Fails as it is told, and counts its rounds."""

    def __init__(self) -> None:
        self.rounds = 0
        self.failure: BaseException | None = None
        self._next = asyncio.Event()

    async def __call__(self) -> None:
        self.rounds += 1
        self._next.set()
        if self.failure is not None:
            raise self.failure

    async def another(self, rounds: int = 2) -> None:
        wanted = self.rounds + rounds
        async with asyncio.timeout(30):
            while self.rounds < wanted:
                self._next.clear()
                await self._next.wait()


def recurring(work: Callable[[], object], **options: object) -> Recurring:
    return Recurring(work, **{"seconds": SOON, "log": LOG, "trouble": "it is not done"} | options)  # type: ignore[arg-type]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOG.name]


@pytest.mark.parametrize(
    "failure",
    [Unavailable("gone"), ValueError("a defect"), asyncio.CancelledError("from inside"), TimeoutError()],
    ids=lambda failure: type(failure).__name__,
)
async def test_a_failed_round_is_told_once_and_the_next_one_tries_again(
    failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work()
    rounds = recurring(work)
    rounds.start()
    await work.another()
    assert told(caplog) == [] and rounds.failing_seconds == 0

    work.failure = failure
    await work.another(5)
    assert len(told(caplog)) == 1 and told(caplog)[0].startswith("it is not done")
    assert rounds.failing_seconds > 0

    work.failure = None
    await work.another()
    assert rounds.failing_seconds == 0

    work.failure = failure
    await work.another(5)
    assert len(told(caplog)) == 2, "the next outage is told again"
    assert await rounds.stop()


async def test_another_reason_is_told_though_the_outage_lasts(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    rounds = recurring(work)
    for failure in (Unavailable("gone"), Unavailable("gone"), ValueError("broken"), ValueError("broken")):
        work.failure = failure
        assert not await rounds.once()
    assert told(caplog) == ["it is not done: gone", "it is not done"]
    assert caplog.records[-1].exc_info is not None, "a defect is told with its place"


async def test_what_is_stopped_works_no_more() -> None:
    work = Work()
    rounds = recurring(work)
    assert not await rounds.stop(), "it was not started"
    rounds.start()
    await work.another()
    assert await rounds.stop()
    done = work.rounds
    await asyncio.sleep(5 * SOON)
    assert work.rounds == done and not await rounds.stop()


async def test_a_round_that_hangs_is_cut_off_by_stop() -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.sleep(60)

    rounds = recurring(hang, at_once=True)
    rounds.start()
    async with asyncio.timeout(5):
        await begun.wait()
        assert await rounds.stop()


class Doom(BaseException):
    """Nothing catches it."""


async def test_a_task_that_has_died_is_told_when_it_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    work.failure = Doom("all is lost")
    rounds = recurring(work)
    rounds.start()
    await work.another(1)
    assert await rounds.stop()
    assert told(caplog) == ["it is not done: the task had ended"]


async def test_a_wake_up_shortens_the_pause_but_not_after_a_failure() -> None:
    work, woken = Work(), asyncio.Event()
    rounds = recurring(work, seconds=60, woken=woken)
    rounds.start()
    for number in (1, 2):
        woken.set()
        await work.another(1)
        assert work.rounds == number
    work.failure = Unavailable("gone")
    woken.set()
    await work.another(1)
    assert work.rounds == 3
    woken.set()
    await asyncio.sleep(0.05)
    assert work.rounds == 3, "what has failed is not tried again at once"
    await rounds.stop()


async def test_what_goes_on_failing_is_reported_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    well, ill = recurring(Work()), recurring(Work(), trouble="tea is not made")
    await require_well([well, ill])
    ill._work = lambda: asyncio.sleep(0, 1 / 0)
    assert not await ill.once()
    await require_well([well, ill])  # not yet for long
    monkeypatch.setattr("byodpp.recurring._PATIENCE_SECONDS", 0.0)
    with pytest.raises(Unavailable, match="tea is not made"):
        await require_well([well, ill])
