"""A passport is created with its sections and its audit entry in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from byodpp.exceptions import Detail, ValidationFailed
from byodpp.logics import Logic

__all__ = ["DppsCreate"]

_UNKNOWN: Final = "There is nothing with this id."


class DppsCreate(Logic):
    """POST /api/v1/dpps."""

    resource, operation = "Dpps", "create"

    async def execute(self) -> Any:
        """Judge product and template, create the passport, then a section for each of the template's."""
        body = self.request.body
        product = await self.repositories["Products"].find({"id": body["productId"]})
        template = await self.repositories["Templates"].find({"id": body["templateId"]})
        category = product and await self.system["Categories"].find({"id": product["categoryId"]})
        faults = list(_faults(product, template, category))
        if faults or product is None:
            raise ValidationFailed(details=faults)
        self.request.body = {
            **body,
            "categoryId": product["categoryId"],
            "granularity": product["granularity"],
            "commodityCode": body.get("commodityCode") or (category and category["commodityCode"]),
            "uuid": None,
        }
        dpp = await self.default()
        sections = await self.system["TemplateSections"].list(
            {"templateId": body["templateId"]}, sort="position,id", limit=1000
        )
        await self.system["DppSections"].batch(
            [
                {
                    "dppId": dpp["id"],
                    "templateSectionId": section["id"],
                    "code": section["code"],
                    "name": section["title"],
                    "order": order,
                }
                for order, section in enumerate(sections)
            ]
        )
        made = {"productId": product["id"], "templateId": body["templateId"], "sections": len(sections)}
        await self.audit("CREATE_DPP", dpp["id"], made)
        return dpp


def _faults(
    product: Mapping[str, Any] | None, template: Mapping[str, Any] | None, category: Mapping[str, Any] | None
) -> Iterator[Detail]:
    if product is None:
        yield Detail("productId", "reference", _UNKNOWN)
    if template is None:
        yield Detail("templateId", "reference", _UNKNOWN)
        return
    if template["status"] != "published":
        yield Detail(
            "templateId", "not_published", f"The template {template['name']} is {template['status']}."
        )
    if product is None:
        return
    if template["categoryId"] not in (None, product["categoryId"]):
        yield Detail("templateId", "incompatible", "The template is for another category than the product's.")
    type_ = product["type"] or (category and category["productType"])
    if template["productType"] not in (None, type_):
        told = f"The template is for products of type {template['productType']}."
        yield Detail("templateId", "incompatible", told)
    if product["granularity"] not in template["granularity"]:
        told = f"The template is not for products as {product['granularity']}."
        yield Detail("templateId", "incompatible", told)
