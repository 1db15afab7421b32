"""Moves of a tenant between databases: out of the one that all share, back into it, from region to region.

The steps are those of a move between schemas (`moves`), but that rows travel from connection to connection,
and that everything of the tenant goes along: its users, roles, policies, keys, events, and history. The audit
trail stays where it was written, for nobody can delete it; what the new place lacks of it is added there. A
step's work in other databases is committed before the note that it is done, so each can be taken twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

from byodpp.audit import Sealer
from byodpp.authentication.changes import Forget, record_change
from byodpp.authentication.revocations import BUMP
from byodpp.authentication.tenants import Tenant
from byodpp.database import Database, Transaction
from byodpp.exceptions import ApiError, Conflict, MigrationError, PlaceUnavailable, StorageFull
from byodpp.places import Located, PlaceBuilder
from byodpp.places.carrying import Carrier
from byodpp.places.copies import Copies
from byodpp.places.databases import PlaceDatabases, claiming, fenced
from byodpp.places.fences import be_alone_in, claim_keys, hold
from byodpp.places.placement import staying
from byodpp.service.units import Unit
from byodpp.tables import Tables
from byodpp.tenant_life.acting import for_platform, tell
from byodpp.tenant_life.choosing import PlaceChoice, Wanted
from byodpp.tenant_life.giving_up import begun_of, is_free, marking
from byodpp.tenant_life.locating import is_settling, located, put_located, require_moving, used_by
from byodpp.tenant_life.procedures import PATIENT, PutBack, Step

__all__ = ["DatabaseMoves"]

_log: Final = logging.getLogger(__name__)

Results = Mapping[str, Any]

#: Steps that write what is known of tenants, where all of them are.
_OF_ALL: Final = ("begin", "switch", "open", "end")
_HAS_OPENED: Final = "has opened rows to other tenants, which cannot be looked up in another database"
_OPENED: Final = (
    "select exists (select from grants where tenant_id = $1 and (expires_at is null or expires_at > now()))"
)
#: What a tenant has given back while it was in another database.
_FORGET_CLAIMS: Final = (
    "delete from byodpp.platform_keys p where p.tenant_id = $1 and not exists"
    " (select from unnest($2::text[], $3::text[]) as u(n, k) where u.n = p.name and u.k = p.key)"
)
_CLAIMS: Final = "select name, key from byodpp.platform_keys where tenant_id = $1"


class DatabaseMoves:
    """Makes the steps of moves between databases."""

    def __init__(
        self,
        database: Database,
        tables: Tables,
        builder: PlaceBuilder,
        places: PlaceDatabases,
        copies: Mapping[str, Copies],
        sealers: Mapping[str | None, Sealer],
        *,
        settle_seconds: float,
        forget: Forget,
    ) -> None:
        """Args:
        database: that all tenants share, with those of the places.
        tables: of the application.
        builder: of schemas, for its connections.
        places: does the owner's work in places.
        copies: of each place.
        sealers: of each database.
        settle_seconds: how long writes wait after a move, until every process knows of it.
        forget: lets this process look anew where tenants are.
        """
        self._database = database
        self._builder = builder
        self._places = places
        self._copies = copies
        self._sealers = sealers
        self._settle_seconds = settle_seconds
        self._forget = forget
        self._carrier = Carrier(tables, shared=database, renumber=BUMP)
        self.choice = PlaceChoice(database, places, self._carrier)
        self._further = tuple(one for one in fenced(tables) if one not in builder.dedicated)
        self._spared = staying(tables)
        self._claiming = tuple(one for one in claiming(tables) if one not in builder.dedicated)

    def moving(self, tenant: Tenant, to: str, wanted: Wanted) -> list[Step]:
        """Return the steps that carry a tenant's rows into a database, or out of one."""
        id = tenant.id
        copies = [for_platform(f"copy {name}", partial(self._copy, id, name)) for name in self._carrier.names]
        copied = ["empty", *(one.name for one in copies), "circles", "references"]
        steps = [
            for_platform("begin", partial(self._begin, tenant, to, wanted)),
            for_platform("place", partial(self._prepare, id)),
            for_platform("hold", partial(self._hold, tenant)),
            for_platform("empty", partial(self._empty, id)),
            *copies,
            for_platform("circles", partial(self._close, id)),
            for_platform("references", partial(self._finish, id)),
            replace(for_platform("compare", partial(self._compare, id)), undoes=tuple(copied)),
            for_platform("switch", partial(self._switch, id)),
            for_platform("settle", self._settle),
            for_platform("trail", partial(self._bring_trail, id)),
            # Before anything can be written: what is still where it was can be found, like a key.
            for_platform("clean", partial(self._clean, id)),
            for_platform("open", partial(self._open, id)),
            for_platform("end", partial(self._end, tenant)),
        ]
        return [replace(step, work=partial(self._naming, step.name, step.work)) for step in steps]

    async def _naming(
        self, step: str, work: Callable[[Unit, Results], Awaitable[Any]], unit: Unit, results: Results
    ) -> Any:
        """Do a step; where there is no room left, say in which database."""
        try:
            return await work(unit, results)
        except StorageFull as error:
            written = "source" if step in ("hold", "clean") else "target"
            full = None if step in _OF_ALL else results["begin"][written]
            where = "the database that tenants share" if full is None else f"the place {full}"
            raise StorageFull(f"There is no room left in {where}: make some") from error

    # --- of other procedures ----------------------------------------------------------

    async def put_new(self, id: int, wanted: Wanted, unit: Unit) -> Mapping[str, Any]:
        """Give a new tenant without rows a database of its own.

        Raises:
            Conflict: none is free.
        """
        transaction = unit.transaction
        if await self._carrier.any_rows(self._database, id):
            return {"place": None}
        name = await self.choice.choose(transaction, id, wanted)
        await self.choice.require_two(None, name)
        new = Located(tenant_id=id, tier="database", place=name, state="served")
        await self._ready(name, id)
        there = [*(one for one in await located(transaction) if one.tenant_id != id), new]
        await self._fence(there)
        await put_located(transaction, id, "database", name, "served")
        await self._told(transaction, id)
        return {"place": None, "database": name}

    def emptying(self, tenant: Tenant) -> list[Step]:
        """Return the steps that empty the database of a tenant that is deleted; its trail is kept."""
        if tenant.database is None:
            return []
        return [for_platform("rows of the place", partial(self._empty_place, tenant.id, tenant.database))]

    async def give_back(self, id: int, name: str) -> None:
        """Leave nothing of a tenant that is no more in its database, but for its trail."""
        await self._carrier.claimed(id, [], [], self._database.at(name))
        await self._copies[name].forget(id)

    async def _empty_place(self, id: int, name: str, unit: Unit, results: Results) -> Any:
        place = self._database.at(name)
        await self._carrier.bring_trail(id, place, self._database, self._sealers[None].take_in)
        return {"rows": await self._carrier.remove(id, place)}

    def abandoning(self, tenant: Tenant, procedure: int) -> list[Step]:
        """Return the steps that give up a move that has not switched the tenant over."""
        step = for_platform("abandon", partial(self._abandon, tenant, procedure))
        return [marking(tenant, procedure), replace(step, last=True, gives_up=True)]

    async def _abandon(self, tenant: Tenant, procedure: int, unit: Unit, results: Results) -> Any:
        """Let the tenant write where it is; what was copied is deleted once that is committed.

        Not before: a move that was cut off amid this would find its copies gone, and those it compared noted.
        """
        transaction = unit.transaction
        await be_alone_in(transaction)
        begun = await begun_of(transaction, procedure)
        await self._let_write(transaction, tenant.id, begun["source"])
        return {}

    async def clear(self, tenant: Tenant, begun: Mapping[str, Any]) -> None:
        """Leave nothing where a tenant did not go to, unless it is there, or on its way; may be repeated.

        Args:
            tenant: whose move was given up.
            begun: what that had noted.

        Raises:
            ApiError, MigrationError: the place is away, or in use; the next move to there empties it, too.
        """
        id, target = tenant.id, begun["target"]
        async with self.alone() as transaction:
            used = used_by(await located(transaction), id)
            if target in used or not await is_free(transaction, tenant):
                return  # whatever goes on with it empties that place before it fills it
            await self._carrier.remove(id, self._database.at(target))
            if target is not None:
                await self.give_back(id, target)

    async def _leave(self, tenant: Tenant, begun: Mapping[str, Any]) -> None:
        try:
            await self.clear(tenant, begun)
        except (ApiError, MigrationError) as error:
            _log.warning("the place %s was not cleared of tenant %d: %s", begun["target"], tenant.id, error)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Transaction]:
        """Yield a transaction of the system role, in which nobody else changes where tenants are.

        Raises:
            MigrationError: somebody does, all the time.
        """
        async with self._database.system() as transaction:
            await transaction.execute(PATIENT)
            await be_alone_in(transaction)
            yield transaction

    async def _let_write(self, transaction: Transaction, id: int, source: str | None) -> None:
        """Let a tenant write where it is, as before its move."""
        await put_located(transaction, id, "shared" if source is None else "database", source, "served")
        if source is None:
            await self._fence(await located(transaction))
        else:
            await self._places.hold(source, id, held=False)
        await self._carrier.mark_keys(id, self._database.at(source))
        await self._told(transaction, id)

    # --- the steps --------------------------------------------------------------------

    async def _begin(self, tenant: Tenant, to: str, wanted: Wanted, unit: Unit, results: Results) -> Any:
        transaction = unit.transaction
        await be_alone_in(transaction)
        there = {one.tenant_id: one for one in await located(transaction)}
        now = there.get(tenant.id)
        served = "shared" if now is None else now.tier
        source = now.database if now is not None and served == "database" else None
        self._database.at(source)  # refused where it is away
        target = None
        if to == "database":
            if await self._opens_rows(source, tenant.id):
                raise Conflict(f"Tenant {tenant.slug!r} {_HAS_OPENED}: revoke its grants first")
            target = await self.choice.choose(transaction, tenant.id, wanted, but=source)
        elif source is None:
            raise Conflict(f"Tenant {tenant.slug!r} is served from there already: {served}")
        await self.choice.require_two(source, target)
        await self._carrier.require_alike(self._database.at(source), self._database.at(target))
        await put_located(transaction, tenant.id, served, source or target, "moving")
        return {"from": source or served, "source": source, "to": target or "shared", "target": target}

    async def _opens_rows(self, source: str | None, id: int) -> bool:
        async with self._database.at(source).system() as transaction:
            return bool(await transaction.fetchval(_OPENED, id))

    async def _prepare(self, id: int, unit: Unit, results: Results) -> Any:
        target = results["begin"]["target"]
        if target is not None:
            await self._ready(target, id)
        return {}

    async def _ready(self, place: str, id: int) -> None:
        self._at(place)
        await self._places.prepare(place, id)
        await self._places.begin_after(place, [database for _, database in self._database.serving()])
        await self._copies[place].refresh(coming=id)

    async def _hold(self, tenant: Tenant, unit: Unit, results: Results) -> Any:
        """Refuse the tenant's writes, once those that are under way have ended.

        What it has opened until then would be carried along without effect: then it stays where it is.
        """
        id, source, target = tenant.id, results["begin"]["source"], results["begin"]["target"]
        await be_alone_in(unit.transaction)
        there = await located(unit.transaction)
        require_moving(there, id)
        if source is None:
            await self._fence(there)
        else:
            await self._places.hold(source, id, held=True)
        if target is not None and await self._opens_rows(source, id):
            await self._let_write(unit.transaction, id, source)
            unit.transaction.after_commit(partial(self._leave, tenant, results["begin"]))
            told = f"Tenant {tenant.slug!r} {_HAS_OPENED} since the move began. It writes again where it is"
            return PutBack(Conflict(f"{told}: revoke its grants, and move it then"))
        return {}

    async def shut(self, transaction: Transaction, id: int, place: str | None) -> None:
        """Let nobody write for a tenant that is deleted, where all tenants are and in its own database.

        Args:
            transaction: that has noted that it is gone.
            id: of the tenant.
            place: name of its database; None: it has none.
        """
        await self._fence(await located(transaction))
        if place is not None:
            await self._places.hold(place, id, held=True, for_good=True)

    async def _fence(self, there: list[Located]) -> None:
        async with self._builder.connected() as owner:
            await claim_keys(owner, self._builder.dedicated, there, further=self._claiming)
            await hold(owner, self._builder.dedicated, there, further=self._further, spared=self._spared)

    async def _empty(self, id: int, unit: Unit, results: Results) -> Any:
        require_moving(await located(unit.transaction), id)
        await self.choice.require_two(results["begin"]["source"], results["begin"]["target"])
        return {"rows": await self._carrier.remove(id, self._target(results))}

    async def _copy(self, id: int, name: str, unit: Unit, results: Results) -> Any:
        require_moving(await located(unit.transaction), id)
        source, target = self._source(results), self._target(results)
        return {"rows": await self._carrier.copy(name, id, source, target)}

    async def _close(self, id: int, unit: Unit, results: Results) -> Any:
        require_moving(await located(unit.transaction), id)
        await self._carrier.close(id, self._source(results), self._target(results))
        return {}

    async def _finish(self, id: int, unit: Unit, results: Results) -> Any:
        """Let ids go on where they were, and the new place hold writes before anybody is switched over."""
        require_moving(await located(unit.transaction), id)
        source, target = results["begin"]["source"], results["begin"]["target"]
        async with self._owner(source) as here, self._owner(target) as there:
            await self._places.continue_counting(here, there)
            if target is not None:
                await self._places.count_anew(there)
        async with self._source(results).system() as transaction:
            claims = await transaction.fetch(_CLAIMS, id)
        names, keys = [row["name"] for row in claims], [row["key"] for row in claims]
        if target is None:
            await unit.transaction.execute(_FORGET_CLAIMS, id, names, keys)
        else:
            await self._carrier.claimed(id, names, keys, self._target(results))
            await self._places.hold(target, id, held=True)
        return {}

    async def _compare(self, id: int, unit: Unit, results: Results) -> Any:
        source, target = self._source(results), self._target(results)
        await self._carrier.require_alike(source, target)  # a revision may have come since the move began
        await self._carrier.require_one_trail(id, source, target)
        return await self._carrier.compare(id, source, target)

    async def _switch(self, id: int, unit: Unit, results: Results) -> Any:
        await be_alone_in(unit.transaction)
        require_moving(await located(unit.transaction), id)
        source, target = results["begin"]["source"], results["begin"]["target"]
        async with self._target(results).system() as there:  # nobody is switched to a place that is away
            await there.fetchval("select 1")
        tier = "shared" if target is None else "database"
        await put_located(unit.transaction, id, tier, target or source, "settling")
        await self._told(unit.transaction, id)
        return {}

    async def _settle(self, unit: Unit, results: Results) -> Any:
        """Wait until no process believes any more that the tenant is where it was."""
        await asyncio.sleep(self._settle_seconds)
        return {}

    async def _bring_trail(self, id: int, unit: Unit, results: Results) -> Any:
        """Add to the audit trail what was written until everybody knew."""
        source, target = self._source(results), self._target(results)
        sealer = self._sealers[results["begin"]["target"]]
        return {"entries": await self._carrier.bring_trail(id, source, target, sealer.take_in)}

    async def _open(self, id: int, unit: Unit, results: Results) -> Any:
        await be_alone_in(unit.transaction)
        target = results["begin"]["target"]
        await put_located(unit.transaction, id, "shared" if target is None else "database", target, "served")
        if target is None:
            there = await located(unit.transaction)
            await self._fence(there)
        else:
            await self._places.hold(target, id, held=False)
        await self._told(unit.transaction, id)
        return {}

    async def _clean(self, id: int, unit: Unit, results: Results) -> Any:
        """Delete the rows where they were, which goes on refusing the tenant; the audit trail stays."""
        if is_settling(await located(unit.transaction), id):
            await self._carrier.require_held(id, self._target(results), results["compare"])
        await self._carrier.bring_revocations(id, self._source(results), self._target(results))
        await self._carrier.mark_keys(id, self._target(results))
        rows = await self._carrier.remove(id, self._source(results))
        if results["begin"]["source"] is not None:
            await self._carrier.claimed(id, [], [], self._source(results))
        await self._told(unit.transaction, id)
        return {"rows": rows}

    async def _end(self, tenant: Tenant, unit: Unit, results: Results) -> Any:
        begun = results["begin"]
        rows = sum(one["rows"] for name, one in results.items() if name.startswith("copy "))
        told = {"ulid": tenant.ulid, "from": begun["from"], "to": begun["to"], "rows": rows}
        await tell(unit, "tenant.moved", tenant.id, told)
        return told

    def _source(self, results: Results) -> Database:
        return self._at(results["begin"]["source"])

    def _target(self, results: Results) -> Database:
        return self._at(results["begin"]["target"])

    def _at(self, place: str | None) -> Database:
        """Return a database.

        Raises:
            PlaceUnavailable: it is away, or this process was not told of it, as the servers were.
        """
        if place is not None and place not in self._database.places:
            told = f"This process knows no place {place!r}: `places` has to name it, as for the servers"
            raise PlaceUnavailable(told)
        return self._database.at(place)

    def _owner(self, place: str | None) -> Any:
        return self._builder.connected() if place is None else self._places.connected(place)

    async def _told(self, transaction: Transaction, tenant: int) -> None:
        """Let every process look anew where a tenant is."""
        await record_change(transaction, tenant)
        transaction.after_commit(partial(self._forgotten, tenant))

    async def _forgotten(self, tenant: int) -> None:
        self._forget({tenant})
