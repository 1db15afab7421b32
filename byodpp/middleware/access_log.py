"""One JSON line per request, written when its answer has been sent.

In: the Request as the other stages left it. Out: a line; the request goes through unchanged.
Rejects nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from byodpp.logs import json_line, redacted_query
from byodpp.requests import REQUEST, Request
from byodpp.responses import timestamp

__all__ = ["AccessLog"]

#: Status in the log of a request whose client had gone before there was an answer.
_CLIENT_GONE: Final = 499
#: More of a path or query than this is of no use in a log.
_LONGEST: Final = 2_048


class AccessLog:
    """Writes what was asked, by whom, and how it ended."""

    def __init__(self, app: ASGIApp, *, write: Callable[[str], object]) -> None:
        """Args:
        app: the next stage.
        write: takes one line, without its end.
        """
        self._app = app
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._write(json_line(_fields(scope[REQUEST])))


def _fields(request: Request) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "timestamp": timestamp(),
        "level": "info" if request.status < 500 else "error",
        "logger": "byodpp.access",
        "message": "request",
        "method": request.method,
        "path": request.path[:_LONGEST],
        "route": request.route,
        "status": request.status or _CLIENT_GONE,
        "durationMs": round((time.perf_counter() - request.started_at) * 1000, 2),
        "requestId": request.request_id,
        "correlationId": request.correlation_id,
        "clientIp": request.client_ip,
    }
    if request.query_string:
        fields["query"] = redacted_query(request.query_string[:_LONGEST])
    principal = request.principal
    if principal is not None and not principal.anonymous:
        fields["tenantId"] = principal.tenant_id
        fields["userId"] = principal.user_id
    return fields
