"""A rule that asks about related rows is judged of what a write leaves, also where it writes those, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
import pytest_asyncio

from byodpp.embedded import SUPERUSER
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build


def _by(rule: dict[str, Any]) -> dict[str, Any]:
    return {"read": ["Admin", "Clerk"], "write": ["Admin", {"roles": ["Clerk"], "filter": rule}]}


WORLD: Final[dict[str, Any]] = {
    "resources": [
        {
            "name": "Nodes",
            "fields": {
                "level": {"type": "integer", "required": True, "unique": True},
                "upId": {"references": "Nodes", "as": "up"},
            },
            "access": _by({"up.level": {"gte": 5}}),
        },
        {
            "name": "Desks",
            "softDelete": True,
            "fields": {
                "code": {"type": "string", "required": True, "unique": True},
                "rank": {"type": "integer"},
                "upId": {"references": "Desks", "as": "up"},
            },
            "states": {"initial": "open", "transitions": {"close": {"from": "open", "to": "closed"}}},
            "relations": {"downs": {"resource": "Desks", "foreignField": "upId"}},
            "access": _by({"up.downs": {"none": {"or": [{"status": "closed"}, {"rank": {"gt": 5}}]}}}),
        },
        {
            "name": "Peers",
            "fields": {
                "teamId": {"references": "Teams", "as": "team", "required": True},
                "lead": {"type": "boolean", "default": False},
            },
            "access": _by({"team.peers": {"none": {"lead": True}}}),
        },
        {
            "name": "Teams",
            "fields": {"name": {"type": "string"}},
            "relations": {"peers": {"resource": "Peers", "foreignField": "teamId"}},
            "access": {"read": ["Admin", "Clerk"], "write": ["Admin"]},
        },
        {
            "name": "Orders",
            "fields": {"name": {"type": "string"}},
            "relations": {"lines": {"resource": "Lines", "foreignField": "orderId"}},
            "access": _by({"lines": {"every": {"status": "open"}}}),
        },
        {
            "name": "Lines",
            "fields": {
                "orderId": {"references": "Orders", "required": True, "as": "order"},
                "status": {"type": "string"},
            },
            "access": {"read": ["Admin", "Clerk"], "write": ["Admin", "Clerk"]},
        },
    ]
}


@pytest_asyncio.fixture
async def served(tmp_path: Path, byodpp_bench: Bench) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(build(tmp_path, WORLD)) as application:
        yield application


async def test_a_row_that_refers_to_itself_is_judged_by_what_it_becomes(served: TestedApplication) -> None:
    admin, clerk, url = served.client(), served.client(role="Clerk"), "/api/v1/nodes"
    keys = [(await admin.post(url, json={"level": level})).json()["data"]["id"] for level in (7, 8)]
    for key in keys:
        assert (await admin.patch(f"{url}/{key}", json={"upId": key})).status_code == 200
    batch = {"operation": "upsert", "on": ["level"]}
    for key, level, up in ((keys[0], 7, None), (keys[1], 8, keys[0])):
        own = f"{url}/{key}"
        for body, status in (({"level": 1}, 403), ({"level": {"$increment": -7}}, 403), ({"upId": up}, 403)):
            if up is None or "upId" not in body:
                assert (await clerk.patch(own, json=body)).status_code == status, body
        assert (await clerk.put(own, json={"level": 2, "upId": key})).status_code == 403
        items = [{"level": level, "upId": up}]
        answer = await clerk.post(f"{url}/batch", json={**batch, "items": items})
        assert answer.status_code == (403 if up is None else 200), answer.text
    each = {
        "operation": "patch",
        "atomic": False,
        "items": [{"id": keys[0], "level": 1}, {"id": keys[1], "level": 9}],
    }
    answer = await clerk.post(f"{url}/batch", json=each)
    assert [one["success"] for one in answer.json()["data"]] == [False, True], answer.text
    levels = {row["id"]: row["level"] for row in (await admin.get(url)).json()["data"]}
    assert levels == {keys[0]: 7, keys[1]: 9}


async def test_rows_that_are_replaced_together_take_a_step_or_come_back_are_judged_by_what_they_become(
    served: TestedApplication,
) -> None:
    admin, clerk, url = served.client(), served.client(role="Clerk"), "/api/v1/desks"
    up = (await admin.post(url, json={"code": "up"})).json()["data"]["id"]
    made = [await clerk.post(url, json={"code": code, "upId": up}) for code in ("a", "b")]
    first, second = (one.json()["data"]["id"] for one in made)
    items = [{"code": code, "upId": up, "rank": 9} for code in ("a", "b")]
    upsert = {"operation": "upsert", "on": ["code"], "items": items}
    assert (await clerk.post(f"{url}/batch", json=upsert)).status_code == 403
    assert (await clerk.post(f"{url}/{first}/close")).status_code == 403
    assert (await admin.post(f"{url}/{second}/close")).status_code == 200
    assert (await admin.delete(f"{url}/{second}")).status_code == 204
    assert (await clerk.patch(f"{url}/{first}", json={"rank": 5})).status_code == 200
    assert (await clerk.post(f"{url}/{second}/restore")).status_code == 403
    rows = [(row["code"], row["status"], row["rank"]) for row in (await admin.get(url)).json()["data"]]
    assert rows == [("up", "open", None), ("a", "open", 5)]


async def test_new_rows_are_judged_together_with_each_other(served: TestedApplication) -> None:
    admin, clerk, url = served.client(), served.client(role="Clerk"), "/api/v1/peers"
    teams = [(await admin.post("/api/v1/teams", json={})).json()["data"]["id"] for _ in range(2)]
    assert (await clerk.post(url, json={"teamId": teams[0]})).status_code == 201
    assert (await clerk.post(url, json={"teamId": teams[0], "lead": True})).status_code == 403
    both = [{"teamId": teams[1]}, {"teamId": teams[1], "lead": True}]
    assert (await clerk.post(f"{url}/batch", json=both)).status_code == 403
    sent = await clerk.post(f"{url}/batch", json={"operation": "create", "atomic": False, "items": both})
    assert [one["success"] for one in sent.json()["data"]] == [True, False], sent.text
    file = f"teamId,lead\n{teams[0]},false\n{teams[1]},true\n"
    for query in ("atomic=true", "again=true"):
        sent = await clerk.post(f"{url}/import?{query}", content=file, headers={"Content-Type": "text/csv"})
        assert "forbidden" in sent.text, sent.text
    assert (await admin.get(url)).json()["count"] == 3


async def test_a_row_is_judged_with_the_rows_that_were_written_inside_it(served: TestedApplication) -> None:
    admin, clerk, url = served.client(), served.client(role="Clerk"), "/api/v1/orders"
    good, bad = [{"status": "open"}], [{"status": "open"}, {"status": "shut"}]
    made = await clerk.post(url, json={"name": "a", "lines": good})
    assert made.status_code == 201, made.text
    own = f"{url}/{made.json()['data']['id']}"
    assert (await clerk.post(url, json={"name": "b", "lines": bad})).status_code == 403
    for method in ("PUT", "PATCH"):
        assert (await clerk.request(method, own, json={"name": "c", "lines": bad})).status_code == 403
        assert (await clerk.request(method, own, json={"name": "a", "lines": good})).status_code == 200
    each = {"operation": "create", "atomic": False, "items": [{"lines": bad}, {"lines": good}]}
    answer = await clerk.post(f"{url}/batch", json=each)
    assert [one["success"] for one in answer.json()["data"]] == [False, True], answer.text
    assert (await admin.get(url)).json()["count"] == 2
    assert {row["status"] for row in (await admin.get("/api/v1/lines")).json()["data"]} == {"open"}


COUNTED: Final[dict[str, Any]] = {
    "resources": [
        {
            "name": "Yards",
            "fields": {"name": {"type": "string"}},
            "relations": {"sums": {"resource": "Sums", "foreignField": "yardId"}},
            "access": {"read": ["Admin", "Clerk"], "write": ["Admin"]},
        },
        {
            "name": "Carts",
            "fields": {"yardId": {"references": "Yards", "as": "yard"}},
            "access": _by({"yard.sums": {"none": {"total": {"gt": 3}}}}),
        },
        {
            "name": "Sums",
            "type": "view",
            "table": "sums",
            "fields": {"yardId": {"references": "Yards"}, "total": {"type": "integer"}},
            "access": {"read": ["Admin"]},
        },
    ]
}
SUMS: Final = """
create view sums with (security_invoker = true) as
    select tenant_id, yard_id as id, yard_id, count(*)::int as total from carts group by tenant_id, yard_id;
grant select on sums to byodpp_app, byodpp_system;
alter view sums owner to byodpp_owner
"""


async def test_a_rule_about_a_view_is_judged_with_what_it_shows_of_the_written_rows(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    blueprint, url = build(tmp_path, COUNTED), "/api/v1/carts"
    async with byodpp_bench.database(blueprint) as name:
        owner = await asyncpg.connect(byodpp_bench.server.uri(SUPERUSER, name))
        await owner.execute(SUMS)
        await owner.close()
        async with byodpp_bench.application(blueprint, origin=name) as served:
            admin, clerk = served.client(), served.client(role="Clerk")
            yard = (await admin.post("/api/v1/yards", json={})).json()["data"]["id"]
            one = {"yardId": yard}
            assert (await clerk.post(f"{url}/batch", json=[one] * 4)).status_code == 403
            assert (await clerk.post(f"{url}/batch", json=[one] * 2)).status_code == 201
            file, kind = f"yardId\n{yard}\n{yard}\n", {"Content-Type": "text/csv"}
            sent = await clerk.post(f"{url}/import", content=file, headers=kind)
            assert sent.json()["data"]["created"] == 1, sent.text
            assert (await clerk.post(url, json=one)).status_code == 403
            assert (await admin.get("/api/v1/sums")).json()["data"][0]["total"] == 3


@pytest.mark.parametrize(
    ("effect", "condition"),
    [("allow", {"up.kind.open": True}), ("deny", {"up.kind.open": {"ne": True}})],
)
async def test_what_is_shown_of_a_new_row_is_judged_by_its_own_related_rows(
    tmp_path: Path, byodpp_bench: Bench, effect: str, condition: dict[str, Any]
) -> None:
    seen: Any = "Clerk" if effect == "deny" else {"roles": ["Clerk"], "fields": ["id"]}
    kinds = {"name": "Kinds", "fields": {"open": {"type": "boolean"}}}
    pages = {
        "name": "Pages",
        "fields": {
            "name": {"type": "string", "unique": True},
            "kindId": {"references": "Kinds", "as": "kind"},
            "upId": {"references": "Pages", "as": "up"},
        },
        "access": {"read": ["Admin", seen], "write": ["Admin", "Clerk"]},
    }
    world = {"resources": [kinds, pages], "include": ["byodpp:access"]}
    async with byodpp_bench.application(build(tmp_path, world)) as served:
        admin, clerk, url = served.client(), served.client(role="Clerk"), "/api/v1/pages"
        rule = {"subject": "Clerk", "object": "Pages", "action": "read", "effect": effect, "fields": ["name"]}
        assert (await admin.post("/api/v1/policies", json={**rule, "condition": condition})).is_success
        above = {}
        for open in (True, False):
            kind = (await admin.post("/api/v1/kinds", json={"open": open})).json()["data"]
            body = {"name": f"above {open}", "kindId": kind["id"]}
            above[open] = (await admin.post(url, json=body)).json()["data"]["id"]
        for open, up in above.items():
            body = {"name": f"new {open}", "upId": up}
            made = await clerk.post(url, json=body)
            assert (made.status_code, made.json()["data"]["name"]) == (201, body["name"] if open else None)
            many = [{**body, "name": f"{body['name']} {number}"} for number in range(2)]
            made = await clerk.post(f"{url}/batch", json=many)
            names = [row["name"] for row in many] if open else [None, None]
            assert [row["name"] for row in made.json()["data"]] == names, made.text
