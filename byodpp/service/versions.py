"""Versions that a call's row must have, compared before anything is written.

In: a call inside its unit of work. Out: the call with the one version that is compared; or nothing. Locks
the row until the end of the transaction. May reject: NotFound, PreconditionFailed, InvalidHeader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from byodpp.calls import Call
from byodpp.exceptions import InvalidHeader, PreconditionFailed
from byodpp.rows import Row

if TYPE_CHECKING:
    from byodpp.service.units import Unit

__all__ = ["require_version", "settled"]


async def settled(unit: Unit, call: Call) -> Call:
    """Return a call that may find one of several versions with the one that its row has, now locked.

    Where it has none of them, the first one stays, and the write refuses it in its turn.

    Raises:
        NotFound: there is no row that the caller may read.
        InvalidHeader: the row is deleted, and brought back by one version only.
    """
    if call.action is not None and call.action.restores:
        raise InvalidHeader("A row is restored by one version: send a single entity tag.")
    row = await _locked(unit, call)
    expected = row.version if row.version in call.or_versions else call.expected_version
    return call.having(expected_version=expected, or_versions=())


async def require_version(unit: Unit, call: Call) -> None:
    """Compare the version that the row of an action must have: its class does not know of it.

    Raises:
        NotFound: there is no row that the caller may read.
        PreconditionFailed: it has another version.
    """
    row = await _locked(unit, call)
    if row.version != call.expected_version:
        told = f"The row has version {row.version}, not {call.expected_version}. Read it again."
        raise PreconditionFailed(told)


async def _locked(unit: Unit, call: Call) -> Row:
    repository = unit.repositories(call.resource.version, call=call)[call.resource.name]
    return await repository.locked(call.params["id"])
