"""Finds out who calls.

In: a request. Out: the same with its principal; "nobody" is a principal too. May reject:
Unauthenticated (from the authenticator, or because nobody may not come here), AuthUnavailable, CrossSite,
InvalidHeader (header and host name different tenants).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from byodpp.browser_sessions import BrowserSessions
from byodpp.exceptions import Unauthenticated
from byodpp.middleware.tenant_hosts import TenantHosts, named_alike
from byodpp.requests import Request

__all__ = ["Authentication", "Authenticator", "Caller"]


class Caller(Protocol):
    """What the stages look at of a principal."""

    @property
    def anonymous(self) -> bool:
        """Whether no token was sent."""
        ...

    def of_control_plane(self) -> Caller:
        """Return the caller as who asks for what no tenant's database has."""
        ...


class Authenticator(Protocol):
    """Turns the headers of a request into a principal."""

    def known(self, authorization: str | None, x_tenant: str | None) -> Caller | None:
        """Return what `authenticate` would, where nothing is to be looked up; None: it is to be asked.

        Raises:
            Unauthenticated: the token was revoked.
        """
        ...

    async def authenticate(self, authorization: str | None, x_tenant: str | None) -> Caller:
        """Judge a token.

        Args:
            authorization: value of the header; None when there is none.
            x_tenant: tenant that a platform operator names.

        Raises:
            Unauthenticated: the token is not valid.
        """
        ...

    async def tenant_at(self, domain: str) -> str | None:
        """Return the slug of the tenant whose own domain this is; None: it is nobody's."""
        ...

    async def authenticate_session(
        self, authorization: str, x_tenant: str | None, *, begun_at: float, session_id: str | None
    ) -> Caller:
        """Judge the token of a session, and the session.

        Args:
            authorization: as if the token had been sent by itself.
            x_tenant: tenant that a platform operator names.
            begun_at: when the session began, in seconds since the epoch.
            session_id: by which it may have been revoked.

        Raises:
            Unauthenticated: the token is not valid, or the session was revoked.
        """
        ...

    async def require_standing(self, principal: Any, /, *, unexpired: bool = False) -> None:
        """See that a caller who was let in some time ago would be let in now.

        Args:
            principal: who it is.
            unexpired: whether by the same token or key; else that may have expired meanwhile.

        Raises:
            Unauthenticated: he would not.
        """
        ...


class Authentication:
    """Stage of every guarded route."""

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        public: bool,
        control_plane: bool = False,
        sessions: BrowserSessions | None = None,
        hosts: TenantHosts | None = None,
        lapsed: bool = False,
    ) -> None:
        """Args:
        authenticator: judges tokens.
        public: whether callers without a token may go on.
        control_plane: whether the route is about what is kept for all tenants together.
        sessions: take tokens out of cookies; None: no cookie is looked at.
        hosts: say whom a host names; None: the header alone names a tenant.
        lapsed: whether a cookie that signs nobody in may go on as nobody: the handler judges it.
        """
        self._authenticator = authenticator
        self._lapsed = lapsed and sessions is not None
        self._public = public or self._lapsed
        self._control_plane = control_plane
        self._sessions = sessions
        self._hosts = hosts

    def __call__(self, request: Request) -> Awaitable[None] | None:
        """Authenticate."""
        if self._hosts is None:
            return self._of_tenant(request, request.header(b"x-tenant"))
        own = self._hosts.own_domain(request)
        return self._of_tenant(request, self._hosts.named(request)) if own is None else self._at(request, own)

    async def _at(self, request: Request, domain: str) -> None:
        """Authenticate at a host that may be a tenant's own domain."""
        x_tenant = named_alike(request, await self._authenticator.tenant_at(domain))
        waiting = self._of_tenant(request, x_tenant)
        if waiting is not None:
            await waiting

    def _of_tenant(self, request: Request, x_tenant: str | None) -> Awaitable[None] | None:
        """Authenticate who names this tenant, or none."""
        authorization = request.header(b"authorization")
        # A token that is sent by itself is meant, whatever cookie lies beside it.
        if authorization is None and self._sessions is not None and request.header(b"cookie") is not None:
            return self._awaited(request, self._by_cookie(request, x_tenant, self._sessions))
        principal = self._authenticator.known(authorization, x_tenant)
        if principal is None:
            return self._awaited(request, self._authenticator.authenticate(authorization, x_tenant))
        self._admit(request, principal)
        return None

    async def _awaited(self, request: Request, found: Awaitable[Caller]) -> None:
        self._admit(request, await found)

    def _admit(self, request: Request, principal: Caller) -> None:
        request.principal = principal.of_control_plane() if self._control_plane else principal
        if principal.anonymous and not self._public:
            raise Unauthenticated

    async def _by_cookie(self, request: Request, x_tenant: str | None, sessions: BrowserSessions) -> Caller:
        """Return who has begun the session whose cookie was sent; a session that is no more is taken away."""
        try:
            session = sessions.judged(request)
            if session is None:
                return await self._authenticator.authenticate(None, x_tenant)
            return await self._authenticator.authenticate_session(
                f"Bearer {session.token}", x_tenant, begun_at=session.begun_at, session_id=session.id
            )
        except Unauthenticated:
            if self._lapsed:
                return await self._authenticator.authenticate(None, None)
            ended = sessions.ended(request)
            if ended is not None:
                request.response_headers.append((b"set-cookie", ended.encode("ascii")))
            raise
