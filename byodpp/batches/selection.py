"""Batches by filter: a patch or a delete of every row that matches, up to a number.

In: a filter, the most rows that may match, and the patch. Out: the patched rows, or the keys of
the deleted ones, in the order of their keys. Each row is written as if it had been named:
row rules, audit, event and logic class hold for each. The filter may ask what the caller may
ask of a list. May reject: InvalidQuery (the filter), Conflict (more rows match; nothing is
changed), and what the operation rejects.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from byodpp.aside import by_size
from byodpp.audit.notes import About
from byodpp.batches.locking import leaves_keys
from byodpp.batches.reading import BatchItem, Selection
from byodpp.calls import Call
from byodpp.conditions import Query
from byodpp.exceptions import ApiError, Conflict, Detail
from byodpp.judged_calls import below
from byodpp.query.judge import judge
from byodpp.query.text import parse_json
from byodpp.rows import Page

if TYPE_CHECKING:
    from byodpp.batches.work import BatchWork

__all__ = ["Selecting"]


class Selecting:
    """One batch by filter."""

    def __init__(self, work: BatchWork, call: Call, operation: str, selection: Selection) -> None:
        """Args:
        work: writes the rows.
        call: of the batch.
        operation: patch or delete.
        selection: which rows.
        """
        self._work = work
        self._call = call
        self._operation = operation
        self._selection = selection

    async def run(self) -> list[Any]:
        """Write the rows, all or none."""
        self._work.item_call(self._call, self._operation)  # the right comes before the look
        if self._operation == "patch":
            await self._judge()
        repository = self._work.repository(self._call)
        query = self._query()
        found = await self._keys(query, noted=True)
        await repository.lock_all(found, leaves_keys=self._leaves_keys())
        # What others have changed since the look may match no more, now that it is locked.
        still = {str(key) for key in await self._keys(query)}
        results = []
        for index, key in enumerate(key for key in found if str(key) in still):
            results.append(await self._write(index, key))
        return results

    def _leaves_keys(self) -> bool:
        parts, resource, data = self._work.unit.parts, self._call.resource, self._selection.data
        known = self._operation == "patch" and not parts.schemas.needs_stored(resource, data)
        return leaves_keys(parts, resource, self._operation, data if known else None)

    async def _judge(self) -> None:
        """Refuse what no row could take, though none matches; each row has its own judgement besides."""
        parts, data = self._work.unit.parts, self._selection.data
        presets = parts.authorizer.presets(self._work.unit.principal)
        try:
            await by_size(partial(parts.schemas.judge_unseen, self._call.resource, data, presets), data)
        except ApiError as error:
            raise below(error, "data") from error

    def _query(self) -> Query:
        parts, call = self._work.unit.parts, self._call
        raw = parse_json({"filter": self._selection.filter, "fields": ["id"], "count": "none"})
        lookup = parts.authorizer.lookup(self._work.unit.principal, call.resource)
        query = judge(raw, call.resource, parts.registry, lookup, "list")
        return replace(query, shape=replace(query.shape, limit=self._selection.most + 1, answers=False))

    async def _keys(self, query: Query, *, noted: bool = False) -> list[Any]:
        page = await self._work.repository(self._call).page(query)
        if noted:
            await self._note(query, page)
        if len(page) > self._selection.most:
            told = f"More than {self._selection.most} rows match; nothing was changed."
            raise Conflict(told, details=[Detail("max", "too_many", told)])
        return [row["id"] for row in page]

    async def _note(self, query: Query, page: Page) -> None:
        """Note what was asked of controlled fields: what becomes of the rows tells it."""
        unit, resource = self._work.unit, self._call.resource
        if unit.trail.watches(resource, query.shape):
            about = About(operation="list", resource=resource)
            lookup = unit.parts.authorizer.lookup(unit.principal, resource)
            await unit.trail.read(unit.principal, unit.origin, about, query.shape, lookup, page)

    async def _write(self, index: int, key: Any) -> Any:
        data = self._selection.data
        values = None
        schemas, resource = self._work.unit.parts.schemas, self._call.resource
        if self._operation == "patch" and not schemas.needs_stored(resource, data):
            presets = self._work.unit.parts.authorizer.presets(self._work.unit.principal)
            values = await by_size(partial(schemas.load, resource, "patch", data, presets=presets), data)
        item = BatchItem(index=index, operation=self._operation, key=key, document=data, values=values)
        try:
            result = await self._work.item(self._call, item, chosen=True)
        except ApiError as error:
            raise below(error, "data") from error
        return {"id": key} if self._operation == "delete" else result
