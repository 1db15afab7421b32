"""A tenant's name and domain reach its realm after the commit, and no request waits for that."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Application, Blueprint
from byodpp.database import Transaction
from byodpp.exceptions import AuthUnavailable, Unavailable
from byodpp.identity.renaming import RealmNames
from byodpp.testing import Bench
from tests.patience import soon
from tests.test_tenant_life import ADA, World
from tests.worlds import SHOP, build


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("called"), SHOP)


@pytest_asyncio.fixture
async def world(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[World]:
    async with byodpp_bench.application(blueprint) as tested:
        yield World(tested)


async def changed(world: World, slug: str, **fields: Any) -> float:
    """Change a tenant as an operator does, and return how many seconds that took."""
    [row] = await world.rows("select id from tenants where slug = $1", slug)
    begun = time.monotonic()
    operator = world.application.client(tenant="platform")
    answer = await operator.patch(f"/api/v1/tenants/{row['id']}", json=fields)
    assert answer.status_code == 200, answer.text
    return time.monotonic() - begun


async def realm_of(world: World, slug: str) -> dict[str, Any]:
    [row] = await world.rows("select ulid from tenants where slug = $1", slug)
    return world.issuer.administration.describe(row["ulid"])


async def test_a_changed_name_or_domain_reaches_the_realm(world: World) -> None:
    await world.life.onboard(ADA)

    async def called() -> tuple[str, list[str]]:
        realm = await realm_of(world, "gamma")
        return realm["displayName"], realm["addresses"]

    before = await realm_of(world, "gamma")
    await changed(world, "gamma", name="Gamma & Sons", domain="new.gamma.example")
    await soon(called, ("Gamma & Sons", ["https://new.gamma.example"]))
    await changed(world, "gamma", domain=None)
    await soon(called, ("Gamma & Sons", []))
    after = await realm_of(world, "gamma")
    told = ("displayName", "addresses")
    assert {k: v for k, v in after.items() if k not in told} == {
        k: v for k, v in before.items() if k not in told
    }
    # By its own Admin as well.
    [row] = await world.rows("select id, ulid from tenants where slug = 'gamma'")
    token = world.issuer.issue(row["ulid"], "somebody", roles=["Admin"])
    own = world.application.client(role=None, headers={"Authorization": f"Bearer {token}"})
    answer = await own.patch(f"/api/v1/tenants/{row['id']}", json={"name": "Gamma again"})
    assert answer.status_code == 200, answer.text
    await soon(called, ("Gamma again", []))


async def test_what_was_undone_and_what_changed_nothing_reaches_no_realm(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.life.onboard(ADA)
    [row] = await world.rows("select id from tenants where slug = 'gamma'")
    told: list[str] = []
    update = world.issuer.administration.update_realm

    async def noting(realm: str, **named: Any) -> None:
        told.append(str(named["display_name"]))
        await update(realm, **named)

    monkeypatch.setattr(world.issuer.administration, "update_realm", noting)
    operator = world.application.client(tenant="platform")
    path = f"/api/v1/tenants/{row['id']}"
    refused = await operator.patch(path, json={"name": "Other", "parentId": row["id"]})
    assert refused.status_code == 422, refused.text
    await changed(world, "gamma", address="Street 1")
    await changed(world, "gamma", name="Last")

    async def known() -> list[str]:
        return list(told)

    await soon(known, ["Last"])


async def test_an_identity_provider_that_is_away_or_hangs_neither_fails_nor_delays_a_change(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await world.life.onboard(ADA)
    called = asyncio.Event()

    async def hangs(*arguments: Any, **named: Any) -> None:
        called.set()
        await asyncio.sleep(60)

    async def away(*arguments: Any, **named: Any) -> None:
        raise AuthUnavailable("Keycloak is away")

    async def warned() -> bool:
        return "Run `byodpp identity renew gamma`" in caplog.text

    monkeypatch.setattr("byodpp.identity.renaming._PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(world.issuer.administration, "update_realm", hangs)
    with caplog.at_level(logging.WARNING, "byodpp.identity"):
        assert await changed(world, "gamma", name="Gamma I") < 10
        async with asyncio.timeout(20):
            await called.wait()
        await soon(warned, True)
        assert "longer than" in caplog.text
        caplog.clear()
        monkeypatch.setattr(world.issuer.administration, "update_realm", away)
        await changed(world, "gamma", name="Gamma II")
        await soon(warned, True)
        assert "Keycloak is away" in caplog.text


async def test_a_tenant_without_a_realm_gets_none_by_a_new_name(world: World) -> None:
    tenant = await world.application.add_tenant("gamma")
    await changed(world, "gamma", name="Called otherwise")

    async def waiting() -> bool:
        return bool(world.application.connected.realm_names._waiting)

    await soon(waiting, False)
    await world.application.connected.realm_names.stop()
    assert not (world.application.settings.app_dir / ".byodpp" / "realms" / f"{tenant.ulid}.json").exists()


async def test_what_was_not_told_yet_is_told_at_the_end(byodpp_bench: Bench, blueprint: Blueprint) -> None:
    async with byodpp_bench.application(blueprint) as tested:
        world = World(tested)
        await world.life.onboard(ADA)
        names = tested.connected.realm_names
        [row] = await world.rows("select id from tenants where slug = 'gamma'")
        async with tested.connected.database.system() as transaction:
            await transaction.execute("update tenants set name = 'By SQL' where id = $1", row["id"])
        names._waiting.add(row["id"])  # and nobody was woken
        await names.stop()
        assert (await realm_of(world, "gamma"))["displayName"] == "By SQL"


async def test_a_change_that_is_committed_while_another_one_is_read_is_told_as_well(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.life.onboard(ADA)
    database, names = world.application.connected.database, world.application.connected.realm_names
    [row] = await world.rows("select id from tenants where slug = 'gamma'")
    system, read = database.system, asyncio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[Any]:
        async with system() as transaction:
            yield transaction
        if asyncio.current_task() is names._rounds._task and not read.is_set():
            read.set()
            await later.wait()

    async def called() -> str:
        return str((await realm_of(world, "gamma"))["displayName"])

    later = asyncio.Event()
    monkeypatch.setattr(database, "system", slow)
    await changed(world, "gamma", name="First")
    async with asyncio.timeout(20):
        await read.wait()
    await changed(world, "gamma", name="Second")
    later.set()
    await soon(called, "Second")
    assert row["id"] not in names._waiting


async def test_a_name_that_another_process_tells_meanwhile_is_the_last_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.life.onboard(ADA)
    told: list[str] = []
    update = world.issuer.administration.update_realm

    async def late(realm: str, **named: Any) -> None:
        told.append(named["display_name"])
        if len(told) == 1:  # as another process does from its commit on, while this one still waits
            async with world.application.connected.database.system() as transaction:
                await transaction.execute("update tenants set name = 'Newer' where slug = 'gamma'")
            await update(realm, **{**named, "display_name": "Newer"})
        await update(realm, **named)

    async def called() -> tuple[list[str], str]:
        return list(told), str((await realm_of(world, "gamma"))["displayName"])

    monkeypatch.setattr(world.issuer.administration, "update_realm", late)
    await changed(world, "gamma", name="Older")
    await soon(called, (["Older", "Newer"], "Newer"))


async def test_a_defect_while_one_realm_is_told_names_its_tenant_and_keeps_no_other_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await world.life.onboard(ADA)
    await world.life.onboard(replace(ADA, slug="delta", domain=None))
    [gamma] = await world.rows("select id, ulid from tenants where slug = 'gamma'")
    update, names = world.issuer.administration.update_realm, world.application.connected.realm_names

    async def faulty(realm: str, **named: Any) -> None:
        if realm == gamma["ulid"]:
            raise RuntimeError("no such field")
        await update(realm, **named)

    async def called() -> str:
        return str((await realm_of(world, "delta"))["displayName"])

    async def waiting() -> bool:
        return bool(names._waiting)

    monkeypatch.setattr(world.issuer.administration, "update_realm", faulty)
    with caplog.at_level(logging.WARNING, "byodpp.identity"):
        await changed(world, "gamma", name="Gamma II")
        await changed(world, "delta", name="Delta II")
        await soon(called, "Delta II")
        await soon(waiting, False)
    assert "realm of tenant gamma has the former name or domain: RuntimeError: no such field" in caplog.text
    assert "Run `byodpp identity renew gamma`" in caplog.text
    assert "Traceback" in caplog.text


async def test_what_a_killed_process_has_not_told_is_told_by_one_that_has_started(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.life.onboard(ADA)
    await world.life.onboard(replace(ADA, slug="delta", domain=None))
    dead = world.application.connected.realm_names
    await dead.stop()  # nobody is woken any more: as good as killed
    told: list[str] = []
    update = world.issuer.administration.update_realm

    async def noting(realm: str, **named: Any) -> None:
        told.append(realm)
        await update(realm, **named)

    async def called() -> str:
        return str((await realm_of(world, "gamma"))["displayName"])

    await changed(world, "gamma", name="Gamma II")
    assert await called() == "Gamma Ltd"
    async with world.application.connected.database.system() as transaction:
        await transaction.execute(
            "update tenants set updated_at = now() - interval '2 hours' where slug = 'delta'"
        )
    monkeypatch.setattr("byodpp.identity.renaming._IDLE_SECONDS", 0.1)
    monkeypatch.setattr(world.issuer.administration, "update_realm", noting)
    names = RealmNames(world.issuer.administration, world.application.connected.database)
    await names.start()
    try:
        await soon(called, "Gamma II")
        [gamma] = await world.rows("select ulid from tenants where slug = 'gamma'")
        assert told == [gamma["ulid"]], "and once, and nobody who was not changed lately"
    finally:
        await names.stop()


async def test_one_tenant_that_is_changed_does_not_make_all_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.life.onboard(ADA)
    fetch, asked = Transaction.fetch, list[str]()

    async def noting(self: Transaction, sql: str, *arguments: Any) -> Any:
        asked.append(sql)
        return await fetch(self, sql, *arguments)

    async def called() -> str:
        return str((await realm_of(world, "gamma"))["displayName"])

    monkeypatch.setattr(Transaction, "fetch", noting)
    await changed(world, "gamma", name="Gamma II")
    monkeypatch.undo()
    looks = [sql for sql in asked if "name, domain from tenants" in sql]
    assert len(looks) == 2 and all("where id = $1" in sql for sql in looks)
    await soon(called, "Gamma II")


async def test_a_realm_whose_telling_is_cut_off_by_the_end_is_told_or_named(
    byodpp_bench: Bench,
    blueprint: Blueprint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with byodpp_bench.application(blueprint) as tested:
        world = World(tested)
        await world.life.onboard(ADA)
        [row] = await world.rows("select id from tenants where slug = 'gamma'")
        called = asyncio.Event()

        async def hangs(*arguments: Any, **named: Any) -> None:
            called.set()
            await asyncio.sleep(60)

        monkeypatch.setattr("byodpp.identity.renaming._LEAVING_SECONDS", 0.2)
        monkeypatch.setattr(world.issuer.administration, "update_realm", hangs)
        await changed(world, "gamma", name="Gamma II")
        async with asyncio.timeout(20):
            await called.wait()
        with caplog.at_level(logging.WARNING, "byodpp.identity"):
            await tested.connected.realm_names.stop()
    assert f"tenants with these ids were told their names and domains: {row['id']}. Run" in caplog.text


async def test_a_database_that_is_away_at_the_end_is_told_with_whose_realms_were_left(
    byodpp_bench: Bench,
    blueprint: Blueprint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def away() -> Any:
        raise Unavailable("The database is away.")

    async with byodpp_bench.application(blueprint) as tested:
        names = tested.connected.realm_names
        names._waiting.update({7, 5})
        with caplog.at_level(logging.WARNING, "byodpp.identity"):
            monkeypatch.setattr(tested.connected.database, "system", away)
            await names.stop()
            monkeypatch.undo()
    assert "The database is away." in caplog.text
    assert "with these ids were told their names and domains: 5, 7. Run `byodpp identity" in caplog.text


async def test_a_part_that_cannot_end_keeps_no_other_one_from_ending(
    byodpp_bench: Bench, blueprint: Blueprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = RealmNames.stop

    async def away(names: RealmNames) -> None:
        await stop(names)
        raise Unavailable("The database is away.")

    def working(connected: Application) -> list[bool]:
        works = [connected.policy_watch.looks, connected.sealer.passes, connected.quota.looks]
        return [connected.database._system is not None, *(work._task is not None for work in works)]

    monkeypatch.setattr(RealmNames, "stop", away)
    async with AsyncExitStack() as opened:
        tested = await opened.enter_async_context(byodpp_bench.application(blueprint))
        assert working(tested.connected) == [True] * 4
        with pytest.raises(Unavailable, match=r"The database is away\."):
            await opened.aclose()
    assert working(tested.connected) == [False] * 4
