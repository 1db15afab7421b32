"""`check`, `routes`, `logics`, `openapi`: what an application is, told without a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from byodpp.cli.output import print_step, print_table
from byodpp.cli.place import place_of
from byodpp.exceptions import Problem, StartError

if TYPE_CHECKING:
    from byodpp.definitions import ResourceDefinition
    from byodpp.logics import LogicMap
    from byodpp.registry import Registry

__all__ = ["check", "logics", "openapi", "routes"]


def check(context: typer.Context) -> None:
    """Read everything and tell every mistake: manifest, settings, logic and schema classes, seeds.

    Starts nothing and changes nothing. Exit code 0 means the application would start. Fields that may
    be filtered by though no index serves them are told too; with the setting strict_indexes they
    are mistakes.
    """
    from byodpp.authorization import base_policies
    from byodpp.index_check import unindexed
    from byodpp.logics import LogicMap, load_logics
    from byodpp.manifest import load_manifest
    from byodpp.migrations import fields_with_locales
    from byodpp.part_logics import PART_LOGICS
    from byodpp.schemas import SchemaMap
    from byodpp.schemas.overrides import load_schema_overrides
    from byodpp.seed_check import check_seeds
    from byodpp.tables import Tables
    from byodpp.tenant_life.plans import given_names

    app_dir = place_of(context).application()
    problems: list[Problem] = []
    strict = False
    with _collecting(problems):
        strict = place_of(context).settings().strict_indexes
    registry, slow, found, schemas = None, list[Problem](), list[LogicMap](), list[SchemaMap]()
    with _collecting(problems):
        registry = load_manifest(app_dir)
    # What fits nowhere can be said only of a manifest that stands.
    if registry is not None:
        for part in (
            lambda: slow.extend(unindexed(registry, Tables.build(registry))),
            lambda: base_policies(registry),
            lambda: found.append(load_logics(app_dir, registry, PART_LOGICS)[0]),
            lambda: schemas.append(SchemaMap.build(registry, load_schema_overrides(app_dir))),
        ):
            with _collecting(problems):
                part()
        problems += check_seeds(app_dir, registry, schemas[0], given_names()) if schemas else []
    if strict:
        problems += slow
    if problems or registry is None:
        raise StartError(problems)
    for one in slow:
        print_step("slow", f"{one.path}: {one.reason}. {one.suggestion}")
    for name in _without_fields(registry):
        print_step("note", f"{name} has no `fields`: its rows hold a key and two times, and nothing else")
    for name in _with_trigrams(registry):
        told = (
            "needs pg_trgm, an optional extension; the embedded PostgreSQL has none and reads all rows there"
        )
        print_step("note", f"the trigram index of {name} {told}")
    for name in fields_with_locales(registry):
        told = "needs a server with ICU; the embedded PostgreSQL has none and compares by code point there"
        print_step("note", f"the locale of {name} {told}")
    own = [resource for resource in registry if resource.part is None]
    print_step(
        "good", f"{len(own)} resources of your own, {len(registry) - len(own)} of the framework's parts"
    )
    rows = _route_rows(registry, found[0])
    print_step("good", f"{len(rows)} routes, versions {', '.join(registry.versions)}")


def routes(
    context: typer.Context,
    resource: Annotated[str | None, typer.Argument(metavar="[RESOURCE]", help="Only its routes.")] = None,
) -> None:
    """List every route of the resources: method, address, what serves it, and who may call it.

    `byodpp routes Products`
    """
    from byodpp.logics import load_logics
    from byodpp.part_logics import PART_LOGICS
    from byodpp.suggestion import nearest

    registry = _registry(context)
    logic_map, _ = load_logics(place_of(context).application(), registry, PART_LOGICS)
    names = sorted({one.name for one in registry})
    if resource is not None and resource not in names:
        raise StartError([Problem(resource, "there is no such resource", nearest(resource, names))])
    rows = [row for row in _route_rows(registry, logic_map) if resource in (None, row[2])]
    print_table(("METHOD", "ADDRESS", "RESOURCE", "SERVES", "ROLES"), rows, empty="No resource has a route.")


def logics(context: typer.Context) -> None:
    """List the logic map: which class serves which operation or action, and where it lies."""
    from byodpp.logics import load_logics
    from byodpp.part_logics import PART_LOGICS

    place = place_of(context)
    found, _ = load_logics(place.application(), _registry(context), PART_LOGICS)
    rows = [(entry.version, entry.resource, entry.key, entry.place) for entry in found]
    print_table(
        ("VERSION", "RESOURCE", "SERVES", "CLASS"),
        rows,
        empty="No logic classes.",
    )


def openapi(
    context: typer.Context,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> None:
    """Print the OpenAPI 3.1 document that the server would serve.

    `byodpp openapi -o openapi.json`
    """
    from byodpp import bootstrap

    settings = place_of(context).settings()
    document = bootstrap.openapi(settings.app_dir, settings)
    if output is None:
        typer.echo(document)
    else:
        output.write_text(document + "\n", encoding="utf-8")
        print_step("wrote", str(output))


@contextmanager
def _collecting(problems: list[Problem]) -> Iterator[None]:
    """Add what stands against starting to the list, and go on."""
    try:
        yield
    except StartError as error:
        problems.extend(error.problems)


def _registry(context: typer.Context) -> Registry:
    from byodpp.manifest import load_manifest

    return load_manifest(place_of(context).application())


def _without_fields(registry: Registry) -> Iterator[str]:
    """Yield the application's own resources whose rows hold nothing but what every row has."""
    from byodpp.definitions import Kind

    for resource in registry:
        own = any(not field.implied for field in resource.fields.values())
        if resource.part is None and resource.kind is Kind.DATABASE and not own:
            yield f"{resource.path}: {resource.name}"


def _with_trigrams(registry: Registry) -> list[str]:
    """Return the fields whose parts are indexed, where the server can do that."""
    return [f"{one.name}.{field.name}" for one in registry for field in one.fields.values() if field.trigram]


def _route_rows(registry: Registry, logics: LogicMap) -> list[tuple[str, str, str, str, str]]:
    """Return method, address, resource, key and roles of every route of a resource, in declared order."""
    from byodpp.addresses import addresses

    return [
        (one.method, one.url, resource.name, one.operation, _roles(resource, one.operation))
        for resource in registry
        for one in addresses(resource, logics)
    ]


def _roles(resource: ResourceDefinition, operation: str) -> str:
    """Return who may call, as one cell; a rule with a filter shows `if` behind its roles."""
    from byodpp.authorization import rules_of

    rules = rules_of(resource, operation)
    return ", ".join(role + (" if …" if rule.filter else "") for rule in rules for role in rule.roles)
