"""The unit of work: what one transaction does, and what a logic class may use while it does it.

Made by `service` for each attempt of a transaction and thrown away with it. Runs calls (a batch
or a logic class may run several), collects the events they cause, and writes them with the
change they belong to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from byodpp import wire
from byodpp.authentication import Principal
from byodpp.authorization import Authorizer, Decision
from byodpp.batches import Batch, BatchItem
from byodpp.calls import Call, Origin
from byodpp.conditions import NOTHING
from byodpp.database import Transaction
from byodpp.definitions import READ_OPERATIONS, ResourceDefinition
from byodpp.events import Outbox
from byodpp.exceptions import (
    ApiError,
    Detail,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    PreconditionRequired,
)
from byodpp.ids import Ids
from byodpp.logics import LogicMap
from byodpp.registry import Registry
from byodpp.repository import Repositories, Repository
from byodpp.schemas import LoadedBody, SchemaMap
from byodpp.stores import Acting, Store, refuse_fields

__all__ = ["ItemOutcome", "Unit", "UnitParts", "at_index", "writing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitParts:
    """What lives as long as the application and every unit uses."""

    registry: Registry
    store: Store
    logics: LogicMap
    schemas: SchemaMap
    authorizer: Authorizer
    ids: Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutcome:
    """What became of one item of a batch that is not atomic."""

    index: int
    data: Any = None  # a Row, or what a logic class returned; None for a delete
    error: ApiError | None = None


class Unit:
    """One transaction's work for one caller."""

    def __init__(
        self, parts: UnitParts, transaction: Transaction, principal: Principal, origin: Origin
    ) -> None:
        self.parts = parts
        self.transaction = transaction
        self.principal = principal
        self.origin = origin
        self.outbox = Outbox()

    async def finish(self) -> None:
        """Write the events that no statement has written; the last thing before the commit."""
        pending = self.outbox.pending()
        if pending is not None:
            await self.transaction.execute(Outbox.INSERT, *pending)

    def repositories(self, version: str, *, system: bool = False, call: Call | None = None) -> Repositories:
        """Return the repositories of an API version, acting as the caller or for the tenant."""
        acting = Acting(
            transaction=self.transaction,
            principal=self.principal,
            origin=self.origin,
            outbox=self.outbox,
            authorizer=self.parts.authorizer,
            system=system,
            resource=call.resource if call else None,
            decision=call.decision if call else None,
        )
        return Repositories(self.parts.store, acting, version)

    # --- running calls ----------------------------------------------------------------

    async def execute(self, call: Call) -> Any:
        """Run a call through its logic class, or the generic operation when there is none."""
        logic = self.parts.logics.get(call.resource, call.operation)
        if logic is None:
            return await self.generic(call)
        return await logic(CallContext(self, call)).execute()

    async def generic(self, call: Call) -> Any:
        """Run the generic operation of a call whose body is validated."""
        repository = self.repositories(call.resource.version, call=call)[call.resource.name]
        key, version = call.params.get("id"), call.expected_version
        if call.action is not None:
            if call.action.transition is None:
                raise NotFound(f"{call.resource.name} has no generic {call.operation}.")
            return await repository.transition(key, call.action.transition.name, expected_version=version)
        match call.operation:
            case "list" if call.query is not None:
                return await repository.page(call.query)
            case "read":
                return await repository.row(key, call.query)
            case "create":
                return await repository.insert(call.body, sent=call.sent)
            case "update":
                return await repository.replace(
                    key, call.body, call.read_only, expected_version=version, sent=call.sent
                )
            case "patch":
                return await repository.change(key, call.body, expected_version=version, sent=call.sent)
            case "delete":
                return await repository.remove(key, expected_version=version)
            case "batch":
                return await self._batch(call, call.body)
        raise NotFound(f"{call.resource.name} has no {call.operation}.")

    async def default(self, call: Call) -> Any:
        """Run the generic operation for a logic class, whose changes to the body are judged first."""
        if call.operation in ("create", "update", "patch") and isinstance(call.body, Mapping):
            # What an update leaves out was filled in before, where the caller may write it.
            schema = "create" if call.operation == "create" else "patch"
            judged = self.parts.schemas.load_python(call.resource, schema, call.body)
            call = call.having(body=judged)
        return await self.generic(call)

    async def ask(
        self,
        resource: ResourceDefinition,
        operation: str,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        *,
        prefix: str = "",
    ) -> Any:
        """Run an operation that this transaction's caller asks for: authorised and validated like a request.

        Args:
            resource: whose.
            operation: one of the seven but batch, or an action's key.
            body: JSON values.
            params: of the path.
            prefix: path of the body in the request, for messages.

        Raises:
            ApiError: as the same request would.
        """
        action = next((one for one in resource.actions if one.key == operation), None)
        if action is None and operation not in resource.operations:
            raise MethodNotAllowed(f"{resource.name} has no {operation}.")
        decision = self.parts.authorizer.decide(self.principal, resource, operation)
        if not decision.allowed:
            raise Forbidden(f"You have no right to {operation} {resource.name}.")
        call = Call(
            resource=resource,
            operation=operation,
            principal=self.principal,
            decision=decision,
            origin=self.origin,
            params=params or {},
            action=action,
        )
        return await self.execute(_versioned(await self._with_body(call, body, prefix)))

    async def _with_body(self, call: Call, body: Any, prefix: str) -> Call:
        """Return the call with its body, or its query, judged."""
        schemas = self.parts.schemas
        if call.action is not None:
            logic = self.parts.logics.get(call.resource, call.operation)
            if logic is None or logic.input is None:
                return call
            document = {} if body is None else body
            return call.having(body=schemas.action(logic.input, document, prefix=prefix))
        if call.operation in READ_OPERATIONS:
            lookup = self.parts.authorizer.lookup(self.principal)
            mode: Literal["list", "read"] = "list" if call.operation == "list" else "read"
            asked, tenant = body if isinstance(body, dict) else {}, self.principal.tenant_id
            query = self.parts.store.reader.read_json(asked, call.resource, lookup, mode, tenant)
            return call.having(query=query)
        if call.operation == "delete":
            return call
        stored = None
        if call.operation == "patch" and schemas.needs_stored(call.resource, body):
            stored = await self.locked(call)
        loaded = schemas.load(call.resource, call.operation, body, prefix=prefix, stored=stored)
        return writing(call, loaded, prefix)

    async def locked(self, call: Call) -> Mapping[str, Any]:
        """Lock the row of a call until the end of the transaction and return its JSON values.

        Raises:
            NotFound: there is none that the caller may read.
        """
        repository = self.repositories(call.resource.version, call=call)[call.resource.name]
        await repository.lock(call.params["id"])
        row = await repository.row(call.params["id"])
        values: Mapping[str, Any] = wire.loads(row.json)
        return values

    # --- batches ----------------------------------------------------------------------

    async def _batch(self, call: Call, batch: Batch) -> list[Any]:
        if not batch.atomic:
            return [await self._alone(call, item) for item in batch.items]
        bulk = batch.operation == "create" and self.parts.logics.get(call.resource, "create") is None
        if bulk:
            return await self._bulk_create(call, batch)
        results = []
        for item in batch.items:
            try:
                results.append(await self._item(call, item))
            except ApiError as error:
                raise at_index(error, item.index) from error
        return results

    async def _bulk_create(self, call: Call, batch: Batch) -> list[Any]:
        """Insert all with one statement; when that fails, find the item that is to blame."""
        creating = self._item_call(call, "create")
        repository = self.repositories(call.resource.version, call=creating)[call.resource.name]
        for item in batch.items:
            refuse_fields(creating.decision, item.values.sent, str(item.index))
        position = self.outbox.mark()
        try:
            async with self.transaction.savepoint():
                values = [item.values.values for item in batch.items]
                sent = frozenset[str]().union(*(item.values.sent for item in batch.items))
                return list(await repository.insert_many(values, sent=sent))
        except ApiError as error:
            self.outbox.rewind(position)
            if len(batch.items) == 1 or error.retryable or error.status >= 500:
                raise
            if error.details and error.details[0].field[:1].isdigit():
                raise  # it names its items already
        results = []
        for item in batch.items:
            try:
                results.append(await repository.insert(item.values.values, sent=item.values.sent))
            except ApiError as error:
                raise at_index(error, item.index) from error
        return results

    async def _alone(self, call: Call, item: BatchItem) -> ItemOutcome:
        """Run one item so that its failure is its own."""
        if item.fault is not None:
            return ItemOutcome(index=item.index, error=item.fault)
        position = self.outbox.mark()
        try:
            async with self.transaction.savepoint():
                return ItemOutcome(index=item.index, data=await self._item(call, item))
        except ApiError as error:
            if error.retryable or error.status >= 500:
                raise
            self.outbox.rewind(position)
            return ItemOutcome(index=item.index, error=error)

    async def _item(self, call: Call, item: BatchItem) -> Any:
        params = {} if item.key is None else {"id": str(item.key)}
        single = self._item_call(call, item.operation).having(params=params)
        loaded, schemas = item.values, self.parts.schemas
        if item.operation == "patch" and schemas.needs_stored(call.resource, item.document):
            stored = await self.locked(single)
            loaded = schemas.load(call.resource, "patch", item.document, stored=stored)
        if loaded is not None:
            single = writing(single, loaded)
        return await self.execute(_versioned(single))

    def _item_call(self, call: Call, operation: str) -> Call:
        """Return the call of one item: the right to a batch is not the right to what it repeats."""
        decision = self.parts.authorizer.decide(self.principal, call.resource, operation)
        if not decision.allowed:
            raise Forbidden(f"You have no right to {operation} {call.resource.name}.")
        return call.having(operation=operation, decision=decision, body=None, params={}, action=None)


class CallContext:
    """What a logic class works with: one call inside its unit. Fulfils `logics.LogicContext`."""

    def __init__(self, unit: Unit, call: Call) -> None:
        self.call = call
        self._unit = unit
        self.ids = unit.parts.ids
        self.repositories = unit.repositories(call.resource.version, call=call)
        self.system = unit.repositories(call.resource.version, system=True)

    def emit(self, name: str, data: Any, *, resource_id: Any = None) -> None:
        """Tell that something happened."""
        self._repository().emit(name, data, resource_id)

    async def audit(self, action: str, resource_id: Any = None, changes: Any = None) -> None:
        """Write an audit entry in this transaction."""
        call, origin = self.call, self.call.origin
        await self.system["AuditLogs"].insert(
            {
                "action": action,
                "resourceType": call.resource.name,
                "resourceId": None if resource_id is None else str(resource_id),
                "userId": call.principal.user_id or None,
                "changes": changes,
                "ipAddress": origin.client_ip or None,
                "userAgent": origin.user_agent[:500] or None,
                "result": "success",
                "requestId": origin.request_id,
            }
        )

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[None]:
        """Let one transaction of this tenant at a time pass; freed by its end."""
        key = f"{self.call.principal.tenant_id}:{name}"
        await self._unit.transaction.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", key)
        yield

    def after_commit(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Run a callback once the change is certain."""
        self._unit.transaction.after_commit(callback)

    async def default(self, call: Call) -> Any:
        """Run the generic operation."""
        return await self._unit.default(call)

    async def perform(self, resource: str, operation: str, body: Any, params: Mapping[str, str]) -> Any:
        """Run another operation as the caller."""
        target = self._unit.parts.registry.get(resource, self.call.resource.version)
        return await self._unit.ask(target, operation, body, params)

    def _repository(self) -> Repository:
        return self.repositories[self.call.resource.name]


def writing(call: Call, loaded: LoadedBody, prefix: str = "") -> Call:
    """Return the call with a body that a schema has judged, as far as the caller may write it.

    To an update, a field that the caller may not write is like a read-only one: it may be sent
    as it is stored, and it keeps its value when it is left out.

    Raises:
        Forbidden: naming each field that the caller may write on no row.
    """
    rights: Decision = call.decision
    if rights.fields is None:
        sent = loaded.sent - loaded.read_only.keys()
        return call.having(body=loaded.values, read_only=loaded.read_only, sent=sent)
    if call.operation != "update":
        refuse_fields(rights, loaded.sent, prefix)
        return call.having(body=loaded.values, read_only=loaded.read_only, sent=loaded.sent)
    sent = frozenset(name for name in loaded.sent if rights.permits(name)) - loaded.read_only.keys()
    body = {
        name: value
        for name, value in loaded.values.items()
        if name in sent or rights.fields.get(name, NOTHING) is None
    }
    kept = {
        name: value
        for name, value in loaded.values.items()
        if name in loaded.sent and not rights.permits(name)
    }
    return call.having(body=body, read_only={**loaded.read_only, **kept}, sent=sent)


def _versioned(call: Call) -> Call:
    """Return the call with the version it expects, as far as its body names one.

    Raises:
        PreconditionRequired: the resource is written with a version only, and there is none.
    """
    writes = call.operation in ("update", "patch", "delete")
    if not call.resource.version_required or not (writes or (call.action and call.action.transition)):
        return call
    version = call.read_only.get("version")
    if version is None:
        raise PreconditionRequired(
            f"{call.resource.name} is written with a version only: send If-Match, or a whole row."
        )
    rest = {name: value for name, value in call.read_only.items() if name != "version"}
    return call.having(expected_version=version, read_only=rest)


def at_index(error: ApiError, index: int) -> ApiError:
    """Return the error with its details under the index of the item that caused it."""
    details = error.details or (Detail("", error.error_code, error.message),)
    error.details = tuple(replace(one, field=f"{index}.{one.field}".rstrip(".")) for one in details)
    return error
