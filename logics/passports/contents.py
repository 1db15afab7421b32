"""What is in a passport: its template's data points and rules, and the values it has for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from byodpp.repository import Repositories, Repository
from byodpp.rows import Row

__all__ = ["Contents", "read_contents"]

_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A passport with everything that decides whether and how it is published."""

    dpp: Row
    template: Row
    fields: Sequence[Row]  # data points in the order of the template, `section` and `unit` included
    validations: Sequence[Row]
    values: Mapping[str, Sequence[Any]]  # data point's key -> its values in order

    def by_code(self) -> dict[str, Sequence[Any]]:
        """Return the values by the code of their data point."""
        return {
            field["code"]: self.values[field["id"]] for field in self.fields if field["id"] in self.values
        }


async def read_contents(system: Repositories, dpp: Row) -> Contents:
    """Read the contents of a passport.

    Args:
        system: acting for the tenant: what is published does not depend on who asks for it.
        dpp: the passport's row.
    """
    inside = {"section.templateId": dpp["templateId"]}
    fields = await _all(system["TemplateFields"], inside, include="section,unit")
    values: dict[str, list[Any]] = {}
    for datum in await _all(system["DppData"], {"dppId": dpp["id"]}):
        values.setdefault(datum["templateFieldId"], []).append((datum["index"], datum["value"]))
    return Contents(
        dpp=dpp,
        template=await system["Templates"].read(dpp["templateId"]),
        fields=sorted(fields, key=lambda one: (one["section"]["position"], one["position"], one["id"])),
        validations=await _all(system["Validations"], {"templateId": dpp["templateId"]}),
        values={
            key: [value for _, value in sorted(found, key=lambda one: one[0])]
            for key, found in values.items()
        },
    )


async def _all(repository: Repository, filter: Mapping[str, Any], *, include: str | None = None) -> list[Row]:
    rows: list[Row] = []
    while True:
        page = await repository.list(filter, include=include, sort="id", limit=_PAGE, offset=len(rows))
        rows.extend(page)
        if len(page) < _PAGE:
            return rows
