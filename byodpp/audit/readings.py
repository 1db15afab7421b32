"""What one unit of work reads of controlled fields: noted in the trail, and remembered with its answer.

An answer that is kept for retries shows the same again whenever it is sent, and is read then as well.
Rejects nothing.
"""

from __future__ import annotations

from typing import Any

from byodpp.audit.notes import Note
from byodpp.audit.trail import AuditTrail
from byodpp.conditions import Query, Shape
from byodpp.definitions import ResourceDefinition
from byodpp.idempotency import Reading

__all__ = ["Readings", "told"]


class Readings:
    """The trail, for one unit of work."""

    def __init__(self, trail: AuditTrail) -> None:
        """Args:
        trail: of the application.
        """
        self._trail = trail
        self.noted: list[Note] = []

    def watches(self, resource: ResourceDefinition, shape: Shape) -> bool:
        """Whether what a query reads may have to be noted."""
        return self._trail.watches(resource, shape)

    def keyed(self, resource: ResourceDefinition, query: Query) -> Query:
        """Return the query of a list so that its page tells the keys, where they may have to be noted."""
        return self._trail.keyed(resource, query)

    async def read(self, *about: Any) -> None:
        """Note what a caller has read; arguments are those of the trail."""
        self._remember(await self._trail.read(*about))

    async def shown(self, *about: Any) -> None:
        """Note rows that the answer of a write shows; arguments are those of the trail."""
        self._remember(await self._trail.shown(*about))

    def _remember(self, note: Note | None) -> None:
        if note is not None:
            self.noted.append(note)


def told(note: Note) -> Reading | None:
    """Return what is kept of a reading with the answer that shows it."""
    about = note.about
    if about is None or about.resource is None or note.changes is None:
        return None
    version, name = about.resource.version, about.resource.name
    return about.operation, version, name, about.key, note.changes
