"""Where the row is not the caller's to change, a bad form is answered as a good one."""

from __future__ import annotations

import json
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
                "boxId": {"references": "Boxes"},
            },
            "states": {"initial": "open", "transitions": {"close": {"from": "open", "to": "closed"}}},
            "access": {
                "read": ["Admin", "Seller", _SEEN],
                "write": ["Admin", _NORTH],
                "batch": ["Admin", "Clerk", "Seller"],
                "close:post": ["Admin", _NORTH],
                "patch": ["Admin", _NORTH, _PRICED, _NAMED],
            },
        },
        {
            "name": "Boxes",
            "fields": {"region": {"type": "string"}},
            "access": {"read": ["Admin", _NORTH], "write": ["Admin"]},
        },
        {
            "name": "Sealed",
            "versioned": "required",
            "fields": {"region": {"type": "string", "required": True}},
            "access": {"read": ["Admin", _SEEN], "write": ["Admin", _NORTH]},
        },
        {
            "name": "Offers",
            "fields": {
                "region": {"type": "string", "index": True},
                "name": {"type": "string", "maxLength": 5},
                "price": {"type": "integer"},
            },
            "access": {
                "list": ["Admin", "Clerk"],
                "read": ["Admin"],
                "write": ["Admin"],
                "batch": ["Admin", "Clerk"],
                "patch": ["Admin", {"roles": ["Clerk"], "fields": ["name"]}],
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
            steps = [{"op": "add", "path": f"/{name}", "value": value} for name, value in body.items()]
            sent, kind = json.dumps(steps), _PATCH["headers"]
            told = [
                (await seller.patch(f"{url}/{key}", content=sent, headers=kind)).status_code for key in keys
            ]
            assert told == expected, steps


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


_ITEMS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "a bad value": ("update", {"region": "south", "name": "too long"}),
    "a bad value of a patch": ("patch", {"name": 5}),
    "an unknown field": ("patch", {"nothing": 5}),
    "a version that is none": ("patch", {"name": "a", "version": "x"}),
    "a body of a deletion": ("delete", {"name": "a"}),
    "a bad value of an upsert by its key": ("upsert", {"region": "north", "price": "x"}),
    "a row that is not there": ("patch", {"name": "a", "boxId": 77}),
}


@pytest.mark.parametrize("way", list(_ITEMS))
async def test_so_it_is_told_of_the_items_of_batches_and_of_operations_over_several_resources(
    tmp_path: Path, byodpp_bench: Bench, way: str
) -> None:
    async with byodpp_bench.application(build(tmp_path, WORLD)) as served:
        admin, clerk, url = served.client(), served.client(role="Clerk"), "/api/v1/lots"
        operation, bad = _ITEMS[way]
        keys = {
            region: (await admin.post(url, json={"region": region})).json()["data"]["id"]
            for region in ("north", "south", "hidden")
        }
        own = {"id": keys["north"], **bad}
        for region, status in (("north", 422), ("south", 403), ("hidden", 404)):
            item = {"id": keys[region], **bad}
            batch = {"operation": operation, "items": [item]}
            answer = await clerk.post(f"{url}/batch", json=batch)
            assert answer.status_code == status, answer.text
            assert answer.json()["error"]["details"][0]["field"].split(".")[0] == "0"
            if region != "north":
                answer = await clerk.post(f"{url}/batch", json={**batch, "items": [own, item]})
                # What only the database knows is told of the first item.
                assert answer.status_code == (422 if way == "a row that is not there" else status)
            each = await clerk.post(f"{url}/batch", json={**batch, "atomic": False})
            [told] = each.json()["data"]
            assert (each.status_code, told["error"]["statusCode"]) == (200, status)
            assert [one["field"].split(".")[0] for one in told["error"]["details"]] == ["0"] * (status == 422)
            if operation != "upsert":
                step = {"operation": operation, "resource": "Lots", "id": keys[region], "data": bad}
                answer = await clerk.post("/api/v1/batch", json=[step])
                assert answer.status_code == status, answer.text
                assert answer.json()["error"]["details"][0]["field"].split(".")[0] == "0"
        stored = (await admin.get(url)).json()["data"]
        assert {one["version"] for one in stored} == {1}


async def test_the_faults_of_all_items_are_told_together_where_their_rows_are_the_callers_to_change(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    async with byodpp_bench.application(build(tmp_path, WORLD)) as served:
        clerk, url = served.client(role="Clerk"), "/api/v1/lots"
        made = await clerk.post(f"{url}/batch", json=[{"region": "north"}] * 2)
        keys = [row["id"] for row in made.json()["data"]]
        items = [{"id": key, "name": 5, "other": 1} for key in keys]
        answer = await clerk.post(f"{url}/batch", json={"operation": "patch", "items": items})
        assert answer.status_code == 422
        told = [one["field"] for one in answer.json()["error"]["details"]]
        assert told == ["0.name", "0.other", "1.name", "1.other"]


async def test_that_nobody_may_do_so_to_any_row_is_told_before_the_faults_of_items(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    async with byodpp_bench.application(build(tmp_path, WORLD)) as served:
        seller, url = served.client(role="Seller"), "/api/v1/lots"
        batch = {"operation": "delete", "items": [{"id": 77, "name": 5}]}
        assert (await seller.post(f"{url}/batch", json=batch)).status_code == 403
        each = await seller.post(f"{url}/batch", json={**batch, "atomic": False})
        assert each.json()["data"][0]["error"]["statusCode"] == 403
        assert (await seller.post(f"{url}/batch", json=[{"name": 5}])).status_code == 403


async def test_a_version_that_is_missing_is_told_after_what_is_told_of_the_row(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    async with byodpp_bench.application(build(tmp_path, WORLD)) as served:
        admin, clerk, url = served.client(), served.client(role="Clerk"), "/api/v1/sealed"
        for region, status in (("north", 428), ("south", 403), ("hidden", 404)):
            key = (await admin.post(url, json={"region": region})).json()["data"]["id"]
            items = {"operation": "patch", "items": [{"id": key, "region": "north"}]}
            assert (await clerk.post(f"{url}/batch", json=items)).status_code == status
            each = await clerk.post(f"{url}/batch", json={**items, "atomic": False})
            assert each.json()["data"][0]["error"]["statusCode"] == status
            step = {"operation": "patch", "resource": "Sealed", "id": key, "data": {"region": "north"}}
            assert (await clerk.post("/api/v1/batch", json=[step])).status_code == status


async def test_a_version_that_is_missing_is_told_after_what_is_wrong_with_the_body(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    async with byodpp_bench.application(build(tmp_path, WORLD)) as served:
        admin, url = served.client(), "/api/v1/sealed"
        key = (await admin.post(url, json={"region": "north"})).json()["data"]["id"]
        steps = {"op": "add", "path": "/region", "value": "south"}
        for options, status in (
            ({"json": {"nothing": 5}}, 422),
            ({"json": {"region": "south"}}, 428),
            ({"content": json.dumps([{**steps, "path": "/nothing"}]), **_PATCH}, 422),
            ({"content": json.dumps([{**steps, "value": 5}]), **_PATCH}, 422),
            ({"content": json.dumps([steps]), **_PATCH}, 428),
        ):
            answer = await admin.patch(f"{url}/{key}", **options)
            assert answer.status_code == status, (options, answer.text)


@pytest.mark.parametrize(
    ("data", "status", "field"),
    [({"price": 1}, 403, "data.price"), ({"name": 5}, 422, "data.name"), ({"name": "ab"}, 404, "data")],
)
async def test_what_no_row_may_become_is_told_before_the_rows_that_a_filter_finds(
    tmp_path: Path, byodpp_bench: Bench, data: dict[str, Any], status: int, field: str
) -> None:
    async with byodpp_bench.application(build(tmp_path, WORLD)) as served:
        admin, clerk, url = served.client(), served.client(role="Clerk"), "/api/v1/offers"
        assert (await admin.post(url, json={"region": "north"})).status_code == 201
        batch = {"operation": "patch", "filter": {"region": "north"}, "max": 9, "data": data}
        answer = await clerk.post(f"{url}/batch", json=batch)
        assert answer.status_code == status, answer.text
        assert [one["field"] for one in answer.json()["error"]["details"]] == [field]
