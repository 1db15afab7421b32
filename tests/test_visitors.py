"""An operator who acts for a tenant is none of its users, though one of them has his number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.worlds import NAME, build

DRAFTS: Final = "/api/v1/drafts"
TASKS: Final = "/api/v1/tasks"
_LOGIC: Final = """
from byodpp.logics import Logic


class Jot(Logic):
    resource, action = "Tasks", "jot:post"

    async def execute(self):
        return await self.system["Drafts"].create({"title": "jotted"})


class Count(Logic):
    resource, action = "Tasks", "count:get"

    async def execute(self):
        own = await self.transaction.fetchval("select count(*) from drafts")
        return {"repository": await self.system["Drafts"].count(), "sql": own}
"""
_ALL: Final = {"read": ["Admin"], "write": ["Admin"]}
MANIFEST: Final[dict[str, Any]] = {
    "resources": [
        {
            "name": "Drafts",
            "scope": "user",
            "fields": {"title": {**NAME, "index": True}, "taskId": {"references": "Tasks"}},
            "access": _ALL,
        },
        {
            "name": "Tasks",
            "audit": True,
            "fields": {"title": NAME, "makerId": {"type": "bigint", "filterable": True}},
            "relations": {"drafts": {"resource": "Drafts", "foreignField": "taskId"}},
            "routes": {
                "actions": [
                    {"url": "/api/v1/tasks/jot", "method": "post"},
                    {"url": "/api/v1/tasks/count", "method": "get"},
                ]
            },
            "access": {
                "read": ["Admin", {"roles": ["Maker"], "filter": {"makerId": "$user.id"}}],
                "write": ["Admin"],
                "create": ["Admin", {"roles": ["Maker"], "preset": {"makerId": "$user.id"}}],
            },
        },
    ],
    "include": ["byodpp:access", "byodpp:audit"],
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("visitors"), MANIFEST, {"logics/v1/tasks/all.py": _LOGIC})


@pytest_asyncio.fixture(loop_scope="session")
async def visited(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """An application where a user of acme and an operator have the same number."""
    async with byodpp_bench.application(blueprint) as tested:
        at_home, operator = tested.client(user="ada"), tested.client(tenant="platform", user="olga")
        assert (await at_home.post(TASKS, json={"title": "task"})).status_code == 201
        assert (await operator.get(TASKS)).status_code == 200
        await _give_the_same_number(tested)
        yield tested


async def _give_the_same_number(tested: TestedApplication) -> None:
    connection = await asyncpg.connect(tested.settings.postgres_system_uri)
    try:
        await connection.execute("set byodpp.tenant = '0'")
        number = await connection.fetchval("select id from users where name = 'ada'")
        await connection.execute("update users set id = $1 where name = 'olga'", number)
        assert await connection.fetchval("select count(*) from users where id = $1", number) == 2
    finally:
        await connection.close()
    tested.connected.authenticator.forget()


@pytest.fixture
def ada(visited: TestedApplication) -> httpx2.AsyncClient:
    return visited.client(user="ada")


@pytest.fixture
def olga(visited: TestedApplication) -> httpx2.AsyncClient:
    return visited.client(tenant="platform", user="olga", headers={"X-Tenant": "acme"})


async def test_rows_of_a_user_are_closed_to_a_visitor_with_his_number(
    ada: httpx2.AsyncClient, olga: httpx2.AsyncClient
) -> None:
    row = (await ada.post(DRAFTS, json={"title": "mine", "taskId": 1})).json()["data"]
    url = f"{DRAFTS}/{row['id']}"
    calls = [
        olga.get(DRAFTS),
        olga.get(url),
        olga.get(f"{DRAFTS}?count=exact&search=mine"),
        olga.get(f"{DRAFTS}?aggregate=count"),
        olga.post(f"{DRAFTS}/query", json={}),
        olga.get(f"{DRAFTS}/export?format=csv"),
        olga.post(DRAFTS, json={"title": "hers"}),
        olga.put(url, json={"title": "hers"}),
        olga.patch(url, json={"title": "hers"}),
        olga.delete(url),
        olga.post(f"{DRAFTS}/batch", json=[{"title": "hers"}]),
        olga.post("/api/v1/batch", json=[{"operation": "read", "resource": "Drafts", "id": row["id"]}]),
    ]
    assert {(await call).status_code for call in calls} == {403}
    for query in ("include=drafts", "filter[drafts][some][title]=mine"):
        assert (await olga.get(f"{TASKS}?{query}")).status_code == 400
    assert (await ada.get(DRAFTS)).json()["data"] == [row]


async def test_the_same_operator_has_rows_of_his_own_at_home(visited: TestedApplication) -> None:
    at_home = visited.client(tenant="platform", user="olga")
    assert (await at_home.post(DRAFTS, json={"title": "hers"})).status_code == 201
    assert (await at_home.get(DRAFTS)).json()["count"] == 1


async def test_logic_classes_find_and_make_no_rows_of_users_for_a_visitor(
    ada: httpx2.AsyncClient, olga: httpx2.AsyncClient
) -> None:
    assert (await ada.post(f"{TASKS}/jot")).status_code == 200
    assert (await ada.get(f"{TASKS}/count")).json()["data"] == {"repository": 1, "sql": 1}
    assert (await olga.get(f"{TASKS}/count")).json()["data"] == {"repository": 0, "sql": 0}
    refused = await olga.post(f"{TASKS}/jot")
    assert refused.status_code == 403
    assert "leave out X-Tenant" in refused.json()["error"]["message"]


async def test_a_rule_about_the_user_never_takes_a_visitor_for_him(visited: TestedApplication) -> None:
    maker = visited.client(user="ada", role="Maker")
    visitor = visited.client(tenant="platform", user="olga", role="Maker", headers={"X-Tenant": "acme"})
    assert (await maker.post(TASKS, json={"title": "made"})).status_code == 201
    assert (await maker.get(TASKS)).json()["count"] == 1
    assert (await visitor.get(TASKS)).json()["count"] == 0
    assert (await visitor.post(TASKS, json={"title": "made"})).status_code == 403


async def test_the_trail_still_says_which_operator_it_was(
    visited: TestedApplication, olga: httpx2.AsyncClient
) -> None:
    assert (await olga.post(TASKS, json={"title": "by an operator"})).status_code == 201
    entries = (await visited.client(user="ada").get("/api/v1/audit-logs")).json()["data"]
    [entry] = [one for one in entries if one["actorTenantId"] == 0 and one["action"] == "CREATE"]
    assert entry["userId"] is not None
