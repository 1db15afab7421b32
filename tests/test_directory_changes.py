"""What processes believe of tenants, users, grants, and keys: for long, and never a second too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from byodpp.authentication import changes, revocations
from byodpp.authentication.changes import DirectoryChanges, record_change
from byodpp.authentication.tenants import TenantDirectory
from byodpp.bootstrap import Application, Blueprint
from byodpp.database import PLATFORM_TENANT, Transaction
from byodpp.exceptions import ApiError
from byodpp.expiring import Expiring, Kept
from byodpp.tables.roles import SYSTEM
from byodpp.testing import Bench, TestedApplication
from tests.patience import soon
from tests.sent_statements import SentStatements, logging_statements
from tests.worlds import build

THINGS = "/api/v1/things"
MANIFEST = {
    "resources": [
        {
            "name": "Things",
            "fields": {"name": {"type": "string", "required": True}},
            "access": {"read": ["Admin", "Viewer"], "write": ["Admin"]},
        }
    ],
    "include": ["byodpp:tenancy", "byodpp:access", "byodpp:grants", "byodpp:keys"],
}
#: After which a change is in force in every process that looks.
IN_FORCE = 1.0


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("believed"), MANIFEST)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> SentStatements:
    return logging_statements(monkeypatch, SYSTEM)


@pytest_asyncio.fixture(loop_scope="session")
async def tested(
    byodpp_bench: Bench, blueprint: Blueprint, sent: SentStatements
) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as application:
        yield application


@pytest_asyncio.fixture(loop_scope="session")
async def other(tested: TestedApplication) -> AsyncIterator[TestedApplication]:
    """The same application a second time, on the same database."""
    connected = Application.connect(tested.settings, tested.blueprint)
    second = TestedApplication(
        blueprint=tested.blueprint, settings=tested.settings, connected=connected,
        asgi=connected.asgi(write_access_line=[].append), recorder=tested.recorder,
    )  # fmt: skip
    async with connected.lifespan():
        connected.lifecycle.ready = True
        yield second
        await second.close()


async def both(
    tested: TestedApplication, other: TestedApplication, status: int, **caller: Any
) -> list[httpx2.AsyncClient]:
    """Return clients of a caller in both processes, who are answered so."""
    clients = [process.client(**caller) for process in (tested, other)]
    for client in clients:
        answer = await client.get(THINGS)
        assert answer.status_code == status, answer.text
    return clients


async def answered(clients: list[httpx2.AsyncClient]) -> list[int]:
    return [(await client.get(THINGS)).status_code for client in clients]


async def user_id(tested: TestedApplication, name: str) -> int:
    """Return the row of a user of acme who has called."""
    issued = tested.client(user=name, role="Viewer")
    assert (await issued.get(THINGS)).status_code == 200
    async with tested.connected.database.system() as transaction:
        found: int = await transaction.fetchval("select max(id) from users")
    return found


# --- in force ---------------------------------------------------------------------------


async def test_a_suspended_tenant_is_refused_in_every_process_within_a_second(
    tested: TestedApplication, other: TestedApplication
) -> None:
    clients, beta = await both(tested, other, 200), await both(tested, other, 200, tenant="beta")
    acme = await tested.tenant("acme")
    operator = tested.client(tenant="platform")
    answer = await operator.post(f"/api/v1/tenants/{acme.id}/deactivate")
    assert answer.status_code == 200, answer.text
    assert await answered(clients[:1]) == [401], "here at once"
    await soon(lambda: answered(clients), [401, 401])
    assert await answered(beta) == [200, 200]
    assert (await operator.post(f"/api/v1/tenants/{acme.id}/activate")).status_code == 200
    await soon(lambda: answered(clients), [200, 200])


async def test_a_disabled_user_is_refused_in_every_process_within_a_second(
    tested: TestedApplication, other: TestedApplication
) -> None:
    user = await user_id(tested, "eve")
    clients = await both(tested, other, 200, user="eve", role="Viewer")
    answer = await tested.client().patch(f"/api/v1/users/{user}", json={"status": "deactivated"})
    if answer.status_code != 200:
        answer = await tested.client().post(f"/api/v1/users/{user}/deactivate")
    assert answer.status_code == 200, answer.text
    assert await answered(clients[:1]) == [401], "here at once"
    await soon(lambda: answered(clients), [401, 401])


async def test_a_user_who_is_disabled_loses_his_keys_in_every_process_within_a_second(
    tested: TestedApplication, other: TestedApplication
) -> None:
    made = await tested.client(user="kim").post(
        "/api/v1/api-keys",
        json={
            "name": "ci",
            "roles": ["Admin"],
            "expiresAt": (datetime.now(UTC) + timedelta(days=7)).isoformat(),
        },
    )
    assert made.status_code == 201, made.text
    header = {"Authorization": f"Bearer {made.json()['data']['key']}"}
    clients = await both(tested, other, 200, role=None, headers=header)
    async with tested.connected.database.system() as transaction:
        acme = await transaction.fetchval("select id from tenants where slug = 'acme'")
        await transaction.execute("update users set status = 'deactivated' where tenant_id = $1", acme)
        await record_change(transaction, acme)
    await soon(lambda: answered(clients), [401, 401])


async def test_a_role_that_is_taken_away_is_gone_in_every_process_within_a_second(
    tested: TestedApplication, other: TestedApplication
) -> None:
    user, admin = await user_id(tested, "rob"), tested.client()
    role = (await admin.post("/api/v1/roles", json={"name": "Helper"})).json()["data"]["id"]
    rule = {"subject": "Helper", "object": "Things", "action": "read"}
    assert (await admin.post("/api/v1/policies", json=rule)).status_code == 201
    link = await admin.post("/api/v1/user-roles", json={"userId": user, "roleId": role})
    assert link.status_code == 201, link.text
    clients = [process.client(user="rob", role="Nothing") for process in (tested, other)]
    await soon(lambda: answered(clients), [200, 200])
    assert (await admin.delete(f"/api/v1/user-roles/{link.json()['data']['id']}")).status_code == 204
    assert await answered(clients[:1]) == [403], "here at once"
    await soon(lambda: answered(clients), [403, 403])


async def test_a_grant_that_is_revoked_lets_no_guest_in_within_a_second(
    tested: TestedApplication, other: TestedApplication
) -> None:
    admin = tested.client()
    caller = {"tenant": "beta", "role": "Viewer", "headers": {"X-Tenant": "acme"}}
    clients = await both(tested, other, 403, **caller)
    row = (await admin.post(THINGS, json={"name": "open"})).json()["data"]["id"]
    grant = await admin.post(
        "/api/v1/grants", json={"object": "Things", "rowId": str(row), "grantee": "beta"}
    )
    assert grant.status_code == 201, grant.text
    await soon(lambda: answered(clients), [200, 200])  # who was refused before is let in
    assert (await admin.delete(f"/api/v1/grants/{grant.json()['data']['id']}")).status_code == 204
    assert await answered(clients[:1]) == [403], "here at once"
    await soon(lambda: answered(clients), [403, 403])


async def test_sql_of_an_operator_is_in_force_within_a_second_once_it_is_recorded(
    tested: TestedApplication, other: TestedApplication
) -> None:
    clients = await both(tested, other, 200)
    async with tested.connected.database.system() as transaction:
        await transaction.execute("update tenants set status = 'deactivated' where slug = 'acme'")
        # As docs/operations.md says it.
        await transaction.execute("insert into byodpp.directory_changes (tenant_id) values (0)")
    await soon(lambda: answered(clients), [401, 401])


# --- believed ---------------------------------------------------------------------------


def lookups(heard: list[str]) -> list[str]:
    return [one for one in heard if " from tenants " in one or " from users " in one]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a look comes late; how late is too late is another test's matter."""
    monkeypatch.setattr(changes, "_LOOK_SECONDS", 60.0)


@pytest.mark.usefixtures("patient")
async def test_nothing_is_looked_up_again_while_nothing_has_changed(
    tested: TestedApplication, sent: SentStatements
) -> None:
    clients = [tested.client(), tested.client(tenant="beta")]
    assert await answered(clients) == [200, 200]
    with sent.heard() as heard:
        await asyncio.sleep(changes.UNFOLLOWED_SECONDS + 0.5)
        assert await answered(clients) == [200, 200]
    assert heard, "nobody looks for changes"
    assert lookups(heard) == []


@pytest.mark.usefixtures("patient")
async def test_a_change_of_one_tenant_makes_nobody_look_for_another(
    tested: TestedApplication, sent: SentStatements
) -> None:
    acme, beta = tested.client(), tested.client(tenant="beta")
    assert await answered([acme, beta]) == [200, 200]
    made = await tested.client(tenant="beta").get("/api/v1/users")
    user = made.json()["data"][0]["id"]
    answer = await tested.client(tenant="beta").patch(f"/api/v1/users/{user}", json={"name": "Bea"})
    assert answer.status_code == 200, answer.text
    await tested.connected.revocation_watch.refresh()
    with sent.heard() as heard:
        assert await answered([acme]) == [200]
        assert lookups(heard) == []
        assert await answered([beta]) == [200]
    assert lookups(heard), "beta's was not looked up anew"


# --- when nobody follows ----------------------------------------------------------------


async def test_a_process_that_cannot_look_for_changes_soon_believes_nothing(
    tested: TestedApplication, other: TestedApplication
) -> None:
    clients = await both(tested, other, 200)
    async with owner(tested) as connection:
        await connection.execute("alter table byodpp.directory_changes rename to gone")
        async with tested.connected.database.system() as transaction:
            await transaction.execute("update tenants set status = 'deactivated' where slug = 'acme'")
        await soon(lambda: answered(clients), [401, 401], changes.UNFOLLOWED_SECONDS + 0.5)
        await connection.execute("alter table byodpp.gone rename to directory_changes")
        async with tested.connected.database.system() as transaction:
            await transaction.execute("update tenants set status = 'activated' where slug = 'acme'")
            await record_change(transaction, PLATFORM_TENANT)
    await soon(lambda: answered(clients), [200, 200], IN_FORCE + 0.5)


@asynccontextmanager
async def owner(tested: TestedApplication) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(tested.settings.postgres_admin_uri)
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_tenant_that_was_looked_up_while_it_changed_is_not_believed(
    tested: TestedApplication,
) -> None:
    found = tested.connected.database
    directory = TenantDirectory(found)
    acme = await tested.tenant("acme")

    class Slow:
        def system(self) -> Any:
            directory.forget({acme.id})  # the change is told while the answer is on its way
            return found.system()

    directory._database = Slow()  # type: ignore[assignment]
    assert (await directory.by_name("acme")) is not None
    assert len(directory._found) == 0


# --- the look itself --------------------------------------------------------------------


class Watcher:
    """One process's looks, at a clock of its own."""

    def __init__(self, tested: TestedApplication) -> None:
        self.now = 0.0
        self.changes = DirectoryChanges(clock=lambda: self.now)
        self.forgotten: list[Any] = []
        self._tested = tested

    async def look(self) -> list[Any]:
        """Return what the look has found."""
        self.forgotten.clear()
        await self._in_transaction(lambda one: self.changes.look(one, self.forgotten.append))
        return list(self.forgotten)

    async def sweep(self) -> None:
        await self._in_transaction(self.changes.sweep)

    async def _in_transaction(self, work: Callable[[Transaction], Coroutine[Any, Any, None]]) -> None:
        async with self._tested.connected.database.system() as transaction:
            await work(transaction)


async def recorded(tested: TestedApplication, tenant: int) -> None:
    async with tested.connected.database.system() as transaction:
        await record_change(transaction, tenant)
        await record_change(transaction, tenant)  # twice is once


async def test_each_change_is_found_once_and_those_of_the_platform_are_everybodys(
    tested: TestedApplication,
) -> None:
    watcher = Watcher(tested)
    assert await watcher.look() == [None], "what came before the first look is not known"
    assert await watcher.look() == []
    await recorded(tested, 7)
    await recorded(tested, 8)
    assert await watcher.look() == [frozenset({7, 8})]
    assert await watcher.look() == []
    await recorded(tested, PLATFORM_TENANT)
    assert await watcher.look() == [None]


async def test_a_change_that_is_committed_after_later_ones_is_found(tested: TestedApplication) -> None:
    watcher = Watcher(tested)
    await watcher.look()
    async with tested.connected.database.system() as slow:
        await record_change(slow, 7)
        await recorded(tested, 8)
        assert await watcher.look() == [frozenset({8})]
    assert await watcher.look() == [frozenset({7})]


async def test_changes_are_deleted_when_every_process_has_seen_them(tested: TestedApplication) -> None:
    watcher, late = Watcher(tested), Watcher(tested)
    await watcher.look()
    await late.look()
    await recorded(tested, 7)
    for seconds in (1.0, 45.0):
        watcher.now = seconds
        await watcher.look()
        await watcher.sweep()
    assert await number(tested) == 1, "it may be that nobody else has seen it for some seconds"
    watcher.now = 61.5
    await watcher.look()
    await watcher.sweep()
    assert await number(tested) == 0
    late.now = 61.5
    assert await late.look() == [None], "who has not looked for so long knows nothing"


async def test_changes_of_another_server_are_no_news_and_are_deleted(tested: TestedApplication) -> None:
    """A backup brings rows whose transactions have not been here, and will be for nobody."""
    watcher = Watcher(tested)
    await watcher.look()
    async with tested.connected.database.system() as transaction:
        await transaction.execute(
            "insert into byodpp.directory_changes (arrival, tenant_id) values ('99999999'::xid8, 0)"
        )
    assert await watcher.look() == []
    await recorded(tested, 7)
    assert await watcher.look() == [frozenset({7})], "what is changed here is found as ever"
    for seconds in (1.0, 62.0):
        watcher.now = seconds
        await watcher.look()
        await watcher.sweep()
    assert await number(tested) == 0


async def test_a_look_that_failed_is_followed_by_one_that_forgets_everything(
    tested: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Perhaps another server answers next, whose transactions have the numbers of those that are known."""
    watch = tested.connected.revocation_watch
    await watch.looks.stop()
    forgotten: list[Any] = []
    monkeypatch.setattr(watch, "_forget", forgotten.append)
    await watch.refresh()
    forgotten.clear()
    await watch.refresh()
    assert forgotten == []
    with monkeypatch.context() as failing:
        failing.setattr(revocations, "_VERSION", "select 1 / 0")
        with pytest.raises(ApiError):
            await watch.refresh()
    forgotten.clear()
    await watch.refresh()
    assert forgotten == [None]
    forgotten.clear()
    await watch.refresh()
    assert forgotten == []


async def number(tested: TestedApplication) -> int:
    async with tested.connected.database.system() as transaction:
        found: int = await transaction.fetchval("select count(*) from byodpp.directory_changes")
    return found


def test_a_look_is_worth_something_for_a_second() -> None:
    now = [10.0]
    seen = DirectoryChanges(clock=lambda: now[0])
    assert not seen.followed()
    seen._looked_at = 10.0
    now[0] = 10.9
    assert seen.followed()
    now[0] = 11.1
    assert not seen.followed()


def test_entries_live_long_while_somebody_follows_and_shortly_otherwise() -> None:
    now, following = [0.0], [True]
    entries: Expiring[str, int] = Expiring(
        seconds=1, max_entries=3, followed_seconds=30, followed=lambda: following[0], clock=lambda: now[0]
    )
    entries.put("a", 1)
    now[0] = 29
    assert entries.get("a") == 1
    following[0] = False
    assert entries.get("a") is None
    following[0] = True
    entries.put("a", 1)
    now[0] = 59.5
    assert entries.get("a") is None, "nothing is believed for ever"


def test_an_entry_that_was_too_old_once_is_worth_nothing_again() -> None:
    now, following = [0.0], [True]
    entries: Expiring[str, int] = Expiring(
        seconds=1, max_entries=3, followed_seconds=30, followed=lambda: following[0], clock=lambda: now[0]
    )
    entries.put("a", 1)
    kept = entries.kept("a")
    now[0] = 5.0
    assert kept is not None and entries.of(kept) == 1
    following[0] = False
    assert entries.get("a") is None
    following[0] = True  # what has changed meanwhile was told to entries that are still there
    assert entries.of(kept) is None


def test_of_entries_some_may_be_forgotten_and_answers_asked_for_before_are_not_kept() -> None:
    entries: Expiring[str, int] = Expiring(seconds=1, max_entries=3)
    entries.put("a", 1)
    entries.put("b", 2)
    asked = entries.turn
    entries.forget(lambda key, value: value == 1)
    assert (entries.get("a"), entries.get("b")) == (None, 2)
    entries.put("c", 3, asked)
    assert entries.get("c") is None
    for key in "defg":
        entries.put(key, 4, entries.turn)
    assert len(entries) == 3


def test_who_keeps_an_entry_learns_when_it_is_worth_nothing_any_more() -> None:
    now = [0.0]
    entries: Expiring[str, int] = Expiring(seconds=1, max_entries=2, clock=lambda: now[0])

    def put(key: str, value: int) -> Kept[int]:
        entries.put(key, value)
        kept = entries.kept(key)
        assert kept is not None and entries.of(kept) == value
        return kept

    first, second = put("a", 1), put("b", 2)
    put("c", 3)
    assert (entries.of(first), entries.of(second)) == (None, 2), "the oldest has left"
    assert (put("b", 4) is second, entries.of(second)) == (False, None), "another took its place"
    third, fourth = put("d", 5), put("e", 6)
    entries.forget(lambda key, value: value == 5)
    assert (entries.of(third), entries.of(fourth)) == (None, 6)
    entries.forget()
    assert entries.of(fourth) is None and len(entries) == 0
    last = put("f", 7)
    now[0] = 1.5
    assert entries.of(last) is None and entries.kept("f") is None
