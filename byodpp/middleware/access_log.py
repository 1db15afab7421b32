"""One JSON line per request, written when its answer has been sent.

In: the Request as the other stages left it. Out: a line; the request goes through unchanged.
Rejects nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from byodpp.logs import json_text, redacted_query
from byodpp.requests import Request
from byodpp.responses import timestamp

__all__ = ["AccessLog"]

#: Status in the log of a request whose client had gone before there was an answer.
_CLIENT_GONE: Final = 499
#: More of a path or query than this is of no use in a log.
_LONGEST: Final = 2_048


class AccessLog:
    """Writes what was asked, by whom, and how it ended."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """Args:
        write: takes one line, without its end.
        """
        self._write = write

    def __call__(self, request: Request) -> None:
        """Write the line of one request."""
        self._write(_line(request))


def _line(request: Request) -> str:
    """Return the line; put together by hand, since it is written for every request."""
    status = request.status or _CLIENT_GONE
    milliseconds = (time.perf_counter() - request.started_at) * 1000
    # Ids are safe to be written as they are, or would have been replaced.
    parts = [
        f'{{"timestamp":"{timestamp()}","level":"{"info" if status < 500 else "error"}"'
        f',"logger":"byodpp.access","message":"request","method":{_often(request.method)}'
        f',"path":{json_text(request.path[:_LONGEST])},"route":{_often(request.route)}'
        f',"status":{status},"durationMs":{milliseconds:.2f},"requestId":"{request.request_id}"'
        f',"correlationId":"{request.correlation_id}","clientIp":{_often(request.client_ip)}'
    ]
    if request.query_string:
        parts.append(f',"query":{json_text(redacted_query(request.query_string[:_LONGEST]))}')
    principal = request.principal
    if principal is not None and not principal.anonymous:
        parts.append(f',"tenantId":{principal.tenant_id},"userId":{principal.user_id}')
    parts.append("}")
    return "".join(parts)


@lru_cache(maxsize=1_024)
def _often(text: str) -> str:
    """Write a text of which there are few: a route, a method, the address of a client."""
    return json_text(text)
