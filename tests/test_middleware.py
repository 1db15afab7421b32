"""What the stages around the controllers let through, add, and refuse."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import RFC_4122, UUID

import pytest

from byodpp.exceptions import Conflict, Detail, NotFound, StartError, Unavailable, ValidationFailed
from byodpp.limits import Budget, SlidingWindows
from byodpp.logs import JsonFormatter, redacted, redacted_query
from byodpp.middleware.cors import Cors
from byodpp.middleware.request_context import ClientAddress
from byodpp.negotiation import Negotiator, wants_problem
from byodpp.requests import Request
from byodpp.responses import Answer, success
from byodpp.routes import PATCH_BODY, Body, Endpoint, Route
from tests.plain_client import PRODUCTS, client_of


async def echo(request: Request) -> Answer:
    return success(
        request, {"params": dict(request.params), "body": request.validated, "ip": request.client_ip}
    )


def loaded(value: Any, principal: Any) -> Any:
    if not isinstance(value, dict):
        raise ValidationFailed(details=[Detail("", "type", "Must be an object.")])
    if "name" not in value:
        raise ValidationFailed(details=[Detail("name", "required", "Is required.")])
    return value


def route(pattern: str = "/api/v1/products/{id}", method: str = "GET", **endpoint: Any) -> Route:
    arguments: dict[str, Any] = {"handler": echo, "resource": PRODUCTS, "operation": "read"} | endpoint
    return Route(pattern=pattern, methods={method: Endpoint(**arguments)})


READ = route(public=True)
CREATE = route("/api/v1/products", "POST", operation="create", body=Body.REQUIRED, load=loaded)


# --- request context --------------------------------------------------------------------


async def test_safe_ids_come_back_and_others_are_replaced() -> None:
    call = client_of(READ)
    given = {"X-Request-ID": "req-1/2", "X-Correlation-ID": "order:77"}
    headers = (await call("GET", "/api/v1/products/1", headers=given)).headers
    assert (headers["x-request-id"], headers["x-correlation-id"]) == ("req-1/2", "order:77")
    for bad in ("", "a b", "x" * 129, "a\r\nb: c", "\x1b[2J", "<script>", "ü"):
        reply = await call("GET", "/api/v1/products/1", headers={"X-Request-ID": bad})
        made = reply.headers["x-request-id"]
        assert len(made) == 32 and made.isalnum()
        assert reply.headers["x-correlation-id"] == made == reply.json()["meta"]["requestId"]


async def test_ids_that_are_made_ascend_so_that_the_trails_index_of_them_grows_at_its_end() -> None:
    call = client_of(READ)
    made = []
    for _ in range(5):
        made.append((await call("GET", "/api/v1/products/1")).headers["x-request-id"])
        begun = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 == begun:
            pass  # within a millisecond they are in no order
    assert made == sorted(made)
    read = [UUID(hex=one) for one in made]
    assert {(one.version, one.variant) for one in read} == {(7, RFC_4122)}
    assert len({one.int & (1 << 60) - 1 for one in read}) == 5


#: What a server does that loads an application once, and forks its workers then.
FORKING = """
import os
from byodpp.middleware.request_context import ClientAddress, RequestContext
context = RequestContext(ClientAddress(()))
for _ in range(3):
    if os.fork() == 0:
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
        request = context.open(scope, None)
        print(request.request_id[-15:], flush=True)
        os._exit(0)
    os.wait()
"""


def test_workers_that_are_forked_make_ids_of_their_own() -> None:
    command = [sys.executable, "-c", FORKING]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert len(told) == len(set(told)) == 3


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "expected"),
    [
        ((), "203.0.113.9", "1.2.3.4", "203.0.113.9"),
        (("10.0.0.0/8",), "203.0.113.9", "1.2.3.4", "203.0.113.9"),
        (("10.0.0.0/8",), "10.1.1.1", "1.2.3.4", "1.2.3.4"),
        (("10.0.0.0/8",), "10.1.1.1", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        (("10.0.0.0/8",), "10.1.1.1", "6.6.6.6, 1.2.3.4, 10.9.9.9", "1.2.3.4"),
        (("10.0.0.0/8",), "10.1.1.1", "garbage", "10.1.1.1"),
        (("10.0.0.0/8",), "10.1.1.1", None, "10.1.1.1"),
        (("10.0.0.0/8",), "", "1.2.3.4", ""),
        (("::1", "10.0.0.0/8"), "::1", "2001:db8::5, ::ffff:10.0.0.3", "2001:db8::5"),
        (("10.0.0.0/8",), "::ffff:10.1.1.1", "1.2.3.4", "1.2.3.4"),
        (("10.0.0.0/8",), "10.1.1.1", "6.6.6.6, 1.2.3.4:5678, 10.9.9.9:443", "1.2.3.4"),
        (("10.0.0.0/8",), "10.1.1.1", "[2001:db8::1]:443", "2001:db8::1"),
        (("10.0.0.0/8",), "10.1.1.1", "[::ffff:1.2.3.4]:443,[::ffff:10.0.0.3]", "1.2.3.4"),
        (("10.0.0.0/8",), "10.1.1.1", "6.6.6.6, 1.2.3.4:port", "10.1.1.1"),
        (("10.0.0.0/8",), "10.1.1.1", "6.6.6.6, 1.2.3.4:", "10.1.1.1"),
        (("10.0.0.0/8",), "10.1.1.1", "6.6.6.6, [1.2.3.4:80", "10.1.1.1"),
    ],
)
def test_only_a_trusted_proxy_is_believed_about_the_client(
    trusted: tuple[str, ...], peer: str, forwarded: str | None, expected: str
) -> None:
    assert ClientAddress(trusted).of(peer, forwarded) == expected


async def test_forwarding_and_override_headers_of_a_client_change_nothing() -> None:
    headers = {"X-Forwarded-For": "1.1.1.1", "X-Real-IP": "1.1.1.1", "Forwarded": "for=1.1.1.1"}
    headers |= {"X-Original-URL": "/admin", "X-HTTP-Method-Override": "DELETE"}
    reply = await client_of(READ)("GET", "/api/v1/products/1", headers=headers)
    assert (reply.status, reply.json()["data"]["ip"]) == (200, "203.0.113.9")


# --- access log -------------------------------------------------------------------------


async def test_one_line_tells_who_asked_what_and_how_it_ended() -> None:
    lines: list[str] = []
    await client_of(READ, lines=lines)("GET", "/api/v1/products/1?sort=name", token="viewer")
    [line] = [json.loads(line) for line in lines]
    assert line["durationMs"] >= 0 and line["timestamp"].endswith("Z") and line["requestId"]
    told = {
        name: line[name]
        for name in ("method", "path", "route", "status", "query", "tenantId", "userId", "clientIp")
    }
    assert told == {
        "method": "GET",
        "path": "/api/v1/products/1",
        "route": "/api/v1/products/{id}",
        "status": 200,
        "query": "sort=name",
        "tenantId": 7,
        "userId": 2,
        "clientIp": "203.0.113.9",
    }


@pytest.mark.parametrize(
    "text", ["%0d%0aX: y", "%1b[2J", "\x1b[2J", "\r\n{}", "${jndi:ldap://x}", "%s%n", "\u2028", "\x9b2J"]
)
async def test_nothing_in_a_request_breaks_out_of_its_line(text: str) -> None:
    lines: list[str] = []
    reply = await client_of(READ, lines=lines)(
        "GET", f"/x/{text}?a={text}", headers={"X-Request-ID": text[:3]}
    )
    assert reply.status in (400, 404)
    assert len(lines) == 1 and lines[0].isascii() and lines[0].isprintable()
    assert not any(name == b"x" for name, _ in reply.raw_headers)


async def test_secrets_in_a_query_are_struck_out_and_a_token_there_is_ignored() -> None:
    lines: list[str] = []
    call = client_of(route(public=False), lines=lines)
    query = 'access_token=xyz1&API-Key=xyz2&pass%77ord=xyz3&filter={"secret":"xyz4"}&sort=name'
    assert (await call("GET", f"/api/v1/products/1?{query}")).status == 401
    assert "xyz" not in lines[0] and "sort=name" in lines[0]


def test_secrets_are_struck_out_at_any_depth() -> None:
    value = {"user": {"passwordHash": "x", "name": "n"}, "list": [{"Set-Cookie": "x"}], "apiKey": 1}
    assert redacted(value) == {
        "user": {"passwordHash": "[REDACTED]", "name": "n"},
        "list": [{"Set-Cookie": "[REDACTED]"}],
        "apiKey": "[REDACTED]",
    }
    assert redacted_query(b"a=1&token=2&b") == "a=1&token=[REDACTED]&b"


def test_a_log_record_is_one_json_line_with_its_stack() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "a\n%s", ("b\x1b",), info)
    record.__dict__["token"] = "wxyz"
    line = JsonFormatter().format(record)
    assert line.isprintable() and line.isascii()
    assert json.loads(line)["token"] == "[REDACTED]"
    assert "ValueError: two" in json.loads(line)["stack"]


# --- security headers, CORS -------------------------------------------------------------


@pytest.mark.parametrize("target", ["/api/v1/products/1", "/nowhere", "/api/v1/products/%00", "/boom"])
async def test_every_answer_is_careful_and_tells_no_version(target: str) -> None:
    async def boom(request: Request) -> Answer:
        raise RuntimeError("inside")

    headers = (await client_of(READ, route("/boom", handler=boom, public=True))("GET", target)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["strict-transport-security"].startswith("max-age=31536000")
    assert headers["referrer-policy"] == "strict-origin-when-cross-origin"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers and "x-powered-by" not in headers


async def test_an_answer_may_bring_a_policy_of_its_own() -> None:
    async def page(request: Request) -> Answer:
        return Answer(
            headers={"Content-Security-Policy": "default-src 'self'"}, media_type="text/html", body=b"<p>"
        )

    reply = await client_of(route("/docs", handler=page, guarded=False, produces=()))("GET", "/docs")
    assert reply.headers["content-security-policy"] == "default-src 'self'"


SHOP = "https://shop.example"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://shop.example.evil", "http://shop.example"]
)
async def test_an_origin_that_is_not_named_gets_no_grant(origin: str) -> None:
    call = client_of(READ, cors_origins=(SHOP,))
    for method in ("GET", "OPTIONS"):
        asked = {"Origin": origin, "Access-Control-Request-Method": "DELETE"}
        headers = (await call(method, "/api/v1/products/1", headers=asked)).headers
        assert not [name for name in headers if name.startswith("access-control-")]
        assert "Origin" in headers["vary"]


async def test_a_named_origin_may_call_and_is_told_so_on_errors_too() -> None:
    call = client_of(READ, cors_origins=(SHOP,))
    preflight = await call(
        "OPTIONS", "/api/v1/products/1", headers={"Origin": SHOP, "Access-Control-Request-Method": "PATCH"}
    )
    assert preflight.status == 204
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    for target in ("/api/v1/products/1", "/nowhere"):
        headers = (await call("GET", target, headers={"Origin": SHOP})).headers
        assert headers["access-control-allow-origin"] == SHOP
        assert "access-control-allow-credentials" not in headers
        assert "ETag" in headers["access-control-expose-headers"]


async def test_everyone_may_be_allowed_but_never_with_credentials() -> None:
    reply = await client_of(READ, cors_origins=("*",))("GET", "/api/v1/products/1", headers={"Origin": SHOP})
    assert reply.headers["access-control-allow-origin"] == "*"
    with pytest.raises(StartError, match="credentials"):
        Cors(("*",), credentials=True)


# --- limits -----------------------------------------------------------------------------


async def test_long_addresses_and_large_headers_are_refused() -> None:
    call = client_of(READ)
    assert (await call("GET", "/" + "a" * 70_000)).code == "uri_too_long"
    assert (await call("GET", "/a", headers={"X-Large": "a" * 100_000})).code == "headers_too_large"
    assert (await call("GET", "/a", headers=[("x", "")] * 5_000)).status == 431


async def test_there_must_be_one_host() -> None:
    call = client_of(READ)
    assert (await call("GET", "/api/v1/products/1", host=False)).code == "invalid_header"
    assert (await call("GET", "/api/v1/products/1", headers={"Host": "other"})).code == "invalid_header"
    assert (await call("GET", "/api/v1/products/1", host=False, http_version="1.0")).status == 200


async def test_an_address_that_asks_too_often_must_wait_whatever_it_claims() -> None:
    call = client_of(READ, rate_limit_per_ip=5, rate_limit_window_seconds=60)
    statuses = []
    for number in range(8):
        reply = await call("GET", "/api/v1/products/1", headers={"X-Forwarded-For": f"9.9.9.{number}"})
        statuses.append(reply.status)
    assert statuses == [200] * 5 + [429] * 3
    assert reply.code == "rate_limited"
    assert reply.headers["ratelimit-policy"] == '"address";q=5;w=60'
    assert reply.headers["ratelimit"].startswith('"address";r=0;t=')
    assert 1 <= int(reply.headers["retry-after"]) <= 120
    assert (await call("GET", "/api/v1/products/1", client="198.51.100.1")).status == 200


async def test_a_user_is_counted_across_addresses() -> None:
    call = client_of(READ, rate_limit_per_user=3)
    for number in range(4):
        reply = await call("GET", "/api/v1/products/1", token="viewer", client=f"198.51.100.{number}")
    assert reply.status == 429 and '"user";r=0' in reply.headers["ratelimit"]
    assert (await call("GET", "/api/v1/products/1", token="admin")).status == 200


async def test_addresses_of_one_ipv6_network_count_as_one_and_health_does_not_count() -> None:
    call = client_of(READ, route("/health", guarded=False), rate_limit_per_ip=2)
    replies = [
        await call("GET", "/api/v1/products/1", client=client)
        for client in ("2001:db8::1", "2001:db8:0:0:ffff::2", "2001:db8::3", "2001:db8:1::1")
    ]
    assert [reply.status for reply in replies] == [200, 200, 429, 200]
    assert {(await call("GET", "/health")).status for _ in range(5)} == {200}


async def test_addresses_of_ipv4_count_each_for_itself_where_the_server_listens_on_ipv6() -> None:
    call = client_of(READ, rate_limit_per_ip=2)
    replies = [
        await call("GET", "/api/v1/products/1", client=client)
        for client in ("::ffff:198.51.100.1", "198.51.100.1", "::ffff:198.51.100.1", "::ffff:203.0.113.9")
    ]
    assert [reply.status for reply in replies] == [200, 200, 429, 200]
    assert replies[0].json()["data"]["ip"] == "198.51.100.1"


async def test_a_route_of_sign_in_has_a_budget_of_its_own() -> None:
    call = client_of(route("/token", guarded=False, sign_in=True), rate_limit_sign_in=2)
    assert [(await call("GET", "/token")).status for _ in range(3)] == [200, 200, 429]


async def test_limits_can_be_switched_off() -> None:
    headers = (await client_of(READ, rate_limit_enabled=False)("GET", "/api/v1/products/1")).headers
    assert "ratelimit" not in headers


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_the_window_slides_and_says_truly_when_there_is_room() -> None:
    clock = Clock()
    limiter = SlidingWindows(clock=clock)
    budget = Budget(name="x", limit=10, window_seconds=10)
    assert [(await limiter.hit("a", budget)).allowed for _ in range(11)] == [True] * 10 + [False]
    clock.now += 10
    assert not (await limiter.hit("a", budget)).allowed, "at the start of a window the last one counts whole"
    for _ in range(30):
        refused = await limiter.hit("a", budget)
        clock.now += refused.reset_seconds - 0.01
        assert not (await limiter.hit("a", budget)).allowed
        clock.now += 0.02
        assert (await limiter.hit("a", budget)).allowed
    clock.now += 25
    assert (await limiter.hit("a", budget)).remaining == 9


async def test_a_flood_of_keys_fills_no_memory_and_still_meets_its_limit() -> None:
    clock = Clock()
    limiter = SlidingWindows(max_keys=100, clock=clock)
    budget = Budget(name="x", limit=5, window_seconds=10)
    refused = 0
    for number in range(20_000):
        refused += not (await limiter.hit(str(number), budget)).allowed
    assert len(limiter) <= 100 + 1024 and refused > 10_000
    clock.now += 100
    assert (await limiter.hit("new", budget)).allowed
    assert len(limiter) < 10


# --- error writer -----------------------------------------------------------------------


async def test_an_unexpected_error_is_logged_and_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def boom(request: Request) -> Answer:
        raise RuntimeError("select * from secrets")

    call = client_of(route(handler=boom, public=True))
    with caplog.at_level(logging.ERROR, logger="byodpp.errors"):
        reply = await call("GET", "/api/v1/products/1")
    assert (reply.status, reply.code) == (500, "internal_error")
    assert b"secrets" not in reply.body and b"Traceback" not in reply.body
    assert "select * from secrets" in str(caplog.records[0].exc_info)


async def test_both_shapes_hold_every_detail() -> None:
    async def refuse(request: Request) -> Answer:
        raise Conflict("Taken.", details=[Detail("name", "taken", "Is taken.")], code="product_taken")

    call = client_of(route(handler=refuse, public=True))
    reply = await call("GET", "/api/v1/products/1", headers={"X-Request-ID": "r1"})
    told = reply.json()["error"]
    assert told.pop("timestamp").endswith("Z") and reply.json()["success"] is False
    assert told == {
        "statusCode": 409,
        "code": "product_taken",
        "message": "Taken.",
        "details": [{"field": "name", "code": "taken", "message": "Is taken."}],
        "requestId": "r1",
    }
    accept = {"X-Request-ID": "r1", "Accept": "application/problem+json"}
    reply = await call("GET", "/api/v1/products/1", headers=accept)
    problem = reply.json()
    assert reply.headers["content-type"] == "application/problem+json"
    assert problem.pop("timestamp").endswith("Z")
    assert problem == {
        "type": "urn:byodpp:error:product_taken",
        "title": "Conflict",
        "status": 409,
        "detail": "Taken.",
        "instance": "urn:byodpp:request:r1",
        "code": "product_taken",
        "details": [{"field": "name", "code": "taken", "message": "Is taken."}],
        "requestId": "r1",
    }


async def test_headers_of_a_refusal_are_sent() -> None:
    async def away(request: Request) -> Answer:
        raise Unavailable(retry_after_seconds=7)

    reply = await client_of(route(handler=away, public=True))("GET", "/api/v1/products/1")
    assert (reply.status, reply.headers["retry-after"]) == (503, "7")
    reply = await client_of(READ)("DELETE", "/api/v1/products/1")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_a_request_that_a_stop_has_cancelled_stays_cancelled_is_answered_and_logged() -> None:
    lines: list[str] = []

    async def sleep(request: Request) -> Answer:
        await asyncio.sleep(60)
        return Answer()

    call = client_of(route(handler=sleep, public=True), lines=lines)
    task = asyncio.create_task(call("GET", "/api/v1/products/1"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert json.loads(lines[0])["status"] == 503


async def test_a_header_made_of_data_cannot_add_another() -> None:
    async def split(request: Request) -> Answer:
        return Answer(headers={"Location": "/a\r\nSet-Cookie: x=1"})

    reply = await client_of(route(handler=split, public=True))("GET", "/api/v1/products/1")
    assert reply.status == 500 and "set-cookie" not in reply.headers


async def test_a_stream_that_breaks_breaks_the_connection_and_is_closed() -> None:
    closed = []

    async def numbers() -> AsyncIterator[bytes]:
        try:
            yield b"1"
            raise RuntimeError("broken")
        finally:
            closed.append(True)

    async def stream(request: Request) -> Answer:
        return Answer(body=numbers(), media_type="text/plain")

    with pytest.raises(RuntimeError, match="broken"):
        await client_of(route(handler=stream, public=True))("GET", "/api/v1/products/1")
    assert closed == [True]


# --- authentication, authorization ------------------------------------------------------


async def test_a_route_that_is_not_public_needs_a_token() -> None:
    call = client_of(route(public=False))
    reply = await call("GET", "/api/v1/products/1")
    assert (reply.status, reply.headers["www-authenticate"]) == (401, 'Bearer realm="byodpp"')
    reply = await call("GET", "/api/v1/products/1", token="forged")
    assert reply.status == 401 and 'error="invalid_token"' in reply.headers["www-authenticate"]
    two = [("Authorization", "Bearer viewer"), ("Authorization", "Bearer viewer")]
    assert (await call("GET", "/api/v1/products/1", headers=two)).status == 401
    assert (await call("GET", "/api/v1/products/1?access_token=viewer")).status == 401
    assert (await call("GET", "/api/v1/products/1", token="viewer")).status == 200


async def test_who_may_not_do_it_is_forbidden_and_nobody_is_asked_to_sign_in() -> None:
    call = client_of(route(method="DELETE", operation="delete", public=True))
    assert (await call("DELETE", "/api/v1/products/1")).status == 401
    reply = await call("DELETE", "/api/v1/products/1", token="viewer")
    assert (reply.status, reply.json()["error"]["message"]) == (403, "You have no right to delete Products.")
    assert (await call("DELETE", "/api/v1/products/1", token="admin")).status == 200


# --- bodies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed_json"),
        (b'{"a":', "malformed_json"),
        (b'{"a":1,}', "malformed_json"),
        (b"{}x", "malformed_json"),
        (b"{'a':1}", "malformed_json"),
        (b'{"a":NaN}', "malformed_json"),
        (b'{"a":1,"\\u0061":2}', "duplicate_key"),
        (b"[" * 100_000, "too_deep"),
        (b'"\xff"', "invalid_encoding"),
    ],
)
async def test_a_body_that_is_not_json_is_refused_before_anything_else(body: bytes, code: str) -> None:
    call = client_of(CREATE)
    json_type = {"Content-Type": "application/json"}
    reply = await call("POST", "/api/v1/products", headers=json_type, body=body, token="admin")
    assert (reply.status, reply.code) == (400, code)
    if len(body) < 65_536:
        assert (await call("POST", "/api/v1/products", headers=json_type, body=body)).code == code


async def test_a_large_body_of_a_stranger_is_not_even_read() -> None:
    call = client_of(CREATE)
    json_type = {"Content-Type": "application/json"}
    assert (await call("POST", "/api/v1/products", headers=json_type, body=b"[" * 100_000)).status == 401


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json (comment)",
        "application/json, application/json",
        "application/json; charset",
        "application/merge-patch+json",
        "application/jsonx",
        "",
    ],
)
async def test_another_media_type_is_refused_after_the_caller_is_judged(content_type: str | None) -> None:
    call = client_of(CREATE)
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = b'{"name": "x"}'
    reply = await call("POST", "/api/v1/products", headers=headers, body=body, token="admin")
    assert (reply.status, reply.headers["accept"]) == (415, "application/json")
    assert (await call("POST", "/api/v1/products", headers=headers, body=body)).status == 401
    assert (await call("POST", "/api/v1/products", headers=headers, body=body, token="viewer")).status == 403


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=UTF-8",
        'application/json;charset="utf-8"',
    ],
)
async def test_json_may_say_that_it_is_utf_8(content_type: str) -> None:
    reply = await client_of(CREATE)(
        "POST",
        "/api/v1/products",
        headers={"Content-Type": content_type},
        body=b'{"name":"\xc3\xbc"}',
        token="admin",
    )
    assert (reply.status, reply.json()["data"]["body"]) == (200, {"name": "ü"})


async def test_a_patch_may_be_a_merge_or_a_list_of_steps() -> None:
    patch = route(method="PATCH", operation="patch", body=Body.REQUIRED, media_types=PATCH_BODY, load=loaded)
    call = client_of(patch)
    for kind in PATCH_BODY:
        body = b'[{"op":"remove","path":"/x"}]' if "json-patch" in kind else b'{"name":"n"}'
        reply = await call(
            "PATCH", "/api/v1/products/1", headers={"Content-Type": kind}, body=body, token="admin"
        )
        assert reply.status == 200
        assert reply.json()["data"]["body"] == (None if "json-patch" in kind else {"name": "n"})


async def test_too_much_is_refused_unread_and_counted_when_it_comes_in_chunks() -> None:
    call = client_of(CREATE, max_body_bytes=2_000)
    json_type = {"Content-Type": "application/json"}
    announced = json_type | {"Content-Length": "2001"}
    body = [b"x" * 2_001]
    assert (await call("POST", "/api/v1/products", headers=announced, body=body, token="admin")).status == 413
    chunks = [b'{"name":"', *[b"x" * 500] * 5, b'"}']
    assert (
        await call("POST", "/api/v1/products", headers=json_type, body=chunks, token="admin")
    ).status == 413
    reply = await call("POST", "/api/v1/products", headers=json_type, body=[b"x" * 500] * 50, token="admin")
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    assert (await call("POST", "/api/v1/products", headers=announced, body=chunks)).status == 401
    both = announced | {"Transfer-Encoding": "chunked"}
    assert (await call("POST", "/api/v1/products", headers=both, body=chunks)).status == 400
    small = [b'{"name":', b'"x"}']
    assert (
        await call("POST", "/api/v1/products", headers=json_type, body=small, token="admin")
    ).status == 200


async def test_a_body_that_holds_too_much_is_refused_however_small_it_is() -> None:
    call = client_of(CREATE, max_json_values=1_000)
    for count, status in ((997, 200), (998, 413), (100_000, 413)):
        body = {"name": "x", "extra": [0] * count}
        reply = await call("POST", "/api/v1/products", json_body=body, token="admin")
        assert reply.status == status, count
        assert (await call("POST", "/api/v1/products", json_body=body)).status == 401
        forbidden = await call("POST", "/api/v1/products", json_body=body, token="viewer")
        assert forbidden.status == 403
    assert reply.code == "payload_too_large"
    assert reply.json()["error"]["message"] == "The body holds more than 1000 values."


async def test_a_route_may_have_a_limit_of_its_own() -> None:
    call = client_of(
        route("/small", "POST", operation="create", body=Body.REQUIRED, max_body_bytes=10),
        route("/large", "POST", operation="create", body=Body.REQUIRED, max_body_bytes=5_000),
        max_body_bytes=1_000,
    )
    body = {"name": "x" * 2_000}
    assert (await call("POST", "/small", json_body=body, token="admin")).status == 413
    assert (await call("POST", "/large", json_body=body, token="admin")).status == 200


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate", "identity, gzip"])
async def test_compressed_bodies_are_not_accepted(coding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    reply = await client_of(CREATE)("POST", "/api/v1/products", headers=headers, body=b"{}", token="admin")
    assert reply.status == 415


async def test_a_body_where_none_is_due_is_ignored() -> None:
    call = client_of(
        READ, route("/api/v1/products/{id}/feature", "POST", operation="feature:post", body=Body.OPTIONAL)
    )
    assert (await call("GET", "/api/v1/products/1", body=b"{garbage", token="viewer")).status == 200
    assert (await call("POST", "/api/v1/products/1/feature", token="admin")).status == 200
    assert (await call("POST", "/api/v1/products/1/feature", body=b"{}", token="admin")).status == 415


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def read_slowly(request: Request) -> Answer:
        request.body_timeout_seconds = 0.05
        await request.read(1_000)
        return Answer()

    reply = await client_of(route(method="POST", handler=read_slowly, guarded=False))(
        "POST", "/api/v1/products/1", headers={"Content-Length": "10"}, body=[]
    )
    assert (reply.status, reply.headers["connection"]) == (408, "close")


# --- negotiation, validation ------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/vnd.byo-dpp.v1+json", "application/vnd.byo-dpp.v1+json"),
        ("application/json;q=0.2, application/vnd.byo-dpp.v1+json", "application/vnd.byo-dpp.v1+json"),
        ("application/problem+json", "application/json"),
        ("APPLICATION/JSON", "application/json"),
        ("*/*, application/json;q=0", "application/vnd.byo-dpp.v1+json"),
    ],
)
async def test_an_acceptable_type_is_found(accept: str | None, expected: str) -> None:
    headers = {} if accept is None else {"Accept": accept}
    reply = await client_of(READ)("GET", "/api/v1/products/1", headers=headers)
    assert (reply.status, reply.headers["content-type"]) == (200, expected)
    assert "Accept" in reply.headers["vary"]


@pytest.mark.parametrize(
    "accept",
    ["text/html", "application/json;q=0", "application/vnd.byo-dpp.v2+json", "x", "", ",,;;q=", "*/*;q=2"],
)
async def test_a_client_that_accepts_nothing_of_ours_is_told_so_after_being_judged(accept: str) -> None:
    call = client_of(route(public=False))
    reply = await call("GET", "/api/v1/products/1", headers={"Accept": accept}, token="viewer")
    assert (reply.status, reply.code) == (406, "not_acceptable")
    assert (await call("GET", "/api/v1/products/1", headers={"Accept": accept})).status == 401


def test_errors_take_the_other_shape_only_when_it_is_named_and_not_below_json() -> None:
    assert wants_problem("application/problem+json")
    assert wants_problem("application/json, application/problem+json")
    assert not wants_problem("application/json, application/problem+json;q=0.5")
    assert (
        not wants_problem("*/*")
        and not wants_problem(None)
        and not wants_problem("application/problem+json;q=0")
    )


def test_a_negotiator_forgets_rather_than_grows() -> None:
    negotiator = Negotiator(("v1",))
    for number in range(2_000):
        assert negotiator.choose(f"application/json;x={number}, */*;q=0.1", ("application/json",), "v1")
    assert len(negotiator._remembered) <= 256


async def test_every_fault_of_a_body_is_told_after_everything_else_is_in_order() -> None:
    call = client_of(CREATE)
    reply = await call("POST", "/api/v1/products", json_body={}, token="admin")
    assert (reply.status, reply.json()["error"]["details"][0]["code"]) == (422, "required")
    assert (await call("POST", "/api/v1/products", json_body=[], token="admin")).status == 422
    assert (await call("POST", "/api/v1/products", json_body={}, token="viewer")).status == 403
    assert (
        await call("POST", "/api/v1/products", json_body={}, headers={"Accept": "x/y"}, token="admin")
    ).status == 406


async def test_a_row_that_cannot_be_seen_is_not_found_whatever_was_sent() -> None:
    probed = []

    async def probe(request: Request) -> Answer:
        probed.append(request.params["id"])
        if request.params["id"] == "9":
            raise NotFound
        return Answer()

    call = client_of(route(method="PUT", operation="update", body=Body.REQUIRED, load=loaded, probe=probe))
    wrong: list[dict[str, Any]] = [
        {"json_body": {}},
        {"body": b"x", "headers": {"Content-Type": "text/plain"}},
        {"json_body": {"name": "x"}, "headers": {"Accept": "x/y"}},
    ]
    for case in wrong:
        assert (await call("PUT", "/api/v1/products/9", token="admin", **case)).status == 404
        assert (await call("PUT", "/api/v1/products/1", token="admin", **case)).status in (406, 415, 422)
    assert len(probed) == 6
    assert (await call("PUT", "/api/v1/products/9", token="admin", json_body={"name": "x"})).status == 200
    assert len(probed) == 6, "a request in order is not looked at twice"
