"""The procedures themselves: which steps, in which order.

Asked by the command line, with slugs or ULIDs of tenants; does through `procedures` what `steps` know.
May reject: NotFound for an unknown tenant, Conflict, and whatever a step refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from byodpp.authentication.tenants import Tenant
from byodpp.calls import Origin
from byodpp.database import PLATFORM_TENANT, Database, SessionContext
from byodpp.exceptions import Conflict, ValidationFailed
from byodpp.identity import IdentityAdministration
from byodpp.places.placement import Tier
from byodpp.registry import Registry
from byodpp.seeding import Seeder
from byodpp.service import Service
from byodpp.service.units import Unit
from byodpp.tables import Tables
from byodpp.tenant_life.acting import for_platform, tell
from byodpp.tenant_life.choosing import Wanted
from byodpp.tenant_life.export import TenantExport
from byodpp.tenant_life.finding import TenantFinder
from byodpp.tenant_life.giving_up import end_stopped, end_stopped_of
from byodpp.tenant_life.listing import PlaceLine, TenantLine, place_lines, tenant_lines
from byodpp.tenant_life.mails import TenantMails
from byodpp.tenant_life.moves import Moves
from byodpp.tenant_life.plans import SUSPENSION_REASONS, Guest, Newcomer, refuse_values
from byodpp.tenant_life.procedures import Procedures
from byodpp.tenant_life.relocation import Relocation
from byodpp.tenant_life.role_names import refuse_slips
from byodpp.tenant_life.running import Told, nobody_told, run
from byodpp.tenant_life.steps import REVOCATION, Steps

__all__ = ["TenantLife"]

#: No row of an export refers to one that came after the table of that was read.
_OF_ONE_MOMENT: Final = "set transaction isolation level repeatable read, read only"
#: Procedures beside which a tenant is suspended: they may wait for an identity provider, or for hours.
_NOT_WAITED_FOR: Final = frozenset({"move", "onboard", "invite"})


class TenantLife:
    """What an operator does with tenants."""

    def __init__(
        self,
        *,
        database: Database,
        service: Service,
        registry: Registry,
        tables: Tables,
        identity: IdentityAdministration,
        app_dir: Path,
        moves: Moves,
        mails: TenantMails,
    ) -> None:
        """Args:
        database: open, with its system role.
        service: of the application.
        registry: its resources.
        tables: theirs.
        identity: where realms and users are made.
        app_dir: folder of the application; `seeds/tenants/` in it is what every tenant begins with.
        moves: makes places of tenants.
        mails: tells people what happens to tenants.
        """
        self._database = database
        self._service = service
        self._procedures = Procedures(database, service)
        self._finder = TenantFinder(database, self._procedures)
        self._registry = registry
        self._export = TenantExport(registry, tables, service.parts.store.sealed)
        self._moves = moves
        self._relocation = Relocation(database, self._procedures, self._finder, moves)
        self._steps = Steps(
            tables=tables,
            identity=identity,
            seeder=Seeder(service, database),
            beginnings=app_dir / "seeds" / "tenants",
            export=self._export,
            moves=moves,
            mails=mails,
        )

    async def list(self) -> list[TenantLine]:
        """Return every tenant, the platform's first, and those that are not there yet, or not any more."""
        return await tenant_lines(self._database, self._procedures)

    async def places(self) -> Sequence[PlaceLine]:
        """Return the databases that a tenant can have for itself, in the order of the configuration."""
        return await place_lines(self._database, self._moves.databases.choice)

    async def onboard(
        self, newcomer: Newcomer, *, password: str | None = None, told: Told = nobody_told
    ) -> Mapping[str, Any]:
        """Make a tenant, its realm, and its first administrator, and invite them.

        A tenant that is there already, but not suspended or rejected, gets what it lacks, and keeps what it
        has: where something else is said, `keeps` of the result of `tenant` names it. An invitation that has
        stopped is given up.

        Args:
            newcomer: who it is.
            password: a temporary one for the administrator; None sends an invitation.
            told: called after each step.

        Returns:
            Results by step.

        Raises:
            ValidationFailed: what was said is not valid.
            Conflict: the tenant is suspended or was rejected, or something else is under way with it.
        """
        refuse_values(self._registry.resources["v1", "Tenants"], newcomer.values)
        steps = self._steps.onboarding(newcomer, password)
        async with self._database.system() as transaction:
            # It makes the realm anew for want of which nobody can be invited.
            await end_stopped_of(transaction, newcomer.slug, "invite")
        return await run(self._procedures, "onboard", newcomer.slug, newcomer.document(), steps, told)

    async def invite(
        self, name: str, guest: Guest, *, password: str | None = None, told: Told = nobody_told
    ) -> None:
        """Give a tenant a user, or a user other roles, and invite them.

        Args:
            name: slug or ULID of the tenant.
            guest: who it is, and with which roles.
            password: a temporary one; None sends an invitation.
            told: called after each step.

        Raises:
            NotFound: there is no such tenant.
            ValidationFailed: a role is misspelt.
            Conflict: it is not active, or something else is under way with it.
            QuotaExceeded: its class does not allow another user.
        """
        tenant = await self._finder.find(name, "")
        await refuse_slips(
            self._database, self._registry, tenant, guest.roles, told="Nobody can be invited so"
        )
        steps = self._steps.invitation(tenant, guest, password)
        await run(
            self._procedures, "invite", tenant.slug, {**guest.document(), "tenant": tenant.id}, steps, told
        )

    async def suspend(self, name: str, reason: str, *, told: Told = nobody_told) -> None:
        """Lock a tenant's users out, here and at the identity provider.

        Nobody who is to be locked out waits for a move, onboarding, or invitation that is under way: it
        goes on afterwards. Nor for anything of another tenant, which had the slug when that began.

        Raises:
            NotFound: there is no such tenant.
            Conflict: it is not active, or suspended for this reason already, or its reactivation or deletion
                is under way.
        """
        if reason not in SUSPENSION_REASONS:
            raise ValidationFailed(f"A reason is one of {', '.join(SUSPENSION_REASONS)}, not {reason!r}")
        tenant = await self._finder.find(name, "suspend")
        begun = tenant.status == "deactivated"
        raised = begun and await self._procedures.suspended_for(tenant.id) != reason
        steps = self._steps.suspension(tenant, reason, raised=raised)
        given = {"reason": reason, "tenant": tenant.id}
        found = await self._procedures.in_the_way(tenant.slug, tenant.id)
        beside = found is not None and (
            found.kind in _NOT_WAITED_FOR or found.tenant not in (None, tenant.id)
        )
        if found is None and begun:  # beside something that has ended meanwhile
            beside = await self._procedures.cut_off("suspend", tenant.id, steps[-1].name)
        if not beside:
            await run(self._procedures, "suspend", tenant.slug, given, steps, told)
            return
        async for step in self._procedures.at_once(
            "suspend", tenant.slug, given, steps[1:] if begun and not raised else steps
        ):
            told(step.name, True)

    async def reactivate(self, name: str, *, told: Told = nobody_told) -> None:
        """Let a suspended tenant's users in again; an invitation that has stopped is given up.

        Raises:
            NotFound: there is no such tenant.
            Conflict: it is not suspended, or not yet as one for security is.
        """
        tenant = await self._finder.find(name, "reactivate")
        await self._refuse_unrevoked(tenant)
        async with self._database.system() as transaction:
            await end_stopped(transaction, tenant.id, "invite")
        steps = self._steps.reactivation(tenant)
        await run(self._procedures, "reactivate", tenant.slug, {"tenant": tenant.id}, steps, told)

    async def _refuse_unrevoked(self, tenant: Tenant) -> None:
        """See that a suspension for security that stopped beside an invitation has revoked what was given."""
        reason = await self._procedures.suspended_for(tenant.id)
        if reason == "security" and await self._procedures.cut_off("suspend", tenant.id, REVOCATION):
            told = f"Tenant {tenant.slug!r} was suspended for security, and its tokens are not revoked yet"
            raise Conflict(f"{told}: finish that first by tenants suspend {tenant.slug} --reason security")

    async def export(self, name: str, folder: Path) -> Path:
        """Write everything that belongs to a tenant at one moment into a zip file, and return its path.

        Raises:
            NotFound: there is no such tenant.
        """
        tenant = await self._finder.find(name, "")
        context = SessionContext(tenant_id=PLATFORM_TENANT, place=tenant.place, database=tenant.database)
        async with self._database.system(context) as transaction:
            await transaction.execute(_OF_ONE_MOMENT)
            path = await self._export.write(transaction, tenant, folder)
        await self._note_export(tenant, path)
        return path

    async def _note_export(self, tenant: Tenant, path: Path) -> None:
        """Tell the platform's audit trail who has left in a file: it holds what is controlled, too."""

        async def work(unit: Unit) -> None:
            await tell(unit, "tenant.exported", tenant.id, {"ulid": tenant.ulid, "file": path.name})

        origin = Origin(request_id=path.stem, correlation_id=path.stem, user_agent="byodpp tenants")
        await self._service.as_system(for_platform("export", work).principal({}), origin, work)

    async def move(
        self,
        name: str,
        to: Tier | None,
        *,
        wanted: Wanted | None = None,
        told: Told = nobody_told,
    ) -> Mapping[str, Any]:
        """Carry a tenant's rows to another tier, as `Relocation.move` tells."""
        return await self._relocation.move(name, to, wanted=wanted, told=told)

    async def abandon(self, name: str, *, told: Told = nobody_told) -> Mapping[str, Any]:
        """Give up a move that has not switched the tenant over, as `Relocation.abandon` tells."""
        return await self._relocation.abandon(name, told=told)

    async def delete(self, name: str, folder: Path, *, told: Told = nobody_told) -> Path:
        """Export a tenant, then delete its realm and its rows; the audit trail stays.

        An onboarding or an invitation that has stopped is given up: what stopped it may never come.

        Args:
            name: slug or ULID of the tenant.
            folder: for the export.
            told: called after each step.

        Returns:
            The path of the export.

        Raises:
            NotFound: there is no such tenant, and none whose deletion is under way.
            Conflict: it is the platform, has children, or something else is under way with it.
            MigrationError: this process may not make the tables refuse it.
        """
        tenant = await self._finder.find(name, "delete")
        self._moves.require_owner()
        async with self._database.system() as transaction:
            await end_stopped(transaction, tenant.id, "onboard", "invite")
        steps = self._steps.deletion(tenant, folder)
        results = await run(
            self._procedures,
            "delete",
            tenant.slug,
            {"tenant": tenant.id, "ulid": tenant.ulid, "database": tenant.database},
            steps,
            told,
        )
        return Path(results["export"]["path"])
