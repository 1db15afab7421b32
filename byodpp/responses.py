"""Answers: what goes out, and the two envelopes around it.

In: data that PostgreSQL or `wire` has already written as JSON, or values; or an ApiError.
Out: an `Answer`, and `send_answer`, which puts it on the wire. Data that are bytes are
joined into the envelope as they are, never parsed. Nothing here rejects a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from starlette.types import Send

from byodpp import wire
from byodpp.exceptions import ApiError
from byodpp.negotiation import PROBLEM, wants_problem
from byodpp.requests import Request

__all__ = ["Answer", "error", "no_content", "page", "send_answer", "success", "timestamp"]

#: Statuses whose answers have no body.
_BODILESS: Final = frozenset({204, 304})
_FORBIDDEN_IN_HEADERS: Final = ("\r", "\n", "\0")


@dataclass(slots=True, kw_only=True)
class Answer:
    """Status, headers and body of an answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)  # beside Content-Type and Content-Length
    body: bytes | AsyncIterator[bytes] = b""  # an iterator is sent as it yields, and closed at the end
    media_type: str | None = None  # None is the one agreed upon with the client


def timestamp() -> str:
    """Return the present moment as the wire format has it: UTC, six digits, `Z`."""
    return datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


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
    body = b"".join((b'{"success":true,"data":', _json(data), *_tail(request, message, meta)))
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
    body = b"".join(
        (
            b'{"success":true,"data":',
            _json(data),
            b',"count":',
            count,
            pagination,
            *_tail(request, message, meta),
        )
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


def _tail(request: Request, message: str | None, meta: Mapping[str, Any] | None) -> tuple[bytes, ...]:
    """The members after the data: `message`, and `meta` with the request's id and the time."""
    # A request id consists of safe characters only, so it needs no escaping.
    moment = b'"meta":{"requestId":"%b","timestamp":"%b"' % (
        request.request_id.encode(),
        timestamp().encode(),
    )
    said = b"," if message is None else b',"message":%b,' % wire.dumps(message)
    more = b"" if not meta else b"," + wire.dumps(dict(meta))[1:-1]
    return (said, moment, more, b"}}")


async def send_answer(answer: Answer, request: Request, send: Send, *, hear_out: bool = False) -> None:
    """Put an answer on the wire. A HEAD request gets the headers alone.

    Args:
        answer: what to send.
        request: that it answers.
        send: of the same request.
        hear_out: take in what is left of the body after the answer; many clients read nothing
            before they have sent all, and closing on them would destroy the answer.

    Raises:
        ValueError: a header holds a line break, so somebody's data would become a header.
    """
    body = answer.body
    headers = [(b"vary", b"Accept")]
    for name, value in answer.headers.items():
        if any(mark in value for mark in _FORBIDDEN_IN_HEADERS):
            raise ValueError(f"header {name} holds a line break")
        headers.append((name.lower().encode("ascii"), value.encode("latin-1")))
    if "ETag" in answer.headers and "Cache-Control" not in answer.headers:
        # What has a validator may be kept by the client itself, if it asks each time.
        headers.append((b"cache-control", b"private, no-cache"))
    if answer.status not in _BODILESS and body != b"":
        media_type = answer.media_type or request.response_type
        headers.append((b"content-type", media_type.encode("ascii")))
    if isinstance(body, bytes):
        if answer.status not in _BODILESS:
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        nothing = request.method == "HEAD" or answer.status in _BODILESS
        if hear_out and request.has_unread_body and "Connection" not in answer.headers:
            await send({"type": "http.response.body", "body": b"" if nothing else body, "more_body": True})
            await request.discard_rest()
            nothing = True
        await send({"type": "http.response.body", "body": b"" if nothing else body})
        return
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await _send_stream(body, request, send)


async def _send_stream(body: AsyncIterator[bytes], request: Request, send: Send) -> None:
    """Send what an iterator yields until it ends or the client goes; close it either way."""

    async def pump() -> None:
        if request.method != "HEAD":
            async for chunk in body:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    pumping = asyncio.ensure_future(pump())
    # An idle stream would never notice by sending that nobody listens.
    watching = asyncio.ensure_future(request.disconnected())
    try:
        await asyncio.wait((pumping, watching), return_when=asyncio.FIRST_COMPLETED)
        if pumping.done():
            pumping.result()
    finally:
        for task in (pumping, watching):
            task.cancel()
        await asyncio.gather(pumping, watching, return_exceptions=True)
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
