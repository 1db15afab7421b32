"""A tenant moved to another tier, by one leg or two, and a move given up.

In: the name of a tenant, and where it shall be. Out: results of the steps, which `moves` and `database_moves`
make. May reject: NotFound, Conflict, PlaceUnavailable, and whatever a step refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from byodpp.authentication.tenants import Tenant
from byodpp.database import Database
from byodpp.exceptions import ApiError, Conflict, MigrationError
from byodpp.places.placement import Tier
from byodpp.tenant_life.choosing import Wanted
from byodpp.tenant_life.database_moves import DatabaseMoves
from byodpp.tenant_life.finding import TenantFinder
from byodpp.tenant_life.giving_up import end_stopped
from byodpp.tenant_life.moves import Moves
from byodpp.tenant_life.procedures import Procedure, Procedures
from byodpp.tenant_life.running import Told, nobody_told, run

__all__ = ["Relocation"]


class Relocation:
    """Moves tenants, and gives moves up."""

    def __init__(
        self, database: Database, procedures: Procedures, finder: TenantFinder, moves: Moves
    ) -> None:
        """Args:
        database: open, with its system role.
        procedures: that are under way.
        finder: of tenants.
        moves: makes the steps.
        """
        self._database = database
        self._procedures = procedures
        self._finder = finder
        self._moves = moves

    async def move(
        self,
        name: str,
        to: Tier | None,
        *,
        wanted: Wanted | None = None,
        told: Told = nobody_told,
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
        async with self._database.system() as transaction:
            await end_stopped(transaction, tenant.id, "invite")
        given = await self._move_begun(tenant, to, wanted or Wanted())
        if given is None:
            if to is None:
                async with self._database.system() as transaction:
                    to = await self._moves.tier_of_class(transaction, tenant.id)
            if to != "database" and wanted is not None and (wanted.place or wanted.region):
                told_of = "A place and a region are those of a database of the tenant's own"
                raise Conflict(f"{told_of}, and this leads to {to!r}: say --to database")
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

    async def abandon(self, name: str, *, told: Told = nobody_told) -> Mapping[str, Any]:
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
        return await run(self._procedures, "move", tenant.slug, {**given, "tenant": tenant.id}, steps, told)


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
