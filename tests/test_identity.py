"""The local issuer: Keycloak's addresses and token shape, from keys in a private folder."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from byodpp.exceptions import NotFound, StartError
from byodpp.identity import IdentityProvider, LocalIssuer
from byodpp.identity.administration import RealmPlan
from byodpp.identity.keys import KeyFolder

TENANT = "01JD0000000000000000000001"
OTHER = "01JD0000000000000000000002"

Issuer = Callable[..., LocalIssuer]


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    def make(environment: str = "test") -> LocalIssuer:
        return LocalIssuer(
            state_folder=tmp_path / ".byodpp",
            base_url="http://localhost:3000/",
            audience="byodpp-api",
            environment=environment,
        )

    return make


def payload_of(token: str) -> dict[str, Any]:
    segment = token.split(".")[1]
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return value


@pytest.mark.parametrize("environment", ["stage", "prod"])
def test_the_local_issuer_refuses_to_exist_outside_development(issuer: Issuer, environment: str) -> None:
    with pytest.raises(StartError, match=f"does not run in {environment}"):
        issuer(environment)


def test_the_local_issuer_is_an_identity_provider(issuer: Issuer) -> None:
    provider: IdentityProvider = issuer()
    assert provider.issuer_url(TENANT) == f"http://localhost:3000/realms/{TENANT}"


def test_a_token_has_the_claims_that_keycloaks_have(issuer: Issuer) -> None:
    token = issuer().issue(
        TENANT, "anna", roles=["Manager", "Admin", "Admin"], name="Anna A", email="anna@example.com"
    )
    payload = payload_of(token)
    assert payload["iss"] == f"http://localhost:3000/realms/{TENANT}"
    assert payload["aud"] == payload["azp"] == "byodpp-api"
    assert payload["typ"] == "Bearer"
    assert payload["exp"] - payload["iat"] == 3600
    assert payload["realm_access"] == {"roles": ["Admin", "Manager"]}
    assert (payload["preferred_username"], payload["email"]) == ("anna", "anna@example.com")
    assert {"jti", "sub", "sid"} <= payload.keys()


def test_the_same_name_is_the_same_subject_and_two_tokens_are_two(issuer: Issuer) -> None:
    one, two = (payload_of(issuer().issue(TENANT, "anna")) for _ in range(2))
    assert one["sub"] == two["sub"]
    assert one["jti"] != two["jti"]


async def test_a_token_verifies_with_the_published_keys_of_its_realm_only(issuer: Issuer) -> None:
    local = issuer()
    token = local.issue(TENANT, "anna")
    local.ensure_realm(OTHER)
    certs: Any = dict(await local.certs(TENANT))
    assert jwt.decode(token, KeySet.import_key_set(certs), algorithms=["RS256"]).claims["typ"] == "Bearer"
    foreign: Any = dict(await local.certs(OTHER))
    assert {key["kid"] for key in foreign["keys"]}.isdisjoint(key["kid"] for key in certs["keys"])


async def test_published_keys_hold_nothing_private(issuer: Issuer) -> None:
    local = issuer()
    local.ensure_realm(TENANT)
    for key in (await local.certs(TENANT))["keys"]:
        assert set(key) == {"kty", "n", "e", "kid", "use", "alg"}


async def test_the_configuration_names_issuer_and_keys_and_no_token_endpoint(issuer: Issuer) -> None:
    local = issuer()
    local.ensure_realm(TENANT)
    document = await local.configuration(TENANT)
    assert document["issuer"] == local.issuer_url(TENANT)
    assert document["jwks_uri"] == f"{local.issuer_url(TENANT)}/protocol/openid-connect/certs"
    assert "token_endpoint" not in document


@pytest.mark.parametrize("realm", [OTHER, "../keys", "", "a/b", ".hidden", "x" * 65, "a\x00b"])
async def test_a_realm_that_was_never_used_does_not_exist(issuer: Issuer, realm: str) -> None:
    local = issuer()
    local.ensure_realm(TENANT)
    assert await local.signing_keys(realm) is None
    with pytest.raises(NotFound):
        await local.certs(realm)
    with pytest.raises(NotFound):
        await local.configuration(realm)


def test_a_realm_whose_name_leaves_the_folder_is_refused(issuer: Issuer) -> None:
    with pytest.raises(StartError, match="name of a realm"):
        issuer().issue("../evil", "anna")


def test_key_files_are_readable_by_their_owner_only(issuer: Issuer, tmp_path: Path) -> None:
    issuer().ensure_realm(TENANT)
    folder = tmp_path / ".byodpp" / "keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == [f"{TENANT}.json"]
    assert stat.S_IMODE((folder / f"{TENANT}.json").stat().st_mode) == 0o600


async def test_keys_outlive_the_process_and_are_shared_with_a_second_one(issuer: Issuer) -> None:
    first, second = issuer(), issuer()
    assert await second.signing_keys(TENANT) is None
    first.ensure_realm(TENANT)
    assert await second.signing_keys(TENANT) == await first.signing_keys(TENANT)


async def test_telling_the_public_keys_neither_shows_nor_checks_the_private_ones(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer().ensure_realm(TENANT)
    expected = issuer()._folder.ensure(TENANT)[0].as_dict(private=False)
    read: list[Any] = []
    original = RSAKey.import_key

    def watched(key: Any, *more: Any) -> RSAKey:
        read.append(key)
        return original(key, *more)

    monkeypatch.setattr(RSAKey, "import_key", watched)
    assert await issuer().signing_keys(TENANT) == {"keys": [expected]}
    assert len(read) == 1 and not any(name in read[0] for name in ("d", "p", "q"))


async def test_a_new_key_is_signed_with_at_once_and_checked_by_nobody_but_who_reads_it(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, read = issuer(), list[Any]()
    original = RSAKey.import_key

    def watched(key: Any, *more: Any) -> RSAKey:
        read.append(key)
        return original(key, *more)

    monkeypatch.setattr(RSAKey, "import_key", watched)
    local.ensure_realm(TENANT)
    local.rotate_keys(TENANT)
    token = local.issue(TENANT, "anna")
    assert read == []
    assert len(issuer()._folder.ensure(TENANT)) == len(read) == 2
    keys = KeySet.import_key_set(dict(await issuer().certs(TENANT)))  # type: ignore[arg-type]
    assert jwt.decode(token, keys, algorithms=["RS256"]).claims["iss"] == local.issuer_url(TENANT)


async def test_two_processes_that_make_a_realm_at_once_agree_on_its_keys(tmp_path: Path) -> None:
    folders = [KeyFolder(tmp_path / "keys") for _ in range(2)]
    # What the second does after the first has written, having seen no file before.
    first = folders[0].ensure(TENANT)
    folders[1]._write(TENANT, first[:0] or KeyFolder(tmp_path / "other").ensure(TENANT), replace=False)
    assert folders[1].ensure(TENANT)[0].kid == first[0].kid


async def test_rotation_signs_with_a_new_key_and_keeps_the_former_one_published(issuer: Issuer) -> None:
    local = issuer()
    old = local.issue(TENANT, "anna")
    local.rotate_keys(TENANT)
    new = local.issue(TENANT, "anna")
    assert old.split(".")[0] != new.split(".")[0]
    keys = KeySet.import_key_set(dict(await local.certs(TENANT)))  # type: ignore[arg-type]
    for token in (old, new):
        assert jwt.decode(token, keys, algorithms=["RS256"]).claims["iss"] == local.issuer_url(TENANT)


async def test_what_another_process_does_to_a_realm_is_told_at_the_next_question(issuer: Issuer) -> None:
    local, other = issuer(), issuer()
    plan = RealmPlan(name=TENANT, display_name="a")
    await other.administration.put_realm(plan)
    first = await local.signing_keys(TENANT)
    assert first is not None and await local.signing_keys(TENANT) is first, (
        "read again though nothing changed"
    )
    other.rotate_keys(TENANT)
    second = await local.signing_keys(TENANT)
    assert second is not None and len(second["keys"]) == 2
    await other.administration.update_realm(TENANT, enabled=False)
    assert await local.signing_keys(TENANT) is None
    await other.administration.update_realm(TENANT, enabled=True)
    assert await local.signing_keys(TENANT) == second
    other.remove_realm(TENANT)
    assert await local.signing_keys(TENANT) is None


async def test_a_removed_realm_has_no_keys(issuer: Issuer) -> None:
    local = issuer()
    local.ensure_realm(TENANT)
    local.remove_realm(TENANT)
    assert await local.signing_keys(TENANT) is None


def test_a_damaged_key_file_is_named(issuer: Issuer, tmp_path: Path) -> None:
    issuer().ensure_realm(TENANT)
    path = tmp_path / ".byodpp" / "keys" / f"{TENANT}.json"
    path.write_text('{"keys": []}')
    with pytest.raises(StartError, match=r"delete it to have new ones made"):
        issuer().issue(TENANT, "anna")
