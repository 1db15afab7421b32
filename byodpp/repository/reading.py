"""Reading the rows of one resource, on one transaction, as one caller may see them.

The half of a `repository` that changes nothing, and locks what is to be changed. May raise NotFound,
Forbidden, InvalidQuery, QueryTooComplex, and Conflict where a resource has no rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from byodpp.audit.notes import About
from byodpp.authorization.algebra import left_by_scope
from byodpp.conditions import Condition, Query, Shape, all_of
from byodpp.definitions import Kind, ResourceDefinition
from byodpp.exceptions import Conflict, Forbidden, NotFound
from byodpp.query.text import parse_json
from byodpp.repository.acting import Acting
from byodpp.repository.outcomes import barred
from byodpp.repository.stored_keys import Match
from byodpp.repository.stores import Store
from byodpp.rows import Page, Row, opened
from byodpp.schemas.modifiers import ModifierKind, readable
from byodpp.statements.intended import asks_of, asks_of_its_own

__all__ = ["Reading"]

_NO_ROWS: Final = "there are no rows to work on"


class Reading:
    """What can be read of one resource. `id` arguments take the key as a value or as its text."""

    def __init__(self, store: Store, acting: Acting, resource: ResourceDefinition) -> None:
        self.resource = resource
        self._store = store
        self._acting = acting

    async def list(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: str | None = None,
        fields: str | None = None,
        include: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
        count: str = "none",
        search: str | None = None,
    ) -> Page:
        """Return rows.

        Args:
            filter: the query language in JSON, e.g. `{"price": {"gte": 5}}`.
            sort: e.g. `name,-createdAt`.
            fields: e.g. `id,name`.
            include: e.g. `category,dpps.sections`.
            limit: rows at most; the resource's default when omitted.
            offset: rows to skip.
            cursor: `next_cursor` of the page before.
            search: words to look for in the resource's `search` fields.
            count: `exact`, `estimated`, or `none`.

        Raises:
            InvalidQuery: names what does not exist, or what the caller may not see.
        """
        asked = {
            "filter": filter, "sort": sort, "fields": fields, "include": include,
            "limit": limit, "offset": offset, "cursor": cursor, "count": count, "search": search,
        }  # fmt: skip
        return await self._listed(self._judged(asked, "list"))

    async def aggregate(
        self,
        aggregate: str,
        filter: Mapping[str, Any] | None = None,
        *,
        group: str | None = None,
        having: Mapping[str, Any] | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Sequence[Mapping[str, Any]]:
        """Return groups of rows with their numbers, e.g. `{"group": {"categoryId": 7}, "count": 12}`.

        Args:
            aggregate: e.g. `count,sum:price`.
            filter: which rows are taken together.
            group: e.g. `categoryId,month(createdAt)`; all rows are one group when omitted.
            having: which groups, by words of aggregates: `{"count": {"gt": 5}}`.
            sort: words of aggregates and groups.
            limit: groups at most; the resource's default when omitted.
        """
        asked = {
            "filter": filter, "aggregate": aggregate, "group": group, "having": having, "sort": sort,
            "limit": limit, "count": "none",
        }  # fmt: skip
        return await self._listed(self._judged(asked, "list"))

    async def read(self, id: Any, *, fields: str | None = None, include: str | None = None) -> Row:
        """Return one row.

        Raises:
            NotFound: there is none that the caller may read.
        """
        query = self._judged({"fields": fields, "include": include}, "read")
        row = await self.row(id, query)
        await self._note(About(operation="read", resource=self.resource, key=str(id)), query, row)
        return await opened(row)

    async def find(self, filter: Mapping[str, Any], *, include: str | None = None) -> Row | None:
        """Return the first row that matches, None when none does."""
        page = await self.list(filter, include=include, limit=1)
        return page[0] if len(page) else None

    async def exists(self, filter: Mapping[str, Any]) -> bool:
        """Tell whether a row matches."""
        return len(await self.list(filter, fields="id", limit=1)) > 0

    async def count(self, filter: Mapping[str, Any] | None = None) -> int:
        """Return how many rows match."""
        page = await self.list(filter, fields="id", limit=1, count="exact")
        return page.total or 0

    async def page(self, query: Query) -> Page:
        """Return the page that a judged query asks for."""
        self._refuse_without_rows()
        return await self._store.page(self._acting, self.resource, query)

    async def row(self, id: Any, query: Query | None = None) -> Row:
        """Return the row that a judged query asks for.

        Raises:
            NotFound: there is none that the caller may read.
        """
        self._refuse_without_rows()
        row = await self._store.row(self._acting, self.resource, id, query or Query(shape=Shape()))
        if row is None:
            raise self._not_found(id)
        return row

    async def lock(self, id: Any, *, leaves_keys: bool = False) -> None:
        """Let no other transaction change a row before this one ends; nothing happens if he may read none.

        Args:
            id: of the row.
            leaves_keys: it is changed, not deleted, and no unique key of it: others may come to refer to it.
        """
        await self._store.keys.lock(self._acting, self.resource, id, leaves_keys=leaves_keys)

    async def locked(self, id: Any, *, leaves_keys: bool = False) -> Row:
        """Lock a row, as `lock` does, and return it.

        Raises:
            NotFound: there is none that the caller may read.
        """
        held = await self._store.keys.lock(self._acting, self.resource, id, leaves_keys=leaves_keys)
        row = await self.row(id)
        if held:
            return row
        await self.lock(id, leaves_keys=leaves_keys)  # it has come to be his to read since the first look
        return await self.row(id)

    async def lock_all(self, ids: Sequence[Any], *, leaves_keys: bool = False) -> None:
        """Lock several rows; those that do not exist are passed over."""
        await self._store.keys.lock_all(self._acting, self.resource, ids, leaves_keys=leaves_keys)

    async def refuse_unreadable(self, id: Any, modifiers: Sequence[tuple[str, ModifierKind]]) -> None:
        """Refuse to modify what may not be read: the answer would tell something of it.

        Raises:
            Forbidden: fields that the caller may read on no row, or not on this one.
        """
        condition = all_of(readable(modifiers, self._acting.visibility(self.resource)))
        if condition is not None and not await self._store.keys.fits(
            self._acting, self.resource, id, condition
        ):
            raise Forbidden("You may not modify these fields of this row.")

    async def refuse_barred(self, id: Any, operation: str, sent: Iterable[str] = ()) -> None:
        """Refuse to do something to a row that the caller may read, whatever is sent.

        Args:
            id: of the row.
            operation: one of the seven, or an action's key.
            sent: fields that are to be written, as far as he may write them on some row.

        Raises:
            Forbidden: he may not do it to this row.
        """
        permitted = self._acting.permitted(self.resource, operation, sent)
        condition = all_of([permitted, left_by_scope(self.resource, operation)])
        if condition is not None and not await self._store.keys.fits(
            self._acting, self.resource, id, condition
        ):
            raise barred(self.resource, operation)

    async def judge_with(self, id: Any, operation: str, sent: frozenset[str]) -> None:
        """Judge a row that was written once more, now that rows below it are, too.

        Raises:
            Forbidden: the caller may not have it among these.
        """
        await self._judge_among([id], self._acting.permitted(self.resource, operation, sent), everywhere=True)

    async def _judge_among(
        self, ids: Sequence[Any], permitted: Condition | None, *, everywhere: bool = False
    ) -> None:
        """Judge written rows once more where their rule asks about related rows that were written with them.

        Args:
            ids: of the rows.
            permitted: rows that the caller may have; None is all.
            everywhere: rows of other tables were written, too.
        """
        store, resource = self._store, self.resource
        if permitted is None:
            return
        asks = asks_of if everywhere else asks_of_its_own
        if not asks(store.registry, resource, permitted):
            return
        if not await store.keys.all_fit(self._acting, resource, ids, permitted):
            refused = Forbidden(f"You may not make the row of {resource.name} like this.")
            raise self._acting.transaction.refuse_commit(refused)

    async def visible_keys(self, ids: Sequence[Any]) -> Sequence[Any]:
        """Return the keys, of some, of rows that may be read, in their order."""
        keys = [key for id in ids if (key := self._store.key(self.resource, id)) is not None]
        seen = await self._store.keys.visible_keys(self._acting, self.resource, set(keys))
        return [key for key in keys if key in seen]

    async def matches(self, on: Sequence[str], items: Sequence[Mapping[str, Any]]) -> Sequence[Match]:
        """Find the rows that have an item's values in the fields of a unique key.

        Args:
            on: the fields.
            items: validated values by field, none of `on` empty.
        """
        return await self._store.keys.matches(self._acting, self.resource, on, items)

    async def _listed(self, query: Query) -> Page:
        if not self._acting.system:
            query = self._acting.trail.keyed(self.resource, query)
        page = await self.page(query)
        await self._note(About(operation="list", resource=self.resource), query, page)
        return await opened(page)

    async def _note(self, about: About, query: Query, result: Row | Page) -> None:
        """Write into the audit trail what was read as the caller, if it holds controlled fields."""
        acting = self._acting
        if not acting.system and acting.trail.watches(self.resource, query.shape):
            await acting.trail.read(
                acting.principal, acting.origin, about, query.shape, acting.lookup, result
            )

    def _judged(self, asked: Mapping[str, Any], mode: str) -> Query:
        given = {name: value for name, value in asked.items() if value is not None}
        if given.get("count") == "none" and mode == "read":
            del given["count"]
        return self._store.judge(self._acting, self.resource, parse_json(given), mode)

    def _refuse_without_rows(self) -> None:
        if self.resource.kind is Kind.LOGIC:
            raise Conflict(f"{self.resource.name} is served by logic classes: {_NO_ROWS}.")

    def _not_found(self, id: Any) -> NotFound:
        return NotFound(f"{self.resource.name} {str(id)[:100]!r} does not exist.")
