"""Running a batch inside a unit of work: its items one by one, or many with one statement.

In: a call whose body is a Batch. Out: rows in the items' order, or an ItemOutcome per item.
Rejects what the items reject, under the index of the item that is to blame.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from byodpp.aside import by_size, others
from byodpp.audit.notes import About
from byodpp.batches.locking import Named, named_inside
from byodpp.batches.reading import Batch, BatchItem
from byodpp.batches.rows_first import require_row, row_first
from byodpp.batches.selection import Selecting
from byodpp.batches.upserts import Upserts
from byodpp.calls import Call
from byodpp.database import NeedsTransaction
from byodpp.definitions import Kind
from byodpp.exceptions import ApiError, Conflict, Forbidden, NotFound
from byodpp.judged_calls import at_index, versioned, writing
from byodpp.logics import Reply
from byodpp.repository import Repository
from byodpp.repository.acting import refuse_fields

if TYPE_CHECKING:
    from byodpp.service.units import Unit

__all__ = ["BatchWork", "ItemOutcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutcome:
    """What became of one item of a batch that is not atomic."""

    index: int
    data: Any = None  # a Row, or what a logic class returned; None for a delete
    operation: str | None = None  # of an upsert: whether it was a `create` or an `update`
    error: ApiError | None = None


class BatchWork:
    """Runs batches for one unit."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self._parts = unit.parts

    async def run(self, call: Call, batch: Batch) -> Sequence[Any]:
        """Return the results in the order of the items: rows, or ItemOutcomes where it is not atomic."""
        if batch.selection is not None:
            return await Selecting(self, call, batch.operation, batch.selection).run()
        if batch.on:
            upserts = Upserts(self, call, batch.on)
            return await (upserts.all(batch.items) if batch.atomic else upserts.each(batch.items))
        if batch.operation == "create" and batch.atomic:
            return await self.create(call, batch.items)
        await self.unit.lock_named(self._named(call, batch))
        if not batch.atomic:
            return [await self.alone(call, item) for item in batch.items]
        return [await self.placed(call, item) for item in batch.items]

    def _named(self, call: Call, batch: Batch) -> Iterator[Named]:
        resource, schemas = call.resource, self._parts.schemas
        for item in batch.items:
            if item.key is not None and item.fault is None:
                document = item.document if isinstance(item.document, Mapping) else None
                known = document is not None and not schemas.needs_stored(resource, document)
                yield resource, item.operation, item.key, document if known else None
                yield from named_inside(schemas, resource, item.operation, item.document)

    async def upserted(self, call: Call, batch: Batch) -> list[str]:
        """Upsert all items or none; return whether each was a `create` or an `update`."""
        return await Upserts(self, call, batch.on).kinds(batch.items)

    async def create(self, call: Call, items: Sequence[BatchItem]) -> Sequence[Any]:
        """Create rows, at once where no logic class has a word in it."""
        alone = self._parts.logics.get(call.resource, "create") is not None
        if not alone and not any(item.values.nested for item in items):
            return await self.create_all(call, items)
        return [await self.placed(call, item) for item in items]

    async def create_all(self, call: Call, items: Sequence[BatchItem]) -> Sequence[Any]:
        """Insert all with one statement; when that fails, find the item that is to blame."""
        creating = self.item_call(call, "create")
        repository = self.repository(creating)
        if creating.decision.fields is not None:
            for item in items:
                refuse_fields(creating.decision, item.values.sent, str(item.index))
        position = self.unit.outbox.mark()
        transaction = self.unit.transaction
        try:
            async with transaction.savepoint() if transaction.sets_context else nullcontext():
                values = [item.values.values for item in items]
                sent = frozenset[str]().union(*(item.values.sent for item in items))
                return await repository.insert_many(values, sent=sent, joined=True)
        except ApiError as error:
            self.unit.outbox.rewind(position)
            if error.retryable or error.status >= 500:
                raise
            if not transaction.sets_context:
                raise NeedsTransaction from error
            if len(items) == 1:
                raise at_index(error, items[0].index) from error
            if error.details and error.details[0].field[:1].isdigit():
                raise _at_items(error, items) from error
        results = []
        for item in items:
            try:
                results.append(await repository.insert(item.values.values, sent=item.values.sent))
            except ApiError as error:
                raise at_index(error, item.index) from error
        return results

    async def placed(self, call: Call, item: BatchItem) -> Any:
        """Run one item; an error tells its place."""
        try:
            return await self.item(call, item)
        except ApiError as error:
            raise at_index(error, item.index) from error

    async def lock(self, call: Call, operation: str, keys: Iterable[Any]) -> None:
        """Lock the rows of several items at once, in the order of their keys.

        Two batches with the same rows then wait for each other, and never in a circle.

        Args:
            call: of the batch.
            operation: on each row; without the right to it, nothing is locked.
            keys: None where an item has none.
        """
        found = [key for key in keys if key is not None]
        if len(found) < 2 or call.resource.kind is not Kind.DATABASE:
            return
        if self._parts.authorizer.decide(self.unit.principal, call.resource, operation).allowed:
            await self.repository(call).lock_all(found)

    async def alone(
        self,
        call: Call,
        item: BatchItem,
        upsert: Callable[[BatchItem], Awaitable[tuple[str, Any]]] | None = None,
    ) -> ItemOutcome:
        """Run one item so that its failure is its own.

        Args:
            call: of the batch.
            item: what is to be done.
            upsert: does it, where the item has to be found by its unique key.
        """
        position = self.unit.outbox.mark()
        try:
            if item.fault is not None:
                await self._look(call, item)
                return ItemOutcome(index=item.index, error=item.fault)
            async with self.unit.transaction.savepoint():
                if upsert is not None:
                    operation, row = await upsert(item)
                    return ItemOutcome(index=item.index, data=row, operation=operation)
                return ItemOutcome(index=item.index, data=await self.item(call, item))
        except ApiError as error:
            if error.retryable or error.status >= 500:
                raise
            self.unit.outbox.rewind(position)
            if upsert is None and error.details:
                at_index(error, item.index)
            if isinstance(error, Forbidden | NotFound):
                key = None if item.key is None else str(item.key)
                operation, resource, key = error.about or (item.operation, call.resource, key)
                about = About(operation=operation, resource=resource, key=key)
                self._parts.trail.refused(error, self.unit.principal, self.unit.origin, about)
            return ItemOutcome(index=item.index, error=error)

    async def item(self, call: Call, item: BatchItem, *, chosen: bool = False) -> Any:
        """Run one item through its logic class, or the generic operation.

        Args:
            call: of the batch.
            item: what is to be done.
            chosen: by a filter; what is wrong with the body concerns all of the rows then, and comes first.
        """
        single = self._naming(call, item)
        if chosen:
            return await self._item(single, item)
        async with row_first(self.unit, single, item.document):
            return await self._item(single, item)

    async def _item(self, call: Call, item: BatchItem) -> Any:
        single, loaded, schemas = call, item.values, self._parts.schemas
        if item.operation == "patch" and schemas.needs_stored(call.resource, item.document):
            stored = await self.unit.locked(single, item.document)
            presets = self._parts.authorizer.presets(self.unit.principal)
            load = partial(
                schemas.load, call.resource, "patch", item.document, stored=stored, presets=presets
            )
            loaded = await by_size(load, item.document, stored)
        if loaded is not None:
            single = writing(single, loaded)
        result = Reply.among_others(await self.unit.execute(versioned(single)))
        return self.unit.answer.count(result, call.resource)

    async def look(self, call: Call, items: Sequence[BatchItem]) -> None:
        """Refuse items for the rows that they name, in their order, whatever else is wrong with them.

        Raises:
            Forbidden: the caller may do this to no row, or not to this one.
            NotFound: there is none that he may read.
        """
        for place, item in enumerate(items):
            await others(place)
            try:
                await self._look(call, item)
            except ApiError as error:
                raise at_index(error, item.index) from error

    async def _look(self, call: Call, item: BatchItem) -> None:
        """Do so with one; which row an upsert means, nobody can tell while its body is not valid."""
        if item.operation != "upsert" and not isinstance(item.fault, Conflict):
            await require_row(self.unit, self._naming(call, item), item.document)

    def _naming(self, call: Call, item: BatchItem) -> Call:
        """Return the call of one item, which names its row and no more of it."""
        params = {} if item.key is None else {"id": str(item.key)}
        return self.item_call(call, item.operation).having(params=params, expected_version=item.version)

    def repository(self, call: Call) -> Repository:
        """Return the rows of the call's resource, as its caller sees them."""
        return self.unit.repositories(call.resource.version, call=call)[call.resource.name]

    def item_call(self, call: Call, operation: str) -> Call:
        """Return the call of one item: the right to a batch is not the right to what it repeats."""
        decision = self.unit.decided(call.resource, operation)
        return call.having(
            operation=operation, decision=decision, body=None, params={}, action=None, nested=()
        )


def _at_items(error: ApiError, items: Sequence[BatchItem]) -> ApiError:
    """Return an error whose details name places in `items` with the places in the body instead."""
    places = [(one, *one.field.partition(".")) for one in error.details]
    error.details = tuple(
        replace(one, field=f"{items[int(place)].index}{dot}{rest}") for one, place, dot, rest in places
    )
    return error
