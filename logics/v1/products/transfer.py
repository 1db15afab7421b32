"""Moving a product into another category: checks, change, audit entry and event in one transaction."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, validate

from byodpp.exceptions import Conflict
from byodpp.logics import Logic

from .placing import place

__all__ = ["ProductsTransfer"]


class TransferSchema(Schema):
    """Where to."""

    categoryId = fields.Integer(
        required=True,
        strict=True,
        validate=validate.Range(min=1, max=2**63 - 1),
        metadata={"description": "The new category."},
    )
    reason = fields.String(
        load_default=None,
        allow_none=True,
        validate=validate.Length(max=1000),
        metadata={"description": "For the audit log."},
    )


class ProductsTransfer(Logic):
    """POST /api/v1/products/{id}/transfer."""

    resource, action = "Products", "transfer:post"
    input = TransferSchema

    async def execute(self) -> Any:
        """Move the product."""
        product = await self.repository.read(self.request.params["id"])
        target = self.request.body["categoryId"]
        source = product["categoryId"]
        if target == source:
            raise Conflict("The product is in this category already.")
        type_ = await place(self, product | {"categoryId": target}, arriving=True)
        moved = await self.repository.patch(product["id"], {"categoryId": target, "type": type_})
        move = {"productId": product["id"], "fromCategoryId": source, "toCategoryId": target}
        await self.audit("TRANSFER", product["id"], {**move, "reason": self.request.body["reason"]})
        self.emit("product.transferred", move, resource_id=product["id"])
        return moved
