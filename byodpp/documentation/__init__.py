"""The documentation: the OpenAPI document, and pages that people read, from the server itself.

In: a function that makes the document. Out: routes. Everything is made at first request, off the
event loop, and kept; nothing is loaded from elsewhere, and the Content-Security-Policy says so.
May reject: NotFound.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any, Final

from byodpp.documentation.pages import Book
from byodpp.documentation.sign_in import SignIn
from byodpp.exceptions import NotFound
from byodpp.heap import building_to_stay
from byodpp.negotiation import JSON
from byodpp.openapi import as_read, openapi_bytes
from byodpp.requests import Request
from byodpp.responses import Answer
from byodpp.routes import Endpoint, Route

__all__ = ["documentation_routes"]

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src {connect}; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_TYPES: Final = {
    "docs.css": "text/css; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "docs.svg": "image/svg+xml",
    "sign-in.js": "text/javascript; charset=utf-8",
}
_HTML: Final = "text/html; charset=utf-8"
#: Pages kept in memory; with a thousand resources all of them would be too many.
_KEPT: Final = 64


def documentation_routes(
    document: Callable[[], dict[str, Any]], sign_in: SignIn | None = None
) -> list[Route]:
    """Return the routes of the documentation.

    Args:
        document: makes the OpenAPI document; called once, in another thread.
        sign_in: where people sign in; without it the pages take a token that is pasted.
    """
    served = _Documentation(document, sign_in)
    handlers: Mapping[str, Callable[[Request], Awaitable[Answer]]] = {
        "/": served.root,
        "/openapi.json": served.document,
        "/docs": served.index,
        "/docs/{version}/{resource}": served.page,
        "/docs/assets/{name}": served.asset,
    }
    routes = [
        Route(
            pattern=pattern,
            methods={"GET": Endpoint(handler=handler, guarded=False, produces=(), summary="Documentation")},
        )
        for pattern, handler in handlers.items()
    ]
    if sign_in is not None and sign_in.offered:
        way = Endpoint(handler=sign_in.way, guarded=False, sign_in=True, produces=(), summary="Sign-in")
        routes.append(Route(pattern="/docs/sign-in/{tenant}", methods={"GET": way}))
    return routes


class _Documentation:
    """Makes what is asked for, once."""

    def __init__(self, document: Callable[[], dict[str, Any]], sign_in: SignIn | None) -> None:
        self._make = document
        self._signs_in = sign_in is not None and sign_in.offered
        # The page exchanges its code for a token at the identity provider itself, and speaks to nobody else.
        connect = f"'self' {sign_in.origin}" if sign_in is not None and sign_in.offered else "'self'"
        self._policy = _POLICY.format(connect=connect)
        self._lock = asyncio.Lock()
        self._bytes = b""
        self._tag = ""
        self._book: Book | None = None
        self._pages: OrderedDict[str, bytes] = OrderedDict()
        self._assets: dict[str, bytes] = {}

    async def document(self, request: Request) -> Answer:
        """Answer with the document."""
        await self._ready()
        return _cached(request, self._bytes, self._tag, JSON)

    async def root(self, request: Request) -> Answer:
        """Lead who opens the server's address to the documentation."""
        return Answer(status=302, headers={"Location": "/docs"})

    async def index(self, request: Request) -> Answer:
        """Answer with the first page."""
        book = await self._ready()
        return await self._html(request, "", book.index)

    async def page(self, request: Request) -> Answer:
        """Answer with a resource's page.

        Raises:
            NotFound: there is no such page.
        """
        book = await self._ready()
        name = f"{request.params['version']}/{request.params['resource']}"
        if not book.has(name):
            raise NotFound("There is no such page; /docs lists them all.")
        return await self._html(request, name, lambda: book.resource(name))

    async def asset(self, request: Request) -> Answer:
        """Answer with a file of the pages.

        Raises:
            NotFound: there is no such file.
        """
        await self._ready()
        name = request.params["name"]
        if name not in _TYPES:
            raise NotFound("There is no such file.")
        content = self._assets[name]
        return _cached(request, content, _digest(content), _TYPES[name])

    async def _html(self, request: Request, name: str, make: Callable[[], str]) -> Answer:
        content = self._pages.get(name)
        if content is None:
            content = (await asyncio.to_thread(make)).encode()
            self._pages[name] = content
            if len(self._pages) > _KEPT:
                self._pages.popitem(last=False)
        else:
            self._pages.move_to_end(name)
        answer = _cached(request, content, _digest(content), _HTML)
        answer.headers = {**answer.headers, "Content-Security-Policy": self._policy}
        return answer

    async def _ready(self) -> Book:
        """Return the book; whoever comes while it is made waits for it."""
        if self._book is None:
            async with self._lock:
                if self._book is None:
                    self._book = await asyncio.to_thread(self._build)
        return self._book

    def _build(self) -> Book:
        folder = resources.files("byodpp") / "assets"
        self._assets = {name: (folder / name).read_bytes() for name in _TYPES}
        # A new file has a new address, so that no page is shown with the style of another release.
        addresses = {name: f"/docs/assets/{name}?{_digest(one)[:8]}" for name, one in self._assets.items()}
        with building_to_stay():
            document = self._make()
            self._bytes = openapi_bytes(document)
            self._tag = _digest(self._bytes)
            return Book(as_read(document), addresses, signs_in=self._signs_in)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]


def _cached(request: Request, content: bytes, digest: str, media_type: str) -> Answer:
    """Answer with the content, or with 304 when the client has it."""
    tag = f'"{digest}"'
    headers = {"ETag": tag, "Cache-Control": "public, no-cache"}
    known = request.header(b"if-none-match") or ""
    if known.strip() == "*" or tag in {one.strip().removeprefix("W/") for one in known.split(",")}:
        return Answer(status=304, headers=headers)
    return Answer(headers=headers, body=content, media_type=media_type)
