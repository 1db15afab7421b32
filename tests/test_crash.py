"""`kill -9` of the server while batches are written: nothing acknowledged is lost, nothing is half there.

Clients write batches of 200 rows and keep a ledger: acknowledged, refused, or unknown because
the server died before it answered. After each kill the server starts again on the same folder
(every third time PostgreSQL was killed, too), and the ledger is compared with the database.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from byodpp.embedded import SUPERUSER, RunningServer
from byodpp.embedded.process import is_running
from byodpp.tables.roles import DATABASE
from tests.serving import Serving, postgres_pid

ROWS = 200
CLIENTS = 4
MANIFEST = {
    "include": ["byodpp:tenancy", "byodpp:access", "byodpp:audit"],
    "services": [
        {
            "name": "Store",
            "resources": [
                {
                    "name": "Parcels",
                    "audit": True,
                    "events": True,
                    "bounds": {"maxBatch": 500},
                    "fields": {
                        "batch": {"type": "string", "required": True, "index": True},
                        "number": {"type": "integer", "required": True},
                        "mark": {"type": "string", "default": "new"},
                    },
                    "unique": [["batch", "number"]],
                    "access": {"read": ["Admin"], "write": ["Admin"]},
                }
            ],
        }
    ],
}


@dataclass(slots=True)
class Entry:
    """What a client knows of one batch."""

    state: str = "unknown"  # acknowledged, refused, unknown
    ids: tuple[Any, ...] = ()
    mark: str = "new"  # of the last change that was acknowledged
    possible: set[str] = field(default_factory=set)  # of changes whose answer never came


@dataclass(slots=True)
class Ledger:
    """What all clients know, and how often what happened."""

    entries: dict[str, Entry] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


async def write(client: httpx2.AsyncClient, ledger: Ledger, name: str, chance: random.Random) -> None:
    """Create a batch, or change one of one's own, again and again until the server is gone."""
    mine: list[Entry] = []
    number = 0
    while True:
        changed = chance.choice(mine) if mine and chance.random() < 0.3 else None
        number += 1
        if changed is None:
            key = f"{name}-{number}"
            entry = ledger.entries[key] = Entry()
            body: Any = [{"batch": key, "number": one} for one in range(ROWS)]
            body[chance.randrange(ROWS)] |= {"number": 0} if chance.random() < 0.1 else {}
        else:
            entry, mark = changed, f"{name}.{number}"
            entry.possible.add(mark)
            body = {"operation": "patch", "atomic": True}
            body["items"] = [{"id": one, "mark": mark} for one in entry.ids]
        try:
            answer = await client.post("/api/v1/parcels/batch", json=body)
        except httpx2.TransportError:
            ledger.counts["unknown"] += 1
            return
        if answer.status_code >= 500:
            ledger.counts["unknown"] += 1
        elif answer.is_success:
            ledger.counts["acknowledged"] += 1
            if changed is None:
                entry.state, entry.ids = "acknowledged", tuple(row["id"] for row in answer.json()["data"])
                mine.append(entry)
            else:
                entry.mark = mark
                entry.possible.clear()
        else:
            assert answer.status_code == 409, answer.text[:500]
            ledger.counts["refused"] += 1
            entry.state = "refused"


async def storm(
    serving: Serving, ledger: Ledger, name: str, chance: random.Random, kill: Callable[[], None]
) -> None:
    """Write from several clients; kill at some moment; wait until every client has noticed."""
    headers = {"Authorization": f"Bearer {serving.token}"}
    async with httpx2.AsyncClient(base_url=serving.address, headers=headers, timeout=30) as client:
        writers = [
            asyncio.create_task(write(client, ledger, f"{name}-{one}", random.Random(chance.random())))
            for one in range(CLIENTS)
        ]
        await asyncio.sleep(chance.uniform(0.4, 1.6))
        kill()
        await asyncio.gather(*writers)


@asynccontextmanager
async def administrator(app_dir: Path, database: str = DATABASE) -> AsyncIterator[asyncpg.Connection[Any]]:
    state = json.loads((app_dir / ".byodpp" / "postgres.json").read_text())
    server = RunningServer(pid=state["pid"], socket_folder=Path(state["socket_folder"]), launched=False)
    connection = await asyncpg.connect(server.uri(SUPERUSER, database))
    try:
        yield connection
    finally:
        await connection.close()


async def compare(app_dir: Path, ledger: Ledger) -> dict[str, int]:
    """Hold the ledger against the database; return what was found."""
    async with administrator(app_dir) as connection:
        found = await connection.fetch(
            "select batch, count(*) as rows, array_agg(distinct mark) as marks from parcels group by batch"
        )
        stored = {row["batch"]: row for row in found}
        assert set(stored) <= set(ledger.entries)
        for key, entry in ledger.entries.items():
            row = stored.get(key)
            if row is None:
                assert entry.state != "acknowledged", f"the acknowledged batch {key} is lost"
                continue
            assert entry.state != "refused", f"the refused batch {key} is there"
            assert row["rows"] == ROWS, f"{row['rows']} rows of batch {key}"
            assert len(row["marks"]) == 1, f"batch {key} was changed in part: {row['marks']}"
            assert row["marks"][0] in {entry.mark, *entry.possible}, f"batch {key} has {row['marks']}"
            # A change that nobody acknowledged has happened or not, and that is known now.
            entry.mark, entry.possible = row["marks"][0], set()
        await same_story(connection)
        # The new server's own work opens and ends transactions meanwhile; those of the dead one would stay.
        left = await open_transactions(connection)
        for _ in range(50):
            if not left:
                break
            await asyncio.sleep(0.1)
            left &= await open_transactions(connection)
        assert not left, "a transaction of the dead server is still open"
    unknown = [key for key, entry in ledger.entries.items() if entry.state == "unknown"]
    return {"batches": len(stored), "unknown that had been committed": sum(key in stored for key in unknown)}


async def open_transactions(connection: asyncpg.Connection[Any]) -> set[tuple[int, datetime]]:
    """Return the transactions that wait for their client: process and beginning."""
    found = await connection.fetch(
        "select pid, xact_start from pg_stat_activity where state like 'idle in transaction%'"
    )
    return {(row["pid"], row["xact_start"]) for row in found}


async def same_story(connection: asyncpg.Connection[Any]) -> None:
    """Rows, audit log and outbox tell the same."""
    rows = "select id::text, 1 + (mark <> 'new')::int as least, mark from parcels"
    for source, key, created in (
        ("audit_logs where resource_type = 'Parcels'", "resource_id", "action ilike '%create%'"),
        ("byodpp.events() where resource = 'Parcels'", "resource_id", "name like '%.created'"),
    ):
        wrong = await connection.fetch(
            f"with told as (select {key} as id, count(*) filter (where {created}) as created,"
            f" count(*) as all from {source} group by 1)"
            f" select * from ({rows}) r full join told using (id)"
            ' where r.id is null or told.id is null or told.created <> 1 or told."all" < r.least'
            " or (r.mark = 'new' and told.\"all\" <> 1) limit 5"
        )
        assert not wrong, f"{source}: {wrong}"


@pytest.fixture
def app_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "a store"
    folder.mkdir()
    (folder / "resources.json").write_text(json.dumps(MANIFEST))
    yield folder
    pid = postgres_pid(folder)
    if pid is not None and is_running(pid):
        os.kill(pid, signal.SIGQUIT)


async def crash(app_dir: Path, kills: int, chance: random.Random) -> dict[str, float]:
    """Kill so many times; return what was counted."""
    ledger = Ledger()
    slowest = 0.0
    found: dict[str, int] = {}
    servers = 0
    for number in range(kills):
        serving = Serving(app_dir, BYODPP_RATE_LIMIT_ENABLED="false")
        slowest = max(slowest, serving.seconds_to_ready if number else 0.0)
        try:
            if number:
                found = await compare(app_dir, ledger)

            def kill(serving: Serving = serving, both: bool = number % 3 == 2) -> None:
                server = postgres_pid(app_dir)
                serving.process.kill()
                if both and server is not None:
                    os.kill(server, signal.SIGKILL)

            await storm(serving, ledger, f"k{number}", chance, kill)
            servers += number % 3 == 2
            assert serving.end() == -signal.SIGKILL
        finally:
            serving.kill()
    last = Serving(app_dir, BYODPP_RATE_LIMIT_ENABLED="false")
    try:
        found = await compare(app_dir, ledger)
        server = postgres_pid(app_dir)
        assert server is not None
        assert last.end() == 0
        assert not is_running(server) and postgres_pid(app_dir) is None
        assert "rror" not in last.output, last.output
    finally:
        last.clear_away()
    return {
        "kills": kills,
        "of them with PostgreSQL": servers,
        **ledger.counts,
        **found,
        "slowest start in seconds": round(slowest, 1),
    }


@pytest.mark.slow
async def test_three_kills_lose_nothing_and_leave_nothing_half_done(app_dir: Path) -> None:
    found = await crash(app_dir, 3, random.Random(random.random()))
    assert found["acknowledged"] > 3


@pytest.mark.soak
async def test_twenty_kills_lose_nothing_and_leave_nothing_half_done(
    app_dir: Path, record_property: Callable[[str, object], None]
) -> None:
    found = await crash(app_dir, 20, random.Random(random.random()))
    for name, count in found.items():
        record_property(name, count)
    assert found["acknowledged"] > 20
