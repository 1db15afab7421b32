"""`seed` and `token`: demo data, and a token to try them with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from byodpp.cli.output import print_step
from byodpp.cli.place import place_of
from byodpp.exceptions import Problem, StartError

if TYPE_CHECKING:
    from byodpp.settings import Settings

__all__ = ["seed", "token"]


def seed(
    context: typer.Context,
    again: Annotated[bool, typer.Option("--again", help="Also when they were loaded before.")] = False,
) -> None:
    """Load the application's demo data, once."""
    rows = asyncio.run(_seed(place_of(context).settings(), again))
    if rows:
        print_step("loaded", f"{rows} rows")
    else:
        typer.echo("Nothing to load, or loaded before (--again).")


def token(
    context: typer.Context,
    tenant: Annotated[str, typer.Option(help="Slug of the tenant; registered when it is new.")],
    role: Annotated[
        list[str] | None, typer.Option(help="Role; may be given several times.", show_default="Admin")
    ] = None,
    user: Annotated[str, typer.Option(help="Name of the user.")] = "demo",
    hours: Annotated[int, typer.Option(min=1, max=24 * 365, help="How long it is valid.")] = 12,
    refresh: Annotated[
        bool,
        typer.Option("--refresh", help="Print a refresh token, by which a session of a browser is renewed."),
    ] = False,
) -> None:
    """Print an access token of the local issuer, for development and tests.

    `curl -H "Authorization: Bearer $(byodpp token --tenant acme)" http://127.0.0.1:3000/api/v1/products`

    `byodpp token --tenant acme --role Viewer --role Auditor --user ada`
    """
    if not all(one.strip() and one.isprintable() for one in role or ()):
        raise StartError([Problem("--role", "must have printable characters: a token says no empty role")])
    settings = place_of(context).settings()
    typer.echo(asyncio.run(_token(settings, tenant, role or ["Admin"], user, hours, refresh=refresh)))


async def _seed(settings: Settings, again: bool) -> int:
    from byodpp import bootstrap
    from byodpp.cli.preparation import migrated_database

    async with migrated_database(settings) as found:
        rows: int = await bootstrap.load_demo(found, again=again)
        return rows


async def _token(
    settings: Settings, tenant: str, roles: list[str], user: str, hours: int, *, refresh: bool
) -> str:
    from byodpp.cli.preparation import issue_token, running_database

    async with running_database(settings) as found:
        return await issue_token(
            found, tenant=tenant, roles=roles, user=user, lifetime_seconds=hours * 3600, refresh=refresh
        )
