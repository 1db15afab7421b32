"""At most two products are featured at a time."""

from marshmallow import Schema, fields

from byodpp.exceptions import Conflict
from byodpp.logics import Logic


class FeatureInput(Schema):
    reason = fields.String(required=True)


class ProductsFeature(Logic):
    resource, action = "Products", "feature:post"
    input = FeatureInput

    async def execute(self):
        id = self.request.params["id"]
        async with self.lock("featured-products"):
            if await self.system["Products"].count({"isFeatured": True}) >= 2:
                raise Conflict("At most 2 products can be featured")
            product = await self.repository.patch(id, {"isFeatured": True})
        await self.audit("PRODUCT_FEATURED", id, {"reason": self.request.body["reason"]})
        self.emit("product.featured", {"id": product["id"]}, resource_id=product["id"])
        return product
