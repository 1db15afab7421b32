"""What audit entries say is kept as it was written: found, given a new type, sealed, and bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from byodpp.audit import SealKey, Verdict, verify
from byodpp.bootstrap import Blueprint
from byodpp.settings.secret_key import application_secret
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

ITEMS, TRAIL = "/api/v1/items", "/api/v1/audit-logs"
MANIFEST = {
    "include": ["byodpp:audit"],
    "resources": [
        {
            "name": "Items",
            "audit": True,
            "events": ["create", "patch"],
            "fields": {
                "name": {"type": "string", "required": True},
                "price": {"type": "decimal", "precision": 12, "scale": 2},
                "pin": {"type": "string", "writeOnly": True},
                "details": {"type": "json"},
            },
            "routes": {
                "actions": [{"url": f"{ITEMS}/{name}", "method": "post"} for name in ("note", "ask", "spoil")]
            },
        }
    ],
}
LOGIC = """
from decimal import Decimal

import marshmallow as ma
from byodpp.logics import Logic


class NoteInput(ma.Schema):
    action = ma.fields.String(required=True)
    id = ma.fields.String()
    changes = ma.fields.Raw(allow_none=True)


class Note(Logic):
    resource, action = "Items", "note:post"
    input = NoteInput

    async def execute(self):
        body = self.request.body
        await self.audit(body["action"], body.get("id"), body.get("changes"))
        return {}


class SpoilInput(ma.Schema):
    which = ma.fields.Integer(required=True)


class Spoil(Logic):
    resource, action = "Items", "spoil:post"
    input = SpoilInput

    async def execute(self):
        few = [{"said": "a\\0b"}, {"a\\0b": 1}, Decimal("1e200000")]
        await self.audit("NOTE", None, few[self.request.body["which"]])
        return {}


class AskInput(ma.Schema):
    filter = ma.fields.Raw(required=True)


class Ask(Logic):
    resource, action = "Items", "ask:post"
    input = AskInput

    async def execute(self):
        return {"found": await self.system["AuditLogs"].count(self.request.body["filter"])}
"""


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("written"), MANIFEST, {"logics/v1/items.py": LOGIC})


@pytest_asyncio.fixture(loop_scope="session")
async def quiet(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """An application that seals only when a test says so."""
    async with byodpp_bench.application(blueprint, audit_sealer=False) as tested:
        yield tested


async def written(tested: TestedApplication) -> None:
    client = tested.client(tenant="acme")
    lamp = {"name": "lamp", "price": 12.5, "pin": "1", "details": {"b": [1, "é"], "a": None}}
    created = await client.post(ITEMS, json=lamp)
    assert created.status_code == 201, created.text
    patched = await client.patch(f"{ITEMS}/{created.json()['data']['id']}", json={"pin": "2", "price": 13})
    assert patched.status_code == 200, patched.text
    assert (await client.post(ITEMS, json={"name": "desk"})).status_code == 201


async def changes(tested: TestedApplication, query: str = "") -> list[Any]:
    answer = await tested.client(tenant="acme").get(f"{TRAIL}?sort=id&{query}")
    assert answer.status_code == 200, answer.text
    return [one["changes"] for one in answer.json()["data"]]


async def executed(tested: TestedApplication, sql: str) -> None:
    connection = await asyncpg.connect(tested.settings.postgres_admin_uri)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def verdict(tested: TestedApplication) -> Verdict:
    table = tested.blueprint.tables[tested.blueprint.registry.get("AuditLogs")]
    key = SealKey.derived(application_secret(tested.settings))
    connection = await asyncpg.connect(tested.settings.postgres_system_uri)
    try:
        tenant = (await tested.tenant("acme")).id
        [found] = await verify(connection, table, [key], tenant_id=tenant)
    finally:
        await connection.close()
    return found


async def test_an_entry_says_what_was_and_is_with_all_digits_and_no_secret(quiet: TestedApplication) -> None:
    await written(quiet)
    first, second, third = await changes(quiet)
    assert list(first) == ["before", "after", "redacted"]
    assert first["before"] is None and first["redacted"] == ["pin"]
    assert (first["after"]["price"], first["after"]["details"]) == (12.5, {"b": [1, "é"], "a": None})
    assert "pin" not in first["after"] and "pin" not in second["after"]
    assert second["redacted"] == ["pin"]
    assert (second["before"]["price"], second["after"]["price"]) == (12.5, 13)
    assert list(third) == ["before", "after"]


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ({"changes.after.name": "lamp"}, 2),
        ({"changes.after.price": {"gte": 13}}, 1),
        ({"changes.before": {"isNull": True}}, 4),
        ({"changes.before.name": "lamp"}, 1),
        ({"changes.redacted": {"has": "pin"}}, 2),
        ({"changes": {"has": "redacted"}}, 2),
        ({"changes": {"isNull": False}}, 5),
        ({"changes.after.name": {"in": ["desk", "chair"]}}, 3),
        ({"changes.after.name": {"like": "%m%"}}, 2),
        ({"changes.after": {"eq": {"name": "desk"}}}, 2),
    ],
)
async def test_a_class_finds_entries_by_what_they_say(
    quiet: TestedApplication, filter: dict[str, Any], found: int
) -> None:
    await written(quiet)
    for _ in range(2):
        body = {"action": "NOTE", "changes": {"after": {"name": "desk"}}}
        assert (await quiet.client(tenant="acme").post(f"{ITEMS}/note", json=body)).status_code == 200
    answer = await quiet.client(tenant="acme").post(f"{ITEMS}/ask", json={"filter": filter})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"] == {"found": found}


async def test_a_trail_becomes_text_without_a_break_in_its_chain(quiet: TestedApplication) -> None:
    """As a revision does it, beside a program that writes before and after it."""
    client = quiet.client(tenant="acme")
    await executed(quiet, "alter table audit_logs alter column changes type jsonb using changes::jsonb")
    await written(quiet)
    for said in ("a word", 5, [1, {"b": 1, "a": 2}], None):
        note = await client.post(f"{ITEMS}/note", json={"action": "NOTE", "id": "1", "changes": said})
        assert note.status_code == 200, note.text
    before = await changes(quiet)
    assert await quiet.connected.sealer.seal() == 7
    await executed(quiet, 'ALTER TABLE "audit_logs" ALTER COLUMN "changes" TYPE json USING "changes"::json')
    assert await changes(quiet) == before
    found = await verdict(quiet)
    assert (found.entries, found.intact) == (7, True)
    await written(quiet)
    assert await quiet.connected.sealer.seal() == 3
    found = await verdict(quiet)
    assert (found.entries, found.intact) == (10, True)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"action": "A" * 129}, "action of an audit entry has 129 characters; 128 is the most"),
        ({"action": "NOTE", "id": "9" * 256}, "resourceId of an audit entry has 256 characters; 255"),
    ],
)
async def test_an_entry_of_a_class_is_bounded_and_what_is_too_long_is_told_in_the_log(
    quiet: TestedApplication, caplog: pytest.LogCaptureFixture, body: dict[str, str], told: str
) -> None:
    answer = await quiet.client(tenant="acme").post(f"{ITEMS}/note", json=body)
    assert answer.status_code == 500
    assert told in caplog.text
    assert await changes(quiet) == []


@pytest.mark.parametrize(("which", "code"), [(0, "format"), (1, "format"), (2, "out_of_range")])
async def test_a_class_cannot_say_what_keeps_its_tenant_from_asking_for_entries(
    quiet: TestedApplication, which: int, code: str
) -> None:
    client = quiet.client(tenant="acme")
    answer = await client.post(f"{ITEMS}/spoil", json={"which": which})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["details"][0]["code"] == code
    asked = await client.post(f"{ITEMS}/ask", json={"filter": {"changes.said": "a"}})
    assert asked.json()["data"] == {"found": 0}
    assert await changes(quiet) == []
