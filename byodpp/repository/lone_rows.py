"""A row that is created by one statement and nothing else: the short way from a call to its row.

In: a call that is one statement (`service.lone`), of a resource whose rows nobody in this process waits
for. Out: the row, committed. Nothing is made for it that only several statements of one transaction would
share. May reject: what the same insert by `Repository` rejects, and NeedsTransaction when the rules have
changed since the call was taken for one statement; nothing was done then.
"""

from __future__ import annotations

from typing import Any

from byodpp.authorization import Authorizer
from byodpp.calls import Call
from byodpp.conditions import NOTHING, Visibility
from byodpp.database import Database, NeedsTransaction
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import ApiError
from byodpp.repository.binding import bind
from byodpp.repository.constraint_errors import explained
from byodpp.repository.stores import Store
from byodpp.rows import Row

__all__ = ["create_alone", "shown"]


async def create_alone(store: Store, database: Database, authorizer: Authorizer, call: Call) -> Row:
    """Create the row of a call.

    Args:
        store: of the application.
        database: of the same.
        authorizer: says what the caller sees of the row.
        call: whose body a schema has judged, and which writes without second thoughts.

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
            context_in_statement=not transaction.sets_context,
        )
        named = store.told(call, resource, "create")
        for column, value in columns.items():
            named[f"v_{column}"] = value
        try:
            record: Any = await transaction.fetchrow(compiled.sql, *store.arguments(compiled, call, named))
        except ApiError as error:
            raise explained(store.tables, error, resource) from error
    return await shown(store, resource, record, record["id"])


async def shown(store: Store, resource: ResourceDefinition, record: Any, id: Any) -> Row:
    """Return a written row; only its key when the caller may not see it any more."""
    data, version = record["data"], record["new_version"]
    if data is None:
        return Row(None, resource, store.registry, values={"id": id})
    key = record["id"] if "id" in record else store.key(resource, id)
    json = await store.sealed.row(data.encode(), resource)
    return Row(json, resource, store.registry, version=version, key=key)
