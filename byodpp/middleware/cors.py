"""Cross-origin rules: which web pages of other origins may call.

In: any request. Out: preflights answered here; other requests with headers prepared when
their origin is allowed. Nothing is rejected: without the headers the browser does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from byodpp.exceptions import Problem, StartError
from byodpp.requests import Request
from byodpp.responses import Answer

__all__ = ["Cors"]

_METHODS: Final = "GET, HEAD, QUERY, POST, PUT, PATCH, DELETE, OPTIONS"
_ALLOWED: Final = (
    "Accept, Accept-Language, Authorization, Content-Language, Content-Type, Idempotency-Key, If-Match, "
    "If-None-Match, Last-Event-ID, Prefer, X-Correlation-ID, X-Request-ID, X-Requested-With, X-Tenant"
)
_EXPOSED: Final = (
    b"Content-Disposition, ETag, Idempotency-Replayed, Location, Preference-Applied, RateLimit, "
    b"RateLimit-Policy, Retry-After, X-Correlation-ID, X-Request-ID"
)
_MAX_AGE_SECONDS: Final = "600"


class Cors:
    """Answers preflights and marks answers for the configured origins."""

    def __init__(self, origins: Sequence[str], *, credentials: bool = False) -> None:
        """Args:
        origins: compared as a whole, e.g. `https://shop.example`; `*` is every one.
        credentials: whether browsers may send cookies along.

        Raises:
            StartError: every origin with credentials would hand each user's session to every page.
        """
        if credentials and "*" in origins:
            raise StartError(
                [Problem("cors_origins", "* cannot be combined with credentials", "Name the origins.")]
            )
        self._origins = frozenset(origins)
        self._everyone = "*" in origins
        self._credentials = credentials

    def __call__(self, request: Request) -> Answer | None:
        """Look at one request; answer a preflight."""
        if not self._origins:
            return None
        if not self._everyone:
            request.response_headers.append((b"vary", b"Origin"))
        origin = request.header(b"origin")
        if origin is not None and (self._everyone or origin in self._origins):
            self._mark(request, "*" if self._everyone else origin)
            if request.method == "OPTIONS" and request.header(b"access-control-request-method") is not None:
                return _preflight()
        return None

    def _mark(self, request: Request, origin: str) -> None:
        headers = request.response_headers
        headers.append((b"access-control-allow-origin", origin.encode("latin-1")))
        headers.append((b"access-control-expose-headers", _EXPOSED))
        if self._credentials:
            headers.append((b"access-control-allow-credentials", b"true"))


def _preflight() -> Answer:
    headers = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": _ALLOWED,
        "Access-Control-Max-Age": _MAX_AGE_SECONDS,
    }
    return Answer(status=204, headers=headers)
