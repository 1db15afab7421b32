"""The trail: writes what is noted beside changes, in transactions of its own, from a bounded queue.

A refused request must not wait for the database, and a flood of them must neither fill the memory
nor take the connections. So notes wait in a queue, and one task writes them, some hundred at a
time, over the system role's pool. Of each tenant only so many may wait; what comes beyond is
counted, and the count is written into the trail like everything else.

Readings are not dropped: where too many wait, the reader waits. May reject: nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from byodpp.audit.controlled import ControlledFields
from byodpp.audit.notes import (
    About,
    Caller,
    Note,
    Origin,
    Whose,
    bounded_key,
    of_block,
    of_reading,
    of_reading_again,
    of_refusal,
    of_sign_in,
)
from byodpp.authentication.tenants import TenantDirectory
from byodpp.conditions import Lookup, Query, Shape
from byodpp.database import PLATFORM_TENANT, Database, Transaction
from byodpp.definitions import Kind, ResourceDefinition, Scope
from byodpp.exceptions import ApiError, Unavailable
from byodpp.rows import GroupPage, Page, Row, opened
from byodpp.sql_text import quote

__all__ = ["DROPPED", "AuditTrail"]

_log: Final = logging.getLogger(__name__)

#: Action of the entry that counts what was not written.
DROPPED: Final = "AUDIT_DROPPED"
#: Notes of one transaction.
_BATCH: Final = 500
#: Time in which notes come together before they are written.
_GATHER_SECONDS: Final = 0.2
_PAUSE_SECONDS: Final = 1.0
#: Keys under which dropped notes are counted; more tenants at once share the platform's.
_MOST_COUNTED: Final = 1_000
#: Most readings that wait.
_MOST_READINGS: Final = 2_000
#: An entry is dated when it was noted, as far back as this: further back it would look forged.
_OLDEST_SECONDS: Final = 60.0

_TENANT_OF_KEY: Final = "select tenant_id from byodpp.api_key_hashes where id = $1"
#: Which rows are a tenant's own, by scope, as SQL over the tenant's id $2.
_TENANTS: Final = "tenant_id = $2::bigint"
_OWN: Final = {
    Scope.SHARED: "$2::bigint is not null",
    Scope.SELF: "id = $2::bigint",
    Scope.LIBRARY: "tenant_id in (0, $2::bigint)",
}
_COLUMNS: Final = {
    "tenant_id": "bigint", "action": "text", "resource_type": "text", "resource_id": "text",
    "user_id": "bigint", "actor_tenant_id": "bigint", "key_id": "text", "changes": "json",
    "ip_address": "text", "user_agent": "text", "result": "text", "reason": "text", "request_id": "text",
}  # fmt: skip
_INSERT: Final = (
    f"insert into audit_logs ({', '.join(_COLUMNS)}, created_at) select "
    + ", ".join(f"n.{name}::{kind}" if kind == "json" else f"n.{name}" for name, kind in _COLUMNS.items())
    + ", clock_timestamp() - make_interval(secs => n.age) from unnest("
    + ", ".join(
        f"${place}::{'text' if kind == 'json' else kind}[]"
        for place, kind in enumerate(_COLUMNS.values(), start=1)
    )
    + f", ${len(_COLUMNS) + 1}::float8[]) as n({', '.join(_COLUMNS)}, age)"
)


class AuditTrail:
    """The queue of one process and the task that empties it."""

    def __init__(
        self,
        database: Database,
        tenants: TenantDirectory,
        controlled: ControlledFields,
        *,
        max_waiting: int = 10_000,
        max_of_tenant: int = 1_000,
        places: Mapping[str, AuditTrail] | None = None,
    ) -> None:
        """Args:
        database: written with its system role.
        tenants: finds the tenant whose realm a refused token names.
        controlled: knows the fields whose readings are noted.
        max_waiting: notes that wait at most, readings not counted.
        max_of_tenant: of these, notes of one tenant.
            places: trails of the databases that tenants have for themselves; they get those tenants' notes.
        """
        self._places: Mapping[str, AuditTrail] = {} if places is None else places
        self._database = database
        self._tenants = tenants
        self._controlled = controlled
        self._max_waiting = max_waiting
        self._max_of_tenant = max_of_tenant
        self._waiting: deque[Note] = deque()
        self._readings: deque[Note] = deque()
        self._of_tenant: Counter[Whose] = Counter()
        self._dropped: Counter[Whose] = Counter()
        self._noted = asyncio.Event()
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._away = False  # told once per outage
        self._task: asyncio.Task[None] | None = None

    # --- noting -------------------------------------------------------------------------------

    def refused(self, error: ApiError, caller: Caller, origin: Origin, about: About) -> None:
        """Note that a signed-in caller was refused."""
        self._add(of_refusal(error, caller, origin, about))

    def sign_in_failed(self, error: ApiError, authorization: str, origin: Origin, about: About) -> None:
        """Note that credentials were refused."""
        self._add(of_sign_in(error, authorization, origin, about))

    def sign_in_blocked(self, reason: str, authorization: str | None, origin: Origin, about: About) -> None:
        """Note that somebody was shut out, who failed too often."""
        self._add(of_block(reason, authorization, origin, about))

    def watches(self, resource: ResourceDefinition, shape: Shape) -> bool:
        """Whether what a query reads may have to be noted; quick, for most queries read nothing such."""
        return self._controlled.concern(resource, shape)

    def keyed(self, resource: ResourceDefinition, query: Query) -> Query:
        """Return the query of a list so that its page tells the keys, where they may have to be noted."""
        shape = query.shape
        if shape.grouping is not None or not self.watches(resource, shape):
            return query
        return replace(query, shape=replace(shape, keyed=True))

    async def read(
        self,
        caller: Caller,
        origin: Origin,
        about: About,
        shape: Shape,
        lookup: Lookup,
        result: Row | Page,
    ) -> Note | None:
        """Note what a caller has read, if it holds controlled fields; return the note.

        Args:
            caller: who has read.
            origin: of the request.
            about: operation and resource.
            shape: of the query.
            lookup: what the caller may see.
            result: what was found; nothing is noted when that is nothing. A page is one of a `keyed` query.
        """
        resource = about.resource
        if resource is None:
            return None
        fields = self._controlled.of(resource, shape, lookup)
        if not fields or (isinstance(await opened(result), Page) and not len(result)):
            return None
        keys = _keys(result)
        if keys is None and about.key is not None:
            keys = [about.key]
        return await self._read(of_reading(caller, origin, about, fields, keys))

    async def shown(self, *about: Any) -> Note | None:
        """Note that rows were shown by the answer of a write; return the note. Arguments of `of_shown`."""
        return await self._read(self.of_shown(*about))

    async def again(self, caller: Caller, origin: Origin, about: About, changes: str) -> None:
        """Note that an answer that was kept has shown what it showed at first: `changes` of that note."""
        await self._read(of_reading_again(caller, origin, about, changes))

    def of_shown(
        self,
        caller: Caller,
        origin: Origin,
        resource: ResourceDefinition,
        shape: Shape,
        lookup: Lookup,
        keys: Sequence[Any],
    ) -> Note | None:
        """Return the note of rows that the answer of a write shows; None if they hold no controlled fields.

        Arguments are those of `read`, with the keys of the rows.
        """
        fields = self._controlled.of(resource, shape, lookup)
        if not fields:
            return None
        about = About(operation="read", resource=resource, key=str(keys[0]) if len(keys) == 1 else None)
        return of_reading(caller, origin, about, fields, keys)

    async def exported(
        self, caller: Caller, origin: Origin, about: About, shape: Shape, lookup: Lookup
    ) -> None:
        """Note that a caller exports rows, if they hold controlled fields; arguments are those of `read`."""
        if about.resource is not None and (fields := self._controlled.of(about.resource, shape, lookup)):
            await self._read(of_reading(caller, origin, about, fields, None))

    async def _read(self, note: Note | None) -> Note | None:
        """Let a reading wait, in the trail of its tenant's own database if it has one."""
        if note is None:
            return None
        trail = self
        with suppress(ApiError):  # the tenant cannot be looked up for the moment: when it is written
            trail = await self._place_of(note.tenant_id) or self
        while len(trail._readings) >= _MOST_READINGS:
            trail._room.clear()
            await trail._room.wait()
        trail._keep(note)
        return note

    def _keep(self, note: Note) -> None:
        self._readings.append(note)
        self._noted.set()

    def _add(self, note: Note | None) -> None:
        if note is None:
            return
        whose = note.whose
        if len(self._waiting) >= self._max_waiting or self._of_tenant[whose] >= self._max_of_tenant:
            counted = whose in self._dropped or len(self._dropped) < _MOST_COUNTED
            self._dropped[whose if counted else PLATFORM_TENANT] += 1
        else:
            self._waiting.append(note)
            self._of_tenant[whose] += 1
        self._noted.set()

    # --- writing ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Write from now on until `stop`."""
        self._stopping.clear()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write what waits, as far as the database takes it. Harmless when not started."""
        if self._task is None:
            return
        self._stopping.set()
        self._noted.set()
        await self._task
        self._task = None
        if self._pending:
            _log.error("the end came before %d audit entries were written", self._pending)

    async def drain(self) -> None:
        """Return when everything that was noted so far is written."""
        while self._pending:
            if not await self._flush():
                await asyncio.sleep(_PAUSE_SECONDS)
        for place in self._places.values():
            await place.drain()

    @property
    def _pending(self) -> int:
        return len(self._waiting) + len(self._readings) + len(self._dropped)

    async def _run(self) -> None:
        while True:
            await self._noted.wait()
            await self._pause(_GATHER_SECONDS)
            written = await self._flush()
            if self._stopping.is_set() and not (written and self._pending):
                return
            if not written:
                await self._pause(_PAUSE_SECONDS)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _flush(self) -> bool:
        """Write some notes; False when they could not be written and go on waiting."""
        async with self._flushing:
            readings, waiting = _first(self._readings), _first(self._waiting)
            dropped = dict(self._dropped)
            try:
                await self._write([*readings, *waiting], dropped)
            except Unavailable as error:
                if not self._away:
                    _log.warning("audit entries cannot be written for the moment: %s", error.message)
                self._away = True
                return False
            except Exception:
                _log.exception("audit entries could not be written together, now one by one")
                await self._write_each([*readings, *waiting], dropped)
            self._away = False
            self._settle(readings, waiting, dropped)
            return True

    def _settle(
        self, readings: Sequence[Note], waiting: Sequence[Note], dropped: Mapping[Whose, int]
    ) -> None:
        """Take away what was written."""
        for _ in readings:
            self._readings.popleft()
        for note in waiting:
            self._waiting.popleft()
            self._of_tenant[note.whose] -= 1
        self._of_tenant = +self._of_tenant
        self._dropped = +(self._dropped - Counter(dropped))
        self._room.set()
        if not self._pending:
            self._noted.clear()

    async def _write_each(self, notes: Sequence[Note], dropped: Mapping[Whose, int]) -> None:
        """Write notes one by one, so that one that the database refuses takes no other with it."""
        for note in (*notes, *(_count_of(whose, number) for whose, number in dropped.items())):
            try:
                await self._write([note], {})
            except Exception:
                fields = {"action": note.action, "tenant_id": note.tenant_id, "request_id": note.request_id}
                _log.exception("an audit entry could not be written and is lost", extra=fields)
                if note.action != DROPPED and note.tenant_id != PLATFORM_TENANT:
                    self._dropped[PLATFORM_TENANT] += 1  # whose it is may be what was wrong with it

    async def _write(self, notes: Sequence[Note], dropped: Mapping[Whose, int]) -> None:
        counts = [_count_of(whose, number) for whose, number in dropped.items()]
        here, elsewhere = list[Note](), list[tuple[AuditTrail, Note]]()
        for note in (*notes, *counts):
            known = await self._of_tenant_found(note)
            place = None if known is None else await self._place_of(known.tenant_id)
            if known is not None and place is not None:
                elsewhere.append((place, known))
            elif known is not None:
                here.append(known)
        async with self._database.system() as transaction:
            rows = [_row(note) for note in await self._looked_up(transaction, here)]
            if rows:
                await transaction.execute(_INSERT, *map(list, zip(*rows, strict=True)))
        for place, known in elsewhere:  # not before: what could not be written is written once more
            place._take(known)

    async def _place_of(self, tenant_id: int | None) -> AuditTrail | None:
        """Return the trail of a tenant's own database; None where it has none."""
        if not self._places or tenant_id is None:
            return None
        tenant = await self._tenants.by_id(tenant_id)
        return None if tenant is None or tenant.database is None else self._places.get(tenant.database)

    async def _looked_up(self, transaction: Transaction, notes: Sequence[Note]) -> list[Note]:
        """Find out of rows that were not shown whether they are there; one look per resource and tenant."""
        asked: dict[tuple[Any, int | None], list[Note]] = {}
        for note in notes:
            if note.hidden:
                asked.setdefault((_resource(note).id, note.tenant_id), []).append(note)
        there = {}
        for (resource, tenant), members in asked.items():
            known = None if tenant is None else await self._tenants.by_id(tenant)
            place = None if known is None else known.place
            async with nullcontext() if place is None else transaction.elsewhere(place):
                there[resource, tenant] = await _existing(transaction, members)
        return [
            note.found(exists=_key(note) in there[_resource(note).id, note.tenant_id])
            if note.hidden
            else note
            for note in notes
        ]

    def _take(self, note: Note) -> None:
        """Let a note wait that another trail held; what has succeeded is a reading, which is not dropped."""
        if note.result == "success":
            self._keep(note)
        else:
            self._add(note)

    async def _of_tenant_found(self, note: Note) -> Note | None:
        if note.tenant_id is not None:
            return note
        if note.realm:
            tenant = await self._tenants.by_realm(note.realm)
            return None if tenant is None else replace(note, tenant_id=tenant.id)
        for _, database in self._database.serving():
            async with database.system() as transaction:
                found = await transaction.fetchval(_TENANT_OF_KEY, note.key_id)
            if found is not None:
                return replace(note, tenant_id=found)
        return None


async def _existing(transaction: Transaction, notes: Sequence[Note]) -> set[str]:
    """Return the keys, of notes on one resource in one tenant, of rows that are there."""
    resource, tenant = _resource(notes[0]), notes[0].tenant_id
    if resource.kind is not Kind.DATABASE:
        return set()
    keys: dict[Any, str] = {}
    for note in notes:
        with suppress(ValueError, TypeError, ArithmeticError):
            keys[_bound_key(resource, _key(note))] = _key(note)
    sql = (
        f"select id from {quote(resource.table)} where id = any($1) and {_OWN.get(resource.scope, _TENANTS)}"
    )
    return {keys[record["id"]] for record in await transaction.fetch(sql, list(keys), tenant)}


def _bound_key(resource: ResourceDefinition, text: str) -> Any:
    definition = resource.fields["id"]
    value = definition.type.from_text(text, definition)
    plain = value if isinstance(value, int | str) else str(value)
    return definition.type.bind(definition.type.from_json(plain, definition), definition)


def _resource(note: Note) -> ResourceDefinition:
    assert note.about is not None
    assert note.about.resource is not None
    return note.about.resource


def _key(note: Note) -> str:
    return (note.about.key if note.about is not None else None) or ""


def _count_of(whose: Whose, number: int) -> Note:
    """Return the note that says how many were not written."""
    told = f"{number} refusals came faster than they could be written."
    kind, name = whose if isinstance(whose, tuple) else ("", "")
    return Note(
        tenant_id=None if isinstance(whose, tuple) else whose,
        realm=name if kind == "realm" else "",
        key_id=name if kind == "key" else None,
        action=DROPPED,
        result="failure",
        reason=told,
        changes=f'{{"dropped": {number}}}',
    )


def _row(note: Note) -> tuple[Any, ...]:
    """Return the values of `_COLUMNS`, and the age in seconds."""
    about = note.about
    resource = about.resource.name if about is not None and about.resource is not None else None
    return (
        note.tenant_id,
        note.action,
        resource,
        _text(bounded_key(about.key)) if about is not None else None,
        note.user_id,
        note.actor_tenant_id,
        note.key_id,
        note.changes,
        _text(note.client_ip[:64]),
        _text(note.user_agent),
        note.result,
        _text(note.reason),
        _text(note.request_id[:128]),
        min(time.monotonic() - note.noted_at, _OLDEST_SECONDS),
    )


def _text(value: str | None) -> str | None:
    """Return a text that PostgreSQL takes: whatever came in an address, it does not refuse the entry."""
    if not value:
        return None
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _first(notes: deque[Note]) -> list[Note]:
    return list(islice(notes, _BATCH))


def _keys(result: Row | Page) -> list[Any] | None:
    """Return the keys of rows; None where they are not among what was read."""
    if isinstance(result, GroupPage):
        return None
    if isinstance(result, Page) and result.keys is not None:
        return list(result.keys)
    rows = [result] if isinstance(result, Row) else list(result)
    return [row["id"] for row in rows] if all("id" in row for row in rows) else None
