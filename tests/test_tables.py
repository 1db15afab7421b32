"""The registry as tables: keys, references, unique indexes, names, and versions that share a table."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.schema import CreateTable

from byodpp.exceptions import ManifestError
from byodpp.manifest import read_manifest
from byodpp.registry import Registry
from byodpp.sql_text import MAX_NAME_BYTES, bounded_name, literal, quote
from byodpp.tables import Tables
from tests.computing import computing


def registry_of(*resources: dict[str, Any], version: str = "v1") -> Registry:
    return read_manifest({"services": [{"name": "Things", "version": version, "resources": list(resources)}]})


def built(*resources: dict[str, Any]) -> tuple[Registry, Tables]:
    registry = registry_of(*resources)
    return registry, Tables.build(registry)


def table_of(*resources: dict[str, Any], name: str | None = None) -> sa.Table:
    registry, tables = built(*resources)
    found: sa.Table = tables[registry.get(name or resources[0]["name"])]
    return found


def key_of(table: sa.Table) -> list[str]:
    return [column.name for column in table.primary_key]


def indexes_of(table: sa.Table, *, unique: bool) -> set[tuple[str, ...]]:
    return {
        tuple(column.name for column in index.columns) for index in table.indexes if index.unique is unique
    }


def references_of(table: sa.Table) -> dict[tuple[str, ...], tuple[str, list[str], str | None]]:
    return {
        tuple(element.parent.name for element in key.elements): (
            key.referred_table.name,
            [element.column.name for element in key.elements],
            key.ondelete,
        )
        for key in table.foreign_key_constraints
    }


CATEGORIES = {"name": "Categories", "fields": {"name": {"type": "string", "required": True}}}


def test_the_key_of_a_tenants_row_begins_with_the_tenant() -> None:
    assert key_of(table_of(CATEGORIES)) == ["tenant_id", "id"]
    assert key_of(table_of(CATEGORIES | {"scope": "user"})) == ["tenant_id", "id"]


@pytest.mark.parametrize("scope", ["shared", "library"])
def test_the_key_of_common_rows_is_the_id(scope: str) -> None:
    table = table_of(CATEGORIES | {"scope": scope})
    assert key_of(table) == ["id"]
    assert ("tenant_id" in table.c) is (scope == "library")


def test_ids_are_identities_unless_python_makes_them() -> None:
    assert table_of(CATEGORIES).c.id.identity is not None
    table = table_of(CATEGORIES | {"id": "uuid7"})
    assert table.c.id.identity is None
    assert isinstance(table.c.id.type, sa.Uuid)


def test_implied_columns_fill_themselves() -> None:
    table = table_of(CATEGORIES | {"versioned": True, "softDelete": True})
    assert {"created_at", "updated_at", "version", "deleted_at"} <= set(table.c.keys())
    assert table.c.created_at.server_default is not None
    assert not table.c.version.nullable
    assert table.c.deleted_at.nullable


@pytest.mark.parametrize(
    ("on_delete", "action"),
    [("restrict", None), ("cascade", "CASCADE"), ("setNull", 'SET NULL ("category_id")')],
)
def test_a_reference_inside_a_tenant_carries_the_tenant(on_delete: str, action: str | None) -> None:
    products = {
        "name": "Products",
        "fields": {"categoryId": {"references": "Categories", "onDelete": on_delete}},
    }
    table = table_of(CATEGORIES, products, name="Products")
    wanted = ("categories", ["tenant_id", "id"], action)
    assert references_of(table) == {("tenant_id", "category_id"): wanted}
    assert ("tenant_id", "category_id", "id") in indexes_of(table, unique=False)


def test_a_reference_to_common_rows_is_plain_and_takes_their_type() -> None:
    products = {"name": "Products", "fields": {"categoryId": {"references": "Categories"}}}
    table = table_of(CATEGORIES | {"scope": "shared", "id": "ulid"}, products, name="Products")
    assert references_of(table) == {("category_id",): ("categories", ["id"], None)}
    assert repr(table.c.category_id.type) == repr(sa.String(26, collation="C"))
    assert ("category_id", "tenant_id", "id") in indexes_of(table, unique=False)


def test_references_may_go_round_in_circles() -> None:
    leaf = {"name": "Leaves", "fields": {"treeId": {"references": "Trees"}}}
    tree = {
        "name": "Trees",
        "fields": {"leafId": {"references": "Leaves"}, "parentId": {"references": "Trees"}},
    }
    table = table_of(leaf, tree, name="Trees")
    assert len(references_of(table)) == 2


def test_unique_counts_within_the_scope_among_live_rows() -> None:
    fields = {"name": {"type": "string", "unique": True}}
    tenant = table_of({"name": "Things", "fields": fields})
    assert indexes_of(tenant, unique=True) == {("tenant_id", "name")}
    user = table_of({"name": "Things", "fields": fields, "scope": "user"})
    assert indexes_of(user, unique=True) == {("tenant_id", "owner_id", "name")}
    soft = table_of({"name": "Things", "fields": fields, "softDelete": True})
    (index,) = (index for index in soft.indexes if index.unique)
    assert index.dialect_options["postgresql"]["where"].name == "deleted_at IS NULL"


@pytest.mark.parametrize(("within", "live"), [("platform", True), ("ever", False)])
def test_unique_can_count_over_all_tenants(within: str, live: bool) -> None:
    thing = {
        "name": "Things",
        "softDelete": True,
        "fields": {"domain": {"type": "string", "unique": True, "within": within}},
    }
    (index,) = (index for index in table_of(thing).indexes if index.unique)
    assert [column.name for column in index.columns] == ["domain"]
    assert (index.dialect_options["postgresql"]["where"] is not None) is live


def test_names_are_bounded_and_change_with_their_meaning() -> None:
    name = bounded_name(("täble" * 40, "column"), "fkey", "a")
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert name == bounded_name(("täble" * 40, "column"), "fkey", "a")
    assert name != bounded_name(("täble" * 40, "column"), "fkey", "b")


def test_a_constraint_is_found_by_its_name_and_tells_its_fields() -> None:
    products = {
        "name": "Products",
        "fields": {"theName": {"type": "string", "column": "nm"}, "categoryId": {"references": "Categories"}},
        "unique": [["categoryId", "theName"]],
    }
    registry, tables = built(CATEGORIES, products)
    table = tables[registry.get("Products")]
    (unique,) = (index for index in table.indexes if index.unique)
    use = tables.constraint(str(unique.name))
    assert use is not None
    assert (use.kind, use.fields, use.resource.name) == ("unique", ("categoryId", "theName"), "Products")
    (reference,) = table.foreign_key_constraints
    use = tables.constraint(str(reference.name))
    assert use is not None
    assert (use.kind, use.fields, use.target) == ("reference", ("categoryId",), "categories")
    assert tables.constraint("of_nobody") is None
    assert tables.constraint(None) is None


def test_any_word_of_sql_is_a_column() -> None:
    words = ["order", "select", "table", "userName", "end"]
    fields = {word: {"type": "string"} for word in words}
    dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
    sql = str(CreateTable(table_of({"name": "Things", "fields": fields})).compile(dialect=dialect))
    assert all(quote(word) in sql for word in ["order", "select", "table", "user_name", "end"])
    assert quote('a"b') == '"a""b"'


@pytest.mark.parametrize(
    ("value", "sql"),
    [(True, "true"), (-5, "'-5'"), (5, "5"), ("it's", "'it''s'"), ({"a": "x:y"}, '\'{"a": "x:y"}\'')],
)
def test_a_default_is_an_sql_literal(value: Any, sql: str) -> None:
    assert literal(value, array=False) == sql


def test_members_of_an_array_literal_keep_every_character() -> None:
    values = ["line\nbreak", 'a "quote"', "back\\slash", "it's", "caf\u00e9", None]
    expected = """'{"line\nbreak","a \\"quote\\"","back\\\\slash","it''s","caf\u00e9",NULL}'"""
    assert literal(values, array=True) == expected


def versions(first: dict[str, Any], second: dict[str, Any]) -> Registry:
    return read_manifest(
        {
            "services": [
                {"name": "Things", "version": "v1", "resources": [first]},
                {"name": "Things", "version": "v2", "resources": [second]},
            ]
        }
    )


def test_versions_share_a_table_that_has_the_columns_of_both() -> None:
    first = {
        "name": "Things",
        "fields": {"name": {"type": "string", "required": True}, "old": {"type": "text"}},
    }
    second = {
        "name": "Things",
        "fields": {"name": {"type": "string", "required": True}, "new": {"type": "text", "required": True}},
    }
    registry = versions(first, second)
    tables = Tables.build(registry)
    table = tables[registry.resources["v1", "Things"]]
    assert table is tables[registry.resources["v2", "Things"]]
    assert {"name", "old", "new"} <= set(table.c.keys())
    assert not table.c.name.nullable
    assert table.c.new.nullable, "v1 does not know the column and inserts rows without it"


def test_versions_that_contradict_each_other_are_refused_with_both_places() -> None:
    first = {"name": "Things", "fields": {"size": {"type": "string"}}}
    second = {"name": "Things", "fields": {"size": {"type": "integer"}}}
    with pytest.raises(ManifestError) as caught:
        Tables.build(versions(first, second))
    assert "size" in str(caught.value)


def test_an_enumeration_is_checked_in_the_database() -> None:
    table = table_of({"name": "Things", "fields": {"kind": {"type": "string", "enum": ["a", "b'c"]}}})
    (check,) = (rule for rule in table.constraints if isinstance(rule, sa.CheckConstraint))
    assert check.sqltext.name == '"kind" = ANY (\'{"a","b\'\'c"}\'::text[])'


def test_views_are_read_but_not_made() -> None:
    view = {"name": "Sums", "type": "view", "table": "reports.sums", "fields": {"total": {"type": "bigint"}}}
    registry, tables = built(CATEGORIES, view)
    table = tables[registry.get("Sums")]
    assert (table.schema, table.name) == ("reports", "sums")
    assert "reports.sums" not in tables.metadata.tables
    assert all(stored.table is not table for stored in tables.stored)


def test_the_frameworks_own_tables_are_there() -> None:
    _, tables = built(CATEGORIES)
    for name in ("outbox", "idempotency_keys", "schema_state", "policy_version"):
        assert tables.framework(name).schema == "byodpp"


def test_a_thousand_resources_take_about_a_second() -> None:
    names = [f"Things{number}" for number in range(1000)]
    resources = [
        {
            "name": name,
            "fields": {
                "name": {"type": "string", "unique": True},
                "kind": {"type": "string", "enum": ["a", "b"]},
                "size": {"type": "integer", "index": True},
                "otherId": {"references": names[number - 1]},
            },
        }
        for number, name in enumerate(names)
    ]
    registry = registry_of(*resources)
    with computing() as taken:
        tables = Tables.build(registry)
    assert taken.seconds < 3  # twice the measured time and more, for a busy machine
    assert len(tables.metadata.tables) > 1000
