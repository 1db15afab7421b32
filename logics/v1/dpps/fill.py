"""Taking what is known about a product into its passport."""

from __future__ import annotations

from typing import Any

from byodpp.exceptions import StateConflict
from byodpp.logics import Logic

from ...passports.contents import read_contents
from ...passports.values import fault_of

__all__ = ["DppsFill"]


class DppsFill(Logic):
    """POST /api/v1/dpps/{id}/fill."""

    resource, action = "Dpps", "fill:post"

    async def execute(self) -> Any:
        """Fill every empty data point for which the product has a value that fits; the newest counts."""
        dpp = await self.repository.read(self.request.params["id"])
        if dpp["status"] not in ("draft", "inReview"):
            raise StateConflict(
                f"Only a draft or a passport in review is filled; this one is {dpp['status']}."
            )
        contents = await read_contents(self.system, dpp)
        sections = await self.system["DppSections"].list({"dppId": dpp["id"]}, limit=1000)
        section_of = {one["templateSectionId"]: one["id"] for one in sections}
        rows = []
        for field in contents.fields:
            if field["id"] in contents.values:
                continue
            known = await self.repositories["ProductData"].list(
                {"productId": dpp["productId"], "templateFieldId": field["id"]}, sort="-observedAt", limit=1
            )
            if len(known) and fault_of(field, known[0]["value"]) is None:
                rows.append(
                    {
                        "dppId": dpp["id"],
                        "dppSectionId": section_of.get(field["section"]["id"]),
                        "templateFieldId": field["id"],
                        "value": known[0]["value"],
                        "unitId": known[0]["unitId"],
                        "productDataId": known[0]["id"],
                    }
                )
        await self.repositories["DppData"].batch(rows)
        codes = {field["id"]: field["code"] for field in contents.fields}
        return {"filled": [codes[row["templateFieldId"]] for row in rows]}
