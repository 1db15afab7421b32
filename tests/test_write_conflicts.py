"""Writes that meet: deadlocks and serialization failures are tried again, long waits end with an answer."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from byodpp.bootstrap import Blueprint
from byodpp.exceptions import Conflict
from byodpp.service.units import Unit
from byodpp.testing import Bench, TestedApplication
from tests.patience import blocked

ITEMS = "/api/v1/items"


async def two_items(client: Any) -> list[int]:
    made = await client.post(f"{ITEMS}/batch", json=[{"name": "a"}, {"name": "b"}])
    return [row["id"] for row in made.json()["data"]]


def both(keys: list[int]) -> dict[str, Any]:
    return {"operation": "patch", "items": [{"id": key, "total": {"$increment": 1}} for key in keys]}


async def test_requests_that_lock_each_other_out_both_succeed(store: TestedApplication) -> None:
    client = store.client()
    keys = await two_items(client)
    rounds = 6
    for _ in range(rounds):
        answers = await asyncio.gather(
            client.post(f"{ITEMS}/batch", json=both(keys)),
            client.post(f"{ITEMS}/batch", json=both(keys[::-1])),
        )
        assert [one.status_code for one in answers] == [200, 200], [one.text for one in answers]
    rows = (await client.get(ITEMS)).json()["data"]
    assert [row["total"] for row in rows] == [2 * rounds] * 2
    async with store.connected.database.system() as transaction:
        assert (
            await transaction.fetchval("select count(*) from audit_logs where action = 'PATCH'") == 4 * rounds
        )


async def test_a_deadlock_is_tried_again_and_leaves_one_effect(store: TestedApplication) -> None:
    client = store.client()
    first, second = await two_items(client)
    async with store.connected.database.system() as transaction:
        await transaction.execute("select from items where id = $1 for update", second)
        waiting = asyncio.create_task(
            client.post(f"{ITEMS}/batch", json=both([first, second]), headers={"Idempotency-Key": "once"})
        )
        await blocked(transaction)  # it has locked the first, and wants the second
        await transaction.execute("select from items where id = $1 for update", first)
    answer = await waiting
    assert answer.status_code == 200, answer.text
    assert [row["total"] for row in answer.json()["data"]] == [1, 1]
    assert len([event for event in await store.events() if event.name == "items.updated"]) == 2


async def test_a_serialization_failure_is_tried_a_bounded_number_of_times(store: TestedApplication) -> None:
    client = store.client()
    assert (await client.get(ITEMS)).status_code == 200
    service = store.connected.service
    tenant = await store.tenant("acme")
    seen: list[Unit] = []

    def principal() -> Any:
        from byodpp.authentication import Principal

        return Principal(tenant_id=tenant.id, session_tenant_id=tenant.id, anonymous=False)

    from byodpp.calls import Origin

    origin = Origin(request_id="r", correlation_id="c")

    async def failing(unit: Unit) -> int:
        seen.append(unit)
        if len(seen) < 3:
            await unit.transaction.execute(
                "do $$ begin raise exception 'x' using errcode = 'serialization_failure'; end $$"
            )
        return len(seen)

    assert await service.together(principal(), origin, failing) == 3
    assert len({id(unit) for unit in seen}) == 3
    seen.clear()

    async def always(unit: Unit) -> None:
        seen.append(unit)
        await unit.transaction.execute(
            "do $$ begin raise exception 'x' using errcode = 'deadlock_detected'; end $$"
        )

    with pytest.raises(Conflict):
        await service.together(principal(), origin, always)
    assert len(seen) == 4


async def test_a_statement_that_takes_too_long_is_answered_with_503(
    byodpp_bench: Bench, writes: Blueprint
) -> None:
    async with byodpp_bench.application(writes, statement_timeout_seconds=0.5) as store:
        client = store.client()
        made = await client.post(ITEMS, json={"name": "a"})
        url = f"{ITEMS}/{made.json()['data']['id']}"
        async with store.connected.database.system() as transaction:
            await transaction.execute("set local statement_timeout = 0")
            await transaction.execute("select from items for update")
            started = time.monotonic()
            late = await client.patch(url, json={"name": "b"}, headers={"Idempotency-Key": "k"})
            assert (late.status_code, late.json()["error"]["code"]) == (503, "query_timeout")
            assert "retry-after" in late.headers
            assert time.monotonic() - started < 3
        again = await client.patch(url, json={"name": "b"}, headers={"Idempotency-Key": "k"})
        assert (again.status_code, again.json()["data"]["version"]) == (200, 2)
        assert "idempotency-replayed" not in again.headers
