"""Rules about values inside json and arrays: what is not known to be false is denied."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

LAMPS: Final = "/api/v1/lamps"
MANIFEST: Final = {
    "include": ["byodpp:access"],
    "resources": [
        {
            "name": "Lamps",
            "fields": {
                "name": {"type": "string", "required": True},
                "data": {"type": "json"},
                "sizes": {
                    "type": "array",
                    "items": {"type": "decimal", "precision": 5, "scale": 1, "asString": True},
                },
            },
            "access": {
                "read": [
                    "Admin",
                    "Viewer",
                    {"roles": ["Guest"], "filter": {"data.watts": {"gt": 10}}},
                    {"roles": ["Buyer"], "filter": {"data": {"watts": {"gt": 10}}}},
                    {"roles": ["Cutter"], "filter": {"sizes.0": "1.0"}},
                    {"roles": ["public"], "filter": {"sizes": {"-1": {"eq": "2.0"}}}},
                ],
                "write": ["Admin"],
            },
        }
    ],
}
#: What each lamp holds.
DATA: Final[dict[str, Any]] = {
    "nothing": None,
    "empty": {},
    "null": {"watts": None},
    "weak": {"watts": 5},
    "strong": {"watts": 60},
    "text": {"watts": "much"},
    "list": {"watts": [5]},
}
#: A deny, and the lamps that are known not to be meant.
LEFT: Final[list[tuple[dict[str, Any], set[str]]]] = [
    ({"data.watts": {"gt": 10}}, {"weak"}),
    ({"data.watts": {"between": [10, 90]}}, {"weak"}),
    ({"data.watts": {"eq": 60}}, {"weak", "text", "list"}),
    ({"data.watts": {"in": [5, 60]}}, {"text", "list"}),
    ({"data.watts": {"ne": 60}}, {"strong"}),
    ({"not": {"data.watts": {"lte": 10}}}, {"weak"}),
    ({"data.watts": {"startsWith": "l"}}, {"text"}),
    ({"data.watts": {"has": 5}}, {"weak", "strong", "text"}),
    ({"data": {"has": "volts"}}, {"empty", "null", "weak", "strong", "text", "list"}),
    ({"data.watts": {"isNull": True}}, {"weak", "strong", "text", "list"}),
    ({"data.watts": {"isNull": False}}, {"nothing", "empty", "null"}),
    ({"sizes": {"has": "2.0"}}, {"weak"}),
    ({"sizes.0": {"gt": "1.5"}}, {"weak"}),
]


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("lamps"), MANIFEST)


@pytest_asyncio.fixture(loop_scope="session")
async def lamps(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        admin = tested.client()
        for name, data in DATA.items():
            sizes = ["1.0"] if name == "weak" else ["2.0"] if name == "strong" else None
            response = await admin.post(LAMPS, json={"name": name, "data": data, "sizes": sizes})
            assert response.status_code == 201, response.text
        yield tested


async def names(tested: TestedApplication, role: str | None) -> set[str]:
    named = {"X-Tenant": "acme"} if role is None else {}
    answer = await tested.client(role=role, headers=named).get(LAMPS, params={"fields": "name"})
    assert answer.status_code == 200, answer.text
    return {one["name"] for one in answer.json()["data"]}


async def test_a_deny_denies_where_the_value_inside_is_missing_or_has_no_place_in_the_order(
    lamps: TestedApplication,
) -> None:
    admin = lamps.client()
    for condition, left in LEFT:
        rule = {"subject": "Viewer", "object": "Lamps", "action": "read", "effect": "deny"}
        made = await admin.post("/api/v1/policies", json={**rule, "condition": condition})
        assert made.status_code == 201, made.text
        assert await names(lamps, "Viewer") == left, condition
        gone = await admin.delete(f"/api/v1/policies/{made.json()['data']['id']}")
        assert gone.status_code == 204


async def test_an_allow_needs_the_value_inside(lamps: TestedApplication) -> None:
    assert await names(lamps, "Guest") == {"strong"}


async def test_rules_of_the_manifest_lead_into_json_and_arrays_as_queries_do(
    lamps: TestedApplication,
) -> None:
    # `public` is judged by row-level security besides. Everybody has that role.
    assert await names(lamps, None) == {"strong"}
    assert await names(lamps, "Buyer") == {"strong"}
    assert await names(lamps, "Cutter") == {"weak", "strong"}
