"""The words of the command line, in the order in which `--help` lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from byodpp import __version__
from byodpp.cli.access import access, explain
from byodpp.cli.audit import heads, verify
from byodpp.cli.create import init, new_logic, new_resource
from byodpp.cli.data import seed, token
from byodpp.cli.exporting import export_rows
from byodpp.cli.identity import log_out, provider, renew, second_factor, service_account
from byodpp.cli.importing import import_rows
from byodpp.cli.migrate import apply_revisions, new_revision, plan
from byodpp.cli.overview import check, logics, openapi, routes
from byodpp.cli.place import Place
from byodpp.cli.revoke import revoke
from byodpp.cli.secrets import rotate
from byodpp.cli.serve import serve
from byodpp.cli.tenants import (
    delete,
    export,
    invite,
    list_places,
    list_tenants,
    move,
    onboard,
    reactivate,
    suspend,
)

__all__ = ["make_program"]

_EPILOG = """
**A new application in a minute:** `byodpp init shop`, `cd shop`, `byodpp serve`

**After editing resources.json:** `byodpp check`, `byodpp migrate plan`, `byodpp migrate new`, `byodpp serve`

**Another folder:** `byodpp --app ../shop routes`
"""


def make_program() -> typer.Typer:
    """Put the commands together."""
    program = _group(epilog=_EPILOG)
    program.callback()(locate)
    program.command()(serve)
    program.command()(check)
    program.command()(routes)
    program.command()(logics)
    migrate = _group(help="Bring the database to what resources.json says: plan, new, apply.")
    migrate.command("plan")(plan)
    migrate.command("new")(new_revision)
    migrate.command("apply")(apply_revisions)
    program.add_typer(migrate, name="migrate")
    program.command()(seed)
    program.command("import")(import_rows)
    program.command("export")(export_rows)
    program.command()(token)
    program.command()(revoke)
    program.command()(access)
    program.command()(explain)
    audit = _group(help="The audit trail: verify it, and print where it ends.")
    audit.command("verify")(verify)
    audit.command("heads")(heads)
    program.add_typer(audit, name="audit")
    tenants = _group(help="Tenants: list, onboard, invite, suspend, reactivate, migrate, export, delete.")
    tenants.command("list")(list_tenants)
    for command in (onboard, invite, suspend, reactivate, export, delete):
        tenants.command()(command)
    tenants.command("migrate")(move)
    tenants.command("places")(list_places)
    program.add_typer(tenants, name="tenants")
    identity = _group(
        help="The identity provider: renew a realm, log everyone out, accounts of programs, ways to sign in."
    )
    identity.command()(renew)
    identity.command()(log_out)
    identity.command()(service_account)
    identity.command()(second_factor)
    identity.command()(provider)
    program.add_typer(identity, name="identity")
    secrets = _group(help="What users entrust to the application: encrypt it under another key.")
    secrets.command("rotate")(rotate)
    program.add_typer(secrets, name="secrets")
    program.command()(openapi)
    program.command()(init)
    new = _group(help="Add a resource or a logic class to this application.")
    new.command("resource")(new_resource)
    new.command("logic")(new_logic)
    program.add_typer(new, name="new")
    return program


def show_version(wanted: bool) -> None:
    """Print the version and end, when that was asked for."""
    if wanted:
        typer.echo(f"byodpp {__version__}")
        raise typer.Exit


def locate(
    context: typer.Context,
    app: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            envvar="BYODPP_APP_DIR",
            help="Folder of the application (resources.json).",
        ),
    ] = Path("."),
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """One file, `resources.json`, becomes a multi-tenant API on PostgreSQL."""
    context.obj = Place(app_dir=app.expanduser().absolute())


def _group(*, help: str | None = None, epilog: str | None = None) -> typer.Typer:
    return typer.Typer(
        help=help,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
