"""The way of a passport to the public: submit, validate, publish, resume, revise."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, Final

from marshmallow import Schema, fields, validate

from byodpp.exceptions import Conflict, Detail, Forbidden, StateConflict, ValidationFailed
from byodpp.logics import Logic
from byodpp.rows import Row

from ...passports.contents import Contents, read_contents
from ...passports.examination import examine, refuse_faulty
from ...passports.identifiers import digital_link, gtin14
from ...passports.publication import publish_version
from ...passports.values import fault_of

__all__ = ["DppsPublish", "DppsResume", "DppsRevise", "DppsSubmit", "DppsValidate"]

#: Host of the resolver for tenants without a domain of their own; for demonstrations.
_DEFAULT_HOST: Final = "id.dpp.example"


class DppsSubmit(Logic):
    """POST /api/v1/dpps/{id}/submit."""

    resource, action = "Dpps", "submit:post"

    async def execute(self) -> Any:
        """Hand it to review, and remember who did."""
        await self.default()
        key = self.request.params["id"]
        await self.system["Dpps"].patch(key, {"submittedById": self.request.user.user_id or None})
        return await self.repository.read(key)


class DppsValidate(Logic):
    """POST /api/v1/dpps/{id}/validate."""

    resource, action = "Dpps", "validate:post"

    async def execute(self) -> Any:
        """Tell what keeps it from being published."""
        dpp = await self.repository.read(self.request.params["id"])
        findings = examine(await read_contents(self.system, dpp))
        return {
            "valid": all(one.severity != "error" for one in findings),
            "findings": [
                {"field": one.field, "code": one.code, "message": one.message, "severity": one.severity}
                for one in findings
            ],
        }


class DppsPublish(Logic):
    """POST /api/v1/dpps/{id}/publish."""

    resource, action = "Dpps", "publish:post"

    async def execute(self) -> Any:
        """Take the step, which locks the row; then judge: a refusal undoes the step."""
        await self.default()
        dpp = await self.system["Dpps"].read(self.request.params["id"], include="product")
        await _refuse_own_submission(self, dpp)
        contents = await read_contents(self.system, dpp)
        refuse_faulty(contents)
        identity = await _identity(self, contents)
        await publish_version(self, contents, identity, reason="Published")
        return await self.repository.read(dpp["id"])


class DppsResume(Logic):
    """POST /api/v1/dpps/{id}/resume."""

    resource, action = "Dpps", "resume:post"

    async def execute(self) -> Any:
        """Publish again what passes the checks of today."""
        await self.default()
        dpp = await self.system["Dpps"].read(self.request.params["id"])
        refuse_faulty(await read_contents(self.system, dpp))
        await self.system["Dpps"].patch(dpp["id"], {"statusReason": None})
        return await self.repository.read(dpp["id"])


class RevisedValueSchema(Schema):
    """One value."""

    templateFieldId = fields.String(required=True)
    index = fields.Integer(load_default=0, strict=True, validate=validate.Range(min=0, max=10_000))
    value = fields.Raw(required=True, allow_none=False)


class RevisionSchema(Schema):
    """What changes, and why."""

    values = fields.List(fields.Nested(RevisedValueSchema), required=True, validate=validate.Length(1, 500))
    reason = fields.String(required=True, validate=validate.Length(1, 1000))


class DppsRevise(Logic):
    """POST /api/v1/dpps/{id}/revise."""

    resource, action = "Dpps", "revise:post"
    input = RevisionSchema

    async def execute(self) -> Any:
        """Write the values, judge the whole, make a new version."""
        key = self.request.params["id"]
        await self.repository.read(key)
        await self.system["Dpps"].lock(key)
        dpp = await self.system["Dpps"].read(key)
        if dpp["status"] != "published":
            raise StateConflict(f"Only a published passport is revised; this one is {dpp['status']}.")
        changed = await self._write(await read_contents(self.system, dpp))
        contents = await read_contents(self.system, dpp)
        refuse_faulty(contents)
        identity = {"upi": dpp["upi"], "passportId": dpp["passportId"]}
        reason = self.request.body["reason"]
        await publish_version(self, contents, identity, reason=reason, changed=changed)
        await self.audit("REVISE_DPP", key, {"reason": reason, "changed": changed})
        self.emit("dpp.revised", {"dppId": dpp["id"], "upi": dpp["upi"], "changed": changed}, resource_id=key)
        return await self.repository.read(key)

    async def _write(self, contents: Contents) -> list[str]:
        """Write the values and return the codes of their data points."""
        fields_by_key = {field["id"]: field for field in contents.fields}
        sent = self.request.body["values"]
        faults = []
        for place, one in enumerate(sent):
            field = fields_by_key.get(one["templateFieldId"])
            fault = "There is nothing with this id." if field is None else fault_of(field, one["value"])
            if fault is not None:
                name, code = ("templateFieldId", "reference") if field is None else ("value", "invalid")
                faults.append(Detail(f"values.{place}.{name}", code, fault))
        if faults:
            raise ValidationFailed(details=faults[:100])
        for one in sent:
            await self._put(contents.dpp["id"], fields_by_key[one["templateFieldId"]], one)
        return sorted({fields_by_key[one["templateFieldId"]]["code"] for one in sent})

    async def _put(self, dpp_id: int, field: Row, sent: dict[str, Any]) -> None:
        data = self.system["DppData"]
        place = {"dppId": dpp_id, "templateFieldId": field["id"], "index": sent["index"]}
        stored = await data.find(place)
        if stored is not None:
            await data.patch(stored["id"], {"value": sent["value"]})
            return
        inside = {"dppId": dpp_id, "templateSectionId": field["section"]["id"]}
        section = await self.system["DppSections"].find(inside)
        await data.create({**place, "value": sent["value"], "dppSectionId": section and section["id"]})


async def _refuse_own_submission(logic: Logic, dpp: Row) -> None:
    """Hold the principle of four eyes where the tenant wants it."""
    user = logic.request.user.user_id
    if not user or dpp["submittedById"] != user:
        return
    settings = await logic.system["Settings"].find({"name": "settings"})
    if settings is not None and settings["fourEyes"]:
        raise Forbidden("Who submitted a passport may not publish it: another pair of eyes is needed.")


async def _identity(logic: Logic, contents: Contents) -> dict[str, Any]:
    """Return what is fixed with the first publication.

    Raises:
        Conflict: the product is no published one.
        ValidationFailed: there is no identifier of the product.
    """
    dpp, product = contents.dpp, contents.dpp["product"]
    if product["status"] != "published":
        raise Conflict(f"The product {product['name']} is {product['status']}; publish it first.")
    tenant = await logic.system["Tenants"].read(logic.request.principal.tenant_id)
    host = tenant["domain"] or _DEFAULT_HOST
    upi = dpp["upi"] or digital_link(host, product)
    if upi is None:
        missing = {"model": "gtin", "batch": "gtin and batchNumber", "item": "gtin and serialNumber"}
        told = f"Give an identifier, or give the product its {missing[product['granularity']]}."
        raise ValidationFailed(details=[Detail("upi", "required", told)])
    number = dpp["uuid"] or logic.ids.uuid7()
    years = contents.template["retentionYears"]
    now = datetime.now(UTC)
    return {
        "upi": upi,
        "uuid": number,
        "passportId": dpp["passportId"] or f"https://{host}/dpps/{number}",
        "gtin": product["gtin"] and gtin14(product["gtin"]),
        "batchNumber": product["batchNumber"],
        "serialNumber": product["serialNumber"],
        "publishedAt": dpp["publishedAt"] or now,
        "retentionUntil": _years_after(now.date(), years),
    }


def _years_after(day: date, years: int) -> date:
    """Return the same day some years later; what began on 29 February ends on the 28th."""
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return day.replace(year=day.year + years, day=28)
