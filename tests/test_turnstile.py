"""Large bodies take turns: few are inside at a time, tenants by turns, and who waits too long is told so."""

from __future__ import annotations

import asyncio
import json

import pytest

from byodpp import turnstile
from byodpp.exceptions import Unavailable
from byodpp.testing import TestedApplication
from byodpp.turnstile import Turn, Turnstile
from tests.plain_client import PlainClient

LARGE = 9 * 2**20


async def entered(turnstile: Turnstile, *, size: int = LARGE, whose: str = "one") -> asyncio.Task[Turn]:
    """Let somebody come; whether it is in yet is told by the task."""
    task = asyncio.create_task(turnstile.enter(size, whose))
    await asyncio.sleep(0.01)
    return task


async def test_two_bodies_are_inside_and_the_third_waits_for_one_to_leave() -> None:
    gate = Turnstile()
    first, second, third = [await entered(gate) for _ in range(3)]
    assert first.done() and second.done() and not third.done()
    first.result().end()
    first.result().end()  # again: it lets nobody else in
    fourth = await entered(gate)
    assert third.done() and not fourth.done()
    for one in (second, third):
        one.result().end()
    (await fourth).end()
    assert gate.is_empty


async def test_small_ones_go_in_together_and_one_that_is_larger_than_all_room_goes_in_alone() -> None:
    gate = Turnstile()
    small = [await entered(gate, size=300_000) for _ in range(20)]
    assert all(one.done() for one in small)
    huge = await entered(gate, size=100 * 2**20)
    later = await entered(gate, size=300_000)
    assert not huge.done() and not later.done()
    for one in small:
        one.result().end()
    turn = await asyncio.wait_for(huge, 20)
    assert not later.done()
    turn.end()
    (await later).end()
    assert gate.is_empty


async def test_a_tenant_that_sends_many_does_not_keep_another_waiting_behind_all_of_them() -> None:
    gate, order = Turnstile(), list[str]()

    async def body(whose: str) -> None:
        turn = await gate.enter(LARGE, whose)
        order.append(whose)
        await asyncio.sleep(0.001)
        turn.end()

    many = [asyncio.create_task(body("noisy")) for _ in range(10)]
    await asyncio.sleep(0)
    await asyncio.gather(*many, body("quiet"), body("quiet"))
    assert len(order) == 12 and "quiet" in order[:4] and order[:7].count("quiet") == 2


async def test_who_waits_too_long_is_refused_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turnstile, "_PATIENCE_SECONDS", 0.05)
    gate = Turnstile()
    inside = [await gate.enter(LARGE, "one") for _ in range(2)]
    with pytest.raises(Unavailable, match="busy with other large bodies") as refused:
        await gate.enter(LARGE, "one")
    assert refused.value.headers["Retry-After"] == "5"
    for turn in inside:
        turn.end()
    assert gate.is_empty
    (await gate.enter(LARGE, "one")).end()


async def test_more_than_may_wait_is_refused_at_once() -> None:
    gate = Turnstile()
    inside = [await gate.enter(LARGE, "noisy") for _ in range(2)]
    waiting = [await entered(gate, whose="noisy") for _ in range(14)]
    with pytest.raises(Unavailable):
        await gate.enter(LARGE, "noisy")
    # Another tenant has room of its own, and so has what all of them have together.
    others = [await entered(gate, whose=f"quiet {number}") for number in range(14)]
    assert not any(one.done() for one in (*waiting, *others))
    with pytest.raises(Unavailable):
        await gate.enter(LARGE, "one more")
    for task in (*waiting, *others):
        task.cancel()
    await asyncio.gather(*waiting, *others, return_exceptions=True)
    for turn in inside:
        turn.end()
    assert gate.is_empty


async def test_who_gives_up_at_the_moment_of_being_let_in_lets_the_next_one_in() -> None:
    gate = Turnstile()
    inside = [await gate.enter(LARGE, "one") for _ in range(2)]
    gone, next_one = await entered(gate), await entered(gate)
    inside[0].end()  # lets `gone` in, which has not run since
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    turn = await asyncio.wait_for(next_one, 20)
    turn.end()
    inside[1].end()
    assert gate.is_empty


async def test_a_turnstile_that_is_shut_lets_nobody_in_until_it_is_opened() -> None:
    gate = Turnstile()
    gate.shut()
    waiting = await entered(gate, size=300_000)
    assert not waiting.done()
    gate.open()
    (await asyncio.wait_for(waiting, 20)).end()
    assert gate.is_empty


# --- over HTTP --------------------------------------------------------------------------


HALF = 10 * 2**20  # of the room there is
ITEMS = "/api/v1/items"
JSON = {"content-type": "application/json"}


def body(**more: object) -> bytes:
    return json.dumps({"name": "large", "extra": ["x" * 100] * 4_000, **more}).encode()


async def test_a_large_body_waits_and_is_refused_with_503_while_small_ones_are_served(
    shared: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turnstile, "_PATIENCE_SECONDS", 0.1)
    client, token = PlainClient(shared.asgi), shared.token()
    gate = shared.connected.workroom.turnstile
    others = [await gate.enter(HALF, "others") for _ in range(2)]
    refused = await client("POST", ITEMS, token=token, headers=JSON, body=body())
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "unavailable", "5")
    small = await client("POST", ITEMS, token=token, json_body={"name": "small"})
    assert small.status == 201
    assert (await client("POST", ITEMS, headers=JSON, body=body())).status == 401  # strangers do not wait
    monkeypatch.undo()
    waiting = asyncio.create_task(client("POST", ITEMS, token=token, headers=JSON, body=body()))
    await asyncio.sleep(0.03)
    for turn in others:
        turn.end()
    assert (await waiting).status == 201
    assert gate.is_empty


@pytest.mark.parametrize(
    ("method", "target", "content", "status"),
    [
        ("POST", ITEMS, body(), 201),
        ("POST", ITEMS, body(name=""), 422),
        ("POST", ITEMS, body() + b"}", 400),
        ("POST", f"{ITEMS}/batch", body(), 422),
        ("PUT", f"{ITEMS}/999999", body(), 404),
        ("POST", f"{ITEMS}/query", body(), 400),
    ],
)
async def test_a_turn_ends_with_the_answer_whatever_it_is(
    shared: TestedApplication, method: str, target: str, content: bytes, status: int
) -> None:
    reply = await PlainClient(shared.asgi)(method, target, token=shared.token(), headers=JSON, body=content)
    assert reply.status == status
    assert shared.connected.workroom.turnstile.is_empty


async def test_a_turn_ends_with_a_request_that_is_cut_short(shared: TestedApplication) -> None:
    gate = shared.connected.workroom.turnstile
    others = [await gate.enter(HALF, "others") for _ in range(2)]
    request = PlainClient(shared.asgi)("POST", ITEMS, token=shared.token(), headers=JSON, body=body())
    waiting = asyncio.create_task(request)
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    for turn in others:
        turn.end()
    assert gate.is_empty
