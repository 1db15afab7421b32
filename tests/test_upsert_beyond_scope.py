"""Upserts by keys that are unique on the platform or for ever: they find own rows and reveal no others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

PLATES, CODES = "/api/v1/plates", "/api/v1/codes"
_ALL: Final = {"read": ["Admin"], "write": ["Admin"]}
_TEXT: Final = {"type": "string"}
_WORLD: Final[dict[str, Any]] = {
    "services": [
        {
            "name": "Road",
            "resources": [
                {
                    "name": "Plates",
                    "fields": {"number": {**_TEXT, "unique": "platform"}, "text": _TEXT},
                    "access": _ALL,
                },
                {
                    "name": "Codes",
                    "softDelete": True,
                    "fields": {"code": {**_TEXT, "unique": "ever"}, "name": {**_TEXT, "unique": True}},
                    "access": _ALL,
                },
            ],
        }
    ]
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("road"), _WORLD)


@pytest_asyncio.fixture(loop_scope="session")
async def road(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


async def upsert(client: Any, url: str, on: str | None, *items: Any, atomic: bool = True) -> Any:
    named = {} if on is None else {"on": [on]}
    return await client.post(
        f"{url}/batch", json={"operation": "upsert", "atomic": atomic, "items": list(items), **named}
    )


def refused(answer: Any) -> tuple[int, list[tuple[str, str]]]:
    error = answer.json()["error"]
    return error["statusCode"], [(one["field"], one["code"]) for one in error["details"]]


async def test_a_plate_is_found_in_its_tenant_and_refused_where_another_has_it(
    road: TestedApplication,
) -> None:
    acme, beta = road.client(), road.client(tenant="beta")
    made = await upsert(acme, PLATES, "number", {"number": "A", "text": "1"}, {"number": "B", "text": "1"})
    assert made.status_code == 200, made.text
    again = await upsert(acme, PLATES, "number", {"number": "A", "text": "2"}, {"number": "C", "text": "2"})
    assert [row["text"] for row in again.json()["data"]] == ["2", "2"]
    before = (await acme.get(f"{PLATES}?sort=id")).json()["data"]
    theirs = await upsert(beta, PLATES, "number", {"number": "X"}, {"number": "A", "text": "stolen"})
    single = await beta.post(PLATES, json={"number": "A"})
    assert refused(theirs) == (409, [("1.number", "unique")])
    assert theirs.json()["error"]["message"] == single.json()["error"]["message"]
    assert (await beta.get(PLATES)).json()["data"] == []
    each = await upsert(
        beta, PLATES, "number", {"number": "X"}, {"number": "A"}, {"number": "Y"}, atomic=False
    )
    told = [one.get("operation") or one["error"]["code"] for one in each.json()["data"]]
    assert told == ["create", "unique_conflict", "create"]
    file = "number,text\nX,imported\nB,stolen\nZ,\n"
    done = await beta.post(
        f"{PLATES}/import?operation=upsert&on=number", content=file, headers={"Content-Type": "text/csv"}
    )
    data = done.json()["data"]
    assert (data["created"], data["updated"], data["rejected"]) == (1, 1, 1), done.text
    assert (await acme.get(f"{PLATES}?sort=id")).json()["data"] == before


async def test_a_code_that_was_deleted_stays_taken(road: TestedApplication) -> None:
    client = road.client()
    made = await upsert(client, CODES, "code", {"code": "A", "name": "a"})
    key = made.json()["data"][0]["id"]
    found = await upsert(client, CODES, "code", {"code": "A", "name": "b"})
    assert (found.json()["data"][0]["id"], found.json()["data"][0]["name"]) == (key, "b")
    assert (await client.delete(f"{CODES}/{key}")).status_code == 204
    assert refused(await upsert(client, CODES, "code", {"code": "A", "name": "c"})) == (
        409, [("0.code", "unique")]
    )  # fmt: skip
    assert (await client.get(CODES)).json()["data"] == []


async def test_the_key_of_the_scope_is_meant_where_none_is_named(road: TestedApplication) -> None:
    client = road.client()
    for code in ("A", "B"):
        done = await upsert(client, CODES, None, {"code": code, "name": "one"})
        assert done.status_code == 200, done.text
    assert [row["code"] for row in (await client.get(CODES)).json()["data"]] == ["B"]
    new = await upsert(client, PLATES, None, {"number": "N"})
    assert new.status_code == 200, "without a key that is meant, what has no `id` is new"
    assert refused(await upsert(client, PLATES, None, {"number": "N"})) == (409, [("0.number", "unique")])
