"""Answers: what goes out, and the two envelopes around it.

In: data that PostgreSQL or `wire` has already written as JSON, or values; or an ApiError.
Out: an `Answer`, and `send_answer`, which puts it on the wire. Data that are bytes are
joined into the envelope as they are, never parsed. Nothing here rejects a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, Final

from starlette.types import Send

from byodpp import wire
from byodpp.containment import contained
from byodpp.exceptions import ApiError
from byodpp.header_lines import HeaderLines, header_line, header_name
from byodpp.negotiation import PROBLEM, wants_problem
from byodpp.requests import Request
from byodpp.transfer.standing import STANDING_SECONDS, Standing

__all__ = ["Answer", "error", "no_content", "page", "send_answer", "success", "timestamp"]

#: Statuses whose answers have no body.
_BODILESS: Final = frozenset({204, 304})
_NO_NAMES: Final[AbstractSet[bytes]] = frozenset()
#: Names of the headers in `Request.prepared`.
_PREPARED: Final = frozenset({b"x-request-id", b"x-correlation-id", b"ratelimit-policy", b"ratelimit"})
#: Looks after a caller, one after the other, that nobody could answer.
_MOST_UNANSWERED: Final = 5


@dataclass(slots=True, kw_only=True)
class Answer:
    """Status, headers and body of an answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)  # beside Content-Type and Content-Length
    body: bytes | AsyncIterator[bytes] = b""  # an iterator is sent as it yields, and closed at the end
    media_type: str | None = None  # None is the one agreed upon with the client
    finite: bool = False  # a stream that ends by itself: it goes on when the caller's token has expired


def timestamp() -> str:
    """Return the present moment as the wire format has it: UTC, six digits, `Z`."""
    seconds, microseconds = divmod(time.time_ns() // 1_000, 1_000_000)
    # Six digits: to ask for them in the format takes as long as all the rest.
    return f"{_second(seconds)}.{str(1_000_000 + microseconds)[1:]}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def success(
    request: Request,
    data: Any,
    *,
    status: int = 200,
    message: str | None = None,
    meta: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Wrap data into the envelope of one result.

    Args:
        request: whose id is told in `meta`.
        data: JSON if bytes, else a value.
        status: of the answer.
        message: for people; left out when None.
        meta: further members of `meta`.
        headers: as in Answer.
    """
    body = b"".join((b'{"success":true,"data":', _json(data), _tail(request, message, meta)))
    return Answer(status=status, headers=headers or {}, body=body)


def page(
    request: Request,
    data: Any,
    *,
    total: int | None,
    limit: int,
    offset: int = 0,
    next_cursor: str | None = None,
    message: str | None = None,
    meta: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Wrap a list into its envelope.

    Args:
        request: whose id is told in `meta`.
        data: a JSON array if bytes, else a sequence.
        total: rows that match in all; None when they were not counted.
        limit: rows asked for, at least 1.
        offset: rows skipped.
        next_cursor: where the next page starts; left out when None.
        message: for people; left out when None.
        meta: further members of `meta`.
        headers: as in Answer.
    """
    count = b"null" if total is None else b"%d" % total
    pages = b"null" if total is None else b"%d" % -(-total // limit)
    tail = b"" if next_cursor is None else b',"next":' + wire.dumps(next_cursor)
    pagination = b',"pagination":{"page":%d,"limit":%d,"total":%b,"totalPages":%b%b}' % (
        offset // limit + 1,
        limit,
        count,
        pages,
        tail,
    )
    body = b'{"success":true,"data":%b,"count":%b%b%b' % (
        _json(data),
        count,
        pagination,
        _tail(request, message, meta),
    )
    return Answer(headers=headers or {}, body=body)


def no_content(headers: Mapping[str, str] | None = None) -> Answer:
    """Say that it is done and that there is nothing to tell."""
    return Answer(status=204, headers=headers or {})


def error(failure: ApiError, request: Request) -> Answer:
    """Turn a refusal into an answer, in the form the client wants errors in."""
    details = [
        {"field": detail.field, "code": detail.code, "message": detail.message} for detail in failure.details
    ]
    shared = {"details": details, "requestId": request.request_id, "timestamp": timestamp()}
    if wants_problem(request.header(b"accept")):
        body: dict[str, Any] = {
            "type": f"urn:byodpp:error:{failure.error_code}",
            "title": HTTPStatus(failure.status).phrase,
            "status": failure.status,
            "detail": failure.message,
            "instance": f"urn:byodpp:request:{request.request_id}",
            "code": failure.error_code,
            **shared,
        }
        media_type = PROBLEM
    else:
        told = {
            "statusCode": failure.status,
            "code": failure.error_code,
            "message": failure.message,
            **shared,
        }
        body, media_type = {"success": False, "error": told}, "application/json"
    return Answer(
        status=failure.status, headers=failure.headers, body=wire.dumps(body), media_type=media_type
    )


def _json(data: Any) -> bytes:
    return data if isinstance(data, bytes) else wire.dumps(data)


def _tail(request: Request, message: str | None, meta: Mapping[str, Any] | None) -> bytes:
    """The members after the data: `message`, and `meta` with the request's id and the time."""
    # A request id consists of safe characters only, so it needs no escaping.
    tail = f',"meta":{{"requestId":"{request.request_id}","timestamp":"{timestamp()}"'.encode()
    if message is not None:
        tail = b',"message":' + wire.dumps(message) + tail
    if meta:
        tail += b"," + wire.dumps(dict(meta))[1:-1]
    return tail + b"}}"


async def send_answer(
    answer: Answer,
    request: Request,
    send: Send,
    *,
    hear_out: bool = False,
    standing: Standing | None = None,
) -> None:
    """Put an answer on the wire. A HEAD request gets the headers alone.

    Args:
        answer: what to send.
        request: that it answers.
        send: of the same request.
        hear_out: take in what is left of the body after the answer; many clients read nothing
            before they have sent all, and closing on them would destroy the answer.
        standing: raises when a principal would not be let in any more, or not by this token; asked now and
            then while a stream goes out.

    Raises:
        ValueError: a header holds a line break, so somebody's data would become a header.
        Unauthenticated: the caller was locked out, or the token of one without end has expired, while a
            stream went out, which ends there.
        Unavailable: for a minute nobody could say so.
    """
    headers = _lines(answer, request)
    request.status = answer.status
    body = answer.body
    if isinstance(body, bytes) and not hear_out and request.whole is not None:
        shown = b"" if request.method == "HEAD" or answer.status in _BODILESS else body
        if request.whole(answer.status, headers, shown):
            return
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if not isinstance(body, bytes):
        looking = partial(_look, standing, request.principal, unexpired=not answer.finite)
        await _send_stream(body, request, send, looking)
        return
    if request.method == "HEAD" or answer.status in _BODILESS:
        body = b""
    if hear_out and request.has_unread_body and not headers.closes:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await request.discard_rest()
        body = b""
    await send({"type": "http.response.body", "body": body})


def _lines(answer: Answer, request: Request) -> HeaderLines:
    """Return all headers of an answer: its own, and those that the stages have prepared."""
    lines: list[bytes] = [b"vary: Accept\r\n"]
    own: AbstractSet[bytes] = _NO_NAMES
    if answer.headers:
        own = set()
        for name, value in answer.headers.items():
            lines.append(header_line(name, value))
            own.add(header_name(name))
        if b"etag" in own and b"cache-control" not in own:
            # What has a validator may be kept by the client itself, if it asks each time.
            lines.append(b"cache-control: private, no-cache\r\n")
            own.add(b"cache-control")
    length = None
    if answer.status not in _BODILESS:
        body = answer.body
        if body != b"":
            lines.append(_content_type(answer.media_type or request.response_type))
        if isinstance(body, bytes):
            length = len(body)
            lines.append(f"content-length: {length}\r\n".encode("ascii"))
    lines += request.prepared if own.isdisjoint(_PREPARED) else _left(request.prepared, own)
    for pair in request.response_headers:
        if pair[0] not in own or pair[0] == b"vary":
            lines.append(b"%b: %b\r\n" % pair)
    lines.append(request.standing_headers.lines(own))
    closes = b"connection" in own and b"connection: close\r\n" in lines
    return HeaderLines(b"".join(lines), content_length=length, closes=closes)


def _left(prepared: Sequence[bytes], own: AbstractSet[bytes]) -> list[bytes]:
    """Return the prepared lines without those that an answer brings itself."""
    pairs = HeaderLines(b"".join(prepared))
    return [b"%b: %b\r\n" % pair for pair in pairs if pair[0] not in own]


@lru_cache(maxsize=64)
def _content_type(media_type: str) -> bytes:
    return header_line("Content-Type", media_type)


async def _look(standing: Standing | None, principal: Any, *, unexpired: bool) -> None:
    """Look now and then whether a caller would still be let in; end by an error when he would not.

    A database that is started anew is no reason, one that cannot be asked for long is.
    """
    unanswered = 0
    while True:
        await asyncio.sleep(STANDING_SECONDS)
        if standing is None or principal is None:
            continue
        try:
            await standing(principal, unexpired=unexpired)
            unanswered = 0
        except ApiError as error:
            unanswered += 1
            if error.status < 500 or unanswered > _MOST_UNANSWERED:
                raise


async def _send_stream(
    body: AsyncIterator[bytes], request: Request, send: Send, look: Callable[[], Awaitable[None]]
) -> None:
    """Send what an iterator yields until it ends, the client goes, or is locked out; close it either way."""

    async def pump() -> None:
        if request.method != "HEAD":
            with contained():
                async for chunk in body:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    pumping, looking = asyncio.ensure_future(pump()), asyncio.ensure_future(look())
    # An idle stream would never notice by sending that nobody listens.
    watching = asyncio.ensure_future(request.disconnected())
    tasks = (pumping, looking, watching)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in (pumping, looking):
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
