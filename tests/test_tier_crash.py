"""`kill -9` of a move, at any moment, while the tenant writes: the next one takes it up, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from byodpp.embedded.process import is_running
from byodpp.places import place_name
from tests.serving import ROOT, Serving, postgres_pid
from tests.test_crash import administrator
from tests.test_tiers import FOLDERS, LOGIC, MANIFEST
from tests.worlds import write_application

SEED = int(os.environ.get("BYODPP_TEST_SEED", "1"))
_PLACES = "north@eu"
_DIGEST = (
    "select count(*) as rows, min(id) as least, max(id) as most,"
    " sum(hashtextextended(row(id, name, code, amount, parent_id, cover_id)::text, 0)) as sum"
    " from {schema}.folders where name like 'kept %'"
)
_ROWS = """
    insert into folders (tenant_id, name, code, amount)
        select {tenant}, 'kept ' || n, 'c' || n, n / 4.0 from generate_series(1, {rows}) n;
    update folders set parent_id = id - 1 where id > 1;
    insert into sheets (tenant_id, id, name, folder_id)
        select {tenant}, gen_random_uuid(), 'sheet', id from folders where id % 10 = 0;
    update folders f set cover_id = s.id from sheets s where s.folder_id = f.id
"""


@pytest.fixture
def app_dir(tmp_path: Path) -> Iterator[Path]:
    folder = write_application(tmp_path / "tiers", MANIFEST, LOGIC)
    yield folder
    pid = postgres_pid(folder)
    if pid is not None and is_running(pid):
        os.kill(pid, signal.SIGQUIT)


class Writer:
    """Goes on writing, whatever is answered."""

    def __init__(self, serving: Serving) -> None:
        self._client = httpx2.AsyncClient(
            base_url=serving.address, timeout=60, headers={"Authorization": f"Bearer {serving.token}"}
        )
        self.acknowledged: list[str] = []
        self.refused = 0
        self.done = False

    async def run(self, number: int) -> None:
        count = 0
        while not self.done:
            count += 1
            name = f"written {number}.{count}"
            answer = await self._client.post(FOLDERS, json={"name": name})
            if answer.status_code == 201:
                self.acknowledged.append(name)
            else:
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "tenant_moving"), (
                    answer.text
                )
                self.refused += 1
            read = await self._client.get(f"{FOLDERS}?limit=1&count=none")
            assert read.status_code == 200, "it is read all the time"
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        await self._client.aclose()


async def migrate(app_dir: Path, to: str, *, kill_after: float | None) -> bool:
    """Start or take up a move; kill it after so many seconds of work. Return whether it ended by itself."""
    environment = {
        **os.environ,
        "BYODPP_ENV": "dev",
        "PYTHONPATH": str(ROOT),
        "BYODPP_TENANT_SETTLE_SECONDS": "4",
        "BYODPP_PLACES": _PLACES,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-m", "byodpp", "--app", str(app_dir), "tenants", "migrate", "demo", "--to", to,
        env=environment, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        if kill_after is not None:
            assert process.stdout is not None
            await asyncio.wait_for(process.stdout.readline(), 120)  # it has come to its first step
            try:
                await asyncio.wait_for(process.wait(), kill_after)
            except TimeoutError:
                process.kill()
                await process.wait()
                return False
        out, error = await asyncio.wait_for(process.communicate(), 600)
        assert process.returncode == 0, (out + error).decode()
        return True
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def move_and_kill(
    app_dir: Path, away: str, rows: int, kills: int, told: Callable[[str], object]
) -> dict[str, Any]:
    """Move a tenant to a tier and back, killed again and again, while it writes."""
    serving = Serving(app_dir, BYODPP_RATE_LIMIT_ENABLED="false", BYODPP_PLACES=_PLACES)
    try:
        async with administrator(app_dir) as connection, administrator(app_dir, "byodpp_north") as north:
            place = north if away == "database" else connection
            return await _moved(serving, connection, place, away, rows, kills, told)
    finally:
        serving.clear_away()


async def _moved(
    serving: Serving,
    connection: Any,
    place: Any,
    away: str,
    rows: int,
    kills: int,
    told: Callable[[str], object],
) -> dict[str, Any]:
    dice, app_dir = random.Random(SEED), serving.app_dir
    tenant = await connection.fetchval("select id from tenants where slug = 'demo'")
    await connection.execute(_ROWS.format(tenant=tenant, rows=rows))
    before = tuple(await connection.fetchrow(_DIGEST.format(schema="public")))
    assert before[0] == rows
    writer, killed, moves, began = Writer(serving), 0, 0, time.monotonic()
    tasks = [asyncio.create_task(writer.run(number)) for number in range(2)]
    tiers = [away, "shared"]
    try:
        while killed < kills:
            if await migrate(app_dir, tiers[moves % 2], kill_after=dice.uniform(0.05, 4)):
                moves += 1
            else:
                killed += 1
                told(f"killed {killed} times in {time.monotonic() - began:.0f} s, {moves} moves")
        await migrate(app_dir, tiers[moves % 2], kill_after=None)
    finally:
        writer.done = True
        await asyncio.wait_for(asyncio.gather(*tasks), 120)
        await writer.close()
    here = (place, "public" if away == "database" else place_name(tenant))
    there = (connection, "public")
    if tiers[moves % 2] == "shared":
        here, there = there, here
    assert tuple(await here[0].fetchrow(_DIGEST.format(schema=here[1]))) == before
    names = await here[0].fetch(f"select name from {here[1]}.folders where name like 'written %'")
    assert sorted(row["name"] for row in names) == sorted(writer.acknowledged)
    if await there[0].fetchval("select to_regnamespace($1) is not null", there[1]):
        sql = f"select count(*) from {there[1]}.folders where tenant_id = $1"
        assert await there[0].fetchval(sql, tenant) == 0
    moves += 1
    return {"kills": killed, "moves": moves, "written": len(writer.acknowledged), "refused": writer.refused}


@pytest.mark.slow
@pytest.mark.parametrize("away", ["schema", "database"])
async def test_a_move_killed_amid_its_steps_is_taken_up_while_the_tenant_writes(
    app_dir: Path, away: str
) -> None:
    counted = await move_and_kill(app_dir, away, 2_000, 2, lambda text: None)
    assert counted["written"] > 10


@pytest.mark.soak
@pytest.mark.parametrize("away", ["schema", "database"])
async def test_a_move_of_100000_rows_killed_at_ten_moments_is_taken_up_and_loses_nothing(
    app_dir: Path, away: str, record_property: Callable[[str, object], None]
) -> None:
    def told(progress: str) -> None:
        sys.stderr.write(progress + "\n")
        sys.stderr.flush()

    counted = await move_and_kill(app_dir, away, 100_000, 10, told)
    for name, count in counted.items():
        record_property(name, count)
    record_property("rows lost", 0)
