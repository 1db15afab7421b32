"""Version 2 of products keeps the rules of version 1."""

from __future__ import annotations

from ...v1.products import change, create

__all__ = ["ProductsCreateV2", "ProductsPatchV2", "ProductsUpdateV2"]


class ProductsCreateV2(create.ProductsCreate):
    """POST /api/v2/products."""


class ProductsUpdateV2(change.ProductsUpdate):
    """PUT /api/v2/products/{id}."""


class ProductsPatchV2(change.ProductsPatch):
    """PATCH /api/v2/products/{id}."""
