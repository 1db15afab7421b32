"""Procedures: what is under way with a tenant, step by step, kept in `byodpp.tenant_procedures`.

A step and the note that it is done commit together. What a step does elsewhere may therefore
happen twice, when the process dies in between, and never goes missing: it must be repeatable.
Two processes that take up the same procedure go through it hand in hand, one step at a time.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from byodpp import wire
from byodpp.authentication import Principal
from byodpp.calls import Origin
from byodpp.database import Database, Transaction
from byodpp.exceptions import ApiError, Conflict, MigrationError
from byodpp.service import Service
from byodpp.service.units import Unit

__all__ = ["GIVING_UP", "PATIENT", "Procedure", "Procedures", "PutBack", "Step", "left_open"]

#: Held while something is begun, so that of two at the same moment the second one sees the first, and by the
#: step of an onboarding that finds out whose it is; always before the row of a procedure.
_ALONE: Final = "select pg_advisory_xact_lock(hashtextextended('byodpp procedures', 0))"
#: How often what is under way is looked for, as it may end between two statements.
_LOOKS: Final = 3
#: Step whose result says of whom a procedure is that did not know it when it was begun.
WHOSE: Final = "tenant"
#: Step after which a procedure can only be given up.
GIVING_UP: Final = "giving up"

#: Of whom a procedure is, as text: a tenant may have got another slug since. Null until one has been made.
_WHOSE: Final = "coalesce(given->>'tenant', done->'tenant'->>'id')"
_BEGIN: Final = f"""
    insert into byodpp.tenant_procedures (kind, slug, given)
    select $1, $2, $3::jsonb where not exists
        (select from byodpp.tenant_procedures where finished_at is null and {_WHOSE} = $4::text)
    on conflict (slug) where finished_at is null do nothing
"""
_SELECT: Final = (
    f"select id, kind, slug, given, done, failure, begun_at, {_WHOSE} as whose"
    " from byodpp.tenant_procedures where "
)
#: First that of the tenant itself, then that of one which had its slug before.
_FIND: Final = (
    f"{_SELECT} finished_at is null and (slug = $1 or {_WHOSE} = $2::text)"
    f" order by {_WHOSE} is not distinct from $2::text desc limit 1"
)
#: One of which nobody takes a step at this moment; nobody takes one from now on.
_HOLD: Final = f"{_SELECT} id = $1 and finished_at is null for update skip locked"
_UNFINISHED: Final = f"{_SELECT} finished_at is null order by id"
_LAST_MOVE: Final = (
    f"{_SELECT} finished_at is not null and kind = 'move' and coalesce({_WHOSE}, $2::text) = $2::text"
    f" and (slug = $1 or {_WHOSE} is not null) order by id desc limit 1"
)
#: What else is under way with the tenant whose a procedure has turned out to be.
_TWICE: Final = f"{_SELECT} finished_at is null and id <> $1 and {_WHOSE} = $2::text limit 1"
_LOCK: Final = "select done, finished_at from byodpp.tenant_procedures where id = $1 for update"
#: A step may wait for the identity provider, or for tables that are made for millions of rows.
PATIENT: Final = "set local idle_in_transaction_session_timeout = '1h'"
_NOTE: Final = """
    update byodpp.tenant_procedures
    set done = done || jsonb_build_object($2::text, $3::jsonb), failure = null, changed_at = now()
    where id = $1
"""
_FAIL: Final = (
    "update byodpp.tenant_procedures set failure = $2, done = done - $3::text[], changed_at = now()"
    " where id = $1"
)
#: What was refused at its first step has not begun.
_FORGET: Final = "delete from byodpp.tenant_procedures where id = $1 and done = '{}'::jsonb"
#: What has put back everything that it did.
_PUT_BACK: Final = "delete from byodpp.tenant_procedures where id = $1"
_FINISH: Final = """
    update byodpp.tenant_procedures set finished_at = now(), changed_at = now(), failure = null
    where id = $1 and finished_at is null
"""
#: What is done beside a procedure that is under way is never unfinished: of one tenant, one is.
_BESIDE: Final = (
    "insert into byodpp.tenant_procedures (kind, slug, given, finished_at)"
    " values ($1, $2, $3::jsonb, now()) returning id"
)
_DONE_LAST: Final = (
    "select done from byodpp.tenant_procedures where finished_at is not null and kind = $1"
    f" and {_WHOSE} = $2::text order by id desc limit 1"
)
#: Whoever was let in again is suspended for nothing.
_SUSPENDED_FOR: Final = (
    "select given->>'reason' from byodpp.tenant_procedures where kind in ('suspend', 'reactivate')"
    f" and finished_at is not null and {_WHOSE} = $1::text order by finished_at desc, id desc limit 1"
)
#: What was noted by a step of the last procedure of a kind that has taken it, of a tenant and an address.
_NOTED_LAST: Final = (
    "select done->$4::text as noted, done ? $5::text as ended from byodpp.tenant_procedures"
    f" where kind = $1 and {_WHOSE} = $2::text and lower(given->>'email') = lower($3) and done ? $4::text"
    " order by id desc limit 1"
)
#: What goes on under another slug is found by that one, also when the tenant is gone; the former is free.
_CALL: Final = (
    "update byodpp.tenant_procedures set slug = $2 where id = $1 and not exists"
    " (select from byodpp.tenant_procedures where slug = $2 and finished_at is null)"
)
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
    tenant: int | None = None  # id of whose it is; None while that is not there yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: for whom it acts, and what it does."""

    name: str
    principal: Callable[[Mapping[str, Any]], Principal]  # from the results so far
    work: Callable[
        [Unit, Mapping[str, Any]], Awaitable[Any]
    ]  # returns JSON, kept as the step's result, or PutBack
    undoes: tuple[str, ...] = ()  # steps before it that are taken again when it was refused
    undone_by: type[ApiError] = ApiError  # with which refusals they are
    last: bool = False  # ends the procedure, whatever is left of it
    gives_up: bool = False  # taken also of a procedure that is being given up
    silent: bool = False  # a refusal of it is none of the procedure, which stays as it was


@dataclass(frozen=True, slots=True)
class PutBack:
    """What a step returns that has put back all that was done before it: the procedure ends with it."""

    refusal: ApiError  # raised when that is committed


class Procedures:
    """Begins procedures and takes their steps."""

    def __init__(self, database: Database, service: Service) -> None:
        self._database = database
        self._service = service

    async def begin(
        self,
        kind: str,
        slug: str,
        given: Mapping[str, Any],
        *,
        free: Collection[str] = (),
        replaced_before: str = "",
    ) -> Procedure:
        """Begin a procedure, or take up the one of this kind that is under way.

        Args:
            kind: of procedure.
            slug: of the tenant.
            given: what was asked for, with the id of the tenant as `tenant` where it is there.
            free: names of what may be said anew of one that is taken up.
            replaced_before: step before which one that has stopped is left as it is when something else is
                asked for now; empty: there is none.

        Raises:
            Conflict: something else is under way with the tenant, or this with other words.
        """
        said = wire.dumps(dict(given)).decode()
        tenant = given.get("tenant")
        async with self._database.system() as transaction:
            found = await self._begun(transaction, kind, slug, said, tenant)
            self._refuse_others(found, kind, slug, tenant)
            asked = wire.loads(said.encode())
            if _differing(found.given, asked) or found.slug != slug:
                found = await _held(transaction, found)
            differing = _differing(found.given, asked)
            if differing - set(free):
                if found.failure is None or not replaced_before or replaced_before in found.done:
                    raise _said_otherwise(found, differing - set(free))
                await transaction.execute(_FINISH, found.id)
                found = await self._begun(transaction, kind, slug, said, tenant)
            elif differing:
                await transaction.execute(_AGAIN, found.id, said)
            if found.slug != slug:
                await transaction.execute(_CALL, found.id, slug)
        return found

    async def _begun(
        self, transaction: Transaction, kind: str, slug: str, said: str, tenant: int | None
    ) -> Procedure:
        """Begin it unless something is under way, and return what is then.

        Raises:
            Conflict: whatever was under way has ended at every look.
        """
        whose = None if tenant is None else str(tenant)
        await transaction.execute(_ALONE)
        for _ in range(_LOOKS):
            await transaction.execute(_BEGIN, kind, slug, said, whose)
            row = await transaction.fetchrow(_FIND, slug, whose)
            if row is not None:
                return _procedure(row)
        raise Conflict(f"What was under way with tenant {slug!r} has ended just now: try again")

    def _refuse_others(self, found: Procedure, kind: str, slug: str, tenant: int | None) -> None:
        if tenant is not None and found.tenant not in (None, tenant):
            told = (
                f"Under way is the {_begun(found)}, of tenant {found.tenant}, which was called {slug!r} then"
            )
            now = found.given.get("ulid")
            by = "the slug that it has now, or its ULID" if now is None else f"its ULID, {now}"
            raise Conflict(f"{told}: finish that first, by {by}")
        if found.kind != kind:
            raise _something_else(found, slug)

    async def under_way(self, slug: str, tenant: int) -> Procedure | None:
        """Return what is under way with a tenant, whatever it was called when that began."""
        found = await self.in_the_way(slug, tenant)
        return found if found is None or found.tenant in (None, tenant) else None

    async def in_the_way(self, slug: str, tenant: int) -> Procedure | None:
        """Return what is under way with a tenant, else with one that had its slug then."""
        async with self._database.system() as transaction:
            row = await transaction.fetchrow(_FIND, slug, str(tenant))
        return None if row is None else _procedure(row)

    async def given_up(self, slug: str, tenant: int) -> Procedure | None:
        """Return the last move of a tenant when it was given up."""
        async with self._database.system() as transaction:
            row = await transaction.fetchrow(_LAST_MOVE, slug, str(tenant))
        found = None if row is None else _procedure(row)
        return found if found is not None and GIVING_UP in found.done else None

    async def forget(self, procedure: Procedure) -> bool:
        """Forget a procedure that has taken no step; whether that is so."""
        async with self._database.system() as transaction:
            return str(await transaction.execute(_FORGET, procedure.id)) != "DELETE 0"

    async def unfinished(self) -> list[Procedure]:
        """Return what is under way, oldest first."""
        async with self._database.system() as transaction:
            return [_procedure(row) for row in await transaction.fetch(_UNFINISHED)]

    async def take(self, procedure: Procedure, step: Step, results: Mapping[str, Any]) -> tuple[Any, bool]:
        """Take a step unless it is taken; return its result, and whether it was taken now.

        Raises:
            ApiError, MigrationError: as the step raises; noted with the procedure, as a defect is, unless the
                step is silent. The procedure is forgotten if it was its first, or if the step has put
                everything back.
        """
        principal = step.principal(results)
        name = f"procedure-{procedure.id}"
        origin = Origin(request_id=name, correlation_id=name, user_agent="byodpp tenants")
        try:
            if principal.session.database is None:
                return await self._together(procedure, step, results, principal, origin)
            return await self._apart(procedure, step, results, principal, origin)
        except Exception as error:  # a defect, too, has to be seen in the list of tenants
            if not step.silent:
                await self._stopped(procedure, step, error)
            raise

    async def _stopped(self, procedure: Procedure, step: Step, error: Exception) -> None:
        """Note why a procedure has stopped; forget it if that was its first step."""
        undone = step.undoes if isinstance(error, (step.undone_by, MigrationError)) else ()
        async with self._database.system() as transaction:
            await transaction.execute(_FORGET, procedure.id)
            await transaction.execute(_FAIL, procedure.id, f"{step.name}: {_why(error)}"[:1000], list(undone))

    async def _together(
        self,
        procedure: Procedure,
        step: Step,
        results: Mapping[str, Any],
        principal: Principal,
        origin: Origin,
    ) -> tuple[Any, bool]:
        """Take a step in one transaction with the note that it is done."""
        taken = False
        finds = procedure.tenant is None and step.name == WHOSE

        async def work(unit: Unit) -> Any:
            nonlocal taken
            if finds:  # before the procedure itself: who begins something holds both, in this order
                await unit.transaction.execute(_ALONE)
            done = await _done(unit.transaction, procedure, step)
            if step.name in done:
                return done[step.name]
            result = await step.work(unit, results)
            if isinstance(result, PutBack):
                await unit.transaction.execute(_PUT_BACK, procedure.id)
                return result
            await unit.transaction.execute(_NOTE, procedure.id, step.name, json.dumps(result))
            if finds:
                await _refuse_second(unit.transaction, procedure, result["id"])
            if step.last:
                await unit.transaction.execute(_FINISH, procedure.id)
            taken = True
            return result

        result = await self._service.as_system(principal, origin, work)
        if isinstance(result, PutBack):
            raise result.refusal
        return result, taken

    async def _apart(
        self,
        procedure: Procedure,
        step: Step,
        results: Mapping[str, Any],
        principal: Principal,
        origin: Origin,
    ) -> tuple[Any, bool]:
        """Take a step in the database of a tenant; the note that it is done is committed after it."""
        async with self._database.system() as transaction:
            done = await _done(transaction, procedure, step)
            if step.name in done:
                return done[step.name], False

            async def work(unit: Unit) -> Any:
                await unit.transaction.execute(PATIENT)
                return await step.work(unit, results)

            result = await self._service.as_system(principal, origin, work)
            await transaction.execute(_NOTE, procedure.id, step.name, json.dumps(result))
        return result, True

    async def at_once(
        self, kind: str, slug: str, given: Mapping[str, Any], steps: Sequence[Step]
    ) -> AsyncIterator[Step]:
        """Take steps beside a procedure that is under way, each in a transaction of its own; yield each.

        Which are taken is noted after each, so that it is known of one that was cut off.

        Args:
            kind: of procedure.
            slug: of the tenant.
            given: what was asked for, with the id of the tenant as `tenant`.
            steps: that are to be taken.

        Raises:
            ApiError: as the steps raise.
        """
        name = "procedure-at-once"
        origin = Origin(request_id=name, correlation_id=name, user_agent="byodpp tenants")
        said = wire.dumps(dict(given)).decode()
        async with self._database.system() as transaction:
            id = await transaction.fetchval(_BESIDE, kind, slug, said)
        results = dict[str, Any]()
        for step in steps:
            try:
                results[step.name] = await self._once(step, dict(results), origin)
            except Exception:  # nothing of it was cut off: it has ended, a defect or not
                async with self._database.system() as transaction:
                    await transaction.execute(_FORGET, id)
                raise
            async with self._database.system() as transaction:
                await transaction.execute(_NOTE, id, step.name, json.dumps(results[step.name]))
            yield step

    async def cut_off(self, kind: str, tenant: int, last: str) -> bool:
        """Whether the last one of a kind, of a tenant, was taken beside another, and not to its last step."""
        async with self._database.system() as transaction:
            row = await transaction.fetchrow(_DONE_LAST, kind, str(tenant))
        return row is not None and last not in wire.loads(row["done"].encode())

    async def suspended_for(self, tenant: int) -> str | None:
        """Return the reason with which a tenant was suspended last; None: not by a procedure."""
        async with self._database.system() as transaction:
            found: str | None = await transaction.fetchval(_SUSPENDED_FOR, str(tenant))
        return found

    async def _once(self, step: Step, results: Mapping[str, Any], origin: Origin) -> Any:
        async def work(unit: Unit) -> Any:
            return await step.work(unit, results)

        return await self._service.as_system(step.principal(results), origin, work)

    async def finish(self, procedure: Procedure) -> None:
        """Note that nothing is left to do."""
        async with self._database.system() as transaction:
            await transaction.execute(_FINISH, procedure.id)


async def left_open(
    transaction: Transaction, kind: str, tenant: int, email: str, step: str, ending: str
) -> Mapping[str, Any] | None:
    """Return what a step noted that another one was to end, of a procedure that gave its place to others.

    Args:
        transaction: that reads procedures.
        kind: of procedure.
        tenant: its id.
        email: whom the procedure is about.
        step: whose result it is, an object.
        ending: step that ends what that one began.

    Returns:
        None: there is no such procedure, or the last one has taken the step that ends it.
    """
    row = await transaction.fetchrow(_NOTED_LAST, kind, str(tenant), email, step, ending)
    if row is None or row["ended"]:
        return None
    noted: Mapping[str, Any] = wire.loads(row["noted"].encode())
    return noted


async def _held(transaction: Transaction, procedure: Procedure) -> Procedure:
    """Return a procedure as it is now, that is to go on otherwise; nobody takes a step of it meanwhile.

    Raises:
        Conflict: somebody takes one at this moment; everything else would wait with us.
    """
    row = await transaction.fetchrow(_HOLD, procedure.id)
    if row is None:
        raise Conflict(f"A step of this is being taken just now: {_begun(procedure)}. Try again after it")
    return _procedure(row)


async def _refuse_second(transaction: Transaction, procedure: Procedure, tenant: int) -> None:
    """See that nothing else is under way with the tenant that a procedure has found.

    Raises:
        Conflict: something is, begun when the tenant had another slug.
    """
    row = await transaction.fetchrow(_TWICE, procedure.id, str(tenant))
    if row is not None:
        raise _something_else(_procedure(row), procedure.slug)


async def _done(transaction: Transaction, procedure: Procedure, step: Step) -> Mapping[str, Any]:
    """Return the results of the steps that are taken; nobody else takes one meanwhile.

    Raises:
        Conflict: the procedure was given up, or is about to be, or has put back what it did.
    """
    await transaction.execute(PATIENT)
    row = await transaction.fetchrow(_LOCK, procedure.id)
    done: Mapping[str, Any] = {} if row is None else wire.loads(row["done"].encode())
    # One that has put everything back is not there any more: a process that is amid its steps must not go on.
    if row is None or (row["finished_at"] is not None and step.name not in done):
        raise Conflict(f"The {procedure.kind} of tenant {procedure.slug!r} was given up")
    if GIVING_UP in done and not step.gives_up:
        again = f"finish that with `byodpp tenants migrate {procedure.slug} --abandon`"
        raise Conflict(f"The {procedure.kind} of tenant {procedure.slug!r} is being given up: {again}")
    return done


def _procedure(row: Any) -> Procedure:
    return Procedure(
        id=row["id"],
        kind=row["kind"],
        slug=row["slug"],
        given=wire.loads(row["given"].encode()),
        done=wire.loads(row["done"].encode()),
        failure=row["failure"],
        begun_at=row["begun_at"],
        tenant=None if row["whose"] is None else int(row["whose"]),
    )


def _why(error: Exception) -> str:
    if isinstance(error, ApiError):
        faults = "; ".join(f"{one.field}: {one.message}" for one in error.details)
        return f"{error.message} {faults}".rstrip()
    return str(error) if isinstance(error, MigrationError) else f"{type(error).__name__}: {error}"


def _differing(begun: Mapping[str, Any], given: Mapping[str, Any]) -> set[str]:
    """Return the names of what was said otherwise; older programs did not note the tenant."""
    names = begun.keys() | given.keys()
    if "tenant" not in begun:
        names = names - {"tenant"}
    return {name for name in names if begun.get(name) != given.get(name)}


def _begun(found: Procedure) -> str:
    return f"{found.kind}, begun {found.begun_at:%Y-%m-%d %H:%M}"


def _something_else(found: Procedure, slug: str) -> Conflict:
    told = f"Something else is under way with tenant {slug!r}: {_begun(found)}"
    return Conflict(f"{told}. Finish that first, by the same command")


def _said_otherwise(found: Procedure, differing: Collection[str]) -> Conflict:
    told = ", ".join(f"{name} {wire.dumps(found.given.get(name)).decode()}" for name in sorted(differing))
    return Conflict(
        f"The {found.kind} of tenant {found.slug!r} that is under way was begun with {told}: finish it so"
        " first, by the same command"
    )
