"""What anybody may read: passports by their identifiers (EN 18222) and by GS1 Digital Links.

A public address leads to the same passport whoever follows it, signed in anywhere or nowhere: what
the public rules of `Dpps` show of a row, of whichever tenant. A row that those hide does not exist.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from byodpp.exceptions import Detail, Malformed, NotFound
from byodpp.logics import Logic

from ...passports.identifiers import gtin14, is_gtin
from ...passports.publication import as_reply

__all__ = ["DppsReadById", "DppsReadByProductId", "DppsResolveBatch", "DppsResolveItem", "DppsResolveModel"]

_PUBLIC = ["published", "suspended", "superseded", "archived", "withdrawn", "ended"]


class _Reading(Logic):
    @abstractmethod
    def wanted(self) -> dict[str, Any]:
        """Return the filter that finds the passport."""

    async def execute(self) -> Any:
        """Answer with the newest passport that is wanted and public."""
        wanted = {"and": [self.wanted(), {"status": {"in": _PUBLIC}}]}
        page = await self.published["Dpps"].list(wanted, sort="-publishedAt", limit=1)
        if not len(page):
            raise NotFound("There is no published passport with this identifier.")
        return as_reply(page[0])


class DppsReadById(_Reading):
    """GET /v1/dpps/{dppId}."""

    resource, action = "Dpps", "readDppById"

    def wanted(self) -> dict[str, Any]:
        """By the passport's own identifier."""
        return {"passportId": {"eq": self.request.params["dppId"]}}


class DppsReadByProductId(_Reading):
    """GET /v1/dppsByProductId/{productId}."""

    resource, action = "Dpps", "readDppByProductId"

    def wanted(self) -> dict[str, Any]:
        """By the unique product identifier."""
        return {"upi": {"eq": self.request.params["productId"]}}


class _Resolving(_Reading):
    def by_gtin(self, **more: str) -> dict[str, Any]:
        """Return the filter of a Digital Link."""
        gtin = self.request.params["gtin"]
        if not is_gtin(gtin):
            fault = Detail(
                "gtin", "check_digit", "Must be a GTIN of 8, 12, 13 or 14 digits with a right check digit."
            )
            raise Malformed("This is not a GS1 Digital Link.", details=[fault])
        return {name: {"eq": value} for name, value in {"gtin": gtin14(gtin), **more}.items()}


class DppsResolveModel(_Resolving):
    """GET /01/{gtin}."""

    resource, action = "Dpps", "resolveModel"

    def wanted(self) -> dict[str, Any]:
        """The passport of the model."""
        return self.by_gtin(granularity="model")


class DppsResolveBatch(_Resolving):
    """GET /01/{gtin}/10/{batch}."""

    resource, action = "Dpps", "resolveBatch"

    def wanted(self) -> dict[str, Any]:
        """The passport of the batch."""
        return self.by_gtin(granularity="batch") | {"batchNumber": {"eq": self.request.params["batch"]}}


class DppsResolveItem(_Resolving):
    """GET /01/{gtin}/21/{serial}."""

    resource, action = "Dpps", "resolveItem"

    def wanted(self) -> dict[str, Any]:
        """The passport of the item."""
        return self.by_gtin(granularity="item", serialNumber=self.request.params["serial"])
