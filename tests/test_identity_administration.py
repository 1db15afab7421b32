"""Realms, users, roles, and clients: the same promises by files and by a real Keycloak."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest
import pytest_asyncio
from ulid import ULID

from byodpp.authentication.tokens import TokenVerifier
from byodpp.exceptions import (
    ApiError,
    AuthUnavailable,
    BadGateway,
    Conflict,
    NotFound,
    UniqueConflict,
    ValidationFailed,
)
from byodpp.identity import IdentityAdministration, LocalIssuer, MailServer, Person, RealmPlan
from byodpp.identity.keycloak import Credentials, Keycloak, KeycloakServer, RealmStandard
from tests.faulty_proxy import FaultyProxy, faulty_proxy
from tests.keycloak_server import KeycloakDesk
from tests.mail_sink import MailSink, mail_sink

APPLICATION = "https://app.example.com"
DOCUMENTATION = "http://127.0.0.1:3000/docs"
NOBODY = "00000000-0000-4000-8000-000000000000"
ANNA = Person(
    email="Anna@Example.com", first_name="Anna", last_name="Arndt", roles=("Admin", "Shift lead / north")
)


class World(Protocol):
    """One way to fulfil the port, and a way to see what it did."""

    administration: IdentityAdministration

    async def realm(self, realm: str) -> Mapping[str, Any]: ...
    async def user(self, realm: str, subject: str) -> Mapping[str, Any]: ...
    async def roles(self, realm: str) -> set[str]: ...
    async def roles_of(self, realm: str, subject: str) -> set[str]: ...


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Let a test that leaves a connection open fail, and not whichever the collector comes by in later."""
    yield
    gc.collect()


class LocalWorld:
    def __init__(self, folder: Path) -> None:
        self.issuer = LocalIssuer(state_folder=folder, audience="byodpp-api", environment="test")
        self.administration: IdentityAdministration = self.issuer.administration

    async def realm(self, realm: str) -> Mapping[str, Any]:
        return self.issuer.administration.describe(realm)

    async def user(self, realm: str, subject: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = (await self.realm(realm))["users"][subject]
        return found

    async def roles(self, realm: str) -> set[str]:
        return set((await self.realm(realm))["roles"])

    async def roles_of(self, realm: str, subject: str) -> set[str]:
        return set((await self.user(realm, subject))["roles"])


class KeycloakWorld:
    def __init__(self, desk: KeycloakDesk, url: str | None = None, **standard: Any) -> None:
        self.desk = desk
        self.server = KeycloakServer(
            url=url or desk.url,
            credentials=Credentials(client=desk.admin_client, secret=desk.admin_secret),
            timeout_seconds=20,
        )
        told = {"addresses": (APPLICATION,), "documentation": DOCUMENTATION, **standard}
        self.provider = Keycloak(
            base_url=desk.url,
            timeout_seconds=20,
            server=self.server,
            standard=RealmStandard(audience="byodpp-api", **told),
        )
        assert self.provider.administration is not None
        self.administration = self.provider.administration

    async def aclose(self) -> None:
        await self.provider.close()

    async def realm(self, realm: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self.desk.ask("GET", realm)
        return found

    async def user(self, realm: str, subject: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self.desk.ask("GET", f"{realm}/users/{subject}")
        return found

    async def roles(self, realm: str) -> set[str]:
        return {one["name"] for one in await self.desk.ask("GET", f"{realm}/roles")}

    async def roles_of(self, realm: str, subject: str) -> set[str]:
        found = await self.desk.ask("GET", f"{realm}/users/{subject}/role-mappings/realm")
        return {one["name"] for one in found if not one["name"].startswith("default-roles-")}

    async def clients(self, realm: str) -> dict[str, Mapping[str, Any]]:
        return {one["clientId"]: one for one in await self.desk.ask("GET", f"{realm}/clients")}

    async def state(self, realm: str) -> Mapping[str, Any]:
        """Everything of a realm that does not differ between two that were made alike."""
        document = dict(await self.realm(realm))
        users = await self.desk.ask("GET", f"{realm}/users")
        found: Mapping[str, Any] = _without_ids(
            {
                "realm": {name: document[name] for name in document if name in SETTINGS},
                "clients": await self.desk.ask("GET", f"{realm}/clients"),
                "scopes": await self.desk.ask("GET", f"{realm}/client-scopes"),
                "groups": [one["name"] for one in await self.desk.ask("GET", f"{realm}/groups")],
                "roles": list(await self.roles(realm)),
                "users": [(user["username"], list(await self.roles_of(realm, user["id"]))) for user in users],
            },
            realm,
        )
        return found


#: E6, as Keycloak tells it back.
SETTINGS: dict[str, Any] = {
    "enabled": True,
    "passwordPolicy": "length(12) and notUsername(undefined) and passwordHistory(10)",
    "otpPolicyType": "totp",
    "otpPolicyDigits": 6,
    "otpPolicyPeriod": 30,
    "otpPolicyCodeReusable": False,
    "bruteForceProtected": True,
    "permanentLockout": True,
    "failureFactor": 3,
    "maxTemporaryLockouts": 3,
    "maxFailureWaitSeconds": 900,
    "accessTokenLifespan": 3600,
    "ssoSessionIdleTimeout": 1_209_600,
    "ssoSessionMaxLifespan": 1_209_600,
    "offlineSessionIdleTimeout": 1_209_600,
    "offlineSessionMaxLifespanEnabled": True,
    "offlineSessionMaxLifespan": 1_209_600,
    "loginWithEmailAllowed": True,
    "duplicateEmailsAllowed": False,
    "resetPasswordAllowed": True,
    "registrationAllowed": False,
    "sslRequired": "external",
}


def _without_ids(document: Any, realm: str) -> Any:
    """Return a document without what differs between two that were made alike: ids, secrets, order."""
    if isinstance(document, dict):
        differing = ("id", "containerId", "secret", "client.secret.creation.time")
        return {name: _without_ids(one, realm) for name, one in document.items() if name not in differing}
    if isinstance(document, list | tuple):
        return sorted((_without_ids(one, realm) for one in document), key=json.dumps)
    return re.sub(realm, "…", document, flags=re.IGNORECASE) if isinstance(document, str) else document


@pytest.fixture(scope="module", params=["local", pytest.param("keycloak", marks=pytest.mark.keycloak)])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    if request.param == "local":
        return LocalWorld(tmp_path_factory.mktemp("local"))
    return KeycloakWorld(request.getfixturevalue("keycloak"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(either: World) -> AsyncIterator[World]:
    yield either
    if isinstance(either, KeycloakWorld):
        await either.provider.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def realm(world: World) -> AsyncIterator[str]:
    """A realm that tests share and leave as it is."""
    plan = RealmPlan(name=str(ULID()), display_name="Acme & Söhne", groups=("Sales",))
    await world.administration.put_realm(plan)
    yield plan.name
    await world.administration.remove_realm(plan.name)


async def test_e4_a_realm_is_made_with_name_roles_and_groups(world: World, realm: str) -> None:
    document = await world.realm(realm)
    assert (document["displayName"], document["enabled"]) == ("Acme & Söhne", True)
    assert {"Admin", "Manager", "Viewer"} <= await world.roles(realm)


async def test_e4_a_realm_that_is_there_is_left_as_somebody_made_it(world: World, realm: str) -> None:
    await world.administration.update_realm(realm, display_name="Changed by hand")
    await world.administration.put_realm(
        RealmPlan(name=realm, display_name="Acme & Söhne", roles=("Admin", "Auditor"))
    )
    assert (await world.realm(realm))["displayName"] == "Changed by hand"
    assert "Auditor" in await world.roles(realm), "what was missing is made"
    await world.administration.renew_realm(RealmPlan(name=realm, display_name="Acme & Söhne"))
    assert (await world.realm(realm))["displayName"] == "Acme & Söhne"


async def test_e7_a_user_is_made_once_and_holds_the_roles_asked_for(world: World, realm: str) -> None:
    subject = await world.administration.put_user(realm, ANNA)
    user = await world.user(realm, subject)
    assert (user["email"], user["firstName"], user["lastName"]) == ("anna@example.com", "Anna", "Arndt")
    assert await world.roles_of(realm, subject) == {"Admin", "Shift lead / north"}
    again = await world.administration.put_user(
        realm, Person(email="anna@EXAMPLE.com", roles=("Viewer", "Manager"))
    )
    assert again == subject
    assert await world.roles_of(realm, subject) == {"Viewer", "Manager"}
    assert await world.administration.roles_of(realm, "Anna@example.com") == frozenset({"Viewer", "Manager"})
    assert await world.administration.roles_of(realm, "nobody@example.com") is None
    await world.administration.sync_roles(realm, subject, [])
    assert await world.roles_of(realm, subject) == set()
    await world.administration.sync_roles(realm, subject, ["Brand new", "Admin"])
    assert await world.roles_of(realm, subject) == {"Brand new", "Admin"}


async def test_e7_a_user_is_disabled_enabled_and_deleted(world: World, realm: str) -> None:
    subject = await world.administration.put_user(realm, Person(email="ben@example.com", first_name="Ben"))
    for enabled in (False, False, True, True):
        await world.administration.set_user_enabled(realm, subject, enabled)
        user = await world.user(realm, subject)
        assert (user["enabled"], user["firstName"], user["email"]) == (enabled, "Ben", "ben@example.com")
    await world.administration.log_out_user(realm, subject)
    for _ in range(2):
        await world.administration.remove_user(realm, subject)
    with pytest.raises(NotFound):
        await world.administration.set_user_enabled(realm, subject, True)


async def test_e7_a_role_is_made_once(world: World, realm: str) -> None:
    for _ in range(2):
        await world.administration.put_role(realm, "Inspector")
    assert "Inspector" in await world.roles(realm)


async def test_e7_a_realm_is_disabled_enabled_and_deleted_with_everybody_in_it(world: World) -> None:
    plan = RealmPlan(name=str(ULID()), display_name="Short-lived")
    await world.administration.put_realm(plan)
    await world.administration.put_user(plan.name, ANNA)
    for enabled in (False, False, True):
        await world.administration.update_realm(plan.name, enabled=enabled)
        assert (await world.realm(plan.name))["enabled"] is enabled
    await world.administration.log_out_everyone(plan.name)
    for _ in range(2):
        await world.administration.remove_realm(plan.name)
    with pytest.raises(NotFound):
        await world.administration.put_user(plan.name, ANNA)


async def test_who_is_disabled_gets_neither_other_roles_nor_an_invitation_that_leads_nowhere(
    world: World, realm: str
) -> None:
    subject = await world.administration.put_user(realm, ANNA)
    await world.administration.set_user_enabled(realm, subject, False)
    with pytest.raises(Conflict, match="is disabled at the identity provider: enable it there first"):
        await world.administration.put_user(realm, replace(ANNA, roles=("Viewer",)))
    assert await world.administration.roles_of(realm, ANNA.email) == frozenset(ANNA.roles)
    await world.administration.set_user_enabled(realm, subject, True)
    assert await world.administration.put_user(realm, ANNA) == subject


@pytest.mark.keycloak
async def test_a_realm_that_somebody_has_deleted_is_said_to_be_made_anew_by_onboarding(
    real: KeycloakWorld,
) -> None:
    with pytest.raises(NotFound, match=r"has no realm .*`byodpp tenants onboard` makes one"):
        await real.administration.roles_of(str(ULID()), ANNA.email)


async def test_e7_renewing_a_realm_does_not_wake_a_suspended_one(world: World) -> None:
    plan = RealmPlan(name=str(ULID()), display_name="Asleep")
    await world.administration.put_realm(plan)
    await world.administration.update_realm(plan.name, enabled=False)
    await world.administration.renew_realm(plan)
    await world.administration.put_realm(plan)
    assert (await world.realm(plan.name))["enabled"] is False
    await world.administration.remove_realm(plan.name)


async def test_a_service_account_keeps_its_secret_until_it_is_renewed(world: World, realm: str) -> None:
    secret = await world.administration.put_service_account(realm, "erp", ["Manager"])
    assert len(secret) >= 32
    assert await world.administration.put_service_account(realm, "erp", ["Viewer"]) == secret
    renewed = await world.administration.renew_secret(realm, "erp")
    assert renewed != secret
    for _ in range(2):
        await world.administration.remove_service_account(realm, "erp")
    with pytest.raises(NotFound):
        await world.administration.renew_secret(realm, "erp")


@pytest.mark.parametrize("name", ["realm-management", "admin-cli", "account"])
async def test_no_program_takes_a_client_that_is_not_a_programs(world: World, realm: str, name: str) -> None:
    for call in (
        world.administration.put_service_account(realm, name, ["Manager"]),
        world.administration.renew_secret(realm, name),
        world.administration.remove_service_account(realm, name),
    ):
        with pytest.raises(ValidationFailed, match="No service account"):
            await call


@pytest.mark.parametrize("name", ["", "a b", "-x", "ä", "a\n", "x" * 256, "a/../b?c=d&e#f", "%2e", "[x]{y}"])
async def test_a_program_of_an_odd_name_is_not_made_but_renewed_and_removed(
    world: World, realm: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValidationFailed, match="No service account") as refused:
        await world.administration.put_service_account(realm, name, ["Manager"])
    assert "must be letters, digits" in refused.value.details[0].message
    with pytest.raises(NotFound):
        await world.administration.renew_secret(realm, name)
    await world.administration.remove_service_account(realm, name)
    if not 0 < len(name) <= 255:
        return  # nobody has made such a one
    for module in ("byodpp.identity.local_realms", "byodpp.identity.keycloak.administration"):
        monkeypatch.setattr(f"{module}.check_program", lambda *_: None)  # as older programs did
    await world.administration.put_service_account(realm, "another", ["Viewer"])
    secret = await world.administration.put_service_account(realm, name, ["Manager"])
    assert await world.administration.renew_secret(realm, name) != secret
    await world.administration.remove_service_account(realm, name)
    with pytest.raises(NotFound):
        await world.administration.renew_secret(realm, name)
    assert await world.administration.renew_secret(realm, "another"), "nobody else's was taken for it"


async def test_the_client_by_which_people_sign_in_is_no_programs(real: KeycloakWorld) -> None:
    plan = RealmPlan(name=str(ULID()), display_name="Ours")
    await real.administration.put_realm(plan)
    with pytest.raises(ValidationFailed, match="No service account"):
        await real.administration.remove_service_account(plan.name, "byodpp-web")
    assert "byodpp-web" in await real.clients(plan.name)
    await real.administration.remove_realm(plan.name)


@pytest.mark.parametrize("name", ["../master", "a/b", "", "x" * 65, "a b", "a?b", ".", "ä", "a\n"])
async def test_a_name_that_would_be_another_address_is_refused(world: World, name: str) -> None:
    for call in (
        world.administration.put_realm(RealmPlan(name=name, display_name="x")),
        world.administration.remove_realm(name),
        world.administration.update_realm(name, enabled=False),
        world.administration.put_user(name, ANNA),
        world.administration.log_out_everyone(name),
    ):
        with pytest.raises(ValidationFailed):
            await call


@pytest.mark.parametrize("subject", ["../../realms", "", "x", f"{NOBODY}/logout", NOBODY])
async def test_a_subject_that_is_nobodys_is_not_found(world: World, realm: str, subject: str) -> None:
    for call in (
        world.administration.sync_roles(realm, subject, ["Admin"]),
        world.administration.set_user_enabled(realm, subject, False),
        world.administration.log_out_user(realm, subject),
        world.administration.set_password(realm, subject, "Long-enough-123"),
    ):
        with pytest.raises(NotFound):
            await call


async def test_a_password_that_is_too_short_is_refused(world: World, realm: str) -> None:
    subject = await world.administration.put_user(realm, Person(email="pia@example.com"))
    with pytest.raises(ValidationFailed):
        await world.administration.set_password(realm, subject, "short")


async def test_two_who_make_the_same_at_once_make_it_once(world: World) -> None:
    plan = RealmPlan(name=str(ULID()), display_name="Twice", groups=("Sales",))
    await asyncio.gather(*(world.administration.put_realm(plan) for _ in range(3)))
    subjects = await asyncio.gather(*(world.administration.put_user(plan.name, ANNA) for _ in range(3)))
    assert len(set(subjects)) == 1
    await world.administration.remove_realm(plan.name)


# --- files only -------------------------------------------------------------------------


async def test_a_local_realm_that_is_disabled_has_no_keys(tmp_path: Path) -> None:
    issuer = LocalIssuer(state_folder=tmp_path, audience="byodpp-api", environment="test")
    plan = RealmPlan(name=str(ULID()), display_name="x")
    await issuer.administration.put_realm(plan)
    assert await issuer.signing_keys(plan.name) is not None
    await issuer.administration.update_realm(plan.name, enabled=False)
    assert await issuer.signing_keys(plan.name) is None
    await issuer.administration.remove_realm(plan.name)
    assert await issuer.signing_keys(plan.name) is None
    assert (tmp_path / "realms").stat().st_mode & 0o777 == 0o700
    await issuer.administration.put_realm(plan)
    assert (tmp_path / "realms" / f"{plan.name}.json").stat().st_mode & 0o777 == 0o600


# --- Keycloak only ------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sink() -> AsyncIterator[MailSink]:
    async with mail_sink() as sink:
        yield sink


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def real(keycloak: KeycloakDesk, sink: MailSink) -> AsyncIterator[KeycloakWorld]:
    mail = MailServer(
        host="127.0.0.1", port=sink.port, sender="passports@example.com", sender_name="DPP", security="none"
    )
    world = KeycloakWorld(keycloak, mail=mail, theme="keycloak", password_grant=True)
    yield world
    await world.provider.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def home(real: KeycloakWorld) -> AsyncIterator[str]:
    """A realm of the real Keycloak that tests share and leave as it is."""
    plan = RealmPlan(name=str(ULID()), display_name="Home", addresses=("https://acme.example",))
    await real.administration.put_realm(plan)
    yield plan.name
    await real.administration.remove_realm(plan.name)


async def signed_in(world: KeycloakWorld, realm: str, email: str, *roles: str) -> dict[str, Any]:
    """Make a user with a password, and return what the token endpoint answers them."""
    subject = await world.administration.put_user(
        realm, Person(email=email, first_name="A", last_name="B", roles=roles)
    )
    await world.administration.set_password(realm, subject, "Correct-horse-1", temporary=False)
    return await sign_in(world, realm, email)


async def sign_in(world: KeycloakWorld, realm: str, email: str) -> dict[str, Any]:
    return await world.desk.token(
        realm,
        grant_type="password",
        client_id="byodpp-web",
        username=email,
        password="Correct-horse-1",
        scope="openid",
    )


def claims_of(token: str) -> dict[str, Any]:
    segment = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return found


@pytest.mark.keycloak
async def test_e6_a_new_realm_has_the_settings_of_the_house(real: KeycloakWorld, home: str) -> None:
    document = await real.realm(home)
    assert {name: document[name] for name in SETTINGS} == SETTINGS
    assert {document[name] for name in ("loginTheme", "accountTheme", "emailTheme")} == {"keycloak"}
    mail = document["smtpServer"]
    assert (mail["host"], mail["from"], mail["fromDisplayName"]) == (
        "127.0.0.1",
        "passports@example.com",
        "DPP",
    )
    assert (mail["auth"], mail["ssl"], mail["starttls"]) == ("false", "false", "false")


@pytest.mark.keycloak
async def test_e5_the_browsers_client_needs_pkce_and_leads_only_to_our_own_pages(
    real: KeycloakWorld, home: str
) -> None:
    client = (await real.clients(home))["byodpp-web"]
    assert client["publicClient"] and client["standardFlowEnabled"] and not client["implicitFlowEnabled"]
    assert client["attributes"]["pkce.code.challenge.method"] == "S256"
    assert set(client["redirectUris"]) == {f"{APPLICATION}/*", "https://acme.example/*", DOCUMENTATION}
    assert set(client["webOrigins"]) == {APPLICATION, "https://acme.example", "http://127.0.0.1:3000"}
    moved = RealmPlan(name=home, display_name="Home", addresses=("https://new.acme.example",))
    await real.administration.put_realm(moved)
    assert "https://new.acme.example/*" in (await real.clients(home))["byodpp-web"]["redirectUris"]
    await real.administration.update_realm(
        home, display_name="At home", addresses=["https://own.acme.example"]
    )
    changed = (await real.clients(home))["byodpp-web"]["redirectUris"]
    assert set(changed) == {f"{APPLICATION}/*", "https://own.acme.example/*", DOCUMENTATION}
    assert (await real.realm(home))["displayName"] == "At home"
    await real.administration.put_realm(moved)


@pytest.mark.keycloak
async def test_a_persons_token_is_good_for_the_api_and_says_their_roles(
    real: KeycloakWorld, home: str
) -> None:
    answer = await signed_in(real, home, "carla@example.com", "Manager")
    verifier = TokenVerifier(real.provider, audience="byodpp-api")
    claims = await verifier.verify(answer["access_token"])
    # Her address is not taken for hers before she has followed the link that was mailed to her.
    assert (claims.realm, claims.email, claims.user_name) == (home, None, "carla@example.com")
    assert "Manager" in claims.roles
    assert claims_of(answer["access_token"])["exp"] - claims_of(answer["access_token"])["iat"] == 3600


@pytest.mark.keycloak
async def test_the_password_grant_is_off_unless_asked_for(keycloak: KeycloakDesk) -> None:
    plan = RealmPlan(name=str(ULID()), display_name="x")
    async with aclosing(KeycloakWorld(keycloak)) as world:
        await world.administration.put_realm(plan)
        assert (await signed_in(world, plan.name, "dora@example.com"))["error"] == "unauthorized_client"
        await world.administration.remove_realm(plan.name)


@pytest.mark.keycloak
async def test_a_service_accounts_token_is_good_for_the_api_and_says_its_roles(
    real: KeycloakWorld, home: str
) -> None:
    secret = await real.administration.put_service_account(home, "erp", ["Viewer"])
    form = {"grant_type": "client_credentials", "client_id": "erp", "client_secret": secret}
    token = (await real.desk.token(home, **form))["access_token"]
    claims = await TokenVerifier(real.provider, audience="byodpp-api").verify(token)
    assert claims.client == "erp"
    assert claims.roles & {"Admin", "Manager", "Viewer"} == {"Viewer"}
    assert "byodpp-api" in claims_of(token)["aud"]
    await real.administration.renew_secret(home, "erp")
    assert (await real.desk.token(home, **form))["error"] == "unauthorized_client"


@pytest.mark.keycloak
async def test_e7_an_invitation_is_a_mail_with_a_link_that_leads_to_keycloak(
    real: KeycloakWorld, home: str, sink: MailSink
) -> None:
    subject = await real.administration.put_user(
        home, Person(email="eva@example.com", first_name="Eva", last_name="E")
    )
    await real.administration.invite(home, subject, path="/accept-invitation", lifetime_seconds=7200)
    mail = await sink.mail("eva@example.com")
    assert "passports@example.com" in str(mail["From"])
    body = mail.get_body(("plain",))
    assert body is not None
    link = re.search(r"https?://\S+", body.get_content())
    assert link is not None and link[0].startswith(
        f"{real.desk.url}/realms/{home}/login-actions/action-token"
    )
    lasts = claims_of(link[0].partition("key=")[2].partition("&")[0])
    assert lasts["exp"] - lasts["iat"] == 7200
    assert lasts["reduri"] == f"{APPLICATION}/accept-invitation"
    assert set(lasts["rqac"]) == {"VERIFY_EMAIL", "UPDATE_PASSWORD"}
    async with httpx2.AsyncClient(timeout=60) as browser:
        assert (await browser.get(link[0])).status_code == 200


@pytest.mark.keycloak
@pytest.mark.parametrize("path", ["https://evil.example", "//evil.example/x", "evil", ""])
async def test_an_invitation_leads_to_nobody_else(real: KeycloakWorld, home: str, path: str) -> None:
    subject = await real.administration.put_user(home, Person(email="fay@example.com"))
    with pytest.raises(ValidationFailed):
        await real.administration.invite(home, subject, path=path)


@pytest.mark.keycloak
async def test_a_mail_that_cannot_be_sent_is_an_error_and_may_be_sent_again(
    real: KeycloakWorld, home: str, sink: MailSink
) -> None:
    subject = await real.administration.put_user(home, Person(email="gus@example.com"))
    sink.refuses = True
    try:
        with pytest.raises(BadGateway):
            await real.administration.invite(home, subject, path="/x")
    finally:
        sink.refuses = False
    await real.administration.invite(home, subject, path="/x")
    assert await sink.mail("gus@example.com")


@pytest.mark.keycloak
async def test_without_a_mail_server_an_invitation_says_which_setting_is_missing(
    keycloak: KeycloakDesk, home: str
) -> None:
    plan = RealmPlan(name=str(ULID()), display_name="No mail")
    async with aclosing(KeycloakWorld(keycloak)) as world:
        with pytest.raises(ValidationFailed, match=r"smtp_host is not set\. Set it, or .*--password"):
            await world.administration.invite(home, NOBODY, path="/x")
        await world.administration.put_realm(plan)
        try:
            offered = (await world.realm(plan.name))["resetPasswordAllowed"]
            assert not offered, "nobody is offered a new password by a mail that never comes"
        finally:
            await world.administration.remove_realm(plan.name)


@pytest.mark.keycloak
async def test_e7_after_everyone_is_logged_out_no_token_is_renewed(real: KeycloakWorld, home: str) -> None:
    def renewal(answer: dict[str, Any]) -> dict[str, str]:
        return {
            "grant_type": "refresh_token",
            "client_id": "byodpp-web",
            "refresh_token": answer["refresh_token"],
        }

    one = await signed_in(real, home, "hal@example.com")
    other = await signed_in(real, home, "ida@example.com")
    assert "access_token" in await real.desk.token(home, **renewal(one))
    await real.administration.log_out_user(home, claims_of(other["access_token"])["sub"])
    assert (await real.desk.token(home, **renewal(other)))["error"] == "invalid_grant"
    assert "access_token" in await real.desk.token(home, **renewal(one))
    await asyncio.sleep(1.1)  # Keycloak counts in seconds
    await real.administration.log_out_everyone(home)
    assert (await real.desk.token(home, **renewal(one)))["error"] == "invalid_grant"
    await asyncio.sleep(1.1)
    again = await sign_in(real, home, "hal@example.com")
    assert "access_token" in again, "who signs in anew is let in"


@pytest.mark.keycloak
async def test_a_suspended_realm_lets_nobody_in(real: KeycloakWorld) -> None:
    plan = RealmPlan(name=str(ULID()), display_name="x")
    await real.administration.put_realm(plan)
    assert "access_token" in await signed_in(real, plan.name, "jo@example.com")
    await real.administration.update_realm(plan.name, enabled=False)
    assert (await sign_in(real, plan.name, "jo@example.com"))["error"] == "access_denied"
    await real.administration.update_realm(plan.name, enabled=True)
    assert "access_token" in await sign_in(real, plan.name, "jo@example.com")
    await real.administration.remove_realm(plan.name)


@pytest.mark.keycloak
async def test_roles_that_keycloak_keeps_to_itself_are_refused(real: KeycloakWorld, home: str) -> None:
    subject = await real.administration.put_user(home, Person(email="kim@example.com"))
    with pytest.raises(ValidationFailed, match="offline_access"):
        await real.administration.sync_roles(home, subject, ["offline_access"])


@pytest.mark.keycloak
@pytest.mark.parametrize("email", ["", "no address", "a@b@c", "x" * 300 + "@example.com"])
async def test_an_address_that_is_none_is_refused(real: KeycloakWorld, home: str, email: str) -> None:
    with pytest.raises((ValidationFailed, UniqueConflict)):
        await real.administration.put_user(home, Person(email=email))


@pytest.mark.keycloak
async def test_a_password_administrator_will_do_too(keycloak: KeycloakDesk, home: str) -> None:
    credentials = Credentials(user="admin", password=keycloak.admin_password)
    server = KeycloakServer(url=keycloak.url, credentials=credentials, timeout_seconds=20)
    assert (await server.version()).startswith("26.")
    await server.close()


# --- cut off at every point ---------------------------------------------------------------


async def onboard(world: KeycloakWorld, realm: str) -> None:
    """All that a new tenant needs, in the order in which it is asked for."""
    plan = RealmPlan(name=realm, display_name="Cut", groups=("Sales", "Support"))
    await world.administration.put_realm(plan)
    await world.administration.put_user(realm, ANNA)
    await world.administration.put_service_account(realm, "erp", ["Viewer"])


@pytest.mark.keycloak
@pytest.mark.parametrize("answered", [False, True], ids=["never-arrived", "answer-lost"])
async def test_what_was_cut_off_at_any_request_is_ended_by_the_next_call(
    keycloak: KeycloakDesk, answered: bool
) -> None:
    whole, cut = str(ULID()), str(ULID())
    straight = KeycloakWorld(keycloak)
    try:
        await onboard(straight, whole)
        async with faulty_proxy(int(keycloak.url.rpartition(":")[2])) as proxy:
            requests = await _cut_everywhere(keycloak, proxy, cut, answered)
        assert requests > 15
        assert await straight.state(cut) == await straight.state(whole)
        for realm in (whole, cut):
            await straight.administration.remove_realm(realm)
    finally:
        await straight.provider.close()


async def _cut_everywhere(desk: KeycloakDesk, proxy: FaultyProxy, realm: str, answered: bool) -> int:
    """Onboard with the first request cut, then the second, and so on, until none is; return how many."""
    for number in range(1, 200):
        world = KeycloakWorld(desk, proxy.url)
        proxy.connections, proxy.cut_at, proxy.cut_after = 0, number, answered
        try:
            await onboard(world, realm)
        except ApiError as error:
            assert isinstance(error, AuthUnavailable)
        else:
            return number
        finally:
            await world.provider.close()
    raise AssertionError("it never ended")


@pytest.mark.keycloak
async def test_e9_a_second_factor_is_asked_of_whoever_is_made_from_then_on(keycloak: KeycloakDesk) -> None:
    strict, plain = KeycloakWorld(keycloak, second_factor=True), KeycloakWorld(keycloak)
    plan = RealmPlan(name=str(ULID()), display_name="Acme")
    try:
        await plain.administration.put_realm(plan)
        before = await plain.administration.put_user(plan.name, replace(ANNA, email="before@example.com"))
        await strict.administration.renew_realm(plan)
        asked = await strict.administration.put_user(plan.name, ANNA)
        await strict.administration.put_realm(plan)
        again = await strict.administration.put_user(plan.name, ANNA)
        await plain.administration.renew_realm(plan)
        after = await plain.administration.put_user(plan.name, replace(ANNA, email="after@example.com"))
        actions = {
            subject: "CONFIGURE_TOTP" in (await strict.user(plan.name, subject)).get("requiredActions", ())
            for subject in (before, asked, after)
        }
        assert actions == {before: False, asked: True, after: False} and again == asked
    finally:
        await plain.administration.remove_realm(plan.name)
        for one in (strict, plain):
            await one.provider.close()
