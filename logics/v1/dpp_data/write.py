"""A value belongs to a data point of its passport's template, and is of its type.

The passport's row is locked first: what is being published cannot change under the publisher.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from byodpp.exceptions import Detail, ValidationFailed
from byodpp.logics import Logic

from ...passports.values import fault_of

__all__ = ["DppDataCreate", "DppDataDelete", "DppDataPatch", "DppDataUpdate"]

_UNKNOWN: Final = "There is nothing with this id."


class DppDataCreate(Logic):
    """POST /api/v1/dpp-data."""

    resource, operation = "DppData", "create"

    async def execute(self) -> Any:
        """Judge the value, find its section, create it."""
        body = self.request.body
        await self.system["Dpps"].lock(body["dppId"])
        self.request.body = {**body, "dppSectionId": await _section(self, body)}
        return await self.default()


class _Change(Logic):
    async def execute(self) -> Any:
        """Judge the value as it will be, then change it."""
        body = self.request.body
        stored = await self.repository.read(self.request.params["id"])
        await self.system["Dpps"].lock(stored["dppId"])
        if body.keys() & {"dppId", "templateFieldId", "value"}:
            self.request.body = {**body, "dppSectionId": await _section(self, stored | body)}
        return await self.default()


class DppDataUpdate(_Change):
    """PUT /api/v1/dpp-data/{id}."""

    resource, operation = "DppData", "update"


class DppDataPatch(_Change):
    """PATCH /api/v1/dpp-data/{id}."""

    resource, operation = "DppData", "patch"


class DppDataDelete(Logic):
    """DELETE /api/v1/dpp-data/{id}."""

    resource, operation = "DppData", "delete"

    async def execute(self) -> Any:
        """Delete a value of a passport that is still being edited."""
        stored = await self.repository.read(self.request.params["id"])
        await self.system["Dpps"].lock(stored["dppId"])
        return await self.default()


async def _section(logic: Logic, datum: Mapping[str, Any]) -> int | None:
    """Return the section in which a value stands.

    Raises:
        ValidationFailed: the data point is none of this passport's, or the value none of its type.
    """
    dpp = await logic.repositories["Dpps"].find({"id": datum["dppId"]})
    field = await logic.repositories["TemplateFields"].find(
        {"id": datum["templateFieldId"]}, include="section,unit"
    )
    faults = [
        Detail(name, "reference", _UNKNOWN)
        for name, row in (("dppId", dpp), ("templateFieldId", field))
        if row is None
    ]
    if dpp is None or field is None:
        raise ValidationFailed(details=faults)
    if field["section"]["templateId"] != dpp["templateId"]:
        told = "The data point belongs to another template than the passport's."
        raise ValidationFailed(details=[Detail("templateFieldId", "incompatible", told)])
    fault = fault_of(field, datum["value"])
    if fault is not None:
        raise ValidationFailed(details=[Detail("value", "invalid", fault)])
    inside = {"dppId": dpp["id"], "templateSectionId": field["section"]["id"]}
    section = await logic.system["DppSections"].find(inside)
    return None if section is None else int(section["id"])
