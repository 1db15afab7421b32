"""The OpenAPI document says what the server does, and the documentation shows what the document says."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest
from marshmallow import Schema, fields, validate
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic_core import to_json

from byodpp.batches import BATCH_OPERATIONS
from byodpp.bootstrap import Application, Blueprint, assemble
from byodpp.documentation import documentation_routes
from byodpp.exceptions import InvalidQuery, ValidationFailed, error_classes
from byodpp.openapi import as_read, openapi_bytes, openapi_document
from byodpp.openapi.schemas import component, marshmallow_schema
from byodpp.query.judge import PARAMETERS, judge
from byodpp.query.text import parse_json
from byodpp.query.values import Rejected, pattern
from byodpp.routes import RouteTable
from byodpp.schemas import SCHEMA_OPERATIONS
from byodpp.testing import Bench
from tests.computing import least_seconds
from tests.worlds import build

CONTRACT = Path(__file__).parent / "contract_application"
METHODS = ("get", "post", "put", "patch", "delete")


@pytest.fixture(scope="module")
def blueprint() -> Blueprint:
    return assemble(CONTRACT)


@pytest.fixture(scope="module")
def document(blueprint: Blueprint) -> dict[str, Any]:
    return document_of(blueprint)


def document_of(blueprint: Blueprint) -> dict[str, Any]:
    return openapi_document(blueprint.registry, blueprint.schemas, blueprint.logics)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for one in value.values():
            yield from refs(one)
    elif isinstance(value, list):
        for one in value:
            yield from refs(one)


def resolve(document: dict[str, Any], value: Any) -> Any:
    while isinstance(value, dict) and "$ref" in value:
        found: Any = document
        for step in value["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        value = found
    return value


# --- the document -------------------------------------------------------------------------


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(json.loads(openapi_bytes(document))).validate()


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for ref in set(refs(document)):
        assert resolve(document, {"$ref": ref}) is not None, ref


@pytest.mark.parametrize(
    "changed",
    [{}, {"browser_sessions": False}, {"identity": "keycloak", "issuer_base_url": "http://127.0.0.1:9"}],
)
async def test_the_document_has_exactly_the_routes_that_are_served(
    blueprint: Blueprint, byodpp_bench: Bench, changed: dict[str, Any]
) -> None:
    async with byodpp_bench.application(blueprint) as tested:
        application = Application.connect(replace(tested.settings, **changed), blueprint)
        table: RouteTable = application.asgi().state.table
        # OpenAPI 3.1 has no name for the method QUERY; `POST …/query` says what it takes.
        served = {(one.pattern, one.method.lower()) for one in table.listing() if one.method != "QUERY"}
        document = json.loads(application.document())
    assert {(path, method) for path, method, _ in operations(document)} == served


def test_operation_ids_are_unique_and_every_tag_is_described(document: dict[str, Any]) -> None:
    ids = [one["operationId"] for _, _, one in operations(document)]
    assert len(ids) == len(set(ids))
    assert {tag for _, _, one in operations(document) for tag in one["tags"]} <= {
        tag["name"] for tag in document["tags"]
    }


def test_the_document_is_the_same_each_time_it_is_made(blueprint: Blueprint) -> None:
    assert openapi_bytes(document_of(blueprint)) == openapi_bytes(document_of(assemble(CONTRACT)))


def test_every_body_example_is_a_valid_body(blueprint: Blueprint, document: dict[str, Any]) -> None:
    seen = 0
    for resource in blueprint.registry:
        if not resource.routed:
            continue
        urls = {"create": ("post", ""), "update": ("put", "/{id}"), "patch": ("patch", "/{id}")}
        for operation in SCHEMA_OPERATIONS:
            method, tail = urls[operation]
            described = document["paths"].get(resource.base_url + tail, {}).get(method)
            if described is None:
                continue
            example = described["requestBody"]["content"]["application/json"]["example"]
            blueprint.schemas.load(resource, operation, example)
            seen += 1
    assert seen > 9


def test_the_example_of_an_action_is_valid_input(blueprint: Blueprint, document: dict[str, Any]) -> None:
    resource = blueprint.registry.get("Tools")
    logic = blueprint.logics.get(resource, "rate:post")
    body = document["paths"]["/api/v1/tools/{id}/rate"]["post"]["requestBody"]
    assert logic is not None and logic.input is not None
    assert blueprint.schemas.action(logic.input, body["content"]["application/json"]["example"]) == {
        "stars": 4
    }


def test_every_code_of_the_document_is_one_of_the_family(document: dict[str, Any]) -> None:
    known = {(str(one.status), one.code) for one in error_classes()}
    for _, _, operation in operations(document):
        for status, reference in operation["responses"].items():
            answer = resolve(document, reference)
            for example in answer.get("content", {}).get("application/json", {}).get("examples", {}).values():
                error = example["value"]["error"]
                assert (status, error["code"]) in known
                assert str(error["statusCode"]) == status


def test_every_guarded_operation_says_how_it_refuses(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        if {"bearer": []} in operation["security"]:
            assert {"400", "401", "403", "406", "429", "500", "503"} <= operation["responses"].keys(), path
        if "requestBody" in operation and not path.endswith("/query"):
            assert {"400", "413", "415", "422"} <= operation["responses"].keys(), path


def test_public_operations_need_no_token_and_no_other_does_without(document: dict[str, Any]) -> None:
    paths = document["paths"]
    assert {} in paths["/api/v1/shelves"]["get"]["security"]
    assert {} in paths["/tools-of-the-day"]["get"]["security"]
    changing: list[Any] = [{"bearer": []}, {"session": [], "csrf": []}]
    assert paths["/api/v1/shelves"]["post"]["security"] == changing
    assert paths["/api/v1/tools"]["get"]["security"] == [{"bearer": []}, {"session": []}]


def test_every_parameter_of_the_query_language_is_described(document: dict[str, Any]) -> None:
    for path, mode in (("/api/v1/tools", "list"), ("/api/v1/tools/{id}", "read")):
        parameters = (resolve(document, one) for one in document["paths"][path]["get"]["parameters"])
        named = [one["name"] for one in parameters if one["in"] == "query"]
        assert named == list(PARAMETERS[mode])


def test_bounds_are_those_of_the_resource(blueprint: Blueprint, document: dict[str, Any]) -> None:
    bounds = blueprint.registry.get("Tools").bounds
    parameters = document["paths"]["/api/v1/tools"]["get"]["parameters"]
    limit = next(one for one in parameters if one.get("name") == "limit")["schema"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, bounds.max_limit, bounds.limit)


def test_every_word_of_a_batch_is_described(document: dict[str, Any]) -> None:
    body = document["paths"]["/api/v1/tools/batch"]["post"]["requestBody"]["content"]["application/json"]
    named = [one["properties"]["operation"] for one in body["schema"]["anyOf"] if "properties" in one]
    assert {one["const"] for one in named if "const" in one} == set(BATCH_OPERATIONS)
    assert [set(one["enum"]) for one in named if "enum" in one] == [set(BATCH_OPERATIONS)]


def test_a_row_shows_what_is_readable_and_a_body_takes_what_is_writable(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert "secret" not in schemas["Tools"]["properties"]
    assert "secret" not in schemas["ToolsFilter"]["properties"]
    assert schemas["ToolsCreate"]["properties"]["secret"]["writeOnly"] is True
    assert "rating" not in schemas["ToolsCreate"]["properties"]
    assert schemas["ToolsUpdate"]["properties"]["rating"]["readOnly"] is True
    assert schemas["ToolsCreate"]["required"] == ["name"]
    assert "required" not in schemas["ToolsPatch"]
    assert schemas["ToolsCreate"]["additionalProperties"] is False


def test_optional_means_nullable(document: dict[str, Any]) -> None:
    properties = document["components"]["schemas"]["Tools"]["properties"]
    assert properties["count"]["type"] == ["integer", "null"]
    assert properties["name"]["type"] == "string"
    assert properties["kind"]["enum"] == ["hammer", "saw", "drill", None]


def test_forms_that_json_schema_does_not_know_are_told_as_patterns(tmp_path: Path) -> None:
    fields = {
        "code": {"type": "string", "format": "slug", "required": True},
        "tint": {"type": "string", "format": "color"},
        "tongue": {"type": "string", "format": "language", "pattern": "^[a-z]"},
        "value": {"type": "json", "required": True},
        "free": {"type": "json"},
    }
    (tmp_path / "resources.json").write_text(
        json.dumps({"resources": [{"name": "Things", "fields": fields}]})
    )
    blueprint = assemble(tmp_path)
    schema = document_of(blueprint)["components"]["schemas"]["ThingsCreate"]
    resource = blueprint.registry.get("Things")
    good = {"code": "a-1", "value": 0}
    for body, valid in (
        (good, True),
        ({**good, "tint": "#a0f", "tongue": "de-CH", "free": None}, True),
        ({**good, "code": "A"}, False),
        ({**good, "tint": "red"}, False),
        ({**good, "tongue": "d"}, False),
        ({**good, "tongue": "De"}, False),
        ({**good, "value": None}, False),
    ):
        assert jsonschema.Draft202012Validator(schema).is_valid(body) is valid, body
        with pytest.raises(ValidationFailed) if not valid else nullcontext():
            blueprint.schemas.load(resource, "create", body)


def test_parts_of_an_address_are_described_as_the_fields_that_the_action_names(tmp_path: Path) -> None:
    fields = {
        "gtin": {"type": "string", "pattern": "^[0-9]{14}$", "description": "Fourteen digits."},
        "number": {"type": "integer", "minimum": 1},
        "other": {"type": "uuid"},
        "address": {"type": "string", "format": "uri", "minLength": 0},
        "kind": {"type": "string", "enum": ["a", "b"]},
    }
    url = "/01/{gtin}/{n}/{other}/{id}/{address}/{kind}/look"
    named = {"gtin": "gtin", "n": "number", "address": "address", "kind": "kind"}
    action = {"url": url, "method": "get", "name": "look", "parameters": named}
    manifest = {"resources": [{"name": "Things", "fields": fields, "routes": {"actions": [action]}}]}
    look = """
from byodpp.logics import Logic


class Look(Logic):
    resource, action = "Things", "look"

    async def execute(self):
        return None
"""
    blueprint = build(tmp_path, manifest, {"logics/v1/things/look.py": look})
    described = document_of(blueprint)["paths"][url]["get"]["parameters"]
    gtin, number, other, key, address, kind = (one for one in described if one.get("in") == "path")
    assert gtin["description"].startswith("Fourteen digits. Percent-encoded")
    valid = jsonschema.Draft202012Validator(gtin["schema"]).is_valid
    assert valid("0" * 14) and not valid("0" * 13)
    assert number["schema"] == {"type": "integer", "minimum": 1, "maximum": 2_147_483_647} | number["schema"]
    assert other["schema"] == {"type": "string", "minLength": 1, "pattern": other["schema"]["pattern"]}
    assert (kind["schema"]["enum"], address["schema"]["minLength"]) == (["a", "b"], 1)
    assert "format" not in address["schema"], "no tool puts what has slashes into a segment"
    assert "format" not in other["schema"], (
        "a field of the same name that the action does not name is another"
    )
    assert key["schema"]["type"] == "integer"


def test_filters_know_the_operators_of_each_type(document: dict[str, Any]) -> None:
    properties = document["components"]["schemas"]["ToolsFilter"]["properties"]
    price = resolve(document, properties["price"])["anyOf"][1]["properties"]
    assert {"eq", "gte", "between", "in", "isNull"} <= price.keys()
    assert not {"like", "has"} & price.keys()
    assert "startsWith" in resolve(document, properties["name"])["anyOf"][1]["properties"]
    assert properties["shelf"]["$ref"] == "#/components/schemas/ShelvesFilter"
    shelves = document["components"]["schemas"]["ShelvesFilter"]["properties"]
    assert list(shelves["tools"]["properties"]) == ["some", "every", "none"]


def test_wherever_a_filter_lies_there_is_an_example_that_fits(document: dict[str, Any]) -> None:
    # Filters lie inside filters. Without an example in each place, tools that make data from the document
    # go astray in them: schemathesis was not done with one operation in four minutes.
    seen = Counter[str]()

    def look(part: Any) -> None:
        if isinstance(part, list):
            for one in part:
                look(one)
        elif isinstance(part, dict):
            reference = str(part.get("$ref", ""))
            if reference.endswith(("Filter", "Having")):
                seen[reference] += 1
                whole = {"$ref": reference, "components": document["components"]}
                for example in part["examples"]:
                    jsonschema.Draft202012Validator(whole).validate(example)
            if part.get("type") == "array" and "examples" in part.get("items", {}):
                assert part["examples"] == [part["items"]["examples"]]
            for one in part.values():
                look(one)

    look({"paths": document["paths"], "schemas": document["components"]["schemas"]})
    assert seen["#/components/schemas/ToolsFilter"] > 5 and seen["#/components/schemas/ToolsHaving"] > 3


def test_a_document_allows_the_patterns_that_the_server_takes(document: dict[str, Any]) -> None:
    condition = document["components"]["schemas"]["StringCondition"]["anyOf"][1]["properties"]
    allowed = {
        word: jsonschema.Draft202012Validator(condition[word]) for word in ("like", "ilike", "contains")
    }
    for length in range(5):
        for characters in itertools.product("a%_\\\n", repeat=length):
            text = "".join(characters)
            for word, schema in allowed.items():
                try:
                    pattern(word, text)
                except Rejected:
                    assert not schema.is_valid(text), text
                else:
                    assert schema.is_valid(text), text


PLACES: dict[str, Any] = {
    "resources": [
        {
            "name": "Regions",
            "filterable": True,
            "fields": {"name": {"type": "string"}, "partOfId": {"references": "Regions", "as": "partOf"}},
            "relations": {"towns": {"resource": "Towns", "foreignField": "regionId"}},
        },
        {
            "name": "Towns",
            "filterable": True,
            "fields": {
                "label": {"type": "string"},
                "foundedOn": {"type": "date"},
                "facts": {"type": "json"},
                "regionId": {"references": "Regions", "as": "region"},
            },
            "relations": {"places": {"resource": "Places", "foreignField": "townId"}},
        },
        {
            "name": "Places",
            "filterable": True,
            "fields": {
                "townId": {"references": "Towns", "as": "town"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "owner": {
                    "type": "object",
                    "properties": {"name": {"type": "text"}, "age": {"type": "integer"}},
                },
                "openedAt": {"type": "datetime"},
                "extra": {"type": "json"},
            },
        },
    ]
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    folder = tmp_path_factory.mktemp("places")
    (folder / "resources.json").write_text(json.dumps(PLACES), encoding="utf-8")
    return assemble(folder)


@pytest.mark.parametrize(
    ("word", "taken"),
    [
        *((word, True) for word in ("id", "townId", "town.label", "hour(openedAt)", "month(town.foundedOn)")),
        *((word, False) for word in ("tags", "town", "town.no", "hour(town.foundedOn)", "month(town.label)")),
    ],
)
def test_groups_are_described_as_they_are_taken(places: Blueprint, word: str, taken: bool) -> None:
    schema = document_of(places)["components"]["schemas"]["PlacesQuery"]["properties"]["group"]
    assert jsonschema.Draft202012Validator(schema).is_valid([word]) is taken
    refused = nullcontext() if taken else pytest.raises(InvalidQuery)
    with refused:
        ask(places, {"aggregate": ["count"], "group": [word]})


def test_a_list_that_a_class_serves_without_fields_has_nothing_to_group_by(tmp_path: Path) -> None:
    served = """
from byodpp.logics import Logic

class Rates(Logic):
    resource, operation = "Rates", "list"

    async def execute(self):
        return []
"""
    manifest = [{"name": "Rates", "type": "logic", "routes": {"crud": ["list"]}, "access": {"read": ["*"]}}]
    made = document_of(build(tmp_path, manifest, {"logics/v1/rates/list.py": served}))
    OpenAPIV31SpecValidator(made).validate()
    names = [one.get("name") for one in made["paths"]["/api/v1/rates"]["get"]["parameters"]]
    assert "aggregate" in names and "group" not in names


@pytest.mark.parametrize(
    ("condition", "taken"),
    [
        ({"tags": {"0": {"startsWith": "a"}}}, True),
        ({"tags": {"-1": {"like": "a%"}}}, True),
        ({"owner": {"name": {"contains": "a"}}}, True),
        ({"owner": {"name": {"starts": "a"}}}, False),
        ({"owner": {"age": {"gt": 5}}}, True),
        ({"owner": {"age": {"gt": "5"}}}, False),
        ({"town.label": {"in": ["a"]}}, True),
        ({"town.foundedOn": {"like": "a"}}, False),
        ({"town.mayor": "a"}, False),
        ({"extra.a.b": {"gt": 5}}, True),
        ({"extra.": 5}, False),
        ({"town.facts.a.b": {"gt": 5}}, True),
        ({"town.label.a": 5}, False),
        ({"town.region.name": {"startsWith": "a"}}, True),
        ({"town.region.name": {"gt": 5}}, False),
        ({"town.region.label": "a"}, False),
        ({"town.region": {"name": "a", "partOf.name": "b"}}, True),
        ({"town.region": {"partOf.partOf.name": "b"}}, True),
        ({"town.places": {"some": {"openedAt": {"isNull": True}}}}, True),
        ({"town.places": {"openedAt": {"isNull": True}}}, False),
    ],
)
def test_values_inside_documents_are_described_as_they_are_compared(
    places: Blueprint, condition: Any, taken: bool
) -> None:
    whole = {"$ref": "#/components/schemas/PlacesFilter", "components": document_of(places)["components"]}
    assert jsonschema.Draft202012Validator(whole).is_valid(condition) is taken
    refused = nullcontext() if taken else pytest.raises(InvalidQuery)
    with refused:
        ask(places, {"filter": condition})


def ask(blueprint: Blueprint, query: Any) -> None:
    judge(parse_json(query), blueprint.registry.get("Places"), blueprint.registry, None, "list")


def test_no_example_of_a_filter_changes_a_row_of_a_batch(document: dict[str, Any]) -> None:
    told = json.dumps(document["paths"]["/api/v1/tools/batch"])
    assert '"examples": [{"id": {"isNull": true}}]' in told
    assert '"examples": [{"id": {"isNull": false}}]' not in told


def test_if_match_is_demanded_where_the_resource_demands_it(document: dict[str, Any]) -> None:
    operation = document["paths"]["/api/v1/notes/{id}"]["delete"]
    found = [resolve(document, one) for one in operation["parameters"]]
    assert next(one for one in found if one["name"] == "If-Match")["required"] is True
    assert "428" in operation["responses"] and "412" in operation["responses"]
    assert "428" not in document["paths"]["/api/v1/tools/{id}"]["delete"]["responses"]


def test_a_second_version_stands_beside_the_first(blueprint: Blueprint, document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert component(blueprint.registry.get("Shelves", "v2")) == "ShelvesV2"
    assert "room" in schemas["ShelvesV2"]["properties"]
    assert "room" not in schemas["Shelves"]["properties"]
    assert {"Shelves", "Shelves v2"} <= {tag["name"] for tag in document["tags"]}


def test_a_marshmallow_schema_becomes_a_json_schema() -> None:
    class Inner(Schema):
        code = fields.String(required=True, validate=validate.Regexp("[A-Z]{2}"))

    class Outer(Schema):
        name = fields.String(
            required=True, validate=validate.Length(1, 9), metadata={"description": "Its name."}
        )
        level = fields.Integer(validate=[validate.Range(0, 5)], load_default=1)
        kind = fields.String(validate=validate.OneOf(["a", "b"]), allow_none=True)
        codes = fields.List(fields.Nested(Inner), validate=validate.Length(max=3))
        seen = fields.DateTime(dump_only=True)

    found = marshmallow_schema(Outer)
    assert found["required"] == ["name"]
    assert found["additionalProperties"] is False
    assert found["properties"]["name"] == {
        "type": "string", "minLength": 1, "maxLength": 9, "description": "Its name.",
    }  # fmt: skip
    assert found["properties"]["level"] == {"type": "integer", "minimum": 0, "maximum": 5, "default": 1}
    assert found["properties"]["kind"] == {"type": ["string", "null"], "enum": ["a", "b", None]}
    assert found["properties"]["codes"]["maxItems"] == 3
    assert found["properties"]["codes"]["items"]["properties"]["code"]["pattern"] == "^(?:[A-Z]{2})"
    assert "seen" not in found["properties"]


def test_a_field_of_ones_own_says_in_its_metadata_what_it_accepts() -> None:
    class Draft(fields.Field):  # type: ignore[type-arg]
        pass

    class Outer(Schema):
        status = Draft(load_default="draft", metadata={"enum": ["draft"], "unknown": 1})
        code = fields.String(allow_none=True, metadata={"pattern": "^[A-Z]$", "description": "Its code."})

    found = marshmallow_schema(Outer)["properties"]
    assert found["status"] == {"enum": ["draft"], "default": "draft"}
    assert found["code"] == {"type": ["string", "null"], "pattern": "^[A-Z]$", "description": "Its code."}


def test_a_schema_inside_itself_ends() -> None:
    class Branch(Schema):
        below = fields.List(fields.Nested(lambda: Branch()))

    assert marshmallow_schema(Branch)["properties"]["below"]["items"] == {"type": "object"}


def test_an_extended_schema_is_described_with_what_it_adds(document: dict[str, Any]) -> None:
    text = document["components"]["schemas"]["NotesCreate"]["properties"]["text"]
    assert (text["minLength"], text["maxLength"]) == (1, 500)


def test_the_document_tells_nothing_of_the_server(document: dict[str, Any]) -> None:
    written = openapi_bytes(document).decode()
    assert str(CONTRACT.parent) not in written
    assert not re.search(r"uvicorn|starlette|asyncpg|postgres", written, re.IGNORECASE)


@pytest.mark.slow
def test_a_thousand_resources_are_described_in_three_seconds(tmp_path: Path) -> None:
    names = [f"Things{index}" for index in range(1_000)]
    definitions = [
        {
            "name": name,
            "fields": {
                "name": {"type": "string", "required": True, "index": True},
                "price": {"type": "decimal", "precision": 12, "scale": 2, "index": True},
                "nextId": {"references": names[(index + 1) % 1_000], "as": "next"},
                "details": {"type": "json"},
            },
        }
        for index, name in enumerate(names)
    ]
    (tmp_path / "resources.json").write_text(json.dumps({"resources": definitions}))
    blueprint = assemble(tmp_path)
    assert least_seconds(lambda: openapi_bytes(document_of(blueprint)), 3) < 3
    # In a server it is written and read piece by piece, so that nobody waits.
    document = document_of(blueprint)
    assert openapi_bytes(document) == to_json(document)
    assert json.loads(openapi_bytes(document)) == as_read(document)


# --- the pages ----------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page loads, links to, and how its headings stand."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.faults: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "script" and not found.get("src"):
            self.faults.append("a script inside the page")
        if tag == "style" or "style" in found or any(name.startswith("on") for name in found):
            self.faults.append(f"style or handler in <{tag}>")
        if tag == "img" and "alt" not in found:
            self.faults.append("an image without alt")
        if tag in ("script", "img"):
            self.loads.append(found.get("src") or "")
        if tag == "link":
            self.loads.append(found.get("href") or "")
        if tag == "a":
            self.links.append(found.get("href") or "")
        if found.get("id"):
            self.ids.append(found["id"] or "")


@pytest.fixture
async def reader(blueprint: Blueprint, byodpp_bench: Bench) -> Any:
    async with byodpp_bench.application(blueprint) as tested:
        yield tested.client(role=None)


async def test_the_document_is_served_with_a_tag_that_saves_sending_it_again(
    reader: httpx2.AsyncClient,
) -> None:
    first = await reader.get("/openapi.json")
    assert first.status_code == 200 and first.headers["content-type"] == "application/json"
    assert first.json()["openapi"] == "3.1.0"
    again = await reader.get("/openapi.json", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await reader.get("/openapi.json", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


async def test_every_page_loads_only_what_the_server_itself_serves(reader: httpx2.AsyncClient) -> None:
    root = await reader.get("/")
    assert (root.status_code, root.headers["location"], root.content) == (302, "/docs", b"")
    index = await reader.get("/docs")
    pages = sorted({link for link in Page(index.text).links if link.startswith("/docs/")})
    assert "/docs/v1/tools" in pages and "/docs/v2/shelves" in pages and "/docs/service/health" in pages
    for address in ("/docs", *pages):
        answer = await reader.get(address)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        page = Page(answer.text)
        assert page.faults == [], address
        assert len(page.ids) == len(set(page.ids)), address
        for loaded in page.loads:
            assert loaded.startswith("/docs/assets/")
            assert (await reader.get(loaded)).status_code == 200
        for link in page.links:
            if link.startswith("#"):
                assert link[1:] in page.ids, f"{address}{link}"


async def test_assets_load_nothing_from_elsewhere(reader: httpx2.AsyncClient) -> None:
    for name in ("docs.css", "docs.js", "sign-in.js"):
        text = (await reader.get(f"/docs/assets/{name}")).text
        assert not re.search(r"https?://|@import|\beval\(|innerHTML", text)


async def test_every_operation_has_a_place_on_a_page(reader: httpx2.AsyncClient) -> None:
    document = (await reader.get("/openapi.json")).json()
    shown: set[str] = set()
    for tag in document["tags"]:
        shown |= set(Page((await reader.get(f"/docs/{tag['x-page']}")).text).ids)
    assert {one["operationId"] for _, _, one in operations(document)} <= shown


async def test_a_page_that_does_not_exist_is_not_found(reader: httpx2.AsyncClient) -> None:
    for address in (
        "/docs/v1/nothing",
        "/docs/v9/tools",
        "/docs/assets/nothing.js",
        "/docs/assets/..%2Fopenapi.py",
    ):
        assert (await reader.get(address)).status_code == 404


async def test_what_the_manifest_says_is_escaped_on_the_pages(tmp_path: Path) -> None:
    from byodpp.documentation.pages import Book

    evil = '<script>alert("x")</script>'
    definition = {
        "name": "Things",
        "description": evil,
        "fields": {"name": {"type": "string", "description": evil}},
    }
    (tmp_path / "resources.json").write_text(json.dumps({"resources": [definition]}))
    assets = dict.fromkeys(("docs.css", "docs.js", "docs.svg"), "/docs/assets/x")
    book = Book(json.loads(openapi_bytes(document_of(assemble(tmp_path)))), assets)
    for html in (book.index(), book.resource("v1/things")):
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert" in html


def test_nothing_is_made_before_somebody_asks() -> None:
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {}

    patterns = [route.pattern for route in documentation_routes(make)]
    assert patterns == ["/", "/openapi.json", "/docs", "/docs/{version}/{resource}", "/docs/assets/{name}"]
    assert made == []


def test_an_import_offers_upserts_where_there_is_a_key_to_find_rows_by(document: dict[str, Any]) -> None:
    def offered(path: str) -> dict[str, Any]:
        found = [resolve(document, one) for one in document["paths"][path]["post"]["parameters"]]
        return {one["name"]: one["schema"] for one in found if one["in"] == "query"}

    shelves, tools = offered("/api/v1/shelves/import"), offered("/api/v1/tools/import")
    assert shelves["operation"]["enum"] == ["create", "upsert"]
    assert re.search(shelves["on"]["pattern"], "label") and not re.search(shelves["on"]["pattern"], "width")
    assert tools["operation"]["enum"] == ["create"] and "on" not in tools
    assert shelves.keys() - tools.keys() == {"on"}


async def test_title_and_description_of_the_manifest_stand_in_the_document_and_on_its_page(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    things = {"name": "Things", "fields": {"a": {"type": "string"}}, "access": {"read": ["Admin"]}}
    manifest = {
        "title": "Lamps & more",
        "description": "What <we> sell.",
        "services": [{"name": "shop", "description": "Kept & sold.", "resources": [things]}],
    }
    blueprint = build(tmp_path / "app", manifest)
    info = document_of(blueprint)["info"]
    assert (info["title"], info["summary"]) == ("Lamps & more", "What <we> sell.")
    assert "summary" not in document_of(build(tmp_path / "other", {"resources": [things]}))["info"]
    async with byodpp_bench.application(blueprint) as served:
        page = (await served.client(role=None).get("/docs")).text
    assert "<h1>Lamps &amp; more</h1>" in page and "What &lt;we&gt; sell." in page
    assert "<h2>Shop</h2><p>Kept &amp; sold.</p>" in page


async def test_the_first_page_names_the_versions_and_no_word_that_begins_like_one(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    things = {
        "name": "Things",
        "fields": {"a": {"type": "string"}},
        "routes": {
            "crud": ["list"],
            "actions": [{"url": "/api/verify/{id}", "method": "get", "name": "verify"}],
        },
        "access": {"read": ["Admin"]},
    }
    logic = (
        "from byodpp.logics import Logic\n\n\nclass Verify(Logic):\n"
        '    resource, action = "Things", "verify"\n\n    async def execute(self):\n        return {}\n'
    )
    blueprint = build(tmp_path / "app", {"resources": [things]}, {"logics/verify.py": logic})
    async with byodpp_bench.application(blueprint) as served:
        page = (await served.client(role=None).get("/docs")).text
    assert '<p class="eyebrow">API reference · v1</p>' in page
