"""Where the row is not the caller's to change, a bad form is answered as a good one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from byodpp.testing import Bench
from tests.worlds import build

_NORTH: Final = {"roles": ["Clerk"], "filter": {"region": "north"}}
_SEEN: Final = {"roles": ["Clerk"], "filter": {"region": {"ne": "hidden"}}}
_PRICED: Final = {"roles": ["Seller"], "fields": ["price"], "filter": {"region": "north"}}
_NAMED: Final = {"roles": ["Seller"], "fields": ["name", "region"]}
WORLD: Final[dict[str, Any]] = {
    "resources": [
        {
            "name": "Lots",
            "versioned": True,
            "fields": {
                "region": {"type": "string", "required": True},
                "name": {"type": "string", "maxLength": 5},
                "price": {"type": "integer"},
            },
            "states": {"initial": "open", "transitions": {"close": {"from": "open", "to": "closed"}}},
            "access": {
                "read": ["Admin", "Seller", _SEEN],
                "write": ["Admin", _NORTH],
                "close:post": ["Admin", _NORTH],
                "patch": ["Admin", _NORTH, _PRICED, _NAMED],
            },
        },
        {
            "name": "Standards",
            "scope": "library",
            "fields": {"name": {"type": "string", "maxLength": 5}},
            "access": {"read": ["Admin"], "write": ["Admin"]},
        },
    ]
}
_PATCH: Final = {"headers": {"Content-Type": "application/json-patch+json"}}
_BAD: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "a bad value": ("PUT", "", {"json": {"region": "south", "name": "too long"}}),
    "a bad value of a patch": ("PATCH", "", {"json": {"name": 5}}),
    "an unknown field": ("PATCH", "", {"json": {"nothing": 5}}),
    "steps to nowhere": ("PATCH", "", {"json": [{"op": "remove", "path": "/nothing"}], **_PATCH}),
    "a test of a step that fails": (
        "PATCH",
        "",
        {"json": [{"op": "test", "path": "/name", "value": "x"}], **_PATCH},
    ),
    "another media type": ("PUT", "", {"content": "a", "headers": {"Content-Type": "text/plain"}}),
    "a body of a deletion": ("DELETE", "", {"json": {"a": 1}}),
    "a body of a step": ("POST", "/close", {"json": {"a": 1}}),
    "another type of answer": ("PATCH", "", {"json": {}, "headers": {"Accept": "text/plain"}}),
}


@pytest.mark.parametrize("way", list(_BAD))
async def test_a_row_that_is_not_the_callers_to_change_is_told_before_what_is_wrong_with_the_form(
    tmp_path: Path, byodpp_bench: Bench, way: str
) -> None:
    async with byodpp_bench.application(build(tmp_path, WORLD)) as served:
        admin, clerk, url = served.client(), served.client(role="Clerk"), "/api/v1/lots"
        method, below, options = _BAD[way]
        for region, status in (("north", None), ("south", 403), ("hidden", 404)):
            key = (await admin.post(url, json={"region": region})).json()["data"]["id"]
            answer = await clerk.request(method, f"{url}/{key}{below}", **options)
            assert answer.status_code == status if status else answer.status_code in (406, 409, 415, 422), (
                region
            )
            assert (await admin.get(f"{url}/{key}")).json()["data"]["version"] == 1
        if method == "PUT":
            assert (await clerk.request(method, f"{url}/77", **options)).status_code == 404


async def test_a_field_that_may_be_written_on_other_rows_is_told_before_its_value_is_judged(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    async with byodpp_bench.application(build(tmp_path, WORLD)) as served:
        admin, seller, url = served.client(), served.client(role="Seller"), "/api/v1/lots"
        keys = [
            (await admin.post(url, json={"region": region})).json()["data"]["id"]
            for region in ("north", "south")
        ]
        for body, expected in (
            ({"price": "x"}, [422, 403]),
            ({"price": 5}, [200, 403]),
            ({"name": 5}, [422, 422]),
        ):
            told = [(await seller.patch(f"{url}/{key}", json=body)).status_code for key in keys]
            assert told == expected, body


async def test_a_shared_row_of_a_library_is_told_to_be_the_platforms_whatever_is_sent(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    async with byodpp_bench.application(build(tmp_path, WORLD)) as served:
        made = await served.client(tenant="platform").post("/api/v1/standards", json={"name": "iso"})
        url = f"/api/v1/standards/{made.json()['data']['id']}"
        admin = served.client()
        for body in ({"name": "din"}, {"name": "too long"}):
            for method in ("PUT", "PATCH"):
                assert (await admin.request(method, url, json=body)).status_code == 403, (method, body)
