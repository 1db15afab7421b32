"""What is told of a row before what is wrong with what is sent for it, in a batch as alone.

In: a call that names a row and was refused. Out: nothing, or what outranks the refusal: NotFound, Forbidden.
What is in order costs nothing here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from byodpp.calls import Call
from byodpp.definitions import READ_OPERATIONS, Kind
from byodpp.exceptions import (
    Forbidden,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    PreconditionRequired,
    ValidationFailed,
)

if TYPE_CHECKING:
    from byodpp.service.units import Unit

__all__ = ["require_row", "row_first"]

#: Refusals that rank below what is told of the row.
_LOWER: Final = (Forbidden, PayloadTooLarge, ValidationFailed, PreconditionFailed, PreconditionRequired)


@asynccontextmanager
async def row_first(unit: Unit, call: Call, document: Any) -> AsyncIterator[None]:
    """Look for the row of a call when the work inside is refused for something of lower rank.

    Args:
        unit: of the request. Once a statement of it has failed, no other one can be sent.
        call: that may name a row.
        document: JSON value that is sent for it.
    """
    try:
        yield
    except _LOWER:
        if unit.transaction.failure is None:
            await require_row(unit, call, document)
        raise


async def require_row(unit: Unit, call: Call, document: Any) -> None:
    """Refuse a call for the row that it names, whatever else is wrong with it.

    Args:
        unit: of the request.
        call: that names a row, or none.
        document: JSON value that is sent for it; of its fields, those count that the caller may write on
            some row.

    Raises:
        NotFound: there is none that the caller may read.
        Forbidden: he may not do this to it. What a class makes of a call is for the class to judge.
    """
    resource, operation, key, action = call.resource, call.operation, call.params.get("id"), call.action
    if resource.kind is Kind.LOGIC or key is None:
        return
    if action is not None and ("{id}" not in action.url or action.public or action.restores):
        return  # no row, or one that the caller need not be able to read
    repository = unit.repositories(resource.version, call=call)[resource.name]
    named = document if isinstance(document, Mapping) else ()
    try:
        await repository.row(key)
        if operation not in READ_OPERATIONS and unit.parts.logics.get(resource, operation) is None:
            sent = [name for name in named if call.decision.permits(name)]
            await repository.refuse_barred(key, operation, sent)
    except (Forbidden, NotFound) as error:
        error.about = error.about or (operation, resource, key)
        raise
