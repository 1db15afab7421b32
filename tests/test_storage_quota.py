"""How much a tenant may store: measured now and then, refused at the next write, freed by deleting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.limits import StorageMeter
from byodpp.testing import Bench, TestedApplication
from tests.test_limits import put_into_class
from tests.worlds import build

BOXES, NOTES = "/api/v1/boxes", "/api/v1/notes"
MANIFEST = {
    "resources": [
        {
            "name": "Boxes",
            "audit": True,
            "fields": {"name": {"type": "string", "unique": True}, "content": {"type": "text"}},
            "routes": {"crud": ["list", "create", "read", "update", "patch", "delete", "batch"]},
            "access": {"read": ["*"], "write": ["*"]},
        },
        {
            "name": "Notes",
            "scope": "user",
            "fields": {"text": {"type": "text"}},
            "access": {"read": ["*"], "write": ["*"]},
        },
    ],
    "include": ["byodpp:tenancy", "byodpp:access", "byodpp:keys"],
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("stored"), MANIFEST)


@pytest_asyncio.fixture(loop_scope="session")
async def tested(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint, storage_seconds=86_400) as application:
        await application.connected.quota.looks.stop()  # it is measured when a test says so
        yield application


async def measured(tested: TestedApplication) -> None:
    assert await tested.connected.quota.meter.measure(now=True)
    await tested.connected.quota.refresh()


async def used(tested: TestedApplication) -> dict[str, int]:
    async with tested.connected.database.system() as transaction:
        rows = await transaction.fetch(
            "select slug, bytes from byodpp.tenant_storage s join tenants t on t.id = s.tenant_id"
        )
    return {row["slug"]: row["bytes"] for row in rows}


async def fill(client: Any, count: int = 20, size: int = 1_000) -> list[int]:
    items = [{"name": f"box {number}", "content": "x" * size} for number in range(count)]
    made = await client.post(f"{BOXES}/batch", json=items)
    assert made.status_code == 201, made.text
    return [one["id"] for one in made.json()["data"]]


async def test_a_tenant_that_stores_what_it_may_can_read_and_delete_and_nothing_else(
    tested: TestedApplication,
) -> None:
    await put_into_class(tested, "acme", maxStorageBytes=10_000)
    acme, beta = tested.client(), tested.client(tenant="beta")
    ids = await fill(acme)
    await fill(beta)
    await measured(tested)
    assert 20_000 < (await used(tested))["acme"] < 25_000
    writes = [
        ("POST", BOXES, {"name": "a"}),
        ("POST", f"{BOXES}/batch", [{"name": "a"}, {"name": "b"}]),
        ("PUT", f"{BOXES}/{ids[0]}", {"name": "a"}),
        ("PATCH", f"{BOXES}/{ids[0]}", {"name": "a"}),
        ("POST", NOTES, {"text": "a"}),
        ("POST", "/api/v1/batch", [{"resource": "Boxes", "operation": "create", "data": {"name": "a"}}]),
    ]
    for method, path, body in writes:
        answer = await acme.request(method, path, json=body)
        assert answer.status_code == 403, (method, path, answer.text)
        assert answer.json()["error"]["code"] == "quota_exceeded"
        assert "of 10000" in answer.text
    file = await acme.post(f"{BOXES}/import", content=b"name\r\na\r\n", headers={"Content-Type": "text/csv"})
    assert file.status_code == 403, file.text
    assert file.json()["error"]["code"] == "quota_exceeded"
    assert (await acme.get(BOXES)).json()["count"] == 20
    assert (await beta.post(BOXES, json={"name": "a"})).status_code == 201, (
        "another tenant's quota is its own"
    )
    signed_out = await acme.post("/api/v1/revocations/own")
    assert signed_out.status_code == 204, "what the framework notes is no matter of storage"
    again = tested.client(user="ada")
    for id in ids[:15]:
        assert (await again.delete(f"{BOXES}/{id}")).status_code == 204
    assert (await again.post(BOXES, json={"name": "a"})).status_code == 403, "until it is measured again"
    await measured(tested)
    assert (await again.post(BOXES, json={"name": "a"})).status_code == 201


async def test_another_class_counts_at_once(tested: TestedApplication) -> None:
    address = await put_into_class(tested, "acme", maxStorageBytes=10_000)
    await fill(tested.client())
    await measured(tested)
    assert (await tested.client().post(BOXES, json={"name": "a"})).status_code == 403
    operator = tested.client(tenant="platform")
    for most, status in ((1_000_000, 201), (0, 403), (None, 201)):
        assert (await operator.patch(address, json={"maxStorageBytes": most})).status_code == 200
        answer = await tested.client().post(BOXES, json={"name": f"at most {most}"})
        assert answer.status_code == status, answer.text


async def test_nothing_is_measured_where_no_class_limits_it(tested: TestedApplication) -> None:
    meter = StorageMeter(tested.connected.database, ["boxes"], seconds=0)
    await fill(tested.client())
    assert not await meter.measure(now=True)
    assert await used(tested) == {}


async def test_it_is_measured_when_it_is_time_by_one_process_of_all(tested: TestedApplication) -> None:
    await put_into_class(tested, "acme", maxStorageBytes=10_000)
    await fill(tested.client())
    database = tested.connected.database
    often, rarely = (StorageMeter(database, ["boxes"], seconds=seconds) for seconds in (0.0, 3_600.0))
    await measured(tested)
    assert not await rarely.measure(), "somebody has done it"
    assert await often.measure()
    async with database.system() as transaction:
        await transaction.fetchval(
            "select pg_advisory_xact_lock(hashtextextended('byodpp storage meter', 0))"
        )
        assert not await often.measure(), "somebody is doing it"


async def test_a_large_table_is_reckoned_from_a_part_of_it(tested: TestedApplication) -> None:
    await put_into_class(tested, "acme", maxStorageBytes=10_000)
    for _ in range(5):
        async with tested.connected.database.system() as transaction:
            await transaction.execute(
                "insert into boxes (tenant_id, name, content) select t.id, gen_random_uuid()::text,"
                " repeat('x', 500) from tenants t, generate_series(1, 2000) where t.slug in ('acme', 'beta')"
            )
    async with tested.connected.database.system() as transaction:
        await transaction.execute("analyze boxes")
    await measured(tested)
    whole = await used(tested)
    part = StorageMeter(tested.connected.database, ["boxes"], seconds=0, most_pages=400)
    assert await part.measure(now=True)
    reckoned = await used(tested)
    for slug in ("acme", "beta"):
        assert whole[slug] > 5_000_000
        assert reckoned[slug] == pytest.approx(whole[slug], rel=0.35)
    async with tested.connected.database.system() as transaction:
        await transaction.execute(
            "delete from boxes where tenant_id = (select id from tenants where slug = 'beta')"
        )
    await measured(tested)
    assert (await used(tested))["beta"] == 0, "who stores nothing any more is told so"


async def test_a_tenant_is_told_what_it_uses_and_what_it_may_and_nobody_else_is(
    tested: TestedApplication,
) -> None:
    await put_into_class(tested, "acme", maxStorageBytes=50_000, maxUsers=7)
    acme, beta = tested.client(), tested.client(tenant="beta")
    own, other = (await tested.tenant("acme")).id, (await tested.tenant("beta")).id
    url = f"/api/v1/tenants/{own}/usage"
    begun = (await acme.get(url)).json()["data"]
    assert begun["storageBytes"] == {"used": None, "limit": 50_000, "measuredAt": None}, "nothing is measured"
    await fill(acme)
    await fill(beta, count=3)
    async with tested.connected.database.system() as transaction:
        await transaction.execute(
            "insert into users (tenant_id, realm, subject, name, status)"
            " values ($1, 'r', 's', 'left', 'deactivated')", own,
        )  # fmt: skip
    await measured(tested)
    told = (await acme.get(url)).json()["data"]
    assert told["tenantClass"] == "class of acme"
    assert told["users"] == {"used": 1, "limit": 7}
    assert told["storageBytes"]["used"] == (await used(tested))["acme"]
    assert told["storageBytes"]["limit"] == 50_000 and told["storageBytes"]["measuredAt"].endswith("Z")
    unbounded = (await beta.get(f"/api/v1/tenants/{other}/usage")).json()["data"]
    assert (unbounded["tenantClass"], unbounded["users"]) == (None, {"used": 1, "limit": None})
    acting = tested.client(tenant="platform", headers={"X-Tenant": "acme"})
    assert (await acting.get(url)).json()["data"] == told
    assert (await acme.get(f"/api/v1/tenants/{other}/usage")).status_code == 404
    assert (await acme.get("/api/v1/tenants/999999/usage")).status_code == 404
    assert (await acme.get("/api/v1/tenants/x/usage")).status_code == 404
    assert (await tested.client(role="Viewer", user="vic").get(url)).status_code == 403
    assert (await tested.client(role=None).get(url)).status_code == 401
    unnamed = await tested.client(tenant="platform").get(url)
    assert (unnamed.status_code, "X-Tenant" in unnamed.text) == (403, True)


async def test_a_tenant_is_told_its_requests_and_what_its_class_costs(tested: TestedApplication) -> None:
    await put_into_class(
        tested, "acme", requestsPerMinute=100, maxRequestsPerDay=5_000, monthlyPrice=49.90, currency="EUR"
    )
    acme, beta = tested.client(), tested.client(tenant="beta")
    for _ in range(4):
        assert (await acme.get("/api/v1/tenants")).status_code == 200
    assert (await beta.get("/api/v1/tenants")).status_code == 200
    own, other = (await tested.tenant("acme")).id, (await tested.tenant("beta")).id
    told = (await acme.get(f"/api/v1/tenants/{own}/usage")).json()["data"]
    factor = tested.settings.tenant_limit_factor
    assert told["apiCalls"] == [
        {"seconds": 60, "used": 5, "limit": 100 * factor},
        {"seconds": 86_400, "used": 5, "limit": 5_000 * factor},
    ]
    assert told["costs"] == {"monthlyPrice": 49.90, "currency": "EUR"}
    acting = tested.client(tenant="platform", headers={"X-Tenant": "acme"})
    shown = (await acting.get(f"/api/v1/tenants/{own}/usage")).json()["data"]
    assert [one["used"] for one in shown["apiCalls"]] == [5, 5], "an operator spends nothing of the tenant's"
    plain = (await beta.get(f"/api/v1/tenants/{other}/usage")).json()["data"]
    assert [(one["seconds"], one["used"]) for one in plain["apiCalls"]] == [(60, 2)]
    assert plain["costs"] == {"monthlyPrice": None, "currency": None}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"currency": "Euro"}, "currency"),
        ({"currency": "eur"}, "currency"),
        ({"monthlyPrice": -1}, "monthlyPrice"),
        ({"monthlyPrice": 1.234}, "monthlyPrice"),
        ({"monthlyPrice": "49"}, "monthlyPrice"),
    ],
)
async def test_a_price_is_a_price(tested: TestedApplication, values: dict[str, Any], field: str) -> None:
    operator = tested.client(tenant="platform")
    refused = await operator.post("/api/v1/tenant-classes", json={"name": "priced", **values})
    assert refused.status_code == 422
    assert {one["field"] for one in refused.json()["error"]["details"]} == {field}
