"""Upserts: items that are updates of rows with the same unique key, or else creations.

In: items that a schema has judged as creations, and the fields of a unique key. Out: a row per
item. An item is what it turns out to be, create or update, with that operation's right, schema
and logic class; an update replaces the row, as PUT does. When another request makes or takes
away such a row at the same moment, the items are looked at again. May reject: what create and
update reject; UniqueConflict (a row that the caller may not read, or whose key he may not),
Conflict (one key twice).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from byodpp.batches.reading import BatchItem
from byodpp.calls import Call
from byodpp.exceptions import ApiError, Conflict, Detail, NotFound, UniqueConflict
from byodpp.judged_calls import at_index
from byodpp.repository.stores import Match

if TYPE_CHECKING:
    from byodpp.batches.work import BatchWork

__all__ = ["Upserts"]

#: Times that items are looked at when others write the same rows meanwhile.
_ROUNDS: Final = 5


class Upserts:
    """The upserts of one batch."""

    def __init__(self, work: BatchWork, call: Call, on: tuple[str, ...]) -> None:
        """Args:
        work: runs what an item turns out to be.
        call: of the batch.
        on: fields of the unique key.
        """
        self._work = work
        self._call = call
        self._on = on
        self._unit = work.unit

    async def all(self, items: Sequence[BatchItem]) -> list[Any]:
        """Upsert items, all or none; return their rows in order."""
        results: dict[int, Any] = {}
        for item in items:
            if item.operation != "upsert":
                results[item.index] = await self._work.placed(self._call, item)
        waiting = [item for item in items if item.operation == "upsert"]
        for _ in range(_ROUNDS):
            waiting = await self._round(waiting, results)
            if not waiting:
                return [results[item.index] for item in items]
        raise Conflict("Other requests write the same rows at the same time; try again.")

    async def one(self, item: BatchItem) -> tuple[str, Any]:
        """Upsert one item; return what it was, `create` or `update`, and its row."""
        results: dict[int, Any] = {}
        for _ in range(_ROUNDS):
            [match] = await self._matches([item])
            if not await self._round([item], results, [match]):
                return "create" if match.key is None else "update", results[item.index]
        raise Conflict("Other requests write the same row at the same time; try again.")

    async def _round(
        self, items: Sequence[BatchItem], results: dict[int, Any], matches: Sequence[Match] | None = None
    ) -> list[BatchItem]:
        """Write what can be written; return the items that must be looked at again."""
        if not items:
            return []
        matches = matches or await self._matches(items)
        self._refuse_repeats(items, matches)
        again, new = [], []
        for item, match in zip(items, matches, strict=True):
            if match.key is None:
                new.append(item)
            elif not await self._update(item, match, results):
                again.append(item)
        if new and not await self._create(new, results):
            again.extend(new)
        return again

    async def _matches(self, items: Sequence[BatchItem]) -> Sequence[Match]:
        values = [item.values.values for item in items]
        return await self._work.repository(self._call).matches(self._on, values)

    async def _update(self, item: BatchItem, match: Match, results: dict[int, Any]) -> bool:
        """Replace the row that is there; False when it is gone."""
        if not match.visible:
            self._work.item_call(self._call, "create")  # whoever may create would be told, nobody else
            raise at_index(self._taken(), item.index)
        schemas = self._unit.parts.schemas
        found = replace(item, operation="update", key=match.key)
        try:
            loaded = schemas.load(self._call.resource, "update", item.document)
            results[item.index] = await self._work.item(self._call, replace(found, values=loaded))
        except NotFound:
            [now] = await self._matches([item])
            if now.key == match.key:
                raise
            return False
        except ApiError as error:
            raise at_index(error, item.index) from error
        return True

    async def _create(self, items: Sequence[BatchItem], results: dict[int, Any]) -> bool:
        """Create rows; False when another request has just made one of them."""
        creations = [replace(item, operation="create") for item in items]
        position = self._unit.outbox.mark()
        try:
            async with self._unit.transaction.savepoint():
                rows = await self._work.create(self._call, creations)
        except UniqueConflict as error:
            self._unit.outbox.rewind(position)
            if not self._is_about_key(error):
                raise
            return False
        results.update((item.index, row) for item, row in zip(items, rows, strict=True))
        return True

    def _is_about_key(self, error: UniqueConflict) -> bool:
        use = self._unit.parts.store.tables.constraint(error.constraint)
        return use is not None and set(use.fields_of(self._call.resource)) == set(self._on)

    def _refuse_repeats(self, items: Sequence[BatchItem], matches: Sequence[Match]) -> None:
        told = "This row occurs twice in the batch."
        twice = [
            Detail(f"{item.index}.{self._on[0]}", "duplicate", told)
            for place, (item, match) in enumerate(zip(items, matches, strict=True))
            if match.first != place
        ]
        if twice:
            raise Conflict("A row occurs twice in the batch.", details=twice[:100])

    def _taken(self) -> UniqueConflict:
        told = " and ".join(self._on)
        details = [Detail(name, "unique", f"This {told} exists already.") for name in self._on]
        return UniqueConflict(f"{self._call.resource.name} with this {told} exists already.", details=details)
