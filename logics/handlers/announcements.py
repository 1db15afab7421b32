"""What is told to the log once it is certain. Mail and webhooks will take the same way."""

from __future__ import annotations

import logging

from byodpp.events import Event, EventHandler

__all__ = ["AnnouncePassport", "AnnounceTransfer"]

_log = logging.getLogger("logics.announcements")


class AnnouncePassport(EventHandler):
    """Tells that a passport became public, or stopped being so."""

    events = ("dpp.published", "dpp.revised", "dpp.suspended", "dpp.withdrawn", "dpp.ended")

    async def handle(self, event: Event) -> None:
        """Write a line."""
        told = {"event_name": event.name, "tenant_id": event.tenant_id, "resource_id": event.resource_id}
        _log.info("passport announced", extra=told)


class AnnounceTransfer(EventHandler):
    """Tells that a product moved."""

    events = ("product.transferred",)

    async def handle(self, event: Event) -> None:
        """Write a line."""
        _log.info("product transferred", extra={"tenant_id": event.tenant_id, "move": dict(event.data)})
