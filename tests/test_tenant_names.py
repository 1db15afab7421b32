"""Of whom a procedure is: of one tenant, whatever it is called, and one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.database import Transaction
from byodpp.exceptions import Conflict, NotFound, ValidationFailed
from byodpp.tenant_life import Newcomer
from byodpp.tenant_life.procedures import Procedures
from byodpp.testing import Bench
from tests.patience import soon
from tests.test_tenant_life import ADA, BEGINNINGS, BEN, Cut, World, cutting
from tests.worlds import SHOP, build


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("names"), SHOP, BEGINNINGS)


@pytest_asyncio.fixture
async def world(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[World]:
    async with byodpp_bench.application(blueprint, tenant_settle_seconds=0) as tested:
        yield World(tested)


def procedures_of(world: World) -> Procedures:
    connected = world.application.connected
    return Procedures(connected.database, connected.service)


async def test_a_deletion_whose_slug_another_tenant_has_got_is_finished_by_its_ulid(
    world: World, tmp_path: Path
) -> None:
    await world.life.onboard(ADA)
    await world.life.onboard(Newcomer(slug="delta", name="Delta", email="dan@delta.example"))
    [gone] = await world.rows("select id, ulid from tenants where slug = 'gamma'")
    with pytest.raises(Cut):
        await world.life.delete(gone["ulid"], tmp_path, told=cutting("rows"))
    [row] = await world.rows("select id from tenants where slug = 'delta'")
    operator = world.application.client(tenant="platform")
    renamed = await operator.patch(f"/api/v1/tenants/{row['id']}", json={"slug": "gamma"})
    assert renamed.status_code == 200, renamed.text
    with pytest.raises(Conflict, match=f"finish that first, by its ULID, {gone['ulid']}$"):
        await world.life.delete("gamma", tmp_path)
    assert [one.realm for one in await world.life.list() if one.under_way] == [gone["ulid"]]
    await world.life.delete(gone["ulid"], tmp_path)
    assert all(line.under_way is None for line in await world.life.list())
    assert (await world.state("gamma"))["tenant"]["name"] == "Delta"
    with pytest.raises(NotFound, match="There is no tenant"):
        await world.life.delete(gone["ulid"], tmp_path)


async def test_every_procedure_takes_a_tenants_ulid(world: World, tmp_path: Path) -> None:
    await world.life.onboard(ADA)
    [row] = await world.rows("select ulid from tenants where slug = 'gamma'")
    ulid = row["ulid"]
    await world.life.invite(ulid, BEN)
    await world.life.suspend(ulid, "admin")
    await world.life.reactivate(ulid)
    assert (await world.life.export(ulid, tmp_path)).is_file()
    with pytest.raises(Conflict, match="No move of tenant 'gamma' is under way"):
        await world.life.abandon(ulid)
    with pytest.raises(Conflict, match="served from there already"):
        await world.life.move(ulid, "shared")
    child = Newcomer(slug="delta", name="Delta", email="dan@delta.example", parent=ulid)
    await world.life.onboard(child)
    assert [one.parent for one in await world.life.list() if one.slug == "delta"] == ["gamma"]
    with pytest.raises(ValidationFailed) as refused:
        await world.life.onboard(replace(child, slug="omega", parent="0" * 25 + "9"))
    assert "there is no tenant" in refused.value.details[0].message
    [below] = await world.rows("select ulid from tenants where slug = 'delta'")
    await world.life.delete(below["ulid"], tmp_path)
    assert {one.slug for one in await world.life.list()} >= {"gamma"}
    assert "delta" not in {one.slug for one in await world.life.list()}


async def test_of_two_procedures_begun_at_one_moment_for_a_tenant_the_second_is_refused(
    world: World,
) -> None:
    await world.life.onboard(ADA)
    [row] = await world.rows("select id from tenants where slug = 'gamma'")
    procedures = procedures_of(world)
    for turn in range(5):
        outcomes = await asyncio.gather(
            procedures.begin("suspend", f"gamma-{turn}", {"tenant": row["id"]}),
            procedures.begin("delete", f"omega-{turn}", {"tenant": row["id"]}),
            return_exceptions=True,
        )
        refused = [one for one in outcomes if isinstance(one, BaseException)]
        [begun] = [one for one in outcomes if not isinstance(one, BaseException)]
        assert [type(one) for one in refused] == [Conflict], refused
        assert "Something else is under way with tenant" in str(refused[0]) and begun.kind in str(refused[0])
        await procedures.finish(begun)


async def test_an_onboarding_is_refused_that_finds_a_tenant_with_which_something_else_is_under_way(
    world: World,
) -> None:
    await world.life.onboard(ADA)
    with pytest.raises(Cut):
        await world.life.invite("gamma", BEN, told=cutting("administrator"))
    async with world.application.connected.database.system() as transaction:
        await transaction.execute("update tenants set slug = 'omega' where slug = 'gamma'")
    again = replace(ADA, slug="omega")
    with pytest.raises(Conflict, match="Something else is under way with tenant 'omega': invite, begun"):
        await world.life.onboard(again)
    assert len([one for one in await world.life.list() if one.under_way]) == 1
    await world.life.invite("omega", BEN)
    await world.life.onboard(again)
    assert all(line.under_way is None for line in await world.life.list())


async def test_who_onboards_with_other_words_waits_for_the_step_that_makes_the_tenant_and_never_in_a_circle(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    execute = Transaction.execute

    async def slow(self: Transaction, sql: str, *arguments: Any) -> Any:
        if "jsonb_build_object" in sql and arguments[1] == "tenant":  # the note that the tenant is there
            begun.set()
            await asyncio.wait_for(go_on.wait(), timeout=10)
        return await execute(self, sql, *arguments)

    async def waiting() -> bool:
        locked = (
            "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        return bool(await world.rows(locked))

    monkeypatch.setattr(Transaction, "execute", slow)
    first = asyncio.create_task(world.life.onboard(ADA))
    await asyncio.wait_for(begun.wait(), timeout=10)
    second = asyncio.create_task(world.life.onboard(replace(ADA, phone="+46 1")))
    await soon(waiting, True)
    go_on.set()
    _, other = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), timeout=30)
    assert first.exception() is None
    if isinstance(other, Exception):  # the next step may have begun by then
        assert "A step of this is being taken just now" in str(other)
    assert len(await world.rows("select id from tenants where slug = 'gamma'")) == 1


async def test_what_ends_while_something_is_begun_stands_in_nobodys_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.life.onboard(ADA)
    [row] = await world.rows("select id from tenants where slug = 'gamma'")
    procedures, given = procedures_of(world), {"tenant": row["id"]}
    first = await procedures.begin("suspend", "gamma", given)
    execute = Transaction.execute

    async def ending(self: Transaction, sql: str, *arguments: Any) -> Any:
        done = await execute(self, sql, *arguments)
        if "insert into byodpp.tenant_procedures" in sql:
            monkeypatch.undo()
            await procedures.finish(first)  # of another process, between the two statements
        return done

    monkeypatch.setattr(Transaction, "execute", ending)
    second = await procedures.begin("reactivate", "gamma", given)
    assert (second.kind, second.id != first.id) == ("reactivate", True)
