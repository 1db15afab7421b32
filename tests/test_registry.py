"""The registry: what a name means, who refers to whom, and one hash of the meaning."""

from __future__ import annotations

from typing import Any

import pytest

from byodpp.definitions import FieldDefinition
from byodpp.manifest import read_manifest
from byodpp.registry import Registry


def service(version: str, *resources: dict[str, Any]) -> dict[str, Any]:
    return {"name": "catalogue", "version": version, "resources": list(resources)}


CATEGORIES = {"name": "Categories", "fields": {"name": {"type": "string"}}}
PRODUCTS = {"name": "Products", "fields": {"categoryId": {"references": "Categories"}}}


@pytest.fixture
def registry() -> Registry:
    return read_manifest(
        [service("v1", CATEGORIES, PRODUCTS), service("v2", PRODUCTS), service("v10", CATEGORIES)]
    )


def test_resources_come_in_declared_order_and_parts_after_them(registry: Registry) -> None:
    ids = [resource.id for resource in registry]
    assert ids[:4] == [("v1", "Categories"), ("v1", "Products"), ("v2", "Products"), ("v10", "Categories")]
    assert {name for _, name in ids[4:]} == {
        "ApiKeys", "AuditLogs", "Grants", "Policies", "Revocations", "Roles", "Secrets",
        "TenantClasses", "Tenants", "UserRoles", "Users",
    }  # fmt: skip
    assert not any(resource.routed for resource in list(registry)[4:])


def test_versions_are_ordered_by_number(registry: Registry) -> None:
    assert registry.versions == ("v1", "v2", "v10")


def test_a_name_that_a_version_does_not_declare_means_the_nearest_lower_versions(registry: Registry) -> None:
    assert registry.get("Categories", "v2").version == "v1"
    assert registry.get("Products", "v10").version == "v2"
    assert registry.get("Tenants", "v2").part == "tenancy"
    assert ("v2", "Categories") not in registry


def test_an_unknown_name_is_a_key_error_or_nothing(registry: Registry) -> None:
    assert registry.find("Nothing") is None
    with pytest.raises(KeyError, match="no resource 'Nothing' in v1"):
        registry.get("Nothing")


def test_references_to_a_table_are_found_in_every_version(registry: Registry) -> None:
    found = registry.referencing(registry.get("Categories"))
    assert [(resource.id, field.name) for resource, field in found] == [
        (("v1", "Products"), "categoryId"),
        (("v2", "Products"), "categoryId"),
    ]
    assert registry.referencing(registry.get("Products")) == ()


def test_a_relation_leads_to_its_target(registry: Registry) -> None:
    products = registry.get("Products", "v2")
    assert registry.target(products, products.relations["category"]).id == ("v1", "Categories")


def test_nothing_of_a_registry_can_be_changed(registry: Registry) -> None:
    with pytest.raises(TypeError):
        registry.resources[("v1", "X")] = registry.get("Products")  # type: ignore[index]
    with pytest.raises(TypeError):
        registry.get("Products").fields["x"] = registry.get("Products").fields["id"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        registry.get("Products").fields["id"].name = "x"  # type: ignore[misc]


def fingerprint(**field: Any) -> str:
    return read_manifest(
        {"resources": [{"name": "A", "fields": {"x": {"type": "string"} | field}}]}
    ).fingerprint


def test_the_fingerprint_is_of_the_meaning_alone() -> None:
    assert fingerprint() == fingerprint(description="prose", title="X", examples=["a"])
    assert fingerprint() == fingerprint(required=False)
    changes: list[dict[str, Any]] = [
        {"required": True},
        {"maxLength": 3},
        {"default": "a"},
        {"enum": ["a"]},
        {"unique": True},
    ]
    assert len({fingerprint(), *(fingerprint(**change) for change in changes)}) == len(changes) + 1


def test_the_fingerprint_does_not_depend_on_the_outer_shape() -> None:
    nested = read_manifest([{"name": "application", "resources": [CATEGORIES]}])
    assert nested.fingerprint == read_manifest({"resources": [CATEGORIES]}).fingerprint


def test_every_field_knows_where_it_is_written(registry: Registry) -> None:
    field: FieldDefinition = registry.get("Products").fields["categoryId"]
    assert field.path == "$[0].resources[1].fields.categoryId"
