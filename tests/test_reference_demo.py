"""The demo data of the reference application: it loads, it is in the right tenant, it looks real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint, load_demo
from byodpp.exceptions import StartError
from byodpp.seeding import Seeder, loading_alone
from byodpp.tenant_life import Newcomer
from byodpp.testing import Bench, TestedApplication
from tests.patience import soon
from tests.reference_world import Person

TENANTS = ("voltaris", "lumenhof")


async def _load(application: TestedApplication) -> int:
    files = sorted((application.blueprint.app_dir / "seeds").glob("*.json"))
    return await Seeder(application.connected.service, application.connected.database).load(files)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def origin(byodpp_bench: Bench, byodpp_blueprint: Blueprint) -> AsyncIterator[str]:
    async with byodpp_bench.prepared(byodpp_blueprint, _load) as (database, rows):
        assert rows > 300
        yield database


@pytest_asyncio.fixture(loop_scope="session")
async def demo(
    byodpp_bench: Bench, byodpp_blueprint: Blueprint, origin: str
) -> AsyncIterator[TestedApplication]:
    """The application with its demo data; tokens need the tenants' realms as the data made them."""
    async with byodpp_bench.application(byodpp_blueprint, origin=origin, tenant_settle_seconds=0) as tested:
        yield tested


def _client(demo: TestedApplication, realm: str, role: str) -> httpx2.AsyncClient:
    issuer: Any = demo.connected.issuer
    client = demo.client(role=None)
    client.headers["Authorization"] = f"Bearer {issuer.issue(realm, 'demo', roles=[role])}"
    return client


async def test_the_demo_data_load_and_every_tenant_sees_its_own(demo: TestedApplication) -> None:
    seen: dict[str, set[str]] = {}
    for slug in TENANTS:
        client = _client(demo, (await demo.tenant(slug)).ulid, "Admin")
        products = (await client.get("/api/v1/products?limit=100&include=category")).json()["data"]
        assert len(products) >= 9
        assert all(one["type"] == one["category"]["productType"] for one in products)
        seen[slug] = {one["sku"] for one in products}
        templates = (await client.get("/api/v1/templates?filter[status]=published")).json()
        assert templates["count"] == 3
        tenant = (await client.get("/api/v1/tenants")).json()["data"]
        assert [one["slug"] for one in tenant] == [slug]
        assert tenant[0]["metadata"] == {"demo": True}
    assert not seen["voltaris"] & seen["lumenhof"]


async def test_the_public_reads_the_published_demo_passports(demo: TestedApplication) -> None:
    nobody = Person(demo, None)
    rows = await nobody.get("/api/v1/dpps?sort=name")
    assert [(row["name"], row["status"]) for row in rows] == [
        ("LUND CHAIR", "published"),
        ("NORRSKEN TABLE LAMP 26-10", "published"),
        ("SKYMNING PENDANT", "published"),
        ("TOUR 750 E-BIKE BATTERY", "suspended"),
        ("VOLT 10 HOME BATTERY", "published"),
        ("VOLT 10 HOME BATTERY 000417", "published"),
    ]
    [item] = [row for row in rows if row["name"].endswith("000417")]
    path = "/" + item["upi"].removeprefix("https://").partition("/")[2]
    document = await nobody.get(path)
    assert document["performance"]["nominalVoltage"] == {"value": 51.2, "unit": "VLT"}
    # What is for repairers, authorities or the owner does not show up, not even by its name.
    assert not document.keys() & {"composition", "conformity", "lifeData"}


async def test_a_draft_of_the_demo_data_tells_what_it_lacks(demo: TestedApplication) -> None:
    client = _client(demo, (await demo.tenant("voltaris")).ulid, "Viewer")
    [draft] = (await client.get("/api/v1/dpps?filter[status]=inReview")).json()["data"]
    report = (await client.post(f"/api/v1/dpps/{draft['id']}/validate")).json()["data"]
    assert {one["field"] for one in report["findings"]} == {
        "performance.roundTripEfficiency",
        "circularity.wasteInformation",
        "conformity.testReports",
    }


def test_every_gtin_of_the_demo_data_begins_with_the_prefix_for_examples() -> None:
    for path in sorted((Path(__file__).parents[1] / "seeds").glob("0[23]*.json")):
        text = path.read_text(encoding="utf-8")
        assert text.count('"gtin": "') == text.count('"gtin": "0952') > 0


async def test_a_company_with_all_its_demo_data_is_deleted_and_the_other_keeps_its_own(
    demo: TestedApplication, tmp_path: Path
) -> None:
    async def rows(slug: str) -> dict[str, int]:
        tenant = (await demo.tenant(slug)).id
        async with demo.connected.database.system() as transaction:
            return {
                table.name: await transaction.fetchval(
                    f'select count(*) from "{table.name}" where tenant_id = $1', tenant
                )
                for table in demo.blueprint.tables.metadata.tables.values()
                if "tenant_id" in table.c and table.schema is None
            }

    other = await rows("lumenhof")
    ended = (await demo.tenant("voltaris")).id
    path = await demo.connected.tenant_life().delete("voltaris", tmp_path)
    assert path.stat().st_size > 10_000
    assert await rows("lumenhof") == other
    # What measures beside the test may have begun before, and have put back what was measured of the tenant.
    await soon(partial(demo.connected.quota.meter.measure, now=True), True, 10.0)
    async with demo.connected.database.system() as transaction:
        for table in demo.blueprint.tables.metadata.tables.values():
            # The trail stays; that the tenant is gone is news for a while, to the other processes, and its
            # number stays shut for a day.
            kept = "audit" in table.name or table.name in ("directory_changes", "tenant_places")
            if "tenant_id" in table.c and not kept:
                where = f"{table.schema}." if table.schema else ""
                left = f'select count(*) from {where}"{table.name}" where tenant_id = $1'
                assert await transaction.fetchval(left, ended) == 0, table.name


async def test_a_new_company_begins_with_its_settings_and_its_administrators_membership(
    demo: TestedApplication,
) -> None:
    newcomer = Newcomer(slug="gamma", name="Gamma", email="ada@gamma.example", values={"country": "DE"})
    results = await demo.connected.tenant_life().onboard(newcomer)
    client = _client(demo, results["tenant"]["realm"], "Admin")
    assert (await client.get("/api/v1/settings")).json()["count"] == 1
    [member] = (await client.get("/api/v1/tenant-users?include=user")).json()["data"]
    assert (member["title"], member["user"]["email"]) == ("Administrator", "ada@gamma.example")
    assert (await client.get("/api/v1/tenants")).json()["data"][0]["country"] == "DE"


async def test_two_starts_at_once_load_the_demo_data_once(
    byodpp_bench: Bench, byodpp_blueprint: Blueprint
) -> None:
    async with byodpp_bench.application(byodpp_blueprint) as tested:
        both = (load_demo(tested.settings, byodpp_blueprint) for _ in range(2))
        async with asyncio.timeout(120):
            waited, loaded = sorted(await asyncio.gather(*both))
        assert waited == 0 and loaded > 300


async def test_a_start_that_waits_too_long_for_another_says_so(
    byodpp_bench: Bench, byodpp_blueprint: Blueprint
) -> None:
    async with byodpp_bench.application(byodpp_blueprint) as tested:
        database = tested.connected.database
        async with loading_alone(database):
            with pytest.raises(StartError, match="another process is loading them into this database"):
                async with loading_alone(database, patience_seconds=0.3):
                    pass
        async with loading_alone(database, patience_seconds=0.0):
            pass


async def test_the_demo_tenants_are_moved_into_schemas_of_their_own_and_back(demo: TestedApplication) -> None:
    life = demo.connected.tenant_life()
    urls = ("products", "categories", "dpps", "templates", "tenant-users", "users")

    async def seen(slug: str) -> dict[str, Any]:
        client = _client(demo, (await demo.tenant(slug)).ulid, "Admin")
        answers = {url: (await client.get(f"/api/v1/{url}?limit=100&sort=id")).json() for url in urls}
        return {url: answer["data"] for url, answer in answers.items()}

    before = {slug: await seen(slug) for slug in TENANTS}
    assert all(before[slug]["tenant-users"] for slug in TENANTS)
    for tier in ("schema", "shared"):
        for slug in TENANTS:
            await life.move(slug, tier)
        assert {slug: await seen(slug) for slug in TENANTS} == before
