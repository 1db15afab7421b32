"""The part of the manifest's grammar that describes the outside: the manifest, services, resources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from byodpp.grammar.rules import IDENTIFIER
from byodpp.grammar.shapes import (
    Flag,
    Inside,
    Key,
    Level,
    ListOf,
    MapOf,
    OneOf,
    Shape,
    Text,
    key,
    level,
)

__all__ = ["LOGIC_WORDS", "manifest_level", "resource_level", "service_level"]

#: Words of `type` that mean "no table, served by logic classes".
LOGIC_WORDS: Final = ("logic", "custom", "external", "none", "service", "virtual")

_NAME = Text(pattern=IDENTIFIER, called="a name (a letter, then letters, digits or _)", names=True)
_VERSION = Text(pattern=r"v[1-9][0-9]{0,3}", called="a version such as v1")
_INCLUDE = OneOf(
    (Text(called="a file pattern or part"), ListOf(Text(called="a file pattern or part"), minimum=1))
)
_NAMES = ListOf(_NAME, minimum=1)


def manifest_level() -> Level:
    """Return the outermost object."""
    return level(
        "manifest",
        "the manifest",
        "The outermost object, when the manifest is not a plain list of services.",
        key("$schema", Text(), "Address of the JSON Schema, for editors; not read."),
        key(
            "include",
            _INCLUDE,
            "Files to read as well, by patterns relative to this file and inside the application's folder, "
            "and framework parts.",
            example=["resources/*.json", "byodpp:tenancy"],
        ),
        key("services", ListOf(Inside("service")), "The services."),
        key("resources", ListOf(Inside("resource")), "Resources without a service around them."),
        key(
            "name",
            Text(pattern=r"\S.*", called="a text"),
            "Name of the service that `resources` make up.",
            "application",
        ),
        key("version", _VERSION, "API version of `resources`.", "v1"),
        key("title", Text(), "Title of the API in its documentation."),
        key("description", Text(), "Description of the API in its documentation."),
    )


def service_level() -> Level:
    """Return the group of resources."""
    return level(
        "service",
        "a service",
        "A group of resources with one version.",
        key(
            "name",
            Text(pattern=r"\S.*", called="a text"),
            "Name of the service.",
            example="catalogue",
            required=True,
        ),
        key("version", _VERSION, "API version of its resources.", "v1"),
        key("description", Text(), "For the documentation."),
        key("include", _INCLUDE, "Files whose resources join this service."),
        key("resources", ListOf(Inside("resource")), "The resources.", []),
        hints={"resource": "Write `resources`, a list."},
    )


def resource_level() -> Level:
    """Return the resource."""
    return level(
        "resource",
        "a resource",
        "One resource: a table, its rules and its routes.",
        *_resource_keys(),
        hints={
            "timestamps": "Leave it out: createdAt and updatedAt are always there.",
            "properties": "Write `fields`.",
            "columns": "Write `fields`.",
            "primarykey": 'Write `id`: "bigint", "uuid7" or "ulid".',
            "permissions": "Write `access`.",
            "policies": "Write `access`.",
            "index": "Write `indexes`, a list of lists of fields.",
            "url": "Addresses belong into `routes`.",
            "actions": "Write it inside `routes`.",
            "crud": "Write it inside `routes`.",
            "tablename": "Write `table`.",
            "softdeletes": "Write `softDelete`.",
            "version": "The version belongs to the service.",
        },
    )


def _resource_keys() -> Iterator[Key]:
    types = Text(("database", "view", *LOGIC_WORDS), hints={"table": 'Write "database".'})
    yield key(
        "name",
        _NAME,
        "Name in code and documents; in URLs it is kebab-case, in the database snake_case. May "
        "be left out with `extends`.",
        example="ProductDataSources",
    )
    yield key(
        "extends",
        Text(pattern=r"byodpp:[a-z]+/[A-Za-z]+", called="a part's resource such as byodpp:tenancy/Tenants"),
        "Adds to a resource that a framework part declares.",
        example="byodpp:tenancy/Tenants",
    )
    yield key(
        "type",
        types,
        'What stands behind it: a table; an existing table or view, read-only ("view"); or logic '
        "classes alone (all other words).",
        "database",
    )
    yield key(
        "scope",
        Text(("tenant", "user", "shared", "library", "self")),
        "Whose rows it holds: one tenant's; one user's; everybody's, written from the platform "
        "only; the platform's plus each tenant's own; the tenant's own record.",
        "tenant",
    )
    yield key(
        "id",
        Text(
            ("bigint", "uuid7", "ulid"),
            hints={"uuid": 'Write "uuid7".', "serial": 'Write "bigint".', "integer": 'Write "bigint".'},
        ),
        "Type of the key.",
        "bigint",
    )
    yield key(
        "table",
        Text(pattern=r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?", called="a table's name"),
        "Name in the database; the resource's name in snake_case when left out. Of a view: what "
        "it reads, `schema.name` allowed, mandatory.",
        example="products",
    )
    yield key(
        "fields",
        MapOf(Inside("field", 'Example: {"type": "string"}'), _NAME),
        "The fields by name. id, createdAt and updatedAt are always there; left out, a table holds nothing "
        "else, and `byodpp check` notes it.",
        {},
    )
    yield key(
        "filterable",
        Flag(),
        "Whether every field may be used in filter and sort unless it says otherwise; else only "
        "indexed ones may.",
        False,
    )
    yield key(
        "states", Inside("states"), "State machine: a read-only field that only named transitions change."
    )
    yield key(
        "unique",
        ListOf(OneOf((_NAMES, Inside("unique")))),
        "Combinations of fields that occur once.",
        [],
        [["categoryId", "name"]],
    )
    yield key("indexes", ListOf(_NAMES), "Combinations of fields to index.", [], [["status", "createdAt"]])
    yield key("search", _NAMES, "Text fields that `search=` looks into.", example=["name", "description"])
    yield key(
        "relations",
        MapOf(Inside("relation"), _NAME),
        "Ways to rows that refer to this one; references make theirs by themselves.",
        {},
        {"dpps": {"resource": "Dpps", "foreignField": "productId"}},
    )
    yield key(
        "versioned",
        OneOf((Flag(), Text(("required",)))),
        'Count the changes of each row and answer with ETag; "required" demands If-Match on writes.',
        False,
    )
    told = "Deleting hides a row and keeps it. Not of a part's resource: its rows hold while they are there."
    yield key("softDelete", Flag(), told, False)
    yield key("audit", Flag(), "Write an audit entry with every change.", False)
    yield key("history", Flag(), "Keep every former version of a row.", False)
    yield key(
        "events",
        OneOf((Flag(), ListOf(Text(("create", "update", "patch", "delete"))))),
        "Changes that emit an event; true means all.",
        False,
    )
    yield key(
        "routes",
        Inside("routes"),
        "The routes; the seven operations when left out (a view: list and read; logic: none).",
    )
    yield key("supportsBatch", Flag(), "Adds or removes the batch operation.")
    yield key(
        "access",
        MapOf(_access_shape()),
        "Who may do what: `read`, `write`, an operation or an action's key. Left out: Admin only.",
        {},
        {"read": ["Admin", "Viewer"], "write": ["Admin"]},
    )
    yield key("bounds", Inside("bounds"), "How much one request may ask.")
    yield key(
        "rateLimits",
        MapOf(Inside("rate limit")),
        "How often one caller may use a route, by operation or action key.",
        {},
        {"create": {"requests": 100, "seconds": 60}},
    )
    yield key(
        "messages",
        MapOf(Text()),
        "`message` of the answer, by operation or action key.",
        {},
        {"create": "Product created"},
    )
    yield key("title", Text(), "Title in the documentation.")
    yield key("description", Text(), "Description in the documentation.")


def _access_shape() -> Shape:
    rule = Inside("rule")
    return OneOf((Text(called="a role"), ListOf(OneOf((Text(called="a role"), rule))), rule))
