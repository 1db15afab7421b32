"""Routes: which endpoint an address leads to.

`table` is the table router over `tree`, the segments of the paths; `resources` and `identity` make the
routes of every resource and of the local issuer.
"""

from __future__ import annotations

from byodpp.routes.table import (
    JSON_BODY,
    PATCH_BODY,
    Body,
    Endpoint,
    Handler,
    ListedRoute,
    Route,
    RouteTable,
    Stage,
    chain,
)

__all__ = [
    "JSON_BODY",
    "PATCH_BODY",
    "Body",
    "Endpoint",
    "Handler",
    "ListedRoute",
    "Route",
    "RouteTable",
    "Stage",
    "chain",
]
