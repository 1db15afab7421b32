"""Migrations on a real server: what a changed manifest does, and that nothing is lost unasked."""

from __future__ import annotations

import ast
import asyncio
import itertools
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from byodpp.embedded import SUPERUSER, EmbeddedPostgres, RunningServer
from byodpp.exceptions import MigrationError
from byodpp.manifest import read_manifest
from byodpp.migrations import Plan, apply, new, plan, read_revisions, status, synchronise
from byodpp.migrations.catalog import read
from byodpp.migrations.conversion import is_widening, keeps_values, loss
from byodpp.migrations.snapshot import Snapshot
from byodpp.registry import Registry
from byodpp.tables.roles import APP, OWNER, provision_database
from tests.patience import in_turns

Resource = dict[str, Any]

CATEGORIES: Resource = {"name": "Categories", "fields": {"name": {"type": "string", "required": True}}}
PRODUCTS: Resource = {
    "name": "Products",
    "fields": {
        "name": {"type": "string", "maxLength": 50, "required": True},
        "kind": {"type": "string", "enum": ["a:b", "it's"], "default": "a:b"},
        "price": {"type": "decimal", "precision": 8, "scale": 2, "default": 0.5},
        "amount": {"type": "integer", "default": -5},
        "since": {"type": "datetime", "default": "2024-01-01T01:00:00+01:00"},
        "metadata": {"type": "json", "default": {"b": [1], "a": "x:y %s"}},
        "tags": {"type": "array", "items": {"type": "string"}, "default": ["x"]},
        "isOpen": {"type": "boolean", "default": False},
        "categoryId": {"references": "Categories", "onDelete": "setNull"},
    },
    "unique": [["categoryId", "name"]],
    "softDelete": True,
    "access": {"read": {"roles": ["public"], "filter": {"kind": "it's"}}},
}
NAMES = itertools.count()
UUID = "018f4e2a-7b1c-7000-8000-000000000001"


def registry_of(*resources: Resource) -> Registry:
    return read_manifest({"services": [{"name": "Shop", "resources": list(resources)}]})


def changed(
    resource: Resource, *, without: tuple[str, ...] = (), keys: Resource | None = None, **fields: Any
) -> Resource:
    """Return a resource with other fields, without some, and with other keys beside `fields`."""
    copy = deepcopy(resource) | (keys or {})
    copy["fields"] = {name: spec for name, spec in copy["fields"].items() if name not in without} | fields
    return copy


class Place:
    """One fresh database and one application folder."""

    def __init__(self, server: RunningServer, name: str, app_dir: Path) -> None:
        self.server, self.name, self.app_dir = server, name, app_dir
        self.uri = server.uri(OWNER, name)

    async def migrate(self, *resources: Resource, **options: Any) -> Plan:
        found = await plan(registry_of(*resources), self.uri)
        new(self.app_dir, found, "a change")
        await apply(self.app_dir, self.uri, **options)
        return found

    async def execute(self, sql: str, role: str = SUPERUSER) -> list[Any]:
        connection = await asyncpg.connect(self.server.uri(role, self.name))
        try:
            return (
                list(await connection.fetch(sql))
                if sql.startswith("select")
                else [await connection.execute(sql)]
            )
        finally:
            await connection.close()

    async def snapshot(self) -> Snapshot:
        connection = await asyncpg.connect(self.uri)
        try:
            return await read(connection)
        finally:
            await connection.close()


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    async with EmbeddedPostgres(tmp_path_factory.mktemp("migrations"), durable=False).running() as running:
        yield running


@pytest.fixture
async def make_place(server: RunningServer, tmp_path: Path) -> Callable[[], Any]:
    async def make() -> Place:
        name = f"place{next(NAMES)}"
        admin = await asyncpg.connect(server.uri(SUPERUSER, "postgres"))
        await admin.execute(f"create database {name}")
        await admin.close()
        connection = await asyncpg.connect(server.uri(SUPERUSER, name))
        await provision_database(connection)
        await connection.close()
        return Place(server, name, tmp_path / name)

    return make


@pytest.fixture
async def place(make_place: Callable[[], Any]) -> Place:
    made: Place = await make_place()
    return made


def differences(one: Snapshot, other: Snapshot) -> list[str]:
    """Return what two databases hold differently, in a form that fits a failure's report."""
    found = [
        f"{what}"
        for what in ("functions", "collations", "usage")
        if getattr(one, what) != getattr(other, what)
    ]
    for key in sorted({*one.tables, *other.tables}):
        left, right = one.tables.get(key), other.tables.get(key)
        if left is None or right is None:
            found.append(f"{key}: only in one")
            continue
        for what in ("columns", "constraints", "indexes", "policies"):
            ours, theirs = getattr(left, what), getattr(right, what)
            for name in sorted({*ours, *theirs}):
                if ours.get(name) != theirs.get(name):
                    found.append(f"{key}.{what}.{name}: {ours.get(name)} / {theirs.get(name)}")
        if (left.grants, left.secured) != (right.grants, right.secured):
            found.append(f"{key}: rights")
    return found


def words(found: Plan, *, kind: str | None = None) -> str:
    return "\n".join(step.description for step in found if kind in (None, step.kind))


# --- equality -------------------------------------------------------------------------------


async def test_after_a_migration_there_is_nothing_left_to_do(place: Place) -> None:
    found = await place.migrate(CATEGORIES, PRODUCTS)
    assert not found.destructive
    assert all(step.kind == "expand" for step in found)
    again = await plan(registry_of(CATEGORIES, PRODUCTS), place.uri)
    assert again.sql == ""
    with pytest.raises(MigrationError, match="nothing to migrate"):
        new(place.app_dir, again, "nothing")


async def test_a_migrated_database_equals_a_fresh_one(make_place: Callable[[], Any]) -> None:
    stages = [
        [CATEGORIES],
        [CATEGORIES, PRODUCTS],
        [
            changed(CATEGORIES, code={"type": "string", "unique": True}, keys={"versioned": True}),
            changed(
                PRODUCTS,
                without=("amount", "name"),
                title={"type": "string", "maxLength": 80, "required": True, "renamedFrom": "name"},
                kind={"type": "string", "enum": ["a:b", "it's", "new"], "default": "new"},
                price={"type": "decimal", "precision": 12, "scale": 3, "default": 0.5},
                weight={"type": "float", "default": 1.5, "required": True, "index": True},
                keys={
                    "unique": [["title"]],
                    "access": {"read": {"roles": ["public"], "filter": {"kind": {"in": ["new", "it's"]}}}},
                },
            ),
            {"name": "Colours", "scope": "library", "id": "uuid7", "fields": {"name": {"type": "string"}}},
        ],
        [CATEGORIES, {"name": "Colours", "scope": "library", "id": "uuid7", "fields": {}}],
    ]
    travelled = await make_place()
    for stage in stages:
        await travelled.migrate(*stage, allow_destructive=True)
        fresh = await make_place()
        await synchronise(registry_of(*stage), fresh.uri)
        assert differences(await travelled.snapshot(), await fresh.snapshot()) == []
    replayed = await make_place()
    replayed.app_dir = travelled.app_dir
    await apply(replayed.app_dir, replayed.uri)  # a fresh database has nothing to lose: no flag
    assert differences(await replayed.snapshot(), await travelled.snapshot()) == []


async def test_tables_and_indexes_of_others_are_left_alone(place: Place) -> None:
    await place.migrate(CATEGORIES)
    await place.execute("create table theirs (id int); create index by_hand on categories (created_at)")
    assert not await plan(registry_of(CATEGORIES), place.uri)


async def test_a_table_of_others_with_a_column_of_tenants_hinders_no_revision(place: Place) -> None:
    await place.execute("create table theirs (tenant_id bigint); create table ours (tenant_id bigint)")
    await place.execute("alter table ours owner to byodpp_owner")
    await place.migrate(CATEGORIES)
    known = "select tablename from pg_stats where attname = 'tenant_id' and schemaname = 'public'"
    names = {row["tablename"] for row in await place.execute(known)}
    assert {"categories", "ours"} <= names
    assert "theirs" not in names


async def test_indexes_of_words_and_of_members_come_and_go_with_what_they_serve(place: Place) -> None:
    wanted = changed(
        CATEGORIES,
        keys={"search": ["name", "text"]},
        text={"type": "text"},
        data={"type": "json", "index": True},
    )
    await place.migrate(CATEGORIES)
    found = await place.migrate(wanted)
    assert "_search_" in words(found) and "_members_" in words(found)
    assert not await plan(registry_of(wanted), place.uri)
    await place.execute(
        "insert into categories (tenant_id, name, data)"
        " select 1, 'a', jsonb_agg(md5(i::text)) from generate_series(1, 5000) i"
    )
    narrower = changed(wanted, keys={"search": ["name"]})
    changes = words(await plan(registry_of(narrower), place.uri)).splitlines()
    assert any("add index categories_name_search_" in line for line in changes)
    assert any("drop index categories_name_text_search_" in line for line in changes)


# --- columns --------------------------------------------------------------------------------


async def test_a_new_required_field_with_a_default_fills_the_rows(place: Place) -> None:
    await place.migrate(CATEGORIES)
    await place.execute("insert into categories (tenant_id, name) values (1, 'a')")
    found = await place.migrate(changed(CATEGORIES, rank={"type": "integer", "required": True, "default": 7}))
    assert {step.kind for step in found} == {"expand"}
    assert (await place.execute("select rank from categories"))[0]["rank"] == 7


async def test_a_new_required_field_without_a_default_is_demanded_in_a_second_revision(place: Place) -> None:
    await place.migrate(CATEGORIES)
    await place.execute("insert into categories (tenant_id, name) values (1, 'a')")
    wanted = changed(CATEGORIES, code={"type": "string", "required": True})
    found = await plan(registry_of(wanted), place.uri)
    paths = new(place.app_dir, found, "Add code")
    assert [path.name for path in paths] == ["0002_add_code_expand.py", "0003_add_code_contract.py"]
    with pytest.raises(MigrationError, match="code"):
        await apply(place.app_dir, place.uri)
    assert (await place.execute("select code from categories"))[0]["code"] is None  # the expand is done
    await place.execute("update categories set code = 'x'")
    (done,) = await apply(place.app_dir, place.uri)
    assert done.kind == "contract" and not done.destructive


async def test_a_removed_field_is_first_optional_then_lost_when_that_is_allowed(place: Place) -> None:
    await place.migrate(CATEGORIES)
    found = await plan(registry_of(changed(CATEGORIES, without=("name",))), place.uri)
    assert "may be null" in words(found, kind="expand")
    assert "drop column name" in words(found, kind="contract")
    new(place.app_dir, found, "Drop name")
    (done,) = await apply(place.app_dir, place.uri)
    assert done.kind == "expand"
    with pytest.raises(MigrationError, match="--allow-destructive"):
        await apply(place.app_dir, place.uri)
    await apply(place.app_dir, place.uri, allow_destructive=True)


async def test_a_renamed_field_keeps_its_values(place: Place) -> None:
    await place.migrate(PRODUCTS, CATEGORIES)
    await place.execute("insert into products (tenant_id, name) values (1, 'a')")
    renamed = changed(PRODUCTS, without=("name",), title=PRODUCTS["fields"]["name"] | {"renamedFrom": "name"})
    found = await place.migrate(renamed | {"unique": [["categoryId", "title"]]}, CATEGORIES)
    assert not found.destructive
    assert not any(step.may_wait for step in found), (
        "a program that does not know the name cannot run beside it"
    )
    assert (await place.execute("select title from products"))[0]["title"] == "a"


async def test_a_former_name_that_leads_to_no_column_is_told(place: Place) -> None:
    """The field had a column of another name: its values would go without a word."""
    before = changed(PRODUCTS, label={"type": "string", "column": "old_label"})
    await place.migrate(before, CATEGORIES)
    after = changed(PRODUCTS, title={"type": "string", "renamedFrom": "label"})
    found = await plan(registry_of(after, CATEGORIES), place.uri)
    assert "add column title (`renamedFrom`: there is no column label, so nothing is renamed" in words(found)
    assert found.destructive
    kept = changed(PRODUCTS, title={"type": "string", "column": "old_label"})
    assert not list(await plan(registry_of(kept, CATEGORIES), place.uri))


async def test_a_wider_type_is_harmless_and_a_narrower_one_is_not(place: Place) -> None:
    await place.migrate(PRODUCTS, CATEGORIES)
    await place.execute("insert into products (tenant_id, name, kind) values (1, 'a', 'it''s')")
    wider = changed(
        PRODUCTS, name={"type": "text", "required": True}, amount={"type": "bigint", "default": -5}
    )
    found = await place.migrate(wider, CATEGORIES)
    assert not found.destructive and {step.kind for step in found} == {"expand"}
    narrower = changed(wider, amount={"type": "string", "maxLength": 2, "default": "x"})
    found = await place.migrate(narrower, CATEGORIES, allow_destructive=True)
    assert found.destructive
    assert (await place.execute("select amount from products"))[0]["amount"] == "-5"


async def test_rows_given_to_others_wait_for_no_program_of_the_former_manifest(place: Place) -> None:
    await place.migrate(CATEGORIES)
    await place.execute("insert into categories (tenant_id, name) values (1, 'mine')")
    found = await plan(registry_of(CATEGORIES | {"scope": "shared"}), place.uri)
    of_table = [step for step in found if step.table == "categories"]
    assert {step.kind for step in of_table} == {"contract"}
    assert not any(step.may_wait for step in of_table)
    assert found.destructive, "whose rows they were is forgotten"
    new(place.app_dir, found, "Share")
    with pytest.raises(MigrationError, match="--allow-destructive"):
        await apply(place.app_dir, place.uri)
    as_other = "select set_config('byodpp.tenant', '2', false), (select count(*) from categories) as seen"
    assert (await place.execute(as_other, role=APP))[0]["seen"] == 0
    await apply(place.app_dir, place.uri, allow_destructive=True)
    assert (await place.execute(as_other, role=APP))[0]["seen"] == 1


async def test_rows_of_a_tenant_become_a_users_with_their_owners_or_not_at_all(place: Place) -> None:
    await place.migrate(CATEGORIES)
    await place.execute("insert into categories (tenant_id, name) values (1, 'mine')")
    wanted = registry_of(CATEGORIES | {"scope": "user"})
    (path,) = new(place.app_dir, await plan(wanted, place.uri), "Own")
    with pytest.raises(MigrationError, match="give them one"):
        await apply(place.app_dir, place.uri)
    seen = "select set_config('byodpp.tenant', '1', false), (select count(*) from categories) as seen"
    assert (await place.execute(seen, role=APP))[0]["seen"] == 1, "the former program goes on"
    owner = 'op.execute("update categories set owner_id = 7")'
    bypass = 'op.execute("alter table categories {} row level security")'
    fill = "\n    ".join([bypass.format("no force"), owner, bypass.format("force"), ""])
    sql = 'op.execute("""ALTER TABLE "categories" ALTER COLUMN "owner_id" SET NOT NULL""")'
    path.write_text(path.read_text().replace(sql, fill + sql))
    await apply(place.app_dir, place.uri)
    assert not await plan(wanted, place.uri)


async def test_a_key_of_another_type_is_possible_while_there_are_no_rows(place: Place) -> None:
    products = changed(PRODUCTS, without=("kind",), keys={"access": {}})
    await place.migrate(products, CATEGORIES)
    wanted = (products | {"id": "ulid"}, CATEGORIES | {"id": "uuid7"})
    await place.migrate(*wanted, allow_destructive=True)
    assert not await plan(registry_of(*wanted), place.uri)
    await place.execute("insert into categories (tenant_id, id, name) values (1, gen_random_uuid(), 'a')")
    back = (products, CATEGORIES)
    with pytest.raises(MigrationError, match="22P02") as refused:
        await place.migrate(*back, allow_destructive=True)
    assert "The revision was undone and nothing is lost" in str(refused.value)


@pytest.mark.parametrize(
    ("old", "value", "new_type", "expected"),
    [
        ({"type": "integer"}, "7", {"type": "json"}, "7"),
        ({"type": "string"}, "'it''s'", {"type": "json"}, '"it\'s"'),
        ({"type": "json"}, "'\"a\"'", {"type": "string"}, "a"),
        ({"type": "uuid"}, f"'{UUID}'", {"type": "text"}, UUID),
        ({"type": "text"}, "'2024-02-29'", {"type": "date"}, "2024-02-29"),
        ({"type": "boolean"}, "true", {"type": "string"}, "true"),
        ({"type": "decimal", "precision": 5, "scale": 2}, "1.50", {"type": "float"}, "1.5"),
        ({"type": "datetime"}, "'2024-02-29T01:00+01'", {"type": "json"}, '"2024-02-29T00:00:00.000000Z"'),
        ({"type": "datetime"}, "'2024-02-29T01:00+01'", {"type": "text"}, "2024-02-29T00:00:00.000000Z"),
        ({"type": "datetime"}, "null", {"type": "array", "items": {"type": "datetime"}}, None),
        ({"type": "time"}, "'10:00'", {"type": "array", "items": {"type": "time"}}, '["10:00:00.000000"]'),
        ({"type": "string", "maxLength": 9}, "'a:b \"c'", {"type": "string", "maxLength": 6}, 'a:b "c'),
    ],
)  # fmt: skip
async def test_values_become_those_of_another_type(
    place: Place, old: Resource, value: str, new_type: Resource, expected: str
) -> None:
    await place.migrate(changed(CATEGORIES, thing=old))
    await place.execute(f"insert into categories (tenant_id, name, thing) values (1, 'a', {value})")
    await place.migrate(changed(CATEGORIES, thing=new_type), allow_destructive=True)
    found = await place.execute("select thing::text from categories")
    assert found[0]["thing"] == expected


async def test_a_text_that_is_too_long_for_its_new_length_is_refused_and_not_cut(place: Place) -> None:
    await place.migrate(changed(CATEGORIES, code={"type": "string", "maxLength": 10}, no={"type": "bigint"}))
    await place.execute(
        "insert into categories (tenant_id, name, code, no) values (1, 'a', 'ABCDEF', 123456)"
    )
    narrower = changed(CATEGORIES, code={"type": "string", "maxLength": 5}, no={"type": "bigint"})
    with pytest.raises(MigrationError, match="Rows hold longer values: shorten them"):
        await place.migrate(narrower)
    text = changed(CATEGORIES, code={"type": "string"}, no={"type": "string", "maxLength": 5})
    for revision in sorted((place.app_dir / "migrations").glob("*_contract.py")):
        revision.unlink()
    with pytest.raises(MigrationError, match="or delete its file"):
        await place.migrate(text, allow_destructive=True)
    assert (await place.execute("select code, no from categories"))[0]["code"] == "ABCDEF"


@pytest.mark.parametrize("old", [{"type": "string", "maxLength": 10}, {"type": "text"}])
async def test_spaces_at_the_end_of_a_text_are_not_cut_either(place: Place, old: Resource) -> None:
    await place.migrate(changed(CATEGORIES, code=old))
    await place.execute("insert into categories (tenant_id, name, code) values (1, 'a', 'ABCDE  ')")
    with pytest.raises(MigrationError, match="Rows hold longer values: shorten them"):
        await place.migrate(changed(CATEGORIES, code={"type": "string", "maxLength": 5}))
    assert (await place.execute("select code from categories"))[0]["code"] == "ABCDE  "
    await place.execute("update categories set code = 'ABC  '")
    await apply(place.app_dir, place.uri)
    assert (await place.execute("select code from categories"))[0]["code"] == "ABC  "


async def test_a_shorter_text_may_wait_and_keeps_its_default(place: Place) -> None:
    text = {"type": "string", "maxLength": 10, "default": "x"}
    await place.migrate(changed(CATEGORIES, code=text))
    shorter = changed(CATEGORIES, code=text | {"maxLength": 5, "default": "y"})
    found = await plan(registry_of(shorter), place.uri)
    assert [(step.kind, step.may_wait, step.destructive) for step in found][-1] == ("contract", True, False)
    await place.migrate(shorter)
    assert not list(await plan(registry_of(shorter), place.uri))
    await place.execute("insert into categories (tenant_id, name) values (1, 'a')")
    assert (await place.execute("select code from categories"))[0]["code"] == "y"


async def test_a_shorter_text_that_a_policy_holds_waits_for_nobody(place: Place) -> None:
    public = {"read": {"roles": ["public"], "filter": {"code": "x"}}}
    text = {"type": "string", "maxLength": 10}
    await place.migrate(changed(CATEGORIES, code=text, keys={"access": public}))
    shorter = changed(CATEGORIES, code=text | {"maxLength": 5}, keys={"access": public})
    found = await place.migrate(shorter)
    assert {(step.kind, step.may_wait) for step in found} == {("contract", False)}
    assert not list(await plan(registry_of(shorter), place.uri))


@pytest.mark.parametrize(
    ("old", "new_type", "told", "kept"),
    [
        ("character varying(6)", "character varying(5)", "fails while a row holds a longer text", True),
        ("text", "character varying(5)", "fails while a row holds a longer text", True),
        ("character varying(5)", "text", "", True),
        ("numeric(8,3)", "numeric(8,1)", "rounded", False),
        ("double precision", "integer", "rounded", False),
        ("numeric", "numeric(8,1)", "rounded", False),
        ("integer", "numeric(8,1)", "", False),
        ("bigint", "character varying(9)", "", False),
        ("timestamp with time zone", "date", "the time of day is lost", False),
        ("text", "bytea", "only the application", False),
        ("jsonb", "json", "", True),
    ],
)
def test_what_a_change_of_type_loses_is_said(old: str, new_type: str, told: str, kept: bool) -> None:
    assert told in loss(old, new_type) if told else not loss(old, new_type)
    assert keeps_values(old, new_type) is kept


async def test_what_is_refused_leaves_the_former_rule_in_force(place: Place) -> None:
    kinds = {"type": "string", "enum": ["a", "b", "c"]}
    await place.migrate(changed(CATEGORIES, kind=kinds, code={"type": "string", "unique": True}))
    for tenant in (1, 2):
        await place.execute(
            f"insert into categories (tenant_id, name, kind, code) values ({tenant}, 'a', 'c', 'x')"
        )
    stricter = changed(
        CATEGORIES, kind=kinds | {"enum": ["a", "b"]}, code={"type": "string", "unique": "platform"}
    )
    with pytest.raises(MigrationError):
        await place.migrate(stricter)
    former = changed(CATEGORIES, kind=kinds, code={"type": "string", "unique": True})
    assert not list(await plan(registry_of(former), place.uri))


async def test_a_reference_that_deletes_otherwise_holds_all_the_time(place: Place) -> None:
    await place.migrate(PRODUCTS, CATEGORIES)
    other = changed(
        PRODUCTS, without=("amount",), categoryId={"references": "Categories", "onDelete": "cascade"}
    )
    with pytest.raises(MigrationError, match="loses data"):
        await place.migrate(other, CATEGORIES)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await place.execute("insert into products (tenant_id, name, category_id) values (1, 'a', 7)")
    await apply(place.app_dir, place.uri, allow_destructive=True)
    assert not list(await plan(registry_of(other, CATEGORIES), place.uri))


async def test_rows_that_others_will_see_are_told(place: Place) -> None:
    await place.migrate(changed(CATEGORIES, keys={"scope": "user"}))
    told = words(await plan(registry_of(CATEGORIES), place.uri))
    assert "drop column owner_id and its values: rows of every user become their tenant's" in told
    told = words(await plan(registry_of(changed(CATEGORIES, keys={"scope": "shared"})), place.uri))
    assert "tenant_id and its values: ROWS OF EVERY TENANT BECOME READABLE BY ALL" in told


async def test_a_looser_rule_comes_at_once_and_the_former_one_goes(place: Place) -> None:
    code = {"type": "string", "unique": "platform"}
    await place.migrate(changed(CATEGORIES, code=code))
    looser = (
        changed(CATEGORIES, code=code | {"unique": True}),
        changed(CATEGORIES, code=code, keys={"softDelete": True}),
    )
    for one in looser:
        steps = words(await plan(registry_of(one), place.uri), kind="expand")
        assert "drop index categories_code_key" in steps


async def test_another_key_is_a_change_that_no_program_survives(place: Place) -> None:
    await place.migrate(changed(CATEGORIES))
    found = await place.migrate(changed(CATEGORIES, keys={"scope": "library"}))
    assert {step.kind for step in found} == {"contract"} and not any(step.may_wait for step in found)
    assert not list(await plan(registry_of(changed(CATEGORIES, keys={"scope": "library"})), place.uri))


async def test_a_resource_of_another_name_is_told_to_have_no_rows(place: Place) -> None:
    await place.migrate(changed(CATEGORIES, code={"type": "string"}))
    renamed = changed(CATEGORIES, code={"type": "string"}, keys={"name": "Groups"})
    told = words(await plan(registry_of(renamed), place.uri))
    assert (
        'Create table groups (without rows: `"table": "categories"` would keep those of categories)' in told
    )
    kept = renamed | {"table": "categories"}
    assert not list(await plan(registry_of(kept), place.uri))
    other = {"name": "Others", "fields": {"x": {"type": "integer"}, "name": {"type": "string"}}}
    assert "without rows" not in words(await plan(registry_of(other), place.uri))


async def test_deleted_rows_that_come_back_are_told(place: Place) -> None:
    await place.migrate(changed(CATEGORIES, keys={"softDelete": True}))
    told = words(await plan(registry_of(CATEGORIES), place.uri))
    assert "drop column deleted_at and its values: rows that were deleted are there again" in told


async def test_a_value_that_becomes_an_array_is_its_only_item(place: Place) -> None:
    await place.migrate(changed(CATEGORIES, tags={"type": "string"}))
    await place.execute("insert into categories (tenant_id, name, tags) values (1, 'a', 'x'), (1, 'b', null)")
    array = {"type": "array", "items": {"type": "string"}}
    await place.migrate(changed(CATEGORIES, tags=array), allow_destructive=True)
    rows = await place.execute("select tags::text from categories order by name")
    assert [row["tags"] for row in rows] == ['["x"]', None]


async def test_a_database_with_a_revision_that_the_folder_lacks_is_told_what_to_do(place: Place) -> None:
    await place.migrate(CATEGORIES)
    await place.migrate(changed(CATEGORIES, code={"type": "string"}))
    newest = sorted((place.app_dir / "migrations").glob("0*.py"))[-1]
    text = newest.read_text(encoding="utf-8")
    newest.unlink()
    with pytest.raises(MigrationError, match="bring the file back"):
        await place.migrate(changed(CATEGORIES, code={"type": "text"}))
    with pytest.raises(MigrationError, match="bring the file back"):
        await apply(place.app_dir, place.uri)
    newest.write_text(text, encoding="utf-8")
    await place.migrate(changed(CATEGORIES, code={"type": "text"}))


async def test_a_changed_locale_is_told_as_one(place: Place) -> None:
    await place.migrate(CATEGORIES)
    found = await plan(
        registry_of(changed(CATEGORIES, name={"type": "string", "required": True, "locale": "de"})), place.uri
    )
    assert "to character varying(255), ordered by de-x-icu" in words(found)


async def test_the_column_of_a_public_filter_can_change_its_type(place: Place) -> None:
    await place.migrate(PRODUCTS, CATEGORIES)
    wider = changed(
        PRODUCTS, kind={"type": "string", "maxLength": 999, "enum": ["a:b", "it's"], "default": "a:b"}
    )
    await place.migrate(wider, CATEGORIES)
    assert not await plan(registry_of(wider, CATEGORIES), place.uri)


@pytest.mark.parametrize(
    ("old", "new_type", "wide"),
    [
        ("integer", "bigint", True),
        ("bigint", "integer", False),
        ("character varying(5)", "character varying(6)", True),
        ("character varying(6)", "character varying(5)", False),
        ("character varying(6)", "text", True),
        ("text", "character varying(6)", False),
        ("numeric(8,2)", "numeric(9,3)", True),
        ("numeric(8,2)", "numeric(8,3)", False),
        ("numeric(8,2)", "numeric", True),
        ("jsonb", "text", False),
    ],
)
def test_widening_keeps_every_value(old: str, new_type: str, wide: bool) -> None:
    assert is_widening(old, new_type) is wide


async def test_more_words_in_an_enumeration_expand_and_fewer_contract(place: Place) -> None:
    await place.migrate(PRODUCTS, CATEGORIES)
    more = changed(PRODUCTS, kind={"type": "string", "enum": ["a:b", "it's", "c"], "default": "a:b"})
    assert {step.kind for step in await place.migrate(more, CATEGORIES)} == {"expand"}
    found = await plan(registry_of(PRODUCTS, CATEGORIES), place.uri)
    assert "add constraint products_kind_check" in words(found, kind="contract")


async def test_an_enumeration_that_an_older_version_spelled_otherwise_is_only_respelled(place: Place) -> None:
    await place.migrate(PRODUCTS, CATEGORIES)
    (now,) = await place.execute(
        "select conname from pg_constraint where conname like 'products_kind_check_%'"
    )
    await place.execute(f"alter table products drop constraint {now[0]}")
    former = "check (kind in ('a:b', 'it''s'))"
    await place.execute(f"alter table products add constraint products_kind_check_00000000 {former}")
    steps = await place.migrate(PRODUCTS, CATEGORIES)
    assert {step.kind for step in steps} == {"expand"}
    assert not await plan(registry_of(PRODUCTS, CATEGORIES), place.uri)
    with pytest.raises(asyncpg.CheckViolationError):
        await place.execute("insert into products (tenant_id, name, kind) values (1, 'a', 'c')")


# --- keys and policies ------------------------------------------------------------------------


async def test_a_new_reference_is_checked_against_the_rows_of_all_tenants(place: Place) -> None:
    loose = changed(PRODUCTS, categoryId={"type": "bigint", "filterable": True})
    await place.migrate(loose, CATEGORIES)
    await place.execute("insert into products (tenant_id, name, category_id) values (2, 'orphan', 7)")
    found = await plan(registry_of(PRODUCTS, CATEGORIES), place.uri)
    assert "add reference" in words(found, kind="contract")
    new(place.app_dir, found, "Refer")
    with pytest.raises(MigrationError, match="23503"):
        await apply(place.app_dir, place.uri)
    await place.execute("delete from products")
    await apply(place.app_dir, place.uri)
    forced = "select relforcerowsecurity as on from pg_class where relname in ('products', 'categories')"
    assert all(row["on"] for row in await place.execute(forced))


async def test_a_changed_public_filter_is_a_changed_policy(place: Place) -> None:
    await place.migrate(PRODUCTS, CATEGORIES)
    wanted = changed(PRODUCTS, keys={"access": {"read": ["Admin"]}})
    found = await plan(registry_of(wanted, CATEGORIES), place.uri)
    assert "create policy byodpp_select" in words(found)
    assert {step.table for step in found} == {"products"}


@pytest.mark.parametrize(
    "tampering",
    [
        "create policy hole on categories using (true)",
        "do $$ begin execute (select format('alter policy %I on categories using (true)', polname)"
        " from pg_policy where polrelid = 'categories'::regclass and polcmd = 'r'); end $$",
        "alter table categories disable row level security",
        "alter table categories no force row level security",
        "grant truncate on categories to byodpp_app",
        "revoke insert on categories from byodpp_app",
        "create or replace function byodpp.tenant() returns bigint language sql as 'select 1::bigint'",
    ],
)
async def test_what_was_loosened_by_hand_is_noticed_and_repaired(place: Place, tampering: str) -> None:
    registry = registry_of(CATEGORIES)
    await synchronise(registry, place.uri)
    before = await place.snapshot()
    await place.execute(tampering)
    assert await plan(registry, place.uri)
    await synchronise(registry, place.uri)
    assert differences(await place.snapshot(), before) == []


# --- revisions and status ---------------------------------------------------------------------


async def test_a_revision_can_be_read_without_running_it(place: Place) -> None:
    await place.migrate(CATEGORIES, PRODUCTS)
    (revision,) = read_revisions(place.app_dir)
    assert (revision.revision, revision.down_revision, revision.kind) == (
        "0001_a_change_expand",
        None,
        "expand",
    )
    text = revision.path.read_text()
    assert 'op.execute("""CREATE TABLE "products" (' in text
    ast.parse(text)


async def test_two_revisions_that_follow_the_same_one_are_refused(place: Place) -> None:
    await place.migrate(CATEGORIES)
    first = place.app_dir / "migrations" / "0001_a_change_expand.py"
    (first.parent / "0002_other_expand.py").write_text(
        first.read_text().replace("0001_a_change", "0002_other")
    )
    with pytest.raises(MigrationError, match="the revision before it"):
        await apply(place.app_dir, place.uri)


async def test_a_plan_of_a_database_that_lags_behind_is_not_written(make_place: Callable[[], Any]) -> None:
    first, second = await make_place(), await make_place()
    await first.migrate(CATEGORIES)
    found = await plan(registry_of(CATEGORIES, PRODUCTS), second.uri)
    with pytest.raises(MigrationError, match="migrate apply"):
        new(first.app_dir, found, "Products")


async def test_a_program_serves_what_fits_and_says_why_not(place: Place) -> None:
    old, app = registry_of(CATEGORIES), place.server.uri(APP, place.name)
    answer = await status(place.app_dir, old, app)
    assert not answer.serves and "migrate new" in answer.reason
    await place.migrate(CATEGORIES)
    assert (await status(place.app_dir, old, app)).serves
    wanted = registry_of(changed(CATEGORIES, without=("name",), code={"type": "string"}))
    answer = await status(place.app_dir, wanted, app)
    assert not answer.serves and "migrate plan" in answer.reason

    former = place.app_dir.with_name("former")
    (former / "migrations").mkdir(parents=True)
    for path in (place.app_dir / "migrations").glob("*.py"):
        (former / "migrations" / path.name).write_text(path.read_text())
    expand, contract = new(place.app_dir, await plan(wanted, place.uri), "Replace name by code")
    answer = await status(place.app_dir, wanted, app)
    assert not answer.serves and "migrate apply" in answer.reason, "the new program needs the expand"

    set_aside = contract.rename(contract.with_suffix(".later"))
    await apply(place.app_dir, place.uri)
    set_aside.rename(contract)
    assert (await status(former, old, app)).serves, "ahead by an expand only"
    answer = await status(place.app_dir, wanted, app)
    assert answer.serves and answer.pending == (contract.stem,), "what only takes away may wait"

    await apply(place.app_dir, place.uri, allow_destructive=True)
    answer = await status(former, old, app)
    assert not answer.serves and contract.stem in answer.reason
    assert expand.stem in answer.ahead
    with pytest.raises(MigrationError, match="newer"):
        await apply(former, place.uri)


async def test_a_synchronised_database_serves_its_own_manifest_only(place: Place) -> None:
    await synchronise(registry_of(CATEGORIES), place.uri)
    assert (await status(place.app_dir, registry_of(CATEGORIES), place.uri)).serves
    assert not (await status(place.app_dir, registry_of(PRODUCTS, CATEGORIES), place.uri)).serves
    with pytest.raises(MigrationError, match="loses data"):
        await synchronise(registry_of(changed(CATEGORIES, without=("name",))), place.uri)


# --- running ----------------------------------------------------------------------------------


async def test_two_appliers_do_not_race(place: Place) -> None:
    new(place.app_dir, await plan(registry_of(CATEGORIES, PRODUCTS), place.uri), "Shop")
    done = await asyncio.gather(*(apply(place.app_dir, place.uri) for _ in range(3)))
    assert sorted(len(each) for each in done) == [0, 0, 1]


async def test_a_migration_steps_back_for_readers_and_tries_again(place: Place) -> None:
    await place.migrate(CATEGORIES)
    new(
        place.app_dir,
        await plan(registry_of(changed(CATEGORIES, code={"type": "string"})), place.uri),
        "Code",
    )
    long_reader = await asyncpg.connect(place.server.uri(SUPERUSER, place.name))
    await long_reader.execute("begin; select * from categories")
    applying = asyncio.create_task(apply(place.app_dir, place.uri))
    longest, end = 0.0, time.monotonic() + 2.5
    while time.monotonic() < end:
        _, seconds = await in_turns(place.execute("select * from categories"))
        longest = max(longest, seconds)
        await asyncio.sleep(0.02)
    assert not applying.done()
    await long_reader.execute("rollback")
    await long_reader.close()
    assert len(await applying) == 1
    assert longest < 2.0, "others wait for one attempt at most"


async def test_a_migration_that_finds_no_lock_gives_up_in_time(place: Place) -> None:
    await place.migrate(CATEGORIES)
    new(
        place.app_dir,
        await plan(registry_of(changed(CATEGORIES, code={"type": "string"})), place.uri),
        "Code",
    )
    reader = await asyncpg.connect(place.server.uri(SUPERUSER, place.name))
    await reader.execute("begin; select * from categories")
    with pytest.raises(MigrationError, match="55P03"):
        await apply(place.app_dir, place.uri, patience_seconds=0.1)
    await reader.close()


KILLED = """
import asyncio, sys
from pathlib import Path
from byodpp.migrations import apply
print("ready", flush=True)
asyncio.run(apply(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.slow
async def test_a_killed_migration_is_completed_by_the_next_run(make_place: Callable[[], Any]) -> None:
    chance = random.Random(20)
    resources = [changed(CATEGORIES, keys={"name": f"Things{number}"}) for number in range(30)]
    origin = await make_place()
    for count in (5, 15, 30):
        await origin.migrate(*resources[:count])
    for _ in range(6):
        victim = await make_place()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, str(origin.app_dir), victim.uri, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        await asyncio.sleep(chance.uniform(0.1, 1.2))
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        await apply(origin.app_dir, victim.uri)
        assert differences(await victim.snapshot(), await origin.snapshot()) == []


@pytest.mark.slow
async def test_a_thousand_tables_are_planned_in_seconds(place: Place) -> None:
    registry = registry_of(*(changed(CATEGORIES, keys={"name": f"Things{number}"}) for number in range(1000)))
    await synchronise(registry, place.uri)
    start = time.perf_counter()
    assert not await plan(registry, place.uri)
    assert time.perf_counter() - start < 20
