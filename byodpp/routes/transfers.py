"""The routes of imports and exports: of every resource whose rows can be created, or listed.

In: a registry and who serves a resource's files. Out: `Route`s for the table. Which resources have some
is for `addresses` to say. Rejects nothing: the table of routes judges the patterns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from byodpp.addresses import Form, addresses
from byodpp.definitions import ResourceDefinition
from byodpp.logics import LogicMap
from byodpp.registry import Registry
from byodpp.routes.table import Body, Endpoint, Route
from byodpp.transfer.formats import MEDIA_TYPES
from byodpp.transfers import Transfers

__all__ = ["EXPORTED_TYPES", "transfer_routes"]

#: Media types of an export, the default first.
EXPORTED_TYPES: Final = tuple(media_type for types in MEDIA_TYPES.values() for media_type in types)


def transfer_routes(
    registry: Registry, logics: LogicMap, transfers: Callable[[ResourceDefinition], Transfers]
) -> Iterator[Route]:
    """Yield the routes, in declared order of the resources."""
    for resource in registry:
        served = transfers(resource)
        for address in addresses(resource, logics):
            endpoint = _endpoint(resource, served, address.form)
            if endpoint is not None:
                methods = {address.method: endpoint}
                yield Route(pattern=address.url, methods=methods, origin=resource.path)


def _endpoint(resource: ResourceDefinition, served: Transfers, form: Form) -> Endpoint | None:
    """Return what serves files; None for what has none."""
    if form is Form.IMPORT:
        return Endpoint(
            handler=served.run_import,
            operation="create",
            resource=resource,
            body=Body.STREAM,
            max_body_bytes=served.bounds.file_bytes,
            summary=f"import {resource.name} from a file",
        )
    if form is Form.PROGRESS:
        return Endpoint(
            handler=served.progress,
            operation="create",
            resource=resource,
            produces=(),
            summary=f"how far an import of {resource.name} has come, or its report",
        )
    if form is Form.EXPORT:
        return Endpoint(
            handler=served.export,
            operation="list",
            resource=resource,
            produces=EXPORTED_TYPES,
            summary=f"export {resource.name} to a file",
        )
    return None
