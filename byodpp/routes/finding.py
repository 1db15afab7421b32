"""What a method and a path lead to, without a request: for questions about rights.

In: the registry and the map of logic classes. Out: resource, operation, and the row that the address
names. May reject what the table of routes rejects (Malformed, NotFound, MethodNotAllowed).
"""

from __future__ import annotations

from functools import cached_property

from byodpp.access_questions import FoundRoute
from byodpp.addresses import addresses
from byodpp.exceptions import NotFound
from byodpp.logics import LogicMap
from byodpp.registry import Registry
from byodpp.requests import Request
from byodpp.responses import Answer
from byodpp.routes.table import Endpoint, Route, RouteTable

__all__ = ["RouteFinder"]


class RouteFinder:
    """Finds routes of resources; its table is built by the first question."""

    def __init__(self, registry: Registry, logics: LogicMap) -> None:
        """Args:
        registry: of the application.
        logics: of the same.
        """
        self._registry = registry
        self._logics = logics

    def __call__(self, method: str, path: str) -> FoundRoute | None:
        """Return what a method and a path lead to; None: to no operation of a resource."""
        found = self._table.find(method, path.partition("?")[0].encode())
        if found is None or found[0].resource is None:
            return None
        endpoint, params = found
        assert endpoint.resource is not None
        return FoundRoute(resource=endpoint.resource, operation=endpoint.operation, id=params.get("id"))

    @cached_property
    def _table(self) -> RouteTable:
        return RouteTable.build(
            Route(
                pattern=one.url,
                methods={one.method: Endpoint(handler=_unserved, operation=one.operation, resource=resource)},
            )
            for resource in self._registry
            for one in addresses(resource, self._logics)
        )


async def _unserved(request: Request) -> Answer:
    raise NotFound("This table is looked into, and never serves.")
