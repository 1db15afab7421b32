"""The attack list on tokens (C30 to C35), with what a real Keycloak made wherever it can make it.

The realm signs with a key that the tests brought along, so that they can say anything in its name
that Keycloak itself never would; whatever Keycloak can be made to say, it says. Every attack is
answered over HTTP with 401 and the challenge of RFC 6750, as if the token were rubbish.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from joserfc import jwe, jws
from joserfc.jwk import OctKey, RSAKey

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.computing import computing
from tests.keycloak_server import KeycloakDesk
from tests.worlds import SHOP, build

pytestmark = pytest.mark.keycloak

_CHALLENGE = 'Bearer realm="byodpp", error="invalid_token"'
KEY: RSAKey = RSAKey.generate_key(2048, parameters={"use": "sig", "alg": "RS256"})
STRANGERS_KEY: RSAKey = RSAKey.generate_key(2048, parameters={"use": "sig", "alg": "RS256"})


def encoded(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(token: str, part: int) -> dict[str, Any]:
    segment = token.split(".")[part]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return found


def mapper(name: str, kind: str, **config: str) -> dict[str, Any]:
    told = {"access.token.claim": "true", **{key.replace("_", "."): value for key, value in config.items()}}
    return {"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": told}


AUDIENCE = mapper("audience", "oidc-audience-mapper", included_custom_audience="byodpp-api")


def realm(other: str) -> dict[str, Any]:
    """Return a realm with a client for each way of making a token that is not for us."""
    claims = [
        mapper(
            name, "oidc-hardcoded-claim-mapper", claim_name=name, claim_value=other, jsonType_label="String"
        )
        for name in ("tenantId", "tenant_id", "tenant", "realm", "organization")
    ]
    base = {"secret": "s3cret", "serviceAccountsEnabled": True, "directAccessGrantsEnabled": True}
    clients = [
        {"clientId": "robot", **base, "protocolMappers": [AUDIENCE]},
        {"clientId": "stranger", **base},
        {"clientId": "liar", **base, "protocolMappers": [AUDIENCE, *claims]},
        {
            "clientId": "ps256",
            **base,
            "protocolMappers": [AUDIENCE],
            "attributes": {"access.token.signed.response.alg": "PS256"},
        },
        {
            "clientId": "es256",
            **base,
            "protocolMappers": [AUDIENCE],
            "attributes": {"access.token.signed.response.alg": "ES256"},
        },
        {
            "clientId": "hs512",
            **base,
            "protocolMappers": [AUDIENCE],
            "attributes": {"access.token.signed.response.alg": "HS512"},
        },
        {
            "clientId": "light",
            **base,
            "protocolMappers": [AUDIENCE],
            "attributes": {"client.use.lightweight.access.token.enabled": "true"},
        },
    ]
    services = [
        {
            "username": f"service-account-{one['clientId']}",
            "enabled": True,
            "serviceAccountClientId": one["clientId"],
            "realmRoles": ["Admin"],
        }
        for one in clients
    ]
    people = [
        {
            "username": "anna",
            "email": "anna@example.com",
            "firstName": "Anna",
            "lastName": "A",
            "enabled": True,
            "emailVerified": True,
            "credentials": [{"type": "password", "value": "Correct-horse-1"}],
            "realmRoles": ["Admin", "offline_access"],
        }
    ]
    return {"roles": {"realm": [{"name": "Admin"}]}, "clients": clients, "users": [*services, *people]}


@dataclass
class World:
    """An application, a realm whose private key is ours, and another realm that is not."""

    desk: KeycloakDesk
    application: TestedApplication
    realm: str
    other: str
    key_id: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)  # tokens by client
    caller: httpx2.AsyncClient = field(default_factory=httpx2.AsyncClient)

    async def token(self, client: str = "robot", realm: str | None = None) -> str:
        """Return an access token of Keycloak."""
        place = f"{client}@{realm or self.realm}"
        if place not in self.made:
            form = {"grant_type": "client_credentials", "client_id": client, "client_secret": "s3cret"}
            self.made[place] = (await self.desk.token(realm or self.realm, **form))["access_token"]
        return self.made[place]

    async def persons(self, scope: str = "openid") -> dict[str, Any]:
        """Return everything that Keycloak gives a person who signs in."""
        return await self.desk.token(
            self.realm,
            grant_type="password",
            client_id="robot",
            client_secret="s3cret",
            username="anna",
            password="Correct-horse-1",
            scope=scope,
        )

    def forged(
        self, header: dict[str, Any] | None = None, *, key: RSAKey | None = None, **claims: Any
    ) -> str:
        """Sign what Keycloak never says; a claim of `...` is left out."""
        payload = {name: value for name, value in {**self.claims, **claims}.items() if value is not ...}
        return self.signed(json.dumps(payload).encode(), header, key=key)

    def signed(
        self, payload: bytes, header: dict[str, Any] | None = None, *, key: RSAKey | None = None
    ) -> str:
        told = {"alg": "RS256", "typ": "JWT", "kid": self.key_id, **(header or {})}
        text = f"{encoded(told)}.{encoded(payload)}"
        # By hand: the library refuses to sign most of what is tried here.
        algorithm = jws.JWSRegistry(algorithms=["RS256"]).get_alg("RS256")
        signature: bytes = algorithm.sign(text.encode(), key or KEY)
        return f"{text}.{encoded(signature)}"

    async def answer(self, token: str, **more: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        return await self.caller.request(
            more.pop("method", "GET"), more.pop("url", "/api/v1/notes"), headers=headers, **more
        )

    async def refused(self, token: str) -> None:
        """Expect 401 on reading, on writing, and in a batch, and nothing written."""
        for more in (
            {},
            {"method": "POST", "json": {"title": "stolen"}},
            {"method": "POST", "url": "/api/v1/notes/batch", "json": [{"title": "stolen"}]},
            {"method": "POST", "url": "/api/v1/batch", "json": {"operations": []}},
        ):
            answer = await self.answer(token, **more)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated"), (
                answer.text
            )
            assert answer.headers["www-authenticate"] == _CHALLENGE
        assert await self.titles() == []

    async def titles(self) -> list[str]:
        async with self.application.connected.database.system() as transaction:
            return [row["title"] for row in await transaction.fetch("select title from notes order by 1")]


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("shop"), SHOP)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(keycloak: KeycloakDesk, byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[World]:
    async with (
        keycloak.realm(roles={"realm": [{"name": "Admin"}]}, clients=realm("x")["clients"][:1]) as other,
        keycloak.realm(**realm(other)) as home,
        byodpp_bench.application(blueprint, **keycloak.settings()) as tested,
    ):
        key = {
            "name": "ours",
            "providerId": "rsa",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": {
                "priority": ["1000"],
                "algorithm": ["RS256"],
                "privateKey": [KEY.as_pem(private=True).decode()],
            },
        }
        await keycloak.ask("POST", f"{home}/components", key)
        async with tested.connected.database.system() as transaction:
            for slug, name in (("acme", home), ("beta", other)):
                await transaction.execute("update tenants set ulid = $1 where slug = $2", name, slug)
        tested.connected.authenticator.forget()
        world = World(keycloak, tested, home, other, caller=tested.client(role=None))
        good = await world.token()
        world.key_id, world.claims = decoded(good, 0)["kid"], decoded(good, 1)
        yield world


async def test_a_good_token_is_accepted_and_so_is_one_that_the_tests_signed(world: World) -> None:
    for token in (await world.token(), world.forged()):
        answer = await world.answer(token)
        assert answer.status_code == 200, answer.text
    # So every refusal below is for the one thing that was changed.


# --- C30: the signature -------------------------------------------------------------------


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "nOnE", "NONE", "", "RS256 ", "rs256", "HS256", None, 1]
)
async def test_c30_a_token_without_a_signature(world: World, algorithm: Any) -> None:
    head = encoded({"alg": algorithm, "typ": "JWT", "kid": world.key_id})
    for signature in ("", encoded(b"x" * 256)):
        answer = await world.answer(f"{head}.{encoded(world.claims)}.{signature}")
        assert answer.status_code == 401, answer.text
    await world.refused(f"{head}.{encoded(world.claims)}.AAAA")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("form", ["pem", "pem-stripped", "pkcs1", "der", "modulus", "jwk"])
async def test_c30_the_public_key_taken_for_a_secret(world: World, algorithm: str, form: str) -> None:
    certs = await _certs(world)
    public = next(one for one in certs if one["kid"] == world.key_id)
    key = RSAKey.import_key({"kty": "RSA", "n": public["n"], "e": public["e"]})
    forms: dict[str, Callable[[], bytes]] = {
        "pem": lambda: key.as_pem(private=False),
        "pem-stripped": lambda: key.as_pem(private=False).strip(),
        "pkcs1": lambda: base64.b64decode(public["x5c"][0]),
        "der": lambda: key.as_der(private=False),
        "modulus": lambda: public["n"].encode(),
        "jwk": lambda: json.dumps(public).encode(),
    }
    secret = forms[form]()
    text = f"{encoded({'alg': algorithm, 'typ': 'JWT', 'kid': world.key_id})}.{encoded(world.claims)}"
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[algorithm]
    await world.refused(f"{text}.{encoded(hmac.new(secret, text.encode(), digest).digest())}")


@pytest.mark.parametrize("client", ["ps256", "es256", "hs512"])
async def test_c30_an_algorithm_that_keycloak_itself_used_and_we_do_not_allow(
    world: World, client: str
) -> None:
    token = await world.token(client)
    assert decoded(token, 0)["alg"].lower() == client
    await world.refused(token)


@pytest.mark.parametrize(
    "parameter",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"jwk": STRANGERS_KEY.as_dict(private=False)},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/chain.pem"},
        {"x5c": ["MIIB"]},
        {"zip": "DEF"},
    ],
    ids=lambda parameter: ",".join(parameter),
)
async def test_c30_a_header_that_brings_its_own_key_or_rules(world: World, parameter: dict[str, Any]) -> None:
    await world.refused(world.forged(parameter))
    await world.refused(world.forged(parameter, key=STRANGERS_KEY))


@pytest.mark.parametrize("key_id", ["../x", "/etc/passwd", "unknown", "", None, 1, ["a"], "' or 1=1 --"])
async def test_c30_a_key_id_that_names_no_key(world: World, key_id: Any) -> None:
    await world.refused(world.forged({"kid": key_id}))


async def test_c30_the_realms_key_for_encryption(world: World) -> None:
    key = next(one for one in await _certs(world) if one["use"] == "enc")
    await world.refused(world.forged({"kid": key["kid"]}))
    await world.refused(world.forged({"kid": key["kid"], "alg": "RSA-OAEP"} | {"alg": "RS256"}))


async def test_c30_a_strangers_key_under_a_good_key_id(world: World) -> None:
    await world.refused(world.forged(key=STRANGERS_KEY))


async def test_c30_a_flipped_bit_a_cut_and_a_foreign_signature(world: World) -> None:
    head, body, tail = (await world.token()).split(".")
    signature = bytearray(base64.urlsafe_b64decode(tail + "=="))
    signature[100] ^= 1
    other = (await world.token("stranger")).split(".")[2]
    for changed in (encoded(bytes(signature)), tail[:-8], other, tail + "AAAA"):
        await world.refused(f"{head}.{body}.{changed}")
    await world.refused(f"{head}.{encoded({**world.claims, 'realm_access': {'roles': ['Admin']}})}.{tail}")


# --- C30: the claims, rightly signed --------------------------------------------------------


@pytest.mark.parametrize(
    "expiry",
    ["9999999999", float("nan"), float("inf"), 1e308, 4e9, True, -1, 0, 10**30, None, [], {}, ...],
    ids=str,
)
async def test_c30_an_expiry_that_is_none(world: World, expiry: Any) -> None:
    await world.refused(world.forged(exp=expiry))


@pytest.mark.parametrize(
    "issuer",
    [
        lambda iss: [iss],
        lambda iss: {"iss": iss},
        lambda iss: iss + "/",
        lambda iss: iss + "x",
        lambda iss: iss[:-1],
        lambda iss: iss.rpartition("/")[2],
        lambda iss: iss.replace("http://", "https://"),
        lambda iss: iss.replace("127.0.0.1", "localhost"),
        lambda iss: iss.replace("/realms/", "/realms/../realms/"),
        lambda iss: "http://evil.example/realms/" + iss.rpartition("/")[2],
        lambda iss: iss.rpartition("/")[0] + "/master",
        lambda iss: "",
        lambda iss: None,
        lambda iss: ...,
    ],
    ids=range(14),
)
async def test_c30_an_issuer_that_is_not_exactly_ours(world: World, issuer: Callable[[str], Any]) -> None:
    await world.refused(world.forged(iss=issuer(world.claims["iss"])))


@pytest.mark.parametrize("subject", [1, 1.5, True, None, "", ["a"], {}, "a\x00b", "x" * 256, ...], ids=repr)
async def test_c30_a_subject_that_is_no_text(world: World, subject: Any) -> None:
    await world.refused(world.forged(sub=subject))


async def test_c30_a_name_that_occurs_twice(world: World) -> None:
    payload = json.dumps(world.claims)[:-1] + f', "sub": "{world.claims["sub"]}"}}'
    await world.refused(world.signed(payload.encode()))


# --- C31: tokens of other kinds, all of them made by Keycloak ----------------------------------


async def test_c31_a_token_for_another_audience(world: World) -> None:
    token = await world.token("stranger")
    assert decoded(token, 1)["azp"] == "stranger"
    await world.refused(token)


@pytest.mark.parametrize("audience", ["account", [], ["BYODPP-API"], {}, 1, ...], ids=repr)
async def test_c31_an_audience_that_is_not_ours_or_none(world: World, audience: Any) -> None:
    await world.refused(world.forged(aud=audience, azp="stranger"))


async def test_c31_an_identity_token(world: World) -> None:
    token = (await world.persons())["id_token"]
    assert decoded(token, 1)["typ"] == "ID"
    await world.refused(token)
    await world.refused(world.forged(typ="ID"))


async def test_c31_a_refresh_token(world: World) -> None:
    await world.refused((await world.persons())["refresh_token"])


async def test_c31_an_offline_token(world: World) -> None:
    token = (await world.persons("openid offline_access"))["refresh_token"]
    assert decoded(token, 1)["typ"] == "Offline"
    await world.refused(token)


async def test_c31_the_administrators_token_of_the_master_realm(world: World) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_id": world.desk.admin_client,
        "client_secret": world.desk.admin_secret,
    }
    await world.refused((await world.desk.token("master", **form))["access_token"])


async def test_c31_another_realms_issuer_under_this_realms_key(world: World) -> None:
    await world.refused(world.forged(iss=f"{world.desk.url}/realms/{world.other}"))


async def test_c31_a_token_that_never_expires_and_one_that_has(world: World) -> None:
    now = int(time.time())
    await world.refused(world.forged(exp=...))
    await world.refused(world.forged(iat=now - 100, exp=now - 31))
    await world.refused(world.forged(iat=now + 3_600, exp=now + 7_200))
    await world.refused(world.forged(nbf=now + 3_600))


async def test_c31_a_light_token_without_a_subject_is_refused_and_not_an_error(world: World) -> None:
    token = await world.token("light")
    if "sub" in decoded(token, 1):
        token = world.forged(sub=...)
    await world.refused(token)


# --- C32: another tenant ------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["robot", "liar"])
async def test_c32_the_tenant_comes_from_the_verified_issuer_alone(world: World, client: str) -> None:
    async with world.application.connected.database.system() as transaction:
        beta = await transaction.fetchval("select id from tenants where slug = 'beta'")
        await transaction.execute("set local byodpp.tenant = '0'")
        await transaction.execute("insert into notes (tenant_id, title) values ($1, 'of beta')", beta)
    try:
        token = await world.token(client)
        assert decoded(token, 1).get("tenantId") == (world.other if client == "liar" else None)
        for named in (
            {"headers": {"Host": f"{world.other}.example.com"}},
            {"headers": {"Host": "beta.example.com", "X-Forwarded-Host": "beta.example.com"}},
            {"headers": {"X-Tenant-Id": world.other, "X-Realm": world.other}},
            {"params": {"filter[title][eq]": "of beta"}},
        ):
            answer = await world.answer(token, **named)
            assert (answer.status_code, answer.json()["count"]) == (200, 0), answer.text
        for header in (world.other, "beta"):
            answer = await world.answer(token, headers={"X-Tenant": header})
            assert answer.status_code == 403, answer.text
        unknown = await world.answer(token, headers={"X-Tenant": "nobody"})
        assert unknown.json()["error"]["message"] == answer.json()["error"]["message"]
        answer = await world.answer(token, params={"tenantId": world.other})
        assert answer.status_code == 400
        made = await world.answer(token, method="POST", json={"title": "mine", "tenantId": beta})
        assert made.status_code == 422
    finally:
        async with world.application.connected.database.system() as transaction:
            await transaction.execute("delete from notes where title = 'of beta'")


async def test_c32_the_other_realms_token_sees_the_other_tenant_only(world: World) -> None:
    token = await world.token(realm=world.other)
    answer = await world.answer(token, headers={"X-Tenant": "acme"})
    assert answer.status_code == 403


# --- C34: encrypted, compressed, enormous ---------------------------------------------------------


def bomb() -> str:
    registry = jwe.JWERegistry(algorithms=["dir", "A256GCM", "DEF"])
    header = {"alg": "dir", "enc": "A256GCM", "zip": "DEF"}
    return jwe.encrypt_compact(header, b"0" * 200_000, OctKey.generate_key(256), registry=registry)


def costly() -> str:
    header = {"alg": "PBES2-HS512+A256KW", "enc": "A256GCM", "p2c": 10**9, "p2s": "AAAA"}
    return f"{encoded(header)}.AAAA.AAAA.AAAA.AAAA"


@pytest.mark.parametrize("make", [bomb, costly], ids=["zip-bomb", "p2c-1e9"])
async def test_c34_an_encrypted_token_costs_nothing(world: World, make: Callable[[], str]) -> None:
    token = make()
    await world.refused(token)
    with computing() as taken:
        for _ in range(10):
            assert (await world.answer(token)).status_code == 401
    assert taken.seconds / 10 < 0.05


@pytest.mark.parametrize("size", [9_000, 30_000, 100_000])
async def test_c34_an_enormous_token_costs_nothing(world: World, size: int) -> None:
    token = await world.token()
    huge = world.signed(json.dumps({**world.claims, "padding": "x" * size}).encode())
    for sent in (huge, token + "A" * size, "a" * size):
        with computing() as taken:
            answer = await world.answer(sent)
            assert answer.status_code == (401 if len(sent) < 32_000 else 431), answer.text
        assert taken.seconds < 0.05
    assert (await world.answer(token)).status_code == 200


# --- C35: what Keycloak has revoked ----------------------------------------------------------------


async def test_c35_a_realms_not_before_ends_sessions_though_tokens_are_checked_here(world: World) -> None:
    """No token is introspected, so one that was issued before runs out by itself; none is renewed."""
    person = await world.persons()
    await world.desk.ask("PUT", world.realm, {"notBefore": int(time.time()) + 1})
    try:
        assert (await world.answer(person["access_token"])).status_code == 200
        form = {"client_id": "robot", "client_secret": "s3cret", "refresh_token": person["refresh_token"]}
        renewed = await world.desk.token(world.realm, grant_type="refresh_token", **form)
        assert renewed["error"] == "invalid_grant"
    finally:
        await world.desk.ask("PUT", world.realm, {"notBefore": 0})


async def _certs(world: World) -> list[dict[str, Any]]:
    async with httpx2.AsyncClient(timeout=60) as client:
        answer = await client.get(f"{world.desk.url}/realms/{world.realm}/protocol/openid-connect/certs")
        found: list[dict[str, Any]] = answer.json()["keys"]
        return found
