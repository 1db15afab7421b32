"""Every mistake of a manifest is told: once, with its path and advice, all in one report."""

from __future__ import annotations

from typing import Any

import pytest

from byodpp.exceptions import ManifestError, Problem
from byodpp.manifest import read_manifest

Json = dict[str, Any]


def resource(name: str = "Products", **keys: Any) -> Json:
    return {"name": name, "fields": {"name": {"type": "string"}}} | keys


def problems(document: Any, files: dict[str, str] | None = None) -> list[Problem]:
    with pytest.raises(ManifestError) as caught:
        read_manifest(document, files or {})
    return list(caught.value.problems)


def problem(document: Any, files: dict[str, str] | None = None) -> Problem:
    """Return the only problem: more than one would be noise."""
    found = problems(document, files)
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]


STATES = {"initial": "draft", "transitions": {"publish": {"from": "draft", "to": "published"}}}

MISTAKES: dict[str, tuple[Json, str, str]] = {
    # what: (fields or keys of resource 0, path below it, part of the suggestion)
    "unknown key": ({"scoope": "user"}, "scoope", "scope"),
    "unknown type": ({"fields": {"x": {"type": "strng"}}}, "fields.x.type", "string"),
    "type of SQL": ({"fields": {"x": {"type": "varchar"}}}, "fields.x.type", "string"),
    "no type": ({"fields": {"x": {"maxLength": 3}}}, "fields.x", "type"),
    "unknown constraint": (
        {"fields": {"x": {"type": "integer", "minimun": 1}}},
        "fields.x.minimun",
        "minimum",
    ),
    "foreign constraint": (
        {"fields": {"x": {"type": "boolean", "maxLength": 1}}},
        "fields.x.maxLength",
        "string",
    ),
    "minimum above maximum": (
        {"fields": {"x": {"type": "integer", "minimum": 2, "maximum": 1}}},
        "fields.x.minimum",
        "",
    ),
    "default of another type": (
        {"fields": {"x": {"type": "integer", "default": "1"}}},
        "fields.x.default",
        "",
    ),
    "an audience of a part": (
        {"fields": {"x": {"type": "object", "properties": {"y": {"type": "string", "audience": "Chief"}}}}},
        "fields.x.properties.y.audience",
        "field itself",
    ),
    "an audience of items": (
        {"fields": {"x": {"type": "array", "items": {"type": "string", "audience": ["Chief"]}}}},
        "fields.x.items.audience",
        "field itself",
    ),
    "more mandatory properties than an object may have": (
        {
            "fields": {
                "x": {
                    "type": "object",
                    "properties": {"a": {"type": "string", "required": True}},
                    "maxProperties": 0,
                }
            }
        },
        "fields.x.maxProperties",
        "1 or more",
    ),
    "states without a transition": (
        {"states": {"initial": "draft", "transitions": {}}},
        "states.transitions",
        "",
    ),
    "default outside the enum": (
        {"fields": {"x": {"type": "string", "enum": ["draft"], "default": "drafts"}}},
        "fields.x.default",
        "draft",
    ),
    "default outside the bounds": (
        {"fields": {"x": {"type": "integer", "maximum": 5, "default": 6}}},
        "fields.x.default",
        "",
    ),
    "enum of another type": (
        {"fields": {"x": {"type": "integer", "enum": [1, "2"]}}},
        "fields.x.enum[1]",
        "",
    ),
    "null in an enum": ({"fields": {"x": {"type": "string", "enum": ["a", None]}}}, "fields.x.enum[1]", ""),
    "example that is none": (
        {"fields": {"x": {"type": "date", "examples": ["soon"]}}},
        "fields.x.examples[0]",
        "",
    ),
    "evil pattern": ({"fields": {"x": {"type": "string", "pattern": "^(a+)+$"}}}, "fields.x.pattern", ""),
    "array without items": ({"fields": {"x": {"type": "array"}}}, "fields.x", "items"),
    "mistake inside an object": (
        {"fields": {"x": {"type": "object", "properties": {"y": {"type": "integer", "default": "a"}}}}},
        "fields.x.properties.y.default",
        "",
    ),
    "reference inside an object": (
        {"fields": {"x": {"type": "object", "properties": {"y": {"references": "Other"}}}}},
        "fields.x.properties.y.references",
        "",
    ),
    "unknown target": ({"fields": {"x": {"references": "Othr"}}}, "fields.x.references", "Other"),
    "logic target": ({"fields": {"x": {"references": "Calc"}}}, "fields.x.references", ""),
    "type of a reference": (
        {"fields": {"xId": {"references": "Other", "type": "uuid"}}},
        "fields.xId.type",
        "Leave",
    ),
    "relation named like its field": (
        {"fields": {"other": {"references": "Other"}}},
        "fields.other.references",
        "as",
    ),
    "null without leave": (
        {"fields": {"xId": {"references": "Other", "required": True, "onDelete": "setNull"}}},
        "fields.xId.onDelete",
        "",
    ),
    "required reference to itself": (
        {"fields": {"parentId": {"references": "Products", "required": True}}},
        "fields.parentId",
        "optional",
    ),
    "required and read-only": (
        {"fields": {"x": {"type": "string", "required": True, "readOnly": True}}},
        "fields.x.required",
        "nullable",
    ),
    "never null, never given": (
        {"fields": {"x": {"type": "string", "nullable": False}}},
        "fields.x.nullable",
        "default",
    ),
    "word of the query language": ({"fields": {"gte": {"type": "integer"}}}, "fields.gte", "another"),
    "implied field": ({"fields": {"createdAt": {"type": "datetime"}}}, "fields.createdAt", "Leave"),
    "implied by a switch": (
        {"fields": {"version": {"type": "integer"}}, "versioned": True},
        "fields.version",
        "Leave",
    ),
    "bad name": ({"fields": {"my-field": {"type": "string"}}}, 'fields["my-field"]', ""),
    "unicode twin": ({"fields": {"n\u0430me": {"type": "string"}}}, 'fields["n\u0430me"]', ""),
    "case twins": ({"fields": {"sku": {"type": "string"}, "SKU": {"type": "string"}}}, "fields.SKU", ""),
    "column twins": (
        {"fields": {"aB": {"type": "string"}, "a_b": {"type": "string"}}},
        "fields.a_b",
        "column",
    ),
    "long column": ({"fields": {"x" * 64: {"type": "string"}}}, "fields." + "x" * 64, "shorter"),
    "system column": ({"fields": {"ctid": {"type": "string"}}}, "fields.ctid", "column"),
    "renamed from a living field": (
        {"fields": {"a": {"type": "string"}, "b": {"type": "string", "renamedFrom": "a"}}},
        "fields.b.renamedFrom",
        "",
    ),
    "too many fields": ({"fields": {f"f{n}": {"type": "string"} for n in range(1_600)}}, "fields", "Split"),
    "long table": ({"table": "t" * 64}, "table", "shorter"),
    "reserved table": ({"table": "pg_catalog"}, "table", ""),
    "schema of a table": ({"table": "other.things"}, "table", "things"),
    "unknown field of a key": ({"unique": [["nam"]]}, "unique[0][0]", "name"),
    "json in a key": ({"fields": {"x": {"type": "json"}}, "unique": [["x"]]}, "unique[0][0]", ""),
    "unique json": ({"fields": {"x": {"type": "json", "unique": True}}}, "fields.x.unique", ""),
    "key given twice": (
        {"fields": {"a": {"type": "string"}, "b": {"type": "string"}}, "unique": [["a", "b"], ["b", "a"]]},
        "unique[1]",
        "",
    ),
    "search in numbers": ({"fields": {"x": {"type": "integer"}}, "search": ["x"]}, "search[0]", ""),
    "unknown relation target": (
        {"relations": {"xs": {"resource": "Othr"}}},
        "relations.xs.resource",
        "Other",
    ),
    "relation that nothing makes": (
        {"relations": {"xs": {"resource": "Other", "foreignField": "name"}}},
        "relations.xs.foreignField",
        "references",
    ),
    "relation named like a field": (
        {"relations": {"name": {"resource": "Lines", "foreignField": "productId"}}},
        "relations.name",
        "another",
    ),
    "unknown scope": ({"scope": "tenants"}, "scope", "tenant"),
    "unknown operation": ({"routes": {"crud": ["list", "lst"]}}, "routes.crud[1]", "list"),
    "operation twice": ({"routes": {"crud": ["read", "get"]}}, "routes.crud[1]", ""),
    "parameter in a list": (
        {"routes": {"crud": [{"url": "/x/{id}", "method": "list"}]}},
        "routes.crud[0].url",
        "/api/v1/products",
    ),
    "nameless action": (
        {"routes": {"actions": [{"url": "/01/{gtin}", "method": "get"}]}},
        "routes.actions[0]",
        "name",
    ),
    "parameter of no address": (
        {"routes": {"actions": [{"url": "/one/{gtin}/go", "parameters": {"gtn": "name"}}]}},
        "routes.actions[0].parameters.gtn",
        "gtin",
    ),
    "parameter of no field": (
        {"routes": {"actions": [{"url": "/two/{gtin}/go", "parameters": {"gtin": "nam"}}]}},
        "routes.actions[0].parameters.gtin",
        "name",
    ),
    "parameter that is no text": (
        {
            "fields": {"x": {"type": "json"}},
            "routes": {"actions": [{"url": "/three/{x}/go", "parameters": {"x": "x"}}]},
        },
        "routes.actions[0].parameters.x",
        "",
    ),
    "object of nothing": ({"fields": {"x": {"type": "object"}}}, "fields.x", "additionalProperties"),
    "object of no property": (
        {"fields": {"x": {"type": "object", "properties": {}}}},
        "fields.x.properties",
        "additionalProperties",
    ),
    "array of nothing": (
        {"fields": {"x": {"type": "array", "items": {"type": "object", "additionalProperties": False}}}},
        "fields.x.items",
        "json",
    ),
    "object that is never full": (
        {"fields": {"x": {"type": "object", "properties": {"a": {"type": "string"}}, "minProperties": 2}}},
        "fields.x.minProperties",
        "additionalProperties",
    ),
    "reserved address": ({"routes": {"actions": [{"url": "/health/x"}]}}, "routes.actions[0].url", ""),
    "half a parameter": ({"routes": {"actions": [{"url": "/a/{id}.json"}]}}, "routes.actions[0].url", "{id}"),
    "action twice": (
        {"routes": {"actions": [{"url": "/a/go"}, {"url": "/b/go"}]}},
        "routes.actions[1]",
        "name",
    ),
    "action named like an operation": (
        {"routes": {"actions": [{"url": "/a/go", "name": "read"}]}},
        "routes.actions[0].name",
        "",
    ),
    "action over a transition": (
        {"states": STATES, "routes": {"actions": [{"url": "/x/publish"}]}},
        "states.transitions.publish",
        "Remove",
    ),
    "address of an operation": (
        {"routes": {"actions": [{"url": "/api/v1/products/{x}", "method": "get", "name": "peek"}]}},
        "routes.actions[0]",
        "another",
    ),
    "unknown access key": ({"access": {"reed": ["Admin"]}}, "access.reed", "read"),
    "public as a key": ({"access": {"public": ["Admin"]}}, "access.public", "roles"),
    "public writing": ({"access": {"create": ["public"]}}, "access.create", "action"),
    "a rule for nobody": ({"access": {"read": {"roles": []}}}, "access.read.roles", "[]"),
    "a rule for nobody among rules": (
        {"access": {"write": ["A", {"roles": []}]}},
        "access.write[1].roles",
        "[]",
    ),
    "public rows of one user": ({"scope": "user", "access": {"read": "public"}}, "access.read", "scope"),
    "misspelt public": ({"access": {"read": ["Public"]}}, "access.read", "public"),
    "field of a rule": (
        {"access": {"read": {"roles": ["A"], "fields": ["nam"]}}},
        "access.read.fields",
        "name",
    ),
    "field of a filter": (
        {"access": {"read": {"roles": ["A"], "filter": {"or": [{"nam": 1}]}}}},
        "access.read.filter.or[0].nam",
        "name",
    ),
    "operator of a filter": (
        {"access": {"read": {"roles": ["A"], "filter": {"name": {"eqq": 1}}}}},
        "access.read.filter.name.eqq",
        "eq",
    ),
    "variable of a filter": (
        {"access": {"read": {"roles": ["A"], "filter": {"name": "$usr.id"}}}},
        "access.read.filter.name",
        "$user.id",
    ),
    "claim of a filter": (
        {"access": {"read": {"roles": ["A"], "filter": {"name": {"in": ["$user.emial"]}}}}},
        "access.read.filter.name.in",
        "$user.email",
    ),
    "variable without a likeness": (
        {"access": {"read": {"roles": ["A"], "filter": {"name": "$user.team"}}}},
        "access.read.filter.name",
        "Known: $user.id, $user.subject, $user.roles",
    ),
    "value of a filter": (
        {"access": {"read": {"roles": ["A"], "filter": {"or": [{"name": {"gte": 5}}]}}}},
        "access.read.filter.or[0].name.gte",
        "",
    ),
    "value among others of a filter": (
        {"access": {"read": {"roles": ["A"], "filter": {"createdAt": {"in": [None, "yesterday"]}}}}},
        "access.read.filter.createdAt.in",
        "",
    ),
    "no list in a filter": (
        {"access": {"read": {"roles": ["A"], "filter": {"name": {"nin": "a"}}}}},
        "access.read.filter.name.nin",
        "",
    ),
    "user of the public": (
        {"access": {"read": {"roles": ["public"], "filter": {"name": "$user.id"}}}},
        "access.read.filter.name",
        "",
    ),
    "message of nothing": ({"messages": {"creat": "Done"}}, "messages.creat", "create"),
    "page above the maximum": ({"bounds": {"limit": 9, "maxLimit": 5}}, "bounds", "maxLimit"),
    "unknown event": ({"events": ["created"]}, "events[0]", "create"),
}

BESIDE = [
    resource("Other"),
    {"name": "Calc", "type": "logic", "routes": {"crud": ["list"]}},
    {"name": "Lines", "fields": {"productId": {"references": "Products"}}},
]


@pytest.mark.parametrize(("keys", "path", "advice"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_reported_once_with_path_and_advice(keys: Json, path: str, advice: str) -> None:
    found = problem({"resources": [resource() | keys, *BESIDE]})
    assert found.path == f"$.resources[0].{path}"
    assert found.reason
    assert advice in found.suggestion


def test_every_mistake_of_a_manifest_is_in_one_report() -> None:
    """Each stands in a resource of its own; the report holds them all, in order, and nothing else."""
    wrong = [
        resource(f"R{number}") | keys
        for number, (what, (keys, _, _)) in enumerate(MISTAKES.items())
        if what not in _ABOUT_PRODUCTS
    ]
    expected = [path for what, (_, path, _) in MISTAKES.items() if what not in _ABOUT_PRODUCTS]
    assert len(expected) >= 60
    found = problems({"resources": [*wrong, resource(), *BESIDE]})
    assert [one.path for one in found] == [
        f"$.resources[{number}].{path}" for number, path in enumerate(expected)
    ]


#: These speak of Products itself, by name or address.
_ABOUT_PRODUCTS = {"required reference to itself", "relation named like a field", "address of an operation"}


def test_more_than_twenty_five_mistakes_in_one_resource_are_all_reported() -> None:
    """One mistake never hides another, and none is told twice."""
    merged: Json = {"name": "Products", "fields": {"name": {"type": "string"}}}
    expected: list[str] = []
    for number, (keys, path, _) in enumerate(MISTAKES.values()):
        if keys.keys() == {"fields"} and path.startswith("fields.x") and "xxx" not in path:
            merged["fields"][f"x{number}Id"] = next(iter(keys["fields"].values()))
            rest = path.removeprefix("fields.").partition(".")
            expected.append(f"$.resources[0].fields.x{number}Id{rest[1]}{rest[2]}")
        elif keys.keys() == {"access"} and not keys["access"].keys() & merged.get("access", {}).keys():
            merged["access"] = merged.get("access", {}) | keys["access"]
            expected.append(f"$.resources[0].{path}")
        elif len(keys) == 1 and not keys.keys() & merged.keys() and path.split(".")[0].split("[")[0] in keys:
            merged |= keys
            expected.append(f"$.resources[0].{path}")
    found = [one.path for one in problems({"resources": [merged, *BESIDE]})]
    assert sorted(found) == sorted(expected)
    assert len(found) >= 30


@pytest.mark.parametrize(
    ("resources", "path", "reason"),
    [
        ([resource(), resource()], "$.resources[1].name", "declared in this version already"),
        ([resource(), resource("products")], "$.resources[1].name", "told apart"),
        ([resource("ProductData"), resource("Product_Data")], "$.resources[1].name", "told apart"),
        ([resource(), resource("Other", table="products")], "$.resources[1].table", "belongs to Products"),
        ([resource("Mine", table="tenants")], "$.resources[0].table", "belongs to Tenants"),
        ([resource("Batch")], "$.resources[0].name", "reserved"),
        ([resource("1x")], "$.resources[0].name", "is not a name"),
        ([{"fields": {}}], "$.resources[0]", "'name' is missing"),
        ([{"name": "V", "type": "view"}], "$.resources[0]", "a view needs `table`"),
        ([resource("Mine", scope="self")], "$.resources[0].scope", "own record lies in Tenants"),
        (
            [{"name": "V", "type": "view", "table": "v", "softDelete": True}],
            "$.resources[0].softDelete",
            "read-only",
        ),
        (
            [{"name": "V", "type": "view", "table": "v", "routes": {"crud": ["list", "patch"]}}],
            "$.resources[0].routes.crud[1]",
            "read-only",
        ),
        ([{"name": "L", "type": "logic"}], "$.resources[0]", "nothing to serve"),
        (
            [{"name": "L", "type": "logic", "table": "l", "routes": {"crud": ["list"]}}],
            "$.resources[0].table",
            "no table",
        ),
        (
            [
                {
                    "name": "L",
                    "type": "logic",
                    "fields": {"x": {"type": "string", "unique": True}},
                    "routes": {"crud": ["list"]},
                }
            ],
            "$.resources[0].fields.x.unique",
            "no table",
        ),
        (
            [resource(), {"name": "S", "scope": "shared", "fields": {"pId": {"references": "Products"}}}],
            "$.resources[1].fields.pId.references",
            "cannot refer to rows of one tenant",
        ),
        (
            [
                {"name": "A", "fields": {"bId": {"references": "B", "required": True}}},
                {"name": "B", "fields": {"cId": {"references": "C", "nullable": False, "readOnly": True}}},
                {"name": "C", "fields": {"aId": {"references": "A", "required": True}}},
            ],
            "$.resources[0].fields.bId",
            "A.bId -> B.cId -> C.aId -> A",
        ),
    ],
)
def test_resources_that_do_not_go_together_are_refused(resources: list[Json], path: str, reason: str) -> None:
    found = problem({"resources": resources})
    assert found.path == path
    assert reason in found.reason


@pytest.mark.parametrize(
    ("second", "path"),
    [
        ({"scope": "shared"}, "scope"),
        ({"id": "uuid7"}, "id"),
        ({"softDelete": True}, "softDelete"),
        ({"fields": {"name": {"type": "integer"}}}, "fields.name"),
    ],
)
def test_versions_that_share_a_table_agree_about_it(second: Json, path: str) -> None:
    services = [
        {"name": "a", "resources": [resource()]},
        {"name": "b", "version": "v2", "resources": [resource(**second)]},
    ]
    assert problem(services).path == f"$[1].resources[0].{path}"


def test_a_broken_field_is_not_reported_again_by_what_mentions_it() -> None:
    broken = {"type": "strng", "maxLength": 3}
    found = problem(
        {
            "resources": [
                resource(
                    fields={"name": broken},
                    unique=[["name"]],
                    search=["name"],
                    access={"read": {"roles": ["A"], "filter": {"name": {"eq": 1}}, "fields": ["name"]}},
                )
            ]
        }
    )
    assert found.path == "$.resources[0].fields.name.type"


def test_a_broken_reference_is_not_reported_again_by_relations_and_filters() -> None:
    lines = {
        "name": "Lines",
        "fields": {"productId": {"references": "Prodcts"}},
        "access": {"read": {"roles": ["A"], "filter": {"product.name": "x"}}},
    }
    found = problem({"resources": [resource(), lines]})
    assert found.path == "$.resources[1].fields.productId.references"


def test_access_of_a_broken_action_is_not_reported() -> None:
    keys: Json = {"routes": {"actions": [{"url": "x/feature"}]}, "access": {"feature:post": ["Admin"]}}
    assert problem({"resources": [resource(**keys)]}).path == "$.resources[0].routes.actions[0].url"


def test_a_malformed_version_does_not_make_twins() -> None:
    services = [
        {"name": "a", "resources": [resource()]},
        {"name": "b", "version": "2", "resources": [resource()]},
    ]
    assert problem(services).path == "$[1].version"


@pytest.mark.parametrize("kind", ["actions", "crud"])
def test_a_wrong_method_hides_no_wrong_address(kind: str) -> None:
    routes = {kind: [{"url": "api/v1/products/{id}/sail", "method": "fetch"}]}
    found = problems({"resources": [resource(routes=routes)]})
    place = f"$.resources[0].routes.{kind}[0]"
    assert {one.path for one in found} == {f"{place}.method", f"{place}.url"}
