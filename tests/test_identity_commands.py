"""`byodpp identity`: a tenant's realm renewed, everybody logged out, and accounts of programs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests import commands
from tests.commands import Done
from tests.worlds import write_application

MANIFEST = {
    "resources": [
        {"name": "Notes", "fields": {"text": {"type": "string"}}, "access": {"read": ["*"], "write": ["*"]}}
    ],
    "include": ["byodpp:tenancy", "byodpp:access", "byodpp:audit", "byodpp:keys"],
}


def byodpp(folder: Path, *words: str) -> Done:
    return commands.byodpp("--app", folder, *words, BYODPP_ENV="test")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_application(tmp_path_factory.mktemp("identity"), MANIFEST)
    for words in (
        ("migrate", "new"),
        ("migrate", "apply"),
        ("tenants", "onboard", "gamma", "--email", "ada@gamma.example", "--password"),
    ):
        done = byodpp(folder, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def ran(folder: Path, *words: str) -> str:
    done = byodpp(folder, "identity", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def realm(folder: Path) -> dict[str, Any]:
    """What the local issuer keeps of the tenant's realm."""
    [found] = [
        document
        for path in (folder / ".byodpp" / "realms").iterdir()
        if path.suffix == ".json"
        and "ada@gamma.example" in (document := json.loads(path.read_text())).__str__()
    ]
    return dict(found)


def test_an_account_of_a_program_is_made_renewed_and_removed(shop: Path) -> None:
    made = ran(shop, "service-account", "gamma", "importer", "--role", "Manager", "--role", "Viewer")
    secret = made.split()[-1]
    assert "client id      importer" in made
    assert realm(shop)["clients"]["importer"]["roles"] == ["Manager", "Viewer"]
    again = ran(shop, "service-account", "gamma", "importer", "--role", "Viewer")
    assert again.split()[-1] == secret, "the same at every call"
    assert realm(shop)["clients"]["importer"]["roles"] == ["Viewer"]
    renewed = ran(shop, "service-account", "gamma", "importer", "--role", "Viewer", "--renew")
    assert renewed.split()[-1] != secret
    gone = ran(shop, "service-account", "gamma", "importer", "--remove")
    assert "secret" not in gone
    assert "importer" not in realm(shop).get("clients", {})


def test_a_secret_is_renewed_and_the_roles_stay_when_none_is_named(shop: Path) -> None:
    first = ran(shop, "service-account", "gamma", "exporter", "--role", "Viewer").split()[-1]
    renewed = ran(shop, "service-account", "gamma", "exporter", "--renew").split()[-1]
    assert renewed == realm(shop)["clients"]["exporter"]["secret"] != first
    assert realm(shop)["clients"]["exporter"]["roles"] == ["Viewer"]
    assert byodpp(shop, "identity", "service-account", "gamma", "nobody", "--renew").returncode == 1
    assert "nobody" not in realm(shop)["clients"]


def test_an_account_gets_no_role_that_is_a_slip(shop: Path) -> None:
    done = byodpp(shop, "identity", "service-account", "gamma", "slipped", "--role", "Manger")
    assert (done.returncode, "Did you mean 'Manager'?" in done.stderr + done.stdout) == (1, True)
    assert "slipped" not in realm(shop).get("clients", {})
    ran(shop, "service-account", "gamma", "other", "--role", "lamplighter")


def test_tokens_are_revoked_also_when_nobody_can_be_logged_out(shop: Path) -> None:
    path = next(one for one in (shop / ".byodpp" / "realms").glob("*.json") if "ada@gamma" in one.read_text())
    kept = path.with_suffix(".kept")
    path.rename(kept)
    try:
        done = byodpp(shop, "identity", "log-out", "gamma")
    finally:
        kept.rename(path)
    assert done.returncode == 1 and "no such realm" in done.stderr, done.stdout + done.stderr
    assert "revoked tokens and keys of gamma" in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", ["-x", "a b", os.fsdecode(b"odd \xff")])
def test_an_account_of_an_odd_name_is_not_made_but_removed(shop: Path, name: str) -> None:
    done = byodpp(shop, "identity", "service-account", "gamma", "--role", "Viewer", "--", name)
    assert done.returncode == 1 and "must be letters, digits" in done.stderr, done.stderr
    [path] = [one for one in (shop / ".byodpp" / "realms").glob("*.json") if "ada@gamma" in one.read_text()]
    document = json.loads(path.read_text())
    document.setdefault("clients", {})[name] = {"secret": "of old", "roles": []}
    path.write_text(json.dumps(document))
    ran(shop, "service-account", "gamma", "--renew", "--", name)
    assert realm(shop)["clients"][name]["secret"] != "of old"
    ran(shop, "service-account", "gamma", "--remove", "--", name)
    assert name not in realm(shop)["clients"]


def test_a_second_factor_is_required_and_made_optional_again(shop: Path) -> None:
    assert "required for gamma" in ran(shop, "second-factor", "gamma")
    assert realm(shop)["secondFactor"] is True
    assert "optional for gamma" in ran(shop, "second-factor", "gamma", "--optional")
    assert realm(shop)["secondFactor"] is False


def test_a_provider_of_a_tenants_own_is_noted_and_what_to_tell_it_is_printed(shop: Path) -> None:
    metadata = "https://login.example.com/metadata.xml"
    told = ran(shop, "provider", "gamma", "corp", "--saml", metadata, "--role", "Viewer", "--trust-email")
    assert "/broker/corp/endpoint/descriptor" in told
    noted = realm(shop)["providers"]["corp"]
    assert (noted["metadata"], noted["roles"], noted["trustEmail"]) == (metadata, ["Viewer"], True)
    secret = "never-kept-in-a-file"
    words = ("--oidc", "https://login.example.com/.well-known/openid-configuration", "--client-id", "us")
    told = ran(shop, "provider", "gamma", "corp", *words, "--client-secret", secret)
    assert secret not in told and secret not in json.dumps(realm(shop))
    ran(shop, "provider", "gamma", "corp", "--remove")
    assert realm(shop)["providers"] == {}


def test_nobody_comes_from_a_provider_with_a_role_that_is_a_slip(shop: Path) -> None:
    words = ("corp", "--saml", "https://login.example.com/metadata.xml", "--role", "Viewr")
    done = byodpp(shop, "identity", "provider", "gamma", *words)
    assert (done.returncode, "Did you mean 'Viewer'?" in done.stderr) == (1, True), done.stderr
    assert "corp" not in realm(shop).get("providers", {})


@pytest.mark.parametrize("role", ["", " ", "a\nb"])
def test_no_token_says_a_role_without_a_name(shop: Path, role: str) -> None:
    done = byodpp(shop, "token", "--tenant", "gamma", "--role", "Admin", "--role", role)
    assert (done.returncode, done.stdout, "--role" in done.stderr) == (1, "", True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("corp",), "one of them says where the provider describes itself"),
        (("corp", "--saml", "https://a.example", "--oidc", "https://a.example"), "one of them says"),
        (("Corp!", "--saml", "https://a.example"), "small letters, digits, and -"),
        (("corp", "--saml", "file:///etc/passwd"), "begins with https://"),
        (("corp", "--oidc", "https://a.example", "--client-secret", "x"), "OpenID needs a client id"),
    ],
)
def test_a_provider_that_is_none_is_told(shop: Path, words: tuple[str, ...], told: str) -> None:
    done = byodpp(shop, "identity", "provider", "gamma", *words)
    assert done.returncode == 1
    assert told in " ".join((done.stdout + done.stderr).split())


def test_everybody_is_logged_out(shop: Path) -> None:
    assert "everyone of gamma" in ran(shop, "log-out", "gamma")
    exported = byodpp(shop, "export", "Revocations", "-", "--tenant", "gamma", "--format", "csv")
    assert exported.returncode == 0, exported.stderr
    assert '"tenant"' in exported.stdout
    told = byodpp(
        shop, "export", "AuditLogs", "-", "--tenant", "gamma", "--format", "csv", "--fields", "action"
    )
    assert {'"LOG_OUT"', '"REVOKE"'} <= set(told.stdout.split())


def test_a_realm_is_renewed(shop: Path) -> None:
    assert "gamma" in ran(shop, "renew", "gamma")


@pytest.mark.parametrize(
    "words",
    [
        ("renew", "nobody"),
        ("log-out", "nobody"),
        ("service-account", "nobody", "x"),
        ("second-factor", "nobody"),
        ("provider", "nobody", "x", "--saml", "https://a.example"),
    ],
)
def test_a_tenant_that_is_not_there_is_told(shop: Path, words: tuple[str, ...]) -> None:
    done = byodpp(shop, "identity", *words)
    assert done.returncode == 1
    assert "there is no tenant 'nobody'" in done.stdout + done.stderr
