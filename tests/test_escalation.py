"""What somebody who may change rules or make keys does to get more than he has, and does not get it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.computing import computing
from tests.worlds import build

NAME = {"type": "string", "required": True}
MANIFEST = {
    "resources": [
        {
            "name": "Things",
            "fields": {
                "name": {**NAME, "index": True},
                "price": {"type": "integer", "index": True},
                "margin": {"type": "integer"},
                "pin": {"type": "string", "writeOnly": True},
                "kindId": {"references": "Kinds"},
                "contact": {"type": "string"},
            },
            "access": {
                "read": [
                    "Admin",
                    "Viewer",
                    {"roles": ["HR"], "filter": {"contact": "$user.email"}},
                    {"roles": ["IT"], "filter": {"contact": "$user.userName"}},
                ],
                "write": ["Admin", "Editor"],
            },
        },
        {
            "name": "Kinds",
            "fields": {"name": NAME, "level": {"type": "integer"}},
            "relations": {"things": {"resource": "Things", "foreignField": "kindId"}},
            "access": {"read": ["Admin", {"roles": ["Clerk"], "filter": {"level": 1}}], "write": ["Admin"]},
        },
    ],
    "include": ["byodpp:keys", "byodpp:access", "byodpp:tenancy"],
}
THINGS, KEYS, POLICIES = "/api/v1/things", "/api/v1/api-keys", "/api/v1/policies"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("escalation"), MANIFEST)


@pytest_asyncio.fixture(loop_scope="session")
async def tested(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as application:
        yield application


async def post(client: httpx2.AsyncClient, url: str, body: Any = None, status: int = 201) -> Any:
    answer = await client.post(url, json=body, headers={})
    assert answer.status_code == status, answer.text
    document = answer.json()
    return document["data"] if status < 400 else document["error"]


async def names(client: httpx2.AsyncClient) -> list[str]:
    answer = await client.get(f"{THINGS}?fields=name&sort=name")
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.json()["data"]]


def by_key(tested: TestedApplication, made: dict[str, Any]) -> httpx2.AsyncClient:
    return tested.client(role=None, headers={"Authorization": f"Bearer {made['key']}"})


def places(error: dict[str, Any]) -> set[str]:
    return {detail["field"] for detail in error["details"]}


async def things(tested: TestedApplication) -> httpx2.AsyncClient:
    """Three things, one without a price; returns the Admin."""
    admin = tested.client(role="Admin", user="ann")
    for name, price in (("a", None), ("b", 5), ("c", 200)):
        await post(admin, THINGS, {"name": name, "price": price, "margin": price, "pin": f"P{price}"})
    return admin


# --- rules ---


async def test_rows_without_a_value_are_not_given_by_who_lacks_them(tested: TestedApplication) -> None:
    admin = await things(tested)
    operator = tested.client(role="Admin", tenant="platform", headers={"X-Tenant": "acme"})
    deny = {"object": "Things", "action": "read", "effect": "deny", "condition": {"price": {"isNull": True}}}
    await post(operator, POLICIES, {"subject": "Admin", **deny})
    assert await names(admin) == ["b", "c"]
    for condition in ({"price": {"ne": 0}}, {"price": {"nin": [0, 1]}}):
        rule = {"subject": "Editor", "object": "Things", "action": "read", "condition": condition}
        assert places(await post(admin, POLICIES, rule, 403)) == {"condition"}
    given = {"subject": "Editor", "object": "Things", "action": "read", "condition": {"price": {"gt": 9}}}
    await post(admin, POLICIES, given)
    assert await names(tested.client(role="Editor", user="ed")) == ["c"]


async def test_a_field_that_is_shown_in_every_row_that_its_author_reads_may_be_compared(
    tested: TestedApplication,
) -> None:
    admin = await things(tested)
    await post(admin, "/api/v1/roles", {"name": "Deputy"})
    await post(admin, POLICIES, {"subject": "Deputy", "object": "Policies", "action": "*"})
    dear = {"subject": "Deputy", "object": "Things", "action": "read", "condition": {"price": {"gt": 1}}}
    await post(admin, POLICIES, {**dear, "fields": ["name"]})
    await post(admin, POLICIES, {**dear, "fields": ["name", "price"]})
    deputy = tested.client(role="Deputy", user="dora")
    rule = {"subject": "Editor", "object": "Things", "action": "read", "condition": {"price": {"gt": 9}}}
    await post(deputy, POLICIES, {**rule, "fields": ["name", "price"]})
    assert await names(tested.client(role="Editor", user="ed")) == ["c"]
    # But not where he reads others without it.
    await post(admin, POLICIES, {**dear, "condition": {"price": {"isNull": True}}, "fields": ["name"]})
    assert places(await post(deputy, POLICIES, {**rule, "fields": ["name"]}, 403)) == {"condition.price"}


async def clerk_of(tested: TestedApplication, admin: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """Somebody who may change rules, and reads names and prices of things, and kinds of level 1."""
    await post(admin, "/api/v1/roles", {"name": "Clerk"})
    own = {"subject": "Clerk", "object": "Things", "action": "read", "fields": ["name", "price", "kindId"]}
    for rule in ({"subject": "Clerk", "object": "Policies"}, own):
        await post(admin, POLICIES, rule)
    return tested.client(role="Clerk", user="cleo")


@pytest.mark.parametrize(
    ("condition", "place"),
    [
        ({"margin": 5}, "condition.margin"),
        ({"price": 5, "or": [{"margin": {"gt": 7}}, {"name": "a"}]}, "condition.margin"),
        ({"not": {"margin": {"isNull": True}}}, "condition.margin"),
        ({"pin": "P5"}, "condition.pin"),
        ({"kind.name": "x"}, "condition.kind.name"),
        ({"kind.level": 1}, "condition.kind.level"),
    ],
    ids=str,
)
@pytest.mark.parametrize("effect", ["deny", "allow"])
async def test_no_rule_tells_its_author_what_he_cannot_read(
    tested: TestedApplication, condition: dict[str, Any], place: str, effect: str
) -> None:
    admin = await things(tested)
    clerk = await clerk_of(tested, admin)
    rule = {"subject": "Clerk", "object": "Things", "action": "read", "fields": ["name"], "effect": effect}
    refused = await post(clerk, POLICIES, {**rule, "condition": condition}, 403)
    assert places(refused) == {place}
    assert await names(clerk) == ["a", "b", "c"]


async def test_the_rows_behind_a_relation_are_no_way_around_it(tested: TestedApplication) -> None:
    admin = await things(tested)
    clerk = await clerk_of(tested, admin)
    rule = {"subject": "Clerk", "object": "Kinds", "action": "read", "effect": "deny"}
    refused = await post(clerk, POLICIES, {**rule, "condition": {"things": {"some": {"margin": 5}}}}, 403)
    assert places(refused) == {"condition.things.margin"}
    # Of his own rows he may speak, and of those of others that he reads all of.
    await post(clerk, POLICIES, {**rule, "condition": {"level": 3}})
    await post(clerk, POLICIES, {**rule, "condition": {"things": {"some": {"price": 5}}}})


async def test_nobody_learns_by_a_rule_where_a_reference_leads_that_he_cannot_read(
    tested: TestedApplication,
) -> None:
    admin = await things(tested)
    await post(admin, "/api/v1/roles", {"name": "Clark"})
    for rule in (
        {"object": "Policies"},
        {"object": "Things", "action": "read", "fields": ["name"]},
        {"object": "Kinds", "action": "read"},
    ):
        await post(admin, POLICIES, {"subject": "Clark", **rule})
    clark = tested.client(role="Clark", user="clark")
    deny = {"subject": "Clark", "action": "read", "effect": "deny"}
    to_one = {**deny, "object": "Things", "condition": {"kind.name": "x"}}
    assert places(await post(clark, POLICIES, to_one, 403)) == {"condition.kind"}
    to_many = {**deny, "object": "Kinds", "condition": {"things": {"some": {"name": "a"}}}}
    assert places(await post(clark, POLICIES, to_many, 403)) == {"condition.things"}
    there_and_back = {**deny, "object": "Kinds", "condition": {"things": {"some": {"kind.level": 1}}}}
    refused = await post(clark, POLICIES, there_and_back, 403)
    assert places(refused) == {"condition.things", "condition.things.kind"}
    # Who reads the reference may.
    given = {"subject": "Clark", "object": "Things", "action": "read", "fields": ["kindId"]}
    await post(admin, POLICIES, given)
    for body in (to_one, to_many, there_and_back):
        made = await post(clark, POLICIES, body)  # by it he sees fewer rows, and may compare fewer
        assert (await admin.delete(f"{POLICIES}/{made['id']}")).status_code == 204


async def test_the_operations_of_a_key_bound_what_its_rules_compare(tested: TestedApplication) -> None:
    admin = await things(tested)
    made = await post(admin, KEYS, {"name": "k", "operations": ["Policies:*", "Things:list"]})
    key = by_key(tested, made)
    deny = {"subject": "Admin", "object": "Things", "action": "list", "effect": "deny"}
    refused = await post(key, POLICIES, {**deny, "condition": {"kind.name": "x"}}, 403)
    assert places(refused) == {"condition.kind.name"}
    await post(key, POLICIES, {**deny, "condition": {"name": "b"}})
    assert await names(key) == ["a", "c"]


async def longest_turn(done: asyncio.Event) -> float:
    """CPU seconds that the process has worked at most before this task had its turn again."""
    longest = 0.0
    while not done.is_set():
        with computing() as turn:
            await asyncio.sleep(0)
        longest = max(longest, turn.seconds)
    return longest


async def test_many_rules_are_judged_while_others_are_served(tested: TestedApplication) -> None:
    admin, done = await things(tested), asyncio.Event()
    many = {"or": [{"createdAt": {"gt": "2020-01-01T00:00:00Z"}}] * 90}
    rule = {"subject": "Viewer", "object": "*", "action": "read", "effect": "deny", "condition": many}
    turns = asyncio.create_task(longest_turn(done))
    try:
        answer = await admin.post(f"{POLICIES}/batch", json=[rule] * 30)
    finally:
        done.set()
    assert answer.status_code == 201, answer.text
    assert await turns < 0.5


async def test_of_many_comparisons_that_are_hidden_some_are_told(tested: TestedApplication) -> None:
    clerk = await clerk_of(tested, await things(tested))
    deny = {"subject": "Clerk", "object": "Things", "action": "read", "effect": "deny"}
    condition = {"or": [{"margin": 5}, {"pin": "P5"}, {"kind.name": "x"}]}
    error = await post(clerk, f"{POLICIES}/batch", [{**deny, "condition": condition}] * 30, 403)
    assert places(error) == {"0.condition.margin", "0.condition.pin", "0.condition.kind.name"}
    assert len(error["details"]) == 3


async def test_the_rules_of_a_tenant_have_so_many_characters(tested: TestedApplication) -> None:
    admin = await things(tested)
    long = {"name": {"in": [str(number).rjust(250, "x") for number in range(100)]}}
    rule = {"subject": "Viewer", "object": "Things", "action": "read", "effect": "deny", "condition": long}
    kept = [await post(admin, POLICIES, rule) for _ in range(10)]
    error = await post(admin, POLICIES, rule, 409)
    assert "at most 262144 characters" in error["message"]
    short = await admin.patch(f"{POLICIES}/{kept[0]['id']}", json={"condition": {"name": "b"}})
    assert short.status_code == 200, short.text
    await post(admin, POLICIES, rule)


async def test_the_field_lists_of_a_tenants_rules_are_bounded_too(tested: TestedApplication) -> None:
    admin = await things(tested)
    rule = {"subject": "Viewer", "object": "Things", "action": "read", "effect": "deny"}
    kept = await post(admin, POLICIES, {**rule, "fields": ["name"]})
    async with tested.connected.database.system() as transaction:
        await transaction.execute(
            "update policies set fields = (select to_jsonb(array_agg(repeat('x', 1000)))"
            " from generate_series(1, 1050)) where id = $1", kept["id"],
        )  # fmt: skip
    error = await post(admin, POLICIES, {**rule, "fields": ["name"]}, 409)
    assert "field lists of a tenant's rules have at most 1048576 characters" in error["message"]
    twice = await post(admin, POLICIES, {**rule, "fields": ["name", "name"]}, 422)
    assert places(twice) == {"fields"}


async def test_nobody_reads_what_is_only_written_by_a_rule_about_it(tested: TestedApplication) -> None:
    admin = await things(tested)
    operator = tested.client(role="Admin", tenant="platform", headers={"X-Tenant": "acme"})
    rule = {"subject": "Viewer", "object": "Things", "action": "read", "effect": "deny"}
    for author in (admin, operator):
        assert places(await post(author, POLICIES, {**rule, "condition": {"pin": "P5"}}, 403)) == {
            "condition.pin"
        }
    await post(admin, POLICIES, {**rule, "condition": {"margin": 5}})
    assert await names(tested.client(role="Viewer", user="vi")) == ["c"]


async def test_a_tenant_has_so_many_rules_and_no_more(tested: TestedApplication) -> None:
    admin = await things(tested)
    rule = {"subject": "Viewer", "object": "Things", "action": "read"}
    kept = await post(admin, POLICIES, rule)
    async with tested.connected.database.system() as transaction:
        await transaction.execute(
            "insert into policies (tenant_id, subject, object, action)"
            " select tenant_id, subject, object, action"
            " from policies, generate_series(2, 2000) where id = $1", kept["id"],
        )  # fmt: skip
    error = await post(admin, POLICIES, rule, 409)
    assert "at most 2000 rules" in error["message"]
    assert (await admin.delete(f"{POLICIES}/{kept['id']}")).status_code == 204
    await post(admin, POLICIES, rule)


# --- keys ---


async def test_a_key_gets_no_other_keys_secret(tested: TestedApplication) -> None:
    admin = await things(tested)
    strong = await post(admin, KEYS, {"name": "strong"})
    weak = await post(admin, KEYS, {"name": "weak", "roles": []})
    error = await post(by_key(tested, weak), f"{KEYS}/{strong['id']}/rotate", None, 403)
    assert "no other key's" in error["message"]
    assert await names(by_key(tested, strong)) == ["a", "b", "c"]
    renewed = await post(by_key(tested, weak), f"{KEYS}/{weak['id']}/rotate", None, 200)
    assert renewed["key"] != weak["key"]
    assert (await by_key(tested, weak).get(THINGS)).status_code == 401
    assert (await by_key(tested, renewed).get(THINGS)).status_code == 403


async def test_a_lesser_token_gets_no_stronger_keys_secret(tested: TestedApplication) -> None:
    admin = await things(tested)
    strong = await post(tested.client(role="Admin", user="hugo"), KEYS, {"name": "strong"})
    weak = tested.client(role="Viewer", user="hugo")
    error = await post(weak, f"{KEYS}/{strong['id']}/rotate", None, 403)
    assert "no roles that its maker lacks" in error["message"]
    assert (await by_key(tested, strong).delete(f"{THINGS}/1")).status_code == 204, "its secret is as it was"
    own = await post(weak, KEYS, {"name": "own"})
    await post(weak, f"{KEYS}/{own['id']}/rotate", None, 200)
    assert len(await names(admin)) == 2


async def test_a_key_without_a_role_has_not_what_its_maker_was_given(tested: TestedApplication) -> None:
    admin, maker = await things(tested), tested.client(role="Viewer", user="vi")
    await post(maker, THINGS, {"name": "x"}, 403)
    user = max(one["id"] for one in (await admin.get("/api/v1/users")).json()["data"])
    role = await post(admin, "/api/v1/roles", {"name": "Extra"})
    await post(admin, POLICIES, {"subject": "Extra", "object": "Things", "action": "create"})
    held = await post(admin, "/api/v1/user-roles", {"userId": user, "roleId": role["id"]})
    await post(admin, POLICIES, {"subject": f"user:{user}", "object": "Kinds", "action": "read"})
    await post(maker, THINGS, {"name": "x"})
    whole = await post(maker, KEYS, {"name": "whole"})
    assert (whole["roles"], whole["makerRoles"]) == (["Extra", "Viewer"], ["Viewer"])
    some = await post(maker, KEYS, {"name": "some", "roles": ["Viewer"]})
    extra = await post(maker, KEYS, {"name": "extra", "roles": ["Extra"]})
    await post(by_key(tested, some), THINGS, {"name": "y"}, 403)
    for made in (whole, extra):
        await post(by_key(tested, made), THINGS, {"name": "z"})
    assert (await by_key(tested, extra).get(THINGS)).status_code == 403
    # What he himself may do, because a rule names him, is no role, and no key's.
    assert (await maker.get("/api/v1/kinds")).status_code == 200
    assert (await by_key(tested, whole).get("/api/v1/kinds")).status_code == 403
    # Who gave the role to the user takes it from the user's keys, too.
    assert (await admin.delete(f"/api/v1/user-roles/{held['id']}")).status_code == 204
    for made in (whole, extra):
        await post(by_key(tested, made), THINGS, {"name": "late"}, 403)


async def test_what_is_denied_to_its_maker_is_denied_to_a_key(tested: TestedApplication) -> None:
    admin = await things(tested)
    maker = tested.client(role=["Admin", "Restricted"], user="rita")
    await post(admin, "/api/v1/roles", {"name": "Restricted"})
    key = by_key(tested, await post(maker, KEYS, {"name": "k", "roles": ["Admin"]}))
    assert await names(key) == ["a", "b", "c"]
    deny = {"object": "Things", "action": "read", "effect": "deny", "condition": {"name": "b"}}
    await post(admin, POLICIES, {"subject": "Restricted", **deny})
    assert await names(maker) == await names(key) == ["a", "c"]
    user = max(one["id"] for one in (await admin.get("/api/v1/users")).json()["data"])
    await post(admin, POLICIES, {"subject": f"user:{user}", **deny, "condition": {"name": "c"}})
    assert await names(maker) == await names(key) == ["a"]


@pytest.mark.parametrize(
    ("role", "own", "other"),
    [("HR", "hugo@acme.example", "boss@acme.example"), ("IT", "hugo", "boss")],
)
async def test_a_key_is_who_its_makers_token_said_and_nobody_of_users(
    tested: TestedApplication, role: str, own: str, other: str
) -> None:
    admin = tested.client(role="Admin", user="ann")
    for name, contact in (("mine", own), ("theirs", other)):
        await post(admin, THINGS, {"name": name, "contact": contact})
    for name in ("HR", "IT"):
        await post(admin, "/api/v1/roles", {"name": name})
    claims = {"email": "hugo@acme.example", "email_verified": True, "preferred_username": "hugo"}
    token = tested.token(role=role, tenant="acme", user="hugo", **claims)
    hugo = tested.client(role=None, headers={"Authorization": f"Bearer {token}"})
    assert await names(hugo) == ["mine"]
    user = max(one["id"] for one in (await admin.get("/api/v1/users")).json()["data"])
    written = {"email": "boss@acme.example", "userName": "boss"}
    assert (await admin.patch(f"/api/v1/users/{user}", json=written)).status_code == 200
    made = await post(hugo, KEYS, {"name": "k"})
    assert (made["makerEmail"], made["makerUserName"]) == ("hugo@acme.example", "hugo")
    key = by_key(tested, made)
    assert await names(key) == await names(hugo) == ["mine"]
    # A key from before says nothing of its maker, and unknown never allows.
    async with tested.connected.database.system() as transaction:
        await transaction.execute("update api_keys set maker_email = null, maker_user_name = null")
    again = await post(key, f"{KEYS}/{made['id']}/rotate", None, 200)
    assert await names(by_key(tested, again)) == []


async def test_an_address_that_nobody_has_verified_is_no_keys(tested: TestedApplication) -> None:
    admin = tested.client(role="Admin", user="ann")
    await post(admin, THINGS, {"name": "theirs", "contact": "boss@acme.example"})
    await post(admin, "/api/v1/roles", {"name": "HR"})
    claims = {"email": "boss@acme.example", "email_verified": False}
    token = tested.token(role="HR", tenant="acme", user="hugo", **claims)
    hugo = tested.client(role=None, headers={"Authorization": f"Bearer {token}"})
    made = await post(hugo, KEYS, {"name": "k"})
    assert made["makerEmail"] is None
    assert await names(by_key(tested, made)) == await names(hugo) == []
