"""Signing in by plain forms, page by page, as somebody does who fills in whatever is asked for."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import struct
import time
from collections.abc import Callable, Mapping
from functools import partial
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx2

__all__ = ["Walked", "code_of", "walk"]

#: More pages than any way of signing in has.
_MOST_PAGES = 20


class _Forms(HTMLParser):
    """The forms of a page: the address of each, and its fields with their values."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append((said.get("action", ""), {}))
        elif tag == "input" and self.found and "name" in said and said.get("type") != "checkbox":
            self.found[-1][1][said["name"]] = said.get("value", "")


class Walked:
    """How signing in ended: where it led, and what was asked for on the way."""

    def __init__(self) -> None:
        self.address = ""
        self.pages: list[dict[str, str]] = []  # the fields of each form, as they were sent
        self.verifier = secrets.token_urlsafe(48)

    def asked(self, field: str) -> bool:
        return any(field in page for page in self.pages)

    @property
    def code(self) -> str:
        return parse_qs(urlsplit(self.address).query)["code"][0]


async def walk(
    realm_url: str, client_id: str, landing: str, fill: Mapping[str, str | Callable[..., str]], **more: str
) -> Walked:
    """Sign in at a realm, and stop before the application's own page.

    Args:
        realm_url: of the realm.
        client_id: of the application.
        landing: the application's address.
        fill: by the name of a field what is put in; a function gets the form's other values.
        more: further parameters of the first request, e.g. `kc_idp_hint`.
    """
    walked = Walked()
    challenge = base64.urlsafe_b64encode(hashlib.sha256(walked.verifier.encode()).digest()).rstrip(b"=")
    asked = {
        "client_id": client_id,
        "redirect_uri": landing,
        "response_type": "code",
        "scope": "openid",
        "code_challenge": challenge.decode(),
        "code_challenge_method": "S256",
        **more,
    }
    url = f"{realm_url}/protocol/openid-connect/auth?{urlencode(asked)}"
    async with httpx2.AsyncClient(timeout=60, follow_redirects=False) as client:
        client.event_hooks = {"response": [partial(_as_on_this_machine, client)]}
        answer = await client.get(url)
        for _ in range(_MOST_PAGES):
            while answer.is_redirect:
                address = urljoin(str(answer.url), answer.headers["location"])
                if address.startswith(landing):
                    walked.address = address
                    return walked
                answer = await client.get(address)
            assert answer.is_success, f"{answer.status_code} {_words(answer.text)}"
            answer = await _fill_in(client, answer, fill, walked)
    raise AssertionError(f"signing in does not end; asked for {walked.pages}")


async def _as_on_this_machine(client: httpx2.AsyncClient, _: Any) -> None:
    """Send cookies that are marked as secure to this machine, too, as browsers do."""
    for cookie in client.cookies.jar:
        cookie.secure = False


def _words(page: str) -> str:
    """Return what somebody reads on a page."""
    text = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())[:1_000]


async def _fill_in(client: httpx2.AsyncClient, page: Any, fill: Mapping[str, Any], walked: Walked) -> Any:
    forms = _Forms(page.text).found
    assert forms, _words(page.text)
    action, fields = forms[0]
    for name in fields.keys() & fill.keys():
        value = fill[name]
        fields[name] = value(fields) if callable(value) else value
    walked.pages.append(dict(fields))
    return await client.post(urljoin(str(page.url), action), data=fields)


def code_of(secret: str, *, steps: int = 0) -> str:
    """Return what an authenticator shows, `steps` half minutes from now (RFC 6238, six digits)."""
    counter = int(time.time()) // 30 + steps
    digest = hmac.new(secret.encode(), struct.pack(">Q", counter), hashlib.sha1).digest()
    at = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[at : at + 4])[0] & 0x7FFFFFFF) % 1_000_000:06d}"
