"""Whether a category can take a product: it is active, the type and the price fit, there is room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from byodpp.exceptions import Conflict, Detail, ValidationFailed
from byodpp.logics import Logic

__all__ = ["place"]


async def place(logic: Logic, product: Mapping[str, Any], *, arriving: bool) -> str | None:
    """Judge a product's place in its category.

    Args:
        logic: in whose transaction.
        product: `categoryId`, and `type` and `price` if any, as they will be.
        arriving: whether the product is new in the category, so that it needs room.

    Returns:
        The product's type: its own, else the category's.

    Raises:
        ValidationFailed: the category is unknown or inactive, or type or price do not fit.
        Conflict: the category is full.
    """
    category = await logic.repositories["Categories"].find({"id": product["categoryId"]})
    if category is None:
        details = [Detail("categoryId", "reference", "There is nothing with this id.")]
        raise ValidationFailed(details=details)
    faults = list(_faults(category, product, arriving=arriving))
    if faults:
        raise ValidationFailed(details=faults)
    if arriving and category["maxProducts"] is not None:
        await _require_room(logic, category)
    type_: str | None = product.get("type") or category["productType"]
    return type_


def _faults(category: Mapping[str, Any], product: Mapping[str, Any], *, arriving: bool) -> Any:
    if arriving and not category["isActive"]:
        yield Detail("categoryId", "inactive", f"The category {category['name']} is not active.")
    wanted, type_, price = category["productType"], product.get("type"), product.get("price")
    if wanted is not None and type_ is not None and type_ != wanted:
        yield Detail(
            "type", "incompatible", f"{category['name']} takes products of type {wanted}, not {type_}."
        )
    if price is not None and category["minPrice"] is not None and price < category["minPrice"]:
        yield Detail(
            "price", "out_of_range", f"Prices in {category['name']} begin at {category['minPrice']}."
        )
    if price is not None and category["maxPrice"] is not None and price > category["maxPrice"]:
        yield Detail("price", "out_of_range", f"Prices in {category['name']} end at {category['maxPrice']}.")


async def _require_room(logic: Logic, category: Mapping[str, Any]) -> None:
    # Two that arrive at once must not both find the last place free.
    async with logic.lock(f"category-{category['id']}"):
        held = await logic.system["Products"].count({"categoryId": category["id"]})
    if held >= category["maxProducts"]:
        raise Conflict(
            f"The category {category['name']} is full: it holds {category['maxProducts']} products."
        )
