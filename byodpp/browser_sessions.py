"""Sessions of browsers: an access token in a cookie that no script can read, and what proves the page.

In: requests, and the token of one that begins a session. Out: cookies, and the token of later requests.
The token is sealed in the cookie with a second word, which the page sends in `X-CSRF-Token` with
whatever may change something: another site's page can make a browser send the cookie, but knows no word.
May reject: Unauthenticated (the cookie), CrossSite (the page), Conflict (an address where the cookie
would travel in the open).
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from binascii import Error as NotBase64
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from byodpp.encryption import EncryptionKeys, Unreadable, bound_to
from byodpp.exceptions import Conflict, CrossSite, Unauthenticated
from byodpp.requests import Request
from byodpp.settings import Settings

__all__ = ["CSRF_HEADER", "BrowserSessions", "Session"]

CSRF_HEADER: Final = "X-CSRF-Token"
_CSRF: Final = CSRF_HEADER.lower().encode()
_BOUND: Final = bound_to("byodpp session")
#: A cookie with `__Host-` came from this very host over https: none of its neighbours can set one.
_SECURE_NAME: Final = "__Host-byodpp-session"
#: On the developer's own machine there is no https.
_LOOPBACK_NAME: Final = "byodpp-session"
#: What browsers keep of one cookie, name and attributes included.
_MOST_BYTES: Final = 4_096
_UNSAFE_BUT: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a cookie holds."""

    token: str  # access token
    word: str  # that the page proves itself with


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
            parts = urlsplit(public_url)
            self._origin = f"{parts.scheme}://{parts.netloc}".lower()

    @classmethod
    def of(cls, settings: Settings, keys: EncryptionKeys) -> BrowserSessions | None:
        """Return the sessions of an application; None where it wants none."""
        return cls(keys, settings.public_url) if settings.browser_sessions else None

    # --- judging ----------------------------------------------------------------------

    def token(self, request: Request) -> str | None:
        """Return the token of a request that brings a cookie; None when it brings none.

        Raises:
            Unauthenticated: the cookie is not one of ours.
            CrossSite: it was sent on behalf of another site, or nobody can tell.
        """
        session = self.session(request)
        if session is None:
            return None
        if request.header(b"sec-fetch-site") not in (None, "same-origin", "none"):
            raise CrossSite
        if request.method not in _UNSAFE_BUT:
            self.refuse_foreign(request)
            word = request.header(_CSRF)
            if word is None or not hmac.compare_digest(word.encode(), session.word.encode()):
                raise CrossSite(f"{CSRF_HEADER} must hold the `csrfToken` of GET /session.")
        return session.token

    def session(self, request: Request) -> Session | None:
        """Return what the cookie of a request holds, however it got here; None when there is none.

        Raises:
            Unauthenticated: it is not one of ours.
        """
        name, found = self._name(request), []
        header = request.header(b"cookie")
        if name is None or header is None or name not in header:
            return None
        for part in header.replace(",", ";").split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                found.append(value)
        if not found:
            return None
        if len(found) > 1:
            raise Unauthenticated("The session's cookie was sent twice")
        return self._opened(found[0])

    def refuse_foreign(self, request: Request) -> None:
        """Refuse a request that no page of this very address has made.

        Raises:
            CrossSite: its Origin is another one, or there is none.
        """
        origin = request.header(b"origin")
        if origin is None or origin.lower() != self._own_origin(request):
            raise CrossSite

    def _opened(self, value: str) -> Session:
        key_id, _, text = value.partition(".")
        try:
            sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            token, word = json.loads(self._keys.open(key_id, sealed, _BOUND))
        except (NotBase64, ValueError, Unreadable):
            raise Unauthenticated("The session's cookie is not valid") from None
        return Session(token=token, word=word)

    # --- making -----------------------------------------------------------------------

    def begin(self, request: Request, token: str, expires_at: int) -> tuple[str, Session]:
        """Return the cookie of a new session, and what it holds.

        Args:
            request: that begins it.
            token: that was sent with it, and is good.
            expires_at: when the token ends, in seconds since the epoch; the cookie ends with it.

        Raises:
            Conflict: there is no https here, or the token is too long.
            CrossSite: a page of another site asks.
        """
        if self._name(request) is None:
            raise Conflict("Sessions need https: set PUBLIC_URL to the https:// address of this server.")
        if request.header(b"origin") is not None:
            self.refuse_foreign(request)
        session = Session(token=token, word=secrets.token_urlsafe(32))
        sealed = self._keys.seal(json.dumps([session.token, session.word]), _BOUND)
        value = base64.urlsafe_b64encode(sealed).decode().rstrip("=")
        seconds = max(0, expires_at - int(time.time()))
        cookie = self._cookie(request, f"{self._keys.current}.{value}", seconds)
        if len(cookie) > _MOST_BYTES:
            raise Conflict("The token is too long for a cookie: send it as `Authorization: Bearer`.")
        return cookie, session

    def ended(self, request: Request) -> str | None:
        """Return the cookie that takes a session's place when it has ended; None where none is looked at."""
        return None if self._name(request) is None else self._cookie(request, "", 0)

    def _cookie(self, request: Request, value: str, seconds: int) -> str:
        name = self._name(request)
        secure = "; Secure" if name == _SECURE_NAME else ""
        return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"

    # --- where we are -----------------------------------------------------------------

    def _own_origin(self, request: Request) -> str:
        return self._origin or f"http://{(request.header(b'host') or '').lower()}"

    def _name(self, request: Request) -> str | None:
        """Return the cookie's name; None where it would travel in the open, and is not looked at."""
        try:
            parts = urlsplit(self._own_origin(request))
        except ValueError:  # the Host header names no host: not this machine
            return None
        if parts.scheme == "https":
            return _SECURE_NAME
        return _LOOPBACK_NAME if _is_loopback(parts.hostname or "") else None


def _is_loopback(host: str) -> bool:
    # A name that leads here may be anybody's, so that only this one is believed.
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
