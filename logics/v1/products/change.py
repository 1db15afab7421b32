"""A changed product must fit its category as a new one does."""

from __future__ import annotations

from typing import Any

from byodpp.logics import Logic

from .placing import place

__all__ = ["ProductsPatch", "ProductsUpdate"]


class _Change(Logic):
    async def execute(self) -> Any:
        """Judge the product as it will be, then change it."""
        body = self.request.body
        if body.keys() & {"categoryId", "type", "price"}:
            stored = await self.repository.read(self.request.params["id"])
            changed = stored | body
            arriving = changed["categoryId"] != stored["categoryId"]
            type_ = await place(self, changed, arriving=arriving)
            if type_ != stored["type"]:
                self.request.body = {**body, "type": type_}
        return await self.default()


class ProductsUpdate(_Change):
    """PUT /api/v1/products/{id}."""

    resource, operation = "Products", "update"


class ProductsPatch(_Change):
    """PATCH /api/v1/products/{id}."""

    resource, operation = "Products", "patch"
