"""Upserts: items that are updates of rows with the same unique key, or else creations.

In: items that a schema has judged as creations, and the fields of a unique key. Out: a row per
item. An item is what it turns out to be, create or update, with that operation's right, schema
and logic class; an update replaces the row, as PUT does. When another request makes or takes
away such a row at the same moment, the items are looked at again. May reject: what create and
update reject; UniqueConflict (a row that the caller may not read, or whose key he may not),
Conflict (one key twice), PreconditionFailed (a version is named, and the row has another or is not there).

Two requests with the same keys wait for each other, and never in a circle: rows that are missing
come first, in the order of their keys, then those that are there, locked in the order of their
ids as every batch locks them. A request that has to look again lets go of everything before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from byodpp.aside import by_size, others
from byodpp.batches.reading import BatchItem, scoped_keys
from byodpp.calls import Call
from byodpp.exceptions import ApiError, Conflict, Detail, NotFound, PreconditionFailed, UniqueConflict
from byodpp.judged_calls import at_index, writing
from byodpp.repository.stored_keys import Match
from byodpp.schemas import LoadedBody

if TYPE_CHECKING:
    from byodpp.batches.work import BatchWork, ItemOutcome

__all__ = ["Upserts"]

#: Times that items are looked at in vain when others write the same rows meanwhile.
_ROUNDS: Final = 5
#: Times that a key which counts beyond the scope may be found taken, before it is told so.
_TRIES_ELSEWHERE: Final = 3


class _Overtaken(Exception):
    """Another request has just made or taken away a row: look again."""


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
        self._scoped = scoped_keys(call.resource)
        self._refused = 0  # times that a key was found taken where no row could be found
        self._missing = 0  # items for which the last look found no row
        self._unit = work.unit

    async def all(self, items: Sequence[BatchItem]) -> list[Any]:
        """Upsert items, all or none; return their rows in order."""
        results, _ = await self._all(items)
        return [results[item.index] for item in items]

    async def kinds(self, items: Sequence[BatchItem]) -> list[str]:
        """Upsert items, all or none; return whether each was a `create` or an `update`, in order."""
        _, made = await self._all(items)
        return ["create" if item.index in made else "update" for item in items]

    async def _all(self, items: Sequence[BatchItem]) -> tuple[dict[int, Any], frozenset[int]]:
        """Upsert items, all or none; return their rows by index, and which of them were made."""
        in_vain, fewest = 0, len(items)
        while in_vain < _ROUNDS:
            position, counted = self._unit.outbox.mark(), self._unit.answer.mark()
            try:
                async with self._unit.transaction.savepoint():
                    return await self._round(items)
            except _Overtaken as overtaken:
                self._unit.outbox.rewind(position)
                self._unit.answer.rewind(counted)
                # Others may make the missing rows one by one: a look that finds more of them is not in vain.
                if self._missing >= fewest:
                    in_vain += 1
                    self._refuse_elsewhere(overtaken)
                fewest = min(fewest, self._missing)
        raise Conflict("Other requests write the same rows at the same time; try again.")

    def _refuse_elsewhere(self, overtaken: _Overtaken) -> None:
        """Count how often a row was made meanwhile whose key counts beyond the scope.

        Raises:
            UniqueConflict: it can only be a row that nobody here may find, another tenant's or a deleted
                one. The answer is that of any creation.
        """
        if isinstance(overtaken.__cause__, UniqueConflict) and self._on not in self._scoped:
            self._refused += 1
            if self._refused >= _TRIES_ELSEWHERE:
                raise overtaken.__cause__

    async def each(self, items: Sequence[BatchItem]) -> list[ItemOutcome]:
        """Upsert items one by one, each on its own; return what became of them, in order."""
        sought = self._in_order([item for item in items if item.fault is None and item.operation == "upsert"])
        matches = await self._matches(sought)
        outcomes: dict[int, ItemOutcome] = {}
        for place, (item, match) in enumerate(zip(sought, matches, strict=True)):
            self._refused = 0
            if match.key is None and match.first == place and (made := await self._tried(item, match)):
                outcomes[item.index] = made  # else it has been made meanwhile, and its turn comes later
        rest = [item for item in items if item.index not in outcomes]
        by_key = {item.index for item in sought}
        again = [item for item in rest if item.index in by_key]
        matches = await self._matches(again)
        await self._work.lock(self._call, "update", _keys(rest, matches))
        found = {item.index: match for item, match in zip(again, matches, strict=True)}
        for item in rest:
            match_now = found.get(item.index)
            outcomes[item.index] = (
                await self._work.alone(self._call, item)
                if match_now is None
                else await self._alone(item, match_now)
            )
        return [outcomes[item.index] for item in items]

    async def _alone(self, item: BatchItem, match: Match) -> ItemOutcome:
        """Upsert one item; whatever refuses it is its own."""
        self._refused = 0
        for _ in range(_ROUNDS):
            if (outcome := await self._tried(item, match)) is not None:
                return outcome
            [match] = await self._matches([item])
        return await self._work.alone(self._call, item, self._given_up)

    async def _tried(self, item: BatchItem, match: Match) -> ItemOutcome | None:
        """Upsert one item as what it was found to be; None when another request was faster."""
        position, counted = self._unit.outbox.mark(), self._unit.answer.mark()
        try:
            return await self._work.alone(self._call, item, partial(self._one, match))
        except _Overtaken as overtaken:
            self._unit.outbox.rewind(position)
            self._unit.answer.rewind(counted)
            try:
                self._refuse_elsewhere(overtaken)
            except UniqueConflict as error:
                return await self._work.alone(self._call, item, partial(self._raised, error))
            return None

    async def _one(self, match: Match, item: BatchItem) -> tuple[str, Any]:
        """Write one item; return what it was, `create` or `update`, and its row."""
        if match.key is None:
            return "create", (await self._create([item]))[item.index]
        return "update", await self._update(item, match)

    async def _raised(self, error: ApiError, item: BatchItem) -> tuple[str, Any]:
        raise error

    async def _given_up(self, item: BatchItem) -> tuple[str, Any]:
        raise Conflict("Other requests write the same row at the same time; try again.")

    async def _round(self, items: Sequence[BatchItem]) -> tuple[dict[int, Any], frozenset[int]]:
        """Write all items; return their rows by index, and which of them were made.

        Raises:
            _Overtaken: another request was faster; what was done must be undone.
        """
        sought = self._in_order([item for item in items if item.operation == "upsert"])
        matches = await self._matches(sought)
        self._refuse_repeats(sought, matches)
        found = {item.index: match for item, match in zip(sought, matches, strict=True)}
        missing = [item for item in sought if found[item.index].key is None]
        self._missing = len(missing)
        # What the caller may not read is tried like what is not there, at its place among these.
        there = [item for item in sought if found[item.index].key is not None]
        hidden = {item.index for item in there if not found[item.index].visible}
        new = [item for item in sought if found[item.index].key is None or item.index in hidden]
        results = await self._create(new, hidden) if new else {}
        made = frozenset(results)
        known = [item for item in items if item.index not in results]
        await self._work.lock(self._call, "update", _keys(known, matches))
        if len(results) < len(sought):
            await self._look_again([item for item in sought if item.index not in results], found)
        results |= await self._update_together(known, found)
        for item in known:
            if item.index in results:
                continue
            if item.operation == "upsert":
                results[item.index] = await self._update(item, found[item.index])
            else:
                results[item.index] = await self._work.placed(self._call, item)
        return results, made

    def _in_order(self, items: Sequence[BatchItem]) -> list[BatchItem]:
        """Return items by the values of their key, as every request sorts them."""
        return sorted(items, key=lambda item: [str(item.values.values[name]) for name in self._on])

    async def _matches(self, items: Sequence[BatchItem]) -> Sequence[Match]:
        values = [item.values.values for item in items]
        return await self._work.repository(self._call).matches(self._on, values) if items else []

    async def _look_again(self, items: Sequence[BatchItem], found: dict[int, Match]) -> None:
        """See that rows, now that they are locked, still have the keys by which they were found."""
        for item, match in zip(items, await self._matches(items), strict=True):
            if match.key != found[item.index].key:
                raise _Overtaken
            found[item.index] = match

    async def _update_together(
        self, known: Sequence[BatchItem], found: Mapping[int, Match]
    ) -> dict[int, Any]:
        """Replace rows by one statement; none where one of them needs a look of its own, or is refused.

        A row that another item names by its `id` needs one: of two items the later one has the last word.
        """
        resource, unit = self._call.resource, self._unit
        named = {str(unit.parts.store.key(resource, item.key)) for item in known if item.key is not None}
        items = [item for item in known if item.operation == "upsert"]
        if (
            len(items) < 2
            or resource.part is not None
            or resource.version_required
            or any(item.version is not None for item in items)
            or unit.parts.logics.get(resource, "update") is not None
            or not all(found[item.index].visible for item in items)
            or any(str(found[item.index].key) in named for item in items)
        ):
            return {}
        position = unit.outbox.mark()
        try:
            async with unit.transaction.savepoint():
                call = self._work.item_call(self._call, "update")
                judged = [await self._judged(place, item, call) for place, item in enumerate(items)]
                first = judged[0]
                if not all(_alike(one, first) for one in judged):
                    return {}
                keys = [found[item.index].key for item in items]
                repository = self._work.repository(call)
                rows = await repository.replace_many(keys, [one.body for one in judged], sent=first.sent)
        except ApiError as error:
            unit.outbox.rewind(position)
            if error.retryable or error.status >= 500:
                raise
            return {}  # one by one they tell which it is
        return {item.index: self._unit.show(call, row) for item, row in zip(items, rows, strict=True)}

    async def _judged(self, place: int, item: BatchItem, call: Call) -> Call:
        """Return the update of one of many items as far as its caller may write it."""
        await others(place)
        return writing(call, await self._loaded(item))

    async def _loaded(self, item: BatchItem) -> LoadedBody:
        """Let the schema judge an item as the update that it is."""
        presets = self._unit.parts.authorizer.presets(self._unit.principal)
        schemas, resource = self._unit.parts.schemas, self._call.resource
        return await by_size(
            partial(schemas.load, resource, "update", item.document, presets=presets), item.document
        )

    async def _update(self, item: BatchItem, match: Match) -> Any:
        """Replace the row that is there."""
        if not match.visible:
            return await self._create_beside(item)
        found = replace(item, operation="update", key=match.key)
        try:
            return await self._work.item(self._call, replace(found, values=await self._loaded(item)))
        except NotFound as error:
            [now] = await self._matches([item])
            if now.key == match.key:
                raise at_index(error, item.index) from error
            raise _Overtaken from error
        except ApiError as error:
            raise at_index(error, item.index) from error

    async def _create_beside(self, item: BatchItem) -> Any:
        """Create a row in spite of one that the caller may not read: he is told what any creation is told.

        Raises:
            UniqueConflict: it is there. Who may not have the new one is refused for that, and learns nothing.
            PreconditionFailed: the item names a version, which no row has that he could know of.
        """
        try:
            async with self._unit.transaction.savepoint():
                return (await self._create([item]))[item.index]
        except _Overtaken as error:
            raise at_index(self._taken(), item.index) from error

    async def _create(self, items: Sequence[BatchItem], hidden: Set[int] = frozenset()) -> dict[int, Any]:
        """Create rows; return them by the index of their items.

        Args:
            items: what of.
            hidden: indexes of items for which a row was found that the caller may not read.

        Raises:
            UniqueConflict: that row is still there.
            PreconditionFailed: an item names the version of a row that is not there.
        """
        for item in items:
            if item.version is not None:
                told = "There is no such row, and so none of this version. Leave `version` out to create it."
                raise at_index(PreconditionFailed(told), item.index)
        try:
            rows = await self._work.create(self._call, [replace(item, operation="create") for item in items])
        except UniqueConflict as error:
            if not self._is_about_key(error):
                raise
            place = error.details[0].field.partition(".")[0] if error.details else ""
            if place.isdecimal() and int(place) in hidden:
                raise at_index(self._taken(), int(place)) from error
            raise _Overtaken from error
        return {item.index: row for item, row in zip(items, rows, strict=True)}

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


def _alike(call: Call, first: Call) -> bool:
    """Whether an update can be part of one statement with another: same fields, nothing to compare."""
    alone = call.read_only or call.nested
    return not alone and call.sent == first.sent and call.body.keys() == first.body.keys()


def _keys(items: Sequence[BatchItem], matches: Sequence[Match]) -> list[Any]:
    return [*(item.key for item in items), *(match.key for match in matches)]
