"""resources.json: every shape that loads, what it comes to mean, and every mistake in one report."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byodpp.definitions import OPERATIONS, Kind, OnDelete, ResourceDefinition, Within
from byodpp.exceptions import ManifestError, Problem
from byodpp.fields import FIELD_TYPES
from byodpp.grammar import manifest_schema
from byodpp.grammar.resource import LOGIC_WORDS
from byodpp.manifest import load_manifest, read_manifest
from byodpp.registry import Registry
from tests.computing import least_seconds

Json = dict[str, Any]


def resource(name: str = "Products", **keys: Any) -> Json:
    return {"name": name, "fields": {"name": {"type": "string"}}} | keys


def field(**keys: Any) -> Json:
    return {"resources": [{"name": "Products", "fields": {"x": keys}}]}


def read(*resources: Json) -> Registry:
    return read_manifest({"resources": list(resources)})


def one(**keys: Any) -> ResourceDefinition:
    return read(resource(**keys)).get("Products")


def problems(document: Any, files: dict[str, str] | None = None) -> list[Problem]:
    with pytest.raises(ManifestError) as caught:
        read_manifest(document, files or {})
    return list(caught.value.problems)


def problem(document: Any, files: dict[str, str] | None = None) -> Problem:
    """Return the only problem: more than one would be noise."""
    found = problems(document, files)
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]


DESIGN = {
    "name": "Products",
    "type": "database",
    "scope": "tenant",
    "fields": {
        "name": {"type": "string", "minLength": 1, "maxLength": 255, "required": True},
        "description": {"type": "text"},
        "categoryId": {"references": "Categories", "required": True},
        "price": {"type": "decimal", "precision": 12, "scale": 2, "minimum": 0},
        "isFeatured": {"type": "boolean", "default": False, "readOnly": True},
        "metadata": {"type": "json", "default": {}},
    },
    "states": {
        "field": "status",
        "initial": "draft",
        "transitions": {"publish": {"from": ["draft"], "to": "published"}},
    },
    "unique": [["categoryId", "name"]],
    "relations": {"dpps": {"resource": "Dpps", "foreignField": "productId"}},
    "search": ["name", "description"],
    "versioned": True,
    "softDelete": False,
    "audit": True,
    "history": False,
    "routes": {
        "crud": ["list", "create", "read", "update", "patch", "delete", "batch"],
        "actions": [{"url": "/api/v1/products/{id}/feature", "method": "post"}],
    },
    "access": {
        "read": ["Admin", "Manager", "Viewer"],
        "write": ["Admin", "Manager"],
        "feature:post": ["Admin"],
    },
}
OTHERS = [resource("Categories"), {"name": "Dpps", "fields": {"productId": {"references": "Products"}}}]


# --- shapes -----------------------------------------------------------------------------

SHAPES = {
    "list of services": [{"name": "catalogue", "resources": [resource()]}],
    "services": {"services": [{"name": "catalogue", "version": "v1", "resources": [resource()]}]},
    "resources": {"$schema": "./resources.schema.json", "resources": [resource()]},
    "no fields": {"resources": [{"name": "Products"}]},
    "seed": {
        "resources": [
            {
                "name": "Products",
                "type": "database",
                "supportsBatch": True,
                "routes": {"crud": ["list", "create", "read", "update", "delete"], "actions": []},
            }
        ]
    },
    "urls": [
        {
            "name": "catalogue",
            "resources": [
                {
                    "name": "Products",
                    "type": "database",
                    "routes": {
                        "crud": [
                            {"url": "/api/v1/products", "method": "list"},
                            {"url": "/api/v1/products", "method": "post"},
                            {"url": "/api/v1/products/:id", "method": "get"},
                            {"url": "/api/v1/products/:id", "method": "put"},
                            {"url": "/api/v1/products/batch", "method": "batch"},
                        ],
                        "actions": [{"url": "/api/v1/products/:id/feature", "method": "post"}],
                    },
                }
            ],
        }
    ],
}


@pytest.mark.parametrize("document", SHAPES.values(), ids=SHAPES.keys())
def test_every_outer_shape_loads_and_satisfies_the_published_schema(document: Any) -> None:
    products = read_manifest(document).get("Products")
    assert products.base_url == "/api/v1/products"
    assert products.crud_routes == {}
    assert read_manifest(json.dumps(document)).fingerprint == read_manifest(document).fingerprint
    jsonschema.Draft202012Validator(manifest_schema()).validate(document)


def test_the_designs_example_means_what_the_design_says() -> None:
    document = {"resources": [DESIGN, *OTHERS]}
    jsonschema.Draft202012Validator(manifest_schema()).validate(document)
    products = read_manifest(document).get("Products")
    assert list(products.fields) == [
        "id", "name", "description", "categoryId", "price", "isFeatured", "metadata",
        "tenantId", "createdAt", "updatedAt", "version", "status",
    ]  # fmt: skip
    assert products.fields["price"].constraints == {"precision": 12, "scale": 2, "minimum": 0}
    assert products.fields["categoryId"].column == "category_id"
    assert products.fields["categoryId"].type is FIELD_TYPES["bigint"]
    status = products.fields["status"]
    assert (status.read_only, status.nullable, status.default) == (True, False, "draft")
    assert status.enum == ("draft", "published")
    assert {name: relation.many for name, relation in products.relations.items()} == {
        "category": False,
        "dpps": True,
    }
    assert products.operations == OPERATIONS
    assert [(action.key, action.url) for action in products.actions] == [
        ("feature:post", "/api/v1/products/{id}/feature"),
        ("publish:post", "/api/v1/products/{id}/publish"),
    ]
    assert products.actions[1].transition is not None
    assert products.unique[0].fields == ("categoryId", "name")
    assert [rule.roles for rule in products.access["feature:post"]] == [("Admin",)]


@pytest.mark.parametrize("word", LOGIC_WORDS)
def test_every_word_for_logic_makes_a_resource_without_table_and_implied_fields(word: str) -> None:
    found = one(type=word, fields={}, routes={"crud": ["list"]})
    assert (found.kind, dict(found.fields), found.operations) == (Kind.LOGIC, {}, ("list",))


def test_both_vocabularies_name_the_same_operations() -> None:
    words = ["list", "post", "get", "put", "patch", "delete", "batch"]
    assert one(routes={"crud": words}).operations == OPERATIONS


@pytest.mark.parametrize(
    ("method", "url", "operation"),
    [
        ("GET", "/api/v1/products", "list"),
        ("get", "/api/v1/products", "list"),
        ("GET", "/api/v1/products/{id}", "read"),
        ("POST", "/api/v1/products", "create"),
        ("POST", "/api/v1/products/batch", "batch"),
        ("PUT", "/api/v1/products/{productId}", "update"),
        ("DELETE", "/api/v1/products/:id", "delete"),
    ],
)
def test_a_method_and_its_address_tell_the_operation(method: str, url: str, operation: str) -> None:
    found = one(routes={"crud": [{"url": url, "method": method}]})
    assert found.operations == (operation,)
    assert found.crud_routes == {}


def test_an_address_of_its_own_is_kept() -> None:
    assert one(routes={"crud": [{"url": "/shop/{sku}", "method": "get"}]}).crud_routes == {
        "read": "/shop/{id}"
    }


@pytest.mark.parametrize(
    ("keys", "operations"),
    [
        ({"supportsBatch": False}, OPERATIONS[:-1]),
        ({"supportsBatch": True, "routes": {"crud": ["list"]}}, ("list", "batch")),
        ({"type": "view", "table": "reports.products"}, ("list", "read")),
    ],
)
def test_operations_follow_the_switches(keys: Json, operations: tuple[str, ...]) -> None:
    assert one(**keys).operations == operations


def test_a_view_reads_a_relation_of_any_schema_and_has_no_time_stamps() -> None:
    view = one(type="view", table="reports.products")
    assert (view.schema, view.table, list(view.fields)) == ("reports", "products", ["id", "name", "tenantId"])


@pytest.mark.parametrize(
    ("keys", "implied"),
    [
        ({}, ["tenantId", "createdAt", "updatedAt"]),
        ({"scope": "user"}, ["tenantId", "ownerId", "createdAt", "updatedAt"]),
        ({"scope": "shared"}, ["createdAt", "updatedAt"]),
        ({"scope": "library"}, ["tenantId", "createdAt", "updatedAt"]),
        (
            {"versioned": "required", "softDelete": True},
            ["tenantId", "createdAt", "updatedAt", "version", "deletedAt"],
        ),
    ],
)
def test_scope_and_switches_imply_fields_that_no_client_writes(keys: Json, implied: list[str]) -> None:
    found = one(**keys)
    assert list(found.fields) == ["id", "name", *implied]
    assert all(found.fields[name].read_only and found.fields[name].implied for name in ["id", *implied])
    assert found.version_required is (keys.get("versioned") == "required")


@pytest.mark.parametrize(("key", "kind"), [("bigint", "bigint"), ("uuid7", "uuid"), ("ulid", "ulid")])
def test_a_reference_takes_the_type_of_its_targets_key(key: str, kind: str) -> None:
    registry = read(
        resource("Categories", id=key),
        resource(fields={"categoryId": {"references": "Categories", "as": "group", "onDelete": "setNull"}}),
    )
    found = registry.get("Products").fields["categoryId"]
    assert registry.get("Categories").fields["id"].type.name == found.type.name == kind
    assert found.references is not None
    assert (found.references.relation, found.references.on_delete) == ("group", OnDelete.SET_NULL)


@pytest.mark.parametrize(
    ("access", "rules"),
    [
        ("Admin", [(("Admin",), None, None)]),
        (["Admin", "Viewer"], [(("Admin", "Viewer"), None, None)]),
        ([], []),
        (
            {"roles": ["Viewer"], "filter": {"name": "x"}, "fields": ["id"]},
            [(("Viewer",), {"name": "x"}, ("id",))],
        ),
        (
            ["Admin", {"roles": ["public"], "filter": {"or": [{"name": "x"}, {"name": {"like": "y"}}]}}],
            [
                (("Admin",), None, None),
                (("public",), {"or": [{"name": "x"}, {"name": {"like": "y"}}]}, None),
            ],
        ),
    ],
)
def test_access_is_a_role_a_rule_or_a_list_of_both(access: Any, rules: list[Any]) -> None:
    found = one(access={"read": access}).access["read"]
    assert [(rule.roles, rule.filter, rule.fields) for rule in found] == rules


@pytest.mark.parametrize(
    ("keys", "within"),
    [
        ({"unique": True}, Within.SCOPE),
        ({"unique": True, "within": "platform"}, Within.PLATFORM),
        ({"unique": "ever"}, Within.EVER),
        ({"unique": False}, None),
    ],
)
def test_a_unique_field_says_where_it_counts(keys: Json, within: Within | None) -> None:
    assert read_manifest(field(type="string", **keys)).get("Products").fields["x"].unique is within


def test_a_unique_key_says_where_it_counts() -> None:
    assert one(unique=[{"fields": ["name"], "within": "ever"}]).unique[0].within is Within.EVER


def test_what_is_indexed_may_be_filtered_by_and_what_is_not_says_so() -> None:
    names = ("plain", "indexed", "keyed", "searched", "asked", "refused")
    fields: Json = {name: {"type": "string"} for name in names}
    fields["indexed"]["index"] = fields["asked"]["filterable"] = True
    fields["refused"] |= {"index": True, "filterable": False}
    keys = {"fields": fields, "unique": [["keyed"]], "search": ["searched"]}
    found = one(**keys).fields
    assert [name for name in names if found[name].filterable] == ["indexed", "keyed", "searched", "asked"]
    assert [name for name in names if one(**keys, filterable=True).fields[name].filterable] == list(
        names[:-1]
    )
    assert [name for name in ("id", "createdAt", "tenantId") if found[name].filterable] == ["id", "createdAt"]


def test_values_of_the_manifest_become_python_values() -> None:
    found = read_manifest(
        '{"resources": [{"name": "Products", "fields": {"x": {"type": "decimal", "default": 0.10}}}]}'
    )
    assert str(found.get("Products").fields["x"].default) == "0.10"
    assert read_manifest(field(type="decimal", enum=[0.5, 2])).get("Products").fields["x"].enum == (
        Decimal("0.5"),
        Decimal(2),
    )


def test_versions_share_a_table_unless_one_names_its_own() -> None:
    def in_versions(**second: Any) -> list[str]:
        services = [
            {"name": "one", "resources": [resource()]},
            {"name": "two", "version": "v2", "resources": [resource(**second)]},
        ]
        registry = read_manifest(services)
        return [registry.get("Products", version).table for version in ("v1", "v2")]

    assert in_versions() == ["products", "products"]
    assert in_versions(table="products_2", scope="shared") == ["products", "products_2"]


@pytest.mark.parametrize(
    ("name", "segment", "table"),
    [
        ("ProductDataSources", "product-data-sources", "product_data_sources"),
        ("DPPs", "dp-ps", "dp_ps"),
        ("GS1Keys", "gs1-keys", "gs1_keys"),
        ("order", "order", "order"),
    ],
)
def test_names_become_kebab_case_and_snake_case(name: str, segment: str, table: str) -> None:
    found = read(resource(name)).get(name)
    assert (found.segment, found.table) == (segment, table)


# --- states ---------------------------------------------------------------------------------


def test_a_declared_state_field_keeps_its_own_words() -> None:
    found = one(
        fields={"state": {"type": "string", "enum": ["a", "b", "c"], "title": "State"}},
        states={
            "field": "state",
            "initial": "a",
            "transitions": {"go": {"from": "a", "to": "b", "roles": ["Admin"]}},
        },
    )
    assert found.fields["state"].title == "State"
    assert found.states is not None
    assert found.states.states == ("a", "b", "c")
    assert found.states.transitions["go"].roles == ("Admin",)


STATES = {"initial": "draft", "transitions": {"publish": {"from": "draft", "to": "published"}}}


@pytest.mark.parametrize(
    ("states", "path"),
    [
        ({"initial": "drat", "enum": ["draft", "published"]}, "initial"),
        ({"enum": ["draft"]}, "transitions.publish.to"),
        (
            {"transitions": {"publish": {"from": ["draft", "redy"], "to": "published"}}},
            "transitions.publish.from[1]",
        ),
        ({"transitions": {"publish": {"to": "published"}}}, "transitions.publish"),
    ],
)
def test_states_that_nothing_knows_are_refused(states: Json, path: str) -> None:
    assert problem({"resources": [resource(states=STATES | states)]}).path == f"$.resources[0].states.{path}"


@pytest.mark.parametrize(
    ("keys", "key"),
    [({"required": True}, "required"), ({"default": "published"}, "default")],
)
def test_a_state_field_is_set_by_the_framework_alone(keys: Json, key: str) -> None:
    declared = {"status": {"type": "string", **keys}}
    found = problem({"resources": [resource(fields=declared, states=STATES)]})
    assert found.path == f"$.resources[0].fields.status.{key}"


# --- include, parts, extends ------------------------------------------------------------------


def test_files_are_included_by_patterns_relative_to_the_including_file(tmp_path: Path) -> None:
    texts = {
        "resources.json": {"include": ["resources/*.json", "byodpp:tenancy"], "resources": [resource("A")]},
        "resources/b.json": resource("B"),
        "resources/c.json": [
            {"name": "more", "version": "v2", "include": "deep/*.json", "resources": [resource("C")]}
        ],
        "resources/deep/d.json": [resource("D"), resource("E")],
    }
    for name, document in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document), "utf-8")
    registry = load_manifest(tmp_path)
    own = [(one.id, one.service, one.path) for one in registry if one.part is None]
    assert own == [
        (("v1", "A"), "application", "$.resources[0]"),
        (("v1", "B"), "application", "resources/b.json:$"),
        (("v2", "C"), "more", "resources/c.json:$[0].resources[0]"),
        (("v2", "D"), "more", "resources/deep/d.json:$[0]"),
        (("v2", "E"), "more", "resources/deep/d.json:$[1]"),
    ]
    assert {one.name for one in registry if one.part and one.routed} == {"Tenants", "TenantClasses"}


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    app = tmp_path / "app"
    app.mkdir()
    (app / "link.json").symlink_to(tmp_path / "secret.json")
    (app / "resources.json").write_text(json.dumps({"include": ["link.json"], "resources": [resource()]}))
    with pytest.raises(ManifestError, match="nothing is found"):
        load_manifest(app)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("../other.json", "leads out of the application's folder"),
        ("/etc/passwd", "leads out of the application's folder"),
        ("x/../../y.json", "leads out of the application's folder"),
        ("nowhere.json", "nothing is found"),
        ("byodpp:tenanci", "no part 'tenanci'"),
    ],
)
def test_an_include_that_leads_nowhere_or_outside_is_refused(pattern: str, reason: str) -> None:
    found = problem({"include": [pattern], "resources": [resource()]})
    assert found.path == "$.include[0]"
    assert reason in found.reason


def test_files_that_include_each_other_are_reported_as_a_circle() -> None:
    files = {"a.json": '{"include": ["b.json"], "resources": []}', "b.json": '{"include": "a.json"}'}
    found = problem({"include": "a.json", "resources": [resource()]}, files)
    assert found == Problem(
        "b.json:$.include",
        "files include each other: a.json -> b.json -> a.json",
        "Remove one of these includes.",
    )


def test_a_mistake_in_an_included_file_carries_its_name() -> None:
    files = {"more.json": json.dumps({"resources": [resource("B", feilds={})]})}
    assert (
        problem({"include": "more.json", "resources": [resource()]}, files).path
        == "more.json:$.resources[0].feilds"
    )


def test_a_resource_that_extends_a_parts_adds_fields_and_gets_routes() -> None:
    registry = read(
        resource("Industries", scope="shared"),
        {
            "extends": "byodpp:tenancy/Tenants",
            "fields": {"industryId": {"references": "Industries"}},
            "access": {"read": ["Admin"]},
        },
    )
    tenants = registry.get("Tenants")
    assert (tenants.routed, tenants.part, tenants.scope) == (True, "tenancy", "self")
    assert {"slug", "status", "industryId"} <= tenants.fields.keys()
    assert list(tenants.access) == ["read"]
    assert [one.id for one in registry].count(("v1", "Tenants")) == 1


def test_a_part_named_without_fields_is_the_parts() -> None:
    users = read(
        {"name": "Users", "type": "database", "routes": {"crud": ["list", "read"], "actions": []}}
    ).get("Users")
    assert (users.part, users.routed, users.operations) == ("access", True, ("list", "read"))
    assert "userName" in users.fields


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (resource("Users"), "name"),
        ({"extends": "byodpp:tenancy/Tenant"}, "extends"),
        ({"extends": "byodpp:access/Users", "scope": "shared"}, "scope"),
        ({"extends": "byodpp:access/Users", "name": "People"}, "name"),
        ({"extends": "byodpp:access/Users", "fields": {"email": {"type": "text"}}}, "fields.email"),
        ({"extends": "byodpp:access/Policies", "softDelete": True}, "softDelete"),
        ({"name": "UserRoles", "type": "database", "softDelete": True}, "softDelete"),
    ],
)
def test_what_a_part_declares_stays_the_parts(document: Json, path: str) -> None:
    assert problem({"resources": [document]}).path == f"$.resources[0].{path}"


def test_rows_of_parts_may_have_a_history() -> None:
    users = read({"extends": "byodpp:access/Users", "softDelete": False, "history": True}).get("Users")
    assert users.history and not users.soft_delete


def test_the_parts_declare_what_the_framework_relies_on() -> None:
    registry = read(resource())
    columns = {one.name: set(one.columns.values()) for one in registry}
    assert {"id", "ulid", "slug", "name", "status", "tenant_class_id", "parent_id"} <= columns["Tenants"]
    assert {"tenant_id", "realm", "subject", "name", "user_name", "email", "status"} <= columns["Users"]
    assert {"tenant_id", "ptype", "subject", "object", "action", "effect", "condition", "fields"} <= columns[
        "Policies"
    ]
    assert {"user_id", "role_id"} <= columns["UserRoles"]
    assert registry.get("AuditLogs").operations == ("list", "read")


# --- JSON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"resources": [\n  {"name": "A",}\n]}', "line 2, column 16"),
        ("", "line 1, column 1"),
        (b'{"resources": [\n"\xff"]}', "line 2: the file is not UTF-8"),
        ('{"resources": [{"name": "A", "bounds": {"limit": NaN}}]}', "NaN is not a JSON number"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_not_json_is_reported_with_its_line(text: str | bytes, reason: str) -> None:
    assert reason in problem(text).reason


def test_a_key_given_twice_is_reported_with_its_path() -> None:
    text = '{"resources": [{"name": "A", "fields": {"x": {"type": "string"}, "x": {"type": "integer"}}}]}'
    assert problem(text) == Problem(
        "$.resources[0].fields.x", "the key 'x' is given twice", "Keep one of them."
    )


@pytest.mark.parametrize("text", ["a\\u0000b", "\\ud800"])
def test_text_that_no_database_can_store_is_refused(text: str) -> None:
    document = '{"resources": [{"name": "A", "description": "' + text + '"}]}'
    assert problem(document).path == "$.resources[0].description"


def test_a_folder_without_a_manifest_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="byodpp init"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("document", [{}, [], 3, "null", {"services": [{"name": "x", "resources": []}]}])
def test_a_manifest_without_resources_is_refused(document: Any) -> None:
    assert problem(document).path == "$"


# --- random manifests -----------------------------------------------------------------------------

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,12}x", fullmatch=True)
TYPES = st.sampled_from(
    [{"type": name} for name in FIELD_TYPES if name not in ("array", "object")]
    + [
        {"type": "array", "items": {"type": "integer"}},
        {"type": "object", "properties": {"a": {"type": "string"}, "name": {"type": "date"}}},
        {"type": "string", "enum": ["a", "b"], "default": "a"},
        {"type": "decimal", "precision": 8, "scale": 2, "minimum": 0},
        {"references": "Targets"},
    ]
)
FIELDS = st.dictionaries(NAMES, TYPES, max_size=8).filter(
    lambda found: len({name.lower() for name in found}) == len(found)
)
RESOURCES = st.fixed_dictionaries(
    {"fields": FIELDS},
    optional={
        "scope": st.sampled_from(["tenant", "user", "library"]),
        "id": st.sampled_from(["bigint", "uuid7", "ulid"]),
        "versioned": st.sampled_from([True, False, "required"]),
        "softDelete": st.booleans(),
        "audit": st.booleans(),
        "routes": st.fixed_dictionaries({"crud": st.lists(st.sampled_from(OPERATIONS), unique=True)}),
        "access": st.dictionaries(st.sampled_from(["read", "write", *OPERATIONS]), st.just(["Admin"])),
        "bounds": st.fixed_dictionaries({"maxLimit": st.integers(1, 1000)}),
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(RESOURCES, max_size=5))
def test_random_valid_manifests_load_and_satisfy_the_schema(bodies: list[Json]) -> None:
    made = [resource("Targets"), *({"name": f"Made{number}"} | body for number, body in enumerate(bodies))]
    for body in made:
        body["fields"] = {
            f"f{name}": keys | ({"as": f"to{name}"} if "references" in keys else {})
            for name, keys in body["fields"].items()
        }
    columns = [
        len({key.lower().replace("_", "") for key in body["fields"]}) == len(body["fields"]) for body in made
    ]
    assert all(columns)
    registry = read_manifest({"resources": made})
    jsonschema.Draft202012Validator(manifest_schema()).validate({"resources": made})
    for body in made:
        found = registry.get(body["name"])
        assert set(body["fields"]) <= set(found.fields)
        assert len(set(found.columns.values())) == len(found.columns)


WORDS = st.sampled_from(
    "resources services include name version fields type references states initial transitions from to "
    "unique routes crud actions url method access read roles filter"
    " enum default items properties extends".split()
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_nonsense_is_refused_by_a_report_and_never_by_a_crash(document: Any) -> None:
    try:
        read_manifest(document if not isinstance(document, str | bytes) else [document])
    except ManifestError as error:
        assert error.problems


def test_a_thousand_resources_of_ten_fields_are_read_within_a_second() -> None:
    fields: Json = {f"field{number}": {"type": "string", "maxLength": 100} for number in range(7)}
    fields |= {
        "price": {"type": "decimal", "precision": 12, "scale": 2, "minimum": 0},
        "meta": {"type": "json", "default": {}},
    }
    made = [
        resource(
            f"Resource{number}", fields=fields | {"parentId": {"references": f"Resource{max(number - 1, 0)}"}}
        )
        for number in range(1_000)
    ]
    text = json.dumps({"resources": made})
    of_parts = len(read_manifest({"resources": made[:1]})) - 1
    assert len(read_manifest(text)) == 1_000 + of_parts
    assert least_seconds(lambda: read_manifest(text), 1.0) < 1.0
