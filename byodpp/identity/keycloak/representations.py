"""What Keycloak is told of a realm, a client, and a user, as the documents its interface takes.

Values in, dictionaries out; nothing is asked and nothing refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from byodpp.identity.administration import MailServer, Person, RealmPlan, SignInProvider

__all__ = [
    "RESERVED_ROLES",
    "ROLE_MAPPER",
    "RealmStandard",
    "browser_client",
    "person",
    "realm_settings",
    "role_mapper",
    "role_names",
    "scope",
    "service_client",
    "sign_in_provider",
    "theme",
]

#: Roles that Keycloak itself gives to everybody, beside `default-roles-<realm>`.
RESERVED_ROLES: Final = frozenset({"offline_access", "uma_authorization"})

#: Begins the names of our mappers at a tenant's own identity provider; others are not ours.
ROLE_MAPPER: Final = "role "

_FORTNIGHT_SECONDS: Final = 1_209_600
#: What the tokens of our clients say, beside the audience: subject, name, address, and roles.
_SCOPES: Final = ("acr", "basic", "email", "profile", "roles", "web-origins")


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmStandard:
    """What all realms have in common."""

    audience: (
        str  # of the API: in the `aud` of every token for it, and the name of the scope that puts it there
    )
    browser_client: str = "byodpp-web"  # by which people sign in
    addresses: tuple[str, ...] = ()  # of browser applications; the first one is where invitations lead
    documentation: str | None = None  # address of the documentation page, which signs in, too
    password_grant: bool = False  # whether programs may sign people in with their passwords
    second_factor: bool = False  # whether whoever is made from now on sets one up at the first sign-in
    theme: str | None = None
    mail: MailServer | None = None


def realm_settings(plan: RealmPlan, standard: RealmStandard) -> dict[str, Any]:
    """Return the settings of a realm: passwords, guessing, sessions, mails, looks."""
    return {
        "realm": plan.name,
        "displayName": plan.display_name,
        "enabled": True,
        "sslRequired": "external",
        "registrationAllowed": False,
        "loginWithEmailAllowed": True,
        "duplicateEmailsAllowed": False,
        "resetPasswordAllowed": standard.mail is not None,  # else it leads people to an error
        "editUsernameAllowed": False,
        "defaultSignatureAlgorithm": "RS256",
        "passwordPolicy": "length(12) and notUsername(undefined) and passwordHistory(10)",
        # Six digits of half a minute, each good once: what every authenticator knows.
        "otpPolicyType": "totp",
        "otpPolicyAlgorithm": "HmacSHA1",
        "otpPolicyDigits": 6,
        "otpPolicyPeriod": 30,
        "otpPolicyLookAheadWindow": 1,
        "otpPolicyCodeReusable": False,
        "bruteForceProtected": True,
        "permanentLockout": True,
        "failureFactor": 3,
        "maxTemporaryLockouts": 3,
        "maxFailureWaitSeconds": 900,
        "accessTokenLifespan": 3600,
        "ssoSessionIdleTimeout": _FORTNIGHT_SECONDS,
        "ssoSessionMaxLifespan": _FORTNIGHT_SECONDS,
        "offlineSessionIdleTimeout": _FORTNIGHT_SECONDS,
        "offlineSessionMaxLifespanEnabled": True,
        "offlineSessionMaxLifespan": _FORTNIGHT_SECONDS,
        **theme(standard.theme),
        **({} if standard.mail is None else {"smtpServer": _mail(standard.mail)}),
    }


def theme(name: str | None) -> dict[str, Any]:
    """Return the settings of a theme for all that people see."""
    return {} if name is None else dict.fromkeys(("loginTheme", "accountTheme", "emailTheme"), name)


def _mail(mail: MailServer) -> dict[str, Any]:
    told = {
        "host": mail.host,
        "port": str(mail.port),
        "from": mail.sender,
        "fromDisplayName": mail.sender_name or "",
        "starttls": str(mail.security == "starttls").lower(),
        "ssl": str(mail.security == "tls").lower(),
        "auth": str(mail.user is not None).lower(),
    }
    return told if mail.user is None else {**told, "user": mail.user, "password": mail.password or ""}


def scope(standard: RealmStandard) -> dict[str, Any]:
    """Return the client scope that names the API as the audience of a token."""
    return {
        "name": standard.audience,
        "description": "Tokens for the API",
        "protocol": "openid-connect",
        "attributes": {"include.in.token.scope": "false", "display.on.consent.screen": "false"},
        "protocolMappers": [
            {
                "name": "audience",
                "protocol": "openid-connect",
                "protocolMapper": "oidc-audience-mapper",
                "config": {
                    "included.custom.audience": standard.audience,
                    "access.token.claim": "true",
                    "id.token.claim": "false",
                    "introspection.token.claim": "true",
                },
            }
        ],
    }


def browser_client(plan: RealmPlan, standard: RealmStandard) -> dict[str, Any]:
    """Return the client of browser applications: no secret, which none of them could keep, but PKCE."""
    addresses = [one.rstrip("/") for one in (*standard.addresses, *plan.addresses)]
    pages = [] if standard.documentation is None else [standard.documentation]
    return {
        "clientId": standard.browser_client,
        "name": "Browser applications",
        "publicClient": True,
        "standardFlowEnabled": True,
        "implicitFlowEnabled": False,
        "directAccessGrantsEnabled": standard.password_grant,
        "serviceAccountsEnabled": False,
        "redirectUris": [*(f"{one}/*" for one in addresses), *pages],
        "webOrigins": sorted({_origin(one) for one in (*addresses, *pages)}),
        "attributes": {"pkce.code.challenge.method": "S256", "post.logout.redirect.uris": "+"},
        "defaultClientScopes": [*_SCOPES, standard.audience],
        "optionalClientScopes": ["offline_access"],
    }


def service_client(client: str, standard: RealmStandard) -> dict[str, Any]:
    """Return a client that signs in for itself with its secret, and in no other way."""
    return {
        "clientId": client,
        "publicClient": False,
        "standardFlowEnabled": False,
        "implicitFlowEnabled": False,
        "directAccessGrantsEnabled": False,
        "serviceAccountsEnabled": True,
        "defaultClientScopes": [*_SCOPES, "service_account", standard.audience],
        "optionalClientScopes": [],
    }


def sign_in_provider(provider: SignInProvider, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity provider of a tenant's own.

    Args:
        provider: what an operator says of it.
        told: what Keycloak has read of it at its address.
    """
    config = {**told, "syncMode": "IMPORT", "validateSignature": "true"}
    if provider.kind == "oidc":
        config |= {
            "clientId": provider.client_id,
            "clientSecret": provider.client_secret,
            "clientAuthMethod": "client_secret_post",
            "defaultScope": "openid email profile",
            "pkceEnabled": "true",
            "pkceMethod": "S256",
        }
    return {
        "alias": provider.alias,
        "providerId": provider.kind,
        "displayName": provider.title,
        "enabled": True,
        "trustEmail": provider.trust_email,
        "storeToken": False,
        "config": config,
    }


def role_mapper(alias: str, role: str) -> dict[str, Any]:
    """Return what gives a role to whoever comes from a provider for the first time."""
    return {
        "name": f"{ROLE_MAPPER}{role}",
        "identityProviderAlias": alias,
        "identityProviderMapper": "oidc-hardcoded-role-idp-mapper",  # of SAML, too, whatever its name says
        "config": {"syncMode": "INHERIT", "role": role},
    }


def person(who: Person) -> dict[str, Any]:
    """Return a user."""
    return {
        "username": who.email.lower(),
        "email": who.email.lower(),
        "firstName": who.first_name,
        "lastName": who.last_name,
        "enabled": True,
        "emailVerified": False,
    }


def role_names(roles: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return roles by name, without those that Keycloak itself gives to everybody."""
    return {
        one["name"]: one
        for one in roles
        if one["name"] not in RESERVED_ROLES and not one["name"].startswith("default-roles-")
    }


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
