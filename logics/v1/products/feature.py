"""Featured products: at most ten of a tenant."""

from __future__ import annotations

from typing import Any, Final

from byodpp.exceptions import Conflict
from byodpp.logics import Logic

__all__ = ["ProductsFeature", "ProductsUnfeature"]

_MOST: Final = 10


class ProductsFeature(Logic):
    """POST /api/v1/products/{id}/feature."""

    resource, action = "Products", "feature:post"

    async def execute(self) -> Any:
        """Feature the product; one that is featured already stays so."""
        product = await self.repository.read(self.request.params["id"])
        if product["isFeatured"]:
            return product
        async with self.lock("featured-products"):
            if await self.system["Products"].count({"isFeatured": True}) >= _MOST:
                raise Conflict(f"At most {_MOST} products can be featured.")
            return await self.repository.patch(product["id"], {"isFeatured": True})


class ProductsUnfeature(Logic):
    """POST /api/v1/products/{id}/unfeature."""

    resource, action = "Products", "unfeature:post"

    async def execute(self) -> Any:
        """End featuring the product."""
        return await self.repository.patch(self.request.params["id"], {"isFeatured": False})
