"""A client that calls an ASGI application directly and sends exactly what it is told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byodpp.application import Parts, create_application
from byodpp.definitions import ResourceDefinition
from byodpp.exceptions import Unauthenticated
from byodpp.routes import Route
from byodpp.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Message

PRODUCTS = ResourceDefinition(
    name="Products", version="v1", service="Catalogue", table="products", segment="products", fields={}
)


@dataclass(frozen=True)
class Caller:
    user_id: int = 0
    tenant_id: int = -1
    home_tenant_id: int = -1
    anonymous: bool = True
    rights: frozenset[str] = frozenset()
    key_id: str | None = None

    @property
    def counted_as(self) -> str:
        return f"{self.home_tenant_id}/{self.user_id}"

    @property
    def counted_for(self) -> str:
        return str(self.home_tenant_id)

    def of_control_plane(self) -> Caller:
        return self


@dataclass(frozen=True)
class Decision:
    allowed: bool


class Tokens:
    """Knows three tokens: `admin` may do everything, `viewer` may read, `stranger` nothing."""

    def __init__(self) -> None:
        everything = frozenset(
            {"list", "read", "create", "update", "patch", "delete", "batch", "feature:post"}
        )
        rights = {"admin": everything, "viewer": frozenset({"list", "read"}), "stranger": frozenset()}
        self._callers = {
            f"Bearer {name}": Caller(number, 7, 7, anonymous=False, rights=held)
            for number, (name, held) in enumerate(rights.items(), 1)
        }
        self.locked_out = self.expired = False

    def known(self, authorization: str | None, x_tenant: str | None) -> Caller | None:
        return None if authorization is None else self._callers.get(authorization)

    async def authenticate(self, authorization: str | None, x_tenant: str | None) -> Caller:
        if authorization is None:
            return Caller(rights=frozenset({"read"}))
        if authorization not in self._callers:
            raise Unauthenticated(error="invalid_token")
        return self._callers[authorization]

    async def tenant_at(self, domain: str) -> str | None:
        return None

    async def authenticate_session(
        self, authorization: str, x_tenant: str | None, *, begun_at: float, session_id: str | None
    ) -> Caller:
        return await self.authenticate(authorization, x_tenant)

    async def require_standing(self, principal: Any, /, *, unexpired: bool = False) -> None:
        if self.locked_out or (unexpired and self.expired):
            raise Unauthenticated(error="invalid_token")

    def decide(self, principal: Caller, resource: ResourceDefinition, operation_key: str) -> Decision:
        return Decision(operation_key in principal.rights)


@dataclass
class Reply:
    status: int
    raw_headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        joined: dict[str, str] = {}
        for name, value in self.raw_headers:
            key = name.decode()
            joined[key] = f"{joined[key]}, {value.decode()}" if key in joined else value.decode()
        return joined

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json()["error"]["code"])


class PlainClient:
    """Sends requests as they are given: nothing is normalised, nothing is added but `Host`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(
        self,
        method: str,
        target: str | bytes,
        *,
        headers: Sequence[tuple[str, str]] | dict[str, str] = (),
        body: bytes | Sequence[bytes] = b"",
        json_body: Any = None,
        token: str | None = None,
        client: str = "203.0.113.9",
        http_version: str = "1.1",
        host: bool = True,
    ) -> Reply:
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
        if json_body is not None:
            body = json.dumps(json_body).encode()
            pairs.append(("content-type", "application/json"))
        if token is not None:
            pairs.append(("authorization", f"Bearer {token}"))
        names = {name.lower() for name, _ in pairs}
        if isinstance(body, bytes):
            chunks = [body]
            if body and "content-length" not in names:
                pairs.append(("content-length", str(len(body))))
        else:
            chunks = list(body)
            if "content-length" not in names:
                pairs.append(("transfer-encoding", "chunked"))
        if host:
            pairs.insert(0, ("host", "api.example"))
        raw = target if isinstance(target, bytes) else target.encode()
        path, _, query = raw.partition(b"?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": http_version,
            "method": method,
            "scheme": "http",
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in pairs],
            "client": (client, 40000),
            "server": ("127.0.0.1", 3000),
        }
        return await self._exchange(scope, chunks)

    async def _exchange(self, scope: dict[str, Any], chunks: list[bytes]) -> Reply:
        waiting = [
            {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1}
            for index, chunk in enumerate(chunks)
        ]
        reply = Reply(0, [])

        async def receive() -> Message:
            if waiting:
                return waiting.pop(0)
            await asyncio.sleep(3600)
            raise AssertionError("nobody waits that long")

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                reply.status, reply.raw_headers = message["status"], list(message["headers"])
            else:
                reply.chunks.append(message.get("body", b""))

        await self.app(scope, receive, send)
        reply.body = b"".join(reply.chunks)
        return reply


@asynccontextmanager
async def nothing_to_open() -> AsyncIterator[None]:
    yield


def client_of(
    *routes: Route, lines: list[str] | None = None, parts: Any = None, **settings: Any
) -> PlainClient:
    """Return a client of an application with these routes.

    Args:
        routes: all of them.
        lines: collects the access log.
        parts: further arguments of Parts.
        settings: that differ from the defaults.
    """
    tokens = Tokens()
    arguments: dict[str, Any] = {
        "settings": Settings(app_dir=Path("."), **settings),
        "routes": routes,
        "authenticator": tokens,
        "authorizer": tokens,
        "lifespan": nothing_to_open,
        "write_access_line": (lines if lines is not None else []).append,
    }
    return PlainClient(create_application(Parts(**(arguments | (parts or {})))))
