"""The routes of every resource: registry and controllers in, `Route`s for the table out.

Decides which URL, method, media types and body each operation and action has; what happens
there is the controller's. Rejects nothing: the table of routes judges the patterns.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from byodpp.controller import Controller
from byodpp.definitions import ActionDefinition, Kind, ResourceDefinition
from byodpp.routes.table import JSON_BODY, PATCH_BODY, Body, Endpoint, Route
from byodpp.service import Service
from byodpp.transactions import MultiResourceBatch

__all__ = ["METHODS", "resource_routes"]

#: HTTP method of each operation, and whether its URL names a row or is the batch's.
METHODS: Final = {
    "list": ("GET", ""),
    "create": ("POST", ""),
    "read": ("GET", "/{id}"),
    "update": ("PUT", "/{id}"),
    "patch": ("PATCH", "/{id}"),
    "delete": ("DELETE", "/{id}"),
    "batch": ("POST", "/batch"),
}
_TAKES_BODY: Final = frozenset({"create", "update", "patch", "batch"})


def resource_routes(service: Service) -> Iterator[Route]:
    """Yield the routes of all resources, in declared order, then the batches over several."""
    registry = service.parts.registry
    for resource in registry:
        if resource.routed:
            controller = Controller(resource, service)
            for operation in resource.operations:
                yield _operation_route(controller, operation)
            if "list" in resource.operations and resource.kind is not Kind.LOGIC:
                yield from _query_routes(controller)
            if resource.history and "read" in resource.operations:
                yield _history_route(controller)
            for action in resource.actions:
                yield _action_route(service, controller, action)
    for version in registry.versions:
        endpoint = Endpoint(
            handler=MultiResourceBatch(service, version),
            operation="transaction",
            body=Body.REQUIRED,
            summary="Run operations over several resources in one transaction",
        )
        yield Route(pattern=f"/api/{version}/batch", methods={"POST": endpoint})


def _operation_route(controller: Controller, operation: str) -> Route:
    resource = controller.resource
    method, tail = METHODS[operation]
    load = partial(controller.load, operation) if operation in ("create", "update") else None
    endpoint = Endpoint(
        handler=controller.handler(operation),
        operation=operation,
        resource=resource,
        public=_is_public(resource, operation),
        body=Body.REQUIRED if operation in _TAKES_BODY else Body.NONE,
        media_types=PATCH_BODY if operation == "patch" else JSON_BODY,
        load=load,
        probe=controller.probe if "{id}" in tail and resource.kind is not Kind.LOGIC else None,
        summary=f"{operation} {resource.name}",
    )
    pattern = resource.crud_routes.get(operation, resource.base_url + tail)
    return Route(pattern=pattern, methods={method: endpoint}, origin=resource.path)


def _query_routes(controller: Controller) -> Iterator[Route]:
    """Yield the ways to ask for a list with a body: POST everywhere, QUERY where a client can send it."""
    resource = controller.resource
    endpoint = Endpoint(
        handler=controller.handler("query"),
        operation="list",
        resource=resource,
        public=_is_public(resource, "list"),
        body=Body.REQUIRED,
        summary=f"list {resource.name} by a query in the body",
    )
    collection = resource.crud_routes.get("list", resource.base_url)
    yield Route(pattern=f"{collection}/query", methods={"POST": endpoint}, origin=resource.path)
    yield Route(pattern=collection, methods={"QUERY": endpoint}, origin=resource.path)


def _history_route(controller: Controller) -> Route:
    """Return the route of a row's kept versions; who may read the row may read them."""
    resource = controller.resource
    endpoint = Endpoint(
        handler=controller.history,
        operation="read",
        resource=resource,
        public=_is_public(resource, "read"),
        summary=f"history of {resource.name}",
    )
    pattern = resource.crud_routes.get("read", f"{resource.base_url}/{{id}}") + "/history"
    return Route(pattern=pattern, methods={"GET": endpoint}, origin=resource.path)


def _action_route(service: Service, controller: Controller, action: ActionDefinition) -> Route:
    resource = controller.resource
    logic = service.parts.logics.get(resource, action.key)
    takes_input = logic is not None and logic.input is not None and action.method not in ("GET", "HEAD")
    load = None
    if takes_input and logic is not None and logic.input is not None:
        load = partial(_load_input, service, logic.input)
    names_row = "{id}" in action.url and resource.kind is not Kind.LOGIC
    endpoint = Endpoint(
        handler=controller.action(action),
        operation=action.key,
        resource=resource,
        public=action.public or _is_public(resource, action.key),
        body=Body.OPTIONAL if takes_input else Body.NONE,
        max_body_bytes=action.max_body_bytes,
        load=load,
        produces=() if logic is not None else ("application/json",),
        probe=controller.probe if names_row and not (action.public or action.restores) else None,
        summary=action.summary or f"{action.key} of {resource.name}",
    )
    return Route(pattern=action.url, methods={action.method: endpoint}, origin=action.path or resource.path)


def _load_input(service: Service, schema: Any, document: Any, principal: Any) -> Any:
    return service.parts.schemas.action(schema, {} if document is None else document)


def _is_public(resource: ResourceDefinition, operation: str) -> bool:
    """Whether some rule lets callers without a token get as far as the authorizer."""
    return any("public" in rule.roles for rules in resource.access.values() for rule in rules)
