"""Realms, users, roles, clients, and mails of a real Keycloak.

Every operation asks what is there and makes what is missing, in steps of which each may be the
last before a crash; so the next call of the same operation ends what this one began. Nothing of a
caller's becomes part of an address unless it was checked to be a plain name.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from byodpp.exceptions import NotFound, UniqueConflict, ValidationFailed
from byodpp.identity.administration import (
    INVITATION_SECONDS,
    Person,
    RealmPlan,
    SignInProvider,
    check_alias,
    check_enabled,
    check_foreign,
    check_program,
    check_realm_name,
)
from byodpp.identity.keycloak import representations, sign_in
from byodpp.identity.keycloak.representations import RealmStandard
from byodpp.identity.keycloak.server import KeycloakServer, tolerated

if TYPE_CHECKING:
    from keycloak import KeycloakAdmin

__all__ = ["KeycloakAdministration"]

_SUBJECT: Final = re.compile(r"[0-9a-f-]{36}")
#: What somebody who was invited does before anything else.
_ACTIONS: Final = ("VERIFY_EMAIL", "UPDATE_PASSWORD")
_SECOND_FACTOR: Final = "CONFIGURE_TOTP"


class KeycloakAdministration:
    """What the identity port asks, said to Keycloak."""

    def __init__(self, server: KeycloakServer, standard: RealmStandard) -> None:
        """Args:
        server: signed in as an administrator of all realms.
        standard: what all realms have in common.
        """
        self._server = server
        self._standard = standard

    # --- realms -----------------------------------------------------------------------

    async def put_realm(self, plan: RealmPlan) -> None:
        """Make the realm, its roles, groups, and client, or what of them is missing."""
        check_realm_name(plan.name)
        async with self._server.realm(plan.name) as admin:
            with tolerated(409):
                await admin.a_create_realm(representations.realm_settings(plan, self._standard))
            if self._standard.second_factor:
                await _ask_for_second_factor(admin, True)
            await self._put_clients(admin, plan)
            await _put_roles(admin, plan.roles)
            for group in plan.groups:
                await admin.a_create_group({"name": group}, skip_exists=True)

    async def renew_realm(self, plan: RealmPlan) -> None:
        """Give an existing realm the settings that a new one gets."""
        check_realm_name(plan.name)
        async with self._server.realm(plan.name) as admin:
            settings = representations.realm_settings(plan, self._standard)
            del settings["enabled"]  # a suspended tenant stays suspended
            await admin.a_update_realm(plan.name, settings)
            await _ask_for_second_factor(admin, self._standard.second_factor)
            await self._put_clients(admin, plan)

    async def update_realm(
        self,
        realm: str,
        *,
        display_name: str | None = None,
        enabled: bool | None = None,
        theme: str | None = None,
        addresses: Collection[str] | None = None,
    ) -> None:
        """Change what is given."""
        check_realm_name(realm)
        changes = {"displayName": display_name, "enabled": enabled, **representations.theme(theme)}
        async with self._server.realm(realm) as admin:
            await admin.a_update_realm(
                realm, {name: value for name, value in changes.items() if value is not None}
            )
            if addresses is not None:
                plan = RealmPlan(name=realm, display_name=display_name or "", addresses=tuple(addresses))
                await self._put_clients(admin, plan)

    async def remove_realm(self, realm: str) -> None:
        """Delete the realm with everybody in it; also when there is none."""
        check_realm_name(realm)
        async with self._server.realm(realm) as admin:
            with tolerated(404):
                await admin.a_delete_realm(realm)

    async def log_out_everyone(self, realm: str) -> None:
        """End every session of the realm, those kept for absent users included."""
        check_realm_name(realm)
        async with self._server.realm(realm) as admin:
            # Sessions that outlive their users' presence are not ended by a log-out, but by this date.
            await admin.a_update_realm(realm, {"notBefore": int(time.time())})
            await self._server.post(admin, f"admin/realms/{realm}/logout-all")

    async def _put_clients(self, admin: KeycloakAdmin, plan: RealmPlan) -> None:
        """Make the scope of the API and the client of browsers, and bring that one's addresses up to date."""
        with tolerated(409):
            await admin.a_create_client_scope(representations.scope(self._standard))
        client = representations.browser_client(plan, self._standard)
        made = await _put_client(admin, client)
        changing = ("clientId", "redirectUris", "webOrigins", "directAccessGrantsEnabled", "attributes")
        await admin.a_update_client(made, {name: client[name] for name in changing})

    # --- users ------------------------------------------------------------------------

    async def put_role(self, realm: str, role: str) -> None:
        """Make a role that users may hold."""
        check_realm_name(realm)
        async with self._server.realm(realm) as admin:
            await _put_roles(admin, [role])

    async def put_user(self, realm: str, person: Person) -> str:
        """Make a user with these roles, or give an existing one of that address these roles."""
        check_realm_name(realm)
        wanted = representations.person(person)
        async with self._server.realm(realm) as admin:
            with tolerated(409):
                await admin.a_create_user(wanted)
            subject = await admin.a_get_user_id(wanted["username"])
            if subject is None:
                raise UniqueConflict("Another user of the realm has this address")
            check_enabled((await admin.a_get_user(subject))["enabled"])
            await _hold_roles(admin, subject, person.roles)
            return str(subject)

    async def roles_of(self, realm: str, email: str) -> frozenset[str] | None:
        """Return the roles that the user of an address holds; None: there is no such user."""
        check_realm_name(realm)
        async with self._server.realm(realm) as admin:
            subject = await admin.a_get_user_id(representations.person(Person(email=email))["username"])
            if subject is None:
                return None
            return frozenset(representations.role_names(await admin.a_get_realm_roles_of_user(subject)))

    async def sync_roles(self, realm: str, subject: str, roles: Iterable[str]) -> None:
        """Let the user hold these roles and no others, making roles that are missing."""
        _check(realm, subject)
        async with self._server.realm(realm) as admin:
            await _hold_roles(admin, subject, roles)

    async def set_user_enabled(self, realm: str, subject: str, enabled: bool) -> None:
        """Let the user sign in, or not."""
        _check(realm, subject)
        async with self._server.realm(realm) as admin:
            # Whole, because what an update of a user leaves out is taken for deleted.
            await admin.a_update_user(subject, {**await admin.a_get_user(subject), "enabled": enabled})

    async def set_password(self, realm: str, subject: str, password: str, *, temporary: bool = True) -> None:
        """Set a password; a temporary one is changed at the first sign-in."""
        _check(realm, subject)
        async with self._server.realm(realm) as admin:
            await admin.a_set_user_password(subject, password, temporary=temporary)

    async def remove_user(self, realm: str, subject: str) -> None:
        """Delete the user; also when there is none."""
        _check(realm, subject)
        async with self._server.realm(realm) as admin:
            with tolerated(404):
                await admin.a_delete_user(subject)

    async def invite(
        self, realm: str, subject: str, *, path: str, lifetime_seconds: int = INVITATION_SECONDS
    ) -> None:
        """Mail the user a link to confirm their address and choose a password."""
        _check(realm, subject)
        if self._standard.mail is None:
            raise ValidationFailed(
                "No mail can be sent: smtp_host is not set. Set it, or let a password be printed (--password)"
            )
        async with self._server.realm(realm) as admin:
            await admin.a_send_update_account(
                subject,
                list(_ACTIONS),
                client_id=self._standard.browser_client,
                lifespan=lifetime_seconds,
                redirect_uri=self._landing(path),
            )

    async def log_out_user(self, realm: str, subject: str) -> None:
        """End the user's sessions: no token is renewed."""
        _check(realm, subject)
        async with self._server.realm(realm) as admin:
            await admin.a_user_logout(subject)

    def _landing(self, path: str) -> str | None:
        """Return where an invitation leads in the end: an application of ours, whatever the path says."""
        if not self._standard.addresses:
            return self._standard.documentation
        if not path.startswith("/") or urlsplit(path).netloc:
            raise ValidationFailed("The path of an invitation must begin with one `/`")
        return self._standard.addresses[0].rstrip("/") + path

    # --- service accounts ---------------------------------------------------------------

    async def put_service_account(self, realm: str, client: str, roles: Iterable[str]) -> str:
        """Make a client that signs in for itself, with these roles and no others; return its secret."""
        check_realm_name(realm)
        check_program(client, self._standard.browser_client)
        async with self._server.realm(realm) as admin:
            made = await _put_client(admin, representations.service_client(client, self._standard))
            user = await admin.a_get_client_service_account_user(made)
            await _hold_roles(admin, user["id"], roles)
            return str((await admin.a_get_client_secrets(made))["value"])

    async def renew_secret(self, realm: str, client: str) -> str:
        """Give a service account a new secret, and return it."""
        check_realm_name(realm)
        check_foreign(client, self._standard.browser_client)
        async with self._server.realm(realm) as admin:
            made = await _client_id(admin, client)
            return str((await admin.a_generate_client_secrets(made))["value"])

    async def remove_service_account(self, realm: str, client: str) -> None:
        """Delete the client; also when there is none."""
        check_realm_name(realm)
        check_foreign(client, self._standard.browser_client)
        async with self._server.realm(realm) as admin:
            if (made := await admin.a_get_client_id(client)) is not None:
                with tolerated(404):
                    await admin.a_delete_client(made)

    # --- how people sign in -------------------------------------------------------------

    async def require_second_factor(self, realm: str, *, required: bool) -> None:
        """Ask everybody for a code of an authenticator, or only who has one."""
        check_realm_name(realm)
        async with self._server.realm(realm) as admin:
            await sign_in.require_second_factor(admin, required=required)

    async def put_sign_in_provider(self, realm: str, provider: SignInProvider) -> None:
        """Let people sign in at an identity provider of the tenant's own."""
        check_realm_name(realm)
        async with self._server.realm(realm) as admin:
            await sign_in.put_provider(self._server, admin, realm, provider)

    async def remove_sign_in_provider(self, realm: str, alias: str) -> None:
        """Forget the identity provider; also when there is none."""
        check_realm_name(realm)
        check_alias(alias)
        async with self._server.realm(realm) as admin:
            await sign_in.remove_provider(admin, alias)


async def _put_client(admin: KeycloakAdmin, client: dict[str, Any]) -> str:
    """Make a client unless it is there, and return Keycloak's own id of it."""
    with tolerated(409):
        await admin.a_create_client(client)
    return await _client_id(admin, client["clientId"])


async def _client_id(admin: KeycloakAdmin, client: str) -> str:
    found = await admin.a_get_client_id(client)
    if found is None:
        raise NotFound("There is no such client")
    return found


async def _put_roles(admin: KeycloakAdmin, roles: Iterable[str]) -> None:
    for role in roles:
        with tolerated(409):
            await admin.a_create_realm_role({"name": role})


async def _hold_roles(admin: KeycloakAdmin, subject: str, roles: Iterable[str]) -> None:
    """Give and take roles until the user holds those asked for."""
    wanted = set(roles)
    if reserved := wanted & representations.RESERVED_ROLES:
        raise ValidationFailed(f"Keycloak keeps these roles to itself: {', '.join(sorted(reserved))}")
    held = representations.role_names(await admin.a_get_realm_roles_of_user(subject))
    if missing := wanted - held.keys():
        known = representations.role_names(await admin.a_get_realm_roles())
        if unknown := missing - known.keys():
            await _put_roles(admin, sorted(unknown))
            known = representations.role_names(await admin.a_get_realm_roles())
        await admin.a_assign_realm_roles(subject, [known[role] for role in sorted(missing)])
    if surplus := held.keys() - wanted:
        await admin.a_delete_realm_roles_of_user(subject, [held[role] for role in sorted(surplus)])


def _check(realm: str, subject: str) -> None:
    check_realm_name(realm)
    if not _SUBJECT.fullmatch(subject):
        raise NotFound("There is no such user")


async def _ask_for_second_factor(admin: KeycloakAdmin, asked: bool) -> None:
    """Let whoever is made in the realm from now on set up a one-time password first, or not."""
    action = await admin.a_get_required_action_by_alias(_SECOND_FACTOR)
    if action is not None and action["defaultAction"] != asked:
        changed = {**action, "enabled": True, "defaultAction": asked}
        await admin.a_update_required_action(_SECOND_FACTOR, changed)
