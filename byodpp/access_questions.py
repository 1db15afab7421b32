"""Questions about who may do what: their names looked up.

In: a question in the words in which people write it. Out: the resource, the operation, and the row that it
is about. May reject: ValidationFailed (it names what does not exist, or goes together with nothing).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from byodpp.authorization.policies import operation_keys
from byodpp.definitions import Kind, ResourceDefinition
from byodpp.exceptions import ApiError, Detail, ValidationFailed
from byodpp.registry import Registry
from byodpp.suggestion import nearest

__all__ = ["Asked", "FindRoute", "FoundRoute", "Question", "Questions"]

#: What a request is of that names no version.
_DEFAULT_VERSION: Final = "v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRoute:
    """What an address leads to."""

    resource: ResourceDefinition
    operation: str
    id: str | None  # of the row that the address names


#: Finds what a method and a path lead to; None: no operation of a resource.
FindRoute = Callable[[str, str], FoundRoute | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """May somebody do something? Empty is not said."""

    resource: str = ""
    operation: str = ""
    route: str = ""  # `DELETE /api/v1/products/3`, in place of resource, operation and id
    version: str = ""  # of the API; v1 when not said, or the first that has the resource
    id: str | None = None  # of a row
    roles: tuple[str, ...] = ()  # as a token brings them; those of UserRoles come with the user
    user: str | None = None  # number, user name or subject
    anonymous: bool = False

    @property
    def about_another(self) -> bool:
        """Whether it is about somebody else than who asks."""
        return bool(self.roles) or self.user is not None or self.anonymous


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked about, once its names were looked up."""

    resource: ResourceDefinition
    operation: str
    id: str | None

    @property
    def restores(self) -> bool:
        """Whether it is about bringing back a row, which is deleted then."""
        return any(one.restores for one in self.resource.actions if one.key == self.operation)


class Questions:
    """Questions about the resources of one application."""

    def __init__(self, registry: Registry, find_route: FindRoute) -> None:
        self._registry = registry
        self._find_route = find_route

    def named(self, name: str) -> tuple[ResourceDefinition, ...]:
        """Return the resources of a name that have routes, of every version.

        Raises:
            ValidationFailed: there is none.
        """
        found = tuple(one for one in self._registry.named(name) if one.routed)
        if not found:
            names = sorted({one.name for one in self._registry if one.routed})
            told = f"There is no resource {name[:64]!r} here. {nearest(name, names, list_up_to=0)}".rstrip()
            raise ValidationFailed(details=[Detail("resource", "unknown_resource", told)])
        return found

    def asked(self, question: Question) -> Asked:
        """Return what a question is about.

        Raises:
            ValidationFailed: it names what does not exist, or two things that exclude each other.
        """
        if question.route:
            return self._by_route(question)
        if not question.resource or not question.operation:
            told = "Is required, where no route is named."
            missing = [word for word in ("resource", "operation") if not getattr(question, word)]
            raise ValidationFailed(details=[Detail(word, "required", told) for word in missing])
        resource = self._of_version(question)
        known = operation_keys(resource)
        if question.operation not in known:
            hint = nearest(question.operation, known, list_up_to=20)
            told = f"There is no operation or action {question.operation[:64]!r} here. {hint}".rstrip()
            raise ValidationFailed(details=[Detail("operation", "unknown_operation", told)])
        why_not = _why_no_row(resource, question.operation)
        if question.id is not None and why_not is not None:
            raise ValidationFailed(details=[Detail("id", "unsupported", why_not)])
        return Asked(resource=resource, operation=question.operation, id=question.id)

    def _of_version(self, question: Question) -> ResourceDefinition:
        found = self.named(question.resource)
        if not question.version:
            return next((one for one in found if one.version == _DEFAULT_VERSION), found[0])
        for one in found:
            if one.version == question.version:
                return one
        told = f"It is served in {', '.join(sorted(one.version for one in found))}."
        raise ValidationFailed(details=[Detail("version", "enum", told)])

    def _by_route(self, question: Question) -> Asked:
        if question.resource or question.operation or question.version or question.id is not None:
            told = "A route says resource, operation and row: leave the others out."
            raise ValidationFailed(details=[Detail("route", "conflict", told)])
        method, _, path = question.route.partition(" ")
        try:
            found = self._find_route(method.upper(), path.strip())
        except ApiError as error:
            raise ValidationFailed(details=[Detail("route", "invalid", error.message)]) from None
        if found is None:
            told = "No operation of a resource is served there. Write it as `GET /api/v1/products/3`."
            raise ValidationFailed(details=[Detail("route", "unknown_route", told)])
        return Asked(
            resource=found.resource,
            operation=found.operation,
            id=found.id if _why_no_row(found.resource, found.operation) is None else None,
        )


def _why_no_row(resource: ResourceDefinition, operation: str) -> str | None:
    """Say why an operation cannot be judged over one row; None when it can."""
    if resource.kind is Kind.LOGIC:
        return f"{resource.name} has no rows that could be looked at: leave it out."
    if operation in ("create", "list", "batch"):
        return f"{operation} is not done to one row: leave it out."
    return None
