"""The identity port: what the framework asks of an OpenID Connect provider with a realm per tenant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from byodpp.identity.administration import IdentityAdministration

__all__ = ["BrowserSignIn", "IdentityProvider", "Renewed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserSignIn:
    """Where a person signs in at a realm with a browser, by authorization code with PKCE."""

    issuer: str
    authorization: str  # addresses of the realm's endpoints
    token: str
    end_session: str
    client: str
    redirect_to: str  # where the browser comes back to: the documentation page


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """What a refresh token was exchanged for."""

    access_token: str
    refresh_token: str  # for the next time; may be the same


class IdentityProvider(Protocol):
    """An issuer of tokens. A realm's name is its tenant's ULID; the operators have one of their own."""

    @property
    def administration(self) -> IdentityAdministration | None:
        """The right to make realms and users; None when this process was given none."""
        ...

    def issuer_url(self, realm: str) -> str:
        """Return the `iss` of the realm's tokens, exactly. Never asks anybody, never fails."""
        ...

    def browser_sign_in(self, realm: str) -> BrowserSignIn | None:
        """Return where the documentation page signs people in; None when nobody signs in with a browser."""
        ...

    async def signing_keys(self, realm: str) -> Mapping[str, Any] | None:
        """Return the realm's public keys as a JSON Web Key Set; None when there is no such realm.

        Raises:
            Exception: any, when the provider is away; the caller answers 503.
        """
        ...

    async def renew(self, realm: str, refresh_token: str) -> Renewed | None:
        """Exchange a refresh token of the browsers' client; None when it is good no more.

        Raises:
            AuthUnavailable: the provider is away.
        """
        ...

    async def sign_out(self, realm: str, refresh_token: str) -> None:
        """End the session that a refresh token is of; one that has ended is well.

        Raises:
            AuthUnavailable: the provider is away.
        """
        ...

    async def open(self) -> None:
        """Look, at the start, whether this provider may be used; one that is away may be.

        Raises:
            StartError: it may not: it is too old, or refuses our credentials.
        """
        ...

    async def health(self) -> None:
        """Return when the provider answers.

        Raises:
            AuthUnavailable: it does not.
        """
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...
