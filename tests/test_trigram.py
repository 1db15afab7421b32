"""Indexes of parts of texts: made where the server has pg_trgm, missed by nobody where it has not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from glob import glob
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from byodpp.cli import main
from byodpp.database import SessionContext
from byodpp.embedded import SUPERUSER, EmbeddedPostgres, RunningServer
from byodpp.exceptions import ManifestError
from byodpp.manifest import load_manifest
from byodpp.migrations import synchronise, wanted_schema
from byodpp.migrations.planning import plan_for
from byodpp.query import judge, parse
from byodpp.registry import Registry
from byodpp.row_security import mark_leakproof
from byodpp.statements import Statements
from byodpp.tables import Tables
from byodpp.tables.roles import APP, OWNER, provision_database

ROWS = 5_000
THINGS = {
    "name": "Things",
    "fields": {
        "name": {"type": "string", "index": "trigram"},
        "remark": {"type": "text", "filterable": True},
    },
}
#: A local installation that has it; the embedded wheel has not.
WITH_TRIGRAMS = next(
    (
        str(Path(found).parents[5] / "lib/postgresql" / Path(found).parts[-3] / "bin")
        for found in sorted(glob("/usr/share/postgresql/*/extension/pg_trgm.control"), reverse=True)
    ),
    None,
)
needs_trigrams = pytest.mark.skipif(
    WITH_TRIGRAMS is None, reason="needs a PostgreSQL with pg_trgm, e.g. Debian's postgresql-15"
)


def registry_in(folder: Path, definition: Any = None) -> Registry:
    (folder / "resources.json").write_text(json.dumps({"resources": [definition or THINGS]}))
    return load_manifest(folder)


async def made(server: RunningServer, registry: Registry) -> asyncpg.Connection[Any]:
    """Make a database of the manifest; return a connection that may do anything in it."""
    admin = await asyncpg.connect(server.uri(SUPERUSER, "postgres"))
    await admin.execute(
        f"create database things owner {OWNER} template template0 lc_collate 'C' lc_ctype 'C.UTF-8'"
    )
    await admin.close()
    connection = await asyncpg.connect(server.uri(SUPERUSER, "things"))
    await provision_database(connection)
    await synchronise(registry, server.uri(OWNER, "things"))
    return connection


async def indexes(connection: asyncpg.Connection[Any]) -> list[str]:
    rows = await connection.fetch("select indexdef from pg_indexes where tablename = 'things'")
    return [row["indexdef"] for row in rows]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with EmbeddedPostgres(tmp_path, durable=False, pg_bin=WITH_TRIGRAMS).running() as running:
        yield running


@needs_trigrams
async def test_parts_of_a_text_are_found_by_their_index_as_the_app_role(
    server: RunningServer, tmp_path: Path
) -> None:
    registry = registry_in(tmp_path)
    owner = await made(server, registry)
    app = await asyncpg.connect(server.uri(APP, "things"))
    try:
        assert any("gin_trgm_ops" in one for one in await indexes(owner))
        assert not (await plan_for(wanted_schema(registry), owner)).steps
        await mark_leakproof(owner)
        await owner.execute(
            "insert into things (tenant_id, name, remark) select 1 + i % 2, n, n"
            f" from generate_series(1, {ROWS}) i, lateral (select 'Größe ' || md5(i::text) as n) s"
        )
        await owner.execute("vacuum analyze things")  # what was just written waits beside the index
        part = await owner.fetchval("select substr(name, 9, 7) from things where id = 2")
        for query in (
            f"[contains]={part}",
            f"[ilike]={part.upper()}",
            f"[like]=%25{part}%25",
            "[ilike]=GRÖSSE",
        ):
            indexed, plan = await asked(app, registry, f"filter[name]{query}")
            plain, _ = await asked(app, registry, f"filter[remark]{query}")
            assert indexed == plain, query
            assert any("trigram" in str(node.get("Index Name")) for node in plan), json.dumps(plan[:6])
    finally:
        await app.close()
        await owner.close()


async def asked(
    app: asyncpg.Connection[Any], registry: Registry, text: str
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return what a list finds, and the nodes of its plan, as a request runs it."""
    resource = registry.get("Things")
    query = judge(parse(f"{text}&fields=id&count=none"), resource, registry, None)
    compiled = Statements(registry, Tables.build(registry)).page(
        resource, query, None, context_in_statement=False
    )
    arguments = compiled.arguments(query.values, None, SessionContext(tenant_id=1))
    async with app.transaction():
        await app.execute("set local byodpp.tenant = '1'; set local plan_cache_mode = force_custom_plan")
        found = await app.fetchrow(compiled.sql, *arguments)
        # Else so small a table is read in the order of the page.
        await app.execute("set local enable_seqscan = off; set local enable_indexscan = off")
        plan = await app.fetchval(f"explain (format json) {compiled.sql}", *arguments)
    assert found is not None
    return json.loads(found["data"]), list(nodes(json.loads(plan)[0]["Plan"]))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


async def test_a_server_without_the_extension_misses_nothing(tmp_path: Path) -> None:
    registry = registry_in(tmp_path)
    async with EmbeddedPostgres(tmp_path, durable=False).running() as server:
        owner = await made(server, registry)
        try:
            available = await owner.fetchval(
                "select count(*) from pg_available_extensions where name = 'pg_trgm'"
            )
            if available:
                pytest.skip("this embedded server has pg_trgm")
            assert not any("trgm" in one for one in await indexes(owner))
            assert not (await plan_for(wanted_schema(registry), owner)).steps
            app = await asyncpg.connect(server.uri(APP, "things"))
            await owner.execute("insert into things (tenant_id, name) values (1, 'Arc lamp'), (1, 'Stool')")
            found, _ = await asked(app, registry, "filter[name][ilike]=LAMP")
            assert [row["id"] for row in found] == [1]
            await app.close()
        finally:
            await owner.close()


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ({"type": "integer", "index": "trigram"}, "no trigrams"),
        ({"type": "string", "index": "trigrams"}, "trigram"),
    ],
)
def test_only_texts_have_trigrams(tmp_path: Path, field: dict[str, Any], told: str) -> None:
    with pytest.raises(ManifestError) as caught:
        registry_in(tmp_path, {"name": "Things", "fields": {"name": field}})
    [problem] = caught.value.problems
    assert problem.path.endswith("fields.name.index") and told in str(caught.value)


def test_check_says_what_the_embedded_server_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry_in(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["--app", str(tmp_path), "check"])
    assert ended.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "the trigram index of Things.name needs pg_trgm" in told
