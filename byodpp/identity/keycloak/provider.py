"""Keycloak as the identity provider: names of issuers, key sets over HTTP, and who administers.

What checking a token needs is here, and needs nothing of Keycloak's administration. Every answer
is bounded in time and size, no redirect is followed, and nothing but a key set, or Keycloak's own
word that a realm does not exist, counts as one: a proxy's error page takes nobody's keys away.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
from collections.abc import Mapping
from typing import Any, Final

import httpx2

from byodpp.exceptions import AuthUnavailable, Problem, StartError
from byodpp.identity.administration import IdentityAdministration
from byodpp.identity.keycloak.administration import KeycloakAdministration
from byodpp.identity.keycloak.representations import RealmStandard
from byodpp.identity.keycloak.server import KeycloakServer
from byodpp.identity.provider import BrowserSignIn, Renewed

__all__ = ["OLDEST_KEYCLOAK", "Keycloak"]

_log: Final = logging.getLogger(__name__)

#: Earlier ones let a token choose its algorithm (CVE-2026-11800).
OLDEST_KEYCLOAK: Final = (26, 6, 4)

_REALM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
#: A realm's key set is some 3 kB; one of 64 keys with their certificates stays below this.
_MOST_BYTES: Final = 262_144
_CONNECTIONS: Final = 20
#: Statuses with which Keycloak refuses a refresh token in its own words; 403 where the realm is closed.
_REFUSED: Final = (400, 401, 403, 404)
#: Says of us, not of the token, that Keycloak does not do what it was asked for.
_OUR_FAULT: Final = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})


class Keycloak:
    """Reads what Keycloak publishes of its realms."""

    def __init__(
        self,
        *,
        base_url: str,
        internal_url: str | None = None,
        timeout_seconds: float = 5.0,
        server: KeycloakServer | None = None,
        standard: RealmStandard | None = None,
    ) -> None:
        """Args:
        base_url: below which the realms lie, as their tokens name it, e.g. `https://id.example.com`.
        internal_url: where this server reaches Keycloak; `base_url` when omitted.
        timeout_seconds: longest wait for one answer, its body included.
        server: by which it is administered; None when this process has no right to.
        standard: what all realms have in common.
        """
        self._base_url = base_url.rstrip("/")
        self._reached_at = (internal_url or base_url).rstrip("/")
        self._timeout = timeout_seconds
        self._server = server
        self._standard = standard
        self._client: httpx2.AsyncClient | None = None
        #: The right to make realms and users; None when this process was given none.
        self.administration: IdentityAdministration | None = None
        if server is not None and standard is not None:
            self.administration = KeycloakAdministration(server, standard)

    def issuer_url(self, realm: str) -> str:
        """Return the `iss` of the realm's tokens."""
        return f"{self._base_url}/realms/{realm}"

    def browser_sign_in(self, realm: str) -> BrowserSignIn | None:
        """Return where the documentation page signs people in; None when there is no such page."""
        if self._standard is None or self._standard.documentation is None:
            return None
        issuer = self.issuer_url(realm)
        endpoint = f"{issuer}/protocol/openid-connect"
        return BrowserSignIn(
            issuer=issuer,
            authorization=f"{endpoint}/auth",
            token=f"{endpoint}/token",
            end_session=f"{endpoint}/logout",
            client=self._standard.browser_client,
            redirect_to=self._standard.documentation,
        )

    async def signing_keys(self, realm: str) -> Mapping[str, Any] | None:
        """Return the realm's public keys; None when Keycloak says that there is no such realm.

        Raises:
            AuthUnavailable: it is away, or its answer is none.
        """
        if not _REALM.fullmatch(realm):
            return None
        status, document = await self._document(f"/realms/{realm}/protocol/openid-connect/certs")
        if status == 200 and isinstance(document.get("keys"), list):
            return document
        if status == 404 and isinstance(document.get("error"), str):
            return None
        raise AuthUnavailable(f"The identity provider answered {status} when asked for keys")

    async def renew(self, realm: str, refresh_token: str) -> Renewed | None:
        """Exchange a refresh token of the browsers' client; None when Keycloak takes it no more.

        Raises:
            AuthUnavailable: it is away, or its answer is none.
        """
        asked = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        status, document = await self._asked_as_browser(realm, "token", asked)
        access, refresh = document.get("access_token"), document.get("refresh_token")
        if status == 200 and isinstance(access, str) and isinstance(refresh, str):
            return Renewed(access_token=access, refresh_token=refresh)
        error = document.get("error")
        if status in _REFUSED and isinstance(error, str) and error not in _OUR_FAULT:
            return None
        raise AuthUnavailable(f"The identity provider answered {status} when asked for a token")

    async def sign_out(self, realm: str, refresh_token: str) -> None:
        """End the session that a refresh token is of.

        Raises:
            AuthUnavailable: Keycloak is away, or its answer is none.
        """
        status, document = await self._asked_as_browser(realm, "logout", {"refresh_token": refresh_token})
        if status not in (200, 204) and not (status in _REFUSED and isinstance(document.get("error"), str)):
            raise AuthUnavailable(f"The identity provider answered {status} when asked to sign out")

    async def _asked_as_browser(
        self, realm: str, endpoint: str, form: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        if self._standard is None or not _REALM.fullmatch(realm):
            return 404, {"error": "there is no browsers' client"}
        path = f"/realms/{realm}/protocol/openid-connect/{endpoint}"
        return await self._document(path, {**form, "client_id": self._standard.browser_client})

    async def open(self) -> None:
        """Refuse a Keycloak that is too old to be trusted; one that is away is told in the log.

        Raises:
            StartError: it is too old, or our administrator may not sign in.
        """
        if self._server is None:
            _log.warning("Keycloak's version is not checked: there are no credentials to ask for it")
            return
        try:
            # A start does not wait for Keycloak as long as an administrator does.
            async with asyncio.timeout(self._timeout):
                version = await self._server.version()
        except (AuthUnavailable, TimeoutError) as away:
            why = str(away) or f"no answer in {self._timeout:g} s"
            told = "Keycloak cannot be reached at %s, its version is not checked: %s"
            _log.warning(told, self._reached_at, why)
            return
        found = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
        if found < OLDEST_KEYCLOAK:
            oldest = ".".join(str(part) for part in OLDEST_KEYCLOAK)
            reason = f"Keycloak {version} runs there; {oldest} is the oldest that may be trusted"
            raise StartError([Problem("issuer_base_url", reason, "Upgrade Keycloak.")])

    async def health(self) -> None:
        """Return when Keycloak answers.

        Raises:
            AuthUnavailable: it does not.
        """
        status, document = await self._document("/realms/master")
        if status != 200 or document.get("realm") != "master":
            raise AuthUnavailable(f"The identity provider answered {status}")

    async def close(self) -> None:
        """Give back connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
        if self._server is not None:
            await self._server.close()

    async def _document(self, path: str, form: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Return the status and the JSON object below it; an empty object when there is none.

        Args:
            path: below the address of Keycloak.
            form: sent by POST; None asks by GET.

        Raises:
            AuthUnavailable: no answer, none in time, or one too long.
        """
        if self._client is None:
            self._client = _new_client(self._timeout)
        try:
            # Beside the client's own time-outs, which begin anew with every byte.
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream(
                    "GET" if form is None else "POST", self._reached_at + path, data=form
                ) as answer,
            ):
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        raise AuthUnavailable("The identity provider's answer is too long")
        except (httpx2.HTTPError, TimeoutError, OSError) as error:
            raise AuthUnavailable(f"The identity provider cannot be reached: {error!r}") from error
        return answer.status_code, _object(bytes(body))


def _new_client(timeout_seconds: float) -> httpx2.AsyncClient:
    # The machine's own certificates, so that an operator's authority needs no setting of ours.
    verify = ssl.create_default_context()
    limits = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=4)
    return httpx2.AsyncClient(
        verify=verify, timeout=timeout_seconds, limits=limits, follow_redirects=False, trust_env=False
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
