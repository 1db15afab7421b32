"""The service: runs a call and returns when its effect is certain.

Comes from `controller` with a Call that is authenticated, authorised and validated. Knows no
HTTP. A read that no logic class serves takes one trip to the database and no transaction;
everything else commits as a whole or not at all, and is run again, within a bound, when
PostgreSQL could not serialise it. Events are handled after the commit, beside the answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from byodpp.audit.notes import About
from byodpp.audit.readings import told
from byodpp.authentication import Principal
from byodpp.authentication.turns import Turns
from byodpp.batches import BatchItem
from byodpp.batches.rows_first import require_row
from byodpp.batches.work import BatchWork
from byodpp.calls import Call, Origin
from byodpp.conditions import Query, Shape
from byodpp.database import Database, Deadline, NeedsTransaction, TransactionScope, is_retryable
from byodpp.definitions import READ_OPERATIONS, Kind, ResourceDefinition
from byodpp.events import Event, EventBus, emits, past_tense
from byodpp.exceptions import ApiError, Forbidden, NotFound, PlaceUnavailable, QueryTimeout
from byodpp.idempotency import IdempotencyKeys, Reading
from byodpp.repository.lone_rows import change_alone, create_alone, event_of
from byodpp.repository.outcomes import difference
from byodpp.repository.row_reads import RowRead, RowReads
from byodpp.rows import Page, Row
from byodpp.service.lone import is_lone, is_single
from byodpp.service.units import ONE_ROW, Unit, UnitParts

__all__ = ["Service"]

#: Tries of a transaction that PostgreSQL could not serialise, the first included.
_TRIES: Final = 4
_FIRST_PAUSE_SECONDS: Final = 0.005

T = TypeVar("T")
R = TypeVar("R", Row, Page)


class _Undone(Exception):
    """Ends a transaction whose work was only tried."""


class Service:
    """Runs calls for all resources; holds nothing of any of them."""

    def __init__(self, parts: UnitParts, database: Database, bus: EventBus) -> None:
        self.parts = parts
        # What is encrypted in its table must not lie open beside it.
        encryption = parts.encryption if parts.store.sealed.any else None
        self.keys = IdempotencyKeys(database, encryption=encryption)
        self._database = database
        self._bus = bus
        self._handling: set[asyncio.Task[None]] = set()
        self.row_reads = RowReads()
        self._turns = Turns()  # who has met others that write users waits here, without a connection

    async def run(self, call: Call) -> Any:
        """Run one call.

        Returns:
            A Row, a Page, a list of Rows or ItemOutcomes, a Reply, any JSON-like value, or None
            for "no content".

        Raises:
            ApiError: whatever refused it. Nothing was changed, except perhaps with OutcomeUnknown.
        """
        if (
            self.parts.logics.get(call.resource, call.operation) is None
            and call.resource.kind is not Kind.LOGIC
        ):
            if call.operation == "read":
                row = await self.row(call.principal, call.resource, call.params["id"], call.query)
                return await self._noted(call, call.query or ONE_ROW, row)
            if call.operation == "list" and call.query is not None:
                query = self.parts.trail.keyed(call.resource, call.query)
                return await self._noted(call, query, await self.page(call.principal, call.resource, query))
        try:
            return await self.together(call.principal, call.origin, lambda unit: unit.execute(call.having()))
        except NotFound:
            if not call.principal.anywhere:
                raise
            if self._database.places:
                return await self._run_elsewhere(call)
            await self._refuse_unless_all_serve()
            raise

    async def _run_elsewhere(self, call: Call) -> Any:
        """Run a call of who names no tenant where rows of tenants are that have a database: a public address.

        Raises:
            NotFound: nothing is found there either.
            PlaceUnavailable: nothing is found in those that answer, and one does not, or is not known.
        """
        for looking in self._elsewhere(call.principal):

            async def work(unit: Unit, looking: Principal = looking) -> Any:
                return await unit.execute(call.having(principal=looking))

            with suppress(NotFound):
                return await self.together(looking, call.origin, work)
        await self._refuse_unless_all_serve()
        raise NotFound

    async def row(
        self, principal: Principal, resource: ResourceDefinition, key: str, query: Query | None = None
    ) -> Row:
        """Read a row that no logic class has a word in, with one trip; nothing is noted of it.

        Raises:
            NotFound: there is none that the caller may read.
        """
        return await self.read_row(self.row_read(principal, resource, query or ONE_ROW), principal, key)

    def row_read(self, principal: Principal, resource: ResourceDefinition, query: Query) -> RowRead:
        """Return what reads such rows for a caller, and for all others of the same standing."""
        lookup = self.parts.authorizer.lookup(principal)
        return self.parts.store.row_read(principal, resource, query, lookup)

    async def read_row(self, read: RowRead, principal: Principal, key: str) -> Row:
        """Read a row.

        Raises:
            NotFound: there is none that the caller may read.
        """
        row = await read.row(principal, key)
        if row is None and principal.anywhere:
            row = await self._row_of_places(read, principal, key)
        if row is None:
            raise NotFound(f"{read.resource.name} {key[:100]!r} does not exist.")
        return row

    async def _row_of_places(self, read: RowRead, principal: Principal, key: str) -> Row | None:
        """Look for a published row of whichever tenant in the databases of those that have one.

        Raises:
            PlaceUnavailable: there is none in those that answer, and one does not, or is not known.
        """
        for looking in self._elsewhere(principal):
            row = await self.row_read(looking, read.resource, read.query).row(looking, key)
            if row is not None:
                return row
        await self._refuse_unless_all_serve()
        return None

    def _elsewhere(self, principal: Principal) -> Iterator[Principal]:
        """Yield who names no tenant as who asks in each database of one."""
        for name, place in self._database.places.items():
            if place.refusal is None:
                yield replace(principal, looking_in=name)

    async def _refuse_unless_all_serve(self) -> None:
        for name in self._database.places:
            self._database.at(name)
        if await self.parts.store.unreached():
            raise PlaceUnavailable

    async def page(self, principal: Principal, resource: ResourceDefinition, query: Query) -> Page:
        """Read a page of rows that no logic class has a word in, with one trip."""
        lookup = self.parts.authorizer.lookup(principal, resource)
        return await self.parts.store.page_once(principal, resource, query, lookup)

    async def together(
        self,
        principal: Principal,
        origin: Origin,
        work: Callable[[Unit], Awaitable[T]],
        *,
        commit: bool = True,
        lone: bool = False,
        bounded: bool = True,
        deadline: Deadline | None = None,
    ) -> T:
        """Run some work in one transaction.

        Args:
            principal: who acts.
            origin: of the request.
            work: may run again after a serialization failure, so it keeps nothing between runs.
            commit: False undoes everything at the end; what waits for the commit does not happen.
            lone: the work is one statement, and as such a transaction (`is_lone`).
            bounded: all tries together have the time of one request; False where nobody waits.
            deadline: of that time, where the request has tried something before.

        Raises:
            QueryTimeout: they took longer.
        """
        if bounded and deadline is None:
            deadline = self._database.deadline()
        doing = partial(self._tries, principal, origin, work, commit, bounded, deadline)
        try:
            return await doing(lone)
        except QueryTimeout as error:
            if error.turn_of is None:
                raise
            whose = error.turn_of
        turn = await self._turns.take(whose)
        try:
            return await doing(lone, brief=False)
        finally:
            turn.release()

    async def _tries(
        self,
        principal: Principal,
        origin: Origin,
        work: Callable[[Unit], Awaitable[T]],
        commit: bool,
        bounded: bool,
        deadline: Deadline | None,
        lone: bool = False,
        *,
        brief: bool = True,
    ) -> T:
        """Do the work until PostgreSQL can serialise it; `brief`: it may be done again in its turn."""
        for attempt in range(1, _TRIES + 1):
            try:
                if commit:
                    # What is cut short amid a statement is certainly undone in a transaction only.
                    whole = attempt == 1 or deadline is None or deadline.left() is None
                    scope = (
                        self._database.lone(principal.session)
                        if lone and whole
                        else self._database.transaction(principal.session, deadline=deadline)
                    )
                    result, events = await self._once(scope, principal, origin, work, brief=brief)
                else:
                    result, events = await self._tried(principal, origin, work, deadline, brief=brief)
            except NeedsTransaction:
                break  # nothing was done
            except ApiError as error:
                if attempt == _TRIES or not is_retryable(error):
                    raise
                await asyncio.sleep(_FIRST_PAUSE_SECONDS * 2**attempt * random.random())
            else:
                self._handle(events)
                return result
        # Not where it was caught: what brought it here, with all it holds, is gone by now.
        return await self._tries(principal, origin, work, commit, bounded, deadline, brief=brief)

    async def single(self, call: Call) -> Row:
        """Create or change the row of a call that `is_single`, and nothing else beside its statement.

        Raises:
            ApiError: as of `run`.
        """
        parts = self.parts
        write = create_alone if call.operation == "create" else change_alone
        name = past_tense(call.resource.segment, call.operation)
        heard = emits(call.resource, call.operation) and parts.hears(name)
        deadline = self._database.deadline()
        try:
            row, told = await write(parts.store, self._database, parts.authorizer, call, heard=heard)
        except Forbidden as error:
            error.about = error.about or (call.operation, call.resource, call.params.get("id"))
            raise
        except NeedsTransaction:
            pass  # nothing was done
        except ApiError as error:
            if not is_retryable(error):
                raise
        else:
            if heard:
                self._handle([event_of(call, row, told)])
            return row
        return await self.together(
            call.principal, call.origin, lambda unit: unit.execute(call.having()), deadline=deadline
        )

    async def as_system(
        self, principal: Principal, origin: Origin, work: Callable[[Unit], Awaitable[T]]
    ) -> T:
        """Run some work once, in one transaction that row-level security lets pass.

        For what no request does: what an operator does with tenants. Its events are handled as always,
        and what is unique in the platform is claimed.
        """
        async with self._database.system(principal.session) as transaction:
            unit = Unit(self.parts, transaction, principal, origin)
            result = await work(unit)
            await unit.finish()
            confirm = self._database.at(principal.session.database).confirm
            if confirm is not None:
                await confirm(transaction)
        self._handle(unit.outbox.events)
        return result

    async def versions(self, call: Call, query: Query) -> Page:
        """Return the kept versions of the row that a call names.

        Args:
            call: of a read.
            query: of which only the page matters.

        Raises:
            NotFound: there is none that the caller may see.
        """
        key, lookup = call.params["id"], self.parts.authorizer.lookup(call.principal)
        page = await self.parts.store.versions_once(call.principal, call.resource, key, query, lookup)
        if page is None:
            raise NotFound(f"{call.resource.name} {key[:100]!r} does not exist.")
        return await self._noted(call, query, page)

    async def _noted(self, call: Call, query: Query, result: R) -> R:
        """Return what was read, once it is noted for the audit trail if it holds controlled fields."""
        trail = self.parts.trail
        if trail.watches(call.resource, query.shape):
            about = About(operation=call.operation, resource=call.resource, key=call.params.get("id"))
            listed = call.resource if call.operation == "list" else None
            lookup = self.parts.authorizer.lookup(call.principal, listed)
            await trail.read(call.principal, call.origin, about, query.shape, lookup, result)
        return result

    async def require_row(self, call: Call, document: Any) -> None:
        """Refuse a call for the row that it names, whatever else is wrong with it (`batches.rows_first`).

        Args:
            call: that names a row, or none.
            document: JSON value that is sent for it.

        Raises:
            NotFound: there is none that the caller may read.
            Forbidden: he may not do this to it.
        """
        key = call.params.get("id")
        if call.operation not in READ_OPERATIONS:
            await self.together(call.principal, call.origin, lambda unit: require_row(unit, call, document))
        elif key is not None and call.resource.kind is not Kind.LOGIC:
            await self.row(call.principal, call.resource, key)  # of whichever tenant, for who names none

    async def require_rows(self, call: Call, items: Sequence[BatchItem]) -> None:
        """Refuse a batch for the first row that its items name, whatever else is wrong with them.

        Raises:
            Forbidden: the caller may do this to no row, or not to this one.
            NotFound: there is none that he may read.
        """
        may, caller, resource = self.parts.authorizer.decide, call.principal, call.resource
        known = [item for item in items if item.operation != "upsert"]
        if any(item.key is not None or not may(caller, resource, item.operation).allowed for item in known):
            await self.together(caller, call.origin, lambda unit: BatchWork(unit).look(call, items))

    async def require_as_stored(self, call: Call) -> None:
        """Refuse an update for values that must be as stored, which is told before what is taken.

        Raises:
            NotFound: there is no row by now that the caller may read.
            Forbidden: he may not write these fields.
            ValidationFailed: they are read-only. What a class makes of a call is for the class to judge.
        """
        if not call.read_only or self.parts.logics.get(call.resource, call.operation) is not None:
            return
        key, shape = call.params["id"], Shape(fields=tuple(call.read_only))
        stored = await self.row(call.principal, call.resource, key)
        lookup, trail = self.parts.authorizer.lookup(call.principal), self.parts.trail
        await trail.shown(call.principal, call.origin, call.resource, shape, lookup, [key])
        if (refused := difference(call.resource, call.read_only, stored)) is not None:
            raise refused

    def hears(self, event: str) -> bool:
        """Tell whether some handler of this process wants an event of that name."""
        return self._bus.hears(event)

    async def announce(self, events: Sequence[Event]) -> None:
        """Let the handlers have events whose change is committed, and wait for them."""
        await self._bus.dispatch(events)

    async def drain(self) -> None:
        """Wait until the handlers of all events so far have ended."""
        while self._handling:
            await asyncio.wait(self._handling)

    def readings(self, unit: Unit) -> tuple[Reading, ...]:
        """Return what the answer of a unit, which is to be kept, shows of controlled fields."""
        shown = [self.parts.trail.of_shown(*about) for about in self._shown(unit)]
        notes = [told(note) for note in (*unit.trail.noted, *shown) if note is not None]
        return tuple(one for one in notes if one is not None)

    async def read_again(self, unit: Unit, readings: Iterable[Reading]) -> None:
        """Note what an answer that was kept shows once more."""
        for operation, version, name, key, changes in readings:
            about = About(operation=operation, resource=self.parts.registry.find(name, version), key=key)
            await self.parts.trail.again(unit.principal, unit.origin, about, changes)

    def is_lone(self, call: Call) -> bool:
        """Whether the call's work is one statement that nothing could have to undo."""
        return is_lone(self.parts, call)

    def is_single(self, call: Call) -> bool:
        """Whether a call writes a row by one statement, with nothing else to find out."""
        return is_single(self.parts, call)

    async def _once(
        self,
        scope: TransactionScope,
        principal: Principal,
        origin: Origin,
        work: Callable[[Unit], Awaitable[T]],
        *,
        brief: bool,
    ) -> tuple[T, list[Event]]:
        async with scope as transaction:
            transaction.brief = brief
            unit = Unit(self.parts, transaction, principal, origin)
            result = await work(unit)
            await unit.finish()
        await self._note_shown(unit)
        return result, unit.outbox.events

    async def _tried(
        self,
        principal: Principal,
        origin: Origin,
        work: Callable[[Unit], Awaitable[T]],
        deadline: Deadline | None,
        *,
        brief: bool,
    ) -> tuple[T, list[Event]]:
        """Do everything but the commit."""
        try:
            async with self._database.transaction(principal.session, deadline=deadline) as transaction:
                transaction.brief = brief
                unit = Unit(self.parts, transaction, principal, origin)
                result = await work(unit)
                await unit.finish()
                await transaction.execute("set constraints all immediate")
                raise _Undone
        except _Undone:
            await self._note_shown(unit)
            return result, []

    async def _note_shown(self, unit: Unit) -> None:
        """Note the rows with controlled fields that the answer of a write shows."""
        for about in self._shown(unit):
            await self.parts.trail.shown(*about)

    def _shown(self, unit: Unit) -> Iterator[tuple[Any, ...]]:
        """Yield the arguments of the trail's `shown` for each resource of which an answer shows rows."""
        lookup = self.parts.authorizer.lookup(unit.principal)
        for resource, keys in unit.shown.values():
            yield unit.principal, unit.origin, resource, ONE_ROW.shape, lookup, keys

    def _handle(self, events: list[Event]) -> None:
        if events and self._bus.wants(events):
            task = asyncio.create_task(self._bus.dispatch(events))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)
