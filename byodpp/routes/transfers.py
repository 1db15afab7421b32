"""The routes of imports and exports: of every resource whose rows can be created, or listed.

In: a registry and who serves a resource's files. Out: `Route`s for the table. Which resources have some
is `transfer.offered`'s to say. Rejects nothing: the table of routes judges the patterns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from byodpp.definitions import ResourceDefinition
from byodpp.logics import LogicMap
from byodpp.registry import Registry
from byodpp.routes.table import Body, Endpoint, Route
from byodpp.transfer.formats import MEDIA_TYPES
from byodpp.transfer.offered import export_address, exports, import_address, imports
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
        if imports(resource):
            yield from _import_routes(resource, served)
        if exports(resource, logics):
            yield _export_route(resource, served)


def _import_routes(resource: ResourceDefinition, served: Transfers) -> Iterator[Route]:
    run = Endpoint(
        handler=served.run_import,
        operation="create",
        resource=resource,
        body=Body.STREAM,
        max_body_bytes=served.bounds.file_bytes,
        summary=f"import {resource.name} from a file",
    )
    progress = Endpoint(
        handler=served.progress,
        operation="create",
        resource=resource,
        produces=(),
        summary=f"how far an import of {resource.name} has come, or its report",
    )
    pattern = import_address(resource)
    yield Route(pattern=pattern, methods={"POST": run}, origin=resource.path)
    yield Route(pattern=pattern, methods={"GET": progress}, origin=resource.path)


def _export_route(resource: ResourceDefinition, served: Transfers) -> Route:
    endpoint = Endpoint(
        handler=served.export,
        operation="list",
        resource=resource,
        produces=EXPORTED_TYPES,
        summary=f"export {resource.name} to a file",
    )
    return Route(pattern=export_address(resource), methods={"GET": endpoint}, origin=resource.path)
