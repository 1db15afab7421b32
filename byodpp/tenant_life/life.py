"""The procedures themselves: which steps, in which order.

Asked by the command line, with slugs or ULIDs of tenants; does through `procedures` what `steps` know.
May reject: NotFound for an unknown tenant, Conflict, and whatever a step refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from byodpp.authentication.tenants import Tenant
from byodpp.authorization.policy_check import manifest_roles
from byodpp.database import PLATFORM_TENANT, Database, SessionContext
from byodpp.exceptions import ApiError, Conflict, Detail, MigrationError, ValidationFailed
from byodpp.identity import IdentityAdministration
from byodpp.identity.administration import STANDARD_ROLES
from byodpp.places.placement import Tier
from byodpp.registry import Registry
from byodpp.seeding import Seeder
from byodpp.service import Service
from byodpp.suggestion import nearest
from byodpp.tables import Tables
from byodpp.tenant_life.choosing import Wanted
from byodpp.tenant_life.database_moves import DatabaseMoves
from byodpp.tenant_life.export import TenantExport
from byodpp.tenant_life.finding import TenantFinder
from byodpp.tenant_life.listing import PlaceLine, TenantLine, place_lines, tenant_lines
from byodpp.tenant_life.mails import TenantMails
from byodpp.tenant_life.moves import Moves
from byodpp.tenant_life.plans import SUSPENSION_REASONS, Guest, Newcomer
from byodpp.tenant_life.procedures import Procedure, Procedures, Step
from byodpp.tenant_life.steps import Steps

__all__ = ["TenantLife"]

_ROLES: Final = "select name from roles where tenant_id in (0, $1)"
#: What may be said anew of a procedure that is taken up; else it is another one.
_FREE: Final[Mapping[str, frozenset[str]]] = {
    "onboard": frozenset({"region", "firstName", "lastName", "phone"}),
    "suspend": frozenset({"reason"}),
}
#: Steps before which one that has stopped gives its place to one with other words: later ones would be mixed.
_REPLACED_BEFORE: Final[Mapping[str, str]] = {"onboard": "administrator", "invite": "invitation"}
#: Procedures beside which a tenant is suspended: they may wait for an identity provider, or for hours.
_NOT_WAITED_FOR: Final = frozenset({"move", "onboard", "invite"})

#: Told of every step: its name, and whether it was taken just now.
Told = Callable[[str, bool], object]


def _route(tenant: Tenant, to: Tier, wanted: Wanted) -> dict[str, Any]:
    """Return what a move is asked for: its next goal, by which way, and where it goes on to."""
    asked = {name: value for name, value in (("place", wanted.place), ("region", wanted.region)) if value}
    if to == "database" and tenant.place is not None:
        return {"to": "shared", "then": to, **asked}
    if to == "schema" and tenant.database is not None:
        return {"to": "shared", "by": "database", "then": to}
    if to == "database" or tenant.database is not None:
        return {"to": to, "by": "database", **(asked if to == "database" else {})}
    return {"to": to}


def _nobody_told(step: str, taken: bool) -> None:
    """Tell nobody."""


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
        self._procedures = Procedures(database, service)
        self._finder = TenantFinder(database, self._procedures)
        self._registry = registry
        self._export = TenantExport(registry, tables, service.parts.store.sealed)
        self._moves = moves
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
        self, newcomer: Newcomer, *, password: str | None = None, told: Told = _nobody_told
    ) -> Mapping[str, Any]:
        """Make a tenant, its realm, and its first administrator, and invite them.

        A tenant that is there already, but not suspended or rejected, gets what it lacks.

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
        steps = self._steps.onboarding(newcomer, password)
        return await self._run("onboard", newcomer.slug, newcomer.document(), steps, told)

    async def invite(
        self, name: str, guest: Guest, *, password: str | None = None, told: Told = _nobody_told
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
        await self._refuse_slips(tenant, guest.roles)
        steps = self._steps.invitation(tenant, guest, password)
        await self._run("invite", tenant.slug, {**guest.document(), "tenant": tenant.id}, steps, told)

    async def _refuse_slips(self, tenant: Tenant, roles: Sequence[str]) -> None:
        """Refuse roles that look like one that a rule or the tenant knows, and are none.

        Others may be the identity provider's affair alone.

        Raises:
            ValidationFailed: naming each, with what was probably meant.
        """
        async with self._database.at(tenant.database).system() as transaction:
            rows = await transaction.fetch(_ROLES, tenant.id)
        known = {*STANDARD_ROLES, *manifest_roles(self._registry), *(row["name"] for row in rows)}
        hints = {role: nearest(role, sorted(known), list_up_to=0) for role in roles if role not in known}
        faults = [
            Detail("roles", "unknown_role", f"There is no role {role!r}. {hint}")
            for role, hint in hints.items()
            if hint
        ]
        if faults:
            raise ValidationFailed("Nobody can be invited so", details=faults)

    async def suspend(self, name: str, reason: str, *, told: Told = _nobody_told) -> None:
        """Lock a tenant's users out, here and at the identity provider.

        Nobody who is to be locked out waits for a move, onboarding, or invitation that is under way: it
        goes on afterwards. Nor for anything of another tenant, which had the slug when that began.

        Raises:
            NotFound: there is no such tenant.
            Conflict: it is not active, or its reactivation or deletion is under way.
        """
        if reason not in SUSPENSION_REASONS:
            raise ValidationFailed(f"A reason is one of {', '.join(SUSPENSION_REASONS)}, not {reason!r}")
        tenant = await self._finder.find(name, "suspend")
        steps = self._steps.suspension(tenant, reason)
        given = {"reason": reason, "tenant": tenant.id}
        begun = tenant.status == "deactivated"
        found = await self._procedures.in_the_way(tenant.slug, tenant.id)
        beside = found is not None and (
            found.kind in _NOT_WAITED_FOR or found.tenant not in (None, tenant.id)
        )
        if found is None and begun:  # beside something that has ended meanwhile
            beside = await self._procedures.cut_off("suspend", tenant.id, steps[-1].name)
        if not beside:
            await self._run("suspend", tenant.slug, given, steps, told)
            return
        async for step in self._procedures.at_once(
            "suspend", tenant.slug, given, steps[1:] if begun else steps
        ):
            told(step.name, True)

    async def reactivate(self, name: str, *, told: Told = _nobody_told) -> None:
        """Let a suspended tenant's users in again.

        Raises:
            NotFound: there is no such tenant.
            Conflict: it is not suspended.
        """
        tenant = await self._finder.find(name, "reactivate")
        steps = self._steps.reactivation(tenant)
        await self._run("reactivate", tenant.slug, {"tenant": tenant.id}, steps, told)

    async def export(self, name: str, folder: Path) -> Path:
        """Write everything that belongs to a tenant into a zip file, and return its path.

        Raises:
            NotFound: there is no such tenant.
        """
        tenant = await self._finder.find(name, "")
        context = SessionContext(tenant_id=PLATFORM_TENANT, place=tenant.place, database=tenant.database)
        async with self._database.system(context) as transaction:
            return await self._export.write(transaction, tenant, folder)

    async def move(
        self,
        name: str,
        to: Tier | None,
        *,
        wanted: Wanted | None = None,
        told: Told = _nobody_told,
    ) -> Mapping[str, Any]:
        """Carry a tenant's rows to another tier; its writes are refused meanwhile, and nothing is lost.

        Args:
            name: slug or ULID of the tenant.
            to: the tier; None is the one that its class names.
            wanted: which database, for that tier; one of those that are free when omitted.
            told: called after each step.

        Returns:
            Results by step.

        Raises:
            NotFound: there is no such tenant.
            Conflict: it is the platform, there already, no database is free, or something else is under way.
            PlaceUnavailable: one of the databases is away.
        """
        tenant = await self._finder.find(name, "move")
        given = await self._move_begun(tenant, to, wanted or Wanted())
        if given is None:
            if to is None:
                async with self._database.system() as transaction:
                    to = await self._moves.tier_of_class(transaction, tenant.id)
            given = _route(tenant, to, wanted or Wanted())
            if given.get("then") == "database":  # before anything is moved
                await self._moves.databases.choice.require_free(tenant, wanted or Wanted())
        results = await self._move_once(tenant, given, told)
        if (
            given.get("then") is not None
        ):  # between a schema and a database the way leads through the shared tables
            tenant = await self._finder.find(tenant.ulid, "move")  # it may be called otherwise by now
            asked = Wanted(place=given.get("place"), region=given.get("region"))
            results = await self._move_once(tenant, _route(tenant, given["then"], asked), told)
        return results

    async def abandon(self, name: str, *, told: Told = _nobody_told) -> Mapping[str, Any]:
        """Give up a move that has not switched the tenant over; it writes again at once.

        Args:
            name: slug or ULID of the tenant.
            told: called after each step.

        Returns:
            Results by step; `left` says why copied rows were left, where they were: called again, it
            deletes those.

        Raises:
            NotFound: there is no such tenant.
            Conflict: no move is under way and none was given up, or it has switched the tenant over.
        """
        tenant = await self._finder.find(name, "move")
        begun = await self._procedures.under_way(tenant.slug, tenant.id)
        if begun is None or begun.kind != "move":
            return {"abandon": {"left": await self._cleared(tenant)}}
        if await self._procedures.forget(begun):  # nothing of it was done
            return {"abandon": {"left": ""}}
        results: dict[str, Any] = {}
        for step in self._moves_of(begun).abandoning(tenant, begun.id):
            results[step.name], taken = await self._procedures.take(begun, step, results)
            told(step.name, taken)
        return {"abandon": {"left": await self._cleared(tenant)}}

    async def _cleared(self, tenant: Tenant) -> str:
        """Delete what the last move has copied, which was given up; return why it was left, or nothing."""
        begun = await self._procedures.given_up(tenant.slug, tenant.id)
        if begun is None:
            raise Conflict(f"No move of tenant {tenant.slug!r} is under way, and the last was not given up")
        try:
            await self._moves_of(begun).clear(tenant, begun.done["begin"])
        except (ApiError, MigrationError) as error:
            return error.message if isinstance(error, ApiError) else str(error)
        return ""

    def _moves_of(self, begun: Procedure) -> Moves | DatabaseMoves:
        return self._moves.databases if begun.given.get("by") == "database" else self._moves

    async def _move_begun(self, tenant: Tenant, to: Tier | None, wanted: Wanted) -> Mapping[str, Any] | None:
        """Return what was asked of a move that is under way; None when there is none.

        Raises:
            Conflict: it leads somewhere else.
        """
        begun = await self._procedures.under_way(tenant.slug, tenant.id)
        if begun is None or begun.kind != "move":
            return None
        goal = begun.given.get("then") or begun.given["to"]
        if to not in (None, goal):
            raise Conflict(f"A move of tenant {tenant.slug!r} to {goal} is under way: finish it first")
        place = begun.given.get("place") or begun.done.get("begin", {}).get("target")
        regions = {one.name: one.region for one, _ in self._moves.databases.choice.states()}
        region = begun.given.get("region") or regions.get(place)
        for named, led in ((wanted.place, place), (wanted.region, region)):
            if named not in (None, led):
                told = f"A move of tenant {tenant.slug!r} is under way that does not lead to {named!r}"
                raise Conflict(f"{told}: finish it without naming that, or give it up, first")
        return begun.given

    async def _move_once(self, tenant: Tenant, given: Mapping[str, Any], told: Told) -> Mapping[str, Any]:
        if given.get("by") == "database":
            asked = Wanted(place=given.get("place"), region=given.get("region"))
            steps = self._moves.databases.moving(tenant, given["to"], asked)
        else:
            steps = self._moves.moving(tenant, given["to"])
        return await self._run("move", tenant.slug, {**given, "tenant": tenant.id}, steps, told)

    async def delete(self, name: str, folder: Path, *, told: Told = _nobody_told) -> Path:
        """Export a tenant, then delete its realm and its rows; the audit trail stays.

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
        steps = self._steps.deletion(tenant, folder)
        results = await self._run(
            "delete",
            tenant.slug,
            {"tenant": tenant.id, "ulid": tenant.ulid, "database": tenant.database},
            steps,
            told,
        )
        return Path(results["export"]["path"])

    async def _run(
        self, kind: str, slug: str, given: Mapping[str, Any], steps: Sequence[Step], told: Told
    ) -> Mapping[str, Any]:
        procedure = await self._procedures.begin(
            kind, slug, given, free=_FREE.get(kind, ()), replaced_before=_REPLACED_BEFORE.get(kind, "")
        )
        results: dict[str, Any] = {}
        for step in steps:
            results[step.name], taken = await self._procedures.take(procedure, step, results)
            told(step.name, taken)
        await self._procedures.finish(procedure)
        return results
