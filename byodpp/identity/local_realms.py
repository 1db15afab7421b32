"""Realms and users of the local issuer: one JSON file per realm beside its keys.

The sibling of Keycloak's administration, for development and tests: it keeps what it is told, so
that what depends on it can be tried, and mails nobody. Several processes may share the folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from byodpp.exceptions import NotFound, ValidationFailed
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
from byodpp.identity.keys import FileStamp, KeyFolder, stamp_of

__all__ = ["LocalRealms"]

_T = TypeVar("_T")
_SHORTEST_PASSWORD: Final = 12


class LocalRealms:
    """What the identity port asks, kept in files."""

    def __init__(self, folder: Path, keys: KeyFolder) -> None:
        """Args:
        folder: made at the first write, mode 0700.
        keys: of the same issuer; a realm is made with its keys and goes with them.
        """
        self._folder = folder
        self._keys = keys

    def enabled(self, realm: str) -> bool:
        """Whether the realm's tokens count; one that was never made here is one of the first hour."""
        try:
            return bool(self._read(realm)["enabled"])
        except NotFound:
            return True

    def stamp(self, realm: str) -> FileStamp | None:
        """Return what changes whenever something of the realm does; None when it was never made here."""
        try:
            check_realm_name(realm)
        except ValidationFailed:
            return None
        return stamp_of(self._path(realm))

    def describe(self, realm: str) -> dict[str, Any]:
        """Return everything that is kept of a realm.

        Raises:
            NotFound: there is none.
        """
        return self._read(realm)

    # --- realms -----------------------------------------------------------------------

    async def put_realm(self, plan: RealmPlan) -> None:
        """Make the realm, its roles, groups, and client, or what of them is missing."""
        check_realm_name(plan.name)
        await asyncio.to_thread(self._keys.ensure, plan.name)

        def put(document: dict[str, Any]) -> None:
            document.setdefault("displayName", plan.display_name)
            document.setdefault("enabled", True)
            document["addresses"] = sorted(plan.addresses)
            for name, more in (("roles", plan.roles), ("groups", plan.groups)):
                document[name] = sorted({*document.get(name, ()), *more})

        await self._change(plan.name, put, make=True)

    async def renew_realm(self, plan: RealmPlan) -> None:
        """Give an existing realm the settings that a new one gets."""
        given = {"displayName": plan.display_name, "addresses": sorted(plan.addresses)}
        await self._change(plan.name, lambda document: document.update(given))

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
        own = None if addresses is None else sorted(addresses)
        changes = {"displayName": display_name, "enabled": enabled, "theme": theme, "addresses": own}
        given = {name: value for name, value in changes.items() if value is not None}
        await self._change(realm, lambda document: document.update(given))

    async def remove_realm(self, realm: str) -> None:
        """Delete the realm with everybody in it; also when there is none."""
        check_realm_name(realm)
        self._path(realm).unlink(missing_ok=True)
        self._keys.remove(realm)

    async def log_out_everyone(self, realm: str) -> None:
        """Note when; the local issuer has no sessions."""
        now = int(time.time())
        await self._change(realm, lambda document: document.update(loggedOutAt=now))

    # --- users ------------------------------------------------------------------------

    async def put_role(self, realm: str, role: str) -> None:
        """Make a role that users may hold."""

        def put(document: dict[str, Any]) -> None:
            document["roles"] = sorted({*document["roles"], role})

        await self._change(realm, put)

    async def put_user(self, realm: str, person: Person) -> str:
        """Make a user with these roles, or give an existing one of that address these roles."""
        address = person.email.lower()
        if "@" not in address:
            raise ValidationFailed("The address of a user is no address")

        def put(document: dict[str, Any]) -> str:
            users = document.setdefault("users", {})
            for subject, user in users.items():
                if user["email"] == address:
                    check_enabled(user["enabled"])
                    return str(subject)
            subject = str(uuid.uuid4())
            users[subject] = {
                "email": address,
                "firstName": person.first_name,
                "lastName": person.last_name,
                "enabled": True,
                "roles": [],
            }
            return subject

        found = await self._change(realm, put)
        await self.sync_roles(realm, found, person.roles)
        return found

    async def roles_of(self, realm: str, email: str) -> frozenset[str] | None:
        """Return the roles that the user of an address holds; None: there is no such user."""
        users = (await asyncio.to_thread(self._read, realm)).get("users", {})
        return next(
            (frozenset(one["roles"]) for one in users.values() if one["email"] == email.lower()), None
        )

    async def sync_roles(self, realm: str, subject: str, roles: Iterable[str]) -> None:
        """Let the user hold these roles and no others, making roles that are missing."""
        wanted = sorted(set(roles))

        def put(document: dict[str, Any]) -> None:
            document["roles"] = sorted({*document["roles"], *wanted})
            _user(document, subject)["roles"] = wanted

        await self._change(realm, put)

    async def set_user_enabled(self, realm: str, subject: str, enabled: bool) -> None:
        """Let the user sign in, or not."""
        await self._change(realm, lambda document: _user(document, subject).update(enabled=enabled))

    async def set_password(self, realm: str, subject: str, password: str, *, temporary: bool = True) -> None:
        """Note that there is one, as nobody signs in at the local issuer with it."""
        if len(password) < _SHORTEST_PASSWORD:
            raise ValidationFailed(f"A password has at least {_SHORTEST_PASSWORD} characters")
        noted = {"passwordSet": True, "passwordTemporary": temporary}
        await self._change(realm, lambda document: _user(document, subject).update(noted))

    async def remove_user(self, realm: str, subject: str) -> None:
        """Delete the user; also when there is none."""
        await self._change(realm, lambda document: document.get("users", {}).pop(subject, None))

    async def invite(
        self, realm: str, subject: str, *, path: str, lifetime_seconds: int = INVITATION_SECONDS
    ) -> None:
        """Note the invitation; nobody is mailed."""
        noted = {"invitedUntil": int(time.time()) + lifetime_seconds, "invitedTo": path}
        await self._change(realm, lambda document: _user(document, subject).update(noted))

    async def log_out_user(self, realm: str, subject: str) -> None:
        """Note when; the local issuer has no sessions."""
        now = int(time.time())
        await self._change(realm, lambda document: _user(document, subject).update(loggedOutAt=now))

    # --- service accounts ---------------------------------------------------------------

    async def put_service_account(self, realm: str, client: str, roles: Iterable[str]) -> str:
        """Make a client that signs in for itself, with these roles and no others; return its secret."""
        check_program(client)
        wanted = sorted(set(roles))

        def put(document: dict[str, Any]) -> str:
            known = document.setdefault("clients", {}).setdefault(client, {"secret": _secret()})
            known["roles"] = wanted
            document["roles"] = sorted({*document["roles"], *wanted})
            return str(known["secret"])

        return await self._change(realm, put)

    async def renew_secret(self, realm: str, client: str) -> str:
        """Give a service account a new secret, and return it."""
        check_foreign(client)

        def put(document: dict[str, Any]) -> str:
            known = document.get("clients", {}).get(client)
            if known is None:
                raise NotFound("There is no such client")
            known["secret"] = _secret()
            return str(known["secret"])

        return await self._change(realm, put)

    async def remove_service_account(self, realm: str, client: str) -> None:
        """Delete the client; also when there is none."""
        check_foreign(client)
        await self._change(realm, lambda document: document.get("clients", {}).pop(client, None))

    # --- how people sign in ---------------------------------------------------------------

    async def require_second_factor(self, realm: str, *, required: bool) -> None:
        """Note it; nobody signs in here."""
        await self._change(realm, lambda document: document.update(secondFactor=required))

    async def put_sign_in_provider(self, realm: str, provider: SignInProvider) -> None:
        """Note it, without its secret; nobody signs in here."""
        provider.check()
        noted = {
            "kind": provider.kind,
            "metadata": provider.metadata,
            "title": provider.title,
            "clientId": provider.client_id,
            "roles": sorted(set(provider.roles)),
            "trustEmail": provider.trust_email,
        }

        def put(document: dict[str, Any]) -> None:
            document.setdefault("providers", {})[provider.alias] = noted
            document["roles"] = sorted({*document["roles"], *provider.roles})

        await self._change(realm, put)

    async def remove_sign_in_provider(self, realm: str, alias: str) -> None:
        """Forget it; also when there is none."""
        check_alias(alias)
        await self._change(realm, lambda document: document.get("providers", {}).pop(alias, None))

    # --- the files ----------------------------------------------------------------------

    async def _change(self, realm: str, change: Callable[[dict[str, Any]], _T], *, make: bool = False) -> _T:
        """Change a realm's document, one caller at a time, and return what the change returns.

        Raises:
            NotFound: there is no such realm, and none is to be made.
        """
        check_realm_name(realm)

        def run() -> _T:
            with self._locked():
                document = {} if make and not self._path(realm).exists() else self._read(realm)
                result = change(document)
                self._write(realm, document)
                return result

        return await asyncio.to_thread(run)

    def _path(self, realm: str) -> Path:
        return self._folder / f"{realm}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self, realm: str) -> dict[str, Any]:
        check_realm_name(realm)
        try:
            found: dict[str, Any] = json.loads(self._path(realm).read_text("utf-8"))
        except FileNotFoundError:
            raise NotFound("There is no such realm") from None
        return found

    def _write(self, realm: str, document: dict[str, Any]) -> None:
        handle, name = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".new")  # mode 0600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
        os.replace(name, self._path(realm))


def _user(document: dict[str, Any], subject: str) -> dict[str, Any]:
    found: dict[str, Any] | None = document.get("users", {}).get(subject)
    if found is None:
        raise NotFound("There is no such user")
    return found


def _secret() -> str:
    return secrets.token_urlsafe(32)
