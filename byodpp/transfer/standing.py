"""Whether a caller of something that takes long would still be let in: suspended tenants keep no stream open.

In: who was let in when it began. May raise Unauthenticated.
"""

from __future__ import annotations

from typing import Final, Protocol

from byodpp.authentication import Principal

__all__ = ["STANDING_SECONDS", "Standing"]


class Standing(Protocol):
    """Raises Unauthenticated when a caller would not be let in any more."""

    async def __call__(self, principal: Principal, /, *, unexpired: bool = False) -> None:
        """`unexpired`: nor when the token or key has expired meanwhile."""
        ...


#: Between two looks.
STANDING_SECONDS: Final = 10.0
