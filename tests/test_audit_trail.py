"""What the audit trail tells beside changes: refusals, failed sign-ins, readings of controlled fields."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from byodpp.audit.notes import Note, claimed_realm
from byodpp.audit.trail import DROPPED, AuditTrail
from byodpp.bootstrap import Application, Blueprint
from byodpp.exceptions import Unavailable
from byodpp.testing import Bench, TestedApplication
from tests.sent_statements import logging_statements
from tests.worlds import build

NAME = {"type": "string", "required": True, "index": True}
SEEN = {"name": {"ne": "hidden"}}
OPEN = {"read": ["*"], "write": ["*"]}
LOGIC = """
from byodpp.logics import Logic


class People(Logic):
    resource, action = "Teams", "people:post"

    async def execute(self):
        hidden = await self.system["People"].list()
        seen = await self.repositories["People"].list(fields="id,email")
        return {"hidden": len(hidden), "seen": len(seen)}


class Refuse(Logic):
    resource, action = "Teams", "refuse:post"

    async def execute(self):
        return await self.repositories["Vaults"].read(self.request.params["id"])
"""
MANIFEST = {
    "resources": [
        {
            "name": "People",
            "audit": True,
            "history": True,
            "versioned": True,
            "softDelete": True,
            "fields": {
                "name": NAME,
                "email": {"type": "string", "index": True, "controlled": True, "personal": True},
                "salary": {"type": "integer", "filterable": True, "controlled": True},
                "pin": {"type": "string", "writeOnly": True},
                "notes": {"type": "json", "personal": True},
                "body": {
                    "type": "object",
                    "properties": {
                        "height": {"type": "integer"},
                        "inner": {
                            "type": "object",
                            "properties": {"blood": {"type": "string", "personal": True}},
                        },
                    },
                },
                "kin": {"type": "array", "items": {"type": "string", "personal": True}},
                "teamId": {"references": "Teams"},
            },
            "access": {
                "read": ["Admin", {"roles": ["Viewer"], "filter": SEEN, "fields": ["id", "name"]}],
                "write": ["Admin", {"roles": ["Editor"], "filter": SEEN}],
            },
        },
        {
            "name": "Teams",
            "fields": {"name": NAME},
            "relations": {"people": {"resource": "People", "foreignField": "teamId"}},
            "routes": {
                "actions": [
                    {"url": "/api/v1/teams/{id}/people", "method": "post"},
                    {"url": "/api/v1/teams/{id}/refuse", "method": "post"},
                ]
            },
            "access": {"read": ["*"], "write": ["Admin", "Editor"]},
        },
        {"name": "Vaults", "fields": {"name": NAME}},
        {"name": "Drawers", "scope": "user", "id": "uuid7", "fields": {"name": NAME}, "access": OPEN},
    ],
    "include": ["byodpp:audit", "byodpp:access"],
}  # fmt: skip
PEOPLE, TEAMS = "/api/v1/people", "/api/v1/teams"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("trail"), MANIFEST, {"logics/v1/teams/people.py": LOGIC})


@pytest_asyncio.fixture(loop_scope="session")
async def tested(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint, tenant_settle_seconds=0) as application:
        yield application


async def entries(tested: TestedApplication, tenant: str = "acme", **like: Any) -> list[Mapping[str, Any]]:
    """Return the trail of a tenant, oldest first, once everything noted is written."""
    await tested.connected.trail.drain()
    async with tested.connected.database.system() as transaction:
        rows = await transaction.fetch(
            "select a.*, a.changes::text as told from audit_logs a join tenants t on t.id = a.tenant_id"
            " where t.slug = $1 order by a.id",
            tenant,
        )
    found = [{**dict(row), "told": json.loads(row["told"]) if row["told"] else None} for row in rows]
    return [row for row in found if all(row[name] == value for name, value in like.items())]


async def make(tested: TestedApplication, path: str, **values: Any) -> Any:
    answer = await tested.client().post(path, json={"name": "a", **values})
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]["id"]


# --- refusals ---------------------------------------------------------------------------


async def test_what_is_not_known_of_where_a_change_came_from_is_null(tested: TestedApplication) -> None:
    """As of a command, which has no address."""
    async with tested.repositories() as repositories:
        await repositories["People"].create({"name": "a"})
    unnamed = tested.client(headers={"User-Agent": ""})
    assert (await unnamed.post(PEOPLE, json={"name": "b"})).status_code == 201
    command, request = await entries(tested, action="CREATE")
    assert (command["ip_address"], command["user_agent"]) == (None, None)
    assert request["ip_address"]
    assert request["user_agent"] is None


async def test_a_right_that_is_missing_is_noted_with_who_and_what(tested: TestedApplication) -> None:
    client = tested.client(role="Viewer", user="ada", headers={"User-Agent": "probe", "X-Request-ID": "r-1"})
    assert (await client.post(PEOPLE, json={"name": "x"})).status_code == 403
    assert (await client.get("/api/v1/vaults/7")).status_code == 403
    first, second = await entries(tested, result="denied")
    assert first["action"] == "CREATE"
    assert (first["resource_type"], first["resource_id"], first["request_id"]) == ("People", None, "r-1")
    assert first["user_agent"] == "probe"
    assert first["reason"] == "You have no right to create People."
    assert (second["action"], second["resource_type"], second["resource_id"]) == ("READ", "Vaults", "7")
    async with tested.connected.database.system() as transaction:
        [user] = await transaction.fetch("select name from users where id = $1", first["user_id"])
    assert user["name"] == "ada"


@pytest.mark.parametrize("tier", ["shared", "schema"])
async def test_a_row_that_a_policy_hides_is_told_apart_from_one_that_is_not_there(
    tested: TestedApplication, tier: Any
) -> None:
    hidden = await make(tested, PEOPLE, name="hidden")
    if tier == "schema":
        await tested.connected.tenant_life().move("acme", "schema")
    viewer = tested.client(role="Viewer")
    for key in (hidden, 999_999, "none"):
        assert (await viewer.get(f"{PEOPLE}/{key}")).status_code == 404
    denied, *others = [row for row in await entries(tested) if row["action"] == "READ"]
    assert (denied["result"], denied["resource_id"]) == ("denied", str(hidden))
    assert denied["reason"] == "The row is there, and not for this caller."
    assert [(row["result"], row["resource_id"]) for row in others] == [
        ("failure", "999999"), ("failure", "none")
    ]  # fmt: skip


async def test_another_tenants_row_is_noted_like_one_that_does_not_exist(tested: TestedApplication) -> None:
    key = await make(tested, PEOPLE)
    beta = tested.client(tenant="beta")
    assert (await beta.get(f"{PEOPLE}/{key}")).status_code == 404
    assert (await beta.patch(f"{PEOPLE}/{key}", json={"name": "x"})).status_code == 404
    assert (await beta.delete(f"{PEOPLE}/{key + 1000}")).status_code == 404
    found = await entries(tested, "beta")
    assert [row["action"] for row in found] == ["READ", "PATCH", "DELETE"]
    assert {(row["result"], row["reason"]) for row in found} == {("failure", "The tenant has no such row.")}
    assert not await entries(tested, result="failure"), "and nothing in the other tenant's trail"


async def test_a_row_of_another_user_is_denied(tested: TestedApplication) -> None:
    key = await make(tested, "/api/v1/drawers")
    assert (await tested.client(user="bob").get(f"/api/v1/drawers/{key}")).status_code == 404
    [found] = await entries(tested, resource_type="Drawers")
    assert (found["result"], found["resource_id"]) == ("denied", key)


async def test_what_may_be_read_and_not_changed_is_denied(tested: TestedApplication) -> None:
    key = await make(tested, PEOPLE, name="hidden")
    editor = tested.client(role=["Editor", "Admin"], tenant="acme")
    assert (await editor.patch(f"{PEOPLE}/{key}", json={"name": "y"})).status_code == 200
    rule = {"subject": "Admin", "object": "People", "action": "delete", "effect": "deny"}
    assert (await editor.post("/api/v1/policies", json=rule)).status_code == 201
    assert (await editor.delete(f"{PEOPLE}/{key}")).status_code == 403
    [found] = await entries(tested, result="denied")
    assert (found["action"], found["resource_type"], found["resource_id"]) == ("DELETE", "People", str(key))


async def test_refusals_inside_a_transaction_name_what_was_refused(tested: TestedApplication) -> None:
    viewer = tested.client(role="Viewer")
    hidden = await make(tested, PEOPLE, name="hidden")
    steps = [
        {"operation": "list", "resource": "Teams"},
        {"operation": "delete", "resource": "Vaults", "id": 5},
    ]
    assert (await viewer.post("/api/v1/batch", json=steps)).status_code == 403
    steps[1] = {"operation": "read", "resource": "People", "id": hidden}
    assert (await viewer.post("/api/v1/batch", json=steps)).status_code == 404
    first, second = await entries(tested, result="denied")
    assert (first["action"], first["resource_type"], first["resource_id"]) == ("DELETE", "Vaults", "5")
    assert (second["action"], second["resource_type"], second["resource_id"]) == (
        "READ",
        "People",
        str(hidden),
    )


async def test_refusals_of_single_items_of_a_batch_are_noted(tested: TestedApplication) -> None:
    one, hidden = await make(tested, PEOPLE), await make(tested, PEOPLE, name="hidden")
    editor = tested.client(role=["Editor", "Viewer"])
    items = [{"id": one, "name": "b"}, {"id": hidden, "name": "c"}, {"id": 999_999, "name": "d"}]
    body = {"operation": "patch", "atomic": False, "items": items}
    answer = await editor.post(f"{PEOPLE}/batch", json=body)
    assert [item["success"] for item in answer.json()["data"]] == [True, False, False]
    found = [row for row in await entries(tested, action="PATCH") if row["result"] != "success"]
    assert [(row["result"], row["resource_id"]) for row in found] == [
        ("denied", str(hidden)), ("failure", "999999")
    ]  # fmt: skip


async def test_what_a_logic_class_is_refused_names_the_row_it_looked_for(tested: TestedApplication) -> None:
    team, secret = await make(tested, TEAMS), await make(tested, "/api/v1/vaults")
    viewer = tested.client(role="Editor")
    assert (await viewer.post(f"{TEAMS}/{team}/refuse")).status_code == 404
    [found] = [row for row in await entries(tested) if row["result"] != "success"]
    assert (found["action"], found["resource_type"]) == ("REFUSE:POST", "Teams")
    assert secret


async def test_an_operators_refusal_lies_in_the_trail_of_the_tenant_he_acted_in(
    tested: TestedApplication,
) -> None:
    operator = tested.client(role="Viewer", tenant="platform", headers={"X-Tenant": "acme"})
    assert (await operator.post(PEOPLE, json={"name": "x"})).status_code == 403
    [found] = await entries(tested, result="denied")
    assert found["actor_tenant_id"] == 0
    admin = tested.client(tenant="platform", headers={"X-Tenant": "acme"})
    assert (await admin.post(PEOPLE, json={"name": "x"})).status_code == 201
    [made] = await entries(tested, action="CREATE", result="success")
    assert (made["actor_tenant_id"], made["user_id"] is not None) == (0, True)


async def test_anonymous_callers_and_unknown_addresses_are_not_noted(tested: TestedApplication) -> None:
    nobody = tested.client(role=None)
    assert (await nobody.get(PEOPLE)).status_code == 401
    assert (await tested.client().get("/api/v1/nowhere/1")).status_code == 404
    assert await entries(tested) == []


# --- failed sign-ins --------------------------------------------------------------------


async def test_a_token_that_is_refused_is_noted_in_the_trail_of_its_tenant(
    tested: TestedApplication,
) -> None:
    good = tested.token()
    expired = tested.token(exp=1_700_000_000, iat=1_699_999_000)
    for token in (good[:-6] + "AAAAAA", expired):
        client = tested.client(role=None, headers={"Authorization": f"Bearer {token}"})
        assert (await client.get(PEOPLE)).status_code == 401
    found = await entries(tested, action="SIGN_IN")
    assert {row["result"] for row in found} == {"failure"}
    assert {row["user_id"] for row in found} == {None}, "what a bad token claims is no actor"
    assert [row["reason"] for row in found] == ["The token's signature is wrong", "The token has expired"]


async def test_a_deactivated_user_is_noted_as_a_failed_sign_in(tested: TestedApplication) -> None:
    client = tested.client(user="eve")
    assert (await client.get(PEOPLE)).status_code == 200
    async with tested.connected.database.system() as transaction:
        await transaction.execute("update users set status = 'deactivated' where name = 'eve'")
    tested.connected.authenticator.forget()
    assert (await client.get(PEOPLE)).status_code == 401
    [found] = await entries(tested, action="SIGN_IN")
    assert found["reason"] == "The token's user is not active"


async def test_a_tenant_that_was_named_without_a_right_to_it_is_noted(tested: TestedApplication) -> None:
    client = tested.client(headers={"X-Tenant": "beta"})
    assert (await client.get(PEOPLE)).status_code == 403
    [found] = await entries(tested, action="SIGN_IN")
    assert "X-Tenant" in found["reason"]
    assert await entries(tested, "beta") == []


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer a.b",
        "Bearer a.b.c",
        "Basic a.eyJpc3MiOiAiaHR0cDovL3gvYWNtZSJ9.c",
        "Bearer a.eyJpc3MiOiAxfQ.c",
        "Bearer a.W10.c",
        "Bearer a." + "W1" * 8_000 + ".c",
        "Bearer a.\u00e9\u00e9.c",
        "Bearer a." + "W1tb" * 1_900 + ".c",
    ],
)
def test_a_token_without_a_realm_is_nobodys(authorization: str) -> None:
    assert claimed_realm(authorization) is None


def test_the_realm_of_a_token_is_what_it_claims() -> None:
    assert claimed_realm("Bearer a.eyJpc3MiOiAiaHR0cDovL3gvYWNtZSJ9.c") == "acme"


# --- readings ---------------------------------------------------------------------------


async def test_reading_a_controlled_field_is_noted(tested: TestedApplication) -> None:
    key = await make(tested, PEOPLE, email="a@example.org", salary=10)
    admin, viewer = tested.client(), tested.client(role="Viewer")
    assert (await admin.get(f"{PEOPLE}/{key}")).status_code == 200
    assert (await viewer.get(f"{PEOPLE}/{key}")).status_code == 200, "who does not see them leaves no entry"
    assert (await admin.get(f"{PEOPLE}/{key}?fields=id,name")).status_code == 200
    assert (await admin.get(f"{PEOPLE}?fields=id,salary")).status_code == 200
    one, many = [row for row in await entries(tested) if row["action"] in ("READ", "LIST")]
    assert (one["result"], one["resource_type"], one["resource_id"]) == ("success", "People", str(key))
    assert one["told"] == {"fields": ["email", "salary"], "rows": [str(key)], "count": 1}
    assert (many["action"], many["told"]) == ("LIST", {"fields": ["salary"], "rows": [str(key)], "count": 1})
    assert "a@example.org" not in str([dict(row) for row in await entries(tested)])


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        (f"{PEOPLE}?fields=id&filter[email][eq]=a@example.org", ["email"]),
        (f"{PEOPLE}?fields=id&filter[or][0][name]=b&filter[or][1][salary][gt]=5", ["salary"]),
        (f"{PEOPLE}?fields=id&filter[not][salary][gt]=100", ["salary"]),
        (f"{PEOPLE}?fields=id&sort=-salary", ["salary"]),
        (f"{PEOPLE}?aggregate=max:salary", ["salary"]),
        (f"{PEOPLE}?aggregate=count&group=email", ["email"]),
        (f"{TEAMS}?include=people", ["people.email", "people.salary"]),
        (f"{TEAMS}?include=people&fields[people]=id,salary", ["people.salary"]),
        (
            f"{TEAMS}?include=people&fields[people]=id&include[people][filter][salary][gt]=1",
            ["people.salary"],
        ),
        (f"{TEAMS}?filter[people][some][email][eq]=a@example.org", ["people.email"]),
    ],
)
async def test_every_way_to_a_controlled_field_is_noted(
    tested: TestedApplication, query: str, fields: list[str]
) -> None:
    team = await make(tested, TEAMS)
    await make(tested, PEOPLE, email="a@example.org", salary=10, teamId=team)
    answer = await tested.client().get(query)
    assert answer.status_code == 200, answer.text
    [found] = await entries(tested, action="LIST")
    assert found["told"]["fields"] == fields


async def test_a_query_that_finds_nothing_is_not_noted(tested: TestedApplication) -> None:
    assert (await tested.client().get(f"{PEOPLE}?filter[salary]=5")).json()["data"] == []
    assert await entries(tested) == []


async def test_the_history_of_controlled_fields_is_noted(tested: TestedApplication) -> None:
    key = await make(tested, PEOPLE, email="a@example.org")
    assert (await tested.client().get(f"{PEOPLE}/{key}/history")).status_code == 200
    [found] = await entries(tested, action="READ")
    assert found["told"]["fields"] == ["email", "salary"]


async def test_what_a_logic_class_reads_as_the_caller_is_noted(tested: TestedApplication) -> None:
    team = await make(tested, TEAMS)
    await make(tested, PEOPLE, email="a@example.org")
    answer = await tested.client().post(f"{TEAMS}/{team}/people")
    assert answer.json()["data"] == {"hidden": 1, "seen": 1}
    [found] = await entries(tested, action="LIST")
    assert found["told"]["fields"] == ["email"]


async def test_reading_inside_a_transaction_is_noted(tested: TestedApplication) -> None:
    key = await make(tested, PEOPLE, email="a@example.org")
    steps = [{"operation": "read", "resource": "People", "id": key}]
    assert (await tested.client().post("/api/v1/batch", json=steps)).status_code == 200
    [found] = await entries(tested, action="READ")
    assert found["told"]["rows"] == [str(key)]


async def test_the_rows_of_a_reading_are_named_also_where_their_keys_were_not_asked_for(
    tested: TestedApplication,
) -> None:
    admin = tested.client()
    keys = [await make(tested, PEOPLE, email=f"{number}@example.org") for number in range(3)]
    for url, named in (
        (f"{PEOPLE}/{keys[1]}?fields=email", keys[1:2]),
        (f"{PEOPLE}?fields=email", keys),
        (f"{PEOPLE}?fields=email&limit=1&offset=2", keys[2:]),
        (f"{PEOPLE}?fields=name&sort=-email&limit=2", [keys[2], keys[1]]),
        (f"{PEOPLE}?fields=name&filter[email]=1@example.org", keys[1:2]),
        (f"{PEOPLE}/{keys[0]}/history", keys[:1]),
    ):
        answer = await admin.get(url)
        assert answer.status_code == 200, answer.text
        last = (await entries(tested, resource_type="People"))[-1]["told"]
        assert "email" in last["fields"], url
        assert (last["rows"], last["count"]) == ([str(key) for key in named], len(named)), url


async def test_the_keys_of_a_reading_are_told_by_the_statement_that_reads_its_rows(
    monkeypatch: pytest.MonkeyPatch, byodpp_bench: Bench, blueprint: Blueprint
) -> None:
    # A second one would not name the rows that are deleted between the two.
    sent = logging_statements(monkeypatch)
    async with byodpp_bench.application(blueprint) as tested:
        admin = tested.client()
        keys = [await make(tested, PEOPLE, email=f"{number}@example.org") for number in range(3)]
        for fields in ("email", "id,email"):
            url = f"{PEOPLE}?fields={fields}&sort=-email&limit=2"
            await admin.get(url)
            with sent.heard() as heard:
                first = (await admin.get(url)).json()
            assert sum("people" in statement for statement in heard) == 1, heard
            assert set(first["data"][0]) == set(fields.split(","))
            second = (await admin.get(f"{url}&cursor={first['pagination']['next']}")).json()
            assert [one["email"] for one in second["data"]] == ["0@example.org"]
            told = [one["told"]["rows"] for one in await entries(tested, action="LIST")]
            assert told[-2:] == [[str(keys[2]), str(keys[1])], [str(keys[0])]]


# --- changes ----------------------------------------------------------------------------


async def changes(tested: TestedApplication) -> list[Mapping[str, Any]]:
    """Return the entries of what was done to people; that the answers show them has entries of its own."""
    found = await entries(tested, resource_type="People", result="success")
    return [row for row in found if row["action"] != "READ"]


async def test_secrets_and_personal_data_are_told_by_name_only(tested: TestedApplication) -> None:
    admin = tested.client()
    key = await make(tested, PEOPLE, email="a@example.org", pin="open-sesame", notes={"a": 1})
    bodies = ({"email": "b@example.org", "salary": 5}, {"salary": 6}, {"pin": "sesame-2", "notes": {"a": 1}})
    for body in bodies:
        assert (await admin.patch(f"{PEOPLE}/{key}", json=body)).status_code == 200
    assert (await admin.delete(f"{PEOPLE}/{key}")).status_code == 204
    made, first, second, third, gone = await changes(tested)
    assert made["told"]["redacted"] == ["email", "pin", "notes"]
    assert made["told"]["before"] is None
    assert first["told"]["redacted"] == ["email"]
    assert (first["told"]["before"]["salary"], first["told"]["after"]["salary"]) == (None, 5)
    assert "redacted" not in second["told"]
    assert third["told"]["redacted"] == ["pin"], "what was sent as it was is no change"
    assert gone["told"]["after"] is None
    written = str([row["told"] for row in (made, first, second, third, gone)])
    assert not any(word in written for word in ("example.org", "sesame"))


async def test_a_field_with_a_personal_part_is_told_by_name_only(tested: TestedApplication) -> None:
    admin = tested.client()
    body = {"height": 7, "inner": {"blood": "zero"}}
    key = await make(tested, PEOPLE, body=body, kin=["Dora"])
    steps = [{"op": "replace", "path": "/body/inner/blood", "value": "rhesus"}]
    told = {"Content-Type": "application/json-patch+json"}
    for sent in (
        admin.patch(f"{PEOPLE}/{key}", json={"body": {"height": 8}}),
        admin.patch(f"{PEOPLE}/{key}", content=json.dumps(steps), headers=told),
        admin.patch(f"{PEOPLE}/{key}", json={"kin": {"$append": ["Eve"]}}),
        admin.post(f"{PEOPLE}/batch", json={"operation": "patch", "items": [{"id": key, "kin": ["Fay"]}]}),
    ):
        answer = await sent
        assert answer.status_code == 200, answer.text
    found = await changes(tested)
    assert [row["told"]["redacted"] for row in found] == [
        ["body", "kin"],
        ["body"],
        ["body"],
        ["kin"],
        ["kin"],
    ]
    written = str([row["told"] for row in found])
    assert not any(word in written for word in ("zero", "rhesus", "Dora", "Eve", "Fay", "height"))


async def test_changes_of_users_roles_and_policies_are_in_the_trail(tested: TestedApplication) -> None:
    admin = tested.client()
    role = (await admin.post("/api/v1/roles", json={"name": "Guard"})).json()["data"]["id"]
    user = (await admin.post("/api/v1/users", json={"name": "ada"})).json()["data"]["id"]
    held = await admin.post("/api/v1/user-roles", json={"userId": user, "roleId": role})
    assert held.status_code == 201
    rule = {"subject": "Guard", "object": "People", "action": "read"}
    assert (await admin.post("/api/v1/policies", json=rule)).status_code == 201
    assert (await admin.delete(f"/api/v1/user-roles/{held.json()['data']['id']}")).status_code == 204
    found = [(row["action"], row["resource_type"]) for row in await entries(tested)]
    assert found == [
        ("CREATE", "Roles"), ("CREATE", "Users"), ("CREATE", "UserRoles"), ("CREATE", "Policies"),
        ("DELETE", "UserRoles"),
    ]  # fmt: skip


# --- floods and outages -----------------------------------------------------------------


async def test_a_flood_of_refusals_is_bounded_and_what_is_dropped_is_counted(
    tested: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = tested.connected.trail
    monkeypatch.setattr(trail, "_max_of_tenant", 20)
    viewer, other = tested.client(role="Viewer"), tested.client(role="Viewer", tenant="beta")
    await viewer.post(PEOPLE, json={"name": "x"})
    async with trail._flushing:  # the database is slow: nothing is written meanwhile
        for _ in range(6):
            await asyncio.gather(*(viewer.post(PEOPLE, json={"name": "x"}) for _ in range(20)))
        assert (await other.post(PEOPLE, json={"name": "x"})).status_code == 403
        assert len(trail._waiting) <= 21
    written = await entries(tested, action="CREATE")
    [counted] = await entries(tested, action=DROPPED)
    assert len(written) + counted["told"]["dropped"] == 121
    assert counted["result"] == "failure"
    assert len(await entries(tested, "beta", action="CREATE")) == 1, "the neighbour loses nothing"


async def test_all_tenants_together_hold_no_more_than_the_whole(tested: TestedApplication) -> None:
    served = tested.connected.trail
    trail = AuditTrail(served._database, served._tenants, served._controlled, max_waiting=10, max_of_tenant=8)
    for slug in ("acme", "beta"):
        tenant = (await tested.tenant(slug)).id
        for number in range(10):
            trail._add(_note(tenant, f"r{number}"))
    assert len(trail._waiting) == 10
    await trail.drain()
    async with tested.connected.database.system() as transaction:
        told = await transaction.fetch(
            "select (changes->>'dropped')::int as n from audit_logs where action = $1 order by tenant_id",
            DROPPED,
        )
    assert sum(row["n"] for row in told) == 10


async def test_notes_wait_while_the_database_is_away(
    tested: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail, database = tested.connected.trail, tested.connected.database
    acme = (await tested.tenant("acme")).id

    def away(*_: Any) -> Any:
        raise Unavailable

    with monkeypatch.context() as cut:
        cut.setattr(database, "system", away)
        trail._add(_note(acme, "r-away"))
        assert not await trail._flush()
        assert trail._pending == 1
    assert [row["request_id"] for row in await entries(tested)] == ["r-away"]


async def test_an_entry_that_the_database_refuses_takes_no_other_with_it(tested: TestedApplication) -> None:
    trail, acme = tested.connected.trail, (await tested.tenant("acme")).id
    trail._add(_note(acme, "first"))
    trail._add(_note(2**70, "impossible"))
    trail._add(_note(acme, "second"))
    assert await trail._flush()
    assert [row["request_id"] for row in await entries(tested, action="X")] == ["first", "second"]


async def test_whatever_comes_in_an_address_is_written(tested: TestedApplication) -> None:
    viewer = tested.client(role="Viewer")
    for path in ("%00", "a%FFb", "%F0%9F%98%80", "x" * 400):
        await viewer.get(f"/api/v1/vaults/{path}")
    assert len(await entries(tested, resource_type="Vaults")) >= 2


async def test_what_was_noted_is_written_at_the_end(byodpp_bench: Bench, blueprint: Blueprint) -> None:
    async with byodpp_bench.database(blueprint) as name:
        connected = Application.connect(byodpp_bench._settings(blueprint, name, {}), blueprint)
        async with connected.lifespan():
            for number in range(1200):
                connected.trail._max_of_tenant = 5000
                connected.trail._add(_note(1, f"r{number}"))
        again = Application.connect(byodpp_bench._settings(blueprint, name, {}), blueprint)
        async with again.lifespan(), again.database.system() as transaction:
            assert await transaction.fetchval("select count(*) from audit_logs") == 1200


def _note(tenant: int, request: str) -> Note:
    return Note(tenant_id=tenant, action="X", result="denied", request_id=request)
