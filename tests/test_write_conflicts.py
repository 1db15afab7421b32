"""Writes that meet: deadlocks and serialization failures are tried again, long waits end with an answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import pytest

from byodpp.authentication import Principal
from byodpp.bootstrap import Blueprint
from byodpp.calls import Origin
from byodpp.embedded import SUPERUSER
from byodpp.exceptions import ApiError, Conflict, QueryTimeout
from byodpp.service.units import Unit
from byodpp.testing import Bench, TestedApplication
from tests.patience import blocked, in_turns, waits

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


async def test_a_deadlock_is_tried_again_and_leaves_one_effect(
    store: TestedApplication, byodpp_bench: Bench
) -> None:
    client = store.client()
    made = await client.post(f"{ITEMS}/batch", json=[{"name": name} for name in "abc"])
    first, gate, last = [row["id"] for row in made.json()["data"]]
    lock = "select from items where id = $1 for update"
    async with patient(store, byodpp_bench) as other:
        await other.execute(lock, last)
        async with store.connected.database.system() as transaction:
            await transaction.execute(lock, gate)
            waiting = asyncio.create_task(
                client.post(
                    f"{ITEMS}/batch", json=both([first, gate, last]), headers={"Idempotency-Key": "once"}
                )
            )
            await blocked(transaction)  # it has locked the first
            crossing = asyncio.create_task(other.execute(lock, first))
            await waits(transaction, other.get_server_pid())
        await crossing  # the request has come to the last meanwhile, and was given up there
    answer = await waiting
    assert answer.status_code == 200, answer.text
    assert [row["total"] for row in answer.json()["data"]] == [1, 1, 1]
    assert len([event for event in await store.events() if event.name == "items.updated"]) == 3


@contextlib.asynccontextmanager
async def patient(store: TestedApplication, bench: Bench) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A transaction that never looks for deadlocks, so that it is always the other one who is given up."""
    async with store.connected.database.system() as transaction:
        name = await transaction.fetchval("select current_database()")
    connection = await asyncpg.connect(bench.server.uri(SUPERUSER, name), command_timeout=60)
    try:
        async with connection.transaction():
            await connection.execute("set local deadlock_timeout = '10min'")
            yield connection
    finally:
        await connection.close()


async def test_rows_come_to_refer_to_one_that_is_being_changed(store: TestedApplication) -> None:
    client = store.client()
    shelf = (await client.post("/api/v1/shelves", json={"name": "s"})).json()["data"]["id"]
    item = (await client.post(ITEMS, json={"name": "a", "shelfId": shelf, "sku": "1"})).json()["data"]["id"]
    part = {"name": "p", "itemId": item}
    assert (await client.post("/api/v1/parts", json=part)).status_code == 201
    async with store.connected.database.system() as transaction:
        # As a request that has created a part of the item and is not yet committed.
        await transaction.execute("select from items where id = $1 for key share", item)
        for body in ({"price": 5}, {"stock": {"$increment": 1}}, {"tags": {"$append": ["x"]}}):
            async with asyncio.timeout(20):
                changed = await client.patch(f"{ITEMS}/{item}", json=body)
            assert changed.status_code == 200, changed.text
        published = await asyncio.wait_for(client.post(f"{ITEMS}/{item}/publish"), 20)
        assert published.status_code == 200, published.text
        waiting = [
            asyncio.create_task(client.patch(f"{ITEMS}/{item}", json={"sku": "2"})),
            asyncio.create_task(client.delete(f"{ITEMS}/{item}")),
        ]
        await blocked(transaction)
        assert not any(one.done() for one in waiting)
    for one in waiting:
        assert (await asyncio.wait_for(one, 30)).status_code in (200, 204, 404)


async def test_rows_come_to_refer_to_those_that_a_batch_is_changing(store: TestedApplication) -> None:
    client = store.client()
    made = await client.post(f"{ITEMS}/batch", json=[{"name": name, "sku": name} for name in "abc"])
    a, b, c = (row["id"] for row in made.json()["data"])

    def patch(*bodies: Any, **more: Any) -> dict[str, Any]:
        items = [{"id": id, **body} for id, body in zip((a, b), bodies, strict=True)]
        return {"operation": "patch", "items": items, **more}

    price, named = {"price": 5}, {"name": {"eq": "a"}}
    by_filter = {"operation": "patch", "filter": named, "data": price, "max": 5}
    steps = [{"operation": "patch", "resource": "Items", "id": a, "data": price}]
    async with store.connected.database.system() as transaction:
        # As a request that has created a part of each and is not yet committed.
        await transaction.execute("select from items where id in ($1, $2) for key share", a, b)
        for body in (
            patch(price, {"stock": {"$increment": 1}}),
            patch(price, {"tags": {"$append": ["x"]}}, atomic=False),
            by_filter,
        ):
            changed = await asyncio.wait_for(client.post(f"{ITEMS}/batch", json=body), 20)
            assert changed.status_code == 200, changed.text
        # What may end one of the rows, or its unique key, waits with all that it does.
        waiting = [
            asyncio.create_task(client.post(f"{ITEMS}/batch", json=body))
            for body in (
                patch(price, {"sku": "z"}),
                patch({"sku": "y"}, price, atomic=False),
                {**by_filter, "data": {"sku": "x"}},
                {"operation": "delete", "filter": {"name": {"eq": "b"}}, "max": 5},
            )
        ]
        more = [*steps, {"operation": "delete", "resource": "Items", "id": c}]
        waiting.append(asyncio.create_task(client.post("/api/v1/batch", json=more)))
        await blocked(transaction)
        assert not any(one.done() for one in waiting)
    for one in waiting:
        assert (await asyncio.wait_for(one, 30)).status_code in (200, 404)


async def test_an_action_of_a_class_depends_on_the_version_that_is_named(store: TestedApplication) -> None:
    client = store.client()
    item = (await client.post(ITEMS, json={"name": "a"})).json()["data"]["id"]
    url, lone = f"{ITEMS}/{item}/count", "/api/v1/public-count"
    step = {"operation": "count:post", "resource": "Items", "id": item}
    for tag, status, code in (
        ('"2"', 412, "precondition_failed"),
        ('"2", "3"', 412, "precondition_failed"),
        ('W/"1"', 412, "precondition_failed"),
        ("1", 400, "invalid_header"),
    ):
        for address in (url, f"{ITEMS}/{item}/stream"):
            refused = await client.post(address, headers={"If-Match": tag})
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, code), refused.text
    refused = await client.post("/api/v1/batch", json=[{**step, "version": 2}])
    assert (refused.status_code, refused.json()["error"]["code"]) == (412, "precondition_failed")
    assert (await client.get(f"{ITEMS}/{item}")).json()["data"]["seen"] == 0
    assert (await client.post(f"{ITEMS}/999/count", headers={"If-Match": '"1"'})).status_code == 404
    for version, tag in ((1, '"1"'), (2, '"7", "2"'), (3, "*")):
        done = await client.post(url, headers={"If-Match": tag})
        assert (done.status_code, done.json()["data"]) == (200, {"seen": version}), done.text
    done = await client.post("/api/v1/batch", json=[{**step, "version": 4}])
    assert (done.status_code, done.json()["data"]) == (200, [{"seen": 4}]), done.text
    assert (await client.post(lone, headers={"If-Match": '"2"'})).status_code == 200  # names no row
    # Of two that have read the same version, one is told that it was not the last one.
    both = await asyncio.gather(*(client.post(url, headers={"If-Match": '"5"'}) for _ in range(2)))
    assert sorted(one.status_code for one in both) == [200, 412]


async def test_a_serialization_failure_is_tried_a_bounded_number_of_times(store: TestedApplication) -> None:
    client = store.client()
    assert (await client.get(ITEMS)).status_code == 200
    service = store.connected.service
    tenant = await store.tenant("acme")
    seen: list[Unit] = []

    def principal() -> Any:
        return Principal(tenant_id=tenant.id, session_tenant_id=tenant.id, anonymous=False)

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
            late, seconds = await in_turns(
                client.patch(url, json={"name": "b"}, headers={"Idempotency-Key": "k"})
            )
            assert (late.status_code, late.json()["error"]["code"]) == (503, "query_timeout")
            assert "retry-after" in late.headers
            assert seconds < 3
        again = await client.patch(url, json={"name": "b"}, headers={"Idempotency-Key": "k"})
        assert (again.status_code, again.json()["data"]["version"]) == (200, 2)
        assert "idempotency-replayed" not in again.headers


_SLOW: Final = """
create function public.slow() returns trigger language plpgsql as
    $$ begin perform pg_sleep(0.15); return new; end $$;
create trigger zz_slow before update on public.items for each row execute function public.slow()
"""


async def test_a_transaction_of_many_short_statements_has_a_bound_too(
    byodpp_bench: Bench, writes: Blueprint
) -> None:
    async with byodpp_bench.application(writes, transaction_timeout_seconds=1.0) as store:
        client = store.client()
        made = await client.post(f"{ITEMS}/batch", json=[{"name": f"n{number}"} for number in range(40)])
        keys = [row["id"] for row in made.json()["data"]]
        owner = await asyncpg.connect(str(store.settings.postgres_admin_uri), timeout=30)
        await owner.execute(_SLOW)
        await owner.close()
        few = await client.post(f"{ITEMS}/batch", json=both(keys[:2]))
        assert few.status_code == 200, few.text
        steps = [
            {"operation": "patch", "resource": "Items", "id": key, "data": {"total": {"$increment": 1}}}
            for key in keys
        ]
        for url, body in (
            (f"{ITEMS}/batch", both(keys)),
            (f"{ITEMS}/batch", {**both(keys), "atomic": False}),
            ("/api/v1/batch", steps),
        ):
            late, seconds = await in_turns(client.post(url, json=body))
            assert (late.status_code, late.json()["error"]["code"]) == (503, "query_timeout")
            assert "retry-after" in late.headers
            assert seconds < 4  # all of them would take six
        rows = (await client.get(f"{ITEMS}?sort=id&limit=100&fields=total")).json()["data"]
        assert [row["total"] for row in rows] == [1, 1, *[0] * 38]


async def test_all_tries_of_a_transaction_have_one_bound(byodpp_bench: Bench, writes: Blueprint) -> None:
    async with byodpp_bench.application(writes, transaction_timeout_seconds=1.0) as store:
        client = store.client()
        await two_items(client)
        tenant, tries = await store.tenant("acme"), 0
        principal = Principal(tenant_id=tenant.id, session_tenant_id=tenant.id, anonymous=False)

        async def again(unit: Unit) -> None:
            nonlocal tries
            tries += 1  # each of the two has time enough, but not both
            await unit.transaction.execute(f"select pg_sleep({0.2 if tries == 1 else 0.9})")
            await unit.transaction.execute(
                "do $$ begin raise exception 'x' using errcode = 'deadlock_detected'; end $$"
            )

        service, origin = store.connected.service, Origin(request_id="r", correlation_id="c")
        with pytest.raises(QueryTimeout):
            await service.together(principal, origin, again)
        assert tries == 2

        async def swallowing(unit: Unit) -> None:
            for _ in range(4):
                with contextlib.suppress(ApiError):
                    await unit.transaction.execute("select pg_sleep(0.4)")

        with pytest.raises(QueryTimeout):
            await service.together(principal, origin, swallowing)
        assert await service.together(principal, origin, _patient, bounded=False) == 1.2


_NEVER: Final = """
create sequence public.tries;
grant usage on sequence public.tries to public;
create function public.never() returns trigger language plpgsql as $$ begin
    perform nextval('public.tries');
    perform pg_sleep(0.3);
    raise exception 'x' using errcode = 'deadlock_detected';
end $$;
create trigger zz_never before insert or update on public.items
    for each row execute function public.never()
"""


async def test_all_tries_of_a_lone_statement_have_one_bound(byodpp_bench: Bench, writes: Blueprint) -> None:
    async with byodpp_bench.application(writes, transaction_timeout_seconds=0.5) as store:
        client = store.client()
        first, _ = await two_items(client)
        owner = await asyncpg.connect(str(store.settings.postgres_admin_uri), timeout=30)
        try:
            await owner.execute(_NEVER)
            for method, url, body in (
                ("POST", ITEMS, {"name": "c"}),
                ("POST", f"{ITEMS}/batch", [{"name": "c"}]),
                ("PATCH", f"{ITEMS}/{first}", {"price": 1}),
            ):
                await owner.execute("alter sequence public.tries restart")
                async with asyncio.timeout(20):
                    late = await client.request(method, url, json=body)
                assert (late.status_code, late.json()["error"]["code"]) == (503, "query_timeout"), late.text
                assert (
                    await owner.fetchval("select nextval('public.tries')") <= 3
                )  # after two tries; four are 5
        finally:
            await owner.close(timeout=5)


async def _patient(unit: Unit) -> float:
    for _ in range(3):
        await unit.transaction.execute("select pg_sleep(0.4)")
    return 1.2


SHELVES: Final = "/api/v1/shelves"
STEPS: Final = "application/json-patch+json"


async def a_shelf(client: Any, name: str) -> dict[str, Any]:
    body = {"name": name, "items": [{"name": one, "parts": [{"name": "p"}]} for one in "abc"]}
    made: dict[str, Any] = (await client.post(SHELVES, json=body)).json()["data"]
    return made


def inside(shelf: dict[str, Any], keys: list[int]) -> dict[str, Any]:
    return {"place": "x", "items": [{"id": key, "total": {"$increment": 1}} for key in keys]}


def apart(shelf: dict[str, Any], keys: list[int]) -> list[dict[str, Any]]:
    step = {"operation": "patch", "resource": "Items", "data": {"total": {"$increment": 1}}}
    last = {"operation": "patch", "resource": "Shelves", "id": shelf["id"], "data": {"place": "y"}}
    return [*({**step, "id": key} for key in keys), last]


async def test_rows_inside_a_row_are_locked_in_the_order_of_all_requests(store: TestedApplication) -> None:
    client = store.client()
    shelf = await a_shelf(client, "s")
    item = shelf["items"][0]
    part = item["parts"][0]["id"]
    deep = {"items": [{"id": item["id"], "parts": [{"id": part, "name": "q"}]}]}
    step = {"operation": "patch", "resource": "Shelves", "id": shelf["id"], "data": deep}
    other = {"operation": "patch", "resource": "Parts", "id": part, "data": {"name": "r"}}
    url = f"{SHELVES}/{shelf['id']}"
    requests = [
        ("PATCH", url, deep, "items"),  # before shelves
        ("PUT", url, {"name": "s", "items": [{"id": item["id"], "name": "a"}]}, "items"),
        ("POST", f"{SHELVES}/batch", {"operation": "patch", "items": [{"id": shelf["id"], **deep}]}, "items"),
        ("POST", "/api/v1/batch", [step], "items"),
        ("POST", "/api/v1/batch", [step, other], "parts"),
        ("PATCH", url, [{"op": "add", "path": "/items", "value": deep["items"]}], "items"),
        (
            "PATCH",
            url,
            [
                {"op": "add", "path": "/place", "value": "z"},
                {"op": "add", "path": "/items", "value": [{"id": item["id"]}]},
                {"op": "add", "path": "/items/0/parts", "value": []},
                {"op": "add", "path": "/items/0/parts/-", "value": {"id": part, "name": "t"}},
            ],
            "items",
        ),
    ]
    database = store.connected.database
    for method, where, body, table in requests:
        steps = {"content-type": STEPS} if method == "PATCH" and isinstance(body, list) else None
        async with database.system() as transaction:
            await transaction.execute(f"select from {table} for update")
            waiting = asyncio.create_task(client.request(method, where, json=body, headers=steps))
            await blocked(transaction)
            later = {"items": ("parts", "shelves"), "parts": ("shelves",)}[table]
            async with database.system() as free:  # nothing that comes later is locked by now
                for name in later:
                    await free.execute(f"select from {name} for update nowait")
        async with asyncio.timeout(60):
            done = await waiting
        assert done.status_code == 200, (method, where, done.text)


async def test_sixteen_clients_that_write_the_same_rows_in_other_ways_are_all_answered(
    store: TestedApplication,
) -> None:
    client = store.client()
    shelves = [await a_shelf(client, name) for name in ("s", "t")]
    done = 0

    async def write(number: int) -> None:
        nonlocal done
        for turn in range(3):
            shelf = shelves[(number + turn) % 2]
            keys = [one["id"] for one in shelf["items"]][:: 1 if number % 3 else -1]
            if number % 2:
                answer = await client.patch(f"{SHELVES}/{shelf['id']}", json=inside(shelf, keys))
            else:
                answer = await client.post("/api/v1/batch", json=apart(shelf, keys))
            assert answer.status_code in (200, 409, 503), answer.text
            done += answer.status_code == 200

    async with asyncio.timeout(240):
        await asyncio.gather(*(write(number) for number in range(16)))
    rows = (await client.get(f"{ITEMS}?fields=total")).json()["data"]
    assert sum(row["total"] for row in rows) == 3 * done
    assert done


async def test_a_row_that_leaves_while_all_others_are_replaced_stays_where_it_went(
    store: TestedApplication,
) -> None:
    client = store.client()
    shelf, other = await a_shelf(client, "s"), await a_shelf(client, "o")
    keep, moved, gone = [one["id"] for one in shelf["items"]]
    async with store.connected.database.system() as transaction:
        await transaction.execute("delete from parts")
        await transaction.execute(
            "update items set shelf_id = $1, name = 'm' where id = $2", other["id"], moved
        )
        await transaction.execute("delete from items where id = $1", gone)
        body = {"items": {"$replace": [{"id": keep, "stock": 1}]}}
        waiting = asyncio.create_task(client.patch(f"{SHELVES}/{shelf['id']}", json=body))
        await blocked(transaction)
    async with asyncio.timeout(60):
        done = await waiting
    assert done.status_code == 200, done.text
    rows = (await client.get(f"{ITEMS}?fields=id,shelfId&sort=id")).json()["data"]
    assert {"id": moved, "shelfId": other["id"]} in rows
    assert [row["id"] for row in rows if row["shelfId"] == shelf["id"]] == [keep]
