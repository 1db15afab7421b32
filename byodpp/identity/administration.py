"""What is asked of an identity provider beyond tokens: its realms, users, roles, clients, and mails.

Every operation may be repeated, and may take over where an earlier one was cut off: it says what
shall be, not what to do. Errors are those of `exceptions`: NotFound, UniqueConflict,
ValidationFailed, BadGateway when the provider refuses us or fails, AuthUnavailable when it is away.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

from byodpp.exceptions import Conflict, Detail, ValidationFailed

__all__ = [
    "INVITATION_SECONDS",
    "STANDARD_ROLES",
    "IdentityAdministration",
    "MailServer",
    "Person",
    "RealmPlan",
    "SignInProvider",
    "check_alias",
    "check_enabled",
    "check_foreign",
    "check_program",
    "check_realm_name",
]

#: Roles that every tenant begins with.
STANDARD_ROLES: Final = ("Admin", "Manager", "Viewer")
#: How long an invitation may be followed.
INVITATION_SECONDS: Final = 86_400

#: What an alias may look like: it becomes part of addresses.
_ALIAS: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NO_ALIAS: Final = Detail("alias", "invalid", "must be small letters, digits, and -, at most 63")
#: Clients that every realm of Keycloak has; programs sign in as none of them.
_KEYCLOAKS_CLIENTS: Final = frozenset(
    {"account", "account-console", "admin-cli", "broker", "realm-management", "security-admin-console"}
)
_CLIENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_REALM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmPlan:
    """What a tenant's realm shall be."""

    name: str  # the tenant's ULID
    display_name: str
    roles: tuple[str, ...] = STANDARD_ROLES
    groups: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()  # of the tenant's own browser applications, beside the platform's


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who shall be able to sign in. The address is the name; nobody else of the realm may have it."""

    email: str
    first_name: str = ""
    last_name: str = ""
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """By which server a realm sends its mails."""

    host: str
    port: int
    sender: str
    sender_name: str | None = None
    security: str = "starttls"  # none, starttls, tls
    user: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInProvider:
    """An identity provider of a tenant's own, at which its people sign in (single sign-on)."""

    alias: str  # names it within the realm, and in addresses
    kind: Literal["saml", "oidc"]
    metadata: str  # address of its SAML metadata, or of its OpenID configuration
    title: str  # what people read on the button
    client_id: str | None = None  # of us, at an OpenID provider
    client_secret: str | None = field(default=None, repr=False)
    roles: tuple[str, ...] = ()  # that whoever comes from there for the first time gets
    trust_email: bool = False  # whether its addresses count as verified

    def check(self) -> None:
        """Refuse what no provider can take.

        Raises:
            ValidationFailed: with each fault.
        """
        faults = []
        if not _ALIAS.fullmatch(self.alias):
            faults.append(_NO_ALIAS)
        if urlsplit(self.metadata).scheme not in ("http", "https") or not urlsplit(self.metadata).hostname:
            faults.append(Detail("metadata", "format", "must be an address that begins with https://"))
        if self.kind == "oidc" and not (self.client_id and self.client_secret):
            faults.append(Detail("client", "required", "OpenID needs a client id and its secret"))
        if faults:
            raise ValidationFailed("This cannot be an identity provider", details=faults)


class IdentityAdministration(Protocol):
    """The right to make realms and users. A user is told by the subject of their tokens."""

    async def put_realm(self, plan: RealmPlan) -> None:
        """Make the realm, its roles, groups, and client, or what of them is missing.

        An existing realm keeps its settings: somebody may have changed them on purpose.
        """
        ...

    async def update_realm(
        self,
        realm: str,
        *,
        display_name: str | None = None,
        enabled: bool | None = None,
        theme: str | None = None,
        addresses: Collection[str] | None = None,
    ) -> None:
        """Change what is given. Nobody signs in at a realm that is not enabled.

        Args:
            realm: that is there.
            display_name: what people read where they sign in.
            enabled: whether anybody signs in.
            theme: of its pages.
            addresses: of the tenant's own browser applications, beside the platform's.

        Raises:
            NotFound: there is no such realm.
        """
        ...

    async def renew_realm(self, plan: RealmPlan) -> None:
        """Give an existing realm the settings that a new one gets: passwords, sessions, mails, theme."""
        ...

    async def remove_realm(self, realm: str) -> None:
        """Delete the realm with everybody in it; also when there is none."""
        ...

    async def put_role(self, realm: str, role: str) -> None:
        """Make a role that users may hold."""
        ...

    async def put_user(self, realm: str, person: Person) -> str:
        """Make a user with these roles, or give an existing one of that address these roles.

        Returns:
            The subject.

        Raises:
            Conflict: the existing one is disabled.
        """
        ...

    async def roles_of(self, realm: str, email: str) -> frozenset[str] | None:
        """Return the roles that the user of an address holds; None: there is no such user."""
        ...

    async def sync_roles(self, realm: str, subject: str, roles: Iterable[str]) -> None:
        """Let the user hold these roles and no others, making roles that are missing."""
        ...

    async def set_user_enabled(self, realm: str, subject: str, enabled: bool) -> None:
        """Let the user sign in, or not."""
        ...

    async def set_password(self, realm: str, subject: str, password: str, *, temporary: bool = True) -> None:
        """Set a password; a temporary one is changed at the first sign-in."""
        ...

    async def remove_user(self, realm: str, subject: str) -> None:
        """Delete the user; also when there is none."""
        ...

    async def invite(
        self, realm: str, subject: str, *, path: str, lifetime_seconds: int = INVITATION_SECONDS
    ) -> None:
        """Mail the user a link to confirm their address and choose a password.

        Args:
            realm: the user's.
            subject: the user.
            path: where the link leads in the end, below the browser application, e.g. `/complete-setup`.
            lifetime_seconds: how long the link works.
        """
        ...

    async def log_out_user(self, realm: str, subject: str) -> None:
        """End the user's sessions: no token is renewed."""
        ...

    async def log_out_everyone(self, realm: str) -> None:
        """End every session of the realm: no token is renewed."""
        ...

    async def put_service_account(self, realm: str, client: str, roles: Iterable[str]) -> str:
        """Make a client that signs in for itself, with these roles and no others.

        Returns:
            Its secret, the same at every call.
        """
        ...

    async def renew_secret(self, realm: str, client: str) -> str:
        """Give a service account a new secret, and return it; the former one is worth nothing."""
        ...

    async def remove_service_account(self, realm: str, client: str) -> None:
        """Delete the client; also when there is none."""
        ...

    async def require_second_factor(self, realm: str, *, required: bool) -> None:
        """Ask everybody who has given a password for a code of an authenticator, too; or only who has one.

        Who has none sets one up at the next sign-in.
        """
        ...

    async def put_sign_in_provider(self, realm: str, provider: SignInProvider) -> None:
        """Let people sign in at an identity provider of the tenant's own; or bring it up to date.

        Raises:
            ValidationFailed: it is no provider, or nothing is to be read at its address.
        """
        ...

    async def remove_sign_in_provider(self, realm: str, alias: str) -> None:
        """Forget the identity provider; also when there is none. Users who came from there stay."""
        ...


def check_realm_name(realm: str) -> None:
    """Refuse a name that would be another address.

    Raises:
        ValidationFailed: letters, digits, `_` and `-` are allowed, at most 64.
    """
    if not _REALM.fullmatch(realm):
        reason = "must be letters, digits, _ and -, at most 64"
        raise ValidationFailed(
            f"A realm cannot be called {realm[:80]!r}", details=[Detail("realm", "invalid", reason)]
        )


def check_alias(alias: str) -> None:
    """Refuse the alias of a sign-in provider that would be another address.

    Raises:
        ValidationFailed: it is none.
    """
    if not _ALIAS.fullmatch(alias):
        raise ValidationFailed(f"No identity provider is called {alias[:80]!r}", details=[_NO_ALIAS])


def check_enabled(enabled: bool) -> None:
    """Refuse to give roles, a password, or an invitation to whom somebody has disabled there.

    Raises:
        Conflict: he could not sign in.
    """
    if not enabled:
        raise Conflict("The user's account is disabled at the identity provider: enable it there first")


def check_program(client: str, people: str = "") -> None:
    """Refuse a client id that no program gets.

    Args:
        client: its id.
        people: id of the client of browsers.

    Raises:
        ValidationFailed: it belongs to somebody else, or is none.
    """
    check_foreign(client, people)
    if not _CLIENT.fullmatch(client):
        reason = "must be letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most 255"
        raise _no_program(client, reason)


def check_foreign(client: str, people: str = "") -> None:
    """Refuse the client of somebody else: by those, people sign in.

    Nothing else is asked of one that is there, which may have got its name by hand, or by an older program.

    Args:
        client: its id.
        people: id of the client of browsers.

    Raises:
        ValidationFailed: it is not a program's.
    """
    if client in _KEYCLOAKS_CLIENTS or (people and client == people):
        raise _no_program(client, "is what people sign in by, and no program's: choose another")


def _no_program(client: str, reason: str) -> ValidationFailed:
    told = f"No service account is called {client[:80]!r}"
    return ValidationFailed(told, details=[Detail("client", "invalid", reason)])
