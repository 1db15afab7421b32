"""The routes of every resource: registry and controllers in, `Route`s for the table out.

Decides which media types and body each operation and action has; their addresses come from `addresses`,
and what happens there is the controller's. Rejects nothing: the table of routes judges the patterns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from byodpp.addresses import Address, Form, addresses
from byodpp.controller import Controller
from byodpp.definitions import ActionDefinition, Kind, ResourceDefinition
from byodpp.judged_calls import refuse_input
from byodpp.reference_faults import ReferenceFaults, StepFaults
from byodpp.routes.table import JSON_BODY, PATCH_BODY, Body, Endpoint, Route
from byodpp.service import Service
from byodpp.transactions import MultiResourceBatch

__all__ = ["resource_routes"]

_OF_A_ROW: Final = frozenset({"read", "update", "patch", "delete"})
_TAKES_BODY: Final = frozenset({"create", "update", "patch", "batch"})


def resource_routes(service: Service) -> Iterator[Route]:
    """Yield the routes of all resources, in declared order, then the batches over several."""
    registry, logics = service.parts.registry, service.parts.logics
    for resource in registry:
        controller = Controller(resource, service)
        for address in addresses(resource, logics):
            endpoint = _endpoint(service, controller, address)
            if endpoint is not None:
                origin = address.action.path if address.action is not None else ""
                methods = {address.method: endpoint}
                yield Route(pattern=address.url, methods=methods, origin=origin or resource.path)
    for version in registry.versions:
        endpoint = Endpoint(
            handler=MultiResourceBatch(service, version),
            operation="transaction",
            body=Body.REQUIRED,
            complete=StepFaults(service, version),
            summary="Run operations over several resources in one transaction",
        )
        yield Route(pattern=f"/api/{version}/batch", methods={"POST": endpoint})


def _endpoint(service: Service, controller: Controller, address: Address) -> Endpoint | None:
    """Return what serves an address; None for files, which are served elsewhere (`routes.transfers`)."""
    if address.action is not None:
        return _action(service, controller, address.action)
    if address.form is Form.OPERATION:
        return _operation(service, controller, address)
    if address.form is Form.QUERY:
        return _query(controller)
    return _history(controller) if address.form is Form.HISTORY else None


def _operation(service: Service, controller: Controller, address: Address) -> Endpoint:
    resource, operation = controller.resource, address.operation
    load: Callable[[Any, Any], Any] | None = None
    if operation in ("create", "update"):
        load = partial(controller.load, operation)
    elif operation == "delete":
        load = _refuse_members
    names_row = operation in _OF_A_ROW and resource.kind is not Kind.LOGIC
    return Endpoint(
        handler=controller.handler(operation),
        operation=operation,
        resource=resource,
        public=_is_public(resource),
        body=Body.REQUIRED if operation in _TAKES_BODY else _unread(operation == "delete"),
        media_types=PATCH_BODY if operation == "patch" else JSON_BODY,
        load=load,
        probe=controller.probe if names_row else None,
        complete=ReferenceFaults(resource, service).of(operation),
        summary=f"{operation} {resource.name}",
    )


def _query(controller: Controller) -> Endpoint:
    """Return what serves a list asked by a body: by POST everywhere, by QUERY where a client can send it."""
    resource = controller.resource
    return Endpoint(
        handler=controller.handler("query"),
        operation="list",
        resource=resource,
        public=_is_public(resource),
        body=Body.REQUIRED,
        summary=f"list {resource.name} by a query in the body",
    )


def _history(controller: Controller) -> Endpoint:
    """Return what serves a row's kept versions; who may read the row may read them."""
    resource = controller.resource
    return Endpoint(
        handler=controller.history,
        operation="read",
        resource=resource,
        public=_is_public(resource),
        summary=f"history of {resource.name}",
    )


def _action(service: Service, controller: Controller, action: ActionDefinition) -> Endpoint:
    resource = controller.resource
    logic = service.parts.logics.get(resource, action.key)
    load: Callable[[Any, Any], Any] | None = None
    if action.method not in ("GET", "HEAD"):
        schema = logic.input if logic is not None else None
        load = _refuse_members if schema is None else partial(_load_input, service, schema)
    names_row = "{id}" in action.url and resource.kind is not Kind.LOGIC
    return Endpoint(
        handler=controller.action(action),
        operation=action.key,
        resource=resource,
        public=action.public or _is_public(resource),
        body=_unread(load is not None),
        max_body_bytes=action.max_body_bytes,
        load=load,
        produces=() if logic is not None else ("application/json",),
        probe=controller.probe if names_row and not (action.public or action.restores) else None,
        summary=action.summary or f"{action.key} of {resource.name}",
    )


def _unread(changes: bool) -> Body:
    """Return whether a body that need not be there is looked at: what changes nothing reads none."""
    return Body.OPTIONAL if changes else Body.NONE


def _refuse_members(document: Any, principal: Any) -> None:
    """Refuse what is sent to a deletion, step or action that takes nothing.

    Raises:
        ValidationFailed: naming each member.
    """
    refuse_input(document)


def _load_input(service: Service, schema: Any, document: Any, principal: Any) -> Any:
    return service.parts.schemas.action(schema, {} if document is None else document)


def _is_public(resource: ResourceDefinition) -> bool:
    """Whether some rule lets callers without a token get as far as the authorizer."""
    return any("public" in rule.roles for rules in resource.access.values() for rule in rules)
