"""resources.json becomes a registry: the first stage of a start, and the only judge of the manifest.

Comes from the application's folder; goes out as a `Registry`. Everything that can be wrong with a
manifest is found here and told at once, by `ManifestError`; nothing is started with half of one.

The way of a manifest: `source` (JSON, include, form by `grammar`) -> `draft` (extends) -> `names` ->
`fields` -> `keys` -> `routes` -> `access` -> `checks` -> definitions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from byodpp.definitions import Bounds, ResourceDefinition, RouteLimit
from byodpp.exceptions import ManifestError, Problem
from byodpp.grammar import build_grammar
from byodpp.grammar.shapes import Checker
from byodpp.manifest.access import read_access
from byodpp.manifest.checks import check_public_filters, check_reference_cycles, check_tables
from byodpp.manifest.draft import Draft, Drafts, make_drafts, snake_case
from byodpp.manifest.fields import read_fields
from byodpp.manifest.keys import make_relations, read_keys, read_states, refer_back
from byodpp.manifest.names import name_fields
from byodpp.manifest.routes import check_overlaps, read_routes
from byodpp.manifest.source import Files, FolderFiles, MemoryFiles, Source
from byodpp.registry import Registry

__all__ = ["MANIFEST_NAME", "load_manifest", "read_manifest"]

#: File that makes a folder an application.
MANIFEST_NAME: Final = "resources.json"
_PLACE = re.compile(r"([^$]*)\$(?:\.services)?(?:\[([0-9]+)\])?(?:\.resources\[([0-9]+)\])?")
_EVENTS: Final = ("create", "update", "patch", "delete")


def load_manifest(app_dir: Path) -> Registry:
    """Read the manifest of an application.

    Raises:
        ManifestError: with every mistake found, in the order of the files.
    """
    try:
        text = (app_dir / MANIFEST_NAME).read_bytes()
    except OSError as error:
        hint = "Run `byodpp init DIR` for a new application, or name its folder with --app DIR."
        problem = Problem(MANIFEST_NAME, f"cannot be read in {app_dir}: {error.strerror}", hint)
        raise ManifestError([problem]) from error
    return _read(text, FolderFiles(app_dir))


def read_manifest(document: Any, files: Mapping[str, str] = MappingProxyType({})) -> Registry:
    """Read a manifest that is at hand.

    Args:
        document: parsed JSON, or its text.
        files: name -> text of the files it may include.

    Raises:
        ManifestError: with every mistake found.
    """
    return _read(document, MemoryFiles(files))


def _read(document: Any, files: Files) -> Registry:
    checker = Checker(build_grammar())
    source = Source(checker, files)
    source.read(document)
    drafts = make_drafts(source.declared, source.included_parts, checker)
    _judge(drafts, checker)
    if checker.problems:
        raise ManifestError(sorted(dict.fromkeys(checker.problems), key=_position))
    return Registry(
        map(_definition, drafts),
        title=source.title,
        description=source.description,
        services=source.services,
    )


def _position(problem: Problem) -> tuple[str, int, int]:
    """Return where a problem stands: file, service, resource; the steps find them in another order."""
    found = _PLACE.match(problem.path)
    return (found[1], int(found[2] or -1), int(found[3] or -1)) if found else (problem.path, -1, -1)


def _judge(drafts: Drafts, checker: Checker) -> None:
    """Judge step by step, each step for all drafts, because steps look at other drafts' results."""
    for draft in drafts:
        name_fields(draft, checker)
    for draft in drafts:
        read_fields(draft, drafts, checker)
        read_states(draft, checker)
        read_keys(draft, checker)
        read_routes(draft, checker)
        _check_bounds(draft, checker)
    for draft in drafts:
        refer_back(draft, checker)
        make_relations(draft, drafts, checker)
    for draft in drafts:
        read_access(draft, drafts, checker)
    check_tables(drafts, checker)
    check_reference_cycles(drafts, checker)
    check_public_filters(drafts, checker)
    check_overlaps(drafts, checker)


def _check_bounds(draft: Draft, checker: Checker) -> None:
    bounds = _bounds(draft)
    if bounds.limit > bounds.max_limit:
        path = draft.body["bounds"].path
        reason = f"a page of {bounds.limit} rows is more than the most allowed, {bounds.max_limit}"
        checker.report(path, reason, "Lower `limit`, or raise `maxLimit`.")


def _bounds(draft: Draft) -> Bounds:
    given: Mapping[str, int] = draft.body.get("bounds") or {}
    bounds = replace(Bounds(), **{snake_case(key): value for key, value in given.items()})
    # Who lowers the maximum alone means the usual page as well.
    return bounds if "limit" in given else replace(bounds, limit=min(bounds.limit, bounds.max_limit))


def _rate_limits(draft: Draft) -> dict[str, RouteLimit]:
    given: Mapping[str, Mapping[str, int]] = draft.body.get("rateLimits") or {}
    return {
        key: RouteLimit(requests=one["requests"], seconds=one.get("seconds", 60))
        for key, one in given.items()
    }


def _definition(draft: Draft) -> ResourceDefinition:
    """Freeze a draft in which nothing is wrong."""
    body = draft.body
    versioned = body.get("versioned", False)
    events = body.get("events", False)
    return ResourceDefinition(
        name=draft.name,
        version=draft.version,
        service=draft.service,
        kind=draft.kind,
        scope=draft.scope,
        table=draft.table,
        schema=draft.schema,
        segment=draft.segment,
        key=draft.key,
        fields=MappingProxyType(draft.fields),
        relations=MappingProxyType(draft.relations),
        states=draft.states,
        unique=draft.unique,
        indexes=draft.indexes,
        search=draft.search,
        versioned=versioned is not False,
        version_required=versioned == "required",
        soft_delete=body.get("softDelete", False),
        audit=body.get("audit", False),
        history=body.get("history", False),
        events=frozenset(_EVENTS if events is True else events or ()),
        operations=draft.operations,
        crud_routes=MappingProxyType(draft.crud_routes),
        actions=tuple(draft.actions),
        access=MappingProxyType(draft.access),
        bounds=_bounds(draft),
        rate_limits=MappingProxyType(_rate_limits(draft)),
        title=body.get("title"),
        description=body.get("description"),
        messages=MappingProxyType(dict(body.get("messages") or {})),
        part=draft.part,
        routed=draft.routed,
        path=draft.path,
    )
