"""`export`: the rows that a query finds, to a file, for a tenant.

Comes in: the name of a resource, a file, and a query. Goes out: the file, which appears under its name
when it is whole; a counter while it lasts.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from byodpp.cli.acting import RESOURCE, ROLE, TENANT, VERSION, Acting, acting, run
from byodpp.cli.importing import FORMAT, read_format
from byodpp.cli.output import print_step, progress_bar
from byodpp.cli.place import place_of
from byodpp.exceptions import Problem, StartError

if TYPE_CHECKING:
    from byodpp.transfer.exports import Wanted
    from byodpp.transfer.formats import Format

__all__ = ["export_rows"]


def export_rows(
    context: typer.Context,
    resource: Annotated[str, RESOURCE],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write; - is standard output.")],
    tenant: Annotated[str, TENANT],
    role: Annotated[list[str] | None, ROLE] = None,
    format: Annotated[str | None, FORMAT] = None,
    filter: Annotated[str | None, typer.Option(help="Filter of the query language, as JSON.")] = None,
    search: Annotated[str | None, typer.Option(help="Words to look for.")] = None,
    sort: Annotated[str | None, typer.Option(help="Order, e.g. name,-createdAt.")] = None,
    fields: Annotated[str | None, typer.Option(help="Fields to write, e.g. name,price.")] = None,
    include: Annotated[str | None, typer.Option(help="Related rows to write, e.g. category.")] = None,
    closing: Annotated[bool, typer.Option("--closing/--no-closing", help="Write the closing record.")] = True,
    version: Annotated[str, VERSION] = "v1",
) -> None:
    """Export rows to a file: one snapshot, and the file appears when it is whole.

    `byodpp export Products products.csv --tenant acme --filter '{"price": {"gte": 5}}' --fields name,price`
    """
    words = {"search": search, "sort": sort, "fields": fields, "include": include}
    asked: dict[str, Any] = {name: value for name, value in words.items() if value is not None}
    if filter is not None:
        asked["filter"] = _json(filter)
    chosen, settings = read_format(file, format), place_of(context).settings()

    async def work() -> int:
        async with acting(settings, tenant, role or ["Admin"], resource, version) as who:
            return await _written(who, _wanted(who, asked, chosen, closing), file)

    count = run(work(), interrupted="Interrupted: no file was written.")
    if str(file) != "-":
        print_step("wrote", f"{file}, {count} rows")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise StartError([Problem("--filter", f"is no JSON: {error}")]) from error


def _wanted(who: Acting, asked: dict[str, Any], format: Format, closing: bool) -> Wanted:
    from byodpp.transfer.exports import Wanted
    from byodpp.transfer.queries import export_query

    who.refuse_without_right("list")
    lookup = who.application.authorizer.lookup(who.principal, who.resource)
    reader = who.application.service.parts.store.reader
    query = export_query(asked, who.resource, reader, lookup, who.principal.tenant_id, format)
    return Wanted(
        principal=who.principal,
        origin=who.origin(),
        resource=who.resource,
        query=query,
        lookup=lookup,
        format=format,
        closing=closing,
    )


async def _written(who: Acting, wanted: Wanted, path: Path) -> int:
    """Write the file and return the number of its rows."""
    if str(path) == "-":
        return await _copied(who, wanted, sys.stdout.buffer, None)
    part = path.with_name(f"{path.name}.part")
    try:
        with _opened(part) as file, progress_bar(None, f"exporting {who.resource.name}") as moved:
            count = await _copied(who, wanted, file, moved)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return count


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise StartError([Problem(str(path), f"cannot be written: {error.strerror}")]) from error


async def _copied(
    who: Acting, wanted: Wanted, file: BinaryIO, moved: Callable[[int, None], object] | None
) -> int:
    count = 0
    async for piece, count in who.application.exporter.stream(wanted):
        file.write(piece)
        if moved is not None:
            moved(count, None)
    return count
