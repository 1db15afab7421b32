"""What answers while the application itself cannot start: 503 to everybody, whatever they ask.

In: the settings. Out: an ASGI application that opens nothing. It says nothing of the reason, which stands on
the terminal.
"""

from __future__ import annotations

from typing import Final

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from byodpp.exceptions import Unavailable
from byodpp.health import Lifecycle
from byodpp.middleware.cors import Cors
from byodpp.middleware.error_writer import ErrorWriter
from byodpp.middleware.request_context import ClientAddress, RequestContext
from byodpp.middleware.security_headers import SecurityHeaders
from byodpp.responses import send_answer
from byodpp.settings import Settings

__all__ = ["out_of_service"]

_TOLD: Final = "The application could not start; its terminal says why. It starts again when a file changes."


def out_of_service(settings: Settings) -> Starlette:
    """Return the application; of the settings, origins and proxies are looked at."""
    application = Starlette()
    application.middleware_stack = _Refusing(settings)
    application.state.lifecycle = Lifecycle()
    return application


class _Refusing:
    """Refuses every request."""

    def __init__(self, settings: Settings) -> None:
        self._context = RequestContext(ClientAddress(settings.trusted_proxies))
        self._gates = (SecurityHeaders(), Cors(settings.cors_origins))
        self._errors = ErrorWriter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = self._context.open(scope, receive)
        for gate in self._gates:  # a page of another origin has to be let in to read why it is refused
            answer = gate(request)
            if answer is not None:
                await send_answer(answer, request, send)
                return
        await self._errors(Unavailable(_TOLD), request, send)
