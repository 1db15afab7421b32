"""Procedures: what is under way with a tenant, step by step, kept in `byodpp.tenant_procedures`.

A step and the note that it is done commit together. What a step does elsewhere may therefore
happen twice, when the process dies in between, and never goes missing: it must be repeatable.
Two processes that take up the same procedure go through it hand in hand, one step at a time.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from byodpp import wire
from byodpp.authentication import Principal
from byodpp.calls import Origin
from byodpp.database import Database
from byodpp.exceptions import ApiError, Conflict
from byodpp.service import Service
from byodpp.service.units import Unit

__all__ = ["Procedure", "Procedures", "Step"]

_BEGIN: Final = """
    insert into byodpp.tenant_procedures (kind, slug, given) values ($1, $2, $3::jsonb)
    on conflict (slug) where finished_at is null do nothing returning id
"""
_FIND: Final = (
    "select id, kind, slug, given, done, failure, begun_at from byodpp.tenant_procedures"
    " where slug = $1 and finished_at is null"
)
_UNFINISHED: Final = (
    "select id, kind, slug, given, done, failure, begun_at from byodpp.tenant_procedures"
    " where finished_at is null order by id"
)
_LOCK: Final = "select done, finished_at from byodpp.tenant_procedures where id = $1 for update"
#: A step may wait for the identity provider, or for tables that are made for millions of rows.
_PATIENT: Final = "set local idle_in_transaction_session_timeout = '1h'"
_NOTE: Final = """
    update byodpp.tenant_procedures
    set done = done || jsonb_build_object($2::text, $3::jsonb), failure = null, changed_at = now()
    where id = $1
"""
_FAIL: Final = "update byodpp.tenant_procedures set failure = $2, changed_at = now() where id = $1"
#: What was refused at its first step has not begun, and keeps nothing else waiting.
_FORGET: Final = "delete from byodpp.tenant_procedures where id = $1 and done = '{}'::jsonb"
_FINISH: Final = """
    update byodpp.tenant_procedures set finished_at = now(), changed_at = now(), failure = null
    where id = $1 and finished_at is null
"""
_AGAIN: Final = "update byodpp.tenant_procedures set given = $2::jsonb where id = $1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """Something that is under way with a tenant."""

    id: int
    kind: str  # onboard, invite, suspend, reactivate, move, delete
    slug: str
    given: Mapping[str, Any]
    done: Mapping[str, Any]  # step -> its result
    failure: str | None  # why it stopped last, None while it goes on
    begun_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: for whom it acts, and what it does."""

    name: str
    principal: Callable[[Mapping[str, Any]], Principal]  # from the results so far
    work: Callable[[Unit, Mapping[str, Any]], Awaitable[Any]]  # returns JSON, kept as the step's result


class Procedures:
    """Begins procedures and takes their steps."""

    def __init__(self, database: Database, service: Service) -> None:
        self._database = database
        self._service = service

    async def begin(self, kind: str, slug: str, given: Mapping[str, Any]) -> Procedure:
        """Begin a procedure, or take up the one of this kind that is under way.

        Args:
            kind: of procedure.
            slug: of the tenant.
            given: what was asked for; of one that is taken up, it replaces what was.

        Raises:
            Conflict: something else is under way with the tenant.
        """
        said = wire.dumps(dict(given)).decode()
        async with self._database.system() as transaction:
            await transaction.execute(_BEGIN, kind, slug, said)
            found = _procedure(await transaction.fetchrow(_FIND, slug))
            if found.kind == kind and found.given != given:
                await transaction.execute(_AGAIN, found.id, said)
        if found.kind != kind:
            begun = f"{found.kind}, begun {found.begun_at:%Y-%m-%d %H:%M}"
            raise Conflict(f"Something else is under way with tenant {slug!r}: {begun}")
        return found

    async def unfinished(self) -> list[Procedure]:
        """Return what is under way, oldest first."""
        async with self._database.system() as transaction:
            return [_procedure(row) for row in await transaction.fetch(_UNFINISHED)]

    async def take(self, procedure: Procedure, step: Step, results: Mapping[str, Any]) -> tuple[Any, bool]:
        """Take a step unless it is taken; return its result, and whether it was taken now.

        Raises:
            ApiError: as the step raises; noted with the procedure, which is forgotten if it was its first.
        """
        taken = False

        async def work(unit: Unit) -> Any:
            nonlocal taken
            await unit.transaction.execute(_PATIENT)
            row = await unit.transaction.fetchrow(_LOCK, procedure.id)
            done = {} if row is None else wire.loads(row["done"].encode())
            if step.name in done:
                return done[step.name]
            result = await step.work(unit, results)
            await unit.transaction.execute(_NOTE, procedure.id, step.name, json.dumps(result))
            taken = True
            return result

        origin = Origin(
            request_id=f"procedure-{procedure.id}",
            correlation_id=f"procedure-{procedure.id}",
            user_agent="byodpp tenants",
        )
        try:
            return await self._service.as_system(step.principal(results), origin, work), taken
        except ApiError as error:
            async with self._database.system() as transaction:
                await transaction.execute(_FORGET, procedure.id)
                await transaction.execute(_FAIL, procedure.id, f"{step.name}: {error.message}"[:1000])
            raise

    async def finish(self, procedure: Procedure) -> None:
        """Note that nothing is left to do."""
        async with self._database.system() as transaction:
            await transaction.execute(_FINISH, procedure.id)


def _procedure(row: Any) -> Procedure:
    return Procedure(
        id=row["id"],
        kind=row["kind"],
        slug=row["slug"],
        given=wire.loads(row["given"].encode()),
        done=wire.loads(row["done"].encode()),
        failure=row["failure"],
        begun_at=row["begun_at"],
    )
