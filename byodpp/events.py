"""Events: rows of the outbox inside the transaction, handlers in this process after the commit.

An event is written to `byodpp.outbox` by the transaction that caused it, so it exists exactly
when the change does. After the commit the handlers of this process run, each on its own: one
that fails is logged with its event and never disturbs the answer or another handler.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, ClassVar

from byodpp import wire
from byodpp.aside import LARGE_BYTES, aside
from byodpp.containment import contained
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import ExtensionError, Problem
from byodpp.rows import Row

__all__ = ["Event", "EventBus", "EventHandler", "Outbox", "emits", "past_tense"]

_log = logging.getLogger(__name__)

_PAST = {
    "create": "created",
    "update": "updated",
    "patch": "updated",
    "delete": "deleted",
    "restore": "restored",
}


def past_tense(segment: str, operation: str) -> str:
    """Name the event of an operation: `products`, `create` -> `products.created`."""
    return f"{segment}.{_PAST.get(operation, operation)}"


def emits(resource: ResourceDefinition, operation: str) -> bool:
    """Tell whether an operation on a resource is an event; a restoring is where a deletion is."""
    return ("delete" if operation == "restore" else operation) in resource.events


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that has happened to a row, or that a logic class tells."""

    name: str  # dotted, lower case: `products.created`
    data: Any  # JSON-like, or a Row, of which handlers get what may be told
    tenant_id: int
    resource: str | None = None
    resource_id: str | None = None
    request_id: str | None = None
    correlation_id: str | None = None
    actor_id: int | None = None  # Users row; None when nobody is signed in
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def outbox_row(self) -> tuple[Any, ...]:
        """Return the values of the outbox columns, in the order of `Outbox.COLUMNS`."""
        return (
            self.tenant_id,
            self.name,
            wire.dumps(self.data).decode(),
            self.resource,
            self.resource_id,
            self.request_id,
            self.correlation_id,
            self.actor_id,
        )


class Outbox:
    """The events of one transaction, in the order in which they were emitted."""

    COLUMNS: ClassVar = (
        "tenant_id",
        "name",
        "data",
        "resource",
        "resource_id",
        "request_id",
        "correlation_id",
        "actor_id",
    )
    #: One statement for any number of events.
    INSERT: ClassVar = (
        "insert into byodpp.outbox"
        " (tenant_id, name, data, resource, resource_id, request_id, correlation_id, actor_id)"
        " select t, n, d, r, i, q, c, a from unnest($1::bigint[], $2::text[], $3::jsonb[], $4::text[],"
        " $5::text[], $6::text[], $7::text[], $8::bigint[]) with ordinality as e(t, n, d, r, i, q, c, a, o)"
        " order by o"
    )

    def __init__(self, hears: Callable[[str], bool] = lambda name: True) -> None:
        """Args:
        hears: whether a handler of this process wants an event of that name.
        """
        self.hears = hears
        self.events: list[Event] = []
        self._waiting: list[Event] = []

    def hears_of(self, resource: ResourceDefinition, operation: str) -> bool:
        """Whether a handler of this process wants what an operation on a resource tells."""
        return emits(resource, operation) and self.hears(past_tense(resource.segment, operation))

    def emit(self, event: Event, *, stored: bool = False) -> None:
        """Add an event; it is handled after the commit.

        Args:
            event: what happened.
            stored: the statement that changed the row has written it to the outbox already.
        """
        self.events.append(event)
        if not stored:
            self._waiting.append(event)

    def mark(self) -> int:
        """Return a position for `rewind`, taken at a savepoint."""
        return len(self.events)

    def rewind(self, position: int) -> None:
        """Forget the events emitted since `position`: their savepoint was rolled back."""
        dropped = {id(event) for event in self.events[position:]}
        del self.events[position:]
        self._waiting = [event for event in self._waiting if id(event) not in dropped]

    def pending(self) -> list[list[Any]] | None:
        """Return the arguments of INSERT for the events not stored yet; None when there are none."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return None
        return [list(column) for column in zip(*(event.outbox_row() for event in waiting), strict=True)]


class EventHandler(ABC):
    """Reacts to events after their commit. Dropped into `logics/` like a logic class.

    ::

        class TellOwner(EventHandler):
            events = ("products.transferred",)

            async def handle(self, event):
                ...

    The transaction is over: a handler that fails undoes nothing, and may miss an event when
    the process dies between commit and handling.
    """

    #: Names of events it wants; `*` is all, `products.*` all of one resource.
    events: ClassVar[Sequence[str]] = ()

    @abstractmethod
    async def handle(self, event: Event) -> None:
        """React to one event."""


class EventBus:
    """Which handlers want which event; immutable after construction."""

    def __init__(self, handlers: Iterable[EventHandler] = ()) -> None:
        """Raises:
        ExtensionError: a handler names no event.
        """
        by_name: dict[str, list[EventHandler]] = {}
        problems = []
        for handler in handlers:
            if not handler.events:
                problems.append(
                    Problem(
                        f"{type(handler).__module__}.{type(handler).__qualname__}",
                        "the handler names no event",
                        'Set `events = ("products.created",)` on the class.',
                    )
                )
            for name in handler.events:
                by_name.setdefault(name, []).append(handler)
        if problems:
            raise ExtensionError(problems)
        self._handlers: Mapping[str, tuple[EventHandler, ...]] = MappingProxyType(
            {name: tuple(found) for name, found in by_name.items()}
        )

    def handlers(self, name: str) -> tuple[EventHandler, ...]:
        """Return the handlers of an event, those of its exact name first."""
        family = name.partition(".")[0] + ".*"
        return (
            *self._handlers.get(name, ()),
            *self._handlers.get(family, ()),
            *self._handlers.get("*", ()),
        )

    def hears(self, name: str) -> bool:
        """Whether any handler wants events of that name."""
        return bool(self._handlers) and bool(self.handlers(name))

    def wants(self, events: Iterable[Event]) -> bool:
        """Whether any handler wants one of the events."""
        return any(self.hears(event.name) for event in events)

    async def dispatch(self, events: Iterable[Event]) -> None:
        """Run every handler of every event; failures are logged one by one.

        Events go in order; the handlers of one event run side by side.
        """
        for event in events:
            handlers = self.handlers(event.name)
            if not handlers:
                continue
            if isinstance(event.data, Row):
                # Others need not wait while a large row is decoded.
                row, large = event.data, len(event.data.json) > LARGE_BYTES
                data = await aside(row.told) if large else row.told()
                event = replace(event, data=data)
            outcomes = await asyncio.gather(
                *(_handled(handler, event) for handler in handlers), return_exceptions=True
            )
            for handler, outcome in zip(handlers, outcomes, strict=True):
                if isinstance(outcome, asyncio.CancelledError):
                    raise outcome
                if isinstance(outcome, BaseException):
                    _log.error(
                        "event handler failed",
                        exc_info=outcome,
                        extra={
                            "event_name": event.name,
                            "handler": type(handler).__qualname__,
                            "request_id": event.request_id,
                        },
                    )


async def _handled(handler: EventHandler, event: Event) -> None:
    with contained():
        await handler.handle(event)
