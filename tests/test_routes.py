"""Which route serves which path."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest

from byodpp.exceptions import (
    ApiError,
    InvalidEncoding,
    Malformed,
    MethodNotAllowed,
    NotFound,
    StartError,
    UnsupportedVersion,
)
from byodpp.requests import Request
from byodpp.responses import Answer
from byodpp.routes import Endpoint, ListedRoute, Route, RouteTable, chain


async def handler(request: Request) -> Answer:
    return Answer()


def route(pattern: str, *methods: str, **endpoint: Any) -> Route:
    return Route(
        pattern=pattern,
        methods={method: Endpoint(handler=handler, **endpoint) for method in methods or ("GET",)},
    )


def request(target: bytes, method: str = "GET", accept: bytes | None = None) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    headers = [] if accept is None else [(b"accept", accept)]
    scope = {
        "type": "http",
        "method": method,
        "path": "",
        "raw_path": target,
        "query_string": b"",
        "headers": headers,
    }
    return Request(scope, receive)


def resolved(table: RouteTable, target: bytes, method: str = "GET", accept: bytes | None = None) -> Request:
    asked = request(target, method, accept)
    table.resolve(asked)
    return asked


CRUD = RouteTable.build(
    [
        route("/"),
        route("/api/v1/products", "GET", "POST"),
        route("/api/v1/products/{id}", "GET", "PUT", "PATCH", "DELETE"),
        route("/api/v1/products/batch", "POST"),
        route("/api/v1/products/{id}/feature", "POST"),
        route("/api/v2/products", "GET"),
        route("/01/{gtin}/21/{serial}"),
        route("/v1/dpps/{dppId}"),
    ]
)


@pytest.mark.parametrize(
    ("target", "pattern", "params"),
    [
        (b"/", "/", {}),
        (b"/api/v1/products", "/api/v1/products", {}),
        (b"/api/v1/products/12", "/api/v1/products/{id}", {"id": "12"}),
        (b"/api/v1/prod%75cts/12", "/api/v1/products/{id}", {"id": "12"}),
        (
            b"/01/09506000134352/21/A%2FB",
            "/01/{gtin}/21/{serial}",
            {"gtin": "09506000134352", "serial": "A/B"},
        ),
        (
            b"/v1/dpps/https%3A%2F%2Fx.example%2F1%3Fa%3Db",
            "/v1/dpps/{dppId}",
            {"dppId": "https://x.example/1?a=b"},
        ),
        (b"/v1/dpps/%252e", "/v1/dpps/{dppId}", {"dppId": "%2e"}),
        (b"/v1/dpps/%C3%BC", "/v1/dpps/{dppId}", {"dppId": "ü"}),
    ],
)
def test_a_path_finds_its_route_and_each_parameter_is_decoded_once(
    target: bytes, pattern: str, params: dict[str, str]
) -> None:
    found = resolved(CRUD, target)
    assert (found.route, found.params) == (pattern, params)


def test_a_static_segment_wins_over_a_parameter_and_gives_way_when_it_leads_nowhere() -> None:
    assert resolved(CRUD, b"/api/v1/products/batch", "POST").route == "/api/v1/products/batch"
    found = resolved(CRUD, b"/api/v1/products/batch/feature", "POST")
    assert (found.route, found.params) == ("/api/v1/products/{id}/feature", {"id": "batch"})


@pytest.mark.parametrize(
    "target",
    [
        b"/api/v1/products/",
        b"/api/v1/products//feature",
        b"//api/v1/products",
        b"/api/v1/PRODUCTS",
        b"/api/v9/products",
        b"/api/v1",
        b"/api",
        b"",
        b"*",
        b"/api/v1/products/1/feature/2",
        b"/" * 5_000,
        b"/api/nothing",
    ],
)
def test_what_is_not_declared_is_not_found(target: bytes) -> None:
    with pytest.raises(NotFound):
        CRUD.resolve(request(target))


@pytest.mark.parametrize(
    ("target", "refusal"),
    [
        (b"/api/v1/products/%zz", Malformed),
        (b"/api/v1/products/%", Malformed),
        (b"/api/v1/products/%00", Malformed),
        (b"/api/v1/products/a%0d%0ab", Malformed),
        (b"/api/v1/products/..", Malformed),
        (b"/api/v1/products/%2e%2E", Malformed),
        (b"/api/v1/products/../../etc", Malformed),
        (b"/api/v1/products/%ff", InvalidEncoding),
        (b"/api/v1/products/\xff", InvalidEncoding),
        (b"/%c0%ae/x", InvalidEncoding),
    ],
)
def test_a_path_that_cannot_be_read_is_malformed(target: bytes, refusal: type[ApiError]) -> None:
    with pytest.raises(refusal) as caught:
        CRUD.resolve(request(target))
    assert caught.value.status == 400


def test_a_method_that_is_not_served_is_told_all_that_are() -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        CRUD.resolve(request(b"/api/v1/products/1", "TRACE"))
    assert caught.value.headers["Allow"] == "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"
    with pytest.raises(MethodNotAllowed) as caught:
        CRUD.resolve(request(b"/api/v1/products/batch"))
    assert caught.value.headers["Allow"] == "POST, OPTIONS"


async def test_options_answers_with_the_methods() -> None:
    asked = request(b"/api/v1/products", "OPTIONS")
    answer = await CRUD.resolve(asked)(asked)
    assert (answer.status, answer.headers["Allow"]) == (204, "GET, HEAD, POST, OPTIONS")


def test_without_a_version_in_the_path_the_accept_header_chooses_it() -> None:
    assert resolved(CRUD, b"/api/products").version == "v1"
    assert resolved(CRUD, b"/api/products", accept=b"application/vnd.byo-dpp.v2+json").version == "v2"
    both = b"application/vnd.byo-dpp.v2+json;q=0.5, application/vnd.byo-dpp.v1+json"
    assert resolved(CRUD, b"/api/products", accept=both).version == "v1"
    assert resolved(CRUD, b"/api/products/7/feature", "POST").params == {"id": "7"}
    with pytest.raises(UnsupportedVersion, match="API version v7 is not supported"):
        CRUD.resolve(request(b"/api/products", accept=b"application/vnd.byo-dpp.v7+json"))
    with pytest.raises(NotFound):
        CRUD.resolve(request(b"/api/products/1", accept=b"application/vnd.byo-dpp.v2+json"))


def test_the_versions_are_those_of_the_routes_in_order() -> None:
    assert CRUD.versions == ("v1", "v2")


def test_routes_of_one_pattern_are_joined_unless_a_method_is_served_twice() -> None:
    table = RouteTable.build([route("/a", "GET"), route("/a", "POST", operation="go")])
    assert [(line.pattern, line.method) for line in table.listing()] == [("/a", "GET"), ("/a", "POST")]
    with pytest.raises(StartError, match="GET is served by the framework already"):
        RouteTable.build([route("/a"), route("/a")])


def test_all_wrong_patterns_are_told_at_once() -> None:
    wrong = ["a", "/a/", "/a//b", "/a/{b}.json", "/a/{b}/{b}", "/a b", "/a/..", "/a?b", "/{}"]
    with pytest.raises(StartError) as caught:
        RouteTable.build([*(route(pattern) for pattern in wrong), route("/fine"), route("/x", "FETCH")])
    assert len(caught.value.problems) == len(wrong) + 1


@pytest.mark.parametrize(
    ("first", "second"),
    [("/a/{x}", "/{y}/b"), ("/{x}/c/{z}", "/a/{y}/d"), ("/a/{x}/b/{y}", "/a/c/{z}/d")],
)
def test_patterns_of_which_neither_is_more_precise_stop_the_start(first: str, second: str) -> None:
    for pair in ((first, second), (second, first)):
        with pytest.raises(StartError, match="match the same addresses") as caught:
            RouteTable.build([route(pattern) for pattern in pair])
        assert len(caught.value.problems) == 1


def test_the_same_address_with_another_parameter_name_stops_the_start() -> None:
    with pytest.raises(StartError, match=re.escape("/a/{y}: is the same address as /a/{x}")):
        RouteTable.build([route("/a/{x}"), route("/a/{y}", "POST")])


def test_a_more_precise_pattern_beside_a_wider_one_is_fine() -> None:
    RouteTable.build([route("/a/{x}"), route("/a/b"), route("/{x}/{y}"), route("/a/b/c")])


def test_a_listing_shows_what_was_declared() -> None:
    table = RouteTable.build([route("/health", guarded=False), route("/a/{x}", "DELETE", operation="delete")])
    assert list(table.listing()) == [
        ListedRoute(pattern="/health", method="GET", resource="", operation="", public=True, origin=""),
        ListedRoute(
            pattern="/a/{x}", method="DELETE", resource="", operation="delete", public=False, origin=""
        ),
    ]


def test_finding_a_route_takes_no_longer_among_twenty_thousand() -> None:
    def seconds(table: RouteTable) -> float:
        asked = request(b"/api/v1/products/12")
        best = float("inf")
        for _ in range(5):
            start = time.process_time()
            for _ in range(1_000):
                table.resolve(asked)
            best = min(best, time.process_time() - start)
        return best

    products = route("/api/v1/products/{id}")
    many = [
        route(f"/api/v1/resource-{n}/{{id}}{tail}") for n in range(5_000) for tail in ("", "/a", "/b", "/c")
    ]
    assert seconds(RouteTable.build([*many, products])) < 2 * seconds(RouteTable.build([products]))


# --- stages -----------------------------------------------------------------------------


class _Told:
    """A stage that tells what happens to it."""

    def __init__(self, name: str, told: list[str], *, refuses: Exception | None = None) -> None:
        self._name, self._told, self._refuses = name, told, refuses

    def __call__(self, request: Request) -> None:
        self._told.append(self._name)
        if self._refuses is not None:
            raise self._refuses


class _Around(_Told):
    """One that sees refusals, may put another in their place, and is told the end."""

    def __init__(self, name: str, told: list[str], *, instead: Exception | None = None) -> None:
        super().__init__(name, told)
        self._instead = instead

    async def refused(self, request: Request, error: Exception) -> None:
        self._told.append(f"{self._name} sees {type(error).__name__}")
        if self._instead is not None:
            raise self._instead

    def leave(self, request: Request) -> None:
        self._told.append(f"{self._name} left")


async def test_stages_come_in_order_and_those_that_were_passed_see_how_it_ends() -> None:
    told: list[str] = []
    passed = chain([_Around("a", told), _Told("b", told), _Around("c", told)], handler)
    assert (await passed(request(b"/"))).status == 200
    assert told == ["a", "b", "c", "c left", "a left"]


async def test_a_refusal_is_seen_from_inside_out_and_not_by_stages_that_were_not_reached() -> None:
    told: list[str] = []
    stages = [
        _Around("a", told),
        _Around("b", told, instead=NotFound("there is none")),
        _Told("c", told, refuses=Malformed("bad")),
        _Around("d", told),
    ]
    with pytest.raises(NotFound, match="there is none"):
        await chain(stages, handler)(request(b"/"))
    assert told == ["a", "b", "c", "b sees Malformed", "a sees NotFound", "b left", "a left"]


async def test_a_stage_that_refuses_does_not_see_its_own_refusal_and_waiting_ones_are_waited_for() -> None:
    told: list[str] = []

    class Waits(_Around):
        async def _wait(self) -> None:
            await asyncio.sleep(0)
            told.append("waited")
            raise Malformed("bad")

        def __call__(self, request: Request) -> Any:
            return self._wait()

    with pytest.raises(Malformed):
        await chain([_Around("a", told), Waits("b", told)], handler)(request(b"/"))
    assert told == ["a", "waited", "a sees Malformed", "a left"]


async def test_who_is_cancelled_leaves_and_is_no_refusal() -> None:
    told: list[str] = []

    async def endless(request: Request) -> Answer:
        await asyncio.sleep(60)
        raise AssertionError("nobody has cancelled this")

    task = asyncio.ensure_future(chain([_Around("a", told)], endless)(request(b"/")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == ["a", "a left"]
