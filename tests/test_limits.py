"""How much a tenant, a user of a route, and several processes together may ask for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from byodpp.authentication import turns, users
from byodpp.bootstrap import Application, Blueprint
from byodpp.exceptions import ManifestError
from byodpp.limits import Budget, ClassDirectory, SlidingWindows
from byodpp.limits.classes import TenantLimits
from byodpp.limits.shared import SharedWindows
from byodpp.testing import Bench, TestedApplication
from tests.patience import blocked, in_turns
from tests.redis_server import RedisServer
from tests.worlds import build

THINGS = "/api/v1/things"
CLASSES = "/api/v1/tenant-classes"
USERS = "/api/v1/users"
MANIFEST: dict[str, Any] = {
    "resources": [
        {
            "name": "Things",
            "fields": {"name": {"type": "string"}},
            "rateLimits": {"create": {"requests": 2, "seconds": 60}},
            "access": {"read": ["*"], "write": ["Admin", "Manager"]},
        }
    ],
    "include": ["byodpp:tenancy", "byodpp:access"],
}
#: An answer of Redis that is waited for longer is slow, where the bound is twice that.
SLOW_SECONDS = 2.0
BUDGET = Budget(name="trial", limit=100, window_seconds=60)


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("limited"), MANIFEST)


@pytest_asyncio.fixture(loop_scope="session")
async def limited(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint, max_concurrent_requests_per_tenant=10_000) as tested:
        yield tested


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


async def put_into_class(tested: TestedApplication, slug: str, **limits: Any) -> str:
    """Make a class, put a tenant into it, and return the address of the class."""
    operator = tested.client(tenant="platform")
    made = await operator.post(CLASSES, json={"name": f"class of {slug}", **limits})
    assert made.status_code == 201, made.text
    tenant = await tested.tenant(slug)
    changed = await operator.patch(
        f"/api/v1/tenants/{tenant.id}", json={"tenantClassId": made.json()["data"]["id"]}
    )
    assert changed.status_code == 200, changed.text
    return f"{CLASSES}/{made.json()['data']['id']}"


async def statuses(client: Any, url: str, count: int) -> list[int]:
    return [(await client.get(url)).status_code for _ in range(count)]


# --- tenants ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "number"),
    [
        ("requests_per_minute", 0),
        ("requests_per_hour", 0),
        ("max_requests_per_day", -5),
        ("max_connections", 0),
    ],
)
async def test_a_limit_that_was_stored_past_the_api_and_is_none_counts_as_the_least_and_is_logged(
    limited: TestedApplication, column: str, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    await put_into_class(limited, "acme", requestsPerMinute=1_000)
    async with limited.connected.database.system() as transaction:
        await transaction.execute(f"update tenant_classes set {column} = {number}")
    limited.connected.classes.forget()
    refused = [200] * 3 if column == "max_connections" else [200, 429, 429]
    assert await statuses(limited.client(), THINGS, 3) == refused
    assert await statuses(limited.client(tenant="beta"), THINGS, 3) == [200] * 3
    assert f"counts as if {column} were 1: it is {number}" in caplog.text


async def test_the_users_of_a_tenant_spend_its_budget_together(limited: TestedApplication) -> None:
    await put_into_class(limited, "acme", requestsPerMinute=5)
    ada, bob, beta = limited.client(user="ada"), limited.client(user="bob"), limited.client(tenant="beta")
    assert await statuses(ada, THINGS, 3) == [200] * 3
    assert await statuses(bob, THINGS, 3) == [200, 200, 429]
    refused = await ada.get(THINGS)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limited"
    assert int(refused.headers["retry-after"]) >= 1
    assert '"tenant";q=5;w=60' in refused.headers["ratelimit-policy"]
    assert await statuses(beta, THINGS, 6) == [200] * 6


async def test_another_class_counts_at_once(limited: TestedApplication) -> None:
    address = await put_into_class(limited, "acme", requestsPerMinute=1)
    client, operator = limited.client(), limited.client(tenant="platform")
    assert await statuses(client, THINGS, 2) == [200, 429]
    assert (await operator.patch(address, json={"requestsPerMinute": 1000})).status_code == 200
    assert await statuses(client, THINGS, 2) == [200, 200]


async def test_an_hour_and_a_day_are_budgets_of_their_own(limited: TestedApplication) -> None:
    await put_into_class(limited, "acme", requestsPerMinute=100, requestsPerHour=3, maxRequestsPerDay=2)
    client = limited.client()
    assert await statuses(client, THINGS, 2) == [200, 200]
    refused = await client.get(THINGS)
    assert refused.status_code == 429 and '"tenant-day";r=0' in refused.headers["ratelimit"]
    told = refused.json()["error"]["message"]
    assert told.startswith("The budget 'tenant-day' of ") and refused.headers["retry-after"] in told


async def test_an_operator_who_acts_for_a_tenant_does_not_spend_its_budget(
    limited: TestedApplication,
) -> None:
    await put_into_class(limited, "acme", requestsPerMinute=1)
    operator = limited.client(tenant="platform")
    acted = [(await operator.get(THINGS, headers={"X-Tenant": "acme"})).status_code for _ in range(3)]
    assert acted == [200] * 3
    assert await statuses(limited.client(), THINGS, 1) == [200]


async def test_too_many_requests_at_a_time_are_refused_and_leave_no_trace(
    limited: TestedApplication,
) -> None:
    await put_into_class(limited, "acme", maxConcurrentRequests=2)
    client, beta = limited.client(), limited.client(tenant="beta")
    await statuses(client, THINGS, 1)
    async with limited.connected.database.system() as transaction:
        await transaction.execute("lock table things in access exclusive mode")  # whoever reads has to wait
        waiting = [asyncio.create_task(client.get(THINGS)) for _ in range(2)]
        await blocked(transaction, 2)
        refused = await client.get(THINGS)
        other = asyncio.create_task(beta.get(THINGS))
        await blocked(transaction, 3)
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert not other.done()
    assert [one.status_code for one in await asyncio.gather(*waiting, other)] == [200] * 3
    assert await statuses(client, THINGS, 4) == [200] * 4


# --- users --------------------------------------------------------------------------------------


async def test_nobody_new_signs_in_beyond_the_quota_of_users(limited: TestedApplication) -> None:
    await put_into_class(limited, "acme", maxUsers=2)
    assert await statuses(limited.client(user="ada"), THINGS, 1) == [200]
    answers = await asyncio.gather(*(limited.client(user=f"new {n}").get(THINGS) for n in range(8)))
    assert sorted(one.status_code for one in answers) == [200] + [403] * 7
    refused = next(one for one in answers if one.status_code == 403)
    assert refused.json()["error"]["code"] == "quota_exceeded"
    assert await statuses(limited.client(user="ada"), THINGS, 1) == [200]
    assert await statuses(limited.client(tenant="beta", user="new 1"), THINGS, 1) == [200]


async def test_the_last_user_of_a_quota_may_begin_with_several_requests(limited: TestedApplication) -> None:
    await put_into_class(limited, "acme", maxUsers=2)
    assert await statuses(limited.client(user="ada"), THINGS, 1) == [200]
    last = limited.client(user="bob")
    answers = await asyncio.gather(*(last.get(THINGS) for _ in range(8)))
    assert [one.status_code for one in answers] == [200] * 8


async def test_the_first_callers_of_all_do_not_wait_for_connections_of_each_other(
    limited: TestedApplication,
) -> None:
    """More of them than connections: who holds one while the classes are read leaves none to read with."""
    await put_into_class(limited, "acme", maxUsers=20)
    answers = await asyncio.gather(*(limited.client(user=f"new {n}").get(THINGS) for n in range(8)))
    assert [one.status_code for one in answers] == [200] * 8


async def test_new_users_who_wait_for_others_of_their_tenant_keep_no_other_tenant_waiting(
    limited: TestedApplication,
) -> None:
    await put_into_class(limited, "acme", maxUsers=20)
    admin, quiet = limited.client(), limited.client(tenant="beta", user="quiet")
    await statuses(admin, THINGS, 1)
    made = [
        {"resource": "Users", "operation": "create", "data": {"name": "Ada"}},
        {"resource": "Things", "operation": "create", "data": {"name": "x"}},
    ]
    async with limited.connected.database.system() as transaction:
        await transaction.execute("lock table things in share mode")  # the second operation has to wait
        slow = asyncio.create_task(admin.post("/api/v1/batch", json=made))
        await blocked(transaction, 1)
        waiting = [asyncio.create_task(limited.client(user=f"new {n}").get(THINGS)) for n in range(6)]
        answer, seconds = await in_turns(quiet.get(THINGS))
        assert answer.status_code == 200 and seconds < 2
        assert not any(one.done() for one in waiting)
    answers = await asyncio.gather(slow, *waiting)
    assert [one.status_code for one in answers] == [200] * 7


async def test_a_new_user_who_has_waited_long_for_others_of_his_tenant_is_told_to_try_again(
    limited: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_into_class(limited, "acme", maxUsers=20)
    new = limited.client(user="new")
    monkeypatch.setattr(users, "PATIENCE_SECONDS", 0.2)
    async with limited.connected.database.system() as transaction:
        await transaction.execute(users._LOCK, (await limited.tenant("acme")).id)
        async with asyncio.timeout(20):
            refused = await new.get(THINGS)
    monkeypatch.undo()
    assert refused.status_code == 503 and "retry-after" in refused.headers
    assert await statuses(new, THINGS, 1) == [200]


async def test_who_writes_users_waits_for_others_of_his_tenant_without_a_connection(
    limited: TestedApplication,
) -> None:
    await put_into_class(limited, "acme", maxUsers=100)
    admin, quiet = limited.client(), limited.client(tenant="beta")
    assert await statuses(quiet, THINGS, 1) == await statuses(admin, THINGS, 1) == [200]
    async with limited.connected.database.system() as transaction:
        await transaction.execute(users._LOCK, (await limited.tenant("acme")).id)
        makers = [asyncio.create_task(admin.post(USERS, json={"name": "Ada"})) for _ in range(30)]
        await blocked(transaction, 1)
        answer, seconds = await in_turns(quiet.get(THINGS))
        assert answer.status_code == 200 and seconds < 2
    made = [answer.status_code for answer in await asyncio.gather(*makers)]
    assert set(made) <= {201, 503} and made.count(201) > 20, made


async def test_batches_and_classes_that_write_users_wait_for_each_other_without_a_connection(
    limited: TestedApplication,
) -> None:
    await put_into_class(limited, "acme", maxUsers=100)
    admin, quiet = limited.client(), limited.client(tenant="beta")
    assert await statuses(quiet, THINGS, 1) == await statuses(admin, THINGS, 1) == [200]
    body = [{"resource": "Users", "operation": "create", "data": {"name": "Ada"}}]
    async with limited.connected.database.system() as transaction:
        await transaction.execute(users._LOCK, (await limited.tenant("acme")).id)
        makers = [asyncio.create_task(admin.post("/api/v1/batch", json=body)) for _ in range(30)]
        await blocked(transaction, 1)
        for _ in range(5):
            answer, seconds = await in_turns(quiet.get(THINGS))
            assert answer.status_code == 200 and seconds < 1
    made = [answer.status_code for answer in await asyncio.gather(*makers)]
    assert made == [200] * 30, made
    present = (await admin.get(f"{USERS}?count=exact&limit=1")).json()["count"]
    assert present == 31, "each was made once"


async def test_who_must_wait_for_them_with_a_connection_does_not_wait_long(
    limited: TestedApplication,
) -> None:
    await put_into_class(limited, "acme", maxUsers=100)
    admin = limited.client()
    assert await statuses(admin, THINGS, 1) == [200]
    body = [{"resource": "Users", "operation": "create", "data": {"name": "Ada"}}]
    async with limited.connected.database.system() as transaction:
        await transaction.execute(users._LOCK, (await limited.tenant("acme")).id)
        async with asyncio.timeout(20):
            refused = await admin.post("/api/v1/batch", json=body)
    assert refused.status_code == 503 and "retry-after" in refused.headers
    assert (await admin.post("/api/v1/batch", json=body)).status_code == 200


async def test_new_users_come_in_between_those_who_are_made_all_the_time(
    limited: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks now and then whether nobody else is at it finds somebody, and never comes in."""
    for stage in (users, turns):  # forty wait in one line, as long as that takes on this machine
        monkeypatch.setattr(stage, "PATIENCE_SECONDS", 60.0)
    await put_into_class(limited, "acme", maxUsers=10_000)
    admin, over = limited.client(), asyncio.Event()

    async def making() -> None:
        while not over.is_set():
            assert (await admin.post(USERS, json={"name": "Ada"})).status_code == 201

    makers = [asyncio.create_task(making()) for _ in range(12)]
    try:
        answers = await asyncio.gather(*(limited.client(user=f"new {n}").get(THINGS) for n in range(30)))
    finally:
        over.set()
        await asyncio.gather(*makers)
    assert [one.status_code for one in answers] == [200] * 30


async def test_users_that_are_made_count_and_those_that_left_do_not(limited: TestedApplication) -> None:
    await put_into_class(limited, "acme", maxUsers=3)
    admin = limited.client()
    made = await admin.post(USERS, json={"name": "Ada"})
    assert made.status_code == 201, made.text
    several = await admin.post(f"{USERS}/batch", json=[{"name": "Bob"}, {"name": "Cy"}])
    assert several.status_code == 403 and several.json()["error"]["code"] == "quota_exceeded"
    assert (await admin.get(USERS)).json()["count"] == 2
    assert (await admin.post(USERS, json={"name": "Bob"})).status_code == 201
    assert (await admin.post(USERS, json={"name": "Cy"})).status_code == 403
    left = await admin.patch(f"{USERS}/{made.json()['data']['id']}", json={"status": "deactivated"})
    assert left.status_code == 200
    assert (await admin.post(USERS, json={"name": "Cy"})).status_code == 201


# --- routes -------------------------------------------------------------------------------------


async def test_a_route_with_a_budget_counts_each_caller(limited: TestedApplication) -> None:
    ada, bob = limited.client(user="ada"), limited.client(user="bob")
    made = [(await ada.post(THINGS, json={"name": "x"})).status_code for _ in range(3)]
    assert made == [201, 201, 429]
    refused = await ada.post(THINGS, json={"name": "x"})
    assert '"route";q=2;w=60' in refused.headers["ratelimit-policy"]
    assert (await ada.get(THINGS)).status_code == 200
    assert (await bob.post(THINGS, json={"name": "x"})).status_code == 201


def test_a_limit_of_an_unknown_route_or_without_a_number_is_a_mistake(tmp_path: Path) -> None:
    resource = {
        "name": "Things",
        "fields": {"name": {"type": "string"}},
        "rateLimits": {"craete": {"requests": 1}, "list": {"requests": 0}, "read": {"seconds": 5}},
    }
    with pytest.raises(ManifestError) as caught:
        build(tmp_path, {"resources": [resource]})
    told = str(caught.value)
    assert "rateLimits.craete" in told and "create" in told
    assert "rateLimits.list.requests" in told and "rateLimits.read" in told


# --- processes that count together ----------------------------------------------------------------


async def test_processes_that_share_a_redis_allow_one_budget_together(redis: RedisServer) -> None:
    processes = [SharedWindows(redis.uri, timeout_seconds=5) for _ in range(4)]
    # Of an hour, so that nothing is given back while they ask, whatever the time.
    budget = Budget(name="long", limit=100, window_seconds=3600)
    usages = await asyncio.gather(*(processes[n % 4].hit("ada", budget) for n in range(160)))
    assert not any(one.is_alone() for one in processes)
    assert sum(one.allowed for one in usages) == 100
    other = await processes[0].hit("bob", budget)
    assert other.allowed and other.remaining == 99
    for one in processes:
        await one.close()


async def test_shared_windows_slide(redis: RedisServer) -> None:
    budget = Budget(name="short", limit=10, window_seconds=1)
    shared = SharedWindows(redis.uri, timeout_seconds=5)
    for attempt in range(10):  # until the machine gave this test all its turns in two windows of the server
        await asyncio.sleep(1 - time.time() % 1)
        begun, key = int(time.time()), f"ada {attempt}"
        asked = [(await shared.hit(key, budget)).allowed for _ in range(11)]
        in_time = int(time.time()) == begun
        await asyncio.sleep(1 - time.time() % 1)
        later = await shared.hit(key, budget)
        if in_time and begun + 1 <= time.time() < begun + 1.8:
            break
    assert asked == [True] * 10 + [False]
    assert later.remaining < 9, "what was asked a second ago still counts in part"
    await asyncio.sleep(2.0)
    assert (await shared.hit(key, budget)).remaining == 9
    await shared.close()


async def test_what_is_used_is_told_without_being_counted(redis: RedisServer) -> None:
    budget = Budget(name="told", limit=10, window_seconds=3_600)
    here, there = (SharedWindows(redis.uri, timeout_seconds=5) for _ in range(2))
    alone = SlidingWindows()
    for limiter in (here, there, alone):
        for _ in range(3):
            assert (await limiter.hit("ada", budget)).allowed
    assert [await one.used("ada", budget) for one in (here, there, here, alone, alone)] == [6, 6, 6, 3, 3]
    assert await here.used("bob", budget) == await alone.used("bob", budget) == 0
    assert len(alone) == 1, "who is asked for takes no room"
    redis.stop()
    assert await here.used("ada", budget) == 0, "alone it has counted nothing"
    for one in (here, there):
        await one.close()


async def test_without_redis_a_process_counts_alone_until_it_is_back(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    shared = SharedWindows(redis.uri, alone=SlidingWindows(), timeout_seconds=5, retry_seconds=0.1)
    budget = Budget(name="few", limit=3, window_seconds=60)
    assert (await shared.hit("ada", budget)).allowed
    redis.stop()
    with caplog.at_level(logging.WARNING):
        assert [(await shared.hit("ada", budget)).allowed for _ in range(5)] == [True] * 3 + [False] * 2
    assert shared.is_alone()
    assert sum("counts requests alone" in record.getMessage() for record in caplog.records) == 1
    redis.start()
    deadline = time.monotonic() + 30
    while shared.is_alone():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert (await shared.hit("ada", budget)).remaining == 2, "the counts of the new server"
    await shared.close()


@pytest.mark.parametrize(
    "spoilt",
    [
        ["set", "{key}", "nonsense"],
        *(["hset", "{key}", "w", "{window}", "c", one] for one in ("x", "inf", "-inf", "nan", "1e300", "-7")),
        *(["hset", "{key}", "w", "{window}", "b", one] for one in ("inf", "nan", "-7")),
    ],
)
async def test_a_key_of_redis_that_is_spoilt_is_begun_anew_and_costs_no_other_one_its_count(
    redis: RedisServer, spoilt: list[str]
) -> None:
    shared = SharedWindows(redis.uri, timeout_seconds=2 * SLOW_SECONDS)
    other = Redis.from_url(redis.uri)
    try:
        assert (await shared.hit("bob", BUDGET)).remaining == 99
        window = int((await other.time())[0]) // BUDGET.window_seconds
        key = "byodpp:limit:trial:ada"
        words = [one.format(key=key, window=window) for one in spoilt]
        await other.eval("return redis.call(unpack(ARGV))", 0, *words)
        assert await shared.used("ada", BUDGET) == 0
        assert [(await shared.hit("ada", BUDGET)).remaining for _ in range(2)] == [99, 98]
        assert not shared.is_alone() and (await shared.hit("bob", BUDGET)).remaining == 98
    finally:
        await other.aclose()
        await shared.close()


async def test_a_redis_that_hangs_costs_one_short_wait(redis: RedisServer) -> None:
    shared = SharedWindows(redis.uri, timeout_seconds=1.0, retry_seconds=0.1)
    await shared.hit("ada", BUDGET)
    redis.pause()
    usages, seconds = await in_turns(asyncio.gather(*(shared.hit("ada", BUDGET) for _ in range(50))))
    assert seconds < 1.9, "not one after the other"
    assert all(one.allowed for one in usages)
    assert shared.is_alone()
    assert shared.count("ada", BUDGET) is not None, "whoever comes then does not wait at all"
    _, seconds = await in_turns(shared.hit("ada", BUDGET))
    assert seconds < 0.5, "not again"
    redis.go_on()
    await shared.close()


@asynccontextmanager
async def slow_way(redis: RedisServer, delay: list[float]) -> AsyncIterator[str]:
    """Yield an address of Redis at which whatever is asked waits for so many seconds."""
    open_ways = set[asyncio.Task[None]]()
    ends = list[asyncio.StreamWriter]()

    async def passed(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: list[float]
    ) -> None:
        with suppress(OSError):
            while part := await reader.read(65_536):
                await asyncio.sleep(seconds[0])
                writer.write(part)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", redis.port)
        ends.extend((writer, there[1]))
        for one in (passed(reader, there[1], delay), passed(there[0], writer, [0.0])):
            open_ways.add(asyncio.create_task(one))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for way in open_ways:
            way.cancel()
        await asyncio.gather(*open_ways, return_exceptions=True)
        for end in ends:
            end.close()
            with suppress(OSError):
                await end.wait_closed()


async def test_a_redis_that_is_slow_again_and_again_is_asked_no_more(redis: RedisServer) -> None:
    delay, budget = [0.7], replace(BUDGET, limit=1_000)
    async with slow_way(redis, delay) as uri:
        shared = SharedWindows(uri, timeout_seconds=1.0, retry_seconds=0.1)
        usages, seconds = await in_turns(asyncio.gather(*(shared.hit("ada", budget) for _ in range(400))))
        assert seconds < 0.7 * 400 / 16 / 3, "not all of them, one turn after the other"
        assert shared.is_alone() and all(one.allowed for one in usages)
        assert shared.count("ada", budget) is not None, "whoever comes then waits for nothing"
        await asyncio.sleep(1.0)
        assert shared.is_alone(), "an answer that comes too late is none"
        delay[0] = 0.0
        deadline = time.monotonic() + 30
        while shared.is_alone():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        await shared.close()


async def test_a_process_that_is_busy_itself_takes_redis_for_no_slower(redis: RedisServer) -> None:
    """Its answers are there all the time; that they are not read is the fault of the process alone."""
    budget = replace(BUDGET, limit=1_000)
    for attempt in range(10):  # until the machine lets this thread work a part of the time
        shared, key = SharedWindows(redis.uri, timeout_seconds=SLOW_SECONDS * 2), f"ada {attempt}"
        await asyncio.gather(*(shared.hit(key, budget) for _ in range(16)))
        begun, worked = time.monotonic(), time.thread_time()
        asked = [asyncio.create_task(shared.hit(key, budget)) for _ in range(16)]
        await asyncio.sleep(0)
        while time.monotonic() - begun < SLOW_SECONDS * 1.05:
            pass
        usages = await asyncio.gather(*asked)
        idle = (time.monotonic() - begun) - (time.thread_time() - worked)
        lost = shared.is_alone()
        await shared.close()
        if idle < SLOW_SECONDS:
            break
    assert idle < SLOW_SECONDS, "the machine gives this thread no time"
    assert not lost
    assert min(one.remaining for one in usages) == 1_000 - 32, "all counted together"


async def test_a_redis_that_comes_and_goes_is_asked_ever_more_rarely(redis: RedisServer) -> None:
    shared = SharedWindows(redis.uri, timeout_seconds=5, retry_seconds=0.02)
    waits = []
    for _ in range(4):
        await shared.hit("ada", BUDGET)
        shared._lost("as if")
        waits.append(shared._retry_seconds)
        deadline = time.monotonic() + 30
        while shared.is_alone():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    assert waits == [0.02, 0.04, 0.08, 0.16]
    await shared.close()


async def test_two_servers_with_a_redis_share_the_budget_of_a_tenant(
    byodpp_bench: Bench, blueprint: Blueprint, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine Redis answers late; how late is too late is another test's matter.
    monkeypatch.setattr("byodpp.limits.shared.SharedWindows", partial(SharedWindows, timeout_seconds=5))
    shared = byodpp_bench.application(blueprint, rate_limit_per_tenant=6, redis_uri=redis.uri)
    async with shared as first:
        connected = Application.connect(first.settings, blueprint)
        async with connected.lifespan():
            second = replace(first, connected=connected, asgi=connected.asgi(write_access_line=str))
            clients = [first.client(), second.client()]
            answers = [(await clients[n % 2].get(THINGS)).status_code for n in range(8)]
            assert answers == [200] * 6 + [429] * 2
            checks = (await clients[1].get("/health")).json()["checks"]
            assert [(one["name"], one["healthy"]) for one in checks] == [
                ("database", True),
                ("identity", True),
                ("background", True),
                ("tenants", True),
                ("redis", True),
            ]
            redis.stop()
            assert await statuses(clients[0], THINGS, 7) == [200] * 6 + [429]


# --- neighbours -----------------------------------------------------------------------------------

SLOW = """
from byodpp.logics import Logic


class ThingsSlow(Logic):
    resource, action = "Things", "slow:post"

    async def execute(self):
        await self.transaction.execute("select pg_advisory_xact_lock(4711)")
        return {"waited": True}
"""
_AT_ONCE = 24


async def test_a_noisy_tenant_does_not_slow_a_quiet_one(byodpp_bench: Bench, tmp_path: Path) -> None:
    """Whose class allows three connections holds no more of them, however much it asks for at a time."""
    (things,) = MANIFEST["resources"]
    slow = {"routes": {"actions": [{"url": "/api/v1/things/slow", "method": "post"}]}}
    manifest = {**MANIFEST, "resources": [things | slow]}
    noisy_app = build(tmp_path / "noisy", manifest, {"logics/v1/things/slow.py": SLOW})
    async with byodpp_bench.application(
        noisy_app,
        pool_max_connections=6,
        pool_acquire_timeout_seconds=30,
        max_concurrent_requests_per_tenant=1_000,
        tenant_limit_factor=1,
    ) as tested:
        await put_into_class(tested, "beta", maxConnections=3)
        quiet, noisy = tested.client(tenant="acme"), tested.client(tenant="beta")
        for client in (quiet, noisy):
            assert (await client.get(THINGS)).status_code == 200
        async with tested.connected.database.system() as transaction:
            await transaction.execute("select pg_advisory_xact_lock(4711)")
            asked = [asyncio.create_task(noisy.post(f"{THINGS}/slow")) for _ in range(_AT_ONCE)]
            await blocked(transaction, 3)
            # Nothing of the noise ends before this block does: whoever waited behind it would wait for ever.
            async with asyncio.timeout(30):
                for _ in range(20):
                    assert (await quiet.get(THINGS)).status_code == 200
            await blocked(transaction, 3)
            assert not any(one.done() for one in asked), "the noise goes on meanwhile"
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}


async def test_who_comes_while_the_classes_are_read_for_the_first_time_has_the_limits_of_his_own(
    limited: TestedApplication,
) -> None:
    operator = limited.client(tenant="platform")
    made = await operator.post(CLASSES, json={"name": "narrow", "maxUsers": 1, "maxConcurrentRequests": 1})
    acme = await limited.tenant("acme")
    kind = made.json()["data"]["id"]
    changed = await operator.patch(f"/api/v1/tenants/{acme.id}", json={"tenantClassId": kind})
    assert changed.status_code == 200, changed.text
    tenant, database = await limited.tenant("acme"), limited.connected.database
    asked, go_on = list[int](), asyncio.Event()

    class Slow:
        """The database as the directory alone sees it: the watches look into the same one all the time."""

        @asynccontextmanager
        async def system(self) -> AsyncIterator[Any]:
            asked.append(1)
            await asyncio.wait_for(go_on.wait(), timeout=20)
            async with database.system() as transaction:
                yield transaction

    default = TenantLimits(budgets=(), concurrent_requests=50)
    directory = ClassDirectory(Slow(), default, shares={})  # type: ignore[arg-type]
    looks = [asyncio.create_task(directory.limits_of(tenant)) for _ in range(5)]
    await asyncio.sleep(0.05)
    go_on.set()
    found = await asyncio.wait_for(asyncio.gather(*looks), timeout=20)
    assert [(one.users, one.concurrent_requests) for one in found] == [(1, 1)] * 5
    assert len(asked) == 1, "and they were read once for all of them"
    # Later, what was known before goes on while they are read anew.
    directory.forget()
    go_on.clear()
    first = asyncio.create_task(directory.limits_of(tenant))
    await asyncio.sleep(0.05)
    known = await asyncio.wait_for(directory.limits_of(tenant), timeout=20)
    assert (known.users, first.done()) == (1, False)
    go_on.set()
    assert (await asyncio.wait_for(first, timeout=20)).users == 1
