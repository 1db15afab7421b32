"""What stands between settings and a serving application: database, migrations, demo data.

Comes in: settings. Goes out: settings that name a running database, and steps on the terminal.
May refuse with StartError: a database that cannot be had, or does not fit the manifest.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from byodpp.cli.output import print_step
from byodpp.exceptions import Problem, StartError

if TYPE_CHECKING:
    from byodpp.bootstrap import Blueprint
    from byodpp.database import Database, Transaction
    from byodpp.embedded import RunningServer
    from byodpp.registry import Registry
    from byodpp.settings import Settings

__all__ = ["Ready", "issue_token", "migrated_database", "open_database", "prepare", "running_database"]

_BANNER_TOKEN_SECONDS = 12 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """An application that only has to be served."""

    settings: Settings
    blueprint: Blueprint
    banner: str  # what to print when it serves


async def prepare(started: AsyncExitStack, settings: Settings, *, migrate: bool, demo: bool) -> Ready:
    """Bring up everything that must be there before the first request.

    Args:
        started: takes what must be stopped at the end.
        settings: of the application.
        migrate: whether to apply revisions; without any, the first one is written.
        demo: whether to load the demo data, unless they were loaded before.
    """
    # Before anything is started: whatever is wrong with the files, nothing has to be undone.
    blueprint = _assembled(settings)
    from byodpp import bootstrap
    from byodpp.cli.migrate import bring_up_to_date

    settings = await started.enter_async_context(running_database(settings))
    if migrate and settings.postgres_admin_uri is not None:
        await bring_up_to_date(settings, blueprint)
    if demo and (rows := await bootstrap.load_demo(settings, blueprint)):
        print_step("loaded", f"demo data, {rows} rows")
    banner = await _banner(settings, blueprint.registry)
    return Ready(settings=settings, blueprint=blueprint, banner=banner)


def _assembled(settings: Settings) -> Blueprint:
    """Import the framework and assemble the application, both of which stay until the end."""
    gc.disable()
    try:
        from byodpp import bootstrap

        blueprint = bootstrap.assemble(settings.app_dir)
        # The collector never looks at any of it again: a walk over 1,000 resources takes half a second.
        gc.freeze()
        return blueprint
    finally:
        gc.enable()


@asynccontextmanager
async def running_database(settings: Settings) -> AsyncIterator[Settings]:
    """Start the embedded PostgreSQL where no address is given; yield settings with all addresses."""
    if settings.postgres_db_uri is not None:
        yield settings
        return
    from byodpp.embedded import EmbeddedPostgres
    from byodpp.tables.roles import APP, OWNER, SYSTEM

    embedded = EmbeddedPostgres(settings.app_dir, durable=settings.embedded_durable, pg_bin=settings.pg_bin)
    async with embedded.running() as server:
        yield replace(
            settings,
            postgres_db_uri=server.uri(APP),
            postgres_admin_uri=server.uri(OWNER),
            postgres_system_uri=server.uri(SYSTEM),
            **await _embedded_places(settings, server),
        )


@asynccontextmanager
async def migrated_database(settings: Settings) -> AsyncIterator[Settings]:
    """Like `running_database`, for commands that are of no use before there are tables.

    Raises:
        StartError: no revision was applied yet.
    """
    async with running_database(settings) as found:
        async with open_database(found) as database, database.system() as transaction:
            await _refuse_without_tables(transaction)
        yield found


async def _refuse_without_tables(transaction: Transaction) -> None:
    if await transaction.fetchval("select to_regclass('tenants')") is None:
        advice = "Run `byodpp migrate apply`, or start it: `byodpp serve`."
        raise StartError([Problem("database", "it holds no tables yet", advice)])


async def _embedded_places(settings: Settings, server: RunningServer) -> dict[str, Any]:
    """Make a database in the embedded server for each place; return the settings that say where they are."""
    from byodpp.embedded import provide_database
    from byodpp.settings.places import declared_places
    from byodpp.tables.roles import APP, OWNER, SYSTEM

    names = {name: f"byodpp_{name}" for name, _ in declared_places(settings.places)}
    for database in names.values():
        try:
            await provide_database(server, database)
        except OSError as error:
            reason = f"the embedded PostgreSQL does not answer: {str(error) or type(error).__name__}"
            advice = f"Its log is .byodpp/postgres.log; end it (pid {server.pid}), and call this again."
            raise StartError([Problem("", reason, advice)]) from error
    roles = {"place_db_uris": APP, "place_admin_uris": OWNER, "place_system_uris": SYSTEM}
    return {
        setting: tuple(f"{name}={server.uri(role, database)}" for name, database in names.items())
        for setting, role in roles.items()
    }


async def issue_token(
    settings: Settings,
    *,
    tenant: str | None,
    roles: list[str],
    user: str,
    lifetime_seconds: int,
    refresh: bool = False,
) -> str:
    """Return a token of the local issuer.

    Args:
        settings: with the addresses of a migrated database.
        tenant: slug, registered when it is new; None takes the first tenant there is, else `demo`.
        roles: names of roles.
        user: name of the user.
        lifetime_seconds: how long it is valid.
        refresh: whether it is a refresh token.

    Raises:
        StartError: somebody else issues the tokens, or this is no place for development.
    """
    from byodpp.authentication.tenants import register_tenant
    from byodpp.identity import LocalIssuer

    _refuse_foreign_issuer(settings)
    async with open_database(settings) as database, database.system() as transaction:
        await _refuse_without_tables(transaction)
        if tenant is None:
            first = "select slug from tenants where id > 0 and status = 'activated' order by id limit 1"
            tenant = await transaction.fetchval(first) or "demo"
        found = await register_tenant(transaction, tenant)
    issuer = LocalIssuer(
        state_folder=settings.app_dir / ".byodpp",
        # The server's own issuer has the same name: a token is valid for one issuer, to the letter.
        base_url=settings.issuer_base_url,
        audience=settings.token_audience,
        environment=settings.environment,
    )
    issue = issuer.issue_refresh if refresh else issuer.issue
    return issue(found.realm, user, roles=roles, lifetime_seconds=lifetime_seconds)


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Yield the open database of settings that have its addresses, and those of places that are there."""
    from byodpp.database import Database
    from byodpp.exceptions import DatabaseAway, PlaceUnavailable
    from byodpp.settings.places import place_addresses

    assert settings.postgres_db_uri is not None
    places = {
        one.name: Database(app_uri=one.app_uri, system_uri=one.system_uri, start_timeout_seconds=0.0)
        for one in place_addresses(settings)
    }
    database = Database(
        app_uri=settings.postgres_db_uri,
        system_uri=settings.postgres_system_uri,
        start_timeout_seconds=10,
        places=places,
    )
    async with AsyncExitStack() as opened:
        for name, one in {"": database, **places}.items():
            opened.push_async_callback(one.close)
            try:
                await one.open()
            except DatabaseAway:
                if not name:
                    raise
                one.refusal = PlaceUnavailable(f"The place {name} is away.")
        yield database


def _refuse_foreign_issuer(settings: Settings) -> None:
    if settings.identity != "local":
        advice = f"Ask it for one: {settings.issuer_base_url}"
        raise StartError([Problem("identity", f"tokens are issued by {settings.identity}", advice)])
    if settings.environment not in ("dev", "test"):
        raise StartError([Problem("environment", f"no tokens are given away in {settings.environment}")])


async def _banner(settings: Settings, registry: Registry) -> str:
    """Return the address, the documentation's, and one line to paste."""
    lines = ["", f"  address        {_address(settings)}"]
    if settings.docs_enabled:
        lines.append(f"  documentation  {_address(settings)}/docs")
    path = _shown_resource(registry)
    if path and settings.identity == "local" and settings.environment in ("dev", "test"):
        token = await issue_token(
            settings, tenant=None, roles=["Admin"], user="demo", lifetime_seconds=_BANNER_TOKEN_SECONDS
        )
        command = f"curl '{_address(settings)}{path}?limit=2' -H 'Authorization: Bearer {token}'"
        lines += ["", "  Paste this into another terminal:", "", command]
    return "\n".join([*lines, "", "  Ctrl-C stops it.", ""])


def _address(settings: Settings) -> str:
    """Return the URL under which the server is reached from this machine."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    host = reachable.get(settings.host, f"[{settings.host}]" if ":" in settings.host else settings.host)
    return f"http://{host}:{settings.port}"


def _shown_resource(registry: Registry) -> str | None:
    """Return the address of the list that tells most: the application's own with the most fields."""
    lists = [one for one in registry if one.routed and "list" in one.operations and one.part is None]
    ranked = sorted(lists, key=lambda one: -len(one.fields))
    best = next((one for one in ranked if one.tenant_bound), next(iter(ranked), None))
    return None if best is None else best.crud_routes.get("list", best.base_url)
