"""Access tokens: what is accepted, and every way of cheating that is refused with 401."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwe, jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import OctKey, RSAKey

from byodpp.authentication.signing_keys import SigningKeys
from byodpp.authentication.tokens import MAX_TOKEN_BYTES, TokenVerifier
from byodpp.exceptions import AuthUnavailable, SettingsError, Unauthenticated
from byodpp.identity import LocalIssuer
from tests.computing import computing

TENANT = "01JD0000000000000000000001"
OTHER = "01JD0000000000000000000002"
ISSUER = f"http://localhost:3000/realms/{TENANT}"


class Provider:
    """An issuer with one key per realm, whose private half the tests hold."""

    def __init__(self, realms: Mapping[str, RSAKey]) -> None:
        self.realms = dict(realms)
        self.away = False
        self.asked: list[str] = []
        self.extra_keys: list[dict[str, Any]] = []

    def issuer_url(self, realm: str) -> str:
        return f"http://localhost:3000/realms/{realm}"

    async def signing_keys(self, realm: str) -> Mapping[str, Any] | None:
        self.asked.append(realm)
        if self.away:
            raise OSError("connection refused")
        key = self.realms.get(realm)
        return None if key is None else {"keys": [key.as_dict(private=False), *self.extra_keys]}


def made_key(key_id: str, **parameters: Any) -> RSAKey:
    made: Any = {"kid": key_id, "use": "sig", "alg": "RS256", **parameters}
    return RSAKey.generate_key(2048, parameters=made)


KEY = made_key("key-1")
OTHER_KEY = made_key("key-2")


@pytest.fixture
def provider() -> Provider:
    return Provider({TENANT: KEY, OTHER: OTHER_KEY})


@pytest.fixture
def verifier(provider: Provider) -> TokenVerifier:
    return TokenVerifier(provider, audience="byodpp-api")


def good_claims(**changes: Any) -> dict[str, Any]:
    """Claims of a good token; a change to None removes one."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": ["byodpp-api", "account"],
        "azp": "frontend",
        "typ": "Bearer",
        "sub": "8d7b2b1e-7e0c-4c55-8b4e-0c2d3f0b1a11",
        "jti": "a-token",
        "iat": now,
        "exp": now + 300,
        "realm_access": {"roles": ["Manager"]},
        "preferred_username": "anna",
        "email": "anna@example.com",
        "email_verified": True,
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def encoded(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(payload: Any, header: Mapping[str, Any] | None = None, key: RSAKey = KEY) -> str:
    """Sign whatever is given with RS256, whatever the header says."""
    content = {"alg": "RS256", "typ": "JWT", "kid": "key-1", **(header or {})}
    start = (
        f"{encoded({name: value for name, value in content.items() if value is not None})}.{encoded(payload)}"
    )
    model = jws.JWSRegistry(algorithms=["RS256"]).get_alg("RS256")
    return f"{start}.{encoded(model.sign(start.encode(), key))}"


async def refused(verifier: TokenVerifier, token: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as refusal:
        await verifier.verify(token)
    assert 'error="invalid_token"' in refusal.value.headers["WWW-Authenticate"]
    return refusal.value


# --- what is accepted -----------------------------------------------------------------


async def test_a_good_token_gives_its_claims(verifier: TokenVerifier) -> None:
    claims = await verifier.verify(signed(good_claims(name="Anna", scope="openid email", sid="s")))
    assert (claims.realm, claims.issuer, claims.client) == (TENANT, ISSUER, "frontend")
    assert claims.roles == {"Manager"}
    assert claims.scopes == {"openid", "email"}
    assert (claims.name, claims.user_name, claims.email) == ("Anna", "anna", "anna@example.com")
    assert (claims.token_id, claims.session_id) == ("a-token", "s")


@pytest.mark.parametrize("verified", [False, None, "true", 1], ids=str)
async def test_an_address_that_nobody_has_verified_is_not_taken_for_the_users(
    verifier: TokenVerifier, verified: Any
) -> None:
    claims = await verifier.verify(signed(good_claims(email_verified=verified)))
    assert claims.email is None
    assert (await verifier.verify(signed(good_claims()))).email == "anna@example.com"


async def test_a_token_for_our_client_is_accepted_by_its_azp(verifier: TokenVerifier) -> None:
    assert await verifier.verify(signed(good_claims(aud="account", azp="byodpp-api")))


async def test_a_token_without_roles_has_none(verifier: TokenVerifier) -> None:
    assert (await verifier.verify(signed(good_claims(realm_access=None)))).roles == frozenset()


async def test_clocks_may_differ_by_the_leeway_and_no_more(provider: Provider) -> None:
    now = int(time.time())
    verifier = TokenVerifier(provider, audience="byodpp-api", leeway_seconds=30, clock=lambda: now)
    assert await verifier.verify(signed(good_claims(iat=now - 300, exp=now - 28)))
    assert await verifier.verify(signed(good_claims(iat=now + 28, nbf=now + 28)))
    await refused(verifier, signed(good_claims(iat=now - 300, exp=now - 31)))
    await refused(verifier, signed(good_claims(nbf=now + 33)))


@pytest.mark.parametrize("leeway", [-1, 31, 3600])
def test_a_leeway_beyond_thirty_seconds_is_no_setting(provider: Provider, leeway: int) -> None:
    with pytest.raises(SettingsError):
        TokenVerifier(provider, audience="byodpp-api", leeway_seconds=leeway)


@pytest.mark.parametrize("algorithms", [[], ["HS256"], ["none"], ["RS256", "HS512"]])
def test_only_asymmetric_algorithms_may_be_allowed(provider: Provider, algorithms: list[str]) -> None:
    with pytest.raises(SettingsError):
        TokenVerifier(provider, audience="byodpp-api", algorithms=algorithms)


async def test_the_local_issuers_tokens_are_accepted(tmp_path: Path) -> None:
    issuer = LocalIssuer(
        state_folder=tmp_path, base_url="http://127.0.0.1:3000", audience="byodpp-api", environment="dev"
    )
    verifier = TokenVerifier(issuer, audience="byodpp-api")
    claims = await verifier.verify(issuer.issue(TENANT, "anna", roles=["Admin"]))
    assert claims.realm == TENANT
    assert claims.roles == {"Admin"}


async def test_a_remembered_token_expires_all_the_same(provider: Provider) -> None:
    now = [time.time()]
    verifier = TokenVerifier(provider, audience="byodpp-api", clock=lambda: now[0])
    token = signed(good_claims())
    claims = await verifier.verify(token)
    assert await verifier.verify(token) is claims
    verifier.refuse_expired(claims)
    now[0] += 331
    with pytest.raises(Unauthenticated, match="expired"):
        verifier.refuse_expired(claims)
    await refused(verifier, token)
    await refused(verifier, token)


async def test_the_memory_of_tokens_is_bounded(provider: Provider) -> None:
    verifier = TokenVerifier(provider, audience="byodpp-api", max_remembered=3)
    for number in range(6):
        await verifier.verify(signed(good_claims(jti=str(number))))
    assert len(verifier._remembered) == 3


async def test_of_too_many_tokens_those_stay_that_are_used(provider: Provider) -> None:
    verifier = TokenVerifier(provider, audience="byodpp-api", max_remembered=3)
    used = signed(good_claims(jti="used"))
    await verifier.verify(used)
    for number in range(20):
        await verifier.verify(signed(good_claims(jti=str(number))))
        assert verifier.remembered(used) is not None
    for number in range(20, 27):
        await verifier.verify(signed(good_claims(jti=str(number))))
    assert verifier.remembered(used) is None
    assert len(verifier._remembered) == 3


async def test_what_is_known_of_a_token_without_waiting_ends_with_its_key(provider: Provider) -> None:
    now = [1_000.0]
    keys = SigningKeys(provider, clock=lambda: now[0])
    verifier = TokenVerifier(provider, audience="byodpp-api", keys=keys)
    token = signed(good_claims())
    await verifier.verify(token)
    assert verifier.remembered(token) is verifier.remembered(token) is not None
    keys.forget(OTHER)
    assert verifier.remembered(token) is not None, "another realm's keys are no matter"
    now[0] += 31
    assert verifier.remembered(token) is None, "the keys are to be looked at"
    await verifier.verify(token)
    fetching = keys.ring(TENANT).task
    assert fetching is not None and await fetching
    assert verifier.remembered(token) is not None, "they were found as they were"
    keys.forget(TENANT)
    assert verifier.remembered(token) is None
    await verifier.verify(token)
    provider.realms[TENANT] = made_key("key-3")
    assert await keys.find(TENANT, "key-3") is not None
    assert verifier.remembered(token) is None, "the key has gone before anybody was to look for it"


async def test_the_same_token_again_costs_a_lookup(verifier: TokenVerifier) -> None:
    token = signed(good_claims())
    await verifier.verify(token)
    rounds = []
    for _ in range(7):
        start = time.process_time()
        for _ in range(2_000):
            await verifier.verify(token)
        rounds.append((time.process_time() - start) / 2_000)
    assert min(rounds) < 15e-6  # about 2 us on a quiet machine; a signature alone is 20


# --- C30: algorithm, header, key and claims -------------------------------------------


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, 0, ["RS256"], {"RS256": 1}])
async def test_c30_a_token_without_a_signature_algorithm_is_refused(
    verifier: TokenVerifier, name: Any
) -> None:
    header = encoded({"alg": name, "typ": "JWT", "kid": "key-1"})
    await refused(verifier, f"{header}.{encoded(good_claims())}.")
    await refused(verifier, f"{header}.{encoded(good_claims())}.AAAA")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_c30_a_token_signed_with_the_public_key_as_a_secret_is_refused(
    verifier: TokenVerifier, algorithm: str
) -> None:
    start = f"{encoded({'alg': algorithm, 'typ': 'JWT', 'kid': 'key-1'})}.{encoded(good_claims())}"
    digest = getattr(hashlib, f"sha{algorithm[2:]}")
    for secret in (
        KEY.as_pem(private=False),
        KEY.as_der(private=False),
        json.dumps(KEY.as_dict(private=False)).encode(),
    ):
        signature = hmac.new(secret, start.encode(), digest).digest()
        await refused(verifier, f"{start}.{encoded(signature)}")


async def test_c30_an_algorithm_that_is_not_on_the_list_is_refused_though_rightly_signed(
    verifier: TokenVerifier,
) -> None:
    key = RSAKey.import_key(
        {name: value for name, value in KEY.as_dict(private=True).items() if name != "alg"}
    )
    header = {"alg": "PS256", "typ": "JWT", "kid": "key-1"}
    await refused(verifier, jws.serialize_compact(header, json.dumps(good_claims()), key, ["PS256"]))


async def test_c30_the_keys_own_algorithm_does_not_widen_the_list(provider: Provider) -> None:
    key = made_key("key-1", alg="PS256")
    provider.realms[TENANT] = key
    verifier = TokenVerifier(provider, audience="byodpp-api")
    header = {"alg": "PS256", "typ": "JWT", "kid": "key-1"}
    await refused(verifier, jws.serialize_compact(header, json.dumps(good_claims()), key, ["PS256"]))
    await refused(verifier, signed(good_claims(), key=key))


@pytest.mark.parametrize(
    "parameter",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"jwk": OTHER_KEY.as_dict(private=False)},
        {"jku": "http://evil.example/keys"},
        {"x5u": "http://evil.example/chain.pem"},
        {"x5c": ["MIIB"]},
        {"zip": "DEF"},
        {"cty": "JWT"},
    ],
    ids=lambda parameter: ",".join(parameter),
)
async def test_c30_a_header_that_brings_its_own_key_or_rules_is_refused(
    verifier: TokenVerifier, parameter: dict[str, Any]
) -> None:
    await refused(verifier, signed(good_claims(), parameter))
    await refused(verifier, signed(good_claims(), parameter, key=OTHER_KEY))


@pytest.mark.parametrize(
    "key_id",
    ["../x", "../../etc/passwd", "key-1\x00", "key-1\n", "", "k" * 129, 1, None, ["key-1"], "key 1", "é"],
)
async def test_c30_a_key_id_that_is_none_is_refused_without_asking_the_provider(
    verifier: TokenVerifier, provider: Provider, key_id: Any
) -> None:
    await refused(verifier, signed(good_claims(), {"kid": key_id}))
    assert provider.asked == []


async def test_c30_a_key_for_encryption_signs_nothing(provider: Provider) -> None:
    key = made_key("enc-key", use="enc", alg="RSA-OAEP")
    provider.extra_keys = [key.as_dict(private=False)]
    verifier = TokenVerifier(provider, audience="byodpp-api")
    plain = RSAKey.import_key({n: v for n, v in key.as_dict(private=True).items() if n not in ("use", "alg")})
    await refused(verifier, signed(good_claims(), {"kid": "enc-key"}, key=plain))


async def test_c30_a_symmetric_or_weak_key_in_the_key_set_is_not_used(provider: Provider) -> None:
    secret = base64.urlsafe_b64encode(b"s" * 32).rstrip(b"=").decode()
    with pytest.warns(SecurityWarning):
        weak = RSAKey.generate_key(1024, parameters={"kid": "weak", "use": "sig"})
    provider.extra_keys = [{"kty": "oct", "kid": "oct", "k": secret}, weak.as_dict(private=False)]
    verifier = TokenVerifier(provider, audience="byodpp-api")
    await refused(verifier, signed(good_claims(), {"kid": "weak"}, key=weak))
    await refused(verifier, signed(good_claims(), {"kid": "oct"}))
    assert await verifier.verify(signed(good_claims()))


async def test_c30_one_flipped_bit_anywhere_in_the_signature_is_noticed(verifier: TokenVerifier) -> None:
    head, _, tail = signed(good_claims()).rpartition(".")
    signature = base64.urlsafe_b64decode(tail + "==")
    for index in range(0, len(signature), 16):
        flipped = bytearray(signature)
        flipped[index] ^= 1
        await refused(verifier, f"{head}.{encoded(bytes(flipped))}")
    await refused(verifier, f"{head}.{tail[:-4]}")


async def test_c30_a_changed_payload_is_noticed(verifier: TokenVerifier) -> None:
    head, _, tail = signed(good_claims()).split(".")
    await refused(verifier, f"{head}.{encoded(good_claims(realm_access={'roles': ['Admin']}))}.{tail}")


@pytest.mark.parametrize(
    "expiry",
    [
        "9999999999",
        "in a minute",
        math.nan,
        math.inf,
        -math.inf,
        1e308,
        4e9,
        True,
        -1,
        0,
        10**30,
        None,
        [],
        {},
    ],
    ids=str,
)
async def test_c30_an_expiry_that_is_no_whole_number_of_seconds_is_refused(
    verifier: TokenVerifier, expiry: Any
) -> None:
    if expiry == "in a minute":  # said here: the names of tests do not change from process to process
        expiry = str(int(time.time()) + 60)
    await refused(verifier, signed(good_claims(exp=expiry)))


@pytest.mark.parametrize("digits", ["9" * 5_000, "1" + "0" * 400 + ".0"])
async def test_c30_an_expiry_of_thousands_of_digits_is_refused(verifier: TokenVerifier, digits: str) -> None:
    payload = json.dumps(good_claims(exp=1)).replace('"exp": 1', f'"exp": {digits}')
    await refused(verifier, signed(payload.encode()))


@pytest.mark.parametrize("claim", ["iat", "nbf"])
@pytest.mark.parametrize("value", ["1", math.nan, 1e308, 1.5, True, -1, [], 10**30], ids=str)
async def test_c30_other_times_that_are_none_are_refused(
    verifier: TokenVerifier, claim: str, value: Any
) -> None:
    await refused(verifier, signed(good_claims(**{claim: value})))


async def test_c30_a_token_from_the_future_or_without_a_time_of_issue_is_refused(
    verifier: TokenVerifier,
) -> None:
    now = int(time.time())
    await refused(verifier, signed(good_claims(iat=now + 3600, exp=now + 7200)))
    await refused(verifier, signed(good_claims(iat=now, exp=now - 1)))
    await refused(verifier, signed(good_claims(iat=None)))


@pytest.mark.parametrize(
    "issuer",
    [
        [ISSUER],
        {"iss": ISSUER},
        None,
        1,
        "",
        TENANT,
        f"{ISSUER}/",
        f"{ISSUER}x",
        ISSUER[:-1],
        f" {ISSUER}",
        f"{ISSUER}\n",
        ISSUER.replace("http://", "https://"),
        ISSUER.replace("localhost", "LOCALHOST"),
        ISSUER.lower(),
        f"http://evil.example/realms/{TENANT}",
        f"http://localhost:3000/realms/../realms/{TENANT}",
        f"http://localhost:3000/realms/x/{TENANT}",
        "http://localhost:3000/realms/..",
    ],
    ids=repr,
)
async def test_c30_an_issuer_that_is_not_exactly_ours_is_refused(
    verifier: TokenVerifier, issuer: Any
) -> None:
    await refused(verifier, signed(good_claims(iss=issuer)))


@pytest.mark.parametrize(
    "subject", [1, 1.5, True, None, "", ["a"], {}, "a\x00b", "\ud800", "x" * 256], ids=repr
)
async def test_c30_a_subject_that_is_no_text_is_refused(verifier: TokenVerifier, subject: Any) -> None:
    await refused(verifier, signed(good_claims(sub=subject)))


@pytest.mark.parametrize(
    "access",
    [[], "Admin", 1, {"roles": "Admin"}, {"roles": [1]}, {"roles": [["Admin"]]}, {"roles": ["x"] * 1_000}],
)
async def test_c30_roles_that_cannot_be_read_are_refused(verifier: TokenVerifier, access: Any) -> None:
    await refused(verifier, signed(good_claims(realm_access=access)))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "é.é.é",
        "\ud800.a.b",
        "AAAA.AAAA.AAAA",
        f"{encoded([])}.{encoded([])}.AAAA",
        f"{encoded(b'null')}.{encoded(b'null')}.AAAA",
        f"{encoded(b'x')}.{encoded({})}.AAAA",
        f"{encoded(bytes([255, 254]))}.{encoded({})}.AAAA",
        f"{encoded(b'[' * 4_000)}.{encoded({})}.AAAA",
        f"{encoded({'alg': 'RS256', 'kid': 'key-1'})}.{encoded(b'[' * 4_000)}.AAAA",
        f"{encoded({'alg': 'RS256', 'kid': 'key-1'})}.{encoded(b'{' * 100)}.AAAA",
        "A.A.A",
    ],
)
async def test_c30_what_is_no_token_at_all_is_refused(verifier: TokenVerifier, token: str) -> None:
    await refused(verifier, token)


async def test_c30_a_name_that_occurs_twice_is_refused(verifier: TokenVerifier) -> None:
    payload = json.dumps(good_claims())[:-1] + f', "iss": "{ISSUER}"}}'
    await refused(verifier, signed(payload.encode()))


# --- C31: tokens of other kinds -------------------------------------------------------


@pytest.mark.parametrize(
    "audience", [None, "account", [], ["account"], "byodpp-api-2", ["BYODPP-API"], {}, 1, [["byodpp-api"]]]
)
async def test_c31_a_token_for_another_audience_is_refused(verifier: TokenVerifier, audience: Any) -> None:
    await refused(verifier, signed(good_claims(aud=audience)))


@pytest.mark.parametrize("client", [["byodpp-api"], {"byodpp-api": 1}, 1, ""])
async def test_c31_a_client_that_is_no_text_is_not_ours(verifier: TokenVerifier, client: Any) -> None:
    await refused(verifier, signed(good_claims(aud="account", azp=client)))


@pytest.mark.parametrize("kind", ["ID", "Refresh", "Offline", "Logout", "bearer", None, ["Bearer"], 1])
async def test_c31_a_token_that_is_no_access_token_is_refused(verifier: TokenVerifier, kind: Any) -> None:
    await refused(verifier, signed(good_claims(typ=kind)))


@pytest.mark.parametrize("kind", ["JOSE", "logout+jwt", "dpop+jwt", 1, None.__class__.__name__, ["JWT"]])
async def test_c31_a_header_of_another_type_is_refused(verifier: TokenVerifier, kind: Any) -> None:
    await refused(verifier, signed(good_claims(), {"typ": kind}))


async def test_c31_a_token_thirty_one_seconds_past_its_expiry_is_refused(verifier: TokenVerifier) -> None:
    now = int(time.time())
    await refused(verifier, signed(good_claims(iat=now - 100, exp=now - 31)))


# --- C32: another tenant's realm ------------------------------------------------------


async def test_c32_another_realms_key_does_not_sign_for_this_one(verifier: TokenVerifier) -> None:
    await refused(verifier, signed(good_claims(), key=OTHER_KEY))
    await refused(verifier, signed(good_claims(), {"kid": "key-2"}, key=OTHER_KEY))


async def test_c32_the_realm_comes_from_the_issuer_and_from_nothing_else(verifier: TokenVerifier) -> None:
    token = signed(good_claims(tenantId=OTHER, tenant_id=OTHER, realm=OTHER, organization=OTHER))
    assert (await verifier.verify(token)).realm == TENANT


async def test_c32_an_invented_realm_is_never_asked_for(provider: Provider) -> None:
    async def known(realm: str) -> bool:
        return realm == TENANT

    verifier = TokenVerifier(provider, audience="byodpp-api", known_realm=known)
    for number in range(20):
        await refused(verifier, signed(good_claims(iss=f"http://localhost:3000/realms/invented-{number}")))
    assert provider.asked == []


# --- C34: encrypted, compressed and enormous ------------------------------------------


async def test_c34_encrypted_tokens_are_refused_before_anything_is_computed(verifier: TokenVerifier) -> None:
    registry = jwe.JWERegistry(algorithms=["dir", "A256GCM", "DEF"])
    bomb = jwe.encrypt_compact(
        {"alg": "dir", "enc": "A256GCM", "zip": "DEF"},
        b"0" * 200_000,
        OctKey.generate_key(256),
        registry=registry,
    )
    header = {"alg": "PBES2-HS512+A256KW", "enc": "A256GCM", "p2c": 10**9, "p2s": "AAAA", "kid": "key-1"}
    costly = f"{encoded(header)}.AAAA.AAAA.AAAA.AAAA"
    three_parts = f"{encoded(header)}.{encoded(good_claims())}.AAAA"
    with computing() as taken:
        for token in (bomb, costly, three_parts):
            await refused(verifier, token)
    assert taken.seconds < 0.5


@pytest.mark.parametrize("size", [MAX_TOKEN_BYTES + 1, 100_000, 1_000_000])
async def test_c34_a_token_beyond_eight_kilobytes_is_refused_at_once(
    verifier: TokenVerifier, size: int
) -> None:
    with computing() as taken:
        for token in ("a" * size, ("a" * (size // 3) + ".") * 3, "." * size):
            await refused(verifier, token)
    assert taken.seconds < 0.5


# --- the provider is away -------------------------------------------------------------


async def test_an_unknown_key_while_the_provider_is_away_is_503_and_known_tokens_go_on(
    provider: Provider,
) -> None:
    verifier = TokenVerifier(provider, audience="byodpp-api")
    token = signed(good_claims())
    await verifier.verify(token)
    provider.away = True
    with pytest.raises(AuthUnavailable) as answer:
        await verifier.verify(signed(good_claims(), {"kid": "key-9"}))
    assert int(answer.value.headers["Retry-After"]) >= 1
    assert await verifier.verify(token)
    assert await verifier.verify(signed(good_claims(jti="another")))


async def test_a_remembered_token_ends_with_its_key_and_survives_the_keys_being_fetched_anew(
    provider: Provider,
) -> None:
    now = [0.0]
    keys = SigningKeys(provider, clock=lambda: now[0])
    verifier = TokenVerifier(provider, audience="byodpp-api", keys=keys)
    token = signed(good_claims())
    await verifier.verify(token)
    keys.forget(TENANT)
    assert await verifier.verify(token)
    now[0] += 55
    assert await verifier.verify(token)
    provider.realms[TENANT] = OTHER_KEY
    now[0] += 55
    await refused(verifier, token)


async def test_rubbish_is_401_even_while_the_provider_is_away(provider: Provider) -> None:
    provider.away = True
    verifier = TokenVerifier(provider, audience="byodpp-api")
    await refused(verifier, signed(good_claims(typ="ID")))
    assert provider.asked == []
