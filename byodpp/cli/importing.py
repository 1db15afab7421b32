"""`import`: rows from a file, for a tenant.

Comes in: the name of a resource and a file. Goes out: rows; a bar while it lasts, a summary at the end.
An import that was interrupted is taken up by the same command. Exit code 3 says that records were
refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import typer

from byodpp.cli.acting import RESOURCE, ROLE, TENANT, VERSION, Acting, acting, run
from byodpp.cli.output import print_step, progress_bar, shown
from byodpp.cli.place import place_of
from byodpp.exceptions import Problem, StartError

if TYPE_CHECKING:
    from byodpp.transfer.formats import Format
    from byodpp.transfer.imports import Order, Outcome

__all__ = ["FORMAT", "import_rows", "read_format"]

FORMAT = typer.Option(help="csv, json, ndjson or xml, out also xlsx; else the file's name tells.")
_REFUSED: Final = 3
_SHOWN: Final = 10
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What the command line asks for."""

    path: Path
    format: Format
    options: Mapping[str, str]  # by the names that they have in a request
    dry_run: bool
    resume: bool
    report: Path | None


def import_rows(
    context: typer.Context,
    resource: Annotated[str, RESOURCE],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to read.")],
    tenant: Annotated[str, TENANT],
    role: Annotated[list[str] | None, ROLE] = None,
    format: Annotated[str | None, FORMAT] = None,
    operation: Annotated[
        str, typer.Option(help="create, or upsert: replace rows of the same key.")
    ] = "create",
    on: Annotated[str | None, typer.Option(help="Fields of the unique key of an upsert.")] = None,
    atomic: Annotated[bool, typer.Option("--atomic", help="All rows or none.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do everything, and undo it.")] = False,
    ignore: Annotated[str | None, typer.Option(help="Columns to pass over, separated by commas.")] = None,
    separator: Annotated[str | None, typer.Option(help="Of CSV: comma, semicolon or tab.")] = None,
    empty: Annotated[str | None, typer.Option(help="What an empty cell is: null or default.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also when it was imported within a day.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Only go on with an import that was interrupted.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="File for the refused records (NDJSON).")] = None,
    version: Annotated[str, VERSION] = "v1",
) -> None:
    """Import rows from a file; what was interrupted goes on where it ended.

    `byodpp import Products products.csv --tenant acme --report refused.ndjson`

    `byodpp import Products products.ndjson --tenant acme --operation upsert --on sku`
    """
    words = {
        "operation": operation, "on": on, "atomic": "true" if atomic else None, "ignore": ignore,
        "separator": separator, "empty": empty, "again": "true" if again else None,
    }  # fmt: skip
    wanted = _Wanted(
        path=file,
        format=_readable(file, format),
        options={name: value for name, value in words.items() if value is not None},
        dry_run=dry_run,
        resume=resume,
        report=report,
    )
    settings = place_of(context).settings()

    async def work() -> Outcome:
        with _opened(file) as content:
            async with acting(settings, tenant, role or ["Admin"], resource, version) as who:
                return await _import(who, wanted, content)

    if _summary(run(work(), interrupted="Interrupted: the same command goes on from here."), dry_run):
        raise typer.Exit(_REFUSED)


def read_format(path: Path, chosen: str | None, among: Sequence[Format] = ()) -> Format:
    """Return the format that was chosen, or that a file's name tells.

    Args:
        path: of the file.
        chosen: by the command line.
        among: what is offered where neither is known; all formats by default.

    Raises:
        StartError: neither is known.
    """
    from byodpp.transfer.formats import Format, format_of_name

    if chosen is not None and chosen not in tuple(Format):
        raise StartError([Problem("--format", f"must be one of {', '.join(among or Format)}")])
    found = format_of_name(path.name) if chosen is None else Format(chosen)
    if found is None:
        advice = f"Say it: --format {' or '.join(among or Format)}"
        raise StartError([Problem(str(path), "its name tells no known format", advice)])
    return found


def _readable(path: Path, chosen: str | None) -> Format:
    from byodpp.transfer.formats import READABLE

    format = read_format(path, chosen, READABLE)
    if format not in READABLE:
        raise StartError([Problem(str(path), f"{format} cannot be imported", f"Use {', '.join(READABLE)}.")])
    return format


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise StartError([Problem(str(path), f"cannot be read: {error.strerror}")]) from error


async def _import(who: Acting, wanted: _Wanted, file: BinaryIO) -> Outcome:
    from byodpp.transfer.offered import tells_once
    from byodpp.transfer.options import import_options
    from byodpp.transfer.orders import Asked, order_of

    if tells_once(who.resource, who.application.service.parts.logics):
        told = "what its creation tells is told once, and an import would tell it to nobody"
        raise StartError([Problem(who.resource.name, told, "Make its rows over the API.")])
    options = import_options(wanted.options, who.resource)
    who.refuse_without_right("create", *(("update",) if options.operation == "upsert" else ()))
    settings = who.application.settings
    asked = Asked(
        principal=who.principal,
        decision=who.application.authorizer.decide(who.principal, who.resource, "create"),
        origin=who.origin(),
        resource=who.resource,
        record_bytes=settings.import_record_max_bytes,
        json_depth=settings.max_json_depth,
        parts=who.application.service.parts,
    )
    hash, size = _measured(file)
    order = order_of(asked, options, wanted.format, file_hash=hash, kept=not wanted.dry_run)
    if wanted.resume:
        await _refuse_to_begin(who, order)
    with progress_bar(size, f"importing {who.resource.name}") as moved:
        outcome = await who.application.importer.run(order, file, size, moved)
    if wanted.report is not None:
        await _write_report(who, outcome, wanted.report)
    return outcome


async def _refuse_to_begin(who: Acting, order: Order) -> None:
    """Refuse an import that nobody has begun, or that has ended; tell how far the other has come.

    Raises:
        StartError: there is nothing to go on with.
    """
    from byodpp.transfer.progress import find

    async with who.application.database.transaction(who.principal.session, read_only=True) as transaction:
        found = await find(transaction, order.identity)
    if found is None or found.ended:
        state = "it was never begun" if found is None else f"it is {found.state}"
        advice = "Leave out --resume; it goes on by itself where it was interrupted."
        raise StartError([Problem("--resume", f"there is nothing to go on with: {state}", advice)])
    print_step("resumed", f"behind record {found.records}")


def _measured(file: BinaryIO) -> tuple[str, int]:
    """Return hash and size of a file."""
    digest, size = hashlib.sha256(), 0
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def _summary(outcome: Outcome, dry_run: bool) -> bool:
    """Tell what became of an import; return whether something was refused."""
    progress = outcome.progress
    if outcome.repeated:
        typer.echo("This file was imported before; --again imports it once more.")
    for one in outcome.rejects[:_SHOWN]:
        typer.echo(f"line {one.line}: {_told(one.error)}", err=True)
    if progress.rejected > _SHOWN:
        typer.echo(f"… and {progress.rejected - _SHOWN} more", err=True)
    if progress.fault is not None:
        typer.echo(f"line {progress.fault['line']}: {_told(progress.fault['error'])}", err=True)
    undone = "" if outcome.written else "; nothing was kept"
    told = f"{progress.created} created, {progress.updated} updated, {progress.rejected} refused{undone}"
    print_step("tried" if dry_run else "imported", f"{progress.records} records: {told}")
    return bool(progress.rejected or progress.fault)


def _told(error: Mapping[str, Any]) -> str:
    details = "; ".join(
        f"{one['field']}: {one['message']}".removeprefix(": ") for one in error["details"][:5]
    )
    return shown(details or str(error["message"]))


async def _write_report(who: Acting, outcome: Outcome, path: Path) -> None:
    """Write every refusal that is kept; of an import that left nothing behind, those that are shown."""
    from byodpp import wire
    from byodpp.transfer.progress import rejects

    database, context = who.application.database, who.principal.session
    found = outcome.rejects
    with path.open("wb") as file:
        if not outcome.written:
            file.writelines(wire.dumps(one.told()) + b"\n" for one in found)
            return
        after = 0
        while True:
            async with database.transaction(context, read_only=True) as transaction:
                found = await rejects(transaction, outcome.progress, after=after, most=1_000)
            if not found:
                return
            after = found[-1].record
            file.writelines(wire.dumps(one.told()) + b"\n" for one in found)
