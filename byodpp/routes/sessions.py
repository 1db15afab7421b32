"""`/session`: a browser begins a session with its token, asks for it, and ends it.

In: requests that are signed in. Out: who is, and cookies. May reject: Conflict (an API key begins none).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from byodpp.answering import origin_of
from byodpp.browser_sessions import BrowserSessions
from byodpp.exceptions import Conflict
from byodpp.part_logics.keys import end_token
from byodpp.requests import Request
from byodpp.responses import Answer, success
from byodpp.routes.table import Endpoint, Route
from byodpp.service import Service

__all__ = ["session_routes"]

PATH: Final = "/session"


def session_routes(service: Service, sessions: BrowserSessions) -> list[Route]:
    """Return the routes of browsers' sessions."""
    served = _Sessions(service, sessions)
    methods = {
        "POST": Endpoint(handler=served.begin, sign_in=True, summary="Session of a browser"),
        "GET": Endpoint(handler=served.read, summary="Session of a browser"),
        "DELETE": Endpoint(handler=served.end, summary="Session of a browser"),
    }
    return [Route(pattern=PATH, methods=methods)]


class _Sessions:
    """Answers for the one address."""

    def __init__(self, service: Service, sessions: BrowserSessions) -> None:
        self._service = service
        self._sessions = sessions

    async def begin(self, request: Request) -> Answer:
        """Put the token that was sent into a cookie.

        Raises:
            Conflict: it is an API key, or none can be had here.
        """
        principal = request.principal
        authorization = request.header(b"authorization")
        if principal.claims is None or principal.key_id is not None or authorization is None:
            raise Conflict("A session begins with an access token: `Authorization: Bearer <token>`.")
        token = authorization.split()[1]
        cookie, session = self._sessions.begin(request, token, principal.claims.expires_at)
        headers = {"Set-Cookie": cookie, "Location": PATH}
        return success(request, _told(request, session.word), status=201, headers=headers)

    async def read(self, request: Request) -> Answer:
        """Tell who is signed in; the word for the page is null where no cookie has signed in."""
        session = None
        if request.header(b"authorization") is None:
            session = self._sessions.session(request)
        return success(request, _told(request, None if session is None else session.word))

    async def end(self, request: Request) -> Answer:
        """Revoke the token, so that no copy of it is worth anything, and take the cookie away."""
        principal = request.principal.at_home()  # whichever tenant it names: the token is revoked as a whole

        async def work(unit: Any) -> None:
            await end_token(unit.repositories("v1", system=True)["Revocations"], principal)

        await self._service.together(principal, origin_of(request), work)
        ended = self._sessions.ended(request)
        return Answer(status=204, headers={} if ended is None else {"Set-Cookie": ended})


def _told(request: Request, word: str | None) -> dict[str, Any]:
    principal = request.principal
    claims, tenant = principal.claims, principal.tenant
    return {
        "userId": principal.user_id or None,
        "name": claims.name,
        "roles": sorted(principal.roles),
        "tenant": None if tenant is None else tenant.slug,
        "expiresAt": datetime.fromtimestamp(claims.expires_at, UTC),
        "csrfToken": word,
    }
