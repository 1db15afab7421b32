"""Agrees with the client on the type of the answer.

In: a request. Out: the same with `response_type`. May reject: NotAcceptable.
"""

from __future__ import annotations

from byodpp.negotiation import Negotiator
from byodpp.requests import Request

__all__ = ["Negotiation"]


class Negotiation:
    """Stage of every route that does not answer with whatever it likes."""

    def __init__(self, negotiator: Negotiator, produces: tuple[str, ...]) -> None:
        """Args:
        negotiator: reads Accept headers.
        produces: media types of the route, best first.
        """
        self._negotiator = negotiator
        self._produces = produces

    def __call__(self, request: Request) -> None:
        """Choose."""
        accept = request.header(b"accept")
        request.response_type = self._negotiator.choose(accept, self._produces, request.version)
