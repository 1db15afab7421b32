"""New products are drafts in a category that can take them; the name is unique there (a unique key)."""

from __future__ import annotations

from typing import Any

from byodpp.logics import Logic

from .placing import place

__all__ = ["ProductsCreate"]


class ProductsCreate(Logic):
    """POST /api/v1/products."""

    resource, operation = "Products", "create"

    async def execute(self) -> Any:
        """Judge the place, take the category's type if there is none, create."""
        body = self.request.body
        self.request.body = {**body, "type": await place(self, body, arriving=True)}
        return await self.default()
