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
        {"name": "Ports", "fields": {"name": _NAME}, "access": _ALL},
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
