"""Idempotency-Key: however often a write is sent, it happens once, and its answer is always the same."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from typing import Any

import pytest

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.cut_connections import CommitEater
from tests.patience import blocked

ITEMS = "/api/v1/items"
SHELVES = "/api/v1/shelves"


def keyed(key: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": key or uuid.uuid4().hex}


def code(response: Any) -> str:
    found: str = response.json()["error"]["code"]
    return found


async def value(store: TestedApplication, sql: str) -> Any:
    async with store.connected.database.system() as transaction:
        return await transaction.fetchval(sql)


async def kept(store: TestedApplication) -> int:
    found: int = await value(store, "select count(*) from byodpp.idempotency_keys")
    return found


async def an_item(client: Any, **values: Any) -> dict[str, Any]:
    response = await client.post(ITEMS, json={"name": "Bolt", **values})
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()["data"]
    return found


def same(first: Any, second: Any) -> None:
    """The second answer repeats the first, byte for byte."""
    assert second.content == first.content
    assert second.status_code == first.status_code
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    for name in ("content-type", "location", "etag", "x-kind"):
        assert second.headers.get(name) == first.headers.get(name)
    assert second.headers["x-request-id"] != first.headers["x-request-id"]


async def test_a_create_that_is_sent_again_creates_nothing_and_answers_the_same(
    store: TestedApplication,
) -> None:
    client, headers = store.client(), keyed()
    first = await client.post(ITEMS, json={"name": "Bolt"}, headers=headers)
    assert first.status_code == 201
    for _ in range(3):
        same(first, await client.post(ITEMS, json={"name": "Bolt"}, headers=headers))
    assert await value(store, "select count(*) from items") == 1
    assert [event.name for event in await store.events()] == ["items.created"]
    assert await value(store, "select count(*) from audit_logs where resource_type = 'Items'") == 1


async def test_patch_batch_action_transition_and_steps_over_several_resources_are_kept_too(
    store: TestedApplication,
) -> None:
    client = store.client()
    item = await an_item(client, sku="a", tags=["x"])
    url = f"{ITEMS}/{item['id']}"
    step = {"operation": "create", "resource": "Items", "data": {"name": "Step"}}
    steps = {"Content-Type": "application/json-patch+json"}
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("PATCH", url, {"json": {"name": "Nut"}}),
        ("PATCH", url, {"content": b'[{"op":"add","path":"/tags/-","value":"y"}]', "headers": steps}),
        ("POST", f"{ITEMS}/batch", {"json": [{"name": "One"}, {"name": "Two"}]}),
        ("POST", f"{url}/count", {}),
        ("POST", f"{url}/stream", {}),
        ("POST", f"{url}/publish", {}),
        ("POST", "/api/v1/batch", {"json": [step]}),
    ]
    for method, address, options in calls:
        headers = {**keyed(), **options.pop("headers", {})}
        first = await client.request(method, address, headers=headers, **options)
        assert first.status_code in (200, 201, 202), (address, first.text)
        same(first, await client.request(method, address, headers=headers, **options))
    row = (await client.get(url)).json()["data"]
    assert (row["version"], row["seen"], row["tags"], row["status"]) == (6, 2, ["x", "y"], "out")
    assert await value(store, "select count(*) from items") == 4
    events = [event.name for event in await store.events()]
    assert events.count("item.counted") == 1
    assert events.count("items.created") == 4


@pytest.mark.parametrize("talks", [True, False])
async def test_a_stream_without_end_is_not_waited_for_to_be_kept(
    store: TestedApplication, monkeypatch: pytest.MonkeyPatch, talks: bool
) -> None:
    """It would lie in memory, and hold a connection, for as long as the server lives."""
    if not talks:
        monkeypatch.setattr("byodpp.answering._STREAM_SECONDS", 0.1)
    client, headers = store.client(), keyed()
    item = await an_item(client, stock=int(talks))
    refused = await client.post(f"{ITEMS}/{item['id']}/endless", headers=headers)
    assert (refused.status_code, code(refused)) == (400, "invalid_header"), refused.text
    assert "Idempotency-Key" in refused.json()["error"]["message"]
    assert (await client.get(f"{ITEMS}/{item['id']}")).json()["data"]["seen"] == 0, "it has left nothing"
    assert await kept(store) == 0


async def test_the_same_key_with_another_request_is_refused(store: TestedApplication) -> None:
    client, headers = store.client(), keyed("k")
    assert (await client.post(ITEMS, json={"name": "a"}, headers=headers)).status_code == 201
    for other in ({"name": "b"}, {"name": "a", "stock": 1}):
        refused = await client.post(ITEMS, json=other, headers=headers)
        assert (refused.status_code, code(refused)) == (422, "idempotency_key_reused")
    assert await value(store, "select count(*) from items") == 1


async def test_a_key_belongs_to_tenant_user_method_and_address(store: TestedApplication) -> None:
    headers = keyed("shared")
    ada, bob = store.client(user="ada"), store.client(user="bob")
    beta = store.client(user="ada", tenant="beta")
    items = [await an_item(ada), await an_item(ada, name="Nut")]
    for client in (ada, bob, beta):
        made = await client.post(SHELVES, json={"name": "x"}, headers=headers)
        assert made.status_code == 201 and "idempotency-replayed" not in made.headers
    for item in items:
        for method, tail in (("POST", "/count"), ("PATCH", "")):
            body = {"name": f"n{item['id']}"} if method == "PATCH" else None
            done = await ada.request(method, f"{ITEMS}/{item['id']}{tail}", headers=headers, json=body)
            assert done.status_code == 200 and "idempotency-replayed" not in done.headers
    assert await value(store, "select count(*) from shelves") == 3
    assert await kept(store) == 7
    unversioned = await ada.post("/api/shelves", json={"name": "x"}, headers=headers)
    assert unversioned.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize(
    ("url", "body", "needed", "role"),
    [
        (
            "/api/v1/batch",
            [{"operation": "create", "resource": "Words", "data": {"word": "w"}}],
            "create Words",
            "Viewer",
        ),
        (
            "/api/v1/batch",
            [{"operation": "count:post", "resource": "Items", "id": 1}],
            "count:post Items",
            "Viewer",
        ),
        (f"{ITEMS}/batch", {"operation": "delete", "items": [1]}, "delete Items", "Editor"),
        (f"{ITEMS}/batch", {"operation": "delete", "filter": {"id": 1}, "max": 1}, "delete Items", "Editor"),
        (ITEMS, {"name": "i", "parts": [{"name": "p"}]}, "create Parts", "Editor"),
    ],
)
async def test_an_answer_is_told_again_only_to_whom_it_would_be_given_anew(
    store: TestedApplication, url: str, body: Any, needed: str, role: str
) -> None:
    admin, headers = store.client(user="ada"), keyed("k")
    await an_item(admin)
    first = await admin.post(url, json=body, headers=headers)
    assert first.status_code < 300, first.text
    same(first, await admin.post(url, json=body, headers=headers))
    lost = await store.client(user="ada", role=role).post(url, json=body, headers=headers)
    assert (lost.status_code, code(lost)) == (403, "forbidden"), lost.text
    assert lost.json()["error"]["message"] == f"You have no right to {needed}."
    same(first, await admin.post(url, json=body, headers=headers))


async def test_a_stranger_of_a_public_action_has_keys_per_tenant(store: TestedApplication) -> None:
    nobody, headers = store.client(role=None), keyed("open")
    first = await nobody.post("/api/v1/public-count", headers=headers)
    assert first.status_code == 200, first.text
    same(first, await nobody.post("/api/v1/public-count", headers=headers))
    named = await nobody.post("/api/v1/public-count", headers={**headers, "X-Tenant": "acme"})
    assert named.status_code == 200 and "idempotency-replayed" not in named.headers


async def test_nothing_is_kept_of_what_was_refused(store: TestedApplication) -> None:
    client, viewer, headers = store.client(), store.client(role="Viewer"), keyed("k")
    item = await an_item(client, sku="taken")
    refusals = [
        (client, "POST", ITEMS, {"name": "x", "sku": "taken"}, 409),
        (client, "POST", ITEMS, {"name": 1}, 422),
        (client, "POST", ITEMS, {"name": "x", "shelfId": 999}, 422),
        (client, "PATCH", f"{ITEMS}/999999", {"name": "x"}, 404),
        (client, "POST", f"{ITEMS}/batch", [{"name": "x"}, {"name": "x", "sku": "taken"}], 409),
        (viewer, "POST", ITEMS, {"name": "x"}, 403),
    ]
    for who, method, url, body, status in refusals:
        assert (await who.request(method, url, json=body, headers=headers)).status_code == status
    assert await kept(store) == 0
    stale = {**headers, "If-Match": '"9"'}
    assert (await client.patch(f"{ITEMS}/{item['id']}", json={"name": "y"}, headers=stale)).status_code == 412
    done = await client.patch(f"{ITEMS}/{item['id']}", json={"name": "z"}, headers=headers)
    assert done.status_code == 200
    assert (await client.post(ITEMS, json={"name": "x"}, headers=headers)).status_code == 201
    assert await kept(store) == 2


@pytest.mark.parametrize(
    ("key", "status"),
    [("", 400), ("x" * 256, 400), ("a\tb", 400), ("caf\u00e9", 400), ("x" * 255, 201), ("a b~!\"'", 201)],
)
async def test_a_key_is_1_to_255_printable_characters(
    shared: TestedApplication, key: str, status: int
) -> None:
    raw = [(b"Idempotency-Key", key.encode("latin-1"))]
    response = await shared.client().post(SHELVES, json={"name": "x"}, headers=raw)
    assert response.status_code == status, response.text
    if status == 400:
        assert code(response) == "invalid_header"


async def test_put_and_delete_which_may_be_repeated_anyway_take_no_key(store: TestedApplication) -> None:
    client, headers = store.client(), keyed()
    item = await an_item(client)
    url = f"{ITEMS}/{item['id']}"
    for name in ("a", "b"):
        assert (await client.put(url, json={"name": name}, headers=headers)).json()["data"]["name"] == name
    assert (await client.delete(url, headers=headers)).status_code == 204
    assert (await client.delete(url, headers=headers)).status_code == 404
    assert await kept(store) == 0


async def test_of_twenty_twins_at_once_one_has_the_effect_and_none_waits_for_ever(
    store: TestedApplication,
) -> None:
    client, headers = store.client(), keyed()

    async def send() -> Any:
        return await client.post(ITEMS, json={"name": "Bolt"}, headers=headers)

    answers = await asyncio.gather(*(send() for _ in range(20)))
    done = [one for one in answers if one.status_code == 201]
    refused = [one for one in answers if one.status_code != 201]
    assert done and {one.content for one in done} == {done[0].content}
    assert sum("idempotency-replayed" not in one.headers for one in done) == 1
    assert {(one.status_code, code(one)) for one in refused} <= {(409, "idempotency_in_progress")}
    assert await value(store, "select count(*) from items") == 1


async def test_a_twin_is_told_at_once_that_the_first_is_running(store: TestedApplication) -> None:
    client, headers = store.client(), keyed()
    item = await an_item(client)
    url = f"{ITEMS}/{item['id']}"
    async with store.connected.database.system() as transaction:
        await transaction.execute("select from items for update")
        first = asyncio.create_task(client.patch(url, json={"name": "Nut"}, headers=headers))
        await blocked(transaction)
        twin = await asyncio.wait_for(client.patch(url, json={"name": "Nut"}, headers=headers), 20)
        assert (twin.status_code, code(twin)) == (409, "idempotency_in_progress")
        assert twin.headers["retry-after"] == "1"
        assert not first.done()
    answer = await first
    assert answer.status_code == 200
    same(answer, await client.patch(url, json={"name": "Nut"}, headers=headers))


async def test_keys_are_kept_for_a_day_and_old_ones_are_removed(store: TestedApplication) -> None:
    client, headers = store.client(), keyed("k")
    await client.post(SHELVES, json={"name": "a"}, headers=headers)
    async with store.connected.database.system() as transaction:
        await transaction.execute(
            "update byodpp.idempotency_keys set created_at = now() - interval '23 hours 59 minutes'"
        )
    again = await client.post(SHELVES, json={"name": "a"}, headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    async with store.connected.database.system() as transaction:
        await transaction.execute(
            "update byodpp.idempotency_keys set created_at = now() - interval '24 hours 1 minute'"
        )
    anew = await client.post(SHELVES, json={"name": "b"}, headers=headers)
    assert anew.status_code == 201 and "idempotency-replayed" not in anew.headers
    same(anew, await client.post(SHELVES, json={"name": "b"}, headers=headers))
    async with store.connected.database.system() as transaction:
        await transaction.execute(
            "insert into byodpp.idempotency_keys"
            " (tenant_id, user_id, method, route, key, request_hash, created_at)"
            " select 1, 1, 'POST', '/x', n::text, 'h', now() - interval '2 days'"
            " from generate_series(1, 1500) n"
        )
    assert await store.connected.service.keys.purge() == 1000
    assert await store.connected.service.keys.purge() == 500
    assert await kept(store) == 1


async def test_the_answer_of_a_minimal_write_is_kept_as_it_was(store: TestedApplication) -> None:
    client, headers = store.client(), {**keyed(), "Prefer": "return=minimal"}
    first = await client.post(ITEMS, json={"name": "Bolt"}, headers=headers)
    assert (first.status_code, first.content) == (201, b"")
    same(first, await client.post(ITEMS, json={"name": "Bolt"}, headers=headers))


@pytest.mark.parametrize(
    "spoilt", ["headers = '5'", "headers = null", "headers = '{\"x\": 5}'", "body = null", "status = 99999"]
)
async def test_a_kept_answer_that_is_none_is_not_sent_and_the_log_says_why(
    store: TestedApplication, spoilt: str, caplog: pytest.LogCaptureFixture
) -> None:
    client, headers = store.client(), keyed()
    assert (await client.post(ITEMS, json={"name": "Bolt"}, headers=headers)).status_code == 201
    async with store.connected.database.system() as transaction:
        await transaction.execute(f"update byodpp.idempotency_keys set {spoilt}")
    refused = await client.post(ITEMS, json={"name": "Bolt"}, headers=headers)
    assert (refused.status_code, code(refused)) == (500, "internal_error")
    assert "an answer kept for retries is none" in caplog.text
    assert await value(store, "select count(*) from items") == 1


async def _cut(bench: Bench, writes: Blueprint, count: int) -> None:
    async with bench.application(writes) as direct:
        assert direct.settings.postgres_db_uri is not None
        eater = CommitEater(direct.settings.postgres_db_uri)
        async with eater.listening():
            system_uri = direct.settings.postgres_system_uri
            uris: dict[str, Any] = {"postgres_db_uri": eater.uri, "postgres_system_uri": system_uri}
            async with bench.application(writes, **uris) as cut:
                client = cut.client()
                assert (await client.get(ITEMS)).status_code == 200
                for number in range(count):
                    headers, body = keyed(), {"name": f"n{number}"}
                    eater.hungry = 1
                    lost = await client.post(ITEMS, json=body, headers=headers)
                    assert (lost.status_code, code(lost)) == (503, "outcome_unknown"), lost.text
                    retry = await client.post(ITEMS, json=body, headers=headers)
                    assert retry.status_code == 201, retry.text
                    assert retry.headers["idempotency-replayed"] == "true"
                    assert retry.json()["data"]["name"] == f"n{number}"
                assert eater.eaten == count
            assert await value(direct, "select count(*) from items") == count
            assert await value(direct, "select count(distinct name) from items") == count
            assert (
                await value(direct, "select count(*) from audit_logs where resource_type = 'Items'") == count
            )


async def test_an_answer_lost_at_commit_is_found_again_by_its_key(
    byodpp_bench: Bench, writes: Blueprint
) -> None:
    await _cut(byodpp_bench, writes, 20)


@pytest.mark.soak
async def test_two_hundred_answers_lost_at_commit_have_one_effect_each(
    byodpp_bench: Bench, writes: Blueprint
) -> None:
    await _cut(byodpp_bench, writes, 200)


async def test_an_operator_is_not_taken_for_the_tenants_user_who_has_the_same_number(
    store: TestedApplication,
) -> None:
    # Numbers are counted by each database, so that a tenant with one of its own has those of the platform.
    own, headers = store.client(user="ada"), keyed("monday")
    await own.get(ITEMS)
    operator = store.client(tenant="platform", user="olga", headers={"X-Tenant": "acme"})
    number = await value(store, "select id from users")
    token = store.token(tenant="platform", user="olga").split(".")[1]
    subject = json.loads(base64.urlsafe_b64decode(token + "=="))["sub"]
    async with store.connected.database.system() as transaction:
        await transaction.execute(
            "insert into users (tenant_id, id, realm, subject, name, status) overriding system value"
            " values (0, $1, 'platform', $2, 'olga', 'activated')",
            number,
            subject,
        )
    made = [(await client.post(ITEMS, json={"name": "Bolt"}, headers=headers)) for client in (operator, own)]
    assert [one.headers.get("idempotency-replayed") for one in made] == [None, None]
    assert made[0].json()["data"]["id"] != made[1].json()["data"]["id"]
    lines = headers | {"Content-Type": "application/x-ndjson"}
    for client in (operator, own):
        sent = await client.post(f"{ITEMS}/import", content=b'{"name": "Nut"}', headers=lines)
        assert (sent.json()["data"]["created"], sent.json()["data"]["repeated"]) == (1, False), sent.text
