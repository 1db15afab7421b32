"""What a write to the framework's own parts sets in motion, beyond the row.

Called by `stores` after each write to a part's resource, inside its transaction. Policies are
counted, so that every process reads them anew; this process forgets at once what it believes
of tenants and users. Rejects nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from byodpp.authorization.watch import BUMP, PolicyWatch
from byodpp.database import Transaction
from byodpp.definitions import ResourceDefinition

__all__ = ["PartWrites", "PartWritten"]

_POLICIES: Final = frozenset({("access", "Policies")})
_DIRECTORY: Final = frozenset({("tenancy", "Tenants"), ("access", "Users")})


class PartWritten(Protocol):
    """What `stores` calls."""

    async def __call__(self, transaction: Transaction, resource: ResourceDefinition) -> None:
        """Do what follows from a write.

        Args:
            transaction: of the write.
            resource: of a part.
        """
        ...


class PartWrites:
    """Fulfils `PartWritten` for one application."""

    def __init__(self, watch: PolicyWatch, forget: Callable[[], object]) -> None:
        """Args:
        watch: puts changed policies in force before the answer goes out.
        forget: drops what is remembered of tenants and users.
        """
        self._watch = watch
        self._forget = forget

    async def __call__(self, transaction: Transaction, resource: ResourceDefinition) -> None:
        """Do what follows from a write."""
        kind = (resource.part or "", resource.name)
        if kind in _POLICIES:
            await transaction.execute(BUMP)
            transaction.after_commit(self._watch.refresh)
        elif kind in _DIRECTORY:
            transaction.after_commit(self._forgotten)

    async def _forgotten(self) -> None:
        self._forget()
