"""Deleting what belongs to a row before the row itself, where somebody follows it.

In: a row that is about to be deleted, locked. Out: the rows that refer to it and that audit, an
event, a history, a version or a class follows are deleted (`cascade`) or emptied (`setNull`), each
like any other: whoever may delete the row may delete what the manifest says goes with it. With
a user go the secrets. The rest is left to the foreign keys. May reject: Conflict (too many, too
deep, in a circle), ReferencedConflict (something else refers to one of them), and what a class
rejects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from byodpp.authorization import Decision
from byodpp.calls import Call
from byodpp.conditions import AllOf, Comparison, Condition, Parameter, Query, Shape
from byodpp.definitions import ResourceDefinition
from byodpp.dependents import Dependent
from byodpp.exceptions import Conflict, ReferencedConflict
from byodpp.repository import Repository
from byodpp.service.secrets import forget_secrets

if TYPE_CHECKING:
    from byodpp.service.units import Unit

__all__ = ["Cascades", "Deleting"]

#: Rows that may go with one row, and how deep they may lie.
_MOST_ROWS: Final = 10_000
_MOST_LEVELS: Final = 16
#: Rows that are looked for at once.
_PAGE: Final = 500
_USERS: Final = ("access", "Users")
_WHOLE: Final = Decision(allowed=True, reason="it goes with the row that it refers to")


class Deleting:
    """How far the deletions of one unit have come."""

    __slots__ = ("rows", "under_way")

    def __init__(self) -> None:
        self.under_way: list[tuple[str, str]] = []  # tables and keys of rows that are being deleted
        self.rows = 0  # that went with others so far


class Cascades:
    """The deletions of one unit. Fulfils `repository.stores.Cascading`."""

    __slots__ = ("_deleting", "_unit")

    def __init__(self, unit: Unit, deleting: Deleting) -> None:
        """Args:
        unit: works for it. It must not hold this in turn: both would stay until a pass of the collector.
        deleting: of the unit.
        """
        self._unit = unit
        self._deleting = deleting

    def concern(self, resource: ResourceDefinition) -> bool:
        """Whether a deletion has to look for rows that refer to the row."""
        return bool(self._unit.parts.dependents.of(resource))

    async def delete_dependents(self, resource: ResourceDefinition, key: Any) -> None:
        """Delete and empty what refers to a row.

        Args:
            resource: of the row.
            key: of the row, which is locked: nothing new can refer to it.
        """
        if len(self._deleting.under_way) >= _MOST_LEVELS:
            raise Conflict(f"More than {_MOST_LEVELS} levels of rows would be deleted with it.")
        self._deleting.under_way.append((resource.table, str(key)))
        try:
            for one in self._unit.parts.dependents.of(resource):
                await self._follow(one, key)
            if (resource.part, resource.name) == _USERS:
                await forget_secrets(self._unit, key)
        finally:
            self._deleting.under_way.pop()

    async def _follow(self, one: Dependent, key: Any) -> None:
        done: set[str] = set()
        while found := [id for id in await self._referring(one, key) if self._is_other(one.resource, id)]:
            self._deleting.rows += len(found)
            if self._deleting.rows > _MOST_ROWS:
                raise Conflict(f"More than {_MOST_ROWS} rows would be deleted or changed with it.")
            repository = self._repository(one.resource)
            await repository.lock_all(found)
            # Until they were locked, others may have deleted them, or let them refer to another row.
            for id in await self._referring(one, key, found):
                if str(id) in done:
                    raise Conflict(f"{one.resource.name} {id} goes with it, and has not been deleted.")
                done.add(str(id))
                if one.deletes:
                    await self._delete(one.resource, id)
                else:
                    await repository.change(id, {one.field.name: None})

    def _is_other(self, resource: ResourceDefinition, id: Any) -> bool:
        """Whether a row is none of those that are being deleted; one may refer to itself."""
        place = (resource.table, str(id))
        if place in self._deleting.under_way[:-1]:
            raise Conflict("The rows to delete refer to each other in a circle: empty one reference first.")
        return place != self._deleting.under_way[-1]

    async def _delete(self, resource: ResourceDefinition, id: Any) -> None:
        unit = self._unit
        try:
            if unit.parts.logics.get(resource, "delete") is None:
                await self._repository(resource).delete(id)
            else:
                call = Call(
                    resource=resource, operation="delete", principal=unit.principal, decision=_WHOLE,
                    origin=unit.origin, params={"id": str(id)}, system=True,
                )  # fmt: skip
                await unit.execute(call)
        except ReferencedConflict as error:
            told = f"{resource.name} {id} would go with it, and cannot: {error.message}"
            raise ReferencedConflict(told, details=error.details) from error

    async def _referring(self, one: Dependent, key: Any, among: Sequence[Any] = ()) -> list[Any]:
        """Return keys of rows, or of some rows, that refer to a row, as many as are looked for at once."""
        condition: Condition = Comparison((), one.field.name, "eq", Parameter(0))
        values: list[Any] = [one.field.type.bind(key, one.field)]
        if among:
            condition = AllOf((condition, Comparison((), "id", "in", Parameter(1))))
            values.append([self._unit.parts.store.key(one.resource, each) for each in among])
        shape = Shape(fields=("id",), filter=condition, limit=_PAGE, count="none", answers=False)
        asked = Query(shape=shape, values=tuple(values), limit=_PAGE)
        return [row["id"] for row in await self._repository(one.resource).page(asked)]

    def _repository(self, resource: ResourceDefinition) -> Repository:
        return self._unit.repositories(resource.version, system=True)[resource.name]
