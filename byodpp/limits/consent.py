"""That a tenant agrees to be counted among those of its class is its own word: nobody else gives it.

Around every write to the part's Tenants, inside its transaction. May reject: Forbidden.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from byodpp.authentication import Principal
from byodpp.database import Transaction
from byodpp.exceptions import Detail, Forbidden

__all__ = ["keep_consent"]

_AGREEING: Final = "select id from tenants where analytics"


@asynccontextmanager
async def keep_consent(transaction: Transaction, author: Principal | None) -> AsyncIterator[None]:
    """See that an operator agrees for no tenant; he may end what it has agreed to.

    Args:
        transaction: of the write.
        author: of the write; None for the application itself.

    Raises:
        Forbidden: an operator wrote that a tenant agrees which had not.
    """
    if author is None or not author.platform:
        yield
        return
    before = {row["id"] for row in await transaction.fetch(_AGREEING)}
    yield
    if any(row["id"] not in before for row in await transaction.fetch(_AGREEING)):
        told = "Only the tenant's own Admins agree that it is counted."
        raise transaction.refuse_commit(Forbidden(told, details=[Detail("analytics", "forbidden", told)]))
