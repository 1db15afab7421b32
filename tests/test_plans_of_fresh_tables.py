"""What names its rows by key finds them by that key, also in a table that PostgreSQL has never counted.

A statement is planned while its table is small. That plan is kept while thousands of rows come, until
PostgreSQL analyses the table: a minute later, where nobody has set another time.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench
from tests.sent_statements import logging_statements

_PARAMETER = re.compile(r"\$(\d+)")
_COMPARED = re.compile(r"\(?(\w+) = ")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


async def lookups(connection: asyncpg.Connection[Any], statement: str, table: str) -> list[set[str]]:
    """Return by which columns the plan that is kept for a statement finds rows of a table, each time."""
    number = max(map(int, _PARAMETER.findall(statement)))
    async with connection.transaction():
        for name, value in (("tenant", "2"), ("user", "1"), ("grants", "{}")):
            await connection.execute("select set_config($1, $2, true)", f"byodpp.{name}", value)
        await connection.execute(
            f"set local plan_cache_mode = force_generic_plan; prepare kept as {statement}"
        )
        plan = await connection.fetchval(
            f"explain (format json) execute kept({', '.join(['null'] * number)})"
        )
        await connection.execute("deallocate kept")
    found = [node for node in nodes(json.loads(plan)[0]["Plan"]) if node.get("Relation Name") == table]
    read = [node for node in found if node["Node Type"] != "ModifyTable"]
    return [set(_COMPARED.findall(node.get("Index Cond", ""))) for node in read]


@pytest.mark.parametrize(
    ("method", "address", "body"),
    [
        ("GET", "/{id}", None),
        ("PATCH", "/{id}", {"count": 1}),
        ("PATCH", "/{id}", {"count": {"$increment": 1}}),
        ("PUT", "/{id}", {"word": "other"}),
        ("DELETE", "/{id}", None),
        ("POST", "/batch", {"operation": "patch", "items": [{"id": "{id}", "count": 2}]}),
        ("POST", "/batch", {"operation": "delete", "items": ["{id}"]}),
        (
            "POST",
            "/batch",
            {"operation": "upsert", "on": ["word"], "items": [{"word": "one", "count": 1}, {"word": "two"}]},
        ),
    ],
)
async def test_a_row_that_is_named_by_its_key_is_found_by_it(
    byodpp_bench: Bench,
    writes: Blueprint,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    address: str,
    body: dict[str, Any] | None,
) -> None:
    sent = logging_statements(monkeypatch)
    async with byodpp_bench.application(writes) as tested:
        client = tested.client()
        row = (await client.post("/api/v1/words", json={"word": "one"})).json()["data"]["id"]
        content = None if body is None else json.loads(json.dumps(body).replace('"{id}"', str(row)))
        with sent.heard() as statements:
            answer = await client.request(method, f"/api/v1/words{address.format(id=row)}", json=content)
            await asyncio.sleep(0)
        assert answer.status_code < 300, answer.text
        connection = await asyncpg.connect(tested.settings.postgres_db_uri)
        try:
            # Many values at once are compared with the table's in one go, as is right while it is small.
            asked = [one for one in statements if '"words"' in one and "ORDINALITY" not in one]
            found = [by for one in asked for by in await lookups(connection, one, "words")]
        finally:
            await connection.close()
    assert found
    assert all("id" in by for by in found), found
