"""Modifiers for logic classes: a class of a patch sees values, never what is to be done to them.

In: a judged patch that a class is about to serve. Out: the same with each modifier replaced by
what it makes of the row, which stays locked until the end of the transaction. May reject: NotFound
(no such row for the caller), Forbidden (he may not read what he modifies), Conflict (a result
that is no value of its field).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import marshmallow

from byodpp.calls import Call
from byodpp.fields import FieldFault
from byodpp.repository.outcomes import unfit
from byodpp.schemas.modifiers import Modifier, applied
from byodpp.statements.modifiers import TWICE

if TYPE_CHECKING:
    from byodpp.service.units import Unit

__all__ = ["as_values"]


async def as_values(unit: Unit, call: Call) -> Call:
    """Return the patch in values.

    Args:
        unit: whose transaction it is.
        call: of a patch.
    """
    modifiers = {name: one for name, one in call.body.items() if isinstance(one, Modifier)}
    if not modifiers:
        return call
    resource, key = call.resource, call.params["id"]
    repository = unit.repositories(resource.version, call=call)[resource.name]
    row = await repository.locked(key)
    await repository.refuse_unreadable(key, [(name, one.kind) for name, one in modifiers.items()])
    values: dict[str, Any] = {}
    faulty = []
    for name, modifier in modifiers.items():
        try:
            values[name] = applied(modifier, row[name], resource.fields[name])
        except FieldFault as fault:
            faulty.append(name + TWICE if fault.code == "unique_items" else name)
        except marshmallow.ValidationError:
            faulty.append(name)
    if faulty:
        raise unfit(faulty)
    return call.having(body={**call.body, **values})
