"""The outermost stage: makes the Request, names it, and sends back its names.

In: an ASGI scope. Out: a `Request`, which lies in the scope, too, with the headers that tell its ids.
Rejects nothing: an id that is not safe to log is replaced.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from byodpp.header_lines import HeaderLines
from byodpp.ids import chance_of_requests, request_id
from byodpp.requests import REQUEST, Request

__all__ = ["ClientAddress", "RequestContext", "completing"]

_SAFE_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}")
#: How a socket of IPv6 calls a client of IPv4, when it takes both.
_MAPPED: Final = "::ffff:"
#: An address as some proxies write it: with the client's port, of IPv6 in brackets.
_WITH_PORT: Final = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<four>[0-9.]+))(?::[0-9]{1,5})?")
#: Peers whose trust is remembered; behind proxies there are few of them.
_REMEMBERED: Final = 1024


class ClientAddress:
    """Finds the client's own address when proxies stand in between."""

    def __init__(self, trusted: Sequence[str]) -> None:
        """Args:
        trusted: addresses or networks of proxies that are believed.
        """
        self._networks = tuple(ip_network(entry, strict=False) for entry in trusted)
        self._known: dict[str, bool] = {}

    def of(self, peer: str, forwarded_for: str | None) -> str:
        """Return the address nearest to us that is not a trusted proxy's.

        Args:
            peer: address of the connection; empty when it has none.
            forwarded_for: value of X-Forwarded-For.
        """
        if peer.startswith(_MAPPED):
            peer = str(_parse(peer) or peer)
        if not self._networks or forwarded_for is None or not self._trusted(peer):
            return peer
        address = peer
        for entry in reversed(forwarded_for.split(",")):
            parsed = _entry(entry.strip())
            if parsed is None:
                break  # whoever wrote this is not to be believed any further
            address = str(parsed)
            if not self._trusted(address):
                break
        return address

    def _trusted(self, address: str) -> bool:
        known = self._known.get(address)
        if known is None:
            parsed = _parse(address)
            known = parsed is not None and any(parsed in network for network in self._networks)
            if len(self._known) < _REMEMBERED:
                self._known[address] = known
        return known


def _entry(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address of an entry, which may have a port; None where it is none."""
    found = _WITH_PORT.fullmatch(text)
    return _parse(text if found is None else found["six"] or found["four"])


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed


class RequestContext:
    """Opens requests."""

    def __init__(
        self,
        clients: ClientAddress,
        *,
        max_json_depth: int = 32,
        max_json_values: int | None = None,
        body_timeout_seconds: float = 30.0,
    ) -> None:
        """Args:
        clients: knows which proxies are believed.
        max_json_depth: arrays and objects that may lie in each other in a body.
        max_json_values: values that a body may hold; None: any number.
        body_timeout_seconds: how long a request's body may take to arrive.
        """
        self._clients = clients
        self._max_json_depth = max_json_depth
        self._max_json_values = max_json_values
        self._body_timeout_seconds = body_timeout_seconds
        self._chance = chance_of_requests()

    def open(self, scope: Scope, receive: Receive) -> Request:
        """Make the Request of an HTTP scope, and leave it there."""
        request = scope[REQUEST] = Request(
            scope,
            receive,
            started_at=time.perf_counter(),
            body_timeout_seconds=self._body_timeout_seconds,
            max_json_depth=self._max_json_depth,
            max_json_values=self._max_json_values,
        )
        client = scope.get("client")
        peer = client[0] if client else ""
        request.client_ip = self._clients.of(peer, request.header(b"x-forwarded-for"))
        own = request.request_id = _safe(request.header(b"x-request-id")) or request_id(self._chance())
        request.correlation_id = _safe(request.header(b"x-correlation-id")) or own
        ids = f"x-request-id: {own}\r\nx-correlation-id: {request.correlation_id}\r\n"
        request.prepared.append(ids.encode("ascii"))
        return request


def completing(send: Send, request: Request) -> Send:
    """Return a `send` for applications of others: their answers get the headers that stages have prepared."""

    async def complete(message: Message) -> None:
        if message["type"] == "http.response.start":
            request.status = message["status"]
            own = message["headers"] = list(message.get("headers", ()))
            names = {name for name, _ in own}
            lines = HeaderLines(b"".join(request.prepared))
            prepared = (*lines, *request.response_headers, *request.standing_headers.pairs)
            own += [pair for pair in prepared if pair[0] not in names or pair[0] == b"vary"]
        await send(message)

    return complete


def _safe(value: str | None) -> str | None:
    return value if value is not None and _SAFE_ID.fullmatch(value) else None
