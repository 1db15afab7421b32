"""Answering a write: once for all its retries, or without effect when that is what was asked.

In: a request and the work that answers it inside a transaction. Out: the answer, once the
effect is certain. The answer is written before the commit, because an `Idempotency-Key` stores
it with the effect. May reject: InvalidHeader (the key, or a
stream without end), IdempotencyInProgress,
IdempotencyKeyReused, and whatever the work rejects.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from byodpp.calls import Origin
from byodpp.exceptions import InvalidHeader
from byodpp.idempotency import (
    KEYED_METHODS,
    IdempotencyKey,
    KeptAnswer,
    fingerprint,
    read_key,
    route_name,
)
from byodpp.preferences import MINIMAL, ROLLBACK, applied, preferences
from byodpp.requests import Request
from byodpp.responses import Answer
from byodpp.service import Service
from byodpp.service.units import Unit

__all__ = ["answer_write", "briefly", "is_brief", "is_plain", "origin_of"]

#: How long, and how large, a stream may be that is kept with its effect: the transaction waits for its end.
_STREAM_SECONDS: Final = 10.0
_STREAM_BYTES: Final = 67_108_864

Work = Callable[[Unit], Awaitable[Answer]]


async def answer_write(service: Service, request: Request, work: Work, *, lone: bool = False) -> Answer:
    """Run the work in one transaction and return its answer.

    Args:
        service: of the application.
        request: asks for it; its `Idempotency-Key` and `Prefer: tx=rollback` hold.
        work: answers it; may run again after a serialization failure.
        lone: the work is one statement, and needs no transaction around it (`Service.is_lone`).
    """
    principal, origin = request.principal, origin_of(request)
    key = _key(request)
    if ROLLBACK in preferences(request.header(b"prefer")):
        # A try has no effect that a key could stand for.
        answer = await service.together(principal, origin, work, commit=False)
        return _tried(answer)
    if key is None:
        return await service.together(principal, origin, work, lone=lone)

    async def once(unit: Unit) -> Answer:
        kept = await service.keys.claim(unit.transaction, key)
        if kept is not None:
            unit.require(kept.rights)
            await service.read_again(unit, kept.readings)
            return _replayed(kept)
        answer = await work(unit)
        if unit.transaction.failure is not None:
            raise unit.transaction.failure  # caught, but not undone: there is nothing to keep
        answer.body = await _whole(answer.body)
        answer.media_type = answer.media_type or request.response_type
        media_type = {"Content-Type": answer.media_type}
        stored = KeptAnswer(
            status=answer.status,
            headers={**answer.headers, **media_type},
            body=answer.body,
            rights=tuple(unit.rights),
            readings=service.readings(unit),
        )
        await service.keys.keep(unit.transaction, key, stored)
        return answer

    return await service.together(principal, origin, once)


def is_plain(request: Request) -> bool:
    """Whether a request to write wants neither to be done once for all its retries, nor to be tried only."""
    prefer = request.header(b"prefer")
    if prefer is not None and ROLLBACK in preferences(prefer):
        return False
    return request.header(b"idempotency-key") is None


def is_brief(request: Request) -> bool:
    """Whether `Prefer: return=minimal` asks for an answer without rows."""
    prefer = request.header(b"prefer")
    return prefer is not None and MINIMAL in preferences(prefer)


def briefly(request: Request, answer: Answer, *, outcomes: bool = False) -> Answer:
    """Return the answer of a write without its body when `Prefer: return=minimal` asks for that.

    Args:
        request: that is answered.
        answer: to it.
        outcomes: it says item by item what was done, without rows already, and keeps its body.
    """
    if answer.status not in (200, 201) or not is_brief(request):
        return answer
    told = applied(answer.headers.get("Preference-Applied"), MINIMAL)
    answer.headers = {**answer.headers, "Preference-Applied": told}
    if not outcomes:
        answer.body = b""
        answer.status = 204 if answer.status == 200 else 201
    return answer


def origin_of(request: Request) -> Origin:
    """Return what audit entries and events remember of a request."""
    return Origin(
        request_id=request.request_id,
        correlation_id=request.correlation_id,
        client_ip=request.client_ip,
        user_agent=request.header(b"user-agent") or "",
        headers=request.headers,
    )


def _key(request: Request) -> IdempotencyKey | None:
    key = read_key(request.header(b"idempotency-key")) if request.method in KEYED_METHODS else None
    if key is None:
        return None
    principal = request.principal
    controlled = request.resource is not None and request.resource.control_plane
    # A key may see less than its user, and others of his keys.
    apart = " ".join(one for one in (principal.key_id, principal.apart) if one)
    sent = (request.body, request.media_type.encode(), request.query_string)
    return IdempotencyKey(
        tenant_id=principal.session_tenant_id,
        user_id=principal.user_id,
        method=request.method,
        route=route_name(request.route, request.params, apart, control_plane=controlled),
        key=key,
        request_hash=fingerprint(sent),
    )


async def _whole(body: bytes | AsyncIterator[bytes]) -> bytes:
    """Return a body in one piece: a stream cannot be sent twice.

    Raises:
        InvalidHeader: it is one that takes long, or has no end.
    """
    if isinstance(body, bytes):
        return body
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_STREAM_SECONDS) as patience:
            async for chunk in body:
                chunks.append(chunk)
                size += len(chunk)
                if size > _STREAM_BYTES:
                    raise _not_kept()
    except TimeoutError as error:
        if patience.expired():
            raise _not_kept() from error
        raise
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
    return b"".join(chunks)


def _not_kept() -> InvalidHeader:
    return InvalidHeader("The answer is a stream, and too long to be kept: leave out Idempotency-Key.")


def _replayed(kept: KeptAnswer) -> Answer:
    headers = dict(kept.headers)
    media_type = headers.pop("Content-Type", None)
    headers["Idempotency-Replayed"] = "true"
    return Answer(status=kept.status, headers=headers, body=kept.body, media_type=media_type)


def _tried(answer: Answer) -> Answer:
    headers = dict(answer.headers)
    headers.pop("Location", None)  # nothing lies there
    headers["Preference-Applied"] = applied(headers.get("Preference-Applied"), ROLLBACK)
    answer.headers = headers
    return answer
