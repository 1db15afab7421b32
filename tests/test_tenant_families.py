"""Tenants below tenants: what may be put where, and that a parent gets nothing by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from byodpp.exceptions import Conflict, ReferencedConflict, ValidationFailed
from byodpp.tenant_life import Newcomer, TenantLife
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

TENANTS, THINGS = "/api/v1/tenants", "/api/v1/things"
MANIFEST: dict[str, Any] = {
    "include": ["byodpp:tenancy", "byodpp:access", "byodpp:grants", "byodpp:audit"],
    "resources": [
        {"name": "Things", "fields": {"name": {"type": "string"}}, "access": {"read": ["*"], "write": ["*"]}}
    ],
}


@pytest_asyncio.fixture
async def tested(byodpp_bench: Bench, tmp_path: Path) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(build(tmp_path / "app", MANIFEST)) as application:
        yield application


async def registered(operator: httpx2.AsyncClient, slug: str, parent: int | None = None) -> int:
    body = {"name": slug.title(), "slug": slug, "parentId": parent}
    answer = await operator.post(TENANTS, json=body)
    assert answer.status_code == 201, answer.text
    id: int = answer.json()["data"]["id"]
    return id


async def below(operator: httpx2.AsyncClient, tenant: int, parent: int | None) -> tuple[int, set[str]]:
    answer = await operator.patch(f"{TENANTS}/{tenant}", json={"parentId": parent})
    details = answer.json().get("error", {}).get("details", [])
    assert all(one["field"] == "parentId" for one in details)
    return answer.status_code, {one["code"] for one in details}


async def with_realms(tested: TestedApplication, *slugs: str) -> TenantLife:
    life = tested.connected.tenant_life()
    for slug in slugs:
        await tested.tenant(slug)
        await life.onboard(Newcomer(slug=slug, name=slug, email=f"ada@{slug}.example"))
    return life


async def test_no_tenant_is_below_itself_on_any_way(tested: TestedApplication) -> None:
    operator = tested.client(tenant="platform")
    first = await registered(operator, "first")
    second = await registered(operator, "second", first)
    third = await registered(operator, "third", second)
    for parent in (first, second, third):
        assert await below(operator, first, parent) == (422, {"circle"})
    batch = {"operation": "patch", "items": [{"id": first, "parentId": third}]}
    assert (await operator.post(f"{TENANTS}/batch", json=batch)).status_code == 422
    partly = (await operator.post(f"{TENANTS}/batch", json={**batch, "atomic": False})).json()
    assert partly["data"][0]["success"] is False
    step = {"operation": "patch", "resource": "Tenants", "params": {"id": first}, "data": {"parentId": third}}
    assert (await operator.post("/api/v1/batch", json=[step])).status_code in (400, 422)
    own = (await operator.get(f"{TENANTS}/{first}")).json()["data"]
    assert own["parentId"] is None
    assert (await operator.put(f"{TENANTS}/{first}", json={**own, "parentId": third})).status_code == 422
    swapped = {
        "operation": "patch",
        "items": [{"id": second, "parentId": None}, {"id": first, "parentId": third}],
    }
    assert (await operator.post(f"{TENANTS}/batch", json=swapped)).status_code == 200


async def test_two_changes_at_once_close_no_circle(tested: TestedApplication) -> None:
    operator = tested.client(tenant="platform")
    for round in range(5):
        one = await registered(operator, f"one-{round}")
        two = await registered(operator, f"two-{round}")
        both = await asyncio.gather(below(operator, one, two), below(operator, two, one))
        assert sorted(both) == [(200, set()), (422, {"circle"})]


async def test_a_line_has_five_tenants_and_the_platform_is_in_none(tested: TestedApplication) -> None:
    operator = tested.client(tenant="platform")
    line: list[int] = []
    for level in range(5):
        line.append(await registered(operator, f"level-{level}", line[-1] if line else None))
    more = await operator.post(TENANTS, json={"name": "X", "slug": "x", "parentId": line[-1]})
    assert more.status_code == 422
    assert more.json()["error"]["details"][0]["code"] == "too_deep"
    alone = await registered(operator, "alone")
    assert await below(operator, line[0], alone) == (422, {"too_deep"}), "the children come along"
    assert await below(operator, line[1], alone) == (200, set())
    assert await below(operator, alone, 0) == (422, {"reference"})
    assert await below(operator, 0, alone) == (422, {"reference"})
    assert await below(operator, alone, 999_999) == (422, {"reference"})


async def test_only_the_platform_for_itself_changes_parents(tested: TestedApplication) -> None:
    operator, acme, beta = (
        tested.client(tenant="platform"),
        await tested.tenant("acme"),
        await tested.tenant("beta"),
    )
    admin = tested.client()
    assert (await admin.patch(f"{TENANTS}/{acme.id}", json={"parentId": beta.id})).status_code == 403
    assert (
        await admin.post(TENANTS, json={"name": "C", "slug": "c", "parentId": acme.id})
    ).status_code == 403
    acting = tested.client(tenant="platform", headers={"X-Tenant": "acme"})
    assert await below(acting, acme.id, beta.id) == (422, {"reference"}), "it sees no other tenant there"
    assert (await acting.patch(f"{TENANTS}/{acme.id}", json={"address": "Quay 1"})).status_code == 200
    assert await below(operator, acme.id, beta.id) == (200, set())
    assert await below(acting, acme.id, None) == (403, {"forbidden"})


async def test_a_parent_finds_nothing_of_its_child_and_a_child_nothing_of_its_parent(
    tested: TestedApplication,
) -> None:
    operator = tested.client(tenant="platform")
    parent, child = await tested.tenant("acme"), await tested.tenant("beta")
    assert await below(operator, child.id, parent.id) == (200, set())
    rows = {}
    for slug in ("acme", "beta"):
        made = await tested.client(tenant=slug).post(THINGS, json={"name": f"{slug}'s"})
        rows[slug] = made.json()["data"]["id"]
    for mine, other in ((parent, child), (child, parent)):
        admin = tested.client(tenant=mine.slug)
        assert (await admin.get(f"{TENANTS}/{other.id}")).status_code == 404
        assert (await admin.patch(f"{TENANTS}/{other.id}", json={"name": "ours"})).status_code == 404
        assert (await admin.delete(f"{TENANTS}/{other.id}")).status_code in (403, 404)
        for step in ("deactivate", "activate"):
            assert (await admin.post(f"{TENANTS}/{other.id}/{step}")).status_code in (403, 404)
        own = (await admin.get(f"{TENANTS}/{mine.id}?include=parent,children")).json()["data"]
        assert own["parent"] is None and own["children"] == []
        told = (await admin.get(f"{TENANTS}?include=parent,children")).text
        assert other.slug not in told and other.ulid not in told and other.slug.title() not in told
        for asked in (
            f"filter[parent.slug]={other.slug}",
            f"filter[children][some][slug]={other.slug}",
            f"filter[parent.name][like]={other.slug[:2]}",
        ):
            found = await admin.get(f"{TENANTS}?{asked}")
            assert (found.status_code, found.json().get("count")) in ((200, 0), (400, None)), asked
        named = tested.client(tenant=mine.slug, headers={"X-Tenant": other.slug})
        assert (await named.get(THINGS)).status_code == 403
        assert (await named.post(THINGS, json={"name": "x"})).status_code == 403
        things = (await admin.get(THINGS)).json()["data"]
        assert [one["name"] for one in things] == [f"{mine.slug}'s"]
    grant = {"object": "Things", "rowId": str(rows["beta"]), "grantee": "acme"}
    assert (await tested.client(tenant="beta").post("/api/v1/grants", json=grant)).status_code == 201
    visiting = tested.client(tenant="acme", headers={"X-Tenant": "beta"})
    assert (await visiting.get(THINGS)).json()["count"] == 1, "what the child opens by itself"
    assert (await visiting.patch(f"{THINGS}/{rows['beta']}", json={"name": "x"})).status_code == 403


async def test_a_suspended_parent_leaves_its_child_at_work(tested: TestedApplication) -> None:
    operator, life = tested.client(tenant="platform"), await with_realms(tested, "acme")
    parent, child = await tested.tenant("acme"), await tested.tenant("beta")
    assert await below(operator, child.id, parent.id) == (200, set())
    await life.suspend("acme", "payment")
    tested.connected.authenticator.forget()
    assert (await tested.client().get(THINGS)).status_code == 401
    assert (await tested.client(tenant="beta").get(THINGS)).status_code == 200


async def test_a_parent_is_not_deleted_before_its_children(tested: TestedApplication, tmp_path: Path) -> None:
    operator, life = tested.client(tenant="platform"), await with_realms(tested, "acme", "beta")
    parent, child = await tested.tenant("acme"), await tested.tenant("beta")
    assert await below(operator, child.id, parent.id) == (200, set())
    answer = await operator.delete(f"{TENANTS}/{parent.id}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "referenced_conflict")
    with pytest.raises(ReferencedConflict, match="children"):
        await life.delete("acme", tmp_path)
    assert (await tested.client().get(THINGS)).status_code == 200, "and nothing was done to it"
    await life.delete("beta", tmp_path)
    await life.delete("acme", tmp_path)


async def test_onboarding_below_a_parent_takes_its_class(tested: TestedApplication) -> None:
    operator, life = tested.client(tenant="platform"), await with_realms(tested, "acme")
    ids = {}
    for name in ("great", "small"):
        made = await operator.post("/api/v1/tenant-classes", json={"name": name})
        ids[name] = made.json()["data"]["id"]
    parent = await tested.tenant("acme")
    await operator.patch(f"{TENANTS}/{parent.id}", json={"tenantClassId": ids["great"]})
    for slug, named, expected in (("branch", None, "great"), ("kiosk", "small", "small")):
        child = Newcomer(slug=slug, name=slug, email="a@b.example", parent="acme", tenant_class=named)
        id = (await life.onboard(child))["tenant"]["id"]
        row = (await operator.get(f"{TENANTS}/{id}")).json()["data"]
        assert (row["parentId"], row["tenantClassId"]) == (parent.id, ids[expected])
    assert {line.slug: line.parent for line in await life.list()}["branch"] == "acme"
    orphan = Newcomer(slug="orphan", name="Orphan", email="a@b.example", parent="nobody")
    with pytest.raises(ValidationFailed) as refusal:
        await life.onboard(orphan)
    assert [fault.field for fault in refusal.value.details] == ["parent"]
    await life.suspend("acme", "payment")
    with pytest.raises(Conflict, match="deactivated"):
        await life.onboard(Newcomer(slug="late", name="Late", email="a@b.example", parent="acme"))
    assert {"orphan", "late"}.isdisjoint(line.slug for line in await life.list())
