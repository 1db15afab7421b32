"""The repository: the rows of one resource, on one transaction, as one caller may see and write them.

A `Store` lives as long as the application; a repository belongs to one unit of work and is found by its
resource's name (`by_name`). It never commits. Its methods raise NotFound,
Forbidden, ValidationFailed, Conflict and PreconditionFailed as the contract words them; what the
driver raises was turned into such answers by `database` and gets its field names here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from byodpp.aside import by_size, others
from byodpp.conditions import Condition, Query, Shape, all_of
from byodpp.definitions import Kind, Scope
from byodpp.events import Event, past_tense
from byodpp.exceptions import (
    ApiError,
    Conflict,
    Forbidden,
    NotFound,
    ReferencedConflict,
    StateConflict,
    ValidationFailed,
)
from byodpp.repository.inserting import bringing_alike, insert_rows
from byodpp.repository.lone_rows import shown, told_of
from byodpp.repository.outcomes import difference, refusal
from byodpp.repository.own_record import decides, refuse_standing, registered, without_whose
from byodpp.repository.reading import Reading
from byodpp.repository.references import check_references, refuse_referenced
from byodpp.rows import Row, Rows, opened
from byodpp.schemas.modifiers import Modifier, ModifierKind, readable
from byodpp.statements.writes import Change

__all__ = ["Repository"]

#: Looks at a row that others delete softly and bring back meanwhile.
_LOOKS: Final = 3


class Repository(Reading):
    """One resource's rows. `id` arguments take the key as a value or as its text."""

    # --- writing, checked -------------------------------------------------------------

    async def create(self, data: Mapping[str, Any]) -> Row:
        """Create a row; read-only fields may be given, defaults are filled in.

        Raises:
            ValidationFailed: the data are not valid.
            UniqueConflict: such a row exists.
        """
        values = await self._valid("create", data)
        return await opened(await self.insert(values, sent=self._own_words(data)))

    async def batch(self, items: Sequence[Mapping[str, Any]]) -> Sequence[Row]:
        """Create many rows with one statement; all or none."""
        sent = frozenset[str]().union(*(self._own_words(item) for item in items))
        values = [await self._valid("create", item) for item in items]
        return await opened(await self.insert_many(values, sent=sent))

    async def update(self, id: Any, data: Mapping[str, Any], *, version: int | None = None) -> Row:
        """Replace a row's writable fields; absent ones take their default or null."""
        values = await self._valid("update", data)
        sent = self._own_words(data)
        changed = self.change(id, values, operation="update", expected_version=version, sent=sent)
        return await opened(await changed)

    async def patch(self, id: Any, data: Mapping[str, Any], *, version: int | None = None) -> Row:
        """Change the given fields of a row, read-only ones too."""
        values = await self._valid("patch", data)
        changed = self.change(id, values, expected_version=version, sent=self._own_words(data))
        return await opened(await changed)

    async def delete(self, id: Any, *, version: int | None = None) -> None:
        """Delete a row.

        Raises:
            NotFound: there is none that the caller may read.
            Forbidden: the caller may read it but not delete it.
            ReferencedConflict: other rows refer to it.
        """
        await self.remove(id, expected_version=version)

    async def _valid(self, operation: str, data: Mapping[str, Any]) -> dict[str, Any]:
        load = partial(self._store.schemas.load_python, self.resource, operation, data)
        return without_whose(self.resource, await by_size(load, *data.values()), self._acting)

    def _own_words(self, data: Mapping[str, Any]) -> frozenset[str]:
        """Return the fields that field rules are about: a read-only one is the logic class's to write."""
        known = self.resource.fields
        return frozenset(name for name in data if name in known and not known[name].read_only)

    # --- writing, already validated ---------------------------------------------------

    async def insert(self, values: Mapping[str, Any], *, sent: frozenset[str] = frozenset()) -> Row:
        """Create a row from validated values."""
        return (await self.insert_many([values], sent=sent))[0]

    async def insert_many(
        self, items: Sequence[Mapping[str, Any]], *, sent: frozenset[str] = frozenset(), joined: bool = False
    ) -> Sequence[Row]:
        """Create rows from validated values, with one statement; all or none.

        Args:
            items: values by field.
            sent: fields that the caller asked for and must have the right to write.
            joined: the rows are wanted for an answer, and may come in one piece.

        Raises:
            ValidationFailed: a reference leads to nothing that the caller may read.
            UniqueConflict: such a row exists; the details name the item when there are several.
            Forbidden: the caller may not have such a row.
        """
        self._refuse_without_rows()
        self._refuse_foreign_scope()
        if not items:
            return []
        prepared = self._prepared(items)
        await check_references(self._store, self._acting, self.resource, prepared)
        permitted = self._permitted("create", sent)
        if permitted is not None:
            self._acting.transaction.needs_more()
        seen = self._acting.visibility(self.resource)
        if joined and permitted is None and seen.rows is None and self._is_joinable(prepared):
            [record] = await self._store.insert(
                self._acting, self.resource, prepared, permitted, seen, joined=True
            )
            return Rows(record["data"].encode(), self.resource, self._store.registry, len(items))
        records = await insert_rows(self._store, self._acting, self.resource, prepared, permitted, seen)
        if len(records) < len(items) or not all(record["permitted"] for record in records):
            raise self._undo(Forbidden(f"You may not create such a row of {self.resource.name}."))
        await self._judge_among([record["id"] for record in records], permitted)
        rows = await self._all_shown(records)
        self._remember_events("create", rows, records)
        return rows

    async def replace(
        self,
        id: Any,
        values: Mapping[str, Any],
        read_only: Mapping[str, Any],
        *,
        expected_version: int | None = None,
        sent: frozenset[str] = frozenset(),
    ) -> Row:
        """Replace a row by validated values; read-only fields must equal what is stored."""
        return await self.change(
            id, values, operation="update", read_only=read_only, expected_version=expected_version, sent=sent
        )

    async def replace_many(
        self, ids: Sequence[Any], items: Sequence[Mapping[str, Any]], *, sent: frozenset[str] = frozenset()
    ) -> Sequence[Row]:
        """Replace rows by validated values, with one statement; all or none.

        Args:
            ids: of the rows, each once.
            items: values by field, the same fields in each, in the order of the ids.
            sent: fields that the caller asked for and must have the right to write on every row.

        Raises:
            Conflict: one of them is not there, or may not be changed, or not like this: ask one by one.
        """
        self._refuse_without_rows()
        self._refuse_foreign_scope()
        await check_references(self._store, self._acting, self.resource, items)
        columns = tuple(sorted(self.resource.columns[name] for name in items[0]))
        change = self._shape("update", "update", columns, None, sent=sent)
        found = await self._store.change_many(
            self._acting, self.resource, change, ids, items, operation="update"
        )
        records = {str(record["id"]): record for record in found}
        if len(records) != len(ids) or not all(record["permitted"] for record in found):
            raise self._undo(Conflict("Not all of these rows may be changed like this."))
        await self._judge_among(ids, change.permitted)
        ordered = [records[str(id)] for id in ids]
        rows = await self._all_shown(ordered)
        self._remember_events("update", rows, ordered)
        return rows

    async def change(
        self,
        id: Any,
        values: Mapping[str, Any],
        *,
        operation: str = "patch",
        read_only: Mapping[str, Any] | None = None,
        expected_version: int | None = None,
        sent: frozenset[str] = frozenset(),
    ) -> Row:
        """Change a row by validated values.

        Args:
            id: of the row.
            values: by field; a Modifier changes what is there.
            operation: whose right is needed: `patch` or `update`.
            read_only: values that the row must have already.
            expected_version: that the row must have; None is any.
            sent: fields that the caller asked for and must have the right to write.

        Raises:
            NotFound: there is none that the caller may read.
            Forbidden: the caller may read it but not change it, or not make it so.
            PreconditionFailed: it has another version than the expected one.
            Conflict: a modified value would be none of its field's.
        """
        self._refuse_without_rows()
        self._refuse_foreign_scope()
        if not decides(self.resource, self._acting):
            refuse_standing(values, await self.row(id))
        try:
            self._permitted(operation, sent)
            standing = partial(self._standing, id, values)
            await check_references(self._store, self._acting, self.resource, [values], standing=standing)
        except (ValidationFailed, Forbidden):
            await self.row(id)  # a row that cannot be seen is not there, whatever was sent
            raise
        modifiers = {name: one for name, one in values.items() if isinstance(one, Modifier)}
        columns = tuple(sorted(self.resource.columns[name] for name in values if name not in modifiers))
        change = self._shape(
            "update", operation, columns, expected_version, before=bool(read_only), sent=sent,
            modifiers=tuple(sorted((name, one.kind) for name, one in modifiers.items())),
        )  # fmt: skip
        record = await self._changed(
            change, id, values=values, expected_version=expected_version, operation=operation
        )
        self._judge_outcome(record, operation, expected_version)
        await self._judge_among([id], change.permitted)
        if read_only:
            before = await self._store.sealed.row(record["before"].encode(), self.resource)
            stored = Row(before, self.resource, self._store.registry)
            if (refused := difference(self.resource, read_only, stored)) is not None:
                await self._note_compared(id, read_only)
                raise self._undo(refused)
        row = await self._shown(record, id)
        self._remember_events(operation, [row], [record])
        return row

    async def remove(self, id: Any, *, expected_version: int | None = None) -> None:
        """Delete a row, or mark it deleted where the resource is deleted softly.

        Rows that go with it, or lose their reference to it, come first where somebody follows them.
        """
        self._refuse_without_rows()
        self._refuse_foreign_scope()
        acting, resource = self._acting, self.resource
        cascades = None if resource.soft_delete else acting.cascades
        if cascades is None or not cascades.concern(resource):
            return await self._remove(id, expected_version)
        permitted = self._permitted("delete", frozenset())
        if not await self._store.keys.fits(acting, resource, id, permitted):
            return await self._remove(id, expected_version)  # which tells why not
        ruled = permitted is not None or acting.visibility(resource).rows is not None
        position = acting.outbox.mark()
        try:
            async with acting.transaction.savepoint(), self._store.guard(acting, resource):
                await self.lock(id)
                if ruled and not await self._store.keys.fits(acting, resource, id, permitted):
                    return await self._remove(id, expected_version)  # others have changed it meanwhile
                await cascades.delete_dependents(resource, self._store.key(resource, id))
                await self._remove(id, expected_version, judged=True)
        except ApiError:
            acting.outbox.rewind(position)
            raise

    async def _remove(self, id: Any, expected_version: int | None, *, judged: bool = False) -> None:
        kind = "softDelete" if self.resource.soft_delete else "delete"
        change = self._shape(kind, "delete", (), expected_version)
        if judged:  # with the rows that have gone before it
            change = replace(change, visibility=replace(change.visibility, rows=None), permitted=None)
        record = await self._changed(change, id, expected_version=expected_version, operation="delete")
        self._judge_outcome(record, "delete", expected_version)
        if self.resource.soft_delete:
            # Only now: whether a row is referred to is no stranger's business.
            try:
                await refuse_referenced(self._store, self._acting, self.resource, id)
            except ReferencedConflict as error:
                raise self._undo(error) from error
        self._remember_events("delete", [await self._shown(record, id)], [record])

    async def transition(self, id: Any, name: str, *, expected_version: int | None = None) -> Row:
        """Take a step of the resource's state machine.

        Raises:
            StateConflict: the step does not start from the row's present state.
            Forbidden: a tenant would admit, suspend, or close itself.
        """
        machine = self.resource.states
        if machine is None or name not in machine.transitions:
            raise NotFound(f"{self.resource.name} has no transition {name!r}.")
        if not decides(self.resource, self._acting):
            await self.row(id)
            raise Forbidden("Only the platform's operators may do this.")
        step = machine.transitions[name]
        key = f"{name}:post"
        column = self.resource.columns[machine.field]
        change = self._shape("update", key, (column,), expected_version, check_state=True)
        record = await self._changed(
            change, id, values={machine.field: step.target}, expected_version=expected_version,
            operation=name, states=step.sources, event=step.event,
        )  # fmt: skip
        self._judge_outcome(record, key, expected_version, step.sources)
        await self._judge_among([id], change.permitted)
        row = await self._shown(record, id)
        if step.event is not None:
            self.emit(step.event, self._told(row, record), id, stored=True)
        return row

    async def restore(self, id: Any, *, expected_version: int | None = None) -> Row:
        """Bring back a row that was deleted softly.

        Raises:
            NotFound: there is none that the caller could read.
            StateConflict: it is not deleted.
            UniqueConflict: another row has taken its place.
            Conflict: it refers to what is deleted itself.
        """
        self._refuse_without_rows()
        self._refuse_foreign_scope()
        change = self._shape("restore", "restore:post", (), expected_version)
        record = await self._store.change(
            self._acting, self.resource, change, id, expected_version=expected_version, operation="restore"
        )
        if record is None:
            await self.row(id)
            raise StateConflict("The row is not deleted.")
        self._judge_outcome(record, "restore", expected_version)
        await self._judge_among([id], change.permitted)
        await self._refuse_deleted_targets(id)
        row = await self._shown(record, id)
        self._remember_events("restore", [row], [record])
        return row

    async def _standing(self, id: Any, values: Mapping[str, Any]) -> Row:
        """Return a row as the caller sees it, which nobody changes before this transaction ends."""
        weak = self._store.keys.leaves_keys(self.resource, values)
        return await self.locked(id, leaves_keys=weak)

    async def _note_compared(self, id: Any, values: Mapping[str, Any]) -> None:
        """Note the controlled fields of which the caller learns whether they are so."""
        acting, shape = self._acting, Shape(fields=tuple(values))
        if not acting.system:
            about = (acting.principal, acting.origin, self.resource, shape, acting.lookup)
            await acting.trail.shown(*about, [id])

    async def _refuse_deleted_targets(self, id: Any) -> None:
        acting = replace(self._acting, system=True)
        stored = await self._store.row(acting, self.resource, id, Query(shape=Shape()))
        try:
            await check_references(self._store, acting, self.resource, [stored or {}])
        except ValidationFailed as error:
            told = "It refers to a row that is deleted: restore that one first."
            raise self._undo(Conflict(told, details=error.details)) from error

    def emit(self, name: str, data: Any, id: Any = None, *, stored: bool = False) -> None:
        """Tell that something happened to a row."""
        acting = self._acting
        acting.outbox.emit(
            Event(
                name=name,
                # What is stored already is decoded when a handler wants it.
                data=data.told() if isinstance(data, Row) and not stored else data,
                tenant_id=acting.principal.tenant_id,
                resource=self.resource.name,
                resource_id=None if id is None else str(id),
                request_id=acting.origin.request_id,
                correlation_id=acting.origin.correlation_id,
                actor_id=acting.principal.user_id or None,
            ),
            stored=stored,
        )

    # --- judging ----------------------------------------------------------------------

    def _shape(
        self,
        kind: Any,
        operation: str,
        columns: tuple[str, ...],
        expected_version: int | None,
        *,
        before: bool = False,
        check_state: bool = False,
        sent: frozenset[str] = frozenset(),
        modifiers: tuple[tuple[str, ModifierKind], ...] = (),
    ) -> Change:
        visibility = self._acting.visibility(self.resource)
        return Change(
            kind=kind,
            columns=columns,
            modifiers=modifiers,
            visibility=visibility,
            permitted=all_of([self._permitted(operation, sent), *readable(modifiers, visibility)]),
            before=before,
            audited=self.resource.audit,
            check_version=expected_version is not None,
            check_state=check_state,
        )

    def _permitted(self, operation: str, sent: frozenset[str]) -> Condition | None:
        """Rows on which the caller may do this; None is all of them.

        Raises:
            Forbidden: no policy permits it at all.
        """
        return self._acting.permitted(self.resource, operation, sent)

    def _undo(self, error: ApiError) -> ApiError:
        """Return an error about what the statement has done already: it must never be committed."""
        return self._acting.transaction.refuse_commit(error)

    async def _changed(self, change: Change, id: Any, **asked: Any) -> Any:
        """Return what became of a change; None where the row may be read, and not be locked.

        Locking asks for more than reading: of another tenant's rows, some are only read. One that is
        deleted softly may also have been brought back between the two looks, and is then changed.

        Raises:
            NotFound: there is no row that the caller may read.
        """
        for _ in range(_LOOKS):
            record = await self._store.change(self._acting, self.resource, change, id, **asked)
            if record is not None:
                return record
            await self.row(id)
            if not self.resource.soft_delete:
                break
            await self.lock(id)
        return None

    def _judge_outcome(
        self, record: Any, operation: str, expected_version: int | None, sources: tuple[str, ...] = ()
    ) -> None:
        visibility = self._acting.visibility(self.resource)
        refused = refusal(self.resource, record, operation, expected_version, visibility, sources)
        if refused is not None:
            raise refused

    async def _all_shown(self, records: Sequence[Any]) -> list[Row]:
        rows = []
        for index, record in enumerate(records):
            rows.append(await self._shown(record, record["id"]))
            await others(index)
        return rows

    async def _shown(self, record: Any, id: Any) -> Row:
        return await shown(self._store, self.resource, record, id)

    def _told(self, row: Row, record: Any) -> Row:
        """Return what an event holds of a written row, whoever has written it."""
        return told_of(self._store, self.resource, row, record)

    def _is_joinable(self, items: Sequence[Mapping[str, Any]]) -> bool:
        """Whether created rows that are all seen may come in one piece: nobody asks for each of them."""
        asked_for = self._acting.outbox.hears_of(self.resource, "create")
        if len(items) < 2 or asked_for or self._store.sealed.concern(self.resource):
            return False
        return len(bringing_alike(self.resource, items)) == 1

    def _prepared(self, items: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Return the values of new rows with what they are given at the beginning."""
        if self.resource.states is None and self.resource.scope is not Scope.SELF:
            return items
        ids = self._store.ids
        return [registered(self.resource, self._with_states(item), ids) for item in items]

    def _with_states(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        machine = self.resource.states
        if machine is None or machine.field in values:
            return values
        return {**values, machine.field: machine.initial}

    def _remember_events(self, operation: str, rows: Sequence[Row], records: Sequence[Any]) -> None:
        """Let the handlers of this process have events that the statement has written to the outbox."""
        if self._acting.outbox.hears_of(self.resource, operation):
            name = past_tense(self.resource.segment, operation)
            for row, record in zip(rows, records, strict=True):
                id = row.get("id") if row.key is None else row.key  # never decoded for its id alone
                self.emit(name, self._told(row, record), id, stored=True)

    def _refuse_foreign_scope(self) -> None:
        if self.resource.kind is Kind.VIEW:
            raise Forbidden(f"{self.resource.name} is a view: it is read, never written.")
        if self.resource.scope is Scope.SHARED and not self._acting.principal.at_home_on_platform:
            raise Forbidden(f"{self.resource.name} is shared by all tenants: only the platform writes it.")
        if self.resource.scope is Scope.USER and self._acting.principal.visiting_from is not None:
            raise Forbidden(f"Rows of {self.resource.name} are their user's own: leave out X-Tenant.")
