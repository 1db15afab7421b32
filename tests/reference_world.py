"""Rows that scenarios of the reference application begin with, made over HTTP like anybody's."""

from __future__ import annotations

import itertools
from typing import Any

import httpx2

from byodpp.testing import TestedApplication

__all__ = ["GTIN", "Person", "publish_template", "refusal"]

#: GS1's prefix for examples, with a right check digit.
GTIN = "09521234567899"

_numbers = itertools.count(1)


class Person:
    """Somebody signed in, who makes things and looks at the answers."""

    def __init__(
        self, application: TestedApplication, role: str | None = "Admin", tenant: str = "acme", user: str = ""
    ) -> None:
        self.client = application.client(role=role, tenant=tenant, user=user or f"{role}".lower())

    async def ask(self, method: str, url: str, status: int, body: Any = None, **more: Any) -> Any:
        """Send a request, expect a status, return the `data`, or the `error`, of the answer."""
        sent = {} if body is None else {"json": body}
        answer: httpx2.Response = await self.client.request(method, url, **sent, **more)
        assert answer.status_code == status, f"{method} {url}: {answer.status_code} {answer.text[:2000]}"
        if status == 204 or not answer.content:
            return None
        document = answer.json()
        return document.get("data" if status < 400 else "error", document)

    async def get(self, url: str, status: int = 200, **more: Any) -> Any:
        return await self.ask("GET", url, status, **more)

    async def post(self, url: str, body: Any = None, status: int = 200) -> Any:
        return await self.ask("POST", url, status, body)

    async def create(self, resource: str, **values: Any) -> Any:
        return await self.ask("POST", f"/api/v1/{resource}", 201, values)

    # --- things -----------------------------------------------------------------------

    async def category(self, **values: Any) -> Any:
        return await self.create("categories", **{"name": f"Category {next(_numbers)}", **values})

    async def product(self, category: Any = None, **values: Any) -> Any:
        home = category or await self.category()
        named = {"name": f"Product {next(_numbers)}", "categoryId": home["id"]}
        return await self.create("products", **{**named, **values})

    async def published_product(self, **values: Any) -> Any:
        product = await self.product(**{"gtin": GTIN, **values})
        return await self.post(f"/api/v1/products/{product['id']}/publish")

    async def template(self, **values: Any) -> Any:
        """A draft with two sections, `general` and `technical`, and four data points."""
        number = next(_numbers)
        template = await self.create(
            "templates", code=f"template-{number}", name=f"Template {number}", **values
        )
        sections = [
            await self.create(
                "template-sections", templateId=template["id"], code=code, title=code.title(), position=place
            )
            for place, code in enumerate(("general", "technical"))
        ]
        points: list[tuple[int, str, dict[str, Any]]] = [
            (0, "maker", {"dataType": "string", "obligation": "mandatory"}),
            (0, "note", {"dataType": "text", "audiences": ["internal"]}),
            (1, "chemistry", {"dataType": "enum", "enumValues": ["LFP", "NMC"]}),
            (1, "capacity", {"dataType": "decimal", "obligation": "mandatory"}),
        ]
        fields = {
            code: await self.create(
                "template-fields",
                templateSectionId=sections[section]["id"],
                code=code,
                label=code.title(),
                position=place,
                **more,
            )
            for place, (section, code, more) in enumerate(points)
        }
        return {**template, "sections": sections, "fields": fields}

    async def published_template(self, **values: Any) -> Any:
        return await publish_template(self, await self.template(**values))

    async def dpp(self, product: Any = None, template: Any = None, **values: Any) -> Any:
        """A draft with its template under `template`."""
        product = product or await self.published_product()
        template = template or await self.published_template()
        given = {
            "name": f"PASSPORT {next(_numbers)}",
            "productId": product["id"],
            "templateId": template["id"],
        }
        return {**await self.create("dpps", **{**given, **values}), "template": template}

    async def tell(self, dpp: Any, code: str, value: Any, status: int = 201) -> Any:
        """Give a passport a value for a data point."""
        point = dpp["template"]["fields"][code]["id"]
        body = {"dppId": dpp["id"], "templateFieldId": point, "value": value}
        return await self.post("/api/v1/dpp-data", body, status)

    async def filled_dpp(self, *args: Any, **values: Any) -> Any:
        dpp = await self.dpp(*args, **values)
        for code, value in (("maker", "Voltaris"), ("note", "margin 12 %"), ("capacity", 48.5)):
            await self.tell(dpp, code, value)
        return dpp

    async def published_dpp(self, *args: Any, **values: Any) -> Any:
        dpp = await self.filled_dpp(*args, **values)
        await self.post(f"/api/v1/dpps/{dpp['id']}/submit")
        published = await self.post(f"/api/v1/dpps/{dpp['id']}/publish")
        return {**published, "template": dpp["template"]}


async def publish_template(person: Person, template: Any) -> Any:
    """Publish a template and keep what is known of its parts."""
    published = await person.post(f"/api/v1/templates/{template['id']}/publish")
    return {**template, **published}


def refusal(error: Any) -> set[tuple[str, str]]:
    """Return field and code of every detail."""
    return {(one["field"], one["code"]) for one in error["details"]}
