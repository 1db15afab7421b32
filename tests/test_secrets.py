"""Secrets of users: encrypted, bound to owner and name, never told, given to logic classes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Application, Blueprint
from byodpp.encryption import EncryptionKeys, Unreadable, bound_to
from byodpp.exceptions import SettingsError
from byodpp.settings import load_settings
from byodpp.testing import Bench, TestedApplication
from tests.commands import operated
from tests.patience import blocked, soon
from tests.worlds import build

#: pg_stat_activity would say the same all through a transaction.
WAITING = (
    "select count(distinct pid) from pg_locks where not granted and pid in (select pid from pg_locks"
    " where database = (select oid from pg_database where datname = current_database()))"
)
SECRETS, USE = "/api/v1/secrets", "/api/v1/things/use"
LOGIC = """
from byodpp.logics import Logic


class Use(Logic):
    resource, action = "Things", "use:post"

    async def execute(self):
        value = await self.secrets["stripe"]
        other = await self.secrets.get("other")
        return {"length": len(value), "same": value == "sk_live_wxyz", "other": other}
"""
DISMISS = """
from marshmallow import Schema, fields

from byodpp.logics import Logic


class Whom(Schema):
    id = fields.Integer(required=True)


class Dismiss(Logic):
    resource, action, input = "Things", "dismiss:post", Whom

    async def execute(self):
        await self.system["Users"].delete(self.request.body["id"])
"""
MANIFEST = {
    "resources": [
        {
            "name": "Things",
            "fields": {"name": {"type": "string"}},
            "routes": {
                "actions": [
                    {"url": USE, "method": "post"},
                    {"url": "/api/v1/things/dismiss", "method": "post"},
                ]
            },
            "access": {"read": ["*"], "write": ["*"]},
        }
    ],
    "include": ["byodpp:secrets", "byodpp:audit", "byodpp:access"],
}
OLD, NEW = f"old:{'a' * 40}", f"new:{'b' * 40}"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(
        tmp_path_factory.mktemp("secrets"),
        MANIFEST,
        {"logics/v1/things/use.py": LOGIC, "logics/v1/things/dismiss.py": DISMISS},
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """It, for what leaves nothing behind that another test would notice."""
    async with byodpp_bench.application(blueprint, encryption_keys=(OLD,)) as application:
        yield application


@pytest_asyncio.fixture(loop_scope="session")
async def tested(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint, encryption_keys=(OLD,)) as application:
        yield application


async def store(tested: TestedApplication, value: str, user: str = "ada", name: str = "stripe") -> Any:
    answer = await tested.client(user=user).put(f"{SECRETS}/{name}/value", json={"value": value})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def stored(tested: TestedApplication, sql: str, *args: Any) -> Any:
    async with tested.connected.database.system() as transaction:
        return await transaction.fetchval(sql, *args)


@asynccontextmanager
async def with_keys(tested: TestedApplication, *keys: str) -> AsyncIterator[TestedApplication]:
    """The same application on the same database, with other keys."""
    settings = replace(tested.settings, encryption_keys=keys)
    connected = Application.connect(settings, tested.blueprint)
    other = TestedApplication(
        blueprint=tested.blueprint, settings=settings, connected=connected,
        asgi=connected.asgi(write_access_line=[].append), recorder=tested.recorder,
    )  # fmt: skip
    async with connected.lifespan():
        connected.lifecycle.ready = True
        yield other
        await other.close()


async def test_a_secret_is_written_and_never_read_back(tested: TestedApplication) -> None:
    row = await store(tested, "sk_live_wxyz")
    assert set(row) == {"id", "ownerId", "name", "storedAt", "createdAt", "updatedAt"}
    client = tested.client(user="ada")
    for path in (SECRETS, f"{SECRETS}/{row['id']}"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert "wxyz" not in answer.text
    assert (await client.get(f"{SECRETS}?filter[value]=x")).status_code == 400
    await tested.connected.trail.drain()
    for table in (
        "secrets",
        "audit_logs",
        "byodpp.outbox",
        "byodpp.secret_values",
        "byodpp.idempotency_keys",
    ):
        assert "wxyz" not in str(await stored(tested, f"select json_agg(t)::text from {table} t"))
    assert b"wxyz" not in await stored(tested, "select sealed from byodpp.secret_values")
    assert "wxyz" not in "".join(tested.access_lines)


async def test_a_logic_class_gets_the_callers_secret_and_nobody_elses(tested: TestedApplication) -> None:
    await store(tested, "sk_live_wxyz")
    ada, bob = tested.client(user="ada"), tested.client(user="bob")
    assert (await ada.post(USE)).json()["data"] == {"length": 12, "same": True, "other": None}
    answer = await bob.post(USE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    beta = tested.client(user="ada", tenant="beta")
    assert (await beta.post(USE)).status_code == 409
    assert (await bob.get(SECRETS)).json()["data"] == []


async def test_a_value_is_replaced_and_deleted_with_its_name(tested: TestedApplication) -> None:
    first = await store(tested, "one")
    second = await store(tested, "sk_live_wxyz")
    assert first["id"] == second["id"]
    client = tested.client(user="ada")
    assert (await client.post(USE)).json()["data"]["same"]
    assert (await tested.client(user="bob").delete(f"{SECRETS}/{first['id']}")).status_code == 404
    assert (await client.delete(f"{SECRETS}/{first['id']}")).status_code == 204
    assert (await client.post(USE)).status_code == 409
    assert await stored(tested, "select count(*) from byodpp.secret_values") == 0


@pytest.mark.parametrize("by", ["admin", "operator", "batch", "class"])
async def test_what_a_user_has_entrusted_goes_with_his_row(tested: TestedApplication, by: str) -> None:
    gone = [await store(tested, "sk_live_wxyz", name=name) for name in ("other", "stripe")]
    await store(tested, "sk_live_wxyz", user="bob")
    await store(tested, "sk_live_wxyz", user="root", name="mine")
    admin = tested.client(user="root")
    user = gone[0]["ownerId"]
    await _deleted(tested, by, user)
    kept = "select string_agg(name, ' ' order by name) from secrets"
    assert await stored(tested, kept) == "mine stripe"
    assert await stored(tested, "select count(*) from byodpp.secret_values") == 2
    assert (await tested.client(user="bob").post(USE)).json()["data"]["same"]
    found = await admin.get("/api/v1/audit-logs?filter[resourceType]=Secrets&filter[action]=DELETE&sort=id")
    told = [(one["resourceId"], one["changes"]) for one in found.json()["data"]]
    assert told == [
        (one["id"], {"before": {"id": one["id"], "name": one["name"], "ownerId": user}, "after": None})
        for one in gone
    ]
    assert {one["userId"] for one in found.json()["data"]} != {user}, "it was not he who deleted them"
    assert [one["name"] for one in (await admin.get(SECRETS)).json()["data"]] == ["mine"]


async def _deleted(tested: TestedApplication, by: str, user: int) -> None:
    visiting = {"X-Tenant": "acme"} if by == "operator" else {}
    client = tested.client(tenant="platform" if by == "operator" else "acme", user="root", headers=visiting)
    match by:
        case "batch":
            body = {"operation": "delete", "items": [{"id": user}]}
            answer = await client.post("/api/v1/users/batch", json=body)
        case "class":
            answer = await client.post("/api/v1/things/dismiss", json={"id": user})
        case _:
            answer = await client.delete(f"/api/v1/users/{user}")
    assert answer.status_code in (200, 204), answer.text


@pytest.mark.parametrize("first", ["stored", "deleted"])
async def test_nothing_is_stored_for_a_user_whose_row_is_being_deleted(
    tested: TestedApplication, first: str
) -> None:
    """Nobody could use it, or delete it."""
    admin, ada = tested.client(user="root"), tested.client(user="ada")
    assert [(await one.get(SECRETS)).status_code for one in (admin, ada)] == [200, 200]
    user = await stored(tested, "select max(id) from users")

    def storing() -> asyncio.Task[Any]:
        return asyncio.create_task(ada.put(f"{SECRETS}/stripe/value", json={"value": "sk_live_wxyz"}))

    def deleting() -> asyncio.Task[Any]:
        return asyncio.create_task(admin.delete(f"/api/v1/users/{user}"))

    async with tested.connected.database.system() as transaction:
        await transaction.execute("lock table secrets in share mode")
        one = storing() if first == "stored" else deleting()
        await blocked(transaction)
        other = deleting() if first == "stored" else storing()
        await soon(partial(transaction.fetchval, WAITING), 2)
    kept, gone = (one, other) if first == "stored" else (other, one)
    assert ((await kept).status_code, (await gone).status_code) == (200 if first == "stored" else 401, 204)
    assert await stored(tested, "select count(*) from secrets") == 0
    assert await stored(tested, "select count(*) from byodpp.secret_values") == 0


async def test_an_operator_who_visits_has_no_secrets_there(tested: TestedApplication) -> None:
    operator = tested.client(tenant="platform", headers={"X-Tenant": "acme"})
    # Like all rows of users; and what a class asks for on his behalf is refused as well.
    assert (await operator.put(f"{SECRETS}/stripe/value", json={"value": "x"})).status_code == 403
    assert (await operator.get(SECRETS)).status_code == 403
    assert (await operator.post(USE)).status_code == 409


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("stripe", {}, 422),
        ("stripe", {"value": ""}, 422),
        ("stripe", {"value": 5}, 422),
        ("stripe", {"value": "a\0b"}, 422),
        ("stripe", {"value": "x" * 65_537}, 422),
        ("stripe", {"value": "x", "name": "y"}, 422),
        ("%20", {"value": "x"}, 422),
        ("a%2Fb", {"value": "x"}, 422),
        ("x" * 129, {"value": "x"}, 422),
    ],
)
async def test_what_is_no_secret_is_refused(
    shared: TestedApplication, name: str, body: dict[str, Any], status: int
) -> None:
    answer = await shared.client().put(f"{SECRETS}/{name}/value", json=body)
    assert answer.status_code == status, answer.text
    assert await stored(shared, "select count(*) from byodpp.secret_values") == 0


@pytest.mark.parametrize(
    "sql",
    [
        "update byodpp.secret_values v set sealed = o.sealed from byodpp.secret_values o"
        " where o.secret_id <> v.secret_id",
        "update secrets set name = 'stripe' where name = 'moved'",
        "update byodpp.secret_values set sealed = set_byte(sealed, 14, get_byte(sealed, 14) # 1)",
        "update byodpp.secret_values set sealed = substr(sealed, 1, 10)",
        "update byodpp.secret_values set key_id = 'secret-key'",
        "update byodpp.secret_values set key_id = 'gone'",
    ],
)
async def test_a_ciphertext_that_was_moved_or_changed_opens_nowhere(
    tested: TestedApplication, sql: str
) -> None:
    if "moved" in sql:
        await store(tested, "theirs", name="moved")
    else:
        await store(tested, "mine")
        await store(tested, "theirs", user="bob")
    async with tested.connected.database.system() as transaction:
        await transaction.execute(sql)
    answer = await tested.client(user="ada").post(USE)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "mine" not in answer.text
    assert "theirs" not in answer.text


async def test_the_same_value_is_never_sealed_alike(tested: TestedApplication) -> None:
    sealed = set()
    for _ in range(3):
        await store(tested, "same")
        sealed.add(await stored(tested, "select sealed from byodpp.secret_values"))
    assert len(sealed) == 3


# --- keys and their rotation --------------------------------------------------------------


async def rotate(tested: TestedApplication, *keys: str) -> tuple[int, str]:
    done = await operated(tested, "secrets", "rotate", BYODPP_ENCRYPTION_KEYS=",".join(keys))
    return done.returncode, done.stdout + done.stderr


async def test_a_rotation_seals_everything_anew_and_the_former_key_can_go(tested: TestedApplication) -> None:
    for user in ("ada", "bob"):
        await store(tested, "sk_live_wxyz", user=user)
    async with with_keys(tested, NEW, OLD) as both:
        assert (await both.client(user="ada").post(USE)).json()["data"]["same"], "read while it is rotated"
        code, text = await rotate(tested, NEW, OLD)
        assert (code, "2 secrets" in text) == (0, True), text
    assert await stored(tested, "select array_agg(distinct key_id) from byodpp.secret_values") == ["new"]
    assert await stored(tested, "select count(*) from audit_logs where action = 'ROTATE'") == 1
    async with with_keys(tested, NEW) as alone:
        assert (await alone.client(user="bob").post(USE)).json()["data"]["same"]
    code, text = await rotate(tested, NEW)
    assert (code, "0 secrets" in text) == (0, True)


async def test_servers_that_are_restarted_one_by_one_read_what_each_other_encrypts(
    tested: TestedApplication,
) -> None:
    """The new key is behind the former everywhere before it is first anywhere."""
    async with with_keys(tested, OLD, NEW) as former, with_keys(tested, NEW, OLD) as first:
        for one, other, id in ((tested, former, "old"), (former, first, "old"), (first, former, "new")):
            await store(one, "sk_live_wxyz")
            assert await stored(tested, "select array_agg(key_id) from byodpp.secret_values") == [id]
            assert (await other.client(user="ada").post(USE)).json()["data"]["same"]
        code, text = await rotate(tested, NEW, OLD)
        assert (code, "0 secrets" in text) == (0, True)


async def test_a_rotation_that_was_broken_off_goes_on(
    tested: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    from byodpp.cli import secrets

    for number in range(5):
        await store(tested, f"value {number}", name=f"n{number}")
    monkeypatch.setattr(secrets, "_BATCH", 2)
    settings = replace(tested.settings, encryption_keys=(NEW, OLD))
    seal, batches = secrets._seal_anew, 0

    async def broken(*args: Any) -> int:
        nonlocal batches
        batches += 1
        if batches == 2:
            raise RuntimeError("cut")
        return await seal(*args)

    monkeypatch.setattr(secrets, "_seal_anew", broken)
    with pytest.raises(RuntimeError):
        await secrets._rotate(settings)
    assert await stored(tested, "select count(*) from byodpp.secret_values where key_id = 'new'") == 2
    monkeypatch.setattr(secrets, "_seal_anew", seal)
    assert await secrets._rotate(settings) == (3, {})


async def test_what_cannot_be_read_is_told_and_left(tested: TestedApplication) -> None:
    await store(tested, "sk_live_wxyz")
    await store(tested, "x", user="bob")
    await stored(
        tested, "update byodpp.secret_values set sealed = '\\x00' where secret_id ="
        " (select min(secret_id) from byodpp.secret_values) returning 1",
    )  # fmt: skip
    code, text = await rotate(tested, NEW, OLD)
    assert code == 1
    assert "1 secrets stay as they are" in text
    code, text = await rotate(tested, f"third:{'c' * 40}")
    assert code == 1
    assert "is not among encryption_keys" in text


def test_keys_are_derived_from_the_secret_key_when_none_is_named(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {"BYODPP_SECRET_KEY": "s" * 40})
    keys = EncryptionKeys.of(settings)
    sealed = keys.seal("text", bound_to(1, "a"))
    named = EncryptionKeys.of(replace(settings, encryption_keys=(NEW,)))
    assert (keys.current, named.current) == ("secret-key", "new")
    assert named.open("secret-key", sealed, bound_to(1, "a")) == "text"
    with pytest.raises(Unreadable):
        named.open("secret-key", sealed, bound_to("1", "a"))
    assert bound_to("a", "b,c") != bound_to("a,b", "c")


@pytest.mark.parametrize(
    "keys", ["x" * 40, "id:short", f"ID:{'x' * 40}", f"secret-key:{'x' * 40}", f"{NEW},{NEW}", f":{'x' * 40}"]
)
def test_keys_that_make_no_sense_are_refused_without_being_told(tmp_path: Path, keys: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(tmp_path, {"BYODPP_ENCRYPTION_KEYS": keys})
    assert "x" * 30 not in str(refused.value)
    assert "encryption_keys, entry" in str(refused.value)
    assert "short" not in str(refused.value)
