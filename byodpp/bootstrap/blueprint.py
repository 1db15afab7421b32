"""What an application is as its files describe it: read, judged, and built as far as no database is needed.

In: the application's folder. Out: a Blueprint. May reject: StartError with all mistakes of a stage.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from byodpp import migrations
from byodpp.authorization import Policy, base_policies
from byodpp.dependents import Dependents, out_of_reach
from byodpp.events import EventHandler
from byodpp.exceptions import ManifestError
from byodpp.heap import no_collection
from byodpp.logics import LogicMap, load_logics
from byodpp.manifest import load_manifest
from byodpp.openapi import openapi_document
from byodpp.part_logics import PART_LOGICS
from byodpp.registry import Registry
from byodpp.schemas import SchemaMap
from byodpp.schemas.overrides import load_schema_overrides
from byodpp.settings import Settings
from byodpp.statements import Statements
from byodpp.statements.writes import WriteStatements
from byodpp.tables import Tables

__all__ = ["Blueprint", "assemble", "document", "openapi", "snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Blueprint:
    """An application as its files describe it; holds no connection and may be shared."""

    app_dir: Path
    registry: Registry
    tables: Tables
    schemas: SchemaMap
    logics: LogicMap
    handlers: tuple[EventHandler, ...]
    dependents: Dependents
    statements: Statements
    writes: WriteStatements
    policies: tuple[Policy, ...]  # what `access` gives, to every tenant
    fingerprint: str  # of the database it expects


def assemble(app_dir: Path, *, enforce_scope: bool = True) -> Blueprint:
    """Build what needs no database.

    Args:
        app_dir: folder with `resources.json`.
        enforce_scope: False leaves tenancy to row-level security alone; for the test of that fence.

    Raises:
        StartError: with all mistakes of the first stage that has any.
    """
    with no_collection():
        registry = load_manifest(app_dir)
        tables = Tables.build(registry)
        schemas = SchemaMap.build(registry, load_schema_overrides(app_dir))
        logics, handlers = load_logics(app_dir, registry, PART_LOGICS)
        dependents = Dependents(registry, lambda resource: logics.get(resource, "delete") is not None)
        if problems := out_of_reach(registry, dependents):
            raise ManifestError(problems)
        statements = Statements(registry, tables, enforce_scope=enforce_scope)
        return Blueprint(
            app_dir=app_dir,
            registry=registry,
            tables=tables,
            schemas=schemas,
            logics=logics,
            handlers=tuple(handlers),
            dependents=dependents,
            statements=statements,
            writes=WriteStatements(registry, tables, statements),
            policies=tuple(base_policies(registry)),
            fingerprint=migrations.wanted_schema(registry, tables=tables).fingerprint,
        )


def openapi(app_dir: Path, settings: Settings | None = None) -> str:
    """Return the OpenAPI document, indented, as the server would serve it.

    Args:
        app_dir: folder with `resources.json`.
        settings: of the server; None: those of development.
    """
    return json.dumps(document(assemble(app_dir), settings), indent=2, ensure_ascii=False)


def document(blueprint: Blueprint, settings: Settings | None = None) -> dict[str, Any]:
    """Return the OpenAPI document of what a server with these settings serves."""
    parts = blueprint.registry, blueprint.schemas, blueprint.logics
    if settings is None:
        return openapi_document(*parts)
    return openapi_document(
        *parts,
        local_issuer=settings.identity == "local",
        documentation=settings.docs_enabled,
        sign_in=settings.identity == "keycloak",
        browser_sessions=settings.browser_sessions,
    )


def snapshot(registry: Registry) -> migrations.Snapshot:
    """Return what a database of this manifest should hold."""
    return migrations.wanted_schema(registry)
