"""Rules as rows: judged before they are stored, and no right is given that its giver lacks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import httpx2
import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

POLICIES: Final = "/api/v1/policies"
ROLES: Final = "/api/v1/roles"
ITEMS: Final = "/api/v1/items"

_STAFF: Final = ["Admin", "Clerk", "Deputy", "Intern"]
DESK: Final[dict[str, Any]] = {
    "services": [
        {
            "name": "Desk",
            "resources": [
                {
                    "name": "Items",
                    "filterable": True,
                    "fields": {
                        "name": {"type": "string", "required": True},
                        "price": {"type": "integer"},
                        "status": {"type": "string", "enum": ["draft", "live"], "default": "draft"},
                        "makerId": {"type": "bigint"},
                        "report": {"type": "string", "audience": ["Inspector", "owner"]},
                        "recipe": {"type": "string", "audience": ["Inspector"]},
                    },
                    "states": {
                        "field": "stage",
                        "initial": "new",
                        "transitions": {"ship": {"from": "new", "to": "shipped"}},
                    },
                    "access": {
                        "read": [
                            "Admin",
                            "Intern",
                            {
                                "roles": ["Deputy"],
                                "filter": {"price": {"lt": 10}},
                                "fields": ["name", "price"],
                            },
                        ],
                        "write": ["Admin"],
                        "create": [
                            "Admin",
                            {"roles": ["Clerk"], "preset": {"status": "live", "makerId": "$user.id"}},
                            {"roles": ["Typist"], "fields": ["price"], "preset": {"name": "typed"}},
                        ],
                    },
                },
                {
                    "name": "Boxes",
                    "fields": {"title": {"type": "string"}},
                    "relations": {"lids": {"resource": "Lids", "foreignField": "boxId"}},
                    "access": {"read": ["Admin", "Clerk"], "write": ["Admin", "Clerk"]},
                },
                {
                    "name": "Lids",
                    "fields": {
                        "color": {"type": "string", "required": True},
                        "boxId": {"references": "Boxes", "required": True},
                    },
                    "access": {
                        "read": ["Admin", "Clerk"],
                        "write": ["Admin", {"roles": ["Clerk"], "preset": {"color": "red"}}],
                    },
                },
                {"name": "Countries", "scope": "shared", "fields": {"code": {"type": "string"}}},
            ],
        }
    ],
    "include": ["byodpp:tenancy", "byodpp:access", "byodpp:audit", "byodpp:keys"],
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("desk"), DESK)


@pytest_asyncio.fixture(loop_scope="session")
async def desk(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        admin = tested.client()
        for name, price in (("pen", 2), ("lamp", 40), ("gift", None)):
            await made(admin, ITEMS, name=name, price=price)
        yield tested


async def made(client: httpx2.AsyncClient, url: str, **values: Any) -> int:
    response = await client.post(url, json=values)
    assert response.status_code == 201, response.text
    return int(response.json()["data"]["id"])


def faults(response: httpx2.Response) -> set[tuple[str, str]]:
    return {(one["field"], one["code"]) for one in response.json()["error"]["details"]}


async def names(client: httpx2.AsyncClient) -> set[str]:
    response = await client.get(f"{ITEMS}?fields=name")
    assert response.status_code == 200, response.text
    return {one["name"] for one in response.json()["data"]}


# --- what a rule may say ----------------------------------------------------------------

WRONG: Final[list[tuple[dict[str, Any], str, str, str]]] = [
    ({"object": "Itmes"}, "object", "unknown_resource", "Items"),
    ({"object": "items"}, "object", "unknown_resource", "Items"),
    ({"object": "Item*"}, "object", "unknown_resource", ""),
    ({"object": "<every>"}, "object", "unknown_resource", ""),
    ({"action": "raed"}, "action", "enum", "read"),
    ({"action": "readwrite"}, "action", "enum", ""),
    ({"action": "<write>"}, "action", "enum", ""),
    ({"action": "ship"}, "action", "enum", "ship:post"),
    ({"subject": "Clark"}, "subject", "unknown_role", "Clerk"),
    ({"subject": "role:Clerk"}, "subject", "unknown_role", "Clerk"),
    ({"subject": "public"}, "subject", "enum", "manifest"),
    ({"subject": "user:999999"}, "subject", "reference", ""),
    ({"subject": "user:0"}, "subject", "pattern", ""),
    ({"effect": "Deny"}, "effect", "enum", "deny"),
    ({"ptype": "p2"}, "ptype", "enum", ""),
    ({"condition": {}}, "condition", "type", ""),
    ({"condition": "price > 3"}, "condition", "type", ""),
    ({"condition": {"prise": 3}}, "condition.prise", "unknown_field", "price"),
    ({"condition": {"price": {"greater": 3}}}, "condition.price.greater", "unknown_operator", ""),
    ({"condition": {"price": {"gt": "x"}}}, "condition.price.gt", "type", ""),
    ({"condition": {"or": [{"price": 1}, {"nam": "x"}]}}, "condition.or.1.nam", "unknown_field", "name"),
    ({"condition": {"makerId": "$usr.id"}}, "condition.makerId", "type", "$user.id"),
    ({"condition": {"name": "$user.emial"}}, "condition.name", "type", "$user.email"),
    (
        {"condition": {"name": {"in": ["$user.team"]}}, "effect": "deny"},
        "condition.name.in",
        "type",
        "$user.name",
    ),
    (
        {"condition": {"name": {"between": ["$user.emial", "z"]}}},
        "condition.name.between",
        "type",
        "$user.email",
    ),
    ({"preset": {"name": "$user.nmae"}, "action": "create"}, "preset.name", "type", "$user.name"),
    ({"fields": ["name", "prise"]}, "fields.1", "unknown_field", "price"),
    ({"fields": ["tenantId"]}, "fields.0", "unknown_field", ""),
    ({"fields": [], "effect": "deny"}, "fields", "too_few", ""),
    ({"preset": {"status": "live"}}, "preset", "unsupported", ""),
    ({"preset": {"stage": "new"}, "action": "create"}, "preset.stage", "unsupported", ""),
    ({"preset": {"price": "much"}, "action": "create"}, "preset.price", "type", ""),
    ({"preset": {"prise": 1}, "action": "create"}, "preset.prise", "unknown_field", "price"),
    ({"preset": {}, "action": "create"}, "preset", "type", ""),
    ({"object": "*", "condition": {"prise": 3}}, "condition.prise", "unknown_field", ""),
    ({"object": "*", "condition": {"price": 3}, "effect": "deny"}, "condition", "unfit", ""),
    ({"ptype": "g", "object": "Itmes", "action": "*"}, "object", "unknown_role", ""),
    ({"ptype": "g", "object": "Clerk", "action": "read"}, "action", "unsupported", ""),
    ({"ptype": "g", "object": "Clerk", "action": "*", "fields": ["name"]}, "fields", "unsupported", ""),
]


@pytest.mark.parametrize(("wrong", "place", "code", "hint"), WRONG, ids=lambda value: str(value)[:60])
async def test_a_rule_that_makes_no_sense_is_refused_with_its_place(
    desk: TestedApplication, wrong: dict[str, Any], place: str, code: str, hint: str
) -> None:
    admin = desk.client()
    rule = {"subject": "Clerk", "object": "Items", "action": "read", **wrong}
    refused = await admin.post(POLICIES, json=rule)
    assert refused.status_code == 422, refused.text
    assert (place, code) in faults(refused)
    assert hint in refused.text
    assert (await admin.get(POLICIES)).json()["count"] == 0


async def test_every_way_to_store_a_rule_judges_it(desk: TestedApplication) -> None:
    admin = desk.client()
    good = {"subject": "Clerk", "object": "Items", "action": "read"}
    bad = {**good, "object": "Itmes"}
    id = await made(admin, POLICIES, **good)
    tries = {
        "put": await admin.put(f"{POLICIES}/{id}", json=bad),
        "patch": await admin.patch(f"{POLICIES}/{id}", json={"object": "Itmes"}),
        "steps": await admin.patch(
            f"{POLICIES}/{id}",
            json=[{"op": "replace", "path": "/object", "value": "Itmes"}],
            headers={"Content-Type": "application/json-patch+json"},
        ),
        "batch": await admin.post(f"{POLICIES}/batch", json=[good, bad]),
        "by filter": await admin.post(
            f"{POLICIES}/batch",
            json={"operation": "patch", "filter": {"id": id}, "data": {"object": "Itmes"}, "max": 5},
        ),
        "operations": await admin.post(
            "/api/v1/batch", json=[{"operation": "create", "resource": "Policies", "data": bad}]
        ),
    }
    assert {name: one.status_code for name, one in tries.items()} == dict.fromkeys(tries, 422)
    assert ("1.object", "unknown_resource") in faults(tries["batch"])
    each = await admin.post(
        f"{POLICIES}/batch", json={"operation": "create", "items": [bad, good], "atomic": False}
    )
    assert [one["success"] for one in each.json()["data"]] == [False, True]
    assert (await admin.get(POLICIES)).json()["count"] == 2


# --- roles ------------------------------------------------------------------------------


async def test_a_role_holds_what_its_parents_hold(desk: TestedApplication) -> None:
    admin = desk.client()
    intern = await made(admin, ROLES, name="Intern")
    trainee = await made(admin, ROLES, name="Trainee", parentId=intern)
    await made(admin, ROLES, name="Guest", parentId=trainee)
    guest = desk.client(role="Guest")
    assert await names(guest) == {"pen", "lamp", "gift"}
    assert (await desk.client(role="Guest", tenant="beta").get(ITEMS)).status_code == 403
    assert (await admin.patch(f"{ROLES}/{trainee}", json={"parentId": None})).status_code == 200
    assert (await guest.get(ITEMS)).status_code == 403


async def test_parents_of_the_platforms_roles_hold_in_every_tenant(desk: TestedApplication) -> None:
    operator = desk.client(tenant="platform")
    intern = await made(operator, ROLES, name="Intern")
    await made(operator, ROLES, name="Visitor", parentId=intern)
    assert await names(desk.client(role="Visitor")) == {"pen", "lamp", "gift"}
    assert (await desk.client(role="Visitor", tenant="beta").get(ITEMS)).json()["count"] == 0
    admin = desk.client()
    for attempt in (
        admin.patch(f"{ROLES}/{intern}", json={"name": "Mine"}),
        admin.delete(f"{ROLES}/{intern}"),
    ):
        assert (await attempt).status_code == 403


async def test_roles_do_not_inherit_in_a_circle(desk: TestedApplication) -> None:
    admin = desk.client()
    first = await made(admin, ROLES, name="First")
    second = await made(admin, ROLES, name="Second", parentId=first)
    own = await admin.patch(f"{ROLES}/{first}", json={"parentId": first})
    both = await admin.patch(f"{ROLES}/{first}", json={"parentId": second})
    mixed = await admin.post(POLICIES, json={"ptype": "g", "subject": "First", "object": "Second"})
    for refused in (own, both, mixed):
        assert refused.status_code == 422, refused.text
        assert ("", "circle") in faults(refused)
    alone = await admin.post(POLICIES, json={"ptype": "g", "subject": "First", "object": "First"})
    assert alone.status_code == 422


async def test_a_role_that_is_called_public_inherits_nothing(desk: TestedApplication) -> None:
    admin = desk.client()
    parent = await made(admin, ROLES, name="Intern")
    everybody = await made(admin, ROLES, name="public")
    other = await made(admin, ROLES, name="Helper", parentId=parent)
    await admin.delete(f"{ROLES}/{everybody}")
    operator = desk.client(tenant="platform")
    everywhere = await made(operator, ROLES, name="Intern")
    tried = [
        await admin.post(ROLES, json={"name": "public", "parentId": parent}),
        await admin.patch(f"{ROLES}/{other}", json={"name": "public"}),
        await operator.post(ROLES, json={"name": "public", "parentId": everywhere}),
    ]
    for answer in tried:
        assert answer.status_code == 422, answer.text
        assert ("parentId", "unsupported") in faults(answer)


async def test_a_user_holds_the_roles_that_user_roles_give(desk: TestedApplication) -> None:
    admin, ada = desk.client(), desk.client(role="Nobody", user="ada")
    assert (await ada.get(ITEMS)).status_code == 403
    users = (await admin.get("/api/v1/users?filter[userName]=ada")).json()["data"]
    intern = await made(admin, ROLES, name="Intern")
    held = await made(admin, "/api/v1/user-roles", userId=users[0]["id"], roleId=intern)
    assert await names(ada) == {"pen", "lamp", "gift"}
    assert (await desk.client(role="Nobody", user="bob").get(ITEMS)).status_code == 403
    await admin.delete(f"/api/v1/user-roles/{held}")
    assert (await ada.get(ITEMS)).status_code == 403


# --- nobody grants what they lack ---------------------------------------------------------


async def deputy_of(desk: TestedApplication) -> httpx2.AsyncClient:
    """Somebody who may write every rule, and little else."""
    admin = desk.client()
    for object in ("Policies", "Roles", "UserRoles", "Users"):
        await made(admin, POLICIES, subject="Deputy", object=object, action="*")
    return desk.client(role="Deputy", user="deputy")


GIVEN: Final[list[tuple[dict[str, Any], str | None]]] = [
    ({"action": "read"}, "condition"),
    ({"action": "create"}, "action"),
    ({"action": "delete", "condition": {"price": 1}, "fields": ["name"]}, "action"),
    ({"action": "*", "condition": {"price": 1}, "fields": ["name"]}, "action"),
    ({"action": "ship:post", "condition": {"price": 1}, "fields": ["name"]}, "action"),
    ({"action": "list", "condition": {"price": {"lt": 11}}, "fields": ["name"]}, "condition"),
    ({"action": "list", "condition": {"price": {"lte": 10}}, "fields": ["name"]}, "condition"),
    ({"action": "list", "condition": {"price": {"ne": 3}}, "fields": ["name"]}, "condition"),
    ({"action": "list", "condition": {"price": {"isNull": True}}, "fields": ["name"]}, "condition"),
    ({"action": "list", "condition": {"name": "pen"}, "fields": ["name"]}, "condition"),
    ({"action": "list", "condition": {"not": {"price": {"gte": 10}}}, "fields": ["name"]}, "condition"),
    ({"action": "list", "condition": {"or": [{"price": 1}, {"name": "x"}]}, "fields": ["name"]}, "condition"),
    ({"action": "list", "condition": {"price": 1}}, "fields"),
    ({"action": "list", "condition": {"price": 1}, "fields": ["name", "status"]}, "fields"),
    ({"object": "*", "action": "list", "condition": {"createdAt": {"lt": "$now"}}}, "action"),
    ({"action": "read", "condition": {"price": {"lt": 10}}, "fields": ["name", "price"]}, None),
    ({"action": "list", "condition": {"price": {"lt": 5}}, "fields": ["name"]}, None),
    ({"action": "list", "condition": {"price": {"in": [1, 2]}}, "fields": ["name"]}, None),
    ({"action": "list", "condition": {"price": {"between": [1, 9]}}, "fields": ["name"]}, None),
    ({"action": "list", "condition": {"price": 1, "name": "x"}, "fields": []}, None),
    ({"action": "list", "condition": {"or": [{"price": 1}, {"price": 2}]}, "fields": ["name"]}, None),
    ({"action": "*", "effect": "deny"}, None),
]


@pytest.mark.parametrize(("rule", "lacks"), GIVEN, ids=lambda value: str(value)[:70])
async def test_a_rule_gives_no_more_than_its_author_has(
    desk: TestedApplication, rule: Mapping[str, Any], lacks: str | None
) -> None:
    deputy = await deputy_of(desk)
    answer = await deputy.post(POLICIES, json={"subject": "Clerk", "object": "Items", **rule})
    if lacks is None:
        assert answer.status_code == 201, answer.text
        return
    assert answer.status_code == 403, answer.text
    assert lacks in {field for field, _ in faults(answer)}
    assert (await deputy.get(POLICIES)).json()["count"] == 4


async def test_a_rule_is_not_widened_beyond_its_authors_right_either(desk: TestedApplication) -> None:
    deputy = await deputy_of(desk)
    narrow = {
        "subject": "Clerk",
        "object": "Items",
        "action": "list",
        "condition": {"price": 1},
        "fields": ["name"],
    }
    id = await made(deputy, POLICIES, **narrow)
    tries = [
        await deputy.patch(f"{POLICIES}/{id}", json={"condition": None}),
        await deputy.patch(f"{POLICIES}/{id}", json={"fields": None}),
        await deputy.patch(f"{POLICIES}/{id}", json={"action": "*"}),
        await deputy.put(f"{POLICIES}/{id}", json={"subject": "Clerk", "object": "Boxes", "action": "list"}),
        await deputy.post(
            f"{POLICIES}/batch",
            json={"operation": "patch", "filter": {"id": id}, "data": {"condition": None}, "max": 5},
        ),
        await deputy.post(f"{POLICIES}/batch", json=[{**narrow, "fields": None}]),
        await deputy.post(
            "/api/v1/batch",
            json=[{"operation": "patch", "resource": "Policies", "id": id, "data": {"fields": None}}],
        ),
    ]
    assert [one.status_code for one in tries] == [403] * len(tries)
    assert (await deputy.patch(f"{POLICIES}/{id}", json={"condition": {"price": 2}})).status_code == 200
    assert (await deputy.delete(f"{POLICIES}/{id}")).status_code == 204


async def test_a_file_of_rules_gives_no_more_than_its_author_has(desk: TestedApplication) -> None:
    deputy = await deputy_of(desk)
    good = {
        "subject": "Clerk",
        "object": "Items",
        "action": "list",
        "condition": {"price": 1},
        "fields": ["name"],
    }
    lines = [good, {**good, "condition": None}, {**good, "object": "Itmes"}]
    answer = await deputy.post(
        f"{POLICIES}/import",
        content="\n".join(map(json.dumps, lines)).encode(),
        headers={"Content-Type": "application/x-ndjson"},
    )
    stored = (await desk.client().get(f"{POLICIES}?filter[subject]=Clerk")).json()["data"]
    assert [one["condition"] for one in stored] == [{"price": 1}], answer.text


async def test_no_role_is_given_that_holds_more_than_its_giver(desk: TestedApplication) -> None:
    deputy, admin = await deputy_of(desk), desk.client()
    assert (await deputy.get(ITEMS)).status_code == 200
    me = (await admin.get("/api/v1/users?filter[userName]=deputy")).json()["data"][0]["id"]
    boss = await made(admin, ROLES, name="Admin")
    plain = await made(admin, ROLES, name="Plain")
    weak = {"subject": "Plain", "object": "Items", "action": "list", "condition": {"price": 1}, "fields": []}
    await made(admin, POLICIES, **weak)
    tries = [
        await deputy.post("/api/v1/user-roles", json={"userId": me, "roleId": boss}),
        await deputy.post(ROLES, json={"name": "Deputy", "parentId": boss}),
        await deputy.patch(f"{ROLES}/{plain}", json={"parentId": boss}),
        await deputy.post(POLICIES, json={"ptype": "g", "subject": "Deputy", "object": "Admin"}),
        await deputy.post(POLICIES, json={"ptype": "g", "subject": "*", "object": "Intern"}),
        await deputy.post(POLICIES, json={"ptype": "g", "subject": f"user:{me}", "object": "Admin"}),
    ]
    assert [one.status_code for one in tries] == [403] * len(tries)
    held = await deputy.post("/api/v1/user-roles", json={"userId": me, "roleId": plain})
    assert held.status_code == 201, held.text
    # The name is the right: whoever holds the role would hold another one.
    assert (await deputy.patch(f"{ROLES}/{plain}", json={"name": "Boss"})).status_code == 200
    assert (await deputy.patch(f"{ROLES}/{plain}", json={"name": "Intern"})).status_code == 403


async def test_a_deny_is_taken_away_only_by_whom_it_does_not_bind(desk: TestedApplication) -> None:
    admin = desk.client()
    intern = await made(admin, POLICIES, subject="Intern", object="Items", action="read", effect="deny")
    all = await made(
        admin,
        POLICIES,
        subject="*",
        object="Items",
        action="list",
        effect="deny",
        condition={"price": {"gt": 30}},
    )
    assert await names(admin) == {"pen"}
    weaker = {"condition": {"price": {"gt": 90}}}
    for attempt in (
        admin.delete(f"{POLICIES}/{all}"),
        admin.patch(f"{POLICIES}/{all}", json=weaker),
        admin.patch(f"{POLICIES}/{all}", json={"effect": "allow"}),
        admin.patch(f"{POLICIES}/{all}", json={"subject": "Intern"}),
        admin.post(POLICIES, json={"subject": "Clerk", "object": "Items", "action": "read"}),
    ):
        refused = await attempt
        assert refused.status_code == 403, refused.text
    assert await names(admin) == {"pen"}
    assert (await admin.delete(f"{POLICIES}/{intern}")).status_code == 403, (
        "it would give back what is denied"
    )
    narrow = {"subject": "Clerk", "object": "Items", "action": "list", "condition": {"price": {"lte": 30}}}
    await made(admin, POLICIES, **narrow)
    # An operator is bound by the manifest, whatever a tenant denies.
    operator = desk.client(tenant="platform")
    assert (await operator.delete(f"{POLICIES}/{all}", headers={"X-Tenant": "acme"})).status_code == 204
    assert (await admin.delete(f"{POLICIES}/{intern}")).status_code == 204
    assert await names(admin) == {"pen", "lamp", "gift"}


async def test_a_role_that_denies_is_not_shaken_off(desk: TestedApplication) -> None:
    admin = desk.client()
    barred = await made(admin, ROLES, name="Barred")
    await made(admin, POLICIES, subject="Barred", object="Items", action="read", effect="deny")
    intern = await made(admin, ROLES, name="Intern", parentId=barred)
    assert (await desk.client(role="Intern").get(ITEMS)).status_code == 403
    deputy = await deputy_of(desk)
    for attempt in (
        deputy.patch(f"{ROLES}/{intern}", json={"parentId": None}),
        deputy.delete(f"{ROLES}/{barred}"),
        deputy.delete(f"{ROLES}/{intern}"),
    ):
        refused = await attempt
        assert refused.status_code == 403, refused.text
    assert (await admin.get(f"{ROLES}/{intern}")).json()["data"]["parentId"] == barred
    assert (await admin.patch(f"{ROLES}/{intern}", json={"parentId": None})).status_code == 200
    assert await names(desk.client(role="Intern")) == {"pen", "lamp", "gift"}


async def test_a_key_gives_no_more_than_it_may_do_itself(desk: TestedApplication) -> None:
    answer = await desk.client().post(
        "/api/v1/api-keys", json={"name": "ci", "operations": ["Policies:*", "Items:list"]}
    )
    assert answer.status_code == 201, answer.text
    key = desk.client(role=None, headers={"Authorization": f"Bearer {answer.json()['data']['key']}"})
    rule = {"subject": "Clerk", "object": "Items"}
    for action in ("read", "write", "*", "delete"):
        refused = await key.post(POLICIES, json={**rule, "action": action})
        assert refused.status_code == 403, refused.text
        assert ("action", "forbidden") in faults(refused)
    await made(key, POLICIES, **rule, action="list")


async def test_nobody_takes_from_himself_the_right_to_undo_it(desk: TestedApplication) -> None:
    admin = desk.client()
    for rule in (
        {"subject": "Admin", "object": "Policies", "action": "*", "effect": "deny"},
        {"subject": "*", "object": "*", "action": "write", "effect": "deny"},
        {"subject": "Admin", "object": "Policies", "action": "delete", "effect": "deny"},
    ):
        refused = await admin.post(POLICIES, json=rule)
        assert refused.status_code == 409, refused.text
    await made(admin, POLICIES, subject="Clerk", object="Policies", action="*", effect="deny")


async def test_rules_of_the_platform_and_of_others_are_not_there(desk: TestedApplication) -> None:
    operator, beta = desk.client(tenant="platform"), desk.client(tenant="beta")
    admin = desk.client()
    rule = {"subject": "Clerk", "object": "Items", "action": "read"}
    for client in (operator, beta):
        id = await made(client, POLICIES, **rule)
        for attempt in (
            admin.get(f"{POLICIES}/{id}"),
            admin.patch(f"{POLICIES}/{id}", json={"effect": "deny"}),
            admin.delete(f"{POLICIES}/{id}"),
        ):
            assert (await attempt).status_code == 404
    assert (await admin.get(POLICIES)).json()["count"] == 0
    assert (await desk.client(role="Clerk").get(ITEMS)).status_code == 403


# --- list and read, presets, audiences ----------------------------------------------------


async def test_a_list_obeys_the_rules_about_lists(desk: TestedApplication) -> None:
    admin, intern = desk.client(), desk.client(role="Intern")
    deny = {"subject": "Intern", "object": "Items", "action": "list", "effect": "deny"}
    await made(admin, POLICIES, **deny, condition={"price": {"gt": 30}})
    await made(admin, POLICIES, **deny, fields=["status"])
    assert await names(intern) == {"pen"}
    for suffix in ("?count=exact", "?aggregate=count"):
        assert (await intern.get(ITEMS + suffix)).json().get("count", 1) == 1
    assert (await intern.get(f"{ITEMS}?filter[status]=draft")).status_code == 400
    asked = await intern.post("/api/v1/batch", json=[{"operation": "list", "resource": "Items", "data": {}}])
    assert [one["name"] for one in asked.json()["data"][0]] == ["pen"]
    lamp = (await admin.get(f"{ITEMS}?filter[name]=lamp")).json()["data"][0]["id"]
    assert (await intern.get(f"{ITEMS}/{lamp}")).json()["data"]["status"] == "draft"


async def test_a_preset_fills_what_is_left_out_and_bounds_what_is_sent(desk: TestedApplication) -> None:
    clerk, admin = desk.client(role="Clerk", user="carl"), desk.client()
    me = (await desk.client(user="carl").get("/api/v1/users?filter[userName]=carl")).json()["data"][0]["id"]
    id = await made(clerk, ITEMS, name="a")
    stored = (await admin.get(f"{ITEMS}/{id}")).json()["data"]
    assert (stored["status"], stored["makerId"]) == ("live", me)
    await made(clerk, ITEMS, name="b", status="live", makerId=me)
    for wrong in ({"status": "draft"}, {"makerId": me + 1}, {"makerId": None}):
        refused = await clerk.post(ITEMS, json={"name": "c", **wrong})
        assert refused.status_code == 403, refused.text
    typist = desk.client(role="Typist")
    typed = await made(typist, ITEMS, price=3)
    assert (await admin.get(f"{ITEMS}/{typed}")).json()["data"]["name"] == "typed"
    assert (await typist.post(ITEMS, json={"name": "typed"})).status_code == 201
    assert (await typist.post(ITEMS, json={"name": "other"})).status_code == 403
    assert (await typist.post(ITEMS, json={"status": "live"})).status_code == 403
    # Somebody whose other role is bound to nothing may write anything, but what is left out is filled in.
    both = desk.client(role=["Admin", "Clerk"])
    id = await made(both, ITEMS, name="d", makerId=5)
    stored = (await admin.get(f"{ITEMS}/{id}")).json()["data"]
    assert (stored["status"], stored["makerId"]) == ("live", 5)


async def test_presets_reach_every_way_to_create(desk: TestedApplication) -> None:
    admin, clerk = desk.client(), desk.client(role="Clerk")
    await made(admin, POLICIES, subject="Clerk", object="Items", action="batch")
    await made(admin, POLICIES, subject="Clerk", object="Items", action="read")
    many = await clerk.post(f"{ITEMS}/batch", json=[{"name": "e"}, {"name": "f"}])
    asked = await clerk.post(
        "/api/v1/batch", json=[{"operation": "create", "resource": "Items", "data": {"name": "g"}}]
    )
    assert [one["status"] for one in many.json()["data"]] == ["live", "live"]
    assert asked.json()["data"][0]["status"] == "live"
    nested = await clerk.post("/api/v1/boxes", json={"title": "x", "lids": [{}, {"color": "red"}]})
    assert [one["color"] for one in nested.json()["data"]["lids"]] == ["red", "red"]
    refused = await clerk.post("/api/v1/boxes", json={"lids": [{"color": "blue"}]})
    assert refused.status_code == 403, refused.text
    typist, lines = desk.client(role="Typist"), {"Content-Type": "text/csv"}
    sent = await typist.post(f"{ITEMS}/import", content="price\n3\n4\n", headers=lines)
    assert sent.status_code == 200 and sent.json()["data"]["created"] == 2, sent.text
    assert (await admin.get(f"{ITEMS}?filter[name]=typed")).json()["count"] == 2
    lacking = await admin.post(f"{ITEMS}/import", content="price\n3\n", headers=lines)
    assert lacking.status_code == 422, lacking.text


async def test_a_field_is_shown_to_its_audience_only(desk: TestedApplication) -> None:
    admin = desk.client()
    id = await made(admin, ITEMS, name="tool", report="fine", recipe="salt")
    shown = {
        "Admin": {"report"},
        "Intern": {"report"},
        "Inspector": set(),
    }
    for role, fields in shown.items():
        answer = await desk.client(role=role).get(f"{ITEMS}/{id}")
        assert set(answer.json().get("data", {})) & {"report", "recipe"} == fields, role
    both = (await desk.client(role=["Intern", "Inspector"]).get(f"{ITEMS}/{id}")).json()["data"]
    assert (both["report"], both["recipe"]) == ("fine", "salt")
    # An operator is signed in elsewhere: no audience without the role.
    operator = desk.client(tenant="platform")
    seen = (await operator.get(f"{ITEMS}/{id}", headers={"X-Tenant": "acme"})).json()["data"]
    assert not {"report", "recipe"} & set(seen)
    # Nor does a role of that name make an owner of somebody.
    called_so = desk.client(tenant="platform", role=["Admin", "owner"])
    seen = (await called_so.get(f"{ITEMS}/{id}", headers={"X-Tenant": "acme"})).json()["data"]
    assert not {"report", "recipe"} & set(seen)
    unknown = await admin.get(f"{ITEMS}?filter[recipe]=salt")
    assert unknown.status_code == 400
    assert unknown.json()["error"]["details"][0]["code"] == "unknown_field"


async def test_nobody_gives_a_role_whose_fields_are_not_meant_for_himself(desk: TestedApplication) -> None:
    admin = desk.client()
    id = await made(admin, ITEMS, name="tool", recipe="salt")
    inspector, other = await made(admin, ROLES, name="Inspector"), await made(admin, ROLES, name="Guest")
    me = (await admin.get("/api/v1/users?fields=id")).json()["data"][0]["id"]
    held = await made(admin, "/api/v1/user-roles", userId=me, roleId=other)
    link = {"ptype": "g", "subject": "Intern", "object": "Inspector"}
    tried = [
        await admin.post("/api/v1/user-roles", json={"userId": me, "roleId": inspector}),
        await admin.patch(f"/api/v1/user-roles/{held}", json={"roleId": inspector}),
        await admin.post(POLICIES, json=link),
        await admin.patch(f"{ROLES}/{other}", json={"parentId": inspector}),
        await admin.post(f"{ROLES}/batch", json=[{"name": "Aide", "parentId": inspector}]),
    ]
    for answer in tried:
        assert answer.status_code == 403, answer.text
        (detail,) = answer.json()["error"]["details"]
        assert "'recipe' of Items is meant for Inspector" in detail["message"]
    assert "recipe" not in (await admin.get(f"{ITEMS}/{id}")).json()["data"]
    both = desk.client(role=["Admin", "Inspector"])
    await made(both, POLICIES, **link)
    assert (await desk.client(role="Intern").get(f"{ITEMS}/{id}")).json()["data"]["recipe"] == "salt"


async def test_steps_empty_a_field_whose_value_is_hidden(desk: TestedApplication) -> None:
    admin = desk.client()
    id = await made(admin, ITEMS, name="vase", price=90)
    await made(admin, POLICIES, subject="Intern", object="Items", action="write")
    rule = {"subject": "Intern", "object": "Items", "action": "read", "effect": "deny"}
    await made(admin, POLICIES, **rule, fields=["price"], condition={"price": {"gt": 10}})
    intern = desk.client(role="Intern")
    assert (await intern.get(f"{ITEMS}/{id}")).json()["data"]["price"] is None
    steps = json.dumps([{"op": "replace", "path": "/price", "value": None}])
    headers = {"Content-Type": "application/json-patch+json"}
    answer = await intern.patch(f"{ITEMS}/{id}", content=steps, headers=headers)
    assert answer.status_code == 200, answer.text
    assert (await admin.get(f"{ITEMS}/{id}")).json()["data"]["price"] is None
