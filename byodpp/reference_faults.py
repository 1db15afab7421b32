"""All faults of a body at once, those that only the database knows as well.

What a schema refuses never reaches the database, and of references that lead to nothing that tells one at
a time. In: a request whose body was refused, and why. Out: nothing, or the refusal anew (ValidationFailed)
with the references that lead to nothing the caller may read, worded as ever. A body that is in order costs
no look; one of an action, a JSON Patch, or operations over several resources is not looked at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from byodpp.answering import origin_of
from byodpp.calls import Call
from byodpp.definitions import Kind, ResourceDefinition
from byodpp.exceptions import Detail, NotFound, ValidationFailed
from byodpp.repository.references import missing_references
from byodpp.requests import Request
from byodpp.schemas.faults import join_path, refuse
from byodpp.schemas.keys import REFERENCE
from byodpp.service import Service
from byodpp.service.units import Unit

__all__ = ["Complete", "ReferenceFaults"]

#: Raises the refusal of a request's body anew, if more is wrong in it.
Complete: TypeAlias = Callable[[Request, ValidationFailed], Awaitable[object]]

_OPERATIONS: Final = frozenset({"create", "update", "patch", "batch"})


class ReferenceFaults:
    """Completes the refusals of bodies that are rows of one resource."""

    def __init__(self, resource: ResourceDefinition, service: Service) -> None:
        self._resource = resource
        self._service = service
        references = service.parts.registry.references(resource)
        self._names = tuple(name for name, _ in references if not resource.fields[name].read_only)

    def of(self, operation: str) -> Complete | None:
        """Return what completes refusals; None: such bodies refer to nothing, or a class judges them."""
        logics, resource = self._service.parts.logics, self._resource
        judged = ("create", "batch") if operation == "batch" else (operation,)
        if operation not in _OPERATIONS or resource.kind is not Kind.DATABASE or not self._names:
            return None
        if any(logics.get(resource, one) is not None for one in judged):
            return None
        return partial(self._complete, operation == "batch")

    async def _complete(self, batch: bool, request: Request, error: ValidationFailed) -> None:
        """Refuse a body anew where references in it lead to nothing of which the error does not tell.

        Raises:
            ValidationFailed: with all faults, in the order of the body.
        """
        told = {detail.field for detail in error.details}
        bodies = dict(_rows(request.json, batch))
        rows = {
            path: found
            for path, row in bodies.items()
            if (found := {name: row[name] for name in self._names if _stands(row, path, name, told)})
        }
        if not rows:
            return
        call = Call(
            resource=self._resource,
            operation="read",
            principal=request.principal,
            decision=request.decision,
            origin=origin_of(request),
            params=request.params,
        )

        async def look(unit: Unit) -> list[tuple[int, str]]:
            standing, key = None, call.params.get("id")
            if key is not None:
                repository = unit.repositories(self._resource.version, call=call)[self._resource.name]
                standing = await repository.row(key)
            acting = unit.acting(call=call)
            return await missing_references(
                unit.parts.store, acting, self._resource, list(rows.values()), standing
            )

        try:
            missing = await self._service.together(call.principal, call.origin, look, commit=False)
        except NotFound:
            return  # the row went meanwhile; the refusal of its body stands
        if missing:
            paths = list(rows)
            also = [Detail(join_path(paths[at], name), "reference", REFERENCE) for at, name in missing]
            raise refuse(_ordered([*error.details, *also], bodies), error.unlisted) from error


def _rows(body: Any, batch: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each row that a body brings, and its path; of a batch, those that are to be created."""
    if not batch:
        yield from [("", body)] if isinstance(body, Mapping) else ()
        return
    if isinstance(body, Mapping) and body.get("operation") == "create":
        body = body.get("items")
    if isinstance(body, list):
        yield from ((str(place), one) for place, one in enumerate(body) if isinstance(one, Mapping))


def _stands(row: Mapping[str, Any], path: str, name: str, told: Collection[str]) -> bool:
    """Whether a row has a reference that no schema has refused."""
    value = row.get(name)
    return isinstance(value, (int, str)) and value is not True and join_path(path, name) not in told


def _ordered(details: Sequence[Detail], bodies: Mapping[str, Mapping[str, Any]]) -> list[Detail]:
    """Return faults in the order of the body: by row, then by member; what is missing comes last."""
    rows = {path: {name: at for at, name in enumerate(row)} for path, row in bodies.items()}

    def place(detail: Detail) -> tuple[int, int]:
        first, _, rest = detail.field.partition(".")
        if "" in rows:
            return 0, rows[""].get(first, len(rows[""]))
        members = rows.get(first, {})
        return int(first) if first.isdecimal() else -1, members.get(rest.partition(".")[0], len(members))

    return sorted(details, key=place)
