"""Imports: the rows of a file, created or upserted chunk by chunk, each chunk in a transaction.

In: an `Order` and an open file. Out: an `Outcome`. A chunk's rows, their audit entries and events, its
refusals and the progress commit together, so that a process that dies anywhere is taken up where it
ended. An atomic import is one transaction instead: all rows or none. May raise whatever is no row's
fault: Forbidden (no right to create at all), IdempotencyInProgress, IdempotencyKeyReused, Unavailable,
Unauthenticated (whoever sent it was locked out meanwhile; what is done stays, and can be gone on with).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Final

from byodpp.authentication import Principal
from byodpp.calls import Origin
from byodpp.database import Session, Sessions, Transaction, is_retryable
from byodpp.definitions import ResourceDefinition
from byodpp.events import Event
from byodpp.exceptions import ApiError
from byodpp.service import Service
from byodpp.transfer.chunks import Chunks
from byodpp.transfer.judging import Chunk, Reading, Reject
from byodpp.transfer.progress import Identity, Progress, Step, advance, claim, conclude, forget, rejects
from byodpp.transfer.standing import STANDING_SECONDS, Standing
from byodpp.transfer.writing import Writing

__all__ = ["SHOWN_REJECTS", "Importer", "Order", "Outcome"]

_log = logging.getLogger(__name__)

#: Refusals that an outcome lists; the report has the others.
SHOWN_REJECTS: Final = 100
#: Records that are written in vain, where one was refused and all will be undone: what only the database
#: knows of them is told as well.
_MOST_IN_VAIN: Final = 20_000
_TRIES: Final = 5
_FIRST_PAUSE_SECONDS: Final = 0.01

#: Is told, after each chunk, the bytes of the file that are done and how far the import has come.
Told = Callable[[int, Progress], object]


class _Undone(Exception):
    """Ends a transaction whose rows are not to stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be imported, and for whom."""

    principal: Principal
    origin: Origin
    resource: ResourceDefinition
    identity: Identity
    reading: Reading
    on: tuple[str, ...] = ()  # fields of the unique key by which an upsert finds its rows; empty: creations
    atomic: bool = False  # all rows or none
    kept: bool = True  # False: everything is done, shown, and undone
    again: bool = False  # also when this was imported before


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of an import."""

    progress: Progress
    rejects: list[Reject] = field(default_factory=list)  # the first of them
    repeated: bool = False  # it had ended before; nothing was done now
    written: bool = True  # False: nothing of it stays

    def add(self, found: Sequence[Reject]) -> None:
        """Take refusals, as many as are shown."""
        self.rejects += found[: max(0, SHOWN_REJECTS - len(self.rejects))]


class Importer:
    """Runs imports for one application."""

    def __init__(self, service: Service, sessions: Sessions, chunks: Chunks, standing: Standing) -> None:
        """Args:
        service: whose repositories, rights and events are used.
        sessions: an import takes one.
        chunks: read the files.
        standing: tells whether the caller would still be let in.
        """
        self._service = service
        self._standing = standing
        self._sessions = sessions
        self._chunks = chunks

    async def run(self, order: Order, file: BinaryIO, size: int, told: Told | None = None) -> Outcome:
        """Import a file.

        Args:
            order: what is to be done.
            file: open, with a descriptor.
            size: bytes of it.
            told: hears of the progress.
        """
        async with self._sessions.open(order.principal.session.database) as session:
            if not order.kept:
                return await self._whole(order, session, file, size, told)
            async with session.transaction(order.principal.session) as transaction:
                progress = await claim(transaction, order.identity, again=order.again)
                if progress.ended:
                    return await self._ended(transaction, progress)
            if order.atomic:
                outcome = await self._whole(order, session, file, size, told, progress)
            else:
                outcome = await self._by_chunks(order, session, file, size, told, progress)
            return outcome

    async def _ended(self, transaction: Transaction, progress: Progress) -> Outcome:
        found = await rejects(transaction, progress, most=SHOWN_REJECTS)
        return Outcome(progress=progress, rejects=found, repeated=True)

    # --- chunk by chunk ---------------------------------------------------------------

    async def _by_chunks(
        self, order: Order, session: Session, file: BinaryIO, size: int, told: Told | None, progress: Progress
    ) -> Outcome:
        outcome = Outcome(progress=progress)
        if progress.rejected:
            async with session.transaction(order.principal.session) as transaction:
                outcome.add(await rejects(transaction, progress, most=SHOWN_REJECTS))
        writing = Writing(self._service, order.resource, order.on)
        reading = replace(
            order.reading, skip=progress.records, documents=writing.needs_documents(order.principal)
        )
        chunks = self._chunks.of(file, size, reading)
        try:
            look = time.monotonic() + STANDING_SECONDS
            async for chunk in chunks:
                if time.monotonic() > look:
                    await self._standing(order.principal)
                    look = time.monotonic() + STANDING_SECONDS
                await self._chunk(order, session, writing, chunk, outcome)
                if told is not None:
                    told(chunk.position, outcome.progress)
        finally:
            await chunks.aclose()
        return outcome

    async def _chunk(
        self, order: Order, session: Session, writing: Writing, chunk: Chunk, outcome: Outcome
    ) -> None:
        """Write a chunk and count it, in one transaction that is tried again when it met another one."""
        nothing = outcome.progress.records == 0 and chunk.records == 0
        for attempt in range(1, _TRIES + 1):
            try:
                async with session.transaction(order.principal.session) as transaction:
                    if nothing and chunk.fault is not None:
                        # Not even the first record could be read: as if it had never been tried.
                        await forget(transaction, outcome.progress.tenant_id, outcome.progress.id)
                        outcome.progress = replace(outcome.progress, state="failed", fault=_fault(chunk))
                        return
                    step, events = await self._written(order, transaction, writing, chunk)
                    progress = await advance(transaction, outcome.progress, step)
                    if chunk.end:
                        progress = await conclude(transaction, progress, _fault(chunk))
                break
            except ApiError as error:
                if not is_retryable(error) or attempt == _TRIES:
                    raise
                await asyncio.sleep(_FIRST_PAUSE_SECONDS * 2**attempt * random.random())
        outcome.progress = progress
        outcome.add(step.rejects)
        await self._service.announce(events)

    async def _written(
        self, order: Order, transaction: Transaction, writing: Writing, chunk: Chunk
    ) -> tuple[Step, Sequence[Event]]:
        result = await writing.write(transaction, order.principal, order.origin, chunk)
        found = sorted([*chunk.rejects, *result.rejects], key=lambda one: one.record)
        step = Step(
            records=chunk.records,
            line=chunk.line,
            created=result.created,
            updated=result.updated,
            rejects=found,
        )
        return step, result.events

    # --- all or none ------------------------------------------------------------------

    async def _whole(
        self,
        order: Order,
        session: Session,
        file: BinaryIO,
        size: int,
        told: Told | None,
        progress: Progress | None = None,
    ) -> Outcome:
        """Write everything in one transaction; undo it when a record is refused, or when it was a try."""
        tenant = order.identity.tenant_id
        outcome = Outcome(progress=progress or Progress(id=0, tenant_id=tenant), written=False)
        events: list[Event] = []
        try:
            async with session.transaction(order.principal.session) as transaction:
                await self._all_chunks(order, transaction, file, size, told, outcome, events)
                if progress is None or outcome.progress.rejected or outcome.progress.fault is not None:
                    raise _Undone
                counted = outcome.progress
                step = Step(records=counted.records, line=counted.line, created=counted.created,
                            updated=counted.updated, rejects=())  # fmt: skip
                outcome.progress = await conclude(transaction, await advance(transaction, progress, step))
        except _Undone:
            state = "finished" if outcome.progress.fault is None else "failed"
            outcome.progress = replace(outcome.progress, state=state)
            if progress is not None:
                async with session.transaction(order.principal.session) as transaction:
                    await forget(transaction, tenant, progress.id)
            return outcome
        outcome.written = True
        await self._service.announce(events)
        return outcome

    async def _all_chunks(
        self,
        order: Order,
        transaction: Transaction,
        file: BinaryIO,
        size: int,
        told: Told | None,
        outcome: Outcome,
        events: list[Event],
    ) -> None:
        writing = Writing(self._service, order.resource, order.on)
        reading = replace(order.reading, documents=writing.needs_documents(order.principal))
        chunks, in_vain = self._chunks.of(file, size, reading), 0
        try:
            look = time.monotonic() + STANDING_SECONDS
            async for chunk in chunks:
                if time.monotonic() > look:
                    await self._standing(order.principal)
                    look = time.monotonic() + STANDING_SECONDS
                if order.kept and (outcome.progress.rejected or chunk.rejects):
                    in_vain += chunk.records
                if in_vain > _MOST_IN_VAIN or (in_vain and len(outcome.rejects) >= SHOWN_REJECTS):
                    # All of it will be undone: the rest is only judged.
                    step = Step(
                        records=chunk.records, line=chunk.line, created=0, updated=0, rejects=chunk.rejects
                    )
                else:
                    step, heard = await self._written(order, transaction, writing, chunk)
                    events += heard
                outcome.add(step.rejects)
                outcome.progress = _counted(outcome.progress, step, _fault(chunk))
                if told is not None:
                    told(chunk.position, outcome.progress)
        finally:
            await chunks.aclose()


def _fault(chunk: Chunk) -> Mapping[str, Any] | None:
    """Return why a file could not be read to its end, with the place; None when it could."""
    fault = chunk.fault
    return None if fault is None else fault.told()


def _counted(progress: Progress, step: Step, fault: Mapping[str, Any] | None) -> Progress:
    return replace(
        progress,
        records=progress.records + step.records,
        line=step.line,
        created=progress.created + step.created,
        updated=progress.updated + step.updated,
        rejected=progress.rejected + len(step.rejects),
        fault=fault,
    )
