"""The embedded identity provider: Keycloak's addresses and token shape, keys in a folder.

For development and tests. It issues a token for whoever can run a command on this machine,
so in `stage` and `prod` it refuses to exist, and it offers no token endpoint over HTTP.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from byodpp.exceptions import NotFound, Problem, StartError
from byodpp.identity.keys import KeyFolder
from byodpp.identity.local_realms import LocalRealms
from byodpp.identity.provider import BrowserSignIn, Renewed

__all__ = ["LOCAL_ISSUER_URL", "LocalIssuer"]

#: Where the local issuer's realms lie, by name: a name that depends on no host and no port, so that
#: a token is valid however the server was started and wherever a client reaches it.
LOCAL_ISSUER_URL: Final = "http://localhost/byodpp"

#: `typ` of a refresh token: as an access token it is worth nothing.
_REFRESH: Final = "Refresh"
#: Subjects that are not UUIDs already become one, as Keycloak's are: the same name, the same user.
_SUBJECTS: Final = uuid.UUID("6f9619ff-8b86-4d01-b42d-00cf4fc964ff")


class LocalIssuer:
    """An issuer whose realms are created by the first token that is issued for them."""

    def __init__(
        self,
        *,
        state_folder: Path,
        audience: str,
        environment: str,
        base_url: str | None = None,
        served_at: str | None = None,
        keys: KeyFolder | None = None,
    ) -> None:
        """Args:
        state_folder: the application's `.byodpp` folder; keys lie in `keys/` below it.
        base_url: of the realms' names (`iss`); LOCAL_ISSUER_URL when omitted.
        served_at: where this server is reached, e.g. `http://127.0.0.1:3000`, for the address of
            the keys; `base_url` when omitted.
        audience: `aud` and `azp` of the tokens.
        environment: `dev` or `test`.
        keys: those below the state folder, where others have read them already.

        Raises:
            StartError: it is another environment.
        """
        if environment not in ("dev", "test"):
            raise StartError(
                [
                    Problem(
                        "identity",
                        f"the local issuer does not run in {environment}: "
                        "whoever runs a command here is everybody",
                        "Use identity: keycloak.",
                    )
                ]
            )
        self._base_url = (base_url or LOCAL_ISSUER_URL).rstrip("/")
        self._served_at = (served_at or self._base_url).rstrip("/")
        self._audience = audience
        self._folder = keys or KeyFolder(state_folder / "keys")
        # realm -> stamps of its files before they were read, what they say
        self._told: dict[str, tuple[tuple[object, object], Mapping[str, Any]]] = {}
        #: The right to make realms and users: here everybody's.
        self.administration = LocalRealms(state_folder / "realms", self._folder)

    def issuer_url(self, realm: str) -> str:
        """Return the `iss` of the realm's tokens."""
        return f"{self._base_url}/realms/{realm}"

    def browser_sign_in(self, realm: str) -> BrowserSignIn | None:
        """Return None: nobody signs in here, tokens are asked for on the command line."""
        return None

    async def signing_keys(self, realm: str) -> Mapping[str, Any] | None:
        """Return the realm's public keys; None when it never had any, or is not enabled."""
        stamps = (self._folder.stamp(realm), self.administration.stamp(realm))
        told = self._told.get(realm)
        # Asked twice a minute for each realm: a thread for it would cost fifty times as much as two stats.
        if told is not None and told[0] == stamps:
            return told[1]
        keys = await asyncio.to_thread(self._public_keys, realm)
        if keys is None:
            self._told.pop(realm, None)
        else:
            self._told[realm] = (stamps, keys)
        return keys

    def _public_keys(self, realm: str) -> Mapping[str, Any] | None:
        keys = self._folder.public(realm)
        return {"keys": keys} if keys is not None and self.administration.enabled(realm) else None

    async def renew(self, realm: str, refresh_token: str) -> Renewed | None:
        """Exchange a token of `issue_refresh`; None when it is none, has ended, or the realm is closed."""
        found = await self.signing_keys(realm)
        claims = {} if found is None else _signed(refresh_token, found)
        if claims.get("typ") != _REFRESH or claims.get("iss") != self.issuer_url(realm):
            return None
        if claims["exp"] <= time.time():
            return None
        said = {name: claims[name] for name in ("name", "user_name", "email")}
        access = await asyncio.to_thread(self.issue, realm, claims["sub"], roles=claims["roles"], **said)
        return Renewed(access_token=access, refresh_token=refresh_token)

    async def sign_out(self, realm: str, refresh_token: str) -> None:
        """Return at once: nobody is signed in here."""

    async def open(self) -> None:
        """Return at once: whether it may be used was asked when it was made."""

    async def health(self) -> None:
        """Return at once: the issuer is this process."""

    async def close(self) -> None:
        """Return at once: nothing is open."""

    async def certs(self, realm: str) -> Mapping[str, Any]:
        """Return the document of `/realms/{realm}/protocol/openid-connect/certs`.

        Raises:
            NotFound: there is no such realm.
        """
        if (keys := await self.signing_keys(realm)) is None:
            raise NotFound("There is no such realm")
        return keys

    async def configuration(self, realm: str) -> Mapping[str, Any]:
        """Return the document of `/realms/{realm}/.well-known/openid-configuration`.

        Raises:
            NotFound: there is no such realm.
        """
        await self.certs(realm)
        issuer = self.issuer_url(realm)
        return {
            "issuer": issuer,
            "jwks_uri": f"{self._served_at}/realms/{realm}/protocol/openid-connect/certs",
            "response_types_supported": ["none"],
            "grant_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claims_supported": ["iss", "sub", "aud", "azp", "exp", "iat", "jti", "realm_access", "name"],
        }

    def ensure_realm(self, realm: str) -> None:
        """Make the realm's keys when it has none."""
        self._folder.ensure(realm)

    def rotate_keys(self, realm: str, *, keep: int = 1) -> None:
        """Sign with a new key from now on.

        Args:
            realm: whose keys.
            keep: how many former keys still verify.
        """
        self._folder.rotate(realm, keep=keep)

    def remove_realm(self, realm: str) -> None:
        """Delete the realm's keys: none of its tokens is valid any more."""
        self._folder.remove(realm)

    def issue(
        self,
        realm: str,
        subject: str,
        *,
        roles: Iterable[str] = (),
        name: str | None = None,
        user_name: str | None = None,
        email: str | None = None,
        lifetime_seconds: int = 3600,
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """Sign an access token with the claims Keycloak's have.

        Args:
            realm: a tenant's ULID, or the platform realm; made when it is new.
            subject: a UUID, or a name from which one is derived.
            roles: realm roles.
            name: shown name; the subject when omitted.
            user_name: `preferred_username`; the subject when omitted.
            email: none when omitted.
            lifetime_seconds: from now until it expires.
            claims: added to the token, or replacing what it would say; None removes one.
        """
        now = int(time.time())
        payload: dict[str, Any] = {
            "exp": now + lifetime_seconds,
            "iat": now,
            "jti": str(uuid.uuid4()),
            "iss": self.issuer_url(realm),
            "aud": self._audience,
            "sub": _subject(subject),
            "typ": "Bearer",
            "azp": self._audience,
            "sid": str(uuid.uuid4()),
            "acr": "1",
            "realm_access": {"roles": sorted(set(roles))},
            "scope": "openid profile email",
            "email_verified": email is not None,
            "name": name or subject,
            "preferred_username": user_name or subject,
            "email": email,
            **(claims or {}),
        }
        return self._sign(realm, payload)

    def issue_refresh(
        self,
        realm: str,
        subject: str,
        *,
        roles: Iterable[str] = (),
        name: str | None = None,
        user_name: str | None = None,
        email: str | None = None,
        lifetime_seconds: int = 1_209_600,
    ) -> str:
        """Sign a refresh token, which `renew` takes for access tokens as `issue` would make them now.

        Args:
            realm: as of `issue`.
            subject: as of `issue`, and all the others.
            roles: realm roles.
            name: shown name.
            user_name: `preferred_username`.
            email: none when omitted.
            lifetime_seconds: from now until it expires.
        """
        now = int(time.time())
        payload = {
            "exp": now + lifetime_seconds,
            "iat": now,
            "jti": str(uuid.uuid4()),
            "iss": self.issuer_url(realm),
            "sub": _subject(subject),
            "typ": _REFRESH,
            "roles": sorted(set(roles)),
            "name": name or subject,
            "user_name": user_name or subject,
            "email": email or "",
        }
        return self._sign(realm, payload)

    def _sign(self, realm: str, payload: Mapping[str, Any]) -> str:
        key = self._folder.ensure(realm)[0]
        present = {claim: value for claim, value in payload.items() if value is not None}
        header = {"alg": "RS256", "typ": "JWT", "kid": key.kid}
        return jws.serialize_compact(header, json.dumps(present), key, algorithms=["RS256"])


def _signed(token: str, keys: Any) -> dict[str, Any]:
    """Return what a token of these keys says; nothing of any other text."""
    try:
        found = jws.deserialize_compact(token, KeySet.import_key_set(keys), algorithms=["RS256"])
        claims: dict[str, Any] = json.loads(found.payload)
    except (JoseError, ValueError):
        return {}
    return claims


def _subject(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return str(uuid.uuid5(_SUBJECTS, text))
