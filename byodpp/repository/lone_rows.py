"""A row that is created or changed by one statement and nothing else: the short way from a call to its row.

In: a call that is one statement (`service.lone`). Out: the row, committed. Nothing is made for it that only
several statements of one transaction would share. May reject: what `Repository` rejects of the same, and
NeedsTransaction where that has more to find out, or when the rules have changed since the call was taken
for one statement; nothing was done then.
"""

from __future__ import annotations

from typing import Any

from byodpp.authorization import Authorizer
from byodpp.calls import Call
from byodpp.conditions import NOTHING, Visibility
from byodpp.database import Database, NeedsTransaction
from byodpp.definitions import ResourceDefinition
from byodpp.events import Event, emits, past_tense
from byodpp.exceptions import ApiError
from byodpp.repository.binding import bind
from byodpp.repository.constraint_errors import explained
from byodpp.repository.outcomes import refusal
from byodpp.repository.stores import Store
from byodpp.rows import Row
from byodpp.statements.writes import Change

__all__ = ["change_alone", "create_alone", "event_of", "shown", "told_of"]


async def create_alone(
    store: Store, database: Database, authorizer: Authorizer, call: Call, *, heard: bool
) -> tuple[Row, Row]:
    """Create the row of a call.

    Args:
        store: of the application.
        database: of the same.
        authorizer: says what the caller sees of the row.
        call: whose body a schema has judged, and which writes without second thoughts.
        heard: a handler wants the event that it is.

    Returns:
        The row as the caller sees it, and what the event holds of it.

    Raises:
        NeedsTransaction: the rules are no more those under which the call was looked at.
        UniqueConflict, ValidationFailed: as PostgreSQL's constraints have it.
    """
    principal, resource, values = call.principal, call.resource, call.body
    rules = authorizer.rules(principal.tenant_id).number
    await store.refuse_full(call, resource)
    machine = resource.states
    if machine is not None and machine.field not in values:
        values = {**values, machine.field: machine.initial}
    seal = store.sealed.sealing(resource, principal.tenant_id)
    columns = await bind(resource, values, store.ids.for_resource(resource), seal=seal)
    async with database.lone(principal.session) as transaction:
        if authorizer.rules(principal.tenant_id).number != rules:
            raise NeedsTransaction
        seen = authorizer.visibility(principal, resource) or Visibility(NOTHING, {})
        compiled = store.writes.insert(
            resource,
            tuple(sorted(columns)),
            seen,
            None,
            event="create" in resource.events,
            heard=heard,
            context_in_statement=not transaction.sets_context,
        )
        named = store.told(call, resource, "create")
        for column, value in columns.items():
            named[f"v_{column}"] = value
        try:
            record: Any = await transaction.fetchrow(compiled.sql, *store.arguments(compiled, call, named))
        except ApiError as error:
            raise explained(store.tables, error, resource) from error
    row = await shown(store, resource, record, record["id"])
    return row, told_of(store, resource, row, record)


async def change_alone(
    store: Store, database: Database, authorizer: Authorizer, call: Call, *, heard: bool
) -> tuple[Row, Row]:
    """Patch or replace the row of a call.

    Args:
        store: of the application.
        database: of the same.
        authorizer: says what the caller sees of the row.
        call: whose body a schema has judged, without modifiers and read-only values, and which writes
            without second thoughts.
        heard: a handler wants the event that it is.

    Returns:
        The row as the caller sees it, and what the event holds of it.

    Raises:
        NeedsTransaction: there is no such row to be changed, or the rules are no more the same.
        PreconditionFailed: it has another version than the expected one.
        UniqueConflict, ValidationFailed: as PostgreSQL's constraints have it.
    """
    principal, resource, values = call.principal, call.resource, call.body
    rules = authorizer.rules(principal.tenant_id).number
    key = store.key(resource, call.params["id"])
    if key is None:
        raise NeedsTransaction
    await store.refuse_full(call, resource)
    columns = await bind(resource, values, seal=store.sealed.sealing(resource, principal.tenant_id))
    async with database.lone(principal.session) as transaction:
        seen = authorizer.visibility(principal, resource)
        if seen is None or authorizer.rules(principal.tenant_id).number != rules:
            raise NeedsTransaction
        change = Change(
            kind="update",
            columns=tuple(sorted(columns)),
            visibility=seen,
            audited=resource.audit,
            event=emits(resource, call.operation),
            heard=heard,
            check_version=call.expected_version is not None,
        )
        compiled = store.writes.change(resource, change, context_in_statement=not transaction.sets_context)
        named = store.told(call, resource, call.operation)
        for column, value in columns.items():
            named[f"v_{column}"] = value
        named |= {"id": key, "expected_version": call.expected_version}
        try:
            record: Any = await transaction.fetchrow(compiled.sql, *store.arguments(compiled, call, named))
        except ApiError as error:
            raise explained(store.tables, error, resource) from error
        if record is None or record["permitted"] is None:
            raise NeedsTransaction  # why there is no row takes another look
        refused = refusal(resource, record, call.operation, call.expected_version, seen)
        if refused is not None:
            raise refused
    row = await shown(store, resource, record, call.params["id"])
    return row, told_of(store, resource, row, record)


def event_of(call: Call, row: Row, told: Row) -> Event:
    """Return the event that a call was.

    Args:
        call: that was carried out.
        row: that it has written.
        told: what the event holds of it.
    """
    key = row.get("id") if row.key is None else row.key
    return Event(
        name=past_tense(call.resource.segment, call.operation),
        data=told,
        tenant_id=call.principal.tenant_id,
        resource=call.resource.name,
        resource_id=None if key is None else str(key),
        request_id=call.origin.request_id,
        correlation_id=call.origin.correlation_id,
        actor_id=call.principal.user_id or None,
    )


async def shown(store: Store, resource: ResourceDefinition, record: Any, id: Any) -> Row:
    """Return a written row; only its key when the caller may not see it any more."""
    data, version = record["data"], record["new_version"]
    if data is None:
        return Row(None, resource, store.registry, values={"id": id})
    key = record["id"] if "id" in record else store.key(resource, id)
    json = await store.sealed.row(data.encode(), resource)
    return Row(json, resource, store.registry, version=version, key=key)


def told_of(store: Store, resource: ResourceDefinition, row: Row, record: Any) -> Row:
    """Return what an event holds of a written row, whoever has written it."""
    told = record["told"]
    return row if told is None else Row(told.encode(), resource, store.registry)
