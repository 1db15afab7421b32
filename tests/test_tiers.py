"""A tenant in a schema of its own: the same to every client, moved there and back without a loss."""

from __future__ import annotations

import asyncio
import copy
import json
import urllib.request
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from byodpp import migrations
from byodpp.bootstrap import Application, Blueprint
from byodpp.cli.preparation import running_database
from byodpp.database import SessionContext
from byodpp.exceptions import ApiError, Conflict, MigrationError, NotFound, TenantMoving
from byodpp.places import EVERYWHERE, PlaceBuilder, dedicated, fences, place_name
from byodpp.places.following import are_behind, follow, make_way
from byodpp.places.placement import Tier
from byodpp.service.units import Unit
from byodpp.settings import load_settings
from byodpp.tenant_life import Newcomer, TenantLife, moves
from byodpp.tenant_life.acting import for_platform
from byodpp.tenant_life.procedures import Procedures
from byodpp.testing import Bench, TestedApplication
from tests.commands import byodpp, operated
from tests.serving import Serving
from tests.worlds import build, write_application

NAME = {"type": "string", "minLength": 1, "maxLength": 100, "required": True}
ALL = {"read": ["Admin", "Viewer"], "write": ["Admin"]}
OPEN = {"read": ["*"], "write": ["*"]}
OF_FOLDER = {"references": "Folders", "required": True, "onDelete": "cascade"}
MANIFEST: dict[str, Any] = {
    "resources": [
        {
            "name": "Countries",
            "scope": "shared",
            "fields": {"name": NAME, "code": {"type": "string", "pattern": "^[A-Z]{2}$", "unique": True}},
            "access": {"read": ["*"]},
        },
        {"name": "Units", "scope": "library", "fields": {"name": NAME}, "access": OPEN},
        {
            "name": "Folders",
            "audit": True,
            "events": True,
            "history": True,
            "versioned": True,
            "softDelete": True,
            "search": ["name"],
            "fields": {
                "name": {**NAME, "index": True},
                "code": {"type": "string", "maxLength": 20, "unique": "platform"},
                "amount": {"type": "decimal", "precision": 12, "scale": 2, "index": True},
                "about": {"type": "json", "index": True},
                "parentId": {"references": "Folders", "as": "parent"},
                "coverId": {"references": "Sheets", "as": "cover", "onDelete": "setNull"},
                "countryId": {"references": "Countries"},
                "unitId": {"references": "Units"},
                "authorId": {"references": "Users", "as": "author"},
                "status": {"type": "string", "enum": ["draft", "out"], "default": "draft", "index": True},
            },
            "relations": {"sheets": {"resource": "Sheets", "foreignField": "folderId"}},
            "routes": {
                "crud": ["list", "create", "read", "update", "patch", "delete", "batch"],
                "actions": [{"url": "/api/v1/folders/elsewhere", "method": "get"}],
            },
            "access": {
                "read": ["Admin", "Viewer", {"roles": ["public"], "filter": {"status": "out"}}],
                "write": ["Admin"],
            },
        },
        {
            "name": "Sheets",
            "id": "uuid7",
            "fields": {"name": NAME, "folderId": OF_FOLDER},
            "access": ALL,
        },
        {"name": "Diaries", "scope": "user", "fields": {"name": NAME}, "access": OPEN},
    ],
    "include": ["byodpp:tenancy", "byodpp:access", "byodpp:audit", "byodpp:keys", "byodpp:grants"],
}
LOGIC = {
    "logics/v1/folders/elsewhere.py": """
from byodpp.logics import Logic

class Elsewhere(Logic):
    resource, action = "Folders", "elsewhere:get"

    async def execute(self):
        mine = await self.repository.count()
        published = [row["name"] for row in await self.published["Folders"].list()]
        again = await self.repository.count()
        return {"mine": mine, "again": again, "published": sorted(published)}
"""
}
FOLDERS, SHEETS, DIARIES = "/api/v1/folders", "/api/v1/sheets", "/api/v1/diaries"


class Cut(Exception):
    """A process that dies, seen from inside."""


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("tiers"), MANIFEST, LOGIC)


@dataclass
class World:
    application: TestedApplication

    @property
    def life(self) -> TenantLife:
        return self.application.connected.tenant_life()

    def client(self, tenant: str = "acme", **more: Any) -> httpx2.AsyncClient:
        return self.application.client(tenant=tenant, **more)

    async def rows(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self.application.connected.database.system() as transaction:
            return await transaction.fetch(sql, *arguments)

    async def value(self, sql: str, *arguments: Any) -> Any:
        return (await self.rows(sql, *arguments))[0][0]

    async def fill(self, tenant: str, count: int = 3, first: int = 0) -> None:
        client = self.client(tenant)
        parent = None
        for number in range(first, first + count):
            folder = await made(
                client, FOLDERS, name=f"{tenant} {number}", code=f"{tenant}-{number}", amount=number,
                about={"n": number}, parentId=parent, status="out" if number % 2 else "draft",
            )  # fmt: skip
            parent = folder["id"]
            sheet = await made(client, SHEETS, name=f"{tenant} sheet {number}", folderId=parent)
            answer = await client.patch(f"{FOLDERS}/{parent}", json={"coverId": sheet["id"]})
            assert answer.status_code == 200, answer.text
            await made(client, DIARIES, name=f"{tenant} diary {number}")

    async def seen(self, tenant: str) -> Any:
        """What a tenant's clients see of everything, the anonymous ones too."""
        client = self.client(tenant)
        nobody = self.application.client(role=None)
        urls = [
            f"{FOLDERS}?include=parent,cover,sheets&sort=id", f"{FOLDERS}?search={tenant}",
            f"{DIARIES}?sort=id",
            f"{FOLDERS}?aggregate=count,sum:amount&group=status", f"{SHEETS}?sort=id&include=folder",
            "/api/v1/users", "/api/v1/units",
        ]  # fmt: skip
        found = [(await client.get(url)).json() for url in urls]
        found += [(await nobody.get(f"{FOLDERS}?sort=name")).json()]
        for one in found:
            assert one["success"], one
            one.pop("meta", None)
        return found


@pytest_asyncio.fixture(loop_scope="session")
async def world(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[World]:
    async with byodpp_bench.application(blueprint, tenant_settle_seconds=0) as tested:
        yield World(tested)


async def made(client: httpx2.AsyncClient, url: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(url, json=body)
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def test_a_place_has_the_applications_own_tables_of_one_tenants_rows(blueprint: Blueprint) -> None:
    assert {one.table.name for one in dedicated(blueprint.tables)} == {"folders", "sheets", "diaries"}


async def test_rows_that_refer_to_what_all_share_are_moved_with_their_references(world: World) -> None:
    acme, platform = world.client(), world.client("platform")
    await made(acme, FOLDERS, name="begins")  # and so is the user made
    [user, *_] = (await acme.get("/api/v1/users")).json()["data"]
    country = await made(platform, "/api/v1/countries", name="Atlantis")
    unit, ours = (
        await made(platform, "/api/v1/units", name="ell"),
        await made(acme, "/api/v1/units", name="span"),
    )
    for one in (unit, ours):
        said = {"authorId": user["id"], "countryId": country["id"], "unitId": one["id"]}
        await made(acme, FOLDERS, name=one["name"], **said)
    listed = f"{FOLDERS}?sort=id&include=author,country,unit"
    before = (await acme.get(listed)).json()["data"]
    assert [one["unit"] and one["unit"]["name"] for one in before] == [None, "ell", "span"]
    tiers: tuple[Tier, ...] = ("schema", "shared", "schema")
    for tier in tiers:
        await world.life.move("acme", tier)
        assert (await acme.get(listed)).json()["data"] == before, tier
    refused = await acme.post(FOLDERS, json={"name": "x", "authorId": 999_999})
    assert refused.status_code == 422, "the references are there"


async def test_a_moved_tenant_sees_the_same_and_so_does_everybody_else(world: World) -> None:
    await world.fill("acme")
    await world.fill("beta")
    acme, beta = await world.seen("acme"), await world.seen("beta")
    id = (await world.application.tenant("acme")).id
    tiers: list[tuple[Tier, str]] = [("schema", place_name(id)), ("shared", "public")]
    for tier, place in (*tiers, tiers[0]):
        await world.life.move("acme", tier)
        assert await world.seen("acme") == acme, tier
        assert await world.seen("beta") == beta, tier
        for other in {"public", place_name(id)} - {place}:
            if await world.value("select to_regnamespace($1) is not null", other):
                for table in ("folders", "sheets", "diaries"):
                    sql = f"select count(*) from {other}.{table} where tenant_id = $1"
                    assert await world.value(sql, id) == 0, (tier, table)
        assert await world.value(f"select count(*) from {place}.folders where tenant_id = $1", id) == 3
        lines = {line.slug: line.tier for line in await world.life.list()}
        assert (lines["acme"], lines["beta"]) == (tier, "shared")
    await world.fill("acme", 1, first=10)


STEPS = [
    "begin", "place", "hold", "empty", "copy folders", "copy sheets", "copy diaries", "circles", "references",
    "compare", "switch", "settle", "clear", "reopen", "drop", "end",
]  # fmt: skip


def cutting(after: str) -> Any:
    def told(step: str, taken: bool) -> None:
        if step == after:
            raise Cut

    return told


@pytest.mark.parametrize("tier", ["schema", "shared"])
async def test_a_move_cut_off_after_every_step_is_taken_up_and_loses_nothing(
    world: World, tier: Tier
) -> None:
    await world.fill("acme")
    await world.fill("beta", 1)
    if tier == "shared":
        await world.life.move("acme", "schema")
    for number, after in enumerate(STEPS):
        before, taken = await world.seen("acme"), list[tuple[str, bool]]()
        cut = cutting(after)

        def told(step: str, now: bool, taken: Any = taken, cut: Any = cut) -> None:
            taken.append((step, now))
            cut(step, now)

        with pytest.raises(Cut):
            await world.life.move("acme", None if number else tier, told=told)
        assert taken == [*((step, False) for step in STEPS[:number]), (after, True)]
        assert await world.seen("acme") == before, f"cut off after {after}, it is read all the time"
        await _written(world, number, held=STEPS.index("hold") <= number < STEPS.index("reopen"))
        await made(world.client("beta"), FOLDERS, name=f"beta goes on {number}")
        lines = {line.slug: line.under_way for line in await world.life.list()}
        assert lines["acme"] is not None and lines["acme"].kind == "move"
    with pytest.raises(Conflict, match="Something else"):
        await world.life.reactivate("acme")
    with pytest.raises(Conflict, match="under way"):
        await world.life.move("acme", "shared" if tier == "schema" else "schema")
    before = await world.seen("acme")
    await world.life.move("acme", None)
    assert await world.seen("acme") == before
    assert (await made(world.client(), FOLDERS, name="acme after"))["id"] > 3
    assert {line.slug: line.under_way for line in await world.life.list()}["acme"] is None


async def _written(world: World, number: int, *, held: bool) -> None:
    """Write as a tenant that moves: refused while it is held, and else as always."""
    client = world.client()
    answer = await client.patch(f"{FOLDERS}/1", json={"name": f"acme new {number}"})
    assert answer.status_code == (503 if held else 200), answer.text
    await made(client, "/api/v1/units", name=f"acme's, and shared {number}")
    if held:
        assert answer.json()["error"]["code"] == "tenant_moving" and int(answer.headers["Retry-After"]) > 0
        assert (await client.post(FOLDERS, json={"name": "x"})).status_code == 503
        assert (await client.post(f"{FOLDERS}/batch", json=[{"name": "x"}])).status_code == 503
        assert (await client.delete(f"{FOLDERS}/3")).status_code == 503


@asynccontextmanager
async def writing(world: World) -> AsyncIterator[tuple[set[str], list[str]]]:
    """Let three clients of acme create folders until the block ends; yields the names made and refused."""
    client, made, refused, done = world.client(), set[str](), list[str](), asyncio.Event()

    async def writer(number: int) -> None:
        count = 0
        while not done.is_set():
            count += 1
            name = f"acme {number}.{count}"
            answer = await client.post(FOLDERS, json={"name": name})
            if answer.status_code == 201:
                made.add(name)
            else:
                assert answer.status_code == 503, answer.text
                refused.append(name)
            await asyncio.sleep(0.01)  # enough writes, and the move has its turns too

    async with asyncio.TaskGroup() as writers:
        for number in range(3):
            writers.create_task(writer(number))
        await grown(made)
        try:
            yield made, refused
        finally:
            done.set()


async def grown(made: set[str], by: int = 8) -> None:
    """Wait until so many more have been made."""
    wanted = len(made) + by
    async with asyncio.timeout(60):
        while len(made) < wanted:  # noqa: ASYNC110 - the writers tell nobody
            await asyncio.sleep(0.01)


async def test_no_write_is_lost_while_a_tenant_moves_there_and_back(world: World) -> None:
    await world.fill("acme", 1)
    async with writing(world) as (acknowledged, refused):
        for tier in ("schema", "shared", "schema"):
            await world.life.move("acme", tier)
            await grown(acknowledged)
    assert len(acknowledged) > 20 and refused
    place = place_name((await world.application.tenant("acme")).id)
    rows = await world.rows(f"select id, name from {place}.folders")
    assert {row["name"] for row in rows} - {"acme 0"} == acknowledged
    assert len({row["id"] for row in rows}) == len(rows)


async def test_moves_at_the_same_time_do_not_undo_each_others_fences(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, others = fences.hold, list[asyncio.Task[None]]()

    async def move(tenant: str) -> None:
        with pytest.raises(Cut):
            await world.life.move(tenant, "schema", told=cutting("hold"))

    async def hold(*args: Any) -> None:
        """Make the fences from what was known of the places before another move came to its own."""
        if not others:
            others.append(asyncio.create_task(move("beta")))
            await asyncio.wait(others, timeout=1)
        await held(*args)

    monkeypatch.setattr(moves, "hold", hold)
    async with asyncio.timeout(30):
        await move("acme")
        await others[0]
    for tenant in ("acme", "beta"):
        refused = await world.client(tenant).post(FOLDERS, json={"name": "lost"})
        assert refused.status_code == 503, f"{tenant} is being moved, and its rows are copied"


async def test_a_step_may_wait_for_tables_longer_than_a_request_may(world: World) -> None:
    connected = world.application.connected

    async def idle(unit: Unit, results: Any) -> Any:
        return await unit.transaction.fetchval("show idle_in_transaction_session_timeout")

    procedures = Procedures(connected.database, connected.service)
    procedure = await procedures.begin("move", "acme", {})
    assert await procedures.take(procedure, for_platform("idle", idle), {}) == ("1h", True)
    assert await world.value("show idle_in_transaction_session_timeout") == "1min"


async def test_a_process_that_has_not_heard_of_a_move_cannot_write_where_the_tenant_was(world: World) -> None:
    await world.fill("acme")
    acme = (await world.application.tenant("acme")).id
    await world.life.move("acme", "schema")
    database = world.application.connected.database
    for sql in (
        "insert into folders (tenant_id, name) values ($1, 'lost')",
        "insert into diaries (tenant_id, owner_id, name) values ($1, 0, 'lost')",
    ):
        with pytest.raises(TenantMoving):
            async with database.transaction(SessionContext(tenant_id=acme)) as transaction:
                await transaction.execute(sql, acme)
    await world.life.move("acme", "shared")
    async with database.transaction(SessionContext(tenant_id=acme)) as transaction:
        await transaction.execute("insert into folders (tenant_id, name) values ($1, 'kept')", acme)


async def test_a_place_takes_no_row_of_another_tenant_whoever_writes_it(world: World) -> None:
    await world.life.move("acme", "schema")
    acme, beta = await world.application.tenant("acme"), await world.application.tenant("beta")
    assert acme.place is not None
    context = SessionContext(tenant_id=beta.id, place=acme.place)
    with pytest.raises(ApiError):
        async with world.application.connected.database.transaction(context) as transaction:
            await transaction.execute("insert into folders (tenant_id, name) values ($1, 'x')", beta.id)
    with pytest.raises(ApiError):
        async with world.application.connected.database.system() as transaction:
            await transaction.execute(
                f"insert into {acme.place}.folders (tenant_id, name) values ($1, 'x')", beta.id
            )
    await world.fill("acme", 1)
    async with world.application.connected.database.transaction(context) as transaction:
        assert await transaction.fetchval("select count(*) from folders where tenant_id = $1", acme.id) == 0


async def test_what_is_unique_in_the_platform_is_so_in_all_places(world: World) -> None:
    acme, beta = world.client(), world.client("beta")
    await made(acme, FOLDERS, name="before", code="one")
    await world.life.move("acme", "schema")
    first = await made(beta, FOLDERS, name="beta's", code="two")
    second = await made(acme, FOLDERS, name="acme's", code="three")
    for client, code in ((beta, "one"), (beta, "three"), (acme, "two"), (acme, "one")):
        answer = await client.post(FOLDERS, json={"name": "again", "code": code})
        assert answer.status_code == 409, (code, answer.text)
        assert answer.json()["error"]["code"] == "unique_conflict"
        assert answer.json()["error"]["details"][0]["field"] == "code"
    assert (await acme.patch(f"{FOLDERS}/{second['id']}", json={"code": "two"})).status_code == 409
    assert (await acme.patch(f"{FOLDERS}/{second['id']}", json={"code": "four"})).status_code == 200
    await made(beta, FOLDERS, name="free by now", code="three")
    assert (await beta.delete(f"{FOLDERS}/{first['id']}")).status_code == 204
    await made(acme, FOLDERS, name="of a deleted row", code="two")
    await world.life.move("acme", "shared")
    assert (await beta.post(FOLDERS, json={"name": "again", "code": "two"})).status_code == 409
    await world.life.move("beta", "schema")
    assert (await beta.post(FOLDERS, json={"name": "again", "code": "two"})).status_code == 409


async def test_readers_without_a_tenant_find_what_is_published_in_every_place(world: World) -> None:
    await world.fill("acme", 4)
    await world.fill("beta", 2)
    nobody = world.application.client(role=None)
    told = []
    for tier in (None, "schema", "shared"):
        if tier is not None:
            await world.life.move("acme", tier)
        for caller in (nobody, world.client(), world.client("beta")):
            answer = (await caller.get(f"{FOLDERS}/elsewhere")).json()
            assert caller is nobody or "data" in answer, answer
            told.append(answer["data"] if caller is not nobody else answer["error"]["statusCode"])
        listed = await nobody.get(f"{FOLDERS}?sort=name&filter[name][ne]=x&count=exact")
        told.append([row["name"] for row in listed.json()["data"]])
        told.append(listed.json()["count"])
        one = await nobody.get(f"{FOLDERS}?fields=name", headers={"X-Tenant": "acme"})
        told.append(sorted(row["name"] for row in one.json()["data"]))
    third = len(told) // 3
    assert told[:third] == told[third : 2 * third] == told[2 * third :]
    assert told[1] == {"mine": 4, "again": 4, "published": ["acme 1", "acme 3", "beta 1"]}
    assert told[3] == ["acme 1", "acme 3", "beta 1"] and told[5] == ["acme 1", "acme 3"]


async def test_one_connection_serves_every_place_in_turns_and_mixes_nothing(
    byodpp_bench: Bench, blueprint: Blueprint
) -> None:
    async with byodpp_bench.application(blueprint, tenant_settle_seconds=0, pool_max_connections=1) as tested:
        world = World(tested)
        slugs = ["acme", "beta", "gamma", "delta"]
        for slug in slugs[2:]:
            await tested.add_tenant(slug)
        for slug in slugs:
            await world.fill(slug, 2)
        for slug in slugs[1:3]:
            await world.life.move(slug, "schema")
        clients = {slug: world.client(slug) for slug in slugs}
        for number in range(20):
            for slug in slugs:
                listed = (await clients[slug].get(f"{FOLDERS}?include=sheets")).json()["data"]
                assert {row["name"].split()[0] for row in listed} == {slug}, number
                row = await made(clients[slug], FOLDERS, name=f"{slug} again {number}")
                changed = await clients[slug].patch(f"{FOLDERS}/{row['id']}", json={"amount": number})
                assert changed.status_code == 200, changed.text
                assert (await clients[slug].get(f"{FOLDERS}/{row['id']}")).json()["data"]["amount"] == number
        counts = [(await clients[slug].get(FOLDERS)).json()["count"] for slug in slugs]
        assert counts == [22, 22, 22, 22]


async def test_everything_else_a_client_does_works_in_a_place(world: World) -> None:
    await world.fill("acme", 2)
    await world.life.move("acme", "schema")
    client = world.client()
    key = {"Idempotency-Key": "once"}
    first = await client.post(FOLDERS, json={"name": "once"}, headers=key)
    again = await client.post(FOLDERS, json={"name": "once"}, headers=key)
    assert first.status_code == again.status_code == 201 and first.json()["data"] == again.json()["data"]
    work = [
        {"operation": "create", "resource": "Folders", "data": {"name": "both"}},
        {"operation": "create", "resource": "Sheets", "data": {"name": "s", "folderId": "{{result[0].id}}"}},
    ]
    together = await client.post("/api/v1/batch", json=work)
    assert together.status_code == 200, together.text
    csv = await client.post(
        f"{FOLDERS}/import", content="name,amount\nimported,1.5\n", headers={"Content-Type": "text/csv"}
    )
    assert csv.status_code == 200 and csv.json()["data"]["created"] == 1, csv.text
    exported = await client.get(f"{FOLDERS}/export?format=ndjson")
    assert "imported" in exported.text
    page = (await client.get(f"{FOLDERS}?limit=2&sort=id")).json()
    after = await client.get(f"{FOLDERS}?limit=2&sort=id&cursor={page['pagination']['next']}")
    assert after.status_code == 200 and len(after.json()["data"]) == 2, after.text
    gone = await client.get(f"{FOLDERS}/{first.json()['data']['id']}")
    assert (await client.delete(gone.request.url.path)).status_code == 204
    assert (await client.get(gone.request.url.path)).status_code == 404
    trail = (await client.get("/api/v1/audit-logs?filter[resourceType]=Folders&limit=1000")).json()["data"]
    assert {"CREATE", "DELETE"} <= {one["action"] for one in trail}
    operator = world.application.client(tenant="platform", headers={"X-Tenant": "acme"})
    assert (await operator.get(FOLDERS)).json()["count"] == (await client.get(FOLDERS)).json()["count"]
    row = (await client.get(f"{FOLDERS}?filter[name]=both")).json()["data"][0]
    await made(client, "/api/v1/grants", object="Folders", rowId=str(row["id"]), grantee="beta")
    guest = world.client("beta", headers={"X-Tenant": "acme"})
    assert [one["name"] for one in (await guest.get(FOLDERS)).json()["data"]] == ["both"]


async def test_the_command_line_explains_rows_in_a_place(world: World) -> None:
    folder = await made(world.client(), FOLDERS, name="placed")
    await world.life.move("acme", "schema")
    asked = ["explain", "Folders", "delete", "--tenant", "acme", "--role", "Admin", "--id", str(folder["id"])]
    done = await operated(world.application, *asked)
    assert (done.returncode, done.stdout.splitlines()[:1]) == (0, ["delete Folders (v1): yes"]), done.stderr


async def test_a_class_gives_a_new_tenant_its_place_and_a_deletion_takes_it_away(
    world: World, tmp_path: Any
) -> None:
    operator = world.application.client(tenant="platform")
    await made(operator, "/api/v1/tenant-classes", name="professional", tier="schema")
    answer = await operator.post("/api/v1/tenant-classes", json={"name": "x", "tier": "planet"})
    assert answer.status_code == 422 and answer.json()["error"]["details"][0]["field"] == "tier"
    await world.life.move("beta", "schema")
    await world.fill("beta", 2)
    newcomer = Newcomer(slug="gamma", name="Gamma", email="g@gamma.example", tenant_class="professional")
    results = await world.life.onboard(newcomer)
    id = results["tenant"]["id"]
    assert results["place"] == {"place": place_name(id)}
    again = await world.life.onboard(newcomer)
    assert again["place"] == {"place": place_name(id)}
    issuer = world.application.connected.issuer
    token = issuer.issue(results["tenant"]["ulid"], "g", roles=["Admin"])  # type: ignore[attr-defined]
    gamma = world.application.client(role=None, headers={"Authorization": f"Bearer {token}"})
    await made(gamma, FOLDERS, name="gamma's", status="out", code="gamma")
    assert await world.value(f"select count(*) from {place_name(id)}.folders") == 1
    assert await world.value("select count(*) from public.folders where tenant_id = $1", id) == 0
    await world.life.suspend("gamma", "admin")
    assert (await gamma.get(FOLDERS)).status_code == 401
    await world.life.reactivate("gamma")
    assert (await gamma.get(FOLDERS)).json()["count"] == 1
    path = await world.life.delete("gamma", tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert b"gamma's" in archive.read("data/Folders.ndjson")
    assert await world.value("select to_regnamespace($1)", place_name(id)) is None
    left = "select array_agg((tier, place, state)::text) from byodpp.tenant_places where tenant_id = $1"
    assert await world.value(left, id) == ["(shared,,gone)"], "it writes nothing any more"
    assert await world.value("select count(*) from byodpp.platform_keys where tenant_id = $1", id) == 0
    nobody = world.application.client(role=None)
    assert [row["name"] for row in (await nobody.get(FOLDERS)).json()["data"]] == ["beta 1"]
    await made(world.client(), FOLDERS, name="free again", code="gamma")


async def test_the_first_place_of_all_can_be_a_new_tenants(world: World) -> None:
    await world.fill("acme", 1)
    await made(world.application.client(tenant="platform"), "/api/v1/tenant-classes", name="a", tier="schema")
    newcomer = Newcomer(slug="gamma", name="Gamma", email="g@gamma.example", tenant_class="a")
    async with asyncio.timeout(30):  # its own transaction must not hold what the owner changes
        results = await world.life.onboard(newcomer)
    assert results["place"] == {"place": place_name(results["tenant"]["id"])}
    assert await world.value("select count(*) from byodpp.platform_keys") == 1, "keys are claimed from now on"


async def test_a_tenant_whose_class_has_another_tier_is_moved_when_somebody_says_so(world: World) -> None:
    operator = world.application.client(tenant="platform")
    made_class = await made(operator, "/api/v1/tenant-classes", name="professional", tier="schema")
    acme = (await world.application.tenant("acme")).id
    answer = await operator.patch(f"/api/v1/tenants/{acme}", json={"tenantClassId": made_class["id"]})
    assert answer.status_code == 200, answer.text
    await world.fill("acme", 1)
    assert await world.value("select count(*) from public.folders where tenant_id = $1", acme) == 1
    await world.life.move("acme", None)
    assert await world.value(f"select count(*) from {place_name(acme)}.folders") == 1


async def test_what_a_tenant_stores_is_measured_where_it_is(world: World) -> None:
    await world.fill("acme")
    operator = world.application.client(tenant="platform")
    await made(operator, "/api/v1/tenant-classes", name="small", maxStorageBytes=1_000_000)
    acme = (await world.application.tenant("acme")).id
    quota = world.application.connected.quota
    await quota.looks.stop()  # of two who measure at once one does not
    meter, sizes = quota.meter, []
    for tier in (None, "schema"):
        if tier is not None:
            await world.life.move("acme", "schema")
        assert await meter.measure(now=True)
        sql = "select bytes from byodpp.tenant_storage where tenant_id = $1"
        sizes.append(await world.value(sql, acme))
    assert sizes[0] == sizes[1] > 0


async def test_what_makes_no_sense_is_refused(world: World) -> None:
    with pytest.raises(Conflict, match="platform"):
        await world.life.move("platform", "schema")
    with pytest.raises(NotFound):
        await world.life.move("nobody", "schema")
    with pytest.raises(Conflict, match="already"):
        await world.life.move("acme", "shared")
    assert all(line.under_way is None for line in await world.life.list())


async def test_shared_tenants_are_served_in_the_trips_and_words_they_had(world: World) -> None:
    await world.fill("acme", 1)
    await world.fill("beta", 1)
    statements = world.application.blueprint.statements
    await world.life.move("beta", "schema")
    beta = world.client("beta")
    await beta.get(FOLDERS)
    known = len(statements)
    for slug in ("gamma", "delta"):
        await world.application.add_tenant(slug)
        await world.life.move(slug, "schema")
        assert (await world.client(slug).get(FOLDERS)).status_code == 200
    assert len(statements) == known, "statements are kept by shape, not by tenant"


# --- migrations ---------------------------------------------------------------------------


def changed(**fields: Any) -> dict[str, Any]:
    """The manifest with other fields of Folders."""
    made = copy.deepcopy(MANIFEST)
    folders = next(one for one in made["resources"] if one["name"] == "Folders")
    folders["fields"].update(fields)
    return made


@asynccontextmanager
async def migrated(world: World, folder: Path, manifest: dict[str, Any]) -> AsyncIterator[tuple[World, Any]]:
    """The shared tables with another manifest, and the application of that; its places have not followed."""
    blueprint = build(folder, manifest, LOGIC)
    settings = world.application.settings
    assert settings.postgres_admin_uri is not None
    builder = PlaceBuilder(blueprint.registry, blueprint.tables, settings.postgres_admin_uri)
    assert await make_way(builder, settings.postgres_system_uri)
    await migrations.synchronise(blueprint.registry, settings.postgres_admin_uri, allow_destructive=True)
    connected = Application.connect(settings, blueprint)
    tested = replace(world.application, blueprint=blueprint, connected=connected, asgi=connected.asgi())
    async with connected.lifespan():
        connected.lifecycle.ready = True
        yield World(tested), lambda: follow(builder, str(settings.postgres_system_uri), lossy=True)


async def test_a_migration_whose_places_could_not_follow_begins_nothing(world: World) -> None:
    await world.fill("acme", 2)
    await world.life.move("acme", "schema")
    settings, blueprint = world.application.settings, world.application.blueprint
    builder = PlaceBuilder(blueprint.registry, blueprint.tables, settings.postgres_admin_uri)
    nobody = str(settings.postgres_system_uri).replace("byodpp_system", "nobody")
    assert nobody != settings.postgres_system_uri
    for uri, told in ((nobody, "cannot be connected: .*nobody"), (None, "is needed to migrate")):
        with pytest.raises(MigrationError, match=f"postgres_system_uri: .*{told}"):
            await make_way(builder, uri)
        with pytest.raises(MigrationError, match=f"postgres_system_uri: .*{told}"):
            await follow(builder, uri, lossy=True)
    with pytest.raises(MigrationError, match="cannot be connected"):
        await are_behind(nobody, blueprint.fingerprint)
    async with world.application.connected.database.system() as transaction:
        views = "select exists (select from pg_views where schemaname = $1)"
        assert await transaction.fetchval(views, EVERYWHERE), "what unites the places was dropped"


async def test_a_tenant_whose_schema_is_none_of_ours_is_refused_and_the_others_are_served(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.fill("acme", 1)
    await world.life.move("acme", "schema")
    async with world.application.connected.database.system() as transaction:
        await transaction.execute("""update byodpp.tenant_places set place = 'a"b; select'""")
    world.application.connected.authenticator.forget()
    refused = await world.client().get(FOLDERS)
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "tenant_moving", refused.text
    assert (await world.client("beta").get(FOLDERS)).status_code == 200
    assert "its schema 'a\"b; select' is none of ours" in caplog.text


async def test_places_follow_the_shared_tables_and_are_refused_until_they_have(
    world: World, tmp_path: Path
) -> None:
    await world.fill("acme", 2)
    await world.fill("beta", 2)
    await world.life.move("acme", "schema")
    manifest = changed(
        color={"type": "string", "default": "red", "index": True}, name={**NAME, "maxLength": 150}
    )
    async with migrated(world, tmp_path, manifest) as (newer, followed):
        behind = await newer.client().get(FOLDERS)
        assert behind.status_code == 503 and behind.json()["error"]["code"] == "tenant_moving", behind.text
        assert int(behind.headers["Retry-After"]) > 0
        assert (await newer.client("beta").get(FOLDERS)).status_code == 200
        nobody = newer.application.client(role=None, headers={"X-Tenant": "acme"})
        assert (await nobody.get(FOLDERS)).status_code == 503
        [told] = await followed()
        assert told.steps > 0 and told.failure is None
        newer.application.connected.authenticator.forget()
        rows = (await newer.client().get(f"{FOLDERS}?sort=id")).json()["data"]
        assert [(row["name"], row["color"]) for row in rows] == [("acme 0", "red"), ("acme 1", "red")]
        await made(newer.client(), FOLDERS, name="x" * 150, color="blue")
        everybody = await newer.application.client(role=None).get(f"{FOLDERS}?sort=name")
        assert [row["name"] for row in everybody.json()["data"]] == ["acme 1", "beta 1"]
        [told] = await followed()
        assert told.steps == 0, "nothing is left to do"


VIEW = {
    "name": "FolderNames",
    "type": "view",
    "table": "folder_names",
    "fields": {"name": {"type": "string"}},
    "access": {"read": ["Admin"]},
}
VIEW_SQL = """
create view public.folder_names with (security_invoker = true)
    as select tenant_id, id, name from public.folders;
grant select on public.folder_names to byodpp_app
"""


async def test_views_of_a_place_are_there_while_it_follows(world: World, tmp_path: Path) -> None:
    await world.fill("acme", 2)
    await world.life.move("acme", "schema")
    place = (await world.application.tenant("acme")).place
    owner = await asyncpg.connect(str(world.application.settings.postgres_admin_uri), timeout=30)
    try:
        await owner.execute(VIEW_SQL)
        manifest = {**MANIFEST, "resources": [*MANIFEST["resources"], VIEW]}
        async with migrated(world, tmp_path, manifest) as (newer, followed):
            client = newer.client()

            async def seen() -> int:
                count: int = (await client.get("/api/v1/folder-names")).json()["count"]
                return count

            await followed()
            assert await seen() == 2
            following, counts = asyncio.create_task(followed()), []
            while not following.done():
                counts.append(await seen())
            await following
            assert len(counts) > 3 and set(counts) == {2}, "nobody has looked into the shared tables"
            await owner.execute(f"drop view {place}.folder_names")
            assert await seen() == 0
            await followed()
            assert await seen() == 2, "a statement that has found the shared view looks again"
    finally:
        await owner.close()


async def test_a_place_whose_rows_do_not_fit_is_told_of_and_the_others_are_served(
    world: World, tmp_path: Path
) -> None:
    for slug in ("acme", "beta"):
        await world.fill(slug, 2)
        await world.life.move(slug, "schema")
    await made(world.client(), FOLDERS, name="acme 1")
    async with migrated(world, tmp_path, changed(name={**NAME, "unique": True})) as (newer, followed):
        acme, beta = await followed()
        assert acme.failure is not None and "23505" in str(acme.failure), acme
        assert beta.failure is None and beta.steps > 0
        newer.application.connected.authenticator.forget()
        assert (await newer.client().get(FOLDERS)).status_code == 503
        assert (await newer.client("beta").get(FOLDERS)).json()["count"] == 2
        place = place_name((await newer.application.tenant("acme")).id)
        await world.rows(f"update {place}.folders set name = 'acme 2' where id = 3 returning id")
        acme, beta = await followed()
        assert acme.failure is None and beta.steps == 0
        newer.application.connected.authenticator.forget()
        assert (await newer.client().get(FOLDERS)).json()["count"] == 3


@pytest.mark.slow
def test_tiers_on_the_command_line(tmp_path: Path) -> None:
    write_application(tmp_path, MANIFEST, LOGIC)

    def ran(*words: str, code: int = 0) -> str:
        done = byodpp("--app", tmp_path, *words, BYODPP_ENV="test", BYODPP_TENANT_SETTLE_SECONDS="0")
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    ran("migrate", "new")
    ran("migrate", "apply")
    ran("tenants", "onboard", "gamma", "--email", "ada@gamma.example", "--password")
    told = ran("tenants", "migrate", "gamma", "--to", "schema")
    assert [line.split(maxsplit=1)[1].strip() for line in told.splitlines() if "done" in line] == STEPS
    [line] = [one for one in ran("tenants", "list").splitlines() if "gamma" in one]
    assert " schema " in line
    assert "already" in ran("tenants", "migrate", "gamma", "--to", "schema", code=1)
    assert "No place is free" in ran("tenants", "migrate", "gamma", "--to", "database", code=1)
    assert "--place" in ran("tenants", "migrate", "gamma", "--to", "shared", "--place", "x", code=1)
    manifest = changed(color={"type": "string"})
    (tmp_path / "resources.json").write_text(json.dumps(manifest), encoding="utf-8")
    told = ran("migrate", "plan")
    assert "add column color" in told and "schema byodpp_t1: the same" in told
    ran("migrate", "new", "-m", "colors")
    assert "followed" in ran("migrate", "apply")
    ran("tenants", "migrate", "gamma")
    [line] = [one for one in ran("tenants", "list").splitlines() if "gamma" in one]
    assert " shared " in line


@pytest.mark.slow
def test_tenants_whose_rows_stand_against_a_revision_keep_nobody_else_from_being_served(
    tmp_path: Path,
) -> None:
    write_application(tmp_path, MANIFEST, LOGIC)
    own: dict[str, Any] = {
        "BYODPP_ENV": "test",
        "BYODPP_TENANT_SETTLE_SECONDS": "0",
        "BYODPP_PLACES": "north@eu",
    }
    rows = tmp_path / "rows.ndjson"

    def ran(*words: str) -> None:
        done = byodpp("--app", tmp_path, *words, **own)
        assert done.returncode == 0, done.stdout + done.stderr

    ran("migrate", "new")
    ran("migrate", "apply")
    for slug, tier in (("gamma", "schema"), ("delta", "database")):
        ran("tenants", "onboard", slug, "--email", f"ada@{slug}.example", "--password")
        ran("tenants", "migrate", slug, "--to", tier)
        rows.write_text(json.dumps({"name": "a", "code": f"{slug}-12345"}), encoding="utf-8")
        ran("import", "Folders", str(rows), "--tenant", slug)
    shorter = changed(code={"type": "string", "maxLength": 5, "unique": "platform"})
    (tmp_path / "resources.json").write_text(json.dumps(shorter), encoding="utf-8")
    ran("migrate", "new", "-m", "shorter")
    serving = Serving(tmp_path, **own)
    try:
        assert "tenant gamma: byodpp_t1: folders: change column code" in serving.output
        assert "place north: " in serving.output and "22001" in serving.output
        assert health_of(serving)["status"] == "degraded"
        assert health_of(serving)["tenants"] is False
        serving.wait_for(lambda: "schemas of tenants are behind, which are refused: gamma." in serving.output)
        listed = byodpp("--app", tmp_path, "tenants", "list", **own).stdout
        assert "schema, behind" in listed and "`byodpp migrate apply` says why" in listed
    finally:
        assert serving.end() == 0
        serving.clear_away()
    # As long as they stand against it they are tried at each start, and told of; afterwards it follows.
    for stands in (True, False):
        if not stands:
            asyncio.run(_shorten(tmp_path))
        serving = Serving(tmp_path, **own)
        try:
            assert ("tenant gamma: byodpp_t1: folders: change column code" in serving.output) is stands
            assert ("byodpp_t1: 1 steps" in serving.output) is not stands
            assert health_of(serving)["tenants"] is not stands
        finally:
            assert serving.end() == 0
            serving.clear_away()
    assert "behind" not in byodpp("--app", tmp_path, "tenants", "list", **own).stdout


def health_of(serving: Serving) -> dict[str, Any]:
    """How the server says it is, and each of its checks."""
    with urllib.request.urlopen(serving.address + "/health", timeout=10) as answer:
        document = json.loads(answer.read())
    return {"status": document["status"], **{one["name"]: one["healthy"] for one in document["checks"]}}


async def _shorten(folder: Path) -> None:
    """Mend the rows that stand against the revision, as an operator does by SQL."""
    async with running_database(load_settings(folder, {}, environment="test")) as settings:
        owner = await asyncpg.connect(settings.postgres_system_uri, timeout=30)
        try:
            await owner.execute("update byodpp_t1.folders set code = 'short'")
        finally:
            await owner.close()


@pytest.mark.parametrize("uri", ["postgresql://nobody@127.0.0.1:1/none", "postgresql://nobody@{at}"])
async def test_an_owner_who_cannot_be_connected_stops_a_move_with_a_word(
    world: World, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    await world.fill("acme", 1)
    life, settings = world.life, world.application.settings
    at = str(settings.postgres_admin_uri).rpartition("@")[2]
    monkeypatch.setattr(life._moves._builder, "_owner_uri", uri.replace("{at}", at))
    with pytest.raises(MigrationError, match="the owner of the tables cannot be connected"):
        await life.move("acme", "schema")
    monkeypatch.undo()
    [told] = [one.under_way for one in await world.life.list() if one.under_way]
    assert told.failure is not None and told.failure.startswith("place: ")
    await world.life.move("acme", None)


async def test_an_older_program_takes_nothing_from_schemas_that_are_behind(
    world: World, tmp_path: Path
) -> None:
    await world.fill("acme", 1)
    await world.life.move("acme", "schema")
    older = world.application.blueprint
    settings = world.application.settings
    async with migrated(world, tmp_path, changed(color={"type": "string"})) as (newer, _):
        assert [one.slug for one in await newer.life.list() if one.behind] == ["acme"]
        assert await are_behind(str(settings.postgres_system_uri), newer.application.blueprint.fingerprint)
        assert not await are_behind(str(settings.postgres_system_uri), older.fingerprint)
