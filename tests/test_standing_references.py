"""A reference that a row holds already may stay, whatever has become of its target since."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

FOLDERS, NOTES, BLIND = "/api/v1/folders", "/api/v1/notes", "/api/v1/blind-notes"
_NAME: Final = {"type": "string", "required": True, "unique": True}
_FOLDER: Final = {"references": "Folders", "as": "folder", "onDelete": "setNull"}
_WORLD: Final[dict[str, Any]] = {
    "services": [
        {
            "name": "Office",
            "resources": [
                {
                    "name": "Folders",
                    "softDelete": True,
                    "fields": {"name": _NAME, "hidden": {"type": "boolean", "default": False}},
                    "access": {
                        "read": ["Admin", {"roles": ["Editor"], "filter": {"hidden": False}}],
                        "write": ["Admin"],
                    },
                },
                {
                    "name": "Notes",
                    "fields": {"name": _NAME, "folderId": _FOLDER, "text": {"type": "string"}},
                    "access": {"read": ["Admin", "Editor"], "write": ["Admin", "Editor"]},
                },
                {
                    "name": "BlindNotes",
                    "fields": {"name": _NAME, "folderId": _FOLDER, "text": {"type": "string"}},
                    "access": {
                        "read": ["Admin", {"roles": ["Editor"], "fields": ["name", "text"]}],
                        "write": ["Admin", "Editor"],
                    },
                },
            ],
        }
    ]
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("office"), _WORLD)


@pytest_asyncio.fixture(loop_scope="session")
async def office(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


async def made(client: Any, url: str, **values: Any) -> int:
    response = await client.post(url, json=values)
    assert response.status_code == 201, response.text
    key: int = response.json()["data"]["id"]
    return key


def told(response: Any) -> tuple[int, list[tuple[str, str]]]:
    details = response.json().get("error", {}).get("details", [])
    return response.status_code, [(one["field"], one["code"]) for one in details]


@pytest.mark.parametrize("gone", ["deleted softly", "hidden"])
async def test_what_get_gave_is_put_back_though_its_target_is_gone(
    office: TestedApplication, gone: str
) -> None:
    admin, editor = office.client(), office.client(role="Editor")
    folder = await made(admin, FOLDERS, name="f", hidden=gone == "hidden")
    other = await made(admin, FOLDERS, name="g", hidden=gone == "hidden")
    note = await made(admin, NOTES, name="n", folderId=folder)
    if gone != "hidden":
        for key in (folder, other):
            assert (await admin.delete(f"{FOLDERS}/{key}")).status_code == 204
    url = f"{NOTES}/{note}"
    row = (await editor.get(url)).json()["data"]
    assert row["folderId"] == folder
    item = {"id": note, "name": "n", "folderId": folder}
    upsert = {"operation": "upsert", "on": ["name"], "items": [{**item, "id": None, "text": "upserted"}]}
    several = {"operation": "upsert", "on": ["name"], "items": [*upsert["items"], {"name": "new"}]}
    answers = [
        await editor.put(url, json=row),
        await editor.put(url, json={"name": "n", "folderId": folder, "text": "put"}),
        await editor.patch(url, json={"folderId": folder, "text": "patched"}),
        await editor.post(f"{NOTES}/batch", json={"operation": "update", "items": [item | {"text": "b"}]}),
        await editor.post(f"{NOTES}/batch", json=upsert),
        await editor.post(f"{NOTES}/batch", json=several),
        await editor.post(
            f"{NOTES}/import?operation=upsert",
            content=f"name,folderId,text\nn,{folder},imported\n",
            headers={"Content-Type": "text/csv"},
        ),
    ]
    assert [told(one) for one in answers] == [(200, [])] * len(answers), [one.text for one in answers]
    row = {name: (await editor.get(url)).json()["data"][name] for name in ("name", "folderId", "text")}
    assert (row["folderId"], row["text"]) == (folder, "imported")
    for key in (other, 999_999):
        assert told(await editor.put(url, json=row | {"folderId": key})) == (422, [("folderId", "reference")])
        assert told(await editor.post(NOTES, json={"name": "x", "folderId": folder}))[0] == 422
    assert (await editor.put(url, json=row | {"folderId": None})).status_code == 200
    again = await editor.put(url, json=row)
    assert told(again) == (422, [("folderId", "reference")]), "it is not there any more"


async def test_a_reference_that_the_caller_does_not_see_cannot_be_guessed(office: TestedApplication) -> None:
    admin, editor = office.client(), office.client(role="Editor")
    folder = await made(admin, FOLDERS, name="f", hidden=True)
    note = await made(admin, BLIND, name="n", folderId=folder)
    for key in (folder, 999_999):
        for send in (editor.put, editor.patch):
            answer = await send(f"{BLIND}/{note}", json={"name": "n", "folderId": key})
            assert told(answer) == (422, [("folderId", "reference")]), key
    assert (await admin.get(f"{BLIND}/{note}")).json()["data"]["folderId"] == folder
