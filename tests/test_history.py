"""Former versions of rows: each is kept with its change, and read under today's rules."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from byodpp.database import SessionContext
from byodpp.exceptions import ApiError
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

PAPERS = "/api/v1/papers"
DRAWERS = "/api/v1/drawers"

FULL: dict[str, Any] = {
    "title": "a",
    "weight": 0.1,
    "meta": {"a": [1, 2.50, None, "\u00e9"]},
    "tags": ["x", "y"],
    "made": "2024-02-29T12:00:00.123456+02:00",
    "day": "2024-02-29",
    "hour": "23:59:59.5",
    "code": "6f2d3c1e-0000-4000-8000-000000000001",
    "big": "9223372036854775807",
    "done": True,
    "pin": "open-sesame",
    "secret": "s",
}


AS_JSON = {"Content-Type": "application/json"}


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def details(response: Any) -> dict[str, str]:
    return {one["field"]: one["code"] for one in response.json()["error"]["details"]}


async def a_paper(client: Any, **values: Any) -> str:
    made = await client.post(PAPERS, json={"title": "a", **values})
    assert made.status_code == 201, made.text
    return f"{PAPERS}/{made.json()['data']['id']}"


async def kept(store: TestedApplication) -> int:
    async with store.connected.database.system() as transaction:
        found: int = await transaction.fetchval("select count(*) from byodpp.history")
    return found


async def test_every_change_of_a_row_is_kept_and_listed_newest_first(store: TestedApplication) -> None:
    client = store.client()
    created = await client.post(
        PAPERS, content=b'{"amount": 12.500, ' + json.dumps(FULL).encode()[1:], headers=AS_JSON
    )
    assert created.status_code == 201, created.text
    url = f"{PAPERS}/{created.json()['data']['id']}"
    patched = await client.patch(url, json={"title": "b", "tags": {"$append": ["z"]}})
    put = await client.put(url, json={"title": "c"})
    assert (await client.delete(url)).status_code == 204
    response = await client.get(f"{url}/history")
    assert response.status_code == 200, response.text
    body = response.json()
    versions = body["data"]
    assert [(one["number"], one["operation"]) for one in versions] == [
        (4, "delete"), (3, "update"), (2, "patch"), (1, "create"),
    ]  # fmt: skip
    assert body["count"] == 4
    for version, answer in zip(versions[::-1], (created, patched, put, put), strict=True):
        assert version["row"] == answer.json()["data"]
        assert (
            version["requestId"]
            if version["operation"] == "delete"
            else (version["requestId"] == answer.headers["x-request-id"])
        )
        assert version["actorId"] == versions[0]["actorId"] is not None
        assert version["at"].endswith("Z")
    # The digits are those that were stored.
    assert '"amount":12.500' in response.text
    page = (await client.get(f"{url}/history?limit=2&page=2")).json()
    assert [one["number"] for one in page["data"]] == [2, 1]
    assert page["pagination"] == {"page": 2, "limit": 2, "total": 4, "totalPages": 2}
    async with store.connected.database.system() as transaction:
        texts = await transaction.fetch("select row::text from byodpp.history")
    assert not any("open-sesame" in row["row"] for row in texts)  # what no answer shows is not kept


async def test_a_row_is_read_as_it_was_at_a_moment(store: TestedApplication) -> None:
    client = store.client()
    before = now()
    url = await a_paper(client, **{**FULL, "amount": 1.25})
    first, at_first = await client.get(url), now()
    await client.patch(url, json={"title": "b"})
    at_second = now()
    await client.delete(url)
    after = now()
    then = await client.get(url, params={"asOf": at_first})
    assert then.status_code == 200, then.text
    assert then.json()["data"] == first.json()["data"]
    assert then.headers["etag"] == '"1"'
    shown = await client.get(url, params={"asOf": at_second, "fields": "id,title,version"})
    assert shown.json()["data"] == {"id": first.json()["data"]["id"], "title": "b", "version": 2}
    for moment in (before, after, "1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z"):
        assert (await client.get(url, params={"asOf": moment})).status_code == 404
    assert (await client.get(url)).status_code == 404


async def test_a_row_as_of_its_own_timestamps_is_the_row_that_bears_them(store: TestedApplication) -> None:
    client = store.client()
    url = await a_paper(client, **FULL)
    first = (await client.get(url)).json()["data"]
    await client.patch(url, json={"title": "b"})
    second = (await client.get(url)).json()["data"]
    await client.patch(url, json={"title": "c"})
    assert first["createdAt"] == first["updatedAt"] < second["updatedAt"]
    for row, moment in ((first, "createdAt"), (second, "updatedAt")):
        then = await client.get(url, params={"asOf": row[moment]})
        assert (then.status_code, then.json().get("data")) == (200, row), then.text
    versions = (await client.get(f"{url}/history")).json()["data"]
    assert all(one["at"] == one["row"]["updatedAt"] for one in versions), versions


async def test_a_row_as_of_its_deletion_is_gone(store: TestedApplication) -> None:
    ada = store.client(user="ada")
    made = (await ada.post(DRAWERS, json={"name": "a"})).json()["data"]
    url = f"{DRAWERS}/{made['id']}"
    assert (await ada.delete(url)).status_code == 204
    async with store.connected.database.system() as transaction:
        at, deleted = await transaction.fetchval(
            "select array[h.at, d.deleted_at] from byodpp.history h, drawers d"
            " where h.operation = 'delete' and d.id = $1 and h.resource_id = d.id::text",
            made["id"],
        )
    assert made["createdAt"] < at.isoformat() and at <= deleted
    assert (await ada.get(url, params={"asOf": made["createdAt"]})).status_code == 200
    assert (await ada.get(url, params={"asOf": deleted.isoformat()})).status_code == 404


async def test_a_list_is_read_as_it_was_with_filter_order_count_pages_and_groups(
    store: TestedApplication,
) -> None:
    client = store.client()
    urls = [await a_paper(client, title=f"t{n}", level=n) for n in range(6)]
    then = now()
    await client.delete(urls[0])
    await client.patch(urls[1], json={"title": "new", "level": 50})
    await a_paper(client, title="late", level=3)
    asked = {"asOf": then, "filter[level][lte]": "4", "sort": "-level", "limit": "2"}
    first = (await client.get(PAPERS, params=asked)).json()
    assert [row["title"] for row in first["data"]] == ["t4", "t3"]
    assert first["count"] == 5
    second = (await client.get(PAPERS, params={**asked, "cursor": first["pagination"]["next"]})).json()
    assert [row["title"] for row in second["data"]] == ["t2", "t1"]
    other = {**asked, "asOf": now(), "cursor": first["pagination"]["next"]}
    assert (await client.get(PAPERS, params=other)).status_code == 400  # a cursor is for one moment
    body = {"asOf": then, "aggregate": ["count", "max:level"]}
    sums = await client.post(f"{PAPERS}/query", json=body)
    assert sums.json()["data"][0]["count"] == 6, sums.text
    today = (await client.get(f"{PAPERS}?sort=title")).json()["data"]
    assert [row["title"] for row in today] == ["late", "new", "t2", "t3", "t4", "t5"]


async def test_todays_rules_hold_for_yesterdays_rows(store: TestedApplication) -> None:
    admin, editor, viewer = store.client(), store.client(role="Editor"), store.client(role="Viewer")
    url = await a_paper(admin, secret="s", level=1)
    open_then = now()
    await admin.patch(url, json={"level": 9})
    hidden_then = now()
    versions = (await editor.get(f"{url}/history")).json()
    assert [(one["number"], set(one["row"])) for one in versions["data"]] == [
        (1, {"id", "title", "amount", "level"})
    ]
    assert versions["count"] == 1
    assert (await editor.get(url, params={"asOf": open_then})).json()["data"]["level"] == 1
    assert (await editor.get(url, params={"asOf": hidden_then})).status_code == 404
    assert (await editor.get(PAPERS, params={"asOf": hidden_then})).json()["data"] == []
    guess = await editor.get(PAPERS, params={"asOf": open_then, "filter[secret]": "s"})
    assert (guess.status_code, details(guess)) == (400, {"filter[secret]": "unknown_field"})
    hidden = await a_paper(admin, title="b", level=7)
    assert (await editor.get(f"{hidden}/history")).status_code == 404
    for address in (f"{url}/history", f"{url}?asOf={open_then}"):
        assert (await viewer.get(address)).status_code == 403
        assert (await store.client(role=None).get(address)).status_code == 401
        assert (await store.client(tenant="beta").get(address)).status_code == 404


async def test_rows_of_a_user_and_softly_deleted_ones_have_a_history_too(store: TestedApplication) -> None:
    ada, bob = store.client(user="ada"), store.client(user="bob")
    made = await ada.post(DRAWERS, json={"name": "a"})
    url = f"{DRAWERS}/{made.json()['data']['id']}"
    then = now()
    assert (await ada.delete(url)).status_code == 204
    gone = now()
    assert (await ada.post(f"{url}/restore")).status_code == 200
    versions = (await ada.get(f"{url}/history")).json()["data"]
    assert [one["operation"] for one in versions] == ["restore", "delete", "create"]
    assert (await ada.get(url, params={"asOf": then})).json()["data"]["name"] == "a"
    assert (await ada.get(url, params={"asOf": gone})).status_code == 404
    assert (await ada.get(DRAWERS, params={"asOf": gone})).json()["data"] == []
    assert (await ada.get(url, params={"asOf": now()})).status_code == 200
    assert (await bob.get(f"{url}/history")).status_code == 404
    assert (await bob.get(url, params={"asOf": then})).status_code == 404


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/1?asOf=yesterday", {"asOf": "format"}),
        ("/1?asOf=2024-01-01", {"asOf": "format"}),
        ("/1?asOf=2024-01-01T00:00:00", {"asOf": "format"}),
        ("/1?asOf=", {"asOf": "format"}),
        ("?asOf[x]=2024-01-01T00:00:00Z", {"asOf[x]": "format"}),
        ("?asOf=2024-01-01T00:00:00Z&asOf=2024-01-01T00:00:00Z", {"asOf": "repeated"}),
        ("?asOf=2024-01-01T00:00:00Z&include=parent", {"include": "conflict"}),
        ("/1?asOf=2024-01-01T00:00:00Z&include=parent", {"include": "conflict"}),
        ("?asof=2024-01-01T00:00:00Z", {"asof": "unknown_parameter"}),
        ("/1/history?fields=id", {"fields": "unknown_parameter"}),
        ("/1/history?x=1", {"x": "unknown_parameter"}),
        ("/1/history?limit=0", {"limit": "out_of_range"}),
        ("/1/history?limit=x", {"limit": "type"}),
    ],
)
async def test_questions_about_the_past_are_strict(
    shared: TestedApplication, address: str, expected: dict[str, str]
) -> None:
    client = shared.client()
    response = await client.get(PAPERS + address)
    assert response.status_code == 400, response.text
    assert set(details(response)) == set(expected)
    words = await client.get("/api/v1/words?asOf=2024-01-01T00:00:00Z")
    assert (words.status_code, details(words)) == (400, {"asOf": "unknown_parameter"})
    for none in ("/999999/history", "/x/history", "/999999?asOf=2999-01-01T00:00:00Z"):
        assert (await client.get(PAPERS + none)).status_code == 404
    assert (await client.get("/api/v1/words/1/history")).status_code == 404


async def test_what_is_refused_or_only_tried_leaves_no_version(store: TestedApplication) -> None:
    client = store.client()
    url = await a_paper(client)
    await a_paper(client, title="b")
    before = await kept(store)
    assert (await client.patch(url, json={"title": "b"})).status_code == 409
    assert (await client.patch(url, json={"title": "c"}, headers={"If-Match": '"9"'})).status_code == 412
    tried = await client.patch(url, json={"title": "c"}, headers={"Prefer": "tx=rollback"})
    assert tried.status_code == 200
    many = [{"title": "d"}, {"title": "b"}]
    assert (await client.post(f"{PAPERS}/batch", json=many)).status_code == 409
    assert await kept(store) == before


async def test_batches_and_concurrent_changes_are_kept_one_by_one_in_order(store: TestedApplication) -> None:
    client = store.client()
    made = await client.post(f"{PAPERS}/batch", json=[{"title": f"t{n}", "level": 0} for n in range(5)])
    keys = [row["id"] for row in made.json()["data"]]
    assert await kept(store) == 5
    url = f"{PAPERS}/{keys[0]}"
    changes = (client.patch(url, json={"level": {"$increment": 1}}) for _ in range(12))
    assert {one.status_code for one in await asyncio.gather(*changes)} == {200}
    versions = (await client.get(f"{url}/history?limit=100")).json()["data"]
    assert [one["row"]["version"] for one in versions] == list(range(13, 0, -1))
    assert [one["row"]["level"] for one in versions] == list(range(12, -1, -1))
    assert len({one["at"] for one in versions}) == 13


async def test_the_application_can_add_to_the_history_but_not_change_it(store: TestedApplication) -> None:
    client = store.client()
    await a_paper(client)
    tenant = await store.tenant("acme")
    for statement in ("update byodpp.history set row = '{}'", "delete from byodpp.history"):
        with pytest.raises(ApiError):
            async with store.connected.database.transaction(
                SessionContext(tenant_id=tenant.id)
            ) as transaction:
                await transaction.execute(statement)
    beta = await store.tenant("beta")
    async with store.connected.database.transaction(SessionContext(tenant_id=beta.id)) as transaction:
        assert await transaction.fetchval("select count(*) from byodpp.history") == 0


async def test_the_past_of_rows_is_told_to_their_own_tenant_alone(
    byodpp_bench: Bench, tmp_path: Path
) -> None:
    laws = {"fields": {"name": {"type": "string", "required": True}}, "history": True}
    shared = {**laws, "name": "Laws", "scope": "shared", "access": {"read": ["*"], "write": ["Admin"]}}
    public = {**laws, "name": "News", "access": {"read": ["public"], "write": ["Admin"]}}
    blueprint = build(tmp_path, {"resources": [shared, public]})
    async with byodpp_bench.application(blueprint) as tested:
        acme, visitor = tested.client(), tested.client(role=None)
        platform = tested.client(tenant="platform")
        for owner, reader, url in ((platform, acme, "/api/v1/laws"), (acme, visitor, "/api/v1/news")):
            assert (await owner.post(url, json={"name": "a"})).status_code == 201
            for client, found in ((owner, 1), (reader, 0)):
                assert (await client.get(f"{url}/1")).status_code == 200
                assert (await client.get(f"{url}/1/history")).status_code == (200 if found else 404)
                assert (await client.get(url, params={"asOf": now()})).json()["count"] == found
