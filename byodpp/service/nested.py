"""Writing related rows together with a row, inside its unit of work.

In: a row that was just written and what its body says about related rows. Out: the row with
those that were written. Each is authorised and served as if it had come alone: by its own
resource's policies, schemas and logic classes. May reject: ValidationFailed (a key that is no
row of this relation), and what the operations reject, below the relation's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from byodpp import wire
from byodpp.batches import BatchItem
from byodpp.batches.locking import leaves_keys
from byodpp.batches.work import BatchWork
from byodpp.calls import Call
from byodpp.conditions import AllOf, Comparison, Condition, Parameter, Query, Shape
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import ApiError, Conflict, Detail, PreconditionRequired, ValidationFailed
from byodpp.judged_calls import below
from byodpp.repository import Repository
from byodpp.rows import Row
from byodpp.schemas.keys import REFERENCE
from byodpp.schemas.nested import NestedItem, NestedRows

if TYPE_CHECKING:
    from byodpp.service.units import Unit

__all__ = ["NestedWork"]


class NestedWork:
    """Writes the related rows of one call."""

    def __init__(self, unit: Unit, call: Call) -> None:
        self._unit = unit
        self._call = call

    async def write(self, row: Row) -> Row:
        """Write the related rows of a row; return it with them."""
        members, counted = [], self._unit.answer.mark()
        try:
            for nested in self._call.nested:
                try:
                    results = await self._write(nested, row["id"])
                except ApiError as error:
                    raise below(error, nested.relation.name) from error
                shown = b",".join(map(_json, results))
                members.append(b",%b:[%b]" % (wire.dumps(nested.relation.name), shown))
        finally:
            self._unit.answer.rewind(counted)
        whole = row.json[:-1] + b"".join(members) + b"}"
        return Row(whole, self._call.resource, self._unit.parts.registry, version=row.version, key=row.key)

    async def _write(self, nested: NestedRows, parent: Any) -> list[Any]:
        self._refuse_other_parent(nested, parent)
        keyed = [item for item in nested.items if item.key is not None]
        there = await self._children(nested, parent, keyed)
        strangers = [item for item in keyed if str(item.key) not in there]
        if strangers:
            faults = [Detail(f"{item.index}.id", "reference", REFERENCE) for item in strangers]
            raise ValidationFailed(details=faults[:100])
        if nested.replace:
            await self._delete_others(nested, parent, {str(item.key) for item in keyed})
        results: dict[int, Any] = {}
        for item in keyed:
            results[item.index] = await self._change(nested, item, parent)
        results |= await self._create(nested, parent)
        return [results[item.index] for item in nested.items]

    def _refuse_other_parent(self, nested: NestedRows, parent: Any) -> None:
        """Refuse a reference that says something else than the place where it stands."""
        foreign = nested.relation.foreign_field
        faults = [
            Detail(f"{item.index}.{foreign}", "read_only", "Is filled in: leave it out.")
            for item in nested.items
            if foreign in item.document and str(item.document[foreign]) != str(parent)
        ]
        if faults:
            raise ValidationFailed(details=faults[:100])

    async def _change(self, nested: NestedRows, item: NestedItem, parent: Any) -> Any:
        foreign, target = nested.relation.foreign_field, nested.target
        document = {name: value for name, value in item.document.items() if name != foreign}
        if item.operation == "update":
            field = target.fields[foreign]
            document[foreign] = field.type.to_json(parent, field)
        try:
            params = {"id": str(item.key)}
            changed = await self._unit.ask(target, item.operation, document, params, version=item.version)
            return self._unit.answer.count(changed, target)
        except ApiError as error:
            raise below(error, str(item.index)) from error

    async def _create(self, nested: NestedRows, parent: Any) -> dict[int, Any]:
        foreign = nested.relation.foreign_field
        items = [
            BatchItem(
                index=item.index,
                operation="create",
                document=item.document,
                values=replace(
                    item.values,
                    values={**item.values.values, foreign: parent},
                    sent=item.values.sent | {foreign},
                ),
            )
            for item in nested.items
            if item.key is None
        ]
        if not items:
            return {}
        call = self._call.having(
            resource=nested.target, nested=(), read_only={}, expected_version=None, or_versions=()
        )
        rows = await BatchWork(self._unit).create(call, items)
        return {item.index: row for item, row in zip(items, rows, strict=True)}

    # --- rows that are there ----------------------------------------------------------

    async def _children(self, nested: NestedRows, parent: Any, items: Sequence[NestedItem]) -> set[str]:
        """Lock rows by their keys; return those that belong to the parent and that the caller may read."""
        if not items:
            return set()
        keys = [item.key for item in items]
        weak = all(leaves_keys(self._unit.parts, nested.target, item.operation) for item in items)
        await self._rows(nested.target).lock_all(keys, leaves_keys=weak)
        own = {str(key) for key in await self._keys(nested, parent, keys)}
        return own & {str(key) for key in await self._rows(nested.target).visible_keys(keys)}

    async def _delete_others(self, nested: NestedRows, parent: Any, kept: set[str]) -> None:
        most = nested.target.bounds.max_batch
        found = await self._keys(nested, parent)
        if len(found) > most:
            raise Conflict(f"More than {most} rows would have to be replaced.")
        seen = await self._rows(nested.target).visible_keys(found)
        others = [key for key in seen if str(key) not in kept]
        if others and nested.target.version_required:
            told = "and rows that are not named have none: delete them by `id` and `version`."
            raise PreconditionRequired(f"{nested.target.name} is written with a version only, {told}")
        if not others:
            return
        await self._rows(nested.target).lock_all(others)
        # Until they were locked, others may have deleted them, or given them to another row.
        for key in await self._keys(nested, parent, others):
            await self._unit.ask(nested.target, "delete", None, {"id": str(key)})

    async def _keys(self, nested: NestedRows, parent: Any, among: Sequence[Any] = ()) -> list[Any]:
        """Return the keys of the parent's rows, also of those that the caller may not read."""
        foreign, target = nested.relation.foreign_field, nested.target
        condition: Condition = Comparison((), foreign, "eq", Parameter(0))
        values: list[Any] = [target.fields[foreign].type.bind(parent, target.fields[foreign])]
        if among:
            condition = AllOf((condition, Comparison((), "id", "in", Parameter(1))))
            store = self._unit.parts.store
            values.append([key for one in among if (key := store.key(target, one)) is not None])
        most = target.bounds.max_batch + 1
        shape = Shape(fields=("id",), filter=condition, limit=most, count="none", answers=False)
        page = await self._rows(target, system=True).page(Query(shape=shape, values=tuple(values), limit=1))
        return [row["id"] for row in page]

    def _rows(self, target: ResourceDefinition, *, system: bool = False) -> Repository:
        return self._unit.repositories(target.version, system=system)[target.name]


def _json(result: Any) -> bytes:
    if isinstance(result, Row):
        return result.json
    return wire.dumps(dict(result) if isinstance(result, Mapping) else result)
