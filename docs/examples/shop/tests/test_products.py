"""What products promise."""


async def test_at_most_two_products_are_featured(application):
    admin = application.client(role="Admin")
    lamps = await admin.post("/api/v1/categories", json={"name": "Lamps"})
    category = lamps.json()["data"]["id"]
    statuses = []
    for name in ("Arc", "Globe", "Tube"):
        created = await admin.post("/api/v1/products", json={"name": name, "categoryId": category})
        address = f"{created.headers['location']}/feature"
        statuses.append((await admin.post(address, json={"reason": "season"})).status_code)
    assert statuses == [200, 200, 409]
    assert [event.name for event in await application.events()].count("product.featured") == 2


async def test_a_closed_category_takes_no_products(application):
    async with application.repositories(tenant="acme") as repositories:
        closed = await repositories["Categories"].create({"name": "Archive", "isActive": False})
    manager = application.client(role="Manager")
    refused = await manager.post("/api/v1/products", json={"name": "Arc", "categoryId": closed["id"]})
    assert refused.json()["error"]["code"] == "category_closed"


async def test_no_product_is_sold_below_its_cost(application):
    manager = application.client(role="Manager")
    offered = {"name": "Arc", "categoryId": 1, "price": 5, "purchasePrice": 9}
    refused = await manager.post("/api/v1/products", json=offered)
    assert refused.status_code == 422
    assert refused.json()["error"]["details"][0]["field"] == "price"


async def test_other_tenants_are_not_there(application):
    async with application.repositories(tenant="beta") as repositories:
        foreign = await repositories["Categories"].create({"name": "Lamps"})
    admin = application.client(role="Admin", tenant="acme")
    assert (await admin.get(f"/api/v1/categories/{foreign['id']}")).status_code == 404
