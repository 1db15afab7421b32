"""Who is calling, and in which tenant: a token and the name of a tenant in, a Principal out.

Refuses with 401 (the token, its tenant, its user), 403 and 404 (the tenant that was named), and
503 when it cannot know. It never reads a query string, a cookie, or a body.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from byodpp.authentication.changes import FOLLOWED_SECONDS, UNFOLLOWED_SECONDS
from byodpp.authentication.keys import KEY_PREFIX, ApiKey, KeyDirectory
from byodpp.authentication.revocations import Revocations
from byodpp.authentication.tenants import PLATFORM_REALM, Tenant, TenantDirectory
from byodpp.authentication.tokens import Claims, KnownToken, TokenVerifier
from byodpp.authentication.users import User, UserDirectory
from byodpp.database import NOBODY, PLATFORM_TENANT, SessionContext
from byodpp.exceptions import Forbidden, InvalidHeader, NotFound, TenantMoving, Unauthenticated
from byodpp.expiring import Expiring, Kept

__all__ = ["ANONYMOUS", "Authenticator", "BrowserSession", "Principal"]

#: Token68 of RFC 7235 after the scheme; anything else (two headers, blanks, commas) is refused.
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/=-]+)")
_TENANT_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserSession:
    """A session of a browser, by whose cookie a caller came; each of its tokens is revoked with it."""

    id: str | None  # by which it may have been revoked; None: by its token alone
    begun_at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls, and for whose rows."""

    user_id: int = 0  # row of Users; 0 is nobody
    subject: str | None = None
    realm: str | None = None
    tenant_id: int = NOBODY  # whose rows are asked for; NOBODY: published rows of every tenant
    session_tenant_id: int = NOBODY  # as whom row-level security sees the caller
    home_tenant_id: int = NOBODY  # tenant of the realm that issued the token
    roles: frozenset[str] = frozenset()
    anonymous: bool = True
    platform: bool = False  # an operator: signed in at the platform's realm
    guest: bool = False  # of `tenant_id`, which has opened rows to the caller's own tenant: only reads
    tenant: Tenant | None = None  # the one of `tenant_id`
    looking_in: str | None = None  # place whose rows are asked for by who names no tenant
    home: Tenant | None = None  # the one of `home_tenant_id`, where the caller has signed in
    claims: Claims | None = None
    browser: BrowserSession | None = None  # None: the token was sent by itself
    made_at: float = 0.0  # of what was sent, by the clock here, in seconds since the epoch
    key_id: str | None = None  # the API key that was sent; None for a token
    key_hash: bytes | None = field(default=None, repr=False)  # of its secret: another one was exchanged
    operations: frozenset[str] | None = None  # `Resource:operation`, all that a key may; None: no such bound
    maker_roles: frozenset[str] | None = None  # of a key: the roles of its maker's token; None: not known

    #: What a transaction for this caller tells PostgreSQL.
    session: SessionContext = field(init=False, repr=False, compare=False)
    #: What `$user`, `$tenant` and `$now` of rules stand for; None makes a comparison unknown.
    variables: Mapping[str, Any] = field(init=False, repr=False, compare=False)
    #: Whether rows of every tenant are asked for; row-level security shows the published ones.
    anywhere: bool = field(init=False, repr=False, compare=False)
    #: As whom budgets count it: a user, or an API key, which has a budget of its own.
    counted_as: str = field(init=False, repr=False, compare=False)
    #: As whose the budgets of tenants count it, which are its own tenant's.
    counted_for: str = field(init=False, repr=False, compare=False)
    #: What the authorizer has found out of the caller: it alone writes this, and knows how long it holds.
    standing: Any = field(init=False, default=None, repr=False, compare=False)
    #: What `of_control_plane` returns, as soon as it was asked for.
    _controlling: Principal | None = field(init=False, default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Fill in, once, what every request of the caller needs."""
        visiting = self.visiting_from is not None
        tenant = self.tenant
        session = SessionContext(
            tenant_id=self.session_tenant_id,
            user_id=self.user_id,
            visiting=visiting,
            place=None if tenant is None else tenant.place,
            database=self.looking_in if tenant is None else tenant.database,
        )
        object.__setattr__(self, "session", session)
        # Texts are made and hashed once, and one object where they are equal: every request needs them.
        home, key = self.home_tenant_id, self.key_id
        counted_for = session.settings[0] if home == self.session_tenant_id else str(home)
        object.__setattr__(self, "anywhere", self.tenant_id == NOBODY)
        object.__setattr__(self, "counted_for", counted_for)
        object.__setattr__(self, "counted_as", f"{home}/{self.user_id}" if key is None else f"key {key}")
        object.__setattr__(self, "variables", _Variables(self))

    @property
    def visiting_from(self) -> int | None:
        """The caller's own tenant where it acts in another one, which an operator does."""
        elsewhere = self.home_tenant_id not in (self.session_tenant_id, NOBODY)
        return self.home_tenant_id if elsewhere else None

    @property
    def apart(self) -> str:
        """What tells a caller from the session's own user who has the same number; nothing is himself."""
        if self.tenant_id != self.session_tenant_id:
            return str(self.tenant_id)
        return "" if self.visiting_from is None else f"of {self.visiting_from}"

    @property
    def at_home_on_platform(self) -> bool:
        """Whether the caller is an operator who acts for the platform itself."""
        return self.platform and self.tenant_id == PLATFORM_TENANT

    def of_control_plane(self) -> Principal:
        """Return the caller as who asks for what no place has: its tenant's record, and the classes."""
        if self.tenant is None or self.tenant.database is None:
            return self
        if self._controlling is None:  # one object for all requests, by which reads are remembered
            controlling = replace(self, tenant=replace(self.tenant, database=None))
            object.__setattr__(self, "_controlling", controlling)
        return self._controlling or self

    def at_home(self) -> Principal:
        """Return the caller as who acts in its own tenant, whichever it has named."""
        id = self.home_tenant_id
        return replace(self, tenant_id=id, session_tenant_id=id, guest=False, tenant=self.home)


class _Variables(Mapping[str, Any]):
    """The caller's variables; all but the time are known from the start."""

    __slots__ = ("_known",)

    def __init__(self, principal: Principal) -> None:
        claims, at_home = principal.claims, principal.home_tenant_id == principal.tenant_id
        self._known = {
            # An operator or a guest has the number of some user of that tenant, and is not that user.
            "user.id": (principal.user_id or None) if at_home else None,
            "user.subject": principal.subject,
            # A key may bear roles that are its maker's only while somebody gives them to him.
            "user.roles": sorted(
                principal.roles if principal.maker_roles is None else principal.roles & principal.maker_roles
            ),
            "user.name": claims.name if claims else None,
            "user.userName": claims.user_name if claims else None,
            "user.email": claims.email if claims else None,
            "tenant": principal.tenant_id if principal.tenant_id != NOBODY else None,
            "now": None,
        }

    def __getitem__(self, name: str) -> Any:
        return datetime.now(UTC) if name == "now" else self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


#: Nobody, who has named no tenant.
ANONYMOUS: Final = Principal()


class Authenticator:
    """Turns the headers of a request into its Principal."""

    def __init__(
        self,
        verifier: TokenVerifier,
        tenants: TenantDirectory,
        users: UserDirectory,
        *,
        keys: KeyDirectory | None = None,
        revocations: Revocations | None = None,
        seconds: float = UNFOLLOWED_SECONDS,
        max_entries: int = 10_000,
        followed: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        verifier: checks the token.
        tenants: finds its tenant.
        users: finds its user's row.
        keys: finds API keys; None: there are none.
        revocations: knows what is revoked; None: nothing is.
        seconds: how long a Principal is used before tenant and user are looked at again, while changes
            are not followed.
        max_entries: how many are kept.
        followed: whether changes are followed; Principals are used for long then.
        clock: monotonic seconds.
        """
        self._verifier = verifier
        self._tenants = tenants
        self._users = users
        self._keys = keys
        self._revocations = Revocations() if revocations is None else revocations
        self._principals: Expiring[tuple[Claims | ApiKey, str | None, BrowserSession | None], Principal] = (
            Expiring(
                seconds=seconds,
                max_entries=max_entries,
                followed_seconds=FOLLOWED_SECONDS,
                followed=followed,
                clock=clock,
            )
        )

    def known(self, authorization: str | None, x_tenant: str | None = None) -> Principal | None:
        """Return what `authenticate` would, where nothing has to be looked up; None: it is to be asked.

        Raises:
            Unauthenticated: the token was revoked.
        """
        if authorization is None:
            return ANONYMOUS if x_tenant is None else None
        # What follows the scheme was a token of the right form when it was remembered.
        token = self._verifier.remembered(authorization[7:]) if authorization[:7] == "Bearer " else None
        if token is None:
            return None
        named = (token.claims, x_tenant, None)
        principal = self._of_token(token) if x_tenant is None else self._principals.get(named)
        if principal is not None and self._revocations.concern(principal.home_tenant_id):
            self._refuse_revoked_token(principal, token.claims.issued_at, token.claims.token_id)
        return principal

    def _of_token(self, token: KnownToken) -> Principal | None:
        """Return who calls by a token alone, found by the token itself the next time."""
        kept: Kept[Principal] | None = token.caller
        if kept is not None and (principal := self._principals.of(kept)) is not None:
            return principal
        kept = token.caller = self._principals.kept((token.claims, None, None))
        return None if kept is None else kept.value

    async def authenticate(self, authorization: str | None, x_tenant: str | None = None) -> Principal:
        """Return who calls; the anonymous Principal when no Authorization header was sent.

        Args:
            authorization: the header's value; several headers are given joined by `, `.
            x_tenant: the X-Tenant header's value, a slug or a ULID.

        Raises:
            Unauthenticated: a header that is not one good Bearer token, no active tenant, no active user.
            Forbidden: a tenant's user names another tenant that has opened no row to the user's own.
            NotFound: the named tenant does not exist.
            InvalidHeader: X-Tenant is not a name at all.
            TenantMoving: the tenant's own tables lack a revision.
            AuthUnavailable: the identity provider is away and the token's key unknown.
        """
        if authorization is None:
            return ANONYMOUS if x_tenant is None else await self._anonymous(x_tenant)
        return await self._by_header(authorization, x_tenant, None)

    async def tenant_at(self, domain: str) -> str | None:
        """Return the slug of the tenant whose own domain this is; None: it is nobody's.

        Args:
            domain: in small letters, without a port.
        """
        tenant = await self._tenants.by_domain(domain)
        return None if tenant is None else tenant.slug

    async def _by_header(
        self, authorization: str, x_tenant: str | None, session: BrowserSession | None
    ) -> Principal:
        """Return who calls by a token, whose cookie a session may have kept."""
        bearer = _BEARER.fullmatch(authorization)
        if bearer is None:
            told = "The Authorization header is not `Bearer <token>`"
            raise Unauthenticated(told, error="invalid_request", unproven=True)
        if bearer[1].startswith(KEY_PREFIX):
            return await self._by_key(bearer[1], x_tenant)
        claims = await self._verifier.verify(bearer[1])
        principal = self._principals.get((claims, x_tenant, session))
        if principal is None:
            asked = self._principals.turn
            principal = await self._principal(claims, x_tenant)
            if session is not None:
                begun_at = self._verifier.made_after(principal.realm, session.begun_at)
                principal = replace(principal, browser=session, made_at=min(principal.made_at, begun_at))
            self._principals.put((claims, x_tenant, session), principal, asked)
        self._refuse_revoked_token(principal, claims.issued_at, claims.token_id)
        return principal

    async def authenticate_session(
        self, authorization: str, x_tenant: str | None = None, *, begun_at: float, session_id: str | None
    ) -> Principal:
        """Return who has begun a session, by the token that it goes on with.

        A token that was given for a renewal is younger than the session: what was revoked in between is
        revoked with all that came of it.

        Args:
            authorization: as of `authenticate`.
            x_tenant: as of `authenticate`.
            begun_at: when the session began, in seconds since the epoch.
            session_id: by which it may have been revoked; None: by its token alone.

        Raises:
            ApiError: as of `authenticate`; Unauthenticated also when the session was revoked.
        """
        session = BrowserSession(id=session_id, begun_at=begun_at)
        principal = await self._by_header(authorization, x_tenant, session)
        self._refuse_revoked_token(principal, begun_at, session_id)
        return principal

    async def _by_key(self, text: str, x_tenant: str | None) -> Principal:
        """Return the user for whom an API key acts, with the key's roles."""
        if self._keys is None:
            raise Unauthenticated("There are no API keys here", error="invalid_token")
        key = await self._keys.resolve(text)
        principal = self._principals.get((key, x_tenant, None))
        if principal is None:
            asked = self._principals.turn
            principal = await self._principal_of_key(key, x_tenant)
            self._principals.put((key, x_tenant, None), principal, asked)
        self._refuse_revoked(principal, key.created_at, key.id)
        self._keys.used(key)
        return principal

    def _refuse_revoked_token(self, principal: Principal, issued_at: float, id: str | None) -> None:
        """Refuse a token that was revoked, or a session that began with it: both tell their issuer's time."""
        self._refuse_revoked(principal, self._verifier.made_after(principal.realm, issued_at), id)

    def _refuse_revoked(self, principal: Principal, made_at: float, token_id: str | None) -> None:
        """Refuse what was revoked by itself, or with its user or tenant.

        Args:
            principal: whose it is.
            made_at: when it was made, in seconds since the epoch.
            token_id: by which it may have been revoked.

        Raises:
            Unauthenticated: it was.
        """
        home, user = principal.home_tenant_id, principal.user_id
        if self._revocations.refuses(home, user, made_at, token_id, principal.subject):
            raise _revoked()

    async def require_standing(self, principal: Principal, /, *, unexpired: bool = False) -> None:
        """See that a caller who was let in some time ago would be let in now; for what takes long.

        Args:
            principal: who it is.
            unexpired: refuse also who came with a token or key that has expired meanwhile. That ends no
                work with an end of its own, but nobody listens for ever by a token of an hour.

        Raises:
            Unauthenticated: tenant or user is not active any more, or the token or key was revoked, or the
                session of the browser that brought the token, whichever token it has gone on with since.
        """
        claims = principal.claims
        if claims is None:
            return
        home = await self._tenants.by_realm(claims.realm)
        if home is None or not home.active:
            raise Unauthenticated("The token's tenant is not active", error="invalid_token")
        if not (await self._user(claims, home, key=principal.key_id is not None)).active:
            raise Unauthenticated("The token's user is not active", error="invalid_token")
        if principal.key_id is not None:
            self._refuse_revoked(principal, claims.issued_at, principal.key_id)
        else:
            self._refuse_revoked_token(principal, claims.issued_at, claims.token_id)
        if principal.browser is not None:
            self._refuse_revoked_token(principal, principal.browser.begun_at, principal.browser.id)
        if principal.guest:
            await self._require_host(principal, home)
        if principal.key_id is not None and self._keys is not None:
            await self._keys.require(principal.key_id, principal.key_hash, unexpired=unexpired)
        elif unexpired:
            self._verifier.refuse_expired(claims)

    async def _require_host(self, principal: Principal, home: Tenant) -> None:
        """See that the tenant that a guest visits is active and has still opened something to his own."""
        name = "" if principal.tenant is None else principal.tenant.ulid
        host = await self._tenants.host_of(home.id, name)
        if host is None or not host.active:
            told = "The tenant that X-Tenant names opens nothing to yours any more"
            raise Unauthenticated(told, error="invalid_token")

    def forget(self, tenants: Collection[int] | None = None) -> None:
        """Look at these tenants anew, at their users, keys, and guests; None: at everything."""
        if tenants is None:
            self._principals.forget()
        else:
            self._principals.forget(lambda _, one: one.home_tenant_id in tenants or one.tenant_id in tenants)
        self._tenants.forget(tenants)
        self._users.forget(tenants)
        if self._keys is not None:
            self._keys.forget(tenants)

    async def _principal(self, claims: Claims, x_tenant: str | None) -> Principal:
        home = await self._tenants.by_realm(claims.realm)
        if home is None or not home.active:
            raise Unauthenticated("The token's tenant is not active", error="invalid_token")
        return await self._acting(claims, home, await self._user(claims, home), x_tenant)

    async def _user(self, claims: Claims, home: Tenant, *, key: bool = False) -> User:
        """Return the row of a user, which is not written anew for what he had before it was deleted."""
        made_at = claims.issued_at if key else self._verifier.made_after(claims.realm, claims.issued_at)
        if self._revocations.refuses(home.id, 0, made_at, None, claims.subject):
            raise _revoked()
        return await self._users.resolve(claims, home, made_at)

    async def _principal_of_key(self, key: ApiKey, x_tenant: str | None) -> Principal:
        home = await self._tenants.by_realm(key.realm)
        if home is None or home.id != key.tenant_id or not home.active:
            raise Unauthenticated("The API key's tenant is not active", error="invalid_token")
        claims = Claims(
            realm=key.realm,
            issuer="",
            subject=key.subject,
            client=None,
            token_id=None,
            session_id=None,
            roles=key.roles,
            scopes=frozenset(),
            name=key.name,
            user_name=key.user_name,
            email=key.email,
            issued_at=int(key.created_at),
            expires_at=int(key.expires_at),
        )
        user = User(id=key.user_id, status=key.user_status)
        principal = await self._acting(claims, home, user, x_tenant)
        return replace(
            principal, made_at=key.created_at, key_id=key.id, key_hash=key.hash,
            operations=key.operations, maker_roles=key.maker_roles,
        )  # fmt: skip

    async def _acting(self, claims: Claims, home: Tenant, user: User, x_tenant: str | None) -> Principal:
        if not user.active:
            raise Unauthenticated("The token's user is not active", error="invalid_token")
        platform = claims.realm == PLATFORM_REALM
        tenant = home if x_tenant is None else await self._chosen(x_tenant, home, platform=platform)
        _refuse_behind(tenant)
        guest = not platform and tenant.id != home.id
        return Principal(
            user_id=user.id,
            subject=claims.subject,
            realm=claims.realm,
            tenant_id=tenant.id,
            session_tenant_id=home.id if guest else tenant.id,
            home_tenant_id=home.id,
            roles=claims.roles,
            anonymous=False,
            platform=platform,
            guest=guest,
            tenant=tenant,
            home=home,
            claims=claims,
            made_at=self._verifier.made_after(claims.realm, claims.issued_at),
        )

    async def _chosen(self, name: str, home: Tenant, *, platform: bool) -> Tenant:
        """Return the tenant a signed-in caller names.

        Operators name any, everybody else their own, or one that has opened a row to their own.
        """
        _check_name(name)
        if name in (home.ulid, home.slug):
            return home
        if not platform:
            host = await self._tenants.host_of(home.id, name)
            if host is None or not host.active:
                # The same words for a tenant that exists and one that does not.
                raise Forbidden("X-Tenant names another tenant than your own")
            return host
        tenant = await self._tenants.by_name(name)
        if tenant is None:
            raise NotFound("The tenant that X-Tenant names does not exist")
        return tenant

    async def _anonymous(self, name: str) -> Principal:
        """Return nobody, who asks for the published rows of one tenant."""
        _check_name(name)
        tenant = await self._tenants.by_name(name)
        if tenant is None or not tenant.active:
            raise NotFound("The tenant that X-Tenant names does not exist")
        _refuse_behind(tenant)
        return Principal(tenant_id=tenant.id, tenant=tenant)


def _revoked() -> Unauthenticated:
    return Unauthenticated("What was sent to sign in with was revoked", error="invalid_token")


def _refuse_behind(tenant: Tenant) -> None:
    if tenant.behind:
        raise TenantMoving("The tenant's tables are being brought up to date; try again.")


def _check_name(name: str) -> None:
    if not _TENANT_NAME.fullmatch(name):
        raise InvalidHeader("X-Tenant must be one tenant's slug or ULID")
