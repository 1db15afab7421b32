"""Sessions of browsers: an access token in a cookie that no script can read, and what proves the page.

In: requests, and the token of one that begins a session. Out: cookies, and the token of later requests.
The token is sealed in the cookie with a second word, which the page sends in `X-CSRF-Token` with
whatever may change something: another site's page can make a browser send the cookie, but knows no word.
A second cookie may hold the refresh token, for which the provider gives the next access token.
May reject: Unauthenticated (the cookie), CrossSite (the page), Conflict (an address where the cookie
would travel in the open).
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from binascii import Error as NotBase64
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from byodpp.encryption import EncryptionKeys, Unreadable, bound_to
from byodpp.exceptions import Conflict, CrossSite, Unauthenticated
from byodpp.requests import Request
from byodpp.settings import Settings

__all__ = ["CSRF_HEADER", "SESSION_SECONDS", "BrowserSessions", "Renewal", "Session"]

CSRF_HEADER: Final = "X-CSRF-Token"
_CSRF: Final = CSRF_HEADER.lower().encode()
_BOUND: Final = bound_to("byodpp session")
_BOUND_RENEWAL: Final = bound_to("byodpp session renewal")
#: A session that can be renewed lasts no longer than this after its sign-in.
SESSION_SECONDS: Final = 14 * 24 * 3_600
#: A cookie with `__Host-` came from this very host over https: none of its neighbours can set one.
_SECURE_NAME: Final = "__Host-byodpp-session"
#: On the developer's own machine there is no https.
_LOOPBACK_NAME: Final = "byodpp-session"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
#: What browsers keep of one cookie, name and attributes included.
_MOST_BYTES: Final = 4_096
_UNSAFE_BUT: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a cookie holds."""

    token: str  # access token
    word: str  # that the page proves itself with
    begun_at: int  # seconds since the epoch; a renewal does not change it
    id: str | None = None  # by which it is revoked; None: it cannot be renewed, and ends with its token


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What the second cookie holds: by what a session goes on when its token has ended."""

    id: str  # of the session, by which it is revoked
    realm: str
    subject: str  # who has signed in
    begun_at: int  # seconds since the epoch
    word: str  # of the session: pages that are open know it
    token: str  # refresh token

    @property
    def ends_at(self) -> int:
        """When it is renewed no more, in seconds since the epoch."""
        return self.begun_at + SESSION_SECONDS


class BrowserSessions:
    """Makes cookies and judges them."""

    def __init__(self, keys: EncryptionKeys, public_url: str | None) -> None:
        """Args:
        keys: seal the cookies.
        public_url: where browsers reach this server; None: on this machine alone.
        """
        self._keys = keys
        self._origin: str | None = None
        if public_url is not None:
            self._origin = _origin_of(public_url)

    @classmethod
    def of(cls, settings: Settings, keys: EncryptionKeys) -> BrowserSessions | None:
        """Return the sessions of an application; None where it wants none."""
        return cls(keys, settings.public_url) if settings.browser_sessions else None

    # --- judging ----------------------------------------------------------------------

    def judged(self, request: Request) -> Session | None:
        """Return the session of a request that brings a cookie; None when it brings none.

        Raises:
            Unauthenticated: the cookie is not one of ours, or the session has lasted too long.
            CrossSite: it was sent on behalf of another site, or nobody can tell.
        """
        session = self.session(request)
        if session is None:
            return None
        request.credentials = f"Bearer {session.token}"
        if session.id is not None and session.begun_at + SESSION_SECONDS <= time.time():
            raise Unauthenticated("The session has ended: sign in again", error="invalid_token")
        self.refuse_other_site(request)
        if request.method not in _UNSAFE_BUT:
            self.refuse_without_word(request, session.word)
        return session

    def session(self, request: Request) -> Session | None:
        """Return what the cookie of a request holds, however it got here; None when there is none.

        Raises:
            Unauthenticated: it is not one of ours.
        """
        name = self._name(request)
        value = None if name is None else self._value(request, name)
        if value is None:
            return None
        token, word, begun_at, id = self._opened(value, _BOUND, 4)
        return Session(token=token, word=word, begun_at=begun_at, id=id)

    def refuse_foreign(self, request: Request) -> None:
        """Refuse a request that no page of this very address has made.

        Raises:
            CrossSite: its Origin is another one, or there is none.
        """
        origin = request.header(b"origin")
        if origin is None or origin.lower() != self._own_origin(request):
            raise CrossSite

    def refuse_without_word(self, request: Request, word: str) -> None:
        """Refuse a request that no page of this very address has made that knows the session's word.

        Raises:
            CrossSite: its Origin is another one, or the word is not there.
        """
        self.refuse_foreign(request)
        sent = request.header(_CSRF)
        if sent is None or not hmac.compare_digest(sent.encode(), word.encode()):
            raise CrossSite(f"{CSRF_HEADER} must hold the `csrfToken` of GET /session.")

    def renewal(self, request: Request) -> Renewal | None:
        """Return what the second cookie of a request holds; None when there is none.

        Raises:
            Unauthenticated: it is not one of ours.
        """
        name = self._name(request)
        value = None if name is None else self._value(request, _second(name))
        if value is None:
            return None
        id, realm, subject, begun_at, word, token = self._opened(value, _BOUND_RENEWAL, 6)
        return Renewal(id=id, realm=realm, subject=subject, begun_at=begun_at, word=word, token=token)

    def refuse_other_site(self, request: Request) -> None:
        """Refuse a request that a browser marks as another site's.

        Raises:
            CrossSite: it does.
        """
        if request.header(b"sec-fetch-site") not in (None, "same-origin", "none"):
            raise CrossSite

    def _value(self, request: Request, name: str) -> str | None:
        header = request.header(b"cookie")
        if header is None or name not in header:
            return None
        parts = [part.strip().partition("=") for part in header.replace(",", ";").split(";")]
        found = [value for key, _, value in parts if key == name]
        if len(found) > 1:
            raise Unauthenticated("The session's cookie was sent twice")
        return found[0] if found else None

    def _opened(self, value: str, bound: bytes, parts: int) -> list[Any]:
        key_id, _, text = value.partition(".")
        try:
            sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            found = json.loads(self._keys.open(key_id, sealed, bound))
        except (NotBase64, ValueError, Unreadable):
            raise Unauthenticated("The session's cookie is not valid", unproven=True) from None
        if len(found) != parts:
            raise Unauthenticated("The session's cookie is of another release")
        return list(found)

    # --- making -----------------------------------------------------------------------

    def first(self, request: Request, session: Session, expires_at: int) -> str:
        """Return the cookie of a session.

        Args:
            request: that begins it, or goes on with it.
            session: whose token is good.
            expires_at: when the token ends, in seconds since the epoch; the cookie ends with it.

        Raises:
            Conflict: there is no https here, or the token is too long.
            CrossSite: a page of another site asks.
        """
        if self._name(request) is None:
            raise Conflict("Sessions need https: set PUBLIC_URL to the https:// address of this server.")
        if request.header(b"origin") is not None:
            self.refuse_foreign(request)
        parts = [session.token, session.word, session.begun_at, session.id]
        return self._sealed(request, parts, _BOUND, expires_at)

    def renewable(self, request: Request, renewal: Renewal) -> str:
        """Return the second cookie.

        Raises:
            Conflict: the refresh token is too long.
        """
        parts = [renewal.id, renewal.realm, renewal.subject, renewal.begun_at, renewal.word, renewal.token]
        return self._sealed(request, parts, _BOUND_RENEWAL, renewal.ends_at)

    def ended(self, request: Request) -> str | None:
        """Return the cookie that takes a session's place when it has ended; None where none is looked at."""
        name = self._name(request)
        return None if name is None else _cookie(name, "", 0)

    def ended_renewal(self, request: Request) -> str | None:
        """Return the same of the second cookie; None also where none was sent."""
        name = self._name(request)
        sent = name is not None and _second(name) in (request.header(b"cookie") or "")
        return _cookie(_second(name), "", 0) if name is not None and sent else None

    def _sealed(self, request: Request, parts: list[Any], bound: bytes, ends_at: int) -> str:
        name = self._name(request) or _SECURE_NAME
        sealed = self._keys.seal(json.dumps(parts), bound)
        value = base64.urlsafe_b64encode(sealed).decode().rstrip("=")
        seconds = max(0, ends_at - int(time.time()))
        cookie = _cookie(name if bound is _BOUND else _second(name), f"{self._keys.current}.{value}", seconds)
        if len(cookie) > _MOST_BYTES:
            raise Conflict("The token is too long for a cookie: send it as `Authorization: Bearer`.")
        return cookie

    # --- where we are -----------------------------------------------------------------

    def _own_origin(self, request: Request) -> str:
        return self._origin or _origin_of(f"http://{(request.header(b'host') or '').lower()}")

    def _name(self, request: Request) -> str | None:
        """Return the cookie's name; None where it would travel in the open, and is not looked at."""
        try:
            parts = urlsplit(self._own_origin(request))
        except ValueError:  # the Host header names no host: not this machine
            return None
        if parts.scheme == "https":
            return _SECURE_NAME
        return _LOOPBACK_NAME if _is_loopback(parts.hostname or "") else None


def _second(name: str) -> str:
    """Return the name of the second cookie, by that of the first."""
    return name.replace("-session", "-renewal")


def _cookie(name: str, value: str, seconds: int) -> str:
    secure = "; Secure" if name.startswith("__Host-") else ""
    return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


def _origin_of(url: str) -> str:
    """Return the origin of an address as browsers write it: without the port that its scheme has anyway."""
    try:
        parts = urlsplit(url.lower())
        if parts.port is not None and parts.port == _DEFAULT_PORTS.get(parts.scheme):
            return f"{parts.scheme}://{parts.netloc.rpartition(':')[0]}"
    except ValueError:  # the Host header names no host, or no port: nobody's origin is like it
        return url.lower()
    return f"{parts.scheme}://{parts.netloc}"


def _is_loopback(host: str) -> bool:
    # A name that leads here may be anybody's, so that only this one is believed.
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
