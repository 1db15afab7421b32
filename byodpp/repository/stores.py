"""The store: reads and writes rows for whoever acts, by statements compiled once.

Lives as long as the application. `repository` gives it judged queries and validated values and
an `Acting`; it gives back rows as PostgreSQL wrote them. Errors of the driver come as ApiErrors
from `database`; those that name a constraint get the names of its fields here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from byodpp import wire
from byodpp.array_text import array_text
from byodpp.authentication import Principal
from byodpp.conditions import Condition, Lookup, Query, Visibility
from byodpp.database import Database, SessionContext
from byodpp.definitions import ResourceDefinition
from byodpp.events import emits, past_tense
from byodpp.exceptions import ApiError, InvalidHeader
from byodpp.ids import Ids
from byodpp.limits import StorageQuota
from byodpp.part_writes import PartWritten
from byodpp.query.reader import QueryReader
from byodpp.query.text import RawQuery
from byodpp.registry import Registry
from byodpp.repository.acting import Acting, Asking
from byodpp.repository.answer_bound import within_bound
from byodpp.repository.binding import bind, bind_rows
from byodpp.repository.constraint_errors import explained
from byodpp.repository.row_reads import RowRead
from byodpp.repository.stored_keys import StoredKeys, arguments_of, key_of
from byodpp.rows import GroupPage, Page, Row
from byodpp.schemas import SchemaMap
from byodpp.sealed_fields import SealedFields
from byodpp.statements import ESTIMATE_LIMIT, Statements, split_version
from byodpp.statements.writes import Change, WriteStatements
from byodpp.tables import Tables, whose_columns

__all__ = ["Store"]


class Store:
    """Rows of all resources."""

    def __init__(
        self,
        *,
        registry: Registry,
        tables: Tables,
        statements: Statements,
        writes: WriteStatements,
        schemas: SchemaMap,
        database: Database,
        ids: Ids,
        reader: QueryReader,
        sealed: SealedFields,
        quota: StorageQuota | None = None,
        part_written: PartWritten | None = None,
        everywhere: Callable[[SessionContext], Awaitable[str | None]],
        dispersed: Callable[[], Awaitable[bool]],
        unreached: Callable[[], Awaitable[bool]],
    ) -> None:
        self.registry = registry
        self.tables = tables
        self.statements = statements
        self.writes = writes
        self.keys = StoredKeys(writes.keys)
        self.schemas = schemas
        self.database = database
        self.ids = ids
        self.reader = reader
        self.sealed = sealed
        self._quota = quota
        self._part_written = part_written
        self._everywhere = everywhere
        self._dispersed = dispersed
        self.unreached = unreached  # whether some tenant's rows are where this process cannot look

    # --- reading ----------------------------------------------------------------------

    def judge(self, acting: Acting, resource: ResourceDefinition, raw: RawQuery, mode: Any) -> Query:
        """Judge a query as the one who acts may ask it; a logic class acting for the tenant may ask all."""
        lookup = None if acting.system else acting.listing(resource) if mode == "list" else acting.lookup
        return self.reader.judge(raw, resource, lookup, mode, acting.principal.tenant_id)

    async def page(self, acting: Acting, resource: ResourceDefinition, query: Query) -> Page:
        """Read a page inside the transaction."""
        lookup = acting.listing(resource)
        compiled = self.statements.page(
            resource, query, lookup, context_in_statement=False, anywhere=acting.principal.anywhere
        )
        record: Any = await self._found(acting, compiled.sql, arguments_of(compiled, acting, query.values))
        total = record["total"]
        if _is_cut(query, total):
            asked = self.statements.estimate(resource, query, lookup, anywhere=acting.principal.anywhere)
            total = _planned(await self._found(acting, asked.sql, arguments_of(asked, acting, query.values)))
        return await self._page(acting.principal, resource, query, record, total)

    async def row(self, acting: Acting, resource: ResourceDefinition, key: Any, query: Query) -> Row | None:
        """Read a row inside the transaction; None when there is none to be seen."""
        id = self.key(resource, key)
        if id is None:
            return None
        compiled = self.statements.row(
            resource, query, acting.lookup, context_in_statement=False, anywhere=acting.principal.anywhere
        )
        arguments = arguments_of(compiled, acting, query.values, {"id": id})
        return await self.row_of(resource, query, await self._found(acting, compiled.sql, arguments))

    async def page_once(
        self, principal: Principal, resource: ResourceDefinition, query: Query, lookup: Lookup
    ) -> Page:
        """Read a page with one trip and no transaction of its own."""
        compiled = self.statements.page(resource, query, lookup, anywhere=principal.anywhere)
        given = (query.values, principal.variables, principal.session)
        arguments = compiled.arguments(*given, scope_tenant_id=principal.tenant_id)
        record: Any = await self.asked(principal, compiled.sql, arguments)
        total = record["total"]
        if _is_cut(query, total):
            asked = self.statements.estimate(resource, query, lookup, anywhere=principal.anywhere)
            arguments = asked.arguments(*given, scope_tenant_id=principal.tenant_id)
            total = _planned(await self.asked(principal, asked.sql, arguments))
        return await self._page(principal, resource, query, record, total)

    def row_read(
        self, principal: Principal, resource: ResourceDefinition, query: Query, lookup: Lookup
    ) -> RowRead:
        """Return what reads rows with one trip each and no transaction, for all callers of one standing."""
        compiled = self.statements.row(resource, query, lookup, anywhere=principal.anywhere)
        plain = not (principal.anywhere or self.sealed.concern(resource, query.shape.touched))
        return RowRead(store=self, resource=resource, query=query, compiled=compiled, plain=plain)

    async def versions_once(
        self, principal: Principal, resource: ResourceDefinition, key: Any, query: Query, lookup: Lookup
    ) -> Page | None:
        """Read the kept versions of a row with one trip; None when there is none to be seen."""
        id = self.key(resource, key)
        if id is None:
            return None
        compiled = self.statements.versions(resource, lookup)
        arguments = compiled.arguments(
            (),
            principal.variables,
            principal.session,
            scope_tenant_id=principal.tenant_id,
            named={"id": id, "limit": query.limit, "offset": query.offset},
        )
        record: Any = await self.asked(principal, compiled.sql, arguments)
        if not record["total"]:
            return None
        return Page(
            await self.sealed.versions(within_bound(record["data"], resource).encode(), resource),
            resource=resource,
            registry=self.registry,
            total=record["total"],
            limit=query.limit,
            offset=query.offset,
        )

    def asked(self, principal: Principal, sql: str, arguments: Sequence[Any]) -> Coroutine[Any, Any, Any]:
        """Read outside a transaction, where the caller's rows lie."""
        if principal.anywhere:
            return self._asked_everywhere(principal, sql, arguments)
        holder, session = principal.session_tenant_id, principal.session
        return self.database.read(sql, arguments, holder, place=session.place, database=session.database)

    async def _asked_everywhere(self, principal: Principal, sql: str, arguments: Sequence[Any]) -> Any:
        holder, session = principal.session_tenant_id, principal.session
        place = await self._everywhere(session)
        return await self.database.read(sql, arguments, holder, place=place, database=session.database)

    async def _found(self, acting: Acting, sql: str, arguments: Sequence[Any]) -> Any:
        """Read inside the transaction; rows of every tenant may lie elsewhere than those it is about."""
        transaction = acting.transaction
        place = await self._everywhere(transaction.context) if acting.principal.anywhere else None
        if place is None or place == transaction.context.place:
            return await transaction.fetchrow(sql, *arguments)
        async with transaction.elsewhere(place):
            return await transaction.fetchrow(sql, *arguments)

    def key(self, resource: ResourceDefinition, key: Any) -> Any:
        """Return a key as asyncpg takes it; None when it can be no key of this resource."""
        return key_of(resource, key)

    async def _page(
        self, principal: Principal, resource: ResourceDefinition, query: Query, record: Any, total: int | None
    ) -> Page:
        json, shape = within_bound(record["data"], resource).encode(), query.shape
        partial = principal.anywhere and bool(whose_columns(resource)) and await self._dispersed()
        if shape.grouping is not None:
            return GroupPage(
                json,
                resource=resource,
                registry=self.registry,
                total=total,
                limit=query.limit,
                offset=query.offset,
                partial=partial,
            )
        last, end, keys = record["next"], query.offset + query.limit, None
        if shape.keyed and last:
            *last, told = last
            keys = None if told is None else wire.loads(told.encode())
        # What a cursor's page counts as rows before it may have changed since; a total decides nothing there.
        ended = shape.after is None and shape.count == "exact" and total is not None and total <= end
        cursor = None
        if last and last[-1] is not None and query.fingerprint and not ended:
            cursor = self.reader.cursors.issue(query, principal.tenant_id, last, position=end)
        return Page(
            await self.sealed.page(json, resource, shape.touched),
            resource=resource,
            registry=self.registry,
            total=total,
            limit=query.limit,
            offset=query.offset,
            next_cursor=cursor,
            partial=partial,
            keys=keys,
        )

    async def row_of(self, resource: ResourceDefinition, query: Query, record: Any) -> Row | None:
        """Return the row that a statement of `row` has found."""
        if record is None or record["data"] is None:
            return None
        if record.get("several"):
            raise InvalidHeader("Several tenants have such a row: name one of them with X-Tenant.")
        json, version = split_version(within_bound(record["data"], resource))
        opened = await self.sealed.row(json.encode(), resource, query.shape.touched)
        return Row(opened, resource, self.registry, version=version)

    # --- writing ----------------------------------------------------------------------

    async def insert(
        self,
        acting: Acting,
        resource: ResourceDefinition,
        items: Sequence[Mapping[str, Any]],
        permitted: Condition | None,
        seen: Visibility,
        *,
        joined: bool = False,
    ) -> list[Any]:
        """Insert validated rows with one statement; the records come in the items' order.

        Args:
            acting: who does.
            resource: of the rows.
            items: values by field.
            permitted: rows that the caller may have; None is all.
            seen: what the caller sees of them.
            joined: one record with all of them; only where the caller may have and see every row.
        """
        await self.refuse_full(acting, resource)
        seal = self.sealed.sealing(resource, acting.principal.tenant_id)
        many = len(items) > 1
        values: Mapping[str, Any]
        if many:
            ids = () if resource.key == "bigint" else [self.ids.for_resource(resource) for _ in items]
            values = await bind_rows(resource, items, ids, seal=seal)
        else:
            values = await bind(resource, items[0], self.ids.for_resource(resource), seal=seal)
        columns = tuple(sorted(values))
        compiled = self.writes.insert(
            resource,
            columns,
            seen,
            permitted,
            event="create" in resource.events,
            heard=acting.outbox.hears_of(resource, "create"),
            many=many,
            context_in_statement=not acting.transaction.sets_context,
            joined=joined,
        )
        named = self.told(acting, resource, "create")
        if many:
            named |= {f"v_{column}": array_text(column_values) for column, column_values in values.items()}
            named["count_only"] = array_text([0] * len(items))  # asked for where there is no column
        else:
            named |= {f"v_{column}": value for column, value in values.items()}
        arguments = arguments_of(compiled, acting, (), named)
        async with self.guard(acting, resource, []):
            try:
                return list(await acting.transaction.fetch(compiled.sql, *arguments))
            except ApiError as error:
                raise explained(self.tables, error, resource) from error

    async def change(
        self,
        acting: Acting,
        resource: ResourceDefinition,
        change: Change,
        key: Any,
        *,
        operation: str,
        values: Mapping[str, Any] = MappingProxyType({}),
        expected_version: int | None = None,
        states: Sequence[str] = (),
        event: str | None = None,
    ) -> Any:
        """Run a change, which is an event of some name where one is given; the record of
        `WriteStatements.change`, None when there is no such row.
        """
        id = self.key(resource, key)
        if id is None:
            return None
        if change.kind == "update":
            await self.refuse_full(acting, resource)
        written = await bind(resource, values, seal=self.sealed.sealing(resource, acting.principal.tenant_id))
        outbox = acting.outbox
        heard = outbox.hears_of(resource, operation) if event is None else outbox.hears(event)
        change = replace(change, event=event is not None or emits(resource, operation), heard=heard)
        compiled = self.writes.change(resource, change)
        named = {
            **self.told(acting, resource, operation, event),
            **{f"v_{column}": value for column, value in written.items()},
            "id": id,
            "expected_version": expected_version,
            "states": list(states),
        }
        arguments = arguments_of(compiled, acting, (), named)
        async with self.guard(acting, resource, [id]):
            try:
                return await acting.transaction.fetchrow(compiled.sql, *arguments)
            except ApiError as error:
                deleting = change.kind == "delete"
                raise explained(self.tables, error, resource, deleting=deleting) from error

    async def change_many(
        self,
        acting: Acting,
        resource: ResourceDefinition,
        change: Change,
        keys: Sequence[Any],
        items: Sequence[Mapping[str, Any]],
        *,
        operation: str,
    ) -> list[Any]:
        """Update rows with one statement; the records of `WriteStatements.change_many`.

        Args:
            acting: who does it.
            resource: of the rows.
            change: its shape; every item has values for its columns.
            keys: of the rows, each once.
            items: values by field, in the order of the keys.
            operation: whose event it is.
        """
        await self.refuse_full(acting, resource)
        seal = self.sealed.sealing(resource, acting.principal.tenant_id)
        made = [await bind(resource, item, seal=seal) for item in items]
        heard = acting.outbox.hears_of(resource, operation)
        change = replace(change, event=emits(resource, operation), heard=heard)
        compiled = self.writes.change_many(resource, change)
        named = {
            **self.told(acting, resource, operation),
            **{f"v_{column}": [values[column] for values in made] for column in change.columns},
            "ids": [self.key(resource, key) for key in keys],
        }
        arguments = arguments_of(compiled, acting, (), named)
        async with self.guard(acting, resource):
            try:
                return list(await acting.transaction.fetch(compiled.sql, *arguments))
            except ApiError as error:
                raise explained(self.tables, error, resource) from error

    async def refuse_full(self, acting: Asking, resource: ResourceDefinition) -> None:
        """Refuse to store more for a tenant that stores what it may; what the framework notes is no matter.

        Raises:
            QuotaExceeded: it does.
        """
        if self._quota is not None and resource.part is None:
            await self._quota.refuse_full(acting.principal.tenant)

    def guard(
        self, acting: Acting, resource: ResourceDefinition, rows: Sequence[Any] | None = None
    ) -> AbstractAsyncContextManager[None]:
        """Return what belongs around a write to the framework's own resources; None is any of their rows.

        Around a deletion with all that goes with it, too: what is done to other rows on the way is
        done by the application, and yet by the wish of whoever deletes.
        """
        if resource.part is None or self._part_written is None:
            return nullcontext()
        author = None if acting.system else acting.principal
        return self._part_written(acting.transaction, resource, author, rows)

    # --- arguments and errors ---------------------------------------------------------

    def told(
        self, acting: Asking, resource: ResourceDefinition, operation: str, event: str | None = None
    ) -> dict[str, Any]:
        """What audit entry and event say of the request; without a name the event has the operation's."""
        return {
            "audit_action": operation.upper(),
            "actor_tenant_id": acting.principal.visiting_from,
            "key_id": acting.principal.key_id,
            "client_ip": acting.origin.client_ip or None,  # what is not known is null
            "user_agent": acting.origin.user_agent[:500] or None,
            "request_id": acting.origin.request_id,
            "correlation_id": acting.origin.correlation_id,
            "event_name": event or past_tense(resource.segment, operation),
            "operation": operation,
        }

    def arguments(self, compiled: Any, acting: Asking, named: Mapping[str, Any] | None = None) -> list[Any]:
        """Return the arguments of a statement that no query belongs to."""
        return arguments_of(compiled, acting, (), named)


def _is_cut(query: Query, total: int | None) -> bool:
    """Whether a count was given up, so that the planner is to be asked."""
    shape = query.shape
    return (
        shape.count == "estimated" and shape.grouping is None and total is not None and total > ESTIMATE_LIMIT
    )


def _planned(record: Any) -> int:
    """Return the rows that a plan expects; more than were counted, since so many there are."""
    rows = wire.loads(record[0].encode())[0]["Plan"]["Plan Rows"]
    return max(int(rows), ESTIMATE_LIMIT + 1)
