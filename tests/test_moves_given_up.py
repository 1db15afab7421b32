"""Moves that are given up, also by what is cut off amid that: whatever follows, no row is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.exceptions import ApiError, Conflict, MigrationError
from byodpp.places import building
from byodpp.tenant_life import Wanted, database_moves
from byodpp.testing import Bench
from tests.test_databases_of_tenants import PLACES, in_place
from tests.test_moves_in_trouble import AT_ONCE, owner_of
from tests.test_tiers import FOLDERS, LOGIC, MANIFEST, Cut, World, cutting, made
from tests.worlds import build

COUNT = "select count(*) from folders where tenant_id > 0"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("given_up"), MANIFEST, LOGIC)


@pytest_asyncio.fixture(loop_scope="session")
async def world(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[World]:
    async with byodpp_bench.application(blueprint, places=PLACES, **AT_ONCE) as tested:
        yield World(tested)


async def counts(world: World) -> tuple[int, int]:
    """How many folders tenants have in the shared tables, and in the place."""
    return await world.value(COUNT), await in_place(world, "north", COUNT)


#: Where giving up is cut off: once it is noted, before and after the gates are opened, and at the commit.
KILLS = {
    "begun_of": ("module", False),
    "_let_write": ("moves", False),
    "mark_keys": ("carrier", True),
    "clear": ("moves", False),
}


@pytest.mark.parametrize("source", ["shared", "north"])
@pytest.mark.parametrize("kill", KILLS)
async def test_a_move_whose_giving_up_is_cut_off_goes_nowhere_else_and_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, source: str, kill: str
) -> None:
    await world.fill("acme", 5)
    goal: Any = "database" if source == "shared" else "shared"
    if source == "north":
        await world.life.move("acme", "database")
    where = (5, 0) if source == "shared" else (0, 5)
    with pytest.raises(Cut):
        await world.life.move("acme", goal, told=cutting("compare"))
    before, life = await world.seen("acme"), world.life
    moves = life._moves.databases
    kind, behind = KILLS[kill]
    asked: Any = {"module": database_moves, "moves": moves, "carrier": moves._carrier}[kind]
    done = getattr(asked, kill)

    async def dies(*args: Any) -> None:
        if behind:
            await done(*args)
        raise Cut

    monkeypatch.setattr(asked, kill, dies)
    with pytest.raises(Cut):
        await life.abandon("acme")
    assert await counts(world) == (5, 5), "nothing is deleted before it is committed that the move has ended"
    monkeypatch.undo()
    if kill != "clear":  # is committed by then
        with pytest.raises(Conflict, match=r"is being given up: finish that with .*--abandon"):
            await world.life.move("acme", None)
    assert await world.life.abandon("acme") == {"abandon": {"left": ""}}
    assert await counts(world) == where
    assert (await world.seen("acme"))[:-1] == before[:-1]
    await made(world.client(), FOLDERS, name="goes on")
    await world.life.move("acme", goal)
    assert await counts(world) == ((0, 6) if source == "shared" else (6, 0))
    assert await in_place(world, "north", "select count(*) from users where tenant_id > 0") == (
        1 if source == "shared" else 0
    )


async def test_a_move_whose_giving_up_is_refused_goes_nowhere_else_and_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.fill("acme", 5)
    with pytest.raises(Cut):
        await world.life.move("acme", "database", told=cutting("compare"))
    monkeypatch.setattr(building, "_PATIENCE_SECONDS", 1.0)
    busy = await owner_of(world)
    try:
        async with busy.transaction():  # somebody writes folders for long
            await busy.execute("lock table folders in row exclusive mode")
            with pytest.raises(MigrationError):
                await world.life.abandon("acme")
    finally:
        await busy.close()
    assert await counts(world) == (5, 5)
    with pytest.raises(Conflict, match="being given up"):
        await world.life.move("acme", None)
    await world.life.abandon("acme")
    await world.life.move("acme", "database")
    assert await counts(world) == (0, 5)


async def test_copies_are_deleted_also_while_something_is_under_way_with_who_had_the_slug(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.fill("acme", 5)
    await world.fill("beta", 1)
    with pytest.raises(Cut):
        await world.life.move("acme", "database", told=cutting("compare"))
    life = world.life

    async def dies(*args: Any) -> None:
        raise Cut

    monkeypatch.setattr(life._moves.databases, "clear", dies)
    with pytest.raises(Cut):
        await life.abandon("acme")
    monkeypatch.undo()
    assert await counts(world) == (6, 5)
    beta = await world.application.tenant("beta")
    begun = (
        "insert into byodpp.tenant_procedures (kind, slug, given)"
        " values ('invite', 'acme', jsonb_build_object('tenant', $1::bigint))"
    )
    await world.rows(begun, beta.id)
    assert await world.life.abandon("acme") == {"abandon": {"left": ""}}
    assert await counts(world) == (6, 0)


FORGET = "update byodpp.tenant_procedures set done = done - $1::text[] where finished_at is null"


@pytest.mark.parametrize("tier", ["database", "schema"])
@pytest.mark.parametrize("step", ["empty", "copy folders", "circles", "references"])
async def test_no_step_before_the_switch_is_taken_after_it(world: World, tier: Any, step: str) -> None:
    """As if the note that it is done had gone missing."""
    await world.fill("acme", 3)
    with pytest.raises(Cut):
        await world.life.move("acme", tier, told=cutting("settle"))
    before = await world.seen("acme")
    await world.rows(FORGET, [step])
    with pytest.raises(Conflict, match="not on its way"):
        await world.life.move("acme", None)
    assert (await world.seen("acme"))[:-1] == before[:-1]


@pytest.mark.parametrize("tier", ["database", "schema"])
async def test_nothing_is_deleted_while_the_new_place_lacks_what_was_compared(
    world: World, tier: Any
) -> None:
    await world.fill("acme", 3)
    with pytest.raises(Cut):
        await world.life.move("acme", tier, told=cutting("trail" if tier == "database" else "settle"))
    database = world.application.connected.database
    id = (await world.application.tenant("acme")).id
    lost, at = (
        ("diaries", database.places["north"]) if tier == "database" else (f"byodpp_t{id}.diaries", database)
    )
    async with at.system() as transaction:
        await transaction.execute("set local byodpp.moving = 'on'")
        await transaction.execute(f"delete from {lost} where id = 1")
    with pytest.raises(ApiError, match=r"diaries.* holds 2 of the 3 rows"):
        await world.life.move("acme", None)
    assert await world.value("select count(*) from diaries") == 3, "where they came from"
    async with database.system() as reading, at.system() as transaction:
        [row] = await reading.fetch("select * from public.diaries where tenant_id = $1 and id = 1", id)
        await transaction.execute("set local byodpp.moving = 'on'")
        names, values = ", ".join(row.keys()), ", ".join(f"${n}" for n in range(1, len(row) + 1))
        await transaction.execute(
            f"insert into {lost} ({names}) overriding system value values ({values})", *row.values()
        )
    await world.life.move("acme", None)
    await made(world.client(), FOLDERS, name="goes on")
    assert await world.value("select count(*) from public.diaries") == 0


@pytest.mark.parametrize("goal", ["schema", "shared"])
async def test_a_move_into_a_schema_that_finds_a_difference_copies_again(world: World, goal: Any) -> None:
    await world.fill("acme", 3)
    id = (await world.application.tenant("acme")).id
    if goal == "shared":
        await world.life.move("acme", "schema")
    before = await world.seen("acme")
    with pytest.raises(Cut):
        await world.life.move("acme", goal, told=cutting("references"))
    target = f"byodpp_t{id}" if goal == "schema" else "public"
    async with world.application.connected.database.system() as transaction:
        await transaction.execute("set local byodpp.moving = 'on'")
        await transaction.execute(f"update {target}.folders set name = 'another' where tenant_id = {id}")
    with pytest.raises(ApiError, match="folders differs"):
        await world.life.move("acme", None)
    await world.life.move("acme", None)
    assert await world.seen("acme") == before
    await made(world.client(), FOLDERS, name="goes on")


@pytest.mark.parametrize("after", ["begin", "hold", "references", "compare"])
@pytest.mark.parametrize("goal", ["schema", "shared"])
async def test_a_move_into_a_schema_or_out_of_it_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch, goal: Any, after: str
) -> None:
    await world.fill("acme", 3)
    id = (await world.application.tenant("acme")).id
    if goal == "shared":
        await world.life.move("acme", "schema")
    before = await world.seen("acme")
    with pytest.raises(Cut):
        await world.life.move("acme", goal, told=cutting(after))
    if after == "compare":  # it is cut off amid that, once its tables take writes again
        life = world.life

        async def dies(*args: Any) -> None:
            raise Cut

        monkeypatch.setattr(life._moves, "told", dies)
        with pytest.raises(Cut):
            await life.abandon("acme")
        monkeypatch.undo()
        with pytest.raises(Conflict, match="being given up"):
            await world.life.move("acme", None)
    assert await world.life.abandon("acme") == {"abandon": {"left": ""}}
    assert await world.seen("acme") == before
    await made(world.client(), FOLDERS, name="goes on")
    lines = {line.slug: (line.tier, line.under_way) for line in await world.life.list()}
    assert lines["acme"] == ("shared" if goal == "schema" else "schema", None)
    if goal == "schema":
        assert await world.value("select to_regnamespace($1) is null", f"byodpp_t{id}")
    else:
        assert await world.value("select count(*) from public.folders where tenant_id = $1", id) == 0
    assert await world.life.abandon("acme") == {"abandon": {"left": ""}}, "as often as anybody likes"
    with pytest.raises(Cut):
        await world.life.move("acme", goal, told=cutting("switch"))
    kept = "select failure, done, changed_at from byodpp.tenant_procedures where finished_at is null"
    record = await world.rows(kept)
    with pytest.raises(Conflict, match="has switched it over"):
        await world.life.abandon("acme")
    assert await world.rows(kept) == record, "what was refused has not stopped the move"
    await world.life.move("acme", None)
    with pytest.raises(Conflict, match="No move of tenant 'acme' is under way"):
        await world.life.abandon("acme")
    assert len((await world.client().get(FOLDERS)).json()["data"]) == 4


async def test_a_move_that_is_taken_up_empties_a_schema_that_giving_up_had_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.fill("acme", 3)
    id = (await world.application.tenant("acme")).id
    with pytest.raises(Cut):
        await world.life.move("acme", "schema", told=cutting("compare"))
    life = world.life

    async def dies(*args: Any) -> None:
        raise Cut

    monkeypatch.setattr(life._moves, "clear", dies)
    with pytest.raises(Cut):
        await life.abandon("acme")
    monkeypatch.undo()
    assert await world.value(f"select count(*) from byodpp_t{id}.folders") == 3
    assert (await world.client().delete(f"{FOLDERS}/3")).status_code == 204
    await made(world.client(), FOLDERS, name="goes on")
    before = await world.seen("acme")
    await world.life.move("acme", "schema")
    assert await world.seen("acme") == before


@pytest.mark.parametrize("goal", ["schema", "database"])
async def test_copies_that_could_not_be_deleted_are_deleted_by_giving_up_once_more(
    world: World, monkeypatch: pytest.MonkeyPatch, goal: Any
) -> None:
    await world.fill("acme", 3)
    id = (await world.application.tenant("acme")).id
    with pytest.raises(Cut):
        await world.life.move("acme", goal, told=cutting("compare"))

    async def left() -> Any:
        sql = f"select to_regclass('byodpp_t{id}.folders') is not null"
        return await world.value(sql) if goal == "schema" else (await counts(world))[1] > 0

    life = world.life

    async def in_use(*args: Any) -> None:
        raise MigrationError("tables are in use all the time")

    moves: Any = life._moves if goal == "schema" else life._moves.databases
    monkeypatch.setattr(moves, "clear", in_use)
    assert await life.abandon("acme") == {"abandon": {"left": "tables are in use all the time"}}
    monkeypatch.undo()
    await made(world.client(), FOLDERS, name="goes on")
    assert await left()
    assert await world.life.abandon("acme") == {"abandon": {"left": ""}}
    assert not await left()
    assert (await counts(world))[0] == 4, "nothing goes where the tenant is"


async def test_a_move_that_has_taken_no_step_is_given_up(world: World) -> None:
    acme = await world.application.tenant("acme")
    life = world.life
    await life._procedures.begin("move", "acme", {"to": "schema", "tenant": acme.id})
    assert await world.life.abandon("acme") == {"abandon": {"left": ""}}
    assert {line.under_way for line in await world.life.list()} == {None}


@pytest.mark.parametrize("after", [None, "begin", "compare"])
async def test_two_operators_do_not_mix_two_moves_of_one_tenant(
    world: World, monkeypatch: pytest.MonkeyPatch, after: str | None
) -> None:
    await world.fill("acme", 3)
    acme = await world.application.tenant("acme")
    if after is None:
        await world.life._procedures.begin("move", "acme", {"to": "schema", "tenant": acme.id})
    else:
        with pytest.raises(Cut):
            await world.life.move("acme", "schema", told=cutting(after))
    second = world.life

    async def nothing_yet(*args: Any) -> None:
        """Both have looked before either has begun."""

    monkeypatch.setattr(second._relocation, "_move_begun", nothing_yet)
    with pytest.raises(Conflict, match=r'was begun with .*to "schema"'):
        await second.move("acme", "database")
    await world.life.move("acme", None)
    assert {line.slug: line.tier for line in await world.life.list()}["acme"] == "schema"


async def test_a_move_goes_on_under_another_slug_and_touches_nobody_who_has_the_former(world: World) -> None:
    await world.fill("acme", 3)
    with pytest.raises(Cut):
        await world.life.move("acme", "schema", told=cutting("compare"))
    operator = world.application.client(tenant="platform")
    ids = {name: (await world.application.tenant(name)).id for name in ("acme", "beta")}
    for name, slug in (("acme", "apex"), ("beta", "acme")):
        assert (await operator.patch(f"/api/v1/tenants/{ids[name]}", json={"slug": slug})).status_code == 200
    told = {line.slug: line.under_way and line.under_way.kind for line in await world.life.list()}
    assert (told["apex"], told["acme"]) == ("move", None)
    with pytest.raises(Conflict, match="which was called 'acme' then"):
        await world.life.move("acme", "schema")
    with pytest.raises(Conflict, match="No move of tenant 'acme' is under way"):
        await world.life.abandon("acme")
    await world.life.move("apex", "schema")
    tiers = {line.slug: (line.tier, line.under_way) for line in await world.life.list()}
    assert (tiers["apex"], tiers["acme"]) == (("schema", None), ("shared", None))


async def test_a_suspension_waits_for_nobody_who_had_the_slug_before(world: World) -> None:
    await world.fill("acme", 1)
    await world.fill("beta", 1)
    with pytest.raises(Cut):
        await world.life.move("acme", "schema", told=cutting("compare"))
    operator = world.application.client(tenant="platform")
    ids = {name: (await world.application.tenant(name)).id for name in ("acme", "beta")}
    clerk = world.client("beta", user="clerk")
    assert (await clerk.get(FOLDERS)).status_code == 200
    for name, slug in (("acme", "apex"), ("beta", "acme")):
        assert (await operator.patch(f"/api/v1/tenants/{ids[name]}", json={"slug": slug})).status_code == 200
    await world.life.suspend("acme", "security")
    assert (await clerk.get(FOLDERS)).status_code == 401
    await world.life.move("apex", "schema")
    assert {line.slug: line.status for line in await world.life.list()}["apex"] == "activated"


async def test_a_move_is_not_taken_up_into_another_database_than_it_was_begun_for(world: World) -> None:
    await world.fill("acme", 1)
    with pytest.raises(Cut):
        await world.life.move("acme", "database", wanted=Wanted(place="north"), told=cutting("hold"))
    for other in (Wanted(place="south"), Wanted(region="us")):
        with pytest.raises(Conflict, match="does not lead to"):
            await world.life.move("acme", "database", wanted=other)
    await world.life.move("acme", "database", wanted=Wanted(place="north"))
    assert {line.slug: line.place for line in await world.life.list()}["acme"] == "north"
