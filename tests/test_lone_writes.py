"""Writes that are one statement: what happens when the rules change just before it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.database import Database, Transaction
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

SHOP = {
    "include": ["byodpp:tenancy", "byodpp:access", "byodpp:audit"],
    "resources": [
        {
            "name": "Shelves",
            "fields": {"name": {"type": "string", "required": True, "index": True}},
            "access": {"read": ["Admin", "Clerk"], "write": ["Admin"]},
        },
        {
            "name": "Items",
            "fields": {
                "name": {"type": "string", "required": True, "index": True},
                "shelfId": {"references": "Shelves"},
            },
            "access": {"read": ["Admin", "Clerk"], "write": ["Admin", "Clerk"]},
        },
        {
            "name": "Safes",
            "versioned": True,
            "fields": {
                "name": {"type": "string", "required": True},
                "pin": {"type": "string", "encrypted": True},
            },
        },
        {
            "name": "Notes",
            "fields": {"name": {"type": "string", "required": True}},
            "access": {
                "read": [{"roles": ["Admin"], "filter": {"createdAt": {"lte": "$now"}}}],
                "write": ["Admin"],
            },
        },
    ],
}
ITEMS, SHELVES, POLICIES = "/api/v1/items", "/api/v1/shelves", "/api/v1/policies"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("lone"), SHOP)


@pytest_asyncio.fixture(loop_scope="session")
async def shop(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


class Late:
    """A scope that is entered only after something else has happened."""

    def __init__(self, scope: Any, before: Callable[[], Awaitable[None]]) -> None:
        self._scope = scope
        self._before = before

    async def __aenter__(self) -> Transaction:
        await self._before()
        transaction: Transaction = await self._scope.__aenter__()
        return transaction

    async def __aexit__(self, *outcome: Any) -> None:
        await self._scope.__aexit__(*outcome)


def deny(resource: str, action: str, name: str) -> dict[str, Any]:
    """A policy that takes the clerks' right to rows of a name."""
    rule = {"ptype": "p", "subject": "Clerk", "object": resource, "action": action, "effect": "deny"}
    return {**rule, "condition": {"name": name}}


@pytest.mark.parametrize("many", [False, True], ids=["create", "batch"])
@pytest.mark.parametrize(
    "rule", [deny("Items", "create", "a"), deny("Shelves", "read", "hidden")], ids=["rows", "references"]
)
async def test_rules_that_change_before_the_statement_is_sent_hold(
    shop: TestedApplication, monkeypatch: pytest.MonkeyPatch, rule: dict[str, Any], many: bool
) -> None:
    admin, clerk = shop.client(), shop.client(role="Clerk", user="clerk")
    shelf = (await admin.post(SHELVES, json={"name": "hidden"})).json()["data"]["id"]
    entered: list[bool] = []
    lone = Database.lone

    async def change_rules() -> None:
        if not entered:
            entered.append(True)
            assert (await admin.post(POLICIES, json=rule)).status_code == 201

    monkeypatch.setattr(Database, "lone", lambda self, *args: Late(lone(self, *args), change_rules))
    item = {"name": "a", "shelfId": shelf}
    body = [item, {**item, "name": "b"}] if many else item
    answer = await clerk.post(f"{ITEMS}/batch" if many else ITEMS, json=body)
    assert entered, "it was taken for one statement"
    rows = (await admin.get(f"{ITEMS}?limit=5")).json()["count"]
    if many or rule["object"] == "Shelves":
        assert (answer.status_code, rows) == (422 if rule["object"] == "Shelves" else 403, 0), answer.text
    else:
        # The right to what was asked was decided when it came in.
        assert (answer.status_code, rows) == (201, 1), answer.text


async def test_a_right_to_create_that_goes_before_the_statement_is_sent_is_gone(
    shop: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, clerk = shop.client(), shop.client(role="Clerk", user="clerk")
    entered: list[bool] = []
    lone = Database.lone
    rule = {key: value for key, value in deny("Items", "create", "").items() if key != "condition"}

    async def change_rules() -> None:
        if not entered:
            entered.append(True)
            assert (await admin.post(POLICIES, json=rule)).status_code == 201

    monkeypatch.setattr(Database, "lone", lambda self, *args: Late(lone(self, *args), change_rules))
    answer = await clerk.post(f"{ITEMS}/batch", json=[{"name": "a"}, {"name": "b"}])
    assert entered and answer.status_code == 403, answer.text
    assert (await admin.get(ITEMS)).json()["count"] == 0


async def test_a_patch_of_a_row_that_is_hidden_before_the_statement_is_sent_finds_none(
    shop: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, clerk = shop.client(), shop.client(role="Clerk", user="clerk")
    id = (await admin.post(ITEMS, json={"name": "a"})).json()["data"]["id"]
    entered: list[bool] = []
    lone = Database.lone

    async def change_rules() -> None:
        if not entered:
            entered.append(True)
            assert (await admin.post(POLICIES, json=deny("Items", "read", "a"))).status_code == 201

    monkeypatch.setattr(Database, "lone", lambda self, *args: Late(lone(self, *args), change_rules))
    answer = await clerk.patch(f"{ITEMS}/{id}", json={"name": "b"})
    assert entered, "it was taken for one statement"
    assert answer.status_code == 404, answer.text
    assert (await admin.get(f"{ITEMS}/{id}")).json()["data"]["name"] == "a"


async def test_a_patch_by_itself_tells_what_is_wrong_and_changes_nothing(shop: TestedApplication) -> None:
    admin, other = shop.client(), shop.client(tenant="beta")
    id = (await admin.post(ITEMS, json={"name": "a"})).json()["data"]["id"]
    for client, address, body, status in (
        (admin, f"{ITEMS}/{id + 1}", {"name": "b"}, 404),
        (admin, f"{ITEMS}/x", {"name": "b"}, 404),
        (other, f"{ITEMS}/{id}", {"name": "b"}, 404),
        (admin, f"{ITEMS}/{id}", {"name": "b", "shelfId": 99}, 422),
        (admin, f"{ITEMS}/{id}", {"name": None}, 422),
        (shop.client(role="Viewer", user="v"), f"{ITEMS}/{id}", {"name": "b"}, 403),
    ):
        answer = await client.patch(address, json=body)
        assert answer.status_code == status, answer.text
    assert (await admin.get(f"{ITEMS}/{id}")).json()["data"]["name"] == "a"
    changed = await admin.patch(f"{ITEMS}/{id}", json={"name": "b"})
    assert (changed.status_code, changed.json()["data"]["name"]) == (200, "b")


async def test_a_write_by_itself_waits_for_a_database_that_is_away(
    shop: TestedApplication, byodpp_bench: Bench
) -> None:
    admin = shop.client()
    item = (await admin.post(ITEMS, json={"name": "here"})).json()["data"]["id"]
    name = urlsplit(str(shop.settings.postgres_db_uri)).path.strip("/")
    ended = f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
    try:
        await byodpp_bench._administrate(f'alter database "{name}" connection limit 0')
        await byodpp_bench._administrate(ended)
        for answer in (
            await admin.post(ITEMS, json={"name": "away"}),
            await admin.patch(f"{ITEMS}/{item}", json={"name": "away"}),
        ):
            assert answer.status_code == 503, answer.text
            assert "retry-after" in answer.headers
    finally:
        await byodpp_bench._administrate(f'alter database "{name}" connection limit -1')
    assert (await admin.get(f"{ITEMS}?filter[name]=away")).json()["count"] == 0


async def test_a_row_that_cannot_be_opened_again_is_not_changed(shop: TestedApplication) -> None:
    admin = shop.client()
    safe = (await admin.post("/api/v1/safes", json={"name": "one", "pin": "1234"})).json()["data"]["id"]
    async with shop.connected.database.system() as transaction:
        await transaction.execute("update safes set pin = overlay(pin placing 'AAAA' from 20)")
    assert (await admin.patch(f"/api/v1/safes/{safe}", json={"name": "two"})).status_code == 500
    async with shop.connected.database.system() as transaction:
        row = await transaction.fetchrow("select name, version from safes")
    assert row is not None and tuple(row) == ("one", 1)


async def test_a_rule_about_the_present_shows_a_row_to_who_has_just_made_it(shop: TestedApplication) -> None:
    made = await shop.client().post("/api/v1/notes", json={"name": "now"})
    assert made.json()["data"].get("name") == "now", made.text
