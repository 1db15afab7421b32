"""Who fails to sign in again and again is shut out for a quarter of an hour, and nobody else is."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from byodpp.audit.notes import claimed_user
from byodpp.bootstrap import Application, Blueprint
from byodpp.limits import SlidingWindows
from byodpp.limits.shared import SharedWindows
from byodpp.testing import Bench, TestedApplication
from tests.redis_server import RedisServer
from tests.test_browser_sessions import (
    HERE,
    MANIFEST,
    NOTES,
    RENEWAL,
    SECOND,
    SESSION,
    begun,
    code,
    issuer_of,
    renewable,
)
from tests.test_middleware import Clock
from tests.worlds import build

FAILURES, SECONDS = 3, 900


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("blocked"), MANIFEST)


@pytest_asyncio.fixture(loop_scope="session")
async def tested(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(
        blueprint, public_url=HERE, sign_in_failures=FAILURES, trusted_proxies=("127.0.0.1",)
    ) as application:
        yield application


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


def forged(tested: TestedApplication, **who: Any) -> str:
    """Return a token of somebody whose signature is wrong."""
    return tested.token(**who)[:-6] + "AAAAAA"


def invented(token: str, **claims: Any) -> str:
    """Return a token that claims something else than what was signed."""
    header, payload, signature = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))) | claims
    text = base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
    return f"{header}.{text}.{signature}"


def bearing(tested: TestedApplication, token: str, address: str = "198.51.100.1") -> Any:
    return tested.client(role=None, headers={"Authorization": f"Bearer {token}"} | at(address))


def at(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def blocks_of(tested: TestedApplication, tenant: int) -> list[str]:
    await tested.connected.trail.drain()
    async with tested.connected.database.system() as transaction:
        rows = await transaction.fetch(
            "select reason from audit_logs where action = 'SIGN_IN_BLOCKED' and tenant_id = $1"
            " and result = 'denied' order by id",
            tenant,
        )
    return [row["reason"] for row in rows]


async def test_the_failure_too_many_shuts_the_address_out_and_says_for_how_long(
    tested: TestedApplication,
) -> None:
    client = bearing(tested, "a.b.c")
    assert [(await client.get(NOTES)).status_code for _ in range(FAILURES)] == [401] * FAILURES
    refused = await client.get(NOTES)
    assert code(refused) == (429, "rate_limited")
    assert refused.headers["retry-after"] == str(SECONDS)
    assert refused.headers["ratelimit-policy"].endswith(f'"sign-in-failures";q={FAILURES};w=60')
    assert '"sign-in-failures";r=0;t=900' in refused.headers["ratelimit"]
    assert await blocks_of(tested, 0) == [
        "More than 3 sign-ins of this address failed within 60 seconds: shut out for 900 seconds."
    ], "in the platform's trail, once"


async def test_nobody_learns_by_a_block_who_exists(tested: TestedApplication) -> None:
    await tested.client(user="ada").get(NOTES)
    known, unknown = forged(tested, user="ada"), forged(tested, user="nobody-ever")
    nowhere = invented(known, iss="http://localhost/byodpp/realms/01ARZ3NDEKTSV4RRFFQ69G5FAV")
    told = []
    for number, token in enumerate((known, unknown, nowhere)):
        client = bearing(tested, token, f"198.51.100.{number + 10}")
        answers = [await client.get(NOTES) for _ in range(FAILURES + 1)]
        error = {**answers[-1].json()["error"], "requestId": "", "timestamp": ""}
        told.append(([one.status_code for one in answers], error, answers[-1].headers["retry-after"]))
    assert told[0] == told[1] == told[2]


async def test_a_user_is_shut_out_wherever_the_attempts_come_from(tested: TestedApplication) -> None:
    tenant = (await tested.tenant("acme")).id
    token = forged(tested, user="eve")
    answers = [
        (await bearing(tested, token, f"203.0.113.{number}").get(NOTES)).status_code
        for number in range(FAILURES + 2)
    ]
    assert answers == [401] * FAILURES + [429] * 2
    other = await bearing(tested, forged(tested, user="bob"), "203.0.113.200").get(NOTES)
    assert other.status_code == 401
    [reason] = await blocks_of(tested, tenant)
    assert "sign-ins of this user failed" in reason


async def test_an_api_key_is_shut_out_as_a_user_is(tested: TestedApplication) -> None:
    made = await tested.client().post("/api/v1/api-keys", json={"name": "k", "operations": ["Notes:list"]})
    key = made.json()["data"]["key"]
    wrong = key[:-4] + ("AAAA" if key[-4:] != "AAAA" else "BBBB")
    answers = [
        (await bearing(tested, wrong, f"203.0.113.{number}").get(NOTES)).status_code
        for number in range(FAILURES + 1)
    ]
    assert answers == [401] * FAILURES + [429]
    assert (await bearing(tested, key, "203.0.113.1").get(NOTES)).status_code == 200
    assert len(await blocks_of(tested, (await tested.tenant("acme")).id)) == 1


async def test_good_tokens_are_let_in_from_an_address_that_is_shut_out(tested: TestedApplication) -> None:
    client = bearing(tested, "a.b.c")
    assert [(await client.get(NOTES)).status_code for _ in range(FAILURES + 1)][-1] == 429
    assert (await bearing(tested, tested.token(user="cleo")).get(NOTES)).status_code == 200
    assert (await bearing(tested, "a.b.c", "198.51.100.2").get(NOTES)).status_code == 401
    assert (await tested.client(role=None, headers=at("198.51.100.1")).get("/api/v1/news")).status_code == 200


async def test_what_was_good_once_shuts_nobody_out(tested: TestedApplication) -> None:
    expired = tested.token(exp=1_700_000_000, iat=1_699_999_000)
    client = bearing(tested, expired)
    assert {(await client.get(NOTES)).status_code for _ in range(3 * FAILURES)} == {401}
    assert {
        (await tested.client(role=None, headers=at("198.51.100.1")).get(NOTES)).status_code
        for _ in range(3 * FAILURES)
    } == {401}, "nor does who sends nothing"


async def test_no_session_begins_where_signing_in_is_shut_out(tested: TestedApplication) -> None:
    client = bearing(tested, "a.b.c")
    assert [(await client.post(SESSION)).status_code for _ in range(FAILURES + 1)][-1] == 429
    refused = await bearing(tested, tested.token()).post(SESSION)
    assert code(refused) == (429, "rate_limited"), "nothing is looked at"
    assert refused.headers["retry-after"]
    assert (await bearing(tested, tested.token(), "198.51.100.2").post(SESSION)).status_code == 201


async def test_cookies_that_are_none_are_counted(tested: TestedApplication) -> None:
    browser = await begun(tested)
    name = browser.cookie.partition("=")[0]
    headers = browser.headers() | {"Cookie": f"{name}=k.AAAA"}
    answers = [(await browser.client.get(NOTES, headers=headers)).status_code for _ in range(FAILURES + 1)]
    assert answers == [401] * FAILURES + [429]


async def test_renewals_that_fail_shut_their_user_out(
    tested: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await renewable(tested)
    cookies = dict(ada.cookies)

    async def gone(realm: str, refresh_token: str) -> None:
        """What a provider answers whose session has ended."""

    monkeypatch.setattr(issuer_of(tested), "renew", gone)
    answers = []
    for _ in range(FAILURES + 1):
        ada.cookies = dict(cookies)
        answers.append((await ada.ask("POST", RENEWAL)).status_code)
    assert answers == [401] * FAILURES + [429]
    monkeypatch.undo()
    ada.cookies = dict(cookies)
    assert code(await ada.ask("POST", RENEWAL)) == (429, "rate_limited"), "wherever the good one is"
    assert SECOND in cookies


async def test_tokens_that_claim_somebody_close_no_session_of_his(tested: TestedApplication) -> None:
    ada = await renewable(tested)
    token = forged(tested, user="ada")
    answers = [
        (await bearing(tested, token, f"203.0.113.{number}").get(NOTES)).status_code
        for number in range(FAILURES + 2)
    ]
    assert answers == [401] * FAILURES + [429] * 2
    assert (await ada.ask("POST", RENEWAL)).status_code == 200


async def test_a_block_ends_and_is_not_lengthened_by_trying() -> None:
    clock = Clock()
    limiter = SlidingWindows(clock=clock)
    assert await limiter.block("ada", 900)
    clock.now += 600
    assert not await limiter.block("ada", 900)
    assert await limiter.blocked("ada") == pytest.approx(300)
    assert await limiter.blocked("bob") == 0
    clock.now += 301
    assert await limiter.blocked("ada") == 0
    assert await limiter.block("ada", 900)


async def test_a_flood_of_blocks_fills_no_memory() -> None:
    limiter = SlidingWindows(max_keys=10)
    for number in range(100):
        await limiter.block(str(number), 900)
    assert [number for number in range(100) if await limiter.blocked(str(number))] == list(range(90, 100))


async def test_processes_shut_out_together_and_alone_while_redis_is_away(redis: RedisServer) -> None:
    here, there = (SharedWindows(redis.uri, timeout_seconds=5, retry_seconds=60) for _ in range(2))
    assert await here.block("ada", 900) and not await there.block("ada", 900)
    assert 890 < await there.blocked("ada") <= 900
    redis.stop()
    assert await here.blocked("ada") > 890, "who began it still knows"
    assert await here.blocked("bob") == 0 and here.is_alone()
    assert await here.block("bob", 900) and await here.blocked("bob")
    for one in (here, there):
        await one.close()


async def test_two_servers_with_a_redis_shut_out_together(
    byodpp_bench: Bench, blueprint: Blueprint, redis: RedisServer
) -> None:
    settings: dict[str, Any] = {"public_url": HERE, "sign_in_failures": FAILURES, "redis_uri": redis.uri}
    settings["trusted_proxies"] = ("127.0.0.1",)
    async with byodpp_bench.application(blueprint, **settings) as first:
        client = bearing(first, "a.b.c")
        assert [(await client.get(NOTES)).status_code for _ in range(FAILURES + 1)][-1] == 429
        second = Application.connect(first.settings, blueprint)
        try:
            assert await second.rate_limiter.blocked("address 198.51.100.1") > 0
        finally:
            await asyncio.wait_for(second.rate_limiter.close(), 5)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": 1},
        {"sub": ""},
        {"sub": "\ud800"},
        {"sub": "x" * 256},
        {"iss": []},
        {"iss": "/"},
        {"sub": None},
    ],
)
def test_what_a_token_claims_is_nobody_unless_it_is_a_name(claims: dict[str, Any]) -> None:
    payload = {"iss": "http://x/acme", "sub": "ada"} | claims
    text = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    assert claimed_user(f"Bearer a.{text}.c") is None
