"""Exports: one snapshot of what the caller may see, in files that tell whether they are whole."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from defusedxml.ElementTree import fromstring

from byodpp.authentication.revocations import BUMP
from byodpp.bootstrap import Blueprint
from byodpp.exceptions import Unauthenticated
from byodpp.testing import Bench, TestedApplication
from byodpp.transfer import exports, imports, xlsx
from tests.patience import soon
from tests.transfer_world import FILE_LOGICS, FILES, GOODS, NDJSON, lines_of
from tests.worlds import build

EXPORT = f"{GOODS}/export"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("files"), FILES, FILE_LOGICS)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def files(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """An application with some goods of two tenants; nothing here changes them."""
    async with byodpp_bench.application(blueprint) as tested:
        client = tested.client()
        group = (await client.post("/api/v1/groups", json={"name": "G"})).json()["data"]["id"]
        goods = [
            {
                "name": "Table",
                "price": 80,
                "groupId": group,
                "tags": ["wood", 'a"b'],
                "note": "old; oak, big",
            },
            {"name": "Chair", "price": 120.5, "pin": "open-sesame", "secret": "s", "note": ""},
            {"name": "=1+1", "price": 1, "note": "two\nlines", "extra": {"a": [1, None]}},
            {"name": "'quoted", "note": "@SUM(A1)"},
        ]
        made = await client.post(f"{GOODS}/batch", json=goods)
        assert made.status_code == 201, made.text
        lot = {"name": "L", "goodId": made.json()["data"][0]["id"]}
        assert (await client.post("/api/v1/lots", json=lot)).status_code == 201
        await tested.client(tenant="beta").post(GOODS, json={"name": "theirs"})
        yield tested


async def exported(files: TestedApplication, query: str, **who: Any) -> str:
    answer = await files.client(**who).get(f"{EXPORT}?{query}")
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_ndjson_is_what_a_list_shows_and_a_closing_record(files: TestedApplication) -> None:
    listed = (await files.client().get(f"{GOODS}?sort=-name")).json()["data"]
    found = lines_of(await exported(files, "sort=-name"))
    assert found == [*listed, {"$end": {"rows": 4}}]
    assert lines_of(await exported(files, "sort=-name&closing=false")) == listed


async def test_csv_has_a_line_of_names_and_no_formulas(files: TestedApplication) -> None:
    text = await exported(files, "format=csv&fields=name,price,note,tags,extra&sort=price:asc:nullsFirst")
    table = list(csv.reader(io.StringIO(text, newline="")))
    assert table == [
        ["name", "note", "price", "extra", "tags"],
        ["''quoted", "'@SUM(A1)", "", "", ""],
        ["'=1+1", "two\nlines", "1.00", '{"a": [1, null]}', ""],
        ["Table", "old; oak, big", "80.00", "", '["wood", "a\\"b"]'],
        ["Chair", "", "120.50", "", ""],
        ["#end", "4"],
    ]
    assert '"Chair","",120.50,,' in text  # a text of no length is not the same as none


async def test_json_and_xml_are_documents(files: TestedApplication) -> None:
    text = await exported(files, "format=json&fields=name,note&sort=name")
    document = json.loads(text)
    assert (document["resource"], document["count"], len(document["data"])) == ("Goods", 4, 4)
    assert document["data"][0] == {"name": "'quoted", "note": "@SUM(A1)"}
    root = fromstring(await exported(files, "format=xml&fields=name,note,price,tags&sort=name"))
    assert root.attrib == {"resource": "Goods"} and len(root) == 4
    shown = [{field.tag: field.text for field in row} for row in root]
    assert shown[1] == {"name": "=1+1", "note": "two\nlines", "price": "1.00", "tags": None}
    assert json.loads(shown[3]["tags"] or "") == ["wood", 'a"b']
    nil = "{http://www.w3.org/2001/XMLSchema-instance}nil"
    assert [field.attrib for field in root[1]] == [{}, {}, {}, {nil: "true"}]
    for cut in (text[:-3], text[: len(text) // 2]):
        with pytest.raises(ValueError):
            json.loads(cut)


async def test_a_workbook_holds_the_rows_and_no_formulas(files: TestedApplication) -> None:
    answer = await files.client().get(f"{EXPORT}?format=xlsx&sort=name&fields=name,price,flag,note,tags")
    assert answer.headers["content-disposition"].endswith('.xlsx"')
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert "xl/workbook.xml" in archive.namelist()
        sheet = fromstring(archive.read("xl/worksheets/sheet1.xml"))
        for name in archive.namelist():
            fromstring(archive.read(name))
    main = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    assert sheet.findall(f".//{main}f") == []
    rows = [
        [(cell.get("t"), "".join(cell.itertext())) for cell in row] for row in sheet.findall(f".//{main}row")
    ]
    assert [text for _, text in rows[0]] == ["name", "note", "price", "flag", "tags"]
    assert rows[2] == [
        ("inlineStr", "=1+1"), ("inlineStr", "two\nlines"), (None, "1.00"), ("b", "1"), (None, ""),
    ]  # fmt: skip
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(answer.content[:-10]))


def test_a_sheet_that_is_full_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx, "MOST_ROWS", 4)
    book = xlsx.Workbook(["a&b"], "Goods")
    book.begin()
    cells = [f"<row><c><v>{number}</v></c></row>" for number in range(7)]
    content = book.add(cells[:5]) + book.add(cells[5:]) + book.end()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sheets = [archive.read(f"xl/worksheets/sheet{number}.xml").count(b"<row>") for number in (1, 2, 3)]
        assert b"Goods 3" in archive.read("xl/workbook.xml")
    assert sheets == [4, 4, 2]


async def test_the_format_is_chosen_by_name_or_by_accept(files: TestedApplication) -> None:
    client = files.client()
    plain = await client.get(f"{EXPORT}?fields=name")
    assert plain.headers["content-type"] == "application/x-ndjson"
    assert plain.headers["content-disposition"].startswith('attachment; filename="goods-')
    table = await client.get(f"{EXPORT}?fields=name", headers={"Accept": "text/csv"})
    assert table.headers["content-type"] == "text/csv" and table.text.startswith("name\r\n")
    refused = await client.get(EXPORT, headers={"Accept": "image/png"})
    assert refused.status_code == 406
    assert (await client.head(EXPORT)).status_code == 200


async def test_the_query_is_that_of_lists_without_pages(files: TestedApplication) -> None:
    names = [row["name"] for row in lines_of(await exported(files, "filter[price][gte]=80&sort=name"))[:-1]]
    assert names == ["Chair", "Table"]
    assert len(lines_of(await exported(files, "search=oak"))) == 2
    rows = lines_of(await exported(files, "filter[name]=Table&include=group,lots&fields=name"))
    assert rows[0]["group"]["name"] == "G" and rows[0]["lots"][0]["name"] == "L"
    client = files.client()
    for words in ("limit=5", "offset=1", "page=2", "cursor=x", "count=exact", "aggregate=count", "nam=x"):
        refused = await client.get(f"{EXPORT}?{words}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_query"), words
    for words in ("format=pdf", "closing=perhaps", "format=csv&format=csv", "format=csv&include=group"):
        assert (await client.get(f"{EXPORT}?{words}")).status_code == 400, words
    assert (await client.get(f"{EXPORT}?filter[nam]=x")).status_code == 400


async def test_rows_and_fields_that_may_not_be_read_are_not_exported(files: TestedApplication) -> None:
    rows = lines_of(await exported(files, "sort=id", role="Viewer"))[:-1]
    assert [sorted(row) for row in rows] == [["id", "name", "price"]] * 2
    assert [row["name"] for row in rows] == ["Table", "=1+1"]  # the others are not below 100
    text = await exported(files, "format=csv", role="Viewer")
    assert text.splitlines()[0] == "id,name,price"
    hidden = await files.client(role="Viewer").get(f"{EXPORT}?filter[secret]=s")
    unknown = await files.client(role="Viewer").get(f"{EXPORT}?filter[secrets]=s")
    assert hidden.status_code == unknown.status_code == 400
    everything = await exported(files, "")
    assert "open-sesame" not in everything and "pin" not in everything  # write-only
    assert "theirs" not in everything


async def test_exports_of_controlled_fields_are_in_the_audit_trail(files: TestedApplication) -> None:
    async def noted() -> list[Any]:
        await files.connected.trail.drain()
        async with files.connected.database.system() as transaction:
            found = (
                "select action from audit_logs where action ilike '%export%' or changes::text like '%secret%'"
            )
            return [row["action"] for row in await transaction.fetch(found)]

    before = len(await noted())
    await exported(files, "fields=name")
    assert len(await noted()) == before
    await exported(files, "fields=name,secret")
    assert len(await noted()) == before + 1


async def test_who_may_not_list_may_not_export(files: TestedApplication) -> None:
    assert (await files.client(role="Nobody").get(EXPORT)).status_code == 403
    assert (await files.client(role=None).get(EXPORT)).status_code == 401
    masked = await files.client().get("/api/v1/masked/export")  # a logic class decides what its list shows
    assert masked.status_code in (400, 404)
    theirs = lines_of(await exported(files, "fields=name", tenant="beta"))
    assert theirs == [{"name": "theirs"}, {"$end": {"rows": 1}}]


async def test_tenants_are_kept_apart_by_row_level_security_alone(
    byodpp_bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fenced = build(tmp_path_factory.mktemp("fence"), FILES, FILE_LOGICS, enforce_scope=False)
    async with byodpp_bench.application(fenced) as tested:
        await tested.client().post(f"{GOODS}/import", content='{"name":"ours"}\n', headers=NDJSON)
        await tested.client(tenant="beta").post(
            f"{GOODS}/import", content='{"name":"theirs"}\n', headers=NDJSON
        )
        assert lines_of(await exported(tested, "fields=name"))[:-1] == [{"name": "ours"}]


async def test_an_empty_export_is_a_whole_file(files: TestedApplication) -> None:
    assert lines_of(await exported(files, "filter[name]=none")) == [{"$end": {"rows": 0}}]
    assert await exported(files, "filter[name]=none&format=csv&fields=name") == "name\r\n#end,0\r\n"


async def test_an_export_is_one_snapshot_and_memory_does_not_grow(
    byodpp_bench: Bench, blueprint: Blueprint
) -> None:
    async with byodpp_bench.application(blueprint) as tested:
        client = tested.client()
        sent = "name,note\n" + "".join(f"n{number},{'x' * 200}\n" for number in range(20_000))
        await client.post(f"{GOODS}/import", content=sent, headers={"Content-Type": "text/csv"})
        parts: list[bytes] = []
        resource = tested.blueprint.registry.get("Goods", "v1")
        transfers = tested.connected.transfers(resource)
        stream = export_stream(tested, transfers)
        parts.append((await anext(stream))[0])
        # What is written from now on belongs to no snapshot that is being read.
        await client.post(f"{GOODS}/import", content='{"name":"late"}\n', headers=NDJSON)
        async with tested.connected.database.system() as transaction:
            await transaction.execute("delete from goods where id % 2 = 0")
        async for part, _ in stream:
            parts.append(part)
        rows = lines_of(b"".join(parts).decode())
        assert rows[-1] == {"$end": {"rows": 20_000}} and len(rows) == 20_001
        assert max(map(len, parts)) < 1_000_000


def export_stream(tested: TestedApplication, transfers: Any, principal: Any = None) -> Any:
    from byodpp.authentication import Principal
    from byodpp.calls import Origin
    from byodpp.transfer.exports import Wanted
    from byodpp.transfer.formats import Format
    from byodpp.transfer.queries import export_query

    principal = principal or Principal(
        tenant_id=1, session_tenant_id=1, home_tenant_id=1, roles=frozenset({"Admin"}), anonymous=False
    )
    lookup = tested.connected.authorizer.lookup(principal)
    reader = tested.connected.service.parts.store.reader
    query = export_query(b"", transfers.resource, reader, lookup, 1, Format.NDJSON)
    wanted = Wanted(
        origin=Origin(request_id="x", correlation_id="x"),
        principal=principal,
        resource=transfers.resource,
        query=query,
        lookup=lookup,
        format=Format.NDJSON,
    )
    return tested.connected.exporter.stream(wanted)


async def test_an_export_that_nobody_reads_on_gives_everything_back(
    byodpp_bench: Bench, blueprint: Blueprint
) -> None:
    async with byodpp_bench.application(
        blueprint, transfer_sessions=1, pool_acquire_timeout_seconds=1.0
    ) as tested:
        client = tested.client()
        sent = "name\n" + "".join(f"n{number}\n" for number in range(5_000))
        await client.post(f"{GOODS}/import", content=sent, headers={"Content-Type": "text/csv"})
        resource = tested.blueprint.registry.get("Goods", "v1")
        stream = export_stream(tested, tested.connected.transfers(resource))
        await anext(stream)
        busy = await client.get(EXPORT)
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "5")
        await stream.aclose()
        assert (await client.get(EXPORT)).status_code == 200

        async def left_open() -> object:
            async with tested.connected.database.system() as transaction:
                return await transaction.fetchval(
                    "select count(*) from pg_stat_activity where datname = current_database()"
                    " and state like 'idle in transaction%' and pid <> pg_backend_pid()"
                )

        await soon(left_open, 0, 5.0)  # watches have short ones all the time; what leaks, stays


async def test_an_export_that_takes_too_long_is_cut(byodpp_bench: Bench, blueprint: Blueprint) -> None:
    async with byodpp_bench.application(blueprint, export_seconds=1) as tested:
        client = tested.client()
        sent = "name\n" + "".join(f"n{number}\n" for number in range(5_000))
        await client.post(f"{GOODS}/import", content=sent, headers={"Content-Type": "text/csv"})
        resource = tested.blueprint.registry.get("Goods", "v1")
        stream = export_stream(tested, tested.connected.transfers(resource))
        with pytest.raises(Exception, match="at most 1 seconds"):
            async for _ in stream:
                await asyncio.sleep(1.1)


async def _goods(tested: TestedApplication, count: int) -> None:
    sent = "name\n" + "".join(f"n{number}\n" for number in range(count))
    made = await tested.client().post(f"{GOODS}/import", content=sent, headers={"Content-Type": "text/csv"})
    assert made.json()["data"]["created"] == count, made.text


@pytest.mark.parametrize("what", ["tenant", "user", "token"])
async def test_an_export_ends_when_its_caller_is_locked_out(
    byodpp_bench: Bench, blueprint: Blueprint, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    async with byodpp_bench.application(blueprint) as tested:
        await _goods(tested, 2_000)
        monkeypatch.setattr(exports, "STANDING_SECONDS", 0.0)
        authenticator = tested.connected.authenticator
        principal = await authenticator.authenticate(tested.client(user="ada").headers["authorization"])
        stream = export_stream(
            tested, tested.connected.transfers(tested.blueprint.registry.get("Goods")), principal
        )
        await anext(stream)
        async with tested.connected.database.system() as transaction:
            if what == "tenant":
                await transaction.execute("update tenants set status = 'deactivated' where slug = 'acme'")
            elif what == "user":
                sql = "update users set status = 'deactivated' where id = $1"
                await transaction.execute(sql, principal.user_id)
            else:
                sql = (
                    "insert into revocations (tenant_id, kind, subject, expires_at, created_at)"
                    " values ($1, 'token', $2, now() + interval '1 hour', now())"
                )
                assert principal.claims is not None
                await transaction.execute(sql, principal.home_tenant_id, principal.claims.token_id)
                await transaction.execute(BUMP)
        await tested.connected.revocation_watch.refresh()
        authenticator.forget()
        with pytest.raises(Unauthenticated):
            async for _ in stream:
                pass


async def test_an_import_ends_when_its_caller_is_locked_out_and_can_be_gone_on_with(
    byodpp_bench: Bench, blueprint: Blueprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk = imports.Importer._chunk

    async with byodpp_bench.application(blueprint) as tested:

        async def then_suspended(self: Any, *rest: Any) -> None:
            await chunk(self, *rest)
            async with tested.connected.database.system() as transaction:
                await transaction.execute("update tenants set status = 'deactivated' where slug = 'acme'")
            tested.connected.authenticator.forget()

        sent = "name\n" + "".join(f"n{number}\n" for number in range(5_000))
        headers = {"Content-Type": "text/csv", "Idempotency-Key": "one"}
        with monkeypatch.context() as patched:
            patched.setattr(imports, "STANDING_SECONDS", 0.0)
            patched.setattr(imports.Importer, "_chunk", then_suspended)
            cut = await tested.client().post(f"{GOODS}/import", content=sent, headers=headers)
        assert cut.status_code == 401, cut.text
        async with tested.connected.database.system() as transaction:
            await transaction.execute("update tenants set status = 'activated' where slug = 'acme'")
        tested.connected.authenticator.forget()
        found = (await tested.client().get(f"{GOODS}/import?key=one")).json()["data"]
        assert (found["state"], found["records"]) == ("interrupted", 4_000)
        rest = await tested.client().post(f"{GOODS}/import", content=sent, headers=headers)
        assert rest.json()["data"]["created"] == 5_000
        assert (await tested.client().get(f"{GOODS}?count=exact&limit=1")).json()["count"] == 5_000


def test_a_file_that_was_cut_is_no_whole_file() -> None:
    whole = '{"name":"a"}\n{"name":"b"}\n{"$end":{"rows":2}}\n'
    for end in range(len(whole) - 2):
        lines = whole[:end].splitlines()
        assert not lines or lines[-1] != '{"$end":{"rows":2}}'
    assert json.loads(whole.splitlines()[-1]) == {"$end": {"rows": 2}}
