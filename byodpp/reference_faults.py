"""All faults of a body at once, those that only the database knows as well.

What a schema refuses never reaches the database, and of references that lead to nothing that tells one at
a time. In: a request whose body was refused, and why. Out: nothing, or the refusal anew (ValidationFailed)
with the references that lead to nothing the caller may read, worded as ever; also those of rows inside
rows, of a JSON Patch, and of the operation of several that was refused. A body that is in order costs no
look; one that a class judges is not looked at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from byodpp.answering import origin_of
from byodpp.definitions import Kind, ResourceDefinition
from byodpp.exceptions import Detail, NotFound, ValidationFailed
from byodpp.repository.references import missing_references
from byodpp.requests import Request
from byodpp.schemas.faults import join_path, refuse
from byodpp.schemas.keys import REFERENCE
from byodpp.schemas.nested import MAX_NESTING, REPLACE, nestable
from byodpp.service import Service
from byodpp.service.units import Unit

__all__ = ["Complete", "ReferenceFaults", "StepFaults"]

#: Raises the refusal of a request's body anew, if more is wrong in it.
Complete: TypeAlias = Callable[[Request, ValidationFailed], Awaitable[object]]

_OPERATIONS: Final = frozenset({"create", "update", "patch", "batch"})
#: Steps of several after which a row is still what everybody finds.
_HARMLESS: Final = frozenset({"create", "read", "list"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """A row that a body brings."""

    path: str
    resource: ResourceDefinition
    row: Mapping[str, Any]
    filled: str = ""  # a reference that is filled in: to the row around it
    key: str | None = None  # of the row that is changed by it


class _Looking:
    """Looks for the references of bodies."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._parts = service.parts

    def concerns(self, resource: ResourceDefinition, operation: str) -> bool:
        """Whether the body of an operation may refer to rows, and no class judges it."""
        if resource.kind is not Kind.DATABASE or self._parts.logics.get(resource, operation) is not None:
            return False
        return bool(self.names(resource)) or bool(nestable(resource, self._parts.registry))

    def names(self, resource: ResourceDefinition) -> list[str]:
        """Return the references that a body may bring."""
        found = self._parts.registry.references(resource)
        return [name for name, _ in found if not resource.fields[name].read_only]

    def inside(self, sent: _Sent, operation: str, depth: int = MAX_NESTING) -> Iterator[_Sent]:
        """Yield a row, and the new ones inside it."""
        yield sent
        inside = self._parts.schemas.nestable(sent.resource, operation) if depth else {}
        for name, target in inside.items():
            items = _listed(sent.row.get(name))
            if not isinstance(items, list) or self._parts.logics.get(target, "create") is not None:
                continue
            filled, path = sent.resource.relations[name].foreign_field, join_path(sent.path, name)
            for index, item in enumerate(items):
                if isinstance(item, Mapping) and "id" not in item:
                    new = _Sent(path=f"{path}.{index}", resource=target, row=item, filled=filled)
                    yield from self.inside(new, "create", depth - 1)

    async def complete(
        self, request: Request, error: ValidationFailed, root: Any, rows: Sequence[_Sent]
    ) -> None:
        """Refuse a body anew where references in it lead to nothing of which the error does not tell.

        Args:
            request: that was refused.
            error: why.
            root: the body as the paths of faults go through it.
            rows: that it brings.

        Raises:
            ValidationFailed: with all faults, in the order of the body.
        """
        told = {detail.field for detail in error.details}
        wanted: dict[tuple[str, str], list[tuple[_Sent, dict[str, Any]]]] = {}
        for sent in rows:
            names = (one for one in self.names(sent.resource) if one != sent.filled)
            found = {name: sent.row[name] for name in names if _stands(sent, name, told)}
            if found:
                wanted.setdefault(sent.resource.id, []).append((sent, found))
        if not wanted:
            return

        async def look(unit: Unit) -> list[str]:
            return [path for group in wanted.values() for path in await self._missing(unit, group)]

        try:
            missing = await self._service.together(request.principal, origin_of(request), look, commit=False)
        except NotFound:
            return  # the row went meanwhile; the refusal of its body stands
        if missing:
            also = [Detail(path, "reference", REFERENCE) for path in missing]
            raise refuse(_ordered([*error.details, *also], root), error.unlisted) from error

    async def _missing(self, unit: Unit, group: Sequence[tuple[_Sent, dict[str, Any]]]) -> list[str]:
        """Return the paths of references, of rows of one resource, that lead to nothing."""
        resource, key = group[0][0].resource, group[0][0].key
        acting, standing = unit.acting(), None
        if key is not None:
            standing = await unit.repositories(resource.version)[resource.name].row(key)
        found = [references for _, references in group]
        missing = await missing_references(unit.parts.store, acting, resource, found, standing)
        return [join_path(group[at][0].path, name) for at, name in missing]


class ReferenceFaults:
    """Completes the refusals of bodies that are rows of one resource."""

    def __init__(self, resource: ResourceDefinition, service: Service) -> None:
        self._resource = resource
        self._looking = _Looking(service)

    def of(self, operation: str) -> Complete | None:
        """Return what completes refusals; None: such bodies refer to nothing, or a class judges them."""
        judged = ("batch", "create") if operation == "batch" else (operation,)
        if operation not in _OPERATIONS or not all(
            self._looking.concerns(self._resource, one) for one in judged
        ):
            return None
        return partial(self._complete, operation)

    async def _complete(self, operation: str, request: Request, error: ValidationFailed) -> None:
        body, key, looking = request.json, request.params.get("id"), self._looking
        if operation == "batch":
            body, operation = _items(body), "create"
            rows = [(str(place), one) for place, one in enumerate(body) if isinstance(one, Mapping)]
        else:
            if operation == "patch" and isinstance(body, list):
                body = _stepped(body, looking.names(self._resource))
            rows = [("", body)] if isinstance(body, Mapping) else []
        sent = (_Sent(path=path, resource=self._resource, row=row, key=key) for path, row in rows)
        found = [inner for one in sent for inner in looking.inside(one, operation)]
        await looking.complete(request, error, body, found)


class StepFaults:
    """Completes the refusals of operations over several resources."""

    def __init__(self, service: Service, version: str) -> None:
        self._registry = service.parts.registry
        self._version = version
        self._looking = _Looking(service)

    async def __call__(self, request: Request, error: ValidationFailed) -> None:
        """Look for the references of the operation that was refused.

        Raises:
            ValidationFailed: some lead to nothing of which the error does not tell.
        """
        steps = _steps(request.json)
        place = error.details[0].field.partition(".")[0] if error.details else ""
        if not place.isdecimal() or int(place) >= len(steps):
            return
        at = int(place)
        if any(_operation(one) not in _HARMLESS for one in steps[:at]):
            return
        step, operation = steps[at], _operation(steps[at])
        resource, row = self._resource(step), step.get("data") if operation else None
        if resource is None or operation not in _OPERATIONS - {"batch"} or not isinstance(row, Mapping):
            return
        if not self._looking.concerns(resource, operation):
            return
        key = step.get("id")
        sent = _Sent(path=place, resource=resource, row=row, key=None if key is None else str(key))
        root = [one.get("data") if isinstance(one, Mapping) else None for one in steps]
        await self._looking.complete(request, error, root, list(self._looking.inside(sent, operation)))

    def _resource(self, step: Any) -> ResourceDefinition | None:
        name = step.get("resource") if isinstance(step, Mapping) else None
        return self._registry.find(name, self._version) if isinstance(name, str) else None


def _steps(body: Any) -> list[Any]:
    """Return the operations of a body that may be none."""
    found = body.get("operations") if isinstance(body, Mapping) else body
    return found if isinstance(found, list) else []


def _operation(step: Any) -> str:
    """Return the word of an operation, empty where it is none."""
    word = step.get("operation") if isinstance(step, Mapping) else None
    return word if isinstance(word, str) else ""


def _items(body: Any) -> list[Any]:
    """Return what a batch is to create."""
    if isinstance(body, Mapping) and body.get("operation") == "create":
        body = body.get("items")
    return body if isinstance(body, list) else []


def _listed(value: Any) -> Any:
    """Return the rows of a relation, whether they replace others or not."""
    return value[REPLACE] if isinstance(value, Mapping) and set(value) == {REPLACE} else value


def _stepped(steps: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the references that a JSON Patch sets and does nothing else with."""
    found: dict[str, Any] = {}
    for step in steps:
        if not isinstance(step, Mapping):
            continue
        path = step.get("path")
        for name in names:
            pointers = (path, step.get("from"))
            if path == f"/{name}" and step.get("op") in ("add", "replace"):
                found[name] = step.get("value")
            elif f"/{name}" in pointers and step.get("op") != "test":
                found.pop(name, None)
    return found


def _stands(sent: _Sent, name: str, told: Collection[str]) -> bool:
    """Whether a row has a reference that no schema has refused."""
    value = sent.row.get(name)
    return isinstance(value, (int, str)) and value is not True and join_path(sent.path, name) not in told


def _ordered(details: Sequence[Detail], root: Any) -> list[Detail]:
    """Return faults in the order of the body: by row, then by member; what is missing comes last."""
    members: dict[int, dict[str, int]] = {}

    def place(detail: Detail) -> list[int]:
        found, at = [], root
        for step in detail.field.split("."):
            if isinstance(at, Mapping):
                known = members.setdefault(id(at), {name: number for number, name in enumerate(at)})
                found.append(known.get(step, len(known)))
                at = _listed(at.get(step))
            elif isinstance(at, list) and step.isdecimal():
                found.append(int(step))
                at = at[int(step)] if int(step) < len(at) else None
            else:
                break
        return found

    return sorted(details, key=place)
