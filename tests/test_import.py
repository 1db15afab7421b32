"""Imports over HTTP: judged like single creations, told by the line, written once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.commands import operated
from tests.transfer_world import CSV, FILE_LOGICS, FILES, GOODS, NDJSON, lines_of, reasons
from tests.worlds import build

IMPORT = f"{GOODS}/import"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("files"), FILES, FILE_LOGICS)


@pytest_asyncio.fixture(loop_scope="session")
async def files(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested


async def value(files: TestedApplication, sql: str) -> Any:
    async with files.connected.database.system() as transaction:
        return await transaction.fetchval(sql)


def code(answer: Any) -> str:
    found: str = answer.json()["error"]["code"]
    return found


def details(answer: Any) -> dict[str, str]:
    return {one["field"]: one["code"] for one in answer.json()["error"]["details"]}


async def test_good_rows_are_kept_and_bad_ones_told_by_their_line(files: TestedApplication) -> None:
    client = files.client()
    group = (await client.post("/api/v1/groups", json={"name": "G"})).json()["data"]["id"]
    sent = (
        "name,price,groupId,stock,extra\n"
        f'Table,80.00,{group},3,"{{""a"": 1}}"\n'
        f"Chair,dear,{group},1.5,\n"
        '"two\nlines",-1,,,\n'
        f"Table,1,{group},,\n"
        "Shelf,1,99,,not json\n"
        "Lamp,,,,\n"
    )
    done = await client.post(IMPORT, content=sent, headers=CSV)
    assert done.status_code == 200, done.text
    data = done.json()["data"]
    told = (data["state"], data["records"], data["created"], data["updated"], data["rejected"])
    assert told == ("finished", 6, 2, 0, 4)
    assert reasons(done) == {
        3: {"price": "type", "stock": "type"},
        4: {"price": "out_of_range"},
        6: {"groupId": "unique", "name": "unique"},
        7: {"extra": "format"},
    }
    statuses = {one["line"]: one["error"]["statusCode"] for one in data["errors"]}
    assert statuses == {3: 422, 4: 422, 6: 409, 7: 422}
    rows = (await client.get(f"{GOODS}?sort=id&fields=name,price,stock,extra,flag")).json()["data"]
    assert rows == [
        {"name": "Table", "price": 80.0, "stock": 3, "flag": True, "extra": {"a": 1}},
        {"name": "Lamp", "price": None, "stock": None, "flag": True, "extra": None},
    ]


async def test_imported_rows_have_their_audit_entries_events_and_versions_in_the_same_transaction(
    files: TestedApplication,
) -> None:
    client = files.client()
    sent = '{"name":"a"}\n{"name":"b","price":1}\n{"name":""}\n'
    done = await client.post(IMPORT, content=sent, headers=NDJSON)
    assert done.json()["data"]["created"] == 2
    audited = await value(files, "select count(*) from audit_logs where resource_type = 'Goods'")
    told = await value(files, "select count(*) from byodpp.events() where name = 'goods.created'")
    kept = await value(files, "select count(*) from byodpp.history where resource = 'goods'")
    assert (audited, told, kept) == (2, 2, 2)
    author = "select count(*) from audit_logs a join users u on u.id = a.user_id where a.action = 'CREATE'"
    assert await value(files, author) == 2
    heard = [event for event in await files.events() if event.name == "goods.created"]
    assert [event.data["name"] for event in heard] == ["a", "b"]


async def test_rows_are_created_without_handlers_as_with_them(
    byodpp_bench: Bench, blueprint: Blueprint
) -> None:
    async with byodpp_bench.application(blueprint) as tested:
        tested.connected.service._bus = type(tested.connected.service._bus)(())
        done = await tested.client().post(IMPORT, content="name\na\nb\n", headers=CSV)
        assert done.json()["data"]["created"] == 2
        assert await value(tested, "select count(*) from byodpp.events()") == 2
        assert tested.recorder.heard == []


async def test_a_reference_to_what_the_caller_may_not_read_is_an_unknown_one(
    files: TestedApplication,
) -> None:
    admin, seller = files.client(), files.client(role="Seller", user="sam")
    open_one = (await admin.post("/api/v1/groups", json={"name": "open"})).json()["data"]["id"]
    hidden = (await admin.post("/api/v1/groups", json={"name": "h", "hidden": True})).json()["data"]["id"]
    gone = (await admin.post("/api/v1/groups", json={"name": "gone"})).json()["data"]["id"]
    await admin.delete(f"/api/v1/groups/{gone}")
    foreign = (await files.client(tenant="beta").post("/api/v1/groups", json={"name": "beta"})).json()[
        "data"
    ]["id"]
    groups = (open_one, hidden, gone, foreign, 12345678)
    sent = "name,price,groupId\n" + "".join(f"n{group},1,{group}\n" for group in groups)
    done = await seller.post(IMPORT, content=sent, headers=CSV)
    assert done.json()["data"]["created"] == 1, done.text
    assert reasons(done) == {line: {"groupId": "reference"} for line in (3, 4, 5, 6)}
    messages = {one["error"]["message"] for one in done.json()["data"]["errors"]}
    assert len(messages) == 1  # nothing tells an absent group from a hidden one


async def test_row_rules_refuse_rows_one_by_one(files: TestedApplication) -> None:
    seller = files.client(role="Seller")
    sent = "name,price\n" + "".join(f"n{number},{number}\n" for number in range(50, 150))
    done = await seller.post(IMPORT, content=sent, headers=CSV)
    data = done.json()["data"]
    assert (data["created"], data["rejected"]) == (50, 50), done.text
    assert {one["error"]["code"] for one in data["errors"]} == {"forbidden"}
    assert await value(files, "select max(price)::int from goods") == 99


async def test_fields_that_the_caller_may_not_write_are_refused(files: TestedApplication) -> None:
    editor = files.client(role="Editor")
    done = await editor.post(IMPORT, content="name,secret\na,b\n", headers=CSV)
    assert (done.status_code, code(done), details(done)) == (403, "forbidden", {"secret": "forbidden"})
    sent = '{"name":"a","secret":"s"}\n{"name":"b","price":2}\n'
    done = await editor.post(IMPORT, content=sent, headers=NDJSON)
    assert reasons(done) == {1: {"secret": "forbidden"}}
    assert done.json()["data"]["created"] == 1


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("name,id", {"id": "read_only"}),
        ("name,tenantId,createdAt,version", dict.fromkeys(("tenantId", "createdAt", "version"), "read_only")),
        ("name,seen", {"seen": "read_only"}),
        ("name,prise", {"prise": "unknown_field"}),
        ("price,__proto__", {"__proto__": "unknown_field", "name": "required"}),
        ("name,name", {"name": "duplicate"}),
        ("a;b", {"": "header"}),
        ("", {"": "header"}),
    ],
)
async def test_columns_that_do_not_fit_stop_an_import_before_its_first_row(
    files: TestedApplication, columns: str, expected: dict[str, str]
) -> None:
    client = files.client()
    done = await client.post(IMPORT, content=f"{columns}\n1,2\n", headers=CSV)
    assert (done.status_code, details(done)) == (422, expected), done.text
    assert "Nothing was imported" in done.json()["error"]["message"]
    assert await value(files, "select count(*) from goods") == 0
    assert await value(files, "select count(*) from byodpp.imports") == 0


async def test_columns_can_be_passed_over(files: TestedApplication) -> None:
    client = files.client()
    sent = "id,name,comment,version\n7,a,x,9\n"
    done = await client.post(f"{IMPORT}?ignore=id,comment,version", content=sent, headers=CSV)
    assert done.json()["data"]["created"] == 1, done.text
    sent = '{"id":7,"name":"b","version":9}\n'
    done = await client.post(f"{IMPORT}?ignore=id,version", content=sent, headers=NDJSON)
    assert done.json()["data"]["created"] == 1, done.text


async def test_an_empty_cell_is_null_or_the_default(files: TestedApplication) -> None:
    client = files.client()
    sent = 'name,stock,note\na,,""\n'
    await client.post(IMPORT, content=sent, headers=CSV)
    await client.post(f"{IMPORT}?empty=default", content=sent.replace("a,", "b,"), headers=CSV)
    rows = (await client.get(f"{GOODS}?fields=name,stock,note&sort=id")).json()["data"]
    assert rows == [{"name": "a", "stock": None, "note": ""}, {"name": "b", "stock": 0, "note": ""}]


async def test_all_or_nothing_by_choice(files: TestedApplication) -> None:
    client = files.client()
    sent = "name,price\na,1\nb,x\nc,-2\n"
    refused = await client.post(f"{IMPORT}?atomic=true", content=sent, headers=CSV)
    assert (refused.status_code, code(refused)) == (422, "validation_failed")
    assert details(refused) == {"2.price": "type", "3.price": "out_of_range"}
    assert "(line 3)" in refused.json()["error"]["details"][0]["message"]
    assert await value(files, "select count(*) from goods") == 0
    assert await value(files, "select count(*) from byodpp.events()") == 0
    assert await value(files, "select count(*) from byodpp.imports") == 0
    again = await client.post(f"{IMPORT}?atomic=true", content="name,sku\na,1\nb,1\n", headers=CSV)
    assert (again.status_code, details(again)) == (422, {"2.sku": "unique"})
    good = await client.post(f"{IMPORT}?atomic=true", content="name,price\na,1\nb,2\n", headers=CSV)
    assert good.json()["data"]["created"] == 2
    assert await value(files, "select count(*) from goods") == 2


async def test_of_all_or_nothing_every_fault_is_told_also_those_that_only_the_database_knows(
    files: TestedApplication,
) -> None:
    client = files.client()
    await client.post(GOODS, json={"name": "old", "sku": "1"})
    sent = "name,sku,price,groupId\na,1,1,\nb,2,x,\nc,3,1,\nd,3,1,\ne,4,1,99\nf,5,1,\n"
    refused = await client.post(f"{IMPORT}?atomic=true", content=sent, headers=CSV)
    told = {"1.sku": "unique", "2.price": "type", "4.sku": "unique", "5.groupId": "reference"}
    assert (refused.status_code, details(refused)) == (422, told)
    assert "4 of 6 records were refused" in refused.json()["error"]["message"]
    assert [one["field"] for one in refused.json()["error"]["details"]] == list(told)
    assert await value(files, "select count(*) from goods") == 1
    assert await value(files, "select count(*) from byodpp.events()") == 1


async def test_a_try_shows_everything_and_keeps_nothing(files: TestedApplication) -> None:
    client = files.client(headers={"Prefer": "tx=rollback"})
    done = await client.post(IMPORT, content="name,price\na,1\nb,x\na2,1\n", headers=CSV)
    assert done.status_code == 200 and done.headers["preference-applied"] == "tx=rollback"
    data = done.json()["data"]
    assert data["state"] == "finished"
    assert (data["created"], data["rejected"], reasons(done)) == (2, 1, {3: {"price": "type"}})
    for table in ("goods", "audit_logs", "byodpp.outbox", "byodpp.imports", "byodpp.import_rejects"):
        assert await value(files, f"select count(*) from {table}") == 0, table
    assert await files.events() == []


async def test_the_same_file_again_answers_as_before_and_writes_nothing(files: TestedApplication) -> None:
    client = files.client()
    sent = "name,price\na,1\nb,x\n"
    first = await client.post(IMPORT, content=sent, headers=CSV)
    again = await files.client(user="other").post(IMPORT, content=sent, headers=CSV)
    assert again.headers["idempotency-replayed"] == "true"
    shown, repeated = first.json()["data"], again.json()["data"]
    assert (shown.pop("repeated"), repeated.pop("repeated")) == (False, True)
    assert shown == repeated
    assert await value(files, "select count(*) from goods") == 1
    once_more = await client.post(f"{IMPORT}?again=true", content=sent, headers=CSV)
    assert (once_more.json()["data"]["created"], await value(files, "select count(*) from goods")) == (1, 2)
    other = await files.client(tenant="beta").post(IMPORT, content=sent, headers=CSV)
    assert (other.json()["data"]["repeated"], other.json()["data"]["created"]) == (False, 1)


async def test_the_same_file_of_another_user_is_imported_where_it_means_other_rows(
    files: TestedApplication,
) -> None:
    address, sent = "/api/v1/drawers/import", "name\na\n"
    for user in ("ada", "eve"):
        client = files.client(user=user)
        done = (await client.post(address, content=sent, headers=CSV)).json()["data"]
        assert (done["created"], done["repeated"]) == (1, False), user
        assert len((await client.get("/api/v1/drawers")).json()["data"]) == 1, user
        again = (await client.post(address, content=sent, headers=CSV)).json()["data"]
        assert (again["created"], again["repeated"]) == (1, True), user
        asked = await client.get(f"{address}?key={quote(done['key'])}")
        assert asked.json()["data"]["created"] == 1


async def test_the_same_file_is_judged_again_for_whoever_has_other_rights(files: TestedApplication) -> None:
    sent = "name,price\ndear,500\n"
    refused = (await files.client(role="Seller").post(IMPORT, content=sent, headers=CSV)).json()["data"]
    assert (refused["created"], refused["rejected"]) == (0, 1)
    done = (await files.client(user="other").post(IMPORT, content=sent, headers=CSV)).json()["data"]
    assert (done["created"], done["repeated"]) == (1, False)
    assert await value(files, "select count(*) from goods") == 1


async def test_the_same_file_of_another_role_on_the_command_line_is_imported_where_it_means_other_rows(
    files: TestedApplication, tmp_path: Path
) -> None:
    path = tmp_path / "goods.csv"
    path.write_text("name,price\ndear,500\n")
    words = ("Goods", str(path), "--tenant", "acme", "--role")
    refused = await operated(files, "import", *words, "Seller")
    assert (refused.returncode, refused.stdout.count("0 created")) == (3, 1), refused.stdout
    again = await operated(files, "import", *words, "Seller")
    assert "was imported before" in again.stdout
    assert await value(files, "select count(*) from goods") == 0
    done = await operated(files, "import", *words, "Admin")
    assert "1 created" in done.stdout and "was imported before" not in done.stdout, done.stdout
    assert await value(files, "select count(*) from goods") == 1
    # To Admins it means the same, whatever the way in.
    sent = await files.client().post(IMPORT, content=path.read_bytes(), headers=CSV)
    assert sent.json()["data"]["repeated"]


async def test_no_file_moves_the_terminals_cursor(files: TestedApplication, tmp_path: Path) -> None:
    path = tmp_path / "goods.ndjson"
    path.write_text('{"name": "a", "\\u001b[2J\\u009bx": 1}\n')
    told = await operated(files, "import", "Goods", str(path), "--tenant", "acme")
    assert "\\x1b[2J\\x9bx" in told.stderr and "\x9b" not in told.stderr, told.stderr


async def test_a_key_stands_for_one_file_of_one_user(files: TestedApplication) -> None:
    client = files.client(headers={"Idempotency-Key": "load 1"})
    assert (await client.post(IMPORT, content="name\na\n", headers=CSV)).json()["data"]["key"] == "load 1"
    other = await client.post(IMPORT, content="name\nb\n", headers=CSV)
    assert (other.status_code, code(other)) == (422, "idempotency_key_reused")
    otherwise = await client.post(f"{IMPORT}?empty=default", content="name\na\n", headers=CSV)
    assert (otherwise.status_code, code(otherwise)) == (422, "idempotency_key_reused")
    somebody = files.client(user="eve", headers={"Idempotency-Key": "load 1"})
    assert (await somebody.post(IMPORT, content="name\nb\n", headers=CSV)).json()["data"]["created"] == 1
    asked = await client.get(f"{IMPORT}?key=load+1")
    assert asked.json()["data"]["records"] == 1
    assert (await files.client(tenant="beta").get(f"{IMPORT}?key=load+1")).status_code == 404


async def test_the_same_file_twice_at_once_is_written_once(files: TestedApplication) -> None:
    client = files.client()
    sent = "name,sku\n" + "".join(f"n{number},\n" for number in range(3_000))
    answers = await asyncio.gather(*(client.post(IMPORT, content=sent, headers=CSV) for _ in range(3)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert {code(one) for one in answers if one.status_code == 409} <= {"idempotency_in_progress"}
    assert await value(files, "select count(*) from goods") == 3_000


async def test_the_report_tells_every_refused_record(files: TestedApplication) -> None:
    client = files.client()
    sent = "name,price\n" + "".join(f"n{number},{number if number % 2 else 'x'}\n" for number in range(500))
    done = await client.post(IMPORT, content=sent, headers=CSV)
    data = done.json()["data"]
    assert (data["created"], data["rejected"], len(data["errors"])) == (250, 250, 100)
    report = await client.get(data["report"])
    assert report.headers["content-type"] == "application/x-ndjson"
    told = lines_of(report.text)
    assert [one["line"] for one in told] == list(range(2, 501, 2))
    assert told[:100] == data["errors"]
    progress = (await client.get(f"{IMPORT}?key={quote(data['key'])}")).json()["data"]
    assert progress == {name: data[name] for name in progress}
    stranger = files.client(role="Viewer")
    assert (await stranger.get(data["report"])).status_code == 403
    assert (await files.client(tenant="beta").get(data["report"])).status_code == 404


async def test_an_upsert_replaces_the_rows_that_are_there(files: TestedApplication) -> None:
    client = files.client()
    await client.post(
        f"{GOODS}/batch", json=[{"name": "a", "sku": "1", "note": "old"}, {"name": "b", "sku": "2"}]
    )
    sent = "sku,name,price\n1,a2,5\n3,c,6\n3,d,7\n,e,8\n2,,1\n"
    done = await client.post(f"{IMPORT}?operation=upsert&on=sku", content=sent, headers=CSV)
    data = done.json()["data"]
    assert (data["created"], data["updated"], data["rejected"]) == (1, 2, 2), done.text
    assert reasons(done) == {5: {"sku": "required"}, 6: {"name": "required"}}
    rows = (await client.get(f"{GOODS}?fields=sku,name,price,note,version&sort=sku")).json()["data"]
    assert [(row["sku"], row["name"], row["note"], row["version"]) for row in rows] == [
        ("1", "a2", None, 2),
        ("2", "b", None, 1),
        ("3", "d", None, 2),
    ]
    refused = await files.client(role="Editor").post(
        f"{IMPORT}?operation=upsert&on=sku", content=sent, headers=CSV
    )
    assert refused.status_code == 403 and "update" in refused.json()["error"]["message"]


async def test_an_upsert_of_many_rows_is_written_together_and_told_as_if_one_by_one(
    files: TestedApplication,
) -> None:
    client = files.client()
    made = await client.post(
        f"{GOODS}/batch", json=[{"name": f"old {number}", "sku": str(number)} for number in range(300)]
    )
    assert made.status_code == 201
    events = await value(files, "select count(*) from byodpp.events() where name like 'goods.%'")
    sent = "sku,name\n" + "".join(f"{number},new {number}\n" for number in range(200, 700))
    done = await client.post(f"{IMPORT}?operation=upsert&on=sku", content=sent, headers=CSV)
    data = done.json()["data"]
    assert (data["records"], data["created"], data["updated"], data["rejected"]) == (500, 400, 100, 0)
    named = "select count(*) from goods where name like 'new %'"
    assert await value(files, named) == 500
    assert await value(files, "select count(*) from goods where version = 2") == 100
    audited = "select count(*) from audit_logs where resource_type = 'Goods' and action = '{}'"
    assert await value(files, audited.format("UPDATE")) == 100
    assert await value(files, audited.format("CREATE")) == 700
    told = await value(files, "select count(*) from byodpp.events() where name like 'goods.%'")
    assert told - events == 500


async def test_an_import_that_nobody_works_on_any_more_is_interrupted(files: TestedApplication) -> None:
    client, key = files.client(), {"Idempotency-Key": "cut"}
    done = await client.post(IMPORT, content="name\na\nb\n", headers=CSV | key)
    assert done.json()["data"]["state"] == "finished"
    # As a process that dies after its first chunk leaves it.
    await value(files, "delete from goods where name = 'b' returning 1")
    await value(
        files,
        "update byodpp.imports set state = 'running', records = 1, created = 1 where key = 'cut' returning 1",
    )
    assert (await client.get(f"{IMPORT}?key=cut")).json()["data"]["state"] == "interrupted"
    async with files.connected.database.system() as transaction:
        row = await transaction.fetchrow("select * from byodpp.imports where key = 'cut'")
        assert row is not None
        lock = f"import\n{row['tenant_id']}\n{row['user_id']}\n{row['resource']}\ncut"
        await transaction.fetchval("select pg_advisory_xact_lock(hashtextextended($1, 0))", lock)
        assert (await client.get(f"{IMPORT}?key=cut")).json()["data"]["state"] == "running"
        twin = await client.post(IMPORT, content="name\na\nb\n", headers=CSV | key)
        assert (twin.status_code, code(twin)) == (409, "idempotency_in_progress")
    again = await client.post(IMPORT, content="name\na\nb\n", headers=CSV | key)
    data = again.json()["data"]
    assert (data["state"], data["records"], data["created"], data["resumed"]) == ("finished", 2, 2, 1)
    assert (await client.get(f"{GOODS}?count=exact")).json()["count"] == 2


@pytest.mark.slow
async def test_the_command_goes_on_with_what_was_interrupted_and_begins_nothing(
    files: TestedApplication, tmp_path: Path
) -> None:
    path = tmp_path / "goods.csv"
    path.write_text("name\na\nb\n")

    async def imported(*words: str) -> tuple[int, str]:
        done = await operated(files, "import", "Goods", path, "--tenant", "acme", *words)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    status, told = await imported("--resume")
    assert (status, "it was never begun" in told) == (1, True), told
    packed = await operated(files, "import", "Goods", tmp_path / "goods.csv.gz", "--tenant", "acme")
    told = " ".join((packed.stdout + packed.stderr).split())
    assert (packed.returncode, "csv or json or ndjson or xml" in told, "xlsx" in told) == (1, True, False), (
        told
    )
    assert (await imported())[0] == 0
    await value(files, "delete from goods where name = 'b' returning 1")
    await value(files, "update byodpp.imports set state = 'running', records = 1, created = 1 returning 1")
    status, told = await imported("--resume")
    assert (status, "behind record 1" in told, "2 created" in told) == (0, True, True), told
    status, told = await imported("--resume")
    assert (status, "it is finished" in told) == (1, True), told
    assert await value(files, "select count(*) from goods") == 2


async def test_a_logic_class_runs_for_every_row(files: TestedApplication) -> None:
    client = files.client()
    done = await client.post("/api/v1/words/import", content="word\none\nbad\ntwo\none\n", headers=CSV)
    assert reasons(done) == {3: {}, 5: {"word": "unique"}}
    assert next(one["error"]["message"] for one in done.json()["data"]["errors"]) == "Not this word"
    rows = (await client.get("/api/v1/words?fields=word,log&sort=id")).json()["data"]
    assert rows == [{"word": "one", "log": "made one"}, {"word": "two", "log": "made two"}]
    heard = [event.data["word"] for event in await files.events() if event.name == "words.created"]
    assert heard == ["one", "two"]


async def test_related_rows_come_with_their_row(files: TestedApplication) -> None:
    client = files.client()
    sent = (
        '{"name":"a","lots":[{"name":"x"},{"name":"y"}]}\n{"name":"b","lots":[{"name":""}]}\n{"name":"c"}\n'
    )
    done = await client.post(IMPORT, content=sent, headers=NDJSON)
    assert done.json()["data"]["created"] == 2, done.text
    assert reasons(done) == {2: {"lots.0.name": "too_short"}}
    assert await value(files, "select count(*) from lots") == 2


async def test_rows_of_a_user_and_keys_made_here(files: TestedApplication) -> None:
    mine, other = files.client(user="ada"), files.client(user="eve")
    done = await mine.post("/api/v1/drawers/import", content="name\na\nb\n", headers=CSV)
    assert done.json()["data"]["created"] == 2, done.text
    rows = (await mine.get("/api/v1/drawers?sort=id")).json()["data"]
    assert [row["name"] for row in rows] == ["a", "b"] and all(len(row["id"]) == 36 for row in rows)
    assert (await other.get("/api/v1/drawers")).json()["data"] == []


async def test_what_only_trying_can_tell_is_told_of_the_right_row(files: TestedApplication) -> None:
    beta = files.client(tenant="beta")
    taken = [5, 17, 18, 63]
    await beta.post("/api/v1/plates/batch", json=[{"number": f"P{one}"} for one in taken])
    sent = "number\n" + "".join(f"P{number}\n" for number in range(100))
    done = await files.client().post("/api/v1/plates/import", content=sent, headers=CSV)
    data = done.json()["data"]
    assert (data["created"], data["rejected"]) == (96, 4), done.text
    assert reasons(done) == {one + 2: {"number": "unique"} for one in taken}


@pytest.mark.parametrize(
    ("words", "field", "expected"),
    [
        ("opperation=create", "opperation", "unknown_parameter"),
        ("operation=delete", "operation", "enum"),
        ("operation=upsert", "on", "required"),
        ("operation=upsert&on=name", "on", "enum"),
        ("on=sku", "on", "conflict"),
        ("atomic=yes", "atomic", "enum"),
        ("separator=;", "separator", "enum"),
        ("atomic=true&atomic=false", "atomic", "repeated"),
        ("ignore=" + "a,," * 600, "ignore", "too_many"),
        ("ignore=%ff", "ignore", "format"),
    ],
)
async def test_options_that_make_no_sense_are_refused(
    files: TestedApplication, words: str, field: str, expected: str
) -> None:
    done = await files.client().post(f"{IMPORT}?{words}", content="name\na\n", headers=CSV)
    assert (done.status_code, code(done)) == (400, "invalid_query")
    assert details(done)[field] == expected


async def test_what_is_no_file_is_refused(files: TestedApplication) -> None:
    client = files.client()
    refused = await client.post(IMPORT, content="name\na\n", headers={"Content-Type": "text/plain"})
    assert (refused.status_code, code(refused)) == (415, "unsupported_media_type")
    packed = await client.post(IMPORT, content=b"x", headers={**CSV, "Content-Encoding": "gzip"})
    assert packed.status_code == 415
    latin = await client.post(IMPORT, content=b"x", headers={"Content-Type": "text/csv; charset=latin-1"})
    assert latin.status_code == 415
    assert (await client.post(IMPORT, headers=CSV)).status_code == 400
    assert (await files.client(role="Viewer").post(IMPORT, content="name\n", headers=CSV)).status_code == 403
    assert (await files.client(role=None).post(IMPORT, content="name\n", headers=CSV)).status_code == 401


async def test_a_file_has_a_bound_of_its_own(byodpp_bench: Bench, blueprint: Blueprint) -> None:
    bounds: dict[str, Any] = {
        "max_body_bytes": 2_000,
        "import_max_bytes": 100_000,
        "import_record_max_bytes": 2_000,
    }
    async with byodpp_bench.application(blueprint, **bounds) as tested:
        client = tested.client()
        sent = "name\n" + "".join(f"{'n' * 50}{number}\n" for number in range(1_000))
        assert (await client.post(IMPORT, content=sent, headers=CSV)).json()["data"]["created"] == 1_000
        large = await client.post(IMPORT, content=sent * 2, headers=CSV)
        assert (large.status_code, code(large)) == (413, "payload_too_large")

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(200):
                yield b"x" * 1_000

        large = await client.post(IMPORT, content=parts(), headers=CSV)
        assert (large.status_code, code(large)) == (413, "payload_too_large")
        sent = f"name,note\na,{'x' * 1_900}\nb,{'x' * 2_100}\nc,y\n"
        done = await client.post(IMPORT, content=sent, headers=CSV)
        assert done.json()["data"]["created"] == 2
        assert [one["error"]["code"] for one in done.json()["data"]["errors"]] == ["payload_too_large"]
