"""The heap: passes of the garbage collector are put off while something large is alive, within bounds."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator

import pytest

from byodpp import heap
from byodpp.aside import WORKROOM, Workroom, aside
from byodpp.heap import Heap
from byodpp.turnstile import Turnstile


@pytest.fixture(autouse=True)
def few_young(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What earlier tests have made is out of the way, and looks are frequent."""
    monkeypatch.setattr(heap, "_LOOK_SECONDS", 0.01)
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    yield
    assert gc.get_threshold() == before


class Passes:
    """Counts the passes of the collector."""

    def __init__(self) -> None:
        self.walked = 0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        self.walked += phase == "start"


@pytest.fixture
def passes() -> Iterator[Passes]:
    counting = Passes()
    gc.callbacks.append(counting)
    yield counting
    gc.callbacks.remove(counting)


def large() -> list[list[int]]:
    return [[] for _ in range(200_000)]


async def until_usual(seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while gc.get_threshold()[0] > 10_000:  # noqa: ASYNC110 - the interpreter tells nobody
            await asyncio.sleep(0.01)


async def test_no_pass_walks_over_what_was_built_aside_until_it_is_gone(passes: Passes) -> None:
    WORKROOM.set(Workroom())
    value = await aside(large)
    for _ in range(5):
        await asyncio.sleep(0.02)
        assert len(large()) == 200_000
    assert passes.walked == 0
    del value
    await until_usual()
    assert large() and passes.walked > 0


async def test_a_value_that_stays_puts_passes_off_for_some_seconds_at_most(
    passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heap, "_PATIENCE_SECONDS", 0.1)
    WORKROOM.set(Workroom())
    kept = [await aside(large) for _ in range(3)]
    await until_usual()
    assert large() and passes.walked > 0 and len(kept) == 3


async def test_a_work_that_does_not_end_puts_passes_off_for_some_seconds_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, ended = Heap(Turnstile()), asyncio.Event()

    async def work() -> None:
        with one.growing():
            await ended.wait()

    working = asyncio.create_task(work())
    await asyncio.sleep(0.02)
    assert gc.get_threshold()[0] > 10_000
    monkeypatch.setattr(heap, "_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(heap, "_LULL_SECONDS", 0.1)
    await until_usual()
    ended.set()
    await working


async def test_so_much_garbage_is_collected_however_large_values_follow_each_other(
    passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heap, "_MOST", 300_000)
    monkeypatch.setattr(heap, "_PATIENCE_SECONDS", 1.0)
    WORKROOM.set(Workroom())
    for _ in range(5):
        await aside(cycles)
    assert 1 <= passes.walked <= 5
    await until_usual()


def cycles(count: int = 100_000) -> None:
    """Leave many arrays behind that hold themselves."""
    for _ in range(count):
        one: list[object] = []
        one.append(one)


@pytest.mark.parametrize("usual", [(700, 10, 10), (50_000, 20, 20)])
async def test_two_applications_in_one_process_leave_the_collector_as_it_was(
    usual: tuple[int, int, int],
) -> None:
    before = gc.get_threshold()
    gc.set_threshold(*usual)
    try:
        for one in (Workroom(), Workroom()):
            WORKROOM.set(one)
            await aside(large)
        async with asyncio.timeout(5):
            while gc.get_threshold()[0] > usual[0]:  # noqa: ASYNC110 - the interpreter tells nobody
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert gc.get_threshold() == usual
    finally:
        gc.set_threshold(*before)


def test_a_loop_that_ends_amid_it_does_not_put_passes_off_for_good() -> None:
    one, left = Workroom(), list[object]()

    async def build(until: bool) -> None:
        WORKROOM.set(one)
        kept = await aside(large)
        if until:
            del kept
            await until_usual()
        else:
            await asyncio.sleep(0.02)
            left.append(kept)

    asyncio.run(build(until=False))
    assert gc.get_threshold()[0] > 10_000
    left.clear()
    asyncio.run(build(until=True))


def test_an_application_that_ends_gives_the_collector_back() -> None:
    before, one = gc.get_threshold(), Workroom()

    async def build() -> object:
        WORKROOM.set(one)
        return await aside(large)

    kept = asyncio.run(build())
    assert kept is not None
    assert gc.get_threshold() != before
    one.close()
    assert gc.get_threshold() == before


async def test_what_is_large_is_worked_on_by_two_threads_that_end_with_the_application() -> None:
    room = Workroom()
    WORKROOM.set(room)
    seen: set[str] = set()

    def work() -> None:
        seen.add(threading.current_thread().name)
        time.sleep(0.01)

    await asyncio.gather(*(aside(work) for _ in range(20)))
    assert seen == {"aside_0", "aside_1"}
    room.close()
    async with asyncio.timeout(5):
        while any(one.name.startswith("aside_") for one in threading.enumerate()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await aside(work)  # what comes late is done nevertheless
    room.close()


async def test_large_bodies_without_a_pause_are_kept_waiting_for_a_moment_in_which_a_pass_finds_none(
    passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heap, "_PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(heap, "_LULL_SECONDS", 5.0)
    room = Workroom()
    WORKROOM.set(room)
    alive: list[int] = []  # bodies at the moment of each pass
    holding = 0

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            alive.append(holding)

    async def client(times: int) -> None:
        nonlocal holding
        for _ in range(times):
            turn = await room.turnstile.enter(9_000_000, "one")
            holding += 1
            value = await aside(large)
            cycles(1_000)
            await asyncio.sleep(0.05)
            del value
            holding -= 1
            turn.end()

    gc.callbacks.append(note)
    try:
        await asyncio.gather(client(15), client(15), client(15))
    finally:
        gc.callbacks.remove(note)
    assert alive and set(alive) == {0}
    room.close()
