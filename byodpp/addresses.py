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
    """Yield a resource's addresses: operations in declared order, what comes with them, actions."""
    if not resource.routed:
        return
    for operation in resource.operations:
        method, tail = OPERATION_ADDRESSES[operation]
        url = resource.crud_routes.get(operation, resource.base_url + tail)
        yield Address(method, url, Form.OPERATION, operation)
    if "list" in resource.operations and resource.kind is not Kind.LOGIC:
        collection = resource.crud_routes.get("list", resource.base_url)
        yield Address("POST", f"{collection}/query", Form.QUERY, "list")
        yield Address("QUERY", collection, Form.QUERY, "list")
    if resource.history and "read" in resource.operations:
        row = resource.crud_routes.get("read", f"{resource.base_url}/{{id}}")
        yield Address("GET", f"{row}/history", Form.HISTORY, "read")
    if imports(resource):
        yield Address("POST", import_address(resource), Form.IMPORT, "create")
        yield Address("GET", import_address(resource), Form.PROGRESS, "create")
    if exports(resource, logics):
        yield Address("GET", export_address(resource), Form.EXPORT, "list")
    for action in resource.actions:
        yield Address(action.method, action.url, Form.ACTION, action.key, action)
