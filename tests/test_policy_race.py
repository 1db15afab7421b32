"""Rules that change under load, over two processes whose listeners are killed again and again (C37).

Each role's right is switched on and off. In the process that took a change it is in force with the
answer, in the other one second later; what is asked in between may be answered either way.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx2
import pytest

from byodpp.bootstrap import Blueprint
from byodpp.embedded import SUPERUSER
from byodpp.testing import Bench, TestedApplication
from tests.patience import turns
from tests.serving import Serving
from tests.worlds import build

THINGS: Final = "/api/v1/things"
POLICIES: Final = "/api/v1/policies"
_MANIFEST: Final[dict[str, Any]] = {
    "resources": [
        {
            "name": "Things",
            "fields": {"name": {"type": "string"}},
            "access": {"read": ["Admin"], "write": ["Admin"]},
        }
    ],
    "include": ["byodpp:access"],
}
#: After which a change is in force everywhere.
_IN_FORCE: Final = 1.0
_KILL_EVERY: Final = 0.4
#: Nothing here waits longer for an answer.
_PATIENCE: Final = 30.0


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("raced"), _MANIFEST)


@pytest.mark.slow
async def test_c37_rules_that_change_under_load_are_in_force_within_a_second(
    byodpp_bench: Bench, blueprint: Blueprint, tmp_path: Path
) -> None:
    await _race(byodpp_bench, blueprint, tmp_path, roles=6, rounds=3)


@pytest.mark.soak
@pytest.mark.timeout(400)
async def test_c37_a_thousand_changes_under_load_make_no_wrong_answer(
    byodpp_bench: Bench, blueprint: Blueprint, tmp_path: Path
) -> None:
    await _race(byodpp_bench, blueprint, tmp_path, roles=40, rounds=25)


@dataclass
class _Course:
    """What has happened so far."""

    changes: int = 0
    asked: int = 0
    kills: int = 0
    wrong: Counter[str] = field(default_factory=Counter)


async def _race(bench: Bench, blueprint: Blueprint, folder: Path, *, roles: int, rounds: int) -> None:
    course = _Course()
    async with (
        bench.application(blueprint) as tested,
        _served(tested, folder / "first") as first,
        _served(tested, folder / "second") as second,
        _killing(bench, tested, course),
    ):
        await _prepare(tested, roles)
        racers = [_Racer(tested, (first, second), number, course) for number in range(roles)]
        await asyncio.gather(*(racer.run(rounds) for racer in racers))
        for racer in racers:
            await racer.close()
    assert course.changes == roles * rounds
    assert course.kills > rounds, "the listeners were hardly killed"
    assert not course.wrong, f"{dict(course.wrong)} of {course.asked} answers, {course.changes} changes"


@asynccontextmanager
async def _served(tested: TestedApplication, folder: Path) -> AsyncIterator[str]:
    """Yield the address of another process that serves the same application, keys of tokens included."""
    settings = tested.settings
    tested.token()
    await asyncio.to_thread(shutil.copytree, settings.app_dir, folder)
    server = await asyncio.to_thread(
        Serving,
        folder,
        "--no-migrate",
        ready=True,
        BYODPP_ENV="test",
        POSTGRES_DB_URI=str(settings.postgres_db_uri),
        POSTGRES_ADMIN_URI=str(settings.postgres_admin_uri),
        POSTGRES_SYSTEM_URI=str(settings.postgres_system_uri),
    )
    try:
        yield server.address
    finally:
        await asyncio.to_thread(server.end)


@asynccontextmanager
async def _killing(bench: Bench, tested: TestedApplication, course: _Course) -> AsyncIterator[None]:
    """Kill every listening connection of the database, all the time."""
    database = Path(str(tested.settings.postgres_db_uri).partition("?")[0]).name
    connection = await asyncpg.connect(bench.server.uri(SUPERUSER, "postgres"))
    kill = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where application_name = 'byodpp listener' and datname = $1"
    )

    async def work() -> None:
        while True:
            course.kills += await connection.fetchval(kill, database, timeout=_PATIENCE)
            await asyncio.sleep(_KILL_EVERY)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()


async def _prepare(tested: TestedApplication, roles: int) -> None:
    """Make the roles; those with an odd number have the right that a deny then takes away."""
    admin = tested.client()
    for number in range(roles):
        assert (await admin.post("/api/v1/roles", json={"name": f"Role{number}"})).status_code == 201
        if number % 2:
            rule = {"subject": f"Role{number}", "object": "Things", "action": "read"}
            assert (await admin.post(POLICIES, json=rule)).status_code == 201
    await turns(_IN_FORCE)


class _Racer:
    """Switches the right of one role, and asks what it may do."""

    def __init__(
        self, tested: TestedApplication, addresses: tuple[str, str], number: int, course: _Course
    ) -> None:
        self._dice = random.Random(f"racer {number} {random.random()}")
        self._course = course
        self._denies = bool(number % 2)
        self._allowed = self._denies
        self._rule: int | None = None
        self._body = {
            "subject": f"Role{number}",
            "object": "Things",
            "action": "read",
            "effect": "deny" if self._denies else "allow",
        }
        tokens = (tested.token(), tested.token(role=f"Role{number}", user=f"user{number}"))
        self._admins, self._holders = (
            [
                httpx2.AsyncClient(
                    base_url=address, timeout=_PATIENCE, headers={"Authorization": f"Bearer {token}"}
                )
                for address in addresses
            ]
            for token in tokens
        )

    async def close(self) -> None:
        for client in itertools.chain(self._admins, self._holders):
            await client.aclose()

    async def run(self, rounds: int) -> None:
        await asyncio.sleep(self._dice.random())
        for _ in range(rounds):
            here = self._dice.randrange(2)
            await self._switch(here)
            await self._ask(here, "at once, where it was changed")
            await asyncio.sleep(self._dice.random() * 0.3)
            await self._holders[1 - here].get(THINGS)  # either answer is right now
            await turns(_IN_FORCE)
            for place in (1 - here, here, 1 - here):
                await self._ask(place, "after a second")

    async def _switch(self, here: int) -> None:
        if self._rule is None:
            response = await self._admins[here].post(POLICIES, json=self._body)
            assert response.status_code == 201, response.text
            self._rule = response.json()["data"]["id"]
        else:
            response = await self._admins[here].delete(f"{POLICIES}/{self._rule}")
            assert response.status_code == 204, response.text
            self._rule = None
        self._allowed = not self._allowed
        self._course.changes += 1

    async def _ask(self, place: int, when: str) -> None:
        response = await self._holders[place].get(THINGS)
        self._course.asked += 1
        wanted = 200 if self._allowed else 403
        if response.status_code != wanted:
            self._course.wrong[f"{response.status_code} for {wanted} {when}"] += 1
