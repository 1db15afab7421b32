"""Turns the JSON body into the values that the schema makes of it.

In: a request with parsed JSON. Out: the same with `validated`. May reject: ValidationFailed,
with every fault at once, and Conflict (a batch that names a row twice). Whether the schema is
that of one row, of an action or of a batch is the endpoint's affair: each brings its `load`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from byodpp.requests import Request

__all__ = ["Validation"]

#: A list of steps says nothing about the row by itself; the controller applies it first.
_STEPS: Final = "application/json-patch+json"


class Validation:
    """Stage of routes with a schema."""

    def __init__(self, load: Callable[[Any, Any], Any]) -> None:
        """Args:
        load: takes a JSON value, None for no body, and the principal; returns what the schema makes of it.
        """
        self._load = load

    async def __call__(self, request: Request) -> None:
        """Validate."""
        if request.media_type != _STEPS:
            document = request.json if request.body else None
            request.validated = await request.aside(partial(self._load, document, request.principal))
