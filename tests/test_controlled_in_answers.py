"""Whoever is shown a controlled field by the answer of a write has read it, and the trail says so."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

PEOPLE: Final = "/api/v1/people"
SLIPS: Final = "/api/v1/slips"
WORLD: Final[dict[str, Any]] = {
    "resources": [
        {
            "name": "People",
            "filterable": True,
            "fields": {
                "name": {"type": "string", "required": True, "unique": True},
                "salary": {"type": "integer", "controlled": True},
                "rank": {"type": "integer"},
            },
            "states": {"initial": "new", "transitions": {"hire": {"from": "new", "to": "in"}}},
            "access": {
                "read": ["Admin", {"roles": ["Clerk"], "fields": ["name"]}],
                "write": ["Admin", "Clerk"],
            },
        },
        {
            "name": "Slips",
            "fields": {"salary": {"type": "json", "controlled": True}, "note": {"type": "string"}},
            "routes": {"actions": [{"url": "/api/v1/slips/sum", "method": "post"}]},
        },
        {
            "name": "Marks",
            "fields": {
                "name": {"type": "string", "unique": True},
                "salary": {"type": "integer", "controlled": True},
            },
            "access": {
                "read": ["Admin", "Clerk"],
                "write": ["Admin", {"roles": ["Clerk"], "fields": ["name"]}],
            },
        },
    ],
    "include": ["byodpp:audit"],
}
FAILING: Final = """
from byodpp.logics import Logic

class SlipsSum(Logic):
    resource, action = "Slips", "sum:post"

    async def execute(self):
        return sum(row["salary"] for row in await self.repository.list())

class SlipsPatch(Logic):
    resource, operation = "Slips", "patch"

    async def execute(self):
        if self.request.body.get("note") == "fail":
            raise RuntimeError("nobody has expected this")
        return await self.default()
"""


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("people"), WORLD, {"logics/v1/slips/patch.py": FAILING})


@pytest_asyncio.fixture(loop_scope="session")
async def office(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


async def told(
    office: TestedApplication, client: Any, method: str, url: str, *, status: int | None = None, **more: Any
) -> Any:
    """Send a request; return what was read by it: the action, and the keys of the rows."""
    answer = await client.request(method, url, **more)
    assert answer.status_code in ((200, 201, 204, 409) if status is None else (status,)), answer.text
    await office.connected.trail.drain()
    async with office.connected.database.system() as transaction:
        rows = await transaction.fetch(
            "select action, changes::text as told from audit_logs where request_id = $1 order by id",
            answer.headers["x-request-id"],
        )
    found = [
        (row["action"], json.loads(row["told"])) for row in rows if row["action"] not in ("CREATE", "UPDATE")
    ]
    assert all(one["fields"] == ["salary"] for _, one in found)
    return [(action, one["rows"]) for action, one in found]


async def test_an_answer_that_is_sent_again_is_read_again(office: TestedApplication) -> None:
    admin, keyed = office.client(), {"Idempotency-Key": "once"}
    created = await admin.post(SLIPS, json={"salary": 5})
    slip = created.json()["data"]["id"]
    ways: list[tuple[str, str, Any, list[tuple[str, list[str]]]]] = [
        ("PATCH", f"{SLIPS}/{slip}", {"note": "x"}, [("READ", [str(slip)])]),
        ("POST", f"{SLIPS}/batch", {"operation": "patch", "items": [{"id": slip}]}, [("READ", [str(slip)])]),
        ("POST", f"{SLIPS}/sum", None, [("LIST", [str(slip)])]),
        ("POST", SLIPS, {"salary": 6}, []),  # what he has sent himself
    ]
    for method, address, body, seen in ways:
        for turn in range(3):
            found = await told(office, admin, method, address, json=body, headers=keyed)
            assert found == seen, (method, address, turn)
    person = (await admin.post(PEOPLE, json={"name": "z", "salary": 5})).json()["data"]["id"]
    brief = {"Idempotency-Key": "briefly", "Prefer": "return=minimal"}
    for _ in range(2):
        assert await told(office, admin, "PATCH", f"{PEOPLE}/{person}", json={"rank": 1}, headers=brief) == []


async def test_a_row_that_a_write_shows_is_read_also_where_the_write_is_only_tried(
    office: TestedApplication,
) -> None:
    admin, clerk = office.client(), office.client(role="Clerk")
    made = await admin.post(f"{PEOPLE}/batch", json=[{"name": name, "salary": 5} for name in "abc"])
    a, b, c = [row["id"] for row in made.json()["data"]]
    tried, brief = {"Prefer": "tx=rollback"}, {"Prefer": "return=minimal"}
    url = f"{PEOPLE}/{a}"
    ways: list[tuple[str, str, Any, list[int]]] = [
        ("PATCH", url, {}, [a]),
        ("PUT", url, {"name": "a", "salary": 6}, [a]),
        ("POST", f"{url}/hire", None, [a]),
        ("POST", f"{PEOPLE}/batch", {"operation": "patch", "items": [{"id": a}, {"id": b}]}, [a, b]),
        ("POST", f"{PEOPLE}/batch", {"operation": "patch", "atomic": False, "items": [{"id": c}]}, [c]),
        ("POST", f"{PEOPLE}/batch", {"operation": "upsert", "items": [{"name": "a"}, {"name": "b"}]}, [a, b]),
        ("POST", "/api/v1/batch", [{"operation": "patch", "resource": "People", "id": b, "data": {}}], [b]),
    ]
    for method, address, body, rows in ways:
        for headers in (tried, {}):
            if "hire" in address and not headers:
                continue
            sent: dict[str, Any] = {"json": body, "headers": headers}
            seen = [("READ", [str(key) for key in rows])]
            assert await told(office, admin, method, address, **sent) == seen, (method, address)
            assert await told(office, clerk, method, address, **sent) == [], (
                "who is not shown it reads nothing"
            )
        if "hire" not in address:
            assert await told(office, admin, method, address, json=body, headers=brief) == []
    assert await told(office, admin, "POST", PEOPLE, json={"name": "d", "salary": 7}) == [], "his own value"
    assert await told(office, admin, "DELETE", url) == []


async def test_who_writes_the_rows_that_a_filter_finds_has_asked_for_what_it_compares(
    office: TestedApplication,
) -> None:
    admin = office.client()
    made = await admin.post(f"{PEOPLE}/batch", json=[{"name": name, "salary": 5} for name in "ab"])
    keys = [str(row["id"]) for row in made.json()["data"]]
    for most in (1, 5):
        for operation in ("delete", "patch"):
            body = {"operation": operation, "filter": {"salary": {"gte": 5}}, "max": most}
            body |= {"data": {}} if operation == "patch" else {}
            sent: dict[str, Any] = {"json": body, "headers": {"Prefer": "tx=rollback, return=minimal"}}
            assert await told(office, admin, "POST", f"{PEOPLE}/batch", **sent) == [("LIST", keys)]


async def test_a_test_of_a_patch_that_fails_has_told_what_a_field_is_not(office: TestedApplication) -> None:
    admin = office.client()
    key = (await admin.post(PEOPLE, json={"name": "a", "salary": 5})).json()["data"]["id"]
    headers = {"Content-Type": "application/json-patch+json"}
    for path, seen in (("/salary", [("READ", [str(key)])]), ("/name", [])):
        steps = json.dumps([{"op": "test", "path": path, "value": 4}, {"op": "none"}])
        sent: dict[str, Any] = {"content": steps, "headers": headers}
        assert await told(office, admin, "PATCH", f"{PEOPLE}/{key}", **sent) == seen, path


_SAME: Final = {"op": "test", "path": "/salary", "value": 5}


@pytest.mark.parametrize(
    ("steps", "status", "seen"),
    [
        ([_SAME], 204, True),
        ([{"op": "copy", "from": "/salary", "path": "/rank"}], 204, True),
        ([_SAME, {"op": "replace", "path": "/name", "value": 7}], 422, True),
        ([_SAME, {"op": "copy", "from": 7}, 5, {"op": {}}], 422, True),
        ([{"op": "replace", "path": "/salary", "value": 5}], 204, False),
        ({"op": "test"}, 422, False),
    ],
)
async def test_steps_that_compare_a_field_or_take_it_elsewhere_read_it_though_no_answer_shows_it(
    office: TestedApplication, steps: Any, status: int, seen: bool
) -> None:
    admin = office.client()
    key = (await admin.post(PEOPLE, json={"name": "a", "salary": 5})).json()["data"]["id"]
    for prefer in ("return=minimal", "tx=rollback, return=minimal"):
        headers = {"Content-Type": "application/json-patch+json", "Prefer": prefer}
        sent: dict[str, Any] = {"content": json.dumps(steps), "headers": headers}
        read = await told(office, admin, "PATCH", f"{PEOPLE}/{key}", status=status, **sent)
        assert read == ([("READ", [str(key)])] if seen else [])


_FAIL: Final = {"op": "add", "path": "/note", "value": "fail"}


@pytest.mark.parametrize(
    ("steps", "status", "seen"),
    [
        ([{"op": "test", "path": "/salary/net", "value": 5}, _FAIL], 500, True),
        ([{"op": "remove", "path": "/salary/gross"}], 422, True),
        ([{"op": "replace", "path": "/salary/net", "value": 5}], 204, True),
        ([{"op": "add", "path": "/salary/net", "value": 5}, _FAIL], 500, True),
        ([{"op": "replace", "path": "/salary", "value": {}}, _FAIL], 500, False),
    ],
)
async def test_steps_that_find_their_way_inside_a_field_read_it_also_where_a_class_fails(
    office: TestedApplication, steps: Any, status: int, seen: bool
) -> None:
    admin = office.client()
    slips = "/api/v1/slips"
    key = (await admin.post(slips, json={"salary": {"net": 5}})).json()["data"]["id"]
    headers = {"Content-Type": "application/json-patch+json", "Prefer": "return=minimal"}
    sent: dict[str, Any] = {"content": json.dumps(steps), "headers": headers}
    read = await told(office, admin, "PATCH", f"{slips}/{key}", status=status, **sent)
    assert read == ([("READ", [str(key)])] if seen else [])


@pytest.mark.parametrize(
    ("body", "status", "seen"),
    [
        ({"name": "a", "salary": 5}, 204, True),
        ({"name": "a", "salary": 6}, 403, True),
        ({"name": "b", "salary": 5}, 409, True),
        ({"name": "b", "salary": 6}, 403, True),
        ({"name": "a"}, 204, False),
        ({"name": "b"}, 409, False),
    ],
)
async def test_who_puts_a_field_that_he_may_not_write_learns_whether_it_is_so(
    office: TestedApplication, body: Any, status: int, seen: bool
) -> None:
    admin, clerk, marks = office.client(), office.client(role="Clerk"), "/api/v1/marks"
    keys = [(await admin.post(marks, json={"name": name, "salary": 5})).json()["data"]["id"] for name in "ab"]
    sent: dict[str, Any] = {"json": body, "headers": {"Prefer": "return=minimal"}}
    read = await told(office, clerk, "PUT", f"{marks}/{keys[0]}", status=status, **sent)
    assert read == ([("READ", [str(keys[0])])] if seen else [])
