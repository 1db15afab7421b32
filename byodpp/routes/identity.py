"""Routes of the local issuer: what others need to verify its tokens.

An outside provider serves these itself, so there are none for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from byodpp import wire
from byodpp.identity import IdentityProvider, LocalIssuer
from byodpp.requests import Request
from byodpp.responses import Answer
from byodpp.routes.table import Endpoint, Handler, Route

__all__ = ["identity_routes"]


def identity_routes(provider: IdentityProvider) -> list[Route]:
    """Return the key set and the configuration of every realm, as Keycloak addresses them."""
    if not isinstance(provider, LocalIssuer):
        return []
    served = {
        "/realms/{realm}/protocol/openid-connect/certs": provider.certs,
        "/realms/{realm}/.well-known/openid-configuration": provider.configuration,
    }
    return [
        Route(
            pattern=pattern,
            methods={
                "GET": Endpoint(
                    handler=_handler(document), guarded=False, sign_in=True, summary="Local issuer"
                )
            },
        )
        for pattern, document in served.items()
    ]


def _handler(document: Callable[[str], Awaitable[Mapping[str, Any]]]) -> Handler:
    async def handle(request: Request) -> Answer:
        body = wire.dumps(dict(await document(request.params["realm"])))
        return Answer(body=body, headers={"Cache-Control": "public, max-age=60"})

    return handle
