"""How people sign in at a tenant's realm: with a second factor, and at a provider of the tenant's own.

The provider is another realm of the same real Keycloak, which knows nothing of us but what it is told.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from ulid import ULID

from byodpp.exceptions import ValidationFailed
from byodpp.identity import IdentityAdministration, Person, RealmPlan, SignInProvider
from byodpp.identity.keycloak import Credentials, Keycloak, KeycloakServer, RealmStandard
from tests.keycloak_server import KeycloakDesk
from tests.sign_in_forms import Walked, code_of, walk

pytestmark = pytest.mark.keycloak

APPLICATION = "https://app.example.com"
LANDING = f"{APPLICATION}/signed-in"
WEB = "byodpp-web"
PASSWORD = "correct-Horse-battery-1"
ADA = {"username": "ada", "password": PASSWORD, "email": "ada@corp.example", "firstName": "Ada"}
ADA |= {"lastName": "Arndt"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def administration(keycloak: KeycloakDesk) -> AsyncIterator[IdentityAdministration]:
    credentials = Credentials(client=keycloak.admin_client, secret=keycloak.admin_secret)
    standard = RealmStandard(audience="byodpp-api", addresses=(APPLICATION,), password_grant=True)
    provider = Keycloak(
        base_url=keycloak.url,
        timeout_seconds=20,
        server=KeycloakServer(url=keycloak.url, credentials=credentials, timeout_seconds=20),
        standard=standard,
    )
    assert provider.administration is not None
    yield provider.administration
    await provider.close()


@pytest_asyncio.fixture(loop_scope="session")
async def realm(administration: IdentityAdministration) -> AsyncIterator[str]:
    plan = RealmPlan(name=str(ULID()), display_name="Acme")
    await administration.put_realm(plan)
    yield plan.name
    await administration.remove_realm(plan.name)


@pytest_asyncio.fixture(loop_scope="session")
async def corp(keycloak: KeycloakDesk, realm: str) -> AsyncIterator[str]:
    """The realm of a company whose Ada signs in there, and which lets us ask for her."""
    async with keycloak.realm() as name:
        ada = {key: ADA[key] for key in ("username", "email", "firstName", "lastName")}
        credentials = [{"type": "password", "value": PASSWORD}]
        user = {**ada, "enabled": True, "emailVerified": True, "credentials": credentials}
        await keycloak.ask("POST", f"{name}/users", user)
        endpoint = f"{keycloak.url}/realms/{realm}/broker/corp/endpoint"
        saml = {
            "clientId": f"{keycloak.url}/realms/{realm}",
            "protocol": "saml",
            "redirectUris": [endpoint],
            "attributes": {
                "saml.client.signature": "false",
                "saml.server.signature": "true",
                "saml.assertion.signature": "true",
                "saml_name_id_format": "email",
                "saml_force_name_id_format": "true",
            },
        }
        oidc = {"clientId": "byodpp", "secret": "shared-by-two", "redirectUris": [endpoint]}
        for client in (saml, oidc):
            await keycloak.ask("POST", f"{name}/clients", client)
        yield name


def saml_of(keycloak: KeycloakDesk, corp: str) -> SignInProvider:
    metadata = f"{keycloak.url}/realms/{corp}/protocol/saml/descriptor"
    return SignInProvider(alias="corp", kind="saml", metadata=metadata, title="Corp", roles=("Viewer",))


def oidc_of(keycloak: KeycloakDesk, corp: str) -> SignInProvider:
    metadata = f"{keycloak.url}/realms/{corp}/.well-known/openid-configuration"
    return replace(
        saml_of(keycloak, corp),
        kind="oidc",
        metadata=metadata,
        client_id="byodpp",
        client_secret="shared-by-two",
    )


async def claims_of(keycloak: KeycloakDesk, realm: str, walked: Walked) -> dict[str, Any]:
    form = {"grant_type": "authorization_code", "client_id": WEB, "redirect_uri": LANDING}
    answer = await keycloak.token(realm, **form, code=walked.code, code_verifier=walked.verifier)
    segment = answer["access_token"].split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return found


@pytest.mark.parametrize("kind", ["saml", "oidc"])
async def test_a_tenants_people_sign_in_at_a_provider_of_its_own(
    administration: IdentityAdministration, keycloak: KeycloakDesk, realm: str, corp: str, kind: str
) -> None:
    provider = (saml_of if kind == "saml" else oidc_of)(keycloak, corp)
    for _ in range(2):
        await administration.put_sign_in_provider(realm, provider)
    url = f"{keycloak.url}/realms/{realm}"
    first = await walk(url, WEB, LANDING, ADA, kc_idp_hint="corp")
    assert first.asked("password"), "who is not signed in at the provider signs in there"
    claims = await claims_of(keycloak, realm, first)
    assert claims["email"] == "ada@corp.example" and "byodpp-api" in claims["aud"]
    assert "Viewer" in claims["realm_access"]["roles"]
    assert claims["email_verified"] is False, "nobody has said that its addresses may be trusted"
    again = await claims_of(keycloak, realm, await walk(url, WEB, LANDING, ADA, kc_idp_hint="corp"))
    assert again["sub"] == claims["sub"]
    mappers = f"{realm}/identity-provider/instances/corp/mappers"
    assert [one["name"] for one in await keycloak.ask("GET", mappers)] == ["role Viewer"]
    await administration.put_sign_in_provider(realm, replace(provider, roles=("Auditor",), title="Corp AG"))
    assert [one["name"] for one in await keycloak.ask("GET", mappers)] == ["role Auditor"]
    for _ in range(2):
        await administration.remove_sign_in_provider(realm, "corp")
    assert await keycloak.ask("GET", f"{realm}/identity-provider/instances") == []


async def test_a_provider_of_which_nothing_can_be_read_is_refused(
    administration: IdentityAdministration, keycloak: KeycloakDesk, realm: str, corp: str
) -> None:
    good = saml_of(keycloak, corp)
    for wrong in (
        replace(good, metadata=f"{keycloak.url}/realms/nobody/protocol/saml/descriptor"),
        replace(good, metadata=f"{keycloak.url}/realms/{corp}"),  # JSON, and no metadata
        replace(good, metadata="file:///etc/passwd"),
        replace(good, alias="../../master"),
        replace(good, roles=("offline_access",)),
        replace(good, kind="oidc"),
    ):
        with pytest.raises(ValidationFailed):
            await administration.put_sign_in_provider(realm, wrong)
    with pytest.raises(ValidationFailed):
        await administration.remove_sign_in_provider(realm, "../../master")
    assert await keycloak.ask("GET", f"{realm}/identity-provider/instances") == []


async def test_a_second_factor_is_asked_for_where_it_is_required(
    administration: IdentityAdministration, keycloak: KeycloakDesk, realm: str
) -> None:
    subject = await administration.put_user(
        realm, Person(email="ben@acme.example", first_name="Ben", last_name="Berg")
    )
    await administration.set_password(realm, subject, PASSWORD, temporary=False)
    url = f"{keycloak.url}/realms/{realm}"
    known: dict[str, str] = {}

    def first_code(fields: dict[str, str]) -> str:
        known["secret"] = fields["totpSecret"]
        return code_of(known["secret"])

    ben = {"username": "ben@acme.example", "password": PASSWORD}
    untouched = await keycloak.ask("GET", f"{realm}/authentication/flows/browser/executions")
    without = await walk(url, WEB, LANDING, ben)
    assert not without.asked("totp") and not without.asked("otp")
    for _ in range(2):
        await administration.require_second_factor(realm, required=True)
    password = {"grant_type": "password", "client_id": WEB, **ben}
    assert "access_token" not in await keycloak.token(realm, **password), "a password alone is not enough"
    setting_up = await walk(url, WEB, LANDING, {**ben, "totp": first_code, "userLabel": "phone"})
    assert setting_up.asked("totp")
    # A code counts once: the next one is the next half minute's, which is let pass.
    after = await walk(url, WEB, LANDING, {**ben, "otp": lambda _: code_of(known["secret"], steps=1)})
    assert after.asked("otp")
    for _ in range(2):
        await administration.require_second_factor(realm, required=False)
    restored = await keycloak.ask("GET", f"{realm}/authentication/flows/browser/executions")
    assert [one["requirement"] for one in restored] == [one["requirement"] for one in untouched]
