"""Places follow the shared tables: what a migration did to these is done to each of them.

In: addresses of the owner and the system role. Out: a report per place. A place that cannot follow,
because its rows do not fit, is told of and left as it is; its tenant is refused with `tenant_moving` until
it can, and the others are served. Revisions are not run again in places: each is compared with the manifest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import asyncpg

from byodpp.exceptions import MigrationError, Problem
from byodpp.places.building import PlaceBuilder
from byodpp.places.databases import PlaceDatabases, claiming, fenced
from byodpp.places.fences import be_alone, claim_keys, hold
from byodpp.places.placement import BEHIND, LOCATED, Located, staying

__all__ = ["Followed", "are_behind", "follow", "follow_in_database", "make_way"]

_ANY: Final = "select exists (select from pg_namespace where nspname ~ '^byodpp_t[0-9]+$')"
_NEWEST: Final = "select fingerprint from byodpp.schema_state order by applied_at desc, revision desc limit 1"
_SLUG: Final = "select slug from tenants where id = $1"
_TENANT: Final = "select tenant_id from byodpp.tenant_places where place = $1 and tenant_id >= 0"
_TOLD: Final = "insert into byodpp.directory_changes (tenant_id) values (0)"
_FOLLOWED: Final = "update byodpp.tenant_places set fingerprint = $2 where tenant_id = $1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What became of one place."""

    place: str
    steps: int  # that were done
    failure: MigrationError | None = None


async def make_way(builder: PlaceBuilder, system_uri: str | None) -> bool:
    """Drop what stands in the way of changes to the shared tables; return whether there are places.

    Args:
        builder: makes places.
        system_uri: of the role by which they `follow` afterwards.

    Raises:
        MigrationError: that role is not there, and so nothing was dropped.
    """
    async with builder.connected() as owner:
        if not await owner.fetchval(_ANY):
            return False
        async with _connected(system_uri):
            await builder.hide_everywhere(owner)
        return True


async def are_behind(system_uri: str, fingerprint: str) -> bool:
    """Whether schemas of tenants lack what the shared tables have got, and a program can mend that.

    Args:
        system_uri: of the role that passes row-level security.
        fingerprint: of the schema that the program wants. One that is older than the tables serves, but
            would take from a tenant's schema what it does not know.

    Raises:
        MigrationError: the role cannot be connected.
    """
    async with _connected(system_uri) as system:
        return await system.fetchval(_NEWEST) == fingerprint and bool(await system.fetch(BEHIND))


async def follow(
    builder: PlaceBuilder, system_uri: str | None, *, lossy: bool, only_behind: bool = False
) -> list[Followed]:
    """Bring every place up to date.

    Args:
        builder: makes places.
        system_uri: of the role that passes row-level security.
        lossy: whether the shared tables have everything by now, what loses data included.
        only_behind: leave alone what has followed before; for servers that start while others serve.

    Returns:
        What became of each that was looked at.

    Raises:
        MigrationError: tables are in use all the time, or tenants are being moved, or the role that tells
            which places there are cannot be connected.
    """
    async with _connected(system_uri) as system:
        await be_alone(system)
        located = [Located(**dict(row)) for row in await system.fetch(LOCATED)]
        newest = await system.fetchval(_NEWEST)
        found, now = [], []
        async with builder.connected() as owner:
            for one in located:
                if one.schema is None or (only_behind and not one.behind):
                    now.append(one)
                    continue
                slug = await system.fetchval(_SLUG, one.tenant_id)
                found.append(await _follow(builder, owner, one, one.schema, slug, lossy=lossy))
                if found[-1].failure is None:
                    await system.execute(_FOLLOWED, one.tenant_id, newest)
                now.append(replace(one, behind=found[-1].failure is not None))
            if only_behind and all(one.failure is not None for one in found):
                return found  # nothing has changed
            shared = [one for one in fenced(builder.tables) if one not in builder.dedicated]
            claimed = [one for one in claiming(builder.tables) if one not in builder.dedicated]
            await claim_keys(owner, builder.dedicated, now, further=claimed)
            await hold(owner, builder.dedicated, now, further=shared, spared=staying(builder.tables))
            await builder.show_everywhere(owner, now)
        await system.execute(_TOLD)
        return found


async def follow_in_database(places: PlaceDatabases, name: str, system_uri: str | None) -> None:
    """Fence and count in a tenant's own database what a migration has brought there.

    Args:
        places: does the owner's work.
        name: of the place, which has every revision.
        system_uri: of the database that all tenants share.

    Raises:
        MigrationError: one of them cannot be connected.
    """
    async with _connected(system_uri) as system:
        tenant = await system.fetchval(_TENANT, name)
    if tenant is not None:
        await places.prepare(name, tenant)


@asynccontextmanager
async def _connected(system_uri: str | None) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Yield a connection of the role that passes row-level security.

    Raises:
        MigrationError: it has no address, or cannot be connected.
    """
    if system_uri is None:
        advice = "Set POSTGRES_SYSTEM_URI: it knows which tenants have a schema of their own."
        raise MigrationError([Problem("postgres_system_uri", "is needed to migrate", advice)])
    try:
        system = await asyncpg.connect(system_uri, timeout=30)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = f"the role that knows all tenants cannot be connected: {str(error) or type(error).__name__}"
        advice = "Look at POSTGRES_SYSTEM_URI, and call the same again: it goes on where it stopped."
        raise MigrationError([Problem("postgres_system_uri", reason, advice)]) from error
    try:
        yield system
    finally:
        await system.close()


async def _follow(
    builder: PlaceBuilder,
    owner: asyncpg.Connection[Any],
    one: Located,
    place: str,
    slug: str | None,
    *,
    lossy: bool,
) -> Followed:
    # A place that a move is still filling gets its references when all rows are there.
    filled = one.tier != "shared"
    try:
        steps = await builder.build(owner, place, one.tenant_id, references=filled, lossy=lossy)
    except MigrationError as error:
        whose = f"tenant {slug}: " if slug else ""
        problems = [replace(fault, path=f"{whose}{fault.path}") for fault in error.problems]
        return Followed(place=place, steps=0, failure=MigrationError(problems))
    return Followed(place=place, steps=len(steps))
