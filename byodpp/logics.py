"""Logic classes: where an application says what the generic operations do not know.

A class replaces or wraps one operation of a resource, or serves one of its actions. It is
dropped into `logics/<version>/<resource>/`; at start `load_logics` finds it and `LogicMap`
decides whether it fits. Nothing is registered by hand and nothing happens at import.

Everything in `execute` runs inside the request's transaction. What cannot be rolled back goes
into `after_commit`. `execute` may run a second time after a serialization failure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol
from urllib.parse import quote

from byodpp.calls import Call
from byodpp.class_forms import handler_faults, logic_faults
from byodpp.definitions import OPERATIONS, Kind, ResourceDefinition
from byodpp.events import EventHandler
from byodpp.exceptions import Detail, ExtensionError, Problem, ValidationFailed
from byodpp.extensions import Found, find_classes, unknown_resource
from byodpp.registry import Registry
from byodpp.suggestion import nearest

if TYPE_CHECKING:
    import marshmallow

    from byodpp.access_guide import AccessGuide
    from byodpp.authentication.tenants import TenantDirectory
    from byodpp.database import Transaction
    from byodpp.identity import IdentityAdministration
    from byodpp.ids import Ids
    from byodpp.limits import Calls, PlatformFigures
    from byodpp.repository import Repositories, Repository
    from byodpp.service.secrets import UserSecrets

__all__ = ["Logic", "LogicContext", "LogicMap", "Mapped", "Reply", "load_logics"]

_ONE_OF_TWO: Final = "Keep one of the two, or begin the name of the other with _."


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer other than "these data with the usual status"."""

    data: Any = None  # goes into the envelope; ignored when `body` is given
    status: int = 200
    message: str | None = None  # of the envelope
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterator[bytes] | None = None  # sent as it is, without an envelope
    media_type: str = "application/octet-stream"  # of `body`
    finite: bool = False  # a stream that ends by itself: it goes on when the caller's token has expired

    @classmethod
    def redirect(cls, url: str, *, status: int = 303) -> Reply:
        """Send the client elsewhere."""
        return cls(status=status, headers={"Location": url}, body=b"", media_type="text/plain")

    @classmethod
    def file(cls, content: bytes | AsyncIterator[bytes], *, name: str, media_type: str) -> Reply:
        """Send a file to save, never to be shown in place."""
        disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        headers = {"Content-Disposition": disposition}
        return cls(headers=headers, body=content, media_type=media_type, finite=True)

    @staticmethod
    def among_others(result: Any) -> Any:
        """Return what an operation answers in one answer with others: its data, whatever its status.

        Raises:
            ValidationFailed: it answers with a file, a stream, or a redirect.
        """
        if not isinstance(result, Reply):
            return result
        if result.body is not None:
            told = (
                "It answers with a file, a stream, or a redirect, and not beside others: send it by itself."
            )
            raise ValidationFailed(details=[Detail("operation", "unsupported", told)])
        return result.data


class LogicContext(Protocol):
    """What `service` gives a logic class for one call."""

    call: Call
    repositories: Repositories
    system: Repositories
    published: Repositories
    ids: Ids
    transaction: Transaction
    secrets: UserSecrets
    tenants: TenantDirectory
    access: AccessGuide

    @property
    def identity(self) -> IdentityAdministration: ...
    async def calls(self) -> tuple[Calls, ...]: ...
    async def figures(self) -> PlatformFigures: ...
    def emit(self, name: str, data: Any, *, resource_id: Any = None) -> None: ...
    async def audit(self, action: str, resource_id: Any = None, changes: Any = None) -> None: ...
    def lock(self, name: str) -> AbstractAsyncContextManager[None]: ...
    def after_commit(self, callback: Callable[[], Awaitable[None]]) -> None: ...
    async def default(self, call: Call) -> Any: ...
    async def perform(self, resource: str, operation: str, body: Any, params: Mapping[str, str]) -> Any: ...


class Logic(ABC):
    """One operation or action, in the application's own words.

    ::

        class ProductsCreate(Logic):
            resource, operation = "Products", "create"

            async def execute(self):
                self.request.body["status"] = "draft"
                return await self.default()

    Class attributes say where it belongs; `self.…` is everything it may use.
    """

    #: Name of the resource, as in the manifest.
    resource: ClassVar[str] = ""
    #: One of list, create, read, update, patch, delete, batch — or empty for an action.
    operation: ClassVar[str] = ""
    #: Key of an action, e.g. `feature:post` — or empty for an operation.
    action: ClassVar[str] = ""
    #: API version; the folder's when not given.
    version: ClassVar[str] = ""
    #: marshmallow schema of an action's body; None means the action takes none.
    input: ClassVar[type[marshmallow.Schema] | None] = None
    #: marshmallow schema of an action's own parameters in the query string, read from
    #: `self.request.parameters`; without it, a reading action takes the query language, others nothing.
    query: ClassVar[type[marshmallow.Schema] | None] = None
    #: marshmallow schema of the answer's `data`, for the documentation only.
    output: ClassVar[type[marshmallow.Schema] | None] = None
    #: Whether its answer tells what is told once, as a key is: its resource takes no imports.
    tells_once: ClassVar[bool] = False
    #: Status of a successful answer; None is the operation's usual one.
    status: ClassVar[int | None] = None

    def __init__(self, context: LogicContext) -> None:
        self._context = context
        #: The call: `params`, `body` (validated), `query`, `parameters`, `user`, `headers`.
        self.request = context.call

    @abstractmethod
    async def execute(self) -> Any:
        """Do it. Return a Row, a Page, a dict, a list, a Reply, or None for "no content"."""

    async def default(self) -> Any:
        """Run what would have happened without this class, on `self.request` as it is now."""
        return await self._context.default(self.request)

    @property
    def repository(self) -> Repository:
        """Rows of this class's resource, seen and written as the caller may."""
        return self._context.repositories[self.request.resource.name]

    @property
    def repositories(self) -> Repositories:
        """Every resource's repository by name, acting as the caller."""
        return self._context.repositories

    @property
    def system(self) -> Repositories:
        """The same, acting for the tenant: no row and no field rules, still no other tenant."""
        return self._context.system

    @property
    def published(self) -> Repositories:
        """What is public of every tenant, as an anonymous reader sees it, whoever calls; it is only read."""
        return self._context.published

    @property
    def secrets(self) -> UserSecrets:
        """The caller's secrets: `await self.secrets["name"]`, `await self.secrets.get("name")`."""
        return self._context.secrets

    @property
    def access(self) -> AccessGuide:
        """Who may do what, and why: `await self.access.explain(…)`, `await self.access.cells(…)`."""
        return self._context.access

    @property
    def transaction(self) -> Transaction:
        """The request's transaction, for SQL that no repository speaks; row-level security holds in it."""
        return self._context.transaction

    @property
    def identity(self) -> IdentityAdministration:
        """Realms, users, roles, and invitations at the identity provider; for `after_commit`.

        Raises:
            BadGateway: this server was given no right to administer it.
        """
        return self._context.identity

    @property
    def tenants(self) -> TenantDirectory:
        """Who the tenants are: `await self.tenants.by_name("acme")`, by slug or ULID."""
        return self._context.tenants

    async def calls(self) -> tuple[Calls, ...]:
        """Return how many requests of the tenant were counted, window by window."""
        return await self._context.calls()

    async def figures(self) -> PlatformFigures:
        """Return what the tenants of each class are together, as far as they may be counted."""
        return await self._context.figures()

    @property
    def ids(self) -> Ids:
        """Makes identifiers: `self.ids.uuid7()`, `self.ids.ulid()`."""
        return self._context.ids

    def emit(self, event: str, data: Any = None, *, resource_id: Any = None) -> None:
        """Tell that something happened: stored with the change, handled after the commit."""
        self._context.emit(event, data, resource_id=resource_id)

    async def audit(self, action: str, resource_id: Any = None, changes: Any = None) -> None:
        """Write an audit entry in this transaction.

        Raises:
            ValueError: `action` has more than 128 characters, or `resource_id` more than 255.
        """
        await self._context.audit(action, resource_id, changes)

    def lock(self, name: str) -> AbstractAsyncContextManager[None]:
        """Let one request of this tenant at a time pass, until its transaction ends."""
        return self._context.lock(name)

    def after_commit(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Run something that cannot be rolled back, once the change is certain."""
        self._context.after_commit(callback)

    async def perform(
        self, resource: str, operation: str, body: Any = None, *, params: Mapping[str, str] | None = None
    ) -> Any:
        """Run another operation as the caller: authorised, validated, with its own logic class."""
        return await self._context.perform(resource, operation, body, params or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """One entry of the logic map."""

    version: str
    resource: str
    key: str  # operation or action key
    logic: type[Logic]
    place: str


class LogicMap:
    """Which class serves which operation; immutable, checked against the registry."""

    def __init__(self, entries: Mapping[tuple[str, str, str], Mapped]) -> None:
        self._entries = MappingProxyType(dict(entries))

    def get(self, resource: ResourceDefinition, key: str) -> type[Logic] | None:
        """Return the class for an operation or action key, None when the generic operation serves it."""
        entry = self._entries.get((resource.version, resource.name, key))
        return entry.logic if entry is not None else None

    def __iter__(self) -> Iterator[Mapped]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    @classmethod
    def build(
        cls, registry: Registry, found: list[Found[Logic]], own: Sequence[type[Logic]] = ()
    ) -> LogicMap:
        """Wire classes to operations.

        Args:
            registry: of the application.
            found: the application's classes.
            own: the framework's, for resources of its parts; an application's class replaces one.

        Raises:
            ExtensionError: with every class that fits nowhere or where another already is, and every
                declared route that nothing serves.
        """
        problems: list[Problem] = []
        entries: dict[tuple[str, str, str], Mapped] = {}
        for one in found:
            entry = _place(registry, one, problems)
            if entry is None:
                continue
            slot = (entry.version, entry.resource, entry.key)
            if slot in entries:
                reason = f"{entry.resource} {entry.key} ({entry.version}) is served by {entries[slot].place}"
                problems.append(Problem(entry.place, reason, _ONE_OF_TWO))
            else:
                entries[slot] = entry
        for logic in own:
            resource = registry.resources.get(("v1", logic.resource))
            key = logic.operation or logic.action
            if resource is not None and resource.routed:
                entry = Mapped(
                    version="v1",
                    resource=logic.resource,
                    key=key,
                    logic=logic,
                    place=f"byodpp:{resource.part}",
                )
                entries.setdefault(("v1", logic.resource, key), entry)
        # A class that failed to load would make its routes look unserved: one mistake, one message.
        if not problems:
            problems.extend(_unserved(registry, entries))
        if problems:
            raise ExtensionError(problems)
        return cls(entries)


def load_logics(
    app_dir: Path, registry: Registry, own: Sequence[type[Logic]] = ()
) -> tuple[LogicMap, list[EventHandler]]:
    """Find, check and wire everything in `logics/`.

    Args:
        app_dir: the application's folder.
        registry: of the application.
        own: the framework's classes.

    Raises:
        ExtensionError: with all mistakes, import failures included.
    """
    parents: tuple[type[Any], ...] = (Logic, EventHandler)
    found, problems = find_classes(app_dir, "logics", parents)
    for one in found:
        faults = logic_faults(one.cls) if Logic in one.cls.__mro__ else handler_faults(one.cls)
        problems += [Problem(one.place, reason, advice) for reason, advice in faults]
    if problems:
        raise ExtensionError(problems)
    logics = [one for one in found if Logic in one.cls.__mro__]
    handlers = [one.cls() for one in found if EventHandler in one.cls.__mro__]
    return LogicMap.build(registry, logics, own), handlers


def _place(registry: Registry, one: Found[Logic], problems: list[Problem]) -> Mapped | None:
    logic = one.cls
    version = logic.version or one.version or "v1"
    if one.version is not None and version != one.version:
        problems.append(Problem(one.place, f"version is {version!r}, the folder says {one.version!r}"))
        return None
    if bool(logic.operation) == bool(logic.action):
        problems.append(
            Problem(one.place, "set either `operation` or `action`", 'e.g. `operation = "create"`')
        )
        return None
    resource = registry.resources.get((version, logic.resource))
    if resource is None:
        problems.append(unknown_resource(registry, logic.resource, version, one.place))
        return None
    key = logic.operation or logic.action
    known = OPERATIONS if logic.operation else tuple(action.key for action in resource.actions)
    if key not in known:
        kind = "operation" if logic.operation else "action"
        advice = nearest(key, known) or f"Declare it under routes.actions of {resource.name}."
        problems.append(Problem(one.place, f"{resource.name} has no {kind} {key!r}", advice))
        return None
    if logic.operation and key not in resource.operations:
        problems.append(
            Problem(
                one.place,
                f"{resource.name} has no route for {key!r}",
                f'Add "{key}" to routes.crud of {resource.name}.',
            )
        )
        return None
    if logic.operation and logic.query is not None:
        told = "only actions have parameters of their own"
        problems.append(Problem(one.place, told, "Lists and rows take the query language."))
        return None
    if logic.operation and logic.input is not None:
        told = "only actions have an input of their own"
        problems.append(
            Problem(one.place, told, f"A class in schemas/ says what {key} of {resource.name} takes.")
        )
        return None
    return Mapped(version=version, resource=resource.name, key=key, logic=logic, place=one.place)


def _unserved(registry: Registry, entries: Mapping[tuple[str, str, str], Mapped]) -> Iterator[Problem]:
    for resource in registry:
        if not resource.routed:
            continue
        for action in resource.actions:
            generic = action.transition is not None or action.restores
            if not generic and (*resource.id, action.key) not in entries:
                yield Problem(
                    action.path or resource.path,
                    f"nothing serves {action.method} {action.url} ({resource.name} {action.key})",
                    f"Run `byodpp new logic {resource.name} {action.key}` or remove the route.",
                )
        if resource.kind is Kind.LOGIC:
            for operation in resource.operations:
                if (*resource.id, operation) not in entries:
                    yield Problem(
                        resource.path,
                        f"nothing serves {operation} of {resource.name}: it has no table and no logic class",
                        f"Run `byodpp new logic {resource.name} {operation}` or remove the route.",
                    )
