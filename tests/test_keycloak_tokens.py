"""Tokens that a real Keycloak made: accepted, rotated, disabled, and with Keycloak away or hostile."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from byodpp.authentication.signing_keys import SigningKeys
from byodpp.authentication.tokens import TokenVerifier
from byodpp.bootstrap import Blueprint
from byodpp.exceptions import AuthUnavailable, StartError, Unauthenticated
from byodpp.identity.keycloak import Credentials, Keycloak, KeycloakServer, RealmStandard
from byodpp.testing import Bench, TestedApplication
from tests.faulty_proxy import FaultyProxy, faulty_proxy
from tests.keycloak_server import KeycloakDesk
from tests.worlds import SHOP, build

pytestmark = pytest.mark.keycloak

#: What its administrator may set up by hand, and BYO DPP sets up by itself.
AUDIENCE = {
    "name": "audience",
    "protocol": "openid-connect",
    "protocolMapper": "oidc-audience-mapper",
    "config": {"included.custom.audience": "byodpp-api", "access.token.claim": "true"},
}


def machine(client: str, **more: Any) -> dict[str, Any]:
    return {
        "clientId": client,
        "secret": "s3cret",
        "serviceAccountsEnabled": True,
        "standardFlowEnabled": False,
        **more,
    }


REALM: dict[str, Any] = {
    "roles": {"realm": [{"name": "Admin"}]},
    "clients": [
        machine("robot", protocolMappers=[AUDIENCE]),
        machine("stranger"),
        machine("byodpp-api"),
        {"clientId": "web", "publicClient": True},
    ],
    "users": [
        {
            "username": f"service-account-{one}",
            "enabled": True,
            "serviceAccountClientId": one,
            "realmRoles": ["Admin"],
        }
        for one in ("robot", "stranger", "byodpp-api")
    ],
}


#: Of new keys, each above those of earlier tests.
PRIORITIES = itertools.count(1_000)


@dataclass
class Clock:
    """The key cache's clock: the present, moved by a test."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@dataclass
class World:
    """Two realms, and a verifier that reaches Keycloak through a proxy."""

    desk: KeycloakDesk
    realm: str
    other: str
    proxy: FaultyProxy
    provider: Keycloak
    verifier: TokenVerifier
    clock: Clock

    async def token(self, client: str = "robot", realm: str | None = None) -> str:
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": "s3cret"}
        answer = await self.desk.token(realm or self.realm, **form)
        return str(answer["access_token"])

    def fetches(self, realm: str | None = None) -> int:
        return sum(f"/realms/{realm or self.realm}/" in line for line in self.proxy.requests)

    async def new_key(self) -> str:
        """Add a key that signs from now on, and return the id of its component."""
        priority = next(PRIORITIES)
        component = {
            "name": f"key-{priority}",
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": {"priority": [str(priority)], "algorithm": ["RS256"]},
        }
        await self.desk.ask("POST", f"{self.realm}/components", component)
        found = await self.desk.ask("GET", f"{self.realm}/components?name=key-{priority}")
        return str(found[0]["id"])

    async def disable_key(self, component: str) -> None:
        document = await self.desk.ask("GET", f"{self.realm}/components/{component}")
        document["config"]["enabled"] = ["false"]
        await self.desk.ask("PUT", f"{self.realm}/components/{component}", document)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def realms(keycloak: KeycloakDesk) -> AsyncIterator[tuple[str, str]]:
    async with keycloak.realm(**REALM) as one, keycloak.realm(**REALM) as other:
        yield one, other


@pytest_asyncio.fixture
async def world(keycloak: KeycloakDesk, realms: tuple[str, str]) -> AsyncIterator[World]:
    realm, other = realms
    async with faulty_proxy(int(keycloak.url.rpartition(":")[2])) as proxy:
        provider = Keycloak(base_url=keycloak.url, internal_url=proxy.url, timeout_seconds=20)
        clock = Clock()
        keys = SigningKeys(provider, clock=clock, wait_seconds=20)
        verifier = TokenVerifier(provider, audience="byodpp-api", keys=keys)
        yield World(keycloak, realm, other, proxy, provider, verifier, clock)
        await provider.close()


async def refused(world: World, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await world.verifier.verify(token)


async def test_a_service_accounts_token_says_who_calls(world: World) -> None:
    claims = await world.verifier.verify(await world.token())
    assert (claims.realm, claims.client) == (world.realm, "robot")
    assert "Admin" in claims.roles
    assert claims.user_name == "service-account-robot"
    assert claims.expires_at > time.time()


async def test_c31_a_token_for_another_audience_is_refused_and_one_of_our_own_client_is_not(
    world: World,
) -> None:
    await refused(world, await world.token("stranger"))
    assert (await world.verifier.verify(await world.token("byodpp-api"))).client == "byodpp-api"


async def test_a_client_that_is_named_in_the_settings_is_accepted_without_the_audience(
    world: World,
) -> None:
    verifier = TokenVerifier(world.provider, audience="byodpp-api", clients=["stranger"])
    assert (await verifier.verify(await world.token("stranger"))).client == "stranger"


async def test_f21_a_new_keys_first_token_is_accepted_with_one_fetch_and_old_tokens_stay(
    world: World,
) -> None:
    old = await world.token()
    await world.verifier.verify(old)
    await world.new_key()
    new = await world.token()
    assert new.split(".")[0] != old.split(".")[0]
    before = world.fetches()
    begun = time.monotonic()
    assert await world.verifier.verify(new)
    took = time.monotonic() - begun
    assert world.fetches() == before + 1
    for _ in range(10_000):
        await world.verifier.verify(old)
    world.verifier.forget()
    assert await world.verifier.verify(old)
    assert world.fetches() == before + 1
    assert took < 5, "half a second on an idle machine"


async def test_f22_a_disabled_keys_tokens_are_refused_within_a_minute(world: World) -> None:
    component = await world.new_key()
    token = await world.token()
    await world.verifier.verify(token)
    await world.disable_key(component)
    world.clock.ahead += 59
    await refused(world, token)
    assert await world.verifier.verify(await world.token()), "the key below it signs again"


async def test_f22_a_deleted_realms_tokens_are_refused_within_a_minute(world: World) -> None:
    async with world.desk.realm(**REALM) as realm:
        token = await world.token(realm=realm)
        await world.verifier.verify(token)
    world.clock.ahead += 59
    await refused(world, token)
    assert await world.verifier.verify(await world.token())


async def test_f20_while_keycloak_is_away_known_keys_work_for_more_than_an_hour(world: World) -> None:
    token, second = await world.token(), await world.token()
    await world.verifier.verify(token)
    world.proxy.refuse = True
    before = world.proxy.connections
    for _ in range(400):
        world.clock.ahead += 10
        await world.verifier.verify(token)
    assert await world.verifier.verify(second), "a token that was never seen, by a key that was"
    assert world.proxy.connections - before <= 401
    world.proxy.refuse = False
    world.clock.ahead += 60
    assert await world.verifier.verify(token)


async def test_f20_while_keycloak_is_away_an_unknown_key_is_503_and_asked_for_once_in_ten_seconds(
    world: World,
) -> None:
    known = await world.token()
    await world.verifier.verify(known)
    await world.new_key()
    unknown = await world.token()
    world.proxy.refuse = True
    before, begun = world.proxy.connections, world.clock()
    for _ in range(1_000):
        with pytest.raises(AuthUnavailable) as answer:
            await world.verifier.verify(unknown)
        world.clock.ahead += 0.01
    assert answer.value.error_code == "auth_unavailable" and "Retry-After" in answer.value.headers
    passed = world.clock() - begun  # ten seconds, and as long as all this took
    assert world.proxy.connections - before <= 2 + passed // 10
    world.proxy.refuse = False
    world.clock.ahead += 11
    assert await world.verifier.verify(unknown)


async def test_f20_one_realms_trouble_is_no_other_realms(world: World) -> None:
    other = await world.token(realm=world.other)
    await world.verifier.verify(other)
    token = await world.token()
    world.proxy.refuse = True
    with pytest.raises(AuthUnavailable):
        await world.verifier.verify(token)
    assert await world.verifier.verify(other)
    world.proxy.refuse = False
    third = await world.token(realm=world.other)
    assert await world.verifier.verify(third)


HTML = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<h1>hm</h1>"
MOVED = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/evil\r\nContent-Length: 0\r\n\r\n"
LIST = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"
NO_KEYS = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"keys": 12}'
BROKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"
FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    "answer", [HTML, MOVED, LIST, NO_KEYS, BROKEN, FAILED, b"rubbish\r\n\r\n"], ids=range(7)
)
async def test_f20_an_answer_that_is_no_key_set_takes_nobodys_keys_away(world: World, answer: bytes) -> None:
    token = await world.token()
    await world.verifier.verify(token)
    world.proxy.answer = answer
    world.clock.ahead += 300
    assert await world.verifier.verify(token)
    with pytest.raises(AuthUnavailable):
        await world.provider.signing_keys(world.realm)
    with pytest.raises(AuthUnavailable):
        await world.provider.health()
    world.proxy.answer = None
    world.clock.ahead += 60
    assert await world.verifier.verify(token)
    await world.provider.health()


async def test_f20_an_endless_answer_is_cut_off(world: World) -> None:
    world.proxy.answer, world.proxy.endless = b"HTTP/1.1 200 OK\r\n\r\n", b'{"keys": [' + b" " * 65_536
    with pytest.raises(AuthUnavailable, match="too long"):
        await world.provider.signing_keys(world.realm)


async def test_f20_an_answer_that_drips_is_cut_off_in_time(world: World) -> None:
    provider = Keycloak(base_url=world.desk.url, internal_url=world.proxy.url, timeout_seconds=0.4)
    world.proxy.delay = 30
    begun = time.monotonic()
    with pytest.raises(AuthUnavailable):
        await provider.signing_keys(world.realm)
    assert time.monotonic() - begun < 10
    await provider.close()


async def test_f20_a_slow_keycloak_delays_nobody_whose_key_is_known(world: World) -> None:
    token = await world.token()
    await world.verifier.verify(token)
    world.proxy.delay = 30
    world.clock.ahead += 35
    await asyncio.wait_for(world.verifier.verify(token), 20)


# --- over HTTP --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("shop"), SHOP)


async def name_tenant(tested: TestedApplication, slug: str, realm: str) -> None:
    async with tested.connected.database.system() as transaction:
        await transaction.execute("update tenants set ulid = $1 where slug = $2", realm, slug)
    tested.connected.authenticator.forget()


async def test_a_service_account_uses_the_api_and_its_own_tenant_only(
    world: World, byodpp_bench: Bench, blueprint: Blueprint
) -> None:
    async with byodpp_bench.application(blueprint, **world.desk.settings()) as tested:
        await name_tenant(tested, "acme", world.realm)
        token = await world.token()
        caller = tested.client(role=None, headers={"Authorization": f"Bearer {token}"})
        made = await caller.post("/api/v1/notes", json={"title": "by a machine"})
        assert made.status_code == 201
        assert (await caller.get("/api/v1/notes")).json()["count"] == 1
        stranger = await world.token("stranger")
        answer = await caller.get("/api/v1/notes", headers={"Authorization": f"Bearer {stranger}"})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (
            401,
            'Bearer realm="byodpp", error="invalid_token"',
        )
        # The other realm's tenant is not there: its token is good, and worth nothing.
        foreign = await world.token(realm=world.other)
        answer = await caller.get("/api/v1/notes", headers={"Authorization": f"Bearer {foreign}"})
        assert answer.status_code == 401
        await name_tenant(tested, "beta", world.other)
        answer = await caller.get("/api/v1/notes", headers={"Authorization": f"Bearer {foreign}"})
        assert (answer.status_code, answer.json()["count"]) == (200, 0)
        checks = {one["name"]: one["healthy"] for one in (await caller.get("/health")).json()["checks"]}
        assert checks == {"database": True, "identity": True, "background": True, "tenants": True}


async def test_without_keycloak_the_application_starts_answers_503_and_recovers(
    world: World, byodpp_bench: Bench, blueprint: Blueprint
) -> None:
    world.proxy.refuse = True
    settings = {**world.desk.settings(), "keycloak_internal_url": world.proxy.url}
    del settings["keycloak_admin_secret"]
    async with byodpp_bench.application(blueprint, **settings) as tested:
        await name_tenant(tested, "acme", world.realm)
        caller = tested.client(role=None, headers={"Authorization": f"Bearer {await world.token()}"})
        answer = await caller.get("/api/v1/notes")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "auth_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        ready, health = await caller.get("/health/ready"), await caller.get("/health")
        assert (ready.status_code, health.json()["status"]) == (200, "degraded")
        assert "127.0.0.1" not in answer.text + health.text


@pytest.mark.parametrize("environment", ["stage", "prod"])
async def test_stage_and_prod_start_with_keycloak(
    world: World, byodpp_bench: Bench, blueprint: Blueprint, environment: str
) -> None:
    settings = {**world.desk.settings(), "environment": environment, "secret_key": "0123456789abcdef" * 2}
    async with byodpp_bench.application(blueprint, **settings) as tested:
        await name_tenant(tested, "acme", world.realm)
        caller = tested.client(role=None, headers={"Authorization": f"Bearer {await world.token()}"})
        assert (await caller.get("/api/v1/notes")).status_code == 200


# --- the start ---------------------------------------------------------------------------


def ok(document: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return b"%sContent-Length: %d\r\n\r\n%s" % (head, len(document), document)


async def opened(url: str, secret: str = "s3cret") -> None:
    credentials = Credentials(client="byodpp-admin", secret=secret)
    provider = Keycloak(base_url=url, server=KeycloakServer(url=url, credentials=credentials))
    try:
        await provider.open()
    finally:
        await provider.close()


async def test_c35_keycloak_below_the_pinned_version_is_refused_at_the_start(world: World) -> None:
    # An old server cannot be run here: its answer to the one question can.
    world.proxy.answers = {
        "/token": ok(b'{"access_token": "x", "expires_in": 60}'),
        "/serverinfo": ok(b'{"systemInfo": {"version": "26.6.3"}}'),
    }
    with pytest.raises(StartError, match=r"26\.6\.3 runs there; 26\.6\.4 is the oldest"):
        await opened(world.proxy.url)


async def test_the_real_keycloak_is_new_enough(world: World) -> None:
    await opened(world.desk.url, world.desk.admin_secret)


async def test_credentials_that_keycloak_refuses_stop_the_start_and_are_not_told(world: World) -> None:
    with pytest.raises(StartError, match="keycloak_admin_client") as refusal:
        await opened(world.desk.url, "wr0ng-s3cret")
    assert "wr0ng-s3cret" not in str(refusal.value)


async def test_a_keycloak_that_is_away_at_the_start_is_told_in_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.proxy.refuse = True
    await opened(world.proxy.url)
    assert f"Keycloak cannot be reached at {world.proxy.url}, its version is not checked" in caplog.text
    assert "s3cret" not in caplog.text


async def test_a_start_does_not_wait_for_a_keycloak_that_says_nothing_as_its_administrator_would(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.proxy.delay = 5.0
    told = Credentials(secret="s3cret")
    server = KeycloakServer(url=world.proxy.url, credentials=told, timeout_seconds=300)
    provider = Keycloak(base_url=world.proxy.url, server=server, timeout_seconds=0.2)
    try:
        await provider.open()
    finally:
        await provider.close()
    assert "its version is not checked: no answer in 0.2 s" in caplog.text


async def test_a_slow_keycloak_is_told_from_one_that_is_away(world: World) -> None:
    world.proxy.delay = 5.0
    told = Credentials(secret="s3cret")
    server = KeycloakServer(url=world.proxy.url, credentials=told, timeout_seconds=0.2)
    try:
        with pytest.raises(AuthUnavailable, match="did not answer in time"):
            await server.version()
    finally:
        await server.close()


async def test_a_renewal_fails_by_the_token_or_by_our_own_fault(world: World) -> None:
    def of(client: str) -> Keycloak:
        standard = RealmStandard(audience="byodpp-api", browser_client=client)
        return Keycloak(base_url=world.desk.url, timeout_seconds=20, standard=standard)

    known, unknown = of("web"), of("nobody")
    try:
        assert await known.renew(world.realm, "no token") is None
        with pytest.raises(AuthUnavailable):
            await unknown.renew(world.realm, "no token")
    finally:
        await known.close()
        await unknown.close()
