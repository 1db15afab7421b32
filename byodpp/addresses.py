"""Every address of a resource, made from its manifest and its logic classes.

The table of routes serves these, the OpenAPI document describes these, and `byodpp routes` lists these:
all three ask here, so that none of them knows an address that another does not.

In: a resource and the map of logic classes. Out: its addresses. Rejects nothing: the table of routes
judges the patterns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from byodpp.definitions import ActionDefinition, Kind, ResourceDefinition
from byodpp.logics import LogicMap
from byodpp.transfer.offered import export_address, exports, import_address, imports

__all__ = ["OPERATION_ADDRESSES", "Address", "Form", "addresses"]

#: HTTP method of each operation, and the tail of its address: that of a row, or the batch's.
OPERATION_ADDRESSES: Final = {
    "list": ("GET", ""),
    "create": ("POST", ""),
    "read": ("GET", "/{id}"),
    "update": ("PUT", "/{id}"),
    "patch": ("PATCH", "/{id}"),
    "delete": ("DELETE", "/{id}"),
    "batch": ("POST", "/batch"),
}


class Form(Enum):
    """What lies at an address."""

    OPERATION = auto()  # one of the seven
    QUERY = auto()  # a list, asked by a body
    HISTORY = auto()  # the kept versions of a row
    IMPORT = auto()  # where a file is sent to
    PROGRESS = auto()  # how far an import has come
    EXPORT = auto()  # where a file is had from
    ACTION = auto()


@dataclass(frozen=True, slots=True)
class Address:
    """One address with its method."""

    method: str  # upper case
    url: str  # pattern, e.g. `/api/v1/products/{id}`
    form: Form
    operation: str  # whose rights count: one of the seven, or an action's key
    action: ActionDefinition | None = None  # of an action


def addresses(resource: ResourceDefinition, logics: LogicMap) -> Iterator[Address]:
    """Yield a resource's addresses: each operation with what comes with it, files, actions."""
    if not resource.routed:
        return
    for operation in resource.operations:
        method, tail = OPERATION_ADDRESSES[operation]
        url = resource.crud_routes.get(operation, resource.base_url + tail)
        yield Address(method, url, Form.OPERATION, operation)
        if operation == "list" and resource.kind is not Kind.LOGIC:
            yield Address("QUERY", url, Form.QUERY, operation)
            yield Address("POST", f"{url}/query", Form.QUERY, operation)
        if operation == "read" and resource.history:
            yield Address("GET", f"{url}/history", Form.HISTORY, operation)
    if imports(resource, logics):
        yield Address("POST", import_address(resource), Form.IMPORT, "create")
        yield Address("GET", import_address(resource), Form.PROGRESS, "create")
    if exports(resource, logics):
        yield Address("GET", export_address(resource), Form.EXPORT, "list")
    for action in resource.actions:
        yield Address(action.method, action.url, Form.ACTION, action.key, action)
