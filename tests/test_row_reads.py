"""What reads of a caller have in common is kept, and never outlives the rules by which it was found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from byodpp.authentication import ANONYMOUS, Principal
from byodpp.authentication.tenants import Tenant
from byodpp.authorization.decisions import Authorizer
from byodpp.authorization.in_force import TenantRows
from byodpp.authorization.policies import PolicyRow
from byodpp.bootstrap import Blueprint
from byodpp.repository.row_reads import RowReads
from byodpp.testing import Bench, TestedApplication
from tests.worlds import build

THINGS = "/api/v1/things"
MANIFEST = {
    "resources": [
        {
            "name": "Things",
            "fields": {"name": {"type": "string"}, "cost": {"type": "integer"}},
            "versioned": True,
            "access": {"read": ["Admin", "Viewer"], "write": ["Admin"]},
        }
    ],
    "include": ["byodpp:access", "byodpp:tenancy"],
}


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("reads"), MANIFEST)


@pytest_asyncio.fixture(loop_scope="session")
async def tested(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    async with byodpp_bench.application(blueprint) as application:
        yield application


async def test_a_read_is_kept_for_a_standing_and_a_query(tested: TestedApplication) -> None:
    admin, viewer = tested.client(), tested.client(role="Viewer", user="vic")
    ids = [
        (await admin.post(THINGS, json={"name": name, "cost": 5})).json()["data"]["id"] for name in ("a", "b")
    ]
    reads = tested.connected.service.row_reads
    for _ in range(3):
        for id, name in zip(ids, ("a", "b"), strict=True):
            answer = await viewer.get(f"{THINGS}/{id}")
            assert (answer.json()["data"]["name"], answer.headers["ETag"]) == (name, '"1"')
    assert len(reads) == 1
    assert (await viewer.get(f"{THINGS}/{ids[0]}?fields=cost")).json()["data"] == {"cost": 5}
    assert (await admin.get(f"{THINGS}/{ids[0]}")).status_code == 200
    assert len(reads) == 3
    assert (await viewer.get(f"{THINGS}/999999")).status_code == 404
    assert (await viewer.get(f"{THINGS}/abc")).status_code == 404
    assert (await tested.client(tenant="beta").get(f"{THINGS}/{ids[0]}")).status_code == 404


async def test_a_changed_rule_is_in_force_for_the_very_next_read(tested: TestedApplication) -> None:
    admin, viewer = tested.client(), tested.client(role="Viewer")
    id = (await admin.post(THINGS, json={"name": "a", "cost": 5})).json()["data"]["id"]
    for _ in range(2):
        assert (await viewer.get(f"{THINGS}/{id}")).json()["data"]["cost"] == 5
    hides = {"subject": "Viewer", "object": "Things", "action": "read", "effect": "deny", "fields": ["cost"]}
    made = await admin.post("/api/v1/policies", json=hides)
    assert made.status_code == 201, made.text
    assert "cost" not in (await viewer.get(f"{THINGS}/{id}")).json()["data"]
    assert (await viewer.get(f"{THINGS}/{id}?fields=cost")).status_code == 400
    assert (await admin.delete(f"/api/v1/policies/{made.json()['data']['id']}")).status_code == 204
    assert (await viewer.get(f"{THINGS}/{id}")).json()["data"]["cost"] == 5


async def test_callers_of_one_standing_share_what_is_kept_and_get_their_own_rows(
    tested: TestedApplication,
) -> None:
    reads, tenants = tested.connected.service.row_reads, ("acme", "beta")
    clients = [tested.client(tenant=tenant, user=f"of {tenant}") for tenant in tenants]
    made = []
    for client, tenant in zip(clients, tenants, strict=True):
        made.append((await client.post(THINGS, json={"name": tenant, "cost": 1})).json()["data"]["id"])
    for _ in range(2):
        for client, id, tenant in zip(clients, made, tenants, strict=True):
            assert (await client.get(f"{THINGS}/{id}")).json()["data"]["name"] == tenant
    assert len(reads) == 1
    hides = {"subject": "Admin", "object": "Things", "action": "read", "effect": "deny", "fields": ["cost"]}
    assert (await clients[1].post("/api/v1/policies", json=hides)).status_code == 201
    shown = [(await one.get(f"{THINGS}/{id}")).json()["data"] for one, id in zip(clients, made, strict=True)]
    assert ["cost" in row for row in shown] == [True, False], "the rules of one tenant are no other's"
    assert len(reads) == 2


async def test_a_standing_tells_apart_whoever_may_see_something_else(tested: TestedApplication) -> None:
    authorizer, other = tested.connected.authorizer, Authorizer(tested.blueprint.registry)
    caller = Principal(user_id=1, tenant_id=1, home_tenant_id=1, roles=frozenset({"Viewer"}), anonymous=False)
    standing = authorizer.standing(caller)
    assert authorizer.standing(caller) is standing
    assert authorizer.standing(replace(caller, user_id=2, tenant_id=2, home_tenant_id=2)) is standing
    others = [
        replace(caller, roles=frozenset({"Admin"})),
        replace(caller, operations=frozenset({"Things:read"})),
        replace(caller, tenant_id=2, guest=True),
        replace(caller, tenant_id=2, platform=True),
        replace(caller, key_id="k", maker_roles=frozenset()),
        Principal(tenant_id=1),
        ANONYMOUS,
    ]
    found = {authorizer.standing(one) for one in (caller, *others)}
    assert len(found) == len(others) + 1
    assert other.standing(caller) is not standing, "another application's rules are others"
    assert authorizer.standing(caller) is standing
    row = PolicyRow(id=1, tenant_id=1, role="Viewer", resource="Things", operation="read")
    authorizer.change_policies({1: TenantRows(policies=(row,))}, version=1)
    assert authorizer.standing(caller) is not standing
    assert authorizer.standing(replace(caller, tenant_id=2, home_tenant_id=2)) is standing


async def test_kept_reads_are_bounded_and_the_one_used_longest_ago_leaves(tested: TestedApplication) -> None:
    service, resource = tested.connected.service, tested.blueprint.registry.get("Things")
    caller = Principal(user_id=1, tenant_id=1, anonymous=False)
    lookup = service.parts.authorizer.lookup(caller)
    query = service.parts.store.reader.read(b"", resource, lookup, "read", 1)
    read, reads = service.row_read(caller, resource, query), RowReads(max_remembered=2)
    for standing in ("one", "two", "three"):
        reads.keep(read, standing, b"")
        assert reads.known("one", resource, b"") is read, "it is used all the time"
    assert reads.known("two", resource, b"") is None
    assert reads.known("one", resource, b"fields=id") is None
    reads.keep(read, "one", b"x" * 201)
    assert len(reads) == 2


def test_a_caller_of_the_control_plane_is_one_object_for_all_requests() -> None:
    tenant = Tenant(id=1, ulid="", slug="acme", status="activated", database="north")
    caller = Principal(user_id=1, tenant_id=1, anonymous=False, tenant=tenant)
    controlling = caller.of_control_plane()
    assert controlling.session.database is None and caller.session.database == "north"
    assert caller.of_control_plane() is controlling and controlling.of_control_plane() is controlling
    assert replace(caller, user_id=2).of_control_plane().user_id == 2
