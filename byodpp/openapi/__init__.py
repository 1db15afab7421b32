"""The OpenAPI 3.1 document: every live route, as exactly as the code judges it.

In: registry, schema map, logic map. Out: plain JSON values, the same for the same application.
Rejects nothing. It says nothing of the server: no version of a program, no path, no address.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import to_json

from byodpp.browser_sessions import CSRF_HEADER
from byodpp.definitions import ResourceDefinition
from byodpp.heap import no_collection
from byodpp.logics import LogicMap
from byodpp.openapi.errors import error_components, error_schemas
from byodpp.openapi.filters import INSIDE_JSON, condition_schemas, inside_json_schema
from byodpp.openapi.nested import NestedSchemas
from byodpp.openapi.paths import ResourceDescription, tag_of
from byodpp.openapi.service import (
    SERVICE_TAGS,
    batch_path,
    service_paths,
    shared_headers,
    shared_parameters,
    shared_responses,
    shared_schemas,
)
from byodpp.openapi.sessions import session_paths
from byodpp.openapi.transfers import transfer_parameters, transfer_responses, transfer_schemas
from byodpp.registry import Registry
from byodpp.schemas import SchemaMap

__all__ = ["as_read", "openapi_bytes", "openapi_document"]

#: Objects in each other that are taken apart: the document, `components`, `schemas`.
_LEVELS: Final = 3

#: What an API key cannot do: make keys, and sign out.
_SIGNED_IN: Final = frozenset({("/api/v1/api-keys", "post"), ("/api/v1/revocations/own", "post")})
_ABOUT: Final = """\
**Sign in.** Send `Authorization: Bearer <access token>`; the token decides the tenant. Every address \
below `/api/{version}` is also served without its version: `Accept: application/vnd.byo-dpp.v2+json` \
selects one, v1 is the default.

**Answers** are `{"success": true, "data": …, "meta": …}`. Refusals are `{"success": false, "error": \
{"code", "message", "details"}}` with every fault at once, or RFC 9457 with `Accept: \
application/problem+json`. Branch on `code`, never on `message`.

**Queries** are strict: an unknown parameter, field or operator is refused with a suggestion. `filter` \
has two forms, `filter[price][gte]=5` and `filter={"price":{"gte":5}}`, with the same operators: eq, ne, \
gt, gte, lt, lte, in, nin, between, like, ilike, contains, startsWith, endsWith, isNull, has, hasAny, \
hasAll; `and`, `or`, `not`; `some`, `every`, `none` over to-many relations.

**Writes.** PUT replaces what may be written; what GET returned can be put back. PATCH is a merge patch \
(RFC 7396) or a JSON Patch (RFC 6902). Where a row has an `ETag`, send it as `If-Match` and nobody's \
change is lost. In a PATCH, `{"$increment": 1}`, `{"$append": […]}` and `{"$remove": […]}` change what is \
there. Rows of to-many relations may come with their row. `/batch` takes many items, upserts by a unique \
key, or a filter with a maximum. Send `Idempotency-Key` with a POST or PATCH, and a retry does nothing \
twice; send `Prefer: tx=rollback` to try a write out.
"""


def openapi_document(
    registry: Registry,
    schemas: SchemaMap,
    logics: LogicMap,
    *,
    title: str | None = None,
    local_issuer: bool = True,
    documentation: bool = True,
    sign_in: bool = False,
    browser_sessions: bool = True,
) -> dict[str, Any]:
    """Return the document.

    Args:
        registry: the resources.
        schemas: of their bodies.
        logics: the application's classes.
        title: of the API; the manifest's when omitted, else made from the services' names.
        local_issuer: whether the routes of the local issuer are served.
        documentation: whether the documentation itself is served.
        sign_in: whether people sign in on its pages.
        browser_sessions: whether browsers may keep their token in a cookie.
    """
    with no_collection():
        paths, components, tags = _resources(registry, schemas, logics)
        for version in registry.versions:
            paths[f"/api/{version}/batch"] = _batch(registry, version)
        paths |= service_paths(local_issuer=local_issuer, documentation=documentation, sign_in=sign_in)
        keyed = any(resource.routed and resource.part == "keys" for resource in registry)
        if keyed:
            _allow_keys(paths)
        if browser_sessions:
            _allow_sessions(paths)
            paths |= session_paths()
        return {
            "openapi": "3.1.0",
            "info": {
                "title": title or registry.title or _title(registry),
                **({"summary": registry.description} if registry.description else {}),
                "version": registry.versions[-1],
                "description": _ABOUT,
            },
            "servers": [{"url": "/"}],
            "security": [{"bearer": []}],
            "tags": [*tags, *_service_tags(paths)],
            "paths": paths,
            "components": {
                "schemas": components,
                "parameters": {**shared_parameters(), **transfer_parameters()},
                "headers": shared_headers(),
                "responses": {**shared_responses(), **transfer_responses(), **error_components()},
                "securitySchemes": _schemes(keyed=keyed, sessions=browser_sessions),
            },
        }


def _schemes(*, keyed: bool, sessions: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    if keyed:
        told = "An API key, sent like a token: `Authorization: Bearer byodpp_<id>_<secret>`."
        form = "byodpp_<id>_<secret>"
        found["apiKey"] = {"type": "http", "scheme": "bearer", "bearerFormat": form, "description": told}
    if sessions:
        told = "Cookie of `POST /session`; over http on the server's own machine it is `byodpp-session`."
        name = "__Host-byodpp-session"
        found["session"] = {"type": "apiKey", "in": "cookie", "name": name, "description": told}
        told = "Second cookie of `POST /session`, where a refresh token was sent; else `byodpp-renewal`."
        name = "__Host-byodpp-renewal"
        found["renewal"] = {"type": "apiKey", "in": "cookie", "name": name, "description": told}
        told = "The `csrfToken` of the session, with whatever is not GET."
        found["csrf"] = {"type": "apiKey", "in": "header", "name": CSRF_HEADER, "description": told}
    return found


def _allow_sessions(paths: Mapping[str, Any]) -> None:
    """Let cookies stand beside tokens."""
    for item in paths.values():
        for method, operation in item.items():
            security = operation.get("security") if isinstance(operation, dict) else None
            if security is not None and {"bearer": []} in security:
                proof: dict[str, Any] = {} if method == "get" else {"csrf": []}
                operation["security"] = [*security, {"session": [], **proof}]


def _allow_keys(paths: Mapping[str, Any]) -> None:
    """Let API keys stand beside tokens, but where only who is signed in may ask."""
    for path, item in paths.items():
        for method, operation in item.items():
            security = operation.get("security") if isinstance(operation, dict) else None
            signed_in = (path, method) in _SIGNED_IN
            if security is not None and {"bearer": []} in security and not signed_in:
                operation["security"] = [*security, {"apiKey": []}]


def _resources(
    registry: Registry, schemas: SchemaMap, logics: LogicMap
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Return paths, component schemas and tags of all resources."""
    paths: dict[str, Any] = {}
    components: dict[str, Any] = {**shared_schemas(), **error_schemas(), INSIDE_JSON: inside_json_schema()}
    components |= {**condition_schemas(), **transfer_schemas()}
    tags: list[dict[str, Any]] = []
    nested = NestedSchemas(schemas)
    for resource in registry:
        if not resource.routed:
            continue
        description = ResourceDescription(resource, registry, schemas, logics, nested)
        components |= description.components()
        for one in description.operations():
            paths.setdefault(one.path, {})[one.method] = one.operation
        tag: dict[str, Any] = {"name": tag_of(resource)}
        if resource.description:
            tag["description"] = resource.description
        tag["x-page"] = f"{resource.version}/{resource.segment}"
        tag["x-group"] = _group(resource)
        if told := registry.services.get(resource.service):
            tag["x-group-description"] = told
        tags.append(tag)
    components |= nested.components
    return paths, components, tags


def openapi_bytes(document: dict[str, Any]) -> bytes:
    """Return a document as compact JSON; it holds plain values only, so the fast writer will do.

    That is C code which lets no other thread in: it is given one path or schema at a time.
    """
    return _written(document, _LEVELS)


def as_read(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document as whoever reads its JSON has it, piece by piece as well.

    Args:
        document: is empty afterwards: to let go of a large one takes as long as to make it.
    """
    return _read(document, _LEVELS)  # type: ignore[no-any-return]  # an object stays one


def _written(value: Any, levels: int) -> bytes:
    if not levels or not isinstance(value, dict):
        return to_json(value)
    members = (to_json(name) + b":" + _written(one, levels - 1) for name, one in value.items())
    return b"{" + b",".join(members) + b"}"


def _read(value: Any, levels: int) -> Any:
    if not levels or not isinstance(value, dict):
        return json.loads(to_json(value))
    return {name: _read(value.pop(name), levels - 1) for name in list(value)}


def _group(resource: ResourceDefinition) -> str:
    """Return the heading of a resource's service: `Access` for the framework's part `byodpp:access`."""
    name = resource.service.rpartition(":")[2] or "resources"
    return name[:1].upper() + name[1:]


def _batch(registry: Registry, version: str) -> dict[str, Any]:
    names = dict.fromkeys(resource.name for resource in registry)
    found = [registry.find(name, version) for name in names]
    reached = [one for one in found if one is not None and one.routed]
    actions = (action.key for resource in reached for action in resource.actions)
    return batch_path(version, (resource.name for resource in reached), actions)


def _title(registry: Registry) -> str:
    services = list(dict.fromkeys(one.service for one in registry if one.routed and one.part is None))
    return f"{services[0]} API" if len(services) == 1 and services[0] else "API reference"


def _service_tags(paths: dict[str, Any]) -> list[dict[str, Any]]:
    used = {tag for item in paths.values() for one in item.values() for tag in one["tags"]}
    return [
        {"name": name, "description": text, "x-page": f"service/{name.lower()}", "x-group": "Service"}
        for name, text in SERVICE_TAGS.items()
        if name in used
    ]
