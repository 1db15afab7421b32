"""Tenants counted together, class by class: for operators, by consent, and never so few that one is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.database import Database
from byodpp.exceptions import PlaceUnavailable
from byodpp.tenant_life import Wanted
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

BOXES, CLASSES = "/api/v1/boxes", "/api/v1/tenant-classes"
ANALYTICS = f"{CLASSES}/analytics"
SLUGS = ("acme", "beta", "gamma", "delta", "epsilon", "zeta")
MANIFEST = {
    "resources": [
        {
            "name": "Boxes",
            "fields": {"name": {"type": "string"}, "code": {"type": "string", "encrypted": True}},
            "access": {"read": ["*"], "write": ["*"]},
        }
    ],
    "include": ["byodpp:tenancy", "byodpp:access"],
}
WITHHELD = {"tenants": None, "averageUsers": None, "totalStorageBytes": None, "measuredAt": None}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("analytics"), MANIFEST)


@pytest_asyncio.fixture(loop_scope="session")
async def tested(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(
        blueprint, storage_seconds=86_400, places=("north@eu",), tenant_settle_seconds=0
    ) as application:
        await application.connected.quota.looks.stop()  # it is measured when a test says so
        yield application


def operator(tested: TestedApplication, **headers: str) -> httpx2.AsyncClient:
    return tested.client(role="Admin", tenant="platform", user="root", headers=headers)


async def put_together(tested: TestedApplication, *slugs: str) -> int:
    """Make a class whose tenants may be counted, with these tenants; the n-th has n users and n boxes."""
    made = await operator(tested).post(CLASSES, json={"name": "standard", "analytics": True})
    assert made.status_code == 201, made.text
    kind: int = made.json()["data"]["id"]
    for number, slug in enumerate(slugs, 1):
        await tested.add_tenant(slug)
        await change(tested, slug, tenantClassId=kind)
        await agree(tested, slug)
        for user in range(number):
            answer = await tested.client(tenant=slug, user=f"u{user}").post(BOXES, json={"name": "b" * 100})
            assert answer.status_code == 201, answer.text
    return kind


async def agree(tested: TestedApplication, slug: str) -> None:
    id = (await tested.tenant(slug)).id
    client = tested.client(tenant=slug, user="u0")
    answer = await client.patch(f"/api/v1/tenants/{id}", json={"analytics": True})
    assert answer.status_code == 200, answer.text


async def change(tested: TestedApplication, slug: str, **values: Any) -> None:
    id = (await tested.tenant(slug)).id
    answer = await operator(tested).patch(f"/api/v1/tenants/{id}", json=values)
    assert answer.status_code == 200, answer.text


async def told(tested: TestedApplication) -> Any:
    answer = await operator(tested).get(ANALYTICS)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_a_class_is_told_in_figures_and_no_tenant_in_names(tested: TestedApplication) -> None:
    await put_together(tested, *SLUGS)
    assert await tested.connected.quota.meter.measure(now=True)  # no class has a quota: one is counted
    answer = await told(tested)
    (found,) = answer["classes"]
    assert answer == {"classes": [found], "away": []}
    assert (found["tenantClass"], found["tenants"], found["averageUsers"]) == ("standard", 6, 3.5)
    assert found["measuredAt"].endswith("Z")
    async with tested.connected.database.system() as transaction:
        stored = await transaction.fetchval("select sum(bytes) from byodpp.tenant_storage")
    assert found["totalStorageBytes"] == stored > 21 * 100
    whole = (await operator(tested).get(ANALYTICS)).text
    assert not [slug for slug in SLUGS if slug in whole]


async def test_who_objects_is_suspended_or_of_another_class_is_not_counted(tested: TestedApplication) -> None:
    await put_together(tested, *SLUGS)
    own = (await tested.tenant("zeta")).id
    zeta = tested.client(tenant="zeta", user="u0")
    answer = await zeta.patch(f"/api/v1/tenants/{own}", json={"analytics": False})
    assert answer.status_code == 200, answer.text
    (found,) = (await told(tested))["classes"]
    assert (found["tenants"], found["averageUsers"]) == (5, 3.0)
    id = (await tested.tenant("acme")).id
    assert (await operator(tested).post(f"/api/v1/tenants/{id}/deactivate")).status_code == 200
    assert await told(tested) == {"classes": [{"tenantClass": "standard", **WITHHELD}], "away": []}


async def test_only_a_tenant_itself_agrees_and_not_by_leaving_out(tested: TestedApplication) -> None:
    id = (await tested.tenant("acme")).id
    url, acme = f"/api/v1/tenants/{id}", tested.client(tenant="acme", user="u0")
    row = (await acme.get(url)).json()["data"]
    assert row["analytics"] is False
    for client in (operator(tested), operator(tested, **{"X-Tenant": "acme"})):
        for answer in (
            await client.patch(url, json={"analytics": True}),
            await client.put(url, json={"name": row["name"], "slug": row["slug"], "analytics": True}),
        ):
            assert answer.status_code == 403, answer.text
            assert answer.json()["error"]["details"][0]["field"] == "analytics"
    made = {"name": "New", "slug": "new", "analytics": True}
    assert (await operator(tested).post("/api/v1/tenants", json=made)).status_code == 403
    await agree(tested, "acme")
    await change(tested, "acme", name="Acme", analytics=True)  # as it is
    put = await acme.put(url, json={"name": row["name"], "slug": row["slug"]})
    assert put.status_code == 200, put.text
    assert put.json()["data"]["analytics"] is False
    await agree(tested, "acme")
    await change(tested, "acme", analytics=False)
    assert (await acme.get(url)).json()["data"]["analytics"] is False


async def test_the_bytes_of_one_tenant_are_not_told_as_those_of_all(tested: TestedApplication) -> None:
    await put_together(tested, *SLUGS)
    for slug in SLUGS[1:]:
        client = tested.client(tenant=slug, user="u0")
        for box in (await client.get(BOXES)).json()["data"]:
            assert (await client.delete(f"{BOXES}/{box['id']}")).status_code == 204
    assert await tested.connected.quota.meter.measure(now=True)
    async with tested.connected.database.system() as transaction:
        rows = await transaction.fetch("select tenant_id, bytes from byodpp.tenant_storage order by bytes")
        assert [row["bytes"] for row in rows][-2] == 0 < rows[-1]["bytes"]
        assert (await told(tested))["classes"][0]["totalStorageBytes"] == rows[-1]["bytes"]
        # Four that were measured: three of them would know the fourth's.
        some = [row["tenant_id"] for row in rows][-4:]
        await transaction.execute(
            "delete from byodpp.tenant_storage where tenant_id <> all($1::bigint[])", some
        )
    (found,) = (await told(tested))["classes"]
    assert (found["tenants"], found["totalStorageBytes"], found["measuredAt"]) == (6, None, None)


async def test_a_class_that_does_not_allow_it_is_not_there(tested: TestedApplication) -> None:
    kind = await put_together(tested, *SLUGS)
    answer = await operator(tested).patch(f"{CLASSES}/{kind}", json={"analytics": False})
    assert answer.status_code == 200, answer.text
    assert await told(tested) == {"classes": [], "away": []}


async def test_few_tenants_are_not_told(tested: TestedApplication) -> None:
    await put_together(tested, *SLUGS[:4])
    assert await told(tested) == {"classes": [{"tenantClass": "standard", **WITHHELD}], "away": []}


async def test_operators_at_home_are_told_and_nobody_else(tested: TestedApplication) -> None:
    await put_together(tested, "acme")
    rule = {"subject": "*", "object": "TenantClasses", "action": "analytics:get"}
    admin = tested.client(tenant="acme")
    await admin.post("/api/v1/policies", json=rule)  # whatever a tenant allows itself
    for client, status in (
        (admin, 403),
        (tested.client(tenant="acme", role="Viewer", user="vi"), 403),
        (operator(tested, **{"X-Tenant": "acme"}), 403),
        (tested.client(role="Viewer", tenant="platform", user="v"), 403),
        (tested.client(role=None), 401),
        (operator(tested), 200),
    ):
        answer = await client.get(ANALYTICS)
        assert answer.status_code == status, answer.text
    assert (await operator(tested).get(f"{ANALYTICS}?class=x")).status_code == 400
    assert (await operator(tested).post(ANALYTICS)).status_code == 405


async def test_a_place_that_is_away_is_named_and_its_tenants_are_not_counted(
    tested: TestedApplication, byodpp_bench: Bench
) -> None:
    await put_together(tested, *SLUGS)
    await tested.connected.tenant_life().move("zeta", "database", wanted=Wanted(place="north"))
    assert await tested.connected.quota.meter.measure(now=True)
    zeta = (await tested.tenant("zeta")).id
    async with tested.connected.database.system() as transaction:
        measured = await transaction.fetch("select tenant_id from byodpp.tenant_storage")
    assert measured and zeta not in {row["tenant_id"] for row in measured}, "it is measured where it lives"
    (found,) = (await told(tested))["classes"]
    assert (found["tenants"], found["averageUsers"]) == (6, 3.5), "counted where they live"
    north = tested.connected.database.places["north"]
    name = urlsplit(str(north.system_uri)).path.strip("/")
    try:
        await byodpp_bench._administrate(f'alter database "{name}" allow_connections false')
        await byodpp_bench._administrate(
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        )
        answer = await told(tested)
        assert answer["away"] == ["north"]
        (found,) = answer["classes"]
        assert (found["tenants"], found["averageUsers"]) == (5, 3.0)
        await refused(north)
        assert (await told(tested))["away"] == ["north"]
    finally:
        await byodpp_bench._administrate(f'alter database "{name}" allow_connections true')


async def refused(place: Database) -> None:
    """Wait until this process knows that the place is away."""
    for _ in range(200):
        if isinstance(place.refusal, PlaceUnavailable):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(place.refusal)
