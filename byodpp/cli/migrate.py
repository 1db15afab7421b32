"""`migrate plan`, `migrate new`, `migrate apply`: the database follows resources.json."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from byodpp.cli.output import print_step, shown
from byodpp.cli.place import place_of
from byodpp.exceptions import DatabaseStartError, MigrationError, Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from byodpp.bootstrap import Blueprint
    from byodpp.cli.place_plans import PlacePlan
    from byodpp.migrations import Outside, Plan, Step
    from byodpp.places import PlaceBuilder
    from byodpp.places.following import Followed
    from byodpp.settings import Settings

__all__ = ["apply_revisions", "bring_up_to_date", "new_revision", "plan"]

_FIRST = "first revision"


def plan(
    context: typer.Context,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL instead of the description.")] = False,
    rows: Annotated[
        bool,
        typer.Option(
            "--rows", help="Also count the rows outside the bounds of their fields; reads all shared tables."
        ),
    ] = False,
) -> None:
    """Show what a changed resources.json would do to the database; changes nothing.

    Every step is an *expand* (older servers keep working) or a *contract*; what loses data says so.

    First of the tables that all tenants share, then of each schema and database of a tenant's own.
    """
    found, places, standing = asyncio.run(_plans(place_of(context).settings(), rows=rows))
    if not found:
        typer.echo("The database fits resources.json: nothing to do.")
    elif sql:
        typer.echo(found.sql)
    else:
        _echo(found.steps)
    for place in places:
        told = place.trouble or _told_of(place.steps, found.steps)
        typer.echo(f"{'-- ' if sql else ''}{place.name}: {told}")
        if place.steps and place.steps != found.steps:
            _echo(place.steps, sql=sql)
    for one in standing:
        typer.echo(shown(f"{'-- ' if sql else 'rows      '}{one}"))
    if rows and not standing:
        typer.echo(f"{'-- ' if sql else ''}No row is outside the bounds of its fields.")
    if found and not sql:
        typer.echo('\nNext:\n  byodpp migrate new -m "what it is for"')


def _told_of(steps: Sequence[Step], shared: Sequence[Step]) -> str:
    if not steps:
        return "fits resources.json"
    return "the same" if steps == shared else f"{len(steps)} steps"


def _echo(steps: Sequence[Step], *, sql: bool = False) -> None:
    for step in steps:
        losing = "   LOSES DATA" if step.destructive else ""
        typer.echo(step.sql if sql else f"{step.kind:<9} {step.description}{losing}")


def new_revision(
    context: typer.Context,
    message: Annotated[str, typer.Option("--message", "-m", help="What it is for.")] = "change",
    empty: Annotated[
        bool, typer.Option("--empty", help="For SQL of your own: a view, a function, a change of rows.")
    ] = False,
) -> None:
    """Write the plan as a revision into migrations/; read it before you apply it.

    `byodpp migrate new -m "warehouses"`

    `byodpp migrate new --empty -m "a view of totals"`
    """
    from byodpp.migrations import new, new_empty

    settings = place_of(context).settings()
    found = asyncio.run(_plan(settings))
    paths = [new_empty(settings.app_dir, found, message)] if empty else new(settings.app_dir, found, message)
    for path in paths:
        print_step("wrote", str(path.relative_to(settings.app_dir)))
    edit = f"  edit {paths[0].relative_to(settings.app_dir)}\n" if empty else ""
    typer.echo(f"\nNext:\n{edit}  byodpp migrate apply")


def apply_revisions(
    context: typer.Context,
    allow_destructive: Annotated[
        bool, typer.Option("--allow-destructive", help="Also revisions that lose data.")
    ] = False,
) -> None:
    """Run the revisions that the databases do not have yet, each in a transaction of its own.

    First in the shared database and its schemas, then in the database of each place; tells what each got.

    Stops before the first one that loses data, unless that is allowed.
    """
    from byodpp import migrations

    settings = place_of(context).settings()
    done = asyncio.run(_apply_here(settings, allow_destructive))
    revisions = migrations.read_revisions(settings.app_dir)
    if not done:
        none = "There is no revision yet: `byodpp migrate new` writes the first one."
        typer.echo("The database has every revision: nothing to do." if revisions else none)
        return
    last = [one.revision for one in revisions].index(done[-1])
    for one in revisions[last + 1 :]:
        print_step("waiting", f"{one.revision}: --allow-destructive runs it")


async def bring_up_to_date(settings: Settings, blueprint: Blueprint) -> None:
    """Apply what is pending; write the first revision of an application that has none.

    Later changes of the manifest are not written by themselves: what they do to data is to be read first.

    Raises:
        MigrationError: the database does not fit the manifest afterwards.
    """
    from byodpp import migrations

    owner = _owner(settings)
    if not migrations.read_revisions(settings.app_dir):
        found = await migrations.plan(blueprint.registry, owner)
        for path in migrations.new(settings.app_dir, found, _FIRST) if found else ():
            print_step("wrote", str(path.relative_to(settings.app_dir)))
    registry, fingerprint = blueprint.registry, blueprint.fingerprint
    status = await migrations.status(settings.app_dir, registry, owner, fingerprint=fingerprint)
    # Alembic is slow to import, and the usual start has nothing for it to do.
    applying = bool(status.pending) and not (status.serves and _loses_data(settings, status.pending[0]))
    if applying:
        refused = await _refusal(_apply(settings, allow_destructive=False))
        status = await migrations.status(settings.app_dir, registry, owner, fingerprint=fingerprint)
        # What may wait keeps nobody from serving: rows that stand in its way are changed by requests, too.
        # Nor does the schema of a tenant that could not follow: it alone is refused until it has.
        if refused is not None:
            if not status.serves:
                raise refused
            typer.echo(shown(str(refused)), err=True)
    if not status.serves:
        raise MigrationError([Problem("database", status.reason)])
    if status.reason:
        typer.echo(status.reason, err=True)
    later = [_apply_places(settings, allow_destructive=False)]
    if not applying:
        later.insert(0, _catch_up(settings, blueprint))
    for work in later:
        if (behind := await _refusal(work)) is not None:
            typer.echo(shown(str(behind)), err=True)


async def _catch_up(settings: Settings, blueprint: Blueprint) -> None:
    """Bring schemas of tenants up to date that could not follow before; others are left alone.

    Raises:
        MigrationError: some still cannot.
    """
    from byodpp.places import PlaceBuilder
    from byodpp.places.following import are_behind, follow

    system = settings.postgres_system_uri
    if system is None or not await are_behind(system, blueprint.fingerprint):
        return
    builder = PlaceBuilder(blueprint.registry, blueprint.tables, _owner(settings))
    _tell(await follow(builder, system, lossy=True, only_behind=True))


async def _refusal(applying: Awaitable[Any]) -> MigrationError | None:
    """Wait for what applies revisions; return why it was refused."""
    try:
        await applying
    except MigrationError as error:
        return error
    return None


async def _plans(settings: Settings, *, rows: bool) -> tuple[Plan, list[PlacePlan], list[Outside]]:
    from byodpp import migrations
    from byodpp.cli.place_plans import place_plans
    from byodpp.cli.preparation import running_database
    from byodpp.manifest import load_manifest

    registry = load_manifest(settings.app_dir)
    async with running_database(settings) as found:
        shared = await migrations.plan(registry, _owner(found))
        places = [one async for one in place_plans(found, registry)]
        system = _system(found) if rows else None
        standing = [] if system is None else [one async for one in migrations.rows_outside(registry, system)]
        return shared, places, standing


async def _plan(settings: Settings) -> Plan:
    from byodpp import migrations
    from byodpp.cli.preparation import running_database
    from byodpp.manifest import load_manifest

    registry = load_manifest(settings.app_dir)
    async with running_database(settings) as found:
        return await migrations.plan(registry, _owner(found))


async def _apply_here(settings: Settings, allow_destructive: bool) -> list[str]:
    from byodpp.cli.preparation import running_database

    async with running_database(settings) as found:
        done = await _apply(found, allow_destructive=allow_destructive)
        await _apply_places(found, allow_destructive=allow_destructive)
        await _note_locales(found)
        return done


async def _note_locales(settings: Settings) -> None:
    """Tell the fields whose locale the server does not know; PostgreSQL warns nobody who sees it."""
    from byodpp import migrations
    from byodpp.manifest import load_manifest

    for name in await migrations.without_order(load_manifest(settings.app_dir), _owner(settings)):
        print_step("note", f"{name} {migrations.NO_LOCALE}")


async def _apply_places(settings: Settings, *, allow_destructive: bool) -> None:
    """Run what is due in the databases of tenants, each for itself.

    Raises:
        MigrationError: for places that are away, or could not follow, when all others have.
    """
    from asyncpg import InterfaceError, PostgresError

    from byodpp import migrations
    from byodpp.settings.places import place_addresses

    problems: list[Problem] = []
    for place in place_addresses(settings):
        if place.admin_uri is None:
            print_step("skipped", f"place {place.name}: place_admin_uris has no address of it")
            continue
        try:
            applied = await migrations.apply(
                settings.app_dir, place.admin_uri, allow_destructive=allow_destructive
            )
            if applied:
                await _follow_in(settings, place.name)
        except MigrationError as error:
            problems += [replace(one, path=f"place {place.name}: {one.path}") for one in error.problems]
        except (DatabaseStartError, OSError, PostgresError, InterfaceError) as error:
            advice = "The others have been migrated; run `byodpp migrate apply` again when it is back."
            kind = type(error.__cause__ or error).__name__
            problems.append(Problem(f"place {place.name}", f"is away: {kind}", advice))
        else:
            for revision in applied:
                print_step("applied", f"place {place.name}: {revision.revision}")
    if problems:
        raise MigrationError(problems)


async def _follow_in(settings: Settings, place: str) -> None:
    from byodpp.manifest import load_manifest
    from byodpp.places.databases import PlaceDatabases
    from byodpp.places.following import follow_in_database
    from byodpp.settings.places import place_addresses
    from byodpp.tables import Tables

    places = PlaceDatabases(Tables.build(load_manifest(settings.app_dir)), place_addresses(settings))
    await follow_in_database(places, place, settings.postgres_system_uri)


async def _apply(settings: Settings, *, allow_destructive: bool) -> list[str]:
    """Run what is due, in the shared tables and then in every place; return the names of what was run.

    Raises:
        MigrationError: also for places that could not follow, when all others have.
    """
    from byodpp import migrations
    from byodpp.manifest import load_manifest
    from byodpp.places import PlaceBuilder
    from byodpp.places.following import make_way
    from byodpp.tables import Tables

    owner = _owner(settings)
    registry = load_manifest(settings.app_dir)
    builder = PlaceBuilder(registry, Tables.build(registry), owner)
    places = await make_way(builder, settings.postgres_system_uri)
    try:
        revisions = await migrations.apply(
            settings.app_dir,
            owner,
            allow_destructive=allow_destructive,
            told=lambda revision: print_step("applied", revision.revision),
        )
    finally:
        if places:
            await _follow(settings, builder)
    if settings.places and not places:
        await _follow(settings, builder)
    return [revision.revision for revision in revisions]


async def _follow(settings: Settings, builder: PlaceBuilder) -> None:
    from byodpp import migrations
    from byodpp.places.following import follow

    status = await migrations.status(settings.app_dir, builder.registry, _owner(settings))
    _tell(await follow(builder, settings.postgres_system_uri, lossy=not status.pending))


def _tell(followed: Sequence[Followed]) -> None:
    """Print what became of tenants' schemas.

    Raises:
        MigrationError: for those that could not follow.
    """
    for one in followed:
        if one.steps:
            print_step("followed", f"{one.place}: {one.steps} steps")
    if problems := [problem for one in followed if one.failure for problem in one.failure.problems]:
        raise MigrationError(problems)


def _loses_data(settings: Settings, name: str) -> bool:
    from byodpp import migrations

    return any(one.destructive for one in migrations.read_revisions(settings.app_dir) if one.revision == name)


def _system(settings: Settings) -> str:
    if settings.postgres_system_uri is None:
        advice = "Set POSTGRES_SYSTEM_URI: row-level security hides the rows of tenants from everybody else."
        raise MigrationError([Problem("postgres_system_uri", "is needed to count rows", advice)])
    return settings.postgres_system_uri


def _owner(settings: Settings) -> str:
    if settings.postgres_admin_uri is None:
        advice = "Set POSTGRES_ADMIN_URI: the same database as the role that owns the tables."
        raise MigrationError([Problem("postgres_admin_uri", "is needed to migrate", advice)])
    return settings.postgres_admin_uri
