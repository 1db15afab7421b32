"""What is asked of a long audit trail by an index, what an application adds, and who may add entries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

ITEMS = {"name": "Items", "audit": True, "fields": {"name": {"type": "string", "required": True}}}
ADDED = [["userId"], ["action"], ["requestId"]]
TRAIL = {"name": "AuditLogs", "extends": "byodpp:audit/AuditLogs", "indexes": ADDED}
FILL = """
insert into audit_logs (tenant_id, action, resource_type, resource_id, user_id, request_id)
    select $1, case when i = 9000 then 'RARE' else 'CREATE' end, 'Items', i::text, 10 + i % 500,
           'request ' || i
    from generate_series(1, 20000) i
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("plain"), {"include": ["byodpp:audit"], "resources": [ITEMS]})


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("extended"), {"resources": [ITEMS, TRAIL]})


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def long(byodpp_bench: Bench, plain: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(plain) as tested:
        await filled(tested)
        yield tested


async def filled(tested: TestedApplication) -> None:
    connection = await asyncpg.connect(tested.settings.postgres_system_uri)
    try:
        await connection.execute(FILL, (await tested.tenant("acme")).id)
    finally:
        await connection.close()
    connection = await asyncpg.connect(tested.settings.postgres_admin_uri)
    try:
        await connection.execute("analyze audit_logs")
    finally:
        await connection.close()


@asynccontextmanager
async def of_a_request(
    tested: TestedApplication, tenant: int | None
) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A transaction of the role that answers requests."""
    connection = await asyncpg.connect(tested.settings.postgres_db_uri)
    try:
        async with connection.transaction():
            if tenant is not None:
                await connection.execute(f"set local byodpp.tenant = '{tenant}'")
            yield connection
    finally:
        await connection.close()


async def plan_of(tested: TestedApplication, condition: str) -> str:
    tenant = (await tested.tenant("acme")).id
    async with of_a_request(tested, tenant) as connection:
        where = f"tenant_id = {tenant} and {condition}"
        rows = await connection.fetch(f"explain select id from audit_logs where {where} order by id limit 20")
    return "\n".join(row[0] for row in rows)


async def found(tested: TestedApplication, query: str) -> list[str]:
    answer = await tested.client(tenant="acme").get(f"/api/v1/audit-logs?{query}")
    assert answer.status_code == 200, answer.text
    return [one["resourceId"] for one in answer.json()["data"]]


async def test_entries_of_a_row_are_found_by_an_index(long: TestedApplication) -> None:
    plan = await plan_of(long, "resource_type = 'Items' and resource_id = '77'")
    assert "audit_logs_resource_id_resource_type_id_idx" in plan, plan


async def test_entries_are_asked_for_by_user_action_and_request_without_an_index_of_these(
    long: TestedApplication,
) -> None:
    assert "audit_logs_action" not in await plan_of(long, "action = 'RARE'")
    assert "audit_logs_user" not in await plan_of(long, "user_id = 77")
    assert "audit_logs_request" not in await plan_of(long, "request_id = 'request 77'")
    assert await found(long, "filter[action]=RARE") == ["9000"]
    assert await found(long, "filter[userId]=77&limit=2") == ["67", "567"]
    assert await found(long, "filter[requestId]=request 77") == ["77"]
    assert await found(long, "filter[resourceType]=Items&filter[resourceId]=77") == ["77"]


async def test_an_application_asks_for_more_indexes_where_it_extends_the_trail(
    byodpp_bench: Bench, extended: Blueprint
) -> None:
    async with byodpp_bench.application(extended) as tested:
        await filled(tested)
        assert "audit_logs_action_id_idx" in await plan_of(tested, "action = 'RARE'")
        assert "audit_logs_user_id_id_idx" in await plan_of(tested, "user_id = 77")
        assert "audit_logs_request_id_id_idx" in await plan_of(tested, "request_id = 'request 77'")
        assert await found(tested, "filter[action]=RARE") == ["9000"]


@pytest.mark.parametrize("tenant", [None, "beta", "nobody"])
async def test_an_entry_is_refused_by_the_database_where_its_tenant_is_not_that_of_the_transaction(
    long: TestedApplication, tenant: str | None
) -> None:
    acme = (await long.tenant("acme")).id
    whose = {None: None, "nobody": -1, "beta": (await long.tenant("beta")).id}[tenant]
    sql = "insert into audit_logs (tenant_id, action) values ($1, 'X')"
    async with of_a_request(long, whose) as connection:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedObjectError)):
            async with connection.transaction():
                await connection.execute(sql, -1 if whose == -1 else acme)
    async with of_a_request(long, acme) as connection:
        await connection.execute(sql, acme)  # what the transaction before had set is gone, and so is this
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(
                "insert into audit_logs (tenant_id, action, result) values ($1, 'X', 'fine')", acme
            )
