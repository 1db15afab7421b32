"""Reads the body, checks what it claims to be, and parses JSON.

In: a request whose route is known. Out: the same with `body`, `media_type` and parsed JSON.
May reject: Malformed and its kinds at once; PayloadTooLarge and UnsupportedMediaType only
when nothing of higher rank (401, 403) refuses, as the order of refusal wants it.

A body that is announced as small is read before anybody is asked for a token, so that broken
JSON is told first. A larger one waits until the caller is known and allowed: strangers cannot
make the server hold or parse megabytes.
"""

from __future__ import annotations

from typing import Final

from byodpp.exceptions import MalformedJson, PayloadTooLarge, UnsupportedMediaType
from byodpp.negotiation import body_type
from byodpp.requests import Request
from byodpp.routes import Body, Endpoint

__all__ = ["FinishBody", "ReadSmallBody"]

#: Announced length up to which a body is read before authentication.
_SMALL_BYTES: Final = 65_536


class _Reader:
    """What both stages of one endpoint share."""

    __slots__ = ("_limit", "_media_types", "_required")

    def __init__(self, endpoint: Endpoint, max_body_bytes: int) -> None:
        """Args:
        endpoint: whose body it is.
        max_body_bytes: the application's limit; the endpoint's own wins.
        """
        self._limit = max_body_bytes if endpoint.max_body_bytes is None else endpoint.max_body_bytes
        self._media_types = endpoint.media_types
        self._required = endpoint.body is Body.REQUIRED

    def judge(self, request: Request) -> None:
        """Note a type that is not taken here, or that the body is announced as too large."""
        length = request.declared_length
        if length is not None and length > self._limit:
            headers = {"Connection": "close"} if length > 4 * self._limit else None
            message = f"The body is larger than the {self._limit} bytes that this route accepts."
            request.postponed = PayloadTooLarge(message, headers=headers)
            return
        coding = request.header(b"content-encoding")
        if coding is not None and coding.strip().lower() != "identity":
            message = "Compressed bodies are not accepted."
            request.postponed = UnsupportedMediaType(message, headers={"Accept-Encoding": "identity"})
            return
        media_type = body_type(request.header(b"content-type"))
        if media_type not in self._media_types:
            accepted = ", ".join(self._media_types)
            message = f"The body must be {accepted} in UTF-8."
            request.postponed = UnsupportedMediaType(message, headers={"Accept": accepted})
        else:
            request.media_type = media_type

    async def read(self, request: Request) -> None:
        """Read and parse what was not judged wrong."""
        await request.read(self._limit)
        if request.body:
            await request.parse()  # here, so that it is refused here
        else:
            self.check_presence()

    async def is_nothing(self, request: Request) -> bool:
        """Whether chunks that were judged wrong by their type hold nothing, where nothing is taken, too."""
        if self._required or request.declared_length is not None:
            return False
        return isinstance(request.postponed, UnsupportedMediaType) and not await request.read(self._limit)

    def check_presence(self) -> None:
        """Refuse that there is nothing, where something is due."""
        if self._required:
            raise MalformedJson("A JSON body is required.")


class ReadSmallBody:
    """First stage of a route that takes a body."""

    def __init__(self, endpoint: Endpoint, max_body_bytes: int) -> None:
        """Args:
        endpoint: whose body it is.
        max_body_bytes: the application's limit; the endpoint's own wins.
        """
        self._reader = _Reader(endpoint, max_body_bytes)

    async def __call__(self, request: Request) -> None:
        """Read if it is small."""
        if not request.has_body:
            self._reader.check_presence()
        else:
            self._reader.judge(request)
            length = request.declared_length
            if request.postponed is None and length is not None and length <= _SMALL_BYTES:
                try:
                    await self._reader.read(request)
                except PayloadTooLarge as refusal:  # few bytes, yet more values than it may hold
                    request.postponed = refusal


class FinishBody:
    """Later stage: tells what was postponed, and reads what was too large to be read first."""

    def __init__(self, endpoint: Endpoint, max_body_bytes: int) -> None:
        """Args:
        endpoint: whose body it is.
        max_body_bytes: the application's limit; the endpoint's own wins.
        """
        self._reader = _Reader(endpoint, max_body_bytes)

    async def __call__(self, request: Request) -> None:
        """Refuse, or read if that has not been done."""
        if request.postponed is not None and not await self._reader.is_nothing(request):
            raise request.postponed
        if not request.body and request.has_body:
            await self._reader.read(request)
