"""`POST /api/{version}/batch`: operations over several resources, in one transaction.

In: an array, or `{"operations": […]}`, of `{"operation", "resource", "id", "version", "data"}`; a string
that is exactly `{{result[0].id}}` takes an earlier result. Out: the results in order. Each
operation is authorised, validated and served as if it had come alone; one refusal undoes all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, Final

from byodpp import wire
from byodpp.answering import answer_write, briefly, is_brief
from byodpp.aside import LARGE_BYTES, Aside, by_size
from byodpp.aside import aside as in_thread
from byodpp.batches.locking import Named, named_inside
from byodpp.controller import present
from byodpp.definitions import OPERATIONS, Kind, ResourceDefinition
from byodpp.exceptions import ApiError, Detail, PayloadTooLarge, Unauthenticated, ValidationFailed
from byodpp.judged_calls import at_index
from byodpp.logics import Reply
from byodpp.preconditions import refuse_tags
from byodpp.repository.answer_bound import AnswerBound
from byodpp.requests import Request
from byodpp.responses import Answer
from byodpp.rows import Page, Row, is_much
from byodpp.schemas import MOST_INSIDE, SCHEMA_OPERATIONS, row_version
from byodpp.service import Service
from byodpp.service.units import Unit
from byodpp.suggestion import nearest
from byodpp.templates import refers, resolve

__all__ = ["MAX_OPERATIONS", "OPERATION_KEYS", "MultiResourceBatch"]

#: Most operations of one request.
MAX_OPERATIONS: Final = 100
OPERATION_KEYS: Final = ("operation", "resource", "id", "version", "data", "params")
_MOST_PARAMS: Final = 100
#: Faults that an answer lists.
_MOST_FAULTS: Final = 100
#: Characters of a name that are shown.
_SHOWN: Final = 200
_KEYED: Final = frozenset({"read", "update", "patch", "delete"})
_KEYLESS: Final = frozenset({"list", "create"})
_CHANGING: Final = _KEYED - {"read"}


class MultiResourceBatch:
    """The handler of one API version."""

    def __init__(self, service: Service, version: str) -> None:
        self._service = service
        self._version = version

    async def __call__(self, request: Request) -> Answer:
        """Run all operations, or none."""
        if request.principal.anonymous:
            raise Unauthenticated
        refuse_tags(request.header(b"if-match"))
        operations = self._operations(request.json)

        # A later operation may take what an earlier one returned.
        keeps = not is_brief(request) or await request.aside(partial(refers, operations))

        async def work(unit: Unit) -> Answer:
            unit.answer = AnswerBound(keeps=keeps)
            results = await self._run(unit, operations, request.aside)
            shown = partial(present, request, results)
            return briefly(request, await in_thread(shown) if is_much(results) else shown())

        return await answer_write(self._service, request, work)

    async def _run(self, unit: Unit, operations: list[Mapping[str, Any]], aside: Aside) -> list[Any]:
        await self._refuse_many_inside(unit, operations)
        await self._lock(unit, operations)
        inside, schemas = 0, unit.parts.schemas
        results: list[Any] = []
        seen: list[Any] = []  # JSON values of the results, for the templates of later operations
        for index, raw in enumerate(operations):
            try:
                step = await aside(partial(resolve, raw, seen))
                # What a template stands for may be no operation; an unknown key is no row.
                _refuse_faults(_step_faults("", {**step, "id": 0}))
                resource = self._resource(step)
                params = self._params(step)
                data, version = step.get("data"), row_version(step.get("version"), "version")
                if resource.relations and step["operation"] in SCHEMA_OPERATIONS:
                    inside += await by_size(
                        partial(schemas.rows_inside, resource, step["operation"], data), data
                    )
                    if inside > MOST_INSIDE:
                        raise _too_many_inside()
                result = await unit.ask(resource, step["operation"], data, params, version=version)
                result = unit.answer.count(Reply.among_others(result), resource)
            except ApiError as error:
                raise at_index(error, index) from error
            results.append(result)
            seen.append(await _json_values(result))
        return results

    async def _refuse_many_inside(self, unit: Unit, operations: list[Mapping[str, Any]]) -> None:
        """Refuse more rows inside rows than a request may hold, before any of them is locked.

        What templates bring is counted when they are known.

        Raises:
            PayloadTooLarge: there are more.
        """
        inside, schemas = 0, unit.parts.schemas
        for index, step in enumerate(operations):
            resource = unit.parts.registry.find(step["resource"], self._version)
            if resource is not None and resource.relations and step["operation"] in SCHEMA_OPERATIONS:
                data = step.get("data")
                inside += await by_size(partial(schemas.rows_inside, resource, step["operation"], data), data)
                if inside > MOST_INSIDE:
                    raise at_index(_too_many_inside(), index)

    async def _lock(self, unit: Unit, operations: list[Mapping[str, Any]]) -> None:
        """Lock the rows that operations name and change, before the first of them runs.

        Rows that are told by templates are not known yet.
        """
        await unit.lock_named(self._named(unit, operations))

    def _named(self, unit: Unit, operations: list[Mapping[str, Any]]) -> Iterator[Named]:
        for step in operations:
            operation = step["operation"]
            resource = unit.parts.registry.find(step["resource"], self._version)
            if resource is not None and _changes_row(resource, operation):
                yield resource, operation, wire.whole(step.get("id")), None
                yield from named_inside(unit.parts.schemas, resource, operation, step.get("data"))

    def _operations(self, document: Any) -> list[Mapping[str, Any]]:
        if isinstance(document, dict) and set(document) == {"operations"}:
            document = document["operations"]
        if not isinstance(document, list):
            raise ValidationFailed(details=[Detail("operations", "type", "Must be an array of operations.")])
        if not document:
            raise ValidationFailed(
                details=[Detail("operations", "too_few", "At least one operation is needed.")]
            )
        if len(document) > MAX_OPERATIONS:
            raise PayloadTooLarge(f"A request holds at most {MAX_OPERATIONS} operations.")
        faults: list[Detail] = []
        for index, step in enumerate(document):
            faults += _step_faults(f"{index}.", step)
            if len(faults) >= _MOST_FAULTS:
                break
        _refuse_faults(faults)
        return document

    def _resource(self, step: Mapping[str, Any]) -> ResourceDefinition:
        registry = self._service.parts.registry
        found = registry.find(step["resource"], self._version) if isinstance(step["resource"], str) else None
        if found is None or not found.routed:
            names = [one.name for one in registry if one.routed and one.version == self._version]
            told = f"There is no such resource. {nearest(str(step['resource']), names, list_up_to=0)}".strip()
            raise ValidationFailed(details=[Detail("resource", "unknown_resource", told)])
        return found

    def _params(self, step: Mapping[str, Any]) -> dict[str, str]:
        params = {name: _text(value) for name, value in (step.get("params") or {}).items()}
        if "id" in step:
            params["id"] = _text(wire.whole(step["id"]))
        if step["operation"] in _KEYED and "id" not in params:
            raise ValidationFailed(details=[Detail("id", "required", "This operation names a row.")])
        if step["operation"] in _KEYLESS and "id" in params:
            told = f"{step['operation']} names no row; leave it out."
            raise ValidationFailed(details=[Detail("id", "unsupported", told)])
        return params


def _changes_row(resource: ResourceDefinition, operation: str) -> bool:
    """Whether an operation changes the row that it names; what a logic class does nobody knows before."""
    if resource.kind is not Kind.DATABASE:
        return False
    if operation in _CHANGING:
        return True
    action = next((one for one in resource.actions if one.key == operation), None)
    return action is not None and (action.transition is not None or action.restores)


def _refuse_faults(faults: list[Detail]) -> None:
    if faults:
        raise ValidationFailed(details=faults[:_MOST_FAULTS])


def _step_faults(prefix: str, step: Any) -> list[Detail]:
    """Return what is wrong with the form of an operation, before its templates are replaced or after."""
    if not isinstance(step, dict):
        return [Detail(prefix.rstrip("."), "type", "Must be an object.")]
    unknown = islice((name for name in step if name not in OPERATION_KEYS), _MOST_FAULTS)
    faults = [
        Detail(
            f"{prefix}{name[:_SHOWN]}",
            "unknown_field",
            f"Unknown field. {nearest(name, OPERATION_KEYS)}".strip(),
        )
        for name in unknown
    ]
    for name in ("operation", "resource"):
        if not isinstance(step.get(name), str):
            code = "type" if name in step else "required"
            faults.append(Detail(f"{prefix}{name}", code, "Must be text."))
    key = wire.whole(step.get("id", 0))
    if isinstance(key, bool) or not isinstance(key, str | int):
        faults.append(Detail(f"{prefix}id", "type", "Must be the key of a row."))
    if step.get("operation") == "batch":
        words = ", ".join(one for one in OPERATIONS if one != "batch")
        faults.append(Detail(f"{prefix}operation", "enum", f"Must be one of {words}, or an action's key."))
    params = step.get("params", {})
    if not isinstance(params, dict):
        faults.append(Detail(f"{prefix}params", "type", "Must be an object."))
    elif len(params) > _MOST_PARAMS:
        faults.append(Detail(f"{prefix}params", "too_many", f"At most {_MOST_PARAMS} parameters are read."))
    return faults


def _text(value: Any) -> str:
    return value if isinstance(value, str) else wire.dumps(value).decode()


async def _json_values(result: Any) -> Any:
    if not isinstance(result, Row | Page):
        return result
    read = partial(wire.loads, result.json)
    return await in_thread(read) if len(result.json) > LARGE_BYTES else read()


def _too_many_inside() -> PayloadTooLarge:
    return PayloadTooLarge(f"A request holds at most {MOST_INSIDE:,} rows inside rows.")
