"""Whether a caller of something that takes long would still be let in: suspended tenants keep no stream open.

In: who was let in when it began. May raise Unauthenticated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from byodpp.authentication import Principal

__all__ = ["STANDING_SECONDS", "Standing"]

#: Raises Unauthenticated when a caller would not be let in any more.
Standing = Callable[[Principal], Awaitable[None]]

#: Between two looks.
STANDING_SECONDS: Final = 10.0
