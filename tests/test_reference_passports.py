"""Templates and passports of the reference application: from draft to what the public reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from byodpp.testing import TestedApplication
from tests.reference_world import GTIN, Person, publish_template, refusal

_ULID = "01HZZZZZZZZZZZZZZZZZZZZZZ"


@pytest.fixture
async def admin(application: TestedApplication) -> AsyncIterator[Person]:
    yield Person(application, "Admin")


@pytest.fixture
async def manager(application: TestedApplication) -> AsyncIterator[Person]:
    yield Person(application, "Manager")


@pytest.fixture
async def nobody(application: TestedApplication) -> AsyncIterator[Person]:
    yield Person(application, None)


# --- templates ---------------------------------------------------------------------------


async def test_metadata_may_name_known_template_fields_only_and_all_unknown_ones_are_listed(
    admin: Person,
) -> None:
    known = (await admin.template())["fields"]["maker"]["id"]
    body: dict[str, Any] = {"code": "next", "name": "Next"}
    unknown = [f"{_ULID}{digit}" for digit in "ABC"]
    metadata = {"order": [known, unknown[0]], "width": {unknown[1]: 2, known: 1}, "deep": [{"x": unknown[2]}]}
    error = await admin.post("/api/v1/templates", {**body, "metadata": metadata}, 422)
    assert refusal(error) == {
        ("metadata.order.1", "unknown_template_field"),
        (f"metadata.width.{unknown[1]}", "unknown_template_field"),
        ("metadata.deep.0.x", "unknown_template_field"),
    }
    assert all(one in error["message"] for one in unknown)
    made = await admin.create("templates", **body, metadata={"order": [known]})
    changed = {"metadata": {"order": [unknown[0]]}}
    await admin.ask("PATCH", f"/api/v1/templates/{made['id']}", 422, changed)
    await admin.ask("PUT", f"/api/v1/templates/{made['id']}", 422, {**body, **changed})


async def test_another_tenants_template_field_is_unknown(
    application: TestedApplication, admin: Person
) -> None:
    theirs = (await Person(application, "Admin", tenant="beta").template())["fields"]["maker"]["id"]
    await admin.post("/api/v1/templates", {"code": "x1", "name": "x", "metadata": {"a": theirs}}, 422)


async def test_a_published_template_stays_as_it_is_with_everything_in_it(
    admin: Person, manager: Person
) -> None:
    template = await admin.published_template()
    section, field = template["sections"][0], template["fields"]["maker"]
    for url in (
        f"/api/v1/templates/{template['id']}",
        f"/api/v1/template-sections/{section['id']}",
        f"/api/v1/template-fields/{field['id']}",
    ):
        for person in (admin, manager):
            await person.ask(
                "PATCH", url, 403, {"description": None} if "fields" not in url else {"help": "x"}
            )
            await person.ask("DELETE", url, 403)
    more = {"templateSectionId": section["id"], "code": "more", "label": "More", "dataType": "string"}
    await admin.post("/api/v1/template-fields", more, 403)
    await admin.post(
        "/api/v1/template-sections", {"templateId": template["id"], "code": "more", "title": "x"}, 403
    )
    rule = {"templateId": template["id"], "kind": "required", "message": "x"}
    await admin.post("/api/v1/validations", rule, 403)


async def test_a_template_without_data_points_is_not_published(admin: Person) -> None:
    empty = await admin.create("templates", code="empty", name="Empty")
    await admin.post(f"/api/v1/templates/{empty['id']}/publish", status=409)
    assert (await admin.get(f"/api/v1/templates/{empty['id']}"))["status"] == "draft"


async def test_the_platforms_templates_are_read_by_all_and_changed_by_none(
    application: TestedApplication,
) -> None:
    operator = Person(application, "Admin", tenant="platform")
    template = await operator.template()
    for tenant in ("acme", "beta"):
        admin = Person(application, "Admin", tenant=tenant)
        assert (await admin.get(f"/api/v1/templates/{template['id']}"))["code"] == template["code"]
        error = await admin.ask("PATCH", f"/api/v1/templates/{template['id']}", 403, {"name": "Mine"})
        assert error["code"] == "forbidden"
    own = await Person(application, "Admin", tenant="acme").template()
    await Person(application, "Admin", tenant="beta").get(f"/api/v1/templates/{own['id']}", 404)


# --- making a passport -------------------------------------------------------------------


async def test_a_passport_is_created_with_its_sections_and_its_audit_entry(
    admin: Person, manager: Person
) -> None:
    template = await admin.published_template()
    dpp = await manager.dpp(template=template, metadata={"batch": 7})
    assert (dpp["status"], dpp["uuid"], dpp["upi"], dpp["revision"]) == ("draft", None, None, 0)
    assert dpp["granularity"] == "model"
    seen = await manager.get(f"/api/v1/dpps/{dpp['id']}?include=sections,product,template,category")
    assert [(one["code"], one["order"]) for one in seen["sections"]] == [("general", 0), ("technical", 1)]
    assert seen["category"]["id"] == seen["product"]["categoryId"]
    entries = await admin.get(f"/api/v1/audit-logs?filter[resourceType]=Dpps&filter[resourceId]={dpp['id']}")
    assert {entry["action"] for entry in entries} == {"CREATE", "CREATE_DPP"}


async def test_product_and_template_must_exist_and_fit_each_other(application: TestedApplication) -> None:
    admin = Person(application, "Admin")
    product = await admin.published_product(type="battery")
    draft, elsewhere = await admin.template(), await admin.category()
    cases: list[tuple[dict[str, Any], set[tuple[str, str]]]] = [
        ({"templateId": 999999}, {("templateId", "reference")}),
        (
            {"productId": 999999, "templateId": 999999},
            {("productId", "reference"), ("templateId", "reference")},
        ),
        ({"templateId": draft["id"]}, {("templateId", "not_published")}),
    ]
    for told in ({"categoryId": elsewhere["id"]}, {"productType": "tyre"}, {"granularity": ["item"]}):
        template = await admin.published_template(**told)
        cases.append(({"templateId": template["id"]}, {("templateId", "incompatible")}))
    for change, expected in cases:
        body = {"name": "PASSPORT", "productId": product["id"], **change}
        assert refusal(await admin.post("/api/v1/dpps", body, 422)) == expected, change
    assert await admin.get("/api/v1/dpps") == []
    assert await admin.get("/api/v1/dpp-sections") == []


async def test_the_category_of_template_and_product_may_be_the_same(manager: Person, admin: Person) -> None:
    home = await manager.category(commodityCode="8507")
    product = await manager.published_product(category=home)
    dpp = await manager.dpp(product, await admin.published_template(categoryId=home["id"]))
    assert (dpp["categoryId"], dpp["commodityCode"]) == (home["id"], "8507")


@pytest.mark.parametrize("name", ["AB", "lower case", "x" * 51, "A" * 51, " LEADING"])
async def test_a_passports_name_is_three_to_fifty_capitals(manager: Person, name: str) -> None:
    body = {"name": name, "productId": 1, "templateId": 1}
    assert "name" in {field for field, _ in refusal(await manager.post("/api/v1/dpps", body, 422))}


async def test_what_the_platform_sets_is_not_written_by_clients(manager: Person) -> None:
    for name, value in (("uuid", None), ("status", "published"), ("revision", 3), ("document", {})):
        body = {"name": "PASSPORT", "productId": 1, "templateId": 1, name: value}
        assert (name, "read_only") in refusal(await manager.post("/api/v1/dpps", body, 422))


async def test_a_value_must_be_of_its_data_points_type_and_template(admin: Person) -> None:
    dpp = await admin.dpp()
    made = await admin.tell(dpp, "chemistry", "LFP")
    sections = {one["code"]: one["id"] for one in await admin.get("/api/v1/dpp-sections")}
    assert made["dppSectionId"] == sections["technical"]
    for code, value in (("maker", 1), ("maker", ""), ("capacity", "48"), ("capacity", True)):
        assert refusal(await admin.tell(dpp, code, value, 422)) == {("value", "invalid")}, (code, value)
    change = {"value": "Pb"}
    assert refusal(await admin.ask("PATCH", f"/api/v1/dpp-data/{made['id']}", 422, change)) == {
        ("value", "invalid")
    }
    foreign = (await admin.template())["fields"]["maker"]["id"]
    body = {"dppId": dpp["id"], "templateFieldId": foreign, "value": "x"}
    assert refusal(await admin.post("/api/v1/dpp-data", body, 422)) == {("templateFieldId", "incompatible")}
    assert (await admin.tell(dpp, "chemistry", "NMC", 409))["code"] == "unique_conflict"


async def test_a_passport_is_filled_from_what_is_known_of_its_product(admin: Person) -> None:
    dpp = await admin.dpp()
    fields = dpp["template"]["fields"]
    for moment, capacity in (("2026-01-01T00:00:00Z", 40), ("2026-03-01T00:00:00Z", 41)):
        await admin.create(
            "product-data", productId=dpp["productId"], templateFieldId=fields["capacity"]["id"],
            code="capacity", value=capacity, observedAt=moment,
        )  # fmt: skip
    await admin.create(
        "product-data", productId=dpp["productId"], templateFieldId=fields["maker"]["id"],
        code="maker", value=7, observedAt="2026-01-01T00:00:00Z",
    )  # fmt: skip
    assert await admin.post(f"/api/v1/dpps/{dpp['id']}/fill") == {"filled": ["capacity"]}
    assert await admin.post(f"/api/v1/dpps/{dpp['id']}/fill") == {"filled": []}
    [datum] = await admin.get(f"/api/v1/dpp-data?filter[dppId]={dpp['id']}")
    assert datum["value"] == 41


# --- publishing --------------------------------------------------------------------------


async def test_publishing_lists_every_missing_data_point_and_changes_nothing(
    application: TestedApplication, admin: Person, manager: Person
) -> None:
    dpp = await manager.dpp(template=await admin.published_template())
    url = f"/api/v1/dpps/{dpp['id']}"
    await manager.post(f"{url}/publish", status=409)
    await manager.post(f"{url}/submit")
    missing = {("general.maker", "required"), ("technical.capacity", "required")}
    assert refusal(await manager.post(f"{url}/publish", status=422)) == missing
    report = await manager.post(f"{url}/validate")
    assert (report["valid"], {(one["field"], one["code"]) for one in report["findings"]}) == (False, missing)
    assert (await manager.get(url))["status"] == "inReview"
    assert "dpp.published" not in {one.name for one in await application.events()}


async def test_the_rules_of_the_template_are_part_of_the_gate(admin: Person) -> None:
    template = await admin.template()
    rules: list[dict[str, Any]] = [
        {
            "kind": "range",
            "params": {"minimum": 1, "maximum": 40},
            "templateFieldId": template["fields"]["capacity"]["id"],
        },
        {"kind": "length", "params": {"maximum": 4}, "templateFieldId": template["fields"]["maker"]["id"]},
        {"kind": "required", "templateFieldId": template["fields"]["chemistry"]["id"], "severity": "warning"},
        {"kind": "sumEquals", "params": {"fields": ["capacity"], "total": 100, "tolerance": 2}},
        {"kind": "order", "params": {"first": "capacity", "second": "capacity"}},
    ]
    for rule in rules:
        await admin.create("validations", templateId=template["id"], message=f"{rule['kind']} broken", **rule)
    dpp = await admin.filled_dpp(template=await publish_template(admin, template))
    await admin.post(f"/api/v1/dpps/{dpp['id']}/submit")
    found = (await admin.post(f"/api/v1/dpps/{dpp['id']}/validate"))["findings"]
    assert {(one["code"], one["severity"]) for one in found} == {
        ("range", "error"), ("length", "error"), ("sumEquals", "error"), ("required", "warning"),
    }  # fmt: skip
    error = await admin.post(f"/api/v1/dpps/{dpp['id']}/publish", status=422)
    assert {code for _, code in refusal(error)} == {"range", "length", "sumEquals"}


async def test_a_published_passport_has_its_identifiers_for_ever(admin: Person) -> None:
    dpp = await admin.published_dpp()
    assert dpp["status"] == "published"
    assert dpp["upi"].endswith(f"/01/{GTIN}")
    assert dpp["passportId"].endswith(dpp["uuid"])
    assert (dpp["revision"], len(dpp["currentHash"])) == (1, 64)
    assert dpp["retentionUntil"] > dpp["publishedAt"][:10]
    url = f"/api/v1/dpps/{dpp['id']}"
    for method, body in (("PATCH", {"upi": "https://example.com/other"}), ("DELETE", None)):
        await admin.ask(method, url, 403, body)
    await admin.tell(dpp, "chemistry", "LFP", 403)
    [datum] = await admin.get(f"/api/v1/dpp-data?filter[dppId]={dpp['id']}&limit=1")
    await admin.ask("DELETE", f"/api/v1/dpp-data/{datum['id']}", 403)
    again = await admin.filled_dpp(product=await admin.get(f"/api/v1/products/{dpp['productId']}"))
    await admin.post(f"/api/v1/dpps/{again['id']}/submit")
    await admin.post(f"/api/v1/dpps/{again['id']}/publish", status=409)


async def test_the_product_must_be_published_and_have_an_identifier(admin: Person) -> None:
    for product, status in (
        (await admin.product(gtin=GTIN), 409),
        (await admin.published_product(gtin=None), 422),
    ):
        dpp = await admin.filled_dpp(product)
        await admin.post(f"/api/v1/dpps/{dpp['id']}/submit")
        await admin.post(f"/api/v1/dpps/{dpp['id']}/publish", status=status)


async def test_an_own_identifier_may_take_the_place_of_a_gtin(admin: Person, nobody: Person) -> None:
    upi = "https://passports.example.com/volt/48?item=1"
    dpp = await admin.published_dpp(await admin.published_product(gtin=None), upi=upi)
    document = await nobody.get(f"/v1/dppsByProductId/{quote(upi, safe='')}")
    assert document["digitalProductPassportId"] == dpp["passportId"]


async def test_who_submitted_does_not_publish_where_four_eyes_are_wanted(
    application: TestedApplication, admin: Person
) -> None:
    await admin.create("settings", fourEyes=True)
    one, other = (Person(application, "Manager", user=name) for name in ("one", "other"))
    dpp = await admin.filled_dpp()
    await one.post(f"/api/v1/dpps/{dpp['id']}/submit")
    await one.post(f"/api/v1/dpps/{dpp['id']}/publish", status=403)
    await other.post(f"/api/v1/dpps/{dpp['id']}/publish")


async def test_a_viewer_reads_and_validates_only(application: TestedApplication, admin: Person) -> None:
    dpp, viewer = await admin.filled_dpp(), Person(application, "Viewer")
    url = f"/api/v1/dpps/{dpp['id']}"
    assert (await viewer.get(f"{url}?include=data"))["data"]
    assert (await viewer.post(f"{url}/validate"))["valid"] is True
    for step in ("submit", "publish", "fill", "archive", "withdraw"):
        await viewer.post(f"{url}/{step}", status=403)


# --- what the public reads ---------------------------------------------------------------


async def test_anybody_reads_a_published_passport_by_its_identifiers(admin: Person, nobody: Person) -> None:
    dpp = await admin.published_dpp(economicOperatorId="LEI:5299000DEMO")
    by_id = await nobody.get(f"/v1/dpps/{quote(dpp['passportId'], safe='')}")
    by_product = await nobody.get(f"/v1/dppsByProductId/{quote(dpp['upi'], safe='')}")
    by_link = await nobody.get(f"/01/{GTIN}")
    assert by_id == by_product == by_link
    assert {
        name: by_id[name] for name in by_id if name not in ("lastUpdated", "contentSpecificationIds")
    } == {
        "digitalProductPassportId": dpp["passportId"],
        "uniqueProductIdentifier": dpp["upi"],
        "granularity": "model",
        "dppSchemaVersion": "EN 18223:2026",
        "dppStatus": "active",
        "economicOperatorId": "LEI:5299000DEMO",
        "general": {"maker": "Voltaris"},
        "technical": {"capacity": 48.5},
    }


async def test_a_public_address_leads_everybody_to_the_same_passport(
    application: TestedApplication, admin: Person, nobody: Person
) -> None:
    dpp = await admin.published_dpp()
    addresses = [
        f"/v1/dpps/{quote(dpp['passportId'], safe='')}",
        f"/v1/dppsByProductId/{quote(dpp['upi'], safe='')}",
        f"/01/{GTIN}",
    ]
    people = [admin, Person(application, "Viewer"), Person(application, "Nothing")]
    people += [Person(application, role, tenant="beta") for role in ("Admin", "Viewer", "Nothing")]
    for address in addresses:
        seen = await nobody.get(address)
        assert [await person.get(address) for person in people] == [seen] * len(people)
    upi = "https://passports.example.com/draft"
    await admin.filled_dpp(upi=upi)
    for person in (nobody, *people):  # its owner, too: elsewhere he sees it, not at a public address
        await person.get(f"/v1/dppsByProductId/{quote(upi, safe='')}", 404)


async def test_an_item_and_a_batch_are_found_by_their_digital_links(admin: Person, nobody: Person) -> None:
    item = await admin.published_product(granularity="item", serialNumber="A/1%")
    batch = await admin.published_product(granularity="batch", batchNumber="L7")
    links = {}
    for product in (item, batch):
        links[product["granularity"]] = (await admin.published_dpp(product))["upi"]
    assert links["item"].endswith(f"/01/{GTIN}/21/A%2F1%25")
    for kind, link in links.items():
        found = await nobody.get(link.removeprefix("https://").partition("/")[2].join(("/", "")))
        assert (found["granularity"], found["uniqueProductIdentifier"]) == (kind, link)
    await nobody.get(f"/01/{GTIN}", 404)
    await nobody.get(f"/01/{GTIN}/21/unknown", 404)
    assert refusal(await nobody.get("/01/09521234567890", 400)) == {("gtin", "check_digit")}


async def test_what_is_not_published_does_not_exist_for_the_public(admin: Person, nobody: Person) -> None:
    upi = "https://passports.example.com/1"
    dpp = await admin.filled_dpp(upi=upi)
    await nobody.get(f"/v1/dppsByProductId/{quote(upi, safe='')}", 404)
    await nobody.get(f"/api/v1/dpps/{dpp['id']}", 404)
    assert await nobody.get("/api/v1/dpps") == []
    await nobody.get(f"/v1/dpps/{quote('https://passports.example.com/none', safe='')}", 404)


async def test_anybody_lists_published_passports_of_all_tenants_and_nothing_else(
    application: TestedApplication, admin: Person, nobody: Person
) -> None:
    mine = await admin.published_dpp()
    await admin.filled_dpp()
    theirs = await Person(application, "Admin", tenant="beta").published_dpp(upi="https://beta.example.com/1")
    rows = await nobody.get("/api/v1/dpps")
    assert {row["upi"] for row in rows} == {mine["upi"], theirs["upi"]}
    for row in rows:
        assert "productId" not in row and "metadata" not in row
    await nobody.get("/api/v1/dpps?include=sections", 400)
    await nobody.get("/api/v1/dpps?filter[productId]=1", 400)
    for resource in ("products", "dpp-data", "dpp-sections", "templates", "dpp-versions", "users"):
        await nobody.get(f"/api/v1/{resource}", 401)


async def test_a_suspended_passport_shows_header_and_notice_and_comes_back(
    admin: Person, nobody: Person
) -> None:
    dpp = await admin.published_dpp()
    url, public = f"/api/v1/dpps/{dpp['id']}", f"/v1/dpps/{quote(dpp['passportId'], safe='')}"
    assert refusal(await admin.post(f"{url}/suspend", {}, 422)) == {("reason", "required")}
    await admin.post(f"{url}/suspend", {"reason": "Values are being checked"})
    seen = await nobody.get(public)
    assert (seen["dppStatus"], seen["notice"]) == ("inactive", "Values are being checked")
    assert "general" not in seen and "technical" not in seen
    assert (await nobody.get("/api/v1/dpps"))[0].get("document") is None
    await admin.post(f"{url}/resume")
    again = await nobody.get(public)
    assert (again["dppStatus"], "notice" in again, "general" in again) == ("active", False, True)


@pytest.mark.parametrize(
    ("step", "status", "shown"),
    [("archive", "archived", True), ("withdraw", "invalid", False), ("end", "archived", False)],
)
async def test_every_end_of_a_passport_shows_what_it_should(
    admin: Person, nobody: Person, step: str, status: str, shown: bool
) -> None:
    dpp = await admin.published_dpp()
    await admin.post(f"/api/v1/dpps/{dpp['id']}/{step}", {"reason": "That is why"})
    seen = await nobody.get(f"/v1/dpps/{quote(dpp['passportId'], safe='')}")
    assert (seen["dppStatus"], "technical" in seen) == (status, shown)
    await admin.post(f"/api/v1/dpps/{dpp['id']}/resume", status=409)


async def test_a_manager_neither_suspends_nor_withdraws(
    application: TestedApplication, admin: Person
) -> None:
    dpp, manager = await admin.published_dpp(), Person(application, "Manager")
    for step in ("suspend", "withdraw", "end"):
        await manager.post(f"/api/v1/dpps/{dpp['id']}/{step}", {"reason": "x"}, 403)


async def test_a_revision_makes_a_version_whose_hash_holds_the_one_before(
    application: TestedApplication, admin: Person, nobody: Person
) -> None:
    dpp = await admin.published_dpp()
    fields, url = dpp["template"]["fields"], f"/api/v1/dpps/{dpp['id']}/revise"
    values = [
        {"templateFieldId": fields["capacity"]["id"], "value": 47.9},
        {"templateFieldId": fields["chemistry"]["id"], "value": "LFP"},
    ]
    revised = await admin.post(url, {"values": values, "reason": "Measured again"})
    assert revised["revision"] == 2
    seen = await nobody.get(f"/v1/dpps/{quote(dpp['passportId'], safe='')}")
    assert seen["technical"] == {"chemistry": "LFP", "capacity": 47.9}
    first, second = await admin.get(f"/api/v1/dpp-versions?filter[dppId]={dpp['id']}&sort=number")
    assert (first["number"], second["number"]) == (1, 2)
    assert (second["previousHash"], second["hash"]) == (first["hash"], revised["currentHash"])
    assert second["changedFields"] == ["capacity", "chemistry"]
    assert first["document"]["technical"] == {"capacity": 48.5}
    assert "dpp.revised" in {one.name for one in await application.events()}


async def test_a_revision_is_refused_as_a_whole(admin: Person) -> None:
    dpp = await admin.published_dpp()
    fields, url = dpp["template"]["fields"], f"/api/v1/dpps/{dpp['id']}/revise"
    values = [
        {"templateFieldId": fields["maker"]["id"], "value": "Other"},
        {"templateFieldId": fields["chemistry"]["id"], "value": "Pb"},
        {"templateFieldId": "01HZZZZZZZZZZZZZZZZZZZZZZA", "value": 1},
    ]
    error = await admin.post(url, {"values": values, "reason": "x"}, 422)
    assert refusal(error) == {("values.1.value", "invalid"), ("values.2.templateFieldId", "reference")}
    assert (await admin.get(f"/api/v1/dpps/{dpp['id']}"))["revision"] == 1
    draft = await admin.filled_dpp()
    await admin.post(f"/api/v1/dpps/{draft['id']}/revise", {"values": values[:1], "reason": "x"}, 409)


async def test_versions_are_written_by_no_client(admin: Person) -> None:
    await admin.post("/api/v1/dpp-versions", {"dppId": 1}, 405)


async def test_another_tenant_meets_no_draft_of_ours(application: TestedApplication, admin: Person) -> None:
    dpp, stranger = await admin.filled_dpp(), Person(application, "Admin", tenant="beta")
    url = f"/api/v1/dpps/{dpp['id']}"
    await stranger.get(url, 404)
    for step in ("submit", "publish", "validate", "fill"):
        await stranger.post(f"{url}/{step}", status=404)
    for step in ("suspend", "withdraw"):
        await stranger.post(f"{url}/{step}", {"reason": "x"}, 404)
    await stranger.ask("PATCH", url, 404, {"name": "MINE NOW"})
    await stranger.ask("DELETE", url, 404)


@pytest.mark.parametrize(
    "path",
    [
        "/01/%00",
        "/01/09521234567899/10/%00",
        "/01/09521234567899/21/%F0%9F%94%8B",
        "/v1/dpps/%00",
        "/v1/dpps/%2F%2F",
    ],
)
async def test_a_strange_identifier_is_refused_or_not_found(nobody: Person, path: str) -> None:
    answer = await nobody.client.get(path)
    assert answer.status_code in (400, 404)


@pytest.mark.parametrize("value", [0, {"value": 1}, [], {}, "", 10**40, {"value": "x", "unit": 1}, [[[]]]])
async def test_a_strange_value_of_any_data_type_is_refused_or_stored(admin: Person, value: Any) -> None:
    template = await admin.template()
    kinds = (
        "string", "text", "integer", "decimal", "boolean", "date", "datetime", "yearMonth", "enum",
        "multiEnum", "url", "country", "gtin", "cas", "i18nText", "quantity", "range", "table",
    )  # fmt: skip
    fields = [
        {
            "templateSectionId": template["sections"][0]["id"],
            "code": f"x{kind}",
            "label": kind,
            "dataType": kind,
        }
        for kind in kinds
    ]
    rows = await admin.post("/api/v1/template-fields/batch", fields, 201)
    dpp = await admin.dpp(template=await publish_template(admin, template))
    items = [{"dppId": dpp["id"], "templateFieldId": row["id"], "value": value} for row in rows]
    answer = await admin.post(
        "/api/v1/dpp-data/batch", {"operation": "create", "items": items, "atomic": False}
    )
    assert {one["error"]["statusCode"] for one in answer if not one["success"]} <= {422}
    await admin.post(f"/api/v1/dpps/{dpp['id']}/validate")


async def test_the_parameters_of_a_rule_are_checked(admin: Person) -> None:
    template = await admin.template()
    wrong: tuple[Any, ...] = ([], "x", {"minimum": "1"}, {"fields": "x"}, {"unknown": 1})
    for params in wrong:
        body = {"templateId": template["id"], "kind": "range", "message": "x", "params": params}
        await admin.post("/api/v1/validations", body, 422)
