"""What a tenant takes along is carried in portions of a few MB, however large its rows are."""

from __future__ import annotations

import json
import tracemalloc
import zipfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.places import bringing, carrying
from byodpp.places.portions import PORTION_BYTES, portions
from byodpp.testing import Bench
from tests.patience import soon
from tests.test_databases_of_tenants import PLACES, in_place
from tests.test_moves_in_trouble import AT_ONCE
from tests.test_tiers import FOLDERS, LOGIC, MANIFEST, World, made
from tests.worlds import build


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("large_rows"), MANIFEST, LOGIC)


@pytest_asyncio.fixture(loop_scope="session")
async def world(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[World]:
    async with byodpp_bench.application(blueprint, places=PLACES, **AT_ONCE) as tested:
        yield World(tested)


def test_portions_are_bounded_by_bytes_and_by_rows_and_hold_a_row_at_least() -> None:
    rows = [("a", 3), ("b", 7), ("c", 1), ("d", 99), ("e", 1), ("f", 1), ("g", 1)]
    assert list(portions(rows, most_bytes=10, most_rows=2)) == [["a", "b"], ["c"], ["d"], ["e", "f"], ["g"]]
    assert list(portions([], most_bytes=1)) == []


ENTRIES = """
    insert into audit_logs (tenant_id, action, resource_type, resource_id, changes, result, request_id)
    select $1, 'update', 'Folders', '1', jsonb_build_object('after', repeat('x', $3)), 'success', 'r'
    from generate_series(1, $2::int)
"""
COUNT = "select count(*) from audit_logs where tenant_id = $1 and request_id = 'r'"


async def test_an_audit_trail_is_brought_some_megabytes_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.fill("acme", 1)
    id = (await world.application.tenant("acme")).id
    database = world.application.connected.database
    async with database.system() as transaction:
        await transaction.be_patient(100)
        await transaction.execute(ENTRIES, id, 20, 900_000)
        await transaction.execute(ENTRIES, id, 2_500, 10)
        await transaction.execute(ENTRIES, id, 1, 6_000_000)
    brought, added = list[int](), carrying._Trail.added

    async def measured(trail: Any, transaction: Any, entries: Any) -> int:
        brought.append(len(entries["rows"]))
        return await added(trail, transaction, entries)

    monkeypatch.setattr(carrying._Trail, "added", measured)
    await world.life.move("acme", "database")
    assert await in_place(world, "north", COUNT, id) == 2_521
    alone = [size for size in brought if size > PORTION_BYTES * 1.1]  # the names of its columns come on top
    assert len(alone) == 1 and 6_000_000 < alone[0] < 6_100_000, brought
    assert len(brought) >= 7, "five of those of 900 kB are more than 4 MB"
    await made(world.client(), FOLDERS, name="goes on")


async def test_revocations_are_brought_some_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.fill("acme", 1)
    id = (await world.application.tenant("acme")).id
    async with world.application.connected.database.system() as transaction:
        await transaction.execute(
            "insert into revocations (tenant_id, kind, subject, expires_at) select $1, 'token', 'r' || n,"
            " now() + interval '1 day' from generate_series(1, 11) n",
            id,
        )
    monkeypatch.setattr(carrying, "PORTION_ROWS", 3)
    await world.life.move("acme", "database")
    count = "select count(*) from revocations where tenant_id = $1"
    assert await in_place(world, "north", count, id) == 11
    assert await world.value(count, id) == 0


async def test_copies_are_brought_some_at_a_time_also_those_that_exchange_their_values(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringing, "portions", partial(portions, most_bytes=300))
    platform = world.client("platform", user="root")
    for letter in "ABCDEFGHIJ":
        await made(platform, "/api/v1/countries", name=f"{letter} land", code=f"A{letter}")
    await made(world.client(), FOLDERS, name="refers", countryId=3)
    await world.life.move("acme", "database")
    seen = "select string_agg(code, ',' order by id) from countries"

    async def copied() -> object:
        return await in_place(world, "north", seen)

    await soon(copied, await world.value(seen))
    exchange = "update countries set code = case when $1 then 'Z' else 'A' end || substr(name, $2, 1)"
    async with world.application.connected.database.system() as transaction:
        await transaction.execute(exchange, True, 1)
        await transaction.execute("update countries set code = 'A' || chr(ascii(name) + 1) where name < 'J'")
        await transaction.execute("update countries set code = 'AA' where name like 'J%'")
    assert await world.value(seen) == "AB,AC,AD,AE,AF,AG,AH,AI,AJ,AA"
    await soon(copied, "AB,AC,AD,AE,AF,AG,AH,AI,AJ,AA")


async def test_an_export_holds_some_megabytes_of_large_rows(world: World, tmp_path: Path) -> None:
    await world.fill("acme", 1)
    id = (await world.application.tenant("acme")).id
    insert = (
        "insert into folders (tenant_id, name, about)"
        " select $1, 'large', to_jsonb(repeat('y', $2)) from generate_series(1, $3::int)"
    )
    async with world.application.connected.database.system() as transaction:
        await transaction.execute(insert, id, 10, 1_500)
        await transaction.execute(insert, id, 1_000_000, 60)
    tracemalloc.start()
    try:
        path = await world.life.export("acme", tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 35_000_000, "60 MB of rows are read some at a time"
    with zipfile.ZipFile(path) as archive:
        rows = [json.loads(line) for line in archive.read("data/Folders.ndjson").splitlines()]
    assert [len(row["about"]) for row in rows if row["name"] == "large"] == [10] * 1_500 + [1_000_000] * 60
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
