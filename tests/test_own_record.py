"""A tenant's own record: its profile is its own, its standing is the platform's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

MANIFEST: dict[str, Any] = {"include": ["byodpp:tenancy"], "resources": [{"name": "Things"}]}


@pytest.fixture
async def served(tmp_path: Path, byodpp_bench: Bench) -> Any:
    async with byodpp_bench.application(build(tmp_path / "app", MANIFEST)) as application:
        yield application


async def test_the_platform_registers_tenants_and_names_their_realms(served: TestedApplication) -> None:
    operator = served.client(tenant="platform")
    made = await operator.post("/api/v1/tenants", json={"name": "Gamma", "slug": "gamma"})
    assert made.status_code == 201, made.text
    gamma = made.json()["data"]
    assert len(gamma["ulid"]) == 26 and gamma["status"] == "invited"
    for step, state in (("accept", "accepted"), ("activate", "activated"), ("deactivate", "deactivated")):
        done = await operator.post(f"/api/v1/tenants/{gamma['id']}/{step}")
        assert (done.status_code, done.json()["data"]["status"]) == (200, state)
    many = [{"name": "D", "slug": "delta"}, {"name": "E", "slug": "epsilon"}]
    rows = (await operator.post("/api/v1/tenants/batch", json=many)).json()["data"]
    assert len({row["ulid"] for row in rows}) == 2
    assert (await served.client().post("/api/v1/tenants", json={"name": "X", "slug": "x"})).status_code == 403


async def test_a_tenant_changes_its_profile_and_not_its_standing(served: TestedApplication) -> None:
    operator, admin = served.client(tenant="platform"), served.client()
    (own,) = (await admin.get("/api/v1/tenants")).json()["data"]
    url = f"/api/v1/tenants/{own['id']}"
    great = await operator.post("/api/v1/tenant-classes", json={"name": "great"})
    above = await operator.post("/api/v1/tenants", json={"name": "Above", "slug": "above"})
    standing = {"slug": "other", "domain": "a.example", "parentId": above.json()["data"]["id"]}
    standing |= {"tenantClassId": great.json()["data"]["id"]}
    for name, value in standing.items():
        for answer in (
            await admin.patch(url, json={name: value}),
            await admin.put(url, json={**own, name: value}),
            await admin.post(
                "/api/v1/tenants/batch",
                json={"operation": "patch", "items": [{"id": own["id"], name: value}]},
            ),
        ):
            assert answer.status_code == 403, (name, answer.text)
            assert name in answer.text
    for step in ("accept", "reject", "activate", "deactivate"):
        assert (await admin.post(f"{url}/{step}")).status_code == 403
    assert (await admin.get(url)).json()["data"] == own
    assert (await admin.put(url, json={**own, "address": "Quay 1"})).json()["data"]["address"] == "Quay 1"
    moved = await operator.patch(url, json=standing, headers={"X-Tenant": "platform"})
    assert moved.status_code == 200 and moved.json()["data"]["slug"] == "other"
    acting = await operator.patch(url, json={"domain": None}, headers={"X-Tenant": own["ulid"]})
    assert acting.status_code == 200
