"""`kill -9` of the server while it imports: sent again, the file goes on where it was, with the same report.

Every fiftieth row is no good, and some have the key of an earlier one. After the last kill the file is
sent until it is done; then the rows, their audit entries and events, and the report must be those of an
import that nobody disturbed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from byodpp.embedded.process import is_running
from tests.serving import Serving, postgres_pid
from tests.test_crash import administrator

MANIFEST: dict[str, Any] = {
    "include": ["byodpp:tenancy", "byodpp:access", "byodpp:audit"],
    "services": [
        {
            "name": "Store",
            "resources": [
                {
                    "name": "Parcels",
                    "audit": True,
                    "events": True,
                    "fields": {
                        "name": {"type": "string", "required": True, "maxLength": 200},
                        "number": {"type": "string", "unique": True, "maxLength": 20},
                        "weight": {
                            "type": "decimal",
                            "precision": 12,
                            "scale": 2,
                            "minimum": 0,
                            "index": True,
                        },
                    },
                    "access": {"read": ["Admin"], "write": ["Admin"]},
                }
            ],
        }
    ],
}
IMPORT = "/api/v1/parcels/import"
KEY = {"Idempotency-Key": "the great load", "Content-Type": "text/csv"}


@pytest.fixture
def app_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "a store"
    folder.mkdir()
    (folder / "resources.json").write_text(json.dumps(MANIFEST))
    yield folder
    pid = postgres_pid(folder)
    if pid is not None and is_running(pid):
        os.kill(pid, signal.SIGQUIT)


def write_file(path: Path, good: int) -> int:
    """Write a CSV with so many good rows; return how many others are among them."""
    row = bad = 0
    with path.open("w") as file:
        file.write("name,number,weight\n")
        while row - bad < good:
            number, weight = row, f"{row % 1000}.25"
            if row % 50 == 49:
                weight, bad = "heavy", bad + 1
            elif row % 997 == 996 and row % 50:
                number, bad = row - 1, bad + 1  # that of the row before, which is good
            file.write(f'"Parcel {row}, on its way from here to somewhere else",N{number},{weight}\n')
            row += 1
    return bad


async def send(serving: Serving, path: Path) -> Any:
    """Send the file; return the answer, None when the server died before it came.

    PostgreSQL may take a moment to see that a killed server is gone; until then its import holds the key,
    and the same again is answered 409 with the time after which to ask again. 503 says the same of a machine
    that is too busy.
    """
    give_up = time.monotonic() + 60
    while (answer := await send_once(serving, path)) is not None and answer.status_code in (409, 503):
        assert time.monotonic() < give_up, answer.text
        await asyncio.sleep(float(answer.headers["Retry-After"]))
    return answer


async def send_once(serving: Serving, path: Path) -> Any:
    headers = {"Authorization": f"Bearer {serving.token}", **KEY}

    async def parts() -> Any:
        with path.open("rb") as file:
            while part := file.read(1 << 16):
                yield part

    async with httpx2.AsyncClient(base_url=serving.address, timeout=600, headers=headers) as client:
        try:
            return await client.post(IMPORT, content=parts())
        except httpx2.HTTPError:
            return None


async def kill_at(serving: Serving, records: int, sending: asyncio.Task[Any], *, resumed: int) -> int:
    """Kill the server as soon as it has taken the import up and so many records are done; return how many."""
    headers = {"Authorization": f"Bearer {serving.token}"}
    done, taken_up = 0, -1  # the server before may have done more than it told
    async with httpx2.AsyncClient(base_url=serving.address, timeout=60, headers=headers) as client:
        while done < records or taken_up < resumed:
            assert not sending.done(), f"ended after {done} records: {_told(sending.result())}"
            answer = await client.get(f"{IMPORT}?key={KEY['Idempotency-Key']}")
            if answer.status_code == 200:
                done, taken_up = (answer.json()["data"][name] for name in ("records", "resumed"))
            await asyncio.sleep(0.03)
    await asyncio.sleep(random.uniform(0, 0.1))
    serving.process.kill()
    return done


def _told(answer: Any) -> str:
    return "no answer" if answer is None else f"{answer.status_code} {answer.text}"


def megabytes(pid: int) -> float:
    """Return the most memory that a process and its children have held so far."""
    found = 0.0
    for one in (str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        lines = Path(f"/proc/{one}/status").read_text().splitlines()
        found += next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    return found


async def load(app_dir: Path, good: int, kills: int) -> dict[str, float]:
    path = app_dir / "parcels.csv"
    bad = write_file(path, good)
    records, peak = good + bad, 0.0
    for number in range(kills):
        serving = Serving(app_dir, BYODPP_RATE_LIMIT_ENABLED="false")
        try:
            sending = asyncio.create_task(send(serving, path))
            await kill_at(serving, records * (number + 1) // (kills + 1), sending, resumed=number)
            assert await sending is None
            assert serving.end() == -signal.SIGKILL
        finally:
            serving.kill()
    last = Serving(app_dir, BYODPP_RATE_LIMIT_ENABLED="false")
    try:
        sending = asyncio.create_task(send(last, path))
        while not sending.done():
            try:
                peak = max(peak, megabytes(last.process.pid))
            except (OSError, StopIteration):
                pass  # a child has just ended
            await asyncio.sleep(0.05)
        answer = (await sending).json()
        data = answer["data"]
        assert (data["state"], data["records"], data["resumed"]) == ("finished", records, kills), answer
        assert (data["created"], data["rejected"]) == (good, bad)
        report = await fetch(last, data["report"])
        await compare(app_dir, good, bad)
        begun = time.monotonic()
        undisturbed = await alone(last, path)
        seconds = time.monotonic() - begun
        assert report == await fetch(last, undisturbed["report"])
        assert last.end() == 0
    finally:
        last.clear_away()
    return {
        "rows at the end": good,
        "refused beside them": bad,
        "kills": kills,
        "peak of server and reader in MB": round(peak),
        "seconds without kills": round(seconds),
    }


async def fetch(serving: Serving, address: str) -> str:
    headers = {"Authorization": f"Bearer {serving.token}"}
    async with httpx2.AsyncClient(base_url=serving.address, timeout=60, headers=headers) as client:
        answer = await client.get(address)
    assert answer.status_code == 200, answer.text
    return str(answer.text)


async def alone(serving: Serving, path: Path) -> Any:
    """Import the file once more, into an empty table; return the outcome."""
    async with administrator(serving.app_dir) as connection:
        await connection.execute("truncate parcels")
    headers = {"Authorization": f"Bearer {serving.token}", **KEY, "Idempotency-Key": "once more"}
    async with httpx2.AsyncClient(base_url=serving.address, timeout=600, headers=headers) as client:
        answer = await client.post(IMPORT, content=await asyncio.to_thread(path.read_bytes))
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def compare(app_dir: Path, good: int, bad: int) -> None:
    async with administrator(app_dir) as connection:
        rows = await connection.fetchrow(
            "select count(*), count(distinct number), count(distinct name) from parcels"
        )
        assert tuple(rows) == (good, good, good)
        audited = "select count(*) from audit_logs where resource_type = 'Parcels'"
        assert await connection.fetchval(audited) == good
        assert (
            await connection.fetchval("select count(*) from byodpp.events() where resource = 'Parcels'")
            == good
        )
        assert await connection.fetchval("select count(*) from byodpp.import_rejects") == bad


@pytest.mark.slow
async def test_an_import_that_is_killed_twice_leaves_every_row_once(app_dir: Path) -> None:
    await load(app_dir, 27_000, 2)


@pytest.mark.soak
@pytest.mark.parametrize("rows", [100_000, 1_000_000])
async def test_an_import_that_is_killed_ten_times_leaves_every_row_once(
    app_dir: Path, rows: int, record_property: Callable[[str, object], None]
) -> None:
    found = await load(app_dir, rows, 10)
    for name, count in found.items():
        record_property(name, count)
    assert found["peak of server and reader in MB"] < 250
