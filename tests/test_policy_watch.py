"""Policies follow the rows that are stored, and survive a database that is in trouble."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from byodpp.authorization.watch import record_change
from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.patience import answered, soon, turns
from tests.worlds import build

THINGS = "/api/v1/things"
MANIFEST = {
    "resources": [
        {
            "name": "Things",
            "fields": {"name": {"type": "string"}},
            # A role that policies may name, and that may do nothing that is tested here.
            "access": {"read": ["Admin"], "write": ["Admin"], "delete": ["Admin", "Viewer"]},
        }
    ],
    "include": ["byodpp:access"],
}
ALLOW = (
    "insert into policies (tenant_id, subject, object, action, effect)"
    " values ($1, 'Viewer', 'Things', 'read', 'allow')"
)
#: After which `/health` tells what a look has found: it tells what it has found itself for half a second.
FRESH = 2.0


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("watched"), MANIFEST)


@pytest_asyncio.fixture(loop_scope="session")
async def watched(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    # Many write at a time here, and on a busy machine the last of them wait for long.
    async with byodpp_bench.application(blueprint, pool_acquire_timeout_seconds=60) as tested:
        yield tested


async def test_rows_that_are_counted_are_in_force_within_a_second(watched: TestedApplication) -> None:
    viewer, acme = watched.client(role="Viewer"), await watched.tenant("acme")
    assert (await viewer.get(THINGS)).status_code == 403
    async with watched.connected.database.system() as transaction:
        await transaction.execute(ALLOW, acme.id)
        await record_change(transaction, acme.id)
    await soon(answered(viewer, THINGS), 200)


async def test_a_tenants_first_policy_is_in_force_also_when_another_tenant_goes_at_that_moment(
    watched: TestedApplication,
) -> None:
    acme, beta = await watched.tenant("acme"), await watched.tenant("beta")
    async with watched.connected.database.system() as transaction:
        await record_change(transaction, beta.id)
    await turns(0.7)  # until every process has seen that
    viewer = watched.client(role="Viewer")
    assert (await viewer.get(THINGS)).status_code == 403
    async with watched.connected.database.system() as transaction:
        await transaction.execute("delete from byodpp.access_versions where tenant_id = $1", beta.id)
        await transaction.execute(ALLOW, acme.id)
        await record_change(transaction, acme.id)
    await soon(answered(viewer, THINGS), 200)


async def test_a_policy_that_was_rolled_back_is_never_in_force(watched: TestedApplication) -> None:
    admin, viewer = watched.client(), watched.client(role="Viewer")
    version = watched.connected.authorizer.version
    rule = {"operation": "create", "resource": "Policies", "data": {"subject": "Viewer", "object": "Things"}}
    refused = {"operation": "read", "resource": "Things", "id": 1}
    assert (await admin.post("/api/v1/batch", json=[rule, refused])).status_code == 404
    assert (await viewer.get(THINGS)).status_code == 403
    assert watched.connected.authorizer.version == version


async def test_policies_stay_in_force_while_they_cannot_be_read(
    watched: TestedApplication, caplog: pytest.LogCaptureFixture
) -> None:
    admin, viewer = watched.client(), watched.client(role="Viewer")
    rule = {"subject": "Viewer", "object": "Things", "action": "read"}
    assert (await admin.post("/api/v1/policies", json=rule)).status_code == 201
    assert (await viewer.get(THINGS)).status_code == 200
    async with _owner(watched) as owner:
        await owner.execute("alter table byodpp.access_versions rename to gone")
        await soon(partial(outages, caplog), 1)
        await turns(0.7)  # for another look, which fails as well
        assert (await viewer.get(THINGS)).status_code == 200
        await owner.execute("alter table byodpp.gone rename to access_versions")
    assert await outages(caplog) == 1, "an outage is told once"
    await turns(0.6)
    assert (await viewer.get(THINGS)).status_code == 200


async def outages(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.name == "byodpp.authorization.watch" for record in caplog.records)


async def test_health_tells_that_policies_are_not_looked_at(
    watched: TestedApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byodpp.recurring._PATIENCE_SECONDS", 0.0)

    async def health() -> tuple[str, dict[str, bool]]:
        document = (await watched.client(role=None).get("/health")).json()
        return document["status"], {one["name"]: one["healthy"] for one in document["checks"]}

    checks = {"database": True, "identity": True, "background": True, "tenants": True}
    assert await health() == ("healthy", checks)
    async with _owner(watched) as owner:
        await owner.execute("alter table byodpp.access_versions rename to gone")
        await soon(health, ("degraded", {**checks, "background": False}), FRESH)
        await owner.execute("alter table byodpp.gone rename to access_versions")
    await soon(health, ("healthy", checks), FRESH)


async def test_a_burst_of_policy_writes_by_many_loses_none(watched: TestedApplication) -> None:
    admin, beta = watched.client(), watched.client(tenant="beta")
    for client in (admin, beta):
        for number in range(20):
            assert (await client.post("/api/v1/roles", json={"name": f"Role{number}"})).status_code == 201
    rules = [{"subject": f"Role{number}", "object": "Things", "action": "read"} for number in range(20)]
    answers = await asyncio.gather(
        *(client.post("/api/v1/policies", json=rule) for rule in rules for client in (admin, beta))
    )
    assert {one.status_code for one in answers} == {201}
    for number in (0, 19):
        for tenant in ("acme", "beta"):
            client = watched.client(role=f"Role{number}", tenant=tenant)
            assert (await client.get(THINGS)).status_code == 200
    assert (await watched.client(role="Role20").get(THINGS)).status_code == 403


@asynccontextmanager
async def _owner(watched: TestedApplication) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(watched.settings.postgres_admin_uri)
    try:
        yield connection
    finally:
        await connection.close()
