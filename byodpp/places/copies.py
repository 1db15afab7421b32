"""Read-only copies of what tenants refer to and do not own, in a database that one of them has for itself.

Copied are shared tables, the platform's rows of libraries, and the rows of Tenants that its own rows need:
the platform's and its own. A copy is compared with its source by count and checksum; where they differ, the
rows that differ are brought over. What a tenant's rows still refer to is not deleted. A row that
collides with what stays is left as it was, and told of; the others are brought, also when they have
exchanged unique values among each other.

In: the database that all tenants share, and a place. Out: how many rows were changed there. May reject:
what either database rejects but for such rows; nothing was changed then.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from byodpp.database import Database, Transaction
from byodpp.definitions import Scope
from byodpp.exceptions import ReferencedConflict, UniqueConflict, ValidationFailed
from byodpp.places.bringing import bring, exchangeable
from byodpp.places.copied import Copied

__all__ = ["Copies"]

_log: Final = logging.getLogger(__name__)

_LOCK: Final = "select pg_try_advisory_xact_lock(hashtextextended('byodpp copies', 0))"
_WAIT: Final = "select pg_advisory_xact_lock(hashtextextended('byodpp copies', 0))"
#: Lets the triggers pass that keep everybody else from changing a copy.
PASS: Final = "set local byodpp.moving = 'on'"
_THERE: Final = "select tenant_id from byodpp.tenant_places where place = $1 order by tenant_id"
#: For what one table takes, in either database.
_LONGEST_SECONDS: Final = 600
#: One row is not as the others let it be.
_REFUSED: Final = (UniqueConflict, ReferencedConflict, ValidationFailed)
#: Ids of rows by table.
_Ids: TypeAlias = Mapping[str, Sequence[str]]


class Copies:
    """Keeps the copies of one place."""

    def __init__(self, tables: Sequence[Copied], shared: Database, place: Database, name: str) -> None:
        """Args:
        tables: of which the place has copies, those referred to first.
        shared: where the rows are.
        place: where the copies are.
        name: of the place.
        """
        self._tables = tuple(tables)
        self._shared = shared
        self._place = place
        self._name = name
        self._kept: set[str] = set()  # what could not be done, told once

    async def refresh(self, *, coming: int | None = None) -> int:
        """Bring the copies up to date; return how many rows were changed.

        Args:
            coming: a tenant that will be there.

        Raises:
            ApiError: one of the databases could not do it.
        """
        async with self._shared.system() as source:
            tenants = [row["tenant_id"] for row in await source.fetch(_THERE, self._name)]
            if coming is not None and coming not in tenants:
                tenants.append(coming)
            if not tenants:
                return 0
            async with self._place.system() as target:
                if coming is None:
                    if not await target.fetchval(_LOCK):
                        return 0  # another process is at it
                    tenants = [row["tenant_id"] for row in await source.fetch(_THERE, self._name)]
                await source.be_patient(_LONGEST_SECONDS)
                await target.be_patient(_LONGEST_SECONDS)
                await target.execute(PASS)
                return await self._all(source, target, tenants)

    async def forget(self, tenant: int) -> None:
        """Delete the copy of a tenant's record when the tenant is no more there."""
        selves = [one.name for one in self._tables if one.scope is Scope.SELF]
        async with self._place.system() as target:
            await target.be_patient(_LONGEST_SECONDS)
            await target.execute(_WAIT)  # who is refreshing may still believe that it is there
            await target.execute(PASS)
            for name in selves:
                await target.execute(f"delete from {name} where id = $1", tenant)

    async def _all(self, source: Transaction, target: Transaction, tenants: Sequence[int]) -> int:
        gone: dict[str, list[str]] = {}
        different: dict[str, list[str]] = {}
        for one in self._tables:
            if await _digest(source, one, tenants) == await _digest(target, one, tenants, all_rows=True):
                continue
            here, there = (
                await _hashes(source, one, tenants),
                await _hashes(target, one, tenants, all_rows=True),
            )
            different[one.name] = [id for id, hash in here.items() if there.get(id) != hash]
            gone[one.name] = [id for id in there if id not in here]
        # What is gone is deleted when nothing that was brought refers to it any more; a row that was made
        # again with the unique values of one that is gone finds room after that.
        left = await self._bring_all(source, target, different)
        stay = await self._delete_all(target, gone)
        left = await self._bring_all(source, target, left)
        left = await self._exchange_all(source, target, left)
        return _number(different) + _number(gone) - _number(left) - _number(stay)

    async def _delete_all(self, target: Transaction, gone: _Ids) -> _Ids:
        """Delete copies whose rows are no more, but those that a row refers to; return which these are."""
        stay: dict[str, list[str]] = {}
        for one in reversed(self._tables):
            sql = f"delete from {one.name} where id = any($1::text[]::{one.key_type}[])"

            async def delete(some: Sequence[str], sql: str = sql) -> None:
                await target.execute(sql, list(some))

            stay[one.name], reason = await _as_many_as_possible(target, gone.get(one.name, ()), delete)
            self._tell(f"{one.name} that are referred to stay", stay[one.name], reason)
        return stay

    async def _bring_all(self, source: Transaction, target: Transaction, different: _Ids) -> _Ids:
        """Bring rows over, but those that do not fit beside what is there; return which these are."""
        left: dict[str, list[str]] = {}
        for one in self._tables:

            async def some_of(some: Sequence[str], one: Copied = one) -> None:
                await bring(source, target, one, some)

            left[one.name], _ = await _as_many_as_possible(target, different.get(one.name, ()), some_of)
        return left

    async def _exchange_all(self, source: Transaction, target: Transaction, ids: _Ids) -> _Ids:
        """Bring rows that have exchanged their unique values; return which others are left."""
        left: dict[str, list[str]] = {}
        for one in self._tables:
            wanted, reason = ids.get(one.name, ()), "a row that stays has one of their unique values"
            some = await exchangeable(source, target, one, wanted)
            refused: list[str] = []
            if some:

                async def exchange(some: Sequence[str], one: Copied = one) -> None:
                    await bring(source, target, one, some, anew=True)

                refused, reason = await _as_many_as_possible(target, some, exchange)
            left[one.name] = [id for id in wanted if id not in some or id in refused]
            self._tell(f"{one.name} are not up to date", left[one.name], reason)
        return left

    def _tell(self, what: str, ids: Sequence[str], reason: str) -> None:
        if ids and what not in self._kept:
            _log.warning("copies in the place %s: %d of %s: %s", self._name, len(ids), what, reason)
        (self._kept.add if ids else self._kept.discard)(what)


def _number(ids: _Ids) -> int:
    return sum(map(len, ids.values()))


async def _as_many_as_possible(
    target: Transaction, ids: Sequence[str], work: Callable[[Sequence[str]], Awaitable[None]]
) -> tuple[list[str], str]:
    """Do something with all rows at once, or, where one is refused, with each that is not.

    Returns:
        The rows that were refused, and why the last of them was.
    """
    if not ids:
        return [], ""
    left, reason = [], ""
    try:
        async with target.savepoint():
            await work(ids)
    except _REFUSED as error:
        if len(ids) == 1:
            return list(ids), error.message
        for id in ids:
            try:
                async with target.savepoint():
                    await work([id])
            except _REFUSED as refused:
                left.append(id)
                reason = refused.message
    return left, reason


async def _digest(
    transaction: Transaction, one: Copied, tenants: Sequence[int], *, all_rows: bool = False
) -> tuple[str, str, str]:
    row: Any = await transaction.fetchrow(
        "select count(*)::text as rows, coalesce(sum(hashtextextended(r, 0)::numeric), 0)::text as first,"
        " coalesce(sum(hashtextextended(r, 1)::numeric), 0)::text as second"
        f" from (select row(s.*)::text as r from ({_selected(one, tenants, all_rows)}) s) h"
    )
    return row["rows"], row["first"], row["second"]


async def _hashes(
    transaction: Transaction, one: Copied, tenants: Sequence[int], *, all_rows: bool = False
) -> Mapping[str, int]:
    rows = await transaction.fetch(
        "select s.id::text as id, hashtextextended(row(s.*)::text, 0) as hash"
        f" from ({_selected(one, tenants, all_rows)}) s"
    )
    return {row["id"]: row["hash"] for row in rows}


def _selected(one: Copied, tenants: Sequence[int], all_rows: bool) -> str:
    """Return the rows that are copied; in the place, all but the tenant's own."""
    which = "true" if all_rows and one.scope is not Scope.LIBRARY else one.rows(tenants)
    return f"select {one.values()} from {one.name} where {which}"
