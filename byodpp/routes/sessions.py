"""`/session`: a browser begins a session with its token, asks for it, renews it, and ends it.

In: requests that are signed in; a renewal brings its cookie alone, and so may who signs out. Out: who
is, and cookies. May reject: Conflict (an API key begins none), ValidationFailed, Unauthenticated (a
session that cannot be renewed), CrossSite, AuthUnavailable.
"""

from __future__ import annotations

import logging
import secrets
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from byodpp.answering import origin_of
from byodpp.audit.notes import About
from byodpp.authentication import Principal
from byodpp.browser_sessions import SESSION_SECONDS, BrowserSessions, Renewal, Session
from byodpp.exceptions import ApiError, AuthUnavailable, Conflict, Detail, Unauthenticated, ValidationFailed
from byodpp.identity import IdentityProvider
from byodpp.part_logics.keys import end_token
from byodpp.requests import Request
from byodpp.responses import Answer, success
from byodpp.routes.table import Body, Endpoint, Route
from byodpp.service import Service

__all__ = ["Judge", "Trail", "session_routes"]

_log: Final = logging.getLogger(__name__)

PATH: Final = "/session"
RENEWAL: Final = "/session/renewal"
_REFRESH: Final = "refreshToken"
_LONGEST: Final = 8_192
_SUMMARY: Final = "Session of a browser"


class Judge(Protocol):
    """Judges the tokens that renewals bring."""

    async def authenticate_session(
        self, authorization: str, x_tenant: str | None = None, *, begun_at: float, session_id: str | None
    ) -> Principal:
        """Return whose session it is, and refuse what was revoked."""
        ...


class Trail(Protocol):
    """Takes notes for the audit trail."""

    def sign_in_failed(self, error: ApiError, authorization: str, origin: Any, about: About) -> None:
        """Note that credentials were refused."""
        ...


def session_routes(
    service: Service, sessions: BrowserSessions, provider: IdentityProvider, judge: Judge, trail: Trail
) -> list[Route]:
    """Return the routes of browsers' sessions.

    Args:
        service: revokes what is signed out.
        sessions: makes cookies and judges them.
        provider: exchanges refresh tokens.
        judge: judges what it gives.
        trail: is told of renewals that are refused.
    """
    served = _Sessions(service, sessions, provider, judge, trail)
    begin = Endpoint(handler=served.begin, sign_in=True, body=Body.OPTIONAL, summary=_SUMMARY)
    methods = {
        "POST": begin,
        "GET": Endpoint(handler=served.read, summary=_SUMMARY),
        "DELETE": Endpoint(handler=served.end, lapsed=True, summary=_SUMMARY),
    }
    renew = Endpoint(handler=served.renew, guarded=False, sign_in=True, renews=True, summary=_SUMMARY)
    return [Route(pattern=PATH, methods=methods), Route(pattern=RENEWAL, methods={"POST": renew})]


class _Sessions:
    """Answers for these addresses."""

    def __init__(
        self,
        service: Service,
        sessions: BrowserSessions,
        provider: IdentityProvider,
        judge: Judge,
        trail: Trail,
    ) -> None:
        self._service = service
        self._sessions = sessions
        self._provider = provider
        self._judge = judge
        self._trail = trail

    async def begin(self, request: Request) -> Answer:
        """Put the token that was sent into a cookie, and a refresh token into another.

        Raises:
            Conflict: it is an API key, or none can be had here.
            ValidationFailed: the body is no object with a refresh token.
        """
        principal = request.principal
        authorization = request.header(b"authorization")
        if principal.claims is None or principal.key_id is not None or authorization is None:
            raise Conflict("A session begins with an access token: `Authorization: Bearer <token>`.")
        refresh_token = _refresh_token(request)
        token, claims = authorization.split()[1], principal.claims
        session = Session(
            token=token, word=secrets.token_urlsafe(32), begun_at=claims.issued_at,
            id=None if refresh_token is None else str(uuid.uuid4()),
        )  # fmt: skip
        cookie = self._sessions.first(request, session, claims.expires_at)
        if session.id is None or refresh_token is None:
            ended = self._sessions.ended_renewal(request)
            self._set(request, cookie, *([] if ended is None else [ended]))
        else:
            renewal = Renewal(
                id=session.id, realm=claims.realm, subject=claims.subject,
                begun_at=session.begun_at, word=session.word, token=refresh_token,
            )  # fmt: skip
            self._set(request, cookie, self._sessions.renewable(request, renewal))
        told = _told(principal, session.word, renewable=refresh_token is not None)
        return success(request, told, status=201, headers={"Location": PATH})

    async def read(self, request: Request) -> Answer:
        """Tell who is signed in; the word for the page is null where no cookie has signed in."""
        session = renewal = None
        if request.header(b"authorization") is None:
            session, renewal = self._sessions.session(request), self._renewal_or_none(request)
        word = None if session is None else session.word
        return success(request, _told(request.principal, word, renewable=renewal is not None))

    async def renew(self, request: Request) -> Answer:
        """Exchange the refresh token, and go on with the access token that is given for it.

        Raises:
            CrossSite: no page of this very address asks.
            Unauthenticated: there is nothing to renew, or it is good no more; the cookies are taken away.
            AuthUnavailable: the identity provider is away; the session may be renewed later.
        """
        self._sessions.refuse_other_site(request)
        self._sessions.refuse_foreign(request)
        try:
            renewal = self._sessions.renewal(request)
            if renewal is None:
                raise Unauthenticated("There is no session to be renewed")
            request.credentials = f"Bearer {renewal.token}"
            principal, token, refresh_token = await self._renewed(renewal)
        except Unauthenticated as error:
            self._end_cookies(request)
            if request.credentials is not None:
                about = About(operation="session")
                self._trail.sign_in_failed(error, request.credentials, origin_of(request), about)
            raise
        assert principal.claims is not None
        session = Session(token=token, word=renewal.word, begun_at=renewal.begun_at, id=renewal.id)
        cookie = self._sessions.first(request, session, principal.claims.expires_at)
        next_one = replace(renewal, token=refresh_token)
        self._set(request, cookie, self._sessions.renewable(request, next_one))
        return success(request, _told(principal, renewal.word, renewable=True))

    async def _renewed(self, renewal: Renewal) -> tuple[Principal, str, str]:
        """Return who goes on, and the two tokens."""
        if renewal.ends_at <= time.time():
            raise Unauthenticated("The session has ended: sign in again", error="invalid_token")
        renewed = await self._provider.renew(renewal.realm, renewal.token)
        if renewed is None:
            told = "The session cannot be renewed: sign in again"
            raise Unauthenticated(told, error="invalid_token", unproven=True)
        principal = await self._judge.authenticate_session(
            f"Bearer {renewed.access_token}", begun_at=renewal.begun_at, session_id=renewal.id
        )
        if (principal.realm, principal.subject) != (renewal.realm, renewal.subject):
            raise Unauthenticated("The session is somebody else's", error="invalid_token")
        return principal, renewed.access_token, renewed.refresh_token

    async def end(self, request: Request) -> Answer:
        """Revoke the token and the session, so that no copy is worth anything, and take the cookies away.

        The identity provider is told as well; one that is away goes on believing in its own session, which
        opens nothing here. A session whose token has ended is taken up once more for it.

        Raises:
            Unauthenticated: there is no session, and no token either.
            CrossSite: no page of this very address asks.
            AuthUnavailable: the token has ended, and the identity provider is away; try again.
        """
        caller, renewal = request.principal, self._renewal_or_none(request)
        if caller.anonymous:
            taken_up = await self._taken_up(request, renewal)
            if taken_up is None:
                self._end_cookies(request)
                return Answer(status=204)
            caller, renewal = taken_up
        principal = caller.at_home()  # whichever tenant it names: the token is revoked as a whole
        begun = self._begun(request, principal, renewal)

        async def work(unit: Any) -> None:
            revocations = unit.repositories("v1", system=True)["Revocations"]
            await end_token(revocations, principal)
            for id, begun_at in begun.items():
                # No copy of a cookie is good for longer; a little more, for clocks that differ.
                ends = datetime.fromtimestamp(begun_at + SESSION_SECONDS, UTC) + timedelta(minutes=1)
                values = {"kind": "token", "subject": id, "expiresAt": ends}
                await revocations.create({**values, "reason": "signed out"})

        try:
            await self._service.together(principal, origin_of(request), work)
        finally:  # also when nothing can be revoked for the moment, as while the tenant moves
            if renewal is not None:
                await self._told_provider(renewal)
            self._end_cookies(request)
        return Answer(status=204)

    async def _told_provider(self, renewal: Renewal) -> None:
        try:
            await self._provider.sign_out(renewal.realm, renewal.token)
        except AuthUnavailable as error:
            _log.warning("the identity provider was not told that somebody signed out: %s", error.message)

    async def _taken_up(self, request: Request, renewal: Renewal | None) -> tuple[Principal, Renewal] | None:
        """Sign in who signs out after the token's end; None when nothing of the session is good any more."""
        session = self._session_or_none(request)
        ours = session or renewal
        if ours is None:
            if request.header(b"cookie") is not None:
                self._end_cookies(request)
            raise Unauthenticated
        self._sessions.refuse_other_site(request)
        self._sessions.refuse_without_word(request, ours.word)
        if renewal is None:
            return None
        try:
            principal, _, refresh_token = await self._renewed(renewal)
        except Unauthenticated:
            return None
        return principal, replace(renewal, token=refresh_token)

    def _begun(self, request: Request, principal: Principal, renewal: Renewal | None) -> dict[str, int]:
        """Return the ids of the caller's sessions that a request brings, and when each began."""
        begun = dict[str, int]()
        if renewal is not None and (principal.realm, principal.subject) == (renewal.realm, renewal.subject):
            begun[renewal.id] = renewal.begun_at
        session = None if request.header(b"authorization") is not None else self._session_or_none(request)
        if session is not None and session.id is not None:
            begun[session.id] = session.begun_at
        return begun

    def _session_or_none(self, request: Request) -> Session | None:
        """Return what the first cookie holds; one that is not ours is none."""
        try:
            return self._sessions.session(request)
        except Unauthenticated:
            return None

    def _renewal_or_none(self, request: Request) -> Renewal | None:
        """Return what the second cookie holds; beside a good first one, one that is not ours is none."""
        try:
            return self._sessions.renewal(request)
        except Unauthenticated:
            return None

    def _end_cookies(self, request: Request) -> None:
        ended = (self._sessions.ended(request), self._sessions.ended_renewal(request))
        self._set(request, *(cookie for cookie in ended if cookie is not None))

    @staticmethod
    def _set(request: Request, *cookies: str) -> None:
        request.response_headers.extend((b"set-cookie", cookie.encode("ascii")) for cookie in cookies)


def _refresh_token(request: Request) -> str | None:
    """Return the refresh token of a body; None where there is none.

    Raises:
        ValidationFailed: there is something else.
    """
    if not request.body:
        return None
    body = request.json
    if not isinstance(body, dict):
        raise ValidationFailed(details=[Detail("", "type", "Must be an object.")])
    faults = [
        Detail(name, "unknown_field", f"There is only {_REFRESH!r} here.")
        for name in body
        if name != _REFRESH
    ]
    value = body.get(_REFRESH)
    if value is not None and not isinstance(value, str):
        faults.append(Detail(_REFRESH, "type", "Must be a string."))
    elif value is not None and not (0 < len(value) <= _LONGEST and value.isascii() and value.isprintable()):
        told = f"Must have 1 to {_LONGEST} printable characters of ASCII."
        faults.append(Detail(_REFRESH, "format", told))
    if faults:
        raise ValidationFailed(details=faults)
    return value


def _told(principal: Any, word: str | None, *, renewable: bool) -> dict[str, Any]:
    claims, tenant = principal.claims, principal.tenant
    return {
        "userId": principal.user_id or None,
        "name": claims.name,
        "roles": sorted(principal.roles),
        "tenant": None if tenant is None else tenant.slug,
        "expiresAt": datetime.fromtimestamp(claims.expires_at, UTC),
        "renewable": renewable,
        "csrfToken": word,
    }
