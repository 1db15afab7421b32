"""Tenants of the reference application: what operators decide, and what it decides itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from byodpp.testing import TestedApplication
from tests.reference_world import Person, refusal


@pytest.fixture
async def admin(application: TestedApplication) -> AsyncIterator[Person]:
    yield Person(application, "Admin")


@pytest.fixture
async def operator(application: TestedApplication) -> AsyncIterator[Person]:
    yield Person(application, "Admin", tenant="platform")


async def test_the_operators_register_a_tenant_and_lead_it_through_its_life(operator: Person) -> None:
    tenant = await operator.create("tenants", name="Gamma", slug="gamma", type="retailer")
    assert (tenant["status"], len(tenant["ulid"])) == ("invited", 26)
    url = f"/api/v1/tenants/{tenant['id']}"
    assert (await operator.post(f"{url}/activate", status=409))["code"] == "state_conflict"
    assert (await operator.post(f"{url}/accept"))["status"] == "accepted"
    assert "reactivatedAt" in (await operator.post(f"{url}/activate"))["metadata"]
    assert refusal(await operator.post(f"{url}/deactivate", {"reason": "mood"}, 422)) == {("reason", "enum")}
    suspended = await operator.post(f"{url}/deactivate", {"reason": "payment"})
    assert (suspended["status"], suspended["metadata"]["suspensionReason"]) == ("deactivated", "payment")
    assert refusal(await operator.post("/api/v1/tenants", {"name": "Gamma", "slug": "gamma"}, 409)) == {
        ("slug", "unique")
    }


async def test_a_suspended_tenants_tokens_are_refused_from_then_on(
    application: TestedApplication, admin: Person, operator: Person
) -> None:
    await admin.get("/api/v1/products")
    acme = await application.tenant("acme")
    await operator.post(f"/api/v1/tenants/{acme.id}/deactivate", {"reason": "security"})
    await admin.get("/api/v1/products", 401)


@pytest.mark.parametrize("metadata", [[1], "text", 7, True, None])
async def test_no_metadata_of_an_organisation_stand_against_its_suspension(
    application: TestedApplication, admin: Person, operator: Person, metadata: object
) -> None:
    acme = await application.tenant("acme")
    url = f"/api/v1/tenants/{acme.id}"
    await admin.ask("PATCH", url, 200, {"metadata": metadata})
    suspended = await operator.post(f"{url}/deactivate", {"reason": "security"})
    assert (suspended["status"], suspended["metadata"]["suspensionReason"]) == ("deactivated", "security")
    assert suspended["metadata"].get("metadata") == metadata
    assert (await operator.post(f"{url}/activate"))["status"] == "activated"


async def test_an_organisation_changes_its_profile_and_not_its_standing(
    application: TestedApplication, admin: Person
) -> None:
    [own] = await admin.get("/api/v1/tenants")
    url = f"/api/v1/tenants/{own['id']}"
    changed = await admin.ask("PATCH", url, 200, {"country": "DE", "contactEmail": "info@acme.example"})
    assert changed["country"] == "DE"
    await admin.ask("PUT", url, 200, changed)
    for field, value in (("slug", "other"), ("domain", "acme.example"), ("tenantClassId", 1)):
        error = await admin.ask("PATCH", url, 403, {field: value})
        assert refusal(error) == {(field, "forbidden")}
    for step in ("activate", "accept", "reject"):
        await admin.post(f"{url}/{step}", status=403)
    await admin.post(f"{url}/deactivate", {"reason": "payment"}, 403)
    await admin.post("/api/v1/tenants", {"name": "Mine", "slug": "mine"}, 403)
    beta = await application.tenant("beta")
    await admin.get(f"/api/v1/tenants/{beta.id}", 404)
    await admin.ask("PATCH", f"/api/v1/tenants/{beta.id}", 404, {"country": "DE"})


async def test_a_list_of_operator_identifiers_is_checked_item_by_item(admin: Person) -> None:
    [own] = await admin.get("/api/v1/tenants")
    wrong = {"operatorIds": [{"scheme": "gln", "value": "9520000000011"}, {"scheme": "fax", "value": ""}]}
    error = await admin.ask("PATCH", f"/api/v1/tenants/{own['id']}", 422, wrong)
    assert {field for field, _ in refusal(error)} == {"operatorIds.1.scheme", "operatorIds.1.value"}


async def test_a_users_membership_ends_with_the_user(admin: Person) -> None:
    user = await admin.create("users", name="Ada")
    membership = await admin.create("tenant-users", userId=user["id"], title="Engineer")
    await admin.post("/api/v1/tenant-users", {"userId": user["id"]}, 409)
    await admin.ask("DELETE", f"/api/v1/users/{user['id']}", 204)
    await admin.get(f"/api/v1/tenant-users/{membership['id']}", 404)


async def test_a_policy_of_the_tenant_takes_a_field_from_a_role(
    application: TestedApplication, admin: Person
) -> None:
    product = await admin.product(price=5)
    viewer = Person(application, "Viewer")
    rule = {
        "subject": "Viewer",
        "object": "Products",
        "action": "read",
        "effect": "deny",
        "fields": ["price"],
    }
    await admin.create("policies", **rule)
    seen = await viewer.get(f"/api/v1/products/{product['id']}")
    assert seen.get("price") is None and seen["name"] == product["name"]
    await viewer.get("/api/v1/products?filter[price][gt]=1", 400)
    theirs = Person(application, "Viewer", tenant="beta")
    await theirs.get("/api/v1/products?filter[price][gt]=1")
