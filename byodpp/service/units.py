"""The unit of work: what one transaction does, and what a logic class may use while it does it.

Made by `service` for each attempt of a transaction and thrown away with it. Runs calls (a batch
or a logic class may run several), collects the events they cause, and writes them with the
change they belong to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from byodpp import wire
from byodpp.access_guide import AccessGuide
from byodpp.aside import LARGE_BYTES, aside, by_size
from byodpp.audit.notes import About
from byodpp.audit.readings import Readings
from byodpp.audit.said import Said
from byodpp.audit.trail import AuditTrail
from byodpp.authentication import ANONYMOUS, Principal
from byodpp.authentication.tenants import TenantDirectory
from byodpp.authorization import Authorizer, Decision
from byodpp.batches.locking import Named, leaves_keys, lock_in_order, named_by, named_inside
from byodpp.batches.rows_first import row_first
from byodpp.batches.work import BatchWork
from byodpp.calls import Call, Origin
from byodpp.conditions import Query, Shape
from byodpp.database import Transaction
from byodpp.definitions import READ_OPERATIONS, ActionDefinition, ResourceDefinition
from byodpp.dependents import Dependents
from byodpp.encryption import EncryptionKeys
from byodpp.events import Outbox
from byodpp.exceptions import (
    BadGateway,
    Detail,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    ValidationFailed,
)
from byodpp.idempotency import Right
from byodpp.identity import IdentityAdministration
from byodpp.ids import Ids
from byodpp.judged_calls import owned, refuse_input, versioned, writing
from byodpp.limits import CallMeter, Calls, PlatformFigures
from byodpp.logics import LogicMap
from byodpp.query.parameters import judge_parameters
from byodpp.registry import Registry
from byodpp.repository import Repositories, Repository
from byodpp.repository.acting import Acting
from byodpp.repository.answer_bound import AnswerBound
from byodpp.repository.stores import Store
from byodpp.rows import Row, Rows, opened
from byodpp.schemas import SchemaMap
from byodpp.service.cascades import Cascades, Deleting
from byodpp.service.modifiers import as_values
from byodpp.service.nested import NestedWork
from byodpp.service.secrets import UserSecrets
from byodpp.service.versions import require_version, settled

__all__ = ["ONE_ROW", "CallContext", "Unit", "UnitParts"]

#: Reads a row as it is.
ONE_ROW: Final = Query(shape=Shape())


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitParts:
    """What lives as long as the application and every unit uses."""

    registry: Registry
    store: Store
    logics: LogicMap
    schemas: SchemaMap
    authorizer: Authorizer
    ids: Ids
    trail: AuditTrail
    encryption: EncryptionKeys
    dependents: Dependents
    tenants: TenantDirectory
    guide: AccessGuide
    hears: Callable[[str], bool]  # whether a handler of this process wants an event of that name
    calls: CallMeter  # how many requests of a tenant were counted
    figures: Callable[[], Awaitable[PlatformFigures]]  # of the tenants of each class together
    identity: IdentityAdministration | None  # None: this process may make no realms and users


class Unit:
    """One transaction's work for one caller."""

    def __init__(
        self, parts: UnitParts, transaction: Transaction, principal: Principal, origin: Origin
    ) -> None:
        self.parts = parts
        self.transaction = transaction
        self.principal = principal
        self.origin = origin
        self.outbox = Outbox(parts.hears)
        self.trail = Readings(parts.trail)
        self._deleting = Deleting()
        self.rights: dict[Right, None] = {}  # that the caller has needed beside the right to the call
        self.answer = AnswerBound()  # for what is answered one by one
        # Keys of rows with controlled fields that the answer of a write shows, by resource.
        self.shown: dict[tuple[str, str], tuple[ResourceDefinition, list[Any]]] = {}
        self._locked_named = False  # once, before anything is written
        self._nested_written: set[int] = set()  # ids of `Call.nested` that need no second look

    async def finish(self) -> None:
        """Write the events that no statement has written; the last thing before the commit.

        Raises:
            ApiError: of a statement that failed, though somebody has caught it: nothing can be committed.
        """
        if self.transaction.failure is not None:
            raise self.transaction.failure
        pending = self.outbox.pending()
        if pending is not None:
            await self.transaction.execute(Outbox.INSERT, *pending)

    def repositories(self, version: str, *, system: bool = False, call: Call | None = None) -> Repositories:
        """Return the repositories of an API version, acting as the caller or for the tenant."""
        return Repositories(self.parts.store, self.acting(system=system, call=call), version)

    def acting(self, *, system: bool = False, call: Call | None = None) -> Acting:
        """Return who works on this transaction, and under whose rules."""
        return Acting(
            transaction=self.transaction,
            principal=self.principal,
            origin=self.origin,
            outbox=self.outbox,
            authorizer=self.parts.authorizer,
            trail=self.trail,
            system=system,
            resource=call.resource if call else None,
            decision=call.decision if call else None,
            cascades=Cascades(self, self._deleting),
        )

    def published(self, version: str) -> Repositories:
        """Return the repositories of what is public, of every tenant: as nobody in particular sees it.

        The statements name no tenant, and hold the public rules instead; row-level security shows the
        session's own rows and the published ones, so that nothing but the latter is left.
        """
        acting = Acting(
            transaction=self.transaction,
            principal=ANONYMOUS,
            origin=self.origin,
            outbox=self.outbox,
            authorizer=self.parts.authorizer,
            trail=self.trail,
        )
        return Repositories(self.parts.store, acting, version)

    async def audit(self, resource: str, action: str, resource_id: Any, changes: Any) -> None:
        """Write an audit entry in this transaction.

        Raises:
            ValueError: `action` or `resource_id` is longer than the trail's field.
        """
        trail = self.repositories("v1", system=True)["AuditLogs"]
        said = Said(resource=resource, action=action, key=resource_id, changes=changes)
        await trail.insert(said.entry(trail.resource, self.principal, self.origin))

    # --- running calls ----------------------------------------------------------------

    async def execute(self, call: Call) -> Any:
        """Run a call through its logic class, or the generic operation when there is none."""
        try:
            return await self._executed(call)
        except (Forbidden, NotFound) as error:
            error.about = error.about or (call.operation, call.resource, call.params.get("id"))
            raise

    async def _executed(self, call: Call) -> Any:
        if call.or_versions:
            call = await settled(self, call)
        if call.nested and "id" in call.params:
            await self.lock_named(named_by(call, self.parts.schemas))
        logic = self.parts.logics.get(call.resource, call.operation)
        if logic is None:
            return await self.generic(call)
        if call.operation == "patch":
            call = await as_values(self, call)
        if call.expected_version is not None and call.action is not None and call.action.is_a_class_on_a_row:
            await require_version(self, call)
        call = await owned(call)
        with self.answer.kept():
            result = await logic(CallContext(self, call)).execute()
        if call.nested and id(call.nested) not in self._nested_written:
            told = f"{call.operation} of {call.resource.name} writes no related rows."
            details = [Detail(one.relation.name, "unknown_field", told) for one in call.nested]
            raise ValidationFailed(details=details)
        return result

    async def generic(self, call: Call) -> Any:
        """Run the generic operation of a call whose body is validated."""
        repositories = self.repositories(call.resource.version, system=call.system, call=call)
        repository = repositories[call.resource.name]
        key, version = call.params.get("id"), call.expected_version
        if call.action is not None:
            if call.action.restores:
                return self.show(call, await repository.restore(key, expected_version=version))
            if call.action.transition is None:
                raise NotFound(f"{call.resource.name} has no generic {call.operation}.")
            row = await repository.transition(key, call.action.transition.name, expected_version=version)
            return self.show(call, row)
        match call.operation:
            case "list" if call.query is not None:
                query = self.trail.keyed(call.resource, call.query)
                return await self._noted(call, query, await repository.page(query))
            case "read":
                return await self._noted(call, call.query, await repository.row(key, call.query))
            case "create":
                row = await repository.insert(call.body, sent=call.sent)
                return await self._with_nested(call, row)
            case "update":
                row = await repository.replace(
                    key, call.body, call.read_only, expected_version=version, sent=call.sent
                )
                return await self._with_nested(call, self.show(call, row))
            case "patch":
                row = await repository.change(key, call.body, expected_version=version, sent=call.sent)
                return await self._with_nested(call, self.show(call, row))
            case "delete":
                return await repository.remove(key, expected_version=version)
            case "batch":
                return await BatchWork(self).run(call, call.body)
        raise NotFound(f"{call.resource.name} has no {call.operation}.")

    def show(self, call: Call, row: Row) -> Row:
        """Return a row that was there before the write which shows it: that reads its controlled fields."""
        resource, fields = call.resource, call.resource.fields
        compared = any(name in fields and fields[name].controlled for name in call.read_only)
        if (self.answer.keeps or compared) and self.trail.watches(resource, ONE_ROW.shape):
            _, keys = self.shown.setdefault(resource.id, (resource, []))
            keys.append(row["id"] if row.key is None else row.key)
        return row

    async def _noted(self, call: Call, query: Query | None, result: Any) -> Any:
        """Return what was read, once it is noted if it holds controlled fields."""
        shape, trail = (query or ONE_ROW).shape, self.trail
        if trail.watches(call.resource, shape):
            about = About(operation=call.operation, resource=call.resource, key=call.params.get("id"))
            listed = call.resource if call.operation == "list" else None
            lookup = self.parts.authorizer.lookup(call.principal, listed)
            await trail.read(call.principal, call.origin, about, shape, lookup, result)
        return result

    async def _with_nested(self, call: Call, row: Row) -> Row:
        """Write the related rows that came with a row; return it with them."""
        if not call.nested:
            return row
        self._nested_written.add(id(call.nested))
        whole = await NestedWork(self, call).write(row)
        repository = self.repositories(call.resource.version, system=call.system, call=call)
        await repository[call.resource.name].judge_with(row["id"], call.operation, call.sent)
        return whole

    async def default(self, call: Call) -> Any:
        """Run the generic operation for a logic class, whose changes to the body are judged first."""
        if call.operation in ("create", "update", "patch") and isinstance(call.body, Mapping):
            # What an update leaves out was filled in before, where the caller may write it.
            schema = "create" if call.operation == "create" else "patch"
            judge = partial(self.parts.schemas.load_python, call.resource, schema, call.body)
            judged = await by_size(judge, *call.body.values())
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
        version: int | None = None,
    ) -> Any:
        """Run an operation that this transaction's caller asks for: authorised and validated like a request.

        Args:
            resource: whose.
            operation: one of the seven but batch, or an action's key.
            body: JSON values.
            params: of the path; of an action that has parameters of its own, these as well.
            prefix: path of the body in the request, for messages.
            version: that the row must have; None is any.

        Raises:
            ApiError: as the same request would.
        """
        action = next((one for one in resource.actions if one.key == operation), None)
        if action is None and operation not in resource.operations:
            raise MethodNotAllowed(f"{resource.name} has no {operation[:100]}.")
        decision = self.decided(resource, operation, (params or {}).get("id"))
        call = Call(
            resource=resource,
            operation=operation,
            principal=self.principal,
            decision=decision,
            origin=self.origin,
            params=params or {},
            action=action,
            expected_version=version,
        )
        async with row_first(self, call, body):
            if version is not None:
                _refuse_version(resource, operation, action)
            return await self.execute(versioned(await self._with_body(call, body, prefix)))

    def decided(self, resource: ResourceDefinition, operation: str, key: str | None = None) -> Decision:
        """Return on which rows and fields the caller may do something.

        Args:
            resource: whose.
            operation: one of the seven, or an action's key.
            key: of the row that it is about, for the audit trail.

        Raises:
            Forbidden: on none.
        """
        decision = self.parts.authorizer.decide(self.principal, resource, operation)
        if not decision.allowed:
            refusal = Forbidden(f"You have no right to {operation} {resource.name}.")
            refusal.about = (operation, resource, key)
            raise refusal
        self.rights[(*resource.id, operation)] = None
        return decision

    def require(self, rights: Iterable[Right]) -> None:
        """Refuse what the caller may not do any more.

        Raises:
            Forbidden: naming the first such right.
        """
        for version, name, operation in rights:
            resource = self.parts.registry.find(name, version)
            if resource is None:
                raise Forbidden(f"You have no right to {operation} {name}.")
            self.decided(resource, operation)

    async def _with_body(self, call: Call, body: Any, prefix: str) -> Call:
        """Return the call with its body, or its query, judged."""
        schemas = self.parts.schemas
        if call.action is not None:
            logic = self.parts.logics.get(call.resource, call.operation)
            if logic is not None and logic.query is not None:
                own = [
                    (name, text) for name, text in call.params.items() if f"{{{name}}}" not in call.action.url
                ]
                call = call.having(parameters=judge_parameters(own, logic.query))
            if logic is None or logic.input is None:
                refuse_input(body)
                return call
            document = {} if body is None else body
            judge = partial(schemas.action, logic.input, document, prefix=prefix)
            return call.having(body=await by_size(judge, document))
        if call.operation in READ_OPERATIONS:
            mode: Literal["list", "read"] = "list" if call.operation == "list" else "read"
            listed = call.resource if mode == "list" else None
            if body is not None and not isinstance(body, dict):
                raise ValidationFailed(details=[Detail("data", "type", "Must be a query, an object.")])
            lookup = self.parts.authorizer.lookup(self.principal, listed)
            read_json, tenant = self.parts.store.reader.read_json, self.principal.tenant_id
            query = await by_size(partial(read_json, body or {}, call.resource, lookup, mode, tenant), body)
            return call.having(query=query)
        if call.operation == "delete":
            refuse_input(body)
            return call
        stored = None
        if call.operation == "patch" and schemas.needs_stored(call.resource, body):
            stored = await self.locked(call, body)
        presets = self.parts.authorizer.presets(self.principal)
        load = partial(schemas.load, call.resource, call.operation, body)
        loaded = await by_size(partial(load, prefix=prefix, stored=stored, presets=presets), body, stored)
        return writing(call, loaded, prefix)

    async def lock_named(self, rows: Iterable[Named]) -> None:
        """Lock the rows that the request names, unless it has done so: once, before it writes any."""
        if not self._locked_named:
            self._locked_named = True
            await lock_in_order(self, rows)

    async def locked(self, call: Call, document: Any) -> Mapping[str, Any]:
        """Lock the row of a call until the end of the transaction and return its JSON values.

        Args:
            call: of a patch.
            document: its body as a merge patch, whose rows inside are locked, too.

        Raises:
            NotFound: there is none that the caller may read.
            Forbidden: he may do this to rows, but not to this one.
            ValidationFailed: there are too many rows inside.
        """
        schemas, key = self.parts.schemas, call.params["id"]
        repository = self.repositories(call.resource.version, call=call)[call.resource.name]
        try:
            schemas.refuse_many_inside(call.resource, call.operation, document)
        except ValidationFailed:
            await repository.row(key)  # what is not there is told first
            raise
        named = named_inside(schemas, call.resource, call.operation, document)
        await self.lock_named(((call.resource, call.operation, key, None), *named))
        weak = leaves_keys(self.parts, call.resource, call.operation)
        row = await repository.locked(key, leaves_keys=weak)
        if self.parts.logics.get(call.resource, call.operation) is None:
            await repository.refuse_barred(key, call.operation)
        read = partial(wire.loads, row.json)
        values: Mapping[str, Any] = await aside(read) if len(row.json) > LARGE_BYTES else read()
        return values


def _refuse_version(resource: ResourceDefinition, operation: str, action: ActionDefinition | None) -> None:
    """Refuse an expected version where none is compared.

    Raises:
        ValidationFailed: the operation changes no row that is there.
        PreconditionFailed: the rows have no versions.
    """
    changes = action is not None and action.on_a_row
    if not changes and operation not in ("update", "patch", "delete"):
        told = f"{operation[:100]} depends on no version; leave it out."
        raise ValidationFailed(details=[Detail("version", "unsupported", told)])
    if not resource.versioned:
        raise PreconditionFailed(f"Rows of {resource.name} have no versions.")


class CallContext:
    """What a logic class works with: one call inside its unit. Fulfils `logics.LogicContext`."""

    def __init__(self, unit: Unit, call: Call) -> None:
        self.call = call
        self._unit = unit
        self.ids = unit.parts.ids
        self.tenants = unit.parts.tenants
        self.transaction = unit.transaction
        self.secrets = UserSecrets(unit, call.resource.version)
        self.access = unit.parts.guide
        self.repositories = unit.repositories(call.resource.version, call=call)
        self.system = unit.repositories(call.resource.version, system=True)
        self.published = unit.published(call.resource.version)

    @property
    def identity(self) -> IdentityAdministration:
        """The right to make realms and users.

        Raises:
            BadGateway: there is none.
        """
        found = self._unit.parts.identity
        if found is None:
            raise BadGateway("This server has no right to make realms and users: keycloak_admin_secret")
        return found

    async def calls(self) -> tuple[Calls, ...]:
        """Return how many requests of the tenant were counted."""
        return await self._unit.parts.calls.of(self._unit.principal.tenant)

    async def figures(self) -> PlatformFigures:
        """Return what the tenants of each class are together."""
        return await self._unit.parts.figures()

    def emit(self, name: str, data: Any, *, resource_id: Any = None) -> None:
        """Tell that something happened."""
        self._repository().emit(name, data, resource_id)

    async def audit(self, action: str, resource_id: Any = None, changes: Any = None) -> None:
        """Write an audit entry in this transaction."""
        await self._unit.audit(self.call.resource.name, action, resource_id, changes)

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
        """Run the generic operation; rows that came in one piece are a list, as any others."""
        result = await opened(await self._unit.default(call))
        return list(result) if isinstance(result, Rows) else result

    async def perform(self, resource: str, operation: str, body: Any, params: Mapping[str, str]) -> Any:
        """Run another operation as the caller."""
        target = self._unit.parts.registry.get(resource, self.call.resource.version)
        return await self._unit.ask(target, operation, body, params)

    def _repository(self) -> Repository:
        return self.repositories[self.call.resource.name]
