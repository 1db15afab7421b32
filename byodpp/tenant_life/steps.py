"""What the procedures do: each step once per procedure, and harmless when it happens twice.

Steps that touch rows act through the repositories, for the platform or for the tenant, past the
rules of any caller; so they are audited, and heard as events, like everybody's writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from byodpp.authentication.tenants import (
    ACTIVE,
    PLATFORM_REALM,
    PLATFORM_ULID,
    Tenant,
)
from byodpp.exceptions import Conflict, Detail, NotFound, ReferencedConflict, ValidationFailed
from byodpp.identity import IdentityAdministration, Person, RealmPlan
from byodpp.repository import Repositories
from byodpp.seeding import Seeder
from byodpp.service.units import Unit
from byodpp.suggestion import nearest
from byodpp.tables import Tables
from byodpp.tenant_life.acting import for_known, for_platform, for_tenant, system, tell
from byodpp.tenant_life.export import TenantExport
from byodpp.tenant_life.keeping import kept
from byodpp.tenant_life.mails import TenantMails
from byodpp.tenant_life.moves import Moves
from byodpp.tenant_life.plans import Guest, Newcomer
from byodpp.tenant_life.procedures import Step, left_open
from byodpp.tenant_life.removal import TenantRemoval

__all__ = ["REVOCATION", "Steps"]

Results = Mapping[str, Any]
Work = Callable[[Unit, Results], Awaitable[Any]]

#: Step of a suspension for security that revokes what was given before.
REVOCATION: Final = "revocation"
#: Of an API key, the longest of what is sent to sign in with.
_LONGEST_LIFE: Final = timedelta(days=366)
#: Where the first link of an administrator leads.
_COMPLETE_SETUP: Final = "/complete-setup"
#: Where everybody else's leads.
_ACCEPT_INVITATION: Final = "/accept-invitation"
#: Step of an invitation that notes which roles somebody has, and the one that ends what says those.
_HELD: Final = "held"
_FORMER: Final = "former roles"


class Steps:
    """Makes the steps of each procedure."""

    def __init__(
        self,
        *,
        tables: Tables,
        identity: IdentityAdministration,
        seeder: Seeder,
        beginnings: Path,
        export: TenantExport,
        moves: Moves,
        mails: TenantMails,
    ) -> None:
        """Args:
        tables: of the application.
        identity: where realms and users are made.
        seeder: makes rows from files.
        beginnings: folder of files with what every tenant begins with, and a folder for each industry.
        export: writes a tenant's data into a file.
        moves: makes the places of tenants, and takes them away.
        mails: tells people what has happened; no step is refused because it could not.
        """
        self._removal = TenantRemoval(tables)
        self._identity = identity
        self._seeder = seeder
        self._beginnings = beginnings
        self._export = export
        self._moves = moves
        self._mails = mails

    # --- onboarding -------------------------------------------------------------------

    def onboarding(self, newcomer: Newcomer, password: str | None) -> list[Step]:
        """Return the steps that make a tenant.

        Raises:
            ValidationFailed: there is nothing to begin with in its industry.
        """
        steps = [
            for_platform("tenant", partial(self._put_tenant, newcomer)),
            for_platform("place", partial(self._moves.put_place, newcomer.region)),
            for_platform("realm", partial(self._put_realm, newcomer)),
            for_platform("administrator", partial(self._put_account, newcomer.administrator())),
            for_tenant("user", partial(self._put_user, newcomer.administrator())),
        ]
        if not newcomer.platform:
            steps += [
                for_tenant(f"beginnings {name}", partial(self._begin_with, newcomer, path))
                for name, path in self._files(newcomer.industry)
            ]
            steps.append(for_platform("activation", self._activate))
        steps.append(for_platform("invitation", self._inviting(password, _COMPLETE_SETUP)))
        if not newcomer.platform:
            steps.append(for_platform("mail", partial(self._mail_onboarded, newcomer, password is None)))
        return [*steps, for_platform("end", self._tell_onboarded)]

    def _files(self, industry: str | None) -> list[tuple[str, Path]]:
        """Return what a tenant begins with, by name: what all do, and then what those of its industry do."""
        found = [(path.stem, path) for path in sorted(self._beginnings.glob("*.json"))]
        if industry is None:
            return found
        own = sorted((self._beginnings / industry).glob("*.json"))
        if not own:
            known = sorted(one.parent.name for one in self._beginnings.glob("*/*.json"))
            told = f"there is no seeds/tenants/{industry}/ with files. {nearest(industry, known)}".rstrip()
            fault = Detail("industry", "reference", told)
            raise ValidationFailed("The tenant cannot be onboarded", details=[fault])
        return [*found, *((f"{industry}/{path.stem}", path) for path in own)]

    def invitation(self, tenant: Tenant, guest: Guest, password: str | None) -> list[Step]:
        """Return the steps that give a tenant a user, or a user other roles."""
        return [
            for_platform("tenant", partial(self._known_tenant, tenant)),
            for_platform(_HELD, partial(self._held_roles, guest)),
            for_platform("administrator", partial(self._put_account, guest)),
            for_tenant("user", partial(self._put_user_anew, guest), tenant),
            for_tenant(_FORMER, partial(self._end_former_roles, guest), tenant),
            for_platform("invitation", self._inviting(password, _ACCEPT_INVITATION)),
        ]

    def _inviting(self, password: str | None, path: str) -> Any:
        return partial(self._set_password, password) if password else partial(self._invite, path)

    async def _known_tenant(self, tenant: Tenant, unit: Unit, results: Results) -> Any:
        if not tenant.active:
            raise Conflict(f"Tenant {tenant.slug!r} is {tenant.status}")
        return {"id": tenant.id, "realm": tenant.realm}

    async def _put_tenant(self, newcomer: Newcomer, unit: Unit, results: Results) -> Any:
        tenants = system(unit)["Tenants"]
        found = await tenants.find({"slug": newcomer.slug})
        begins = found is None or found["status"] != ACTIVE
        keeps = {} if found is None else await kept(system(unit), newcomer, found)
        if found is None:
            values = {**newcomer.values, "slug": newcomer.slug, "name": newcomer.name}
            if newcomer.domain is not None:
                values["domain"] = newcomer.domain
            if newcomer.parent is not None:
                values |= await self._below(unit, newcomer.parent)
            if newcomer.tenant_class is not None:
                values["tenantClassId"] = await self._class(unit, newcomer.tenant_class)
            found = await tenants.create({**values, "ulid": unit.parts.ids.ulid()})
        elif found["status"] in ("deactivated", "rejected"):
            raise Conflict(f"Tenant {newcomer.slug!r} is {found['status']}: reactivate it")
        await self._refuse_region(unit, newcomer.region, found["tenantClassId"])
        ulid = str(found["ulid"])
        realm = PLATFORM_REALM if ulid == PLATFORM_ULID else ulid
        known = {"id": int(found["id"]), "ulid": ulid, "realm": realm, "name": str(found["name"])}
        return {**known, "domain": found["domain"], "begins": begins, "keeps": keeps}

    async def _refuse_region(self, unit: Unit, region: str | None, kind: int | None) -> None:
        """See that a region is named for a database only: rows would lie anywhere, and nobody be told."""
        if region is None:
            return
        if kind is None or (await system(unit)["TenantClasses"].read(kind))["tier"] != "database":
            told = "says where a database lies, and the tenant's class gives it none: name one with that tier"
            fault = Detail("region", "unsupported", told)
            raise ValidationFailed("The tenant cannot be onboarded", details=[fault])

    async def _class(self, unit: Unit, name: str) -> Any:
        found = await system(unit)["TenantClasses"].find({"name": name})
        if found is None:
            classes = await system(unit)["TenantClasses"].list(sort="name", limit=20)
            known = ", ".join(one["name"] for one in classes) or "none yet"
            fault = Detail("tenantClass", "reference", f"there is no tenant class {name!r}. Known: {known}")
            raise ValidationFailed("The tenant cannot be onboarded", details=[fault])
        return found["id"]

    async def _below(self, unit: Unit, name: str) -> dict[str, Any]:
        tenants = system(unit)["Tenants"]
        parent = await tenants.find({"slug": name}) or await tenants.find({"ulid": name})
        if parent is None:
            fault = Detail("parent", "reference", f"there is no tenant {name!r}")
            raise ValidationFailed("The tenant cannot be onboarded", details=[fault])
        if parent["status"] != ACTIVE:
            raise Conflict(f"Tenant {name!r}, the parent, is {parent['status']}")
        return {"parentId": parent["id"], "tenantClassId": parent["tenantClassId"]}

    async def _put_realm(self, newcomer: Newcomer, unit: Unit, results: Results) -> Any:
        tenant = results["tenant"]
        domain = tenant.get("domain", newcomer.domain)  # the row's; older programs did not note it
        own = () if domain is None else (f"https://{domain}",)
        await self._identity.put_realm(
            RealmPlan(name=tenant["realm"], display_name=tenant["name"], addresses=own)
        )
        # A suspension waits for no onboarding, and has found no realm where this is the first one.
        if (await system(unit)["Tenants"].read(tenant["id"]))["status"] == "deactivated":
            await self._identity.update_realm(tenant["realm"], enabled=False)
        return {}

    async def _put_account(self, guest: Guest, unit: Unit, results: Results) -> Any:
        person = Person(
            email=guest.email, first_name=guest.first_name, last_name=guest.last_name, roles=guest.roles
        )
        return {
            "subject": await self._identity.put_user(results["tenant"]["realm"], person),
            **_held(results),
        }

    async def _put_user(self, guest: Guest, unit: Unit, results: Results) -> Any:
        """Write the user's row, which else would be written when they first sign in, and their roles."""
        repositories, realm = system(unit), results["tenant"]["realm"]
        subject = results["administrator"]["subject"]
        user = await repositories["Users"].find({"realm": realm, "subject": subject})
        known = user is not None
        if user is None:
            values = {"realm": realm, "subject": subject, "name": guest.name, "userName": guest.email}
            user = await repositories["Users"].create(
                {**values, "email": guest.email, "phone": guest.phone, "status": "invited"}
            )
        changed = await _hold_roles(repositories, user["id"], guest.roles)
        return {"id": user["id"], "known": known, "changed": changed}

    async def _put_user_anew(self, guest: Guest, unit: Unit, results: Results) -> Any:
        """The same; and what says roles that the user held by rows is revoked with them, or neither is."""
        user = await self._put_user(guest, unit, results)
        if user["known"] and user["changed"]:
            await _revoke_former(unit, user["id"])
        return user

    async def _held_roles(self, guest: Guest, unit: Unit, results: Results) -> Any:
        """Note which roles somebody has before others are given: afterwards nobody knows them.

        An invitation that gave its place to this one may have given roles, and ended nothing: then what
        says the former ones is `unended`.
        """
        tenant = results["tenant"]
        held = await self._identity.roles_of(tenant["realm"], guest.email)
        noted: dict[str, Any] = {"roles": None if held is None else sorted(held)}
        before = await left_open(unit.transaction, "invite", tenant["id"], guest.email, _HELD, _FORMER)
        if before is not None and (before.get("unended") or before["roles"] != noted["roles"]):
            noted["unended"] = True
        return noted

    async def _end_former_roles(self, guest: Guest, unit: Unit, results: Results) -> Any:
        """Revoke what a user has who was there before with other roles: it says those."""
        former = results["administrator"].get("held")  # None, too, of what older programs have begun
        others = former != sorted(set(guest.roles)) or results[_HELD].get("unended", False)
        if results["user"].get("known") and others:
            await _revoke_former(unit, results["user"]["id"])
        return {}

    async def _begin_with(self, newcomer: Newcomer, path: Path, unit: Unit, results: Results) -> Any:
        """Make the rows of a file, unless the tenant has been at work before."""
        if not results["tenant"]["begins"]:
            return {"rows": 0}
        given = {
            **newcomer.document(),
            "tenantId": results["tenant"]["id"],
            "administratorId": results["user"]["id"],
        }
        return {"rows": await self._seeder.load_into(unit, path, given)}

    async def _activate(self, unit: Unit, results: Results) -> Any:
        tenants, id = system(unit)["Tenants"], results["tenant"]["id"]
        status = (await tenants.read(id))["status"]
        for step, start in (("accept", "invited"), ("activate", "accepted")):
            if status == start:
                status = (await tenants.transition(id, step))["status"]
        return {"status": status}

    async def _invite(self, path: str, unit: Unit, results: Results) -> Any:
        realm, subject = results["tenant"]["realm"], results["administrator"]["subject"]
        await self._identity.invite(realm, subject, path=path)
        return {"invited": True}

    async def _set_password(self, password: str, unit: Unit, results: Results) -> Any:
        realm, subject = results["tenant"]["realm"], results["administrator"]["subject"]
        await self._identity.set_password(realm, subject, password)
        return {"password": True}

    async def _mail_onboarded(self, newcomer: Newcomer, invited: bool, unit: Unit, results: Results) -> Any:
        return await self._mails.onboarded(newcomer, results["tenant"]["name"], invited=invited)

    async def _tell_onboarded(self, unit: Unit, results: Results) -> Any:
        await tell(unit, "tenant.onboarded", results["tenant"]["id"], {"ulid": results["tenant"]["ulid"]})
        return {}

    # --- suspension -------------------------------------------------------------------

    def suspension(self, tenant: Tenant, reason: str, *, raised: bool = False) -> list[Step]:
        """Return the steps that lock a tenant's users out, this application first.

        What may have been stolen is worth nothing any more, also when the tenant is let in again.

        Args:
            tenant: whose users they are.
            reason: one of `SUSPENSION_REASONS`.
            raised: whether it may be suspended already, for another reason.
        """
        steps = [
            for_platform("status", partial(self._deactivate, tenant, reason, raised)),
            for_platform(f"reason {reason}", partial(self._note_reason, tenant, reason)),
            for_platform("realm", partial(self._enable, tenant, False)),
            for_platform("sessions", partial(self._log_out, tenant)),
        ]
        if reason == "security":
            steps.append(for_known(REVOCATION, self._revoke, tenant))
        return [*steps, for_platform("mail", partial(self._mail_suspended, tenant, reason))]

    def reactivation(self, tenant: Tenant) -> list[Step]:
        """Return the steps that let them in again, this application last."""
        return [
            for_platform("suspended", partial(self._refuse_unless_suspended, tenant)),
            for_platform("realm", partial(self._enable, tenant, True)),
            for_platform("status", partial(self._reactivate, tenant)),
            for_platform("mail", partial(self._mail_reactivated, tenant)),
        ]

    async def _deactivate(
        self, tenant: Tenant, reason: str, raised: bool, unit: Unit, results: Results
    ) -> Any:
        status = (await system(unit)["Tenants"].read(tenant.id))["status"]
        noted = {"suspensionReason": reason, "suspendedAt": datetime.now(UTC).isoformat()}
        if status == ACTIVE:
            await self._step(unit, tenant, "deactivate", noted)
        elif status != "deactivated" or not raised:
            how = "suspended already" if status == "deactivated" else f"not active, but {status}"
            raise Conflict(f"Tenant {tenant.slug!r} is {how}")
        await tell(unit, "tenant.suspended", tenant.id, noted)
        return {}

    async def _note_reason(self, tenant: Tenant, reason: str, unit: Unit, results: Results) -> Any:
        """Note why a tenant is suspended, where another reason was noted when that was begun."""
        tenants = system(unit)["Tenants"]
        noted = _metadata(await tenants.read(tenant.id))
        if noted.get("suspensionReason") != reason:
            await tenants.patch(tenant.id, {"metadata": {**noted, "suspensionReason": reason}})
        return {}

    async def _reactivate(self, tenant: Tenant, unit: Unit, results: Results) -> Any:
        noted = {"reactivatedAt": datetime.now(UTC).isoformat()}
        await self._step(unit, tenant, "activate", noted)
        await tell(unit, "tenant.reactivated", tenant.id, noted)
        return {}

    async def _refuse_unless_suspended(self, tenant: Tenant, unit: Unit, results: Results) -> Any:
        status = (await system(unit)["Tenants"].read(tenant.id))["status"]
        if status != "deactivated":
            raise Conflict(f"Tenant {tenant.slug!r} is not suspended, but {status}")
        return {}

    async def _step(self, unit: Unit, tenant: Tenant, name: str, noted: Mapping[str, Any]) -> None:
        tenants = system(unit)["Tenants"]
        row = await tenants.transition(tenant.id, name)
        await tenants.patch(tenant.id, {"metadata": {**_metadata(row), **noted}})

    async def _enable(self, tenant: Tenant, enabled: bool, unit: Unit, results: Results) -> Any:
        with suppress(NotFound):  # a tenant that was never onboarded has none, and nobody signs in there
            await self._identity.update_realm(tenant.realm, enabled=enabled)
        return {}

    async def _log_out(self, tenant: Tenant, unit: Unit, results: Results) -> Any:
        with suppress(NotFound):
            await self._identity.log_out_everyone(tenant.realm)
        return {}

    async def _mail_suspended(self, tenant: Tenant, reason: str, unit: Unit, results: Results) -> Any:
        return await self._mails.suspended(tenant, await _name(unit, tenant), reason)

    async def _mail_reactivated(self, tenant: Tenant, unit: Unit, results: Results) -> Any:
        return await self._mails.reactivated(tenant, await _name(unit, tenant))

    async def _revoke(self, unit: Unit, results: Results) -> Any:
        ends = datetime.now(UTC) + _LONGEST_LIFE
        values = {"kind": "tenant", "expiresAt": ends, "reason": "suspended for security"}
        await system(unit)["Revocations"].create(values)
        return {}

    # --- the end ----------------------------------------------------------------------

    def deletion(self, tenant: Tenant, folder: Path) -> list[Step]:
        """Return the steps that end a tenant: locked out, held, exported, realm gone, rows gone."""
        rows = for_platform("rows", partial(self._remove_rows, tenant), replace(tenant, database=None))
        first, *others = [*self._moves.emptying(tenant), rows]
        return [
            for_platform("status", partial(self._close, tenant)),
            for_platform("hold", partial(self._moves.shut, tenant)),
            for_platform("export", partial(self._write_export, tenant, folder), tenant),
            for_platform("realm", partial(self._remove_realm, tenant)),
            replace(first, work=partial(_with_export, first.work), undoes=("export",), undone_by=_ExportAway),
            *others,
            for_platform("place", partial(self._moves.take_place, tenant)),
            for_platform("mail", partial(self._mail_deleted, tenant)),
        ]

    async def _close(self, tenant: Tenant, unit: Unit, results: Results) -> Any:
        tenants = system(unit)["Tenants"]
        if await tenants.exists({"parentId": tenant.id}):
            raise ReferencedConflict("The tenant has children: delete or move them first")
        if (await tenants.read(tenant.id))["status"] == ACTIVE:
            await tenants.transition(tenant.id, "deactivate")
        return {}

    async def _write_export(self, tenant: Tenant, folder: Path, unit: Unit, results: Results) -> Any:
        path = await self._export.write(unit.transaction, tenant, folder)
        return {"path": str(path.absolute())}

    async def _remove_realm(self, tenant: Tenant, unit: Unit, results: Results) -> Any:
        await self._identity.remove_realm(tenant.realm)
        return {}

    async def _remove_rows(self, tenant: Tenant, unit: Unit, results: Results) -> Any:
        """Delete every row of the tenant, and then the tenant."""
        removed = await self._removal.remove(unit.transaction, tenant.id)
        await self._moves.told(unit.transaction, tenant.id)  # afterwards: what tells it is of the tenant
        told = {"ulid": tenant.ulid, "slug": tenant.slug, "rows": removed}
        await tell(unit, "tenant.deleted", tenant.id, told)
        return told

    async def _mail_deleted(self, tenant: Tenant, unit: Unit, results: Results) -> Any:
        return await self._mails.deleted(tenant)


class _ExportAway(Conflict):
    """The export of a tenant is not where it was written."""


async def _with_export(work: Work, unit: Unit, results: Results) -> Any:
    """Delete the first rows of a tenant, if its export is still there.

    Raises:
        _ExportAway: it is not; then the next time writes another.
    """
    path = Path(results["export"]["path"])
    if not await asyncio.to_thread(path.is_file):
        raise _ExportAway(
            f"The export {path} is not on this machine, so that no row was deleted: put it back, or take the "
            "deletion up again, which writes another"
        )
    return await work(unit, results)


async def _name(unit: Unit, tenant: Tenant) -> str:
    return str((await system(unit)["Tenants"].read(tenant.id))["name"])


def _held(results: Results) -> dict[str, Any]:
    """Return what was noted of somebody's roles before others were given."""
    return {"held": results[_HELD]["roles"]} if _HELD in results else {}


async def _revoke_former(unit: Unit, user: Any) -> None:
    values = {"kind": "user", "subject": str(user), "expiresAt": datetime.now(UTC) + _LONGEST_LIFE}
    await system(unit)["Revocations"].create({**values, "reason": "invited with roles of now"})


async def _hold_roles(repositories: Repositories, user: Any, roles: Sequence[str]) -> bool:
    """Let a user hold these roles and no others, as far as they are rows of Roles.

    Returns:
        Whether others were held before.
    """
    known = await repositories["Roles"].list({"name": {"in": list(roles)}})
    wanted = {role["id"] for role in known}
    held = {one["roleId"]: one["id"] for one in await repositories["UserRoles"].list({"userId": user})}
    for role in sorted(wanted - held.keys()):
        await repositories["UserRoles"].create({"userId": user, "roleId": role})
    for role in held.keys() - wanted:
        await repositories["UserRoles"].delete(held[role])
    return held.keys() != wanted


def _metadata(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tenant's metadata as an object: its own Admins may have written anything there."""
    found = row["metadata"]
    if isinstance(found, dict):
        return found
    return {} if found is None else {"metadata": found}
