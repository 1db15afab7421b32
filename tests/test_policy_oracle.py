"""The oracle: for random sets of policies, everything answers as a slow evaluation of the rules says.

A set of rules is stored, and everybody tries everything: reads, lists, counts, filters, includes,
aggregates, search, export, history, and every way to write. What must come back is computed from the
stored rows and the rows of `Policies` by `naive_access`, which knows nothing of the product's code.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from byodpp.authorization.watch import record_change
from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.naive_access import Access
from tests.policy_world import (
    AUDIENCES,
    FIELDS,
    MANIFEST,
    PATHS,
    RESOURCES,
    Person,
    PolicyWorld,
    random_world,
)
from tests.worlds import build

_QUICK: Final = 2
_FULL: Final = 20
_USERS: Final = ("ada", "bob", "cyd")
_INSERT: Final = (
    "insert into policies (tenant_id, ptype, subject, object, action, effect, condition, fields, preset)"
    " values ($1, $2, $3, $4, $5, $6, $7::jsonb, $8::jsonb, $9::jsonb)"
)
_STORED: Final = {
    "Projects": 'select id, title, state, points, maker_id as "makerId", note from projects order by id',
    "Tasks": (
        'select id, title, state, points, maker_id as "makerId", note, report, code,'
        ' project_id as "projectId" from tasks order by id'
    ),
}

Row = dict[str, Any]


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("oracle"), MANIFEST)


@pytest_asyncio.fixture(loop_scope="session")
async def tested(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as application:
        yield application


@pytest.mark.slow
@pytest.mark.parametrize("number", range(_QUICK))
async def test_everybody_gets_exactly_what_the_rules_say(tested: TestedApplication, number: int) -> None:
    await _judge(tested, random.Random(f"quick {random.random()}"))


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(_FULL))
async def test_everybody_gets_exactly_what_the_rules_say_in_twenty_sets(
    tested: TestedApplication, number: int
) -> None:
    await _judge(tested, random.Random(f"full {random.random()}"))


async def _judge(tested: TestedApplication, dice: random.Random) -> None:
    users = await _users(tested)
    world = random_world(dice, users)
    judge = Judge(tested, world, dice)
    await judge.fill(list(users.values()))
    await judge.put_in_force()
    for person in world.people:
        await judge.reads(person)
    for person in world.people:
        if not person.caller.anonymous:
            await judge.writes(person)
    assert judge.asked > 300, "the oracle was asked about nearly nothing"


async def _users(tested: TestedApplication) -> dict[str, int]:
    for name in _USERS:
        await tested.client(user=name).get("/api/v1/users")
    rows = (await tested.client().get("/api/v1/users?limit=100")).json()["data"]
    return {row["name"]: row["id"] for row in rows if row["name"] in _USERS}


class Judge:
    """One set of rules over one set of rows, and everything that somebody may try."""

    def __init__(self, tested: TestedApplication, world: PolicyWorld, dice: random.Random) -> None:
        self._tested = tested
        self._world = world
        self._dice = dice
        self._rows: dict[str, list[Row]] = {}
        self._users: list[int] = []
        self.asked = 0

    # --- the world --------------------------------------------------------------------

    async def fill(self, users: Sequence[int]) -> None:
        self._users = list(users)
        admin = self._tested.client()
        for resource in ("Projects", "Tasks"):
            count = 6 if resource == "Projects" else 10
            for number in range(count):
                body = self._body(resource) | ({"code": f"c{number}"} if resource == "Tasks" else {})
                response = await admin.post(PATHS[resource], json=body)
                assert response.status_code == 201, response.text
            await self._look()

    async def put_in_force(self) -> None:
        acme = await self._tested.tenant("acme")
        async with self._tested.connected.database.system() as transaction:
            for row in self._world.rows:
                written = [
                    None if row.get(name) is None else json.dumps(row[name])
                    for name in ("condition", "fields", "preset")
                ]
                words = [row[name] for name in ("ptype", "subject", "object", "action", "effect")]
                await transaction.execute(_INSERT, acme.id, *words, *written)
            await record_change(transaction, acme.id)
        await self._tested.connected.policy_watch.refresh()

    async def _look(self) -> None:
        """Read what is stored, past every rule."""
        connection = await asyncpg.connect(self._tested.settings.postgres_system_uri)
        try:
            for resource in RESOURCES:
                self._rows[resource] = [dict(row) for row in await connection.fetch(_STORED[resource])]
        finally:
            await connection.close()

    def _body(self, resource: str) -> Row:
        dice = self._dice
        body: Row = {
            "title": dice.choice(["alpha", "beta", "gamma", "alpha beta"]),
            "state": dice.choice(["new", "open", "done"]),
            "points": dice.choice([None, 0, 1, 2, 3, 4]),
            "makerId": dice.choice([None, 1, *self._users]),
            "note": dice.choice([None, "alpha", "delta"]),
        }
        if resource == "Tasks":
            body["report"] = dice.choice([None, "secret"])
            body["projectId"] = dice.choice([None, *(row["id"] for row in self._rows["Projects"])])
        return body

    def _access(self, person: Person) -> Access:
        return Access(rules=self._world.rules, caller=person.caller, audiences=AUDIENCES)

    def _client(self, person: Person) -> httpx2.AsyncClient:
        if person.caller.anonymous:
            return self._tested.client(role=None, headers={"X-Tenant": "acme"})
        return self._tested.client(role=person.roles, user=person.name)

    def _told(self, person: Person, what: str, response: httpx2.Response, wanted: Any) -> str:
        return (
            f"{what} as {person.name} {person.roles} {sorted(person.caller.held)}: wanted {wanted},"
            f" got {response.status_code} {response.text[:600]}\nrules: "
            + "\n       ".join(str(rule) for rule in self._world.rules)
        )

    def _seen(self, access: Access, resource: str, action: str, row: Row) -> Row:
        """Return a row as somebody sees it: what is hidden from him is null."""
        seen = {
            name: row[name] if access.field(resource, action, row, name) else None
            for name in FIELDS[resource]
        }
        return {"id": row["id"], **seen}

    def _visible(self, access: Access, resource: str, action: str) -> list[Row]:
        return [
            self._seen(access, resource, action, row)
            for row in self._rows[resource]
            if access.row(resource, action, row)
        ]

    @staticmethod
    def _plain(resource: str, row: Mapping[str, Any]) -> Row:
        return {"id": row["id"], **{name: row.get(name) for name in FIELDS[resource]}}

    # --- reading ----------------------------------------------------------------------

    async def reads(self, person: Person) -> None:
        for resource in RESOURCES:
            await self._list(person, resource)
            await self._read(person, resource)

    async def _get(self, person: Person, path: str) -> httpx2.Response:
        self.asked += 1
        return await self._client(person).get(path)

    def _closed(self, person: Person, response: httpx2.Response, what: str) -> None:
        wanted = 401 if person.caller.anonymous else 403
        assert response.status_code == wanted, self._told(person, what, response, wanted)

    async def _list(self, person: Person, resource: str) -> None:
        access, path = self._access(person), PATHS[resource]
        if not access.at_all(resource, "list"):
            for tail in ("", "?aggregate=count", "/export"):
                self._closed(person, await self._get(person, path + tail), path + tail)
            return
        visible = self._visible(access, resource, "list")
        await self._rows_are(person, resource, "?limit=100", visible)
        await self._filters(person, resource, visible)
        await self._groups(person, resource, visible)
        await self._searches(person, resource, visible)
        await self._exported(person, resource, visible)
        await self._included(person, resource, visible)

    async def _rows_are(self, person: Person, resource: str, tail: str, wanted: Sequence[Row]) -> None:
        response = await self._get(person, PATHS[resource] + tail)
        told = self._told(person, PATHS[resource] + tail, response, wanted)
        assert response.status_code == 200, told
        assert [self._plain(resource, row) for row in response.json()["data"]] == wanted, told
        assert response.json()["count"] == len(wanted), told
        known = [name for name in FIELDS[resource] if self._access(person).known(resource, "list", name)]
        for row in response.json()["data"]:
            assert row.keys() & set(FIELDS[resource]) == set(known), told

    async def _refused(self, person: Person, path: str, status: int = 400) -> None:
        response = await self._get(person, path)
        assert response.status_code == status, self._told(person, path, response, status)

    async def _filters(self, person: Person, resource: str, visible: Sequence[Row]) -> None:
        access = self._access(person)
        for name in ("title", "state", "points", "note", *(["report"] if resource == "Tasks" else [])):
            value = self._dice.choice([row[name] for row in self._rows[resource] if row[name] is not None])
            asked = {
                f"filter[{name}][eq]={value}": [row for row in visible if row[name] == value],
                f"filter[{name}][ne]={value}": [row for row in visible if row[name] != value],
                f"filter[{name}][isNull]=true": [row for row in visible if row[name] is None],
                f"filter[not][{name}][eq]={value}": [row for row in visible if row[name] != value],
            }
            for query, wanted in self._dice.sample(sorted(asked.items(), key=lambda one: one[0]), 2):
                if access.known(resource, "list", name):
                    await self._rows_are(person, resource, f"?limit=100&{query}", wanted)
                else:
                    await self._refused(person, f"{PATHS[resource]}?{query}")
            if not access.known(resource, "list", name):
                for query in (f"sort={name}", f"fields={name}", f"aggregate=count&group={name}"):
                    await self._refused(person, f"{PATHS[resource]}?{query}")
                continue
            ordered = sorted(visible, key=lambda row: (row[name] is None, row[name] or 0, row["id"]))
            if name == "points":
                await self._rows_are(person, resource, f"?limit=100&sort={name}", ordered)

    async def _groups(self, person: Person, resource: str, visible: Sequence[Row]) -> None:
        access, path = self._access(person), PATHS[resource]
        sums = access.known(resource, "list", "points")
        if access.known(resource, "list", "state"):
            groups: dict[Any, list[Row]] = {}
            for row in visible:
                groups.setdefault(row["state"], []).append(row)
            words = "count,sum:points" if sums else "count"
            response = await self._get(person, f"{path}?aggregate={words}&group=state&limit=100")
            told = self._told(person, "aggregate", response, groups)
            assert response.status_code == 200, told
            found = {one["group"]["state"]: one for one in response.json()["data"]}
            assert {state: one["count"] for state, one in found.items()} == {
                state: len(rows) for state, rows in groups.items()
            }, told
            for state, rows in groups.items() if sums else ():
                points = [row["points"] for row in rows if row["points"] is not None]
                assert found[state]["sum"]["points"] == (sum(points) if points else None), told
        if not sums:
            await self._refused(person, f"{path}?aggregate=sum:points")

    async def _searches(self, person: Person, resource: str, visible: Sequence[Row]) -> None:
        access = self._access(person)
        words = [name for name in ("title", "note") if access.known(resource, "list", name)]
        for word in ("alpha", "delta"):
            query = f"?limit=100&search={word}"
            if not words:
                await self._refused(person, PATHS[resource] + query)
                continue
            wanted = [row for row in visible if any(word in (row[name] or "").split() for name in words)]
            await self._rows_are(person, resource, f"{query}&sort=id", wanted)

    async def _exported(self, person: Person, resource: str, visible: Sequence[Row]) -> None:
        response = await self._get(person, f"{PATHS[resource]}/export?format=ndjson")
        if person.caller.anonymous:
            return self._closed(person, response, "files are for who is signed in")
        told = self._told(person, "export", response, visible)
        assert response.status_code == 200, told
        lines = [json.loads(line) for line in response.text.splitlines()]
        rows = [line for line in lines if "id" in line]
        assert [self._plain(resource, row) for row in rows] == visible, told

    async def _included(self, person: Person, resource: str, visible: Sequence[Row]) -> None:
        access = self._access(person)
        near, far = ("project", "Projects") if resource == "Tasks" else ("tasks", "Tasks")
        open_ = access.at_all(far, "read") and access.known(
            "Tasks", "list" if resource == "Tasks" else "read", "projectId"
        )
        if not open_:
            await self._refused(person, f"{PATHS[resource]}?include={near}")
            return
        there = self._visible(access, far, "read")
        response = await self._get(person, f"{PATHS[resource]}?limit=100&include={near}")
        told = self._told(person, f"include={near}", response, there)
        assert response.status_code == 200, told
        found = {row["id"]: row[near] for row in response.json()["data"]}
        for row in visible:
            if resource == "Tasks":
                wanted: Any = next((one for one in there if one["id"] == row["projectId"]), None)
                got = found[row["id"]]
                assert (got and self._plain(far, got)) == wanted, told
            else:
                wanted = [one for one in there if one["projectId"] == row["id"]]
                assert [self._plain(far, one) for one in found[row["id"]]] == wanted, told

    async def _read(self, person: Person, resource: str) -> None:
        access = self._access(person)
        for row in self._rows[resource]:
            path = f"{PATHS[resource]}/{row['id']}"
            tails = ["", "/history"] if resource == "Tasks" else [""]
            for tail in tails:
                response = await self._get(person, path + tail)
                told = self._told(person, path + tail, response, row)
                if not access.at_all(resource, "read"):
                    self._closed(person, response, path)
                elif not access.row(resource, "read", row):
                    assert response.status_code == 404, told
                else:
                    assert response.status_code == 200, told
                    data = response.json()["data"]
                    for one in data if tail else [data]:
                        shown = one["row"] if tail else one
                        assert self._plain(resource, shown) == self._seen(access, resource, "read", row), told

    # --- writing ----------------------------------------------------------------------

    async def _refill(self) -> None:
        """Make rows anew, past every rule, where deletions have left few."""
        for resource, least in (("Projects", 6), ("Tasks", 8)):
            async with self._tested.repositories() as system:
                for _ in range(least - len(self._rows[resource])):
                    body = self._body(resource)
                    if resource == "Tasks":
                        body["code"] = f"r{self._dice.randrange(10**9)}"
                    await system[resource].create(body)
        await self._look()

    async def writes(self, person: Person) -> None:
        for resource in RESOURCES:
            await self._refill()
            for _ in range(3):
                await self._create(person, resource)
            for row in self._dice.sample(self._rows[resource], 4):
                await self._patch(person, resource, row)
            for row in self._dice.sample(self._rows[resource], 2):
                await self._put(person, resource, row)
            for row in self._dice.sample(self._rows[resource], 2):
                await self._delete(person, resource, row)
            await self._refill()
            await self._batch(person, resource)

    async def _send(
        self, person: Person, method: str, path: str, body: Any, wanted: int, what: Any = ""
    ) -> httpx2.Response:
        """Send a write, and let what is stored be looked at anew when it has succeeded."""
        self.asked += 1
        before = {resource: list(rows) for resource, rows in self._rows.items()}
        response = await self._client(person).request(method, path, json=body)
        told = self._told(person, f"{method} {path} {body} {what}", response, wanted)
        assert response.status_code == wanted, told
        await self._look()
        if wanted >= 400:
            assert self._rows == before, told
        return response

    def _dangling(self, access: Access, resource: str, body: Row, row: Row | None = None) -> bool:
        """Whether a body refers to what its sender cannot read, and does not see in the row itself."""
        target = body.get("projectId") if resource == "Tasks" else None
        if row is not None and target is not None and target == row["projectId"]:
            if access.field(resource, "read", row, "projectId"):
                return False  # what stands there may stay
        rows = {row["id"]: row for row in self._rows["Projects"]}
        return target is not None and not access.row("Projects", "read", rows[target])

    async def _create(self, person: Person, resource: str) -> None:
        access = self._access(person)
        body = self._body(resource)
        names = [name for name in body if access.known(resource, "create", name)]
        if self._dice.random() < 0.7:  # keep to the fields that may be sent
            body = {name: body[name] for name in names if self._dice.random() < 0.7 or name == "title"}
        wanted, row = self._created(access, resource, body)
        response = await self._send(person, "POST", PATHS[resource], body, wanted, row)
        if wanted == 201:
            id = response.json()["data"]["id"]
            stored = next(one for one in self._rows[resource] if one["id"] == id)
            assert stored == {**row, "id": id}, self._told(person, "created", response, row)

    def _created(self, access: Access, resource: str, body: Row) -> tuple[int, Row]:
        """Return the status of a creation, and the row."""
        usual = {"state": "new", "code": None} if resource == "Tasks" else {"state": "new"}
        filled = {**access.presets(resource), **body}
        row = {**dict.fromkeys(FIELDS[resource]), **usual, **filled}
        if not access.at_all(resource, "create"):
            return 403, row
        if any(not access.known(resource, "create", name) for name in body):
            return 403, row
        if filled.get("title") is None or self._dangling(access, resource, body):
            return 422, row
        open_ = access.row(resource, "create", row)
        return (
            201 if open_ and all(access.field(resource, "create", row, one) for one in body) else 403
        ), row

    async def _patch(self, person: Person, resource: str, row: Row) -> None:
        access = self._access(person)
        names = [name for name in FIELDS[resource] if access.known(resource, "patch", name)]
        if not names or self._dice.random() < 0.2:
            names = list(FIELDS[resource])
        body = self._body(resource)
        body = {name: body[name] for name in self._dice.sample(names, min(len(names), 2))}
        wanted = self._changed(access, resource, "patch", row, body)
        await self._send(person, "PATCH", f"{PATHS[resource]}/{row['id']}", body, wanted, row)
        if wanted == 200:
            stored = next(one for one in self._rows[resource] if one["id"] == row["id"])
            assert stored == {**row, **body}

    def _changed(self, access: Access, resource: str, action: str, row: Row, body: Row) -> int:
        """Return the status of a change; the rights to the row are told before faults of the body."""

        def allowed(one: Row) -> bool:
            fields = (access.field(resource, action, one, name) for name in body)
            return access.row(resource, action, one) and all(fields)

        if not access.at_all(resource, action):
            return 403
        if not access.row(resource, "read", row):
            return 404
        if any(not access.known(resource, action, name) for name in body):
            return 403
        if not allowed(row):
            return 403
        if self._dangling(access, resource, body, row):
            return 422
        return 200 if allowed({**row, **body}) else 403

    async def _put(self, person: Person, resource: str, row: Row) -> None:
        access = self._access(person)
        names = [name for name in [*FIELDS[resource], "code"] if access.known(resource, "update", name)]
        if "title" not in names:
            return  # a row without a title is not valid, and one with it is refused: both are tried elsewhere
        new = {**row, **self._body(resource)}
        body = {name: new[name] for name in names if name in new}
        wanted = self._changed(access, resource, "update", row, body)
        await self._send(person, "PUT", f"{PATHS[resource]}/{row['id']}", body, wanted, row)
        if wanted == 200:
            stored = next(one for one in self._rows[resource] if one["id"] == row["id"])
            assert stored == {**row, **body}

    async def _delete(self, person: Person, resource: str, row: Row) -> None:
        wanted = self._deleted(self._access(person), resource, row)
        await self._send(person, "DELETE", f"{PATHS[resource]}/{row['id']}", None, wanted, row)

    def _deleted(self, access: Access, resource: str, row: Row) -> int:
        if not access.at_all(resource, "delete"):
            return 403
        if not access.row(resource, "read", row):
            return 404
        return 204 if access.row(resource, "delete", row) else 403

    async def _batch(self, person: Person, resource: str) -> None:
        """Try the ways to write many rows, each item judged as if it had come alone."""
        access, path = self._access(person), f"{PATHS[resource]}/batch"
        rows = self._dice.sample(self._rows[resource], 3)
        names = [name for name in FIELDS[resource] if access.known(resource, "patch", name)]
        name = self._dice.choice(names or ["title"])
        bodies = [{name: self._body(resource)[name]} for _ in rows]
        statuses = [
            self._changed(access, resource, "patch", row, body)
            for row, body in zip(rows, bodies, strict=True)
        ]
        items = [{"id": row["id"], **body} for row, body in zip(rows, bodies, strict=True)]
        await self._loose(person, path, "patch", items, statuses)
        rows = self._dice.sample(self._rows[resource], 2)
        statuses = [self._deleted(access, resource, row) for row in rows]
        await self._loose(person, path, "delete", [{"id": row["id"]} for row in rows], statuses)
        await self._refill()
        await self._by_filter(person, resource)
        await self._refill()
        await self._together(person, resource)
        await self._imported(person, resource)
        await self._refill()
        if resource == "Tasks":
            await self._stepped(person)
            await self._import_upserts(person)
            await self._upsert(person)
        else:
            await self._nested(person)

    async def _loose(
        self, person: Person, path: str, operation: str, items: list[Row], statuses: list[int]
    ) -> None:
        """Send a batch whose items may fail one by one, and the same as a whole."""
        resource = next(one for one in RESOURCES if PATHS[one] in path)
        access = self._access(person)
        body = {"operation": operation, "items": items}
        if not access.at_all(resource, "batch") or not access.at_all(resource, operation):
            await self._send(person, "POST", path, body, 403)
            return
        failed = [status for status in statuses if status >= 400]
        if failed:
            before = {one: list(rows) for one, rows in self._rows.items()}
            self.asked += 1
            response = await self._client(person).post(path, json=body)
            assert response.status_code in failed, self._told(person, f"{path} {body}", response, failed)
            await self._look()
            assert self._rows == before
        response = await self._send(person, "POST", path, {**body, "atomic": False}, 200)
        found = [one["error"]["statusCode"] if "error" in one else 200 for one in response.json()["data"]]
        wanted = [status if status >= 400 else 200 for status in statuses]
        assert found == wanted, self._told(person, f"{path} {body}", response, wanted)

    async def _by_filter(self, person: Person, resource: str) -> None:
        """A batch by filter writes every row that a list finds, or none."""
        access, path = self._access(person), f"{PATHS[resource]}/batch"
        state = self._dice.choice(["new", "open", "done"])
        name = self._dice.choice([*FIELDS[resource]])
        patch = {name: self._body(resource)[name]}
        for operation, data in (("patch", {"data": patch}), ("delete", {})):
            found = [row["id"] for row in self._visible(access, resource, "list") if row["state"] == state]
            rows = [row for row in self._rows[resource] if row["id"] in found]
            body = {"operation": operation, "filter": {"state": state}, "max": 99, **data}
            statuses = {
                self._deleted(access, resource, row)
                if operation == "delete"
                else self._changed(access, resource, "patch", row, patch)
                for row in rows
            }
            if rows and operation == "patch" and not access.known(resource, "patch", name):
                statuses = {403}  # what is wrong with the body is told before any row is looked for
            before = {one: list(kept) for one, kept in self._rows.items()}
            self.asked += 1
            response = await self._client(person).post(path, json=body)
            told = self._told(person, f"{path} {body}", response, statuses)
            await self._look()
            if not all(access.at_all(resource, one) for one in ("batch", operation)):
                assert response.status_code == 403, told
            elif not access.at_all(resource, "list") or not access.known(resource, "list", "state"):
                assert response.status_code in (400, 403), told
            elif any(status >= 400 for status in statuses):
                assert response.status_code in {one for one in statuses if one >= 400}, told
            elif rows:
                assert response.status_code == 200, told
                gone = [row for row in before[resource] if row not in self._rows[resource]]
                changed = {row["id"] for row in gone}
                same = {row["id"] for row in rows if operation == "patch" and row == {**row, **patch}}
                assert changed | same == set(found), told
            if response.status_code >= 400:
                assert self._rows == before, told

    async def _together(self, person: Person, resource: str) -> None:
        """An operation of a batch over several resources is judged as if it had come alone."""
        access, row = self._access(person), self._dice.choice(self._rows[resource])
        name = self._dice.choice([*FIELDS[resource]])
        patch = {name: self._body(resource)[name]}
        wanted = self._changed(access, resource, "patch", row, patch)
        body = [{"operation": "patch", "resource": resource, "id": row["id"], "data": patch}]
        await self._send(person, "POST", "/api/v1/batch", body, wanted, row)

    async def _stepped(self, person: Person) -> None:
        """A step of the states needs its own right to the row."""
        access, row = self._access(person), self._dice.choice(self._rows["Tasks"])
        wanted = 200 if access.row("Tasks", "go:post", row) else 403
        if access.at_all("Tasks", "go:post") and not access.row("Tasks", "read", row):
            wanted = 404
        await self._send(person, "POST", f"/api/v1/tasks/{row['id']}/go", None, wanted, row)

    async def _imported(self, person: Person, resource: str) -> None:
        """A record of a file is judged like a creation."""
        access = self._access(person)
        records = []
        for _ in range(3):
            body = self._body(resource)
            names = [name for name in body if access.known(resource, "create", name)]
            records.append({name: body[name] for name in names if self._dice.random() < 0.8})
        wanted = [self._created(access, resource, record) for record in records]
        text = "".join(json.dumps(record) + "\n" for record in records)
        before = list(self._rows[resource])
        self.asked += 1
        response = await self._client(person).post(
            f"{PATHS[resource]}/import?again=true",
            content=text,
            headers={"Content-Type": "application/x-ndjson"},
        )
        told = self._told(person, f"import {records}", response, wanted)
        await self._look()
        made = [{**row, "id": 0} for row in self._rows[resource] if row not in before]
        if not access.at_all(resource, "create"):
            assert response.status_code == 403, told
            assert made == [], told
            return
        assert response.status_code == 200, told
        assert made == [{**row, "id": 0} for status, row in wanted if status == 201], told

    async def _import_upserts(self, person: Person) -> None:
        """Whatever an import with upserts has changed, the rules let its sender change."""
        access = self._access(person)
        known = [row for row in self._rows["Tasks"] if row["code"]]
        codes = [row["code"] for row in self._dice.sample(known, min(3, len(known)))]
        codes.append(f"i{self._dice.randrange(10**9)}")
        title = self._dice.choice(["alpha", "beta", "gamma"])
        text = "".join(json.dumps({"code": code, "title": title}) + "\n" for code in codes)
        before = {row["id"]: row for row in self._rows["Tasks"]}
        self.asked += 1
        response = await self._client(person).post(
            "/api/v1/tasks/import?again=true&operation=upsert&on=code",
            content=text,
            headers={"Content-Type": "application/x-ndjson"},
        )
        told = self._told(person, f"import {text}", response, "")
        assert response.status_code in (200, 403), told
        await self._look()
        for row in self._rows["Tasks"]:
            old = before.get(row["id"])
            if old is None:
                assert access.row("Tasks", "create", row), told
                assert all(access.field("Tasks", "create", row, one) for one in ("code", "title")), told
            elif old != row:
                assert access.row("Tasks", "read", old), told
                # A field that is sent as it is stored needs no right.
                for one in (old, row):
                    assert access.row("Tasks", "update", one), told
                    for name in FIELDS["Tasks"]:
                        if old[name] != row[name]:
                            assert access.field("Tasks", "update", one, name), (name, told)
        if access.at_all("Tasks", "create") and access.at_all("Tasks", "update"):
            writable = access.known("Tasks", "create", "code") and access.known("Tasks", "create", "title")
            new: Row = {**dict.fromkeys(FIELDS["Tasks"]), "state": "new", **access.presets("Tasks")}
            new |= {"code": codes[-1], "title": title}
            fine = writable and access.row("Tasks", "create", new)
            fine = fine and all(access.field("Tasks", "create", new, one) for one in ("code", "title"))
            stored = codes[-1] in {row["code"] for row in self._rows["Tasks"]}
            assert stored == fine, told

    async def _upsert(self, person: Person) -> None:
        """An upsert creates or replaces, with the right to do so."""
        access, path = self._access(person), f"{PATHS['Tasks']}/batch"
        known = self._dice.choice([row for row in self._rows["Tasks"] if row["code"]])
        actions = ("create", "update", "batch")
        title = self._dice.choice(["alpha", "beta"])
        for code in (known["code"], f"new{self._dice.randrange(10**6)}"):
            body = {"operation": "upsert", "on": ["code"], "items": [{"code": code, "title": title}]}
            before = {one: list(rows) for one, rows in self._rows.items()}
            self.asked += 1
            response = await self._client(person).post(path, json=body)
            told = self._told(person, f"upsert {body}", response, known)
            await self._look()
            new = code != known["code"]
            row: Row = {**dict.fromkeys(FIELDS["Tasks"]), "state": "new", **access.presets("Tasks")}
            row |= {"code": code, "title": title}
            words = ("code", "title")
            if not all(access.at_all("Tasks", action) for action in actions):
                assert response.status_code == 403, told
            elif new:
                fine = all(access.known("Tasks", "create", word) for word in words)
                fine = fine and access.row("Tasks", "create", row)
                fine = fine and all(access.field("Tasks", "create", row, word) for word in words)
                assert (response.status_code == 200) == fine, told
            elif not access.row("Tasks", "read", known):
                assert response.status_code >= 400, told
            if response.status_code >= 400:
                assert response.status_code in (403, 404, 409, 422), told
                assert self._rows == before, told
            elif not new:
                after = next(one for one in self._rows["Tasks"] if one["id"] == known["id"])
                assert access.row("Tasks", "read", known), told
                for one in (known, after):
                    assert access.row("Tasks", "update", one), told
                    # The key is as it is stored: that may be sent by everybody.
                    assert access.field("Tasks", "update", one, "title"), told

    async def _nested(self, person: Person) -> None:
        """Rows inside a row need the rights to both."""
        access = self._access(person)
        body = {"title": "alpha", "tasks": [{"title": "beta", "points": 1}]}
        project: Row = {**dict.fromkeys(FIELDS["Projects"]), "state": "new", **access.presets("Projects")}
        project["title"] = "alpha"
        fine = access.known("Projects", "create", "title") and access.row("Projects", "create", project)
        fine = fine and access.field("Projects", "create", project, "title")
        before = {one: list(rows) for one, rows in self._rows.items()}
        self.asked += 1
        response = await self._client(person).post(PATHS["Projects"], json=body)
        told = self._told(person, f"nested {body}", response, "")
        await self._look()
        if response.status_code >= 400:
            assert response.status_code in (403, 422), told
            assert self._rows == before, told
            return
        assert fine, told
        [task] = [row for row in self._rows["Tasks"] if row not in before["Tasks"]]
        assert access.row("Tasks", "create", task), told
        assert all(access.field("Tasks", "create", task, name) for name in ("title", "points")), told
