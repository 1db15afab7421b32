"""API keys: made, shown once, bounded, revoked in every process; and tokens that end before their time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from byodpp.authentication import keys
from byodpp.authentication.keys import KeyDirectory, claimed_key, hash_of, new_secret, written
from byodpp.authentication.revocations import BUMP, REVOKED_SINCE, WENT_SINCE, Revocations
from byodpp.bootstrap import Application, Blueprint
from byodpp.exceptions import Unauthenticated
from byodpp.testing import Bench, TestedApplication
from byodpp.transfer import imports
from tests.commands import operated
from tests.patience import answered, blocked, soon
from tests.worlds import build

NAME = {"type": "string", "required": True}
MANIFEST = {
    "resources": [
        {
            "name": "Things",
            "audit": True,
            "fields": {"name": NAME, "kindId": {"references": "Kinds"}},
            "access": {"read": ["Admin", "Viewer"], "write": ["Admin", "Editor"]},
            "states": {"initial": "new", "transitions": {"finish": {"from": "new", "to": "done"}}},
        },
        {"name": "Kinds", "fields": {"name": NAME}, "access": {"read": ["*"], "write": ["Admin"]}},
    ],
    "include": ["byodpp:keys", "byodpp:access", "byodpp:tenancy", "byodpp:audit"],
}
KEYS, THINGS, REVOCATIONS = "/api/v1/api-keys", "/api/v1/things", "/api/v1/revocations"
USERS = "/api/v1/users"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("keys"), MANIFEST)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """It, for what leaves nothing behind that another test would notice."""
    async with byodpp_bench.application(blueprint) as application:
        yield application


@pytest_asyncio.fixture(loop_scope="session")
async def tested(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as application:
        yield application


def with_key(tested: TestedApplication, key: str, **headers: str) -> httpx2.AsyncClient:
    return tested.client(role=None, headers={"Authorization": f"Bearer {key}", **headers})


async def made(
    tested: TestedApplication, *, role: Any = "Admin", user: str = "demo", tenant: str = "acme", **body: Any
) -> dict[str, Any]:
    client = tested.client(role=role, user=user, tenant=tenant)
    answer = await client.post(KEYS, json={"name": "ci", **body})
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def stored(tested: TestedApplication, sql: str, *args: Any) -> Any:
    async with tested.connected.database.system() as transaction:
        return await transaction.fetchval(sql, *args)


@asynccontextmanager
async def another_process(tested: TestedApplication) -> AsyncIterator[TestedApplication]:
    """The same application a second time, on the same database."""
    connected = Application.connect(tested.settings, tested.blueprint)
    other = TestedApplication(
        blueprint=tested.blueprint, settings=tested.settings, connected=connected,
        asgi=connected.asgi(write_access_line=[].append), recorder=tested.recorder,
    )  # fmt: skip
    async with connected.lifespan():
        connected.lifecycle.ready = True
        yield other
        await other.close()


# --- making -----------------------------------------------------------------------------


async def test_a_key_is_shown_once_and_only_its_hash_is_kept(tested: TestedApplication) -> None:
    key = await made(tested)
    assert key["key"].startswith(f"byodpp_{key['id']}_")
    assert key["key"].endswith(key["ending"])
    secret = key["key"].split("_", 2)[2]
    assert len(secret) == 43
    assert await stored(tested, "select hash from byodpp.api_key_hashes") == hash_of(secret)
    admin = tested.client()
    for path in (KEYS, f"{KEYS}/{key['id']}"):
        assert secret not in (await admin.get(path)).text
    await tested.connected.trail.drain()
    tables = ("api_keys", "audit_logs", "byodpp.outbox", "byodpp.idempotency_keys", "byodpp.history")
    for table in tables:
        assert secret not in str(await stored(tested, f"select json_agg(t)::text from {table} t"))
    assert secret not in "".join(tested.access_lines)


@pytest.mark.parametrize(
    "spoilt",
    [
        "operations = '5'", "operations = 'null'", """operations = '[["Things:read"]]'""",
        "maker_roles = '{}'", """roles = '{"Admin": 1}'""", "roles = '\"Admin\"'", "roles = 'true'",
        "roles = (repeat('[', 3000) || repeat(']', 3000))::jsonb",
        "maker_roles = ('[' || repeat('1', 5000) || ']')::jsonb",
        "expires_at = 'infinity'", "created_at = '-infinity'",
    ],
)  # fmt: skip
async def test_a_key_whose_row_cannot_be_read_is_refused_and_the_log_says_why(
    tested: TestedApplication, spoilt: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = await made(tested)
    client = with_key(tested, key["key"])
    assert (await client.get(THINGS)).status_code == 200
    async with tested.connected.database.system() as transaction:
        await transaction.execute(f"update api_keys set {spoilt} where id = $1", key["id"])
        await transaction.execute(BUMP)
    await tested.connected.revocation_watch.refresh()
    for answer in (await client.get(THINGS), await client.post(THINGS, json={"name": "x"})):
        assert answer.status_code == 401, answer.text
    assert f"API key {key['id']} of tenant" in caplog.text


async def test_a_key_acts_for_its_user_with_its_roles(tested: TestedApplication) -> None:
    key = await made(tested, role=["Admin", "Viewer"], roles=["Viewer"], user="ada")
    client = with_key(tested, key["key"])
    assert (await client.get(THINGS)).status_code == 200
    assert (await client.post(THINGS, json={"name": "x"})).status_code == 403
    full = with_key(tested, (await made(tested, user="ada"))["key"])
    thing = (await full.post(THINGS, json={"name": "x"})).json()["data"]
    user = await stored(
        tested, "select user_id from audit_logs where resource_type = 'Things' and result = 'success'"
    )
    assert user == key["userId"] == await stored(tested, "select id from users where name = 'ada'")
    used = await stored(
        tested, "select key_id from audit_logs where resource_type = 'Things' and result = 'success'"
    )
    assert used is not None
    assert used != key["id"]
    assert thing["name"] == "x"


async def test_without_roles_a_key_has_those_of_its_maker(tested: TestedApplication) -> None:
    assert (await made(tested, role=["Viewer", "Editor"]))["roles"] == ["Editor", "Viewer"]
    assert (await made(tested, role="Viewer", roles=[]))["roles"] == []


async def test_nobody_makes_a_key_with_roles_that_he_lacks(tested: TestedApplication) -> None:
    answer = await tested.client(role="Viewer").post(KEYS, json={"name": "x", "roles": ["Viewer", "Admin"]})
    assert answer.status_code == 403
    assert answer.json()["error"]["details"][0]["field"] == "roles.1"
    assert await stored(tested, "select count(*) from api_keys") == 0


async def test_a_key_makes_no_keys_and_no_operator_makes_them_abroad(tested: TestedApplication) -> None:
    key = await made(tested)
    assert (await with_key(tested, key["key"]).post(KEYS, json={"name": "x"})).status_code == 403
    operator = tested.client(tenant="platform", headers={"X-Tenant": "acme"})
    assert (await operator.post(KEYS, json={"name": "x"})).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {"expiresAt": "2020-01-01T00:00:00Z"},
        {"expiresAt": "2090-01-01T00:00:00Z"},
        {"operations": ["Things"]},
        {"operations": ["Things:"]},
        {"operations": ["Things:read:"], "roles": [1]},
        {"roles": ["Admin", "Admin"]},
        {"hash": "x"},
        {"ending": "abcd"},
        {"userId": 1},
        {"name": ""},
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(shared: TestedApplication, body: dict[str, Any]) -> None:
    answer = await shared.client().post(KEYS, json={"name": "x", **body})
    if body.get("operations") == ["Things:read:"]:
        assert "roles.0" in answer.text
    assert answer.status_code == 422, answer.text
    assert await stored(shared, "select count(*) from api_keys") == 0


async def test_operations_of_a_key_that_do_not_exist_are_told_with_what_was_meant(
    shared: TestedApplication,
) -> None:
    operations = ["Things:read", "Thinks:read", "Things:finnish:post", "*:finish:post", "Kinds:finish:post"]
    answer = await shared.client().post(KEYS, json={"name": "x", "operations": operations})
    assert answer.status_code == 422, answer.text
    faults = {one["field"]: (one["code"], one["message"]) for one in answer.json()["error"]["details"]}
    assert {field: code for field, (code, _) in faults.items()} == {
        "operations.1": "unknown_resource",
        "operations.2": "enum",
        "operations.4": "enum",
    }
    assert "Did you mean 'Things'?" in faults["operations.1"][1]
    assert "Did you mean 'finish:post'?" in faults["operations.2"][1]
    assert await stored(shared, "select count(*) from api_keys") == 0


async def test_an_answer_with_a_key_is_kept_for_no_retry(tested: TestedApplication) -> None:
    client = tested.client(headers={"Idempotency-Key": "once"})
    answer = await client.post(KEYS, json={"name": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_header")
    assert await stored(tested, "select count(*) from api_keys") == 0


async def test_no_key_is_made_or_exchanged_for_an_answer_that_would_not_tell_it(
    tested: TestedApplication,
) -> None:
    key = await made(tested)
    brief = tested.client(headers={"Prefer": "respond-async, return=minimal"})
    inside = {"operations": [{"resource": "ApiKeys", "operation": "create", "data": {"name": "x"}}]}
    for path, body in (
        (KEYS, {"name": "x"}), (f"{KEYS}/{key['id']}/rotate", None), ("/api/v1/batch", inside)
    ):  # fmt: skip
        answer = await brief.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_header"), answer.text
        assert "return=minimal" in answer.text
    assert await stored(tested, "select count(*) from api_keys") == 1
    assert (await with_key(tested, key["key"]).get(THINGS)).status_code == 200


async def test_a_user_sees_and_revokes_his_own_keys_an_admin_all(tested: TestedApplication) -> None:
    ada = await made(tested, role="Viewer", user="ada")
    bob = await made(tested, role="Viewer", user="bob")
    client = tested.client(role="Viewer", user="ada")
    assert [row["id"] for row in (await client.get(KEYS)).json()["data"]] == [ada["id"]]
    assert (await client.get(f"{KEYS}/{bob['id']}")).status_code == 404
    assert (await client.post(f"{KEYS}/{bob['id']}/revoke")).status_code == 404
    assert (await client.post(f"{KEYS}/{bob['id']}/rotate")).status_code == 404
    admin = tested.client()
    assert len((await admin.get(KEYS)).json()["data"]) == 2
    assert (await admin.post(f"{KEYS}/{bob['id']}/rotate")).status_code == 403, "it would act as bob"
    assert (await admin.post(f"{KEYS}/{bob['id']}/revoke")).status_code == 200
    other = tested.client(tenant="beta")
    assert (await other.post(f"{KEYS}/{ada['id']}/revoke")).status_code == 404


async def test_a_user_has_a_bounded_number_of_keys(
    tested: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byodpp.part_logics.keys._MOST_KEYS", 2)
    first = await made(tested)
    await made(tested)
    client = tested.client()
    assert (await client.post(KEYS, json={"name": "x"})).status_code == 409
    assert (await client.post(f"{KEYS}/{first['id']}/revoke")).status_code == 200
    assert (await client.post(KEYS, json={"name": "x"})).status_code == 201


# --- what a key may -----------------------------------------------------------------------

OPERATIONS = [
    (["Things:read"], {"list": 200, "read": 200, "create": 403, "finish": 403, "kinds": 403, "keys": 403}),
    (["Things:create"], {"list": 403, "read": 403, "create": 201, "finish": 403, "kinds": 403, "keys": 403}),
    (["Things:write"], {"list": 403, "read": 403, "create": 201, "finish": 404, "kinds": 403, "keys": 403}),
    (["Things:*"], {"list": 200, "read": 200, "create": 201, "finish": 200, "kinds": 403, "keys": 403}),
    (["*:read"], {"list": 200, "read": 200, "create": 403, "finish": 403, "kinds": 200, "keys": 200}),
    (["Things:read", "Things:finish:post"],
     {"list": 200, "read": 200, "create": 403, "finish": 200, "kinds": 403, "keys": 403}),
    (["*:*"], {"list": 200, "read": 200, "create": 201, "finish": 200, "kinds": 200, "keys": 200}),
    ([], {"list": 403, "read": 403, "create": 403, "finish": 403, "kinds": 403, "keys": 403}),
]  # fmt: skip


@pytest.mark.parametrize(("operations", "expected"), OPERATIONS, ids=[str(one) for one, _ in OPERATIONS])
async def test_a_key_does_no_more_than_its_operations(
    tested: TestedApplication, operations: list[str], expected: dict[str, int]
) -> None:
    thing = (await tested.client().post(THINGS, json={"name": "x"})).json()["data"]["id"]
    client = with_key(tested, (await made(tested, operations=operations))["key"])
    found = {
        "list": await client.get(THINGS),
        "read": await client.get(f"{THINGS}/{thing}"),
        "create": await client.post(THINGS, json={"name": "y"}),
        "finish": await client.post(f"{THINGS}/{thing}/finish"),
        "kinds": await client.get("/api/v1/kinds"),
        "keys": await client.get(KEYS),
    }
    assert {name: answer.status_code for name, answer in found.items()} == expected


async def test_what_a_key_may_not_read_cannot_be_included_or_filtered_by(tested: TestedApplication) -> None:
    client = with_key(tested, (await made(tested, operations=["Things:read"]))["key"])
    assert (await client.get(f"{THINGS}?include=kind")).status_code == 400
    assert (await client.get(f"{THINGS}?filter[kind.name]=x")).status_code == 400
    steps = [{"operation": "list", "resource": "Kinds"}]
    assert (await client.post("/api/v1/batch", json=steps)).status_code == 403


async def test_what_its_user_was_answered_is_not_told_again_to_a_key(tested: TestedApplication) -> None:
    user = tested.client(role=["Admin", "Editor"])
    text = (await made(tested, role=["Admin", "Editor"], roles=["Editor"]))["key"]
    key, once = with_key(tested, text), {"Idempotency-Key": "nightly"}
    own = await user.post(THINGS, json={"name": "pen"}, headers=once)
    assert own.json()["data"]["name"] == "pen"
    answers = [await key.post(THINGS, json={"name": "pen"}, headers=once) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true"]
    assert [answer.json()["data"].keys() for answer in answers] == [{"id"}, {"id"}], "it does not read things"
    again = await user.post(THINGS, json={"name": "pen"}, headers=once)
    assert again.json()["data"] == own.json()["data"]


async def test_what_an_import_of_its_user_has_met_is_not_told_to_a_key(tested: TestedApplication) -> None:
    user = tested.client(role=["Admin", "Editor"])
    kind = (await user.post("/api/v1/kinds", json={"name": "k"})).json()["data"]["id"]
    key = with_key(tested, (await made(tested, operations=["Things:create"]))["key"])
    file, plain = f"name,kindId\npen,{kind}\n", {"Content-Type": "text/csv"}
    for headers in (plain, {**plain, "Idempotency-Key": "nightly"}):
        own = await user.post(f"{THINGS}/import", content=file, headers=headers)
        assert own.json()["data"]["created"] == 1, own.text
        told = (await key.post(f"{THINGS}/import", content=file, headers=headers)).json()["data"]
        assert (told["created"], told["rejected"]) == (0, 1), "it may refer to no kind"
    assert (await key.get(f"{THINGS}/import?key=nightly")).json()["data"]["rejected"] == 1


async def test_a_key_with_all_operations_still_has_only_its_roles(tested: TestedApplication) -> None:
    key = await made(tested, role="Viewer", operations=["*:*"])
    assert (await with_key(tested, key["key"]).post(THINGS, json={"name": "y"})).status_code == 403


# --- the end of a key ---------------------------------------------------------------------


async def test_a_revoked_key_is_refused_in_every_process_within_a_second(tested: TestedApplication) -> None:
    async with another_process(tested) as other:
        key = await made(tested)
        clients = [with_key(process, key["key"]) for process in (tested, other)]
        for client in clients:
            assert (await client.get(THINGS)).status_code == 200
        assert (await tested.client().post(f"{KEYS}/{key['id']}/revoke")).status_code == 200
        assert (await clients[0].get(THINGS)).status_code == 401, "here at once"
        await soon(answered(clients[1], THINGS), 401)
        answer = await clients[1].get(THINGS)
        assert (answer.status_code, answer.json()["error"]["message"]) == (401, "The API key was revoked")
        again = await tested.client().post(f"{KEYS}/{key['id']}/revoke")
        assert again.status_code == 200


async def test_keys_are_not_imported_for_nobody_would_be_told_them(
    tested: TestedApplication, tmp_path: Path
) -> None:
    kept, admin = await made(tested), tested.client()
    file = tmp_path / "keys.ndjson"
    exported = await admin.get(f"{KEYS}/export")
    assert exported.status_code == 200 and kept["key"][-43:] not in exported.text
    file.write_text('{"name": "copied"}\n')
    headers = {"Content-Type": "application/x-ndjson"}
    refused = await admin.post(f"{KEYS}/import", content=file.read_bytes(), headers=headers)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS"), refused.text
    done = await operated(tested, "import", "ApiKeys", file, "--tenant", "acme")
    assert done.returncode and "an import would tell it to nobody" in done.stderr, done
    assert await stored(tested, "select count(*) from api_keys") == 1
    paths = (await admin.get("/openapi.json")).json()["paths"]
    assert f"{THINGS}/import" in paths and f"{KEYS}/import" not in paths
    told = await admin.post(
        "/api/v1/batch", json=[{"resource": "ApiKeys", "operation": "create", "data": {"name": "x"}}]
    )
    assert (await with_key(tested, told.json()["data"][0]["key"]).get(THINGS)).status_code == 200


async def test_an_import_ends_when_its_key_is_revoked(
    tested: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk = imports.Importer._chunk
    key = await made(tested)

    async def then_revoked(self: Any, *rest: Any) -> None:
        await chunk(self, *rest)
        assert (await tested.client().post(f"{KEYS}/{key['id']}/revoke")).status_code == 200

    monkeypatch.setattr(imports, "STANDING_SECONDS", 0.0)
    monkeypatch.setattr(imports.Importer, "_chunk", then_revoked)
    sent = "name\n" + "".join(f"n{number}\n" for number in range(9_000))
    cut = await with_key(tested, key["key"]).post(
        f"{THINGS}/import", content=sent, headers={"Content-Type": "text/csv"}
    )
    assert (cut.status_code, cut.json()["error"]["message"]) == (401, "The API key was revoked")
    assert 0 < await stored(tested, "select count(*) from things") < 9_000


async def test_a_rotated_key_has_another_secret_and_the_former_is_worth_nothing(
    tested: TestedApplication,
) -> None:
    async with another_process(tested) as other:
        key = await made(tested)
        assert (await with_key(other, key["key"]).get(THINGS)).status_code == 200
        fresh = (await tested.client().post(f"{KEYS}/{key['id']}/rotate")).json()["data"]
        assert fresh["id"] == key["id"]
        assert (await with_key(tested, key["key"]).get(THINGS)).status_code == 401
        assert (await with_key(tested, fresh["key"]).get(THINGS)).status_code == 200
        await soon(answered(with_key(other, key["key"]), THINGS), 401)
        assert (await with_key(other, fresh["key"]).get(THINGS)).status_code == 200
    revoked = tested.client()
    assert (await revoked.post(f"{KEYS}/{key['id']}/revoke")).status_code == 200
    assert (await revoked.post(f"{KEYS}/{key['id']}/rotate")).status_code == 409


async def test_an_expired_key_is_refused(tested: TestedApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    client = with_key(tested, (await made(tested, expiresAt=end.isoformat()))["key"])
    assert (await client.get(THINGS)).status_code == 200
    authenticator = tested.connected.authenticator
    caller = await authenticator.authenticate(client.headers["authorization"], None)
    await authenticator.require_standing(caller, unexpired=True)
    monkeypatch.setattr(keys, "time", SimpleNamespace(time=end.timestamp))
    answer = await client.get(THINGS)
    assert (answer.status_code, answer.json()["error"]["message"]) == (401, "The API key has expired")
    await authenticator.require_standing(caller)  # an export that has begun goes on
    with pytest.raises(Unauthenticated, match="expired"):
        await authenticator.require_standing(caller, unexpired=True)


async def test_who_came_with_a_token_that_has_expired_goes_on_but_listens_no_more(
    tested: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticator, token = tested.connected.authenticator, tested.token(user="ada")
    caller = await authenticator.authenticate(f"Bearer {token}", None)
    await authenticator.require_standing(caller, unexpired=True)
    assert caller.claims is not None
    late = caller.claims.expires_at + tested.settings.token_leeway_seconds
    monkeypatch.setattr(authenticator._verifier, "_clock", lambda: late)
    await authenticator.require_standing(caller)
    with pytest.raises(Unauthenticated, match="expired"):
        await authenticator.require_standing(caller, unexpired=True)


async def test_keys_end_with_their_user_and_their_tenant(tested: TestedApplication) -> None:
    admin = tested.client()
    for user in ("ada", "bob", "eve"):
        key = await made(tested, user=user)
        client = with_key(tested, key["key"])
        assert (await client.get(THINGS)).status_code == 200
        path = f"/api/v1/users/{key['userId']}"
        if user == "ada":
            assert (await admin.patch(path, json={"status": "deactivated"})).status_code == 200
        elif user == "bob":
            await stored(tested, "delete from users where id = $1 returning id", key["userId"])
            tested.connected.revocation_watch._keys.forget()
        else:
            sql = "update tenants set status = 'deactivated' where slug = 'acme' returning id"
            acme = await stored(tested, sql)
            told = "insert into byodpp.directory_changes (tenant_id) values ($1) returning tenant_id"
            assert await stored(tested, told, acme) == acme
        await soon(answered(client, THINGS), 401)


@pytest.mark.parametrize(
    "text",
    [
        "byodpp_",
        "byodpp__",
        written("0" * 26, "A" * 43),
        written("0" * 26, "A" * 42),
        written("8" * 26, "A" * 43),
        written("0" * 26, "A" * 44),
        written("0" * 26, "A" * 4_000),
        written("0" * 26, "A" * 42 + "."),
    ],
)
async def test_what_is_no_key_is_refused_as_such(shared: TestedApplication, text: str) -> None:
    answer = await with_key(shared, text).get(THINGS)
    assert answer.status_code == 401
    assert "invalid_token" in answer.headers["www-authenticate"]


async def test_another_secret_is_refused_and_noted_in_the_keys_tenant(tested: TestedApplication) -> None:
    key = await made(tested)
    forged = written(key["id"], new_secret())
    assert (await with_key(tested, forged).get(THINGS)).status_code == 401
    swapped = key["key"][:-1] + ("A" if key["key"][-1] != "A" else "B")
    assert (await with_key(tested, swapped).get(THINGS)).status_code == 401
    await tested.connected.trail.drain()
    noted = await stored(
        tested,
        "select json_agg(json_build_array(result, key_id, tenant_id)) from audit_logs"
        " where action = 'SIGN_IN'",
    )
    acme = (await tested.tenant("acme")).id
    assert json.loads(noted) == [["failure", key["id"], acme]] * 2
    assert claimed_key(forged) == key["id"]


async def test_a_key_travels_in_the_header_alone(tested: TestedApplication) -> None:
    key = (await made(tested))["key"]
    nobody = tested.client(role=None, headers={"Cookie": f"token={key}", "X-API-Key": key})
    assert (await nobody.get(THINGS)).status_code == 401
    assert (await nobody.get(f"{THINGS}?token={key}")).status_code in (400, 401)


async def test_a_key_stays_in_its_tenant_and_an_operators_key_goes_where_he_may(
    tested: TestedApplication,
) -> None:
    key = (await made(tested))["key"]
    assert (await with_key(tested, key, **{"X-Tenant": "beta"}).get(THINGS)).status_code == 403
    operator = (await made(tested, tenant="platform"))["key"]
    client = with_key(tested, operator, **{"X-Tenant": "acme"})
    assert (await client.post(THINGS, json={"name": "x"})).status_code == 201
    row = await stored(
        tested,
        "select json_build_array(actor_tenant_id, key_id is not null) from audit_logs"
        " where result = 'success' order by id desc limit 1",  # what was refused may be written after it
    )
    assert json.loads(row) == [0, True]


async def test_each_key_has_a_budget_of_its_own(byodpp_bench: Bench, blueprint: Blueprint) -> None:
    async with byodpp_bench.application(blueprint, rate_limit_per_user=6) as tested:
        one, two = await made(tested), await made(tested)
        clients = [with_key(tested, one["key"]), with_key(tested, two["key"]), tested.client()]
        for _ in range(6):
            assert (await clients[0].get(THINGS)).status_code == 200
        assert (await clients[0].get(THINGS)).status_code == 429
        assert (await clients[1].get(THINGS)).status_code == 200
        assert (await clients[2].get(THINGS)).status_code == 200, "nor does it use up the user's"


async def test_when_a_key_was_used_is_known_without_a_write_per_request(tested: TestedApplication) -> None:
    key = await made(tested)
    client = with_key(tested, key["key"])
    before = await stored(tested, "select xmin::text from api_keys")
    for _ in range(5):
        assert (await client.get(THINGS)).status_code == 200
    assert await stored(tested, "select xmin::text from api_keys") == before
    await tested.connected.revocation_watch._keys.write_uses()
    row = (await tested.client().get(f"{KEYS}/{key['id']}")).json()["data"]
    used = datetime.fromisoformat(row["lastUsedAt"])
    assert used.second == 0
    assert datetime.now(UTC) - used < timedelta(minutes=2)
    assert (await client.get(THINGS)).status_code == 200, "and nothing is looked up anew for it"


async def test_a_key_that_was_looked_up_while_it_changed_is_not_believed(tested: TestedApplication) -> None:
    key = await made(tested)
    directory = KeyDirectory(tested.connected.database)
    found = directory._database

    class Slow:
        places: ClassVar[dict[str, Any]] = {}

        def serving(self) -> list[tuple[None, Any]]:
            return [(None, self)]

        def system(self) -> Any:
            directory.forget()  # the change is told while the answer is on its way
            return found.system()

    directory._database = Slow()  # type: ignore[assignment]
    assert (await directory.resolve(key["key"])).id == key["id"]
    assert len(directory._found) == 0


# --- revocation of tokens -------------------------------------------------------------------


async def test_a_token_is_revoked_by_its_id_in_every_process_within_a_second(
    tested: TestedApplication,
) -> None:
    async with another_process(tested) as other:
        bad, good = (
            {"Authorization": f"Bearer {tested.token(jti=jti, user='ada')}"} for jti in ("bad-1", "good-1")
        )
        clients = [process.client(role=None, headers=bad) for process in (tested, other)]
        for client in clients:
            assert (await client.get(THINGS)).status_code == 200
        body = {"kind": "token", "subject": "bad-1", "reason": "stolen"}
        assert (await tested.client().post(REVOCATIONS, json=body)).status_code == 201
        assert (await clients[0].get(THINGS)).status_code == 401
        await soon(answered(clients[1], THINGS), 401)
        answer = await clients[1].get(THINGS)
        assert "revoked" in answer.json()["error"]["message"]
        assert (await other.client(role=None, headers=good).get(THINGS)).status_code == 200


async def test_a_users_tokens_and_keys_are_revoked_together(tested: TestedApplication) -> None:
    key = await made(tested, user="ada")
    old = [tested.client(user="ada"), with_key(tested, key["key"])]
    neighbour = tested.client(user="bob")
    for client in (*old, neighbour):
        assert (await client.get(THINGS)).status_code == 200
    body = {"kind": "user", "subject": str(key["userId"])}
    assert (await tested.client(user="root").post(REVOCATIONS, json=body)).status_code == 201
    for client in old:
        assert (await client.get(THINGS)).status_code == 401
    assert (await neighbour.get(THINGS)).status_code == 200
    await asyncio.sleep(1.01 - time.time() % 1)  # a token counts whole seconds
    assert (await tested.client(user="ada").get(THINGS)).status_code == 200, "who signs in anew is let in"


@pytest.mark.parametrize("kind", ["user", "tenant"])
async def test_a_token_of_a_clock_that_is_ahead_outlives_no_revocation(
    tested: TestedApplication, kind: str
) -> None:
    """It says a time of issue that is still to come, and lies within the leeway."""
    ahead = tested.token(user="ada", iat=int(time.time()) + 25)
    client = tested.client(role=None, headers={"Authorization": f"Bearer {ahead}"})
    assert (await client.get(THINGS)).status_code == 200
    key = await made(tested, user="ada")
    body = {"kind": kind, "subject": str(key["userId"]) if kind == "user" else None}
    operator = tested.client(tenant="platform", headers={"X-Tenant": "acme"})
    revoking = {name: value for name, value in body.items() if value is not None}
    assert (await operator.post(REVOCATIONS, json=revoking)).status_code == 201
    async with another_process(tested) as other:  # that has never seen it
        for each in (client, other.client(role=None, headers={"Authorization": f"Bearer {ahead}"})):
            answer = await each.get(THINGS)
            assert answer.status_code == 401
            assert "revoked" in answer.json()["error"]["message"]
    if kind == "user":
        assert (await tested.client(user="bob").get(THINGS)).status_code == 200
    await _signs_in_anew_after_a_revocation(tested, tenant="beta")


@pytest.mark.parametrize("way", ["user", "tenant", "command"])
async def test_a_key_whose_time_is_still_to_come_outlives_no_revocation(
    tested: TestedApplication, way: str
) -> None:
    ahead, ada, bob = [await made(tested, user=user) for user in ("ada", "ada", "bob")]
    spoilt = "update api_keys set created_at = now() + interval '1 day' where id <> $1 returning id"
    assert await stored(tested, spoilt, ada["id"]) is not None
    async with another_process(tested) as other:
        clients = [with_key(process, ahead["key"]) for process in (tested, other)]
        assert [(await client.get(THINGS)).status_code for client in clients] == [200, 200]
        if way == "command":
            await operated(tested, "revoke", "--tenant", "acme", "--user", str(ahead["userId"]))
        else:
            body = {"kind": way} | ({"subject": f"0{ahead['userId']}"} if way == "user" else {})
            assert (await tested.client(user="root").post(REVOCATIONS, json=body)).status_code == 201
        for client in (*clients, with_key(tested, ada["key"])):
            await soon(answered(client, THINGS), 401)
        kept = await with_key(tested, bob["key"]).get(THINGS)
        assert kept.status_code == (401 if way == "tenant" else 200)


async def _signs_in_anew_after_a_revocation(tested: TestedApplication, tenant: str) -> None:
    admin = tested.client(tenant=tenant)
    assert (await admin.post(REVOCATIONS, json={"kind": "tenant"})).status_code == 201
    assert (await admin.get(THINGS)).status_code == 401
    await asyncio.sleep(1.01 - time.time() % 1)  # a token counts whole seconds
    assert (await tested.client(tenant=tenant).get(THINGS)).status_code == 200


@pytest.mark.parametrize("before", ["revoked", "deactivated", "active"])
async def test_what_a_user_had_is_good_no_more_when_his_row_is_deleted(
    tested: TestedApplication, before: str
) -> None:
    """The next token writes another row, of another id: what was revoked by the id would be good again."""
    key, admin = await made(tested, user="ada"), tested.client(user="root")
    old, user = tested.client(user="ada"), key["userId"]
    async with another_process(tested) as other:
        elsewhere = other.client(role=None, headers={"Authorization": old.headers["authorization"]})
        assert [(await one.get(THINGS)).status_code for one in (old, elsewhere)] == [200, 200]
        if before == "revoked":
            body = {"kind": "user", "subject": str(user)}
            assert (await admin.post(REVOCATIONS, json=body)).status_code == 201
        if before == "deactivated":
            changed = await admin.patch(f"{USERS}/{user}", json={"status": "deactivated"})
            assert changed.status_code == 200, changed.text
        assert (await admin.delete(f"{USERS}/{user}")).status_code == 204
        for client in (old, with_key(tested, key["key"])):
            assert (await client.get(THINGS)).status_code == 401
        await soon(answered(elsewhere, THINGS), 401)
    assert (await tested.client(user="bob").get(THINGS)).status_code == 200
    await asyncio.sleep(1.01 - time.time() % 1)  # a token counts whole seconds
    assert (await tested.client(user="ada").get(THINGS)).status_code == 200, "who signs in anew is let in"


async def test_a_deleted_user_is_known_again_however_long_his_subject_is(tested: TestedApplication) -> None:
    admin, subject = tested.client(user="root"), "x" * 255
    headers = {"Authorization": f"Bearer {tested.token(sub=subject)}"}
    old, other = tested.client(role=None, headers=headers), tested.client(user="bob")
    assert [(await one.get(THINGS)).status_code for one in (admin, old, other)] == [200, 200, 200]
    user = await stored(tested, "select id from users where subject = $1", subject)
    assert (await admin.delete(f"{USERS}/{user}")).status_code == 204
    assert [(await one.get(THINGS)).status_code for one in (old, other)] == [401, 200]
    async with another_process(tested) as elsewhere:
        again = elsewhere.client(role=None, headers=headers)
        assert (await again.get(THINGS)).status_code == 401


async def test_a_process_that_has_not_heard_of_a_deleted_user_writes_no_other_row(
    tested: TestedApplication,
) -> None:
    """With one he could make a key, which outlives the revocation of what he had before."""
    admin, old = tested.client(user="root"), tested.client(user="ada")
    assert [(await one.get(THINGS)).status_code for one in (admin, old)] == [200, 200]
    users = (await admin.get(f"{USERS}?sort=id")).json()["data"]
    async with another_process(tested) as other:
        await other.connected.revocation_watch.looks.stop()
        assert (await admin.delete(f"{USERS}/{users[-1]['id']}")).status_code == 204
        elsewhere = other.client(role=None, headers={"Authorization": old.headers["authorization"]})
        assert (await elsewhere.post(KEYS, json={"name": "robot"})).status_code == 401
        assert (await admin.get(f"{USERS}?sort=id")).json()["data"] == users[:-1]


@pytest.mark.parametrize("kind", ["token", "user", "tenant", "command"])
async def test_no_key_is_made_or_exchanged_in_a_process_that_has_not_heard_of_a_revocation(
    tested: TestedApplication, kind: str
) -> None:
    """By its own time it would be younger than the revocation, and good for a year."""
    token = tested.token(user="ada", jti="ada-1")
    authorization = {"Authorization": f"Bearer {token}"}
    mine = (await tested.client(role=None, headers=authorization).post(KEYS, json={"name": "mine"})).json()
    id, user = mine["data"]["id"], mine["data"]["userId"]
    subject = {"token": {"subject": "ada-1"}, "user": {"subject": str(user)}}.get(kind, {})
    async with another_process(tested) as other:
        elsewhere = other.client(role=None, headers=authorization)
        assert (await elsewhere.get(THINGS)).status_code == 200
        await other.connected.revocation_watch.looks.stop()
        if kind == "command":
            await operated(tested, "revoke", "--tenant", "acme", "--user", str(user))
        else:
            operator = tested.client(tenant="platform", headers={"X-Tenant": "acme"})
            body = {"kind": kind, **subject}
            assert (await operator.post(REVOCATIONS, json=body)).status_code == 201
        for path, sent in ((KEYS, {"name": "robot"}), (f"{KEYS}/{id}/rotate", None)):
            answer = await elsewhere.post(path, json=sent)
            assert answer.status_code == 401 and "was revoked" in answer.text
        # To read is a matter of half a second, and leaves nothing behind.
        assert (await elsewhere.get(THINGS)).status_code == 200
    assert await stored(tested, "select count(*) from api_keys") == 1
    assert await stored(tested, "select hash from byodpp.api_key_hashes") == hash_of(
        mine["data"]["key"].split("_", 2)[2]
    )


async def test_a_session_that_has_gone_on_is_as_old_as_its_beginning(tested: TestedApplication) -> None:
    """What was revoked since keeps it from making a key with the younger token that it goes on with."""
    begun_at, authenticator = time.time() - 60, tested.connected.authenticator
    for jti, ahead, before in (("a", 0, 0), ("b", 20, tested.settings.token_leeway_seconds)):
        header = f"Bearer {tested.token(user='ada', jti=jti, iat=int(time.time()) + ahead)}"
        caller = await authenticator.authenticate_session(header, begun_at=begun_at, session_id="begun")
        assert caller.made_at == begun_at - before


@pytest.mark.parametrize("kind", ["user", "tenant"])
@pytest.mark.parametrize("first", ["key", "revocation"])
async def test_no_key_outlives_a_revocation_that_was_under_way_when_it_was_made(
    tested: TestedApplication, kind: str, first: str
) -> None:
    user = (await made(tested, user="ada"))["userId"]
    old = tested.client(user="ada")
    operator = tested.client(tenant="platform", headers={"X-Tenant": "acme"})
    revoked = {"kind": kind} | ({"subject": str(user)} if kind == "user" else {})
    steps = [
        {"resource": "Revocations", "operation": "create", "data": revoked},
        {"resource": "Things", "operation": "create", "data": {"name": "x"}},  # has to wait
    ]
    async with tested.connected.database.system() as transaction:
        await transaction.execute("lock table things in share mode")
        body = steps if first == "revocation" else steps[::-1]
        revoking = asyncio.create_task(operator.post("/api/v1/batch", json=body))
        await blocked(transaction)
        making = asyncio.create_task(old.post(KEYS, json={"name": "robot"}))
        if first == "key":
            assert (await making).status_code == 201
    assert (await revoking).status_code == 200
    answer = await making
    if first == "revocation":
        assert answer.status_code == 401 and "was revoked" in answer.text
    else:
        assert (await with_key(tested, answer.json()["data"]["key"]).get(THINGS)).status_code == 401
    assert (await old.get(THINGS)).status_code == 401


@pytest.mark.parametrize(
    ("kind", "subject", "ends"),
    [
        ("user", "{user}", "null"),
        ("user", "0{user}", "now() + interval '1 day'"),
        ("user", "nobody", "now() + interval '1 day'"),
        ("tenant", "", "null"),
        ("token", "known-1", "null"),
    ],
)
async def test_no_key_outlives_a_revocation_that_sql_wrote_and_nobody_has_read(
    tested: TestedApplication, kind: str, subject: str, ends: str
) -> None:
    """Whoever makes a key brings it into force with it; the key would be the younger one."""
    user = (await made(tested, user="ada"))["userId"]
    token = tested.token(user="ada", jti="known-1")
    ada = tested.client(role=None, headers={"Authorization": f"Bearer {token}"})
    assert (await ada.get(THINGS)).status_code == 200
    await stored(
        tested,
        f"insert into revocations (tenant_id, kind, subject, expires_at)"
        f" values ($1, $2, nullif($3, ''), {ends}) returning id",
        (await tested.tenant("acme")).id, kind, subject.format(user=user),
    )  # fmt: skip
    refused = await ada.post(KEYS, json={"name": "late"})
    assert refused.status_code == 401, refused.text
    assert await stored(tested, "select count(*) from api_keys where name = 'late'") == 0
    if kind == "token":
        bob = await tested.client(user="bob").post(KEYS, json={"name": "late"})
        assert bob.status_code == 201 and (await ada.get(THINGS)).status_code == 401


async def test_an_endless_note_of_a_deleted_user_keeps_his_token_from_writing_another_row(
    tested: TestedApplication,
) -> None:
    await stored(
        tested,
        "insert into revocations (tenant_id, kind, subject) values ($1, 'token', 'sub:gone') returning id",
        (await tested.tenant("acme")).id,
    )
    old = tested.client(role=None, headers={"Authorization": f"Bearer {tested.token(sub='gone')}"})
    assert (await old.get(THINGS)).status_code == 401
    assert await stored(tested, "select count(*) from users where subject = 'gone'") == 0


@pytest.mark.parametrize("sql", [WENT_SINCE, REVOKED_SINCE])
async def test_revocations_that_have_ended_cost_nobody_anything(tested: TestedApplication, sql: str) -> None:
    acme = (await tested.tenant("acme")).id
    made_at = time.time() - 60
    async with tested.connected.database.system() as transaction:
        await transaction.execute(
            "insert into revocations (tenant_id, kind, subject, expires_at) select $1, 'token', 'j' || n,"
            " now() - interval '1 day' from generate_series(1, 20000) n",
            acme,
        )
    owner = await asyncpg.connect(tested.settings.postgres_admin_uri)
    await owner.execute("analyze revocations")  # nobody else's is done
    await owner.close()
    async with tested.connected.database.system() as transaction:
        arguments = (acme, "ada", made_at) if sql is WENT_SINCE else (acme, ["j1"], made_at, "5")
        plan = await transaction.fetchval(f"explain (analyze, format json) {sql}", *arguments)
    assert '"Rows Removed by Filter": 20000' not in plan, plan


async def test_a_tenants_tokens_and_keys_are_revoked_together(tested: TestedApplication) -> None:
    key = await made(tested, user="ada")
    beta = tested.client(tenant="beta")
    clients = [tested.client(), with_key(tested, key["key"])]
    operator = tested.client(tenant="platform", headers={"X-Tenant": "acme"})
    assert (await operator.post(REVOCATIONS, json={"kind": "tenant"})).status_code == 201
    for client in clients:
        assert (await client.get(THINGS)).status_code == 401
    assert (await beta.get(THINGS)).status_code == 200
    assert (await operator.get(THINGS)).status_code == 200


async def test_a_user_signs_out_and_no_copy_of_the_token_survives(tested: TestedApplication) -> None:
    token = tested.token(role="Viewer", user="ada", jti="copy-1")
    clients = [tested.client(role=None, headers={"Authorization": f"Bearer {token}"}) for _ in range(2)]
    assert (await clients[0].post(f"{REVOCATIONS}/own")).status_code == 204
    assert (await clients[1].get(THINGS)).status_code == 401
    row = await stored(tested, "select json_build_array(kind, subject, reason) from revocations")
    assert json.loads(row) == ["token", "copy-1", "signed out"]
    bare = tested.token(role="Viewer", user="bob", jti=None)
    client = tested.client(role=None, headers={"Authorization": f"Bearer {bare}"})
    assert (await client.post(f"{REVOCATIONS}/own")).status_code == 204
    assert (await client.get(THINGS)).status_code == 401
    key = await made(tested)
    assert (await with_key(tested, key["key"]).post(f"{REVOCATIONS}/own")).status_code == 409


async def test_an_id_is_revoked_in_its_own_tenant_alone(tested: TestedApplication) -> None:
    shared = tested.token(tenant="beta", jti="same")
    client = tested.client(role=None, headers={"Authorization": f"Bearer {shared}"})
    body = {"kind": "token", "subject": "same"}
    assert (await tested.client().post(REVOCATIONS, json=body)).status_code == 201
    assert (await client.get(THINGS)).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "token"}, "subject"),
        ({"kind": "user"}, "subject"),
        ({"kind": "tenant", "subject": "1"}, "subject"),
        ({"kind": "user", "subject": "987654"}, "subject"),
        ({"kind": "user", "subject": "x"}, "subject"),
        ({"kind": "user", "subject": "9" * 200}, "subject"),
        ({"kind": "key", "subject": "x"}, "kind"),
        ({"kind": "token", "subject": "x", "number": 5}, "number"),
        ({"kind": "token", "subject": "x", "expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        # so users are written down who were deleted, and they are not counted
        ({"kind": "token", "subject": "sub:ada"}, "subject"),
    ],
)
async def test_a_revocation_that_makes_no_sense_is_refused(
    shared: TestedApplication, body: dict[str, Any], field: str
) -> None:
    answer = await shared.client().post(REVOCATIONS, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["details"][0]["field"] == field


async def test_only_admins_revoke_what_is_not_their_own(tested: TestedApplication) -> None:
    viewer = tested.client(role="Viewer")
    assert (await viewer.post(REVOCATIONS, json={"kind": "tenant"})).status_code == 403
    assert (await viewer.get(REVOCATIONS)).status_code == 403


async def test_single_tokens_are_bounded_for_they_lie_in_memory(
    tested: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byodpp.part_logics.keys.MOST_TOKENS", 2)
    admin = tested.client(user="root")
    gone = (await made(tested, user="gone"))["userId"]
    assert (await admin.delete(f"{USERS}/{gone}")).status_code == 204  # written down as well, and not counted
    for number in range(2):
        body = {"kind": "token", "subject": f"t{number}"}
        assert (await admin.post(REVOCATIONS, json=body)).status_code == 201
    assert (await admin.post(REVOCATIONS, json={"kind": "token", "subject": "t3"})).status_code == 409
    client = tested.client(role="Viewer", user="ada")
    assert (await client.post(f"{REVOCATIONS}/own")).status_code == 204
    assert (await client.get(THINGS)).status_code == 401, "then all that the user has is revoked instead"


async def test_who_signs_out_signs_out_nobody_else_whatever_his_tokens_id(tested: TestedApplication) -> None:
    named = tested.token(role="Viewer", user="ada", jti="sub:bob")
    ada = tested.client(role=None, headers={"Authorization": f"Bearer {named}"})
    bob = tested.client(user="bob")
    assert (await bob.get(THINGS)).status_code == 200
    assert (await ada.post(f"{REVOCATIONS}/own")).status_code == 204
    assert [(await one.get(THINGS)).status_code for one in (ada, bob)] == [401, 200]


def test_entries_are_forgotten_when_what_they_are_about_has_ended() -> None:
    now = 1_000.0
    revocations = Revocations(clock=lambda: now)

    def row(kind: str, subject: str | None, end: float) -> dict[str, Any]:
        return {"id": 1, "tenant_id": 1, "kind": kind, "subject": subject, "made": 900.0, "ends": end}

    revocations.add([row("token", "a", 1_100), row("token", "b", 2_000), row("user", "7", 1_100)])
    assert revocations.refuses(1, 5, 950, "a")
    assert revocations.refuses(1, 7, 900)
    assert not revocations.refuses(1, 7, 900.5)
    assert not revocations.refuses(2, 7, 800, "a")
    now = 1_500.0
    revocations.sweep()
    assert len(revocations) == 1
    assert revocations.refuses(1, 5, 950, "b")
    revocations.add([row("tenant", None, 3_000)])
    assert revocations.refuses(1, 99, 899, "z")


def test_an_entry_about_nothing_keeps_no_other_from_being_read() -> None:
    """The command took an empty `--token` once."""
    revocations, now = Revocations(), time.time()
    row = {"id": 1, "tenant_id": 1, "made": now, "ends": now + 3_600}
    revocations.add([{**row, "kind": "token", "subject": None}, {**row, "kind": "token", "subject": "a"}])
    assert revocations.refuses(1, 5, now + 1, "a")
    assert not revocations.refuses(1, 5, now + 1, None, "somebody")


@pytest.mark.parametrize(
    ("kind", "subject", "made_at", "ends_at", "stands"),
    [
        ("user", "ada", "now()", "now() + interval '1 hour'", False),
        ("user", None, "now()", "now() + interval '1 hour'", False),
        ("tenant", None, "now()", "'infinity'", False),
        ("tenant", None, "now()", "null", False),
        ("token", "a", "'infinity'", "'infinity'", True),
        ("token", "a", "'0001-01-01 BC'", "'294276-01-01'", True),
    ],
)
async def test_an_entry_that_was_stored_past_the_api_keeps_no_other_from_being_read_and_spares_nobody(
    tested: TestedApplication, kind: str, subject: str | None, made_at: str, ends_at: str, stands: bool
) -> None:
    """What names no user revokes what everybody in the tenant had; the others' goes on."""
    await tested.add_tenant("globex")
    ada, stranger = tested.client(user="ada"), tested.client(tenant="globex")
    assert [(await one.get(THINGS)).status_code for one in (ada, stranger)] == [200, 200]
    acme = (await tested.tenant("acme")).id
    async with tested.connected.database.system() as transaction:
        await transaction.execute(
            "insert into revocations (tenant_id, kind, subject, created_at, expires_at)"
            f" values ($1, $2, $3, {made_at}, {ends_at})", acme, kind, subject,
        )  # fmt: skip
        await transaction.execute(BUMP)
    await tested.connected.revocation_watch.refresh()
    assert (await ada.get(THINGS)).status_code == (200 if stands else 401)
    assert (await stranger.post(f"{REVOCATIONS}/own")).status_code == 204
    assert (await stranger.get(THINGS)).status_code == 401
    async with another_process(tested) as other:
        assert (await other.client(tenant="globex").get("/health/live")).status_code == 200


async def test_a_thousand_revocations_by_two_processes_lose_none(tested: TestedApplication) -> None:
    async with another_process(tested) as other:
        acme = (await tested.tenant("acme")).id

        async def revoke(process: TestedApplication, first: int) -> None:
            for number in range(first, first + 250, 25):
                async with process.connected.database.system() as transaction:
                    await transaction.execute(
                        "insert into revocations (tenant_id, kind, subject, expires_at)"
                        " select $1, 'token', 'j' || n, now() + interval '1 hour'"
                        " from generate_series($2::int, $3::int) n",
                        acme, number, number + 24,
                    )  # fmt: skip
                    await transaction.execute(BUMP)

        await asyncio.gather(*(revoke(process, first) for first, process in enumerate_(tested, other)))

        async def known() -> list[int]:
            watches = [process.connected.revocation_watch._revocations for process in (tested, other)]
            return [sum(one.refuses(acme, 1, 0, f"j{number}") for number in range(1000)) for one in watches]

        await soon(known, [1000, 1000])


def enumerate_(one: TestedApplication, two: TestedApplication) -> list[tuple[int, TestedApplication]]:
    return [(0, one), (250, two), (500, one), (750, two)]


# --- the command line -----------------------------------------------------------------------


async def revoke(tested: TestedApplication, *words: str) -> tuple[int, str]:
    """Run the command as an operator would."""
    done = await operated(tested, "revoke", *words)
    return done.returncode, done.stdout + done.stderr


async def test_an_operator_revokes_without_the_api(tested: TestedApplication) -> None:
    key = await made(tested, user="ada")
    mine = with_key(tested, key["key"])
    token = tested.client(
        role=None, headers={"Authorization": f"Bearer {tested.token(jti='j1', user='bob')}"}
    )
    for client in (mine, token):
        assert (await client.get(THINGS)).status_code == 200
    assert (await revoke(tested, "--tenant", "acme", "--key", key["id"]))[0] == 0
    assert (await revoke(tested, "--tenant", "acme", "--token", "j1"))[0] == 0
    for client in (mine, token):
        await soon(answered(client, THINGS), 401)
    carol, neighbour = tested.client(user="carol"), tested.client(user="dora")
    assert (await neighbour.get(THINGS)).status_code == 200
    assert (await carol.get(THINGS)).status_code == 200
    user = await stored(tested, "select id from users where name = 'carol'")
    assert (await revoke(tested, "--tenant", "acme", "--user", str(user)))[0] == 0
    await soon(answered(carol, THINGS), 401)
    assert (await revoke(tested, "--tenant", "acme", "--all"))[0] == 0
    await soon(answered(neighbour, THINGS), 401)
    assert await stored(tested, "select count(*) from audit_logs where action = 'REVOKE'") == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tenant", "acme"], "give one of"),
        (["--tenant", "acme", "--all", "--user", "1"], "give one of"),
        (["--tenant", "nobody", "--all"], "there is no tenant 'nobody'"),
        (["--tenant", "acme", "--user", "987654"], "no user 987654"),
        (["--tenant", "acme", "--user", "9" * 30], "no user 9999"),
        (["--tenant", "acme", "--key", "x"], "no API key 'x'"),
        (
            ["--tenant", "acme", "--token", ""],
            "must have 1 to 255 characters",
        ),  # of a variable that is not set
        (["--tenant", "acme", "--token", "x" * 256], "must have 1 to 255 characters"),
        (["--tenant", "acme", "--token", "sub:ada"], "no token's id begins with 'sub:'"),
    ],
)
async def test_the_command_refuses_what_it_cannot_revoke(
    tested: TestedApplication, words: list[str], told: str
) -> None:
    code, text = await revoke(tested, *words)
    assert code != 0
    assert told in text


# --- the description ------------------------------------------------------------------------


async def test_the_document_says_where_keys_are_taken(tested: TestedApplication) -> None:
    document = json.loads(tested.connected.document())
    scheme = document["components"]["securitySchemes"]["apiKey"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    paths = document["paths"]
    assert {"apiKey": []} in paths[THINGS]["get"]["security"]
    assert {"apiKey": []} not in paths[KEYS]["post"]["security"]
    made_key = json.dumps(paths[KEYS]["post"]["responses"]["201"])
    assert '"key"' in made_key or "MadeKey" in made_key


def test_without_the_part_there_are_neither_routes_nor_schemes(tmp_path: Any) -> None:
    from byodpp.bootstrap import openapi

    build(tmp_path / "plain", {"resources": [{"name": "Things", "fields": {"name": NAME}}]})
    document = json.loads(openapi(tmp_path / "plain"))
    assert KEYS not in document["paths"]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "session", "renewal", "csrf"}
