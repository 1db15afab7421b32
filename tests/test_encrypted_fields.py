"""Encrypted fields: stored as bytes that nobody but the application reads, told only to who may read them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from byodpp import wire
from byodpp.bootstrap import Application, Blueprint
from byodpp.exceptions import ManifestError
from byodpp.idempotency import IdempotencyKeys
from byodpp.manifest import load_manifest
from byodpp.migrations.conversion import converted
from byodpp.tenant_life.export import TenantExport
from byodpp.testing import Bench, TestedApplication
from tests.commands import operated
from tests.loop_watch import LoopWatch
from tests.transfer_world import CSV, WRITABLE
from tests.worlds import build

PEOPLE, TEAMS = "/api/v1/people", "/api/v1/teams"
OLD, NEW = f"old:{'a' * 40}", f"new:{'b' * 40}"
WORD = "kept-from-everybody"

#: Each type that a field can have, encrypted; what the keys of an index and defaults would be is left out.
SEALED: dict[str, Any] = {
    name: {key: word for key, word in spec.items() if key not in ("unique", "index", "default")}
    | {"encrypted": True, "required": False}
    for name, spec in WRITABLE.items()
    if name not in ("name", "sku")
}
MANIFEST: dict[str, Any] = {
    "resources": [
        {
            "name": "Teams",
            "fields": {"name": {"type": "string", "required": True}},
            "relations": {"people": {"resource": "People", "foreignField": "teamId"}},
            "access": {"read": ["*"], "write": ["*"]},
        },
        {
            "name": "People",
            "audit": True,
            "events": True,
            "history": True,
            "versioned": True,
            "fields": {
                "name": {"type": "string", "required": True, "index": True},
                "teamId": {"references": "Teams"},
                "taxNumber": {"type": "string", "maxLength": 40, "minLength": 3, "encrypted": True},
                "badge": {"type": "string", "encrypted": True, "readOnly": True},
                **SEALED,
            },
            "access": {
                "read": ["Admin", {"roles": ["Clerk"], "fields": ["id", "name", "teamId"]}],
                "write": ["Admin", "Clerk"],
            },
        },
        {
            "name": "Letters",
            "events": True,
            "versioned": True,
            "fields": {
                "title": {"type": "string", "required": True},
                "words": {"type": "string", "encrypted": True},
                "sender": {"type": "string", "personal": True},
                "pin": {"type": "string", "writeOnly": True},
            },
            "states": {
                "initial": "draft",
                "transitions": {"send": {"from": "draft", "to": "sent", "event": "letter.sent"}},
            },
            "access": {
                "read": [
                    "Admin",
                    {"roles": ["Clerk"], "fields": ["title"]},
                    {"roles": ["Author"], "filter": {"title": "mine"}, "fields": ["title"]},
                ],
                "write": ["Admin", "Clerk", "Author"],
            },
        },
    ],
    "include": ["byodpp:audit", "byodpp:tenancy"],
}
FULL: dict[str, Any] = {
    "note": f'=1+1, "{WORD}" é\r\n<x>\u0001',
    "price": 12.50,
    "exact": "0.10",
    "stock": 7,
    "big": 9007199254740993,
    "digits": "9223372036854775807",
    "weight": 0.1,
    "flag": True,
    "day": "2024-02-29",
    "hour": "23:59:59.500000",
    "moment": "2024-02-29T10:00:00.123456Z",
    "code": "6f2d3c1e-0000-4000-8000-000000000001",
    "mark": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "extra": {"a": [1, {"b": WORD}]},
    "box": {"width": 3, "unit": "mm"},
    "tags": ["x", WORD],
    "size": "large",
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("sealed"), MANIFEST)


@pytest_asyncio.fixture(loop_scope="session")
async def tested(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint, encryption_keys=(OLD,)) as application:
        yield application


async def stored(tested: TestedApplication, sql: str, *args: Any) -> Any:
    async with tested.connected.database.system() as transaction:
        return await transaction.fetchval(sql, *args)


async def a_person(client: Any, **values: Any) -> dict[str, Any]:
    made = await client.post(PEOPLE, json={"name": "Ada", **values})
    assert made.status_code == 201, made.text
    row: dict[str, Any] = made.json()["data"]
    return row


@asynccontextmanager
async def with_keys(tested: TestedApplication, *keys: str) -> AsyncIterator[TestedApplication]:
    """The same application on the same database, with other keys."""
    settings = replace(tested.settings, encryption_keys=keys)
    connected = Application.connect(settings, tested.blueprint)
    other = TestedApplication(
        blueprint=tested.blueprint, settings=settings, connected=connected,
        asgi=connected.asgi(write_access_line=[].append), recorder=tested.recorder,
    )  # fmt: skip
    async with connected.lifespan():
        connected.lifecycle.ready = True
        yield other
        await other.close()


async def test_a_value_of_each_type_comes_back_as_it_was_sent(tested: TestedApplication) -> None:
    client = tested.client()
    row = await a_person(client, **FULL, taxNumber=WORD)
    assert {name: row[name] for name in FULL} == FULL
    url = f"{PEOPLE}/{row['id']}"
    read = await client.get(url)
    assert read.json()["data"] == row
    assert '"price":12.50,' in read.text, "the digits are those of the field"
    assert (await client.get(PEOPLE)).json()["data"] == [row]
    chosen = await client.get(f"{PEOPLE}?fields=id,taxNumber")
    assert chosen.json()["data"] == [{"id": row["id"], "taxNumber": WORD}]
    put = await client.put(url, json=row)
    assert put.status_code == 200, put.text
    assert put.json()["data"]["extra"] == FULL["extra"]
    patched = await client.patch(url, json={"taxNumber": None, "extra": {"c": 1}, "stock": 8})
    assert patched.json()["data"]["taxNumber"] is None
    assert patched.json()["data"]["extra"] == {**FULL["extra"], "c": 1}
    batch = await client.post(f"{PEOPLE}/batch", json=[{"name": "Bob", **FULL}, {"name": "Cy"}])
    assert batch.status_code == 201, batch.text
    assert [one["note"] for one in batch.json()["data"]] == [FULL["note"], None]


async def test_every_way_of_writing_encrypts(tested: TestedApplication) -> None:
    client = tested.client()
    rows = [await a_person(client, taxNumber=f"{WORD} {number}") for number in range(3)]
    url = f"{PEOPLE}/{rows[0]['id']}"
    steps: Any = [{"op": "test", "path": "/taxNumber", "value": f"{WORD} 0"},
             {"op": "replace", "path": "/taxNumber", "value": f"{WORD} patched"}]  # fmt: skip
    kind = {"Content-Type": "application/json-patch+json"}
    patched = await client.patch(url, content=json.dumps(steps), headers=kind)
    assert patched.json()["data"]["taxNumber"] == f"{WORD} patched", patched.text
    many: Any = {
        "operation": "patch",
        "filter": {"name": "Ada"},
        "max": 10,
        "data": {"taxNumber": f"{WORD} bulk"},
    }
    bulk = await client.post(f"{PEOPLE}/batch", json=many)
    assert bulk.status_code == 200, bulk.text
    steps = [
        {"resource": "People", "operation": "create", "data": {"name": "Cy", "taxNumber": f"{WORD} one"}}
    ]
    made = await client.post("/api/v1/batch", json=steps)
    assert made.status_code == 200, made.text
    team = await client.post(
        TEAMS, json={"name": "Red", "people": [{"name": "Di", "taxNumber": f"{WORD} in"}]}
    )
    assert team.json()["data"]["people"][0]["taxNumber"] == f"{WORD} in", team.text
    found = (await client.get(f"{PEOPLE}?sort=id&fields=taxNumber")).json()["data"]
    assert [one["taxNumber"] for one in found] == [*[f"{WORD} bulk"] * 3, f"{WORD} one", f"{WORD} in"]
    assert WORD.encode().hex() not in str(await stored(tested, "select json_agg(p)::text from people p"))
    tried = await client.patch(url, json={"taxNumber": "tried"}, headers={"Prefer": "tx=rollback"})
    assert tried.json()["data"]["taxNumber"] == "tried"


async def test_included_rows_are_opened_too(tested: TestedApplication) -> None:
    client = tested.client()
    team = (await client.post(TEAMS, json={"name": "Red"})).json()["data"]["id"]
    row = await a_person(client, teamId=team, taxNumber=WORD, tags=[WORD])
    read = await client.get(f"{TEAMS}/{team}?include=people")
    assert read.json()["data"]["people"] == [row]
    listed = await client.get(f"{PEOPLE}?include=team.people&fields=id,taxNumber")
    [one] = listed.json()["data"]
    assert (one["taxNumber"], one["team"]["people"]) == (WORD, [row])


async def test_nothing_in_the_database_tells_it(tested: TestedApplication) -> None:
    client = tested.client()
    made = await client.post(
        PEOPLE,
        json={"name": "Ada", **FULL, "taxNumber": WORD},
        headers={"Idempotency-Key": "one"},
    )
    url = f"{PEOPLE}/{made.json()['data']['id']}"
    assert (await client.patch(url, json={"taxNumber": f"{WORD} 2"})).status_code == 200
    await tested.connected.trail.drain()
    tables = await stored(
        tested,
        "select array_agg(format('%I.%I', schemaname, tablename)) from pg_tables"
        " where schemaname in ('public', 'byodpp')",
    )
    for table in tables:
        text = str(await stored(tested, f"select json_agg(t)::text from {table} t"))
        assert WORD not in text, table
        assert WORD.encode().hex() not in text, table
    entry = json.loads(await stored(tested, "select changes::text from audit_logs where action = 'PATCH'"))
    assert entry["redacted"] == ["taxNumber"]
    assert "taxNumber" not in entry["after"]
    event = json.loads(
        await stored(tested, "select data::text from byodpp.events() order by number, place limit 1")
    )
    assert not {"taxNumber", *FULL} & event.keys()
    again = await client.post(
        PEOPLE, json={"name": "Ada", **FULL, "taxNumber": WORD}, headers={"Idempotency-Key": "one"}
    )
    assert again.headers["idempotency-replayed"] == "true"
    assert again.content == made.content or again.json()["data"] == made.json()["data"]


async def test_an_answer_is_not_told_again_as_it_was_sealed_when_no_field_is_encrypted_any_more(
    tested: TestedApplication,
) -> None:
    sent: dict[str, Any] = {"json": {"name": "Ada"}, "headers": {"Idempotency-Key": "one"}}
    made = await tested.client().post(PEOPLE, **sent)
    assert made.status_code == 201
    tested.connected.service.keys = IdempotencyKeys(tested.connected.database)
    again = await tested.client().post(PEOPLE, **sent)
    assert (again.status_code, again.json()["error"]["code"]) == (500, "internal_error")


@pytest.mark.parametrize("role", ["Admin", "Clerk"])
async def test_no_event_tells_it_and_each_is_stored_whoever_causes_it(
    tested: TestedApplication, role: str
) -> None:
    client, letters = tested.client(role=role), "/api/v1/letters"
    made = await client.post(letters, json={"title": "t", "words": WORD, "sender": WORD, "pin": WORD})
    id = made.json()["data"]["id"]
    assert (await client.patch(f"{letters}/{id}", json={"title": "u"})).status_code == 200
    assert (await client.post(f"{letters}/{id}/send")).status_code == 200
    await client.post(f"{letters}/batch", json=[{"title": "a", "words": WORD}, {"title": "b"}])
    names = "letters.created letters.updated letter.sent letters.created letters.created".split()
    heard = await tested.events()
    assert [event.name for event in heard] == names
    assert all(event.data.keys().isdisjoint(("words", "sender", "pin")) for event in heard)
    stored_ones = await stored(
        tested, "select json_agg(o order by number, place)::text from byodpp.events() o"
    )
    assert [(one["name"], one["resource_id"]) for one in json.loads(stored_ones)] == [
        (event.name, event.resource_id) for event in heard
    ]
    told = {"id", "title", "status", "version", "createdAt", "updatedAt"}
    assert [one["data"].keys() for one in json.loads(stored_ones)] == [told] * len(heard)
    assert [wire.loads(wire.dumps(event.data)) for event in heard] == [
        one["data"] for one in json.loads(stored_ones)
    ], "handlers get what is stored, whatever the caller may read"


async def test_handlers_hear_of_rows_that_their_author_may_not_read(tested: TestedApplication) -> None:
    author, letters = tested.client(role="Author"), "/api/v1/letters"
    made = await author.post(letters, json={"title": "mine"})
    assert made.status_code == 201, made.text
    id = made.json()["data"]["id"]
    hidden = await author.post(letters, json={"title": "hidden"})
    assert (hidden.status_code, hidden.json()["data"].keys()) == (201, {"id"}), "it may be made, not read"
    assert (await author.patch(f"{letters}/{id}", json={"title": "hidden"})).status_code == 200
    assert (await author.post(f"{letters}/batch", json=[{"title": "mine"}, {"title": "hidden"}])).is_success
    sent = "title\nmine\nhidden\n"
    assert (await author.post(f"{letters}/import", content=sent, headers=CSV)).is_success
    heard = await tested.events()
    assert [event.data["title"] for event in heard] == [
        "mine", "hidden", "hidden", "mine", "hidden", "mine", "hidden",
    ]  # fmt: skip
    rows = await stored(tested, "select json_agg(o.data order by number, place)::text from byodpp.events() o")
    assert [wire.loads(wire.dumps(event.data)) for event in heard] == json.loads(rows)


async def test_large_encrypted_values_keep_nobody_waiting(tested: TestedApplication) -> None:
    """What would take a second of the event loop, written and read, is done in a thread."""
    client, watch = tested.client(), LoopWatch()
    item = {"name": "Ada", "extra": {f"key {number}": [number] * 5 for number in range(30_000)}}
    async with watch.watching():
        made = await client.post(PEOPLE, json=item)
        assert made.status_code == 201, made.text[:500]
        id = made.json()["data"]["id"]
        changed = await client.patch(f"{PEOPLE}/{id}", json={"name": "Bea"})
        assert changed.status_code == 200
        assert (await client.get(f"{PEOPLE}/{id}/history")).json()["count"] == 2
        many = [{"name": f"n{number}", "taxNumber": f"tax {number}"} for number in range(1_000)]
        assert (await client.post(f"{PEOPLE}/batch", json=many)).status_code == 201
    assert changed.json()["data"]["extra"] == item["extra"]
    assert watch.longest_seconds < 0.25, watch.longest_seconds


async def test_who_may_not_read_it_never_sees_it(tested: TestedApplication) -> None:
    row = await a_person(tested.client(), taxNumber=WORD)
    clerk = tested.client(role="Clerk")
    for path in (f"{PEOPLE}/{row['id']}", PEOPLE, f"{PEOPLE}/{row['id']}/history"):
        answer = await clerk.get(path)
        assert answer.status_code == 200
        assert WORD not in answer.text
        assert "taxNumber" not in answer.text
    exported = await clerk.get(f"{PEOPLE}/export?format=csv")
    assert sorted(exported.text.splitlines()[0].split(",")) == ["id", "name", "teamId"]


@pytest.mark.parametrize(
    "query",
    [
        f"filter[taxNumber]={WORD}",
        "filter[taxNumber][like]=a",
        "filter[taxNumber][isNull]=true",
        "sort=taxNumber",
        "sort=-stock",
        "aggregate=min:stock",
        "aggregate=count&group=taxNumber",
        "filter[extra.a]=1",
    ],
)
async def test_nothing_can_be_asked_of_it(tested: TestedApplication, query: str) -> None:
    await a_person(tested.client(), taxNumber=WORD, stock=1)
    answer = await tested.client().get(f"{PEOPLE}?{query}")
    assert answer.status_code == 400, answer.text
    if "taxNumber" in query and "group" not in query:
        assert "encrypted" in answer.text


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("taxNumber", "ab", "too_short"),
        ("taxNumber", 7, "type"),
        ("stock", {"$increment": 1}, "type"),
        ("tags", {"$append": ["a"]}, "type"),
        ("price", -1, "out_of_range"),
        ("size", "huge", "enum"),
    ],
)
async def test_it_is_judged_like_any_other_field(
    tested: TestedApplication, name: str, value: Any, code: str
) -> None:
    row = await a_person(tested.client(), stock=1)
    answer = await tested.client().patch(f"{PEOPLE}/{row['id']}", json={name: value})
    assert answer.status_code == 422, answer.text
    [fault] = answer.json()["error"]["details"]
    assert (fault["field"], fault["code"]) == (name, code)


async def test_former_versions_hold_it_and_are_told_by_todays_rules(tested: TestedApplication) -> None:
    client = tested.client()
    row = await a_person(client, taxNumber=WORD)
    between = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    await client.patch(f"{PEOPLE}/{row['id']}", json={"taxNumber": "another"})
    versions = (await client.get(f"{PEOPLE}/{row['id']}/history")).json()["data"]
    assert [one["row"]["taxNumber"] for one in versions] == ["another", WORD]
    then = await client.get(f"{PEOPLE}/{row['id']}?asOf={between}")
    assert then.json()["data"]["taxNumber"] == WORD, then.text


@pytest.mark.parametrize("format", ["csv", "ndjson", "json", "xml"])
async def test_a_file_of_rows_goes_out_and_comes_in_again(tested: TestedApplication, format: str) -> None:
    client = tested.client()
    await a_person(client, **FULL, taxNumber=WORD)
    await a_person(client, name="Bob")
    file = await client.get(f"{PEOPLE}/export?format={format}&fields=name,taxNumber,{','.join(FULL)}")
    assert file.status_code == 200
    assert (await client.delete(f"{PEOPLE}/{(await client.get(PEOPLE)).json()['data'][0]['id']}")).is_success
    kind = {"csv": CSV["Content-Type"], "ndjson": "application/x-ndjson"}.get(format, f"application/{format}")
    back = await client.post(f"{PEOPLE}/import", content=file.content, headers={"Content-Type": kind})
    assert back.status_code == 200, back.text
    assert back.json()["data"]["created"] == 2, back.text
    rows = (await client.get(f"{PEOPLE}?filter[name]=Ada")).json()["data"]
    assert [{name: row[name] for name in FULL} for row in rows] == [FULL]
    sealed = await stored(tested, "select count(*) from people where tax_number is not null")
    assert sealed == 1


async def test_a_spreadsheet_shows_it(tested: TestedApplication) -> None:
    await a_person(tested.client(), **FULL, taxNumber=WORD)
    file = await tested.client().get(f"{PEOPLE}/export?format=xlsx&fields=name,taxNumber,stock,flag,big")
    sheet = zipfile.ZipFile(io.BytesIO(file.content)).read("xl/worksheets/sheet1.xml").decode()
    assert f">{WORD}</t>" in sheet
    assert "<c><v>7</v></c>" in sheet
    assert '<c t="b"><v>1</v></c>' in sheet
    assert ">9007199254740993</t>" in sheet, "a number that a spreadsheet would round is a text"


async def test_a_value_of_another_tenant_opens_nowhere(tested: TestedApplication) -> None:
    ada = await a_person(tested.client(tenant="acme"), taxNumber=WORD)
    other = await a_person(tested.client(tenant="beta"), taxNumber="own")
    moved = await stored(
        tested,
        "update people set tax_number = (select tax_number from people where id = $1 and tax_number"
        " is not null order by tenant_id limit 1) where id = $2"
        " and tenant_id = (select max(tenant_id) from people) returning id",
        int(ada["id"]),
        int(other["id"]),
    )
    assert moved == int(other["id"])
    answer = await tested.client(tenant="beta").get(f"{PEOPLE}/{other['id']}")
    assert answer.status_code == 500
    assert WORD not in answer.text
    assert (await tested.client(tenant="acme").get(f"{PEOPLE}/{ada['id']}")).json()["data"] == ada


async def test_what_a_tenant_takes_along_is_readable(tested: TestedApplication, tmp_path: Path) -> None:
    await a_person(tested.client(), taxNumber=WORD, extra={"a": 1}, price=12.5)
    blueprint, sealed = tested.blueprint, tested.connected.service.parts.store.sealed
    export = TenantExport(blueprint.registry, blueprint.tables, sealed)
    async with tested.connected.database.system() as transaction:
        path = await export.write(transaction, await tested.tenant("acme"), tmp_path)
    [line] = zipfile.ZipFile(path).read("data/People.ndjson").splitlines()
    row = json.loads(line)
    assert (row["taxNumber"], row["extra"], row["price"]) == (WORD, {"a": 1}, 12.5)
    assert row["note"] is None


def test_a_column_that_becomes_encrypted_is_told_to_lose_its_values() -> None:
    assert converted("pin", "character varying(255)", "bytea") == "NULL::bytea"
    assert converted("pin", "bytea", "text") == "NULL::text"


# --- keys and their rotation --------------------------------------------------------------


async def rotate(tested: TestedApplication, *keys: str) -> tuple[int, str]:
    done = await operated(tested, "secrets", "rotate", BYODPP_ENCRYPTION_KEYS=",".join(keys))
    return done.returncode, done.stdout + done.stderr


async def test_a_rotation_seals_rows_and_their_versions_anew(
    tested: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    from byodpp import rotation

    rows = [await a_person(tested.client(), taxNumber=f"{WORD} {number}") for number in range(5)]
    url = f"{PEOPLE}/{rows[0]['id']}"
    await tested.client().patch(url, json={"taxNumber": "later"})
    keys = "select array_agg(distinct convert_from(substring(tax_number from 2 for 3), 'UTF8')) from people"
    assert await stored(tested, keys) == ["old"]
    monkeypatch.setattr(rotation, "_BATCH", 2)
    async with with_keys(tested, NEW, OLD) as both:
        assert (await both.client().get(url)).json()["data"]["taxNumber"] == "later"
        done = rotation.FieldRotation(both.blueprint.registry, both.connected.service.parts.encryption)
        assert await done.run(both.connected.database) == 5 + 6, "rows, and versions of rows"
        assert await done.run(both.connected.database) == 0
    assert await stored(tested, keys) == ["new"]
    async with with_keys(tested, NEW) as alone:
        versions = (await alone.client().get(f"{url}/history")).json()["data"]
        assert [one["row"]["taxNumber"] for one in versions] == ["later", f"{WORD} 0"]
        assert (await alone.client().get(PEOPLE)).status_code == 200
    assert (await tested.client().get(PEOPLE)).status_code == 500, "its key is not among these"


async def test_a_rotation_reaches_tenants_in_schemas_of_their_own(
    byodpp_bench: Bench, blueprint: Blueprint
) -> None:
    from byodpp.rotation import FieldRotation

    application = byodpp_bench.application(blueprint, encryption_keys=(OLD,), tenant_settle_seconds=0)
    async with application as tested:
        await a_person(tested.client(), taxNumber="moved")
        await a_person(tested.client(tenant="beta"), taxNumber="stays")
        await tested.connected.tenant_life().move("acme", "schema")
        late = await a_person(tested.client(), taxNumber="made there")
        await tested.client().patch(f"{PEOPLE}/{late['id']}", json={"taxNumber": "changed there"})
        async with with_keys(tested, NEW, OLD) as both:
            done = FieldRotation(both.blueprint.registry, both.connected.service.parts.encryption)
            assert await done.run(both.connected.database) == 3 + 4, "rows, and versions of rows"
            assert (await done.run(both.connected.database), done.unread) == (0, {})
        async with with_keys(tested, NEW) as alone:
            for tenant, values in (("acme", ["moved", "changed there"]), ("beta", ["stays"])):
                found = await alone.client(tenant=tenant).get(f"{PEOPLE}?sort=id")
                assert found.status_code == 200, "nothing is left under the former key"
                assert [row["taxNumber"] for row in found.json()["data"]] == values
            versions = await alone.client().get(f"{PEOPLE}/{late['id']}/history")
            assert versions.status_code == 200


async def test_a_rotation_says_that_a_tenant_is_moved(byodpp_bench: Bench, blueprint: Blueprint) -> None:
    def told(step: str, taken: bool) -> None:
        if step == "hold":
            raise KeyError(step)  # cut off

    application = byodpp_bench.application(blueprint, encryption_keys=(OLD,), tenant_settle_seconds=0)
    async with application as tested:
        await a_person(tested.client(), taxNumber=WORD)
        with pytest.raises(KeyError):
            await tested.connected.tenant_life().move("acme", "schema", told=told)
        code, text = await rotate(tested, NEW, OLD)
        assert (code, "Traceback" in text) == (1, False), text
        assert "moved" in text
        await tested.connected.tenant_life().move("acme", "schema")
        assert (await rotate(tested, NEW, OLD))[0] == 0


async def test_the_command_rotates_and_tells_what_cannot_be_read(tested: TestedApplication) -> None:
    await a_person(tested.client(), taxNumber=WORD)
    code, text = await rotate(tested, NEW, OLD)
    assert (code, "2 values of encrypted fields" in text) == (0, True), text
    entry = json.loads(await stored(tested, "select changes::text from audit_logs where action = 'ROTATE'"))
    assert entry == {"values": 1, "field": "taxNumber", "key": "new"}
    code, text = await rotate(tested, f"third:{'c' * 40}")
    assert code == 1
    assert "People.taxNumber: the key 'new' is not among encryption_keys" in text


# --- the manifest -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "more", "where", "why"),
    [
        ({"unique": True}, {}, "fields.pin.unique", "looks different each time"),
        ({"index": True}, {}, "fields.pin.index", "looks different each time"),
        ({"filterable": True}, {}, "fields.pin.filterable", "cannot compare"),
        ({"default": "1234"}, {}, "fields.pin.default", "as it is"),
        ({"renamedFrom": "pinCode"}, {}, "fields.pin.renamedFrom", "bound to its column"),
        ({"locale": "de"}, {}, "fields.pin.locale", "cannot compare"),
        ({}, {"unique": [["name", "pin"]]}, "unique", "is encrypted"),
        ({}, {"indexes": [["pin"]]}, "indexes", "is encrypted"),
        ({}, {"search": ["pin"]}, "search", "is encrypted"),
        (
            {},
            {"access": {"read": [{"roles": ["A"], "filter": {"pin": "1"}}]}},
            "filter",
            "whether it is empty",
        ),
        ({"encrypted": "yes"}, {}, "fields.pin.encrypted", "true or false"),
        (
            {},
            {"states": {"field": "pin", "initial": "a", "transitions": {"go": {"from": ["a"], "to": "b"}}}},
            "fields.pin.encrypted",
            "judged by what it holds",
        ),
    ],
)
def test_what_the_database_would_have_to_read_is_refused_at_the_start(
    tmp_path: Path, field: dict[str, Any], more: dict[str, Any], where: str, why: str
) -> None:
    spec = {"type": "string", "encrypted": True, **field}
    things = {"name": "Things", "fields": {"name": {"type": "string"}, "pin": spec}, **more}
    (tmp_path / "resources.json").write_text(json.dumps({"resources": [things]}))
    with pytest.raises(ManifestError) as refused:
        load_manifest(tmp_path)
    found = [one for one in refused.value.problems if where in one.path]
    assert found, refused.value
    assert any(why in f"{one.reason} {one.suggestion}" for one in found), found
