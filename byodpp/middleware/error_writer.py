"""The one place where exceptions become answers.

In: whatever the stages inside raise. Out: an ApiError in one of the two shapes; anything else
is logged with its stack and answered as a 500 that tells nothing. A client that has gone gets
no answer; a cancelled request stays cancelled.
"""

from __future__ import annotations

import logging
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Send

from byodpp.exceptions import ApiError, InternalError, error_classes
from byodpp.requests import ClientGone, Request
from byodpp.responses import error, send_answer

__all__ = ["ErrorWriter", "as_api_error"]

_log: Final = logging.getLogger("byodpp.errors")


class ErrorWriter:
    """Answers instead of the stages that have raised."""

    async def __call__(self, failure: Exception, request: Request, send: Send) -> None:
        """Answer one request.

        Raises:
            Exception: the failure itself, when half an answer is out: only breaking the connection
                tells the client so.
        """
        if isinstance(failure, ClientGone | ClientDisconnect):
            return
        refusal = as_api_error(failure)
        if refusal.status >= 500:
            _report(failure, request)
        if request.status:
            raise failure
        await send_answer(error(refusal, request), request, send, hear_out=True)
        _let_go(failure)


def as_api_error(failure: Exception) -> ApiError:
    """Return what the client is told of an exception."""
    if isinstance(failure, ApiError):
        return failure
    if isinstance(failure, HTTPException):
        # Starlette applications mounted beside the table refuse in their own words.
        status = failure.status_code
        kind = next((kind for kind in error_classes() if kind.status == status), None)
        if kind is not None:
            return kind(headers=failure.headers)
    return InternalError()


def _let_go(failure: BaseException) -> None:
    """Take apart what was answered: a failure holds the frames it went through, and some of them hold it.

    It would stay, with all that those frames know of the request, until a pass of the garbage collector.
    """
    waiting: list[BaseException | None] = [failure]
    while waiting:
        one = waiting.pop()
        if one is not None and one.__traceback__ is not None:
            waiting += (one.__cause__, one.__context__)
            one.__traceback__ = one.__cause__ = one.__context__ = None


def _report(failure: Exception, request: Request) -> None:
    fields = {"method": request.method, "path": request.path[:2_048], "route": request.route}
    if isinstance(failure, ApiError) and type(failure) is not InternalError:
        # Expected troubles, e.g. an absent database: one line says it all.
        _log.warning("%s: %s", type(failure).__name__, failure.message, extra=fields)
    else:
        _log.error("unexpected %s", type(failure).__name__, exc_info=failure, extra=fields)
