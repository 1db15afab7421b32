"""Where a tenant's rows are: given a place, moved from one to another, and taken away.

A move is a procedure like the others. The tenant goes on reading where it is; its writes are refused with
`tenant_moving` from the step `hold` to the step `open`. What is copied is compared, row by row, before one
changed row of `byodpp.tenant_places` switches everybody over, and nothing is deleted before that. What it
leaves behind is deleted before it writes again, so that nobody finds there what it has changed since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from byodpp.authentication.changes import Forget, record_change
from byodpp.authentication.tenants import Tenant
from byodpp.database import PLATFORM_TENANT, Transaction
from byodpp.exceptions import Conflict
from byodpp.places import Located, PlaceBuilder, place_name
from byodpp.places.building import count_anew
from byodpp.places.fences import be_alone_in, claim_keys, hold
from byodpp.places.moving import Mover, continue_counting
from byodpp.places.placement import EVERYWHERE, Tier
from byodpp.service.units import Unit
from byodpp.sql_text import quote
from byodpp.tenant_life.acting import for_platform, tell
from byodpp.tenant_life.choosing import Wanted
from byodpp.tenant_life.database_moves import DatabaseMoves
from byodpp.tenant_life.giving_up import begun_of, is_free, marking
from byodpp.tenant_life.locating import is_settling, located, put_located, require_moving
from byodpp.tenant_life.procedures import Step

__all__ = ["Moves", "located"]

Results = Mapping[str, Any]

_SHARED: Final = "public"
_TIER: Final = (
    "select coalesce(c.tier, 'shared') from tenants t left join tenant_classes c on c.id = t.tenant_class_id"
    " where t.id = $1"
)


_IS_THERE: Final = "select to_regnamespace($1) is not null"
_SHUT: Final = "update byodpp.tenant_places set state = 'gone', changed_at = now() where tenant_id = $1"
#: It keeps its fingerprint: a place that is behind stays so.
_SERVE: Final = "update byodpp.tenant_places set state = 'served', changed_at = now() where tenant_id = $1"
_FORGET_GONE: Final = (
    "delete from byodpp.tenant_places where state = 'gone' and place is null"
    " and changed_at < now() - interval '1 day'"
)


class Moves:
    """Makes the steps of moves, and those of other procedures that are about places."""

    def __init__(
        self,
        builder: PlaceBuilder,
        databases: DatabaseMoves,
        *,
        settle_seconds: float,
        forget: Forget,
    ) -> None:
        """Args:
        builder: makes schemas.
        databases: moves tenants between databases.
        settle_seconds: how long writes wait after a move, until every process knows of it.
        forget: lets this process look anew where tenants are.
        """
        self._builder = builder
        self.databases = databases
        self._mover = Mover(builder.dedicated)
        self._settle_seconds = settle_seconds
        self._forget = forget

    async def tier_of_class(self, transaction: Transaction, tenant_id: int) -> Tier:
        """Return where a tenant's class says that it is served."""
        found: Tier = await transaction.fetchval(_TIER, tenant_id)
        return found

    def moving(self, tenant: Tenant, to: Tier) -> list[Step]:
        """Return the steps that carry a tenant's rows to another tier."""
        place = place_name(tenant.id)
        source, target = (_SHARED, place) if to == "schema" else (place, _SHARED)
        copies = [
            for_platform(f"copy {name}", partial(self._copy, tenant.id, name, source, target))
            for name in self._mover.tables
        ]
        return [
            for_platform("begin", partial(self._begin, tenant, to)),
            for_platform("place", partial(self._build, tenant.id, to)),
            for_platform("hold", partial(self._hold, tenant.id)),
            for_platform("empty", partial(self._empty, tenant.id, target)),
            *copies,
            for_platform("circles", partial(self._close, tenant.id, source, target)),
            for_platform("references", partial(self._finish, tenant.id, to, source, target)),
            replace(
                for_platform("compare", partial(self._compare, tenant.id, source, target)),
                undoes=("empty", *(one.name for one in copies), "circles", "references"),
            ),
            for_platform("switch", partial(self._switch, tenant.id, to)),
            for_platform("settle", self._settle),
            # Before anything can be written: what is still where it was can be found. Once `clean` came after
            # `open`: a move that was begun then has one of them behind it, so these two have other names.
            for_platform("clear", partial(self._clear, tenant.id, to)),
            for_platform("reopen", partial(self._reopen, tenant.id, to)),
            for_platform("drop", partial(self._drop, tenant.id, to)),
            for_platform("end", partial(self._end, tenant, to)),
        ]

    # --- of other procedures ----------------------------------------------------------

    def _refuse_elsewhere(self, region: str, place: str | None) -> None:
        regions = {one.name: one.region for one, _ in self.databases.choice.states()}
        if place is None or regions.get(place) != region:
            there = "not in a database of its own" if place is None else f"in the place {place}"
            told = f"The tenant is {there}, and so not in the region {region!r}"
            raise Conflict(f"{told}: `byodpp tenants migrate` moves it there")

    async def put_place(self, region: str | None, unit: Unit, results: Results) -> Any:
        """Give a new tenant the place that its class asks for; one that has rows stays where it is.

        Args:
            region: where a database of its own has to lie; None is what the class says, or anywhere.
            unit: of the platform.
            results: of the steps before.

        Raises:
            Conflict: no database is free, or the tenant is in another region already.
        """
        id, transaction = results["tenant"]["id"], unit.transaction
        await be_alone_in(transaction)
        there = await located(transaction)
        known = next((one for one in there if one.tenant_id == id and one.tier != "shared"), None)
        if region is not None and (known is not None or not results["tenant"]["begins"]):
            self._refuse_elsewhere(region, None if known is None else known.database)
        if known is not None:
            found = {"place": known.schema}
            return found if known.database is None else {**found, "database": known.database}
        tier = await self.tier_of_class(transaction, id)
        if tier == "database" and results["tenant"]["begins"]:
            return await self.databases.put_new(id, Wanted(region=region), unit)
        if tier == "shared" or not results["tenant"]["begins"]:
            return {"place": None}
        if await self._mover.any_rows(transaction, id, _SHARED):
            return {"place": None}
        place = place_name(id)
        new = Located(tenant_id=id, tier="schema", place=place, state="served")
        there = [one for one in there if one.tenant_id != id]
        async with self._builder.connected() as owner:
            await self._builder.build(owner, place, id)
            await claim_keys(owner, self._builder.dedicated, [*there, new])
            await continue_counting(owner, self._builder.dedicated, _SHARED, place)
            await hold(owner, self._builder.dedicated, [*there, new])
            shown = await self._builder.show_everywhere(owner, [*there, new])
        await put_located(transaction, id, "schema", place, "served")
        await self._tell_everywhere(transaction, shown)
        await self.told(transaction, id)
        return {"place": place}

    async def shut(self, tenant: Tenant, unit: Unit, results: Results) -> Any:
        """Let nobody write any more for a tenant that is deleted, also who has not heard of it."""
        transaction = unit.transaction
        await be_alone_in(transaction)
        await transaction.execute(_FORGET_GONE)
        there = [one for one in await located(transaction) if one.tenant_id == tenant.id]
        now = there[0] if there else Located(tenant_id=tenant.id, tier="shared", place=None, state="served")
        if there:  # and it keeps its fingerprint: a place that is behind stays so
            await transaction.execute(_SHUT, tenant.id)
        else:
            await put_located(transaction, tenant.id, now.tier, now.place, "gone")
        await self.databases.shut(transaction, tenant.id, now.database)
        return {}

    async def take_place(self, tenant: Tenant, unit: Unit, results: Results) -> Any:
        """Take away the place of a tenant that is no more; for a day it is known that it writes nothing."""
        tenant_id, database = tenant.id, tenant.database
        await be_alone_in(unit.transaction)
        await put_located(unit.transaction, tenant_id, "shared", None, "gone")
        there = await located(unit.transaction)
        await self.told(unit.transaction, tenant_id)
        if not await unit.transaction.fetchval(_IS_THERE, place_name(tenant_id)):
            if database is not None:
                await self.databases.give_back(tenant_id, database)
            return {"place": database}
        async with self._builder.connected() as owner:
            shown = await self._builder.show_everywhere(owner, there)
            await self._builder.drop(owner, place_name(tenant_id))
            await hold(owner, self._builder.dedicated, there)
        await self._tell_everywhere(unit.transaction, shown)
        return {"place": place_name(tenant_id)}

    def require_owner(self) -> None:
        """See that this process may change tables.

        Raises:
            MigrationError: it may not.
        """
        self._builder.require_owner()

    def emptying(self, tenant: Tenant) -> list[Step]:
        """Return the steps that empty the database of a tenant that is deleted; none if it has none."""
        return self.databases.emptying(tenant)

    def abandoning(self, tenant: Tenant, procedure: int) -> list[Step]:
        """Return the steps that give up a move that has not switched the tenant over."""
        step = for_platform("abandon", partial(self._abandon, tenant, procedure))
        return [marking(tenant, procedure), replace(step, last=True, gives_up=True)]

    async def _abandon(self, tenant: Tenant, procedure: int, unit: Unit, results: Results) -> Any:
        """Let the tenant write where it is; what was copied is deleted once that is committed."""
        transaction, id = unit.transaction, tenant.id
        await be_alone_in(transaction)
        served = (await begun_of(transaction, procedure))["from"]
        if served == "schema":
            await transaction.execute(_SERVE, id)
        else:
            await put_located(transaction, id, served, None, "served")
        async with self._builder.connected() as owner:
            await hold(owner, self._builder.dedicated, await located(transaction))
        await self.told(transaction, id)
        return {}

    async def clear(self, tenant: Tenant, begun: Mapping[str, Any]) -> None:
        """Leave nothing where a tenant did not go to, unless something is under way with it; may be repeated.

        Args:
            tenant: whose move was given up.
            begun: what that had noted.

        Raises:
            ApiError, MigrationError: those tables are in use.
        """
        served = begun["from"]
        async with self.databases.alone() as transaction:
            there = {one.tenant_id: one.tier for one in await located(transaction)}
            if there.get(tenant.id, "shared") != served or not await is_free(transaction, tenant):
                return  # whatever goes on with it empties what it fills
            if served == "schema":
                await self._mover.remove(transaction, tenant.id, _SHARED)
            else:
                async with self._builder.connected() as owner:
                    await self._builder.drop(owner, place_name(tenant.id))

    # --- the steps --------------------------------------------------------------------

    async def _begin(self, tenant: Tenant, to: Tier, unit: Unit, results: Results) -> Any:
        await be_alone_in(unit.transaction)
        there = {one.tenant_id: one for one in await located(unit.transaction)}
        now = there.get(tenant.id)
        served = "shared" if now is None else now.tier
        if served == to:
            raise Conflict(f"Tenant {tenant.slug!r} is served from there already: {to}")
        if now is not None and now.behind:
            raise Conflict(
                f"The schema of tenant {tenant.slug!r} is behind: run `byodpp migrate apply` first"
            )
        await put_located(unit.transaction, tenant.id, served, place_name(tenant.id), "moving")
        return {"from": served, "to": to, "place": place_name(tenant.id)}

    async def _build(self, id: int, to: Tier, unit: Unit, results: Results) -> Any:
        if to == "schema":
            async with self._builder.connected() as owner:
                # Rows come in any order, so that references are made when all are there.
                await self._builder.build(owner, place_name(id), id, references=False)
        return {}

    async def _hold(self, id: int, unit: Unit, results: Results) -> Any:
        """Refuse the tenant's writes, once those that are under way have ended."""
        await be_alone_in(unit.transaction)
        there = await located(unit.transaction)
        require_moving(there, id)
        async with self._builder.connected() as owner:
            await hold(owner, self._builder.dedicated, there)
        return {}

    async def _empty(self, id: int, target: str, unit: Unit, results: Results) -> Any:
        require_moving(await located(unit.transaction), id)
        return {"rows": await self._mover.remove(unit.transaction, id, target)}

    async def _copy(self, id: int, name: str, source: str, target: str, unit: Unit, results: Results) -> Any:
        require_moving(await located(unit.transaction), id)
        return {"rows": await self._mover.copy(unit.transaction, name, id, source, target)}

    async def _close(self, id: int, source: str, target: str, unit: Unit, results: Results) -> Any:
        require_moving(await located(unit.transaction), id)
        await self._mover.close(unit.transaction, id, source, target)
        return {}

    async def _finish(self, id: int, to: Tier, source: str, target: str, unit: Unit, results: Results) -> Any:
        """Make what the copies lack, and hold the place's writes before anybody is switched over to it."""
        await be_alone_in(unit.transaction)
        known = await located(unit.transaction)
        require_moving(known, id)
        there = [replace(one, tier=to, state="settling") if one.tenant_id == id else one for one in known]
        async with self._builder.connected() as owner:
            if to == "schema":
                tables = (one.table.name for one in self._builder.dedicated)
                await count_anew(owner, (f"{target}.{quote(name)}" for name in tables))
                await self._builder.build(owner, target, id)
                await claim_keys(owner, self._builder.dedicated, there)
                await hold(owner, self._builder.dedicated, there)
            await continue_counting(owner, self._builder.dedicated, source, target)
        return {}

    async def _compare(self, id: int, source: str, target: str, unit: Unit, results: Results) -> Any:
        return await self._mover.compare(unit.transaction, id, source, target)

    async def _switch(self, id: int, to: Tier, unit: Unit, results: Results) -> Any:
        await be_alone_in(unit.transaction)
        require_moving(await located(unit.transaction), id)
        await put_located(unit.transaction, id, to, place_name(id), "settling")
        await self.told(unit.transaction, id)
        return {}

    async def _settle(self, unit: Unit, results: Results) -> Any:
        """Wait until no process believes any more that the tenant is where it was."""
        await asyncio.sleep(self._settle_seconds)
        return {}

    async def _clear(self, id: int, to: Tier, unit: Unit, results: Results) -> Any:
        """Let readers without a tenant find the rows where they are, and delete them where they were."""
        transaction = unit.transaction
        await be_alone_in(transaction)
        there = await located(transaction)
        async with self._builder.connected() as owner:
            shown = await self._builder.show_everywhere(owner, there)
        await self._tell_everywhere(transaction, shown)
        left, here = (_SHARED, place_name(id)) if to == "schema" else (place_name(id), _SHARED)
        if not await transaction.fetchval(_IS_THERE, left):
            return {"rows": 0}  # dropped by what the move was begun with
        if is_settling(there, id):
            await self._mover.require_held(transaction, id, here, results["compare"])
        return {"rows": await self._mover.remove(transaction, id, left)}

    async def _reopen(self, id: int, to: Tier, unit: Unit, results: Results) -> Any:
        """Let the tenant write where it is now."""
        await be_alone_in(unit.transaction)
        place = place_name(id)
        there = to == "schema" or await unit.transaction.fetchval(_IS_THERE, place)
        await put_located(unit.transaction, id, to, place if there else None, "served")
        async with self._builder.connected() as owner:
            await hold(owner, self._builder.dedicated, await located(unit.transaction))
        await self.told(unit.transaction, id)
        return {}

    async def _drop(self, id: int, to: Tier, unit: Unit, results: Results) -> Any:
        """Take the empty place away; who still reads there is waited for, and the tenant need not."""
        if to == "shared":
            await be_alone_in(unit.transaction)
            async with self._builder.connected() as owner:
                await self._builder.drop(owner, place_name(id))
            await put_located(unit.transaction, id, "shared", None, "served")
        return {}

    async def _end(self, tenant: Tenant, to: Tier, unit: Unit, results: Results) -> Any:
        told = {"ulid": tenant.ulid, "from": results["begin"]["from"], "to": to, "rows": _rows(results)}
        await tell(unit, "tenant.moved", tenant.id, told)
        return told

    async def _tell_everywhere(self, transaction: Transaction, shown: bool) -> None:
        if shown:
            await put_located(transaction, -1, "shared", EVERYWHERE, "served")
        else:
            await transaction.execute("delete from byodpp.tenant_places where tenant_id = -1")
        await self.told(transaction, PLATFORM_TENANT)

    async def told(self, transaction: Transaction, tenant_id: int) -> None:
        """Let every process look anew what a tenant is and where; the platform stands for all."""
        await record_change(transaction, tenant_id)
        transaction.after_commit(self._forgotten)

    async def _forgotten(self) -> None:
        self._forget(None)


def _rows(results: Results) -> int:
    return sum(one["rows"] for name, one in results.items() if name.startswith("copy "))
