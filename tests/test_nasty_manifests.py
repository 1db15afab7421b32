"""Manifests with long names, odd texts, circles and slips: what is allowed works, the rest is told well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as some
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect

from byodpp import migrations
from byodpp.bootstrap import assemble
from byodpp.exceptions import ManifestError, Problem, StartError
from byodpp.manifest import read_manifest
from byodpp.migrations.revisions import _ESCAPED
from byodpp.testing import Bench
from tests.worlds import build

LONG = "a" + "b" * 62
ADMIN = {"read": ["Admin"], "write": ["Admin"]}


def problem(document: Any, files: dict[str, str] | None = None) -> Problem:
    with pytest.raises(ManifestError) as raised:
        read_manifest(document, files or {})
    (only,) = raised.value.problems
    return only


def one(**keys: Any) -> dict[str, Any]:
    return {"resources": [{"name": "Things", **keys}]}


async def test_names_of_63_bytes_are_stored_filtered_sorted_and_included(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    fields = {LONG: {"type": "integer", "index": True}, "parentId": {"references": "Things", "as": "parent"}}
    resource = {"name": "Things", "table": "t" * 63, "fields": fields, "access": ADMIN}
    async with byodpp_bench.application(build(tmp_path / "app", {"resources": [resource]})) as served:
        client = served.client()
        first = (await client.post("/api/v1/things", json={LONG: 1})).json()["data"]
        second = await client.post("/api/v1/things", json={LONG: 2, "parentId": first["id"]})
        assert second.json()["data"][LONG] == 2
        query = f"filter[parent.{LONG}]=1&sort=-{LONG}&include=parent"
        (row,) = (await client.get(f"/api/v1/things?{query}")).json()["data"]
        assert (row[LONG], row["parent"][LONG]) == (2, 1)


async def test_a_library_row_may_refer_to_its_own_kind_but_not_to_another_tenants(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    fields = {"name": {"type": "string"}, "parentId": {"references": "Parts", "as": "parent"}}
    manifest = {"resources": [{"name": "Parts", "scope": "library", "fields": fields, "access": ADMIN}]}
    async with byodpp_bench.application(build(tmp_path / "app", manifest)) as served:
        acme, beta, platform = served.client(), served.client(tenant="beta"), served.client(tenant="platform")
        root = (await platform.post("/api/v1/parts", json={"name": "root"})).json()["data"]["id"]
        mine = await acme.post("/api/v1/parts", json={"name": "mine", "parentId": root})
        assert mine.status_code == 201, mine.text
        below = await acme.post("/api/v1/parts", json={"parentId": mine.json()["data"]["id"]})
        assert below.status_code == 201
        foreign = await beta.post("/api/v1/parts", json={"parentId": mine.json()["data"]["id"]})
        assert foreign.status_code == 422


async def test_a_library_row_cannot_refer_to_another_tenants_row_past_the_repository(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    fields = {"parentId": {"references": "Parts", "as": "parent"}}
    manifest = {"resources": [{"name": "Parts", "scope": "library", "fields": fields, "access": ADMIN}]}
    async with byodpp_bench.application(build(tmp_path / "app", manifest)) as served:
        mine = (await served.client().post("/api/v1/parts", json={})).json()["data"]["id"]
        connection = await asyncpg.connect(served.settings.postgres_db_uri)
        try:
            beta = (await served.tenant("beta")).id
            await connection.execute(f"set byodpp.tenant = '{beta}'")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(
                    "insert into parts (tenant_id, parent_id) values ($1, $2)", beta, mine
                )
        finally:
            await connection.close()


async def test_the_location_of_a_new_row_is_its_own_address(tmp_path: Path, byodpp_bench: Bench) -> None:
    routes = {"crud": [{"url": "/shop/things", "method": "post"}, {"url": "/shop/t/:id", "method": "get"}]}
    async with byodpp_bench.application(
        build(tmp_path / "app", one(routes=routes, access=ADMIN, fields={"a": {"type": "string"}}))
    ) as served:
        made = await served.client().post("/shop/things", json={"a": "x"})
        assert made.headers["location"] == f"/shop/t/{made.json()['data']['id']}"
        assert (await served.client().get(made.headers["location"])).json()["data"]["a"] == "x"


async def test_a_view_that_would_read_past_the_tenants_stops_the_start(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    stored = {"name": "Things", "fields": {"a": {"type": "string"}}, "access": ADMIN}
    view = {"name": "Sights", "type": "view", "table": "sights", "fields": {"a": {"type": "string"}}}
    blueprint = build(tmp_path / "app", {"resources": [stored, view | {"access": {"read": ["Admin"]}}]})
    with pytest.raises(StartError, match="there is no such relation"):
        async with byodpp_bench.application(blueprint):
            pass


async def test_an_application_with_a_view_is_tested_on_what_its_revisions_make(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    stored = {"name": "Things", "fields": {"a": {"type": "string"}}, "access": ADMIN}
    view = {"name": "Sights", "type": "view", "table": "sights", "fields": {"a": {"type": "string"}}}
    blueprint = build(tmp_path / "app", {"resources": [stored, view | {"access": {"read": ["Admin"]}}]})
    nothing = byodpp_bench.server.uri("byodpp_owner", "postgres")
    (revision,) = migrations.new(blueprint.app_dir, await migrations.plan(blueprint.registry, nothing), "all")
    view_sql = "create view sights with (security_invoker) as select tenant_id, id, a from things"
    with revision.open("a") as file:
        file.write(f"    op.execute({view_sql!r})\n    op.execute('grant select on sights to byodpp_app')\n")
    async with byodpp_bench.application(blueprint) as served:
        await served.client().post("/api/v1/things", json={"a": "x"})
        seen = (await served.client().get("/api/v1/sights")).json()
        assert [row["a"] for row in seen["data"]] == ["x"]
        assert (await served.client(tenant="beta").get("/api/v1/sights")).json()["data"] == []


@given(some.text(alphabet=":\\ab1$ %ä_'", max_size=12))
def test_every_text_goes_through_a_revision_unchanged(text: str) -> None:
    escaped = sa.text(_ESCAPED.sub(r"\\\g<0>", f"x{text}"))
    dialect = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]
    assert str(escaped.compile(dialect=dialect)) == f"x{text}"


async def test_a_default_of_odd_characters_leaves_nothing_to_migrate(
    tmp_path: Path, byodpp_bench: Bench
) -> None:
    default = 'it\'s :x \\:y %(z)s $1 \\\\ """ {a}'
    blueprint = assemble(build(tmp_path / "app", one(access=ADMIN)).app_dir)
    changed = build(tmp_path / "app", one(access=ADMIN, fields={"a": {"type": "string", "default": default}}))
    async with byodpp_bench.database(blueprint) as name:
        connection = await asyncpg.connect(byodpp_bench.server.uri("byodpp_owner", name))
        try:
            await migrations.synchronise(changed.registry, connection)
            assert not await migrations.plan(changed.registry, connection)
        finally:
            await connection.close()


@pytest.mark.parametrize(
    ("document", "path", "reason", "advice"),
    [
        (one(versioned="always"), "versioned", "true or false", ""),
        (one(fields={"unit-price": {"type": "float"}}), 'fields["unit-price"]', "not a name", "'unitPrice'"),
        (one(fields={"Prénom": {"type": "text"}}), 'fields["Prénom"]', "not a name", "'Prenom'"),
        (one(search=["first name"]), "search[0]", "not a name", "'firstName'"),
        (one(routes={"crud": ["remove"]}), "routes.crud[0]", "remove", 'Write "delete"'),
        (one(fields={"x": "string"}), "fields.x", "expected a field", '{"type": "string"}'),
        (one(fields={"c": {"references": "Customer"}}), "fields.c.references", "no resource", ""),
        (one(fields={"x": {"type": "string", "pattern": "[a"}}), "fields.x.pattern", "not usable", ""),
        (one(search=[]), "search", "the list is empty", ""),
        (
            one(routes={"actions": [{"url": "/f/../g", "name": "g"}]}),
            "routes.actions[0].url",
            "no client",
            "",
        ),
        (
            one(routes={"actions": [{"url": "/f/%zz", "name": "g"}]}),
            "routes.actions[0].url",
            "no client",
            "",
        ),
        (
            one(fields={"o": {"type": "object", "properties": {"b": {"type": "string", "index": True}}}}),
            "fields.o.properties.b.index",
            "unknown key",
            "Leave it out",
        ),
    ],
)
def test_a_slip_is_told_with_what_to_write(document: Any, path: str, reason: str, advice: str) -> None:
    found = problem(document)
    assert found.path == f"$.resources[0].{path}"
    assert reason in found.reason and advice in (found.suggestion or "")


def public(condition: dict[str, Any]) -> dict[str, Any]:
    return {"read": ["Admin", {"roles": ["public"], "filter": condition}], "write": ["Admin"]}


@pytest.mark.parametrize(
    "condition", [{"parent.s": "p"}, {"or": [{"s": "p"}, {"not": {"parent": {"s": "p"}}}]}]
)
def test_a_public_filter_that_asks_for_its_own_table_is_refused(condition: dict[str, Any]) -> None:
    fields = {"s": {"type": "string"}, "parentId": {"references": "Things"}}
    found = problem(one(fields=fields, access=public(condition)))
    assert found.path == "$.resources[0].access.read[1].filter"


def test_public_filters_that_ask_for_each_other_are_refused() -> None:
    first = {"name": "A", "fields": {"s": {"type": "string"}, "bId": {"references": "B"}}}
    second = {"name": "B", "fields": {"s": {"type": "string"}}, "access": public({"many.some": {"s": "p"}})}
    second["relations"] = {"many": {"resource": "A", "foreignField": "bId"}}
    with pytest.raises(ManifestError) as raised:
        read_manifest({"resources": [first | {"access": public({"b.s": "p"})}, second]})
    assert [one.path[:14] for one in raised.value.problems] == ["$.resources[0]", "$.resources[1]"]


def test_a_public_filter_may_ask_for_other_tables() -> None:
    first = {"name": "A", "fields": {"bId": {"references": "B"}}, "access": public({"b.s": "p"})}
    second = {"name": "B", "fields": {"s": {"type": "string"}}, "access": public({"s": "p"})}
    assert read_manifest({"resources": [first, second]}).get("A").public_filter()


def linked(condition: dict[str, Any], access: dict[str, Any] | None) -> dict[str, Any]:
    """Things of everybody, by a filter about the kinds and the parts that they refer to."""
    kinds = {"name": "Kinds", "fields": {"s": {"type": "string"}, "j": {"type": "json"}}}
    parts = {"name": "Parts", "fields": {"s": {"type": "string"}, "thingId": {"references": "Things"}}}
    things = {
        "name": "Things",
        "fields": {"kindId": {"references": "Kinds"}},
        "relations": {"parts": {"resource": "Parts", "foreignField": "thingId"}},
    }
    more = {} if access is None else {"access": access}
    return {"resources": [things | {"access": public(condition)}, kinds | more, parts | more]}


#: What is true of what is not there, and what is not.
FROM_NOTHING: list[dict[str, Any]] = [
    {"parts": {"none": {"s": "p"}}},
    {"parts.every.s": "p"},
    {"not": {"parts": {"some": {"s": "p"}}}},
    {"kind.s": {"ne": "p"}},
    {"kind": {"s": {"nin": ["p", "q"]}}},
    {"kind.s": None},
    {"kind.s": {"in": ["p", None]}},
    {"or": [{"kind.s": "p"}, {"kind": {"s": {"isNull": True}}}]},
    {"not": {"kind.s": {"startsWith": "p"}}},
    {"kind": {"not": {"s": "p"}}},
    {"kind.j": {"k": {"ne": 1}}},
    {"parts": {"some": {"thing.kind.s": {"ne": "p"}}}},
]
FROM_SOMETHING: list[dict[str, Any]] = [
    {"parts": {"some": {"s": {"ne": "p"}}}},
    {"not": {"parts": {"none": {"s": "p"}}}},
    {"not": {"parts.every.s": "p"}},
    {"kind.s": {"in": ["p", "q"]}},
    {"kind.s": {"isNull": False}},
    {"not": {"kind.s": {"ne": "p"}}},
    {"and": [{"kind": {"s": {"gt": "p"}, "j.k": 1}}]},
]


@pytest.mark.parametrize("condition", FROM_NOTHING)
def test_a_public_filter_that_hidden_rows_fulfil_is_refused(condition: dict[str, Any]) -> None:
    for access in (None, {"read": ["Admin"]}, public({"s": "p"})):
        with pytest.raises(ManifestError) as raised:
            read_manifest(linked(condition, access))
        reasons = [one.reason for one in raised.value.problems if one.path.endswith("[1].filter")]
        assert any("are not public" in reason or "again" in reason for reason in reasons)


@pytest.mark.parametrize("condition", [*FROM_NOTHING[:-1], *FROM_SOMETHING])
def test_a_public_filter_may_ask_for_what_is_not_there_where_everybody_sees_what_is(
    condition: dict[str, Any],
) -> None:
    assert read_manifest(linked(condition, {"read": ["public"]})).get("Things").public_filter()


@pytest.mark.parametrize("condition", FROM_SOMETHING)
def test_a_public_filter_may_ask_for_what_is_there(condition: dict[str, Any]) -> None:
    assert read_manifest(linked(condition, public({"s": "p"}))).get("Things").public_filter()


def test_a_comma_too_many_is_named() -> None:
    assert problem('{"resources": [\n  {"name": "A",\n}\n]}').suggestion == "Remove the comma before the }."


def test_a_byte_order_mark_is_no_mistake() -> None:
    registry = read_manifest('\ufeff{"resources": [{"name": "Things"}]}')
    assert registry.get("Things").name == "Things"


def test_a_part_that_is_misspelt_is_told_once() -> None:
    wrong = {"resources": [{"name": "Tenants", "extends": "byodpp:tenancy/Tenant", "scope": "shared"}]}
    assert problem(wrong).path == "$.resources[0].extends"
