"""Something else answers where Keycloak is looked for: it is said so, and nobody sees a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from byodpp.exceptions import BadGateway, StartError
from byodpp.identity.keycloak import Credentials, Keycloak, KeycloakServer
from byodpp.testing import Bench
from tests.commands import operated
from tests.faulty_proxy import FaultyProxy, faulty_proxy
from tests.worlds import SHOP, build

TOKEN = b'{"access_token": "x", "expires_in": 60}'


def ok(document: bytes, kind: bytes = b"application/json") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    return head % (kind, len(document)) + document


def server_at(proxy: FaultyProxy) -> KeycloakServer:
    return KeycloakServer(url=proxy.url, credentials=Credentials(secret="s3cret"), timeout_seconds=5)


@pytest.mark.parametrize(
    "answers",
    [
        {"": ok(b"<html>Welcome</html>", b"text/html")},
        {"": ok(b"[]")},
        {"": ok(b"null")},
        {"": ok(b'"s3cret"')},
        {"": ok(b"")},
        {"/token": ok(b'{"access_token": "x", "expires_in": "soon"}')},
        {"/token": ok(TOKEN), "/serverinfo": ok(b"<html>Welcome</html>", b"text/html")},
        {"/token": ok(TOKEN), "/serverinfo": ok(b'{"systemInfo": []}')},
        {"/token": ok(TOKEN), "/serverinfo": ok(b'{"systemInfo": null}')},
    ],
)
async def test_what_answers_and_is_no_keycloak_stops_the_start_with_a_reason(
    answers: dict[str, bytes],
) -> None:
    async with faulty_proxy(target=1) as proxy:
        proxy.answers = answers
        provider = Keycloak(base_url=proxy.url, server=server_at(proxy))
        with pytest.raises(StartError, match="issuer_base_url: something answers there") as refusal:
            await provider.open()
        await provider.close()
    assert "s3cret" not in str(refusal.value)


async def test_what_answers_and_is_no_keycloak_refuses_every_change() -> None:
    async with faulty_proxy(target=1) as proxy:
        proxy.answers = {"/token": ok(TOKEN), "": ok(b"[]")}
        with pytest.raises(BadGateway, match="Something answers"):
            async with server_at(proxy).realm("acme") as admin:
                await admin.a_get_realm("acme")


async def test_a_defect_of_our_own_is_not_taken_for_an_answer() -> None:
    async with faulty_proxy(target=1) as proxy:
        with pytest.raises(TypeError, match="ours"):
            async with server_at(proxy).realm("acme"):
                raise TypeError("ours")


def refusing() -> bytes:
    """What Keycloak says to who brings a wrong secret."""
    said = b'{"error": "unauthorized_client", "error_description": "Invalid client credentials"}'
    return ok(said).replace(b"200 OK", b"401 Unauthorized")


@pytest.mark.parametrize("away", [False, True], ids=["wrong-secret", "away"])
async def test_a_tenant_is_shut_out_here_also_where_keycloak_takes_no_part(
    byodpp_bench: Bench, tmp_path: Path, away: bool
) -> None:
    async with byodpp_bench.application(build(tmp_path, SHOP)) as tested, faulty_proxy(target=1) as proxy:
        proxy.refuse, proxy.answers = away, {"": refusing()}
        keycloak = {
            "BYODPP_IDENTITY": "keycloak",
            "KEYCLOAK_URL": proxy.url,
            "KEYCLOAK_ADMIN_CLIENT_SECRET": "wrong",
        }

        async def status() -> int:
            tested.connected.authenticator.forget()
            return (await acme.get("/api/v1/notes")).status_code

        acme = tested.client(role="Admin", tenant="acme")
        assert await status() == 200
        suspend = ("tenants", "suspend", "acme", "--reason", "payment")
        done = await operated(tested, *suspend, **keycloak)
        told = " ".join(done.stderr.split())
        assert (done.returncode, await status()) == (1, 401), done.stdout + done.stderr
        assert "cannot be reached" in told if away else "refuses our administrator" in told
        assert "Still to be done are the realm" in told and "the same command goes on there" in told
        listed = await operated(tested, "tenants", "list", **keycloak)
        assert "suspend since" in listed.stdout and "stopped at realm" in listed.stdout, listed.stderr
        refused = await operated(tested, "tenants", "reactivate", "acme", **keycloak)
        assert refused.returncode == 1 and "Something else is under way" in refused.stderr
        done = await operated(tested, *suspend)  # with the local issuer, as if Keycloak were back
        assert done.returncode == 0 and "done sessions" in done.stdout, done.stderr
        refused = await operated(tested, "tenants", "reactivate", "acme", **keycloak)
        assert (refused.returncode, await status()) == (1, 401), "nobody is let in before the realm is open"
        done = await operated(tested, "tenants", "reactivate", "acme")
        assert (done.returncode, await status()) == (0, 200), done.stderr


async def test_nothing_is_begun_for_a_tenant_whose_realm_cannot_be_made(
    byodpp_bench: Bench, tmp_path: Path
) -> None:
    async with byodpp_bench.application(build(tmp_path, SHOP)) as tested, faulty_proxy(target=1) as proxy:
        proxy.answers = {"": refusing()}
        keycloak = {
            "BYODPP_IDENTITY": "keycloak",
            "KEYCLOAK_URL": proxy.url,
            "KEYCLOAK_ADMIN_CLIENT_SECRET": "wrong",
        }
        onboard = ("tenants", "onboard", "newcomer", "--email", "ada@newcomer.example")
        refused = await operated(tested, *onboard, **keycloak)
        assert refused.returncode == 1 and "keycloak_admin_client" in refused.stderr, refused.stderr
        listed = await operated(tested, "tenants", "list", **keycloak)
        assert listed.returncode == 0 and "newcomer" not in listed.stdout, listed.stderr
