"""Headers that tell browsers to be careful, on every answer, errors included.

In: any request. Out: the same, with headers prepared that an answer may override by its own
(the documentation page brings its own Content-Security-Policy). Rejects nothing.
"""

from __future__ import annotations

from typing import Final

from byodpp.header_lines import StandingHeaders
from byodpp.requests import Request

__all__ = ["SecurityHeaders"]

_HEADERS: Final = (
    # An API's answers are data: nothing in them is to be loaded, run or framed.
    (
        b"content-security-policy",
        b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # The filter that this once switched on is itself a hole; 0 is what its successors advise.
    (b"x-xss-protection", b"0"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"x-permitted-cross-domain-policies", b"none"),
    (b"x-dns-prefetch-control", b"off"),
    (b"cache-control", b"no-store"),
)


_STANDING: Final = StandingHeaders(_HEADERS)


class SecurityHeaders:
    """Prepares the headers."""

    def __call__(self, request: Request) -> None:
        """Look at one request."""
        request.standing_headers = _STANDING
