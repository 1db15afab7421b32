"""Rows of `Policies` that make no sense are refused when they are written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from byodpp.authorization.watch import record_change
from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

POLICIES = "/api/v1/policies"
RULE: dict[str, Any] = {"subject": "Viewer", "object": "Things", "action": "read"}
MANIFEST: dict[str, Any] = {
    "include": ["byodpp:access"],
    "resources": [
        {
            "name": "Things",
            "fields": {"size": {"type": "integer"}, "name": {"type": "string"}},
            "states": {"initial": "a", "transitions": {"go": {"from": ["a"], "to": "b"}}},
            "access": {"read": ["Admin", "Manager", "Viewer"], "write": ["Admin"]},
        }
    ],
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("rules") / "app", MANIFEST)


@pytest.fixture
async def served(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as application:
        yield application


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"object": "Thing"}, "object", "unknown_resource"),
        ({"action": "reed"}, "action", "enum"),
        ({"action": "go"}, "action", "enum"),
        ({"fields": ["size", "sise"]}, "fields.1", "unknown_field"),
        ({"condition": "9**9**9"}, "condition", "type"),
        ({"condition": [1]}, "condition", "type"),
        ({"condition": {"size": {"gt": "much"}}}, "condition.size.gt", "type"),
        ({"condition": {"__import__('os')": 1}}, "condition.__import__('os')", "unknown_field"),
        ({"condition": {"name": {"regex": "(a+)+$"}}}, "condition.name.regex", "unknown_operator"),
        ({"condition": {"or": []}}, "condition.or", "type"),
        ({"condition": {"nothing": 1}, "object": "*"}, "condition.nothing", "unknown_field"),
        ({"condition": {}}, "condition", "type"),
        ({"subject": "user:7"}, "subject", "reference"),
        ({"subject": "user:1) || (True"}, "subject", "pattern"),
        ({"subject": "user:0"}, "subject", "pattern"),
    ],
)
async def test_a_rule_that_makes_no_sense_is_refused(
    served: TestedApplication, change: dict[str, Any], field: str, code: str
) -> None:
    admin, viewer = served.client(), served.client(role="Viewer")
    (detail,) = (await admin.post(POLICIES, json=RULE | {"effect": "deny"} | change)).json()["error"][
        "details"
    ]
    assert (detail["field"], detail["code"]) == (field, code), detail
    made = (await admin.post(POLICIES, json=RULE)).json()["data"]
    for method, address, body in (
        ("PATCH", f"{POLICIES}/{made['id']}", change),
        ("PUT", f"{POLICIES}/{made['id']}", made | change),
        ("POST", f"{POLICIES}/batch", [RULE, RULE | change]),
    ):
        refused = await admin.request(method, address, json=body)
        (detail,) = refused.json()["error"]["details"]
        assert (refused.status_code, detail["code"]) == (422, code), detail
        assert detail["field"] == (f"1.{field}" if method == "POST" else field)
    assert (await admin.get(POLICIES)).json()["data"] == [made]
    assert (await viewer.get("/api/v1/things")).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"action": "go:post"},
        {"action": "*", "object": "*", "subject": "*"},
        {"subject": "user:ada"},
        {"condition": {"size": {"gt": 5}}, "object": "*"},
        {"condition": {"name": "$user.id"}},
        {"condition": None},
        {"fields": []},
        {"ptype": "g", "object": "Manager", "action": "*"},
    ],
)
async def test_a_rule_that_makes_sense_is_taken(served: TestedApplication, change: dict[str, Any]) -> None:
    if change.get("subject") == "user:ada":
        assert (await served.client(user="ada").get("/api/v1/things")).status_code == 200
        users = (await served.client().get("/api/v1/users?filter[userName]=ada")).json()["data"]
        change = {"subject": f"user:{users[0]['id']}"}
    made = await served.client().post(POLICIES, json=RULE | change)
    assert made.status_code == 201, made.text
    again = await served.client().put(made.headers["location"], json=made.json()["data"])
    assert again.status_code == 200, again.text
    if change.get("ptype") != "g":
        appended = await served.client().patch(made.headers["location"], json={"fields": ["name"]})
        assert appended.status_code == 200, appended.text


_PAST_THE_API: Final = (
    "insert into policies (tenant_id, subject, object, action, effect, fields)"
    " values ($1, $2, $3, 'read', $4, $5::jsonb)"
)


_LONG, _DEEP = f"[{'1' * 5_000}]", "[" * 3_000 + "]" * 3_000


@pytest.mark.parametrize(
    "named", ["5", "{}", '"size"', "[5]", '["nothing"]', "true", _LONG, _DEEP], ids=lambda named: named[:12]
)
async def test_fields_that_are_none_grant_nothing_deny_all_and_keep_no_other_rule_from_being_read(
    served: TestedApplication, named: str
) -> None:
    admin, things = served.client(), "/api/v1/things"
    acme = (await served.tenant("acme")).id
    made = await admin.post(things, json={"size": 1, "name": "a"})
    url = f"{things}/{made.json()['data']['id']}"
    async with served.connected.database.system() as transaction:
        for resource in ("Things", "*"):
            await transaction.execute(_PAST_THE_API, acme, "Stranger", resource, "allow", named)
        await transaction.execute(_PAST_THE_API, acme, "Manager", "Things", "deny", named)
        await record_change(transaction, acme)
    # Another rule of the tenant, by which it is known that all were read.
    assert (await admin.post(POLICIES, json=RULE | {"effect": "deny", "fields": ["name"]})).status_code == 201
    assert (await served.client(role="Viewer").get(url)).json()["data"].keys().isdisjoint({"name"})
    assert (await served.client(role="Stranger").get(url)).status_code == 403
    assert (await served.client(role="Manager").get(url)).status_code in (403, 404)
    assert (await admin.get(url)).status_code == 200


@pytest.mark.parametrize(
    "said", ["0", "false", "[]", '""', "{}", "[1]", _LONG, _DEEP], ids=lambda said: said[:12]
)
async def test_presets_that_are_none_grant_nothing_and_keep_no_other_rule_from_being_written(
    served: TestedApplication, said: str
) -> None:
    acme = (await served.tenant("acme")).id
    async with served.connected.database.system() as transaction:
        await transaction.execute(
            "insert into policies (tenant_id, subject, object, action, effect, preset)"
            " values ($1, 'Stranger', 'Things', 'create', 'allow', $2::jsonb)",
            acme,
            said,
        )
        await record_change(transaction, acme)
    assert (await served.client().post(POLICIES, json=RULE)).status_code == 201
    made = await served.client(role="Stranger").post("/api/v1/things", json={"size": 1, "name": "a"})
    assert made.status_code == 403, made.text


async def test_of_a_rule_that_allows_fields_those_hold_that_are_there(served: TestedApplication) -> None:
    admin, things = served.client(), "/api/v1/things"
    acme = (await served.tenant("acme")).id
    assert (await admin.post(things, json={"size": 1, "name": "a"})).status_code == 201
    async with served.connected.database.system() as transaction:
        await transaction.execute(_PAST_THE_API, acme, "Stranger", "Things", "allow", '["size", "gone"]')
        await record_change(transaction, acme)
    assert (await admin.post(POLICIES, json=RULE)).status_code == 201
    [row] = (await served.client(role="Stranger").get(things)).json()["data"]
    assert row == {"id": row["id"], "size": 1}


_LINK: Final = (
    "insert into policies (tenant_id, ptype, subject, object, action, effect, condition, fields)"
    " values ($1, 'g', 'Stranger', 'Viewer', '*', $2, $3::jsonb, $4::jsonb)"
)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (("allow", None, None), 200),
        (("deny", None, None), 403),
        (("allow", '{"size": 1}', None), 403),
        (("allow", None, '["size"]'), 403),
    ],
)
async def test_a_link_between_roles_that_says_more_was_meant_otherwise_and_links_nothing(
    served: TestedApplication, said: tuple[str, str | None, str | None], status: int
) -> None:
    acme = (await served.tenant("acme")).id
    async with served.connected.database.system() as transaction:
        await transaction.execute(_LINK, acme, *said)
        await record_change(transaction, acme)
    # Another rule of the tenant, by which it is known that all were read.
    assert (await served.client().post(POLICIES, json=RULE)).status_code == 201
    assert (await served.client(role="Stranger").get("/api/v1/things")).status_code == status
