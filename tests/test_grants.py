"""Rows opened to another tenant: read and nothing else, looked up by every statement, closed at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.database import SessionContext
from byodpp.exceptions import Unauthenticated
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

NAME = {"type": "string", "required": True}
MANIFEST = {
    "resources": [
        {
            "name": "Reports",
            "fields": {
                "name": {**NAME, "index": True},
                "secret": {"type": "string", "audience": ["owner"]},
                "kindId": {"references": "Kinds"},
                "authorId": {"type": "bigint"},
                "citesId": {"references": "Reports", "as": "cites"},
            },
            "history": True,
            "access": {
                "read": [
                    "Admin",
                    "Viewer",
                    {"roles": ["public"], "filter": {"name": "published"}, "fields": ["id"]},
                ],
                "write": ["Admin"],
            },
        },
        {
            "name": "Kinds",
            "fields": {"name": NAME},
            "relations": {"reports": {"resource": "Reports", "foreignField": "kindId"}},
            "access": {"read": ["*"], "write": ["Admin"]},
        },
        {
            "name": "Diaries",
            "scope": "user",
            "fields": {"name": NAME},
            "access": {"read": ["*"], "write": ["*"]},
        },
    ],
    "include": ["byodpp:grants", "byodpp:access", "byodpp:audit", "byodpp:keys"],
}
GRANTS, REPORTS = "/api/v1/grants", "/api/v1/reports"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("grants"), MANIFEST)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """It, for what leaves nothing behind that another test would notice."""
    async with byodpp_bench.application(blueprint) as application:
        yield application


@pytest_asyncio.fixture(loop_scope="session")
async def tested(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as application:
        yield application


async def made(client: httpx2.AsyncClient, url: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(url, json=body)
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def opened(tested: TestedApplication, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two reports of acme, of which the first is opened to beta; return it and the grant."""
    acme = tested.client()
    kind = await made(acme, "/api/v1/kinds", name="annual")
    row = await made(acme, REPORTS, name="open", secret="ours", kindId=kind["id"])
    await made(acme, REPORTS, name="closed")
    await made(acme, REPORTS, name="published")  # which shows no more to a guest than to everybody
    grant = await made(acme, GRANTS, object="Reports", rowId=str(row["id"]), grantee="beta", **more)
    return row, grant


def guest(tested: TestedApplication, role: str = "Viewer") -> httpx2.AsyncClient:
    return tested.client(tenant="beta", role=role, headers={"X-Tenant": "acme"})


async def test_an_opened_row_is_read_by_the_other_tenant_and_no_other_row_is(
    tested: TestedApplication,
) -> None:
    row, grant = await opened(tested)
    beta = await tested.tenant("beta")
    assert (grant["grantee"], grant["granteeId"], grant["table"]) == (beta.ulid, beta.id, "reports")
    own = tested.client(tenant="beta", role="Viewer")
    assert (await own.get(f"{REPORTS}/{row['id']}")).status_code == 404, "not without naming the tenant"
    reader = guest(tested)
    found = await reader.get(f"{REPORTS}/{row['id']}?include=kind")
    assert found.status_code == 200, found.text
    assert found.json()["data"]["name"] == "open"
    assert "secret" not in found.json()["data"], "who is a guest is no owner"
    called_so = tested.client(tenant="beta", role=["Viewer", "owner"], headers={"X-Tenant": "acme"})
    answer = await called_so.get(f"{REPORTS}/{row['id']}")
    assert "secret" not in answer.json()["data"], "whatever the other tenant calls his role"
    assert found.json()["data"].get("kind") is None, "what the row refers to was not opened"
    listed = (await reader.get(f"{REPORTS}?sort=name")).json()
    assert [one["name"] for one in listed["data"]] == ["open"] and listed["count"] == 1
    assert (await reader.get(f"{REPORTS}?aggregate=count")).json()["data"][0]["count"] == 1
    assert (await reader.get(f"{REPORTS}/{row['id'] + 1}")).status_code == 404
    assert (await reader.get("/api/v1/kinds")).json()["data"] == []
    assert (await reader.get("/api/v1/diaries")).status_code == 403, (
        "a guest has no rows of a user's own there"
    )


async def test_a_guest_writes_nothing_on_any_route(tested: TestedApplication) -> None:
    row, grant = await opened(tested)
    reader, before = guest(tested, role="Admin"), await _everything(tested)
    tried = 0
    for route in tested.asgi.state.table.listing():
        if not route.resource or route.method == "GET":
            continue
        url = route.pattern.replace("{id}", str(grant["id"] if route.resource == "Grants" else row["id"]))
        answer = await reader.request(route.method, url, json={"name": "x"})
        if url.endswith("/query"):
            refused = (403,) if route.resource == "Diaries" else (200, 400)
            assert answer.status_code in refused, (route, answer.text)
        else:
            assert 400 <= answer.status_code < 500, (route, answer.text)
        tried += 1
    one = {"operation": "create", "resource": "Kinds", "data": {"name": "x"}}
    assert (await reader.post("/api/v1/batch", json=[one])).status_code in (400, 403, 422)
    assert tried > 15 and await _everything(tested) == before


async def _everything(tested: TestedApplication) -> list[Any]:
    async with tested.connected.database.system() as transaction:
        return [
            [
                tuple(row)
                for row in await transaction.fetch(f"select xmin::text, t::text from {table} t order by 2")
            ]
            for table in ("reports", "kinds", "diaries", "grants", "policies", "roles", "api_keys")
        ]


async def test_a_guest_spends_the_budget_of_its_own_tenant(tested: TestedApplication) -> None:
    async with tested.connected.database.system() as transaction:
        await transaction.execute(
            "with c as (insert into tenant_classes (name, requests_per_minute) values ('few', 3)"
            " returning id)"
            " update tenants set tenant_class_id = (select id from c) where slug = 'beta'"
        )
    row, _ = await opened(tested)
    asked = [(await guest(tested).get(f"{REPORTS}/{row['id']}")).status_code for _ in range(5)]
    assert asked == [200, 200, 200, 429, 429], "acme may have a class that allows more"
    assert (await tested.client(tenant="beta").get(REPORTS)).status_code == 429


async def test_a_guest_who_signs_out_is_signed_out(tested: TestedApplication) -> None:
    row, _ = await opened(tested)
    reader = guest(tested)
    assert (await reader.get(f"{REPORTS}/{row['id']}")).status_code == 200
    assert (await reader.delete("/session")).status_code == 204
    await refused_soon(reader, f"{REPORTS}/{row['id']}")


async def refused_soon(client: httpx2.AsyncClient, url: str) -> None:
    """See a revocation come into force."""
    async with asyncio.timeout(10):
        while True:
            if (await client.get(url)).status_code == 401:
                break
            await asyncio.sleep(0.05)


async def test_a_revoked_grant_is_gone_with_the_next_statement(tested: TestedApplication) -> None:
    row, grant = await opened(tested)
    acme, beta = await tested.tenant("acme"), await tested.tenant("beta")
    assert (await guest(tested).get(f"{REPORTS}/{row['id']}")).status_code == 200
    sql = "select count(*) from reports where tenant_id = $1 and name <> 'published'"
    async with tested.connected.database.transaction(SessionContext(tenant_id=beta.id)) as transaction:
        assert await transaction.fetchval(sql, acme.id) == 1
        answer = await tested.client().delete(f"{GRANTS}/{grant['id']}")
        assert answer.status_code == 204, answer.text
        assert await transaction.fetchval(sql, acme.id) == 0, "in the very transaction that had seen it"
    assert (await guest(tested).get(f"{REPORTS}/{row['id']}")).status_code == 403


async def test_a_process_that_has_not_heard_of_the_revocation_shows_nothing_either(
    tested: TestedApplication,
) -> None:
    row, grant = await opened(tested)
    reader = guest(tested)
    assert (await reader.get(f"{REPORTS}/{row['id']}")).status_code == 200
    async with tested.connected.database.system() as transaction:
        await transaction.execute("delete from grants where id = $1", grant["id"])
    # Whom the process lets in it believes for two seconds; what there is to see, the statement asks.
    assert (await reader.get(f"{REPORTS}/{row['id']}")).status_code in (403, 404)
    assert (await reader.get(REPORTS)).json().get("data", []) == []


async def test_a_grant_ends_by_itself(tested: TestedApplication) -> None:
    row, _ = await opened(tested, expiresAt="2100-01-01T00:00:00Z")
    reader = guest(tested)
    assert (await reader.get(f"{REPORTS}/{row['id']}")).status_code == 200
    async with tested.connected.database.system() as transaction:
        await transaction.execute("update grants set expires_at = now() - interval '1 second'")
    assert (await reader.get(f"{REPORTS}/{row['id']}")).status_code in (403, 404)
    assert (await reader.get(REPORTS)).json().get("data", []) == []


async def test_without_a_grant_a_known_tenant_is_refused_like_an_unknown_one(
    tested: TestedApplication,
) -> None:
    await opened(tested)
    for name, caller in (("platform", "beta"), ("nowhere", "beta"), ("beta", "acme")):
        answer = await tested.client(tenant=caller, headers={"X-Tenant": name}).get(REPORTS)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), (name, caller)
        assert answer.json()["error"]["message"] == "X-Tenant names another tenant than your own"
    await tested.add_tenant("acme", status="deactivated")
    tested.connected.authenticator.forget()
    assert (await guest(tested).get(REPORTS)).status_code == 403, "a suspended host has no guests"
    await tested.add_tenant("acme")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"object": "Nothing"}, "object"),
        ({"object": "Users", "rowId": "1"}, "object"),
        ({"object": "Diaries"}, "object"),
        ({"rowId": "987654"}, "rowId"),
        ({"rowId": "abc"}, "rowId"),
        ({"rowId": "01"}, "rowId"),
        ({"grantee": "nobody"}, "grantee"),
        ({"grantee": "acme"}, "grantee"),
        ({"grantee": "no name"}, "grantee"),
        ({"expiresAt": "2001-01-01T00:00:00Z"}, "expiresAt"),
        ({"granteeId": 7}, "granteeId"),
        ({"table": "users"}, "table"),
    ],
)
async def test_what_cannot_be_opened_is_told_at_its_field(
    shared: TestedApplication, body: dict[str, Any], field: str
) -> None:
    acme = shared.client()
    row = await made(acme, REPORTS, name="row")
    said = {"object": "Reports", "rowId": str(row["id"]), "grantee": "beta", **body}
    answer = await acme.post(GRANTS, json=said)
    assert answer.status_code == 422, answer.text
    assert [one["field"] for one in answer.json()["error"]["details"]] == [field], answer.text


async def test_nobody_opens_rows_of_others_and_only_admins_open_rows(tested: TestedApplication) -> None:
    row, _ = await opened(tested)
    said = {"object": "Reports", "rowId": str(row["id"]), "grantee": "platform"}
    beta = await tested.client(tenant="beta").post(GRANTS, json={**said, "grantee": "acme"})
    assert beta.status_code == 422 and beta.json()["error"]["details"][0]["field"] == "rowId", beta.text
    assert (await tested.client(role="Viewer").post(GRANTS, json=said)).status_code == 403
    again = await tested.client().post(GRANTS, json={**said, "grantee": "beta"})
    assert again.status_code == 409, again.text
    assert (await tested.client(tenant="beta").get(GRANTS)).json()["data"] == [], "it is acme's"


async def test_nobody_opens_what_he_does_not_read_himself(tested: TestedApplication) -> None:
    row, _ = await opened(tested)
    admin = tested.client()
    await made(admin, "/api/v1/roles", name="Opener")
    await made(admin, "/api/v1/policies", subject="Opener", object="Grants", action="*")
    rule: dict[str, Any] = {"subject": "Opener", "object": "Reports", "action": "read"}
    only = {"condition": {"name": "open"}}
    narrow = await made(admin, "/api/v1/policies", **rule, **only, fields=["name"])
    opener = tested.client(role="Opener", user="otto")
    said = {"object": "Reports", "rowId": str(row["id"]), "grantee": "platform"}
    refused = await opener.post(GRANTS, json=said)
    assert refused.status_code == 403, refused.text
    [detail] = refused.json()["error"]["details"]
    assert detail["field"] == "rowId" and "secret" in detail["message"], "other roles may read it there"
    # With every field of the rows that he reads he may, though he belongs to no audience.
    await made(admin, "/api/v1/policies", **rule, **only)
    assert (await admin.delete(f"/api/v1/policies/{narrow['id']}")).status_code == 204
    assert (await opener.get(f"{REPORTS}/{row['id']}")).json()["data"]["name"] == "open"
    here = {"condition": {"name": "open"}}
    deny = await made(admin, "/api/v1/policies", **rule, **here, effect="deny", fields=["kindId"])
    assert (await opener.post(GRANTS, json=said)).status_code == 403
    assert (await admin.delete(f"/api/v1/policies/{deny['id']}")).status_code == 204
    assert (await opener.post(GRANTS, json=said)).status_code == 201


async def test_opening_and_closing_stand_in_the_audit_trail(tested: TestedApplication) -> None:
    _, grant = await opened(tested)
    await tested.client().delete(f"{GRANTS}/{grant['id']}")
    entries = await tested.client().get("/api/v1/audit-logs?filter[resourceType]=Grants&sort=id")
    assert [one["action"] for one in entries.json()["data"]] == ["CREATE", "DELETE"], entries.text


async def _standing(tested: TestedApplication, client: httpx2.AsyncClient) -> Any:
    """Return what an export of this caller looks at every ten seconds."""
    authenticator, headers = tested.connected.authenticator, client.headers
    principal = await authenticator.authenticate(headers["authorization"], headers.get("x-tenant"))
    await authenticator.require_standing(principal)

    async def look() -> None:
        await tested.connected.revocation_watch.refresh()
        authenticator.forget()
        await authenticator.require_standing(principal)

    return look


@pytest.mark.parametrize("what", ["grant", "suspension"])
async def test_what_a_guest_has_begun_ends_when_nothing_is_open_to_him_any_more(
    tested: TestedApplication, what: str
) -> None:
    _, grant = await opened(tested)
    again = await made(tested.client(), REPORTS, name="second")
    more = await made(tested.client(), GRANTS, object="Reports", rowId=str(again["id"]), grantee="beta")
    look, at_home = (
        await _standing(tested, guest(tested)),
        await _standing(tested, tested.client(tenant="beta")),
    )
    operator = await _standing(tested, tested.client(tenant="platform", headers={"X-Tenant": "acme"}))
    assert (await tested.client().delete(f"{GRANTS}/{grant['id']}")).status_code == 204
    await look()
    if what == "grant":
        assert (await tested.client().delete(f"{GRANTS}/{more['id']}")).status_code == 204
    else:
        async with tested.connected.database.system() as transaction:
            await transaction.execute("update tenants set status = 'deactivated' where slug = 'acme'")
    with pytest.raises(Unauthenticated, match="opens nothing"):
        await look()
    await at_home()
    await operator()


@pytest.mark.parametrize(
    ("effect", "condition"),
    [
        ("allow", {"kind.name": {"ne": "secret"}}),
        ("allow", {"not": {"kind.name": "secret"}}),
        ("allow", {"kind.name": {"isNull": False}}),
        ("deny", {"kind.name": "secret"}),
        ("deny", {"kind.name": {"ne": "annual"}}),
        ("deny", {"not": {"kind.name": {"startsWith": "a"}}}),
    ],
)
async def test_a_rule_about_a_related_row_holds_for_a_guest_once_that_row_is_opened(
    tested: TestedApplication, effect: str, condition: dict[str, Any]
) -> None:
    row, _ = await opened(tested)
    await ruled(tested, effect, condition)
    assert (await tested.client(role="Reader").get(f"{REPORTS}/{row['id']}")).status_code == 200
    reader = guest(tested, "Reader")
    assert (await reader.get(f"{REPORTS}/{row['id']}")).status_code == 404, "what is unknown never allows"
    assert (await reader.get(REPORTS)).json()["count"] == 0
    await made(tested.client(), GRANTS, object="Kinds", rowId=str(row["kindId"]), grantee="beta")
    assert (await reader.get(f"{REPORTS}/{row['id']}")).status_code == 200


@pytest.mark.parametrize(
    ("effect", "condition", "seen"),
    [
        ("allow", {"kind.reports": {"some": {"name": "open"}}}, True),
        ("allow", {"kind.reports": {"none": {"name": "secret"}}}, False),
        ("allow", {"kind.reports": {"every": {"name": "open"}}}, False),
        ("deny", {"kind.reports": {"some": {"name": "secret"}}}, False),
        ("deny", {"kind.reports": {"none": {"name": "open"}}}, True),
        ("deny", {"not": {"kind.reports": {"some": {"name": "open"}}}}, True),
    ],
)
async def test_a_rule_about_many_rows_holds_for_a_guest_as_far_as_he_sees_them(
    tested: TestedApplication, effect: str, condition: dict[str, Any], seen: bool
) -> None:
    row, _ = await opened(tested)
    await made(tested.client(), GRANTS, object="Kinds", rowId=str(row["kindId"]), grantee="beta")
    await ruled(tested, effect, condition)
    assert (await tested.client(role="Reader").get(f"{REPORTS}/{row['id']}")).status_code == 200
    found = await guest(tested, "Reader").get(f"{REPORTS}/{row['id']}")
    assert found.status_code == (200 if seen else 404)


@pytest.mark.parametrize(
    ("effect", "condition"),
    [
        ("allow", {"kind.reports": {"some": {"secret": "theirs"}}}),
        ("deny", {"kind.reports": {"every": {"secret": {"ne": "theirs"}}}}),
        ("allow", {"cites.secret": "theirs"}),
        ("deny", {"cites.secret": {"ne": "theirs"}}),
    ],
)
async def test_a_rule_about_a_published_row_is_unknown_to_a_guest_to_whom_it_was_not_opened(
    tested: TestedApplication, effect: str, condition: dict[str, Any]
) -> None:
    row, _ = await opened(tested)
    acme = tested.client()
    await made(acme, GRANTS, object="Kinds", rowId=str(row["kindId"]), grantee="beta")
    cited = await made(acme, REPORTS, name="published", secret="theirs", kindId=row["kindId"])
    await acme.patch(f"{REPORTS}/{row['id']}", json={"citesId": cited["id"]})
    await ruled(tested, effect, condition)
    assert (await tested.client(role="Reader").get(f"{REPORTS}/{row['id']}")).status_code == 200
    reader = guest(tested, "Reader")
    assert (await reader.get(f"{REPORTS}/{row['id']}")).status_code == 404, "everybody sees its id only"
    await made(acme, GRANTS, object="Reports", rowId=str(cited["id"]), grantee="beta")
    assert (await reader.get(f"{REPORTS}/{row['id']}")).status_code == 200


async def test_a_field_that_depends_on_rows_which_are_not_opened_is_not_shown_to_a_guest(
    tested: TestedApplication,
) -> None:
    row, _ = await opened(tested)
    await ruled(tested, "deny", {"kind.reports": {"some": {"name": "closed"}}}, fields=["name"])
    for reader, name in ((tested.client(role="Reader"), "open"), (guest(tested, "Reader"), None)):
        found = await reader.get(f"{REPORTS}/{row['id']}")
        assert (found.status_code, found.json()["data"]["name"]) == (200, name)


@pytest.mark.parametrize(
    ("effect", "condition"),
    [("allow", {"authorId": "$user.id"}), ("deny", {"authorId": {"ne": "$user.id"}})],
)
async def test_a_guest_is_no_user_of_the_tenant_whose_user_has_his_number(
    tested: TestedApplication, effect: str, condition: dict[str, Any]
) -> None:
    row, _ = await opened(tested)
    await ruled(tested, effect, condition)
    reader, own = guest(tested, "Reader"), tested.client(tenant="beta", role="Admin")
    number = (await own.get("/api/v1/users?fields=id")).json()["data"][0]["id"]
    await tested.client().patch(f"{REPORTS}/{row['id']}", json={"authorId": number})
    assert (await reader.get(f"{REPORTS}/{row['id']}")).status_code == 404
    assert (await reader.get(REPORTS)).json()["count"] == 0


async def ruled(tested: TestedApplication, effect: str, condition: dict[str, Any], **more: Any) -> None:
    """Let the role Reader read reports by a rule."""
    admin = tested.client()
    await made(admin, "/api/v1/roles", name="Reader")
    rule = {"subject": "Reader", "object": "Reports", "action": "read"}
    if effect == "deny":
        await made(admin, "/api/v1/policies", **rule)
    await made(admin, "/api/v1/policies", **rule, effect=effect, condition=condition, **more)


async def test_what_was_begun_with_a_key_ends_when_its_secret_is_exchanged(tested: TestedApplication) -> None:
    admin = tested.client()
    key = await made(admin, "/api/v1/api-keys", name="robot")
    robot = tested.client(role=None, headers={"Authorization": f"Bearer {key['key']}"})
    look = await _standing(tested, robot)
    await look()
    changed = await admin.post(f"/api/v1/api-keys/{key['id']}/rotate")
    assert changed.status_code == 200, changed.text
    with pytest.raises(Unauthenticated, match="exchanged"):
        await look()
    fresh = tested.client(role=None, headers={"Authorization": f"Bearer {changed.json()['data']['key']}"})
    await (await _standing(tested, fresh))()
