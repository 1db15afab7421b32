"""The key cache: known keys outlive their provider, unknown ones cost it one question in a while."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from byodpp.authentication.signing_keys import SigningKeys
from byodpp.exceptions import AuthUnavailable

PARAMETERS: Any = {"use": "sig", "alg": "RS256"}
MATERIAL = RSAKey.generate_key(2048, parameters=PARAMETERS).as_dict(private=False)


class Provider:
    """Key sets that a test changes, and how often each realm was asked for."""

    def __init__(self) -> None:
        self.key_ids: dict[str, list[str]] = {"one": ["a"], "two": ["b"]}
        self.asked: list[str] = []
        self.fault: Exception | None = None
        self.delay = 0.0

    def issuer_url(self, realm: str) -> str:
        return f"http://issuer/{realm}"

    async def signing_keys(self, realm: str) -> Mapping[str, Any] | None:
        self.asked.append(realm)
        await asyncio.sleep(self.delay)
        if self.fault is not None:
            raise self.fault
        ids = self.key_ids.get(realm)
        return None if ids is None else {"keys": [{**MATERIAL, "kid": one} for one in ids]}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(provider: Provider, clock: Clock) -> SigningKeys:
    return SigningKeys(provider, clock=clock, wait_seconds=0.2)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_key_is_fetched_once_however_many_ask_at_the_same_time(
    keys: SigningKeys, provider: Provider
) -> None:
    provider.delay = 0.01
    found = await asyncio.gather(*(keys.find("one", "a") for _ in range(50)))
    assert len(set(found)) == 1
    assert found[0] is not None
    assert provider.asked == ["one"]


async def test_an_unknown_key_of_a_realm_never_seen_costs_one_question(
    keys: SigningKeys, provider: Provider
) -> None:
    assert await keys.find("one", "unknown") is None
    assert provider.asked == ["one"]


async def test_f21_a_new_key_is_accepted_at_its_first_token_and_the_old_one_stays(
    keys: SigningKeys, provider: Provider
) -> None:
    old = await keys.find("one", "a")
    provider.key_ids["one"] = ["new", "a"]
    assert await keys.find("one", "new") is not None
    assert await keys.find("one", "a") is old
    assert len(provider.asked) == 2


async def test_f20_a_thousand_unknown_keys_cost_one_question_in_ten_seconds(
    keys: SigningKeys, provider: Provider, clock: Clock
) -> None:
    await keys.find("one", "a")
    provider.asked.clear()
    for number in range(1_000):
        assert await keys.find("one", f"unknown-{number}") is None
        clock.now += 0.02  # twenty seconds in all
    assert len(provider.asked) <= 3


async def test_f20_known_keys_work_for_an_hour_and_more_while_the_provider_is_away(
    keys: SigningKeys, provider: Provider, clock: Clock
) -> None:
    await keys.find("one", "a")
    provider.fault = OSError("connection refused")
    provider.asked.clear()
    for _ in range(1_200):
        clock.now += 3
        assert await keys.find("one", "a") is not None
        await settled()
    assert len(provider.asked) <= 3_600 / 10 + 1


async def test_f20_an_unknown_key_while_the_provider_is_away_is_503_and_asks_once_in_ten_seconds(
    keys: SigningKeys, provider: Provider, clock: Clock
) -> None:
    provider.fault = OSError("connection refused")
    for _ in range(100):
        with pytest.raises(AuthUnavailable):
            await keys.find("one", "a")
        clock.now += 0.09
    assert provider.asked == ["one"]
    clock.now += 10
    provider.fault = None
    assert await keys.find("one", "a") is not None


async def test_f20_one_realms_failure_is_no_other_realms(keys: SigningKeys, provider: Provider) -> None:
    provider.fault = OSError("connection refused")
    with pytest.raises(AuthUnavailable):
        await keys.find("one", "a")
    provider.fault = None
    assert await keys.find("two", "b") is not None


async def test_f20_a_slow_provider_delays_nobody_who_has_a_key(
    keys: SigningKeys, provider: Provider, clock: Clock
) -> None:
    await keys.find("one", "a")
    provider.delay = 30
    clock.now += 35
    asking = asyncio.create_task(keys.find("one", "a"))
    await settled()
    assert asking.done() and asking.result() is not None
    with pytest.raises(AuthUnavailable):
        await asyncio.wait_for(keys.find("one", "other"), 20)
    task = keys.ring("one").task
    assert task is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    "fault", [OSError("refused"), TimeoutError(), ValueError("not JSON"), AuthUnavailable(), KeyError("keys")]
)
async def test_whatever_the_provider_does_the_answer_is_503(
    keys: SigningKeys, provider: Provider, fault: Exception
) -> None:
    provider.fault = fault
    with pytest.raises(AuthUnavailable):
        await keys.find("one", "a")


async def test_f22_a_disabled_key_is_refused_within_a_minute(
    keys: SigningKeys, provider: Provider, clock: Clock
) -> None:
    provider.key_ids["one"] = ["a", "bad"]
    assert await keys.find("one", "bad") is not None
    provider.key_ids["one"] = ["a"]
    clock.now += 59
    assert await keys.find("one", "bad") is None
    assert await keys.find("one", "a") is not None


async def test_f22_a_deleted_realm_is_refused_within_a_minute_also_under_steady_use(
    keys: SigningKeys, provider: Provider, clock: Clock
) -> None:
    assert await keys.find("one", "a") is not None
    del provider.key_ids["one"]
    for _ in range(60):
        clock.now += 1
        found = await keys.find("one", "a")
        await settled()
    assert found is None


async def test_a_forgotten_realm_is_asked_for_again(keys: SigningKeys, provider: Provider) -> None:
    await keys.find("one", "a")
    del provider.key_ids["one"]
    keys.forget("one")
    assert await keys.find("one", "a") is None


async def test_a_client_that_goes_away_does_not_stop_the_fetch_of_the_others(
    keys: SigningKeys, provider: Provider
) -> None:
    provider.delay = 0.02
    first, second = (asyncio.create_task(keys.find("one", "a")) for _ in range(2))
    await asyncio.sleep(0.005)
    first.cancel()
    assert await second is not None
    assert provider.asked == ["one"]


async def test_the_number_of_remembered_realms_is_bounded(provider: Provider, clock: Clock) -> None:
    keys = SigningKeys(provider, clock=clock, max_realms=5)
    for number in range(20):
        assert await keys.find(f"realm-{number}", "a") is None
    assert len(keys._rings) == 5
