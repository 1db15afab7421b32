"""`access`, `explain`: who may do what, and why somebody may do something or may not.

Comes in: a tenant and a question. Goes out: a table or lines for people, JSON for programs. Both ask
the application what its requests would ask.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from byodpp.cli.acting import TENANT, in_tenant, run
from byodpp.cli.output import print_table, shown
from byodpp.cli.place import place_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from byodpp.access_questions import Question
    from byodpp.settings import Settings

__all__ = ["access", "explain"]

_INTERRUPTED = "Interrupted."
_JSON = typer.Option("--json", help="Print JSON.")


def access(
    context: typer.Context,
    tenant: Annotated[str, TENANT],
    resource: Annotated[str, typer.Argument(metavar="[RESOURCE]", help="Only this one.")] = "",
    role: Annotated[
        list[str] | None, typer.Option(help="Only this role, `*`, or `public`; may be given several times.")
    ] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Print the permission matrix of a tenant: which role may do what.

    A cell says `yes`, `-` for no, or by what the right is bounded: rows, fields. `public` is everybody, `*`
    who is signed in; the other columns are what their role alone gives. `--json` tells filters and rules.

    At most 10,000 cells: of a large application name a resource, or roles.

    `byodpp access Products --tenant acme --role Manager`
    """
    settings = place_of(context).settings()
    data, headings, lines = run(_matrix(settings, tenant, resource, role or ()), interrupted=_INTERRUPTED)
    if as_json:
        typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        print_table(headings, lines, empty="No resource has a route.")


def explain(
    context: typer.Context,
    tenant: Annotated[str, TENANT],
    resource: Annotated[str, typer.Argument(metavar="[RESOURCE]", help="Name, e.g. Products.")] = "",
    operation: Annotated[
        str, typer.Argument(metavar="[OPERATION]", help="One of the seven, or an action's key.")
    ] = "",
    route: Annotated[
        str, typer.Option(metavar="METHOD PATH", help='In place of both: "DELETE /api/v1/products/3".')
    ] = "",
    role: Annotated[
        list[str] | None, typer.Option(help="Role of the caller; may be given several times.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="The caller, by number, user name or subject; brings UserRoles.")
    ] = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="A caller without a token.")] = False,
    id: Annotated[str | None, typer.Option(help="A row, by its key.")] = None,
    version: Annotated[
        str, typer.Option("--api-version", help="API version; v1, or its first, if left out.")
    ] = "",
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Say whether somebody may do something, with which rows and fields, and which rules say so.

    Without role and user it is about somebody who is signed in and has no role. The answer is that of a
    request; with a row, PostgreSQL judges every rule over it. Exit code 0 in any case.

    `byodpp explain Products delete --tenant acme --role Manager --id 3`

    `byodpp explain --route "PATCH /api/v1/products/3" --tenant acme --user ada`
    """
    from byodpp.access_questions import Question
    from byodpp.authorization.explanation import explanation_lines

    question = Question(
        resource=resource,
        operation=operation,
        route=route,
        version=version,
        id=id,
        roles=tuple(role or ()),
        user=user,
        anonymous=anonymous,
    )
    told = run(_explanation(place_of(context).settings(), tenant, question), interrupted=_INTERRUPTED)
    if as_json:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        for line in explanation_lines(told):
            typer.echo(shown(line))


async def _matrix(
    settings: Settings, slug: str, resource: str, roles: Sequence[str]
) -> tuple[Any, list[str], list[list[str]]]:
    from byodpp.authorization.matrix import matrix_json, matrix_table

    async with in_tenant(settings, slug) as (application, tenant):
        guide = application.service.parts.guide
        async with application.database.at(tenant.database).system() as transaction:
            cells = await guide.cells(transaction, tenant.id, resource, roles)
    return matrix_json(cells), *matrix_table(cells)


async def _explanation(settings: Settings, slug: str, question: Question) -> dict[str, Any]:
    async with in_tenant(settings, slug) as (application, tenant):
        guide, database = application.service.parts.guide, application.database
        # Rows of a user are seen by that user's transaction only.
        async with database.at(tenant.database).system() as transaction:
            caller = await guide.caller(transaction, tenant.id, question)
        session = replace(caller.session, place=tenant.place, database=tenant.database)
        async with database.transaction(session, read_only=True) as transaction:
            told = await guide.explain(transaction, tenant.id, question, None)
        return told.as_json()
