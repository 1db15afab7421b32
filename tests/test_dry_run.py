"""`Prefer: tx=rollback`: a write is judged, done and shown, and then it has never happened."""

from __future__ import annotations

from typing import Any

import pytest

from byodpp.testing import TestedApplication

ITEMS = "/api/v1/items"
TRY = {"Prefer": "tx=rollback"}


async def everything(store: TestedApplication) -> list[tuple[Any, ...]]:
    """Return all that writes leave; not the entries of refusals, which are written a little later."""
    tables = ("items", "parts", "shelves", "audit_logs", "byodpp.outbox", "byodpp.idempotency_keys")
    what = {"audit_logs": "result = 'success'"}
    async with store.connected.database.system() as transaction:
        return [
            (table, *row)
            for table in tables
            for row in await transaction.fetch(
                f"select xmin::text, t.*::text from {table} t where {what.get(table, 'true')} order by 2"
            )
        ]


async def an_item(client: Any, **values: Any) -> dict[str, Any]:
    response = await client.post(ITEMS, json={"name": "x", **values})
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()["data"]
    return found


async def test_every_kind_of_write_can_be_tried(store: TestedApplication) -> None:
    client = store.client()
    item = await an_item(client, tags=["a"])
    url = f"{ITEMS}/{item['id']}"
    heard = len(await store.events())
    before = await everything(store)
    step = {"operation": "patch", "resource": "Items", "id": item["id"], "data": {"name": "y"}}
    tries: list[tuple[str, str, Any, int]] = [
        ("POST", ITEMS, {"name": "y"}, 201),
        ("PUT", url, {"name": "y"}, 200),
        ("PATCH", url, {"name": "y"}, 200),
        ("PATCH", url, {"stock": {"$increment": 1}, "extra": {"a": 1}}, 200),
        ("DELETE", url, None, 204),
        ("POST", f"{url}/publish", None, 200),
        ("POST", f"{url}/count", None, 200),
        ("POST", f"{ITEMS}/batch", [{"name": "y"}, {"name": "z"}], 201),
        ("POST", f"{ITEMS}/batch", {"operation": "delete", "filter": {"name": "x"}, "max": 5}, 200),
        ("POST", f"{ITEMS}/batch", {"operation": "delete", "items": [item["id"], 99], "atomic": False}, 200),
        ("POST", "/api/v1/batch", [step], 200),
        ("POST", "/api/v1/shelves", {"name": "s", "items": [{"name": "y"}]}, 201),
    ]
    for method, address, body, status in tries:
        answer = await client.request(method, address, json=body, headers=TRY)
        assert answer.status_code == status, (address, answer.text)
        assert answer.headers["preference-applied"] == "tx=rollback"
        assert "location" not in answer.headers
        assert await everything(store) == before, (method, address)
    shown = await client.patch(url, json={"name": "y"}, headers=TRY)
    assert (shown.json()["data"]["name"], shown.json()["data"]["version"]) == ("y", 2)
    assert (await client.get(url)).json()["data"] == item
    assert len(await store.events()) == heard


async def test_a_try_is_refused_like_the_write_itself(store: TestedApplication) -> None:
    client, viewer, editor = store.client(), store.client(role="Viewer"), store.client(role="Editor")
    item = await an_item(client, sku="taken")
    url = f"{ITEMS}/{item['id']}"
    part = await client.post("/api/v1/parts", json={"name": "p", "itemId": item["id"]})
    assert part.status_code == 201
    before = await everything(store)
    for who, method, address, body, status in (
        (client, "POST", ITEMS, {"name": 1}, 422),
        (client, "POST", ITEMS, {"name": "y", "shelfId": 99}, 422),
        (client, "POST", ITEMS, {"name": "y", "sku": "taken"}, 409),
        (client, "PATCH", f"{ITEMS}/999", {"name": "y"}, 404),
        (viewer, "PATCH", url, {"name": "y"}, 403),
        (editor, "PATCH", url, {"stock": 500}, 403),
        (editor, "DELETE", url, None, 403),
    ):
        answer = await who.request(method, address, json=body, headers=TRY)
        assert answer.status_code == status, answer.text
        assert "preference-applied" not in answer.headers
    stale = await client.patch(url, json={"name": "y"}, headers={**TRY, "If-Match": '"9"'})
    assert stale.status_code == 412
    assert await everything(store) == before


async def test_a_refusal_that_a_logic_class_has_swallowed_is_told_all_the_same(
    store: TestedApplication,
) -> None:
    client = store.client()
    await an_item(client, sku="taken")
    other = await an_item(client, name="y")
    for headers in ({}, TRY):
        refused = await client.post(f"{ITEMS}/{other['id']}/swallow", headers=headers)
        assert refused.status_code == 409, refused.text


async def test_what_waits_for_the_commit_does_not_happen(store: TestedApplication) -> None:
    client = store.client()
    item = await an_item(client)
    url = f"{ITEMS}/{item['id']}/later"
    for _ in range(3):
        assert (await client.post(url, headers=TRY)).json()["data"] == {"ran": 0}
    assert (await client.post(url)).json()["data"] == {"ran": 0}
    assert (await client.post(url)).json()["data"] == {"ran": 1}


async def test_a_try_uses_up_no_idempotency_key_and_goes_with_other_preferences(
    store: TestedApplication,
) -> None:
    client, key = store.client(), {"Idempotency-Key": "k"}
    for _ in range(2):
        tried = await client.post(ITEMS, json={"name": "a"}, headers={**key, **TRY})
        assert tried.status_code == 201 and "idempotency-replayed" not in tried.headers
    done = await client.post(ITEMS, json={"name": "b"}, headers=key)
    assert done.status_code == 201
    for prefer in ("return=minimal, tx=rollback", 'TX="rollback"; x=1 ,return=minimal, other'):
        minimal = await client.post(ITEMS, json={"name": "c"}, headers={"Prefer": prefer})
        assert (minimal.status_code, minimal.content) == (201, b"")
        assert minimal.headers["preference-applied"] == "return=minimal, tx=rollback"
    assert (await client.get(ITEMS, headers=TRY)).json()["count"] == 1


@pytest.mark.parametrize("prefer", ["tx=commit", "rollback", "xtx=rollback", "tx rollback", "tx=", ""])
async def test_an_unknown_preference_is_ignored(store: TestedApplication, prefer: str) -> None:
    client = store.client()
    done = await client.post(ITEMS, json={"name": "a"}, headers={"Prefer": prefer})
    assert done.status_code == 201 and "preference-applied" not in done.headers
    assert (await client.get(ITEMS)).json()["count"] == 1
