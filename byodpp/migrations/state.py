"""Whether this program may serve that database.

It may when the database has every revision that the program needs, and beyond them only
such that expand: those leave a program that does not know them unharmed. Alembic is not asked:
`byodpp.schema_state` says what was applied, to the app role too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from byodpp.migrations.revisions import Revision, read_revisions

if TYPE_CHECKING:
    import asyncpg

__all__ = ["SYNCHRONISED", "Status", "applied_revisions", "status_of"]

#: Stands in for a revision where the schema was made from the manifest itself.
SYNCHRONISED: Final = "synchronised"
_APPLY: Final = "run `byodpp migrate apply`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a program and a database stand to each other."""

    serves: bool
    reason: str  # why not, or what is still to be done; empty when they fit
    applied: tuple[str, ...]  # revisions of the database, oldest first
    pending: tuple[str, ...]  # revisions of the program that the database lacks
    ahead: tuple[str, ...]  # revisions of the database that the program does not have


@dataclass(frozen=True, slots=True)
class AppliedRevision:
    """A line of `byodpp.schema_state`."""

    revision: str
    kind: str
    fingerprint: str


async def applied_revisions(connection: asyncpg.Connection[Any]) -> tuple[AppliedRevision, ...]:
    """Return what was applied, oldest first; nothing for a fresh database."""
    if await connection.fetchval("select to_regclass('byodpp.schema_state')") is None:
        return ()
    rows = await connection.fetch(
        "select revision, kind, fingerprint from byodpp.schema_state order by applied_at, revision"
    )
    return tuple(AppliedRevision(*row) for row in rows)


async def status_of(app_dir: Path, fingerprint: str, connection: asyncpg.Connection[Any]) -> Status:
    """Compare a program with a database.

    Args:
        app_dir: the application's folder.
        fingerprint: of the schema that its manifest wants.
        connection: of any role that may read `byodpp.schema_state`.
    """
    return _judge(read_revisions(app_dir), fingerprint, await applied_revisions(connection))


def _judge(revisions: Sequence[Revision], fingerprint: str, applied: Sequence[AppliedRevision]) -> Status:
    known = {revision.revision for revision in revisions}
    present = {one.revision for one in applied}
    pending = [revision for revision in revisions if revision.revision not in present]
    ahead = [one for one in applied if one.revision not in known and one.revision != SYNCHRONISED]
    serves, reason = _verdict(revisions, fingerprint, applied, pending, ahead)
    return Status(
        serves=serves,
        reason=reason,
        applied=tuple(one.revision for one in applied),
        pending=tuple(revision.revision for revision in pending),
        ahead=tuple(one.revision for one in ahead),
    )


def _verdict(
    revisions: Sequence[Revision],
    fingerprint: str,
    applied: Sequence[AppliedRevision],
    pending: Sequence[Revision],
    ahead: Sequence[AppliedRevision],
) -> tuple[bool, str]:
    if applied and applied[-1].fingerprint == fingerprint and applied[-1].revision == SYNCHRONISED:
        return True, ""
    if not revisions:
        return False, "there are no revisions: run `byodpp migrate new`, then `byodpp migrate apply`"
    if revisions[-1].fingerprint != fingerprint:
        return False, (
            "the manifest, or the framework's own tables, changed since the newest revision: run `byodpp migrate plan` to see how,"
            " then `byodpp migrate new` and `byodpp migrate apply`"
        )
    narrowed = [one.revision for one in ahead if one.kind != "expand"]
    if narrowed:
        return False, (
            f"the database is ahead by {', '.join(narrowed)}, which took away what this program needs:"
            " start the newer program"
        )
    urgent = [one.revision for one in pending if not one.may_wait]
    if urgent:
        return False, f"the database lacks {', '.join(one.revision for one in pending)}: {_APPLY}"
    if pending:
        waiting = ", ".join(one.revision for one in pending)
        return True, f"{waiting} may be applied once no older program runs: {_APPLY}"
    return True, ""
