"""Attacks on writing: no way to write tells what its caller may not read, or takes more than it may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

STAFF: Final = "/api/v1/staff"
MANY: Final = "/api/v1/batch"
STEPS: Final = {"Content-Type": "application/json-patch+json"}
TRIED: Final = {"Prefer": "tx=rollback"}

_NAME: Final = {"type": "string", "required": True, "index": True}
_SHOWN: Final = ["id", "name", "metadata"]
_WRITTEN: Final = ["name", "email", "salary", "scores", "metadata"]
#: A clerk sees some fields of some rows, and the salary of one kind of them; he may write more than he sees.
OFFICE: Final[dict[str, Any]] = {
    "services": [
        {
            "name": "Office",
            "resources": [
                {
                    "name": "Staff",
                    "versioned": True,
                    "events": True,
                    "fields": {
                        "name": _NAME,
                        "email": {"type": "string", "unique": True},
                        "badge": {"type": "string", "unique": True},
                        "salary": {"type": "integer", "minimum": 0, "maximum": 100_000, "default": 0},
                        "scores": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
                        "level": {"type": "integer", "index": True},
                        "metadata": {"type": "json"},
                    },
                    "states": {
                        "initial": "draft",
                        "transitions": {"publish": {"from": "draft", "to": "published"}},
                    },
                    "access": {
                        "read": [
                            "Admin",
                            {"roles": ["Clerk"], "fields": _SHOWN, "filter": {"level": {"isNull": True}}},
                            {"roles": ["Clerk"], "fields": ["salary", "badge"], "filter": {"name": "open"}},
                        ],
                        "create": ["Admin", {"roles": ["Clerk"], "fields": [*_WRITTEN, "badge"]}],
                        "update": ["Admin", {"roles": ["Clerk"], "fields": [*_WRITTEN, "badge"]}],
                        "patch": ["Admin", {"roles": ["Clerk"], "fields": _WRITTEN}],
                        "batch": ["Admin", "Clerk", "Stranger"],
                        "publish:post": ["Admin", "Clerk"],
                        "write": ["Admin"],
                    },
                },
                {
                    "name": "Files",
                    "softDelete": True,
                    "events": True,
                    "fields": {"title": _NAME, "level": {"type": "integer"}},
                    "access": {
                        "read": ["Admin", {"roles": ["Clerk"], "filter": {"level": {"isNull": True}}}],
                        "delete": ["Admin", "Clerk"],
                        "batch": ["Admin", "Clerk"],
                        "write": ["Admin"],
                    },
                },
                {
                    "name": "Uses",
                    "fields": {"fileId": {"references": "Files", "required": True}},
                    "access": {"read": ["Admin"], "write": ["Admin"]},
                },
            ],
        }
    ],
    "include": ["byodpp:access"],
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("office"), OFFICE)


@pytest_asyncio.fixture(loop_scope="session")
async def office(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


async def made(client: Any, url: str, **values: Any) -> int:
    response = await client.post(url, json=values)
    assert response.status_code == 201, response.text
    return int(response.json()["data"]["id"])


def told(response: Any) -> tuple[int, dict[str, str]]:
    """Status, and the code of each detail by its field."""
    details = response.json()["error"]["details"]
    return response.status_code, {one["field"]: one["code"] for one in details}


# --- what an answer tells -----------------------------------------------------------------


async def test_a_modifier_tells_nothing_of_a_value_that_may_not_be_read(office: TestedApplication) -> None:
    admin, clerk = office.client(), office.client(role="Clerk", user="clerk")
    closed = f"{STAFF}/{await made(admin, STAFF, name='closed', salary=4_321, scores=[7])}"
    opened = f"{STAFF}/{await made(admin, STAFF, name='open', salary=4_321)}"
    for headers in ({}, TRIED):
        for step in (1, 95_679, 95_680):
            answer = await clerk.patch(closed, json={"salary": {"$increment": step}}, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), answer.text
        for item in (7, 8):
            answer = await clerk.patch(closed, json={"scores": {"$append": [item]}}, headers=headers)
            assert told(answer) == (403, {"scores": "forbidden"})
    batch = {
        "operation": "patch",
        "filter": {"name": "closed"},
        "max": 1,
        "data": {"scores": {"$append": [7]}},
    }
    assert told(await clerk.post(f"{STAFF}/batch", json=batch))[0] == 403
    assert (await clerk.patch(opened, json={"salary": {"$increment": 1}})).json()["data"]["salary"] == 4_322
    assert (await clerk.patch(closed, json={"salary": 5, "scores": [1]})).status_code == 200
    assert (await admin.get(closed)).json()["data"]["version"] == 2


async def test_an_upsert_does_not_tell_whose_a_hidden_value_is(office: TestedApplication) -> None:
    admin, clerk = office.client(), office.client(role="Clerk", user="clerk")
    await made(admin, STAFF, name="closed", email="a@x.y", badge="a")
    key = await made(admin, STAFF, name="open", email="b@x.y", badge="b")

    async def upsert(on: str, value: str) -> Any:
        body = {"operation": "upsert", "on": [on], "items": [{"name": "open", on: value}]}
        return await clerk.post(f"{STAFF}/batch", json=body)

    before = (await admin.get(STAFF)).json()["data"]
    for on, value in (("email", "a@x.y"), ("email", "b@x.y"), ("badge", "a")):
        created = await clerk.post(STAFF, json={"name": "open", on: value})
        assert told(created) == (409, {on: "unique"})
        assert told(await upsert(on, value)) == (409, {f"0.{on}": "unique"})
    assert (await admin.get(STAFF)).json()["data"] == before
    seen = await upsert("badge", "b")  # of this row he may read it
    assert seen.json()["data"][0]["id"] == key, seen.text


async def test_an_upsert_tells_nothing_to_who_may_not_create(office: TestedApplication) -> None:
    stranger = office.client(role="Stranger", user="stranger")
    await made(office.client(), STAFF, name="x", email="a@x.y")
    for atomic in (True, False):
        answers = []
        for email in ("a@x.y", "b@x.y"):
            items = [{"name": "x", "email": email}]
            body = {"operation": "upsert", "on": ["email"], "items": items, "atomic": atomic}
            answer = (await stranger.post(f"{STAFF}/batch", json=body)).json()
            error = answer["error"] if atomic else answer["data"][0]["error"]
            answers.append((error["statusCode"], error["code"], error["message"]))
        assert answers[0] == answers[1]
        assert answers[0][0] == 403


async def test_a_delete_does_not_tell_that_a_hidden_row_is_referred_to(office: TestedApplication) -> None:
    admin, clerk = office.client(), office.client(role="Clerk", user="clerk")
    hidden = await made(admin, "/api/v1/files", title="hidden", level=1)
    shown = await made(admin, "/api/v1/files", title="shown")
    for key in (hidden, shown):
        await made(admin, "/api/v1/uses", fileId=key)
    before = await office.events()
    unknown = await clerk.delete("/api/v1/files/999999")
    answer = await clerk.delete(f"/api/v1/files/{hidden}")
    assert told(answer) == told(unknown) == (404, {})
    refused = await clerk.delete(f"/api/v1/files/{shown}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "referenced_conflict")
    body = {"operation": "delete", "items": [hidden, 999_999, shown], "atomic": False}
    outcomes = (await clerk.post("/api/v1/files/batch", json=body)).json()["data"]
    assert [one["error"]["statusCode"] for one in outcomes] == [404, 404, 409]
    # What was refused was undone, its event too.
    assert (await admin.get(f"/api/v1/files/{shown}")).status_code == 200
    assert await office.events() == before
    async with office.connected.database.system() as transaction:
        assert (
            await transaction.fetchval("select count(*) from byodpp.events() where name like '%deleted'") == 0
        )
    assert (await admin.delete("/api/v1/uses/2")).status_code == 204
    assert (await clerk.delete(f"/api/v1/files/{shown}")).status_code == 204


async def test_a_refused_step_does_not_tell_a_hidden_state(office: TestedApplication) -> None:
    admin, clerk = office.client(), office.client(role="Clerk", user="clerk")
    url = f"{STAFF}/{await made(admin, STAFF, name='x')}/publish"
    assert (await clerk.post(url)).status_code == 200
    messages = [(await client.post(url)).json()["error"]["message"] for client in (admin, clerk)]
    assert "the row is published" in messages[0]
    assert "published" not in messages[1]


# --- what a request may cost, and what is no request ----------------------------------------


async def test_the_copies_of_a_json_patch_are_bounded(office: TestedApplication) -> None:
    client = office.client()
    url = f"{STAFF}/{await made(client, STAFF, name='x', metadata={'a': 'x' * 50})}"
    copies = [{"op": "copy", "from": "/metadata", "path": f"/metadata/{n}"} for n in range(25)]
    assert told(await client.patch(url, json=copies, headers=STEPS)) == (422, {"14": "too_long"})
    few = await client.patch(url, json=copies[:3], headers=STEPS)
    inner = {"a": "x" * 50}
    one = {**inner, "0": inner}
    assert few.json()["data"]["metadata"] == {**one, "1": one, "2": {**one, "1": one}}
    moved = await client.patch(
        url, json=[{"op": "move", "from": "/metadata/2", "path": "/metadata/b"}], headers=STEPS
    )
    assert moved.json()["data"]["metadata"]["b"] == {**one, "1": one}


async def test_what_the_templates_of_an_operation_stand_for_is_bounded(office: TestedApplication) -> None:
    client = office.client()

    def step(metadata: Any) -> dict[str, Any]:
        return {"operation": "create", "resource": "Staff", "data": {"name": "x", "metadata": metadata}}

    doubling = [step(["y" * 10])]
    doubling += [step([f"{{{{result[{n}].metadata}}}}"] * 30) for n in range(6)]
    status, faults = told(await client.post(MANY, json=doubling))
    assert status == 422
    assert set(faults.values()) == {"template"}
    assert {field.partition(".")[0] for field in faults} == {"4"}
    assert (await client.get(STAFF)).json()["count"] == 0
    assert (await client.post(MANY, json=doubling[:3])).status_code == 200


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"operation": "{{result[0].metadata}}", "resource": "Staff"}, "operation"),
        ({"operation": "{{result[0].name}}", "resource": "Staff", "data": {}}, "operation"),
        ({"operation": "read", "resource": "{{result[0].metadata}}", "id": 1}, "resource"),
        ({"operation": "read", "resource": "Staff", "params": {"$literal": 5}}, "params"),
        ({"operation": "read", "resource": "Staff", "params": {"$literal": "{{result[0].id}}"}}, "params"),
    ],
)
async def test_a_template_makes_no_operation_that_could_not_have_been_sent(
    office: TestedApplication, step: dict[str, Any], field: str
) -> None:
    client = office.client()
    first = {"operation": "create", "resource": "Staff", "data": {"name": "batch", "metadata": {"a": 1}}}
    status, faults = told(await client.post(MANY, json=[first, step]))
    assert (status, list(faults)) == (422, [f"1.{field}"])
    assert (await client.get(STAFF)).json()["count"] == 0


@pytest.mark.parametrize("operation", [{}, [], ["patch"], {"patch": 1}, 1, None, True])
async def test_a_batch_by_filter_of_no_operation_is_refused(
    office: TestedApplication, operation: Any
) -> None:
    body = {"operation": operation, "filter": {"name": "x"}, "max": 1}
    status, faults = told(await office.client().post(f"{STAFF}/batch", json=body))
    assert status == 422
    assert "operation" in faults
