"""Exports: one snapshot of the rows that a query finds, as the bytes of a file.

In: a caller, a judged query and a format. Out: bytes as they come from the server's cursor, in a
read-only transaction of its own; memory does not grow with the number of rows. A file that was cut is
told by its end: each format closes in a way of its own. May raise Unavailable (too many exports), and
what a read raises; QueryTimeout when it takes longer than may be.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final

from byodpp.aside import aside
from byodpp.audit.notes import About
from byodpp.audit.trail import AuditTrail
from byodpp.authentication import Principal
from byodpp.calls import Origin
from byodpp.conditions import Lookup, Query
from byodpp.database import Sessions
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import QueryTimeout
from byodpp.repository.stores import Store
from byodpp.transfer.formats import Format
from byodpp.transfer.forms import form_of
from byodpp.transfer.opened_rows import OpenedRows
from byodpp.transfer.standing import STANDING_SECONDS, Standing

__all__ = ["Exporter", "Wanted"]

_FIRST_ROWS: Final = 100
_BYTES_AT_ONCE: Final = 1 << 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be exported, and for whom."""

    principal: Principal
    origin: Origin
    resource: ResourceDefinition
    query: Query
    lookup: Lookup
    format: Format
    closing: bool = True  # with a record that tells that the file is whole


class Exporter:
    """Streams exports for one application."""

    def __init__(
        self, store: Store, trail: AuditTrail, sessions: Sessions, standing: Standing, *, most_seconds: float
    ) -> None:
        """Args:
        store: whose statements and rules are used.
        trail: notes exports of controlled fields.
        sessions: an export takes one.
        standing: tells whether the caller would still be let in.
        most_seconds: longest time of one; it holds a snapshot, and what is deleted meanwhile stays.
        """
        self._store = store
        self._standing = standing
        self._trail = trail
        self._sessions = sessions
        self._most_seconds = most_seconds

    async def stream(self, wanted: Wanted) -> AsyncGenerator[tuple[bytes, int], None]:
        """Yield bytes of the file, and the number of rows so far; close it when you leave it early.

        Raises:
            QueryTimeout: it takes too long; what was sent is not whole.
            Unauthenticated: the caller was locked out meanwhile; the same.
        """
        principal, statements = wanted.principal, self._store.statements
        names = statements.exported_names(wanted.resource, wanted.query, wanted.lookup)
        form = form_of(wanted.format, wanted.resource.name, names, closing=wanted.closing)
        sealed = self._store.sealed
        opened = None
        if sealed.concern(wanted.resource, wanted.query.shape.touched):
            opened = OpenedRows(sealed, wanted.resource, names, form.rows)
        rows_as = form.rows if opened is None else "json"
        compiled = statements.export(wanted.resource, wanted.query, wanted.lookup, rows_as)
        arguments = compiled.arguments(
            wanted.query.values, principal.variables, principal.session, scope_tenant_id=principal.tenant_id
        )
        # Before the first row goes out: whoever cuts the file has read what came.
        if self._trail.watches(wanted.resource, wanted.query.shape):
            about = About(operation="export", resource=wanted.resource)
            await self._trail.exported(principal, wanted.origin, about, wanted.query.shape, wanted.lookup)
        until, count = time.monotonic() + self._most_seconds, 0
        look = time.monotonic() + STANDING_SECONDS
        async with (
            self._sessions.open(principal.session.database) as session,
            session.transaction(principal.session, read_only=True, isolation="repeatable read") as reading,
        ):
            begin = form.begin()
            portions = reading.stream(
                compiled.sql, *arguments, first=_FIRST_ROWS, bytes_at_once=_BYTES_AT_ONCE
            )
            async with aclosing(portions):
                async for rows in portions:
                    count += len(rows)
                    texts = rows if opened is None else await aside(partial(opened.texts, rows))
                    yield begin + form.some(texts), count
                    begin = b""
                    if time.monotonic() > look:
                        await self._standing(principal)
                        look = time.monotonic() + STANDING_SECONDS
                    if time.monotonic() > until:
                        raise QueryTimeout(f"An export takes at most {self._most_seconds:.0f} seconds.")
            yield begin + form.end(count), count
