"""Who may not have a row learns of no other row by it: he is refused before it is told what is taken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from byodpp.bootstrap import assemble
from byodpp.testing import Bench, TestedApplication

_OWN: Final = {"roles": ["Clerk"], "filter": {"region": "north"}}
_NUMBERED: Final = {"roles": ["Clerk"], "filter": {"region": "north", "not": {"id": {"lt": 1}}}}
_OF_REGION: Final = {"roles": ["Clerk"], "filter": {"region.name": "north"}}
_LOTS: Final[dict[str, Any]] = {
    "fields": {
        "region": {"type": "string", "required": True},
        "code": {"type": "string", "required": True},
        "count": {"type": "integer"},
    },
    "unique": [["region", "code"], ["region", "count"]],
    "access": {"read": ["Admin", _OWN], "write": ["Admin", _OWN]},
}
_CODE: Final = {"code": {"type": "string", "unique": True}}


def _by(rule: dict[str, Any]) -> dict[str, Any]:
    clerk = {"roles": ["Clerk"], "filter": rule}
    return {"read": ["Admin", clerk], "write": ["Admin", clerk]}


WORLD: Final = {
    "resources": [
        {"name": "Lots", **_LOTS},
        {"name": "Tracked", "versioned": True, "softDelete": True, "audit": True, "id": "ulid", **_LOTS},
        {"name": "Numbered", **_LOTS, "access": {"read": ["Admin", _OWN], "write": ["Admin", _NUMBERED]}},
        {"name": "Regions", "fields": {"name": {"type": "string"}}, "access": {"read": ["*"]}},
        {
            "name": "Stalls",
            "fields": {
                "regionId": {"references": "Regions", "as": "region", "required": True},
                "code": {"type": "string", "required": True},
            },
            "unique": [["regionId", "code"]],
            "access": {"read": ["Admin", _OF_REGION], "write": ["Admin", _OF_REGION]},
        },
        {
            "name": "Shelves",
            "fields": {"load": {"type": "integer", "unique": True}},
            "access": _by({"load": {"lte": 10}}),
        },
        {"name": "Crates", "fields": _CODE, "access": _by({"id": {"lte": 4}})},
        {"name": "Pallets", "fields": _CODE, "access": _by({"createdAt": {"gt": "2020-01-01T00:00:00Z"}})},
        {"name": "Later", "fields": _CODE, "access": _by({"createdAt": {"gt": "2220-01-01T00:00:00Z"}})},
    ]
}


@pytest_asyncio.fixture
async def market(tmp_path: Path, byodpp_bench: Bench) -> AsyncIterator[TestedApplication]:
    (tmp_path / "resources.json").write_text(json.dumps(WORLD), encoding="utf-8")
    async with byodpp_bench.application(assemble(tmp_path)) as served:
        yield served


def said(answer: Any) -> tuple[int, Any]:
    """What an answer says, without the names of this request and file."""
    body = answer.json()
    told = body.get("error") or body["data"]
    strange = ("requestId", "timestamp", "key", "report")
    words = (
        {name: one for name, one in told.items() if name not in strange} if isinstance(told, dict) else told
    )
    return answer.status_code, words


def ways(url: str, key: Any, new: dict[str, Any]) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Every way in which a row could come to have some values."""
    name, batch = url.rpartition("/")[2].capitalize(), f"{url}/batch"
    csv = ",".join(new) + "\n" + ",".join(map(str, new.values())) + "\n"
    file = {"content": csv, "headers": {"Content-Type": "text/csv"}}
    known, on = {**new, "id": key}, [one for one in new if one.startswith(("region", "code"))]
    upsert = {"operation": "upsert", "on": on, "items": [new]}
    across = {"resource": name, "data": new}
    return {
        "create": ("POST", url, {"json": new}),
        "update": ("PUT", f"{url}/{key}", {"json": new}),
        "patch": ("PATCH", f"{url}/{key}", {"json": new}),
        "creates": ("POST", batch, {"json": [new, {**new, "code": "free"}]}),
        "updates": ("POST", batch, {"json": {"operation": "update", "items": [known]}}),
        "patches": ("POST", batch, {"json": {"operation": "patch", "items": [known]}}),
        "each": ("POST", batch, {"json": {"operation": "create", "atomic": False, "items": [new]}}),
        "upsert": ("POST", batch, {"json": upsert}),
        "upserts": ("POST", batch, {"json": {**upsert, "items": [new, {**new, "code": "free"}]}}),
        "upserts before": ("POST", batch, {"json": {**upsert, "items": [new, {**new, "code": "zone"}]}}),
        "upsert each": ("POST", batch, {"json": {**upsert, "atomic": False}}),
        "across": ("POST", "/api/v1/batch", {"json": [{"operation": "create", **across}]}),
        "patch across": ("POST", "/api/v1/batch", {"json": [{"operation": "patch", "id": key, **across}]}),
        "import": ("POST", f"{url}/import?again=true", file),
        "atomic import": ("POST", f"{url}/import?again=true&atomic=true", file),
        "upserting import": ("POST", f"{url}/import?again=true&operation=upsert&on={','.join(on)}", file),
    }


@pytest.mark.parametrize("name", ["lots", "tracked", "numbered", "stalls"])
async def test_whoever_may_not_have_a_row_does_not_learn_that_it_is_there(
    market: TestedApplication, name: str
) -> None:
    admin, clerk, url = market.client(), market.client(role="Clerk"), f"/api/v1/{name}"
    made = [await admin.post("/api/v1/regions", json={"name": one}) for one in ("north", "south")]
    north, south = ([{"regionId": one.json()["data"]["id"]} for one in made]
                    if name == "stalls" else [{"region": "north"}, {"region": "south"}])  # fmt: skip
    hidden = await admin.post(url, json={**south, "code": "taken"})
    assert hidden.status_code == 201, hidden.text
    own = (await clerk.post(url, json={**north, "code": "own"})).json()["data"]["id"]
    taken, free = ({**south, "code": code} for code in ("taken", "vacant"))
    for way, (method, address, options) in ways(url, own, taken).items():
        refused = said(await clerk.request(method, address, **options))
        _, _, options = ways(url, own, free)[way]
        assert refused == said(await clerk.request(method, address, **options)), way
        assert refused[0] == 403 or "forbidden" in str(refused[1]), (way, refused)
    assert (await clerk.get(url)).json()["count"] == 1
    assert (await admin.get(url)).json()["count"] == 2


async def test_whoever_may_have_a_row_is_told_that_it_is_taken(market: TestedApplication) -> None:
    admin, clerk, url = market.client(), market.client(role="Clerk"), "/api/v1/lots"
    for code, count in (("a", 1), ("b", 2)):
        assert (
            await clerk.post(url, json={"region": "north", "code": code, "count": count})
        ).status_code == 201
    rows = (await clerk.get(url)).json()["data"]
    new = {"region": "north", "code": "a"}
    for way, (method, address, options) in ways(url, rows[1]["id"], new).items():
        if not way.startswith(("upsert", "import", "atomic")):
            answer = await clerk.request(method, address, **options)
            assert answer.status_code == 409 or "unique_conflict" in answer.text, (way, answer.text)
    for modifier, status in (
        ({"$increment": -1}, 409),
        ({"$increment": 2**31 - 1}, 409),
        ({"$increment": 1}, 200),
    ):
        answer = await clerk.patch(f"{url}/{rows[1]['id']}", json={"count": modifier})
        assert answer.status_code == status, answer.text
    assert (await admin.get(url)).json()["count"] == 2


async def test_a_modified_value_is_judged_as_what_it_becomes(market: TestedApplication) -> None:
    admin, clerk, url = market.client(), market.client(role="Clerk"), "/api/v1/shelves"
    assert (await admin.post(url, json={"load": 11})).status_code == 201
    own = (await clerk.post(url, json={"load": 9})).json()["data"]
    for step, status in ((2, 403), (5, 403), (1, 200), (1, 403), (2**31 - 1, 409)):
        answer = await clerk.patch(f"{url}/{own['id']}", json={"load": {"$increment": step}})
        assert answer.status_code == status, answer.text
    assert (await clerk.get(f"{url}/{own['id']}")).json()["data"]["load"] == 10


async def test_a_rule_about_what_postgresql_fills_in_is_judged_as_well(market: TestedApplication) -> None:
    clerk, url = market.client(role="Clerk"), "/api/v1/crates"
    for body in ([{"code": "a"}], [{"code": "b"}, {"code": "c"}]):
        assert (await clerk.post(f"{url}/batch", json=body)).status_code == 201
    sent = await clerk.post(f"{url}/import", content="code\nd\n", headers={"Content-Type": "text/csv"})
    assert sent.json()["data"]["created"] == 1
    assert (await clerk.post(url, json={"code": "e"})).status_code == 403
    sent = await clerk.post(f"{url}/import", content="code\nf\n", headers={"Content-Type": "text/csv"})
    assert sent.json()["data"]["created"] == 0
    assert (await clerk.patch(f"{url}/1", json={"code": "z"})).status_code == 200
    assert (await clerk.post("/api/v1/pallets", json={"code": "a"})).status_code == 201
    assert (await clerk.post("/api/v1/later", json={"code": "a"})).status_code == 403


async def test_that_a_row_may_not_become_so_is_told_before_its_version_and_its_state(
    market: TestedApplication,
) -> None:
    clerk, url = market.client(role="Clerk"), "/api/v1/tracked"
    own = (await clerk.post(url, json={"region": "north", "code": "a", "count": 1})).json()["data"]
    for body, tag in (({}, '"77"'), ({"count": {"$increment": 2**31 - 1}}, '"1"')):
        for region, status in (("south", 403), ("north", 409 if body else 412)):
            answer = await clerk.patch(
                f"{url}/{own['id']}", json={**body, "region": region}, headers={"If-Match": tag}
            )
            assert answer.status_code == status, answer.text


async def test_nobody_waits_for_rows_that_he_may_not_read(market: TestedApplication) -> None:
    admin, clerk, url = market.client(), market.client(role="Clerk"), "/api/v1/tracked"
    codes = ("a", "b", "c")
    made = [await admin.post(url, json={"region": "south", "code": code}) for code in codes]
    keys = [one.json()["data"]["id"] for one in made]
    steps = json.dumps([{"op": "replace", "path": "/code", "value": "z"}])
    named = [{"id": key, "code": "z"} for key in keys]
    items = [{"region": "south", "code": code} for code in codes]
    upsert = {"operation": "upsert", "on": ["region", "code"], "items": items}
    several = {"If-Match": '"1", "2"'}
    ways = {
        "steps": clerk.patch(
            f"{url}/{keys[0]}", content=steps, headers={"Content-Type": "application/json-patch+json"}
        ),
        "a row of several versions": clerk.put(f"{url}/{keys[0]}", json=items[0], headers=several),
        "a deletion": clerk.delete(f"{url}/{keys[0]}"),
        "patches": clerk.post(f"{url}/batch", json={"operation": "patch", "items": named}),
        "each": clerk.post(f"{url}/batch", json={"operation": "patch", "atomic": False, "items": named}),
        "upserts": clerk.post(f"{url}/batch", json=upsert),
        "each upsert": clerk.post(f"{url}/batch", json={**upsert, "atomic": False}),
    }
    async with market.connected.database.system() as other:
        await other.execute("select from tracked for update")
        for way, answer in ways.items():
            status, told = said(await asyncio.wait_for(answer, 20))
            one_by_one = isinstance(told, list)
            statuses = [one["error"]["statusCode"] for one in told] if one_by_one else [status]
            refusal = 403 if "upsert" in way else 404
            assert statuses == [refusal] * (len(keys) if way.startswith("each") else 1), (way, told)
