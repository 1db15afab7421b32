"""What reads of a caller have in common is kept, and never outlives the rules by which it was found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from byodpp.authentication import ANONYMOUS, Principal
from byodpp.authentication.tenants import Tenant
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


async def test_a_read_is_kept_for_its_caller_and_its_query_alone(tested: TestedApplication) -> None:
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


async def test_kept_reads_are_bounded_and_belong_to_one_object_and_one_state_of_the_rules(
    tested: TestedApplication,
) -> None:
    service, resource = tested.connected.service, tested.blueprint.registry.get("Things")
    reads, rules = RowReads(max_remembered=3), object()
    callers = [Principal(user_id=number, tenant_id=1, anonymous=False) for number in range(1, 6)]
    for caller in callers:
        query = service.parts.store.reader.read(
            b"", resource, service.parts.authorizer.lookup(caller), "read", 1
        )
        reads.keep(service.row_read(caller, resource, query), b"", rules)
    assert len(reads) == 3
    assert reads.known(callers[0], resource, b"", rules) is None
    kept = reads.known(callers[-1], resource, b"", rules)
    assert kept is not None and kept.principal is callers[-1]
    assert reads.known(callers[-1], resource, b"", object()) is None, "the rules are others"
    assert reads.known(replace(callers[-1]), resource, b"", rules) is None, "an equal caller is another"
    reads.keep(replace(kept, principal=ANONYMOUS), b"", rules)
    reads.keep(replace(kept, principal=replace(callers[-1], guest=True)), b"", rules)
    reads.keep(kept, b"x" * 201, rules)
    assert len(reads) == 3
    assert reads.known(ANONYMOUS, resource, b"", rules) is None


async def test_the_read_that_was_used_longest_ago_leaves_and_those_of_a_changed_tenant_do(
    tested: TestedApplication,
) -> None:
    service, resource = tested.connected.service, tested.blueprint.registry.get("Things")
    reads, rules = RowReads(max_remembered=2), object()
    callers = [
        Principal(user_id=1, tenant_id=tenant, home_tenant_id=tenant, anonymous=False) for tenant in (1, 2, 3)
    ]
    for caller in callers:
        query = service.parts.store.reader.read(
            b"", resource, service.parts.authorizer.lookup(caller), "read", 1
        )
        reads.keep(service.row_read(caller, resource, query), b"", rules)
        assert reads.known(callers[0], resource, b"", rules) is not None, "it is used all the time"
    assert reads.known(callers[1], resource, b"", rules) is None
    reads.forget({1})
    assert reads.known(callers[0], resource, b"", rules) is None and len(reads) == 1
    reads.forget()
    assert len(reads) == 0


async def test_reads_of_what_has_changed_are_let_go_by_the_process(tested: TestedApplication) -> None:
    admin, reads = tested.client(), tested.connected.service.row_reads
    id = (await admin.post(THINGS, json={"name": "a", "cost": 5})).json()["data"]["id"]
    assert (await admin.get(f"{THINGS}/{id}")).status_code == 200
    assert len(reads) == 1
    user = (await admin.get("/api/v1/users")).json()["data"][0]["id"]
    assert (await admin.patch(f"/api/v1/users/{user}", json={"name": "another"})).status_code == 200
    assert len(reads) == 0


def test_a_caller_of_the_control_plane_is_one_object_for_all_requests() -> None:
    tenant = Tenant(id=1, ulid="", slug="acme", status="activated", database="north")
    caller = Principal(user_id=1, tenant_id=1, anonymous=False, tenant=tenant)
    controlling = caller.of_control_plane()
    assert controlling.session.database is None and caller.session.database == "north"
    assert caller.of_control_plane() is controlling and controlling.of_control_plane() is controlling
    assert replace(caller, user_id=2).of_control_plane().user_id == 2
