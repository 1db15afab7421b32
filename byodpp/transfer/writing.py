"""Writing a chunk: its rows by one statement, its documents one by one.

In: a chunk that was judged, and a transaction. Out: how many rows were created and updated, which
records the database refused, and the events that handlers of this process are waiting for. Rows and
documents are written as the same creations over HTTP: rights, row rules, audit, events, history, and
logic classes where the application has some. Raises what is no record's fault.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from byodpp.aside import others
from byodpp.authentication import Principal
from byodpp.batches import Batch, read_item
from byodpp.batches.work import BatchWork, ItemOutcome
from byodpp.calls import Call, Origin
from byodpp.database import Transaction
from byodpp.definitions import ResourceDefinition
from byodpp.events import Event, emits, past_tense
from byodpp.exceptions import ApiError, Forbidden
from byodpp.repository.answer_bound import AnswerBound
from byodpp.repository.staging import Staging
from byodpp.rows import Row
from byodpp.schemas import LoadedBody
from byodpp.service import Service
from byodpp.service.units import Unit
from byodpp.statements.staging import StagedRows
from byodpp.transfer.judging import Chunk, Reject, told

__all__ = ["Result", "Writing"]


@dataclass(slots=True, kw_only=True)
class Result:
    """What became of a chunk."""

    created: int = 0
    updated: int = 0
    rejects: list[Reject] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class Writing:
    """Writes the chunks of one import."""

    def __init__(self, service: Service, resource: ResourceDefinition, on: tuple[str, ...]) -> None:
        """Args:
        service: of the application.
        resource: of the rows.
        on: fields of the unique key by which an upsert finds its rows; empty: all are created.
        """
        self._service = service
        self._parts = service.parts
        self._resource = resource
        self._on = on
        self._wary = False  # the chunk before had rows that only the database could refuse

    def needs_documents(self, principal: Principal) -> bool:
        """Tell whether more than schema and database has a word in each creation."""
        if self._on or self._parts.logics.get(self._resource, "create") is not None:
            return True
        if self._parts.store.sealed.concern(self._resource):
            return True  # keys stay in this process
        # A field that may be written on some rows only is asked of each row by its own fields.
        decision = self._parts.authorizer.decide(principal, self._resource, "create")
        if decision.presets:
            return True  # what they fill in is known here, and not where files are read
        return decision.fields is not None and any(rule is not None for rule in decision.fields.values())

    async def write(
        self, transaction: Transaction, principal: Principal, origin: Origin, chunk: Chunk
    ) -> Result:
        """Write one chunk."""
        unit, result = Unit(self._parts, transaction, principal, origin), Result()
        unit.answer = AnswerBound(counts=False)
        if chunk.rows is not None:
            await self._rows(unit, chunk.rows, result)
        if chunk.documents:
            await self._documents(unit, chunk, result)
        await unit.finish()
        result.events += unit.outbox.events
        return result

    # --- rows -------------------------------------------------------------------------

    async def _rows(self, unit: Unit, rows: StagedRows, result: Result) -> None:
        resource = self._resource
        event = past_tense(resource.segment, "create")
        heard = emits(resource, "create") and self._service.hears(event)
        acting = unit.acting(call=self._call(unit, "create"))
        staging = Staging(self._parts.store, acting, resource, rows, shown=heard)
        written = await staging.write(wary=self._wary)
        self._wary = bool(written.refused)
        result.created += written.created
        result.rejects += (
            Reject(record=one.record, line=one.line, error=told(one.error)) for one in written.refused
        )
        repository = unit.repositories(resource.version, call=self._call(unit, "create"))[resource.name]
        for id, json in written.rows:
            shown: Any = {"id": id} if json is None else Row(json.encode(), resource, self._parts.registry)
            repository.emit(event, shown, id, stored=True)

    # --- documents --------------------------------------------------------------------

    async def _documents(self, unit: Unit, chunk: Chunk, result: Result) -> None:
        operation = "upsert" if self._on else "create"
        load, items = partial(self._load, unit.principal), []
        for index, (_, _, value) in enumerate(chunk.documents):
            items.append(read_item(operation, index, value, load, self._resource, self._on))
            await others(index)
        batch = Batch(operation=operation, items=tuple(items), atomic=False, on=self._on)
        call = self._call(unit, "create").having(operation="batch")
        if self._on and all(item.fault is None for item in items):
            found = await self._together(unit, call, replace(batch, atomic=True))
            if found is not None:
                result.created += found.count("create")
                result.updated += found.count("update")
                return
        for outcome in await BatchWork(unit).run(call, batch):
            self._count(outcome, chunk, result)

    async def _together(self, unit: Unit, call: Call, batch: Batch) -> list[str] | None:
        """Upsert all documents of a chunk at once; what each was, None when one of them is refused.

        Missing rows are made by one statement and nothing needs a savepoint of its own. Which document is to
        blame is found by doing them one by one.
        """
        position = unit.outbox.mark()
        try:
            async with unit.transaction.savepoint():
                return await BatchWork(unit).upserted(call, batch)
        except ApiError as error:
            unit.outbox.rewind(position)
            if error.retryable or error.status >= 500:
                raise
            return None

    def _load(self, principal: Principal, operation: str, value: Any, prefix: str) -> LoadedBody:
        presets = self._parts.authorizer.presets(principal)
        return self._parts.schemas.load(
            self._resource, operation, value, prefix=prefix.rstrip("."), presets=presets
        )

    def _count(self, outcome: ItemOutcome, chunk: Chunk, result: Result) -> None:
        if outcome.error is None:
            result.created += outcome.operation != "update"
            result.updated += outcome.operation == "update"
            return
        record, line, _ = chunk.documents[outcome.index]
        error = _without_index(outcome.error, outcome.index)
        result.rejects.append(Reject(record=record, line=line, error=error))

    def _call(self, unit: Unit, operation: str) -> Call:
        decision = self._parts.authorizer.decide(unit.principal, self._resource, operation)
        if not decision.allowed:
            raise Forbidden(f"You have no right to {operation} {self._resource.name}.")
        return Call(
            resource=self._resource,
            operation=operation,
            principal=unit.principal,
            decision=decision,
            origin=unit.origin,
        )


def _without_index(error: ApiError, index: int) -> dict[str, Any]:
    """Return a refusal whose fields are those of the record, not of the batch."""
    found, prefix = told(error), f"{index}."
    for detail in found["details"]:
        name = detail["field"]
        detail["field"] = "" if name == str(index) else name.removeprefix(prefix)
    return found
