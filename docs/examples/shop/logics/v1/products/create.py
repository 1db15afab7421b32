"""New products belong to a category that is active."""

from byodpp.exceptions import Conflict
from byodpp.logics import Logic


class ProductsCreate(Logic):
    resource, operation = "Products", "create"

    async def execute(self):
        category = await self.repositories["Categories"].read(self.request.body["categoryId"])
        if not category["isActive"]:
            raise Conflict("The category is closed", code="category_closed")
        return await self.default()
