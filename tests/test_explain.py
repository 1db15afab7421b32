"""Who may do what and why: `byodpp explain`, `byodpp access`, and their routes, against what requests do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx2
import pytest
import pytest_asyncio

from byodpp.access_questions import Question
from byodpp.addresses import addresses
from byodpp.authentication import Principal
from byodpp.authorization.algebra import decided
from byodpp.authorization.decisions import caller_of
from byodpp.authorization.explanation import explanation_lines
from byodpp.authorization.matrix import _holder, matrix_table
from byodpp.bootstrap import Blueprint
from byodpp.database import SessionContext
from byodpp.exceptions import NotFound, ValidationFailed
from byodpp.routes import RouteTable
from byodpp.testing import Bench, TestedApplication
from tests.commands import operated
from tests.test_policies import DESK, faults, made
from tests.worlds import build

EXPLAIN: Final = "/api/v1/policies/explain"
MATRIX: Final = "/api/v1/policies/matrix"
ITEMS: Final = "/api/v1/items"


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


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def standing(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """The same, for tests that only ask."""
    async with byodpp_bench.application(blueprint) as tested:
        for name, price in (("pen", 2), ("lamp", 40), ("gift", None)):
            await made(tested.client(), ITEMS, name=name, price=price)
        yield tested


async def told(client: httpx2.AsyncClient, **asked: Any) -> dict[str, Any]:
    response = await client.get(EXPLAIN, params=asked)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["data"]
    return found


async def refused(client: httpx2.AsyncClient, **asked: Any) -> set[tuple[str, str]]:
    response = await client.get(EXPLAIN, params=asked)
    assert response.status_code in (400, 422), response.text
    return faults(response)


async def test_an_explanation_names_the_rule_that_allows_with_its_rows_and_fields(
    standing: TestedApplication,
) -> None:
    answer = await told(standing.client(), resource="Items", operation="read", role="Deputy")
    assert (answer["allowed"], answer["status"]) == ("on some rows", None)
    assert answer["rows"] == {"anyOf": [{"price": {"lt": 10}}], "noneOf": []}
    assert answer["fields"]["name"] == answer["fields"]["price"] == "on some rows"
    assert answer["fields"]["status"] == "no"
    [rule] = answer["rules"]
    assert (rule["effect"], rule["subject"]) == ("allow", "Deputy")
    assert rule["fields"] == ["name", "price"]
    assert "access.read" in rule["rule"]


async def test_an_explanation_over_a_row_says_which_rule_matches_it(desk: TestedApplication) -> None:
    admin = desk.client()
    deny = {"subject": "Intern", "object": "Items", "action": "read", "effect": "deny"}
    number = await made(admin, "/api/v1/policies", **deny, condition={"price": {"gt": 10}})
    asked = {"resource": "Items", "operation": "read", "role": "Intern"}
    pen, lamp, gift = [await told(admin, **asked, id=id) for id in (1, 2, 3)]
    assert (pen["allowed"], pen["status"]) == ("yes", None)
    assert [rule["matches"] for rule in pen["rules"]] == [True, False]
    assert (lamp["allowed"], lamp["status"]) == ("no", 404)
    assert [rule["matches"] for rule in lamp["rules"]] == [True, True]
    assert [rule["matches"] for rule in gift["rules"]] == [True, True], "its price is not known: it is denied"
    assert lamp["rules"][1]["rule"] == f"Policies {number} of tenant {(await desk.tenant('acme')).id}"
    intern = desk.client(role="Intern", user="ida")
    assert [(await intern.get(f"{ITEMS}/{id}")).status_code for id in (1, 2, 3)] == [200, 404, 404]


async def test_a_write_to_a_readable_row_outside_the_rule_is_explained_as_403(
    desk: TestedApplication,
) -> None:
    admin = desk.client()
    rule = {"subject": "Intern", "object": "Items", "action": "delete", "condition": {"price": {"lt": 10}}}
    await made(admin, "/api/v1/policies", **rule)
    asked = {"role": "Intern"}
    assert (await told(admin, route="DELETE /api/v1/items/1", **asked))["allowed"] == "yes"
    lamp = await told(admin, route="DELETE /api/v1/items/2", **asked)
    assert (lamp["allowed"], lamp["status"]) == ("no", 403)
    gone = await admin.get(EXPLAIN, params={"route": "DELETE /api/v1/items/99", "role": "Admin"})
    assert gone.status_code == 404, "there is nothing to speak about"
    intern = desk.client(role="Intern", user="ida")
    assert [(await intern.delete(f"{ITEMS}/{id}")).status_code for id in (2, 1)] == [403, 204]


@pytest.mark.parametrize(
    ("effect", "condition", "passes"),
    [
        ("allow", {"stage": "new"}, False),
        ("allow", {"stage": "shipped"}, False),
        ("allow", {"stage": {"in": ["new", "shipped"]}, "price": 2}, True),
        ("allow", {"price": {"lt": 10}}, True),
        ("deny", {"stage": "shipped"}, False),
        ("deny", {"stage": {"ne": "new"}, "price": 40}, True),
    ],
)
async def test_a_step_is_explained_over_the_row_as_it_is_and_as_the_step_leaves_it(
    desk: TestedApplication, effect: str, condition: Any, passes: bool
) -> None:
    admin = desk.client()
    rule = {"subject": "Intern", "object": "Items", "action": "ship:post"}
    if effect == "deny":
        await made(admin, "/api/v1/policies", **rule)
    await made(admin, "/api/v1/policies", **rule, effect=effect, condition=condition)
    ship = f"{ITEMS}/1/ship"
    for asker, more in ((admin, {"role": "Intern"}), (desk.client(role="Intern", user="ida"), {})):
        answer = await told(asker, route=f"POST {ship}", **more)
        assert (answer["allowed"], answer["status"]) == (("yes", None) if passes else ("no", 403)), answer
    done = await desk.client(role="Intern", user="ida").post(ship)
    assert done.status_code == (200 if passes else 403), done.text


async def test_what_an_explanation_says_of_a_row_is_what_a_request_gets(desk: TestedApplication) -> None:
    admin = desk.client()
    hidden = {"subject": "Intern", "object": "Items", "action": "read", "effect": "deny", "fields": ["name"]}
    await made(admin, "/api/v1/policies", **hidden, condition={"price": {"gt": 10}})
    asked = {"resource": "Items", "operation": "read"}
    for role in ("Admin", "Intern", "Deputy", "Clerk", "Nobody"):
        client = desk.client(role=role, user=role.lower())
        for id in (1, 2, 3):
            answer = await told(admin, **asked, role=role, id=id)
            response = await client.get(f"{ITEMS}/{id}")
            assert response.status_code == (answer["status"] or 200), (role, id, answer)
            if response.status_code == 200:
                data, words = response.json()["data"], answer["fields"]
                assert {name for name, word in words.items() if word == "yes"} <= data.keys(), (role, id)
                # What is hidden on some rows only is null there.
                assert {data.get(name) for name, word in words.items() if word == "no"} <= {None}, (role, id)


async def test_a_deny_that_names_the_key_of_some_rows_does_not_hide_it_and_nothing_says_that_it_does(
    desk: TestedApplication,
) -> None:
    admin, intern = desk.client(), desk.client(role="Intern", user="ida")
    hidden = {"subject": "Intern", "object": "Items", "action": "read", "effect": "deny"}
    await made(admin, "/api/v1/policies", **hidden, fields=["id", "name"], condition={"price": {"gt": 10}})
    lamp = (await intern.get(f"{ITEMS}/2")).json()["data"]
    assert (lamp["id"], lamp["name"]) == (2, None)
    answer = await told(admin, resource="Items", operation="read", role="Intern", id=2)
    assert (answer["fields"]["id"], answer["fields"]["name"]) == ("yes", "no")


async def test_presets_and_inherited_roles_are_told(desk: TestedApplication) -> None:
    admin = desk.client()
    answer = await told(admin, resource="Items", operation="create", role="Clerk")
    assert answer["preset"] == {"status": "live", "makerId": "$user.id"}
    assert answer["fields"]["stage"] == "no", "a state is never taken from a body"
    await made(admin, "/api/v1/policies", ptype="g", subject="Clerk", object="Intern")
    answer = await told(admin, resource="Items", operation="read", role="Clerk")
    assert answer["allowed"] == "yes"
    assert answer["rules"][0]["heldBy"] == ["Clerk", "Intern"]
    assert {"Clerk", "Intern", "*", "public"} <= set(answer["roles"])


async def test_the_role_of_its_maker_that_denies_something_to_a_key_is_told(desk: TestedApplication) -> None:
    admin, maker = desk.client(), desk.client(role=["Admin", "Restricted"], user="rita")
    for name in ("Restricted", "Bound"):
        await made(admin, "/api/v1/roles", name=name)
    await made(admin, "/api/v1/policies", ptype="g", subject="Restricted", object="Bound")
    key = await maker.post("/api/v1/api-keys", json={"name": "k", "roles": ["Admin"]})
    assert key.status_code == 201, key.text
    client = desk.client(role=None, headers={"Authorization": f"Bearer {key.json()['data']['key']}"})
    for subject in ("Restricted", "Bound"):
        await made(
            admin, "/api/v1/policies", subject=subject, object="Items", action="list", effect="deny",
        )  # fmt: skip
    answer = await told(client, resource="Items", operation="list")
    assert answer["allowed"] == "no"
    denies = {rule["subject"]: rule for rule in answer["rules"] if rule["effect"] == "deny"}
    assert denies["Restricted"]["heldBy"] == ["Restricted"]
    assert denies["Bound"]["heldBy"] == ["Restricted", "Bound"]
    assert all(rule["ofMaker"] for rule in denies.values())
    assert not any("ofMaker" in rule for rule in answer["rules"] if rule["effect"] == "allow")
    assert any("by the key's maker over Restricted > Bound" in line for line in explanation_lines(answer))


async def test_a_user_brings_the_roles_and_rules_of_his_own(desk: TestedApplication) -> None:
    admin, ida = desk.client(), desk.client(role="Nobody", user="ida")
    assert (await ida.get(ITEMS)).status_code == 403
    users = (await admin.get("/api/v1/users", params={"filter[name][eq]": "ida"})).json()["data"]
    rule = {"subject": f"user:{users[0]['id']}", "object": "Items", "action": "list"}
    await made(admin, "/api/v1/policies", **rule)
    answer = await told(admin, resource="Items", operation="list", user=str(users[0]["id"]))
    assert answer["allowed"] == "yes"
    assert (await ida.get(ITEMS)).status_code == 200
    assert (await told(admin, resource="Items", operation="list", role="Nobody"))["status"] == 403


async def test_who_may_not_read_the_rules_hears_about_himself_alone_and_no_rule(
    standing: TestedApplication,
) -> None:
    deputy = standing.client(role="Deputy", user="dora")
    answer = await told(deputy, resource="Items", operation="read")
    assert answer["allowed"] == "on some rows"
    assert answer["rules"] is answer["rows"] is answer["roles"] is None
    assert "access" not in answer["reason"]
    for asked in ({"role": "Admin"}, {"user": "demo"}, {"anonymous": "true"}):
        response = await deputy.get(EXPLAIN, params={"resource": "Items", "operation": "read", **asked})
        assert response.status_code == 403
    assert (await deputy.get(MATRIX)).status_code == 403
    hidden, unknown = [await told(deputy, resource="Items", operation="read", id=id) for id in (2, 99)]
    assert hidden == unknown, "a row that he may not read is like one that is not there"
    assert (hidden["status"], hidden["reason"]) == (404, "There is no such row.")


async def test_an_asker_with_a_row_filter_of_his_own_hears_nothing_of_other_rows(
    desk: TestedApplication,
) -> None:
    admin = desk.client()
    await made(admin, "/api/v1/policies", subject="Deputy", object="Policies", action="read")
    deputy = desk.client(role="Deputy", user="dora")
    asked = {"resource": "Items", "operation": "read", "role": "Admin"}
    assert (await told(deputy, **asked, id=1))["allowed"] == "yes"
    hidden, unknown = [await deputy.get(EXPLAIN, params={**asked, "id": id}) for id in (2, 99)]
    assert hidden.status_code == unknown.status_code == 404
    assert hidden.json()["error"]["message"].replace("2", "99") == unknown.json()["error"]["message"]
    about = {"resource": "Items", "operation": "read", "user": "demo"}
    assert await refused(deputy, **about) == {("user", "reference")}, "he may not read users"


async def test_no_answer_tells_a_value_that_the_asker_may_not_read(desk: TestedApplication) -> None:
    admin = desk.client()
    hidden = {"subject": "Deputy", "object": "Items", "action": "read", "effect": "deny", "fields": ["price"]}
    await made(admin, "/api/v1/policies", subject="Deputy", object="Policies", action="read")
    await made(admin, "/api/v1/policies", subject="Deputy", object="Items", action="read")
    await made(admin, "/api/v1/policies", **hidden)
    for limit in (1, 3):
        rule = {
            "subject": "Clerk",
            "object": "Items",
            "action": "read",
            "condition": {"price": {"gt": limit}},
        }
        await made(admin, "/api/v1/policies", **rule)
    deputy = desk.client(role="Deputy", user="dora")
    asked: dict[str, Any] = {"resource": "Items", "operation": "read", "id": 1}
    response = await deputy.get(EXPLAIN, params={**asked, "role": "Clerk"})
    assert response.status_code == 403, response.text
    about = await told(deputy, **asked)
    assert (about["allowed"], about["fields"]["price"]) == ("yes", "no")
    compared = [rule for rule in about["rules"] if rule["condition"] is not None]
    assert compared and not any("matches" in rule for rule in compared)
    assert (await told(admin, **asked, role="Clerk"))["allowed"] == "yes"


async def test_another_tenants_rows_and_users_are_as_unknown(standing: TestedApplication) -> None:
    beta = standing.client(tenant="beta", user="bea")
    response = await beta.get(
        EXPLAIN, params={"resource": "Items", "operation": "read", "role": "Admin", "id": 1}
    )
    assert response.status_code == 404
    asked = {"resource": "Items", "operation": "read"}
    assert await refused(beta, **asked, user="demo") == {("user", "reference")}
    assert (await told(standing.client(), **asked, user="demo"))["status"] == 403, (
        "a user brings no token's roles"
    )


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({}, ("resource", "required")),
        ({"resource": "Itmes", "operation": "read"}, ("resource", "unknown_resource")),
        ({"resource": "Items", "operation": "raed"}, ("operation", "unknown_operation")),
        ({"resource": "Items", "operation": "read", "version": "v9"}, ("version", "enum")),
        ({"resource": "Items", "operation": "create", "id": "1"}, ("id", "unsupported")),
        ({"resource": "Items", "operation": "read", "user": "nobody"}, ("user", "reference")),
        (
            {"resource": "Items", "operation": "read", "anonymous": "true", "role": "Admin"},
            ("anonymous", "conflict"),
        ),
        ({"route": "GET /nowhere"}, ("route", "unknown_route")),
        ({"route": "GET /api/v1/items/%zz"}, ("route", "invalid")),
        ({"route": "GET /api/v1/items", "resource": "Items"}, ("route", "conflict")),
        ({"resource": "Items", "operation": "read", "rol": "Admin"}, ("rol", "unknown_parameter")),
        ({"resource": "x" * 200, "operation": "read"}, ("resource", "invalid")),
    ],
)
async def test_a_question_about_what_does_not_exist_is_refused(
    standing: TestedApplication, asked: dict[str, str], fault: tuple[str, str]
) -> None:
    assert fault in await refused(standing.client(), **asked)


async def test_an_id_that_no_row_could_have_is_no_row(standing: TestedApplication) -> None:
    asked = {"resource": "Items", "operation": "read"}
    assert (await told(standing.client(), **asked, id="abc"))["status"] == 404


async def test_a_key_hears_what_the_key_may_do(standing: TestedApplication) -> None:
    admin = standing.client()
    body = {"name": "narrow", "operations": ["Items:read", "Policies:explain:get", "Policies:read"]}
    response = await admin.post("/api/v1/api-keys", json=body)
    key = response.json()["data"]["key"]
    narrow = standing.client(role=None, headers={"Authorization": f"Bearer {key}"})
    answer = await told(narrow, resource="Items", operation="delete")
    assert (answer["allowed"], answer["reason"]) == ("no", "the operations of the API key leave it out")
    assert (await told(narrow, resource="Items", operation="read"))["allowed"] == "yes"


async def test_the_matrix_says_what_every_role_gets(desk: TestedApplication) -> None:
    admin = desk.client()
    await made(admin, "/api/v1/roles", name="Auditor")
    await made(admin, "/api/v1/policies", ptype="g", subject="Auditor", object="Deputy")
    data = (await admin.get(MATRIX, params={"resource": "Items"})).json()["data"]
    assert data["roles"][:2] == ["public", "*"]
    [items] = data["resources"]
    read = items["operations"]["read"]
    assert {role: cell["may"] for role, cell in read.items() if cell["may"] != "no"} == {
        "Admin": "fields",
        "Auditor": "rows, fields",
        "Deputy": "rows, fields",
        "Intern": "fields",
    }
    assert read["Admin"]["fields"]["recipe"] == "no", "it is meant for inspectors"
    assert read["Deputy"]["rows"] == {"anyOf": [{"price": {"lt": 10}}], "noneOf": []}
    for role, cell in read.items():
        client = desk.client(role=None if role == "public" else role, user=f"{role}-user".strip("*"))
        headers = {"X-Tenant": "acme"} if role == "public" else {}
        status = (await client.get(ITEMS, headers=headers)).status_code
        assert (status == 200) == (cell["may"] != "no"), role


async def test_the_matrix_holds_every_resource_that_has_routes(standing: TestedApplication) -> None:
    data = (await standing.client().get(MATRIX)).json()["data"]
    routed = {one.name for one in standing.blueprint.registry if one.routed}
    assert {one["resource"] for one in data["resources"]} == routed
    assert (await standing.client().get(MATRIX, params={"resource": "Itmes"})).status_code == 422


async def test_a_matrix_too_large_is_refused_and_had_by_roles_and_by_resources(
    desk: TestedApplication,
) -> None:
    admin = desk.client()
    before = (await admin.get(MATRIX)).json()["data"]
    cells = sum(len(row) for one in before["resources"] for row in one["operations"].values())
    more = 10_000 // (cells // len(before["roles"])) + 1 - len(before["roles"])
    names = [f"Extra {number}" for number in range(more)]
    made_all = await admin.post("/api/v1/roles/batch", json=[{"name": name} for name in names])
    assert made_all.status_code == 201, made_all.text
    refused = await admin.get(MATRIX)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "query_too_complex")
    by_role = (await admin.get(MATRIX, params={"role": ["Deputy", "*"]})).json()["data"]
    assert by_role["roles"] == ["*", "Deputy"]
    for one, whole in zip(by_role["resources"], before["resources"], strict=True):
        for operation, row in one["operations"].items():
            assert row == {role: whole["operations"][operation][role] for role in ("*", "Deputy")}
    one = (await admin.get(MATRIX, params={"resource": "Items"})).json()["data"]
    assert len(one["roles"]) == len(before["roles"]) + more
    unknown = await admin.get(MATRIX, params={"role": "Deputi"})
    assert unknown.status_code == 422
    assert "Did you mean 'Deputy'?" in unknown.json()["error"]["details"][0]["message"]


async def test_a_cell_is_the_decision_of_that_role_alone(desk: TestedApplication) -> None:
    guide, tenant = desk.connected.service.parts.guide, await desk.tenant("acme")
    rules = desk.connected.authorizer.rules(tenant.id)
    async with desk.connected.database.system() as transaction:
        cells = await guide.cells(transaction, tenant.id)
    for cell in cells:
        caller = caller_of(rules, _holder(tenant.id, cell.role))
        assert cell.decision == decided(rules, caller, cell.resource, cell.operation), cell


async def test_people_read_the_same_as_programs(standing: TestedApplication) -> None:
    guide, tenant = standing.connected.service.parts.guide, await standing.tenant("acme")
    async with standing.connected.database.system() as transaction:
        headings, lines = matrix_table(await guide.cells(transaction, tenant.id, "Items"))
        [read] = [line for line in lines if line[2] == "read"]
        assert dict(zip(headings, read, strict=True))["Deputy"] == "rows, fields"
        assert dict(zip(headings, read, strict=True))["Clerk"] == "-"
        question = Question(resource="Items", operation="read", roles=("Deputy",))
        text = "\n".join(
            explanation_lines((await guide.explain(transaction, tenant.id, question, None)).as_json())
        )
    assert text.startswith("read Items (v1): on some rows\n")
    assert '{"price": {"lt": 10}}' in text
    assert "hidden   " in text


async def test_the_commands_tell_what_the_routes_tell(standing: TestedApplication) -> None:
    admin, words = standing.client(), ("--tenant", "acme", "--json")
    code, out, err = await byodpp(
        standing, "explain", "Items", "read", "--role", "Deputy", "--id", "2", *words
    )
    assert code == 0, err
    assert json.loads(out) == await told(admin, resource="Items", operation="read", role="Deputy", id=2)
    code, out, err = await byodpp(standing, "access", "Items", *words)
    assert code == 0, err
    data = (await admin.get(MATRIX, params={"resource": "Items"})).json()["data"]
    assert json.loads(out) == data["resources"]


async def test_the_commands_say_what_they_cannot_answer(standing: TestedApplication) -> None:
    code, _, err = await byodpp(standing, "explain", "Itmes", "read", "--tenant", "acme")
    assert code == 1
    assert "Did you mean 'Items'?" in err
    code, _, err = await byodpp(standing, "access", "--tenant", "nobody")
    assert code == 1
    assert "there is no such tenant" in err


async def byodpp(tested: TestedApplication, *words: str) -> tuple[int, str, str]:
    done = await operated(tested, *words)
    return done.returncode, done.stdout, done.stderr


async def test_rows_of_the_platforms_library_are_read_and_not_changed(desk: TestedApplication) -> None:
    admin, operator = desk.client(), desk.client(tenant="platform", user="olga")
    theirs = await made(operator, "/api/v1/roles", name="Everywhere")
    ours = await made(admin, "/api/v1/roles", name="Here")
    for id, status in ((theirs, 403), (ours, 200)):
        assert (await told(admin, resource="Roles", operation="read", id=id))["allowed"] == "yes"
        for operation in ("patch", "update", "delete"):
            answer = await told(admin, resource="Roles", operation=operation, id=id)
            assert (answer["allowed"], answer["status"]) == (("no", 403) if status == 403 else ("yes", None))
        assert (await admin.patch(f"/api/v1/roles/{id}", json={"description": "x"})).status_code == status
    assert (await told(operator, resource="Roles", operation="patch", id=theirs))["allowed"] == "yes"


async def test_operators_ask_for_the_tenant_that_they_name(desk: TestedApplication) -> None:
    admin, operator = desk.client(), desk.client(tenant="platform", user="olga")
    await made(admin, "/api/v1/policies", subject="Clerk", object="Items", action="list")
    asked = {"resource": "Items", "operation": "list", "role": "Clerk"}
    at_acme = await operator.get(EXPLAIN, params=asked, headers={"X-Tenant": "acme"})
    at_beta = await operator.get(EXPLAIN, params=asked, headers={"X-Tenant": "beta"})
    assert [one.json()["data"]["allowed"] for one in (at_acme, at_beta)] == ["yes", "no"]


async def test_every_route_of_a_resource_can_be_asked_about(standing: TestedApplication) -> None:
    served = {
        (one.method, one.pattern, one.resource, one.operation)
        for one in RouteTable.build(standing.connected.routes()).listing()
        if one.resource
    }
    registry, logics = standing.blueprint.registry, standing.blueprint.logics
    known = {
        (one.method, one.url, resource.name, one.operation)
        for resource in registry
        for one in addresses(resource, logics)
    }
    assert known == served
    guide, tenant = standing.connected.service.parts.guide, await standing.tenant("acme")
    session = SessionContext(tenant_id=tenant.id)
    async with standing.connected.database.transaction(session, read_only=True) as transaction:
        for method, pattern, name, operation in sorted(served):
            asked = Question(route=f"{method} {pattern.replace('{id}', '1')}", roles=("Nobody",))
            found = await guide.explain(transaction, tenant.id, asked, None)
            assert (found.resource.name, found.operation) == (name, operation)


async def test_logic_classes_ask_as_well(standing: TestedApplication) -> None:
    guide, tenant = standing.connected.service.parts.guide, await standing.tenant("acme")
    async with standing.connected.database.system() as transaction:
        with pytest.raises(ValidationFailed):
            await guide.explain(transaction, tenant.id, Question(resource="Items"), None)
        with pytest.raises(NotFound):
            asker = Principal(tenant_id=tenant.id, anonymous=True)
            asked = Question(resource="Items", operation="read", id="1", roles=("Admin",))
            await guide.explain(transaction, tenant.id, asked, asker)
