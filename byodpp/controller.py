"""The controller: turns a request into a call, and what the service returns into an answer.

One controller serves all operations and actions of one resource. What reaches it is
authenticated, authorised and, where a schema decides, validated; it judges the query and the
preconditions. May reject: InvalidQuery, QueryTooComplex, InvalidHeader, PreconditionFailed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from byodpp import wire
from byodpp.answering import answer_write, briefly, is_brief, is_plain, origin_of
from byodpp.aside import aside, is_large
from byodpp.authentication import Principal
from byodpp.authorization.presets import Presets
from byodpp.batches import Batch, read_batch
from byodpp.batches.work import ItemOutcome
from byodpp.calls import Call
from byodpp.conditions import Query, Shape
from byodpp.database import is_retryable
from byodpp.definitions import READ_OPERATIONS, ActionDefinition, Kind, ResourceDefinition
from byodpp.exceptions import ApiError, Conflict, Detail, InvalidQuery, PayloadTooLarge, UniqueConflict
from byodpp.judged_calls import writing
from byodpp.logics import Reply
from byodpp.patches import apply_steps, fields_told, fields_written, put_below
from byodpp.preconditions import NEW_ROW, entity_tag, expected_versions, is_unchanged, refuse_tags
from byodpp.query.judge import judge
from byodpp.query.parameters import read_parameters
from byodpp.query.text import parse
from byodpp.repository.answer_bound import AnswerBound
from byodpp.requests import Request
from byodpp.responses import Answer, no_content, page, success
from byodpp.rows import Page, Row, Rows, is_much
from byodpp.schemas import MOST_INSIDE, LoadedBody
from byodpp.service import Service
from byodpp.service.units import Unit

__all__ = ["Controller", "present"]

#: Parameters of the versions of a row.
_PAGING: Final = ("limit", "offset", "page")
_STEPS: Final = "application/json-patch+json"
_SAFE: Final = frozenset({"GET", "HEAD"})


class Controller:
    """The operations of one resource, as handlers of requests."""

    def __init__(self, resource: ResourceDefinition, service: Service) -> None:
        self.resource = resource
        self._service = service
        self._reader = service.parts.store.reader
        self._authorizer = service.parts.authorizer
        self._schemas = service.parts.schemas

    def handler(self, operation: str) -> Callable[[Request], Awaitable[Answer]]:
        """Return the handler of one of the seven operations, or of a list whose query is a body."""
        handlers: Mapping[str, Callable[[Request], Awaitable[Answer]]] = {
            "list": self.list,
            "query": self.query,
            "create": self.create,
            "read": self.read,
            "update": self.update,
            "patch": self.patch,
            "delete": self.delete,
            "batch": self.batch,
        }
        return handlers[operation]

    async def list(self, request: Request) -> Answer:
        """GET the collection."""
        query = self._query(request, "list")
        if self._is_plain("list", query):
            result = await self._service.page(request.principal, self.resource, query)
            return present(request, result, message=self.resource.messages.get("list"))
        call = self._call(request, "list", query=query)
        return await self._answered(request, call, await self._service.run(call))

    async def query(self, request: Request) -> Answer:
        """POST …/query, or QUERY the collection: a list whose query is a JSON body."""
        self._refuse_query(request)
        lookup, tenant = (
            self._authorizer.lookup(request.principal, self.resource),
            request.principal.tenant_id,
        )
        asked = request.json
        judge = partial(self._reader.read_json, asked, self.resource, lookup, "list", tenant)
        query = await (aside if is_large(asked) else request.aside)(judge)
        call = self._call(request, "list", query=query)
        return await self._answered(request, call, await self._service.run(call))

    async def read(self, request: Request) -> Answer:
        """GET one row."""
        principal, reads = request.principal, self._service.row_reads
        standing = self._authorizer.standing(principal)
        read = reads.known(standing, self.resource, request.query_string)
        if read is None:
            query = self._query(request, "read")
            if not self._is_plain("read", query):
                return await self._run_read(request, query)
            read = self._service.row_read(principal, self.resource, query)
            reads.keep(read, standing, request.query_string)
        row = await self._service.read_row(read, principal, request.params["id"])
        return self._unchanged(request, row) or self._row(request, row)

    async def _run_read(self, request: Request, query: Query) -> Answer:
        """Read in which a logic class has a word, or which leaves a trace."""
        call = self._call(request, "read", query=query)
        result = await self._service.run(call)
        unchanged = self._unchanged(request, result) if isinstance(result, Row) else None
        return unchanged or await self._answered(request, call, result)

    async def history(self, request: Request) -> Answer:
        """GET the kept versions of one row."""
        raw = parse(request.query_string)
        strange = [name for name in (*raw.unknown, *raw.given) if name not in _PAGING]
        if strange:
            told = f"There are only {', '.join(_PAGING)} here."
            raise InvalidQuery(details=[Detail(name[:100], "unknown_parameter", told) for name in strange])
        lookup, registry = self._authorizer.lookup(request.principal), self._service.parts.registry
        query = judge(raw, self.resource, registry, lookup)
        return present(request, await self._service.versions(self._call(request, "read"), query))

    async def create(self, request: Request) -> Answer:
        """POST to the collection."""
        self._refuse_query(request)
        refuse_tags(request.header(b"if-match"), NEW_ROW)
        loaded: LoadedBody = request.validated
        if request.decision.fields is None:
            given = {"body": loaded.values, "sent": loaded.sent, "nested": loaded.nested}
            call = self._call(request, "create", **given)
        else:
            call = writing(self._call(request, "create"), loaded)
        return await self._write(request, call)

    async def update(self, request: Request) -> Answer:
        """PUT one row."""
        self._refuse_query(request)
        call = writing(self._call(request, "update"), request.validated)
        self._expect(call, request)
        try:
            return await self._write(request, call)
        except UniqueConflict:
            await self._service.require_as_stored(call)
            raise

    async def patch(self, request: Request) -> Answer:
        """PATCH one row: a merge patch, or the steps of a JSON Patch."""
        self._refuse_query(request)
        call = self._call(request, "patch")
        if request.media_type == _STEPS or self._schemas.needs_stored(self.resource, request.json):
            return await self._write(request, call, lambda unit: self._patch_stored(unit, call, request))
        loaded = await request.aside(partial(self.load, "patch", request.json, request.principal))
        call = writing(call, loaded)
        self._expect(call, request)
        return await self._write(request, call)

    async def _patch_stored(self, unit: Unit, call: Call, request: Request) -> Any:
        """Apply a patch whose meaning depends on what is stored, with the row locked meanwhile."""
        document = request.json
        if request.media_type == _STEPS and (inside := self._schemas.nestable(self.resource, "patch")):
            document = await request.aside(partial(put_below, request.json, inside))
        stored = await unit.locked(call, document)
        if request.media_type == _STEPS:
            return await self._apply_steps(unit, call, request, stored)
        presets = self._authorizer.presets(request.principal)
        load = partial(
            self._schemas.load, self.resource, "patch", request.json, stored=stored, presets=presets
        )
        return await self._execute_loaded(unit, call, request, load, stored)

    async def _apply_steps(self, unit: Unit, call: Call, request: Request, stored: Any) -> Any:
        told = request.json
        try:
            steps = partial(apply_steps, request.json, stored)
            try:
                # The steps leave whole values behind: merging those would bring back what was removed.
                document = await (aside if is_large(stored) else request.aside)(steps)
            except Conflict as error:
                told = told[: int(error.details[0].field) + 1]  # the last of them has failed
                raise
            load = partial(self.load, "patch", document, request.principal)
            result = await self._execute_loaded(unit, call, request, load, stored)
        except Exception as error:  # also what a class did not expect: it would not have run
            if not is_retryable(error):
                await self._note_told(unit, call, told)
            raise
        if not unit.answer.keeps and self.resource.id not in unit.shown:
            await self._note_told(unit, call, told)
        return result

    async def _execute_loaded(
        self, unit: Unit, call: Call, request: Request, load: Callable[[], Any], stored: Any
    ) -> Any:
        loaded = await (aside if is_large(stored) else request.aside)(load)
        call = writing(call, loaded)
        self._expect(call, request)
        return await unit.execute(call)

    async def _note_told(self, unit: Unit, call: Call, steps: Any) -> None:
        """Note the controlled fields of which steps tell something: the answer does not show them."""
        if fields := tuple(name for name in fields_told(steps) if name in self.resource.fields):
            trail, lookup = unit.trail, self._authorizer.lookup(unit.principal)
            keys = [call.params["id"]]
            await trail.shown(unit.principal, unit.origin, self.resource, Shape(fields=fields), lookup, keys)

    async def delete(self, request: Request) -> Answer:
        """DELETE one row."""
        self._refuse_query(request)
        call = self._call(request, "delete")
        self._expect(call, request)
        return await self._write(request, call)

    async def batch(self, request: Request) -> Answer:
        """POST many items."""
        self._refuse_query(request)
        refuse_tags(request.header(b"if-match"))
        call = self._call(request, "batch")
        presets = self._authorizer.presets(request.principal)
        load = partial(self._load_item, presets, self._schemas.creating(self.resource, presets))
        look = partial(self._service.require_rows, call)
        call.body = batch = await read_batch(request.json, load, self.resource, request.aside, look)
        if self.resource.relations and await request.aside(partial(self._rows_inside, batch)) > MOST_INSIDE:
            raise PayloadTooLarge(f"A request holds at most {MOST_INSIDE:,} rows inside rows.")
        return await self._write(request, call)

    def _rows_inside(self, batch: Batch) -> int:
        resource, count = self.resource, self._schemas.rows_inside
        whole = (one for one in batch.items if one.fault is None)
        return sum(count(resource, one.operation, one.document) for one in whole)

    def load(self, operation: str, document: Any, principal: Principal, *, prefix: str = "") -> LoadedBody:
        """Let the schema judge the body of an operation.

        Raises:
            ValidationFailed: with every fault.
        """
        presets = self._authorizer.presets(principal)
        return self._schemas.load(self.resource, operation, document, prefix=prefix, presets=presets)

    def action(self, action: ActionDefinition) -> Callable[[Request], Awaitable[Answer]]:
        """Return the handler of an action."""
        logic = self._service.parts.logics.get(self.resource, action.key)

        async def act(request: Request) -> Answer:
            query, own = None, logic.query if logic is not None else None
            parameters = read_parameters(request.query_string, own) if own is not None else {}
            if own is None and action.method in _SAFE:
                query = self._query(request, "list" if self.resource.fields else "read")
            elif own is None:
                self._refuse_query(request)
            call = self._call(request, action.key, query=query, parameters=parameters, body=request.validated)
            call.action = action
            # The tag of a deleted row cannot be read, so that restoring it never demands one.
            tagged = action.restores and (request.header(b"if-match") or "*").strip() != "*"
            if action.transition is not None or tagged:
                self._expect(call, request)
            elif action.is_a_class_on_a_row and self.resource.versioned:
                self._expect(call, request, asked=False)
            if action.method not in _SAFE:
                return await self._write(request, call)
            return await self._answered(request, call, await self._service.run(call))

        return act

    async def probe(self, request: Request) -> None:
        """Look for the row that a refused request names.

        Raises:
            NotFound: there is none that the caller may read.
            Forbidden: he may not do this to it.
        """
        try:
            document = request.json if request.body else None
        except ApiError:
            document = None  # which is what it is refused for
        if request.media_type == _STEPS:
            document = fields_written(document)
        await self._service.require_row(self._call(request, request.operation), document)

    async def _write(
        self, request: Request, call: Call, work: Callable[[Unit], Awaitable[Any]] | None = None
    ) -> Answer:
        """Run a call that writes, or the work that makes one of it, and answer it."""
        if work is None and is_plain(request) and self._service.is_single(call):
            return self._answer(request, call, await self._service.single(call))
        lone = work is None and self._service.is_lone(call)

        async def answered(unit: Unit) -> Answer:
            # A logic class may change its call, and there may be another try.
            own = call if lone else call.having()
            if is_brief(request):
                unit.answer = AnswerBound(keeps=False)
            result = await (unit.execute(own) if work is None else work(unit))
            return await self._answered(request, call, result)

        return await answer_write(self._service, request, answered, lone=lone)

    # --- in ---------------------------------------------------------------------------

    def _expect(self, call: Call, request: Request, *, asked: bool = True) -> None:
        """Let a call have the versions that its row must have one of.

        Args:
            call: that changes a row.
            request: names them.
            asked: False where none is ever required, and `If-None-Match` is somebody else's.
        """
        tags, unless = request.header(b"if-match"), request.header(b"if-none-match")
        if not asked and (tags or "*").strip() == "*":
            return
        versions = expected_versions(tags, unless if asked else None, self.resource)
        if versions:
            call.expected_version, call.or_versions = versions[0], versions[1:]

    def _call(self, request: Request, operation: str, **more: Any) -> Call:
        return Call(
            resource=self.resource,
            operation=operation,
            principal=request.principal,
            decision=request.decision,
            origin=origin_of(request),
            params=request.params,
            **more,
        )

    def _query(self, request: Request, mode: Any) -> Query:
        lookup = self._authorizer.lookup(request.principal, self.resource if mode == "list" else None)
        tenant = request.principal.tenant_id
        return self._reader.read(request.query_string, self.resource, lookup, mode, tenant)

    def _refuse_query(self, request: Request) -> None:
        if request.query_string:
            name = request.query_string.decode("latin-1").partition("=")[0][:100]
            raise InvalidQuery(
                details=[Detail(name, "unknown_parameter", "This operation takes no parameters.")]
            )

    def _load_item(
        self,
        presets: Presets,
        create: Callable[[Any, str], LoadedBody],
        operation: str,
        item: Any,
        prefix: str,
    ) -> LoadedBody:
        if operation == "create":
            return create(item, prefix.removesuffix("."))
        if operation == "patch" and self._schemas.needs_stored(self.resource, item):
            return LoadedBody(values={}, sent=frozenset(item))  # judged when its row is locked
        return self._schemas.load(
            self.resource, operation, item, prefix=prefix.removesuffix("."), presets=presets
        )

    # --- out --------------------------------------------------------------------------

    def _is_plain(self, operation: str, query: Query) -> bool:
        """Whether reading needs no call: no logic class has a word in it, and no trace is left."""
        parts = self._service.parts
        if parts.logics.get(self.resource, operation) is not None or self.resource.kind is Kind.LOGIC:
            return False
        return not parts.trail.watches(self.resource, query.shape)

    def _unchanged(self, request: Request, row: Row) -> Answer | None:
        """Return the answer to a client that has the row already."""
        known = request.header(b"if-none-match")
        if known is None or not is_unchanged(known, row.version):
            return None
        return Answer(status=304, headers={"ETag": entity_tag(row.version or 0)})

    def _row(self, request: Request, row: Row) -> Answer:
        """Return the answer that shows a row as PostgreSQL wrote it."""
        headers = {} if row.version is None else {"ETag": entity_tag(row.version)}
        return success(request, row.json, message=self.resource.messages.get("read"), headers=headers)

    async def _answered(self, request: Request, call: Call, result: Any) -> Answer:
        """Return the answer; what a class has made of large rows is written aside."""
        answer = partial(self._answer, request, call, result)
        return await aside(answer) if is_much(result) else answer()

    def _answer(self, request: Request, call: Call, result: Any) -> Answer:
        status = 201 if call.operation == "create" or _creates(call) else 200
        logic = self._service.parts.logics.get(self.resource, call.operation)
        if logic is not None and logic.status is not None:
            status = logic.status
        message = self.resource.messages.get(call.operation)
        outcomes = isinstance(result, list) and any(isinstance(one, ItemOutcome) for one in result)
        if outcomes and is_brief(request):
            result = [_without_data(one) for one in result]
        answer = present(request, result, status=status, message=message)
        if isinstance(result, Mapping):
            headers = dict(answer.headers)
            key = _key_of(result) if call.operation == "create" else None
            if key is not None:
                url = self.resource.crud_routes.get("read", f"{self.resource.base_url}/{{id}}")
                headers["Location"] = url.replace("{id}", str(key))
            version = _version_of(result, call)
            if version is not None:
                headers["ETag"] = entity_tag(version)
            answer.headers = headers
        reads = call.operation in READ_OPERATIONS or request.method in _SAFE
        return answer if reads else briefly(request, answer, outcomes=outcomes)


def present(request: Request, result: Any, *, status: int = 200, message: str | None = None) -> Answer:
    """Turn what a service or logic class returned into an answer."""
    if isinstance(result, Row):
        return success(request, result.json, status=status, message=message)
    if isinstance(result, Page):
        return page(
            request,
            result.json,
            total=result.total,
            limit=result.limit,
            offset=result.offset,
            next_cursor=result.next_cursor,
            message=message,
            meta={"partial": True} if result.partial else None,
        )
    if isinstance(result, Reply):
        return _reply(request, result)
    if result is None:
        return no_content()
    return success(request, _json(result), status=status, message=message)


def _json(result: Any) -> bytes:
    """Write rows as PostgreSQL wrote them, everything else by its type."""
    if isinstance(result, Row | Rows | Page):
        return result.json
    if isinstance(result, ItemOutcome):
        return _outcome(result)
    if isinstance(result, list | tuple):
        return b"[" + b",".join(_json(one) for one in result) + b"]"
    if isinstance(result, Mapping):
        return (
            b"{" + b",".join(wire.dumps(str(name)) + b":" + _json(one) for name, one in result.items()) + b"}"
        )
    return wire.dumps(result)


def _without_data(outcome: Any) -> Any:
    """Return what became of an item without its row; what a logic class has made of it stays as it is."""
    return replace(outcome, data=None) if isinstance(outcome, ItemOutcome) else outcome


def _outcome(outcome: ItemOutcome) -> bytes:
    error = outcome.error
    if error is None:
        data = b"null" if outcome.data is None else _json(outcome.data)
        done = b"" if outcome.operation is None else b',"operation":"%b"' % outcome.operation.encode()
        return b'{"index":%d,"success":true%b,"data":%b}' % (outcome.index, done, data)
    told = {
        "statusCode": error.status,
        "code": error.error_code,
        "message": error.message,
        "details": [{"field": one.field, "code": one.code, "message": one.message} for one in error.details],
    }
    return b'{"index":%d,"success":false,"error":%b}' % (outcome.index, wire.dumps(told))


def _reply(request: Request, reply: Reply) -> Answer:
    if reply.body is not None:
        return Answer(
            status=reply.status,
            headers=reply.headers,
            body=reply.body,
            media_type=reply.media_type,
            finite=reply.finite,
        )
    if reply.status == 204:
        return no_content(reply.headers)
    return success(
        request, _json(reply.data), status=reply.status, message=reply.message, headers=reply.headers
    )


def _version_of(result: Mapping[str, Any], call: Call) -> int | None:
    """Return the version of a row, also of one that a logic class has added to."""
    if isinstance(result, Row):
        return result.version
    version = result.get("version") if call.resource.versioned and call.action is None else None
    return version if isinstance(version, int) else None


def _key_of(result: Mapping[str, Any]) -> Any:
    """Return the key of a row, also of one that a logic class has added to; None when it has none."""
    key = result.key if isinstance(result, Row) else None
    return result.get("id") if key is None else key


def _creates(call: Call) -> bool:
    return call.operation == "batch" and call.body.operation == "create" and call.body.atomic
