"""Something else answers where Keycloak is looked for: it is said so, and nobody sees a traceback."""

from __future__ import annotations

import pytest

from byodpp.exceptions import BadGateway, StartError
from byodpp.identity.keycloak import Credentials, Keycloak, KeycloakServer
from tests.faulty_proxy import FaultyProxy, faulty_proxy

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
