"""The catalogue of the reference application: what products and categories promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from byodpp.testing import TestedApplication
from tests.reference_world import GTIN, Person, refusal


@pytest.fixture
async def admin(application: TestedApplication) -> AsyncIterator[Person]:
    yield Person(application, "Admin")


@pytest.fixture
async def manager(application: TestedApplication) -> AsyncIterator[Person]:
    yield Person(application, "Manager")


@pytest.fixture
async def viewer(application: TestedApplication) -> AsyncIterator[Person]:
    yield Person(application, "Viewer")


async def test_a_new_product_is_a_draft_with_its_defaults(manager: Person) -> None:
    product = await manager.product()
    assert product["status"] == "draft"
    assert (product["isEnabled"], product["isFeatured"], product["granularity"]) == (True, False, "model")
    assert product["metadata"] == {}


async def test_saying_draft_is_allowed_and_saying_anything_else_is_not(manager: Person) -> None:
    assert (await manager.product(status="draft"))["status"] == "draft"
    home = await manager.category()
    for status in ("published", "Draft", "", None, 1):
        body = {"name": "x", "categoryId": home["id"], "status": status}
        error = await manager.post("/api/v1/products", body, 422)
        assert "status" in {one["field"] for one in error["details"]}, status
    error = await manager.post(
        "/api/v1/products", {"name": "x", "categoryId": home["id"], "status": "active"}, 422
    )
    assert error["details"][0]["message"] == "Product status must be draft upon creation"


async def test_the_status_is_changed_by_transitions_only(manager: Person) -> None:
    product = await manager.product()
    url = f"/api/v1/products/{product['id']}"
    error = await manager.ask("PATCH", url, 422, {"status": "published"})
    assert refusal(error) == {("status", "read_only")}
    assert (await manager.post(f"{url}/publish"))["status"] == "published"
    assert (await manager.post(f"{url}/publish", status=409))["code"] == "state_conflict"


async def test_only_an_admin_recalls(manager: Person, admin: Person) -> None:
    product = await manager.published_product()
    url = f"/api/v1/products/{product['id']}/recall"
    await manager.post(url, status=403)
    assert (await admin.post(url))["status"] == "recalled"


async def test_the_category_must_exist_and_be_active(manager: Person) -> None:
    error = await manager.post("/api/v1/products", {"name": "x", "categoryId": 999999}, 422)
    assert refusal(error) == {("categoryId", "reference")}
    closed = await manager.category(isActive=False)
    error = await manager.post("/api/v1/products", {"name": "x", "categoryId": closed["id"]}, 422)
    assert refusal(error) == {("categoryId", "inactive")}


async def test_another_tenants_category_is_as_unknown_as_none(
    application: TestedApplication, manager: Person
) -> None:
    theirs = await Person(application, "Manager", tenant="beta").category()
    unknown = await manager.post("/api/v1/products", {"name": "x", "categoryId": 999999}, 422)
    foreign = await manager.post("/api/v1/products", {"name": "x", "categoryId": theirs["id"]}, 422)
    assert foreign["details"] == unknown["details"]
    assert foreign["message"] == unknown["message"]


async def test_a_name_is_unique_in_its_category(manager: Person) -> None:
    home, other = await manager.category(), await manager.category()
    await manager.product(home, name="Arc")
    await manager.product(other, name="Arc")
    error = await manager.post("/api/v1/products", {"name": "Arc", "categoryId": home["id"]}, 409)
    assert error["code"] == "unique_conflict"


async def test_type_and_price_must_fit_the_category(manager: Person) -> None:
    home = await manager.category(productType="lighting", minPrice=10, maxPrice=100)
    assert (await manager.product(home, price=10))["type"] == "lighting"
    wrong = {"name": "x", "categoryId": home["id"], "type": "battery", "price": 100.01}
    error = await manager.post("/api/v1/products", wrong, 422)
    assert refusal(error) == {("type", "incompatible"), ("price", "out_of_range")}


async def test_a_changed_product_must_fit_as_a_new_one_does(manager: Person) -> None:
    home = await manager.category(maxPrice=100)
    full = await manager.category(maxProducts=0)
    product = await manager.product(home, price=50)
    url = f"/api/v1/products/{product['id']}"
    assert refusal(await manager.ask("PATCH", url, 422, {"price": 101})) == {("price", "out_of_range")}
    assert (await manager.ask("PATCH", url, 409, {"categoryId": full["id"]}))["code"] == "conflict"
    assert refusal(await manager.ask("PUT", url, 422, {**product, "price": 101})) == {
        ("price", "out_of_range")
    }
    await manager.ask("PUT", url, 200, product)


async def test_a_full_category_takes_no_product_even_when_two_come_at_once(manager: Person) -> None:
    home = await manager.category(maxProducts=2)
    bodies = [{"name": f"P{number}", "categoryId": home["id"]} for number in range(6)]
    answers = await asyncio.gather(*(manager.client.post("/api/v1/products", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409, 409]


async def test_a_batch_is_judged_item_by_item_and_leaves_nothing_behind(manager: Person) -> None:
    home, closed = await manager.category(), await manager.category(isActive=False)
    items = [{"name": "A", "categoryId": home["id"]}, {"name": "B", "categoryId": closed["id"]}]
    error = await manager.post("/api/v1/products/batch", items, 422)
    assert refusal(error) == {("1.categoryId", "inactive")}
    assert await manager.get(f"/api/v1/products?filter[categoryId]={home['id']}") == []


@pytest.mark.parametrize("gtin", ["09521234567898", "1234567890123", "00000001", "952123456789"])
async def test_a_gtin_with_a_wrong_check_digit_is_refused_everywhere(manager: Person, gtin: str) -> None:
    product = await manager.product(gtin=GTIN)
    url = f"/api/v1/products/{product['id']}"
    body = {"name": "x", "categoryId": product["categoryId"], "gtin": gtin}
    for method, address in (
        ("POST", "/api/v1/products"),
        ("POST", "/api/v2/products"),
        ("PATCH", url),
        ("PUT", url),
    ):
        sent = {"gtin": gtin} if method == "PATCH" else body
        assert refusal(await manager.ask(method, address, 422, sent)) == {("gtin", "check_digit")}, address


# --- featuring ---------------------------------------------------------------------------


async def test_only_an_admin_features(manager: Person, viewer: Person, admin: Person) -> None:
    product = await manager.product()
    url = f"/api/v1/products/{product['id']}"
    await manager.post(f"{url}/feature", status=403)
    await viewer.post(f"{url}/feature", status=403)
    assert (await admin.post(f"{url}/feature"))["isFeatured"] is True
    assert (await admin.post(f"{url}/feature"))["isFeatured"] is True
    assert (await admin.post(f"{url}/unfeature"))["isFeatured"] is False
    await admin.post("/api/v1/products/999999/feature", status=404)


async def test_at_most_ten_products_are_featured_even_when_all_come_at_once(admin: Person) -> None:
    home = await admin.category()
    bodies = [{"name": f"P{number}", "categoryId": home["id"]} for number in range(12)]
    rows = await admin.post("/api/v1/products/batch", bodies, 201)
    urls = [f"/api/v1/products/{row['id']}/feature" for row in rows]
    answers = await asyncio.gather(*(admin.client.post(url) for url in urls))
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [409] * 2
    assert len(await admin.get("/api/v1/products?filter[isFeatured]=true")) == 10


async def test_the_ten_are_counted_per_tenant(application: TestedApplication, admin: Person) -> None:
    home = await admin.category()
    for number in range(10):
        product = await admin.product(home, name=f"P{number}")
        await admin.post(f"/api/v1/products/{product['id']}/feature")
    other = Person(application, "Admin", tenant="beta")
    theirs = await other.product()
    await other.post(f"/api/v1/products/{theirs['id']}/feature")


async def test_a_client_cannot_feature_by_writing_the_field(admin: Person) -> None:
    product = await admin.product()
    error = await admin.ask("PATCH", f"/api/v1/products/{product['id']}", 422, {"isFeatured": True})
    assert refusal(error) == {("isFeatured", "read_only")}


# --- transfer ----------------------------------------------------------------------------


async def test_a_transfer_changes_audits_and_tells_in_one_transaction(
    application: TestedApplication, manager: Person, admin: Person
) -> None:
    product, target = await manager.product(), await manager.category()
    body = {"categoryId": target["id"], "reason": "new range"}
    moved = await manager.post(f"/api/v1/products/{product['id']}/transfer", body)
    assert moved["categoryId"] == target["id"]
    entries = await admin.get(
        f"/api/v1/audit-logs?filter[action]=TRANSFER&filter[resourceId]={product['id']}"
    )
    assert [entry["changes"]["reason"] for entry in entries] == ["new range"]
    [event] = [one for one in await application.events() if one.name == "product.transferred"]
    assert event.data == {
        "productId": product["id"], "fromCategoryId": product["categoryId"], "toCategoryId": target["id"],
    }  # fmt: skip


async def test_a_refused_transfer_leaves_no_trace(
    application: TestedApplication, manager: Person, admin: Person
) -> None:
    product = await manager.product(type="lighting")
    url = f"/api/v1/products/{product['id']}/transfer"
    full = await manager.category(maxProducts=0)
    closed = await manager.category(isActive=False, productType="battery")
    await manager.post(url, {"categoryId": full["id"]}, 409)
    await manager.post(url, {"categoryId": product["categoryId"]}, 409)
    assert refusal(await manager.post(url, {"categoryId": closed["id"]}, 422)) == {
        ("categoryId", "inactive"), ("type", "incompatible"),
    }  # fmt: skip
    assert refusal(await manager.post(url, {"categoryId": 999999}, 422)) == {("categoryId", "reference")}
    assert refusal(await manager.post(url, {}, 422)) == {("categoryId", "required")}
    assert refusal(await manager.post(url, {"categoryId": 2**63}, 422)) == {("categoryId", "out_of_range")}
    assert await manager.get(f"/api/v1/products/{product['id']}") == product
    assert await admin.get("/api/v1/audit-logs?filter[action]=TRANSFER") == []
    assert "product.transferred" not in {one.name for one in await application.events()}


async def test_a_name_that_the_target_has_already_stops_a_transfer(manager: Person) -> None:
    target = await manager.category()
    await manager.product(target, name="Arc")
    product = await manager.product(name="Arc")
    await manager.post(f"/api/v1/products/{product['id']}/transfer", {"categoryId": target["id"]}, 409)


async def test_a_viewer_transfers_nothing_and_an_unknown_product_is_not_found(
    manager: Person, viewer: Person, application: TestedApplication
) -> None:
    product, target = await manager.product(), await manager.category()
    await viewer.post(f"/api/v1/products/{product['id']}/transfer", {"categoryId": target["id"]}, 403)
    stranger = Person(application, "Admin", tenant="beta")
    await stranger.post(f"/api/v1/products/{product['id']}/transfer", {"categoryId": target["id"]}, 404)


# --- the rest ----------------------------------------------------------------------------


async def test_a_manager_deletes_drafts_only_and_an_admin_everything(manager: Person, admin: Person) -> None:
    draft, published = await manager.product(), await manager.published_product()
    await manager.ask("DELETE", f"/api/v1/products/{draft['id']}", 204)
    await manager.ask("DELETE", f"/api/v1/products/{published['id']}", 403)
    await admin.ask("DELETE", f"/api/v1/products/{published['id']}", 204)


async def test_version_two_has_the_same_rows_under_other_names(manager: Person) -> None:
    product = await manager.product(sku="A-1", price=5)
    second = await manager.get(f"/api/v2/products/{product['id']}")
    assert (second["articleNumber"], second["price"]) == ("A-1", 5)
    assert "sku" not in second and "weight" in second
    size = {"length": 1, "width": 2, "height": 3.5}
    body = {
        "name": "B",
        "categoryId": product["categoryId"],
        "articleNumber": "B-1",
        "weight": 1.25,
        "dimensions": size,
    }
    made = await manager.post("/api/v2/products", body, 201)
    assert (made["dimensions"], made["weight"], made["status"]) == (size, 1.25, "draft")
    assert (await manager.get(f"/api/v1/products/{made['id']}"))["sku"] == "B-1"
    assert refusal(await manager.post("/api/v2/products", {**body, "sku": "x"}, 422)) == {
        ("sku", "unknown_field")
    }
    assert (await manager.post("/api/v2/products", {**body, "name": "C"}, 409))["code"] == "unique_conflict"


async def test_the_accept_header_chooses_the_version(manager: Person) -> None:
    product = await manager.product(sku="A-1")
    url = f"/api/products/{product['id']}"
    assert (await manager.get(url))["sku"] == "A-1"
    chosen = {"Accept": "application/vnd.byo-dpp.v2+json"}
    assert (await manager.get(url, headers=chosen))["articleNumber"] == "A-1"
    await manager.get(url, 400, headers={"Accept": "application/vnd.byo-dpp.v3+json"})


async def test_version_two_keeps_the_rules_of_version_one(manager: Person) -> None:
    closed = await manager.category(isActive=False)
    body = {"name": "x", "categoryId": closed["id"]}
    assert refusal(await manager.post("/api/v2/products", body, 422)) == {("categoryId", "inactive")}
    error = await manager.post("/api/v2/products", {**body, "status": "published"}, 422)
    assert refusal(error) == {("status", "enum")}


async def test_relations_lead_both_ways(manager: Person) -> None:
    home = await manager.category()
    product = await manager.product(home)
    kept = {"productId": product["id"], "code": "mass", "value": {"value": 1.5, "unit": "KGM"}}
    await manager.create("product-data", **kept, observedAt="2026-01-01T00:00:00Z")
    url = "/api/v1/categories?include=products.productData&filter[products][some][id]="
    [found] = await manager.get(f"{url}{product['id']}")
    [inner] = found["products"]
    assert inner["productData"][0]["value"] == kept["value"]
    seen = await manager.get(f"/api/v1/products/{product['id']}?include=category,productData")
    assert seen["category"]["id"] == home["id"]


async def test_units_and_industries_are_everybodys_and_written_by_the_platform_only(
    application: TestedApplication, admin: Person
) -> None:
    unit = {"code": "KGM", "name": "kilogram"}
    operator = Person(application, "Admin", tenant="platform")
    await admin.post("/api/v1/units", unit, 403)
    await operator.post("/api/v1/units", unit, 201)
    nobody = Person(application, None)
    for reader in (admin, nobody):
        found: Any = await reader.get("/api/v1/units?filter[code]=KGM&fields=code,name")
        assert found == [unit]


async def test_there_is_one_row_of_settings(admin: Person, viewer: Person) -> None:
    made = await admin.create("settings")
    assert (made["emailNotifications"], made["twoFactorAuth"], made["sessionTimeout"]) == (True, False, 3600)
    await admin.post("/api/v1/settings", {}, 409)
    await viewer.ask("PATCH", f"/api/v1/settings/{made['id']}", 403, {"sessionTimeout": 60})
    assert refusal(
        await admin.ask("PATCH", f"/api/v1/settings/{made['id']}", 422, {"sessionTimeout": 1})
    ) == {("sessionTimeout", "out_of_range")}


async def test_what_one_may_see_of_users_depends_on_the_role(
    admin: Person, manager: Person, viewer: Person
) -> None:
    await admin.create("users", name="Ada", email="ada@example.com", phone="+49 30 1")
    for person, names in ((manager, {"id", "name", "email", "status"}), (viewer, {"id", "name"})):
        [row] = await person.get("/api/v1/users?filter[name]=Ada")
        assert set(row) == names
    await viewer.get("/api/v1/users?filter[email]=ada@example.com", 400)
