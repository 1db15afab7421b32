"""How far an import has come: rows of `byodpp.imports`, written with the rows that were imported.

An import is what its key says: the caller's `Idempotency-Key`, his own; or, without one, the hash of
the file, the same for everybody of the tenant. Its row counts what is done, in the transaction that
does it, so that after a crash it tells exactly where to go on. While it runs an advisory lock stands
for it, so that a twin is told at once; should two nevertheless meet, the `turn` lets the later one go
on. What has ended is remembered for a day, and its report for a week. May reject:
IdempotencyInProgress, IdempotencyKeyReused, Conflict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from byodpp import wire
from byodpp.database import Transaction
from byodpp.exceptions import Conflict, IdempotencyInProgress, IdempotencyKeyReused
from byodpp.transfer.judging import Reject

__all__ = [
    "MOST_REJECTS",
    "Identity",
    "Progress",
    "Step",
    "advance",
    "claim",
    "conclude",
    "find",
    "forget",
    "rejects",
]

#: Refusals that are kept of one import; of more only the number is.
MOST_REJECTS: Final = 100_000

_LOCK: Final = "select pg_try_advisory_lock(hashtextextended($1, 0))"
_PURGE: Final = """
with old as (delete from byodpp.imports where tenant_id = $1 and updated_at < now() - interval '7 days'
             returning tenant_id, id)
delete from byodpp.import_rejects r using old where r.tenant_id = old.tenant_id and r.import_id = old.id
"""
_COLUMNS: Final = (
    "id, file_hash, state, turn, records, line, created, updated, rejected, resumed, fault,"
    " created_at < now() - interval '24 hours' as old"
)
_BEGIN: Final = """
insert into byodpp.imports (tenant_id, user_id, resource, key, file_hash, operation, state)
values ($1, $2, $3, $4, $5, $6, 'running') on conflict (tenant_id, user_id, resource, key) do nothing
"""
#: Whether nobody works on an import: whoever did has let go of its lock, or died.
_IDLE: Final = """
select not exists (
    select from pg_locks where locktype = 'advisory' and granted and objsubid = 1
    and database = (select oid from pg_database where datname = current_database())
    and (classid::bigint << 32) | objid::bigint = hashtextextended($1, 0))
"""
_FIND: Final = f"""
select {_COLUMNS} from byodpp.imports where tenant_id = $1 and user_id = $2 and resource = $3 and key = $4
"""
_TAKE_UP: Final = f"""
update byodpp.imports set turn = turn + 1, resumed = resumed + (turn > 0)::int, updated_at = now()
where tenant_id = $1 and id = $2 returning {_COLUMNS}
"""
_FORGET_REJECTS: Final = "delete from byodpp.import_rejects where tenant_id = $1 and import_id = $2"
_FORGET: Final = "delete from byodpp.imports where tenant_id = $1 and id = $2"
_ADVANCE: Final = """
update byodpp.imports set records = records + $5, line = $6, created = created + $7, updated = updated + $8,
    rejected = rejected + $9, state = $10, fault = $11, updated_at = now()
where tenant_id = $1 and id = $2 and turn = $3 and records = $4
"""
_REJECT: Final = """
insert into byodpp.import_rejects (tenant_id, import_id, record, line, error)
select $1, $2, r, l, e from unnest($3::bigint[], $4::bigint[], $5::text[]) as x(r, l, e)
"""
_REJECTS: Final = """
select record, line, error from byodpp.import_rejects
where tenant_id = $1 and import_id = $2 and record > $3 order by record limit $4
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What makes an import the same import."""

    tenant_id: int  # of the session
    user_id: int  # 0: anybody's
    resource: str  # `v1.Products`
    key: str
    file_hash: str  # of the file and of everything that says how it is read
    operation: str

    @property
    def columns(self) -> tuple[int, int, str, str]:
        """Those of the unique key."""
        return (self.tenant_id, self.user_id, self.resource, self.key)

    @property
    def lock(self) -> str:
        """What the advisory lock of whoever works on it is made of."""
        return "import\n" + "\n".join(map(str, self.columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an import has come."""

    id: int
    tenant_id: int
    turn: int = 0
    state: str = "running"  # or interrupted, finished, failed
    records: int = 0
    line: int = 0
    created: int = 0
    updated: int = 0
    rejected: int = 0
    resumed: int = 0  # how often it was taken up again
    fault: Mapping[str, Any] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.state not in ("running", "interrupted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one transaction has added."""

    records: int
    line: int
    created: int
    updated: int
    rejects: Sequence[Reject]


async def claim(transaction: Transaction, identity: Identity, *, again: bool) -> Progress:
    """Take an import up: begin it, go on with it, or find that it has ended.

    Args:
        transaction: of the session that will do the work.
        identity: of the import.
        again: do not be content with what was imported before.

    Raises:
        IdempotencyInProgress: it is running.
        IdempotencyKeyReused: the key stands for another file, or for the same read otherwise.
    """
    if not await transaction.fetchval(_LOCK, identity.lock):
        raise IdempotencyInProgress("This import is running.", headers={"Retry-After": "5"})
    await transaction.execute(_PURGE, identity.tenant_id)
    row = await transaction.fetchrow(_FIND, *identity.columns)
    if row is not None and row["state"] != "running" and (again or row["old"]):
        await forget(transaction, identity.tenant_id, row["id"])
        row = None
    if row is None:
        await transaction.execute(_BEGIN, *identity.columns, identity.file_hash, identity.operation)
        row = await transaction.fetchrow(_FIND, *identity.columns)
    assert row is not None
    if row["file_hash"] != identity.file_hash:
        raise IdempotencyKeyReused("This key was used for another import.")
    if row["state"] == "running":
        row = await transaction.fetchrow(_TAKE_UP, identity.tenant_id, row["id"])
    return _progress(row, identity.tenant_id)


async def find(transaction: Transaction, identity: Identity) -> Progress | None:
    """Return how far an import has come; None when there is none. Its file is not looked at.

    One that has not ended, and that nobody works on any more, is told as `interrupted`.
    """
    row = await transaction.fetchrow(_FIND, *identity.columns)
    if row is None:
        return None
    found = _progress(row, identity.tenant_id)
    if not found.ended and await transaction.fetchval(_IDLE, identity.lock):
        return replace(found, state="interrupted")
    return found


async def advance(transaction: Transaction, progress: Progress, step: Step) -> Progress:
    """Count what this transaction has done.

    Raises:
        Conflict: somebody else has taken the import up.
    """
    return await _count(transaction, progress, step, "running", None)


async def conclude(
    transaction: Transaction, progress: Progress, fault: Mapping[str, Any] | None = None
) -> Progress:
    """Say that the import has ended: finished, or failed with the fault of its file."""
    step = Step(records=0, line=progress.line, created=0, updated=0, rejects=())
    return await _count(transaction, progress, step, "finished" if fault is None else "failed", fault)


async def forget(transaction: Transaction, tenant_id: int, id: int) -> None:
    """Remove an import as if it had never been."""
    await transaction.execute(_FORGET_REJECTS, tenant_id, id)
    await transaction.execute(_FORGET, tenant_id, id)


async def rejects(
    transaction: Transaction, progress: Progress, *, after: int = 0, most: int = 100
) -> list[Reject]:
    """Return kept refusals in the order of the file.

    Args:
        transaction: reads.
        progress: of the import.
        after: record after which they begin.
        most: of them.
    """
    rows = await transaction.fetch(_REJECTS, progress.tenant_id, progress.id, after, most)
    return [
        Reject(record=row["record"], line=row["line"], error=wire.loads(row["error"].encode()))
        for row in rows
    ]


async def _count(
    transaction: Transaction, progress: Progress, step: Step, state: str, fault: Mapping[str, Any] | None
) -> Progress:
    written = await transaction.execute(
        _ADVANCE, progress.tenant_id, progress.id, progress.turn, progress.records, step.records, step.line,
        step.created, step.updated, len(step.rejects), state, None if fault is None else json.dumps(fault),
    )  # fmt: skip
    if written != "UPDATE 1":
        raise Conflict("Another request has taken this import up.")
    kept = step.rejects[: max(0, MOST_REJECTS - progress.rejected)]
    if kept:
        columns = [[one.record for one in kept], [one.line for one in kept]]
        errors = [wire.dumps(dict(one.error)).decode() for one in kept]
        await transaction.execute(_REJECT, progress.tenant_id, progress.id, *columns, errors)
    return replace(
        progress,
        state=state,
        records=progress.records + step.records,
        line=step.line,
        created=progress.created + step.created,
        updated=progress.updated + step.updated,
        rejected=progress.rejected + len(step.rejects),
        fault=fault,
    )


def _progress(row: Any, tenant_id: int) -> Progress:
    fault = row["fault"]
    names = ("id", "turn", "state", "records", "line", "created", "updated", "rejected", "resumed")
    told = {name: row[name] for name in names}
    return Progress(**told, tenant_id=tenant_id, fault=None if fault is None else json.loads(fault))
