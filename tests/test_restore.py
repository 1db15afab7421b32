"""Rows that were deleted softly come back, where nothing stands in their way."""

from __future__ import annotations

import asyncio
from typing import Any

from byodpp.testing import TestedApplication

HINTS = "/api/v1/hints"
SETTINGS = "/api/v1/settings"


def code(response: Any) -> str:
    found: str = response.json()["error"]["code"]
    return found


async def deleted(client: Any, url: str, **values: Any) -> str:
    """Make a row, delete it, and return its address."""
    made = await client.post(url, json=values)
    assert made.status_code == 201, made.text
    address = f"{url}/{made.json()['data']['id']}"
    assert (
        await client.delete(address, headers={"If-Match": '"1"'} if url == HINTS else {})
    ).status_code == 204
    return address


async def test_a_deleted_row_comes_back_as_it_was(store: TestedApplication) -> None:
    client = store.client()
    url = await deleted(client, HINTS, text="a")
    assert (await client.get(url)).status_code == 404
    tried = await client.post(f"{url}/restore", headers={"Prefer": "tx=rollback"})
    assert tried.status_code == 200, tried.text
    assert (await client.get(url)).status_code == 404
    back = await client.post(f"{url}/restore", headers={"Idempotency-Key": "k"})
    assert back.status_code == 200, back.text
    row = back.json()["data"]
    assert (row["text"], row["version"]) == ("a", 3)
    assert back.headers["etag"] == '"3"'
    assert (await client.get(url)).json()["data"] == row
    again = await client.post(f"{url}/restore", headers={"Idempotency-Key": "k"})
    assert (again.content, again.headers["idempotency-replayed"]) == (back.content, "true")
    names = [event.name for event in await store.events()]
    assert names == ["hints.created", "hints.deleted", "hints.restored"]
    async with store.connected.database.system() as transaction:
        done = "select action from audit_logs where result = 'success' order by id"  # refusals come later
        rows = await transaction.fetch(done)
    assert [row["action"] for row in rows] == ["CREATE", "DELETE", "RESTORE"]


async def test_what_is_not_deleted_or_not_there_is_not_restored(store: TestedApplication) -> None:
    client = store.client()
    made = await client.post(HINTS, json={"text": "a"})
    living = await client.post(f"{HINTS}/{made.json()['data']['id']}/restore")
    assert (living.status_code, code(living)) == (409, "state_conflict")
    for key in (999999, "x"):
        assert (await client.post(f"{HINTS}/{key}/restore")).status_code == 404
    url = await deleted(client, HINTS, text="b")
    assert (await store.client(tenant="beta").post(f"{url}/restore")).status_code == 404
    assert (await client.post(f"{url}/restore", headers={"If-Match": '"1"'})).status_code == 412
    several = await client.post(f"{url}/restore", headers={"If-Match": '"1", "2"'})
    assert (several.status_code, code(several)) == (400, "invalid_header"), "a deleted row shows no version"
    assert (await client.post(f"{url}/restore?x=1")).status_code == 400
    assert (await client.get(f"{url}/restore")).status_code == 405
    assert (await client.post("/api/v1/words/1/restore")).status_code == 404


async def test_a_value_that_was_taken_meanwhile_is_a_conflict(store: TestedApplication) -> None:
    client = store.client()
    url = await deleted(client, SETTINGS, key="a")
    await client.post(SETTINGS, json={"key": "a"})
    refused = await client.post(f"{url}/restore")
    assert (refused.status_code, code(refused)) == (409, "unique_conflict")


async def test_a_row_does_not_come_back_to_a_row_that_is_gone(store: TestedApplication) -> None:
    client = store.client()
    setting = (await client.post(SETTINGS, json={"key": "a"})).json()["data"]
    url = await deleted(client, HINTS, text="a", settingId=setting["id"])
    assert (await client.delete(f"{SETTINGS}/{setting['id']}")).status_code == 204
    refused = await client.post(f"{url}/restore")
    assert (refused.status_code, code(refused)) == (409, "conflict"), refused.text
    assert refused.json()["error"]["details"][0]["field"] == "settingId"
    assert (await client.get(url)).status_code == 404
    assert (await client.post(f"{SETTINGS}/{setting['id']}/restore")).status_code == 200
    assert (await client.post(f"{url}/restore")).status_code == 200


async def test_restoring_is_a_right_of_its_own_with_its_own_rows(store: TestedApplication) -> None:
    admin, editor, viewer = store.client(), store.client(role="Editor"), store.client(role="Viewer")
    mine = await deleted(admin, HINTS, text="mine")
    other = await deleted(admin, HINTS, text="other")
    hidden = await deleted(admin, HINTS, text="hidden")
    assert (await viewer.post(f"{mine}/restore")).status_code == 403
    assert (await editor.post(f"{other}/restore")).status_code == 403
    assert (await editor.post(f"{hidden}/restore")).status_code == 404
    assert (await editor.post(f"{mine}/restore")).status_code == 200
    assert (await editor.post(f"{SETTINGS}/1/restore")).status_code == 403


async def test_what_an_explanation_says_of_restoring_a_row_is_what_a_request_gets(
    store: TestedApplication,
) -> None:
    admin, editor, viewer = store.client(), store.client(role="Editor"), store.client(role="Viewer")
    rows = [await deleted(admin, HINTS, text=text) for text in ("mine", "other", "hidden")]
    living = (await admin.post(HINTS, json={"text": "mine"})).json()["data"]["id"]
    theirs = await deleted(store.client(tenant="beta"), HINTS, text="mine")

    async def told(client: Any, url: str, **asked: Any) -> tuple[Any, ...]:
        about = [{"route": f"POST {url}/restore"}]
        about += [{"resource": "Hints", "operation": "restore:post", "id": url.rpartition("/")[2]}]
        answers = [await client.get("/api/v1/policies/explain", params={**one, **asked}) for one in about]
        found = [one.json().get("data") or {"status": one.status_code} for one in answers]
        assert found[0] == found[1], found
        return found[0].get("allowed"), found[0]["status"]

    mine, other, hidden = rows
    assert await told(editor, mine) == await told(admin, mine, role="Editor") == ("yes", None)
    assert await told(editor, other) == await told(admin, other, role="Editor") == ("no", 403)
    assert await told(editor, hidden) == await told(admin, hidden, role="Editor") == ("no", 404)
    assert await told(admin, hidden) == ("yes", None)
    assert await told(editor, f"{HINTS}/{living}") == ("yes", None)
    for url in (f"{HINTS}/999", f"{HINTS}/x", theirs):
        assert await told(editor, url) == ("no", 404)
        assert await told(admin, url, role="Editor") == (None, 404)
    # Whoever restores no rows is not told which there are.
    for url in (mine, f"{HINTS}/999"):
        assert await told(viewer, url) == ("no", 403)
    for url, status in ((mine, 200), (other, 403), (hidden, 404)):
        assert (await editor.post(f"{url}/restore")).status_code == status


async def test_a_row_that_goes_and_comes_back_meanwhile_is_there_or_not_but_never_forbidden(
    store: TestedApplication,
) -> None:
    client = store.client()
    url = await deleted(client, SETTINGS, key="a")

    async def ask(turn: int) -> int:
        if turn % 3 == 0:
            return (await client.delete(url)).status_code
        if turn % 3 == 1:
            return (await client.post(f"{url}/restore")).status_code
        return (await client.patch(url, json={"value": {"turn": turn}})).status_code

    for _ in range(10):
        told = set(await asyncio.gather(*(ask(turn) for turn in range(60))))
        assert told <= {200, 204, 404, 409}, told
