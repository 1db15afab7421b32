"""A logic class changes its body, and may be run again: each run begins with what was sent."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.exceptions import ValidationFailed
from byodpp.testing import Bench, TestedApplication
from tests.transfer_world import CSV
from tests.worlds import build

THINGS: Final = "/api/v1/things"
_UNIQUE: Final = {"type": "string", "maxLength": 40, "unique": True}
_MANIFEST: Final[dict[str, Any]] = {
    "resources": [
        {
            "name": "Things",
            "fields": {
                "name": {"type": "string", "maxLength": 40, "required": True},
                "sku": _UNIQUE,
                "alt": _UNIQUE,
                "extra": {"type": "json"},
            },
            "access": {"read": ["Admin"], "write": ["Admin"]},
        },
        {
            "name": "Plain",
            "versioned": True,
            "fields": {"name": {"type": "string"}, "mail": {"type": "string", "personal": True}},
            "access": {"read": ["Admin"], "write": ["Admin"]},
        },
        {
            "name": "Orders",
            "fields": {"name": {"type": "string"}, "thingId": {"type": "bigint"}},
            "routes": {
                "crud": ["list", "create", "read", "batch"],
                "actions": [{"url": "/api/v1/orders/{id}/print", "method": "post"}],
            },
            "access": {"read": ["Admin"], "write": ["Admin"]},
        },
    ]
}
_SOURCE: Final = """
from byodpp.logics import Logic, Reply

TRIES = []
FAILED = "do $$ begin raise exception using errcode = 'serialization_failure'; end $$"


async def changed(logic):
    body = logic.request.body
    body["name"] += "!"
    if body.get("extra"):
        body["extra"]["seen"].append("here")
    row = await logic.default()
    if body["name"].startswith("twice"):
        TRIES.append(logic.request.operation)
        if len(TRIES) % 2:  # the first try of a request meets another one
            await logic.transaction.execute(FAILED)
    return row


class CreateThing(Logic):
    resource, operation = "Things", "create"

    async def execute(self):
        return await changed(self)


class UpdateThing(Logic):
    resource, operation = "Things", "update"

    async def execute(self):
        return await changed(self)


class BatchPlain(Logic):
    resource, operation = "Plain", "batch"

    async def execute(self):
        rows = await self.default()
        self.emit("plain.told", rows[0])
        more = await self.repository.batch([{"name": "c"}, {"name": "d"}])
        return [[row["name"], row.version, row.key == row["id"]] for row in rows + more]


class CreateOrder(Logic):
    resource, operation = "Orders", "create"

    async def execute(self):
        row = await self.default()
        if row["name"] == "nothing":
            return Reply(status=204)
        if row["name"] == "file":
            return Reply.file(b"x", name="x.txt", media_type="text/plain")
        return Reply(data=row, status=202, message="taken")


class PrintOrder(Logic):
    resource, action = "Orders", "print:post"

    async def execute(self):
        async def pages():
            while True:
                yield b"page"
        return Reply(body=pages(), media_type="text/plain")


class PatchThing(Logic):
    resource, operation = "Things", "patch"

    async def execute(self):
        return await changed(self)
"""


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("bodies"), _MANIFEST, {"logics/v1/things/all.py": _SOURCE})


@pytest_asyncio.fixture(loop_scope="session")
async def store(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


async def test_a_try_that_met_another_request_leaves_nothing_in_the_body(store: TestedApplication) -> None:
    client = store.client()
    sent = {"name": "twice", "extra": {"seen": []}}
    made = await client.post(THINGS, json=sent)
    assert made.status_code == 201, made.text
    row = made.json()["data"]
    url = f"{THINGS}/{row['id']}"
    answers = [made, await client.put(url, json=sent), await client.patch(url, json={"name": "twice"})]
    batch = await client.post(f"{THINGS}/batch", json=[sent])
    rows = [*(one.json()["data"] for one in answers), *batch.json()["data"]]
    told = [(one["name"], one["extra"]) for one in rows]
    assert told == [("twice!", {"seen": ["here"]})] * 4
    parts = store.connected.service.parts
    logic = parts.logics.get(parts.registry.get("Things"), "create")
    tries = sys.modules[logic.__module__].TRIES
    assert tries == ["create", "create", "update", "update", "patch", "patch", "create", "create"]


async def test_steps_are_taken_once_in_each_try(store: TestedApplication) -> None:
    client = store.client()
    row = (await client.post(THINGS, json={"name": "a"})).json()["data"]
    steps = [
        {"op": "replace", "path": "/name", "value": "twice"},
        {"op": "add", "path": "/extra", "value": {"seen": []}},
        {"op": "add", "path": "/extra/seen/-", "value": 1},
        {"op": "replace", "path": "/extra/seen", "value": [2]},
        {"op": "add", "path": "/extra/seen/-", "value": 3},
    ]
    headers = {"Content-Type": "application/json-patch+json"}
    done = await client.patch(f"{THINGS}/{row['id']}", json=steps, headers=headers)
    assert done.json()["data"]["extra"] == {"seen": [2, 3, "here"]}, done.text


async def test_documents_of_an_import_that_are_done_again_one_by_one_are_as_they_were_sent(
    store: TestedApplication,
) -> None:
    client = store.client()
    for number, mark in enumerate("ab"):  # at first they are made, then replaced
        sent = f"name,sku,alt\nx{number},{mark}1,\ny{number},{mark}2,{mark}\nz,{mark}3,{mark}\n"
        for _ in range(2):
            url = f"{THINGS}/import?operation=upsert&on=sku&again=true"
            done = await client.post(url, content=sent, headers=CSV)
            assert (done.status_code, done.json()["data"]["rejected"]) == (200, 1), done.text
            listed = (await client.get(f"{THINGS}?sort=id&filter[sku][startsWith]={mark}")).json()["data"]
            assert [row["name"] for row in listed] == [f"x{number}!", f"y{number}!"]


async def test_rows_that_a_batch_hands_to_a_class_are_like_any_other(store: TestedApplication) -> None:
    items = [{"name": "a", "mail": "a@example.com"}, {"name": "b"}]
    answer = await store.client().post("/api/v1/plain/batch", json=items)
    assert answer.json()["data"] == [[name, 1, True] for name in "abcd"], answer.text
    [event] = await store.events()
    assert (event.name, event.data["name"], "mail" in event.data) == ("plain.told", "a", False)
    async with store.connected.database.system() as transaction:
        assert await transaction.fetchval("select data ? 'mail' from byodpp.events()") is False


async def test_a_class_writes_no_row_of_somebody_else(store: TestedApplication) -> None:
    async with store.repositories("acme") as repositories:
        rows = repositories["Plain"]
        own = (await store.tenant("acme")).id
        row = await rows.create({"name": "a", "tenantId": own})
        for write in (rows.create, partial(rows.update, row["id"]), partial(rows.patch, row["id"])):
            with pytest.raises(ValidationFailed) as refused:
                await write({"name": "b", "tenantId": own + 1})
            [fault] = refused.value.details
            assert (fault.field, fault.code) == ("tenantId", "read_only")
        await rows.patch(row["id"], {"name": "c", "tenantId": own})
    assert [one["name"] for one in (await store.client().get("/api/v1/plain")).json()["data"]] == ["c"]
    assert (await store.client(tenant="beta").get("/api/v1/plain")).json()["data"] == []


async def test_what_a_class_answers_in_its_own_words_stands_beside_other_answers(
    store: TestedApplication,
) -> None:
    client, url = store.client(), "/api/v1/orders"
    alone = await client.post(url, json={"name": "a"})
    assert (alone.status_code, alone.json()["message"]) == (202, "taken")
    rows = await client.post(f"{url}/batch", json=[{"name": "b"}, {"name": "nothing"}])
    assert rows.status_code == 201, rows.text
    assert [one and one["name"] for one in rows.json()["data"]] == ["b", None]
    order = {"resource": "Orders", "operation": "create"}
    taken = {"name": "c", "thingId": "{{result[0].id}}"}
    steps = [{**order, "data": {"name": "first"}}, {**order, "data": taken}]
    answer = await client.post("/api/v1/batch", json=steps)
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["data"]
    assert second["thingId"] == first["id"]


async def test_what_a_class_answers_with_a_file_or_a_stream_is_asked_for_by_itself(
    store: TestedApplication,
) -> None:
    client, url = store.client(), "/api/v1/orders"
    row = (await client.post(url, json={"name": "a"})).json()["data"]
    printing = {"resource": "Orders", "operation": "print:post", "id": row["id"]}
    items = {"operation": "create", "items": [{"name": "b"}, {"name": "file"}]}
    for path, body, field in (
        ("/api/v1/batch", [printing], "0.operation"),
        (
            "/api/v1/batch",
            [{"resource": "Orders", "operation": "create", "data": {"name": "file"}}],
            "0.operation",
        ),
        (f"{url}/batch", items, "1.operation"),
    ):
        refused = await client.post(path, json=body)
        assert refused.status_code == 422, refused.text
        [detail] = refused.json()["error"]["details"]
        assert (detail["field"], detail["code"]) == (field, "unsupported")
    each = await client.post(f"{url}/batch", json={**items, "atomic": False})
    assert [one["success"] for one in each.json()["data"]] == [True, False]
    assert [one["name"] for one in (await client.get(f"{url}?sort=id")).json()["data"]] == ["a", "b"]
