"""Products in version 1."""

from __future__ import annotations

from ...products import ProductIdentifiersSchema, ProductStateSchema

__all__ = ["ProductsChange", "ProductsCreate"]


class ProductsCreate(ProductStateSchema):
    """Body of POST."""

    resource, operation, extends = "Products", "create", True


class ProductsChange(ProductIdentifiersSchema):
    """Body of PUT and PATCH."""

    resource, operation, extends = "Products", ("update", "patch"), True
