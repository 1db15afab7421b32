"""Limits on what comes before the body: the address and the headers.

In: any request. Out: the same. May reject: Malformed (what the server could not read), UriTooLong,
HeadersTooLarge, RequestTimeout (headers that do not end), InvalidHeader (a `Host` that is missing or
doubled, which proxies and servers read differently).
"""

from __future__ import annotations

from typing import Final, NoReturn

from byodpp.exceptions import HeadersTooLarge, InvalidHeader, Malformed, RequestTimeout, UriTooLong
from byodpp.requests import Request

__all__ = ["SizeLimits"]

#: Versions of HTTP that are spoken; the server names another one when it could not read a request.
_VERSIONS: Final = frozenset({"1.0", "1.1", "2", "3"})
#: More header lines than this are refused however short they are.
_MOST_HEADERS: Final = 200
#: What a header line takes beside its name and value: colon, blank, line end.
_OVERHEAD: Final = 4


class SizeLimits:
    """Refuses oversized addresses and headers."""

    def __init__(self, *, max_url_bytes: int, max_header_bytes: int) -> None:
        """Args:
        max_url_bytes: path and query together.
        max_header_bytes: all headers together.
        """
        self._max_url_bytes = max_url_bytes
        self._max_header_bytes = max_header_bytes

    def __call__(self, request: Request) -> None:
        """Look at one request."""
        if request.http_version not in _VERSIONS:
            self._refuse_unread(request.http_version)
        if len(request.raw_path) + len(request.query_string) > self._max_url_bytes:
            raise UriTooLong(f"The address is longer than {self._max_url_bytes} bytes.")
        headers = request.raw_headers
        if len(headers) > _MOST_HEADERS:
            raise HeadersTooLarge(f"There are more than {_MOST_HEADERS} headers.")
        size = hosts = 0
        for name, value in headers:
            size += len(name) + len(value) + _OVERHEAD
            hosts += name == b"host"
        if size > self._max_header_bytes:
            raise HeadersTooLarge(f"The headers are larger than {self._max_header_bytes} bytes.")
        if hosts != 1 and (hosts > 1 or request.http_version == "1.1"):
            raise InvalidHeader("There must be exactly one Host header.")

    def _refuse_unread(self, why: str) -> NoReturn:
        """Refuse what the server did not read; it closes the connection."""
        if why == "large head":
            raise HeadersTooLarge(f"The headers are larger than {self._max_header_bytes} bytes.")
        if why == "slow head":
            raise RequestTimeout("The headers took too long to arrive.")
        raise Malformed("The request cannot be read.")
