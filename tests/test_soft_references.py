"""A row that is deleted softly and one that is to refer to it, at the same moment: never both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.patience import blocked
from tests.worlds import build

FOLDERS, NOTES = "/api/v1/folders", "/api/v1/notes"
DRAWERS, CARDS = "/api/v1/drawers", "/api/v1/cards"
_OPEN: Final = {"read": ["Admin"], "write": ["Admin"]}
_WORLD: Final[dict[str, Any]] = {
    "resources": [
        {"name": "Folders", "softDelete": True, "fields": {"name": {"type": "string"}}, "access": _OPEN},
        {
            "name": "Notes",
            "fields": {"name": {"type": "string"}, "folderId": {"references": "Folders"}},
            "access": _OPEN,
        },
        {
            "name": "Drawers",
            "scope": "user",
            "softDelete": True,
            "fields": {"name": {"type": "string"}},
            "access": {"read": ["Admin", "Viewer"], "write": ["Admin"]},
        },
        {
            "name": "Cards",
            "scope": "user",
            "fields": {"name": {"type": "string"}, "drawerId": {"references": "Drawers"}},
            "access": {"read": ["Admin", "Viewer"], "write": ["Admin", "Viewer"]},
        },
    ]
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("office"), _WORLD)


@pytest_asyncio.fixture(loop_scope="session")
async def office(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


async def a_folder(client: Any) -> int:
    key: int = (await client.post(FOLDERS, json={"name": "f"})).json()["data"]["id"]
    return key


async def test_a_deletion_waits_for_who_is_about_to_refer_to_the_row(office: TestedApplication) -> None:
    client = office.client()
    folder, tenant = await a_folder(client), (await office.tenant("acme")).id
    async with office.connected.database.system() as transaction:
        await transaction.execute("insert into notes (tenant_id, folder_id) values ($1, $2)", tenant, folder)
        deleting = asyncio.create_task(client.delete(f"{FOLDERS}/{folder}"))
        await blocked(transaction)
    async with asyncio.timeout(60):
        refused = await deleting
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "referenced_conflict")
    assert (await client.get(f"{FOLDERS}/{folder}")).status_code == 200


@pytest.mark.parametrize("number", [1, 3])
async def test_who_refers_to_a_row_waits_for_its_deletion(office: TestedApplication, number: int) -> None:
    client = office.client()
    folder = await a_folder(client)
    async with office.connected.database.system() as transaction:
        await transaction.execute("select from folders where id = $1 for update", folder)
        await transaction.execute("update folders set deleted_at = now() where id = $1", folder)
        notes = [{"name": "n", "folderId": folder}] * number
        creating = asyncio.create_task(client.post(f"{NOTES}/batch", json=notes))
        await blocked(transaction)
    async with asyncio.timeout(60):
        refused = await creating
    assert refused.status_code == 422, refused.text
    assert [one["code"] for one in refused.json()["error"]["details"]] == ["reference"] * number
    assert (await client.get(NOTES)).json()["count"] == 0


async def test_an_import_waits_for_the_deletion_of_what_it_refers_to(office: TestedApplication) -> None:
    client = office.client()
    folder, other = await a_folder(client), await a_folder(client)
    async with office.connected.database.system() as transaction:
        await transaction.execute("select from folders where id = $1 for update", folder)
        await transaction.execute("update folders set deleted_at = now() where id = $1", folder)
        csv = f"name,folderId\nn,{folder}\nm,{other}\no,\n"
        sent = client.post(f"{NOTES}/import", content=csv, headers={"Content-Type": "text/csv"})
        importing = asyncio.create_task(sent)
        await blocked(transaction)
    async with asyncio.timeout(60):
        found = (await importing).json()["data"]
    assert (found["created"], found["rejected"]) == (2, 1)
    rows = (await client.get(f"{NOTES}?sort=id&fields=name,folderId")).json()["data"]
    assert rows == [{"name": "m", "folderId": other}, {"name": "o", "folderId": None}]


async def test_of_a_row_that_others_change_meanwhile_is_not_waited_for(office: TestedApplication) -> None:
    client = office.client()
    folder = await a_folder(client)
    async with office.connected.database.system() as transaction:
        await transaction.execute("update folders set name = 'g' where id = $1", folder)
        async with asyncio.timeout(60):
            made = await client.post(NOTES, json={"name": "n", "folderId": folder})
        assert made.status_code == 201, made.text


async def test_deletions_and_references_at_the_same_time_leave_none_that_leads_nowhere(
    office: TestedApplication,
) -> None:
    client = office.client()
    for _ in range(4):
        folder = await a_folder(client)
        async with asyncio.timeout(120):
            await asyncio.gather(
                *(client.post(NOTES, json={"name": "n", "folderId": folder}) for _ in range(3)),
                client.delete(f"{FOLDERS}/{folder}"),
                *(client.post(NOTES, json={"name": "n", "folderId": folder}) for _ in range(3)),
            )
    async with office.connected.database.system() as transaction:
        lost = (
            "select count(*) from notes n join folders f on f.id = n.folder_id where f.deleted_at is not null"
        )
        assert await transaction.fetchval(lost) == 0


@pytest.mark.parametrize("role", ["Admin", "Viewer"])  # the latter may only read his drawers
async def test_who_refers_to_a_row_of_his_own_waits_for_its_deletion(
    office: TestedApplication, role: str
) -> None:
    owner, client = office.client(user="bob"), office.client(role=role, user="bob")
    drawer, other = [(await owner.post(DRAWERS, json={"name": "d"})).json()["data"]["id"] for _ in range(2)]
    async with office.connected.database.system() as transaction:
        await transaction.execute("select from drawers where id = $1 for update", drawer)
        await transaction.execute("update drawers set deleted_at = now() where id = $1", drawer)
        creating = asyncio.create_task(client.post(CARDS, json={"name": "c", "drawerId": drawer}))
        await blocked(transaction)
    async with asyncio.timeout(60):
        refused = await creating
    assert refused.status_code == 422, refused.text
    assert [one["field"] for one in refused.json()["error"]["details"]] == ["drawerId"]
    made = await client.post(CARDS, json={"name": "c", "drawerId": other})
    assert made.status_code == 201, made.text
    stranger = office.client(role=role, user="carol")
    refused = await stranger.post(CARDS, json={"name": "c", "drawerId": other})
    assert refused.status_code == 422, refused.text


async def test_an_import_waits_for_the_deletion_of_what_is_its_callers_own(office: TestedApplication) -> None:
    owner, client = office.client(user="bob"), office.client(role="Viewer", user="bob")
    drawer, other = [(await owner.post(DRAWERS, json={"name": "d"})).json()["data"]["id"] for _ in range(2)]
    async with office.connected.database.system() as transaction:
        await transaction.execute("select from drawers where id = $1 for update", drawer)
        await transaction.execute("update drawers set deleted_at = now() where id = $1", drawer)
        csv = f"name,drawerId\nn,{drawer}\nm,{other}\n"
        sent = client.post(f"{CARDS}/import", content=csv, headers={"Content-Type": "text/csv"})
        importing = asyncio.create_task(sent)
        await blocked(transaction)
    async with asyncio.timeout(60):
        found = (await importing).json()["data"]
    assert (found["created"], found["rejected"]) == (1, 1)
