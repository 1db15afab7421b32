"""What goes with a deleted row, or loses its reference to it, goes like any other row that is followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.exceptions import ManifestError
from byodpp.testing import Bench, TestedApplication
from tests.patience import blocked
from tests.worlds import build

NAME = {"type": "string", "minLength": 1, "maxLength": 100, "required": True, "index": True}
ALL = {"read": ["Admin", "Editor"], "write": ["Admin", "Editor"]}


def belonging(resource: str, *, on_delete: str = "cascade", **more: Any) -> dict[str, Any]:
    return {"references": resource, "required": on_delete != "setNull", "onDelete": on_delete, **more}


_WITH_CHAPTERS = {"chapters": {"some": {"id": {"gt": 0}}}}
LIBRARY: dict[str, Any] = {
    "include": ["byodpp:access", "byodpp:audit"],
    "services": [
        {
            "name": "Library",
            "resources": [
                {
                    "name": "Books",
                    "audit": True,
                    "fields": {"name": NAME, "partOfId": belonging("Books", on_delete="setNull")},
                    "relations": {"chapters": {"resource": "Chapters", "foreignField": "bookId"}},
                    "access": {
                        "read": [*ALL["read"], {"roles": ["Keeper"], "filter": _WITH_CHAPTERS}],
                        "write": ALL["write"],
                        "delete": [
                            "Admin",
                            {"roles": ["Editor"], "filter": {"name": "mine"}},
                            {"roles": ["Keeper"], "filter": {"chapters": {"some": {"name": "loose"}}}},
                        ],
                    },
                },
                {
                    "name": "Chapters",
                    "audit": True,
                    "events": True,
                    "history": True,
                    "fields": {"name": NAME, "bookId": belonging("Books")},
                    "relations": {"pages": {"resource": "Pages", "foreignField": "chapterId"}},
                    "access": {
                        "read": ["Admin", {"roles": ["Editor"], "filter": {"name": {"ne": "hidden"}}}],
                        "write": ["Admin"],
                    },
                },
                {
                    "name": "Pages",
                    "fields": {"name": NAME, "chapterId": belonging("Chapters")},
                    "access": ALL,
                },
                {
                    "name": "Remarks",
                    "audit": True,
                    "fields": {"name": NAME, "pageId": belonging("Pages")},
                    "access": ALL,
                },
                {
                    "name": "Loans",
                    "versioned": True,
                    "audit": True,
                    "fields": {
                        "name": NAME,
                        "bookId": belonging("Books", on_delete="setNull", readOnly=False),
                    },
                    "access": ALL,
                },
                {
                    "name": "Covers",
                    "fields": {"name": NAME, "bookId": belonging("Books")},
                    "access": {"read": ["Admin"], "write": ["Admin"]},
                },
                {
                    "name": "Seals",
                    "fields": {"name": NAME, "coverId": {"references": "Covers"}},
                    "access": ALL,
                },
                {
                    "name": "Folders",
                    "audit": True,
                    "fields": {"name": NAME, "parentId": {"references": "Folders", "onDelete": "cascade"}},
                    "access": ALL,
                },
            ],
        }
    ],
}

DELETING = """
from byodpp.exceptions import Conflict
from byodpp.logics import Logic


class CoversDelete(Logic):
    resource, operation = "Covers", "delete"

    async def execute(self):
        cover = await self.system["Covers"].read(self.request.params["id"])
        if cover["name"] == "glued":
            raise Conflict("This cover is glued on")
        self.emit("cover.removed", {"name": cover["name"]}, resource_id=cover["id"])
        if cover["name"] != "sticky":
            return await self.default()
"""


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("library"), LIBRARY, {"logics/v1/covers/delete.py": DELETING})


@pytest_asyncio.fixture(loop_scope="session")
async def library(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


async def make(client: Any, resource: str, **values: Any) -> int:
    made = await client.post(f"/api/v1/{resource}", json={"name": "x", **values})
    assert made.status_code == 201, made.text
    found: int = made.json()["data"]["id"]
    return found


async def audited(library: TestedApplication) -> list[tuple[str, str, str]]:
    """What was done; what was refused is written beside the answers, sooner or later."""
    async with library.connected.database.system() as transaction:
        rows = await transaction.fetch(
            "select action, resource_type, resource_id from audit_logs"
            " where action <> 'CREATE' and result = 'success' order by id"
        )
    return [tuple(row) for row in rows]


async def counted(library: TestedApplication, *tables: str) -> list[int]:
    async with library.connected.database.system() as transaction:
        return [await transaction.fetchval(f"select count(*) from {table}") for table in tables]


async def test_each_row_that_goes_is_audited_told_and_kept_in_its_history(library: TestedApplication) -> None:
    client = library.client()
    book, other = await make(client, "books"), await make(client, "books")
    chapters = [await make(client, "chapters", bookId=book) for _ in range(2)]
    kept = await make(client, "chapters", bookId=other)
    page = await make(client, "pages", chapterId=chapters[1])
    remark = await make(client, "remarks", pageId=page)  # behind pages, which nobody follows
    loan = await make(client, "loans", bookId=book)
    assert (await client.delete(f"/api/v1/books/{book}")).status_code == 204
    assert await audited(library) == [
        ("PATCH", "Loans", str(loan)),
        ("DELETE", "Chapters", str(chapters[0])),
        ("DELETE", "Remarks", str(remark)),
        ("DELETE", "Chapters", str(chapters[1])),
        ("DELETE", "Books", str(book)),
    ]
    deleted = [one.resource_id for one in await library.events() if one.name == "chapters.deleted"]
    assert deleted == [str(one) for one in chapters]
    async with library.connected.database.system() as transaction:
        told = await transaction.fetch(
            "select resource_id from byodpp.history where operation = 'delete' order by id"
        )
    assert [row["resource_id"] for row in told] == [str(one) for one in chapters]
    emptied = (await client.get(f"/api/v1/loans/{loan}")).json()["data"]
    assert (emptied["bookId"], emptied["version"]) == (None, 2)
    assert await counted(library, "chapters", "pages", "remarks") == [1, 0, 0]
    assert (await client.get(f"/api/v1/chapters/{kept}")).status_code == 200


async def test_who_may_delete_a_row_may_delete_what_goes_with_it_and_nobody_else(
    library: TestedApplication,
) -> None:
    admin, editor = library.client(), library.client(role="Editor")
    mine, theirs = await make(admin, "books", name="mine"), await make(admin, "books", name="theirs")
    for book in (mine, theirs):
        await make(admin, "chapters", bookId=book, name="hidden")
        await make(admin, "covers", bookId=book)
    refused = await editor.delete(f"/api/v1/books/{theirs}")
    assert refused.status_code == 403, refused.text
    assert (await library.client(tenant="beta").delete(f"/api/v1/books/{mine}")).status_code == 404
    assert await audited(library) == [] and await counted(library, "covers") == [2]
    assert (await editor.delete(f"/api/v1/books/{mine}")).status_code == 204
    assert await counted(library, "books", "chapters", "covers") == [1, 1, 1]


async def test_a_rule_about_rows_that_go_too_is_asked_while_they_are_there(
    library: TestedApplication,
) -> None:
    admin, keeper = library.client(), library.client(role="Keeper")
    loose, bound, empty = [await make(admin, "books") for _ in range(3)]
    for book, name in ((loose, "loose"), (bound, "bound")):
        await make(admin, "chapters", bookId=book, name=name)
    told = [(await keeper.delete(f"/api/v1/books/{book}")).status_code for book in (loose, bound, empty)]
    assert told == [204, 403, 404]
    assert await counted(library, "books", "chapters") == [2, 1]


async def test_the_class_of_what_goes_has_its_say(library: TestedApplication) -> None:
    client = library.client()
    book, glued, sticky = [await make(client, "books", name=name) for name in ("a", "b", "c")]
    await make(client, "covers", bookId=book, name="front")
    await make(client, "chapters", bookId=glued)
    await make(client, "covers", bookId=glued, name="glued")
    await make(client, "covers", bookId=sticky, name="sticky")
    assert (await client.delete(f"/api/v1/books/{book}")).status_code == 204
    assert [one.data for one in await library.events() if one.name == "cover.removed"] == [{"name": "front"}]
    refused = await client.delete(f"/api/v1/books/{glued}")
    assert (refused.status_code, refused.json()["error"]["message"]) == (409, "This cover is glued on")
    stays = await client.delete(f"/api/v1/books/{sticky}")
    assert stays.status_code == 409 and "has not been deleted" in stays.json()["error"]["message"]
    assert await counted(library, "books", "covers", "chapters") == [2, 2, 1]
    assert [one[1] for one in await audited(library)] == ["Books"]


async def test_what_something_else_refers_to_keeps_everything(library: TestedApplication) -> None:
    client = library.client()
    book = await make(client, "books")
    await make(client, "chapters", bookId=book)
    cover = await make(client, "covers", bookId=book)
    await make(client, "seals", coverId=cover)
    refused = await client.delete(f"/api/v1/books/{book}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "referenced_conflict")
    assert f"Covers {cover} would go with it, and cannot" in refused.json()["error"]["message"]
    one_by_one = {"operation": "delete", "items": [book, await make(client, "books")], "atomic": False}
    done = (await client.post("/api/v1/books/batch", json=one_by_one)).json()["data"]
    assert [one["success"] for one in done] == [False, True]
    assert await counted(library, "books", "chapters", "covers") == [1, 1, 1]
    assert [one.name for one in await library.events()].count("chapters.deleted") == 0


async def test_rows_of_one_table_go_by_levels_and_not_in_circles(library: TestedApplication) -> None:
    client = library.client()
    root = await make(client, "folders")
    level = [root]
    for _ in range(3):
        level = [await make(client, "folders", parentId=one) for one in level for _ in range(2)]
    itself = await make(client, "folders")
    assert (await client.patch(f"/api/v1/folders/{itself}", json={"parentId": itself})).status_code == 200
    assert (await client.delete(f"/api/v1/folders/{itself}")).status_code == 204
    assert (await client.delete(f"/api/v1/folders/{root}")).status_code == 204
    assert await counted(library, "folders") == [0]
    assert len([one for one in await audited(library) if one[0] == "DELETE"]) == 16
    one = await make(client, "folders")
    two = await make(client, "folders", parentId=one)
    await client.patch(f"/api/v1/folders/{one}", json={"parentId": two})
    circle = await client.delete(f"/api/v1/folders/{one}")
    assert circle.status_code == 409 and "in a circle" in circle.json()["error"]["message"]
    deep = await make(client, "folders")
    last = deep
    for _ in range(20):
        last = await make(client, "folders", parentId=last)
    too_deep = await client.delete(f"/api/v1/folders/{deep}")
    assert too_deep.status_code == 409 and "levels" in too_deep.json()["error"]["message"]


async def test_more_rows_than_are_looked_for_at_once_go_too(library: TestedApplication) -> None:
    client = library.client()
    book = await make(client, "books")
    items = [{"name": f"c{n}", "bookId": book} for n in range(1_000)]
    assert (await client.post("/api/v1/chapters/batch", json=items)).status_code == 201
    assert (await client.delete(f"/api/v1/books/{book}")).status_code == 204
    assert len(await audited(library)) == 1_001


async def test_a_row_that_comes_while_its_parent_goes_is_refused_or_audited(
    library: TestedApplication,
) -> None:
    client = library.client()
    for _ in range(5):
        book = await make(client, "books")
        made, deleted, *more = await asyncio.gather(
            client.post("/api/v1/chapters", json={"name": "late", "bookId": book}),
            client.delete(f"/api/v1/books/{book}"),
            *(client.post("/api/v1/chapters", json={"name": "late", "bookId": book}) for _ in range(6)),
        )
        assert deleted.status_code == 204
        ids = [one.json()["data"]["id"] for one in (made, *more) if one.status_code == 201]
        assert {one.status_code for one in (made, *more)} <= {201, 422}
        gone = {id for action, name, id in await audited(library) if (action, name) == ("DELETE", "Chapters")}
        assert {str(id) for id in ids} <= gone
    assert await counted(library, "chapters") == [0]


SHARED_LISTS: dict[str, Any] = {
    "include": ["byodpp:access", "byodpp:audit"],
    "resources": [
        {"name": "Lists", "scope": "library", "fields": {"name": NAME}, "access": ALL},
        {
            "name": "Entries",
            "audit": True,
            "fields": {"name": NAME, "listId": belonging("Lists")},
            "access": ALL,
        },
        {
            "name": "Marks",
            "scope": "user",
            "audit": True,
            "fields": {"name": NAME, "entryId": belonging("Entries")},
            "access": ALL,
        },
    ],
}


async def test_a_row_that_leaves_while_its_parent_goes_stays_where_it_went(
    library: TestedApplication,
) -> None:
    client = library.client()
    book, other = await make(client, "books", name="b"), await make(client, "books", name="o")
    moved, gone = [await make(client, "chapters", name=name, bookId=book) for name in ("m", "g")]
    loan = await make(client, "loans", name="l", bookId=book)
    async with library.connected.database.system() as transaction:
        await transaction.execute("update loans set book_id = $1 where id = $2", other, loan)
        await transaction.execute("update chapters set book_id = $1 where id = $2", other, moved)
        await transaction.execute("delete from chapters where id = $1", gone)
        deleting = asyncio.create_task(client.delete(f"/api/v1/books/{book}"))
        await blocked(transaction)
    async with asyncio.timeout(60):
        deleted = await deleting
    assert deleted.status_code == 204, deleted.text
    for where in (f"chapters/{moved}", f"loans/{loan}"):
        left = await client.get(f"/api/v1/{where}")
        assert (left.status_code, left.json()["data"]["bookId"]) == (200, other), where


async def test_rows_that_the_service_cannot_see_are_not_deleted_behind_its_back(
    byodpp_bench: Bench, tmp_path: Path
) -> None:
    blueprint = build(tmp_path, SHARED_LISTS)
    async with byodpp_bench.application(blueprint) as lists:
        platform, acme = lists.client(tenant="platform"), lists.client(user="ada")
        common, own = await make(platform, "lists"), await make(acme, "lists")
        await make(acme, "entries", listId=common)
        entry = await make(acme, "entries", listId=own)
        refused = await platform.delete(f"/api/v1/lists/{common}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "referenced_conflict")
        mark = await make(lists.client(user="bob"), "marks", entryId=entry)
        refused = await acme.delete(f"/api/v1/lists/{own}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "referenced_conflict")
        assert (await lists.client(user="bob").delete(f"/api/v1/marks/{mark}")).status_code == 204
        assert (await acme.delete(f"/api/v1/lists/{own}")).status_code == 204
        assert [one for one in await audited(lists) if one[0] == "DELETE"] == [
            ("DELETE", "Marks", str(mark)),
            ("DELETE", "Entries", str(entry)),
        ]
        assert await counted(lists, "entries") == [1]


def test_a_class_that_could_not_be_asked_stops_the_start(tmp_path: Path) -> None:
    entries = {"name": "Covers", "fields": {"listId": {**belonging("Lists"), "required": True}}}
    manifest = {"resources": [{"name": "Lists", "scope": "shared", "fields": {"name": NAME}}, entries]}
    with pytest.raises(ManifestError) as caught:
        build(tmp_path, manifest, {"logics/v1/covers/delete.py": DELETING})
    [problem] = caught.value.problems
    assert problem.path.endswith("fields.listId") and "class" in problem.reason
