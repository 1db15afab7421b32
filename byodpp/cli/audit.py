"""`audit verify`, `audit heads`: whether the audit trail is what it was, and where it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from byodpp.cli.output import print_table
from byodpp.cli.place import place_of
from byodpp.exceptions import Problem, StartError

if TYPE_CHECKING:
    import asyncpg

    from byodpp.audit import Head, Verdict
    from byodpp.settings import Settings

__all__ = ["heads", "verify"]

#: Whoever is gone is known by what deleted it; nobody, and the platform, have no id above 0.
_DELETED = (
    "select (given->>'tenant')::bigint as id, slug, given->>'ulid' as ulid from byodpp.tenant_procedures"
    " where kind = 'delete' and finished_at is not null order by id"
)
_LAST_ID = 2**63 - 1
_HEADINGS = ("tenant", "sealed", "seals", "from", "to", "unsealed", "result")


def verify(
    context: typer.Context,
    tenant: Annotated[
        str | None,
        typer.Option(help="Slug or ULID of the tenant, deleted ones too.", show_default="all tenants"),
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option(
            "--heads", metavar="FILE", help="Ends of the chains as `byodpp audit heads` printed them earlier."
        ),
    ] = None,
) -> None:
    """Verify that no entry of the audit trail was changed, deleted or put in since it was sealed.

    Says for each tenant how many entries are sealed, how many still wait, and the first break. The exit
    status is 1 when there is one.

    `byodpp audit verify --tenant acme --heads heads-of-january.json`
    """
    settings = place_of(context).settings()
    found = asyncio.run(_verify(settings, tenant, [] if known is None else _read_heads(known)))
    rows, verdicts = [_row(name, one) for name, one in found], [one for _, one in found]
    print_table(_HEADINGS, rows, empty="There is no audit entry.")
    unknown = sorted({key for one in verdicts for key in one.unknown_keys})
    if unknown:
        told = f"Seals made with another secret_key ({', '.join(unknown)}): only their hashes were checked."
        typer.echo(told, err=True)
    if not all(one.intact for one in verdicts):
        raise typer.Exit(1)


def heads(context: typer.Context) -> None:
    """Print where each tenant's chain ends, as JSON: keep it where nobody who owns the database can write.

    Entries and seals that are cut off later are missed only by who knows that they were there.

    `byodpp audit heads > heads-of-january.json`
    """
    found = asyncio.run(_heads(place_of(context).settings()))
    lines = [
        {"tenant": one.tenant_id, "number": one.number, "total": one.total, "hash": one.hash.hex()}
        for one in found
    ]
    typer.echo(json.dumps(lines, indent=1))


async def _verify(settings: Settings, slug: str | None, known: Sequence[Head]) -> list[tuple[str, Verdict]]:
    from byodpp.audit import SealKey, verify
    from byodpp.manifest import load_manifest
    from byodpp.settings.secret_key import application_secret
    from byodpp.tables import Tables

    registry = load_manifest(settings.app_dir)
    table = Tables.build(registry)[registry.get("AuditLogs")]
    key = SealKey.derived(application_secret(settings))
    async with _connections(settings) as connections:
        present = await connections[""].fetch("select id, slug, ulid from tenants")
        deleted = await connections[""].fetch(_DELETED)
        tenant = None if slug is None else _id_of(slug, present, deleted)
        names, gone = ({row["id"]: row["slug"] for row in rows} for rows in (present, deleted))
        ends = [head for head in known if tenant in (None, head.tenant_id)]
        found: list[tuple[str, Verdict]] = []
        for place, connection in connections.items():
            # Ends that are kept elsewhere are those of the database that all tenants share.
            verdicts = await verify(connection, table, [key], tenant_id=tenant, known=() if place else ends)
            at = f" at {place}" if place else ""
            found += [
                ((names.get(one.tenant_id) or _gone(one.tenant_id, gone)) + at, one)
                for one in verdicts
                if not place or one.entries or one.unsealed or one.broken
            ]
        return found


async def _heads(settings: Settings) -> list[Head]:
    from byodpp.audit import heads

    async with _connections(settings) as connections:
        return await heads(connections[""])


@asynccontextmanager
async def _connections(settings: Settings) -> AsyncIterator[dict[str, asyncpg.Connection[Any]]]:
    """Yield a connection of the system role to each database by place; that of all tenants is the first."""
    import asyncpg

    from byodpp.cli.preparation import migrated_database
    from byodpp.settings.places import place_addresses

    async with migrated_database(settings) as found:
        if found.postgres_system_uri is None:
            reason = "is needed: only the system role sees every tenant's entries"
            raise StartError([Problem("postgres_system_uri", reason, "Set POSTGRES_SYSTEM_URI.")])
        async with AsyncExitStack() as opened:
            connections = {}
            places = {one.name: one.system_uri for one in place_addresses(found)}
            for name, uri in {"": found.postgres_system_uri, **places}.items():
                try:
                    connections[name] = await asyncpg.connect(uri, timeout=30)
                except (OSError, asyncpg.PostgresError) as error:
                    if not name:
                        raise
                    reason = f"is away ({type(error).__name__}), and its chains were not looked at"
                    raise StartError([Problem(f"place {name}", reason)]) from error
                opened.push_async_callback(connections[name].close)
            yield connections


def _gone(tenant: int, slugs: dict[int, str]) -> str:
    """Return what a tenant is called that is not there any more."""
    return str(tenant) if tenant <= 0 else f"{slugs.get(tenant, tenant)} (deleted)"


def _id_of(name: str, present: Sequence[Any], deleted: Sequence[Any]) -> int:
    """Return the id of the tenant with a slug or ULID, else of the last one deleted with it."""
    for row in (*present, *reversed(deleted)):
        if name in (row["slug"], row["ulid"]):
            return int(row["id"])
    raise StartError([Problem("--tenant", f"there is no tenant {name!r}")])


def _read_heads(path: Path) -> list[Head]:
    from byodpp.audit import Head

    try:
        found = [
            Head(
                tenant_id=int(one["tenant"]),
                number=int(one["number"]),
                total=int(one["total"]),
                hash=bytes.fromhex(one["hash"]),
            )
            for one in json.loads(path.read_text("utf-8"))
        ]
        for one in found:
            if not 0 < one.number <= _LAST_ID or abs(one.tenant_id) > _LAST_ID:
                raise ValueError(f"no chain of a tenant {one.tenant_id} ends with a seal {one.number}")
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        advice = "Give a file that `byodpp audit heads` has printed."
        raise StartError([Problem(str(path), f"holds no ends of chains: {error!r}", advice)]) from error


def _row(name: str, verdict: Verdict) -> tuple[str, ...]:
    return (
        name,
        str(verdict.entries),
        str(verdict.seals),
        _time(verdict.first_sealed_at),
        _time(verdict.last_sealed_at),
        str(verdict.unsealed),
        "intact" if verdict.broken is None else _told(verdict),
    )


def _told(verdict: Verdict) -> str:
    found = verdict.broken
    assert found is not None
    places = [("seal", found.seal), ("entry", found.entry)]
    where = ", ".join(f"{word} {number}" for word, number in places if number is not None)
    return f"BROKEN at {where}: {found.reason}"


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
