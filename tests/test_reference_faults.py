"""A body is refused with all its faults at once, also those that only the database knows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest_asyncio

from byodpp.bootstrap import assemble
from byodpp.testing import Bench, TestedApplication

_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 20, "required": True}
_ALL: Final = {"read": ["Admin", "Clerk"], "write": ["Admin", "Clerk"]}
HARBOURS: Final = {
    "resources": [
        {
            "name": "Ports",
            "fields": {"name": _NAME, "rank": {"type": "integer"}},
            "relations": {
                "departures": {"resource": "Trips", "foreignField": "fromId"},
                "landings": {"resource": "Landings", "foreignField": "portId"},
            },
            "access": _ALL,
        },
        {
            "name": "Landings",
            "fields": {"portId": {"references": "Ports"}, "crewId": {"references": "Crews"}},
            "access": _ALL,
        },
        {
            "name": "Crews",
            "id": "uuid7",
            "softDelete": True,
            "filterable": True,
            "fields": {"name": _NAME, "secret": {"type": "boolean", "default": False}},
            "access": {
                "read": ["Admin", {"roles": ["Clerk"], "filter": {"secret": False}}],
                "write": ["Admin", "Clerk"],
            },
        },
        {
            "name": "Trips",
            "fields": {
                "name": _NAME,
                "fromId": {"references": "Ports", "as": "origin", "required": True},
                "weight": {"type": "integer", "minimum": 0},
                "toId": {"references": "Ports", "as": "target"},
                "crewId": {"references": "Crews"},
                "setId": {"references": "Ports", "as": "set", "readOnly": True},
            },
            "access": _ALL,
        },
    ]
}
TRIPS: Final = "/api/v1/trips"
NOBODY: Final = "01a21c84-0453-7000-9f42-4bd891f3ea97"


@pytest_asyncio.fixture
async def harbour(tmp_path: Path, byodpp_bench: Bench) -> AsyncIterator[TestedApplication]:
    (tmp_path / "resources.json").write_text(json.dumps(HARBOURS), encoding="utf-8")
    async with byodpp_bench.application(assemble(tmp_path)) as served:
        yield served


def details(answer: Any) -> list[tuple[str, str]]:
    assert answer.status_code == 422, answer.text
    return [(one["field"], one["code"]) for one in answer.json()["error"]["details"]]


async def test_bad_references_are_told_beside_bad_values(harbour: TestedApplication) -> None:
    admin, clerk = harbour.client(), harbour.client(role="Clerk")
    port = (await admin.post("/api/v1/ports", json={"name": "p"})).json()["data"]["id"]
    foreign = (await harbour.client(tenant="beta").post("/api/v1/ports", json={"name": "f"})).json()
    elsewhere = foreign["data"]["id"] + 1_000_000
    crew = (await admin.post("/api/v1/crews", json={"name": "c", "secret": True})).json()["data"]["id"]
    both = {"crewId": crew, "weight": -1, "fromId": elsewhere, "toId": port, "setId": 9, "name": ""}
    assert details(await clerk.post(TRIPS, json=both)) == [
        ("crewId", "reference"),
        ("weight", "out_of_range"),
        ("fromId", "reference"),
        ("setId", "read_only"),
        ("name", "too_short"),
    ]
    # What the clerk may not read is worded as what is not there.
    unknown = await clerk.post(TRIPS, json={**both, "crewId": NOBODY})
    assert details(unknown) == details(await clerk.post(TRIPS, json=both))
    assert details(await admin.post(TRIPS, json={**both, "fromId": port})) == [
        ("weight", "out_of_range"),
        ("setId", "read_only"),
        ("name", "too_short"),
    ]
    # Of a wrong type, the type alone is told; what is missing comes last.
    assert details(await admin.post(TRIPS, json={"toId": "x", "crewId": NOBODY, "name": "n"})) == [
        ("toId", "type"),
        ("crewId", "reference"),
        ("fromId", "required"),
    ]


async def test_several_bad_references_are_told_together(harbour: TestedApplication) -> None:
    admin = harbour.client()
    port = (await admin.post("/api/v1/ports", json={"name": "p"})).json()["data"]["id"]
    body = {"name": "n", "toId": port + 10, "fromId": port + 20, "crewId": NOBODY}
    expected = [("toId", "reference"), ("fromId", "reference"), ("crewId", "reference")]
    for headers in ({}, {"Idempotency-Key": "k"}, {"Prefer": "tx=rollback"}):
        assert details(await admin.post(TRIPS, json=body, headers=headers)) == expected
    made = await admin.post(TRIPS, json={"name": "n", "fromId": port})
    assert made.status_code == 201
    url = f"{TRIPS}/{made.json()['data']['id']}"
    assert details(await admin.put(url, json=body)) == expected
    assert details(await admin.patch(url, json=body)) == expected
    assert (await admin.patch(f"{TRIPS}/999", json={**body, "weight": -1})).status_code == 404
    for batch in ([{"name": "n", "fromId": port}, body, {"name": ""}], [body, {**body, "name": ""}]):
        answers = [
            await admin.post(f"{TRIPS}/batch", json=batch),
            await admin.post(f"{TRIPS}/batch", json={"operation": "create", "items": batch}),
        ]
        place = batch.index(body)
        for answer in answers:
            told = details(answer)
            assert [(f"{place}.{name}", code) for name, code in expected] == told[:3], told
            assert {(f"{len(batch) - 1}.name", "too_short")} < {*told}, told


async def test_of_many_faults_the_first_are_told_and_all_are_counted(harbour: TestedApplication) -> None:
    rows = [{"fromId": 900 + number} for number in range(150)]
    answer = await harbour.client().post(f"{TRIPS}/batch", json=rows)
    told = details(answer)
    assert told == [(f"{at // 2}.{'name' if at % 2 else 'fromId'}", told[at][1]) for at in range(100)]
    assert {code for _, code in told} == {"reference", "required"}
    assert "300 faults, of which the first 100" in answer.json()["error"]["message"]


async def test_a_reference_that_stands_is_no_fault(harbour: TestedApplication) -> None:
    admin, clerk = harbour.client(), harbour.client(role="Clerk")
    port = (await admin.post("/api/v1/ports", json={"name": "p"})).json()["data"]["id"]
    crew = (await admin.post("/api/v1/crews", json={"name": "c"})).json()["data"]["id"]
    row = {"name": "n", "fromId": port, "crewId": crew}
    made = await admin.post(TRIPS, json=row)
    url = f"{TRIPS}/{made.json()['data']['id']}"
    assert (await admin.patch(f"/api/v1/crews/{crew}", json={"secret": True})).status_code == 200
    for method in ("PUT", "PATCH"):
        wrong = await clerk.request(method, url, json={**row, "weight": -1})
        assert details(wrong) == [("weight", "out_of_range")]
        right = await clerk.request(method, url, json={**row, "weight": 1})
        assert right.status_code == 200, right.text
    assert details(await clerk.post(TRIPS, json={**row, "weight": -1})) == [
        ("crewId", "reference"),
        ("weight", "out_of_range"),
    ]


async def test_references_of_rows_inside_rows_are_told_beside_other_faults(
    harbour: TestedApplication,
) -> None:
    admin, clerk = harbour.client(), harbour.client(role="Clerk")
    secret = (await admin.post("/api/v1/crews", json={"name": "c", "secret": True})).json()["data"]["id"]
    trips = [
        {"name": "a", "toId": 900},
        {"name": "", "crewId": NOBODY},
        {"name": "c", "crewId": secret, "toId": 901},
    ]
    expected = [
        ("departures.0.toId", "reference"),
        ("departures.1.name", "too_short"),
        ("departures.1.crewId", "reference"),
        ("departures.2.crewId", "reference"),
        ("departures.2.toId", "reference"),
    ]
    body = {"departures": trips, "rank": 1.5, "name": "p"}
    assert details(await clerk.post("/api/v1/ports", json=body)) == [*expected, ("rank", "type")]
    port = (await admin.post("/api/v1/ports", json={"name": "p"})).json()["data"]["id"]
    for inside in (trips, {"$replace": trips}):
        patched = await clerk.patch(f"/api/v1/ports/{port}", json={"departures": inside, "name": ""})
        assert details(patched) == [*expected, ("name", "too_short")]
    only = {"name": "p", "departures": [trips[0]], "landings": [{"crewId": NOBODY}, {"crewId": secret}, {}]}
    told = details(await clerk.post("/api/v1/ports", json=only))
    assert told == [
        ("departures.0.toId", "reference"),
        ("landings.0.crewId", "reference"),
        ("landings.1.crewId", "reference"),
    ]
    batch = details(await clerk.post("/api/v1/ports/batch", json=[{"name": "x"}, only, {"name": ""}]))
    assert batch == [*((f"1.{field}", code) for field, code in told), ("2.name", "too_short")]
    assert (await admin.get("/api/v1/ports")).json()["count"] == 1


async def test_references_of_a_json_patch_are_told_beside_other_faults(harbour: TestedApplication) -> None:
    admin = harbour.client()
    port = (await admin.post("/api/v1/ports", json={"name": "p"})).json()["data"]["id"]
    trip = (await admin.post(TRIPS, json={"name": "n", "fromId": port})).json()["data"]["id"]

    async def told(*steps: tuple[str, str, Any]) -> list[tuple[str, str]]:
        sent = [{"op": op, "path": path, "value": value} for op, path, value in steps]
        headers = {"Content-Type": "application/json-patch+json"}
        url = f"{TRIPS}/{trip}"
        return sorted(details(await admin.patch(url, content=json.dumps(sent), headers=headers)))

    steps = ("replace", "/name", ""), ("add", "/toId", 900), ("replace", "/crewId", NOBODY)
    assert await told(*steps) == [("crewId", "reference"), ("name", "too_short"), ("toId", "reference")]
    assert await told(*steps[1:]) == [("crewId", "reference"), ("toId", "reference")]
    assert await told(*steps, ("remove", "/toId", None)) == [("crewId", "reference"), ("name", "too_short")]
    assert await told(*steps, ("replace", "/toId", port)) == [("crewId", "reference"), ("name", "too_short")]


async def test_references_of_one_operation_of_several_are_told_beside_its_other_faults(
    harbour: TestedApplication,
) -> None:
    admin = harbour.client()
    port = (await admin.post("/api/v1/ports", json={"name": "p"})).json()["data"]["id"]
    trip = (await admin.post(TRIPS, json={"name": "n", "fromId": port})).json()["data"]["id"]
    made = {"operation": "create", "resource": "Ports", "data": {"name": "new"}}
    bad = {"name": "", "fromId": "{{result[0].id}}", "toId": 900, "crewId": NOBODY}
    expected = [("1.name", "too_short"), ("1.toId", "reference"), ("1.crewId", "reference")]
    for step in (
        {"operation": "create", "resource": "Trips", "data": bad},
        {"operation": "patch", "resource": "Trips", "id": trip, "data": bad},
    ):
        for body in ([made, step], {"operations": [made, step, made]}):
            assert details(await admin.post("/api/v1/batch", json=body)) == expected
    inside = {"name": "p", "departures": [{"name": "a", "toId": 900}, {"name": "b", "toId": 901}]}
    several = await admin.post("/api/v1/batch", json=[{**made, "data": inside}])
    assert details(several) == [
        ("0.departures.0.toId", "reference"),
        ("0.departures.1.toId", "reference"),
    ]
    garbled: Any
    for garbled in (
        "x",
        5,
        None,
        [],
        {"operation": ["create"]},
        {**made, "operation": {}},
        {**made, "data": 5},
    ):
        for body in ([garbled], [made, garbled], [garbled, made], {"operations": garbled}, garbled):
            assert (await admin.post("/api/v1/batch", json=body)).status_code in (400, 422)
    for method, url in (("POST", TRIPS), ("PUT", f"{TRIPS}/{trip}"), ("PATCH", f"{TRIPS}/{trip}")):
        for garbled in ([{"op": "add", "path": "/toId", "value": 900}], "x", 5, [[]]):
            assert (await admin.request(method, url, json=garbled)).status_code in (400, 422)
    # What an earlier operation has brought back may be referred to.
    crew = (await admin.post("/api/v1/crews", json={"name": "c"})).json()["data"]["id"]
    assert (await admin.delete(f"/api/v1/crews/{crew}")).status_code == 204
    back = {"operation": "restore:post", "resource": "Crews", "id": crew}
    row = {"name": "", "fromId": port, "crewId": crew}
    step = {"operation": "create", "resource": "Trips", "data": row}
    assert details(await admin.post("/api/v1/batch", json=[back, step])) == [("1.name", "too_short")]
    done = await admin.post("/api/v1/batch", json=[back, {**step, "data": {**row, "name": "n"}}])
    assert done.status_code == 200, done.text
