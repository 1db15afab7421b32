"""Rows looked for by their keys, before something is written: locked, found, and tried against a condition.

In: keys as values or as texts, and an `Acting`. Out: those that are there, as far as whoever acts may know.
Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from byodpp.conditions import Condition, Visibility, all_of
from byodpp.definitions import ResourceDefinition
from byodpp.repository.acting import Acting, Asking
from byodpp.repository.binding import bound
from byodpp.statements.keys import KeyStatements

__all__ = ["Match", "StoredKeys", "arguments_of", "key_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The row that has the values of an item."""

    key: Any  # None: there is none
    visible: bool  # to whoever acts
    first: int  # place of the first item with these values


class StoredKeys:
    """Keys of the rows of all resources."""

    def __init__(self, statements: KeyStatements) -> None:
        self._statements = statements

    def leaves_keys(self, resource: ResourceDefinition, names: Iterable[str] | None) -> bool:
        """Whether a change of some fields lets others refer to the row meanwhile; None: it may be any."""
        return self._statements.leaves_keys(resource, names)

    async def lock(
        self, acting: Acting, resource: ResourceDefinition, key: Any, *, leaves_keys: bool
    ) -> bool:
        """Lock a row that whoever acts may read until the end of the transaction; tell whether there is one.

        Nobody waits for what he may not read: that it takes long would tell him that it is there.
        """
        id = key_of(resource, key)
        if id is None:
            return False
        compiled = self._statements.lock(resource, acting.visibility(resource).rows, leaves_keys=leaves_keys)
        arguments = arguments_of(compiled, acting, (), {"id": id})
        return bool(await acting.transaction.fetch(compiled.sql, *arguments))

    async def lock_all(
        self, acting: Acting, resource: ResourceDefinition, keys: Sequence[Any], *, leaves_keys: bool
    ) -> None:
        """Lock rows, as far as they may be read, in the order of their keys."""
        seen = acting.visibility(resource).rows
        compiled = self._statements.lock_all(resource, seen, leaves_keys=leaves_keys)
        named = {"ids": [key_of(resource, key) for key in keys]}
        await acting.transaction.execute(compiled.sql, *arguments_of(compiled, acting, (), named))

    async def matches(
        self,
        acting: Acting,
        resource: ResourceDefinition,
        on: Sequence[str],
        items: Sequence[Mapping[str, Any]],
    ) -> list[Match]:
        """Find the live rows of the scope that have the same values in some fields; one answer per item."""
        columns = tuple(resource.columns[name] for name in on)
        compiled = self._statements.matches(resource, columns, acting.visibility(resource))
        given = [bound(resource, {name: item[name] for name in on}) for item in items]
        named = {f"v_{column}": [values[column] for values in given] for column in columns}
        records = await acting.transaction.fetch(compiled.sql, *arguments_of(compiled, acting, (), named))
        return [
            Match(key=record["id"], visible=bool(record["visible"]), first=record["first"] - 1)
            for record in records
        ]

    async def fits(
        self, acting: Acting, resource: ResourceDefinition, key: Any, condition: Condition | None
    ) -> bool:
        """Tell whether a row is there that the caller may read and that a condition holds for."""
        id, seen = key_of(resource, key), acting.visibility(resource)
        if id is None:
            return False
        compiled = self._statements.visible(resource, Visibility(all_of([seen.rows, condition]), {}))
        arguments = arguments_of(compiled, acting, (), {"ids": [id]})
        return bool(await acting.transaction.fetch(compiled.sql, *arguments))

    async def all_fit(
        self, acting: Acting, resource: ResourceDefinition, keys: Sequence[Any], condition: Condition
    ) -> bool:
        """Tell whether a condition holds for each of some rows, whoever may read them."""
        compiled = self._statements.visible(resource, Visibility(condition, {}))
        ids = {key_of(resource, key) for key in keys}
        arguments = arguments_of(compiled, acting, (), {"ids": list(ids)})
        return len(await acting.transaction.fetch(compiled.sql, *arguments)) == len(ids)

    async def visible_keys(
        self, acting: Acting, target: ResourceDefinition, keys: set[Any], *, held: bool = False
    ) -> set[Any]:
        """Return those keys of rows that whoever acts may read, as values and as texts; `held`: they stay."""
        compiled = self._statements.visible(target, acting.visibility(target), held=held)
        definition = target.fields["id"]
        named = {"ids": [definition.type.bind(key, definition) for key in keys]}
        records = await acting.transaction.fetch(compiled.sql, *arguments_of(compiled, acting, (), named))
        return {record["id"] for record in records} | {str(record["id"]) for record in records}


def key_of(resource: ResourceDefinition, key: Any) -> Any:
    """Return a key as asyncpg takes it; None when it can be no key of this resource."""
    definition = resource.fields["id"]
    try:
        if isinstance(key, str):
            return definition.type.bind(definition.type.from_text(key, definition), definition)
        given = key if isinstance(key, int) else str(key)
        return definition.type.bind(definition.type.from_json(given, definition), definition)
    except (ValueError, TypeError, ArithmeticError):
        return None


def arguments_of(
    compiled: Any, acting: Asking, values: Sequence[Any], named: Mapping[str, Any] | None = None
) -> list[Any]:
    """Return the arguments of a statement.

    Args:
        compiled: the statement.
        acting: who asks.
        values: of the query that belongs to it.
        named: parameters that it declares by name.
    """
    who = acting.principal
    given = (values, who.variables, who.session)
    return list(compiled.arguments(*given, scope_tenant_id=who.tenant_id, named=named))
