"""Staging: many validated rows of an import, written by one statement, refused one by one.

In: the columns of rows, each the text of an array, in the order of their file. Out: how many were written,
and of every other row its place and why. The rows are written at once as long as all of them are good;
when some are not, the database is asked which, for all of them together, and the rest is written. What
only trying can tell is found by halving. May raise only what is no row's fault: the server's, or a
right that is missing altogether.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from byodpp.conditions import NOTHING, Condition, Visibility
from byodpp.definitions import ResourceDefinition
from byodpp.events import emits
from byodpp.exceptions import ApiError, Detail, Forbidden, ValidationFailed
from byodpp.repository.acting import Acting
from byodpp.repository.constraint_errors import already_there, explained
from byodpp.repository.references import needs_look
from byodpp.repository.stores import Store
from byodpp.schemas.keys import REFERENCE
from byodpp.statements.intended import asks_of_its_own, foreseen
from byodpp.statements.staging import StagedRows, StagingStatements

__all__ = ["Refused", "Staging", "Written"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A row that was not written."""

    record: int  # counted from 1 in the file
    line: int  # where it begins
    error: ApiError


@dataclass(slots=True, kw_only=True)
class Written:
    """What became of some rows."""

    created: int = 0
    refused: list[Refused] = field(default_factory=list)
    rows: list[tuple[str, str | None]] = field(default_factory=list)  # id and JSON, where they are wanted


class Staging:
    """Writes rows of one resource, on one transaction, for one caller."""

    def __init__(
        self,
        store: Store,
        acting: Acting,
        resource: ResourceDefinition,
        rows: StagedRows,
        *,
        shown: bool,
    ) -> None:
        """Args:
        store: the application's.
        acting: transaction and caller.
        resource: of the rows.
        rows: what is to be written; the caller may write each of their fields on some row.
        shown: whether the written rows are wanted back.
        """
        self._store = store
        self._acting = acting
        self._resource = resource
        self._rows = rows
        self._shown = shown
        self._statements = StagingStatements(store.tables, store.statements, store.writes)
        self._named = {
            "records": "{" + ",".join(map(str, rows.records)) + "}",
            "lines": rows.lines,
            **{f"c_{resource.columns[name]}": text for name, text in rows.columns.items()},
        }
        self._error: ApiError = Forbidden()  # why the last try failed
        self._refused: dict[int, Refused] = {}

    async def write(self, *, wary: bool) -> Written:
        """Write the rows.

        Args:
            wary: rows before these had faults, so that asking first costs less than trying.
        """
        written = Written()
        # Refuses all of it where there is no right.
        permitted = self._acting.permitted(self._resource, "create", self._rows.sent)
        await self._store.refuse_full(self._acting, self._resource)
        await self._sift(self._rows.records, permitted, everything=wary)
        if not await self._inserted(self._left(), permitted, written):
            if not wary:
                await self._sift(self._left(), permitted, everything=True)
            left = self._left()
            if wary or not await self._inserted(left, permitted, written):
                await self._halve(left, permitted, written)
        written.refused = [self._refused[record] for record in sorted(self._refused)]
        return written

    def _left(self) -> Sequence[int]:
        """Return the records that nothing stands against so far."""
        return [record for record in self._rows.records if record not in self._refused]

    # --- trying -----------------------------------------------------------------------

    async def _inserted(self, records: Sequence[int], permitted: Condition | None, written: Written) -> bool:
        """Write rows, all or none; tell whether they are written."""
        if not records:
            return True
        store, acting, resource = self._store, self._acting, self._resource
        rule = permitted if self._asks_of_others(permitted) else None
        compiled = self._statements.insert(
            resource,
            acting.visibility(resource),
            permitted,
            event=emits(resource, "create"),
            shown=self._shown or rule is not None,
        )
        try:
            async with acting.transaction.savepoint(), store.guard(acting, resource):
                named = {**store.told(acting, resource, "create"), **self._meant(records)}
                record: Any = await acting.transaction.fetchrow(
                    compiled.sql, *store.arguments(compiled, acting, named)
                )
                if record["refused"]:
                    raise self._forbidden()
                if rule is not None and not await store.keys.all_fit(
                    acting, resource, record["ids"] or (), rule
                ):
                    raise self._forbidden()
        except ApiError as error:
            if _is_no_rows_fault(error):
                raise
            self._error = explained(store.tables, error, resource)
            return False
        written.created += record["created"]
        if self._shown:
            written.rows += zip(record["ids"] or (), record["data"] or (), strict=True)
        return True

    def _asks_of_others(self, permitted: Condition | None) -> bool:
        """Whether which rows the caller may have depends on others of the same table, of these as well."""
        registry = self._store.registry
        return permitted is not None and asks_of_its_own(registry, self._resource, permitted)

    async def _halve(self, records: Sequence[int], permitted: Condition | None, written: Written) -> None:
        """Write the good ones of rows that cannot be written together."""
        if len(records) == 1:
            line = self._lines()[self._rows.records.index(records[0])]
            self._refuse(records[0], line, self._error)
            return
        middle = len(records) // 2
        for part in (records[:middle], records[middle:]):
            if not await self._inserted(part, permitted, written):
                await self._halve(part, permitted, written)

    def _meant(self, records: Sequence[int]) -> dict[str, Any]:
        """Return the parameters that say which rows a statement is about."""
        low, high = records[0], records[-1]
        without = [record for record in self._refused if low <= record <= high]
        return {**self._named, "low": low, "high": high, "without": without}

    def _lines(self) -> list[int]:
        return [int(line) for line in self._rows.lines[1:-1].split(",")]

    def _refuse(self, record: int, line: int, error: ApiError) -> None:
        self._refused.setdefault(record, Refused(record=record, line=line, error=error))

    # --- asking -----------------------------------------------------------------------

    async def _sift(self, records: Sequence[int], permitted: Condition | None, *, everything: bool) -> None:
        """Refuse the rows whose references or unique keys are wrong, and those that the caller may not have.

        Args:
            records: the rows.
            permitted: which of them he may have; None is all.
            everything: False asks only what nothing else would find.
        """
        looks = [one for one in self._resource.fields if self._looked_at(one, everything=everything)]
        if not records or not (looks or everything):
            return
        try:
            async with self._acting.transaction.savepoint():
                meant = self._meant(records)
                unseen = [(name, place) for name in looks for place in await self._unseen(name, meant)]
                barred = await self._barred(permitted, meant) if everything else []
                keys = await self._wrong_keys(meant) if everything else []
        except ApiError as error:
            if _is_no_rows_fault(error):
                raise
            return  # some value is none of its column's: halving finds it
        faults: dict[tuple[int, int], list[Detail]] = {}
        for name, place in unseen:
            faults.setdefault(place, []).append(Detail(name, "reference", REFERENCE))
        for (record, line), details in faults.items():
            self._refuse(record, line, ValidationFailed(details=details))
        for record, line in barred:  # before it is told what is taken
            self._refuse(record, line, self._forbidden())
        self._refuse_keys(keys)

    def _forbidden(self) -> Forbidden:
        return Forbidden(f"You may not create such a row of {self._resource.name}.")

    def _looked_at(self, name: str, *, everything: bool) -> bool:
        references = self._resource.fields[name].references
        if references is None:
            return False
        target = self._store.registry.target(self._resource, references)
        return everything or needs_look(self._acting.lookup(target), target)

    async def _unseen(self, name: str, meant: Mapping[str, Any]) -> list[tuple[int, int]]:
        """Return the places of rows whose reference leads to nothing that the caller may read."""
        references = self._resource.fields[name].references
        assert references is not None
        target = self._store.registry.target(self._resource, references)
        visibility = self._acting.lookup(target) or Visibility(NOTHING, {})
        found = await self._asked(self._statements.unseen(self._resource, name, target, visibility), meant)
        return [(row["record"], row["line"]) for row in found]

    async def _barred(self, permitted: Condition | None, meant: Mapping[str, Any]) -> list[tuple[int, int]]:
        """Return the places of rows that the caller may not have, as far as that can be seen before."""
        if permitted is None:
            return []
        before = foreseen(self._resource, permitted)
        found = await self._asked(self._statements.barred(self._resource, before), meant)
        return [(row["record"], row["line"]) for row in found]

    async def _wrong_keys(self, meant: Mapping[str, Any]) -> list[_WrongKey]:
        """Return the rows whose unique key a stored row has, or another one of these."""
        found = []
        for fields in _unique_keys(self._resource):
            columns = [self._resource.columns[name] for name in fields]
            taken = await self._asked(self._statements.taken(self._resource, columns), meant)
            found += [_WrongKey(row["record"], row["line"], fields, None) for row in taken]
            again = await self._asked(self._statements.repeated(self._resource, columns), meant)
            found += [_WrongKey(row["record"], row["line"], fields, row["first"]) for row in again]
        return found

    def _refuse_keys(self, found: Sequence[_WrongKey]) -> None:
        """Refuse rows as they would have been one after the other: the first good one of a key is good."""
        for one in found:
            if one.group is None:
                self._refuse(one.record, one.line, already_there(self._resource, one.fields))
        groups: dict[tuple[int, int], list[tuple[tuple[str, ...], int]]] = {}
        for one in found:
            if one.group is not None:
                groups.setdefault((one.record, one.line), []).append((one.fields, one.group))
        seen: set[tuple[tuple[str, ...], int]] = set()
        for (record, line), own in sorted(groups.items()):
            if record in self._refused:
                continue
            known = next((group for group in own if group in seen), None)
            if known is None:
                seen.update(own)
            else:
                self._refuse(record, line, already_there(self._resource, known[0]))

    async def _asked(self, compiled: Any, meant: Mapping[str, Any]) -> list[Any]:
        arguments = self._store.arguments(compiled, self._acting, meant)
        return list(await self._acting.transaction.fetch(compiled.sql, *arguments))


@dataclass(frozen=True, slots=True)
class _WrongKey:
    """A row that has the unique key of another one."""

    record: int
    line: int
    fields: tuple[str, ...]
    group: int | None  # the first record with this key; None: a stored row has it


def _is_no_rows_fault(error: ApiError) -> bool:
    return error.status >= 500 or bool(getattr(error, "retryable", False))


def _unique_keys(resource: ResourceDefinition) -> list[tuple[str, ...]]:
    alone = [(name,) for name, one in resource.fields.items() if one.unique is not None]
    return [*alone, *(key.fields for key in resource.unique)]
